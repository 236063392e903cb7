//! Messages of peers, and what follows them on their streams.

use std::sync::OnceLock;

use bytes::Bytes;
use pangea_base::{ChunkNumber, GROUP_BYTES, GroupHasher, GroupTable, Hash, Locator, ShardIndex};
use pangea_wire::{
    AuthChallenge, BlobBody, Channel, FetchRefusal, FetchRequest, FetchResponse, FrameReader,
    Grant, Message, PeerSent, Ping, Placement, PlacementPage, Pong, Protocol, PutBody, PutPart,
    Receipt, ReceiptExpected, RouteRequest, RouteResponse, ShardBegins, ShardBody, ShardExpected,
    ShardHeld, StoreRefusal, StoreRequest, StoreResponse, StoreTrailer, UNITS_END, VERSION, Whose,
    frame, limits, other_version, parse, preamble, table_bytes, unit_header,
};

use super::input::Input;
use super::samples::*;

/// The body of a message; the first byte says of which kind.
pub fn message(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    match kind % 9 {
        0 => round_trip::<StoreRequest>(body),
        1 => round_trip::<StoreResponse>(body),
        2 => round_trip::<StoreTrailer>(body),
        3 => round_trip::<FetchRequest>(body),
        4 => round_trip::<FetchResponse>(body),
        5 => round_trip::<RouteRequest>(body),
        6 => round_trip::<RouteResponse>(body),
        7 => round_trip::<Ping>(body),
        _ => round_trip::<Pong>(body),
    }
}

fn round_trip<M: Message>(body: &[u8]) {
    match parse::<M>(body) {
        Ok(message) => assert_eq!(&frame(&message)[4..], body, "a message has one form"),
        Err(refused) => assert!(refused.to_string().len() < 1000, "an error is short"),
    }
}

pub fn message_seeds() -> Vec<Vec<u8>> {
    fn seed<M: Message>(kind: u8, message: &M) -> Vec<u8> {
        [&[kind], &frame(message)[4..]].concat()
    }
    let root = Hash([0xab; 32]);
    let held = |index| ShardHeld {
        chunk: ChunkNumber(3),
        index: ShardIndex(index),
        length: 1 << 20,
        root,
        until: UNTIL,
    };
    let begins = ShardBegins { length: 1 << 20, root, first_group: 5 };
    let (lease_seconds, now) = (LEASE_SECONDS, NOW);
    let find = RouteRequest::FindRoutes { locator: locator(), bytes: 300, lease_seconds, now };
    let (whose, used, limit, capacity) = (Whose::Peer, 200, 300, 3000);
    let refusal = Some(StoreRefusal::OverQuota { whose, used, limit, capacity });
    let (peers, grants) = (vec![peer_addr(1), peer_addr(2)], vec![grant()]);
    let routes = RouteResponse { peers, grants, refusal, now };
    let (shards, more) = (vec![held(1), held(2)], true);
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    seeds.extend(store_requests(&auth()).iter().map(|request| seed(0, request)));
    seeds.push(seed(1, &StoreResponse::Stored(receipt())));
    seeds.push(seed(1, &StoreResponse::BlobStored));
    seeds.push(seed(1, &StoreResponse::Refused(StoreRefusal::TooLong { limit: 300 })));
    seeds.push(seed(2, &StoreTrailer { root, length: 300 }));
    seeds.extend(fetch_requests().iter().map(|request| seed(3, request)));
    seeds.push(seed(4, &FetchResponse::Shard(begins)));
    seeds.push(seed(4, &FetchResponse::Blob { length: 70_000 }));
    seeds.push(seed(4, &FetchResponse::Stat { now, shards, more }));
    seeds.push(seed(4, &FetchResponse::Placement { owner: owner(), length: 70_000, more }));
    seeds.push(seed(4, &FetchResponse::Refused(FetchRefusal::NotHeld)));
    seeds.push(seed(5, &find));
    seeds.push(seed(6, &routes));
    seeds.push(seed(7, &Ping { nonce: [7; 16] }));
    let (nonce, version, capacity_bytes, used_bytes) = ([7; 16], VERSION, 1 << 40, 300);
    seeds.push(seed(8, &Pong { nonce, version, capacity_bytes, used_bytes, now }));
    seeds.push([&[6], &other_version(Protocol::Route)[4..]].concat());
    seeds
}

/// Grants, proofs and receipts: no bytes but the signed ones are accepted.
pub fn signed(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    let (holder, origin) = (identity(1).peer(), owner());
    let accepted = match kind % 3 {
        0 => postcard::from_bytes::<Grant>(body).ok().is_some_and(|grant| {
            let good = grant.verify_signed(holder, origin, locator()).is_ok();
            good && grant != super::samples::grant()
        }),
        1 => postcard::from_bytes::<AuthChallenge>(body).ok().is_some_and(|challenge| {
            let channel = Channel { exporter: &EXPORTER, holder, origin, locator: locator() };
            challenge.verify(&channel).is_ok() && challenge != auth()
        }),
        _ => postcard::from_bytes::<Receipt>(body).ok().is_some_and(|receipt| {
            let good = super::samples::receipt();
            let expected = ReceiptExpected {
                holder,
                owner: origin,
                key: good.key(),
                root: good.root,
                length: good.length,
                lease_seconds: LEASE_SECONDS,
            };
            let mut placement = Placement::new(locator());
            let _ = placement.add(receipt.clone(), None);
            receipt.verify_answer(&expected).is_ok() && receipt != good
        }),
    };
    assert!(!accepted, "something that was not signed is accepted");
}

pub fn signed_seeds() -> Vec<Vec<u8>> {
    fn seed<T: serde::Serialize>(kind: u8, value: &T) -> Vec<u8> {
        [&[kind][..], &postcard::to_stdvec(value).expect("it encodes")].concat()
    }
    vec![seed(0, &grant()), seed(1, &auth()), seed(2, &receipt())]
}

/// A page of a placement; what is accepted is merged and paged again.
pub fn placement(data: &[u8]) {
    let Ok(page) = PlacementPage::parse(data, locator(), owner()) else { return };
    assert!(page.number < page.pages && page.pages <= limits::PLACEMENT_PAGES_MAX);
    assert!(page.owner.is_none_or(|whose| whose == owner()), "it was stored by its owner");
    let mut placement = Placement::new(locator());
    let mut genuine = Placement::new(locator());
    for receipt in &page.receipts {
        placement.add_checked(receipt.clone()).expect("a parsed receipt can be added");
        // A signature takes long to check, and a page may have thousands.
        if genuine.len() < 2 {
            let _ = genuine.add(receipt.clone(), None);
        }
    }
    placement.merge(genuine).expect("it is of the same object");
    let pages = placement.pages(owner(), &page.holders);
    let read = |page| {
        let page = PlacementPage::parse(page, locator(), owner()).expect("it is one of ours");
        page.receipts.len()
    };
    let receipts: usize = pages.iter().map(|page| read(page)).sum();
    // Version 1 does not say whose they are: no page of an owner has them.
    let owned = page.owner.map_or(0, |_| placement.len());
    assert_eq!(receipts, owned);
}

pub fn placement_seeds() -> Vec<Vec<u8>> {
    let mut placement = Placement::new(locator());
    let mut seeds = vec![placement.pages(owner(), &[])[0].to_vec()];
    for (chunk, index, holder) in [(3, 9, 1), (3, 9, 2), (3, 10, 2), (4, 0, 1)] {
        let (holder, key, root) = (identity(holder), key(chunk, index), Hash([0xab; 32]));
        let receipt = Receipt::issue(&holder, owner(), key, root, 1000, NOW, UNTIL);
        placement.add(receipt, None).expect("it is genuine");
        let mut at = peer_addr(9);
        at.peer = identity(1).peer();
        seeds.push(placement.pages(owner(), &[at])[0].to_vec());
    }
    seeds
}

/// A stream that comes in pieces is read as if it came at once: requests of all kinds with their
/// bodies, and the answers to a fetch.
pub fn stream(data: &[u8]) {
    let mut input = Input::new(data);
    let (kind, size) = (input.u8(), usize::from(input.u8()) + 1);
    let bytes = input.rest();
    let (at_once, end) = read_stream(kind, bytes, usize::MAX);
    let (in_pieces, end_in_pieces) = read_stream(kind, bytes, size);
    assert_eq!(end, end_in_pieces, "how a stream is cut changes nothing");
    // A page with something behind it is refused before it is given out, if all of it came at once.
    assert!(in_pieces.starts_with(&at_once), "{in_pieces:?} came of {at_once:?}");
    assert!(end.is_err() || at_once == in_pieces, "{in_pieces:?} came of {at_once:?}");
}

/// What a stream was: what was taken out of it, and how it ended.
fn read_stream(kind: u8, bytes: &[u8], piece: usize) -> (Vec<String>, Result<(), PeerSent>) {
    let mut reader = FrameReader::new();
    let mut reading = if kind & 1 == 0 { Reading::Protocol } else { Reading::Answer };
    let mut seen = Vec::new();
    let mut rest = bytes;
    loop {
        loop {
            let before = seen.len();
            match reading.step(&mut reader, &mut seen) {
                Ok(true) => {}
                Ok(false) if seen.len() > before => {}
                Ok(false) => break,
                Err(sent) => return (seen, Err(sent)),
            }
        }
        if rest.is_empty() {
            return (seen, reading.end(&reader));
        }
        let count = piece.min(rest.len()).min(reader.room());
        assert!(count > 0, "a reader that waits has room");
        let (now, later) = rest.split_at(count);
        reader.push(Bytes::copy_from_slice(now));
        rest = later;
    }
}

enum Reading {
    Protocol,
    Message(Protocol),
    Put(PutBody),
    Blob(BlobBody),
    Answer,
    Shard(Box<ShardBody>),
    Over,
}

impl Reading {
    /// One step; whether there may be another at once.
    fn step(&mut self, reader: &mut FrameReader, seen: &mut Vec<String>) -> Result<bool, PeerSent> {
        let next = match self {
            Reading::Protocol => reader.protocol()?.map(Reading::Message),
            Reading::Message(protocol) => request(*protocol, reader, seen)?,
            Reading::Answer => answer(reader, seen)?,
            Reading::Put(body) => {
                match body.next(reader)? {
                    Some(PutPart::Unit(unit)) => seen.push(format!("unit {}", Hash::of(&unit))),
                    Some(PutPart::Trailer(trailer)) => seen.push(format!("{trailer:?}")),
                    None => {}
                }
                None
            }
            Reading::Blob(body) => {
                seen.extend(body.next(reader)?.map(|blob| format!("blob {}", Hash::of(&blob))));
                None
            }
            Reading::Shard(body) => {
                seen.extend(body.next(reader)?.map(|group| format!("group {}", Hash::of(&group))));
                None
            }
            Reading::Over if reader.buffered() > 0 => return Err(PeerSent::AfterTheEnd("message")),
            Reading::Over => None,
        };
        Ok(match next {
            Some(next) => {
                *self = next;
                true
            }
            None => false,
        })
    }

    fn end(&self, reader: &FrameReader) -> Result<(), PeerSent> {
        match self {
            Reading::Protocol | Reading::Message(_) | Reading::Answer => reader.end("message"),
            Reading::Put(body) => body.end(),
            Reading::Blob(body) => body.end(),
            Reading::Shard(body) => body.end(),
            Reading::Over => Ok(()),
        }
    }
}

fn request(
    protocol: Protocol,
    reader: &mut FrameReader,
    seen: &mut Vec<String>,
) -> Result<Option<Reading>, PeerSent> {
    let (said, next) = match protocol {
        Protocol::Ping => (reader.message::<Ping>()?.map(|m| format!("{m:?}")), Reading::Over),
        Protocol::Route => {
            (reader.message::<RouteRequest>()?.map(|m| format!("{m:?}")), Reading::Over)
        }
        Protocol::Fetch => {
            (reader.message::<FetchRequest>()?.map(|m| format!("{m:?}")), Reading::Over)
        }
        Protocol::Store => {
            let Some(asked) = reader.message::<StoreRequest>()? else { return Ok(None) };
            let next = match &asked {
                StoreRequest::PutShard(header) => Reading::Put(PutBody::new(header.length_max)),
                StoreRequest::PutManifest(header) => {
                    Reading::Blob(BlobBody::new(header.length, header.page.bytes_max())?)
                }
                StoreRequest::PutPlacement(header) => {
                    Reading::Blob(BlobBody::new(header.length, limits::PAGE_BYTES_MAX)?)
                }
            };
            (Some(format!("{asked:?}")), next)
        }
    };
    Ok(said.map(|said| {
        seen.push(said);
        next
    }))
}

/// The shard that was asked for: three groups and a bit.
fn shard() -> &'static (Vec<u8>, GroupTable) {
    static SHARD: OnceLock<(Vec<u8>, GroupTable)> = OnceLock::new();
    SHARD.get_or_init(|| {
        let bytes = pattern(3 * GROUP_BYTES + 100);
        let mut hasher = GroupHasher::new();
        bytes.chunks(GROUP_BYTES).for_each(|group| hasher.push(group));
        (bytes, hasher.finish())
    })
}

/// Group 2 on.
fn expected() -> ShardExpected {
    let (_, table) = shard();
    ShardExpected { root: table.root(), length: table.length(), first_group: 2 }
}

fn answer(reader: &mut FrameReader, seen: &mut Vec<String>) -> Result<Option<Reading>, PeerSent> {
    let Some(answer) = reader.message::<FetchResponse>()? else { return Ok(None) };
    seen.push(format!("{answer:?}"));
    Ok(Some(match answer {
        FetchResponse::Shard(begins) => {
            Reading::Shard(Box::new(ShardBody::new(&begins, &expected())?))
        }
        FetchResponse::Blob { length } => {
            Reading::Blob(BlobBody::new(length, limits::ROOT_BYTES_MAX)?)
        }
        FetchResponse::Placement { length, .. } => {
            Reading::Blob(BlobBody::new(length, limits::PAGE_BYTES_MAX)?)
        }
        FetchResponse::Stat { .. } | FetchResponse::Refused(_) => Reading::Over,
    }))
}

pub fn stream_seeds() -> Vec<Vec<u8>> {
    let with = |kind: u8, parts: &[&[u8]]| [&[kind, 99][..], &parts.concat()].concat();
    let (bytes, table) = shard();
    let mut seeds = Vec::new();
    for request in store_requests(&auth()) {
        let body = match &request {
            StoreRequest::PutShard(_) => {
                let unit = [&unit_header(500)[..], &bytes[..500]].concat();
                let trailer = StoreTrailer { root: Hash::of(&bytes[..500]), length: 500 };
                [&unit[..], &UNITS_END, &frame(&trailer)].concat()
            }
            _ => bytes[..1000].to_vec(),
        };
        seeds.push(with(0, &[&preamble(Protocol::Store), &frame(&request), &body]));
    }
    for request in fetch_requests() {
        seeds.push(with(0, &[&preamble(Protocol::Fetch), &frame(&request)]));
    }
    let (locator, lease_seconds, now) = (Locator([5; 32]), LEASE_SECONDS, NOW);
    let find = RouteRequest::FindRoutes { locator, bytes: 300, lease_seconds, now };
    seeds.push(with(0, &[&preamble(Protocol::Route), &frame(&find)]));
    seeds.push(with(0, &[&preamble(Protocol::Ping), &frame(&Ping { nonce: [7; 16] })]));
    let ShardExpected { root, length, first_group } = expected();
    let begins = FetchResponse::Shard(ShardBegins { length, root, first_group });
    let groups = &bytes[2 * GROUP_BYTES..];
    seeds.push(with(1, &[&frame(&begins), &table_bytes(table), groups]));
    seeds.push(with(1, &[&frame(&FetchResponse::Blob { length: 300 }), &bytes[..300]]));
    let placement = FetchResponse::Placement { owner: owner(), length: 300, more: false };
    seeds.push(with(1, &[&frame(&placement), &bytes[..300]]));
    seeds.push(with(1, &[&frame(&FetchResponse::Refused(FetchRefusal::Busy))]));
    seeds.push(with(1, &[&other_version(Protocol::Fetch)]));
    seeds
}
