//! The real mesh: who gets what from whom, fairness, limits, and four threads at once.
#![cfg(not(loom))]

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;

use pangea_base::{CoreId, Wake};
use pangea_mesh::{ENDS_MAX, Ends, Full, Readiness, mesh};
use proptest::prelude::*;

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(&self) {
        self.0.unpark();
    }
}

#[test]
fn a_value_reaches_the_thread_it_is_sent_to_and_says_who_sent_it() {
    let mut ends = mesh::<(u8, u8)>(4, 2);
    for source in 0..4u8 {
        for target in (0..4u8).filter(|&target| target != source) {
            ends[source as usize].send(CoreId(target), (source, target)).unwrap();
        }
    }
    for (target, own) in ends.iter_mut().enumerate() {
        assert_eq!(own.own(), CoreId(target as u8));
        assert!(!own.is_empty());
        for _ in 0..3 {
            let (source, value) = own.receive().unwrap();
            assert_eq!(value, (source.0, target as u8));
        }
        assert_eq!(own.receive(), None);
        assert!(own.is_empty());
    }
}

#[test]
fn a_busy_sender_delays_another_by_one_value_a_round() {
    let mut ends = mesh::<u32>(4, 100);
    (0..100).for_each(|value| ends[1].send(CoreId(0), value).unwrap());
    (0..3).for_each(|value| ends[2].send(CoreId(0), value).unwrap());
    (0..3).for_each(|value| ends[3].send(CoreId(0), value).unwrap());
    let order: Vec<u8> = (0..12).map(|_| ends[0].receive().unwrap().0.0).collect();
    assert_eq!(order, [1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 1, 1]);
    // A newcomer has its turn next, whatever is still waiting from thread 1.
    ends[3].send(CoreId(0), 9).unwrap();
    assert_eq!(ends[0].receive().unwrap(), (CoreId(3), 9));
}

#[test]
fn one_full_ring_refuses_and_the_others_do_not() {
    let mut ends = mesh::<u32>(3, 2);
    ends[0].send(CoreId(1), 1).unwrap();
    ends[0].send(CoreId(1), 2).unwrap();
    assert_eq!(ends[0].send(CoreId(1), 3), Err(Full(3)));
    assert_eq!(ends[0].send(CoreId(2), 4), Ok(()));
    assert_eq!(ends[1].receive(), Some((CoreId(0), 1)));
    assert_eq!(ends[0].send(CoreId(1), 3), Ok(()));
}

#[test]
fn news_of_room_comes_once_and_a_refused_value_may_be_given_up() {
    let mut ends = mesh::<u32>(2, 1);
    let (mut one, mut zero) = (ends.pop().unwrap(), ends.pop().unwrap());
    zero.parking().connect(Arc::new(Unpark(thread::current())));
    zero.send(CoreId(1), 1).unwrap();
    assert_eq!(zero.send(CoreId(1), 2), Err(Full(2)));
    assert_eq!(zero.prepare(), Readiness::Sleep, "no room yet");
    zero.awake();
    one.receive().unwrap();
    assert!(zero.is_empty(), "room is announced by the flush, for all rings at once");
    one.flush();
    assert!(!zero.is_empty());
    assert_eq!(zero.prepare(), Readiness::Work);
    assert!(zero.is_empty());
    assert_eq!(zero.prepare(), Readiness::Sleep, "said once");
}

#[test]
fn a_thread_alone_has_nobody_to_hear_from() {
    let mut ends = mesh::<u32>(1, 8);
    let own = &mut ends[0];
    own.parking().connect(Arc::new(Unpark(thread::current())));
    assert_eq!(own.receive(), None);
    assert_eq!(own.prepare(), Readiness::Sleep);
    // Somebody outside the mesh can still wake it; with std's token the park returns at once.
    own.bell_of_self().ring();
    thread::park();
    own.awake();
}

#[test]
fn every_number_that_names_a_core_has_a_place() {
    let mut ends = mesh::<u8>(ENDS_MAX, 1);
    ends[255].send(CoreId(0), 7).unwrap();
    ends[0].send(CoreId(255), 8).unwrap();
    assert_eq!(ends[0].receive(), Some((CoreId(255), 7)));
    assert_eq!(ends[255].receive(), Some((CoreId(0), 8)));
}

#[test]
#[should_panic(expected = "1 to 256")]
fn one_thread_more_than_the_limit_is_a_bug() {
    mesh::<u8>(ENDS_MAX + 1, 1);
}

#[test]
#[should_panic(expected = "no thread sends to itself")]
fn sending_to_oneself_is_a_bug() {
    let _ = mesh::<u8>(2, 1)[1].send(CoreId(1), 0);
}

#[test]
#[should_panic(expected = "has a thread of this number")]
fn sending_to_a_thread_outside_the_mesh_is_a_bug() {
    let _ = mesh::<u8>(2, 1)[1].send(CoreId(2), 0);
}

proptest! {
    #[test]
    fn a_mesh_is_one_bounded_queue_for_every_pair(
        capacity in 1usize..4,
        steps in prop::collection::vec((0u8..3, prop::option::of(0u8..3), any::<u16>()), 0..300),
    ) {
        let mut ends = mesh::<u16>(3, capacity);
        let mut oracle: Vec<VecDeque<u16>> = vec![VecDeque::new(); 9];
        for (own, other, value) in steps {
            match other {
                Some(to) if to == own => ends[own as usize].flush(),
                Some(to) => {
                    let queue = &mut oracle[(own * 3 + to) as usize];
                    let sent = ends[own as usize].send(CoreId(to), value);
                    prop_assert_eq!(sent.is_ok(), queue.len() < capacity);
                    if sent.is_ok() {
                        queue.push_back(value);
                    }
                }
                None => match ends[own as usize].receive() {
                    Some((from, value)) => {
                        let queue = &mut oracle[(from.0 * 3 + own) as usize];
                        prop_assert_eq!(queue.pop_front(), Some(value));
                    }
                    None => (0..3).for_each(|from| {
                        assert!(oracle[(from * 3 + own) as usize].is_empty());
                    }),
                },
            }
        }
    }
}

/// Sends `count` numbers to every other thread and takes in as many from each; sleeps without a
/// time-out whenever there is nothing to do.
fn talk(mut ends: Ends<u64>, count: u64) {
    ends.parking().connect(Arc::new(Unpark(thread::current())));
    let mut sent = vec![0; ends.cores()];
    let mut received = vec![0; ends.cores()];
    sent[ends.own().index()] = count;
    received[ends.own().index()] = count;
    loop {
        while let Some((source, value)) = ends.receive() {
            assert_eq!(value, received[source.index()], "lost, repeated or out of order");
            received[source.index()] += 1;
        }
        for (target, next) in (0u8..).zip(&mut sent) {
            while *next < count && ends.send(CoreId(target), *next).is_ok() {
                *next += 1;
            }
        }
        if sent.iter().chain(&received).all(|&n| n == count) {
            return ends.flush();
        }
        if ends.prepare() == Readiness::Sleep {
            thread::park();
        }
        ends.awake();
    }
}

#[test]
fn four_threads_hear_everything_from_each_other_in_order() {
    for capacity in [1, 3, 64] {
        let threads: Vec<_> = mesh::<u64>(4, capacity)
            .into_iter()
            .map(|ends| thread::spawn(move || talk(ends, 10_000)))
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
