//! Scenarios between two transports, one clock and a network that follows from a seed.

mod certificates;
mod handshake;
mod limits;
mod messages;
mod network;
mod streams;
mod tls;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::testing::{Network, Pair, Which, config};
use crate::{ClosedReason, Config, ConnId, Event, Limits, ReadOutcome, Side, StreamId, Transport};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Takes all events that `wanted` picks, leaves the rest.
fn take<T>(pair: &mut Pair, which: Which, wanted: impl Fn(&Event) -> Option<T>) -> Vec<T> {
    let mut taken = Vec::new();
    pair.node(which).events.retain(|event| match wanted(event) {
        Some(value) => {
            taken.push(value);
            false
        }
        None => true,
    });
    taken
}

fn connected(pair: &mut Pair, which: Which) -> Option<ConnId> {
    let pick = |event: &Event| match event {
        Event::Connected { conn, .. } => Some(*conn),
        _ => None,
    };
    take(pair, which, pick).pop()
}

fn closed(pair: &mut Pair, which: Which) -> Option<ClosedReason> {
    let pick = |event: &Event| match event {
        Event::Closed { reason, .. } | Event::Rejected { reason, .. } => Some(reason.clone()),
        _ => None,
    };
    let mut all = take(pair, which, pick);
    assert!(all.len() <= 1, "closed more than once: {all:?}");
    all.pop()
}

/// A dials B; both ends of the connection.
fn connect(pair: &mut Pair) -> (ConnId, ConnId) {
    let a = pair.dial();
    let mut b = None;
    pair.run_until("both are connected", |pair| {
        b = b.or(connected(pair, Which::B));
        b.is_some() && pair.a.events.iter().any(|e| matches!(e, Event::Connected { .. }))
    });
    assert_eq!(connected(pair, Which::A), Some(a));
    (a, b.expect("it was just seen"))
}

/// The byte at `offset` of the `stream`-th test stream.
fn pattern(stream: u64, offset: u64) -> u8 {
    (offset.wrapping_mul(31) ^ (offset >> 8) ^ stream.wrapping_mul(97)) as u8
}

fn piece(stream: u64, from: u64, length: u64) -> Bytes {
    (from..from + length).map(|offset| pattern(stream, offset)).collect::<Vec<u8>>().into()
}

struct Sending {
    rest: Bytes,
    done: u64,
    total: u64,
    may_write: bool,
    acked: bool,
}

/// Sends `total` bytes on each of `streams` streams from A to B, by the rules: after a blocked
/// write only on `Writable`, reading only on `Readable`. Checks every byte.
fn transfer(pair: &mut Pair, conn: ConnId, far: ConnId, streams: u64, total: u64) {
    let mut sending: BTreeMap<StreamId, Sending> = BTreeMap::new();
    let mut received: BTreeMap<StreamId, (u64, bool)> = BTreeMap::new();
    let mut opened = 0;
    let mut may_open = true;
    pair.run_until("the transfer", |pair| {
        let now_a = std::mem::take(&mut pair.a.events);
        for event in now_a {
            match event {
                Event::Writable { stream, .. } => {
                    sending.get_mut(&stream).unwrap().may_write = true;
                }
                Event::Finished { stream, .. } => sending.get_mut(&stream).unwrap().acked = true,
                Event::StreamsAvailable { .. } => may_open = true,
                Event::Readable { stream, .. } => {
                    // B says nothing, but its half must be read to its end to be over.
                    let read = pair.a.transport.read(conn, stream, 1);
                    assert!(!matches!(read, Ok(ReadOutcome::Data(_))));
                }
                other => panic!("A was told {other:?}"),
            }
        }
        while may_open && opened < streams {
            let Some(stream) = pair.a.transport.open(conn) else {
                may_open = false;
                break;
            };
            let fresh =
                Sending { rest: Bytes::new(), done: 0, total, may_write: true, acked: false };
            sending.insert(stream, fresh);
            opened += 1;
        }
        for (stream, sending) in &mut sending {
            write_some(&mut pair.a.transport, conn, *stream, sending);
        }
        for event in std::mem::take(&mut pair.b.events) {
            match event {
                Event::StreamOpened { stream, .. } => {
                    assert_eq!(received.insert(stream, (0, false)), None, "opened twice");
                }
                Event::Readable { stream, .. } => {
                    let (read, ended) = received.get_mut(&stream).expect("opened before readable");
                    read_all(&mut pair.b.transport, far, stream, read, ended);
                }
                Event::Finished { .. } => {}
                other => panic!("B was told {other:?}"),
            }
        }
        for stream in received.keys() {
            let _ = pair.b.transport.finish(far, *stream);
        }
        opened == streams
            && sending.values().all(|s| s.acked)
            && received.len() as u64 == streams
            && received.values().all(|(read, ended)| *ended && *read == total)
    });
    pair.run_for(millis(200));
    pair.b.events.retain(|event| !matches!(event, Event::Finished { .. }));
    pair.a
        .events
        .retain(|event| !matches!(event, Event::StreamsAvailable { .. } | Event::Readable { .. }));
}

fn write_some(transport: &mut Transport, conn: ConnId, id: StreamId, sending: &mut Sending) {
    while sending.may_write && sending.done < sending.total {
        if sending.rest.is_empty() {
            let length = (sending.total - sending.done).min(64 << 10);
            sending.rest = piece(id.number() / 4, sending.done, length);
        }
        let wrote = transport.write(conn, id, &mut sending.rest).unwrap();
        sending.done += wrote as u64;
        sending.may_write = wrote > 0;
        if sending.done == sending.total {
            transport.finish(conn, id).unwrap();
        }
    }
}

fn read_all(
    transport: &mut Transport,
    conn: ConnId,
    id: StreamId,
    read: &mut u64,
    ended: &mut bool,
) {
    if *ended {
        return;
    }
    loop {
        match transport.read(conn, id, usize::MAX).unwrap() {
            ReadOutcome::Data(bytes) => {
                for byte in &bytes {
                    assert_eq!(*byte, pattern(id.number() / 4, *read), "at {read}");
                    *read += 1;
                }
            }
            ReadOutcome::Blocked => return,
            ReadOutcome::Finished => {
                *ended = true;
                return;
            }
        }
    }
}
