//! Storing one chunk: read, encode, and push its n shards to n holders at once.
//!
//! The finished units stay in memory until the chunk is done, so a holder that fails is replaced
//! by sending the same bytes to another; nothing is encoded twice and no salt is used twice.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pangea_base::file::{FileDone, FileOp, FileValue};
use pangea_base::{GROUP_BYTES, Page, PeerId, ShardIndex, ShardKey};
use pangea_ces::{ChunkPlan, ChunkSealed, Encoder, End, Padding};
use pangea_trace::{
    Event, EventData, Outcome, SpanKind, TraceContext, flags, if_trace, trace_event, words,
};
use pangea_transport::{ConnId, ReadOutcome, StreamId, WriteFailed};
use pangea_wire::{
    AuthChallenge, ChunkEntry, ChunkParts, FrameReader, Protocol, Receipt, ReceiptExpected,
    ShardHeader, StoreRequest, StoreResponse, StoreTrailer, UNITS_END, shard_bytes, unit_header,
};

use crate::limits::{
    LEAST_RATE, PATIENCE, SLOW_AFTER, SLOWER_THAN_QUICKEST, SOURCE_AHEAD_PAGES,
    STREAM_PROGRESS_BYTES, STREAM_STALL,
};
use crate::links::LinkState;
use crate::message::{AskFailed, ChunkSource, JobId, PutChunk, Report, ShardTarget};
use crate::outgoing::{Outgoing, Pumped};
use crate::request;
use crate::shared::{FileOwner, Owner, Shared};

/// The job on its core.
pub(crate) struct PutJob {
    spec: PutChunk,
    source: SourcePages,
    encoder: Option<Encoder>,
    sealed: Option<ChunkSealed>,
    // Finished units by shard index.
    units: Vec<Vec<Bytes>>,
    targets: Vec<Target>,
    stored_k_at: Option<Instant>,
    // How long the quickest holder took from its stream's beginning to its receipt.
    quickest: Option<Duration>,
    next_tick: Instant,
    context: TraceContext,
}

/// How often the holders' progress is looked at.
const TICK: Duration = Duration::from_millis(500);

/// Where one shard goes and how far it is.
struct Target {
    to: Option<ShardTarget>,
    state: TargetState,
    out: Outgoing,
    next_unit: usize,
    ended: bool,
    answer: FrameReader,
    // It wants no more bytes; its answer is still to come.
    stopped_at: Option<Instant>,
    began: Instant,
    // Its last sign of life.
    moved_at: Instant,
    moved_bytes: u64,
    slow_at: Option<Instant>,
    // Its pace: what was sent when it last got on by enough.
    paced_at: Instant,
    paced_bytes: u64,
    context: TraceContext,
}

enum TargetState {
    /// The connection is being made.
    Linking,
    /// The connection is up and gives no stream yet.
    Opening(ConnId),
    /// Bytes are on their way, or the receipt is.
    Sending(ConnId, StreamId),
    /// The holder has it.
    Stored(Box<Receipt>),
    /// Failed; control is asked for another.
    Failed,
    /// There is no other.
    GivenUp,
}

enum Pace {
    Fine,
    /// Somebody else had better take its place.
    Slow(String),
    /// It had its time.
    Over(String),
}

impl PutJob {
    pub(crate) fn start(shared: &mut Shared, mut spec: PutChunk) -> PutJob {
        let n = spec.plan.code.n();
        assert_eq!(spec.holders.len(), n, "one holder per shard");
        let context = shared.tracer.begin(&spec.context, SpanKind::PutChunk, spec.chunk.0.into());
        let salt = shared.entropy.array();
        let encoder = Encoder::start(&mut shared.codec, spec.plan, spec.chunk, &spec.key, salt);
        let now = shared.now;
        let targets = std::mem::take(&mut spec.holders);
        let targets = targets.into_iter().map(|to| Target::new(now, to)).collect();
        let source = SourcePages::new(&mut spec.source);
        let mut job = PutJob {
            spec,
            source,
            encoder: Some(encoder),
            sealed: None,
            units: vec![Vec::new(); n],
            targets,
            stored_k_at: None,
            quickest: None,
            next_tick: now + TICK,
            context,
        };
        job.source.read_ahead(shared, job.spec.job, &job.spec.source);
        for index in 0..n {
            job.advance(shared, index);
        }
        job
    }

    /// One bounded step of encoding. False: nothing to do until something arrives.
    pub(crate) fn work(&mut self, shared: &mut Shared) -> bool {
        let Some(encoder) = &mut self.encoder else { return false };
        match encoder.stripe(&mut shared.codec, &shared.units) {
            Err(_no_page) => return false,
            Ok(Some(mut units)) => {
                for (shard, unit) in self.units.iter_mut().zip(units.drain(..)) {
                    shard.push(Bytes::from_owner(unit));
                }
                shared.codec.recycle(units);
                let code = self.spec.plan.code;
                trace_event!(
                    shared.tracer,
                    &self.context,
                    StripeCoded {
                        chunk: self.spec.chunk.0.into(),
                        stripe: self.units.first().map_or(0, |units| units.len() as u64 - 1),
                        k: u8::try_from(code.k()).unwrap_or(u8::MAX),
                        m: u8::try_from(code.m()).unwrap_or(u8::MAX),
                    }
                );
                self.pump_all(shared);
                return true;
            }
            Ok(None) => {}
        }
        if encoder.done() {
            let encoder = self.encoder.take().expect("checked above");
            self.sealed = Some(encoder.finish(&mut shared.codec));
            self.pump_all(shared);
            return true;
        }
        let Some((bytes, end)) = self.source.front() else { return false };
        let taken = encoder.feed(&mut shared.codec, bytes, end);
        if self.source.consume(taken) {
            trace_event!(
                shared.tracer,
                &self.context,
                SegmentSealed {
                    chunk: self.spec.chunk.0.into(),
                    plain: u32::try_from(taken).unwrap_or(u32::MAX),
                    done: self.source.fed,
                }
            );
            shared.report(Report::PutProgress(self.spec.job, taken as u64));
        }
        self.source.read_ahead(shared, self.spec.job, &self.spec.source);
        true
    }

    /// A source page arrived. Err: the source can't be read.
    pub(crate) fn source_read(
        &mut self,
        shared: &mut Shared,
        number: u32,
        done: FileDone,
    ) -> Result<(), String> {
        self.source.arrived(number, done)?;
        self.source.read_ahead(shared, self.spec.job, &self.spec.source);
        Ok(())
    }

    /// The link to `peer` changed, or it has new stream credit.
    pub(crate) fn link_changed(&mut self, shared: &mut Shared, peer: PeerId) {
        for index in 0..self.targets.len() {
            let target = &mut self.targets[index];
            if target.peer() != Some(peer) {
                continue;
            }
            // A connection that is gone gives no stream any more.
            if let TargetState::Opening(conn) = target.state
                && shared.links.state(peer) != Some(LinkState::Up(conn))
            {
                target.state = TargetState::Linking;
            }
            self.advance(shared, index);
        }
    }

    pub(crate) fn writable(&mut self, shared: &mut Shared, index: usize) {
        self.pump(shared, index);
    }

    /// The holder answered: a receipt or a refusal.
    pub(crate) fn readable(&mut self, shared: &mut Shared, index: usize) {
        let TargetState::Sending(conn, stream) = self.targets[index].state else { return };
        loop {
            let room = self.targets[index].answer.room();
            match shared.transport.read(conn, stream, room) {
                Ok(ReadOutcome::Data(bytes)) => self.targets[index].answer.push(bytes),
                Ok(ReadOutcome::Blocked) => break,
                Ok(ReadOutcome::Finished) => {
                    let why = "it ended the stream without a receipt".to_owned();
                    self.take_answer(shared, index);
                    return self.fail_if_sending(shared, index, why);
                }
                Err(failed) => return self.fail(shared, index, failed.to_string()),
            }
        }
        self.take_answer(shared, index);
    }

    /// The holder wants no more bytes: its answer, a receipt even, is in the stream the other way,
    /// and may come later than this, if what it was in was lost on the way.
    pub(crate) fn stopped(&mut self, shared: &mut Shared, index: usize) {
        let target = &mut self.targets[index];
        target.out.clear();
        target.stopped_at.get_or_insert(shared.now);
        self.readable(shared, index);
    }

    /// Its connection never was one: from the beginning, on another.
    pub(crate) fn begin_again(&mut self, shared: &mut Shared, index: usize) {
        let target = &mut self.targets[index];
        if !matches!(target.state, TargetState::Sending(..)) {
            return;
        }
        target.end(shared, Outcome::Failed);
        *target = Target::new(shared.now, target.to.take());
        self.advance(shared, index);
    }

    pub(crate) fn stream_lost(&mut self, shared: &mut Shared, index: usize, why: &str) {
        self.fail_if_sending(shared, index, why.to_owned());
    }

    /// Control's answer to a failure of `failed`, here or in another chunk. A shard that it stored
    /// is stored, and one that has another holder by now stays with that one.
    pub(crate) fn replace(
        &mut self,
        shared: &mut Shared,
        index: ShardIndex,
        failed: PeerId,
        to: Option<ShardTarget>,
    ) {
        let at = usize::from(index.0);
        let Some(target) = self.targets.get_mut(at) else { return };
        if target.peer() != Some(failed) {
            return;
        }
        match target.state {
            TargetState::Stored(_) | TargetState::GivenUp => return,
            TargetState::Sending(conn, stream) => {
                shared.drop_stream(conn, stream, request::CANCELLED);
                target.end(shared, Outcome::Failed);
            }
            TargetState::Linking | TargetState::Opening(_) | TargetState::Failed => {}
        }
        *target = Target::new(shared.now, to);
        self.advance(shared, at);
    }

    /// Time passed: give up on those that are too slow.
    pub(crate) fn tick(&mut self, shared: &mut Shared) {
        let now = shared.now;
        if now < self.next_tick {
            return;
        }
        self.next_tick = now + TICK;
        let out_of_patience = self.stored_k_at.is_some_and(|at| at + PATIENCE <= now);
        for index in 0..self.targets.len() {
            let target = &mut self.targets[index];
            let conn = match target.state {
                TargetState::Sending(conn, _) => conn,
                // A holder that never gives a stream must not keep the chunk open for ever.
                TargetState::Opening(_) if out_of_patience || target.moved_at + PATIENCE <= now => {
                    self.fail(shared, index, "it let no stream be opened".to_owned());
                    continue;
                }
                _ => continue,
            };
            if out_of_patience {
                self.fail(shared, index, "the others were done long before it".to_owned());
                continue;
            }
            // A holder that has all we have so far is not slow: it waits for us.
            let has_all = target.next_unit == self.units[index].len() && target.out.is_empty();
            let waits_for_us = has_all && !target.ended;
            let quickest = self.quickest;
            match target.pace(shared, conn, waits_for_us, quickest) {
                Pace::Fine => {}
                Pace::Slow(why) => self.slow(shared, index, why),
                Pace::Over(why) => self.fail(shared, index, why),
            }
        }
    }

    /// When `tick` has something to look at.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        Some(self.next_tick)
    }

    /// The final report, once no target is open any more.
    pub(crate) fn outcome(&mut self) -> Option<Report> {
        let sealed = self.sealed.as_ref()?;
        let open = |target: &Target| {
            !matches!(target.state, TargetState::Stored(_) | TargetState::GivenUp)
        };
        if self.targets.iter().any(open) {
            return None;
        }
        let entry = entry(&self.spec, sealed);
        let take = |target: &mut Target| match &target.state {
            TargetState::Stored(receipt) => Some((**receipt).clone()),
            _ => None,
        };
        let receipts = self.targets.iter_mut().filter_map(take).collect();
        Some(Report::ChunkStored { job: self.spec.job, entry: Box::new(entry), receipts })
    }

    pub(crate) fn cancel(&mut self, shared: &mut Shared) {
        let is_stored = self.sealed.is_some() && self.stored() >= self.spec.plan.code.k();
        let ended = if is_stored { Outcome::Done } else { Outcome::Failed };
        for target in &mut self.targets {
            if let TargetState::Sending(conn, stream) = target.state {
                shared.drop_stream(conn, stream, request::CANCELLED);
                target.end(shared, Outcome::Failed);
            }
            target.state = TargetState::GivenUp;
        }
        if let Some(encoder) = self.encoder.take() {
            encoder.abandon(&mut shared.codec);
        }
        shared.tracer.end(&self.context, SpanKind::PutChunk, ended, self.source.fed);
    }

    fn stored(&self) -> usize {
        self.targets.iter().filter(|t| matches!(t.state, TargetState::Stored(_))).count()
    }

    /// Moves a target towards an open stream.
    fn advance(&mut self, shared: &mut Shared, index: usize) {
        let target = &mut self.targets[index];
        let Some(to) = &target.to else {
            target.state = TargetState::GivenUp;
            return;
        };
        match target.state {
            TargetState::Linking => {
                match shared.links.want(&mut shared.transport, shared.now, to.holder) {
                    LinkState::Connecting => {}
                    LinkState::Down(why) => self.fail(shared, index, why),
                    LinkState::Up(conn) => {
                        target.state = TargetState::Opening(conn);
                        target.moved_at = shared.now;
                        self.advance(shared, index);
                    }
                }
            }
            TargetState::Opening(conn) => {
                let owner = Owner::Put(self.spec.job, index);
                let Some(stream) = shared.open(conn, owner) else { return };
                target.state = TargetState::Sending(conn, stream);
                target.sent_now(shared, conn);
                target.context = shared.tracer.begin(&self.context, SpanKind::Shard, index as u64);
                match self.header(shared, conn, index) {
                    Ok(header) => {
                        self.targets[index].out.push(header);
                        self.pump(shared, index);
                    }
                    Err(why) => self.fail(shared, index, why),
                }
            }
            TargetState::Sending(..)
            | TargetState::Stored(_)
            | TargetState::Failed
            | TargetState::GivenUp => {}
        }
    }

    fn header(&self, shared: &Shared, conn: ConnId, index: usize) -> Result<Bytes, String> {
        let to = self.targets[index].to.as_ref().expect("only targets with a holder are opened");
        let exporter = request::exporter(&shared.transport, conn)?;
        let auth = AuthChallenge::new(&shared.identity, to.grant.clone(), &exporter);
        let key = self.key(index);
        let header = ShardHeader {
            auth,
            key,
            code: self.spec.plan.code,
            length_max: self.shard_bytes_max(),
            lease_seconds: self.spec.lease_seconds,
        };
        let label = shared.label(conn, &self.targets[index].context);
        Ok(request::open_with(label, Protocol::Store, &StoreRequest::PutShard(header)))
    }

    fn key(&self, index: usize) -> ShardKey {
        let index = ShardIndex(u8::try_from(index).expect("a code has at most 255 shards"));
        ShardKey { locator: self.spec.locator, chunk: self.spec.chunk, index }
    }

    /// What a shard of this chunk can have at most, known before it is encoded.
    fn shard_bytes_max(&self) -> u64 {
        shard_bytes_max(&self.spec.plan, self.source.length)
    }

    fn pump_all(&mut self, shared: &mut Shared) {
        for index in 0..self.targets.len() {
            self.pump(shared, index);
        }
    }

    /// Hands the transport what it takes of a target's units.
    fn pump(&mut self, shared: &mut Shared, index: usize) {
        let target = &mut self.targets[index];
        let TargetState::Sending(conn, stream) = target.state else { return };
        while target.stopped_at.is_none() {
            match target.out.pump(&mut shared.transport, conn, stream) {
                Ok(Pumped::Blocked) => return,
                Ok(Pumped::Drained) => {}
                Err(WriteFailed::Stopped(_)) => return self.stopped(shared, index),
                Err(failed) => {
                    let why = failed.to_string();
                    // A refusal explains more than the reset that came with it.
                    self.readable(shared, index);
                    return self.fail_if_sending(shared, index, why);
                }
            }
            if let Some(unit) = self.units[index].get(target.next_unit) {
                target.out.push(unit_length(unit.len()));
                target.out.push(unit.clone());
                target.next_unit += 1;
            } else if let (Some(sealed), false) = (&self.sealed, target.ended) {
                let root = sealed.roots[index];
                let trailer = StoreTrailer { root, length: sealed.shard_bytes };
                target.out.push(Bytes::from_static(&UNITS_END));
                target.out.push(pangea_wire::frame(&trailer));
                target.ended = true;
            } else {
                if target.ended {
                    shared.finish(conn, stream);
                }
                return;
            }
        }
    }

    fn take_answer(&mut self, shared: &mut Shared, index: usize) {
        let target = &mut self.targets[index];
        let TargetState::Sending(conn, stream) = target.state else { return };
        let response = match target.answer.message::<StoreResponse>() {
            Ok(None) => return,
            Ok(Some(response)) => response,
            Err(sent) => return self.fail(shared, index, AskFailed::from(sent).to_string()),
        };
        match response {
            StoreResponse::Stored(receipt) => match self.check(shared, index, &receipt) {
                Ok(()) => {
                    shared.drop_stream(conn, stream, request::DONE);
                    let target = &mut self.targets[index];
                    let holder = receipt.holder;
                    trace_event!(
                        shared.tracer,
                        &target.context,
                        &holder,
                        ReceiptTaken {
                            chunk: self.spec.chunk.0.into(),
                            index: receipt.key().index.0,
                            bytes: receipt.length,
                        }
                    );
                    target.end(shared, Outcome::Done);
                    let took = shared.now - target.began;
                    self.quickest = Some(self.quickest.map_or(took, |least| least.min(took)));
                    self.targets[index].state = TargetState::Stored(Box::new(receipt));
                    if self.stored() >= self.spec.plan.code.k() {
                        self.stored_k_at.get_or_insert(shared.now);
                    }
                }
                Err(why) => self.fail(shared, index, format!("it misbehaved: {why}")),
            },
            StoreResponse::Refused(refusal) => {
                self.fail(shared, index, format!("it refused: {refusal}"))
            }
            StoreResponse::BlobStored => {
                self.fail(shared, index, "it misbehaved: it answered another request".to_owned())
            }
        }
    }

    /// Whether a receipt is for this very shard and signed by its holder.
    fn check(&self, shared: &Shared, index: usize, receipt: &Receipt) -> Result<(), String> {
        let sealed = self.sealed.as_ref().ok_or("its receipt came before the shard's end")?;
        let holder = self.targets[index].peer().ok_or("nobody was asked")?;
        let expected = ReceiptExpected {
            holder,
            owner: shared.identity.peer(),
            key: self.key(index),
            root: sealed.roots[index],
            length: sealed.shard_bytes,
            lease_seconds: self.spec.lease_seconds,
        };
        receipt.verify_answer(&expected).map_err(|refused| refused.to_string())
    }

    fn slow(&self, shared: &mut Shared, index: usize, why: String) {
        let (job, shard) = (self.spec.job, self.key(index).index);
        let peer = self.targets[index].peer().expect("only a target with a holder can be slow");
        shared.report(Report::HolderSlow { job, index: shard, peer, why });
    }

    fn fail_if_sending(&mut self, shared: &mut Shared, index: usize, why: String) {
        if matches!(self.targets[index].state, TargetState::Sending(..)) {
            self.fail(shared, index, why);
        }
    }

    fn fail(&mut self, shared: &mut Shared, index: usize, why: String) {
        let job = self.spec.job;
        let shard = self.key(index).index;
        let target = &mut self.targets[index];
        if let TargetState::Sending(conn, stream) = target.state {
            shared.drop_stream(conn, stream, request::CANCELLED);
        }
        target.state = TargetState::Failed;
        let peer = target.peer().expect("only a target with a holder can fail");
        if_trace! {
            let (chunk, index) = (self.spec.chunk.0.into(), shard.0);
            let data = EventData::HolderFailed { chunk, index, reason: words(&why) };
            let event = Event::new(data).of(&self.context).with_peer(&peer);
            shared.tracer.log(event.flagged(flags::ERROR));
        }
        target.end(shared, Outcome::Failed);
        shared.report(Report::HolderFailed { job, index: shard, peer, why });
    }
}

impl Target {
    fn new(now: Instant, to: Option<ShardTarget>) -> Target {
        Target {
            to,
            state: TargetState::Linking,
            out: Outgoing::default(),
            next_unit: 0,
            ended: false,
            answer: FrameReader::new(),
            stopped_at: None,
            began: now,
            moved_at: now,
            moved_bytes: 0,
            slow_at: None,
            paced_at: now,
            paced_bytes: 0,
            context: TraceContext::NONE,
        }
    }

    /// Its stream begins.
    fn sent_now(&mut self, shared: &Shared, conn: ConnId) {
        let now = shared.now;
        (self.began, self.moved_at, self.paced_at) = (now, now, now);
        self.moved_bytes = self.out.taken() + shared.received_bytes(conn);
        self.paced_bytes = self.out.taken() + shared.sent_bytes(conn);
    }

    /// How it gets on.
    fn pace(
        &mut self,
        shared: &Shared,
        conn: ConnId,
        waits_for_us: bool,
        quickest: Option<Duration>,
    ) -> Pace {
        let now = shared.now;
        if self.stopped_at.is_some_and(|at| at + SLOW_AFTER <= now) {
            return Pace::Over("it stopped taking the shard and did not say why".to_owned());
        }
        // What the transport took, and any sign of life of the peer.
        let moved = self.out.taken() + shared.received_bytes(conn);
        if moved != self.moved_bytes || waits_for_us {
            (self.moved_bytes, self.moved_at) = (moved, now);
            self.slow_at = None;
        }
        let took_nothing = |time: Duration| format!("it took nothing for {} s", time.as_secs());
        if self.moved_at + STREAM_STALL <= now {
            return Pace::Over(took_nothing(STREAM_STALL));
        }
        // What the transport took, and what of it went out: a window that opens byte by byte, or
        // a sign of life without a receipt, is no pace.
        let paced = self.out.taken() + shared.sent_bytes(conn);
        if paced >= self.paced_bytes + STREAM_PROGRESS_BYTES || waits_for_us {
            (self.paced_bytes, self.paced_at) = (paced, now);
        }
        // With everything sent, the rest is the holder's disk's time.
        let allowed = if self.ended && self.out.is_empty() { PATIENCE } else { STREAM_STALL };
        if self.paced_at + allowed <= now {
            return Pace::Over(format!("it took less than {LEAST_RATE} bytes a second"));
        }
        let longest = quickest.map(|least| least * SLOWER_THAN_QUICKEST + PATIENCE);
        let outdone = longest.is_some_and(|longest| self.began + longest <= now);
        if outdone {
            return Pace::Over("another was done long before it".to_owned());
        }
        // Said again now and then: by then there may be another.
        if self.slow_at.unwrap_or(self.moved_at) + SLOW_AFTER <= now {
            self.slow_at = Some(now);
            return Pace::Slow(took_nothing(SLOW_AFTER));
        }
        Pace::Fine
    }

    /// The shard's way to its holder is over, for the recorder.
    fn end(&mut self, shared: &Shared, outcome: Outcome) {
        let context = std::mem::take(&mut self.context);
        shared.tracer.end(&context, SpanKind::Shard, outcome, self.out.taken());
    }

    fn peer(&self) -> Option<PeerId> {
        self.to.as_ref().map(|to| to.holder.peer)
    }
}

/// The length that goes before a unit; most are whole groups.
fn unit_length(bytes: usize) -> Bytes {
    const WHOLE: [u8; 4] = (GROUP_BYTES as u32).to_le_bytes();
    if bytes == GROUP_BYTES {
        return Bytes::from_static(&WHOLE);
    }
    Bytes::copy_from_slice(&unit_header(bytes))
}

/// The chunk's plaintext, page by page, in order.
struct SourcePages {
    length: u64,
    // Read and on their way, oldest first.
    pages: VecDeque<Option<Page>>,
    first: u32,
    requested: u64,
    fed: u64,
    in_page: usize,
}

impl SourcePages {
    fn new(source: &mut ChunkSource) -> SourcePages {
        let (length, pages, requested) = match source {
            ChunkSource::File { length, .. } => (*length, VecDeque::new(), 0),
            ChunkSource::Pages(pages) => {
                let length = pages.iter().map(|page| page.len() as u64).sum();
                (length, std::mem::take(pages).into_iter().map(Some).collect(), length)
            }
        };
        SourcePages { length, pages, first: 0, requested, fed: 0, in_page: 0 }
    }

    fn read_ahead(&mut self, shared: &mut Shared, job: JobId, source: &ChunkSource) {
        let ChunkSource::File { file, offset, .. } = *source else { return };
        while self.requested < self.length && self.pages.len() < SOURCE_AHEAD_PAGES {
            let Ok(page) = shared.segments.take() else { return };
            let number = self.first + u32::try_from(self.pages.len()).expect("a few pages");
            let length = (self.length - self.requested).min(page.capacity() as u64);
            let op = FileOp::Read {
                file,
                offset: offset + self.requested,
                length: u32::try_from(length).expect("a page is small"),
            };
            shared.file(FileOwner::Source(job, number), op, Some(page));
            self.requested += length;
            self.pages.push_back(None);
        }
    }

    fn arrived(&mut self, number: u32, done: FileDone) -> Result<(), String> {
        let FileValue::Bytes(read) = done.result.map_err(|fault| fault.to_string())? else {
            return Err("the driver answered a read with something else".to_owned());
        };
        let mut page = done.page.expect("a read brings its page back");
        let before = u64::from(number) * page.capacity() as u64;
        let expected = (self.length - before).min(page.capacity() as u64);
        if u64::from(read) != expected {
            return Err("it became shorter while it was being read".to_owned());
        }
        page.set_len(read as usize);
        let at = number.checked_sub(self.first).map(|at| at as usize);
        let slot = at.and_then(|at| self.pages.get_mut(at)).expect("only pages asked for arrive");
        *slot = Some(page);
        Ok(())
    }

    /// The bytes to be fed next, and whether they are the chunk's last.
    fn front(&self) -> Option<(&[u8], End)> {
        if self.fed == self.length {
            return Some((&[], End::Last));
        }
        let bytes = self.pages.front()?.as_ref()?.get(self.in_page..)?;
        let last = self.fed + bytes.len() as u64 == self.length;
        Some((bytes, if last { End::Last } else { End::More }))
    }

    /// Takes note of what the encoder took; true if it was anything.
    fn consume(&mut self, taken: usize) -> bool {
        self.fed += taken as u64;
        self.in_page += taken;
        if self.pages.front().and_then(Option::as_ref).is_some_and(|p| p.len() == self.in_page) {
            self.pages.pop_front();
            self.first += 1;
            self.in_page = 0;
        }
        taken > 0
    }
}

/// The manifest's words for what was encoded.
fn entry(spec: &PutChunk, sealed: &ChunkSealed) -> ChunkEntry {
    let parts = ChunkParts {
        suite: spec.plan.suite.id(),
        scheme: pangea_code::SCHEME_CAUCHY,
        k: u8::try_from(spec.plan.code.k()).expect("a code has at most 255 shards"),
        m: u8::try_from(spec.plan.code.m()).expect("a code has at most 255 shards"),
        segment_bytes: spec.plan.segment_bytes,
        plaintext_bytes: sealed.plaintext_bytes,
        sealed_bytes: sealed.sealed_bytes,
        shard_bytes: sealed.shard_bytes,
        roots: sealed.roots.clone(),
    };
    ChunkEntry::try_from(parts).expect("what the encoder made is consistent")
}

/// What a shard of a chunk of `plaintext` bytes can have at most, known before it is encoded.
pub(crate) fn shard_bytes_max(plan: &ChunkPlan, plaintext: u64) -> u64 {
    // Header, and per segment its length field, tag and place in the footer (ces/format.md).
    let segments = plaintext.div_ceil(u64::from(plan.segment_bytes)).max(1);
    let sealed = plaintext + segments * 24 + 256;
    let padded = match plan.padding {
        Padding::Off => sealed,
        Padding::SizeClass => sealed + sealed / 8 + 1024,
    };
    shard_bytes(padded, plan.code.k())
}
