//! What goes in and what comes out: configuration, keys, events, refusals.

use bytes::Bytes;
use pangea_base::file::{FileFault, FileRequest};
use pangea_base::{
    Code, CoreId, GroupTable, Hash, Locator, Page, PeerId, Prefix, ShardKey, UnixTime,
};

use crate::limits::{
    BLOBS_MAX, EXTENT_BYTES_MIN, EXTENT_USUAL_BYTES_MAX, JOURNAL_BYTES, JOURNAL_STEP_BYTES,
    PAGE_BYTES, PARTITIONS, SHARDS_MAX,
};

/// What a core's store is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// The partitions of this core, at least one; new shards go to the first.
    pub partitions: Vec<u8>,
    /// Cores of the node: what belongs together may be kept by several of them.
    pub cores: u8,
    /// Whose store it is.
    pub node: PeerId,
    /// What to do with a store of another node.
    pub adopt: Adopt,
    /// Bytes of a new extent, a multiple of 64 KiB, unless one shard needs more or the disk has
    /// less. Old ones keep the size they were made with.
    pub extent_bytes: u64,
    /// A journal longer than this (and than three times its snapshot) is replaced.
    pub journal_bytes: u64,
    /// A journal is extended by this much at a time, a multiple of 64 KiB, at least 128 KiB.
    pub journal_step_bytes: u64,
    /// Shards that may be held; [`crate::limits::SHARDS_MAX`] at most.
    pub shards_max: usize,
    /// Blobs that may be held; [`crate::limits::BLOBS_MAX`] at most.
    pub blobs_max: usize,
    /// The time now, doubted until [`crate::Store::expire`] brings one that is believed.
    pub now: UnixTime,
}

/// What to do with a store that another node made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adopt {
    /// It does not open.
    Refuse,
    /// It is this node's from now on.
    TakeOver,
}

impl StoreConfig {
    /// The usual sizes for one of `cores` cores of a node that may use `capacity_bytes` in all.
    pub fn new(
        core: CoreId,
        cores: u8,
        node: PeerId,
        capacity_bytes: u64,
        now: UnixTime,
    ) -> StoreConfig {
        StoreConfig {
            partitions: partitions_of(core, cores),
            cores,
            node,
            adopt: Adopt::Refuse,
            extent_bytes: extent_bytes(capacity_bytes, cores),
            journal_bytes: JOURNAL_BYTES,
            journal_step_bytes: JOURNAL_STEP_BYTES,
            shards_max: SHARDS_MAX,
            blobs_max: BLOBS_MAX,
            now,
        }
    }
}

/// The partitions that core `core` of `cores` opens: p with p mod cores = core.
pub fn partitions_of(core: CoreId, cores: u8) -> Vec<u8> {
    assert!(core.0 < cores, "core {} of {cores}", core.0);
    assert!(cores <= PARTITIONS, "{cores} cores and {PARTITIONS} partitions");
    (core.0..PARTITIONS).step_by(usize::from(cores)).collect()
}

/// Bytes of an extent on a node with this capacity and so many cores, each of which fills one:
/// min(64 MiB, capacity / 64, capacity / (16 cores)), in whole pages.
pub fn extent_bytes(capacity_bytes: u64, cores: u8) -> u64 {
    let share = capacity_bytes / 64.max(16 * u64::from(cores));
    let bytes = share.clamp(EXTENT_BYTES_MIN, EXTENT_USUAL_BYTES_MAX);
    bytes - bytes % u64::from(PAGE_BYTES)
}

/// The time, and how far it is to be trusted. Either is what `stored` stamps say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Leases end by it.
    Believed(UnixTime),
    /// Nothing becomes over by it, and nothing is deleted for its age.
    Doubted(UnixTime),
}

impl Clock {
    /// What it shows.
    pub fn time(self) -> UnixTime {
        match self {
            Clock::Believed(time) | Clock::Doubted(time) => time,
        }
    }
}

/// A shard being written. Never given to another write again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct WriteId {
    pub(crate) slot: u32,
    pub(crate) turn: u32,
}

/// What is known of a shard before its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShardMeta {
    /// Whose it is.
    pub owner: PeerId,
    /// From where the owner stores it; with the owner, the account that it counts against.
    pub prefix: Prefix,
    /// The code of its chunk.
    pub code: Code,
    /// It is over from this moment on.
    pub until: UnixTime,
    /// It will not be longer than this; the space is set aside at once.
    pub length_max: u64,
}

/// What is known of a shard that is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShardInfo {
    /// The BLAKE3 hash of its bytes.
    pub root: Hash,
    /// Bytes.
    pub length: u64,
    /// The code of its chunk.
    pub code: Code,
    /// From where its owner stored it.
    pub prefix: Prefix,
    /// When it was stored.
    pub stored: UnixTime,
    /// It is over from this moment on.
    pub until: UnixTime,
}

/// What a blob is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum BlobKind {
    /// The root page of a manifest. Its presence keeps the object's shards.
    ManifestRoot = 1,
    /// Another page of a manifest.
    ManifestPage = 2,
    /// Receipts.
    Placement = 3,
}

impl BlobKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [BlobKind; 3] =
        [BlobKind::ManifestRoot, BlobKind::ManifestPage, BlobKind::Placement];
}

/// Names one blob, whoever owns it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct BlobKey {
    /// The object's public name.
    pub locator: Locator,
    /// What it is.
    pub kind: BlobKind,
    /// Which one: the hash of a manifest page, the number of a placement page.
    pub id: Hash,
}

impl BlobKey {
    /// The name of a placement page. A newer one of the same owner takes its place.
    pub fn placement(locator: Locator, page: u32) -> BlobKey {
        let mut id = [0; 32];
        let (number, _) = id.split_at_mut(4);
        number.copy_from_slice(&page.to_le_bytes());
        BlobKey { locator, kind: BlobKind::Placement, id: Hash(id) }
    }
}

/// A shard of an owner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OwnedShard {
    /// Which shard.
    pub key: ShardKey,
    /// Whose.
    pub owner: PeerId,
}

/// A blob of an owner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OwnedBlob {
    /// Which blob.
    pub key: BlobKey,
    /// Whose.
    pub owner: PeerId,
}

/// Names anything that is held. Two owners may hold different things under one name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Key {
    /// A shard.
    Shard(OwnedShard),
    /// A manifest page or a placement.
    Blob(OwnedBlob),
}

impl Key {
    /// A shard of an owner.
    pub fn shard(owner: PeerId, key: ShardKey) -> Key {
        Key::Shard(OwnedShard { key, owner })
    }

    /// A blob of an owner.
    pub fn blob(owner: PeerId, key: BlobKey) -> Key {
        Key::Blob(OwnedBlob { key, owner })
    }

    /// Whose it is.
    pub fn owner(&self) -> PeerId {
        match self {
            Key::Shard(shard) => shard.owner,
            Key::Blob(blob) => blob.owner,
        }
    }

    /// Of which object.
    pub fn locator(&self) -> Locator {
        match self {
            Key::Shard(shard) => shard.key.locator,
            Key::Blob(blob) => blob.key.locator,
        }
    }
}

/// Whose placement page is asked for. Owners come in the order of their keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owners {
    /// This one's.
    Of(PeerId),
    /// The first owner's who has one.
    First,
    /// The next owner's behind this one.
    Behind(PeerId),
}

/// A placement page that is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlacementFound {
    /// Whose it is.
    pub owner: PeerId,
    /// Others behind this owner have a page of this number too.
    pub more: bool,
    /// Of two of the same owner and number, on two cores say, the higher is the newer.
    pub order: u64,
    /// Bytes.
    pub length: u64,
}

/// What is to be deleted for want of room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MakeRoom {
    /// Until so many bytes of disk are on their way to be free.
    pub bytes: u64,
    /// Only of this owner, and then also what is left of its `orphans`; of everybody what is over.
    pub of: Option<PeerId>,
    /// Objects of that owner that may go: no core has a manifest root of theirs.
    pub orphans: Vec<Locator>,
    /// The caller's mark.
    pub token: u64,
}

/// What an object may lack on one core, and another may have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Lacks {
    /// Its manifest's root, which keeps the shards.
    Root,
    /// Every shard, which keep the pages.
    Shards,
}

/// What is old, and kept by nothing here: it goes if no other core has what it lacks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Stray {
    /// Whose.
    pub owner: PeerId,
    /// Of which object.
    pub locator: Locator,
    /// What would keep it.
    pub lacks: Lacks,
}

/// What a put took the place of: of the same owner, under the same name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replaced {
    /// From where it had been stored; the account that gets its bytes back.
    pub prefix: Prefix,
    /// Bytes of disk that it took.
    pub bytes: u64,
}

/// Why something was deleted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Why {
    /// [`crate::Store::delete`].
    Asked,
    /// Its time was over, for a day.
    Over,
    /// No manifest came for it within a day; of a blob, no shard.
    Orphan,
    /// [`crate::Store::make_room`].
    Room,
}

/// What was found when the store was opened. Anything but 0 in the second half is damage, or the
/// trace of a crash, that a person may want to hear of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Shards held.
    pub shards: u64,
    /// Blobs held.
    pub blobs: u64,
    /// Bytes of disk that they take.
    pub bytes: u64,
    /// The same by account.
    pub owners: Vec<(PeerId, Prefix, u64)>,
    /// The latest time at which something was stored by a clock that was believed: today is not
    /// before it.
    pub newest: UnixTime,
    /// What [`crate::Store::believe`] wrote down last. Only the core that has partition 0 knows.
    pub believed: Option<UnixTime>,
    /// It was of format 1 and is of this one now.
    pub carried_over: bool,
    /// It was another node's.
    pub taken_over: Option<PeerId>,
    /// Blocks at a journal's end that were never finished, or no longer readable as what they
    /// were. After a crash they hold what was not acknowledged; without one, they are damage.
    pub cut_blocks: u64,
    /// Blocks inside a journal that fail their checksum.
    pub damaged_blocks: u64,
    /// Entries that those blocks held, as far as their neighbours tell.
    pub lost_entries: u64,
    /// Shards and blobs that the journal names and whose extent is missing or too short.
    pub lost_shards: u64,
    /// Shards and blobs dropped because others lie in their place: their deletion was in a
    /// damaged block.
    pub stale_shards: u64,
    /// Shards and blobs found in two partitions; the longer lease, or the newer, was kept.
    pub duplicates: u64,
    /// Names that are not ours; they are left alone.
    pub unknown_files: u64,
}

impl Recovered {
    /// Whether something that was acknowledged is, or may be, gone.
    pub fn damaged(&self) -> bool {
        self.damaged_blocks + self.lost_entries + self.lost_shards + self.stale_shards > 0
    }
}

/// What the store wants done, or has to say.
#[derive(Debug)]
pub enum Output {
    /// A file operation for the driver; its completion goes to [`crate::Store::file_done`].
    File(FileRequest),
    /// Something happened.
    Event(Event),
}

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// The store is open.
    Ready(Recovered),
    /// The store cannot be opened; nothing was changed.
    Failed(OpenFailed),
    /// An append that was refused for want of pages can be tried again.
    Appendable {
        /// The write.
        id: WriteId,
    },
    /// The shard is durable: it survives a power cut from here on.
    Stored {
        /// The write, now over.
        id: WriteId,
        /// The BLAKE3 hash of the bytes.
        root: Hash,
        /// How many they were.
        length: u64,
        /// Bytes of disk that it takes.
        bytes: u64,
        /// What was over and made way.
        replaced: Option<Replaced>,
    },
    /// The shard is not stored, and nothing of it is kept.
    WriteFailed {
        /// The write, now over.
        id: WriteId,
        /// Why.
        fault: StoreFault,
    },
    /// A page of a shard; its length is set.
    Read {
        /// The caller's mark.
        token: u64,
        /// The bytes, not verified: check them against the group table.
        page: Page,
    },
    /// A read of a shard, table or blob that failed.
    ReadFailed {
        /// The caller's mark.
        token: u64,
        /// Why.
        fault: StoreFault,
    },
    /// A shard's group table, verified against its root.
    Table {
        /// The caller's mark.
        token: u64,
        /// The table.
        table: GroupTable,
    },
    /// The blob is durable.
    BlobStored {
        /// The caller's mark.
        token: u64,
        /// Bytes of disk that it takes; 0 if it was held already.
        bytes: u64,
        /// The older page that made way.
        replaced: Option<Replaced>,
    },
    /// The blob is not stored.
    BlobFailed {
        /// The caller's mark.
        token: u64,
        /// Why.
        fault: StoreFault,
    },
    /// A blob, verified against its hash.
    Blob {
        /// The caller's mark.
        token: u64,
        /// Its bytes.
        bytes: Bytes,
    },
    /// A deletion is durable and its space is given back.
    Deleted {
        /// What, and whose.
        key: Key,
        /// The account that gets its bytes back, with the owner.
        prefix: Prefix,
        /// Bytes of disk that it took.
        bytes: u64,
        /// Why.
        why: Why,
        /// Until when it was to be kept; blobs go with their shards.
        until: Option<UnixTime>,
    },
    /// All that [`crate::Store::make_room`] deleted is durably gone.
    RoomMade {
        /// The caller's mark.
        token: u64,
        /// Bytes of disk, 0 if there was nothing to delete.
        bytes: u64,
    },
    /// What [`crate::Store::believe`] was told is durable.
    Believed {
        /// The time that is written down now.
        time: UnixTime,
    },
    /// One extent takes no more writes; what it holds can still be read.
    ExtentPoisoned {
        /// What failed, in words.
        reason: String,
    },
    /// The whole store takes no more writes until it is opened anew; reads go on.
    Poisoned {
        /// What failed, in words.
        reason: String,
    },
    /// Everything is written and closed; nothing follows.
    Closed,
}

/// Why the store could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenFailed {
    /// Made by another version of this program.
    #[error(
        "the store in this data directory has format {found} and this program reads format \
         {reads}; use the version of pangea that made it, or another data directory"
    )]
    OtherVersion {
        /// What the file says.
        found: u32,
        /// What this program reads.
        reads: u32,
    },
    /// The version file is not what was written.
    #[error(
        "the file store/format is damaged, so it is not certain what the data directory holds; \
         restore it from a backup, or use another data directory"
    )]
    FormatDamaged,
    /// Made by another node.
    #[error(
        "the store in this data directory belongs to node {found}, and this node has another key; \
         restore that node's key, use another data directory, or say that this node is to take \
         the store over"
    )]
    OtherNode {
        /// Whose it is.
        found: PeerId,
    },
    /// A journal is shorter than it was.
    #[error(
        "the journal of partition p{partition:02} was cut: {why}, so what is in its extents is no \
         longer known; restore store/p{partition:02} from a backup, or move it away to start without"
    )]
    JournalCut {
        /// Which partition.
        partition: u8,
        /// What shows it.
        why: Cut,
    },
    /// Extents without any readable journal.
    #[error(
        "partition p{partition:02} has {extents} extent files and no readable journal to say what \
         is in them; restore store/p{partition:02} from a backup, or move it away to start without"
    )]
    JournalLost {
        /// Which.
        partition: u8,
        /// How many.
        extents: u64,
    },
    /// A file operation failed.
    #[error("the store cannot be opened: {what}: {fault}")]
    File {
        /// What was being done.
        what: String,
        /// What came of it.
        fault: FileFault,
    },
    /// More than a core may hold.
    #[error("the store holds more than {limit} shards on one core; start the node with more cores")]
    TooMany {
        /// The configured number of shards or blobs.
        limit: usize,
    },
}

/// What shows that a journal is shorter than it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    /// A block says how long the file has to be.
    #[error("it has {length} bytes and says itself that it had {reserved}")]
    Reserved {
        /// Bytes there are.
        length: u64,
        /// Bytes there were.
        reserved: u64,
    },
    /// The file ends where no journal of format 1 ends.
    #[error("it ends at byte {length}, in the middle of what it held")]
    Short {
        /// Bytes there are.
        length: u64,
    },
    /// An extent was made later than its last block.
    #[error("extent {extent:08x} was made when it was longer")]
    Extent {
        /// Which.
        extent: u32,
    },
}

/// Why something that was begun did not succeed: the environment's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreFault {
    /// The device is full.
    #[error("the disk is full; nothing of this was kept")]
    NoSpace,
    /// A file operation failed.
    #[error("the disk failed while {what}: {fault}")]
    File {
        /// What was being done.
        what: &'static str,
        /// What came of it.
        fault: FileFault,
    },
    /// The extent was given up because of an earlier failure.
    #[error("the extent this was being written to had a failed write before")]
    ExtentPoisoned,
    /// The journal was given up because of an earlier failure.
    #[error("the store takes no more writes after a failed write of its journal; restart the node")]
    Poisoned,
    /// What was read is not what was written.
    #[error("the {0} on disk is damaged: it does not match its hash")]
    Damaged(&'static str),
    /// The store is being closed.
    #[error("the store is closing")]
    Closing,
}

/// Why a put is refused before it begins.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreRefused {
    /// Not open yet, failed to open, or closing.
    #[error("the store is not open")]
    NotReady,
    /// The owner holds this already.
    #[error("this is already held")]
    AlreadyHeld {
        /// Its root.
        root: Hash,
        /// Its length.
        length: u64,
        /// When it was stored.
        stored: UnixTime,
        /// Until when it is held; 0 for a blob.
        until: UnixTime,
    },
    /// Another write of the same key is under way.
    #[error("this is being written by someone else at the moment")]
    BeingWritten,
    /// The key's deletion is not durable yet.
    #[error("this is being deleted at the moment; try again")]
    BeingDeleted,
    /// Longer than anything may be.
    #[error("longer than the limit of {limit} bytes")]
    TooLong {
        /// [`crate::limits::SHARD_BYTES_MAX`] or [`crate::limits::BLOB_BYTES_MAX`].
        limit: u64,
    },
    /// Too many at once.
    #[error("{limit} writes are under way, which is the limit; try again")]
    TooManyWrites {
        /// [`crate::limits::WRITES_MAX`] or [`crate::limits::BLOB_WRITES_MAX`].
        limit: usize,
    },
    /// The index is full: a count, whatever room the disk has.
    #[error("{limit} are held, which is the limit of one core")]
    TooManyHeld {
        /// The configured number of shards or blobs.
        limit: usize,
    },
    /// The journal failed.
    #[error("the store takes no more writes after a failed write of its journal; restart the node")]
    Poisoned,
}

/// Why an append is refused; nothing of it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendRefused {
    /// No page is free, or this write has enough pages under way: wait for `Event::Appendable`.
    #[error("no page is free; wait until one is")]
    NoPage,
    /// The write is over: committed, aborted, or failed (an event says so).
    #[error("this write is over")]
    NotOpen,
    /// Empty, longer than a group, or behind a short one.
    #[error("all groups but the last have 16384 bytes")]
    NotAGroup,
    /// Longer than `length_max`.
    #[error("longer than the {length_max} bytes that were announced")]
    TooLong {
        /// What was announced.
        length_max: u64,
    },
}

/// Why a read is refused before it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadRefused {
    /// Not open yet.
    #[error("the store is not open")]
    NotReady,
    /// Not here.
    #[error("not held")]
    NotHeld,
    /// Not a multiple of 64 KiB, or not before the end.
    #[error("reads begin at multiples of 65536 bytes before the end")]
    BadOffset,
    /// No page is free.
    #[error("no page is free; try again")]
    NoPage,
    /// Too many at once.
    #[error("{limit} reads are under way, which is the limit; try again")]
    TooManyReads {
        /// [`crate::limits::READS_MAX`].
        limit: usize,
    },
}

/// Why a deletion is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteRefused {
    /// Not open yet, or closing.
    #[error("the store is not open")]
    NotReady,
    /// Not here.
    #[error("not held")]
    NotHeld,
    /// Another put of the same key is under way.
    #[error("this is being written at the moment; try again")]
    BeingWritten,
    /// Found in two partitions when the store was opened, and the copy is not gone yet.
    #[error("an old copy of this is still being removed; try again")]
    HeldTwice,
    /// Too many at once.
    #[error("{limit} deletions are under way, which is the limit; try again")]
    TooManyDeletes {
        /// [`crate::limits::DELETES_MAX`].
        limit: usize,
    },
    /// The journal failed.
    #[error("the store takes no more writes after a failed write of its journal; restart the node")]
    Poisoned,
}

/// What one step of expiry did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Shards that were found to be over.
    pub over: u64,
    /// Shards whose deletion began.
    pub shards: u64,
    /// Blobs whose deletion began.
    pub blobs: u64,
    /// Entries looked at; fewer than [`crate::limits::EXPIRE_STEP_MAX`] when the round is complete.
    pub seen: u64,
}
