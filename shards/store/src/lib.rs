//! Shards on disk. One [`Store`] per core, a state machine without I/O of its own: it emits file
//! operations as values and takes their completions.
//!
//! An acknowledged shard is durable: its bytes are written and synced, then its journal entry is
//! written and synced, then [`Event::Stored`] comes. Whatever is waiting shares those syncs. The
//! files are described to the byte in `format.md`, and so is what recovery decides.

#![forbid(unsafe_code)]

mod clock;
mod expiry;
mod extents;
mod format;
mod index;
mod journal;
pub mod limits;
mod names;
mod ops;
mod partition;
mod put;
mod reads;
mod recovery;
mod rotation;
mod scan;
#[cfg(any(test, feature = "testing"))]
pub mod sim;
mod space;
mod store;
#[cfg(test)]
mod tests;
mod types;
mod writes;

pub use store::Store;
pub use types::{
    Adopt, AppendRefused, BlobKey, BlobKind, Clock, Cut, DeleteRefused, Event, Expired, Key, Lacks,
    MakeRoom, OpenFailed, Output, OwnedBlob, OwnedShard, Owners, PlacementFound, ReadRefused,
    Recovered, Replaced, ShardInfo, ShardMeta, StoreConfig, StoreFault, StoreRefused, Stray, Why,
    WriteId, extent_bytes, partitions_of,
};
