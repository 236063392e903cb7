//! Pages that only the maker of a link could have made wrong, and every depth with few chunks.

use pangea_base::{Code, Entropy, ManifestId, PeerId, ReadKey, Secret};

use super::seal::SALT_BYTES;
use super::write::Budget;
use super::*;
use crate::{codec, shard_bytes};

const OWNER: PeerId = PeerId([0x0e; 32]);

fn key() -> ReadKey {
    ReadKey(Secret::new([0x52; 32]))
}

fn parts(plaintext_bytes: u64) -> ChunkParts {
    let sealed_bytes = plaintext_bytes + 100;
    ChunkParts {
        suite: 2,
        scheme: 1,
        k: 2,
        m: 1,
        segment_bytes: 65_536,
        plaintext_bytes,
        sealed_bytes,
        shard_bytes: shard_bytes(sealed_bytes, 2),
        roots: vec![Hash([7; 32]); 3],
    }
}

fn entry(plaintext_bytes: u64) -> ChunkEntry {
    parts(plaintext_bytes).try_into().unwrap()
}

/// Opens a root page made of these parts, sealed with the right key.
fn open(root: &RootParts) -> Result<ManifestReader, ManifestInvalid> {
    open_bytes(codec::encode(root))
}

fn open_bytes(mut page: Vec<u8>) -> Result<ManifestReader, ManifestInvalid> {
    open_version(seal::VERSION, seal::VERSION, &mut page)
}

/// The same with this version in front, sealed as one of that version.
fn open_version(
    said: u8,
    sealed_as: u8,
    page: &mut Vec<u8>,
) -> Result<ManifestReader, ManifestInvalid> {
    let sealer = seal::PageSealer::new(&key().verify_key(), sealed_as, [5; SALT_BYTES]);
    sealer.seal(Level::Root, 0, page);
    let bytes = [&[said][..], &[5; SALT_BYTES], page].concat();
    ManifestReader::root(&bytes, ManifestId(Hash::of(&bytes).0), &key().verify_key())
}

fn root_of(chunks: Vec<ChunkParts>) -> RootParts {
    let plaintext_bytes = chunks.iter().map(|c| c.plaintext_bytes).sum();
    let chunk_count = chunks.len() as u32;
    let (label, owner, body) = (None, Some(OWNER), RootBody::Chunks(chunks));
    RootParts { plaintext_bytes, chunk_count, label, owner, body }
}

type Case = (&'static str, RootParts, ManifestInvalid);

fn all_are_refused(cases: Vec<Case>) {
    open(&root_of(vec![parts(1000), parts(2000)])).unwrap();
    for (name, root, expected) in cases {
        let opened = open(&root).and_then(|reader| reader.label(&key()).map(|_| reader));
        let error = opened.map(|_| ()).expect_err(name);
        assert_eq!(error, expected, "{name}");
        assert!(!error.blames_holder(), "{name}");
    }
}

#[test]
fn a_chunk_that_its_maker_got_wrong_is_refused_and_blames_no_holder() {
    let bent = |bend: &dyn Fn(&mut ChunkParts)| {
        let mut chunk = parts(1000);
        bend(&mut chunk);
        root_of(vec![parts(1), chunk])
    };
    use ChunkWrong as Bad;
    let chunk = |wrong| ManifestInvalid::Chunk { chunk: 1, wrong };
    assert_eq!(parts(1000).shard_bytes, 576, "1100 sealed bytes over 2 shards");
    all_are_refused(vec![
        ("suite 0", bent(&|c| c.suite = 0), chunk(Bad::Suite(0))),
        ("suite 3", bent(&|c| c.suite = 3), chunk(Bad::Suite(3))),
        ("scheme 0", bent(&|c| c.scheme = 0), chunk(Bad::Scheme(0))),
        ("scheme 3", bent(&|c| c.scheme = 3), chunk(Bad::Scheme(3))),
        ("no data shard", bent(&|c| c.k = 0), chunk(Bad::Code { k: 0, m: 1 })),
        ("256 shards", bent(&|c| c.k = 255), chunk(Bad::Code { k: 255, m: 1 })),
        ("65 narrow shards", bent(&|c| c.m = 63), chunk(Bad::SchemeTooNarrow(65))),
        ("odd segment", bent(&|c| c.segment_bytes = 65_537), chunk(Bad::Segment(65_537))),
        ("no segment", bent(&|c| c.segment_bytes = 0), chunk(Bad::Segment(0))),
        (
            "too much plaintext",
            bent(&|c| c.plaintext_bytes = (128 << 20) + 1),
            chunk(Bad::Plaintext((128 << 20) + 1)),
        ),
        (
            "no room for the segments",
            bent(&|c| c.sealed_bytes = 19),
            chunk(Bad::Sealed { sealed: 19, plaintext: 1000, least: 20 }),
        ),
        (
            "too many sealed bytes",
            bent(&|c| c.sealed_bytes = (256 << 20) + 1),
            chunk(Bad::Sealed { sealed: (256 << 20) + 1, plaintext: 1000, least: 20 }),
        ),
        (
            "shard one unit too long",
            bent(&|c| c.shard_bytes += 64),
            chunk(Bad::ShardBytes { said: 640, right: 576 }),
        ),
        (
            "a root too few",
            bent(&|c| c.roots.truncate(2)),
            chunk(Bad::Roots { roots: 2, shards: 3 }),
        ),
        (
            "a root too many",
            bent(&|c| c.roots.push(Hash([0; 32]))),
            chunk(Bad::Roots { roots: 4, shards: 3 }),
        ),
    ]);
}

#[test]
fn a_list_that_its_maker_got_wrong_is_refused_and_blames_no_holder() {
    let fine = || root_of(vec![parts(1000), parts(2000)]);
    let refs = |counts: &[(u32, u64)], chunk_count, plaintext_bytes| {
        let page = |&(chunk_count, plaintext_bytes): &(u32, u64)| RefParts {
            hash: Hash([1; 32]),
            number: 0,
            chunk_count,
            plaintext_bytes,
        };
        let body = RootBody::Leaves(counts.iter().map(page).collect());
        RootParts { plaintext_bytes, chunk_count, label: None, owner: None, body }
    };
    use ManifestInvalid as Is;
    assert!(CHUNKS_MAX as usize == CHUNK_LIST_MAX && Code::SHARDS_MAX == 255);
    all_are_refused(vec![
        ("empty chunk among others", root_of(vec![parts(5), parts(0)]), Is::EmptyChunk(1)),
        ("no chunks at all", root_of(vec![]), Is::ChunkCount(0)),
        ("a list of nothing", RootParts { chunk_count: 1, ..root_of(vec![]) }, Is::EmptyList),
        (
            "more chunks announced",
            RootParts { chunk_count: 3, ..fine() },
            Is::Count { found: 2, expected: 3 },
        ),
        (
            "too many chunks announced",
            RootParts { chunk_count: CHUNKS_MAX + 1, ..fine() },
            Is::ChunkCount(CHUNKS_MAX + 1),
        ),
        ("wrong sum", RootParts { plaintext_bytes: 2999, ..fine() }, Is::Sum(2999)),
        ("label of one byte", RootParts { label: Some(vec![0]), ..fine() }, Is::SealedLabel),
        ("no page", refs(&[], 1, 0), Is::EmptyList),
        ("page of no chunks", refs(&[(1, 1), (0, 1)], 1, 2), Is::EmptyList),
        (
            "pages short of chunks",
            refs(&[(1, 1), (1, 1)], 3, 2),
            Is::Count { found: 2, expected: 3 },
        ),
        ("pages past the end", refs(&[(9, 1), (1, 1)], 9, 2), Is::Count { found: 10, expected: 9 }),
        (
            "page counts that overflow",
            refs(&[(u32::MAX, 1), (u32::MAX, 1)], 9, 2),
            Is::Count { found: 2 * u64::from(u32::MAX), expected: 9 },
        ),
        ("page sums that overflow", refs(&[(1, u64::MAX), (1, 1)], 2, 0), Is::Sum(0)),
        ("page sums that differ", refs(&[(1, 4), (1, 1)], 2, 4), Is::Sum(4)),
    ]);
}

#[test]
fn a_root_with_more_in_it_than_its_fields_is_refused() {
    let fine = codec::encode(&root_of(vec![parts(1000)]));
    open_bytes(fine.clone()).unwrap();
    let trailing = [fine.clone(), vec![0]].concat();
    let wrong = ManifestInvalid::Undecodable(Undecodable::TrailingBytes(1));
    assert_eq!(open_bytes(trailing).unwrap_err(), wrong);
    let cut = fine[..fine.len() - 1].to_vec();
    let wrong = ManifestInvalid::Undecodable(Undecodable::EndsEarly);
    assert_eq!(open_bytes(cut).unwrap_err(), wrong);
    // 1000 is e8 07; as e8 87 00 it is the same number in three bytes.
    assert_eq!(fine[..2], [0xe8, 0x07]);
    let long = [&[0xe8, 0x87, 0x00], &fine[2..]].concat();
    let wrong = ManifestInvalid::Undecodable(Undecodable::NotShortest);
    assert_eq!(open_bytes(long).unwrap_err(), wrong);
}

#[test]
fn a_root_of_version_1_has_no_owner_and_none_passes_for_the_other() {
    let new = codec::encode(&root_of(vec![parts(1000)]));
    let RootParts { plaintext_bytes, chunk_count, label, body, .. } = root_of(vec![parts(1000)]);
    let old = codec::encode(&OldRootParts { plaintext_bytes, chunk_count, label, body });
    let (old_version, version) = (seal::VERSION_OLD, seal::VERSION);
    let read = open_version(old_version, old_version, &mut old.clone()).unwrap();
    assert_eq!((read.owner(), read.plaintext_bytes()), (None, 1000));
    let read = open_version(version, version, &mut new.clone()).unwrap();
    assert_eq!(read.owner(), Some(OWNER));
    let relabelled = [
        open_version(old_version, version, &mut new.clone()),
        open_version(version, old_version, &mut old.clone()),
    ];
    for opened in relabelled {
        assert_eq!(opened.unwrap_err(), ManifestInvalid::Key);
    }
    // Sealed so on purpose: each has the form of its version.
    assert!(open_version(old_version, old_version, &mut new.clone()).is_err());
    assert!(open_version(version, version, &mut old.clone()).is_err());
    for other in [0, 3, 255] {
        let opened = open_version(other, other, &mut new.clone());
        assert_eq!(opened.unwrap_err(), ManifestInvalid::Version(other));
    }
}

#[test]
fn a_list_that_announces_millions_and_holds_nothing_is_refused() {
    // plaintext 0, one chunk, no label, no owner, body of chunks, and then a count of 2^32 - 1.
    let page = vec![0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f];
    let wrong = open_bytes(page).unwrap_err();
    assert!(matches!(wrong, ManifestInvalid::Undecodable(_)), "{wrong}");
}

#[test]
fn a_label_that_its_maker_got_wrong_is_refused() {
    let sealed = |text: &[u8], length: u8, padding: u8| {
        let mut page = vec![length];
        page.extend_from_slice(text);
        page.resize(256, padding);
        let place = seal::Place { version: seal::VERSION, salt: [5; SALT_BYTES] };
        // Sealed by hand: `seal_label` makes none of these.
        let cipher_key = key().content_key().label_key();
        seal::tests_seal(&cipher_key, &place, &mut page);
        RootParts { label: Some(page), ..root_of(vec![parts(9)]) }
    };
    let read = |root: &RootParts| open(root).unwrap().label(&key());
    assert_eq!(read(&sealed(b"fine", 4, 0)).unwrap().unwrap().as_str(), "fine");
    let refused = |root: &RootParts| read(root).unwrap_err();
    assert_eq!(refused(&sealed(b"a/b", 3, 0)), LabelRefused::Separator('/').into());
    assert_eq!(refused(&sealed(b"..", 2, 0)), LabelRefused::Dots.into());
    assert_eq!(refused(&sealed(&[0xff], 1, 0)), LabelRefused::NotUtf8.into());
    assert_eq!(refused(&sealed(b"", 0, 0)), LabelRefused::Empty.into());
    assert_eq!(refused(&sealed(b"name", 4, 1)), ManifestInvalid::SealedLabel);
}

#[test]
fn every_depth_gives_back_what_went_in() {
    let label = Label::new("depth").unwrap();
    let depths = [
        // (chunks, root budget, page budget, pages below the root, index pages among them)
        (3, 10_000, 10_000, 0, 0),
        (40, 400, 1_000, 5, 0),
        (300, 300, 500, 81, 6),
    ];
    for (chunks, root, page, pages_expected, indexes) in depths {
        let mut entropy = Entropy::new([chunks as u8; 32]);
        let mut writer =
            ManifestWriter::with_budget(&key(), None, &mut entropy, Budget { root, page });
        let chunks: Vec<ChunkEntry> = (1..=chunks).map(|n| entry(n * 1000)).collect();
        let mut pages = Vec::new();
        for chunk in &chunks {
            pages.extend(writer.push(chunk).unwrap());
        }
        let sealed = writer.finish(Some(&label)).unwrap();
        pages.extend(sealed.pages);
        let verify = key().verify_key();
        let reader = ManifestReader::root(&sealed.root, sealed.id, &verify).unwrap();
        assert_eq!(reader.label(&key()).unwrap().as_ref(), Some(&label));
        assert_eq!(reader.owner(), None);
        let sum: u64 = chunks.iter().map(|c| c.plaintext_bytes).sum();
        assert_eq!(reader.plaintext_bytes(), sum);
        let mut found = Vec::new();
        let mut levels = [0; 2];
        let mut walk = ManifestWalk::new(reader);
        loop {
            match walk.step() {
                Step::Chunks { first, entries } => {
                    assert_eq!(first.0 as usize, found.len());
                    found.extend(entries);
                }
                Step::Fetch(page) => {
                    levels[page.level as usize] += 1;
                    assert_eq!(walk.step(), Step::Fetch(page), "asks until it gets it");
                    let bytes = &pages.iter().find(|p| p.hash == page.hash).unwrap().bytes;
                    walk.add(bytes).unwrap();
                }
                Step::Done => break,
            }
        }
        assert_eq!(found, chunks);
        assert_eq!(walk.step(), Step::Done);
        assert_eq!((pages.len(), levels[1]), (pages_expected, indexes));
        assert_eq!(levels[0] + levels[1], pages.len());
    }
}

#[test]
fn a_page_in_the_place_of_another_is_refused_even_by_its_nonce() {
    let mut entropy = Entropy::new([1; 32]);
    let budget = Budget { root: 400, page: 500 };
    let mut writer = ManifestWriter::with_budget(&key(), Some(OWNER), &mut entropy, budget);
    let mut pages = Vec::new();
    for _ in 0..12 {
        pages.extend(writer.push(&entry(1000)).unwrap());
    }
    let sealed = writer.finish(None).unwrap();
    pages.extend(sealed.pages);
    let reader = ManifestReader::root(&sealed.root, sealed.id, &key().verify_key()).unwrap();
    let Contents::Pages(refs) = reader.top() else { panic!("pages were forced") };
    assert!(reader.page(&refs[0], &pages[0].bytes).is_ok());
    let wrong = reader.page(&refs[0], &pages[1].bytes).unwrap_err();
    assert_eq!(wrong, ManifestInvalid::OtherPage);
    assert!(wrong.blames_holder());
    // Were the hash right, the place in the nonce would still be wrong.
    let moved = PageRef { hash: pages[1].hash, ..refs[0] };
    assert_eq!(reader.page(&moved, &pages[1].bytes), Err(ManifestInvalid::Key));
    let lifted = PageRef { level: Level::Index, ..refs[0] };
    assert_eq!(reader.page(&lifted, &pages[0].bytes), Err(ManifestInvalid::Key));
    // Same bytes in every page, and yet no two sealed pages are alike.
    assert!(pages[0].bytes[..64] != pages[1].bytes[..64]);
}
