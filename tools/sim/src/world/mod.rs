//! The world: machines, actors, a network and one clock, on one thread and from one seed.

pub mod atlas;
pub mod clock;
pub mod clocks;
pub mod core;
pub mod disk;
pub mod faults;
pub mod life;
pub mod log;
pub mod machine;
pub mod network;
pub mod origin;
pub mod planted;
pub mod survey;
pub mod weather;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pangea_base::{Entropy, PeerAddr, PeerId};
use pangea_engine::message::Report;
use pangea_transport::testing::Witness;

use crate::actor::Actor;
use crate::enemies;
use atlas::{Atlas, Object};
use clock::NodeClock;
use disk::{Character, NodeDisk};
use faults::Deeds;
use log::Log;
use machine::{Machine, Made};
use network::{Network, Packet, Place, Train};
use origin::{Origin, Work};
use planted::{Plant, Planted};
use weather::Weather;

/// What went wrong, if something did: the first thing counts.
#[derive(Debug, Clone)]
pub struct Failure {
    pub at: Duration,
    pub what: String,
}

/// Somebody on the network who is no node of ours.
struct Visitor {
    actor: Box<dyn Actor>,
    wake_at: Option<Instant>,
    busy: bool,
}

/// Everything. Places are numbered: machines first (holders, then origins), then visitors.
pub struct World {
    pub now: Instant,
    pub began: Instant,
    pub weather: Weather,
    pub log: Log,
    pub failure: Option<Failure>,
    pub objects: Vec<Object>,
    pub tally: Tally,
    machines: Vec<Machine>,
    visitors: Vec<Visitor>,
    origins: Vec<Origin>,
    network: Network,
    atlas: Atlas,
    deeds: Deeds,
    witness: Witness,
    chance: Entropy,
    // Whom origins are told to store at, and where they are.
    known: Vec<PeerAddr>,
    // Holders that are not where they were at first, and where that was.
    moved: BTreeMap<PeerId, SocketAddr>,
    // Of them, who gives no receipt without a flaw.
    forgers: Vec<PeerId>,
    // Objects that are to be read in the time of calm.
    to_read: Vec<usize>,
    checked_at: Instant,
    // What enemies did that have left.
    deeds_done: BTreeMap<&'static str, u64>,
    is_calm: bool,
    is_closing: bool,
    // Objects whose receipts are to be compared with what is held, and whether that has begun.
    to_count: Vec<usize>,
    is_counting: bool,
    // Whose next receipt its power does not survive.
    armed: Option<Place>,
    // The fault that is built in.
    plant: Option<Plant>,
    // Nobody's place is slow for a reason but squatters: how long a get may take is known.
    only_squatters: bool,
    // What every core of a large machine had when it was surveyed.
    surveyed: survey::Before,
    // Bytes that all nodes had when everybody stood still.
    kept_before: u64,
}

/// What was done in a world.
#[derive(Default, Clone, Debug)]
pub struct Tally {
    pub puts: u64,
    pub puts_degraded: u64,
    pub puts_failed: u64,
    pub gets: u64,
    pub gets_failed: u64,
    pub stats: u64,
    pub restarts: u64,
    pub bytes: u64,
    pub steps: u64,
    /// Bytes of disk that were freed when leases had ended.
    pub freed: u64,
    /// Machines with very many cores.
    pub large: u64,
    /// Enemies that came, by the names of their scripts.
    pub enemies: BTreeMap<&'static str, u64>,
}

impl World {
    /// The world of a seed, at its beginning; its last `kept` events are kept to be shown. With a
    /// planted fault it is one in which that comes out.
    pub fn new(seed: u64, kept: usize, plant: Option<Plant>) -> World {
        let mut key = *b"pangea world                    ";
        key[24..].copy_from_slice(&seed.to_le_bytes());
        let mut chance = Entropy::new(key);
        let weather = Weather::draw(&mut chance);
        let weather = plant.into_iter().fold(weather, Weather::with);
        let now = Instant::now();
        let mut world = World {
            now,
            began: now,
            log: Log::new(now, kept),
            failure: None,
            objects: Vec::new(),
            tally: Tally::default(),
            machines: Vec::new(),
            visitors: Vec::new(),
            origins: Vec::new(),
            network: Network::new(weather.path, chance.split()),
            atlas: Atlas::new(weather.is_lawful),
            deeds: Deeds::default(),
            witness: Witness::default(),
            known: Vec::new(),
            moved: BTreeMap::new(),
            forgers: Vec::new(),
            to_read: Vec::new(),
            checked_at: now,
            deeds_done: BTreeMap::new(),
            is_calm: false,
            is_closing: false,
            to_count: Vec::new(),
            is_counting: false,
            armed: None,
            plant,
            only_squatters: true,
            surveyed: survey::Before::new(),
            kept_before: 0,
            chance,
            weather,
        };
        world.tally.large = world.weather.large as u64;
        world.populate();
        world
    }

    fn populate(&mut self) {
        let holders = self.weather.holders;
        for place in 0..holders + self.weather.origins {
            let is_holder = place < holders;
            let machine = self.machine(place, is_holder);
            self.network.set_place(machine.addr, Some(place));
            if is_holder {
                self.atlas.add(machine.identity.peer(), place);
                self.known.push(machine.peer_addr());
            } else {
                // Every store is open by then.
                let next = self.now + Duration::from_millis(15_000 + self.chance.below(3000));
                self.origins.push(Origin::new(place, next));
            }
            self.machines.push(machine);
        }
        for liar in 0..self.weather.liars.min(holders) {
            let character = self.weather.lying(&mut self.chance);
            self.machines[liar].disk.character = character;
            self.atlas.ruin(liar);
        }
        let nodes: Vec<PeerAddr> = self.known.clone();
        self.invite(&nodes);
        self.set_clocks();
        for machine in &mut self.machines {
            machine.start(self.now, &self.witness);
        }
    }

    fn machine(&mut self, place: Place, is_holder: bool) -> Machine {
        let chance = &mut self.chance;
        let drift = self.weather.drift;
        let drift = if drift == 0 { 0 } else { chance.below(drift.unsigned_abs()) as i64 };
        let drift = if self.weather.drift < 0 { -drift } else { drift };
        let clock = NodeClock::new(self.began, drift);
        let character = Character { micros: self.weather.disk_micros, ..Character::default() };
        let disk = NodeDisk::new(chance.split(), character);
        let setup = self.weather.setup(chance, place);
        let (name, addr) = match is_holder {
            true => (format!("holder {place}"), address(place as u8, 1)),
            false => (format!("origin {place}"), address(200 + place as u8, 1)),
        };
        let planted = Planted::new(self.plant);
        let made = Made { name, place, addr, clock, disk, setup, planted };
        Machine::new(made, chance.split(), &mut self.log)
    }

    /// Scripts that the seed draws come along. In a lawful world those that cost a shard are no more
    /// than a put can bear.
    fn invite(&mut self, nodes: &[PeerAddr]) {
        let spare = self.weather.tolerance();
        let mut costly = self.weather.liars;
        for number in 0..self.weather.enemies + usize::from(self.weather.squatter) {
            let place = self.machines.len() + self.visitors.len();
            let which = self.chance.below(enemies::Script::ALL.len() as u64) as usize;
            let script = match number == self.weather.enemies {
                true => enemies::Script::Squatter,
                false => enemies::Script::ALL[which],
            };
            let costs = enemies::harm(script) != enemies::Harm::Nothing;
            if costs && self.weather.is_lawful && costly >= spare {
                continue;
            }
            costly += usize::from(costs);
            self.only_squatters &= script == enemies::Script::Squatter;
            let addr = address(100 + number as u8, 2);
            let seed = pangea_base::Secret::new(self.chance.array());
            let identity = pangea_base::Identity::from_seed(seed);
            let mut actor = enemies::enemy(script, identity, addr, self.chance.split(), self.now);
            actor.meet(nodes);
            self.network.set_place(addr, Some(place));
            for elsewhere in actor.elsewhere() {
                self.network.set_place(*elsewhere, Some(place));
            }
            *self.tally.enemies.entry(script.name()).or_default() += 1;
            self.log
                .say(self.now, &format!("an enemy comes: {}: {}", script.name(), script.meaning()));
            if actor.is_holder() {
                self.known.push(actor.addr());
                self.atlas.add(actor.addr().peer, place);
            }
            if enemies::forges_receipts(script) {
                self.forgers.push(actor.addr().peer);
            }
            // Where everything may be lost but one holder, that one may be anybody.
            if costs || (actor.is_holder() && !self.weather.is_lawful) {
                self.atlas.ruin(place);
            }
            self.visitors.push(Visitor { actor, wake_at: Some(self.now), busy: true });
        }
    }

    /// Time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.now - self.began
    }

    /// Something is wrong: the first such thing is kept.
    pub fn fail(&mut self, what: String) {
        if self.failure.is_none() {
            self.failure = Some(Failure { at: self.elapsed(), what });
        }
    }

    /// Bytes that were sent.
    pub fn bytes_sent(&self) -> u64 {
        self.network.bytes
    }

    /// What enemies did, by name.
    pub fn deeds_of_enemies(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let here = self.visitors.iter().flat_map(|visitor| visitor.actor.deeds());
        here.chain(&self.deeds_done).map(|(name, count)| (*name, *count))
    }

    /// Moves on to what happens next, at most to `end`.
    pub fn step(&mut self, end: Instant) {
        self.tally.steps += 1;
        let next = self.next().unwrap_or(end);
        self.now = next.max(self.now).min(end);
        self.deliver();
        for place in 0..self.machines.len() {
            if self.machines[place].disk.next().is_some_and(|at| at <= self.now) {
                self.machines[place].disk_ended(self.now, &mut self.log);
            }
        }
        self.run_cores();
        self.run_visitors();
        self.run_origins();
        self.run_deeds();
        if self.checked_at + Duration::from_secs(1) <= self.now {
            self.checked_at = self.now;
            self.check();
        }
    }

    fn next(&self) -> Option<Instant> {
        let mut next = [self.network.next(), self.deeds.next()].into_iter().flatten().min();
        let mut sooner = |at: Option<Instant>| next = [next, at].into_iter().flatten().min();
        for machine in &self.machines {
            let Some(process) = &machine.process else { continue };
            sooner(machine.disk.next());
            process.cores.iter().for_each(|core| sooner(core.next()));
            sooner(process.control.next());
        }
        for visitor in &self.visitors {
            sooner(visitor.wake_at);
        }
        for origin in &self.origins {
            match origin.work {
                Some(_) => sooner(Some(origin.looks)),
                None if !self.is_calm => sooner(Some(origin.next)),
                None => {}
            }
        }
        next
    }

    fn deliver(&mut self) {
        while let Some((place, packet)) = self.network.arrived(self.now) {
            let Some(place) = place else {
                self.refuse(&packet);
                continue;
            };
            if let Some(visitor) = place.checked_sub(self.machines.len()) {
                let visitor = &mut self.visitors[visitor];
                let Packet { from, ecn, stride, data, .. } = packet;
                visitor.actor.datagrams(self.now, from, ecn, stride, &data);
                visitor.busy = true;
                continue;
            }
            let machine = &mut self.machines[place];
            let Some(process) = &mut machine.process else {
                self.refuse(&packet);
                continue;
            };
            let cores = process.cores.len() as u64;
            let core = match machine.setup.steer_mesh {
                true => 0,
                false => self.chance.below(cores) as usize,
            };
            if !process.cores[core].receive(self.now, packet) {
                self.log.count("socket full");
            }
        }
    }

    /// Nobody takes a packet. Some systems say so to who sent it, to whichever of its cores.
    fn refuse(&mut self, packet: &Packet) {
        let sender = self.network.place(packet.from).and_then(|place| self.machines.get_mut(place));
        let Some(process) = sender.and_then(|machine| machine.process.as_mut()) else { return };
        if self.chance.below(2) == 0 {
            let core = self.chance.below(process.cores.len() as u64) as usize;
            process.cores[core].refused(self.now, packet.to);
            self.log.count("refused");
        }
    }

    fn run_cores(&mut self) {
        let now = self.now;
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let mut ready = Vec::new();
        for (place, machine) in self.machines.iter().enumerate() {
            let cores = machine.process.iter().flat_map(|process| process.cores.iter().enumerate());
            ready.extend(cores.filter(|(_, core)| due(core.next())).map(|(core, _)| (place, core)));
        }
        // Whoever is ready runs, in any order.
        while !ready.is_empty() {
            let which = self.chance.below(ready.len() as u64) as usize;
            let (place, core) = ready.swap_remove(which);
            let before = (self.armed == Some(place)).then(|| self.log.receipts());
            self.machines[place].run(core, now, &mut self.network, &mut self.log);
            self.check_bells(place);
            if before.is_some_and(|before| self.log.receipts() > before) {
                self.cut_at_receipt(place);
            }
        }
        for place in 0..self.weather.holders {
            let Some(process) = &mut self.machines[place].process else { continue };
            if due(process.control.next()) {
                process.run_control(now);
                self.hear(place);
            }
        }
    }

    /// What the cores of a holder tell its control.
    fn hear(&mut self, place: Place) {
        let machine = &mut self.machines[place];
        let Some(process) = &mut machine.process else { return };
        let mut failed = None;
        while let Some(report) = process.report() {
            match report {
                Report::StoreFailed(why) => failed = Some(why),
                Report::Clock(status) => {
                    machine.watch.said(status, machine.clock.off());
                    self.log.say(self.now, &format!("{}: clock {status:?}", machine.name));
                }
                Report::Ready { shards, bytes } => {
                    let what = format!("{} opens {shards} shards, {bytes} B", machine.name);
                    self.log.say(self.now, &what);
                }
                _ => {}
            }
        }
        if let Some(why) = failed {
            self.store_failed(place, &why);
        }
    }

    fn run_visitors(&mut self) {
        let mut buffer = Vec::new();
        let wall = NodeClock::new(self.began, 0).wall(self.now);
        for (number, visitor) in self.visitors.iter_mut().enumerate() {
            if !visitor.busy && visitor.wake_at.is_none_or(|at| at > self.now) {
                continue;
            }
            visitor.busy = visitor.actor.turn(self.now, wall);
            for _ in 0..64 {
                buffer.clear();
                let sent = visitor.actor.transmit(self.now, &mut buffer);
                let Some((meta, from)) = sent else { break };
                let train = Train {
                    source: self.machines.len() + number,
                    from: from.unwrap_or(visitor.actor.addr().addr),
                    to: meta.dst,
                    ecn: meta.ecn,
                    stride: meta.segment.map_or(buffer.len(), usize::from),
                    data: &buffer,
                };
                self.network.send(self.now, train, &mut self.log);
            }
            let soon = self.now + Duration::from_micros(100);
            let deadline = visitor.actor.deadline().map(|at| at.max(soon));
            visitor.wake_at = if visitor.busy { Some(soon) } else { deadline };
            visitor.busy = false;
        }
    }

    fn works(origins: &[Origin]) -> impl Iterator<Item = &Work> {
        origins.iter().filter_map(|origin| origin.work.as_ref())
    }
}

fn address(third: u8, last: u8) -> std::net::SocketAddr {
    std::net::SocketAddr::from(([10, 0, third, last], 9090))
}

/// The names of all faults that worlds know.
pub fn fault_names() -> Vec<&'static str> {
    let single = weather::Fault::ALL.into_iter().map(weather::Fault::name);
    single.chain(network::FAULTS).chain(disk::FAULTS).chain(core::FAULTS).collect()
}
