//! OpenTelemetry's traces in OTLP's JSON: pieces of work are spans, what else they recorded are
//! events of theirs. Numbers of 64 bits are texts and ids are hexadecimal digits, as OTLP says.
//!
//! What belongs to no piece of work, or to one whose beginning is not in the trace, has no place in
//! the format and is left out.

use std::collections::HashMap;
use std::io::{self, Write};

use serde_json::{Map, Value as Json, json};

use super::{
    Detail, List, core_name, details, hex, id, in_order, kind_name, node_name, span_name, text,
};
use crate::context::{SpanKind, TraceId};
use crate::event::{Event, flags};
use crate::events::{EventData, Kind};
use crate::stream::Trace;

/// OTLP's numbers for what a span is.
const INTERNAL: u8 = 1;
const SERVER: u8 = 2;
const CLIENT: u8 = 3;
/// OTLP's number for a span that failed.
const STATUS_ERROR: u8 = 2;
/// OTLP's flags of a span: W3C's "sampled"; that it is known where the parent is; elsewhere.
const SAMPLED: u32 = 1;
const KNOWS_PARENT: u32 = 0x100;
const PARENT_IS_REMOTE: u32 = 0x200;

/// A piece of work with what was recorded in it.
struct Span<'a> {
    begin: &'a Event,
    end: Option<&'a Event>,
}

pub(super) fn write(trace: &Trace, to: &mut impl Write, detail: Detail) -> io::Result<()> {
    let events = in_order(trace);
    let mut spans = Spans::find(&events);
    // By span; stable, so in order within.
    spans.within.sort_by_key(|(span, _)| *span);
    let mut order: Vec<usize> = (0..spans.all.len()).collect();
    order.sort_by_key(|span| spans.all.get(*span).map(|span| span.begin.node));
    let last = events.last().map_or(0, |event| event.timestamp);
    to.write_all(b"{\"resourceSpans\":")?;
    let mut nodes = List::begin(to)?;
    let node_of = |span: &usize| spans.all.get(*span).map(|span| span.begin.node);
    for group in order.chunk_by(|one, other| node_of(one) == node_of(other)) {
        let Some(node) = group.first().and_then(node_of) else { continue };
        let to = nodes.next()?;
        let resource = resource(trace, node, detail);
        write!(to, "{{\"resource\":{resource},\"scopeSpans\":[{{\"scope\":{{")?;
        write!(to, "\"name\":\"pangea-trace\"}},\"spans\":")?;
        let mut list = List::begin(to)?;
        for number in group {
            if let Some(span) = spans.all.get(*number) {
                write_span(trace, &spans, span, last, &mut list, spans.events(*number), detail)?;
            }
        }
        list.end()?.write_all(b"}]}")?;
    }
    nodes.end()?.write_all(b"}\n")
}

struct Spans<'a> {
    all: Vec<Span<'a>>,
    // By node, trace and span: which of all.
    by_id: HashMap<(u16, TraceId, u64), usize>,
    // On which node a span is.
    home: HashMap<(TraceId, u64), u16>,
    // Other events, with the span that they belong to.
    within: Vec<(usize, &'a Event)>,
}

impl<'a> Spans<'a> {
    fn find(events: &[&'a Event]) -> Spans<'a> {
        let (by_id, home) = (HashMap::new(), HashMap::new());
        let mut spans = Spans { all: Vec::new(), by_id, home, within: Vec::new() };
        // OTLP has no span without a trace, and none without a number.
        let within_trace = |event: &&&Event| event.span != 0 && !event.trace_id.is_none();
        // All beginnings first: another core may seem to have done some of it before.
        for event in events.iter().filter(within_trace) {
            if event.kind == Kind::SpanBegin as u16 {
                spans.home.entry((event.trace_id, event.span)).or_insert(event.node);
                spans.by_id.entry(key(event)).or_insert_with(|| {
                    spans.all.push(Span { begin: event, end: None });
                    spans.all.len() - 1
                });
            }
        }
        for event in events.iter().filter(within_trace) {
            let Some(number) = spans.by_id.get(&key(event)) else { continue };
            let Some(span) = spans.all.get_mut(*number) else { continue };
            match event.data() {
                Some(EventData::SpanBegin { .. }) => {}
                Some(EventData::SpanEnd { .. }) => _ = span.end.get_or_insert(event),
                _ => spans.within.push((*number, event)),
            }
        }
        spans
    }

    /// What was recorded within a span; `within` is in order by span.
    fn events(&self, span: usize) -> &[(usize, &'a Event)] {
        let start = self.within.partition_point(|(of, _)| *of < span);
        let end = self.within.partition_point(|(of, _)| *of <= span);
        self.within.get(start..end).unwrap_or_default()
    }
}

fn key(event: &Event) -> (u16, TraceId, u64) {
    (event.node, event.trace_id, event.span)
}

fn resource(trace: &Trace, node: u16, detail: Detail) -> Json {
    let info = trace.nodes.get(usize::from(node));
    let instance = match (info, detail) {
        (Some(info), Detail::Sensitive) => hex(&info.node.0),
        _ => node_name(trace, node),
    };
    let mut known = Map::from_iter([
        ("service.name".to_owned(), Json::from("pangea")),
        ("service.instance.id".to_owned(), instance.into()),
    ]);
    if let Some(info) = info {
        known.insert("pangea.node.name".to_owned(), text(info.name.as_bytes()).into());
    }
    json!({ "attributes": attributes(known) })
}

/// A span, and then what was recorded in it, which may be much.
fn write_span<W: Write>(
    trace: &Trace,
    spans: &Spans<'_>,
    span: &Span<'_>,
    last: u64,
    list: &mut List<'_, W>,
    within: &[(usize, &Event)],
    detail: Detail,
) -> io::Result<()> {
    let mut head = shown(trace, spans, span, last).to_string();
    // Open it again.
    head.pop();
    let to = list.next()?;
    write!(to, "{head},\"events\":")?;
    let mut events = List::begin(to)?;
    for (_, event) in within {
        events.item(&moment(event, detail))?;
    }
    events.end()?.write_all(b"}")
}

fn shown(trace: &Trace, spans: &Spans<'_>, span: &Span<'_>, last: u64) -> Json {
    let begin = span.begin;
    let (what, parent, which) = match begin.data() {
        Some(EventData::SpanBegin { what, parent, number }) => (what, parent, number),
        _ => (0, 0, 0),
    };
    let remote = match spans.home.get(&(begin.trace_id, parent)) {
        Some(node) => *node != begin.node,
        None => begin.has(flags::REMOTE),
    };
    let mut known = Map::from_iter([
        ("pangea.number".to_owned(), Json::from(which)),
        ("thread.id".to_owned(), begin.core.into()),
        ("thread.name".to_owned(), core_name(trace, begin.node, begin.core).into()),
    ]);
    let (name, value) = match span.end.and_then(Event::data) {
        Some(EventData::SpanEnd { bytes, .. }) => ("pangea.bytes", bytes.into()),
        _ => ("pangea.unfinished", true.into()),
    };
    known.insert(name.to_owned(), value);
    let failed = span.end.is_some_and(|end| end.has(flags::ERROR));
    let end = span.end.map_or(last, |end| end.timestamp).max(begin.timestamp);
    let mut shown = json!({
        "traceId": begin.trace_id.to_string(),
        "spanId": id(begin.span),
        "name": span_name(what),
        "kind": span_kind(what),
        "startTimeUnixNano": begin.timestamp.to_string(),
        "endTimeUnixNano": end.to_string(),
        "attributes": attributes(known),
        "status": if failed { json!({ "code": STATUS_ERROR }) } else { json!({}) },
        "flags": if begin.has(flags::SAMPLED) { SAMPLED } else { 0 }
            | KNOWS_PARENT
            | if remote { PARENT_IS_REMOTE } else { 0 },
    });
    if let (Some(shown), true) = (shown.as_object_mut(), parent != 0) {
        shown.insert("parentSpanId".to_owned(), id(parent).into());
    }
    shown
}

fn moment(event: &Event, detail: Detail) -> Json {
    let mut known = details(event, detail);
    // The span says these.
    known.remove("trace");
    known.remove("span");
    let named = |(name, value)| (format!("pangea.{name}"), value);
    let mut known: Map<String, Json> = known.into_iter().map(named).collect();
    known.insert("thread.id".to_owned(), event.core.into());
    json!({
        "timeUnixNano": event.timestamp.to_string(),
        "name": kind_name(event),
        "attributes": attributes(known),
    })
}

fn span_kind(what: u16) -> u8 {
    match SpanKind::from_number(what) {
        Some(SpanKind::Ask | SpanKind::Shard) => CLIENT,
        Some(SpanKind::Serve) => SERVER,
        _ => INTERNAL,
    }
}

/// OTLP's key-value pairs; what was redacted is left out.
fn attributes(known: Map<String, Json>) -> Json {
    let pair = |(key, value): (String, Json)| {
        let value = any_value(value)?;
        Some(json!({ "key": key, "value": value }))
    };
    known.into_iter().filter_map(pair).collect()
}

fn any_value(value: Json) -> Option<Json> {
    match value {
        Json::Null => None,
        Json::Bool(flag) => Some(json!({ "boolValue": flag })),
        // OTLP's numbers are signed; what is greater is shown as text.
        Json::Number(number) => Some(match number.as_i64() {
            Some(number) => json!({ "intValue": number.to_string() }),
            None => json!({ "stringValue": number.to_string() }),
        }),
        Json::String(text) => Some(json!({ "stringValue": text })),
        Json::Array(values) => {
            let values: Vec<Json> = values.into_iter().filter_map(any_value).collect();
            Some(json!({ "arrayValue": { "values": values } }))
        }
        Json::Object(_) => None,
    }
}
