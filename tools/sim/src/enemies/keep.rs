//! What a holder of the enemies keeps, in memory.

use std::collections::BTreeMap;

use bytes::Bytes;
use pangea_base::{
    ChunkNumber, GROUP_BYTES, GroupHasher, GroupTable, Hash, Locator, ShardIndex, ShardKey,
    UnixTime,
};
use pangea_wire::ShardHeld;
use pangea_wire::limits::STAT_SHARDS_MAX;

/// Bytes kept at most; beyond it the holder is full, as an honest one would be.
const KEPT_MAX: u64 = 256 << 20;

/// One shard.
pub(super) struct Kept {
    pub bytes: Bytes,
    pub table: GroupTable,
    pub lease: UnixTime,
}

/// Shards and pages.
#[derive(Default)]
pub(super) struct Keep {
    shards: BTreeMap<ShardKey, Kept>,
    manifest: BTreeMap<(Locator, Hash), Bytes>,
    placement: BTreeMap<(Locator, u32), Bytes>,
    bytes: u64,
}

impl Keep {
    pub fn is_full(&self) -> bool {
        self.bytes >= KEPT_MAX
    }

    /// The root of what was kept.
    pub fn shard(&mut self, key: ShardKey, bytes: Bytes, lease: UnixTime) -> Hash {
        let mut hasher = GroupHasher::new();
        bytes.chunks(GROUP_BYTES).for_each(|group| hasher.push(group));
        let table = hasher.finish();
        let root = table.root();
        self.bytes += bytes.len() as u64;
        self.shards.insert(key, Kept { bytes, table, lease });
        root
    }

    pub fn manifest(&mut self, locator: Locator, page: Hash, bytes: Bytes) {
        self.bytes += bytes.len() as u64;
        self.manifest.insert((locator, page), bytes);
    }

    pub fn placement(&mut self, locator: Locator, page: u32, bytes: Bytes) {
        self.bytes += bytes.len() as u64;
        self.placement.insert((locator, page), bytes);
    }

    /// Everything is gone.
    pub fn forget(&mut self) {
        *self = Keep::default();
    }

    pub fn find_shard(&self, key: &ShardKey) -> Option<&Kept> {
        self.shards.get(key)
    }

    pub fn find_manifest(&self, locator: Locator, page: Hash) -> Option<Bytes> {
        self.manifest.get(&(locator, page)).cloned()
    }

    pub fn find_placement(&self, locator: Locator, page: u32) -> Option<Bytes> {
        self.placement.get(&(locator, page)).cloned()
    }

    /// The shards of an object, as an answer to a question for them.
    pub fn held(
        &self,
        locator: Locator,
        after: Option<(ChunkNumber, ShardIndex)>,
    ) -> Vec<ShardHeld> {
        let wanted = |key: &ShardKey| {
            key.locator == locator && after.is_none_or(|after| (key.chunk, key.index) > after)
        };
        let ours = self.shards.iter().filter(|(key, _)| wanted(key));
        let held = ours.map(|(key, kept)| ShardHeld {
            chunk: key.chunk,
            index: key.index,
            length: kept.bytes.len() as u64,
            root: kept.table.root(),
            lease: kept.lease,
        });
        held.take(STAT_SHARDS_MAX).collect()
    }
}
