//! What a store is made to do before the power is cut.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use pangea_base::{ChunkNumber, Entropy, Hash, Locator, PeerId, ShardIndex, ShardKey, UnixTime};
use pangea_store::sim::old::{self, OldPut};
use pangea_store::sim::{Disk, Image};
use pangea_store::{
    BlobKey, BlobKind, Clock, Event, Key, MakeRoom, OwnedShard, ShardMeta, WriteId,
};

use super::check::{Opened, recover};
use super::history::History;
use super::rig::{OLD_OWNER, OWNERS, Rig, code, pool, prefix_of};

const DAY: u64 = 24 * 3600;
/// Time that passes at once: a short lease is over then, and not for so long that it is let go.
const EXPIRE: u64 = 20 * 3600;
const LEASES: [u64; 2] = [DAY / 2, 100 * DAY];
/// Objects that workloads put.
pub const LOCATORS: [Locator; 2] = [Locator([1; 32]), Locator([2; 32])];
/// Operations of the longest sequence of which all are tried.
const SEQUENCE_MAX: u32 = 3;
/// Long workloads in a round.
const LONG: u64 = 100;

/// One operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A shard that is not there yet.
    Put,
    /// The key of the last put, with other bytes: refused, or the old one is over and makes way.
    Again,
    /// The key of the last put, by another owner.
    Other,
    Delete,
    /// A manifest page.
    Blob,
    /// A placement page, which takes the place of the same owner's older one.
    Page,
    /// Time passes: leases end, and what has no manifest goes.
    Expire,
    /// Room is asked for: what is over goes, and an owner's orphans.
    Room,
    /// The time is written down.
    Clock,
    /// A shard that needs a new extent.
    Grow,
    /// Puts until the journal is replaced.
    Rotate,
    /// Killed, and opened again.
    Reopen,
}

pub const STEPS: [Step; 12] = [
    Step::Put,
    Step::Again,
    Step::Other,
    Step::Delete,
    Step::Blob,
    Step::Page,
    Step::Expire,
    Step::Room,
    Step::Clock,
    Step::Grow,
    Step::Rotate,
    Step::Reopen,
];

/// A list of operations, and what they begin with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Workload {
    pub steps: Vec<Step>,
    pub start: Start,
    /// Drawn, not listed: too many moments to look at each of them closely.
    pub is_long: bool,
}

/// What is there before the first operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    Nothing,
    Something,
    /// A store of the program before this one.
    Format1,
}

/// All of them.
pub const STARTS: [Start; 3] = [Start::Nothing, Start::Something, Start::Format1];

/// Sequences of at most [`SEQUENCE_MAX`] operations, each on every start.
fn sequences() -> u64 {
    STARTS.len() as u64
        * (1..=SEQUENCE_MAX).map(|length| (STEPS.len() as u64).pow(length)).sum::<u64>()
}

/// Workloads of one round: every sequence, and the long ones.
pub fn round() -> u64 {
    sequences() + LONG
}

impl Workload {
    /// The workload with this number in its round.
    pub fn numbered(number: u64, random: &mut Entropy) -> Workload {
        if number >= sequences() {
            let count = 40 + random.below(160);
            let steps = (0..count).map(|_| long_step(random)).collect();
            let start = STARTS[random.below(STARTS.len() as u64) as usize];
            return Workload { steps, start, is_long: true };
        }
        let starts = STARTS.len() as u64;
        let start = STARTS[(number % starts) as usize];
        let (mut rest, mut length) = (number / starts, 1);
        while rest >= (STEPS.len() as u64).pow(length) {
            rest -= (STEPS.len() as u64).pow(length);
            length += 1;
        }
        let digit = |place: u32| rest / (STEPS.len() as u64).pow(place) % STEPS.len() as u64;
        let steps = (0..length).map(|place| STEPS[digit(place) as usize]).collect();
        Workload { steps, start, is_long: false }
    }
}

fn long_step(random: &mut Entropy) -> Step {
    match random.below(28) {
        0..=6 => Step::Put,
        7 | 8 => Step::Again,
        9 | 10 => Step::Other,
        11..=15 => Step::Delete,
        16 | 17 => Step::Blob,
        18..=20 => Step::Page,
        21 | 22 => Step::Expire,
        23 => Step::Room,
        24 => Step::Clock,
        25 => Step::Grow,
        26 => Step::Rotate,
        _ => Step::Reopen,
    }
}

/// What a workload leaves: a disk with its log, and what was said.
pub struct Lived {
    pub disk: Disk,
    pub history: History,
    /// Moments before this one are of other workloads too.
    pub start: usize,
    /// The time at its end.
    pub now: UnixTime,
}

/// Lives a workload. An error is something wrong without any cut.
pub fn live(workload: &Workload, seed: u64) -> Result<Lived, String> {
    let mut life = Life::new(seed, workload.start);
    life.rig.opened()?;
    life.expire_at(life.now)?;
    if workload.start == Start::Something {
        life.put_sized(5000)?;
        let (locator, owner) = (life.locator(), life.owner());
        life.blob(BlobKind::ManifestRoot, locator, owner)?;
        life.settle()?;
    }
    let is_furnished = workload.start == Start::Something;
    let start = if is_furnished { life.rig.medium.moment() } else { 0 };
    for step in &workload.steps {
        life.take(*step, workload.is_long)?;
        // Some wait for what they did, some go on at once.
        match life.random.below(3) {
            0 => life.settle()?,
            _ => {
                for _ in 0..life.random.below(6) {
                    life.step()?;
                }
            }
        }
    }
    life.settle()?;
    life.used_is_held()?;
    Ok(Lived { disk: life.rig.medium, history: life.history, start, now: life.now })
}

struct Life {
    rig: Rig<Disk>,
    history: History,
    random: Entropy,
    writes: BTreeMap<WriteId, Key>,
    blobs: BTreeMap<u64, Key>,
    last: Option<OwnedShard>,
    next_chunk: u32,
    now: UnixTime,
    is_old: bool,
}

impl Life {
    fn new(seed: u64, start: Start) -> Life {
        let now = UnixTime(100 * DAY);
        let mut history = History::default();
        let disk = match start {
            Start::Format1 => Disk::with_image(old_store(now, &mut history), seed),
            Start::Nothing | Start::Something => Disk::new(seed),
        };
        Life {
            rig: Rig::start(disk, pool(24), now),
            history,
            random: entropy(seed, 1),
            writes: BTreeMap::new(),
            blobs: BTreeMap::new(),
            last: None,
            next_chunk: 0,
            now,
            is_old: start == Start::Format1,
        }
    }

    fn step(&mut self) -> Result<bool, String> {
        let any = self.rig.step();
        self.hear()?;
        Ok(any)
    }

    fn settle(&mut self) -> Result<(), String> {
        while self.step()? {}
        Ok(())
    }

    /// What is said is said at this moment.
    fn hear(&mut self) -> Result<(), String> {
        let moment = self.rig.medium.moment();
        let events = std::mem::take(&mut self.rig.events);
        events.into_iter().try_for_each(|event| self.note(moment, event))
    }

    fn note(&mut self, moment: usize, event: Event) -> Result<(), String> {
        match event {
            Event::Stored { id, .. } => self.history.stored(&self.writes[&id], moment),
            Event::BlobStored { token, .. } => self.history.stored(&self.blobs[&token], moment),
            Event::Deleted { key, .. } => self.history.deleted(&key, moment),
            Event::Believed { time } => self.history.believed(time, moment),
            Event::Appendable { .. } | Event::RoomMade { .. } => {}
            other => return Err(format!("on a disk without faults: {other:?}")),
        }
        Ok(())
    }

    fn take(&mut self, step: Step, is_long: bool) -> Result<(), String> {
        match step {
            Step::Put => {
                if is_long {
                    self.next_chunk = self.random.below(12) as u32;
                }
                let size = [0, 100, 4096, 16384, 20_000, 40_000][self.random.below(6) as usize];
                self.put_sized(size)
            }
            Step::Again => match self.last {
                Some(shard) => self.put(shard, 3000),
                None => self.put_sized(3000),
            },
            Step::Other => match self.last {
                Some(OwnedShard { key, owner }) => {
                    let at = OWNERS.iter().position(|other| *other == owner).unwrap_or(0);
                    self.put(OwnedShard { key, owner: OWNERS[(at + 1) % OWNERS.len()] }, 3000)
                }
                None => self.put_sized(3000),
            },
            Step::Delete => self.delete(is_long),
            Step::Blob => {
                let kind = [BlobKind::ManifestRoot, BlobKind::ManifestPage];
                let kind = kind[self.random.below(2) as usize];
                let (locator, owner) = (self.locator(), self.owner());
                self.blob(kind, locator, owner)
            }
            Step::Page => self.page(is_long),
            Step::Expire => {
                self.now = UnixTime(self.now.0 + EXPIRE);
                self.expire_at(self.now)
            }
            Step::Room => self.make_room(),
            Step::Clock => self.believe(),
            Step::Grow => self.put_sized(90_000),
            Step::Rotate => {
                for _ in 0..6 {
                    self.put_sized(0)?;
                    self.settle()?;
                }
                Ok(())
            }
            Step::Reopen => self.reopen(),
        }
    }

    fn owner(&mut self) -> PeerId {
        OWNERS[self.random.below(OWNERS.len() as u64) as usize]
    }

    fn locator(&mut self) -> Locator {
        LOCATORS[self.random.below(2) as usize]
    }

    fn put_sized(&mut self, size: usize) -> Result<(), String> {
        let locator = self.locator();
        let chunk = ChunkNumber(self.next_chunk);
        self.next_chunk += 1;
        let (key, owner) = (ShardKey { locator, chunk, index: ShardIndex(1) }, self.owner());
        self.put(OwnedShard { key, owner }, size)
    }

    fn put(&mut self, shard: OwnedShard, size: usize) -> Result<(), String> {
        let mut bytes = vec![0; size];
        self.random.fill(&mut bytes);
        let lease = LEASES[self.random.below(2) as usize];
        let (root, length) = (Hash::of(&bytes), size as u64);
        let meta = ShardMeta {
            owner: shard.owner,
            prefix: prefix_of(shard.owner, root),
            code: code(),
            until: UnixTime(self.now.0 + lease),
            length_max: length,
        };
        self.last = Some(shard);
        let begun = self.rig.medium.moment();
        // The log says when what happened, also while the put waited for pages.
        let mut told = Vec::new();
        let put = self.rig.put_soon(shard.key, meta, &bytes, |rig| {
            let moment = rig.medium.moment();
            told.extend(std::mem::take(&mut rig.events).into_iter().map(|event| (moment, event)));
        });
        if let Ok(id) = put {
            self.writes.insert(id, Key::Shard(shard));
            self.history.begun(Key::Shard(shard), (root, length, meta.until), begun);
        }
        for (moment, event) in told {
            self.note(moment, event)?;
        }
        self.hear()
    }

    /// What is held, seen or over.
    fn held(&self) -> BTreeSet<Key> {
        let all = self.history.names.keys();
        all.filter(|key| self.rig.store.disk_bytes(key).is_some()).copied().collect()
    }

    /// At rest the space in use is that of what is held.
    fn used_is_held(&self) -> Result<(), String> {
        let held = self.held();
        let bytes = held.iter().filter_map(|key| self.rig.store.disk_bytes(key)).sum::<u64>();
        let used = self.rig.store.used_bytes();
        match used == bytes {
            true => Ok(()),
            false => Err(format!("at rest {used} bytes are in use, what is held takes {bytes}")),
        }
    }

    fn delete(&mut self, is_long: bool) -> Result<(), String> {
        let held: Vec<Key> = self.held().into_iter().collect();
        let last = held.iter().find(|key| self.last.map(Key::Shard) == Some(**key));
        let chosen = match last {
            Some(last) if !is_long => Some(*last),
            _ if held.is_empty() => None,
            _ => Some(held[self.random.below(held.len() as u64) as usize]),
        };
        let Some(key) = chosen else { return Ok(()) };
        let moment = self.rig.medium.moment();
        if self.rig.store.delete(key).is_ok() {
            self.history.delete_begun(&key, moment);
        }
        self.rig.drain();
        self.hear()
    }

    /// In a short sequence always the same page, so that the second replaces the first; also one
    /// of format 1.
    fn page(&mut self, is_long: bool) -> Result<(), String> {
        let (locator, owner) = match is_long {
            true => (self.locator(), self.owner()),
            false if self.is_old => (LOCATORS[0], OLD_OWNER),
            false => (LOCATORS[0], OWNERS[0]),
        };
        self.blob(BlobKind::Placement, locator, owner)
    }

    fn blob(&mut self, kind: BlobKind, locator: Locator, owner: PeerId) -> Result<(), String> {
        let mut bytes = vec![0; [200, 9000][self.random.below(2) as usize]];
        self.random.fill(&mut bytes);
        let root = Hash::of(&bytes);
        let key = match kind {
            BlobKind::Placement => BlobKey::placement(locator, 0),
            _ => BlobKey { locator, kind, id: root },
        };
        let name = Key::blob(owner, key);
        let (moment, token) = (self.rig.medium.moment(), self.rig.token());
        let prefix = prefix_of(owner, root);
        let length = bytes.len() as u64;
        let put = self.rig.store.put_blob(key, owner, prefix, Bytes::from(bytes), token);
        if put.is_ok() {
            self.blobs.insert(token, name);
            self.history.begun(name, (root, length, UnixTime(0)), moment);
        }
        self.rig.drain();
        self.hear()
    }

    fn expire_at(&mut self, now: UnixTime) -> Result<(), String> {
        self.letting_go(|rig| {
            rig.store.expire(Clock::Believed(now));
        })
    }

    fn make_room(&mut self) -> Result<(), String> {
        let of = (self.random.below(2) == 0).then(|| self.owner());
        let (bytes, token) = (1 + self.random.below(20_000), self.rig.token());
        let left = |owner: PeerId| self.rig.store.leftovers(&owner, &[LOCATORS[1]], 64);
        let orphans = of.map(left).unwrap_or_default();
        let ask = MakeRoom { bytes, of, orphans, token };
        self.letting_go(|rig| rig.store.make_room(ask))
    }

    /// Does what may begin deletions, and notes which.
    fn letting_go(&mut self, does: impl FnOnce(&mut Rig<Disk>)) -> Result<(), String> {
        let before = self.held();
        let moment = self.rig.medium.moment();
        does(&mut self.rig);
        let after = self.held();
        for key in before.difference(&after) {
            self.history.delete_begun(key, moment);
        }
        self.rig.drain();
        self.hear()
    }

    fn believe(&mut self) -> Result<(), String> {
        // A time of its own, so that it can be told from the others.
        self.now = UnixTime(self.now.0 + 1);
        self.history.believes(self.now, self.rig.medium.moment());
        self.rig.store.believe(self.now);
        self.rig.drain();
        self.hear()
    }

    /// The page cache lives on, and what is in it may still be lost later.
    fn reopen(&mut self) -> Result<(), String> {
        let mut disk = std::mem::replace(&mut self.rig.medium, Disk::new(0));
        disk.kill();
        self.rig = Rig::start(disk, pool(24), self.now);
        let Opened { state, believed } = recover(&mut self.rig)?;
        self.writes.clear();
        self.blobs.clear();
        let moment = self.rig.medium.moment();
        let same = self.history.compare(&state, moment);
        let same = same.and_then(|()| self.history.compare_clock(believed, moment));
        same.map_err(|wrong| format!("after a kill: {wrong}"))?;
        self.history.reopened(&state, moment);
        self.expire_at(self.now)
    }
}

/// What the program before this one left, with its history.
fn old_store(now: UnixTime, history: &mut History) -> Image {
    let of = |key: Key, size: usize, number: u8, deleted: bool| {
        let until = UnixTime(now.0 + LEASES[usize::from(number % 2)]);
        let stored = UnixTime(now.0 - DAY / 2);
        OldPut { key, until, stored, bytes: vec![number; size], deleted }
    };
    let shard = |number: u8| {
        let (locator, chunk) = (LOCATORS[0], ChunkNumber(100 + u32::from(number)));
        Key::shard(OLD_OWNER, ShardKey { locator, chunk, index: ShardIndex(1) })
    };
    let id = Hash::of(&[7; 300]);
    let root = BlobKey { locator: LOCATORS[0], kind: BlobKind::ManifestRoot, id };
    let puts = [
        of(shard(1), 0, 1, false),
        of(shard(2), 5000, 2, false),
        of(shard(3), 40_000, 3, false),
        of(shard(4), 9000, 4, true),
        of(Key::blob(OLD_OWNER, root), 300, 7, false),
        of(Key::blob(OLD_OWNER, BlobKey::placement(LOCATORS[0], 0)), 5000, 8, false),
    ];
    for put in puts.iter().filter(|put| !put.deleted) {
        let until = match put.key {
            Key::Shard(_) => put.until,
            Key::Blob(_) => UnixTime(0),
        };
        history.begun(put.key, (Hash::of(&put.bytes), put.bytes.len() as u64, until), 0);
        history.stored(&put.key, 0);
    }
    old::image(0, &puts, 128 << 10)
}

/// Chance that only the seed and its use decide.
pub fn entropy(seed: u64, what: u64) -> Entropy {
    let mut key = [0x5a; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&what.to_le_bytes());
    Entropy::new(key)
}
