//! The ring under every order of memory accesses that the memory model allows, with up to three
//! forced switches between threads (loom). Run with
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p pangea-trace --features trace --lib \
//!     --target-dir target/loom
//! ```
//!
//! (a target directory of its own, because the flag rebuilds every dependency). With loom's atomics
//! the recorder works inside `loom::model` only, so under the flag the tests in `tests/` are empty.
//!
//! Each of these changes to `ring.rs` makes at least one of these tests fail: either fence taken
//! away; the odd stamp not stored; the even stamp or the head stored with `Relaxed`, or read with it.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::thread;

use crate::ring::{Found, Ring, Words};

fn model(scenario: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(scenario);
}

/// Record `number`: both words follow from it, so that halves of two records do not fit together.
fn record(number: u64) -> Words {
    [100 + number, number, 200 + number]
}

/// One thread writes so many records into two slots.
fn writer(ring: &Arc<Ring>, records: u64) -> thread::JoinHandle<()> {
    let ring = ring.clone();
    thread::spawn(move || {
        (0..records).for_each(|number| ring.write(number, &record(number), u16::MAX))
    })
}

#[test]
fn a_reader_never_sees_halves_of_two_records() {
    model(|| {
        let ring = Arc::new(Ring::new(2));
        let writer = writer(&ring, 4);
        for number in [0, 1, 2] {
            if let Found::Record(words) = ring.read(number) {
                assert_eq!(words, record(number));
            }
        }
        writer.join().unwrap();
    });
}

#[test]
fn whoever_reads_the_same_slot_twice_sees_no_half_either() {
    model(|| {
        let ring = Arc::new(Ring::new(1));
        let writer = writer(&ring, 3);
        for number in [0, 1] {
            if let Found::Record(words) = ring.read(number) {
                assert_eq!(words, record(number));
            }
        }
        writer.join().unwrap();
    });
}

#[test]
fn what_the_head_counts_is_there() {
    model(|| {
        let ring = Arc::new(Ring::new(2));
        let writer = writer(&ring, 3);
        let head = ring.head();
        if let Some(newest) = head.checked_sub(1) {
            match ring.read(newest) {
                Found::Record(words) => assert_eq!(words, record(newest)),
                Found::Overwritten => {}
                Found::NotYet => panic!("{newest} is counted and not there"),
            }
        }
        writer.join().unwrap();
        assert_eq!(ring.head(), 3);
    });
}

#[test]
fn two_readers_see_the_same() {
    model(|| {
        let ring = Arc::new(Ring::new(2));
        let writer = writer(&ring, 3);
        let other = ring.clone();
        let reader = thread::spawn(move || other.read(0));
        let found = [ring.read(0), reader.join().unwrap()];
        for found in found {
            assert!(!matches!(found, Found::Record(words) if words != record(0)));
        }
        writer.join().unwrap();
    });
}

/// The model can fail: the same protocol without the writer's fence is torn, and loom finds it.
#[test]
#[should_panic(expected = "torn")]
fn without_the_fence_a_record_is_torn() {
    model(|| {
        let slot: Arc<[AtomicU64; 3]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
        let written = slot.clone();
        let writer = thread::spawn(move || {
            let [stamp, one, two] = &*written;
            stamp.store(1, Ordering::Relaxed);
            one.store(7, Ordering::Relaxed);
            two.store(7, Ordering::Relaxed);
            stamp.store(2, Ordering::Release);
        });
        let [stamp, one, two] = &*slot;
        let before = stamp.load(Ordering::Acquire);
        let words = [one, two].map(|word| word.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        let same = stamp.load(Ordering::Relaxed) == before;
        assert!(before % 2 == 1 || !same || words[0] == words[1], "torn");
        writer.join().unwrap();
    });
}
