//! Everything has an owner, and nobody's things stand in anybody's way.

use bytes::Bytes;
use pangea_base::{Hash, Locator, PeerId, Prefix};

use super::rig::*;
use crate::sim::{Disk, Survivors};
use crate::*;

const AWAY: Prefix = Prefix(Some([4, 0, 0, 198, 51, 100]));

fn of(number: u8) -> ShardMeta {
    ShardMeta { owner: owner(number), ..meta(20_000) }
}

fn shard_of(number: u8) -> OwnedShard {
    OwnedShard { key: key(1, 1), owner: owner(number) }
}

#[test]
fn two_owners_hold_different_bytes_under_one_name_and_each_is_found_by_its_root() {
    let mut rig = Rig::new();
    for number in 1..=3 {
        rig.put_of(key(1, 1), of(number), &bytes_of(u64::from(number), 20_000)).unwrap();
    }
    let mut rig = Rig::open(Disk::with_image(rig.close(), 1), config(0, 1));
    assert_eq!(rig.recovered().shards, 3);
    for number in 1..=3 {
        let bytes = bytes_of(u64::from(number), 20_000);
        let (found, info) = rig.store.find(&key(1, 1), &Hash::of(&bytes)).unwrap();
        assert_eq!((found, info.length), (shard_of(number), 20_000));
        assert_eq!(rig.get_of(found).unwrap(), bytes);
    }
    assert_eq!(rig.store.find(&key(1, 1), &Hash([0; 32])), None);
    assert_eq!(rig.store.shards_of(Locator([1; 32])).count(), 3);
    // One owner's deletion is its own.
    rig.store.delete(Key::Shard(shard_of(2))).unwrap();
    rig.settle();
    assert!(rig.store.shard(&shard_of(2)).is_none());
    assert_eq!(rig.get_of(shard_of(3)).unwrap(), bytes_of(3, 20_000));
    let Err(StoreRefused::AlreadyHeld { root, length: 20_000, until, .. }) =
        rig.store.begin(key(1, 1), of(3))
    else {
        panic!("what an owner holds it holds");
    };
    assert_eq!((root, until), (Hash::of(&bytes_of(3, 20_000)), meta(0).until));
}

#[test]
fn of_several_with_one_root_the_one_that_is_kept_longest_is_found() {
    let mut rig = Rig::new();
    for (number, days) in [(1, 10), (2, 30), (3, 20)] {
        let until = pangea_base::UnixTime(days * DAY);
        rig.put_of(key(1, 1), ShardMeta { until, ..of(number) }, &[7; 100]).unwrap();
    }
    let found = rig.store.find(&key(1, 1), &Hash::of(&[7; 100])).unwrap();
    assert_eq!(found.0.owner, owner(2));
}

fn place(rig: &mut Rig, owner: PeerId, from: Prefix, bytes: &[u8]) -> (u64, Option<Replaced>) {
    let page = BlobKey::placement(Locator([1; 32]), 0);
    rig.store.put_blob(page, owner, from, Bytes::copy_from_slice(bytes), 99).unwrap();
    rig.settle();
    let stored = rig.said().into_iter().find_map(|event| match event {
        Event::BlobStored { token: 99, bytes, replaced } => Some((bytes, replaced)),
        _ => None,
    });
    stored.expect("it is stored")
}

#[test]
fn a_newer_placement_page_takes_the_place_of_its_owners_older_one() {
    let mut rig = Rig::new();
    let block = 4096;
    assert_eq!(place(&mut rig, owner(1), HOME, &[1; 9000]), (3 * block, None));
    assert_eq!(place(&mut rig, owner(2), HOME, &[2; 100]), (block, None));
    // The same once more changes nothing.
    assert_eq!(place(&mut rig, owner(1), AWAY, &[1; 9000]), (0, None));
    let replaced = Replaced { prefix: HOME, bytes: 3 * block };
    assert_eq!(place(&mut rig, owner(1), AWAY, &[3; 5000]), (2 * block, Some(replaced)));
    assert_eq!(rig.store.used_bytes(), 3 * block, "the old space is free again");
    let accounts = vec![(owner(1), AWAY, 2 * block), (owner(2), HOME, block)];
    let mut rig = Rig::open(Disk::with_image(rig.close(), 1), config(0, 1));
    assert_eq!(rig.recovered().owners, accounts);
    let (found, bytes) = rig.placement(Locator([1; 32]), 0, Owners::Of(owner(1))).unwrap();
    assert_eq!((found.owner, &bytes[..]), (owner(1), &[3; 5000][..]));
}

#[test]
fn placement_pages_of_all_owners_are_walked_in_order() {
    let mut rig = Rig::new();
    for number in [3, 1, 2] {
        place(&mut rig, owner(number), HOME, &[number; 100]);
    }
    let mut whose = Owners::First;
    let mut met = Vec::new();
    while let Some((found, bytes)) = rig.placement(Locator([1; 32]), 0, whose) {
        assert_eq!(found.owner, owner(bytes[0]));
        met.push((bytes[0], found.more));
        whose = Owners::Behind(found.owner);
    }
    assert_eq!(met, [(1, true), (2, true), (3, false)]);
    assert!(rig.placement(Locator([1; 32]), 1, Owners::First).is_none());
    assert!(rig.placement(Locator([1; 32]), 0, Owners::Of(owner(9))).is_none());
    let of = rig.store.placement_of(Locator([1; 32]), 0, Owners::Of(owner(2))).unwrap();
    assert!(of.more && of.length == 100);
}

#[test]
fn a_page_is_not_deleted_while_a_newer_one_is_being_written() {
    let mut rig = Rig::new();
    place(&mut rig, owner(1), HOME, &[1; 9000]);
    let page = BlobKey::placement(Locator([1; 32]), 0);
    let name = Key::blob(owner(1), page);
    rig.store.put_blob(page, owner(1), HOME, Bytes::from_static(b"new"), 5).unwrap();
    assert_eq!(rig.store.delete(name), Err(DeleteRefused::BeingWritten));
    let again = rig.store.put_blob(page, owner(1), HOME, Bytes::from_static(b"newer"), 6);
    assert_eq!(again, Err(StoreRefused::BeingWritten));
    rig.settle();
    rig.store.delete(name).unwrap();
    rig.settle();
    let rig = Rig::open(Disk::with_image(rig.killed(), 1), config(0, 1));
    assert_eq!(rig.recovered().blobs, 0);
}

#[test]
fn a_replacement_in_another_partition_is_the_new_one_or_the_old_one_at_every_moment() {
    // Two cores kept partition 1 apart; with one core the page is found there, and replaced in 0.
    let mut rig = Rig::open(Disk::new(1), config(1, 2));
    place(&mut rig, owner(1), HOME, &[1; 9000]);
    let mut rig = Rig::open(Disk::with_image(rig.close(), 1), config(0, 1));
    let begun = rig.disk.moment();
    place(&mut rig, owner(1), HOME, &[2; 5000]);
    let stored = rig.disk.moment();
    let mut seen = [0; 2];
    rig.disk.crash(
        |moment, count| match moment >= begun {
            true => (0..4).map(Survivors::Random).chain([Survivors::All]).take(count + 2).collect(),
            false => Vec::new(),
        },
        |moment, _, image| {
            let mut rig = Rig::open(Disk::with_image(image, 1), config(0, 1));
            assert!(!rig.recovered().damaged());
            let (_, bytes) = rig.placement(Locator([1; 32]), 0, Owners::First).unwrap();
            assert!(bytes == [1; 9000][..] || bytes == [2; 5000][..]);
            assert!(moment < stored || bytes[0] == 2, "it was acknowledged");
            seen[usize::from(bytes[0]) - 1] += 1;
            rig.settle();
            assert_eq!(rig.store.used_bytes(), (bytes.len() as u64).next_multiple_of(4096));
        },
    );
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}
