use std::time::Duration;

use pangea_wire::Whose;

use super::world::*;
use super::*;
use crate::limits::{
    GRANTS_MAX, MAKE_ROOM_EVERY, MAKE_ROOM_PATIENCE, RESERVATION_IDLE, WAITING_GRANTS_PER_PEER_MAX,
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn listed(numbers: impl IntoIterator<Item = u64>) -> Accept {
    Accept::Listed(numbers.into_iter().map(peer).collect())
}

fn over() -> StoreRefusal {
    StoreRefusal::BadGrant(AuthRefused::Grant(GrantRefused::Over))
}

#[test]
fn one_peer_gets_a_tenth_and_is_told_of_what() {
    let mut world = World::new(1000, Accept::Any);
    let quota =
        |used| StoreRefusal::OverQuota { whose: Whose::Peer, used, limit: 100, capacity: 1000 };
    assert_eq!(world.grant(1, HERE, 101).unwrap_err(), quota(0));
    assert!(world.grant(1, HERE, 60).is_ok());
    assert_eq!(world.grant(1, HERE, 41).unwrap_err(), quota(60));
    assert!(world.grant(1, HERE, 40).is_ok());
}

#[test]
fn ten_peers_fill_the_node_and_the_next_is_told_that_it_is_full() {
    let mut world = World::new(1000, Accept::Any);
    for number in 1..=10 {
        let grant = world.grant(number, HERE, 100).unwrap();
        for _ in 0..10 {
            let write = world.spend(&grant, 10).unwrap();
            world.settle(write, 10);
        }
        assert!(world.grant(number, HERE, 1).is_err());
    }
    assert_eq!(world.grant(11, HERE, 1).unwrap_err(), StoreRefusal::Full { capacity: 1000 });
    world.check();
}

#[test]
fn many_identities_from_one_network_share_one_tenth() {
    let mut world = World::new(1000, Accept::Any);
    let (near, far) = (network(1), network(2));
    let first = world.grant(1, near, 60).unwrap();
    let write = world.spend_on((0, 1), &first, near, 60).unwrap();
    world.settle(write, 60);
    let refused = world.grant(2, near, 60).unwrap_err();
    let whose = Whose::Network;
    assert_eq!(refused, StoreRefusal::OverQuota { whose, used: 60, limit: 100, capacity: 1000 });
    assert!(world.grant(2, far, 60).is_ok());
}

#[test]
fn listed_and_nobody_mean_what_they_say() {
    let mut world = World::new(1000, listed([1]));
    assert!(world.grant(1, HERE, 900).is_ok());
    assert_eq!(world.ledger.reserved(), 900, "who is listed is trusted with all of it");
    assert_eq!(world.grant(2, HERE, 1).unwrap_err(), StoreRefusal::NotAccepting);
    assert_eq!(world.grant(1, HERE, 101).unwrap_err(), StoreRefusal::Full { capacity: 1000 });
    let mut world = World::new(1000, Accept::Nobody);
    assert_eq!(world.grant(1, HERE, 1).unwrap_err(), StoreRefusal::NotAccepting);
}

#[test]
fn a_grant_cannot_be_spent_beyond_its_size() {
    let mut world = World::new(1000, Accept::Any);
    let grant = world.grant(1, HERE, 100).unwrap();
    assert!(world.spend(&grant, 60).is_ok());
    assert_eq!(world.spend(&grant, 41).unwrap_err(), StoreRefusal::OverGrant { limit: 100 });
    assert!(world.spend(&grant, 40).is_ok());
    assert_eq!((world.ledger.used(), world.ledger.reserved()), (100, 0));
}

#[test]
fn a_shard_that_was_not_stored_may_be_sent_once_more() {
    let mut world = World::new(1000, listed([1]));
    let grant = world.grant(1, HERE, 100).unwrap();
    for _ in 0..5 {
        let write = world.spend(&grant, 100).unwrap();
        assert_eq!((world.ledger.used(), world.ledger.reserved()), (100, 0));
        world.settle(write, 0);
        assert_eq!((world.ledger.used(), world.ledger.reserved()), (0, 100));
    }
    let write = world.spend(&grant, 100).unwrap();
    world.settle(write, 30);
    assert_eq!((world.ledger.used(), world.ledger.reserved()), (30, 0), "the rest is not needed");
    world.check();
}

#[test]
fn the_end_of_a_put_gives_back_what_is_left_at_once() {
    let mut world = World::new(1000, listed([1]));
    let grant = world.grant(1, HERE, 600).unwrap();
    let write = world.spend(&grant, 100).unwrap();
    world.settle(write, 100);
    world.release(peer(2), locator(1));
    assert_eq!(world.ledger.reserved(), 500, "somebody else has no say in it");
    world.release(peer(1), locator(1));
    assert_eq!((world.ledger.used(), world.ledger.reserved()), (100, 0));
    // A shard that came late: it is taken, and nothing is set aside behind it.
    let write = world.spend(&grant, 100).unwrap();
    assert_eq!(world.ledger.reserved(), 0);
    world.settle(write, 0);
    assert_eq!((world.ledger.used(), world.ledger.reserved()), (100, 0));
    world.check();
}

#[test]
fn a_closed_connection_gives_back_at_once_and_a_lost_one_after_a_minute() {
    for (parting, after) in [(Parting::Closed, Duration::ZERO), (Parting::Lost, RESERVATION_IDLE)] {
        let mut world = World::new(1000, listed([1, 2]));
        world.grant(1, HERE, 600).unwrap();
        world.pass(HOUR);
        world.gone((1, 1), parting);
        world.gone((0, 2), parting);
        assert_eq!(world.ledger.reserved(), 600, "other connections ended");
        world.gone((0, 1), parting);
        world.pass(after);
        world.grant(2, HERE, 10).unwrap();
        assert_eq!(world.ledger.reserved(), 10);
        world.check();
    }
}

#[test]
fn a_grant_lives_as_long_as_any_connection_that_used_it() {
    let mut world = World::new(1000, listed([1]));
    let grant = world.grant(1, HERE, 600).unwrap();
    world.spend_on((1, 7), &grant, HERE, 10).unwrap();
    world.gone((0, 1), Parting::Closed);
    // The user's input stalls.
    world.pass(5 * HOUR);
    assert_eq!(world.ledger.owners(world.now, world.wall).0[0].reserved, 600);
    world.gone((1, 7), Parting::Lost);
    world.pass(MINUTE - Duration::from_secs(1));
    assert_eq!(world.ledger.owners(world.now, world.wall).0[0].reserved, 600);
    // Its origin is back in time, on yet another core.
    world.spend_on((0, 9), &grant, HERE, 10).unwrap();
    world.pass(30 * MINUTE);
    world.ledger.let_go(world.now, world.wall);
    assert_eq!(world.ledger.reserved(), 580);
    world.pass(HOUR);
    world.ledger.let_go(world.now, world.wall);
    assert_eq!(world.ledger.reserved(), 0, "six hours are over");
    assert_eq!(world.spend(&grant, 1).unwrap_err(), over());
    world.check();
}

#[test]
fn a_lapsed_grant_still_works_and_takes_what_it_needs() {
    let mut world = World::new(1000, Accept::Any);
    let grant = world.grant(1, HERE, 100).unwrap();
    world.gone((0, 1), Parting::Lost);
    world.pass(RESERVATION_IDLE);
    assert!(world.grant_on((0, 5), peer(1), HERE, locator(5), 50).is_ok());
    assert!(world.spend(&grant, 50).is_ok());
    assert!(world.spend(&grant, 50).is_err(), "the tenth is used up by the second grant");
    world.check();
}

#[test]
fn the_quota_of_a_network_survives_a_restart() {
    let mut world = World::new(1000, Accept::Any);
    let (home, away) = (network(1), network(2));
    for number in 1..=2 {
        let grant = world.grant(number, home, 45).unwrap();
        let write = world.spend_on((0, number), &grant, home, 45).unwrap();
        world.settle(write, 45);
        world.tell(peer(number), locator(number));
    }
    world.restart();
    world.check();
    assert_eq!(world.ledger.used(), 90);
    assert!(matches!(
        world.grant(3, home, 11),
        Err(StoreRefusal::OverQuota { whose: Whose::Network, used: 90, .. })
    ));
    assert!(world.grant(3, home, 10).is_ok());
    assert!(world.grant(1, away, 55).is_ok());
    assert!(matches!(
        world.grant(2, away, 56),
        Err(StoreRefusal::OverQuota { whose: Whose::Peer, used: 45, .. })
    ));
}

#[test]
fn bytes_count_where_they_came_from_and_go_back_there() {
    let mut world = World::new(10_000, Accept::Any);
    let (home, away) = (network(1), network(2));
    let grant = world.grant(1, home, 300).unwrap();
    let reserved = world.ledger.reserved();
    assert_eq!(world.ledger.accounts.network(home).reserved, reserved);
    // Its origin went elsewhere in the middle of the put.
    let write = world.spend_on((0, 2), &grant, away, 100).unwrap();
    assert_eq!(world.ledger.accounts.network(home).all(), 0, "what was set aside moved along");
    world.settle(write, 100);
    let write = world.spend_on((0, 1), &grant, home, 100).unwrap();
    world.settle(write, 100);
    world.check();
    world.release(peer(1), locator(1));
    let at = world.disk.iter().position(|thing| thing.from == away).unwrap();
    world.delete(at);
    assert_eq!(world.ledger.accounts.network(away).all(), 0);
    assert_eq!(world.ledger.accounts.network(home).all(), 100);
    world.check();
}

#[test]
fn what_a_stopped_put_left_behind_gives_way_to_the_next() {
    let mut world = World::new(4 * GIB, Accept::Any);
    let share = 4 * GIB / 10;
    let bytes = 380 * MIB;
    let grant = world.grant(1, HERE, bytes).unwrap();
    for core in [0, 1, 1] {
        let write = world.spend_on((core, 1), &grant, HERE, 60 * MIB).unwrap();
        world.settle(write, 60 * MIB);
    }
    assert!(matches!(
        world.grant_on((0, 2), peer(1), HERE, locator(2), bytes),
        Err(StoreRefusal::OverQuota { used, limit, .. }) if used == bytes && limit == share
    ));
    assert_eq!(world.disk.len(), 3, "a put that goes on keeps what it has");
    world.gone((0, 1), Parting::Closed);
    world.gone((1, 1), Parting::Closed);
    world.pass(MAKE_ROOM_EVERY);
    assert!(world.grant_on((0, 2), peer(1), HERE, locator(2), bytes).is_ok());
    assert!(world.disk.len() < 3);
    world.check();
}

#[test]
fn objects_that_are_whole_and_owners_other_than_oneself_never_give_way() {
    let mut world = World::new(1000 * MIB, Accept::Any);
    world.put(peer(1), HERE, locator(1), &[50 * MIB], 1).unwrap();
    let grant = world.grant(2, HERE, 90 * MIB).unwrap();
    let write = world.spend_on((0, 2), &grant, HERE, 90 * MIB).unwrap();
    world.settle(write, 90 * MIB);
    world.gone((0, 2), Parting::Closed);
    let before = world.disk.clone();
    assert!(world.grant_on((0, 1), peer(1), HERE, locator(3), 60 * MIB).is_err());
    assert_eq!(world.disk, before);
}

#[test]
fn what_is_over_gives_way_to_anybody_when_the_node_is_full() {
    let mut world = World::new(1000, listed(0..10));
    world.put(peer(1), HERE, locator(1), &[], 1).unwrap_err();
    let mut world = World::new(1000 * KIB, listed(0..10));
    world.put(peer(1), HERE, locator(1), &[600 * KIB], 1).unwrap();
    assert!(world.put(peer(2), HERE, locator(2), &[600 * KIB], 1).is_err());
    world.disk.iter_mut().for_each(|thing| thing.is_over = true);
    world.pass(MAKE_ROOM_EVERY);
    world.put(peer(2), HERE, locator(2), &[600 * KIB], 1).unwrap();
    world.check();
}

/// One owner whose share is taken by what a stopped put left behind.
fn with_leftovers(numbers: impl IntoIterator<Item = u64>) -> World {
    let mut world = World::new(100_000, Accept::Any);
    for number in numbers {
        let grant = world.grant(number, HERE, 9000).unwrap();
        let write = world.spend_on((0, number), &grant, HERE, 9000).unwrap();
        world.settle(write, 9000);
        world.gone((0, number), Parting::Closed);
    }
    world
}

fn wish(world: &mut World, number: u64) -> u64 {
    let (origin, locator) = (peer(number), locator(number + 100));
    let caller = number + 100;
    let question = LedgerQuestion::Grant { origin, from: HERE, caller, locator, bytes: 9000 };
    world.ask(0, question)
}

#[test]
fn one_round_is_under_way_and_the_others_wait_their_turn() {
    let mut world = with_leftovers(1..=3);
    let tickets: Vec<u64> = (1..=3).map(|number| wish(&mut world, number)).collect();
    assert_eq!((world.rooms.len(), world.answers.len()), (2, 0), "one round over both cores");
    assert_eq!(world.ledger.waiting(), 3);
    // Who needs nothing to give way is not kept waiting.
    assert!(matches!(world.ask(0, LedgerQuestion::Grant {
        origin: peer(9), from: HERE, caller: 9, locator: locator(9), bytes: 10,
    }), ticket if world.answer(ticket).is_some()));
    world.make_rooms();
    for ticket in tickets {
        assert!(matches!(world.answer(ticket), Some(LedgerAnswer::Granted(_))));
    }
    assert_eq!(world.ledger.waiting(), 0);
    world.check();
}

#[test]
fn an_owner_has_few_wishes_waiting_and_a_round_a_second() {
    let mut world = with_leftovers([1]);
    world.disk.iter_mut().for_each(|thing| thing.has_manifest = true);
    let tickets: Vec<u64> = (0..WAITING_GRANTS_PER_PEER_MAX).map(|_| wish(&mut world, 1)).collect();
    let crowded = wish(&mut world, 1);
    let busy = world.answer(crowded);
    assert!(matches!(busy, Some(LedgerAnswer::Refused(StoreRefusal::Busy))));
    world.rooms.make_contiguous();
    world.make_rooms();
    for ticket in tickets {
        let refused = world.answer(ticket);
        assert!(matches!(refused, Some(LedgerAnswer::Refused(StoreRefusal::OverQuota { .. }))));
    }
    let soon = wish(&mut world, 1);
    assert!(world.rooms.is_empty() && world.answer(soon).is_none(), "no second round so soon");
    assert_eq!(world.ledger.waiting(), 1);
    world.pass(MAKE_ROOM_EVERY);
    assert_eq!(world.rooms.len(), 2, "but then");
    world.make_rooms();
    assert!(matches!(world.answer(soon), Some(LedgerAnswer::Refused(_))));
    assert_eq!((world.ledger.waiting(), world.ledger.deadline()), (0, None));
}

#[test]
fn what_a_put_left_within_a_second_of_the_last_round_gives_way_too() {
    let mut world = with_leftovers([1]);
    let first = wish(&mut world, 1);
    world.make_rooms();
    let Some(LedgerAnswer::Granted(grant)) = world.answer(first) else { panic!("it had room") };
    let write = world.spend_on((0, 101), &grant, HERE, 9000).unwrap();
    world.settle(write, 9000);
    world.gone((0, 101), Parting::Closed);
    let again = wish(&mut world, 1);
    world.make_rooms();
    assert!(world.answer(again).is_none());
    world.pass(MAKE_ROOM_EVERY);
    world.make_rooms();
    assert!(matches!(world.answer(again), Some(LedgerAnswer::Granted(_))));
    world.check();
}

#[test]
fn a_core_that_does_not_answer_keeps_nobody_waiting_for_ever() {
    let mut world = with_leftovers(1..=2);
    let (first, second) = (wish(&mut world, 1), wish(&mut world, 2));
    assert!(world.ledger.deadline().is_some());
    world.pass(MAKE_ROOM_PATIENCE - Duration::from_secs(1));
    assert!(world.answers.is_empty());
    world.pass(Duration::from_secs(1));
    for ticket in [first, second] {
        assert!(matches!(world.answer(ticket), Some(LedgerAnswer::Refused(_))));
    }
    assert_eq!((world.ledger.waiting(), world.ledger.deadline()), (0, None));
    // It answers after all.
    world.make_rooms();
    world.pass(MAKE_ROOM_EVERY);
    assert!(wish(&mut world, 1) > 0 && !world.answers.is_empty());
    world.check();
}

#[test]
fn who_left_while_waiting_gets_nothing() {
    let mut world = with_leftovers(1..=2);
    let (first, second) = (wish(&mut world, 1), wish(&mut world, 2));
    world.gone((0, 101), Parting::Lost);
    world.gone((0, 102), Parting::Lost);
    world.make_rooms();
    assert!(world.answer(first).is_none() && world.answer(second).is_none());
    assert_eq!((world.ledger.waiting(), world.ledger.reserved()), (0, 0));
    world.check();
}

#[test]
fn a_grant_of_this_run_ends_by_the_clock_that_never_jumps() {
    let mut world = World::new(1000, Accept::Any);
    let first = world.grant(1, HERE, 50).unwrap();
    let years = Duration::from_secs(10 * 365 * 24 * 3600);
    world.wall = world.wall.after(years);
    assert!(world.spend(&first, 10).is_ok(), "six hours are not over, whatever the wall says");
    let second = world.grant(2, HERE, 50).unwrap();
    world.wall = UnixTime(world.wall.0 - years.as_secs());
    world.pass(GRANT_LIFETIME);
    assert_eq!(world.spend(&second, 10).unwrap_err(), over(), "though the wall says years");
    world.pass(3 * GRANT_LIFETIME);
    assert_eq!(world.spend(&second, 10).unwrap_err(), over());
}

#[test]
fn a_grant_of_an_earlier_run_ends_by_the_wall() {
    let mut world = World::new(1000, Accept::Any);
    let grant = world.grant(1, HERE, 50).unwrap();
    world.restart();
    world.pass(GRANT_LIFETIME - HOUR);
    assert!(world.spend(&grant, 10).is_ok());
    assert_eq!(world.ledger.grants.get(&grant.nonce).unwrap().ends, world.now + HOUR);
    assert_eq!(world.spend(&grant, 41).unwrap_err(), StoreRefusal::OverGrant { limit: 50 });
    world.restart();
    world.pass(HOUR);
    assert_eq!(world.spend(&grant, 10).unwrap_err(), over());
}

#[test]
fn a_thousand_small_puts_in_a_row_are_taken_from_one_identity() {
    let mut world = World::new(256 * MIB, Accept::Any);
    for number in 0..1000 {
        world.put(peer(1), network(1), locator(number), &[700], 1).unwrap();
        world.pass(Duration::from_millis(2));
    }
    assert_eq!(world.ledger.used(), 1000 * 3 * 4 * KIB);
    assert_eq!(world.ledger.reserved(), 0);
    world.check();
}

#[test]
fn one_peer_cannot_use_up_the_grants_of_all() {
    let mut world = World::new(1 << 40, Accept::Any);
    for number in 0..GRANTS_PER_PEER_MAX as u64 {
        assert!(world.grant_on((0, 1), peer(1), HERE, locator(number), 1).is_ok());
    }
    assert_eq!(world.grant(1, HERE, 1).unwrap_err(), StoreRefusal::Busy);
    assert!(world.grant(2, HERE, 1).is_ok());
    world.pass(RESERVATION_IDLE);
    assert!(world.grant(1, HERE, 1).is_ok(), "the one untouched for longest makes room");
    world.check();
}

#[test]
fn grants_that_one_peer_used_up_keep_nobody_out() {
    let mut world = World::new(1 << 40, Accept::Any);
    for number in 0..GRANTS_MAX as u64 + 10 {
        let object = locator(number);
        let grant = world.grant_on((0, 1), peer(1), HERE, object, 10).unwrap();
        let write = world.spend(&grant, 10).unwrap();
        world.settle(write, 0);
        world.release(peer(1), object);
        world.disk.clear();
    }
    assert!(world.grant(2, HERE, 1).is_ok());
    assert_eq!(world.ledger.grants.len(), GRANTS_MAX);
    world.check();
}

#[test]
fn the_owners_that_take_the_most_are_listed() {
    let mut world = World::new(100 * MIB, Accept::Any);
    for number in 0..OWNERS_SHOWN_MAX as u64 + 5 {
        world.put(peer(number), network(number), locator(number), &[number * 100], 1).unwrap();
    }
    world.grant(3, network(3), 5 * MIB).unwrap();
    let (owners, others) = world.ledger.owners(world.now, world.wall);
    assert_eq!((owners.len(), others), (OWNERS_SHOWN_MAX, 5));
    let first = owners[0];
    assert_eq!((first.owner, first.network, first.reserved), (peer(3), network(3), 5 * MIB));
    assert_eq!((first.held, first.share), (12 * KIB, 10 * MIB));
}
