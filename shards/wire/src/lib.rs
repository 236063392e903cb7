//! What goes over the wire and into a link: messages, frames, grants, receipts, manifest,
//! placement. `format.md` beside this folder gives every form to the byte.
//!
//! Bytes from outside are parsed once, with limits, into values that no later code has to check
//! again. Nothing here reads a clock, entropy or a file: they are arguments.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

mod body;
mod chunk;
mod codec;
mod fetch;
mod frame;
mod grant;
mod label;
pub mod limits;
mod link;
mod manifest;
mod peer_sent;
mod placement;
mod reader;
mod receipt;
mod route;
mod store;

pub use body::{
    BlobBody, PutBody, PutPart, ShardBody, ShardExpected, UNITS_END, table_bytes, unit_header,
};
pub use chunk::{ChunkEntry, ChunkParts, ChunkWrong, shard_bytes};
pub use codec::Undecodable;
pub use fetch::{FetchRefusal, FetchRequest, FetchResponse, ShardBegins, ShardHeld};
pub use frame::{Message, PROTOCOL_FETCH, PROTOCOL_PING, PROTOCOL_ROUTE, PROTOCOL_STORE, Protocol};
pub use frame::{frame, parse, preamble};
pub use grant::{
    AUTH_EXPORTER_BYTES, AUTH_EXPORTER_LABEL, AuthChallenge, AuthRefused, Channel, Grant,
    GrantRefused,
};
pub use label::{Label, LabelRefused, escaped};
pub use link::{Link, LinkInvalid, LinkKey};
pub use manifest::{
    Contents, ManifestInvalid, ManifestReader, ManifestWalk, ManifestWriter, Object, PageRef,
    SealFailed, SealedManifest, SealedPage, Step, seal_manifest,
};
pub use peer_sent::{PeerSent, Wrong};
pub use placement::{Added, Placement, PlacementInvalid, PlacementPage, PlacementRefused};
pub use reader::FrameReader;
pub use receipt::{Receipt, ReceiptExpected, ReceiptRefused};
pub use route::{Ping, Pong, RouteRequest, RouteResponse, is_dialable};
pub use store::{
    ManifestHeader, ManifestPage, PlacementHeader, ShardHeader, StoreRefusal, StoreRequest,
    StoreResponse, StoreTrailer, Whose,
};
