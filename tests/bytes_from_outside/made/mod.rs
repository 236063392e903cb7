//! How the bad inputs are made.

mod disk;
mod sealed;
mod streams;
mod text;
mod wire;

use std::sync::OnceLock;

use pangea_base::{GROUP_BYTES, GroupHasher, GroupTable};
use pangea_wire::ShardExpected;

use super::targets::samples::pattern;

/// One of them.
pub struct Made {
    /// Folder and file, such as `link/cut-in-half`.
    pub path: String,
    /// What is in the file.
    pub content: Vec<u8>,
}

/// All of them.
pub fn all() -> Vec<Made> {
    let mut all = Vec::new();
    text::make(&mut all);
    wire::make(&mut all);
    streams::make(&mut all);
    sealed::make(&mut all);
    disk::make(&mut all);
    all
}

fn add(all: &mut Vec<Made>, surface: &str, name: &str, content: impl AsRef<[u8]>) {
    let path = format!("{surface}/{name}");
    all.push(Made { path, content: content.as_ref().to_vec() });
}

/// Inputs too long to be kept as they are: `text THE TEXT`, `hex BYTES`, `repeat COUNT BYTES`, and
/// `number COUNT BEFORE BEHIND` with the number of each, in two bytes, between the two.
fn add_recipe(all: &mut Vec<Made>, surface: &str, name: &str, recipe: &str) {
    add(all, surface, &format!("{name}.recipe"), recipe);
}

/// What a file stands for.
pub fn expanded(path: &str, content: &[u8]) -> Vec<u8> {
    if !path.ends_with(".recipe") {
        return content.to_vec();
    }
    let text = std::str::from_utf8(content).expect("a recipe is text");
    let bytes = |hex: &str| {
        data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap_or_else(|e| panic!("{path}: {e}"))
    };
    let part = |line: &str| match line.split_once(' ') {
        Some(("text", text)) => text.as_bytes().to_vec(),
        Some(("hex", hex)) => bytes(hex),
        Some(("repeat", rest)) => {
            let (count, hex) = rest.split_once(' ').expect("a count and bytes");
            bytes(hex).repeat(count.parse().expect("a count"))
        }
        Some(("number", rest)) => {
            let mut parts = rest.split(' ');
            let mut next = || parts.next().expect("a count and bytes");
            let (count, before, behind) = (next(), bytes(next()), bytes(next()));
            let one = |n: u16| [&before[..], &n.to_le_bytes(), &behind].concat();
            (0..count.parse().expect("a count")).flat_map(one).collect()
        }
        _ => panic!("{path}: '{line}' is not part of a recipe"),
    };
    text.lines().flat_map(part).collect()
}

/// The shard that fetches ask for: three groups and a bit.
fn shard() -> &'static (Vec<u8>, GroupTable) {
    static SHARD: OnceLock<(Vec<u8>, GroupTable)> = OnceLock::new();
    SHARD.get_or_init(|| {
        let bytes = pattern(3 * GROUP_BYTES + 100);
        let mut hasher = GroupHasher::new();
        bytes.chunks(GROUP_BYTES).for_each(|group| hasher.push(group));
        (bytes, hasher.finish())
    })
}

/// Asked for from group 3 on.
pub fn shard_expected() -> ShardExpected {
    let (_, table) = shard();
    ShardExpected { root: table.root(), length: table.length(), first_group: 3 }
}
