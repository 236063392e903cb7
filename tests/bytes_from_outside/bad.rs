//! Every named bad input is refused with what `data/bad/expected.txt` says, and is what its maker
//! makes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::made::{self, Made, expanded};
use super::surfaces::SURFACES;
use super::writing;

/// Fewer would be a step back.
const INPUTS_MIN: usize = 400;

/// Inputs by path, with the names of what they are refused with.
pub type Expected = BTreeMap<String, Vec<String>>;

#[test]
fn every_bad_input_is_what_its_maker_makes() {
    let all = made::all();
    let paths: BTreeSet<&str> = all.iter().map(|made| made.path.as_str()).collect();
    assert_eq!(paths.len(), all.len(), "two inputs have one name");
    for Made { path, content } in &all {
        let file = root().join(path);
        if writing() {
            fs::create_dir_all(file.parent().expect("it has a folder")).expect("it can be made");
            fs::write(&file, content).expect("it can be written");
        }
        let found = fs::read(&file).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert!(found == *content, "{path}: its maker makes something else now");
        assert!(found.len() <= 64 << 10, "{path}: {} bytes; write a recipe", found.len());
    }
}

#[test]
fn every_bad_input_is_refused_for_what_is_wrong_with_it() {
    let mut wrong = Vec::new();
    let mut found = Expected::new();
    for path in files() {
        let (surface, _) = path.split_once('/').expect("a surface and a name");
        let reader = SURFACES.iter().find(|(name, _)| *name == surface);
        // What is recorded is read only by a program that records.
        let Some((_, read)) = reader.or_else(|| none_unless_traced(surface)) else { continue };
        let content = fs::read(root().join(&path)).expect("it can be read");
        println!("{path}");
        let refusals = read(&expanded(&path, &content));
        if refusals.is_empty() {
            wrong.push(format!("{path}: it is accepted"));
        }
        found.insert(path, refusals);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    if writing() {
        let mut all = expected();
        all.retain(|path, _| root().join(path).is_file());
        all.extend(found.clone());
        let lines = all.iter().map(|(path, names)| format!("{path}  {}\n", names.join(" ")));
        fs::write(root().join("expected.txt"), lines.collect::<String>()).expect("it is written");
    }
    let expected = expected();
    assert!(expected.len() >= INPUTS_MIN, "only {} inputs", expected.len());
    for (path, names) in &found {
        let said = expected.get(path);
        assert_eq!(said, Some(names), "{path}: left: expected.txt; right: what came of it");
    }
    let files: BTreeSet<String> = files().into_iter().collect();
    let listed: BTreeSet<String> = expected.into_keys().collect();
    assert_eq!(listed, files, "left: in expected.txt; right: in the folders");
}

fn none_unless_traced(surface: &str) -> Option<&'static super::surfaces::Surface> {
    let traced = cfg!(feature = "trace") || surface != "trace";
    assert!(!traced, "there is no surface '{surface}'");
    None
}

pub fn expected() -> Expected {
    let text = fs::read_to_string(root().join("expected.txt")).unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        (words.next().expect("a path"), words.collect())
    };
    text.lines().map(line).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/bad")
}

/// Paths below the root, such as `link/cut-in-half`.
fn files() -> Vec<String> {
    let mut files = Vec::new();
    for folder in fs::read_dir(root()).expect("the folder of bad inputs") {
        let folder = folder.expect("an entry").path();
        for file in fs::read_dir(&folder).into_iter().flatten() {
            let file = file.expect("an entry").path();
            let below = file.strip_prefix(root()).expect("it is below the root");
            files.push(below.to_string_lossy().replace('\\', "/"));
        }
    }
    files.sort();
    files
}
