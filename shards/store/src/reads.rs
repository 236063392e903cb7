//! Reads of pages, tables and blobs.

use bytes::Bytes;
use pangea_base::file::{FileFault, FileValue};
use pangea_base::{GroupTable, Hash, Locator, Page, PeerId, group_count};

use crate::extents::{At, fault_of};
use crate::index::{BlobFound, block_of};
use crate::limits::{BLOCK_BYTES, PAGE_BYTES, READS_MAX};
use crate::ops::Work;
use crate::space::Run;
use crate::store::Store;
use crate::types::{
    BlobKey, BlobKind, Event, Key, OwnedBlob, OwnedShard, Owners, PlacementFound, ReadRefused,
    StoreFault,
};

/// The reads under way.
#[derive(Default)]
pub(crate) struct Reads {
    slots: Vec<Option<Read>>,
    free: Vec<u32>,
    count: usize,
    /// Tables and blobs whose next page waits for a free one.
    hungry: Vec<u32>,
}

struct Read {
    token: u64,
    partition: u8,
    // What must not be given to others before the read is over.
    runs: Vec<Run>,
    // The next byte to read and the end, within the string of blocks.
    at: u64,
    end: u64,
    kind: Kind,
}

enum Kind {
    Page { length: u32 },
    Table { root: Hash, length: u64, hashes: Vec<Hash> },
    Blob { root: Hash, bytes: Vec<u8> },
}

impl Reads {
    fn add(&mut self, read: Read) -> u32 {
        self.count += 1;
        match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(read);
                slot
            }
            None => {
                self.slots.push(Some(read));
                u32::try_from(self.slots.len() - 1).expect("reads are few")
            }
        }
    }

    fn remove(&mut self, slot: u32) -> Read {
        self.count -= 1;
        self.free.push(slot);
        self.slots[slot as usize].take().expect("a read ends once")
    }

    fn get_mut(&mut self, slot: u32) -> &mut Read {
        self.slots[slot as usize].as_mut().expect("a read is there until it ends")
    }

    /// Whether a read needs one of these blocks.
    pub(crate) fn touch(&self, partition: u8, run: &Run) -> bool {
        self.slots.iter().flatten().any(|read| {
            read.partition == partition && read.runs.iter().any(|other| other.overlaps(run))
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl Store {
    /// Reads up to a page of a shard from `offset`, a multiple of 64 KiB before its end;
    /// [`Event::Read`] or [`Event::ReadFailed`] follows with the token.
    pub fn read(&mut self, shard: &OwnedShard, offset: u64, token: u64) -> Result<(), ReadRefused> {
        let length = self.readable(shard)?.0;
        if !offset.is_multiple_of(u64::from(PAGE_BYTES)) || offset >= length {
            return Err(ReadRefused::BadOffset);
        }
        let page = self.pages.take().map_err(|_| ReadRefused::NoPage)?;
        let left = u32::try_from(length - offset).unwrap_or(u32::MAX).min(PAGE_BYTES);
        let block = u32::try_from(offset / u64::from(BLOCK_BYTES)).expect("as long as a shard");
        let place = self.index.locate(&Key::Shard(*shard), block);
        let (partition, extent, start) = place.expect("the offset is before the end");
        let blocks = left.div_ceil(BLOCK_BYTES);
        let runs = vec![Run { extent, start, blocks }];
        let (at, end) = (0, u64::from(left));
        let slot = self.reads.add(Read {
            token,
            partition,
            runs,
            at,
            end,
            kind: Kind::Page { length: left },
        });
        self.send_read(slot, page);
        Ok(())
    }

    /// Reads a shard's group table; [`Event::Table`] or [`Event::ReadFailed`] follows.
    pub fn table(&mut self, shard: &OwnedShard, token: u64) -> Result<(), ReadRefused> {
        let (length, root) = self.readable(shard)?;
        let put = self.index.get(&Key::Shard(*shard)).expect("it is held");
        let partition = self.index.partition(&put.key).expect("it is held");
        if group_count(length) == 1 {
            self.end_table(token, root, length, vec![root]);
            return Ok(());
        }
        let at = length.next_multiple_of(u64::from(BLOCK_BYTES));
        let end = at + group_count(length) * 32;
        let kind = Kind::Table { root, length, hashes: Vec::new() };
        self.begin_long(Read { token, partition, runs: put.runs, at, end, kind });
        Ok(())
    }

    /// Reads a blob, whoever owns it: for those that are named by their hash. [`Event::Blob`] or
    /// [`Event::ReadFailed`] follows.
    pub fn blob(
        &mut self,
        kind: BlobKind,
        locator: Locator,
        id: Hash,
        token: u64,
    ) -> Result<(), ReadRefused> {
        self.may_read()?;
        let mut all = self.index.blobs_named(BlobKey { locator, kind, id });
        let found = all.find(|found| !self.is_blob_over(found)).map(|found| found.key);
        drop(all);
        self.begin_blob(found.ok_or(ReadRefused::NotHeld)?, token);
        Ok(())
    }

    /// Whose placement page of this number there is.
    pub fn placement_of(
        &self,
        locator: Locator,
        page: u32,
        whose: Owners,
    ) -> Option<PlacementFound> {
        let key = BlobKey::placement(locator, page);
        let asked = |owner: PeerId| match whose {
            Owners::Of(peer) => owner >= peer,
            Owners::First => true,
            Owners::Behind(peer) => owner > peer,
        };
        let all = self.index.blobs_named(key);
        let all = all.filter(|found| !self.is_blob_over(found) && asked(found.key.owner));
        let (mut first, mut count) = (None::<BlobFound>, 0);
        for found in all {
            count += 1;
            if first.is_none_or(|first| found.key.owner < first.key.owner) {
                first = Some(found);
            }
        }
        let BlobFound { key, length, order, .. } = first?;
        let owner = key.owner;
        if matches!(whose, Owners::Of(peer) if peer != owner) {
            return None;
        }
        Some(PlacementFound { owner, more: count > 1, order, length })
    }

    /// Reads that page; [`Event::Blob`] or [`Event::ReadFailed`] follows.
    pub fn placement(
        &mut self,
        locator: Locator,
        page: u32,
        whose: Owners,
        token: u64,
    ) -> Result<PlacementFound, ReadRefused> {
        self.may_read()?;
        let found = self.placement_of(locator, page, whose).ok_or(ReadRefused::NotHeld)?;
        let key = BlobKey::placement(locator, page);
        self.begin_blob(OwnedBlob { key, owner: found.owner }, token);
        Ok(found)
    }

    fn begin_blob(&mut self, blob: OwnedBlob, token: u64) {
        let put = self.index.get(&Key::Blob(blob)).expect("it was just found");
        let partition = self.index.partition(&put.key).expect("it is held");
        let kind = Kind::Blob { root: put.root, bytes: Vec::new() };
        let (at, end) = (0, put.length);
        self.begin_long(Read { token, partition, runs: put.runs, at, end, kind });
    }

    fn may_read(&self) -> Result<(), ReadRefused> {
        if !self.is_open() {
            return Err(ReadRefused::NotReady);
        }
        match self.reads.count >= READS_MAX {
            true => Err(ReadRefused::TooManyReads { limit: READS_MAX }),
            false => Ok(()),
        }
    }

    fn readable(&self, shard: &OwnedShard) -> Result<(u64, Hash), ReadRefused> {
        self.may_read()?;
        let info = self.shard(shard).ok_or(ReadRefused::NotHeld)?;
        Ok((info.length, info.root))
    }

    fn begin_long(&mut self, read: Read) {
        self.work = true;
        let slot = self.reads.add(read);
        self.go_on_reading(slot);
    }

    /// Reads the next page of a table or blob, or ends it.
    fn go_on_reading(&mut self, slot: u32) {
        let read = self.reads.get_mut(slot);
        if read.at >= read.end {
            return self.end_long(slot);
        }
        match self.page_always() {
            Some(page) => self.send_read(slot, page),
            None => self.reads.hungry.push(slot),
        }
    }

    /// Goes on with tables and blobs, as far as there are pages.
    pub(crate) fn feed_reads(&mut self) {
        for slot in std::mem::take(&mut self.reads.hungry) {
            self.go_on_reading(slot);
        }
    }

    fn send_read(&mut self, slot: u32, page: Page) {
        let read = self.reads.get_mut(slot);
        let block_bytes = u64::from(BLOCK_BYTES);
        let block = u32::try_from(read.at / block_bytes).expect("as long as a shard");
        let (extent, start) = block_of(&read.runs, block).expect("it lies in its runs");
        let length = read.piece_end() - read.at / block_bytes * block_bytes;
        let length = u32::try_from(length.next_multiple_of(block_bytes)).expect("within a page");
        let partition = read.partition;
        let at = At { offset: u64::from(start) * block_bytes, length };
        self.extent_work(partition, extent, at, Some(page), Work::Read(slot));
    }

    /// A page was read, or could not be.
    pub(crate) fn read_done(
        &mut self,
        slot: u32,
        page: Option<Page>,
        result: Result<FileValue, FileFault>,
    ) {
        let mut page = page.expect("a page comes back");
        let read = self.reads.get_mut(slot);
        let needed = read.piece_end() - read.at / u64::from(BLOCK_BYTES) * u64::from(BLOCK_BYTES);
        let fault = match result {
            Ok(FileValue::Bytes(bytes)) if u64::from(bytes) >= needed => None,
            Ok(_) => Some(StoreFault::Damaged("extent, which is too short,")),
            Err(fault) => Some(fault_of("reading", &fault)),
        };
        if let Some(fault) = fault {
            let token = self.end_read(slot).token;
            self.give_back(page);
            self.events.push_back(Event::ReadFailed { token, fault });
            return;
        }
        page.set_len(usize::try_from(needed).expect("within a page"));
        let end = read.piece_end();
        let skip = usize::try_from(read.at % u64::from(BLOCK_BYTES)).expect("below a block");
        match &mut read.kind {
            Kind::Page { length } => {
                page.set_len(*length as usize);
                let token = self.end_read(slot).token;
                self.events.push_back(Event::Read { token, page });
                return;
            }
            Kind::Table { hashes, .. } => {
                let (whole, _) = page[skip..].as_chunks::<32>();
                hashes.extend(whole.iter().map(|hash| Hash(*hash)));
            }
            Kind::Blob { bytes, .. } => bytes.extend_from_slice(&page[skip..]),
        }
        read.at = end;
        self.give_back(page);
        self.go_on_reading(slot);
    }

    fn end_long(&mut self, slot: u32) {
        let read = self.end_read(slot);
        let token = read.token;
        match read.kind {
            Kind::Table { root, length, hashes } => self.end_table(token, root, length, hashes),
            Kind::Blob { root, bytes } => {
                let event = match Hash::of(&bytes) == root {
                    true => Event::Blob { token, bytes: Bytes::from(bytes) },
                    false => {
                        let fault = StoreFault::Damaged("manifest page or placement");
                        Event::ReadFailed { token, fault }
                    }
                };
                self.events.push_back(event);
            }
            Kind::Page { .. } => unreachable!("a page is read at once"),
        }
    }

    fn end_table(&mut self, token: u64, root: Hash, length: u64, hashes: Vec<Hash>) {
        let event = match GroupTable::verified(root, length, hashes) {
            Ok(table) => Event::Table { token, table },
            Err(_) => Event::ReadFailed { token, fault: StoreFault::Damaged("group table") },
        };
        self.events.push_back(event);
    }

    fn end_read(&mut self, slot: u32) -> Read {
        let read = self.reads.remove(slot);
        // What was deleted under it can go now.
        for (partition, run) in std::mem::take(&mut self.releasing) {
            self.release(partition, run);
        }
        read
    }
}

impl Read {
    /// The end of what the next page holds: pages end where the string is a multiple of 64 KiB.
    fn piece_end(&self) -> u64 {
        let page = u64::from(PAGE_BYTES);
        ((self.at / page + 1) * page).min(self.end)
    }
}
