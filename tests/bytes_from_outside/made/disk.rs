//! Data directories that something happened to.

use pangea_base::file::FileName;
use pangea_base::{ChunkNumber, Locator, PeerId, ShardIndex, ShardKey, UnixTime};
use pangea_store::Key;
use pangea_store::sim::Image;
use pangea_store::sim::old::{self, OldPut};

use super::super::disk::pack;
use super::super::targets::disk::{seal, sound};
use super::{Made, add};

const BLOCK: usize = 4096;
const JOURNAL: &str = "store/p00/journal-0000000000000001";
const EXTENT: &str = "store/p00/extent-00000000";
const FORMAT: &str = "store/format";
/// What a block of a journal begins with, before its entries.
const HEAD: usize = 120;
/// Where the first entry, a shard's, says how long it is.
const LENGTH: usize = HEAD + 1 + 32 + 37 + 2 + 8 + 7 + 1 + 8 + 32;

pub fn make(all: &mut Vec<Made>) {
    formats(all);
    journals(all);
    extents(all);
    strangers(all);
    resealed(all);
}

/// A sound disk, changed in one file.
fn with(file: &str, change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut image: Image = sound().clone();
    change(image.get_mut(&FileName::new(file)).expect("it is there"));
    pack(&image)
}

fn block(number: usize) -> std::ops::Range<usize> {
    number * BLOCK..(number + 1) * BLOCK
}

fn formats(all: &mut Vec<Made>) {
    let field = |at: usize, byte: u8| {
        with(FORMAT, |file| {
            file[at] = byte;
            seal(file);
        })
    };
    for (name, bytes) in [
        ("with-a-bent-format-file", with(FORMAT, |file| file[99] ^= 1)),
        ("with-a-format-file-of-another-magic", field(32, b'X')),
        ("of-version-3", field(40, 3)),
        ("of-another-node", field(44, 9)),
        ("of-version-0", field(40, 0)),
        ("of-version-16777217", field(43, 1)),
        ("with-a-format-file-of-text", with(FORMAT, |file| file.fill(b'x'))),
    ] {
        add(all, "data-directory", name, bytes);
    }
}

fn journals(all: &mut Vec<Made>) {
    let last = sound()[&FileName::new(JOURNAL)]
        .chunks(BLOCK)
        .rposition(|block| block.iter().any(|byte| *byte != 0))
        .expect("the journal has blocks");
    for (name, bytes) in [
        ("with-a-bent-block-in-the-journal", with(JOURNAL, |file| file[3 * BLOCK + 99] ^= 1)),
        ("with-a-zeroed-block-in-the-journal", with(JOURNAL, |file| file[block(3)].fill(0))),
        (
            "with-two-blocks-changed-over",
            with(JOURNAL, |file| {
                let (front, back) = file.split_at_mut(4 * BLOCK);
                front[block(3)].swap_with_slice(&mut back[..BLOCK]);
            }),
        ),
        ("with-a-block-twice", with(JOURNAL, |file| file.copy_within(block(3), 4 * BLOCK))),
        ("with-a-bent-last-block", with(JOURNAL, |file| file[last * BLOCK + 99] ^= 1)),
        ("with-garbage-behind-the-journal", with(JOURNAL, |file| file[block(last + 1)].fill(7))),
        ("with-a-journal-cut-inside-a-block", with(JOURNAL, |file| file.truncate(3 * BLOCK + 9))),
        ("with-an-empty-journal", with(JOURNAL, Vec::clear)),
        ("with-a-journal-of-zeros", with(JOURNAL, |file| file.fill(0))),
        (
            "with-a-journal-of-garbage",
            with(JOURNAL, |file| file.iter_mut().step_by(500).for_each(|byte| *byte = 9)),
        ),
        (
            "with-a-lost-deletion",
            with(JOURNAL, |file| {
                // Something else lies where the deleted shard was.
                let place = file.chunks(BLOCK).position(|block| block[HEAD] == 3 && block[45] == 3);
                file[place.expect("something was deleted") * BLOCK + 200] ^= 1;
            }),
        ),
    ] {
        add(all, "data-directory", name, bytes);
    }
}

fn extents(all: &mut Vec<Made>) {
    for (name, bytes) in [
        ("with-a-bent-extent-header", with(EXTENT, |file| file[99] ^= 1)),
        ("with-an-extent-of-half-its-length", with(EXTENT, |file| file.truncate(file.len() / 2))),
        ("with-an-empty-extent", with(EXTENT, Vec::clear)),
        (
            "with-a-bent-shard",
            with(EXTENT, |file| {
                file[BLOCK + 9..].iter_mut().step_by(BLOCK).for_each(|byte| *byte ^= 1)
            }),
        ),
        ("with-an-extent-of-zeros", with(EXTENT, |file| file[BLOCK..].fill(0))),
    ] {
        add(all, "data-directory", name, bytes);
    }
    let mut image: Image = sound().clone();
    image.remove(&FileName::new(EXTENT));
    add(all, "data-directory", "with-an-extent-missing", pack(&image));
}

fn strangers(all: &mut Vec<Made>) {
    let renamed = |from: &str, to: &str| {
        let mut image: Image = sound().clone();
        let bytes = image.remove(&FileName::new(from)).expect("it is there");
        image.insert(FileName::new(to), bytes);
        pack(&image)
    };
    let more = |name: &str, bytes: &[u8]| {
        let mut image: Image = sound().clone();
        image.insert(FileName::new(name), bytes.to_vec());
        pack(&image)
    };
    let mut later = sound()[&FileName::new(EXTENT)][..BLOCK].to_vec();
    (later[48], later[56]) = (9, 99);
    seal(&mut later);
    let mut elsewhere: Image = sound().clone();
    let copies: Vec<_> = sound().iter().filter(|(name, _)| name.as_str().contains("p00")).collect();
    for (name, bytes) in copies {
        let mut bytes = bytes.clone();
        relink(&mut bytes);
        elsewhere.insert(FileName::new(name.as_str().replace("p00", "p01")), bytes);
    }
    for (name, bytes) in [
        ("with-a-journal-of-another-name", renamed(JOURNAL, "store/p00/journal-0000000000000002")),
        ("with-a-journal-that-is-lost", renamed(JOURNAL, "store/p00/lost-and-found")),
        (
            "with-a-journal-in-another-partition",
            renamed(JOURNAL, "store/p03/journal-0000000000000001"),
        ),
        ("with-an-extent-of-another-number", renamed(EXTENT, "store/p00/extent-00000007")),
        ("with-a-file-that-is-not-ours", more("store/p00/notes.txt", b"hello")),
        ("with-an-extent-of-nine-digits", more("store/p00/extent-00000000a", &[0; BLOCK])),
        ("with-an-extent-of-the-highest-number", more("store/p00/extent-ffffffff", &[0; BLOCK])),
        ("with-an-extent-that-is-not-ours", more("store/p00/extent-00000009", &[7; BLOCK])),
        ("with-an-extent-made-later-than-the-journal", more("store/p00/extent-00000009", &later)),
        ("of-format-1-with-a-cut-journal", pack(&cut_format_1())),
        ("with-everything-in-two-partitions", pack(&elsewhere)),
    ] {
        add(all, "data-directory", name, bytes);
    }
}

/// A store of the program before this one, whose journal ends behind its first put.
fn cut_format_1() -> Image {
    let key = ShardKey { locator: Locator([1; 32]), chunk: ChunkNumber(1), index: ShardIndex(1) };
    let put = OldPut {
        key: Key::shard(PeerId([1; 32]), key),
        until: UnixTime(1000),
        stored: UnixTime(1),
        bytes: vec![1; 100],
        deleted: false,
    };
    let mut image = old::image(0, &[put.clone(), put], 128 << 10);
    image.get_mut(&FileName::new(JOURNAL)).expect("it is there").truncate(2 * BLOCK);
    image
}

/// Gives every block with a head to partition 1, and makes checksums and links right again.
fn relink(bytes: &mut [u8]) {
    let mut link = [0; 32];
    for block in bytes.chunks_mut(BLOCK).filter(|block| block[32..].starts_with(b"PANGEA")) {
        block[44] = 1;
        if block[32..].starts_with(b"PANGEAJB") {
            block[80..112].copy_from_slice(&link);
        }
        seal(block);
        link.copy_from_slice(&block[..32]);
    }
}

/// Blocks whose checksum is right and whose content cannot be.
fn resealed(all: &mut Vec<Made>) {
    let field = |file: &'static str, number: usize, at: usize, byte: u8| {
        with(file, move |file| {
            let block = &mut file[block(number)];
            block[at] = byte;
            seal(block);
        })
    };
    for (name, bytes) in [
        ("with-a-journal-block-of-version-3", field(JOURNAL, 2, 40, 3)),
        ("with-a-journal-block-that-says-the-file-is-longer", field(JOURNAL, 2, 114, 9)),
        (
            "with-a-journal-that-is-all-of-version-3",
            with(JOURNAL, |file| {
                for block in file.chunks_mut(BLOCK).filter(|block| block[32] == b'P') {
                    block[40] = 3;
                    seal(block);
                }
            }),
        ),
        ("with-a-block-of-another-kind", field(JOURNAL, 2, 45, 9)),
        ("with-a-block-of-another-generation", field(JOURNAL, 2, 48, 9)),
        ("with-a-block-of-another-number", field(JOURNAL, 2, 56, 9)),
        ("with-a-block-of-more-entries-than-fit", field(JOURNAL, 2, 47, 0xff)),
        ("with-an-entry-of-an-unknown-kind", field(JOURNAL, 2, HEAD, 9)),
        ("with-an-entry-without-data-shards", field(JOURNAL, 2, HEAD + 70, 0)),
        ("with-an-entry-of-a-long-shard", field(JOURNAL, 2, LENGTH + 7, 0xff)),
        ("with-an-entry-of-255-runs", field(JOURNAL, 2, LENGTH + 8, 0xff)),
        ("with-an-extent-header-of-version-3", field(EXTENT, 0, 40, 3)),
        ("with-an-extent-header-of-another-number", field(EXTENT, 0, 48, 9)),
        ("with-an-extent-header-of-another-partition", field(EXTENT, 0, 44, 9)),
    ] {
        add(all, "data-directory", name, bytes);
    }
}
