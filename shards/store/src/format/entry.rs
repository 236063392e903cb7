//! Journal entries.

use pangea_base::{
    ChunkNumber, Code, GROUP_BYTES, Hash, Locator, PeerId, Prefix, ShardIndex, ShardKey, UnixTime,
    group_count,
};

use super::cursor::{Cursor, Fields};
use crate::limits::{
    BLOB_BYTES_MAX, BLOCK_BYTES, EXTENT_BLOCKS_MAX, EXTENT_NUMBER_MAX, PAGE_BLOCKS, RUNS_MAX,
    SHARD_BYTES_MAX,
};
use crate::space::Run;
use crate::types::{BlobKey, BlobKind, Key};

const SHARD_PUT: u8 = 1;
const BLOB_PUT: u8 = 2;
const SHARD_DELETED: u8 = 3;
const BLOB_DELETED: u8 = 4;
const CLOSED: u8 = 5;

/// The mark of what was stored by a clock that was doubted.
const DOUBTED: u8 = 1;

/// The longest entry: a put with the most runs.
pub(crate) const ENTRY_BYTES_MAX: usize = 168 + 12 * RUNS_MAX;
const _: () = assert!(ENTRY_BYTES_MAX <= super::BLOCK_BODY_MAX);

/// One thing that the journal says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    Put(Put),
    Deleted(Key),
    /// Of the version before: whoever owns it.
    DeletedOf(Named),
    Closed,
}

/// A name without an owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Named {
    Shard(ShardKey),
    Blob(BlobKey),
}

impl Named {
    pub(crate) fn by(self, owner: PeerId) -> Key {
        match self {
            Named::Shard(key) => Key::shard(owner, key),
            Named::Blob(key) => Key::blob(owner, key),
        }
    }
}

impl Key {
    pub(crate) fn named(&self) -> Named {
        match self {
            Key::Shard(shard) => Named::Shard(shard.key),
            Key::Blob(blob) => Named::Blob(blob.key),
        }
    }
}

/// Something is held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Put {
    pub key: Key,
    pub prefix: Prefix,
    /// `None` for blobs.
    pub code: Option<Code>,
    /// 0 for blobs.
    pub until: UnixTime,
    /// 0 for shards.
    pub order: u64,
    pub stored: UnixTime,
    /// `stored` was told by a clock that was doubted.
    pub doubted: bool,
    pub root: Hash,
    pub length: u64,
    pub runs: Vec<Run>,
}

/// Blocks that `length` bytes of this kind take, group table included; see `format.md`.
pub(crate) fn blocks_for(key: &Key, length: u64) -> u32 {
    let table = match key {
        Key::Shard(_) => table_bytes(length),
        Key::Blob(_) => 0,
    };
    let block = u64::from(BLOCK_BYTES);
    let blocks = length.div_ceil(block).saturating_add(table.div_ceil(block));
    u32::try_from(blocks).expect("lengths are below SHARD_BYTES_MAX")
}

/// Bytes of the group table on disk; none when the root says it all.
pub(crate) fn table_bytes(length: u64) -> u64 {
    match length <= GROUP_BYTES as u64 {
        true => 0,
        false => group_count(length).saturating_mul(32),
    }
}

/// Writes a put; returns its length.
pub(crate) fn put_bytes(put: &Put, out: &mut [u8]) -> usize {
    let mut fields = Fields::new(out);
    match put.key {
        Key::Shard(_) => {
            let (k, m) = put.code.expect("a shard has a code").into();
            put_key(&mut fields, SHARD_PUT, &put.key);
            fields.put(&[k, m]);
            fields.put(&put.until.0.to_le_bytes());
        }
        Key::Blob(_) => {
            put_key(&mut fields, BLOB_PUT, &put.key);
            fields.put(&put.order.to_le_bytes());
        }
    }
    fields.put(&[u8::from(put.prefix.0.is_some())]);
    fields.put(&put.prefix.0.unwrap_or([0; 6]));
    fields.put(&[if put.doubted { DOUBTED } else { 0 }]);
    fields.put(&put.stored.0.to_le_bytes());
    fields.put(&put.root.0);
    fields.put(&put.length.to_le_bytes());
    fields.put(&[u8::try_from(put.runs.len()).expect("RUNS_MAX fits a byte")]);
    for run in &put.runs {
        fields.put(&run.extent.to_le_bytes());
        fields.put(&run.start.to_le_bytes());
        fields.put(&run.blocks.to_le_bytes());
    }
    fields.used()
}

/// Writes a deletion; returns its length.
pub(crate) fn delete_bytes(key: &Key, out: &mut [u8]) -> usize {
    let mut fields = Fields::new(out);
    let kind = match key {
        Key::Shard(_) => SHARD_DELETED,
        Key::Blob(_) => BLOB_DELETED,
    };
    put_key(&mut fields, kind, key);
    fields.used()
}

/// The entry of a clean end.
pub(crate) const CLOSED_BYTES: [u8; 1] = [CLOSED];

fn put_key(fields: &mut Fields<'_>, kind: u8, key: &Key) {
    fields.put(&[kind]);
    fields.put(&key.owner().0);
    fields.put(&key.locator().0);
    match key {
        Key::Shard(shard) => {
            fields.put(&shard.key.chunk.0.to_le_bytes());
            fields.put(&[shard.key.index.0]);
        }
        Key::Blob(blob) => {
            fields.put(&[blob.key.kind as u8]);
            fields.put(&blob.key.id.0);
        }
    }
}

impl Entry {
    /// Reads the next entry; `None` if it is not one.
    pub(crate) fn read(fields: &mut Cursor<'_>) -> Option<Entry> {
        let kind = fields.u8()?;
        if kind == CLOSED {
            return Some(Entry::Closed);
        }
        let owner = PeerId(fields.array()?);
        match kind {
            SHARD_PUT => {
                let key = shard_key(fields)?;
                let code = Code::new(fields.u8()?, fields.u8()?)?;
                let until = UnixTime(fields.u64()?);
                let given = Given { code: Some(code), until, order: 0, ..given(fields)? };
                put(fields, Key::shard(owner, key), given)
            }
            BLOB_PUT => {
                let key = blob_key(fields)?;
                let order = fields.u64()?;
                let given = Given { order, ..given(fields)? };
                put(fields, Key::blob(owner, key), given)
            }
            SHARD_DELETED => Some(Entry::Deleted(Key::shard(owner, shard_key(fields)?))),
            BLOB_DELETED => Some(Entry::Deleted(Key::blob(owner, blob_key(fields)?))),
            _ => None,
        }
    }

    /// Reads the next entry of the version before this one.
    pub(crate) fn read_old(fields: &mut Cursor<'_>) -> Option<Entry> {
        match fields.u8()? {
            SHARD_PUT => {
                let key = shard_key(fields)?;
                let code = Code::new(fields.u8()?, fields.u8()?)?;
                let until = UnixTime(fields.u64()?);
                let owner = PeerId(fields.array()?);
                let given = Given { code: Some(code), until, ..Given::default() };
                put(fields, Key::shard(owner, key), given)
            }
            BLOB_PUT => {
                let key = blob_key(fields)?;
                let order = fields.u64()?;
                let owner = PeerId(fields.array()?);
                put(fields, Key::blob(owner, key), Given { order, ..Given::default() })
            }
            SHARD_DELETED => Some(Entry::DeletedOf(Named::Shard(shard_key(fields)?))),
            BLOB_DELETED => Some(Entry::DeletedOf(Named::Blob(blob_key(fields)?))),
            CLOSED => Some(Entry::Closed),
            _ => None,
        }
    }
}

/// What a put says between its key and the time of storing.
struct Given {
    code: Option<Code>,
    until: UnixTime,
    order: u64,
    prefix: Prefix,
    doubted: bool,
}

impl Default for Given {
    fn default() -> Given {
        let prefix = Prefix(None);
        Given { code: None, until: UnixTime(0), order: 0, prefix, doubted: false }
    }
}

fn given(fields: &mut Cursor<'_>) -> Option<Given> {
    let prefix = match (fields.u8()?, fields.array()?) {
        (0, [0, 0, 0, 0, 0, 0]) => Prefix(None),
        (1, network) => Prefix(Some(network)),
        _ => return None,
    };
    let doubted = match fields.u8()? {
        0 => false,
        DOUBTED => true,
        _ => return None,
    };
    Some(Given { prefix, doubted, ..Given::default() })
}

fn put(fields: &mut Cursor<'_>, key: Key, given: Given) -> Option<Entry> {
    let Given { code, until, order, prefix, doubted } = given;
    let stored = UnixTime(fields.u64()?);
    let root = Hash(fields.array()?);
    let length = fields.u64()?;
    let length_max = match key {
        Key::Shard(_) => SHARD_BYTES_MAX,
        Key::Blob(_) => BLOB_BYTES_MAX,
    };
    let runs_count = usize::from(fields.u8()?);
    if length > length_max || runs_count > RUNS_MAX {
        return None;
    }
    let mut runs = Vec::with_capacity(runs_count);
    for _ in 0..runs_count {
        runs.push(Run { extent: fields.u32()?, start: fields.u32()?, blocks: fields.u32()? });
    }
    runs_fit(&runs, blocks_for(&key, length)).then_some(())?;
    let put = Put { key, prefix, code, until, order, stored, doubted, root, length, runs };
    Some(Entry::Put(put))
}

/// Whether the runs make up exactly that many blocks, and pages never straddle two of them.
fn runs_fit(runs: &[Run], blocks: u32) -> bool {
    let whole = runs.iter().rev().skip(1).all(|run| run.blocks.is_multiple_of(PAGE_BLOCKS));
    let sane = runs.iter().all(|run| {
        let end = run.start.checked_add(run.blocks);
        let within = end.is_some_and(|end| end <= EXTENT_BLOCKS_MAX);
        run.start > 0 && run.blocks > 0 && within && run.extent <= EXTENT_NUMBER_MAX
    });
    let sum = runs.iter().try_fold(0u32, |sum, run| sum.checked_add(run.blocks));
    whole && sane && sum == Some(blocks)
}

fn shard_key(fields: &mut Cursor<'_>) -> Option<ShardKey> {
    Some(ShardKey {
        locator: Locator(fields.array()?),
        chunk: ChunkNumber(fields.u32()?),
        index: ShardIndex(fields.u8()?),
    })
}

fn blob_key(fields: &mut Cursor<'_>) -> Option<BlobKey> {
    let locator = Locator(fields.array()?);
    let number = fields.u8()?;
    let kind = BlobKind::ALL.into_iter().find(|kind| *kind as u8 == number)?;
    Some(BlobKey { locator, kind, id: Hash(fields.array()?) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn shard_put(length: u64, runs: Vec<Run>) -> Put {
        let key = ShardKey {
            locator: Locator([7; 32]),
            chunk: ChunkNumber(0x0102_0304),
            index: ShardIndex(9),
        };
        Put {
            key: Key::shard(PeerId([5; 32]), key),
            prefix: Prefix(Some([4, 0, 0, 192, 0, 2])),
            code: Code::new(10, 4),
            until: UnixTime(99),
            order: 0,
            stored: UnixTime(55),
            doubted: false,
            root: Hash([3; 32]),
            length,
            runs,
        }
    }

    fn run(extent: u32, start: u32, blocks: u32) -> Run {
        Run { extent, start, blocks }
    }

    fn read_back(put: &Put) -> Option<Entry> {
        let mut bytes = [0; ENTRY_BYTES_MAX];
        let length = put_bytes(put, &mut bytes);
        let mut cursor = Cursor::new(&bytes[..length]);
        let entry = Entry::read(&mut cursor);
        assert!(entry.is_none() || cursor.is_empty());
        entry
    }

    #[test]
    fn entries_read_back() {
        let many: Vec<Run> = (0..RUNS_MAX as u32).map(|n| run(n, 1, 16)).collect();
        // 1016 blocks of data and 8 of table, hashes of 254 groups.
        let long = 1022 * 4096;
        assert_eq!(blocks_for(&shard_put(0, vec![]).key, long), 1024);
        for put in [
            shard_put(0, vec![]),
            shard_put(1, vec![run(0, 1, 1)]),
            shard_put(16384, vec![run(4, 100, 4)]),
            shard_put(16385, vec![run(4, 100, 6)]),
            shard_put(16385, vec![run(EXTENT_NUMBER_MAX, EXTENT_BLOCKS_MAX - 6, 6)]),
            Put { prefix: Prefix(None), doubted: true, ..shard_put(0, vec![]) },
            shard_put(long, many),
        ] {
            assert_eq!(read_back(&put), Some(Entry::Put(put)));
        }
        let id = Hash([8; 32]);
        let key = BlobKey { locator: Locator([1; 32]), kind: BlobKind::Placement, id };
        let blob = Put {
            key: Key::blob(PeerId([6; 32]), key),
            code: None,
            until: UnixTime(0),
            order: 12,
            ..shard_put(40_000, vec![run(1, 1, 10)])
        };
        assert_eq!(read_back(&blob), Some(Entry::Put(blob.clone())));
        let mut bytes = [0; ENTRY_BYTES_MAX];
        let length = delete_bytes(&blob.key, &mut bytes);
        let entry = Entry::read(&mut Cursor::new(&bytes[..length]));
        assert_eq!(entry, Some(Entry::Deleted(blob.key)));
    }

    #[test]
    fn entries_that_cannot_be_are_refused() {
        for (length, runs) in [
            (4096, vec![]),
            (4096, vec![run(0, 0, 1)]),
            (4096, vec![run(0, 1, 2)]),
            (4096, vec![run(0, u32::MAX, 1)]),
            (4096, vec![run(0, EXTENT_BLOCKS_MAX, 1)]),
            (4096, vec![run(EXTENT_NUMBER_MAX + 1, 1, 1)]),
            (8192, vec![run(0, 1, 1), run(1, 1, 1)]),
            (0, vec![run(0, 1, 0)]),
        ] {
            assert_eq!(read_back(&shard_put(length, runs.clone())), None, "{length} {runs:?}");
        }
        let mut bytes = [0; ENTRY_BYTES_MAX];
        let length = put_bytes(&shard_put(1, vec![run(0, 1, 1)]), &mut bytes);
        for cut in 0..length {
            assert_eq!(Entry::read(&mut Cursor::new(&bytes[..cut])), None);
        }
        // k, the network's kind, a byte of a network that is none, the marks.
        for (at, wrong, right) in [(70, 0, 10), (80, 2, 1), (80, 0, 1), (87, 2, 0)] {
            bytes[at] = wrong;
            assert_eq!(Entry::read(&mut Cursor::new(&bytes[..length])), None, "byte {at}");
            bytes[at] = right;
        }
        assert!(Entry::read(&mut Cursor::new(&bytes[..length])).is_some());
        let at = length - 12 - 1 - 8;
        bytes[at..at + 8].copy_from_slice(&(SHARD_BYTES_MAX + 1).to_le_bytes());
        assert_eq!(Entry::read(&mut Cursor::new(&bytes[..length])), None);
    }
}
