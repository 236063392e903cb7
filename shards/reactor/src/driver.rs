//! The one type that a core uses, whichever back end is inside.

use std::io;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pangea_base::file::{FileId, FileRequest};
use pangea_base::{PagePool, Wake};
use pangea_trace::Tracer;

use crate::event::{Caps, Event, Park, Stats, Transmit};
use crate::mio::Mio;
use crate::socket::CoreSocket;
#[cfg(all(target_os = "linux", feature = "uring"))]
use crate::uring::Uring;

/// Which back end runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DriverKind {
    /// io_uring.
    Uring,
    /// Readiness (epoll, kqueue, IOCP) with blocking threads for files.
    Mio,
}

/// Which back end is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DriverChoice {
    /// io_uring if it works here, else mio.
    Auto,
    /// io_uring, or `open` fails.
    Uring,
    /// mio.
    Mio,
}

/// Whether the driver tells of addresses to which nothing gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unreached {
    /// [`Event::Unreachable`]: for who dials. On Linux the system is also asked for what others' hosts
    /// answer (ICMP).
    Told,
    /// For who is called only: strangers' words about a port that all know would cost something and
    /// be good for nothing.
    Ignored,
}

/// How a driver is opened.
#[derive(Clone, Debug)]
pub struct DriverConfig {
    /// The back end.
    pub choice: DriverChoice,
    /// Receive buffers of 64 KiB at the start, at least 2: the kernel takes the next one before it
    /// knows that there is a message for it. They take memory when first filled.
    pub receive_buffers: u16,
    /// How far they may grow when they run out; at most [`DriverConfig::RECEIVE_BUFFERS_MAX`].
    /// The growth, and the memory, is given back when traffic ends.
    pub receive_buffers_max: u16,
    /// Messages that can be in flight to the system, at least 1; at most
    /// [`DriverConfig::SEND_SLOTS_MAX`]. Each takes up to 64 KiB.
    pub send_slots: u16,
    /// How long to spin before blocking; 0 never spins, and is right unless the core is ours alone.
    pub spin: Duration,
    /// Whether addresses to which nothing gets are told.
    pub unreached: Unreached,
    /// Where file names begin. Without it every operation on a name fails.
    pub data_dir: Option<PathBuf>,
}

impl DriverConfig {
    /// Most receive buffers: 4096 of 64 KiB reserve 272 MiB of address space.
    pub const RECEIVE_BUFFERS_MAX: u16 = 4096;
    /// Most send slots.
    pub const SEND_SLOTS_MAX: u16 = 1024;
}

/// Why a driver could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenFailed {
    /// io_uring was asked for and does not work here.
    #[error("io_uring does not work here: {0}. Use --driver auto or --driver mio")]
    NoUring(String),
    /// The socket refused an option or the poller refused the socket.
    #[error("the UDP socket cannot be driven: {0}")]
    Socket(io::Error),
}

/// Whether io_uring works here, found out by using it (a ring, its operations, one datagram
/// received); else the reason in words.
pub fn uring_available() -> Result<(), String> {
    #[cfg(all(target_os = "linux", feature = "uring"))]
    return crate::uring::available();
    #[cfg(not(all(target_os = "linux", feature = "uring")))]
    return Err(WITHOUT_URING.to_string());
}

#[cfg(not(all(target_os = "linux", feature = "uring")))]
const WITHOUT_URING: &str = if cfg!(target_os = "linux") {
    "this program was built without the feature 'uring'"
} else {
    "only Linux has it"
};

/// UDP and files for one thread. Made, used and dropped on the same thread.
pub struct Driver {
    back: Back,
    why: String,
    // The ring accepts one thread only; the same rule for both back ends keeps them exchangeable.
    same_thread: PhantomData<*const ()>,
}

enum Back {
    #[cfg(all(target_os = "linux", feature = "uring"))]
    Uring(Box<Uring>),
    Mio(Box<Mio>),
}

macro_rules! back {
    ($driver:expr, $back:ident => $call:expr) => {
        match $driver {
            #[cfg(all(target_os = "linux", feature = "uring"))]
            Back::Uring($back) => $call,
            Back::Mio($back) => $call,
        }
    };
}

impl Driver {
    /// Puts a driver around a core's socket, on the thread that will use it. The sockets of one
    /// `bind` are to get the same kind: with `Steer::Mesh` they share what makes one blocking.
    pub fn open(config: &DriverConfig, socket: CoreSocket) -> Result<Driver, OpenFailed> {
        assert!(config.receive_buffers >= 2 && config.send_slots >= 1, "a driver needs buffers");
        assert!(config.receive_buffers <= config.receive_buffers_max, "the start is in the limit");
        assert!(config.receive_buffers_max <= DriverConfig::RECEIVE_BUFFERS_MAX);
        assert!(config.send_slots <= DriverConfig::SEND_SLOTS_MAX);
        match config.choice {
            DriverChoice::Auto => open_auto(config, socket),
            DriverChoice::Uring => match open_uring(config, socket) {
                Ok(back) => Ok(Driver::around(back, "io_uring works here".to_string())),
                Err((reason, _)) => Err(OpenFailed::NoUring(reason)),
            },
            DriverChoice::Mio => open_mio(config, socket, "asked for".to_string()),
        }
    }

    fn around(back: Back, why: String) -> Driver {
        Driver { back, why, same_thread: PhantomData }
    }

    /// Which back end runs.
    pub fn kind(&self) -> DriverKind {
        match self.back {
            #[cfg(all(target_os = "linux", feature = "uring"))]
            Back::Uring(_) => DriverKind::Uring,
            Back::Mio(_) => DriverKind::Mio,
        }
    }

    /// Why this back end, in words for a person.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// What it can do. May change: segmentation offload is given up when a device refuses it.
    pub fn caps(&self) -> Caps {
        back!(&self.back, back => back.caps())
    }

    /// Registers a pool's memory with the kernel, if it allows (memlock): file operations with
    /// its pages then cost less. `caps().registered` tells. All memory of a registered pool is
    /// taken at once and stays, so leave it out where memory is scarce. mio has no such thing.
    pub fn register(&mut self, pool: &PagePool) {
        match &mut self.back {
            #[cfg(all(target_os = "linux", feature = "uring"))]
            Back::Uring(uring) => uring.register(pool),
            Back::Mio(_) => {
                let _ = pool;
            }
        }
    }

    /// An empty buffer of at least [`SEND_BUFFER_BYTES`](crate::SEND_BUFFER_BYTES) to write
    /// packets into. `None` while all slots are in use; [`Event::SendReady`] follows.
    pub fn buffer(&mut self) -> Option<Vec<u8>> {
        back!(&mut self.back, back => back.buffer())
    }

    /// Sends a buffer that `buffer` gave. Never fails: UDP may lose what it likes. What the
    /// system refuses is counted in `stats`; a datagram over the interface's MTU is dropped, so
    /// that path MTU discovery works. It leaves with the next `flush` or `poll` at the latest.
    pub fn send(&mut self, transmit: Transmit, contents: Vec<u8>) {
        if contents.is_empty() || transmit.segment == Some(0) {
            return self.recycle(contents);
        }
        back!(&mut self.back, back => back.send(transmit, contents));
    }

    /// Lets go what was sent, now: for a peer that waits while we still have other work to do.
    pub fn flush(&mut self) {
        back!(&mut self.back, back => back.flush());
    }

    /// Gives back a buffer that was not needed.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        back!(&mut self.back, back => back.recycle(buffer));
    }

    /// Takes over a file that was opened elsewhere: a user's. Closed with `FileOp::Close`.
    pub fn adopt(&mut self, file: std::fs::File) -> FileId {
        back!(&mut self.back, back => back.adopt(file))
    }

    /// Starts a file operation; it ends with [`Event::File`]. `Err` gives the request back when
    /// [`FILES_IN_FLIGHT_MAX`](crate::FILES_IN_FLIGHT_MAX) are in flight: try again after the
    /// next one ended.
    // The request is handed back whole, page and all: boxing it would allocate per operation.
    #[allow(clippy::result_large_err)]
    pub fn submit(&mut self, request: FileRequest) -> Result<(), FileRequest> {
        back!(&mut self.back, back => back.submit(request))
    }

    /// Submits what is queued, waits as `park` says, at most until `deadline`, and hands what
    /// happened to `sink`. May return early with nothing. Fails when the system's poller or the
    /// socket itself is broken; the driver is of no more use then.
    pub fn poll(
        &mut self,
        deadline: Option<Instant>,
        park: Park,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> io::Result<()> {
        back!(&mut self.back, back => back.poll(deadline, park, sink))
    }

    /// What makes `poll` return from any thread. Lives as long as anyone holds it.
    pub fn waker(&self) -> Arc<dyn Wake> {
        back!(&self.back, back => back.waker())
    }

    /// Records there what becomes of the trains that are sent.
    pub fn trace(&mut self, tracer: Tracer) {
        back!(&mut self.back, back => back.trace(tracer));
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        back!(&self.back, back => back.stats())
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Driver({:?}: {})", self.kind(), self.why)
    }
}

fn open_auto(config: &DriverConfig, socket: CoreSocket) -> Result<Driver, OpenFailed> {
    match open_uring(config, socket) {
        Ok(back) => Ok(Driver::around(back, "io_uring works here".to_string())),
        Err((reason, socket)) => {
            open_mio(config, socket, format!("io_uring does not work here: {reason}"))
        }
    }
}

fn open_mio(config: &DriverConfig, socket: CoreSocket, why: String) -> Result<Driver, OpenFailed> {
    let mio = Mio::open(config, socket).map_err(OpenFailed::Socket)?;
    Ok(Driver::around(Back::Mio(Box::new(mio)), why))
}

#[cfg(all(target_os = "linux", feature = "uring"))]
fn open_uring(config: &DriverConfig, socket: CoreSocket) -> Result<Back, (String, CoreSocket)> {
    if let Err(reason) = crate::uring::available() {
        return Err((reason, socket));
    }
    match Uring::open(config, socket) {
        Ok(uring) => Ok(Back::Uring(Box::new(uring))),
        Err((error, socket)) => Err((error, socket)),
    }
}

#[cfg(not(all(target_os = "linux", feature = "uring")))]
fn open_uring(_config: &DriverConfig, socket: CoreSocket) -> Result<Back, (String, CoreSocket)> {
    Err((WITHOUT_URING.to_string(), socket))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::fd::{AsRawFd, RawFd};

    use super::*;

    fn opened(choice: DriverChoice) -> Driver {
        let bound = crate::bind("127.0.0.1:0".parse().unwrap(), 1, crate::Steer::Kernel).unwrap();
        let config = DriverConfig {
            choice,
            receive_buffers: 2,
            receive_buffers_max: 2,
            send_slots: 1,
            spin: Duration::ZERO,
            unreached: Unreached::Told,
            data_dir: None,
        };
        Driver::open(&config, bound.sockets.into_iter().next().unwrap()).unwrap()
    }

    /// Puts a file in the place of a driver's socket: every receive fails from now on.
    fn break_socket(socket: RawFd) {
        let null = std::fs::File::open("/dev/null").unwrap();
        // SAFETY: the driver owns the number and goes on owning it.
        assert_eq!(unsafe { libc::dup2(null.as_raw_fd(), socket) }, socket);
    }

    #[test]
    fn a_broken_socket_is_an_error_of_poll_and_no_panic() {
        for choice in [DriverChoice::Mio, DriverChoice::Auto] {
            let mut driver = opened(choice);
            break_socket(back!(&driver.back, back => back.socket_fd()));
            let end = Instant::now() + Duration::from_secs(20);
            let mut result = Ok(());
            while result.is_ok() && Instant::now() < end {
                result = driver.poll(Some(end), Park::Block, &mut |_| {});
            }
            let error = result.expect_err("the driver notices");
            assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK), "{:?}", driver.kind());
        }
    }
}
