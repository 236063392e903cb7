use pangea_base::GROUP_BYTES;

use crate::codec::Undecodable;
use crate::limits::{
    CHUNKS_MAX, GRANT_LIFETIME_MAX, LEASE_SECONDS_MAX, PLACEMENT_PAGES_MAX, PROTOCOL_BYTES_MAX,
    SHARD_BYTES_MAX, UNIT_BYTES_MAX,
};
use crate::units::span;
use crate::{Protocol, ProtocolVersion};

/// What a peer sent that no honest peer of this version sends. The stream is over; the text says
/// what was wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerSent {
    /// The first byte of a stream is not the length of a protocol id.
    #[error(
        "the peer began a stream with a protocol id of {0} bytes; 1 to {PROTOCOL_BYTES_MAX} can be"
    )]
    ProtocolLength(u8),
    /// A protocol that this node does not speak. Escaped and cut.
    #[error("the peer asked for the protocol '{0}', which this node does not speak")]
    UnknownProtocol(String),
    /// A protocol of ours in a version that this program does not speak: asked for, or told of
    /// instead of an answer. Answered with [`crate::other_version`].
    #[error(
        "the peer speaks version {theirs} of {}, this program speaks {}",
        .protocol.family(),
        .protocol.version()
    )]
    OtherVersion {
        /// Of which protocol.
        protocol: Protocol,
        /// The peer's.
        theirs: ProtocolVersion,
    },
    /// A frame over the limit of what it should hold; refused before it was buffered.
    #[error("the peer announced a {what} of {length} bytes; at most {limit} are allowed")]
    FrameTooLong {
        /// What the frame should hold.
        what: &'static str,
        /// Announced bytes.
        length: u32,
        /// The limit.
        limit: usize,
    },
    /// A frame that does not decode.
    #[error("the peer sent a {what} that cannot be read: {cause}")]
    Undecodable {
        /// What it should be.
        what: &'static str,
        /// In which way it fails.
        cause: Undecodable,
    },
    /// A message that decodes and says something that cannot be.
    #[error("the peer sent a {what} that cannot be: {wrong}")]
    Wrong {
        /// Which message.
        what: &'static str,
        /// What in it is wrong.
        wrong: Wrong,
    },
    /// The stream ended inside something.
    #[error("the peer ended the stream in the middle of a {0}")]
    EndedInside(&'static str),
    /// Bytes after the end of what the protocol allows on this stream.
    #[error("the peer sent more bytes after the end of its {0}")]
    AfterTheEnd(&'static str),
    /// A unit of a shard that is longer than a group.
    #[error("the peer announced a unit of {0} bytes; a unit has 1 to {UNIT_BYTES_MAX}")]
    UnitTooLong(u32),
    /// A unit after a short one: only the last may be short.
    #[error("the peer sent another unit after one shorter than {UNIT_BYTES_MAX} bytes")]
    UnitAfterShort,
    /// More units than the header announced bytes.
    #[error("the peer sent more than the {0} bytes that it announced for this shard")]
    BodyOverMax(u64),
    /// A body without a single unit.
    #[error("the peer sent a shard without a single byte")]
    BodyEmpty,
    /// The trailer's length is not what came.
    #[error("the peer sent {received} bytes and says in its trailer that it sent {said}")]
    TrailerLength {
        /// As the trailer has it.
        said: u64,
        /// As counted.
        received: u64,
    },
    /// The holder offers a shard of another length than the manifest names.
    #[error("the peer offers a shard of {offered} bytes; the manifest says {expected}")]
    ShardLength {
        /// The holder's.
        offered: u64,
        /// The manifest's.
        expected: u64,
    },
    /// The holder offers a shard with another root than the manifest names.
    #[error("the peer offers a shard with another root than the manifest names")]
    ShardRoot,
    /// The holder begins at another group than was asked for.
    #[error("the peer begins at group {offered}; group {asked} was asked for")]
    FirstGroup {
        /// Where it begins.
        offered: u32,
        /// Where it should.
        asked: u32,
    },
    /// The table of group hashes does not add up to the shard's root.
    #[error("the peer sent group hashes that do not add up to the shard's root")]
    Table,
    /// A group that is not the one its hash stands for: the peer's copy is damaged or it lies.
    #[error("the peer sent a damaged group: number {0} does not match its hash")]
    Group(u64),
    /// A blob longer than anything of its kind.
    #[error("the peer offers {offered} bytes; at most {limit} are allowed here")]
    BlobTooLong {
        /// Bytes offered.
        offered: u32,
        /// The limit.
        limit: usize,
    },
}

/// What in a message cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// A version of a signed part that this node does not know.
    #[error("its {what} has version {found}, this program knows version {known}")]
    Version {
        /// Which part.
        what: &'static str,
        /// The version found.
        found: u8,
        /// The version that may stand here.
        known: u8,
    },
    /// A lease of nothing, or beyond all sense.
    #[error("a lease of {}", beyond(*.0, LEASE_SECONDS_MAX))]
    Lease(u64),
    /// A grant that is good for no time, or for too long.
    #[error("a grant for {}", beyond(*.0, GRANT_LIFETIME_MAX.as_secs()))]
    GrantLifetime(u64),
    /// A receipt whose lease ends before it begins, or after all sense.
    #[error(
        "a receipt from second {stored} to {until}; 0 seconds to {} lie between",
        span(LEASE_SECONDS_MAX)
    )]
    ReceiptTimes {
        /// When the lease should begin, in seconds since 1970.
        stored: u64,
        /// When it should end.
        until: u64,
    },
    /// A chunk number that no object has.
    #[error("chunk number {0}; an object has at most {CHUNKS_MAX} chunks")]
    Chunk(u32),
    /// A shard index that the code does not have.
    #[error("shard index {index}; the chunk has {shards} shards")]
    Index {
        /// The index.
        index: u8,
        /// How many there are.
        shards: usize,
    },
    /// A length of nothing.
    #[error("a length of 0 bytes")]
    Empty,
    /// A shard over the limit.
    #[error("a shard of {0} bytes; at most {SHARD_BYTES_MAX} are allowed")]
    ShardTooLong(u64),
    /// Something stored whole that is over the limit of its kind.
    #[error("a {what} of {length} bytes; at most {limit} are allowed")]
    TooLong {
        /// Which kind.
        what: &'static str,
        /// Announced bytes.
        length: u32,
        /// The limit.
        limit: usize,
    },
    /// A page number beyond the last.
    #[error("page {0} of a placement; it has at most {PLACEMENT_PAGES_MAX}")]
    Page(u32),
    /// A group beyond the end of the shard.
    #[error("group {first}; a shard of {length} bytes has fewer groups of {GROUP_BYTES}")]
    FirstGroup {
        /// The group.
        first: u32,
        /// The shard's length.
        length: u64,
    },
    /// A list over its limit.
    #[error("{count} {what}; at most {limit} are allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// An address that nobody can be dialled at.
    #[error("the address {0} cannot be dialled")]
    Undialable(std::net::SocketAddr),
    /// A list that should be in order, without repeats.
    #[error("its list of {0} is not in ascending order")]
    Unsorted(&'static str),
}

/// A length of time and the limit that it does not keep; to the second where the words are the
/// same.
fn beyond(seconds: u64, limit: u64) -> String {
    let [said, most] = [seconds, limit].map(|seconds| span(seconds).to_string());
    if seconds > limit && said == most {
        format!("{seconds} seconds; 1 second to {limit} seconds can be")
    } else {
        format!("{said}; 1 second to {most} can be")
    }
}
