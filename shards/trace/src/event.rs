//! One event: 128 bytes, none of them padding.

use pangea_base::{CoreId, PeerId};

use crate::context::{TraceContext, TraceId};
use crate::events::{EventData, Kind};
use crate::field::Payload;

/// Bytes of an event, in memory and in files.
pub const EVENT_BYTES: usize = 128;
/// The same in words of eight bytes.
pub const EVENT_WORDS: usize = EVENT_BYTES / 8;

/// Bits of [`Event::flags`].
pub mod flags {
    /// The peer is known.
    pub const PEER: u16 = 1;
    /// Something begins here.
    pub const BEGIN: u16 = 2;
    /// Something ends here.
    pub const END: u16 = 4;
    /// It failed.
    pub const ERROR: u16 = 8;
    /// The trace's number came from a peer: a label, and no proof of anything.
    pub const REMOTE: u16 = 16;
    /// The time was read for this event; without it, it is that of the core's turn.
    pub const FINE: u16 = 32;
    /// Head sampling chose the trace.
    pub const SAMPLED: u16 = 64;
    /// Somebody asked for this trace to be kept whatever the sampling says.
    pub const DEBUG: u16 = 128;
    /// The application began the trace.
    pub const APP: u16 = 256;
    /// The names of all, by bit.
    pub const NAMES: [&str; 9] =
        ["peer", "begin", "end", "error", "remote", "fine", "sampled", "debug", "app"];
}

/// What was recorded. Plain data: every combination of bytes is an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// Nanoseconds since 1970; monotonic on its core.
    pub timestamp: u64,
    /// Which event of its core, from 0. Never repeats.
    pub sequence: u64,
    /// Which trace; all zero: none.
    pub trace_id: TraceId,
    /// The other side, with the flag [`flags::PEER`]; all zero without.
    pub peer: [u8; 32],
    /// The fields of [`EventData`].
    pub payload: Payload,
    /// The piece of work within the trace; 0: none.
    pub span: u64,
    /// Which node; 0 where there is only one.
    pub node: u16,
    /// Which core; one past the last is control.
    pub core: u16,
    /// The number of [`Kind`].
    pub kind: u16,
    /// See [`flags`].
    pub flags: u16,
}

// The sum of the fields is the whole: no padding.
const _: () = assert!(size_of::<Event>() == EVENT_BYTES);
const _: () = assert!(8 + 8 + 16 + 32 + 48 + 8 + 2 + 2 + 2 + 2 == EVENT_BYTES);
const _: () = assert!(std::mem::offset_of!(Event, payload) == 64);
const _: () = assert!(std::mem::offset_of!(Event, flags) == 126);

impl Default for Event {
    fn default() -> Event {
        Event::new(EventData::Custom { category: 0, code: 0, data: [0; 44] })
    }
}

impl Event {
    /// An event without trace and peer. Time, sequence and core are filled in when it is recorded.
    #[inline(always)]
    pub fn new(data: EventData) -> Event {
        Event {
            timestamp: 0,
            sequence: 0,
            trace_id: TraceId::NONE,
            peer: [0; 32],
            payload: data.encode(),
            span: 0,
            node: 0,
            core: 0,
            kind: data.kind() as u16,
            flags: 0,
        }
    }

    /// A default event of a trace.
    pub fn with_trace_id(trace_id: TraceId) -> Event {
        Event::default().of_trace(trace_id)
    }

    /// An application's command begins.
    pub fn app_start(app_id: [u8; 4], cmd: u16, trace_id: TraceId) -> Event {
        let data = EventData::AppCommand { app_id, cmd, data: [0; 42] };
        Event::new(data).of_trace(trace_id).flagged(flags::BEGIN)
    }

    /// An application's command ended, well or not.
    pub fn app_end(app_id: [u8; 4], cmd: u16, trace_id: TraceId, ok: bool) -> Event {
        let data = EventData::AppCommand { app_id, cmd, data: [0; 42] };
        let error = if ok { 0 } else { flags::ERROR };
        Event::new(data).of_trace(trace_id).flagged(flags::END | error)
    }

    /// The same within a trace.
    #[inline(always)]
    pub fn of(mut self, context: &TraceContext) -> Event {
        self.trace_id = context.trace_id();
        self.span = context.span();
        self.flags |= context.event_flags();
        self
    }

    /// The same within a trace of which only the number is known. Sampling has not refused it, so it
    /// is recorded.
    #[inline(always)]
    pub fn of_trace(mut self, trace_id: TraceId) -> Event {
        self.trace_id = trace_id;
        if !trace_id.is_none() {
            self.flags |= flags::SAMPLED;
        }
        self
    }

    /// The same about a peer.
    #[inline(always)]
    pub fn with_peer(mut self, peer: &PeerId) -> Event {
        self.peer = peer.0;
        self.flags |= flags::PEER;
        self
    }

    /// The same with more flags.
    #[inline(always)]
    pub fn flagged(mut self, flags: u16) -> Event {
        self.flags |= flags;
        self
    }

    /// Which kind, unless it is of a later version.
    pub fn kind(&self) -> Option<Kind> {
        Kind::from_number(self.kind)
    }

    /// Its own fields, unless its kind is of a later version.
    pub fn data(&self) -> Option<EventData> {
        Some(EventData::decode(self.kind()?, &self.payload))
    }

    /// The other side, if it is known.
    pub fn peer(&self) -> Option<PeerId> {
        (self.flags & flags::PEER != 0).then_some(PeerId(self.peer))
    }

    /// Which core.
    pub fn core(&self) -> CoreId {
        CoreId(u8::try_from(self.core).unwrap_or(u8::MAX))
    }

    /// Whether one of these flags is set.
    pub fn has(&self, flags: u16) -> bool {
        self.flags & flags != 0
    }

    /// Which of its words mean anything, a bit each: the peer's do only with the flag, the payload's
    /// as far as the kind has fields. Known when the program is built wherever the kind is, and a
    /// word that is not written saves a third of a nanosecond.
    #[cfg(feature = "trace")]
    #[inline(always)]
    pub(crate) fn parts(&self) -> u16 {
        const ALWAYS: u16 = 0b1100_0000_0000_1111;
        let peer = if self.flags & flags::PEER != 0 { 0b1111_0000 } else { 0 };
        let payload = ((1 << Kind::words_of(self.kind)) - 1) << 8;
        ALWAYS | peer | payload
    }

    /// Without what older events left in the words that it did not write.
    #[cfg(feature = "trace")]
    pub(crate) fn cleaned(mut self) -> Event {
        if self.flags & flags::PEER == 0 {
            self.peer = [0; 32];
        }
        if let Some(rest) = self.payload.get_mut(Kind::words_of(self.kind) * 8..) {
            rest.fill(0);
        }
        self
    }

    /// As it is in a ring and, little-endian, in a file.
    #[inline(always)]
    pub fn to_words(&self) -> [u64; EVENT_WORDS] {
        let mut words = [0; EVENT_WORDS];
        words[0] = self.timestamp;
        words[1] = self.sequence;
        pack(&self.trace_id.0, &mut words[2..4]);
        pack(&self.peer, &mut words[4..8]);
        pack(&self.payload, &mut words[8..14]);
        words[14] = self.span;
        words[15] = u64::from(self.node)
            | u64::from(self.core) << 16
            | u64::from(self.kind) << 32
            | u64::from(self.flags) << 48;
        words
    }

    /// Back again.
    pub fn from_words(words: &[u64; EVENT_WORDS]) -> Event {
        let part = |shift: u32| (words[15] >> shift & 0xffff) as u16;
        Event {
            timestamp: words[0],
            sequence: words[1],
            trace_id: TraceId(unpack(&words[2..4])),
            peer: unpack(&words[4..8]),
            payload: unpack(&words[8..14]),
            span: words[14],
            node: part(0),
            core: part(16),
            kind: part(32),
            flags: part(48),
        }
    }

    /// As it is in a file.
    pub fn to_bytes(&self) -> [u8; EVENT_BYTES] {
        let mut bytes = [0; EVENT_BYTES];
        for (place, word) in bytes.chunks_exact_mut(8).zip(self.to_words()) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Out of a file.
    pub fn from_bytes(bytes: &[u8; EVENT_BYTES]) -> Event {
        let mut words = [0; EVENT_WORDS];
        pack(bytes, &mut words);
        Event::from_words(&words)
    }
}

#[inline(always)]
fn pack(bytes: &[u8], words: &mut [u64]) {
    for (word, part) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(part.try_into().unwrap_or_default());
    }
}

fn unpack<const N: usize>(words: &[u64]) -> [u8; N] {
    let mut bytes = [0; N];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}
