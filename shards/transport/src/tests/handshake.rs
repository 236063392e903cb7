use std::net::SocketAddr;

use pangea_base::{CoreId, PeerAddr, PeerId};

use super::*;
use crate::testing::PlainCrypto;
use crate::{ConnectRefused, Crypto};

fn plain(peer: PeerId) -> Box<dyn Crypto> {
    Box::new(PlainCrypto::new(peer))
}

#[test]
fn two_nodes_connect_and_know_each_other() {
    let mut pair = Pair::new(1, config(0));
    let a = pair.dial();
    pair.run_for(seconds(1));
    let (peer_a, peer_b) = (pair.a.peer, pair.b.peer);
    let told = pair.a.events.pop_front();
    let remote = pair.b.addr;
    assert_eq!(told, Some(Event::Connected { conn: a, peer: peer_b, remote, side: Side::Dialled }));
    let Some(Event::Connected { conn, peer, remote, side }) = pair.b.events.pop_front() else {
        panic!("B was not told");
    };
    assert_eq!((peer, remote, side), (peer_a, pair.a.addr, Side::Accepted));
    assert_eq!(pair.b.transport.peer(conn), Some(peer_a));
    assert_eq!(pair.a.transport.peer(a), Some(peer_b));
    assert_eq!(pair.a.transport.remote(a), Some(pair.b.addr));
    assert!(pair.a.transport.rtt(a).is_some_and(|rtt| rtt >= millis(10)));
    assert_eq!((pair.a.transport.connections(), pair.b.transport.connections()), (1, 1));
    assert!(pair.a.events.is_empty() && pair.b.events.is_empty());
}

#[test]
fn a_node_that_is_not_the_one_dialled_is_refused_and_both_are_named() {
    let mut pair = Pair::new(1, config(0));
    let expected = PeerId([0xcc; 32]);
    let to = PeerAddr { peer: expected, addr: pair.b.addr };
    pair.a.transport.connect(pair.now, to).unwrap();
    pair.run_for(seconds(2));
    let found = pair.b.peer;
    assert_eq!(closed(&mut pair, Which::A), Some(ClosedReason::WrongPeer { expected, found }));
    assert_eq!(closed(&mut pair, Which::B), Some(ClosedReason::PeerWantedAnother));
    assert_eq!(connected(&mut pair, Which::A), None);
    assert_eq!(connected(&mut pair, Which::B), None);
    pair.run_for(seconds(20));
    assert_eq!((pair.a.transport.connections(), pair.b.transport.connections()), (0, 0));
    assert_eq!(pair.b.transport.stats().incoming, 0, "its place is free again");
}

#[test]
fn another_application_protocol_is_refused_and_both_sides_say_so() {
    let (a, b) = (PeerId([1; 32]), PeerId([2; 32]));
    let other = Box::new(PlainCrypto::speaking(b, b"h3")) as Box<dyn Crypto>;
    let mut pair = Pair::with(1, (config(0), a, plain(a)), (config(0), b, other));
    pair.dial();
    pair.run_for(seconds(2));
    let reason = ClosedReason::NoCommonProtocol("application protocol");
    assert_eq!(closed(&mut pair, Which::A), Some(reason.clone()));
    assert_eq!(closed(&mut pair, Which::B), Some(reason));
}

#[test]
fn nobody_at_the_address_ends_after_the_handshake_timeout() {
    let mut pair = Pair::new(1, config(0));
    let to = PeerAddr { peer: pair.b.peer, addr: SocketAddr::from(([10, 9, 9, 9], 1)) };
    pair.a.transport.connect(pair.now, to).unwrap();
    pair.run_for(millis(9_990));
    assert_eq!(closed(&mut pair, Which::A), None);
    pair.run_for(millis(20));
    let reason = ClosedReason::HandshakeTimedOut(seconds(10));
    assert_eq!(closed(&mut pair, Which::A), Some(reason));
    assert_eq!(pair.a.transport.connections(), 0);
    pair.run_for(seconds(60));
    assert_eq!(pair.a.transport.stats().timers, 0, "nothing is left behind");
}

#[test]
fn a_half_open_connection_ends_at_the_acceptor_too() {
    let mut pair = Pair::new(1, config(0));
    pair.dial();
    // The first flight arrives, and then the dialler is gone.
    pair.run_for(millis(6));
    pair.a.addr.set_port(1);
    pair.network.loss = 1000;
    pair.run_for(seconds(11));
    assert_eq!(closed(&mut pair, Which::B), Some(ClosedReason::HandshakeTimedOut(seconds(10))));
    pair.run_for(seconds(60));
    let stats = pair.b.transport.stats();
    assert_eq!((stats.incoming, stats.unvalidated, stats.timers), (0, 0, 0));
}

#[test]
fn the_handshake_survives_loss_reordering_and_duplicates() {
    for seed in 0..20 {
        let mut pair = Pair::new(seed, config(0));
        pair.network = Network { loss: 200, duplicates: 200, reordered: 300, ..Network::GOOD };
        connect(&mut pair);
    }
}

#[test]
fn what_cannot_be_dialled_is_refused_by_name() {
    let mut pair = Pair::new(1, config(0));
    let peer = pair.b.peer;
    for addr in ["10.0.0.1:0", "0.0.0.0:1"] {
        let addr: SocketAddr = addr.parse().unwrap();
        let refused = pair.a.transport.connect(pair.now, PeerAddr { peer, addr });
        assert_eq!(refused, Err(ConnectRefused::Undialable(addr)));
    }
    assert_eq!(pair.a.transport.connections(), 0);
}

#[test]
fn closing_says_why_to_both_sides_and_leaves_nothing() {
    let mut pair = Pair::new(1, config(0));
    let (a, b) = connect(&mut pair);
    pair.a.transport.close(pair.now, a, 7, b"done\x1b[1m");
    assert_eq!(pair.a.transport.connections(), 0);
    pair.run_for(seconds(1));
    assert_eq!(closed(&mut pair, Which::A), Some(ClosedReason::Local { code: 7 }));
    let reason = "done\u{fffd}[1m".to_owned();
    assert_eq!(closed(&mut pair, Which::B), Some(ClosedReason::Peer { code: 7, reason }));
    assert_eq!(pair.a.transport.open(a), None);
    assert_eq!(pair.b.transport.peer(b), None);
    pair.a.transport.close(pair.now, a, 8, b"again");
    pair.run_for(seconds(60));
    assert_eq!(closed(&mut pair, Which::A), None, "closed once");
    assert_eq!((pair.a.transport.held, pair.b.transport.held), (0, 0));
}

#[test]
fn an_old_name_does_not_reach_the_connection_that_took_the_place() {
    let mut pair = Pair::new(1, config(0));
    let (old, _) = connect(&mut pair);
    pair.a.transport.close(pair.now, old, 0, b"");
    pair.run_for(seconds(20));
    pair.a.events.clear();
    pair.b.events.clear();
    let (new, _) = connect(&mut pair);
    assert_eq!(old.index, new.index, "the place is used again");
    assert_ne!(old, new);
    assert_eq!(pair.a.transport.peer(old), None);
    pair.a.transport.close(pair.now, old, 0, b"");
    assert!(pair.a.transport.peer(new).is_some());
}

#[test]
fn the_exporter_gives_both_sides_the_same_bytes() {
    let mut pair = Pair::new(1, config(0));
    let (a, b) = connect(&mut pair);
    let export = |transport: &Transport, conn, context: &[u8]| {
        let mut out = [0; 32];
        transport.exporter(conn, b"pangea test", context, &mut out).unwrap();
        out
    };
    let ours = export(&pair.a.transport, a, b"x");
    assert_eq!(ours, export(&pair.b.transport, b, b"x"));
    assert_ne!(ours, export(&pair.a.transport, a, b"y"));
}

#[test]
fn the_same_seed_gives_the_same_datagrams() {
    let run = |seed| {
        let mut pair = Pair::new(seed, config(0));
        pair.network = Network { loss: 30, duplicates: 20, reordered: 50, ..Network::GOOD };
        let (a, b) = connect(&mut pair);
        transfer(&mut pair, a, b, 4, 300_000);
        (pair.trace, pair.elapsed())
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5).0, run(6).0);
}

#[test]
fn datagrams_carry_the_core_that_they_are_for() {
    let mut pair = Pair::new(1, Config { core: CoreId(5), ..config(0) });
    pair.dial();
    let mut buffer = Vec::new();
    let now = pair.now;
    // The dialler makes up the first destination, so it may be any core's; the source is its own.
    let meta = pair.a.transport.transmit(now, &mut buffer).unwrap();
    assert_eq!(meta.dst, pair.b.addr);
    let source = 6 + usize::from(buffer[5]);
    assert_eq!(buffer[source], 8, "the source id's length");
    assert_eq!(buffer[source + 1], 5, "the source id's core");
    pair.inject(pair.a.addr, Which::B, &buffer);
    let meta = pair.b.transport.transmit(now, &mut buffer).unwrap();
    assert_eq!(meta.dst, pair.a.addr);
    assert_eq!(crate::owner(&buffer, 8), Some(CoreId(5)));
}
