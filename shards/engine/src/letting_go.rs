//! What the store lets go by itself, told to people: one line for each object, and one for all.

use std::collections::BTreeMap;
use std::fmt;

use pangea_base::Locator;
use pangea_store::{Key, Why};

/// Objects that are summed up before they are told of.
const OBJECTS_MAX: usize = 1024;

/// Why something is let go, in words.
fn words(why: Why) -> &'static str {
    match why {
        Why::Over => "the lease has ended",
        Why::Orphan => "it belongs to no object that is here",
        Why::Room => "its space was asked for",
        Why::Asked => "it is not what its origin meant",
    }
}

/// How much of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    shards: u64,
    pages: u64,
    bytes: u64,
}

impl Sum {
    fn add(&mut self, other: Sum) {
        self.shards += other.shards;
        self.pages += other.pages;
        self.bytes += other.bytes;
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sum { shards, pages, bytes } = self;
        write!(f, "{shards} shards and {pages} pages, {bytes} bytes")
    }
}

/// What was let go since it was last told of.
#[derive(Debug, Default)]
pub(crate) struct LettingGo {
    objects: BTreeMap<(Locator, Why), Sum>,
}

impl LettingGo {
    /// This is gone. Gives the lines of what was gathered when there is no room for one more.
    pub(crate) fn gone(&mut self, key: &Key, bytes: u64, why: Why) -> Vec<String> {
        let (locator, shards) = (key.locator(), u64::from(matches!(key, Key::Shard(_))));
        let is_new = !self.objects.contains_key(&(locator, why));
        let lines = match is_new && self.objects.len() >= OBJECTS_MAX {
            true => self.lines(),
            false => Vec::new(),
        };
        let sum = Sum { shards, pages: 1 - shards, bytes };
        self.objects.entry((locator, why)).or_default().add(sum);
        lines
    }

    /// What was gathered, to be told; then there is nothing.
    pub(crate) fn lines(&mut self) -> Vec<String> {
        let objects = std::mem::take(&mut self.objects);
        let mut all = Sum::default();
        let mut lines = Vec::new();
        for ((locator, why), sum) in &objects {
            all.add(*sum);
            let (object, why) = (short(locator), words(*why));
            lines.push(format!("let go of object {object}: {sum}: {why}"));
        }
        if lines.len() > 1 {
            lines.push(format!("let go of {} objects in all: {all}", lines.len()));
        }
        lines
    }
}

/// Enough of a locator to tell objects apart by.
fn short(locator: &Locator) -> String {
    locator.0.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pangea_base::{ChunkNumber, Hash, PeerId, ShardIndex, ShardKey};
    use pangea_store::{BlobKey, BlobKind};

    fn shard(object: u8, index: u8) -> Key {
        let (locator, chunk) = (Locator([object; 32]), ChunkNumber(0));
        Key::shard(PeerId([9; 32]), ShardKey { locator, chunk, index: ShardIndex(index) })
    }

    #[test]
    fn what_is_let_go_is_told_by_object_and_in_all() {
        let mut letting_go = LettingGo::default();
        assert!(letting_go.lines().is_empty(), "nothing is not told");
        let page =
            BlobKey { locator: Locator([2; 32]), kind: BlobKind::ManifestRoot, id: Hash([0; 32]) };
        for (key, bytes, why) in [
            (shard(1, 0), 4096, Why::Over),
            (shard(1, 1), 8192, Why::Over),
            (Key::blob(PeerId([9; 32]), page), 4096, Why::Orphan),
        ] {
            assert!(letting_go.gone(&key, bytes, why).is_empty());
        }
        let lines = letting_go.lines();
        assert_eq!(
            lines,
            [
                "let go of object 0101010101010101: 2 shards and 0 pages, 12288 bytes: the lease \
                 has ended",
                "let go of object 0202020202020202: 0 shards and 1 pages, 4096 bytes: it belongs \
                 to no object that is here",
                "let go of 2 objects in all: 2 shards and 1 pages, 16384 bytes",
            ]
        );
        assert!(letting_go.lines().is_empty());
    }

    #[test]
    fn more_objects_than_are_remembered_are_told_of_earlier() {
        let mut letting_go = LettingGo::default();
        let mut told = 0;
        for object in 0..3 * OBJECTS_MAX {
            let mut locator = [0; 32];
            locator[..8].copy_from_slice(&(object as u64).to_le_bytes());
            let (locator, chunk) = (Locator(locator), ChunkNumber(0));
            let key = ShardKey { locator, chunk, index: ShardIndex(0) };
            let key = Key::shard(PeerId([9; 32]), key);
            told += letting_go.gone(&key, 1, Why::Room).len();
            assert!(letting_go.objects.len() <= OBJECTS_MAX);
        }
        assert_eq!(told + letting_go.lines().len(), 3 * OBJECTS_MAX + 3);
    }
}
