//! Directories in which somebody was: cut journals, strange files, disks without space.

use pangea_base::file::{FileName, FileOp, Listed};
use pangea_base::{Entropy, Locator, UnixTime};

use super::rig::*;
use crate::limits::*;
use crate::sim::old::{OldPut, image as old_image};
use crate::sim::{Disk, Image};
use crate::*;

fn name(text: &str) -> FileName {
    FileName::new(text)
}

fn file_with(image: &Image, part: &str) -> FileName {
    image.keys().rfind(|name| name.as_str().contains(part)).expect("there is one").clone()
}

/// Shards over several steps of the journal and several extents, the last of them deleted.
fn filled() -> (Image, u64) {
    let mut config = config(0, 1);
    config.journal_bytes = 64 << 20;
    let mut rig = Rig::open(Disk::new(1), config);
    for chunk in 0..70 {
        rig.put(key(1, chunk), &bytes_of(u64::from(chunk), 20_000)).unwrap();
    }
    for chunk in 0..20 {
        rig.delete(key(1, chunk));
    }
    (rig.killed(), 50)
}

#[test]
fn a_journal_that_was_cut_is_refused_at_every_length() {
    let (image, shards) = filled();
    let journal = file_with(&image, "journal");
    let whole = image[&journal].len();
    assert!(whole > 2 * (128 << 10), "several steps: {whole}");
    let mut random = Entropy::new([8; 32]);
    let some = (0..60).map(|_| random.below(whole as u64) as usize);
    let steps = (0..whole).step_by(64 << 10).flat_map(|at| [at, at + 1, at + 4096]);
    for length in some.chain(steps).chain([5000, whole - 1, whole - 4096]) {
        let mut short = image.clone();
        short.get_mut(&journal).unwrap().truncate(length);
        let before = short.clone();
        let rig = Rig::open(Disk::with_image(short, 1), config(0, 1));
        let failed = rig.try_recovered().expect_err("it was cut");
        let told = matches!(failed, OpenFailed::JournalCut { partition: 0, .. })
            || (length < 4096 && matches!(failed, OpenFailed::JournalLost { partition: 0, .. }));
        assert!(told, "{length}: {failed:?}");
        assert!(failed.to_string().contains("store/p00"), "{failed}");
        assert_eq!(rig.killed(), before, "nothing is changed");
    }
    let rig = Rig::open(Disk::with_image(image, 1), config(0, 1));
    assert_eq!(rig.recovered().shards, shards);
}

#[test]
fn a_journal_of_format_1_that_was_cut_is_refused() {
    let puts: Vec<OldPut> = (0..40)
        .map(|chunk| OldPut {
            key: shard_name(key(1, chunk)),
            until: UnixTime(9 * DAY),
            stored: UnixTime(DAY),
            bytes: vec![chunk as u8; 5000],
            deleted: chunk < 5,
        })
        .collect();
    let image = old_image(0, &puts, 128 << 10);
    let journal = file_with(&image, "journal");
    // Behind the last put there is room for deletions, as its program left it.
    let written = 46 * 4096;
    for length in [4096, 5000, 8192, 100_000, 41 * 4096, written, written + 4096, written + 4097] {
        let mut short = image.clone();
        short.get_mut(&journal).unwrap().truncate(length);
        let rig = Rig::open(Disk::with_image(short, 1), config(0, 1));
        let failed = rig.try_recovered().expect_err("it was cut");
        assert!(
            matches!(failed, OpenFailed::JournalCut { why: Cut::Short { .. }, .. }),
            "{length}"
        );
    }
    // On a full disk deletions come up to the end.
    let mut full = image.clone();
    full.get_mut(&journal).unwrap().truncate(41 * 4096 + JOURNAL_KEPT_BYTES as usize);
    for image in [image, full] {
        let rig = Rig::open(Disk::with_image(image, 1), config(0, 1));
        assert_eq!(rig.recovered().shards, 35);
    }
}

#[test]
fn an_extent_that_was_made_later_than_its_journal_knows_is_told() {
    let mut rig = Rig::new();
    rig.put(key(1, 0), &[1; 5000]).unwrap();
    let old = rig.disk.image();
    let journal = file_with(&old, "journal");
    rig.put(key(1, 2), &[2; 5000]).unwrap();
    rig.put(key(1, 1), &bytes_of(1, 300_000)).unwrap();
    let mut image = rig.killed();
    // The journal of before the last two puts; the last one's extent is there.
    image.insert(journal.clone(), old[&journal].clone());
    let extent = file_with(&image, "extent");
    let rig = Rig::open(Disk::with_image(image.clone(), 1), config(0, 1));
    let failed = rig.try_recovered().unwrap_err();
    assert_eq!(*failed, OpenFailed::JournalCut { partition: 0, why: Cut::Extent { extent: 1 } });
    assert_eq!(rig.killed(), image);
    // Without a journal, too.
    image.remove(&journal);
    let rig = Rig::open(Disk::with_image(image.clone(), 1), config(0, 1));
    assert!(matches!(
        rig.try_recovered(),
        Err(OpenFailed::JournalLost { partition: 0, extents: 2 })
    ));
    // A file that only bears an extent's name is not what a journal was lost of.
    image.retain(|name, _| !name.as_str().contains("extent-00000000"));
    image.insert(extent, vec![9; 50_000]);
    let rig = Rig::open(Disk::with_image(image, 1), config(0, 1));
    assert_eq!((rig.recovered().shards, rig.recovered().unknown_files), (0, 1));
}

#[test]
fn strange_files_with_our_names_stay_and_their_numbers_are_not_used() {
    let mut rig = Rig::new();
    rig.put(key(1, 0), &bytes_of(0, 200_000)).unwrap();
    let mut image = rig.close();
    let strange = [
        ("store/p00/extent-ffffffff", vec![]),
        ("store/p00/extent-00ffffff", vec![1; 100]),
        ("store/p00/extent-00000001", vec![2; 300_000]),
        ("store/p00/extent-00000003", vec![3; 5]),
        ("store/p00/journal-ffffffffffffffff", vec![4; 5000]),
        ("store/p00/journal-0001000000000000", vec![5; 5000]),
        ("store/p00/journal-0000000000000002", vec![6; 5000]),
        ("store/p00/journal-0000000000000000", vec![7; 5000]),
        ("store/p77", vec![8; 10]),
        ("store/notes", vec![9; 10]),
    ];
    for (file, bytes) in &strange {
        image.insert(name(file), bytes.clone());
    }
    let mut disk = Disk::with_image(image, 1);
    disk.add_strange(name("store/p00/extent-00000002"), Listed::Directory);
    disk.add_strange(name("store/p00/extent-00000004"), Listed::Other);
    disk.add_strange(name("store/p00/journal-0000000000000003"), Listed::Other);
    disk.add_strange(name("store/clock"), Listed::Other);
    let mut rig = Rig::open(disk, config(0, 1));
    assert_eq!(rig.recovered().unknown_files, strange.len() as u64 + 4);
    assert_eq!((rig.recovered().shards, rig.recovered().damaged()), (1, false));
    rig.store.believe(UnixTime(7));
    for chunk in 1..80 {
        rig.put(key(1, chunk), &bytes_of(u64::from(chunk), 120_000)).unwrap();
    }
    for chunk in 0..80 {
        assert!(rig.get(key(1, chunk)).is_ok());
    }
    let image = rig.close();
    for (file, bytes) in &strange {
        assert!(image[&name(file)] == *bytes, "{file} is as it was");
    }
    let rig = Rig::open(Disk::with_image(image, 1), config(0, 1));
    assert_eq!(rig.recovered().shards, 80);
}

#[test]
fn a_partition_or_version_file_that_is_a_link_is_told() {
    for (file, listed) in [
        ("store/format", Listed::Other),
        ("store/format", Listed::Directory),
        ("store/p05", Listed::Other),
        ("store/format-p00", Listed::Other),
    ] {
        let mut disk = Disk::new(1);
        disk.add_strange(name(file), listed);
        let rig = Rig::open(disk, config(0, 1));
        let failed = rig.try_recovered().unwrap_err().to_string();
        assert!(failed.contains(file), "{failed}");
        assert!(rig.killed().is_empty());
    }
    // A file in the place of a partition: another one is used.
    let image = Image::from([(name("store/p00"), vec![1; 10])]);
    let mut rig = Rig::open(Disk::with_image(image, 1), config(0, 2));
    rig.put(key(1, 1), &[1; 100]).unwrap();
    assert!(rig.close().keys().any(|name| name.as_str().starts_with("store/p02/extent")));
    let image = Image::from([(name("store/p127"), vec![1; 10])]);
    let rig = Rig::open(Disk::with_image(image, 1), config(127, 128));
    assert!(rig.try_recovered().is_err(), "that core has no other");
}

/// A name that is ours, or nearly.
fn drawn_name(random: &mut Entropy) -> FileName {
    let number = match random.below(4) {
        0 => random.below(6),
        1 => (1 << 24) - random.below(3),
        2 => u64::from(u32::MAX) - random.below(2),
        _ => random.u64() >> random.below(64),
    };
    let partition = [0, 1, 2, 127, 128][random.below(5) as usize];
    name(&match random.below(9) {
        0..=2 => format!("store/p{partition:02}/extent-{:08x}", number as u32),
        3..=5 => format!("store/p{partition:02}/journal-{number:016x}"),
        6 => format!("store/p{partition:02}/{number:x}"),
        7 => format!("store/p{number}"),
        _ => ["store/clock", "store/format-p00", "store/other", "store/format-p9"]
            [random.below(4) as usize]
            .to_owned(),
    })
}

fn drawn_bytes(random: &mut Entropy, image: &Image) -> Vec<u8> {
    let length = [0, 1, 100, 511, 512, 4095, 4096, 5000, 70_000, 300_000];
    let length = length[random.below(10) as usize];
    match random.below(4) {
        0 => vec![0; length],
        1 => {
            // Something of ours in a place that is not its own.
            let donor = image.values().nth(random.below(image.len() as u64 + 1) as usize);
            let mut bytes = donor.cloned().unwrap_or_default();
            bytes.truncate(length);
            bytes
        }
        _ => bytes_of(random.u64(), length),
    }
}

/// One directory of random names, kinds and sizes beside what is ours, opened and then filled.
fn strange_directory(seed: u64) {
    let mut random = Entropy::new([seed as u8; 32]);
    let base = match random.below(3) {
        0 => Image::new(),
        1 => filled().0,
        _ => {
            let put = |chunk: u32| OldPut {
                key: shard_name(key(1, chunk)),
                until: UnixTime(9 * DAY),
                stored: UnixTime(DAY),
                bytes: bytes_of(u64::from(chunk), 20_000),
                deleted: false,
            };
            old_image(0, &(20..70).map(put).collect::<Vec<_>>(), 128 << 10)
        }
    };
    let held: u64 = if base.is_empty() { 0 } else { 50 };
    let mut image = base.clone();
    let mut kinds = Vec::new();
    for _ in 0..random.below(12) {
        let file = drawn_name(&mut random);
        let below = |name: &FileName| name.as_str().starts_with(&format!("{}/", file.as_str()));
        let above = |name: &FileName| file.as_str().starts_with(&format!("{}/", name.as_str()));
        if base.contains_key(&file) || image.keys().any(|name| below(name) || above(name)) {
            continue;
        }
        let nested = kinds.iter().any(|(name, _): &(FileName, Listed)| above(name) || below(name));
        match random.below(4) {
            _ if nested => {}
            0 if !image.contains_key(&file) => {
                let listed = [Listed::Directory, Listed::Other][random.below(2) as usize];
                kinds.push((file, listed));
            }
            _ if !kinds.iter().any(|(name, _)| *name == file) => {
                let bytes = drawn_bytes(&mut random, &base);
                image.insert(file, bytes);
            }
            _ => {}
        }
    }
    let mut disk = Disk::with_image(image.clone(), seed);
    kinds.iter().for_each(|(name, listed)| disk.add_strange(name.clone(), *listed));
    let mut rig = Rig::open(disk, config(0, 1));
    let found = match rig.try_recovered() {
        Ok(found) => found.clone(),
        Err(failed) => {
            let words = failed.to_string();
            assert!(words.contains("store"), "seed {seed}: {words}");
            return;
        }
    };
    assert!(found.shards >= held, "seed {seed}: {found:?}");
    for chunk in 100..130 {
        rig.put(key(1, chunk), &bytes_of(u64::from(chunk), 60_000)).unwrap();
    }
    rig.store.believe(UnixTime(DAY));
    for chunk in (100..130).chain(if held > 0 { 20..70 } else { 0..0 }) {
        assert!(rig.get(key(1, chunk)).is_ok(), "seed {seed}: chunk {chunk}");
    }
    for (name, listed) in &kinds {
        let there = rig.disk.files().any(|(file, _)| file == name);
        assert!(!there, "seed {seed}: {name:?}, a {listed:?}, was written over");
    }
    let shards = rig.store.shards_of(Locator([1; 32])).count();
    let image = rig.close();
    let mut disk = Disk::with_image(image, seed);
    kinds.into_iter().for_each(|(name, listed)| disk.add_strange(name, listed));
    let rig = Rig::open(disk, config(0, 1));
    assert_eq!(rig.store.shards_of(Locator([1; 32])).count(), shards, "seed {seed}");
}

#[test]
fn directories_of_random_names_kinds_and_sizes_open_and_fill_or_are_refused_in_words() {
    (0..150).for_each(strange_directory);
}

#[test]
fn extents_are_smaller_on_a_disk_with_less_space_and_full_is_what_is_full() {
    let mut config = config(0, 1);
    config.extent_bytes = 16 << 20;
    let mut rig = Rig::open(Disk::new(1), config.clone());
    // Room for a format file, a journal and its successor, and for not one extent as planned.
    rig.disk.set_capacity(3 << 20);
    let mut held = 0u32;
    while rig.put(key(1, held), &bytes_of(u64::from(held), 60_000)).is_ok() {
        held += 1;
        assert!(held < 60, "3 MiB hold less");
    }
    assert!(held >= 38, "{held} shards of 64 KiB in 3 MiB without two journals");
    assert!(!rig.events.iter().any(|event| matches!(event, Event::Poisoned { .. })));
    for chunk in 0..held {
        assert_eq!(rig.get(key(1, chunk)).unwrap(), bytes_of(u64::from(chunk), 60_000));
    }
    rig.delete(key(1, 3));
    rig.put(key(1, 3), &bytes_of(3, 60_000)).unwrap();
    // With space again, extents have their usual size.
    rig.disk.set_capacity(100 << 20);
    rig.store.expire(Clock::Doubted(UnixTime(0)));
    rig.put(key(2, 0), &bytes_of(9, 200_000)).unwrap();
    let image = rig.close();
    assert!(image.values().any(|bytes| bytes.len() == 16 << 20));
    let rig = Rig::open(Disk::with_image(image, 1), config);
    assert_eq!(rig.recovered().shards, u64::from(held) + 1);
}

#[test]
fn a_shard_finds_its_place_in_pieces_when_no_new_extent_can_be_had() {
    let mut rig = Rig::new();
    for chunk in 0..24 {
        rig.put(key(1, chunk), &bytes_of(1, 65_536)).unwrap();
    }
    for chunk in (0..24).step_by(2) {
        rig.delete(key(1, chunk));
    }
    rig.disk.set_fault(|_, op| {
        use pangea_base::file::FileFault;
        let extent = matches!(op, FileOp::Open { name, mode: pangea_base::file::OpenMode::DirectCreate }
            if name.as_str().contains("extent"));
        extent.then_some(FileFault::NoSpace)
    });
    let bytes = bytes_of(2, 200_000);
    // The first one learns that there is no space; the next one lies in the holes.
    assert_eq!(rig.put(key(2, 0), &bytes), Err(StoreFault::NoSpace));
    rig.put(key(2, 1), &bytes).unwrap();
    assert_eq!(rig.get(key(2, 1)).unwrap(), bytes);
    let mut rig = Rig::open(Disk::with_image(rig.killed(), 1), config(0, 1));
    assert_eq!(rig.get(key(2, 1)).unwrap(), bytes);
}

#[test]
fn no_length_is_refused_for_its_pieces() {
    let mut rig = Rig::new();
    for size in [1, 4096, 262_144, 3_000_000, (RUNS_MAX + 9) * PAGE_BYTES as usize * 2] {
        let id = rig.store.begin(key(1, size as u32), meta(size)).unwrap();
        rig.store.abort(id);
    }
    let id = rig.store.begin(key(1, 0), meta(SHARD_BYTES_MAX as usize)).unwrap();
    rig.store.abort(id);
    rig.settle();
    assert_eq!(rig.store.used_bytes(), 0);
}
