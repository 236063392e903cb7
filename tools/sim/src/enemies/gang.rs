//! Enemies that act as one: many identities at one place.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use pangea_base::{Entropy, Identity, Locator, PeerAddr, Secret, UnixTime};
use pangea_transport::{CID_BYTES, TransmitMeta};

use super::body::{Body, Enemy, Habits};
use super::caller::Caller;
use super::grants::QuotaThief;
use super::squatter::Squat;
use crate::actor::Actor;

/// Many enemies that act as one: their datagrams come to one place, and are dealt by the first
/// byte of the connection's id, as among the cores of a node. The first one is the one that others
/// are told of.
pub(super) struct Gang {
    members: Vec<Enemy>,
    elsewhere: Vec<SocketAddr>,
    deeds: BTreeMap<&'static str, u64>,
}

/// Half of the thieves call from one network, the others each from one of its own.
const MEMBERS: u8 = 8;
/// Of so many identities a squatter takes the one whose key comes first: most owners' come later.
const KEYS: usize = 16;

impl Gang {
    pub fn of_thieves(
        identity: Identity,
        addr: SocketAddr,
        mut entropy: Entropy,
        now: Instant,
    ) -> Gang {
        let mut first = Some(identity);
        let mut elsewhere = Vec::new();
        let members = (0..MEMBERS).map(|seat| {
            let fresh = || Identity::from_seed(Secret::new(entropy.array()));
            let identity = first.take().unwrap_or_else(fresh);
            let addr = match seat % 2 {
                0 => addr,
                _ => SocketAddr::from(([203, 0, 100 + seat, 1], addr.port())),
            };
            if seat % 2 == 1 {
                elsewhere.push(addr);
            }
            let habits = Habits { seat: (seat, MEMBERS), ..Habits::HONEST };
            let body = Body::new(habits, identity, addr, entropy.split(), now);
            Enemy::caller(body, Caller::new(QuotaThief, now))
        });
        let members = members.collect();
        Gang { members, elsewhere, deeds: BTreeMap::new() }
    }

    /// The first of them is asked for grants; all of them take the names that it, or somebody else,
    /// tells them of.
    pub fn of_squatters(
        identity: Identity,
        addr: SocketAddr,
        mut entropy: Entropy,
        now: Instant,
    ) -> Gang {
        let squat = Squat::new(MEMBERS);
        let mut first = Some(identity);
        let members = (0..MEMBERS).map(|seat| {
            let mut fresh = || Identity::from_seed(Secret::new(entropy.array()));
            let early = || (0..KEYS).map(|_| fresh()).min_by_key(Identity::peer);
            let identity = first.take().or_else(early).expect("there is one of so many");
            let habits = Habits { seat: (seat, MEMBERS), ..Habits::HONEST };
            let body = Body::new(habits, identity, addr, entropy.split(), now);
            squat.member(seat, body)
        });
        let members = members.collect();
        Gang { members, elsewhere: Vec::new(), deeds: BTreeMap::new() }
    }
}

/// Whether a train is the first of a connection that somebody else begins: until it is answered its
/// destination is an id of that one's own making, and longer than those that are given out.
fn is_newcomer(data: &[u8]) -> bool {
    const LENGTH_AT: usize = 5;
    let is_long = data.first().is_some_and(|first| first & 0x80 != 0);
    is_long && data.get(LENGTH_AT).is_some_and(|length| usize::from(*length) != CID_BYTES)
}

impl Actor for Gang {
    fn addr(&self) -> PeerAddr {
        self.members[0].addr()
    }

    fn elsewhere(&self) -> &[SocketAddr] {
        &self.elsewhere
    }

    fn is_holder(&self) -> bool {
        self.members[0].is_holder()
    }

    fn meet(&mut self, nodes: &[PeerAddr]) {
        self.members.iter_mut().for_each(|member| member.meet(nodes));
    }

    fn told_of(&mut self, locator: Locator) {
        // They have one memory.
        self.members[0].told_of(locator);
    }

    fn datagrams(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        ecn: Option<u8>,
        stride: usize,
        data: &[u8],
    ) {
        let seat = match is_newcomer(data) {
            true => 0,
            false => pangea_transport::owner(data, MEMBERS).map_or(0, |core| core.index()),
        };
        self.members[seat].datagrams(now, remote, ecn, stride, data);
    }

    fn turn(&mut self, now: Instant, wall: UnixTime) -> bool {
        let mut busy = false;
        self.deeds.clear();
        for member in &mut self.members {
            busy |= member.turn(now, wall);
            for (deed, times) in member.deeds() {
                *self.deeds.entry(deed).or_default() += times;
            }
        }
        busy
    }

    fn transmit(
        &mut self,
        now: Instant,
        buffer: &mut Vec<u8>,
    ) -> Option<(TransmitMeta, Option<SocketAddr>)> {
        for member in &mut self.members {
            if let Some((meta, source)) = member.transmit(now, buffer) {
                return Some((meta, source.or(Some(member.body.addr))));
            }
        }
        None
    }

    fn deadline(&self) -> Option<Instant> {
        self.members.iter().filter_map(Actor::deadline).min()
    }

    fn deeds(&self) -> &BTreeMap<&'static str, u64> {
        &self.deeds
    }
}
