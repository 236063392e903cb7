//! No enemy: an honest caller that dials again and again, until every core of a node has had a
//! connection, and stores a shard on each.

use std::time::Duration;

use pangea_base::{Locator, PeerAddr};

use super::body::Body;
use super::caller::{Move, Plot};
use super::parcel::{Parcel, disk_bytes};

/// Bytes of its shards.
const SMALL: usize = 1000;

pub(super) struct Surveyor;

impl Plot for Surveyor {
    fn round(&mut self, _: u64, body: &mut Body, _: PeerAddr) -> Option<Vec<Move>> {
        let locator = Locator(body.entropy.array());
        let parcel = Parcel::new(locator, 0, body.noise(SMALL));
        let mut moves = vec![Move::Dial];
        moves.extend(Move::ask_grant(locator, disk_bytes(SMALL)));
        moves.push(Move::say(move |scene| parcel.words(scene)));
        moves.extend([Move::Hear, Move::Close]);
        Some(moves)
    }

    fn pause(&self) -> Duration {
        Duration::ZERO
    }
}
