//! Events in the formats of other programs.
//!
//! What is exported may come from a file that anybody wrote: kinds may be unknown, work may end
//! that never began, and times may be absurd. Every such trace has an export; at worst a strange
//! one.

mod chrome;
mod json;
mod otlp;
mod plan;
mod qlog;

use std::io::{self, Write};

use serde_json::{Map, Value as Json};

use crate::context::SpanKind;
use crate::event::{Event, flags};
use crate::events::Kind;
use crate::field::Value;
use crate::stream::Trace;

pub(crate) use json::{Layout, array};

/// Hexadecimal digits of a key where it is shortened: two a byte.
const SHORT_KEY_DIGITS: usize = 8;

/// For which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An array of objects, an object a line, with all that is known of each event.
    Json,
    /// Chrome's trace events, for Perfetto and chrome://tracing: a process for each node, a track
    /// for each core, arrows from what caused something to what it caused.
    Chrome,
    /// qlog 0.3 (draft-ietf-quic-qlog-main-schema-04), for qvis: what there is of connections,
    /// streams and datagrams. QUIC's own packets are not recorded, so none are in it.
    Qlog,
    /// OpenTelemetry's traces as OTLP/JSON: pieces of work, and the events within them.
    Otlp,
}

impl Format {
    /// All.
    pub const ALL: [Format; 4] = [Format::Json, Format::Chrome, Format::Qlog, Format::Otlp];

    /// The name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Chrome => "chrome",
            Format::Qlog => "qlog",
            Format::Otlp => "otlp",
        }
    }

    /// How the name of a file of it usually ends, with the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Json => ".json",
            Format::Chrome => ".trace.json",
            Format::Qlog => ".qlog",
            Format::Otlp => ".otlp.json",
        }
    }
}

/// How much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Detail {
    /// Without what an application recorded of its commands, without addresses, and with keys cut
    /// to eight digits. Reasons that are text, numbers, times and names of nodes are left.
    #[default]
    Redacted,
    /// All of it.
    Sensitive,
}

/// Writes a trace for another program, piece by piece: the text is never in memory as a whole. What
/// is not in order by time is put in order. Fails only if writing fails.
pub fn export(
    format: Format,
    trace: &Trace,
    to: &mut impl Write,
    detail: Detail,
) -> io::Result<()> {
    match format {
        Format::Json => json::write(trace, to, detail),
        Format::Chrome => chrome::write(trace, to, detail),
        Format::Qlog => qlog::write(trace, to, detail),
        Format::Otlp => otlp::write(trace, to, detail),
    }
}

/// The parts of a JSON array, written one by one.
struct List<'a, W> {
    to: &'a mut W,
    first: bool,
}

impl<'a, W: Write> List<'a, W> {
    fn begin(to: &'a mut W) -> io::Result<List<'a, W>> {
        to.write_all(b"[")?;
        Ok(List { to, first: true })
    }

    /// Where the next part is to be written to.
    fn next(&mut self) -> io::Result<&mut W> {
        self.to.write_all(if self.first { b"\n" } else { b",\n" })?;
        self.first = false;
        Ok(self.to)
    }

    fn item(&mut self, item: &Json) -> io::Result<()> {
        Ok(serde_json::to_writer(self.next()?, item)?)
    }

    fn end(self) -> io::Result<&'a mut W> {
        self.to.write_all(if self.first { b"]" } else { b"\n]" })?;
        Ok(self.to)
    }
}

/// In order by time, whatever order they have.
fn in_order(trace: &Trace) -> Vec<&Event> {
    let mut events: Vec<&Event> = trace.events.iter().collect();
    events.sort_by_key(|e| (e.timestamp, e.node, e.core, e.sequence, e.kind));
    events
}

fn kind_name(event: &Event) -> String {
    event.kind().map_or_else(|| format!("kind {}", event.kind), |kind| kind.name().to_owned())
}

fn class_name(event: &Event) -> &'static str {
    event.kind().map_or("unknown", |kind| Kind::class(kind).name())
}

fn span_name(what: u16) -> String {
    SpanKind::from_number(what)
        .map_or_else(|| format!("work {what}"), |kind| kind.name().to_owned())
}

/// What people call the core: by number, or that it is the control thread.
fn core_name(trace: &Trace, node: u16, core: u16) -> String {
    match trace.nodes.get(usize::from(node)) {
        Some(info) if info.cores == core => "control".to_owned(),
        _ => format!("core {core}"),
    }
}

/// A node's name with the beginning of its key.
fn node_name(trace: &Trace, node: u16) -> String {
    match trace.nodes.get(usize::from(node)) {
        Some(info) if info.name.is_empty() => key(&info.node.0, Detail::Redacted),
        Some(info) => format!("{} ({})", text(info.name.as_bytes()), short_key(&info.node.0)),
        None => format!("node {node}"),
    }
}

fn flag_names(event: &Event) -> Vec<String> {
    let known = flags::NAMES.len();
    (0..u16::BITS as usize)
        .filter(|bit| event.flags >> bit & 1 == 1)
        .map(|bit| match flags::NAMES.get(bit) {
            Some(name) if bit < known => (*name).to_owned(),
            _ => format!("bit {bit}"),
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Numbers of spans and messages, of which all 64 bits count: many readers of JSON keep only 53.
fn id(number: u64) -> String {
    format!("{number:016x}")
}

fn short_key(bytes: &[u8; 32]) -> String {
    hex(bytes.get(..SHORT_KEY_DIGITS / 2).unwrap_or_default())
}

fn key(bytes: &[u8; 32], detail: Detail) -> String {
    match detail {
        Detail::Redacted => short_key(bytes),
        Detail::Sensitive => hex(bytes),
    }
}

/// Text in a field, up to its zeros. A peer may have written it, so that control characters, which
/// are orders to a terminal, become signs that they were there.
pub(crate) fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let shown = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    text.trim_end_matches('\0').chars().map(shown).collect()
}

/// An application's id: as text if it is, else in hexadecimal digits.
fn app_name(app_id: &[u8]) -> String {
    match app_id.iter().all(u8::is_ascii_graphic) {
        true => text(app_id),
        false => hex(app_id),
    }
}

/// An event's own fields, by name.
fn fields(event: &Event, detail: Detail) -> Map<String, Json> {
    let Some(data) = event.data() else {
        let payload = bytes_or_null(&event.payload, detail);
        return Map::from_iter([("payload".to_owned(), payload)]);
    };
    let shown = |(name, value)| (str::to_owned(name), field(name, &value, detail));
    data.values().into_iter().map(shown).collect()
}

fn field(name: &str, value: &Value, detail: Detail) -> Json {
    match (name, value) {
        ("hop" | "parent", Value::Number(number)) => id(*number).into(),
        ("what", Value::Number(number)) => span_name(u16::try_from(*number).unwrap_or(0)).into(),
        ("operation", Value::Number(number)) => operation_name(*number).into(),
        (_, Value::Number(number)) => (*number).into(),
        ("reason", Value::Bytes(bytes)) => text(bytes).into(),
        ("app_id", Value::Bytes(bytes)) => app_name(bytes).into(),
        (_, Value::Bytes(bytes)) => bytes_or_null(bytes, detail),
        (_, Value::Address(_)) if detail == Detail::Redacted => Json::Null,
        (_, Value::Address(address)) => address.to_string().into(),
    }
}

fn bytes_or_null(bytes: &[u8], detail: Detail) -> Json {
    match detail {
        Detail::Redacted => Json::Null,
        Detail::Sensitive => hex(bytes).into(),
    }
}

/// The operation of a [`Kind::FileDone`](crate::Kind::FileDone), as the table in `events.rs` says.
pub fn operation_name(operation: u64) -> &'static str {
    match operation {
        0 => "open",
        1 => "read",
        2 => "write",
        3 => "sync",
        4 => "close",
        _ => "other",
    }
}

/// All of an event but its own fields' names: for whoever shows details.
fn details(event: &Event, detail: Detail) -> Map<String, Json> {
    let mut details = fields(event, detail);
    let mut put = |name: &str, value: Json| {
        details.insert(name.to_owned(), value);
    };
    if !event.trace_id.is_none() {
        put("trace", event.trace_id.to_string().into());
    }
    if event.span != 0 {
        put("span", id(event.span).into());
    }
    if let Some(peer) = event.peer() {
        put("peer", key(&peer.0, detail).into());
    }
    if event.flags != 0 {
        put("flags", flag_names(event).into());
    }
    put("sequence", event.sequence.into());
    details
}
