//! Room on a holder's disk: what things take of it.

use pangea_base::{GROUP_BYTES, group_count};
use pangea_store::limits::BLOCK_BYTES;

/// Bytes of one group's hash in a shard's group table.
const GROUP_HASH_BYTES: u64 = 32;

/// What a shard of so many bytes takes on disk: whole blocks, and those of its group table if it
/// has more than one group.
pub(crate) fn shard_room(bytes: u64) -> u64 {
    let groups = if bytes <= GROUP_BYTES as u64 { 0 } else { group_count(bytes) };
    blob_room(bytes).saturating_add(blob_room(groups.saturating_mul(GROUP_HASH_BYTES)))
}

/// What a manifest or placement page of so many bytes takes on disk.
pub(crate) fn blob_room(bytes: u64) -> u64 {
    bytes.div_ceil(u64::from(BLOCK_BYTES)).saturating_mul(u64::from(BLOCK_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_takes_whole_blocks_and_its_table() {
        assert_eq!(shard_room(1), 4096);
        assert_eq!(shard_room(16 << 10), 16 << 10, "one group has no table");
        assert_eq!(shard_room((16 << 10) + 1), (20 << 10) + 4096);
        assert_eq!(shard_room(2 << 20), (2 << 20) + 4096, "128 groups fill a block");
        assert_eq!(shard_room((2 << 20) + 1), (2 << 20) + 4096 + 8192);
        assert_eq!(blob_room(0), 0);
        assert_eq!(blob_room(4097), 8192);
        assert_eq!(shard_room(u64::MAX), shard_room(u64::MAX - 1), "no length overflows");
    }
}
