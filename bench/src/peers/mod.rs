//! Our transport beside the others', and beside what the machine can do without QUIC: each a client
//! pinned to core 0 and a server pinned to core 1, in turn, with one cipher and one kind of
//! certificate; on loopback (`peers`), and over a long path that a third process plays (`wan`). What
//! each does: `bench/peers/harness`.

mod program;
mod subjects;
mod targets;

use std::path::PathBuf;

use program::Figures;
use subjects::{SUBJECTS, Subject, TESTS, Test, WAN};

use crate::Options;
use crate::output::Output;
use crate::table::{Stats, Table, stats};

/// Unless the command line says otherwise.
const SECONDS: f64 = 2.0;
const WAN_SECONDS: f64 = 8.0;
const REPEATS: usize = 3;

/// All measurements of one subject in one test.
pub struct Row {
    subject: &'static Subject,
    test: &'static Test,
    runs: Vec<Figures>,
}

/// On loopback. Extra options: `--only PEER[,PEER]...`, `--tests TEST[,TEST]...`.
pub fn peers(options: &Options) -> Result<(), String> {
    run(options, &TESTS, SECONDS)
}

/// Over a path of 200 Mbit/s. Extra options as for `peers`.
pub fn wan(options: &Options) -> Result<(), String> {
    run(options, &WAN, WAN_SECONDS)
}

/// The option that leaves the rivals out.
pub fn without_rivals() -> [String; 2] {
    let own = SUBJECTS.iter().filter(|subject| !subject.is_rival).map(|subject| subject.name);
    ["--only".to_owned(), own.collect::<Vec<_>>().join(",")]
}

/// What a subject is to us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Ours,
    Rival,
    Limit,
}

/// All subjects in the order of the tables.
pub fn kinds() -> impl Iterator<Item = (&'static str, Kind)> {
    SUBJECTS.iter().map(|subject| match (subject.is_rival, subject.package) {
        (true, _) => (subject.name, Kind::Rival),
        (false, None) => (subject.name, Kind::Ours),
        (false, Some(_)) => (subject.name, Kind::Limit),
    })
}

fn run(options: &Options, tests: &'static [Test], seconds: f64) -> Result<(), String> {
    let wanted = Wanted::parse(&options.rest, tests)?;
    let programs = build(&wanted, tests, &options.output);
    let seconds = if options.seconds_given { options.seconds } else { seconds };
    let repeats = if options.repeats_given { options.repeats } else { REPEATS };
    let rows = measure(&wanted, tests, &programs, (seconds, repeats), &options.output);
    tests.iter().for_each(|test| show(test, &rows, &options.output));
    if rows.is_empty() {
        return Err("nothing could be measured".to_owned());
    }
    let targets = targets::table(&rows);
    if let (false, Some(targets)) = (matches!(options.output, Output::Json), targets) {
        options.output.table(targets);
    }
    Ok(())
}

/// What the command line chose; empty lists choose all.
struct Wanted {
    peers: Vec<String>,
    tests: Vec<String>,
}

impl Wanted {
    fn parse(rest: &[String], tests: &[Test]) -> Result<Wanted, String> {
        let mut wanted = Wanted { peers: Vec::new(), tests: Vec::new() };
        let mut rest = rest.iter();
        while let Some(option) = rest.next() {
            let value = rest.next().ok_or_else(|| format!("{option} needs a value"))?;
            let all = value.split(',').map(str::to_owned).collect();
            match option.as_str() {
                "--only" => wanted.peers = all,
                "--tests" => wanted.tests = all,
                _ => return Err(format!("peers knows no {option}")),
            }
        }
        let unknown = |known: &[&str], name: &String| !known.contains(&name.as_str());
        let peers = SUBJECTS.map(|subject| subject.name);
        if let Some(name) = wanted.peers.iter().find(|name| unknown(&peers, name)) {
            return Err(format!("there is no peer {name}; there are {}", peers.join(", ")));
        }
        let tests: Vec<&str> = tests.iter().map(|test| test.name).collect();
        if let Some(name) = wanted.tests.iter().find(|name| unknown(&tests, name)) {
            return Err(format!("there is no test {name}; there are {}", tests.join(", ")));
        }
        Ok(wanted)
    }

    fn has(&self, subject: &Subject, test: &Test) -> bool {
        let chosen = |list: &[String], name: &str| {
            list.is_empty() || list.iter().any(|chosen| chosen == name)
        };
        subject.takes(test) && chosen(&self.peers, subject.name) && chosen(&self.tests, test.name)
    }
}

/// The programs of all that take part. Whoever does not build is left out, and it is said.
fn build(wanted: &Wanted, tests: &[Test], output: &Output) -> Vec<(&'static Subject, PathBuf)> {
    let takes_part = |subject: &&Subject| tests.iter().any(|test| wanted.has(subject, test));
    let mut programs = Vec::new();
    for subject in SUBJECTS.iter().filter(takes_part) {
        eprintln!("peers: building {}", subject.name);
        match program::build(subject) {
            Ok(path) => programs.push((subject, path)),
            Err(why) => output.remark(&format!("peers: {} is left out: {why}", subject.name)),
        }
    }
    programs
}

/// Everybody in turn, so that what changes in the machine meanwhile meets all alike.
fn measure(
    wanted: &Wanted,
    tests: &'static [Test],
    programs: &[(&'static Subject, PathBuf)],
    (seconds, repeats): (f64, usize),
    output: &Output,
) -> Vec<Row> {
    let mut rows = Vec::new();
    for test in tests {
        let mut of_test: Vec<(Row, &PathBuf)> = programs
            .iter()
            .filter(|(subject, _)| wanted.has(subject, test))
            .map(|(subject, path)| (Row { subject, test, runs: Vec::new() }, path))
            .collect();
        for repeat in 1..=repeats {
            for (row, path) in &mut of_test {
                eprintln!("peers: {} {}, {repeat} of {repeats}", test.name, row.subject.name);
                match program::measure(path, row.subject, test, seconds) {
                    Ok(figures) => row.runs.push(figures),
                    Err(why) => {
                        output.remark(&format!("peers: {} {}: {why}", test.name, row.subject.name));
                    }
                }
            }
        }
        rows.extend(of_test.into_iter().map(|(row, _)| row).filter(|row| !row.runs.is_empty()));
    }
    rows
}

impl Row {
    /// One figure over all runs.
    fn stats(&self, figure: &str) -> Option<Stats> {
        // A slow path is read more easily so.
        let slow = WAN.iter().any(|test| test.name == self.test.name);
        let (figure, factor) = match figure {
            "mbps" if slow => ("gbps", 1e3),
            figure => (figure, 1.0),
        };
        let value = |run: &Figures| Some(run.get(figure)? * factor);
        let values: Vec<f64> = self.runs.iter().filter_map(value).collect();
        (!values.is_empty()).then(|| stats(&values))
    }

    fn deciding(&self) -> f64 {
        self.stats(self.test.figure).map_or(f64::NAN, |all| all.median)
    }

    /// Medians under the figures' names, ends under `NAME_min` and `NAME_max`.
    fn json(&self) -> serde_json::Value {
        let mut object = serde_json::Map::new();
        object.insert("peer".into(), self.subject.name.into());
        object.insert("test".into(), self.test.name.into());
        object.insert("runs".into(), self.runs.len().into());
        for name in self.runs.iter().flat_map(|run| run.keys()) {
            let Some(Stats { median, min, max }) = self.stats(name) else { continue };
            object.insert(name.clone(), median.into());
            object.insert(format!("{name}_min"), min.into());
            object.insert(format!("{name}_max"), max.into());
        }
        serde_json::Value::Object(object)
    }
}

/// The best of all rivals in a figure of a test.
fn best_rival<'a>(
    rows: &'a [Row],
    test: &str,
    figure: &str,
    more_is_better: bool,
) -> Option<&'a Row> {
    let rivals = rows.iter().filter(|row| row.test.name == test && row.subject.is_rival);
    let known = rivals.filter_map(|row| Some((row, row.stats(figure)?.median)));
    let best = known.max_by(|(_, a), (_, b)| {
        let order = a.total_cmp(b);
        if more_is_better { order } else { order.reverse() }
    });
    best.map(|(row, _)| row)
}

const FIGURES: [(&str, &str); 7] = [
    ("gbps", "Gbit/s"),
    ("mbps", "Mbit/s"),
    ("per_s", "per s"),
    ("p50_us", "p50 us"),
    ("p99_us", "p99 us"),
    ("p999_us", "p99.9 us"),
    ("bytes_per_conn", "bytes"),
];

fn show(test: &Test, rows: &[Row], output: &Output) {
    let of_test: Vec<&Row> = rows.iter().filter(|row| row.test.name == test.name).collect();
    let Some(first) = of_test.first() else { return };
    let shown: Vec<(&str, &str)> =
        FIGURES.into_iter().filter(|(name, _)| first.stats(name).is_some()).collect();
    let shown = match shown.iter().any(|(name, _)| *name == "mbps") {
        true => shown.into_iter().filter(|(name, _)| *name != "gbps").collect(),
        false => shown,
    };
    let cpu = if test.figure == "gbps" { "CPU s/GiB" } else { "CPU us" };
    let heads: Vec<&str> = shown.iter().map(|(_, head)| *head).collect();
    let columns = [&["peer"], &heads[..], &[cpu, "to best rival"]].concat();
    let mut table = Table::new(&format!("{}: {}", test.name, test.title), &columns);
    let best = best_rival(rows, test.name, test.figure, test.more_is_better).map(Row::deciding);
    for row in &of_test {
        let cell = |name: &str| row.stats(name).map_or("-".to_owned(), |all| all.to_string());
        let figures = shown.iter().map(|(name, _)| cell(name));
        let ratio = best.map_or("-".to_owned(), |best| format!("{:.2}", row.deciding() / best));
        let cells: Vec<String> = [row.subject.name.to_owned()]
            .into_iter()
            .chain(figures)
            .chain([cell("cpu"), ratio])
            .collect();
        table.row(&cells);
    }
    output.table_as(table, of_test.iter().map(|row| row.json().to_string()).collect());
}
