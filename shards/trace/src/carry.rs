//! What goes along with a message, a train of datagrams, a connection or a file operation, so that
//! its end can be joined to its beginning. Compiled out, none of it has a size.

use pangea_base::{CoreId, PeerId};

use crate::Tracer;
use crate::context::{TraceContext, TraceFlags, TraceId};
#[cfg(feature = "trace")]
use crate::events::EventData;
#[cfg(feature = "trace")]
use crate::{Class, Event, trace_event};

/// Goes along with a message between cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hop {
    #[cfg(feature = "trace")]
    context: TraceContext,
    #[cfg(feature = "trace")]
    hop: u64,
}

/// Goes along with a train of datagrams to whoever learns how sending it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Train {
    #[cfg(feature = "trace")]
    peer: Option<PeerId>,
    #[cfg(feature = "trace")]
    first: u64,
    #[cfg(feature = "trace")]
    conn: u32,
    #[cfg(feature = "trace")]
    datagrams: u16,
}

/// What is counted for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnTrace {
    #[cfg(feature = "trace")]
    datagrams: u64,
    #[cfg(feature = "trace")]
    lost: (u64, u64),
    #[cfg(feature = "trace")]
    labelled: bool,
}

/// File operations under way: what they are and when they began. Remembers the last 1024; an older
/// one that is still under way ends with the duration 0.
#[derive(Default)]
pub struct Inflight {
    #[cfg(feature = "trace")]
    places: Vec<(u64, u64, u8)>,
}

#[cfg(not(feature = "trace"))]
const _: () = assert!(
    size_of::<Hop>() + size_of::<Train>() + size_of::<ConnTrace>() + size_of::<Inflight>() == 0
);

/// Bytes of a [`Label`] on the wire.
pub const LABEL_BYTES: usize = 25;

/// The trace context as it stands before a request, on connections where both sides agreed to it:
/// `format.md`, "On the wire".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label(pub [u8; LABEL_BYTES]);

impl Label {
    /// What a request carries of its context.
    pub fn new(context: &TraceContext) -> Label {
        let mut bytes = [0; LABEL_BYTES];
        bytes[0] = context.flags().bits();
        bytes[1..17].copy_from_slice(&context.trace_id().0);
        bytes[17..].copy_from_slice(&context.span().to_le_bytes());
        Label(bytes)
    }

    /// What a peer says: a name for its request, marked as the peer's and believed in nothing. What
    /// is recorded of it is our own sampling's affair ([`Tracer::begin_named`]).
    pub fn context(&self) -> TraceContext {
        let [_flags, rest @ ..] = self.0;
        let (mut id, mut span) = ([0; 16], [0; 8]);
        id.copy_from_slice(&rest[..16]);
        span.copy_from_slice(&rest[16..]);
        TraceContext::new(TraceId(id), u64::from_le_bytes(span), TraceFlags::REMOTE, 0)
    }
}

impl Tracer {
    /// A message goes to another core.
    #[inline(always)]
    pub fn depart(&self, context: &TraceContext, to: CoreId) -> Hop {
        #[cfg(feature = "trace")]
        if self.wants(Class::Mesh) {
            let hop = self.draw();
            trace_event!(self, context, MeshSent { to: u16::from(to.0), hop });
            return Hop { context: *context, hop };
        }
        let _ = (context, to);
        Hop::default()
    }

    /// A message came: what it belongs to.
    #[inline(always)]
    pub fn arrive(&self, hop: &Hop, from: CoreId) -> TraceContext {
        #[cfg(feature = "trace")]
        if hop.hop != 0 {
            let (context, from, hop) = (&hop.context, u16::from(from.0), hop.hop);
            trace_event!(self, context, MeshReceived { from, hop });
            return *context;
        }
        let _ = (hop, from);
        TraceContext::NONE
    }

    /// The system has taken so many bytes of a train.
    #[inline(always)]
    pub fn train_sent(&self, train: &Train, bytes: usize) {
        #[cfg(feature = "trace")]
        if self.wants(Class::Packet) {
            let &Train { first: packet_num, conn, datagrams, .. } = train;
            let size = u32::try_from(bytes).unwrap_or(u32::MAX);
            train.write(self, EventData::PacketSent { size, packet_num, datagrams, conn });
        }
        let _ = (train, bytes);
    }

    /// The system refused so many bytes of a train.
    #[inline(always)]
    pub fn train_failed(&self, train: &Train, bytes: usize, errno: i32) {
        #[cfg(feature = "trace")]
        if self.wants(Class::Packet) {
            let &Train { first: packet_num, conn, datagrams, .. } = train;
            let (size, errno) =
                (u32::try_from(bytes).unwrap_or(u32::MAX), u32::try_from(errno).unwrap_or(0));
            let data = EventData::PacketSendFailed { size, packet_num, datagrams, errno, conn };
            train.write(self, data);
        }
        let _ = (train, bytes, errno);
    }
}

#[cfg(feature = "trace")]
impl Train {
    fn write(&self, tracer: &Tracer, data: EventData) {
        let mut event = Event::new(data);
        if matches!(data, EventData::PacketSendFailed { .. }) {
            event = event.flagged(crate::flags::ERROR);
        }
        tracer.write(match &self.peer {
            Some(peer) => event.with_peer(peer),
            None => event,
        });
    }
}

impl ConnTrace {
    /// The connection hands out a train of so many bytes, in datagrams of `segment` bytes.
    #[inline(always)]
    pub fn train(
        &mut self,
        peer: Option<PeerId>,
        conn: u32,
        bytes: usize,
        segment: Option<usize>,
    ) -> Train {
        #[cfg(feature = "trace")]
        {
            let datagrams = segment.map_or(1, |segment| bytes.div_ceil(segment.max(1)));
            let datagrams = u16::try_from(datagrams).unwrap_or(u16::MAX);
            let first = self.datagrams;
            self.datagrams += u64::from(datagrams);
            Train { peer, first, conn, datagrams }
        }
        #[cfg(not(feature = "trace"))]
        {
            let _ = (peer, conn, bytes, segment);
            Train {}
        }
    }

    /// The connection has lost so many packets and bytes since it began: how many it had lost
    /// before, with those that are new; `None` if none are.
    pub fn lost(&mut self, packets: u64, bytes: u64) -> Option<(u64, u32, u64)> {
        #[cfg(feature = "trace")]
        if packets > self.lost.0 {
            let (before, bytes_before) = std::mem::replace(&mut self.lost, (packets, bytes));
            let count = u32::try_from(packets - before).unwrap_or(u32::MAX);
            return Some((before, count, bytes.saturating_sub(bytes_before)));
        }
        let _ = (packets, bytes);
        None
    }

    /// Both sides put a [`Label`] before each request.
    pub fn agree(&mut self) {
        #[cfg(feature = "trace")]
        {
            self.labelled = true;
        }
    }

    /// Whether both sides put a [`Label`] before each request.
    #[inline(always)]
    pub fn is_labelled(&self) -> bool {
        #[cfg(feature = "trace")]
        return self.labelled;
        #[cfg(not(feature = "trace"))]
        false
    }
}

#[cfg(feature = "trace")]
const INFLIGHT_PLACES: usize = 1024;

#[cfg(feature = "trace")]
impl Inflight {
    /// An operation begins.
    pub fn begin(&mut self, tracer: &Tracer, token: u64, operation: u8) {
        if self.places.is_empty() {
            self.places = vec![(u64::MAX, 0, 0); INFLIGHT_PLACES];
        }
        if let Some(place) = self.places.get_mut(Self::place(token)) {
            *place = (token, tracer.timestamp_now(), operation);
        }
    }

    /// It ended: what it was and how long it took, nanoseconds.
    pub fn end(&mut self, tracer: &Tracer, token: u64) -> (u8, u64) {
        match self.places.get(Self::place(token)) {
            Some(&(same, began, operation)) if same == token => {
                (operation, tracer.timestamp_now().saturating_sub(began))
            }
            _ => (5, 0),
        }
    }

    // Tokens count up in their low bits and have their owner in the high ones.
    fn place(token: u64) -> usize {
        (token ^ (token >> 32).wrapping_mul(0x9e37_79b9)) as usize % INFLIGHT_PLACES
    }
}

#[cfg(not(feature = "trace"))]
#[allow(clippy::unused_self)]
impl Inflight {
    /// Nothing.
    #[inline(always)]
    pub fn begin(&mut self, _: &Tracer, _: u64, _: u8) {}

    /// Nothing is known.
    #[inline(always)]
    pub fn end(&mut self, _: &Tracer, _: u64) -> (u8, u64) {
        (0, 0)
    }
}
