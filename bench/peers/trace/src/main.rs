//! Other recorders beside ours, measured the way `pangea-bench trace` measures: `tracing` with a
//! subscriber that does the least a recorder can (fields into a ring that is there already),
//! `tracing` with nobody listening, and `fastrace` with a reporter that drops everything. One
//! thread, on core 0; what `fastrace`'s own collecting thread does is in none of the figures.
//!
//! `peer-trace SECONDS` prints a JSON object for each row: `what`, `ring` (events; 0: none), `ns`
//! per event; for an event inside other work also which `work`, what that takes
//! `alone` and what the event `adds`.

use std::borrow::Cow;
use std::cell::Cell;
use std::error::Error;
use std::fmt::Debug;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrace::collector::{Config, Reporter, SpanContext, SpanRecord};
use fastrace::local::LocalSpan;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Level, Metadata, Subscriber};

type Outcome<T> = Result<T, Box<dyn Error>>;

const CORE: usize = 0;

// As in pangea-bench.
const BATCH: u64 = 1024;
const TURN: u64 = 64;
const SMALL: usize = 4096;
const LARGE: usize = 65_536;
const WARM_UP: u64 = LARGE as u64;
const CONTEXTS: usize = 64;
const WAITING: usize = 1;
const FULL: usize = 5;

const fn steps(chains: usize) -> usize {
    if chains == WAITING { 10 } else { 7 }
}

/// After so many batches `fastrace`'s collector is made to catch up, outside the measurement: it
/// would keep everything in memory else.
const CATCH_UP: usize = 16;

const WORDS: usize = 16;

fn main() -> Outcome<()> {
    let usage = "usage: peer-trace SECONDS";
    let seconds: f64 = std::env::args().nth(1).ok_or(usage)?.parse().map_err(|_| usage)?;
    // Before this thread is pinned: the collector's thread takes any core.
    fastrace::set_reporter(Drops, Config::default().report_interval(Duration::from_millis(100)));
    core_affinity::set_for_current(core_affinity::CoreId { id: CORE });
    // In this order: once there is a subscriber, it stays.
    references(seconds);
    with_fastrace(seconds);
    row("tracing 0.1, no subscriber", 0, loops(seconds, packet));
    inside_rows("tracing 0.1, no subscriber", seconds);
    let recorder = Arc::new(Recorder::new());
    tracing::subscriber::set_global_default(recorder.clone())?;
    for ring in [SMALL, LARGE] {
        with_tracing(&recorder, ring, seconds);
    }
    Ok(())
}

fn row(what: &str, ring: usize, nanos: f64) {
    println!(r#"{{"what":"{what}","ring":{ring},"ns":{nanos:.3}}}"#);
}

/// An event inside other work.
fn inside_rows(what: &str, seconds: f64) {
    let print = |work: &str, [alone, with, adds]: [f64; 3]| {
        let times = format!(r#""alone":{alone:.3},"ns":{with:.3},"adds":{adds:.3}"#);
        println!(r#"{{"work":"{work}","what":"{what}",{times}}}"#);
    };
    let mut alone = inside::<WAITING>(|_, _, _| {});
    print("work that waits", paired(seconds, &mut alone, &mut inside::<WAITING>(packet)));
    let mut alone = inside::<FULL>(|_, _, _| {});
    print("work that fills", paired(seconds, &mut alone, &mut inside::<FULL>(packet)));
}

/// Nanoseconds of the one, of the other and of what the other takes more, batch by batch in turn.
fn paired(seconds: f64, alone: &mut dyn FnMut(u64), with: &mut dyn FnMut(u64)) -> [f64; 3] {
    (0..WARM_UP).step_by(BATCH as usize).for_each(&mut *with);
    let timed = |work: &mut dyn FnMut(u64), first: u64| {
        let began = Instant::now();
        work(first);
        began.elapsed().as_nanos() as f64 / BATCH as f64
    };
    let (start, mut batches) = (Instant::now(), Vec::new());
    while start.elapsed().as_secs_f64() < seconds {
        let first = batches.len() as u64 * BATCH;
        let (one, other) = (timed(alone, first), timed(with, first));
        batches.push([one, other, other - one]);
    }
    std::array::from_fn(|at| median(batches.iter().map(|batch| batch[at]).collect()))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Nanoseconds per event, the median over the batches of about `seconds`.
fn sample(seconds: f64, work: &mut dyn FnMut(u64)) -> f64 {
    for first in (0..WARM_UP).step_by(BATCH as usize) {
        work(first);
    }
    fastrace::flush();
    let (start, mut batches) = (Instant::now(), Vec::new());
    while start.elapsed().as_secs_f64() < seconds {
        let first = batches.len() as u64 * BATCH;
        let began = Instant::now();
        work(first);
        batches.push(began.elapsed().as_nanos() as f64 / BATCH as f64);
        if batches.len().is_multiple_of(CATCH_UP) {
            fastrace::flush();
        }
    }
    median(batches)
}

/// Which trace and which span in it.
#[derive(Clone, Copy)]
struct Context {
    trace: u128,
    span: u64,
}

fn contexts() -> [Context; CONTEXTS] {
    std::array::from_fn(|n| Context { trace: u128::MAX / (n as u128 + 2), span: n as u64 + 1 })
}

/// Each number with a context and a value, and nothing else.
fn loops(seconds: f64, each: impl Fn(&Context, u64, u64)) -> f64 {
    let contexts = contexts();
    let mut work = |first| {
        for n in first..first + BATCH {
            each(black_box(&contexts[n as usize % CONTEXTS]), n, n ^ 0x5555);
        }
    };
    sample(seconds, &mut work)
}

/// The same inside the work that `pangea-bench` takes.
fn inside<const CHAINS: usize>(each: impl Fn(&Context, u64, u64)) -> impl FnMut(u64) {
    let (contexts, last) = (contexts(), Cell::new(std::array::from_fn(|n| n as u64 + 1)));
    move |first| {
        let mut values: [u64; CHAINS] = last.get();
        for n in first..first + BATCH {
            for _ in 0..const { steps(CHAINS) } {
                for value in &mut values {
                    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
                    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                    *value = z ^ (z >> 31);
                }
            }
            let value = values.iter().fold(0, |all, value| all ^ value);
            each(black_box(&contexts[n as usize % CONTEXTS]), n, black_box(value));
        }
        last.set(black_box(values));
    }
}

/// Two cache lines of its own.
#[repr(align(128))]
struct Slot([u64; WORDS]);

/// The limit, as in `pangea-bench`, and the bare time stamp counter.
fn references(seconds: f64) {
    let mut slots: Vec<Slot> = (0..SMALL).map(|_| Slot([0; WORDS])).collect();
    let mut store = |first: u64| {
        for turn in (first..first + BATCH).step_by(TURN as usize) {
            let slots = black_box(&mut slots[..]);
            for n in turn..turn + TURN {
                let at = n as usize & (slots.len() - 1);
                if let Some(Slot(words)) = slots.get_mut(at) {
                    *words = [n; WORDS];
                }
            }
        }
    };
    row("bare store of 128 bytes, in the rivals' process", SMALL, sample(seconds, &mut store));
    let mut count = |_| {
        for _ in 0..BATCH {
            black_box(fastant::Instant::now());
        }
    };
    row("time: rdtsc and nothing else (fastant)", 0, sample(seconds, &mut count));
}

#[inline(always)]
fn packet(context: &Context, n: u64, value: u64) {
    tracing::event!(
        Level::TRACE,
        trace = context.trace,
        span = context.span,
        size = value as u32,
        packet_num = n,
        datagrams = 10u16,
        conn = value as u32 & 7,
        "PacketSent"
    );
}

#[inline(always)]
fn span(context: &Context, n: u64, _: u64) {
    let span = tracing::span!(Level::TRACE, "shard", trace = context.trace, number = n);
    let _within = span.enter();
}

/// `tracing`'s rows with a ring of this size.
fn with_tracing(recorder: &Recorder, ring: usize, seconds: f64) {
    recorder.mask.store(ring as u64 - 1, Ordering::Relaxed);
    recorder.fine.store(false, Ordering::Relaxed);
    row("tracing 0.1, ring, tick: PacketSent", ring, loops(seconds, packet));
    if ring == SMALL {
        row("tracing 0.1, ring, tick: a span", ring, loops(seconds, span));
        let what = "tracing 0.1, tick, ring of 4096";
        inside_rows(what, seconds);
    }
    recorder.fine.store(true, Ordering::Relaxed);
    row("tracing 0.1, ring, fine: PacketSent", ring, loops(seconds, packet));
    if ring == SMALL {
        let what = "tracing 0.1, fine, ring of 4096";
        inside_rows(what, seconds);
    }
}

/// A ring that one thread writes: no allocation and no lock, and the time of an event read from the
/// time stamp counter or not at all.
struct Recorder {
    slots: Box<[AtomicSlot]>,
    /// How many of them are used, less one.
    mask: AtomicU64,
    head: AtomicU64,
    tick: AtomicU64,
    fine: AtomicBool,
    spans: AtomicU64,
    anchor: fastant::Instant,
}

/// As [`Slot`], for a ring that a reader could look into.
#[repr(align(128))]
struct AtomicSlot([AtomicU64; WORDS]);

impl Recorder {
    fn new() -> Recorder {
        let slot = |_| AtomicSlot(std::array::from_fn(|_| AtomicU64::new(0)));
        Recorder {
            slots: (0..LARGE).map(slot).collect(),
            mask: AtomicU64::new(0),
            head: AtomicU64::new(0),
            tick: AtomicU64::new(1_800_000_000_000_000_000),
            fine: AtomicBool::new(false),
            spans: AtomicU64::new(1),
            anchor: fastant::Instant::now(),
        }
    }

    #[inline(always)]
    fn store(&self, metadata: &'static Metadata<'static>, span: u64, mut fields: Fields) {
        let number = self.head.load(Ordering::Relaxed);
        let fine = self.fine.load(Ordering::Relaxed);
        let since = if fine { self.anchor.elapsed().as_nanos() as u64 } else { 0 };
        fields.words[0] = self.tick.load(Ordering::Relaxed) + since;
        fields.words[1] = number;
        fields.words[2] = std::ptr::from_ref(metadata).addr() as u64;
        fields.words[3] = span;
        let at = (number & self.mask.load(Ordering::Relaxed)) as usize;
        if let Some(AtomicSlot(words)) = self.slots.get(at) {
            let places = words.iter().zip(fields.words);
            places.for_each(|(place, word)| place.store(word, Ordering::Relaxed));
        }
        self.head.store(number + 1, Ordering::Release);
    }
}

impl Subscriber for Recorder {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::always()
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.spans.load(Ordering::Relaxed);
        self.spans.store(id + 1, Ordering::Relaxed);
        let mut fields = Fields::new();
        span.record(&mut fields);
        self.store(span.metadata(), id, fields);
        Id::from_u64(id)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields::new();
        event.record(&mut fields);
        self.store(event.metadata(), 0, fields);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}

    // A span's end is an event too.
    fn try_close(&self, span: Id) -> bool {
        self.store(END, span.into_u64(), Fields::new());
        true
    }
}

/// What the end of a span is recorded as: any metadata will do.
static END: &Metadata<'static> = &END_METADATA;

static END_METADATA: Metadata<'static> = tracing::metadata! {
    name: "end",
    target: "peer",
    level: Level::TRACE,
    fields: &[],
    callsite: &END_CALLSITE,
    kind: tracing::metadata::Kind::SPAN,
};

static END_CALLSITE: EndCallsite = EndCallsite;

struct EndCallsite;

impl tracing::Callsite for EndCallsite {
    fn set_interest(&self, _: Interest) {}

    fn metadata(&self) -> &Metadata<'_> {
        END
    }
}

/// Numbers as they come, behind time, number, kind and span.
struct Fields {
    words: [u64; WORDS],
    next: usize,
}

impl Fields {
    #[inline(always)]
    fn new() -> Fields {
        Fields { words: [0; WORDS], next: 4 }
    }

    #[inline(always)]
    fn push(&mut self, word: u64) {
        if let Some(place) = self.words.get_mut(self.next) {
            *place = word;
            self.next += 1;
        }
    }
}

impl Visit for Fields {
    #[inline(always)]
    fn record_u64(&mut self, _: &Field, value: u64) {
        self.push(value);
    }

    #[inline(always)]
    fn record_u128(&mut self, _: &Field, value: u128) {
        self.push(value as u64);
        self.push((value >> 64) as u64);
    }

    // The message, which the kind says already.
    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

/// A reporter that drops everything.
struct Drops;

impl Reporter for Drops {
    fn report(&mut self, spans: Vec<SpanRecord>) {
        black_box(spans);
    }
}

/// A batch is one trace: its root and what is handed to the collector are in the figures.
fn under_root(each: impl Fn(u64)) -> impl FnMut(u64) {
    move |first| {
        let root = fastrace::Span::root("batch", SpanContext::random());
        let _parent = root.set_local_parent();
        (first..first + BATCH).for_each(&each);
    }
}

fn with_fastrace(seconds: f64) {
    let bare = |_| LocalSpan::add_event(fastrace::Event::new("PacketSent"));
    let named = |n: u64| {
        let property = |name: &'static str, value: u64| (name, Cow::from(value.to_string()));
        let properties = || [property("size", n ^ 0x5555), property("packet_num", n)];
        LocalSpan::add_event(fastrace::Event::new("PacketSent").with_properties(properties));
    };
    let span = |_| drop(LocalSpan::enter_with_local_parent("shard"));
    row("fastrace 0.7: an event, no fields", 0, sample(seconds, &mut under_root(bare)));
    row("fastrace 0.7: an event, two fields", 0, sample(seconds, &mut under_root(named)));
    row("fastrace 0.7: a span, no fields", 0, sample(seconds, &mut under_root(span)));
    let mut nowhere = |first: u64| (first..first + BATCH).for_each(bare);
    row("fastrace 0.7: an event outside any trace", 0, sample(seconds, &mut nowhere));
}
