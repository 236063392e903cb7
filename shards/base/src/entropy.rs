use zeroize::Zeroize;

/// A seeded stream of random bytes: the BLAKE3 output stream keyed by a 32-byte seed.
///
/// The node seeds one per core from the operating system; a simulator seeds it from its own seed,
/// so the same seed gives the same salts, connection ids and choices.
pub struct Entropy {
    stream: blake3::OutputReader,
}

impl Entropy {
    /// Starts the stream of `seed`. The caller's copy of the seed is wiped.
    pub fn new(mut seed: [u8; 32]) -> Entropy {
        let stream = blake3::Hasher::new_keyed(&seed).finalize_xof();
        seed.zeroize();
        Entropy { stream }
    }

    /// The next 32 bytes, as a seed for another stream: streams split this way are independent.
    pub fn split(&mut self) -> Entropy {
        Entropy::new(self.array())
    }

    /// Fills `out` with the next bytes of the stream.
    pub fn fill(&mut self, out: &mut [u8]) {
        self.stream.fill(out);
    }

    /// The next `N` bytes of the stream.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }

    /// The next 8 bytes as a number.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A number below `bound` (which must not be 0); the bias is below 2^-32 for bounds under 2^32.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a bound of 0 leaves nothing to draw");
        self.u64() % bound
    }
}

impl std::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entropy(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_stream_and_another_seed_another() {
        let mut a = Entropy::new([7; 32]);
        let mut b = Entropy::new([7; 32]);
        let mut c = Entropy::new([8; 32]);
        assert_eq!(a.array::<64>(), b.array::<64>());
        assert_ne!(a.array::<64>(), c.array::<64>());
        b.array::<64>();
        assert_eq!(a.split().u64(), b.split().u64());
    }
}
