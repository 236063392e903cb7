//! A core as the node runs it: what `src/node/core.rs` does with a driver and threads, done with a
//! simulated disk, network and clock. The engine, the mesh and the doorbell are the real ones.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pangea_base::file::FileDone;
use pangea_base::{CoreId, PagePool, Unreachable, Wake};
use pangea_engine::message::{Message, Report};
use pangea_engine::{Engine, Input, Output};
use pangea_mesh::{Ends, Full, Readiness};
use pangea_trace::Hop;

use super::clock::NodeClock;
use super::disk::NodeDisk;
use super::log::{CoreLog, Log};
use super::network::{Network, Packet, Place, Train};
use super::planted::Planted;

/// What crosses the mesh.
pub type Parcel = (Box<Message>, Hop);

/// Trains sent before the core looks for input again.
const TRAINS_PER_TURN: usize = 64;

/// What a system says of a port where nobody listens (ECONNREFUSED, as Linux numbers it).
const REFUSED: Unreachable = Unreachable::System(111);

/// The pages of a core: units, plaintext, store.
pub const POOLS: [&str; 3] = ["unit pages", "plaintext pages", "store pages"];

/// What a core is made of.
pub struct Parts {
    pub engine: Engine,
    pub log: CoreLog,
    pub pools: [PagePool; 3],
}

/// What a turn sees of the world.
pub struct Turn<'a> {
    pub now: Instant,
    pub place: Place,
    pub addr: SocketAddr,
    pub clock: &'a NodeClock,
    pub disk: &'a mut NodeDisk,
    pub network: &'a mut Network,
    pub cost: Duration,
    pub planted: &'a mut Planted,
}

/// A sleeping thread's bell.
#[derive(Default)]
struct Rung(AtomicBool);

impl Wake for Rung {
    fn wake(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One core.
pub struct Core {
    pub engine: Engine,
    pub log: CoreLog,
    pub pools: [PagePool; 3],
    ends: Ends<Parcel>,
    bell: Arc<Rung>,
    asleep: bool,
    // Its bell rang since its last turn.
    called: bool,
    parcels: VecDeque<(CoreId, Parcel)>,
    socket: VecDeque<Packet>,
    socket_trains: usize,
    ended: VecDeque<FileDone>,
    // Where nothing gets, as its system says.
    unreachable: VecDeque<SocketAddr>,
    wake_at: Option<Instant>,
    stalled_until: Option<Instant>,
    /// The most parcels that ever waited for a full ring.
    pub parcels_most: usize,
}

impl Core {
    pub fn new(parts: Parts, mut ends: Ends<Parcel>, now: Instant, socket_trains: usize) -> Core {
        let bell = Arc::new(Rung::default());
        ends.parking().connect(bell.clone());
        Core {
            engine: parts.engine,
            log: parts.log,
            pools: parts.pools,
            ends,
            bell,
            asleep: false,
            called: false,
            parcels: VecDeque::new(),
            socket: VecDeque::new(),
            socket_trains,
            ended: VecDeque::new(),
            unreachable: VecDeque::new(),
            wake_at: Some(now),
            stalled_until: None,
            parcels_most: 0,
        }
    }

    /// When it runs next.
    pub fn next(&self) -> Option<Instant> {
        let at = self.wake_at?;
        Some(self.stalled_until.map_or(at, |until| at.max(until)))
    }

    /// It runs then at the latest.
    pub fn wake_by(&mut self, at: Instant) {
        self.wake_at = Some(self.wake_at.map_or(at, |set| set.min(at)));
    }

    /// It does not run before then, whatever happens.
    pub fn stall(&mut self, until: Instant) {
        self.stalled_until = Some(until);
    }

    /// Whether its bell rang since the last time.
    pub fn rung(&mut self) -> bool {
        let rung = self.bell.0.swap(false, Ordering::Relaxed);
        self.called |= rung;
        rung
    }

    /// A train arrives at its socket. False: the socket is full.
    pub fn receive(&mut self, now: Instant, packet: Packet) -> bool {
        if self.socket.len() >= self.socket_trains {
            return false;
        }
        self.socket.push_back(packet);
        self.wake_by(now);
        true
    }

    /// Its system says that nobody listens at an address.
    pub fn refused(&mut self, now: Instant, addr: SocketAddr) {
        self.unreachable.push_back(addr);
        self.wake_by(now);
    }

    /// A file operation ended.
    pub fn done(&mut self, now: Instant, done: FileDone) {
        self.ended.push_back(done);
        self.wake_by(now);
    }

    /// It sleeps although something waits for it on the mesh, and nobody rang.
    pub fn overslept(&self) -> bool {
        let was_called = self.called || self.bell.0.load(Ordering::Relaxed);
        self.asleep && !was_called && !self.ends.is_empty()
    }

    /// Nothing is on its way to, in or out of it.
    pub fn is_quiet(&self) -> bool {
        self.parcels.is_empty() && self.socket.is_empty() && self.ended.is_empty()
    }

    /// One turn, as the node's cores take them.
    pub fn run(&mut self, mut turn: Turn<'_>, log: &mut Log) {
        if std::mem::take(&mut self.asleep) {
            self.ends.awake();
        }
        self.wake_at = None;
        self.called = false;
        let now = turn.clock.instant(turn.now);
        let wall = turn.clock.wall(turn.now);
        while let Some(packet) = self.socket.pop_front() {
            let Packet { from: remote, ecn, stride, data, .. } = packet;
            let input = Input::Datagrams { remote, local_ip: None, ecn, stride, data: &data };
            self.engine.handle(now, wall, input);
        }
        while let Some(addr) = self.unreachable.pop_front() {
            self.engine.handle(now, wall, Input::Unreachable(addr, REFUSED));
        }
        while let Some(done) = self.ended.pop_front() {
            self.engine.handle(now, wall, Input::File(done));
        }
        let mut busy = false;
        while let Some((from, (mut message, hop))) = self.ends.receive() {
            busy = true;
            if let Some(answer) = turn.planted.message(&mut message) {
                self.parcels.push_back((from, (Box::new(answer), hop)));
                continue;
            }
            self.engine.handle(now, wall, Input::Mesh(from, *message, hop));
        }
        while self.engine.answer(now, wall) {
            self.transmit(&mut turn, now, log);
        }
        busy |= self.engine.turn(now, wall);
        self.hand_out(&mut turn, log);
        busy |= self.transmit(&mut turn, now, log);
        busy |= self.ends.prepare() == Readiness::Work;
        self.asleep = !busy;
        self.sleep(&turn, busy);
    }

    fn hand_out(&mut self, turn: &mut Turn<'_>, log: &mut Log) {
        let own = self.ends.own();
        while let Some(output) = self.engine.poll() {
            match output {
                Output::File(request) => turn.disk.submit(turn.now, own.0, request),
                Output::Mesh(addressed) => {
                    let parcel = (Box::new(addressed.message), addressed.hop);
                    self.parcels.push_back((addressed.to, parcel));
                }
            }
        }
        self.parcels_most = self.parcels_most.max(self.parcels.len());
        // Order is kept to every receiver: the first that is refused holds back the rest.
        while let Some((to, parcel)) = self.parcels.pop_front() {
            if let Err(Full(parcel)) = self.ends.send(to, parcel) {
                log.count("mesh ring full");
                self.parcels.push_front((to, parcel));
                break;
            }
        }
        self.ends.flush();
    }

    fn transmit(&mut self, turn: &mut Turn<'_>, now: Instant, log: &mut Log) -> bool {
        let mut buffer = Vec::new();
        for _ in 0..TRAINS_PER_TURN {
            buffer.clear();
            let Some(meta) = self.engine.transmit(now, &mut buffer) else { return false };
            let stride = meta.segment.map_or(buffer.len(), usize::from);
            let train = Train {
                source: turn.place,
                from: turn.addr,
                to: meta.dst,
                ecn: meta.ecn,
                stride,
                data: &buffer,
            };
            turn.network.send(turn.now, train, log);
        }
        true
    }

    fn sleep(&mut self, turn: &Turn<'_>, busy: bool) {
        let soonest = turn.now + turn.cost.max(Duration::from_micros(1));
        if busy {
            self.wake_by(soonest);
            return;
        }
        if let Some(deadline) = self.engine.deadline() {
            self.wake_by(turn.clock.moment(deadline).max(soonest));
        }
        if !self.parcels.is_empty() {
            // What was refused is tried again soon: its receiver may not know to wake us.
            self.wake_by(turn.now + Duration::from_millis(1));
        }
    }
}

/// The control thread's end of the mesh.
pub struct Control {
    ends: Ends<Parcel>,
    bell: Arc<Rung>,
    asleep: bool,
    waiting: VecDeque<(CoreId, Parcel)>,
    wake_at: Option<Instant>,
    /// What cores said.
    pub reports: VecDeque<Report>,
}

impl Control {
    pub fn new(mut ends: Ends<Parcel>, now: Instant) -> Control {
        let bell = Arc::new(Rung::default());
        ends.parking().connect(bell.clone());
        let (waiting, reports) = (VecDeque::new(), VecDeque::new());
        // It looks once before it sleeps: nobody rings for who is awake.
        Control { ends, bell, asleep: false, waiting, wake_at: Some(now), reports }
    }

    /// A message for a core; sent on the next run.
    pub fn tell(&mut self, core: CoreId, message: Message) {
        self.waiting.push_back((core, (Box::new(message), Hop::default())));
    }

    /// It sleeps although something waits for it on the mesh, and nobody rang.
    pub fn overslept(&self) -> bool {
        self.asleep && self.wake_at.is_none() && !self.ends.is_empty()
    }

    /// When it runs next.
    pub fn next(&self) -> Option<Instant> {
        self.wake_at
    }

    pub fn wake_by(&mut self, at: Instant) {
        self.wake_at = Some(self.wake_at.map_or(at, |set| set.min(at)));
    }

    pub fn rung(&self) -> bool {
        self.bell.0.swap(false, Ordering::Relaxed)
    }

    /// Sends what waits, and takes what came.
    pub fn run(&mut self, now: Instant) {
        self.wake_at = None;
        if std::mem::take(&mut self.asleep) {
            self.ends.awake();
        }
        while let Some((to, parcel)) = self.waiting.pop_front() {
            if let Err(Full(parcel)) = self.ends.send(to, parcel) {
                self.waiting.push_front((to, parcel));
                break;
            }
        }
        while let Some((_, (message, _))) = self.ends.receive() {
            if let Message::Report(report) = *message {
                self.reports.push_back(report);
            }
        }
        self.ends.flush();
        self.asleep = self.ends.prepare() == Readiness::Sleep;
        if !self.asleep {
            self.wake_by(now + Duration::from_micros(1));
        }
        if !self.waiting.is_empty() {
            self.wake_by(now + Duration::from_micros(50));
        }
    }
}

/// What cores meet.
pub const FAULTS: [&str; 2] = ["mesh ring full", "socket full"];
