//! One reader for each surface: what it is refused with, by name.

use std::ffi::OsString;
use std::fmt::Debug;
use std::fs;

use bytes::Bytes;
use pangea::config::{Compress, Config, ConfigInvalid};
use pangea::keyfile;
use pangea::units::{Size, Span};
use pangea_base::{AddrInvalid, Hash, ManifestId, PeerAddr, PeerId};
use pangea_trace::TraceId;
use pangea_wire::{
    AuthRefused, BlobBody, ChunkEntry, FetchRequest, FetchResponse, FrameReader, Label, Link,
    ManifestInvalid, ManifestReader, ManifestWalk, Message, PeerSent, Ping, Placement,
    PlacementInvalid, PlacementPage, PlacementRefused, Pong, Protocol, PutBody, ReceiptExpected,
    RouteRequest, RouteResponse, ShardBody, Step, StoreRefusal, StoreRequest, StoreResponse,
    StoreTrailer, limits, parse,
};

use super::targets::samples::{self, LEASE_SECONDS, identity, key, locator, owner, read_key};

/// What came of an input: names of refusals, outermost first; none if it was accepted.
pub type Refusals = Vec<String>;

/// A surface: the name of its folder, and its reader.
pub type Surface = (&'static str, fn(&[u8]) -> Refusals);

/// All of them.
pub const SURFACES: &[Surface] = &[
    ("link", |bytes| text(bytes, |text| said(&text.parse::<Link>()))),
    ("address", |bytes| text(bytes, address)),
    ("peer-id", |bytes| text(bytes, |text| said(&text.parse::<PeerId>()))),
    ("trace-id", |bytes| text(bytes, |text| said(&text.parse::<TraceId>()))),
    ("label", |bytes| said(&Label::from_bytes(bytes))),
    ("size", |bytes| text(bytes, |text| said(&text.parse::<Size>()))),
    ("span", |bytes| text(bytes, |text| said(&text.parse::<Span>()))),
    ("config", config),
    ("arguments", arguments),
    ("key-file", key_file),
    ("store-request", message::<StoreRequest>),
    ("store-trailer", message::<StoreTrailer>),
    ("fetch-request", message::<FetchRequest>),
    ("fetch-response", message::<FetchResponse>),
    ("route-request", message::<RouteRequest>),
    ("ping", message::<Ping>),
    ("pong", message::<Pong>),
    ("stream", |bytes| ended(stream(bytes))),
    ("fetch-answer", fetch_answer),
    ("store-answer", store_answer),
    ("route-answer", route_answer),
    ("receipt", receipt),
    ("placement", placement),
    ("manifest", manifest),
    ("manifest-of-another", |bytes| {
        let verify = read_key().verify_key();
        said(&ManifestReader::root(bytes, ManifestId([1; 32]), &verify))
    }),
    ("chunk", super::chunk::chunk),
    ("frames", super::nodes::frames),
    ("request", super::nodes::request),
    ("data-directory", super::disk::data_directory),
    #[cfg(feature = "trace")]
    ("trace", |bytes| {
        said(&pangea_trace::Trace::default().read(bytes, &pangea_trace::Filter::ALL))
    }),
];

/// The name of an error's variant, with its type's before it.
pub fn name<E: Debug>(error: &E) -> String {
    let of = std::any::type_name::<E>().rsplit("::").next().unwrap_or_default();
    let text = format!("{error:?}");
    let end = text.find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len());
    match &text[..end] {
        // Not an enum.
        same if same == of => of.to_owned(),
        variant => format!("{of}::{variant}"),
    }
}

pub fn said<T, E: Debug>(result: &Result<T, E>) -> Refusals {
    result.as_ref().err().map(name).into_iter().collect()
}

fn text(bytes: &[u8], read: impl Fn(&str) -> Refusals) -> Refusals {
    read(std::str::from_utf8(bytes).expect("this surface takes text"))
}

fn address(text: &str) -> Refusals {
    match text.parse::<PeerAddr>() {
        Err(refused @ AddrInvalid::Peer(..)) => {
            let AddrInvalid::Peer(_, cause) = &refused else { unreachable!() };
            vec![name(&refused), name(cause)]
        }
        other => said(&other),
    }
}

/// The file as a node and a client read it, whole.
fn config(bytes: &[u8]) -> Refusals {
    let file = tempfile::NamedTempFile::new().expect("a file can be made");
    fs::write(file.path(), bytes).expect("it can be written");
    let used = || -> Result<(), ConfigInvalid> {
        let config = Config::read(Some(file.path()))?;
        config.cores.wishes()?;
        config.node.check()?;
        config.peers_with(&[])?;
        config.put.options(Vec::new(), Compress::Yes, None).map(drop)
    };
    said(&used())
}

/// One argument to a line.
fn arguments(bytes: &[u8]) -> Refusals {
    let text = std::str::from_utf8(bytes).expect("this surface takes text");
    let arguments = std::iter::once("pangea").chain(text.lines()).map(OsString::from);
    let refused = pangea::cli::parse(arguments).err();
    refused.map(|error| name(&error.kind())).into_iter().collect()
}

fn key_file(bytes: &[u8]) -> Refusals {
    // Made for its owner only, as a key has to be.
    let file = tempfile::NamedTempFile::new().expect("a file can be made");
    fs::write(file.path(), bytes).expect("it can be written");
    said(&keyfile::load(file.path()))
}

fn message<M: Message>(body: &[u8]) -> Refusals {
    ended(parse::<M>(body).map(drop))
}

fn ended(result: Result<(), PeerSent>) -> Refusals {
    let Err(sent) = result else { return Refusals::new() };
    let cause = match &sent {
        PeerSent::Undecodable { cause, .. } => Some(name(cause)),
        PeerSent::Wrong { wrong, .. } => Some(name(wrong)),
        _ => None,
    };
    std::iter::once(name(&sent)).chain(cause).collect()
}

fn reader(bytes: &[u8]) -> FrameReader {
    let mut reader = FrameReader::new();
    reader.push(Bytes::copy_from_slice(bytes));
    reader
}

/// A whole request: protocol, message, body.
fn stream(bytes: &[u8]) -> Result<(), PeerSent> {
    let mut reader = reader(bytes);
    let Some(protocol) = reader.protocol()? else { return Err(PeerSent::EndedInside("id")) };
    let inside = Err(PeerSent::EndedInside("message"));
    match protocol {
        Protocol::Ping => reader.message::<Ping>()?.map_or(inside, |_| Ok(())),
        Protocol::Route => reader.message::<RouteRequest>()?.map_or(inside, |_| Ok(())),
        Protocol::Fetch => reader.message::<FetchRequest>()?.map_or(inside, |_| Ok(())),
        Protocol::Store => match reader.message::<StoreRequest>()? {
            None => inside,
            Some(StoreRequest::PutShard(header)) => {
                let mut body = PutBody::new(header.length_max);
                while body.next(&mut reader)?.is_some() {}
                body.next(&mut reader)?;
                body.end()
            }
            Some(StoreRequest::PutManifest(header)) => {
                blob(BlobBody::new(header.length, header.page.bytes_max())?, &mut reader)
            }
            Some(StoreRequest::PutPlacement(header)) => {
                blob(BlobBody::new(header.length, limits::PAGE_BYTES_MAX)?, &mut reader)
            }
        },
    }
}

fn blob(mut body: BlobBody, reader: &mut FrameReader) -> Result<(), PeerSent> {
    body.next(reader)?;
    body.next(reader)?;
    body.end()
}

/// The answer to somebody who wants the last group of the shard that `made::shard` makes, or a
/// page of at most 64 KiB.
fn fetch_answer(bytes: &[u8]) -> Refusals {
    let mut reader = reader(bytes);
    let mut refusal = None;
    let mut read = || -> Result<(), PeerSent> {
        match reader.message::<FetchResponse>()? {
            None => Err(PeerSent::EndedInside("answer")),
            Some(FetchResponse::Refused(refused)) => {
                refusal = Some(name(&refused));
                Ok(())
            }
            Some(FetchResponse::Stat { .. }) => Ok(()),
            Some(FetchResponse::Blob { length }) => {
                blob(BlobBody::new(length, limits::ROOT_BYTES_MAX)?, &mut reader)
            }
            Some(FetchResponse::Placement { length, .. }) => {
                blob(BlobBody::new(length, limits::PAGE_BYTES_MAX)?, &mut reader)
            }
            Some(FetchResponse::Shard(begins)) => {
                let mut body = ShardBody::new(&begins, &super::made::shard_expected())?;
                while body.next(&mut reader)?.is_some() {}
                body.next(&mut reader)?;
                body.end()
            }
        }
    };
    let refusals = ended(read());
    refusals.into_iter().chain(refusal).collect()
}

/// The answer to somebody who stored shard 9 of chunk 3.
fn store_answer(body: &[u8]) -> Refusals {
    match parse::<StoreResponse>(body) {
        Err(sent) => ended(Err(sent)),
        Ok(StoreResponse::Refused(refusal)) => store_refusal(&refusal),
        Ok(StoreResponse::BlobStored) => Refusals::new(),
        Ok(StoreResponse::Stored(receipt)) => {
            let good = samples::receipt();
            let expected = ReceiptExpected {
                holder: good.holder,
                owner: owner(),
                key: good.key(),
                root: good.root,
                length: good.length,
                lease_seconds: LEASE_SECONDS,
            };
            said(&receipt.verify_answer(&expected))
        }
    }
}

pub fn store_refusal(refusal: &StoreRefusal) -> Refusals {
    let mut names = vec![name(refusal)];
    if let StoreRefusal::BadGrant(cause) = refusal {
        names.push(name(cause));
        if let AuthRefused::Grant(cause) = cause {
            names.push(name(cause));
        }
    }
    names
}

/// The answer to identity 2, who asked identity 1 for a grant.
fn route_answer(body: &[u8]) -> Refusals {
    let answer = match parse::<RouteResponse>(body) {
        Err(sent) => return ended(Err(sent)),
        Ok(answer) => answer,
    };
    let (holder, origin) = (identity(1).peer(), owner());
    let grants = answer.grants.iter().map(|grant| grant.verify_signed(holder, origin, locator()));
    let grants = grants.flat_map(|verified| said(&verified));
    grants.chain(answer.refusal.iter().flat_map(store_refusal)).collect()
}

/// A receipt on its way into a placement, by somebody who knows the manifest.
fn receipt(bytes: &[u8]) -> Refusals {
    let receipt = postcard::from_bytes(bytes).expect("it is a receipt");
    let entry = ChunkEntry::try_from(samples::chunk_parts(10, 4, 1 << 20)).expect("it can be");
    let added = Placement::new(locator()).add(receipt, Some(&entry));
    let cause = match &added {
        Err(PlacementRefused::Receipt(cause)) => Some(name(cause)),
        Err(PlacementRefused::Wrong(cause)) => Some(name(cause)),
        _ => None,
    };
    said(&added).into_iter().chain(cause).collect()
}

fn placement(bytes: &[u8]) -> Refusals {
    let page = PlacementPage::parse(bytes, locator(), owner());
    let cause = match &page {
        Err(PlacementInvalid::Undecodable(cause)) => Some(name(cause)),
        Err(PlacementInvalid::Wrong(cause)) => Some(name(cause)),
        _ => None,
    };
    said(&page).into_iter().chain(cause).collect()
}

/// A manifest: each page has its length before it, the root first, the others as they are wanted.
fn manifest(bytes: &[u8]) -> Refusals {
    let mut pages = Vec::new();
    let mut rest = bytes;
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let (page, later) = behind.split_at(length.min(behind.len()));
        pages.push(page);
        rest = later;
    }
    let mut pages = pages.into_iter();
    let root = pages.next().unwrap_or_default();
    let mut read = || -> Result<(), ManifestInvalid> {
        let id = ManifestId(Hash::of(root).0);
        let reader = ManifestReader::root(root, id, &read_key().verify_key())?;
        reader.label(&read_key())?;
        let mut walk = ManifestWalk::new(reader);
        loop {
            match walk.step() {
                Step::Chunks { .. } => {}
                Step::Fetch(_) => walk.add(pages.next().unwrap_or_default())?,
                Step::Done => return Ok(()),
            }
        }
    };
    let result = read();
    let cause = match &result {
        Err(ManifestInvalid::Undecodable(cause)) => Some(name(cause)),
        Err(ManifestInvalid::Chunk { wrong, .. }) => Some(name(wrong)),
        Err(ManifestInvalid::Label(cause)) => Some(name(cause)),
        _ => None,
    };
    said(&result).into_iter().chain(cause).collect()
}

/// Shard 9 of chunk 3, which a node in these tests holds.
pub fn held_key() -> pangea_base::ShardKey {
    key(3, 9)
}
