//! Datagrams: to whom they belong, and whatever they hold on a connection that is set up.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use pangea_transport::testing::{FORGED_TAG, Pair, Which, config};
use pangea_transport::{CID_BYTES, ConnId, Event, ReadOutcome, StreamId, TRAIN_BYTES_MAX, owner};

use super::input::{Input, counted};

/// Which core a datagram is for.
pub fn cid(data: &[u8]) {
    for cores in [0, 1, 7, 255] {
        match owner(data, cores) {
            Some(core) => assert!(core.0 < cores),
            None => assert!(cores == 0 || data.len() < 7 || data[0] & 0x80 != 0),
        }
    }
}

pub fn cid_seeds() -> Vec<Vec<u8>> {
    let long = |length: u8| {
        [&[0xc0, 0, 0, 0, 1, length][..], &[6; 8][..usize::from(length)], &[0; 4]].concat()
    };
    vec![vec![0x40, 7, 1, 2, 3], long(8), long(0), long(1), vec![0xc0]]
}

/// Steps of one input.
const STEPS_MAX: usize = 24;

/// Two nodes, and a third voice that says what it likes to both: with the keys and from the address
/// of the other one, or from elsewhere. Afterwards an honest dial still succeeds.
pub fn transport(data: &[u8]) {
    let mut input = Input::new(data);
    let mut pair = Pair::new(1, config(0));
    let conn = pair.dial();
    if input.u8() & 1 == 0 {
        pair.run_for(Duration::from_millis(40));
    }
    let mut voice = Voice::new(&mut pair, conn);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        voice.step(&mut pair, &mut input);
        drain(&mut pair);
    }
    // Past every idle timeout: whatever is left of the first connection goes.
    pair.run_for(Duration::from_secs(70));
    drain(&mut pair);
    let again = pair.dial();
    let connected =
        |event: &Event| matches!(event, Event::Connected { conn, .. } if *conn == again);
    pair.run_until("an honest dial", |pair| pair.a.events.iter().any(connected));
}

struct Voice {
    /// Of the next packet: higher than any that was really sent.
    number: u32,
    /// The dialling end's, and its streams.
    conn: ConnId,
    streams: Vec<StreamId>,
    /// By which each end knows the connection.
    cids: [[u8; CID_BYTES]; 2],
}

impl Voice {
    fn new(pair: &mut Pair, conn: ConnId) -> Voice {
        let accepted = pair.b.events.iter().find_map(|event| match event {
            Event::Connected { conn, .. } => Some(*conn),
            _ => None,
        });
        let cids = match accepted {
            Some(accepted) => [cid_in(pair, Which::B, accepted), cid_in(pair, Which::A, conn)],
            None => [[0; CID_BYTES]; 2],
        };
        Voice { number: 1 << 20, conn, streams: Vec::new(), cids }
    }

    fn step(&mut self, pair: &mut Pair, input: &mut Input<'_>) {
        let elsewhere = SocketAddr::from(([10, 0, 7, input.u8() % 4], 9090));
        let (a, b) = (pair.a.addr, pair.b.addr);
        match input.u8() % 8 {
            0 => pair.inject(elsewhere, Which::B, input.bytes()),
            1 => pair.inject(a, Which::B, input.bytes()),
            2 | 3 => {
                let choice = input.u8();
                let (to, from) = if choice & 0x40 == 0 { (Which::B, a) } else { (Which::A, b) };
                let packet = self.packet(self.cids[to as usize], choice, input.bytes());
                pair.inject(if choice & 0x80 == 0 { from } else { elsewhere }, to, &packet);
            }
            4 => pair.inject(elsewhere, Which::B, &long_packet(input)),
            5 => pair.run_for(Duration::from_millis(input.u16().into())),
            6 => self.talk(pair, input),
            _ => pair.settle(),
        }
    }

    /// A packet of the first connection with any frames.
    fn packet(&mut self, cid: [u8; CID_BYTES], choice: u8, frames: &[u8]) -> Vec<u8> {
        self.number += u32::from(choice & 3) + 1;
        let first = 0x43 | choice & 0x24;
        [&[first][..], &cid, &self.number.to_be_bytes(), frames, &FORGED_TAG].concat()
    }

    /// The honest side does something too.
    fn talk(&mut self, pair: &mut Pair, input: &mut Input<'_>) {
        let (choice, now) = (input.u8(), pair.now);
        let transport = &mut pair.a.transport;
        if choice & 1 == 0 {
            self.streams.extend(transport.open(self.conn));
        }
        if let Some(stream) = self.streams.last() {
            let _ = match choice >> 1 & 3 {
                0 => transport.finish(self.conn, *stream),
                1 => transport.reset(self.conn, *stream, 7),
                _ => {
                    let mut bytes = Bytes::from(vec![choice; 3000]);
                    transport.write(self.conn, *stream, &mut bytes).map(|_| ())
                }
            };
        }
        if choice == 0xff {
            transport.close(now, self.conn, 3, b"enough");
        }
        pair.settle();
    }
}

/// The id to which one end sends on a connection; the packet that tells it is lost.
pub fn cid_in(pair: &mut Pair, from: Which, conn: ConnId) -> [u8; CID_BYTES] {
    let mut cid = [0; CID_BYTES];
    let now = pair.now;
    let transport = &mut pair.node(from).transport;
    if let Some(stream) = transport.open(conn) {
        let _ = transport.write(conn, stream, &mut Bytes::from_static(b"here"));
    }
    let mut train = Vec::with_capacity(TRAIN_BYTES_MAX);
    while transport.transmit(now, &mut train).is_some() {
        if train[0] & 0x80 == 0 {
            cid.copy_from_slice(&train[1..=CID_BYTES]);
        }
        train.clear();
    }
    cid
}

/// A packet with a long header: any type, version and lengths.
fn long_packet(input: &mut Input<'_>) -> Vec<u8> {
    let (first, version) = (input.u8() | 0x80, input.u8());
    let version = if version & 1 == 0 { 1u32 } else { input.u32() };
    let (to, from) = (input.u8() % 21, input.u8() % 21);
    let ids: [u8; 20] = input.array();
    let body = input.bytes();
    let length = (body.len() as u16 + 16) & 0x3fff | 0x4000;
    let mut packet = [
        &[first][..],
        &version.to_be_bytes(),
        &[to],
        &ids[..usize::from(to)],
        &[from],
        &ids[..usize::from(from)],
        &[0],
        &length.to_be_bytes(),
        body,
        &FORGED_TAG,
    ]
    .concat();
    packet.resize(packet.len().max(1200), 0);
    packet
}

/// Everything that came is read, and the room that it took is given back.
fn drain(pair: &mut Pair) {
    for which in [Which::A, Which::B] {
        let node = pair.node(which);
        let events: Vec<Event> = node.events.drain(..).collect();
        for event in events {
            if let Event::Readable { conn, stream } | Event::StreamOpened { conn, stream } = event {
                while let Ok(ReadOutcome::Data(_)) = node.transport.read(conn, stream, 1 << 16) {}
            }
        }
    }
}

pub fn transport_seeds() -> Vec<Vec<u8>> {
    let packet = |choice: u8, frames: &[u8]| [&[0, 2, choice][..], &counted(frames)].concat();
    let frames: [&[u8]; 16] = [
        &[0x01],
        &[0x02, 0x05, 0x00, 0x00, 0x05],
        &[0x04, 0x00, 0x01, 0x40, 0x64],
        &[0x05, 0x00, 0x01],
        &[0x06, 0x00, 0x04, 1, 2, 3, 4],
        &[0x08, 0x00, b'a', b'b'],
        &[0x0f, 0x04, 0x40, 0x64, 0x02, b'a', b'b'],
        &[0x10, 0x80, 0x01, 0x00, 0x00],
        &[0x11, 0x00, 0x80, 0x01, 0x00, 0x00],
        &[0x12, 0x40, 0x64],
        &[
            0x18, 0x01, 0x00, 0x08, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0,
        ],
        &[0x19, 0x00],
        &[0x1a, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0x1c, 0x07, 0x00, 0x03, b'b', b'y', b'e'],
        &[0x1d, 0x07, 0x03, b'b', b'y', b'e'],
        &[0x1e, 0x30, 1, 2, 3],
    ];
    let mut seeds: Vec<Vec<u8>> =
        frames.iter().map(|frames| [vec![0], packet(0, frames), vec![0, 7]].concat()).collect();
    seeds.push(vec![0, 0, 6, 0, 0, 6, 4, 0, 6, 1, 0, 5, 9, 0]);
    seeds.push([&[1, 0, 0][..], &counted(&[0xc0, 0, 0, 0, 1, 8, 0, 1, 2, 3])].concat());
    let initial = [&[0, 4, 0xc0, 0, 8, 8][..], &[0; 20], &counted(&[6, 0, 4, 1, 0, 0, 0])].concat();
    seeds.push([vec![1], initial].concat());
    seeds
}
