//! Questions to a trace, answered with an index and without.
#![cfg(all(feature = "trace", not(loom)))]

use pangea_base::PeerId;
use pangea_trace::{
    Event, EventData, NodeInfo, Trace, TraceId, TraceQuery, drop_unsampled, flags, words,
};
use proptest::prelude::*;

const PEER: PeerId = PeerId([2; 32]);

fn node() -> NodeInfo {
    NodeInfo { node: PeerId([1; 32]), name: "one".to_owned(), started: 0, cores: 1 }
}

fn trace(events: Vec<Event>) -> Trace {
    Trace { nodes: vec![node()], events, cut: false }
}

fn any_event() -> impl Strategy<Value = Event> {
    prop::collection::vec(any::<u8>(), 128)
        .prop_map(|bytes| Event::from_bytes(&bytes.try_into().expect("128 bytes")))
}

#[test]
fn answers_are_in_the_order_of_the_trace() {
    let event = |timestamp, id: u8| Event { timestamp, ..Event::with_trace_id(TraceId([id; 16])) };
    let trace = trace(vec![event(1, 1), event(2, 2), event(3, 1), event(4, 2), event(5, 1)]);
    let times = |events: Vec<&Event>| events.iter().map(|e| e.timestamp).collect::<Vec<_>>();
    let query = TraceQuery::new(&trace);
    assert_eq!(times(query.get_trace(TraceId([1; 16]))), [1, 3, 5]);
    assert!(query.get_trace(TraceId([3; 16])).is_empty());
    assert_eq!(times(query.time_range(2, 4)), [2, 3, 4], "both ends are included");
    assert!(query.time_range(4, 2).is_empty());
    assert_eq!(times(query.recent(2)), [4, 5]);
    assert_eq!(times(query.recent(usize::MAX)), [1, 2, 3, 4, 5]);
    assert!(query.has_trace(TraceId([2; 16])) && !query.has_trace(TraceId([3; 16])));
}

#[test]
fn a_trace_is_exported_as_indented_json_and_a_full_disk_is_told() {
    let id = TraceId([7; 16]);
    let trace = trace(vec![Event::with_trace_id(id), Event::default(), Event::with_trace_id(id)]);
    let query = TraceQuery::new(&trace);
    let mut text = Vec::new();
    query.export_json(id, &mut text).unwrap();
    let read: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(read.as_array().unwrap().len(), 2);
    assert_eq!(read[0]["trace"], id.to_string());
    assert!(String::from_utf8(text).unwrap().contains("\n    \"class\": \"app\""));
    let mut none = Vec::new();
    query.export_json(TraceId([8; 16]), &mut none).unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&none).unwrap(), serde_json::json!([]));
    let mut full = [0; 10];
    assert!(query.export_json(id, &mut &mut full[..]).is_err());
}

fn troubled() -> Trace {
    let of = |data: EventData| Event::new(data).with_peer(&PEER);
    let mut events = vec![
        of(EventData::ConnEstablished { rtt: 300, conn: 1 }),
        of(EventData::PathMetrics { rtt: 900, conn: 1, window: 1, sent: 1, lost: 5 }),
        of(EventData::PacketLost { packet_num: 0, count: 2, bytes: 2800, conn: 1 }),
        of(EventData::PacketLost { packet_num: 2, count: 3, bytes: 4200, conn: 1 }),
        of(EventData::HolderFailed { chunk: 1, index: 1, reason: words("too\u{1b}[2Jslow") })
            .flagged(flags::ERROR),
        of(EventData::ShardRefused { chunk: 1, index: 1, reason: words("over quota") }),
        of(EventData::ConnClosed { conn: 1, reason: words("idle") }),
        of(EventData::ConnClosed { conn: 1, reason: words("idle") }),
    ];
    let failed =
        EventData::PacketSendFailed { size: 1, packet_num: 1, datagrams: 1, errno: 11, conn: 1 };
    events.push(of(failed).flagged(flags::ERROR));
    let other = PeerId([3; 32]);
    let lost = EventData::PacketLost { packet_num: 0, count: 100, bytes: 1, conn: 2 };
    events.push(Event::new(lost).with_peer(&other));
    events.push(Event::new(EventData::Gap { lost: 12 }));
    trace(events)
}

#[test]
fn what_went_wrong_with_a_peer_is_counted_and_told() {
    let trace = troubled();
    let issues = TraceQuery::new(&trace).analyze_connection_issues(&PEER);
    assert_eq!((issues.events, issues.established, issues.closed), (9, 1, 2));
    assert_eq!((issues.packets_lost, issues.bytes_lost), (5, 7000));
    assert_eq!((issues.send_failures, issues.holder_failures, issues.shards_refused), (1, 1, 1));
    assert_eq!((issues.errors, issues.longest_rtt, issues.not_recorded), (2, Some(900), 12));
    assert_eq!(issues.reasons.get("idle"), Some(&2));
    let told = issues.to_string();
    assert!(told.contains("9 events") && told.contains("packets lost: 5 (7000 bytes)"), "{told}");
    assert!(!told.contains('\u{1b}'), "a peer's words give no orders to the terminal");
    assert!(!issues.is_clean());
    assert!(TraceQuery::new(&trace).analyze_connection_issues(&PeerId([9; 32])).is_clean());
}

#[test]
fn a_peer_with_endless_excuses_takes_no_endless_memory() {
    let closed = |at: u64| {
        let reason = words(&format!("excuse {at}"));
        Event::new(EventData::ConnClosed { conn: 1, reason }).with_peer(&PEER)
    };
    let trace = trace((0..1000).map(closed).collect());
    let issues = TraceQuery::new(&trace).analyze_connection_issues(&PEER);
    assert!(issues.reasons.len() <= 65);
    assert_eq!(issues.reasons.values().sum::<u64>(), 1000);
}

#[test]
fn what_was_not_sampled_is_dropped_unless_something_in_it_failed() {
    let of = |id: u8, flags: u16| Event { flags, ..Event::with_trace_id(TraceId([id; 16])) };
    let mut trace = trace(vec![
        of(1, 0),
        of(2, flags::SAMPLED),
        of(3, 0),
        of(3, flags::ERROR),
        of(4, flags::DEBUG),
        of(1, flags::PEER),
        of(3, 0),
        of(0, 0),
    ]);
    drop_unsampled(&mut trace);
    let left: Vec<u8> = trace.events.iter().map(|event| event.trace_id.0[0]).collect();
    assert_eq!(left, [2, 3, 3, 4, 3, 0]);
}

proptest! {
    #[test]
    fn no_event_makes_a_question_fail(events in prop::collection::vec(any_event(), 0..20)) {
        let mut trace = trace(events);
        for event in &trace.events {
            let query = TraceQuery::new(&trace);
            prop_assert!(query.get_trace(event.trace_id).contains(&event));
            prop_assert!(query.time_range(event.timestamp, event.timestamp).contains(&event));
            let issues = query.analyze_connection_issues(&PeerId(event.peer));
            prop_assert!(!issues.to_string().is_empty());
            query.export_json(event.trace_id, &mut std::io::sink()).unwrap();
        }
        drop_unsampled(&mut trace);
    }
}

#[cfg(feature = "trace-index")]
mod indexed {
    use super::*;
    use pangea_trace::{BLOOM_BITS, TraceIndex};

    /// An event of few traces, peers and times, so that they meet.
    fn few() -> impl Strategy<Value = Event> {
        (0u8..6, 0u8..5, 0u64..12, any::<bool>(), 0u16..90).prop_map(
            |(id, peer, time, peered, kind)| {
                let flags = if peered { flags::PEER } else { 0 };
                let (trace_id, peer) = (TraceId([id; 16]), [peer; 32]);
                Event { trace_id, peer, timestamp: time, kind, flags, ..Event::default() }
            },
        )
    }

    proptest! {
        #[test]
        fn an_index_answers_as_a_scan_does(
            mut events in prop::collection::vec(few(), 0..60),
            sorted in any::<bool>(),
            (start, end) in (0u64..13, 0u64..13),
        ) {
            if sorted {
                events.sort_by_key(|event| event.timestamp);
            }
            let trace = trace(events);
            let index = TraceIndex::build(&trace);
            let (scan, fast) = (TraceQuery::new(&trace), TraceQuery::with_index(&index));
            for byte in 0..8 {
                let (id, peer) = (TraceId([byte; 16]), PeerId([byte; 32]));
                prop_assert_eq!(fast.get_trace(id), scan.get_trace(id));
                prop_assert_eq!(fast.has_trace(id), scan.has_trace(id));
                prop_assert!(index.may_have_trace(id) || !scan.has_trace(id));
                prop_assert_eq!(fast.query_peer(&peer), scan.query_peer(&peer));
                prop_assert_eq!(
                    fast.analyze_connection_issues(&peer),
                    scan.analyze_connection_issues(&peer)
                );
            }
            prop_assert_eq!(fast.time_range(start, end), scan.time_range(start, end));
            prop_assert_eq!(fast.time_range(0, u64::MAX), scan.time_range(0, u64::MAX));
            prop_assert_eq!(fast.recent(5), scan.recent(5));
        }

        #[test]
        fn an_index_takes_any_events(events in prop::collection::vec(any_event(), 0..20)) {
            let trace = trace(events);
            let index = TraceIndex::build(&trace);
            let (scan, fast) = (TraceQuery::new(&trace), TraceQuery::with_index(&index));
            for event in &trace.events {
                prop_assert_eq!(fast.get_trace(event.trace_id), scan.get_trace(event.trace_id));
                prop_assert!(fast.has_trace(event.trace_id));
            }
        }
    }

    /// A trace's number as an engine draws it, and as an application may count it.
    fn ids(count: u64) -> impl Iterator<Item = [TraceId; 2]> {
        (0..count).map(|number| {
            let random = std::hash::BuildHasher::hash_one(
                &std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default(),
                number,
            );
            let mut counted = [0; 16];
            counted[..8].copy_from_slice(&number.to_le_bytes());
            let mut drawn = [0; 16];
            drawn[..8].copy_from_slice(&random.to_le_bytes());
            drawn[8..].copy_from_slice(&random.rotate_left(17).to_le_bytes());
            [TraceId(drawn), TraceId(counted)]
        })
    }

    #[test]
    fn the_filter_rules_out_nearly_all_traces_that_are_not_there() {
        assert_eq!(BLOOM_BITS, 16_384);
        for which in 0..2 {
            let all: Vec<TraceId> = ids(11_500).map(|ids| ids[which]).collect();
            let (there, absent) = all.split_at(1_500);
            let trace = trace(there.iter().map(|id| Event::with_trace_id(*id)).collect());
            let index = TraceIndex::build(&trace);
            assert!(there.iter().all(|id| index.may_have_trace(*id)));
            let wrong = absent.iter().filter(|id| index.may_have_trace(**id)).count();
            assert!(wrong < absent.len() / 40, "{wrong} of {}", absent.len());
            assert!(absent.iter().all(|id| !index.has_trace(*id)));
        }
    }
}
