//! What recovery makes of an image, and whether that is right.

use std::collections::BTreeMap;

use pangea_base::{ChunkNumber, Entropy, Hash, Locator, ShardIndex, ShardKey, UnixTime};
use pangea_store::sim::{Disk, Image};
use pangea_store::{BlobKind, Event, Key, ShardMeta};

use super::cut::{Way, some_ways};
use super::history::{Held, History, State, name};
use super::rig::{Medium, OWNERS, Rig, code, pool, prefix_of};
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

/// Everything that a store holds, all of it read back.
fn state_of<M: Medium>(rig: &mut Rig<M>) -> Result<State, String> {
    let mut state = State::new();
    for locator in LOCATORS.into_iter().chain([EXTRA]) {
        let shards: Vec<_> = rig.store.shards_of(locator).collect();
        for (shard, info) in shards {
            let key = Key::Shard(shard);
            let got = rig.get(shard).map_err(|why| format!("{} cannot be read: {why}", name(&key)));
            if got? != (info.root, info.length) {
                return Err(format!("{} has other bytes", name(&key)));
            }
            if info.prefix != prefix_of(shard.owner, info.root) {
                return Err(format!("{} is from another network", name(&key)));
            }
            state.insert(key, (info.root, info.length, info.until));
        }
        let blobs: Vec<_> = rig.store.blobs_of(locator).collect();
        for (blob, length) in blobs {
            let key = Key::Blob(blob);
            let got = rig.blob(blob).map_err(|why| format!("{} cannot be read: {why}", name(&key)));
            let (root, got_length) = got?;
            let right = blob.key.kind == BlobKind::Placement || root == blob.key.id;
            if !right || got_length != length {
                return Err(format!("{} has other bytes", name(&key)));
            }
            state.insert(key, (root, length, UnixTime(0)));
        }
    }
    Ok(state)
}

/// What a recovery found.
pub struct Opened {
    pub state: State,
    pub believed: Option<UnixTime>,
}

/// Opens a store, reads all of it back, and says what it holds.
pub fn recover<M: Medium>(rig: &mut Rig<M>) -> Result<Opened, String> {
    let found = rig.opened()?;
    if found.damaged() || found.duplicates + found.unknown_files > 0 {
        return Err(format!("a cut is taken for damage: {found:?}"));
    }
    let state = state_of(rig)?;
    if found.shards + found.blobs != state.len() as u64 {
        let (shards, blobs, held) = (found.shards, found.blobs, state.len());
        return Err(format!("{shards} shards and {blobs} blobs are found, {held} are ours"));
    }
    let (mut disk_bytes, mut accounts) = (0, BTreeMap::new());
    for (key, (root, ..)) in &state {
        let bytes = rig.store.disk_bytes(key).unwrap_or_default();
        let account = (key.owner(), prefix_of(key.owner(), *root));
        disk_bytes += bytes;
        *accounts.entry(account).or_insert(0) += bytes;
    }
    let charged = found.owners.iter().map(|(owner, prefix, bytes)| ((*owner, *prefix), *bytes));
    if !charged.clone().eq(accounts) {
        return Err(format!("accounts and disk do not agree: {:?}", found.owners));
    }
    rig.leaks_no_page()?;
    if rig.store.used_bytes() != disk_bytes {
        let used = rig.store.used_bytes();
        return Err(format!("{used} bytes are in use, what is held takes {disk_bytes}"));
    }
    Ok(Opened { state, believed: found.believed })
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
        let Opened { state, believed } = recover(&mut rig)?;
        history.compare(&state, moment)?;
        history.compare_clock(believed, moment)?;
        if rigour.twice {
            self.twice += 1;
            let mut second = self.start(rig.medium.image());
            let other = recover(&mut second).map_err(|why| format!("recovered twice: {why}"))?;
            if other.state != state || other.believed != believed {
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
            let found = recover(&mut rig).map_err(|why| format!("{context}: {why}"))?.state;
            let mut rest = found.clone();
            let held = rest.remove(&extra.key);
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
        let (owner, root, until) = (OWNERS[0], Hash::of(&bytes), UnixTime(u64::MAX));
        let length_max = bytes.len() as u64;
        let prefix = prefix_of(owner, root);
        let meta = ShardMeta { owner, prefix, code: code(), until, length_max };
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
        Ok(Extra { key: Key::shard(owner, key), held: (root, length_max, until), stored })
    }
}

struct Extra {
    key: Key,
    held: Held,
    stored: usize,
}
