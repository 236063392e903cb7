//! What recovery makes of an image, and whether that is right.

use pangea_base::{ChunkNumber, Entropy, Hash, Locator, ShardIndex, ShardKey, UnixTime};
use pangea_store::sim::{Disk, Image};
use pangea_store::{Event, Key, ShardMeta, Store};

use super::cut::{Way, some_ways};
use super::history::{History, State, name};
use super::rig::{Medium, OWNER, Rig, code, pool};
use super::workload::{LOCATORS, entropy};

/// The object of the puts that follow a recovery.
pub const EXTRA: Locator = Locator([9; 32]);
/// Cuts during a recovery that was itself of a cut.
pub const DEPTH_MAX: u32 = 2;
/// Images of each recovery that is cut.
const NESTED: usize = 6;

/// How thoroughly one image is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rigour {
    /// Recovery of what recovery left.
    pub twice: bool,
    /// Cuts during the recovery.
    pub nested: bool,
}

/// Everything that a store holds.
pub fn state_of(store: &Store) -> State {
    let mut state = State::new();
    for locator in LOCATORS.into_iter().chain([EXTRA]) {
        for (key, info) in store.shards_of(locator) {
            state.insert(Key::Shard(key), (info.root, info.length));
        }
        for (key, length) in store.blobs_of(locator) {
            state.insert(Key::Blob(key), (key.id, length));
        }
    }
    state
}

/// Opens a store, reads all of it back, and says what it holds.
pub fn recover<M: Medium>(rig: &mut Rig<M>) -> Result<State, String> {
    let found = rig.opened()?;
    if found.damaged() || found.duplicates + found.unknown_files > 0 {
        return Err(format!("a cut is taken for damage: {found:?}"));
    }
    let state = state_of(&rig.store);
    if found.shards + found.blobs != state.len() as u64 {
        let (shards, blobs, held) = (found.shards, found.blobs, state.len());
        return Err(format!("{shards} shards and {blobs} blobs are found, {held} are ours"));
    }
    let mut disk_bytes = 0;
    for (key, held) in &state {
        let got = match key {
            Key::Shard(key) => rig.get(*key),
            Key::Blob(key) => {
                rig.get_blob(*key).map(|bytes| (Hash::of(&bytes), bytes.len() as u64))
            }
        };
        let got = got.map_err(|why| format!("{} cannot be read: {why}", name(key)))?;
        if got != *held {
            return Err(format!("{} has other bytes", name(key)));
        }
        disk_bytes += rig.store.disk_bytes(key).unwrap_or_default();
    }
    rig.leaks_no_page()?;
    if rig.store.used_bytes() != disk_bytes {
        let used = rig.store.used_bytes();
        return Err(format!("{used} bytes are in use, what is held takes {disk_bytes}"));
    }
    Ok(state)
}

/// Checks images, and counts those within others.
pub struct Checker {
    /// The time of every recovery: nothing has become too old by it.
    now: UnixTime,
    seed: u64,
    /// Images of cuts during recoveries.
    pub nested: u64,
    /// Recoveries of what a recovery left.
    pub twice: u64,
}

impl Checker {
    pub fn new(seed: u64, now: UnixTime) -> Checker {
        Checker { now, seed, nested: 0, twice: 0 }
    }

    fn start(&self, image: Image) -> Rig<Disk> {
        Rig::start(Disk::with_image(image, self.seed), pool(8), self.now)
    }

    /// Checks what a cut at `moment` left against what had been said by then.
    pub fn check(
        &mut self,
        history: &History,
        moment: usize,
        image: Image,
        rigour: Rigour,
    ) -> Result<State, String> {
        let again = rigour.nested.then(|| image.clone());
        let mut rig = self.start(image);
        let state = recover(&mut rig)?;
        history.compare(&state, moment)?;
        if rigour.twice {
            self.twice += 1;
            let mut second = self.start(rig.medium.image());
            let other = recover(&mut second).map_err(|why| format!("recovered twice: {why}"))?;
            if other != state {
                return Err("recovered twice, it holds something else".to_owned());
            }
        }
        if let Some(image) = again {
            let mut random = entropy(self.seed, moment as u64);
            self.nest(image, &state, 1, &mut random)?;
        }
        Ok(state)
    }

    /// Cuts a recovery, and the put behind it which replaces the journal. What that recovery
    /// found, every later one must find.
    fn nest(
        &mut self,
        image: Image,
        state: &State,
        depth: u32,
        random: &mut Entropy,
    ) -> Result<(), String> {
        let mut rig = self.start(image);
        rig.opened()?;
        let extra = self.put_extra(&mut rig, depth)?;
        let last = rig.medium.moment();
        let chosen: Vec<usize> =
            (0..NESTED).map(|_| random.below(last as u64 + 1) as usize).collect();
        let mut images = Vec::new();
        rig.medium.crash(
            |moment, unsynced| {
                let count = chosen.iter().filter(|chosen| **chosen == moment).count();
                some_ways(random, unsynced, count)
            },
            |moment, survivors, image| images.push((moment, survivors, image)),
        );
        for (moment, survivors, image) in images {
            self.nested += 1;
            let context = format!("its recovery cut at {moment}, {}", Way(survivors));
            let deeper = (depth < DEPTH_MAX && random.below(4) == 0).then(|| image.clone());
            let mut rig = self.start(image);
            let found = recover(&mut rig).map_err(|why| format!("{context}: {why}"))?;
            let mut rest = found.clone();
            let held = rest.remove(&Key::Shard(extra.key));
            if held.is_none() && extra.stored <= moment {
                return Err(format!("{context}: the put after the recovery is lost"));
            }
            if held.is_some_and(|held| held != extra.held) || rest != *state {
                return Err(format!("{context}: it holds something else than before"));
            }
            if let Some(image) = deeper {
                let nested = self.nest(image, &found, depth + 1, random);
                nested.map_err(|why| format!("{context}: {why}"))?;
            }
        }
        Ok(())
    }

    fn put_extra(&self, rig: &mut Rig<Disk>, depth: u32) -> Result<Extra, String> {
        let key = ShardKey { locator: EXTRA, chunk: ChunkNumber(depth), index: ShardIndex(1) };
        let bytes = vec![depth as u8; 5000];
        let meta = ShardMeta {
            owner: OWNER,
            code: code(),
            lease: UnixTime(u64::MAX),
            length_max: bytes.len() as u64,
        };
        // A full store takes nothing more; its recovery is cut all the same.
        let put = rig.put_soon(key, meta, &bytes, |_| {});
        let mut stored = usize::MAX;
        while rig.step() {
            for event in std::mem::take(&mut rig.events) {
                match event {
                    Event::Stored { id, .. } if Ok(id) == put => stored = rig.medium.moment(),
                    Event::Appendable { .. } => {}
                    other => return Err(format!("a put after the recovery: {other:?}")),
                }
            }
        }
        Ok(Extra { key, held: (Hash::of(&bytes), bytes.len() as u64), stored })
    }
}

struct Extra {
    key: ShardKey,
    held: (Hash, u64),
    stored: usize,
}
