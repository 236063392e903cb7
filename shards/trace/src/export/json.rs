//! An array of objects: all that is known of each event, under its name.

use std::io::{self, Write};

use serde_json::{Value as Json, json};

use super::{
    Detail, List, class_name, core_name, fields, flag_names, id, in_order, key, kind_name,
};
use crate::event::Event;
use crate::stream::Trace;

/// How it is broken into lines.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// An object a line.
    Lines,
    /// A member a line, indented.
    Pretty,
}

pub(super) fn write(trace: &Trace, to: &mut impl Write, detail: Detail) -> io::Result<()> {
    array(trace, in_order(trace), to, detail, Layout::Lines)
}

/// Writes these events of a trace.
pub(crate) fn array<'a>(
    trace: &Trace,
    events: impl IntoIterator<Item = &'a Event>,
    to: &mut impl Write,
    detail: Detail,
    layout: Layout,
) -> io::Result<()> {
    let mut list = List::begin(to)?;
    for event in events {
        let object = object(trace, event, detail);
        match layout {
            Layout::Lines => list.item(&object)?,
            Layout::Pretty => {
                let text = serde_json::to_string_pretty(&object)?;
                let to = list.next()?;
                write!(to, "  {}", text.replace('\n', "\n  "))?;
            }
        }
    }
    list.end()?.write_all(b"\n")
}

fn object(trace: &Trace, event: &Event, detail: Detail) -> Json {
    let node = trace.node(event);
    json!({
        "time": event.timestamp,
        "node": node.map(|info| super::text(info.name.as_bytes())),
        "node_key": node.map(|info| key(&info.node.0, detail)),
        "core": event.core,
        "thread": core_name(trace, event.node, event.core),
        "sequence": event.sequence,
        "kind": kind_name(event),
        "kind_number": event.kind,
        "class": class_name(event),
        "flags": flag_names(event),
        "trace": (!event.trace_id.is_none()).then(|| event.trace_id.to_string()),
        "span": (event.span != 0).then(|| id(event.span)),
        "peer": event.peer().map(|peer| key(&peer.0, detail)),
        "fields": fields(event, detail),
    })
}
