//! What every room shares: ids and keys, the page pool, file operations as values, BLAKE3 groups,
//! identities, seeded entropy. Nothing here reads a clock, a file, the environment or the system's
//! random source: what a machine needs of the world is given to it.

#![deny(unsafe_code)]

mod addr;
mod code;
mod entropy;
pub mod file;
mod groups;
mod identity;
mod ids;
mod keys;
mod network;
#[allow(unsafe_code)]
mod page;
mod sync;
mod wake;
#[cfg(loom)]
pub mod watched;

pub use addr::{AddrInvalid, PeerAddr, Unreachable, canonical, is_of_one_link};
pub use code::Code;
pub use entropy::Entropy;
pub use groups::{
    GROUP_BYTES, GroupHasher, GroupTable, GroupTableInvalid, group_count, merge_groups,
};
pub use identity::{Identity, SIGNATURE_BYTES, Signature, verify_signature};
pub use ids::{
    ChunkNumber, CoreId, Hash, IdInvalid, Locator, ManifestId, PeerId, ShardIndex, ShardKey,
    UnixTime,
};
pub use keys::{ContentKey, ReadKey, Secret, VerifyKey};
pub use network::{CORES_MAX, Prefix};
pub use page::{NoPage, PAGE_ALIGN, Page, PagePool, release_free_memory};
pub use wake::Wake;
