//! Sampling: one trace in N by the kind of its first piece of work, and what becomes of the others.
#![cfg(all(feature = "trace-sample", not(loom)))]

use std::time::Instant;

use pangea_base::{CoreId, PeerId};
use pangea_trace::{
    Clock, Event, EventLog, Label, LogConfig, Outcome, Sampling, SpanKind, TraceContext,
    TraceFlags, TraceId, flags, trace_event, trace_packet_sent,
};

fn log(sampling: Sampling) -> EventLog {
    EventLog::start(|| LogConfig {
        node: PeerId([7; 32]),
        core: CoreId(0),
        seed: [1, 2],
        anchor: Instant::now(),
        anchor_nanos: 0,
        clock: Clock::Tick,
        sampling,
        events: 1024,
    })
}

/// Puts one in 3, gets none, everything else all.
fn by_kind() -> Sampling {
    let mut sampling = Sampling::ALL;
    for (one_in, kind) in sampling.one_in.iter_mut().zip(SpanKind::ALL) {
        *one_in = match kind {
            SpanKind::Put => 3,
            SpanKind::Get => 0,
            _ => 1,
        };
    }
    sampling
}

fn sampled(sampling: Sampling, kind: SpanKind, roots: usize) -> usize {
    let log = log(sampling);
    let tracer = log.tracer().unwrap();
    (0..roots)
        .map(|_| tracer.begin_trace(kind, 0))
        .filter(|context| context.flags().has(TraceFlags::SAMPLED))
        .count()
}

#[test]
fn one_in_n_is_chosen_by_kind_and_the_first_one_always() {
    assert_eq!(sampled(by_kind(), SpanKind::Put, 9), 3);
    assert_eq!(sampled(by_kind(), SpanKind::Put, 10), 4);
    assert_eq!(sampled(by_kind(), SpanKind::Get, 10), 0);
    assert_eq!(sampled(by_kind(), SpanKind::App, 10), 10);
    assert_eq!(sampled(Sampling::ALL, SpanKind::Get, 10), 10);
    assert_eq!(sampled(Sampling::one_in(5), SpanKind::Get, 100), 20);
}

#[test]
fn kinds_are_counted_apart() {
    let log = log(Sampling::one_in(2));
    let tracer = log.tracer().unwrap();
    for _ in 0..3 {
        let put = tracer.begin_trace(SpanKind::Put, 0);
        let get = tracer.begin_trace(SpanKind::Get, 0);
        assert_eq!(put.flags(), get.flags());
    }
}

/// Nine traces of a span, an event within it and a piece of work, that ends well or not.
fn nine_puts(log: &EventLog, outcome: Outcome) -> Vec<Event> {
    let tracer = log.tracer().unwrap();
    for chunk in 0..9 {
        let put = tracer.begin_trace(SpanKind::Put, chunk);
        let ask = tracer.begin(&put, SpanKind::Ask, chunk);
        trace_event!(tracer, &ask, StripeCoded { chunk, stripe: 0, k: 1, m: 1 });
        tracer.end(&ask, SpanKind::Ask, outcome, 0);
        tracer.end(&put, SpanKind::Put, outcome, 0);
    }
    log.snapshot()
}

#[test]
fn of_a_trace_that_was_not_chosen_only_errors_are_recorded() {
    let events = nine_puts(&log(by_kind()), Outcome::Done);
    assert_eq!(events.len(), 3 * 5);
    assert!(events.iter().all(|event| event.has(flags::SAMPLED)));

    let events = nine_puts(&log(by_kind()), Outcome::Failed);
    let (chosen, others): (Vec<&Event>, Vec<&Event>) =
        events.iter().partition(|event| event.has(flags::SAMPLED));
    assert_eq!((chosen.len(), others.len()), (3 * 5, 6 * 2));
    assert!(others.iter().all(|event| event.has(flags::ERROR)));
}

#[test]
fn what_is_not_recorded_takes_no_number() {
    let log = log(by_kind());
    let events = nine_puts(&log, Outcome::Failed);
    assert!((0..).zip(&events).all(|(number, event)| event.sequence == number));
    assert_eq!(log.head(), events.len() as u64);
}

#[test]
fn to_keep_on_error_all_is_recorded_and_says_which_was_chosen() {
    let sampling = Sampling { keep_on_error: true, ..by_kind() };
    let events = nine_puts(&log(sampling), Outcome::Done);
    assert_eq!(events.len(), 9 * 5);
    assert_eq!(events.iter().filter(|event| event.has(flags::SAMPLED)).count(), 3 * 5);
}

#[test]
fn what_belongs_to_no_trace_and_what_somebody_asked_for_is_recorded() {
    let log = log(Sampling::one_in(0));
    let tracer = log.tracer().unwrap();
    trace_event!(tracer, &TraceContext::NONE, LedgerAnswered { answer: 1 });
    let asked = TraceContext::new(TraceId([1; 16]), 1, TraceFlags::DEBUG, 0);
    trace_event!(tracer, &asked, LedgerAnswered { answer: 2 });
    let not = TraceContext::new(TraceId([2; 16]), 1, TraceFlags::REMOTE, 0);
    trace_event!(tracer, &not, LedgerAnswered { answer: 3 });
    assert_eq!(log.head(), 2);
}

#[test]
fn a_trace_of_which_only_the_number_is_known_is_recorded() {
    let log = log(Sampling::one_in(0));
    let tracer = log.tracer().unwrap();
    let id = TraceId::new();
    trace_packet_sent!(tracer, id, 1200, 1);
    tracer.log(Event::with_trace_id(id));
    tracer.log(Event::app_start(*b"DMAP", 1, id));
    tracer.log(Event::app_end(*b"DMAP", 1, id, true));
    let events = log.snapshot();
    assert_eq!(events.len(), 4);
    assert!(events.iter().all(|event| event.trace_id == id && event.has(flags::SAMPLED)));
}

#[cfg(feature = "trace-app")]
#[test]
fn a_failed_command_that_was_not_chosen_is_recorded_with_its_data() {
    use pangea_trace::{AppData, AppProtocol, AppRegistry, EventData, Redaction, app_data};

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

    let log = log(Sampling::one_in(0));
    let tracer = log.tracer().unwrap();
    let mut apps = AppRegistry::new();
    apps.register_as(Echo, Redaction::Sensitive);
    apps.start(&tracer, Echo::APP_ID, 7, &[5; 42], None).finish(Outcome::Done);
    assert_eq!(log.head(), 0);
    apps.start(&tracer, Echo::APP_ID, 7, &[5; 42], None).finish(Outcome::Failed);
    let events = log.snapshot();
    let data = EventData::AppCommand { app_id: Echo::APP_ID, cmd: 7, data: [5; 42] };
    assert_eq!((events.len(), events[0].data()), (2, Some(data)));
    assert!(events.iter().all(|event| event.has(flags::ERROR)));
}

#[test]
fn a_peer_names_its_request_and_does_not_choose_what_is_recorded() {
    let log = log(Sampling::one_in(4));
    let tracer = log.tracer().unwrap();
    let flags = TraceFlags::SAMPLED.and(TraceFlags::DEBUG);
    let label = Label::new(&TraceContext::new(TraceId([9; 16]), 5, flags, 0));
    let served: Vec<TraceContext> =
        (0..8).map(|number| tracer.begin_named(&label, SpanKind::Serve, number)).collect();
    let chosen = served.iter().filter(|context| context.flags().has(TraceFlags::SAMPLED));
    assert_eq!(chosen.count(), 2);
    let said = |context: &TraceContext| context.flags().has(TraceFlags::DEBUG);
    assert!(!served.iter().any(said));
    assert!(served.iter().all(|context| context.trace_id() == TraceId([9; 16])));
    assert!(served.iter().all(|context| context.flags().has(TraceFlags::REMOTE)));
    let nameless = Label::new(&TraceContext::NONE);
    let own = tracer.begin_named(&nameless, SpanKind::Serve, 0);
    assert!(!own.trace_id().is_none() && !own.flags().has(TraceFlags::REMOTE));
}
