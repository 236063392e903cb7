//! Holders whose papers are not what they should be: receipts, grants, manifests, placements.

use std::time::Duration;

use bytes::Bytes;
use pangea_base::{
    ChunkNumber, Hash, Identity, Locator, PeerAddr, PeerId, Secret, ShardKey, UnixTime,
};
use pangea_wire::{Grant, Placement, PlacementOf, PlacementPage, Receipt, StoreResponse, frame};

use super::holder::{Asked, Desk, GRANT_LIFETIME, Vice, blob, placement, receipt, routes};
use super::talk::{End, Saying};

/// Signs receipts and keeps nothing.
pub(super) struct Forgetful;

impl Vice for Forgetful {
    fn answer(&mut self, desk: &mut Desk<'_>, asked: &Asked, honest: Saying) -> Saying {
        if asked.is_put() {
            desk.keep.forget();
            desk.body.did("receipts for what was let go");
        }
        honest
    }
}

/// Tells what it has, and gives nothing of it.
pub(super) struct Selective;

impl Vice for Selective {
    fn answer(&mut self, desk: &mut Desk<'_>, asked: &Asked, honest: Saying) -> Saying {
        match asked {
            Asked::GetShard { .. } => {
                let no = pangea_wire::FetchResponse::Refused(pangea_wire::FetchRefusal::NotHeld);
                desk.body.did("shards denied");
                Saying::of([frame(&no)])
            }
            Asked::Stat { .. } => {
                desk.body.did("shards told of");
                honest
            }
            _ => honest,
        }
    }
}

/// What is wrong with a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    Signature,
    Signer,
    Content,
}

/// A receipt that is not worth its bytes, for what it did keep.
pub(super) struct BadReceipts {
    flaw: Flaw,
    other: Identity,
    turn: u64,
}

impl BadReceipts {
    pub fn new(flaw: Flaw, seed: [u8; 32]) -> BadReceipts {
        BadReceipts { flaw, other: Identity::from_seed(Secret::new(seed)), turn: 0 }
    }

    fn receipt(&mut self, desk: &Desk<'_>, honest: Receipt) -> Receipt {
        let (own, other, owner) = (&desk.body.identity, &self.other, desk.peer);
        let (key, root, length) = (honest.key(), honest.root, honest.length);
        let (now, until) = (desk.body.wall, honest.until);
        let issue =
            |key, root, length, until| Receipt::issue(own, owner, key, root, length, now, until);
        self.turn += 1;
        match (self.flaw, self.turn % 6) {
            (Flaw::Signature, turn) => {
                let mut receipt = honest;
                receipt.signature[(turn * 12) as usize] ^= 0x40;
                receipt
            }
            (Flaw::Signer, _) => Receipt::issue(other, owner, key, root, length, now, until),
            (Flaw::Content, 0) => issue(key, Hash([3; 32]), length, until),
            (Flaw::Content, 1) => issue(key, root, length + 1, until),
            (Flaw::Content, 2) => {
                let key = ShardKey { chunk: ChunkNumber(key.chunk.0 ^ 1), ..key };
                issue(key, root, length, until)
            }
            (Flaw::Content, 3) => issue(key, root, length, UnixTime(until.0 - 1)),
            // The right end, and a lease that begins a minute later.
            (Flaw::Content, 4) => {
                let late = now.after(Duration::from_secs(60));
                Receipt::issue(own, owner, key, root, length, late, until)
            }
            // For what somebody else stored.
            (Flaw::Content, _) => Receipt::issue(own, other.peer(), key, root, length, now, until),
        }
    }
}

impl Vice for BadReceipts {
    fn answer(&mut self, desk: &mut Desk<'_>, asked: &Asked, honest: Saying) -> Saying {
        let &Asked::PutShard { key, lease_seconds, trailer: Some(sent) } = asked else {
            return honest;
        };
        let honest = receipt(desk, key, sent, lease_seconds);
        let receipt = self.receipt(desk, honest);
        desk.body.did(match self.flaw {
            Flaw::Signature => "receipts with a wrong signature",
            Flaw::Signer => "receipts signed by another",
            Flaw::Content => "receipts for something else",
        });
        Saying::of([frame(&StoreResponse::Stored(receipt))])
    }
}

/// Grants that are for somebody else, or for something else.
#[derive(Default)]
pub(super) struct GrantsForOthers {
    turn: u64,
}

impl Vice for GrantsForOthers {
    fn answer(&mut self, desk: &mut Desk<'_>, asked: &Asked, honest: Saying) -> Saying {
        let Asked::Routes { locator, bytes } = *asked else { return honest };
        self.turn += 1;
        let (origin, locator) = match self.turn % 2 {
            0 => (desk.peer, Locator(desk.body.entropy.array())),
            _ => (PeerId(desk.body.entropy.array()), locator),
        };
        let (now, life, nonce) = (desk.body.wall, GRANT_LIFETIME.as_secs(), [4; 16]);
        let grant = Grant::issue(&desk.body.identity, origin, locator, bytes, now, life, nonce);
        desk.body.did("grants for others given");
        Saying::of([routes(desk, vec![grant], None)])
    }
}

/// Gives another page than the manifest's, or none at all.
#[derive(Default)]
pub(super) struct ManifestForger {
    turn: u64,
}

impl Vice for ManifestForger {
    fn answer(&mut self, desk: &mut Desk<'_>, asked: &Asked, honest: Saying) -> Saying {
        if !matches!(asked, Asked::GetManifest { .. }) {
            return honest;
        }
        self.turn += 1;
        desk.body.did("manifests forged");
        let page = honest.pieces.get(1).cloned().unwrap_or_default();
        match self.turn % 4 {
            0 => blob(desk.body.noise(800)),
            1 if page.len() > 40 => {
                let mut forged = honest;
                forged.bend(1, 39);
                forged
            }
            2 if page.len() > 40 => blob(page.slice(..page.len() - 1)),
            _ => blob(desk.body.noise(1)),
        }
    }
}

/// Gives the right manifest and a wrong placement: addresses that lead nowhere or to others,
/// holders that are none, pages that never come, pages of somebody else, owners without end.
#[derive(Default)]
pub(super) struct PlacementForger {
    turn: u64,
}

impl Vice for PlacementForger {
    fn answer(&mut self, desk: &mut Desk<'_>, asked: &Asked, honest: Saying) -> Saying {
        let Asked::GetPlacement { locator, page, whose } = *asked else { return honest };
        desk.body.did("placements forged");
        if page > 0 {
            return Saying { end: End::Open, ..Saying::nothing() };
        }
        self.turn += 1;
        let kept = desk.keep.find_placement(locator, page, whose);
        let (owner, page) =
            kept.map_or((named(whose), Bytes::from_static(&[2])), |(owner, page, _)| (owner, page));
        let more = self.turn % 2 == 1;
        let forged = |desk: &mut Desk<'_>, holders| forged(desk, locator, owner, &page, holders);
        match self.turn % 8 {
            0 => placement(owner, desk.body.noise(700), more),
            1 => placement(owner, forged(desk, Holders::Others), more),
            2 => placement(owner, forged(desk, Holders::Nowhere), more),
            3 => placement(owner, many_pages(locator, owner), more),
            4 => placement(owner, many_pages_of_old(locator), more),
            // The true page, as if it were of whoever asks, and the form of all other pages.
            5 => placement(desk.peer, page, more),
            6 => blob(page),
            _ => placement(owner, forged(desk, Holders::Nobody), more),
        }
    }
}

/// Somebody whom a question lets answer.
fn named(whose: PlacementOf) -> PeerId {
    match whose {
        PlacementOf::Owner(owner) => owner,
        PlacementOf::First => PeerId([0; 32]),
        PlacementOf::Behind(_) => PeerId([0xff; 32]),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Holders {
    /// Each shard is said to be with another than has it.
    Others,
    /// The right holders, at addresses where nobody is.
    Nowhere,
    /// There is no shard anywhere.
    Nobody,
}

fn forged(
    desk: &mut Desk<'_>,
    locator: Locator,
    owner: PeerId,
    page: &[u8],
    holders: Holders,
) -> Bytes {
    let mut placement = Placement::new(locator);
    let mut addresses: Vec<PeerAddr> = desk.body.nodes.clone();
    let page = PlacementPage::parse(page, locator, owner);
    let receipts = page.map_or(Vec::new(), |page| page.receipts);
    let peers: Vec<PeerId> = receipts.iter().map(|receipt| receipt.holder).collect();
    for (at, mut receipt) in receipts.into_iter().enumerate() {
        match holders {
            Holders::Others => receipt.holder = peers[(at + 1) % peers.len()],
            Holders::Nowhere => {
                let addr = desk.body.nowhere();
                addresses.push(PeerAddr { peer: receipt.holder, addr });
            }
            Holders::Nobody => continue,
        }
        // Only its numbers are looked at: it is a forger's own book.
        let _ = placement.add_checked(receipt);
    }
    if holders == Holders::Nowhere {
        addresses.reverse();
    }
    placement.pages(owner, &addresses).swap_remove(0)
}

/// A first page that says that there are as many as may be. By hand, because no honest code makes
/// an empty one: version, locator, owner, number, pages, no address, no receipt.
pub(super) fn many_pages(locator: Locator, owner: PeerId) -> Bytes {
    Bytes::from([&[2][..], &locator.0, &owner.0, &[0], &[0x80, 0x08], &[0], &[0]].concat())
}

/// The same in version 1, whose pages name no owner.
fn many_pages_of_old(locator: Locator) -> Bytes {
    Bytes::from([&[1][..], &locator.0, &[0], &[0x80, 0x08], &[0], &[0]].concat())
}
