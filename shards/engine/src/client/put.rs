//! Putting one object: find holders, deal its chunks over the cores, then tell every holder what
//! the object is and where it lies.

mod asking;
mod telling;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pangea_base::file::FileId;
use pangea_base::{
    ChunkNumber, Code, ContentKey, CoreId, Entropy, Locator, Page, PeerAddr, PeerId, ReadKey,
    ShardIndex,
};
use pangea_ces::ChunkPlan;
use pangea_ces::plan::{Plan, Situation};
use pangea_wire::{ChunkEntry, ClockDifference, Label, Link, Receipt};

use super::{Numbers, Outbox, Trouble, note};
use crate::message::{
    Answer, AskFailed, AskId, ChunkSource, Command, JobId, PutChunk, Report, Word,
};
use asking::{Granted, room_of_shard};

/// What a put is told.
pub struct PutSpec {
    /// Candidates for holders, best first; one with several addresses stands there with each.
    pub peers: Vec<PeerAddr>,
    /// k and m; `None`: by the number of holders.
    pub code: Option<Code>,
    /// All that `ces::plan` needs; holders and code are filled in once they are known.
    pub situation: Situation,
    /// Who puts it: the owner of what is stored.
    pub owner: PeerId,
    /// For how many seconds holders shall keep it, each by its own clock.
    pub lease_seconds: u64,
    /// Its name.
    pub label: Option<Label>,
    /// Where its bytes come from.
    pub source: PutSource,
    /// How many cores there are.
    pub cores: u8,
}

/// Where an object's bytes come from.
#[derive(Debug, Clone)]
pub enum PutSource {
    /// A file that every core has adopted: its number on each core, and its length.
    File(Vec<FileId>, u64),
    /// Control reads and hands over chunk after chunk ([`Put::feed`]).
    Stream,
}

/// What the put wants of control.
#[derive(Debug)]
// Each is taken out once and moved; a box would cost more.
#[allow(clippy::large_enum_variant)]
pub enum PutWants {
    /// A command for a core.
    Command(CoreId, Command),
    /// The next so many bytes of the stream, fewer only at its end.
    Chunk(u64),
    /// It is over.
    Done(Box<Result<PutOutcome, PutError>>),
}

/// A put that succeeded.
#[derive(Debug)]
pub struct PutOutcome {
    /// The capability.
    pub link: Link,
    /// Plaintext bytes.
    pub bytes: u64,
    /// Every chunk has n receipts, manifest and placement are everywhere.
    pub complete: bool,
    /// The code.
    pub code: Code,
    /// Distinct holders.
    pub holders: Vec<PeerId>,
    /// The least over all chunks of (distinct holders - k).
    pub survives_losses: usize,
    /// Holders whose clocks are far from ours.
    pub clocks: Vec<(PeerId, ClockDifference)>,
}

/// A put that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutError {
    /// Nobody was named.
    NoPeers,
    /// Fewer holders than needed.
    TooFewHolders {
        /// Holders that answered and accepted.
        found: usize,
        /// Holders needed.
        needed: usize,
    },
    /// A chunk reached too few.
    Chunk {
        /// Which.
        chunk: u32,
        /// Receipts.
        found: usize,
        /// Receipts needed.
        needed: usize,
    },
    /// The source.
    Source(String),
    /// The manifest reached too few of the holders of a chunk: nobody could read it back.
    Manifest {
        /// Holders of that chunk that have the manifest.
        found: usize,
        /// How many of them it takes.
        needed: usize,
    },
    /// Something on this side.
    Local(String),
}

/// Enough holders are there: the rest get this long to answer too.
const DIAL_GRACE: Duration = Duration::from_millis(500);
/// The machine.
pub struct Put {
    spec: PutSpec,
    outbox: Outbox,
    phase: Phase,
    key: ReadKey,
    content_key: Arc<ContentKey>,
    locator: Locator,
    entropy: Entropy,
    candidates: Vec<Candidate>,
    // What every candidate is asked for at first.
    grant_bytes: u64,
    // One place per shard of a stripe: who fills it.
    places: Vec<Option<usize>>,
    plan: Option<Plan>,
    next_chunk: u32,
    next_offset: u64,
    wanted_chunks: usize,
    source_ended: bool,
    pending: Option<(u32, ChunkSource, u64)>,
    jobs: BTreeMap<JobId, Running>,
    stored: BTreeMap<u32, (ChunkEntry, Vec<Receipt>)>,
    // Pages of manifest and placement on their way, and to whom.
    asks: BTreeMap<AskId, PeerId>,
    manifest_at: BTreeSet<PeerId>,
    manifest_missed: BTreeSet<PeerId>,
    link: Option<pangea_base::ManifestId>,
    started: Instant,
    done: Option<Result<PutOutcome, PutError>>,
    finished: bool,
    clocks: BTreeMap<PeerId, ClockDifference>,
    gave_back: bool,
    /// Who failed so far, and how.
    pub troubles: Vec<Trouble>,
    /// Plaintext bytes encoded so far.
    pub bytes_done: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Dialling,
    Granting,
    Storing,
    Telling,
    Over,
}

struct Candidate {
    addr: PeerAddr,
    state: CandidateState,
    // In the order in which they came.
    grants: Vec<Granted>,
    asked: Option<AskId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CandidateState {
    Dialled,
    Up,
    Failed,
}

struct Running {
    chunk: u32,
    core: CoreId,
    // What its shard takes at each holder.
    room: u64,
}

impl Put {
    /// Begins. `entropy` makes the object's key.
    pub fn new(now: Instant, spec: PutSpec, mut entropy: Entropy, numbers: Numbers) -> Put {
        let key = ReadKey::generate(&mut entropy);
        let mut put = Put {
            outbox: Outbox::new(spec.cores, numbers),
            phase: Phase::Dialling,
            content_key: Arc::new(key.content_key()),
            locator: key.verify_key().locator(),
            key,
            entropy,
            candidates: Vec::new(),
            grant_bytes: 0,
            places: Vec::new(),
            plan: None,
            next_chunk: 0,
            next_offset: 0,
            wanted_chunks: 0,
            source_ended: false,
            pending: None,
            jobs: BTreeMap::new(),
            stored: BTreeMap::new(),
            asks: BTreeMap::new(),
            manifest_at: BTreeSet::new(),
            manifest_missed: BTreeSet::new(),
            link: None,
            started: now,
            done: None,
            finished: false,
            clocks: BTreeMap::new(),
            gave_back: false,
            troubles: Vec::new(),
            bytes_done: 0,
            spec,
        };
        put.dial();
        put
    }

    /// In a few words for a person, what is going on.
    pub fn stage(&self) -> &'static str {
        match self.phase {
            Phase::Dialling => "connecting to holders",
            Phase::Granting => "asking holders for room",
            Phase::Storing => "storing",
            Phase::Telling => "storing the manifest",
            Phase::Over => "done",
        }
    }

    /// Peers that answered.
    pub fn peers_up(&self) -> usize {
        self.candidates.iter().filter(|c| c.state == CandidateState::Up).count()
    }

    /// Takes in what a core reports.
    pub fn handle(&mut self, report: Report) {
        match report {
            Report::Peer(peer, result) => self.peer(peer, result),
            Report::Answered(id, answer) => self.answered(id, answer),
            Report::PutProgress(_, bytes) => self.bytes_done += bytes,
            Report::HolderFailed { job, index, peer, why } => {
                self.holder_failed(job, index, peer, why);
            }
            Report::HolderSlow { job, index, peer, why } if self.spare().is_some() => {
                self.holder_failed(job, index, peer, why);
            }
            Report::ChunkStored { job, entry, receipts } => {
                self.chunk_stored(job, *entry, receipts);
            }
            Report::PutFailed(_, why) => self.fail(PutError::Source(why)),
            Report::StoreFailed(why) => self.fail(PutError::Local(why)),
            _ => {}
        }
        self.go_on();
    }

    /// Time passed.
    pub fn tick(&mut self, now: Instant) {
        if self.phase == Phase::Dialling && now >= self.started + DIAL_GRACE {
            let wanted = self.spec.code.map_or(14, Code::n);
            if self.peers_up() >= wanted {
                self.ask_for_grants();
            }
        }
        self.go_on();
    }

    /// The chunk that [`PutWants::Chunk`] asked for; shorter than asked at the stream's end.
    pub fn feed(&mut self, pages: Vec<Page>) {
        let bytes: u64 = pages.iter().map(|page| page.len() as u64).sum();
        let chunk_bytes = self.plan.as_ref().map_or(0, |plan| plan.chunk_bytes);
        self.wanted_chunks -= 1;
        if bytes < chunk_bytes {
            self.source_ended = true;
        }
        // An object that ends with a whole chunk has no empty one behind it.
        if bytes > 0 || self.next_chunk == 0 {
            self.pending = Some((self.next_chunk, ChunkSource::Pages(pages), bytes));
            self.next_chunk += 1;
            self.next_offset += bytes;
        }
        self.go_on();
    }

    /// The stream could not be read.
    pub fn source_failed(&mut self, why: String) {
        self.fail(PutError::Source(why));
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<PutWants> {
        if let Some((core, command)) = self.outbox.commands.pop_front() {
            return Some(PutWants::Command(core, command));
        }
        if let Some(done) = self.done.take() {
            return Some(PutWants::Done(Box::new(done)));
        }
        let plan = self.plan.as_ref()?;
        let stream = matches!(self.spec.source, PutSource::Stream);
        let wants = self.phase == Phase::Storing
            && stream
            && !self.source_ended
            && self.wanted_chunks == 0
            && self.pending.is_none();
        if !wants {
            return None;
        }
        self.wanted_chunks += 1;
        Some(PutWants::Chunk(plan.chunk_bytes))
    }

    /// The next command, leaving other wishes for later.
    pub fn poll_command(&mut self) -> Option<(CoreId, Command)> {
        self.outbox.commands.pop_front()
    }

    /// Stops: whatever is under way is cancelled, and what was reserved is given back. Shards
    /// without a manifest give way to whatever is put next, or expire by themselves.
    pub fn cancel(&mut self) {
        self.phase = Phase::Over;
        for (job, running) in std::mem::take(&mut self.jobs) {
            self.outbox.send(running.core, Command::Cancel(job));
        }
        self.give_back();
    }

    /// Gives the numbers back for the next machine.
    pub fn into_numbers(self) -> Numbers {
        self.outbox.numbers
    }

    fn dial(&mut self) {
        self.outbox.know(self.spec.peers.iter().copied(), Word::Given);
        let mut seen = BTreeSet::new();
        for &addr in &self.spec.peers {
            if seen.insert(addr.peer) {
                self.outbox.send(CoreId(0), Command::Dial(addr));
                let state = CandidateState::Dialled;
                let (grants, asked) = (Vec::new(), None);
                self.candidates.push(Candidate { addr, state, grants, asked });
            }
        }
        if self.candidates.is_empty() {
            self.fail(PutError::NoPeers);
        }
    }

    fn peer(&mut self, peer: PeerId, result: Result<SocketAddr, String>) {
        let Some(at) = self.candidates.iter().position(|c| c.addr.peer == peer) else { return };
        let candidate = &mut self.candidates[at];
        if candidate.state != CandidateState::Dialled {
            return;
        }
        match result {
            Ok(reached) => {
                candidate.state = CandidateState::Up;
                // Of all its addresses this is the one to be told to others.
                candidate.addr.addr = reached;
                // Late, and yet in time if others refuse.
                if self.phase == Phase::Granting {
                    self.ask_grant(at, self.grant_bytes);
                }
            }
            Err(why) => {
                candidate.state = CandidateState::Failed;
                note(&mut self.troubles, peer, why);
            }
        }
        let waiting = self.candidates.iter().any(|c| c.state == CandidateState::Dialled);
        if self.phase == Phase::Dialling && !waiting {
            self.ask_for_grants();
        }
    }

    fn answered(&mut self, id: AskId, answer: Result<Answer, AskFailed>) {
        if let Some(at) = self.candidates.iter().position(|c| c.asked == Some(id)) {
            self.candidates[at].asked = None;
            self.granted(at, answer);
        } else if self.phase == Phase::Telling {
            self.told(id, answer);
        }
    }

    fn go_on(&mut self) {
        match self.phase {
            Phase::Granting if self.grants_decided() => self.begin(),
            Phase::Storing => self.deal(),
            _ => {}
        }
    }

    /// Everybody asked has answered, and there are enough of them or nobody else will come.
    fn grants_decided(&self) -> bool {
        let granted = self.candidates.iter().filter(|c| c.has_granted()).count();
        let enough = granted >= self.spec.code.map_or(1, Code::n);
        let dialled = self.candidates.iter().any(|c| c.state == CandidateState::Dialled);
        self.candidates.iter().all(|c| c.asked.is_none()) && (enough || !dialled)
    }

    /// All grants are there: the code and the plan are decided.
    fn begin(&mut self) {
        let holders: Vec<usize> =
            (0..self.candidates.len()).filter(|&at| self.candidates[at].has_granted()).collect();
        let Some(code) = self.spec.code.or_else(|| Code::for_holders(holders.len())) else {
            return self.too_few();
        };
        if holders.len() < code.n() {
            return self.too_few();
        }
        if code.n() > pangea_wire::limits::CAUCHY_SHARDS_MAX {
            let most = pangea_wire::limits::CAUCHY_SHARDS_MAX;
            return self.fail(PutError::Local(format!("a chunk has at most {most} shards")));
        }
        self.spec.situation.holders = holders.len();
        self.spec.situation.code = Some(code);
        match pangea_ces::plan::plan(&self.spec.situation) {
            Ok(plan) => self.plan = Some(plan),
            Err(refused) => return self.fail(PutError::Local(refused.to_string())),
        }
        self.places = holders.into_iter().take(code.n()).map(Some).collect();
        self.phase = Phase::Storing;
        self.deal();
    }

    fn too_few(&mut self) {
        let found = self.candidates.iter().filter(|c| c.has_granted()).count();
        let needed = self.spec.code.map_or(1, Code::n);
        self.fail(PutError::TooFewHolders { found, needed });
    }

    /// Hands chunks to cores as long as there is room.
    fn deal(&mut self) {
        loop {
            let Some(plan) = self.plan else { return };
            let cores = usize::from(self.spec.cores);
            let per_core = plan.parallelism.div_ceil(cores).max(1);
            let Some(core) = self.idlest_core(per_core) else { return };
            let Some((chunk, source, bytes)) = self.next_source(&plan, core) else { break };
            if !self.enough_granted(&plan, bytes) {
                self.pending = Some((chunk, source, bytes));
                return;
            }
            let room = room_of_shard(&plan, bytes);
            self.start_chunk(core, chunk, source, room, &plan.chunk_plan());
        }
        if self.source_ended && self.pending.is_none() && self.jobs.is_empty() {
            self.tell();
        }
    }

    fn idlest_core(&self, per_core: usize) -> Option<CoreId> {
        let load = |core: &CoreId| self.jobs.values().filter(|job| job.core == *core).count();
        let core = (0..self.spec.cores).map(CoreId).min_by_key(load)?;
        (load(&core) < per_core).then_some(core)
    }

    fn next_source(&mut self, plan: &Plan, core: CoreId) -> Option<(u32, ChunkSource, u64)> {
        if let Some((chunk, source, bytes)) = self.pending.take() {
            return Some((chunk, self.on_core(source, core), bytes));
        }
        let PutSource::File(_, total) = &self.spec.source else { return None };
        let total = *total;
        if self.source_ended {
            return None;
        }
        let length = plan.chunk_bytes.min(total - self.next_offset);
        let chunk = self.next_chunk;
        let source = ChunkSource::File { file: FileId(0), offset: self.next_offset, length };
        self.next_chunk += 1;
        self.next_offset += length;
        self.source_ended = self.next_offset == total;
        Some((chunk, self.on_core(source, core), length))
    }

    /// Each core knows the file by a number of its own.
    fn on_core(&self, source: ChunkSource, core: CoreId) -> ChunkSource {
        match (source, &self.spec.source) {
            (ChunkSource::File { offset, length, .. }, PutSource::File(files, _)) => {
                ChunkSource::File { file: files[core.index()], offset, length }
            }
            (source, _) => source,
        }
    }

    fn start_chunk(
        &mut self,
        core: CoreId,
        chunk: u32,
        source: ChunkSource,
        room: u64,
        plan: &ChunkPlan,
    ) {
        let n = self.places.len();
        let mut holders = Vec::with_capacity(n);
        for index in 0..n {
            let place = place_of(chunk, index, n);
            holders.push(self.target(place, room));
        }
        let job = self.outbox.job();
        self.jobs.insert(job, Running { chunk, core, room });
        let put = PutChunk {
            job,
            chunk: ChunkNumber(chunk),
            source,
            plan: *plan,
            key: self.content_key.clone(),
            locator: self.locator,
            lease_seconds: self.spec.lease_seconds,
            holders,
            context: self.outbox.context(),
        };
        self.outbox.send(core, Command::Put(Box::new(put)));
    }

    fn holder_failed(&mut self, job: JobId, index: ShardIndex, peer: PeerId, why: String) {
        note(&mut self.troubles, peer, why);
        let mut jobs = vec![(job, index)];
        if let Some(at) = self.candidates.iter().position(|c| c.addr.peer == peer)
            && self.candidates[at].state != CandidateState::Failed
        {
            self.candidates[at].state = CandidateState::Failed;
            // Other chunks on their way need not wait until they notice it too.
            if let Some(place) = self.replace_everywhere(at) {
                let n = self.places.len();
                let others = self.jobs.iter().filter(|(other, _)| **other != job);
                jobs.extend(
                    others.map(|(&other, running)| (other, index_at(running.chunk, place, n))),
                );
            }
        }
        for (job, index) in jobs {
            let Some(running) = self.jobs.get(&job) else { continue };
            let (core, room) = (running.core, running.room);
            let place = place_of(running.chunk, usize::from(index.0), self.places.len());
            let holder = self.target(place, room).map(Box::new);
            self.outbox.send(core, Command::Replace { job, index, failed: peer, holder });
        }
    }

    /// A candidate is out: a spare takes its place, for this chunk and all that follow. The place,
    /// if it had one.
    fn replace_everywhere(&mut self, failed: usize) -> Option<usize> {
        let place = self.places.iter().position(|&at| at == Some(failed))?;
        self.places[place] = self.spare();
        Some(place)
    }

    /// Somebody with a grant who has no place.
    fn spare(&self) -> Option<usize> {
        (0..self.candidates.len()).find(|&at| {
            let candidate = &self.candidates[at];
            candidate.state == CandidateState::Up
                && candidate.has_granted()
                && !self.places.contains(&Some(at))
        })
    }

    fn chunk_stored(&mut self, job: JobId, entry: ChunkEntry, receipts: Vec<Receipt>) {
        let Some(running) = self.jobs.remove(&job) else { return };
        let code = entry.code();
        let needed = code.k() + code.m().div_ceil(2);
        let found = distinct_holders(&receipts);
        if found < needed {
            return self.fail(PutError::Chunk { chunk: running.chunk, found, needed });
        }
        self.stored.insert(running.chunk, (entry, receipts));
    }

    fn fail(&mut self, error: PutError) {
        self.cancel();
        self.finish(Err(error));
    }

    fn finish(&mut self, outcome: Result<PutOutcome, PutError>) {
        self.phase = Phase::Over;
        self.give_back();
        if !self.finished {
            self.finished = true;
            self.done = Some(outcome);
        }
    }
}

/// Shards of successive chunks go round the holders, so that parity is everybody's share.
fn place_of(chunk: u32, index: usize, n: usize) -> usize {
    (index + chunk as usize) % n
}

/// Which shard of a chunk is at a place.
fn index_at(chunk: u32, place: usize, n: usize) -> ShardIndex {
    let index = (place + n - chunk as usize % n) % n;
    ShardIndex(u8::try_from(index).expect("a code has at most 255 shards"))
}

fn distinct_holders<'a>(receipts: impl IntoIterator<Item = &'a Receipt>) -> usize {
    receipts.into_iter().map(|receipt| receipt.holder).collect::<BTreeSet<_>>().len()
}
