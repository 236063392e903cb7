//! Reading the recorders of several cores as one.

use crate::event::Event;
use crate::log::EventLog;

/// Reads on and on from the recorders of one node.
pub struct Reader {
    logs: Vec<(EventLog, u64)>,
}

impl Reader {
    /// From the oldest event that is still there.
    pub fn oldest(logs: &[EventLog]) -> Reader {
        let from = |log: &EventLog| log.head().saturating_sub(log.capacity());
        Reader { logs: logs.iter().map(|log| (log.clone(), from(log))).collect() }
    }

    /// From now on.
    pub fn newest(logs: &[EventLog]) -> Reader {
        Reader { logs: logs.iter().map(|log| (log.clone(), log.head())).collect() }
    }

    /// What came since the last time, at most `limit` events of each core, by time, core and
    /// number. Two batches may overlap in time by as much as the cores' turns do; who needs all of
    /// it in order sorts the whole ([`Trace::sort`](crate::Trace::sort)).
    pub fn poll(&mut self, limit: usize) -> Vec<Event> {
        let mut events = Vec::new();
        for (log, next) in &mut self.logs {
            log.read(next, limit, &mut events);
        }
        sort(&mut events);
        events
    }
}

/// By time, node, core and number. A gap has the number of the event behind it and a lower kind, so
/// that it stays before it, also when both were read twice.
pub(crate) fn sort(events: &mut [Event]) {
    let place = |e: &Event| (e.timestamp, e.node, e.core, e.sequence, e.kind);
    events.sort_by_key(place);
}
