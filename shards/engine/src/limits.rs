//! The engine's named limits. Each bounds what a peer or a job can make one core hold or do.

use std::time::Duration;

/// How long a dial may take before the peer counts as not there.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a peer that could not be reached, or was lost, is left alone.
pub const REDIAL_AFTER: Duration = Duration::from_secs(10);

/// How long a small request (a manifest page, a grant) may take from its first byte to its last.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(15);

/// A holder that makes no progress for this long is slow: it is replaced if there is another.
pub const SLOW_AFTER: Duration = Duration::from_secs(5);

/// A holder that makes no progress for this long gets a rival, if there is one.
pub const HEDGE_AFTER: Duration = Duration::from_millis(500);

/// How long a put waits for the rest once k shards of a chunk are stored.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A request stream on which the other side neither sends nor takes a byte for this long is reset.
pub const STREAM_STALL: Duration = Duration::from_secs(30);

/// Fewer bytes than this within [`STREAM_STALL`] are not progress.
pub const STREAM_PROGRESS_BYTES: u64 = 2048;

/// How much longer than k a get asks for at first.
pub const GET_EXTRA: usize = 2;

/// Request streams that one core serves at once; one more is refused with `Busy`.
pub const SERVED_STREAMS_MAX: usize = 1024;

/// Jobs of one kind on a core at once.
pub const JOBS_MAX: usize = 16;

/// Small requests in flight on a core.
pub const ASKS_MAX: usize = 4096;

/// Pages read ahead for one shard that is being sent.
pub const SEND_AHEAD_PAGES: usize = 4;

/// Source pages that a put reads ahead.
pub const SOURCE_AHEAD_PAGES: usize = 4;

/// Output pages that a get has on their way to the file.
pub const OUTPUT_AHEAD_PAGES: usize = 8;

/// How long a grant holds: long enough for a large object at a slow pace.
pub const GRANT_LIFETIME: Duration = Duration::from_secs(6 * 3600);

/// How long an object's shards are kept if the origin asks for no other term, and the longest.
pub const LEASE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// The share of the capacity that one identity, and one network prefix, may take: a tenth.
pub const SHARE_PER_PEER: u64 = 10;

/// Grants outstanding at one holder.
pub const GRANTS_MAX: usize = 16 * 1024;

/// Of these, grants to one identity that it has not used up.
pub const GRANTS_PER_PEER_MAX: usize = 1024;

/// A request of a peer that waits for our own disk or ledger for this long is given up.
pub const OWN_STALL: Duration = Duration::from_secs(120);

/// How often an idle core looks for leases that are over.
pub const EXPIRE_EVERY: Duration = Duration::from_secs(10);

/// Connections that one core dials at once.
pub const LINKS_MAX: usize = 1024;

const _: () = assert!(HEDGE_AFTER.as_millis() < SLOW_AFTER.as_millis());
const _: () = assert!(SLOW_AFTER.as_millis() < STREAM_STALL.as_millis());
const _: () = assert!(SLOW_AFTER.as_millis() < PATIENCE.as_millis());
const _: () = assert!(STREAM_STALL.as_millis() < OWN_STALL.as_millis());
const _: () = assert!(GRANTS_PER_PEER_MAX < GRANTS_MAX);
