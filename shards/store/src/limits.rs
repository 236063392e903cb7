//! Every limit of the store, by name. `format.md` lists those that the files depend on.

/// The unit of writing: every write to a file of the store is a whole number of these.
pub const BLOCK_BYTES: u32 = 4096;
/// A page of the pool that the store is given.
pub const PAGE_BYTES: u32 = 64 * 1024;
/// Blocks of a page.
pub const PAGE_BLOCKS: u32 = PAGE_BYTES / BLOCK_BYTES;
/// Partition directories, `p00` to `p127`; partition p belongs to core p mod cores.
pub const PARTITIONS: u8 = 128;
/// The most bytes of an extent file, unless one shard needs more.
pub const EXTENT_USUAL_BYTES_MAX: u64 = 64 << 20;
/// The least bytes that an extent file is planned with, however small the capacity is.
pub const EXTENT_BYTES_MIN: u64 = 128 << 10;
/// The most blocks of an extent file: its header and the longest shard, in whole pages. What a file
/// has beyond that is never used.
pub const EXTENT_BLOCKS_MAX: u32 = (1 + SHARD_BLOCKS_MAX).div_ceil(PAGE_BLOCKS) * PAGE_BLOCKS;
/// The highest number of an extent. Numbers are given out in turn, and again from 0.
pub const EXTENT_NUMBER_MAX: u32 = (1 << 24) - 1;
/// The highest generation of a journal.
pub const JOURNAL_GENERATION_MAX: u64 = 1 << 48;
/// The longest shard: a whole chunk of 100 MiB on one holder, with room for its sealing.
pub const SHARD_BYTES_MAX: u64 = 128 << 20;
/// Blocks of the longest shard: its bytes, and 32 bytes for each of its groups.
const SHARD_BLOCKS_MAX: u32 = {
    let block = BLOCK_BYTES as u64;
    let table = SHARD_BYTES_MAX.div_ceil(pangea_base::GROUP_BYTES as u64) * 32;
    (SHARD_BYTES_MAX.div_ceil(block) + table.div_ceil(block)) as u32
};
/// The longest blob: a manifest page of 1 MiB, or a placement page, and 64 KiB around it.
pub const BLOB_BYTES_MAX: u64 = (1 << 20) + (64 << 10);
/// Pieces that a shard may lie in; more than one only when the disk has no space for a new extent.
pub const RUNS_MAX: usize = 64;
/// Shards being written at once, per core.
pub const WRITES_MAX: usize = 256;
/// Blobs being written at once, per core.
pub const BLOB_WRITES_MAX: usize = 64;
/// Pages of one shard on their way to the disk at once.
pub const PAGES_PER_WRITE_MAX: u16 = 8;
/// Reads (of shards, tables and blobs) begun and not answered, per core.
pub const READS_MAX: usize = 256;
/// File operations given to the driver and not finished, per core.
pub const FILE_OPS_MAX: usize = 64;
/// File operations waiting behind those before the journal stops taking new commits.
pub const FILE_OPS_WAITING_MAX: usize = 4096;
/// Deletions not yet durable, per core.
pub const DELETES_MAX: usize = 65_536;
/// Shards held, per core: what the index may grow to.
pub const SHARDS_MAX: usize = 1 << 22;
/// Blobs held, per core.
pub const BLOBS_MAX: usize = 1 << 20;
/// Extent files kept open when nothing is happening in them, per core.
pub const EXTENTS_OPEN_MAX: usize = 64;
/// Blocks of one commit; the store writes a commit with one page.
pub const COMMIT_BLOCKS_MAX: u64 = PAGE_BLOCKS as u64;
/// A journal is extended by this much at a time, so that commits cannot run out of space.
pub const JOURNAL_STEP_BYTES: u64 = 512 << 10;
/// Space at the end of what was reserved that only deletions may use: a full disk can be emptied.
pub const JOURNAL_KEPT_BYTES: u64 = PAGE_BYTES as u64;
/// A journal longer than this, and than three times its snapshot, is replaced by a new snapshot.
pub const JOURNAL_BYTES: u64 = 8 << 20;
/// Index entries that one call of `expire` looks at, and deletions that one of `make_room` begins.
pub const EXPIRE_STEP_MAX: usize = 16_384;
/// What is over is kept for this long, unless its space is asked for.
pub const OVER_SECONDS: u64 = 24 * 3600;
/// Objects at once that a core asks the others about before it lets go of what is left of them.
pub const STRAYS_MAX: usize = 256;
/// Shards without a manifest, and blobs without a shard, are kept for this long.
pub const ORPHAN_SECONDS: u64 = 24 * 3600;

// Every core has a partition of its own to write to.
const _: () = assert!(PARTITIONS as usize >= pangea_base::CORES_MAX);
// Everything that may be held finds a number for an extent, were each in one of its own.
const _: () = assert!((EXTENT_NUMBER_MAX as usize) > SHARDS_MAX + BLOBS_MAX);
const _: () = assert!(EXTENT_BLOCKS_MAX as u64 * BLOCK_BYTES as u64 >= EXTENT_USUAL_BYTES_MAX);
const _: () = assert!(EXPIRE_STEP_MAX <= DELETES_MAX);
// A run in all pieces but the last is whole pages, so that a page is never cut by its end.
const _: () = assert!(PAGE_BYTES.is_multiple_of(BLOCK_BYTES));
const _: () = assert!(EXTENT_BYTES_MIN >= 2 * PAGE_BYTES as u64);
const _: () = assert!(BLOB_BYTES_MAX <= SHARD_BYTES_MAX);
const _: () = assert!(SHARD_BYTES_MAX <= u32::MAX as u64);
const _: () = assert!(JOURNAL_STEP_BYTES >= PAGE_BYTES as u64 + JOURNAL_KEPT_BYTES);
const _: () = assert!(pangea_base::PAGE_ALIGN == BLOCK_BYTES as usize);
const _: () = assert!((PAGE_BYTES as usize).is_multiple_of(pangea_base::GROUP_BYTES));
