//! What is known of each shard and blob being written.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use pangea_base::{Code, GROUP_BYTES, GroupHasher, GroupTable, Hash, Page, Prefix, UnixTime};

use crate::format::Put;
use crate::index::disk_bytes;
use crate::limits::PAGE_BYTES;
use crate::space::Run;
use crate::types::{Clock, Event, Key, Replaced, StoreFault, WriteId};

/// How far a write has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Takes bytes.
    Open,
    /// Committed; its last pages are not on their way yet.
    Finishing,
    /// All pages are on their way or written.
    Sent,
    /// All pages are written; waits for its extents' syncs.
    Written,
    /// Waits for its journal entry.
    Journaling,
    /// Over; waits for the driver to give its pages back.
    Dead,
}

/// One shard or blob being written.
pub(crate) struct Write {
    pub key: Key,
    pub stage: Stage,
    pub partition: u8,
    pub runs: Vec<Run>,
    /// Which blob is newer; 0 for shards.
    pub order: u64,
    pub prefix: Prefix,
    pub code: Option<Code>,
    pub until: UnixTime,
    /// The clock when it was begun.
    pub stored: Clock,
    pub length_max: u64,
    pub length: u64,
    pub hasher: GroupHasher,
    pub table: Option<GroupTable>,
    // Bytes of the string of blocks that are in pages: data, then padding, then the table.
    pub sent: u64,
    pub page: Option<Page>,
    pub in_flight: u16,
    pub hungry: bool,
    pub blob: Option<BlobSource>,
}

/// What a blob still has to be fed.
pub(crate) struct BlobSource {
    pub bytes: Bytes,
    pub token: u64,
}

/// The writes by slot; an id is used once.
#[derive(Default)]
pub(crate) struct Writes {
    pub slots: Vec<(u32, Option<Write>)>,
    pub free: Vec<u32>,
    pub keys: BTreeSet<Key>,
    pub shards: usize,
    pub blobs: usize,
    /// Those that wait for a page, in the order of asking.
    pub hungry: VecDeque<WriteId>,
    /// Pages with bytes of shards that the driver has.
    pub in_flight: usize,
}

impl Writes {
    pub(crate) fn add(&mut self, write: Write) -> WriteId {
        match write.blob {
            Some(_) => self.blobs += 1,
            None => self.shards += 1,
        }
        self.keys.insert(write.key);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            u32::try_from(self.slots.len() - 1).expect("writes are few")
        });
        let (turn, place) = &mut self.slots[slot as usize];
        *turn = turn.wrapping_add(1);
        *place = Some(write);
        WriteId { slot, turn: *turn }
    }

    pub(crate) fn get(&self, id: WriteId) -> Option<&Write> {
        let (turn, write) = self.slots.get(id.slot as usize)?;
        write.as_ref().filter(|_| *turn == id.turn)
    }

    pub(crate) fn get_mut(&mut self, id: WriteId) -> Option<&mut Write> {
        let (turn, write) = self.slots.get_mut(id.slot as usize)?;
        write.as_mut().filter(|_| *turn == id.turn)
    }

    pub(crate) fn remove(&mut self, id: WriteId) -> Option<Write> {
        self.get(id)?;
        let write = self.slots[id.slot as usize].1.take()?;
        match write.blob {
            Some(_) => self.blobs -= 1,
            None => self.shards -= 1,
        }
        self.free.push(id.slot);
        if write.stage != Stage::Dead {
            self.keys.remove(&write.key);
        }
        Some(write)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.shards + self.blobs == 0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (WriteId, &Write)> + '_ {
        (0..).zip(&self.slots).filter_map(|(slot, (turn, write))| {
            write.as_ref().map(|write| (WriteId { slot, turn: *turn }, write))
        })
    }
}

impl Write {
    /// What the journal says of it.
    pub(crate) fn put(&self) -> Put {
        Put {
            key: self.key,
            prefix: self.prefix,
            code: self.code,
            until: self.until,
            order: self.order,
            stored: self.stored.time(),
            doubted: matches!(self.stored, Clock::Doubted(_)),
            root: self.table.as_ref().expect("it is finished").root(),
            length: self.length,
            runs: self.runs.clone(),
        }
    }

    pub(crate) fn stored_event(&self, id: WriteId, replaced: Option<Replaced>) -> Event {
        let bytes = disk_bytes(&self.runs);
        match &self.blob {
            Some(blob) => Event::BlobStored { token: blob.token, bytes, replaced },
            None => {
                let root = self.table.as_ref().expect("it is finished").root();
                Event::Stored { id, root, length: self.length, bytes, replaced }
            }
        }
    }

    pub(crate) fn failed_event(&self, id: WriteId, fault: StoreFault) -> Event {
        match &self.blob {
            Some(blob) => Event::BlobFailed { token: blob.token, fault },
            None => Event::WriteFailed { id, fault },
        }
    }

    /// Room in the page at hand; a page ends where the string of blocks is a multiple of 64 KiB.
    pub(crate) fn room(&self) -> usize {
        (u64::from(PAGE_BYTES) - self.sent % u64::from(PAGE_BYTES)) as usize
    }

    pub(crate) fn table_hashes(&self) -> &[Hash] {
        match (&self.key, &self.table) {
            (Key::Shard(_), Some(table)) if table.length() > GROUP_BYTES as u64 => table.groups(),
            _ => &[],
        }
    }
}
