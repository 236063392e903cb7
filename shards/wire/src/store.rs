use pangea_base::{Code, Hash, Locator, ManifestId, ShardKey, UnixTime};
use serde::{Deserialize, Serialize};

use crate::limits::{PAGE_BYTES_MAX, PLACEMENT_PAGES_MAX, ROOT_BYTES_MAX, SHARD_BYTES_MAX};
use crate::receipt::check_shard;
use crate::{AuthChallenge, AuthRefused, Message, Receipt, Wrong};

/// Asked on `/pangea/store/1.0.0`; the body follows on the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreRequest {
    /// Then units (see `format.md`), then a frame with [`StoreTrailer`].
    PutShard(ShardHeader),
    /// Then exactly `length` raw bytes.
    PutManifest(ManifestHeader),
    /// Then exactly `length` raw bytes.
    PutPlacement(PlacementHeader),
}

/// The beginning of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardHeader {
    /// By what right.
    pub auth: AuthChallenge,
    /// Which shard; its index is below `code.n()`.
    pub key: ShardKey,
    /// The chunk's code.
    pub code: Code,
    /// It will have at most so many bytes; 1 to [`SHARD_BYTES_MAX`].
    pub length_max: u64,
    /// To be kept until then.
    pub lease: UnixTime,
}

/// The beginning of a manifest page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestHeader {
    /// By what right.
    pub auth: AuthChallenge,
    /// Of which object.
    pub locator: Locator,
    /// Which page.
    pub page: ManifestPage,
    /// Its bytes; 1 to the limit of its kind.
    pub length: u32,
}

/// A page of a manifest, named by the hash of its sealed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ManifestPage {
    /// The root page, at most 64 KiB.
    Root(ManifestId),
    /// A page below it, at most 1 MiB.
    Page(Hash),
}

impl ManifestPage {
    /// The BLAKE3 hash that the bytes must have.
    pub fn hash(&self) -> Hash {
        match self {
            ManifestPage::Root(id) => Hash(id.0),
            ManifestPage::Page(hash) => *hash,
        }
    }

    /// Longest page of this kind.
    pub const fn bytes_max(&self) -> usize {
        match self {
            ManifestPage::Root(_) => ROOT_BYTES_MAX,
            ManifestPage::Page(_) => PAGE_BYTES_MAX,
        }
    }
}

/// The beginning of a placement page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementHeader {
    /// By what right.
    pub auth: AuthChallenge,
    /// Of which object.
    pub locator: Locator,
    /// Which page, from 0.
    pub page: u32,
    /// Its bytes; 1 to 1 MiB.
    pub length: u32,
}

impl StoreRequest {
    /// The right by which it asks.
    pub fn auth(&self) -> &AuthChallenge {
        match self {
            StoreRequest::PutShard(header) => &header.auth,
            StoreRequest::PutManifest(header) => &header.auth,
            StoreRequest::PutPlacement(header) => &header.auth,
        }
    }

    /// The object that it is about.
    pub fn locator(&self) -> Locator {
        match self {
            StoreRequest::PutShard(header) => header.key.locator,
            StoreRequest::PutManifest(header) => header.locator,
            StoreRequest::PutPlacement(header) => header.locator,
        }
    }
}

impl Message for StoreRequest {
    const NAME: &'static str = "store request";
    const BYTES_MAX: usize = 512;

    fn check(&self) -> Result<(), Wrong> {
        self.auth().grant.check()?;
        match self {
            StoreRequest::PutShard(header) => header.check(),
            StoreRequest::PutManifest(header) => {
                let limit = header.page.bytes_max();
                check_blob("manifest page", header.length, limit)
            }
            StoreRequest::PutPlacement(header) => {
                check_page(header.page)?;
                check_blob("placement page", header.length, PAGE_BYTES_MAX)
            }
        }
    }
}

impl ShardHeader {
    fn check(&self) -> Result<(), Wrong> {
        check_shard(self.key.chunk, self.key.index, self.length_max)?;
        let (index, shards) = (self.key.index.0, self.code.n());
        if usize::from(index) >= shards {
            return Err(Wrong::Index { index, shards });
        }
        Ok(())
    }
}

pub(crate) fn check_page(page: u32) -> Result<(), Wrong> {
    if page < PLACEMENT_PAGES_MAX { Ok(()) } else { Err(Wrong::Page(page)) }
}

pub(crate) fn check_blob(what: &'static str, length: u32, limit: usize) -> Result<(), Wrong> {
    match usize::try_from(length) {
        Ok(0) => Err(Wrong::Empty),
        Ok(bytes) if bytes <= limit => Ok(()),
        _ => Err(Wrong::TooLong { what, length, limit }),
    }
}

/// The end of a shard, in a frame of its own behind the last unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreTrailer {
    /// The shard's BLAKE3 root.
    pub root: Hash,
    /// The shard's bytes.
    pub length: u64,
}

impl Message for StoreTrailer {
    const NAME: &'static str = "shard trailer";
    const BYTES_MAX: usize = 48;

    fn check(&self) -> Result<(), Wrong> {
        match self.length {
            0 => Err(Wrong::Empty),
            1..=SHARD_BYTES_MAX => Ok(()),
            long => Err(Wrong::ShardTooLong(long)),
        }
    }
}

/// The answer to [`StoreRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreResponse {
    /// The shard is durable.
    Stored(Receipt),
    /// The manifest or placement page is durable.
    BlobStored,
    /// Nothing was stored.
    Refused(StoreRefusal),
}

impl Message for StoreResponse {
    const NAME: &'static str = "store response";
    const BYTES_MAX: usize = 256;

    fn check(&self) -> Result<(), Wrong> {
        match self {
            StoreResponse::Stored(receipt) => receipt.check(),
            StoreResponse::BlobStored | StoreResponse::Refused(_) => Ok(()),
        }
    }
}

/// Whose share is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Whose {
    /// The peer's.
    Peer,
    /// That of the network it calls from.
    Network,
}

impl std::fmt::Display for Whose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Whose::Peer => "this peer",
            Whose::Network => "this peer's network",
        })
    }
}

/// Why a holder does not store something; the texts complete "the holder says: …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum StoreRefusal {
    /// It keeps nothing for others, or not for this peer.
    #[error("it accepts nothing from this peer")]
    NotAccepting,
    /// The peer, or its network, has its share already.
    #[error("{whose} has {used} bytes of its {limit} there, a share of {capacity}")]
    OverQuota {
        /// Whose share.
        whose: Whose,
        /// What is stored and reserved already.
        used: u64,
        /// The share in bytes.
        limit: u64,
        /// The whole node's.
        capacity: u64,
    },
    /// The grant or its proof.
    #[error("the grant was not accepted: {0}")]
    BadGrant(AuthRefused),
    /// More than the grant allows.
    #[error("the grant allows {limit} bytes in all and this would be more")]
    OverGrant {
        /// What the grant allows.
        limit: u64,
    },
    /// The bytes that arrived do not have the hash that was announced.
    #[error("what arrived does not have the hash that was announced")]
    RootMismatch,
    /// Longer than announced or allowed.
    #[error("it was longer than the {limit} bytes allowed")]
    TooLong {
        /// Bytes allowed.
        limit: u64,
    },
    /// The request broke the protocol.
    #[error("it did not understand the request")]
    BadRequest,
    /// No space.
    #[error("it is full: all of its {capacity} bytes, or its disk")]
    Full {
        /// What the node keeps in all.
        capacity: u64,
    },
    /// Too much to do now.
    #[error("it is busy; try later or elsewhere")]
    Busy,
    /// It has other bytes under that name.
    #[error("it holds a different shard under that name")]
    AlreadyHeldDifferent,
    /// Nothing came for too long, or too slowly.
    #[error("the data came too slowly")]
    TooSlow,
    /// It is about to stop.
    #[error("it is shutting down")]
    Stopping,
    /// Its disk failed, or another fault of its own.
    #[error("it failed with a fault of its own; try elsewhere")]
    Internal,
}
