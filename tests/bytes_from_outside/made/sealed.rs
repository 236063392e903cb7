//! Manifests and chunks by origins that lie: every tag is right.

use pangea_base::{ChunkNumber, Code, GROUP_BYTES, Hash, PeerId};
use pangea_ces::{ChunkShape, Suite};
use pangea_wire::{ChunkParts, shard_bytes};
use serde::Serialize;

use super::super::chunk::Chunk;
use super::super::targets::forge::{self, Level};
use super::super::targets::samples::{chunk_parts, pattern, read_key};
use super::wire::encoded;
use super::{Made, add, add_recipe};

const SALT: [u8; 16] = [0xa5; 16];

pub fn make(all: &mut Vec<Made>) {
    roots(all);
    lists(all);
    chunks_of_manifests(all);
    labels(all);
    pages(all);
    shapes(all);
    strings(all);
    units(all);
}

fn root(plain: &[u8]) -> Vec<u8> {
    forge::root_page(&read_key().verify_key().manifest_key(), &SALT, plain)
}

fn old_root(plain: &[u8]) -> Vec<u8> {
    let key = read_key().verify_key().manifest_key();
    forge::root_page_of(forge::VERSION_OLD, &key, &SALT, plain)
}

/// Pages with their lengths before them, as `surfaces::manifest` reads them.
fn file(pages: &[&[u8]]) -> Vec<u8> {
    let counted = |page: &&[u8]| [&(page.len() as u32).to_le_bytes()[..], page].concat();
    pages.iter().flat_map(counted).collect()
}

/// The plain text of a root page: bytes, chunks, label, owner, and a list of a kind.
fn plain<T: Serialize>(bytes: u64, chunks: u32, kind: u32, list: &T) -> Vec<u8> {
    encoded(&(bytes, chunks, None::<Vec<u8>>, None::<PeerId>, kind, list))
}

fn roots(all: &mut Vec<Made>) {
    let good = root(&plain(9, 1, 0, &vec![chunk_parts(2, 1, 9)]));
    let versioned = |version: u8| [&[version][..], &good[1..]].concat();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    for (name, bytes) in [
        ("empty", vec![]),
        ("of-only-a-version", vec![2]),
        ("of-version-0", versioned(0)),
        ("of-version-3", versioned(3)),
        ("of-version-2-called-1", versioned(1)),
        ("of-version-1-with-an-owner", old_root(&plain(9, 1, 0, &vec![chunk_parts(2, 1, 9)]))),
        ("of-version-1-cut-off", old_root(&[9, 1, 0, 0])),
        ("cut-inside-the-salt", good[..16].to_vec()),
        ("without-its-tag", good[..17].to_vec()),
        ("with-another-salt", flipped(5)),
        ("with-a-bent-byte", flipped(20)),
        ("with-a-bent-tag", flipped(good.len() - 1)),
        ("of-garbage-behind-a-good-tag", root(&[0xff; 40])),
        ("of-nothing-behind-a-good-tag", root(&[])),
        ("cut-off-behind-a-good-tag", root(&[9, 1, 0, 0, 0])),
        ("of-an-unknown-kind-of-list", root(&plain(9, 1, 3, &vec![chunk_parts(2, 1, 9)]))),
        (
            "with-bytes-behind-its-list",
            root(&[plain(9, 1, 0, &vec![chunk_parts(2, 1, 9)]), vec![0]].concat()),
        ),
        (
            "with-a-count-in-two-bytes",
            root(&[&[9, 0x81, 0, 0, 0, 0], &encoded(&vec![chunk_parts(2, 1, 9)])[..]].concat()),
        ),
        ("with-a-billion-chunks-in-six-bytes", root(&[9, 1, 0, 0, 0, 255, 255, 255, 255, 3])),
        ("with-an-option-of-2", root(&[9, 1, 2, 0, 0, 0])),
        ("with-an-owner-of-2", root(&[9, 1, 0, 2, 0, 0])),
        ("with-an-owner-cut-off", root(&[&[9, 1, 0, 1][..], &[7; 20]].concat())),
    ] {
        add(all, "manifest", name, file(&[&bytes]));
    }
    add_recipe(all, "manifest", "of-64-kib-and-a-byte", "hex 01000100\nrepeat 65537 01");
    add(all, "manifest-of-another", "a-good-one", good);
    add_recipe(all, "manifest-of-another", "of-64-kib-and-a-byte", "repeat 65537 01");
}

fn lists(all: &mut Vec<Made>) {
    let one = || vec![chunk_parts(2, 1, 9)];
    let two = |a, b| vec![chunk_parts(2, 1, a), chunk_parts(2, 1, b)];
    let none = Vec::<ChunkParts>::new();
    for (name, bytes) in [
        ("of-no-chunks", plain(0, 0, 0, &none)),
        ("of-2-to-the-20-chunks-and-one", plain(9, (1 << 20) + 1, 0, &one())),
        ("of-an-empty-list", plain(0, 1, 0, &none)),
        ("of-fewer-chunks-than-it-says", plain(9, 2, 0, &one())),
        ("of-more-chunks-than-it-says", plain(18, 1, 0, &two(9, 9))),
        ("of-fewer-bytes-than-it-says", plain(10, 1, 0, &one())),
        ("of-more-bytes-than-it-says", plain(8, 1, 0, &one())),
        ("with-an-empty-chunk-first", plain(9, 2, 0, &two(0, 9))),
        ("with-an-empty-chunk-last", plain(9, 2, 0, &two(9, 0))),
    ] {
        add(all, "manifest", name, file(&[&root(&bytes)]));
    }
    let reference = |count: u32, bytes: u64| (Hash([1; 32]), 0u32, count, bytes);
    let listed = |bytes, chunks, list: &[(Hash, u32, u32, u64)]| {
        root(&plain(bytes, chunks, 1, &list.to_vec()))
    };
    for (name, bytes) in [
        ("of-no-pages", listed(0, 1, &[])),
        ("of-a-page-of-no-chunks", listed(9, 1, &[reference(0, 9)])),
        ("of-pages-of-fewer-chunks", listed(9, 3, &[reference(2, 9)])),
        ("of-pages-of-more-chunks", listed(9, 3, &[reference(2, 4), reference(2, 5)])),
        ("of-a-page-behind-the-last-chunk", listed(9, 2, &[reference(2, 4), reference(1, 5)])),
        ("of-pages-of-fewer-bytes", listed(9, 2, &[reference(2, 8)])),
        ("of-pages-beyond-64-bits", listed(9, 2, &[reference(1, u64::MAX), reference(1, 10)])),
    ] {
        add(all, "manifest", name, file(&[&bytes]));
    }
}

fn chunks_of_manifests(all: &mut Vec<Made>) {
    let good = chunk_parts(2, 1, 9);
    let sealed = |sealed_bytes: u64| ChunkParts {
        sealed_bytes,
        shard_bytes: shard_bytes(sealed_bytes, 2),
        ..chunk_parts(2, 1, 9)
    };
    let mut wide = chunk_parts(60, 5, 9);
    wide.roots = (0..65).map(|index| Hash([index; 32])).collect();
    let mut fewer = good.clone();
    fewer.roots.pop();
    let plaintext_bytes = (128 << 20) + 1;
    for (name, parts) in [
        ("with-suite-0", ChunkParts { suite: 0, ..good.clone() }),
        ("with-suite-3", ChunkParts { suite: 3, ..good.clone() }),
        ("with-coder-0", ChunkParts { scheme: 0, ..good.clone() }),
        ("with-coder-3", ChunkParts { scheme: 3, ..good.clone() }),
        ("without-data-shards", ChunkParts { k: 0, ..good.clone() }),
        ("with-256-shards", ChunkParts { k: 200, m: 56, ..good.clone() }),
        ("with-65-shards-of-the-narrow-coder", wide),
        ("with-segments-of-1-byte", ChunkParts { segment_bytes: 1, ..good.clone() }),
        ("with-segments-of-no-bytes", ChunkParts { segment_bytes: 0, ..good.clone() }),
        ("with-segments-of-4-gib", ChunkParts { segment_bytes: u32::MAX, ..good.clone() }),
        ("with-a-chunk-of-128-mib-and-a-byte", ChunkParts { plaintext_bytes, ..good.clone() }),
        ("with-a-chunk-of-16-exbibytes", ChunkParts { plaintext_bytes: u64::MAX, ..good.clone() }),
        ("with-fewer-sealed-bytes-than-a-tag", sealed(19)),
        ("with-sealed-bytes-of-256-mib-and-one", sealed((256 << 20) + 1)),
        (
            "with-shards-one-byte-longer",
            ChunkParts { shard_bytes: good.shard_bytes + 1, ..good.clone() },
        ),
        ("with-shards-of-no-bytes", ChunkParts { shard_bytes: 0, ..good.clone() }),
        ("with-a-root-missing", fewer),
        ("with-no-roots", ChunkParts { roots: vec![], ..good.clone() }),
    ] {
        let bytes = parts.plaintext_bytes;
        add(all, "manifest", name, file(&[&root(&plain(bytes, 1, 0, &vec![parts]))]));
    }
    let many = ChunkParts { roots: vec![Hash([1; 32]); 256], ..good };
    add(all, "manifest", "with-256-roots", file(&[&root(&plain(9, 1, 0, &vec![many]))]));
}

/// Names that others would see.
fn labels(all: &mut Vec<Made>) {
    let key = read_key().content_key().label_key();
    let with = |label: Vec<u8>| {
        let list = vec![chunk_parts(2, 1, 9)];
        file(&[&root(&encoded(&(9u64, 1u32, Some(label), None::<PeerId>, 0u32, list)))])
    };
    let sealed = |plain: &[u8]| with(forge::page(&key, &SALT, Level::Label, 0, plain));
    let named = |text: &str| {
        let mut plain = [&[text.len() as u8], text.as_bytes()].concat();
        plain.resize(256, 0);
        sealed(&plain)
    };
    let mut tail = [&[8][..], b"film.mkv", &[0; 247]].concat();
    tail[255] = 1;
    for (name, bytes) in [
        ("with-a-name-of-no-bytes", with(vec![])),
        ("with-a-name-that-is-not-sealed", with(vec![7; 272])),
        ("with-a-name-too-short", sealed(&[0; 255])),
        ("with-a-name-too-long", sealed(&[0; 257])),
        ("with-a-name-and-more-behind-it", sealed(&tail)),
        ("with-an-empty-name", named("")),
        ("with-a-name-that-goes-up", named("../../etc/passwd")),
        ("with-a-name-that-is-a-device", named("NUL")),
        ("with-a-name-that-turns-around", named("film\u{202e}vkm.exe")),
    ] {
        add(all, "manifest", name, bytes);
    }
}

/// Pages below the root.
fn pages(all: &mut Vec<Made>) {
    let key = read_key().verify_key().manifest_key();
    let leaf = |number: u32, plain: &[u8]| forge::page(&key, &SALT, Level::Leaf, number, plain);
    let of = |page: &[u8], number: u32, count: u32, bytes: u64| {
        let list = vec![(Hash::of(page), number, count, bytes)];
        root(&plain(bytes, count, 1, &list))
    };
    let chunks = encoded(&vec![chunk_parts(2, 1, 9)]);
    let good = leaf(0, &chunks);
    let pair = |page: &[u8], count, bytes| file(&[&of(page, 0, count, bytes), page]);
    let none = encoded(&Vec::<ChunkParts>::new());
    let two = encoded(&vec![chunk_parts(2, 1, 9), chunk_parts(2, 1, 9)]);
    for (name, bytes) in [
        ("whose-page-is-missing", file(&[&of(&good, 0, 1, 9)])),
        ("whose-page-is-another", file(&[&of(&good, 0, 1, 9), &leaf(1, &chunks)])),
        ("whose-page-has-another-number", file(&[&of(&good, 1, 1, 9), &good])),
        ("whose-page-is-garbage", pair(&leaf(0, &[0xff; 30]), 1, 9)),
        ("whose-page-lists-nothing", pair(&leaf(0, &none), 1, 9)),
        ("whose-page-has-more-chunks", pair(&leaf(0, &two), 1, 9)),
        ("whose-page-has-fewer-chunks", pair(&good, 2, 9)),
        ("whose-page-has-other-bytes", pair(&good, 1, 10)),
        ("whose-page-has-a-tail", pair(&leaf(0, &[&chunks[..], &[0]].concat()), 1, 9)),
    ] {
        add(all, "manifest", name, bytes);
    }
    let index = forge::page(
        &key,
        &SALT,
        Level::Index,
        0,
        &encoded(&vec![(Hash([1; 32]), 0u32, 2u32, 9u64)]),
    );
    let list = vec![(Hash::of(&index), 0u32, 1u32, 9u64)];
    let top = root(&plain(9, 1, 2, &list));
    add(all, "manifest", "whose-index-page-has-more-chunks", file(&[&top, &index]));
    let top = data_encoding::HEXLOWER.encode(&file(&[&of(&good, 0, 1, 9)]));
    let long = format!("hex {top}01001000\nrepeat 1048577 00");
    add_recipe(all, "manifest", "whose-page-has-1-mib-and-a-byte", &long);
}

fn code(k: u8, m: u8) -> Code {
    Code::new(k, m).expect("it is a code")
}

/// The shape that a forged string of `sealed` bytes would have.
fn shape(plaintext_bytes: u64, sealed_bytes: u64) -> ChunkShape {
    ChunkShape {
        suite: Suite::Aes256Gcm,
        code: code(1, 0),
        segment_bytes: 1 << forge::SEGMENT_LOG2,
        chunk: ChunkNumber(7),
        plaintext_bytes,
        sealed_bytes,
        shard_bytes: shard_bytes(sealed_bytes, 1),
    }
}

/// Shapes of chunks that contradict themselves.
fn shapes(all: &mut Vec<Made>) {
    let good = shape(300, 32 + 300 + 20 + 28);
    for (name, shape) in [
        ("of-segments-of-9-bytes", ChunkShape { segment_bytes: 9, ..good }),
        ("of-512-mib-and-a-byte", ChunkShape { plaintext_bytes: (512 << 20) + 1, ..good }),
        ("of-no-sealed-bytes", ChunkShape { sealed_bytes: 0, ..good }),
        ("of-more-sealed-bytes-than-raw-ones", shape(300, good.sealed_bytes + 1)),
        ("of-shards-a-unit-longer", ChunkShape { shard_bytes: good.shard_bytes + 64, ..good }),
        ("of-shards-of-16-exbibytes", ChunkShape { shard_bytes: u64::MAX, ..good }),
    ] {
        add(all, "chunk", name, Chunk { shape, stripes: vec![] }.to_bytes());
    }
}

/// A string of one segment, and what an origin can do to it before and after it is sealed.
struct Forged {
    word: u32,
    stored: Vec<u8>,
    plaintext: u64,
    table: Option<Vec<u8>>,
}

impl Forged {
    fn raw(stored: &[u8]) -> Forged {
        let word = 1 << 31 | stored.len() as u32;
        Forged { word, stored: stored.to_vec(), plaintext: stored.len() as u64, table: None }
    }

    fn zstd(stored: &[u8], plaintext: u64) -> Forged {
        let word = stored.len() as u32;
        Forged { word, stored: stored.to_vec(), plaintext, table: None }
    }

    fn bytes(&self, bend: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
        let mut chunk = forge::Chunk::new(&read_key().content_key(), 7, SALT);
        chunk.segment(self.word, &self.stored);
        let right = chunk.table(self.plaintext);
        chunk.footer(self.table.as_ref().unwrap_or(&right));
        let shape = shape(self.plaintext, chunk.string.len() as u64);
        chunk.fill(shape.shard_bytes as usize - chunk.string.len());
        bend(&mut chunk.string);
        let units = chunk.string.chunks(GROUP_BYTES);
        let stripes = units.map(|unit| vec![(0, unit.to_vec())]).collect();
        Chunk { shape, stripes }.to_bytes()
    }
}

fn strings(all: &mut Vec<Made>) {
    let good = Forged::raw(&pattern(300));
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x00, 0x03, 0x03, 0x20, 0x00, 0x00, 0x00];
    let flip = |at: usize| move |string: &mut Vec<u8>| string[at] ^= 1;
    let same = |_: &mut Vec<u8>| {};
    let with = |at: usize, byte: u8| {
        let mut bent = frame;
        bent[at] = byte;
        Forged::zstd(&bent, 1024).bytes(same)
    };
    let last = shape(300, 380).shard_bytes as usize - 1;
    for (name, bytes) in [
        ("of-version-2", good.bytes(|string| string[0] = 2)),
        ("of-another-suite", good.bytes(|string| string[1] = 1)),
        ("of-another-segment-size", good.bytes(|string| string[2] = 17)),
        ("with-a-header-that-is-not-all-zeros", good.bytes(flip(9))),
        ("with-another-salt", good.bytes(flip(20))),
        ("with-a-bent-word", good.bytes(flip(33))),
        ("with-a-bent-segment", good.bytes(flip(40))),
        ("with-a-bent-tag", good.bytes(flip(340))),
        ("with-a-bent-footer", good.bytes(flip(360))),
        ("with-bent-fill", good.bytes(flip(last))),
        (
            "with-a-raw-word-of-another-length",
            Forged { word: 1 << 31 | 299, ..Forged::raw(&pattern(300)) }.bytes(same),
        ),
        (
            "with-a-reserved-bit",
            Forged { word: 1 << 31 | 1 << 30 | 300, ..Forged::raw(&pattern(300)) }.bytes(same),
        ),
        ("with-a-word-of-no-bytes", Forged { word: 0, ..Forged::raw(&pattern(300)) }.bytes(same)),
        ("with-a-frame-that-saves-nothing", Forged::zstd(&pattern(300), 301).bytes(same)),
        (
            "with-a-footer-of-another-length",
            Forged { table: Some(vec![9; 12]), ..Forged::raw(&pattern(300)) }.bytes(same),
        ),
        ("with-garbage-for-a-frame", Forged::zstd(&pattern(300), 1024).bytes(same)),
        ("with-a-frame-of-more", Forged::zstd(&frame, 1023).bytes(same)),
        ("with-a-frame-of-less", Forged::zstd(&frame, 1025).bytes(same)),
        ("with-a-bomb-of-64-kib", with(6, 0xff)),
        ("with-a-frame-with-a-checksum", with(4, 0x64)),
        ("with-a-frame-with-a-dictionary", with(4, 0x61)),
        ("with-a-frame-with-a-window", with(4, 0x40)),
        ("with-a-frame-of-another-magic", with(0, 0x29)),
        ("with-a-block-of-a-reserved-kind", with(7, 0x07)),
        ("with-two-frames", Forged::zstd(&[frame, frame].concat(), 2048).bytes(same)),
        ("with-a-frame-and-a-tail", Forged::zstd(&[&frame[..], &[0]].concat(), 1024).bytes(same)),
    ] {
        add(all, "chunk", name, bytes);
    }
}

/// Units that are not k different ones of the code.
fn units(all: &mut Vec<Made>) {
    let shape =
        ChunkShape { code: code(2, 1), shard_bytes: shard_bytes(380, 2), ..shape(300, 380) };
    let length = shape.shard_bytes as usize;
    let with = |units: &[(u8, usize)]| {
        let stripe = units.iter().map(|(index, length)| (*index, pattern(*length))).collect();
        Chunk { shape, stripes: vec![stripe] }.to_bytes()
    };
    for (name, bytes) in [
        ("of-no-stripes", Chunk { shape, stripes: vec![] }.to_bytes()),
        ("of-one-unit-for-two", with(&[(0, length)])),
        ("of-three-units-for-two", with(&[(0, length), (1, length), (2, length)])),
        ("of-a-unit-twice", with(&[(1, length), (1, length)])),
        ("of-a-unit-that-the-code-lacks", with(&[(0, length), (3, length)])),
        ("of-a-short-unit", with(&[(0, length), (1, length - 1)])),
        ("of-a-long-unit", with(&[(0, length + 64), (1, length)])),
    ] {
        add(all, "chunk", name, bytes);
    }
}
