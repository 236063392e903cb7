//! Journal blocks: packing entries into them, and telling what one on disk is.

use pangea_base::{Hash, Page};

use super::cursor::Cursor;
use super::entry::Entry;
use super::header::{opened, sealed};
use super::{VERSION, VERSION_OLD};
use crate::limits::{BLOCK_BYTES, COMMIT_BLOCKS_MAX};

const MAGIC: [u8; 8] = *b"PANGEAJB";
const HEAD_BYTES: usize = 120;
const BLOCK: usize = BLOCK_BYTES as usize;
/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// The most bytes of entries in one block.
pub(crate) const BLOCK_BODY_MAX: usize = BLOCK_BYTES as usize - HEAD_BYTES;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum BlockKind {
    Snapshot = 1,
    SnapshotEnd = 2,
    Commit = 3,
}

/// Which journal a block must belong to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub partition: u8,
    pub generation: u64,
}

/// Where the next block of a journal goes and what it links to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Chain {
    pub place: Place,
    pub next_block: u64,
    pub entries: u64,
    pub link: Hash,
}

impl Chain {
    /// The chain of a journal without blocks.
    pub(crate) fn start(place: Place) -> Chain {
        Chain { place, next_block: 0, entries: 0, link: Hash([0; 32]) }
    }
}

/// A valid block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Block {
    pub kind: BlockKind,
    pub checksum: Hash,
    pub commit_first: u64,
    pub entries_before: u64,
    pub link: Hash,
    pub entries: Vec<Entry>,
    /// Bytes that the file has at least.
    pub reserved: u64,
    /// It is of the version before this one.
    pub old: bool,
}

/// What 4096 bytes of a journal are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    /// Never written.
    Zero,
    /// Not a block of this journal at this place.
    Bad,
    /// Written by another version of this program.
    OtherVersion(u32),
    Valid(Block),
}

/// Tells what `bytes` are as block `sequence` of the journal at `place`.
pub(crate) fn see(bytes: &[u8], place: Place, sequence: u64) -> Seen {
    if bytes.iter().all(|byte| *byte == 0) {
        return Seen::Zero;
    }
    read(bytes, place, sequence).unwrap_or(Seen::Bad)
}

/// Whether a file that begins like this may be a journal of ours that was not finished: its first
/// sector was never written, or bears the mark.
pub(crate) fn may_be_journal(bytes: &[u8]) -> bool {
    let sector = bytes.get(..SECTOR_BYTES).unwrap_or(bytes);
    let marked = sector.get(32..).is_some_and(|rest| rest.starts_with(&MAGIC));
    marked || sector.iter().all(|byte| *byte == 0)
}

fn read(bytes: &[u8], place: Place, sequence: u64) -> Option<Seen> {
    let mut fields = Cursor::new(opened(bytes)?);
    if fields.array()? != MAGIC {
        return None;
    }
    let version = fields.u32()?;
    if version != VERSION && version != VERSION_OLD {
        return Some(Seen::OtherVersion(version));
    }
    let old = version == VERSION_OLD;
    let partition = fields.u8()?;
    let kind = match fields.u8()? {
        1 => BlockKind::Snapshot,
        2 => BlockKind::SnapshotEnd,
        3 => BlockKind::Commit,
        _ => return None,
    };
    let used = usize::from(fields.u16()?);
    let (generation, found_sequence) = (fields.u64()?, fields.u64()?);
    let (commit_first, entries_before) = (fields.u64()?, fields.u64()?);
    let link = Hash(fields.array()?);
    if (Place { partition, generation }) != place || found_sequence != sequence {
        return None;
    }
    let commit_fits = match kind {
        BlockKind::Commit => {
            commit_first > 0
                && commit_first <= sequence
                && sequence.checked_sub(commit_first)? < COMMIT_BLOCKS_MAX
        }
        BlockKind::Snapshot | BlockKind::SnapshotEnd => commit_first == 0,
    };
    if !commit_fits {
        return None;
    }
    let reserved = if old { 0 } else { fields.u64()? };
    let mut body = Cursor::new(fields.take(used)?);
    let mut entries = Vec::new();
    while !body.is_empty() {
        entries.push(if old { Entry::read_old(&mut body)? } else { Entry::read(&mut body)? });
    }
    let checksum = Hash(*bytes.first_chunk()?);
    let block =
        Block { kind, checksum, commit_first, entries_before, link, entries, reserved, old };
    Some(Seen::Valid(block))
}

/// Packs entries into the blocks of one page.
pub(crate) struct Packer {
    page: Page,
    chain: Chain,
    reserved: u64,
    kind: BlockKind,
    commit_first: u64,
    // Blocks of the page that are sealed, and what is in the one that is open.
    blocks: usize,
    used: usize,
    count: u64,
}

/// What a packer made.
pub(crate) struct Packed {
    pub page: Page,
    pub bytes: u32,
    pub chain: Chain,
}

impl Packer {
    /// Begins a page of blocks that continue `chain`, in a file of `reserved` bytes at least.
    pub(crate) fn new(page: Page, chain: Chain, kind: BlockKind, reserved: u64) -> Packer {
        let commit_first = match kind {
            BlockKind::Commit => chain.next_block,
            BlockKind::Snapshot | BlockKind::SnapshotEnd => 0,
        };
        Packer { page, chain, reserved, kind, commit_first, blocks: 0, used: 0, count: 0 }
    }

    /// Adds an entry; false if the page has no room for it.
    #[must_use]
    pub(crate) fn push(&mut self, entry: &[u8]) -> bool {
        assert!(!entry.is_empty() && entry.len() <= BLOCK_BODY_MAX, "an entry fits a block");
        if self.used.saturating_add(entry.len()) > BLOCK_BODY_MAX {
            if self.blocks.saturating_add(1) >= self.page.capacity() / BLOCK {
                return false;
            }
            self.seal(self.kind);
        }
        let start = self.blocks.saturating_mul(BLOCK).saturating_add(HEAD_BYTES);
        let at = start.saturating_add(self.used);
        let place = self.page.whole_mut().get_mut(at..at.saturating_add(entry.len()));
        place.expect("an entry fits its block").copy_from_slice(entry);
        self.used = self.used.saturating_add(entry.len());
        self.count = self.count.saturating_add(1);
        true
    }

    /// Whether nothing was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.blocks == 0 && self.count == 0
    }

    /// Seals the open block, as `kind`, and gives the page.
    pub(crate) fn finish(mut self, kind: BlockKind) -> Packed {
        self.seal(kind);
        let bytes = self.blocks.saturating_mul(BLOCK);
        self.page.set_len(bytes);
        let bytes = u32::try_from(bytes).expect("a page is below 4 GiB");
        Packed { page: self.page, bytes, chain: self.chain }
    }

    fn seal(&mut self, kind: BlockKind) {
        let at = self.blocks.saturating_mul(BLOCK);
        let whole = self.page.whole_mut();
        let block = whole.get_mut(at..at.saturating_add(BLOCK)).expect("the page has this block");
        let mut body = [0; BLOCK_BODY_MAX];
        let used = self.used;
        let (body, _) = body.split_at_mut(used);
        let end = HEAD_BYTES.saturating_add(used);
        body.copy_from_slice(block.get(HEAD_BYTES..end).expect("the body lies in the block"));
        let chain = &self.chain;
        sealed(block, |fields| {
            fields.put(&MAGIC);
            fields.put(&VERSION.to_le_bytes());
            fields.put(&[chain.place.partition, kind as u8]);
            fields.put(&u16::try_from(used).expect("a body is below 4 KiB").to_le_bytes());
            fields.put(&chain.place.generation.to_le_bytes());
            fields.put(&chain.next_block.to_le_bytes());
            fields.put(&self.commit_first.to_le_bytes());
            fields.put(&chain.entries.to_le_bytes());
            fields.put(&chain.link.0);
            fields.put(&self.reserved.to_le_bytes());
            fields.put(body);
        });
        let checksum = block.first_chunk().expect("a block begins with its checksum");
        self.chain.link = Hash(*checksum);
        self.chain.next_block = self.chain.next_block.saturating_add(1);
        self.chain.entries = self.chain.entries.saturating_add(self.count);
        self.blocks = self.blocks.saturating_add(1);
        (self.used, self.count) = (0, 0);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use pangea_base::PagePool;

    use super::super::entry::{ENTRY_BYTES_MAX, put_bytes, tests::shard_put};
    use super::*;
    use crate::space::Run;

    const PLACE: Place = Place { partition: 3, generation: 9 };

    fn packed(entries: usize) -> (Packed, usize) {
        let pool = PagePool::new(65536, 1);
        let chain = Chain { next_block: 5, ..Chain::start(PLACE) };
        let mut packer = Packer::new(pool.take().unwrap(), chain, BlockKind::Commit, 1 << 19);
        let mut bytes = [0; ENTRY_BYTES_MAX];
        let put = shard_put(1, vec![Run { extent: 0, start: 1, blocks: 1 }]);
        let length = put_bytes(&put, &mut bytes);
        let taken = (0..entries).take_while(|_| packer.push(&bytes[..length])).count();
        (packer.finish(BlockKind::Commit), taken)
    }

    #[test]
    fn blocks_read_back_and_are_linked() {
        let (packed, taken) = packed(100);
        assert_eq!(taken, 100);
        assert_eq!(packed.bytes, 4 * 4096);
        let (mut link, mut count) = (Hash([0; 32]), 0);
        for (sequence, bytes) in (5..).zip(packed.page.chunks(4096)) {
            let Seen::Valid(block) = see(bytes, PLACE, sequence) else { panic!("not valid") };
            assert_eq!((block.link, block.commit_first, block.entries_before), (link, 5, count));
            assert_eq!((block.reserved, block.old), (1 << 19, false));
            link = block.checksum;
            count += block.entries.len() as u64;
            assert_eq!(see(bytes, PLACE, sequence + 1), Seen::Bad);
            assert_eq!(see(bytes, Place { partition: 4, ..PLACE }, sequence), Seen::Bad);
            assert_eq!(see(bytes, Place { generation: 8, ..PLACE }, sequence), Seen::Bad);
        }
        assert_eq!((packed.chain.entries, packed.chain.next_block), (100, 9));
        assert_eq!(packed.chain.link, link);
    }

    #[test]
    fn a_page_takes_16_blocks_and_not_one_more() {
        let (packed, taken) = packed(10_000);
        assert_eq!(packed.bytes, 65536);
        assert_eq!(taken, 16 * (BLOCK_BODY_MAX / 149));
    }

    #[test]
    fn any_flipped_bit_of_a_block_is_noticed() {
        let (packed, _) = packed(20);
        let mut bytes = packed.page[..4096].to_vec();
        for bit in 0..4096 * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(see(&bytes, PLACE, 5), Seen::Bad, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(see(&[0; 4096], PLACE, 5), Seen::Zero);
        assert_eq!(see(&bytes[..4000], PLACE, 5), Seen::Bad);
    }
}
