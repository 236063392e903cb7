//! Putting: from the first byte of a shard or blob to the point where only syncs are missing.

use bytes::Bytes;
use pangea_base::file::{FileFault, FileValue};
use pangea_base::{Code, GROUP_BYTES, GroupHasher, Hash, PeerId, Prefix, ShardKey, UnixTime};

use crate::extents::{At, ExtentState, fault_of};
use crate::format::{Put, blocks_for};
use crate::index::block_of;
use crate::limits::{
    BLOB_BYTES_MAX, BLOB_WRITES_MAX, BLOCK_BYTES, PAGE_BLOCKS, PAGE_BYTES, PAGES_PER_WRITE_MAX,
    RUNS_MAX, SHARD_BYTES_MAX, WRITES_MAX,
};
use crate::ops::Work;
use crate::space::Run;
use crate::store::Store;
use crate::types::{
    AppendRefused, BlobKey, BlobKind, Event, Key, OwnedShard, ShardInfo, ShardMeta, StoreFault,
    StoreRefused, WriteId,
};
use crate::writes::{BlobSource, Stage, Write};

impl Store {
    /// Begins a shard of `meta.owner`; its space is set aside at once. What the owner holds under
    /// this name and is over makes way when the new one is durable.
    pub fn begin(&mut self, key: ShardKey, meta: ShardMeta) -> Result<WriteId, StoreRefused> {
        self.may_write()?;
        let shard = OwnedShard { key, owner: meta.owner };
        if let Some(held) = self.shard(&shard) {
            let ShardInfo { root, length, stored, until, .. } = held;
            return Err(StoreRefused::AlreadyHeld { root, length, stored, until });
        }
        if meta.length_max > SHARD_BYTES_MAX {
            return Err(StoreRefused::TooLong { limit: SHARD_BYTES_MAX });
        }
        if self.writes.shards >= WRITES_MAX {
            return Err(StoreRefused::TooManyWrites { limit: WRITES_MAX });
        }
        let limit = self.config.shards_max;
        if self.index.shard_count() + self.writes.shards >= limit {
            return Err(StoreRefused::TooManyHeld { limit });
        }
        self.begin_write(Key::Shard(shard), meta, None)
    }

    /// Stores a blob of at most [`BLOB_BYTES_MAX`]; `BlobStored` or `BlobFailed` follows. A blob
    /// that the owner holds already is stored at once; a placement page with other bytes takes the
    /// place of the owner's older one, and a crash leaves the one or the other.
    pub fn put_blob(
        &mut self,
        key: BlobKey,
        owner: PeerId,
        prefix: Prefix,
        bytes: Bytes,
        token: u64,
    ) -> Result<(), StoreRefused> {
        self.may_write()?;
        let length_max = bytes.len() as u64;
        if length_max > BLOB_BYTES_MAX {
            return Err(StoreRefused::TooLong { limit: BLOB_BYTES_MAX });
        }
        let name = Key::blob(owner, key);
        let held = self.index.get(&name);
        if let Some(held) = held.as_ref().filter(|_| !self.writes.keys.contains(&name)) {
            if held.root == Hash::of(&bytes) {
                self.events.push_back(Event::BlobStored { token, bytes: 0, replaced: None });
                return Ok(());
            }
            if key.kind != BlobKind::Placement {
                let Put { root, length, stored, until, .. } = *held;
                return Err(StoreRefused::AlreadyHeld { root, length, stored, until });
            }
        }
        if self.writes.blobs >= BLOB_WRITES_MAX {
            return Err(StoreRefused::TooManyWrites { limit: BLOB_WRITES_MAX });
        }
        let limit = self.config.blobs_max;
        if held.is_none() && self.index.blob_count() + self.writes.blobs >= limit {
            return Err(StoreRefused::TooManyHeld { limit });
        }
        let code = Code::new(1, 0).expect("one copy is a code");
        let meta = ShardMeta { owner, prefix, code, until: UnixTime(0), length_max };
        let id = self.begin_write(name, meta, Some(BlobSource { bytes, token }))?;
        self.advance_write(id);
        Ok(())
    }

    fn may_write(&self) -> Result<(), StoreRefused> {
        match self.poisoned {
            _ if !self.is_open() => Err(StoreRefused::NotReady),
            Some(_) => Err(StoreRefused::Poisoned),
            None => Ok(()),
        }
    }

    fn begin_write(
        &mut self,
        key: Key,
        meta: ShardMeta,
        blob: Option<BlobSource>,
    ) -> Result<WriteId, StoreRefused> {
        if self.writes.keys.contains(&key) {
            return Err(StoreRefused::BeingWritten);
        }
        if self.deleting.contains(&key) || self.forgetting.contains(&key) {
            return Err(StoreRefused::BeingDeleted);
        }
        self.work = true;
        let partition = self.first_partition();
        let runs = self.set_aside(partition, blocks_for(&key, meta.length_max))?;
        let is_blob = blob.is_some();
        let write = Write {
            key,
            stage: Stage::Open,
            partition,
            runs,
            order: 0,
            prefix: meta.prefix,
            code: (!is_blob).then_some(meta.code),
            until: meta.until,
            stored: self.clock,
            length_max: meta.length_max,
            length: 0,
            hasher: GroupHasher::new(),
            table: None,
            sent: 0,
            page: None,
            in_flight: 0,
            hungry: false,
            blob,
        };
        Ok(self.writes.add(write))
    }

    /// Finds room: in a hole that is long enough, or else in a new extent. When the disk had no
    /// space for the last one, holes are put together first.
    fn set_aside(&mut self, partition: u8, blocks: u32) -> Result<Vec<Run>, StoreRefused> {
        if blocks == 0 {
            return Ok(Vec::new());
        }
        let pieces_max = if self.tight { RUNS_MAX } else { 1 };
        let space = &mut self.partition(partition).space;
        if (space.longest() >= blocks || pieces_max > 1)
            && let Some(runs) = space.gather(blocks, pieces_max)
        {
            return Ok(runs);
        }
        self.plan_extent(partition, blocks)?;
        let run = self.partition(partition).space.take(blocks);
        Ok(vec![run.expect("the extent was planned for it")])
    }

    /// Gives back blocks that nothing durable ever named.
    pub(crate) fn return_runs(&mut self, partition: u8, runs: &[Run]) {
        for run in runs {
            self.partition(partition).space.free(run);
        }
        for run in runs {
            self.tidy_extent(partition, run.extent);
        }
    }

    /// Adds the next group: 16 KiB, or less for the last one. Copied once and hashed once;
    /// all of it is taken, or nothing and [`Event::Appendable`] follows after `NoPage`.
    pub fn append(&mut self, id: WriteId, bytes: &[u8]) -> Result<(), AppendRefused> {
        let write = self.writes.get(id).filter(|write| write.stage == Stage::Open);
        let write = write.ok_or(AppendRefused::NotOpen)?;
        let whole_before = write.length.is_multiple_of(GROUP_BYTES as u64);
        if bytes.is_empty() || bytes.len() > GROUP_BYTES || !whole_before {
            return Err(AppendRefused::NotAGroup);
        }
        if write.length + bytes.len() as u64 > write.length_max {
            return Err(AppendRefused::TooLong { length_max: write.length_max });
        }
        self.work = true;
        if !self.has_page(id) {
            return Err(AppendRefused::NoPage);
        }
        let write = self.writes.get_mut(id).expect("it was just looked at");
        write.hasher.push(bytes);
        write.length += bytes.len() as u64;
        self.fill(id, bytes);
        Ok(())
    }

    /// Whether an append would be taken now, as far as pages go.
    pub fn can_append(&self, id: WriteId) -> bool {
        let Some(write) = self.writes.get(id).filter(|write| write.stage == Stage::Open) else {
            return false;
        };
        write.page.is_some()
            || (write.in_flight < PAGES_PER_WRITE_MAX && self.pages.available() > 0)
    }

    /// Ends a shard; [`Event::Stored`] or [`Event::WriteFailed`] follows. Nothing follows if the
    /// write is over already: an event has said so.
    pub fn commit(&mut self, id: WriteId) {
        self.work = true;
        if self.writes.get(id).is_some_and(|write| write.stage == Stage::Open) {
            self.finish_write(id);
        }
    }

    /// Gives a shard up; no event follows.
    pub fn abort(&mut self, id: WriteId) {
        self.work = true;
        if self.writes.get(id).is_some_and(|write| write.stage == Stage::Open) {
            self.bury(id);
        }
    }

    fn finish_write(&mut self, id: WriteId) {
        let write = self.writes.get_mut(id).expect("it is there");
        let hasher = std::mem::take(&mut write.hasher);
        write.table = Some(hasher.finish());
        write.stage = Stage::Finishing;
        let mut needed = blocks_for(&write.key, write.length);
        let mut spare = Vec::new();
        write.runs.retain_mut(|run| {
            let kept = needed.min(run.blocks);
            needed -= kept;
            if kept < run.blocks {
                let start = run.start + kept;
                spare.push(Run { extent: run.extent, start, blocks: run.blocks - kept });
            }
            run.blocks = kept;
            kept > 0
        });
        let partition = write.partition;
        self.return_runs(partition, &spare);
        self.advance_write(id);
    }

    /// Goes on with what needs no more input: a blob's bytes, the padding, the table.
    pub(crate) fn advance_write(&mut self, id: WriteId) {
        loop {
            let Some(write) = self.writes.get(id) else { return };
            match write.stage {
                Stage::Open if write.blob.is_some() => {
                    if !self.feed_blob(id) {
                        return;
                    }
                }
                Stage::Finishing => {
                    if !self.send_rest(id) {
                        return;
                    }
                }
                _ => return,
            }
        }
    }

    /// Adds a blob's next group; false when it has to wait.
    fn feed_blob(&mut self, id: WriteId) -> bool {
        let write = self.writes.get(id).expect("it is there");
        let source = write.blob.as_ref().expect("it is a blob");
        let group = source.bytes.slice(..source.bytes.len().min(GROUP_BYTES));
        if group.is_empty() {
            self.finish_write(id);
            return false;
        }
        if !self.has_page(id) {
            return false;
        }
        let write = self.writes.get_mut(id).expect("it is there");
        write.hasher.push(&group);
        write.length += group.len() as u64;
        let source = write.blob.as_mut().expect("it is a blob");
        let _ = source.bytes.split_to(group.len());
        self.fill(id, &group);
        true
    }

    /// Sends padding and table; false when it is done or has to wait.
    fn send_rest(&mut self, id: WriteId) -> bool {
        let write = self.writes.get_mut(id).expect("it is there");
        let block = u64::from(BLOCK_BYTES);
        let data_end = write.length.next_multiple_of(block);
        let hashes = write.table_hashes();
        let end = data_end + (hashes.len() as u64 * 32).next_multiple_of(block);
        if write.sent >= end {
            self.send_page(id);
            let write = self.writes.get_mut(id).expect("it is there");
            write.stage = Stage::Sent;
            self.maybe_written(id);
            return false;
        }
        if write.sent < data_end {
            let padding = (data_end - write.sent) as usize;
            self.fill(id, &[0; BLOCK_BYTES as usize][..padding]);
            return true;
        }
        if !self.has_page(id) {
            return false;
        }
        let write = self.writes.get(id).expect("it is there");
        // A page holds whole hashes: it begins and ends at multiples of 32.
        let first = ((write.sent - data_end) / 32) as usize;
        match write.table_hashes().get(first) {
            Some(hash) => {
                let hash = hash.0;
                self.fill(id, &hash);
            }
            None => {
                let padding = (end - write.sent) as usize;
                self.fill(id, &[0; BLOCK_BYTES as usize][..padding]);
            }
        }
        true
    }

    /// Makes sure that the write has a page with room.
    fn has_page(&mut self, id: WriteId) -> bool {
        let write = self.writes.get_mut(id).expect("it is there");
        if write.page.is_some() {
            return true;
        }
        if write.in_flight < PAGES_PER_WRITE_MAX
            && let Ok(page) = self.pages.take()
        {
            write.page = Some(page);
            return true;
        }
        if !write.hungry {
            write.hungry = true;
            self.writes.hungry.push_back(id);
        }
        if self.writes.in_flight == 0 {
            self.send_all_pages();
        }
        false
    }

    /// All pages are in hands that wait for more: what they have so far is written.
    fn send_all_pages(&mut self) {
        let block = BLOCK_BYTES as usize;
        let waiting = self.writes.iter().filter(|(_, write)| write.stage != Stage::Dead);
        let some = |write: &Write| {
            write.page.as_ref().is_some_and(|page| !page.is_empty() && page.len() % block == 0)
        };
        let ids: Vec<WriteId> =
            waiting.filter(|(_, write)| some(write)).map(|(id, _)| id).collect();
        ids.into_iter().for_each(|id| self.send_page(id));
    }

    /// Copies bytes into the pages; the first one is there, and a further one is never needed:
    /// pieces are 16 KiB, a block or a hash, and none of them straddles the end of a page.
    fn fill(&mut self, id: WriteId, bytes: &[u8]) {
        let write = self.writes.get_mut(id).expect("it is there");
        let room = write.room();
        assert!(bytes.len() <= room, "a piece lies within a page");
        write.page.as_mut().expect("a page was taken").extend(bytes);
        write.sent += bytes.len() as u64;
        if bytes.len() == room {
            self.send_page(id);
        }
    }

    /// Sends the page at hand on its way, if there is one.
    fn send_page(&mut self, id: WriteId) {
        let write = self.writes.get_mut(id).expect("it is there");
        let Some(page) = write.page.take() else { return };
        if page.is_empty() {
            return;
        }
        let length = u32::try_from(page.len()).expect("a page is below 4 GiB");
        let start = write.sent - u64::from(length);
        let block = u32::try_from(start / u64::from(BLOCK_BYTES)).expect("as long as a shard");
        let (extent, at) = block_of(&write.runs, block).expect("the space was set aside");
        write.in_flight += 1;
        let partition = write.partition;
        self.writes.in_flight += 1;
        let at = At { offset: u64::from(at) * u64::from(BLOCK_BYTES), length };
        self.extent_work(partition, extent, at, Some(page), Work::Write(id));
    }

    /// A page is written, or could not be.
    pub(crate) fn data_written(
        &mut self,
        partition: u8,
        extent: u32,
        id: WriteId,
        result: Result<FileValue, FileFault>,
    ) {
        self.writes.in_flight -= 1;
        let write = self.writes.get_mut(id).expect("a write stays until its pages are back");
        write.in_flight -= 1;
        let dead = write.stage == Stage::Dead;
        match result {
            Ok(_) => {
                let file = self.extent_file(partition, extent);
                file.dirty = true;
                if file.poisoned && !dead {
                    self.fail_write(id, StoreFault::ExtentPoisoned);
                }
            }
            Err(FileFault::NoSpace) => self.fail_write(id, StoreFault::NoSpace),
            Err(fault) => {
                self.fail_write(id, fault_of("writing a shard", &fault));
                let reason = format!("a write to extent {extent:08x} failed: {fault}");
                self.poison_extent(partition, extent, reason);
            }
        }
        self.bury_if_dead(id);
        self.maybe_written(id);
    }

    fn maybe_written(&mut self, id: WriteId) {
        let Some(write) = self.writes.get_mut(id) else { return };
        if write.stage == Stage::Sent && write.in_flight == 0 {
            write.stage = Stage::Written;
            let partition = write.partition;
            self.partition(partition).written.push(id);
        }
    }

    /// Ends a write with an event, unless it is over already.
    pub(crate) fn fail_write(&mut self, id: WriteId, fault: StoreFault) {
        let Some(write) = self.writes.get(id).filter(|write| write.stage != Stage::Dead) else {
            return;
        };
        let event = write.failed_event(id, fault);
        self.events.push_back(event);
        self.bury(id);
    }

    fn bury(&mut self, id: WriteId) {
        let write = self.writes.get_mut(id).expect("it is there");
        write.page = None;
        if write.stage != Stage::Dead {
            write.stage = Stage::Dead;
            let key = write.key;
            self.writes.keys.remove(&key);
        }
        self.bury_if_dead(id);
    }

    fn bury_if_dead(&mut self, id: WriteId) {
        let Some(write) = self.writes.get(id) else { return };
        if write.stage == Stage::Dead && write.in_flight == 0 {
            let write = self.writes.remove(id).expect("it is there");
            self.return_runs(write.partition, &write.runs);
        }
    }

    /// Ends every write that has blocks in this extent and is not safe yet.
    pub(crate) fn fail_writes_in(&mut self, partition: u8, extent: u32, fault: &StoreFault) {
        let touched = |write: &Write| {
            write.partition == partition
                && write.stage != Stage::Journaling
                && write.runs.iter().any(|run| run.extent == extent)
        };
        let all = self.writes.iter().filter(|(_, write)| touched(write));
        let ids: Vec<WriteId> = all.map(|(id, _)| id).collect();
        ids.into_iter().for_each(|id| self.fail_write(id, fault.clone()));
    }

    /// Wakes those that waited for a page, as long as there are pages.
    pub(crate) fn feed_hungry(&mut self) {
        for _ in 0..self.writes.hungry.len() {
            if self.pages.available() == 0 {
                if self.writes.in_flight == 0 {
                    self.send_all_pages();
                }
                return;
            }
            let Some(id) = self.writes.hungry.pop_front() else { return };
            let Some(write) = self.writes.get_mut(id) else { continue };
            write.hungry = false;
            if write.stage == Stage::Open && write.blob.is_none() {
                if self.can_append(id) {
                    self.events.push_back(Event::Appendable { id });
                } else {
                    self.writes.get_mut(id).expect("it is there").hungry = true;
                    self.writes.hungry.push_back(id);
                }
            } else {
                self.advance_write(id);
            }
        }
    }

    /// Extents that a write's sync has to cover.
    pub(crate) fn unsynced_extents(&self, id: WriteId) -> Vec<u32> {
        let Some(write) = self.writes.get(id) else { return Vec::new() };
        let part = &self.partitions[&write.partition];
        let dirty = |extent: &u32| {
            part.files.get(extent).is_some_and(|file| {
                file.dirty && matches!(file.state, ExtentState::Open(_)) && !file.poisoned
            })
        };
        write.runs.iter().map(|run| run.extent).filter(dirty).collect()
    }
}

// Pieces never straddle a page: groups, blocks and hashes divide it.
const _: () = assert!((PAGE_BYTES as usize).is_multiple_of(GROUP_BYTES));
const _: () = assert!(PAGE_BYTES == PAGE_BLOCKS * BLOCK_BYTES);
