//! The node: holds shards for others, on pinned cores.

mod core;
pub(crate) mod cores;
mod mtu;
mod owners;
#[cfg(feature = "trace")]
mod record;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pangea_base::{Identity, PeerId};
use pangea_engine::message::Report;
pub use pangea_engine::{ClockStatus, ClockTrust, Doubt, FoundWhen, Offset};
use pangea_reactor::{DriverChoice, DriverKind, Steer};
pub use pangea_store::Adopt;

pub(crate) use self::core::{Parcel, wall};
use self::cores::{Cores, CoresSpec, Heard};
pub use self::owners::{Owner, Owners};

/// Threads, driver and steering, for a node or a client.
#[derive(Debug, Clone)]
pub struct CoreOptions {
    /// How many cores; each is a thread with an engine.
    pub cores: usize,
    /// Whether, and to which CPUs, cores are pinned.
    pub pinning: Pinning,
    /// Which back end.
    pub driver: DriverChoice,
    /// How datagrams find their core.
    pub steer: Steer,
    /// How long a core polls before it sleeps; zero never spins.
    pub spin: Duration,
    /// 64 KiB receive buffers per core to begin with.
    pub receive_buffers: u16,
    /// Largest UDP payload to probe the path for; `None` finds the interface's.
    pub mtu_max: Option<u16>,
    /// Congestion control.
    pub congestion: pangea_transport::Congestion,
    /// How it records what it does.
    #[cfg(feature = "trace")]
    pub trace: TraceOptions,
}

/// How a node or a client records what it does.
#[cfg(feature = "trace")]
#[derive(Debug, Clone, Copy)]
pub struct TraceOptions {
    /// Where events' time comes from.
    pub clock: pangea_trace::Clock,
    /// Whether requests carry the number of their trace to peers that want it too, and theirs is
    /// taken over as a name. A peer can then link the requests of one trace.
    pub context: bool,
    /// Which traces are recorded; only with the feature `trace-sample` not all of them.
    pub sampling: pangea_trace::Sampling,
}

#[cfg(feature = "trace")]
impl TraceOptions {
    /// Everything is recorded, at the time of the core's turn, and nothing of it leaves the machine.
    pub const LOCAL: TraceOptions = TraceOptions {
        clock: pangea_trace::Clock::Tick,
        context: false,
        sampling: pangea_trace::Sampling::ALL,
    };
}

/// Whether cores are pinned to CPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pinning {
    /// Core i to the i-th of these CPUs.
    Pinned(Vec<usize>),
    /// Left to the scheduler (a demo's nodes, a client).
    Free,
}

/// Who may store here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// Anybody, each at most a tenth of the capacity.
    Any,
    /// Only the peers listed in the configuration.
    Listed,
    /// Nobody; what is there is still served.
    None,
}

/// How a node runs.
#[derive(Debug)]
pub struct NodeConfig {
    /// Who it is.
    pub identity: Identity,
    /// Where it keeps its shards; must exist and be locked by the caller.
    pub data_dir: PathBuf,
    /// Whether it may go on with the store of another node.
    pub adopt: Adopt,
    /// UDP address to serve at.
    pub p2p_addr: SocketAddr,
    /// Threads, driver, steering.
    pub cores: CoreOptions,
    /// Bytes it may hold for others.
    pub capacity_bytes: u64,
    /// Who may store.
    pub accept: Accept,
    /// Whether the clock of the machine is compared with the time that was believed last.
    pub clock: ClockTrust,
    /// The peers it knows; with [`Accept::Listed`] those that may store.
    pub peers: Vec<PeerId>,
}

/// What a started node says of itself.
#[derive(Debug, Clone)]
pub struct Ready {
    /// Its id.
    pub id: PeerId,
    /// Where it serves (the port that was given out if 0 was asked for).
    pub addr: SocketAddr,
    /// Back end in use.
    pub driver: DriverKind,
    /// Why that one, in a sentence.
    pub driver_why: String,
    /// Steering in use.
    pub steer: Steer,
    /// Cores.
    pub cores: usize,
    /// Shards found in the store.
    pub shards: u64,
    /// Bytes found in the store.
    pub bytes: u64,
}

/// A node's figures now.
#[derive(Debug, Clone)]
pub struct Status {
    /// Shards held.
    pub shards: u64,
    /// Bytes held, of `capacity_bytes`.
    pub bytes: u64,
    /// The limit.
    pub capacity_bytes: u64,
    /// Open connections.
    pub connections: u64,
    /// Bytes received and sent as UDP payload since start.
    pub received_bytes: u64,
    /// See above.
    pub sent_bytes: u64,
    /// Requests served since start.
    pub requests: u64,
    /// Requests refused since start.
    pub refused: u64,
    /// Whether the machine's clock is believed.
    pub clock: ClockStatus,
}

/// Why a node or client did not start. Each text says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StartFailed {
    /// The UDP address is taken.
    #[error("{0} is in use by another program; choose another with --p2p-addr")]
    PortInUse(SocketAddr),
    /// The UDP address cannot be bound.
    #[error("cannot listen at {addr}: {cause}")]
    Bind {
        /// Which.
        addr: SocketAddr,
        /// The system's words.
        cause: String,
    },
    /// The forced driver does not work here.
    #[error("the driver does not work here: {0}")]
    Driver(String),
    /// The store could not be opened.
    #[error("the store in {} cannot be opened: {cause}", dir.display())]
    Store {
        /// Where.
        dir: PathBuf,
        /// What is wrong and what to do.
        cause: String,
    },
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// A running node. [`Node::stop`] stops it in order; dropping it stops it at once, as a crash
/// would, which a node survives.
pub struct Node {
    ready: Ready,
    capacity_bytes: u64,
    clock: ClockStatus,
    cores: Option<Cores>,
    failed: Option<String>,
}

/// How long a store may take to recover before a start counts as failed.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(600);
/// A node encodes nothing itself: its unit pages serve nobody but itself.
const NODE_UNIT_BYTES: u64 = 1 << 20;

impl Node {
    /// Starts the cores, recovers the store, and returns once requests are served.
    pub fn start(config: NodeConfig) -> Result<Node, StartFailed> {
        let id = config.identity.peer();
        let accept = match config.accept {
            Accept::Any => pangea_engine::Accept::Any,
            Accept::Listed => pangea_engine::Accept::Listed(config.peers.iter().copied().collect()),
            Accept::None => pangea_engine::Accept::Nobody,
        };
        let mut cores = Cores::start(CoresSpec {
            identity: config.identity,
            bind: config.p2p_addr,
            options: config.cores,
            data_dir: Some(config.data_dir.clone()),
            capacity_bytes: config.capacity_bytes,
            accept,
            clock: config.clock,
            adopt: config.adopt,
            unit_bytes: NODE_UNIT_BYTES,
            segment_pages: 1,
        })?;
        let Found { shards, bytes, clock } = recovered(&mut cores, &config.data_dir)?;
        let ready = Ready {
            id,
            addr: cores.bound,
            driver: cores.driver,
            driver_why: cores.driver_why.clone(),
            steer: cores.steer,
            cores: cores.figures.len(),
            shards,
            bytes,
        };
        let capacity_bytes = config.capacity_bytes;
        Ok(Node { ready, capacity_bytes, clock, cores: Some(cores), failed: None })
    }

    /// What it said when it was ready.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Its recorders: one for each core, and the last for control. Empty once it has stopped.
    #[cfg(feature = "trace")]
    pub fn trace_logs(&self) -> Vec<pangea_trace::EventLog> {
        self.cores.as_ref().map(|cores| cores.logs.clone()).unwrap_or_default()
    }

    /// Its figures now.
    pub fn status(&self) -> Status {
        let mut status = Status {
            shards: 0,
            bytes: 0,
            capacity_bytes: self.capacity_bytes,
            connections: 0,
            received_bytes: 0,
            sent_bytes: 0,
            requests: 0,
            refused: 0,
            clock: self.clock,
        };
        for figures in self.cores.iter().flat_map(|cores| &cores.figures) {
            let get = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
            status.shards += get(&figures.shards);
            status.bytes += get(&figures.bytes);
            status.connections += get(&figures.connections);
            status.received_bytes += get(&figures.received_bytes);
            status.sent_bytes += get(&figures.sent_bytes);
            status.requests += get(&figures.requests);
            status.refused += get(&figures.refused);
        }
        status
    }

    /// Why it stopped by itself, if it did; `None` while it serves. Waits for it up to
    /// `at_most`.
    pub fn failed(&mut self, at_most: Duration) -> Option<String> {
        let Some(cores) = &mut self.cores else { return self.failed.clone() };
        while let Some(heard) = cores.hear(at_most) {
            match heard {
                Heard::Report(Report::StoreFailed(why)) => self.failed = Some(why),
                Heard::Report(Report::Clock(clock)) => self.clock = clock,
                _ => {}
            }
        }
        if self.failed.is_none() && cores.stopped() {
            let why = cores.join().err();
            self.failed = Some(why.unwrap_or_else(|| "a core stopped".to_owned()));
        }
        self.failed.clone()
    }

    /// Stops in order: no new requests, the store flushed and closed, connections closed.
    pub fn stop(mut self) -> Result<(), String> {
        self.cores.take().map_or(Ok(()), |mut cores| cores.close())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut cores) = self.cores.take() {
            cores.abort();
        }
    }
}

/// What the cores found when they opened their parts of the store.
struct Found {
    shards: u64,
    bytes: u64,
    clock: ClockStatus,
}

/// Waits until every core has recovered its part of the store: shards and bytes in all.
fn recovered(cores: &mut Cores, dir: &std::path::Path) -> Result<Found, StartFailed> {
    let until = std::time::Instant::now() + RECOVERY_TIMEOUT;
    let mut all = Found { shards: 0, bytes: 0, clock: ClockStatus::Starting };
    let mut waiting = cores.figures.len();
    let failed = |cause: String| StartFailed::Store { dir: dir.to_owned(), cause };
    // The clock is judged when the last core has said what it found.
    while waiting > 0 || all.clock == ClockStatus::Starting {
        match cores.hear(Duration::from_millis(100)) {
            Some(Heard::Report(Report::Ready { shards, bytes })) => {
                all.shards += shards;
                all.bytes += bytes;
                waiting -= 1;
            }
            Some(Heard::Report(Report::Clock(clock))) => all.clock = clock,
            Some(Heard::Report(Report::StoreFailed(why))) => {
                cores.abort();
                return Err(failed(why));
            }
            _ if cores.stopped() => {
                let why = cores.join().err();
                return Err(failed(why.unwrap_or_else(|| "a core stopped".to_owned())));
            }
            _ if std::time::Instant::now() > until => {
                cores.abort();
                return Err(failed("recovery takes too long".to_owned()));
            }
            _ => {}
        }
    }
    Ok(all)
}
