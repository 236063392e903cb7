//! Stores of the program before this one, and of other nodes.

use pangea_base::file::FileName;
use pangea_base::{Hash, Locator, UnixTime};

use super::rig::*;
use crate::sim::old::{OldPut, image as old_image};
use crate::sim::{Disk, Image, Survivors};
use crate::*;

/// A store that the program before this one made, with all its files.
macro_rules! old_store {
    ($node:literal) => {
        [
            ("store/format", &include_bytes!(old_file!($node, "format"))[..]),
            ("store/p00/extent-00000000", include_bytes!(old_file!($node, "p00/extent-00000000"))),
            ("store/p01/extent-00000000", include_bytes!(old_file!($node, "p01/extent-00000000"))),
            (
                "store/p00/journal-0000000000000001",
                include_bytes!(old_file!($node, "p00/journal-0000000000000001")),
            ),
            (
                "store/p01/journal-0000000000000001",
                include_bytes!(old_file!($node, "p01/journal-0000000000000001")),
            ),
        ]
    };
}

macro_rules! old_file {
    ($node:literal, $file:literal) => {
        concat!("../../../../tests/data/old/", $node, "/store/", $file)
    };
}

fn real() -> [Image; 2] {
    [old_store!("n1"), old_store!("n2")].map(|files| {
        let owned = |(name, bytes): (&str, &[u8])| (FileName::new(name), bytes.to_vec());
        files.into_iter().map(owned).collect()
    })
}

/// Everything that is held, read back and compared with its hash.
fn read_all(rig: &mut Rig, locators: &[Locator]) -> Vec<(Key, Hash)> {
    let mut all = Vec::new();
    for locator in locators {
        let shards: Vec<_> = rig.store.shards_of(*locator).collect();
        for (shard, info) in shards {
            assert_eq!(Hash::of(&rig.get_of(shard).unwrap()), info.root);
            all.push((Key::Shard(shard), info.root));
        }
        let blobs: Vec<_> = rig.store.blobs_of(*locator).collect();
        for (blob, length) in blobs {
            let (kind, id) = (blob.key.kind, blob.key.id);
            let bytes = match kind {
                BlobKind::Placement => {
                    rig.placement(*locator, 0, Owners::Of(blob.owner)).unwrap().1
                }
                _ => rig.get_blob(kind, *locator, id).unwrap(),
            };
            assert_eq!(bytes.len() as u64, length);
            assert!(kind == BlobKind::Placement || Hash::of(&bytes) == id);
            all.push((Key::Blob(blob), Hash::of(&bytes)));
        }
    }
    all
}

fn locators(rig: &Rig) -> Vec<Locator> {
    let mut all: Vec<Locator> = Vec::new();
    let mut last = None;
    while let Some(found) = rig.store.index.after(last) {
        last = Some(found.cursor);
        if !all.contains(&found.key.locator()) {
            all.push(found.key.locator());
        }
    }
    all
}

fn usual_steps() -> StoreConfig {
    let journal_step_bytes = limits::JOURNAL_STEP_BYTES;
    StoreConfig { journal_step_bytes, ..config(0, 1) }
}

#[test]
fn a_store_of_the_program_before_opens_with_all_that_it_held() {
    for image in real() {
        let mut rig = Rig::open(Disk::with_image(image, 1), usual_steps());
        let found = rig.recovered().clone();
        assert!(found.carried_over && !found.damaged() && found.cut_blocks == 0, "{found:?}");
        assert!(found.shards > 0 && found.blobs > 0 && found.unknown_files == 0, "{found:?}");
        assert!(found.owners.iter().all(|(_, prefix, _)| prefix.0.is_none()));
        assert!(found.newest.0 > 1_700_000_000, "{found:?}");
        let locators = locators(&rig);
        let all = read_all(&mut rig, &locators);
        assert_eq!(all.len() as u64, found.shards + found.blobs);
        rig.put(key(1, 1), &[5; 9000]).unwrap();
        // The next openings find no trace of the version before but the bytes.
        for _ in 0..2 {
            rig = Rig::open(Disk::with_image(rig.close(), 1), usual_steps());
            assert!(!rig.recovered().carried_over && !rig.recovered().damaged());
            assert_eq!(read_all(&mut rig, &locators), all);
            assert_eq!(rig.get(key(1, 1)).unwrap(), [5; 9000]);
        }
        // Whose it was, it is: another owner may now have the same names.
        let (first, _) = rig.store.shards_of(locators[0]).next().unwrap();
        let meta = ShardMeta { owner: owner(200), ..meta(100) };
        rig.put_of(first.key, meta, &[1; 100]).unwrap();
        assert!(rig.get_of(first).is_ok());
    }
}

#[test]
fn a_cut_while_a_store_is_carried_over_loses_nothing() {
    let [image, _] = real();
    let mut rig = Rig::open(Disk::with_image(image.clone(), 1), usual_steps());
    let locators = locators(&rig);
    let all = read_all(&mut rig, &locators);
    let mut rig = Rig::open(Disk::with_image(image, 1), usual_steps());
    rig.put(key(1, 1), &[5; 9000]).unwrap();
    let stored = rig.disk.moment();
    let mut count = 0;
    rig.disk.crash(
        |_, unsynced| match unsynced {
            0 => vec![Survivors::None],
            _ => vec![
                Survivors::None,
                Survivors::All,
                Survivors::Torn { part: 3, unit: 512 },
                Survivors::OldLengths,
                Survivors::Random(7),
            ],
        },
        |moment, survivors, image| {
            count += 1;
            let mut rig = Rig::open(Disk::with_image(image, 1), usual_steps());
            let found = rig.recovered().clone();
            assert!(!found.damaged(), "cut at {moment}, {survivors:?}: {found:?}");
            assert_eq!(read_all(&mut rig, &locators), all, "cut at {moment}, {survivors:?}");
            let held = rig.store.shard(&mine(key(1, 1))).is_some();
            assert!(held || moment < stored);
            rig.put(key(2, 2), &[5; 100]).unwrap();
        },
    );
    assert!(count > 30, "{count} images");
}

#[test]
fn of_a_name_in_format_1_only_the_last_put_counts_whoever_owned_it() {
    let put = |number: u8, chunk: u32, deleted| OldPut {
        key: Key::shard(owner(number), key(1, chunk)),
        until: UnixTime(9 * DAY),
        stored: UnixTime(DAY),
        bytes: bytes_of(u64::from(number), 20_000),
        deleted,
    };
    let puts = [put(1, 1, false), put(2, 1, false), put(3, 2, true), put(4, 3, false)];
    let mut rig = Rig::open(Disk::with_image(old_image(0, &puts, 128 << 10), 1), config(0, 1));
    assert_eq!(rig.recovered().shards, 2);
    let held: Vec<_> = rig.store.shards_of(Locator([1; 32])).map(|(shard, _)| shard).collect();
    assert_eq!(held.iter().map(|shard| shard.owner.0[0]).collect::<Vec<_>>(), [2, 4]);
    for shard in held {
        assert_eq!(rig.get_of(shard).unwrap(), bytes_of(u64::from(shard.owner.0[0]), 20_000));
        let info = rig.store.shard(&shard).unwrap();
        assert_eq!((info.until, info.stored), (UnixTime(9 * DAY), UnixTime(DAY)));
    }
}

#[test]
fn a_store_of_another_node_is_refused_until_it_is_taken_over() {
    let mut rig = Rig::new();
    rig.put(key(1, 1), &[1; 100]).unwrap();
    let image = rig.close();
    let other = StoreConfig { node: owner(55), ..config(0, 1) };
    let rig = Rig::open(Disk::with_image(image.clone(), 1), other.clone());
    let failed = rig.try_recovered().unwrap_err();
    assert_eq!(*failed, OpenFailed::OtherNode { found: NODE });
    assert!(failed.to_string().contains(&NODE.to_string()), "{failed}");
    assert_eq!(rig.killed(), image, "nothing was changed");
    let taking = StoreConfig { adopt: Adopt::TakeOver, ..other.clone() };
    let mut rig = Rig::open(Disk::with_image(image, 1), taking);
    assert_eq!(rig.recovered().taken_over, Some(NODE));
    assert_eq!(rig.get(key(1, 1)).unwrap(), [1; 100]);
    let mut rig = Rig::open(Disk::with_image(rig.close(), 1), other);
    assert_eq!((rig.recovered().taken_over, rig.get(key(1, 1)).unwrap()), (None, vec![1; 100]));
    let image = rig.close();
    let rig = Rig::open(Disk::with_image(image, 1), config(0, 1));
    assert_eq!(rig.try_recovered(), Err(&OpenFailed::OtherNode { found: owner(55) }));
}
