use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pangea_base::{Entropy, PeerAddr, PeerId, canonical};
use pangea_trace::{Tracer, Train};
use quinn_proto::{
    ConnectError, ConnectionHandle, ConnectionId, Endpoint, ServerConfig, TransportConfig, VarInt,
};

use crate::admission::Admission;
use crate::batch::BatchPool;
use crate::config::{MTU_MIN, Path, Wall};
use crate::conn::{Conn, ConnStats, KeepAlive, Phase};
use crate::timers::Timers;
use crate::window::Credit;
use crate::{
    ClosedReason, Config, ConnGone, ConnId, ConnectRefused, Crypto, Event, Side, TRAIN_BYTES_MAX,
};

/// Length of the connection id that a dialler makes up for the far side's first packets. At random,
/// so that the far side's cores share the newcomers (RFC 9000 section 7.2 wants 8 or more).
const FIRST_DCID_BYTES: usize = 16;

/// After a batch came in, the pool's spare memory is kept for so long.
const POOL_IDLE: Duration = Duration::from_secs(1);

/// Where and how to send what [`Transport::transmit`] wrote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransmitMeta {
    /// To whom.
    pub dst: SocketAddr,
    /// From which of our addresses, if it matters.
    pub src_ip: Option<IpAddr>,
    /// The two ECN bits (RFC 3168).
    pub ecn: Option<u8>,
    /// Bytes per datagram when there are several; the last may be shorter.
    pub segment: Option<u16>,
    /// For the driver, which knows how sending ends.
    pub train: Train,
}

/// Counters and gauges of one transport.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Datagrams and bytes that came in.
    pub received: (u64, u64),
    /// Sends and bytes that went out.
    pub sent: (u64, u64),
    /// Datagrams that belong to nothing and were dropped.
    pub ignored: u64,
    /// Newcomers that were asked to prove their address.
    pub retries: u64,
    /// Newcomers that were told that we take no more.
    pub refused: u64,
    /// Newcomers that were left without an answer.
    pub shunned: u64,
    /// Answers without a connection that found no room.
    pub responses_dropped: u64,
    /// Accepted connections now.
    pub incoming: u32,
    /// Accepted connections now whose address is not proved.
    pub unvalidated: u32,
    /// Credit that receive windows hold now, bytes.
    pub receive_credit: u64,
    /// Credit that send windows hold now, bytes.
    pub send_credit: u64,
    /// Memory of pooled batches now, bytes.
    pub batch_bytes: usize,
    /// Timers now: at most one per connection.
    pub timers: usize,
}

pub(crate) struct Response {
    pub(crate) meta: TransmitMeta,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Default)]
pub(crate) struct Slot {
    generation: u32,
    pub(crate) conn: Option<Box<Conn>>,
}

/// The QUIC endpoint of one core with all its connections. See the crate's description for the
/// order of calls.
pub struct Transport {
    pub(crate) config: Config,
    pub(crate) endpoint: Endpoint,
    pub(crate) crypto: Box<dyn Crypto>,
    // Towards this machine, and towards all others.
    dial_settings: [Arc<TransportConfig>; 2],
    pub(crate) near_server: Arc<ServerConfig>,
    entropy: Entropy,
    wall: Arc<Wall>,
    began: Option<Instant>,
    pub(crate) now: Option<Instant>,
    pub(crate) slots: Vec<Slot>,
    /// Connections that hold a place, also while they drain.
    pub(crate) held: u32,
    open: u32,
    timers: Timers,
    pub(crate) with_events: VecDeque<u32>,
    with_packets: VecDeque<u32>,
    pub(crate) events: VecDeque<Event>,
    pub(crate) responses: VecDeque<Response>,
    /// Bytes of small writes since all was last sent.
    written_small: usize,
    pub(crate) scratch: Vec<u8>,
    pub(crate) admission: Admission,
    pub(crate) receive_credit: Credit,
    pub(crate) send_credit: Credit,
    pub(crate) batches: BatchPool,
    pub(crate) trim_at: Option<Instant>,
    pub(crate) stats: Stats,
    pub(crate) tracer: Tracer,
}

impl Transport {
    /// A transport without connections. Everything random in it comes from `entropy`.
    pub fn new(config: Config, crypto: Box<dyn Crypto>, mut entropy: Entropy) -> Transport {
        assert!(config.core.0 < config.cores, "core {} of {}", config.core.0, config.cores);
        assert!(config.gso_segments_max > 0, "a send has at least one segment");
        let wall = Arc::new(Wall::new(config.time));
        let far = Arc::new(config.transport(Path::Network));
        let near = Arc::new(config.transport(Path::Loopback));
        let server = config.server(crypto.as_ref(), far.clone(), wall.clone());
        let near_server = Arc::new(config.server(crypto.as_ref(), near.clone(), wall.clone()));
        let endpoint_config = config.endpoint(&mut entropy);
        let endpoint = Endpoint::new(Arc::new(endpoint_config), Some(Arc::new(server)), true, None);
        let limits = &config.limits;
        Transport {
            endpoint,
            crypto,
            dial_settings: [near, far],
            near_server,
            entropy,
            wall,
            began: None,
            now: None,
            slots: Vec::new(),
            held: 0,
            open: 0,
            timers: Timers::default(),
            with_events: VecDeque::new(),
            with_packets: VecDeque::new(),
            events: VecDeque::new(),
            responses: VecDeque::new(),
            written_small: 0,
            scratch: Vec::new(),
            admission: Admission::default(),
            receive_credit: Credit::new(limits.receive_credit),
            send_credit: Credit::new(limits.send_credit),
            batches: BatchPool::new(limits.batch_bytes_max),
            trim_at: None,
            stats: Stats::default(),
            tracer: Tracer::none(),
            config,
        }
    }

    /// Begins a connection to `to`. The outcome is `Connected` or `Closed`.
    pub fn connect(&mut self, now: Instant, to: PeerAddr) -> Result<ConnId, ConnectRefused> {
        self.clock(now);
        // The form in which the driver names who a datagram is from.
        let to = PeerAddr { addr: canonical(to.addr), ..to };
        let limit = self.config.limits.connections_max;
        if self.held >= limit {
            return Err(ConnectRefused::TooMany { limit });
        }
        let dial = self.crypto.client(Some(to.peer));
        let dcid = ConnectionId::new(&self.entropy.array::<FIRST_DCID_BYTES>());
        let [near, far] = &self.dial_settings;
        let settings = match Path::to(to.addr) {
            Path::Loopback => near.clone(),
            Path::Network => far.clone(),
        };
        let settings = Config::client(dial.config, settings, dcid);
        let (handle, proto) =
            self.endpoint.connect(now, settings, to.addr, "pangea").map_err(|e| match e {
                ConnectError::InvalidRemoteAddress(addr) => ConnectRefused::Undialable(addr),
                other => ConnectRefused::Internal(other.to_string()),
            })?;
        self.trace_init(to.addr, Some(&to.peer));
        let limits = &self.config.limits;
        let conn = Conn::new(proto, Side::Dialled, Some(to.peer), dial.found, limits, now);
        Ok(self.insert(handle, conn))
    }

    /// Ends a connection at once: what was not acknowledged is lost. `Closed` follows; nothing
    /// happens if the connection has ended already.
    pub fn close(&mut self, now: Instant, conn: ConnId, code: u32, reason: &[u8]) {
        self.clock(now);
        let Some(open) = self.conn_mut(conn) else { return };
        open.proto.close(now, VarInt::from_u32(code), Bytes::copy_from_slice(reason));
        self.report_closed(conn.index, ClosedReason::Local { code });
        self.mark(conn.index);
    }

    /// Chooses whether a connection is kept from idling out. Off at first; only who dialled and has
    /// work needs it.
    pub fn keep_alive(&mut self, now: Instant, conn: ConnId, choice: KeepAlive) {
        self.clock(now);
        let Some(open) = self.conn_mut(conn) else { return };
        open.keep_alive = match choice {
            KeepAlive::Off => None,
            KeepAlive::Every(period) => Some((period, now + period)),
        };
        self.register(conn.index);
    }

    /// Sends something that the peer answers, now: if our address changed without our knowing (a NAT
    /// forgot us), the peer sees the new one, and what it has for us comes there (RFC 9000, 9.3).
    pub fn ping(&mut self, now: Instant, conn: ConnId) {
        self.clock(now);
        let Some(open) = self.conn_mut(conn).filter(|open| open.phase == Phase::Established) else {
            return;
        };
        open.proto.ping();
        self.mark(conn.index);
    }

    /// Our own address changed (another network, another port): every connection moves to the new
    /// path now rather than when the old one is found dead. Rare, and looks at every connection.
    pub fn address_changed(&mut self, now: Instant) {
        self.clock(now);
        for index in 0..self.slots.len() as u32 {
            if let Some(conn) = self.at_mut(index) {
                conn.proto.local_address_changed();
                self.mark(index);
            }
        }
    }

    /// Fires what is due. Looks only at connections whose deadline has come.
    pub fn tick(&mut self, now: Instant) {
        self.clock(now);
        if self.trim_at.is_some_and(|at| at <= now) {
            self.trim_at = None;
            self.batches.trim();
        }
        while let Some(index) = self.timers.due(now) {
            let Some(conn) = self.at_mut(index) else { continue };
            conn.registered = None;
            if conn.deadline().is_some_and(|at| at <= now) {
                self.fire(now, index);
                // Registered again once it has sent what it has to send.
                self.mark(index);
            } else {
                self.register(index);
            }
        }
    }

    fn fire(&mut self, now: Instant, index: u32) {
        let Some(conn) = self.at_mut(index) else { return };
        conn.proto.handle_timeout(now);
        self.trace_lost(index);
        let Some(conn) = self.at_mut(index) else { return };
        match conn.phase {
            Phase::Handshaking => {
                if conn.handshake_deadline.is_some_and(|at| at <= now) {
                    conn.proto.close(now, VarInt::from_u32(0), Bytes::new());
                    let limit = self.config.limits.handshake_timeout;
                    self.report_closed(index, ClosedReason::HandshakeTimedOut(limit));
                }
            }
            Phase::Established => {
                if let Some((period, at)) = conn.keep_alive
                    && at <= now
                {
                    conn.proto.ping();
                    conn.keep_alive = Some((period, now + period));
                }
                if let Some(bytes) = conn.receive.idle(now) {
                    conn.proto.set_receive_window(window(bytes));
                }
                if conn.send.is_grown() && conn.proto.streams().send_streams() == 0 {
                    let Some(conn) = self.slots[index as usize].conn.as_mut() else { return };
                    conn.send.close(&mut self.send_credit);
                    conn.proto.set_send_window(conn.send.bytes());
                }
            }
            Phase::Closed => {}
        }
    }

    /// When to call `tick` if nothing else happens.
    pub fn deadline(&self) -> Option<Instant> {
        [self.timers.next(), self.trim_at].into_iter().flatten().min()
    }

    /// Fills `buf` (its former contents are dropped) with one GSO train of one connection. `None`:
    /// nothing to send now. Connections take turns, train by train.
    pub fn transmit(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<TransmitMeta> {
        self.clock(now);
        buf.clear();
        if let Some(response) = self.responses.pop_front() {
            buf.extend_from_slice(&response.bytes);
            self.count_sent(buf.len());
            return Some(response.meta);
        }
        while let Some(index) = self.with_packets.pop_front() {
            let segments_max = self.config.gso_segments_max;
            let Some(conn) = self.at_mut(index) else { continue };
            let mtu = usize::from(conn.proto.current_mtu()).max(1);
            let segments = (TRAIN_BYTES_MAX / mtu).clamp(1, segments_max);
            let Some(transmit) = conn.proto.poll_transmit(now, segments, buf) else {
                conn.has_packets = false;
                self.register(index);
                continue;
            };
            assert!(transmit.size <= TRAIN_BYTES_MAX, "a train of {} bytes", transmit.size);
            let train = conn.trace.train(conn.peer, index, transmit.size, transmit.segment_size);
            self.with_packets.push_back(index);
            self.count_sent(transmit.size);
            return Some(TransmitMeta { train, ..meta(&transmit) });
        }
        self.written_small = 0;
        None
    }

    /// Whether the small writes since `transmit` last had nothing more fill a packet. Who sends them
    /// now rather than at the end of a turn with many small answers lets the peer work meanwhile; what
    /// is large fills trains, which is better.
    pub fn fills_a_packet(&self) -> bool {
        self.written_small >= usize::from(MTU_MIN)
    }

    pub(crate) fn count_written(&mut self, bytes: usize) {
        if bytes < usize::from(MTU_MIN) {
            self.written_small += bytes;
        }
    }

    fn count_sent(&mut self, bytes: usize) {
        self.stats.sent.0 += 1;
        self.stats.sent.1 += bytes as u64;
    }

    /// Whether neither `poll` nor `transmit` has anything to give: the core may sleep.
    pub fn idle(&self) -> bool {
        self.events.is_empty()
            && self.with_events.is_empty()
            && self.with_packets.is_empty()
            && self.responses.is_empty()
    }

    /// Connections that are open or being opened.
    pub fn connections(&self) -> usize {
        self.open as usize
    }

    /// Who the peer has proved to be.
    pub fn peer(&self, conn: ConnId) -> Option<PeerId> {
        self.conn(conn)?.peer
    }

    /// The peer's present address.
    pub fn remote(&self, conn: ConnId) -> Option<SocketAddr> {
        Some(self.conn(conn)?.remote())
    }

    /// Smoothed round-trip time.
    pub fn rtt(&self, conn: ConnId) -> Option<Duration> {
        Some(self.conn(conn)?.proto.rtt())
    }

    /// Numbers of one connection.
    pub fn conn_stats(&self, conn: ConnId) -> Option<ConnStats> {
        Some(self.conn(conn)?.stats())
    }

    /// Counters and gauges.
    pub fn stats(&self) -> Stats {
        Stats {
            incoming: self.admission.incoming(),
            unvalidated: self.admission.unvalidated(),
            receive_credit: self.receive_credit.lent(),
            send_credit: self.send_credit.lent(),
            batch_bytes: self.batches.bytes(),
            timers: self.timers.len(),
            ..self.stats
        }
    }

    /// Keying material bound to this connection, equal on both sides (RFC 9266, RFC 8446 section
    /// 7.5).
    pub fn exporter(
        &self,
        conn: ConnId,
        label: &[u8],
        context: &[u8],
        out: &mut [u8],
    ) -> Result<(), ConnGone> {
        let open = self.conn(conn).filter(|open| open.phase == Phase::Established);
        let session = open.ok_or(ConnGone)?.proto.crypto_session();
        session.export_keying_material(out, label, context).map_err(|_| ConnGone)
    }

    // ---- places, queues, clock ----

    /// Moves the clocks that quinn-proto reads by itself.
    pub(crate) fn clock(&mut self, now: Instant) {
        if self.now == Some(now) {
            return;
        }
        self.now = Some(now);
        let began = *self.began.get_or_insert(now);
        self.wall.set(self.config.time.after(now.saturating_duration_since(began)));
    }

    pub(crate) fn insert(&mut self, handle: ConnectionHandle, conn: Conn) -> ConnId {
        let place = handle.0;
        if place >= self.slots.len() {
            self.slots.resize_with(place + 1, Slot::default);
        }
        let slot = &mut self.slots[place];
        assert!(slot.conn.is_none(), "quinn-proto gave a place out twice");
        slot.conn = Some(Box::new(conn));
        self.held += 1;
        self.open += 1;
        let index = u32::try_from(place).expect("places are bounded by connections_max");
        self.mark(index);
        self.name(index)
    }

    pub(crate) fn remove(&mut self, index: u32) {
        self.report_closed(index, ClosedReason::Reset);
        let slot = &mut self.slots[index as usize];
        let Some(mut conn) = slot.conn.take() else { return };
        slot.generation = slot.generation.wrapping_add(1);
        self.held -= 1;
        self.timers.remove(index, &mut conn.registered);
        // Its entries in the two queues find nothing, or a successor that is then looked at early.
        conn.receive.close(&mut self.receive_credit);
        conn.send.close(&mut self.send_credit);
        if let Some(seat) = conn.seat.take() {
            self.admission.leave(seat);
        }
    }

    /// Reports the end of a connection, once.
    pub(crate) fn report_closed(&mut self, index: u32, reason: ClosedReason) {
        let id = self.name(index);
        let Some(conn) = self.at_mut(index) else { return };
        if conn.phase == Phase::Closed {
            return;
        }
        self.trace_closed(index, &reason);
        let Some(conn) = self.at_mut(index) else { return };
        conn.phase = Phase::Closed;
        conn.readable = Vec::new();
        let peer = conn.peer;
        self.open -= 1;
        self.events.push_back(Event::Closed { conn: id, peer, reason });
    }

    /// Reports a newcomer whose first packet was already wrong.
    pub(crate) fn report_rejected(&mut self, remote: SocketAddr, reason: ClosedReason) {
        self.events.push_back(Event::Rejected { remote, reason });
    }

    /// Puts a connection into both queues, if it does not stand there.
    pub(crate) fn mark(&mut self, index: u32) {
        let Some(conn) = self.slots[index as usize].conn.as_mut() else { return };
        if !std::mem::replace(&mut conn.has_events, true) {
            self.with_events.push_back(index);
        }
        if !std::mem::replace(&mut conn.has_packets, true) {
            self.with_packets.push_back(index);
        }
    }

    fn register(&mut self, index: u32) {
        let Some(conn) = self.slots[index as usize].conn.as_mut() else { return };
        let wanted = conn.deadline();
        self.timers.set(index, &mut conn.registered, wanted);
    }

    pub(crate) fn name(&self, index: u32) -> ConnId {
        ConnId { index, generation: self.slots[index as usize].generation }
    }

    pub(crate) fn at_mut(&mut self, index: u32) -> Option<&mut Conn> {
        self.slots.get_mut(index as usize)?.conn.as_deref_mut()
    }

    pub(crate) fn conn(&self, id: ConnId) -> Option<&Conn> {
        let slot = self.slots.get(id.index as usize)?;
        let conn = slot.conn.as_deref()?;
        (slot.generation == id.generation && conn.phase != Phase::Closed).then_some(conn)
    }

    pub(crate) fn conn_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        let slot = self.slots.get_mut(id.index as usize)?;
        let conn = slot.conn.as_deref_mut()?;
        (slot.generation == id.generation && conn.phase != Phase::Closed).then_some(conn)
    }

    /// The application read `bytes`: the basis of the receive window.
    pub(crate) fn on_read(&mut self, id: ConnId, bytes: u64) {
        let slot = self.slots.get_mut(id.index as usize);
        if let Some(conn) = slot.and_then(|slot| slot.conn.as_deref_mut()) {
            conn.receive.on_read(bytes, &mut self.receive_credit);
        }
    }

    pub(crate) fn batch_came(&mut self, now: Instant) {
        if self.trim_at.is_none() {
            self.trim_at = Some(now + POOL_IDLE);
        }
    }
}

pub(crate) fn meta(transmit: &quinn_proto::Transmit) -> TransmitMeta {
    TransmitMeta {
        dst: transmit.destination,
        src_ip: transmit.src_ip,
        ecn: transmit.ecn.map(|ecn| ecn as u8),
        segment: transmit
            .segment_size
            .map(|bytes| u16::try_from(bytes).expect("a segment is at most TRAIN_BYTES_MAX")),
        train: Train::default(),
    }
}

/// A window as a QUIC integer; ours are far below 2^62.
pub(crate) fn window(bytes: u64) -> VarInt {
    VarInt::from_u64(bytes).unwrap_or(VarInt::MAX)
}
