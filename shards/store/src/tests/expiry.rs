//! What time decides, and who makes room.

use pangea_base::{Hash, Locator, UnixTime};

use super::rig::*;
use crate::sim::Disk;
use crate::*;

const DAYS: u64 = DAY;

fn believed(days: u64) -> Clock {
    Clock::Believed(UnixTime(days * DAYS))
}

fn until(days: u64) -> ShardMeta {
    ShardMeta { until: UnixTime(days * DAYS), ..meta(5000) }
}

fn root(object: u8) -> BlobKey {
    let id = Hash::of(&[object; 100]);
    BlobKey { locator: Locator([object; 32]), kind: BlobKind::ManifestRoot, id }
}

/// An open store whose clock is believed at day 1.
fn opened() -> Rig {
    let mut rig = Rig::new();
    rig.store.expire(believed(1));
    rig
}

fn put_root(rig: &mut Rig, object: u8) {
    rig.put_blob_of(owner(1), root(object), &[object; 100]).unwrap();
}

fn deleted(rig: &mut Rig) -> Vec<(Why, u64)> {
    rig.settle();
    let all = rig.said().into_iter().filter_map(|event| match event {
        Event::Deleted { why, bytes, prefix: HOME, .. } => Some((why, bytes)),
        _ => None,
    });
    all.collect()
}

#[test]
fn what_is_over_is_not_seen_and_goes_a_day_later_with_its_manifest() {
    let mut rig = opened();
    rig.put_of(key(1, 0), until(3), &[1; 5000]).unwrap();
    rig.put_of(key(1, 1), until(5), &[2; 5000]).unwrap();
    put_root(&mut rig, 1);
    rig.store.expire(believed(2));
    assert!(rig.store.shard(&mine(key(1, 0))).is_some());
    let done = rig.store.expire(believed(3));
    assert_eq!((done.over, done.shards), (1, 0));
    assert!(rig.store.shard(&mine(key(1, 0))).is_none());
    assert_eq!(rig.store.find(&key(1, 0), &Hash::of(&[1; 5000])), None);
    assert_eq!(rig.store.shards_of(Locator([1; 32])).count(), 1);
    assert_eq!(rig.store.read(&mine(key(1, 0)), 0, 1), Err(ReadRefused::NotHeld));
    assert_eq!(rig.store.table(&mine(key(1, 0)), 1), Err(ReadRefused::NotHeld));
    assert_eq!(rig.store.used_bytes(), 5 * 4096, "it is there still");
    rig.said();
    assert_eq!(rig.store.expire(believed(4)).shards, 1);
    assert_eq!(deleted(&mut rig), [(Why::Over, 2 * 4096)]);
    // The last shard is over, and with it the manifest.
    let id = root(1).id;
    assert!(rig.get_blob(BlobKind::ManifestRoot, Locator([1; 32]), id).is_ok());
    rig.store.expire(believed(5));
    let refused = rig.store.blob(BlobKind::ManifestRoot, Locator([1; 32]), id, 1);
    assert_eq!(refused, Err(ReadRefused::NotHeld));
    assert_eq!(rig.store.blobs_of(Locator([1; 32])).count(), 0);
    let done = rig.store.expire(believed(6));
    assert_eq!((done.shards, done.blobs), (1, 1));
    assert_eq!(deleted(&mut rig), [(Why::Over, 2 * 4096), (Why::Over, 4096)]);
    assert_eq!(rig.store.used_bytes(), 0);
}

#[test]
fn a_doubted_clock_ends_nothing_and_what_it_ended_comes_back_when_it_was_wrong() {
    let mut rig = opened();
    rig.put_of(key(1, 0), until(3), &[1; 5000]).unwrap();
    put_root(&mut rig, 1);
    let far = UnixTime(50_000 * DAYS);
    assert_eq!(rig.store.expire(Clock::Doubted(far)), Expired::default());
    assert!(rig.store.shard(&mine(key(1, 0))).is_some());
    // Believed for a moment: it is over, and still there.
    rig.store.expire(believed(3));
    assert!(rig.store.shard(&mine(key(1, 0))).is_none());
    rig.store.expire(Clock::Doubted(far));
    assert!(rig.store.shard(&mine(key(1, 0))).is_none(), "while in doubt nothing changes");
    let ask = MakeRoom { bytes: 1, of: None, orphans: vec![], token: 7 };
    rig.store.make_room(ask);
    rig.settle();
    assert!(rig.said().iter().any(|e| matches!(e, Event::RoomMade { token: 7, bytes: 0 })));
    rig.store.expire(believed(2));
    assert_eq!(rig.get(key(1, 0)).unwrap(), [1; 5000]);
    // Nothing is over before a clock was believed, also after opening.
    let late = StoreConfig { now: far, ..config(0, 1) };
    let rig = Rig::open(Disk::with_image(rig.close(), 1), late);
    assert!(rig.store.shard(&mine(key(1, 0))).is_some());
}

#[test]
fn orphans_go_a_day_after_they_were_stored_by_a_clock_that_was_believed() {
    let mut rig = opened();
    rig.put(key(1, 0), &[1; 5000]).unwrap();
    put_root(&mut rig, 2);
    // Somebody else's manifest keeps nothing of this owner.
    rig.put_blob(root(1), &[1; 100]).unwrap();
    let nearly = Clock::Believed(UnixTime(2 * DAYS - 1));
    assert_eq!(rig.store.expire(nearly), Expired { seen: 3, ..Expired::default() });
    let done = rig.store.expire(believed(2));
    assert_eq!((done.shards, done.blobs), (1, 2));
    assert!(deleted(&mut rig).iter().all(|(why, _)| *why == Why::Orphan));
    // Stored in 1970 by a clock that is set right an hour later: the put may go on for a day.
    rig.store.expire(Clock::Doubted(UnixTime(60)));
    rig.put_of(key(1, 0), until(30_000), &[1; 5000]).unwrap();
    assert_eq!(rig.store.expire(believed(20_000)).shards, 0);
    let late = StoreConfig { now: UnixTime(20_000 * DAYS), ..config(0, 1) };
    let mut rig = Rig::open(Disk::with_image(rig.close(), 1), late);
    assert_eq!(rig.recovered().newest, UnixTime(DAYS), "what was doubted is no bound");
    assert_eq!(rig.store.expire(believed(20_000)).shards, 0);
    assert_eq!(rig.store.expire(believed(20_001)).shards, 1);
}

#[test]
fn what_was_stored_last_by_a_believed_clock_tells_the_day() {
    let mut rig = opened();
    rig.put(key(1, 0), &[1; 5000]).unwrap();
    let rig = Rig::open(Disk::with_image(rig.close(), 1), config(0, 1));
    assert_eq!(rig.recovered().newest, UnixTime(DAYS));
}

#[test]
fn what_is_over_makes_way_when_the_same_is_put_again() {
    let mut rig = opened();
    rig.put_of(key(1, 0), until(3), &[1; 5000]).unwrap();
    put_root(&mut rig, 1);
    rig.store.expire(believed(3));
    rig.said();
    rig.put_of(key(1, 0), until(9), &[2; 9000][..5000]).unwrap();
    let replaced = rig.said().into_iter().find_map(|event| match event {
        Event::Stored { replaced, bytes: 8192, .. } => Some(replaced),
        _ => None,
    });
    assert_eq!(replaced, Some(Some(Replaced { prefix: HOME, bytes: 8192 })));
    assert_eq!(rig.store.used_bytes(), 3 * 4096);
    let mut rig = Rig::open(Disk::with_image(rig.close(), 1), config(0, 1));
    rig.store.expire(believed(4));
    assert_eq!(rig.get(key(1, 0)).unwrap(), [2; 5000]);
    assert!(rig.get_blob(BlobKind::ManifestRoot, Locator([1; 32]), root(1).id).is_ok());
}

/// The chunks of object 1 that are held, seen or not.
fn chunks(rig: &Rig) -> Vec<u32> {
    let held = |chunk: &u32| rig.store.disk_bytes(&shard_name(key(1, *chunk))).is_some();
    (0..10).filter(held).collect()
}

fn room_made(rig: &mut Rig, ask: MakeRoom) -> u64 {
    let token = ask.token;
    rig.said();
    rig.store.make_room(ask);
    rig.settle();
    let (mut bytes, mut room) = (0, None);
    for event in rig.said() {
        match event {
            Event::Deleted { why: Why::Room, bytes: of_one, .. } => {
                assert!(room.is_none(), "room is made when all is gone");
                bytes += of_one;
            }
            Event::RoomMade { token: of, bytes } if of == token => room = Some(bytes),
            _ => {}
        }
    }
    assert_eq!(room, Some(bytes));
    bytes
}

#[test]
fn room_is_made_of_what_is_over_the_oldest_end_first() {
    let mut rig = opened();
    for (chunk, days) in [(0, 5), (1, 3), (2, 4), (3, 9)] {
        rig.put_of(key(1, chunk), until(days), &[1; 5000]).unwrap();
    }
    put_root(&mut rig, 1);
    let other = ShardMeta { owner: owner(4), ..until(2) };
    rig.put_of(key(2, 0), other, &[1; 5000]).unwrap();
    rig.put_blob_of(owner(4), root(2), &[2; 100]).unwrap();
    let ask = |bytes, of| MakeRoom { bytes, of, orphans: vec![], token: 3 };
    assert_eq!(room_made(&mut rig, ask(1, None)), 0, "nothing is over");
    let day = Clock::Believed(UnixTime(5 * DAYS / 2));
    rig.store.expire(day);
    rig.store.expire(believed(3));
    rig.settle();
    assert_eq!(chunks(&rig), [0, 1, 2, 3]);
    // Of one owner first: of the other's nothing.
    assert_eq!(room_made(&mut rig, ask(1, Some(owner(1)))), 8192);
    assert_eq!(chunks(&rig), [0, 2, 3]);
    assert_eq!(room_made(&mut rig, ask(1, Some(owner(1)))), 0, "its objects have manifests");
    rig.store.expire(Clock::Believed(UnixTime(5 * DAYS - 1)));
    rig.settle();
    // What ended at day 2 and at day 3.9 was over for a day, or is the oldest now.
    rig.store.expire(believed(5));
    assert_eq!(room_made(&mut rig, ask(8193, None)), 8192, "no more is over than that");
    assert_eq!(chunks(&rig), [3]);
}

#[test]
fn an_owners_orphans_make_room_for_its_next_put_but_for_those_that_are_being_put() {
    let mut rig = opened();
    for (object, days) in [(3, 10), (1, 11), (2, 12), (4, 13)] {
        rig.store.expire(Clock::Doubted(UnixTime(days * 3600)));
        rig.put_of(key(object, 0), until(100), &[object; 5000]).unwrap();
    }
    put_root(&mut rig, 4);
    rig.put_of(key(5, 0), ShardMeta { owner: owner(9), ..until(100) }, &[1; 5000]).unwrap();
    let orphans = rig.store.leftovers(&owner(1), &[Locator([1; 32])], 10);
    assert_eq!(orphans, [Locator([3; 32]), Locator([2; 32])]);
    assert_eq!(rig.store.leftovers(&owner(1), &[], 1), [Locator([3; 32])], "the oldest first");
    let ask = |bytes| MakeRoom { bytes, of: Some(owner(1)), orphans: orphans.clone(), token: 8 };
    let held = |rig: &Rig| -> Vec<u8> {
        let held = |object: &u8| rig.store.shards_of(Locator([*object; 32])).count() == 1;
        (1..=5).filter(held).collect()
    };
    assert_eq!(room_made(&mut rig, ask(1)), 8192);
    assert_eq!(held(&rig), [1, 2, 4, 5], "the oldest went");
    assert_eq!(room_made(&mut rig, ask(1 << 30)), 8192);
    assert_eq!(held(&rig), [1, 4, 5]);
    assert_eq!(room_made(&mut rig, ask(1)), 0);
}

#[test]
fn who_waits_for_room_is_answered_also_when_the_journal_fails() {
    let mut rig = opened();
    rig.put(key(1, 0), &[1; 5000]).unwrap();
    rig.disk.set_fault(|_, op| {
        use pangea_base::file::{FileFault, FileOp};
        matches!(op, FileOp::Write { .. }).then_some(FileFault::Denied)
    });
    let ask = MakeRoom { bytes: 1, of: Some(owner(1)), orphans: vec![Locator([1; 32])], token: 4 };
    rig.said();
    rig.store.make_room(ask);
    rig.settle();
    assert!(rig.said().iter().any(|e| matches!(e, Event::RoomMade { token: 4, bytes: 0 })));
}

#[test]
fn the_time_that_was_believed_is_found_again() {
    let mut rig = Rig::new();
    assert_eq!(rig.recovered().believed, None);
    for day in 1..=5 {
        rig.store.believe(UnixTime(day * DAYS));
    }
    rig.settle();
    let told: Vec<u64> = rig
        .said()
        .into_iter()
        .filter_map(|event| match event {
            Event::Believed { time } => Some(time.0 / DAYS),
            _ => None,
        })
        .collect();
    assert_eq!(told.last(), Some(&5));
    let mut image = rig.close();
    let rig = Rig::open(Disk::with_image(image.clone(), 1), config(0, 1));
    assert_eq!(rig.recovered().believed, Some(UnixTime(5 * DAYS)));
    // Another core knows nothing of it.
    let mut other = Rig::open(Disk::with_image(image.clone(), 1), config(1, 2));
    assert_eq!(other.recovered().believed, None);
    other.store.believe(UnixTime(1));
    other.settle();
    assert_eq!(other.close(), image);
    // A damaged record is none.
    let clock = pangea_base::file::FileName::new("store/clock");
    image.get_mut(&clock).unwrap().iter_mut().for_each(|byte| *byte ^= 1);
    let mut rig = Rig::open(Disk::with_image(image, 1), config(0, 1));
    assert_eq!(rig.recovered().believed, None);
    rig.store.believe(UnixTime(9));
    rig.settle();
    let rig = Rig::open(Disk::with_image(rig.killed(), 1), config(0, 1));
    assert_eq!(rig.recovered().believed, Some(UnixTime(9)));
}

#[test]
fn a_core_among_several_lets_nothing_go_before_the_others_were_asked() {
    let several = StoreConfig { cores: 2, ..config(0, 1) };
    let mut rig = Rig::open(Disk::new(1), several);
    rig.store.expire(believed(1));
    // Shards whose manifest may be with another core, and a manifest whose shards may be.
    rig.put_of(key(1, 0), until(100), &[1; 5000]).unwrap();
    rig.put_of(key(2, 0), until(2), &[1; 5000]).unwrap();
    put_root(&mut rig, 3);
    rig.store.expire(believed(4));
    rig.settle();
    let lacks =
        |object: u8, lacks| Stray { owner: owner(1), locator: Locator([object; 32]), lacks };
    let strays = [lacks(1, Lacks::Root), lacks(3, Lacks::Shards)];
    assert_eq!(rig.store.strays(), strays, "what was over for a day is gone all the same");
    assert!(rig.store.shard(&mine(key(2, 0))).is_none());
    assert!(rig.store.shard(&mine(key(1, 0))).is_some());
    assert_eq!(rig.store.strays(), [], "told once in a round");
    // Another core would let go of the rest of these.
    assert!(rig.store.keeps(&lacks(1, Lacks::Shards)) && rig.store.keeps(&lacks(3, Lacks::Root)));
    assert!(!rig.store.keeps(&lacks(1, Lacks::Root)) && !rig.store.keeps(&lacks(9, Lacks::Root)));
    // The manifest of one came meanwhile.
    put_root(&mut rig, 1);
    strays.iter().for_each(|stray| rig.store.let_go(stray));
    rig.settle();
    assert!(rig.store.shard(&mine(key(1, 0))).is_some());
    assert!(rig.store.blobs_of(Locator([3; 32])).next().is_none());
}

#[test]
fn what_is_stored_is_stamped_with_the_time_that_was_told_last() {
    let mut rig = opened();
    rig.store.tell_time(Clock::Doubted(UnixTime(400 * DAYS)));
    rig.put_of(key(1, 0), until(402), &[1; 5000]).unwrap();
    rig.store.tell_time(believed(2));
    rig.put_of(key(1, 1), until(5), &[2; 5000]).unwrap();
    let stored = |rig: &Rig, index| rig.store.shard(&mine(key(1, index))).map(|info| info.stored);
    assert_eq!(stored(&rig, 0), Some(UnixTime(400 * DAYS)));
    assert_eq!(stored(&rig, 1), Some(UnixTime(2 * DAYS)));
}
