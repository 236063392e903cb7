//! A caller that comes by itself: it dials honest nodes and plays rounds of moves on them.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pangea_base::PeerAddr;
use pangea_transport::{ConnId, Event, ReadOutcome, StreamId};
use pangea_wire::{
    AUTH_EXPORTER_LABEL, FetchResponse, FrameReader, Grant, Message, Protocol, RouteRequest,
    RouteResponse, ShardHeld, StoreResponse, frame, preamble,
};

use super::body::{Body, Conduct};
use super::talk::{Drip, End, Hearing, Saying};

/// How long a caller waits for a connection or an answer.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(500);
/// Connections that it keeps; the oldest is closed for one more.
const LINKS_MAX: usize = 32;
/// No honest holder promises anything for longer.
const LEASE_LONG_SECONDS: u64 = 10 * 366 * 86_400;
/// For how long callers ask to be served, in seconds.
pub(super) const LEASE_SECONDS: u64 = 86_400;
/// Receipts that it keeps.
const RECEIPTS_MAX: usize = 255;
/// Bytes of an answer that it keeps.
const HEARD_MAX: usize = 64 << 10;

/// What is said on a new stream, and how the answer is taken.
pub(super) struct Words {
    pub saying: Saying,
    pub hearing: Hearing,
}

impl Words {
    /// A whole request, said and listened to as an honest caller would.
    pub fn request<M: Message>(protocol: Protocol, message: &M) -> Words {
        Words::of([preamble(protocol), frame(message)])
    }

    pub fn of(pieces: impl IntoIterator<Item = Bytes>) -> Words {
        Words { saying: Saying::of(pieces), hearing: Hearing::Freely }
    }

    pub fn open(mut self) -> Words {
        self.saying.end = End::Open;
        self
    }
}

type Speech = Box<dyn FnOnce(&mut Scene<'_>) -> Words>;

/// One step of a round.
pub(super) enum Move {
    /// One more connection to the round's node; all that follows is on it.
    Dial,
    /// Begins a connection and does not wait for it.
    Knock,
    /// Opens a stream and says this.
    Say(Speech),
    /// Waits until the newest stream is over or its answer is whole, and counts how it went.
    Hear,
    /// As above, and keeps the grant in it.
    HearGrant,
    /// As above, and keeps the list of shards in it.
    HearHeld,
    /// Waits until what was said last is with the transport, whatever the answer.
    Said,
    /// Ends the newest stream with a code.
    Reset(u32),
    /// Ends the newest connection.
    Close,
    Wait(Duration),
}

impl Move {
    pub fn say(speech: impl FnOnce(&mut Scene<'_>) -> Words + 'static) -> Move {
        Move::Say(Box::new(speech))
    }

    /// Asks for a grant and waits for it.
    pub fn ask_grant(locator: pangea_base::Locator, bytes: u64) -> [Move; 2] {
        let ask = Move::say(move |scene| {
            let (lease_seconds, now) = (LEASE_SECONDS, scene.body.wall);
            let asked = RouteRequest::FindRoutes { locator, bytes, lease_seconds, now };
            Words::request(Protocol::Route, &asked)
        });
        [ask, Move::HearGrant]
    }

    /// Gives back what is reserved under a locator and waits for the answer.
    pub fn release(locator: pangea_base::Locator) -> [Move; 2] {
        let release = Move::say(move |scene| {
            scene.body.did("reservations given back");
            Words::request(Protocol::Route, &RouteRequest::Release { locator })
        });
        [release, Move::Hear]
    }
}

/// What a move works with.
pub(super) struct Scene<'a> {
    pub body: &'a mut Body,
    /// The round's node.
    pub node: PeerAddr,
    /// The grant heard last.
    pub grant: Option<Grant>,
    /// The list of shards heard last.
    pub held: Vec<ShardHeld>,
    /// Of the newest connection.
    pub exporter: [u8; 32],
}

/// A script of rounds.
pub(super) trait Plot {
    /// The next round, on one node after the other; an empty one: nothing to do just now; nothing:
    /// no more rounds.
    fn round(&mut self, number: u64, body: &mut Body, node: PeerAddr) -> Option<Vec<Move>>;

    /// Which of so many nodes the round is played on.
    fn target(&self, number: u64, nodes: u64) -> u64 {
        number % nodes
    }

    fn pause(&self) -> Duration {
        PAUSE
    }

    /// A datagram as it came.
    fn heard(&mut self, _body: &mut Body, _remote: SocketAddr, _datagram: &[u8]) {}

    /// A train as it goes out.
    fn sent(&mut self, _body: &mut Body, _to: SocketAddr, _stride: usize, _train: &[u8]) {}
}

/// One request under way.
struct Call {
    saying: Saying,
    says: Drip,
    hearing: Hearing,
    hears: Drip,
    heard: FrameReader,
    over: Option<&'static str>,
}

/// The caller.
pub(super) struct Caller<P> {
    plot: P,
    links: VecDeque<(ConnId, bool)>,
    calls: BTreeMap<(ConnId, StreamId), Call>,
    moves: VecDeque<Move>,
    // The newest stream.
    at: Option<(ConnId, StreamId)>,
    grant: Option<Grant>,
    held: Vec<ShardHeld>,
    node: Option<PeerAddr>,
    round: u64,
    done: bool,
    dialling: Option<ConnId>,
    // When the present move is due, and when it is given up.
    not_before: Option<Instant>,
    give_up_at: Option<Instant>,
}

/// What is looked for in an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Nothing,
    Grant,
    Held,
}

/// Whether a move is over.
#[derive(PartialEq, Eq)]
enum Went {
    On,
    /// The rest of the round makes no sense.
    Wrong,
    Waits,
}

impl<P: Plot> Caller<P> {
    pub fn new(plot: P, now: Instant) -> Caller<P> {
        Caller {
            plot,
            links: VecDeque::new(),
            calls: BTreeMap::new(),
            moves: VecDeque::new(),
            at: None,
            grant: None,
            held: Vec::new(),
            node: None,
            round: 0,
            done: false,
            dialling: None,
            not_before: Some(now),
            give_up_at: None,
        }
    }

    fn conn(&self) -> Option<ConnId> {
        self.links.back().map(|(conn, _)| *conn)
    }

    fn next_round(&mut self, body: &mut Body) {
        let Some(count) = u64::try_from(body.nodes.len()).ok().filter(|count| *count > 0) else {
            return;
        };
        let node = body.nodes[self.plot.target(self.round, count) as usize];
        match self.plot.round(self.round, body, node) {
            // Nothing to do before something happens.
            Some(moves) if moves.is_empty() => {}
            Some(moves) => {
                self.moves = moves.into();
                self.node = Some(node);
                self.round += 1;
                body.did("rounds");
            }
            None => self.done = true,
        }
    }

    /// One move; true: look again.
    fn advance(&mut self, body: &mut Body) -> bool {
        let Some(mut next) = self.moves.pop_front() else { return false };
        let give_up_at = *self.give_up_at.get_or_insert(body.now + PATIENCE);
        let went = match self.attempt(body, &mut next) {
            Went::Waits if give_up_at <= body.now => {
                self.dialling = None;
                body.did("moves given up");
                Went::Wrong
            }
            went => went,
        };
        match went {
            Went::Waits => {
                self.moves.push_front(next);
                return false;
            }
            Went::Wrong => self.moves.clear(),
            Went::On => {}
        }
        self.give_up_at = None;
        if self.moves.is_empty() {
            self.not_before = self.not_before.max(Some(body.now + self.plot.pause()));
        }
        true
    }

    fn attempt(&mut self, body: &mut Body, next: &mut Move) -> Went {
        match next {
            Move::Dial => self.dial(body),
            Move::Knock => {
                let went = self.connect(body);
                self.dialling = None;
                if went == Went::Waits { Went::On } else { went }
            }
            Move::Say(_) => self.say(body, next),
            Move::Hear => self.over(body, Wanted::Nothing),
            Move::HearGrant => self.over(body, Wanted::Grant),
            Move::HearHeld => self.over(body, Wanted::Held),
            Move::Said => {
                let call = self.at.and_then(|at| self.calls.get(&at));
                match call.is_some_and(|c| c.over.is_none() && c.saying.bytes() > 0) {
                    true => Went::Waits,
                    false => Went::On,
                }
            }
            Move::Reset(code) => {
                if let Some((conn, stream)) = self.at.take() {
                    let _ = body.transport.reset(conn, stream, *code);
                    let _ = body.transport.stop(conn, stream, *code);
                    self.calls.remove(&(conn, stream));
                    body.did("streams reset");
                }
                Went::On
            }
            Move::Close => {
                if let Some(conn) = self.conn() {
                    self.close(body, conn);
                    body.did("connections closed");
                }
                Went::On
            }
            Move::Wait(time) => {
                self.not_before = Some(body.now + *time);
                Went::On
            }
        }
    }

    fn scene<'a>(&self, body: &'a mut Body) -> Option<Scene<'a>> {
        let mut exporter = [0; 32];
        if let Some(conn) = self.conn() {
            let _ = body.transport.exporter(conn, AUTH_EXPORTER_LABEL, b"", &mut exporter);
        }
        let (grant, held) = (self.grant.clone(), self.held.clone());
        Some(Scene { body, node: self.node?, grant, held, exporter })
    }

    fn dial(&mut self, body: &mut Body) -> Went {
        if let Some(conn) = self.dialling {
            let went = match self.links.iter().find(|(known, _)| *known == conn) {
                Some((_, true)) => Went::On,
                Some((_, false)) => return Went::Waits,
                None => Went::Wrong,
            };
            self.dialling = None;
            if went == Went::Wrong {
                body.did("connections refused");
            }
            return went;
        }
        self.connect(body)
    }

    fn connect(&mut self, body: &mut Body) -> Went {
        let Some(node) = self.node else { return Went::Wrong };
        if self.links.len() >= LINKS_MAX
            && let Some(&(oldest, _)) = self.links.front()
        {
            self.close(body, oldest);
        }
        match body.transport.connect(body.now, node) {
            Ok(conn) => {
                self.links.push_back((conn, false));
                self.dialling = Some(conn);
                Went::Waits
            }
            Err(_) => Went::Wrong,
        }
    }

    fn say(&mut self, body: &mut Body, next: &mut Move) -> Went {
        let Some((conn, true)) = self.links.back().copied() else { return Went::Wrong };
        let Some(stream) = body.transport.open(conn) else {
            let gone = body.transport.remote(conn).is_none();
            return if gone { Went::Wrong } else { Went::Waits };
        };
        let Move::Say(speech) = std::mem::replace(next, Move::Hear) else { return Went::On };
        let Some(mut scene) = self.scene(body) else { return Went::Wrong };
        let Words { saying, hearing } = speech(&mut scene);
        let (says, hears) = (Drip::new(body.now), Drip::new(body.now));
        let heard = FrameReader::new();
        let call = Call { saying, says, hearing, hears, heard, over: None };
        self.calls.insert((conn, stream), call);
        self.at = Some((conn, stream));
        body.did("streams opened");
        self.run(body, conn, stream);
        Went::On
    }

    /// Whether the newest stream is over, and how.
    fn over(&mut self, body: &mut Body, wanted: Wanted) -> Went {
        let Some(at) = self.at else { return Went::Wrong };
        let Some(call) = self.calls.get_mut(&at) else { return Went::Wrong };
        let Some(over) = call.over else { return Went::Waits };
        let Some(mut call) = self.calls.remove(&at) else { return Went::Wrong };
        body.did(over);
        match wanted {
            Wanted::Grant => {}
            Wanted::Held => {
                if let Ok(Some(FetchResponse::Stat { shards, .. })) = call.heard.message() {
                    body.did("lists of shards heard");
                    self.held = shards;
                }
                return Went::On;
            }
            Wanted::Nothing => {
                note_response(body, &mut call.heard);
                return Went::On;
            }
        }
        match call.heard.message::<RouteResponse>() {
            Ok(Some(response)) => match response.grants.into_iter().next() {
                Some(grant) => {
                    body.did("grants got");
                    self.grant = Some(grant);
                    Went::On
                }
                None => {
                    body.did("grants refused");
                    self.grant = None;
                    Went::Wrong
                }
            },
            _ => Went::Wrong,
        }
    }

    fn close(&mut self, body: &mut Body, conn: ConnId) {
        body.transport.close(body.now, conn, 7, b"for no reason");
        self.lost(conn);
    }

    fn lost(&mut self, conn: ConnId) {
        self.links.retain(|(known, _)| *known != conn);
        let newest = self.at;
        self.calls.retain(|key, call| {
            if key.0 == conn {
                call.over.get_or_insert("connections lost under way");
            }
            key.0 != conn || Some(*key) == newest
        });
    }

    fn run(&mut self, body: &mut Body, conn: ConnId, stream: StreamId) {
        let Some(call) = self.calls.get_mut(&(conn, stream)) else { return };
        if call.over.is_none() {
            call.run(body, conn, stream);
        }
        if call.over.is_some() && self.at != Some((conn, stream)) {
            self.calls.remove(&(conn, stream));
        }
    }
}

impl Call {
    fn run(&mut self, body: &mut Body, conn: ConnId, stream: StreamId) {
        if self.saying.bytes() > 0 || self.saying.end != End::Open {
            self.speak(body, conn, stream);
        }
        while self.over.is_none() {
            let most = match self.hearing {
                Hearing::Freely => usize::MAX,
                Hearing::Never => return,
                Hearing::Drip(rate) => self.hears.allows(body.now, rate),
            };
            if most == 0 {
                return;
            }
            match body.transport.read(conn, stream, most.min(64 << 10)) {
                Ok(ReadOutcome::Data(bytes)) => {
                    if matches!(self.hearing, Hearing::Drip(_)) {
                        self.hears.took(bytes.len());
                        body.did("bytes taken drop by drop");
                    }
                    body.did_so_many("bytes heard", bytes.len() as u64);
                    if self.heard.buffered() + bytes.len() <= HEARD_MAX {
                        self.heard.push(bytes);
                    }
                }
                Ok(ReadOutcome::Blocked) => return,
                Ok(ReadOutcome::Finished) => self.over = Some("answers heard"),
                Err(_) => self.over = Some("requests cut off by the node"),
            }
        }
    }

    fn speak(&mut self, body: &mut Body, conn: ConnId, stream: StreamId) {
        let end = std::mem::replace(&mut self.saying.end, End::Open);
        let whole = self.saying.pump(body, conn, stream, &mut self.says);
        if !whole || self.saying.bytes() > 0 {
            // Not all of it is said, or the other side wants no more of it.
            self.saying.end = if whole { end } else { End::Open };
            if !whole {
                self.saying.pieces.clear();
            }
            return;
        }
        match end {
            End::Open => {}
            End::Finish => {
                let _ = body.transport.finish(conn, stream);
            }
            End::Reset(code) => {
                let _ = body.transport.reset(conn, stream, code);
                let _ = body.transport.stop(conn, stream, code);
                body.did("streams reset");
                self.over = Some("requests given up");
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        if self.over.is_some() {
            return None;
        }
        let hears = matches!(self.hearing, Hearing::Drip(_)).then(|| self.hears.next());
        [hears, self.saying.deadline(&self.says)].into_iter().flatten().min()
    }
}

/// Counts what a node said to a put.
fn note_response(body: &mut Body, heard: &mut FrameReader) {
    match heard.message::<StoreResponse>() {
        Ok(Some(StoreResponse::Stored(receipt))) => {
            body.did("receipts got");
            if receipt.lease_seconds().is_none_or(|lease| lease > LEASE_LONG_SECONDS) {
                body.did("leases without end got");
            }
            body.receipts.truncate(RECEIPTS_MAX);
            body.receipts.push(receipt);
        }
        Ok(Some(StoreResponse::BlobStored)) => body.did("pages stored"),
        Ok(Some(StoreResponse::Refused(_))) => body.did("puts refused"),
        _ => {}
    }
}

impl<P: Plot> Conduct for Caller<P> {
    fn event(&mut self, body: &mut Body, event: Event) {
        match event {
            Event::Connected { conn, .. } => {
                let link = self.links.iter_mut().find(|(known, _)| *known == conn);
                if let Some((_, up)) = link {
                    *up = true;
                    body.did("connections made");
                }
            }
            Event::Closed { conn, .. } => self.lost(conn),
            Event::Readable { conn, stream }
            | Event::Writable { conn, stream }
            | Event::Stopped { conn, stream, .. } => self.run(body, conn, stream),
            _ => {}
        }
    }

    fn act(&mut self, body: &mut Body) {
        let due = |call: &Call| call.deadline().is_some_and(|at| at <= body.now);
        let due: Vec<(ConnId, StreamId)> =
            self.calls.iter().filter(|(_, call)| due(call)).map(|(&at, _)| at).collect();
        for (conn, stream) in due {
            self.run(body, conn, stream);
        }
        while self.not_before.is_none_or(|at| at <= body.now) {
            self.not_before = None;
            if self.moves.is_empty() && !self.done {
                self.next_round(body);
            }
            if !self.advance(body) {
                return;
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let calls = self.calls.values().filter_map(Call::deadline).min();
        let waits = if self.moves.is_empty() { None } else { self.give_up_at };
        [calls, self.not_before.or(waits)].into_iter().flatten().min()
    }

    fn heard(&mut self, body: &mut Body, remote: SocketAddr, datagram: &[u8]) {
        self.plot.heard(body, remote, datagram);
    }

    fn sent(&mut self, body: &mut Body, to: SocketAddr, stride: usize, train: &[u8]) {
        self.plot.sent(body, to, stride, train);
    }
}
