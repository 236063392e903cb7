//! What recording takes from the allocator: nothing, once the recorder is there. And without the
//! feature `trace`, nothing at all, and what stands in the macros is not worked out.
#![cfg(not(loom))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use pangea_trace::{
    AppData, AppProtocol, AppRegistry, Event, EventData, Outcome, SpanKind, TraceContext, Tracer,
    app_data, if_trace, trace_event, trace_value,
};

/// Counts what its thread asks for.
struct Counting;

thread_local! {
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more, and nobody looks at it.
    let _ = ASKED.try_with(|asked| asked.set(asked.get() + 1));
}

// SAFETY: everything is the system's allocator, and counting touches no memory of the heap.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: what the caller promises is passed on.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: what the caller promises is passed on.
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count();
        // SAFETY: as promised by the caller; `place` came from the system's allocator.
        unsafe { System.dealloc(place, layout) }
    }

    // SAFETY: what the caller promises is passed on.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as promised by the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    // SAFETY: what the caller promises is passed on.
    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as promised by the caller; `place` came from the system's allocator.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often this thread asked the allocator for something meanwhile.
fn asked(work: impl FnOnce()) -> u64 {
    let before = ASKED.get();
    work();
    ASKED.get() - before
}

struct Echo;

impl AppProtocol for Echo {
    const APP_ID: [u8; 4] = *b"ECHO";

    fn to_trace_data(&self, _: u16, payload: &[u8]) -> AppData {
        app_data(payload, 42)
    }

    fn describe_command(_: u16) -> &'static str {
        "ECHO"
    }
}

/// Everything that is recorded in a round; `evaluated` counts the arguments that were worked out.
fn record(tracer: &Tracer, apps: &AppRegistry, round: u64, evaluated: &Cell<u64>) {
    let seen = |number: u64| {
        evaluated.set(evaluated.get() + 1);
        number
    };
    let root: TraceContext = trace_value!(tracer.begin_trace(SpanKind::Put, seen(round)));
    let span: TraceContext = trace_value!(tracer.begin(&root, SpanKind::Ask, seen(round)));
    trace_event!(tracer, &span, SegmentOpened { chunk: seen(round), plain: 1, offset: 0 });
    trace_event!(tracer, Event::new(EventData::MeshSent { to: 1, hop: seen(round) }));
    if_trace! {
        tracer.end(&span, SpanKind::Ask, Outcome::Done, seen(round));
        tracer.end(&root, SpanKind::Put, Outcome::Failed, 0);
    }
    apps.start(tracer, Echo::APP_ID, 1, b"echo", Some(&root)).finish(Outcome::Done);
}

#[test]
fn the_counter_counts() {
    assert_eq!(asked(|| drop(std::hint::black_box(Box::new(1)))), 2);
    assert_eq!(asked(|| ()), 0);
}

#[cfg(not(feature = "trace"))]
#[test]
fn compiled_out_nothing_is_taken_and_nothing_is_worked_out() {
    let (tracer, evaluated) = (Tracer::none(), Cell::new(0));
    let mut apps = AppRegistry::new();
    apps.register(Echo);
    let rounds = || (0..100_000).for_each(|round| record(&tracer, &apps, round, &evaluated));
    assert_eq!(asked(rounds), 0);
    assert_eq!(evaluated.get(), 0);
}

#[cfg(feature = "trace")]
#[test]
fn a_million_events_take_nothing_from_the_allocator() {
    use std::time::Instant;

    use pangea_base::{CoreId, PeerId};
    use pangea_trace::{Clock, EventLog, LogConfig, Sampling};

    for clock in [Clock::Tick, Clock::Fine] {
        let log = EventLog::start(|| LogConfig {
            node: PeerId([7; 32]),
            core: CoreId(0),
            seed: [1, 2],
            anchor: Instant::now(),
            anchor_nanos: 0,
            clock,
            sampling: Sampling::ALL,
            events: 256,
        });
        let (tracer, evaluated) = (log.tracer().unwrap(), Cell::new(0));
        let mut apps = AppRegistry::new();
        apps.register(Echo);
        let rounds = || {
            for round in 0..160_000 {
                tracer.tick(Instant::now());
                record(&tracer, &apps, round, &evaluated);
            }
        };
        assert_eq!(asked(rounds), 0);
        assert_eq!(evaluated.get(), 5 * 160_000);
        assert!(log.head() >= 960_000, "{}", log.head());
        let (mut next, mut events) = (0, Vec::with_capacity(64));
        let reads = || {
            while next < log.head() {
                events.clear();
                log.read(&mut next, 64, &mut events);
            }
        };
        assert_eq!(asked(reads), 0);
        assert!(!events.is_empty());
    }
}
