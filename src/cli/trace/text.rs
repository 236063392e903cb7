//! Events as lines: for people in words, for programs in JSON.

#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

use std::io::{self, BufWriter, Write};
use std::time::Duration;

use pangea_trace::export::operation_name;
use pangea_trace::{Event, EventData, NodeInfo, SpanKind, Value, flags};
use serde_json::{Map, json};

use crate::cli::exit::{Failure, printable};
use crate::cli::say::{self, Stdout};
use crate::cli::screen::Format;
use crate::units;

/// Writes events to stdout, one a line.
pub struct Lines {
    out: BufWriter<Stdout>,
    format: Format,
    // Days since 1970 of the last line.
    day: Option<u64>,
    count: u64,
}

const NANOS_PER_DAY: u64 = 86_400_000_000_000;

impl Lines {
    /// Lines of this format.
    pub fn new(format: Format) -> Result<Lines, Failure> {
        let out = stdout()?;
        Ok(Lines { out: BufWriter::new(out), format, day: None, count: 0 })
    }

    /// Writes an event. People are told the day first, and when it changes.
    pub fn event(&mut self, info: Option<&NodeInfo>, event: &Event) -> io::Result<()> {
        self.count = self.count.saturating_add(1);
        if self.format == Format::Json {
            return writeln!(self.out, "{}", json_of(info, event));
        }
        let day = event.timestamp.checked_div(NANOS_PER_DAY).unwrap_or(0);
        if self.day.replace(day) != Some(day) {
            writeln!(self.out, "{} (UTC)", date(day))?;
        }
        writeln!(self.out, "{}", printable(&line(info, event)))
    }

    /// Tells programs that a node is watched now.
    pub fn node(&mut self, info: &NodeInfo) -> io::Result<()> {
        if self.format == Format::Human {
            return Ok(());
        }
        let (name, id, cores) = (&info.name, info.node.to_string(), info.cores);
        let line = json!({ "event": "node", "node": name, "node_id": id, "cores": cores });
        writeln!(self.out, "{line}")
    }

    /// Everything that was written is seen.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }
}

/// Stdout, if it is there.
pub fn stdout() -> Result<Stdout, Failure> {
    say::stdout().map_err(|cause| Failure::file(format!("stdout cannot be written: {cause}")))
}

/// What a failure to write to stdout means: nothing if nobody reads on (`| head`).
pub fn unless_closed(cause: &io::Error) -> Result<u8, Failure> {
    match cause.kind() {
        io::ErrorKind::BrokenPipe => Ok(0),
        _ => Err(Failure::file(format!("stdout cannot be written: {cause}"))),
    }
}

/// Columns: time of day, node, core, kind, words; then trace and peer, if there are any.
fn line(info: Option<&NodeInfo>, event: &Event) -> String {
    let node = info.map_or("?", |info| info.name.as_str());
    let kind = event.kind().map_or_else(|| format!("kind {}", event.kind), |k| k.name().into());
    let failed = match event.has(flags::ERROR) && event.kind() != Some(pangea_trace::Kind::SpanEnd)
    {
        true => " (failed)",
        false => "",
    };
    let mut line = format!(
        "{}  {node:8} {:>3}  {kind:16} {}{failed}",
        time_of_day(event.timestamp),
        core(info, event),
        words(info, event),
    );
    if !event.trace_id.is_none() {
        let id = event.trace_id.to_string();
        let digits = id.get(..8).unwrap_or_default();
        // A peer may give its requests any name.
        let theirs = if event.has(flags::REMOTE) { "~" } else { "" };
        line.push_str(&format!("  trace {theirs}{digits}"));
    }
    if let Some(peer) = event.peer() {
        line.push_str(&format!("  peer {}", peer.short()));
    }
    line
}

fn other_core(info: Option<&NodeInfo>, number: u16) -> String {
    match info.is_some_and(|info| number >= info.cores) {
        true => "control".into(),
        false => format!("core {number}"),
    }
}

fn core(info: Option<&NodeInfo>, event: &Event) -> String {
    match info.is_some_and(|info| event.core >= info.cores) {
        true => "ctl".into(),
        false => event.core.to_string(),
    }
}

/// `20:08:51.123456`.
fn time_of_day(nanos: u64) -> String {
    let micros = nanos.checked_rem(NANOS_PER_DAY).unwrap_or(0) / 1000;
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{micros:06}", seconds % 60)
}

/// `2026-11-28`, from days since 1970 (Hinnant's algorithm, by eras of 400 years from March).
#[allow(clippy::arithmetic_side_effects)] // A u64 of nanoseconds has 213,504 days.
fn date(days: u64) -> String {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// The event's own fields, as a person would say them. What is not said here (a kind that is new)
/// is said field by field.
fn words(info: Option<&NodeInfo>, event: &Event) -> String {
    use EventData as E;
    let Some(data) = event.data() else { return "of a later version".into() };
    let micros = |micros: u32| units::time(Duration::from_micros(micros.into()));
    let bytes = |bytes: u32| units::bytes(bytes.into());
    match data {
        E::Gap { lost } => format!("{lost} events were overwritten before they were read"),
        E::SpanBegin { what, number, .. } => format!("{} {number} begins", span_name(what)),
        E::SpanEnd { what, bytes: 0 } => format!("{} {}", span_name(what), ended(event)),
        E::SpanEnd { what, bytes } => {
            format!("{} {}, {}", span_name(what), ended(event), units::bytes(bytes))
        }
        E::ConnInit { endpoint } => format!("with {endpoint}"),
        E::ConnEstablished { rtt, conn } => {
            format!("connection {conn}, round trip {}", micros(rtt))
        }
        E::ConnClosed { conn, reason } => format!("connection {conn}: {}", text(&reason)),
        E::PathMetrics { rtt, conn, window, sent, lost } => format!(
            "connection {conn}: round trip {}, window {}, {lost} of {sent} packets lost",
            micros(rtt),
            units::bytes(window)
        ),
        E::StreamOpened { stream_id, conn } => format!("stream {stream_id} of connection {conn}"),
        E::StreamData { stream_id, offset, length, fin, conn } => {
            let end = if fin == 1 { ", the end" } else { "" };
            format!("connection {conn}, stream {stream_id}: {} at {offset}{end}", bytes(length))
        }
        E::MeshSent { to, .. } => format!("to {}", other_core(info, to)),
        E::MeshReceived { from, .. } => format!("from {}", other_core(info, from)),
        other => words_of_bytes(&other),
    }
}

/// The same of what has to do with packets, codes and shards.
fn words_of_bytes(data: &EventData) -> String {
    use EventData as E;
    let bytes = |bytes: u32| units::bytes(bytes.into());
    match *data {
        E::PacketSent { size, packet_num, datagrams, conn } => {
            let which = datagrams_from(packet_num, datagrams);
            format!("connection {conn}: {which}, {}", bytes(size))
        }
        E::PacketReceived { size, packet_num, datagrams, endpoint } => {
            let which = datagrams_from(packet_num, datagrams);
            format!("{which}, {}, from {endpoint}", bytes(size))
        }
        E::PacketLost { packet_num, count, bytes, conn } => {
            let size = units::bytes(bytes);
            format!("connection {conn}: {count} packets, {size}; {packet_num} before")
        }
        E::PacketSendFailed { size, packet_num, datagrams, errno, conn } => {
            let which = datagrams_from(packet_num, datagrams);
            format!("connection {conn}: {which}, {}, error {errno}", bytes(size))
        }
        E::SegmentSealed { chunk, plain, done } => {
            format!("chunk {chunk}: {} of plaintext, {} so far", bytes(plain), units::bytes(done))
        }
        E::StripeCoded { chunk, stripe, k, m } => {
            format!("chunk {chunk}: stripe {stripe} as {k} + {m}")
        }
        E::StripeDecoded { chunk, stripe, restored } => {
            format!("chunk {chunk}: stripe {stripe}, {restored} units computed")
        }
        E::SegmentOpened { chunk, plain, offset } => {
            format!("chunk {chunk}: {} at {offset}", bytes(plain))
        }
        E::ShardStored { chunk, index, bytes } | E::ReceiptTaken { chunk, index, bytes } => {
            format!("chunk {chunk}: shard {index}, {}", units::bytes(bytes))
        }
        E::ShardRefused { chunk, index, reason } | E::HolderFailed { chunk, index, reason } => {
            format!("chunk {chunk}: shard {index}: {}", text(&reason))
        }
        E::FileDone { operation, bytes: length, errno, nanos: took } => {
            let errno = if errno == 0 { String::new() } else { format!(", error {errno}") };
            format!(
                "{} {} in {}{errno}",
                operation_name(operation.into()),
                bytes(length),
                units::time(Duration::from_nanos(took))
            )
        }
        other => {
            let field = |(name, value): &(&str, Value)| format!("{name} {}", plain(value));
            other.values().iter().map(field).collect::<Vec<_>>().join(", ")
        }
    }
}

/// `datagram 7`, `datagrams 7 to 9`.
fn datagrams_from(first: u64, count: u16) -> String {
    match count {
        0 | 1 => format!("datagram {first}"),
        _ => format!(
            "datagrams {first} to {}",
            first.saturating_add(u64::from(count)).saturating_sub(1)
        ),
    }
}

fn ended(event: &Event) -> &'static str {
    if event.has(flags::ERROR) { "failed" } else { "is done" }
}

fn span_name(what: u16) -> String {
    SpanKind::from_number(what).map_or_else(|| format!("span {what}"), |kind| kind.name().into())
}

/// A field of text, filled up with zero.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

fn plain(value: &Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        Value::Address(address) => address.to_string(),
        // Nobody knows what an application put there: hexadecimal, without the zeros at the end.
        Value::Bytes(bytes) => {
            let end =
                bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at.saturating_add(1));
            data_encoding::HEXLOWER.encode(bytes.get(..end).unwrap_or_default())
        }
    }
}

/// One JSON object. Numbers of spans are text: they are larger than most programs' numbers.
fn json_of(info: Option<&NodeInfo>, event: &Event) -> serde_json::Value {
    let kind = match event.kind() {
        Some(kind) => json!(kind.name()),
        None => json!(event.kind),
    };
    let named = flags::NAMES.iter().enumerate();
    let set = named.filter(|(bit, _)| event.flags >> bit & 1 == 1).map(|(_, name)| *name);
    let mut fields = Map::new();
    for (name, value) in event.data().iter().flat_map(EventData::values) {
        fields.insert(name.into(), field_json(name, &value));
    }
    json!({
        "event": "recorded",
        "nanos": event.timestamp,
        "node": info.map(|info| info.name.as_str()),
        "node_id": info.map(|info| info.node.to_string()),
        "core": core(info, event).parse::<u16>().ok(),
        "sequence": event.sequence,
        "kind": kind,
        "class": event.kind().map(|kind| kind.class().name()),
        "trace": (!event.trace_id.is_none()).then(|| event.trace_id.to_string()),
        "span": (event.span != 0).then(|| format!("{:016x}", event.span)),
        "peer": event.peer().map(|peer| peer.to_string()),
        "flags": set.collect::<Vec<_>>(),
        "fields": fields,
    })
}

fn field_json(name: &str, value: &Value) -> serde_json::Value {
    match (name, value) {
        ("parent" | "hop", Value::Number(number)) => json!(format!("{number:016x}")),
        ("what", Value::Number(number)) => {
            json!(span_name(u16::try_from(*number).unwrap_or(u16::MAX)))
        }
        ("reason", Value::Bytes(bytes)) => json!(text(bytes)),
        (_, Value::Number(number)) => json!(number),
        (_, other) => json!(plain(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pangea_base::PeerId;
    use pangea_trace::{Kind, TraceId, words as cut};

    fn info() -> NodeInfo {
        NodeInfo { node: PeerId([1; 32]), name: "shelf".into(), started: 0, cores: 2 }
    }

    #[test]
    fn an_event_is_a_line_for_people() {
        let at = 1_790_000_000_123_456_789;
        let id: TraceId = "0123456789abcdef0123456789abcdef".parse().unwrap();
        let data = EventData::StripeCoded { chunk: 3, stripe: 7, k: 10, m: 4 };
        let event = Event { timestamp: at, core: 1, trace_id: id, ..Event::new(data) };
        let event = event.with_peer(&PeerId([2; 32]));
        let shown = line(Some(&info()), &event);
        assert!(shown.starts_with("14:13:20.123456  shelf      1  StripeCoded"), "{shown}");
        assert!(shown.contains("chunk 3: stripe 7 as 10 + 4  trace 01234567  peer "), "{shown}");
        let data = EventData::ConnClosed { conn: 1, reason: cut("gone\u{1b}[2J") };
        let shown = printable(&line(None, &Event { core: 2, ..Event::new(data) }));
        assert!(shown.ends_with("connection 1: gone\u{fffd}[2J"), "{shown}");
        let control = line(Some(&info()), &Event { core: 2, ..Event::new(data) });
        assert!(control.contains(" ctl "), "{control}");
    }

    #[test]
    fn days_are_named() {
        for (days, name) in [
            (0, "1970-01-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_785, "2026-11-28"),
            (213_503, "2554-07-21"),
        ] {
            assert_eq!(date(days), name);
        }
    }

    #[test]
    fn every_kind_has_words_and_json_even_if_all_its_bytes_are_set() {
        for byte in [0, 1, 0xff] {
            for number in (0..=200).chain([u16::MAX]) {
                let event = Event {
                    kind: number,
                    payload: [byte; pangea_trace::PAYLOAD_BYTES],
                    timestamp: u64::from(byte) << 56,
                    flags: u16::MAX,
                    ..Event::default()
                };
                assert!(!line(Some(&info()), &event).is_empty());
                let json = json_of(Some(&info()), &event);
                let known = Kind::from_number(number);
                assert_eq!(json["kind"].as_str(), known.map(Kind::name));
                assert_eq!(
                    json["fields"].as_object().map_or(0, Map::len),
                    known.map_or(0, |kind| kind.fields().len())
                );
            }
        }
    }
}
