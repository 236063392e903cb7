//! Small requests of ours: a grant, a manifest or placement page, what a holder has.

use std::time::{Duration, Instant};

use bytes::Bytes;
use pangea_base::{ChunkNumber, Hash, PeerAddr, PeerId, ShardIndex, UnixTime};
use pangea_trace::{Outcome, SpanKind, TraceContext};
use pangea_transport::{ConnId, ReadFailed, ReadOutcome, StreamId, WriteFailed};
use pangea_wire::{
    AuthChallenge, BlobBody, FetchRequest, FetchResponse, FrameReader, ManifestHeader,
    PlacementHeader, Protocol, RouteRequest, RouteResponse, ShardHeld, StoreRequest, StoreResponse,
    clock_difference, limits::PAGE_BYTES_MAX,
};

use crate::limits::STAT_SHARDS_IN_ALL_MAX;
use crate::links::LinkState;
use crate::message::{Answer, Ask, AskFailed, AskId, HeldThere};
use crate::outgoing::{Outgoing, Pumped};
use crate::request;
use crate::shared::{Owner, Shared};

/// One request on its way.
pub(crate) struct AskJob {
    id: AskId,
    to: PeerAddr,
    ask: Ask,
    state: State,
    out: Outgoing,
    reader: FrameReader,
    blob: Option<BlobBody>,
    // Whose placement page is coming, and whether other owners follow.
    placement: Option<(PeerId, bool)>,
    shards: Vec<ShardHeld>,
    give_up_at: Instant,
    context: TraceContext,
    outcome: Option<Result<Answer, AskFailed>>,
}

enum State {
    Linking,
    Opening(ConnId),
    Asked(ConnId, StreamId),
}

impl AskJob {
    pub(crate) fn start(
        shared: &mut Shared,
        id: AskId,
        to: PeerAddr,
        ask: Ask,
        patience: Duration,
        part_of: &TraceContext,
    ) -> AskJob {
        let mut job = AskJob {
            id,
            to,
            ask,
            state: State::Linking,
            out: Outgoing::default(),
            reader: FrameReader::new(),
            blob: None,
            placement: None,
            shards: Vec::new(),
            give_up_at: shared.now + patience,
            context: shared.tracer.begin(part_of, SpanKind::Ask, id.0),
            outcome: None,
        };
        job.advance(shared);
        job
    }

    pub(crate) fn peer(&self) -> PeerId {
        self.to.peer
    }

    /// The answer, once there is one; the job is over then.
    pub(crate) fn outcome(&mut self, shared: &mut Shared) -> Option<Result<Answer, AskFailed>> {
        let outcome = self.outcome.take()?;
        let ended = if outcome.is_ok() { Outcome::Done } else { Outcome::Failed };
        shared.tracer.end(&self.context, SpanKind::Ask, ended, self.out.taken());
        if let State::Asked(conn, stream) = self.state {
            shared.drop_stream(conn, stream, request::DONE);
        }
        Some(outcome)
    }

    pub(crate) fn advance(&mut self, shared: &mut Shared) {
        let is_up = matches!(shared.links.state(self.to.peer), Some(LinkState::Up(_)));
        if matches!(self.ask, Ask::Release(_)) && !is_up {
            // The connection's end gives back what this would; none is made for it.
            return self.fail(AskFailed::Unreachable("there is no connection".to_owned()));
        }
        match self.state {
            State::Linking => match shared.links.want(&mut shared.transport, shared.now, self.to) {
                LinkState::Connecting => {}
                LinkState::Down(why) => self.fail(AskFailed::Unreachable(why)),
                LinkState::Up(conn) => {
                    self.state = State::Opening(conn);
                    self.advance(shared);
                }
            },
            State::Opening(conn) => {
                // A connection that is gone gives no stream any more.
                if shared.links.state(self.to.peer) != Some(LinkState::Up(conn)) {
                    let why = "the connection was lost before it could be asked".to_owned();
                    return self.fail(AskFailed::Unreachable(why));
                }
                let Some(stream) = shared.open(conn, Owner::Ask(self.id)) else { return };
                self.state = State::Asked(conn, stream);
                self.queue_request(shared, conn);
                self.pump(shared);
            }
            State::Asked(..) => {}
        }
    }

    pub(crate) fn pump(&mut self, shared: &mut Shared) {
        let State::Asked(conn, stream) = self.state else { return };
        match self.out.pump(&mut shared.transport, conn, stream) {
            Ok(Pumped::Drained) => shared.finish(conn, stream),
            Ok(Pumped::Blocked) => {}
            // Its answer is, or will be, in the stream the other way.
            Err(WriteFailed::Stopped(_)) => self.out.clear(),
            Err(failed) => {
                // A refusal explains more than the reset that came with it.
                self.readable(shared);
                self.fail(AskFailed::Unreachable(failed.to_string()));
            }
        }
    }

    pub(crate) fn readable(&mut self, shared: &mut Shared) {
        let State::Asked(conn, stream) = self.state else { return };
        while self.outcome.is_none() {
            let room = self.reader.room();
            match shared.transport.read(conn, stream, room) {
                Ok(ReadOutcome::Data(bytes)) => {
                    self.reader.push(bytes);
                    self.take_answer(shared);
                }
                Ok(ReadOutcome::Blocked) => return,
                Ok(ReadOutcome::Finished) => {
                    let what = "it ended the stream without an answer".to_owned();
                    self.fail(AskFailed::Misbehaved(what));
                }
                Err(ReadFailed::Reset(request::MISBEHAVED)) if self.reader.buffered() == 0 => {
                    self.fail(AskFailed::OtherVersion(NOT_UNDERSTOOD.to_owned()));
                }
                Err(failed) => self.fail(AskFailed::Unreachable(failed.to_string())),
            }
        }
    }

    /// Its connection never was one: it is asked once more when there is another.
    pub(crate) fn begin_again(&mut self) {
        if let State::Asked(..) = self.state {
            self.state = State::Linking;
            self.out = Outgoing::default();
            self.reader = FrameReader::new();
            (self.blob, self.placement) = (None, None);
        }
    }

    pub(crate) fn lost(&mut self, why: &str) {
        self.fail(AskFailed::Unreachable(why.to_owned()));
    }

    pub(crate) fn tick(&mut self, now: Instant) {
        if self.give_up_at <= now {
            self.fail(AskFailed::TimedOut);
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.give_up_at
    }

    fn fail(&mut self, failed: AskFailed) {
        self.outcome.get_or_insert(Err(failed));
    }

    fn queue_request(&mut self, shared: &Shared, conn: ConnId) {
        let auth = |grant: &pangea_wire::Grant| {
            let exporter = request::exporter(&shared.transport, conn);
            exporter.map(|exporter| AuthChallenge::new(&shared.identity, grant.clone(), &exporter))
        };
        let length = |bytes: &Bytes| u32::try_from(bytes.len()).expect("pages are at most 1 MiB");
        let label = shared.label(conn, &self.context);
        let queued = match &self.ask {
            Ask::Routes { locator, bytes, lease_seconds } => {
                let (locator, bytes, lease_seconds) = (*locator, *bytes, *lease_seconds);
                let now = shared.wall;
                let asked = RouteRequest::FindRoutes { locator, bytes, lease_seconds, now };
                Ok(request::open_with(label, Protocol::Route, &asked))
            }
            Ask::Release(locator) => {
                let asked = RouteRequest::Release { locator: *locator };
                Ok(request::open_with(label, Protocol::Route, &asked))
            }
            Ask::PutManifest { grant, name, page } => auth(grant).map(|auth| {
                let (locator, length) = (grant.locator, length(page));
                let header = ManifestHeader { auth, locator, page: *name, length };
                request::open_with(label, Protocol::Store, &StoreRequest::PutManifest(header))
            }),
            Ask::PutPlacement { grant, number, page } => auth(grant).map(|auth| {
                let (locator, length) = (grant.locator, length(page));
                let header = PlacementHeader { auth, locator, page: *number, length };
                request::open_with(label, Protocol::Store, &StoreRequest::PutPlacement(header))
            }),
            Ask::Manifest(locator, page) => {
                let asked = FetchRequest::GetManifest { locator: *locator, page: *page };
                Ok(request::open_with(label, Protocol::Fetch, &asked))
            }
            Ask::Placement(locator, page, whose) => {
                let (locator, page, whose) = (*locator, *page, *whose);
                let asked = FetchRequest::GetPlacement { locator, page, whose };
                Ok(request::open_with(label, Protocol::Fetch, &asked))
            }
            Ask::Stat(locator, owner) => {
                let after = self.shards.last().map(place_in_list);
                let asked = FetchRequest::Stat { locator: *locator, owner: *owner, after };
                Ok(request::open_with(label, Protocol::Fetch, &asked))
            }
        };
        match queued {
            Ok(bytes) => self.out.push(bytes),
            Err(why) => return self.fail(AskFailed::Unreachable(why)),
        }
        if let Ask::PutManifest { page, .. } | Ask::PutPlacement { page, .. } = &self.ask {
            self.out.push(page.clone());
        }
    }

    fn take_answer(&mut self, shared: &mut Shared) {
        let taken = match (&self.ask, &mut self.blob) {
            (_, Some(blob)) => match blob.next(&mut self.reader) {
                Ok(None) => return,
                Ok(Some(bytes)) => Ok(Some(whole(self.placement, bytes))),
                Err(sent) => Err(sent.into()),
            },
            (Ask::Routes { .. }, None) => self.routes(shared),
            (Ask::Release(_), None) => {
                self.routes(shared).map(|routes| routes.map(|_| Answer::Released))
            }
            (Ask::PutManifest { .. } | Ask::PutPlacement { .. }, None) => self.stored(),
            (Ask::Manifest(..) | Ask::Placement(..) | Ask::Stat(..), None) => self.fetched(shared),
        };
        match taken {
            Ok(None) => {}
            Ok(Some(answer)) => self.outcome = Some(Ok(answer)),
            Err(failed) => self.fail(failed),
        }
    }

    fn routes(&mut self, shared: &Shared) -> Result<Option<Answer>, AskFailed> {
        let response = self.reader.message::<RouteResponse>()?;
        match response {
            None => Ok(None),
            Some(RouteResponse { refusal: Some(refusal), .. }) => {
                Err(AskFailed::Refused(refusal.to_string()))
            }
            Some(routes) => {
                let clock = clock_difference(shared.wall, routes.now);
                Ok(Some(Answer::Routes(routes, clock)))
            }
        }
    }

    fn stored(&mut self) -> Result<Option<Answer>, AskFailed> {
        match self.reader.message::<StoreResponse>()? {
            None => Ok(None),
            Some(StoreResponse::BlobStored) => Ok(Some(Answer::Stored)),
            Some(StoreResponse::Refused(refusal)) => Err(AskFailed::Refused(refusal.to_string())),
            Some(StoreResponse::Stored(_)) => Err(another_question()),
        }
    }

    fn fetched(&mut self, shared: &mut Shared) -> Result<Option<Answer>, AskFailed> {
        let (wants_stat, whose) = match &self.ask {
            Ask::Stat(..) => (true, None),
            Ask::Placement(_, _, whose) => (false, Some(*whose)),
            _ => (false, None),
        };
        match self.reader.message::<FetchResponse>()? {
            None => Ok(None),
            Some(FetchResponse::Refused(refusal)) => Err(AskFailed::Refused(refusal.to_string())),
            Some(FetchResponse::Blob { length }) if !wants_stat && whose.is_none() => {
                self.blob_begins(length)
            }
            Some(FetchResponse::Placement { owner, length, more })
                if whose.is_some_and(|whose| whose.is(owner)) =>
            {
                self.placement = Some((owner, more));
                self.blob_begins(length)
            }
            Some(FetchResponse::Stat { now, shards, more }) if wants_stat => {
                self.more_shards(shared, now, shards, more)
            }
            Some(_) => Err(another_question()),
        }
    }

    fn blob_begins(&mut self, length: u32) -> Result<Option<Answer>, AskFailed> {
        let mut blob = BlobBody::new(length, PAGE_BYTES_MAX)?;
        let all = blob.next(&mut self.reader)?;
        self.blob = Some(blob);
        Ok(all.map(|bytes| whole(self.placement, bytes)))
    }

    /// One page of a list of shards; asks for the next on a stream of its own if there is one.
    fn more_shards(
        &mut self,
        shared: &mut Shared,
        now: UnixTime,
        shards: Vec<ShardHeld>,
        more: bool,
    ) -> Result<Option<Answer>, AskFailed> {
        let last = self.shards.last().map(place_in_list);
        let goes_on = shards.first().is_none_or(|s| last.is_none_or(|l| place_in_list(s) > l));
        if !goes_on || (more && shards.is_empty()) {
            return Err(AskFailed::Misbehaved("its list of shards does not go on".to_owned()));
        }
        self.shards.extend(shards);
        if self.shards.len() > STAT_SHARDS_IN_ALL_MAX {
            let what = format!("it lists more than {STAT_SHARDS_IN_ALL_MAX} shards of one object");
            return Err(AskFailed::Misbehaved(what));
        }
        if !more {
            let (shards, clock) =
                (std::mem::take(&mut self.shards), clock_difference(shared.wall, now));
            return Ok(Some(Answer::Stat(HeldThere { shards, now, clock })));
        }
        if let State::Asked(conn, stream) = self.state {
            shared.drop_stream(conn, stream, request::DONE);
            self.state = State::Opening(conn);
            self.out = Outgoing::default();
            self.reader = FrameReader::new();
            self.advance(shared);
        }
        Ok(None)
    }
}

/// Where a shard stands in the list of those that a holder has.
fn place_in_list(shard: &ShardHeld) -> (ChunkNumber, ShardIndex, Hash) {
    (shard.chunk, shard.index, shard.root)
}

/// The bytes that were asked for are all here.
fn whole(placement: Option<(PeerId, bool)>, bytes: Bytes) -> Answer {
    match placement {
        Some((owner, more)) => Answer::Placement { owner, more, page: bytes },
        None => Answer::Blob(bytes),
    }
}

/// What a program of version 1 does with whatever it does not know.
const NOT_UNDERSTOOD: &str =
    "it did not understand the request: it may run an older version of this program";

fn another_question() -> AskFailed {
    AskFailed::Misbehaved("it answered another question than it was asked".to_owned())
}
