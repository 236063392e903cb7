//! One machine: its disk and clocks, and the process on it, if it runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pangea_base::{CoreId, Entropy, Identity, PagePool, PeerAddr};
use pangea_engine::message::{Command, Message, Report};
use pangea_engine::{Accept, ClockTrust, Engine, EngineConfig};
use pangea_store::{Store, StoreConfig};
use pangea_transport::Limits;
use pangea_transport::testing::{PlainCrypto, Witness};

use super::clock::NodeClock;
use super::clocks::Watch;
use super::core::{Control, Core, Parts, Turn};
use super::disk::NodeDisk;
use super::log::{CoreLog, Log, RING, RING_SMALL};
use super::network::{Network, Place};
use super::planted::{Plant, Planted};
use super::survey::LARGE;

/// What the process of a machine is made of, whenever it starts.
#[derive(Clone, Debug)]
pub struct Setup {
    pub cores: u8,
    pub mesh_slots: usize,
    pub units: u32,
    pub segments: u32,
    pub store_pages: u32,
    /// Bytes kept for others; `None`: a client.
    pub capacity: Option<u64>,
    pub extent_bytes: u64,
    pub journal_bytes: u64,
    pub limits: Limits,
    pub mtu_max: u16,
    pub gso_segments_max: usize,
    /// All that arrives goes to core 0 first.
    pub steer_mesh: bool,
    /// What a turn takes.
    pub turn: Duration,
    /// Trains that a socket holds for a core that does not read.
    pub socket_trains: usize,
}

/// What a machine is made of.
pub struct Made {
    pub name: String,
    pub place: Place,
    pub addr: SocketAddr,
    pub clock: NodeClock,
    pub disk: NodeDisk,
    pub setup: Setup,
    pub planted: Planted,
}

/// A machine.
pub struct Machine {
    pub name: String,
    pub place: Place,
    pub identity: Arc<Identity>,
    pub addr: SocketAddr,
    pub clock: NodeClock,
    pub disk: NodeDisk,
    pub setup: Setup,
    pub process: Option<Process>,
    /// How often a process was started on it.
    pub starts: u64,
    planted: Planted,
    /// Whether its clock is compared with what was written down when it starts.
    pub trust: ClockTrust,
    pub watch: Watch,
    source: usize,
    entropy: Entropy,
}

/// A running process.
pub struct Process {
    pub cores: Vec<Core>,
    pub control: Control,
    plant: Option<Plant>,
}

impl Machine {
    /// A machine on which nothing runs yet.
    pub fn new(made: Made, mut entropy: Entropy, log: &mut Log) -> Machine {
        let Made { name, place, addr, clock, disk, setup, planted } = made;
        let seed = entropy.array();
        let identity = Arc::new(Identity::from_seed(pangea_base::Secret::new(seed)));
        let source = log.source(&name);
        Machine {
            name,
            place,
            identity,
            addr,
            clock,
            disk,
            setup,
            process: None,
            starts: 0,
            planted,
            trust: ClockTrust::Compared,
            watch: Watch::new(0),
            source,
            entropy,
        }
    }

    /// Where and who it is.
    pub fn peer_addr(&self) -> PeerAddr {
        PeerAddr { peer: self.identity.peer(), addr: self.addr }
    }

    /// No fault is built in any more.
    #[cfg(test)]
    pub fn disarm(&mut self) {
        self.planted = Planted::default();
        if let Some(process) = &mut self.process {
            process.plant = None;
        }
    }

    /// Starts its process.
    pub fn start(&mut self, now: Instant, witness: &Witness) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        self.starts += 1;
        self.watch = Watch::new(self.clock.off());
        let cores = self.setup.cores;
        let mut ends = pangea_mesh::mesh(usize::from(cores) + 1, self.setup.mesh_slots);
        let control = Control::new(ends.pop().expect("one end is control's"), now);
        let cores = ends.into_iter().zip(0..).map(|(ends, core)| {
            let parts = self.parts(now, CoreId(core), witness);
            Core::new(parts, ends, now, self.setup.socket_trains)
        });
        let cores = cores.collect();
        self.process = Some(Process { cores, control, plant: self.planted.plant() });
    }

    fn parts(&mut self, now: Instant, core: CoreId, witness: &Witness) -> Parts {
        let Setup { cores, units, segments, store_pages, capacity, .. } = self.setup;
        let (units, segments) =
            (PagePool::new(16 << 10, units), PagePool::new(128 << 10, segments));
        let store_pages = PagePool::new(64 << 10, store_pages);
        let (node_now, wall) = (self.clock.instant(now), self.clock.wall(now));
        let store = capacity.map(|bytes| {
            let config = StoreConfig {
                extent_bytes: self.setup.extent_bytes,
                journal_bytes: self.setup.journal_bytes,
                journal_step_bytes: self.setup.journal_bytes,
                ..StoreConfig::new(core, cores, self.identity.peer(), bytes, wall)
            };
            Store::new(config, store_pages.clone())
        });
        let peer = self.identity.peer();
        let seed = [self.entropy.u64(), self.entropy.u64()];
        let ring = if cores >= LARGE { RING_SMALL } else { RING };
        let log = CoreLog::new(peer, core, seed, self.clock.instant(now), ring);
        let transport = pangea_transport::Config {
            cores,
            limits: self.setup.limits,
            mtu_max: self.setup.mtu_max,
            gso_segments_max: self.setup.gso_segments_max,
            reset_key: self.identity.peer().0,
            token_key: self.identity.peer().0,
            time: wall,
            ..pangea_transport::testing::config(core.0)
        };
        let config = EngineConfig {
            core,
            cores,
            identity: self.identity.clone(),
            entropy: self.entropy.split(),
            transport,
            crypto: Box::new(PlainCrypto::watched(peer, witness.clone())),
            store,
            units: units.clone(),
            segments: segments.clone(),
            capacity_bytes: capacity.unwrap_or(0),
            accept: Accept::Any,
            clock: self.trust,
            tracer: log.tracer(),
        };
        let engine = Engine::new(config, node_now, wall);
        Parts { engine, log, pools: [units, segments, store_pages] }
    }

    /// One turn of one core.
    pub fn run(&mut self, core: usize, now: Instant, network: &mut Network, log: &mut Log) {
        let Some(process) = &mut self.process else { return };
        let turn = Turn {
            now,
            place: self.place,
            addr: self.addr,
            clock: &self.clock,
            disk: &mut self.disk,
            network,
            cost: self.setup.turn,
            planted: &mut self.planted,
        };
        process.cores[core].run(turn, log);
        log.take(now, self.source, &mut process.cores[core].log);
        process.wake_rung(now + Duration::from_micros(1));
    }

    /// What its disk has done by now goes to the cores that asked.
    pub fn disk_ended(&mut self, now: Instant, log: &mut Log) {
        while let Some((core, done)) = self.disk.ended(now, log) {
            let process = self.process.as_mut().expect("a disk works for a process");
            process.cores[usize::from(core)].done(now, done);
        }
    }

    /// The process ends at once. Its memory is gone, its files stay.
    pub fn kill(&mut self) {
        self.process = None;
        self.disk.kill();
    }

    /// The same, and unsynced writes may be lost.
    pub fn power_cut(&mut self) {
        self.process = None;
        self.disk.power_cut();
    }
}

impl Process {
    /// The pools of its pages, by the core whose they are.
    pub fn pools(&self, name: &str) -> Vec<(String, [PagePool; 3])> {
        let pools = |(number, core): (usize, &Core)| {
            (format!("core {number} of {name}"), core.pools.clone())
        };
        self.cores.iter().enumerate().map(pools).collect()
    }

    /// Control tells a core what to do.
    pub fn command(&mut self, now: Instant, core: CoreId, mut command: Command) {
        Planted::command(self.plant, &mut command);
        self.control.tell(core, Message::Command(command));
        self.control.run(now);
        self.wake_rung(now);
    }

    /// Control tells every core to close.
    pub fn close(&mut self, now: Instant) {
        for core in 0..self.cores.len() {
            self.command(now, CoreId(core as u8), Command::Close);
        }
    }

    /// Control looks at what the cores told it.
    pub fn run_control(&mut self, now: Instant) {
        self.control.run(now);
        self.wake_rung(now + Duration::from_micros(1));
    }

    /// Who sleeps with something on the mesh. On one thread a bell that rings late is a bell that
    /// does not ring: this is looked at after every turn, before a deadline or a retry wakes it.
    pub fn overslept(&self) -> Option<String> {
        let core = self.cores.iter().position(|core| core.overslept());
        let control = || self.control.overslept().then(|| "control".to_owned());
        core.map(|core| format!("core {core}")).or_else(control)
    }

    /// What control has not taken yet.
    pub fn report(&mut self) -> Option<Report> {
        self.control.reports.pop_front()
    }

    /// Whose doorbell rang, wakes.
    fn wake_rung(&mut self, at: Instant) {
        for core in &mut self.cores {
            if core.rung() {
                core.wake_by(at);
            }
        }
        if self.control.rung() {
            self.control.wake_by(at);
        }
    }
}
