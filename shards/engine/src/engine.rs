//! One core's engine: transport, store, requests served, jobs of the client.

mod conns;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pangea_base::file::FileDone;
use pangea_base::{CoreId, Entropy, Identity, PagePool, PeerId, UnixTime};
use pangea_ces::Codec;
use pangea_store::{Event as StoreEvent, Output as StoreOutput, Store, StoreFault};
use pangea_trace::{Hop, Inflight, TraceContext, Tracer, if_trace, trace_event};
use pangea_transport::{
    ConnId, Crypto, Event as NetEvent, Side, StreamId, TransmitMeta, Transport,
};
use pangea_wire::StoreRefusal;

use crate::ask::AskJob;
use crate::figures::{EngineHeld, EngineStats};
use crate::get_chunk::GetJob;
use crate::holdings::{Asker, Delivery, blob_written};
use crate::ledger::{Accept, Ledger, LedgerAnswer, LedgerQuestion};
use crate::limits::{ASKS_MAX, EXPIRE_EVERY, JOBS_MAX};
use crate::links::{LinkState, Links};
use crate::message::{
    AskFailed, AskId, Command, GetChunkFailed, HoldingAnswer, JobId, Message, Report,
};
use crate::put_chunk::PutJob;
use crate::serve::Serve;
use crate::shared::{FileOwner, Output, Owner, Shared};
use crate::traced::{file_begins, file_ended};

/// What an engine is made of. Whatever it would draw from its surroundings is in here.
pub struct EngineConfig {
    /// Which core this is.
    pub core: CoreId,
    /// How many cores the node has.
    pub cores: u8,
    /// Who the node is.
    pub identity: Arc<Identity>,
    /// Randomness of this core.
    pub entropy: Entropy,
    /// QUIC.
    pub transport: pangea_transport::Config,
    /// TLS, or a simulator's stand-in.
    pub crypto: Box<dyn Crypto>,
    /// This core's part of the store; `None` for a client.
    pub store: Option<Store>,
    /// 16 KiB pages for units.
    pub units: PagePool,
    /// 128 KiB pages for plaintext.
    pub segments: PagePool,
    /// Bytes that the node keeps for others.
    pub capacity_bytes: u64,
    /// Who may store.
    pub accept: Accept,
    /// Where it records what it does.
    pub tracer: Tracer,
}

/// Something that happened.
pub enum Input<'a> {
    /// A received batch.
    Datagrams {
        /// From where.
        remote: SocketAddr,
        /// To which of our addresses.
        local_ip: Option<IpAddr>,
        /// ECN bits.
        ecn: Option<u8>,
        /// Bytes of each datagram but the last.
        stride: usize,
        /// The batch.
        data: &'a [u8],
    },
    /// A file operation ended.
    File(FileDone),
    /// A message from another core, or from control (one past the last core), and what came along
    /// with it.
    Mesh(CoreId, Message, Hop),
}

/// The state machine of one core: [`Engine::handle`] what happened, [`Engine::turn`], then
/// [`Engine::poll`] and [`Engine::transmit`] until both are empty, then sleep until
/// [`Engine::deadline`] unless [`Engine::turn`] said that there is more to do.
pub struct Engine {
    shared: Shared,
    serve: Serve,
    // On core 0 only.
    ledger: Option<Ledger>,
    puts: BTreeMap<JobId, PutJob>,
    gets: BTreeMap<JobId, GetJob>,
    asks: BTreeMap<AskId, AskJob>,
    dials: Vec<PeerId>,
    conns: BTreeSet<ConnId>,
    turn_of: VecDeque<JobId>,
    next_tick: Instant,
    next_expire: Instant,
    shards: u64,
    closing: Closing,
    inflight: Inflight,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    Open,
    /// The store is being flushed.
    Store,
    Closed,
}

/// Housekeeping that needs no better clock.
const TICK: Duration = Duration::from_secs(1);
/// How soon a request that found no free page is tried again.
const STARVED_RETRY: Duration = Duration::from_millis(2);

impl Engine {
    /// An engine at time `now`.
    pub fn new(config: EngineConfig, now: Instant, wall: UnixTime) -> Engine {
        let EngineConfig { core, cores, mut entropy, capacity_bytes, accept, tracer, .. } = config;
        let mut transport = Transport::new(config.transport, config.crypto, entropy.split());
        transport.trace(tracer.clone());
        let ledger = (core == CoreId(0)).then(|| Ledger::new(capacity_bytes, accept));
        let is_client = config.store.is_none();
        let mut shared = Shared {
            now,
            wall,
            core,
            cores,
            identity: config.identity,
            entropy,
            transport,
            store: config.store,
            links: Links::default(),
            owners: BTreeMap::new(),
            codec: Codec::new(),
            units: config.units,
            segments: config.segments,
            outputs: VecDeque::new(),
            tracer,
            context: TraceContext::NONE,
            to_self: VecDeque::new(),
        };
        if is_client {
            shared.report(Report::Ready { shards: 0, bytes: 0 });
        }
        let serve = Serve::new(capacity_bytes);
        Engine {
            shared,
            serve,
            ledger,
            puts: BTreeMap::new(),
            gets: BTreeMap::new(),
            asks: BTreeMap::new(),
            dials: Vec::new(),
            conns: BTreeSet::new(),
            turn_of: VecDeque::new(),
            next_tick: now + TICK,
            next_expire: now + EXPIRE_EVERY,
            shards: 0,
            closing: Closing::Open,
            inflight: Inflight::default(),
        }
    }

    /// Takes in one thing that happened.
    pub fn handle(&mut self, now: Instant, wall: UnixTime, input: Input<'_>) {
        self.shared.now = now;
        self.shared.wall = wall;
        self.shared.tracer.tick(now);
        match input {
            Input::Datagrams { remote, local_ip, ecn, stride, data } => {
                self.datagrams(remote, local_ip, ecn, stride, data);
            }
            Input::File(done) => self.file_done(done),
            Input::Mesh(from, message, hop) => {
                self.shared.context = self.shared.tracer.arrive(&hop, from);
                self.message(from, message);
                self.shared.context = TraceContext::NONE;
            }
        }
    }

    /// Runs what is due and at most one step of every job's coding. True: there is more to do at
    /// once; false: nothing to do until the next input or the deadline.
    pub fn turn(&mut self, now: Instant, wall: UnixTime) -> bool {
        self.shared.now = now;
        self.shared.wall = wall;
        self.shared.tracer.tick(now);
        self.shared.transport.tick(now);
        self.events();
        if self.serve.starving() {
            self.serve.tick(&mut self.shared);
        }
        if self.next_tick <= now {
            self.tick();
        }
        if self.next_expire <= now {
            self.expire();
        }
        self.jobs_tick();
        let busy = self.work();
        self.events();
        self.settle();
        busy
    }

    /// Handles what came, before [`Engine::turn`] does the rest. True: small answers fill a packet.
    /// Who sends it and asks again lets the peers work while we do.
    pub fn answer(&mut self, now: Instant, wall: UnixTime) -> bool {
        self.shared.now = now;
        self.shared.wall = wall;
        while self.event() {
            if self.shared.transport.fills_a_packet() {
                return true;
            }
        }
        false
    }

    /// The next thing to do, oldest first.
    pub fn poll(&mut self) -> Option<Output> {
        let output = self.shared.outputs.pop_front()?;
        if_trace! {
            if let Output::File(request) = &output {
                file_begins(&self.shared.tracer, &mut self.inflight, request);
            }
        }
        Some(output)
    }

    /// Fills `buf` with the next GSO train.
    pub fn transmit(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<TransmitMeta> {
        self.shared.transport.transmit(now, buf)
    }

    /// When to call [`Engine::turn`] if nothing else happens.
    pub fn deadline(&self) -> Option<Instant> {
        let starved = self.serve.starving().then(|| self.shared.now + STARVED_RETRY);
        let blocked = (!self.puts.is_empty() || !self.gets.is_empty())
            .then(|| self.shared.now + Duration::from_millis(20));
        let puts = self.puts.values().filter_map(PutJob::deadline).min();
        let gets = self.gets.values().filter_map(GetJob::deadline).min();
        let asks = self.asks.values().map(AskJob::deadline).min();
        let own = [starved, blocked, puts, gets, asks, self.shared.links.deadline()];
        let quiet = self.serve.open_requests() == 0 && self.puts.is_empty();
        let tick = (!quiet).then_some(self.next_tick);
        let keeps = self.shared.store.is_some() && self.closing == Closing::Open;
        let expire = keeps.then_some(self.next_expire);
        let all = own.into_iter().chain([tick, expire, self.shared.transport.deadline()]);
        all.flatten().min()
    }

    /// The figures now.
    pub fn stats(&self) -> EngineStats {
        let store = self.shared.store.as_ref();
        EngineStats {
            connections: self.shared.transport.connections() as u64,
            shards: self.shards,
            bytes: store.map_or(0, |store| store.used_bytes()),
            requests: self.serve.served,
            refused: self.serve.refused,
        }
    }

    /// Whether everything is flushed and closed.
    pub fn is_closed(&self) -> bool {
        self.closing == Closing::Closed
    }

    /// What the engine holds for requests and jobs that are under way; all of it is nought when
    /// nothing is.
    pub fn held(&self) -> EngineHeld {
        EngineHeld {
            requests: self.serve.open_requests(),
            unsettled: self.serve.unsettled(),
            tickets: self.serve.holdings.open_tickets(),
            streams: self.shared.owners.len(),
            jobs: self.puts.len() + self.gets.len() + self.asks.len(),
        }
    }

    /// Bytes used and bytes reserved, as the ledger of core 0 has them.
    pub fn ledger(&self) -> Option<(u64, u64)> {
        self.ledger.as_ref().map(|ledger| (ledger.used(), ledger.reserved()))
    }

    /// Gives the memory of free pages back; for when the core has been idle for a while.
    pub fn trim(&self) {
        self.shared.units.trim();
        self.shared.segments.trim();
    }

    fn datagrams(
        &mut self,
        remote: SocketAddr,
        local_ip: Option<IpAddr>,
        ecn: Option<u8>,
        stride: usize,
        data: &[u8],
    ) {
        let owner = pangea_transport::owner(data, self.shared.cores);
        match owner {
            Some(core) if core != self.shared.core => {
                // A GRO batch is steered by its first datagram, so all of it has one owner or is
                // cut again there.
                let data = Bytes::copy_from_slice(data);
                let message = Message::Datagrams { remote, local_ip, ecn, stride, data };
                self.shared.send(core, message);
            }
            _ => {
                let now = self.shared.now;
                self.shared.transport.datagrams(now, remote, local_ip, ecn, stride, data);
            }
        }
    }

    fn file_done(&mut self, done: FileDone) {
        if_trace! {
            file_ended(&self.shared.tracer, &mut self.inflight, &done);
        }
        let FileDone { token, page, result } = done;
        match FileOwner::of(token) {
            FileOwner::Store(token) => {
                let done = FileDone { token, page, result };
                self.shared.store.as_mut().expect("it asked").file_done(done);
                self.store_events();
            }
            FileOwner::Source(job, number) => {
                let Some(put) = self.puts.get_mut(&job) else { return };
                let done = FileDone { token, page, result };
                if let Err(why) = put.source_read(&mut self.shared, number, done) {
                    self.end_put(job, Report::PutFailed(job, why));
                }
            }
            FileOwner::Output(job, _) => {
                let Some(get) = self.gets.get_mut(&job) else { return };
                get.output_written(&mut self.shared, FileDone { token, page, result });
            }
        }
    }

    fn message(&mut self, from: CoreId, message: Message) {
        match message {
            Message::Datagrams { remote, local_ip, ecn, stride, data } => {
                let now = self.shared.now;
                self.shared.transport.datagrams(now, remote, local_ip, ecn, stride, &data);
            }
            Message::Ledger(ticket, question) => self.ask_ledger(from, ticket, question),
            Message::LedgerSays(ticket, answer) => {
                self.serve.ledger_says(&mut self.shared, ticket, answer);
            }
            Message::Holding(ticket, question) => {
                self.serve.holdings.asked_by(&mut self.shared, from, ticket, question);
            }
            Message::HoldingSays(ticket, answer) => self.holding_says(from, ticket, answer),
            Message::Command(command) => self.command(command),
            Message::Report(_) => unreachable!("reports go to control"),
        }
    }

    fn ask_ledger(&mut self, from: CoreId, ticket: u64, question: LedgerQuestion) {
        let Shared { now, wall, ref identity, ref mut entropy, .. } = self.shared;
        let ledger = self.ledger.as_mut().expect("core 0 keeps the ledger");
        let answer = ledger.answer(now, wall, identity, entropy, question);
        trace_event!(
            self.shared.tracer,
            &self.shared.context,
            LedgerAnswered {
                answer: match answer {
                    LedgerAnswer::Granted(_) => 0,
                    LedgerAnswer::Spent => 1,
                    LedgerAnswer::Refused(_) => 2,
                    LedgerAnswer::Noted => 3,
                }
            }
        );
        if !matches!(answer, LedgerAnswer::Noted) {
            self.shared.send(from, Message::LedgerSays(ticket, answer));
        }
    }

    fn holding_says(&mut self, from: CoreId, ticket: u64, answer: HoldingAnswer) {
        match self.serve.holdings.redeem(ticket) {
            Some(Asker::Served(served) | Asker::BlobWriter(served)) => {
                let delivery = Delivery { served, ticket, from, answer };
                self.serve.delivered(&mut self.shared, delivery);
            }
            Some(Asker::Core(core, theirs, context)) => {
                self.shared.context = context;
                self.shared.send(core, Message::HoldingSays(theirs, answer));
            }
            None => {}
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Dial(to) => {
                self.shared.links.forget_if_down(to.peer);
                let now = self.shared.now;
                match self.shared.links.want(&mut self.shared.transport, now, to) {
                    LinkState::Connecting => self.dials.push(to.peer),
                    LinkState::Up(_) => self.shared.report(Report::Peer(to.peer, Ok(()))),
                    LinkState::Down(why) => self.shared.report(Report::Peer(to.peer, Err(why))),
                }
            }
            Command::Ask { id, to, ask, patience, context } => {
                if self.asks.len() >= ASKS_MAX {
                    let failed = AskFailed::Unreachable("too many requests at once".to_owned());
                    return self.shared.report(Report::Answered(id, Err(failed)));
                }
                let job = AskJob::start(&mut self.shared, id, to, ask, patience, &context);
                self.asks.insert(id, job);
            }
            Command::Put(put) => {
                assert!(self.puts.len() < JOBS_MAX, "control keeps to the limit on jobs");
                let job = put.job;
                let put = PutJob::start(&mut self.shared, *put);
                self.puts.insert(job, put);
                self.turn_of.push_back(job);
            }
            Command::Replace { job, index, failed, holder } => {
                if let Some(put) = self.puts.get_mut(&job) {
                    put.replace(&mut self.shared, index, failed, holder.map(|holder| *holder));
                }
            }
            Command::Get(get) => self.start_get(*get),
            Command::Cancel(job) => self.cancel(job),
            Command::Close => self.close(),
        }
    }

    fn start_get(&mut self, get: crate::message::GetChunk) {
        assert!(self.gets.len() < JOBS_MAX, "control keeps to the limit on jobs");
        let job = get.job;
        match GetJob::start(&mut self.shared, get) {
            Ok(get) => {
                self.gets.insert(job, get);
                self.turn_of.push_back(job);
            }
            Err(why) => {
                self.shared.report(Report::GetFailed(job, GetChunkFailed::Undecodable(why)));
            }
        }
    }

    fn cancel(&mut self, job: JobId) {
        if let Some(mut put) = self.puts.remove(&job) {
            put.cancel(&mut self.shared);
        }
        if let Some(mut get) = self.gets.remove(&job) {
            get.cancel(&mut self.shared);
        }
        self.turn_of.retain(|&other| other != job);
    }

    fn close(&mut self) {
        if self.closing != Closing::Open {
            return;
        }
        self.serve.close(&mut self.shared);
        self.closing = Closing::Store;
        match &mut self.shared.store {
            Some(store) => {
                store.shutdown();
                self.store_events();
            }
            None => self.closed(),
        }
    }

    fn closed(&mut self) {
        if self.closing != Closing::Closed {
            self.closing = Closing::Closed;
            for conn in std::mem::take(&mut self.conns) {
                self.shared.transport.close(self.shared.now, conn, 0, b"the node is stopping");
            }
            self.shared.report(Report::Closed);
        }
    }

    /// Everything that transport, store and this core itself have to say.
    fn events(&mut self) {
        while self.event() {}
    }

    /// Some of it; false if there is nothing.
    fn event(&mut self) -> bool {
        if let Some(event) = self.shared.transport.poll() {
            self.net_event(event);
            true
        } else if let Some(message) = self.shared.to_self.pop_front() {
            self.message(self.shared.core, message);
            true
        } else {
            self.store_events()
        }
    }

    fn net_event(&mut self, event: NetEvent) {
        match event {
            NetEvent::Connected { conn, side: Side::Dialled, .. } => self.dialled(conn),
            NetEvent::Connected { conn, peer, remote, side: Side::Accepted } => {
                tracing::info!(%peer, %remote, "a peer connected");
                self.conns.insert(conn);
            }
            NetEvent::Rejected { remote, reason } => {
                tracing::debug!(%remote, "no connection: {reason}");
            }
            // A node takes no messages.
            NetEvent::Finished { .. } | NetEvent::Message { .. } => {}
            NetEvent::Closed { conn, reason, .. } => self.conn_closed(conn, reason.to_string()),
            NetEvent::StreamOpened { conn, stream } => {
                self.serve.opened(&mut self.shared, conn, stream);
            }
            NetEvent::StreamsAvailable { conn } => {
                if let Some(peer) = self.shared.links.peer(conn) {
                    self.link_changed(peer);
                }
            }
            NetEvent::Readable { conn, stream } => self.stream_event(conn, stream, Edge::Readable),
            NetEvent::Writable { conn, stream } => self.stream_event(conn, stream, Edge::Writable),
            NetEvent::Stopped { conn, stream, .. } => {
                self.stream_event(conn, stream, Edge::Stopped);
            }
        }
    }

    fn stream_event(&mut self, conn: ConnId, stream: StreamId, edge: Edge) {
        let Some(&owner) = self.shared.owners.get(&(conn, stream)) else { return };
        let shared = &mut self.shared;
        match (owner, edge) {
            (Owner::Served(id), Edge::Readable) => self.serve.readable(shared, id),
            (Owner::Served(id), Edge::Writable) => self.serve.writable(shared, id),
            (Owner::Served(id), Edge::Stopped) => self.serve.lost(shared, id),
            (Owner::Put(job, index), edge) => {
                let Some(put) = self.puts.get_mut(&job) else { return };
                match edge {
                    Edge::Readable => put.readable(shared, index),
                    Edge::Writable => put.writable(shared, index),
                    Edge::Stopped => put.stopped(shared, index),
                }
            }
            (Owner::Get(job, at), edge) => {
                let Some(get) = self.gets.get_mut(&job) else { return };
                match edge {
                    Edge::Readable => get.readable(shared, at),
                    Edge::Writable | Edge::Stopped => get.writable(shared, at),
                }
            }
            (Owner::Ask(id), edge) => {
                let Some(ask) = self.asks.get_mut(&id) else { return };
                match edge {
                    Edge::Readable => ask.readable(shared),
                    Edge::Writable => ask.pump(shared),
                    Edge::Stopped => ask.readable(shared),
                }
            }
        }
    }

    /// Hands on what the store wants and says; true if there was anything.
    fn store_events(&mut self) -> bool {
        let mut any = false;
        while let Some(output) = self.shared.store.as_mut().and_then(Store::poll) {
            any = true;
            match output {
                StoreOutput::File(mut request) => {
                    request.token = FileOwner::Store(request.token).token();
                    self.shared.outputs.push_back(Output::File(request));
                }
                StoreOutput::Event(event) => self.store_event(event),
            }
        }
        any
    }

    fn store_event(&mut self, event: StoreEvent) {
        let shared = &mut self.shared;
        match event {
            StoreEvent::Ready(found) => {
                self.shards = found.shards;
                if found.damaged() {
                    tracing::warn!("the store was damaged: {found:?}");
                }
                let report = Report::Ready { shards: found.shards, bytes: found.bytes };
                let question = LedgerQuestion::Recovered(
                    found.owners.iter().map(|(owner, _, bytes)| (*owner, *bytes)).collect(),
                );
                shared.send(CoreId(0), Message::Ledger(0, question));
                shared.report(report);
            }
            StoreEvent::Failed(failed) => shared.report(Report::StoreFailed(failed.to_string())),
            StoreEvent::Appendable { id } => self.serve.write_event(shared, id, None),
            StoreEvent::Stored { id, root, length, .. } => {
                self.shards += 1;
                self.serve.write_event(shared, id, Some(Ok((root, length))));
            }
            StoreEvent::WriteFailed { id, fault } => {
                tracing::warn!("a shard was not stored: {fault}");
                let refusal = match fault {
                    StoreFault::NoSpace => StoreRefusal::Full,
                    _ => StoreRefusal::Internal,
                };
                self.serve.write_event(shared, id, Some(Err(refusal)));
            }
            StoreEvent::Read { token, page } => self.holding(token, HoldingAnswer::Page(page)),
            StoreEvent::Table { token, table } => self.holding(token, HoldingAnswer::Table(table)),
            StoreEvent::Blob { token, bytes } => self.holding(token, HoldingAnswer::Blob(bytes)),
            StoreEvent::ReadFailed { token, fault } => {
                self.holding(token, HoldingAnswer::Failed(fault.to_string()));
            }
            StoreEvent::BlobStored { token, .. } => self.holding(token, blob_written(Ok(()))),
            StoreEvent::BlobFailed { token, fault } => {
                self.holding(token, blob_written(Err(fault.to_string())));
            }
            StoreEvent::Deleted { key, bytes, .. } => {
                let owner = key.owner();
                self.shards = self.shards.saturating_sub(1);
                let question = LedgerQuestion::Deleted { owner, bytes };
                shared.send(CoreId(0), Message::Ledger(0, question));
            }
            StoreEvent::ExtentPoisoned { reason } => {
                tracing::error!("a write to the store failed, an extent is closed: {reason}");
            }
            StoreEvent::Poisoned { reason } => {
                tracing::error!("the store takes no more writes: {reason}");
                shared.report(Report::StoreFailed(reason));
            }
            StoreEvent::RoomMade { .. } | StoreEvent::Believed { .. } => {}
            StoreEvent::Closed => self.closed(),
        }
    }

    fn holding(&mut self, ticket: u64, answer: HoldingAnswer) {
        let from = self.shared.core;
        self.holding_says(from, ticket, answer);
    }

    /// One step of coding, of the job whose turn it is.
    fn work(&mut self) -> bool {
        for _ in 0..self.turn_of.len() {
            let Some(job) = self.turn_of.pop_front() else { break };
            self.turn_of.push_back(job);
            let worked = match (self.puts.get_mut(&job), self.gets.get_mut(&job)) {
                (Some(put), _) => put.work(&mut self.shared),
                (None, Some(get)) => get.work(&mut self.shared),
                (None, None) => false,
            };
            if worked {
                return true;
            }
        }
        false
    }

    fn jobs_tick(&mut self) {
        for put in self.puts.values_mut() {
            put.tick(&mut self.shared);
        }
        for get in self.gets.values_mut() {
            get.tick(&mut self.shared);
        }
        for ask in self.asks.values_mut() {
            ask.tick(self.shared.now);
        }
        let now = self.shared.now;
        for peer in self.shared.links.tick(&mut self.shared.transport, now) {
            self.link_changed(peer);
        }
    }

    fn tick(&mut self) {
        self.next_tick = self.shared.now + TICK;
        self.serve.tick(&mut self.shared);
        self.look_after_links();
    }

    /// Leases end also while nobody asks for anything.
    fn expire(&mut self) {
        self.next_expire = self.shared.now + EXPIRE_EVERY;
        if let Some(store) = &mut self.shared.store {
            store.expire(pangea_store::Clock::Believed(self.shared.wall));
        }
    }

    /// Ends the jobs that have an outcome.
    fn settle(&mut self) {
        let put_done = |(&job, put): (&JobId, &mut PutJob)| put.outcome().map(|r| (job, r));
        let puts: Vec<(JobId, Report)> = self.puts.iter_mut().filter_map(put_done).collect();
        for (job, report) in puts {
            self.end_put(job, report);
        }
        let get_done = |(&job, get): (&JobId, &mut GetJob)| get.outcome().map(|r| (job, r));
        let gets: Vec<(JobId, Report)> = self.gets.iter_mut().filter_map(get_done).collect();
        for (job, report) in gets {
            self.cancel(job);
            self.shared.report(report);
        }
        let shared = &mut self.shared;
        let mut answers = Vec::new();
        self.asks.retain(|&id, ask| match ask.outcome(shared) {
            Some(outcome) => {
                answers.push((id, outcome));
                false
            }
            None => true,
        });
        for (id, outcome) in answers {
            shared.report(Report::Answered(id, outcome));
        }
    }

    fn end_put(&mut self, job: JobId, report: Report) {
        self.cancel(job);
        self.shared.report(report);
    }
}

#[derive(Debug, Clone, Copy)]
enum Edge {
    Readable,
    Writable,
    Stopped,
}
