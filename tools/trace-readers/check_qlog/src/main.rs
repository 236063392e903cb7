//! Reads a qlog file into Cloudflare's model of qlog 0.3 (package `qlog`), which knows every event
//! and its members by type, and prints what it found. Fails if it is not understood.
//!
//! Usage: check_qlog FILE [TRACES]   TRACES: there must be so many

use std::collections::BTreeMap;
use std::process::ExitCode;

use qlog::Qlog;
use qlog::events::{Event, EventData};

fn main() -> ExitCode {
    match check() {
        Ok(()) => ExitCode::SUCCESS,
        Err(wrong) => {
            eprintln!("check_qlog: {wrong}");
            ExitCode::FAILURE
        }
    }
}

fn check() -> Result<(), String> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("which file?")?;
    let wanted = args.next().map(|count| count.parse::<usize>()).transpose();
    let wanted = wanted.map_err(|_| "TRACES is not a number")?;
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let file: Qlog = serde_json::from_str(&text).map_err(|error| format!("{path}: {error}"))?;
    if (file.qlog_version.as_str(), file.qlog_format.as_str()) != ("0.3", "JSON") {
        return Err(format!("version {} as {}", file.qlog_version, file.qlog_format));
    }
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for trace in &file.traces {
        let title = trace.title.as_deref().unwrap_or("a trace without a title");
        println!("  {title}: {} events", trace.events.len());
        let reference = trace.common_fields.as_ref().and_then(|fields| fields.reference_time);
        if !reference.is_some_and(|time| time >= 0.0) {
            return Err(format!("{title}: no reference time"));
        }
        let mut before = 0.0;
        for event in &trace.events {
            if event.time < before {
                return Err(format!("{title}: {} comes before {before}", event.time));
            }
            before = event.time;
            *counts.entry(named(event)?).or_default() += 1;
        }
    }
    for (name, count) in &counts {
        println!("  {name}: {count}");
    }
    let events: u32 = counts.values().sum();
    println!("{{\"traces\":{},\"events\":{events},\"kinds\":{}}}", file.traces.len(), counts.len());
    if events == 0 || wanted.is_some_and(|wanted| wanted != file.traces.len()) {
        return Err(format!("{} traces with {events} events", file.traces.len()));
    }
    println!("ok");
    Ok(())
}

/// The event's name; that its data were understood is seen in what the model keeps of them.
fn named(event: &Event) -> Result<String, String> {
    let kept = match &event.data {
        EventData::DatagramsSent(data) => data.count.is_some() && data.raw.is_some(),
        EventData::DatagramsReceived(data) => data.count.is_some() && data.raw.is_some(),
        EventData::DataMoved(data) => data.length.is_some() && data.from.is_some(),
        EventData::MetricsUpdated(data) => data.smoothed_rtt.is_some(),
        EventData::StreamStateUpdated(data) => data.stream_type.is_some(),
        EventData::ConnectionClosed(data) => data.reason.is_some(),
        EventData::ConnectionStarted(data) => !data.dst_ip.is_empty(),
        EventData::ConnectionStateUpdated(_)
        | EventData::PacketLost(_)
        | EventData::DatagramDropped(_) => true,
        other => return Err(format!("an event that we do not write: {other:?}")),
    };
    if !kept {
        return Err(format!("nothing was kept of {:?}", event.data));
    }
    let shown = serde_json::to_value(event).map_err(|error| error.to_string())?;
    Ok(shown["name"].as_str().unwrap_or("an event without a name").to_owned())
}
