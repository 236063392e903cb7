//! Callers with grants that are not theirs, or that they do not use.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use pangea_base::{Locator, PeerAddr, PeerId};
use pangea_wire::limits::GRANT_LIFETIME_MAX;
use pangea_wire::{AuthChallenge, Grant};

use super::body::Body;
use super::caller::{Move, Plot, Scene};
use super::parcel::{Parcel, disk_bytes};

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
    Later,
    OtherObject,
    OtherOrigin,
    OtherHolder,
    Proof,
}

const FORGERIES: [Forgery; 8] = [
    Forgery::OwnSignature,
    Forgery::MoreBytes,
    Forgery::MoreTime,
    Forgery::Later,
    Forgery::OtherObject,
    Forgery::OtherOrigin,
    Forgery::OtherHolder,
    Forgery::Proof,
];

impl Forgery {
    fn forge(self, scene: &mut Scene<'_>, parcel: &mut Parcel) {
        let Some(honest) = scene.grant.clone() else { return };
        let mut grant = honest.clone();
        match self {
            Forgery::OwnSignature => {
                grant = own_grant(scene, parcel.key.locator, &honest);
                grant.holder = scene.node.peer;
            }
            Forgery::MoreBytes => grant.bytes_max = u64::MAX,
            Forgery::MoreTime => grant.lifetime_seconds = GRANT_LIFETIME_MAX.as_secs(),
            Forgery::Later => grant.issued = scene.body.wall.after(Duration::from_secs(3600)),
            Forgery::OtherObject => parcel.key.locator = Locator(scene.body.entropy.array()),
            Forgery::OtherOrigin => grant.origin = PeerId(scene.body.entropy.array()),
            Forgery::OtherHolder => {
                grant = own_grant(scene, parcel.key.locator, &honest);
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

/// A grant of its own making, for much.
fn own_grant(scene: &mut Scene<'_>, locator: Locator, like: &Grant) -> Grant {
    let (issued, life, nonce) = (like.issued, like.lifetime_seconds, scene.body.entropy.array());
    let identity = &scene.body.identity;
    Grant::issue(identity, identity.peer(), locator, 1 << 40, issued, life, nonce)
}

impl Plot for GrantForger {
    fn round(&mut self, number: u64, body: &mut Body, _: PeerAddr) -> Option<Vec<Move>> {
        let locator = Locator(body.entropy.array());
        let mut moves = vec![Move::Dial];
        moves.extend(Move::ask_grant(locator, disk_bytes(SMALL)));
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
        moves.extend(Move::ask_grant(locator, 3 * disk_bytes(SMALL)));
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
