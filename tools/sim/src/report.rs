//! Many worlds: on all cores, counted together, with the one command that brings a failure back.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::run::{Outcome, live, live_planted};
use crate::world::log::KEPT;
use crate::world::planted::Plant;

/// What `pangea-sim run` is told.
#[derive(clap::Args)]
pub struct RunOptions {
    /// How many worlds
    #[arg(long, default_value_t = 150)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Live each twice and compare every event and every datagram
    #[arg(long)]
    twice: bool,
    /// Fail unless every fault, event, enemy and refusal came to be, at least once
    #[arg(long)]
    all_kinds: bool,
    /// Threads; as many as there are cores otherwise
    #[arg(long)]
    threads: Option<usize>,
}

/// What `pangea-sim replay` is told.
#[derive(clap::Args)]
pub struct ReplayOptions {
    /// Which seed
    seed: u64,
    /// How many of the last events are shown
    #[arg(long, default_value_t = KEPT)]
    events: usize,
    /// A fault that is built in, to see how it is caught
    #[arg(long, value_enum)]
    planted: Option<Plant>,
}

/// What `pangea-sim soak` is told.
#[derive(clap::Args)]
pub struct SoakOptions {
    /// For how long, at most
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// The first seed
    #[arg(long, default_value_t = 1_000_000)]
    from: u64,
}

/// Lives many worlds.
pub fn run(options: &RunOptions) -> ExitCode {
    let end = options.from.saturating_add(options.seeds);
    let totals = all(options.from, end, None, options.twice, options.threads);
    totals.print();
    totals.exit(options.all_kinds)
}

/// Lives worlds until the time is up.
pub fn soak(options: &SoakOptions) -> ExitCode {
    let until = Instant::now() + Duration::from_secs(options.minutes * 60);
    let totals = all(options.from, u64::MAX, Some(until), false, None);
    totals.print();
    totals.exit(false)
}

/// Lives one world again.
pub fn replay(options: &ReplayOptions) -> ExitCode {
    let begun = Instant::now();
    let outcome = live_planted(options.seed, options.events, options.planted);
    let mut totals = Totals::default();
    totals.add(&outcome);
    totals.wall = begun.elapsed();
    if outcome.failure.is_none() {
        println!("{}", outcome.tail);
    }
    tell(&outcome);
    totals.print();
    println!("trace {:016x}", outcome.hash);
    totals.exit(false)
}

/// What came of many worlds.
#[derive(Default)]
struct Totals {
    seeds: u64,
    twice: u64,
    failed: Vec<u64>,
    time: Duration,
    eventful: Duration,
    wall: Duration,
    sums: BTreeMap<&'static str, u64>,
    faults: BTreeMap<&'static str, u64>,
    events: BTreeMap<&'static str, u64>,
    enemies: BTreeMap<&'static str, u64>,
    deeds: BTreeMap<&'static str, u64>,
    refusals: BTreeMap<String, u64>,
}

fn all(from: u64, end: u64, until: Option<Instant>, twice: bool, threads: Option<usize>) -> Totals {
    let threads = threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let next = AtomicU64::new(from);
    let totals = Mutex::new(Totals::default());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || until.is_some_and(|until| Instant::now() >= until) {
                        return;
                    }
                    let mut outcome = live(seed, KEPT);
                    if twice && outcome.failure.is_none() && live(seed, KEPT).hash != outcome.hash {
                        outcome.failure = Some("lived twice, it was not the same".to_owned());
                    }
                    let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
                    totals.twice += u64::from(twice);
                    totals.add(&outcome);
                    tell(&outcome);
                }
            });
        }
    });
    let mut totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    totals.wall = began.elapsed();
    totals
}

/// Says what went wrong, and how to see it again.
fn tell(outcome: &Outcome) {
    let Some(failure) = &outcome.failure else { return };
    println!("{}", outcome.tail);
    println!("FAILED: seed {} at {failure}", outcome.seed);
    println!("commit {}", commit());
    println!("again: cargo run --release -p pangea-sim -- replay {}\n", outcome.seed);
}

/// The commit that this was built from, as far as git is there to tell.
fn commit() -> String {
    let git = std::process::Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let text = git.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    text.map_or_else(|| "unknown".to_owned(), |text| String::from_utf8_lossy(&text).trim().into())
}

/// A world is eventful if an hour like it would have at least so much of each.
const HOURLY: [(&str, u64); 4] = [("puts", 20), ("gets", 20), ("faults", 100), ("restarts", 1)];

impl Totals {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.time += outcome.time;
        if outcome.failure.is_some() {
            self.failed.push(outcome.seed);
        }
        let tally = &outcome.tally;
        let faults: u64 = outcome.faults.values().sum();
        let sums = [
            ("puts", tally.puts),
            ("of them degraded", tally.puts_degraded),
            ("puts that failed", tally.puts_failed),
            ("gets", tally.gets),
            ("of them failed", tally.gets_failed),
            ("stats", tally.stats),
            ("restarts", tally.restarts),
            ("faults", faults),
            ("plaintext bytes put and got", tally.bytes),
            ("bytes on the wire", outcome.sent),
            ("steps", tally.steps),
            ("bytes freed behind ended leases", tally.freed),
            ("machines of 17 to 128 cores", tally.large),
            ("worlds without law", u64::from(!outcome.is_lawful)),
        ];
        for (name, count) in sums {
            *self.sums.entry(name).or_default() += count;
        }
        let hours = outcome.time.as_secs_f64() / 3600.0;
        let there = |name: &str| sums.iter().find(|(n, _)| *n == name).map_or(0, |(_, c)| *c);
        if HOURLY.iter().all(|(name, least)| there(name) as f64 >= *least as f64 * hours) {
            self.eventful += outcome.time;
        }
        add_up(&mut self.faults, &outcome.faults);
        add_up(&mut self.events, &outcome.events);
        add_up(&mut self.enemies, &tally.enemies);
        add_up(&mut self.deeds, &outcome.deeds);
        add_up(&mut self.refusals, &outcome.refusals);
    }

    fn print(&self) {
        let hours = |time: Duration| time.as_secs_f64() / 3600.0;
        println!(
            "{} worlds, {:.1} simulated hours, of them eventful {:.1}",
            self.seeds,
            hours(self.time),
            hours(self.eventful)
        );
        println!("an hour is eventful with 20 puts, 20 gets, 100 faults and a restart in it");
        if self.twice > 0 {
            println!("{} of them lived twice", self.twice);
        }
        for (name, count) in &self.sums {
            println!("  {count:>14}  {name}");
        }
        section("faults", self.faults.iter());
        section("enemies that came", self.enemies.iter());
        section("what enemies did", self.deeds.iter());
        section("events of the nodes", self.events.iter());
        section("refusals and failures that nodes recorded", self.refusals.iter());
        println!("took {:.1} s", self.wall.as_secs_f64());
        println!("{} failed: {:?}", self.failed.len(), self.failed);
    }

    fn exit(&self, all_kinds: bool) -> ExitCode {
        let missing = self.missing();
        if all_kinds && !missing.is_empty() {
            println!("never came to be: {}", missing.join(", "));
            return ExitCode::FAILURE;
        }
        match self.failed.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        }
    }

    /// What worlds know and none of these had.
    fn missing(&self) -> Vec<String> {
        let kinds = crate::kinds::Kinds::all();
        let not_in = |names: Vec<&'static str>, seen: &BTreeMap<&'static str, u64>| {
            let missing = names.into_iter().filter(|name| !seen.contains_key(name));
            missing.map(str::to_owned).collect::<Vec<_>>()
        };
        let mut missing = not_in(kinds.faults, &self.faults);
        missing.extend(not_in(kinds.events, &self.events));
        missing.extend(not_in(kinds.enemies, &self.enemies));
        // An event has room for the first bytes of a reason, and numbers take some of it.
        let is_seen = |name: &String| {
            self.refusals.keys().any(|seen| name.starts_with(seen) || seen.starts_with(name))
        };
        missing.extend(kinds.refusals.into_iter().filter(|name| !is_seen(name)));
        missing
    }
}

fn add_up<N: Ord + Clone>(to: &mut BTreeMap<N, u64>, from: &BTreeMap<N, u64>) {
    for (name, count) in from {
        *to.entry(name.clone()).or_default() += count;
    }
}

fn section<N: std::fmt::Display, C: std::fmt::Display>(
    title: &str,
    lines: impl Iterator<Item = (N, C)>,
) {
    println!("{title}:");
    for (name, count) in lines {
        println!("  {count:>14}  {name}");
    }
}
