//! What an event costs the core that records it: nanoseconds, the median of five runs. The limit is
//! 128 bytes written into the same memory by the simplest loop. A ring of 128 events fits into the
//! first level of a processor's cache, the small ring (`trace-minimal`) into the second, the usual
//! one into the third.
//!
//! ```text
//! cargo run --release -p pangea-trace --features trace --example cost
//! ```

#[cfg(not(feature = "trace"))]
fn main() {
    println!("this build records nothing, and that costs nothing: see the example hot");
}

#[cfg(feature = "trace")]
fn main() {
    println!("ns per event{:>32}{:>10}{:>10}", "ring: 128", "4096", "65536");
    for (name, run) in cost::RUNS {
        let [tiny, small, large] = [128, 4096, 65_536].map(|events| cost::median(|| run(events)));
        println!("{name:<34}{tiny:>10.2}{small:>10.2}{large:>10.2}");
    }
}

#[cfg(feature = "trace")]
mod cost {
    use std::hint::black_box;
    use std::time::Instant;

    use pangea_base::{CoreId, PeerId};
    use pangea_trace::{
        Class, Clock, EventLog, LogConfig, Outcome, Sampling, SpanKind, TraceContext, Tracer,
        trace_event,
    };

    const EVENTS: u64 = 2_000_000;

    type Run = fn(usize) -> f64;

    pub const RUNS: [(&str, Run); 10] = [
        ("128 bytes, nothing else", bare),
        ("tick, 3 numbers", |events| numbers(events, Clock::Tick)),
        ("tick, 4 numbers, about a peer", |events| peer(events, Clock::Tick)),
        ("tick, 5 numbers of odd sizes", |events| odd(events, Clock::Tick)),
        ("tick, 39 bytes of text", |events| text(events, Clock::Tick)),
        ("tick, begin and end of a span", |events| span(events, Clock::Tick)),
        ("fine, 3 numbers", |events| numbers(events, Clock::Fine)),
        ("fine, 4 numbers, about a peer", |events| peer(events, Clock::Fine)),
        ("class turned off", off),
        ("tracer of nothing", nothing),
    ];

    pub fn median(run: impl Fn() -> f64) -> f64 {
        let mut times: Vec<f64> = (0..5).map(|_| run()).collect();
        times.sort_by(f64::total_cmp);
        times[2]
    }

    fn log(events: usize, clock: Clock) -> EventLog {
        EventLog::start(|| LogConfig {
            node: PeerId([7; 32]),
            core: CoreId(0),
            seed: [1, 2],
            anchor: Instant::now(),
            anchor_nanos: 1_700_000_000_000_000_000,
            clock,
            sampling: Sampling::ALL,
            events,
        })
    }

    // One round through the ring first, so that its memory is there.
    fn timed(events: usize, mut record: impl FnMut(u64)) -> f64 {
        (0..events as u64).for_each(&mut record);
        let began = Instant::now();
        (0..EVENTS).for_each(&mut record);
        began.elapsed().as_nanos() as f64 / EVENTS as f64
    }

    #[repr(align(128))]
    #[derive(Clone, Copy)]
    struct Record(#[allow(dead_code)] [u64; 16]);

    fn bare(events: usize) -> f64 {
        let mut ring = vec![Record([1; 16]); events];
        timed(events, |number| {
            ring[number as usize & (events - 1)] = Record([number; 16]);
            black_box(&mut ring);
        })
    }

    fn context(tracer: &Tracer) -> TraceContext {
        tracer.begin_trace(SpanKind::Put, 1)
    }

    fn numbers(events: usize, clock: Clock) -> f64 {
        let log = log(events, clock);
        let tracer = black_box(log.tracer().unwrap());
        let context = black_box(context(&tracer));
        timed(events, |chunk| {
            trace_event!(tracer, &context, SegmentSealed { chunk, plain: 131_072, done: chunk });
        })
    }

    fn peer(events: usize, clock: Clock) -> f64 {
        let log = log(events, clock);
        let tracer = black_box(log.tracer().unwrap());
        let context = black_box(context(&tracer));
        let peer = black_box(PeerId([9; 32]));
        timed(events, |packet_num| {
            let size = packet_num as u32;
            trace_event!(
                tracer,
                &context,
                &peer,
                PacketSent { size, packet_num, datagrams: 1, conn: 3 }
            );
        })
    }

    fn odd(events: usize, clock: Clock) -> f64 {
        let log = log(events, clock);
        let tracer = black_box(log.tracer().unwrap());
        let context = black_box(context(&tracer));
        timed(events, |stream_id| {
            let (offset, length, fin, conn) = (stream_id, stream_id as u32, 1, 3);
            trace_event!(tracer, &context, StreamData { stream_id, offset, length, fin, conn });
        })
    }

    fn text(events: usize, clock: Clock) -> f64 {
        let log = log(events, clock);
        let tracer = black_box(log.tracer().unwrap());
        let context = black_box(context(&tracer));
        let reason = black_box([b'x'; 39]);
        timed(events, |chunk| {
            trace_event!(tracer, &context, HolderFailed { chunk, index: 1, reason });
        })
    }

    // Two events: half of it is one.
    fn span(events: usize, clock: Clock) -> f64 {
        let log = log(events, clock);
        let tracer = black_box(log.tracer().unwrap());
        let parent = black_box(context(&tracer));
        let both = timed(events, |number| {
            let context = tracer.begin(&parent, SpanKind::Ask, number);
            tracer.end(&context, SpanKind::Ask, Outcome::Done, number);
        });
        both / 2.0
    }

    fn off(events: usize) -> f64 {
        let log = log(events, Clock::Tick);
        log.record_only(&[Class::Span]);
        let tracer = black_box(log.tracer().unwrap());
        let context = black_box(context(&tracer));
        timed(events, |chunk| {
            trace_event!(tracer, &context, SegmentSealed { chunk, plain: 131_072, done: chunk });
        })
    }

    fn nothing(events: usize) -> f64 {
        let tracer = black_box(Tracer::none());
        let context = black_box(context(&tracer));
        timed(events, |chunk| {
            let chunk = black_box(chunk);
            trace_event!(tracer, &context, SegmentSealed { chunk, plain: 131_072, done: chunk });
        })
    }
}
