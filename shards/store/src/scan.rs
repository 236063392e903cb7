//! Deciding what a journal says: a first reading tells what is whole, a second one what holds.

#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use pangea_base::Hash;

use crate::format::{BlockKind, Chain, Entry, Place, Seen, see};

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
        }
    }

    /// Whether this journal can be taken for the truth.
    pub(crate) fn usable(&self) -> bool {
        self.snapshot_whole || self.has_commit
    }

    /// Takes the next block; the last one of a file may be short.
    pub(crate) fn block(&mut self, bytes: &[u8]) {
        let sequence = self.next;
        self.next = self.next.saturating_add(1);
        match see(bytes, self.place, sequence) {
            Seen::Valid(block) => {
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
