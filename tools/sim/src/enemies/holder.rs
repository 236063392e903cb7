//! A holder in memory that speaks the whole protocol, with hooks at which a vice departs from
//! honesty.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use pangea_base::{ChunkNumber, Hash, Locator, PeerId, ShardIndex, ShardKey, UnixTime};
use pangea_transport::{ConnId, Event, ReadOutcome, StreamId};
use pangea_wire::{
    AUTH_EXPORTER_LABEL, AuthRefused, BlobBody, Channel, FetchRefusal, FetchRequest, FetchResponse,
    FrameReader, Grant, GrantRefused, Message, PeerSent, Ping, PlacementOf, Pong, Protocol,
    PutBody, PutPart, Receipt, RouteRequest, RouteResponse, ShardBegins, StoreRefusal,
    StoreRequest, StoreResponse, StoreTrailer, VERSION, frame, limits::PAGE_BYTES_MAX,
    other_version, table_bytes,
};

use super::body::{Body, Conduct, Habits};
use super::keep::{KEPT_MAX, Keep};
use super::talk::{Drip, End, Hearing, Saying};

/// How long a grant of an honest holder holds.
pub(super) const GRANT_LIFETIME: Duration = Duration::from_secs(6 * 3600);
/// Its code for a stream that it ends because the other side broke the protocol.
const MISBEHAVED: u32 = 2;

/// What somebody wants of the holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Routes {
        locator: Locator,
        bytes: u64,
    },
    Release {
        locator: Locator,
    },
    /// The trailer is there once all of it is.
    PutShard {
        key: ShardKey,
        lease_seconds: u64,
        trailer: Option<StoreTrailer>,
    },
    PutManifest {
        locator: Locator,
        page: Hash,
    },
    PutPlacement {
        locator: Locator,
        page: u32,
    },
    GetShard {
        key: ShardKey,
        root: Hash,
        first_group: u32,
    },
    GetManifest {
        locator: Locator,
        page: Hash,
    },
    GetPlacement {
        locator: Locator,
        page: u32,
        whose: PlacementOf,
    },
    Stat {
        locator: Locator,
        owner: Option<PeerId>,
        after: Option<(ChunkNumber, ShardIndex, Hash)>,
    },
    Ping {
        nonce: [u8; 16],
    },
}

impl Asked {
    pub fn is_put(&self) -> bool {
        use Asked::{PutManifest, PutPlacement, PutShard};
        matches!(self, PutShard { .. } | PutManifest { .. } | PutPlacement { .. })
    }

    pub fn is_fetch(&self) -> bool {
        use Asked::{GetManifest, GetPlacement, GetShard, Stat};
        matches!(self, GetShard { .. } | GetManifest { .. } | GetPlacement { .. } | Stat { .. })
    }
}

/// What a vice works with.
pub(super) struct Desk<'a> {
    pub body: &'a mut Body,
    pub keep: &'a mut Keep,
    /// Who asks.
    pub peer: PeerId,
}

/// A departure from honesty. Everything that it does not name is done as an honest holder would.
pub(super) trait Vice {
    fn habits(&self) -> Habits {
        Habits::HONEST
    }

    /// How it listens, once it knows what is wanted; also whether it ever answers.
    fn hearing(&mut self, _desk: &mut Desk<'_>, _asked: &Asked) -> Hearing {
        Hearing::Freely
    }

    /// So many bytes of a shard came; a code ends the stream at once.
    fn unit(&mut self, _desk: &mut Desk<'_>, _bytes: u64) -> Option<u32> {
        None
    }

    /// What it says instead of the honest answer.
    fn answer(&mut self, desk: &mut Desk<'_>, asked: &Asked, honest: Saying) -> Saying;

    /// Somebody was turned away below the protocol.
    fn rejected(&mut self, _body: &mut Body) {}
}

/// The holder.
pub(super) struct Holder {
    vice: Box<dyn Vice>,
    keep: Keep,
    streams: BTreeMap<(ConnId, StreamId), Serving>,
}

/// A stream that somebody opened.
struct Serving {
    peer: PeerId,
    reader: FrameReader,
    stage: Stage,
    hearing: Hearing,
    hears: Drip,
    saying: Saying,
    says: Drip,
}

enum Stage {
    Protocol,
    Message(Protocol),
    Shard { key: ShardKey, lease_seconds: u64, body: PutBody, bytes: BytesMut },
    Blob { asked: Asked, body: BlobBody },
    Answering,
}

/// What came of looking at what has arrived.
enum Parsed {
    NeedBytes,
    More,
    Whole(Asked, Saying),
    /// An answer to what is no question.
    Said(Saying),
    Reset(u32),
}

impl Holder {
    pub fn new(vice: impl Vice + 'static) -> Holder {
        Holder { vice: Box::new(vice), keep: Keep::default(), streams: BTreeMap::new() }
    }

    pub fn habits(&self) -> Habits {
        self.vice.habits()
    }

    fn opened(&mut self, body: &mut Body, conn: ConnId, stream: StreamId) {
        let Some(peer) = body.transport.peer(conn) else { return };
        let serving = Serving {
            peer,
            reader: FrameReader::new(),
            stage: Stage::Protocol,
            hearing: Hearing::Freely,
            hears: Drip::new(body.now),
            saying: Saying::nothing(),
            says: Drip::new(body.now),
        };
        self.streams.insert((conn, stream), serving);
        self.run(body, conn, stream);
    }

    fn run(&mut self, body: &mut Body, conn: ConnId, stream: StreamId) {
        let Some(mut serving) = self.streams.remove(&(conn, stream)) else { return };
        if self.step(body, conn, stream, &mut serving) {
            self.streams.insert((conn, stream), serving);
        }
    }

    /// True: the stream goes on.
    fn step(
        &mut self,
        body: &mut Body,
        conn: ConnId,
        stream: StreamId,
        serving: &mut Serving,
    ) -> bool {
        while !matches!(serving.stage, Stage::Answering) {
            let mut desk = Desk { body, keep: &mut self.keep, peer: serving.peer };
            match parse(&mut desk, self.vice.as_mut(), conn, serving) {
                Parsed::More => {}
                Parsed::NeedBytes => match serving.read(body, conn, stream) {
                    Some(true) => {}
                    Some(false) => return true,
                    None => return false,
                },
                Parsed::Reset(code) => {
                    let _ = body.transport.reset(conn, stream, code);
                    let _ = body.transport.stop(conn, stream, code);
                    return false;
                }
                Parsed::Said(saying) => {
                    serving.stage = Stage::Answering;
                    serving.saying = saying;
                }
                Parsed::Whole(asked, honest) => {
                    serving.stage = Stage::Answering;
                    let mut desk = Desk { body, keep: &mut self.keep, peer: serving.peer };
                    if serving.hearing != Hearing::Never {
                        serving.saying = self.vice.answer(&mut desk, &asked, honest);
                    }
                }
            }
        }
        serving.saying.pump(body, conn, stream, &mut serving.says)
    }

    fn keys(&self) -> Vec<(ConnId, StreamId)> {
        self.streams.keys().copied().collect()
    }
}

impl Conduct for Holder {
    fn event(&mut self, body: &mut Body, event: Event) {
        match event {
            Event::StreamOpened { conn, stream } => self.opened(body, conn, stream),
            Event::Readable { conn, stream } | Event::Writable { conn, stream } => {
                self.run(body, conn, stream);
            }
            Event::Stopped { conn, stream, .. } => {
                self.streams.remove(&(conn, stream));
            }
            Event::Closed { conn, .. } => self.streams.retain(|(at, _), _| *at != conn),
            Event::Rejected { .. } => self.vice.rejected(body),
            _ => {}
        }
    }

    fn act(&mut self, body: &mut Body) {
        let now = body.now;
        for (conn, stream) in self.keys() {
            if self.streams[&(conn, stream)].deadline().is_some_and(|at| at <= now) {
                self.run(body, conn, stream);
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.streams.values().filter_map(Serving::deadline).min()
    }
}

impl Serving {
    fn deadline(&self) -> Option<Instant> {
        match (&self.stage, self.hearing) {
            (Stage::Answering, _) => self.saying.deadline(&self.says),
            (_, Hearing::Drip(_)) => Some(self.hears.next()),
            _ => None,
        }
    }

    /// Takes in what it wants to hear: whether there was anything, and whether it goes on at all.
    fn read(&mut self, body: &mut Body, conn: ConnId, stream: StreamId) -> Option<bool> {
        let most = match self.hearing {
            Hearing::Freely => self.reader.room(),
            Hearing::Never => return Some(false),
            Hearing::Drip(rate) => match self.hears.allows(body.now, rate) {
                0 => return Some(false),
                bytes => bytes,
            },
        };
        match body.transport.read(conn, stream, most) {
            Ok(ReadOutcome::Data(bytes)) => {
                if matches!(self.hearing, Hearing::Drip(_)) {
                    body.did("bytes taken drop by drop");
                    self.hears.took(bytes.len());
                }
                self.reader.push(bytes);
                Some(true)
            }
            Ok(ReadOutcome::Blocked) => Some(false),
            Ok(ReadOutcome::Finished) | Err(_) => None,
        }
    }
}

/// Takes the next thing out of what arrived.
fn parse(desk: &mut Desk<'_>, vice: &mut dyn Vice, conn: ConnId, serving: &mut Serving) -> Parsed {
    let parsed = match &mut serving.stage {
        Stage::Protocol => serving.reader.protocol().map(|protocol| match protocol {
            Some(protocol) => {
                serving.stage = Stage::Message(protocol);
                Parsed::More
            }
            None => Parsed::NeedBytes,
        }),
        Stage::Message(protocol) => match *protocol {
            Protocol::Store => store(desk, vice, conn, serving),
            Protocol::Route => message::<RouteRequest>(serving, |asked| match asked {
                RouteRequest::FindRoutes { locator, bytes, .. } => Asked::Routes { locator, bytes },
                RouteRequest::Release { locator } => Asked::Release { locator },
            })
            .map(|parsed| finish(desk, vice, serving, parsed)),
            Protocol::Fetch => message::<FetchRequest>(serving, |asked| match asked {
                FetchRequest::GetShard { key, root, first_group } => {
                    Asked::GetShard { key, root, first_group }
                }
                FetchRequest::GetManifest { locator, page } => Asked::GetManifest { locator, page },
                FetchRequest::GetPlacement { locator, page, whose } => {
                    Asked::GetPlacement { locator, page, whose }
                }
                FetchRequest::Stat { locator, owner, after } => {
                    Asked::Stat { locator, owner, after }
                }
            })
            .map(|parsed| finish(desk, vice, serving, parsed)),
            Protocol::Ping => message::<Ping>(serving, |ping| Asked::Ping { nonce: ping.nonce })
                .map(|parsed| finish(desk, vice, serving, parsed)),
        },
        Stage::Shard { .. } => shard(desk, vice, serving),
        Stage::Blob { asked, body } => {
            let asked = *asked;
            body.next(&mut serving.reader).map(|bytes| match bytes {
                None => Parsed::NeedBytes,
                Some(bytes) => Parsed::Whole(asked, keep_blob(desk, &asked, bytes)),
            })
        }
        Stage::Answering => Ok(Parsed::NeedBytes),
    };
    match parsed {
        Ok(parsed) => parsed,
        Err(PeerSent::OtherVersion { protocol, .. }) => {
            desk.body.did("other versions told of");
            Parsed::Said(Saying::of([other_version(protocol)]))
        }
        Err(_) => Parsed::Reset(MISBEHAVED),
    }
}

fn message<M: Message>(
    serving: &mut Serving,
    asked: impl FnOnce(M) -> Asked,
) -> Result<Option<Asked>, PeerSent> {
    Ok(serving.reader.message::<M>()?.map(asked))
}

/// A question that is whole with its message.
fn finish(
    desk: &mut Desk<'_>,
    vice: &mut dyn Vice,
    serving: &mut Serving,
    asked: Option<Asked>,
) -> Parsed {
    let Some(asked) = asked else { return Parsed::NeedBytes };
    serving.hearing = vice.hearing(desk, &asked);
    let honest = honest(desk, &asked);
    Parsed::Whole(asked, honest)
}

fn store(
    desk: &mut Desk<'_>,
    vice: &mut dyn Vice,
    conn: ConnId,
    serving: &mut Serving,
) -> Result<Parsed, PeerSent> {
    let Some(request) = serving.reader.message::<StoreRequest>()? else {
        return Ok(Parsed::NeedBytes);
    };
    let (asked, length) = match &request {
        StoreRequest::PutShard(header) => {
            let (key, lease_seconds) = (header.key, header.lease_seconds);
            (Asked::PutShard { key, lease_seconds, trailer: None }, 0)
        }
        StoreRequest::PutManifest(header) => {
            let (locator, page) = (header.locator, header.page.hash());
            (Asked::PutManifest { locator, page }, header.length)
        }
        StoreRequest::PutPlacement(header) => {
            let (locator, page) = (header.locator, header.page);
            (Asked::PutPlacement { locator, page }, header.length)
        }
    };
    if let Err(refusal) = prove(desk, conn, &request) {
        let refused = frame(&StoreResponse::Refused(refusal));
        return Ok(Parsed::Whole(asked, Saying::of([refused])));
    }
    serving.hearing = vice.hearing(desk, &asked);
    serving.stage = match request {
        StoreRequest::PutShard(header) => Stage::Shard {
            key: header.key,
            lease_seconds: header.lease_seconds,
            body: PutBody::new(header.length_max),
            bytes: BytesMut::new(),
        },
        _ => Stage::Blob { asked, body: BlobBody::new(length, PAGE_BYTES_MAX)? },
    };
    Ok(Parsed::More)
}

/// Whether the peer may use the grant it shows, as an honest holder asks.
fn prove(desk: &mut Desk<'_>, conn: ConnId, request: &StoreRequest) -> Result<(), StoreRefusal> {
    if desk.keep.is_full() {
        return Err(StoreRefusal::Full { capacity: KEPT_MAX });
    }
    let mut exporter = [0; 32];
    let exported = desk.body.transport.exporter(conn, AUTH_EXPORTER_LABEL, b"", &mut exporter);
    exported.map_err(|_| StoreRefusal::Internal)?;
    let (holder, origin) = (desk.body.identity.peer(), desk.peer);
    let channel = Channel { exporter: &exporter, holder, origin, locator: request.locator() };
    let auth = request.auth();
    auth.verify(&channel).map_err(StoreRefusal::BadGrant)?;
    match auth.grant.is_over(desk.body.wall) {
        true => Err(StoreRefusal::BadGrant(AuthRefused::Grant(GrantRefused::Over))),
        false => Ok(()),
    }
}

fn shard(
    desk: &mut Desk<'_>,
    vice: &mut dyn Vice,
    serving: &mut Serving,
) -> Result<Parsed, PeerSent> {
    let Stage::Shard { key, lease_seconds, body, bytes } = &mut serving.stage else {
        return Ok(Parsed::More);
    };
    let (key, lease_seconds) = (*key, *lease_seconds);
    match body.next(&mut serving.reader)? {
        None => Ok(Parsed::NeedBytes),
        Some(PutPart::Unit(unit)) => {
            bytes.extend_from_slice(&unit);
            let so_far = bytes.len() as u64;
            Ok(vice.unit(desk, so_far).map_or(Parsed::More, Parsed::Reset))
        }
        Some(PutPart::Trailer(trailer)) => {
            let length = bytes.len() as u64;
            let bytes = bytes.split().freeze();
            let until = end_of(desk.body.wall, lease_seconds);
            let root = desk.keep.shard(desk.peer, key, bytes, until);
            let response = match trailer == (StoreTrailer { root, length }) {
                true => StoreResponse::Stored(receipt(desk, key, trailer, lease_seconds)),
                false => StoreResponse::Refused(StoreRefusal::RootMismatch),
            };
            let asked = Asked::PutShard { key, lease_seconds, trailer: Some(trailer) };
            Ok(Parsed::Whole(asked, Saying::of([frame(&response)])))
        }
    }
}

fn keep_blob(desk: &mut Desk<'_>, asked: &Asked, bytes: Bytes) -> Saying {
    match *asked {
        Asked::PutManifest { locator, page } => desk.keep.manifest(locator, page, bytes),
        Asked::PutPlacement { locator, page } => {
            desk.keep.placement(desk.peer, locator, page, bytes);
        }
        _ => {}
    }
    Saying::of([frame(&StoreResponse::BlobStored)])
}

/// What an honest holder would say.
fn honest(desk: &mut Desk<'_>, asked: &Asked) -> Saying {
    let not_held = || Saying::of([frame(&FetchResponse::Refused(FetchRefusal::NotHeld))]);
    match *asked {
        Asked::Routes { locator, bytes } => {
            let grant = grant(desk, locator, bytes, GRANT_LIFETIME);
            Saying::of([routes(desk, vec![grant], None)])
        }
        Asked::Release { .. } => Saying::of([routes(desk, Vec::new(), None)]),
        Asked::GetShard { key, root, first_group } => {
            let Some(kept) = desk.keep.find_shard(&key, &root) else { return not_held() };
            let length = kept.bytes.len() as u64;
            let from = first_group as usize * pangea_base::GROUP_BYTES;
            if from >= kept.bytes.len() {
                return Saying::of([frame(&FetchResponse::Refused(FetchRefusal::BeyondEnd))]);
            }
            let begins = ShardBegins { length, root: kept.table.root(), first_group };
            let head = frame(&FetchResponse::Shard(begins));
            Saying::of([head, table_bytes(&kept.table), kept.bytes.slice(from..)])
        }
        Asked::GetManifest { locator, page } => {
            desk.keep.find_manifest(locator, page).map_or_else(not_held, blob)
        }
        Asked::GetPlacement { locator, page, whose } => {
            let found = desk.keep.find_placement(locator, page, whose);
            found.map_or_else(not_held, |(owner, page, more)| placement(owner, page, more))
        }
        Asked::Stat { locator, owner, after } => {
            let shards = desk.keep.held(locator, owner, after);
            Saying::of([frame(&FetchResponse::Stat { now: desk.body.wall, shards, more: false })])
        }
        Asked::Ping { nonce } => {
            let (capacity_bytes, now) = (1 << 40, desk.body.wall);
            let pong = Pong { nonce, version: VERSION, capacity_bytes, used_bytes: 0, now };
            Saying::of([frame(&pong)])
        }
        // Answered where their last byte is taken in.
        Asked::PutShard { .. } | Asked::PutManifest { .. } | Asked::PutPlacement { .. } => {
            Saying::nothing()
        }
    }
}

/// A grant to who asks, signed by this holder.
pub(super) fn grant(desk: &mut Desk<'_>, locator: Locator, bytes: u64, life: Duration) -> Grant {
    let (issued, nonce) = (desk.body.wall, desk.body.entropy.array());
    let lifetime = life.as_secs();
    Grant::issue(&desk.body.identity, desk.peer, locator, bytes, issued, lifetime, nonce)
}

/// A receipt to who asks, for what it sent, signed by this holder.
pub(super) fn receipt(
    desk: &Desk<'_>,
    key: ShardKey,
    sent: StoreTrailer,
    lease_seconds: u64,
) -> Receipt {
    let StoreTrailer { root, length } = sent;
    let (stored, until) = (desk.body.wall, end_of(desk.body.wall, lease_seconds));
    Receipt::issue(&desk.body.identity, desk.peer, key, root, length, stored, until)
}

/// When a lease that begins now ends.
pub(super) fn end_of(now: UnixTime, lease_seconds: u64) -> UnixTime {
    now.after(Duration::from_secs(lease_seconds))
}

pub(super) fn routes(desk: &Desk<'_>, grants: Vec<Grant>, refusal: Option<StoreRefusal>) -> Bytes {
    frame(&RouteResponse { peers: Vec::new(), grants, refusal, now: desk.body.wall })
}

/// A placement page behind its head.
pub(super) fn placement(owner: PeerId, page: Bytes, more: bool) -> Saying {
    let page = if page.is_empty() { Bytes::from_static(&[0]) } else { page };
    let length = u32::try_from(page.len()).expect("pages are short");
    Saying::of([frame(&FetchResponse::Placement { owner, length, more }), page])
}

/// Another page behind its head.
pub(super) fn blob(bytes: Bytes) -> Saying {
    let bytes = if bytes.is_empty() { Bytes::from_static(&[0]) } else { bytes };
    let length = u32::try_from(bytes.len()).expect("pages are short");
    Saying { end: End::Finish, ..Saying::of([frame(&FetchResponse::Blob { length }), bytes]) }
}
