use bytes::Bytes;
use pangea_base::{CoreId, Hash, Locator, UnixTime};

use super::rig::*;
use crate::limits::*;
use crate::sim::Disk;
use crate::*;

#[test]
fn what_is_stored_is_read_back_at_every_size_also_after_reopening() {
    let sizes = [0, 1, 4095, 4096, 16384, 16385, 65536, 65537, 100_000, 300_000, 1_700_000];
    let mut rig = Rig::new();
    for (chunk, size) in (0..).zip(sizes) {
        rig.put(key(1, chunk), &bytes_of(size as u64, size)).unwrap();
    }
    let image = rig.close();
    let mut rig = Rig::open(Disk::with_image(image, 2), config(0, 1));
    let found = rig.recovered().clone();
    assert_eq!(found.shards, sizes.len() as u64);
    assert_eq!((found.cut_blocks, found.damaged()), (0, false));
    for (chunk, size) in (0..).zip(sizes) {
        let info = rig.store.shard(&mine(key(1, chunk))).unwrap();
        assert_eq!(info.until, meta(0).until);
        assert_eq!(info.code, meta(0).code);
        assert_eq!(rig.get(key(1, chunk)).unwrap(), bytes_of(size as u64, size), "{size}");
    }
    assert_eq!(rig.store.shards_of(Locator([1; 32])).count(), sizes.len());
    rig.close();
}

#[test]
fn a_store_that_holds_nothing_is_one_small_file() {
    let rig = Rig::new();
    assert_eq!(rig.recovered(), &Recovered::default());
    let image = rig.close();
    let names: Vec<&str> = image.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["store/format"]);
}

#[test]
fn blobs_are_kept_by_kind_and_found_by_their_hash() {
    let mut rig = Rig::new();
    let locator = Locator([9; 32]);
    let blob = |kind, number: u64, size| {
        let bytes = bytes_of(number, size);
        (BlobKey { locator, kind, id: Hash::of(&bytes) }, bytes)
    };
    let root = blob(BlobKind::ManifestRoot, 1, 60_000);
    let page = blob(BlobKind::ManifestPage, 2, BLOB_BYTES_MAX as usize);
    for (key, bytes) in [&root, &page] {
        rig.put_blob(*key, bytes).unwrap();
    }
    // Again: stored at once.
    rig.put_blob(root.0, &root.1).unwrap();
    let other = Bytes::from_static(b"other bytes");
    let refused = rig.store.put_blob(root.0, owner(2), HOME, other, 0);
    assert!(matches!(refused, Err(StoreRefused::AlreadyHeld { length: 60_000, .. })));
    let image = rig.close();
    let mut rig = Rig::open(Disk::with_image(image, 1), config(0, 1));
    assert_eq!(rig.recovered().blobs, 2);
    assert_eq!(rig.get_blob(BlobKind::ManifestRoot, locator, root.0.id).unwrap(), root.1);
    assert_eq!(rig.get_blob(BlobKind::ManifestPage, locator, page.0.id).unwrap(), page.1);
    let none = rig.store.blob(BlobKind::ManifestRoot, Locator([8; 32]), root.0.id, 1);
    assert_eq!(none, Err(ReadRefused::NotHeld));
    rig.store.delete(blob_name(page.0)).unwrap();
    rig.settle();
    let none = rig.store.blob(BlobKind::ManifestPage, locator, page.0.id, 1);
    assert_eq!(none, Err(ReadRefused::NotHeld));
    assert_eq!(rig.store.blobs_of(locator).count(), 1);
}

#[test]
fn many_small_shards_share_their_syncs() {
    let mut rig = Rig::open(Disk::new(1), config(0, 1));
    rig.put(key(0, 0), &[1; 16384]).unwrap();
    let before = rig.disk.operations();
    for chunk in 1..=50 {
        rig.put_soon(key(1, chunk), &bytes_of(7, 16384)).unwrap();
    }
    rig.settle();
    assert_eq!(rig.stored.len(), 51);
    // 50 writes of data; extents to make; and far fewer syncs and journal writes than shards.
    let others = rig.disk.operations() - before - 50;
    assert!(others < 50, "{others} operations besides the data");
}

#[test]
fn deleting_gives_the_space_back() {
    let mut rig = Rig::new();
    for chunk in 0..20 {
        rig.put(key(1, chunk), &bytes_of(1, 100_000)).unwrap();
    }
    let full = rig.disk.bytes_taken();
    assert_eq!(rig.store.owner_bytes(&owner(1)), 20 * 26 * 4096);
    assert_eq!(rig.store.used_bytes(), 20 * 26 * 4096);
    // Every other one: holes are punched.
    for chunk in (0..20).step_by(2) {
        rig.delete(key(1, chunk));
    }
    assert_eq!(rig.store.used_bytes(), 10 * 26 * 4096);
    assert!(rig.disk.bytes_taken() <= full - 10 * 25 * 4096);
    for chunk in (1..20).step_by(2) {
        assert_eq!(rig.get(key(1, chunk)).unwrap(), bytes_of(1, 100_000));
        rig.delete(key(1, chunk));
    }
    assert_eq!(rig.store.used_bytes(), 0);
    assert_eq!(rig.store.owner_bytes(&owner(1)), 0);
    let deleted = rig.events.iter().filter(|event| matches!(event, Event::Deleted { .. }));
    assert_eq!(deleted.count(), 20);
    assert_eq!(rig.store.delete(shard_name(key(1, 1))), Err(DeleteRefused::NotHeld));
    let image = rig.close();
    assert!(image.keys().all(|name| !name.as_str().contains("extent")), "empty extents go");
}

#[test]
fn a_read_under_way_keeps_its_blocks_from_being_used_again() {
    let mut rig = Rig::new();
    let bytes = bytes_of(1, 60_000);
    rig.put(key(1, 1), &bytes).unwrap();
    rig.put(key(1, 9), &bytes).unwrap();
    rig.store.read(&mine(key(1, 1)), 0, 77).unwrap();
    // The read is held back by not draining it to the disk.
    let mut held = Vec::new();
    while let Some(output) = rig.store.poll() {
        held.push(output);
    }
    rig.store.delete(shard_name(key(1, 1))).unwrap();
    rig.settle();
    let used = rig.store.used_bytes();
    assert_eq!(used, 2 * 16 * 4096, "the blocks are still set aside");
    for output in held {
        let Output::File(request) = output else { panic!("an event: {output:?}") };
        rig.disk.submit(request);
    }
    rig.settle();
    let read = rig.events.iter().find_map(|event| match event {
        Event::Read { token: 77, page } => Some(page.to_vec()),
        _ => None,
    });
    assert_eq!(read, Some(bytes));
    assert_eq!(rig.store.used_bytes(), used / 2);
}

#[test]
fn a_hole_is_never_made_in_what_was_put_in_its_place() {
    for seed in 0..40 {
        let mut rig = Rig::open(Disk::new(seed), config(0, 1));
        rig.put(key(1, 1), &bytes_of(1, 30_000)).unwrap();
        rig.put(key(1, 2), &bytes_of(2, 30_000)).unwrap();
        rig.store.delete(shard_name(key(1, 1))).unwrap();
        while !rig.events.iter().any(|event| matches!(event, Event::Deleted { .. })) {
            assert!(rig.step());
        }
        // The hole may be under way still: the driver does its work in any order.
        rig.put(key(1, 3), &bytes_of(3, 30_000)).unwrap();
        assert!(rig.get(key(1, 3)).unwrap() == bytes_of(3, 30_000), "seed {seed}");
    }
}

#[test]
fn cores_may_change_from_run_to_run() {
    let mut disk = Disk::new(1);
    let mut all: Vec<(u32, u64)> = Vec::new();
    let mut next = 0;
    for cores in [1u8, 2, 3, 16, 20, 128, 2, 1] {
        let mut seen = 0;
        for core in 0..cores {
            let mut rig = Rig::open(disk, config(core, cores));
            assert!(!rig.recovered().damaged());
            seen += rig.recovered().shards;
            for (chunk, seed) in &all {
                if rig.store.shard(&mine(key(1, *chunk))).is_some() {
                    assert_eq!(rig.get(key(1, *chunk)).unwrap(), bytes_of(*seed, 30_000));
                }
            }
            rig.put(key(1, next), &bytes_of(u64::from(next), 30_000)).unwrap();
            disk = Disk::with_image(rig.close(), u64::from(next));
            all.push((next, u64::from(next)));
            seen += 1;
            next += 1;
        }
        assert_eq!(seen, all.len() as u64, "with {cores} cores all are there");
    }
}

#[test]
fn of_a_shard_in_two_partitions_the_longer_lease_is_kept() {
    let lease = |days| ShardMeta { until: UnixTime(days * DAY), ..meta(5000) };
    let mut disk = Disk::new(1);
    for (core, days) in [(0, 10), (1, 20)] {
        let mut rig = Rig::open(disk, config(core, 2));
        rig.put_with(key(1, 1), lease(days), &[core; 5000]).unwrap();
        rig.put_with(key(1, 2), lease(30 - days), &[core; 5000]).unwrap();
        rig.settle();
        disk = Disk::with_image(rig.close(), 1);
    }
    for run in 0..2 {
        let mut rig = Rig::open(disk, config(0, 1));
        assert_eq!(rig.recovered().duplicates, if run == 0 { 2 } else { 0 });
        assert_eq!(rig.recovered().shards, 2);
        assert_eq!(rig.get(key(1, 1)).unwrap(), [1; 5000]);
        assert_eq!(rig.get(key(1, 2)).unwrap(), [0; 5000]);
        rig.settle();
        assert_eq!(rig.store.used_bytes(), 2 * 2 * 4096);
        disk = Disk::with_image(rig.close(), 1);
    }
}

#[test]
fn the_journal_is_replaced_under_load_and_stays_small() {
    let mut rig = Rig::open(Disk::new(3), config(0, 1));
    for round in 0..40u32 {
        for chunk in 0..60 {
            if round > 0 {
                rig.store.delete(shard_name(key(1, (round - 1) * 60 + chunk))).unwrap();
            }
            rig.put_soon(key(1, round * 60 + chunk), &bytes_of(u64::from(chunk), 4000)).unwrap();
            rig.step();
        }
        rig.settle();
    }
    for chunk in 0..60 {
        let bytes = rig.get(key(1, 39 * 60 + chunk)).unwrap();
        assert_eq!(bytes, bytes_of(u64::from(chunk), 4000));
    }
    let image = rig.killed();
    let journals: Vec<(&str, usize)> = image
        .iter()
        .filter(|(name, _)| name.as_str().contains("journal"))
        .map(|(name, bytes)| (name.as_str(), bytes.len()))
        .collect();
    assert_eq!(journals.len(), 1, "{journals:?}");
    assert!(!journals[0].0.ends_with("0001"), "{journals:?}");
    assert!(journals[0].1 <= 512 << 10, "{journals:?}");
    let rig = Rig::open(Disk::with_image(image, 1), config(0, 1));
    assert_eq!(rig.recovered().shards, 60);
}

#[test]
fn a_shard_longer_than_a_usual_extent_has_a_longer_one() {
    let mut rig = Rig::new();
    let bytes = bytes_of(5, 3_000_000);
    rig.put(key(1, 1), &bytes).unwrap();
    assert_eq!(rig.get(key(1, 1)).unwrap(), bytes);
    let image = rig.close();
    let extents: Vec<usize> = image
        .iter()
        .filter(|(name, _)| name.as_str().contains("extent"))
        .map(|(_, bytes)| bytes.len())
        .collect();
    // Header, data and table in whole pages.
    assert_eq!(extents, [(1 + 733 + 2u32).next_multiple_of(PAGE_BLOCKS) as usize * 4096]);
    let mut rig = Rig::open(Disk::with_image(image, 1), config(0, 1));
    assert_eq!(rig.get(key(1, 1)).unwrap(), bytes);
    rig.delete(key(1, 1));
    assert_eq!(rig.store.used_bytes(), 0);
}

#[test]
fn writers_that_hold_all_pages_do_not_wait_for_each_other_for_ever() {
    let mut rig = Rig::start(Disk::new(1), config(0, 1), 4);
    rig.settle();
    let ids: Vec<WriteId> =
        (0..40).map(|chunk| rig.store.begin(key(1, chunk), meta(200_000)).unwrap()).collect();
    let bytes = bytes_of(3, 200_000);
    let mut sent = vec![0; ids.len()];
    let mut waiting = Vec::new();
    while sent.iter().any(|sent| *sent < bytes.len()) {
        let mut moved = false;
        for (number, id) in ids.iter().enumerate() {
            let group = &bytes[sent[number]..bytes.len().min(sent[number] + 16384)];
            if group.is_empty() {
                continue;
            }
            match rig.store.append(*id, group) {
                Ok(()) => {
                    sent[number] += group.len();
                    moved = true;
                    if sent[number] == bytes.len() {
                        rig.store.commit(*id);
                    }
                }
                Err(AppendRefused::NoPage) => waiting.push(*id),
                Err(refused) => panic!("{refused}"),
            }
        }
        assert!(rig.step() || moved, "stuck");
    }
    rig.settle();
    assert_eq!(rig.stored.len(), 40);
    let told = rig
        .events
        .iter()
        .any(|event| matches!(event, Event::Appendable { id } if waiting.contains(id)));
    assert!(told, "those who wait are told");
    assert_eq!(rig.get(key(1, 39)).unwrap(), bytes);
}

#[test]
fn aborted_and_refused_writes_leave_nothing() {
    let mut rig = Rig::new();
    let id = rig.store.begin(key(1, 1), meta(100_000)).unwrap();
    rig.store.append(id, &[7; 16384]).unwrap();
    assert_eq!(rig.store.begin(key(1, 1), meta(1)), Err(StoreRefused::BeingWritten));
    rig.store.abort(id);
    assert_eq!(rig.store.append(id, &[7; 16384]), Err(AppendRefused::NotOpen));
    rig.settle();
    assert_eq!(rig.store.used_bytes(), 0);
    let id = rig.store.begin(key(1, 1), meta(20_000)).unwrap();
    assert_eq!(rig.store.append(id, &[]), Err(AppendRefused::NotAGroup));
    assert_eq!(rig.store.append(id, &[7; 16385]), Err(AppendRefused::NotAGroup));
    rig.store.append(id, &[7; 16384]).unwrap();
    let long = rig.store.append(id, &[7; 4000]);
    assert_eq!(long, Err(AppendRefused::TooLong { length_max: 20_000 }));
    rig.store.append(id, &[7; 16]).unwrap();
    assert_eq!(rig.store.append(id, &[7; 16]), Err(AppendRefused::NotAGroup));
    rig.store.commit(id);
    rig.store.commit(id);
    rig.settle();
    let root = Hash::of(&[7; 16400]);
    assert_eq!(rig.stored[&id], (root, 16400));
    let again = rig.store.begin(key(1, 1), meta(1));
    assert_eq!(
        again,
        Err(StoreRefused::AlreadyHeld {
            root,
            length: 16400,
            stored: UnixTime(0),
            until: meta(0).until
        })
    );
    assert_eq!(rig.store.read(&mine(key(1, 1)), 4096, 1), Err(ReadRefused::BadOffset));
    assert_eq!(rig.store.read(&mine(key(1, 1)), 65536, 1), Err(ReadRefused::BadOffset));
    assert_eq!(rig.store.read(&mine(key(1, 2)), 0, 1), Err(ReadRefused::NotHeld));
    rig.store.delete(shard_name(key(1, 1))).unwrap();
    assert_eq!(rig.store.begin(key(1, 1), meta(1)), Err(StoreRefused::BeingDeleted));
    rig.settle();
    rig.put(key(1, 1), &[1; 10]).unwrap();
    rig.close();
}

#[test]
fn one_past_each_limit_is_refused() {
    let mut rig = Rig::open(Disk::new(1), config(0, 1));
    let long = meta(SHARD_BYTES_MAX as usize + 1);
    let refused = rig.store.begin(key(2, 0), long);
    assert_eq!(refused, Err(StoreRefused::TooLong { limit: SHARD_BYTES_MAX }));
    let id = rig.store.begin(key(2, 0), meta(SHARD_BYTES_MAX as usize)).unwrap();
    rig.store.abort(id);
    assert_eq!(rig.store.used_bytes(), 0);
    for chunk in 0..WRITES_MAX as u32 {
        rig.store.begin(key(1, chunk), meta(100)).unwrap();
    }
    let refused = rig.store.begin(key(2, 0), meta(1));
    assert_eq!(refused, Err(StoreRefused::TooManyWrites { limit: WRITES_MAX }));
    let blob = |number: u32| BlobKey {
        locator: Locator([4; 32]),
        kind: BlobKind::ManifestPage,
        id: Hash::of(&number.to_le_bytes()),
    };
    let too_long = vec![0; BLOB_BYTES_MAX as usize + 1];
    let refused = rig.store.put_blob(blob(0), owner(1), HOME, too_long.into(), 0);
    assert_eq!(refused, Err(StoreRefused::TooLong { limit: BLOB_BYTES_MAX }));
    for number in 0..BLOB_WRITES_MAX as u32 {
        rig.store.put_blob(blob(number), owner(1), HOME, vec![1; 9].into(), 0).unwrap();
    }
    let refused = rig.store.put_blob(blob(999), owner(1), HOME, vec![1; 9].into(), 0);
    assert_eq!(refused, Err(StoreRefused::TooManyWrites { limit: BLOB_WRITES_MAX }));
    rig.settle();
    for number in 0..READS_MAX as u64 {
        let id = blob(3).id;
        rig.store.blob(BlobKind::ManifestPage, Locator([4; 32]), id, number).unwrap();
    }
    let refused = rig.store.blob(BlobKind::ManifestPage, Locator([4; 32]), blob(3).id, 0);
    assert_eq!(refused, Err(ReadRefused::TooManyReads { limit: READS_MAX }));
    // Never more operations with the driver than were promised.
    let mut given = 0;
    while let Some(output) = rig.store.poll() {
        given += usize::from(matches!(output, Output::File(_)));
    }
    assert_eq!(given, FILE_OPS_MAX);
}

#[test]
fn the_index_has_its_limits_also_when_opened() {
    let limited = |shards_max| StoreConfig { shards_max, blobs_max: 1, ..config(0, 1) };
    let mut rig = Rig::open(Disk::new(1), limited(3));
    for chunk in 0..3 {
        rig.put(key(1, chunk), &[1; 10]).unwrap();
    }
    let refused = rig.store.begin(key(1, 3), meta(1));
    assert_eq!(refused, Err(StoreRefused::TooManyHeld { limit: 3 }));
    let blob =
        |id| BlobKey { locator: Locator([4; 32]), kind: BlobKind::Placement, id: Hash([id; 32]) };
    rig.put_blob(blob(1), &[1; 10]).unwrap();
    let refused = rig.store.put_blob(blob(2), owner(1), HOME, vec![1].into(), 0);
    assert_eq!(refused, Err(StoreRefused::TooManyHeld { limit: 1 }));
    let image = rig.close();
    let rig = Rig::open(Disk::with_image(image.clone(), 1), limited(2));
    assert_eq!(rig.try_recovered(), Err(&OpenFailed::TooMany { limit: 2 }));
    let rig = Rig::open(Disk::with_image(image, 1), limited(3));
    assert_eq!(rig.recovered().shards, 3);
}

#[test]
fn one_write_takes_no_more_pages_than_its_share() {
    let mut rig = Rig::new();
    let id = rig.store.begin(key(1, 1), meta(1 << 20)).unwrap();
    let mut taken = 0;
    while rig.store.append(id, &[1; 16384]).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, usize::from(PAGES_PER_WRITE_MAX) * 4);
    assert!(!rig.store.can_append(id));
    rig.settle();
    assert!(rig.store.can_append(id));
    assert!(rig.events.iter().any(|event| matches!(event, Event::Appendable { .. })));
}

#[test]
fn too_many_deletions_at_once_are_refused() {
    let mut config = config(0, 1);
    config.extent_bytes = EXTENT_USUAL_BYTES_MAX;
    config.journal_bytes = 64 << 20;
    let mut rig = Rig::open(Disk::new(1), config);
    for chunk in 0..=DELETES_MAX as u32 {
        // Empty shards cost a journal entry only.
        rig.put_soon(key(1, chunk), &[]).unwrap();
        if chunk % 200 == 199 {
            rig.settle();
        }
    }
    rig.settle();
    let round = rig.store.expire(Clock::Believed(UnixTime(1)));
    assert_eq!(round, Expired { seen: EXPIRE_STEP_MAX as u64, ..Expired::default() });
    for chunk in 0..DELETES_MAX as u32 {
        rig.store.delete(shard_name(key(1, chunk))).unwrap();
    }
    let refused = rig.store.delete(shard_name(key(1, DELETES_MAX as u32)));
    assert_eq!(refused, Err(DeleteRefused::TooManyDeletes { limit: DELETES_MAX }));
    rig.settle();
    rig.store.delete(shard_name(key(1, DELETES_MAX as u32))).unwrap();
    rig.settle();
    assert_eq!(rig.store.shards_of(Locator([1; 32])).count(), 0);
}

#[test]
fn extents_follow_the_capacity_and_the_cores() {
    assert_eq!(extent_bytes(u64::MAX, 1), EXTENT_USUAL_BYTES_MAX);
    assert_eq!(extent_bytes(64 * EXTENT_USUAL_BYTES_MAX, 4), EXTENT_USUAL_BYTES_MAX);
    assert_eq!(extent_bytes(64 << 20, 1), 1 << 20);
    assert_eq!(extent_bytes((64 << 20) + 64, 4), 1 << 20);
    assert_eq!(extent_bytes(0, 1), EXTENT_BYTES_MIN);
    // One extent of each core together are at most a sixteenth, but for the least size.
    assert_eq!(extent_bytes(1 << 30, 32) * 32, 1 << 26);
    assert_eq!(extent_bytes(1 << 30, 128), (1 << 19));
    let all: Vec<u8> = (0..5).flat_map(|core| partitions_of(CoreId(core), 5)).collect();
    assert_eq!(all.len(), PARTITIONS as usize);
    assert_eq!(partitions_of(CoreId(3), 5)[..3], [3, 8, 13]);
    assert_eq!(partitions_of(CoreId(127), 128), [127]);
}

#[test]
fn with_hundreds_of_extents_only_some_are_open() {
    let mut config = config(0, 1);
    config.extent_bytes = EXTENT_BYTES_MIN;
    let mut rig = Rig::open(Disk::new(1), config.clone());
    for chunk in 0..150 {
        rig.put(key(1, chunk), &bytes_of(u64::from(chunk), 100_000)).unwrap();
    }
    let mut rig = Rig::open(Disk::with_image(rig.close(), 1), config);
    for chunk in 0..150 {
        assert_eq!(rig.get(key(1, chunk)).unwrap(), bytes_of(u64::from(chunk), 100_000));
        assert!(rig.disk.open_files() <= EXTENTS_OPEN_MAX + 2, "{}", rig.disk.open_files());
    }
    rig.close();
}
