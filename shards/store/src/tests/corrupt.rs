use pangea_base::file::FileName;
use pangea_base::{Entropy, Hash, Locator};

use super::rig::*;
use crate::sim::{Disk, Image};
use crate::*;

/// A store with shards, blobs, deletions and several commits, closed or killed.
fn filled(shards: u32) -> (Image, Vec<(u32, Vec<u8>)>) {
    let mut rig = Rig::new();
    let mut held = Vec::new();
    for chunk in 0..shards {
        let bytes = bytes_of(u64::from(chunk), 3000 + 9000 * (chunk as usize % 4));
        rig.put(key(1, chunk), &bytes).unwrap();
        held.push((chunk, bytes));
    }
    let blob = bytes_of(500, 9000);
    let id = Hash::of(&blob);
    let kind = BlobKind::ManifestRoot;
    rig.put_blob(BlobKey { locator: Locator([1; 32]), kind, id }, &blob).unwrap();
    rig.delete(key(1, 1));
    held.retain(|(chunk, _)| *chunk != 1);
    (rig.killed(), held)
}

/// Opens a changed image: everything is as it was, or something is said.
fn detected_or_harmless(image: Image, held: &[(u32, Vec<u8>)], context: &str) -> bool {
    let mut rig = Rig::open(Disk::with_image(image, 1), config(0, 1));
    let Ok(found) = rig.try_recovered().cloned() else { return true };
    let mut said = found.damaged() || found.cut_blocks > 0;
    for (chunk, bytes) in held {
        match rig.store.shard(&mine(key(1, *chunk))) {
            Some(info) => {
                assert_eq!(info.root, Hash::of(bytes), "{context}: a wrong root");
                assert_eq!(info.length, bytes.len() as u64, "{context}: a wrong length");
                assert_eq!((info.prefix, info.until), (HOME, meta(0).until), "{context}");
                match rig.get(key(1, *chunk)) {
                    Ok(got) => {
                        assert!(got == *bytes, "{context}: wrong bytes and a table for them")
                    }
                    Err(_) => said = true,
                }
            }
            None => assert!(said, "{context}: a shard is gone and nothing is said"),
        }
    }
    let others = rig.store.shards_of(Locator([1; 32])).count();
    assert!(others <= held.len() || said, "{context}: a shard is invented");
    let blob = rig.store.blobs_of(Locator([1; 32])).next();
    match blob {
        Some((OwnedBlob { key, .. }, _)) => match rig.get_blob(key.kind, key.locator, key.id) {
            Ok(bytes) => assert_eq!(Hash::of(&bytes), key.id, "{context}: wrong bytes of a blob"),
            Err(_) => said = true,
        },
        None => assert!(said, "{context}: a blob is gone and nothing is said"),
    }
    said
}

#[test]
fn a_flipped_bit_anywhere_is_harmless_or_noticed() {
    let (image, held) = filled(10);
    let mut random = Entropy::new([2; 32]);
    assert!(!detected_or_harmless(image.clone(), &held, "untouched"));
    let mut noticed = 0;
    for (name, bytes) in &image {
        for _ in 0..1200 {
            let bit = random.below(bytes.len() as u64 * 8) as usize;
            let mut bent = image.clone();
            bent.get_mut(name).unwrap()[bit / 8] ^= 1 << (bit % 8);
            noticed += u32::from(detected_or_harmless(bent, &held, &format!("{name:?} bit {bit}")));
        }
    }
    assert!(noticed > 1200, "{noticed} flips were noticed");
}

#[test]
fn every_bit_of_a_commit_counts() {
    let (image, held) = filled(3);
    let journal = journal_of(&image);
    // Block 1 is the first commit, in the middle of the journal.
    for byte in (4096..4096 + 400).chain(8191..8192) {
        for bit in 0..8 {
            let mut bent = image.clone();
            bent.get_mut(&journal).unwrap()[byte] ^= 1 << bit;
            let context = format!("byte {byte} bit {bit}");
            assert!(detected_or_harmless(bent, &held, &context), "{context} is not noticed");
        }
    }
}

fn journal_of(image: &Image) -> FileName {
    image.keys().find(|name| name.as_str().contains("journal")).unwrap().clone()
}

#[test]
fn a_damaged_block_in_the_middle_costs_its_entries_and_they_are_counted() {
    let (mut image, held) = filled(10);
    let journal = journal_of(&image);
    // Commits are blocks 1, 2, 3…: shard n is in block n + 1.
    image.get_mut(&journal).unwrap()[5 * 4096 + 99] ^= 1;
    for run in 0..2 {
        let mut rig = Rig::open(Disk::with_image(image, 1), config(0, 1));
        let found = rig.recovered().clone();
        let (damaged, lost) = if run == 0 { (1, 1) } else { (0, 0) };
        assert_eq!((found.damaged_blocks, found.lost_entries), (damaged, lost));
        assert_eq!((found.cut_blocks, found.shards), (0, held.len() as u64 - 1 + run));
        assert!(rig.store.shard(&mine(key(1, 4))).is_none());
        for (chunk, bytes) in held.iter().filter(|(chunk, _)| *chunk != 4) {
            assert_eq!(rig.get(key(1, *chunk)).unwrap(), *bytes);
        }
        // Writing goes on, in a new journal.
        rig.put(key(2, run as u32), &[1; 100]).unwrap();
        image = rig.close();
        assert_ne!(journal_of(&image), journal);
    }
}

#[test]
fn a_lost_deletion_does_not_hide_what_was_put_in_its_place() {
    let mut rig = Rig::new();
    rig.put(key(1, 0), &[1; 16384]).unwrap();
    rig.put(key(1, 1), &[2; 16384]).unwrap();
    rig.delete(key(1, 0));
    rig.put(key(1, 2), &[3; 16384]).unwrap();
    rig.put(key(1, 3), &[4; 100]).unwrap();
    let mut image = rig.killed();
    let journal = journal_of(&image);
    // Block 3 is the deletion; the third shard lies where the first one was.
    image.get_mut(&journal).unwrap()[3 * 4096 + 200] ^= 1;
    let mut rig = Rig::open(Disk::with_image(image, 1), config(0, 1));
    let found = rig.recovered().clone();
    assert_eq!((found.damaged_blocks, found.stale_shards, found.shards), (1, 1, 3));
    assert!(rig.store.shard(&mine(key(1, 0))).is_none());
    for (chunk, bytes) in [(1, vec![2; 16384]), (2, vec![3; 16384]), (3, vec![4; 100])] {
        assert_eq!(rig.get(key(1, chunk)).unwrap(), bytes);
    }
}

#[test]
fn a_journal_of_which_nothing_holds_is_not_written_on() {
    let (mut image, _) = filled(8);
    let name = journal_of(&image);
    let journal = image.get_mut(&name).unwrap();
    // The first block says that something was before it, and is whole; the others are gone, but
    // for the beginning of the third.
    journal[90] ^= 1;
    let sum = Hash::of(&journal[32..4096]);
    journal[..32].copy_from_slice(&sum.0);
    journal[4096..8192].fill(0);
    journal[2 * 4096 + 200..].fill(0);
    let mut rig = Rig::open(Disk::with_image(image, 1), config(0, 1));
    assert!(rig.recovered().damaged());
    assert_eq!(rig.store.shards_of(Locator([1; 32])).count(), 0);
    let bytes = bytes_of(7, 20_000);
    rig.put(key(2, 0), &bytes).unwrap();
    let mut again = Rig::open(Disk::with_image(rig.killed(), 1), config(0, 1));
    assert!(!again.recovered().damaged(), "a new journal took its place");
    assert_eq!(again.store.shards_of(Locator([1; 32])).count(), 0, "nothing comes back");
    assert_eq!(again.get(key(2, 0)).unwrap(), bytes, "what was acknowledged is there");
}

#[test]
fn garbage_behind_the_end_is_cut_and_counted() {
    let (image, held) = filled(5);
    let journal = journal_of(&image);
    let file = &image[&journal];
    let end = file.chunks(4096).rposition(|block| block.iter().any(|b| *b != 0)).unwrap() + 1;
    let mut random = Entropy::new([3; 32]);
    for blocks in [1, 3] {
        let mut bent = image.clone();
        let file = bent.get_mut(&journal).unwrap();
        random.fill(&mut file[end * 4096..(end + blocks) * 4096]);
        let mut rig = Rig::open(Disk::with_image(bent, 1), config(0, 1));
        let found = rig.recovered().clone();
        assert_eq!((found.cut_blocks, found.damaged()), (blocks as u64, false));
        assert_eq!(found.shards, held.len() as u64);
        rig.put(key(5, 5), &[1; 100]).unwrap();
        let rig = Rig::open(Disk::with_image(rig.close(), 1), config(0, 1));
        assert_eq!(rig.recovered().cut_blocks, 0);
        assert_eq!(rig.recovered().shards, held.len() as u64 + 1);
    }
    // A copy of an older block is garbage too.
    let mut bent = image.clone();
    let file = bent.get_mut(&journal).unwrap();
    file.copy_within(4096..8192, end * 4096);
    let rig = Rig::open(Disk::with_image(bent, 1), config(0, 1));
    assert_eq!((rig.recovered().cut_blocks, rig.recovered().shards), (1, held.len() as u64));
}

#[test]
fn short_and_missing_files_are_reported() {
    let (image, held) = filled(8);
    let extent = image.keys().find(|name| name.as_str().contains("extent")).unwrap().clone();
    let mut gone = image.clone();
    gone.remove(&extent);
    let rig = Rig::open(Disk::with_image(gone, 1), config(0, 1));
    assert!(rig.recovered().lost_shards >= held.len() as u64);
    let mut short = image.clone();
    short.get_mut(&extent).unwrap().truncate(20 * 4096);
    let mut rig = Rig::open(Disk::with_image(short, 1), config(0, 1));
    let lost = rig.recovered().lost_shards;
    assert!(lost > 0 && rig.recovered().shards > 0);
    assert_eq!(rig.get(key(1, 0)).unwrap(), held[0].1);
    let journal = journal_of(&image);
    let mut none = image.clone();
    none.remove(&journal);
    let rig = Rig::open(Disk::with_image(none, 1), config(0, 1));
    let failed = rig.try_recovered().unwrap_err().to_string();
    assert!(failed.contains("store/p00"), "{failed}");
}

#[test]
fn files_that_are_not_ours_are_left_alone() {
    let (mut image, held) = filled(3);
    for name in ["store/p00/readme.txt", "store/p00/journal-1", "store/p00/extent-0"] {
        image.insert(FileName::new(name), vec![7; 100]);
    }
    let rig = Rig::open(Disk::with_image(image, 1), config(0, 1));
    assert_eq!(rig.recovered().unknown_files, 3);
    assert_eq!(rig.recovered().shards, held.len() as u64);
    assert!(rig.close().contains_key(&FileName::new("store/p00/readme.txt")));
}

#[test]
fn another_version_is_refused_in_clear_words() {
    let (mut image, _) = filled(2);
    let format = image.get_mut(&FileName::new("store/format")).unwrap();
    format[40] = 3;
    let sum = Hash::of(&format[32..]);
    format[..32].copy_from_slice(&sum.0);
    let before = image.clone();
    let mut rig = Rig::open(Disk::with_image(image, 1), config(0, 1));
    let failed = rig.try_recovered().unwrap_err();
    assert_eq!(*failed, OpenFailed::OtherVersion { found: 3, reads: 2 });
    let words = failed.to_string();
    assert!(words.contains("format 3") && words.contains("format 2"), "{words}");
    assert_eq!(rig.store.begin(key(1, 1), meta(1)), Err(StoreRefused::NotReady));
    rig.store.shutdown();
    rig.settle();
    assert_eq!(rig.killed(), before, "nothing was changed");
}

#[test]
fn a_damaged_extent_header_stops_writing_there_only() {
    let (mut image, held) = filled(4);
    let extent = image.keys().find(|name| name.as_str().contains("extent")).unwrap().clone();
    let mut fine = Rig::open(Disk::with_image(image.clone(), 1), config(0, 1));
    fine.get(key(1, 0)).unwrap();
    assert!(!fine.events.iter().any(|event| matches!(event, Event::ExtentPoisoned { .. })));
    image.get_mut(&extent).unwrap()[50] ^= 1;
    let mut rig = Rig::open(Disk::with_image(image, 1), config(0, 1));
    for (chunk, bytes) in &held {
        assert_eq!(rig.get(key(1, *chunk)).unwrap(), *bytes);
    }
    assert!(rig.events.iter().any(|event| matches!(event, Event::ExtentPoisoned { .. })));
    rig.put(key(2, 2), &[1; 9999]).unwrap();
    assert_eq!(rig.get(key(2, 2)).unwrap(), [1; 9999]);
}
