//! zstd in bounded steps, and back within bounded memory.

use zstd_safe::{CCtx, CParameter, DCtx, InBuffer, OutBuffer, ResetDirective};

use crate::format::SEGMENT_BYTES_MAX;

/// Plaintext bytes that one step compresses, and the size of a zstd block: 50 to 150 us at the
/// levels up to 1 (bench `ces`, "steps"). Also bounds the context: 555 KiB at level 1, where blocks
/// of 128 KiB need 920 KiB for 6 % more speed, and 32 KiB 370 KiB for 5 % less.
const PIECE_BYTES_FAST: usize = 64 << 10;
/// The same at the levels 2 and 3.
const PIECE_BYTES: usize = 32 << 10;
/// The same from level 4 on.
const PIECE_BYTES_SLOW: usize = 8 << 10;

/// One compressor: reused for every segment, made when the first one needs it.
#[derive(Default)]
pub(crate) struct Compressor {
    context: Option<CCtx<'static>>,
    level: i8,
    taken: usize,
    made: usize,
}

/// Where a segment's compression stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Call again.
    More,
    /// The frame is complete, in this many bytes.
    Done(usize),
    /// zstd refused: store the segment raw.
    Failed,
}

/// Room that a frame of a segment may need: with less, zstd takes a slow path.
pub(crate) fn bound(segment_bytes: usize) -> usize {
    zstd_safe::compress_bound(segment_bytes)
}

fn piece_bytes(level: i8) -> usize {
    match level {
        ..=1 => PIECE_BYTES_FAST,
        2..=3 => PIECE_BYTES,
        4.. => PIECE_BYTES_SLOW,
    }
}

impl Compressor {
    /// Begins a frame of exactly `bytes` plaintext bytes.
    pub fn begin(&mut self, level: i8, bytes: usize) {
        self.taken = 0;
        self.made = 0;
        if self.context.is_none() || self.level != level {
            self.context = Some(context(level));
            self.level = level;
        }
        if let Some(context) = &mut self.context {
            let begun = context
                .reset(ResetDirective::SessionOnly)
                .and_then(|_| context.set_pledged_src_size(Some(bytes as u64)));
            if begun.is_err() {
                self.context = None;
            }
        }
    }

    /// Compresses the next piece of `segment` into `out`; both are the same at every step.
    pub fn step(&mut self, segment: &[u8], out: &mut [u8]) -> Progress {
        let Some(context) = &mut self.context else { return Progress::Failed };
        let to = segment.len().min(self.taken + piece_bytes(self.level));
        let last = to == segment.len();
        let directive = match last {
            true => zstd_safe::zstd_sys::ZSTD_EndDirective::ZSTD_e_end,
            false => zstd_safe::zstd_sys::ZSTD_EndDirective::ZSTD_e_continue,
        };
        let mut input = InBuffer::around(&segment[self.taken..to]);
        let mut output = OutBuffer::around_pos(out, self.made);
        let left = context.compress_stream2(&mut output, &mut input, directive);
        self.made = output.pos();
        // With room for the worst case one call takes all and, at the end, flushes all.
        let whole = input.pos() == to - self.taken;
        self.taken = to;
        match left {
            Ok(0) if last && whole => Progress::Done(self.made),
            Ok(_) if !last && whole => Progress::More,
            _ => {
                self.context = None;
                Progress::Failed
            }
        }
    }

    /// Bytes that the context holds.
    pub fn bytes(&self) -> usize {
        self.context.as_ref().map_or(0, |context| context.sizeof())
    }
}

fn context(level: i8) -> CCtx<'static> {
    let mut context = CCtx::create();
    let parameters = [
        CParameter::CompressionLevel(i32::from(level)),
        CParameter::ContentSizeFlag(true),
        CParameter::ChecksumFlag(false),
        CParameter::WindowLog(SEGMENT_BYTES_MAX.ilog2()),
        CParameter::MaxBlockSize(piece_bytes(level) as u32),
    ];
    for parameter in parameters {
        context.set_parameter(parameter).expect("zstd 1.5.7 knows these parameters");
    }
    context
}

/// One decompressor, made when the first segment needs it.
#[derive(Default)]
pub(crate) struct Decompressor {
    context: Option<DCtx<'static>>,
}

/// A frame is not the one that format.md allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadFrame;

impl Decompressor {
    /// Decompresses `frame` into all of `out`. The frame must say that length itself and be of the
    /// one form that an encoder makes; zstd never writes beyond `out`, and takes no memory that
    /// the frame asks for.
    pub fn decompress(&mut self, frame: &[u8], out: &mut [u8]) -> Result<(), BadFrame> {
        check_header(frame, out.len() as u64)?;
        let context = self.context.get_or_insert_with(DCtx::create);
        match context.decompress(out, frame) {
            Ok(bytes) if bytes == out.len() => Ok(()),
            _ => Err(BadFrame),
        }
    }

    /// Bytes that the context holds.
    pub fn bytes(&self) -> usize {
        self.context.as_ref().map_or(0, |context| context.sizeof())
    }
}

/// RFC 8878 section 3.1.1.1: magic, then the descriptor byte. Bits 7-6 are the width of the
/// content size; 5 the single-segment flag (no window beyond the content); 4 is unused, 3
/// reserved, 2 checksum, 1-0 dictionary: all of these are 0.
fn check_header(frame: &[u8], content: u64) -> Result<(), BadFrame> {
    let (magic, rest) = frame.split_first_chunk::<4>().ok_or(BadFrame)?;
    let descriptor = *rest.first().ok_or(BadFrame)?;
    if u32::from_le_bytes(*magic) != zstd_safe::MAGICNUMBER || descriptor & 0x3f != 0x20 {
        return Err(BadFrame);
    }
    let one_frame = zstd_safe::find_frame_compressed_size(frame) == Ok(frame.len());
    match zstd_safe::get_frame_content_size(frame) {
        Ok(Some(said)) if said == content && one_frame => Ok(()),
        _ => Err(BadFrame),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|i| b"abcdefgh"[i * i % 7] ^ (i / 1000) as u8 & 3).collect()
    }

    fn frame(level: i8, segment: &[u8]) -> Vec<u8> {
        let mut compressor = Compressor::default();
        let mut out = vec![0; bound(segment.len())];
        compressor.begin(level, segment.len());
        loop {
            match compressor.step(segment, &mut out) {
                Progress::More => {}
                Progress::Done(bytes) => break out.truncate(bytes),
                Progress::Failed => panic!("zstd refused"),
            }
        }
        out
    }

    #[test]
    fn every_level_and_size_makes_a_frame_that_the_reader_allows() {
        for level in [-7, -5, -1, 1, 3, 4, 9] {
            for bytes in [1, 2, 255, 256, 8192, 32_767, 32_768, 32_769, 65_536, 131_071, 131_072] {
                let segment = text(bytes);
                let frame = frame(level, &segment);
                let mut out = vec![0; bytes];
                let result = Decompressor::default().decompress(&frame, &mut out);
                assert_eq!(result, Ok(()), "level {level}, {bytes} bytes");
                assert_eq!(out, segment);
            }
        }
    }

    #[test]
    fn a_frame_is_refused_unless_it_is_the_one_form_of_its_length() {
        let segment = text(100_000);
        let good = frame(1, &segment);
        let mut reader = Decompressor::default();
        let mut refused = |frame: &[u8], bytes: usize| {
            assert_eq!(reader.decompress(frame, &mut vec![0; bytes]), Err(BadFrame));
        };
        refused(&good, 99_999);
        refused(&good, 100_001);
        refused(&good[..good.len() - 1], 100_000);
        refused(&[good.clone(), vec![0]].concat(), 100_000);
        refused(&[good.clone(), good.clone()].concat(), 100_000);
        refused(&[good.clone(), frame(1, &[])].concat(), 100_000);
        // A skippable frame before it.
        refused(&[&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0], &good[..]].concat(), 100_000);
        refused(&[], 0);
        // A window descriptor (16 TiB of window) in place of the single-segment flag.
        let mut windowed = good.clone();
        windowed[4] &= !0x20;
        windowed.insert(5, 0xff);
        refused(&windowed, 100_000);
    }

    #[test]
    fn one_context_makes_the_same_frame_whatever_came_before() {
        let (a, b) = (text(131_072), vec![5u8; 70_000]);
        let mut compressor = Compressor::default();
        let mut out = vec![0; bound(a.len())];
        let mut again = |segment: &[u8]| {
            compressor.begin(1, segment.len());
            // Left in the middle, as by an abandoned encoder, before it is done in earnest.
            compressor.step(segment, &mut out);
            compressor.begin(1, segment.len());
            loop {
                if let Progress::Done(bytes) = compressor.step(segment, &mut out) {
                    return out[..bytes].to_vec();
                }
            }
        };
        let first = again(&a);
        again(&b);
        assert_eq!(again(&a), first);
        assert_eq!(first, frame(1, &a));
    }
}
