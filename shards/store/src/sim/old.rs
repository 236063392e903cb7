//! Data directories of format 1, as the program before this one left them.

use pangea_base::{Code, GROUP_BYTES, GroupHasher, Hash, Prefix, UnixTime};

use super::Image;
use crate::format::{ENTRY_BYTES_MAX, Place, Put, blocks_for, old};
use crate::limits::BLOCK_BYTES;
use crate::names;
use crate::space::Run;
use crate::types::Key;

const BLOCK: usize = BLOCK_BYTES as usize;

/// What was put, and whether it was deleted afterwards.
#[derive(Clone, Debug)]
pub struct OldPut {
    /// Its name and owner.
    pub key: Key,
    /// Its lease.
    pub until: UnixTime,
    /// When it was stored.
    pub stored: UnixTime,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Deleted at the end.
    pub deleted: bool,
}

/// The files that hold these in one partition, with a journal of `step` bytes.
pub fn image(partition: u8, puts: &[OldPut], step: usize) -> Image {
    let mut extent = vec![0; BLOCK];
    let mut journal = Journal::new(partition);
    journal.commit(0, &[]);
    for (order, put) in (1..).zip(puts) {
        let put = held(put, order, &mut extent);
        let mut entry = [0; ENTRY_BYTES_MAX];
        let length = old::put_bytes(&put, &mut entry);
        journal.commit(1, &entry[..length]);
    }
    for put in puts.iter().filter(|put| put.deleted) {
        let mut entry = [0; ENTRY_BYTES_MAX];
        let length = old::delete_bytes(put.key.named(), &mut entry);
        journal.commit(1, &entry[..length]);
    }
    extent.resize(extent.len().next_multiple_of(32 * BLOCK), 0);
    let blocks = u32::try_from(extent.len() / BLOCK).expect("small");
    old::extent_block(&mut extent[..BLOCK], partition, 0, blocks);
    let mut bytes = journal.bytes;
    bytes.resize((bytes.len() + 2 * (64 << 10)).next_multiple_of(step), 0);
    let mut format = vec![0; BLOCK];
    old::version_block(&mut format);
    let mut image = Image::from([(names::format(), format)]);
    image.insert(names::journal(partition, 1), bytes);
    if puts.iter().any(|put| !put.bytes.is_empty()) {
        image.insert(names::extent(partition, 0), extent);
    }
    image
}

/// Writes the bytes behind what is there, and says where they are.
fn held(put: &OldPut, order: u64, extent: &mut Vec<u8>) -> Put {
    let mut hasher = GroupHasher::new();
    put.bytes.chunks(GROUP_BYTES).for_each(|group| hasher.push(group));
    let table = hasher.finish();
    let length = put.bytes.len() as u64;
    let blocks = blocks_for(&put.key, length);
    let start = u32::try_from(extent.len() / BLOCK).expect("small");
    extent.extend_from_slice(&put.bytes);
    extent.resize(extent.len().next_multiple_of(BLOCK), 0);
    let shard = matches!(put.key, Key::Shard(_));
    if shard && put.bytes.len() > GROUP_BYTES {
        table.groups().iter().for_each(|hash| extent.extend_from_slice(&hash.0));
    }
    extent.resize((start + blocks) as usize * BLOCK, 0);
    Put {
        key: put.key,
        prefix: Prefix(None),
        code: if shard { Code::new(10, 4) } else { None },
        until: put.until,
        order,
        stored: put.stored,
        doubted: false,
        root: table.root(),
        length,
        runs: if blocks == 0 { Vec::new() } else { vec![Run { extent: 0, start, blocks }] },
    }
}

struct Journal {
    place: Place,
    bytes: Vec<u8>,
    entries: u64,
    link: Hash,
}

impl Journal {
    fn new(partition: u8) -> Journal {
        let place = Place { partition, generation: 1 };
        Journal { place, bytes: Vec::new(), entries: 0, link: Hash([0; 32]) }
    }

    fn commit(&mut self, count: u64, entries: &[u8]) {
        let sequence = (self.bytes.len() / BLOCK) as u64;
        let mut block = vec![0; BLOCK];
        let Journal { place, link, .. } = self;
        old::journal_block(&mut block, *place, sequence, self.entries, link, entries);
        self.bytes.extend(block);
        self.entries += count;
    }
}
