//! The store itself: what is asked of it, and how completions find their way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pangea_base::file::{FileDone, FileFault, FileId, FileOp, FileValue};
use pangea_base::{Hash, Locator, Page, PagePool, PeerId, Prefix, ShardKey};

use crate::clock::ClockFile;
use crate::expiry::Expiry;
use crate::extents::{At, ExtentFile};
use crate::index::Index;
use crate::journal::{Item, Journal};
use crate::limits::{
    BLOBS_MAX, BLOCK_BYTES, EXTENT_BYTES_MIN, EXTENT_USUAL_BYTES_MAX, JOURNAL_KEPT_BYTES,
    PAGE_BYTES, PARTITIONS, SHARDS_MAX,
};
use crate::ops::{Ops, Purpose, Work};
use crate::reads::Reads;
use crate::recovery::Recovery;
use crate::space::{Run, Space};
use crate::types::{
    Clock, Event, Key, Output, OwnedBlob, OwnedShard, ShardInfo, StoreConfig, WriteId,
};
use crate::writes::{Stage, Writes};

/// The store of one core. Drain [`Store::poll`] after every call.
pub struct Store {
    pub(crate) config: StoreConfig,
    pub(crate) pages: PagePool,
    // One page that the pool never gets back, so that a journal or an extent's header can always
    // be written, whoever holds the others.
    spare: Option<Page>,
    pub(crate) ops: Ops,
    pub(crate) events: VecDeque<Event>,
    pub(crate) life: Life,
    pub(crate) index: Index,
    pub(crate) partitions: BTreeMap<u8, Partition>,
    pub(crate) writes: Writes,
    pub(crate) reads: Reads,
    /// Keys whose deletion is not durable yet.
    pub(crate) deleting: BTreeSet<Key>,
    /// Keys of which a second copy is not forgotten yet.
    pub(crate) forgetting: BTreeSet<Key>,
    /// Blocks to give back when the reads in them are over.
    pub(crate) releasing: Vec<(u8, Run)>,
    /// Extents whose header waits for a page.
    pub(crate) needs_page: VecDeque<(u8, u32)>,
    /// Extents whose file is open, or was; those opened first come first.
    pub(crate) open_extents: VecDeque<(u8, u32)>,
    /// Why no more is written, if so.
    pub(crate) poisoned: Option<String>,
    /// The time, as it was last told.
    pub(crate) clock: Clock,
    pub(crate) expiry: Expiry,
    pub(crate) clock_file: ClockFile,
    /// The disk had no space for an extent: until some is back, holes come first, and extents are
    /// no larger than they have to be.
    pub(crate) tight: bool,
    /// Something happened since the last look at what can go on.
    pub(crate) work: bool,
}

/// How far the store is in its life.
pub(crate) enum Life {
    Opening(Box<Recovery>),
    Open,
    Failed,
    Closing,
    Closed,
}

/// One partition's files and the writes that wait for its syncs.
pub(crate) struct Partition {
    pub space: Space,
    pub files: BTreeMap<u32, ExtentFile>,
    pub next_extent: u32,
    /// Numbers of extents that something which is not ours bears.
    pub strange: BTreeSet<u32>,
    pub journal: Journal,
    /// Writes whose pages are all written.
    pub written: Vec<WriteId>,
    // Writes whose extents are being synced, and how many syncs are missing.
    syncing: Vec<WriteId>,
    syncs: u32,
}

impl Partition {
    pub(crate) fn new() -> Partition {
        Partition {
            space: Space::default(),
            files: BTreeMap::new(),
            next_extent: 0,
            strange: BTreeSet::new(),
            journal: Journal::absent(),
            written: Vec::new(),
            syncing: Vec::new(),
            syncs: 0,
        }
    }
}

impl Store {
    /// Starts to open the store: [`Event::Ready`] or [`Event::Failed`] follows. `pages` are of
    /// 64 KiB; one of them is kept for good.
    pub fn new(config: StoreConfig, pages: PagePool) -> Store {
        check(&config, &pages);
        let mut store = Store {
            clock: Clock::Doubted(config.now),
            spare: pages.take().ok(),
            ops: Ops::default(),
            events: VecDeque::new(),
            life: Life::Opening(Box::new(Recovery::new())),
            index: Index::default(),
            partitions: BTreeMap::new(),
            writes: Writes::default(),
            reads: Reads::default(),
            deleting: BTreeSet::new(),
            forgetting: BTreeSet::new(),
            releasing: Vec::new(),
            needs_page: VecDeque::new(),
            open_extents: VecDeque::new(),
            poisoned: None,
            expiry: Expiry::default(),
            clock_file: ClockFile::default(),
            tight: false,
            work: true,
            config,
            pages,
        };
        store.start_recovery();
        store
    }

    /// What is known of a shard that an owner has here. What is over is not here, also below.
    pub fn shard(&self, shard: &OwnedShard) -> Option<ShardInfo> {
        self.index.shard(shard).filter(|info| !self.is_over(info.until))
    }

    /// The shard of this name with this root, whoever owns it: of several the one that is kept
    /// longest.
    pub fn find(&self, key: &ShardKey, root: &Hash) -> Option<(OwnedShard, ShardInfo)> {
        let all = self.index.shards_named(*key);
        let all = all.filter(|(_, info)| info.root == *root && !self.is_over(info.until));
        all.max_by_key(|(_, info)| info.until)
    }

    /// The shards of an object that are held, owner by owner, each in the order of their keys.
    pub fn shards_of(
        &self,
        locator: Locator,
    ) -> impl Iterator<Item = (OwnedShard, ShardInfo)> + '_ {
        self.index.shards_of(locator).filter(|(_, info)| !self.is_over(info.until))
    }

    /// The blobs of an object that are held, owner by owner, with their lengths.
    pub fn blobs_of(&self, locator: Locator) -> impl Iterator<Item = (OwnedBlob, u64)> + '_ {
        let all = self.index.blobs_of(locator).filter(|found| !self.is_blob_over(found));
        all.map(|found| (found.key, found.length))
    }

    /// Bytes of disk in use by what is held, what is being written, and what is being deleted.
    pub fn used_bytes(&self) -> u64 {
        let blocks: u64 = self.partitions.values().map(|part| part.space.used_blocks()).sum();
        blocks * u64::from(BLOCK_BYTES)
    }

    /// Bytes of disk that an owner's shards and blobs take; only what is acknowledged counts.
    pub fn owner_bytes(&self, owner: &PeerId) -> u64 {
        self.index.owner_bytes(owner)
    }

    /// The same of every account: an owner, and from where it stored them.
    pub fn accounts(&self) -> Vec<(PeerId, Prefix, u64)> {
        self.index.accounts()
    }

    /// Bytes that a shard or blob takes on disk, if it is held.
    pub fn disk_bytes(&self, key: &Key) -> Option<u64> {
        Some(crate::index::disk_bytes(&self.index.get(key)?.runs))
    }

    /// Takes a completion. Afterwards drain [`Store::poll`].
    pub fn file_done(&mut self, done: FileDone) {
        self.work = true;
        let purpose = self.ops.finish(&done);
        let FileDone { page, result, .. } = done;
        match purpose {
            Purpose::Recover => self.recovery_step_done(page, result),
            Purpose::ExtentStep { partition, extent } => {
                self.extent_step_done(partition, extent, page, result);
            }
            Purpose::ExtentWork { partition, extent, work } => {
                self.extent_work_done(partition, extent, work, page, result);
            }
            Purpose::Journal { partition } => self.journal_step_done(partition, page, result),
            Purpose::Clock => self.clock_step_done(page, result),
            Purpose::Discard { name } => {
                self.ops.submit(FileOp::Remove { name }, None, Purpose::Nothing);
            }
            Purpose::Nothing => {}
        }
    }

    /// The next thing to do or to hear; `None` until something else happens.
    pub fn poll(&mut self) -> Option<Output> {
        if std::mem::take(&mut self.work) {
            self.pump();
        }
        if let Some(event) = self.events.pop_front() {
            return Some(Output::Event(event));
        }
        self.ops.next().map(Output::File)
    }

    /// Nothing is under way: no file operation, no write, no read, no deletion.
    pub fn idle(&self) -> bool {
        let parts = self.partitions.values();
        self.ops.idle()
            && self.events.is_empty()
            && self.writes.is_empty()
            && self.reads.is_empty()
            && (self.poisoned.is_some() || self.deleting.is_empty())
            && parts.into_iter().all(|part| self.poisoned.is_some() || !part.journal.busy())
    }

    /// Ends the store: what is committed is made durable, what is open is given up, files are
    /// closed; then [`Event::Closed`].
    pub fn shutdown(&mut self) {
        self.work = true;
        match self.life {
            Life::Open => {
                self.life = Life::Closing;
                let open = self.writes.iter().filter(|(_, write)| write.stage == Stage::Open);
                let ids: Vec<WriteId> = open.map(|(id, _)| id).collect();
                let closing = crate::types::StoreFault::Closing;
                ids.into_iter().for_each(|id| self.fail_write(id, closing.clone()));
            }
            // A recovery that is cut short is like a crash during it.
            Life::Opening(_) | Life::Failed => {
                self.life = Life::Closed;
                self.events.push_back(Event::Closed);
            }
            Life::Closing | Life::Closed => {}
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.life, Life::Open)
    }

    pub(crate) fn first_partition(&self) -> u8 {
        *self.config.partitions.first().expect("a core has a partition")
    }

    pub(crate) fn partition(&mut self, partition: u8) -> &mut Partition {
        self.partitions.entry(partition).or_insert_with(Partition::new)
    }

    /// A page for what must always be possible; `None` only while the spare one is in use.
    pub(crate) fn page_always(&mut self) -> Option<Page> {
        self.pages.take().ok().or_else(|| self.spare.take())
    }

    /// Takes a page back, as the spare one if that is missing.
    pub(crate) fn give_back(&mut self, page: Page) {
        if self.spare.is_none() {
            self.spare = Some(page);
        }
    }

    pub(crate) fn enqueue(&mut self, partition: u8, item: Item) {
        self.work = true;
        let journal = &mut self.partition(partition).journal;
        journal.queue.push_back(item);
        journal.stuck = false;
    }

    /// Lets everything go on that can.
    fn pump(&mut self) {
        if self.spare.is_none() {
            self.spare = self.pages.take().ok();
        }
        if matches!(self.life, Life::Opening(_) | Life::Failed | Life::Closed) {
            return;
        }
        self.extents_with_page();
        self.pump_clock();
        self.feed_reads();
        self.feed_hungry();
        let partitions: Vec<u8> = self.partitions.keys().copied().collect();
        for partition in &partitions {
            self.start_syncs(*partition);
            self.pump_journal(*partition);
        }
        if matches!(self.life, Life::Closing) {
            self.pump_closing(&partitions);
        }
    }

    /// Group commit, first half: one sync for each extent that the writes which wait have touched.
    fn start_syncs(&mut self, partition: u8) {
        let part = self.partition(partition);
        if part.syncs > 0 || !part.syncing.is_empty() || part.written.is_empty() {
            return;
        }
        part.syncing = std::mem::take(&mut part.written);
        let batch = part.syncing.clone();
        let touched: BTreeSet<u32> =
            batch.iter().flat_map(|id| self.unsynced_extents(*id)).collect();
        self.partition(partition).syncs = touched.len() as u32;
        if touched.is_empty() {
            self.syncs_done(partition);
        }
        for extent in touched {
            self.extent_work(partition, extent, At { offset: 0, length: 0 }, None, Work::Sync);
        }
    }

    pub(crate) fn extent_synced(
        &mut self,
        partition: u8,
        extent: u32,
        result: Result<FileValue, FileFault>,
    ) {
        if let Err(fault) = result {
            let reason = format!("a sync of extent {extent:08x} failed: {fault}");
            self.poison_extent(partition, extent, reason);
        }
        let part = self.partition(partition);
        part.syncs -= 1;
        if part.syncs == 0 {
            self.syncs_done(partition);
        }
    }

    /// Group commit, second half: those whose data is safe go to the journal together.
    fn syncs_done(&mut self, partition: u8) {
        for id in std::mem::take(&mut self.partition(partition).syncing) {
            let write = self.writes.get_mut(id);
            if let Some(write) = write.filter(|write| write.stage == Stage::Written) {
                write.stage = Stage::Journaling;
                self.enqueue(partition, Item::Put(id));
            }
        }
    }

    fn pump_closing(&mut self, partitions: &[u8]) {
        let poisoned = self.poisoned.is_some();
        if !(self.writes.is_empty() && self.reads.is_empty()) {
            return;
        }
        for partition in partitions {
            let journal = &mut self.partition(*partition).journal;
            let waits = !journal.queue.is_empty() && !journal.stuck;
            if !poisoned && (journal.busy() || waits) {
                return;
            }
        }
        if !poisoned && self.say_closed(partitions) {
            return;
        }
        let closing = !self.ops.idle()
            || self.close_extents()
            || self.close_journals(partitions)
            || self.close_clock();
        if closing {
            return;
        }
        self.end_rooms();
        self.life = Life::Closed;
        self.events.push_back(Event::Closed);
    }

    /// Marks the clean end in each journal that was written to. True if that is under way.
    fn say_closed(&mut self, partitions: &[u8]) -> bool {
        let mut any = false;
        for partition in partitions {
            let journal = &mut self.partition(*partition).journal;
            if journal.unclosed && !journal.stuck {
                any = true;
                journal.unclosed = false;
                self.enqueue(*partition, Item::Closed);
                self.pump_journal(*partition);
            }
        }
        any
    }

    fn close_journals(&mut self, partitions: &[u8]) -> bool {
        let journals =
            partitions.iter().filter_map(|p| self.partitions.get_mut(p)?.journal.open.take());
        let files: Vec<FileId> = journals.map(|open| open.file).collect();
        for file in &files {
            self.ops.submit(FileOp::Close { file: *file }, None, Purpose::Nothing);
        }
        !files.is_empty()
    }
}

/// Configuration is ours: nonsense in it is a bug.
fn check(config: &StoreConfig, pages: &PagePool) {
    let page = u64::from(PAGE_BYTES);
    assert!(pages.page_bytes() == PAGE_BYTES as usize, "the store uses pages of {page} bytes");
    assert!(!config.partitions.is_empty(), "a core has a partition");
    assert!(config.partitions.iter().all(|p| *p < PARTITIONS), "there are {PARTITIONS} partitions");
    let extent = config.extent_bytes;
    assert!(
        (EXTENT_BYTES_MIN..=EXTENT_USUAL_BYTES_MAX).contains(&extent),
        "extents of {extent} bytes"
    );
    assert!(extent.is_multiple_of(page), "an extent is whole pages");
    assert!(config.shards_max <= SHARDS_MAX && config.blobs_max <= BLOBS_MAX, "the index's limits");
    let step = config.journal_step_bytes;
    let least = page + JOURNAL_KEPT_BYTES;
    assert!(step.is_multiple_of(page) && step >= least, "steps of {step} bytes");
}
