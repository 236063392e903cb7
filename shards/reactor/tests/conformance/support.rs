//! A driver that collects what it says, and the macro that runs a case on both back ends.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use pangea_base::file::{FileDone, FileFault, FileId, FileName, FileOp, FileRequest, FileValue};
use pangea_base::{Page, PagePool, Unreachable};
use pangea_reactor::{
    CoreSocket, Driver, DriverChoice, DriverConfig, Ecn, Event, Park, Steer, Transmit, Unreached,
    bind,
};

/// Longer than anything here takes; only a broken driver meets it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Runs each case as a test on both back ends.
macro_rules! on_both {
    ($($(#[$attribute:meta])* $case:ident),* $(,)?) => {
        mod uring {
            $(#[test] $(#[$attribute])* fn $case() {
                crate::support::run(pangea_reactor::DriverChoice::Uring, super::$case)
            })*
        }
        mod mio {
            $(#[test] $(#[$attribute])* fn $case() {
                crate::support::run(pangea_reactor::DriverChoice::Mio, super::$case)
            })*
        }
    };
}
pub(crate) use on_both;

/// Runs a case, or says that it was skipped.
pub fn run(choice: DriverChoice, case: fn(DriverChoice)) {
    if choice == DriverChoice::Uring
        && let Err(reason) = pangea_reactor::uring_available()
    {
        eprintln!("SKIPPED: io_uring does not work here: {reason}");
        return;
    }
    case(choice);
}

/// What was received, joined batches taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    pub remote: SocketAddr,
    pub local_ip: Option<IpAddr>,
    pub ecn: Option<Ecn>,
    pub data: Vec<u8>,
}

/// A driver and everything it said.
pub struct Node {
    pub driver: Driver,
    pub addr: SocketAddr,
    pub datagrams: Vec<Datagram>,
    pub batches: usize,
    pub files: Vec<FileDone>,
    pub unreachable: Vec<(SocketAddr, Unreachable)>,
    pub send_ready: usize,
    pub woken: usize,
}

pub fn config(choice: DriverChoice) -> DriverConfig {
    DriverConfig {
        choice,
        receive_buffers: 16,
        receive_buffers_max: 256,
        send_slots: 16,
        spin: Duration::ZERO,
        unreached: Unreached::Told,
        data_dir: None,
    }
}

impl Node {
    pub fn new(choice: DriverChoice) -> Node {
        Node::at(choice, "127.0.0.1:0")
    }

    pub fn at(choice: DriverChoice, addr: &str) -> Node {
        let bound = bind(addr.parse().unwrap(), 1, Steer::Kernel).unwrap();
        Node::open(&config(choice), bound.sockets.into_iter().next().unwrap())
    }

    pub fn in_dir(choice: DriverChoice, dir: &Path) -> Node {
        let bound = bind("127.0.0.1:0".parse().unwrap(), 1, Steer::Kernel).unwrap();
        let config = DriverConfig { data_dir: Some(dir.to_path_buf()), ..config(choice) };
        Node::open(&config, bound.sockets.into_iter().next().unwrap())
    }

    pub fn open(config: &DriverConfig, socket: CoreSocket) -> Node {
        let addr = socket.local_addr().unwrap();
        Node {
            driver: Driver::open(config, socket).unwrap(),
            addr,
            datagrams: Vec::new(),
            batches: 0,
            files: Vec::new(),
            unreachable: Vec::new(),
            send_ready: 0,
            woken: 0,
        }
    }

    pub fn poll(&mut self, deadline: Option<Instant>, park: Park) {
        let Node { driver, datagrams, batches, files, unreachable, send_ready, woken, .. } = self;
        let mut sink = |event: Event<'_>| match event {
            Event::Datagrams { remote, local_ip, ecn, stride, data } => {
                *batches += 1;
                for part in data.chunks(stride) {
                    datagrams.push(Datagram { remote, local_ip, ecn, data: part.to_vec() });
                }
            }
            Event::File(done) => files.push(done),
            Event::Unreachable { remote, what } => unreachable.push((remote, what)),
            Event::SendReady => *send_ready += 1,
            Event::Woken => *woken += 1,
        };
        driver.poll(deadline, park, &mut sink).unwrap();
    }

    /// Polls until something is so.
    pub fn until(&mut self, what: &str, is_so: impl Fn(&Node) -> bool) {
        let give_up = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < give_up, "waited in vain for: {what}");
            self.poll(Some(give_up), Park::Block);
        }
    }

    /// Polls a little without expecting anything.
    pub fn idle(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.poll(Some(end), Park::Block);
        }
    }

    pub fn send(&mut self, dst: SocketAddr, contents: &[u8]) {
        let train = Default::default();
        self.send_as(Transmit { dst, src_ip: None, ecn: None, segment: None, train }, contents);
    }

    pub fn send_as(&mut self, transmit: Transmit, contents: &[u8]) {
        let mut buffer = self.driver.buffer().expect("a free buffer");
        buffer.extend_from_slice(contents);
        self.driver.send(transmit, buffer);
        self.poll(None, Park::Never);
    }

    /// One file operation, from submission to its end.
    pub fn file(&mut self, op: FileOp, page: Option<Page>) -> FileDone {
        let token = self.driver.stats().files_done + 1000;
        self.driver.submit(FileRequest { token, op, page }).unwrap();
        self.until("a file operation", |node| !node.files.is_empty());
        let done = self.files.remove(0);
        assert_eq!(done.token, token);
        done
    }

    pub fn value(&mut self, op: FileOp) -> Result<FileValue, FileFault> {
        self.file(op, None).result
    }

    pub fn write(&mut self, file: FileId, offset: u64, page: Page) -> FileDone {
        let length = page.len() as u32;
        self.file(FileOp::Write { file, offset, length }, Some(page))
    }

    pub fn read(&mut self, file: FileId, offset: u64, page: Page, length: u32) -> FileDone {
        self.file(FileOp::Read { file, offset, length }, Some(page))
    }
}

pub fn name(text: &str) -> FileName {
    FileName::new(text)
}

/// A page full of one byte.
pub fn page_of(pool: &PagePool, byte: u8, length: usize) -> Page {
    let mut page = pool.take().unwrap();
    page.set_len(length);
    page.fill(byte);
    page
}

/// How a parent tells its child which back end to use.
pub fn name_of(choice: DriverChoice) -> &'static str {
    match choice {
        DriverChoice::Auto => "auto",
        DriverChoice::Uring => "uring",
        DriverChoice::Mio => "mio",
    }
}

/// What the parent told.
pub fn choice_of_child() -> DriverChoice {
    match std::env::var("PANGEA_DRIVER").as_deref() {
        Ok("uring") => DriverChoice::Uring,
        Ok("mio") => DriverChoice::Mio,
        _ => DriverChoice::Auto,
    }
}
