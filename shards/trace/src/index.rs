//! An index over a trace that does not change any more. It is made when somebody asks for it and
//! never while events are recorded: the recorder must not wait for it, and would have to take out
//! what it overwrites.

use pangea_base::PeerId;

use crate::context::TraceId;
use crate::event::Event;
use crate::stream::{EVENTS_MAX, Trace};

/// Bits of the filter that says quickly that a trace is not there.
pub const BLOOM_BITS: usize = 16_384;
/// Bits that a trace sets. With 1,500 traces one answer in 90 is a false "perhaps".
const BLOOM_HASHES: usize = 4;

// Four places of a trace's 128 bits.
const _: () = assert!(BLOOM_BITS.is_power_of_two() && BLOOM_BITS.ilog2() * 4 <= 128);
// A place in the trace is kept in 32 bits.
const _: () = assert!(EVENTS_MAX <= u32::MAX as usize);

/// By trace, by peer, by time. Twelve bytes an event, and 2 KiB.
pub struct TraceIndex<'a> {
    trace: &'a Trace,
    // Places of events: by trace and place; of those that have a peer, by peer and place; by time
    // and place.
    by_trace: Vec<u32>,
    by_peer: Vec<u32>,
    by_time: Vec<u32>,
    bloom: Bloom,
}

impl<'a> TraceIndex<'a> {
    /// Makes it: three sorts of the events, of which the first `u32::MAX` are taken.
    pub fn build(trace: &'a Trace) -> TraceIndex<'a> {
        let events = &trace.events;
        let places: Vec<u32> = (0..u32::MAX).zip(events).map(|(place, _)| place).collect();
        let mut index = TraceIndex {
            trace,
            by_trace: places.clone(),
            by_peer: Vec::new(),
            by_time: places,
            bloom: Bloom::default(),
        };
        // Stable, so that events of one key stay in the order of the trace.
        index.by_trace.sort_by_key(|place| event(trace, *place).map(|event| event.trace_id));
        index.by_time.sort_by_key(|place| event(trace, *place).map(|event| event.timestamp));
        let peered = |place: &u32| event(trace, *place).is_some_and(|e| e.peer().is_some());
        index.by_peer = (0..u32::MAX).take(events.len()).filter(peered).collect();
        index.by_peer.sort_by_key(|place| event(trace, *place).map(|event| event.peer));
        for event in events {
            index.bloom.add(event.trace_id);
        }
        index
    }

    /// What it is made of.
    pub fn trace(&self) -> &'a Trace {
        self.trace
    }

    /// Whether a trace may be there. `false` is certain and is known from four bits.
    pub fn may_have_trace(&self, id: TraceId) -> bool {
        self.bloom.may_have(id)
    }

    /// Whether a trace is there.
    pub fn has_trace(&self, id: TraceId) -> bool {
        self.may_have_trace(id) && !self.places_of_trace(id).is_empty()
    }

    pub(crate) fn of_trace(&self, id: TraceId) -> Vec<&'a Event> {
        match self.may_have_trace(id) {
            true => self.events(self.places_of_trace(id)),
            false => Vec::new(),
        }
    }

    pub(crate) fn of_peer(&self, peer: &PeerId) -> Vec<&'a Event> {
        let key = |event: &Event| event.peer;
        self.events(self.range(&self.by_peer, key, &peer.0, &peer.0))
    }

    pub(crate) fn between(&self, start: u64, end: u64) -> Vec<&'a Event> {
        let key = |event: &Event| event.timestamp;
        let mut places = self.range(&self.by_time, key, &start, &end).to_vec();
        // In the order of the trace, which need not be that of time.
        places.sort_unstable();
        self.events(&places)
    }

    fn places_of_trace(&self, id: TraceId) -> &[u32] {
        self.range(&self.by_trace, |event| event.trace_id, &id, &id)
    }

    /// The places whose key is between two, both included.
    fn range<'s, K: Ord>(
        &self,
        places: &'s [u32],
        key: impl Fn(&Event) -> K,
        from: &K,
        to: &K,
    ) -> &'s [u32] {
        let below = |place: &u32| event(self.trace, *place).is_some_and(|e| key(e) < *from);
        let upto = |place: &u32| event(self.trace, *place).is_some_and(|e| key(e) <= *to);
        let (start, end) = (places.partition_point(below), places.partition_point(upto));
        places.get(start..end).unwrap_or_default()
    }

    fn events(&self, places: &[u32]) -> Vec<&'a Event> {
        places.iter().filter_map(|place| event(self.trace, *place)).collect()
    }
}

fn event(trace: &Trace, place: u32) -> Option<&Event> {
    trace.events.get(usize::try_from(place).ok()?)
}

/// Which traces may be there.
struct Bloom([u64; BLOOM_BITS / 64]);

impl Default for Bloom {
    fn default() -> Bloom {
        Bloom([0; BLOOM_BITS / 64])
    }
}

impl Bloom {
    fn add(&mut self, id: TraceId) {
        for (word, bit) in places(id) {
            if let Some(word) = self.0.get_mut(word) {
                *word |= 1 << bit;
            }
        }
    }

    fn may_have(&self, id: TraceId) -> bool {
        let is_set = |(word, bit)| self.0.get(word).is_some_and(|word: &u64| word >> bit & 1 == 1);
        places(id).all(is_set)
    }
}

/// Words and bits of a trace. A trace's number is random, unless an application gave it; so it is
/// mixed first (by an odd factor, whose upper bits depend on all of the number's).
fn places(id: TraceId) -> impl Iterator<Item = (usize, u32)> {
    const ODD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
    let number = u128::from_le_bytes(id.0);
    let mixed = (number ^ number >> 64).wrapping_mul(ODD);
    (1..=BLOOM_HASHES as u32).map(move |hash| {
        let bit = (mixed >> (128 - hash * BLOOM_BITS.ilog2())) as usize % BLOOM_BITS;
        (bit / 64, (bit % 64) as u32)
    })
}
