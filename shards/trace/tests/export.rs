//! What other programs are given: each format of a made trace, and of anything.
#![cfg(all(feature = "trace", not(loom)))]

#[path = "../examples/sample.rs"]
#[allow(dead_code, missing_docs)]
mod sample;

use std::collections::{BTreeMap, BTreeSet};

use pangea_base::PeerId;
use pangea_trace::export::{Detail, Format, export};
use pangea_trace::{Event, EventData, NodeInfo, SpanKind, Trace, TraceId, flags};
use proptest::prelude::*;
use sample::{ALPHA, STARTED, sample};
use serde_json::{Value, json};

fn text(format: Format, trace: &Trace, detail: Detail) -> String {
    let mut bytes = Vec::new();
    export(format, trace, &mut bytes, detail).expect("memory does not fail");
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

fn read(format: Format, trace: &Trace) -> Value {
    serde_json::from_str(&text(format, trace, Detail::Redacted)).expect("it is JSON")
}

fn list<'a>(value: &'a Value, name: &str) -> &'a Vec<Value> {
    value[name].as_array().unwrap_or_else(|| panic!("{name} is not there"))
}

/// Those of one phase.
fn phase<'a>(trace: &'a Value, phase: &str) -> Vec<&'a Value> {
    list(trace, "traceEvents").iter().filter(|event| event["ph"] == phase).collect()
}

fn micros(value: &Value) -> f64 {
    value.as_f64().expect("a time is a number")
}

#[test]
fn json_names_all_that_is_known_of_each_event() {
    let trace = sample();
    let read = read(Format::Json, &trace);
    let events = read.as_array().unwrap();
    assert_eq!(events.len(), trace.events.len());
    for (shown, event) in events.iter().zip(&trace.events) {
        assert_eq!(shown["time"], event.timestamp);
        assert_eq!(shown["kind"], event.kind().unwrap().name());
        assert_eq!(shown["class"], event.kind().unwrap().class().name());
        assert_eq!(shown["core"], event.core);
        let fields: BTreeSet<_> = shown["fields"].as_object().unwrap().keys().collect();
        let known = event.kind().unwrap().fields();
        assert_eq!(fields.len(), known.len());
        assert!(known.iter().all(|(name, _)| fields.contains(&(*name).to_owned())));
        for (bit, name) in flags::NAMES.iter().enumerate() {
            let shown = shown["flags"].as_array().unwrap().contains(&json!(name));
            assert_eq!(shown, event.flags >> bit & 1 == 1, "{name}");
        }
    }
    assert!(events.iter().any(|event| event["trace"].as_str().is_some_and(|id| id.len() == 32)));
    assert!(events.iter().any(|event| event["thread"] == "control"));
}

#[test]
fn chrome_has_a_process_for_each_node_and_a_track_for_each_core() {
    let trace = sample();
    let read = read(Format::Chrome, &trace);
    let named = |what: &str| -> BTreeMap<(u64, u64), String> {
        let events = phase(&read, "M").into_iter().filter(|event| event["name"] == what);
        let number = |event: &Value, name: &str| event[name].as_u64().unwrap();
        let name = |event: &Value| event["args"]["name"].as_str().unwrap().to_owned();
        events.map(|e| ((number(e, "pid"), number(e, "tid")), name(e))).collect()
    };
    let processes: Vec<String> = named("process_name").into_values().collect();
    assert_eq!(processes, ["alpha (a1a1a1a1)", "beta (b2b2b2b2)"]);
    let threads = named("thread_name");
    let names: Vec<_> = threads.values().map(String::as_str).collect();
    assert_eq!(names, ["core 0", "core 1", "control", "core 0", "core 1"]);
    // A reader takes a thread with its process's number for the main one, and tells threads of
    // two processes by their numbers.
    let numbers: BTreeSet<u64> = threads.keys().map(|(_, tid)| *tid).collect();
    assert_eq!(numbers.len(), threads.len());
    assert!(threads.keys().all(|(pid, _)| !numbers.contains(pid)));
    for event in list(&read, "traceEvents") {
        let key = (event["pid"].as_u64().unwrap(), event["tid"].as_u64().unwrap());
        assert!(event["ph"] == "M" || threads.contains_key(&key), "{event}");
        assert!(event["name"].is_string());
        if event["ph"] != "M" {
            assert!(event["cat"].is_string());
            assert!(micros(&event["ts"]) >= 0.0);
        }
    }
    assert_eq!(read["displayTimeUnit"], "ns");
    assert_eq!(read["otherData"]["base_unix_nanos"], (STARTED + 5000).to_string());
    let first = phase(&read, "X").into_iter().map(|event| micros(&event["ts"]));
    assert_eq!(first.fold(f64::MAX, f64::min), 1.0, "the first one is at a small positive time");
}

#[test]
fn chrome_shows_moments_that_do_not_overlap_on_their_track() {
    let trace = sample();
    let read = read(Format::Chrome, &trace);
    let files = trace.events.iter().filter(|event| event.kind == 64).count();
    let moments = phase(&read, "X");
    assert_eq!(moments.len(), trace.events.len() - files);
    let mut tracks: BTreeMap<u64, Vec<(f64, f64)>> = BTreeMap::new();
    for event in moments {
        let (from, length) = (micros(&event["ts"]), micros(&event["dur"]));
        assert!(length > 0.0);
        tracks.entry(event["tid"].as_u64().unwrap()).or_default().push((from, from + length));
    }
    for moments in tracks.values_mut() {
        moments.sort_by(|one, other| one.0.total_cmp(&other.0));
        // A tenth of a nanosecond for what a double loses.
        assert!(moments.windows(2).all(|pair| pair[0].1 <= pair[1].0 + 0.0001), "{moments:?}");
    }
}

/// The asynchronous slices: by process, category and id, what is said of each end.
fn slices(read: &Value) -> BTreeMap<String, Vec<&Value>> {
    let mut slices: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for event in list(read, "traceEvents") {
        if event["ph"] == "b" || event["ph"] == "e" {
            let local = event["id2"]["local"].as_str().expect("an id of its process");
            let key = format!("{} {} {local}", event["pid"], event["cat"]);
            slices.entry(key).or_default().push(event);
        }
    }
    slices
}

#[test]
fn chrome_ends_every_slice_that_it_begins_and_says_which_did_not_end() {
    let read = read(Format::Chrome, &sample());
    let slices = slices(&read);
    let mut unfinished = 0;
    for (key, ends) in &slices {
        let phases: Vec<_> = ends.iter().map(|end| end["ph"].as_str().unwrap()).collect();
        assert_eq!(phases, ["b", "e"], "{key}");
        assert_eq!(ends[0]["name"], ends[1]["name"], "{key}");
        assert!(micros(&ends[0]["ts"]) <= micros(&ends[1]["ts"]), "{key}");
        unfinished += usize::from(ends[1]["args"]["unfinished"] == true);
    }
    assert_eq!(unfinished, 1, "one request was still served when the trace ended");
    let count = |name: &str| slices.values().filter(|ends| ends[0]["name"] == name).count();
    let counts = ["put", "put chunk", "shard", "serve", "ask", "write", "DMAP 1"].map(count);
    assert_eq!(counts, [1, 2, 4, 2, 2, 2, 1]);
    let write = slices.values().find(|ends| ends[0]["name"] == "write").unwrap();
    let took = micros(&write[1]["ts"]) - micros(&write[0]["ts"]);
    assert!((took - 48.0).abs() < 0.001, "a file operation is as long as it took: {took}");
    let failed = slices.values().filter(|ends| ends[1]["args"]["failed"] == true).count();
    assert_eq!(failed, 2);
}

#[test]
fn chrome_draws_arrows_from_what_was_sent_to_what_came_and_from_cause_to_effect() {
    let read = read(Format::Chrome, &sample());
    let moments = phase(&read, "X");
    // The moment that an arrow's end is fixed to.
    let at = |end: &Value| -> String {
        let same = |event: &&&Value| event["tid"] == end["tid"] && event["ts"] == end["ts"];
        moments.iter().find(same).expect("a moment")["name"].as_str().unwrap().to_owned()
    };
    let (from, to) = (phase(&read, "s"), phase(&read, "f"));
    assert_eq!(from.len(), to.len());
    let mut arrows: BTreeMap<(String, String), usize> = BTreeMap::new();
    for end in to {
        assert_eq!(end["bp"], "e");
        let mut begins = from.iter().filter(|begin| begin["id"] == end["id"]);
        let begin = begins.next().expect("where the arrow begins");
        assert!(begins.next().is_none(), "one beginning");
        assert_eq!((&begin["name"], &begin["cat"]), (&end["name"], &end["cat"]));
        assert!(micros(&begin["ts"]) < micros(&end["ts"]), "no arrow goes back in time");
        assert_ne!(begin["tid"], end["tid"]);
        *arrows.entry((at(begin), at(end))).or_default() += 1;
    }
    let arrow = |from: &str, to: &str| arrows.get(&(from.to_owned(), to.to_owned())).copied();
    assert_eq!(arrow("MeshSent", "MeshReceived"), Some(5), "also of what seemed to come too early");
    assert_eq!(arrow("MeshSent", "put chunk begins"), Some(2), "from control to its cores");
    assert_eq!(arrow("MeshSent", "ask begins"), Some(2), "to the other core of the node");
    assert_eq!(arrow("StreamOpened", "serve begins"), Some(2), "to the other node");
}

#[test]
fn chrome_leaves_out_arrows_of_which_one_end_is_missing_or_that_go_back_in_time() {
    let id = TraceId([1; 16]);
    let event = |timestamp, node, core, data| Event {
        timestamp,
        node,
        core,
        span: 9,
        ..Event { trace_id: id, ..Event::new(data) }
    };
    let begin = |parent| EventData::SpanBegin { what: SpanKind::Put as u16, parent, number: 0 };
    let info = |name: &str| NodeInfo {
        node: PeerId([1; 32]),
        name: name.to_owned(),
        started: 0,
        cores: 2,
    };
    let child = Event { span: 10, ..event(5, 1, 0, begin(9)) };
    let trace = Trace {
        nodes: vec![info("one"), info("two")],
        events: vec![
            event(1, 0, 0, EventData::MeshSent { to: 1, hop: 1 }),
            event(2, 0, 1, EventData::MeshReceived { from: 0, hop: 2 }),
            child,
            // The other node's clock is ahead.
            event(6, 0, 0, begin(0)),
        ],
        cut: false,
    };
    let read = read(Format::Chrome, &trace);
    assert!(phase(&read, "s").is_empty() && phase(&read, "f").is_empty());
}

#[test]
fn chrome_draws_an_arrow_also_to_work_that_seems_to_begin_before_its_cause() {
    let begin = |timestamp, core, span, parent| Event {
        timestamp,
        core,
        span,
        ..Event::new(EventData::SpanBegin { what: SpanKind::Ask as u16, parent, number: 0 })
    };
    // Two cores of one node, of which one read its clock at the beginning of a longer turn.
    let events = vec![begin(10, 0, 1, 0), begin(9, 1, 2, 1), begin(9, 1, 3, 2)];
    let read = read(Format::Chrome, &Trace { events, ..Trace::default() });
    let (from, to) = (phase(&read, "s"), phase(&read, "f"));
    assert_eq!((from.len(), to.len()), (1, 1));
    assert!(micros(&from[0]["ts"]) < micros(&to[0]["ts"]));
}

#[test]
fn qlog_has_the_members_of_its_schema() {
    let read = read(Format::Qlog, &sample());
    assert_eq!((&read["qlog_version"], &read["qlog_format"]), (&json!("0.3"), &json!("JSON")));
    let traces = list(&read, "traces");
    assert_eq!(traces.len(), 5, "two connections on one side, one on the other, two without");
    let mut names = BTreeMap::new();
    for trace in traces {
        assert!(trace["title"].is_string() && trace["vantage_point"]["type"] == "unknown");
        assert_eq!(trace["common_fields"]["time_format"], "relative");
        assert!(trace["common_fields"]["reference_time"].as_f64().unwrap() > 1.8e12);
        let mut before = 0.0;
        for event in list(trace, "events") {
            let time = event["time"].as_f64().unwrap();
            assert!(time >= before && event["data"].is_object());
            before = time;
            *names.entry(event["name"].as_str().unwrap()).or_insert(0) += 1;
            qlog_data(event["name"].as_str().unwrap(), &event["data"]);
        }
    }
    let expected = BTreeMap::from([
        ("connectivity:connection_closed", 2),
        ("connectivity:connection_started", 2),
        ("connectivity:connection_state_updated", 2),
        ("recovery:metrics_updated", 3),
        ("recovery:packet_lost", 1),
        ("transport:data_moved", 2),
        ("transport:datagram_dropped", 1),
        ("transport:datagrams_received", 2),
        ("transport:datagrams_sent", 2),
        ("transport:stream_state_updated", 4),
    ]);
    assert_eq!(names, expected);
}

/// The members that draft-ietf-quic-qlog-quic-events-04 requires of an event, and all that it has.
fn qlog_data(name: &str, data: &Value) {
    let (required, optional): (&[&str], &[&str]) = match name {
        "connectivity:connection_started" => {
            (&["src_ip", "dst_ip"], &["ip_version", "src_port", "dst_port"])
        }
        "connectivity:connection_closed" => (&[], &["reason"]),
        "connectivity:connection_state_updated" => (&["new"], &[]),
        "recovery:metrics_updated" => (&[], &["smoothed_rtt", "congestion_window"]),
        "recovery:packet_lost" => (&[], &[]),
        "transport:data_moved" => (&[], &["stream_id", "offset", "length", "from", "to"]),
        "transport:datagram_dropped" => (&[], &["raw"]),
        "transport:datagrams_received" | "transport:datagrams_sent" => (&[], &["count", "raw"]),
        "transport:stream_state_updated" => {
            (&["stream_id", "new"], &["stream_type", "stream_side"])
        }
        _ => panic!("{name} is not in the schema"),
    };
    let members = data.as_object().unwrap();
    assert!(required.iter().all(|member| members.contains_key(*member)), "{name}: {data}");
    let known = |member: &String| [required, optional].concat().contains(&member.as_str());
    assert!(members.keys().all(known), "{name}: {data}");
}

#[test]
fn qlog_tells_connections_apart_that_had_one_number_after_the_other() {
    let open = EventData::ConnEstablished { rtt: 1, conn: 3 };
    let close = EventData::ConnClosed { conn: 3, reason: [0; 40] };
    let path = EventData::PathMetrics { rtt: 1, conn: 3, window: 1, sent: 1, lost: 0 };
    let datas = [open, close, path, open, close];
    let at = |(timestamp, data)| Event { timestamp, ..Event::new(data) };
    let events = (1..).zip(datas).map(at).collect();
    let read = read(Format::Qlog, &Trace { events, ..Trace::default() });
    let counts: Vec<usize> =
        list(&read, "traces").iter().map(|trace| list(trace, "events").len()).collect();
    assert_eq!(counts, [4, 3], "established is two events");
}

#[test]
fn otlp_has_the_members_of_its_schema() {
    let trace = sample();
    let read = read(Format::Otlp, &trace);
    let resources = list(&read, "resourceSpans");
    assert_eq!(resources.len(), 2);
    let mut ids = BTreeSet::new();
    let (mut parents, mut events, mut failed, mut remote) = (Vec::new(), 0, 0, 0);
    for resource in resources {
        let attributes = list(&resource["resource"], "attributes");
        let service = json!({ "key": "service.name", "value": { "stringValue": "pangea" } });
        assert!(attributes.contains(&service));
        assert!(attributes.iter().any(|pair| pair["key"] == "service.instance.id"));
        for span in list(&list(resource, "scopeSpans")[0], "spans") {
            let hex = |name: &str| span[name].as_str().unwrap().to_owned();
            assert_eq!((hex("traceId").len(), hex("spanId").len()), (32, 16));
            assert!(ids.insert(hex("spanId")), "a span is there once");
            let nanos = |name: &str| hex(name).parse::<u64>().expect("a text of digits");
            assert!(nanos("startTimeUnixNano") <= nanos("endTimeUnixNano"));
            assert!(span["name"].is_string() && span["kind"].as_u64().is_some_and(|kind| kind > 0));
            failed += usize::from(span["status"]["code"] == 2);
            remote += usize::from(span["flags"].as_u64().unwrap() & 0x200 != 0);
            parents.extend(span["parentSpanId"].as_str().map(str::to_owned));
            for event in list(span, "events") {
                let time = event["timeUnixNano"].as_str().unwrap().parse::<u64>();
                assert!(time.is_ok_and(|time| time >= STARTED) && event["name"].is_string());
                events += 1;
            }
        }
    }
    let begun = trace.events.iter().filter(|event| event.has(flags::BEGIN) && event.kind == 2);
    assert_eq!(ids.len(), begun.count());
    assert_eq!(parents.len(), ids.len() - 1, "one root");
    assert!(parents.iter().all(|parent| ids.contains(parent)));
    assert_eq!((failed, remote), (2, 2));
    let within = |e: &&Event| e.span != 0 && ![2, 3].contains(&e.kind);
    assert_eq!(events, trace.events.iter().filter(within).count());
}

#[test]
fn only_the_full_detail_has_what_tells_of_others() {
    let trace = sample();
    let secrets = ["d5d5d5d5", "c7c7c7c7", "10.0.0.2", &"a1".repeat(32), &"b2".repeat(32)];
    for format in Format::ALL {
        let redacted = text(format, &trace, Detail::default());
        for secret in secrets {
            assert!(!redacted.contains(secret), "{} tells {secret}", format.name());
        }
        assert!(redacted.contains("nothing moved") || format == Format::Qlog);
    }
    let all = text(Format::Json, &trace, Detail::Sensitive);
    assert!(secrets.iter().all(|secret| all.contains(secret)), "{all}");
    let qlog = text(Format::Qlog, &trace, Detail::Sensitive);
    assert!(qlog.contains("\"dst_ip\":\"10.0.0.2\"") && qlog.contains("\"dst_port\":4433"));
    let otlp = text(Format::Otlp, &trace, Detail::Sensitive);
    assert!(otlp.contains(&"a1".repeat(32)), "{ALPHA:?} is an instance");
}

#[test]
fn a_writer_that_fails_is_told_wherever_it_fails() {
    let trace = sample();
    for format in Format::ALL {
        let whole = text(format, &trace, Detail::Redacted).len();
        for room in (0..whole).step_by(whole / 50) {
            let mut room = vec![0; room];
            assert!(export(format, &trace, &mut &mut room[..], Detail::Redacted).is_err());
        }
    }
}

#[test]
fn a_trace_of_nothing_has_an_export() {
    for format in Format::ALL {
        read(format, &Trace::default());
    }
}

/// Any bytes, of which many are of a known kind and few of many spans, messages and nodes.
fn any_event() -> impl Strategy<Value = Event> {
    let bytes = prop::collection::vec(any::<u8>(), 128);
    (bytes, 0u16..80, 0u64..4, 0u16..3, any::<bool>()).prop_map(|(bytes, kind, few, node, wild)| {
        let event = Event::from_bytes(&bytes.try_into().expect("128 bytes"));
        if wild {
            return event;
        }
        let mut payload = event.payload;
        // Where a message's number and a parent's are.
        payload[2..10].copy_from_slice(&few.to_le_bytes());
        let trace_id = TraceId([few as u8; 16]);
        Event { kind, span: few, node, core: node, trace_id, payload, ..event }
    })
}

proptest! {
    #[test]
    fn any_events_have_an_export_that_is_json(
        events in prop::collection::vec(any_event(), 0..60),
        cores in 0u16..3,
    ) {
        let (node, name) = (PeerId([1; 32]), "\"\u{7}".to_owned());
        let info = NodeInfo { node, name, started: 0, cores };
        let trace = Trace { nodes: vec![info], events, cut: false };
        for format in Format::ALL {
            for detail in [Detail::Redacted, Detail::Sensitive] {
                let text = text(format, &trace, detail);
                prop_assert!(serde_json::from_str::<Value>(&text).is_ok(), "{text}");
            }
        }
        let read = read(Format::Chrome, &trace);
        for ends in slices(&read).values() {
            let count = |phase: &str| ends.iter().filter(|end| end["ph"] == phase).count();
            prop_assert_eq!(count("b"), count("e"));
        }
        prop_assert_eq!(phase(&read, "s").len(), phase(&read, "f").len());
        for event in list(&read, "traceEvents") {
            prop_assert!(event["ph"] == "M" || micros(&event["ts"]) >= 0.0);
        }
    }
}
