use super::*;
use crate::SendRefused;

fn with_messages(message_bytes: u32) -> Config {
    Config { limits: Limits { message_bytes, ..Limits::STANDARD }, ..config(0) }
}

fn taken(pair: &mut Pair, which: Which, conn: ConnId) -> Vec<Bytes> {
    let told = take(pair, which, |event| matches!(event, Event::Message { .. }).then_some(()));
    let transport = &mut pair.node(which).transport;
    let all: Vec<Bytes> = std::iter::from_fn(|| transport.message(conn)).collect();
    assert_eq!(told.is_empty(), all.is_empty(), "who has messages is told so");
    all
}

#[test]
fn messages_go_both_ways_whole() {
    let mut pair = Pair::new(1, with_messages(64 << 10));
    let (a, b) = connect(&mut pair);
    let most = pair.a.transport.message_bytes_max(a).unwrap();
    assert!((1100..1452).contains(&most), "{most}");
    let messages = [piece(1, 0, 1), piece(2, 0, 200), piece(3, 0, most as u64)];
    for message in &messages {
        pair.a.transport.send_message(a, message.clone()).unwrap();
    }
    pair.run_for(millis(50));
    assert_eq!(taken(&mut pair, Which::B, b), messages);
    pair.b.transport.send_message(b, messages[1].clone()).unwrap();
    pair.run_for(millis(50));
    assert_eq!(taken(&mut pair, Which::A, a), [messages[1].clone()]);
    assert_eq!(taken(&mut pair, Which::B, b), [] as [Bytes; 0]);
}

#[test]
fn a_message_that_cannot_go_is_refused_and_says_why() {
    let mut pair = Pair::new(1, with_messages(64 << 10));
    let (a, _) = connect(&mut pair);
    let length = pair.a.transport.message_bytes_max(a).unwrap() + 1;
    let refused = pair.a.transport.send_message(a, piece(1, 0, length as u64));
    assert_eq!(refused, Err(SendRefused::TooLong { length }));
    let now = pair.now;
    pair.a.transport.close(now, a, 0, b"");
    assert_eq!(pair.a.transport.send_message(a, piece(1, 0, 1)), Err(SendRefused::Gone));
}

#[test]
fn a_node_as_shipped_takes_no_messages() {
    let mut pair = Pair::new(1, config(0));
    let (a, b) = connect(&mut pair);
    for (which, conn) in [(Which::A, a), (Which::B, b)] {
        let transport = &mut pair.node(which).transport;
        assert_eq!(transport.message_bytes_max(conn), None);
        assert_eq!(transport.send_message(conn, piece(1, 0, 1)), Err(SendRefused::NotTaken));
    }
}

#[test]
fn messages_that_nobody_takes_keep_no_more_memory_than_the_limit() {
    let limit = 8 << 10;
    let mut pair = Pair::new(1, with_messages(limit));
    let (a, b) = connect(&mut pair);
    for number in 0..64 {
        pair.a.transport.send_message(a, piece(number, 0, 1000)).unwrap();
        pair.run_for(millis(5));
    }
    let kept = taken(&mut pair, Which::B, b);
    assert!(!kept.is_empty() && kept.len() * 1000 <= limit as usize, "{}", kept.len());
    assert_eq!(kept.last(), Some(&piece(63, 0, 1000)), "the newest stay");
}
