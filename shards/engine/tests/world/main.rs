//! Whole nodes and a client in one simulated world.

mod addresses;
mod world;

use std::time::Duration;

use pangea_engine::ClockStatus;
use pangea_engine::client::{GetError, PutError};
use pangea_engine::message::Report;
use world::{World, bytes_of};

fn round_trip(world: &mut World, bytes: &[u8]) {
    let put = world.put(bytes);
    let outcome = put.result.unwrap_or_else(|e| panic!("{e:?} {:?}", put.troubles));
    assert!(outcome.complete, "{:?}", put.troubles);
    let (got, get) = world.get(&outcome.link);
    get.result.unwrap_or_else(|e| panic!("{e:?} {:?}", get.troubles));
    assert!(got == bytes, "{} bytes come back as they were", bytes.len());
}

#[test]
fn what_is_put_is_got_whatever_its_size() {
    let mut world = World::new(1, 1, 3, 1);
    let (unit, segment, chunk) = (16 << 10, 64 << 10, 1 << 20);
    for edge in [1, unit, 2 * unit, segment, chunk] {
        for length in [edge - 1, edge, edge + 1] {
            round_trip(&mut world, &bytes_of(3, length));
        }
    }
    world.assert_tidy();
}

#[test]
fn any_number_of_holders_will_do() {
    for holders in [1, 2, 3, 14, 20] {
        let mut world = World::new(2, 2, holders, 1);
        round_trip(&mut world, &bytes_of(4, 300_001));
        world.assert_tidy();
    }
}

#[test]
fn what_one_core_stores_another_gives_back() {
    let mut world = World::new(3, 2, 3, 3);
    round_trip(&mut world, &bytes_of(5, 2_500_000));
    world.assert_tidy();
}

#[test]
fn a_lossy_network_delays_and_does_not_damage() {
    let mut world = World::new(4, 1, 4, 2);
    world.loss = 30;
    round_trip(&mut world, &bytes_of(6, 700_000));
}

#[test]
fn the_same_seed_gives_the_same_datagrams() {
    let run = |seed| {
        let mut world = World::new(seed, 2, 5, 2);
        world.loss = 10;
        round_trip(&mut world, &bytes_of(7, 400_000));
        world.trace
    };
    assert_eq!(run(8), run(8));
    assert_ne!(run(8), run(9));
}

#[test]
fn any_four_of_fourteen_may_be_lost_and_a_fifth_is_one_too_many() {
    let bytes = bytes_of(9, 500_000);
    for pattern in [[1, 2, 3, 4, 5], [14, 13, 12, 11, 10], [1, 5, 8, 11, 14], [2, 4, 7, 9, 13]] {
        let mut world = World::new(5, 1, 14, 1);
        let link = world.put(&bytes).result.expect("fourteen holders are enough").link;
        for &lost in &pattern[..4] {
            world.nodes[lost].alive = false;
        }
        let (got, get) = world.get(&link);
        assert!(get.result.is_ok() && got == bytes, "without {pattern:?}: {:?}", get.result);
        assert!(get.bad.is_empty(), "who is gone is not a liar: {:?}", get.bad);
        world.nodes[pattern[4]].alive = false;
        let (_, get) = world.get(&link);
        let error = get.result.err();
        assert_eq!(error, Some(GetError::TooFew { chunk: 0, found: 9, needed: 10 }));
        for lost in pattern {
            let peer = world.nodes[lost].peer;
            assert!(get.troubles.iter().any(|(named, _)| *named == peer), "{lost} is named");
        }
    }
}

#[test]
fn a_put_ends_when_everybody_falls_silent() {
    let mut world = World::new(6, 1, 3, 1);
    let begun = world.now;
    let put = world.put_with(&bytes_of(10, 3_000_000), |world| {
        if world.elapsed() > Duration::from_millis(60) {
            world.nodes[1..].iter_mut().for_each(|node| node.alive = false);
        }
    });
    assert!(put.result.is_err());
    assert!(world.now - begun < Duration::from_secs(120));
    assert_eq!(world.engine(0, 0).held().jobs, 0);
}

#[test]
fn a_put_whose_manifest_reaches_too_few_to_read_it_back_is_no_put() {
    let mut world = World::new(8, 1, 14, 1);
    let (k, latency) = (10, Duration::from_millis(5));
    let mut stored_at = None;
    let put = world.put_with(&bytes_of(12, 300_000), |world| {
        if stored_at.is_none() && (1..=14).all(|node| world.engine(node, 0).stats().shards == 1) {
            stored_at = Some(world.now);
        }
        // The receipts have come, the manifest is on its way.
        if stored_at.is_some_and(|at| world.now >= at + latency) {
            world.nodes[k..].iter_mut().for_each(|node| node.alive = false);
        }
    });
    let failed = put.result.map(|_| ()).unwrap_err();
    assert!(matches!(failed, PutError::Manifest { found: 9, needed: 10 }), "{failed:?}");
}

#[test]
fn a_receipt_that_the_stop_overtakes_is_taken() {
    for seed in 20..60 {
        let mut world = World::new(seed, 1, 14, 1);
        world.loss = 200;
        let put = world.put(&bytes_of(seed, 3_000));
        let stopped = put.troubles.iter().find(|(_, why)| why.contains("stopped"));
        assert_eq!(stopped, None, "seed {seed}");
        assert!(put.result.is_ok_and(|put| put.complete), "seed {seed}: {:?}", put.troubles);
    }
}

#[test]
fn a_get_goes_on_when_its_address_changes_while_it_waits() {
    for moves_after in [1, 8, 16, 26, 37] {
        let mut world = World::new(13, 1, 14, 1);
        let bytes = bytes_of(14, 2_000_000);
        let link = world.put(&bytes).result.unwrap().link;
        world.loss = 200;
        let (begun, mut moved) = (world.now, false);
        let (got, get) = world.get_with(&link, |world| {
            if !moved && world.now >= begun + Duration::from_millis(moves_after) {
                moved = true;
                world.move_node(0);
            }
        });
        assert!(moved && get.result.is_ok() && got == bytes, "{:?}", get.troubles);
        assert!(world.now - begun < Duration::from_secs(5), "{:?}", world.now - begun);
    }
}

#[test]
fn a_dial_survives_a_change_of_address() {
    let mut world = World::new(15, 1, 3, 1);
    let (begun, mut moved) = (world.now, false);
    let put = world.put_with(&bytes_of(16, 10_000), |world| {
        if !moved {
            moved = true;
            world.move_node(0);
        }
    });
    assert!(put.result.is_ok_and(|put| put.complete), "{:?}", put.troubles);
    assert!(world.now - begun < Duration::from_secs(5), "{:?}", world.now - begun);
}

#[test]
fn what_is_asked_on_a_connection_that_only_one_side_knows_of_is_asked_again() {
    let mut world = World::new(19, 1, 3, 1);
    let (begun, mut moved) = (world.now, false);
    let put = world.put_with(&bytes_of(20, 10_000), |world| {
        // The holders' flight is under way: what the client says last in the handshake gets lost, and
        // then it is somewhere else.
        let since = world.now - begun;
        world.loss = if (5..10).contains(&since.as_millis()) { 1000 } else { 0 };
        if !moved && since.as_millis() >= 10 {
            moved = true;
            world.move_node(0);
        }
    });
    assert!(moved && put.result.is_ok_and(|put| put.complete), "{:?}", put.troubles);
    assert!(world.now - begun < Duration::from_secs(8), "{:?}", world.now - begun);
}

#[test]
fn a_slow_holder_is_waited_for_when_there_is_no_other() {
    let mut world = World::new(21, 1, 3, 1);
    let begun = world.now;
    let put = world.put_with(&bytes_of(22, 3_000_000), |world| {
        let since = world.now - begun;
        world.nodes[1].alive = since < Duration::from_millis(60) || since > Duration::from_secs(9);
    });
    assert!(world.now - begun > Duration::from_secs(9), "it was caught in the middle");
    assert!(put.result.is_ok_and(|put| put.complete), "{:?}", put.troubles);
}

#[test]
fn a_late_holder_takes_the_place_of_one_that_refuses() {
    let mut world = World::new(17, 1, 13, 1);
    // The last one has no room, and the first answers only when the others have given grants.
    world.add(14, 1, Some(10));
    world.settle();
    world.nodes[1].alive = false;
    world.code = pangea_base::Code::new(9, 4);
    let begun = world.now;
    let put = world.put_with(&bytes_of(18, 100_000), |world| {
        world.nodes[1].alive = world.now >= begun + Duration::from_millis(700);
    });
    assert!(put.result.is_ok_and(|put| put.complete), "{:?}", put.troubles);
}

#[test]
fn a_node_that_is_told_to_close_in_the_middle_of_a_put_does() {
    let mut world = World::new(7, 1, 3, 1);
    let mut closed_at = None;
    world.put_with(&bytes_of(11, 3_000_000), |world| {
        if closed_at.is_none() && world.elapsed() > Duration::from_millis(60) {
            closed_at = Some(world.now);
            world.command(1, pangea_base::CoreId(0), pangea_engine::message::Command::Close);
            world.run_for(Duration::from_secs(1));
            assert!(world.engine(1, 0).is_closed());
        }
    });
    assert!(closed_at.is_some(), "the put took long enough to be caught in the middle");
}

const DAY: u64 = 86_400;

/// What the nodes said of their clocks since the last time.
fn clocks_of(world: &mut World, node: usize) -> Vec<ClockStatus> {
    let reports = world.nodes[node].reports.drain(..);
    let clocks = reports.filter_map(|report| match report {
        Report::Clock(status) => Some(status),
        _ => None,
    });
    clocks.collect()
}

#[test]
fn a_holder_whose_clock_jumps_lets_go_of_nothing_until_the_jump_is_a_day_old() {
    let mut world = World::new(23, 1, 3, 3);
    let bytes = bytes_of(24, 300_000);
    let link = world.put(&bytes).result.expect("three holders").link;
    world.run_for(Duration::from_secs(30));
    assert_eq!(clocks_of(&mut world, 1), [ClockStatus::Believed]);
    let held =
        |world: &World| -> u64 { (0..3).map(|core| world.engine(1, core).stats().shards).sum() };
    let before = held(&world);
    assert!(before > 0);
    // Years, and months: far beyond the lease, and far before it.
    for (jump, side) in [(3 * 365, 1), (40, -1), (400, 1)] {
        world.nodes[1].ahead = side * (jump * DAY) as i64;
        let begun = world.now;
        world.run_for(Duration::from_secs(30));
        let doubted = clocks_of(&mut world, 1);
        let Some(ClockStatus::Doubted(doubt)) = doubted.last() else { panic!("{doubted:?}") };
        assert!(doubt.steady_since >= begun, "{doubt:?}");
        world.run_for(Duration::from_secs(12 * 3600));
        assert_eq!(held(&world), before, "{jump} days");
    }
    let (got, get) = world.get(&link);
    assert!(get.result.is_ok() && got == bytes, "{:?}", get.troubles);
    // Set right, and steady: believed again, and the lease is not over.
    world.nodes[1].ahead = 0;
    world.run_for(Duration::from_secs(DAY + 60));
    assert_eq!(clocks_of(&mut world, 1).last(), Some(&ClockStatus::Believed));
    assert_eq!(held(&world), before);
    // Ahead for good: after a day it is believed, and what is past its lease may go.
    world.nodes[1].ahead = (400 * DAY) as i64;
    world.run_for(Duration::from_secs(DAY + 60));
    assert_eq!(held(&world), 0);
}
