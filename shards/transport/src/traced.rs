//! What the recorder hears of connections, streams and datagrams. Nothing unless tracing is
//! compiled in.

use std::net::SocketAddr;

use pangea_base::PeerId;
use pangea_trace::{Event, EventData, TraceContext, Tracer, flags, if_trace, trace_event, words};
use quinn_proto::crypto::rustls::HandshakeData;

use crate::{ALPN_LABELLED, ClosedReason, ConnId, StreamId, Transport};

impl Transport {
    /// Records there from now on.
    pub fn trace(&mut self, tracer: Tracer) {
        self.tracer = tracer;
    }

    /// Whether both sides put a trace context before each request (format.md of trace).
    pub fn is_labelled(&self, conn: ConnId) -> bool {
        self.conn(conn).is_some_and(|open| open.trace.is_labelled())
    }

    pub(crate) fn trace_init(&self, remote: SocketAddr, peer: Option<&PeerId>) {
        if_trace! {
            let event = Event::new(EventData::ConnInit { endpoint: remote });
            self.tracer.log(match peer {
                Some(peer) => event.with_peer(peer),
                None => event,
            });
        }
        let _ = (remote, peer);
    }

    pub(crate) fn trace_established(&mut self, index: u32, peer: &PeerId) {
        if_trace! {
            let Some(conn) = self.at_mut(index) else { return };
            let agreed = conn.proto.crypto_session().handshake_data();
            let agreed = agreed.and_then(|data| data.downcast::<HandshakeData>().ok());
            if agreed.is_some_and(|data| data.protocol.as_deref() == Some(ALPN_LABELLED)) {
                conn.trace.agree();
            }
            let rtt = u32::try_from(conn.proto.rtt().as_micros()).unwrap_or(u32::MAX);
            let none = &TraceContext::NONE;
            trace_event!(self.tracer, none, peer, ConnEstablished { rtt, conn: index });
        }
        let _ = (index, peer);
    }

    pub(crate) fn trace_closed(&mut self, index: u32, reason: &ClosedReason) {
        if_trace! {
            self.trace_path(index);
            let Some(conn) = self.at_mut(index) else { return };
            let peer = conn.peer;
            let reason = words(&reason.to_string());
            let event = Event::new(EventData::ConnClosed { conn: index, reason });
            self.tracer.log(match &peer {
                Some(peer) => event.with_peer(peer),
                None => event,
            });
        }
        let _ = (index, reason);
    }

    /// Tells of packets that were lost since the last time.
    pub(crate) fn trace_lost(&mut self, index: u32) {
        if_trace! {
            if !self.tracer.wants(pangea_trace::Class::Packet) {
                return;
            }
            let Some(conn) = self.at_mut(index) else { return };
            let path = conn.proto.stats().path;
            let Some((packet_num, count, bytes)) =
                conn.trace.lost(path.lost_packets, path.lost_bytes)
            else {
                return;
            };
            let peer = conn.peer.unwrap_or(PeerId([0; 32]));
            let data = EventData::PacketLost { packet_num, count, bytes, conn: index };
            self.tracer.write(Event::new(data).with_peer(&peer).flagged(flags::ERROR));
            self.trace_path(index);
        }
        let _ = index;
    }

    pub(crate) fn trace_opened(&self, conn: ConnId, stream: StreamId) {
        if_trace! {
            let event = EventData::StreamOpened { stream_id: stream.number(), conn: conn.index };
            self.trace_stream(conn, event);
        }
        let _ = (conn, stream);
    }

    pub(crate) fn trace_read(
        &self,
        conn: ConnId,
        stream: StreamId,
        (offset, length): (u64, usize),
        ended: bool,
    ) {
        if_trace! {
            if length > 0 || ended {
                self.trace_stream(conn, EventData::StreamData {
                    stream_id: stream.number(),
                    offset,
                    length: u32::try_from(length).unwrap_or(u32::MAX),
                    fin: u8::from(ended),
                    conn: conn.index,
                });
            }
        }
        let _ = (conn, stream, offset, length, ended);
    }

    fn trace_stream(&self, conn: ConnId, data: EventData) {
        let peer = self.conn(conn).and_then(|open| open.peer).unwrap_or(PeerId([0; 32]));
        self.tracer.log(Event::new(data).with_peer(&peer));
    }

    fn trace_path(&mut self, index: u32) {
        let Some(conn) = self.at_mut(index) else { return };
        let path = conn.proto.stats().path;
        let peer = conn.peer.unwrap_or(PeerId([0; 32]));
        let (window, sent, lost) = (path.cwnd, path.sent_packets, path.lost_packets);
        let rtt = u32::try_from(path.rtt.as_micros()).unwrap_or(u32::MAX);
        let none = &TraceContext::NONE;
        trace_event!(
            self.tracer,
            none,
            &peer,
            PathMetrics { rtt, conn: index, window, sent, lost }
        );
    }
}
