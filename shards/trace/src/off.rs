//! Tracing compiled out: the same names, no size, no code.

use std::marker::PhantomData;
use std::time::Instant;

use crate::carry::Label;
use crate::context::{Outcome, SpanKind, TraceContext};
use crate::event::Event;
use crate::events::Class;

/// See the feature `trace`: a recorder that is not there.
#[derive(Debug, Clone)]
pub struct EventLog;

impl EventLog {
    /// Nothing is worked out and nothing is started.
    #[inline(always)]
    pub fn start<C>(_config: impl FnOnce() -> C) -> EventLog {
        EventLog
    }

    /// A tracer of nothing.
    #[inline(always)]
    pub fn tracer(&self) -> Option<Tracer> {
        Some(Tracer::none())
    }
}

/// See the feature `trace`: a writer that writes nothing.
#[derive(Clone, Default)]
pub struct Tracer {
    // As with tracing on, it stays on its thread.
    one_thread: PhantomData<*const ()>,
}

const _: () = assert!(size_of::<Tracer>() == 0 && size_of::<EventLog>() == 0);

#[allow(clippy::unused_self)]
impl Tracer {
    /// The only one.
    #[inline(always)]
    pub fn none() -> Tracer {
        Tracer { one_thread: PhantomData }
    }

    /// Nothing.
    #[inline(always)]
    pub fn tick(&self, _: Instant) {}

    /// Never.
    #[inline(always)]
    pub fn timestamp_now(&self) -> u64 {
        0
    }

    /// None.
    #[inline(always)]
    pub fn next_sequence(&self) -> u64 {
        0
    }

    /// Nothing is.
    #[inline(always)]
    pub fn wants(&self, _: Class) -> bool {
        false
    }

    /// Nothing.
    #[inline(always)]
    pub fn log(&self, _: Event) {}

    /// Nothing.
    #[inline(always)]
    pub fn write(&self, _: Event) {}

    /// None.
    #[inline(always)]
    pub fn draw(&self) -> u64 {
        0
    }

    /// None.
    #[inline(always)]
    pub fn begin_trace(&self, _: SpanKind, _: u64) -> TraceContext {
        TraceContext::NONE
    }

    /// None.
    #[inline(always)]
    pub fn begin(&self, _: &TraceContext, _: SpanKind, _: u64) -> TraceContext {
        TraceContext::NONE
    }

    /// None.
    #[inline(always)]
    pub fn begin_named(&self, _: &Label, _: SpanKind, _: u64) -> TraceContext {
        TraceContext::NONE
    }

    /// Nothing.
    #[inline(always)]
    pub fn end(&self, _: &TraceContext, _: SpanKind, _: Outcome, _: u64) {}
}
