use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pangea_base::PeerId;
use pangea_trace::ConnTrace;
use quinn_proto::{Connection, ConnectionError, TransportErrorCode};

use crate::admission::Seat;
use crate::window::{ReceiveWindow, SendWindow};
use crate::{ClosedReason, Found, Limits, Side};

/// Whether a quiet connection is kept from idling out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeepAlive {
    /// It ends after the idle timeout.
    Off,
    /// A ping after so long; choose a third of the idle timeout.
    Every(Duration),
}

/// Numbers of one connection, for tables and for choosing who is slow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnStats {
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Largest datagram that the path is known to carry, bytes of UDP payload.
    pub mtu: u16,
    /// Congestion window, bytes.
    pub congestion_window: u64,
    /// Receive window, bytes.
    pub receive_window: u64,
    /// Send window, bytes.
    pub send_window: u64,
    /// Whether both sides know that the handshake is over (RFC 9001, 4.1.2).
    pub confirmed: bool,
    /// Datagrams and bytes sent, with all headers of QUIC.
    pub sent: (u64, u64),
    /// Datagrams and bytes received, with all headers of QUIC.
    pub received: (u64, u64),
    /// Packets declared lost.
    pub lost_packets: u64,
    /// Times that a path stopped carrying large datagrams.
    pub black_holes: u64,
}

/// One connection and what the transport knows of it beyond quinn-proto.
pub(crate) struct Conn {
    pub(crate) proto: Connection,
    pub(crate) side: Side,
    pub(crate) expected: Option<PeerId>,
    pub(crate) found: Found,
    pub(crate) peer: Option<PeerId>,
    pub(crate) phase: Phase,
    pub(crate) seat: Option<Seat>,
    pub(crate) handshake_deadline: Option<Instant>,
    pub(crate) keep_alive: Option<(Duration, Instant)>,
    pub(crate) receive: ReceiveWindow,
    pub(crate) send: SendWindow,
    /// A write found no room, so a larger send window may help.
    pub(crate) write_blocked: bool,
    pub(crate) streams_allowed: u32,
    /// What stands in the timer queue for this connection.
    pub(crate) registered: Option<Instant>,
    /// Whether it stands in the queue of connections with events.
    pub(crate) has_events: bool,
    /// Whether it stands in the queue of connections with packets.
    pub(crate) has_packets: bool,
    /// Streams with a `Readable` event that was not yet taken: no second one is queued. At most
    /// as many as there are streams.
    pub(crate) readable: Vec<quinn_proto::StreamId>,
    pub(crate) trace: ConnTrace,
}

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Handshaking,
    Established,
    /// `Closed` was reported; quinn-proto still absorbs late packets.
    Closed,
}

impl Conn {
    pub(crate) fn new(
        proto: Connection,
        side: Side,
        expected: Option<PeerId>,
        found: Found,
        limits: &Limits,
        now: Instant,
    ) -> Conn {
        Conn {
            proto,
            side,
            expected,
            found,
            peer: None,
            phase: Phase::Handshaking,
            seat: None,
            handshake_deadline: Some(now + limits.handshake_timeout),
            keep_alive: None,
            receive: ReceiveWindow::new(limits.receive_window_start.into(), now),
            send: SendWindow::new(limits.send_window_start.into()),
            write_blocked: false,
            streams_allowed: limits.streams_start,
            registered: None,
            has_events: false,
            has_packets: false,
            readable: Vec::new(),
            trace: ConnTrace::default(),
        }
    }

    /// When this connection wants `tick`.
    pub(crate) fn deadline(&mut self) -> Option<Instant> {
        let own = match self.phase {
            Phase::Handshaking => self.handshake_deadline,
            Phase::Established => {
                let ping = self.keep_alive.map(|(_, at)| at);
                [ping, self.receive.deadline()].into_iter().flatten().min()
            }
            Phase::Closed => None,
        };
        [own, self.proto.poll_timeout()].into_iter().flatten().min()
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        self.proto.remote_address()
    }

    pub(crate) fn stats(&self) -> ConnStats {
        let stats = self.proto.stats();
        ConnStats {
            rtt: stats.path.rtt,
            mtu: stats.path.current_mtu,
            congestion_window: stats.path.cwnd,
            receive_window: self.receive.bytes(),
            send_window: self.send.bytes(),
            confirmed: match self.side {
                Side::Dialled => stats.frame_rx.handshake_done > 0,
                Side::Accepted => self.phase != Phase::Handshaking,
            },
            sent: (stats.udp_tx.datagrams, stats.udp_tx.bytes),
            received: (stats.udp_rx.datagrams, stats.udp_rx.bytes),
            lost_packets: stats.path.lost_packets,
            black_holes: stats.path.black_holes_detected,
        }
    }

    /// What a loss means, in our words.
    pub(crate) fn why(&self, error: ConnectionError, limits: &Limits) -> ClosedReason {
        match (&error, self.phase, self.expected, self.found.get()) {
            (ConnectionError::TimedOut, Phase::Handshaking, ..) => {
                ClosedReason::HandshakeTimedOut(limits.handshake_timeout)
            }
            (ConnectionError::TransportError(e), _, Some(expected), Some(found))
                if expected != found && alert(e.code).is_some() =>
            {
                ClosedReason::WrongPeer { expected, found }
            }
            _ => why(error, limits),
        }
    }
}

/// What a loss means, whatever the connection.
pub(crate) fn why(error: ConnectionError, limits: &Limits) -> ClosedReason {
    match error {
        ConnectionError::VersionMismatch => ClosedReason::NoCommonProtocol("QUIC version"),
        ConnectionError::TransportError(e) => match alert(e.code) {
            Some(ALERT_NO_APPLICATION_PROTOCOL) => {
                ClosedReason::NoCommonProtocol("application protocol")
            }
            Some(_) => ClosedReason::NoIdentity(clean(e.reason.as_bytes())),
            None => ClosedReason::PeerBrokeProtocol(clean(e.to_string().as_bytes())),
        },
        ConnectionError::ConnectionClosed(close) => match alert(close.error_code) {
            Some(ALERT_NO_APPLICATION_PROTOCOL) => {
                ClosedReason::NoCommonProtocol("application protocol")
            }
            Some(ALERT_ACCESS_DENIED) => ClosedReason::PeerWantedAnother,
            Some(alert) => ClosedReason::IdentityRefused { alert },
            None if close.error_code == TransportErrorCode::CONNECTION_REFUSED => {
                ClosedReason::Refused
            }
            None => ClosedReason::PeerObjects {
                code: close.error_code.into(),
                reason: clean(&close.reason),
            },
        },
        ConnectionError::ApplicationClosed(close) => {
            ClosedReason::Peer { code: close.error_code.into_inner(), reason: clean(&close.reason) }
        }
        ConnectionError::Reset => ClosedReason::Reset,
        ConnectionError::TimedOut => ClosedReason::IdleTimedOut(limits.idle_timeout),
        ConnectionError::LocallyClosed | ConnectionError::CidsExhausted => {
            ClosedReason::Local { code: 0 }
        }
    }
}

/// TLS alerts (RFC 8446 section 6) that we give a meaning of our own.
pub(crate) const ALERT_CERTIFICATE_EXPIRED: u8 = 45;
pub(crate) const ALERT_CERTIFICATE_UNKNOWN: u8 = 46;
pub(crate) const ALERT_ACCESS_DENIED: u8 = 49;
pub(crate) const ALERT_NO_APPLICATION_PROTOCOL: u8 = 120;

/// The TLS alert in a QUIC error code (RFC 9001 section 4.8).
fn alert(code: TransportErrorCode) -> Option<u8> {
    let code = u64::from(code);
    u8::try_from(code.checked_sub(0x100)?).ok()
}

/// The most characters of a peer's words that we repeat.
const WORDS_MAX: usize = 200;

/// A peer's words, safe to print: shortened, without control characters.
fn clean(words: &[u8]) -> String {
    let text = String::from_utf8_lossy(words);
    text.chars().take(WORDS_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_words_are_shortened_and_cannot_move_the_cursor() {
        assert_eq!(clean(b"a\x1b[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
        assert_eq!(clean(&[b'x'; 5000]).len(), WORDS_MAX);
        assert_eq!(clean(&[0xff, b'y']), "\u{fffd}y");
    }

    #[test]
    fn who_refuses_us_for_the_day_is_said_to_have_a_wrong_clock() {
        let said = |alert| ClosedReason::IdentityRefused { alert }.to_string();
        assert!(said(45).ends_with(
            "(TLS alert 45): it checks the certificate's day, and its clock \
                                    is wrong"
        ));
        assert!(said(46).contains("clock shows a time before 1975"), "{}", said(46));
        assert!(said(42).ends_with("(TLS alert 42)"));
    }

    #[test]
    fn alerts_are_told_from_other_codes() {
        assert_eq!(alert(TransportErrorCode::crypto(49)), Some(49));
        assert_eq!(alert(TransportErrorCode::CONNECTION_REFUSED), None);
    }
}
