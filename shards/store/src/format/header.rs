//! The version file, and the first block of an extent.

use pangea_base::PeerId;

use super::cursor::{Cursor, Fields};
use super::{VERSION, VERSION_OLD};
use crate::limits::BLOCK_BYTES;

const VERSION_MAGIC: [u8; 8] = *b"PANGEAST";
const EXTENT_MAGIC: [u8; 8] = *b"PANGEAEX";
const CHECKSUM_BYTES: usize = 32;

/// What the version file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Version {
    /// Nothing yet: a first start that was cut short, or none before.
    Unwritten,
    /// Not what was ever written.
    Damaged,
    /// The version before, which does not say whose it is.
    Old,
    /// This version, of this node.
    Of(PeerId),
    /// Another version.
    Other(u32),
}

/// Fills the first block of `out` with the version file.
pub(crate) fn version_block(out: &mut [u8], node: PeerId) {
    sealed(out, |fields| {
        fields.put(&VERSION_MAGIC);
        fields.put(&VERSION.to_le_bytes());
        fields.put(&node.0);
    });
}

/// Reads the version file.
pub(crate) fn version_of(bytes: &[u8]) -> Version {
    if bytes.iter().all(|byte| *byte == 0) || bytes.len() < BLOCK_BYTES as usize {
        return Version::Unwritten;
    }
    let read = || {
        let mut fields = Cursor::new(opened(bytes)?);
        if fields.array()? != VERSION_MAGIC {
            return None;
        }
        Some(match fields.u32()? {
            VERSION => Version::Of(PeerId(fields.array()?)),
            VERSION_OLD => Version::Old,
            other => Version::Other(other),
        })
    };
    read().unwrap_or(Version::Damaged)
}

/// How far a journal was written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Written {
    pub generation: u64,
    /// Blocks that are durable.
    pub blocks: u64,
}

/// What the first block of an extent says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Header {
    /// It was never written.
    Unwritten,
    /// It is the one of this extent; `Written` tells how far the journal was when it was made,
    /// where the version says that.
    Fits(Option<Written>),
    /// Something else.
    Strange,
}

/// Fills the first block of `out` with an extent's header.
pub(crate) fn extent_block(
    out: &mut [u8],
    partition: u8,
    extent: u32,
    blocks: u32,
    journal: Written,
) {
    sealed(out, |fields| {
        fields.put(&EXTENT_MAGIC);
        fields.put(&VERSION.to_le_bytes());
        fields.put(&[partition, 0, 0, 0]);
        fields.put(&extent.to_le_bytes());
        fields.put(&blocks.to_le_bytes());
        fields.put(&journal.generation.to_le_bytes());
        fields.put(&journal.blocks.to_le_bytes());
    });
}

/// Tells whether these bytes are the header of that extent, whatever its length.
pub(crate) fn extent_header(bytes: &[u8], partition: u8, extent: u32) -> Header {
    if bytes.iter().all(|byte| *byte == 0) {
        return Header::Unwritten;
    }
    let read = || {
        let mut fields = Cursor::new(opened(bytes)?);
        if fields.array()? != EXTENT_MAGIC {
            return None;
        }
        let version = fields.u32()?;
        if fields.array()? != [partition, 0, 0, 0] || fields.u32()? != extent {
            return None;
        }
        let _blocks = fields.u32()?;
        match version {
            VERSION => Some(Some(Written { generation: fields.u64()?, blocks: fields.u64()? })),
            VERSION_OLD => Some(None),
            _ => None,
        }
    };
    read().map_or(Header::Strange, Header::Fits)
}

/// Zeroes a block, lets `fill` write behind the checksum, and adds the checksum.
pub(super) fn sealed(out: &mut [u8], fill: impl FnOnce(&mut Fields<'_>)) {
    let block = out.get_mut(..BLOCK_BYTES as usize).expect("a block is 4096 bytes");
    block.fill(0);
    let (checksum, rest) = block.split_at_mut(CHECKSUM_BYTES);
    fill(&mut Fields::new(rest));
    checksum.copy_from_slice(blake3::hash(rest).as_bytes());
}

/// What lies behind the checksum, if it fits.
pub(super) fn opened(bytes: &[u8]) -> Option<&[u8]> {
    let (checksum, rest) = bytes.get(..BLOCK_BYTES as usize)?.split_at_checked(CHECKSUM_BYTES)?;
    (blake3::hash(rest).as_bytes() == checksum).then_some(rest)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    const NODE: PeerId = PeerId([9; 32]);

    #[test]
    fn any_flipped_bit_of_a_header_is_noticed() {
        let mut block = vec![0; 4096];
        version_block(&mut block, NODE);
        assert_eq!(version_of(&block), Version::Of(NODE));
        let mut extent = vec![0; 4096];
        let journal = Written { generation: 5, blocks: 1 << 40 };
        extent_block(&mut extent, 3, 77, 512, journal);
        assert_eq!(extent_header(&extent, 3, 77), Header::Fits(Some(journal)));
        assert_eq!(extent_header(&extent, 4, 77), Header::Strange);
        assert_eq!(extent_header(&extent, 3, 78), Header::Strange);
        for bit in 0..4096 * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(version_of(&block), Version::Damaged, "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
            extent[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(extent_header(&extent, 3, 77), Header::Strange, "bit {bit}");
            extent[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn what_was_never_written_is_no_damage() {
        assert_eq!(version_of(&[]), Version::Unwritten);
        assert_eq!(version_of(&[0; 4096]), Version::Unwritten);
        let mut block = vec![0; 4096];
        version_block(&mut block, NODE);
        assert_eq!(version_of(&block[..4095]), Version::Unwritten);
        assert_eq!(extent_header(&[], 0, 0), Header::Unwritten);
        assert_eq!(extent_header(&[0; 4096], 0, 0), Header::Unwritten);
        assert_eq!(extent_header(&[1; 9], 0, 0), Header::Strange);
    }

    #[test]
    fn the_version_before_and_the_next_are_told_apart() {
        let mut block = vec![0; 4096];
        for (version, expected) in
            [(1, Version::Old), (0, Version::Other(0)), (3, Version::Other(3))]
        {
            sealed(&mut block, |fields| {
                fields.put(&VERSION_MAGIC);
                fields.put(&u32::to_le_bytes(version));
            });
            assert_eq!(version_of(&block), expected);
        }
    }
}
