//! Which blocks of which extents are free. Pure bookkeeping; the files are `extents.rs`.

use std::collections::{BTreeMap, BTreeSet};

use crate::limits::PAGE_BLOCKS;

/// Neighbouring blocks of one extent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Run {
    pub extent: u32,
    pub start: u32,
    pub blocks: u32,
}

impl Run {
    /// Behind the last block.
    pub(crate) fn end(&self) -> u32 {
        self.start + self.blocks
    }

    /// Whether the two share a block.
    pub(crate) fn overlaps(&self, other: &Run) -> bool {
        self.extent == other.extent && self.start < other.end() && other.start < self.end()
    }
}

/// The free blocks of one partition.
#[derive(Default, Debug)]
pub(crate) struct Space {
    extents: BTreeMap<u32, Holes>,
    // Open extents by their longest hole, to find the tightest fit.
    by_longest: BTreeSet<(u32, u32)>,
    // Where the last run was taken: the next one follows it if it can.
    current: Option<u32>,
    used_blocks: u64,
}

#[derive(Debug)]
struct Holes {
    // Start to length; never two that touch.
    holes: BTreeMap<u32, u32>,
    longest: u32,
    free: u32,
    blocks: u32,
    closed: bool,
}

impl Space {
    /// Adds an extent of `blocks` blocks, all free but the first.
    pub(crate) fn add(&mut self, extent: u32, blocks: u32) {
        let free = blocks.saturating_sub(1);
        let holes = match free {
            0 => BTreeMap::new(),
            _ => BTreeMap::from([(1, free)]),
        };
        let old = Holes { holes, longest: free, free, blocks, closed: false };
        assert!(self.extents.insert(extent, old).is_none(), "an extent is added once");
        self.by_longest.insert((free, extent));
    }

    /// Forgets an extent in which nothing is held.
    pub(crate) fn remove(&mut self, extent: u32) {
        assert!(self.is_free(extent), "only empty extents are removed");
        let holes = self.extents.remove(&extent).expect("it was just looked at");
        self.by_longest.remove(&(holes.longest, extent));
        self.current = self.current.filter(|current| *current != extent);
    }

    /// Behind the last block of an extent that is handed out.
    pub(crate) fn end_of(&self, extent: u32) -> u32 {
        let holes = self.extents.get(&extent).expect("only extents that are there are asked for");
        match holes.holes.last_key_value() {
            Some((start, length)) if start + length == holes.blocks => *start,
            _ => holes.blocks,
        }
    }

    /// Makes an extent end earlier, at or behind the last block that is handed out.
    pub(crate) fn shrink(&mut self, extent: u32, blocks: u32) {
        assert!(blocks >= self.end_of(extent), "what is handed out stays");
        let holes = self.extents.get_mut(&extent).expect("it was just looked at");
        let gone = holes.blocks.saturating_sub(blocks);
        if gone == 0 {
            return;
        }
        let (start, _) = holes.holes.pop_last().expect("there is a hole behind what stays");
        if start < blocks {
            holes.holes.insert(start, blocks - start);
        }
        holes.free -= gone;
        holes.blocks = blocks;
        self.measure(extent);
    }

    /// No more of this extent is handed out.
    pub(crate) fn close(&mut self, extent: u32) {
        if let Some(holes) = self.extents.get_mut(&extent) {
            holes.closed = true;
            self.by_longest.remove(&(holes.longest, extent));
            self.current = self.current.filter(|current| *current != extent);
        }
    }

    /// Extents there are.
    pub(crate) fn extents(&self) -> impl Iterator<Item = u32> + '_ {
        self.extents.keys().copied()
    }

    #[cfg(test)]
    pub(crate) fn extent_count(&self) -> usize {
        self.extents.len()
    }

    /// Whether the extent exists and nothing is held in it.
    pub(crate) fn is_free(&self, extent: u32) -> bool {
        self.extents.get(&extent).is_some_and(|holes| holes.free + 1 >= holes.blocks)
    }

    /// Blocks of one extent that are handed out.
    pub(crate) fn used_in(&self, extent: u32) -> u32 {
        self.extents.get(&extent).map_or(0, |holes| holes.blocks.saturating_sub(1) - holes.free)
    }

    /// Blocks handed out.
    pub(crate) fn used_blocks(&self) -> u64 {
        self.used_blocks
    }

    /// The longest hole of all.
    pub(crate) fn longest(&self) -> u32 {
        self.by_longest.last().map_or(0, |(longest, _)| *longest)
    }

    /// Takes `blocks` neighbouring blocks, behind the last ones taken if there is room.
    pub(crate) fn take(&mut self, blocks: u32) -> Option<Run> {
        assert!(blocks > 0, "a run has blocks");
        let fits = |extent: &u32| self.extents.get(extent).is_some_and(|h| h.longest >= blocks);
        let current = self.current.filter(fits);
        let extent = match current {
            Some(extent) => extent,
            None => self.by_longest.range((blocks, 0)..).next()?.1,
        };
        self.current = Some(extent);
        let holes = self.extents.get(&extent).expect("the order lists extents that are there");
        let hole = holes.holes.iter().find(|(_, length)| **length >= blocks);
        let (start, _) = hole.expect("the longest hole is one of the holes");
        let run = Run { extent, start: *start, blocks };
        assert!(self.claim(&run), "a hole is free");
        Some(run)
    }

    /// Takes the longest hole, cut to whole pages.
    pub(crate) fn take_longest(&mut self) -> Option<Run> {
        let blocks = self.longest() / PAGE_BLOCKS * PAGE_BLOCKS;
        (blocks > 0).then(|| self.take(blocks)).flatten()
    }

    /// Takes `blocks` blocks in at most so many pieces of whole pages, the last one as it comes.
    pub(crate) fn gather(&mut self, blocks: u32, pieces_max: usize) -> Option<Vec<Run>> {
        let mut runs: Vec<Run> = Vec::new();
        let mut missing = blocks;
        while missing > 0 {
            let run = match self.longest() >= missing {
                true => self.take(missing),
                false => self.take_longest(),
            };
            match run {
                Some(run) if runs.len() < pieces_max => {
                    missing -= run.blocks;
                    runs.push(run);
                }
                other => {
                    runs.extend(other);
                    runs.iter().for_each(|run| self.free(run));
                    return None;
                }
            }
        }
        Some(runs)
    }

    /// Takes exactly these blocks; false if they do not exist or one of them is taken.
    #[must_use]
    pub(crate) fn claim(&mut self, run: &Run) -> bool {
        let Some(holes) = self.extents.get_mut(&run.extent) else { return false };
        let Some(end) = run.start.checked_add(run.blocks) else { return false };
        let Some((&start, &length)) = holes.holes.range(..=run.start).next_back() else {
            return false;
        };
        if start + length < end || run.blocks == 0 {
            return false;
        }
        holes.holes.remove(&start);
        if start < run.start {
            holes.holes.insert(start, run.start - start);
        }
        if end < start + length {
            holes.holes.insert(end, start + length - end);
        }
        holes.free -= run.blocks;
        self.used_blocks += u64::from(run.blocks);
        if length == holes.longest {
            self.measure(run.extent);
        }
        true
    }

    /// Gives blocks back.
    pub(crate) fn free(&mut self, run: &Run) {
        let holes = self.extents.get_mut(&run.extent).expect("what was taken lies in an extent");
        let (mut start, mut length) = (run.start, run.blocks);
        assert!(length > 0 && run.end() <= holes.blocks, "what was taken lies in its extent");
        if let Some((&before, &bytes)) = holes.holes.range(..start).next_back() {
            assert!(before + bytes <= start, "blocks are given back once");
            if before + bytes == start {
                holes.holes.remove(&before);
                (start, length) = (before, bytes + length);
            }
        }
        if let Some((&after, &bytes)) = holes.holes.range(start + 1..).next() {
            assert!(after >= run.end(), "blocks are given back once");
            if after == run.end() {
                holes.holes.remove(&after);
                length += bytes;
            }
        }
        assert!(holes.holes.insert(start, length).is_none(), "blocks are given back once");
        holes.free += run.blocks;
        self.used_blocks -= u64::from(run.blocks);
        self.measure(run.extent);
    }

    fn measure(&mut self, extent: u32) {
        let holes = self.extents.get_mut(&extent).expect("only extents that are there change");
        let longest = holes.holes.values().copied().max().unwrap_or(0);
        let old = std::mem::replace(&mut holes.longest, longest);
        if !holes.closed && old != longest {
            self.by_longest.remove(&(old, extent));
            self.by_longest.insert((longest, extent));
        }
    }
}

#[cfg(test)]
mod tests {
    use pangea_base::Entropy;

    use super::*;

    fn space() -> Space {
        let mut space = Space::default();
        space.add(0, 64);
        space.add(1, 128);
        space
    }

    #[test]
    fn runs_follow_each_other_and_never_touch_the_header() {
        let mut space = space();
        let a = space.take(10).unwrap();
        let b = space.take(10).unwrap();
        assert_eq!((a.extent, a.start), (0, 1));
        assert_eq!((b.extent, b.start), (0, 11));
        let c = space.take(100).unwrap();
        assert_eq!((c.extent, c.start), (1, 1));
        assert_eq!(space.take(100), None);
        assert_eq!(space.used_blocks(), 120);
        assert!(!space.claim(&Run { extent: 0, start: 0, blocks: 1 }));
        assert!(!space.claim(&Run { extent: 0, start: 20, blocks: 2 }));
        assert!(!space.claim(&Run { extent: 0, start: 60, blocks: 5 }));
        assert!(!space.claim(&Run { extent: 7, start: 1, blocks: 1 }));
    }

    #[test]
    #[should_panic(expected = "given back once")]
    fn giving_back_twice_is_a_bug() {
        let mut space = space();
        let run = space.take(4).unwrap();
        space.free(&run);
        space.free(&run);
    }

    #[test]
    fn a_closed_extent_hands_nothing_out_and_can_still_become_empty() {
        let mut space = space();
        let run = space.take(4).unwrap();
        space.close(0);
        assert_eq!(space.take(4).unwrap().extent, 1);
        space.free(&run);
        assert!(space.is_free(0));
        space.remove(0);
        assert_eq!(space.extent_count(), 1);
    }

    #[test]
    fn an_extent_ends_earlier_and_keeps_what_is_handed_out() {
        let mut space = space();
        let run = space.take(20).unwrap();
        assert_eq!((space.end_of(0), space.end_of(1)), (21, 1));
        space.shrink(0, 30);
        assert_eq!(space.take(9).unwrap(), Run { extent: 0, start: 21, blocks: 9 });
        space.shrink(0, 30);
        space.shrink(1, 40);
        assert_eq!((space.longest(), space.end_of(0)), (39, 30));
        assert!(!space.claim(&Run { extent: 1, start: 39, blocks: 2 }));
        space.free(&run);
        assert_eq!(space.end_of(0), 30);
        space.free(&Run { extent: 0, start: 21, blocks: 9 });
        assert!(space.is_free(0));
        space.shrink(0, 1);
        assert!(space.is_free(0));
    }

    #[test]
    fn pieces_are_gathered_or_nothing_is_taken() {
        let mut space = space();
        // 63 and 127 blocks: 112 and 48 in whole pages, and what is left of both.
        assert_eq!(space.gather(191, 9), None);
        assert_eq!(space.gather(160, 1), None);
        assert_eq!(space.used_blocks(), 0);
        let runs = space.gather(160, 2).unwrap();
        assert_eq!(runs.iter().map(|run| run.blocks).collect::<Vec<_>>(), [112, 48]);
        assert_eq!(space.used_blocks(), 160);
    }

    #[test]
    fn random_use_agrees_with_a_map_of_blocks() {
        let mut random = Entropy::new([4; 32]);
        let mut space = space();
        let mut taken: Vec<Run> = Vec::new();
        for _ in 0..20_000 {
            if random.below(2) == 0 {
                let blocks = 1 + random.below(20) as u32;
                let longest = space.longest();
                match space.take(blocks) {
                    Some(run) => {
                        assert!(taken.iter().all(|other| !other.overlaps(&run)));
                        assert!(run.start > 0 && run.end() <= [64, 128][run.extent as usize]);
                        taken.push(run);
                    }
                    None => assert!(longest < blocks),
                }
            } else if !taken.is_empty() {
                let run = taken.swap_remove(random.below(taken.len() as u64) as usize);
                space.free(&run);
            }
            let used: u64 = taken.iter().map(|run| u64::from(run.blocks)).sum();
            assert_eq!(space.used_blocks(), used);
        }
        taken.iter().for_each(|run| space.free(run));
        assert!(space.is_free(0) && space.is_free(1));
        assert_eq!(space.longest(), 127);
    }
}
