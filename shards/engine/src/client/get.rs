//! Getting one object: find its manifest, deal its chunks over the cores, put the bytes in order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use pangea_base::file::FileId;
use pangea_base::{
    ChunkNumber, ContentKey, CoreId, Hash, Page, PeerAddr, PeerId, ReadKey, ShardIndex, UnixTime,
};
use pangea_wire::{ChunkEntry, Label, Link, ManifestWalk, Step};

use super::locate::{Locate, NotFound, Said};
use super::{Numbers, Outbox, Trouble, note};
use crate::content::ContentHash;
use crate::limits::GET_EXTRA;
use crate::message::{
    Answer, Ask, AskFailed, AskId, ChunkSink, Command, GetChunk, GetChunkFailed, JobId, Report,
};

/// What a get is told.
pub struct GetSpec<'a> {
    /// The capability; it must read.
    pub link: &'a Link,
    /// Peers to ask beside the link's hints, which for a peer of both may be old.
    pub peers: Vec<PeerAddr>,
    /// The output's number on each core; `None`: pages go to control, in order.
    pub output: Option<Vec<FileId>>,
    /// How many cores there are.
    pub cores: u8,
    /// Bytes that the shards of chunks in flight may take in memory.
    pub memory_bytes: u64,
}

/// What the get wants of control.
#[derive(Debug)]
pub enum GetWants {
    /// A command for a core.
    Command(CoreId, Command),
    /// The next bytes of the output.
    Plain(Page),
    /// It is over.
    Done(Box<Result<GetOutcome, GetError>>),
}

/// A get that succeeded.
#[derive(Debug)]
pub struct GetOutcome {
    /// Plaintext bytes.
    pub bytes: u64,
    /// BLAKE3 of all of them.
    pub blake3: Hash,
    /// The name that its origin gave it.
    pub label: Option<Label>,
    /// When the first of its shards need not be kept any more, as its holders signed it.
    pub lease_until: Option<UnixTime>,
}

/// A get that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GetError {
    /// Nobody to ask.
    NoPeers,
    /// The link does not read.
    NotReadable,
    /// Nobody has the manifest.
    NoManifest {
        /// Peers asked.
        asked: usize,
    },
    /// Nobody knows where the shards are.
    NoPlacement,
    /// The key does not open what was found.
    WrongKey(String),
    /// Fewer than k shards of a chunk.
    TooFew {
        /// Which chunk.
        chunk: u32,
        /// Good shards found.
        found: usize,
        /// Shards needed.
        needed: usize,
    },
    /// The output.
    Output(String),
}

/// Chunks that one core fetches at once.
const CHUNKS_PER_CORE: usize = 2;

/// The machine.
pub struct Get {
    outbox: Outbox,
    cores: u8,
    output: Option<Vec<FileId>>,
    memory_bytes: u64,
    locate: Locate,
    content_key: Arc<ContentKey>,
    read_key: ReadKey,
    walk: Option<ManifestWalk>,
    page_asked: Option<(AskId, PeerId)>,
    // The peers that were not yet asked for the page in question.
    page_peers: Vec<PeerAddr>,
    chunks: VecDeque<(ChunkNumber, ChunkEntry)>,
    next_offset: u64,
    jobs: BTreeMap<JobId, Running>,
    // Chunks whose holders were not found; more of them are looked for.
    starved: Vec<Running>,
    // With an output in order: the chunk whose pages go out now, and pages of later ones.
    next_out: u32,
    held: BTreeMap<u32, (VecDeque<Page>, bool)>,
    content: ContentHash,
    ended: bool,
    label: Option<Label>,
    lease_until: Option<UnixTime>,
    done: Option<Result<GetOutcome, GetError>>,
    finished: bool,
    down: BTreeSet<PeerId>,
    /// Plaintext bytes written so far.
    pub bytes_done: u64,
    /// Plaintext bytes in all, once known.
    pub bytes_total: Option<u64>,
    /// Who lied, and how.
    pub bad_holders: Vec<Trouble>,
    /// Who did not answer, or lost what it promised.
    pub troubles: Vec<Trouble>,
}

struct Running {
    chunk: ChunkNumber,
    core: CoreId,
    offset: u64,
    entry: Arc<ChunkEntry>,
    // What its shards take while they are in memory.
    bytes: u64,
    // Plaintext that was written, and pages that were handed over, in this attempt; and pages that
    // were handed over in earlier ones and are not wanted again.
    progress: u64,
    pages: u64,
    pages_before: u64,
    // Good shards of the best attempt.
    found: usize,
}

impl Running {
    fn too_few(&self) -> GetError {
        let (chunk, needed) = (self.chunk.0, self.entry.code().k());
        GetError::TooFew { chunk, found: self.found, needed }
    }
}

impl Get {
    /// Begins. Refuses a link that cannot read.
    pub fn new(spec: GetSpec<'_>, numbers: Numbers) -> Result<Get, (GetError, Numbers)> {
        let Some(key) = spec.link.read_key() else { return Err((GetError::NotReadable, numbers)) };
        let read_key = ReadKey(pangea_base::Secret::new(*key.0.expose()));
        let mut outbox = Outbox::new(spec.cores, numbers);
        let locate = Locate::new(&mut outbox, spec.link, &spec.peers);
        let mut get = Get {
            outbox,
            cores: spec.cores,
            output: spec.output,
            memory_bytes: spec.memory_bytes,
            locate,
            content_key: Arc::new(read_key.content_key()),
            read_key,
            walk: None,
            page_asked: None,
            page_peers: Vec::new(),
            chunks: VecDeque::new(),
            next_offset: 0,
            jobs: BTreeMap::new(),
            starved: Vec::new(),
            next_out: 0,
            held: BTreeMap::new(),
            content: ContentHash::default(),
            ended: false,
            label: None,
            lease_until: None,
            done: None,
            finished: false,
            down: BTreeSet::new(),
            bytes_done: 0,
            bytes_total: None,
            bad_holders: Vec::new(),
            troubles: Vec::new(),
        };
        get.locate_on();
        Ok(get)
    }

    /// In a few words for a person, what is going on.
    pub fn stage(&self) -> &'static str {
        if self.walk.is_none() { "looking for the manifest" } else { "fetching" }
    }

    /// The object's own name, once the manifest has told it: `Some(None)` if it has none.
    pub fn label(&self) -> Option<Option<&Label>> {
        self.walk.as_ref().map(|_| self.label.as_ref())
    }

    /// Peers that are known.
    pub fn peers_known(&self) -> usize {
        self.locate.known.len() - self.down.len().min(self.locate.known.len())
    }

    /// Takes in what a core reports.
    pub fn handle(&mut self, report: Report) {
        match report {
            Report::Answered(id, answer) => self.answered(id, answer),
            Report::GetProgress(job, bytes) => {
                self.bytes_done += bytes;
                if let Some(running) = self.jobs.get_mut(&job) {
                    running.progress += bytes;
                }
            }
            Report::Plain(job, page) => self.plain(job, page),
            Report::ChunkGot(job, leaves) => {
                let Some(running) = self.jobs.remove(&job) else { return };
                self.locate.holders.remove(&running.chunk);
                self.content.add(running.chunk.0, leaves);
                if self.output.is_none() {
                    self.held.entry(running.chunk.0).or_default().1 = true;
                    self.pass_on();
                }
            }
            Report::GetFailed(job, failed) => self.chunk_failed(job, failed),
            Report::BadHolder(peer, what) => {
                self.down.insert(peer);
                note(&mut self.bad_holders, peer, what);
            }
            Report::Trouble(peer, why) => {
                self.down.insert(peer);
                note(&mut self.troubles, peer, why);
            }
            _ => {}
        }
        self.deal();
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<GetWants> {
        if let Some((core, command)) = self.outbox.commands.pop_front() {
            return Some(GetWants::Command(core, command));
        }
        if let Some((pages, _)) = self.held.get_mut(&self.next_out)
            && let Some(page) = pages.pop_front()
        {
            self.pass_on();
            return Some(GetWants::Plain(page));
        }
        self.deal();
        if let Some((core, command)) = self.outbox.commands.pop_front() {
            return Some(GetWants::Command(core, command));
        }
        self.done.take().map(|done| GetWants::Done(Box::new(done)))
    }

    /// Stops: whatever is under way is cancelled.
    pub fn cancel(&mut self) {
        for (job, running) in std::mem::take(&mut self.jobs) {
            self.outbox.send(running.core, Command::Cancel(job));
        }
        self.chunks.clear();
        self.starved.clear();
        self.held.clear();
        self.finished = true;
    }

    /// Gives the numbers back for the next machine.
    pub fn into_numbers(self) -> Numbers {
        self.outbox.numbers
    }

    fn answered(&mut self, id: AskId, answer: Result<Answer, AskFailed>) {
        if let Some((asked, peer)) = self.page_asked
            && asked == id
        {
            self.page_asked = None;
            return self.page(peer, answer);
        }
        let answered = self.locate.answered(&mut self.outbox, id, answer);
        self.learn_of_liars();
        match answered {
            Ok(_) => self.locate_on(),
            // A chunk that waits for more holders ends with its own error.
            Err(not_found) if self.walk.is_none() => self.not_found(not_found),
            Err(_) => {}
        }
        self.feed_starved();
    }

    /// Who lied during the search is named, whatever comes of the get.
    fn learn_of_liars(&mut self) {
        for (peer, what) in self.locate.bad.drain(..) {
            note(&mut self.bad_holders, peer, what);
        }
    }

    /// Chunks that waited for another placement are tried again when one says something new; when
    /// none does, they are not to be had.
    fn feed_starved(&mut self) {
        if self.starved.is_empty() || self.locate.is_looking() {
            return;
        }
        if self.locate.fresh {
            for running in std::mem::take(&mut self.starved) {
                self.run_chunk(running);
            }
        } else if !self.locate.look_further(&mut self.outbox)
            && let Some(running) = self.starved.first()
        {
            let error = running.too_few();
            self.finish(Err(error));
        }
    }

    fn locate_on(&mut self) {
        if self.walk.is_some() || self.finished {
            return;
        }
        match self.locate.outcome() {
            None => {}
            Some(Err(not_found)) => self.not_found(not_found),
            Some(Ok(reader)) => {
                self.bytes_total = Some(reader.plaintext_bytes());
                match reader.label(&self.read_key) {
                    Ok(label) => self.label = label,
                    Err(invalid) => {
                        return self.finish(Err(GetError::WrongKey(invalid.to_string())));
                    }
                }
                self.walk = Some(ManifestWalk::new(reader));
            }
        }
    }

    fn not_found(&mut self, not_found: NotFound) {
        self.troubles.append(&mut self.locate.troubles);
        let asked = self.locate.asked_count;
        self.finish(Err(not_found.told(asked)));
    }

    /// Keeps every core busy, and ends when nothing is left.
    fn deal(&mut self) {
        // Chunks that wait for holders go first, and keep their places.
        if self.finished || !self.starved.is_empty() {
            return;
        }
        while !self.finished {
            let Some(core) = self.idlest_core() else { return };
            let Some((chunk, entry)) = self.next_chunk() else { break };
            self.start_chunk(core, chunk, entry);
        }
        let all_out = self.held.is_empty();
        let none_left = self.chunks.is_empty() && self.jobs.is_empty() && self.starved.is_empty();
        if self.ended && none_left && all_out {
            let content = std::mem::take(&mut self.content);
            let bytes = self.next_offset;
            let (label, lease_until) = (self.label.take(), self.lease_until);
            let blake3 = content.finish();
            self.finish(Ok(GetOutcome { bytes, blake3, label, lease_until }));
        }
    }

    fn idlest_core(&self) -> Option<CoreId> {
        let load = |core: &CoreId| self.jobs.values().filter(|job| job.core == *core).count();
        // Output in order: one chunk a core, so that what comes early finds room in its pages.
        let most = if self.output.is_some() { CHUNKS_PER_CORE } else { 1 };
        let core = (0..self.cores).map(CoreId).min_by_key(load)?;
        let in_flight: u64 = self.jobs.values().map(|job| job.bytes).sum();
        let largest = self.jobs.values().map(|job| job.bytes).max().unwrap_or(0);
        if in_flight + largest > self.memory_bytes {
            return None;
        }
        let held = self.output.is_none() && self.held.len() >= usize::from(self.cores) * 2;
        (load(&core) < most && !held).then_some(core)
    }

    fn next_chunk(&mut self) -> Option<(ChunkNumber, ChunkEntry)> {
        loop {
            if let Some(chunk) = self.chunks.pop_front() {
                return Some(chunk);
            }
            if self.page_asked.is_some() || self.ended {
                return None;
            }
            match self.walk.as_mut()?.step() {
                Step::Chunks { first, entries } => {
                    self.chunks.extend((first.0..).map(ChunkNumber).zip(entries));
                }
                Step::Fetch(page) => {
                    self.page_peers = self
                        .locate
                        .known
                        .iter()
                        .map(|(&peer, &addr)| PeerAddr { peer, addr })
                        .collect();
                    self.ask_page(page.hash);
                    return None;
                }
                Step::Done => self.ended = true,
            }
        }
    }

    fn ask_page(&mut self, hash: Hash) {
        let up = self.page_peers.iter().position(|peer| !self.down.contains(&peer.peer));
        let Some(at) = up else {
            return self.finish(Err(GetError::NoManifest { asked: self.locate.known.len() }));
        };
        let peer = self.page_peers.swap_remove(at);
        let core = self.outbox.any_core();
        let ask = Ask::Manifest(self.locate.locator(), hash);
        self.page_asked = Some((self.outbox.ask(core, peer, ask), peer.peer));
    }

    fn page(&mut self, from: PeerId, answer: Result<Answer, AskFailed>) {
        let Some(walk) = &mut self.walk else { return };
        let Step::Fetch(wanted) = walk.step() else { return };
        match answer {
            Ok(Answer::Blob(bytes)) => match walk.add(&bytes) {
                Ok(()) => {}
                Err(invalid) if invalid.blames_holder() => {
                    note(&mut self.bad_holders, from, invalid.to_string());
                    self.ask_page(wanted.hash);
                }
                Err(invalid) => self.finish(Err(GetError::WrongKey(invalid.to_string()))),
            },
            Ok(_) | Err(_) => self.ask_page(wanted.hash),
        }
    }

    fn start_chunk(&mut self, core: CoreId, chunk: ChunkNumber, entry: ChunkEntry) {
        let offset = self.next_offset;
        self.next_offset += entry.plaintext_bytes;
        let asked = (entry.code().k() + GET_EXTRA) as u64;
        self.run_chunk(Running {
            chunk,
            core,
            offset,
            bytes: entry.shard_bytes * asked,
            entry: Arc::new(entry),
            progress: 0,
            pages: 0,
            pages_before: 0,
            found: 0,
        });
    }

    fn run_chunk(&mut self, running: Running) {
        let job = self.outbox.job();
        let Running { chunk, core, offset, .. } = running;
        let sink = match &self.output {
            Some(files) => ChunkSink::File(files[core.index()]),
            None => ChunkSink::Control,
        };
        let get = GetChunk {
            job,
            chunk,
            offset,
            entry: running.entry.clone(),
            key: self.content_key.clone(),
            locator: self.locate.locator(),
            holders: self.candidates(chunk, &running.entry),
            sink,
            context: self.outbox.context(),
        };
        self.jobs.insert(job, running);
        self.outbox.send(core, Command::Get(Box::new(get)));
    }

    /// Who may have the chunk's shards: those that answer first, data before parity.
    fn candidates(
        &mut self,
        chunk: ChunkNumber,
        entry: &ChunkEntry,
    ) -> Vec<(ShardIndex, PeerAddr)> {
        let mut holders = self.locate.holders.get(&chunk).cloned().unwrap_or_default();
        // Somebody's receipts for other bytes under the same name lead nowhere.
        holders.retain(|said| entry.root(said.index) == Some(said.root));
        let down = &self.down;
        holders.sort_by_key(|said| (down.contains(&said.holder), said.index));
        let mut candidates = Vec::with_capacity(holders.len());
        for Said { index, holder: peer, until, .. } in holders {
            self.lease_until = Some(self.lease_until.map_or(until, |least| least.min(until)));
            match self.locate.known.get(&peer) {
                Some(&addr) => candidates.push((index, PeerAddr { peer, addr })),
                None => note(&mut self.troubles, peer, "its address is not known".to_owned()),
            }
        }
        candidates
    }

    fn chunk_failed(&mut self, job: JobId, failed: GetChunkFailed) {
        let Some(mut running) = self.jobs.remove(&job) else { return };
        if let GetChunkFailed::TooFew { found } = failed {
            running.found = running.found.max(found);
        }
        let error = match failed {
            // One holder's placement led nowhere: that need not be the shards' fault.
            GetChunkFailed::TooFew { .. } if self.locate.look_further(&mut self.outbox) => {
                self.bytes_done -= running.progress;
                running.progress = 0;
                running.pages_before = running.pages_before.max(running.pages);
                running.pages = 0;
                return self.starved.push(running);
            }
            GetChunkFailed::TooFew { .. } => running.too_few(),
            GetChunkFailed::Undecodable(why) => GetError::WrongKey(why),
            GetChunkFailed::Output(why) => GetError::Output(why),
        };
        self.finish(Err(error));
    }

    fn plain(&mut self, job: JobId, page: Page) {
        let Some(running) = self.jobs.get_mut(&job) else { return };
        running.pages += 1;
        if running.pages > running.pages_before {
            self.held.entry(running.chunk.0).or_default().0.push_back(page);
        }
    }

    /// A chunk whose last page is out makes way for the next.
    fn pass_on(&mut self) {
        while self.held.get(&self.next_out).is_some_and(|(pages, all)| *all && pages.is_empty()) {
            self.held.remove(&self.next_out);
            self.next_out += 1;
        }
    }

    fn finish(&mut self, outcome: Result<GetOutcome, GetError>) {
        if self.finished {
            return;
        }
        if outcome.is_err() {
            self.cancel();
        }
        self.finished = true;
        self.done = Some(outcome);
    }
}
