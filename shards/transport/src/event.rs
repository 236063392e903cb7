use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use pangea_base::PeerId;

use crate::conn::{ALERT_CERTIFICATE_EXPIRED, ALERT_CERTIFICATE_UNKNOWN};

/// Names one connection of one [`crate::Transport`]. A place is used again for later connections,
/// but never with the same generation, so a name outlives its connection without harm.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "conn {}.{}", self.index, self.generation)
    }
}

/// Names one bidirectional stream of a connection (RFC 9000 section 2.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(crate) quinn_proto::StreamId);

impl StreamId {
    /// The number on the wire.
    pub fn number(self) -> u64 {
        self.0.into()
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {}", self.number())
    }
}

/// Who began a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// We did.
    Dialled,
    /// The peer did.
    Accepted,
}

/// What [`crate::Transport::poll`] reports. Edges are complete: after `Readable` (and
/// `StreamOpened`) read until `Blocked`; after a write that took nothing wait for `Writable`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The handshake is done and the peer has proved who it is.
    Connected {
        /// The connection.
        conn: ConnId,
        /// The key that the peer proved to own.
        peer: PeerId,
        /// Its address.
        remote: SocketAddr,
        /// Who began.
        side: Side,
    },
    /// The connection is gone: exactly once for every dialled connection and for every accepted
    /// one, also when it never became `Connected` (then `peer` is `None`).
    Closed {
        /// The connection; no later event names it.
        conn: ConnId,
        /// The peer, when it had proved who it is.
        peer: Option<PeerId>,
        /// Why.
        reason: ClosedReason,
    },
    /// Someone's first packet was already wrong (another application protocol, no TLS), so there
    /// never was a connection. For counting and for the log.
    Rejected {
        /// Who, as claimed.
        remote: SocketAddr,
        /// What was wrong.
        reason: ClosedReason,
    },
    /// The peer opened a stream; `Readable` follows.
    StreamOpened {
        /// The connection.
        conn: ConnId,
        /// The new stream.
        stream: StreamId,
    },
    /// Data, the end or a reset can be read.
    Readable {
        /// The connection.
        conn: ConnId,
        /// The stream.
        stream: StreamId,
    },
    /// A write that was blocked may go on.
    Writable {
        /// The connection.
        conn: ConnId,
        /// The stream.
        stream: StreamId,
    },
    /// The peer wants no more of this stream; what was written may never have arrived.
    Stopped {
        /// The connection.
        conn: ConnId,
        /// The stream.
        stream: StreamId,
        /// The peer's reason.
        code: u32,
    },
    /// Everything written to this stream, and its end, was acknowledged.
    Finished {
        /// The connection.
        conn: ConnId,
        /// The stream.
        stream: StreamId,
    },
    /// Messages came: take them with [`crate::Transport::message`] until there is none.
    Message {
        /// The connection.
        conn: ConnId,
    },
    /// [`crate::Transport::open`] may succeed again.
    StreamsAvailable {
        /// The connection.
        conn: ConnId,
    },
}

/// Why a connection is gone. The texts tell a person what happened.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ClosedReason {
    /// We closed it.
    #[error("we closed the connection (code {code})")]
    Local {
        /// The code that was given to `close`.
        code: u32,
    },
    /// The peer closed it on purpose.
    #[error("the peer closed the connection (code {code}): {reason}")]
    Peer {
        /// The peer's code.
        code: u64,
        /// The peer's words, shortened and cleaned for display.
        reason: String,
    },
    /// The node at this address is not the one that was dialled.
    #[error("dialled {expected} but the node at this address is {found}; is the address old?")]
    WrongPeer {
        /// Who was dialled.
        expected: PeerId,
        /// Who answered, with proof.
        found: PeerId,
    },
    /// The peer dialled another identity at our address.
    #[error("the peer was looking for a node with another identity at our address")]
    PeerWantedAnother,
    /// The certificate proves no Ed25519 identity.
    #[error("the peer did not prove an identity: {0}")]
    NoIdentity(String),
    /// The peer did not accept our certificate.
    #[error("the peer did not accept our identity (TLS alert {alert}){}", clock_hint(*alert))]
    IdentityRefused {
        /// The alert (RFC 8446 section 6.2).
        alert: u8,
    },
    /// The two sides speak no common application protocol or QUIC version.
    #[error(
        "the other side does not speak our protocol ({0}); is it a pangea node, and which version?"
    )]
    NoCommonProtocol(&'static str),
    /// The peer takes no connection now.
    #[error("the peer takes no more connections now; try again later")]
    Refused,
    /// The handshake did not end in time.
    #[error(
        "no connection after {} s: nobody answers at this address, or UDP is blocked",
        .0.as_secs()
    )]
    HandshakeTimedOut(Duration),
    /// Nothing was heard for the idle timeout.
    #[error("nothing was heard from the peer for {} s", .0.as_secs())]
    IdleTimedOut(Duration),
    /// The peer no longer knows the connection.
    #[error("the peer lost the connection, probably because it restarted")]
    Reset,
    /// The peer broke the protocol and we closed.
    #[error("the peer broke the protocol: {0}")]
    PeerBrokeProtocol(String),
    /// The peer says that we broke the protocol.
    #[error("the peer says that we broke the protocol (code {code:#x}): {reason}")]
    PeerObjects {
        /// Transport error code (RFC 9000 section 20.1).
        code: u64,
        /// The peer's words, shortened and cleaned for display.
        reason: String,
    },
}

/// What a clock may have to do with an alert. Our certificate is for the days from 1975 to 4096, so
/// who refuses it for the day has a clock that is wrong.
fn clock_hint(alert: u8) -> &'static str {
    match alert {
        ALERT_CERTIFICATE_EXPIRED => ": it checks the certificate's day, and its clock is wrong",
        ALERT_CERTIFICATE_UNKNOWN => {
            "; a libp2p program says so too when its clock shows a time before 1975"
        }
        _ => "",
    }
}

/// The connection has ended, or never was. Its `Closed` event says why.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the connection is closed")]
pub struct ConnGone;

/// Why a connection was not begun.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConnectRefused {
    /// This core's limit on connections is reached.
    #[error("this core already has {limit} connections; close some first")]
    TooMany {
        /// `Limits::connections_max`.
        limit: u32,
    },
    /// Port 0 or an unspecified address.
    #[error("{0} cannot be dialled: it needs a real IP address and a port other than 0")]
    Undialable(SocketAddr),
    /// Something that this configuration makes impossible; a bug if it is ever seen.
    #[error("the connection could not be started: {0}")]
    Internal(String),
}

/// Why nothing was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WriteFailed {
    /// The connection has ended.
    #[error("the connection is closed")]
    Gone,
    /// The peer asked us to stop.
    #[error("the peer wants no more of this stream (code {0})")]
    Stopped(u32),
    /// The stream was finished, reset, or never opened.
    #[error("the stream is already closed")]
    Closed,
}

/// Why a message was not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SendRefused {
    /// The connection has ended or is not established yet.
    #[error("the connection is closed")]
    Gone,
    /// One of the two sides takes no messages.
    #[error("messages are not taken on this connection")]
    NotTaken,
    /// It does not fit into a datagram of this path.
    #[error("a message of {length} bytes does not fit into one datagram")]
    TooLong {
        /// Its bytes.
        length: usize,
    },
}

/// What a read gave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadOutcome {
    /// The next bytes in order; never empty.
    Data(Bytes),
    /// Nothing now; `Readable` follows.
    Blocked,
    /// The stream's end: everything was read. The stream is closed for reading.
    Finished,
}

/// Why nothing was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReadFailed {
    /// The connection has ended.
    #[error("the connection is closed")]
    Gone,
    /// The peer gave the stream up.
    #[error("the peer gave the stream up (code {0})")]
    Reset(u32),
    /// The stream was read to its end, stopped, or never opened.
    #[error("the stream is already closed")]
    Closed,
}
