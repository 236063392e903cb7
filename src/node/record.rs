//! The recorders of a node or client.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use pangea_base::{CoreId, PeerId};
use pangea_trace::{EventLog, LogConfig, TraceConfig};

use super::TraceOptions;

/// A recorder for each of `cores` cores, and one for control behind them.
pub(super) fn logs(
    node: PeerId,
    cores: usize,
    seed: &[u8; 32],
    options: &TraceOptions,
) -> Vec<EventLog> {
    let (anchor, wall) = (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH));
    let anchor_nanos = wall.map_or(0, |wall| u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX));
    let log = |number: usize| {
        let core = u8::try_from(number).expect("at most 128 cores");
        let drawn = blake3::keyed_hash(seed, &[b't', core]);
        let half = |at: usize| {
            let bytes = drawn.as_bytes()[at..at + 8].try_into();
            u64::from_le_bytes(bytes.expect("a hash has 32 bytes"))
        };
        EventLog::start(|| LogConfig {
            node,
            core: CoreId(core),
            seed: [half(0), half(8)],
            anchor,
            anchor_nanos,
            clock: options.clock,
            sampling: options.sampling,
            events: TraceConfig::BUFFER_EVENTS,
        })
    };
    (0..=cores).map(log).collect()
}
