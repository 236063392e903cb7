//! A node, and a peer with a good identity that sends what it likes on its streams. Afterwards the
//! node serves on, holds nothing for anybody, and its ledger has what its disk has.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pangea_base::{CoreId, Entropy, Hash, PagePool, PeerAddr, UnixTime};
use pangea_engine::{
    Accept, ClockTrust, Engine, EngineConfig, EngineHeld, Input as Happened, Output,
};
use pangea_store::sim::Disk;
use pangea_store::{Store, StoreConfig};
use pangea_transport::testing::{PlainCrypto, config};
use pangea_transport::{ConnId, Event, KeepAlive, ReadFailed, ReadOutcome, StreamId, Transport};
use pangea_wire::{
    AUTH_EXPORTER_BYTES, AUTH_EXPORTER_LABEL, AuthChallenge, FetchRequest, Grant, Ping, Pong,
    Protocol, RouteRequest, StoreRequest, StoreTrailer, UNITS_END, frame, preamble,
};

use super::input::{Input, counted};
use super::samples::{
    LEASE_SECONDS, NOW, fetch_requests, identity, locator, owner, pattern, store_requests,
};

const CAPACITY: u64 = 1 << 30;
const NODE: ([u8; 4], u16) = ([10, 0, 0, 1], 9090);
const PEER: ([u8; 4], u16) = ([10, 0, 1, 1], 9090);
/// Steps of one input.
const STEPS_MAX: usize = 24;
/// More rounds than anything at one moment takes.
const ROUNDS_MAX: usize = 10_000;

/// The node (identity 1) and the peer (identity 2), on a network that delays nothing.
pub struct World {
    pub engine: Engine,
    disk: Disk,
    peer: Transport,
    conn: Option<ConnId>,
    now: Instant,
    began: Instant,
    events: VecDeque<Event>,
}

impl World {
    pub fn new() -> World {
        let now = Instant::now();
        let crypto = |seed| Box::new(PlainCrypto::new(identity(seed).peer()));
        let mut peer = config(0);
        peer.cores = 1;
        let mut world = World {
            engine: Engine::new(engine_config(), now, NOW),
            disk: Disk::new(1),
            peer: Transport::new(peer, crypto(2), Entropy::new([2; 32])),
            conn: None,
            now,
            began: now,
            events: VecDeque::new(),
        };
        world.connect();
        world
    }

    /// Dials if there is no connection. False: the node does not let us in at the moment.
    pub fn connect(&mut self) -> bool {
        if self.conn.is_none() {
            let to = PeerAddr { peer: identity(1).peer(), addr: SocketAddr::from(NODE) };
            self.conn = self.peer.connect(self.now, to).ok();
            self.settle();
            if let Some(conn) = self.conn {
                self.peer.keep_alive(self.now, conn, KeepAlive::Every(Duration::from_secs(5)));
            }
        }
        self.conn.is_some()
    }

    fn wall(&self) -> UnixTime {
        NOW.after(self.now - self.began)
    }

    /// Everything that there is to do at this moment.
    pub fn settle(&mut self) {
        let (now, wall) = (self.now, self.wall());
        let mut train = Vec::with_capacity(1 << 16);
        for _ in 0..ROUNDS_MAX {
            let mut busy = self.engine.turn(now, wall);
            self.peer.tick(now);
            while let Some(event) = self.peer.poll() {
                busy = true;
                if let Event::Closed { conn, .. } = event
                    && self.conn == Some(conn)
                {
                    self.conn = None;
                }
                self.events.push_back(event);
            }
            while let Some(meta) = self.peer.transmit(now, &mut train) {
                busy = true;
                let stride = meta.segment.map_or(train.len(), usize::from);
                let (remote, data) = (SocketAddr::from(PEER), &train[..]);
                let input = Happened::Datagrams { remote, local_ip: None, ecn: None, stride, data };
                self.engine.handle(now, wall, input);
                train.clear();
            }
            busy |= self.outputs();
            while let Some(meta) = self.engine.transmit(now, &mut train) {
                busy = true;
                let stride = meta.segment.map_or(train.len(), usize::from);
                self.peer.datagrams(now, SocketAddr::from(NODE), None, None, stride, &train);
                train.clear();
            }
            if !busy {
                return;
            }
        }
        panic!("the node never comes to rest");
    }

    fn outputs(&mut self) -> bool {
        let (now, wall) = (self.now, self.wall());
        let mut busy = false;
        while let Some(output) = self.engine.poll() {
            busy = true;
            match output {
                Output::File(request) => self.disk.submit(request),
                // What it says to itself comes back; what it tells its control is of no interest.
                Output::Mesh(mail) if mail.to == CoreId(0) => {
                    let input = Happened::Mesh(CoreId(0), mail.message, mail.hop);
                    self.engine.handle(now, wall, input);
                }
                Output::Mesh(_) => {}
            }
        }
        while let Some(done) = self.disk.step() {
            busy = true;
            self.engine.handle(now, wall, Happened::File(done));
        }
        busy
    }

    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.settle();
            let next = [self.engine.deadline(), self.peer.deadline()];
            let next = next.into_iter().flatten().min().unwrap_or(end);
            // A deadline in the past would be a busy loop.
            self.now = next.max(self.now + Duration::from_millis(1)).min(end);
        }
        self.settle();
    }

    pub fn open(&mut self) -> Option<StreamId> {
        let conn = self.conn?;
        self.peer.open(conn)
    }

    pub fn write(&mut self, stream: StreamId, bytes: &[u8]) {
        let Some(conn) = self.conn else { return };
        let mut rest = Bytes::copy_from_slice(bytes);
        // As much as the node's windows take; the rest was never sent.
        while !rest.is_empty() {
            let wrote = self.peer.write(conn, stream, &mut rest);
            self.settle();
            if matches!(wrote, Ok(0) | Err(_)) {
                break;
            }
        }
    }

    pub fn end(&mut self, stream: StreamId, how: u8) {
        let Some(conn) = self.conn else { return };
        match how % 3 {
            0 => drop(self.peer.finish(conn, stream)),
            1 => drop(self.peer.reset(conn, stream, 9)),
            _ => drop(self.peer.stop(conn, stream, 9)),
        }
        self.settle();
    }

    /// What the node answered on a stream so far, and how it ended if it did so before its time.
    pub fn read(&mut self, stream: StreamId) -> (Vec<u8>, Result<(), ReadFailed>) {
        let mut out = Vec::new();
        let Some(conn) = self.conn else { return (out, Err(ReadFailed::Gone)) };
        loop {
            match self.peer.read(conn, stream, 1 << 16) {
                Ok(ReadOutcome::Data(bytes)) => out.extend_from_slice(&bytes),
                Ok(_) => return (out, Ok(())),
                Err(failed) => return (out, Err(failed)),
            }
            self.settle();
        }
    }

    /// The right to store, proven for this connection.
    pub fn auth(&self, grant: Grant) -> AuthChallenge {
        let mut exporter = [0; AUTH_EXPORTER_BYTES];
        if let Some(conn) = self.conn {
            let _ = self.peer.exporter(conn, AUTH_EXPORTER_LABEL, b"", &mut exporter);
        }
        AuthChallenge::new(&identity(2), grant, &exporter)
    }

    fn inject(&mut self, data: &[u8]) {
        let remote = SocketAddr::from(([10, 0, 9, 9], 7));
        let stride = data.len();
        let input = Happened::Datagrams { remote, local_ip: None, ecn: None, stride, data };
        self.engine.handle(self.now, self.wall(), input);
        self.settle();
    }

    /// It still serves, and holds nothing for anybody.
    fn assert_well(&mut self) {
        // Longer than a request may stall.
        self.run_for(Duration::from_secs(40));
        // Streams that were opened and never used are in the peer's own way: it begins anew.
        if let Some(conn) = self.conn {
            self.peer.close(self.now, conn, 0, b"");
            self.settle();
        }
        assert!(self.connect(), "the node takes connections");
        let stream = self.open().expect("there is room for a stream");
        let ping = [&preamble(Protocol::Ping)[..], &frame(&Ping { nonce: [7; 16] })].concat();
        self.write(stream, &ping);
        self.settle();
        let (answer, _) = self.read(stream);
        let pong = answer.get(4..).and_then(|body| pangea_wire::parse::<Pong>(body).ok());
        assert!(pong.is_some_and(|pong| pong.nonce == [7; 16]), "the node answers a ping");
        if let Some(conn) = self.conn {
            self.peer.close(self.now, conn, 0, b"");
        }
        self.run_for(Duration::from_secs(5));
        assert_eq!(self.engine.held(), EngineHeld::default(), "something is held for nobody");
        let (ledger, _) = self.engine.ledger().expect("core 0 keeps it");
        assert_eq!(ledger, self.engine.stats().bytes, "ledger and disk");
    }
}

fn engine_config() -> EngineConfig {
    let mut transport = config(0);
    transport.cores = 1;
    let store = StoreConfig {
        extent_bytes: 1 << 20,
        journal_bytes: 128 << 10,
        journal_step_bytes: 128 << 10,
        ..StoreConfig::new(CoreId(0), 1, identity(1).peer(), CAPACITY, NOW)
    };
    EngineConfig {
        core: CoreId(0),
        cores: 1,
        identity: Arc::new(identity(1)),
        entropy: Entropy::new([1; 32]),
        transport,
        crypto: Box::new(PlainCrypto::new(identity(1).peer())),
        store: Some(Store::new(store, PagePool::new(64 << 10, 32))),
        units: PagePool::new(16 << 10, 32),
        segments: PagePool::new(128 << 10, 2),
        capacity_bytes: CAPACITY,
        accept: Accept::Any,
        clock: ClockTrust::Compared,
        tracer: pangea_trace::Tracer::none(),
    }
}

/// A node and a hostile peer.
pub fn engine(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new();
    let mut stream = None;
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        step(&mut world, &mut stream, &mut input);
    }
    world.assert_well();
}

fn step(world: &mut World, stream: &mut Option<StreamId>, input: &mut Input<'_>) {
    if !world.connect() {
        return;
    }
    let kind = input.u8() % 10;
    if kind < 4 || stream.is_none() {
        *stream = world.open();
    }
    let Some(stream) = *stream else { return world.run_for(Duration::from_secs(1)) };
    match kind {
        0 => world.write(stream, input.bytes()),
        1 => {
            // Any body in a frame of a real protocol.
            let protocol = Protocol::ALL[usize::from(input.u8() % 4)];
            let body = input.bytes();
            let length = (body.len() as u32).to_le_bytes();
            world.write(stream, &[&preamble(protocol)[..], &length, body].concat());
        }
        2 => {
            let request = fetch(input);
            world.write(stream, &[&preamble(Protocol::Fetch)[..], &request].concat());
        }
        3 => {
            let request = store(world, input);
            world.write(stream, &[&preamble(Protocol::Store)[..], &request].concat());
        }
        4 => world.write(stream, input.bytes()),
        5 => {
            // A unit, then maybe an end and a trailer that is right or not.
            let (choice, unit) = (input.u8(), input.bytes());
            let mut bytes = [&(unit.len() as u32).to_le_bytes()[..], unit].concat();
            if choice & 1 == 0 {
                let root = if choice & 2 == 0 { Hash::of(unit) } else { Hash(input.array()) };
                let length = (unit.len() as u64).max(1);
                bytes.extend_from_slice(&UNITS_END);
                bytes.extend_from_slice(&frame(&StoreTrailer { root, length }));
            }
            world.write(stream, &bytes);
        }
        6 => world.end(stream, input.u8()),
        7 => world.run_for(Duration::from_millis(input.u16().into())),
        8 => world.inject(input.bytes()),
        _ => drop(world.read(stream)),
    }
    world.settle();
}

/// A fetch request, one of its bytes changed or not.
fn fetch(input: &mut Input<'_>) -> Vec<u8> {
    let requests = fetch_requests();
    let request: &FetchRequest = &requests[usize::from(input.u8()) % requests.len()];
    changed(&frame(request), input)
}

/// A store request with a proof that is right; one byte of its last fields changed or not.
fn store(world: &World, input: &mut Input<'_>) -> Vec<u8> {
    let choice = input.u8();
    let bytes_max = if choice & 0x80 == 0 { 1 << 20 } else { input.u64() };
    let nonce = [choice >> 4 & 3; 16];
    let grant = Grant::issue(&identity(1), owner(), locator(), bytes_max, NOW, 3600, nonce);
    let requests = store_requests(&world.auth(grant));
    let request: &StoreRequest = &requests[usize::from(choice) % requests.len()];
    changed(&frame(request), input)
}

fn changed(bytes: &[u8], input: &mut Input<'_>) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let (from_end, value) = (usize::from(input.u8()), input.u8());
    if value != 0 && from_end < bytes.len() {
        let at = bytes.len() - 1 - from_end;
        bytes[at] ^= value;
    }
    bytes
}

pub fn engine_seeds() -> Vec<Vec<u8>> {
    let (lease_seconds, now) = (LEASE_SECONDS, NOW);
    let find = RouteRequest::FindRoutes { locator: locator(), bytes: 300, lease_seconds, now };
    let route = [&[1, 1][..], &counted(&frame(&find)[4..])].concat();
    let ping = [&[1, 3][..], &counted(&[7; 16])].concat();
    let put = [&[3, 0, 0, 0, 5, 0][..], &counted(&pattern(300)), &[6, 0]].concat();
    let get = vec![2, 0, 0, 0, 9, 9];
    let get_whole = vec![2, 0, 0, 1, 9, 9];
    let root = [&[3, 1, 0, 0, 4][..], &counted(&pattern(1000)), &[7, 9, 0]].concat();
    let page = [&[3, 2, 0, 0, 4][..], &counted(&pattern(1000)), &[6, 0]].concat();
    let placement = [&[3, 3, 0, 0, 4][..], &counted(&pattern(1000)), &[6, 0]].concat();
    let stat = vec![2, 3, 0, 0, 9];
    let bad_root = [&[3, 0, 0, 0, 5, 2][..], &counted(&pattern(300)), &[1; 32]].concat();
    let slow = [&[3, 0, 0, 0, 4][..], &counted(&[0, 0x40, 0, 0, 1]), &[7, 0, 0xc0]].concat();
    let mut seeds = vec![
        ping,
        route,
        put.clone(),
        get.clone(),
        root,
        page,
        placement,
        stat,
        bad_root,
        slow,
        [put.clone(), get, get_whole].concat(),
        [put.clone(), put].concat(),
    ];
    for end in 0..3 {
        seeds.push(vec![2, 0, 0, 0, 6, end]);
        seeds.push(vec![3, 0, 0, 0, 6, end]);
    }
    seeds.push([&[8][..], &counted(&[0xc0; 1200])].concat());
    seeds
}
