//! What the fuzzer starts from, and what it found.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::targets::{TARGETS, Target};
use super::writing;

/// Files of one target, found ones included.
const FILES_MAX: usize = 60;
/// Their bytes.
const BYTES_MAX: usize = 300 << 10;

#[test]
fn every_input_of_the_fuzzer_is_taken_without_a_panic() {
    for target in TARGETS {
        let files = inputs(target);
        assert!(!files.is_empty(), "{} has no inputs", target.name);
        let (begun, count) = (Instant::now(), files.len());
        for file in files {
            let bytes = fs::read(&file).expect("it can be read");
            println!("{}", file.display());
            assert!(bytes.len() <= target.bytes_max, "{} is too long", file.display());
            (target.run)(&bytes);
        }
        println!("{}: {count} inputs in {:?}", target.name, begun.elapsed());
    }
}

#[test]
fn the_seeds_are_those_that_the_encoders_make() {
    for target in TARGETS {
        let folder = folder("corpus", target);
        let seeds = (target.seeds)();
        assert!(seeds.len() < 45, "{}: {} seeds", target.name, seeds.len());
        for (number, seed) in seeds.iter().enumerate() {
            let file = folder.join(format!("seed-{number:02}"));
            if writing() {
                fs::create_dir_all(&folder).expect("a folder can be made");
                fs::write(&file, seed).expect("it can be written");
            }
            let found = fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            assert!(found == *seed, "{}: another seed is made now", file.display());
        }
    }
}

#[test]
fn the_inputs_are_few_and_small_and_belong_to_a_target() {
    for target in TARGETS {
        let files = inputs(target);
        let bytes: usize = files.iter().map(|file| fs::read(file).unwrap_or_default().len()).sum();
        assert!(files.len() <= FILES_MAX, "{}: {} files", target.name, files.len());
        assert!(bytes <= BYTES_MAX, "{}: {bytes} bytes", target.name);
    }
    // A target of another build is no stranger.
    let mut known: BTreeSet<String> = TARGETS.iter().map(|target| target.name.into()).collect();
    known.insert("trace".into());
    for kind in ["corpus", "found"] {
        for folder in files(&root().join(kind)) {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            assert!(known.contains(&name), "{}: there is no such target", folder.display());
        }
    }
}

#[test]
fn every_target_has_its_program() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest");
    for Target { name, .. } in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in the manifest");
        let program = root().join(format!("fuzz_targets/{name}.rs"));
        let text = fs::read_to_string(&program).unwrap_or_default();
        assert!(text.contains(&format!("run(\"{name}\"")), "{}", program.display());
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/fuzz")
}

fn folder(kind: &str, target: &Target) -> PathBuf {
    root().join(kind).join(target.name)
}

fn inputs(target: &Target) -> Vec<PathBuf> {
    ["corpus", "found"].iter().flat_map(|kind| files(&folder(kind, target))).collect()
}

/// What is in a folder, in order; nothing if there is none.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.expect("a folder's entry").path()).collect();
    files.sort();
    files
}
