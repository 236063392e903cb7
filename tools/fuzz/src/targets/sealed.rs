//! What only a key opens: manifests and chunks. Whoever made the link may lie behind the tags.

use pangea_base::{
    ChunkNumber, Code, Entropy, GROUP_BYTES, Hash, ManifestId, PagePool, PeerId, ReadKey,
    ShardIndex, VerifyKey,
};
use pangea_ces::{
    ChunkPlan, ChunkShape, Codec, Compression, DecodeFailed, Decoder, Encoder, End, Padding, Suite,
};
use pangea_wire::{
    ChunkEntry, Label, ManifestInvalid, ManifestReader, ManifestWalk, Object, Step, seal_manifest,
};

use super::forge::{self, Level};
use super::input::{Input, counted};
use super::samples::{chunk_parts, owner, pattern, read_key};

const SALT: [u8; 16] = [0xa5; 16];

/// A manifest. By the first byte: a root page as it is stored; the plain text of a root page; of a
/// leaf page with a root that names it; of both with an index page between them; of a label; of a
/// root page of version 1.
pub fn manifest(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.u8();
    let read = read_key();
    let verify = read.verify_key();
    let key = verify.manifest_key();
    let (root, pages) = match kind % 6 {
        0 => (input.rest().to_vec(), vec![]),
        1 => (forge::root_page(&key, &SALT, input.rest()), vec![]),
        2 | 3 => {
            let mut counts = (input.u32() % 4, input.u64(), input.u32());
            let mut plain = input.rest().to_vec();
            let mut pages = Vec::new();
            let levels = [Level::Leaf, Level::Index];
            for level in &levels[..usize::from(kind % 6) - 1] {
                let (count, bytes, number) = counts;
                let page = forge::page(&key, &SALT, *level, number, &plain);
                plain = encoded(&vec![(Hash::of(&page), number, count, bytes)]);
                counts.2 = counts.2.wrapping_add(1);
                pages.insert(0, page);
            }
            let (label, owner) = (None::<Vec<u8>>, None::<PeerId>);
            let head = encoded(&(counts.1, counts.0, label, owner, u32::from(kind % 6) - 1));
            (forge::root_page(&key, &SALT, &[head, plain].concat()), pages)
        }
        4 => {
            let label_key = read.content_key().label_key();
            let label = forge::page(&label_key, &SALT, Level::Label, 0, input.rest());
            let list = vec![chunk_parts(2, 1, 9)];
            let plain = encoded(&(9u64, 1u32, Some(label), None::<PeerId>, 0u32, list));
            (forge::root_page(&key, &SALT, &plain), vec![])
        }
        _ => (forge::root_page_of(forge::VERSION_OLD, &key, &SALT, input.rest()), vec![]),
    };
    let _ = walk(&root, &pages, &read, &verify);
}

fn walk(
    root: &[u8],
    pages: &[Vec<u8>],
    read: &ReadKey,
    verify: &VerifyKey,
) -> Result<(), ManifestInvalid> {
    let reader = ManifestReader::root(root, ManifestId(Hash::of(root).0), verify)?;
    let (count, bytes) = (reader.chunk_count(), reader.plaintext_bytes());
    let _ = reader.label(read)?;
    let mut walk = ManifestWalk::new(reader);
    let (mut next, mut sum) = (0u64, 0u64);
    loop {
        match walk.step() {
            Step::Chunks { first, entries } => {
                assert_eq!(u64::from(first.0), next, "chunks come in order");
                next += entries.len() as u64;
                sum += entries.iter().map(|entry| entry.plaintext_bytes).sum::<u64>();
            }
            Step::Fetch(page) => {
                let found = pages.iter().find(|bytes| Hash::of(bytes) == page.hash);
                let Some(found) = found else { return Ok(()) };
                walk.add(found)?;
            }
            Step::Done => break,
        }
    }
    assert_eq!((next, sum), (u64::from(count), bytes), "the whole is the sum of its parts");
    Ok(())
}

fn encoded<T: serde::Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("it encodes")
}

pub fn manifest_seeds() -> Vec<Vec<u8>> {
    let chunks = |count: usize| -> Vec<ChunkEntry> {
        let part = |_| ChunkEntry::try_from(chunk_parts(3, 1, 9)).expect("it can be");
        (0..count).map(part).collect()
    };
    let object = |label: Option<&str>, count| Object {
        label: label.map(|text| Label::new(text).expect("a good name")),
        owner: Some(owner()),
        chunks: chunks(count),
    };
    let sealed = |object| seal_manifest(&object, &read_key(), &mut Entropy::new([1; 32]));
    let sealed = |object| sealed(object).expect("it can be sealed").root.to_vec();
    let list = vec![chunk_parts(2, 1, 9)];
    let root = encoded(&(9u64, 1u32, None::<Vec<u8>>, Some(owner()), 0u32, list.clone()));
    let old_root = encoded(&(9u64, 1u32, None::<Vec<u8>>, 0u32, list.clone()));
    let head = [&1u32.to_le_bytes()[..], &9u64.to_le_bytes(), &0u32.to_le_bytes()].concat();
    let label = [&[8][..], b"film.mkv", &[0; 247]].concat();
    vec![
        [vec![0], sealed(object(None, 1))].concat(),
        [vec![0], sealed(object(Some("film.mkv"), 3))].concat(),
        [vec![1], root].concat(),
        [vec![2], head.clone(), encoded(&list)].concat(),
        [vec![3], head, encoded(&list)].concat(),
        [vec![4], label].concat(),
        [vec![5], old_root].concat(),
    ]
}

/// A sealed chunk of any shape. By the first byte: any string behind a good header, or segments
/// behind good tags with any words and contents, any footer and any fill.
pub fn chunk(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.u8();
    let (k, m) = (input.u8() % 4 + 1, input.u8() % 3);
    let mut plaintext_bytes = u64::from(input.u32() % 400_000);
    let content = read_key().content_key();
    let mut forged = forge::Chunk::new(&content, 7, SALT);
    if flags & 1 == 0 {
        let rest = input.rest();
        forged.string.extend(rest);
    } else {
        let mut honest = 0;
        for _ in 0..input.u8() % 5 {
            let (kind, word) = (input.u8(), input.u32());
            let stored = input.bytes();
            let raw = u32::from(kind & 1) << 31 | stored.len() as u32;
            forged.segment(if kind & 2 == 0 { raw } else { word }, stored);
            honest += if kind & 4 == 0 { stored.len() as u64 } else { u64::from(word) % 65_537 };
        }
        plaintext_bytes = if flags & 2 == 0 { honest } else { plaintext_bytes };
        let table = forged.table(plaintext_bytes);
        forged.footer(if flags & 4 == 0 { &table } else { input.bytes() });
    }
    let code = Code::new(k, m).expect("it is small");
    let sealed_bytes = forged.string.len() as u64;
    let shard_bytes = pangea_wire::shard_bytes(sealed_bytes, code.k());
    let fill = shard_bytes as usize * code.k() - forged.string.len();
    match flags & 8 {
        0 => forged.fill(fill),
        _ => forged.string.resize(shard_bytes as usize * code.k(), input.u8()),
    }
    let shape = ChunkShape {
        suite: Suite::Aes256Gcm,
        code,
        segment_bytes: 1 << forge::SEGMENT_LOG2,
        chunk: ChunkNumber(7),
        plaintext_bytes,
        sealed_bytes,
        shard_bytes,
    };
    if let Ok(bytes) = decode(&shape, &forged.string) {
        assert_eq!(bytes as u64, plaintext_bytes, "what decodes has its length");
    }
}

/// Decodes a sealed string from its data shards; how many bytes came of it.
fn decode(shape: &ChunkShape, string: &[u8]) -> Result<usize, DecodeFailed> {
    let mut codec = Codec::new();
    let pool = PagePool::new(131_072, 1);
    let mut page = pool.take().expect("the pool has one");
    let mut decoder = Decoder::start(&mut codec, shape, &read_key().content_key())?;
    let (mut rest, mut bytes) = (string, 0);
    for stripe in 0..decoder.stripes() {
        let unit = decoder.unit_bytes(stripe);
        let (now, later) = rest.split_at(unit * shape.code.k());
        rest = later;
        let units: Vec<(ShardIndex, &[u8])> = (0..).map(ShardIndex).zip(now.chunks(unit)).collect();
        decoder.stripe(&mut codec, &units)?;
        while let Some(segment) = decoder.segment(&mut codec, &mut page)? {
            assert_eq!(segment, page.len());
            bytes += segment;
        }
    }
    decoder.finish(&mut codec)?;
    Ok(bytes)
}

/// A zstd frame of a kilobyte of nothing: an RLE block.
const FRAME: [u8; 12] = [0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x00, 0x03, 0x03, 0x20, 0x00, 0x00, 0x00];

pub fn chunk_seeds() -> Vec<Vec<u8>> {
    let head = |flags: u8, k: u8, m: u8, bytes: u32| {
        [&[flags, k - 1, m][..], &bytes.to_le_bytes()].concat()
    };
    let segment = |kind: u8, word: u32, stored: &[u8]| {
        [&[kind][..], &word.to_le_bytes(), &counted(stored)].concat()
    };
    let plain = pattern(300);
    vec![
        [head(0, 1, 0, 300), sealed(&plain)].concat(),
        [head(0, 3, 1, 300), sealed(&plain)].concat(),
        [head(1, 1, 0, 0), vec![1], segment(1, 0, &plain)].concat(),
        [head(1, 2, 1, 0), vec![2], segment(1, 0, &plain), segment(1, 0, b"x")].concat(),
        [head(1, 1, 0, 0), vec![1], segment(4, 1024, &FRAME)].concat(),
        [head(5, 1, 0, 0), vec![0], counted(&[0; 8])].concat(),
    ]
}

/// What follows the header in the sealed string of a real encoder, without its fill.
fn sealed(plain: &[u8]) -> Vec<u8> {
    let plan = ChunkPlan {
        suite: Suite::Aes256Gcm,
        code: Code::new(1, 0).expect("it is a code"),
        segment_bytes: 1 << forge::SEGMENT_LOG2,
        compression: Compression::Off,
        padding: Padding::Off,
    };
    let mut codec = Codec::new();
    let pool = PagePool::new(GROUP_BYTES, 1);
    let content = read_key().content_key();
    let mut encoder = Encoder::start(&mut codec, plan, ChunkNumber(7), &content, SALT);
    let mut string = Vec::new();
    while !encoder.done() {
        encoder.feed(&mut codec, plain, End::Last);
        while let Some(units) = encoder.stripe(&mut codec, &pool).expect("the pool has a page") {
            string.extend_from_slice(&units[0]);
            codec.recycle(units);
        }
    }
    let sealed = encoder.finish(&mut codec);
    string.truncate(sealed.sealed_bytes as usize);
    string.drain(..32);
    string
}
