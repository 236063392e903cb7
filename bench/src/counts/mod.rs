//! Instructions of the hot paths, counted by callgrind, held against `bench/baseline.toml`: unlike
//! times, they are the same on a busy machine. A rise of more than 2 % fails; whoever means it
//! writes the new baseline with `--write` and says why in the commit. Another compiler makes other
//! instructions: then the counts are shown and held against nothing.
//!
//! Counted in the profile of the tests, because that is what CI has compiled already.

mod paths;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::Options;
use crate::report::machine::compiler;
use crate::table::Table;

/// The word that makes this program run one hot path.
pub const CHILD: &str = "hot";

/// A rise that fails.
const RISE_MAX: f64 = 0.02;

/// Instructions per operation, by path.
type Counts = BTreeMap<String, f64>;

/// What is kept in the file.
#[derive(Default, Serialize, Deserialize)]
struct Baseline {
    /// What `rustc --version` says.
    compiler: String,
    instructions: Counts,
}

/// Counts all paths. Extra option: `--write` keeps what was counted as the new baseline.
pub fn run(options: &Options) -> Result<(), String> {
    let writes = match options.rest.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--write"] => true,
        _ => return Err("counts takes --write and nothing else".to_owned()),
    };
    if !cfg!(debug_assertions) {
        return Err(
            "the baseline is of the tests' profile: 'cargo run -p pangea-bench -- counts', \
                    without --release"
                .to_owned(),
        );
    }
    let counts = count_all()?;
    let before = baseline()?;
    let compiler = compiler().ok_or("rustc does not run, and counts are of one compiler")?;
    print(options, &counts, &before.instructions);
    if writes {
        return write(&counts, before.instructions, compiler);
    }
    if before.compiler != compiler {
        let Baseline { compiler: other, .. } = before;
        eprintln!("counts: skipped: the baseline is of {other}, this is {compiler}");
        return Ok(());
    }
    let before = before.instructions;
    let risen: Vec<&str> = counts
        .iter()
        .filter(|(name, count)| before.get(*name).is_none_or(|b| **count > b * (1.0 + RISE_MAX)))
        .map(|(name, _)| name.as_str())
        .collect();
    match risen.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "more instructions than in {}: {}. If that is meant, keep it with --write",
            baseline_path().display(),
            risen.join(", ")
        )),
    }
}

/// Runs one path and says how many operations that were: the child of `run`.
pub fn hot(options: &Options) -> Result<(), String> {
    let name = options.rest.first().ok_or("hot needs the name of a path")?;
    let path = paths::PATHS.iter().find(|path| path.name == name);
    let operations = (path.ok_or_else(|| format!("there is no path {name}"))?.run)()?;
    println!("{operations}");
    Ok(())
}

fn count_all() -> Result<Counts, String> {
    let mut counts = Counts::new();
    for path in paths::PATHS {
        counts.insert(path.name.to_owned(), count(path)?);
    }
    Ok(counts)
}

/// Only what runs inside of functions whose names contain the path's mark is counted.
fn count(path: &paths::Path) -> Result<f64, String> {
    let program = std::env::current_exe().map_err(|e| format!("this program is not found: {e}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg(format!("--toggle-collect=*{}*", path.mark))
        .arg(program)
        .args([CHILD, path.name])
        .output()
        .map_err(|e| format!("valgrind does not run, and nothing else counts: {e}"))?;
    let (said, counted) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let last = |text: &str| text.split_whitespace().next_back()?.parse::<f64>().ok();
    let instructions = counted.lines().find(|line| line.contains("Collected :")).and_then(last);
    match (instructions, said.trim().parse::<f64>()) {
        (Some(instructions), Ok(operations)) if instructions > 0.0 && operations > 0.0 => {
            Ok(instructions / operations)
        }
        _ => Err(format!("{} was not counted: {said}{counted}", path.name)),
    }
}

fn print(options: &Options, counts: &Counts, before: &Counts) {
    let columns = ["path", "instructions", "baseline", "change %"];
    let mut table = Table::new("Instructions per operation (callgrind, tests' profile)", &columns);
    for (name, count) in counts {
        let (baseline, change) = match before.get(name) {
            Some(before) => {
                (format!("{before:.1}"), format!("{:.2}", 100.0 * (count / before - 1.0)))
            }
            None => ("-".to_owned(), "-".to_owned()),
        };
        table.row(&[name.clone(), format!("{count:.1}"), baseline, change]);
    }
    options.output.table(table);
}

fn baseline_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline.toml")
}

fn baseline() -> Result<Baseline, String> {
    let path = baseline_path();
    match std::fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Baseline::default()),
        Err(e) => Err(format!("{}: {e}", path.display())),
    }
}

/// Paths that this build does not have keep what they had.
fn write(counts: &Counts, mut all: Counts, compiler: String) -> Result<(), String> {
    all.extend(counts.iter().map(|(name, count)| (name.clone(), (count * 10.0).round() / 10.0)));
    let kept = Baseline { compiler, instructions: all };
    let text = toml::to_string(&kept).map_err(|e| format!("the baseline is no TOML: {e}"))?;
    let head =
        "# Instructions per operation, written by 'cargo run -p pangea-bench -- counts --write'.";
    let (path, text) = (baseline_path(), format!("{head}\n{text}"));
    std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))
}
