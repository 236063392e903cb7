//! What is held, in memory: at most about 150 bytes a shard.

use std::collections::BTreeMap;
use std::ops::Bound;

use pangea_base::{ChunkNumber, Code, Hash, Locator, PeerId, ShardIndex, ShardKey, UnixTime};

use crate::format::{Put, blocks_for};
use crate::limits::BLOCK_BYTES;
use crate::space::Run;
use crate::types::{BlobKey, BlobKind, Key, ShardInfo};

/// Everything that is held, in all partitions of the core.
#[derive(Default)]
pub(crate) struct Index {
    shards: BTreeMap<ShardKey, u32>,
    held: Vec<Held>,
    free_slots: Vec<u32>,
    // The runs of the few shards that lie in more than one piece.
    pieces: BTreeMap<u32, Box<[Run]>>,
    blobs: BTreeMap<BlobKey, HeldBlob>,
    owners: Owners,
    order: u64,
}

/// One shard. Its place is here if it lies in one piece, which is the rule.
#[derive(Clone, Copy)]
struct Held {
    root: Hash,
    lease: u64,
    owner: u32,
    length: u32,
    stored: u32,
    extent: u32,
    start: u32,
    code: Code,
    partition: u8,
    runs: u8,
}

/// One node of the map holds at least 6 of 11 (key, slot) pairs.
const _: () = assert!(size_of::<Held>() <= 64);
const _: () = assert!((size_of::<ShardKey>() + 4) * 11 / 6 + size_of::<Held>() <= 150);

struct HeldBlob {
    root: Hash,
    order: u64,
    owner: u32,
    length: u32,
    stored: u32,
    partition: u8,
    runs: Box<[Run]>,
}

/// What a walk over everything meets.
pub(crate) struct Found {
    pub key: Key,
    pub partition: u8,
    pub lease: UnixTime,
    pub stored: UnixTime,
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

    pub(crate) fn owners(&self) -> Vec<(PeerId, u64)> {
        self.owners.all()
    }

    /// The number for the next blob.
    pub(crate) fn next_order(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    /// The partition that a key lies in.
    pub(crate) fn partition(&self, key: &Key) -> Option<u8> {
        match key {
            Key::Shard(key) => self.shard_held(key).map(|held| held.partition),
            Key::Blob(key) => self.blobs.get(key).map(|blob| blob.partition),
        }
    }

    pub(crate) fn shard(&self, key: &ShardKey) -> Option<ShardInfo> {
        Some(self.info(self.shard_held(key)?))
    }

    pub(crate) fn shards_of(
        &self,
        locator: Locator,
    ) -> impl Iterator<Item = (ShardKey, ShardInfo)> + '_ {
        let key = |chunk, index| ShardKey { locator, chunk: ChunkNumber(chunk), index };
        self.shards
            .range(key(0, ShardIndex(0))..=key(u32::MAX, ShardIndex(u8::MAX)))
            .map(|(key, slot)| (*key, self.info(&self.held[*slot as usize])))
    }

    pub(crate) fn has_shards(&self, locator: Locator) -> bool {
        self.shards_of(locator).next().is_some()
    }

    pub(crate) fn has_manifest(&self, locator: Locator) -> bool {
        self.blobs_of(locator).any(|(key, _)| key.kind == BlobKind::ManifestRoot)
    }

    pub(crate) fn blobs_of(&self, locator: Locator) -> impl Iterator<Item = (BlobKey, u64)> + '_ {
        let key = |kind, id| BlobKey { locator, kind, id: Hash(id) };
        let (first, last) = (BlobKind::ManifestRoot, BlobKind::Placement);
        self.blobs
            .range(key(first, [0; 32])..=key(last, [255; 32]))
            .map(|(key, blob)| (*key, u64::from(blob.length)))
    }

    /// The blob of this kind that was stored last.
    pub(crate) fn newest(&self, kind: BlobKind, locator: Locator) -> Option<BlobKey> {
        let of_kind = self.blobs_of(locator).filter(|(key, _)| key.kind == kind);
        of_kind.map(|(key, _)| key).max_by_key(|key| self.blobs.get(key).map(|blob| blob.order))
    }

    /// All that the journal would say about a key.
    pub(crate) fn get(&self, key: &Key) -> Option<Put> {
        match key {
            Key::Shard(shard) => {
                let slot = *self.shards.get(shard)?;
                let held = &self.held[slot as usize];
                Some(Put {
                    key: *key,
                    owner: self.owners.peer(held.owner),
                    code: Some(held.code),
                    lease: UnixTime(held.lease),
                    order: 0,
                    stored: UnixTime(u64::from(held.stored)),
                    root: held.root,
                    length: u64::from(held.length),
                    runs: self.runs(slot, key),
                })
            }
            Key::Blob(blob) => {
                let held = self.blobs.get(blob)?;
                Some(Put {
                    key: *key,
                    owner: self.owners.peer(held.owner),
                    code: None,
                    lease: UnixTime(0),
                    order: held.order,
                    stored: UnixTime(u64::from(held.stored)),
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
        let owner = self.owners.add(put.owner, disk_bytes(&put.runs));
        let length = u32::try_from(put.length).expect("lengths are below SHARD_BYTES_MAX");
        let stored = u32::try_from(put.stored.0).unwrap_or(u32::MAX);
        match put.key {
            Key::Shard(key) => {
                let first = put.runs.first().copied();
                let held = Held {
                    root: put.root,
                    lease: put.lease.0,
                    owner,
                    length,
                    stored,
                    extent: first.map_or(0, |run| run.extent),
                    start: first.map_or(0, |run| run.start),
                    code: put.code.expect("a shard has a code"),
                    partition,
                    runs: u8::try_from(put.runs.len()).expect("RUNS_MAX fits a byte"),
                };
                let slot = self.slot(held);
                self.shards.insert(key, slot);
                if put.runs.len() > 1 {
                    self.pieces.insert(slot, put.runs.clone().into_boxed_slice());
                }
            }
            Key::Blob(key) => {
                self.order = self.order.max(put.order);
                let blob = HeldBlob {
                    root: put.root,
                    order: put.order,
                    owner,
                    length,
                    stored,
                    partition,
                    runs: put.runs.clone().into_boxed_slice(),
                };
                self.blobs.insert(key, blob);
            }
        }
    }

    /// Removes something; what it was.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Put> {
        let put = self.get(key)?;
        match key {
            Key::Shard(shard) => {
                let slot = self.shards.remove(shard).expect("it was just found");
                self.pieces.remove(&slot);
                self.free_slots.push(slot);
                self.owners.take(self.held[slot as usize].owner, disk_bytes(&put.runs));
                if self.shards.is_empty() {
                    self.held = Vec::new();
                    self.free_slots = Vec::new();
                }
            }
            Key::Blob(blob) => {
                let held = self.blobs.remove(blob).expect("it was just found");
                self.owners.take(held.owner, disk_bytes(&put.runs));
            }
        }
        Some(put)
    }

    /// The first key behind `last`: shards first, then blobs.
    pub(crate) fn after(&self, last: Option<&Key>) -> Option<Found> {
        let shards_from = match last {
            None => Some(Bound::Unbounded),
            Some(Key::Shard(key)) => Some(Bound::Excluded(*key)),
            Some(Key::Blob(_)) => None,
        };
        let shard = shards_from.and_then(|from| self.shards.range((from, Bound::Unbounded)).next());
        if let Some((key, slot)) = shard {
            let held = &self.held[*slot as usize];
            return Some(Found {
                key: Key::Shard(*key),
                partition: held.partition,
                lease: UnixTime(held.lease),
                stored: UnixTime(u64::from(held.stored)),
            });
        }
        let from = match last {
            Some(Key::Blob(key)) => Bound::Excluded(*key),
            _ => Bound::Unbounded,
        };
        let (key, blob) = self.blobs.range((from, Bound::Unbounded)).next()?;
        Some(Found {
            key: Key::Blob(*key),
            partition: blob.partition,
            lease: UnixTime(u64::MAX),
            stored: UnixTime(u64::from(blob.stored)),
        })
    }

    /// Where block `block` of something lies: partition, extent, block of the extent.
    pub(crate) fn locate(&self, key: &Key, block: u32) -> Option<(u8, u32, u32)> {
        match key {
            Key::Shard(key) => {
                let slot = *self.shards.get(key)?;
                let held = &self.held[slot as usize];
                let (extent, at) = match self.pieces.get(&slot) {
                    Some(runs) => block_of(runs, block)?,
                    None => (held.extent, held.start + block),
                };
                Some((held.partition, extent, at))
            }
            Key::Blob(key) => {
                let blob = self.blobs.get(key)?;
                let (extent, at) = block_of(&blob.runs, block)?;
                Some((blob.partition, extent, at))
            }
        }
    }

    fn shard_held(&self, key: &ShardKey) -> Option<&Held> {
        self.shards.get(key).map(|slot| &self.held[*slot as usize])
    }

    fn info(&self, held: &Held) -> ShardInfo {
        ShardInfo {
            root: held.root,
            length: u64::from(held.length),
            owner: self.owners.peer(held.owner),
            code: held.code,
            lease: UnixTime(held.lease),
        }
    }

    fn runs(&self, slot: u32, key: &Key) -> Vec<Run> {
        let held = &self.held[slot as usize];
        match held.runs {
            0 => Vec::new(),
            1 => {
                let blocks = blocks_for(key, u64::from(held.length));
                vec![Run { extent: held.extent, start: held.start, blocks }]
            }
            _ => self.pieces.get(&slot).expect("several runs are kept apart").to_vec(),
        }
    }

    fn slot(&mut self, held: Held) -> u32 {
        match self.free_slots.pop() {
            Some(slot) => {
                self.held[slot as usize] = held;
                slot
            }
            None => {
                self.held.push(held);
                u32::try_from(self.held.len() - 1).expect("SHARDS_MAX fits 32 bits")
            }
        }
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

/// Peers by number, with the bytes that they own.
#[derive(Default)]
struct Owners {
    numbers: BTreeMap<PeerId, u32>,
    owners: Vec<Owner>,
    free: Vec<u32>,
}

struct Owner {
    peer: PeerId,
    bytes: u64,
    things: u64,
}

impl Owners {
    fn add(&mut self, peer: PeerId, bytes: u64) -> u32 {
        let number = match self.numbers.get(&peer) {
            Some(number) => *number,
            None => {
                let number = self.number(Owner { peer, bytes: 0, things: 0 });
                self.numbers.insert(peer, number);
                number
            }
        };
        let owner = &mut self.owners[number as usize];
        owner.bytes += bytes;
        owner.things += 1;
        number
    }

    fn number(&mut self, owner: Owner) -> u32 {
        match self.free.pop() {
            Some(number) => {
                self.owners[number as usize] = owner;
                number
            }
            None => {
                self.owners.push(owner);
                u32::try_from(self.owners.len() - 1).expect("no more owners than things")
            }
        }
    }

    fn take(&mut self, number: u32, bytes: u64) {
        let owner = &mut self.owners[number as usize];
        owner.bytes -= bytes;
        owner.things -= 1;
        if owner.things == 0 {
            self.numbers.remove(&owner.peer);
            self.free.push(number);
        }
    }

    fn peer(&self, number: u32) -> PeerId {
        self.owners[number as usize].peer
    }

    fn bytes(&self, peer: &PeerId) -> u64 {
        self.numbers.get(peer).map_or(0, |number| self.owners[*number as usize].bytes)
    }

    fn all(&self) -> Vec<(PeerId, u64)> {
        self.numbers.iter().map(|(peer, n)| (*peer, self.owners[*n as usize].bytes)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(chunk: u32, owner: u8, length: u64, runs: Vec<Run>) -> Put {
        let locator = Locator([(chunk % 3) as u8; 32]);
        let key = ShardKey { locator, chunk: ChunkNumber(chunk), index: ShardIndex(0) };
        Put {
            key: Key::Shard(key),
            owner: PeerId([owner; 32]),
            code: Code::new(2, 1),
            lease: UnixTime(7),
            order: 0,
            stored: UnixTime(1),
            root: Hash([chunk as u8; 32]),
            length,
            runs,
        }
    }

    #[test]
    fn what_goes_in_comes_out_whole() {
        let one = put(1, 4, 4096, vec![Run { extent: 3, start: 9, blocks: 1 }]);
        let runs =
            vec![Run { extent: 0, start: 1, blocks: 16 }, Run { extent: 1, start: 5, blocks: 17 }];
        let two = put(2, 4, 32 * 4096, runs);
        let none = put(3, 5, 0, vec![]);
        let mut index = Index::default();
        for put in [&one, &two, &none] {
            index.insert(0, put);
            assert_eq!(index.get(&put.key).as_ref(), Some(put));
        }
        assert_eq!(index.owner_bytes(&PeerId([4; 32])), 34 * 4096);
        assert_eq!(index.locate(&two.key, 15), Some((0, 0, 16)));
        assert_eq!(index.locate(&two.key, 16), Some((0, 1, 5)));
        assert_eq!(index.locate(&one.key, 0), Some((0, 3, 9)));
        assert_eq!(index.remove(&two.key), Some(two.clone()));
        assert_eq!(index.remove(&two.key), None);
        assert_eq!(index.owner_bytes(&PeerId([4; 32])), 4096);
        assert_eq!(index.remove(&one.key), Some(one));
        assert_eq!(index.owners(), vec![(PeerId([5; 32]), 0)]);
    }

    #[test]
    fn a_locator_lists_its_own_shards_only() {
        let mut index = Index::default();
        for chunk in 0..30 {
            index.insert(0, &put(chunk, 1, 0, vec![]));
        }
        let chunks: Vec<u32> =
            index.shards_of(Locator([1; 32])).map(|(key, _)| key.chunk.0).collect();
        assert_eq!(chunks, (0..30).filter(|chunk| chunk % 3 == 1).collect::<Vec<_>>());
    }
}
