use pangea_base::{
    ChunkNumber, Hash, Locator, PeerId, ShardIndex, ShardKey, UnixTime, group_count,
};
use serde::{Deserialize, Serialize};

use crate::codec::bounded;
use crate::limits::{PAGE_BYTES_MAX, SHARD_BYTES_MAX, STAT_SHARDS_MAX};
use crate::receipt::{check_key, check_shard};
use crate::route::at_most;
use crate::store::{check_blob, check_page};
use crate::{Message, Protocol, Wrong};

/// Asked on `/pangea/fetch/2.0.0`. Knowing the locator is authority enough: all of it is sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FetchRequest {
    /// A shard from one of its groups to its end.
    GetShard {
        /// Which.
        key: ShardKey,
        /// With this root, whoever owns it: others may keep other bytes under the same name.
        root: Hash,
        /// From which group of 16 KiB; 0 for all of it.
        first_group: u32,
    },
    /// A page of the manifest.
    GetManifest {
        /// Of which object.
        locator: Locator,
        /// The hash of the page; for the root page, the manifest id.
        page: Hash,
    },
    /// A page of the placement.
    GetPlacement {
        /// Of which object.
        locator: Locator,
        /// Which page, from 0; page 0 says how many there are.
        page: u32,
        /// The page of which owner.
        whose: PlacementOf,
    },
    /// Which shards of an object are held.
    Stat {
        /// Of which object.
        locator: Locator,
        /// Only what belongs to it.
        owner: Option<PeerId>,
        /// Only shards behind this one, in ascending order; to go on after a full answer.
        after: Option<(ChunkNumber, ShardIndex, Hash)>,
    },
}

/// Which of the owners of placement pages of one object and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlacementOf {
    /// This one.
    Owner(PeerId),
    /// The first one, by their keys in ascending order.
    First,
    /// The first one behind this one.
    Behind(PeerId),
}

impl PlacementOf {
    /// Whether a page of `owner` is an answer.
    pub fn is(&self, owner: PeerId) -> bool {
        match self {
            PlacementOf::Owner(asked) => owner == *asked,
            PlacementOf::First => true,
            PlacementOf::Behind(before) => owner > *before,
        }
    }
}

impl FetchRequest {
    /// The object that it is about.
    pub fn locator(&self) -> Locator {
        match self {
            FetchRequest::GetShard { key, .. } => key.locator,
            FetchRequest::GetManifest { locator, .. }
            | FetchRequest::GetPlacement { locator, .. }
            | FetchRequest::Stat { locator, .. } => *locator,
        }
    }
}

impl Message for FetchRequest {
    const NAME: &'static str = "fetch request";
    const PROTOCOL: Protocol = Protocol::Fetch;
    const BYTES_MAX: usize = 128;

    fn check(&self) -> Result<(), Wrong> {
        match self {
            FetchRequest::GetShard { key, first_group, .. } => {
                check_key(key.chunk, key.index)?;
                check_group(*first_group, SHARD_BYTES_MAX)
            }
            FetchRequest::GetManifest { .. } => Ok(()),
            FetchRequest::GetPlacement { page, .. } => check_page(*page),
            FetchRequest::Stat { after, .. } => {
                after.map_or(Ok(()), |(chunk, index, _)| check_key(chunk, index))
            }
        }
    }
}

fn check_group(first: u32, length: u64) -> Result<(), Wrong> {
    if u64::from(first) < group_count(length) {
        Ok(())
    } else {
        Err(Wrong::FirstGroup { first, length })
    }
}

/// The answer to [`FetchRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FetchResponse {
    /// Then the group hashes of the whole shard, 32 raw bytes each, then its raw bytes from
    /// `first_group` to the end.
    Shard(ShardBegins),
    /// Then exactly `length` raw bytes.
    Blob {
        /// 1 to 1 MiB.
        length: u32,
    },
    /// What is held.
    Stat {
        /// The holder's clock: how long each shard is still kept is the difference.
        now: UnixTime,
        /// In ascending order of chunk, index and root.
        #[serde(deserialize_with = "bounded::<_, _, STAT_SHARDS_MAX>")]
        shards: Vec<ShardHeld>,
        /// Whether there are more behind the last.
        more: bool,
    },
    /// Nothing.
    Refused(FetchRefusal),
    /// Then exactly `length` raw bytes: a placement page.
    Placement {
        /// Who stored it.
        owner: PeerId,
        /// 1 to 1 MiB.
        length: u32,
        /// Whether another owner behind this one has a page of this number.
        more: bool,
    },
}

/// The beginning of a shard on its way to who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardBegins {
    /// Bytes of the whole shard.
    pub length: u64,
    /// Its BLAKE3 root.
    pub root: Hash,
    /// The group that the raw bytes begin with.
    pub first_group: u32,
}

/// A shard that the answering node holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardHeld {
    /// Of which chunk.
    pub chunk: ChunkNumber,
    /// Which shard.
    pub index: ShardIndex,
    /// Its bytes.
    pub length: u64,
    /// Its root.
    pub root: Hash,
    /// Kept until then, by the holder's clock.
    pub until: UnixTime,
}

impl Message for FetchResponse {
    const NAME: &'static str = "fetch response";
    const PROTOCOL: Protocol = Protocol::Fetch;
    const BYTES_MAX: usize = 64 * 1024;

    fn check(&self) -> Result<(), Wrong> {
        match self {
            FetchResponse::Shard(begins) => {
                check_shard(ChunkNumber(0), ShardIndex(0), begins.length)?;
                check_group(begins.first_group, begins.length)
            }
            FetchResponse::Blob { length } => check_blob("page", *length, PAGE_BYTES_MAX),
            FetchResponse::Placement { length, .. } => {
                check_blob("placement page", *length, PAGE_BYTES_MAX)
            }
            FetchResponse::Stat { shards, .. } => {
                at_most("shards", shards.len(), STAT_SHARDS_MAX)?;
                let order = |shard: &ShardHeld| (shard.chunk, shard.index, shard.root);
                if !shards.is_sorted_by(|a, b| order(a) < order(b)) {
                    return Err(Wrong::Unsorted("shards"));
                }
                shards.iter().try_for_each(|s| check_shard(s.chunk, s.index, s.length))
            }
            FetchResponse::Refused(_) => Ok(()),
        }
    }
}

/// Why a holder does not give something; the texts complete "the holder says: …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum FetchRefusal {
    /// It does not have it.
    #[error("it does not hold that")]
    NotHeld,
    /// The group is beyond the end of its shard.
    #[error("its shard has fewer groups than that")]
    BeyondEnd,
    /// The request broke the protocol.
    #[error("the request is not one that can be; please report it, with both programs' versions")]
    BadRequest,
    /// Too much to do now.
    #[error("it is busy; try later or elsewhere")]
    Busy,
    /// What it holds is damaged on its disk.
    #[error("its copy is damaged")]
    Damaged,
    /// It is about to stop.
    #[error("it is shutting down; try elsewhere")]
    Stopping,
    /// Its disk failed, or another fault of its own.
    #[error("it failed with a fault of its own; try elsewhere")]
    Internal,
}
