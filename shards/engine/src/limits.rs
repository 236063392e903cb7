//! The engine's named limits. Each bounds what a peer or a job can make one core hold or do.

use std::time::Duration;

/// How long a dial may take before the peer counts as not there.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// A dial that is not answered for this long is made once more beside the first: what the peer sent
/// may have gone to an address that we no longer have, or it was restarted in between.
pub const DIAL_AGAIN_AFTER: Duration = Duration::from_secs(3);

/// After so long without an answer a peer is dialled at its next address too, beside the first. RFC
/// 8305 has a quarter of a second: a good first address mostly wins, a dead one is hardly noticed.
pub const DIAL_NEXT_AFTER: Duration = Duration::from_millis(250);

/// Addresses that are kept of one peer.
pub const ADDRS_PER_PEER_MAX: usize = 8;

/// Of these, what holders say: anybody can be made to be dialled by a word, so few are.
pub const HEARSAY_ADDRS_MAX: usize = 4;

/// Attempts to reach one peer at once: each of its addresses, and most of them a second time.
pub const DIALS_PER_PEER_MAX: usize = 12;

/// Peers of which a core keeps addresses. One more, and one that is not connected is forgotten.
pub const KNOWN_PEERS_MAX: usize = 8192;

/// What the system says of addresses that one core passes on to the others in a second. Such a
/// message may reach the socket of a core that did not dial, and strangers can send many.
pub const UNREACHABLE_TOLD_PER_SECOND_MAX: u32 = 64;

/// How long an address at which a peer could not be reached, or was lost, is left alone.
pub const REDIAL_AFTER: Duration = Duration::from_secs(10);

/// How long a small request (a manifest page, a grant) may take from its first byte to its last.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(15);

/// A holder that makes no progress for this long is slow: it is replaced if there is another.
pub const SLOW_AFTER: Duration = Duration::from_secs(5);

/// A holder that makes no progress for this long gets a rival, if there is one.
pub const HEDGE_AFTER: Duration = Duration::from_millis(500);

/// How long a put waits for the rest once k shards of a chunk are stored.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A stream that moves fewer than [`STREAM_PROGRESS_BYTES`] within this time is given up, by who
/// serves it and by who asked.
pub const STREAM_STALL: Duration = Duration::from_secs(30);

/// Bytes a second below which a stream counts as standing still. Fourteen holders and four chunks
/// at a time still get it over half a megabit a second, all together.
pub const LEAST_RATE: u64 = 1024;

/// Fewer bytes than this within [`STREAM_STALL`] are not progress.
pub const STREAM_PROGRESS_BYTES: u64 = LEAST_RATE * STREAM_STALL.as_secs();

/// A holder that takes so many times as long as the quickest one of a chunk, and [`PATIENCE`] more,
/// is slow.
pub const SLOWER_THAN_QUICKEST: u32 = 4;

/// How much longer than k a get asks for at first.
pub const GET_EXTRA: usize = 2;

/// Request streams that one core serves at once; one more is refused with `Busy`.
pub const SERVED_STREAMS_MAX: usize = 1024;

/// Of these, streams of one peer, over however many connections: nobody keeps others out alone.
pub const SERVED_STREAMS_PER_PEER_MAX: usize = SERVED_STREAMS_MAX / 4;

/// Jobs of one kind on a core at once.
pub const JOBS_MAX: usize = 16;

/// Messages of a core that may wait for a full ring. Nothing refuses one more: what a core asks of
/// others at once is bounded by the limits above (each request, job and small request waits for the
/// answer to at most one question); simulated worlds check that it is.
pub const PARCELS_MAX: usize = 8192;

/// Small requests in flight on a core.
pub const ASKS_MAX: usize = 4096;

/// Shards that one holder may say it has of one object: one of each chunk, and nobody has more.
pub const STAT_SHARDS_IN_ALL_MAX: usize = pangea_wire::limits::CHUNKS_MAX as usize;

/// Pages read ahead for one shard that is being sent.
pub const SEND_AHEAD_PAGES: usize = 4;

/// Source pages that a put reads ahead.
pub const SOURCE_AHEAD_PAGES: usize = 4;

/// Output pages that a get has on their way to the file.
pub const OUTPUT_AHEAD_PAGES: usize = 8;

/// How long a grant holds: long enough for a large object at a slow pace.
pub const GRANT_LIFETIME: Duration = Duration::from_secs(6 * 3600);

/// The longest lease that a holder gives: what a user can ask for at most (`src/config.rs`).
pub const LEASE_MAX: Duration = Duration::from_secs(1826 * 24 * 3600);

/// The share of the capacity that one identity, and one network prefix, may take: a tenth.
pub const SHARE_PER_PEER: u64 = 10;

/// What an owner may have reserved and not used before it has anything on disk: a part of the
/// capacity. What it has on disk secures twice as much.
pub const NEWCOMER_SHARE: u64 = 64;

/// What all owners together may have reserved beyond what their bytes on disk secure: a quarter of
/// what is not on disk.
pub const NEWCOMERS_RESERVED_SHARE: u64 = 4;

/// While unfinished writes and reservations that nothing secures take more of what is not on disk
/// than this, a half, only what is secured is written: somebody holds much room for nothing.
pub const NEWCOMERS_WRITING_SHARE: u64 = 2;

/// Grants that one holder remembers. One more, and the network with the most of them loses its oldest.
pub const GRANTS_MAX: usize = 16 * 1024;

/// Of these, grants to one identity whose puts may still go on.
pub const GRANTS_PER_PEER_MAX: usize = 1024;

/// How long a reservation stays when the last connection that used it has ended.
pub const RESERVATION_IDLE: Duration = Duration::from_secs(60);

/// Connections of which a grant knows that they use it: an origin has one for each of its cores.
pub const CALLERS_PER_GRANT_MAX: usize = 16;

/// Grants of which is known that a connection uses them: one for each object under way.
pub const GRANTS_PER_CALLER_MAX: usize = 64;

/// Grants that wait until old things have given way. One more is refused with `Busy`.
pub const WAITING_GRANTS_MAX: usize = 256;

/// Of these, grants of one identity.
pub const WAITING_GRANTS_PER_PEER_MAX: usize = 16;

/// How soon a holder looks again for what may give way to the same owner.
pub const MAKE_ROOM_EVERY: Duration = Duration::from_secs(1);

/// How often within that time it looks at all, for whomever.
pub const MAKE_ROOM_ROUNDS_MAX: usize = 64;

/// How long a grant waits at most for what gives way to it, its turn included.
pub const MAKE_ROOM_PATIENCE: Duration = Duration::from_secs(10);

/// Owners that a node lists when it is asked how it is.
pub const OWNERS_SHOWN_MAX: usize = 64;

/// A request of a peer that waits for our own disk or ledger for this long is given up.
pub const OWN_STALL: Duration = Duration::from_secs(120);

/// How often an idle core looks for leases that are over.
pub const EXPIRE_EVERY: Duration = Duration::from_secs(10);

/// Connections that one core dials at once.
pub const LINKS_MAX: usize = 1024;

const _: () = assert!(DIAL_AGAIN_AFTER.as_millis() * 2 < DIAL_TIMEOUT.as_millis());
const _: () = assert!(HEARSAY_ADDRS_MAX < ADDRS_PER_PEER_MAX);
const _: () = assert!(ADDRS_PER_PEER_MAX <= DIALS_PER_PEER_MAX);
// Every address has had its turn long before the first is given up.
const _: () = assert!(
    DIAL_NEXT_AFTER.as_millis() * (ADDRS_PER_PEER_MAX as u128) < DIAL_AGAIN_AFTER.as_millis()
);
// Who asks a peer waits until all its addresses had their time.
const _: () = assert!(
    DIAL_TIMEOUT.as_millis() + DIAL_NEXT_AFTER.as_millis() * (ADDRS_PER_PEER_MAX as u128)
        < ASK_TIMEOUT.as_millis()
);
const _: () = assert!(HEDGE_AFTER.as_millis() < SLOW_AFTER.as_millis());
const _: () = assert!(SLOW_AFTER.as_millis() < STREAM_STALL.as_millis());
const _: () = assert!(STREAM_STALL.as_millis() < PATIENCE.as_millis());
const _: () = assert!(SERVED_STREAMS_PER_PEER_MAX < SERVED_STREAMS_MAX);
const _: () = assert!(SLOW_AFTER.as_millis() < PATIENCE.as_millis());
const _: () = assert!(STREAM_STALL.as_millis() < OWN_STALL.as_millis());
const _: () = assert!(SERVED_STREAMS_MAX + ASKS_MAX + JOBS_MAX < PARCELS_MAX);
const _: () = assert!(GRANTS_PER_PEER_MAX < GRANTS_MAX);
const _: () = assert!(GRANTS_PER_CALLER_MAX < GRANTS_PER_PEER_MAX);
const _: () = assert!(RESERVATION_IDLE.as_secs() < GRANT_LIFETIME.as_secs());
const _: () = assert!(NEWCOMER_SHARE > SHARE_PER_PEER);
// Reservations alone never keep writes waiting.
const _: () = assert!(NEWCOMERS_WRITING_SHARE < NEWCOMERS_RESERVED_SHARE);
const _: () = assert!(WAITING_GRANTS_PER_PEER_MAX < WAITING_GRANTS_MAX);
const _: () = assert!(MAKE_ROOM_PATIENCE.as_millis() < OWN_STALL.as_millis());
// Whoever asks still waits for the answer.
const _: () = assert!(MAKE_ROOM_PATIENCE.as_millis() < ASK_TIMEOUT.as_millis());
