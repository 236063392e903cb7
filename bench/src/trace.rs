//! What the flight recorder costs: an event in a loop of its own, inside other work, while somebody
//! reads and on all cores at once; beside a bare store of as many bytes as the limit, and beside
//! `tracing` and `fastrace`.
//!
//! Events are timed in batches and a sample is the median over its batches: one during which
//! another program had the core counts for no more than any other.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pangea_base::{CoreId, PeerId};
use pangea_trace::{
    Class, Clock, EventData, EventLog, LogConfig, Outcome, Reader, Sampling, SpanKind,
    TraceContext, TraceFlags, TraceId, Tracer, trace_event,
};

use crate::Options;
use crate::table::{Stats, Table, stats};

/// Events that are timed as one.
const BATCH: u64 = 1024;

/// Events of a core's turn: so often the tracer is told the time, and that is in the figures.
const TURN: u64 = 64;

/// Events before the measuring begins: the largest ring once round.
const WARM_UP: u64 = LARGE as u64;

/// A ring that stays in the core's own cache (512 KiB), and one that does not (8 MiB).
const SMALL: usize = 4096;
const LARGE: usize = 65_536;

/// Traces that take turns, so that none of their numbers stays in registers.
const CONTEXTS: usize = 64;

/// Work that mostly waits for itself, so that an event finds room beside it; and work of as many
/// chains as keep the processor full, beside which nothing is free.
const WAITING: usize = 1;
const FULL: usize = 5;

/// Steps of each chain: about 40 ns in all.
const fn steps(chains: usize) -> usize {
    if chains == WAITING { 10 } else { 7 }
}

/// What a reader asks for at a time.
const READ_EVENTS: usize = 4096;

/// A writer that is not in a hurry: time from one turn to the next, 1 M events/s.
const PACE: Duration = Duration::from_micros(TURN);

/// How often such a writer's events are fetched.
const FETCH: Duration = Duration::from_millis(4);

/// The limit, by name: what others are compared with.
const LIMIT: &str = "bare store of 128 bytes";

/// What the writer does while it is read.
const AT_REST: &str = "at rest";
const UNREAD: &str = "as fast as it can, nobody reads";
const HURRIED: &str = "as fast as it can";
const PACED: &str = "1 M events/s, fetched every 4 ms";

/// Runs one batch: the time is that of its beginning, the number that of its first event.
type Work = Box<dyn FnMut(Instant, u64)>;

/// What a row is, and over what ring; 0: none.
type Key = (String, usize);

/// Samples of rows, in the order in which the rows were first seen.
#[derive(Default)]
struct Samples {
    order: Vec<Key>,
    all: BTreeMap<Key, Vec<f64>>,
}

impl Samples {
    fn add(&mut self, what: &str, ring: usize, value: f64) {
        let key = (what.to_owned(), ring);
        if !self.all.contains_key(&key) {
            self.order.push(key.clone());
        }
        self.all.entry(key).or_default().push(value);
    }

    fn get(&self, what: &str, ring: usize) -> Option<Stats> {
        self.all.get(&(what.to_owned(), ring)).map(|values| stats(values))
    }

    fn rows(&self) -> impl Iterator<Item = (&str, usize, Stats)> {
        let rows = self.order.iter().map(|key| (key, &self.all[key]));
        rows.map(|((what, ring), values)| (what.as_str(), *ring, stats(values)))
    }
}

/// Everything measured so far.
#[derive(Default)]
struct Measured {
    /// ns per event.
    loops: Samples,
    /// ns per round of other work, and what it is more than without the event.
    inside: Samples,
    marginal: Samples,
    /// 10^6 events per second while the reader reads and all in all, percent, ns per event of the
    /// writer.
    read: Samples,
    arrived: Samples,
    lost: Samples,
    writer: Samples,
    /// ns per event: mean over the cores, and the slowest; by name and number of cores.
    mean: Samples,
    slowest: Samples,
}

/// Runs the tables. Extra option: `--rivals PATH` (the binary of `bench/peers`).
pub fn run(options: &Options) -> Result<(), String> {
    let rivals = extra(&options.rest)?;
    if rivals.is_none() {
        eprintln!(
            "the rivals are left out: build them with 'cargo build --release -p peer-trace \
             --manifest-path bench/peers/Cargo.toml', or name them with --rivals PATH"
        );
    }
    let (cores, seconds) = (cores(), options.seconds);
    let mut measured = Measured::default();
    for _ in 0..options.repeats {
        for (what, ring, nanos) in pinned(cores[0], || alone(seconds))? {
            measured.loops.add(what, ring, nanos);
        }
        for (work, what, nanos) in pinned(cores[0], || within(seconds))? {
            measured.add_inside(work, what, nanos);
        }
        if let Some(path) = &rivals {
            rival(path, seconds, &mut measured)?;
        }
        reading(&cores, seconds, &mut measured)?;
        for count in if cores.len() > 1 { vec![1, cores.len()] } else { vec![1] } {
            together(&cores[..count], seconds, &mut measured)?;
        }
    }
    measured.show(options);
    Ok(())
}

fn extra(rest: &[String]) -> Result<Option<PathBuf>, String> {
    let built = Path::new("bench/peers/target/release/peer-trace");
    let mut rivals = built.exists().then(|| built.to_owned());
    let mut rest = rest.iter();
    while let Some(option) = rest.next() {
        let value = rest.next().ok_or_else(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "--rivals" => rivals = Some(PathBuf::from(value)),
            _ => return Err(format!("trace knows no {option} {value}")),
        }
    }
    Ok(rivals)
}

impl Measured {
    fn add_inside(&mut self, work: &str, what: &str, [alone, with, adds]: [f64; 3]) {
        let what = format!("{work}: {what}");
        self.inside.add(&format!("{work}: nothing else"), 0, alone);
        self.inside.add(&what, 0, with);
        self.marginal.add(&what, 0, adds);
    }

    fn show(&self, options: &Options) {
        let tables = [self.loops(), self.inside(), self.reading(), self.together()];
        tables.into_iter().for_each(|table| options.output.table(table));
    }

    fn loops(&self) -> Table {
        let title = "The flight recorder: an event in a loop of its own";
        let mut table = Table::new(title, &["what", "ring", "ns", "x limit"]);
        for (what, ring, nanos) in self.loops.rows() {
            let limit = self.loops.get(LIMIT, ring).or_else(|| self.loops.get(LIMIT, SMALL));
            let times = limit.map_or(f64::NAN, |limit| nanos.median / limit.median);
            let ring = if ring == 0 { "-".to_owned() } else { ring.to_string() };
            table.row(&[what.to_owned(), ring, nanos.to_string(), format!("{times:.1}")]);
        }
        table
    }

    fn inside(&self) -> Table {
        let title = "An event inside other work: what it adds";
        let mut table = Table::new(title, &["what", "ns", "adds ns"]);
        for (what, ring, nanos) in self.inside.rows() {
            let adds = self.marginal.get(what, ring);
            let adds = adds.map_or("-".to_owned(), |adds| adds.to_string());
            table.row(&[what.to_owned(), nanos.to_string(), adds]);
        }
        table
    }

    fn reading(&self) -> Table {
        let title = "Reading on one core what another one writes, ring of 65536";
        let columns = ["writer", "read, M/s", "arrived, M/s", "lost %", "writer, ns per event"];
        let mut table = Table::new(title, &columns);
        for what in [AT_REST, UNREAD, HURRIED, PACED] {
            let columns = [&self.read, &self.arrived, &self.lost, &self.writer];
            let cell = |samples: &Samples| samples.get(what, LARGE).map(|stats| stats.to_string());
            let cells = columns.map(|samples| cell(samples).unwrap_or("-".to_owned()));
            table.row(&[&[what.to_owned()], &cells[..]].concat());
        }
        table
    }

    fn together(&self) -> Table {
        let title = "Every core with a recorder of its own: ns per event and core";
        let columns = ["what", "cores", "mean of cores", "slowest core", "x one core"];
        let mut table = Table::new(title, &columns);
        for (what, cores, mean) in self.mean.rows() {
            let times = self.mean.get(what, 1).map_or(f64::NAN, |one| mean.median / one.median);
            let slowest = self.slowest.get(what, cores).unwrap_or(mean).to_string();
            let cells = [what.to_owned(), cores.to_string(), mean.to_string(), slowest];
            table.row(&[&cells[..], &[format!("{times:.2}")]].concat());
        }
        table
    }
}

/// The processors that this program may use.
fn cores() -> Vec<usize> {
    let ids = core_affinity::get_core_ids().unwrap_or_default();
    let cores: Vec<usize> = ids.into_iter().map(|core| core.id).collect();
    if cores.is_empty() { vec![0] } else { cores }
}

fn pin(core: usize) {
    core_affinity::set_for_current(core_affinity::CoreId { id: core });
}

/// Runs it on a thread of its own that stays on its core.
fn pinned<T: Send>(core: usize, work: impl FnOnce() -> T + Send) -> Result<T, String> {
    let on_core = || {
        pin(core);
        work()
    };
    std::thread::scope(|scope| scope.spawn(on_core).join()).map_err(|_| "it panicked".to_owned())
}

/// Nanoseconds per event, the median over the batches of about `seconds`.
fn sample(seconds: f64, work: &mut dyn FnMut(Instant, u64)) -> f64 {
    let mut batches = Batches::default();
    for first in (0..WARM_UP).step_by(BATCH as usize) {
        work(Instant::now(), first);
    }
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < seconds {
        batches.run(work);
    }
    batches.nanos()
}

/// What batches took.
#[derive(Default)]
struct Batches(Vec<f64>);

impl Batches {
    fn run(&mut self, work: &mut dyn FnMut(Instant, u64)) {
        let began = Instant::now();
        work(began, self.0.len() as u64 * BATCH);
        self.0.push(began.elapsed().as_nanos() as f64 / BATCH as f64);
    }

    fn nanos(&self) -> f64 {
        if self.0.is_empty() { f64::NAN } else { stats(&self.0).median }
    }
}

/// Events and nothing else, once: what, over what ring, nanoseconds.
fn alone(seconds: f64) -> Vec<(&'static str, usize, f64)> {
    let rows = loops().into_iter();
    rows.map(|(what, ring, make)| (what, ring, sample(seconds, &mut make()))).collect()
}

/// Events inside other work, once: which work, what else, and the three figures of [`paired`].
fn within(seconds: f64) -> Vec<(&'static str, &'static str, [f64; 3])> {
    let mut found = Vec::new();
    for (what, make) in insides::<WAITING>() {
        let mut alone = inside::<WAITING>(Tracer::none(), nothing);
        found.push(("work that waits", what, paired(seconds, &mut alone, &mut make())));
    }
    for (what, make) in insides::<FULL>() {
        let mut alone = inside::<FULL>(Tracer::none(), nothing);
        found.push(("work that fills", what, paired(seconds, &mut alone, &mut make())));
    }
    found
}

/// Nanoseconds of the one, of the other and of what the other takes more, batch by batch in turn:
/// what makes the processor slower for a while does so for both.
fn paired(
    seconds: f64,
    alone: &mut dyn FnMut(Instant, u64),
    with: &mut dyn FnMut(Instant, u64),
) -> [f64; 3] {
    for first in (0..WARM_UP).step_by(BATCH as usize) {
        with(Instant::now(), first);
    }
    let (mut one, mut other) = (Batches::default(), Batches::default());
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < seconds {
        one.run(alone);
        other.run(with);
    }
    let more = other.0.iter().zip(&one.0).map(|(other, one)| other - one).collect();
    [one.nanos(), other.nanos(), Batches(more).nanos()]
}

/// What makes a row's work, and its memory: made one at a time, so that no other ring lies in the
/// caches.
type Make = Box<dyn Fn() -> Work>;

fn loops() -> Vec<(&'static str, usize, Make)> {
    let mut rows: Vec<(&'static str, usize, Make)> = vec![
        ("the loop alone", 0, Box::new(|| traced(Tracer::none(), nothing))),
        ("time: Instant::now", 0, Box::new(instant)),
        ("time: the fine clock", 0, Box::new(|| traced(tracer(SMALL, Clock::Fine), time))),
    ];
    for ring in [SMALL, LARGE] {
        rows.extend([
            (LIMIT, ring, Box::new(move || bare(ring)) as Make),
            ("pangea, tick: PacketSent", ring, make(ring, Clock::Tick, packet)),
            ("pangea, fine: PacketSent", ring, make(ring, Clock::Fine, packet)),
        ]);
    }
    rows.extend([
        ("pangea, tick: StripeCoded", SMALL, make(SMALL, Clock::Tick, stripe)),
        ("pangea, fine: StripeCoded", SMALL, make(SMALL, Clock::Fine, stripe)),
        ("pangea, tick: a span, two events", SMALL, make(SMALL, Clock::Tick, span)),
        ("pangea, fine: a span, two events", SMALL, make(SMALL, Clock::Fine, span)),
        ("pangea, class turned off", 0, Box::new(|| traced(without_packets(), packet))),
        ("pangea, tracer of nothing", 0, Box::new(|| traced(Tracer::none(), packet))),
    ]);
    rows
}

fn make(ring: usize, clock: Clock, each: impl Each + Copy + 'static) -> Make {
    Box::new(move || traced(tracer(ring, clock), each))
}

fn insides<const CHAINS: usize>() -> Vec<(&'static str, Make)> {
    let make = |ring, clock| -> Make {
        Box::new(move || inside::<CHAINS>(tracer(ring, clock), packet)) as Make
    };
    vec![
        ("bare store, ring of 4096", Box::new(inside_bare::<CHAINS>)),
        ("PacketSent, tick, ring of 4096", make(SMALL, Clock::Tick)),
        ("PacketSent, fine, ring of 4096", make(SMALL, Clock::Fine)),
        ("PacketSent, tick, ring of 65536", make(LARGE, Clock::Tick)),
        ("PacketSent, class off", Box::new(|| inside::<CHAINS>(without_packets(), packet))),
    ]
}

fn log(ring: usize, clock: Clock, core: u8) -> EventLog {
    EventLog::start(|| LogConfig {
        node: PeerId([1; 32]),
        core: CoreId(core),
        seed: [7, u64::from(core)],
        anchor: Instant::now(),
        anchor_nanos: 1_800_000_000_000_000_000,
        clock,
        sampling: Sampling::ALL,
        events: ring,
    })
}

fn tracer(ring: usize, clock: Clock) -> Tracer {
    // A new log's writer is free.
    log(ring, clock, 0).tracer().unwrap_or_default()
}

fn without_packets() -> Tracer {
    let log = log(SMALL, Clock::Tick, 0);
    log.record_only(&[Class::Span, Class::Conn, Class::Codec]);
    log.tracer().unwrap_or_default()
}

fn contexts() -> [TraceContext; CONTEXTS] {
    std::array::from_fn(|n| {
        TraceContext::new(TraceId([n as u8 + 1; 16]), n as u64 + 1, TraceFlags::SAMPLED, 0)
    })
}

/// Records events, for `counts`; how many.
pub fn events() -> Result<u64, String> {
    const EVENTS: u64 = 100_000;
    let (tracer, contexts) = (tracer(SMALL, Clock::Tick), contexts());
    for n in 0..EVENTS {
        hot_trace(&tracer, &contexts[n as usize % contexts.len()], n);
    }
    Ok(EVENTS)
}

#[inline(never)]
fn hot_trace(tracer: &Tracer, context: &TraceContext, n: u64) {
    packet(tracer, context, n, n);
}

/// What happens for each number: with a tracer, within a trace, with a value for a field.
trait Each: Fn(&Tracer, &TraceContext, u64, u64) {}
impl<F: Fn(&Tracer, &TraceContext, u64, u64)> Each for F {}

#[inline(always)]
fn nothing(_: &Tracer, _: &TraceContext, _: u64, value: u64) {
    black_box(value);
}

#[inline(always)]
fn packet(tracer: &Tracer, context: &TraceContext, n: u64, value: u64) {
    trace_event!(
        tracer,
        context,
        PacketSent { size: value as u32, packet_num: n, datagrams: 10, conn: value as u32 & 7 }
    );
}

#[inline(always)]
fn stripe(tracer: &Tracer, context: &TraceContext, n: u64, value: u64) {
    trace_event!(tracer, context, StripeCoded { chunk: value, stripe: n, k: 10, m: 4 });
}

#[inline(always)]
fn span(tracer: &Tracer, context: &TraceContext, n: u64, value: u64) {
    let context = tracer.begin(context, SpanKind::Shard, n);
    tracer.end(&context, SpanKind::Shard, Outcome::Done, value);
}

#[inline(always)]
fn time(tracer: &Tracer, _: &TraceContext, _: u64, _: u64) {
    black_box(tracer.timestamp_now());
}

/// Events and nothing else.
fn traced(tracer: Tracer, each: impl Each + 'static) -> Work {
    let contexts = contexts();
    Box::new(move |began, first| {
        for turn in (first..first + BATCH).step_by(TURN as usize) {
            tracer.tick(began);
            for n in turn..turn + TURN {
                let context = &contexts[n as usize % CONTEXTS];
                each(black_box(&tracer), context, n, n ^ 0x5555);
            }
        }
    })
}

fn instant() -> Work {
    Box::new(|_, _| {
        for _ in 0..BATCH {
            black_box(Instant::now());
        }
    })
}

/// As many bytes as an event has, as they are in registers.
#[derive(Clone, Copy)]
#[repr(align(128))]
struct Record([u64; 16]);

fn records(ring: usize) -> Vec<Record> {
    vec![Record([0; 16]); ring]
}

#[inline(always)]
fn store(ring: &mut [Record], n: u64, value: u64) {
    let at = n as usize & (ring.len() - 1);
    if let Some(Record(words)) = ring.get_mut(at) {
        *words = [n, n, n, n, n, n, n, n, value, value, n, n, n, n, n, n];
    }
}

fn bare(ring: usize) -> Work {
    let mut records = records(ring);
    Box::new(move |_, first| {
        for turn in (first..first + BATCH).step_by(TURN as usize) {
            let ring = black_box(&mut records[..]);
            (turn..turn + TURN).for_each(|n| store(ring, n, n ^ 0x5555));
        }
    })
}

/// Other work: in each chain a step waits for the one before; they are SplitMix64's.
#[inline(always)]
fn work<const CHAINS: usize>(values: &mut [u64; CHAINS]) -> u64 {
    for _ in 0..const { steps(CHAINS) } {
        for value in &mut *values {
            let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            *value = z ^ (z >> 31);
        }
    }
    values.iter().fold(0, |all, value| all ^ value)
}

/// Work, an event about its result, and on with the result.
fn inside<const CHAINS: usize>(tracer: Tracer, each: impl Each + 'static) -> Work {
    let (contexts, last) = (contexts(), Cell::new(std::array::from_fn(|n| n as u64 + 1)));
    Box::new(move |began, first| {
        let mut values: [u64; CHAINS] = last.get();
        for turn in (first..first + BATCH).step_by(TURN as usize) {
            tracer.tick(began);
            for n in turn..turn + TURN {
                let value = work(&mut values);
                each(black_box(&tracer), &contexts[n as usize % CONTEXTS], n, value);
            }
        }
        last.set(black_box(values));
    })
}

fn inside_bare<const CHAINS: usize>() -> Work {
    let (mut records, last) = (records(SMALL), Cell::new(std::array::from_fn(|n| n as u64 + 1)));
    Box::new(move |_, first| {
        let mut values: [u64; CHAINS] = last.get();
        for turn in (first..first + BATCH).step_by(TURN as usize) {
            let ring = black_box(&mut records[..]);
            for n in turn..turn + TURN {
                let value = work(&mut values);
                store(ring, n, value);
            }
        }
        last.set(black_box(values));
    })
}

/// Other recorders, in a process of their own: a JSON object for each row.
fn rival(path: &Path, seconds: f64, measured: &mut Measured) -> Result<(), String> {
    let said = |e| format!("{} cannot be run: {e}", path.display());
    let output = Command::new(path).arg(seconds.to_string()).output().map_err(said)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let failed = || format!("the rivals failed: {}", String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        return Err(failed());
    }
    for line in text.lines() {
        let row: serde_json::Value = serde_json::from_str(line).map_err(|_| failed())?;
        let number = |name: &str| row.get(name).and_then(serde_json::Value::as_f64);
        let what = row.get("what").and_then(serde_json::Value::as_str).ok_or_else(failed)?;
        let nanos = number("ns").ok_or_else(failed)?;
        let inside = (number("alone"), number("adds"));
        match (row.get("work").and_then(serde_json::Value::as_str), inside) {
            (Some(work), (Some(alone), Some(adds))) => {
                measured.add_inside(work, what, [alone, nanos, adds]);
            }
            _ => measured.loops.add(what, number("ring").unwrap_or(0.0) as usize, nanos),
        }
    }
    Ok(())
}

/// Reading at rest, and while a writer on another core is in a hurry or is not.
fn reading(cores: &[usize], seconds: f64, measured: &mut Measured) -> Result<(), String> {
    let at_rest = pinned(cores[0], || read_at_rest(seconds))?;
    measured.read.add(AT_REST, LARGE, 1e3 / at_rest);
    let [reads, writes, ..] = *cores else { return Ok(()) };
    for (what, pace) in [(UNREAD, None), (HURRIED, None), (PACED, Some(PACE))] {
        let (log, stop) = (log(LARGE, Clock::Tick, 0), AtomicBool::new(false));
        let (seen, written) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| write(writes, &log, pace, &stop));
            let reader = scope.spawn(|| {
                let rest = pace.map_or(Duration::ZERO, |_| FETCH);
                let seen = (what != UNREAD).then(|| read(reads, &log, rest, seconds));
                if seen.is_none() {
                    std::thread::sleep(Duration::from_secs_f64(seconds));
                }
                stop.store(true, Ordering::Relaxed);
                seen
            });
            (reader.join(), writer.join())
        });
        let (Ok(seen), Ok(written)) = (seen, written) else {
            return Err("reader or writer panicked".to_owned());
        };
        if let Some(seen) = seen.filter(|seen| seen.events > 0) {
            let all = (seen.events + seen.lost) as f64;
            measured.read.add(what, LARGE, 1e3 / seen.nanos);
            measured.arrived.add(what, LARGE, seen.events as f64 / seen.seconds / 1e6);
            measured.lost.add(what, LARGE, seen.lost as f64 * 100.0 / all);
        }
        if pace.is_none() {
            measured.writer.add(what, LARGE, written);
        }
    }
    Ok(())
}

/// Nanoseconds per event of a ring in which nothing moves.
fn read_at_rest(seconds: f64) -> f64 {
    let log = log(LARGE, Clock::Tick, 0);
    let mut work = traced(log.tracer().unwrap_or_default(), packet);
    (0..LARGE as u64).step_by(BATCH as usize).for_each(|first| work(Instant::now(), first));
    let (start, mut polls) = (Instant::now(), Vec::new());
    while start.elapsed().as_secs_f64() < seconds {
        let mut reader = Reader::oldest(std::slice::from_ref(&log));
        while !poll(&mut reader, &mut polls).is_empty() {}
    }
    if polls.is_empty() { f64::NAN } else { stats(&polls).median }
}

/// One batch of the reader's, timed.
fn poll(reader: &mut Reader, polls: &mut Vec<f64>) -> Vec<pangea_trace::Event> {
    let began = Instant::now();
    let events = black_box(reader.poll(READ_EVENTS));
    if !events.is_empty() {
        polls.push(began.elapsed().as_nanos() as f64 / events.len() as f64);
    }
    events
}

/// Writes until it is stopped; nanoseconds per event.
fn write(core: usize, log: &EventLog, pace: Option<Duration>, stop: &AtomicBool) -> f64 {
    pin(core);
    let tracer = log.tracer().unwrap_or_default();
    let Some(pace) = pace else {
        let (mut work, mut batches) = (traced(tracer, packet), Batches::default());
        while !stop.load(Ordering::Relaxed) {
            batches.run(&mut work);
        }
        return batches.nanos();
    };
    let (contexts, mut due) = (contexts(), Instant::now());
    while !stop.load(Ordering::Relaxed) {
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        tracer.tick(due);
        for n in 0..TURN {
            packet(&tracer, &contexts[n as usize % CONTEXTS], n, n);
        }
        due += pace;
    }
    f64::NAN
}

/// What a reader saw.
struct Seen {
    events: u64,
    lost: u64,
    /// Of the whole run.
    seconds: f64,
    /// Per event, the median over the batches.
    nanos: f64,
}

/// Reads all there is, rests, and so on.
fn read(core: usize, log: &EventLog, rest: Duration, seconds: f64) -> Seen {
    pin(core);
    let mut reader = Reader::newest(std::slice::from_ref(log));
    let (start, mut polls, mut events, mut lost) = (Instant::now(), Vec::new(), 0, 0);
    loop {
        let batch = poll(&mut reader, &mut polls);
        for event in &batch {
            match event.kind == pangea_trace::Kind::Gap as u16 {
                true => lost += gap(event),
                false => events += 1,
            }
        }
        let spent = start.elapsed().as_secs_f64();
        if spent >= seconds {
            let nanos = if polls.is_empty() { f64::NAN } else { stats(&polls).median };
            return Seen { events, lost, seconds: spent, nanos };
        }
        if batch.len() < READ_EVENTS && !rest.is_zero() {
            std::thread::sleep(rest);
        }
    }
}

fn gap(event: &pangea_trace::Event) -> u64 {
    match event.data() {
        Some(EventData::Gap { lost }) => lost,
        _ => 0,
    }
}

/// Each of these cores with a recorder of its own, all at once.
fn together(cores: &[usize], seconds: f64, measured: &mut Measured) -> Result<(), String> {
    type MakeFor = fn() -> Work;
    let rows: [(&str, MakeFor); 4] = [
        ("bare store, ring of 4096", || bare(SMALL)),
        ("pangea, tick, ring of 4096", || traced(tracer(SMALL, Clock::Tick), packet)),
        ("pangea, fine, ring of 4096", || traced(tracer(SMALL, Clock::Fine), packet)),
        ("pangea, tick, ring of 65536", || traced(tracer(LARGE, Clock::Tick), packet)),
    ];
    for (what, make) in rows {
        let barrier = Barrier::new(cores.len());
        let one = |core: usize| {
            pin(core);
            let mut work = make();
            barrier.wait();
            sample(seconds, &mut work)
        };
        let all: Vec<f64> = std::thread::scope(|scope| {
            let threads: Vec<_> = cores.iter().map(|core| scope.spawn(|| one(*core))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or(f64::NAN)).collect()
        });
        if all.iter().any(|nanos| nanos.is_nan()) {
            return Err("a core's thread panicked".to_owned());
        }
        measured.mean.add(what, cores.len(), all.iter().sum::<f64>() / all.len() as f64);
        measured.slowest.add(what, cores.len(), all.iter().copied().fold(0.0, f64::max));
    }
    Ok(())
}
