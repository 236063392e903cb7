use std::collections::BTreeMap;

use pangea_base::{Entropy, Hash, Locator, ShardKey};

use super::rig::*;
use crate::sim::{Disk, Image, Survivors};
use crate::*;

/// What was said to be durable, and when.
#[derive(Default)]
struct History {
    // For each key: what was begun and when it was acknowledged, in order.
    puts: BTreeMap<ShardKey, Vec<Version>>,
    blobs: BTreeMap<BlobKey, (Vec<u8>, usize)>,
}

struct Version {
    bytes: Vec<u8>,
    begun: usize,
    stored: Option<usize>,
    delete_begun: Option<usize>,
    deleted: Option<usize>,
}

impl Version {
    /// Must be there after a cut at this moment.
    fn certain(&self, moment: usize) -> bool {
        self.stored.is_some_and(|at| at <= moment)
            && self.delete_begun.is_none_or(|at| moment <= at)
    }

    /// May be there after a cut at this moment.
    fn possible(&self, moment: usize) -> bool {
        self.begun <= moment && self.deleted.is_none_or(|at| moment < at)
    }
}

/// A random workload of `count` operations, with what came of it.
fn workload(seed: u64, count: usize, disk: Disk, first: u32) -> (Rig, History) {
    let mut key_seed = [9; 32];
    key_seed[..8].copy_from_slice(&seed.to_le_bytes());
    let mut random = Entropy::new(key_seed);
    let mut rig = Rig::open(disk, small_config());
    let mut history = History::default();
    let mut open: BTreeMap<WriteId, ShardKey> = BTreeMap::new();
    let mut told = 0;
    for number in 0..count {
        let chunk = first + random.below(12) as u32;
        let name = key(1, chunk);
        let moment = rig.disk.moment();
        match random.below(10) {
            0..=5 => {
                let size = [0, 100, 4096, 16384, 20_000, 70_000][random.below(6) as usize];
                let bytes = bytes_of(seed * 1000 + number as u64, size);
                if let Ok(id) = rig.put_soon(name, &bytes) {
                    open.insert(id, name);
                    history.puts.entry(name).or_default().push(Version {
                        bytes,
                        begun: moment,
                        stored: None,
                        delete_begun: None,
                        deleted: None,
                    });
                }
            }
            6 | 7 => {
                if rig.store.delete(shard_name(name)).is_ok() {
                    let versions = history.puts.get_mut(&name).unwrap();
                    versions.last_mut().unwrap().delete_begun = Some(moment);
                }
            }
            8 => {
                let bytes = bytes_of(number as u64, 9000);
                let id = Hash::of(&bytes);
                let blob = BlobKey { locator: Locator([1; 32]), kind: BlobKind::Placement, id };
                rig.put_blob(blob, &bytes).unwrap();
                history.blobs.insert(blob, (bytes, rig.disk.moment()));
            }
            _ if random.below(4) == 0 => {
                // kill -9: the page cache lives on, and what is in it may still be lost later.
                rig.disk.kill();
                rig = Rig::open(rig.disk, small_config());
                open.clear();
                told = 0;
            }
            _ => rig.settle(),
        }
        for _ in 0..random.below(6) {
            rig.step();
            // What is said is said at this moment.
            told = note(&rig, told, &mut history, &open);
        }
        told = note(&rig, told, &mut history, &open);
    }
    while rig.step() {
        told = note(&rig, told, &mut history, &open);
    }
    note(&rig, told, &mut history, &open);
    (rig, history)
}

fn note(
    rig: &Rig,
    told: usize,
    history: &mut History,
    open: &BTreeMap<WriteId, ShardKey>,
) -> usize {
    let moment = rig.disk.moment();
    for event in &rig.events[told..] {
        match event {
            Event::Stored { id, .. } => {
                let versions = history.puts.get_mut(&open[id]).unwrap();
                versions.last_mut().unwrap().stored = Some(moment);
            }
            Event::Deleted { key: Key::Shard(shard), .. } => {
                let versions = history.puts.get_mut(&shard.key).unwrap();
                versions.last_mut().unwrap().deleted = Some(moment);
            }
            Event::Ready(_) | Event::Appendable { .. } | Event::BlobStored { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    rig.events.len()
}

fn small_config() -> StoreConfig {
    let mut config = config(0, 1);
    config.journal_bytes = 64 << 10;
    config
}

/// Opens what a cut left and compares it with what was said.
fn check(history: &History, moment: usize, survivors: Survivors, image: Image, seed: u64) -> Image {
    let context = format!("seed {seed}, cut at {moment}, {survivors:?}");
    let mut rig = Rig::start(Disk::with_image(image, seed), small_config(), 8);
    rig.settle();
    let found = rig.try_recovered().unwrap_or_else(|e| panic!("{context}: {e}")).clone();
    assert!(!found.damaged(), "{context}: {found:?}");
    for (name, versions) in &history.puts {
        let held = rig.store.shard(&mine(*name)).map(|info| (info.root, info.length));
        let is = |version: &Version| {
            (Hash::of(&version.bytes), version.bytes.len() as u64) == held.unwrap()
        };
        match held {
            Some(_) => {
                let version = versions.iter().find(|v| is(v) && v.possible(moment));
                let version = version.unwrap_or_else(|| panic!("{context}: invented {name:?}"));
                let bytes = rig.get(*name).unwrap_or_else(|e| panic!("{context}: {name:?}: {e}"));
                assert!(bytes == version.bytes, "{context}: wrong bytes of {name:?}");
            }
            None => {
                let lost = versions.iter().any(|version| version.certain(moment));
                assert!(!lost, "{context}: {name:?} is lost");
            }
        }
    }
    let all: usize = rig.store.shards_of(Locator([1; 32])).count();
    assert!(all as u64 == found.shards, "{context}");
    for (blob, (bytes, stored)) in &history.blobs {
        let held = rig.store.blobs_of(blob.locator).any(|(found, _)| found.key == *blob);
        assert!(held || moment < *stored, "{context}: a blob is lost");
        if held {
            let got = rig.get_blob(blob.kind, blob.locator, blob.id).unwrap();
            assert!(got == bytes, "{context}: wrong bytes of a blob");
        }
    }
    rig.settle();
    rig.killed()
}

/// All ways to lose some of `count` unsynced changes that are worth looking at.
fn ways(random: &mut Entropy, count: usize) -> Vec<Survivors> {
    let mut ways = vec![Survivors::None];
    if count == 0 {
        return ways;
    }
    ways.push(Survivors::All);
    for unit in [512, 4096] {
        ways.push(Survivors::Torn { part: random.below(8) as usize, unit });
    }
    if count > 1 {
        ways.push(Survivors::Only(random.below(count as u64) as usize));
        ways.push(Survivors::AllBut(random.below(count as u64) as usize));
        ways.push(Survivors::Only(count - 1));
        ways.extend((0..3).map(|_| Survivors::Random(random.u64())));
    }
    ways
}

fn survives(seed: u64, count: usize) -> usize {
    let (rig, history) = workload(seed, count, Disk::new(seed), 0);
    let mut random = Entropy::new([seed as u8; 32]);
    let mut images = 0;
    rig.disk.crash(
        |_, unsynced| ways(&mut random, unsynced),
        |moment, survivors, image| {
            images += 1;
            check(&history, moment, survivors, image, seed);
        },
    );
    images
}

#[test]
fn acknowledged_shards_survive_a_power_cut_at_any_moment() {
    let images: usize = (1..=8).map(|seed| survives(seed, 60)).sum();
    assert!(images > 3000, "{images} images");
}

#[test]
fn every_single_subset_of_a_few_puts_recovers() {
    // Small enough to try each unsynced change alone and each one missing.
    let (rig, history) = workload(77, 30, Disk::new(77), 0);
    let mut images = 0;
    rig.disk.crash(
        |_, count| {
            let single = (0..count).flat_map(|n| [Survivors::Only(n), Survivors::AllBut(n)]);
            let torn =
                (0..8).flat_map(|part| [512, 4096].map(|unit| Survivors::Torn { part, unit }));
            single.chain(torn).chain([Survivors::None, Survivors::All]).collect()
        },
        |moment, survivors, image| {
            images += 1;
            check(&history, moment, survivors, image, 77);
        },
    );
    assert!(images > 1000, "{images} images");
}

#[test]
fn recovering_twice_equals_recovering_once_also_when_the_first_is_cut() {
    let (rig, history) = workload(5, 50, Disk::new(5), 0);
    let mut random = Entropy::new([5; 32]);
    let mut count = 0;
    rig.disk.crash(
        |moment, unsynced| match moment % 5 == 3 && unsynced > 0 {
            true => vec![Survivors::Random(moment as u64), Survivors::Torn { part: 3, unit: 512 }],
            false => Vec::new(),
        },
        |moment, survivors, image| {
            let whole = check(&history, moment, survivors, image.clone(), 5);
            check(&history, moment, survivors, whole, 6);
            // A recovery with a put behind it, which rotates a cut journal, and is cut itself.
            let mut second = Rig::start(Disk::with_image(image, 5), small_config(), 8);
            second.settle();
            second.put(key(9, 9), &[1; 5000]).unwrap();
            second.disk.crash(
                |_, unsynced| ways(&mut random, unsynced),
                |_, again, image| {
                    count += 1;
                    let context = format!("cut at {moment} {survivors:?}, then {again:?}");
                    check_without_count(&history, moment, image, &context);
                },
            );
        },
    );
    assert!(count > 300, "{count} images of a second cut");
}

/// As `check`, for a store that others were put into.
fn check_without_count(history: &History, moment: usize, image: Image, context: &str) {
    let mut rig = Rig::start(Disk::with_image(image, 1), small_config(), 8);
    rig.settle();
    for (name, versions) in &history.puts {
        if rig.store.shard(&mine(*name)).is_some() {
            let bytes = rig.get(*name).unwrap_or_else(|e| panic!("{context}: {name:?}: {e}"));
            let known = versions.iter().any(|v| v.bytes == bytes && v.possible(moment));
            assert!(known, "{context}: invented {name:?}");
        } else {
            let lost = versions.iter().any(|version| version.certain(moment));
            assert!(!lost, "{context}: {name:?} is lost");
        }
    }
    if rig.store.shard(&mine(key(9, 9))).is_some() {
        assert_eq!(rig.get(key(9, 9)).unwrap(), [1; 5000], "{context}");
    }
}

#[test]
fn a_snapshot_of_many_pages_counts_only_when_it_is_whole() {
    let mut rig = Rig::open(Disk::new(3), small_config());
    let mut history = History::default();
    // Shards without bytes are entries only: two pages of them and more, so two rotations.
    for chunk in 0..1100 {
        let begun = rig.disk.moment();
        rig.put_soon(key(1, chunk), &[]).unwrap();
        if chunk % 100 == 99 {
            rig.settle();
        }
        let version =
            Version { bytes: vec![], begun, stored: None, delete_begun: None, deleted: None };
        history.puts.insert(key(1, chunk), vec![version]);
        if chunk % 100 == 99 {
            let stored = Some(rig.disk.moment());
            history.puts.values_mut().for_each(|all| {
                all[0].stored = all[0].stored.or(stored);
            });
        }
    }
    let mut random = Entropy::new([3; 32]);
    rig.disk.crash(
        |_, unsynced| ways(&mut random, unsynced),
        |moment, survivors, image| {
            check(&history, moment, survivors, image, 3);
        },
    );
}

#[test]
fn a_cut_during_rotation_keeps_everything() {
    // A journal that is replaced every few dozen puts.
    let (rig, history) = workload(31, 400, Disk::new(31), 0);
    let generations = rig.killed();
    assert!(!generations.keys().any(|name| name.as_str().ends_with("journal-0000000000000001")));
    let (rig, _) = workload(31, 400, Disk::new(31), 0);
    let mut random = Entropy::new([31; 32]);
    rig.disk.crash(
        |moment, unsynced| match moment % 9 {
            0 => ways(&mut random, unsynced),
            _ => vec![],
        },
        |moment, survivors, image| {
            check(&history, moment, survivors, image, 31);
        },
    );
}
