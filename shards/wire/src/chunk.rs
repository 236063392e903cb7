use std::ops::Deref;

use pangea_base::{Code, GROUP_BYTES, Hash, ShardIndex};
use serde::{Deserialize, Serialize};

use crate::codec::bounded;
use crate::limits::{
    CAUCHY_SHARDS_MAX, CHUNK_PLAINTEXT_BYTES_MAX, CHUNK_SEALED_BYTES_MAX, SEGMENT_OVERHEAD_BYTES,
    UNIT_ALIGN_BYTES,
};

/// Bytes of each shard of a chunk whose sealed string of `sealed_bytes` is striped over `k` data
/// shards: full stripes of k units of 16 KiB; then, if bytes are left, one stripe whose unit is
/// ceil(rest / k) rounded up to a multiple of 64. Panics on `k` = 0, a bug of the caller.
pub const fn shard_bytes(sealed_bytes: u64, k: usize) -> u64 {
    assert!(k > 0, "a chunk has at least one data shard");
    let k = k as u64;
    let unit = GROUP_BYTES as u64;
    let stripe = k.saturating_mul(unit);
    // `stripe` is at least 1, so neither division can fail.
    let (full, rest) = match (sealed_bytes.checked_div(stripe), sealed_bytes.checked_rem(stripe)) {
        (Some(full), Some(rest)) => (full, rest),
        _ => (0, 0),
    };
    let last = rest.div_ceil(k).next_multiple_of(UNIT_ALIGN_BYTES);
    full.saturating_mul(unit).saturating_add(last)
}

/// A chunk as the manifest has it, before it is known to be consistent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkParts {
    /// Cipher suite by id: 1 XChaCha20-Poly1305, 2 AES-256-GCM.
    pub suite: u8,
    /// Erasure coder by id: 1 Cauchy over GF(2^8) (n <= 64), 2 reed-solomon-simd.
    pub scheme: u8,
    /// Data shards.
    pub k: u8,
    /// Parity shards.
    pub m: u8,
    /// Plaintext bytes of a segment: 131,072 or 65,536.
    pub segment_bytes: u32,
    /// Bytes of the object in this chunk.
    pub plaintext_bytes: u64,
    /// Bytes of the sealed chunk before striping.
    pub sealed_bytes: u64,
    /// Bytes of each shard: [`shard_bytes`] of the two above.
    pub shard_bytes: u64,
    /// The root of each shard, by index; n of them.
    #[serde(deserialize_with = "bounded::<_, _, { Code::SHARDS_MAX }>")]
    pub roots: Vec<Hash>,
}

/// A chunk as the manifest has it: what is in it can be. Made by `TryFrom<ChunkParts>` only, and
/// read through its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkEntry {
    parts: ChunkParts,
    code: Code,
}

/// What in the description of a chunk cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkWrong {
    /// A suite that this version does not know.
    #[error("cipher suite {0} is not known; this version knows 1 and 2")]
    Suite(u8),
    /// A coder that this version does not know.
    #[error("erasure coder {0} is not known; this version knows 1 and 2")]
    Scheme(u8),
    /// Not an erasure code.
    #[error("{k} + {m} is not an erasure code; it needs k >= 1 and k + m <= 255")]
    Code {
        /// Data shards.
        k: u8,
        /// Parity shards.
        m: u8,
    },
    /// More shards than the narrow coder makes.
    #[error("coder 1 makes at most {CAUCHY_SHARDS_MAX} shards, not {0}")]
    SchemeTooNarrow(usize),
    /// Not one of the two segment lengths.
    #[error("segments of {0} bytes; they have 131072 or 65536")]
    Segment(u32),
    /// More plaintext than a chunk may have.
    #[error("a chunk of {0} bytes; at most {CHUNK_PLAINTEXT_BYTES_MAX} are allowed")]
    Plaintext(u64),
    /// Fewer sealed bytes than its segments take, or more than a chunk may have.
    #[error(
        "{sealed} sealed bytes for {plaintext} of plaintext; \
         {least} to {CHUNK_SEALED_BYTES_MAX} can be"
    )]
    Sealed {
        /// Sealed bytes.
        sealed: u64,
        /// Plaintext bytes.
        plaintext: u64,
        /// Fewest possible.
        least: u64,
    },
    /// Shards whose length does not follow from the other two.
    #[error("shards of {said} bytes; the striping rule gives {right}")]
    ShardBytes {
        /// As written.
        said: u64,
        /// As it must be.
        right: u64,
    },
    /// Not one root per shard.
    #[error("{roots} shard roots for {shards} shards")]
    Roots {
        /// Roots listed.
        roots: usize,
        /// Shards of the code.
        shards: usize,
    },
}

impl ChunkEntry {
    /// The erasure code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The root of shard `index`; `None` if the chunk has no such shard.
    pub fn root(&self, index: ShardIndex) -> Option<Hash> {
        self.roots.get(usize::from(index.0)).copied()
    }

    /// Gives the parts back.
    pub fn into_parts(self) -> ChunkParts {
        self.parts
    }
}

impl Deref for ChunkEntry {
    type Target = ChunkParts;
    fn deref(&self) -> &ChunkParts {
        &self.parts
    }
}

impl TryFrom<ChunkParts> for ChunkEntry {
    type Error = ChunkWrong;

    fn try_from(parts: ChunkParts) -> Result<ChunkEntry, ChunkWrong> {
        if !matches!(parts.suite, 1 | 2) {
            return Err(ChunkWrong::Suite(parts.suite));
        }
        if !matches!(parts.scheme, 1 | 2) {
            return Err(ChunkWrong::Scheme(parts.scheme));
        }
        let (k, m) = (parts.k, parts.m);
        let code = Code::new(k, m).ok_or(ChunkWrong::Code { k, m })?;
        if parts.scheme == 1 && code.n() > CAUCHY_SHARDS_MAX {
            return Err(ChunkWrong::SchemeTooNarrow(code.n()));
        }
        if !matches!(parts.segment_bytes, 131_072 | 65_536) {
            return Err(ChunkWrong::Segment(parts.segment_bytes));
        }
        let (plaintext, sealed) = (parts.plaintext_bytes, parts.sealed_bytes);
        if plaintext > CHUNK_PLAINTEXT_BYTES_MAX {
            return Err(ChunkWrong::Plaintext(plaintext));
        }
        // Every segment takes at least its length field and its tag, however well it compresses.
        let segments = plaintext.div_ceil(u64::from(parts.segment_bytes)).max(1);
        let least = segments.saturating_mul(SEGMENT_OVERHEAD_BYTES);
        if sealed < least || sealed > CHUNK_SEALED_BYTES_MAX {
            return Err(ChunkWrong::Sealed { sealed, plaintext, least });
        }
        let right = shard_bytes(sealed, code.k());
        if parts.shard_bytes != right {
            return Err(ChunkWrong::ShardBytes { said: parts.shard_bytes, right });
        }
        if parts.roots.len() != code.n() {
            return Err(ChunkWrong::Roots { roots: parts.roots.len(), shards: code.n() });
        }
        Ok(ChunkEntry { parts, code })
    }
}
