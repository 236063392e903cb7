//! BLAKE3 of an object whose chunks are hashed apart, on different cores and in any order.

use blake3::hazmat::HasherExt;
use pangea_base::{Hash, merge_groups};

/// The content is hashed in subtrees of this size; chunks begin at its multiples.
pub const LEAF_BYTES: u64 = 1 << 20;

/// Hashes one chunk's plaintext into its leaves.
pub(crate) struct ChunkHasher {
    leaf: blake3::Hasher,
    leaf_bytes: u64,
    offset: u64,
    leaves: ContentLeaves,
}

/// The leaf hashes of a chunk, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentLeaves {
    /// Chaining values of the leaves.
    pub leaves: Vec<Hash>,
    /// BLAKE3 of the first leaf, should it be all there is.
    pub sole: Hash,
}

impl ChunkHasher {
    /// For a chunk that begins at `offset` of its object (a multiple of [`LEAF_BYTES`]).
    pub(crate) fn new(offset: u64) -> ChunkHasher {
        assert!(offset.is_multiple_of(LEAF_BYTES), "chunks begin at whole leaves");
        let leaves = ContentLeaves { leaves: Vec::new(), sole: Hash::of(&[]) };
        let mut leaf = blake3::Hasher::new();
        leaf.set_input_offset(offset);
        ChunkHasher { leaf, leaf_bytes: 0, offset, leaves }
    }

    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.leaf_bytes == LEAF_BYTES {
                self.close_leaf();
                self.leaf = blake3::Hasher::new();
                self.leaf.set_input_offset(self.offset);
            }
            let room = usize::try_from(LEAF_BYTES - self.leaf_bytes).expect("a leaf is 1 MiB");
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.leaf.update(now);
            self.leaf_bytes += now.len() as u64;
            bytes = later;
        }
    }

    pub(crate) fn finish(mut self) -> ContentLeaves {
        if self.leaf_bytes > 0 {
            self.close_leaf();
        }
        self.leaves
    }

    fn close_leaf(&mut self) {
        // Only the very first leaf can be the whole object.
        if self.offset == 0 && self.leaves.leaves.is_empty() {
            self.leaves.sole = Hash(*self.leaf.finalize().as_bytes());
        }
        self.leaves.leaves.push(Hash(self.leaf.finalize_non_root()));
        self.offset += self.leaf_bytes;
        self.leaf_bytes = 0;
    }
}

/// Collects the leaves of all chunks, in whatever order they come, and gives the object's hash.
#[derive(Debug, Default)]
pub struct ContentHash {
    chunks: std::collections::BTreeMap<u32, ContentLeaves>,
}

impl ContentHash {
    /// The leaves of chunk `chunk`.
    pub fn add(&mut self, chunk: u32, leaves: ContentLeaves) {
        self.chunks.insert(chunk, leaves);
    }

    /// BLAKE3 of the whole object, once every chunk was added.
    pub fn finish(self) -> Hash {
        let sole = self.chunks.get(&0).map_or_else(|| Hash::of(&[]), |first| first.sole);
        let leaves: Vec<Hash> = self.chunks.into_values().flat_map(|c| c.leaves).collect();
        merge_groups(&leaves, sole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_hashed_apart_give_the_hash_of_the_whole() {
        let leaf = LEAF_BYTES as usize;
        let bytes: Vec<u8> = (0..5 * leaf + 12345).map(|i| (i * 7 % 253) as u8).collect();
        for length in [0, 1, leaf - 1, leaf, leaf + 1, 2 * leaf, 3 * leaf + 7, bytes.len()] {
            let whole = &bytes[..length];
            let mut content = ContentHash::default();
            let mut chunks: Vec<_> = (0u32..).zip(whole.chunks(2 * leaf)).collect();
            chunks.reverse();
            for (number, chunk) in chunks {
                let mut hasher = ChunkHasher::new(u64::from(number) * 2 * LEAF_BYTES);
                chunk.chunks(100_003).for_each(|part| hasher.update(part));
                content.add(number, hasher.finish());
            }
            assert_eq!(content.finish(), Hash::of(whole), "{length} bytes");
        }
    }
}
