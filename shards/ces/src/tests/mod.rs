//! The one place where the tests touch the API, and what they share.

mod decode;
mod encode;
mod plan;
mod vectors;

use pangea_base::{
    ChunkNumber, Code, ContentKey, Entropy, GROUP_BYTES, Hash, Page, PagePool, Secret, ShardIndex,
};

use crate::{
    ChunkPlan, ChunkSealed, ChunkShape, Codec, Compression, DecodeFailed, Decoder, Encoder, End,
    Padding, Suite,
};

const SUITES: [Suite; 2] = [Suite::XChaCha20Poly1305, Suite::Aes256Gcm];
const SALT: [u8; 16] = [0xa5; 16];
const CHUNK: ChunkNumber = ChunkNumber(7);

fn key() -> ContentKey {
    ContentKey(Secret::new([0x42; 32]))
}

fn code(k: u8, m: u8) -> Code {
    Code::new(k, m).unwrap()
}

fn plan(suite: Suite, code: Code, compression: Compression) -> ChunkPlan {
    ChunkPlan { suite, code, segment_bytes: 131_072, compression, padding: Padding::Off }
}

fn usual(suite: Suite) -> ChunkPlan {
    plan(suite, code(10, 4), Compression::Zstd(1))
}

/// Bytes that cannot be compressed.
fn random(bytes: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; bytes];
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    Entropy::new(key).fill(&mut out);
    out
}

/// Bytes that compress to about a third.
fn text(bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes + 64);
    let mut entropy = Entropy::new([6; 32]);
    while out.len() < bytes {
        let (a, b) = (entropy.below(1000), entropy.below(100_000));
        out.extend_from_slice(
            format!("{{\"id\":{a},\"name\":\"holder\",\"bytes\":{b}}},\n").as_bytes(),
        );
    }
    out.truncate(bytes);
    out
}

/// Text and random bytes in turn, so that segments are stored both ways.
fn mixed(bytes: usize) -> Vec<u8> {
    let (a, b) = (text(bytes), random(bytes, 9));
    (0..bytes).map(|i| if (i / 100_000).is_multiple_of(2) { a[i] } else { b[i] }).collect()
}

/// An encoded chunk: its shards whole.
struct Encoded {
    shape: ChunkShape,
    sealed: ChunkSealed,
    shards: Vec<Vec<u8>>,
}

fn encode_with(
    codec: &mut Codec,
    plan: ChunkPlan,
    salt: [u8; 16],
    plaintext: &[u8],
    mut piece: impl FnMut() -> usize,
) -> Encoded {
    let pool = PagePool::new(GROUP_BYTES, plan.code.n() as u32);
    let mut encoder = Encoder::start(codec, plan, CHUNK, &key(), salt);
    let mut shards = vec![Vec::new(); plan.code.n()];
    let mut rest = plaintext;
    while !encoder.done() {
        let now = piece().min(rest.len());
        let end = if now == rest.len() { End::Last } else { End::More };
        let taken = encoder.feed(codec, &rest[..now], end);
        rest = &rest[taken..];
        while let Some(units) = encoder.stripe(codec, &pool).expect("the pool holds one stripe") {
            assert_eq!(units.len(), plan.code.n());
            for (shard, unit) in shards.iter_mut().zip(&units) {
                assert!(unit.len() == units[0].len() && unit.len() % 64 == 0);
                shard.extend_from_slice(unit);
            }
            codec.recycle(units);
        }
    }
    assert!(rest.is_empty());
    let sealed = encoder.finish(codec);
    Encoded { shape: sealed.shape(&plan, CHUNK), sealed, shards }
}

fn encode(plan: ChunkPlan, plaintext: &[u8]) -> Encoded {
    let encoded = encode_with(&mut Codec::new(), plan, SALT, plaintext, || usize::MAX);
    for (root, shard) in encoded.sealed.roots.iter().zip(&encoded.shards) {
        assert_eq!(*root, Hash::of(shard), "a shard's root is the BLAKE3 hash of its bytes");
        assert_eq!(shard.len() as u64, encoded.sealed.shard_bytes);
    }
    encoded
}

/// Decodes from the shards in `present`, in that order.
fn decode_from(
    codec: &mut Codec,
    shape: &ChunkShape,
    shards: &[Vec<u8>],
    present: &[u8],
    key: &ContentKey,
) -> Result<Vec<u8>, DecodeFailed> {
    let pool = PagePool::new(131_072, 1);
    let mut page: Page = pool.take().unwrap();
    let mut decoder = Decoder::start(codec, shape, key)?;
    let mut out = Vec::new();
    for stripe in 0..decoder.stripes() {
        let bytes = decoder.unit_bytes(stripe);
        let start = stripe as usize * GROUP_BYTES;
        let units: Vec<(ShardIndex, &[u8])> = present
            .iter()
            .map(|&i| (ShardIndex(i), &shards[usize::from(i)][start..start + bytes]))
            .collect();
        decoder.stripe(codec, &units)?;
        while let Some(bytes) = decoder.segment(codec, &mut page)? {
            assert_eq!(bytes, page.len());
            out.extend_from_slice(&page);
        }
    }
    decoder.finish(codec)?;
    Ok(out)
}

fn decode(encoded: &Encoded) -> Result<Vec<u8>, DecodeFailed> {
    let present: Vec<u8> = (0..encoded.shape.code.k() as u8).collect();
    decode_from(&mut Codec::new(), &encoded.shape, &encoded.shards, &present, &key())
}

/// The sealed string with its fill, out of the data shards.
fn sealed_string(encoded: &Encoded) -> Vec<u8> {
    let k = encoded.shape.code.k();
    let mut out = Vec::new();
    for start in (0..encoded.shards[0].len()).step_by(GROUP_BYTES) {
        for shard in &encoded.shards[..k] {
            out.extend_from_slice(&shard[start..shard.len().min(start + GROUP_BYTES)]);
        }
    }
    out
}

/// Data shards out of a sealed string with its fill (parity is left away).
fn data_shards(shape: &ChunkShape, string: &[u8]) -> Vec<Vec<u8>> {
    let k = shape.code.k();
    let mut shards = vec![Vec::new(); k];
    let mut rest = string;
    while !rest.is_empty() {
        let unit = GROUP_BYTES.min(shape.shard_bytes as usize - shards[0].len());
        for shard in &mut shards {
            let (now, later) = rest.split_at(unit);
            shard.extend_from_slice(now);
            rest = later;
        }
    }
    shards
}

/// Decodes a sealed string as it stands.
fn decode_string(shape: &ChunkShape, string: &[u8]) -> Result<Vec<u8>, DecodeFailed> {
    let present: Vec<u8> = (0..shape.code.k() as u8).collect();
    decode_from(&mut Codec::new(), shape, &data_shards(shape, string), &present, &key())
}
