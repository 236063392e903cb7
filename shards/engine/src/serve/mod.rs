//! Serving: what peers ask of this node, one bidirectional stream per request.

mod fetch;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use pangea_base::{CoreId, PeerId, Prefix};
use pangea_store::WriteId;
use pangea_trace::{
    Event, EventData, LABEL_BYTES, Label, Outcome, SpanKind, TraceContext, flags, if_trace, words,
};
use pangea_transport::{ConnId, ReadOutcome, StreamId};
use pangea_wire::{
    AuthChallenge, FrameReader, Grant, PeerSent, Ping, Pong, Protocol, RouteRequest, RouteResponse,
    StoreRefusal,
};

use crate::callers::Callers;
use crate::clock::ClockHeard;
use crate::holdings::{Delivery, Holdings};
use crate::ledger::{LedgerAnswer, LedgerQuestion, Parting};
use crate::limits::{
    LEASE_MAX, OWN_STALL, SERVED_STREAMS_MAX, SERVED_STREAMS_PER_PEER_MAX, STREAM_PROGRESS_BYTES,
    STREAM_STALL,
};
use crate::message::Message;
use crate::outgoing::{Outgoing, Pumped};
use crate::request;
use crate::shared::{Owner, Shared};
use fetch::{Lookup, Sending};
pub(crate) use store::Written;
use store::{Bill, BlobWriting, OrphanShard, ShardWriting};

/// All requests that this core serves.
#[derive(Default)]
pub(crate) struct Serve {
    requests: BTreeMap<u64, Request>,
    next: u64,
    // Requests open of each peer, whatever its connections.
    by_peer: BTreeMap<PeerId, usize>,
    by_write: BTreeMap<WriteId, u64>,
    // Requests that found no free page; tried again every turn.
    starved: BTreeSet<u64>,
    // What outlives its request: questions to the ledger, and writes that can't be stopped.
    unpaid: BTreeMap<u64, Bill>,
    orphans: BTreeMap<WriteId, OrphanShard>,
    orphan_blobs: BTreeMap<u64, Bill>,
    pub(crate) holdings: Holdings,
    // Proofs that were already checked on a connection, so that each costs one signature only.
    proven: BTreeMap<ConnId, Vec<AuthChallenge>>,
    callers: Callers,
    closing: bool,
    capacity: u64,
    pub(crate) served: u64,
    pub(crate) refused: u64,
}

/// Proofs remembered per connection: one per object being put over it.
const PROVEN_MAX: usize = 64;

/// One request.
struct Request {
    conn: ConnId,
    stream: StreamId,
    peer: PeerId,
    from: Prefix,
    reader: FrameReader,
    stage: Stage,
    out: Outgoing,
    // When it last got on by enough, and by how many bytes since then. Time in which it waits for
    // this node does not count.
    moved_at: Instant,
    moved_bytes: u64,
    // When it last was for the peer to go on.
    peers_turn_at: Instant,
    context: TraceContext,
}

/// How far a request is.
enum Stage {
    /// Its trace context is awaited.
    Label,
    /// Its first bytes are awaited.
    Protocol,
    /// Its message is awaited.
    Message(Protocol),
    /// The ledger is asked for a grant.
    Granting,
    /// A shard is being written.
    Shard(Box<ShardWriting>),
    /// A manifest or placement page is being written.
    Blob(Box<BlobWriting>),
    /// The store's cores are asked.
    Lookup(Box<Lookup>),
    /// A shard is being sent.
    Sending(Box<Sending>),
    /// The last bytes of the answer are on their way.
    Answered,
}

/// Whether a request goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Something changed: look at the stage again.
    Again,
    /// Wait for an event.
    Wait,
    /// The request is over; its stream ends with this code.
    Over(u32),
}

impl Serve {
    pub(crate) fn new(capacity: u64) -> Serve {
        Serve { capacity, ..Serve::default() }
    }

    pub(crate) fn open_requests(&self) -> usize {
        self.requests.len()
    }

    /// Writes that outlived their request, and answers of the ledger that nobody waits for.
    pub(crate) fn unsettled(&self) -> usize {
        self.unpaid.len() + self.orphans.len() + self.orphan_blobs.len()
    }

    /// No new requests from now on; of the old ones only those stay that the disk is at.
    pub(crate) fn close(&mut self, shared: &mut Shared) {
        self.closing = true;
        let over = |(&id, request): (&u64, &Request)| (!request.is_committing()).then_some(id);
        let over: Vec<u64> = self.requests.iter().filter_map(over).collect();
        for id in over {
            self.end(shared, id, request::BUSY);
        }
    }

    /// A peer opened a stream.
    pub(crate) fn opened(&mut self, shared: &mut Shared, conn: ConnId, stream: StreamId) {
        let (peer, remote) = (shared.transport.peer(conn), shared.transport.remote(conn));
        let (Some(peer), Some(remote)) = (peer, remote) else {
            return shared.refuse_stream(conn, stream, request::BUSY);
        };
        let of_peer = self.by_peer.entry(peer).or_default();
        let too_many = *of_peer >= SERVED_STREAMS_PER_PEER_MAX;
        if too_many || self.requests.len() >= SERVED_STREAMS_MAX || self.closing {
            shared.refuse_stream(conn, stream, request::BUSY);
            self.refused += 1;
            return self.forget_idle(peer);
        }
        *of_peer += 1;
        self.next += 1;
        self.served += 1;
        let (stage, context) =
            match const { pangea_trace::ENABLED } && shared.transport.is_labelled(conn) {
                true => (Stage::Label, TraceContext::NONE),
                false => {
                    let number = stream.number();
                    (Stage::Protocol, shared.tracer.begin_trace(SpanKind::Serve, number))
                }
            };
        let request = Request {
            conn,
            stream,
            peer,
            from: Prefix::of(remote.ip()),
            reader: FrameReader::new(),
            stage,
            out: Outgoing::default(),
            moved_at: shared.now,
            moved_bytes: 0,
            peers_turn_at: shared.now,
            context,
        };
        self.requests.insert(self.next, request);
        shared.owners.insert((conn, stream), Owner::Served(self.next));
        self.run(shared, self.next);
    }

    pub(crate) fn readable(&mut self, shared: &mut Shared, id: u64) {
        self.run(shared, id);
    }

    pub(crate) fn writable(&mut self, shared: &mut Shared, id: u64) {
        self.run(shared, id);
    }

    /// The peer gave the request up, or its connection is gone.
    pub(crate) fn lost(&mut self, shared: &mut Shared, id: u64) {
        self.end(shared, id, request::CANCELLED);
    }

    /// The ledger hears of it, if grants were asked for or used on it. Its requests have ended
    /// before, so that nothing of it comes after.
    pub(crate) fn connection_closed(
        &mut self,
        shared: &mut Shared,
        conn: ConnId,
        parting: Parting,
    ) {
        self.proven.remove(&conn);
        if let Some(caller) = self.callers.gone(conn) {
            let question = LedgerQuestion::Gone { caller, parting };
            shared.send(CoreId(0), Message::Ledger(0, question));
        }
    }

    /// The ledger's answer to a request of this core.
    pub(crate) fn ledger_says(&mut self, shared: &mut Shared, id: u64, answer: LedgerAnswer) {
        let Some(request) = self.requests.get_mut(&id) else {
            if let (Some(bill), LedgerAnswer::Spent) = (self.unpaid.remove(&id), answer) {
                bill.settle(shared, 0);
            }
            return;
        };
        match (&mut request.stage, answer) {
            (Stage::Granting, answer) => request.answer_routes(shared, answer),
            (Stage::Shard(writing), answer) => writing.admitted(answer),
            (Stage::Blob(writing), answer) => writing.admitted(answer),
            _ => return,
        }
        self.run(shared, id);
    }

    /// The store's answer to a question of this core.
    pub(crate) fn delivered(&mut self, shared: &mut Shared, delivery: Delivery) {
        let id = delivery.served;
        let Some(request) = self.requests.get_mut(&id) else {
            return self.orphan_blob_written(shared, delivery);
        };
        match &mut request.stage {
            Stage::Lookup(lookup) => lookup.delivered(delivery),
            Stage::Sending(sending) => sending.delivered(delivery),
            Stage::Blob(writing) => writing.written(delivery.answer),
            _ => return,
        }
        self.run(shared, id);
    }

    /// The store says something of a write.
    pub(crate) fn write_event(
        &mut self,
        shared: &mut Shared,
        write: WriteId,
        result: Option<Result<Written, StoreRefusal>>,
    ) {
        if let (Some(orphan), Some(result)) = (self.orphans.get(&write), &result) {
            orphan.written(shared, result.as_ref().ok());
            self.orphans.remove(&write);
            return;
        }
        let Some(&id) = self.by_write.get(&write) else { return };
        if let Some(Request { stage: Stage::Shard(writing), .. }) = self.requests.get_mut(&id)
            && let Some(result) = result
        {
            self.by_write.remove(&write);
            writing.stored(result);
        }
        self.run(shared, id);
    }

    /// Tries again what waited for memory, and ends what stalled.
    pub(crate) fn tick(&mut self, shared: &mut Shared) {
        for id in std::mem::take(&mut self.starved) {
            self.run(shared, id);
        }
        let now = shared.now;
        let stalled = |(&id, request): (&u64, &mut Request)| request.stalls(now).then_some(id);
        let stalled: Vec<u64> = self.requests.iter_mut().filter_map(stalled).collect();
        for id in stalled {
            self.end(shared, id, request::STALLED);
        }
    }

    pub(crate) fn starving(&self) -> bool {
        !self.starved.is_empty()
    }

    /// Runs one request until it waits.
    fn run(&mut self, shared: &mut Shared, id: u64) {
        loop {
            match self.step(shared, id) {
                Next::Again => {}
                Next::Wait => break,
                Next::Over(code) => {
                    self.end(shared, id, code);
                    break;
                }
            }
        }
        shared.context = TraceContext::NONE;
    }

    fn step(&mut self, shared: &mut Shared, id: u64) -> Next {
        let Some(request) = self.requests.get_mut(&id) else { return Next::Wait };
        shared.context = request.context;
        match request.pump(shared) {
            Err(code) => return Next::Over(code),
            Ok(Pumped::Blocked) => return Next::Wait,
            Ok(Pumped::Drained) => {}
        }
        match &mut request.stage {
            Stage::Answered => {
                shared.finish(request.conn, request.stream);
                Next::Over(request::DONE)
            }
            Stage::Granting => Next::Wait,
            Stage::Label | Stage::Protocol | Stage::Message(_) => self.head(shared, id),
            Stage::Shard(_) => self.shard(shared, id),
            Stage::Blob(_) => self.blob(shared, id),
            Stage::Lookup(_) => self.lookup(shared, id),
            Stage::Sending(_) => self.sending(shared, id),
        }
    }

    /// Reads the protocol and the message that say what is wanted.
    fn head(&mut self, shared: &mut Shared, id: u64) -> Next {
        let Some(request) = self.requests.get_mut(&id) else { return Next::Wait };
        let understood = match request.stage {
            Stage::Label => Ok(request.label(shared)),
            Stage::Protocol => request
                .reader
                .protocol()
                .map(|protocol| protocol.map(|protocol| request.stage = Stage::Message(protocol))),
            Stage::Message(Protocol::Ping) => {
                let capacity = self.capacity;
                request.ping(shared, capacity)
            }
            Stage::Message(Protocol::Route) => request.route(shared, &mut self.callers, id),
            Stage::Message(Protocol::Store) => {
                return self.store_request(shared, id);
            }
            Stage::Message(Protocol::Fetch) => {
                return self.fetch_request(shared, id);
            }
            _ => return Next::Again,
        };
        match understood {
            Err(PeerSent::OtherVersion { protocol, .. })
                if matches!(request.stage, Stage::Protocol) =>
            {
                // Who speaks another version is told which one is spoken here.
                request.out.push(pangea_wire::other_version(protocol));
                request.stage = Stage::Answered;
                self.refused += 1;
                Next::Again
            }
            Err(sent) => self.misbehaved(shared, id, &sent),
            Ok(Some(())) => Next::Again,
            Ok(None) => self.read(shared, id),
        }
    }

    /// Takes in what arrived: Again if anything did.
    fn read(&mut self, shared: &mut Shared, id: u64) -> Next {
        let Some(request) = self.requests.get_mut(&id) else { return Next::Wait };
        let room = request.reader.room();
        match shared.transport.read(request.conn, request.stream, room) {
            Ok(ReadOutcome::Data(bytes)) => {
                request.moved(shared.now, bytes.len() as u64);
                request.reader.push(bytes);
                Next::Again
            }
            Ok(ReadOutcome::Blocked) => Next::Wait,
            Ok(ReadOutcome::Finished) => Next::Over(request::MISBEHAVED),
            Err(_) => Next::Over(request::CANCELLED),
        }
    }

    fn forget_idle(&mut self, peer: PeerId) {
        if self.by_peer.get(&peer) == Some(&0) {
            self.by_peer.remove(&peer);
        }
    }

    fn misbehaved(&mut self, shared: &mut Shared, id: u64, sent: &PeerSent) -> Next {
        if let Some(request) = self.requests.get(&id) {
            tracing::debug!(peer = %request.peer, core = shared.core.0, "a request is refused: {sent}");
            request.refused(shared, sent);
        }
        self.refused += 1;
        Next::Over(request::MISBEHAVED)
    }

    fn end(&mut self, shared: &mut Shared, id: u64, code: u32) {
        let Some(mut request) = self.requests.remove(&id) else { return };
        if let Some(open) = self.by_peer.get_mut(&request.peer) {
            *open -= 1;
        }
        self.forget_idle(request.peer);
        let ended = if code == request::DONE { Outcome::Done } else { Outcome::Failed };
        shared.tracer.end(&request.context, SpanKind::Serve, ended, request.out.taken());
        self.starved.remove(&id);
        self.abandon(shared, id, &mut request);
        if code == request::DONE {
            shared.owners.remove(&(request.conn, request.stream));
            // Whatever the peer still sends is of no interest.
            shared.stop(request.conn, request.stream, code);
        } else {
            shared.drop_stream(request.conn, request.stream, code);
        }
    }
}

impl Request {
    fn pump(&mut self, shared: &mut Shared) -> Result<Pumped, u32> {
        let before = self.out.taken();
        let pumped = self.out.pump(&mut shared.transport, self.conn, self.stream);
        self.moved(shared.now, self.out.taken() - before);
        pumped.map_err(|_| request::CANCELLED)
    }

    /// Bytes came or went. A drip is not progress: it would hold a place for ever.
    fn moved(&mut self, now: Instant, bytes: u64) {
        self.moved_bytes += bytes;
        if self.moved_bytes >= STREAM_PROGRESS_BYTES {
            self.moved_at = now;
            self.moved_bytes = 0;
        }
    }

    /// Whether nothing has come of it for too long.
    fn stalls(&mut self, now: Instant) -> bool {
        if self.waits_for_us() {
            // What waits for our own disk or ledger is not the peer's fault.
            (self.moved_at, self.moved_bytes) = (now, 0);
            return self.peers_turn_at + OWN_STALL <= now;
        }
        self.peers_turn_at = now;
        self.moved_at + STREAM_STALL <= now
    }

    /// Whether what it brought is being made durable.
    fn is_committing(&self) -> bool {
        match &self.stage {
            Stage::Shard(writing) => writing.is_committing(),
            Stage::Blob(writing) => writing.is_committing(),
            stage => matches!(stage, Stage::Answered),
        }
    }

    /// Whether the next step is this node's own.
    fn waits_for_us(&self) -> bool {
        match &self.stage {
            Stage::Granting => true,
            Stage::Shard(writing) => writing.waits_for_us(),
            Stage::Blob(writing) => writing.waits_for_us(),
            Stage::Lookup(_) => true,
            Stage::Sending(sending) => sending.waits_for_us() && self.out.is_empty(),
            Stage::Label | Stage::Protocol | Stage::Message(_) | Stage::Answered => false,
        }
    }

    /// What the peer calls its request, once that is here.
    fn label(&mut self, shared: &mut Shared) -> Option<()> {
        let bytes = self.reader.exact(LABEL_BYTES)?;
        let label = Label(<[u8; LABEL_BYTES]>::try_from(&bytes[..]).ok()?);
        let (what, number) = (SpanKind::Serve, self.stream.number());
        self.context = shared.tracer.begin_named(&label, what, number);
        self.stage = Stage::Protocol;
        Some(())
    }

    fn answer<M: pangea_wire::Message>(&mut self, message: &M) {
        self.out.push(pangea_wire::frame(message));
        self.stage = Stage::Answered;
    }

    /// Records that it is refused.
    fn refused(&self, shared: &Shared, why: &impl std::fmt::Display) {
        if_trace! {
            let reason = words(&why.to_string());
            let event = Event::new(EventData::RequestRefused { reason }).of(&self.context);
            shared.tracer.log(event.with_peer(&self.peer).flagged(flags::ERROR));
        }
        let _ = (shared, why);
    }

    fn ping(&mut self, shared: &Shared, capacity_bytes: u64) -> Result<Option<()>, PeerSent> {
        let Some(ping) = self.reader.message::<Ping>()? else { return Ok(None) };
        let used_bytes = shared.store.as_ref().map_or(0, |store| store.used_bytes());
        let (nonce, version, now) = (ping.nonce, pangea_wire::VERSION, shared.wall);
        self.answer(&Pong { nonce, version, capacity_bytes, used_bytes, now });
        Ok(Some(()))
    }

    fn route(
        &mut self,
        shared: &mut Shared,
        callers: &mut Callers,
        id: u64,
    ) -> Result<Option<()>, PeerSent> {
        let Some(asked) = self.reader.message::<RouteRequest>()? else { return Ok(None) };
        let (locator, bytes, lease_seconds, now) = match asked {
            RouteRequest::FindRoutes { locator, bytes, lease_seconds, now } => {
                (locator, bytes, lease_seconds, now)
            }
            RouteRequest::Release { locator } => {
                let question = LedgerQuestion::Release { origin: self.peer, locator };
                shared.send(CoreId(0), Message::Ledger(id, question));
                self.stage = Stage::Granting;
                return Ok(Some(()));
            }
        };
        let heard = ClockHeard::Peer { peer: self.peer, from: self.from, theirs: now };
        shared.send(CoreId(0), Message::ClockHeard(heard));
        if let Some(refusal) = lease_refused(lease_seconds) {
            self.answer_route(shared, Vec::new(), Some(refusal));
            return Ok(Some(()));
        }
        let (origin, from, caller) = (self.peer, self.from, callers.number(self.conn));
        let question = LedgerQuestion::Grant { origin, from, caller, locator, bytes };
        shared.send(CoreId(0), Message::Ledger(id, question));
        self.stage = Stage::Granting;
        Ok(Some(()))
    }

    fn answer_routes(&mut self, shared: &Shared, answer: LedgerAnswer) {
        let (grants, refusal) = match answer {
            LedgerAnswer::Granted(grant) => (vec![*grant], None),
            LedgerAnswer::Refused(refusal) => (Vec::new(), Some(refusal)),
            LedgerAnswer::Released => (Vec::new(), None),
            LedgerAnswer::Spent => (Vec::new(), Some(StoreRefusal::Internal)),
        };
        self.answer_route(shared, grants, refusal);
    }

    fn answer_route(&mut self, shared: &Shared, grants: Vec<Grant>, refusal: Option<StoreRefusal>) {
        if let Some(why) = &refusal {
            self.refused(shared, why);
        }
        let now = shared.wall;
        self.answer(&RouteResponse { peers: Vec::new(), grants, refusal, now });
    }
}

/// A lease that is longer than this node promises anything for.
fn lease_refused(seconds: u64) -> Option<StoreRefusal> {
    let limit = LEASE_MAX.as_secs();
    (seconds > limit).then_some(StoreRefusal::LeaseTooLong { limit })
}
