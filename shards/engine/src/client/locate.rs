//! Finding an object: the manifest's root page, and who holds what.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use pangea_base::{
    ChunkNumber, CoreId, Locator, ManifestId, PeerAddr, PeerId, ShardIndex, VerifyKey,
};
use pangea_wire::{ManifestReader, PlacementPage};

use super::get::GetError;
use super::{Outbox, Trouble, note};
use crate::message::{Answer, Ask, AskFailed, AskId};

/// Peers asked at once for the manifest.
const ASKED_AT_ONCE: usize = 8;

/// The search, its findings, and what it learnt of the peers.
pub(crate) struct Locate {
    manifest: ManifestId,
    key: VerifyKey,
    locator: Locator,
    // Not asked yet, best last.
    waiting: Vec<PeerAddr>,
    asked: BTreeMap<AskId, (PeerAddr, Question)>,
    pub(crate) known: BTreeMap<PeerId, SocketAddr>,
    reader: Option<ManifestReader>,
    // Who sent a good manifest: asked for the placement first.
    sources: Vec<PeerAddr>,
    placement: BTreeMap<u32, PlacementPage>,
    placement_pages: Option<u32>,
    placement_asked: BTreeSet<PeerId>,
    pub(crate) asked_count: usize,
    pub(crate) troubles: Vec<Trouble>,
    pub(crate) bad: Vec<Trouble>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Manifest,
    Placement(u32),
}

/// What was found.
pub(crate) struct Found {
    pub(crate) reader: ManifestReader,
    pub(crate) holders: BTreeMap<ChunkNumber, Vec<(ShardIndex, PeerId)>>,
}

/// Why nothing was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotFound {
    NoPeers,
    NoManifest,
    NoPlacement,
    WrongKey(String),
}

impl NotFound {
    /// For the caller of a get or a stat, `asked` peers having been asked.
    pub(crate) fn told(self, asked: usize) -> GetError {
        match self {
            NotFound::NoPeers => GetError::NoPeers,
            NotFound::NoManifest => GetError::NoManifest { asked },
            NotFound::NoPlacement => GetError::NoPlacement,
            NotFound::WrongKey(why) => GetError::WrongKey(why),
        }
    }
}

impl Locate {
    pub(crate) fn new(
        outbox: &mut Outbox,
        manifest: ManifestId,
        key: VerifyKey,
        peers: &[PeerAddr],
    ) -> Locate {
        let mut known = BTreeMap::new();
        let mut waiting = Vec::new();
        for peer in peers {
            if known.insert(peer.peer, peer.addr).is_none() {
                waiting.push(*peer);
            }
        }
        waiting.reverse();
        let mut locate = Locate {
            manifest,
            locator: key.locator(),
            key,
            waiting,
            asked: BTreeMap::new(),
            known,
            reader: None,
            sources: Vec::new(),
            placement: BTreeMap::new(),
            placement_pages: None,
            placement_asked: BTreeSet::new(),
            asked_count: 0,
            troubles: Vec::new(),
            bad: Vec::new(),
        };
        locate.ask_for_manifest(outbox);
        locate
    }

    pub(crate) fn locator(&self) -> Locator {
        self.locator
    }

    /// Takes in an answer; true if it was to one of our questions.
    pub(crate) fn answered(
        &mut self,
        outbox: &mut Outbox,
        id: AskId,
        answer: Result<Answer, AskFailed>,
    ) -> Result<bool, NotFound> {
        let Some((peer, question)) = self.asked.remove(&id) else { return Ok(false) };
        match (question, answer) {
            (Question::Manifest, Ok(Answer::Blob(bytes))) => {
                self.take_manifest(outbox, peer, &bytes)?;
            }
            (Question::Placement(number), Ok(Answer::Blob(bytes))) => {
                self.take_placement(outbox, peer, number, &bytes);
            }
            (_, Ok(_)) => self.trouble(peer, "it answered another question".to_owned()),
            (Question::Manifest, Err(failed)) => self.trouble(peer, failed.to_string()),
            (Question::Placement(_), Err(failed)) => {
                self.trouble(peer, format!("it did not give the placement: {failed}"));
            }
        }
        if self.reader.is_none() {
            self.ask_for_manifest(outbox);
        } else if self.placement_pages.is_none() {
            self.ask_for_placement(outbox);
        }
        Ok(true)
    }

    /// What was found, once it is all there; `None` while answers are awaited.
    pub(crate) fn outcome(&mut self) -> Option<Result<Found, NotFound>> {
        let all = self
            .placement_pages
            .is_some_and(|pages| self.placement.len() as u64 == u64::from(pages));
        if all && let Some(reader) = self.reader.take() {
            return Some(Ok(Found { reader, holders: self.holders() }));
        }
        if !self.asked.is_empty() {
            return None;
        }
        Some(Err(match (self.asked_count, &self.reader) {
            (0, _) => NotFound::NoPeers,
            (_, None) => NotFound::NoManifest,
            (_, Some(_)) => NotFound::NoPlacement,
        }))
    }

    fn ask_for_manifest(&mut self, outbox: &mut Outbox) {
        while self.asked.len() < ASKED_AT_ONCE {
            let Some(peer) = self.waiting.pop() else { return };
            let page = pangea_base::Hash(self.manifest.0);
            let id = outbox.ask(CoreId(0), peer, Ask::Manifest(self.locator, page));
            self.asked.insert(id, (peer, Question::Manifest));
            self.asked_count += 1;
        }
    }

    fn take_manifest(
        &mut self,
        outbox: &mut Outbox,
        from: PeerAddr,
        bytes: &[u8],
    ) -> Result<(), NotFound> {
        match ManifestReader::root(bytes, self.manifest, &self.key) {
            Ok(reader) => {
                self.sources.push(from);
                if self.reader.is_none() {
                    self.reader = Some(reader);
                    self.ask_for_placement(outbox);
                }
                Ok(())
            }
            Err(invalid) if invalid.blames_holder() => {
                note(&mut self.bad, from.peer, invalid.to_string());
                Ok(())
            }
            // The page is the one that the link names, and the key does not open it.
            Err(invalid) => Err(NotFound::WrongKey(invalid.to_string())),
        }
    }

    /// One source after the other is asked for the placement.
    fn ask_for_placement(&mut self, outbox: &mut Outbox) {
        let busy = self.asked.values().any(|(_, q)| matches!(q, Question::Placement(_)));
        if busy {
            return;
        }
        let fresh = |peer: &&PeerAddr| !self.placement_asked.contains(&peer.peer);
        let Some(&peer) = self.sources.iter().find(fresh) else { return };
        self.placement_asked.insert(peer.peer);
        self.ask_page(outbox, peer, 0);
    }

    fn ask_page(&mut self, outbox: &mut Outbox, peer: PeerAddr, number: u32) {
        let id = outbox.ask(CoreId(0), peer, Ask::Placement(self.locator, number));
        self.asked.insert(id, (peer, Question::Placement(number)));
    }

    fn take_placement(&mut self, outbox: &mut Outbox, from: PeerAddr, number: u32, bytes: &[u8]) {
        let page = match PlacementPage::parse(bytes, self.locator) {
            Ok(page) if page.number == number => page,
            Ok(_) => {
                return note(&mut self.bad, from.peer, "it sent another placement page".to_owned());
            }
            Err(invalid) => return note(&mut self.bad, from.peer, invalid.to_string()),
        };
        let pages = page.pages;
        for holder in &page.holders {
            self.known.entry(holder.peer).or_insert(holder.addr);
        }
        self.placement.insert(number, page);
        if self.placement_pages.is_none() {
            self.placement_pages = Some(pages);
            for number in 1..pages {
                self.ask_page(outbox, from, number);
            }
        }
    }

    fn holders(&self) -> BTreeMap<ChunkNumber, Vec<(ShardIndex, PeerId)>> {
        let mut holders: BTreeMap<ChunkNumber, Vec<(ShardIndex, PeerId)>> = BTreeMap::new();
        // Receipts are hints here: a shard is verified against the manifest, its holder by TLS.
        for receipt in self.placement.values().flat_map(|page| &page.receipts) {
            holders.entry(receipt.chunk).or_default().push((receipt.index, receipt.holder));
        }
        holders
    }

    fn trouble(&mut self, peer: PeerAddr, why: String) {
        note(&mut self.troubles, peer.peer, why);
    }
}
