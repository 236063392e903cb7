//! The real engines of a node's two cores, over the real mesh, under many orders of their threads
//! (shuttle): a client puts a small object and gets it again. The mesh is compiled here once more,
//! on shuttle's atomics, from its own files; the loop is that of its shards/mesh/src/loops.rs; disk
//! and network are in memory; time moves on only when everybody sleeps, so no wake that is lost is
//! made good by a timer unnoticed.
//!
//! An order takes milliseconds, so here are some hundreds; shards/mesh/src/nodes.rs runs the same
//! loop with a stand-in for the engine through millions.
//!
//! ```text
//! PANGEA_SCHEDULES=5000 cargo test --release --test schedules
//! ```

#![allow(dead_code, unused_imports)]

#[path = "../shards/mesh/src/actors.rs"]
mod actors;
#[path = "../shards/mesh/src/bell.rs"]
mod bell;
#[path = "../shards/mesh/src/ends.rs"]
mod ends;
#[path = "../shards/mesh/src/loops.rs"]
mod loops;
#[path = "../shards/mesh/src/ring.rs"]
mod ring;
#[path = "../shards/mesh/src/standin.rs"]
mod standin;
#[path = "../shards/mesh/src/sync.rs"]
mod sync;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actors::Alarm;
use ends::mesh;
use loops::{Machine, assert_nothing_lost, explore, run, schedules};
use pangea_base::{CoreId, Entropy, Identity, Page, PagePool, PeerAddr, Secret, UnixTime, Wake};
use pangea_engine::client::{Get, GetSpec, GetWants, Numbers, Put, PutSource, PutSpec, PutWants};
use pangea_engine::message::{Command, Message, Report};
use pangea_engine::{Accept, Engine, EngineConfig, EngineHeld, Input, Output};
use pangea_store::sim::Disk;
use pangea_store::{Store, StoreConfig};
use pangea_trace::Hop;
use pangea_transport::testing::PlainCrypto;
use shuttle::thread;

const CORES: u8 = 2;
const CONTROL: usize = 2;
const CLIENT: usize = 3;
const THREADS: usize = 4;
/// An engine's own depth, without optimisation too.
const STACK_BYTES: usize = 1 << 20;
const WALL: UnixTime = UnixTime(1_800_000_000);
/// A scenario needs a few; one that goes on for ever is a livelock.
const CLOCK_STEPS_MAX: u32 = 20_000;

fn node_addr() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 9090))
}

fn client_addr() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 2], 9090))
}

struct Datagrams {
    from: SocketAddr,
    stride: usize,
    data: Vec<u8>,
}

/// What threads have in common: the network, the clock, and who sleeps.
struct World {
    now: Instant,
    boxes: [VecDeque<Datagrams>; THREADS],
    alarms: Vec<Arc<Alarm>>,
    asleep: [bool; THREADS],
    rung: [bool; THREADS],
    ended: [bool; THREADS],
    deadlines: [Option<Instant>; THREADS],
    // Which core the system gives the next batch to, whoever's it is.
    turn: usize,
    steps: u32,
    cores_ready: u8,
    client_done: bool,
}

/// A std lock: shuttle's threads take turns on one, so it is always free, and it is no place where
/// they change over.
#[derive(Clone)]
struct Shared(Arc<Mutex<World>>);

impl Shared {
    fn new(now: Instant) -> Shared {
        Shared(Arc::new(Mutex::new(World {
            now,
            boxes: Default::default(),
            alarms: (0..THREADS).map(|_| Alarm::new()).collect(),
            asleep: [false; THREADS],
            rung: [false; THREADS],
            ended: [false; THREADS],
            deadlines: [None; THREADS],
            turn: 0,
            steps: 0,
            cores_ready: 0,
            client_done: false,
        })))
    }

    fn with<T>(&self, work: impl FnOnce(&mut World) -> T) -> T {
        work(&mut self.0.lock().unwrap())
    }

    fn now(&self) -> Instant {
        self.with(|world| world.now)
    }

    fn wake(&self, who: usize) {
        let alarm = self.with(|world| {
            world.rung[who] = true;
            world.asleep[who] = false;
            world.alarms[who].clone()
        });
        alarm.wake();
    }

    fn send(&self, to: SocketAddr, datagrams: Datagrams) {
        let who = self.with(|world| {
            let who = if to == client_addr() {
                CLIENT
            } else {
                world.turn = 1 - world.turn;
                world.turn
            };
            world.boxes[who].push_back(datagrams);
            who
        });
        self.wake(who);
    }

    /// Sleeps until woken. The last that falls asleep moves the clock on.
    fn wait(&self, who: usize, deadline: Option<Instant>) {
        let due = self.with(|world| {
            world.deadlines[who] = deadline;
            world.asleep[who] = !std::mem::take(&mut world.rung[who]);
            world.move_clock()
        });
        due.into_iter().for_each(|who| self.wake(who));
        let alarm = self.with(|world| world.alarms[who].clone());
        alarm.wait();
        self.with(|world| {
            world.asleep[who] = false;
            world.rung[who] = false;
        });
    }

    fn ends(&self, who: usize) {
        let due = self.with(|world| {
            world.ended[who] = true;
            world.move_clock()
        });
        due.into_iter().for_each(|who| self.wake(who));
    }
}

impl World {
    /// If everybody sleeps: to the next deadline. Whose it is are woken.
    fn move_clock(&mut self) -> Vec<usize> {
        let all = (0..THREADS).all(|who| self.asleep[who] || self.ended[who]);
        let sleeping = |who: &usize| !self.ended[*who];
        let next = (0..THREADS).filter(sleeping).filter_map(|who| self.deadlines[who]).min();
        let Some(next) = next.filter(|_| all) else { return Vec::new() };
        self.steps += 1;
        assert!(self.steps < CLOCK_STEPS_MAX, "it goes on for ever");
        let waiting = self.boxes.iter().zip(self.ended).any(|(b, ended)| !ended && !b.is_empty());
        assert!(!waiting, "everybody sleeps and a datagram waits");
        self.now = next.max(self.now + Duration::from_micros(100));
        let due = |who: &usize| self.deadlines[*who].is_some_and(|at| at <= self.now);
        (0..THREADS).filter(sleeping).filter(due).collect()
    }
}

struct Waker(Shared, usize);

impl Wake for Waker {
    fn wake(&self) {
        self.0.wake(self.1);
    }
}

/// An engine and its driver.
struct Core {
    who: usize,
    addr: SocketAddr,
    world: Shared,
    engine: Engine,
    disk: Disk,
    operations: usize,
    buffer: Vec<u8>,
}

impl Core {
    fn new(who: usize, core: u8, cores: u8, world: Shared, pools: &Pools) -> Core {
        let identity = Arc::new(identity(who));
        let store = (who != CLIENT).then(|| {
            let config = StoreConfig::new(CoreId(core), cores, 64 << 20, WALL);
            Store::new(StoreConfig { extent_bytes: 1 << 20, ..config }, pools.store.clone())
        });
        let mut transport = pangea_transport::testing::config(core);
        transport.cores = cores;
        transport.time = WALL;
        let config = EngineConfig {
            core: CoreId(core),
            cores,
            identity: identity.clone(),
            entropy: Entropy::new([who as u8; 32]),
            transport,
            crypto: Box::new(PlainCrypto::new(identity.peer())),
            store,
            units: pools.units.clone(),
            segments: pools.segments.clone(),
            capacity_bytes: 64 << 20,
            accept: Accept::Any,
            tracer: pangea_trace::Tracer::none(),
        };
        let addr = if who == CLIENT { client_addr() } else { node_addr() };
        let engine = Engine::new(config, world.now(), WALL);
        let disk = Disk::new(who as u64);
        Core { who, addr, world, engine, disk, operations: 0, buffer: Vec::with_capacity(65_536) }
    }

    fn input(&mut self, input: Input<'_>) {
        self.engine.handle(self.world.now(), WALL, input);
    }

    fn transmit(&mut self) {
        loop {
            self.buffer.clear();
            let now = self.world.now();
            let Some(meta) = self.engine.transmit(now, &mut self.buffer) else { return };
            let stride = meta.segment.map_or(self.buffer.len(), usize::from);
            // What is longer than the path takes, probes say, is lost.
            let mut data = Vec::new();
            for datagram in self.buffer.chunks(stride).filter(|d| d.len() <= 1472) {
                data.extend_from_slice(datagram);
            }
            if !data.is_empty() {
                self.world.send(meta.dst, Datagrams { from: self.addr, stride, data });
            }
        }
    }
}

impl Machine for Core {
    type Message = (Message, Hop);

    fn handle(&mut self, from: CoreId, (message, hop): (Message, Hop)) {
        self.input(Input::Mesh(from, message, hop));
    }

    fn turn(&mut self) -> bool {
        self.engine.turn(self.world.now(), WALL)
    }

    fn poll(&mut self) -> Option<(CoreId, (Message, Hop))> {
        while let Some(output) = self.engine.poll() {
            match output {
                Output::File(request) => {
                    self.operations += 1;
                    self.disk.submit(request);
                }
                Output::Mesh(addressed) => {
                    return Some((addressed.to, (addressed.message, addressed.hop)));
                }
            }
        }
        self.transmit();
        None
    }

    fn events(&mut self) {
        let who = self.who;
        while let Some(batch) = self.world.with(|world| world.boxes[who].pop_front()) {
            self.input(Input::Datagrams {
                remote: batch.from,
                local_ip: None,
                ecn: None,
                stride: batch.stride,
                data: &batch.data,
            });
        }
        if let Some(done) = self.disk.step() {
            self.operations -= 1;
            self.input(Input::File(done));
        }
    }

    fn has_events(&self) -> bool {
        self.operations > 0
    }

    fn wait(&mut self, _: &Alarm) {
        self.world.wait(self.who, self.engine.deadline());
    }

    fn waker(&self, _: &Arc<Alarm>) -> Arc<dyn Wake> {
        Arc::new(Waker(self.world.clone(), self.who))
    }

    fn is_closed(&self) -> bool {
        self.engine.is_closed()
    }
}

/// Control of the node: stops its cores when the client is done.
struct Control {
    world: Shared,
    out: VecDeque<(CoreId, (Message, Hop))>,
    told: bool,
    closed: u8,
}

impl Machine for Control {
    type Message = (Message, Hop);

    fn handle(&mut self, _: CoreId, (message, _): (Message, Hop)) {
        match message {
            Message::Report(Report::Ready { .. }) => {
                let ready = self.world.with(|world| {
                    world.cores_ready += 1;
                    world.cores_ready
                });
                if ready == CORES {
                    self.world.wake(CLIENT);
                }
            }
            Message::Report(Report::Closed) => self.closed += 1,
            other => panic!("a node's control hears {other:?}"),
        }
    }

    fn turn(&mut self) -> bool {
        if !self.told && self.world.with(|world| world.client_done) {
            self.told = true;
            for core in (0..CORES).map(CoreId) {
                self.out.push_back((core, (Message::Command(Command::Close), Hop::default())));
            }
        }
        false
    }

    fn poll(&mut self) -> Option<(CoreId, (Message, Hop))> {
        self.out.pop_front()
    }

    fn wait(&mut self, _: &Alarm) {
        self.world.wait(CONTROL, None);
    }

    fn waker(&self, _: &Arc<Alarm>) -> Arc<dyn Wake> {
        Arc::new(Waker(self.world.clone(), CONTROL))
    }

    fn is_closed(&self) -> bool {
        self.closed == CORES
    }
}

/// The client: one core, and the machines of its control beside it.
struct Client {
    core: Core,
    content: Vec<u8>,
    reports: VecDeque<Report>,
    pages: PagePool,
    stage: Stage,
}

enum Stage {
    Waiting,
    Put(Box<Put>),
    Get(Box<Get>, Vec<u8>),
    Done,
}

impl Client {
    fn command(&mut self, core: CoreId, command: Command) {
        assert_eq!(core, CoreId(0));
        self.core.input(Input::Mesh(CoreId(1), Message::Command(command), Hop::default()));
    }

    /// What the client's control does with what it heard.
    fn drive(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Waiting if self.core.world.with(|world| world.cores_ready == CORES) => {
                let now = self.core.world.now();
                let put = Put::new(now, put_spec(), Entropy::new([9; 32]), Numbers::default());
                self.stage = self.put(put);
            }
            Stage::Waiting => {
                // That its own core is ready is no news.
                self.reports.clear();
                self.stage = Stage::Waiting;
            }
            Stage::Put(put) => self.stage = self.put(*put),
            Stage::Get(get, bytes) => self.stage = self.get(*get, bytes),
            Stage::Done => {}
        }
    }

    fn put(&mut self, mut put: Put) -> Stage {
        while let Some(report) = self.reports.pop_front() {
            put.handle(report);
        }
        put.tick(self.core.world.now());
        while let Some(wants) = put.poll() {
            match wants {
                PutWants::Command(core, command) => self.command(core, command),
                PutWants::Chunk(_) => {
                    let content = std::mem::take(&mut self.content);
                    put.feed(content.chunks(128 << 10).map(|part| self.page(part)).collect());
                    self.content = content;
                }
                PutWants::Done(done) => {
                    let outcome = done.unwrap_or_else(|e| panic!("{e:?} {:?}", put.troubles));
                    assert!(outcome.complete);
                    while let Some((core, command)) = put.poll_command() {
                        self.command(core, command);
                    }
                    let peers = vec![holder()];
                    let spec = GetSpec {
                        link: &outcome.link,
                        peers,
                        output: None,
                        cores: 1,
                        memory_bytes: 64 << 20,
                    };
                    let Ok(get) = Get::new(spec, Numbers::default()) else { panic!("a link") };
                    return self.get(get, Vec::new());
                }
            }
        }
        Stage::Put(Box::new(put))
    }

    fn page(&self, part: &[u8]) -> Page {
        let mut page = self.pages.take().expect("pages enough");
        page.extend(part);
        page
    }

    fn get(&mut self, mut get: Get, mut bytes: Vec<u8>) -> Stage {
        while let Some(report) = self.reports.pop_front() {
            get.handle(report);
        }
        while let Some(wants) = get.poll() {
            match wants {
                GetWants::Command(core, command) => self.command(core, command),
                GetWants::Plain(page) => bytes.extend_from_slice(&page),
                GetWants::Done(done) => {
                    done.unwrap_or_else(|e| panic!("{e:?} {:?}", get.troubles));
                    assert!(bytes == self.content, "other bytes came back");
                    self.core.world.with(|world| world.client_done = true);
                    self.core.world.wake(CONTROL);
                    return Stage::Done;
                }
            }
        }
        Stage::Get(Box::new(get), bytes)
    }
}

impl Machine for Client {
    type Message = (Message, Hop);

    fn handle(&mut self, _: CoreId, _: (Message, Hop)) {
        unreachable!("it has one core");
    }

    fn turn(&mut self) -> bool {
        let busy = self.core.turn();
        self.drive();
        busy
    }

    fn poll(&mut self) -> Option<(CoreId, (Message, Hop))> {
        let mut any = false;
        while let Some((_, (message, _))) = self.core.poll() {
            let Message::Report(report) = message else { panic!("a client's core reports") };
            self.reports.push_back(report);
            any = true;
        }
        // What control answers is handed out in the next round.
        if any {
            self.drive();
        }
        None
    }

    fn events(&mut self) {
        self.core.events();
    }

    fn has_events(&self) -> bool {
        !self.reports.is_empty()
    }

    fn wait(&mut self, alarm: &Alarm) {
        self.core.wait(alarm);
    }

    fn waker(&self, alarm: &Arc<Alarm>) -> Arc<dyn Wake> {
        self.core.waker(alarm)
    }

    fn is_closed(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }
}

fn identity(who: usize) -> Identity {
    let seed = if who == CLIENT { 2 } else { 1 };
    Identity::from_seed(Secret::new([seed; 32]))
}

fn holder() -> PeerAddr {
    PeerAddr { peer: identity(0).peer(), addr: node_addr() }
}

fn put_spec() -> PutSpec {
    use pangea_ces::plan::{CompressionChoice, Cpu, Situation};
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
        peers: vec![holder()],
        code: None,
        situation,
        lease: UnixTime(WALL.0 + 86_400),
        label: None,
        source: PutSource::Stream,
        cores: 1,
    }
}

#[derive(Clone)]
struct Pools {
    store: PagePool,
    units: PagePool,
    segments: PagePool,
}

impl Pools {
    fn new() -> Pools {
        Pools {
            store: PagePool::new(64 << 10, 16),
            units: PagePool::new(16 << 10, 64),
            segments: PagePool::new(128 << 10, 8),
        }
    }

    fn assert_whole(&self) {
        for pool in [&self.store, &self.units, &self.segments] {
            assert_eq!(pool.available(), pool.pages_max(), "a page of {pool:?} did not come back");
        }
    }
}

/// A node from its start to its end, and a client that puts and gets meanwhile.
fn put_and_get(capacity: usize, bytes: usize) {
    let world = Shared::new(Instant::now());
    let pools: Vec<Pools> = (0..THREADS).map(|_| Pools::new()).collect();
    let mut ends = mesh(usize::from(CORES) + 1, capacity).into_iter();
    let mut threads = Vec::new();
    for who in 0..usize::from(CORES) {
        let (world, pools) = (world.clone(), pools[who].clone());
        let mut ends = ends.next().expect("a core's end");
        threads.push(thread::spawn(move || {
            let mut core = Core::new(who, who as u8, CORES, world.clone(), &pools);
            let traffic = run(&mut core, &mut ends, &Alarm::new());
            world.ends(who);
            let held = core.engine.held();
            assert_eq!((held.tickets, held.jobs), (0, 0), "a ticket was never answered");
            (traffic, ends)
        }));
    }
    let client = {
        let (world, pools) = (world.clone(), pools[CLIENT].clone());
        thread::spawn(move || {
            let core = Core::new(CLIENT, 0, 1, world.clone(), &pools);
            let mut content = vec![0; bytes];
            Entropy::new([3; 32]).fill(&mut content);
            let (reports, pages) = (VecDeque::new(), pools.segments.clone());
            let mut client = Client { core, content, reports, pages, stage: Stage::Waiting };
            let mut own = mesh(1, 1).pop().expect("one end");
            run(&mut client, &mut own, &Alarm::new());
            world.ends(CLIENT);
            assert_eq!(client.core.engine.held().jobs, 0);
        })
    };
    let mut control =
        Control { world: world.clone(), out: VecDeque::new(), told: false, closed: 0 };
    let mut own = ends.next().expect("control's end");
    let heard = run(&mut control, &mut own, &Alarm::new());
    world.ends(CONTROL);
    let ended: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    client.join().unwrap();
    let mut traffic: Vec<_> = ended.into_iter().map(|(traffic, _)| traffic).collect();
    traffic.push(heard);
    assert_nothing_lost(&traffic);
    assert!(traffic[0].sent[1] > 0 && traffic[1].sent[0] > 0, "the cores had nothing to say");
    pools.iter().for_each(Pools::assert_whole);
}

#[test]
fn a_put_and_a_get_end_well_whatever_the_order_of_the_threads() {
    let count = schedules(200);
    explore("real engines, rings of one", count / 2, STACK_BYTES, || put_and_get(1, 20_000));
    explore("real engines, rings of two", count / 2, STACK_BYTES, || put_and_get(2, 70_000));
}
