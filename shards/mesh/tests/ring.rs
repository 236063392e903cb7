//! The real ring: against an oracle, against its limit, and between two threads.
#![cfg(not(loom))]

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;

use pangea_base::Wake;
use pangea_mesh::{Full, doorbell, ring};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Send(u32),
    Receive,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![any::<u32>().prop_map(Step::Send), Just(Step::Receive)]
}

proptest! {
    #[test]
    fn a_ring_is_a_bounded_first_in_first_out_queue(
        capacity in 1usize..9,
        steps in prop::collection::vec(step(), 0..400),
    ) {
        let (mut sender, mut receiver) = ring(capacity);
        let mut oracle = VecDeque::new();
        for step in steps {
            match step {
                Step::Send(value) if oracle.len() < capacity => {
                    prop_assert_eq!(sender.send(value), Ok(()));
                    oracle.push_back(value);
                }
                Step::Send(value) => prop_assert_eq!(sender.send(value), Err(Full(value))),
                Step::Receive => prop_assert_eq!(receiver.receive(), oracle.pop_front()),
            }
            prop_assert_eq!(receiver.is_empty(), oracle.is_empty());
            prop_assert_eq!(sender.is_full(), oracle.len() == capacity);
        }
    }
}

#[test]
fn one_value_more_than_the_capacity_is_refused_and_comes_back() {
    let (mut sender, mut receiver) = ring(3);
    (0..3).for_each(|value| sender.send(value).unwrap());
    assert!(sender.is_full());
    let refused = sender.send(3).unwrap_err();
    assert_eq!(refused, Full(3));
    assert!(refused.to_string().contains("full"));
    assert_eq!(receiver.receive(), Some(0));
    assert_eq!(sender.send(3), Ok(()));
    assert_eq!((1..=3).map(|_| receiver.receive().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(receiver.receive(), None);
}

#[test]
fn values_left_in_a_ring_are_dropped_once() {
    let value = Arc::new(());
    let (mut sender, mut receiver) = ring(4);
    (0..3).for_each(|_| sender.send(value.clone()).unwrap());
    drop(receiver.receive());
    drop(sender);
    assert_eq!(Arc::strong_count(&value), 3);
    drop(receiver);
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
#[should_panic(expected = "at least one")]
fn a_ring_without_a_slot_is_a_bug() {
    ring::<u8>(0);
}

#[test]
#[should_panic(expected = "must not sleep")]
fn sleeping_before_the_bell_is_connected_is_a_bug() {
    doorbell().1.prepare();
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(&self) {
        self.0.unpark();
    }
}

#[test]
#[should_panic(expected = "connected once")]
fn connecting_a_bell_twice_is_a_bug() {
    let (_bell, parking) = doorbell();
    parking.connect(Arc::new(Unpark(thread::current())));
    parking.connect(Arc::new(Unpark(thread::current())));
}

/// A message that shows any byte that was torn, lost, repeated or mixed up.
struct Message {
    number: u64,
    body: [u8; 40],
    check: blake3::Hash,
}

impl Message {
    fn new(number: u64) -> Message {
        let body = std::array::from_fn(|i| (number >> (i % 8)) as u8 ^ i as u8);
        Message { number, body, check: Message::check(number, &body) }
    }

    fn check(number: u64, body: &[u8]) -> blake3::Hash {
        blake3::Hasher::new().update(&number.to_le_bytes()).update(body).finalize()
    }
}

#[test]
fn two_threads_pass_every_message_once_in_order_and_whole() {
    const MESSAGES: u64 = 300_000;
    // Odd, so that the position in the ring and the number do not run in step.
    let (mut sender, mut receiver) = ring::<Box<Message>>(61);
    let (bell, mut parking) = doorbell();
    let consumer = thread::spawn(move || {
        parking.connect(Arc::new(Unpark(thread::current())));
        let mut expected = 0;
        while expected < MESSAGES {
            if let Some(message) = receiver.receive() {
                assert_eq!(message.number, expected);
                assert_eq!(Message::check(message.number, &message.body), message.check);
                expected += 1;
                continue;
            }
            parking.prepare();
            if receiver.is_empty() {
                // No time-out: if a wake were lost, this test would not end.
                thread::park();
            }
            parking.cancel();
        }
        assert!(receiver.receive().is_none());
    });
    for number in 0..MESSAGES {
        let mut message = Box::new(Message::new(number));
        while let Err(Full(back)) = sender.send(message) {
            message = back;
            bell.ring();
            thread::yield_now();
        }
        // In bursts of different length, so that the consumer sleeps now and then.
        if number % 7 == 0 || number + 1 == MESSAGES {
            bell.ring();
        }
        if number % 10_007 == 0 {
            thread::yield_now();
        }
    }
    consumer.join().unwrap();
}
