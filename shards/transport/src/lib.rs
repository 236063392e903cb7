//! QUIC as a sans-IO machine: one [`Transport`] per core over quinn-proto.
//!
//! It reads no clock, no entropy, no socket: datagrams, time and seeds are arguments, and what it
//! wants sent is asked of it with [`Transport::transmit`]. One wake of a core is: every received
//! batch to [`Transport::datagrams`], one [`Transport::tick`], [`Transport::poll`] until `None`
//! (reading and writing streams meanwhile), [`Transport::transmit`] until `None`, and then sleep
//! until [`Transport::deadline`].
//!
//! Nothing scans all connections: connections with something to say stand in two queues (events,
//! packets), the others are found by their deadline.

#![forbid(unsafe_code)]

mod admission;
mod batch;
mod certificate;
mod cid;
mod config;
mod congestion;
mod conn;
mod crypto;
mod event;
mod messages;
mod receive;
mod report;
mod streams;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod timers;
mod tls;
mod traced;
mod transport;
mod window;

pub use cid::{CID_BYTES, owner};
pub use config::{ALPN, ALPN_LABELLED, Config, Congestion, Limits, TRAIN_BYTES_MAX};
pub use conn::{ConnStats, KeepAlive};
pub use crypto::{Crypto, Dial, Found};
pub use event::{
    ClosedReason, ConnGone, ConnId, ConnectRefused, Event, ReadFailed, ReadOutcome, SendRefused,
    Side, StreamId, WriteFailed,
};
pub use tls::{TlsCrypto, TlsFailed};
pub use transport::{Stats, TransmitMeta, Transport};
