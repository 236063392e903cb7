//! Each script against honest nodes, and what must hold all the same.

mod room;

use std::time::Duration;

use pangea_base::Entropy;
use pangea_engine::client::GetError;
use room::Room;

use super::{Harm, Script};

const HOLDERS: u8 = 5;
/// A put or a get with one enemy among its holders is over by then.
const BOUND: Duration = Duration::from_secs(120);

fn bytes_of(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    Entropy::new([seed; 32]).fill(&mut bytes);
    bytes
}

fn holders() -> impl Iterator<Item = Script> {
    let now = std::time::Instant::now();
    let is_holder = move |script: &Script| {
        let identity = pangea_base::Identity::from_seed(pangea_base::Secret::new([1; 32]));
        let at = "10.9.9.9:1".parse().expect("it is one");
        super::enemy(*script, identity, at, Entropy::new([1; 32]), now).is_holder()
    };
    Script::ALL.iter().copied().filter(is_holder)
}

/// Puts and gets a few times with the enemy among the holders.
fn put_and_get(script: Script, seed: u8) -> Room {
    let mut room = Room::new(seed, HOLDERS, script);
    let mut is_named = false;
    for round in 0..4 {
        let bytes = bytes_of(round, 2_000_000);
        let put = room.put(&bytes, room.everybody());
        let told = format!("{script:?}: {:?} {:?}", put.took, put.troubles);
        let outcome = put.result.unwrap_or_else(|e| panic!("{e:?} {told}"));
        assert!(put.took < BOUND, "{told}");
        let hurt = put.troubles.iter().any(|(peer, _)| *peer == room.enemy.addr().peer);
        assert!(outcome.complete || hurt, "who made it incomplete is named: {told}");
        let honest = put.troubles.iter().find(|(peer, _)| *peer != room.enemy.addr().peer);
        assert!(honest.is_none(), "honest holders are in no trouble: {told}");
        let (got, get) = room.get(&outcome.link);
        let told = format!("{script:?}: {:?} {:?} {:?}", get.took, get.troubles, get.bad);
        assert!(get.result.is_ok(), "{:?} {told}", get.result);
        assert!(got == bytes && get.took < BOUND, "{told}");
        let enemy = room.enemy.addr().peer;
        let blamed = get.bad.iter().chain(&get.troubles).find(|(peer, _)| *peer != enemy);
        // Who is asked for what he never had, on a forger's word, says so.
        let sent_astray = script == Script::PlacementForger;
        assert!(blamed.is_none() || sent_astray, "honest holders are in no trouble: {told}");
        let names = get.bad.iter().any(|(peer, _)| *peer == enemy);
        assert!(names || script != Script::TableLiar, "it is named: {told}");
        is_named |= names;
    }
    // A get that has enough from others first does not hear every wrong byte.
    assert!(is_named || script != Script::Liar, "{script:?} is named");
    room
}

#[test]
fn every_script_has_a_name_and_a_meaning_of_its_own() {
    for (at, script) in Script::ALL.iter().enumerate() {
        assert!(script.meaning().ends_with('.'), "{script:?}");
        assert!(Script::ALL[..at].iter().all(|other| other.name() != script.name()));
        assert_eq!(super::harm(*script), script.harm());
    }
}

#[test]
fn a_put_and_a_get_survive_every_holder_that_follows_a_script() {
    for script in holders() {
        let started = std::time::Instant::now();
        let room = put_and_get(script, 1);
        eprintln!("{script:?} {:?} {:?}", started.elapsed(), room.enemy.deeds());
        assert!(!room.enemy.deeds().is_empty(), "{script:?} came to no deed");
    }
}

/// An honest client puts and gets while a caller is at work.
fn beside(script: Script, seed: u8, time: Duration) -> Room {
    let mut room = Room::new(seed, HOLDERS, script);
    let quarter = time / 4;
    for round in 0..4 {
        room.run_for(quarter);
        let bytes = bytes_of(round, 1_000_000);
        let put = room.put(&bytes, room.honest());
        let told = format!("{script:?} {:?} {:?}", put.took, put.troubles);
        let outcome = put.result.unwrap_or_else(|e| panic!("{e:?} {told}"));
        assert!(outcome.complete && put.took < BOUND, "{told}");
        let (got, get) = room.get(&outcome.link);
        assert!(get.result.is_ok() && got == bytes, "{script:?} {:?} {:?}", get.result, get.bad);
        assert!(get.bad.is_empty() && get.took < BOUND, "{script:?} {:?}", get.bad);
    }
    assert!(!room.enemy.deeds().is_empty(), "{script:?} came to no deed");
    room
}

#[test]
fn honest_clients_are_served_beside_every_caller_that_follows_a_script() {
    let holders: Vec<Script> = holders().collect();
    for script in Script::ALL.iter().filter(|script| !holders.contains(script)) {
        assert_eq!(script.harm(), Harm::Nothing);
        let started = std::time::Instant::now();
        let mut room = beside(*script, 2, Duration::from_secs(40));
        eprintln!("{script:?} {:?} {:?}", started.elapsed(), room.enemy.deeds());
        let most = pangea_engine::limits::SERVED_STREAMS_PER_PEER_MAX + 64;
        assert!(room.most_requests <= most, "{script:?}: {} requests", room.most_requests);
        room.assert_tidy();
    }
}

#[test]
fn one_peer_with_many_connections_leaves_places_for_others() {
    let room = beside(Script::StreamOpener, 8, Duration::from_secs(20));
    let most = pangea_engine::limits::SERVED_STREAMS_PER_PEER_MAX;
    assert!(room.did("silent streams opened") > 2 * most as u64, "it tried");
    assert!(room.most_requests >= most, "it got what one may get");
    assert!(room.most_requests < most + 64, "and no more: {}", room.most_requests);
}

#[test]
fn a_put_to_nobody_but_a_slow_holder_ends() {
    for script in [Script::Dripper, Script::Hoarder, Script::Staller] {
        let mut room = Room::new(9, 0, script);
        let put = room.put(&bytes_of(1, 2_000_000), room.everybody());
        assert!(put.result.is_err(), "{script:?}");
        assert!(put.took < BOUND, "{script:?}: {:?} {:?}", put.took, put.troubles);
        assert_eq!(put.troubles.len(), 1, "{:?}", put.troubles);
    }
}

#[test]
fn a_get_from_nobody_but_a_slow_holder_ends() {
    for script in [Script::DripFeeder, Script::Mute] {
        let mut room = Room::new(10, 0, script);
        let outcome = room.put(&bytes_of(1, 2_000_000), room.everybody()).result;
        let (_, get) = room.get(&outcome.expect("it stores").link);
        assert!(get.result.is_err() && get.took < BOUND, "{script:?} {:?}", get.took);
        assert_eq!(get.troubles.len(), 1, "{:?}", get.troubles);
    }
}

#[test]
fn a_put_and_a_fetch_at_a_trickle_lose_their_place() {
    for script in [Script::SlowLoris, Script::SlowTaker] {
        let mut room = Room::new(11, 1, script);
        room.run_for(Duration::from_secs(150));
        assert!(room.did("requests cut off by the node") >= 2, "{:?}", room.enemy.deeds());
        assert_eq!(room.did("moves given up"), 0, "{:?}", room.enemy.deeds());
        room.assert_tidy();
    }
}

#[test]
fn a_holder_gives_no_lease_without_end() {
    let mut room = Room::new(12, 1, Script::OverPutter);
    room.run_for(Duration::from_secs(20));
    assert!(room.did("leases without end asked for") > 0, "{:?}", room.enemy.deeds());
    assert_eq!(room.did("leases without end got"), 0, "{:?}", room.enemy.deeds());
}

#[test]
fn the_same_seed_gives_the_same_bytes_under_every_script() {
    for script in Script::ALL {
        let run = |seed| {
            let mut room = Room::new(seed, 3, *script);
            let bytes = bytes_of(1, 200_000);
            let _ = room.put(&bytes, room.everybody());
            room.run_for(Duration::from_secs(5));
            room.trace
        };
        assert_eq!(run(3), run(3), "{script:?}");
    }
}

#[test]
fn nobody_is_sent_three_times_what_seemed_to_come_from_him() {
    let mut room = beside(Script::Spoofer, 4, Duration::from_secs(60));
    let spoofed = room.seen.iter().filter(|(at, (from, _))| {
        *from > 0 && matches!(at.ip(), std::net::IpAddr::V4(ip) if ip.octets()[0] == 203)
    });
    let spoofed: Vec<_> = spoofed.collect();
    assert!(spoofed.len() > 100, "{}", spoofed.len());
    for (at, (from, to)) in &spoofed {
        assert!(*to <= 3 * from, "{at}: {to} bytes for {from}");
    }
    assert!(spoofed.iter().any(|(_, (_, to))| *to > 0), "it was answered at all");
    room.assert_tidy();
}

#[test]
fn an_object_that_is_a_bomb_ends_in_an_honest_error_or_in_its_own_bytes() {
    let mut room = Room::new(5, 4, Script::BombMaker);
    room.run_for(Duration::from_secs(120));
    assert_eq!(room.did("bombs laid"), 4, "{:?}", room.enemy.deeds());
    let texts: Vec<String> =
        room.enemy.offers().iter().map(|link| link.reveal().to_string()).collect();
    assert_eq!(texts.len(), 4);
    for (at, text) in texts.iter().enumerate() {
        let link = text.parse().expect("it is a link");
        let (bytes, get) = room.get(&link);
        match &get.result {
            Ok(outcome) => assert!(at == 2 && outcome.bytes == 8 << 20 && bytes.len() == 8 << 20),
            Err(GetError::WrongKey(_)) => assert!(at != 2),
            Err(other) => panic!("bomb {at}: {other:?} {:?} {:?}", get.troubles, get.bad),
        }
        assert!(get.bad.is_empty(), "no holder is blamed for its author: {:?}", get.bad);
    }
    room.assert_tidy();
}

#[test]
fn a_forged_placement_costs_time_and_not_the_object() {
    let mut room = Room::new(6, HOLDERS, Script::PlacementForger);
    for round in 0..6 {
        let bytes = bytes_of(round, 300_000);
        let outcome = room.put(&bytes, room.everybody()).result.expect("all take part");
        let before = room.did("placements forged");
        let (got, get) = room.get(&outcome.link);
        let told = format!("{round}: {:?} {:?} {:?}", get.took, get.troubles, get.bad);
        assert!(get.result.is_ok() && got == bytes, "{:?} {told}", get.result);
        assert!(get.took < BOUND, "{told}");
        assert!(room.did("placements forged") > before, "it was asked: {told}");
    }
}

#[test]
fn names_have_owners_whoever_takes_them_first() {
    // What a squatter says is read after what the owner says, if at all.
    const GET_MAX: Duration = Duration::from_secs(5);
    let mut room = Room::new(14, HOLDERS, Script::Squatter);
    for round in 0..4 {
        let bytes = bytes_of(round, 1_500_000);
        let put = room.put(&bytes, room.everybody());
        let told = format!("{round}: {:?} {:?}", put.took, put.troubles);
        let outcome = put.result.unwrap_or_else(|e| panic!("{e:?} {told}"));
        let enemy = room.enemy.addr().peer;
        assert!(put.troubles.iter().all(|(peer, _)| *peer == enemy), "{told}");
        room.enemy.told_of(outcome.link.verify_key().locator());
        room.run_for(Duration::from_secs(20));
        let (got, get) = room.get(&outcome.link);
        let told = format!("{round}: {:?} {:?} {:?}", get.took, get.troubles, get.bad);
        assert!(get.result.is_ok() && got == bytes && get.bad.is_empty(), "{told}");
        assert!(get.took < GET_MAX, "{told}");
        let begun = room.now;
        let stat = room.stat(&outcome.link).unwrap_or_else(|e| panic!("{e:?}"));
        assert!(room.now - begun < GET_MAX, "{:?}", room.now - begun);
        assert!(stat.chunks.iter().all(|chunk| chunk.losses_left() >= 2), "{:?}", stat.holders);
    }
    assert!(room.did("receipts got") + room.did("pages stored") > 0, "{:?}", room.enemy.deeds());
    assert!(room.did("lists of shards heard") > 0, "{:?}", room.enemy.deeds());
    room.assert_tidy();
}

#[test]
fn who_forged_the_manifest_is_named_although_the_get_succeeded() {
    let mut room = Room::new(7, HOLDERS, Script::ManifestForger);
    let bytes = bytes_of(1, 300_000);
    let outcome = room.put(&bytes, room.everybody()).result.expect("all take part");
    let (got, get) = room.get(&outcome.link);
    assert!(get.result.is_ok() && got == bytes);
    let enemy = room.enemy.addr().peer;
    assert!(get.bad.iter().any(|(peer, _)| *peer == enemy), "{:?}", get.bad);
}

#[test]
fn a_stat_ends_with_what_honest_holders_have() {
    let scripts = [
        (Script::Giant, "giant claims made"),
        (Script::Selective, "shards told of"),
        (Script::PlacementForger, "placements forged"),
        (Script::Mute, "fetches left without an answer"),
    ];
    for (script, deed) in scripts {
        let mut room = Room::new(13, HOLDERS, script);
        for round in 0..5 {
            let bytes = bytes_of(round, 100_000);
            let outcome = room.put(&bytes, room.everybody()).result.expect("all take part");
            let begun = room.now;
            let stat = room.stat(&outcome.link).unwrap_or_else(|e| panic!("{script:?}: {e:?}"));
            assert!(room.now - begun < BOUND, "{script:?}: {:?}", room.now - begun);
            let least = stat.chunks.iter().map(|chunk| chunk.losses_left()).min();
            assert!(least >= Some(2), "{script:?}: {least:?} {:?}", stat.holders);
        }
        assert!(room.did(deed) > 0, "{script:?} {:?}", room.enemy.deeds());
    }
}
