//! The few Linux calls that the standard library lacks, each behind a safe function.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use crate::cmsg::NAME_BYTES;

/// Joined receives (linux/udp.h): the socket option, and the control message with the stride.
#[cfg(feature = "uring")]
pub(crate) const UDP_GRO: i32 = 104;

/// Sets an integer socket option.
pub(crate) fn set_option(
    socket: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: i32,
) -> io::Result<()> {
    let bytes = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the descriptor is open while borrowed; the value is a live i32 of the length given.
    // CHECKED: every datagram case of tests/conformance.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), bytes)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Attaches the reuseport filter that picks the socket by a connection ID's first byte: of a long
/// header byte 6, of a short header byte 1; modulo `cores`. A datagram too short goes to core 0.
pub(crate) fn attach_steering(socket: BorrowedFd<'_>, cores: u16) -> io::Result<()> {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let byte_at = |k| step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, k);
    let mut program = [
        byte_at(0),
        step(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0, 2, 0x80),
        byte_at(6),
        step(libc::BPF_JMP | libc::BPF_JA, 0, 0, 1),
        byte_at(1),
        step(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, 0, 0, u32::from(cores)),
        step(libc::BPF_RET | 0x10, 0, 0, 0), // BPF_A: return the accumulator
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let bytes = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: the kernel copies the program, which lives to the end of this call.
    // CHECKED: tests/conformance steering cases.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const filter).cast(),
            bytes,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Control messages beside a message of the error queue: the error with the address of who sent it (60
/// bytes), and what else the socket's options ask for. Aligned as their headers are.
#[repr(C, align(8))]
struct ErrorControl([u8; 256]);

/// Where a message of the error queue is written.
pub(crate) struct ErrorRoom {
    name: [u8; NAME_BYTES],
    control: ErrorControl,
}

impl ErrorRoom {
    pub(crate) fn new() -> ErrorRoom {
        ErrorRoom { name: [0; NAME_BYTES], control: ErrorControl([0; 256]) }
    }
}

/// The next message of a socket's error queue (ip(7), IP_RECVERR): whom the datagram was for, and the
/// control messages. `None`: no more. Never waits.
pub(crate) fn take_error<'a>(
    socket: BorrowedFd<'_>,
    room: &'a mut ErrorRoom,
) -> Option<(&'a [u8], &'a [u8])> {
    // SAFETY: all fields of msghdr are numbers and pointers, for which zero is legal.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = room.name.as_mut_ptr().cast();
    header.msg_namelen = NAME_BYTES as libc::socklen_t;
    header.msg_control = room.control.0.as_mut_ptr().cast();
    header.msg_controllen = room.control.0.len() as _;
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: name and control block are ours, as long as the header says, and outlive the call; none
    //   of the datagram's bytes are wanted, so there is no other buffer.
    // CHECKED: tests/conformance unreachable cases.
    let result = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    let name_bytes = usize::try_from(header.msg_namelen).ok()?;
    let control_bytes = usize::try_from(header.msg_controllen).ok()?;
    (result >= 0).then_some(())?;
    Some((room.name.get(..name_bytes)?, room.control.0.get(..control_bytes)?))
}

/// What fallocate is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    /// Reserve the range, extending the file.
    Reserve,
    /// Give the range back, keeping the length.
    Punch,
}

/// fallocate(2).
pub(crate) fn fallocate(file: &File, space: Space, offset: u64, length: u64) -> io::Result<()> {
    let mode = match space {
        Space::Reserve => 0,
        Space::Punch => libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
    };
    let invalid = |_| io::Error::from_raw_os_error(libc::EFBIG);
    let offset = libc::off64_t::try_from(offset).map_err(invalid)?;
    let length = libc::off64_t::try_from(length).map_err(invalid)?;
    loop {
        // SAFETY: an open descriptor and plain numbers.
        // CHECKED: tests/conformance punched_and_reserved_space.
        let result = unsafe { libc::fallocate64(file.as_raw_fd(), mode, offset, length) };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Whether a file may not grow to this length (`ulimit -f`). Around the page cache a write across
/// the limit is cut to it, and then refused as one that is not aligned.
pub(crate) fn is_over_file_limit(length: u64) -> bool {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is a live value of the type that is filled in.
    // CHECKED: files::blocking tests.
    let result = unsafe { libc::getrlimit64(libc::RLIMIT_FSIZE, &raw mut limit) };
    result == 0 && length > limit.rlim_cur
}

/// The alignments in bytes that O_DIRECT on this file asks for (memory, offset): `None` where the
/// kernel does not say, zeros where it says that there is no direct I/O.
pub(crate) fn direct_alignment(file: &File) -> Option<(u32, u32)> {
    let mut facts = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: an open descriptor with an empty path (AT_EMPTY_PATH), and room for the result.
    // CHECKED: files::blocking tests.
    let result = unsafe {
        libc::statx(
            file.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            facts.as_mut_ptr(),
        )
    };
    if result != 0 {
        return None;
    }
    // SAFETY: zeroed before, and every field is a plain number.
    let facts = unsafe { facts.assume_init() };
    (facts.stx_mask & libc::STATX_DIOALIGN != 0)
        .then_some((facts.stx_dio_mem_align, facts.stx_dio_offset_align))
}

/// Gives whole system pages inside this spare memory back to the system. Their content becomes
/// zeros or stays: the memory must hold nothing of value.
pub(crate) fn give_back(spare: &mut [std::mem::MaybeUninit<u8>]) {
    const SYSTEM_PAGE: usize = 4096;
    let skip = spare.as_ptr().align_offset(SYSTEM_PAGE);
    let Some(inner) = spare.get_mut(skip..) else { return };
    // On systems with larger pages the call fails and nothing is given back.
    let bytes = inner.len() / SYSTEM_PAGE * SYSTEM_PAGE;
    if bytes == 0 {
        return;
    }
    // WHY: an idle node has to be small also after load.
    // SAFETY: the range lies inside memory that we hold exclusively and that may hold anything;
    //   private anonymous memory reads as zeros afterwards.
    // CHECKED: memory::tests, tests/conformance memory cases.
    unsafe { libc::madvise(inner.as_mut_ptr().cast(), bytes, libc::MADV_DONTNEED) };
}
