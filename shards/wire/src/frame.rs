use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec;
use crate::limits::FRAME_BYTES_MAX;
use crate::{PeerSent, Wrong};

/// Storing: one shard, one manifest page or one placement page per stream.
pub const PROTOCOL_STORE: &str = "/pangea/store/2.0.0";
/// Finding holders and gathering their grants.
pub const PROTOCOL_ROUTE: &str = "/pangea/route/2.0.0";
/// Fetching.
pub const PROTOCOL_FETCH: &str = "/pangea/fetch/2.0.0";
/// Is anybody there, and how full.
pub const PROTOCOL_PING: &str = "/pangea/ping/2.0.0";

/// The major version of all protocols that this program speaks.
pub const VERSION: u16 = 2;

/// What a stream is for, named by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// [`PROTOCOL_STORE`].
    Store,
    /// [`PROTOCOL_ROUTE`].
    Route,
    /// [`PROTOCOL_FETCH`].
    Fetch,
    /// [`PROTOCOL_PING`].
    Ping,
}

impl Protocol {
    /// All that this node speaks.
    pub const ALL: [Protocol; 4] =
        [Protocol::Store, Protocol::Route, Protocol::Fetch, Protocol::Ping];

    /// The id as it is on the wire.
    pub const fn id(self) -> &'static str {
        match self {
            Protocol::Store => PROTOCOL_STORE,
            Protocol::Route => PROTOCOL_ROUTE,
            Protocol::Fetch => PROTOCOL_FETCH,
            Protocol::Ping => PROTOCOL_PING,
        }
    }

    /// The id without its version.
    pub const fn family(self) -> &'static str {
        match self {
            Protocol::Store => "/pangea/store",
            Protocol::Route => "/pangea/route",
            Protocol::Fetch => "/pangea/fetch",
            Protocol::Ping => "/pangea/ping",
        }
    }

    /// The version of it that this node speaks.
    pub const fn version(self) -> ProtocolVersion {
        ProtocolVersion { major: 2, minor: 0, patch: 0 }
    }

    /// The protocol of an id, if this node speaks it.
    pub fn from_id(id: &[u8]) -> Option<Protocol> {
        Protocol::ALL.into_iter().find(|protocol| protocol.id().as_bytes() == id)
    }

    /// The protocol and version of an id in any version of ours.
    pub(crate) fn any_version(id: &[u8]) -> Option<(Protocol, ProtocolVersion)> {
        let text = std::str::from_utf8(id).ok()?;
        Protocol::ALL.into_iter().find_map(|protocol| {
            let version = text.strip_prefix(protocol.family())?.strip_prefix('/')?;
            Some((protocol, ProtocolVersion::read(version)?))
        })
    }
}

/// The version of a protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolVersion {
    /// Another one is another language.
    pub major: u8,
    /// The same language with more in it.
    pub minor: u8,
    /// The same language.
    pub patch: u8,
}

impl ProtocolVersion {
    /// Three numbers with dots between them, each in its shortest form.
    fn read(text: &str) -> Option<ProtocolVersion> {
        let mut numbers = text.split('.').map(|number| {
            let plain = number.bytes().all(|byte| byte.is_ascii_digit());
            let shortest = number == "0" || !number.starts_with('0');
            number.parse::<u8>().ok().filter(|_| plain && shortest)
        });
        let mut next = || numbers.next().flatten();
        let version = ProtocolVersion { major: next()?, minor: next()?, patch: next()? };
        numbers.next().is_none().then_some(version)
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProtocolVersion { major, minor: 0, patch: 0 } => write!(f, "{major}"),
            ProtocolVersion { major, minor, patch } => write!(f, "{major}.{minor}.{patch}"),
        }
    }
}

/// Begins the answer to who asked in another version; no message begins so. Outside of all
/// versions: never to be changed.
const OTHER_VERSION: [u8; 8] = *b"\xffversion";

/// The whole answer to a stream whose protocol is another version of `protocol`
/// ([`PeerSent::OtherVersion`]): whoever asked reads the version out of it that is spoken here.
pub fn other_version(protocol: Protocol) -> Bytes {
    let ProtocolVersion { major, minor, patch } = protocol.version();
    let body = [&OTHER_VERSION[..], &[major, minor, patch]].concat();
    in_frame(&body)
}

/// The version that the other side says it speaks instead of answering.
fn said_version(body: &[u8]) -> Option<ProtocolVersion> {
    match body.strip_prefix(&OTHER_VERSION)? {
        &[major, minor, patch] => Some(ProtocolVersion { major, minor, patch }),
        _ => None,
    }
}

/// The first bytes of a stream: one byte length, then the protocol's id.
pub fn preamble(protocol: Protocol) -> Bytes {
    let id = protocol.id();
    let mut out = BytesMut::with_capacity(id.len().saturating_add(1));
    out.put_u8(u8::try_from(id.len()).expect("ids are short"));
    out.put_slice(id.as_bytes());
    out.freeze()
}

/// A message that travels in a frame of its own.
pub trait Message: Serialize + DeserializeOwned {
    /// What people call it, for errors.
    const NAME: &'static str;
    /// Of which protocol it is.
    const PROTOCOL: Protocol;
    /// Longest body.
    const BYTES_MAX: usize;
    /// Whether all of it can be. Run by [`parse`] on what peers sent (a refusal) and by [`frame`]
    /// on what we send (a bug).
    fn check(&self) -> Result<(), Wrong>;
    /// What in a body that cannot be read, or cannot be, is of another version than this program
    /// knows, as far as the body shows it: then that is what is wrong with it.
    fn other_version(_body: &[u8]) -> Option<Wrong> {
        None
    }
}

/// A message as it goes out: `u32` little-endian length, then the body. Panics on a message that
/// breaks its own limits, which is a bug of ours.
pub fn frame<M: Message>(message: &M) -> Bytes {
    if let Err(wrong) = message.check() {
        panic!("we made a {} that cannot be: {wrong}", M::NAME);
    }
    let body = codec::encode(message);
    assert!(
        body.len() <= M::BYTES_MAX && body.len() <= FRAME_BYTES_MAX,
        "we made a {} of {} bytes",
        M::NAME,
        body.len()
    );
    in_frame(&body)
}

fn in_frame(body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(body.len().saturating_add(4));
    out.put_u32_le(u32::try_from(body.len()).expect("frames are short"));
    out.put_slice(body);
    out.freeze()
}

/// The message in the body of a frame.
pub fn parse<M: Message>(body: &[u8]) -> Result<M, PeerSent> {
    if body.len() > M::BYTES_MAX {
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        return Err(PeerSent::FrameTooLong { what: M::NAME, length, limit: M::BYTES_MAX });
    }
    if let Some(theirs) = said_version(body) {
        return Err(PeerSent::OtherVersion { protocol: M::PROTOCOL, theirs });
    }
    let what = M::NAME;
    let read = codec::decode(body).map_err(|cause| PeerSent::Undecodable { what, cause });
    let checked = read.and_then(|message: M| match message.check() {
        Ok(()) => Ok(message),
        Err(wrong) => Err(PeerSent::Wrong { what, wrong }),
    });
    checked.map_err(|sent| match M::other_version(body) {
        Some(wrong) => PeerSent::Wrong { what, wrong },
        None => sent,
    })
}
