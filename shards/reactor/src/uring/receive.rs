//! Receiving: one multishot recvmsg into a ring of buffers. The kernel takes a buffer per message;
//! we give it back after the callback. The ring grows when it ran out, and its memory goes back
//! to the system when there is no traffic.

use std::io;
use std::os::fd::RawFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{self, BufRingEntry, RecvMsgOut};
use io_uring::{IoUring, cqueue, opcode, squeue};
use pangea_base::canonical;

use super::control::{self, CONTROL_RECEIVE_BYTES};
use crate::cmsg::{NAME_BYTES, read_name};
use crate::event::{Event, Stats};

/// Bytes from one buffer to the next: the largest joined message (65,527 B of payload), the 16-byte
/// header, name and control messages; a multiple of the system's page, so that memory goes back.
const BUFFER_BYTES: usize = 65_536 + 4096;
const _: () = assert!(BUFFER_BYTES >= 16 + NAME_BYTES + CONTROL_RECEIVE_BYTES + 65_527);

/// The only buffer group of our rings.
const GROUP: u16 = 0;

pub(super) struct Receive {
    /// What the kernel reads lengths from; it stays at its address while armed.
    header: Box<libc::msghdr>,
    region: Region,
    entries: Region,
    /// Places in the ring (a power of two), at least `limit`.
    places: u16,
    tail: u16,
    start: u16,
    limit: u16,
    /// Buffers that are in the ring or with us, and how many there should be.
    current: u16,
    target: u16,
    /// Buffers that are out of use.
    spare: Vec<u16>,
    armed: Armed,
}

/// Whether the kernel holds our request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Armed {
    Yes,
    No,
}

/// What a completion was.
pub(super) enum Outcome {
    /// Datagrams went to the callback.
    Delivered,
    /// Nothing for the callback: an empty or cut-off datagram, or buffers ran out.
    Nothing,
    /// The receive failed.
    Failed(i32),
}

impl Receive {
    /// Registers a ring of buffers, `start` of them in use, up to `limit`.
    pub(super) fn new(ring: &IoUring, start: u16, limit: u16) -> io::Result<Receive> {
        let places = limit.next_power_of_two();
        let region = Region::new(usize::from(limit) * BUFFER_BYTES)?;
        let entries = Region::new(usize::from(places) * size_of::<BufRingEntry>())?;
        // SAFETY: the entries are mapped, page-aligned, large enough for `places`, and stay until
        //   the group is unregistered in `close` or leaked together with the ring.
        // CHECKED: tests/conformance, every case on the uring back end.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                entries.base.as_ptr() as u64,
                places,
                GROUP,
                0,
            )?;
        }
        // SAFETY: all fields of msghdr are numbers and pointers, for which zero is legal.
        let mut header: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        header.msg_namelen = NAME_BYTES as _;
        header.msg_controllen = CONTROL_RECEIVE_BYTES as _;
        let mut receive = Receive {
            header,
            region,
            entries,
            places,
            tail: 0,
            start,
            limit,
            current: 0,
            target: start,
            spare: (0..limit).rev().collect(),
            armed: Armed::No,
        };
        receive.fill();
        Ok(receive)
    }

    /// The request to submit if none is armed.
    pub(super) fn arm(&mut self, socket: RawFd) -> Option<squeue::Entry> {
        if self.armed == Armed::Yes {
            return None;
        }
        self.armed = Armed::Yes;
        let header: *const libc::msghdr = &*self.header;
        Some(opcode::RecvMsgMulti::new(types::Fd(socket), header, GROUP).build())
    }

    pub(super) fn armed(&self) -> Armed {
        self.armed
    }

    pub(super) fn buffers(&self) -> u64 {
        u64::from(self.current)
    }

    /// Hands a completion's datagrams to the callback and gives the buffer back.
    pub(super) fn complete(
        &mut self,
        completion: &cqueue::Entry,
        stats: &mut Stats,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Outcome {
        if !cqueue::more(completion.flags()) {
            self.armed = Armed::No;
        }
        let result = completion.result();
        if result == -libc::ENOBUFS {
            stats.receive_starved += 1;
            self.grow();
            return Outcome::Nothing;
        }
        let Some(buffer) = cqueue::buffer_select(completion.flags()) else {
            // Nothing received and no error: what a socket that was shut down says for ever.
            return Outcome::Failed(if result < 0 { -result } else { libc::ESHUTDOWN });
        };
        let outcome = match usize::try_from(result) {
            Ok(bytes) => self.deliver(buffer, bytes, stats, sink),
            Err(_) => Outcome::Failed(-result),
        };
        self.give(buffer);
        outcome
    }

    fn deliver(
        &self,
        buffer: u16,
        bytes: usize,
        stats: &mut Stats,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Outcome {
        let Ok(message) = RecvMsgOut::parse(self.filled(buffer, bytes), &self.header) else {
            stats.receive_errors += 1;
            return Outcome::Nothing;
        };
        let data = message.payload_data();
        let remote = read_name(message.name_data());
        let (Some(remote), false) = (remote, message.is_payload_truncated()) else {
            stats.receive_errors += 1;
            return Outcome::Nothing;
        };
        if data.is_empty() {
            return Outcome::Nothing;
        }
        let about = control::read(message.control_data());
        stats.received += 1;
        stats.received_bytes += data.len() as u64;
        sink(Event::Datagrams {
            remote: canonical(remote),
            local_ip: about.local_ip,
            ecn: about.ecn,
            stride: about.stride.unwrap_or(data.len()).clamp(1, data.len()),
            data,
        });
        Outcome::Delivered
    }

    fn filled(&self, buffer: u16, bytes: usize) -> &[u8] {
        assert!(buffer < self.limit && bytes <= BUFFER_BYTES, "the kernel names our own buffers");
        // SAFETY: inside the region; the kernel has taken this buffer out of the ring and filled
        //   it, and does not touch it until `give`. Mapped memory is always initialised.
        // CHECKED: tests/conformance datagram cases.
        unsafe {
            let at = self.region.base.add(usize::from(buffer) * BUFFER_BYTES);
            std::slice::from_raw_parts(at.as_ptr(), bytes)
        }
    }

    /// A buffer came back: into the ring again, or out of use if there are too many.
    fn give(&mut self, buffer: u16) {
        if self.current > self.target {
            self.current -= 1;
            self.spare.push(buffer);
            return;
        }
        self.push(buffer);
        self.publish();
    }

    /// Doubles the buffers, up to the limit.
    fn grow(&mut self) {
        self.target = self.target.saturating_mul(2).min(self.limit);
        self.fill();
    }

    fn fill(&mut self) {
        while self.current < self.target {
            let Some(buffer) = self.spare.pop() else { break };
            self.push(buffer);
            self.current += 1;
        }
        self.publish();
    }

    fn push(&mut self, buffer: u16) {
        let place = usize::from(self.tail & (self.places - 1));
        let at = self.region.base.as_ptr().wrapping_add(usize::from(buffer) * BUFFER_BYTES);
        // SAFETY: `place` lies within the mapped entries. The kernel reads an entry only once the
        //   tail passed it, and there are never more buffers in the ring than places, so this one
        //   was consumed before.
        // CHECKED: tests/conformance more_datagrams_than_buffers.
        let entry = unsafe { &mut *self.entries.base.as_ptr().cast::<BufRingEntry>().add(place) };
        entry.set_addr(at as u64);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        let base = self.entries.base.as_ptr().cast::<BufRingEntry>().cast_const();
        // SAFETY: the tail lies within the first entry, is 16 bits wide and aligned, and is only
        //   accessed atomically by the kernel and here.
        // CHECKED: as above.
        unsafe {
            let tail = BufRingEntry::tail(base).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }

    /// Gives the memory of all buffers back and shrinks to the start size. Only when every
    /// completion was taken: with deferred task work the kernel fills buffers while we are in it
    /// and at no other time, so what lies in them now is of no more use.
    pub(super) fn trim(&mut self) {
        self.target = self.start;
        self.region.give_back();
    }

    /// Takes the group from the kernel. Nothing is armed any more.
    pub(super) fn close(&mut self, ring: &IoUring) {
        let _ = ring.submitter().unregister_buf_ring(GROUP);
    }

    /// The kernel would not let go: it keeps the memory, for ever.
    pub(super) fn leak(self) {
        std::mem::forget(self);
    }
}

/// Anonymous memory that takes nothing until touched.
pub(super) struct Region {
    base: NonNull<u8>,
    bytes: usize,
}

impl Region {
    pub(super) fn new(bytes: usize) -> io::Result<Region> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        // CHECKED: tests/conformance, every case on the uring back end.
        let base = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast::<u8>()).expect("a mapping is not at address 0");
        // WHY: a huge page would take 2 MiB for one small datagram.
        // SAFETY: our own mapping, and advice only.
        unsafe { libc::madvise(base.as_ptr().cast(), bytes, libc::MADV_NOHUGEPAGE) };
        Ok(Region { base, bytes })
    }

    /// The whole of it, for the kernel.
    pub(super) fn part(&self) -> libc::iovec {
        libc::iovec { iov_base: self.base.as_ptr().cast(), iov_len: self.bytes }
    }

    fn give_back(&mut self) {
        // SAFETY: our own mapping; its content is of no use any more (see `Receive::trim`), and
        //   private anonymous memory reads as zeros afterwards.
        // CHECKED: tests/conformance memory cases.
        unsafe { libc::madvise(self.base.as_ptr().cast(), self.bytes, libc::MADV_DONTNEED) };
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length; the kernel has let go of it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}
