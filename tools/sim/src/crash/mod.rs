//! Crash images: what a power cut could leave on a disk, and what recovery makes of it.

mod check;
mod cut;
mod history;
mod replay;
mod rig;
#[cfg(test)]
mod tests;
mod workload;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cut::{Chain, Failure, Outcome, Way, cut, order};

/// What `pangea-sim crash` is told.
#[derive(clap::Args)]
pub struct Options {
    /// How many images, at least
    #[arg(long, default_value_t = 10_000)]
    images: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads; as many as there are cores otherwise
    #[arg(long)]
    threads: Option<usize>,
    /// Only this workload
    #[arg(long)]
    workload: Option<u64>,
    /// Only a cut at this moment of that workload
    #[arg(long, requires_all = ["workload", "survivors"])]
    moment: Option<usize>,
    /// Only with these survivors: none, all, old-lengths, new-lengths, only:N, all-but:N,
    /// random:SEED, torn:EIGHTHS,UNIT or torn-at:N,EIGHTHS,UNIT
    #[arg(long, requires = "moment")]
    survivors: Option<Way>,
    /// One line of JSON instead of words
    #[arg(long)]
    json: bool,
    /// Write the images below these directories and open them there, over the real driver
    #[arg(long, value_name = "DIR", num_args = 1..)]
    replay_on: Vec<PathBuf>,
    /// Only this driver; both otherwise
    #[arg(long, value_enum)]
    driver: Option<replay::Back>,
    /// Make file systems of these kinds in files, and open the images on each
    #[arg(long, value_name = "KIND", value_delimiter = ',', conflicts_with = "replay_on")]
    file_systems: Vec<String>,
}

impl Options {
    /// The one cut that is asked for.
    fn only(&self) -> Option<(u64, Option<(usize, Way)>)> {
        self.workload.map(|workload| (workload, self.moment.zip(self.survivors)))
    }
}

/// Runs them; success only if every image held.
pub fn run(options: &Options) -> ExitCode {
    let held = match options {
        Options { file_systems, .. } if !file_systems.is_empty() => {
            replay::on_file_systems(options)
        }
        Options { replay_on, .. } if !replay_on.is_empty() => replay::on_directories(options),
        _ => on_simulated_disks(options),
    };
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn on_simulated_disks(options: &Options) -> bool {
    let begun = Instant::now();
    let totals = match options.only() {
        Some((workload, only)) => {
            let mut totals = Totals::default();
            let outcome = cut(options.seed, workload, only);
            totals.add(options.seed, workload, outcome);
            totals
        }
        None => all(options),
    };
    match options.json {
        true => totals.print_json(begun.elapsed()),
        false => totals.print(begun.elapsed()),
    }
    if totals.images == 0 {
        eprintln!("FAILED: there is no such image");
    }
    totals.images > 0 && totals.failure.is_none()
}

/// Workloads in their order until there are enough images. What is counted does not depend on
/// which thread was faster: only workloads before the first one too many count.
fn all(options: &Options) -> Totals {
    let threads = options.threads.unwrap_or_else(cores).max(1);
    let (next, done) = (AtomicU64::new(0), Mutex::new(Done::default()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    if lock(&done).is_enough(options.images) {
                        return;
                    }
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let (seed, workload) = order(options.seed, place);
                    let outcome = cut(seed, workload, None);
                    lock(&done).take(place, (seed, workload, outcome), options.images);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner).totals
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn lock(done: &Mutex<Done>) -> std::sync::MutexGuard<'_, Done> {
    done.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is done, and what waits for its turn to be counted.
#[derive(Default)]
struct Done {
    totals: Totals,
    waiting: BTreeMap<u64, (u64, u64, Outcome)>,
    counted: u64,
}

impl Done {
    fn is_enough(&self, images: u64) -> bool {
        self.totals.failure.is_some() || self.totals.images >= images
    }

    fn take(&mut self, place: u64, outcome: (u64, u64, Outcome), images: u64) {
        self.waiting.insert(place, outcome);
        while !self.is_enough(images)
            && let Some((seed, workload, outcome)) = self.waiting.remove(&self.counted)
        {
            self.counted += 1;
            self.totals.add(seed, workload, outcome);
        }
    }
}

#[derive(Default)]
struct Totals {
    images: u64,
    nested: u64,
    twice: u64,
    workloads: u64,
    kinds: BTreeMap<&'static str, u64>,
    hash: Chain,
    failure: Option<(u64, u64, Failure)>,
}

impl Totals {
    fn add(&mut self, seed: u64, workload: u64, outcome: Outcome) {
        self.images += outcome.images;
        self.nested += outcome.nested;
        self.twice += outcome.twice;
        self.workloads += 1;
        for (kind, count) in outcome.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        self.hash.add(&outcome.hash.0.0);
        self.failure = outcome.failure.map(|failure| (seed, workload, failure));
    }

    fn print(&self, took: Duration) {
        let kinds: Vec<String> =
            self.kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        let seconds = took.as_secs_f64().max(0.001);
        println!("images: {} of {} workloads", self.images, self.workloads);
        println!("survivors: {}", kinds.join(", "));
        println!("recovered twice: {}", self.twice);
        println!("nested images: {} (cuts during recovery)", self.nested);
        println!("hash: {}", self.hash_text());
        println!("time: {seconds:.1} s, {:.0} images/s", self.images as f64 / seconds);
        let Some((seed, workload, failure)) = &self.failure else {
            println!("all held");
            return;
        };
        println!("FAILED in image {}: {}", self.images, failure.what);
        println!("again: {}", failure.again(*seed, *workload));
    }

    fn print_json(&self, took: Duration) {
        let kinds = self.kinds.iter().map(|(kind, count)| format!("{kind:?}:{count}"));
        let kinds = kinds.collect::<Vec<_>>().join(",");
        let failure =
            self.failure.as_ref().map_or("null".to_owned(), |(seed, workload, failure)| {
                let again = failure.again(*seed, *workload);
                format!(r#"{{"what":{:?},"again":{again:?}}}"#, failure.what)
            });
        let (images, workloads, nested) = (self.images, self.workloads, self.nested);
        let (twice, hash, seconds) = (self.twice, self.hash_text(), took.as_secs_f64());
        print!(r#"{{"images":{images},"workloads":{workloads},"nested":{nested},"twice":{twice},"#);
        print!(r#""survivors":{{{kinds}}},"hash":"{hash}","seconds":{seconds:.1},"#);
        println!(r#""failure":{failure}}}"#);
    }

    fn hash_text(&self) -> String {
        self.hash.0.0[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
