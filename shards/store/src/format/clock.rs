//! The record of the last wall time that was believed.

use pangea_base::UnixTime;

use super::VERSION;
use super::cursor::Cursor;
use super::header::{opened, sealed};

const MAGIC: [u8; 8] = *b"PANGEACL";

/// A time, and how many were written before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ClockRecord {
    pub count: u64,
    pub time: UnixTime,
}

/// Fills the first block of `out` with a record.
pub(crate) fn clock_block(out: &mut [u8], record: ClockRecord) {
    sealed(out, |fields| {
        fields.put(&MAGIC);
        fields.put(&VERSION.to_le_bytes());
        fields.put(&[0; 4]);
        fields.put(&record.count.to_le_bytes());
        fields.put(&record.time.0.to_le_bytes());
    });
}

/// Reads a block; `None` if it is no record.
pub(crate) fn clock_of(bytes: &[u8]) -> Option<ClockRecord> {
    let mut fields = Cursor::new(opened(bytes)?);
    if fields.array()? != MAGIC || fields.u32()? != VERSION || fields.array()? != [0; 4] {
        return None;
    }
    Some(ClockRecord { count: fields.u64()?, time: UnixTime(fields.u64()?) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_bit_of_a_record_is_noticed() {
        let record = ClockRecord { count: 7, time: UnixTime(1_700_000_000) };
        let mut block = vec![0; 4096];
        clock_block(&mut block, record);
        assert_eq!(clock_of(&block), Some(record));
        for bit in 0..4096 * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(clock_of(&block), None, "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(clock_of(&block[..4095]), None);
        assert_eq!(clock_of(&[0; 4096]), None);
    }
}
