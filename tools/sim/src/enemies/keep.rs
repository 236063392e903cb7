//! What a holder of the enemies keeps, in memory.

use std::collections::BTreeMap;

use bytes::Bytes;
use pangea_base::{
    ChunkNumber, GROUP_BYTES, GroupHasher, GroupTable, Hash, Locator, PeerId, ShardIndex, ShardKey,
    UnixTime,
};
use pangea_wire::limits::STAT_SHARDS_MAX;
use pangea_wire::{PlacementOf, ShardHeld};

/// Bytes kept at most; beyond it the holder is full, as an honest one would be.
pub(super) const KEPT_MAX: u64 = 256 << 20;

/// One shard.
pub(super) struct Kept {
    pub bytes: Bytes,
    pub table: GroupTable,
    pub until: UnixTime,
}

/// Shards and pages, each of its owner.
#[derive(Default)]
pub(super) struct Keep {
    shards: BTreeMap<(ShardKey, PeerId), Kept>,
    manifest: BTreeMap<(Locator, Hash), Bytes>,
    placement: BTreeMap<(Locator, u32, PeerId), Bytes>,
    bytes: u64,
}

/// Whose placement page, its bytes, and whether other owners follow.
pub(super) type PlacementKept = (PeerId, Bytes, bool);

impl Keep {
    pub fn is_full(&self) -> bool {
        self.bytes >= KEPT_MAX
    }

    /// The root of what was kept.
    pub fn shard(&mut self, owner: PeerId, key: ShardKey, bytes: Bytes, until: UnixTime) -> Hash {
        let mut hasher = GroupHasher::new();
        bytes.chunks(GROUP_BYTES).for_each(|group| hasher.push(group));
        let table = hasher.finish();
        let root = table.root();
        self.bytes += bytes.len() as u64;
        self.shards.insert((key, owner), Kept { bytes, table, until });
        root
    }

    pub fn manifest(&mut self, locator: Locator, page: Hash, bytes: Bytes) {
        self.bytes += bytes.len() as u64;
        self.manifest.insert((locator, page), bytes);
    }

    pub fn placement(&mut self, owner: PeerId, locator: Locator, page: u32, bytes: Bytes) {
        self.bytes += bytes.len() as u64;
        self.placement.insert((locator, page, owner), bytes);
    }

    /// Everything is gone.
    pub fn forget(&mut self) {
        *self = Keep::default();
    }

    pub fn find_shard(&self, key: &ShardKey, root: &Hash) -> Option<&Kept> {
        let owners = (*key, FIRST)..=(*key, LAST);
        let mut kept = self.shards.range(owners).map(|(_, kept)| kept);
        kept.find(|kept| kept.table.root() == *root)
    }

    pub fn find_manifest(&self, locator: Locator, page: Hash) -> Option<Bytes> {
        self.manifest.get(&(locator, page)).cloned()
    }

    pub fn find_placement(
        &self,
        locator: Locator,
        page: u32,
        whose: PlacementOf,
    ) -> Option<PlacementKept> {
        let owners = (locator, page, FIRST)..=(locator, page, LAST);
        let mut owners = self.placement.range(owners).map(|((.., owner), bytes)| (*owner, bytes));
        let (owner, bytes) = owners.find(|(owner, _)| whose.is(*owner))?;
        Some((owner, bytes.clone(), owners.next().is_some()))
    }

    /// The shards of an object, as an answer to a question for them.
    pub fn held(
        &self,
        locator: Locator,
        owner: Option<PeerId>,
        after: Option<(ChunkNumber, ShardIndex, Hash)>,
    ) -> Vec<ShardHeld> {
        let wanted = |(key, of): &(ShardKey, PeerId)| {
            key.locator == locator && owner.is_none_or(|owner| owner == *of)
        };
        let ours = self.shards.iter().filter(|(name, _)| wanted(name));
        let held = ours.map(|((key, _), kept)| ShardHeld {
            chunk: key.chunk,
            index: key.index,
            length: kept.bytes.len() as u64,
            root: kept.table.root(),
            until: kept.until,
        });
        let place = |shard: &ShardHeld| (shard.chunk, shard.index, shard.root);
        let mut held: Vec<ShardHeld> =
            held.filter(|shard| after.is_none_or(|after| place(shard) > after)).collect();
        // What several owners have is told of once, with the last of their ends.
        held.sort_by_key(|shard| (place(shard), std::cmp::Reverse(shard.until)));
        held.dedup_by_key(|shard| place(shard));
        held.truncate(STAT_SHARDS_MAX);
        held
    }
}

const FIRST: PeerId = PeerId([0; 32]);
const LAST: PeerId = PeerId([0xff; 32]);
