//! Files and directories of the whole-process tests.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Fills a file with what `shape` makes of random bytes.
pub fn write_file(path: &Path, bytes: u64, seed: &str, shape: impl Fn(&[u8]) -> Vec<u8>) {
    let mut file = File::create(path).expect("a file");
    let mut random = blake3::Hasher::new().update(seed.as_bytes()).finalize_xof();
    let mut block = vec![0; 256 << 10];
    let mut left = bytes;
    while left > 0 {
        random.fill(&mut block);
        let shaped = shape(&block);
        let taken = shaped.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        file.write_all(&shaped[..taken]).expect("room on the disk");
        left -= taken as u64;
    }
}

/// The same bytes for the same seed.
pub fn random_bytes(seed: &str, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut out);
    out
}

/// The BLAKE3 of a file, in hex.
pub fn hash_of(path: &Path) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block).expect("a file can be read") {
            0 => return hasher.finalize().to_hex().to_string(),
            read => hasher.update(&block[..read]),
        };
    }
}

#[track_caller]
pub fn assert_same(original: &Path, copy: &Path) {
    let [original_bytes, copy_bytes] =
        [original, copy].map(|path| fs::metadata(path).map(|meta| meta.len()).unwrap_or(u64::MAX));
    assert_eq!(original_bytes, copy_bytes, "{}: another length", copy.display());
    assert!(hash_of(original) == hash_of(copy), "{} has other bytes", copy.display());
}

/// Asserts that a get left nothing at all: no output, and no hidden beginning of one.
#[track_caller]
pub fn assert_nothing_left(directory: &Path) {
    let left: Vec<_> = fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

/// Copies a data directory of a node that does not run. Holes stay holes, sockets stay behind.
pub fn copy_directory(from: &Path, to: &Path) {
    let copied = Command::new("cp").args(["-a", "--sparse=always"]).arg(from).arg(to).output();
    let copied = copied.expect("cp starts");
    assert!(copied.status.success(), "cp: {}", String::from_utf8_lossy(&copied.stderr));
}

/// All regular files below a directory, sorted.
pub fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files.extend(files_below(&entry.path()));
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    files
}

/// A small file system of its own, unmounted when dropped. None, with a word, where that may not
/// be done.
pub struct SmallDisk(pub PathBuf);

impl SmallDisk {
    pub fn mount(at: &Path, size: &str, test: &str) -> Option<SmallDisk> {
        fs::create_dir_all(at).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(at)
            .output();
        match mount {
            Ok(output) if output.status.success() => Some(SmallDisk(at.to_path_buf())),
            other => {
                eprintln!("SKIPPED {test}: no file system can be mounted here: {other:?}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}
