use pangea_base::{Code, Hash, Locator, ManifestId, ShardKey};
use serde::{Deserialize, Serialize};

use crate::grant::{self, GRANT_VERSION};
use crate::limits::{PAGE_BYTES_MAX, PLACEMENT_PAGES_MAX, ROOT_BYTES_MAX, SHARD_BYTES_MAX};
use crate::receipt::{self, RECEIPT_VERSION, check_lease, check_shard};
use crate::{AuthChallenge, Message, Protocol, Receipt, StoreRefusal, Wrong};

/// Asked on `/pangea/store/2.0.0`; the body follows on the stream.
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
    /// To be kept for so many seconds by the holder's clock; 1 to
    /// [`crate::limits::LEASE_SECONDS_MAX`].
    pub lease_seconds: u64,
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

/// The beginning of a placement page. Its owner is the peer that asks, as TLS proved it.
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
    const PROTOCOL: Protocol = Protocol::Store;
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

    /// The version of its grant, which every kind begins with.
    fn other_version(body: &[u8]) -> Option<Wrong> {
        match body {
            [0..=2, version, ..] if *version != GRANT_VERSION => {
                Some(grant::version_wrong(*version))
            }
            _ => None,
        }
    }
}

impl ShardHeader {
    fn check(&self) -> Result<(), Wrong> {
        check_shard(self.key.chunk, self.key.index, self.length_max)?;
        check_lease(self.lease_seconds)?;
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
    const PROTOCOL: Protocol = Protocol::Store;
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
    const PROTOCOL: Protocol = Protocol::Store;
    const BYTES_MAX: usize = 256;

    fn check(&self) -> Result<(), Wrong> {
        match self {
            StoreResponse::Stored(receipt) => receipt.check_answer(),
            StoreResponse::BlobStored | StoreResponse::Refused(_) => Ok(()),
        }
    }

    /// The version of its receipt.
    fn other_version(body: &[u8]) -> Option<Wrong> {
        match body {
            [0, version, ..] if *version != RECEIPT_VERSION => {
                Some(receipt::version_wrong(*version))
            }
            _ => None,
        }
    }
}
