//! The event log of the world: what the nodes' own recorders recorded, as one stream. It is hashed
//! as it comes, counted, and its end is kept for whoever has to find out what went wrong.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use pangea_base::{CoreId, PeerId};
use pangea_trace::{
    Clock, Event, EventData, EventLog, Kind, LogConfig, Sampling, Tracer, Value, words,
};

use super::clock::WALL;

/// Events kept to be shown, unless more are asked for.
pub const KEPT: usize = 200;
/// Events that a core's ring holds: it is read after every turn.
pub const RING: usize = 4096;
/// The same where there are very many cores, each with little to do.
pub const RING_SMALL: usize = 1024;
/// The category of the world's own events among the recorder's.
const WORLD: u16 = 4;

/// One core's recorder and how far it was read.
pub struct CoreLog {
    log: EventLog,
    next: u64,
}

impl CoreLog {
    /// A recorder whose numbers follow from `seed`.
    pub fn new(
        node: PeerId,
        core: CoreId,
        seed: [u64; 2],
        anchor: Instant,
        events: usize,
    ) -> CoreLog {
        let log = EventLog::start(|| LogConfig {
            node,
            core,
            seed,
            anchor,
            anchor_nanos: WALL * 1_000_000_000,
            clock: Clock::Tick,
            sampling: Sampling::ALL,
            events,
        });
        CoreLog { log, next: 0 }
    }

    /// Its one writer.
    pub fn tracer(&self) -> Tracer {
        self.log.tracer().expect("each core asks once")
    }
}

/// The world's log.
pub struct Log {
    began: Instant,
    own: CoreLog,
    tracer: Tracer,
    names: Vec<String>,
    kept: VecDeque<(Duration, usize, Event)>,
    kept_most: usize,
    fresh: Vec<Event>,
    /// A sum over every event and every datagram.
    pub hash: u64,
    /// Whose receipts origins have taken since the world last looked.
    pub taken: Vec<PeerId>,
    /// Events by kind.
    pub events: BTreeMap<&'static str, u64>,
    /// Refusals and failures that nodes recorded, in their first words.
    pub refusals: BTreeMap<String, u64>,
    /// What the world did to its nodes, by name.
    pub faults: BTreeMap<&'static str, u64>,
}

impl Log {
    /// Empty, at the beginning of the world.
    pub fn new(began: Instant, kept_most: usize) -> Log {
        let own = CoreLog::new(PeerId([0; 32]), CoreId(0), [0, 0], began, RING);
        let tracer = own.tracer();
        Log {
            began,
            own,
            tracer,
            names: vec!["world".to_owned()],
            kept: VecDeque::new(),
            kept_most,
            fresh: Vec::new(),
            hash: 0,
            taken: Vec::new(),
            events: BTreeMap::new(),
            refusals: BTreeMap::new(),
            faults: BTreeMap::new(),
        }
    }

    /// The number of a new source of events.
    pub fn source(&mut self, name: &str) -> usize {
        self.names.push(name.to_owned());
        self.names.len() - 1
    }

    /// Receipts that holders have signed so far.
    pub fn receipts(&self) -> u64 {
        self.events.get(Kind::ShardStored.name()).copied().unwrap_or(0)
    }

    /// A fault of which only the number matters.
    pub fn count(&mut self, fault: &'static str) {
        *self.faults.entry(fault).or_default() += 1;
    }

    /// The world does something worth a line.
    pub fn fault(&mut self, now: Instant, fault: &'static str, to: &str) {
        self.count(fault);
        self.say(now, &format!("{fault}: {to}"));
    }

    /// A line of the world's own.
    pub fn say(&mut self, now: Instant, text: &str) {
        self.tracer.tick(now);
        let data = EventData::Custom { category: WORLD, code: 0, data: words(text) };
        self.tracer.log(Event::new(data));
        let (mut next, log) = (self.own.next, self.own.log.clone());
        self.read(now, 0, &log, &mut next);
        self.own.next = next;
    }

    /// Takes in what a core recorded since the last time.
    pub fn take(&mut self, now: Instant, source: usize, core: &mut CoreLog) {
        if core.log.head() != core.next {
            self.read(now, source, &core.log, &mut core.next);
        }
    }

    fn read(&mut self, now: Instant, source: usize, log: &EventLog, next: &mut u64) {
        let mut fresh = std::mem::take(&mut self.fresh);
        log.read(next, RING, &mut fresh);
        let at = now - self.began;
        for event in fresh.drain(..) {
            self.fold(source as u64);
            event.to_words().into_iter().for_each(|word| self.fold(word));
            if let Some(data) = event.data() {
                self.tally(&data);
                if matches!(data, EventData::ReceiptTaken { .. }) {
                    self.taken.push(PeerId(event.peer));
                }
            }
            if self.kept.len() >= self.kept_most {
                self.kept.pop_front();
            }
            self.kept.push_back((at, source, event));
        }
        self.fresh = fresh;
    }

    fn tally(&mut self, data: &EventData) {
        *self.events.entry(data.kind().name()).or_default() += 1;
        let reason = match data {
            EventData::ShardRefused { reason, .. } => ("shard refused", &reason[..]),
            EventData::HolderFailed { reason, .. } => ("holder failed", &reason[..]),
            EventData::RequestRefused { reason } => ("request refused", &reason[..]),
            _ => return,
        };
        *self.refusals.entry(counted(reason.0, reason.1)).or_default() += 1;
    }

    /// Adds a word to the hash.
    pub fn fold(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    /// Adds bytes to the hash.
    pub fn fold_bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.fold(u64::from_le_bytes(*word)));
        rest.iter().for_each(|byte| self.fold(u64::from(*byte)));
        self.fold(bytes.len() as u64);
    }

    /// The last events, one a line.
    pub fn tail(&self) -> String {
        let mut text = String::new();
        for (at, source, event) in &self.kept {
            let name = &self.names[*source];
            let what = match event.data() {
                Some(EventData::Custom { data, .. }) => {
                    String::from_utf8_lossy(&data).trim_end_matches('\0').to_owned()
                }
                Some(data) => format!("{} {}", data.kind().name(), fields(&data)),
                None => format!("kind {}", event.kind),
            };
            text.push_str(&format!("{:>11.6} s  {name:<12} {what}\n", at.as_secs_f64()));
        }
        text
    }
}

fn fields(data: &EventData) -> String {
    let values = data.values();
    let field = |(name, value): &(&'static str, Value)| match value {
        Value::Number(number) => format!("{name}={number}"),
        Value::Address(addr) => format!("{name}={addr}"),
        Value::Bytes(bytes) => format!("{name}={}", shown(bytes)),
    };
    values.iter().map(field).collect::<Vec<_>>().join(" ")
}

/// Words as words, other bytes by their first ones.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end_matches('\0');
    match text.chars().all(|c| !c.is_control() && c != '\u{fffd}') {
        true => format!("'{text}'"),
        false => bytes.iter().take(6).map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// How a refusal stands in [`Log::refusals`], for whoever looks for it there.
pub fn refused(what: &str, why: &impl std::fmt::Display) -> String {
    counted(what, &words::<48>(&why.to_string()))
}

fn counted(what: &str, reason: &[u8]) -> String {
    format!("{what}: {}", generic(String::from_utf8_lossy(reason).trim_end_matches('\0')))
}

/// What numbers are of: it goes with them.
const UNITS: [&str; 15] = [
    "byte", "bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "second", "seconds", "minutes",
    "hours", "days", "years", "a",
];

/// A reason without its numbers, units and names, so that equal ones count together.
fn generic(text: &str) -> String {
    let is_plain = |word: &&str| {
        let word = word.trim_end_matches([',', ';', '.']);
        !word.contains(|c: char| c.is_ascii_digit()) && !UNITS.contains(&word)
    };
    let plain = text.split_whitespace().filter(is_plain);
    plain.collect::<Vec<_>>().join(" ")
}
