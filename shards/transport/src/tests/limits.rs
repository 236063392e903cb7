use std::net::SocketAddr;

use pangea_base::Entropy;

use super::*;
use crate::ConnectRefused;

/// A fresh first packet of some dialler, ready to be sent from anywhere.
fn initial(seed: u16, pair: &Pair) -> Vec<u8> {
    let mut entropy = [0; 32];
    entropy[..2].copy_from_slice(&seed.to_le_bytes());
    let crypto = crate::testing::PlainCrypto::new(pangea_base::PeerId([9; 32]));
    let mut dialler = Transport::new(config(0), Box::new(crypto), Entropy::new(entropy));
    dialler.connect(pair.now, pair.b_address()).unwrap();
    let mut buffer = Vec::new();
    dialler.transmit(pair.now, &mut buffer).unwrap();
    buffer
}

fn from(a: u8, b: u8) -> SocketAddr {
    SocketAddr::from(([172, 16, a, b], 5_000))
}

fn answers(pair: &mut Pair) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut all = Vec::new();
    let mut buffer = Vec::new();
    let now = pair.now;
    while let Some(meta) = pair.b.transport.transmit(now, &mut buffer) {
        all.push((meta.dst, buffer.clone()));
    }
    all
}

#[test]
fn garbage_is_ignored_and_costs_nobody_an_answer() {
    let mut pair = Pair::new(1, config(0));
    let (a, b) = connect(&mut pair);
    pair.run_for(seconds(2));
    let mut chance = Entropy::new([3; 32]);
    let ignored = pair.b.transport.stats().ignored;
    for length in (0..3_000).chain([20_000, 65_507]) {
        let mut data = vec![0; length];
        chance.fill(&mut data);
        if let Some(id) = data.get_mut(1) {
            // Never this core's own id, which would be answered with a stateless reset.
            *id |= 0x80;
        }
        let before = pair.sent[1];
        pair.inject(from(1, 1), Which::B, &data);
        pair.settle();
        // Some look like a first packet of a QUIC version to come, and hear which ones we speak.
        let answer = pair.sent[1] - before;
        assert!(answer <= length as u64 / 12, "{answer} for {length}");
    }
    assert_eq!(pair.b.transport.connections(), 1);
    assert!(pair.b.transport.stats().ignored >= ignored + 2_900);
    transfer(&mut pair, a, b, 1, 100_000);
}

#[test]
fn damaged_datagrams_of_a_connection_are_dropped_and_it_goes_on() {
    let mut pair = Pair::new(1, config(0));
    let (a, b) = connect(&mut pair);
    pair.run_for(seconds(2));
    let stream = pair.a.transport.open(a).unwrap();
    let mut buffer = Vec::new();
    let whole = b"some bytes that are worth a packet of their own";
    for round in 0..200_usize {
        let mut chunk = Bytes::from_static(whole);
        pair.a.transport.write(a, stream, &mut chunk).unwrap();
        let now = pair.now;
        while pair.a.transport.transmit(now, &mut buffer).is_some() {
            let at = (round * 7) % buffer.len();
            buffer[at] ^= 1 << (round % 8);
            let addr = pair.a.addr;
            pair.inject(addr, Which::B, &buffer);
        }
        // The damaged one was all that came; the whole one is sent again.
        pair.run_for(seconds(1));
    }
    let mut got = Vec::new();
    let end = pair.b.transport.read_into(b, stream, 1 << 20, &mut |part| got.extend(part));
    assert_eq!((got, end), (whole.repeat(200), Ok(ReadOutcome::Blocked)));
    assert_eq!(closed(&mut pair, Which::B), None);
}

#[test]
fn a_flood_of_newcomers_must_prove_their_addresses_and_is_never_amplified() {
    let limits = Limits { retry_above: 10, unvalidated_max: 20, ..Limits::STANDARD };
    let mut pair = Pair::new(1, Config { limits, ..config(0) });
    let mut retries = 0;
    for i in 0..60 {
        let first = initial(i, &pair);
        let source = from(i as u8, 1);
        pair.inject(source, Which::B, &first);
        let answers = answers(&mut pair);
        let bytes: usize = answers.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(answers.iter().all(|(to, _)| *to == source));
        assert!(bytes <= 3 * first.len(), "{bytes} for {}", first.len());
        retries += usize::from(answers.iter().any(|(_, b)| b[0] & 0xf0 == 0xf0));
    }
    let stats = pair.b.transport.stats();
    assert_eq!((stats.unvalidated, retries), (10, 50));
    assert_eq!(stats.retries, 50);
    // Whoever really is where it says it is gets in all the same.
    let a = pair.dial();
    pair.run_until("the honest one", |pair| connected(pair, Which::A) == Some(a));
    assert_eq!(pair.b.transport.stats().retries, 51);
}

#[test]
fn one_network_gets_its_share_of_places_and_the_next_is_refused() {
    let limits = Limits { incoming_per_prefix_max: 3, ..Limits::STANDARD };
    let mut pair = Pair::new(1, Config { limits, ..config(0) });
    for i in 0..4 {
        let first = initial(i, &pair);
        pair.inject(from(1, i as u8), Which::B, &first);
        answers(&mut pair);
    }
    let stats = pair.b.transport.stats();
    assert_eq!((stats.incoming, stats.refused), (3, 1));
    let first = initial(50, &pair);
    pair.inject(from(2, 1), Which::B, &first);
    assert_eq!(pair.b.transport.stats().incoming, 4, "another network is not touched");
}

#[test]
fn a_refused_dialler_is_told_so() {
    let limits = Limits { incoming_per_prefix_max: 0, ..Limits::STANDARD };
    let mut pair = Pair::new(1, Config { limits, ..config(0) });
    pair.dial();
    pair.run_for(seconds(1));
    assert_eq!(closed(&mut pair, Which::A), Some(ClosedReason::Refused));
}

#[test]
fn a_full_core_dials_no_further() {
    let limits = Limits { connections_max: 3, incoming_max: 2, ..Limits::STANDARD };
    let mut pair = Pair::new(1, Config { limits, ..config(0) });
    for _ in 0..3 {
        pair.dial();
    }
    let refused = pair.a.transport.connect(pair.now, pair.b_address());
    assert_eq!(refused, Err(ConnectRefused::TooMany { limit: 3 }), "one past the limit");
    pair.run_for(seconds(1));
    assert_eq!(pair.b.transport.stats().incoming, 2, "and B took its two");
}

#[test]
fn answers_without_a_connection_wait_in_a_bounded_queue() {
    let limits = Limits { retry_above: 0, responses_max: 5, ..Limits::STANDARD };
    let mut pair = Pair::new(1, Config { limits, ..config(0) });
    for i in 0..6 {
        let first = initial(i, &pair);
        pair.inject(from(i as u8, 1), Which::B, &first);
    }
    assert_eq!(pair.b.transport.stats().responses_dropped, 1, "one past the limit");
    assert_eq!(answers(&mut pair).len(), 5);
}

#[test]
fn a_hoarder_of_windows_pins_no_more_memory_than_was_promised() {
    let limits = Limits {
        batch_bytes_max: 1 << 20,
        receive_credit: 2 << 20,
        receive_window_start: 64 << 10,
        ..Limits::STANDARD
    };
    let mut pair = Pair::new(1, Config { limits, ..config(0) });
    pair.network.delay = millis(20);
    let (a, b) = connect(&mut pair);
    // The window is made to grow by honest reading first, and then nothing is read any more.
    transfer(&mut pair, a, b, 1, 16 << 20);
    let stats = pair.b.transport.stats();
    assert_eq!(stats.receive_credit, 2 << 20, "all the credit, and no more");
    let streams: Vec<StreamId> = std::iter::from_fn(|| pair.a.transport.open(a)).take(8).collect();
    for _ in 0..300 {
        for stream in &streams {
            let mut chunk = piece(0, 0, 16 << 10);
            pair.a.transport.write(a, *stream, &mut chunk).unwrap();
        }
        pair.run_for(millis(10));
        let stats = pair.b.transport.stats();
        assert!(stats.batch_bytes <= 1 << 20, "{stats:?}");
        assert!(stats.receive_credit <= 2 << 20, "{stats:?}");
    }
    let mut held = 0;
    for stream in &streams {
        let _ = pair.b.transport.read_into(b, *stream, usize::MAX, &mut |part| held += part.len());
    }
    let window = (2 << 20) + (64 << 10);
    assert!(held > window / 2 && held <= window, "{held} of {window}");
}

#[test]
fn an_idle_node_gives_its_batches_and_windows_back() {
    let mut pair = Pair::new(1, config(0));
    pair.network.delay = millis(20);
    let (a, b) = connect(&mut pair);
    pair.a.transport.keep_alive(pair.now, a, crate::KeepAlive::Every(seconds(10)));
    transfer(&mut pair, a, b, 1, 16 << 20);
    assert!(pair.b.transport.conn_stats(b).unwrap().receive_window > 64 << 10);
    pair.run_for(seconds(60));
    let stats = pair.b.transport.stats();
    assert_eq!(pair.b.transport.conn_stats(b).unwrap().receive_window, 64 << 10);
    assert!(stats.batch_bytes <= 256 << 10, "{stats:?}");
    assert_eq!(pair.a.transport.conn_stats(a).unwrap().send_window, 128 << 10);
}

#[test]
fn what_all_peers_together_can_make_us_keep_is_one_number() {
    let most = Limits::STANDARD.receive_bytes_max();
    assert_eq!(most, 2048 * (64 << 10) + (64 << 20) + (32 << 20));
}
