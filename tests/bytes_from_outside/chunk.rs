//! A sealed chunk as a file: its shape, then for each stripe the units that are handed over.

use pangea_base::{ChunkNumber, Code, PagePool, ShardIndex};
use pangea_ces::{ChunkShape, Codec, DecodeFailed, Decoder, Suite};

use super::surfaces::{Refusals, name, said};
use super::targets::samples::read_key;

/// A chunk's shape, and units with their numbers.
pub struct Chunk {
    pub shape: ChunkShape,
    pub stripes: Vec<Vec<(u8, Vec<u8>)>>,
}

impl Chunk {
    pub fn to_bytes(&self) -> Vec<u8> {
        let shape = &self.shape;
        let mut out = vec![shape.suite.id(), shape.code.k() as u8, shape.code.m() as u8];
        out.extend(shape.segment_bytes.to_le_bytes());
        out.extend(shape.chunk.0.to_le_bytes());
        let lengths = [shape.plaintext_bytes, shape.sealed_bytes, shape.shard_bytes];
        out.extend(lengths.iter().flat_map(|length| length.to_le_bytes()));
        for stripe in &self.stripes {
            out.push(stripe.len() as u8);
            for (index, unit) in stripe {
                out.push(*index);
                out.extend((unit.len() as u16).to_le_bytes());
                out.extend(unit);
            }
        }
        out
    }

    fn from_bytes(bytes: &[u8]) -> Chunk {
        let mut rest = bytes;
        let mut take = |count: usize| {
            let (now, later) = rest.split_at(count);
            rest = later;
            now.to_vec()
        };
        let number =
            |bytes: &[u8]| bytes.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        let shape = ChunkShape {
            suite: Suite::from_id(take(1)[0]).expect("a suite"),
            code: Code::new(take(1)[0], take(1)[0]).expect("a code"),
            segment_bytes: number(&take(4)) as u32,
            chunk: ChunkNumber(number(&take(4)) as u32),
            plaintext_bytes: number(&take(8)),
            sealed_bytes: number(&take(8)),
            shard_bytes: number(&take(8)),
        };
        let mut left = bytes.len() - 35;
        let mut stripes = Vec::new();
        while left > 0 {
            let mut stripe = Vec::new();
            left -= 1;
            for _ in 0..take(1)[0] {
                let (index, length) = (take(1)[0], number(&take(2)) as usize);
                stripe.push((index, take(length)));
                left -= 3 + length;
            }
            stripes.push(stripe);
        }
        Chunk { shape, stripes }
    }
}

/// Decodes such a file.
pub fn chunk(bytes: &[u8]) -> Refusals {
    let result = decode(&Chunk::from_bytes(bytes));
    let cause = match &result {
        Err(DecodeFailed::Shape { cause, .. }) => Some(name(cause)),
        Err(DecodeFailed::Units { cause, .. }) => Some(name(cause)),
        _ => None,
    };
    said(&result).into_iter().chain(cause).collect()
}

fn decode(chunk: &Chunk) -> Result<(), DecodeFailed> {
    let mut codec = Codec::new();
    let pool = PagePool::new(131_072, 1);
    let mut page = pool.take().expect("the pool has one");
    let mut decoder = Decoder::start(&mut codec, &chunk.shape, &read_key().content_key())?;
    for stripe in &chunk.stripes {
        let units: Vec<(ShardIndex, &[u8])> =
            stripe.iter().map(|(index, unit)| (ShardIndex(*index), unit.as_slice())).collect();
        decoder.stripe(&mut codec, &units)?;
        while decoder.segment(&mut codec, &mut page)?.is_some() {}
    }
    decoder.finish(&mut codec)
}
