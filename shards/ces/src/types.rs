//! What is chosen for a chunk before it is encoded, and what is known of it afterwards.

use pangea_base::{ChunkNumber, Code, Hash};

/// The authenticated encryption of a chunk's segments. The numbers are on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Suite {
    /// XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03): fast everywhere.
    XChaCha20Poly1305 = 1,
    /// AES-256-GCM: several times faster where the CPU has wide AES.
    Aes256Gcm = 2,
}

impl Suite {
    /// The suite with this number, if there is one.
    pub fn from_id(id: u8) -> Option<Suite> {
        match id {
            1 => Some(Suite::XChaCha20Poly1305),
            2 => Some(Suite::Aes256Gcm),
            _ => None,
        }
    }

    /// The number on the wire.
    pub fn id(self) -> u8 {
        self as u8
    }
}

/// Which suite the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuiteChoice {
    /// AES where the CPU has wide AES, XChaCha elsewhere.
    Auto,
    /// XChaCha20-Poly1305 always.
    XChaCha,
    /// AES-256-GCM always.
    Aes,
}

/// Whether segments are compressed before they are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Every segment is stored as it is: sizes tell nothing about contents (PD-29).
    Off,
    /// zstd at this level, from [`Compression::LEVEL_MIN`] to [`Compression::LEVEL_MAX`];
    /// segments that do not shrink are stored as they are.
    Zstd(i8),
}

impl Compression {
    /// The fastest level.
    pub const LEVEL_MIN: i8 = -7;
    /// The slowest level that is still worth its time on the way to a network.
    pub const LEVEL_MAX: i8 = 9;
}

/// Whether a chunk's length is hidden within a size class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// Shards are as long as they must be.
    Off,
    /// Shards are made up to a size class (at most 12 % more; format.md, "Padding").
    SizeClass,
}

/// How a chunk is to be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkPlan {
    /// The sealing.
    pub suite: Suite,
    /// Data and parity shards.
    pub code: Code,
    /// Plaintext bytes of a segment: 131072 or 65536.
    pub segment_bytes: u32,
    /// The compression.
    pub compression: Compression,
    /// The padding.
    pub padding: Padding,
}

/// What the manifest says of a chunk, and all that a decoder needs besides the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkShape {
    /// The sealing.
    pub suite: Suite,
    /// Data and parity shards.
    pub code: Code,
    /// Plaintext bytes of a segment: 131072 or 65536.
    pub segment_bytes: u32,
    /// The chunk's number within its object.
    pub chunk: ChunkNumber,
    /// Bytes of plaintext.
    pub plaintext_bytes: u64,
    /// Bytes of the sealed string, before it is striped.
    pub sealed_bytes: u64,
    /// Bytes of each shard.
    pub shard_bytes: u64,
}

/// What came of an encoded chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkSealed {
    /// Bytes of plaintext taken in.
    pub plaintext_bytes: u64,
    /// Bytes of the sealed string, before it was striped.
    pub sealed_bytes: u64,
    /// Bytes of each shard.
    pub shard_bytes: u64,
    /// The BLAKE3 root of each of the n shards.
    pub roots: Vec<Hash>,
}

impl ChunkSealed {
    /// The shape that the manifest records, given what the chunk was encoded with.
    pub fn shape(&self, plan: &ChunkPlan, chunk: ChunkNumber) -> ChunkShape {
        ChunkShape {
            suite: plan.suite,
            code: plan.code,
            segment_bytes: plan.segment_bytes,
            chunk,
            plaintext_bytes: self.plaintext_bytes,
            sealed_bytes: self.sealed_bytes,
            shard_bytes: self.shard_bytes,
        }
    }
}

/// Whether the plaintext handed over is the last of its chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// More may follow.
    More,
    /// The chunk ends with this.
    Last,
}
