//! How much one `poll` hands out before it returns although there is more. What that calls for goes
//! out before the rest is taken in, so that a fast sender hears of its first packets while the last
//! ones still wait, and two sides that work for each other do it at the same time and not in turn.

use std::time::{Duration, Instant};

/// Received bytes.
const BYTES_MAX: u64 = 256 << 10;

/// Time that handling them took: of the same order as a signature, or as all the bytes.
const TIME_MAX: Duration = Duration::from_micros(200);

/// Looks for more; files and the bell get their turn too.
pub(crate) const ROUNDS_MAX: usize = 4;

/// What a `poll` may still hand out.
pub(crate) struct Portion {
    /// Bytes received in all.
    bytes_end: u64,
    end: Instant,
}

impl Portion {
    /// Begins now, with so many bytes received in all.
    pub(crate) fn begin(received_bytes: u64) -> Portion {
        Portion { bytes_end: received_bytes + BYTES_MAX, end: Instant::now() + TIME_MAX }
    }

    /// Whether nothing more is to be handed out.
    pub(crate) fn is_full(&self, received_bytes: u64) -> bool {
        received_bytes >= self.bytes_end || Instant::now() >= self.end
    }

    /// How many messages make a portion, if they are as those were: `messages` (1 or more) of
    /// `bytes` together, handled in `time`.
    pub(crate) fn messages(messages: usize, bytes: u64, time: Duration) -> usize {
        let messages = messages.max(1) as u64;
        let by_bytes = BYTES_MAX.div_ceil((bytes / messages).max(1));
        let by_time = TIME_MAX.as_nanos() * u128::from(messages) / time.as_nanos().max(1);
        usize::try_from(u128::from(by_bytes).min(by_time)).unwrap_or(usize::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_portion_ends_with_its_bytes_or_its_time() {
        let portion = Portion::begin(1000);
        let at_once = portion.end > Instant::now();
        assert_eq!(portion.is_full(1000), !at_once);
        assert!(portion.is_full(1000 + BYTES_MAX));
        while Instant::now() < portion.end {}
        assert!(portion.is_full(1000));
    }

    #[test]
    fn so_many_messages_are_taken_as_fit() {
        let quick = Duration::from_nanos(10);
        assert_eq!(Portion::messages(1, 64 << 10, quick), 4);
        assert_eq!(Portion::messages(32, 32 * 1200, quick), 219);
        assert_eq!(Portion::messages(8, 8 * 1200, Duration::from_millis(2)), 1, "handshakes");
        assert_eq!(Portion::messages(4, 4 * 1200, Duration::from_micros(80)), 10);
        assert!(Portion::messages(0, 0, Duration::ZERO) > 0, "of none, in no time");
    }
}
