use serde::{Deserialize, Serialize};

/// An erasure code: `k` data and `m` parity shards (P9, PD-15: k is data, m is parity, always).
///
/// Any `k` of the `n = k + m` shards restore the chunk. Values that break the bounds cannot exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[serde(try_from = "(u8, u8)", into = "(u8, u8)")]
pub struct Code {
    k: u8,
    m: u8,
}

impl Code {
    /// The most shards that a chunk may have: a shard index is one byte and GF(2^8) has 255 points.
    pub const SHARDS_MAX: usize = 255;

    /// `None` unless `k >= 1` and `k + m <= 255`.
    pub const fn new(k: u8, m: u8) -> Option<Code> {
        if k >= 1 && (k as usize) + (m as usize) <= Code::SHARDS_MAX {
            Some(Code { k, m })
        } else {
            None
        }
    }

    /// The code for `holders` distinct holders: 10 + 4 with 14 or more; with fewer,
    /// m = min(4, holders / 2) and k = holders - m; one holder keeps one copy. `None` for none.
    pub fn for_holders(holders: usize) -> Option<Code> {
        if holders >= 14 {
            return Code::new(10, 4);
        }
        let m = (holders / 2).min(4);
        Code::new(u8::try_from(holders.checked_sub(m)?).ok()?, u8::try_from(m).ok()?)
    }

    /// Data shards.
    pub const fn k(self) -> usize {
        self.k as usize
    }

    /// Parity shards.
    pub const fn m(self) -> usize {
        self.m as usize
    }

    /// All shards, `k + m`.
    pub const fn n(self) -> usize {
        self.k as usize + self.m as usize
    }
}

impl TryFrom<(u8, u8)> for Code {
    type Error = &'static str;
    fn try_from((k, m): (u8, u8)) -> Result<Code, &'static str> {
        Code::new(k, m).ok_or("an erasure code needs k >= 1 and k + m <= 255")
    }
}

impl From<Code> for (u8, u8) {
    fn from(code: Code) -> (u8, u8) {
        (code.k, code.m)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_holders_still_get_a_code_that_uses_them_all() {
        let expected = [(1, 0), (1, 1), (2, 1), (2, 2), (3, 2), (3, 3), (4, 3), (4, 4), (5, 4)];
        for (holders, (k, m)) in (1..).zip(expected) {
            assert_eq!(Code::for_holders(holders), Code::new(k, m), "{holders} holders");
        }
        assert_eq!(Code::for_holders(13), Code::new(9, 4));
        assert_eq!(Code::for_holders(14), Code::new(10, 4));
        assert_eq!(Code::for_holders(500), Code::new(10, 4));
        assert_eq!(Code::for_holders(0), None);
    }

    #[test]
    fn a_code_beyond_the_field_cannot_be_made() {
        assert!(Code::new(0, 4).is_none());
        assert!(Code::new(200, 56).is_none());
        assert!(Code::new(251, 4).is_some());
    }
}
