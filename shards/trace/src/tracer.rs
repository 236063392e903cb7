//! The writer of one core's recorder.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use crate::carry::Label;
use crate::clock::Time;
use crate::context::{Outcome, SpanKind, TraceContext, TraceFlags, TraceId};
use crate::event::{Event, flags};
use crate::events::{Class, EventData};
use crate::log::{EventLog, TraceConfig};

/// Writes events. Copies write into the same recorder and stay on its thread, so there is one
/// producer:
///
/// ```compile_fail,E0277
/// fn moves<T: Send>(_: T) {}
/// moves(pangea_trace::Tracer::none());
/// ```
///
/// A tracer of nothing ([`Tracer::none`]) records nothing.
#[derive(Clone, Default)]
pub struct Tracer(Option<Rc<Writer>>);

struct Writer {
    log: EventLog,
    time: Time,
    seed: u64,
    drawn: Cell<u64>,
    roots: [Cell<u32>; SpanKind::ALL.len()],
}

impl Tracer {
    /// Records nothing.
    pub fn none() -> Tracer {
        Tracer(None)
    }

    pub(crate) fn new(log: EventLog, drawn: u64) -> Tracer {
        let (time, roots) = (log.time(), std::array::from_fn(|_| Cell::new(0)));
        // Mixed once more, so that seeds that are neighbours do not draw the same numbers.
        let [seed, other] = log.seed();
        let seed = mixed(seed ^ mixed(other));
        Tracer(Some(Rc::new(Writer { log, time, seed, drawn: Cell::new(drawn), roots })))
    }

    /// It is `now`: the time of the events to come.
    #[inline]
    pub fn tick(&self, now: Instant) {
        if let Some(writer) = &self.0 {
            writer.time.tick(now);
        }
    }

    /// The time that an event would get: nanoseconds since 1970, 0 for a tracer of nothing.
    pub fn timestamp_now(&self) -> u64 {
        self.0.as_ref().map_or(0, |writer| writer.time.now())
    }

    /// The number that the next event gets.
    pub fn next_sequence(&self) -> u64 {
        self.0.as_ref().map_or(0, |writer| writer.log.next())
    }

    /// Whether events of this class are recorded now.
    #[inline(always)]
    pub fn wants(&self, class: Class) -> bool {
        self.0.as_ref().is_some_and(|writer| writer.log.wants(class))
    }

    /// Records an event if its class is wanted and sampling does not drop it. Time and number are
    /// filled in.
    #[inline(always)]
    pub fn log(&self, event: Event) {
        let class = event.kind().map_or(Class::App, |kind| kind.class());
        if self.wants(class) {
            self.write(event);
        }
    }

    /// The same without asking for the class: the macros have.
    #[inline(always)]
    pub fn write(&self, mut event: Event) {
        // Here, where the flags are still those that stand in the source, this is a constant.
        let parts = event.parts();
        let Some(writer) = &self.0 else { return };
        if !writer.log.keeps(&event) {
            return;
        }
        event.timestamp = writer.time.now();
        event.sequence = writer.log.next();
        if writer.time.is_fine() {
            event.flags |= flags::FINE;
        }
        writer.log.write(&event, parts);
    }

    /// A number that no other span or message of this run has (but by chance in 2^64).
    pub fn draw(&self) -> u64 {
        let Some(writer) = &self.0 else { return 0 };
        let drawn = writer.drawn.get();
        writer.drawn.set(drawn + 1);
        mixed(writer.seed ^ mixed(drawn)).max(1)
    }

    /// A new trace, that begins with this piece of work.
    pub fn begin_trace(&self, what: SpanKind, number: u64) -> TraceContext {
        let Some(writer) = &self.0 else { return TraceContext::NONE };
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.draw().to_le_bytes());
        id[8..].copy_from_slice(&self.draw().to_le_bytes());
        let whose = if what == SpanKind::App { TraceFlags::APP } else { TraceFlags::NONE };
        let root = TraceContext::new(TraceId(id), 0, writer.choice(what).and(whose), 0);
        self.begin(&root, what, number)
    }

    /// A peer's request begins, with the name that the peer gave it; a new trace where that is none.
    /// Whether it is recorded is our own sampling's choice, not the peer's.
    pub fn begin_named(&self, label: &Label, what: SpanKind, number: u64) -> TraceContext {
        let Some(writer) = &self.0 else { return TraceContext::NONE };
        let named = label.context();
        if named.trace_id().is_none() {
            return self.begin_trace(what, number);
        }
        let flags = named.flags().and(writer.choice(what));
        let root = TraceContext::new(named.trace_id(), named.span(), flags, 0);
        self.begin(&root, what, number)
    }

    /// A piece of work begins within another one. Without a trace there is none afterwards either.
    pub fn begin(&self, parent: &TraceContext, what: SpanKind, number: u64) -> TraceContext {
        if self.0.is_none() || parent.trace_id().is_none() {
            return TraceContext::NONE;
        }
        let context = parent.child(self.draw(), self.timestamp_now());
        if self.wants(Class::Span) {
            let (what, parent) = (what as u16, parent.span());
            let data = EventData::SpanBegin { what, parent, number };
            self.write(Event::new(data).of(&context).flagged(flags::BEGIN));
        }
        context
    }

    /// A piece of work ends.
    pub fn end(&self, context: &TraceContext, what: SpanKind, outcome: Outcome, bytes: u64) {
        if !context.trace_id().is_none() && self.wants(Class::Span) {
            let data = EventData::SpanEnd { what: what as u16, bytes };
            let error = if outcome == Outcome::Failed { flags::ERROR } else { 0 };
            self.write(Event::new(data).of(context).flagged(flags::END | error));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.log.release(self.drawn.get());
    }
}

impl Writer {
    fn choice(&self, what: SpanKind) -> TraceFlags {
        if self.chooses(what) { TraceFlags::SAMPLED } else { TraceFlags::NONE }
    }

    /// Head sampling: whether this trace is one of those that are recorded.
    fn chooses(&self, what: SpanKind) -> bool {
        if !TraceConfig::SAMPLES {
            return true;
        }
        let kinds = self.roots.iter().zip(self.log.sampling().one_in);
        let place = SpanKind::ALL.into_iter().zip(kinds).find(|(kind, _)| *kind == what);
        let Some((_, (count, one_in))) = place else { return true };
        let seen = count.get();
        count.set(seen.wrapping_add(1));
        one_in != 0 && seen % one_in == 0
    }
}

/// SplitMix64's mixer (Steele, Lea, Flood 2014): a bijection, so different numbers stay different.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
