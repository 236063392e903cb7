//! What a store is made to do before the power is cut.

use std::collections::BTreeMap;

use bytes::Bytes;
use pangea_base::{ChunkNumber, Entropy, Hash, Locator, ShardIndex, ShardKey, UnixTime};
use pangea_store::sim::Disk;
use pangea_store::{BlobKey, BlobKind, Event, Key, ShardMeta, WriteId};

use super::check::state_of;
use super::history::History;
use super::rig::{OWNER, Rig, code, pool};

const DAY: u64 = 24 * 3600;
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
    /// The key of the last put, with other bytes.
    Again,
    Delete,
    Blob,
    /// Time passes: leases end, and what has no manifest goes.
    Expire,
    /// A shard that needs a new extent.
    Grow,
    /// Puts until the journal is replaced.
    Rotate,
    /// Killed, and opened again.
    Reopen,
}

const STEPS: [Step; 8] = [
    Step::Put,
    Step::Again,
    Step::Delete,
    Step::Blob,
    Step::Expire,
    Step::Grow,
    Step::Rotate,
    Step::Reopen,
];

/// A list of operations, and what they begin with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Workload {
    pub steps: Vec<Step>,
    /// Something is held before the first operation.
    pub is_furnished: bool,
    /// Drawn, not listed: too many moments to look at each of them closely.
    pub is_long: bool,
}

/// Sequences of at most [`SEQUENCE_MAX`] operations, each on an empty and on a furnished store.
fn sequences() -> u64 {
    2 * (1..=SEQUENCE_MAX).map(|length| (STEPS.len() as u64).pow(length)).sum::<u64>()
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
            return Workload { steps, is_furnished: random.below(2) == 0, is_long: true };
        }
        let (mut rest, mut length) = (number / 2, 1);
        while rest >= (STEPS.len() as u64).pow(length) {
            rest -= (STEPS.len() as u64).pow(length);
            length += 1;
        }
        let digit = |place: u32| rest / (STEPS.len() as u64).pow(place) % STEPS.len() as u64;
        let steps = (0..length).map(|place| STEPS[digit(place) as usize]).collect();
        Workload { steps, is_furnished: number % 2 == 1, is_long: false }
    }
}

fn long_step(random: &mut Entropy) -> Step {
    match random.below(20) {
        0..=6 => Step::Put,
        7 | 8 => Step::Again,
        9..=13 => Step::Delete,
        14 | 15 => Step::Blob,
        16 => Step::Expire,
        17 => Step::Grow,
        18 => Step::Rotate,
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
    let mut life = Life::new(seed);
    life.rig.opened()?;
    if workload.is_furnished {
        life.put_sized(5000)?;
        life.blob(BlobKind::ManifestRoot)?;
        life.settle()?;
    }
    let start = if workload.is_furnished { life.rig.medium.moment() } else { 0 };
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
    Ok(Lived { disk: life.rig.medium, history: life.history, start, now: life.now })
}

struct Life {
    rig: Rig<Disk>,
    history: History,
    random: Entropy,
    writes: BTreeMap<WriteId, Key>,
    blobs: BTreeMap<u64, Key>,
    last: Option<ShardKey>,
    next_chunk: u32,
    now: UnixTime,
}

impl Life {
    fn new(seed: u64) -> Life {
        let now = UnixTime(100 * DAY);
        Life {
            rig: Rig::start(Disk::new(seed), pool(24), now),
            history: History::default(),
            random: entropy(seed, 1),
            writes: BTreeMap::new(),
            blobs: BTreeMap::new(),
            last: None,
            next_chunk: 0,
            now,
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
            Event::BlobStored { token } => self.history.stored(&self.blobs[&token], moment),
            Event::Deleted { key, .. } => self.history.deleted(&key, moment),
            Event::Appendable { .. } => {}
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
                Some(key) => self.put(key, 3000),
                None => self.put_sized(3000),
            },
            Step::Delete => self.delete(is_long),
            Step::Blob => {
                let kind = BlobKind::ALL[self.random.below(3) as usize];
                self.blob(kind)
            }
            Step::Expire => self.expire(),
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

    fn put_sized(&mut self, size: usize) -> Result<(), String> {
        let locator = LOCATORS[self.random.below(2) as usize];
        let chunk = ChunkNumber(self.next_chunk);
        self.next_chunk += 1;
        self.put(ShardKey { locator, chunk, index: ShardIndex(1) }, size)
    }

    fn put(&mut self, key: ShardKey, size: usize) -> Result<(), String> {
        let mut bytes = vec![0; size];
        self.random.fill(&mut bytes);
        let days = [2, 100][self.random.below(2) as usize];
        let meta = ShardMeta {
            owner: OWNER,
            code: code(),
            lease: UnixTime(self.now.0 + days * DAY),
            length_max: size as u64,
        };
        self.last = Some(key);
        let begun = self.rig.medium.moment();
        // The log says when what happened, also while the put waited for pages.
        let mut told = Vec::new();
        let put = self.rig.put_soon(key, meta, &bytes, |rig| {
            let moment = rig.medium.moment();
            told.extend(std::mem::take(&mut rig.events).into_iter().map(|event| (moment, event)));
        });
        if let Ok(id) = put {
            self.writes.insert(id, Key::Shard(key));
            self.history.begun(Key::Shard(key), &bytes, begun);
        }
        for (moment, event) in told {
            self.note(moment, event)?;
        }
        self.hear()
    }

    fn delete(&mut self, is_long: bool) -> Result<(), String> {
        let held: Vec<Key> = state_of(&self.rig.store).into_keys().collect();
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

    fn blob(&mut self, kind: BlobKind) -> Result<(), String> {
        let mut bytes = vec![0; [200, 9000][self.random.below(2) as usize]];
        self.random.fill(&mut bytes);
        let id = Hash::of(&bytes);
        let key = BlobKey { locator: LOCATORS[self.random.below(2) as usize], kind, id };
        let (moment, token) = (self.rig.medium.moment(), self.rig.token());
        let put = self.rig.store.put_blob(key, OWNER, Bytes::copy_from_slice(&bytes), token);
        if put.is_ok() {
            self.blobs.insert(token, Key::Blob(key));
            self.history.begun(Key::Blob(key), &bytes, moment);
        }
        self.rig.drain();
        self.hear()
    }

    fn expire(&mut self) -> Result<(), String> {
        self.now = UnixTime(self.now.0 + 3 * DAY / 2);
        let before = state_of(&self.rig.store);
        let moment = self.rig.medium.moment();
        self.rig.store.expire(self.now);
        let after = state_of(&self.rig.store);
        for key in before.keys().filter(|key| !after.contains_key(key)) {
            self.history.delete_begun(key, moment);
        }
        self.rig.drain();
        self.hear()
    }

    /// The page cache lives on, and what is in it may still be lost later.
    fn reopen(&mut self) -> Result<(), String> {
        let mut disk = std::mem::replace(&mut self.rig.medium, Disk::new(0));
        disk.kill();
        self.rig = Rig::start(disk, pool(24), self.now);
        self.rig.opened()?;
        self.writes.clear();
        self.blobs.clear();
        let (state, moment) = (state_of(&self.rig.store), self.rig.medium.moment());
        self.history.compare(&state, moment).map_err(|wrong| format!("after a kill: {wrong}"))?;
        self.history.reopened(&state, moment);
        Ok(())
    }
}

/// Chance that only the seed and its use decide.
pub fn entropy(seed: u64, what: u64) -> Entropy {
    let mut key = [0x5a; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&what.to_le_bytes());
    Entropy::new(key)
}
