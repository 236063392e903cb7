//! What follows a message on its stream: the units of a put, the groups of a fetch, raw pages.

use bytes::{BufMut, Bytes, BytesMut};
use pangea_base::{GROUP_BYTES, GroupTable, Hash, group_count};

use crate::fetch::ShardBegins;
use crate::limits::{PAGE_BYTES_MAX, SHARD_BYTES_MAX, UNIT_BYTES_MAX};
use crate::reader::FrameReader;
use crate::store::StoreTrailer;
use crate::{Message, PeerSent};

/// What stands before a unit: its length. A unit of 0 or of more than a group is a bug of ours.
pub fn unit_header(unit_bytes: usize) -> [u8; 4] {
    assert!((1..=UNIT_BYTES_MAX).contains(&unit_bytes), "a unit has 1 to 16384 bytes");
    u32::try_from(unit_bytes).expect("units are short").to_le_bytes()
}

/// Stands behind the last unit.
pub const UNITS_END: [u8; 4] = [0; 4];

/// The body of a put, as the holder reads it.
#[derive(Debug)]
pub struct PutBody {
    length_max: u64,
    length: u64,
    state: PutState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PutState {
    Units,
    // A short unit came: only the end may follow.
    ShortUnit,
    Trailer,
    Done,
}

/// A part of the body of a put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutPart {
    /// The next bytes of the shard: a whole group, or the short last one.
    Unit(Bytes),
    /// The end; its length is the sum of all units. The root is for the holder to compare.
    Trailer(StoreTrailer),
}

impl PutBody {
    /// Expects at most `length_max` bytes, as the (parsed) header said.
    pub fn new(length_max: u64) -> PutBody {
        assert!(length_max <= SHARD_BYTES_MAX, "the header was parsed and has this limit");
        PutBody { length_max, length: 0, state: PutState::Units }
    }

    /// The next part, or `None` until more is pushed. After the trailer always `None`.
    pub fn next(&mut self, reader: &mut FrameReader) -> Result<Option<PutPart>, PeerSent> {
        match self.state {
            PutState::Units | PutState::ShortUnit => self.unit(reader),
            PutState::Trailer => self.trailer(reader),
            PutState::Done if reader.buffered() > 0 => {
                Err(PeerSent::AfterTheEnd(StoreTrailer::NAME))
            }
            PutState::Done => Ok(None),
        }
    }

    /// Bytes of the shard handed on so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The peer has ended the stream: fine only behind the trailer.
    pub fn end(&self) -> Result<(), PeerSent> {
        match self.state {
            PutState::Done => Ok(()),
            PutState::Trailer => Err(PeerSent::EndedInside(StoreTrailer::NAME)),
            _ => Err(PeerSent::EndedInside("shard")),
        }
    }

    fn unit(&mut self, reader: &mut FrameReader) -> Result<Option<PutPart>, PeerSent> {
        let Some(length) = reader.peek::<4>().map(u32::from_le_bytes) else { return Ok(None) };
        if length == 0 {
            if self.length == 0 {
                return Err(PeerSent::BodyEmpty);
            }
            reader.exact(4);
            self.state = PutState::Trailer;
            return self.trailer(reader);
        }
        let count = usize::try_from(length).unwrap_or(usize::MAX);
        if count > UNIT_BYTES_MAX {
            return Err(PeerSent::UnitTooLong(length));
        }
        if self.state == PutState::ShortUnit {
            return Err(PeerSent::UnitAfterShort);
        }
        let total = self.length.saturating_add(u64::from(length));
        if total > self.length_max {
            return Err(PeerSent::BodyOverMax(self.length_max));
        }
        let Some(unit) = reader.headed::<4>(count) else { return Ok(None) };
        self.length = total;
        if count < UNIT_BYTES_MAX {
            self.state = PutState::ShortUnit;
        }
        Ok(Some(PutPart::Unit(unit)))
    }

    fn trailer(&mut self, reader: &mut FrameReader) -> Result<Option<PutPart>, PeerSent> {
        let Some(trailer) = reader.message::<StoreTrailer>()? else { return Ok(None) };
        if trailer.length != self.length {
            let (said, received) = (trailer.length, self.length);
            return Err(PeerSent::TrailerLength { said, received });
        }
        self.state = PutState::Done;
        Ok(Some(PutPart::Trailer(trailer)))
    }
}

/// The group hashes of a shard as they follow [`crate::FetchResponse::Shard`].
pub fn table_bytes(table: &GroupTable) -> Bytes {
    let mut out = BytesMut::with_capacity(table.groups().len().saturating_mul(32));
    table.groups().iter().for_each(|group| out.put_slice(&group.0));
    out.freeze()
}

/// What the manifest says of a shard that was asked for, and where it should begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardExpected {
    /// The shard's root.
    pub root: Hash,
    /// The shard's bytes.
    pub length: u64,
    /// The group that was asked for.
    pub first_group: u32,
}

/// The body of a fetched shard: gathers the group hashes, checks that they belong to the root in
/// the manifest, then hands on one verified group after another.
#[derive(Debug)]
pub struct ShardBody {
    root: Hash,
    length: u64,
    next_group: u64,
    hashes: Vec<Hash>,
    table: Option<GroupTable>,
}

impl ShardBody {
    /// Refuses at once a shard that is not the one that was asked for.
    pub fn new(begins: &ShardBegins, expected: &ShardExpected) -> Result<ShardBody, PeerSent> {
        if begins.length != expected.length {
            let (offered, expected) = (begins.length, expected.length);
            return Err(PeerSent::ShardLength { offered, expected });
        }
        if begins.root != expected.root {
            return Err(PeerSent::ShardRoot);
        }
        if begins.first_group != expected.first_group {
            let (offered, asked) = (begins.first_group, expected.first_group);
            return Err(PeerSent::FirstGroup { offered, asked });
        }
        Ok(ShardBody {
            root: begins.root,
            length: begins.length,
            next_group: u64::from(begins.first_group),
            hashes: Vec::new(),
            table: None,
        })
    }

    /// The next group, verified, or `None` until more is pushed. After the last always `None`.
    pub fn next(&mut self, reader: &mut FrameReader) -> Result<Option<Bytes>, PeerSent> {
        if self.table.is_none() {
            self.gather_hashes(reader)?;
        }
        let Some(table) = &self.table else { return Ok(None) };
        let count = table.group_bytes(self.next_group);
        if count == 0 {
            return match reader.buffered() {
                0 => Ok(None),
                _ => Err(PeerSent::AfterTheEnd("shard")),
            };
        }
        let Some(group) = reader.exact(count) else { return Ok(None) };
        if !table.holds(self.next_group, &group) {
            return Err(PeerSent::Group(self.next_group));
        }
        self.next_group = self.next_group.saturating_add(1);
        Ok(Some(group))
    }

    /// The number of the group that [`ShardBody::next`] gives next.
    pub fn next_group(&self) -> u64 {
        self.next_group
    }

    /// Whether all of it was handed on.
    pub fn done(&self) -> bool {
        self.next_group >= group_count(self.length)
    }

    /// The peer has ended the stream: fine only when all of it came.
    pub fn end(&self) -> Result<(), PeerSent> {
        if self.done() { Ok(()) } else { Err(PeerSent::EndedInside("shard")) }
    }

    fn gather_hashes(&mut self, reader: &mut FrameReader) -> Result<(), PeerSent> {
        // At most 16,384: the length was checked against SHARD_BYTES_MAX when it was parsed.
        let count = group_count(self.length);
        while (self.hashes.len() as u64) < count {
            let Some(hash) = reader.peek::<32>() else { return Ok(()) };
            reader.exact(32);
            self.hashes.push(Hash(hash));
        }
        let hashes = std::mem::take(&mut self.hashes);
        let table = GroupTable::verified(self.root, self.length, hashes);
        self.table = Some(table.map_err(|_| PeerSent::Table)?);
        Ok(())
    }
}

/// The raw bytes of a manifest or placement page, gathered as they come.
#[derive(Debug)]
pub struct BlobBody {
    length: usize,
    bytes: BytesMut,
    done: bool,
}

impl BlobBody {
    /// Expects `length` bytes; refuses more than `limit`, which is at most 1 MiB.
    pub fn new(length: u32, limit: usize) -> Result<BlobBody, PeerSent> {
        assert!(limit <= PAGE_BYTES_MAX, "no page may be that long");
        match usize::try_from(length) {
            Ok(bytes) if bytes <= limit => {
                Ok(BlobBody { length: bytes, bytes: BytesMut::new(), done: false })
            }
            _ => Err(PeerSent::BlobTooLong { offered: length, limit }),
        }
    }

    /// All of it, once it is there; to be asked again after each push. Afterwards always `None`.
    pub fn next(&mut self, reader: &mut FrameReader) -> Result<Option<Bytes>, PeerSent> {
        while !self.done && self.bytes.len() < self.length {
            let missing = self.length.saturating_sub(self.bytes.len());
            let Some(part) = reader.some(missing.min(GROUP_BYTES)) else { return Ok(None) };
            self.bytes.extend_from_slice(&part);
        }
        if reader.buffered() > 0 {
            return Err(PeerSent::AfterTheEnd("page"));
        }
        let given = std::mem::replace(&mut self.done, true);
        Ok((!given).then(|| self.bytes.split().freeze()))
    }

    /// The peer has ended the stream: fine only when all of it came.
    pub fn end(&self) -> Result<(), PeerSent> {
        if self.done { Ok(()) } else { Err(PeerSent::EndedInside("page")) }
    }
}
