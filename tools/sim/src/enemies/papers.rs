//! Holders whose papers are not what they should be: receipts, grants, manifests, placements.

use bytes::Bytes;
use pangea_base::{ChunkNumber, Hash, Identity, Locator, PeerAddr, PeerId, Secret, ShardKey};
use pangea_wire::{Grant, Placement, PlacementPage, Receipt, StoreResponse, StoreTrailer, frame};

use super::holder::{Asked, Desk, Vice, blob, routes};
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
        let (own, other) = (&desk.body.identity, &self.other);
        let (key, lease) = (honest.key(), honest.lease);
        let (root, length) = (honest.root, honest.length);
        self.turn += 1;
        match (self.flaw, self.turn % 4) {
            (Flaw::Signature, turn) => {
                let mut receipt = honest;
                receipt.signature[(turn * 21) as usize] ^= 0x40;
                receipt
            }
            (Flaw::Signer, _) => Receipt::issue(other, key, root, length, lease),
            (Flaw::Content, 0) => Receipt::issue(own, key, Hash([3; 32]), length, lease),
            (Flaw::Content, 1) => Receipt::issue(own, key, root, length + 1, lease),
            (Flaw::Content, 2) => {
                let key = ShardKey { chunk: ChunkNumber(key.chunk.0 ^ 1), ..key };
                Receipt::issue(own, key, root, length, lease)
            }
            (Flaw::Content, _) => {
                let short = pangea_base::UnixTime(lease.0.saturating_sub(1));
                Receipt::issue(own, key, root, length, short)
            }
        }
    }
}

impl Vice for BadReceipts {
    fn answer(&mut self, desk: &mut Desk<'_>, asked: &Asked, honest: Saying) -> Saying {
        let &Asked::PutShard { key, lease, trailer: Some(StoreTrailer { root, length }) } = asked
        else {
            return honest;
        };
        let honest = Receipt::issue(&desk.body.identity, key, root, length, lease);
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
        let (expires, nonce) = (desk.body.wall.after(super::holder::GRANT_LIFETIME), [4; 16]);
        let grant = Grant::issue(&desk.body.identity, origin, locator, bytes, expires, nonce);
        desk.body.did("grants for others given");
        Saying::of([routes(vec![grant], None)])
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
/// holders that are none, pages that never come.
#[derive(Default)]
pub(super) struct PlacementForger {
    turn: u64,
}

impl Vice for PlacementForger {
    fn answer(&mut self, desk: &mut Desk<'_>, asked: &Asked, honest: Saying) -> Saying {
        let Asked::GetPlacement { locator, page } = *asked else { return honest };
        desk.body.did("placements forged");
        if page > 0 {
            return Saying { end: End::Open, ..Saying::nothing() };
        }
        self.turn += 1;
        let true_page = honest.pieces.get(1).cloned().unwrap_or_default();
        match self.turn % 5 {
            0 => blob(desk.body.noise(700)),
            1 => blob(forged(desk, locator, &true_page, Holders::Others)),
            2 => blob(forged(desk, locator, &true_page, Holders::Nowhere)),
            3 => blob(many_pages(locator)),
            _ => blob(forged(desk, locator, &true_page, Holders::Nobody)),
        }
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

fn forged(desk: &mut Desk<'_>, locator: Locator, page: &[u8], holders: Holders) -> Bytes {
    let mut placement = Placement::new(locator);
    let mut addresses: Vec<PeerAddr> = desk.body.nodes.clone();
    let receipts = PlacementPage::parse(page, locator).map_or(Vec::new(), |page| page.receipts);
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
    placement.pages(&addresses).swap_remove(0)
}

/// A first page that says that there are as many as may be. By hand, because no honest code makes
/// an empty one.
fn many_pages(locator: Locator) -> Bytes {
    Bytes::from([&[1][..], &locator.0, &[0], &[0x80, 0x08], &[0], &[0]].concat())
}
