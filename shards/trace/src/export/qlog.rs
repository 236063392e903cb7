//! qlog 0.3: draft-ietf-quic-qlog-main-schema-04 and -quic-events-04, which qvis reads.
//!
//! A trace for each connection of each core, and one for each core with what belongs to no
//! connection: datagrams that arrive are counted before QUIC says whose they are. QUIC's packets
//! are quinn-proto's own affair, so there are trains of datagrams in place of packets.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::SocketAddr;

use serde_json::{Map, Value as Json, json};

use super::{Detail, List, core_name, id, in_order, key, node_name, text};
use crate::event::{Event, flags};
use crate::events::EventData;
use crate::stream::Trace;

/// What a trace of the file is about: node, core, connection, and which of those that had its
/// number one after the other.
type Key = (u16, u16, Option<(u32, u32)>);

/// An event of qlog: its name, its data, and members of its own.
type Shown = (&'static str, Json, Vec<(&'static str, Json)>);

pub(super) fn write(trace: &Trace, to: &mut impl Write, detail: Detail) -> io::Result<()> {
    let events = in_order(trace);
    let mut placed = by_connection(&events);
    // Stable: the events of a connection stay in order.
    placed.sort_by_key(|(key, _)| *key);
    // What a reader needs to know the format by stands in front.
    to.write_all(
        b"{\"qlog_version\":\"0.3\",\"qlog_format\":\"JSON\",\"title\":\"pangea\",\"traces\":",
    )?;
    let mut list = List::begin(to)?;
    for group in placed.chunk_by(|(one, _), (other, _)| one == other) {
        if let Some((key, _)) = group.first() {
            let events = group.iter().map(|(_, event)| *event);
            connection(trace, *key, events, list.next()?, detail)?;
        }
    }
    if placed.is_empty() {
        // The format wants at least one; this is what it has for none.
        list.item(&json!({ "error_description": "there are no events of QUIC" }))?;
    }
    list.end()?.write_all(b"}\n")
}

/// The events that have something to say here, with what they belong to. A core gives the number
/// of a connection that ended to a later one.
fn by_connection<'a>(events: &[&'a Event]) -> Vec<(Key, &'a Event)> {
    // How often the number was given before, and whether its connection has ended.
    let mut given: HashMap<(u16, u16, u32), (u32, bool)> = HashMap::new();
    let mut placed = Vec::new();
    for event in events {
        let Some(conn) = conn_of(event) else { continue };
        let conn = conn.map(|conn| {
            let (round, ended) = given.entry((event.node, event.core, conn)).or_default();
            match event.data() {
                Some(EventData::ConnEstablished { .. }) if *ended => {
                    (*round, *ended) = (round.saturating_add(1), false);
                }
                Some(EventData::ConnClosed { .. }) => *ended = true,
                _ => {}
            }
            (conn, *round)
        });
        placed.push(((event.node, event.core, conn), *event));
    }
    placed
}

/// Which connection an event belongs to, if it knows; `None` for what is not in the file at all.
fn conn_of(event: &Event) -> Option<Option<u32>> {
    match event.data()? {
        EventData::ConnInit { .. } | EventData::PacketReceived { .. } => Some(None),
        EventData::ConnEstablished { conn, .. }
        | EventData::ConnClosed { conn, .. }
        | EventData::PathMetrics { conn, .. }
        | EventData::StreamOpened { conn, .. }
        | EventData::StreamData { conn, .. }
        | EventData::PacketSent { conn, .. }
        | EventData::PacketLost { conn, .. }
        | EventData::PacketSendFailed { conn, .. } => Some(Some(conn)),
        _ => None,
    }
}

fn connection<'a>(
    trace: &Trace,
    (node, core, conn): Key,
    events: impl Iterator<Item = &'a Event> + Clone,
    to: &mut impl Write,
    detail: Detail,
) -> io::Result<()> {
    let base = events.clone().map(|event| event.timestamp).min().unwrap_or(0);
    let (name, core) = (node_name(trace, node), core_name(trace, node, core));
    let title = match conn {
        Some((conn, 0)) => format!("{name}, {core}, connection {conn}"),
        Some((conn, round)) => format!("{name}, {core}, connection {conn}, {}", round + 1),
        None => format!("{name}, {core}, no connection"),
    };
    let fields = json!({
        "time_format": "relative",
        "reference_time": millis(base),
        "protocol_type": ["QUIC"],
    });
    let vantage = json!({ "name": format!("{name}, {core}"), "type": "unknown" });
    write!(to, "{{\"title\":{},\"common_fields\":{fields},", Json::from(title))?;
    write!(to, "\"vantage_point\":{vantage},\"events\":")?;
    let mut list = List::begin(to)?;
    for event in events {
        for (name, data, more) in shown(event, detail) {
            let mut shown = Map::from_iter([
                ("time".to_owned(), millis(event.timestamp.saturating_sub(base))),
                ("name".to_owned(), name.into()),
                ("data".to_owned(), data),
            ]);
            shown.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
            shown.extend(common(event, detail));
            list.item(&shown.into())?;
        }
    }
    list.end()?.write_all(b"}")
}

/// Of the members that every event may have, those that are not qlog's.
fn common(event: &Event, detail: Detail) -> Map<String, Json> {
    let mut common = Map::new();
    if !event.trace_id.is_none() {
        common.insert("trace_id".to_owned(), event.trace_id.to_string().into());
    }
    if event.span != 0 {
        common.insert("span_id".to_owned(), id(event.span).into());
    }
    if let Some(peer) = event.peer() {
        common.insert("peer".to_owned(), key(&peer.0, detail).into());
    }
    if event.has(flags::ERROR) {
        common.insert("failed".to_owned(), true.into());
    }
    common
}

fn shown(event: &Event, detail: Detail) -> Vec<Shown> {
    let Some(data) = event.data() else { return Vec::new() };
    match data {
        EventData::ConnInit { endpoint } => vec![started(endpoint, detail)],
        EventData::ConnEstablished { rtt, .. } => vec![
            (
                "connectivity:connection_state_updated",
                json!({ "new": "handshake_confirmed" }),
                vec![],
            ),
            ("recovery:metrics_updated", json!({ "smoothed_rtt": micros(rtt) }), vec![]),
        ],
        EventData::ConnClosed { reason, .. } => {
            let data = json!({ "reason": text(&reason) });
            vec![("connectivity:connection_closed", data, vec![])]
        }
        EventData::PathMetrics { rtt, window, sent, lost, .. } => {
            let data = json!({ "smoothed_rtt": micros(rtt), "congestion_window": window });
            let more = vec![("packets_sent", sent.into()), ("packets_lost", lost.into())];
            vec![("recovery:metrics_updated", data, more)]
        }
        EventData::StreamOpened { stream_id, .. } => opened(stream_id),
        EventData::StreamData { stream_id, offset, length, fin, .. } => {
            let data = json!({
                "stream_id": stream_id,
                "offset": offset,
                "length": length,
                "from": "transport",
                "to": "application",
            });
            vec![("transport:data_moved", data, vec![("fin", (fin == 1).into())])]
        }
        EventData::PacketSent { size, datagrams, packet_num, .. } => {
            vec![("transport:datagrams_sent", train(size, datagrams), first(packet_num))]
        }
        EventData::PacketReceived { size, datagrams, packet_num, endpoint } => {
            let mut more = first(packet_num);
            if detail == Detail::Sensitive {
                more.push(("endpoint", endpoint.to_string().into()));
            }
            vec![("transport:datagrams_received", train(size, datagrams), more)]
        }
        EventData::PacketLost { packet_num, count, bytes, .. } => {
            let before = ("lost_before", packet_num.into());
            let more = vec![("count", count.into()), ("bytes", bytes.into()), before];
            vec![("recovery:packet_lost", json!({}), more)]
        }
        EventData::PacketSendFailed { size, datagrams, packet_num, errno, .. } => {
            let mut more = first(packet_num);
            more.extend([("count", datagrams.into()), ("errno", errno.into())]);
            vec![("transport:datagram_dropped", json!({ "raw": { "length": size } }), more)]
        }
        _ => Vec::new(),
    }
}

/// A train of datagrams. Its `raw` is of all of it: how long each was is not recorded, and who adds
/// lengths up gets what went over the wire.
fn train(size: u32, datagrams: u16) -> Json {
    json!({ "count": datagrams, "raw": [{ "length": size }] })
}

/// The number of a train's first datagram, which is not one of QUIC's packet numbers.
fn first(number: u64) -> Vec<(&'static str, Json)> {
    vec![("first_datagram", number.into())]
}

/// Our own address is not recorded, and the other one is told only in full detail; the format
/// allows for another text in place of either.
fn started(endpoint: SocketAddr, detail: Detail) -> Shown {
    let version = if endpoint.is_ipv4() { "v4" } else { "v6" };
    let data = match detail {
        Detail::Redacted => {
            json!({ "ip_version": version, "src_ip": "local", "dst_ip": "redacted" })
        }
        Detail::Sensitive => json!({
            "ip_version": version,
            "src_ip": "local",
            "dst_ip": endpoint.ip().to_string(),
            "dst_port": endpoint.port(),
        }),
    };
    ("connectivity:connection_started", data, vec![])
}

/// Both sides of a stream with two directions open at once, and the format wants them told apart.
fn opened(stream_id: u64) -> Vec<Shown> {
    let side = |kind: &str, side: Option<&str>| {
        let mut data = json!({ "stream_id": stream_id, "stream_type": kind, "new": "open" });
        if let (Some(side), Some(data)) = (side, data.as_object_mut()) {
            data.insert("stream_side".to_owned(), side.into());
        }
        ("transport:stream_state_updated", data, vec![])
    };
    // RFC 9000, section 2.1: the second lowest bit.
    match stream_id & 2 {
        0 => vec![side("bidirectional", Some("sending")), side("bidirectional", Some("receiving"))],
        _ => vec![side("unidirectional", None)],
    }
}

fn millis(nanos: u64) -> Json {
    Json::from(nanos as f64 / 1e6)
}

fn micros(micros: u32) -> f64 {
    f64::from(micros) / 1000.0
}
