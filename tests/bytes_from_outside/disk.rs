//! A node's data directory as a file: names, lengths, and what is not 0.

use pangea_base::file::FileName;
use pangea_store::sim::Image;

use super::surfaces::Refusals;
use super::targets::disk::examine;

/// Zeros that are worth leaving out.
const GAP: usize = 64;

pub fn pack(image: &Image) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, bytes) in image {
        out.push(name.as_str().len() as u8);
        out.extend(name.as_str().as_bytes());
        out.extend((bytes.len() as u32).to_le_bytes());
        let pieces = pieces(bytes);
        out.extend((pieces.len() as u16).to_le_bytes());
        for (at, piece) in pieces {
            out.extend((at as u32).to_le_bytes());
            out.extend((piece.len() as u32).to_le_bytes());
            out.extend(piece);
        }
    }
    out
}

fn pieces(bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(skip) = bytes[at..].iter().position(|byte| *byte != 0) {
        let start = at + skip;
        let gap = bytes[start..].windows(GAP).position(|gap| gap.iter().all(|byte| *byte == 0));
        at = gap.map_or(bytes.len(), |length| start + length);
        pieces.push((start, &bytes[start..at]));
    }
    pieces
}

fn unpack(bytes: &[u8]) -> Image {
    let mut image = Image::new();
    let mut rest = bytes;
    let mut take = |count: usize| {
        let (now, later) = rest.split_at(count);
        rest = later;
        now.to_vec()
    };
    let number =
        |bytes: &[u8]| bytes.iter().rev().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte));
    let mut left = bytes.len();
    while left > 0 {
        let length = usize::from(take(1)[0]);
        let name = String::from_utf8(take(length)).expect("a name");
        let mut file = vec![0; number(&take(4))];
        let pieces = number(&take(2));
        left -= 7 + length;
        for _ in 0..pieces {
            let (at, length) = (number(&take(4)), number(&take(4)));
            file[at..at + length].copy_from_slice(&take(length));
            left -= 8 + length;
        }
        image.insert(FileName::new(name), file);
    }
    image
}

/// What a store finds wrong with it.
pub fn data_directory(bytes: &[u8]) -> Refusals {
    let mut wrong = examine(unpack(bytes));
    wrong.dedup();
    wrong
}
