//! The manifest: the immutable sealed list of an object's chunks.
//!
//! A root page of at most 64 KiB holds the chunks themselves, or a list of leaf pages that do, or
//! a list of index pages that list the leaf pages. Every page carries how many chunks and bytes
//! lie under it, so each can be checked and dropped on its own: memory stays bounded by one page
//! of each level whatever the object's size.

mod read;
mod seal;
mod write;

use pangea_base::{ChunkNumber, Hash, PeerId};
use serde::{Deserialize, Serialize};

pub use read::{ManifestReader, ManifestWalk, Step};
pub use write::{ManifestWriter, SealFailed, SealedManifest, SealedPage, seal_manifest};

use crate::codec::{Undecodable, bounded};
use crate::limits::{CHUNKS_MAX, MANIFEST_DEPTH_MAX, PAGE_BYTES_MAX, ROOT_BYTES_MAX};
use crate::{ChunkEntry, ChunkParts, ChunkWrong, Label, LabelRefused};
use seal::SEALED_LABEL_BYTES;

const _: () = assert!(MANIFEST_DEPTH_MAX == 3, "root, index, leaf: see Level");

/// What a manifest says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its name, sealed under a key of its own: a verify link does not show it.
    pub label: Option<Label>,
    /// Who puts it: whose shards and placement pages a reader looks for.
    pub owner: Option<PeerId>,
    /// Its chunks in order; at least one, and an empty one only alone.
    pub chunks: Vec<ChunkEntry>,
}

impl Object {
    /// Bytes of the object: the sum of its chunks.
    pub fn plaintext_bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.plaintext_bytes).sum()
    }
}

/// What a page holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// Chunks, in order from `first`.
    Chunks {
        /// The number of the first one.
        first: ChunkNumber,
        /// At least one.
        entries: Vec<ChunkEntry>,
    },
    /// Other pages, in order; at least one.
    Pages(Vec<PageRef>),
}

/// A page that is needed for some of the chunks. Made by the reader only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRef {
    /// BLAKE3 of the sealed page: what it is stored and fetched under.
    pub hash: Hash,
    /// The first chunk under it.
    pub first: ChunkNumber,
    /// How many chunks are under it.
    pub chunk_count: u32,
    /// How many bytes of the object are under it.
    pub plaintext_bytes: u64,
    number: u32,
    level: Level,
}

/// Where a page stands; part of its nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Leaf = 0,
    Index = 1,
    Root = 2,
    Label = 3,
}

/// A page reference as it is sealed.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct RefParts {
    hash: Hash,
    number: u32,
    chunk_count: u32,
    plaintext_bytes: u64,
}

/// The root page as it is sealed.
#[derive(Debug, Serialize, Deserialize)]
struct RootParts {
    plaintext_bytes: u64,
    chunk_count: u32,
    #[serde(deserialize_with = "sealed_label")]
    label: Option<Vec<u8>>,
    owner: Option<PeerId>,
    body: RootBody,
}

/// The root page of version 1 as it is sealed.
#[derive(Debug, Serialize, Deserialize)]
struct OldRootParts {
    plaintext_bytes: u64,
    chunk_count: u32,
    #[serde(deserialize_with = "sealed_label")]
    label: Option<Vec<u8>>,
    body: RootBody,
}

impl From<OldRootParts> for RootParts {
    fn from(old: OldRootParts) -> RootParts {
        let OldRootParts { plaintext_bytes, chunk_count, label, body } = old;
        RootParts { plaintext_bytes, chunk_count, label, owner: None, body }
    }
}

const CHUNK_LIST_MAX: usize = CHUNKS_MAX as usize;

#[derive(Debug, Serialize, Deserialize)]
enum RootBody {
    Chunks(#[serde(deserialize_with = "bounded::<_, _, CHUNK_LIST_MAX>")] Vec<ChunkParts>),
    Leaves(#[serde(deserialize_with = "bounded::<_, _, CHUNK_LIST_MAX>")] Vec<RefParts>),
    Indexes(#[serde(deserialize_with = "bounded::<_, _, CHUNK_LIST_MAX>")] Vec<RefParts>),
}

/// A leaf page as it is sealed.
#[derive(Debug, Serialize, Deserialize)]
struct LeafParts {
    #[serde(deserialize_with = "bounded::<_, _, CHUNK_LIST_MAX>")]
    chunks: Vec<ChunkParts>,
}

/// An index page as it is sealed.
#[derive(Debug, Serialize, Deserialize)]
struct IndexParts {
    #[serde(deserialize_with = "bounded::<_, _, CHUNK_LIST_MAX>")]
    pages: Vec<RefParts>,
}

fn sealed_label<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<Vec<u8>>, D::Error> {
    #[derive(Deserialize)]
    struct Bytes(#[serde(deserialize_with = "bounded::<_, _, SEALED_LABEL_BYTES>")] Vec<u8>);
    Ok(Option::<Bytes>::deserialize(input)?.map(|bytes| bytes.0))
}

/// Why bytes are not (part of) the manifest. [`ManifestInvalid::blames_holder`] tells whose fault
/// it is: what has the right hash came from the maker of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ManifestInvalid {
    /// The holder sent another root page.
    #[error("the manifest that was sent is not the one that the link names")]
    OtherRoot,
    /// The holder sent another page.
    #[error("the manifest page that was sent is not the one that was asked for")]
    OtherPage,
    /// A page over its limit.
    #[error(
        "the manifest page has {0} bytes; a root has at most {ROOT_BYTES_MAX}, \
         another at most {PAGE_BYTES_MAX}"
    )]
    TooLong(usize),
    /// Too short to be a page.
    #[error("the manifest page is too short to be one")]
    TooShort,
    /// Another version.
    #[error("the manifest has version {0}, this program knows versions 1 and 2")]
    Version(u8),
    /// The key of the link does not open it.
    #[error("the link's key does not open the manifest: the link was put together wrongly")]
    Key,
    /// It opens and does not decode.
    #[error("the manifest cannot be read: {0}")]
    Undecodable(#[from] Undecodable),
    /// None, or more than there may be.
    #[error("the manifest has {0} chunks; it must have 1 to {CHUNKS_MAX}")]
    ChunkCount(u32),
    /// A chunk that cannot be.
    #[error("chunk {chunk} of the manifest cannot be: {wrong}")]
    Chunk {
        /// Which.
        chunk: u32,
        /// Why.
        wrong: ChunkWrong,
    },
    /// An empty chunk among others.
    #[error("chunk {0} of the manifest is empty, which only the sole chunk of an object may be")]
    EmptyChunk(u32),
    /// A page without anything in it.
    #[error("a manifest page lists nothing")]
    EmptyList,
    /// A page with another number of chunks than its reference says.
    #[error("a manifest page has {found} chunks under it; {expected} were announced")]
    Count {
        /// Counted.
        found: u64,
        /// Announced.
        expected: u32,
    },
    /// A page with another number of bytes than its reference says.
    #[error("the chunks of a manifest page have other lengths together than the {0} announced")]
    Sum(u64),
    /// The name does not open.
    #[error("the name in the manifest cannot be opened with the link's key")]
    SealedLabel,
    /// The name is not one.
    #[error("the name in the manifest is not accepted: {0}")]
    Label(#[from] LabelRefused),
}

impl ManifestInvalid {
    /// Whether the holder that sent the bytes is at fault, so that another may be asked. If not,
    /// every holder would send the same.
    pub fn blames_holder(&self) -> bool {
        matches!(self, ManifestInvalid::OtherRoot | ManifestInvalid::OtherPage)
    }
}

#[cfg(test)]
mod tests;
