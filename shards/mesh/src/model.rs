//! The doorbell and the rings under every order of memory accesses that the memory model allows
//! (loom). Run with
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p pangea-mesh --release --target-dir target/loom
//! ```
//!
//! (a target directory of its own, because the flag rebuilds every dependency). With loom's atomics
//! the room works inside `loom::model` only, so under the flag the tests in `tests/` are empty.
//! Each of the room's five fences, taken away, makes at least one of these tests fail.
//!
//! The ring, the bell, and the news of room are each looked at alone in rings of two values, with
//! nothing left out (`complete`). All of it together has too many orders for that, so there the
//! switches that are forced on a thread are bounded (`bounded`).

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;
use pangea_base::{CoreId, Wake};

use crate::actors::{Alarm, run_engine};
use crate::{Full, Readiness, doorbell, mesh, ring};

/// Every order.
fn complete(name: &str, scenario: impl Fn() + Send + Sync + 'static) {
    model(name, None, scenario);
}

/// Every order with up to four forced switches.
fn bounded(name: &str, scenario: impl Fn() + Send + Sync + 'static) {
    model(name, Some(4), scenario);
}

/// Runs `scenario` in its orders, and says how many there were.
fn model(name: &str, bound: Option<usize>, scenario: impl Fn() + Send + Sync + 'static) {
    let orders = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = orders.clone();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = bound;
    builder.check(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        scenario();
    });
    println!("{name}: {} orders", orders.load(std::sync::atomic::Ordering::Relaxed));
}

#[test]
fn what_a_ring_takes_comes_out_once_and_in_order() {
    complete("two batches of three through a ring of two", || {
        let (mut sender, mut receiver) = ring::<u32>(2);
        let producer = thread::spawn(move || {
            let mut taken = Vec::new();
            for value in 0..6 {
                // It says that it is full only when it is, seen from here.
                let full = sender.is_full();
                match sender.send(value) {
                    Ok(()) => taken.push(value),
                    Err(Full(back)) => assert!(full && back == value),
                }
            }
            taken
        });
        let mut received = Vec::new();
        for _ in 0..6 {
            let empty = receiver.is_empty();
            match receiver.receive() {
                Some(value) => received.push(value),
                None => assert!(empty),
            }
        }
        let taken = producer.join().unwrap();
        received.extend(std::iter::from_fn(|| receiver.receive()));
        assert_eq!(received, taken, "lost, repeated or out of order");
    });
}

#[test]
fn a_refused_sender_hears_of_the_room_that_is_made() {
    complete("room in a ring of two", || {
        let mut ends = mesh::<u32>(2, 2);
        let (mut one, mut zero) = (ends.pop().unwrap(), ends.pop().unwrap());
        (0..2).for_each(|value| zero.send(CoreId(1), value).unwrap());
        // It never sleeps: it takes one, says so, and is gone.
        let taker = thread::spawn(move || {
            assert_eq!(one.receive(), Some((CoreId(0), 0)));
            one.flush();
            one
        });
        let alarm = Alarm::new();
        zero.parking().connect(alarm.clone());
        while zero.send(CoreId(1), 2).is_err() {
            if zero.prepare() == Readiness::Sleep {
                alarm.wait();
            }
            zero.awake();
        }
        let mut one = taker.join().unwrap();
        let rest: Vec<u32> = std::iter::from_fn(|| one.receive()).map(|(_, value)| value).collect();
        assert_eq!(rest, [1, 2]);
    });
}

#[test]
fn a_sleeper_is_woken_for_a_value() {
    complete("a bell and one value", || sleeper_and_ringer(1));
}

#[test]
fn a_sleeper_is_woken_for_every_value() {
    bounded("a bell and a ring of two", || sleeper_and_ringer(2));
}

fn sleeper_and_ringer(values: u32) {
    let (mut sender, mut receiver) = ring::<u32>(2);
    let (bell, mut parking) = doorbell();
    let alarm = Alarm::new();
    parking.connect(alarm.clone());
    let producer = thread::spawn(move || {
        for value in 0..values {
            sender.send(value).unwrap();
            bell.ring();
        }
    });
    let mut expected = 0;
    while expected < values {
        if let Some(value) = receiver.receive() {
            assert_eq!(value, expected);
            expected += 1;
            continue;
        }
        parking.prepare();
        if receiver.is_empty() {
            alarm.wait();
        }
        parking.cancel();
    }
    producer.join().unwrap();
}

#[test]
fn two_ringers_wake_one_sleeper() {
    model("two ringers", Some(3), || {
        let (bell, mut parking) = doorbell();
        let alarm = Alarm::new();
        parking.connect(alarm.clone());
        let mut receivers = Vec::new();
        let producers: Vec<_> = (0..2)
            .map(|value| {
                let (mut sender, receiver) = ring::<u32>(1);
                receivers.push(receiver);
                let bell = bell.clone();
                thread::spawn(move || {
                    sender.send(value).unwrap();
                    bell.ring();
                })
            })
            .collect();
        let mut received = 0;
        while received < 2 {
            received += receivers.iter_mut().filter_map(|r| r.receive()).count();
            if received == 2 {
                break;
            }
            parking.prepare();
            if receivers.iter().all(|r| r.is_empty()) {
                alarm.wait();
            }
            parking.cancel();
        }
        producers.into_iter().for_each(|producer| producer.join().unwrap());
    });
}

#[test]
fn a_sender_that_was_refused_is_woken_when_there_is_room() {
    bounded("two engines, one refused", || {
        let mut ends = mesh::<u32>(2, 1);
        let (mut one, mut zero) = (ends.pop().unwrap(), ends.pop().unwrap());
        let sender = thread::spawn(move || {
            let alarm = Alarm::new();
            zero.parking().connect(alarm.clone());
            run_engine(&mut zero, &alarm, 2, 0);
        });
        let alarm = Alarm::new();
        one.parking().connect(alarm.clone());
        run_engine(&mut one, &alarm, 0, 2);
        sender.join().unwrap();
    });
}

#[test]
fn two_engines_that_talk_to_each_other_finish() {
    complete("two engines that talk", || {
        let mut ends = mesh::<u32>(2, 1);
        let (mut one, mut zero) = (ends.pop().unwrap(), ends.pop().unwrap());
        let other = thread::spawn(move || {
            let alarm = Alarm::new();
            zero.parking().connect(alarm.clone());
            run_engine(&mut zero, &alarm, 1, 1);
        });
        let alarm = Alarm::new();
        one.parking().connect(alarm.clone());
        run_engine(&mut one, &alarm, 1, 1);
        other.join().unwrap();
    });
}

/// The model can fail: the same protocol without its fences loses a wake, and loom finds it.
#[test]
#[should_panic(expected = "deadlock")]
fn without_the_fences_a_wake_is_lost() {
    complete("no fences", || {
        let filled = Arc::new(AtomicUsize::new(0));
        let parked = Arc::new(AtomicBool::new(false));
        let alarm = Alarm::new();
        let ringer = {
            let (filled, parked, alarm) = (filled.clone(), parked.clone(), alarm.clone());
            thread::spawn(move || {
                filled.store(1, Ordering::Release);
                if parked.load(Ordering::Relaxed) && parked.swap(false, Ordering::AcqRel) {
                    alarm.wake();
                }
            })
        };
        parked.store(true, Ordering::Relaxed);
        if filled.load(Ordering::Acquire) == 0 {
            alarm.wait();
        }
        ringer.join().unwrap();
    });
}
