//! Callers with grants that are not theirs, or that they do not use.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use pangea_base::{Entropy, Identity, Locator, PeerAddr, PeerId, Secret, UnixTime};
use pangea_transport::TransmitMeta;
use pangea_wire::{AuthChallenge, Grant};

use super::body::{Body, Enemy, Habits};
use super::caller::{Caller, Move, Plot, Scene};
use super::parcel::Parcel;
use crate::actor::Actor;

/// Bytes of the shards here.
const SMALL: usize = 20_000;

/// Spends grants that were not given to it, or not like that.
#[derive(Default)]
pub(super) struct GrantForger;

/// What is wrong with a grant, or with the proof that goes with it.
#[derive(Clone, Copy, Debug)]
enum Forgery {
    OwnSignature,
    MoreBytes,
    MoreTime,
    OtherObject,
    OtherOrigin,
    OtherHolder,
    Proof,
}

const FORGERIES: [Forgery; 7] = [
    Forgery::OwnSignature,
    Forgery::MoreBytes,
    Forgery::MoreTime,
    Forgery::OtherObject,
    Forgery::OtherOrigin,
    Forgery::OtherHolder,
    Forgery::Proof,
];

impl Forgery {
    fn forge(self, scene: &mut Scene<'_>, parcel: &mut Parcel) {
        let Some(honest) = scene.grant.clone() else { return };
        let mut grant = honest.clone();
        let own = scene.body.identity.peer();
        match self {
            Forgery::OwnSignature => {
                let (expires, nonce) = (grant.expires, scene.body.entropy.array());
                let locator = parcel.key.locator;
                grant = Grant::issue(&scene.body.identity, own, locator, 1 << 40, expires, nonce);
                grant.holder = scene.node.peer;
            }
            Forgery::MoreBytes => grant.bytes_max = u64::MAX,
            Forgery::MoreTime => grant.expires = UnixTime(u64::MAX),
            Forgery::OtherObject => parcel.key.locator = Locator(scene.body.entropy.array()),
            Forgery::OtherOrigin => grant.origin = PeerId(scene.body.entropy.array()),
            Forgery::OtherHolder => {
                let (expires, nonce) = (grant.expires, scene.body.entropy.array());
                let locator = parcel.key.locator;
                grant = Grant::issue(&scene.body.identity, own, locator, 1 << 40, expires, nonce);
            }
            Forgery::Proof => {
                let mut auth = AuthChallenge::new(&scene.body.identity, honest, &scene.exporter);
                auth.proof[7] ^= 1;
                parcel.auth = Some(auth);
            }
        }
        parcel.grant = Some(grant);
        scene.body.did("forged grants spent");
    }
}

impl Plot for GrantForger {
    fn round(&mut self, number: u64, body: &mut Body, _: PeerAddr) -> Option<Vec<Move>> {
        let locator = Locator(body.entropy.array());
        let mut moves = vec![Move::Dial];
        moves.extend(Move::ask_grant(locator, SMALL as u64));
        for at in 0..3 {
            let forgery = FORGERIES[(number as usize * 3 + at) % FORGERIES.len()];
            let parcel = Parcel::new(locator, at as u8, body.noise(SMALL));
            moves.push(Move::say(move |scene| {
                let mut parcel = parcel;
                forgery.forge(scene, &mut parcel);
                parcel.words(scene)
            }));
            moves.push(Move::Hear);
        }
        moves.push(Move::Close);
        Some(moves)
    }
}

/// Asks for grants without end and uses none; or uses a little of each and takes it back.
#[derive(Default)]
pub(super) struct QuotaThief;

impl Plot for QuotaThief {
    fn round(&mut self, number: u64, body: &mut Body, _: PeerAddr) -> Option<Vec<Move>> {
        let mut moves = vec![Move::Dial];
        let wanted = 1 << (12 + body.entropy.below(22));
        for _ in 0..12 {
            let locator = Locator(body.entropy.array());
            moves.extend(Move::ask_grant(locator, wanted));
            if number % 2 == 1 {
                let parcel = Parcel::new(locator, 0, body.noise(64));
                moves.push(Move::say(move |scene| {
                    scene.body.did("grants touched and let go");
                    parcel.part(scene, 900)
                }));
                moves.push(Move::Wait(Duration::from_millis(30)));
                moves.push(Move::Reset(1));
            }
        }
        moves.push(Move::Close);
        Some(moves)
    }
}

/// Many enemies that act as one: their datagrams come to one place, and are dealt by the first
/// byte of the connection's id, as among the cores of a node.
pub(super) struct Gang {
    members: Vec<Enemy>,
    elsewhere: Vec<SocketAddr>,
    deeds: BTreeMap<&'static str, u64>,
}

/// Half of them call from one network, the others each from one of its own.
const MEMBERS: u8 = 8;

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
}

impl Actor for Gang {
    fn addr(&self) -> PeerAddr {
        self.members[0].addr()
    }

    fn elsewhere(&self) -> &[SocketAddr] {
        &self.elsewhere
    }

    fn is_holder(&self) -> bool {
        false
    }

    fn meet(&mut self, nodes: &[PeerAddr]) {
        self.members.iter_mut().for_each(|member| member.meet(nodes));
    }

    fn datagrams(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        ecn: Option<u8>,
        stride: usize,
        data: &[u8],
    ) {
        let seat = pangea_transport::owner(data, MEMBERS).map_or(0, |core| core.index());
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

/// Plays again what it sent, what it was sent, and what it said with a proof.
#[derive(Default)]
pub(super) struct Replayer {
    tape: VecDeque<(SocketAddr, Vec<u8>)>,
    heard: VecDeque<(SocketAddr, Vec<u8>)>,
}

/// Datagrams remembered of each kind.
const TAPE_MAX: usize = 64;

fn remember(tape: &mut VecDeque<(SocketAddr, Vec<u8>)>, at: SocketAddr, data: &[u8]) {
    if tape.len() == TAPE_MAX {
        tape.pop_front();
    }
    tape.push_back((at, data.to_vec()));
}

impl Plot for Replayer {
    fn round(&mut self, _: u64, body: &mut Body, _: PeerAddr) -> Option<Vec<Move>> {
        for (to, data) in self.tape.iter().take(TAPE_MAX / 2) {
            body.send_raw(*to, None, data.clone());
            body.did("datagrams replayed");
        }
        for (from, data) in self.heard.iter().take(TAPE_MAX / 4) {
            body.send_raw(*from, None, data.clone());
            body.did("datagrams sent back");
        }
        let locator = Locator(body.entropy.array());
        let parcel = Parcel::new(locator, 0, body.noise(SMALL));
        let proof: Rc<RefCell<Option<AuthChallenge>>> = Rc::default();
        let put = |on: &'static str| {
            let (parcel, proof) = (parcel.clone(), proof.clone());
            Move::say(move |scene| {
                let mut parcel = parcel;
                let known = proof.borrow().clone();
                let auth = known.or_else(|| parcel.auth(scene));
                proof.replace(auth.clone());
                parcel.auth = auth;
                scene.body.did(on);
                parcel.words(scene)
            })
        };
        let mut moves = vec![Move::Dial];
        moves.extend(Move::ask_grant(locator, 3 * SMALL as u64));
        moves.extend([put("requests made"), Move::Hear, put("requests replayed"), Move::Hear]);
        moves.extend([Move::Dial, put("proofs replayed on another connection"), Move::Hear]);
        moves.extend([Move::Close, Move::Close]);
        Some(moves)
    }

    fn heard(&mut self, _: &mut Body, remote: SocketAddr, datagram: &[u8]) {
        remember(&mut self.heard, remote, datagram);
    }

    fn sent(&mut self, _: &mut Body, to: SocketAddr, stride: usize, train: &[u8]) {
        train.chunks(stride.max(1)).take(4).for_each(|one| remember(&mut self.tape, to, one));
    }
}
