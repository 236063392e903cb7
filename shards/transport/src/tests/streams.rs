use super::*;
use crate::{ReadFailed, WriteFailed};

/// A stream that A opened and wrote `first` to, as B sees it.
fn open_with(pair: &mut Pair, a: ConnId, first: &'static [u8]) -> StreamId {
    let stream = pair.a.transport.open(a).unwrap();
    let mut chunk = Bytes::from_static(first);
    pair.a.transport.write(a, stream, &mut chunk).unwrap();
    assert!(chunk.is_empty());
    pair.run_for(millis(50));
    let opened = take(pair, Which::B, |event| match event {
        Event::StreamOpened { stream, .. } => Some(*stream),
        _ => None,
    });
    assert_eq!(opened, [stream], "both sides call it the same");
    stream
}

#[test]
fn a_question_is_answered_on_the_same_stream() {
    let mut pair = Pair::new(1, config(0));
    let (a, b) = connect(&mut pair);
    let stream = open_with(&mut pair, a, b"ping");
    pair.a.transport.finish(a, stream).unwrap();
    pair.run_for(millis(50));
    let read = pair.b.transport.read(b, stream, 3).unwrap();
    assert_eq!(read, ReadOutcome::Data(Bytes::from_static(b"pin")));
    let read = pair.b.transport.read(b, stream, 99).unwrap();
    assert_eq!(read, ReadOutcome::Data(Bytes::from_static(b"g")));
    assert_eq!(pair.b.transport.read(b, stream, 99).unwrap(), ReadOutcome::Finished);
    assert_eq!(pair.b.transport.read(b, stream, 99), Err(ReadFailed::Closed));
    let mut answer = Bytes::from_static(b"pong");
    pair.b.transport.write(b, stream, &mut answer).unwrap();
    pair.b.transport.finish(b, stream).unwrap();
    pair.run_for(millis(50));
    let mut got = Vec::new();
    let end = pair.a.transport.read_into(a, stream, 99, &mut |bytes| got.extend(bytes)).unwrap();
    assert_eq!((&got[..], end), (&b"pong"[..], ReadOutcome::Finished));
    pair.run_for(millis(50));
    let finished = |event: &Event| matches!(event, Event::Finished { .. }).then_some(());
    assert_eq!(take(&mut pair, Which::A, finished).len(), 1);
    assert_eq!(take(&mut pair, Which::B, finished).len(), 1);
}

#[test]
fn many_streams_carry_their_own_bytes_even_one_past_the_limit() {
    let mut pair = Pair::new(1, config(0));
    let (a, b) = connect(&mut pair);
    transfer(&mut pair, a, b, u64::from(Limits::STANDARD.streams_max) + 36, 20_000);
}

#[test]
fn sixty_four_mebibytes_pass_through_small_windows() {
    let limits = Limits {
        receive_window_start: 32 << 10,
        receive_window_max: 64 << 10,
        stream_receive_window: 24 << 10,
        send_window_start: 20 << 10,
        send_window_max: 40 << 10,
        ..Limits::STANDARD
    };
    let mut pair = Pair::new(1, Config { limits, ..config(0) });
    pair.network.delay = millis(1);
    let (a, b) = connect(&mut pair);
    transfer(&mut pair, a, b, 2, 32 << 20);
    assert!(pair.b.transport.conn_stats(b).unwrap().receive_window <= 64 << 10);
}

#[test]
fn windows_grow_while_they_bind_and_the_credit_comes_back() {
    let mut pair = Pair::new(1, config(0));
    pair.network.delay = millis(25);
    let (a, b) = connect(&mut pair);
    transfer(&mut pair, a, b, 1, 24 << 20);
    let grown = pair.b.transport.conn_stats(b).unwrap().receive_window;
    assert!(grown > 512 << 10, "only {grown}");
    assert!(pair.b.transport.stats().receive_credit > 0);
    assert!(pair.a.transport.stats().send_credit > 0);
    pair.a.transport.close(pair.now, a, 0, b"");
    pair.run_for(seconds(30));
    assert_eq!(pair.b.transport.stats().receive_credit, 0);
    assert_eq!(pair.a.transport.stats().send_credit, 0);
}

#[test]
fn an_unread_stream_stops_its_sender_and_reading_sets_it_free() {
    let mut pair = Pair::new(1, config(0));
    let (a, b) = connect(&mut pair);
    let stream = open_with(&mut pair, a, b"x");
    let mut written: u64 = 1;
    loop {
        let mut chunk = piece(stream.number() / 4, written, 8 << 10);
        let wrote = pair.a.transport.write(a, stream, &mut chunk).unwrap();
        pair.run_for(millis(100));
        written += wrote as u64;
        if wrote == 0 && take(&mut pair, Which::A, writable).is_empty() {
            break;
        }
    }
    assert_eq!(written, u64::from(Limits::STANDARD.receive_window_start), "all the window");
    pair.run_for(seconds(5));
    assert!(take(&mut pair, Which::A, writable).is_empty(), "nobody reads");
    let mut read = 0;
    let end = pair.b.transport.read_into(b, stream, usize::MAX, &mut |part| read += part.len());
    assert_eq!((read as u64, end), (written, Ok(ReadOutcome::Blocked)));
    pair.run_for(millis(100));
    assert_eq!(take(&mut pair, Which::A, writable), [stream]);
}

fn writable(event: &Event) -> Option<StreamId> {
    match event {
        Event::Writable { stream, .. } => Some(*stream),
        _ => None,
    }
}

#[test]
fn a_stream_that_is_given_up_says_so_with_its_code() {
    let mut pair = Pair::new(1, config(0));
    let (a, b) = connect(&mut pair);
    let stream = open_with(&mut pair, a, b"half of it");
    take(&mut pair, Which::B, |event| matches!(event, Event::Readable { .. }).then_some(()));
    pair.a.transport.reset(a, stream, 77).unwrap();
    assert_eq!(pair.a.transport.reset(a, stream, 78), Err(WriteFailed::Closed));
    pair.run_for(millis(50));
    let readable =
        take(&mut pair, Which::B, |event| matches!(event, Event::Readable { .. }).then_some(()));
    assert_eq!(readable.len(), 1);
    assert_eq!(pair.b.transport.read(b, stream, 99), Err(ReadFailed::Reset(77)));
    assert_eq!(pair.b.transport.read(b, stream, 99), Err(ReadFailed::Closed));
}

#[test]
fn a_reader_that_stops_is_heard_by_the_writer() {
    let mut pair = Pair::new(1, config(0));
    let (a, b) = connect(&mut pair);
    let stream = open_with(&mut pair, a, b"too much");
    pair.b.transport.stop(b, stream, 5).unwrap();
    assert_eq!(pair.b.transport.stop(b, stream, 5), Err(ReadFailed::Closed));
    pair.run_for(millis(50));
    let stopped = take(&mut pair, Which::A, |event| match event {
        Event::Stopped { stream, code, .. } => Some((*stream, *code)),
        _ => None,
    });
    assert_eq!(stopped, [(stream, 5)]);
    let mut more = Bytes::from_static(b"more");
    let wrote = pair.a.transport.write(a, stream, &mut more);
    assert_eq!(wrote, Err(WriteFailed::Stopped(5)));
}

#[test]
fn a_peer_that_stops_in_the_middle_leaves_a_closed_connection_and_no_timer() {
    let mut pair = Pair::new(1, config(0));
    let (a, b) = connect(&mut pair);
    let stream = open_with(&mut pair, a, b"begun");
    pair.network.loss = 1000;
    let mut chunk = piece(0, 0, 50_000);
    pair.a.transport.write(a, stream, &mut chunk).unwrap();
    pair.run_for(seconds(100));
    let idle = ClosedReason::IdleTimedOut(seconds(30));
    assert_eq!(closed(&mut pair, Which::A), Some(idle.clone()));
    assert_eq!(closed(&mut pair, Which::B), Some(idle));
    let mut more = Bytes::from_static(b"more");
    assert_eq!(pair.a.transport.write(a, stream, &mut more), Err(WriteFailed::Gone));
    assert_eq!(pair.b.transport.read(b, stream, 9), Err(ReadFailed::Gone));
    assert_eq!(pair.a.transport.open(a), None);
    let stats = (pair.a.transport.stats().timers, pair.b.transport.stats().timers);
    assert_eq!((stats, pair.a.transport.held, pair.b.transport.held), ((0, 0), 0, 0));
}

#[test]
fn an_opener_gets_no_stream_past_what_the_peer_allows() {
    let mut pair = Pair::new(1, config(0));
    let (a, b) = connect(&mut pair);
    let most = Limits::STANDARD.streams_max as usize;
    let mut streams = Vec::new();
    for _ in 0..20 {
        while let Some(stream) = pair.a.transport.open(a) {
            let mut chunk = Bytes::from_static(b"hello");
            pair.a.transport.write(a, stream, &mut chunk).unwrap();
            streams.push(stream);
        }
        pair.run_for(millis(50));
    }
    assert_eq!(streams.len(), most, "the limit, grown to step by step");
    take(&mut pair, Which::A, |event| {
        matches!(event, Event::StreamsAvailable { .. }).then_some(())
    });
    for stream in &streams[..most / 2] {
        pair.a.transport.finish(a, *stream).unwrap();
        pair.b.transport.finish(b, *stream).unwrap();
    }
    pair.run_for(millis(50));
    for stream in &streams[..most / 2] {
        while pair.b.transport.read(b, *stream, 99) != Ok(ReadOutcome::Finished) {}
        pair.a.transport.read(a, *stream, 99).unwrap();
    }
    pair.run_for(millis(50));
    let again = take(&mut pair, Which::A, |event| {
        matches!(event, Event::StreamsAvailable { .. }).then_some(())
    });
    assert!(!again.is_empty());
    assert!(pair.a.transport.open(a).is_some());
}

#[test]
fn nothing_opens_before_the_handshake_is_done() {
    let mut pair = Pair::new(1, config(0));
    let a = pair.dial();
    assert_eq!(pair.a.transport.open(a), None);
    let mut out = [0; 32];
    assert!(pair.a.transport.exporter(a, b"x", b"", &mut out).is_err());
}

#[test]
fn small_writes_together_fill_a_packet_and_large_ones_are_not_counted() {
    let mut pair = Pair::new(1, config(0));
    let (a, _) = connect(&mut pair);
    let stream = pair.a.transport.open(a).unwrap();
    let write = |pair: &mut Pair, bytes| {
        let mut chunk = piece(0, 0, bytes);
        assert_eq!(pair.a.transport.write(a, stream, &mut chunk), Ok(bytes as usize));
        pair.a.transport.fills_a_packet()
    };
    assert!(!write(&mut pair, 16 << 10));
    assert!(!write(&mut pair, 700));
    assert!(write(&mut pair, 700));
    pair.run_for(millis(50));
    assert!(!pair.a.transport.fills_a_packet(), "all was sent");
    assert!(!write(&mut pair, 700));
}
