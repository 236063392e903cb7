//! Parking, waking, deadlines.

use std::time::{Duration, Instant};

use pangea_reactor::{Driver, DriverChoice, OpenFailed, Park, Steer, bind, uring_available};

use crate::support::{Node, config, on_both};

on_both!(
    another_thread_wakes_a_parked_driver,
    a_wake_before_parking_is_not_lost,
    wakes_from_many_threads_are_never_lost,
    a_waker_outlives_its_driver,
    the_deadline_returns,
    a_passed_deadline_does_not_wait,
    never_parking_does_not_wait,
    an_idle_driver_sleeps,
    a_driver_says_what_it_is,
);

fn another_thread_wakes_a_parked_driver(choice: DriverChoice) {
    let mut node = Node::new(choice);
    let waker = node.driver.waker();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        waker.wake();
    });
    node.until("the wake", |node| node.woken == 1);
    thread.join().unwrap();
}

fn a_wake_before_parking_is_not_lost(choice: DriverChoice) {
    let mut node = Node::new(choice);
    for round in 1..=10 {
        node.driver.waker().wake();
        node.driver.waker().wake();
        node.until("the wake", |node| node.woken == round);
    }
    node.poll(None, Park::Never);
    assert_eq!(node.woken, 10, "two rings before it is heard are one");
}

fn wakes_from_many_threads_are_never_lost(choice: DriverChoice) {
    use std::sync::atomic::{AtomicU64, Ordering};
    let mut node = Node::new(choice);
    let written = AtomicU64::new(0);
    let rounds = 2000;
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let (waker, written) = (node.driver.waker(), &written);
            scope.spawn(move || {
                for _ in 0..rounds {
                    written.fetch_add(1, Ordering::Release);
                    waker.wake();
                }
            });
        }
        // Each park has to end by a wake: were one lost, the last write would not be seen.
        while written.load(Ordering::Acquire) < 3 * rounds {
            let before = node.woken;
            node.until("a wake", |node| node.woken > before);
        }
    });
}

fn a_waker_outlives_its_driver(choice: DriverChoice) {
    let node = Node::new(choice);
    let waker = node.driver.waker();
    drop(node);
    waker.wake();
}

fn the_deadline_returns(choice: DriverChoice) {
    let mut node = Node::new(choice);
    let deadline = Instant::now() + Duration::from_millis(30);
    while Instant::now() < deadline {
        node.poll(Some(deadline), Park::Block);
    }
    assert!(node.datagrams.is_empty() && node.files.is_empty() && node.woken == 0);
}

fn a_passed_deadline_does_not_wait(choice: DriverChoice) {
    let mut node = Node::new(choice);
    for _ in 0..100 {
        node.poll(Some(Instant::now() - Duration::from_millis(1)), Park::Block);
    }
}

fn never_parking_does_not_wait(choice: DriverChoice) {
    let mut node = Node::new(choice);
    for _ in 0..100 {
        node.poll(None, Park::Never);
    }
}

fn an_idle_driver_sleeps(choice: DriverChoice) {
    let mut node = Node::new(choice);
    // After traffic too: what was used is given back once, and then there is nothing to do.
    let to = node.addr;
    node.send(to, b"traffic");
    node.until("the datagram", |node| !node.datagrams.is_empty());
    node.idle(Duration::from_millis(2500));
    assert_eq!(node.driver.stats().trims, 1);
    let before = node.driver.stats().entries;
    node.idle(Duration::from_millis(500));
    let entries = node.driver.stats().entries - before;
    assert!(entries <= 5, "{entries} entries into the kernel in half a second of nothing");
}

fn a_driver_says_what_it_is(choice: DriverChoice) {
    let node = Node::new(choice);
    let caps = node.driver.caps();
    assert_eq!(caps.send_bytes_max, 65_507);
    assert!(!node.driver.why().is_empty());
    assert!(!caps.registered);
    assert_eq!(caps.direct_io, None);
}

#[test]
fn auto_takes_the_ring_where_it_works_and_says_why_not_else() {
    let node = Node::new(DriverChoice::Auto);
    match uring_available() {
        Ok(()) => assert_eq!(node.driver.kind(), pangea_reactor::DriverKind::Uring),
        Err(reason) => {
            assert_eq!(node.driver.kind(), pangea_reactor::DriverKind::Mio);
            assert!(node.driver.why().contains(&reason));
        }
    }
}

#[test]
fn the_ring_asked_for_where_it_does_not_work_is_an_error() {
    let bound = bind("127.0.0.1:0".parse().unwrap(), 1, Steer::Kernel).unwrap();
    let opened =
        Driver::open(&config(DriverChoice::Uring), bound.sockets.into_iter().next().unwrap());
    match uring_available() {
        Ok(()) => assert!(opened.is_ok()),
        Err(_) => assert!(matches!(opened, Err(OpenFailed::NoUring(_)))),
    }
}
