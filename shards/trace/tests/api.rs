//! The recording interface as traced code uses it. This file is the same in a build that records
//! and in one that does not, so that neither can lose a name.
#![cfg(not(loom))]

use std::net::SocketAddr;
use std::time::Instant;

use pangea_base::{CoreId, PeerId};
use pangea_trace::{
    AppData, AppProtocol, AppRegistry, Class, Command, ConnTrace, ENABLED, Event, EventData,
    EventLog, Hop, Inflight, Kind, Label, Outcome, Redaction, SpanKind, TraceContext, TraceFlags,
    TraceId, Tracer, Train, app_data, flags, if_trace, trace_event, trace_packet_lost,
    trace_packet_received, trace_packet_sent, trace_value, words,
};

#[cfg(feature = "trace")]
fn log() -> EventLog {
    EventLog::start(|| pangea_trace::LogConfig {
        node: PeerId([7; 32]),
        core: CoreId(0),
        seed: [1, 2],
        anchor: Instant::now(),
        anchor_nanos: 1,
        clock: pangea_trace::Clock::Tick,
        sampling: pangea_trace::Sampling::ALL,
        events: 256,
    })
}

#[cfg(not(feature = "trace"))]
fn log() -> EventLog {
    EventLog::start(|| -> () { panic!("compiled out, nothing is worked out for a recorder") })
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

/// Macros in every position that they may have, also as expressions.
fn macros(tracer: &Tracer, context: &TraceContext) {
    let (peer, from) = (PeerId([1; 32]), SocketAddr::from(([127, 0, 0, 1], 80)));
    trace_event!(tracer, context, LedgerAnswered { answer: 1 });
    trace_event!(tracer, context, &peer, StreamOpened { stream_id: 1, conn: 1 });
    trace_event!(tracer, Event::default());
    trace_event!(tracer, Event::with_trace_id(TraceId::new()));
    trace_event!(tracer, Event::app_start(*b"DMAP", 1, context.trace_id()));
    trace_event!(tracer, Event::app_end(*b"DMAP", 1, context.trace_id(), true));
    trace_packet_sent!(tracer, context.trace_id(), 1200, 7);
    trace_packet_received!(tracer, context.trace_id(), 1200, 7, from);
    trace_packet_lost!(tracer, context.trace_id(), 7);
    let reason = words("too slow");
    match tracer.wants(Class::Store) {
        true => trace_event!(tracer, context, HolderFailed { chunk: 1, index: 2, reason }),
        false => trace_event!(tracer, context, LedgerAnswered { answer: 2 }),
    }
    let nothing: () = trace_event!(tracer, context, MeshSent { to: 1, hop: 2 });
    let closure = || trace_event!(tracer, context, MeshReceived { from: 1, hop: 2 });
    [nothing, closure()].into_iter().for_each(drop);
    let mut ran = false;
    if_trace! {
        ran = true;
    }
    assert_eq!(ran, ENABLED);
    let value: u32 = trace_value!(5);
    assert_eq!(value, if ENABLED { 5 } else { 0 });
}

fn spans(tracer: &Tracer) -> TraceContext {
    tracer.tick(Instant::now());
    let root = tracer.begin_trace(SpanKind::Put, 1);
    let child = tracer.begin(&root, SpanKind::Ask, 2);
    tracer.end(&child, SpanKind::Ask, Outcome::Failed, 0);
    tracer.end(&root, SpanKind::Put, Outcome::Done, 10);
    tracer.log(Event::new(EventData::LedgerAnswered { answer: 0 }).of(&child));
    tracer.write(Event::default().with_peer(&PeerId([1; 32])).flagged(flags::ERROR));
    let _ = (tracer.draw(), tracer.next_sequence(), tracer.timestamp_now());
    let _ = (child.trace_id(), child.span(), child.flags(), child.start_time());
    child
}

fn carried(tracer: &Tracer, context: &TraceContext) {
    let hop: Hop = tracer.depart(context, CoreId(1));
    assert_eq!(tracer.arrive(&hop, CoreId(0)), *context);
    let mut traffic = ConnTrace::default();
    let train: Train = traffic.train(Some(PeerId([1; 32])), 1, 2400, Some(1200));
    tracer.train_sent(&train, 2400);
    tracer.train_failed(&train, 1200, 11);
    assert_eq!(traffic.lost(2, 100), if ENABLED { Some((0, 2, 100)) } else { None });
    traffic.agree();
    assert_eq!(traffic.is_labelled(), ENABLED);
    let mut files = Inflight::default();
    files.begin(tracer, 1, 2);
    let _ = files.end(tracer, 1);
    let label = Label::new(context).context();
    assert_eq!(label.trace_id(), context.trace_id());
    assert_eq!(label.flags().has(TraceFlags::REMOTE), ENABLED);
}

fn applications(tracer: &Tracer, context: &TraceContext) -> usize {
    let mut apps = AppRegistry::new();
    apps.register(Echo);
    apps.register_as(Echo, Redaction::Sensitive);
    let command: Command = apps.start(tracer, Echo::APP_ID, 1, b"short", Some(context));
    assert_eq!(command.context().trace_id(), context.trace_id());
    command.finish(Outcome::Done);
    apps.start(tracer, Echo::APP_ID, 1, &[], None).finish(&"1".parse::<u8>());
    let kept = cfg!(feature = "trace-app");
    assert_eq!(apps.get(Echo::APP_ID).is_some(), kept);
    assert_eq!(apps.describe(Echo::APP_ID, 1).is_some(), kept);
    size_of_val(&apps)
}

#[test]
fn traced_code_is_the_same_with_tracing_and_without() {
    let log = log();
    let tracers = [Tracer::none(), Tracer::default(), log.tracer().expect("the first one")];
    for tracer in &tracers {
        let context = spans(tracer);
        macros(tracer, &context);
        carried(tracer, if tracer.wants(Class::Mesh) { &context } else { &TraceContext::NONE });
        applications(tracer, &context);
    }
}

#[test]
fn kinds_are_known_in_every_build() {
    assert_eq!(Kind::from_number(70), Some(Kind::AppCommand));
    let data = EventData::Custom { category: 1, code: 2, data: [3; 44] };
    assert_eq!(Event::new(data).data(), Some(data));
}

#[cfg(not(feature = "trace"))]
#[test]
fn compiled_out_nothing_has_a_size_and_nothing_is_wanted() {
    let sizes = [
        size_of::<Tracer>(),
        size_of::<EventLog>(),
        size_of::<TraceContext>(),
        size_of::<Hop>(),
        size_of::<Train>(),
        size_of::<ConnTrace>(),
        size_of::<Inflight>(),
        size_of::<AppRegistry>(),
        size_of::<Command>(),
    ];
    assert_eq!(sizes, [0; 9]);
    let tracer = log().tracer().expect("as many as one likes");
    assert!(Class::ALL.into_iter().all(|class| !tracer.wants(class)));
    assert_eq!((tracer.draw(), tracer.next_sequence(), tracer.timestamp_now()), (0, 0, 0));
    assert_eq!(spans(&tracer), TraceContext::NONE);
    assert_eq!(applications(&tracer, &TraceContext::NONE), 0);
}

#[cfg(feature = "trace")]
#[test]
fn everything_that_traced_code_says_is_recorded() {
    let log = log();
    let tracer = log.tracer().expect("the first one");
    let context = spans(&tracer);
    macros(&tracer, &context);
    carried(&tracer, &context);
    applications(&tracer, &context);
    let commands = if cfg!(feature = "trace-app") { 8 } else { 0 };
    assert_eq!(log.head(), 6 + 12 + 4 + commands);
}
