//! A client, some honest holders and one enemy, in memory, without losses.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pangea_base::{CoreId, Entropy, Hash, Identity, PagePool, PeerAddr, PeerId, Secret, UnixTime};
use pangea_ces::plan::{CompressionChoice, Cpu, Situation};
use pangea_engine::client::{
    Get, GetError, GetOutcome, GetSpec, GetWants, Numbers, Put, PutError, PutOutcome, PutSource,
    PutSpec, PutWants, Stat, StatOutcome,
};
use pangea_engine::message::{Command, Message, Report};
use pangea_engine::{Accept, Engine, EngineConfig, EngineHeld, Input, Output};
use pangea_store::sim::Disk;
use pangea_store::{Store, StoreConfig};
use pangea_transport::testing::PlainCrypto;
use pangea_wire::Link;

use super::super::{Script, enemy};
use crate::actor::Actor;

const WALL: u64 = 1_800_000_000;
const CAPACITY: u64 = 8 << 30;

struct Node {
    addr: PeerAddr,
    engine: Engine,
    disk: Disk,
    reports: VecDeque<Report>,
}

struct Flying {
    from: SocketAddr,
    to: SocketAddr,
    stride: usize,
    data: Vec<u8>,
}

/// Node 0 is the client.
pub struct Room {
    pub now: Instant,
    began: Instant,
    nodes: Vec<Node>,
    pub enemy: Box<dyn Actor>,
    flying: BTreeMap<(Instant, u64), Flying>,
    sequence: u64,
    chance: Entropy,
    pages: PagePool,
    /// A hash over every train sent.
    pub trace: Hash,
    /// Bytes that seemed to come from an address, and bytes that went to it.
    pub seen: BTreeMap<SocketAddr, (u64, u64)>,
    /// The most requests that one node had open.
    pub most_requests: usize,
}

pub struct Done<T, E> {
    pub result: Result<T, E>,
    pub took: Duration,
    pub troubles: Vec<(PeerId, String)>,
    pub bad: Vec<(PeerId, String)>,
}

fn identity(number: u8) -> Identity {
    let mut seed = [number; 32];
    seed[31] = 77;
    Identity::from_seed(Secret::new(seed))
}

impl Room {
    pub fn new(seed: u8, holders: u8, script: Script) -> Room {
        let now = Instant::now();
        let mut chance = Entropy::new([seed; 32]);
        let at = SocketAddr::from(([10, 0, 200, 1], 9090));
        let mut enemy = enemy(script, identity(200), at, chance.split(), now);
        let nodes: Vec<Node> = (0..=holders).map(|at| node(at, &mut chance, now)).collect();
        let addrs: Vec<PeerAddr> = nodes[1..].iter().map(|node| node.addr).collect();
        enemy.meet(&addrs);
        let mut room = Room {
            now,
            began: now,
            nodes,
            enemy,
            flying: BTreeMap::new(),
            sequence: 0,
            chance,
            pages: PagePool::new(128 << 10, 512),
            trace: Hash([0; 32]),
            seen: BTreeMap::new(),
            most_requests: 0,
        };
        room.settle();
        room
    }

    pub fn honest(&self) -> Vec<PeerAddr> {
        self.nodes[1..].iter().map(|node| node.addr).collect()
    }

    /// The enemy first, so that it is chosen and asked first.
    pub fn everybody(&self) -> Vec<PeerAddr> {
        [&[self.enemy.addr()][..], &self.honest()].concat()
    }

    pub fn did(&self, deed: &str) -> u64 {
        self.enemy.deeds().get(deed).copied().unwrap_or(0)
    }

    fn wall(&self) -> UnixTime {
        UnixTime(WALL + (self.now - self.began).as_secs())
    }

    pub fn command(&mut self, command: Command) {
        let (now, wall) = (self.now, self.wall());
        let input = Input::Mesh(CoreId(1), Message::Command(command), Default::default());
        self.nodes[0].engine.handle(now, wall, input);
    }

    fn settle(&mut self) {
        while self.deliver() | self.run_nodes() | self.run_enemy() {}
    }

    fn deliver(&mut self) -> bool {
        let (now, wall) = (self.now, self.wall());
        let mut any = false;
        while let Some(entry) = self.flying.first_entry().filter(|entry| entry.key().0 <= now) {
            any = true;
            let Flying { from, to, stride, data } = entry.remove();
            if self.enemy.addr().addr == to || self.enemy.elsewhere().contains(&to) {
                self.enemy.datagrams(now, from, None, stride, &data);
            } else if let Some(node) = self.nodes.iter_mut().find(|node| node.addr.addr == to) {
                let (local_ip, ecn) = (None, None);
                let input = Input::Datagrams { remote: from, local_ip, ecn, stride, data: &data };
                node.engine.handle(now, wall, input);
            }
        }
        any
    }

    fn run_nodes(&mut self) -> bool {
        let (now, wall) = (self.now, self.wall());
        let mut any = false;
        let mut trains = Vec::new();
        for node in &mut self.nodes {
            any |= node.engine.turn(now, wall);
            while let Some(output) = node.engine.poll() {
                any = true;
                match output {
                    Output::File(request) => node.disk.submit(request),
                    Output::Mesh(addressed) => match addressed.message {
                        Message::Report(report) => node.reports.push_back(report),
                        other => panic!("one core has nobody to tell {other:?}"),
                    },
                }
            }
            while let Some(done) = node.disk.step() {
                any = true;
                node.engine.handle(now, wall, Input::File(done));
            }
            self.most_requests = self.most_requests.max(node.engine.held().requests);
            let mut buffer = Vec::with_capacity(65_536);
            while let Some(meta) = node.engine.transmit(now, &mut buffer) {
                let stride = meta.segment.map_or(buffer.len(), usize::from);
                trains.push((node.addr.addr, meta.dst, stride, buffer.clone()));
            }
        }
        any |= !trains.is_empty();
        for (from, to, stride, data) in trains {
            self.seen.entry(to).or_default().1 += data.len() as u64;
            self.fly(from, to, stride, data);
        }
        any
    }

    fn run_enemy(&mut self) -> bool {
        let (now, wall) = (self.now, self.wall());
        let mut any = self.enemy.turn(now, wall);
        let mut buffer = Vec::with_capacity(65_536);
        while let Some((meta, seems_from)) = self.enemy.transmit(now, &mut buffer) {
            any = true;
            let stride = meta.segment.map_or(buffer.len(), usize::from);
            let from = seems_from.unwrap_or(self.enemy.addr().addr);
            self.seen.entry(from).or_default().0 += buffer.len() as u64;
            self.fly(from, meta.dst, stride, buffer.clone());
        }
        any
    }

    fn fly(&mut self, from: SocketAddr, to: SocketAddr, stride: usize, data: Vec<u8>) {
        let when = (self.now - self.began).as_nanos().to_le_bytes();
        let way = format!("{from} {to} {stride}");
        self.trace = Hash::of(&[&self.trace.0[..], &when, way.as_bytes(), &data].concat());
        let whole: Vec<u8> =
            data.chunks(stride.max(1)).filter(|one| one.len() <= 1472).flatten().copied().collect();
        self.sequence += 1;
        let at = self.now + Duration::from_millis(5);
        if !whole.is_empty() {
            self.flying.insert((at, self.sequence), Flying { from, to, stride, data: whole });
        }
    }

    fn step(&mut self, end: Instant) {
        self.settle();
        let deadlines = self.nodes.iter().filter_map(|node| node.engine.deadline());
        let flying = self.flying.first_key_value().map(|((at, _), _)| *at);
        let next = deadlines.chain(flying).chain(self.enemy.deadline()).min().unwrap_or(end);
        self.now = next.max(self.now + Duration::from_micros(100)).min(end);
        self.settle();
    }

    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step(end);
        }
    }

    pub fn put(&mut self, bytes: &[u8], peers: Vec<PeerAddr>) -> Done<PutOutcome, PutError> {
        let spec = put_spec(peers, UnixTime(WALL + 30 * 86_400));
        let mut put = Put::new(self.now, spec, self.chance.split(), Numbers::default());
        let (begun, mut rest) = (self.now, bytes);
        loop {
            while let Some(wants) = put.poll() {
                match wants {
                    PutWants::Command(_, command) => self.command(command),
                    PutWants::Chunk(length) => {
                        let (now, later) = rest.split_at(rest.len().min(length as usize));
                        rest = later;
                        put.feed(pages(&self.pages, now));
                    }
                    PutWants::Done(done) => {
                        while let Some((_, command)) = put.poll_command() {
                            self.command(command);
                        }
                        self.settle();
                        let (took, bad) = (self.now - begun, Vec::new());
                        return Done { result: *done, took, troubles: put.troubles, bad };
                    }
                }
            }
            let end = begun + Duration::from_secs(600);
            assert!(self.now < end, "a put ends; it is {}", put.stage());
            self.step(end);
            while let Some(report) = self.nodes[0].reports.pop_front() {
                put.handle(report);
            }
            put.tick(self.now);
        }
    }

    pub fn get(&mut self, link: &Link) -> (Vec<u8>, Done<GetOutcome, GetError>) {
        let memory_bytes = 256 << 20;
        let spec = GetSpec { link, peers: Vec::new(), output: None, cores: 1, memory_bytes };
        let Ok(mut get) = Get::new(spec, Numbers::default()) else { panic!("the link reads") };
        let (begun, mut bytes) = (self.now, Vec::new());
        loop {
            while let Some(wants) = get.poll() {
                match wants {
                    GetWants::Command(_, command) => self.command(command),
                    GetWants::Plain(page) => bytes.extend_from_slice(&page),
                    GetWants::Done(done) => {
                        self.settle();
                        let took = self.now - begun;
                        let (troubles, bad) = (get.troubles, get.bad_holders);
                        return (bytes, Done { result: *done, took, troubles, bad });
                    }
                }
            }
            let end = begun + Duration::from_secs(600);
            assert!(self.now < end, "a get ends; it is {}", get.stage());
            self.step(end);
            while let Some(report) = self.nodes[0].reports.pop_front() {
                get.handle(report);
            }
        }
    }

    pub fn stat(&mut self, link: &Link) -> Result<StatOutcome, GetError> {
        let mut stat = Stat::new(link, &[], 1, Numbers::default());
        let end = self.now + Duration::from_secs(600);
        loop {
            while let Some((_, command)) = stat.poll() {
                self.command(command);
            }
            if let Some(outcome) = stat.outcome() {
                return outcome;
            }
            assert!(self.now < end, "a stat ends");
            self.step(end);
            while let Some(report) = self.nodes[0].reports.pop_front() {
                stat.handle(report);
            }
        }
    }

    /// The enemy falls silent; then nobody holds anything for anybody, and every ledger has what
    /// its disk has.
    pub fn assert_tidy(&mut self) {
        let quiet = SocketAddr::from(([10, 0, 201, 1], 9090));
        self.enemy = enemy(Script::Mute, identity(201), quiet, self.chance.split(), self.now);
        self.run_for(Duration::from_secs(200));
        for (at, node) in self.nodes.iter().enumerate() {
            assert_eq!(node.engine.held(), EngineHeld::default(), "node {at}");
            if at > 0 {
                let (used, _) = node.engine.ledger().expect("core 0 keeps it");
                assert_eq!(used, node.engine.stats().bytes, "ledger and disk of node {at}");
            }
        }
    }
}

fn node(number: u8, chance: &mut Entropy, now: Instant) -> Node {
    let identity = Arc::new(identity(number));
    let peer = identity.peer();
    let store = (number > 0).then(|| {
        let config = StoreConfig::new(CoreId(0), 1, peer, CAPACITY, UnixTime(WALL));
        Store::new(StoreConfig { extent_bytes: 1 << 20, ..config }, PagePool::new(64 << 10, 128))
    });
    let mut transport = pangea_transport::testing::config(0);
    transport.cores = 1;
    let config = EngineConfig {
        core: CoreId(0),
        cores: 1,
        identity,
        entropy: chance.split(),
        transport,
        crypto: Box::new(PlainCrypto::new(peer)),
        store,
        units: PagePool::new(16 << 10, 4096),
        segments: PagePool::new(128 << 10, 64),
        capacity_bytes: if number > 0 { CAPACITY } else { 0 },
        accept: Accept::Any,
        tracer: pangea_trace::Tracer::none(),
    };
    let addr = PeerAddr { peer, addr: SocketAddr::from(([10, 0, number, 1], 9090)) };
    let engine = Engine::new(config, now, UnixTime(WALL));
    Node { addr, engine, disk: Disk::new(chance.u64()), reports: VecDeque::new() }
}

fn put_spec(peers: Vec<PeerAddr>, lease: UnixTime) -> PutSpec {
    let situation = Situation {
        bandwidth: None,
        load_percent: 0,
        object_bytes: None,
        memory_usable_bytes: 1 << 30,
        budget_bytes: 32 << 20,
        holders: 0,
        cpu: Cpu { cores: 1, wide_aes: true },
        code: None,
        suite: pangea_ces::SuiteChoice::XChaCha,
        compression: CompressionChoice::Off,
        padding: pangea_ces::Padding::Off,
        previous: None,
    };
    PutSpec {
        peers,
        code: None,
        situation,
        lease,
        label: None,
        source: PutSource::Stream,
        cores: 1,
    }
}

fn pages(pool: &PagePool, bytes: &[u8]) -> Vec<pangea_base::Page> {
    let page = |part: &[u8]| {
        let mut page = pool.take().expect("there are pages enough");
        page.whole_mut()[..part.len()].copy_from_slice(part);
        page.set_len(part.len());
        page
    };
    bytes.chunks(128 << 10).map(page).collect()
}
