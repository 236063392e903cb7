//! Events out: what quinn-proto has to say about a connection, in our words.

use bytes::Bytes;
use quinn_proto::{ConnectionHandle, Dir, StreamEvent, VarInt};

use crate::conn::Phase;
use crate::transport::window;
use crate::window::Rtt;
use crate::{ClosedReason, Event, StreamId, Transport};

impl Transport {
    /// The next thing that happened, oldest first.
    pub fn poll(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                if let Event::Readable { conn, stream } = event
                    && let Some(open) = self.conn_mut(conn)
                    && let Some(at) = open.readable.iter().position(|id| *id == stream.0)
                {
                    open.readable.swap_remove(at);
                }
                return Some(event);
            }
            let index = self.with_events.pop_front()?;
            self.service(index);
        }
    }

    /// Takes over what quinn-proto has to say about one connection.
    fn service(&mut self, index: u32) {
        let Some(conn) = self.at_mut(index) else { return };
        conn.has_events = false;
        let limits = self.config.limits;
        self.resize(index);
        self.trace_lost(index);
        while let Some(event) = self.at_mut(index).and_then(|conn| conn.proto.poll()) {
            match event {
                quinn_proto::Event::Connected => self.connected(index),
                quinn_proto::Event::ConnectionLost { reason } => {
                    let Some(conn) = self.at_mut(index) else { return };
                    let reason = conn.why(reason, &limits);
                    self.report_closed(index, reason);
                }
                quinn_proto::Event::Stream(event) => self.stream_event(index, event),
                quinn_proto::Event::DatagramReceived => {
                    let conn = self.name(index);
                    self.events.push_back(Event::Message { conn });
                }
                // Messages are sent without waiting for room.
                quinn_proto::Event::HandshakeDataReady | quinn_proto::Event::DatagramsUnblocked => {
                }
            }
        }
        self.endpoint_events(index);
    }

    fn endpoint_events(&mut self, index: u32) {
        while let Some(conn) = self.at_mut(index) {
            let Some(event) = conn.proto.poll_endpoint_events() else { return };
            let drained = event.is_drained();
            let answer = self.endpoint.handle_event(ConnectionHandle(index as usize), event);
            if drained {
                return self.remove(index);
            }
            if let (Some(answer), Some(conn)) = (answer, self.at_mut(index)) {
                conn.proto.handle_event(answer);
                self.mark(index);
            }
        }
    }

    /// Lets the windows follow the connection's rate.
    fn resize(&mut self, index: u32) {
        let Some(now) = self.now else { return };
        let limits = self.config.limits;
        let Some(conn) = self.slots[index as usize].conn.as_mut() else { return };
        if conn.phase != Phase::Established {
            return;
        }
        let rtt = Rtt { now: conn.proto.rtt(), least: conn.proto.min_rtt() };
        let most = limits.receive_window_max.into();
        if let Some(bytes) = conn.receive.turn(now, rtt, most, &mut self.receive_credit) {
            conn.proto.set_receive_window(window(bytes));
        }
        if !std::mem::take(&mut conn.write_blocked) {
            return;
        }
        let flight = conn.proto.congestion_state().window();
        let most = limits.send_window_max.into();
        if let Some(bytes) = conn.send.turn(flight, most, &mut self.send_credit) {
            conn.proto.set_send_window(bytes);
        }
    }

    fn connected(&mut self, index: u32) {
        let Some(now) = self.now else { return };
        let Some(conn) = self.slots[index as usize].conn.as_mut() else { return };
        if conn.phase != Phase::Handshaking {
            return;
        }
        // Who dialled has checked already and left a note; parsing the certificate again is dear.
        let found = conn.found.get();
        let proved = found.or_else(|| self.crypto.peer(conn.proto.crypto_session()));
        let wrong = match (proved, conn.expected) {
            (None, _) => Some(ClosedReason::NoIdentity("no Ed25519 identity".to_owned())),
            (Some(found), Some(expected)) if found != expected => {
                Some(ClosedReason::WrongPeer { expected, found })
            }
            _ => None,
        };
        if let Some(reason) = wrong {
            conn.proto.close(now, VarInt::from_u32(0), Bytes::new());
            return self.report_closed(index, reason);
        }
        let Some(peer) = proved else { return };
        conn.phase = Phase::Established;
        conn.peer = Some(peer);
        conn.handshake_deadline = None;
        if let Some(seat) = conn.seat.as_mut() {
            self.admission.proved(seat);
        }
        let (remote, side) = (conn.remote(), conn.side);
        self.trace_established(index, &peer);
        let conn = self.name(index);
        self.events.push_back(Event::Connected { conn, peer, remote, side });
    }

    fn stream_event(&mut self, index: u32, event: StreamEvent) {
        let id = self.name(index);
        let Some(conn) = self.at_mut(index).filter(|conn| conn.phase == Phase::Established) else {
            return;
        };
        let event = match event {
            StreamEvent::Opened { dir: Dir::Bi } => return self.streams_opened(index),
            StreamEvent::Readable { id: stream } => {
                if conn.readable.contains(&stream) {
                    return;
                }
                conn.readable.push(stream);
                Event::Readable { conn: id, stream: StreamId(stream) }
            }
            StreamEvent::Writable { id: stream } => {
                Event::Writable { conn: id, stream: StreamId(stream) }
            }
            StreamEvent::Finished { id: stream } => {
                Event::Finished { conn: id, stream: StreamId(stream) }
            }
            StreamEvent::Stopped { id: stream, error_code } => {
                Event::Stopped { conn: id, stream: StreamId(stream), code: code(error_code) }
            }
            StreamEvent::Available { dir: Dir::Bi } => Event::StreamsAvailable { conn: id },
            // Unidirectional streams are not offered and not used.
            StreamEvent::Opened { dir: Dir::Uni } | StreamEvent::Available { dir: Dir::Uni } => {
                return;
            }
        };
        self.events.push_back(event);
    }

    fn streams_opened(&mut self, index: u32) {
        let id = self.name(index);
        let most = self.config.limits.streams_max;
        while let Some(conn) = self.at_mut(index)
            && let Some(stream) = conn.proto.streams().accept(Dir::Bi)
        {
            conn.readable.push(stream);
            let stream = StreamId(stream);
            self.trace_opened(id, stream);
            self.events.push_back(Event::StreamOpened { conn: id, stream });
            self.events.push_back(Event::Readable { conn: id, stream });
        }
        let Some(conn) = self.at_mut(index) else { return };
        // quinn-proto makes table entries for every stream that may come, so there are few at
        // first.
        let used = conn.proto.streams().remote_open_streams(Dir::Bi);
        if used * 2 >= u64::from(conn.streams_allowed) && conn.streams_allowed < most {
            conn.streams_allowed = conn.streams_allowed.saturating_mul(2).min(most);
            let allowed = VarInt::from_u32(conn.streams_allowed);
            conn.proto.set_max_concurrent_streams(Dir::Bi, allowed);
            self.mark(index);
        }
    }
}

/// A peer's code in 32 bits; larger ones mean nothing to us.
pub(crate) fn code(code: VarInt) -> u32 {
    u32::try_from(code.into_inner()).unwrap_or(u32::MAX)
}
