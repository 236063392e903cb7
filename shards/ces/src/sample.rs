//! Guesses from a few samples whether a segment can be compressed at all: zstd spends 0.17 ns a
//! byte to find out that random bytes cannot (facts/codecs.md sections 1 and 7).

/// Samples taken of a segment.
const SAMPLES: usize = 8;
/// Bytes of each.
const SAMPLE_BYTES: usize = 512;
/// Slots of the table of four-byte strings seen.
const SEEN_SLOTS: usize = 1024;

/// What the samples say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guess {
    /// Worth a try.
    Compressible,
    /// As good as random: store it raw.
    Random,
}

/// Looks at [`SAMPLES`] evenly spaced places.
pub(crate) fn guess(segment: &[u8]) -> Guess {
    let whole = SAMPLES * SAMPLE_BYTES;
    let mut bytes = Bytes::default();
    let mut repeats = Repeats::default();
    if segment.len() <= whole {
        bytes.add(segment);
        repeats.add(segment);
    } else {
        let stride = (segment.len() - SAMPLE_BYTES) / (SAMPLES - 1);
        for sample in (0..SAMPLES).map(|i| &segment[i * stride..][..SAMPLE_BYTES]) {
            bytes.add(sample);
            repeats.add(sample);
        }
    }
    match bytes.uneven() || repeats.many() {
        true => Guess::Compressible,
        false => Guess::Random,
    }
}

/// How often two sampled bytes are equal, against 1 in 256 for random ones.
struct Bytes {
    // Two tables in turn, so that runs of one byte do not wait for their own last store.
    counts: [[u16; 256]; 2],
    sampled: u64,
}

impl Default for Bytes {
    fn default() -> Bytes {
        Bytes { counts: [[0; 256]; 2], sampled: 0 }
    }
}

impl Bytes {
    fn add(&mut self, sample: &[u8]) {
        let [even, odd] = &mut self.counts;
        let mut pairs = sample.chunks_exact(2);
        for pair in &mut pairs {
            even[usize::from(pair[0])] += 1;
            odd[usize::from(pair[1])] += 1;
        }
        pairs.remainder().iter().for_each(|&byte| even[usize::from(byte)] += 1);
        self.sampled += sample.len() as u64;
    }

    /// Equal pairs beyond 6 % over the random number, and beyond three standard deviations of it:
    /// about 0.1 bit saved per byte.
    fn uneven(&self) -> bool {
        let equal = |i: usize| {
            let count = u64::from(self.counts[0][i]) + u64::from(self.counts[1][i]);
            count * count.saturating_sub(1)
        };
        let equal: u64 = (0..256).map(equal).sum();
        let random = (self.sampled * self.sampled.saturating_sub(1)) as f64 / 256.0;
        // Ordered pairs come in twos, hence sqrt(2 random) for the deviation.
        equal as f64 > random * 1.06 + 3.0 * (2.0 * random).sqrt()
    }
}

/// How often a four-byte string comes back: catches repeated blocks of random-looking bytes.
struct Repeats {
    seen: [u32; SEEN_SLOTS],
    found: u32,
    looked: u32,
}

impl Default for Repeats {
    fn default() -> Repeats {
        Repeats { seen: [0; SEEN_SLOTS], found: 0, looked: 0 }
    }
}

impl Repeats {
    fn add(&mut self, sample: &[u8]) {
        // Every third place: a repeat at any distance is met at a third of its places.
        for place in (0..sample.len().saturating_sub(3)).step_by(3) {
            let Some(four) = sample[place..].first_chunk() else { break };
            let four = u32::from_le_bytes(*four);
            let slot = four.wrapping_mul(0x9e37_79b1) as usize >> 22;
            self.found += u32::from(self.seen[slot] == four);
            self.seen[slot] = four;
        }
        self.looked += (sample.len() / 3) as u32;
    }

    fn many(&self) -> bool {
        self.found > 4 + self.looked / 64
    }
}

const _: () =
    assert!(SEEN_SLOTS == 1 << (32 - 22), "the hash keeps as many bits as there are slots");
const _: () = assert!(SAMPLES * SAMPLE_BYTES <= u16::MAX as usize, "a count fits its cell");

#[cfg(test)]
mod tests {
    use super::*;
    use pangea_base::Entropy;

    fn random(bytes: usize, seed: u8) -> Vec<u8> {
        let mut out = vec![0; bytes];
        Entropy::new([seed; 32]).fill(&mut out);
        out
    }

    #[test]
    fn random_bytes_are_random_at_every_size() {
        for seed in 0..40 {
            for bytes in [64, 100, 512, 4096, 4097, 65_536, 131_072] {
                assert_eq!(
                    guess(&random(bytes, seed)),
                    Guess::Random,
                    "{bytes} bytes, seed {seed}"
                );
            }
        }
    }

    #[test]
    fn text_zeros_base64_and_repeated_blocks_are_worth_a_try() {
        let text: Vec<u8> = b"the quick brown fox jumps over the lazy dog, ".repeat(3000);
        let base64: Vec<u8> = random(131_072, 1).iter().map(|b| b'A' + b % 64).collect();
        let repeated = random(300, 2).repeat(400);
        for (name, bytes) in [
            ("text", &text),
            ("base64", &base64),
            ("zeros", &vec![0; 70_000]),
            ("repeats", &repeated),
        ] {
            assert_eq!(guess(bytes), Guess::Compressible, "{name}");
        }
    }

    #[test]
    fn an_empty_segment_is_no_matter() {
        assert_eq!(guess(&[]), Guess::Random);
    }
}
