#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use arrayvec::ArrayVec;
use pangea_base::{ChunkNumber, Code, ContentKey, Page, Secret, ShardIndex};
use pangea_code::Unrecoverable;

use crate::codec::{Codec, DecodeSpace};
use crate::format::{self, HEADER_BYTES, Layout, ShapeInvalid, Stored, TAG_BYTES, WORD_BYTES};
use crate::seal::{ChunkKeys, Message};
use crate::{ChunkShape, Suite};

/// Why a chunk does not decode. The units were verified against their shard roots before they
/// came here, so but for [`DecodeFailed::Units`] and [`DecodeFailed::UnitLength`] the holders are
/// not to blame: the origin made it so, or the key belongs to another object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeFailed {
    /// The manifest's entry contradicts itself.
    #[error("chunk {}: {cause}", chunk.0)]
    Shape {
        /// The chunk.
        chunk: ChunkNumber,
        /// The contradiction.
        cause: ShapeInvalid,
    },
    /// The units handed over are not `k` different ones of this code.
    #[error("chunk {}: {cause}", chunk.0)]
    Units {
        /// The chunk.
        chunk: ChunkNumber,
        /// What is wrong with them.
        cause: Unrecoverable,
    },
    /// A unit of the wrong length, or a stripe beyond the last.
    #[error("chunk {}: a unit of {found} bytes where {expected} belong", chunk.0)]
    UnitLength {
        /// The chunk.
        chunk: ChunkNumber,
        /// Its bytes.
        found: usize,
        /// The bytes that every unit of the stripe has.
        expected: usize,
    },
    /// The header is none that the manifest's suite and segment size allow.
    #[error(
        "chunk {}: its header does not match the manifest; the origin encoded it wrongly", chunk.0
    )]
    Header {
        /// The chunk.
        chunk: ChunkNumber,
    },
    /// A segment's word is none that an encoder writes.
    #[error(
        "chunk {}, segment {segment}: its length is not a possible one; the link's key belongs \
         to another object, or the origin encoded it wrongly", chunk.0
    )]
    Word {
        /// The chunk.
        chunk: ChunkNumber,
        /// The segment.
        segment: u32,
    },
    /// A segment does not open.
    #[error(
        "chunk {}, segment {segment}: it does not open; the link's key belongs to another \
         object, or the origin encoded it wrongly", chunk.0
    )]
    Forged {
        /// The chunk.
        chunk: ChunkNumber,
        /// The segment.
        segment: u32,
    },
    /// A segment opened, but what is in it is not a zstd frame of exactly its length.
    #[error(
        "chunk {}, segment {segment}: it does not decompress to exactly {expected} bytes; \
         the origin made it wrong on purpose or by mistake", chunk.0
    )]
    Frame {
        /// The chunk.
        chunk: ChunkNumber,
        /// The segment.
        segment: u32,
        /// The length it must have.
        expected: usize,
    },
    /// The footer does not open or says other lengths than the segments had.
    #[error(
        "chunk {}: its footer contradicts its segments; the origin encoded it wrongly", chunk.0
    )]
    Footer {
        /// The chunk.
        chunk: ChunkNumber,
    },
    /// What follows the footer is not the fill that belongs there.
    #[error("chunk {}: the fill at its end is wrong; the origin encoded it wrongly", chunk.0)]
    Fill {
        /// The chunk.
        chunk: ChunkNumber,
    },
    /// [`Decoder::finish`] was called before everything had come.
    #[error("chunk {}: it ended after {stripes} of its stripes", chunk.0)]
    Unfinished {
        /// The chunk.
        chunk: ChunkNumber,
        /// Stripes that came.
        stripes: u64,
    },
}

/// Turns the units of any `k` shards back into the plaintext of their chunk.
///
/// For each stripe in order: hand over `k` units with [`Decoder::stripe`], then call
/// [`Decoder::segment`] until it gives `None`. At the end call [`Decoder::finish`]: only then is
/// it known that the chunk was whole. After an error the decoder gives that error for ever.
pub struct Decoder {
    chunk: ChunkNumber,
    suite: Suite,
    layout: Layout,
    state: State,
    space: DecodeSpace,
    /// What of `space.buffer` was not used yet.
    from: usize,
    to: usize,
    /// Where `from` lies in the sealed string.
    position: u64,
    stripe: u64,
    /// The next segment's word, when its segment is not all there yet.
    word: Option<u32>,
    words: Vec<u32>,
}

enum State {
    /// Waits for the salt; the content key is kept until then.
    Header(ContentKey),
    Segments(Box<ChunkKeys>),
    Fill(Box<ChunkKeys>),
    Failed(DecodeFailed),
}

impl Decoder {
    /// Begins a chunk. `shape` may come from anyone; it is checked here. Memory does not depend on
    /// the lengths in it.
    pub fn start(
        codec: &mut Codec,
        shape: &ChunkShape,
        key: &ContentKey,
    ) -> Result<Decoder, DecodeFailed> {
        let chunk = shape.chunk;
        let layout = Layout::of(shape).map_err(|cause| DecodeFailed::Shape { chunk, cause })?;
        Ok(Decoder {
            chunk,
            suite: shape.suite,
            layout,
            state: State::Header(ContentKey(Secret::new(*key.0.expose()))),
            space: codec.decode_space(shape.code.k()),
            from: 0,
            to: 0,
            position: 0,
            stripe: 0,
            word: None,
            words: Vec::new(),
        })
    }

    /// The length of each unit of `stripe`; 0 beyond the last.
    pub fn unit_bytes(&self, stripe: u64) -> usize {
        self.layout.unit_bytes(stripe)
    }

    /// How many stripes the chunk has.
    pub fn stripes(&self) -> u64 {
        self.layout.stripes()
    }

    /// The stripe that [`Decoder::stripe`] expects next.
    pub fn next_stripe(&self) -> u64 {
        self.stripe
    }

    /// Takes in the next stripe: exactly `k` units with distinct indices, in any order, each
    /// already verified against the root of its shard.
    ///
    /// Panics if [`Decoder::segment`] was not called until `None` before.
    pub fn stripe(
        &mut self,
        codec: &mut Codec,
        units: &[(ShardIndex, &[u8])],
    ) -> Result<(), DecodeFailed> {
        if let State::Failed(cause) = self.state {
            return Err(cause);
        }
        let outcome = self.take_stripe(codec, units);
        self.remember(outcome)
    }

    /// One bounded step: opens and decompresses at most one segment into `out`, whose length it
    /// sets; `out` holds at least the chunk's segment size. `None`: it needs the next stripe, or
    /// all segments came.
    ///
    /// Nothing of a segment is in `out` before its tag was verified.
    pub fn segment(
        &mut self,
        _codec: &mut Codec,
        out: &mut Page,
    ) -> Result<Option<usize>, DecodeFailed> {
        out.set_len(0);
        if let State::Failed(cause) = self.state {
            return Err(cause);
        }
        let outcome = self.next_segment(out);
        self.remember(outcome)
    }

    /// Whether all has come and was right.
    pub fn done(&self) -> bool {
        matches!(self.state, State::Fill(_))
            && self.from == self.to
            && self.stripe == self.layout.stripes()
    }

    /// The chunk was whole: every segment, the footer, the last byte of fill.
    pub fn finish(mut self, codec: &mut Codec) -> Result<(), DecodeFailed> {
        let outcome = match self.state {
            State::Failed(cause) => Err(cause),
            _ => self.check_tail(),
        };
        let done = self.done();
        codec.return_decode(self.space);
        outcome?;
        let unfinished = DecodeFailed::Unfinished { chunk: self.chunk, stripes: self.stripe };
        if done { Ok(()) } else { Err(unfinished) }
    }

    /// Gives up the chunk; its buffers go back to the codec.
    pub fn abandon(self, codec: &mut Codec) {
        codec.return_decode(self.space);
    }

    fn remember<T>(&mut self, outcome: Result<T, DecodeFailed>) -> Result<T, DecodeFailed> {
        if let Err(cause) = outcome
            && cause.is_final()
        {
            self.state = State::Failed(cause);
        }
        outcome
    }

    fn take_stripe(
        &mut self,
        codec: &mut Codec,
        units: &[(ShardIndex, &[u8])],
    ) -> Result<(), DecodeFailed> {
        let chunk = self.chunk;
        let code = self.layout.code;
        let unit_bytes = self.layout.unit_bytes(self.stripe);
        let wrong = units.iter().find(|(_, unit)| unit.len() != unit_bytes || unit_bytes == 0);
        if let Some((_, unit)) = wrong {
            let (found, expected) = (unit.len(), unit_bytes);
            return Err(DecodeFailed::UnitLength { chunk, found, expected });
        }
        // More than k are refused too: the surplus would not be looked at.
        let units = if units.len() > code.k() { &[] } else { units };
        let decoder = codec
            .decoder(code, units.iter().map(|(index, _)| *index))
            .map_err(|cause| DecodeFailed::Units { chunk, cause })?;
        let bytes = unit_bytes.saturating_mul(code.k());
        let room = self.room(bytes);
        for (index, unit) in units {
            let place = usize::from(index.0).checked_mul(unit_bytes);
            let place = place.and_then(|at| room.get_mut(at..)?.get_mut(..unit_bytes));
            if let Some(place) = place {
                place.copy_from_slice(unit);
            }
        }
        if !decoder.wanted().is_empty() {
            restore(&decoder, units, room, unit_bytes);
        }
        self.to = self.to.saturating_add(bytes);
        self.stripe = self.stripe.saturating_add(1);
        Ok(())
    }

    /// Room for `bytes` more behind what is in the buffer.
    fn room(&mut self, bytes: usize) -> &mut [u8] {
        let buffer = &mut self.space.buffer;
        if buffer.len().saturating_sub(self.to) < bytes {
            buffer.copy_within(self.from..self.to, 0);
            self.to = self.to.saturating_sub(self.from);
            self.from = 0;
        }
        let room = buffer.get_mut(self.to..).and_then(|rest| rest.get_mut(..bytes));
        room.expect("all whole segments are taken out before the next stripe is put in")
    }

    fn next_segment(&mut self, out: &mut Page) -> Result<Option<usize>, DecodeFailed> {
        self.read_header()?;
        let number = self.segments_read();
        if number >= self.layout.segments {
            self.check_tail()?;
            return Ok(None);
        }
        let (chunk, expected) = (self.chunk, self.layout.segment_plaintext(number));
        let Some(word) = self.read_word() else { return Ok(None) };
        let bad_word = DecodeFailed::Word { chunk, segment: number };
        let (kind, bytes) = format::parse_word(word, expected).ok_or(bad_word)?;
        let whole = SEGMENT_OVERHEAD.saturating_add(bytes);
        if self.position.saturating_add(whole as u64) > self.layout.footer_at {
            return Err(bad_word);
        }
        let (start, end) = (self.from.saturating_add(WORD_BYTES), self.from.saturating_add(whole));
        let State::Segments(keys) = &self.state else { return Ok(None) };
        if end > self.to {
            return Ok(None);
        }
        let Some(sealed) = self.space.buffer.get_mut(start..end) else { return Ok(None) };
        let message = Message::Segment(number, word);
        let forged = |_| DecodeFailed::Forged { chunk, segment: number };
        out.set_len(expected);
        let opened = match kind {
            Stored::Raw => keys.open(message, sealed, out).map_err(forged),
            Stored::Zstd => keys.open_in_place(message, sealed).map_err(forged).and_then(|frame| {
                let bad = |_| DecodeFailed::Frame { chunk, segment: number, expected };
                self.space.decompressor.decompress(frame, out).map_err(bad)
            }),
        };
        if let Err(cause) = opened {
            out.set_len(0);
            return Err(cause);
        }
        self.words.push(word);
        self.word = None;
        self.advance(whole);
        Ok(Some(expected))
    }

    fn segments_read(&self) -> u32 {
        u32::try_from(self.words.len()).unwrap_or(u32::MAX)
    }

    fn waiting(&self) -> &[u8] {
        self.space.buffer.get(self.from..self.to).unwrap_or_default()
    }

    fn advance(&mut self, bytes: usize) {
        self.from = self.from.saturating_add(bytes);
        self.position = self.position.saturating_add(bytes as u64);
    }

    fn read_header(&mut self) -> Result<(), DecodeFailed> {
        let State::Header(content) = &self.state else { return Ok(()) };
        let Some(header) = self.waiting().first_chunk::<HEADER_BYTES>() else { return Ok(()) };
        let wrong = DecodeFailed::Header { chunk: self.chunk };
        let log2 = format::segment_log2(self.layout.segment_bytes).ok_or(wrong)?;
        let salt = format::salt_of(header, self.suite, log2).ok_or(wrong)?;
        let keys = ChunkKeys::new(content, self.chunk, self.suite, log2, &salt);
        self.state = State::Segments(Box::new(keys));
        self.advance(HEADER_BYTES);
        Ok(())
    }

    /// The next segment's word, unmasked once.
    fn read_word(&mut self) -> Option<u32> {
        if self.word.is_none() {
            let masked = u32::from_le_bytes(*self.waiting().first_chunk()?);
            let State::Segments(keys) = &mut self.state else { return None };
            self.word = Some(keys.mask_next_word(masked));
        }
        self.word
    }

    /// The footer and the fill, as far as they are there.
    fn check_tail(&mut self) -> Result<(), DecodeFailed> {
        self.read_header()?;
        if self.segments_read() < self.layout.segments {
            return Ok(());
        }
        if matches!(self.state, State::Segments(_)) {
            self.check_footer()?;
        }
        let State::Fill(keys) = &mut self.state else { return Ok(()) };
        let mut expected = [0; 1024];
        while self.from < self.to {
            let bytes = self.to.saturating_sub(self.from).min(expected.len());
            let end = self.from.saturating_add(bytes);
            let expected = expected.get_mut(..bytes).unwrap_or_default();
            keys.fill(expected);
            if self.space.buffer.get(self.from..end) != Some(&*expected) {
                return Err(DecodeFailed::Fill { chunk: self.chunk });
            }
            self.from = end;
        }
        Ok(())
    }

    fn check_footer(&mut self) -> Result<(), DecodeFailed> {
        let wrong = DecodeFailed::Footer { chunk: self.chunk };
        if self.position != self.layout.footer_at {
            return Err(wrong);
        }
        let bytes = format::footer_bytes(self.layout.segments) as usize;
        let end = self.from.saturating_add(bytes);
        if end > self.to {
            return Ok(());
        }
        let State::Segments(keys) = &self.state else { return Ok(()) };
        let sealed = self.space.buffer.get_mut(self.from..end).ok_or(wrong)?;
        let message = Message::Footer(self.layout.segments);
        let table = keys.open_in_place(message, sealed).map_err(|_| wrong)?;
        let (length, words) = table.split_first_chunk::<8>().ok_or(wrong)?;
        let expected = self.words.iter().flat_map(|word| word.to_le_bytes());
        let right = u64::from_le_bytes(*length) == self.layout.plaintext_bytes
            && words.iter().copied().eq(expected);
        if !right {
            return Err(wrong);
        }
        self.advance(bytes);
        let state = std::mem::replace(&mut self.state, State::Failed(wrong));
        if let State::Segments(keys) = state {
            self.state = State::Fill(keys);
        }
        Ok(())
    }
}

/// Fills in the units of `room` that are not among `units`.
fn restore(
    decoder: &pangea_code::Decoder,
    units: &[(ShardIndex, &[u8])],
    room: &mut [u8],
    unit_bytes: usize,
) {
    let unit_of =
        |index: &ShardIndex| units.iter().find(|(i, _)| i == index).map(|(_, unit)| *unit);
    let sources: ArrayVec<&[u8], { Code::SHARDS_MAX }> =
        decoder.sources().iter().filter_map(unit_of).collect();
    let lost = |j: usize| decoder.wanted().iter().any(|index| usize::from(index.0) == j);
    let mut outputs: ArrayVec<&mut [u8], { Code::SHARDS_MAX }> = room
        .chunks_exact_mut(unit_bytes)
        .enumerate()
        .filter_map(|(j, unit)| lost(j).then_some(unit))
        .collect();
    decoder.restore(&sources, &mut outputs);
}

const SEGMENT_OVERHEAD: usize = WORD_BYTES + TAG_BYTES;

impl DecodeFailed {
    /// Whether other units could still make it good.
    fn is_final(self) -> bool {
        !matches!(self, DecodeFailed::Units { .. } | DecodeFailed::UnitLength { .. })
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (stripe, segments) = (self.stripe, self.words.len());
        write!(f, "Decoder(chunk {}, stripe {stripe}, {segments} segments out)", self.chunk.0)
    }
}
