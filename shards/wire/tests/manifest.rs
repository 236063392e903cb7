//! Manifests of one chunk, of 10 GB and of 1 TiB; and what is refused from holders.

mod common;

use std::collections::BTreeMap;

use bytes::Bytes;
use common::*;
use pangea_base::*;
use pangea_wire::*;
use proptest::prelude::*;

fn entropy() -> Entropy {
    Entropy::new([9; 32])
}

/// Walks a manifest with its pages kept elsewhere, and counts the chunks and the most bytes that
/// were in hand at once.
fn walked(
    sealed: &SealedManifest,
    stored: &BTreeMap<Hash, Bytes>,
    check: impl Fn(u32, &ChunkEntry),
) -> (u32, usize) {
    let reader = ManifestReader::root(&sealed.root, sealed.id, &read_key().verify_key()).unwrap();
    let (mut next, mut most) = (0, sealed.root.len());
    let mut walk = ManifestWalk::new(reader);
    loop {
        match walk.step() {
            Step::Chunks { first, entries } => {
                assert_eq!(first.0, next);
                for entry in &entries {
                    check(next, entry);
                    next += 1;
                }
                most = most.max(entries.iter().map(|e| e.roots.len() * 32 + 100).sum());
            }
            Step::Fetch(page) => {
                let bytes = &stored[&page.hash];
                assert!(bytes.len() <= limits::PAGE_BYTES_MAX);
                walk.add(bytes).unwrap();
            }
            Step::Done => return (next, most),
        }
    }
}

fn round_trip(chunks: u32, plaintext_bytes: u64, pages_below_root: usize) {
    let chunk_of = |number: u32| chunk(10, 4, plaintext_bytes - u64::from(number % 1000));
    let mut writer = ManifestWriter::new(&read_key(), Some(owner()), &mut entropy());
    let mut stored = BTreeMap::new();
    for number in 0..chunks {
        if let Some(page) = writer.push(&chunk_of(number)).unwrap() {
            stored.insert(page.hash, page.bytes);
        }
    }
    let sealed = writer.finish(None).unwrap();
    assert!(sealed.root.len() <= limits::ROOT_BYTES_MAX);
    stored.extend(sealed.pages.iter().map(|page| (page.hash, page.bytes.clone())));
    assert_eq!(stored.len(), pages_below_root, "{chunks} chunks");
    let (found, most) = walked(&sealed, &stored, |number, entry| {
        assert_eq!(entry.plaintext_bytes, plaintext_bytes - u64::from(number % 1000));
    });
    assert_eq!(found, chunks);
    assert!(most <= 2 << 20, "at most one page is in hand, not {most} bytes");
}

#[test]
fn one_chunk_fits_the_root() {
    round_trip(1, 1000, 0);
}

#[test]
fn ten_gigabytes_fit_one_page() {
    round_trip(640, 16 << 20, 1);
}

#[test]
fn a_tebibyte_fits_pages_that_the_root_lists() {
    round_trip(65_536, 16 << 20, 30);
}

#[test]
fn an_empty_object_is_one_empty_chunk() {
    let object = Object { label: None, owner: Some(owner()), chunks: vec![chunk(1, 0, 0)] };
    let sealed = seal_manifest(&object, &read_key(), &mut entropy()).unwrap();
    let reader = ManifestReader::root(&sealed.root, sealed.id, &read_key().verify_key()).unwrap();
    assert_eq!((reader.plaintext_bytes(), reader.chunk_count()), (0, 1));
    assert_eq!(reader.label(&read_key()).unwrap(), None);
}

#[test]
fn what_cannot_be_sealed_is_said() {
    let seal = |chunks| {
        let object = Object { label: None, owner: Some(owner()), chunks };
        seal_manifest(&object, &read_key(), &mut entropy()).unwrap_err()
    };
    assert_eq!(seal(vec![]), SealFailed::NoChunks);
    assert_eq!(seal(vec![chunk(1, 0, 5), chunk(1, 0, 0)]), SealFailed::EmptyChunk);
    assert_eq!(seal(vec![chunk(1, 0, 0), chunk(1, 0, 5)]), SealFailed::EmptyChunk);
}

#[test]
fn one_chunk_more_than_the_most_is_refused() {
    let mut writer = ManifestWriter::new(&read_key(), Some(owner()), &mut entropy());
    let chunk = chunk(1, 0, 1);
    for _ in 0..limits::CHUNKS_MAX {
        writer.push(&chunk).unwrap();
    }
    assert_eq!(writer.push(&chunk), Err(SealFailed::TooManyChunks));
    let sealed = writer.finish(None).unwrap();
    ManifestReader::root(&sealed.root, sealed.id, &read_key().verify_key()).unwrap();
}

#[test]
fn a_manifest_that_is_not_the_links_is_refused() {
    let object = Object {
        label: Some(Label::new("n").unwrap()),
        owner: Some(owner()),
        chunks: vec![chunk(2, 1, 1000)],
    };
    let sealed = seal_manifest(&object, &read_key(), &mut entropy()).unwrap();
    let verify = read_key().verify_key();
    let open = |bytes: &[u8], id: ManifestId| ManifestReader::root(bytes, id, &verify);
    let renamed = |bytes: &[u8]| ManifestId(Hash::of(bytes).0);
    let error = |bytes: &[u8]| open(bytes, renamed(bytes)).unwrap_err();

    let wrong = open(&sealed.root, ManifestId([0; 32])).unwrap_err();
    assert!(wrong.blames_holder() && wrong == ManifestInvalid::OtherRoot);
    assert_eq!(error(&vec![1; 65_537]), ManifestInvalid::TooLong(65_537));
    assert_eq!(error(&vec![1; 65_536]), ManifestInvalid::Key);
    assert_eq!(error(&[]), ManifestInvalid::TooShort);
    assert_eq!(error(&[1; 16]), ManifestInvalid::TooShort);
    assert_eq!(error(&[1; 17]), ManifestInvalid::Key);
    assert_eq!(error(&[2; 100]), ManifestInvalid::Key);
    assert_eq!(error(&[3; 100]), ManifestInvalid::Version(3));
    let other = ReadKey(Secret::new([1; 32])).verify_key();
    let wrong = ManifestReader::root(&sealed.root, sealed.id, &other).unwrap_err();
    assert!(!wrong.blames_holder() && wrong == ManifestInvalid::Key);
    for at in 0..sealed.root.len() {
        let mut bent = sealed.root.to_vec();
        bent[at] ^= 1;
        assert_eq!(open(&bent, sealed.id).unwrap_err(), ManifestInvalid::OtherRoot);
        assert!(matches!(error(&bent), ManifestInvalid::Key | ManifestInvalid::Version(_)));
    }
    let reader = open(&sealed.root, sealed.id).unwrap();
    let other = ReadKey(Secret::new([1; 32]));
    assert_eq!(reader.label(&other), Err(ManifestInvalid::SealedLabel));
    assert_eq!(reader.label(&read_key()).unwrap().unwrap().as_str(), "n");
}

#[test]
fn a_page_one_byte_over_its_limit_is_refused_before_anything_else() {
    let object = Object {
        label: None,
        owner: Some(owner()),
        chunks: (0..640).map(|_| chunk(10, 4, 1000)).collect(),
    };
    let sealed = seal_manifest(&object, &read_key(), &mut entropy()).unwrap();
    let verify = read_key().verify_key();
    let reader = ManifestReader::root(&sealed.root, sealed.id, &verify).unwrap();
    let Contents::Pages(pages) = reader.top() else { panic!("640 chunks need a page") };
    let long = vec![0; limits::PAGE_BYTES_MAX + 1];
    assert_eq!(reader.page(&pages[0], &long), Err(ManifestInvalid::TooLong(1_048_577)));
    assert_eq!(reader.page(&pages[0], &long[1..]), Err(ManifestInvalid::OtherPage));
    assert_eq!((pages[0].chunk_count, pages[0].plaintext_bytes), (640, 640_000));
}

#[test]
fn two_manifests_of_one_object_have_nothing_in_common() {
    let object = Object { label: None, owner: Some(owner()), chunks: vec![chunk(2, 1, 1000)] };
    let mut entropy = entropy();
    let one = seal_manifest(&object, &read_key(), &mut entropy).unwrap();
    let two = seal_manifest(&object, &read_key(), &mut entropy).unwrap();
    assert_ne!(one.id, two.id);
    let same = one.root.iter().zip(&two.root[..]).filter(|(a, b)| a == b).count();
    assert!(same < one.root.len() / 8, "a fresh salt changes every byte");
    // Nothing of a shard's root shows either.
    assert!(!one.root.windows(4).any(|w| w == [1; 4]));
}

#[test]
fn the_length_of_a_name_does_not_show() {
    let lengths = ["a", "a name of some length.tar.gz"].map(|name| {
        let label = Some(Label::new(name).unwrap());
        let object = Object { label, owner: Some(owner()), chunks: vec![chunk(2, 1, 1000)] };
        seal_manifest(&object, &read_key(), &mut entropy()).unwrap().root.len()
    });
    assert_eq!(lengths[0], lengths[1]);
}

proptest! {
    #[test]
    fn shards_hold_the_chunk_and_little_more(sealed in 1u64..300 << 20, k in 1usize..=255) {
        let bytes = shard_bytes(sealed, k);
        prop_assert!(bytes * k as u64 >= sealed, "all of it has a place");
        prop_assert!(bytes * (k as u64) < sealed + 64 * k as u64 + k as u64, "padding is small");
        prop_assert_eq!(bytes % 64, 0);
        // The oracle: stripe by stripe.
        let (mut left, mut sum) = (sealed, 0);
        while left > 0 {
            let stripe = left.min(k as u64 * 16_384);
            sum += match stripe == k as u64 * 16_384 {
                true => 16_384,
                false => stripe.div_ceil(k as u64).div_ceil(64) * 64,
            };
            left -= stripe;
        }
        prop_assert_eq!(bytes, sum);
    }

    #[test]
    fn any_object_reads_back(
        shapes in prop::collection::vec((1u8..20, 0u8..10, 1u64..1 << 24), 1..200),
        name in prop::option::of("[a-z]{1,255}"),
        owned: bool,
    ) {
        let chunks: Vec<_> = shapes.into_iter().map(|(k, m, bytes)| chunk(k, m, bytes)).collect();
        let object = Object {
            label: name.map(|n| Label::cleaned(&n)),
            owner: owned.then(owner),
            chunks,
        };
        let sealed = seal_manifest(&object, &read_key(), &mut entropy()).unwrap();
        let stored: BTreeMap<_, _> =
            sealed.pages.iter().map(|page| (page.hash, page.bytes.clone())).collect();
        let (found, _) = walked(&sealed, &stored, |number, entry| {
            assert_eq!(entry, &object.chunks[number as usize]);
        });
        prop_assert_eq!(found as usize, object.chunks.len());
        let verify = read_key().verify_key();
        let reader = ManifestReader::root(&sealed.root, sealed.id, &verify).unwrap();
        prop_assert_eq!(reader.plaintext_bytes(), object.plaintext_bytes());
        prop_assert_eq!(reader.label(&read_key()).unwrap(), object.label);
        prop_assert_eq!(reader.owner(), object.owner);
    }
}
