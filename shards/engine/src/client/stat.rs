//! Asking every holder of an object what it still has.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use pangea_base::{ChunkNumber, Code, CoreId, Hash, PeerAddr, PeerId, ShardIndex};
use pangea_wire::{ChunkEntry, ClockDifference, Link, ManifestWalk, Step};

use super::get::GetError;
use super::locate::{Locate, NotFound};
use super::{Numbers, Outbox, Trouble};
use crate::message::{Answer, Ask, AskFailed, AskId, Command, HeldThere, Report};

/// One chunk as its holders have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkStat {
    /// Which.
    pub chunk: ChunkNumber,
    /// Its code.
    pub code: Code,
    /// Promised shards: index, holder, and whether the holder confirmed it just now.
    pub shards: Vec<(ShardIndex, PeerId, bool)>,
    /// In how many seconds the first of the confirmed ones need not be kept any more.
    pub lease_left: Option<u64>,
}

impl ChunkStat {
    /// Distinct confirmed shards less k; negative: the chunk is lost.
    pub fn losses_left(&self) -> i64 {
        let confirmed: BTreeSet<ShardIndex> =
            self.shards.iter().filter(|(.., there)| *there).map(|(index, ..)| *index).collect();
        confirmed.len() as i64 - self.code.k() as i64
    }
}

/// One holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HolderStat {
    /// Who.
    pub peer: PeerId,
    /// Where it is said to be: by the user, the link or a placement, whichever is first.
    pub addr: Option<SocketAddr>,
    /// Shards it signed receipts for.
    pub promised: usize,
    /// Shards it has.
    pub confirmed: usize,
    /// Why not more.
    pub trouble: Option<String>,
    /// How far its clock is from ours, if that is worth telling.
    pub clock: Option<ClockDifference>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatOutcome {
    /// Plaintext bytes.
    pub bytes: u64,
    /// Every chunk.
    pub chunks: Vec<ChunkStat>,
    /// Every holder.
    pub holders: Vec<HolderStat>,
}

/// The machine.
pub struct Stat {
    outbox: Outbox,
    locate: Locate,
    walk: Option<ManifestWalk>,
    page_asked: Option<AskId>,
    page_peers: Vec<PeerAddr>,
    entries: BTreeMap<ChunkNumber, ChunkEntry>,
    walked: bool,
    bytes: u64,
    owner: Option<PeerId>,
    asked: BTreeMap<AskId, PeerId>,
    answers: BTreeMap<PeerId, Result<HeldThere, String>>,
    looks_further: bool,
    done: Option<Result<StatOutcome, GetError>>,
    finished: bool,
}

impl Stat {
    /// Begins.
    pub fn new(link: &Link, peers: &[PeerAddr], cores: u8, numbers: Numbers) -> Stat {
        let mut outbox = Outbox::new(cores, numbers);
        let locate = Locate::new(&mut outbox, link, peers);
        let mut stat = Stat {
            outbox,
            locate,
            walk: None,
            page_asked: None,
            page_peers: Vec::new(),
            entries: BTreeMap::new(),
            walked: false,
            bytes: 0,
            owner: None,
            asked: BTreeMap::new(),
            answers: BTreeMap::new(),
            looks_further: false,
            done: None,
            finished: false,
        };
        stat.go_on();
        stat
    }

    /// Takes in what a core reports.
    pub fn handle(&mut self, report: Report) {
        if let Report::Answered(id, answer) = report {
            self.answered(id, answer);
        }
        self.go_on();
    }

    /// The next command.
    pub fn poll(&mut self) -> Option<(CoreId, Command)> {
        self.outbox.commands.pop_front()
    }

    /// The result, once there is one.
    pub fn outcome(&mut self) -> Option<Result<StatOutcome, GetError>> {
        self.done.take()
    }

    /// Who did not answer so far.
    pub fn troubles(&self) -> &[Trouble] {
        &self.locate.troubles
    }

    /// Gives the numbers back for the next machine.
    pub fn into_numbers(self) -> Numbers {
        self.outbox.numbers
    }

    fn answered(&mut self, id: AskId, answer: Result<Answer, AskFailed>) {
        if self.page_asked == Some(id) {
            self.page_asked = None;
            self.page(answer);
        } else if let Some(peer) = self.asked.remove(&id) {
            let held = match answer {
                Ok(Answer::Stat(held)) => Ok(held),
                Ok(_) => Err("it answered another question".to_owned()),
                Err(failed) => Err(failed.to_string()),
            };
            self.answers.insert(peer, held);
        } else if let Err(not_found) = self.locate.answered(&mut self.outbox, id, answer) {
            self.not_found(not_found);
        }
    }

    fn go_on(&mut self) {
        if self.finished {
            return;
        }
        if self.walk.is_none() {
            match self.locate.outcome() {
                None => return,
                Some(Err(not_found)) => return self.not_found(not_found),
                Some(Ok(reader)) => {
                    self.bytes = reader.plaintext_bytes();
                    self.owner = reader.owner();
                    self.walk = Some(ManifestWalk::new(reader));
                    self.ask_holders();
                }
            }
        }
        self.walk_on();
        if !self.walked || !self.asked.is_empty() || self.looks_further && self.locate.is_looking()
        {
            return;
        }
        if std::mem::take(&mut self.looks_further) {
            self.ask_holders();
            return self.go_on();
        }
        // One holder's word is not enough to call an object lost: others are heard too.
        let lost = self.chunks().iter().any(|chunk| chunk.losses_left() < 0);
        if lost && self.locate.look_further(&mut self.outbox) {
            self.looks_further = true;
            return;
        }
        self.conclude();
    }

    fn ask_holders(&mut self) {
        let holders: BTreeSet<PeerId> =
            self.locate.holders.values().flatten().map(|said| said.holder).collect();
        for peer in holders {
            if matches!(self.answers.get(&peer), Some(Ok(_))) {
                continue;
            }
            let Some(&addr) = self.locate.known.get(&peer) else {
                self.answers.insert(peer, Err("its address is not known".to_owned()));
                continue;
            };
            let core = self.outbox.any_core();
            let ask = Ask::Stat(self.locate.locator(), self.owner);
            let id = self.outbox.ask(core, PeerAddr { peer, addr }, ask);
            self.asked.insert(id, peer);
        }
    }

    fn walk_on(&mut self) {
        while !self.walked && self.page_asked.is_none() && !self.finished {
            let Some(walk) = &mut self.walk else { return };
            match walk.step() {
                Step::Chunks { first, entries } => {
                    self.entries.extend((first.0..).map(ChunkNumber).zip(entries));
                }
                Step::Fetch(page) => {
                    let known = self.locate.known.iter();
                    self.page_peers = known.map(|(&peer, &addr)| PeerAddr { peer, addr }).collect();
                    self.ask_page(page.hash);
                }
                Step::Done => self.walked = true,
            }
        }
    }

    fn ask_page(&mut self, hash: Hash) {
        let Some(peer) = self.page_peers.pop() else {
            let asked = self.locate.known.len();
            return self.finish(Err(GetError::NoManifest { asked }));
        };
        let core = self.outbox.any_core();
        let ask = Ask::Manifest(self.locate.locator(), hash);
        self.page_asked = Some(self.outbox.ask(core, peer, ask));
    }

    fn page(&mut self, answer: Result<Answer, AskFailed>) {
        let Some(walk) = &mut self.walk else { return };
        let Step::Fetch(wanted) = walk.step() else { return };
        let added = match &answer {
            Ok(Answer::Blob(bytes)) => walk.add(bytes),
            _ => return self.ask_page(wanted.hash),
        };
        match added {
            Ok(()) => {}
            Err(invalid) if invalid.blames_holder() => self.ask_page(wanted.hash),
            Err(invalid) => self.finish(Err(GetError::WrongKey(invalid.to_string()))),
        }
    }

    fn chunks(&self) -> Vec<ChunkStat> {
        let mut chunks = Vec::new();
        for (&chunk, entry) in &self.entries {
            let promised = self.locate.holders.get(&chunk).map_or(&[][..], Vec::as_slice);
            let promised = promised.iter().filter(|said| entry.root(said.index) == Some(said.root));
            let mut shards = Vec::new();
            let mut lease_left: Option<u64> = None;
            for said in promised {
                let left = self.confirms(said.holder, chunk, said.index, entry);
                shards.push((said.index, said.holder, left.is_some()));
                lease_left = lease_left.into_iter().chain(left).min();
            }
            chunks.push(ChunkStat { chunk, code: entry.code(), shards, lease_left });
        }
        chunks
    }

    fn conclude(&mut self) {
        let chunks = self.chunks();
        let mut counts: BTreeMap<PeerId, (usize, usize)> = BTreeMap::new();
        for (_, peer, there) in chunks.iter().flat_map(|chunk| &chunk.shards) {
            let count = counts.entry(*peer).or_default();
            count.0 += 1;
            count.1 += usize::from(*there);
        }
        let holder = |(peer, (promised, confirmed)): (PeerId, (usize, usize))| HolderStat {
            peer,
            addr: self.locate.known.get(&peer).copied(),
            promised,
            confirmed,
            trouble: match self.answers.get(&peer) {
                Some(Err(why)) => Some(why.clone()),
                _ => None,
            },
            clock: match self.answers.get(&peer) {
                Some(Ok(held)) => held.clock,
                _ => None,
            },
        };
        let holders = counts.into_iter().map(holder).collect();
        self.finish(Ok(StatOutcome { bytes: self.bytes, chunks, holders }));
    }

    /// For how many seconds yet a holder keeps this very shard, if it said that it has it.
    fn confirms(
        &self,
        peer: PeerId,
        chunk: ChunkNumber,
        index: ShardIndex,
        entry: &ChunkEntry,
    ) -> Option<u64> {
        let Some(Ok(held)) = self.answers.get(&peer) else { return None };
        let wanted = (chunk, index, entry.root(index)?);
        let at = held.shards.binary_search_by_key(&wanted, |s| (s.chunk, s.index, s.root)).ok()?;
        let shard = held.shards.get(at)?;
        let left = shard.until.0.saturating_sub(held.now.0);
        (shard.length == entry.shard_bytes).then_some(left)
    }

    fn not_found(&mut self, not_found: NotFound) {
        let asked = self.locate.asked_count;
        self.finish(Err(not_found.told(asked)));
    }

    fn finish(&mut self, outcome: Result<StatOutcome, GetError>) {
        if !self.finished {
            self.finished = true;
            self.done = Some(outcome);
        }
    }
}
