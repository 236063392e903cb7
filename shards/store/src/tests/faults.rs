use pangea_base::file::{FileFault, FileOp};

use super::rig::*;
use crate::sim::{Disk, Survivors};
use crate::*;

fn broken() -> FileFault {
    FileFault::Other { errno: 5, text: String::from("Input/output error (os error 5)") }
}

/// Runs the same puts, deletions and reads with one operation failing, and checks that nothing
/// that was acknowledged is gone, now or after reopening. True if the failure was met.
fn one_failure(number: u64, fault: FileFault) -> bool {
    let mut disk = Disk::new(8);
    let told = std::rc::Rc::new(std::cell::Cell::new(false));
    let met = told.clone();
    let full = fault == FileFault::NoSpace;
    disk.set_fault(move |at, op| {
        let hit = at == number && (!full || needs_space(op));
        met.set(met.get() || hit);
        hit.then(|| fault.clone())
    });
    let mut rig = Rig::start(disk, config(0, 1), 16);
    rig.settle();
    if rig.try_recovered().is_err() {
        assert!(!full || told.get());
        return told.get();
    }
    let mut acknowledged: Vec<(u32, Vec<u8>)> = Vec::new();
    let mut deleted = Vec::new();
    for chunk in 0..12u32 {
        let bytes = bytes_of(u64::from(chunk), 60_000);
        let Ok(id) = rig.put_soon(key(1, chunk), &bytes) else { continue };
        rig.settle();
        assert!(rig.stored.contains_key(&id) != rig.failed.contains_key(&id), "one end each");
        match rig.stored.contains_key(&id) {
            true => acknowledged.push((chunk, bytes)),
            false => assert!(rig.store.shard(&mine(key(1, chunk))).is_none()),
        }
        if chunk == 6 && rig.store.delete(shard_name(key(1, 2))).is_ok() {
            acknowledged.retain(|(chunk, _)| *chunk != 2);
            deleted.push(2);
            rig.settle();
        }
    }
    if full {
        // One full moment costs at most what was under way then.
        assert!(rig.failed.len() <= 1, "failure at {number}: {:?}", rig.failed);
        let clean = rig.failed.values().all(|fault| *fault == StoreFault::NoSpace);
        assert!(clean, "failure at {number}: {:?}", rig.failed);
        assert!(!rig.events.iter().any(|event| matches!(event, Event::Poisoned { .. })));
    }
    for (chunk, bytes) in &acknowledged {
        match rig.get(key(1, *chunk)) {
            Ok(got) => assert!(got == *bytes, "failure at {number}: wrong bytes"),
            Err(_) => assert!(!full && told.get(), "failure at {number}"),
        }
    }
    rig.disk.clear_fault();
    let image = if number.is_multiple_of(2) { rig.close() } else { rig.killed() };
    let mut rig = Rig::open(Disk::with_image(image, 1), config(0, 1));
    let _ = rig.recovered();
    for (chunk, bytes) in &acknowledged {
        assert!(rig.get(key(1, *chunk)).unwrap() == *bytes, "failure at {number}, reopened");
    }
    for chunk in deleted {
        let gone = rig.store.shard(&mine(key(1, chunk))).is_none();
        assert!(gone || told.get(), "a deletion that nothing hindered came back");
    }
    told.get()
}

fn needs_space(op: &FileOp) -> bool {
    matches!(op, FileOp::Open { .. } | FileOp::Write { .. } | FileOp::Allocate { .. })
}

#[test]
fn a_full_disk_at_any_operation_costs_that_put_and_nothing_else() {
    let met = (0..400).filter(|number| one_failure(*number, FileFault::NoSpace)).count();
    assert!(met > 20, "{met} failures were met");
}

#[test]
fn a_failure_at_any_operation_loses_nothing_that_was_acknowledged() {
    let met = (0..400).filter(|number| one_failure(*number, broken())).count();
    assert!(met > 60, "{met} failures were met");
}

#[test]
fn a_failed_write_poisons_its_extent_and_later_puts_go_elsewhere() {
    let mut rig = Rig::new();
    rig.put(key(1, 0), &[1; 5000]).unwrap();
    rig.disk
        .set_fault(|_, op| matches!(op, FileOp::Write { offset, .. } if *offset > 0).then(broken));
    let fault = rig.put(key(1, 1), &[2; 5000]).unwrap_err();
    assert!(matches!(fault, StoreFault::File { what: "writing a shard", .. }), "{fault:?}");
    rig.disk.clear_fault();
    let poisoned = |event: &Event| matches!(event, Event::ExtentPoisoned { .. });
    assert_eq!(rig.events.iter().filter(|event| poisoned(event)).count(), 1);
    rig.put(key(1, 2), &[3; 5000]).unwrap();
    let extents = rig.disk.image().keys().filter(|n| n.as_str().contains("extent")).count();
    assert_eq!(extents, 2, "the next put made a new extent");
    for (chunk, byte) in [(0, 1), (2, 3)] {
        assert_eq!(rig.get(key(1, chunk)).unwrap(), [byte; 5000]);
    }
}

#[test]
fn a_failed_sync_fails_everything_that_waited_for_it_and_is_not_tried_again() {
    let mut rig = Rig::new();
    rig.put(key(1, 0), &[1; 5000]).unwrap();
    let syncs = std::rc::Rc::new(std::cell::Cell::new(0));
    let seen = syncs.clone();
    rig.disk.set_fault(move |_, op| {
        let sync = matches!(op, FileOp::Sync { .. });
        seen.set(seen.get() + u32::from(sync));
        sync.then(broken)
    });
    let ids: Vec<WriteId> =
        (1..5).map(|chunk| rig.put_soon(key(1, chunk), &[2; 5000]).unwrap()).collect();
    rig.settle();
    assert!(ids.iter().all(|id| rig.failed.contains_key(id)));
    assert_eq!(syncs.get(), 1);
    assert_eq!(rig.get(key(1, 0)).unwrap(), [1; 5000]);
}

#[test]
fn a_failed_journal_write_ends_writing_and_says_so() {
    let mut rig = Rig::new();
    rig.put(key(1, 0), &[1; 5000]).unwrap();
    let data_syncs = std::rc::Rc::new(std::cell::Cell::new(0));
    let seen = data_syncs.clone();
    rig.disk.set_fault(move |_, op| {
        seen.set(seen.get() + u32::from(matches!(op, FileOp::Sync { .. })));
        // Behind the data's sync the only write is the journal's.
        (seen.get() > 0 && matches!(op, FileOp::Write { .. })).then(broken)
    });
    assert_eq!(rig.put(key(1, 1), &[2; 5000]), Err(StoreFault::Poisoned));
    let said = rig
        .events
        .iter()
        .any(|event| matches!(event, Event::Poisoned { reason } if reason.contains("restarted")));
    assert!(said);
    rig.disk.clear_fault();
    assert_eq!(rig.store.begin(key(1, 3), meta(1)), Err(StoreRefused::Poisoned));
    assert_eq!(rig.store.delete(shard_name(key(1, 0))), Err(DeleteRefused::Poisoned));
    assert_eq!(rig.get(key(1, 0)).unwrap(), [1; 5000]);
    let image = rig.close();
    let mut rig = Rig::open(Disk::with_image(image, 1), config(0, 1));
    assert_eq!(rig.get(key(1, 0)).unwrap(), [1; 5000]);
    rig.put(key(1, 3), &[4; 5000]).unwrap();
}

#[test]
fn space_named_by_a_refused_commit_is_not_used_before_another_took_its_place() {
    let mut held = 0;
    for seed in 0..60 {
        let mut rig = Rig::open(Disk::new(seed), config(0, 1));
        rig.put(key(1, 0), &[1; 5000]).unwrap();
        let mut synced = false;
        rig.disk.set_fault(move |_, op| {
            synced |= matches!(op, FileOp::Sync { .. });
            // The journal's write; the disk does some of it, or all.
            (synced && matches!(op, FileOp::Write { .. })).then_some(FileFault::NoSpace)
        });
        let first = bytes_of(1, 20_000);
        assert_eq!(rig.put(key(1, 1), &first), Err(StoreFault::NoSpace));
        rig.disk.clear_fault();
        let refused = rig.disk.moment();
        rig.put(key(1, 2), &bytes_of(2, 20_000)).unwrap();
        rig.disk.crash(
            |moment, _| if moment >= refused { vec![Survivors::All] } else { vec![] },
            |moment, _, image| {
                let mut rig = Rig::open(Disk::with_image(image, 1), config(0, 1));
                if rig.store.shard(&mine(key(1, 1))).is_some() {
                    let got = rig.get(key(1, 1));
                    assert!(got == Ok(first.clone()), "seed {seed}, cut at {moment}");
                    held += 1;
                }
            },
        );
    }
    assert!(held > 0, "some of the refused commits were on the disk all the same");
}

#[test]
fn a_rotation_that_fails_leaves_the_old_journal_in_use_and_the_new_one_gone() {
    let kind = |op: &FileOp| match op {
        FileOp::Open { .. } => 0,
        FileOp::Allocate { .. } => 1,
        FileOp::Write { .. } => 2,
        FileOp::Sync { .. } => 3,
        _ => 4,
    };
    for failing in 0..4 {
        for fault in [broken(), FileFault::NoSpace] {
            let mut config = config(0, 1);
            config.journal_bytes = 64 << 10;
            let mut rig = Rig::open(Disk::new(failing), config.clone());
            rig.put(key(1, 0), &[]).unwrap();
            let (mut rotating, mut failed) = (false, false);
            rig.disk.set_fault(move |_, op| {
                rotating |= matches!(op, FileOp::Open { name, .. }
                    if name.as_str().contains("journal"));
                let hit = rotating && !failed && kind(op) == failing;
                failed |= hit;
                hit.then(|| fault.clone())
            });
            // Without bytes there are only journal operations.
            for chunk in 1..40 {
                rig.put(key(1, chunk), &[]).unwrap();
            }
            let rig = Rig::open(Disk::with_image(rig.killed(), 1), config);
            assert_eq!((rig.recovered().shards, rig.recovered().cut_blocks), (40, 0));
        }
    }
}

#[test]
fn puts_over_many_extents_fail_together_when_no_journal_can_be_made() {
    let mut rig = Rig::new();
    rig.disk.set_fault(|_, op| {
        let FileOp::Open { name, .. } = op else { return None };
        name.as_str().contains("journal").then(broken)
    });
    // A put that fails lets go of all its extents, also of those whose turn to fail is still to come.
    let length = 2 * EXTENT as usize;
    let ids: Vec<WriteId> =
        (0..3).map(|chunk| rig.store.begin(key(1, chunk), meta(length)).unwrap()).collect();
    rig.settle();
    assert!(ids.iter().all(|id| rig.failed.contains_key(id)), "{:?}", rig.failed);
    rig.disk.clear_fault();
    rig.put(key(1, 5), &[1; 5000]).unwrap();
}

#[test]
fn a_really_full_disk_can_be_emptied_and_used_again() {
    let mut rig = Rig::new();
    rig.disk.set_capacity(2 << 20);
    let mut held = Vec::new();
    let mut refused = 0;
    for chunk in 0..60 {
        let bytes = bytes_of(u64::from(chunk), 60_000);
        match rig.put(key(1, chunk), &bytes) {
            Ok(()) => held.push(chunk),
            Err(fault) => {
                assert_eq!(fault, StoreFault::NoSpace);
                refused += 1;
            }
        }
    }
    assert!(held.len() > 15 && refused > 10, "{} held, {refused} refused", held.len());
    for chunk in &held {
        assert_eq!(rig.get(key(1, *chunk)).unwrap(), bytes_of(u64::from(*chunk), 60_000));
    }
    let half = held.split_off(held.len() / 2);
    for chunk in half {
        rig.delete(key(1, chunk));
    }
    rig.put(key(2, 0), &bytes_of(99, 60_000)).unwrap();
    let image = rig.close();
    let mut rig = Rig::open(Disk::with_image(image, 1), config(0, 1));
    assert_eq!(rig.recovered().shards, held.len() as u64 + 1);
    for chunk in &held {
        assert_eq!(rig.get(key(1, *chunk)).unwrap(), bytes_of(u64::from(*chunk), 60_000));
    }
}

#[test]
fn deletions_get_through_when_the_journal_cannot_grow() {
    let mut config = config(0, 1);
    config.journal_bytes = 64 << 20;
    let mut rig = Rig::open(Disk::new(1), config.clone());
    for chunk in 0..20 {
        rig.put(key(1, chunk), &[1; 100]).unwrap();
    }
    // Nothing more can be reserved: the journal runs up against what it has.
    rig.disk.set_fault(|_, op| matches!(op, FileOp::Allocate { .. }).then_some(FileFault::NoSpace));
    let mut chunk = 20;
    while rig.put(key(1, chunk), &[1; 100]).is_ok() {
        chunk += 1;
        assert!(chunk < 200, "puts are refused when the reserve is reached");
    }
    for chunk in 0..10 {
        rig.delete(key(1, chunk));
    }
    let deleted = rig.events.iter().filter(|event| matches!(event, Event::Deleted { .. })).count();
    assert_eq!(deleted, 10);
    rig.disk.clear_fault();
    rig.put(key(2, 1), &[1; 100]).unwrap();
    let rig = Rig::open(Disk::with_image(rig.killed(), 1), config);
    assert_eq!(rig.recovered().shards, u64::from(chunk) - 10 + 1);
}
