//! The driver on one raw io_uring ring: multishot receives, sends in slots, files around the page
//! cache, an eventfd as doorbell. Waiting adapts to the traffic.

mod control;
mod files;
mod probe;
mod receive;
mod send;
mod system;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use pangea_base::file::{FileId, FileRequest};
use pangea_base::{PagePool, Wake};
use pangea_trace::Tracer;

use crate::bell::Bell;
use crate::driver::DriverConfig;
use crate::errors::{Errors, Taken};
use crate::event::{Caps, Event, Park, Stats, Transmit};
use crate::files::{Desk, FILES_IN_FLIGHT_MAX, Work};
use crate::memory::{Quiet, SendBuffers};
use crate::portion::{Portion, ROUNDS_MAX};
use crate::socket::{CoreSocket, Family, Receives};
use files::{Kind, RingFiles};
pub(crate) use probe::available;
use receive::{Armed, Outcome, Receive};
use send::SendSlots;
use system::{EventFd, prepare};

/// Threads for the file operations that the ring does not do, per driver; started when needed.
const FILE_THREADS_MAX: usize = 1;

/// Most kernel threads of the ring for file operations that block (fsync, the page cache).
const KERNEL_THREADS_MAX: u32 = 4;

/// Events of one wait from which on the next one waits for a batch.
const BATCH_LARGE: usize = 8;
/// And of what is sent in between, at most one for so many of them: acknowledgements.
const ANSWERS_FEW: usize = 4;
/// Completions that end such a wait at once.
const BATCH_WANTED: usize = 32;
/// How long it gathers once there is one, in microseconds: measured best among 20, 50 and 100.
const BATCH_WAIT_US: u32 = 50;

/// Queued bytes that are sent without waiting for the end of the turn: a full train, that the
/// receiver can work on while we make the next, in the same still warm buffer.
const SUBMIT_BYTES: usize = 32 << 10;

/// Longest wait while sends are counted upon to complete: if one is stuck behind a full device
/// queue, a received datagram waits for no longer than this.
const SENDS_WAIT: Duration = Duration::from_millis(5);

/// Longest wait without a deadline; the kernel wants a number.
const FOREVER: Duration = Duration::from_secs(3600);

/// Failed receives in a row after which the socket counts as broken.
const ERRORS_IN_A_ROW_MAX: u32 = 64;

/// How long closing waits for the kernel to end what is in flight before it gives the memory up.
const CLOSE_WAIT: Duration = Duration::from_secs(10);

/// Most bytes of one UDP message over IPv4: 65,535 less the IP and UDP headers.
const SEND_BYTES_MAX: usize = 65_507;

// The upper half of a completion's mark says what it is, the lower which.
const KIND: u64 = !0xffff_ffff;
const RECEIVE: u64 = 1 << 32;
const BELL: u64 = 2 << 32;
const SEND: u64 = 3 << 32;
const FILE: u64 = 4 << 32;
const CANCEL: u64 = 5 << 32;

pub(crate) struct Uring {
    // First, so that it is closed before anything the kernel might still know of.
    ring: IoUring,
    receive: Option<Receive>,
    slots: Option<SendSlots>,
    files: Option<RingFiles>,
    bell_value: Option<Box<u64>>,
    bell_armed: Armed,
    bell: Arc<Bell<EventFd>>,
    socket: UdpSocket,
    errors: Errors,
    buffers: SendBuffers,
    desk: Desk,
    spin: Duration,
    stats: Stats,
    batch_wait: bool,
    /// Sends queued since the kernel was last entered, and their bytes.
    sends_new: usize,
    sends_new_bytes: usize,
    /// Completions that were met when only sends were looked for; at most one of each that is in
    /// flight.
    put_off: VecDeque<cqueue::Entry>,
    batch_last: usize,
    /// Messages that were sent since the last wait.
    sends_since: usize,
    errors_in_a_row: u32,
    broken: Option<io::Error>,
    quiet: Quiet,
}

/// What may fail to be had, and what is known of it.
struct Parts {
    ring: IoUring,
    receive: Option<Receive>,
    bell: EventFd,
    family: Family,
    socket: UdpSocket,
    errors: Errors,
}

/// How the kernel is entered.
#[derive(Clone, Copy)]
enum Enter {
    /// Submit, return.
    Submit,
    /// Submit, run what is due, return.
    Now,
    /// Submit and wait for something, at most so long.
    Wait(Duration),
}

impl Uring {
    /// On failure the socket comes back, for the other back end.
    pub(crate) fn open(
        config: &DriverConfig,
        core: CoreSocket,
    ) -> Result<Uring, (String, CoreSocket)> {
        match Uring::make(config, &core) {
            Ok(parts) => Ok(Uring::assemble(config, parts)),
            Err(error) => Err((error.to_string(), core)),
        }
    }

    fn make(config: &DriverConfig, core: &CoreSocket) -> io::Result<Parts> {
        let socket = core.socket.try_clone()?;
        let family = Family::of(&socket)?;
        prepare(&socket, family)?;
        let errors = Errors::new(config.unreached, &socket, family)?;
        // One place for everything that can be in flight at once: neither queue ever overflows.
        let places = u32::from(config.send_slots) + FILES_IN_FLIGHT_MAX as u32 + 8;
        let completions = places + u32::from(config.receive_buffers_max);
        let ring = probe::build(places.next_power_of_two(), completions.next_power_of_two())?;
        let _ = ring.submitter().register_iowq_max_workers(&mut [KERNEL_THREADS_MAX; 2]);
        let receive = match core.receives {
            Receives::Yes => {
                Some(Receive::new(&ring, config.receive_buffers, config.receive_buffers_max)?)
            }
            Receives::No => None,
        };
        Ok(Parts { ring, receive, bell: EventFd::new()?, family, socket, errors })
    }

    fn assemble(config: &DriverConfig, parts: Parts) -> Uring {
        let Parts { ring, receive, bell, family, socket, errors } = parts;
        let bell = Arc::new(Bell::new(bell));
        let desk = Desk::new(config.data_dir.clone(), FILE_THREADS_MAX, bell.clone());
        let receive_buffers = receive.as_ref().map_or(0, Receive::buffers);
        Uring {
            batch_wait: ring.params().is_feature_min_timeout(),
            ring,
            receive,
            slots: Some(SendSlots::new(family, config.send_slots)),
            files: Some(RingFiles::new()),
            bell_value: Some(Box::new(0)),
            bell_armed: Armed::No,
            bell,
            socket,
            errors,
            buffers: SendBuffers::new(usize::from(config.send_slots)),
            desk,
            spin: config.spin,
            stats: Stats { receive_buffers, ..Stats::default() },
            sends_new: 0,
            sends_new_bytes: 0,
            put_off: VecDeque::new(),
            batch_last: 0,
            sends_since: 0,
            errors_in_a_row: 0,
            broken: None,
            quiet: Quiet::new(),
        }
    }

    pub(crate) fn caps(&self) -> Caps {
        Caps {
            max_gso_segments: self.slots.as_ref().map_or(1, SendSlots::segments_max),
            send_bytes_max: SEND_BYTES_MAX,
            gro: true,
            direct_io: self.desk.direct_io(),
            registered: self.files.as_ref().is_some_and(RingFiles::registered),
            batch_wait: self.batch_wait,
        }
    }

    pub(crate) fn register(&mut self, pool: &PagePool) {
        if let Some(files) = &mut self.files {
            files.register(&self.ring, pool);
        }
    }

    pub(crate) fn buffer(&mut self) -> Option<Vec<u8>> {
        self.buffers.take()
    }

    pub(crate) fn recycle(&mut self, buffer: Vec<u8>) {
        self.buffers.give(buffer);
    }

    pub(crate) fn send(&mut self, transmit: Transmit, contents: Vec<u8>) {
        self.quiet.touched();
        let socket = self.socket.as_raw_fd();
        let Some(slots) = &mut self.slots else { return };
        let (bytes, to) = (contents.len(), transmit.dst);
        match slots.start(transmit, contents, socket) {
            Ok((index, request)) => {
                self.sends_new += 1;
                self.sends_since += 1;
                self.sends_new_bytes += bytes;
                self.push(request, SEND | u64::from(index));
                if self.sends_new_bytes >= SUBMIT_BYTES {
                    self.flush();
                }
            }
            Err(contents) => {
                self.stats.send_errors += 1;
                self.errors.no_family(to);
                self.buffers.give(contents);
            }
        }
    }

    /// Submits the queued sends, and takes back the buffers of those that ended with that: nearly all.
    pub(crate) fn flush(&mut self) {
        if self.sends_new == 0 {
            return;
        }
        if let Err(error) = self.enter(Enter::Submit) {
            self.broken = Some(error);
        }
        while let Some(completion) = self.completion_of_ring() {
            match completion.user_data() & KIND {
                SEND => self.complete_send(completion.user_data() as u32, completion.result()),
                _ => self.put_off.push_back(completion),
            }
        }
    }

    pub(crate) fn trace(&mut self, tracer: Tracer) {
        if let Some(slots) = &mut self.slots {
            slots.trace(tracer);
        }
    }

    pub(crate) fn adopt(&mut self, file: File) -> FileId {
        self.desk.adopt(file)
    }

    #[allow(clippy::result_large_err)]
    pub(crate) fn submit(&mut self, request: FileRequest) -> Result<(), FileRequest> {
        let Some(job) = self.desk.accept(request)? else { return Ok(()) };
        let Some(files) = &mut self.files else { return Ok(()) };
        let (index, request) = match job.work {
            Work::Read { file, offset, length } => {
                files.start(job.token, Kind::Read, file, (offset, length), job.page)
            }
            Work::Write { file, offset, length } => {
                files.start(job.token, Kind::Write, file, (offset, length), job.page)
            }
            Work::Sync { file } => files.start(job.token, Kind::Sync, file, (0, 0), job.page),
            _ => {
                self.desk.dispatch(job);
                return Ok(());
            }
        };
        self.push(request, FILE | u64::from(index));
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn socket_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }

    pub(crate) fn waker(&self) -> Arc<dyn Wake> {
        self.bell.clone()
    }

    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    pub(crate) fn poll(
        &mut self,
        deadline: Option<Instant>,
        park: Park,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> io::Result<()> {
        let count = self.take(park, sink)?;
        if count > 0 || park == Park::Never {
            self.batch_last = count;
            return Ok(());
        }
        if self.spin > Duration::ZERO && self.spin_until(deadline, sink)? > 0 {
            return Ok(());
        }
        loop {
            let now = Instant::now();
            let until = match (deadline, self.quiet.check_at(now, self.stats.received)) {
                (Some(deadline), Some(trim)) => deadline.min(trim),
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => now + FOREVER,
            };
            self.enter(Enter::Wait(until.saturating_duration_since(now)))?;
            self.batch_last = self.take(park, sink)?;
            if self.batch_last > 0 {
                return Ok(());
            }
            let now = Instant::now();
            self.trim_if_quiet(now);
            if deadline.is_some_and(|deadline| now >= deadline) {
                return Ok(());
            }
        }
    }

    fn spin_until(
        &mut self,
        deadline: Option<Instant>,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> io::Result<usize> {
        let mut end = Instant::now() + self.spin;
        if let Some(deadline) = deadline {
            end = end.min(deadline);
        }
        while Instant::now() < end {
            let count = self.take(Park::Never, sink)?;
            if count > 0 {
                return Ok(count);
            }
            std::hint::spin_loop();
        }
        Ok(0)
    }

    /// Hands out what is there, and what came while that was handled, up to a portion; returns how
    /// many events that were. If there is nothing and the caller would wait, the kernel is not asked:
    /// the wait does that.
    fn take(&mut self, park: Park, sink: &mut dyn FnMut(Event<'_>)) -> io::Result<usize> {
        let portion = Portion::begin(self.stats.received_bytes);
        let mut count = self.drain(&portion, sink)?;
        self.arm();
        for _ in 0..ROUNDS_MAX {
            let goes_on = count > 0 || park == Park::Never;
            if !goes_on || !self.kernel_has_work() || portion.is_full(self.stats.received_bytes) {
                break;
            }
            self.enter(Enter::Now)?;
            count += self.drain(&portion, sink)?;
            self.arm();
        }
        Ok(count)
    }

    /// Hands out completions until there are none or the portion is full; returns how many events
    /// that were.
    fn drain(&mut self, portion: &Portion, sink: &mut dyn FnMut(Event<'_>)) -> io::Result<usize> {
        let mut count = 0;
        while let Some(completion) = self.next_completion() {
            let events = self.complete(&completion, sink);
            count += events;
            if events > 0 && portion.is_full(self.stats.received_bytes) {
                break;
            }
        }
        while let Some(done) = self.desk.next_done(&mut self.stats) {
            sink(Event::File(done));
            count += 1;
        }
        count += self.errors.hand_out(sink);
        if self.buffers.ready_again() {
            sink(Event::SendReady);
            count += 1;
        }
        self.broken.take().map_or(Ok(count), Err)
    }

    fn next_completion(&mut self) -> Option<cqueue::Entry> {
        self.put_off.pop_front().or_else(|| self.completion_of_ring())
    }

    fn completion_of_ring(&mut self) -> Option<cqueue::Entry> {
        self.ring.completion().next()
    }

    fn complete(&mut self, completion: &cqueue::Entry, sink: &mut dyn FnMut(Event<'_>)) -> usize {
        let mark = completion.user_data();
        match mark & KIND {
            RECEIVE => self.complete_receive(completion, sink),
            BELL => {
                self.bell_armed = Armed::No;
                if !self.bell.heard() {
                    return 0;
                }
                self.stats.wakes += 1;
                sink(Event::Woken);
                1
            }
            SEND => {
                self.complete_send(mark as u32, completion.result());
                0
            }
            FILE => self.complete_file(mark as u32, completion.result(), sink),
            _ => 0,
        }
    }

    fn complete_receive(
        &mut self,
        completion: &cqueue::Entry,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> usize {
        let Some(receive) = &mut self.receive else { return 0 };
        let outcome = receive.complete(completion, &mut self.stats, sink);
        self.stats.receive_buffers = receive.buffers();
        match outcome {
            Outcome::Delivered => {
                self.quiet.touched();
                self.errors_in_a_row = 0;
                1
            }
            Outcome::Nothing => 0,
            Outcome::Failed(errno) => {
                self.stats.receive_errors += 1;
                let taken = self.errors.take(self.socket.as_fd());
                if taken == Taken::Some || self.errors.is_about_another(errno) {
                    return 0;
                }
                self.errors_in_a_row += 1;
                if self.errors_in_a_row > ERRORS_IN_A_ROW_MAX {
                    self.broken = Some(io::Error::from_raw_os_error(errno));
                }
                0
            }
        }
    }

    fn complete_send(&mut self, index: u32, result: i32) {
        let socket = self.socket.as_raw_fd();
        let Some(slots) = &mut self.slots else { return };
        let taken = match result {
            0.. => Taken::None,
            _ => self.errors.take(self.socket.as_fd()),
        };
        let told = (&mut self.errors, taken);
        match slots.complete(index, result, socket, &mut self.stats, told) {
            send::Next::Done(buffer) => self.buffers.give(buffer),
            send::Next::Submit(request) => {
                self.sends_new += 1;
                self.push(request, SEND | u64::from(index));
            }
        }
    }

    fn complete_file(&mut self, index: u32, result: i32, sink: &mut dyn FnMut(Event<'_>)) -> usize {
        let Some(files) = &mut self.files else { return 0 };
        match files.complete(index, result) {
            files::Next::Done(done) => {
                let done = self.desk.hand_back(done, &mut self.stats);
                sink(Event::File(done));
                1
            }
            files::Next::Submit(request) => {
                self.push(request, FILE | u64::from(index));
                0
            }
        }
    }

    /// Submits what always has to be in flight: one receive, one read of the bell.
    fn arm(&mut self) {
        let socket = self.socket.as_raw_fd();
        if let Some(request) = self.receive.as_mut().and_then(|receive| receive.arm(socket)) {
            self.push(request, RECEIVE);
        }
        if self.bell_armed == Armed::No
            && let Some(value) = &mut self.bell_value
        {
            self.bell_armed = Armed::Yes;
            let bell = types::Fd(self.bell.strike.raw());
            let into: *mut u64 = &raw mut **value;
            self.push(opcode::Read::new(bell, into.cast(), 8).build(), BELL);
        }
    }

    fn push(&mut self, request: squeue::Entry, mark: u64) {
        let request = request.user_data(mark);
        // SAFETY: what a request points to lives in its slot, flight, receive or bell value until
        //   its completion came; `drop` sees to that or leaks it.
        // CHECKED: tests/conformance, every case on the uring back end.
        let pushed = unsafe { self.ring.submission().push(&request) };
        pushed.expect("there is a place for everything that can be in flight");
    }

    /// Whether entering the kernel would do anything, found out without entering it.
    fn kernel_has_work(&mut self) -> bool {
        let queue = self.ring.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    fn enter(&mut self, how: Enter) -> io::Result<()> {
        self.stats.entries += 1;
        let sends_new = std::mem::take(&mut self.sends_new);
        self.sends_new_bytes = 0;
        let result = match how {
            Enter::Submit => self.ring.submitter().submit(),
            Enter::Now => {
                let requests = self.ring.submission().len() as u32;
                const GETEVENTS: u32 = 1;
                // SAFETY: no argument beyond numbers.
                // CHECKED: tests/conformance, every case on the uring back end.
                unsafe {
                    self.ring.submitter().enter::<libc::sigset_t>(requests, 0, GETEVENTS, None)
                }
            }
            Enter::Wait(longest) => self.wait(longest, sends_new),
        };
        match result {
            Ok(_) => Ok(()),
            // Time was up, a signal came, or completions have to be taken first.
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    fn wait(&mut self, longest: Duration, sends_new: usize) -> io::Result<usize> {
        // Sends to a socket complete while they are submitted: without counting them the wait
        // would end at once and cost a second call. Only if none was in flight before: one that
        // is stuck must not hold up what is received.
        let in_flight = self.slots.as_ref().map_or(0, SendSlots::in_flight);
        let sends = if in_flight == sends_new { sends_new } else { 0 };
        let mut longest = longest.min(FOREVER);
        // Who answers most of what comes is waited for: then nothing more comes meanwhile.
        let answers = std::mem::take(&mut self.sends_since) * ANSWERS_FEW > self.batch_last;
        let gather = self.batch_wait && self.batch_last >= BATCH_LARGE && !answers;
        if sends > 0 && !gather {
            longest = longest.min(SENDS_WAIT);
        }
        let time = types::Timespec::from(longest);
        let args = types::SubmitArgs::new().timespec(&time);
        if gather {
            let args = args.min_wait_usec(BATCH_WAIT_US);
            return self.ring.submitter().submit_with_args(sends + BATCH_WANTED, &args);
        }
        self.ring.submitter().submit_with_args(sends + 1, &args)
    }

    /// Called with no completion left in the queue.
    fn trim_if_quiet(&mut self, now: Instant) {
        if self.quiet.is_quiet(now, self.stats.received) {
            if let Some(receive) = &mut self.receive {
                receive.trim();
            }
            self.buffers.trim();
            self.stats.trims += 1;
        }
    }

    fn in_flight(&self) -> usize {
        let receive = self.receive.as_ref().map_or(Armed::No, Receive::armed);
        usize::from(receive == Armed::Yes)
            + usize::from(self.bell_armed == Armed::Yes)
            + self.slots.as_ref().map_or(0, SendSlots::in_flight)
            + self.files.as_ref().map_or(0, RingFiles::in_flight)
    }

    /// Cancels everything and waits until the kernel has let go; false if it would not.
    fn close(&mut self) -> bool {
        let give_up = Instant::now() + CLOSE_WAIT;
        let cancel = types::CancelBuilder::any();
        // What is queued and never submitted has no completion: submit it, to have one.
        if self.enter(Enter::Now).is_err() {
            return false;
        }
        self.push(opcode::AsyncCancel2::new(cancel).build(), CANCEL);
        while self.in_flight() > 0 {
            if Instant::now() >= give_up || self.enter(Enter::Wait(SENDS_WAIT)).is_err() {
                return false;
            }
            // Parts of a cut-up write or train are submitted again; they end by themselves.
            while let Some(completion) = self.next_completion() {
                self.complete(&completion, &mut |_| {});
            }
        }
        true
    }
}

impl Drop for Uring {
    /// Everything is cancelled and waited for, so that the memory can go and the port is free.
    fn drop(&mut self) {
        if self.close() {
            if let Some(receive) = &mut self.receive {
                receive.close(&self.ring);
            }
            return;
        }
        // Better to lose memory than to let the kernel write into what has a new owner.
        if let Some(receive) = self.receive.take() {
            receive.leak();
        }
        if let Some(slots) = self.slots.take() {
            slots.leak();
        }
        if let Some(files) = self.files.take() {
            files.leak();
        }
        std::mem::forget(self.bell_value.take());
    }
}
