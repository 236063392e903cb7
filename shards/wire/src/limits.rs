//! Every limit of this room, by name, related to its neighbours at compile time.

use std::time::Duration;

use pangea_base::GROUP_BYTES;

/// Longest protocol id in a stream's preamble.
pub const PROTOCOL_BYTES_MAX: usize = 64;
/// Longest body of any frame. Each message has a limit of its own below this one.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Most bytes that a [`crate::FrameReader`] holds back.
pub const READER_BYTES_MAX: usize = 256 * 1024;
/// Chunks shorter than this are copied together on arrival, so that a peer that sends single
/// bytes cannot make us keep a datagram buffer for each.
pub const READER_SMALL_BYTES: usize = 512;

/// Longest unit in the body of a put: one group of its shard.
pub const UNIT_BYTES_MAX: usize = GROUP_BYTES;
/// A last unit is rounded up to a multiple of this.
pub const UNIT_ALIGN_BYTES: u64 = 64;
/// Longest shard.
pub const SHARD_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Most plaintext in one chunk.
pub const CHUNK_PLAINTEXT_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Most sealed bytes of one chunk, padding included.
pub const CHUNK_SEALED_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Fewest sealed bytes that a segment takes: its length field and its tag.
pub const SEGMENT_OVERHEAD_BYTES: u64 = 4 + 16;
/// Most chunks of one object: 1 TiB in chunks of 1 MiB.
pub const CHUNKS_MAX: u32 = 1 << 20;
/// Most shards that the narrow code (scheme 1) makes.
pub const CAUCHY_SHARDS_MAX: usize = 64;

/// Longest lease that can be asked for or given, in seconds: 100 years of 365.25 days. Beyond it a
/// number is an error and not a wish.
pub const LEASE_SECONDS_MAX: u64 = 100 * 31_557_600;
/// Longest lifetime of a grant: no put goes on for longer under the same one.
pub const GRANT_LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// Clocks that differ by no more than this count as equal: nothing here needs them closer, and most
/// that keep time at all are within it.
pub const CLOCK_SLACK: Duration = Duration::from_secs(600);

/// Longest sealed root page of a manifest.
pub const ROOT_BYTES_MAX: usize = 64 * 1024;
/// Longest sealed page of a manifest below the root, and longest page of a placement.
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// Levels of a manifest: root, index pages, leaf pages.
pub const MANIFEST_DEPTH_MAX: usize = 3;
/// Longest label in bytes of UTF-8.
pub const LABEL_BYTES_MAX: usize = 255;

/// Most peers in one answer.
pub const PEERS_MAX: usize = 64;
/// Most grants in one answer.
pub const GRANTS_MAX: usize = 64;
/// Most shards listed in one answer to `Stat`; more take another request.
pub const STAT_SHARDS_MAX: usize = 1024;
/// Most holders kept of one shard: those that keep it longest.
pub const HOLDERS_PER_SHARD_MAX: usize = 8;
/// Most receipts in one placement held in memory: 1 TiB in chunks of 16 MiB at 10 + 4 fits.
pub const PLACEMENT_RECEIPTS_MAX: usize = 1 << 20;
/// Most pages of one placement.
pub const PLACEMENT_PAGES_MAX: u32 = 1024;
/// Most holders' addresses in a placement.
pub const PLACEMENT_HOLDERS_MAX: usize = 1024;
/// Most holders' addresses in a link.
pub const HINTS_MAX: usize = 8;
/// Longest text of a link.
pub const LINK_TEXT_BYTES_MAX: usize = 1024;

const _: () = assert!(FRAME_BYTES_MAX + 4 <= READER_BYTES_MAX);
const _: () = assert!(UNIT_BYTES_MAX + 4 <= READER_BYTES_MAX);
const _: () = assert!(PROTOCOL_BYTES_MAX < 256, "the length of a protocol id is one byte");
const _: () = assert!((UNIT_BYTES_MAX as u64).is_multiple_of(UNIT_ALIGN_BYTES));
// A chunk with one data shard is one shard.
const _: () = assert!(CHUNK_SEALED_BYTES_MAX <= SHARD_BYTES_MAX);
// The table of the longest shard's group hashes, which a fetch holds in memory.
const _: () = assert!(SHARD_BYTES_MAX / GROUP_BYTES as u64 * 32 <= 512 * 1024);
// A receipt takes at most 160 bytes of a placement page, what stands before the receipts at most
// 96 and an address at most 52: all that memory holds fits the pages.
const _: () = assert!(
    PLACEMENT_RECEIPTS_MAX
        <= (PLACEMENT_PAGES_MAX as usize * (PAGE_BYTES_MAX - 96) - PLACEMENT_HOLDERS_MAX * 52)
            / 160
);
// A clock that is set right within the slack ends no grant and no lease that is worth having.
const _: () = assert!(CLOCK_SLACK.as_secs() < GRANT_LIFETIME_MAX.as_secs());
const _: () = assert!(GRANT_LIFETIME_MAX.as_secs() < LEASE_SECONDS_MAX);
