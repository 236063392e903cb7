//! Which trace, and which piece of work in it. Nothing at all when tracing is compiled out.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;

#[cfg(feature = "trace")]
use crate::event::flags as event_flags;

/// The number of a trace; all zero is none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TraceId(pub [u8; 16]);

impl TraceId {
    /// No trace.
    pub const NONE: TraceId = TraceId([0; 16]);

    /// A new one, from the standard library's random keys: for applications. Engines take theirs
    /// from their tracer, which draws from a seed.
    #[allow(clippy::new_without_default)]
    pub fn new() -> TraceId {
        let half = || RandomState::new().hash_one(0u8).to_le_bytes();
        let mut id = [0; 16];
        id[..8].copy_from_slice(&half());
        id[8..].copy_from_slice(&half());
        TraceId(id)
    }

    /// Whether there is none.
    pub fn is_none(self) -> bool {
        self == TraceId::NONE
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Not 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceIdInvalid;

impl fmt::Display for TraceIdInvalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a trace's number is 32 hexadecimal digits")
    }
}

impl std::error::Error for TraceIdInvalid {}

impl FromStr for TraceId {
    type Err = TraceIdInvalid;

    fn from_str(text: &str) -> Result<TraceId, TraceIdInvalid> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(TraceIdInvalid);
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| TraceIdInvalid)?;
        Ok(TraceId(number.to_be_bytes()))
    }
}

/// Bits that go with a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TraceFlags(u8);

impl TraceFlags {
    /// None.
    pub const NONE: TraceFlags = TraceFlags(0);
    /// Head sampling chose it.
    pub const SAMPLED: TraceFlags = TraceFlags(1);
    /// To be kept whatever the sampling says.
    pub const DEBUG: TraceFlags = TraceFlags(2);
    /// An application began it.
    pub const APP: TraceFlags = TraceFlags(4);
    /// Its number came from a peer.
    pub const REMOTE: TraceFlags = TraceFlags(8);

    /// Both.
    #[must_use]
    pub const fn and(self, other: TraceFlags) -> TraceFlags {
        TraceFlags(self.0 | other.0)
    }

    /// Whether all of these are set.
    pub const fn has(self, other: TraceFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// As on the wire.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// From the wire; unknown bits are dropped.
    pub const fn from_bits(bits: u8) -> TraceFlags {
        TraceFlags(bits & 15)
    }
}

/// What a piece of work passes on to the work that it causes. Compiled out it has no size, and
/// every question about it has a constant answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TraceContext {
    #[cfg(feature = "trace")]
    trace_id: TraceId,
    #[cfg(feature = "trace")]
    span: u64,
    #[cfg(feature = "trace")]
    start_time: u64,
    #[cfg(feature = "trace")]
    flags: TraceFlags,
}

#[cfg(not(feature = "trace"))]
const _: () = assert!(size_of::<TraceContext>() == 0);

impl TraceContext {
    /// No trace.
    pub const NONE: TraceContext = TraceContext {
        #[cfg(feature = "trace")]
        trace_id: TraceId::NONE,
        #[cfg(feature = "trace")]
        span: 0,
        #[cfg(feature = "trace")]
        start_time: 0,
        #[cfg(feature = "trace")]
        flags: TraceFlags::NONE,
    };
}

#[cfg(feature = "trace")]
impl TraceContext {
    /// A context of known parts: from the wire, or an application's.
    pub const fn new(trace_id: TraceId, span: u64, flags: TraceFlags, start_time: u64) -> Self {
        TraceContext { trace_id, span, start_time, flags }
    }

    /// Which trace.
    #[inline(always)]
    pub const fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// Which piece of work.
    #[inline(always)]
    pub const fn span(&self) -> u64 {
        self.span
    }

    /// When that began, nanoseconds since 1970.
    pub const fn start_time(&self) -> u64 {
        self.start_time
    }

    /// Its flags.
    pub const fn flags(&self) -> TraceFlags {
        self.flags
    }

    /// Its flags as an event has them.
    #[inline(always)]
    pub(crate) const fn event_flags(&self) -> u16 {
        const fn bit(flags: u8, from: TraceFlags, to: u16) -> u16 {
            if flags & from.0 != 0 { to } else { 0 }
        }
        let flags = self.flags.0;
        bit(flags, TraceFlags::SAMPLED, event_flags::SAMPLED)
            | bit(flags, TraceFlags::DEBUG, event_flags::DEBUG)
            | bit(flags, TraceFlags::APP, event_flags::APP)
            | bit(flags, TraceFlags::REMOTE, event_flags::REMOTE)
    }

    /// The same trace, another piece of work.
    pub(crate) const fn child(&self, span: u64, start_time: u64) -> TraceContext {
        TraceContext { span, start_time, ..*self }
    }
}

#[cfg(not(feature = "trace"))]
#[allow(clippy::unused_self)]
impl TraceContext {
    /// Nothing is kept.
    #[inline(always)]
    pub const fn new(_: TraceId, _: u64, _: TraceFlags, _: u64) -> Self {
        TraceContext {}
    }

    /// None.
    #[inline(always)]
    pub const fn trace_id(&self) -> TraceId {
        TraceId::NONE
    }

    /// None.
    #[inline(always)]
    pub const fn span(&self) -> u64 {
        0
    }

    /// Never.
    #[inline(always)]
    pub const fn start_time(&self) -> u64 {
        0
    }

    /// None.
    #[inline(always)]
    pub const fn flags(&self) -> TraceFlags {
        TraceFlags::NONE
    }

    #[inline(always)]
    pub(crate) const fn event_flags(&self) -> u16 {
        0
    }
}

/// Kinds of work that have a beginning and an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum SpanKind {
    /// An object is stored.
    Put = 1,
    /// An object is fetched.
    Get = 2,
    /// Holders are asked what they have.
    Stat = 3,
    /// A chunk is encoded and stored.
    PutChunk = 4,
    /// A chunk is fetched and decoded.
    GetChunk = 5,
    /// A small request of ours.
    Ask = 6,
    /// A shard on its way to, or from, a holder: a request of ours.
    Shard = 7,
    /// A peer's request is served.
    Serve = 8,
    /// An application's.
    App = 9,
}

impl SpanKind {
    /// All.
    pub const ALL: [SpanKind; 9] = [
        SpanKind::Put,
        SpanKind::Get,
        SpanKind::Stat,
        SpanKind::PutChunk,
        SpanKind::GetChunk,
        SpanKind::Ask,
        SpanKind::Shard,
        SpanKind::Serve,
        SpanKind::App,
    ];

    /// The kind of a number, if there is one.
    pub fn from_number(number: u16) -> Option<SpanKind> {
        SpanKind::ALL.into_iter().find(|kind| *kind as u16 == number)
    }

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            SpanKind::Put => "put",
            SpanKind::Get => "get",
            SpanKind::Stat => "stat",
            SpanKind::PutChunk => "put chunk",
            SpanKind::GetChunk => "get chunk",
            SpanKind::Ask => "ask",
            SpanKind::Shard => "shard",
            SpanKind::Serve => "serve",
            SpanKind::App => "app",
        }
    }
}

/// How a piece of work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Done,
    /// Not well.
    Failed,
}
