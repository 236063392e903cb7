//! Trace files, which tools read.

use pangea_base::PeerId;
use pangea_trace::export::{Detail, Format, export};
use pangea_trace::{
    EVENT_BYTES, Event, Filter, Kind, NodeInfo, StreamWriter, Trace, TraceId, TraceQuery,
};

/// A trace file: read, put in order, asked about and exported in every format.
pub fn trace(data: &[u8]) {
    let mut trace = Trace::default();
    let read = trace.read(data, &Filter::ALL);
    assert!(trace.events.len() <= data.len() / EVENT_BYTES);
    if read.is_err() {
        return;
    }
    trace.sort();
    for format in Format::ALL {
        for detail in [Detail::Redacted, Detail::Sensitive] {
            let mut out = Vec::new();
            export(format, &trace, &mut out, detail).expect("memory takes everything");
            assert!(std::str::from_utf8(&out).is_ok(), "{} is text", format.name());
        }
    }
    let query = TraceQuery::new(&trace);
    if let Some(event) = trace.events.first() {
        assert!(query.has_trace(event.trace_id) || event.trace_id.is_none());
        if let Some(peer) = event.peer() {
            query.analyze_connection_issues(&peer);
        }
    }
    assert!(query.recent(3).len() <= 3);
}

pub fn trace_seeds() -> Vec<Vec<u8>> {
    let info = |seed: u8| NodeInfo {
        node: PeerId([seed; 32]),
        name: format!("node {seed}"),
        started: 1_700_000_000_000_000_000,
        cores: 2,
    };
    let file = |nodes: &[u8], events: &[Event]| {
        let mut out = Vec::new();
        for node in nodes {
            let mut writer = StreamWriter::new(&mut out, &info(*node)).expect("it is memory");
            writer.events(events).expect("it is memory");
        }
        out
    };
    let of_kind = |kind: &Kind| Event { kind: *kind as u16, ..Event::default() };
    let all: Vec<Event> = Kind::ALL.iter().map(of_kind).collect();
    let some: Vec<Event> = all.iter().step_by(7).copied().collect();
    let named = Event::with_trace_id(TraceId([7; 16]));
    let mut cut = file(&[1], &some);
    cut.truncate(cut.len() - 5);
    let mut later = file(&[1], &[]);
    later[8] = 9;
    vec![file(&[1], &[]), file(&[1], &all), file(&[1, 2], &[named]), cut, later]
}
