//! A recorder and its readers, one thread: what is kept, what is lost and told, numbers, classes,
//! spans, several recorders as one, applications.
#![cfg(all(feature = "trace", not(loom)))]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pangea_base::{CoreId, PeerId};
use pangea_trace::{
    Class, Clock, Event, EventData, EventLog, Kind, LogConfig, NodeInfo, Outcome, Reader, Sampling,
    SpanKind, Trace, TraceConfig, TraceContext, TraceFlags, Tracer, flags, trace_event,
};

fn config(core: u8, events: usize) -> LogConfig {
    LogConfig {
        node: PeerId([7; 32]),
        core: CoreId(core),
        seed: [1, u64::from(core)],
        anchor: Instant::now(),
        anchor_nanos: 1_000_000,
        clock: Clock::Tick,
        sampling: Sampling::ALL,
        events,
    }
}

fn log(events: usize) -> EventLog {
    EventLog::start(|| config(0, events))
}

fn write(tracer: &Tracer, hop: u64) {
    trace_event!(tracer, &TraceContext::NONE, MeshSent { to: 1, hop });
}

fn hop(event: &Event) -> u64 {
    match event.data() {
        Some(EventData::MeshSent { hop, .. }) => hop,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_new_recorder_is_empty() {
    let log = log(TraceConfig::BUFFER_EVENTS);
    assert_eq!((log.head(), log.capacity()), (0, TraceConfig::BUFFER_EVENTS as u64));
    assert_eq!(log.snapshot(), []);
    let (mut next, mut events) = (0, Vec::new());
    log.read(&mut next, 100, &mut events);
    assert_eq!((next, events), (0, vec![]));
}

/// A word that an event does not need is not written; what an older event left there is not its.
#[test]
fn nothing_of_an_older_event_is_seen_in_a_newer_one() {
    let log = log(2);
    let tracer = log.tracer().unwrap();
    let context = tracer.begin_trace(SpanKind::Put, 1);
    let full = EventData::Custom { category: 0xffff, code: 0xffff, data: [0xff; 44] };
    for _ in 0..2 {
        tracer.log(Event::new(full).of(&context).with_peer(&PeerId([0xff; 32])));
    }
    trace_event!(tracer, &TraceContext::NONE, LedgerAnswered { answer: 1 });
    write(&tracer, 7);
    let events = log.snapshot();
    assert_eq!(events.len(), 2);
    for event in &events {
        let data = event.data().unwrap();
        assert_eq!(event.payload, Event::new(data).payload, "{data:?}");
        assert_eq!((event.peer, event.peer(), event.span), ([0; 32], None, 0));
    }
    assert_eq!(hop(&events[1]), 7);
}

#[test]
fn an_event_comes_out_as_it_went_in_with_time_number_and_core() {
    let (node, name) = (PeerId([7; 32]), "n".to_string());
    let log = EventLog::start(|| config(5, 4));
    let tracer = log.tracer().unwrap();
    tracer.tick(Instant::now() + Duration::from_secs(1));
    let context = tracer.begin_trace(SpanKind::Get, 9);
    let peer = PeerId([3; 32]);
    trace_event!(tracer, &context, &peer, StreamOpened { stream_id: 4, conn: 2 });
    let info = NodeInfo { node, name, started: log.started(), cores: 8 };
    let trace = Trace::snapshot(info, std::slice::from_ref(&log));
    let [begin, event] = trace.events[..] else { panic!("{:?}", trace.events) };
    assert_eq!(begin.data(), Some(EventData::SpanBegin { what: 2, parent: 0, number: 9 }));
    assert_eq!(event.data(), Some(EventData::StreamOpened { stream_id: 4, conn: 2 }));
    assert_eq!((event.sequence, event.core, event.node), (1, 5, 0));
    assert_eq!((event.peer(), event.trace_id), (Some(peer), context.trace_id()));
    assert_eq!(event.flags, flags::PEER | flags::SAMPLED);
    assert_eq!(event.timestamp, tracer.timestamp_now());
    assert!((1_001_000_000..1_900_000_000).contains(&event.timestamp), "{}", event.timestamp);
}

#[test]
fn a_full_ring_keeps_the_newest_and_the_reader_is_told_of_the_others() {
    for written in [8, 9, 15, 16, 17, 100] {
        let log = log(8);
        let tracer = log.tracer().unwrap();
        (0..written).for_each(|number| write(&tracer, number));
        let kept: Vec<u64> = log.snapshot().iter().map(hop).collect();
        assert_eq!(kept, (written - 8..written).collect::<Vec<_>>());

        let (mut next, mut events) = (0, Vec::new());
        log.read(&mut next, 100, &mut events);
        if written > 8 {
            let gap = events.remove(0);
            assert_eq!(gap.data(), Some(EventData::Gap { lost: written - 8 }));
            assert_eq!((gap.sequence, gap.timestamp), (written - 8, events[0].timestamp));
        }
        assert_eq!(events.iter().map(hop).collect::<Vec<_>>(), kept);
        assert_eq!(next, written);
    }
}

#[test]
fn batches_of_any_size_tell_every_event_once_or_as_lost() {
    for batch in 1..20 {
        let log = log(8);
        let tracer = log.tracer().unwrap();
        let (mut next, mut told, mut written) = (0, 0, 0);
        for turn in 0..50 {
            let writes = [0, 1, 3, 8, 9, 30][turn % 6];
            (written..written + writes).for_each(|number| write(&tracer, number));
            written += writes;
            let mut events = Vec::new();
            log.read(&mut next, batch, &mut events);
            assert!(events.len() <= batch, "{} of at most {batch}", events.len());
            for event in &events {
                match event.data() {
                    Some(EventData::Gap { lost }) => told += lost,
                    _ => {
                        assert_eq!((hop(event), event.sequence), (told, told));
                        told += 1;
                    }
                }
            }
            assert!(written - told <= written, "nothing is told that was not written");
        }
        let mut rest = Vec::new();
        log.read(&mut next, 1000, &mut rest);
        let lost = |event: &Event| match event.data() {
            Some(EventData::Gap { lost }) => lost,
            _ => 1,
        };
        told += rest.iter().map(lost).sum::<u64>();
        assert_eq!((told, next), (written, written), "batches of {batch}");
    }
}

#[test]
fn a_reader_with_no_room_changes_nothing() {
    let log = log(8);
    let tracer = log.tracer().unwrap();
    (0..20).for_each(|number| write(&tracer, number));
    let (mut next, mut events) = (3, Vec::new());
    log.read(&mut next, 0, &mut events);
    assert_eq!((next, events.len()), (3, 0));
}

#[test]
fn a_reader_that_is_ahead_waits() {
    let log = log(8);
    let tracer = log.tracer().unwrap();
    write(&tracer, 0);
    let (mut next, mut events) = (u64::from(u32::MAX), Vec::new());
    log.read(&mut next, 10, &mut events);
    assert_eq!((next, events.len()), (u64::from(u32::MAX), 0));
}

#[test]
fn there_is_one_writer_at_a_time_and_the_next_one_goes_on_where_it_was() {
    let log = log(8);
    let tracer = log.tracer().unwrap();
    assert!(log.tracer().is_none());
    let copy = tracer.clone();
    write(&tracer, 0);
    write(&copy, 1);
    let drawn = tracer.draw();
    drop(tracer);
    assert!(log.tracer().is_none(), "the copy is still there");
    drop(copy);
    let tracer = log.tracer().unwrap();
    assert_eq!(tracer.next_sequence(), 2);
    assert_ne!(tracer.draw(), drawn, "numbers are not drawn again");
    write(&tracer, 2);
    assert_eq!(log.snapshot().iter().map(|e| e.sequence).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(log.head(), 3);
}

#[test]
fn classes_are_turned_off_and_on_while_it_runs() {
    let log = log(8);
    let tracer = log.tracer().unwrap();
    assert_eq!(log.recorded(), Class::ALL);
    log.record_only(&[Class::Span, Class::Store]);
    assert_eq!(log.recorded(), [Class::Span, Class::Store]);
    write(&tracer, 0);
    tracer.log(Event::new(EventData::MeshSent { to: 0, hop: 1 }));
    let worked_out = || -> u64 { panic!("arguments of what is not recorded are not worked out") };
    trace_event!(tracer, &TraceContext::NONE, MeshSent { to: 0, hop: worked_out() });
    assert_eq!(log.head(), 0);
    trace_event!(tracer, &TraceContext::NONE, LedgerAnswered { answer: 1 });
    log.record_only(&Class::ALL);
    write(&tracer, 5);
    let kinds: Vec<_> = log.snapshot().iter().filter_map(Event::kind).collect();
    assert_eq!(kinds, [Kind::LedgerAnswered, Kind::MeshSent]);
    log.record_only(&[]);
    write(&tracer, 6);
    assert_eq!(tracer.begin(&TraceContext::NONE, SpanKind::Ask, 1), TraceContext::NONE);
    assert_eq!(log.head(), 2);
}

#[test]
fn an_event_of_a_later_version_is_written_and_shown_by_its_number() {
    let log = log(8);
    let tracer = log.tracer().unwrap();
    tracer.log(Event { kind: 60_000, ..Event::default() });
    let events = log.snapshot();
    assert_eq!((events[0].kind, events[0].kind(), events[0].data()), (60_000, None, None));
}

#[test]
fn spans_draw_numbers_of_their_own_on_every_core() {
    let mut seen = BTreeSet::new();
    for core in 0..4 {
        let log = EventLog::start(|| config(core, 2));
        let tracer = log.tracer().unwrap();
        for _ in 0..5_000 {
            let root = tracer.begin_trace(SpanKind::Put, 0);
            let child = tracer.begin(&root, SpanKind::Ask, 0);
            assert_eq!(child.trace_id(), root.trace_id());
            assert!(seen.insert(root.span()) && seen.insert(child.span()));
            let id = root.trace_id().0;
            let (one, two) = id.split_at(8);
            assert!(seen.insert(u64::from_le_bytes(one.try_into().unwrap())));
            assert!(seen.insert(u64::from_le_bytes(two.try_into().unwrap())));
        }
    }
    assert!(!seen.contains(&0));
}

#[test]
fn the_same_seed_draws_the_same_numbers() {
    let numbers = || {
        let log = log(2);
        let tracer = log.tracer().unwrap();
        (tracer.begin_trace(SpanKind::Put, 0).trace_id(), tracer.draw())
    };
    assert_eq!(numbers(), numbers());
}

#[test]
fn a_span_says_what_it_is_what_caused_it_and_how_it_ended() {
    let log = log(8);
    let tracer = log.tracer().unwrap();
    let root = tracer.begin_trace(SpanKind::Put, 1);
    let child = tracer.begin(&root, SpanKind::Shard, 2);
    tracer.end(&child, SpanKind::Shard, Outcome::Failed, 3);
    tracer.end(&root, SpanKind::Put, Outcome::Done, 4);
    let events = log.snapshot();
    let data: Vec<_> = events.iter().filter_map(Event::data).collect();
    let shard = SpanKind::Shard as u16;
    assert_eq!(data[1], EventData::SpanBegin { what: shard, parent: root.span(), number: 2 });
    assert_eq!(data[2], EventData::SpanEnd { what: shard, bytes: 3 });
    let moments = flags::BEGIN | flags::END | flags::ERROR;
    let moments: Vec<_> = events.iter().map(|e| e.flags & moments).collect();
    assert_eq!(moments, [flags::BEGIN, flags::BEGIN, flags::END | flags::ERROR, flags::END]);
    assert!(events.iter().all(|event| event.trace_id == root.trace_id()));
    assert_eq!(events[2].span, child.span());
}

#[test]
fn only_what_an_application_began_bears_its_mark() {
    let log = log(8);
    let tracer = log.tracer().unwrap();
    assert!(tracer.begin_trace(SpanKind::App, 1).flags().has(TraceFlags::APP));
    assert!(!tracer.begin_trace(SpanKind::Put, 1).flags().has(TraceFlags::APP));
}

#[test]
fn several_recorders_are_read_as_one_by_time_core_and_number() {
    let began = Instant::now();
    let logs: Vec<_> = (0..3)
        .map(|core| EventLog::start(|| LogConfig { anchor: began, ..config(core, 16) }))
        .collect();
    let tracers: Vec<_> = logs.iter().map(|log| log.tracer().unwrap()).collect();
    let mut oldest = Reader::oldest(&logs);
    for turn in 0..5 {
        for tracer in tracers.iter().rev() {
            tracer.tick(began + Duration::from_millis(turn));
            write(tracer, turn);
            write(tracer, turn);
        }
    }
    let mut newest = Reader::newest(&logs);
    let events = oldest.poll(1000);
    let order: Vec<_> = events.iter().map(|e| (e.timestamp, e.core, e.sequence)).collect();
    assert!(order.is_sorted() && order.len() == 30, "{order:?}");
    assert_eq!(oldest.poll(1000), []);
    assert_eq!(newest.poll(1000), []);
    write(&tracers[1], 99);
    assert_eq!(newest.poll(1000).iter().map(hop).collect::<Vec<_>>(), [99]);
}

#[test]
fn a_fine_clock_marks_its_events_and_never_goes_back() {
    let log = EventLog::start(|| LogConfig { clock: Clock::Fine, ..config(0, 1024) });
    let tracer = log.tracer().unwrap();
    for _ in 0..100 {
        tracer.tick(Instant::now());
        (0..10).for_each(|number| write(&tracer, number));
    }
    let events = log.snapshot();
    assert!(events.iter().all(|event| event.has(flags::FINE)));
    assert!(events.is_sorted_by_key(|event| event.timestamp));
    assert!(events[0].timestamp < events[999].timestamp);
}

#[cfg(feature = "trace-app")]
mod applications {
    use proptest::prelude::*;

    use super::*;
    use pangea_trace::{AppData, AppProtocol, AppRegistry, Redaction, app_data};

    struct Map;

    impl AppProtocol for Map {
        const APP_ID: [u8; 4] = *b"DMAP";

        fn to_trace_data(&self, cmd: u16, payload: &[u8]) -> AppData {
            app_data(payload, if cmd == 1 { 36 } else { 32 })
        }

        fn describe_command(cmd: u16) -> &'static str {
            if cmd == 1 { "STORE_CHUNK" } else { "UNKNOWN" }
        }

        fn should_trace(cmd: u16) -> bool {
            cmd != 9
        }
    }

    fn registry(redaction: Redaction) -> AppRegistry {
        let mut apps = AppRegistry::new();
        apps.register_as(Map, redaction);
        apps
    }

    fn commands(log: &EventLog) -> Vec<(AppData, u16)> {
        let data = |event: &Event| match event.data() {
            Some(EventData::AppCommand { app_id, data, .. }) => {
                assert_eq!(app_id, Map::APP_ID);
                Some((data, event.flags & (flags::BEGIN | flags::END | flags::ERROR)))
            }
            _ => None,
        };
        log.snapshot().iter().filter_map(data).collect()
    }

    #[test]
    fn a_registry_knows_its_applications_by_id_and_each_once() {
        let mut apps = AppRegistry::new();
        assert!(apps.get(*b"DMAP").is_none());
        assert_eq!(apps.describe(*b"DMAP", 1), None);
        apps.register(Map);
        apps.register(Map);
        assert_eq!(apps.get(*b"DMAP").map(|app| app.app_id()), Some(*b"DMAP"));
        assert_eq!(apps.describe(*b"DMAP", 1), Some("STORE_CHUNK"));
        assert_eq!(apps.describe(*b"DMAP", 77), Some("UNKNOWN"));
        assert_eq!(apps.describe(*b"????", 1), None);
    }

    #[test]
    fn what_an_application_says_is_recorded_only_if_it_may_be_seen() {
        let log = log(64);
        let tracer = log.tracer().unwrap();
        let start = |redaction, payload: &[u8]| {
            registry(redaction).start(&tracer, Map::APP_ID, 1, payload, None).finish(Outcome::Done);
        };
        start(Redaction::Sensitive, &[1; 36]);
        start(Redaction::Redacted, &[1; 36]);
        start(Redaction::Redacted, &[1; 36]);
        start(Redaction::Redacted, &[2; 36]);
        let data: Vec<_> = commands(&log).chunks(2).map(|pair| (pair[0].0, pair[1].0)).collect();
        assert!(data.iter().all(|(begin, end)| begin == end));
        assert_eq!(data[0].0, app_data(&[1; 36], 36));
        let redacted = data[1].0;
        assert_ne!(redacted[..8], [1; 8]);
        assert_eq!(redacted[8..], [0; 34], "a hash of eight bytes and nothing else");
        assert_eq!(data[2].0, redacted, "equal data look equal");
        assert_ne!(data[3].0, redacted, "others do not");
    }

    #[test]
    fn a_registered_application_is_redacted_unless_it_says_otherwise() {
        let log = log(64);
        let tracer = log.tracer().unwrap();
        let mut apps = AppRegistry::new();
        apps.register(Map);
        apps.start(&tracer, Map::APP_ID, 1, &[1; 36], None).finish(Outcome::Done);
        assert_eq!(commands(&log)[0].0[8..], [0; 34]);
    }

    #[test]
    fn a_command_is_a_trace_of_its_own_or_part_of_its_callers() {
        let log = log(64);
        let tracer = log.tracer().unwrap();
        let apps = registry(Redaction::Redacted);
        let own = apps.start(&tracer, Map::APP_ID, 1, &[], Some(&TraceContext::NONE));
        assert!(own.context().flags().has(TraceFlags::APP));
        let within = apps.start(&tracer, Map::APP_ID, 2, &[], Some(own.context()));
        assert_eq!(within.context().trace_id(), own.context().trace_id());
        assert_ne!(within.context().span(), own.context().span());
        let (outer, inner) = (*own.context(), *within.context());
        within.finish(Outcome::Done);
        own.finish(&Ok::<(), ()>(()));
        let events = log.snapshot();
        let spans: Vec<_> = events.iter().map(|event| event.span).collect();
        let (a, b) = (outer.span(), inner.span());
        assert_eq!(spans, [a, a, b, b, b, b, a, a]);
        assert!(events.iter().all(|event| event.has(flags::APP)));
    }

    #[test]
    fn a_command_that_is_dropped_or_whose_result_is_an_error_failed() {
        let log = log(64);
        let tracer = log.tracer().unwrap();
        let apps = registry(Redaction::Redacted);
        drop(apps.start(&tracer, Map::APP_ID, 1, &[], None));
        apps.start(&tracer, Map::APP_ID, 1, &[], None).finish(&Err::<(), _>("no"));
        apps.start(&tracer, Map::APP_ID, 1, &[], None).finish(&Ok::<_, ()>(1));
        let ends: Vec<_> = commands(&log).iter().map(|(_, flags)| *flags).collect();
        let (begin, good, bad) = (flags::BEGIN, flags::END, flags::END | flags::ERROR);
        assert_eq!(ends, [begin, bad, begin, bad, begin, good]);
    }

    #[test]
    fn what_should_not_be_traced_is_not_and_keeps_its_callers_trace() {
        let log = log(64);
        let tracer = log.tracer().unwrap();
        let apps = registry(Redaction::Sensitive);
        let parent = tracer.begin_trace(SpanKind::Serve, 1);
        let head = log.head();
        let command = apps.start(&tracer, Map::APP_ID, 9, &[], Some(&parent));
        assert_eq!(*command.context(), parent);
        command.finish(Outcome::Failed);
        log.record_only(&[Class::Span]);
        apps.start(&tracer, Map::APP_ID, 1, &[], None).finish(Outcome::Done);
        apps.start(&Tracer::none(), Map::APP_ID, 1, &[], None).finish(Outcome::Done);
        assert_eq!(log.head(), head);
    }

    #[test]
    fn an_application_that_is_not_registered_is_recorded_without_its_data() {
        let log = log(64);
        let tracer = log.tracer().unwrap();
        let apps = AppRegistry::new();
        apps.start(&tracer, Map::APP_ID, 1, &[1; 100], None).finish(Outcome::Done);
        assert_eq!(commands(&log), [([0; 42], flags::BEGIN), ([0; 42], flags::END)]);
    }

    proptest! {
        #[test]
        fn no_command_and_no_payload_makes_it_panic(
            cmd in any::<u16>(),
            payload in prop::collection::vec(any::<u8>(), 0..80),
            app_id in any::<[u8; 4]>(),
            registered in any::<bool>(),
            sensitive in any::<bool>(),
        ) {
            let log = log(8);
            let tracer = log.tracer().unwrap();
            let redaction = if sensitive { Redaction::Sensitive } else { Redaction::Redacted };
            let app_id = if registered { Map::APP_ID } else { app_id };
            let command = registry(redaction).start(&tracer, app_id, cmd, &payload, None);
            command.finish(Outcome::Done);
            prop_assert!(log.head() == 4 || cmd == 9);
        }
    }
}

#[cfg(not(feature = "trace-app"))]
#[test]
fn without_its_feature_no_application_is_recorded() {
    use pangea_trace::{AppRegistry, Command};
    let log = log(8);
    let tracer = log.tracer().unwrap();
    let parent = tracer.begin_trace(SpanKind::Serve, 1);
    let apps = AppRegistry::new();
    let command = apps.start(&tracer, *b"DMAP", 1, &[1; 100], Some(&parent));
    assert_eq!(*command.context(), parent);
    command.finish(Outcome::Failed);
    assert_eq!(log.head(), 1);
    assert_eq!(size_of::<AppRegistry>(), 0);
    assert_eq!(size_of::<Command>(), size_of::<TraceContext>());
}
