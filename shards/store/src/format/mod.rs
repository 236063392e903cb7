//! The bytes of the files, as `format.md` draws them. Everything here reads what came from a disk:
//! nothing is trusted before it was checked.

#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod block;
mod clock;
mod cursor;
mod entry;
mod header;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod old;

pub(crate) use block::{
    BLOCK_BODY_MAX, Block, BlockKind, Chain, Packed, Packer, Place, Seen, may_be_journal, see,
};
pub(crate) use clock::{ClockRecord, clock_block, clock_of};
pub(crate) use entry::{
    CLOSED_BYTES, ENTRY_BYTES_MAX, Entry, Named, Put, blocks_for, delete_bytes, put_bytes,
};
pub(crate) use header::{
    Header, Version, Written, extent_block, extent_header, version_block, version_of,
};

/// The version that this program writes.
pub(crate) const VERSION: u32 = 2;
/// The one before, which it reads too.
pub(crate) const VERSION_OLD: u32 = 1;
