use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec;
use crate::limits::FRAME_BYTES_MAX;
use crate::{PeerSent, Wrong};

/// Storing: one shard, one manifest page or one placement page per stream.
pub const PROTOCOL_STORE: &str = "/pangea/store/1.0.0";
/// Finding holders and gathering their grants.
pub const PROTOCOL_ROUTE: &str = "/pangea/route/1.0.0";
/// Fetching.
pub const PROTOCOL_FETCH: &str = "/pangea/fetch/1.0.0";
/// Is anybody there, and how full.
pub const PROTOCOL_PING: &str = "/pangea/ping/1.0.0";

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

    /// The protocol of an id, if this node speaks it.
    pub fn from_id(id: &[u8]) -> Option<Protocol> {
        Protocol::ALL.into_iter().find(|protocol| protocol.id().as_bytes() == id)
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
    /// Longest body.
    const BYTES_MAX: usize;
    /// Whether all of it can be. Run by [`parse`] on what peers sent (a refusal) and by [`frame`]
    /// on what we send (a bug).
    fn check(&self) -> Result<(), Wrong>;
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
    let mut out = BytesMut::with_capacity(body.len().saturating_add(4));
    out.put_u32_le(u32::try_from(body.len()).expect("frames are short"));
    out.put_slice(&body);
    out.freeze()
}

/// The message in the body of a frame.
pub fn parse<M: Message>(body: &[u8]) -> Result<M, PeerSent> {
    if body.len() > M::BYTES_MAX {
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        return Err(PeerSent::FrameTooLong { what: M::NAME, length, limit: M::BYTES_MAX });
    }
    let message: M =
        codec::decode(body).map_err(|cause| PeerSent::Undecodable { what: M::NAME, cause })?;
    message.check().map_err(|wrong| PeerSent::Wrong { what: M::NAME, wrong })?;
    Ok(message)
}
