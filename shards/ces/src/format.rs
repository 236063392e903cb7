//! The layout of format.md: pure arithmetic, and the header.

#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use pangea_base::{Code, GROUP_BYTES};

use crate::{ChunkShape, Suite};

/// The format's version.
pub const VERSION: u8 = 1;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 32;
/// Bytes of an authentication tag, in both suites.
pub const TAG_BYTES: usize = 16;
/// Bytes of a segment's word.
pub const WORD_BYTES: usize = 4;
/// Bytes of a unit in every stripe but the last: one BLAKE3 group.
pub const UNIT_BYTES: usize = GROUP_BYTES;
/// Units are multiples of this, so that vector kernels have no tails.
pub const UNIT_ALIGN: u64 = 64;
/// The larger segment size, for all but small chunks and small machines.
pub const SEGMENT_BYTES_MAX: u32 = 128 << 10;
/// The smaller segment size.
pub const SEGMENT_BYTES_SMALL: u32 = 64 << 10;
/// The most plaintext in a chunk.
pub const CHUNK_BYTES_MAX: u64 = 512 << 20;

// The footer of the longest chunk is sealed in the buffer of one segment.
const _: () = assert!(
    CHUNK_BYTES_MAX / SEGMENT_BYTES_SMALL as u64 * WORD_BYTES as u64 + FOOTER_BYTES_MIN
        <= SEGMENT_BYTES_SMALL as u64
);
const _: () = assert!((UNIT_BYTES as u64).is_multiple_of(UNIT_ALIGN));

const FOOTER_BYTES_MIN: u64 = 24;
const HEADER_BYTES_U64: u64 = HEADER_BYTES as u64;
const UNIT_BYTES_U64: u64 = UNIT_BYTES as u64;
const SEALED_OVERHEAD: u64 = (WORD_BYTES + TAG_BYTES) as u64;
const RAW_BIT: u32 = 1 << 31;
const LENGTH_MASK: u32 = (1 << 24) - 1;

/// A manifest entry that no encoder makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShapeInvalid {
    /// Neither 64 nor 128 KiB.
    #[error("the manifest gives segments of {0} bytes; there are only 65536 and 131072")]
    SegmentBytes(u32),
    /// Over [`CHUNK_BYTES_MAX`].
    #[error("the manifest gives a chunk of {0} bytes; the most is {CHUNK_BYTES_MAX}")]
    ChunkBytes(u64),
    /// The sealed length cannot come from that much plaintext.
    #[error("the manifest gives {sealed} sealed bytes for {plaintext} bytes of plaintext")]
    SealedBytes {
        /// Sealed bytes in the manifest.
        sealed: u64,
        /// Plaintext bytes in the manifest.
        plaintext: u64,
    },
    /// The shard length follows from the sealed length, with or without padding.
    #[error("the manifest gives shards of {found} bytes; they must have {tight} or {padded}")]
    ShardBytes {
        /// Shard bytes in the manifest.
        found: u64,
        /// Without padding.
        tight: u64,
        /// With padding.
        padded: u64,
    },
}

/// All lengths of a chunk, checked against one another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub code: Code,
    pub segment_bytes: u32,
    pub segments: u32,
    pub plaintext_bytes: u64,
    /// Where the footer begins in the sealed string.
    pub footer_at: u64,
    pub shard_bytes: u64,
}

impl Layout {
    pub fn of(shape: &ChunkShape) -> Result<Layout, ShapeInvalid> {
        let (plaintext, sealed) = (shape.plaintext_bytes, shape.sealed_bytes);
        if segment_log2(shape.segment_bytes).is_none() {
            return Err(ShapeInvalid::SegmentBytes(shape.segment_bytes));
        }
        if plaintext > CHUNK_BYTES_MAX {
            return Err(ShapeInvalid::ChunkBytes(plaintext));
        }
        let segments = segment_count(plaintext, shape.segment_bytes);
        let (low, high) = sealed_range(plaintext, segments);
        if !(low..=high).contains(&sealed) {
            return Err(ShapeInvalid::SealedBytes { sealed, plaintext });
        }
        let tight = shard_bytes(sealed, shape.code);
        let padded = size_class(tight);
        if shape.shard_bytes != tight && shape.shard_bytes != padded {
            return Err(ShapeInvalid::ShardBytes { found: shape.shard_bytes, tight, padded });
        }
        Ok(Layout {
            code: shape.code,
            segment_bytes: shape.segment_bytes,
            segments,
            plaintext_bytes: plaintext,
            footer_at: sealed.saturating_sub(footer_bytes(segments)),
            shard_bytes: shape.shard_bytes,
        })
    }

    pub fn stripes(&self) -> u64 {
        self.shard_bytes.div_ceil(UNIT_BYTES_U64)
    }

    /// 0 beyond the last stripe.
    pub fn unit_bytes(&self, stripe: u64) -> usize {
        unit_bytes(self.shard_bytes, stripe)
    }

    /// Plaintext bytes of a segment; 0 beyond the last.
    pub fn segment_plaintext(&self, segment: u32) -> usize {
        let before = u64::from(segment).saturating_mul(u64::from(self.segment_bytes));
        let left = self.plaintext_bytes.saturating_sub(before);
        left.min(u64::from(self.segment_bytes)) as usize
    }
}

pub(crate) fn unit_bytes(shard_bytes: u64, stripe: u64) -> usize {
    let left = shard_bytes.saturating_sub(stripe.saturating_mul(UNIT_BYTES_U64));
    left.min(UNIT_BYTES_U64) as usize
}

/// At most 8192: the callers have checked `plaintext` against [`CHUNK_BYTES_MAX`].
pub(crate) fn segment_count(plaintext: u64, segment_bytes: u32) -> u32 {
    u32::try_from(plaintext.div_ceil(u64::from(segment_bytes))).unwrap_or(u32::MAX)
}

pub(crate) fn footer_bytes(segments: u32) -> u64 {
    u64::from(segments).saturating_mul(WORD_BYTES as u64).saturating_add(FOOTER_BYTES_MIN)
}

/// The least and the greatest sealed length: every segment of one stored byte, or all raw.
fn sealed_range(plaintext: u64, segments: u32) -> (u64, u64) {
    let segments_u64 = u64::from(segments);
    let fixed = HEADER_BYTES_U64
        .saturating_add(footer_bytes(segments))
        .saturating_add(segments_u64.saturating_mul(SEALED_OVERHEAD));
    (fixed.saturating_add(segments_u64), fixed.saturating_add(plaintext))
}

/// The most sealed bytes that `plaintext` bytes can become.
pub(crate) fn sealed_bytes_max(plaintext: u64, segment_bytes: u32) -> u64 {
    sealed_range(plaintext, segment_count(plaintext, segment_bytes)).1
}

/// Shard bytes without padding.
pub(crate) fn shard_bytes(sealed: u64, code: Code) -> u64 {
    let k = (code.k() as u64).max(1);
    let stripe = k.saturating_mul(UNIT_BYTES_U64);
    let rest = sealed.checked_rem(stripe).unwrap_or(0);
    let full = sealed.checked_div(stripe).unwrap_or(0).saturating_mul(UNIT_BYTES_U64);
    full.saturating_add(rest.div_ceil(k).next_multiple_of(UNIT_ALIGN))
}

/// Padmé (Nikitin et al. 2019, "Reducing Metadata Leakage from Encrypted Files"), in steps of 64.
pub(crate) fn size_class(shard_bytes: u64) -> u64 {
    let exponent = shard_bytes.checked_ilog2().unwrap_or(0);
    let kept = exponent.checked_ilog2().unwrap_or(0).saturating_add(1);
    let step = 1u64.checked_shl(exponent.saturating_sub(kept)).unwrap_or(1);
    shard_bytes.next_multiple_of(step.max(UNIT_ALIGN))
}

pub(crate) fn segment_log2(segment_bytes: u32) -> Option<u8> {
    match segment_bytes {
        SEGMENT_BYTES_SMALL => Some(16),
        SEGMENT_BYTES_MAX => Some(17),
        _ => None,
    }
}

pub(crate) fn header(suite: Suite, segment_log2: u8, salt: &[u8; 16]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let (fixed, rest) = header.split_at_mut(16);
    fixed.iter_mut().zip([VERSION, suite.id(), segment_log2]).for_each(|(to, from)| *to = from);
    rest.copy_from_slice(salt);
    header
}

/// The salt of a header, if the header is the only one that suite and segment size allow.
pub(crate) fn salt_of(
    found: &[u8; HEADER_BYTES],
    suite: Suite,
    segment_log2: u8,
) -> Option<[u8; 16]> {
    let salt: [u8; 16] = found.last_chunk().copied()?;
    (*found == header(suite, segment_log2, &salt)).then_some(salt)
}

/// How a segment is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    Raw,
    Zstd,
}

/// The word of a segment.
pub(crate) fn word(stored: Stored, length: usize) -> u32 {
    assert!(length <= SEGMENT_BYTES_MAX as usize, "a segment is stored within its size");
    let raw = if stored == Stored::Raw { RAW_BIT } else { 0 };
    length as u32 | raw
}

/// How and in how many bytes a segment of `plaintext` bytes is stored; `None` for a word that no
/// encoder writes.
pub(crate) fn parse_word(word: u32, plaintext: usize) -> Option<(Stored, usize)> {
    let length = (word & LENGTH_MASK) as usize;
    match word & !LENGTH_MASK {
        RAW_BIT if length == plaintext => Some((Stored::Raw, length)),
        0 if (1..=compressed_max(plaintext)).contains(&length) => Some((Stored::Zstd, length)),
        _ => None,
    }
}

/// The most bytes that a compressed segment may have: it must save more than 1/64, or it is
/// stored raw, which costs the reader less.
pub(crate) fn compressed_max(plaintext: usize) -> usize {
    plaintext.saturating_sub(plaintext.div_ceil(64)).saturating_sub(1)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_size_class_costs_at_most_an_eighth_and_leaves_few_sizes() {
        let mut classes = std::collections::BTreeSet::new();
        for shard in (64..4_000_000u64).step_by(64) {
            let class = size_class(shard);
            assert!(class >= shard && class.is_multiple_of(64));
            assert!(class <= shard + shard / 8, "{shard} became {class}");
            assert_eq!(size_class(class), class, "a class is its own class");
            classes.insert(class);
        }
        assert!(classes.len() < 500, "{} sizes of 62499", classes.len());
    }

    #[test]
    fn a_word_is_read_only_as_it_was_written() {
        assert_eq!(parse_word(word(Stored::Raw, 1000), 1000), Some((Stored::Raw, 1000)));
        assert_eq!(parse_word(word(Stored::Raw, 1000), 1001), None);
        assert_eq!(parse_word(word(Stored::Zstd, 983), 1000), Some((Stored::Zstd, 983)));
        assert_eq!(parse_word(word(Stored::Zstd, 984), 1000), None, "it saves too little");
        assert_eq!(parse_word(0, 1000), None, "a frame is never empty");
        for bit in 24..31 {
            assert_eq!(parse_word(word(Stored::Raw, 1000) | 1 << bit, 1000), None);
        }
    }
}
