//! Real threads for a second: a writer at full speed and readers that are too slow for it. Nothing
//! is torn, and what was read and what was told as lost is all that was written.
#![cfg(all(feature = "trace", not(loom)))]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pangea_base::{CoreId, PeerId};
use pangea_trace::{
    Clock, Event, EventData, EventLog, LogConfig, Reader, Sampling, TraceContext, TraceFlags,
    TraceId, Tracer,
};

const RUN: Duration = Duration::from_millis(700);

fn log(core: u8, events: usize) -> EventLog {
    EventLog::start(|| LogConfig {
        node: PeerId([7; 32]),
        core: CoreId(core),
        seed: [1, 2],
        anchor: Instant::now(),
        anchor_nanos: 0,
        clock: Clock::Tick,
        sampling: Sampling::ALL,
        events,
    })
}

/// All bytes of an event follow from its number.
fn mixed(number: u64, at: u64) -> u64 {
    (number ^ at << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number >> 7
}

fn event(number: u64) -> Event {
    let word = |at| mixed(number, at).to_le_bytes();
    let mut bytes = [0; 48];
    for (place, at) in bytes.chunks_exact_mut(8).zip(0..) {
        place.copy_from_slice(&word(at));
    }
    let mut peer = [0; 32];
    for (place, at) in peer.chunks_exact_mut(8).zip(6..) {
        place.copy_from_slice(&word(at));
    }
    let id = (u128::from(mixed(number, 10)) << 64 | u128::from(mixed(number, 11))).to_le_bytes();
    let context = TraceContext::new(TraceId(id), mixed(number, 12), TraceFlags::SAMPLED, 0);
    let data = EventData::decode(pangea_trace::Kind::Custom, &bytes);
    Event::new(data).of(&context).with_peer(&PeerId(peer))
}

fn is_whole(read: &Event) -> bool {
    let Event { timestamp, sequence, core, .. } = *read;
    *read == Event { timestamp, sequence, core, ..event(sequence) }
}

/// Writes until told to stop: how many.
fn write(tracer: &Tracer, stop: &AtomicBool) -> u64 {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..64 {
            tracer.tick(Instant::now());
            tracer.write(event(number));
            number += 1;
        }
    }
    number
}

/// What a reader has seen so far of one recorder.
#[derive(Default, Debug)]
struct Seen {
    read: u64,
    lost: u64,
    torn: u64,
}

impl Seen {
    fn take(&mut self, event: &Event) {
        if let Some(EventData::Gap { lost }) = event.data() {
            self.lost += lost;
            return;
        }
        assert_eq!(event.sequence, self.read + self.lost, "in order, without a hole");
        self.read += 1;
        self.torn += u64::from(!is_whole(event));
    }
}

fn overtaken(slots: usize, batch: usize) {
    let log = log(0, slots);
    let stop = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicU64::new(u64::MAX));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (log, written) = (log.clone(), written.clone());
            thread::spawn(move || {
                let (mut next, mut seen, mut events) = (0, Seen::default(), Vec::new());
                while next < written.load(Ordering::Acquire) {
                    events.clear();
                    log.read(&mut next, batch, &mut events);
                    events.iter().for_each(|event| seen.take(event));
                }
                seen
            })
        })
        .collect();
    let writer = {
        let (log, stop) = (log.clone(), stop.clone());
        thread::spawn(move || write(&log.tracer().unwrap(), &stop))
    };
    thread::sleep(RUN);
    stop.store(true, Ordering::Relaxed);
    let total = writer.join().unwrap();
    written.store(total, Ordering::Release);
    for reader in readers {
        let seen = reader.join().unwrap();
        println!("{slots} slots, batches of {batch}: of {total} written {seen:?}");
        assert_eq!(seen.torn, 0);
        assert_eq!(seen.read + seen.lost, total);
        assert!(seen.read > 0);
    }
}

#[test]
fn readers_that_are_overtaken_see_whole_events_and_are_told_of_every_other() {
    overtaken(16, 5);
    overtaken(1024, 300);
}

#[test]
fn the_smallest_ring_tears_nothing() {
    overtaken(1, 4);
    overtaken(2, 4);
}

#[test]
fn two_cores_are_read_as_one() {
    let logs = [log(0, 256), log(1, 64)];
    let (mut reader, mut seen) = (Reader::oldest(&logs), [Seen::default(), Seen::default()]);
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = logs
        .iter()
        .cloned()
        .map(|log| {
            let stop = stop.clone();
            thread::spawn(move || write(&log.tracer().unwrap(), &stop))
        })
        .collect();
    let began = Instant::now();
    while began.elapsed() < RUN {
        let events = reader.poll(100);
        assert!(events.is_sorted_by_key(|event| event.timestamp));
        events.iter().for_each(|event| seen[usize::from(event.core)].take(event));
    }
    stop.store(true, Ordering::Relaxed);
    let written: Vec<u64> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    loop {
        let events = reader.poll(100);
        if events.is_empty() {
            break;
        }
        events.iter().for_each(|event| seen[usize::from(event.core)].take(event));
    }
    for (seen, written) in seen.iter().zip(written) {
        println!("of {written} written {seen:?}");
        assert_eq!((seen.torn, seen.read + seen.lost), (0, written));
        assert!(seen.read > 0);
    }
}
