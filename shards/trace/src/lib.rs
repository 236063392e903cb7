//! The flight recorder: what one request did, across connections, cores and nodes.
//!
//! Every core writes events of 128 bytes into a ring of its own; readers take them out without
//! disturbing it, and exporters turn them into pictures. Without the feature `trace` none of it is
//! in the program: the types have no size, the macros make no code, and only the names are left, so
//! that traced code is checked by the compiler in every build.
//!
//! ```
//! use pangea_trace::{SpanKind, Tracer, Outcome, trace_event};
//!
//! fn encode(tracer: &Tracer) {
//!     let put = tracer.begin_trace(SpanKind::Put, 1);
//!     trace_event!(tracer, &put, SegmentSealed { chunk: 0, plain: 131_072, done: 131_072 });
//!     tracer.end(&put, SpanKind::Put, Outcome::Done, 131_072);
//! }
//! encode(&Tracer::none());
//! ```
//!
//! What is recorded: [`Kind`]. How it is kept in files and goes over the wire: `format.md`.

#![deny(unsafe_code)]

/// Whether this program records.
pub const ENABLED: bool = cfg!(feature = "trace");

mod app;
mod carry;
mod context;
mod event;
mod events;
mod field;
mod macros;

#[cfg(feature = "trace")]
mod clock;
#[cfg(feature = "trace")]
pub mod export;
#[cfg(feature = "trace-index")]
mod index;
#[cfg(feature = "trace")]
mod log;
#[cfg(feature = "trace")]
mod query;
#[cfg(feature = "trace")]
mod reader;
#[cfg(feature = "trace")]
mod ring;
#[cfg(feature = "trace")]
mod stream;
#[cfg(feature = "trace")]
mod sync;
#[cfg(feature = "trace")]
mod tracer;

#[cfg(not(feature = "trace"))]
mod off;

pub use app::{
    APP_DATA_BYTES, AppData, AppProtocol, AppRegistry, Command, DynApp, Redaction, app_data,
};
pub use carry::{ConnTrace, Hop, Inflight, LABEL_BYTES, Label, Train};
pub use context::{Outcome, SpanKind, TraceContext, TraceFlags, TraceId, TraceIdInvalid};
pub use event::{EVENT_BYTES, EVENT_WORDS, Event, flags};
pub use events::{Class, EventData, Kind, words};
pub use field::{Field, PAYLOAD_BYTES, Payload, PayloadWords, Value};

#[cfg(feature = "trace")]
pub use clock::Clock;
#[cfg(feature = "trace-index")]
pub use index::{BLOOM_BITS, TraceIndex};
#[cfg(feature = "trace")]
pub use log::{EventLog, LogConfig, Sampling, TraceConfig};
#[cfg(feature = "trace")]
pub use query::{ConnectionIssues, TraceQuery, drop_unsampled};
#[cfg(feature = "trace")]
pub use reader::Reader;
#[cfg(feature = "trace")]
pub use stream::{
    EVENTS_MAX, Filter, Item, NODES_MAX, NodeInfo, StreamInvalid, StreamReader, StreamWriter, Trace,
};
#[cfg(feature = "trace")]
pub use tracer::Tracer;

#[cfg(not(feature = "trace"))]
pub use off::{EventLog, Tracer};

#[cfg(all(test, loom, feature = "trace"))]
mod model;
#[cfg(all(test, not(loom), feature = "trace"))]
mod schedules;
#[cfg(all(test, not(loom)))]
mod tests;

/// The guide's examples, as tests.
#[cfg(doctest)]
#[doc = include_str!("../guide.md")]
pub struct Guide;
