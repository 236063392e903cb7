use std::net::SocketAddr;

use super::*;
use crate::{Congestion, KeepAlive, TRAIN_BYTES_MAX};

fn over(seed: u8, network: Network, config: Config) -> Pair {
    let mut pair = Pair::new(seed, config);
    pair.network = network;
    pair
}

#[test]
fn everything_arrives_over_a_network_that_loses_one_in_twenty() {
    for seed in 0..3 {
        let mut pair = over(seed, Network { loss: 50, ..Network::GOOD }, config(0));
        let (a, b) = connect(&mut pair);
        transfer(&mut pair, a, b, 3, 1 << 20);
        assert!(pair.a.transport.conn_stats(a).unwrap().lost_packets > 0);
    }
}

#[test]
fn everything_arrives_in_order_over_a_network_that_reorders_and_repeats() {
    let network = Network { reordered: 200, duplicates: 100, ..Network::GOOD };
    let mut pair = over(4, network, config(0));
    let (a, b) = connect(&mut pair);
    transfer(&mut pair, a, b, 3, 1 << 20);
}

#[test]
fn bbr_carries_the_same_bytes() {
    let network = Network { loss: 10, ..Network::GOOD };
    let mut pair = over(4, network, Config { congestion: Congestion::Bbr, ..config(0) });
    let (a, b) = connect(&mut pair);
    transfer(&mut pair, a, b, 2, 1 << 20);
}

/// The MTU that A has found on a path that carries `path`, when its interface allows `mtu_max`.
fn discovered(mtu_max: u16, path: usize) -> (u16, Pair, ConnId, ConnId) {
    let mut pair = over(1, Network { mtu: path, ..Network::GOOD }, Config { mtu_max, ..config(0) });
    let (a, b) = connect(&mut pair);
    transfer(&mut pair, a, b, 1, 4 << 20);
    pair.run_for(seconds(20));
    transfer(&mut pair, a, b, 1, 4 << 20);
    assert!(pair.longest_train <= TRAIN_BYTES_MAX);
    (pair.a.transport.conn_stats(a).unwrap().mtu, pair, a, b)
}

#[test]
fn mtu_discovery_finds_what_the_path_carries() {
    for (mtu_max, path) in [(1_472, 1_472), (8_972, 8_972), (8_972, 1_472), (65_507, 65_488)] {
        let (mtu, ..) = discovered(mtu_max, path);
        let least = path.min(usize::from(mtu_max));
        let found = usize::from(mtu);
        assert!(found <= least && found + 60 >= least, "{mtu} of {path}, allowed {mtu_max}");
    }
}

#[test]
fn a_path_that_stops_carrying_large_datagrams_is_survived() {
    let (mtu, mut pair, a, b) = discovered(8_972, 8_972);
    assert!(mtu > 8_900);
    pair.network.mtu = 1_300;
    transfer(&mut pair, a, b, 1, 4 << 20);
    let stats = pair.a.transport.conn_stats(a).unwrap();
    assert!(stats.mtu <= 1_300 && stats.black_holes > 0, "{stats:?}");
    pair.a.transport.keep_alive(pair.now, a, KeepAlive::Every(seconds(10)));
    pair.network.mtu = 8_972;
    pair.run_for(seconds(70));
    transfer(&mut pair, a, b, 1, 4 << 20);
    assert!(pair.a.transport.conn_stats(a).unwrap().mtu > 8_900, "and it is found again");
}

#[test]
fn a_train_never_exceeds_what_one_send_carries() {
    for mtu_max in [1_452, 1_500, 6_400, 8_952, 30_000, 40_000, 65_507] {
        let (_, pair, ..) = discovered(mtu_max, 65_507);
        assert!(pair.longest_train <= TRAIN_BYTES_MAX, "{}", pair.longest_train);
        let fair = TRAIN_BYTES_MAX - usize::from(mtu_max);
        assert!(pair.longest_train > fair, "{} with {mtu_max}", pair.longest_train);
    }
}

#[test]
fn without_gso_every_send_is_one_datagram() {
    let mut pair = Pair::new(1, Config { gso_segments_max: 1, ..config(0) });
    let (a, b) = connect(&mut pair);
    transfer(&mut pair, a, b, 1, 1 << 20);
    assert!(pair.longest_train <= 1452);
}

#[test]
fn a_quiet_connection_ends_after_the_idle_timeout() {
    let mut pair = Pair::new(1, config(0));
    connect(&mut pair);
    pair.run_for(seconds(29));
    assert_eq!(closed(&mut pair, Which::A), None);
    pair.run_for(seconds(3));
    let idle = ClosedReason::IdleTimedOut(seconds(30));
    assert_eq!(closed(&mut pair, Which::A), Some(idle.clone()));
    assert_eq!(closed(&mut pair, Which::B), Some(idle));
}

#[test]
fn keep_alive_holds_a_quiet_connection_until_it_is_turned_off() {
    let mut pair = Pair::new(1, config(0));
    let (a, _) = connect(&mut pair);
    pair.a.transport.keep_alive(pair.now, a, KeepAlive::Every(seconds(10)));
    pair.run_for(seconds(300));
    assert_eq!(closed(&mut pair, Which::A), None);
    pair.a.transport.keep_alive(pair.now, a, KeepAlive::Off);
    pair.run_for(seconds(60));
    assert!(matches!(closed(&mut pair, Which::A), Some(ClosedReason::IdleTimedOut(_))));
}

#[test]
fn a_dialler_whose_address_changes_is_followed() {
    for tells in [true, false] {
        let mut pair = Pair::new(1, config(0));
        let (a, b) = connect(&mut pair);
        transfer(&mut pair, a, b, 1, 100_000);
        let moved = SocketAddr::from(([10, 7, 7, 7], 4_000));
        pair.a.addr = moved;
        if tells {
            pair.a.transport.address_changed(pair.now);
        }
        transfer(&mut pair, a, b, 1, 1 << 20);
        assert_eq!(pair.b.transport.remote(b), Some(moved));
        assert_eq!(pair.b.transport.connections(), 1);
    }
}

#[test]
fn a_peer_that_restarted_answers_with_a_reset() {
    let mut pair = Pair::new(1, config(0));
    let (a, _) = connect(&mut pair);
    let again = Pair::new(9, config(0));
    pair.b.transport = again.b.transport;
    let stream = pair.a.transport.open(a).unwrap();
    let mut chunk = piece(0, 0, 5_000);
    pair.a.transport.write(a, stream, &mut chunk).unwrap();
    pair.run_for(seconds(2));
    assert_eq!(closed(&mut pair, Which::A), Some(ClosedReason::Reset));
}

#[test]
fn another_cores_connection_is_never_answered() {
    let mut pair = Pair::new(1, config(0));
    let (a, _) = connect(&mut pair);
    // B's core 0 is replaced by a core 3 that shares its keys: the datagrams have gone astray.
    let astray = Pair::new(9, config(3));
    pair.b.transport = astray.b.transport;
    let stream = pair.a.transport.open(a).unwrap();
    let mut chunk = piece(0, 0, 5_000);
    pair.a.transport.write(a, stream, &mut chunk).unwrap();
    let before = pair.sent[1];
    pair.run_for(seconds(2));
    assert_eq!(pair.sent[1], before, "no stateless reset");
    assert_eq!(closed(&mut pair, Which::A), None);
}
