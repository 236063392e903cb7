//! Chrome's trace events, which Perfetto reads: a process for each node, a track for each core.
//!
//! Work that has a beginning and an end overlaps on a core, so it is drawn as asynchronous slices,
//! a lane for each; moments are slices on the core's own track, where arrows can be fixed to them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Write};

use serde_json::{Map, Value as Json, json};

use super::plan::{End, Plan, Track, track};
use super::{
    Detail, List, app_name, class_name, core_name, details, id, kind_name, node_name, span_name,
};
use crate::context::TraceId;
use crate::event::{Event, flags};
use crate::events::EventData;
use crate::stream::Trace;

pub(super) fn write(trace: &Trace, to: &mut impl Write, detail: Detail) -> io::Result<()> {
    let plan = Plan::new(trace);
    to.write_all(b"{\"traceEvents\":")?;
    let mut writer = Writer::new(trace, &plan, List::begin(to)?, detail);
    writer.names(trace)?;
    let mut ends = plan.ends.as_slice();
    for at in 0..plan.events.len() {
        let here = ends.iter().take_while(|end| end.at == at).count();
        let (now, later) = ends.split_at_checked(here).unwrap_or_default();
        ends = later;
        writer.event(at, now)?;
    }
    writer.unfinished()?;
    let to = writer.list.end()?;
    let other = json!({
        "base_unix_nanos": plan.base.to_string(),
        "base_is_at_microsecond": 1,
        "nodes": trace.nodes.len(),
        "events": trace.events.len(),
        "cut": trace.cut,
    });
    writeln!(to, ",\n\"displayTimeUnit\":\"ns\",\n\"otherData\":{other}}}")
}

/// A slice that has begun.
struct Open {
    name: String,
    category: &'static str,
    id: String,
    track: Track,
}

/// What joins the two ends of an application's command.
type CommandKey = (Track, TraceId, u64, [u8; 4], u16);

struct Writer<'a, W> {
    plan: &'a Plan<'a>,
    list: List<'a, W>,
    detail: Detail,
    threads: BTreeMap<Track, usize>,
    // By node, trace and span. Numbered, so that what stays open is closed in order.
    spans: HashMap<(u16, TraceId, u64), (u64, Open)>,
    commands: BTreeMap<CommandKey, Vec<Open>>,
    slices: u64,
}

impl<'a, W: Write> Writer<'a, W> {
    fn new(trace: &Trace, plan: &'a Plan<'a>, list: List<'a, W>, detail: Detail) -> Self {
        let tracks: BTreeSet<Track> = plan.events.iter().map(|event| track(event)).collect();
        // Readers tell threads by number alone, and take one that has its process's number for
        // the main thread: so they are numbered behind all processes.
        let nodes = tracks.iter().map(|(node, _)| usize::from(*node) + 1).max().unwrap_or(0);
        let first = nodes.max(trace.nodes.len()) + 1;
        let threads = tracks.into_iter().zip(first..).collect();
        let (spans, commands) = (HashMap::new(), BTreeMap::new());
        Writer { plan, list, detail, threads, spans, commands, slices: 0 }
    }

    fn names(&mut self, trace: &Trace) -> io::Result<()> {
        let known = (0..=u16::MAX).take(trace.nodes.len());
        let nodes: BTreeSet<u16> =
            known.chain(self.threads.keys().map(|(node, _)| *node)).collect();
        for node in nodes {
            self.name(node, None, "process_name", json!({ "name": node_name(trace, node) }))?;
            self.name(node, None, "process_sort_index", json!({ "sort_index": node }))?;
        }
        for ((node, core), thread) in self.threads.clone() {
            let name = core_name(trace, node, core);
            self.name(node, Some(thread), "thread_name", json!({ "name": name }))?;
            self.name(node, Some(thread), "thread_sort_index", json!({ "sort_index": core }))?;
        }
        Ok(())
    }

    fn name(&mut self, node: u16, thread: Option<usize>, name: &str, args: Json) -> io::Result<()> {
        let pid = process(node);
        let tid = thread.unwrap_or(pid);
        self.list.item(&json!({ "ph": "M", "name": name, "pid": pid, "tid": tid, "args": args }))
    }

    /// An event with the arrows that begin or end at it.
    fn event(&mut self, at: usize, ends: &[End]) -> io::Result<()> {
        let (Some(event), Some(place)) = (self.plan.events.get(at), self.plan.places.get(at))
        else {
            return Ok(());
        };
        let (event, place) = (*event, *place);
        if let Some(EventData::FileDone { nanos, .. }) = event.data() {
            return self.file(event, nanos);
        }
        let mut slice = self.common("X", &moment_name(event), class_name(event), track(event));
        slice.insert("ts".to_owned(), micros(place.start));
        slice.insert("dur".to_owned(), micros(place.length));
        slice.insert("args".to_owned(), details(event, self.detail).into());
        self.list.item(&slice.into())?;
        for end in ends {
            let phase = if end.begins { "s" } else { "f" };
            let mut flow = self.common(phase, end.name, "flow", track(event));
            flow.insert("id".to_owned(), end.arrow.into());
            flow.insert("ts".to_owned(), micros(place.start));
            if !end.begins {
                // To the slice around it, not to the next one.
                flow.insert("bp".to_owned(), "e".into());
            }
            self.list.item(&flow.into())?;
        }
        match event.data() {
            Some(EventData::SpanBegin { what, .. }) => self.span_begins(event, what, place.start),
            Some(EventData::SpanEnd { .. }) => self.span_ends(event, place.start),
            Some(EventData::AppCommand { app_id, cmd, .. }) => {
                self.command(event, app_id, cmd, place.start)
            }
            _ => Ok(()),
        }
    }

    fn span_begins(&mut self, event: &Event, what: u16, at: u64) -> io::Result<()> {
        let key = (event.node, event.trace_id, event.span);
        if event.span == 0 || self.spans.contains_key(&key) {
            return Ok(());
        }
        let (id, track) = (id(event.span), track(event));
        let open = Open { name: span_name(what), category: "work", id, track };
        self.asynchronous("b", &open, at, details(event, self.detail))?;
        let number = self.number();
        self.spans.insert(key, (number, open));
        Ok(())
    }

    fn span_ends(&mut self, event: &Event, at: u64) -> io::Result<()> {
        match self.spans.remove(&(event.node, event.trace_id, event.span)) {
            Some((_, open)) => self.asynchronous("e", &open, at, ending(event, self.detail)),
            None => Ok(()),
        }
    }

    fn command(&mut self, event: &Event, app_id: [u8; 4], cmd: u16, at: u64) -> io::Result<()> {
        let key = (track(event), event.trace_id, event.span, app_id, cmd);
        if event.has(flags::BEGIN) {
            let name = format!("{} {cmd}", app_name(&app_id));
            let (id, track) = (id(self.number()), track(event));
            let open = Open { name, category: "command", id, track };
            self.asynchronous("b", &open, at, details(event, self.detail))?;
            self.commands.entry(key).or_default().push(open);
        } else if event.has(flags::END)
            && let Some(open) = self.commands.get_mut(&key).and_then(Vec::pop)
        {
            self.asynchronous("e", &open, at, ending(event, self.detail))?;
        }
        Ok(())
    }

    /// A file operation, over the time that it took.
    fn file(&mut self, event: &Event, nanos: u64) -> io::Result<()> {
        let mut details = details(event, self.detail);
        details.insert("core".to_owned(), event.core.into());
        let name = details.get("operation").and_then(Json::as_str).unwrap_or("other").to_owned();
        let (id, track) = (id(self.number()), track(event));
        let open = Open { name, category: "file", id, track };
        let began = self.plan.moment(event.timestamp.saturating_sub(nanos));
        self.asynchronous("b", &open, began, details)?;
        self.asynchronous("e", &open, self.plan.moment(event.timestamp), Map::new())
    }

    /// What has not ended ends with the trace.
    fn unfinished(&mut self) -> io::Result<()> {
        let mut spans: Vec<(u64, Open)> = self.spans.drain().map(|(_, open)| open).collect();
        spans.sort_by_key(|(number, _)| *number);
        let commands = std::mem::take(&mut self.commands).into_values().flatten();
        let args = Map::from_iter([("unfinished".to_owned(), true.into())]);
        for open in spans.into_iter().map(|(_, open)| open).chain(commands) {
            self.asynchronous("e", &open, self.plan.last, args.clone())?;
        }
        Ok(())
    }

    fn asynchronous(
        &mut self,
        phase: &str,
        open: &Open,
        at: u64,
        args: Map<String, Json>,
    ) -> io::Result<()> {
        let mut slice = self.common(phase, &open.name, open.category, open.track);
        // Local to the process: one that is not would be drawn outside of all processes.
        slice.insert("id2".to_owned(), json!({ "local": format!("0x{}", open.id) }));
        slice.insert("ts".to_owned(), micros(at));
        slice.insert("args".to_owned(), args.into());
        self.list.item(&slice.into())
    }

    fn common(&self, phase: &str, name: &str, category: &str, track: Track) -> Map<String, Json> {
        let common = [
            ("ph", Json::from(phase)),
            ("name", name.into()),
            ("cat", category.into()),
            ("pid", process(track.0).into()),
            ("tid", self.threads.get(&track).copied().unwrap_or(0).into()),
        ];
        common.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn number(&mut self) -> u64 {
        self.slices += 1;
        self.slices
    }
}

/// Processes are numbered from 1: 0 is the system's own.
fn process(node: u16) -> usize {
    usize::from(node) + 1
}

/// Microseconds, with what is behind the point.
fn micros(nanos: u64) -> Json {
    Json::from(nanos as f64 / 1000.0)
}

fn moment_name(event: &Event) -> String {
    match event.data() {
        Some(EventData::SpanBegin { what, .. }) => format!("{} begins", span_name(what)),
        Some(EventData::SpanEnd { what, .. }) => format!("{} ends", span_name(what)),
        Some(EventData::AppCommand { app_id, cmd, .. }) => format!("{} {cmd}", app_name(&app_id)),
        _ => kind_name(event),
    }
}

/// What the end of a slice adds to what its beginning said.
fn ending(event: &Event, detail: Detail) -> Map<String, Json> {
    let mut ending = details(event, detail);
    for said in ["trace", "span", "peer", "what", "app_id", "cmd", "data", "sequence", "flags"] {
        ending.remove(said);
    }
    ending.insert("failed".to_owned(), event.has(flags::ERROR).into());
    ending
}
