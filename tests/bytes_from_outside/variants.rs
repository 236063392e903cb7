//! Every refusal that bytes from outside can produce is produced by a bad input. The refusals are
//! read from the sources: a new one fails here until an input reaches it, or a reason says why none
//! can.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use pangea_store::Recovered;

use super::bad;
use super::targets::disk::counts;

/// Where refusals are declared.
const SOURCES: [&str; 11] = [
    "shards/base/src",
    "shards/ces/src",
    "shards/code/src",
    "shards/store/src",
    "shards/trace/src",
    "shards/transport/src",
    "shards/wire/src",
    "src/config.rs",
    "src/keyfile.rs",
    "src/units.rs",
    "src/cli/mod.rs",
];

/// What no bytes alone can produce, and why. `Enum::*` stands for a whole enum.
const NOT_BY_BYTES: &[(&str, &str)] = &[
    ("AppendRefused::*", "the engine cuts groups before it appends them, and waits for pages"),
    ("ClosedReason::HandshakeTimedOut", "silence, not bytes: transport's tests"),
    ("ClosedReason::IdentityRefused", "a TLS alert of a real handshake: transport's tests"),
    ("ClosedReason::IdleTimedOut", "silence, not bytes: transport's tests"),
    ("ClosedReason::Local", "we close"),
    ("ClosedReason::NoCommonProtocol", "needs another program at the other end: transport's tests"),
    ("ClosedReason::NoIdentity", "needs a certificate of another kind: transport's tests"),
    ("ClosedReason::PeerWantedAnother", "needs a dial to another identity: transport's tests"),
    ("ClosedReason::Refused", "needs a node that is full: transport's tests"),
    ("ClosedReason::Reset", "needs a node that restarted: transport's tests"),
    ("ClosedReason::WrongPeer", "needs a dial to another identity: transport's tests"),
    ("ConnectRefused::*", "about what we dial"),
    ("DeleteRefused::*", "about what we delete"),
    ("FileFault::*", "the system's answers: store's tests with a disk that fails"),
    ("GrantRefused::Version", "a message with such a grant does not parse: Wrong::Version"),
    ("KeyFileRefused::Missing", "about the file, not its bytes: tests of keyfile.rs"),
    ("KeyFileRefused::NoEntropy", "the system's answer"),
    ("KeyFileRefused::NotAFile", "about the file, not its bytes: tests of keyfile.rs"),
    ("KeyFileRefused::NotMade", "the system's answer"),
    ("KeyFileRefused::NotOurs", "about the file, not its bytes"),
    ("KeyFileRefused::Open", "about the file, not its bytes: tests of keyfile.rs"),
    ("KeyFileRefused::Symlink", "about the file, not its bytes: tests of keyfile.rs"),
    ("KeyFileRefused::Unreadable", "the system's answer"),
    ("OpenFailed::File", "the system's answer: store's tests with a disk that fails"),
    ("OpenFailed::TooMany", "needs more shards than a configuration allows: store's tests"),
    ("PlacementRefused::Full", "needs a million receipts: tests of placement.rs"),
    ("PlanRefused::*", "about what we put"),
    ("ReadFailed::*", "what a stream says to who reads it; Reset is seen as 'reset:2' here"),
    ("ReadRefused::*", "about what we read of our own disk"),
    ("ReceiptRefused::Version", "a message with such a receipt does not parse: Wrong::Version"),
    ("SealFailed::*", "about what we put"),
    ("SendRefused::*", "about a message that we send"),
    ("StoreFault::Closing", "a state of the store: its tests"),
    ("StoreFault::ExtentPoisoned", "needs a disk that fails: store's tests"),
    ("StoreFault::File", "needs a disk that fails: store's tests"),
    ("StoreFault::NoSpace", "needs a full disk: store's tests"),
    ("StoreFault::Poisoned", "needs a disk that fails: store's tests"),
    ("StoreRefused::*", "states of the store: its tests"),
    ("StreamInvalid::TooManyEvents", "needs a file of 1 GiB"),
    ("StreamInvalid::Unreadable", "the system's answer"),
    ("TlsFailed::*", "about our own identity"),
    ("WriteFailed::*", "what a stream says to who writes to it"),
    ("Wrong::TooMany", "about what we send: a list of a peer ends at its limit, as OutOfBounds"),
];

#[test]
fn every_refusal_is_reached_by_a_bad_input() {
    let reached: BTreeSet<String> = bad::expected().into_values().flatten().collect();
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for (of, variants) in refusals() {
        for variant in variants {
            let name = format!("{of}::{variant}");
            let whole = format!("{of}::*");
            let excused = NOT_BY_BYTES.iter().find(|(what, _)| *what == name || *what == whole);
            used.extend(excused.map(|(what, _)| *what));
            match (reached.contains(&name), excused) {
                (false, None) => wrong.push(format!("{name}: no bad input reaches it")),
                (true, Some((what, _))) => {
                    wrong.push(format!("{name}: an input reaches it; '{what}' is not true"));
                }
                _ => {}
            }
        }
    }
    let stale = NOT_BY_BYTES.iter().filter(|(what, _)| !used.contains(what));
    wrong.extend(stale.map(|(what, _)| format!("{what}: excused, and there is no such thing")));
    assert!(wrong.is_empty(), "refusals:\n  {}", wrong.join("\n  "));
}

#[test]
fn every_count_of_a_recovery_is_reached_by_a_bad_input() {
    let all = Recovered {
        cut_blocks: 1,
        damaged_blocks: 1,
        lost_entries: 1,
        lost_shards: 1,
        stale_shards: 1,
        duplicates: 1,
        unknown_files: 1,
        ..Recovered::default()
    };
    let all: BTreeSet<String> = counts(&all).into_iter().collect();
    let reached: BTreeSet<String> = bad::expected().into_values().flatten().collect();
    let missing: Vec<_> = all.difference(&reached).collect();
    assert!(all.len() == 7 && missing.is_empty(), "no bad input reaches {missing:?}");
}

#[test]
fn the_refusals_are_found_in_the_sources() {
    let found = refusals();
    assert!(found.len() > 20, "only {} enums of refusals", found.len());
    let has = |of: &str, variant: &str| found.get(of).is_some_and(|all| all.contains(variant));
    assert!(has("LinkInvalid", "Checksum") && has("Wrong", "Unsorted"));
    assert!(has("DecodeFailed", "Fill") && has("OpenFailed", "JournalLost"));
    assert!(has("StreamInvalid", "NotATrace") && has("PeerSent", "FrameTooLong"));
}

/// Enums that are errors, with their variants.
fn refusals() -> BTreeMap<String, BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeMap::new();
    for source in SOURCES {
        for text in texts(&root.join(source)) {
            for (name, variants) in enums(&text) {
                let before = found.insert(name.clone(), variants);
                assert!(before.is_none(), "two enums of refusals are called {name}");
            }
        }
    }
    found
}

fn texts(path: &Path) -> Vec<String> {
    if path.is_file() {
        return vec![fs::read_to_string(path).expect("it can be read")];
    }
    let entries = fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let rust = |path: &std::path::PathBuf| {
        path.is_dir() || path.extension().is_some_and(|ending| ending == "rs")
    };
    paths.iter().filter(|path| rust(path)).flat_map(|path| texts(path)).collect()
}

/// By the form that rustfmt gives them.
fn enums(text: &str) -> Vec<(String, BTreeSet<String>)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = line.strip_prefix("pub enum ").and_then(|rest| rest.strip_suffix(" {"))
        else {
            continue;
        };
        let above = lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
        let derived = above.into_iter().any(|line| line.contains("thiserror::Error"));
        if !derived && !text.contains(&format!("impl std::error::Error for {name} ")) {
            continue;
        }
        let body = lines[at + 1..].iter().take_while(|line| **line != "}");
        let variants = body.filter_map(|line| variant(line)).collect();
        found.push((name.to_owned(), variants));
    }
    found
}

/// The variant that begins on a line.
fn variant(line: &str) -> Option<String> {
    let rest = line.strip_prefix("    ")?;
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric())?;
    rest.starts_with(|c: char| c.is_ascii_uppercase()).then(|| rest[..end].to_owned())
}
