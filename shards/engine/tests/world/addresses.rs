//! A peer is a key with addresses: it is found at whichever of them it is, soon, and by whoever knows.

use std::net::SocketAddr;
use std::time::Duration;

use pangea_base::{PeerAddr, ReadKey, Secret};
use pangea_wire::{Link, LinkKey};

use crate::world::{World, bytes_of};

/// Soon: nobody waits for a time-out.
const SOON: Duration = Duration::from_secs(1);

fn elsewhere(at: PeerAddr, port: u16) -> PeerAddr {
    PeerAddr { addr: SocketAddr::new(at.addr.ip(), port), ..at }
}

/// The same link with other hints.
fn with_hints(link: &Link, hints: Vec<PeerAddr>) -> Link {
    let key = ReadKey(Secret::new(*link.read_key().unwrap().0.expose()));
    Link::new(link.manifest, LinkKey::Read(key), hints).unwrap()
}

fn got_soon(world: &mut World, link: &Link, bytes: &[u8]) {
    let begun = world.now;
    let (got, get) = world.get(link);
    assert!(get.result.is_ok() && got == bytes, "{:?} {:?}", get.result, get.troubles);
    assert!(world.now - begun < SOON, "{:?}", world.now - begun);
}

/// All holders are somewhere else than when the object was put, and the client is a new one.
fn moved(seed: u8, cores: u8) -> (World, Link, Vec<u8>) {
    let bytes = bytes_of(seed, 300_000);
    let mut world = World::new(seed, cores, 3, 2);
    let link = world.put(&bytes).result.expect("all is well").link;
    (1..=3).for_each(|node| world.move_node(node));
    world.restart_client();
    (world, link, bytes)
}

#[test]
fn holders_are_found_where_the_user_says_whatever_the_link_says() {
    for cores in [1, 3] {
        let (mut world, link, bytes) = moved(40, cores);
        got_soon(&mut world, &link, &bytes);
        world.restart_client();
        let begun = world.now;
        let stat = world.stat(&link).expect("all holders answer");
        assert!(stat.holders.iter().all(|holder| holder.confirmed == holder.promised));
        assert!(world.now - begun < SOON, "{:?}", world.now - begun);
    }
}

#[test]
fn holders_are_found_where_a_link_says_whatever_their_placement_says() {
    let (mut world, link, bytes) = moved(41, 2);
    world.named = Some(Vec::new());
    let link = with_hints(&link, world.holders());
    got_soon(&mut world, &link, &bytes);
}

#[test]
fn a_wrong_address_from_the_user_does_no_harm_when_the_links_is_right() {
    let mut world = World::new(42, 2, 3, 1);
    let bytes = bytes_of(42, 300_000);
    let link = world.put(&bytes).result.unwrap().link;
    for refuses in [false, true] {
        world.restart_client();
        world.refuses = refuses;
        world.named = Some(world.holders().into_iter().map(|at| elsewhere(at, 1)).collect());
        got_soon(&mut world, &link, &bytes);
        world.restart_client();
        let begun = world.now;
        assert!(world.stat(&link).is_ok());
        assert!(world.now - begun < SOON, "{:?}", world.now - begun);
    }
}

#[test]
fn a_peer_that_only_a_placement_knows_is_looked_for_where_it_says() {
    let mut world = World::new(43, 1, 3, 1);
    let bytes = bytes_of(43, 300_000);
    let link = world.put(&bytes).result.unwrap().link;
    world.restart_client();
    world.named = Some(Vec::new());
    let link = with_hints(&link, world.holders()[..1].to_vec());
    got_soon(&mut world, &link, &bytes);
    // And at once elsewhere, when the user or the link was wrong about it.
    world.restart_client();
    let wrong: Vec<PeerAddr> =
        world.holders().into_iter().skip(1).map(|at| elsewhere(at, 1)).collect();
    world.named = Some(wrong);
    got_soon(&mut world, &link, &bytes);
}

#[test]
fn a_put_tells_others_the_one_of_a_holders_addresses_at_which_it_was_reached() {
    for refuses in [false, true] {
        let mut world = World::new(44, 2, 3, 1);
        world.refuses = refuses;
        let holders = world.holders();
        let named = holders.iter().flat_map(|&at| [elsewhere(at, 1), at, elsewhere(at, 2)]);
        world.named = Some(named.collect());
        let bytes = bytes_of(44, 100_000);
        let begun = world.now;
        let put = world.put(&bytes);
        let outcome = put.result.expect("every holder is reached");
        assert!(outcome.complete && put.troubles.is_empty(), "{:?}", put.troubles);
        assert!(world.now - begun < SOON, "{:?}", world.now - begun);
        assert!(outcome.link.hints().iter().all(|hint| holders.contains(hint)));
        world.restart_client();
        world.named = Some(Vec::new());
        got_soon(&mut world, &outcome.link, &bytes);
    }
}

#[test]
fn the_last_of_as_many_addresses_as_are_kept_has_its_turn() {
    let mut world = World::new(45, 1, 2, 1);
    let holders = world.holders();
    let named = holders.iter().flat_map(|&at| (1..8).map(move |port| elsewhere(at, port)));
    world.named = Some(named.chain(holders.iter().copied()).collect());
    let begun = world.now;
    let put = world.put(&bytes_of(45, 10_000));
    assert!(put.result.is_ok_and(|put| put.complete), "{:?}", put.troubles);
    assert!(world.now - begun < Duration::from_secs(3), "{:?}", world.now - begun);
    // One more is one too many: what was named first is what counts.
    world.restart_client();
    let named = holders.iter().flat_map(|&at| (1..9).map(move |port| elsewhere(at, port)));
    world.named = Some(named.chain(holders.iter().copied()).collect());
    assert!(world.put(&bytes_of(45, 10_000)).result.is_err());
}

#[test]
fn a_client_that_runs_on_goes_by_what_is_said_last_however_often_holders_moved() {
    let mut world = World::new(48, 2, 3, 1);
    let bytes = bytes_of(48, 100_000);
    let link = world.put(&bytes).result.unwrap().link;
    for _ in 0..10 {
        (1..=3).for_each(|node| world.move_node(node));
        // The connections that were up end by themselves, and are found dead.
        world.run_for(Duration::from_secs(60));
        got_soon(&mut world, &link, &bytes);
    }
}

#[test]
fn what_is_refused_ends_at_once_and_in_the_systems_words() {
    let mut world = World::new(46, 3, 3, 1);
    world.refuses = true;
    world.nodes[1..].iter_mut().for_each(|node| node.alive = false);
    let begun = world.now;
    let put = world.put(&bytes_of(46, 10_000));
    assert!(put.result.is_err());
    assert!(world.now - begun < SOON, "{:?}", world.now - begun);
    assert_eq!(put.troubles.len(), 3);
    for (_, why) in &put.troubles {
        assert!(why.contains("connection refused: nothing listens at 10.0."), "{why}");
    }
}

#[test]
fn no_word_of_strangers_ends_a_connection() {
    let mut world = World::new(47, 1, 3, 1);
    let bytes = bytes_of(47, 2_000_000);
    let link = world.put(&bytes).result.unwrap().link;
    world.restart_client();
    let (begun, client) = (world.now, world.nodes[0].addr);
    // From the first moment at which a holder's answer may have come.
    let (got, get) = world.get_with(&link, |world| {
        if world.now >= begun + Duration::from_millis(10) {
            for holder in world.holders() {
                world.tell_unreachable(client, holder.addr);
            }
        }
    });
    assert!(get.result.is_ok() && got == bytes, "{:?}", get.troubles);
    assert!(get.troubles.is_empty(), "{:?}", get.troubles);
}
