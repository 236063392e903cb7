//! House rules that the compiler does not know: who may depend on whom, how long a file and a
//! function may be, where `unsafe` may stand, which words may not. A rule that is broken names the
//! place and says what to do instead.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file of code, tests excluded.
const FILE_LINES_MAX: usize = 800;
/// A function, from its first line to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// Files that are longer than they should be, with their length. A length may only be lowered, and
/// nothing may be added.
const LONG_FILES: [(&str, usize); 0] = [];
/// As above: `file::function`.
const LONG_FUNCTIONS: [(&str, usize); 0] = [];

/// The only files in which `unsafe` may stand. All are below the rooms that hold pages, vector
/// instructions and system calls; nothing that parses bytes from outside is here.
const UNSAFE_FILES: [&str; 21] = [
    "bench/peers/harness/src/process.rs",
    "bench/peers/limits/src/main.rs",
    "shards/base/src/page.rs",
    "shards/code/src/kernel/mod.rs",
    "shards/code/src/kernel/neon.rs",
    "shards/code/src/kernel/x86.rs",
    "shards/reactor/src/driver.rs",
    "shards/reactor/src/mio/udp.rs",
    "shards/reactor/src/streams.rs",
    "shards/reactor/src/sys.rs",
    "shards/reactor/src/uring/files.rs",
    "shards/reactor/src/uring/mod.rs",
    "shards/reactor/src/uring/probe.rs",
    "shards/reactor/src/uring/receive.rs",
    "shards/reactor/src/uring/send.rs",
    "shards/reactor/src/uring/system.rs",
    "shards/reactor/tests/conformance/unprivileged.rs",
    "shards/trace/src/clock.rs",
    "shards/trace/src/ring.rs",
    "shards/trace/tests/no_alloc.rs",
    "shards/transport/tests/allocations.rs",
];

/// Crates of which some file may be unsafe. Their roots deny it and allow it module by module; the
/// reactor's root, all of whose modules talk to the system, is held by the list above.
const UNSAFE_CRATES: [&str; 4] = ["shards/base", "shards/code", "shards/reactor", "shards/trace"];

/// Words that do not stay in the code, and what to do instead. In two pieces, so that this file
/// does not contain them.
const BANNED: [(&str, &str, &str); 8] = [
    ("todo", "!(", "finish it, or return an error that says what is missing"),
    ("unimplemented", "!(", "finish it, or return an error that says what is missing"),
    ("dbg", "!(", "use tracing, or an assertion"),
    ("FIX", "ME", "fix it, or open an issue"),
    ("XX", "X:", "say what is meant in a sentence"),
    ("TO", "DO", "do it, or open an issue"),
    ("#[ig", "nore]", "a test that does not run is no test: scale it down, or drop it"),
    ("thread_", "rng", "take pangea_base::Entropy as an argument"),
];

/// The only place in the program that writes to stdout and stderr.
const SAY: &str = "src/cli/say.rs";

/// What writes there, or hands it out, and what to do instead: `print!` panics where nobody reads.
const SAYING: [&str; 9] = [
    "print!(",
    "println!(",
    "eprint!(",
    "eprintln!(",
    "io::stdout",
    "io::stderr",
    "stdio::",
    "ProgressDrawTarget",
    "Term::std",
];

/// What tells whose machine something was written on.
const MACHINE_PATHS: [(&str, &str); 5] =
    [("/wo", "rk/"), ("/ro", "ot/"), ("/home/", "user"), (".py", "env"), ("/tmp/", "bash_jobs")];

/// Rooms without I/O of their own: state, time and entropy are arguments.
const SANS_IO: [&str; 6] = ["ces", "code", "store", "transport", "wire", "engine"];

/// What such a room does not touch, and what it takes instead.
const IMPURE: [(&str, &str); 9] = [
    ("Instant::now", "time is an argument"),
    ("SystemTime::now", "time is an argument"),
    ("thread::", "threads belong to src"),
    ("std::fs", "files are pangea_base::file operations, as values"),
    ("std::env", "configuration is an argument"),
    ("std::net::UdpSocket", "sockets belong to reactor"),
    ("getrandom", "entropy is an argument"),
    ("HashMap", "use BTreeMap: behaviour is a function of the inputs"),
    ("HashSet", "use BTreeSet: behaviour is a function of the inputs"),
];

#[test]
fn dependencies_point_the_way_that_the_architecture_says() {
    let (tiers, only) = architecture();
    let tier_of = |room: &str| tiers.iter().position(|tier| tier.contains(room));
    let packages = packages();
    let known: BTreeSet<_> = tiers.iter().flatten().cloned().collect();
    let present: BTreeSet<_> = packages.keys().cloned().collect();
    assert_eq!(known, present, "left: the rooms in ARCHITECTURE.md; right: in the workspace");
    let mut wrong = Vec::new();
    for (room, uses) in &packages {
        for used in uses {
            if tier_of(used) >= tier_of(room) {
                wrong.push(format!("{room} uses {used}, which is not beneath it"));
            }
            if only.get(used).is_some_and(|users| !users.contains(room)) {
                wrong.push(format!("{room} uses {used}, which is not for it"));
            }
        }
    }
    none(wrong, "dependencies against ARCHITECTURE.md, \"Direction\"");
}

#[test]
fn the_rule_of_direction_notices_a_wrong_one() {
    let (tiers, only) = architecture();
    assert_eq!(tiers.first(), Some(&BTreeSet::from(["base".to_string()])));
    assert!(only.get("reactor").is_some_and(|users| !users.contains("engine")));
    assert!(packages().get("engine").is_some_and(|uses| uses.contains("store")));
}

#[test]
fn no_file_is_too_long() {
    let lengths = sources().into_iter().filter(|file| !file.is_test());
    let lengths = lengths.map(|file| (file.name.clone(), file.code_lines().len()));
    ratchet(lengths, &LONG_FILES, FILE_LINES_MAX, "split it by reason to change");
}

#[test]
fn no_function_is_too_long() {
    let lengths = sources().into_iter().flat_map(|file| {
        let name = file.name.clone();
        let functions = functions(&file.lines()).into_iter();
        functions.map(move |(function, lines)| (format!("{name}::{function}"), lines))
    });
    ratchet(lengths, &LONG_FUNCTIONS, FUNCTION_LINES_MAX, "give its parts names");
}

#[test]
fn the_length_of_a_function_is_counted_to_its_closing_brace() {
    let text = "fn one() {}\n\nimpl A {\n    pub(crate) const fn two(\n        a: u8,\n    ) -> u8 {\n        \
                match a {\n            _ => 1,\n        }\n    }\n    fn three(&self);\n}\n";
    let lines: Vec<&str> = text.lines().collect();
    let want = [("one", 1), ("two", 7), ("three", 1)].map(|(name, n)| (name.to_string(), n));
    assert_eq!(functions(&lines), want);
}

#[test]
fn unsafe_stands_where_it_may_and_says_why_it_is_safe() {
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for file in sources() {
        let lines = file.lines();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| has_unsafe(line)) {
            used.insert(file.name.clone());
            let place = format!("{}:{}", file.name, at + 1);
            if !UNSAFE_FILES.contains(&file.name.as_str()) {
                wrong.push(format!("{place}: unsafe belongs to the files listed in this test"));
            }
            if !is_justified(&lines, at) {
                wrong.push(format!("{place}: no SAFETY comment above it: {}", line.trim()));
            }
        }
    }
    let listed: BTreeSet<_> = UNSAFE_FILES.map(str::to_string).into();
    let stale = listed.difference(&used).map(|file| format!("{file}: nothing unsafe is in it"));
    wrong.extend(stale);
    none(wrong, "unsafe code");
}

#[test]
fn a_comment_above_unsafe_code_is_looked_for_and_missed() {
    let good = ["// SAFETY: it is", "// so.", "let a =", "    unsafe { b() };"];
    assert!(is_justified(&good, 3));
    let bad = ["// SAFETY: it is", "c();", "", "unsafe { b() };"];
    assert!(!is_justified(&bad, 3));
    assert!(has_unsafe("let a = unsafe { b };") && !has_unsafe("// unsafe { b }"));
    assert!(!has_unsafe("#![forbid(unsafe_code)]"));
}

#[test]
fn crates_without_unsafe_code_forbid_it() {
    let mut wrong = Vec::new();
    for root in crate_roots() {
        let text = read(&root);
        let folder = root.split("/src/").next().unwrap_or_default();
        let wanted = match UNSAFE_CRATES.contains(&folder) {
            true if folder == "shards/reactor" => continue,
            true => "#![deny(unsafe_code)]",
            false => "#![forbid(unsafe_code)]",
        };
        if !text.contains(wanted) {
            wrong.push(format!("{root}: {wanted} is missing"));
        }
    }
    none(wrong, "crate roots");
}

#[test]
fn every_crate_takes_the_lints_and_the_licence_of_the_workspace() {
    let mut wrong = Vec::new();
    for manifest in manifests() {
        let text = read(&manifest);
        for wanted in ["license.workspace = true", "publish.workspace = true"] {
            if !text.contains(wanted) {
                wrong.push(format!("{manifest}: {wanted} is missing"));
            }
        }
        if !text.contains("[lints]\nworkspace = true") {
            wrong.push(format!("{manifest}: [lints] workspace = true is missing"));
        }
    }
    none(wrong, "manifests");
}

#[test]
fn both_licences_are_here_and_named() {
    assert!(read("LICENSE-MIT").contains("Permission is hereby granted"));
    assert!(read("LICENSE-APACHE").contains("Apache License"));
    assert!(read("Cargo.toml").contains(r#"license = "MIT OR Apache-2.0""#));
    assert!(read("README.md").contains("MIT or Apache-2.0"));
}

#[test]
fn the_readme_gives_the_two_commands() {
    let readme = read("README.md");
    for command in ["cargo run --release -- demo", "cargo test"] {
        let found = readme.lines().any(|line| line.starts_with(command));
        assert!(found, "README.md: '{command}' should stand at the beginning of a line");
    }
}

#[test]
fn rooms_that_keep_or_send_bytes_draw_them() {
    for room in ["ces", "store", "wire"] {
        let text = read(&format!("shards/{room}/format.md"));
        assert!(text.lines().count() > 50, "shards/{room}/format.md is a stub");
    }
}

#[test]
fn banned_words_do_not_stay() {
    let mut wrong = Vec::new();
    for file in sources() {
        for (at, line) in file.lines().iter().enumerate() {
            for (head, tail, instead) in BANNED {
                let word = format!("{head}{tail}");
                if line.contains(&word) {
                    wrong.push(format!("{}:{}: '{word}': {instead}", file.name, at + 1));
                }
            }
        }
    }
    none(wrong, "banned words");
}

#[test]
fn one_place_writes_to_stdout_and_stderr() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in sources().iter().filter(|file| !file.is_test() && file.is_the_programs()) {
        seen += 1;
        for (at, line) in file.code_lines().iter().enumerate() {
            let code = code_of(line);
            for word in SAYING.iter().filter(|word| code.contains(*word)) {
                wrong.push(format!("{}:{}: '{word}': {SAY} says things", file.name, at + 1));
            }
        }
    }
    assert!(seen > 100, "hardly anything was looked at: {seen}");
    none(wrong, "writes to stdout or stderr");
}

#[test]
fn nothing_tells_on_whose_machine_it_was_written() {
    let mut wrong = Vec::new();
    for name in files(&["rs", "md", "toml", "run", "c", "h"]) {
        let text = read(&name);
        for (head, tail) in MACHINE_PATHS {
            let path = format!("{head}{tail}");
            if text.contains(&path) {
                wrong.push(format!("{name}: contains '{path}'"));
            }
        }
    }
    none(wrong, "machine paths");
}

#[test]
fn rooms_without_io_read_no_clock_and_no_files() {
    let mut wrong = Vec::new();
    for file in sources().iter().filter(|file| !file.is_test() && file.is_sans_io()) {
        for (at, line) in file.code_lines().iter().enumerate() {
            let code = code_of(line);
            for (word, instead) in IMPURE.iter().filter(|(word, _)| code.contains(word)) {
                wrong.push(format!("{}:{}: '{word}': {instead}", file.name, at + 1));
            }
        }
    }
    none(wrong, "rooms without I/O");
}

/// A file of Rust, by its name below the root.
struct Source {
    name: String,
    text: String,
}

impl Source {
    fn lines(&self) -> Vec<&str> {
        self.text.lines().collect()
    }

    /// Its lines without the module of tests at its end.
    fn code_lines(&self) -> Vec<&str> {
        let lines = self.lines();
        let opens = |pair: &[&str]| {
            pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
        };
        let end = lines.windows(2).position(opens).unwrap_or(lines.len());
        lines[..end].to_vec()
    }

    fn is_test(&self) -> bool {
        let parts: Vec<&str> = self.name.split('/').collect();
        // What stands in for the world in tests counts as test.
        parts.iter().any(|part| {
            matches!(*part, "tests" | "testing" | "tests.rs" | "sim.rs" | "model.rs")
                || matches!(*part, "schedules.rs" | "standin.rs" | "actors.rs")
        })
    }

    /// Whether it is in the program `pangea`, but for the place that may say things.
    fn is_the_programs(&self) -> bool {
        let parts: Vec<&str> = self.name.split('/').collect();
        let inside = parts[0] == "src" || parts[0] == "shards" && parts.get(2) == Some(&"src");
        // Loops of a room's own, for its tests and measurements.
        inside && self.name != SAY && !self.name.ends_with("/loops.rs")
    }

    fn is_sans_io(&self) -> bool {
        SANS_IO.iter().any(|room| self.name.starts_with(&format!("shards/{room}/src/")))
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn sources() -> Vec<Source> {
    let found: Vec<Source> = files(&["rs"])
        .into_iter()
        .filter(|name| name != "tests/house.rs")
        .map(|name| Source { text: read(&name), name })
        .collect();
    assert!(found.len() > 100, "the sources were not found: only {}", found.len());
    found
}

/// Names of the project's own files with one of these endings (or names), sorted.
fn files(endings: &[&str]) -> Vec<String> {
    fn walk(folder: &Path, endings: &[&str], found: &mut Vec<String>) {
        let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        for entry in entries {
            let path = entry.expect("a folder's entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let ending = name.rsplit('.').next().unwrap_or_default();
            if path.is_dir() && !matches!(name.as_str(), "target" | ".git") {
                walk(&path, endings, found);
            } else if path.is_file() && endings.contains(&ending) {
                let below = path.strip_prefix(root()).expect("it is below the root");
                found.push(below.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), endings, &mut found);
    found.sort();
    found
}

/// Manifests of the workspace's own crates.
fn manifests() -> Vec<String> {
    let all = files(&["toml"]).into_iter();
    let own = |name: &String| {
        name.ends_with("Cargo.toml")
            && !["bench/peers", "tests/", "tools/"].iter().any(|apart| name.starts_with(apart))
    };
    all.filter(own).collect()
}

/// `lib.rs` and `main.rs` of the workspace's own crates.
fn crate_roots() -> Vec<String> {
    let found: Vec<String> = manifests()
        .iter()
        .map(|manifest| manifest.trim_end_matches("Cargo.toml").to_string())
        .flat_map(|folder| ["lib", "main"].map(|root| format!("{folder}src/{root}.rs")))
        .filter(|file| root().join(file).is_file())
        .collect();
    assert!(found.len() > 10, "the crates were not found: {found:?}");
    found
}

/// The tiers, lowest first, and for some rooms the only ones that may use them: from the block
/// marked `direction` in ARCHITECTURE.md.
fn architecture() -> (Vec<BTreeSet<String>>, BTreeMap<String, BTreeSet<String>>) {
    let text = read("ARCHITECTURE.md");
    let block = text.split("```direction\n").nth(1).and_then(|rest| rest.split("```").next());
    let block = block.expect("ARCHITECTURE.md has a block ```direction");
    let names = |text: &str| -> BTreeSet<String> {
        let names = text.trim().trim_matches(['{', '}']).split(',');
        names.map(|name| name.trim().to_string()).collect()
    };
    let mut tiers = Vec::new();
    let mut only = BTreeMap::new();
    for line in block.lines().filter(|line| !line.trim().is_empty()) {
        match line.split_once(" only by ") {
            Some((room, users)) => {
                only.insert(room.trim().to_string(), names(users));
            }
            None => tiers.extend(line.split("<-").map(names)),
        }
    }
    (tiers, only)
}

/// The workspace's packages and which of each other they use, also in tests: `pangea` is `src`,
/// `pangea-x` is `x`.
fn packages() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&cargo.stdout).expect("JSON");
    let room = |name: &str| match name.strip_prefix("pangea-") {
        Some(room) => room.to_string(),
        None => "src".to_string(),
    };
    let text = |value: &serde_json::Value| value.as_str().expect("a string").to_string();
    let list = |value: &serde_json::Value| value.as_array().expect("a list").clone();
    let uses = |package: &serde_json::Value| -> BTreeSet<String> {
        let own = list(&package["dependencies"]).into_iter().filter(|d| d["path"].is_string());
        let used = own.map(|dependency| room(&text(&dependency["name"])));
        // A crate may name itself in tests, to turn a feature on.
        used.filter(|used| *used != room(&text(&package["name"]))).collect()
    };
    let packages = list(&metadata["packages"]);
    packages.iter().map(|package| (room(&text(&package["name"])), uses(package))).collect()
}

/// Functions and their lengths, by the indentation that rustfmt gives them.
fn functions(lines: &[&str]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indentation = &line[..line.len() - line.trim_start().len()];
        let single = line.ends_with('}') || line.ends_with(';');
        let closes = |later: &str| {
            let rest = later.strip_prefix(indentation).unwrap_or_default();
            rest == "}" || (rest.starts_with(')') && rest.ends_with(';'))
        };
        let length = match single {
            true => 1,
            false => 2 + lines[at + 1..].iter().position(|later| closes(later)).unwrap_or(0),
        };
        found.push((name.to_string(), length));
    }
    found
}

/// The name of the function whose definition begins on this line.
fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.trim_start().split_once("fn ")?;
    let word = |word: &str| {
        matches!(word, "const" | "async" | "unsafe" | "extern" | "\"C\"") || word.starts_with("pub")
    };
    let begins = before.split_whitespace().all(word) || before.starts_with("pub(");
    let end = after.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    (begins && end > 0).then(|| &after[..end])
}

/// A line without its comment and without what stands in quotes.
fn code_of(line: &str) -> String {
    let line = line.replace("\\\"", "");
    let outside = line.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
    outside.split("//").next().unwrap_or_default().to_string()
}

fn has_unsafe(line: &str) -> bool {
    let code = code_of(line);
    let words: Vec<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    words.contains(&"unsafe")
}

/// Whether SAFETY (or, for a function, a section `# Safety`) stands directly above the statement
/// that line `at` belongs to, or beside it.
fn is_justified(lines: &[&str], at: usize) -> bool {
    let says = |line: &str| line.contains("SAFETY") || line.contains("# Safety");
    if says(lines[at]) {
        return true;
    }
    for line in lines[..at].iter().rev() {
        let text = line.trim();
        match text {
            _ if says(text) => return true,
            _ if text.starts_with("//") || text.starts_with("#[") => {}
            // The end of another statement, or nothing: the comment would be below it.
            "" => return false,
            _ if text.ends_with(';') || text.ends_with('}') || text.ends_with(',') => return false,
            _ => {}
        }
    }
    false
}

/// Nothing is longer than `max` but what is listed, and that has just the length that is listed.
fn ratchet(
    lengths: impl Iterator<Item = (String, usize)>,
    listed: &[(&str, usize)],
    max: usize,
    advice: &str,
) {
    let mut wrong = Vec::new();
    let mut listed: BTreeMap<&str, usize> = listed.iter().copied().collect();
    let mut seen = 0;
    for (name, lines) in lengths {
        seen += 1;
        match listed.remove(name.as_str()) {
            Some(length) if lines > length => {
                wrong.push(format!("{name}: {lines} lines, was {length}: {advice}"));
            }
            Some(length) if lines < length => {
                wrong.push(format!("{name}: {lines} lines, listed with {length}: lower the list"));
            }
            Some(_) => {}
            None if lines > max => {
                wrong.push(format!("{name}: {lines} lines, at most {max}: {advice}"));
            }
            None => {}
        }
    }
    wrong.extend(listed.keys().map(|name| format!("{name}: listed, but it is gone")));
    assert!(seen > 100, "hardly anything was measured: {seen}");
    none(wrong, "lengths");
}

fn none(wrong: Vec<String>, what: &str) {
    assert!(wrong.is_empty(), "{what}:\n  {}", wrong.join("\n  "));
}
