//! Where events stand on the tracks of a picture, and which arrows go between them.
//!
//! A core's events are put on its track one behind the other, each with a length of its own: a
//! coarse clock gives all events of a turn one time, and slices that begin at one moment would be
//! drawn as a tower. Two cores' clocks may disagree by a turn, so that a message seems to arrive
//! before it was sent; its arrival is then moved to behind its departure, with what follows it.
//! (Clocks of two nodes may disagree by more, and moving a node's events by that would lie about
//! everything else: there, an arrow that would go back in time is left out.)

use std::collections::HashMap;

use super::in_order;
use crate::context::TraceId;
use crate::event::Event;
use crate::events::{EventData, Kind};
use crate::stream::Trace;

/// Where the first event stands, nanoseconds.
const LEAD: u64 = 1000;
/// How long a moment is drawn where there is room, nanoseconds.
const MOMENT: u64 = 1000;
/// How often events are moved because others were.
const ROUNDS: usize = 8;

/// A track: node and core.
pub(super) type Track = (u16, u16);

/// A moment on its track, nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub start: u64,
    pub length: u64,
}

/// One end of an arrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    /// At which event.
    pub at: usize,
    /// Which arrow.
    pub arrow: u64,
    pub begins: bool,
    /// What it means.
    pub name: &'static str,
}

/// Arrows between two events.
#[derive(Debug, Clone, Copy)]
struct Arrow {
    name: &'static str,
    from: usize,
    to: usize,
    /// Drawn instead, if `from` turns out to be after `to`.
    or_from: usize,
    /// Whether both are of one clock, so that `to` may be moved.
    one_node: bool,
}

/// Everything that must be known before the first event is written.
pub(super) struct Plan<'a> {
    /// In order by time.
    pub events: Vec<&'a Event>,
    /// A place for each.
    pub places: Vec<Place>,
    /// By event.
    pub ends: Vec<End>,
    /// What `places` count from, nanoseconds since 1970, less [`LEAD`].
    pub base: u64,
    /// The end of the last event's place.
    pub last: u64,
}

impl<'a> Plan<'a> {
    pub fn new(trace: &'a Trace) -> Plan<'a> {
        let events = in_order(trace);
        let base = events.first().map_or(0, |event| event.timestamp);
        let mut arrows = hops(&events);
        arrows.extend(causes(&events));
        let mut floors = vec![0; events.len()];
        let mut places = place(&events, base, &floors);
        for _ in 0..ROUNDS {
            if !raise(&arrows, &places, &mut floors) {
                break;
            }
            places = place(&events, base, &floors);
        }
        let end = |place: &Place| place.start.saturating_add(place.length);
        let last = places.iter().map(end).max().unwrap_or(LEAD);
        Plan { ends: ends(&arrows, &places), events, places, base, last }
    }

    /// A time of the trace on the tracks; what is before the first event is at its place.
    pub fn moment(&self, timestamp: u64) -> u64 {
        timestamp.saturating_sub(self.base).saturating_add(LEAD)
    }
}

pub(super) fn track(event: &Event) -> Track {
    (event.node, event.core)
}

/// Puts each event at its time, but not before its floor and not before the end of the one before.
fn place(events: &[&Event], base: u64, floors: &[u64]) -> Vec<Place> {
    let mut free: HashMap<Track, u64> = HashMap::new();
    let mut places: Vec<Place> = events
        .iter()
        .zip(floors)
        .map(|(event, floor)| {
            let free = free.entry(track(event)).or_default();
            let time = event.timestamp.saturating_sub(base).saturating_add(LEAD);
            let start = time.max(*floor).max(*free);
            *free = start.saturating_add(1);
            Place { start, length: 1 }
        })
        .collect();
    let mut next: HashMap<Track, u64> = HashMap::new();
    for (event, place) in events.iter().zip(&mut places).rev() {
        let room = next.insert(track(event), place.start).map_or(MOMENT, |next| next - place.start);
        place.length = room.clamp(1, MOMENT);
    }
    places
}

/// Sets floors for what arrives before it was sent; whether there is anything new.
fn raise(arrows: &[Arrow], places: &[Place], floors: &mut [u64]) -> bool {
    let mut raised = false;
    for arrow in arrows.iter().filter(|arrow| arrow.one_node) {
        let (Some(from), Some(to)) = (places.get(arrow.from), places.get(arrow.to)) else {
            continue;
        };
        if from.start >= to.start
            && let Some(floor) = floors.get_mut(arrow.to)
        {
            *floor = from.start.saturating_add(1);
            raised = true;
        }
    }
    raised
}

/// Messages between cores of which both ends are there.
fn hops(events: &[&Event]) -> Vec<Arrow> {
    // By node and message: the ends that were seen, and which way.
    let mut open: HashMap<(u16, u64), (usize, bool)> = HashMap::new();
    let mut arrows = Vec::new();
    for (at, event) in events.iter().enumerate() {
        let (hop, sent) = match event.data() {
            Some(EventData::MeshSent { hop, .. }) => (hop, true),
            Some(EventData::MeshReceived { hop, .. }) => (hop, false),
            _ => continue,
        };
        match open.get(&(event.node, hop)) {
            Some(&(other, other_sent)) if other_sent != sent => {
                let (from, to) = if sent { (at, other) } else { (other, at) };
                arrows.push(Arrow { name: "message", from, to, or_from: from, one_node: true });
                open.remove(&(event.node, hop));
            }
            Some(_) => {}
            None => {
                open.insert((event.node, hop), (at, sent));
            }
        }
    }
    arrows
}

/// Pieces of work that began on another track than what caused them.
fn causes(events: &[&Event]) -> Vec<Arrow> {
    struct Parent {
        home: Track,
        begin: usize,
        latest: usize,
    }
    // All of them first: by the clocks, work may begin before what caused it.
    let mut parents: HashMap<(TraceId, u64), Parent> = HashMap::new();
    for (at, event) in events.iter().enumerate() {
        if event.kind == Kind::SpanBegin as u16 && event.span != 0 {
            let parent = Parent { home: track(event), begin: at, latest: at };
            parents.entry((event.trace_id, event.span)).or_insert(parent);
        }
    }
    let mut arrows = Vec::new();
    for (at, event) in events.iter().enumerate() {
        let home = track(event);
        if let Some(EventData::SpanBegin { parent, .. }) = event.data()
            && let Some(parent) = parents.get(&(event.trace_id, parent))
            && parent.home != home
        {
            let (from, or_from) = (parent.latest, parent.begin);
            let one_node = parent.home.0 == home.0;
            arrows.push(Arrow { name: "cause", from, to: at, or_from, one_node });
        }
        // An arrow needs a slice at its end, and a file operation has none on its core's track.
        if event.kind != Kind::FileDone as u16
            && let Some(parent) = parents.get_mut(&(event.trace_id, event.span))
            && parent.home == home
        {
            parent.latest = parent.latest.max(at);
        }
    }
    arrows
}

/// The ends of those arrows that go forward, by event.
fn ends(arrows: &[Arrow], places: &[Place]) -> Vec<End> {
    let mut ends = Vec::new();
    for (number, arrow) in (1..).zip(arrows) {
        let Some(to) = places.get(arrow.to) else { continue };
        let goes = |from: &usize| places.get(*from).is_some_and(|from| from.start < to.start);
        let Some(from) = [arrow.from, arrow.or_from].into_iter().find(goes) else { continue };
        let (arrow_number, name) = (number, arrow.name);
        ends.push(End { at: from, arrow: arrow_number, begins: true, name });
        ends.push(End { at: arrow.to, arrow: arrow_number, begins: false, name });
    }
    ends.sort_by_key(|end| (end.at, end.arrow));
    ends
}
