//! Engines over a mesh under thousands of different orders of their threads (shuttle). Every one
//! of them must end: a thread that sleeps although there is work for it would be a deadlock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pangea_base::{CoreId, Wake};
use shuttle::thread;

use crate::actors::{Alarm, run_engine};
use crate::{Readiness, mesh};

const SCHEDULES: usize = 3_000;

fn engines(cores: usize, capacity: usize, count: u32) {
    let ends = mesh::<u32>(cores, capacity);
    let expected = count * (cores as u32 - 1);
    let threads: Vec<_> = ends
        .into_iter()
        .map(|mut ends| {
            thread::spawn(move || {
                let alarm = Alarm::new();
                ends.parking().connect(alarm.clone());
                run_engine(&mut ends, &alarm, count, expected);
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn two_engines_that_sleep_between_messages_always_finish() {
    shuttle::check_random(|| engines(2, 8, 5), SCHEDULES);
    shuttle::check_pct(|| engines(2, 8, 5), SCHEDULES, 3);
}

#[test]
fn two_engines_with_rings_too_small_for_them_always_finish() {
    // Nearly every send is refused once, so finishing depends on the news that there is room.
    shuttle::check_random(|| engines(2, 1, 6), SCHEDULES);
    shuttle::check_pct(|| engines(2, 1, 6), SCHEDULES, 3);
}

#[test]
fn three_engines_always_finish() {
    shuttle::check_random(|| engines(3, 2, 3), SCHEDULES);
    shuttle::check_pct(|| engines(3, 2, 3), SCHEDULES, 4);
}

/// The harness can fail: an engine that sends and does not flush is found out.
#[test]
#[should_panic(expected = "deadlock")]
fn a_forgotten_flush_is_found() {
    let scenario = || {
        let mut ends = mesh::<u32>(2, 4);
        let (mut one, mut zero) = (ends.pop().unwrap(), ends.pop().unwrap());
        let sleeper = thread::spawn(move || {
            let alarm = Alarm::new();
            one.parking().connect(alarm.clone());
            run_engine(&mut one, &alarm, 0, 1);
        });
        zero.send(CoreId(1), 0).unwrap();
        sleeper.join().unwrap();
    };
    shuttle::check_random(scenario, SCHEDULES);
}

/// The harness can fail: a receiver that never says that there is room is found out.
#[test]
#[should_panic(expected = "deadlock")]
fn room_that_is_not_announced_is_found() {
    let scenario = || {
        let mut ends = mesh::<u32>(2, 1);
        let (mut one, mut zero) = (ends.pop().unwrap(), ends.pop().unwrap());
        let sender = thread::spawn(move || {
            let alarm = Alarm::new();
            zero.parking().connect(alarm.clone());
            run_engine(&mut zero, &alarm, 2, 0);
        });
        while one.receive().is_none() {
            thread::yield_now();
        }
        sender.join().unwrap();
    };
    shuttle::check_random(scenario, SCHEDULES);
}

/// Counts the wakes that were paid for.
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn the_bell_is_rung_only_when_the_other_side_is_parked_and_once_a_batch() {
    let scenario = || {
        let mut ends = mesh::<u32>(2, 8);
        let (mut one, mut zero) = (ends.pop().unwrap(), ends.pop().unwrap());
        let counter = Arc::new(Counter(AtomicUsize::new(0)));
        one.parking().connect(counter.clone());
        let wakes = || counter.0.load(Ordering::Relaxed);

        (0..3).for_each(|value| zero.send(CoreId(1), value).unwrap());
        zero.flush();
        assert_eq!(wakes(), 0, "it was awake");

        assert_eq!(one.prepare(), Readiness::Work, "values are waiting");
        while one.receive().is_some() {}
        assert_eq!(one.prepare(), Readiness::Sleep);
        (0..3).for_each(|value| zero.send(CoreId(1), value).unwrap());
        assert_eq!(wakes(), 0, "not before the flush");
        zero.flush();
        assert_eq!(wakes(), 1);
        zero.send(CoreId(1), 3).unwrap();
        zero.flush();
        assert_eq!(wakes(), 1, "it was already being woken");
        one.awake();
        zero.flush();
        assert_eq!(wakes(), 1, "it is awake");
    };
    shuttle::check_random(scenario, 1);
}
