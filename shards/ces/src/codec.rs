//! What encoders and decoders of one core share: buffers, compressors and erasure-code plans,
//! handed out at a chunk's start and taken back at its end.

use std::sync::Arc;

use pangea_base::{Code, Page, ShardIndex};
use pangea_code::Unrecoverable;

use crate::compress::{Compressor, Decompressor, bound};
use crate::format::{HEADER_BYTES, SEGMENT_BYTES_MAX, TAG_BYTES, UNIT_BYTES, WORD_BYTES};

/// Encoders' and decoders' buffers that are kept for the next chunk, of each kind.
pub const SPARE_BUFFERS_MAX: usize = 4;
/// Codes whose matrices are kept.
pub const ENCODERS_KEPT_MAX: usize = 4;
/// Loss patterns whose solutions are kept.
pub const DECODERS_KEPT_MAX: usize = 16;
/// Emptied stripe vectors that are kept.
pub const SPARE_VECTORS_MAX: usize = 16;
/// Stripes that a decoder has room for beside a segment, if they fit [`DECODE_ROOM_BYTES`]: with
/// more room the rest of a segment is moved to the front less often.
const STRIPES_AHEAD: usize = 2;
/// A decoder's room for stripes; wide codes, whose one stripe is more, get one stripe.
const DECODE_ROOM_BYTES: usize = 320 << 10;

/// One per core. All memory that CES works in comes from here and comes back; nothing of it
/// depends on a chunk's length.
#[derive(Default)]
pub struct Codec {
    encode: Vec<EncodeSpace>,
    decode: Vec<DecodeSpace>,
    encoders: Vec<Arc<pangea_code::Encoder>>,
    decoders: Vec<Solution>,
    vectors: Vec<Vec<Page>>,
}

struct Solution {
    code: Code,
    present: Vec<ShardIndex>,
    decoder: Arc<pangea_code::Decoder>,
}

impl Codec {
    /// Empty: memory is taken when the first chunk needs it.
    pub fn new() -> Codec {
        Codec::default()
    }

    /// Gives an emptied stripe back, so that the next one needs no allocation. Pages still in it
    /// return to their pool.
    pub fn recycle(&mut self, mut stripe: Vec<Page>) {
        stripe.clear();
        if self.vectors.len() < SPARE_VECTORS_MAX {
            self.vectors.push(stripe);
        }
    }

    /// Bytes of working memory held for chunks to come (not by those in progress).
    pub fn spare_bytes(&self) -> usize {
        let encode: usize = self.encode.iter().map(EncodeSpace::bytes).sum();
        let decode: usize = self.decode.iter().map(DecodeSpace::bytes).sum();
        encode + decode
    }

    /// Lets go of all that is held for chunks to come; an idle node is small.
    pub fn trim(&mut self) {
        *self = Codec::default();
    }

    pub(crate) fn vector(&mut self, capacity: usize) -> Vec<Page> {
        let mut vector = self.vectors.pop().unwrap_or_default();
        vector.reserve(capacity);
        vector
    }

    pub(crate) fn encoder(&mut self, code: Code) -> Arc<pangea_code::Encoder> {
        if let Some(found) = self.encoders.iter().find(|encoder| encoder.code() == code) {
            return found.clone();
        }
        let made = Arc::new(pangea_code::Encoder::new(code));
        self.encoders.truncate(ENCODERS_KEPT_MAX - 1);
        self.encoders.insert(0, made.clone());
        made
    }

    /// The solution for the shards in `present`; the order they come in is part of its key.
    pub(crate) fn decoder(
        &mut self,
        code: Code,
        present: impl Iterator<Item = ShardIndex> + Clone,
    ) -> Result<Arc<pangea_code::Decoder>, Unrecoverable> {
        let same = |kept: &&Solution| {
            kept.code == code && kept.present.iter().copied().eq(present.clone())
        };
        if let Some(found) = self.decoders.iter().find(same) {
            return Ok(found.decoder.clone());
        }
        let present: Vec<ShardIndex> = present.collect();
        let decoder = Arc::new(pangea_code::Decoder::new(code, &present)?);
        self.decoders.truncate(DECODERS_KEPT_MAX - 1);
        self.decoders.insert(0, Solution { code, present, decoder: decoder.clone() });
        Ok(decoder)
    }

    pub(crate) fn encode_space(&mut self) -> EncodeSpace {
        self.encode.pop().unwrap_or_default()
    }

    pub(crate) fn return_encode(&mut self, space: EncodeSpace) {
        if self.encode.len() < SPARE_BUFFERS_MAX {
            self.encode.push(space);
        }
    }

    pub(crate) fn decode_space(&mut self, k: usize) -> DecodeSpace {
        let mut space = self.decode.pop().unwrap_or_default();
        let stripe = k * UNIT_BYTES;
        let ahead = (STRIPES_AHEAD * stripe).min(DECODE_ROOM_BYTES).max(stripe);
        let room = WORD_BYTES + SEGMENT_BYTES_MAX as usize + TAG_BYTES + ahead;
        if space.buffer.len() < room {
            space.buffer = vec![0; room];
        }
        space
    }

    pub(crate) fn return_decode(&mut self, space: DecodeSpace) {
        if self.decode.len() < SPARE_BUFFERS_MAX {
            self.decode.push(space);
        }
    }
}

impl std::fmt::Debug for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Codec({} B spare)", self.spare_bytes())
    }
}

/// An encoder's memory.
#[derive(Default)]
pub(crate) struct EncodeSpace {
    /// A segment that comes in parts, or that is being compressed in steps.
    pub plain: Vec<u8>,
    /// The sealed segment (with the header before the first one) until it is in its units.
    pub sealed: Vec<u8>,
    pub compressor: Compressor,
}

impl EncodeSpace {
    /// Room for the largest segment, taken when it is first needed.
    pub fn plain(&mut self) -> &mut Vec<u8> {
        if self.plain.is_empty() {
            self.plain = vec![0; SEGMENT_BYTES_MAX as usize];
        }
        &mut self.plain
    }

    /// Makes room for one sealed segment and a header.
    pub fn prepare(&mut self) {
        if self.sealed.is_empty() {
            let segment = bound(SEGMENT_BYTES_MAX as usize);
            self.sealed = vec![0; HEADER_BYTES + WORD_BYTES + segment + TAG_BYTES];
        }
    }

    fn bytes(&self) -> usize {
        self.plain.capacity() + self.sealed.capacity() + self.compressor.bytes()
    }
}

/// A decoder's memory.
#[derive(Default)]
pub(crate) struct DecodeSpace {
    /// Sealed bytes from the units, in order.
    pub buffer: Vec<u8>,
    pub decompressor: Decompressor,
}

impl DecodeSpace {
    fn bytes(&self) -> usize {
        self.buffer.capacity() + self.decompressor.bytes()
    }
}
