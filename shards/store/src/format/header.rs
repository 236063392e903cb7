//! The version file, and the first block of an extent.

use super::VERSION;
use super::cursor::{Cursor, Fields};
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
    /// A version.
    Is(u32),
}

/// Fills the first block of `out` with the version file.
pub(crate) fn version_block(out: &mut [u8], version: u32) {
    sealed(out, |fields| {
        fields.put(&VERSION_MAGIC);
        fields.put(&version.to_le_bytes());
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
        fields.u32()
    };
    read().map_or(Version::Damaged, Version::Is)
}

/// Fills the first block of `out` with an extent's header.
pub(crate) fn extent_block(out: &mut [u8], partition: u8, extent: u32, blocks: u32) {
    sealed(out, |fields| {
        fields.put(&EXTENT_MAGIC);
        fields.put(&VERSION.to_le_bytes());
        fields.put(&[partition, 0, 0, 0]);
        fields.put(&extent.to_le_bytes());
        fields.put(&blocks.to_le_bytes());
    });
}

/// Whether these bytes are the header of that extent, whatever its length.
pub(crate) fn extent_block_fits(bytes: &[u8], partition: u8, extent: u32) -> bool {
    let fits = || {
        let mut fields = Cursor::new(opened(bytes)?);
        let fits = fields.array()? == EXTENT_MAGIC
            && fields.u32()? == VERSION
            && fields.array()? == [partition, 0, 0, 0]
            && fields.u32()? == extent;
        Some(fits)
    };
    fits().unwrap_or(false)
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

    #[test]
    fn any_flipped_bit_of_a_header_is_noticed() {
        let mut block = vec![0; 4096];
        version_block(&mut block, 1);
        assert_eq!(version_of(&block), Version::Is(1));
        let mut extent = vec![0; 4096];
        extent_block(&mut extent, 3, 77, 512);
        assert!(extent_block_fits(&extent, 3, 77));
        assert!(!extent_block_fits(&extent, 4, 77) && !extent_block_fits(&extent, 3, 78));
        for bit in 0..4096 * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(version_of(&block), Version::Damaged, "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
            extent[bit / 8] ^= 1 << (bit % 8);
            assert!(!extent_block_fits(&extent, 3, 77), "bit {bit}");
            extent[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn an_unfinished_version_file_is_no_damage() {
        assert_eq!(version_of(&[]), Version::Unwritten);
        assert_eq!(version_of(&[0; 4096]), Version::Unwritten);
        let mut block = vec![0; 4096];
        version_block(&mut block, 1);
        assert_eq!(version_of(&block[..4095]), Version::Unwritten);
    }
}
