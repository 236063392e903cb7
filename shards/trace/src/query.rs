//! Questions to a trace that is held in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Write};

use pangea_base::PeerId;

use crate::context::TraceId;
use crate::event::{Event, flags};
use crate::events::EventData;
use crate::export::{Detail, Layout, array, text};
#[cfg(feature = "trace-index")]
use crate::index::TraceIndex;
use crate::stream::Trace;

/// How many different reasons are kept of one peer; more are counted as others.
const REASONS_MAX: usize = 64;

/// Asks a trace. Every answer is in the order that the trace has.
#[derive(Clone, Copy)]
pub struct TraceQuery<'a> {
    trace: &'a Trace,
    #[cfg(feature = "trace-index")]
    index: Option<&'a TraceIndex<'a>>,
}

impl<'a> TraceQuery<'a> {
    /// Answers by going through all events.
    pub fn new(trace: &'a Trace) -> TraceQuery<'a> {
        TraceQuery {
            trace,
            #[cfg(feature = "trace-index")]
            index: None,
        }
    }

    /// The same answers, from an index.
    #[cfg(feature = "trace-index")]
    pub fn with_index(index: &'a TraceIndex<'a>) -> TraceQuery<'a> {
        TraceQuery { trace: index.trace(), index: Some(index) }
    }

    /// The events of a trace, on all its nodes.
    pub fn get_trace(&self, id: TraceId) -> Vec<&'a Event> {
        #[cfg(feature = "trace-index")]
        if let Some(index) = self.index {
            return index.of_trace(id);
        }
        self.all(|event| event.trace_id == id)
    }

    /// Whether there is any event of a trace.
    pub fn has_trace(&self, id: TraceId) -> bool {
        #[cfg(feature = "trace-index")]
        if let Some(index) = self.index {
            return index.has_trace(id);
        }
        self.trace.events.iter().any(|event| event.trace_id == id)
    }

    /// The events about a peer, whoever recorded them.
    pub fn query_peer(&self, peer: &PeerId) -> Vec<&'a Event> {
        #[cfg(feature = "trace-index")]
        if let Some(index) = self.index {
            return index.of_peer(peer);
        }
        self.all(|event| event.peer().as_ref() == Some(peer))
    }

    /// The events from `start` to `end`, both included, in nanoseconds since 1970.
    pub fn time_range(&self, start: u64, end: u64) -> Vec<&'a Event> {
        #[cfg(feature = "trace-index")]
        if let Some(index) = self.index {
            return index.between(start, end);
        }
        self.all(|event| (start..=end).contains(&event.timestamp))
    }

    /// The last `count` events, or all if there are fewer.
    pub fn recent(&self, count: usize) -> Vec<&'a Event> {
        let before = self.trace.events.len().saturating_sub(count);
        self.trace.events.iter().skip(before).collect()
    }

    /// Writes the events of a trace as an indented JSON array, event by event, redacted. With no
    /// such trace it is an empty array. Fails only if writing fails.
    pub fn export_json(&self, id: TraceId, to: &mut impl Write) -> io::Result<()> {
        array(self.trace, self.get_trace(id), to, Detail::Redacted, Layout::Pretty)
    }

    /// What went wrong with a peer.
    pub fn analyze_connection_issues(&self, peer: &PeerId) -> ConnectionIssues {
        let mut issues = ConnectionIssues::new(*peer);
        for event in self.query_peer(peer) {
            issues.count(event);
        }
        let gaps = self.trace.events.iter().filter_map(Event::data);
        issues.not_recorded = gaps.fold(0, |sum, data| match data {
            EventData::Gap { lost } => sum.saturating_add(lost),
            _ => sum,
        });
        issues
    }

    fn all(&self, wanted: impl Fn(&Event) -> bool) -> Vec<&'a Event> {
        self.trace.events.iter().filter(|event| wanted(event)).collect()
    }
}

/// What went wrong with a peer, as far as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionIssues {
    /// Who.
    pub peer: PeerId,
    /// Events about it.
    pub events: u64,
    /// Connections that came about.
    pub established: u64,
    /// Connections that ended.
    pub closed: u64,
    /// Packets that were taken for lost.
    pub packets_lost: u64,
    /// Bytes of those.
    pub bytes_lost: u64,
    /// Trains of datagrams that the system refused.
    pub send_failures: u64,
    /// Times that it failed as a holder: of a chunk's shard.
    pub holder_failures: u64,
    /// Shards of it that were refused here.
    pub shards_refused: u64,
    /// Events with the flag `error`, of whatever kind.
    pub errors: u64,
    /// The longest smoothed round trip that was seen, microseconds.
    pub longest_rtt: Option<u32>,
    /// Why connections ended and shards failed, and how often.
    pub reasons: BTreeMap<String, u64>,
    /// Events of the whole trace that were overwritten before they were read: whatever this says,
    /// it may have been more.
    pub not_recorded: u64,
}

impl ConnectionIssues {
    fn new(peer: PeerId) -> ConnectionIssues {
        ConnectionIssues {
            peer,
            events: 0,
            established: 0,
            closed: 0,
            packets_lost: 0,
            bytes_lost: 0,
            send_failures: 0,
            holder_failures: 0,
            shards_refused: 0,
            errors: 0,
            longest_rtt: None,
            reasons: BTreeMap::new(),
            not_recorded: 0,
        }
    }

    /// Whether nothing went wrong that was recorded.
    pub fn is_clean(&self) -> bool {
        let failures = [
            self.packets_lost,
            self.send_failures,
            self.holder_failures,
            self.shards_refused,
            self.errors,
        ];
        failures.iter().all(|failures| *failures == 0)
    }

    // Saturating: the numbers may come from a file that anybody wrote.
    fn count(&mut self, event: &Event) {
        self.events = self.events.saturating_add(1);
        if event.has(flags::ERROR) {
            self.errors = self.errors.saturating_add(1);
        }
        match event.data() {
            Some(EventData::ConnEstablished { rtt, .. }) => {
                self.established = self.established.saturating_add(1);
                self.round_trip(rtt);
            }
            Some(EventData::PathMetrics { rtt, .. }) => self.round_trip(rtt),
            Some(EventData::ConnClosed { reason, .. }) => {
                self.closed = self.closed.saturating_add(1);
                self.reason(&reason);
            }
            Some(EventData::PacketLost { count, bytes, .. }) => {
                self.packets_lost = self.packets_lost.saturating_add(u64::from(count));
                self.bytes_lost = self.bytes_lost.saturating_add(bytes);
            }
            Some(EventData::PacketSendFailed { .. }) => {
                self.send_failures = self.send_failures.saturating_add(1);
            }
            Some(EventData::HolderFailed { reason, .. }) => {
                self.holder_failures = self.holder_failures.saturating_add(1);
                self.reason(&reason);
            }
            Some(EventData::ShardRefused { reason, .. }) => {
                self.shards_refused = self.shards_refused.saturating_add(1);
                self.reason(&reason);
            }
            _ => {}
        }
    }

    fn round_trip(&mut self, rtt: u32) {
        self.longest_rtt = self.longest_rtt.max(Some(rtt));
    }

    fn reason(&mut self, reason: &[u8]) {
        let mut reason = text(reason);
        if self.reasons.len() >= REASONS_MAX && !self.reasons.contains_key(&reason) {
            reason = "others".to_owned();
        }
        let count = self.reasons.entry(reason).or_default();
        *count = count.saturating_add(1);
    }
}

impl fmt::Display for ConnectionIssues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "peer {:?}: {} events", self.peer, self.events)?;
        let ConnectionIssues { established, closed, packets_lost, bytes_lost, .. } = self;
        writeln!(f, "connections: {established} established, {closed} closed")?;
        if let Some(rtt) = self.longest_rtt {
            writeln!(f, "longest round trip: {rtt} us")?;
        }
        writeln!(f, "packets lost: {packets_lost} ({bytes_lost} bytes)")?;
        writeln!(f, "trains the system refused: {}", self.send_failures)?;
        writeln!(f, "failures as a holder: {}", self.holder_failures)?;
        writeln!(f, "shards refused: {}", self.shards_refused)?;
        write!(f, "errors: {}", self.errors)?;
        for (reason, count) in &self.reasons {
            write!(f, "\n  {count} x {reason}")?;
        }
        if self.not_recorded > 0 {
            write!(f, "\n{} events were overwritten and are missing", self.not_recorded)?;
        }
        Ok(())
    }
}

/// Drops the events of traces that sampling did not choose, unless something in them failed: the
/// second half of [`Sampling::keep_on_error`](crate::Sampling::keep_on_error), to be done when all
/// nodes' events are together. What belongs to no trace stays.
pub fn drop_unsampled(trace: &mut Trace) {
    let keeps = |event: &&Event| event.has(flags::SAMPLED | flags::DEBUG | flags::ERROR);
    let kept: BTreeSet<TraceId> =
        trace.events.iter().filter(keeps).map(|event| event.trace_id).collect();
    trace.events.retain(|event| event.trace_id.is_none() || kept.contains(&event.trace_id));
}
