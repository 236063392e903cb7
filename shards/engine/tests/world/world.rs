//! Nodes, a client, a network and one clock, all in memory and all from one seed.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pangea_base::{CoreId, Entropy, Hash, Identity, PagePool, PeerAddr, PeerId, Secret, UnixTime};
use pangea_engine::client::{
    Get, GetError, GetOutcome, GetSpec, GetWants, Numbers, Put, PutError, PutOutcome, PutSource,
    PutSpec, PutWants,
};
use pangea_engine::message::{Command, Message, Report};
use pangea_engine::{Accept, Engine, EngineConfig, Input, Output};
use pangea_store::sim::Disk;
use pangea_store::{Store, StoreConfig};
use pangea_transport::testing::PlainCrypto;
use pangea_wire::Link;

pub const CAPACITY: u64 = 64 << 30;
pub const WALL: u64 = 1_800_000_000;
pub const LEASE: UnixTime = UnixTime(WALL + 30 * 86_400);

struct Core {
    engine: Engine,
    disk: Disk,
}

/// One process: its cores, and what they told its control.
pub struct Node {
    pub peer: PeerId,
    pub addr: SocketAddr,
    pub alive: bool,
    cores: Vec<Core>,
    pub reports: VecDeque<Report>,
}

struct Flying {
    from: SocketAddr,
    to: SocketAddr,
    ecn: Option<u8>,
    stride: usize,
    data: Vec<u8>,
}

/// Everything. Node 0 is the client.
pub struct World {
    pub now: Instant,
    began: Instant,
    pub nodes: Vec<Node>,
    /// A hash over every datagram sent.
    pub trace: Hash,
    /// Lost datagrams of a thousand.
    pub loss: u64,
    /// The code that puts ask for.
    pub code: Option<pangea_base::Code>,
    flying: BTreeMap<(Instant, u64), Flying>,
    sequence: u64,
    chance: Entropy,
    pages: PagePool,
}

pub struct Done<T, E> {
    pub result: Result<T, E>,
    pub troubles: Vec<(PeerId, String)>,
    pub bad: Vec<(PeerId, String)>,
}

impl World {
    /// A client of `client_cores` and `holders` nodes of `cores` each.
    pub fn new(seed: u8, client_cores: u8, holders: u8, cores: u8) -> World {
        let now = Instant::now();
        let mut world = World {
            now,
            began: now,
            nodes: Vec::new(),
            trace: Hash([0; 32]),
            loss: 0,
            code: None,
            flying: BTreeMap::new(),
            sequence: 0,
            chance: Entropy::new([seed; 32]),
            pages: PagePool::new(128 << 10, 2048),
        };
        world.add(0, client_cores, None);
        for number in 1..=holders {
            world.add(number, cores, Some(CAPACITY));
        }
        world.settle();
        world
    }

    pub fn add(&mut self, number: u8, cores: u8, capacity: Option<u64>) {
        let mut seed = [number; 32];
        seed[31] = 77;
        let identity = Arc::new(Identity::from_seed(Secret::new(seed)));
        let addr = SocketAddr::from(([10, 0, number, 1], 9090));
        let cores = (0..cores).map(|core| self.core(&identity, core, cores, capacity)).collect();
        let peer = identity.peer();
        self.nodes.push(Node { peer, addr, alive: true, cores, reports: VecDeque::new() });
    }

    fn core(
        &mut self,
        identity: &Arc<Identity>,
        core: u8,
        cores: u8,
        capacity: Option<u64>,
    ) -> Core {
        let store = capacity.map(|bytes| {
            let config =
                StoreConfig::new(CoreId(core), cores, identity.peer(), bytes, UnixTime(WALL));
            let config = StoreConfig { extent_bytes: 1 << 20, ..config };
            Store::new(config, PagePool::new(64 << 10, 128))
        });
        let mut transport = pangea_transport::testing::config(core);
        transport.cores = cores;
        transport.time = UnixTime(WALL);
        let config = EngineConfig {
            core: CoreId(core),
            cores,
            identity: identity.clone(),
            entropy: self.chance.split(),
            transport,
            crypto: Box::new(PlainCrypto::new(identity.peer())),
            store,
            units: PagePool::new(16 << 10, 4096),
            segments: PagePool::new(128 << 10, 64),
            capacity_bytes: capacity.unwrap_or(0),
            accept: Accept::Any,
            tracer: pangea_trace::Tracer::none(),
        };
        let engine = Engine::new(config, self.now, UnixTime(WALL));
        Core { engine, disk: Disk::new(self.chance.u64()) }
    }

    pub fn elapsed(&self) -> Duration {
        self.now - self.began
    }

    fn wall(&self) -> UnixTime {
        UnixTime(WALL + self.elapsed().as_secs())
    }

    /// A node is somewhere else from now on, as when a NAT forgets its port; it is not told.
    pub fn move_node(&mut self, node: usize) {
        let addr = &mut self.nodes[node].addr;
        addr.set_port(addr.port() + 1);
    }

    pub fn engine(&self, node: usize, core: usize) -> &Engine {
        &self.nodes[node].cores[core].engine
    }

    pub fn engines(&self) -> impl Iterator<Item = (usize, &Engine)> {
        let nodes = self.nodes.iter().enumerate();
        nodes.flat_map(|(at, node)| node.cores.iter().map(move |core| (at, &core.engine)))
    }

    pub fn holders(&self) -> Vec<PeerAddr> {
        let addr = |node: &Node| PeerAddr { peer: node.peer, addr: node.addr };
        self.nodes[1..].iter().map(addr).collect()
    }

    pub fn command(&mut self, node: usize, core: CoreId, command: Command) {
        let (now, wall) = (self.now, self.wall());
        let from = CoreId(self.nodes[node].cores.len() as u8);
        let input = Input::Mesh(from, Message::Command(command), Default::default());
        self.nodes[node].cores[core.index()].engine.handle(now, wall, input);
    }

    /// Everybody does what there is to do at this moment.
    pub fn settle(&mut self) {
        loop {
            let mut busy = self.deliver();
            for node in 0..self.nodes.len() {
                busy |= self.run(node);
            }
            let due = self.flying.first_key_value().is_some_and(|((at, _), _)| *at <= self.now);
            if !busy && !due {
                return;
            }
        }
    }

    fn deliver(&mut self) -> bool {
        let mut any = false;
        let (now, wall) = (self.now, self.wall());
        while let Some(entry) = self.flying.first_entry() {
            if entry.key().0 > now {
                break;
            }
            any = true;
            let Flying { from, to, ecn, stride, data } = entry.remove();
            let Some(node) = self.nodes.iter_mut().find(|n| n.addr == to && n.alive) else {
                continue;
            };
            // The kernel's choice: any core. The engine forwards what is another's.
            let at = self.chance.below(node.cores.len() as u64) as usize;
            let input = Input::Datagrams { remote: from, local_ip: None, ecn, stride, data: &data };
            node.cores[at].engine.handle(now, wall, input);
        }
        any
    }

    fn run(&mut self, at: usize) -> bool {
        let (now, wall) = (self.now, self.wall());
        let mut any = false;
        if !self.nodes[at].alive {
            return false;
        }
        let control = CoreId(self.nodes[at].cores.len() as u8);
        for number in 0..control.0 {
            let core = &mut self.nodes[at].cores[usize::from(number)];
            any |= core.engine.turn(now, wall);
            let mut mail = Vec::new();
            while let Some(output) = core.engine.poll() {
                any = true;
                match output {
                    Output::File(request) => core.disk.submit(request),
                    Output::Mesh(addressed) => mail.push(addressed),
                }
            }
            while let Some(done) = core.disk.step() {
                any = true;
                core.engine.handle(now, wall, Input::File(done));
            }
            for addressed in mail {
                match addressed.message {
                    Message::Report(report) if addressed.to == control => {
                        self.nodes[at].reports.push_back(report);
                    }
                    message => {
                        let input = Input::Mesh(CoreId(number), message, addressed.hop);
                        let core = &mut self.nodes[at].cores[addressed.to.index()];
                        core.engine.handle(now, wall, input);
                    }
                }
            }
            any |= self.send(at, usize::from(number));
        }
        any
    }

    fn send(&mut self, at: usize, core: usize) -> bool {
        let mut any = false;
        let mut buffer = Vec::with_capacity(65_536);
        let from = self.nodes[at].addr;
        loop {
            buffer.clear();
            let engine = &mut self.nodes[at].cores[core].engine;
            let Some(meta) = engine.transmit(self.now, &mut buffer) else { return any };
            any = true;
            let when = self.elapsed().as_nanos().to_le_bytes();
            let to = format!("{from} {}", meta.dst);
            self.trace = Hash::of(&[&self.trace.0[..], &when, to.as_bytes(), &buffer].concat());
            let stride = meta.segment.map_or(buffer.len(), usize::from);
            let mut data = Vec::new();
            for datagram in buffer.chunks(stride) {
                if datagram.len() <= 1472 && self.chance.below(1000) >= self.loss {
                    data.extend_from_slice(datagram);
                }
            }
            if !data.is_empty() {
                self.sequence += 1;
                let packet = Flying { from, to: meta.dst, ecn: meta.ecn, stride, data };
                let when = self.now + Duration::from_millis(5);
                self.flying.insert((when, self.sequence), packet);
            }
        }
    }

    /// Moves the clock to what happens next, but not beyond `end`.
    pub fn step(&mut self, end: Instant) {
        self.settle();
        let engines = self.nodes.iter().filter(|node| node.alive).flat_map(|node| &node.cores);
        let deadlines = engines.filter_map(|core| core.engine.deadline());
        let flying = self.flying.first_key_value().map(|((at, _), _)| *at);
        let next = deadlines.chain(flying).min().unwrap_or(end);
        // A deadline in the past would be a busy loop: time moves on by a little all the same.
        self.now = next.max(self.now + Duration::from_micros(100)).min(end);
        self.settle();
    }

    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step(end);
        }
    }

    pub fn put(&mut self, bytes: &[u8]) -> Done<PutOutcome, PutError> {
        self.put_with(bytes, |_| {})
    }

    /// Puts, and lets `meddle` change the world after every step.
    pub fn put_with(
        &mut self,
        bytes: &[u8],
        mut meddle: impl FnMut(&mut World),
    ) -> Done<PutOutcome, PutError> {
        let spec = self.put_spec();
        let entropy = self.chance.split();
        let mut put = Put::new(self.now, spec, entropy, Numbers::default());
        let end = self.now + Duration::from_secs(900);
        let mut rest = bytes;
        loop {
            while let Some(wants) = put.poll() {
                match wants {
                    PutWants::Command(core, command) => self.command(0, core, command),
                    PutWants::Chunk(length) => {
                        let (now, later) = rest.split_at(rest.len().min(length as usize));
                        rest = later;
                        put.feed(self.pages_of(now));
                    }
                    PutWants::Done(done) => {
                        while let Some((core, command)) = put.poll_command() {
                            self.command(0, core, command);
                        }
                        self.settle();
                        return Done { result: *done, troubles: put.troubles, bad: Vec::new() };
                    }
                }
            }
            assert!(self.now < end, "a put ends by its deadline; it is {}", put.stage());
            self.settle();
            // What it is told may give it something to do before anything else happens.
            if self.nodes[0].reports.is_empty() {
                self.step(end);
                meddle(self);
            }
            while let Some(report) = self.nodes[0].reports.pop_front() {
                put.handle(report);
            }
            put.tick(self.now);
        }
    }

    fn put_spec(&self) -> PutSpec {
        use pangea_ces::plan::{CompressionChoice, Cpu, Situation};
        let cores = self.nodes[0].cores.len();
        let situation = Situation {
            bandwidth: None,
            load_percent: 0,
            object_bytes: None,
            memory_usable_bytes: 1 << 30,
            budget_bytes: 32 << 20,
            holders: 0,
            cpu: Cpu { cores, wide_aes: true },
            code: None,
            suite: pangea_ces::SuiteChoice::XChaCha,
            compression: CompressionChoice::Off,
            padding: pangea_ces::Padding::Off,
            previous: None,
        };
        PutSpec {
            peers: self.holders(),
            code: self.code,
            situation,
            lease: LEASE,
            label: None,
            source: PutSource::Stream,
            cores: cores as u8,
        }
    }

    fn pages_of(&self, bytes: &[u8]) -> Vec<pangea_base::Page> {
        let page = |part: &[u8]| {
            let mut page = self.pages.take().expect("the world has pages enough");
            page.whole_mut()[..part.len()].copy_from_slice(part);
            page.set_len(part.len());
            page
        };
        bytes.chunks(128 << 10).map(page).collect()
    }

    pub fn get(&mut self, link: &Link) -> (Vec<u8>, Done<GetOutcome, GetError>) {
        self.get_with(link, |_| {})
    }

    /// Gets, and lets `meddle` change the world after every step.
    pub fn get_with(
        &mut self,
        link: &Link,
        mut meddle: impl FnMut(&mut World),
    ) -> (Vec<u8>, Done<GetOutcome, GetError>) {
        let cores = self.nodes[0].cores.len() as u8;
        let peers = self.holders();
        let spec = GetSpec { link, peers, output: None, cores, memory_bytes: 256 << 20 };
        let Ok(mut get) = Get::new(spec, Numbers::default()) else { panic!("the link reads") };
        let end = self.now + Duration::from_secs(900);
        let mut bytes = Vec::new();
        loop {
            while let Some(wants) = get.poll() {
                match wants {
                    GetWants::Command(core, command) => self.command(0, core, command),
                    GetWants::Plain(page) => bytes.extend_from_slice(&page),
                    GetWants::Done(done) => {
                        self.settle();
                        let (troubles, bad) = (get.troubles, get.bad_holders);
                        return (bytes, Done { result: *done, troubles, bad });
                    }
                }
            }
            assert!(self.now < end, "a get ends by its deadline; it is {}", get.stage());
            self.step(end);
            meddle(self);
            while let Some(report) = self.nodes[0].reports.pop_front() {
                get.handle(report);
            }
        }
    }

    /// Nothing is held for anybody, and the ledger has what the disk has.
    pub fn assert_tidy(&mut self) {
        self.run_for(Duration::from_secs(70));
        for (at, engine) in self.engines() {
            assert_eq!(engine.held(), pangea_engine::EngineHeld::default(), "node {at}");
        }
        for (at, node) in self.nodes.iter().enumerate().skip(1).filter(|(_, node)| node.alive) {
            let used: u64 = node.cores.iter().map(|core| core.engine.stats().bytes).sum();
            // A reservation lapses when the ledger is next asked; see its own tests.
            let (ledger, _) = node.cores[0].engine.ledger().expect("core 0 keeps it");
            assert_eq!(ledger, used, "ledger and disk of node {at}");
        }
    }
}

pub fn bytes_of(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    Entropy::new([seed; 32]).fill(&mut bytes);
    bytes
}
