//! The doorbell and the rings under every order of memory accesses that the memory model allows,
//! with up to four forced switches between threads (loom). Run with
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p pangea-mesh --target-dir target/loom
//! ```
//!
//! (a target directory of its own, because the flag rebuilds every dependency). With loom's atomics
//! the room works inside `loom::model` only, so under the flag the tests in `tests/` are empty.
//! Each of the room's five fences, taken away, makes at least one of these tests fail.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;
use pangea_base::Wake;

use crate::actors::{Alarm, run_engine};
use crate::{doorbell, mesh, ring};

fn model(scenario: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(4);
    builder.check(scenario);
}

#[test]
fn a_sleeper_is_woken_for_every_value() {
    model(|| {
        let (mut sender, mut receiver) = ring::<u32>(2);
        let (bell, mut parking) = doorbell();
        let alarm = Alarm::new();
        parking.connect(alarm.clone());
        let producer = thread::spawn(move || {
            for value in 0..2 {
                sender.send(value).unwrap();
                bell.ring();
            }
        });
        let mut expected = 0;
        while expected < 2 {
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
    });
}

#[test]
fn two_ringers_wake_one_sleeper() {
    model(|| {
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
    model(|| {
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
    model(|| {
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
    model(|| {
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
