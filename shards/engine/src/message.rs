//! What engines say to one another and to the control thread. Values only: they cross the mesh.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pangea_base::file::FileId;
use pangea_base::{
    ChunkNumber, ContentKey, CoreId, GroupTable, Hash, Locator, Page, PeerAddr, PeerId, ShardIndex,
    ShardKey, UnixTime, Unreachable,
};
use pangea_ces::ChunkPlan;
use pangea_store::{OwnedShard, Owners, PlacementFound, Replaced, ShardInfo, Stray};
use pangea_trace::{Hop, TraceContext};
use pangea_wire::{
    ChunkEntry, ClockDifference, Grant, ManifestPage, PeerSent, PlacementOf, Receipt,
    RouteResponse, ShardHeld,
};

use crate::clock::{ClockHeard, ClockStatus, Standing};
use crate::content::ContentLeaves;
use crate::ledger::{LedgerAnswer, LedgerQuestion, OwnerAccount};

/// A job of the client, unique within its process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct JobId(pub u64);

/// A small request of the client, unique within its process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AskId(pub u64);

/// One message over the mesh.
#[derive(Debug)]
pub enum Message {
    /// A datagram batch that arrived at the wrong core.
    Datagrams {
        /// From where.
        remote: SocketAddr,
        /// To which of our addresses.
        local_ip: Option<IpAddr>,
        /// ECN bits.
        ecn: Option<u8>,
        /// Bytes of each datagram but the last.
        stride: usize,
        /// The batch.
        data: Bytes,
    },
    /// The system says that nothing gets to an address: to all cores, for it does not know which of
    /// them dialled.
    Unreachable(SocketAddr, Unreachable),
    /// To the ledger, which lives on core 0.
    Ledger(u64, LedgerQuestion),
    /// From the ledger.
    LedgerSays(u64, LedgerAnswer),
    /// A core is to let go of what may give way, in this round of the ledger's.
    MakeRoom(u64, MakeRoom),
    /// It has, durably: so many bytes.
    RoomMade(u64, u64),
    /// Of which of these does another core have what they lack?
    Keeps(Quest, Arc<[Stray]>),
    /// Of these.
    KeepsThese(Quest, Vec<Stray>),
    /// Who holds this?
    Holding(u64, HoldingQuestion),
    /// What one core found in its part of the store.
    HoldingSays(u64, HoldingAnswer),
    /// From core 0: how it stands with the clock.
    Clock(Standing),
    /// To core 0: what a core found or heard of the time.
    ClockHeard(ClockHeard),
    /// Control tells a core what to do.
    Command(Command),
    /// A core tells control what happened.
    Report(Report),
}

/// What is to give way to a grant: first what is over, then what an owner's puts left behind.
#[derive(Debug, Clone)]
pub struct MakeRoom {
    /// So many bytes, or all there are.
    pub bytes: u64,
    /// Only things of this owner; `None`: what is over, of anybody.
    pub of: Option<PeerId>,
    /// Objects of that owner whose puts may still go on.
    pub spare: Arc<[Locator]>,
}

/// What a core asks the others about strays for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quest {
    /// To make room, in the ledger's round of this number.
    Room(u64),
    /// To let go of them for their age; a number of its own.
    Age(u64),
}

/// A question about one core's part of the store.
#[derive(Debug, Clone)]
pub enum HoldingQuestion {
    /// A shard with this root, whoever owns it.
    Shard(ShardKey, Hash),
    /// Its group table.
    Table(OwnedShard),
    /// One page of it, at a multiple of 64 KiB.
    Page(OwnedShard, u64),
    /// A manifest page by its hash, be it a root or a page below.
    Manifest(Locator, Hash),
    /// Whose placement page of this number there is.
    PlacementOf(Locator, u32, Owners),
    /// That page.
    Placement(Locator, u32, Owners),
    /// Every shard of an object; only those of one owner if it is named.
    Shards(Locator, Option<PeerId>),
}

/// The answer. `None`, `NotHere` or an empty list: not in this core's part.
#[derive(Debug)]
pub enum HoldingAnswer {
    /// Not in this core's part of the store.
    NotHere,
    /// It should be here, and reading it failed.
    Failed(String),
    /// No page or slot was free; ask again.
    Busy,
    /// The shard is here.
    Shard(OwnedShard, ShardInfo),
    /// Its groups.
    Table(GroupTable),
    /// A page of it.
    Page(Page),
    /// A blob.
    Blob(Bytes),
    /// A placement page is here.
    PlacementFound(PlacementFound),
    /// A blob is durable.
    Written {
        /// Bytes of disk that it takes; 0 if it was here before.
        bytes: u64,
        /// What it took the place of.
        replaced: Option<Replaced>,
    },
    /// The shards of the object that are here.
    Shards(Vec<ShardHeld>),
}

/// Whose word an address is: the better one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// The user's, or the link's.
    Given,
    /// A holder's, in a placement: it may say anything. Or what was given once, and no more.
    Hearsay,
}

/// What control tells a core.
#[derive(Debug)]
pub enum Command {
    /// Where peers may be, best first. Whoever names one of them later, by any of its addresses, has
    /// it looked for at all of them. What is given takes the place of what was given before.
    Know(Arc<[PeerAddr]>, Word),
    /// Connect, and report when it is up or has failed.
    Dial(PeerAddr),
    /// Make one small request.
    Ask {
        /// Comes back with the answer.
        id: AskId,
        /// Whom.
        to: PeerAddr,
        /// What.
        ask: Ask,
        /// For how long to try.
        patience: Duration,
        /// What it is asked for.
        context: TraceContext,
    },
    /// Store one chunk.
    Put(Box<PutChunk>),
    /// Give a shard of a running put to another holder, or (`None`) do without it.
    Replace {
        /// Which put.
        job: JobId,
        /// Which shard.
        index: ShardIndex,
        /// Who had it and is out; a shard that it stored already stays there.
        failed: PeerId,
        /// Who takes it.
        holder: Option<Box<ShardTarget>>,
    },
    /// Fetch one chunk.
    Get(Box<GetChunk>),
    /// Forget a job and cancel its streams.
    Cancel(JobId),
    /// Say who takes how much, in [`Report::Accounts`]; for core 0, which keeps the ledger.
    Accounts,
    /// Serve no new requests, flush the store, close the connections; ends in [`Report::Closed`].
    Close,
}

/// A small request.
#[derive(Debug, Clone)]
pub enum Ask {
    /// Reserve room for an object.
    Routes {
        /// For which object.
        locator: Locator,
        /// How many bytes.
        bytes: u64,
        /// For how long, in seconds.
        lease_seconds: u64,
    },
    /// Give back what is reserved for an object. Asked only of who is connected: where there is no
    /// connection, its end does the same.
    Release(Locator),
    /// Store a page of the manifest.
    PutManifest {
        /// The right to.
        grant: Box<Grant>,
        /// Which.
        name: ManifestPage,
        /// Its bytes.
        page: Bytes,
    },
    /// Store a page of the placement.
    PutPlacement {
        /// The right to.
        grant: Box<Grant>,
        /// Which.
        number: u32,
        /// Its bytes.
        page: Bytes,
    },
    /// A page of the manifest by its hash.
    Manifest(Locator, Hash),
    /// A page of the placement by its number, and whose.
    Placement(Locator, u32, PlacementOf),
    /// The shards held of an object, those of one owner if it is known.
    Stat(Locator, Option<PeerId>),
}

/// Its answer.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Grants, and how far the peer's clock is from ours if that is worth telling.
    Routes(RouteResponse, Option<ClockDifference>),
    /// What was reserved is given back.
    Released,
    /// The page is durable there.
    Stored,
    /// The bytes asked for; not yet verified.
    Blob(Bytes),
    /// A page of a placement, not yet verified.
    Placement {
        /// Who stored it.
        owner: PeerId,
        /// Whether other owners follow.
        more: bool,
        /// Its bytes.
        page: Bytes,
    },
    /// Shards held.
    Stat(HeldThere),
}

/// What one holder says that it has of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldThere {
    /// In ascending order of chunk, index and root.
    pub shards: Vec<ShardHeld>,
    /// The holder's clock, by which the shards' ends are meant.
    pub now: UnixTime,
    /// How far it is from ours if that is worth telling.
    pub clock: Option<ClockDifference>,
}

/// Why a small request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskFailed {
    /// The peer could not be reached, or the connection broke.
    #[error("{0}")]
    Unreachable(String),
    /// The peer answered, and said no.
    #[error("it refused: {0}")]
    Refused(String),
    /// The peer answered nonsense.
    #[error("it misbehaved: {0}")]
    Misbehaved(String),
    /// The peer speaks another version of the protocol.
    #[error("{0}")]
    OtherVersion(String),
    /// No answer in time.
    #[error("it did not answer in time")]
    TimedOut,
}

impl From<PeerSent> for AskFailed {
    fn from(sent: PeerSent) -> AskFailed {
        match sent {
            PeerSent::OtherVersion { .. } => AskFailed::OtherVersion(sent.to_string()),
            _ => AskFailed::Misbehaved(sent.to_string()),
        }
    }
}

/// A holder and its permission.
#[derive(Debug, Clone)]
pub struct ShardTarget {
    /// Who and where.
    pub holder: PeerAddr,
    /// Its grant for this object.
    pub grant: Grant,
}

/// Where a put's plaintext comes from.
#[derive(Debug)]
pub enum ChunkSource {
    /// A range of a file that the core's driver has adopted.
    File {
        /// Which.
        file: FileId,
        /// Where the chunk begins.
        offset: u64,
        /// Its length.
        length: u64,
    },
    /// The bytes themselves.
    Pages(Vec<Page>),
}

/// A job: encode one chunk and store its n shards.
#[derive(Debug)]
pub struct PutChunk {
    /// Unique.
    pub job: JobId,
    /// Which chunk.
    pub chunk: ChunkNumber,
    /// Its bytes.
    pub source: ChunkSource,
    /// How to encode.
    pub plan: ChunkPlan,
    /// The object's content key.
    pub key: Arc<ContentKey>,
    /// The object's public name.
    pub locator: Locator,
    /// How long to keep it, in seconds.
    pub lease_seconds: u64,
    /// One holder per shard index; `None` where there is none left.
    pub holders: Vec<Option<ShardTarget>>,
    /// What it is part of.
    pub context: TraceContext,
}

/// Where a get's plaintext goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkSink {
    /// Into a file that the core's driver has adopted, at this offset.
    File(FileId),
    /// To control, page by page in order ([`Report::Plain`]).
    Control,
}

/// A job: fetch one chunk.
#[derive(Debug)]
pub struct GetChunk {
    /// Unique.
    pub job: JobId,
    /// Which chunk.
    pub chunk: ChunkNumber,
    /// Where it begins in the object.
    pub offset: u64,
    /// Its code, sizes and shard roots.
    pub entry: Arc<ChunkEntry>,
    /// The object's content key.
    pub key: Arc<ContentKey>,
    /// The object's public name.
    pub locator: Locator,
    /// Who is said to hold what, best first.
    pub holders: Vec<(ShardIndex, PeerAddr)>,
    /// Where the bytes go.
    pub sink: ChunkSink,
    /// What it is part of.
    pub context: TraceContext,
}

/// What a core tells control.
#[derive(Debug)]
pub enum Report {
    /// The store is open (or there is none) and requests are served.
    Ready {
        /// Shards in this core's part.
        shards: u64,
        /// Bytes in this core's part.
        bytes: u64,
    },
    /// The store cannot be opened, or failed; the core serves no more.
    StoreFailed(String),
    /// Whether the clock is believed is another than before.
    Clock(ClockStatus),
    /// Everything is flushed and closed.
    Closed,
    /// The owners that take the most, largest first.
    Accounts {
        /// At most [`crate::limits::OWNERS_SHOWN_MAX`].
        owners: Vec<OwnerAccount>,
        /// How many others there are.
        others: usize,
    },
    /// A dialled peer is up, and where it was reached, or why not.
    Peer(PeerId, Result<SocketAddr, String>),
    /// The answer to an ask.
    Answered(AskId, Result<Answer, AskFailed>),
    /// A put took this many more plaintext bytes.
    PutProgress(JobId, u64),
    /// A holder failed; [`Command::Replace`] is expected.
    HolderFailed {
        /// Which put.
        job: JobId,
        /// Which shard.
        index: ShardIndex,
        /// Who.
        peer: PeerId,
        /// Why.
        why: String,
    },
    /// A holder moves nothing. [`Command::Replace`] is expected if there is another, else it may go
    /// on: better late than not at all.
    HolderSlow {
        /// Which put.
        job: JobId,
        /// Which shard.
        index: ShardIndex,
        /// Who.
        peer: PeerId,
        /// For how long.
        why: String,
    },
    /// A chunk is stored as far as it can be.
    ChunkStored {
        /// Which put.
        job: JobId,
        /// What the manifest says of it.
        entry: Box<ChunkEntry>,
        /// Of those that stored it.
        receipts: Vec<Receipt>,
    },
    /// A chunk can't be read or encoded.
    PutFailed(JobId, String),
    /// A get wrote this many more plaintext bytes.
    GetProgress(JobId, u64),
    /// The next page of plaintext.
    Plain(JobId, Page),
    /// A chunk is fetched, verified and written.
    ChunkGot(JobId, ContentLeaves),
    /// A chunk can't be fetched.
    GetFailed(JobId, GetChunkFailed),
    /// A holder sent what it should not have: it lied.
    BadHolder(PeerId, String),
    /// A holder did not answer, or has lost what it promised.
    Trouble(PeerId, String),
}

/// Why a chunk could not be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GetChunkFailed {
    /// Fewer than k shards.
    TooFew {
        /// Shards that proved good.
        found: usize,
    },
    /// Enough shards, all as the manifest says, and they do not open: the key is wrong.
    Undecodable(String),
    /// The output cannot be written.
    Output(String),
}

/// A message with its receiver.
#[derive(Debug)]
pub struct Addressed {
    /// The core, or (one past the last) control.
    pub to: CoreId,
    /// What.
    pub message: Message,
    /// What it belongs to, for the recorder.
    pub hop: Hop,
}
