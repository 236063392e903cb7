//! Callers that try what can be asked, and leave when it suits nobody.

use std::time::Duration;

use bytes::Bytes;
use pangea_base::{ChunkNumber, Hash, Locator, PeerAddr, PeerId, ShardIndex, ShardKey};
use pangea_wire::{FetchRequest, PlacementOf, Protocol, frame, preamble};

use super::body::Body;
use super::caller::{Move, Plot, Words};
use super::parcel::{Parcel, disk_bytes};

const SMALL: usize = 50_000;

/// Asks for everything that it has no key for, and for what there is not; in good form and in bad.
#[derive(Default)]
pub(super) struct Prober {
    known: Vec<(Locator, Hash)>,
}

/// Objects of its own that it asks for again.
const KNOWN_MAX: usize = 16;
/// Ways to break the form.
const WAYS: u64 = 13;

impl Prober {
    fn questions(&self, body: &mut Body) -> Vec<FetchRequest> {
        let unknown = Locator(body.entropy.array());
        let number = body.entropy.below(self.known.len().max(1) as u64) as usize;
        let other = Hash(body.entropy.array());
        let (known, root) = self.known.get(number).copied().unwrap_or((unknown, other));
        let key = |locator, chunk, index| ShardKey {
            locator,
            chunk: ChunkNumber(chunk),
            index: ShardIndex(index),
        };
        let last = pangea_wire::limits::CHUNKS_MAX - 1;
        let stat = |locator, owner, after| FetchRequest::Stat { locator, owner, after };
        let shard = |key, root, first_group| FetchRequest::GetShard { key, root, first_group };
        let page = |locator, page, whose| FetchRequest::GetPlacement { locator, page, whose };
        vec![
            stat(unknown, None, None),
            stat(known, None, None),
            stat(known, Some(body.identity.peer()), None),
            stat(known, Some(PeerId([0xff; 32])), None),
            stat(known, None, Some((ChunkNumber(last), ShardIndex(254), Hash([0xff; 32])))),
            shard(key(known, 0, 0), root, 0),
            shard(key(known, 0, 0), root, 3),
            shard(key(known, 0, 0), root, 16_383),
            shard(key(known, 0, 0), other, 0),
            shard(key(unknown, last, 254), other, 1),
            FetchRequest::GetManifest { locator: known, page: other },
            page(unknown, 1023, PlacementOf::First),
            page(known, 0, PlacementOf::First),
            page(known, 0, PlacementOf::Owner(body.identity.peer())),
            page(known, 1023, PlacementOf::Behind(PeerId([0xff; 32]))),
        ]
    }

    /// Requests that break the form, each in its own way.
    fn wrong(body: &mut Body, way: u64) -> Words {
        let locator = Locator([1; 32]);
        let request = FetchRequest::Stat { locator, owner: None, after: None };
        let good = frame(&request);
        let fetch = preamble(Protocol::Fetch);
        let said = match way {
            0 => vec![Bytes::from_static(&[0])],
            1 => vec![Bytes::from_static(&[65]), body.noise(65)],
            2 => vec![Bytes::from_static(b"\x04/no1")],
            3 => vec![fetch, Bytes::from_static(&[0xff; 4])],
            4 => vec![fetch, Bytes::from_static(&[129, 0, 0, 0])],
            5 => vec![fetch, Bytes::from_static(&[1, 0, 0, 0, 9])],
            6 => vec![fetch, Bytes::from([&good[..4], &body.noise(good.len() - 4)].concat())],
            7 => vec![fetch, good.slice(..good.len() - 1)],
            8 => vec![preamble(Protocol::Store), good],
            9 => vec![preamble(Protocol::Route), good],
            10 => vec![preamble(Protocol::Ping), Bytes::from_static(&[17, 0, 0, 0])],
            11 => vec![fetch, good, body.noise(5000)],
            // What an older program would ask.
            _ => vec![Bytes::from_static(b"\x13/pangea/fetch/1.0.0"), good],
        };
        Words::of(said)
    }
}

impl Plot for Prober {
    fn round(&mut self, number: u64, body: &mut Body, _: PeerAddr) -> Option<Vec<Move>> {
        let mut moves = vec![Move::Dial];
        if self.known.len() < KNOWN_MAX {
            let locator = Locator(body.entropy.array());
            let parcel = Parcel::new(locator, 0, body.noise(SMALL));
            self.known.push((locator, parcel.trailer.root));
            moves.extend(Move::ask_grant(locator, disk_bytes(SMALL)));
            moves.push(Move::say(move |scene| parcel.words(scene)));
            moves.push(Move::Hear);
        }
        for question in self.questions(body) {
            moves.push(Move::say(move |scene| {
                scene.body.did("questions asked");
                Words::request(Protocol::Fetch, &question)
            }));
            moves.push(Move::Hear);
        }
        for way in [number % WAYS, (number + 5) % WAYS] {
            moves.push(Move::say(move |scene| {
                scene.body.did("malformed requests made");
                Prober::wrong(scene.body, way)
            }));
            moves.push(Move::Hear);
        }
        moves.push(Move::Close);
        Some(moves)
    }
}

/// Closes its connection at each moment of a put and a get, one after the other.
#[derive(Default)]
pub(super) struct Closer;

impl Plot for Closer {
    fn round(&mut self, number: u64, body: &mut Body, _: PeerAddr) -> Option<Vec<Move>> {
        let locator = Locator(body.entropy.array());
        let parcel = Parcel::new(locator, 0, body.noise(SMALL));
        let (key, root) = (parcel.key, parcel.trailer.root);
        let whole = parcel.clone();
        let thousandths = body.entropy.below(1000) as usize;
        let fetch = Move::say(move |_| {
            Words::request(Protocol::Fetch, &FetchRequest::GetShard { key, root, first_group: 0 })
        });
        let mut moves = match number % 8 {
            0 => vec![Move::Knock, Move::Close, Move::Knock],
            1 => vec![Move::Dial],
            _ => vec![Move::Dial],
        };
        if number % 8 >= 2 {
            moves.extend(Move::ask_grant(locator, 2 * disk_bytes(SMALL)));
        }
        match number % 8 {
            2 => {
                moves.pop();
            }
            4 => {
                moves.push(Move::say(move |scene| parcel.part(scene, thousandths)));
                moves.push(Move::Said);
            }
            5 => {
                moves.push(Move::say(move |scene| whole.words(scene)));
                moves.push(Move::Said);
            }
            6 => moves.extend([Move::say(move |scene| whole.words(scene)), Move::Hear]),
            7 => {
                moves.extend([Move::say(move |scene| whole.words(scene)), Move::Hear, fetch]);
            }
            _ => {}
        }
        moves.push(Move::Wait(Duration::from_millis(body.entropy.below(40))));
        moves.push(Move::Close);
        Some(moves)
    }
}
