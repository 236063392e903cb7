//! The end of a put: every holder is told what the object is and where it lies, and only what can
//! be found and read again is called stored.

use std::collections::BTreeSet;

use pangea_base::{PeerAddr, PeerId, ReadKey, is_of_one_link};
use pangea_wire::{Link, LinkKey, ManifestPage, ManifestWriter, Placement, Receipt};

use super::{Phase, Put, PutError, PutOutcome, distinct_holders};
use crate::client::note;
use crate::message::{Answer, Ask, AskFailed, AskId};
use crate::room::blob_room;

impl Put {
    /// Every chunk is stored: manifest and placement go to every holder.
    pub(super) fn tell(&mut self) {
        self.phase = Phase::Telling;
        let mut writer = ManifestWriter::new(&self.key, Some(self.spec.owner), &mut self.entropy);
        let mut pages = Vec::new();
        for (entry, _) in self.stored.values() {
            match writer.push(entry) {
                Ok(page) => pages.extend(page),
                Err(failed) => return self.fail(PutError::Local(failed.to_string())),
            }
        }
        let sealed = match writer.finish(self.spec.label.as_ref()) {
            Ok(sealed) => sealed,
            Err(failed) => return self.fail(PutError::Local(failed.to_string())),
        };
        pages.extend(sealed.pages);
        self.link = Some(sealed.id);
        let placement = self.placement();
        for at in self.holding_candidates() {
            let candidate = &mut self.candidates[at];
            let addr = candidate.addr;
            let core = self.outbox.any_core();
            let named =
                pages.iter().map(|page| (ManifestPage::Page(page.hash), page.bytes.clone()));
            let root = (ManifestPage::Root(sealed.id), sealed.root.clone());
            for (name, page) in named.chain([root]) {
                let Some(grant) = candidate.spend(blob_room(page.len() as u64)) else { continue };
                let ask = Ask::PutManifest { grant: Box::new(grant), name, page };
                let id = self.outbox.ask(core, addr, ask);
                self.asks.insert(id, addr.peer);
            }
            for (number, page) in (0..).zip(&placement) {
                let Some(grant) = candidate.spend(blob_room(page.len() as u64)) else { continue };
                let (grant, page) = (Box::new(grant), page.clone());
                let ask = Ask::PutPlacement { grant, number, page };
                let id = self.outbox.ask(core, addr, ask);
                self.asks.insert(id, addr.peer);
            }
            self.manifest_at.insert(addr.peer);
        }
    }

    fn placement(&self) -> Vec<bytes::Bytes> {
        let mut placement = Placement::new(self.locator);
        for (_, receipts) in self.stored.values() {
            for receipt in receipts {
                // Its core has checked the signature when it came.
                let added = placement.add_checked(receipt.clone());
                debug_assert!(added.is_ok(), "a receipt that was checked fits its object");
            }
        }
        let addrs: Vec<PeerAddr> =
            self.candidates.iter().map(|c| self.for_others(c.addr)).collect();
        placement.pages(self.spec.owner, &addrs)
    }

    /// Where others are told that a holder is: where it was reached, unless that is an address of
    /// one link and the user named a better one.
    fn for_others(&self, reached: PeerAddr) -> PeerAddr {
        let mut named = self.spec.peers.iter().filter(|at| at.peer == reached.peer);
        match is_of_one_link(reached.addr) {
            true => named.find(|at| !is_of_one_link(at.addr)).copied().unwrap_or(reached),
            false => reached,
        }
    }

    /// Who holds at least one shard.
    fn holders(&self) -> BTreeSet<PeerId> {
        self.stored.values().flat_map(|(_, rs)| rs.iter().map(|r| r.holder)).collect()
    }

    fn holding_candidates(&self) -> Vec<usize> {
        let holders = self.holders();
        let holds = |at: &usize| holders.contains(&self.candidates[*at].addr.peer);
        (0..self.candidates.len()).filter(holds).collect()
    }

    pub(super) fn told(&mut self, id: AskId, answer: Result<Answer, AskFailed>) {
        let Some(peer) = self.asks.remove(&id) else { return };
        let failed = match answer {
            Ok(Answer::Stored) => None,
            Ok(_) => Some("it answered another question".to_owned()),
            Err(failed) => Some(format!("it did not take the manifest: {failed}")),
        };
        if let Some(why) = failed {
            note(&mut self.troubles, peer, why);
            self.manifest_missed.insert(peer);
        }
        if self.asks.is_empty() {
            self.conclude();
        }
    }

    fn conclude(&mut self) {
        self.manifest_at.retain(|peer| !self.manifest_missed.contains(peer));
        let code = self.spec.situation.code.expect("decided before chunks were dealt");
        // Who does not have the manifest has failed since it signed: it is not counted on.
        let counts = || {
            let there = |r: &&Receipt| self.manifest_at.contains(&r.holder);
            let shards = self.stored.values();
            shards.map(move |(_, receipts)| distinct_holders(receipts.iter().filter(there)))
        };
        let least = counts().min().unwrap_or(0);
        if least < code.k() {
            return self.fail(PutError::Manifest { found: least, needed: code.k() });
        }
        let all = counts().all(|holders| holders == code.n());
        let hints: Vec<PeerAddr> = self
            .candidates
            .iter()
            .map(|candidate| self.for_others(candidate.addr))
            .filter(|addr| self.manifest_at.contains(&addr.peer) && !is_of_one_link(addr.addr))
            .take((code.m() + 1).min(pangea_wire::limits::HINTS_MAX))
            .collect();
        let id = self.link.expect("sealed before it was told");
        let key = ReadKey(pangea_base::Secret::new(*self.key.0.expose()));
        let link = match Link::new(id, LinkKey::Read(key), hints) {
            Ok(link) => link,
            Err(invalid) => return self.fail(PutError::Local(invalid.to_string())),
        };
        let clocks = std::mem::take(&mut self.clocks).into_iter().collect();
        self.finish(Ok(PutOutcome {
            link,
            bytes: self.next_offset,
            complete: all && self.manifest_missed.is_empty(),
            code,
            holders: self.holders().into_iter().collect(),
            survives_losses: least - code.k(),
            clocks,
        }));
    }
}
