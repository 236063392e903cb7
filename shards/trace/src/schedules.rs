//! A writer and readers of a whole recorder under thousands of different orders of their threads
//! (shuttle): nothing is torn, every event comes once or is told as lost, and readers come to an
//! end.

use std::time::Instant;

use pangea_base::{CoreId, PeerId};
use shuttle::thread;

use crate::*;

const SCHEDULES: usize = 2_000;

fn log(events: usize) -> EventLog {
    EventLog::start(|| LogConfig {
        node: PeerId([1; 32]),
        core: CoreId(0),
        seed: [1, 2],
        anchor: Instant::now(),
        anchor_nanos: 0,
        clock: Clock::Tick,
        sampling: Sampling::ALL,
        events,
    })
}

/// Event `number`; all its words follow from it.
fn write(tracer: &Tracer, number: u64) {
    let data = EventData::PathMetrics {
        rtt: number as u32,
        conn: !number as u32,
        window: number,
        sent: number << 32,
        lost: !number,
    };
    let event = Event { peer: [number as u8; 32], span: number, ..Event::new(data) };
    tracer.write(event.flagged(crate::flags::PEER));
}

fn check(event: &Event) {
    let number = event.sequence;
    let EventData::PathMetrics { rtt, conn, window, sent, lost } = event.data().unwrap() else {
        panic!("{event:?}");
    };
    assert_eq!((rtt, conn, window), (number as u32, !number as u32, number));
    assert_eq!((sent, lost, event.span), (number << 32, !number, number));
    assert_eq!(event.peer, [number as u8; 32]);
}

/// Reads until all events are accounted for.
fn read(log: &EventLog, events: u64, batch: usize) {
    let (mut next, mut seen, mut read) = (0, 0, Vec::new());
    while seen < events {
        read.clear();
        log.read(&mut next, batch, &mut read);
        assert!(read.len() <= batch);
        for event in &read {
            match event.data() {
                Some(EventData::Gap { lost }) => seen += lost,
                _ => {
                    assert_eq!(event.sequence, seen);
                    check(event);
                    seen += 1;
                }
            }
        }
        thread::yield_now();
    }
    assert_eq!((seen, next), (events, events));
}

fn scenario(slots: usize, events: u64, batches: [usize; 2]) {
    let log = log(slots);
    let readers: Vec<_> = batches
        .into_iter()
        .map(|batch| {
            let log = log.clone();
            thread::spawn(move || read(&log, events, batch))
        })
        .collect();
    let tracer = log.tracer().unwrap();
    (0..events).for_each(|number| write(&tracer, number));
    readers.into_iter().for_each(|reader| reader.join().unwrap());
}

#[test]
fn readers_of_a_small_ring_lose_events_and_are_told_how_many() {
    shuttle::check_random(|| scenario(2, 5, [1, 3]), SCHEDULES);
    shuttle::check_pct(|| scenario(2, 5, [1, 3]), SCHEDULES, 3);
}

#[test]
fn readers_of_a_ring_that_is_large_enough_see_everything() {
    shuttle::check_random(|| scenario(8, 6, [2, 8]), SCHEDULES);
    shuttle::check_pct(|| scenario(8, 6, [2, 8]), SCHEDULES, 3);
}

#[test]
fn the_right_to_write_goes_from_thread_to_thread_and_numbers_go_on() {
    let scenario = || {
        let log = log(8);
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let log = log.clone();
                thread::spawn(move || {
                    loop {
                        if let Some(tracer) = log.tracer() {
                            (0..2).for_each(|_| write(&tracer, tracer.next_sequence()));
                            return (tracer.draw(), tracer.draw());
                        }
                        thread::yield_now();
                    }
                })
            })
            .collect();
        let mut drawn = Vec::new();
        for thread in threads {
            let (one, two) = thread.join().unwrap();
            drawn.extend([one, two]);
        }
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 4, "no number twice");
        let events = log.snapshot();
        assert_eq!(events.len(), 4);
        events.iter().for_each(check);
    };
    shuttle::check_random(scenario, SCHEDULES);
    shuttle::check_pct(scenario, SCHEDULES, 3);
}
