//! Callers that hold what they are given: streams, windows, time.

use std::time::Duration;

use bytes::Bytes;
use pangea_base::{Locator, PeerAddr};
use pangea_wire::{FetchRequest, Protocol, preamble};

use super::body::{Body, Habits};
use super::caller::{Move, Plot, Words};
use super::parcel::Parcel;
use super::talk::Hearing;

/// Opens all streams that it may, on many connections to one node, and says nothing on them.
pub(super) struct StreamOpener;

/// Connections to one node before it turns to the next.
const CONNECTIONS: u64 = 24;
/// Streams on each: what an honest node allows at most.
const STREAMS: usize = 64;

impl StreamOpener {
    pub const HABITS: Habits =
        Habits { keep_alive: Some(Duration::from_secs(5)), ..Habits::HONEST };
}

impl Plot for StreamOpener {
    fn target(&self, number: u64, nodes: u64) -> u64 {
        number / CONNECTIONS % nodes
    }

    fn round(&mut self, number: u64, _: &mut Body, _: PeerAddr) -> Option<Vec<Move>> {
        let mut moves = vec![Move::Dial];
        for _ in 0..STREAMS {
            moves.push(Move::say(|scene| {
                scene.body.did("silent streams opened");
                Words::of([Bytes::from_static(&[19])]).open()
            }));
        }
        if number % CONNECTIONS == CONNECTIONS - 1 {
            moves.push(Move::Wait(Duration::from_secs(40)));
        }
        Some(moves)
    }

    fn pause(&self) -> Duration {
        Duration::from_millis(50)
    }
}

/// Says what it has to say byte by byte: half a request for ever, or a shard just fast enough not
/// to count as silent.
pub(super) struct SlowLoris;

/// A little more than what a node that only wants to see some bytes would notice.
const TRICKLE: u64 = 100;

impl Plot for SlowLoris {
    fn round(&mut self, number: u64, body: &mut Body, _: PeerAddr) -> Option<Vec<Move>> {
        let mut moves = vec![Move::Dial];
        if number.is_multiple_of(2) {
            for _ in 0..6 {
                moves.push(Move::say(|scene| {
                    scene.body.did("half requests begun");
                    let half = preamble(Protocol::Fetch);
                    let mut words = Words::of([half, Bytes::from_static(&[60, 0, 0, 0, 1])]).open();
                    words.saying.pace = Some(1);
                    words
                }));
            }
            moves.push(Move::Hear);
        } else {
            let locator = Locator(body.entropy.array());
            let parcel = Parcel::new(locator, 0, body.noise(100_000));
            moves.extend(Move::ask_grant(locator, 200_000));
            moves.push(Move::say(move |scene| {
                scene.body.did("trickling puts begun");
                let mut words = parcel.words(scene);
                words.saying.pace = Some(TRICKLE);
                words
            }));
            moves.push(Move::Hear);
        }
        moves.push(Move::Close);
        Some(moves)
    }
}

/// Stores a shard and takes it back so slowly that the node's pages and windows stay with it.
pub(super) struct SlowTaker;

impl SlowTaker {
    pub const HABITS: Habits = Habits {
        window: Some(16 << 10),
        keep_alive: Some(Duration::from_secs(2)),
        ..Habits::HONEST
    };
}

impl Plot for SlowTaker {
    fn round(&mut self, _: u64, body: &mut Body, _: PeerAddr) -> Option<Vec<Move>> {
        let locator = Locator(body.entropy.array());
        let parcel = Parcel::new(locator, 0, body.noise(600_000));
        let (key, root) = (parcel.key, parcel.trailer.root);
        let mut moves = vec![Move::Dial];
        moves.extend(Move::ask_grant(locator, 700_000));
        moves.push(Move::say(move |scene| parcel.words(scene)));
        moves.push(Move::Hear);
        for _ in 0..4 {
            moves.push(Move::say(move |scene| {
                scene.body.did("shards taken drop by drop");
                let asked = FetchRequest::GetShard { key, root, first_group: 0 };
                let words = Words::request(Protocol::Fetch, &asked);
                Words { hearing: Hearing::Drip(TRICKLE), ..words }
            }));
        }
        moves.push(Move::Hear);
        moves.push(Move::Close);
        Some(moves)
    }
}
