//! Deciding what a journal says: a first reading tells what is whole, a second one what holds.

#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use pangea_base::Hash;

use crate::format::{Block, BlockKind, Chain, Entry, Place, Seen, Written, may_be_journal, see};
use crate::limits::{BLOCK_BYTES, JOURNAL_KEPT_BYTES};
use crate::types::Cut;

/// What the first reading of a journal found.
#[derive(Clone, Debug)]
pub(crate) struct Survey {
    pub place: Place,
    /// Blocks read so far, and whether the chain is unbroken up to here.
    next: u64,
    link: Hash,
    whole: bool,
    /// The last valid block.
    pub last_valid: Option<u64>,
    /// The snapshot is whole and its last block was met.
    pub snapshot_whole: bool,
    /// A commit was met, so the journal was in use.
    pub has_commit: bool,
    /// All blocks below this one were durable once.
    pub synced_below: u64,
    /// Blocks that are neither valid nor empty.
    bad: u64,
    /// Those of them behind the last valid block.
    bad_behind: u64,
    pub other_version: Option<u32>,
    /// The last valid block is of the version before.
    pub old: bool,
    /// Bytes that the file has to have, as its blocks say.
    reserved: u64,
    /// Blocks up to the last one of the version before that holds more than deletions.
    old_blocks: u64,
    /// It does not begin like a journal.
    foreign: bool,
}

impl Survey {
    pub(crate) fn new(place: Place) -> Survey {
        Survey {
            place,
            next: 0,
            link: Hash([0; 32]),
            whole: true,
            last_valid: None,
            snapshot_whole: false,
            has_commit: false,
            synced_below: 0,
            bad: 0,
            bad_behind: 0,
            other_version: None,
            old: false,
            reserved: 0,
            old_blocks: 0,
            foreign: false,
        }
    }

    /// Whether the file has nothing to do with us.
    pub(crate) fn strange(&self) -> bool {
        self.foreign && self.last_valid.is_none()
    }

    /// What shows that the file, of `length` bytes, is shorter than it was. No crash makes it so: a
    /// reservation is synced before a block that names it is written, and only deletions come so
    /// near to the end of one.
    pub(crate) fn cut(&self, length: u64) -> Option<Cut> {
        let block = u64::from(BLOCK_BYTES);
        if self.reserved > length {
            return Some(Cut::Reserved { length, reserved: self.reserved });
        }
        let kept = self.old_blocks.saturating_mul(block).saturating_add(JOURNAL_KEPT_BYTES);
        let short = self.old && (!length.is_multiple_of(block) || kept > length);
        short.then_some(Cut::Short { length })
    }

    /// Whether this journal can be taken for the truth.
    pub(crate) fn usable(&self) -> bool {
        self.snapshot_whole || self.has_commit
    }

    /// Takes the next block; the last one of a file may be short.
    pub(crate) fn block(&mut self, bytes: &[u8]) {
        let sequence = self.next;
        self.next = self.next.saturating_add(1);
        if sequence == 0 {
            self.foreign = !may_be_journal(bytes);
        }
        match see(bytes, self.place, sequence) {
            Seen::Valid(block) => {
                self.note_length(&block);
                self.whole = self.whole && block.link == self.link;
                self.link = block.checksum;
                self.last_valid = Some(sequence);
                self.bad_behind = 0;
                match block.kind {
                    BlockKind::SnapshotEnd => self.snapshot_whole |= self.whole,
                    BlockKind::Commit => self.has_commit = true,
                    BlockKind::Snapshot => {}
                }
                self.synced_below = self.synced_below.max(block.commit_first);
            }
            seen => {
                self.whole = false;
                if let Seen::OtherVersion(version) = seen {
                    self.other_version = Some(version);
                }
                if seen != Seen::Zero {
                    self.bad = self.bad.saturating_add(1);
                    self.bad_behind = self.bad_behind.saturating_add(1);
                }
            }
        }
    }

    fn note_length(&mut self, block: &Block) {
        self.reserved = self.reserved.max(block.reserved);
        self.old = block.old;
        let puts = block.entries.iter().any(|entry| matches!(entry, Entry::Put(_)));
        if block.old && (puts || block.kind != BlockKind::Commit) {
            self.old_blocks = self.next;
        }
    }

    /// How far it was written.
    pub(crate) fn written(&self) -> Written {
        Written { generation: self.place.generation, blocks: self.blocks() }
    }

    /// Blocks that the second reading has to see.
    pub(crate) fn blocks(&self) -> u64 {
        self.last_valid.map_or(0, |last| last.saturating_add(1))
    }

    /// Nothing usable is in the file, but something is.
    pub(crate) fn garbage(&self) -> u64 {
        self.bad
    }
}

/// The second reading: which entries hold.
pub(crate) struct Replay {
    place: Place,
    synced_below: u64,
    next: u64,
    // The checksum of the block before; unknown behind a damaged one.
    link: Option<Hash>,
    entries: u64,
    // Where the journal goes on: behind the last block that holds.
    pub chain: Chain,
    pub damaged_blocks: u64,
    pub lost_entries: u64,
    /// Blocks from the end on that are not empty.
    pub cut_blocks: u64,
    ended: bool,
}

impl Replay {
    /// Reads what `survey` found. With `Salvage` everything valid holds: the journal lost its
    /// beginning, and there is no other.
    pub(crate) fn new(survey: &Survey, mode: Mode) -> Replay {
        let synced_below = match mode {
            Mode::Strict => survey.synced_below,
            Mode::Salvage => survey.blocks(),
        };
        Replay {
            place: survey.place,
            synced_below,
            next: 0,
            link: Some(Hash([0; 32])),
            entries: 0,
            chain: Chain::start(survey.place),
            damaged_blocks: 0,
            lost_entries: 0,
            cut_blocks: survey.bad_behind,
            ended: false,
        }
    }

    /// Takes the next block and gives the entries in it that hold.
    pub(crate) fn block(&mut self, bytes: &[u8]) -> Vec<Entry> {
        let sequence = self.next;
        self.next = self.next.saturating_add(1);
        let seen = see(bytes, self.place, sequence);
        if self.ended {
            self.cut_blocks = self.cut_blocks.saturating_add(u64::from(seen != Seen::Zero));
            return Vec::new();
        }
        let durable = sequence < self.synced_below;
        match seen {
            Seen::Valid(block)
                if self.link.map_or(durable || block.commit_first == sequence, |link| {
                    link == block.link
                }) =>
            {
                let lost = block.entries_before.saturating_sub(self.entries);
                self.lost_entries = self.lost_entries.saturating_add(lost);
                let count = u64::try_from(block.entries.len()).unwrap_or(u64::MAX);
                self.entries = block.entries_before.saturating_add(count);
                self.link = Some(block.checksum);
                self.chain.next_block = self.next;
                self.chain.entries = self.entries;
                self.chain.link = block.checksum;
                block.entries
            }
            _ if durable => {
                self.damaged_blocks = self.damaged_blocks.saturating_add(1);
                self.link = None;
                Vec::new()
            }
            seen => {
                self.ended = true;
                self.cut_blocks = self.cut_blocks.saturating_add(u64::from(seen != Seen::Zero));
                Vec::new()
            }
        }
    }

    /// The journal ends cleanly: more may be written behind it.
    pub(crate) fn clean(&self) -> bool {
        self.damaged_blocks == 0 && self.cut_blocks == 0 && !self.ended
    }
}

/// How much of a journal holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// What is certain to have been durable, and an unbroken chain behind it.
    Strict,
    /// All that is valid.
    Salvage,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use pangea_base::{ChunkNumber, Locator, PagePool, PeerId, ShardIndex, ShardKey};

    use super::*;
    use crate::format::{Packer, delete_bytes};
    use crate::types::Key;

    const PLACE: Place = Place { partition: 0, generation: 1 };

    /// Blocks of one commit, or of the snapshot, with `entries` deletions whose chunks count up.
    fn written(chain: Chain, kind: BlockKind, entries: u32) -> (Vec<u8>, Chain) {
        let pool = PagePool::new(65536, 1);
        let mut packer = Packer::new(pool.take().unwrap(), chain, kind, 1 << 19);
        for number in 0..entries {
            let chunk = ChunkNumber(chain.entries as u32 * 1000 + number);
            let key = ShardKey { locator: Locator([1; 32]), chunk, index: ShardIndex(0) };
            let mut bytes = [0; 128];
            let key = Key::shard(PeerId([2; 32]), key);
            let length = delete_bytes(&key, &mut bytes);
            assert!(packer.push(&bytes[..length]));
        }
        let last = match kind {
            BlockKind::Commit => BlockKind::Commit,
            _ => BlockKind::SnapshotEnd,
        };
        let packed = packer.finish(last);
        (packed.page.to_vec(), packed.chain)
    }

    /// A snapshot and `commits` commits of these many entries.
    fn journal(commits: &[u32]) -> (Vec<u8>, Chain) {
        let (mut file, mut chain) = written(Chain::start(PLACE), BlockKind::Snapshot, 0);
        for entries in commits {
            let (bytes, next) = written(chain, BlockKind::Commit, *entries);
            file.extend(bytes);
            chain = next;
        }
        (file, chain)
    }

    fn replay(file: &[u8]) -> (usize, Replay) {
        let mut survey = Survey::new(PLACE);
        file.chunks(4096).for_each(|block| survey.block(block));
        assert!(survey.usable());
        let mut replay = Replay::new(&survey, Mode::Strict);
        let blocks = file.chunks(4096).take(survey.blocks() as usize);
        let entries = blocks.map(|block| replay.block(block).len()).sum();
        (entries, replay)
    }

    #[test]
    fn a_block_of_a_commit_that_was_written_anew_does_not_hold() {
        // Three blocks that were refused for want of space but are on the disk…
        let (file, chain) = journal(&[5]);
        let (refused, _) = written(chain, BlockKind::Commit, 150);
        assert_eq!(refused.len(), 3 * 4096);
        // …and the shorter commit that took their place.
        let (again, _) = written(chain, BlockKind::Commit, 7);
        assert_eq!(again.len(), 4096);
        let whole = [&file[..], &again, &refused[4096..]].concat();
        let (entries, replay) = replay(&whole);
        assert_eq!((entries, replay.cut_blocks, replay.damaged_blocks), (12, 2, 0));
        assert!(!replay.clean());
    }

    #[test]
    fn a_torn_commit_does_not_hold_behind_its_first_missing_block() {
        let (file, chain) = journal(&[5, 3]);
        let (torn, _) = written(chain, BlockKind::Commit, 150);
        let mut whole = [&file[..], &torn].concat();
        let middle = file.len() + 4096;
        whole[middle..middle + 4096].fill(0);
        let (entries, replay) = replay(&whole);
        // The first block of it holds: its shards' data were durable before it was written.
        assert_eq!(entries as u64, 8 + replay.chain.entries - 8);
        assert!(entries > 8 && entries < 158);
        assert_eq!((replay.cut_blocks, replay.damaged_blocks), (1, 0));
    }

    #[test]
    fn damage_in_a_commit_of_several_blocks_costs_one_block_of_it() {
        let (mut file, _) = journal(&[150, 4, 2]);
        file[2 * 4096 + 500] ^= 1;
        let (entries, replay) = replay(&file);
        assert_eq!(replay.damaged_blocks, 1);
        assert_eq!(entries as u64 + replay.lost_entries, 156);
        assert!(replay.lost_entries > 50 && replay.cut_blocks == 0);
    }
}
