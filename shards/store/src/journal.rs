//! The journal of a partition: commits in groups. `rotation.rs` replaces it by a snapshot.

use std::collections::{BTreeSet, VecDeque};

use pangea_base::Page;
use pangea_base::file::{FileFault, FileId, FileOp, FileValue};

use crate::extents::fault_of;
use crate::format::{
    BlockKind, CLOSED_BYTES, Chain, ENTRY_BYTES_MAX, Packed, Packer, Put, Written, delete_bytes,
    put_bytes,
};
use crate::index::disk_bytes;
use crate::limits::{BLOCK_BYTES, FILE_OPS_WAITING_MAX, JOURNAL_KEPT_BYTES, PAGE_BYTES};
use crate::ops::Purpose;
use crate::rotation::Rotation;
use crate::space::Run;
use crate::store::Store;
use crate::types::{Event, Key, Replaced, StoreFault, Why, WriteId};
use crate::writes::Stage;

/// One journal.
pub(crate) struct Journal {
    pub phase: Phase,
    /// `None` until there is a file that may be appended to.
    pub open: Option<OpenJournal>,
    /// The highest generation that a file was ever named with.
    pub generation_max: u64,
    /// Generations that something which is not ours bears.
    pub strange: BTreeSet<u64>,
    /// What waits for the next commit, in order.
    pub queue: VecDeque<Item>,
    /// What is in the commit under way.
    flying: Vec<Item>,
    packed: Option<Packed>,
    // Where the journal goes on when that commit is durable.
    next_chain: Option<Chain>,
    /// Space named by a commit that was refused for want of space: it may be on disk all the same,
    /// so it is not handed out before another commit has taken its place.
    limbo: Vec<Run>,
    /// No more can be reserved for the commit at hand.
    unreserved: Option<FileFault>,
    /// The last try failed for want of space: wait until something new comes.
    pub stuck: bool,
    /// Something was committed since the last `Closed`.
    pub unclosed: bool,
}

/// A journal file in use.
pub(crate) struct OpenJournal {
    pub file: FileId,
    pub chain: Chain,
    /// Bytes that are reserved.
    pub allocated: u64,
    /// Replaced when longer than this. `None`: it must not be appended to at all.
    pub rotate_at: Option<u64>,
}

pub(crate) enum Phase {
    Idle,
    Extending,
    /// A block must not be written before the space that it names is durable.
    Reserving,
    Writing,
    Syncing,
    Rotating(Box<Rotation>),
}

/// One thing to be made durable.
pub(crate) enum Item {
    Put(WriteId),
    Delete(Deletion),
    /// The copy of something that another partition holds too.
    Forget(Put),
    Closed,
}

/// Something to be deleted.
pub(crate) struct Deletion {
    pub put: Put,
    pub why: Why,
    /// The `make_room` that it belongs to.
    pub room: Option<u64>,
}

impl Journal {
    pub(crate) fn absent() -> Journal {
        Journal {
            phase: Phase::Idle,
            open: None,
            generation_max: 0,
            strange: BTreeSet::new(),
            queue: VecDeque::new(),
            flying: Vec::new(),
            packed: None,
            next_chain: None,
            limbo: Vec::new(),
            unreserved: None,
            stuck: false,
            unclosed: false,
        }
    }

    /// Whether extents may be made: a journal is durable.
    pub(crate) fn ready(&self) -> bool {
        self.open.is_some()
    }

    pub(crate) fn busy(&self) -> bool {
        !matches!(self.phase, Phase::Idle)
    }

    pub(crate) fn take_limbo(&mut self) -> Vec<Run> {
        std::mem::take(&mut self.limbo)
    }

    /// How far it is durably written.
    pub(crate) fn written(&self) -> Written {
        self.open.as_ref().map_or(Written { generation: 0, blocks: 0 }, |open| Written {
            generation: open.chain.place.generation,
            blocks: open.chain.next_block,
        })
    }

    fn must_rotate(&self) -> bool {
        let open = self.open.as_ref();
        open.is_none_or(|open| open.rotate_at.is_none_or(|longest| open.end() > longest))
    }
}

impl OpenJournal {
    /// Bytes that are written.
    pub(crate) fn end(&self) -> u64 {
        self.chain.next_block * u64::from(BLOCK_BYTES)
    }
}

impl Store {
    /// Starts the next commit or rotation of a partition, if it is time.
    pub(crate) fn pump_journal(&mut self, partition: u8) {
        let crowded = self.ops.waiting() > FILE_OPS_WAITING_MAX / 2;
        if self.poisoned.is_some() || crowded {
            return;
        }
        let part = self.partition(partition);
        let journal = &part.journal;
        if let Phase::Rotating(rotation) = &journal.phase {
            if rotation.needs_page() {
                self.write_snapshot(partition);
            }
            return;
        }
        let wanted = !journal.queue.is_empty()
            || (journal.open.is_none() && part.files.values().any(|file| file.is_planned()));
        if journal.busy() || journal.stuck || !wanted {
            return;
        }
        match journal.must_rotate() {
            true => self.start_rotation(partition),
            false => self.start_commit(partition),
        }
    }

    fn start_commit(&mut self, partition: u8) {
        let journal = &mut self.partition(partition).journal;
        let open = journal.open.as_ref().expect("it is open");
        // Puts leave some, so that there is always room to delete.
        let most = open.end() + u64::from(PAGE_BYTES) + JOURNAL_KEPT_BYTES;
        if most > open.allocated && journal.unreserved.is_none() {
            return self.extend_journal(partition);
        }
        let (chain, reserved) = (open.chain, open.allocated);
        let Some(page) = self.page_always() else { return };
        let mut packer = Packer::new(page, chain, BlockKind::Commit, reserved);
        let mut entry = [0; ENTRY_BYTES_MAX];
        let mut flying = std::mem::take(&mut self.partition(partition).journal.flying);
        while let Some(item) = self.partition(partition).journal.queue.pop_front() {
            let length = match &item {
                Item::Put(id) => {
                    // A write that failed meanwhile has no entry.
                    let write = self.writes.get_mut(*id);
                    let Some(write) = write.filter(|write| write.stage != Stage::Dead) else {
                        continue;
                    };
                    write.order = match write.key {
                        Key::Blob(_) => self.index.next_order(self.clock.time()),
                        Key::Shard(_) => 0,
                    };
                    put_bytes(&write.put(), &mut entry)
                }
                Item::Delete(Deletion { put, .. }) | Item::Forget(put) => {
                    delete_bytes(&put.key, &mut entry)
                }
                Item::Closed => {
                    entry[0] = CLOSED_BYTES[0];
                    1
                }
            };
            if !packer.push(&entry[..length]) {
                self.partition(partition).journal.queue.push_front(item);
                break;
            }
            flying.push(item);
        }
        let empty = packer.is_empty();
        let packed = packer.finish(BlockKind::Commit);
        let journal = &mut self.partition(partition).journal;
        journal.flying = flying;
        if empty {
            journal.unreserved = None;
            self.give_back(packed.page);
            return;
        }
        journal.packed = Some(packed);
        self.place_commit(partition);
    }

    fn extend_journal(&mut self, partition: u8) {
        let step = self.config.journal_step_bytes;
        let journal = &mut self.partition(partition).journal;
        let open = journal.open.as_ref().expect("it is open");
        let (file, length) = (open.file, open.allocated + step);
        journal.phase = Phase::Extending;
        self.ops.submit(FileOp::Allocate { file, length }, None, Purpose::Journal { partition });
    }

    /// Writes the packed commit, if the space that is reserved allows it.
    fn place_commit(&mut self, partition: u8) {
        let journal = &mut self.partition(partition).journal;
        let open = journal.open.as_ref().expect("it is open");
        let bytes = journal.packed.as_ref().map_or(0, |packed| u64::from(packed.bytes));
        if open.end() + bytes + JOURNAL_KEPT_BYTES <= open.allocated {
            self.write_commit(partition);
        } else {
            let fault = journal.unreserved.take().expect("it was tried to reserve more");
            self.commit_without_reserve(partition, &fault);
        }
    }

    fn write_commit(&mut self, partition: u8) {
        let journal = &mut self.partition(partition).journal;
        let Packed { page, bytes, chain } = journal.packed.take().expect("a commit is packed");
        let open = journal.open.as_ref().expect("it is open");
        let op = FileOp::Write { file: open.file, offset: open.end(), length: bytes };
        journal.next_chain = Some(chain);
        journal.phase = Phase::Writing;
        self.ops.submit(op, Some(page), Purpose::Journal { partition });
    }

    /// A step of a commit or rotation is done.
    pub(crate) fn journal_step_done(
        &mut self,
        partition: u8,
        page: Option<Page>,
        result: Result<FileValue, FileFault>,
    ) {
        if let Some(page) = page {
            self.give_back(page);
        }
        let journal = &mut self.partition(partition).journal;
        match (&mut journal.phase, result) {
            (Phase::Rotating(_), result) => self.rotation_step_done(partition, result),
            (Phase::Extending, Ok(_)) => {
                journal.phase = Phase::Reserving;
                let file = journal.open.as_ref().expect("it is open").file;
                self.ops.submit(FileOp::Sync { file }, None, Purpose::Journal { partition });
            }
            (Phase::Reserving, Ok(_)) => {
                let step = self.config.journal_step_bytes;
                let journal = &mut self.partition(partition).journal;
                journal.open.as_mut().expect("it is open").allocated += step;
                journal.phase = Phase::Idle;
                self.start_commit(partition);
            }
            (Phase::Extending, Err(fault)) => {
                journal.phase = Phase::Idle;
                journal.unreserved = Some(fault);
                self.start_commit(partition);
            }
            (Phase::Writing, Ok(_)) => {
                let file = journal.open.as_ref().expect("it is open").file;
                journal.phase = Phase::Syncing;
                let purpose = Purpose::Journal { partition };
                self.ops.submit(FileOp::Sync { file }, None, purpose);
            }
            (Phase::Writing, Err(FileFault::NoSpace)) => {
                self.refuse_commit(partition, &FileFault::NoSpace, Placed::Perhaps);
            }
            (Phase::Syncing, Ok(_)) => self.commit_is_durable(partition),
            (Phase::Writing, Err(fault)) => self.poison("a write of the journal", &fault),
            (Phase::Reserving | Phase::Syncing, Err(fault)) => {
                self.poison("a sync of the journal", &fault);
            }
            (Phase::Idle, result) => unreachable!("an idle journal was answered {result:?}"),
        }
    }

    /// No more space could be reserved: puts are refused, deletions use what was kept for them.
    fn commit_without_reserve(&mut self, partition: u8, fault: &FileFault) {
        let journal = &mut self.partition(partition).journal;
        let open = journal.open.as_ref().expect("it is open");
        let bytes = journal.packed.as_ref().map_or(0, |packed| u64::from(packed.bytes));
        let puts = journal.flying.iter().any(|item| matches!(item, Item::Put(_)));
        if !puts && open.end() + bytes <= open.allocated {
            self.write_commit(partition);
        } else {
            self.refuse_commit(partition, fault, Placed::Nowhere);
        }
    }

    /// Fails the puts of a commit that could not be written; deletions wait for the next try.
    fn refuse_commit(&mut self, partition: u8, fault: &FileFault, placed: Placed) {
        let journal = &mut self.partition(partition).journal;
        journal.phase = Phase::Idle;
        journal.next_chain = None;
        journal.unreserved = None;
        let packed = journal.packed.take();
        let flying = std::mem::take(&mut journal.flying);
        let puts = flying.iter().any(|item| matches!(item, Item::Put(_)));
        // With puts gone there is a smaller commit to try at once.
        journal.stuck = !puts;
        if let Some(packed) = packed {
            self.give_back(packed.page);
        }
        for item in flying.into_iter().rev() {
            match item {
                Item::Put(id) => {
                    if placed == Placed::Perhaps
                        && let Some(write) = self.writes.get_mut(id)
                    {
                        let runs = std::mem::take(&mut write.runs);
                        self.partition(partition).journal.limbo.extend(runs);
                    }
                    self.fail_write(id, fault_of("writing the journal", fault));
                }
                other => self.partition(partition).journal.queue.push_front(other),
            }
        }
    }

    fn commit_is_durable(&mut self, partition: u8) {
        let journal = &mut self.partition(partition).journal;
        journal.phase = Phase::Idle;
        journal.unreserved = None;
        let chain = journal.next_chain.take().expect("a commit was written");
        journal.open.as_mut().expect("it is open").chain = chain;
        let limbo = std::mem::take(&mut journal.limbo);
        let mut flying = std::mem::take(&mut journal.flying);
        journal.unclosed = !matches!(flying.last(), Some(Item::Closed));
        self.return_runs(partition, &limbo);
        for item in flying.drain(..) {
            match item {
                Item::Put(id) => self.put_is_durable(partition, id),
                Item::Delete(deletion) => self.delete_is_durable(partition, deletion),
                Item::Forget(put) => {
                    self.forgetting.remove(&put.key);
                    put.runs.into_iter().for_each(|run| self.release(partition, run));
                }
                Item::Closed => {}
            }
        }
        self.partition(partition).journal.flying = flying;
    }

    fn put_is_durable(&mut self, partition: u8, id: WriteId) {
        // Gone if another partition's journal failed meanwhile: then it was said to have failed.
        let Some(write) = self.writes.remove(id) else { return };
        let put = write.put();
        let before = self.index.partition(&put.key).zip(self.index.get(&put.key));
        self.index.insert(partition, &put);
        let replaced = before.map(|(from, old)| self.make_way(partition, from, old));
        self.events.push_back(write.stored_event(id, replaced));
    }

    /// Gives back the space of what was replaced durably, once its own partition says so too.
    fn make_way(&mut self, partition: u8, from: u8, old: Put) -> Replaced {
        let replaced = Replaced { prefix: old.prefix, bytes: disk_bytes(&old.runs) };
        if from == partition {
            old.runs.into_iter().for_each(|run| self.release(partition, run));
        } else {
            self.forgetting.insert(old.key);
            self.enqueue(from, Item::Forget(old));
        }
        replaced
    }

    /// Ends writing for the whole store. What is acknowledged can still be read.
    pub(crate) fn poison(&mut self, what: &'static str, fault: &FileFault) {
        let reason = format!(
            "{what} failed ({fault}); the store takes no more writes until the node is restarted"
        );
        if self.poisoned.is_none() {
            self.poisoned = Some(reason.clone());
            self.events.push_back(Event::Poisoned { reason });
        }
        let ids: Vec<WriteId> = self.writes.iter().map(|(id, _)| id).collect();
        for id in ids {
            let write = self.writes.get_mut(id).expect("it was just listed");
            if write.stage == Stage::Journaling {
                // It may be durable for all we know, so its space is never handed out again.
                write.runs.clear();
            }
            self.fail_write(id, StoreFault::Poisoned);
        }
        self.end_rooms();
    }
}

/// Whether a refused commit may have reached the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Placed {
    Nowhere,
    Perhaps,
}
