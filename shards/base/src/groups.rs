use blake3::hazmat::{self, HasherExt, Mode};

use crate::Hash;

/// The unit of verification: BLAKE3 subtrees of 16 chunks. A shard's root is the plain BLAKE3 hash
/// of its bytes; its group hashes are the chaining values 16 KiB apart.
pub const GROUP_BYTES: usize = 16 * 1024;

/// How many groups `length` bytes have; an empty string has one.
pub fn group_count(length: u64) -> u64 {
    length.div_ceil(GROUP_BYTES as u64).max(1)
}

/// Hashes a byte string group by group, as it comes.
///
/// Every group but the last must be pushed whole.
#[derive(Debug, Clone)]
pub struct GroupHasher {
    groups: Vec<Hash>,
    // The first group hashed as if it were the only one: its root, should no other follow.
    sole: Hash,
    length: u64,
}

impl Default for GroupHasher {
    fn default() -> GroupHasher {
        GroupHasher::new()
    }
}

impl GroupHasher {
    /// Nothing hashed so far.
    pub fn new() -> GroupHasher {
        GroupHasher { groups: Vec::new(), sole: Hash::of(&[]), length: 0 }
    }

    /// Adds the next group: exactly [`GROUP_BYTES`], or 1 to that for the last one.
    pub fn push(&mut self, group: &[u8]) {
        assert!(!group.is_empty() && group.len() <= GROUP_BYTES, "a group has 1 to 16384 bytes");
        assert!(self.length.is_multiple_of(GROUP_BYTES as u64), "only the last group is short");
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(self.length);
        hasher.update(group);
        if self.groups.is_empty() {
            self.sole = Hash(*hasher.finalize().as_bytes());
        }
        self.groups.push(Hash(hasher.finalize_non_root()));
        self.length += group.len() as u64;
    }

    /// Bytes hashed so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The table of all that was pushed; its root is the BLAKE3 hash of the whole.
    pub fn finish(mut self) -> GroupTable {
        let root = root_of(&self.groups, self.sole);
        if self.groups.len() <= 1 {
            self.groups = vec![root];
        }
        GroupTable { root, length: self.length, groups: self.groups }
    }
}

/// A list of group hashes does not belong to the root it came with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the group hashes do not add up to the root")]
pub struct GroupTableInvalid;

/// The group hashes of a byte string, known to belong to its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupTable {
    root: Hash,
    length: u64,
    groups: Vec<Hash>,
}

impl GroupTable {
    /// Checks that `groups` are the groups of a string of `length` bytes with this `root`.
    pub fn verified(
        root: Hash,
        length: u64,
        groups: Vec<Hash>,
    ) -> Result<GroupTable, GroupTableInvalid> {
        let sole = groups.first().copied().ok_or(GroupTableInvalid)?;
        if groups.len() as u64 != group_count(length) || root_of(&groups, sole) != root {
            return Err(GroupTableInvalid);
        }
        Ok(GroupTable { root, length, groups })
    }

    /// The BLAKE3 hash of the whole.
    pub fn root(&self) -> Hash {
        self.root
    }

    /// Bytes of the whole.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The group hashes in order; never empty.
    pub fn groups(&self) -> &[Hash] {
        &self.groups
    }

    /// How many bytes group `number` has; 0 beyond the end.
    pub fn group_bytes(&self, number: u64) -> usize {
        let start = number.saturating_mul(GROUP_BYTES as u64);
        usize::try_from(self.length.saturating_sub(start))
            .map_or(GROUP_BYTES, |b| b.min(GROUP_BYTES))
    }

    /// Whether `bytes` are group `number`, to the bit.
    #[must_use]
    pub fn holds(&self, number: u64, bytes: &[u8]) -> bool {
        let Some(expected) = usize::try_from(number).ok().and_then(|n| self.groups.get(n)) else {
            return false;
        };
        if bytes.len() != self.group_bytes(number) {
            return false;
        }
        if self.groups.len() == 1 {
            return Hash::of(bytes) == *expected;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(number * GROUP_BYTES as u64);
        hasher.update(bytes);
        hasher.finalize_non_root() == expected.0
    }
}

/// Folds the hashes of equal subtrees (the last may be shorter) into the BLAKE3 root; `sole` is the
/// root when there is at most one. Works for any subtree size that is a power of two of 1 KiB.
pub fn merge_groups(groups: &[Hash], sole: Hash) -> Hash {
    root_of(groups, sole)
}

fn root_of(groups: &[Hash], sole: Hash) -> Hash {
    if groups.len() <= 1 {
        return sole;
    }
    let (left, right) = groups.split_at(left_groups(groups.len()));
    Hash(*hazmat::merge_subtrees_root(&fold(left), &fold(right), Mode::Hash).as_bytes())
}

fn fold(groups: &[Hash]) -> [u8; 32] {
    match groups {
        [one] => one.0,
        more => {
            let (left, right) = more.split_at(left_groups(more.len()));
            hazmat::merge_subtrees_non_root(&fold(left), &fold(right), Mode::Hash)
        }
    }
}

/// BLAKE3's tree: the left side takes the largest power of two below the count.
fn left_groups(count: usize) -> usize {
    count.div_ceil(2).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashed(bytes: &[u8]) -> GroupTable {
        let mut hasher = GroupHasher::new();
        bytes.chunks(GROUP_BYTES).for_each(|group| hasher.push(group));
        hasher.finish()
    }

    #[test]
    fn the_root_is_the_plain_blake3_hash_at_every_size() {
        let bytes: Vec<u8> = (0..40 * GROUP_BYTES).map(|i| (i * 31 % 251) as u8).collect();
        let g = GROUP_BYTES;
        for length in
            [0, 1, 63, g - 1, g, g + 1, 2 * g, 2 * g + 5, 3 * g, 7 * g + 1, 17 * g, 40 * g]
        {
            let table = hashed(&bytes[..length]);
            assert_eq!(table.root(), Hash::of(&bytes[..length]), "{length} bytes");
            let again = GroupTable::verified(table.root(), length as u64, table.groups().to_vec());
            assert_eq!(again.as_ref(), Ok(&table), "{length} bytes");
            for (number, group) in (0..).zip(bytes[..length].chunks(g)) {
                assert!(table.holds(number, group), "{length} bytes, group {number}");
            }
        }
    }

    #[test]
    fn a_flipped_bit_a_swapped_group_or_a_short_table_is_noticed() {
        let bytes = vec![9u8; 5 * GROUP_BYTES + 100];
        let table = hashed(&bytes);
        let mut bent = bytes[..GROUP_BYTES].to_vec();
        bent[77] ^= 4;
        assert!(!table.holds(0, &bent));
        // Same bytes at another place are not the same group.
        assert!(!table.holds(5, &bytes[..100 - 1]));
        assert!(!table.holds(6, &bytes[..100]));
        let mut groups = table.groups().to_vec();
        groups.swap(1, 4);
        assert!(GroupTable::verified(table.root(), table.length(), groups).is_err());
        let short = table.groups()[..5].to_vec();
        assert!(GroupTable::verified(table.root(), table.length(), short).is_err());
        assert!(GroupTable::verified(table.root(), 10, Vec::new()).is_err());
        let wrong = table.length() + GROUP_BYTES as u64;
        assert!(GroupTable::verified(table.root(), wrong, table.groups().to_vec()).is_err());
    }
}
