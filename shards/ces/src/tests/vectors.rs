//! The vectors of format.md. They may never change: a chunk stored by version 1 must be read for
//! as long as version 1 is.

use super::*;
use crate::format;

const DOCUMENT: &str = include_str!("../../format.md");

/// Byte i of a vector's plaintext is the low byte of i * i / 7.
fn squares(bytes: u64) -> Vec<u8> {
    (0..bytes).map(|i| (i * i / 7) as u8).collect()
}

/// Row by row what the table in format.md says: suite, k, m, plaintext bytes, padding.
const TABLE: [(Suite, u8, u8, u64, Padding); 6] = [
    (Suite::XChaCha20Poly1305, 2, 1, 0, Padding::Off),
    (Suite::XChaCha20Poly1305, 10, 4, 1000, Padding::Off),
    (Suite::Aes256Gcm, 10, 4, 131_073, Padding::Off),
    (Suite::XChaCha20Poly1305, 3, 3, 163_840, Padding::Off),
    (Suite::Aes256Gcm, 4, 2, 300_000, Padding::SizeClass),
    (Suite::Aes256Gcm, 1, 0, 65_536, Padding::Off),
];

#[test]
fn the_table_of_format_md_holds() {
    for (suite, k, m, bytes, padding) in TABLE {
        let plan = ChunkPlan { padding, ..plan(suite, code(k, m), Compression::Off) };
        let plaintext = squares(bytes);
        let encoded = encode(plan, &plaintext);
        let roots: Vec<u8> = encoded.sealed.roots.iter().flat_map(|root| root.0).collect();
        let padded = if padding == Padding::Off { "off" } else { "on" };
        let line = format!(
            "| {} | {k} + {m} | {bytes} | {padded} | {} | {} | `{}` |",
            suite.id(),
            encoded.sealed.sealed_bytes,
            encoded.sealed.shard_bytes,
            Hash::of(&roots),
        );
        assert!(DOCUMENT.contains(&line), "format.md lacks\n{line}");
        assert_eq!(decode(&encoded), Ok(plaintext), "{line}");
    }
}

/// The block of hexadecimal lines that follows `title` in format.md.
fn hexadecimal(title: &str) -> Vec<u8> {
    let (_, rest) = DOCUMENT.split_once(title).expect("the title is in format.md");
    let block = rest.split("```").nth(1).expect("a block follows the title");
    let digits: String = block.chars().filter(|c| !c.is_whitespace()).collect();
    let byte = |i: usize| u8::from_str_radix(&digits[i..i + 2], 16).expect("two digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn one_shard(suite: Suite, plaintext_bytes: u64, sealed_bytes: u64, shard: &[u8]) -> ChunkShape {
    ChunkShape {
        suite,
        code: code(1, 0),
        segment_bytes: 131_072,
        chunk: CHUNK,
        plaintext_bytes,
        sealed_bytes,
        shard_bytes: shard.len() as u64,
    }
}

/// Not compared with what the encoder makes today: a later zstd may compress otherwise.
#[test]
fn the_compressed_shard_of_format_md_decodes() {
    let shard = hexadecimal("**A compressed segment.**");
    let plaintext = b"any k of n ".repeat(40);
    let shape = one_shard(Suite::XChaCha20Poly1305, 440, 108, &shard);
    let found = decode_from(&mut Codec::new(), &shape, &[shard], &[0], &key());
    let plan = plan(Suite::XChaCha20Poly1305, code(1, 0), Compression::Zstd(1));
    let now = encode(plan, &plaintext);
    let hex: Vec<String> = now.shards[0].iter().map(|byte| format!("{byte:02x}")).collect();
    let (hex, sealed) = (hex.concat(), now.sealed.sealed_bytes);
    assert_eq!(found, Ok(plaintext), "today's encoder makes {hex} ({sealed} sealed bytes)");
}

#[test]
fn the_raw_shard_of_format_md_is_what_the_encoder_makes() {
    let shard = hexadecimal("**A raw segment.**");
    let plan = plan(Suite::Aes256Gcm, code(1, 0), Compression::Off);
    let encoded = encode(plan, b"verified to the byte");
    let now: Vec<String> = encoded.shards[0].iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(encoded.shards[0] == shard, "the encoder makes {}", now.concat());
    let shape = one_shard(Suite::Aes256Gcm, 20, encoded.sealed.sealed_bytes, &shard);
    assert_eq!(shape, encoded.shape);
    assert_eq!(decode(&encoded).unwrap(), b"verified to the byte");
}

#[test]
fn the_limits_of_format_md_are_those_of_the_code() {
    assert!(DOCUMENT.contains("| `CHUNK_BYTES_MAX` | 512 MiB of plaintext |"));
    assert_eq!(format::CHUNK_BYTES_MAX, 512 << 20);
    assert!(DOCUMENT.contains("| `SEGMENT_BYTES_MAX` | 128 KiB |"));
    assert_eq!(format::SEGMENT_BYTES_MAX, 128 << 10);
}
