//! What is held, in memory: at most about 100 bytes a shard, and 140 for each object of an owner.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use pangea_base::{
    ChunkNumber, Code, Hash, Locator, PeerId, Prefix, ShardIndex, ShardKey, UnixTime,
};

use crate::format::{Named, Put, blocks_for};
use crate::limits::{BLOCK_BYTES, RUNS_MAX};
use crate::space::Run;
use crate::types::{BlobKey, BlobKind, Key, OwnedBlob, OwnedShard, ShardInfo};

mod objects;
mod owners;
mod slots;

pub(crate) use objects::Rootless;
use objects::{Object, Objects, Part};
use owners::Owners;
use slots::Slots;

/// Everything that is held, in all partitions of the core.
#[derive(Default)]
pub(crate) struct Index {
    objects: Objects,
    shards: BTreeMap<ShardPlace, u32>,
    held: Slots<Held>,
    // The runs of the few shards that lie in more than one piece.
    pieces: BTreeMap<u32, Box<[Run]>>,
    blobs: BTreeMap<BlobPlace, HeldBlob>,
    owners: Owners,
    // What was found to be over: by its end, and by owner and end.
    over: BTreeSet<(UnixTime, ShardPlace)>,
    over_of: BTreeSet<(u32, UnixTime, ShardPlace)>,
    order: u64,
}

/// A shard's name, with its owner's object by number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ShardPlace {
    object: u32,
    chunk: u32,
    index: u8,
}

/// A blob's name, with its owner's object by number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct BlobPlace {
    object: u32,
    kind: BlobKind,
    id: Hash,
}

/// One shard. Its place is here if it lies in one piece, which is the rule.
#[derive(Clone, Copy)]
struct Held {
    root: Hash,
    until: UnixTime,
    account: u32,
    length: u32,
    stored: u32,
    extent: u32,
    start: u32,
    code: Code,
    partition: u8,
    // How many pieces, and the mark of a doubted `stored`.
    runs: u8,
}

const DOUBTED: u8 = 0x80;
const _: () = assert!(RUNS_MAX < DOUBTED as usize);

// One node of a map holds at least 6 of 11 pairs. What an object takes is in `objects.rs`.
const _: () = assert!(size_of::<Held>() <= 64);
const _: () = assert!((size_of::<ShardPlace>() + 4) * 11 / 6 + size_of::<Held>() <= 100);
// The smallest object, of one shard and two blobs, takes less than when everything had its whole
// name for itself: 150 bytes and 2 * 251.
const _: () = assert!(
    100 + 140 + 2 * (size_of::<BlobPlace>() + size_of::<HeldBlob>()) * 11 / 6 <= 150 + 2 * 251
);

struct HeldBlob {
    root: Hash,
    order: u64,
    account: u32,
    length: u32,
    stored: u32,
    doubted: bool,
    partition: u8,
    runs: Box<[Run]>,
}

/// Where a walk over everything stands: shards first, then blobs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cursor {
    Shard(ShardPlace),
    Blob(BlobPlace),
}

/// What a walk over everything meets.
pub(crate) struct Found {
    pub cursor: Cursor,
    pub key: Key,
    pub partition: u8,
    /// Of a blob: of the last of its object's shards; 0 if there never was one.
    pub until: UnixTime,
    pub stored: UnixTime,
    pub doubted: bool,
    /// Its owner has a manifest root of its object here.
    pub rooted: bool,
    /// Its owner has shards of its object here.
    pub accompanied: bool,
}

/// A blob that is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BlobFound {
    pub key: OwnedBlob,
    pub length: u64,
    pub order: u64,
    /// When the last of its object's shards is over, if there ever was one.
    pub until: Option<UnixTime>,
}

impl Index {
    pub(crate) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    pub(crate) fn blob_count(&self) -> usize {
        self.blobs.len()
    }

    pub(crate) fn owner_bytes(&self, owner: &PeerId) -> u64 {
        self.owners.bytes(owner)
    }

    pub(crate) fn accounts(&self) -> Vec<(PeerId, Prefix, u64)> {
        self.owners.all()
    }

    /// The number for the next blob: higher than all before, and than those that other cores gave
    /// out in an earlier second.
    pub(crate) fn next_order(&mut self, now: UnixTime) -> u64 {
        const SECONDS_MAX: u64 = 1 << 43;
        self.order = (self.order + 1).max(now.0.min(SECONDS_MAX) << 20);
        self.order
    }

    fn object(&self, owner: &PeerId, locator: Locator) -> Option<u32> {
        self.objects.number(locator, self.owners.number(owner)?)
    }

    fn shard_place(&self, shard: &OwnedShard) -> Option<ShardPlace> {
        let object = self.object(&shard.owner, shard.key.locator)?;
        Some(ShardPlace { object, chunk: shard.key.chunk.0, index: shard.key.index.0 })
    }

    fn blob_place(&self, blob: &OwnedBlob) -> Option<BlobPlace> {
        let object = self.object(&blob.owner, blob.key.locator)?;
        Some(BlobPlace { object, kind: blob.key.kind, id: blob.key.id })
    }

    fn slot(&self, shard: &OwnedShard) -> Option<u32> {
        self.shards.get(&self.shard_place(shard)?).copied()
    }

    fn blob_held(&self, blob: &OwnedBlob) -> Option<&HeldBlob> {
        self.blobs.get(&self.blob_place(blob)?)
    }

    /// The partition that a key lies in.
    pub(crate) fn partition(&self, key: &Key) -> Option<u8> {
        match key {
            Key::Shard(shard) => Some(self.held.get(self.slot(shard)?).partition),
            Key::Blob(blob) => Some(self.blob_held(blob)?.partition),
        }
    }

    pub(crate) fn shard(&self, shard: &OwnedShard) -> Option<ShardInfo> {
        Some(self.info(self.slot(shard)?))
    }

    /// Every owner's shard of this name.
    pub(crate) fn shards_named(
        &self,
        key: ShardKey,
    ) -> impl Iterator<Item = (OwnedShard, ShardInfo)> + '_ {
        self.objects.of(key.locator).filter_map(move |(object, of)| {
            let place = ShardPlace { object, chunk: key.chunk.0, index: key.index.0 };
            let slot = self.shards.get(&place)?;
            Some((OwnedShard { key, owner: self.owners.peer(of.owner) }, self.info(*slot)))
        })
    }

    /// All shards of an object, owner by owner.
    pub(crate) fn shards_of(
        &self,
        locator: Locator,
    ) -> impl Iterator<Item = (OwnedShard, ShardInfo)> + '_ {
        self.objects.of(locator).flat_map(move |(object, _)| {
            let first = ShardPlace { object, chunk: 0, index: 0 };
            let last = ShardPlace { object, chunk: u32::MAX, index: u8::MAX };
            let all = self.shards.range(first..=last);
            all.map(|(place, slot)| (self.owned_shard(place), self.info(*slot)))
        })
    }

    /// All blobs of an object, owner by owner.
    pub(crate) fn blobs_of(&self, locator: Locator) -> impl Iterator<Item = BlobFound> + '_ {
        self.objects.of(locator).flat_map(move |(object, of)| {
            let place = |kind, id| BlobPlace { object, kind, id: Hash(id) };
            let first = place(BlobKind::ManifestRoot, [0; 32]);
            let last = place(BlobKind::Placement, [255; 32]);
            let all = self.blobs.range(first..=last);
            all.map(|(place, blob)| self.blob_found(place, blob, of))
        })
    }

    /// Every owner's blob of this name.
    pub(crate) fn blobs_named(&self, key: BlobKey) -> impl Iterator<Item = BlobFound> + '_ {
        self.objects.of(key.locator).filter_map(move |(object, of)| {
            let place = BlobPlace { object, kind: key.kind, id: key.id };
            let blob = self.blobs.get(&place)?;
            Some(self.blob_found(&place, blob, of))
        })
    }

    /// Who has something of this name.
    pub(crate) fn owners_of(&self, named: Named) -> Vec<PeerId> {
        match named {
            Named::Shard(key) => self.shards_named(key).map(|(shard, _)| shard.owner).collect(),
            Named::Blob(key) => self.blobs_named(key).map(|found| found.key.owner).collect(),
        }
    }

    fn blob_found(&self, place: &BlobPlace, blob: &HeldBlob, of: &Object) -> BlobFound {
        BlobFound {
            key: self.owned_blob(place),
            length: u64::from(blob.length),
            order: blob.order,
            until: (of.until != UnixTime(0)).then_some(of.until),
        }
    }

    fn owned_shard(&self, place: &ShardPlace) -> OwnedShard {
        let object = self.objects.get(place.object);
        let (chunk, index) = (ChunkNumber(place.chunk), ShardIndex(place.index));
        let key = ShardKey { locator: object.locator, chunk, index };
        OwnedShard { key, owner: self.owners.peer(object.owner) }
    }

    fn owned_blob(&self, place: &BlobPlace) -> OwnedBlob {
        let object = self.objects.get(place.object);
        let key = BlobKey { locator: object.locator, kind: place.kind, id: place.id };
        OwnedBlob { key, owner: self.owners.peer(object.owner) }
    }

    /// All that the journal would say about a key.
    pub(crate) fn get(&self, key: &Key) -> Option<Put> {
        match key {
            Key::Shard(shard) => {
                let slot = self.slot(shard)?;
                let held = self.held.get(slot);
                Some(Put {
                    key: *key,
                    prefix: self.owners.prefix(held.account),
                    code: Some(held.code),
                    until: held.until,
                    order: 0,
                    stored: UnixTime(u64::from(held.stored)),
                    doubted: held.runs & DOUBTED != 0,
                    root: held.root,
                    length: u64::from(held.length),
                    runs: self.runs(slot, key),
                })
            }
            Key::Blob(blob) => {
                let held = self.blob_held(blob)?;
                Some(Put {
                    key: *key,
                    prefix: self.owners.prefix(held.account),
                    code: None,
                    until: UnixTime(0),
                    order: held.order,
                    stored: UnixTime(u64::from(held.stored)),
                    doubted: held.doubted,
                    root: held.root,
                    length: u64::from(held.length),
                    runs: held.runs.to_vec(),
                })
            }
        }
    }

    /// Adds something, in the place of what had its key.
    pub(crate) fn insert(&mut self, partition: u8, put: &Put) {
        self.remove(&put.key);
        let (account, owner) =
            self.owners.charge(put.key.owner(), put.prefix, disk_bytes(&put.runs));
        let length = u32::try_from(put.length).expect("lengths are below SHARD_BYTES_MAX");
        let stored = u32::try_from(put.stored.0).unwrap_or(u32::MAX);
        let object = self.objects.add(put.key.locator(), owner, stored, part_of(put));
        match put.key {
            Key::Shard(OwnedShard { key, .. }) => {
                let first = put.runs.first().copied();
                let runs = u8::try_from(put.runs.len()).expect("RUNS_MAX fits 7 bits");
                let held = Held {
                    root: put.root,
                    until: put.until,
                    account,
                    length,
                    stored,
                    extent: first.map_or(0, |run| run.extent),
                    start: first.map_or(0, |run| run.start),
                    code: put.code.expect("a shard has a code"),
                    partition,
                    runs: if put.doubted { runs | DOUBTED } else { runs },
                };
                let slot = self.held.add(held);
                let place = ShardPlace { object, chunk: key.chunk.0, index: key.index.0 };
                self.shards.insert(place, slot);
                if put.runs.len() > 1 {
                    self.pieces.insert(slot, put.runs.clone().into_boxed_slice());
                }
            }
            Key::Blob(OwnedBlob { key, .. }) => {
                self.order = self.order.max(put.order);
                let blob = HeldBlob {
                    root: put.root,
                    order: put.order,
                    account,
                    length,
                    stored,
                    doubted: put.doubted,
                    partition,
                    runs: put.runs.clone().into_boxed_slice(),
                };
                self.blobs.insert(BlobPlace { object, kind: key.kind, id: key.id }, blob);
            }
        }
    }

    /// Removes something; what it was.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Put> {
        let put = self.get(key)?;
        let (object, account) = match key {
            Key::Shard(shard) => {
                let place = self.shard_place(shard).expect("it was just found");
                let slot = self.shards.remove(&place).expect("it was just found");
                self.pieces.remove(&slot);
                if self.over.remove(&(put.until, place)) {
                    let owner = self.objects.get(place.object).owner;
                    self.over_of.remove(&(owner, put.until, place));
                }
                (place.object, self.held.remove(slot).account)
            }
            Key::Blob(blob) => {
                let place = self.blob_place(blob).expect("it was just found");
                let held = self.blobs.remove(&place).expect("it was just found");
                (place.object, held.account)
            }
        };
        self.objects.take(object, part_of(&put));
        self.owners.discharge(account, disk_bytes(&put.runs));
        Some(put)
    }

    /// What comes behind `last` in a walk over everything.
    pub(crate) fn after(&self, last: Option<Cursor>) -> Option<Found> {
        let shards_from = match last {
            None => Some(Bound::Unbounded),
            Some(Cursor::Shard(place)) => Some(Bound::Excluded(place)),
            Some(Cursor::Blob(_)) => None,
        };
        let shard = shards_from.and_then(|from| self.shards.range((from, Bound::Unbounded)).next());
        if let Some((place, slot)) = shard {
            return Some(self.found_shard(place, *slot));
        }
        let from = match last {
            Some(Cursor::Blob(place)) => Bound::Excluded(place),
            _ => Bound::Unbounded,
        };
        let (place, blob) = self.blobs.range((from, Bound::Unbounded)).next()?;
        Some(self.found_blob(place, blob))
    }

    fn found_shard(&self, place: &ShardPlace, slot: u32) -> Found {
        let (held, object) = (self.held.get(slot), self.objects.get(place.object));
        Found {
            cursor: Cursor::Shard(*place),
            key: Key::Shard(self.owned_shard(place)),
            partition: held.partition,
            until: held.until,
            stored: UnixTime(u64::from(held.stored)),
            doubted: held.runs & DOUBTED != 0,
            rooted: object.has_root(),
            accompanied: true,
        }
    }

    fn found_blob(&self, place: &BlobPlace, blob: &HeldBlob) -> Found {
        let object = self.objects.get(place.object);
        Found {
            cursor: Cursor::Blob(*place),
            key: Key::Blob(self.owned_blob(place)),
            partition: blob.partition,
            until: object.until,
            stored: UnixTime(u64::from(blob.stored)),
            doubted: blob.doubted,
            rooted: object.has_root(),
            accompanied: object.shards > 0,
        }
    }

    /// Notes that a shard is over. True if that was not known.
    pub(crate) fn note_over(&mut self, found: &Found) -> bool {
        let Cursor::Shard(place) = found.cursor else { return false };
        let owner = self.objects.get(place.object).owner;
        self.over_of.insert((owner, found.until, place));
        self.over.insert((found.until, place))
    }

    /// What was found to be over, of an owner or of all, the oldest end first, behind `last`.
    pub(crate) fn over_after(
        &self,
        of: Option<&PeerId>,
        last: Option<(UnixTime, ShardPlace)>,
    ) -> Option<(UnixTime, ShardPlace)> {
        let first = ShardPlace { object: 0, chunk: 0, index: 0 };
        match of {
            None => {
                let from = last.map_or(Bound::Unbounded, Bound::Excluded);
                self.over.range((from, Bound::Unbounded)).next().copied()
            }
            Some(peer) => {
                let owner = self.owners.number(peer)?;
                let from = match last {
                    None => Bound::Included((owner, UnixTime(0), first)),
                    Some((until, place)) => Bound::Excluded((owner, until, place)),
                };
                let next = self.over_of.range((from, Bound::Unbounded)).next();
                let (_, until, place) = next.filter(|(of, ..)| *of == owner)?;
                Some((*until, *place))
            }
        }
    }

    pub(crate) fn key_of(&self, place: &ShardPlace) -> Key {
        Key::Shard(self.owned_shard(place))
    }

    /// The next of an owner's objects that have no manifest root, the oldest first.
    pub(crate) fn rootless_after(
        &self,
        owner: &PeerId,
        last: Option<Rootless>,
    ) -> Option<Rootless> {
        self.objects.rootless_after(self.owners.number(owner)?, last)
    }

    pub(crate) fn locator_of(&self, object: Rootless) -> Locator {
        self.objects.get(object.object).locator
    }

    /// Up to `count` keys of what is held of such an object, shards first.
    pub(crate) fn keys_of(&self, object: Rootless, count: usize) -> Vec<Key> {
        let object = object.object;
        let first = ShardPlace { object, chunk: 0, index: 0 };
        let last = ShardPlace { object, chunk: u32::MAX, index: u8::MAX };
        let shards = self.shards.range(first..=last).map(|(place, _)| self.key_of(place));
        let place = |kind, id| BlobPlace { object, kind, id: Hash(id) };
        let first = place(BlobKind::ManifestRoot, [0; 32]);
        let blobs = self.blobs.range(first..=place(BlobKind::Placement, [255; 32]));
        let blobs = blobs.map(|(place, _)| Key::Blob(self.owned_blob(place)));
        shards.chain(blobs).take(count).collect()
    }

    /// Where block `block` of something lies: partition, extent, block of the extent.
    pub(crate) fn locate(&self, key: &Key, block: u32) -> Option<(u8, u32, u32)> {
        match key {
            Key::Shard(shard) => {
                let slot = self.slot(shard)?;
                let held = self.held.get(slot);
                let (extent, at) = match self.pieces.get(&slot) {
                    Some(runs) => block_of(runs, block)?,
                    None => (held.extent, held.start + block),
                };
                Some((held.partition, extent, at))
            }
            Key::Blob(blob) => {
                let held = self.blob_held(blob)?;
                let (extent, at) = block_of(&held.runs, block)?;
                Some((held.partition, extent, at))
            }
        }
    }

    fn info(&self, slot: u32) -> ShardInfo {
        let held = self.held.get(slot);
        ShardInfo {
            root: held.root,
            length: u64::from(held.length),
            code: held.code,
            prefix: self.owners.prefix(held.account),
            stored: UnixTime(u64::from(held.stored)),
            until: held.until,
        }
    }

    fn runs(&self, slot: u32, key: &Key) -> Vec<Run> {
        let held = self.held.get(slot);
        match held.runs & !DOUBTED {
            0 => Vec::new(),
            1 => {
                let blocks = blocks_for(key, u64::from(held.length));
                vec![Run { extent: held.extent, start: held.start, blocks }]
            }
            _ => self.pieces.get(&slot).expect("several runs are kept apart").to_vec(),
        }
    }
}

fn part_of(put: &Put) -> Part {
    match put.key {
        Key::Shard(_) => Part::Shard(put.until),
        Key::Blob(blob) if blob.key.kind == BlobKind::ManifestRoot => Part::Root,
        Key::Blob(_) => Part::OtherBlob,
    }
}

/// The extent, and the block of it, in which block `block` of a string of runs lies.
pub(crate) fn block_of(runs: &[Run], block: u32) -> Option<(u32, u32)> {
    let mut before = 0;
    for run in runs {
        if block < before + run.blocks {
            return Some((run.extent, run.start + (block - before)));
        }
        before += run.blocks;
    }
    None
}

/// Bytes of disk that runs take.
pub(crate) fn disk_bytes(runs: &[Run]) -> u64 {
    runs.iter().map(|run| u64::from(run.blocks) * u64::from(BLOCK_BYTES)).sum()
}

#[cfg(test)]
#[path = "index/tests.rs"]
mod tests;
