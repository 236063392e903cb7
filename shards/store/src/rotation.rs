//! A journal's successor: a snapshot of all that lives, made beside it and used once it is durable.
//! Also how the first journal of a partition is made.

use pangea_base::file::{FileFault, FileId, FileOp, FileValue, OpenMode};

use crate::extents::fault_of;
use crate::format::{BlockKind, Chain, ENTRY_BYTES_MAX, Packer, Place, put_bytes};
use crate::index::Cursor;
use crate::journal::{Item, OpenJournal, Phase};
use crate::limits::{BLOCK_BYTES, JOURNAL_GENERATION_MAX, PAGE_BYTES};
use crate::names;
use crate::ops::Purpose;
use crate::store::Store;

/// A new journal being made.
pub(crate) struct Rotation {
    step: Step,
    file: Option<FileId>,
    // Behind what is on disk.
    chain: Chain,
    allocated: u64,
    // What is being reserved.
    asked: u64,
    // The last thing that is in the snapshot, and whether that was all.
    last: Option<Cursor>,
    complete: bool,
    fault: Option<FileFault>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Opening,
    Extending,
    Reserving,
    NeedsPage,
    Writing,
    Syncing,
    Closing,
    Removing,
}

impl Rotation {
    pub(crate) fn needs_page(&self) -> bool {
        self.step == Step::NeedsPage
    }

    fn end(&self) -> u64 {
        self.chain.next_block * u64::from(BLOCK_BYTES)
    }

    /// The least that the next page needs: itself, and one commit more.
    fn least(&self) -> u64 {
        self.end() + 2 * u64::from(PAGE_BYTES)
    }
}

impl Store {
    pub(crate) fn start_rotation(&mut self, partition: u8) {
        let journal = &mut self.partition(partition).journal;
        journal.generation_max += 1;
        while journal.strange.contains(&journal.generation_max) {
            journal.generation_max += 1;
        }
        let generation = journal.generation_max;
        if generation > JOURNAL_GENERATION_MAX {
            let text = String::from("there is no number left");
            return self.poison("numbering a journal", &FileFault::Other { errno: 0, text });
        }
        let rotation = Rotation {
            step: Step::Opening,
            file: None,
            chain: Chain::start(Place { partition, generation }),
            allocated: 0,
            asked: 0,
            last: None,
            complete: false,
            fault: None,
        };
        journal.phase = Phase::Rotating(Box::new(rotation));
        let name = names::journal(partition, generation);
        let op = FileOp::Open { name, mode: OpenMode::DirectCreate };
        self.ops.submit(op, None, Purpose::Journal { partition });
    }

    pub(crate) fn rotation_step_done(
        &mut self,
        partition: u8,
        result: Result<FileValue, FileFault>,
    ) {
        let Phase::Rotating(rotation) = &mut self.partition(partition).journal.phase else {
            unreachable!("a rotation is under way");
        };
        match (rotation.step, result) {
            (Step::Opening, Ok(FileValue::Opened { file, .. })) => {
                rotation.file = Some(file);
                self.write_snapshot(partition);
            }
            (Step::Extending, Ok(_)) => {
                // A block must not be written before the space that it names is durable.
                rotation.step = Step::Reserving;
                let file = rotation.file.expect("it is open");
                self.ops.submit(FileOp::Sync { file }, None, Purpose::Journal { partition });
            }
            (Step::Extending, Err(FileFault::NoSpace)) if rotation.asked > rotation.least() => {
                let least = rotation.least();
                self.reserve_snapshot(partition, least);
            }
            (Step::Reserving, Ok(_)) => {
                rotation.allocated = rotation.asked;
                self.write_snapshot(partition);
            }
            (Step::Writing, Ok(_)) if rotation.complete => {
                rotation.step = Step::Syncing;
                let file = rotation.file.expect("it was written");
                self.ops.submit(FileOp::Sync { file }, None, Purpose::Journal { partition });
            }
            (Step::Writing, Ok(_)) => self.write_snapshot(partition),
            (Step::Syncing, Ok(_)) => self.use_new_journal(partition),
            // Whatever came of the closing, the file has to go.
            (Step::Closing, _) => self.remove_new_journal(partition),
            (Step::Removing, Ok(_) | Err(FileFault::Missing)) => self.keep_old_journal(partition),
            // A snapshot that may be taken for the truth by the next recovery: the old journal
            // must not be used any more.
            (Step::Removing, Err(fault)) => {
                self.poison("removing a journal that could not be finished", &fault);
            }
            (_, Err(fault)) => {
                rotation.fault = Some(fault);
                self.abandon_new_journal(partition);
            }
            (step, Ok(value)) => unreachable!("a rotation {step:?} was answered {value:?}"),
        }
    }

    /// Writes the next page of the snapshot, after reserving space for it and one commit more.
    pub(crate) fn write_snapshot(&mut self, partition: u8) {
        let reserve = self.config.journal_step_bytes;
        let Phase::Rotating(rotation) = &mut self.partition(partition).journal.phase else {
            unreachable!("a rotation is under way");
        };
        let file = rotation.file.expect("it is open");
        if rotation.least() > rotation.allocated {
            let length = rotation.least().max(rotation.allocated + reserve);
            return self.reserve_snapshot(partition, length);
        }
        rotation.step = Step::NeedsPage;
        let (offset, mut last) = (rotation.end(), rotation.last);
        let (chain, reserved) = (rotation.chain, rotation.allocated);
        let Some(page) = self.page_always() else { return };
        let mut packer = Packer::new(page, chain, BlockKind::Snapshot, reserved);
        let mut entry = [0; ENTRY_BYTES_MAX];
        let mut complete = true;
        let mut from = last;
        while let Some(found) = self.index.after(from) {
            from = Some(found.cursor);
            if found.partition != partition {
                continue;
            }
            let put = self.index.get(&found.key).expect("the walk found it");
            let length = put_bytes(&put, &mut entry);
            if !packer.push(&entry[..length]) {
                complete = false;
                break;
            }
            last = Some(found.cursor);
        }
        let kind = if complete { BlockKind::SnapshotEnd } else { BlockKind::Snapshot };
        let packed = packer.finish(kind);
        let Phase::Rotating(rotation) = &mut self.partition(partition).journal.phase else {
            unreachable!("a rotation is under way");
        };
        rotation.step = Step::Writing;
        (rotation.chain, rotation.last, rotation.complete) = (packed.chain, last, complete);
        let op = FileOp::Write { file, offset, length: packed.bytes };
        self.ops.submit(op, Some(packed.page), Purpose::Journal { partition });
    }

    fn reserve_snapshot(&mut self, partition: u8, length: u64) {
        let Phase::Rotating(rotation) = &mut self.partition(partition).journal.phase else {
            unreachable!("a rotation is under way");
        };
        (rotation.step, rotation.asked) = (Step::Extending, length);
        let file = rotation.file.expect("it is open");
        self.ops.submit(FileOp::Allocate { file, length }, None, Purpose::Journal { partition });
    }

    fn use_new_journal(&mut self, partition: u8) {
        let journal_bytes = self.config.journal_bytes;
        let journal = &mut self.partition(partition).journal;
        let Phase::Rotating(rotation) = std::mem::replace(&mut journal.phase, Phase::Idle) else {
            unreachable!("a rotation is under way");
        };
        let new = OpenJournal {
            file: rotation.file.expect("it is open"),
            chain: rotation.chain,
            allocated: rotation.allocated,
            rotate_at: Some(journal_bytes.max(3 * rotation.end())),
        };
        let old = journal.open.replace(new);
        // Nothing of a refused commit is in the new one, so its space is free for certain.
        let limbo = journal.take_limbo();
        self.return_runs(partition, &limbo);
        if let Some(old) = old {
            let name = names::journal(partition, old.chain.place.generation);
            self.ops.submit(FileOp::Close { file: old.file }, None, Purpose::Discard { name });
        }
        self.make_planned(partition);
    }

    fn abandon_new_journal(&mut self, partition: u8) {
        let Phase::Rotating(rotation) = &mut self.partition(partition).journal.phase else {
            unreachable!("a rotation is under way");
        };
        match rotation.file {
            Some(file) => {
                rotation.step = Step::Closing;
                self.ops.submit(FileOp::Close { file }, None, Purpose::Journal { partition });
            }
            None => self.remove_new_journal(partition),
        }
    }

    fn remove_new_journal(&mut self, partition: u8) {
        let Phase::Rotating(rotation) = &mut self.partition(partition).journal.phase else {
            unreachable!("a rotation is under way");
        };
        rotation.step = Step::Removing;
        let name = names::journal(partition, rotation.chain.place.generation);
        self.ops.submit(FileOp::Remove { name }, None, Purpose::Journal { partition });
    }

    /// The new journal is gone for certain; the old one serves on if it can.
    fn keep_old_journal(&mut self, partition: u8) {
        let step = self.config.journal_step_bytes;
        let journal = &mut self.partition(partition).journal;
        let Phase::Rotating(rotation) = std::mem::replace(&mut journal.phase, Phase::Idle) else {
            unreachable!("a rotation is under way");
        };
        let fault = rotation.fault.expect("a rotation is given up for a reason");
        if let Some(open) = journal.open.as_mut().filter(|open| open.rotate_at.is_some()) {
            open.rotate_at = Some(open.end() + step);
            return;
        }
        // Nothing can be committed now; the next put tries again.
        journal.stuck = true;
        let queue = std::mem::take(&mut journal.queue);
        for item in queue {
            match item {
                Item::Put(id) => self.fail_write(id, fault_of("making a journal", &fault)),
                other => self.partition(partition).journal.queue.push_back(other),
            }
        }
        self.fail_planned(partition, &fault);
    }
}
