//! What hostile crowds can and cannot do to a node with grants and writes that they never finish.

use std::time::Duration;

use super::world::*;
use super::*;
use crate::limits::NEWCOMERS_RESERVED_SHARE;

/// A put of a whole share, in shards of 64 MiB, four at a time.
fn honest_put(world: &mut World, share: u64) -> Result<(), StoreRefusal> {
    let (owner, from) = (peer(999_999), network(999_999));
    // Tables and pages are part of what the share has room for.
    let mut left = share - share / 256;
    let mut shards = Vec::new();
    while left > 0 {
        shards.push(left.min(64 * MIB));
        left -= left.min(64 * MIB);
    }
    world.put(owner, from, locator(999_999), &shards, 4)
}

/// Everybody of a crowd asks for as much as it can get, from a network of its own.
fn crowd_reserves(world: &mut World, crowd: u64, share: u64) {
    for number in 0..crowd {
        let mut bytes = share;
        while bytes > 0 {
            let (owner, from) = (peer(number), network(number));
            let asked = world.grant_on((0, number), owner, from, locator(bytes), bytes);
            if asked.is_err() {
                bytes /= 2;
            }
        }
    }
    world.check();
}

#[test]
fn a_newcomer_puts_its_whole_share_at_an_empty_node() {
    for capacity in [256 * MIB, 4 * GIB, 100 * GIB] {
        let mut world = World::new(capacity, Accept::Any);
        honest_put(&mut world, capacity / 10).unwrap();
        world.check();
        assert!(world.ledger.used() <= capacity / 10);
    }
}

#[test]
fn ten_identities_hold_no_node_shut_and_a_thousand_neither() {
    for crowd in [10, 1000] {
        let capacity = 4 * GIB;
        let mut world = World::new(capacity, Accept::Any);
        for _ in 0..3 {
            crowd_reserves(&mut world, crowd, capacity / 10);
            assert!(world.ledger.reserved() <= capacity / NEWCOMERS_RESERVED_SHARE);
            world.pass(Duration::from_secs(600));
        }
        honest_put(&mut world, capacity / 10).unwrap();
        world.check();
    }
}

#[test]
fn a_block_stored_buys_little_more() {
    let capacity = 4 * GIB;
    let mut world = World::new(capacity, Accept::Any);
    for number in 0..500 {
        world.put(peer(number), network(number), locator(number), &[100], 1).unwrap();
    }
    crowd_reserves(&mut world, 500, capacity / 10);
    // What they have on disk secures twice as much, and no more.
    let secured = 2 * world.ledger.used();
    assert!(world.ledger.reserved() <= capacity / NEWCOMERS_RESERVED_SHARE + secured);
    honest_put(&mut world, capacity / 10).unwrap();
}

#[test]
fn writes_that_never_end_leave_room_for_those_who_have_something_here() {
    let capacity = 4 * GIB;
    let mut world = World::new(capacity, Accept::Any);
    let (owner, from) = (peer(5000), network(5000));
    world.put(owner, from, locator(5000), &[100 * MIB], 1).unwrap();
    let mut writes = 0;
    for number in 0..100 {
        let (dripper, at) = (peer(number), network(number));
        let Ok(grant) = world.grant_on((0, number), dripper, at, locator(number), 400 * MIB) else {
            continue;
        };
        for _ in 0..4 {
            writes += u32::from(world.spend_on((0, number), &grant, at, 100 * MIB).is_ok());
        }
    }
    assert!((20..30).contains(&writes), "{writes} of 100 MiB each");
    world.put(owner, from, locator(5001), &[100 * MIB; 2], 2).unwrap();
    world.check();
}

#[test]
fn a_full_node_says_so_before_anything_is_sent() {
    let capacity = 4 * GIB;
    let mut world = World::new(capacity, Accept::Any);
    for number in 0..10 {
        let shards = [39 * MIB; 10];
        world.put(peer(number), network(number), locator(number), &shards, 2).unwrap();
    }
    let refused = honest_put(&mut world, capacity / 10).unwrap_err();
    assert_eq!(refused, StoreRefusal::Full { capacity });
    // What fits the rest is taken.
    honest_put(&mut world, 150 * MIB).unwrap();
    world.check();
}

#[test]
fn what_is_used_makes_more_of_a_reservation() {
    let capacity = 4 * GIB;
    let mut world = World::new(capacity, Accept::Any);
    let (owner, from) = (peer(1), network(1));
    let grant = world.grant_on((0, 1), owner, from, locator(1), 400 * MIB).unwrap();
    let mut reserved = vec![world.ledger.reserved()];
    for _ in 0..5 {
        let write = world.spend_on((0, 1), &grant, from, 32 * MIB).unwrap();
        world.settle(write, 32 * MIB);
        reserved.push(world.ledger.reserved());
    }
    assert_eq!(reserved, [64, 64, 128, 192, 256, 240].map(|mib| mib * MIB));
}
