use std::sync::Arc;

use arrayvec::ArrayVec;
use pangea_base::{ChunkNumber, Code, ContentKey, GroupHasher, NoPage, Page, PagePool};

use crate::codec::{Codec, EncodeSpace};
use crate::compress::Progress;
use crate::format::{
    self, CHUNK_BYTES_MAX, HEADER_BYTES, Stored, TAG_BYTES, UNIT_BYTES, WORD_BYTES,
};
use crate::sample::{Guess, guess};
use crate::seal::{ChunkKeys, Message};
use crate::{ChunkPlan, ChunkSealed, Compression, End, Padding};

/// Turns the plaintext of one chunk into the units of its shards, a bounded step at a time.
///
/// Alternate [`Encoder::feed`] and [`Encoder::stripe`] until [`Encoder::done`]:
///
/// ```
/// # use pangea_base::*;
/// # use pangea_ces::*;
/// # let code = Code::new(2, 1).unwrap();
/// # let plan = ChunkPlan { suite: Suite::Aes256Gcm, code, segment_bytes: 65536,
/// #     compression: Compression::Zstd(1), padding: Padding::Off };
/// # let key = ContentKey(Secret::new([1; 32]));
/// # let pool = PagePool::new(16384, 3);
/// # let bytes = b"to be kept".as_slice();
/// let mut codec = Codec::new();
/// let mut encoder = Encoder::start(&mut codec, plan, ChunkNumber(0), &key, [7; 16]);
/// let mut rest = bytes;
/// while !encoder.done() {
///     let taken = encoder.feed(&mut codec, rest, End::Last);
///     rest = &rest[taken..];
///     // Err(NoPage): come back when pages are free; nothing is lost.
///     while let Some(units) = encoder.stripe(&mut codec, &pool)? {
///         assert_eq!(units.len(), 3); // send them, one to each holder
///     }
/// }
/// let sealed = encoder.finish(&mut codec);
/// assert_eq!(sealed.roots.len(), 3);
/// # Ok::<(), NoPage>(())
/// ```
pub struct Encoder {
    plan: ChunkPlan,
    keys: ChunkKeys,
    code: Arc<pangea_code::Encoder>,
    hashers: Vec<GroupHasher>,
    space: EncodeSpace,
    stage: Stage,
    /// Plaintext waiting in `space.plain`.
    filled: usize,
    /// What of `space.sealed` is not in units yet.
    sealed_from: usize,
    sealed_to: usize,
    words: Vec<u32>,
    plaintext_bytes: u64,
    /// Sealed bytes made so far, header included.
    sealed_bytes: u64,
    /// The stripe under way: n pages or none, and how many of its data bytes are there.
    units: Vec<Page>,
    placed: usize,
    stripe: u64,
    /// Known once the footer is made.
    shard_bytes: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Taking in plaintext.
    Filling(End),
    /// `filled` bytes of plaintext are being compressed; whether more will follow them.
    Compressing(End),
    /// The footer is made.
    Closed,
}

impl Encoder {
    /// Begins chunk `chunk`. The salt must be fresh from the node's entropy: two encodes of the
    /// same chunk with one salt and different plaintext would share a key and its nonces.
    ///
    /// Panics if the plan's segment size or level is not one that exists.
    pub fn start(
        codec: &mut Codec,
        plan: ChunkPlan,
        chunk: ChunkNumber,
        key: &ContentKey,
        salt: [u8; 16],
    ) -> Encoder {
        let segment_log2 = format::segment_log2(plan.segment_bytes);
        let segment_log2 = segment_log2.expect("segments have 64 or 128 KiB");
        if let Compression::Zstd(level) = plan.compression {
            let levels = Compression::LEVEL_MIN..=Compression::LEVEL_MAX;
            assert!(levels.contains(&level) && level != 0, "zstd has no level {level} here");
        }
        let keys = ChunkKeys::new(key, chunk, plan.suite, segment_log2, &salt);
        let mut space = codec.encode_space();
        space.prepare();
        space.sealed[..HEADER_BYTES].copy_from_slice(keys.header());
        Encoder {
            plan,
            keys,
            code: codec.encoder(plan.code),
            hashers: vec![GroupHasher::new(); plan.code.n()],
            space,
            stage: Stage::Filling(End::More),
            filled: 0,
            sealed_from: 0,
            sealed_to: HEADER_BYTES,
            words: Vec::new(),
            plaintext_bytes: 0,
            sealed_bytes: HEADER_BYTES as u64,
            units: Vec::new(),
            placed: 0,
            stripe: 0,
            shard_bytes: None,
        }
    }

    /// One bounded step: takes in at most a segment of plaintext, or goes on with the one taken
    /// in. With [`End::Last`] the chunk ends with `plaintext`; pass what is left of it, and `Last`,
    /// until [`Encoder::done`].
    ///
    /// Returns the bytes taken; 0 while sealed bytes wait for [`Encoder::stripe`] or work on the
    /// last segment goes on. A whole segment at once saves a copy.
    ///
    /// Panics if the chunk grows beyond [`CHUNK_BYTES_MAX`](crate::CHUNK_BYTES_MAX).
    pub fn feed(&mut self, _codec: &mut Codec, plaintext: &[u8], end: End) -> usize {
        if self.segment_waits() {
            return 0;
        }
        match self.stage {
            Stage::Filling(End::More) => self.fill(plaintext, end),
            Stage::Compressing(end) => {
                self.compress(end);
                0
            }
            Stage::Filling(End::Last) => {
                self.seal_footer();
                0
            }
            Stage::Closed => {
                assert!(plaintext.is_empty(), "nothing follows the last byte of a chunk");
                0
            }
        }
    }

    /// The next finished stripe: n units of one length ([`UNIT_BYTES`](crate::UNIT_BYTES), the
    /// last ones shorter) in pages of `units`, data shards first. `None` = feed more.
    ///
    /// A stripe's n pages are taken together when its first byte is there, so encoders that share
    /// a pool cannot starve one another half-way. `Err(NoPage)`: try again later, nothing is lost.
    pub fn stripe(
        &mut self,
        codec: &mut Codec,
        units: &PagePool,
    ) -> Result<Option<Vec<Page>>, NoPage> {
        if self.done() || (!self.segment_waits() && self.shard_bytes.is_none()) {
            return Ok(None);
        }
        if self.units.is_empty() {
            self.take_pages(codec, units)?;
        }
        self.place_sealed();
        if self.placed == self.plan.code.k() * UNIT_BYTES {
            return Ok(Some(self.complete(UNIT_BYTES)));
        }
        match self.shard_bytes {
            Some(shard_bytes) if self.sealed_from == self.sealed_to => {
                let unit_bytes = format::unit_bytes(shard_bytes, self.stripe);
                self.cut_to(unit_bytes);
                self.place_fill(unit_bytes);
                Ok(Some(self.complete(unit_bytes)))
            }
            _ => Ok(None),
        }
    }

    /// Everything was taken in and every stripe was taken out.
    pub fn done(&self) -> bool {
        let all = |shard_bytes: u64| self.stripe * UNIT_BYTES as u64 >= shard_bytes;
        self.shard_bytes.is_some_and(all)
    }

    /// The chunk's lengths and shard roots. Panics unless [`Encoder::done`].
    pub fn finish(mut self, codec: &mut Codec) -> ChunkSealed {
        assert!(self.done(), "a chunk is finished when all its stripes were taken");
        let hashers = std::mem::take(&mut self.hashers);
        let roots = hashers.into_iter().map(|hasher| hasher.finish().root()).collect();
        let sealed = ChunkSealed {
            plaintext_bytes: self.plaintext_bytes,
            sealed_bytes: self.sealed_bytes,
            shard_bytes: self.shard_bytes.unwrap_or(0),
            roots,
        };
        codec.return_encode(self.space);
        sealed
    }

    /// Gives up the chunk; its buffers go back to the codec, its pages to their pool.
    pub fn abandon(self, codec: &mut Codec) {
        codec.return_encode(self.space);
    }

    /// Whether a sealed segment (not the header alone) has yet to go into units.
    fn segment_waits(&self) -> bool {
        let header_alone = self.words.is_empty() && self.shard_bytes.is_none();
        self.sealed_from < self.sealed_to && !header_alone
    }

    fn fill(&mut self, plaintext: &[u8], end: End) -> usize {
        let segment_bytes = self.plan.segment_bytes as usize;
        let taken = plaintext.len().min(segment_bytes - self.filled);
        let end = if taken == plaintext.len() { end } else { End::More };
        self.plaintext_bytes += taken as u64;
        assert!(self.plaintext_bytes <= CHUNK_BYTES_MAX, "a chunk has at most 512 MiB");
        self.stage = Stage::Filling(end);
        let whole = self.filled + taken == segment_bytes || end == End::Last;
        if self.filled == 0 && whole {
            if taken > 0 {
                self.begin_segment(&plaintext[..taken], end);
            }
            return taken;
        }
        let filled = self.filled;
        self.space.plain()[filled..filled + taken].copy_from_slice(&plaintext[..taken]);
        self.filled += taken;
        if whole {
            let buffered = std::mem::take(&mut self.space.plain);
            let length = self.filled;
            self.filled = 0;
            self.begin_buffered(&buffered[..length], end);
            self.space.plain = buffered;
        }
        taken
    }

    /// A segment lies in the caller's memory. Compressing takes several steps, so it is copied.
    fn begin_segment(&mut self, segment: &[u8], end: End) {
        if self.seal_if_raw(segment) {
            return;
        }
        self.space.plain()[..segment.len()].copy_from_slice(segment);
        self.begin_compressing(segment.len(), end);
    }

    /// A segment lies in the encoder's own buffer.
    fn begin_buffered(&mut self, segment: &[u8], end: End) {
        if !self.seal_if_raw(segment) {
            self.begin_compressing(segment.len(), end);
        }
    }

    fn seal_if_raw(&mut self, segment: &[u8]) -> bool {
        let raw = self.plan.compression == Compression::Off || guess(segment) == Guess::Random;
        if raw {
            self.seal_raw(segment);
        }
        raw
    }

    fn begin_compressing(&mut self, bytes: usize, end: End) {
        let Compression::Zstd(level) = self.plan.compression else {
            unreachable!("without compression every segment is raw")
        };
        self.filled = bytes;
        self.space.compressor.begin(level, bytes);
        self.stage = Stage::Compressing(end);
    }

    /// One piece; with the last one the segment is sealed.
    fn compress(&mut self, end: End) {
        let at = self.segment_at() + WORD_BYTES;
        let EncodeSpace { plain, sealed, compressor } = &mut self.space;
        let progress = compressor.step(&plain[..self.filled], &mut sealed[at..]);
        if progress == Progress::More {
            return;
        }
        let length = std::mem::take(&mut self.filled);
        self.stage = Stage::Filling(end);
        match progress {
            Progress::Done(bytes) if bytes <= format::compressed_max(length) => {
                let message = self.begin_message(Stored::Zstd, bytes);
                let sealed = &mut self.space.sealed[at..at + bytes + TAG_BYTES];
                self.keys.seal_in_place(message, sealed);
                self.end_message(bytes);
            }
            _ => {
                let plain = std::mem::take(&mut self.space.plain);
                self.seal_raw(&plain[..length]);
                self.space.plain = plain;
            }
        }
    }

    /// Seals straight from where the plaintext lies to where the sealed segment waits.
    fn seal_raw(&mut self, segment: &[u8]) {
        let at = self.segment_at() + WORD_BYTES;
        let message = self.begin_message(Stored::Raw, segment.len());
        let sealed = &mut self.space.sealed[at..at + segment.len() + TAG_BYTES];
        self.keys.seal(message, segment, sealed);
        self.end_message(segment.len());
    }

    /// Where the next segment goes in `space.sealed`: to the front, or behind a waiting header.
    fn segment_at(&self) -> usize {
        if self.sealed_from == self.sealed_to { 0 } else { self.sealed_to }
    }

    fn begin_message(&mut self, stored: Stored, bytes: usize) -> Message {
        let number = self.words.len() as u32;
        let word = format::word(stored, bytes);
        self.words.push(word);
        let at = self.segment_at();
        let masked = self.keys.mask_next_word(word).to_le_bytes();
        self.space.sealed[at..at + WORD_BYTES].copy_from_slice(&masked);
        Message::Segment(number, word)
    }

    fn end_message(&mut self, bytes: usize) {
        let at = self.segment_at();
        if at == 0 {
            self.sealed_from = 0;
        }
        let whole = WORD_BYTES + bytes + TAG_BYTES;
        self.sealed_to = at + whole;
        self.sealed_bytes += whole as u64;
    }

    fn seal_footer(&mut self) {
        let at = self.segment_at();
        let mut to = at;
        let mut put = |bytes: &[u8]| {
            self.space.sealed[to..to + bytes.len()].copy_from_slice(bytes);
            to += bytes.len();
        };
        put(&self.plaintext_bytes.to_le_bytes());
        self.words.iter().for_each(|word| put(&word.to_le_bytes()));
        put(&[0; TAG_BYTES]);
        let message = Message::Footer(self.words.len() as u32);
        self.keys.seal_in_place(message, &mut self.space.sealed[at..to]);
        if at == 0 {
            self.sealed_from = 0;
        }
        self.sealed_to = to;
        self.sealed_bytes += (to - at) as u64;
        let tight = format::shard_bytes(self.sealed_bytes, self.plan.code);
        self.shard_bytes = Some(match self.plan.padding {
            Padding::Off => tight,
            Padding::SizeClass => format::size_class(tight),
        });
        self.stage = Stage::Closed;
    }

    /// All n pages of a stripe or none.
    fn take_pages(&mut self, codec: &mut Codec, pool: &PagePool) -> Result<(), NoPage> {
        assert!(pool.page_bytes() >= UNIT_BYTES, "a page holds a unit of 16 KiB");
        let n = self.plan.code.n();
        if (pool.available() as usize) < n {
            return Err(NoPage);
        }
        let mut pages = codec.vector(n);
        for _ in 0..n {
            match pool.take() {
                Ok(page) => pages.push(page),
                Err(NoPage) => {
                    codec.recycle(pages);
                    return Err(NoPage);
                }
            }
        }
        self.units = pages;
        self.placed = 0;
        Ok(())
    }

    /// Moves what waits in `space.sealed` into the data units.
    fn place_sealed(&mut self) {
        let room = self.plan.code.k() * UNIT_BYTES - self.placed;
        let bytes = room.min(self.sealed_to - self.sealed_from);
        let mut from = &self.space.sealed[self.sealed_from..self.sealed_from + bytes];
        while !from.is_empty() {
            let within = self.placed % UNIT_BYTES;
            let (now, later) = from.split_at(from.len().min(UNIT_BYTES - within));
            let unit = self.units[self.placed / UNIT_BYTES].whole_mut();
            unit[within..within + now.len()].copy_from_slice(now);
            self.placed += now.len();
            from = later;
        }
        self.sealed_from += bytes;
    }

    /// The last stripe turned out to have shorter units: moves its bytes from units of 16 KiB to
    /// units of `unit_bytes`. Backwards, because every byte moves towards the end.
    fn cut_to(&mut self, unit_bytes: usize) {
        if unit_bytes == UNIT_BYTES {
            return;
        }
        let mut held = [0; UNIT_BYTES];
        for unit in (0..self.placed.div_ceil(unit_bytes)).rev() {
            let start = unit * unit_bytes;
            let bytes = unit_bytes.min(self.placed - start);
            let mut copied = 0;
            while copied < bytes {
                let at = start + copied;
                let (page, within) = (at / UNIT_BYTES, at % UNIT_BYTES);
                let now = (bytes - copied).min(UNIT_BYTES - within);
                let from = &self.units[page].whole_mut()[within..within + now];
                held[copied..copied + now].copy_from_slice(from);
                copied += now;
            }
            self.units[unit].whole_mut()[..bytes].copy_from_slice(&held[..bytes]);
        }
    }

    fn place_fill(&mut self, unit_bytes: usize) {
        while self.placed < self.plan.code.k() * unit_bytes {
            let within = self.placed % unit_bytes;
            let unit = self.units[self.placed / unit_bytes].whole_mut();
            self.keys.fill(&mut unit[within..unit_bytes]);
            self.placed += unit_bytes - within;
        }
    }

    /// Adds parity, hashes, and hands the stripe over.
    fn complete(&mut self, unit_bytes: usize) -> Vec<Page> {
        let mut units = std::mem::take(&mut self.units);
        units.iter_mut().for_each(|unit| unit.set_len(unit_bytes));
        self.code_and_hash(&mut units);
        self.stripe += 1;
        self.placed = 0;
        units
    }

    fn code_and_hash(&mut self, units: &mut [Page]) {
        let (data, parity) = units.split_at_mut(self.plan.code.k());
        let data: ArrayVec<&[u8], { Code::SHARDS_MAX }> = data.iter().map(|page| &**page).collect();
        let mut parity: ArrayVec<&mut [u8], { Code::SHARDS_MAX }> =
            parity.iter_mut().map(|page| &mut **page).collect();
        self.code.encode(&data, &mut parity);
        let all = data.iter().copied().chain(parity.iter().map(|unit| &**unit));
        for (hasher, unit) in self.hashers.iter_mut().zip(all) {
            hasher.push(unit);
        }
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Encoder({:?}, {} B in, stripe {})",
            self.stage, self.plaintext_bytes, self.stripe
        )
    }
}
