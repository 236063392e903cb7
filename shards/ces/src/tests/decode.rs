use super::*;
use crate::compress;
use crate::format;
use crate::seal::{ChunkKeys, Message};
use crate::{CHUNK_BYTES_MAX, ShapeInvalid};
use pangea_code::Unrecoverable;
use proptest::prelude::*;

#[test]
fn any_four_of_fourteen_shards_may_be_lost_in_both_suites() {
    for suite in SUITES {
        let source = mixed(700_001);
        let encoded = encode(usual(suite), &source);
        let mut codec = Codec::new();
        for mask in (0u32..1 << 14).filter(|mask| mask.count_ones() == 4).step_by(17) {
            let mut present: Vec<u8> = (0..14).filter(|i| mask & (1 << i) == 0).collect();
            present.rotate_left(mask as usize % 10);
            let out = decode_from(&mut codec, &encoded.shape, &encoded.shards, &present, &key());
            assert!(out.as_ref() == Ok(&source), "{suite:?} {mask:014b} {:?}", out.err());
        }
    }
}

#[test]
fn every_flipped_bit_of_a_sealed_string_is_refused() {
    for suite in SUITES {
        for source in [Vec::new(), text(1), text(700), random(300, 1)] {
            let encoded = encode(plan(suite, code(3, 1), Compression::Zstd(1)), &source);
            let string = sealed_string(&encoded);
            for bit in 0..string.len() * 8 {
                let mut bent = string.clone();
                bent[bit / 8] ^= 1 << (bit % 8);
                assert!(decode_string(&encoded.shape, &bent).is_err(), "{suite:?} bit {bit}");
            }
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_in_many_segments_is_refused_and_named() {
    let source = mixed(600_000);
    let encoded = encode(usual(Suite::Aes256Gcm), &source);
    let string = sealed_string(&encoded);
    for at in (0..string.len()).step_by(997) {
        let mut bent = string.clone();
        bent[at] ^= 0x10;
        assert!(decode_string(&encoded.shape, &bent).is_err(), "byte {at}");
    }
    let mut bent = string.clone();
    bent[40] ^= 1;
    let failed = decode_string(&encoded.shape, &bent).unwrap_err();
    assert_eq!(failed, DecodeFailed::Forged { chunk: CHUNK, segment: 0 });
    bent[0] = 2;
    let failed = decode_string(&encoded.shape, &bent).unwrap_err();
    assert_eq!(failed, DecodeFailed::Header { chunk: CHUNK });
}

/// Where each segment of a raw chunk lies in the sealed string.
fn raw_segments(bytes: usize) -> Vec<std::ops::Range<usize>> {
    let mut at = 32;
    let mut out = Vec::new();
    for start in (0..bytes).step_by(131_072) {
        let whole = 131_072.min(bytes - start) + 20;
        out.push(at..at + whole);
        at += whole;
    }
    out
}

#[test]
fn reordered_dropped_repeated_or_spliced_segments_are_refused() {
    let raw = plan(Suite::XChaCha20Poly1305, code(4, 2), Compression::Off);
    let source = vec![0; 4 * 131_072];
    let encoded = encode(raw, &source);
    let string = sealed_string(&encoded);
    let segments = raw_segments(source.len());
    let with = |order: [usize; 4]| {
        let mut out = string.clone();
        for (to, from) in order.into_iter().enumerate() {
            out[segments[to].clone()].copy_from_slice(&string[segments[from].clone()]);
        }
        decode_string(&encoded.shape, &out)
    };
    assert_eq!(with([0, 1, 2, 3]), Ok(source.clone()));
    for order in [[1, 0, 2, 3], [0, 1, 3, 2], [0, 0, 2, 3], [0, 2, 2, 3], [3, 1, 2, 0]] {
        assert!(with(order).is_err(), "{order:?}");
    }
    // The same segment of the same plaintext, under another salt.
    let other = encode_with(&mut Codec::new(), raw, [1; 16], &source, || usize::MAX);
    let other = sealed_string(&other);
    for segment in &segments {
        let mut spliced = string.clone();
        spliced[segment.clone()].copy_from_slice(&other[segment.clone()]);
        assert!(decode_string(&encoded.shape, &spliced).is_err());
    }
    // A segment fewer, with every length in the manifest adjusted to it.
    let mut shape = encoded.shape;
    shape.plaintext_bytes -= 131_072;
    shape.sealed_bytes -= 131_072 + 24;
    shape.shard_bytes = format::shard_bytes(shape.sealed_bytes, shape.code);
    let mut cut = string.clone();
    cut.drain(segments[3].clone());
    cut.resize(shape.shard_bytes as usize * 4, 0);
    assert!(decode_string(&shape, &cut).is_err());
}

#[test]
fn truncated_chunks_are_refused_at_every_stripe() {
    let source = random(900_000, 4);
    let encoded = encode(usual(Suite::Aes256Gcm), &source);
    let pool = PagePool::new(131_072, 1);
    let mut page = pool.take().unwrap();
    let mut codec = Codec::new();
    for kept in 0..6u64 {
        let mut decoder = Decoder::start(&mut codec, &encoded.shape, &key()).unwrap();
        assert_eq!(decoder.stripes(), 6);
        for stripe in 0..kept {
            let (start, bytes) = (stripe as usize * GROUP_BYTES, decoder.unit_bytes(stripe));
            let units: Vec<(ShardIndex, &[u8])> = (0..10u8)
                .map(|i| (ShardIndex(i), &encoded.shards[usize::from(i)][start..start + bytes]))
                .collect();
            decoder.stripe(&mut codec, &units).unwrap();
            while decoder.segment(&mut codec, &mut page).unwrap().is_some() {}
        }
        let unfinished = DecodeFailed::Unfinished { chunk: CHUNK, stripes: kept };
        assert_eq!(decoder.finish(&mut codec), Err(unfinished));
    }
}

#[test]
fn another_key_or_chunk_number_opens_nothing() {
    let encoded = encode(usual(Suite::Aes256Gcm), &text(200_000));
    let present: Vec<u8> = (0..10).collect();
    let other = ContentKey(Secret::new([0x43; 32]));
    let mut codec = Codec::new();
    assert!(decode_from(&mut codec, &encoded.shape, &encoded.shards, &present, &other).is_err());
    let shape = ChunkShape { chunk: ChunkNumber(8), ..encoded.shape };
    assert!(decode_from(&mut codec, &shape, &encoded.shards, &present, &key()).is_err());
    let shape = ChunkShape { suite: Suite::XChaCha20Poly1305, ..encoded.shape };
    let failed = decode_from(&mut codec, &shape, &encoded.shards, &present, &key());
    assert_eq!(failed, Err(DecodeFailed::Header { chunk: CHUNK }));
}

#[test]
fn a_manifest_that_contradicts_itself_is_refused_before_anything_is_read() {
    let shape = encode(usual(Suite::Aes256Gcm), &random(300_000, 1)).shape;
    let refused = |shape: ChunkShape| match Decoder::start(&mut Codec::new(), &shape, &key()) {
        Err(DecodeFailed::Shape { cause, .. }) => cause,
        other => panic!("{other:?}"),
    };
    let ShapeInvalid::SegmentBytes(9) = refused(ChunkShape { segment_bytes: 9, ..shape }) else {
        panic!("segments of 9 bytes");
    };
    for plaintext_bytes in [CHUNK_BYTES_MAX + 1, u64::MAX] {
        let cause = refused(ChunkShape { plaintext_bytes, ..shape });
        assert_eq!(cause, ShapeInvalid::ChunkBytes(plaintext_bytes));
    }
    let tight = shape.shard_bytes;
    for sealed_bytes in [0, 79, 200_000_000, u64::MAX] {
        let cause = refused(ChunkShape { sealed_bytes, ..shape });
        assert_eq!(cause, ShapeInvalid::SealedBytes { sealed: sealed_bytes, plaintext: 300_000 });
    }
    for shard_bytes in [0, tight - 64, tight + 1, u64::MAX] {
        let ShapeInvalid::ShardBytes { found, .. } = refused(ChunkShape { shard_bytes, ..shape })
        else {
            panic!("shards of {shard_bytes} bytes");
        };
        assert_eq!(found, shard_bytes);
    }
    let most = ChunkShape {
        plaintext_bytes: CHUNK_BYTES_MAX,
        sealed_bytes: format::sealed_bytes_max(CHUNK_BYTES_MAX, 131_072),
        ..shape
    };
    let shard_bytes = format::shard_bytes(most.sealed_bytes, most.code);
    assert!(Decoder::start(&mut Codec::new(), &ChunkShape { shard_bytes, ..most }, &key()).is_ok());
}

#[test]
fn wrong_units_are_refused_and_the_right_ones_still_accepted() {
    let source = text(5000);
    let encoded = encode(plan(Suite::Aes256Gcm, code(3, 2), Compression::Zstd(3)), &source);
    let mut codec = Codec::new();
    let mut decoder = Decoder::start(&mut codec, &encoded.shape, &key()).unwrap();
    let unit = |i: u8| (ShardIndex(i), encoded.shards[usize::from(i % 5)].as_slice());
    let mut refused =
        |units: &[(ShardIndex, &[u8])]| decoder.stripe(&mut codec, units).unwrap_err();
    let units = |cause| DecodeFailed::Units { chunk: CHUNK, cause };
    let too_few = |present| units(Unrecoverable::TooFew { present, needed: 3 });
    assert_eq!(refused(&[unit(0), unit(1)]), too_few(2));
    assert_eq!(refused(&[unit(0), unit(1), unit(2), unit(3)]), too_few(0));
    let twice = units(Unrecoverable::Twice { index: ShardIndex(1) });
    assert_eq!(refused(&[unit(0), unit(1), unit(1)]), twice);
    let unknown = units(Unrecoverable::NoSuchShard { index: ShardIndex(5), shards: 5 });
    assert_eq!(refused(&[unit(0), unit(1), unit(5)]), unknown);
    let short = (ShardIndex(2), &encoded.shards[2][1..]);
    let expected = encoded.shards[2].len();
    let failed = DecodeFailed::UnitLength { chunk: CHUNK, found: expected - 1, expected };
    assert_eq!(refused(&[unit(0), unit(1), short]), failed);

    decoder.stripe(&mut codec, &[unit(4), unit(0), unit(2)]).unwrap();
    let pool = PagePool::new(131_072, 1);
    let mut page = pool.take().unwrap();
    assert_eq!(decoder.segment(&mut codec, &mut page), Ok(Some(5000)));
    assert_eq!(&page[..], &source[..]);
    assert_eq!(decoder.segment(&mut codec, &mut page), Ok(None));
    let beyond = decoder.stripe(&mut codec, &[unit(4), unit(0), unit(2)]).unwrap_err();
    assert!(matches!(beyond, DecodeFailed::UnitLength { expected: 0, .. }), "{beyond:?}");
    assert_eq!(decoder.finish(&mut codec), Ok(()));
}

/// What an origin that lies can make with the key: segments as it likes, all tags valid.
fn forge(expected: usize, raw: bool, stored: &[u8]) -> (ChunkShape, Vec<u8>) {
    let mut keys = ChunkKeys::new(&key(), CHUNK, Suite::Aes256Gcm, 17, &SALT);
    let word = stored.len() as u32 | u32::from(raw) << 31;
    let mut string = keys.header().to_vec();
    string.extend(keys.mask_next_word(word).to_le_bytes());
    let mut sealed = vec![0; stored.len() + 16];
    keys.seal(Message::Segment(0, word), stored, &mut sealed);
    string.extend(sealed);
    let table = [&(expected as u64).to_le_bytes()[..], &word.to_le_bytes()].concat();
    let mut footer = vec![0; table.len() + 16];
    keys.seal(Message::Footer(1), &table, &mut footer);
    string.extend(footer);
    let mut shape = ChunkShape {
        suite: Suite::Aes256Gcm,
        code: code(1, 0),
        segment_bytes: 131_072,
        chunk: CHUNK,
        plaintext_bytes: expected as u64,
        sealed_bytes: string.len() as u64,
        shard_bytes: 0,
    };
    shape.shard_bytes = format::shard_bytes(shape.sealed_bytes, shape.code);
    let mut fill = vec![0; shape.shard_bytes as usize - string.len()];
    keys.fill(&mut fill);
    string.extend(fill);
    (shape, string)
}

fn zstd_frame(plaintext: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; compress::bound(plaintext.len())];
    let mut context = zstd_safe::CCtx::create();
    let bytes = context.compress2(&mut frame[..], plaintext).unwrap();
    frame.truncate(bytes);
    frame
}

#[test]
fn a_bomb_behind_a_valid_tag_is_refused() {
    let outcome = |expected, frame: &[u8]| {
        let (shape, string) = forge(expected, false, frame);
        decode_string(&shape, &string)
    };
    let refused = |expected| Err(DecodeFailed::Frame { chunk: CHUNK, segment: 0, expected });
    // The forger is honest once, so that the refusals below mean something.
    assert_eq!(outcome(100_000, &zstd_frame(&vec![0; 100_000])), Ok(vec![0; 100_000]));
    // 1 GiB out of a few hundred bytes … of which the segment may have 100,000.
    let gib = {
        let mut frame = zstd_frame(&vec![0; 100_000]);
        frame.splice(4..9, [0xe0, 0, 0, 0, 0x40, 0, 0, 0, 0]);
        frame
    };
    assert_eq!(outcome(100_000, &gib), refused(100_000));
    // One byte more, one less.
    assert_eq!(outcome(100_000, &zstd_frame(&vec![0; 100_001])), refused(100_000));
    assert_eq!(outcome(100_000, &zstd_frame(&vec![0; 99_999])), refused(100_000));
    // The right length in the header, more in the blocks: the RLE block says 131,000.
    let lying = [0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0xa0, 0x86, 0x01, 0x00, 0xc3, 0xfd, 0x0f, 0];
    assert_eq!(outcome(100_000, &lying), refused(100_000));
    // A window of 128 MiB, and a frame that does not say its length.
    assert_eq!(outcome(100_000, &[0x28, 0xb5, 0x2f, 0xfd, 0, 0x88, 1, 0, 0]), refused(100_000));
    // Two frames in a row that make up the length together.
    let two = [zstd_frame(&vec![0; 50_000]), zstd_frame(&vec![0; 50_000])].concat();
    assert_eq!(outcome(100_000, &two), refused(100_000));
    // Rubbish, and a frame that saves too little to be one.
    assert_eq!(outcome(100_000, &[7; 50]), refused(100_000));
    let word = Err(DecodeFailed::Word { chunk: CHUNK, segment: 0 });
    assert_eq!(outcome(1000, &[7; 990]), word);
}

#[test]
fn lengths_that_lie_behind_valid_tags_are_refused() {
    let outcome = |expected, raw, stored: &[u8]| {
        let (shape, string) = forge(expected, raw, stored);
        decode_string(&shape, &string)
    };
    assert_eq!(outcome(500, true, &[3; 500]), Ok(vec![3; 500]));
    let word = DecodeFailed::Word { chunk: CHUNK, segment: 0 };
    assert_eq!(outcome(501, true, &[3; 500]), Err(word));
    // The footer names another length than the manifest.
    let (mut shape, string) = forge(500, true, &[3; 500]);
    shape.plaintext_bytes = 131_072 + 1;
    assert!(decode_string(&shape, &string).is_err());
    // Fill that is not the fill.
    let (shape, mut string) = forge(500, true, &[3; 500]);
    assert!(string.len() as u64 > shape.sealed_bytes);
    *string.last_mut().unwrap() ^= 1;
    assert_eq!(decode_string(&shape, &string), Err(DecodeFailed::Fill { chunk: CHUNK }));
}

#[test]
fn a_failed_decoder_stays_failed_and_gives_nothing_out() {
    let encoded = encode(plan(Suite::Aes256Gcm, code(1, 0), Compression::Off), &[9; 5000]);
    let mut bent = encoded.shards[0].clone();
    bent[3000] ^= 1;
    let mut codec = Codec::new();
    let mut decoder = Decoder::start(&mut codec, &encoded.shape, &key()).unwrap();
    decoder.stripe(&mut codec, &[(ShardIndex(0), &bent)]).unwrap();
    let pool = PagePool::new(131_072, 1);
    let mut page = pool.take().unwrap();
    let forged = DecodeFailed::Forged { chunk: CHUNK, segment: 0 };
    assert_eq!(decoder.segment(&mut codec, &mut page), Err(forged));
    assert_eq!(page.len(), 0);
    assert!(!page.whole_mut().windows(4).any(|w| w == [9; 4]), "unverified plaintext is wiped");
    assert_eq!(decoder.segment(&mut codec, &mut page), Err(forged));
    assert_eq!(decoder.stripe(&mut codec, &[(ShardIndex(0), &encoded.shards[0])]), Err(forged));
    assert!(!decoder.done());
    assert_eq!(decoder.finish(&mut codec), Err(forged));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn random_chunks_codes_and_losses_round_trip(
        k in 1u8..24,
        m in 0u8..8,
        bytes in 0usize..600_000,
        kind in 0u8..3,
        small_segments in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let source = match kind { 0 => text(bytes), 1 => random(bytes, seed), _ => mixed(bytes) };
        let mut plan = usual(SUITES[usize::from(k) % 2]);
        plan.code = code(k, m);
        plan.segment_bytes = if small_segments { 65_536 } else { 131_072 };
        plan.padding = if seed % 2 == 0 { Padding::Off } else { Padding::SizeClass };
        let encoded = encode(plan, &source);
        let mut entropy = Entropy::new([seed as u8; 32]);
        let mut present: Vec<u8> = (0..k + m).collect();
        for i in (1..present.len()).rev() {
            present.swap(i, entropy.below(i as u64 + 1) as usize);
        }
        present.truncate(usize::from(k));
        let out =
            decode_from(&mut Codec::new(), &encoded.shape, &encoded.shards, &present, &key());
        prop_assert!(out.as_ref() == Ok(&source), "{:?}", out.err());
    }

    #[test]
    fn rubbish_is_refused_and_never_panics(
        string in proptest::collection::vec(any::<u8>(), 64..2000),
        keep_header in any::<bool>(),
        plaintext in 0u64..3000,
        sealed in 0u64..3000,
    ) {
        let code = code(2, 1);
        let shape = ChunkShape {
            suite: Suite::Aes256Gcm, code, segment_bytes: 65_536, chunk: CHUNK,
            plaintext_bytes: plaintext, sealed_bytes: sealed,
            shard_bytes: format::shard_bytes(sealed, code),
        };
        let mut string = string;
        string.resize(shape.shard_bytes as usize * 2, 0x5a);
        if keep_header && string.len() >= 32 {
            string[..32].copy_from_slice(&format::header(Suite::Aes256Gcm, 16, &SALT));
        }
        prop_assert!(decode_string(&shape, &string).is_err());
    }
}
