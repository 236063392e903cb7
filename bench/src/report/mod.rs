//! `all`: every benchmark, and one report of them: `rows.jsonl`, the plots as SVG, and a page that
//! has all of it in itself. A part that fails is said to have failed, in the report and at the end.

mod data;
mod headline;
pub mod machine;
mod page;
mod plots;
mod svg;

use std::cell::RefCell;
use std::fs::File;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use data::Data;
use machine::Machine;
use page::Page;

use crate::output::{Kept, Output};
use crate::{Options, ces, driver, e2e, peers, store};

/// A benchmark that was run.
pub struct Part {
    name: &'static str,
    about: &'static str,
    outcome: Result<(), String>,
    kept: Kept,
    took: Duration,
}

/// Measures everything. Options: `--out DIR`, `--dir PATH` (where store and e2e have their files;
/// the current directory), `--quick`.
pub fn run(options: &Options) -> Result<(), String> {
    let wishes = Wishes::parse(options)?;
    let rows = wishes.out.join("rows.jsonl");
    let in_words = |error: std::io::Error| format!("{} cannot be written: {error}", rows.display());
    std::fs::create_dir_all(&wishes.out)
        .map_err(|error| format!("--out {}: {error}", wishes.out.display()))?;
    let mut file = File::create(&rows).map_err(in_words)?;
    let mut machine = machine::look();
    let (began, mut parts) = (Instant::now(), Vec::new());
    for plan in &PLANS {
        eprintln!("all: {}", plan.name);
        let part = plan.run(&wishes);
        // At once: whoever stops it half way keeps what was measured.
        let lines: String = part.kept.rows.iter().map(|row| format!("{row}\n")).collect();
        file.write_all(lines.as_bytes()).map_err(in_words)?;
        parts.push(part);
    }
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    machine.facts.push(("Took", format!("{minutes:.0} min")));
    let report = Report { parts, machine, warnings: wishes.warnings() };
    for (name, text) in report.files() {
        let path = wishes.out.join(name);
        std::fs::write(&path, text)
            .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    }
    eprintln!("all: the report is {}", wishes.out.join("report.html").display());
    report.outcome()
}

/// What the command line chose.
struct Wishes {
    out: PathBuf,
    dir: String,
    quick: bool,
    /// Those that were given, and then hold for every part.
    seconds: Option<f64>,
    repeats: Option<usize>,
}

impl Wishes {
    fn parse(options: &Options) -> Result<Wishes, String> {
        if matches!(options.output, Output::Json) {
            return Err("all writes its rows to rows.jsonl; --json is for the others".to_owned());
        }
        let (mut out, mut dir, mut quick) = (None, ".".to_owned(), false);
        let mut rest = options.rest.iter();
        while let Some(option) = rest.next() {
            let mut value = || rest.next().ok_or_else(|| format!("{option} needs a value"));
            match option.as_str() {
                "--out" => out = Some(PathBuf::from(value()?)),
                "--dir" => dir.clone_from(value()?),
                "--quick" => quick = true,
                _ => return Err(format!("all knows no {option}; see --help")),
            }
        }
        Ok(Wishes {
            out: out.ok_or("all needs --out DIR, for the report")?,
            dir,
            quick,
            seconds: options.seconds_given.then_some(options.seconds),
            repeats: options.repeats_given.then_some(options.repeats),
        })
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.quick {
            warnings.push(
                "A quick run: short times, one repeat and no rivals. It shows what the report looks \
                 like; its figures say little."
                    .to_owned(),
            );
        }
        if cfg!(debug_assertions) {
            let profile = machine::profile();
            warnings.push(format!("Built {profile}: the program that users have is faster."));
        }
        warnings
    }
}

/// A benchmark that is to be run.
struct Plan {
    name: &'static str,
    about: &'static str,
    run: fn(&Options) -> Result<(), String>,
    /// Seconds of each measurement in a quick run.
    quick_seconds: f64,
    words: fn(&Wishes) -> Vec<String>,
}

const PLANS: [Plan; 6] = [
    Plan {
        name: "peers",
        about: "Our transport beside others' and beside the machine's limits, on loopback, a client \
                on one core and a server on the other",
        run: peers::peers,
        quick_seconds: 0.2,
        words: quick_peers,
    },
    Plan {
        name: "wan",
        about: "One stream over a path of 200 Mbit/s with delay and loss, all with BBR where they \
                have it",
        run: peers::wan,
        quick_seconds: 1.0,
        words: quick_peers,
    },
    Plan {
        name: "ces",
        about: "Compress, encrypt, stripe and back: each stage alone, the limit that follows from \
                them, and the whole",
        run: ces::run,
        quick_seconds: 0.02,
        words: |_| Vec::new(),
    },
    Plan {
        name: "store",
        about: "Durable puts and reads of shards, beside the bare file on the same disk",
        run: store::run,
        quick_seconds: 0.2,
        words: |wishes| ["--dir", &wishes.dir].map(str::to_owned).to_vec(),
    },
    Plan {
        name: "driver",
        about: "The driver's two back ends beside bare system calls",
        run: driver::run,
        quick_seconds: 0.2,
        words: |_| Vec::new(),
    },
    Plan {
        name: "e2e",
        about: "Put and get through whole nodes over loopback, beside a copy of the file",
        run: e2e::run,
        quick_seconds: 0.2,
        words: files,
    },
];

fn quick_peers(wishes: &Wishes) -> Vec<String> {
    if wishes.quick { peers::without_rivals().to_vec() } else { Vec::new() }
}

fn files(wishes: &Wishes) -> Vec<String> {
    let (mib, sizes) = if wishes.quick { ("16", "1,4,16") } else { ("1024", "1,4,16,64,256") };
    ["--dir", &wishes.dir, "--mib", mib, "--sizes", sizes].map(str::to_owned).to_vec()
}

impl Plan {
    fn run(&self, wishes: &Wishes) -> Part {
        let quick = |value: f64| wishes.quick.then_some(value);
        let seconds = wishes.seconds.or(quick(self.quick_seconds));
        let repeats = wishes.repeats.or(wishes.quick.then_some(1));
        let options = Options {
            output: Output::Kept(RefCell::default()),
            seconds: seconds.unwrap_or(crate::SECONDS),
            seconds_given: seconds.is_some(),
            repeats: repeats.unwrap_or(crate::REPEATS),
            repeats_given: repeats.is_some(),
            rest: (self.words)(wishes),
        };
        let began = Instant::now();
        // A part that panics is one that failed; what the others measured is not lost.
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.run)(&options)));
        let outcome = outcome.unwrap_or_else(|_| Err("it panicked; see standard error".to_owned()));
        let kept = match options.output {
            Output::Kept(kept) => kept.into_inner(),
            Output::Aligned | Output::Json => Kept::default(),
        };
        if let Err(why) = &outcome {
            eprintln!("all: {} failed: {why}", self.name);
        }
        Part { name: self.name, about: self.about, outcome, kept, took: began.elapsed() }
    }
}

/// All that is written when everything was measured.
struct Report {
    parts: Vec<Part>,
    machine: Machine,
    warnings: Vec<String>,
}

impl Report {
    /// Names and contents: the plots and the page.
    fn files(&self) -> Vec<(String, String)> {
        let data = Data::of(&self.parts);
        let plots = plots::all(&data);
        let page = Page {
            parts: &self.parts,
            plots: &plots,
            headlines: &headline::headlines(&data),
            machine: &self.machine,
            warnings: &self.warnings,
        };
        let html = page.html();
        let drawn = plots.iter().map(|plot| {
            let text = svg::document(plot.title, plot.caption, &plot.panels);
            (format!("{}.svg", plot.name), text)
        });
        drawn.chain([("report.html".to_owned(), html)]).collect()
    }

    fn outcome(&self) -> Result<(), String> {
        let failed = self.parts.iter().filter(|part| part.outcome.is_err());
        let failed: Vec<&str> = failed.map(|part| part.name).collect();
        match failed.is_empty() {
            true => Ok(()),
            false => Err(format!("failed: {}; the report says why", failed.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests;
