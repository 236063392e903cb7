use super::*;
use crate::{CHUNK_BYTES_MAX, UNIT_BYTES};
use pangea_base::NoPage;

/// Just under, at and over a unit, a stripe of ten, a segment, several of each; and nothing.
const SIZES: [usize; 22] = [
    0, 1, 63, 64, 65, 1000, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 131_071, 131_072,
    131_073, 163_780, 163_840, 163_900, 262_144, 327_680, 500_000, 1_048_577,
];

#[test]
fn every_size_comes_back_in_both_suites_with_and_without_compression() {
    for suite in SUITES {
        for compression in [Compression::Off, Compression::Zstd(1), Compression::Zstd(-5)] {
            for bytes in SIZES {
                for source in [random(bytes, 1), text(bytes), mixed(bytes)] {
                    let encoded = encode(plan(suite, code(10, 4), compression), &source);
                    assert_eq!(encoded.sealed.plaintext_bytes, bytes as u64);
                    assert!(decode(&encoded) == Ok(source), "{suite:?} {compression:?} {bytes}");
                }
            }
        }
    }
}

#[test]
fn every_code_shape_and_segment_size_comes_back() {
    for (k, m) in [(1, 0), (1, 1), (2, 1), (3, 3), (5, 4), (16, 0), (20, 10), (100, 50), (251, 4)] {
        for segment_bytes in [65_536, 131_072] {
            for bytes in [0, 1, 16_000, 200_000, 1_500_000] {
                for padding in [Padding::Off, Padding::SizeClass] {
                    let mut plan = usual(Suite::Aes256Gcm);
                    (plan.code, plan.segment_bytes) = (code(k, m), segment_bytes);
                    plan.padding = padding;
                    let source = mixed(bytes);
                    let encoded = encode(plan, &source);
                    assert!(decode(&encoded) == Ok(source), "({k}, {m}) {bytes} {padding:?}");
                }
            }
        }
    }
}

#[test]
fn sealed_length_is_the_plaintext_and_a_known_overhead_when_nothing_is_compressed() {
    for bytes in SIZES {
        let encoded = encode(plan(Suite::Aes256Gcm, code(10, 4), Compression::Off), &text(bytes));
        let segments = bytes.div_ceil(131_072);
        assert_eq!(encoded.sealed.sealed_bytes as usize, bytes + 32 + 24 * segments + 24);
    }
}

#[test]
fn how_the_plaintext_is_cut_for_feeding_changes_nothing() {
    let source = mixed(700_000);
    let whole = encode(usual(Suite::Aes256Gcm), &source);
    let mut entropy = Entropy::new([2; 32]);
    for most in [1000, 65_536, 131_072, 200_000] {
        let piece = || 1 + entropy.below(most) as usize;
        let plan = usual(Suite::Aes256Gcm);
        let cut = encode_with(&mut Codec::new(), plan, SALT, &source, piece);
        assert!(cut.shards == whole.shards, "pieces of up to {most}");
        assert_eq!(cut.sealed, whole.sealed);
    }
}

#[test]
fn the_same_salt_gives_the_same_bytes_also_from_a_used_codec() {
    for suite in SUITES {
        let mut codec = Codec::new();
        let source = mixed(400_000);
        let first = encode_with(&mut codec, usual(suite), SALT, &source, || usize::MAX);
        encode_with(&mut codec, usual(suite), [1; 16], &text(300_000), || 5000);
        let second = encode_with(&mut codec, usual(suite), SALT, &source, || usize::MAX);
        assert!(first.shards == second.shards);
    }
}

#[test]
fn a_new_salt_changes_everything_but_the_header() {
    for suite in SUITES {
        let source = vec![0; 200_000];
        let a = encode_with(&mut Codec::new(), usual(suite), [1; 16], &source, || usize::MAX);
        let b = encode_with(&mut Codec::new(), usual(suite), [2; 16], &source, || usize::MAX);
        let (a, b) = (sealed_string(&a), sealed_string(&b));
        assert_eq!(a.len(), b.len());
        let same = a[16..].iter().zip(&b[16..]).filter(|(a, b)| a == b).count();
        // Two independent random strings agree in one byte of 256.
        assert!(same < a.len() / 256 + 5 * ((a.len() / 256) as f64).sqrt() as usize + 1, "{same}");
        assert!(!a[16..].windows(16).any(|window| window == [0; 16]), "nothing shows as zeros");
    }
}

#[test]
fn chunks_with_one_salt_but_other_numbers_share_no_keystream() {
    let mut codec = Codec::new();
    let pool = PagePool::new(GROUP_BYTES, 14);
    let mut first_unit = |chunk| {
        let plan = plan(Suite::Aes256Gcm, code(1, 0), Compression::Off);
        let mut encoder = Encoder::start(&mut codec, plan, ChunkNumber(chunk), &key(), SALT);
        loop {
            encoder.feed(&mut codec, &[], End::Last);
            if let Some(units) = encoder.stripe(&mut codec, &pool).unwrap() {
                return units[0].to_vec();
            }
        }
    };
    assert_ne!(first_unit(0)[32..], first_unit(1)[32..]);
}

#[test]
fn no_page_loses_nothing_and_takes_nothing() {
    let source = random(600_000, 3);
    let plan = usual(Suite::Aes256Gcm);
    let expected = encode(plan, &source);
    let mut codec = Codec::new();
    let pool = PagePool::new(GROUP_BYTES, 20);
    let mut encoder = Encoder::start(&mut codec, plan, CHUNK, &key(), SALT);
    let mut shards = vec![Vec::new(); 14];
    let (mut rest, mut refused) = (&source[..], 0);
    let mut held: Option<Vec<Page>> = None;
    while !encoder.done() {
        let taken = encoder.feed(&mut codec, rest, End::Last);
        rest = &rest[taken..];
        let free = pool.available();
        match encoder.stripe(&mut codec, &pool) {
            Ok(None) => {}
            Ok(Some(units)) => {
                shards
                    .iter_mut()
                    .zip(&units)
                    .for_each(|(shard, unit)| shard.extend_from_slice(unit));
                held = Some(units);
            }
            Err(NoPage) => {
                refused += 1;
                assert_eq!(pool.available(), free, "all pages of a stripe or none");
                assert_eq!(encoder.feed(&mut codec, rest, End::Last), 0, "sealed bytes wait");
                held = None;
            }
        }
    }
    assert!(refused > 0 && held.is_some());
    assert!(shards == expected.shards);
}

#[test]
fn interleaved_encoders_do_not_disturb_one_another() {
    let (a, b) = (text(400_000), mixed(500_000));
    let plan = usual(Suite::XChaCha20Poly1305);
    let expected = [encode(plan, &a).shards, encode(plan, &b).shards];
    let mut codec = Codec::new();
    let pool = PagePool::new(GROUP_BYTES, 28);
    let mut pair = [(&a[..], vec![Vec::new(); 14]), (&b[..], vec![Vec::new(); 14])]
        .map(|state| (Encoder::start(&mut codec, plan, CHUNK, &key(), SALT), state.0, state.1));
    while pair.iter().any(|(encoder, ..)| !encoder.done()) {
        for (encoder, rest, shards) in &mut pair {
            let taken = encoder.feed(&mut codec, rest, End::Last);
            *rest = &rest[taken..];
            if let Some(units) = encoder.stripe(&mut codec, &pool).unwrap() {
                shards
                    .iter_mut()
                    .zip(&units)
                    .for_each(|(shard, unit)| shard.extend_from_slice(unit));
            }
        }
    }
    for ((_, _, shards), expected) in pair.iter().zip(&expected) {
        assert!(shards == expected);
    }
}

#[test]
fn an_abandoned_encoder_leaves_a_codec_that_works() {
    let plan = usual(Suite::Aes256Gcm);
    let source = text(300_000);
    let expected = encode(plan, &source);
    let mut codec = Codec::new();
    let mut encoder = Encoder::start(&mut codec, plan, CHUNK, &key(), SALT);
    // In the middle of a segment's compression.
    encoder.feed(&mut codec, &source, End::More);
    encoder.feed(&mut codec, &[], End::More);
    encoder.abandon(&mut codec);
    let again = encode_with(&mut codec, plan, SALT, &source, || usize::MAX);
    assert!(again.shards == expected.shards);
}

#[test]
fn working_memory_is_a_few_hundred_kib_whatever_the_chunk() {
    let mut codec = Codec::new();
    for bytes in [100_000, 4_000_000] {
        for compression in [Compression::Zstd(-5), Compression::Zstd(1)] {
            let plan = plan(Suite::Aes256Gcm, code(10, 4), compression);
            encode_with(&mut codec, plan, SALT, &text(bytes), || 70_000);
            assert!(codec.spare_bytes() < 900 << 10, "{} bytes", codec.spare_bytes());
        }
    }
    let encoded = encode(usual(Suite::Aes256Gcm), &text(4_000_000));
    let mut codec = Codec::new();
    decode_from(
        &mut codec,
        &encoded.shape,
        &encoded.shards,
        &[4, 5, 6, 7, 8, 9, 10, 11, 12, 13],
        &key(),
    )
    .unwrap();
    assert!(codec.spare_bytes() < 700 << 10, "{} bytes", codec.spare_bytes());
    codec.trim();
    assert_eq!(codec.spare_bytes(), 0);
}

#[test]
#[should_panic(expected = "a chunk has at most 512 MiB")]
fn a_chunk_beyond_its_limit_is_a_bug() {
    let mut codec = Codec::new();
    let pool = PagePool::new(GROUP_BYTES, 1);
    let plan = plan(Suite::Aes256Gcm, code(1, 0), Compression::Off);
    let mut encoder = Encoder::start(&mut codec, plan, CHUNK, &key(), SALT);
    let zeros = vec![0; 131_072];
    let mut fed = 0;
    while fed <= CHUNK_BYTES_MAX {
        fed += encoder.feed(&mut codec, &zeros, End::More) as u64;
        while encoder.stripe(&mut codec, &pool).unwrap().is_some() {}
    }
}

#[test]
#[should_panic(expected = "a chunk is finished when")]
fn finishing_early_is_a_bug() {
    let mut codec = Codec::new();
    let encoder = Encoder::start(&mut codec, usual(Suite::Aes256Gcm), CHUNK, &key(), SALT);
    encoder.finish(&mut codec);
}

#[test]
fn padding_hides_the_length_within_its_class() {
    let mut plan = plan(Suite::Aes256Gcm, code(4, 2), Compression::Off);
    plan.padding = Padding::SizeClass;
    let mut lengths = std::collections::BTreeSet::new();
    for bytes in (1_000_000..1_030_000).step_by(1000) {
        let source = random(bytes, 5);
        let encoded = encode(plan, &source);
        lengths.insert(encoded.sealed.shard_bytes);
        assert_eq!(decode(&encoded), Ok(source));
    }
    assert!(lengths.len() <= 3, "{lengths:?}");
    assert!(UNIT_BYTES as u64 <= *lengths.first().unwrap());
}
