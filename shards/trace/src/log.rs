//! One core's recorder, as everybody sees it: what it is, what it takes, what it has.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use pangea_base::{CoreId, PeerId};

use crate::clock::{Clock, Time};
use crate::context::{SpanKind, TraceId};
use crate::event::{Event, flags};
use crate::events::{Class, EventData};
use crate::ring::{Found, Ring};
use crate::sync::{AtomicU64, Ordering};
use crate::tracer::Tracer;

/// What is fixed when the program is built.
pub struct TraceConfig;

impl TraceConfig {
    /// Events that a core's ring keeps: 8 MiB of them, or 512 KiB with `trace-minimal`.
    pub const BUFFER_EVENTS: usize = if cfg!(feature = "trace-minimal") { 4096 } else { 65_536 };
    /// Whether roots of traces are sampled.
    pub const SAMPLES: bool = cfg!(feature = "trace-sample");
    /// Whether an index can be made of a snapshot.
    pub const ENABLE_INDICES: bool = cfg!(feature = "trace-index");
}

/// One trace in how many is recorded, by the kind of its first piece of work; with what becomes of
/// the others. Only with the feature `trace-sample`; without it every trace is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    /// For each [`SpanKind`], in the order of [`SpanKind::ALL`]: one in so many; 0: none.
    pub one_in: [u32; SpanKind::ALL.len()],
    /// Record the others too, to be dropped by the reader unless something in them failed. Without
    /// it only their errors are recorded.
    pub keep_on_error: bool,
}

impl Sampling {
    /// Every trace.
    pub const ALL: Sampling = Sampling { one_in: [1; SpanKind::ALL.len()], keep_on_error: false };

    /// One in `n` of every kind.
    pub const fn one_in(n: u32) -> Sampling {
        Sampling { one_in: [n; SpanKind::ALL.len()], keep_on_error: false }
    }
}

/// What a recorder is made of.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// Whose it is.
    pub node: PeerId,
    /// Which core's; one past the last is control's.
    pub core: CoreId,
    /// What the numbers of spans and traces are drawn from; another one for every core and run.
    pub seed: [u64; 2],
    /// A moment, on the monotonic clock
    pub anchor: Instant,
    /// and in nanoseconds since 1970.
    pub anchor_nanos: u64,
    /// Where events' time comes from.
    pub clock: Clock,
    /// Which traces are recorded.
    pub sampling: Sampling,
    /// Events kept, a power of two; [`TraceConfig::BUFFER_EVENTS`] unless it is a test.
    pub events: usize,
}

/// A core's recorder. A handle: copies are the same recorder, and any thread may read from it.
#[derive(Clone)]
pub struct EventLog(Arc<Inner>);

struct Inner {
    config: LogConfig,
    ring: Ring,
    // Bits of the classes that are recorded.
    classes: AtomicU64,
    // 1 while somebody writes.
    writers: AtomicU64,
    // Numbers drawn by the writers before.
    drawn: AtomicU64,
}

impl EventLog {
    /// A recorder, on. Takes its memory now, and no more ever. (A closure, so that compiled out
    /// nothing is worked out for it.)
    pub fn start(config: impl FnOnce() -> LogConfig) -> EventLog {
        let config = config();
        EventLog(Arc::new(Inner {
            ring: Ring::new(config.events),
            config,
            classes: AtomicU64::new(u64::MAX),
            writers: AtomicU64::new(0),
            drawn: AtomicU64::new(0),
        }))
    }

    /// The one writer, for the thread that calls; `None` while somebody has it. When it and its
    /// copies are dropped, another thread may have it.
    pub fn tracer(&self) -> Option<Tracer> {
        // Acquire: what the writer before wrote comes before what the next one writes.
        let taken = self.0.writers.swap(1, Ordering::Acquire);
        (taken == 0).then(|| Tracer::new(self.clone(), self.0.drawn.load(Ordering::Relaxed)))
    }

    /// The writer is gone, having drawn so many numbers.
    pub(crate) fn release(&self, drawn: u64) {
        self.0.drawn.store(drawn, Ordering::Relaxed);
        self.0.writers.store(0, Ordering::Release);
    }

    /// Whose it is.
    pub fn node(&self) -> PeerId {
        self.0.config.node
    }

    /// Which core's.
    pub fn core(&self) -> CoreId {
        self.0.config.core
    }

    /// When it began, nanoseconds since 1970.
    pub fn started(&self) -> u64 {
        self.0.config.anchor_nanos
    }

    /// Records these classes from now on, and no others: also while it runs. Costs the writer one
    /// relaxed load an event.
    pub fn record_only(&self, classes: &[Class]) {
        let bits = classes.iter().fold(0, |bits, class| bits | class.bit());
        self.0.classes.store(bits, Ordering::Relaxed);
    }

    /// Which classes are recorded.
    pub fn recorded(&self) -> Vec<Class> {
        let bits = self.0.classes.load(Ordering::Relaxed);
        Class::ALL.into_iter().filter(|class| bits & class.bit() != 0).collect()
    }

    /// How many events were ever recorded.
    pub fn head(&self) -> u64 {
        self.0.ring.head()
    }

    /// How many are kept.
    pub fn capacity(&self) -> u64 {
        self.0.ring.capacity()
    }

    /// Appends the events from number `next` on, oldest first and at most `limit`, and moves `next`
    /// behind them. What was overwritten before it was read is told as one [`EventData::Gap`].
    /// Never disturbs the writer.
    pub fn read(&self, next: &mut u64, limit: usize, events: &mut Vec<Event>) {
        let ring = &self.0.ring;
        let (end, mut lost) = (events.len().saturating_add(limit), 0);
        while events.len() < end {
            let oldest = ring.head().saturating_sub(ring.capacity());
            if *next < oldest {
                lost += oldest - *next;
                *next = oldest;
            }
            match ring.read(*next) {
                Found::NotYet => break,
                // The writer is right behind us: jump ahead of it. (The stamp may be seen before
                // the head that was stored before it.)
                Found::Overwritten => {
                    let ahead = ring.head().saturating_sub(ring.capacity() * 3 / 4).max(*next + 1);
                    lost += ahead - *next;
                    *next = ahead;
                }
                Found::Record(words) => {
                    let event = self.event(&words);
                    if lost > 0 {
                        let data = EventData::Gap { lost: std::mem::take(&mut lost) };
                        let Event { timestamp, sequence, core, .. } = event;
                        events.push(Event { timestamp, sequence, core, ..Event::new(data) });
                        if events.len() >= end {
                            break;
                        }
                    }
                    events.push(event);
                    *next += 1;
                }
            }
        }
        // Not told yet: it is told the next time.
        *next -= lost.min(*next);
    }

    /// All that is kept, oldest first.
    pub fn snapshot(&self) -> Vec<Event> {
        let (mut events, mut next) = (Vec::new(), self.head().saturating_sub(self.capacity()));
        self.read(&mut next, self.0.ring.capacity() as usize + 1, &mut events);
        events
    }

    #[cfg(not(loom))]
    fn event(&self, words: &crate::ring::Words) -> Event {
        let event = Event { core: u16::from(self.0.config.core.0), ..Event::from_words(words) };
        event.cleaned()
    }

    #[cfg(loom)]
    fn event(&self, words: &crate::ring::Words) -> Event {
        Event { timestamp: words[0], sequence: words[1], ..Event::default() }
    }

    #[inline(always)]
    pub(crate) fn wants(&self, class: Class) -> bool {
        self.0.classes.load(Ordering::Relaxed) & class.bit() != 0
    }

    /// Whether this event is recorded although its trace was not chosen.
    #[inline(always)]
    pub(crate) fn keeps(&self, event: &Event) -> bool {
        if !TraceConfig::SAMPLES {
            return true;
        }
        event.has(flags::SAMPLED | flags::DEBUG | flags::ERROR)
            || event.trace_id == TraceId::NONE
            || self.0.config.sampling.keep_on_error
    }

    /// The number that the writer's next event gets.
    #[inline(always)]
    pub(crate) fn next(&self) -> u64 {
        self.0.ring.next()
    }

    pub(crate) fn sampling(&self) -> &Sampling {
        &self.0.config.sampling
    }

    pub(crate) fn seed(&self) -> [u64; 2] {
        self.0.config.seed
    }

    pub(crate) fn time(&self) -> Time {
        let LogConfig { clock, anchor, anchor_nanos, .. } = self.0.config;
        Time::new(clock, anchor, anchor_nanos)
    }

    #[inline(always)]
    #[cfg(not(loom))]
    pub(crate) fn write(&self, event: &Event, parts: u16) {
        self.0.ring.write(event.sequence, &event.to_words(), parts);
    }

    #[cfg(loom)]
    pub(crate) fn write(&self, event: &Event, _: u16) {
        self.0.ring.write(
            event.sequence,
            &[event.timestamp, event.sequence, event.timestamp],
            u16::MAX,
        );
    }
}

impl fmt::Debug for EventLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (core, head) = (self.core().0, self.head());
        f.debug_struct("EventLog").field("core", &core).field("head", &head).finish()
    }
}
