//! The bytes of the files, as `format.md` draws them. Everything here reads what came from a disk:
//! nothing is trusted before it was checked.

#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod block;
mod cursor;
mod entry;
mod header;

pub(crate) use block::{BLOCK_BODY_MAX, BlockKind, Chain, Packed, Packer, Place, Seen, see};
pub(crate) use entry::{
    CLOSED_BYTES, ENTRY_BYTES_MAX, Entry, Put, blocks_for, delete_bytes, put_bytes,
};
pub(crate) use header::{Version, extent_block, extent_block_fits, version_block, version_of};

/// The version that this program reads and writes.
pub(crate) const VERSION: u32 = 1;
