//! The only place that writes to stdout and stderr.
//!
//! On stdout are results: one that cannot be written is an error. On stderr is all the rest, and
//! telling is less important than doing: the log, remarks and panics go through a bounded queue to
//! a thread that writes them. So a pipe that nobody reads, or a disk that is full, costs lines and
//! not a core that stands still; what is lost is counted, and told when it can be written again.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget};
use pangea_reactor::{StandardStream, was_closed};

/// Lines that wait to be written: some seconds of a log that is read slowly.
const LINES_MAX: usize = 512;
/// A longer line of the log is cut, so that those that wait are a few MiB at most.
const LINE_BYTES_MAX: usize = 8 << 10;
/// How long the main thread waits for stderr to take what is for a person.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it looks whether there is room.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Lines for stderr that nobody will see.
static LOST: AtomicU64 = AtomicU64::new(0);
/// Somebody waited for stderr in vain, and nothing was written since.
static STUCK: AtomicBool = AtomicBool::new(false);

/// What the thread that writes to stderr is given.
enum Item {
    /// A line, or more than one, with the end.
    Text(Vec<u8>),
    /// All before it is written, or lost.
    Reached(SyncSender<()>),
}

/// Stdout, for bytes that are a result. Fails if it was closed when the program began: what is
/// written would be gone.
pub fn stdout() -> io::Result<Stdout> {
    match was_closed(StandardStream::Out) {
        true => Err(io::Error::other("it is closed")),
        false => Ok(Stdout),
    }
}

/// Whether people look at stdout, and at it in colours.
pub fn stdout_has_colours() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|said| !said.is_empty());
    io::stdout().is_terminal() && !unwanted
}

/// Writes a line of the result to stdout, after all that was said on stderr before.
pub fn result(line: &str) -> io::Result<()> {
    reach();
    stdout()?.write_all(format!("{line}\n").as_bytes())
}

/// Writes a line of the result to stderr, because stdout has the object's own bytes.
pub fn result_beside(line: &str) -> io::Result<()> {
    reach();
    raw::write_all(raw::Stream::Err, format!("{line}\n").as_bytes())
}

/// Says something to a person. Waits a little if stderr does not take it, and gives it up then.
pub fn remark(line: &str) {
    let patience = if STUCK.load(Ordering::Relaxed) { Duration::ZERO } else { PATIENCE };
    hand_over(Item::Text(format!("{line}\n").into_bytes()), patience);
}

/// The same for who cannot wait: a core.
pub fn remark_at_once(line: &str) {
    hand_over(Item::Text(format!("{line}\n").into_bytes()), Duration::ZERO);
}

/// Waits until all that was said is written, or stderr takes nothing more: before the end.
pub fn finish() {
    reach();
}

/// How many lines for stderr are lost so far.
pub fn lines_lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Whether people look at stderr.
pub fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// A progress bar on stderr, which ignores what cannot be drawn; `None` if nobody would see it.
pub fn bar() -> Option<ProgressBar> {
    let draw = || ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
    stderr_is_terminal().then(draw)
}

/// Where the log is written: every write is one line of it, and none fails or waits.
pub fn log() -> Log {
    Log
}

/// See [`log`].
pub struct Log;

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut text = line.get(..LINE_BYTES_MAX).unwrap_or(line).to_vec();
        if text.len() < line.len() {
            text.extend_from_slice("…\n".as_bytes());
        }
        hand_over(Item::Text(text), Duration::ZERO);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The queue to the thread that writes; `None` where there can be no such thread.
fn queue() -> Option<&'static SyncSender<Item>> {
    static QUEUE: OnceLock<Option<SyncSender<Item>>> = OnceLock::new();
    let start = || {
        let (queue, items) = mpsc::sync_channel(LINES_MAX);
        let thread = std::thread::Builder::new().name("stderr".into()).stack_size(64 << 10);
        thread.spawn(move || write_on(&items)).ok().map(|_| queue)
    };
    QUEUE.get_or_init(start).as_ref()
}

fn hand_over(item: Item, patience: Duration) {
    let Some(queue) = queue() else {
        if let Item::Text(text) = item {
            lost_unless(raw::can_write_now() && write(&text).is_ok());
        }
        return;
    };
    let began = Instant::now();
    let mut waiting = item;
    loop {
        match queue.try_send(waiting) {
            Ok(()) => return,
            Err(TrySendError::Full(item)) if began.elapsed() < patience => {
                waiting = item;
                std::thread::sleep(LOOK_EVERY);
            }
            Err(TrySendError::Full(item) | TrySendError::Disconnected(item)) => {
                STUCK.fetch_or(!patience.is_zero(), Ordering::Relaxed);
                lost_unless(matches!(item, Item::Reached(_)));
                return;
            }
        }
    }
}

fn lost_unless(written: bool) {
    LOST.fetch_add(u64::from(!written), Ordering::Relaxed);
}

/// Waits until the thread has come so far, but not for one that does not move.
fn reach() {
    let patience = if STUCK.load(Ordering::Relaxed) { LOOK_EVERY } else { PATIENCE };
    let (reached, heard) = mpsc::sync_channel(1);
    hand_over(Item::Reached(reached), patience);
    if heard.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
        STUCK.store(true, Ordering::Relaxed);
    }
}

/// The thread's whole life, which ends with the process.
fn write_on(items: &Receiver<Item>) {
    let mut told = 0;
    loop {
        let item = match items.try_recv() {
            Err(TryRecvError::Empty) => {
                told = tell_lost(told);
                items.recv().ok()
            }
            other => other.ok(),
        };
        match item {
            Some(Item::Text(text)) => lost_unless(write(&text).is_ok()),
            // Who asked may have given up.
            Some(Item::Reached(reached)) => drop(reached.try_send(())),
            None => return,
        }
    }
}

/// Says how many lines are lost since `told` of them were known to be; gives what is known now.
fn tell_lost(told: u64) -> u64 {
    let lost = lines_lost();
    if lost == told {
        return told;
    }
    let note = format!("{} lines before this one could not be written and are lost\n", lost - told);
    match write(note.as_bytes()) {
        Ok(()) => lost,
        Err(_) => told,
    }
}

fn write(text: &[u8]) -> io::Result<()> {
    let written = raw::write_all(raw::Stream::Err, text);
    if written.is_ok() {
        STUCK.store(false, Ordering::Relaxed);
    }
    written
}

/// See [`stdout`].
pub struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        raw::write(raw::Stream::Out, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The descriptors themselves: the standard library's streams call a write to one that cannot be
/// written (opened for reading, say) a success.
#[cfg(unix)]
mod raw {
    use std::io;
    use std::os::fd::{AsFd, BorrowedFd};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::Errno;

    #[derive(Clone, Copy)]
    pub enum Stream {
        Out,
        Err,
    }

    pub fn write_all(to: Stream, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = match write(to, bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) => return Err(error),
            };
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Shells, ssh and event loops leave streams that do not block: then it waits for the reader.
    pub fn write(to: Stream, bytes: &[u8]) -> io::Result<usize> {
        on(to, |stream| {
            loop {
                match rustix::io::write(stream, bytes) {
                    Err(Errno::AGAIN) => wait(stream)?,
                    other => return Ok(other?),
                }
            }
        })
    }

    /// Whether a line can be written to stderr without waiting for its reader.
    pub fn can_write_now() -> bool {
        const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        on(Stream::Err, |stream| {
            let mut waiting = [PollFd::from_borrowed_fd(stream, PollFlags::OUT)];
            poll(&mut waiting, Some(&AT_ONCE)).is_ok_and(|ready| ready > 0)
        })
    }

    fn wait(stream: BorrowedFd<'_>) -> io::Result<()> {
        let mut waiting = [PollFd::from_borrowed_fd(stream, PollFlags::OUT)];
        match poll(&mut waiting, None) {
            Ok(_) => Ok(()),
            // The caller tries again, after it has looked whether it was to stop.
            Err(error) => Err(error.into()),
        }
    }

    fn on<T>(stream: Stream, act: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        match stream {
            Stream::Out => act(io::stdout().as_fd()),
            Stream::Err => act(io::stderr().as_fd()),
        }
    }
}

#[cfg(not(unix))]
mod raw {
    use std::io::{self, Write};

    #[derive(Clone, Copy)]
    pub enum Stream {
        Out,
        Err,
    }

    pub fn write_all(to: Stream, bytes: &[u8]) -> io::Result<()> {
        match to {
            Stream::Out => io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()),
            Stream::Err => io::stderr().write_all(bytes),
        }
    }

    pub fn write(to: Stream, bytes: &[u8]) -> io::Result<usize> {
        write_all(to, bytes).map(|()| bytes.len())
    }

    pub fn can_write_now() -> bool {
        true
    }
}
