//! The network: what becomes of a train on its way from one place to another.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pangea_base::Entropy;

use super::log::Log;

/// A machine or an actor, by number.
pub type Place = usize;

/// Bytes that stand in every object's plaintext and must be on no wire and on no disk.
pub const CANARY: &[u8; 16] = b"NOBODY MAY SEE.\0";

/// What happens to datagrams, in ten-thousandths, and how long they take.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    pub lost: u64,
    pub duplicated: u64,
    pub reordered: u64,
    pub replayed: u64,
    pub flipped: u64,
    pub cut: u64,
    pub grown: u64,
    /// One way.
    pub delay: Duration,
    /// And up to so much more.
    pub jitter: Duration,
    /// Longer datagrams vanish.
    pub mtu: usize,
}

/// A train on its way.
pub struct Packet {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub ecn: Option<u8>,
    pub stride: usize,
    pub data: Vec<u8>,
}

/// What is to go out.
pub struct Train<'a> {
    pub source: Place,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub ecn: Option<u8>,
    pub stride: usize,
    pub data: &'a [u8],
}

/// The network.
pub struct Network {
    usual: Path,
    // What is otherwise at a place, for all that comes from or goes to it.
    at: BTreeMap<Place, Path>,
    places: BTreeMap<SocketAddr, Place>,
    // From whom nothing reaches whom.
    severed: BTreeSet<(Place, Place)>,
    // Nothing reaches this place before.
    clogged: BTreeMap<Place, Instant>,
    flying: BTreeMap<(Instant, u64), Packet>,
    sequence: u64,
    // Datagrams that may come once more, much later.
    seen: VecDeque<Packet>,
    chance: Entropy,
    /// Bytes that were sent.
    pub bytes: u64,
    /// Trains that were sent.
    pub trains: u64,
    /// Bytes sent to and by each place.
    pub carried: BTreeMap<(Place, Place), u64>,
    /// Where plaintext was seen.
    pub leak: Option<String>,
}

/// Datagrams remembered for being replayed.
const SEEN: usize = 64;

impl Network {
    pub fn new(usual: Path, chance: Entropy) -> Network {
        Network {
            usual,
            at: BTreeMap::new(),
            places: BTreeMap::new(),
            severed: BTreeSet::new(),
            clogged: BTreeMap::new(),
            flying: BTreeMap::new(),
            sequence: 0,
            seen: VecDeque::new(),
            chance,
            bytes: 0,
            trains: 0,
            carried: BTreeMap::new(),
            leak: None,
        }
    }

    /// An address leads to a place, or (`None`) to nobody.
    pub fn set_place(&mut self, addr: SocketAddr, place: Option<Place>) {
        match place {
            Some(place) => self.places.insert(addr, place),
            None => self.places.remove(&addr),
        };
    }

    /// Nobody is at a place any more.
    pub fn forget(&mut self, place: Place) {
        self.places.retain(|_, at| *at != place);
    }

    /// Who is at an address.
    pub fn place(&self, addr: SocketAddr) -> Option<Place> {
        self.places.get(&addr).copied()
    }

    /// What is usual everywhere.
    pub fn usual(&self) -> Path {
        self.usual
    }

    /// From now on it is so for all that comes from or goes to `place`.
    pub fn set_path(&mut self, place: Place, path: Option<Path>) {
        match path {
            Some(path) => self.at.insert(place, path),
            None => self.at.remove(&place),
        };
    }

    /// Nothing gets from one to the other.
    pub fn sever(&mut self, from: Place, to: Place) {
        self.severed.insert((from, to));
    }

    /// Everything gets to and from `place` again.
    pub fn mend(&mut self, place: Place) {
        self.severed.retain(|(from, to)| *from != place && *to != place);
    }

    /// What is sent to `place` stays under way until then, and comes at once.
    pub fn clog(&mut self, place: Place, until: Instant) {
        self.clogged.insert(place, until);
    }

    /// Everything is well from now on.
    pub fn heal(&mut self, good: Path) {
        self.usual = good;
        self.at.clear();
        self.severed.clear();
        self.clogged.clear();
        self.seen.clear();
    }

    /// When the next train arrives.
    pub fn next(&self) -> Option<Instant> {
        self.flying.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next train that has arrived by now, and where; `None`: nobody is there.
    pub fn arrived(&mut self, now: Instant) -> Option<(Option<Place>, Packet)> {
        let entry = self.flying.first_entry().filter(|entry| entry.key().0 <= now)?;
        let packet = entry.remove();
        Some((self.place(packet.to), packet))
    }

    /// Sends a train: datagrams that meet no accident stay together, as GRO would have it.
    pub fn send(&mut self, now: Instant, train: Train<'_>, log: &mut Log) {
        let Train { source, from, to, ecn, stride, data } = train;
        log.fold_bytes(data);
        self.bytes += data.len() as u64;
        self.trains += 1;
        self.look_for_plaintext(from, to, data);
        let Some(target) = self.place(to) else {
            let packet = Packet { from, to, ecn, stride, data: data.to_vec() };
            return self.fly(now + self.usual.delay, packet);
        };
        *self.carried.entry((source, target)).or_default() += data.len() as u64;
        if self.severed.contains(&(source, target)) {
            log.count("severed");
            return;
        }
        let path = self.path(source, target);
        let mut together = Vec::new();
        for datagram in data.chunks(stride.max(1)) {
            if datagram.len() > path.mtu {
                log.count("too long for the path");
            } else if self.chance(path.lost, "lost", log) {
                // Gone.
            } else if let Some((at, damaged)) = self.accident(now, &path, datagram, log) {
                let at = at.max(self.clear(now, target, log));
                self.fly(at, Packet { from, to, ecn, stride: damaged.len().max(1), data: damaged });
            } else {
                together.extend_from_slice(datagram);
                if self.chance(path.duplicated, "duplicated", log) {
                    let (at, data) = (now + self.delay(&path), datagram.to_vec());
                    self.fly(at, Packet { from, to, ecn, stride: data.len(), data });
                }
            }
        }
        self.replay(now, &path, log);
        if together.is_empty() {
            return;
        }
        let at = (now + self.delay(&path)).max(self.clear(now, target, log));
        if self.seen.len() < SEEN || self.chance.below(4) == 0 {
            let data = together[..together.len().min(stride)].to_vec();
            self.seen.push_back(Packet { from, to, ecn, stride: data.len(), data });
            self.seen.truncate(SEEN);
        }
        self.fly(at, Packet { from, to, ecn, stride, data: together });
    }

    /// What happens to one datagram besides being lost; it then travels alone.
    fn accident(
        &mut self,
        now: Instant,
        path: &Path,
        datagram: &[u8],
        log: &mut Log,
    ) -> Option<(Instant, Vec<u8>)> {
        let mut data = datagram.to_vec();
        let on_time = now + self.delay(path);
        if self.chance(path.flipped, "bit flipped on the way", log) {
            let at = self.chance.below(data.len().max(1) as u64) as usize;
            data[at] ^= 1 << self.chance.below(8);
            return Some((on_time, data));
        }
        if self.chance(path.cut, "cut short on the way", log) {
            data.truncate(1 + self.chance.below(data.len().max(1) as u64) as usize);
            return Some((on_time, data));
        }
        if self.chance(path.grown, "grown on the way", log) {
            let more = 1 + self.chance.below(64) as usize;
            data.resize(data.len() + more, self.chance.below(256) as u8);
            return Some((on_time, data));
        }
        if self.chance(path.reordered, "reordered", log) {
            let late = (path.delay + path.jitter).as_nanos() as u64 * 4;
            return Some((on_time + Duration::from_nanos(self.chance.below(late.max(1))), data));
        }
        None
    }

    fn replay(&mut self, now: Instant, path: &Path, log: &mut Log) {
        if self.seen.is_empty() || !self.chance(path.replayed, "replayed", log) {
            return;
        }
        let which = self.chance.below(self.seen.len() as u64) as usize;
        if let Some(packet) = self.seen.remove(which) {
            let at = now + Duration::from_millis(self.chance.below(5000));
            self.fly(at, packet);
        }
    }

    fn path(&self, source: Place, target: Place) -> Path {
        let usual = &self.usual;
        let ends = [source, target].map(|place| self.at.get(&place).unwrap_or(usual));
        let worse = |part: fn(&Path) -> u64| part(ends[0]).max(part(ends[1]));
        Path {
            lost: worse(|p| p.lost),
            duplicated: worse(|p| p.duplicated),
            reordered: worse(|p| p.reordered),
            replayed: worse(|p| p.replayed),
            flipped: worse(|p| p.flipped),
            cut: worse(|p| p.cut),
            grown: worse(|p| p.grown),
            delay: ends[0].delay.max(ends[1].delay),
            jitter: ends[0].jitter.max(ends[1].jitter),
            mtu: ends[0].mtu.min(ends[1].mtu),
        }
    }

    fn delay(&mut self, path: &Path) -> Duration {
        let jitter = path.jitter.as_nanos() as u64;
        path.delay + Duration::from_nanos(self.chance.below(jitter.max(1)))
    }

    /// When the way to a place is free.
    fn clear(&mut self, now: Instant, target: Place, log: &mut Log) -> Instant {
        match self.clogged.get(&target) {
            Some(&until) if until > now => {
                log.count("held up by a clog");
                until
            }
            _ => now,
        }
    }

    fn fly(&mut self, at: Instant, packet: Packet) {
        self.sequence += 1;
        self.flying.insert((at, self.sequence), packet);
    }

    fn chance(&mut self, share: u64, what: &'static str, log: &mut Log) -> bool {
        let happens = share > 0 && self.chance.below(10_000) < share;
        if happens {
            log.count(what);
        }
        happens
    }

    fn look_for_plaintext(&mut self, from: SocketAddr, to: SocketAddr, data: &[u8]) {
        if self.leak.is_none() && memchr::memmem::find(data, CANARY).is_some() {
            self.leak = Some(format!("plaintext went from {from} to {to}"));
        }
    }
}

/// What it does to datagrams.
pub const FAULTS: [&str; 11] = [
    "lost",
    "duplicated",
    "reordered",
    "replayed",
    "bit flipped on the way",
    "cut short on the way",
    "grown on the way",
    "severed",
    "too long for the path",
    "held up by a clog",
    "refused",
];
