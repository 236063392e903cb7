//! Fetching one chunk: ask a few more than k holders, take the first k good, verify while
//! receiving, replace the slow and the lying, name them.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use pangea_base::file::{FileDone, FileOp, FileValue};
use pangea_base::{ChunkNumber, Hash, Page, PeerAddr, PeerId, ShardIndex, ShardKey};
use pangea_ces::{ChunkShape, Decoder, Suite};
use pangea_trace::{
    Event, EventData, Outcome, SpanKind, TraceContext, flags, if_trace, trace_event, words,
};
use pangea_transport::{ConnId, ReadOutcome, StreamId};
use pangea_wire::{ChunkEntry, FetchRequest, Protocol, ShardExpected};

use crate::content::ChunkHasher;
use crate::incoming::{Incoming, ShardIncoming};
use crate::limits::{
    GET_EXTRA, HEDGE_AFTER, LEAST_RATE, OUTPUT_AHEAD_PAGES, PATIENCE, SLOW_AFTER,
    STREAM_PROGRESS_BYTES, STREAM_STALL,
};
use crate::links::LinkState;
use crate::message::{ChunkSink, GetChunk, GetChunkFailed, Report};
use crate::outgoing::{Outgoing, Pumped};
use crate::request;
use crate::shared::{FileOwner, Owner, Shared};

/// The job on its core.
pub(crate) struct GetJob {
    spec: GetChunk,
    decoder: Option<Decoder>,
    sources: Vec<Source>,
    // The next stripe that the decoder wants.
    stripe: u64,
    stripes: u64,
    decoding: bool,
    hasher: Option<ChunkHasher>,
    output: Output,
    outcome: Option<Result<(), GetChunkFailed>>,
    next_tick: Instant,
    context: TraceContext,
}

struct Source {
    index: ShardIndex,
    peer: PeerAddr,
    state: SourceState,
    out: Outgoing,
    incoming: ShardIncoming,
    // What the manifest says of the shard.
    root: Hash,
    length: u64,
    // Verified units that wait for their stripe; the front one has number `front`.
    units: VecDeque<Bytes>,
    front: u64,
    proved: bool,
    // Its last sign of life; and its pace: when it last got on by enough, and how far it is since.
    moved_at: Instant,
    paced_at: Instant,
    paced_bytes: u64,
    context: TraceContext,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SourceState {
    /// Not asked, or cancelled: may be asked.
    Spare,
    /// The connection is being made.
    Linking,
    /// Waits for stream credit.
    Opening(ConnId),
    /// Bytes are coming.
    Receiving(ConnId, StreamId),
    /// All units arrived.
    Complete,
    /// Not to be asked again.
    Gone,
}

struct Output {
    offset: u64,
    written: u64,
    next: u32,
    in_flight: usize,
}

impl GetJob {
    /// Err: the manifest describes a chunk that this program cannot open.
    pub(crate) fn start(shared: &mut Shared, spec: GetChunk) -> Result<GetJob, String> {
        let shape = shape(&spec.entry, spec.chunk).ok_or("it has an unknown cipher suite")?;
        let decoder = Decoder::start(&mut shared.codec, &shape, &spec.key)
            .map_err(|failed| failed.to_string())?;
        let now = shared.now;
        let known = |&(index, peer): &(ShardIndex, PeerAddr)| {
            Some(Source::new(now, index, peer, spec.entry.root(index)?, spec.entry.shard_bytes))
        };
        let sources = spec.holders.iter().filter_map(known).collect();
        let mut job = GetJob {
            stripes: decoder.stripes(),
            decoder: Some(decoder),
            sources,
            stripe: 0,
            decoding: false,
            hasher: Some(ChunkHasher::new(spec.offset)),
            output: Output { offset: spec.offset, written: 0, next: 0, in_flight: 0 },
            outcome: None,
            next_tick: now + HEDGE_AFTER,
            context: shared.tracer.begin(&spec.context, SpanKind::GetChunk, spec.chunk.0.into()),
            spec,
        };
        job.ask_more(shared, job.wanted());
        Ok(job)
    }

    fn k(&self) -> usize {
        self.spec.entry.code().k()
    }

    /// One bounded step of decoding. False: nothing to do until something arrives.
    pub(crate) fn work(&mut self, shared: &mut Shared) -> bool {
        if self.outcome.is_some() || self.decoder.is_none() {
            return false;
        }
        if self.decoding {
            return self.open_segment(shared);
        }
        if self.stripe == self.stripes {
            return self.finish_decoding(shared);
        }
        self.take_stripe(shared)
    }

    fn open_segment(&mut self, shared: &mut Shared) -> bool {
        if self.output.in_flight >= OUTPUT_AHEAD_PAGES {
            return false;
        }
        let Ok(mut page) = shared.segments.take() else { return false };
        let decoder = self.decoder.as_mut().expect("work checked it");
        match decoder.segment(&mut shared.codec, &mut page) {
            Ok(None) => self.decoding = false,
            Ok(Some(_)) => self.write(shared, page),
            Err(failed) => {
                self.outcome = Some(Err(GetChunkFailed::Undecodable(failed.to_string())));
            }
        }
        true
    }

    fn take_stripe(&mut self, shared: &mut Shared) -> bool {
        let k = self.k();
        let ready = |source: &Source| source.front == self.stripe && !source.units.is_empty();
        let mut chosen: Vec<usize> =
            (0..self.sources.len()).filter(|&at| ready(&self.sources[at])).collect();
        // Data shards first: they need no arithmetic.
        chosen.sort_by_key(|&at| self.sources[at].index);
        chosen.dedup_by_key(|at| self.sources[*at].index);
        if chosen.len() < k {
            return false;
        }
        chosen.truncate(k);
        let units: Vec<(ShardIndex, &[u8])> = chosen
            .iter()
            .map(|&at| (self.sources[at].index, &self.sources[at].units[0][..]))
            .collect();
        let decoder = self.decoder.as_mut().expect("work checked it");
        if let Err(failed) = decoder.stripe(&mut shared.codec, &units) {
            self.outcome = Some(Err(GetChunkFailed::Undecodable(failed.to_string())));
            return true;
        }
        let computed = chosen.iter().filter(|&&at| usize::from(self.sources[at].index.0) >= k);
        trace_event!(
            shared.tracer,
            &self.context,
            StripeDecoded {
                chunk: self.spec.chunk.0.into(),
                stripe: self.stripe,
                restored: u8::try_from(computed.count()).unwrap_or(u8::MAX),
            }
        );
        self.stripe += 1;
        self.decoding = true;
        for source in &mut self.sources {
            source.drop_before(self.stripe);
        }
        self.cancel_surplus(shared, &chosen);
        true
    }

    fn finish_decoding(&mut self, shared: &mut Shared) -> bool {
        let decoder = self.decoder.take().expect("work checked it");
        if let Err(failed) = decoder.finish(&mut shared.codec) {
            self.outcome = Some(Err(GetChunkFailed::Undecodable(failed.to_string())));
        } else if self.output.in_flight == 0 {
            self.outcome = Some(Ok(()));
        }
        true
    }

    fn write(&mut self, shared: &mut Shared, page: Page) {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&page);
        }
        let job = self.spec.job;
        let length = page.len() as u64;
        trace_event!(
            shared.tracer,
            &self.context,
            SegmentOpened {
                chunk: self.spec.chunk.0.into(),
                plain: u32::try_from(length).unwrap_or(u32::MAX),
                offset: self.output.offset,
            }
        );
        match self.spec.sink {
            ChunkSink::Control => {
                shared.report(Report::Plain(job, page));
                self.output.written += length;
                shared.report(Report::GetProgress(job, length));
            }
            ChunkSink::File(file) => {
                let op = FileOp::Write {
                    file,
                    offset: self.output.offset,
                    length: u32::try_from(length).expect("a page is small"),
                };
                shared.file(FileOwner::Output(job, self.output.next), op, Some(page));
                self.output.next += 1;
                self.output.in_flight += 1;
            }
        }
        self.output.offset += length;
    }

    pub(crate) fn output_written(&mut self, shared: &mut Shared, done: FileDone) {
        self.output.in_flight -= 1;
        match done.result {
            Ok(FileValue::Bytes(bytes)) => {
                self.output.written += u64::from(bytes);
                shared.report(Report::GetProgress(self.spec.job, u64::from(bytes)));
            }
            Ok(_) => unreachable!("a write answers with its bytes"),
            Err(fault) => {
                let failed = GetChunkFailed::Output(fault.to_string());
                self.outcome.get_or_insert(Err(failed));
            }
        }
        if self.decoder.is_none() && self.output.in_flight == 0 {
            self.outcome.get_or_insert(Ok(()));
        }
    }

    /// The final report, once there is one and no write is in flight.
    pub(crate) fn outcome(&mut self) -> Option<Report> {
        if self.output.in_flight > 0 {
            return None;
        }
        match self.outcome.take()? {
            Ok(()) => {
                let hasher = self.hasher.take().expect("a job ends once");
                Some(Report::ChunkGot(self.spec.job, hasher.finish()))
            }
            Err(failed) => Some(Report::GetFailed(self.spec.job, failed)),
        }
    }

    pub(crate) fn cancel(&mut self, shared: &mut Shared) {
        for source in &mut self.sources {
            source.leave(shared, SourceState::Gone);
        }
        // A decoder that is left over was not done.
        let ended = if self.decoder.is_some() { Outcome::Failed } else { Outcome::Done };
        if let Some(decoder) = self.decoder.take() {
            decoder.abandon(&mut shared.codec);
        }
        shared.tracer.end(&self.context, SpanKind::GetChunk, ended, self.output.written);
    }

    /// The link to `peer` changed, or it has new stream credit.
    pub(crate) fn link_changed(&mut self, shared: &mut Shared, peer: PeerId) {
        for at in 0..self.sources.len() {
            let source = &mut self.sources[at];
            if source.peer.peer != peer {
                continue;
            }
            match source.state {
                SourceState::Linking => source.state = SourceState::Spare,
                SourceState::Opening(conn) => match shared.links.state(peer) {
                    Some(LinkState::Up(up)) if up == conn => self.advance(shared, at),
                    Some(LinkState::Down(why)) => self.trouble(shared, at, why),
                    _ => source.state = SourceState::Spare,
                },
                _ => {}
            }
        }
        self.ask_more(shared, self.wanted());
    }

    pub(crate) fn writable(&mut self, shared: &mut Shared, at: usize) {
        self.pump(shared, at);
    }

    /// Its connection never was one: it may be asked on another.
    pub(crate) fn begin_again(&mut self, shared: &mut Shared, at: usize) {
        let source = &mut self.sources[at];
        if matches!(source.state, SourceState::Receiving(..)) {
            source.leave(shared, SourceState::Spare);
        }
        self.ask_more(shared, self.wanted());
    }

    pub(crate) fn stream_lost(&mut self, shared: &mut Shared, at: usize, why: &str) {
        if matches!(self.sources[at].state, SourceState::Receiving(..)) {
            self.trouble(shared, at, why.to_owned());
        }
    }

    /// Bytes from a holder. All of them are taken in at once, whatever the decoder does: data left
    /// unread would hold up other chunks on the same connection, and they in turn this one. What
    /// that can take in memory is bounded by the chunk, and control by how many run at a time.
    pub(crate) fn readable(&mut self, shared: &mut Shared, at: usize) {
        loop {
            let source = &mut self.sources[at];
            let SourceState::Receiving(conn, stream) = source.state else { return };
            match self.take_incoming(shared, at) {
                Step::More => continue,
                Step::Stop => return,
                Step::NeedBytes => {}
            }
            let room = self.sources[at].incoming.reader.room();
            match shared.transport.read(conn, stream, room) {
                Ok(ReadOutcome::Data(bytes)) => {
                    let source = &mut self.sources[at];
                    source.moved(shared.now, bytes.len() as u64);
                    source.incoming.reader.push(bytes);
                }
                Ok(ReadOutcome::Blocked) => return,
                Ok(ReadOutcome::Finished) => {
                    return self.trouble(shared, at, "it ended before the shard's end".to_owned());
                }
                Err(failed) => return self.trouble(shared, at, failed.to_string()),
            }
        }
    }

    /// Takes what has arrived apart, one piece a call.
    fn take_incoming(&mut self, shared: &mut Shared, at: usize) -> Step {
        let source = &mut self.sources[at];
        match source.incoming.next() {
            Ok(Incoming::NeedBytes) => Step::NeedBytes,
            Ok(Incoming::Unit(unit)) => {
                let is_first = !std::mem::replace(&mut source.proved, true);
                source.units.push_back(unit);
                source.drop_before(self.stripe);
                if is_first {
                    self.end_if_too_few();
                }
                Step::More
            }
            Ok(Incoming::End) => {
                source.leave(shared, SourceState::Complete);
                Step::Stop
            }
            Ok(Incoming::Refused(refusal)) => {
                self.trouble(shared, at, format!("it refused: {refusal}"));
                Step::Stop
            }
            Err(lie) => {
                self.bad(shared, at, lie.to_string());
                Step::Stop
            }
        }
    }

    /// Time passed: rivals for the stalled, farewell to the slow.
    pub(crate) fn tick(&mut self, shared: &mut Shared) {
        let now = shared.now;
        if now < self.next_tick || self.outcome.is_some() {
            return;
        }
        self.next_tick = now + HEDGE_AFTER;
        let mut stalled = 0;
        for at in 0..self.sources.len() {
            let can_spare = self.can_spare(at);
            let source = &mut self.sources[at];
            let receiving = matches!(source.state, SourceState::Receiving(..));
            if !source.is_waited_for() {
                // A source that is not waited for is not judged by the time that passes.
                source.moved_at = now;
                (source.paced_at, source.paced_bytes) = (now, 0);
            } else if receiving && source.paced_at + STREAM_STALL <= now {
                self.trouble(shared, at, format!("it sent less than {LEAST_RATE} bytes a second"));
            } else if receiving && source.moved_at + SLOW_AFTER <= now && can_spare {
                let seconds = SLOW_AFTER.as_secs();
                self.trouble(shared, at, format!("it sent nothing for {seconds} s"));
            } else if !receiving && source.moved_at + PATIENCE <= now {
                self.trouble(shared, at, "it let no stream be opened".to_owned());
            } else if source.moved_at + HEDGE_AFTER <= now {
                stalled += 1;
            }
        }
        if stalled > 0 {
            self.ask_more(shared, self.asked() + stalled);
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.outcome.is_none().then_some(self.next_tick)
    }

    /// Asks spare sources whose connection is up, best first, until `wanted` shards are being
    /// fetched. All others are dialled, and join when they are there: the first k that answer win.
    fn ask_more(&mut self, shared: &mut Shared, wanted: usize) {
        if self.outcome.is_some() || self.decoder.is_none() {
            return;
        }
        for at in 0..self.sources.len() {
            if self.sources[at].state != SourceState::Spare {
                continue;
            }
            let peer = self.sources[at].peer;
            match shared.links.want(&mut shared.transport, shared.now, peer) {
                LinkState::Up(conn) if self.asked() < wanted && !self.is_asked_for(at) => {
                    self.sources[at].restart(shared.now, self.stripe, conn);
                    self.advance(shared, at);
                }
                LinkState::Up(_) => {}
                LinkState::Connecting => self.sources[at].state = SourceState::Linking,
                LinkState::Down(why) => {
                    self.sources[at].state = SourceState::Gone;
                    shared.report(Report::Trouble(peer.peer, why));
                }
            }
        }
        self.end_if_too_few();
    }

    /// With fewer than k left there is no more to be had; but those that are left show what they
    /// have, so that what is told of them is true.
    fn end_if_too_few(&mut self) {
        let is_to_show = |source: &Source| match source.state {
            SourceState::Linking | SourceState::Opening(_) => true,
            SourceState::Receiving(..) => !source.proved,
            SourceState::Spare | SourceState::Complete | SourceState::Gone => false,
        };
        let left = self.distinct(|source| source.state != SourceState::Gone);
        if left < self.k() && !self.sources.iter().any(is_to_show) {
            let found = self.distinct(|source| source.proved && source.state != SourceState::Gone);
            self.outcome.get_or_insert(Err(GetChunkFailed::TooFew { found }));
        }
    }

    /// A few more than k until the first stripe shows who is quick; then k are enough.
    fn wanted(&self) -> usize {
        if self.stripe == 0 { self.k() + GET_EXTRA } else { self.k() }
    }

    /// Whether there are enough others without this one.
    fn can_spare(&self, at: usize) -> bool {
        let others = self.sources.iter().enumerate().filter(|&(other, _)| other != at);
        let left = others.filter(|(_, source)| source.state != SourceState::Gone);
        left.map(|(_, source)| source.index).collect::<BTreeSet<_>>().len() >= self.k()
    }

    /// Shards that are being fetched or are here.
    fn asked(&self) -> usize {
        self.distinct(Source::is_asked)
    }

    fn is_asked_for(&self, at: usize) -> bool {
        let index = self.sources[at].index;
        self.sources.iter().any(|source| source.index == index && source.is_asked())
    }

    /// How many different shards the sources of a kind have.
    fn distinct(&self, kind: impl Fn(&Source) -> bool) -> usize {
        let indices = self.sources.iter().filter(|source| kind(source)).map(|source| source.index);
        indices.collect::<BTreeSet<ShardIndex>>().len()
    }

    /// k sources deliver: the rest is not needed for now.
    fn cancel_surplus(&mut self, shared: &mut Shared, chosen: &[usize]) {
        for at in 0..self.sources.len() {
            let source = &mut self.sources[at];
            let idle = source.units.is_empty() && source.front <= self.stripe;
            let asked = source.is_asked() && source.state != SourceState::Complete;
            if !chosen.contains(&at) && asked && idle {
                source.leave(shared, SourceState::Spare);
            }
        }
    }

    fn advance(&mut self, shared: &mut Shared, at: usize) {
        let source = &mut self.sources[at];
        let SourceState::Opening(conn) = source.state else { return };
        let Some(stream) = shared.open(conn, Owner::Get(self.spec.job, at)) else { return };
        source.state = SourceState::Receiving(conn, stream);
        let (locator, chunk, index) = (self.spec.locator, self.spec.chunk, source.index);
        source.context = shared.tracer.begin(&self.context, SpanKind::Shard, index.0.into());
        let label = shared.label(conn, &source.context);
        let first_group = u32::try_from(source.front).expect("a shard has few groups");
        let key = ShardKey { locator, chunk, index };
        let request = FetchRequest::GetShard { key, root: source.root, first_group };
        source.out.push(request::open_with(label, Protocol::Fetch, &request));
        self.pump(shared, at);
    }

    fn pump(&mut self, shared: &mut Shared, at: usize) {
        let source = &mut self.sources[at];
        let SourceState::Receiving(conn, stream) = source.state else { return };
        match source.out.pump(&mut shared.transport, conn, stream) {
            Ok(Pumped::Drained) => shared.finish(conn, stream),
            Ok(Pumped::Blocked) => {}
            Err(failed) => self.trouble(shared, at, failed.to_string()),
        }
    }

    /// The holder is not there, or not able: somebody else is asked.
    fn trouble(&mut self, shared: &mut Shared, at: usize, why: String) {
        self.trace_failed(shared, at, &why);
        let peer = self.sources[at].peer.peer;
        self.sources[at].leave(shared, SourceState::Gone);
        shared.report(Report::Trouble(peer, why));
        self.ask_more(shared, self.wanted());
    }

    /// The holder lied.
    fn bad(&mut self, shared: &mut Shared, at: usize, what: String) {
        self.trace_failed(shared, at, &what);
        let peer = self.sources[at].peer.peer;
        self.sources[at].leave(shared, SourceState::Gone);
        shared.report(Report::BadHolder(peer, what));
        self.ask_more(shared, self.wanted());
    }

    fn trace_failed(&self, shared: &Shared, at: usize, why: &str) {
        if_trace! {
            let source = &self.sources[at];
            let (chunk, index) = (self.spec.chunk.0.into(), source.index.0);
            let data = EventData::HolderFailed { chunk, index, reason: words(why) };
            let event = Event::new(data).of(&self.context).with_peer(&source.peer.peer);
            shared.tracer.log(event.flagged(flags::ERROR));
        }
        let _ = (shared, at, why);
    }
}

enum Step {
    More,
    Stop,
    NeedBytes,
}

impl Source {
    fn new(now: Instant, index: ShardIndex, peer: PeerAddr, root: Hash, length: u64) -> Source {
        Source {
            index,
            peer,
            state: SourceState::Spare,
            out: Outgoing::default(),
            incoming: ShardIncoming::new(ShardExpected { root, length, first_group: 0 }),
            root,
            length,
            units: VecDeque::new(),
            front: 0,
            proved: false,
            moved_at: now,
            paced_at: now,
            paced_bytes: 0,
            context: TraceContext::NONE,
        }
    }

    fn restart(&mut self, now: Instant, stripe: u64, conn: ConnId) {
        self.state = SourceState::Opening(conn);
        self.out = Outgoing::default();
        let first_group = u32::try_from(stripe).expect("a shard has few groups");
        let (root, length) = (self.root, self.length);
        self.incoming = ShardIncoming::new(ShardExpected { root, length, first_group });
        self.units.clear();
        self.front = stripe;
        self.moved_at = now;
        (self.paced_at, self.paced_bytes) = (now, 0);
    }

    /// Bytes came. A drip is a sign of life and no pace.
    fn moved(&mut self, now: Instant, bytes: u64) {
        self.moved_at = now;
        self.paced_bytes += bytes;
        if self.paced_bytes >= STREAM_PROGRESS_BYTES {
            (self.paced_at, self.paced_bytes) = (now, 0);
        }
    }

    /// Units of stripes that are done are of no use.
    fn drop_before(&mut self, stripe: u64) {
        while self.front < stripe && self.units.pop_front().is_some() {
            self.front += 1;
        }
    }

    fn is_waited_for(&self) -> bool {
        match self.state {
            SourceState::Opening(_) => true,
            SourceState::Receiving(..) => self.units.is_empty(),
            SourceState::Spare
            | SourceState::Linking
            | SourceState::Complete
            | SourceState::Gone => false,
        }
    }

    fn is_asked(&self) -> bool {
        matches!(
            self.state,
            SourceState::Opening(_) | SourceState::Receiving(..) | SourceState::Complete
        )
    }

    fn leave(&mut self, shared: &mut Shared, state: SourceState) {
        if let SourceState::Receiving(conn, stream) = self.state {
            let code =
                if state == SourceState::Complete { request::DONE } else { request::CANCELLED };
            shared.drop_stream(conn, stream, code);
            let ended = match state {
                SourceState::Gone => Outcome::Failed,
                _ => Outcome::Done,
            };
            let context = std::mem::take(&mut self.context);
            let bytes = self.front * pangea_base::GROUP_BYTES as u64;
            shared.tracer.end(&context, SpanKind::Shard, ended, bytes);
        }
        if matches!(state, SourceState::Spare | SourceState::Gone) {
            self.units.clear();
        }
        self.state = state;
    }
}

/// The manifest's words for a chunk in the decoder's.
fn shape(entry: &ChunkEntry, chunk: ChunkNumber) -> Option<ChunkShape> {
    Some(ChunkShape {
        suite: Suite::from_id(entry.suite)?,
        code: entry.code(),
        segment_bytes: entry.segment_bytes,
        chunk,
        plaintext_bytes: entry.plaintext_bytes,
        sealed_bytes: entry.sealed_bytes,
        shard_bytes: entry.shard_bytes,
    })
}
