//! Finding an object: the manifest's root page, and who holds what.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use pangea_base::{
    ChunkNumber, Code, CoreId, Hash, Locator, ManifestId, PeerAddr, PeerId, ShardIndex, UnixTime,
    VerifyKey,
};
use pangea_wire::limits::{HOLDERS_PER_SHARD_MAX, PLACEMENT_RECEIPTS_MAX};
use pangea_wire::{Link, ManifestReader, PlacementOf, PlacementPage, Receipt};

use super::get::GetError;
use super::{Outbox, Trouble, note};
use crate::message::{Answer, Ask, AskFailed, AskId, Word};

/// Peers asked at once for the manifest.
const ASKED_AT_ONCE: usize = 8;
/// A page of a placement that is followed by another has more receipts than this.
const RECEIPTS_PER_PAGE_MIN: u64 = 4096;

/// Owners whose placement one holder is asked for, beside the one that the manifest names: anybody
/// may have stored one under the object's locator.
const OWNERS_MAX: usize = 32;
/// Receipts of owners that the manifest does not name whose signatures are checked.
const STRANGERS_RECEIPTS_MAX: usize = 65_536;

/// What a receipt says of a shard of a known chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) index: ShardIndex,
    pub(crate) holder: PeerId,
    pub(crate) root: Hash,
    /// Kept until then, by the holder's clock.
    pub(crate) until: UnixTime,
}

/// The search, its findings, and what it learnt of the peers.
pub(crate) struct Locate {
    manifest: ManifestId,
    key: VerifyKey,
    locator: Locator,
    // Not asked yet, best last.
    waiting: Vec<PeerAddr>,
    asked: BTreeMap<AskId, (PeerAddr, Question)>,
    // Where each was last said to be, by the best word; the cores know their other addresses too.
    pub(crate) known: BTreeMap<PeerId, SocketAddr>,
    // Those of them of whose address only a placement knows.
    hearsay: BTreeSet<PeerId>,
    // Every address that the cores were told of.
    told: BTreeSet<PeerAddr>,
    reader: Option<ManifestReader>,
    chunk_count: u32,
    // Whose the object is, as its manifest says.
    owner: Option<PeerId>,
    // Placements to be read, of those who sent a good manifest: those of the object's owner, and
    // afterwards those of anybody.
    owners: VecDeque<PeerAddr>,
    anybodys: VecDeque<(PeerAddr, PlacementOf, usize)>,
    strangers_receipts: usize,
    // The placement that is being read.
    reading: Option<Reading>,
    placement_found: bool,
    // Something new was said since more was asked for.
    pub(crate) fresh: bool,
    // Who is said to hold what, by whichever placements were read. Anybody may have said so, and
    // the receipts are only hints: a shard is verified against the manifest, its holder by TLS.
    pub(crate) holders: BTreeMap<ChunkNumber, Vec<Said>>,
    receipts: usize,
    pub(crate) asked_count: usize,
    pub(crate) troubles: Vec<Trouble>,
    pub(crate) bad: Vec<Trouble>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Manifest,
    Placement(u32),
}

/// One peer's placement on its way.
struct Reading {
    from: PeerAddr,
    // How many owners' placements were asked for there before it.
    before: usize,
    // Pages that did not come yet, the first one included.
    left: u32,
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
    /// Looks for what a link names, at the peers that the user names and at those of its hints.
    pub(crate) fn new(outbox: &mut Outbox, link: &Link, peers: &[PeerAddr]) -> Locate {
        let (manifest, key, hints) = (link.manifest, link.verify_key(), link.hints());
        // Where a peer is, the user knows best: the link may be old.
        let mut known = BTreeMap::new();
        for at in peers.iter().chain(hints) {
            known.entry(at.peer).or_insert(at.addr);
        }
        let told: BTreeSet<PeerAddr> = peers.iter().chain(hints).copied().collect();
        outbox.know(peers.iter().chain(hints).copied(), Word::Given);
        // Whom to ask, the link knows as well as the user: in turn, so that nobody's dead ones hold
        // up the other's.
        let mut seen = BTreeSet::new();
        let both = (0..peers.len().max(hints.len())).flat_map(|at| [hints.get(at), peers.get(at)]);
        let mut waiting: Vec<PeerAddr> =
            both.flatten().filter(|at| seen.insert(at.peer)).copied().collect();
        waiting.reverse();
        let mut locate = Locate {
            manifest,
            locator: key.locator(),
            key,
            waiting,
            asked: BTreeMap::new(),
            known,
            hearsay: BTreeSet::new(),
            told,
            reader: None,
            chunk_count: 0,
            owner: None,
            owners: VecDeque::new(),
            anybodys: VecDeque::new(),
            strangers_receipts: 0,
            reading: None,
            placement_found: false,
            fresh: false,
            holders: BTreeMap::new(),
            receipts: 0,
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
            (Question::Placement(number), Ok(Answer::Placement { owner, more, page })) => {
                let behind = more.then_some(owner);
                self.take_placement(outbox, peer, number, owner, behind, &page);
            }
            (Question::Manifest, Ok(_)) => {
                self.trouble(peer, "it answered another question".to_owned());
            }
            (Question::Placement(_), Ok(_)) => {
                self.trouble(peer, "it answered another question".to_owned());
                self.give_up_reading(peer);
            }
            (Question::Manifest, Err(failed)) => self.trouble(peer, failed.to_string()),
            (Question::Placement(_), Err(failed)) => {
                self.trouble(peer, format!("it did not give the placement: {failed}"));
                self.give_up_reading(peer);
            }
        }
        if self.chunk_count == 0 {
            self.ask_for_manifest(outbox);
        } else if !self.placement_found {
            self.ask_for_placement(outbox);
        }
        Ok(true)
    }

    /// The manifest, once the first placement is there too; `None` while answers are awaited.
    pub(crate) fn outcome(&mut self) -> Option<Result<ManifestReader, NotFound>> {
        if self.placement_found
            && let Some(reader) = self.reader.take()
        {
            return Some(Ok(reader));
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

    /// What the placements say does not lead to the shards: another peer's is read too. False:
    /// there is none left.
    pub(crate) fn look_further(&mut self, outbox: &mut Outbox) -> bool {
        self.placement_found = false;
        self.fresh = false;
        self.ask_for_placement(outbox);
        self.is_looking()
    }

    /// Whether a placement, or the manifest of somebody who may have another, is awaited.
    pub(crate) fn is_looking(&self) -> bool {
        !self.placement_found && !self.asked.is_empty()
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
                self.owners.extend(reader.owner().map(|_| from));
                self.anybodys.push_back((from, PlacementOf::First, 0));
                if self.chunk_count == 0 {
                    self.chunk_count = reader.chunk_count();
                    self.owner = reader.owner();
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

    /// One source after the other is asked for the owner's placement, then for those of others.
    fn ask_for_placement(&mut self, outbox: &mut Outbox) {
        if self.reading.is_some() {
            return;
        }
        let (from, whose, before) = match (self.owner, self.owners.pop_front()) {
            (Some(owner), Some(from)) => (from, PlacementOf::Owner(owner), 0),
            _ => match self.anybodys.pop_front() {
                Some(next) => next,
                None => return,
            },
        };
        self.reading = Some(Reading { from, before, left: 1 });
        self.ask_page(outbox, from, 0, whose);
    }

    fn ask_page(&mut self, outbox: &mut Outbox, peer: PeerAddr, number: u32, whose: PlacementOf) {
        let id = outbox.ask(CoreId(0), peer, Ask::Placement(self.locator, number, whose));
        self.asked.insert(id, (peer, Question::Placement(number)));
    }

    fn give_up_reading(&mut self, from: PeerAddr) {
        if self.reading.as_ref().is_some_and(|reading| reading.from == from) {
            self.reading = None;
            // Its other pages may still come, and nobody waits for them.
            self.asked.retain(|_, (peer, question)| {
                *peer != from || matches!(question, Question::Manifest)
            });
        }
    }

    /// `behind`: there are placements of owners behind this one.
    fn take_placement(
        &mut self,
        outbox: &mut Outbox,
        from: PeerAddr,
        number: u32,
        owner: PeerId,
        behind: Option<PeerId>,
        bytes: &[u8],
    ) {
        if number == 0 {
            self.read_behind(from, behind);
        }
        let page = match self.placement_page(number, owner, bytes) {
            Ok(page) => page,
            Err(what) => {
                // Whoever keeps it cannot know what it should say, and is no liar for it.
                self.trouble(from, format!("of a placement that it keeps: {what}"));
                return self.give_up_reading(from);
            }
        };
        let pages = page.pages;
        self.learn(outbox, page, owner);
        let Some(reading) = self.reading.as_mut().filter(|reading| reading.from == from) else {
            return;
        };
        reading.left -= 1;
        if number == 0 {
            reading.left = pages - 1;
        }
        if reading.left == 0 {
            self.reading = None;
            self.placement_found = true;
        } else if number == 0 {
            for number in 1..pages {
                self.ask_page(outbox, from, number, PlacementOf::Owner(owner));
            }
        }
    }

    /// Whatever a placement says, those of the owners behind its own are read in their turn.
    fn read_behind(&mut self, from: PeerAddr, behind: Option<PeerId>) {
        let reading = self.reading.as_ref().filter(|reading| reading.from == from);
        let Some((before, last)) = reading.map(|reading| reading.before).zip(behind) else {
            return;
        };
        if before < OWNERS_MAX {
            self.anybodys.push_back((from, PlacementOf::Behind(last), before + 1));
        }
    }

    /// A page that can be what was asked for, or what is wrong with it.
    fn placement_page(
        &self,
        number: u32,
        owner: PeerId,
        bytes: &[u8],
    ) -> Result<PlacementPage, String> {
        let page = PlacementPage::parse(bytes, self.locator, owner).map_err(|e| e.to_string())?;
        if page.number != number {
            return Err("it sent another placement page".to_owned());
        }
        let shards = u64::from(self.chunk_count) * Code::SHARDS_MAX as u64;
        let receipts = shards * HOLDERS_PER_SHARD_MAX as u64;
        if u64::from(page.pages) > receipts / RECEIPTS_PER_PAGE_MIN + 1 {
            return Err("its placement is longer than the object's can be".to_owned());
        }
        Ok(page)
    }

    /// Takes a page's word for who holds what, and where they are.
    fn learn(&mut self, outbox: &mut Outbox, page: PlacementPage, owner: PeerId) {
        for holder in &page.holders {
            // What the user or the link says is not changed by a holder's word; what one holder
            // said is by another's, who is asked because the first one's led nowhere.
            if !self.known.contains_key(&holder.peer) {
                self.hearsay.insert(holder.peer);
            }
            if self.hearsay.contains(&holder.peer) {
                self.known.insert(holder.peer, holder.addr);
            }
        }
        // Whoever is not found where the user or the link says, is looked for there too.
        let new: Vec<PeerAddr> =
            page.holders.iter().filter(|at| self.told.insert(**at)).copied().collect();
        self.fresh |= !new.is_empty();
        outbox.know(new, Word::Hearsay);
        for receipt in &page.receipts {
            if receipt.chunk.0 >= self.chunk_count || self.receipts >= PLACEMENT_RECEIPTS_MAX {
                continue;
            }
            let Receipt { index, holder, root, until, .. } = *receipt;
            let said = Said { index, holder, root, until };
            let holders = self.holders.entry(receipt.chunk).or_default();
            let same = |known: &Said| (known.index, known.holder, known.root);
            if holders.iter().any(|known| same(known) == same(&said)) {
                continue;
            }
            if self.owner.is_some_and(|named| named != owner) {
                // Whoever is not the owner can write what it likes, but not sign for holders.
                self.strangers_receipts += 1;
                if self.strangers_receipts > STRANGERS_RECEIPTS_MAX || receipt.verify().is_err() {
                    continue;
                }
            }
            holders.push(said);
            self.receipts += 1;
            self.fresh = true;
        }
    }

    fn trouble(&mut self, peer: PeerAddr, why: String) {
        note(&mut self.troubles, peer.peer, why);
    }
}
