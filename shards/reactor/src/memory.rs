//! The send buffers of a driver: a bounded number of vectors that go out to the caller and come
//! back. They take memory when written to, and give it back when idle. And when that is.

use std::time::{Duration, Instant};

/// Capacity of every buffer that `Driver::buffer` hands out: one whole train fits.
pub const SEND_BUFFER_BYTES: usize = 65_536;

/// Send buffers: at most `limit` are out or in flight at once.
pub(crate) struct SendBuffers {
    free: Vec<Vec<u8>>,
    out: usize,
    limit: usize,
    refused: bool,
}

impl SendBuffers {
    pub(crate) fn new(limit: usize) -> SendBuffers {
        assert!(limit > 0, "a driver has at least one send slot");
        SendBuffers { free: Vec::with_capacity(limit), out: 0, limit, refused: false }
    }

    /// An empty buffer, the one used last first. `None` when all are out.
    pub(crate) fn take(&mut self) -> Option<Vec<u8>> {
        if self.out == self.limit {
            self.refused = true;
            return None;
        }
        self.out += 1;
        Some(self.free.pop().unwrap_or_else(|| Vec::with_capacity(SEND_BUFFER_BYTES)))
    }

    /// A buffer comes back.
    pub(crate) fn give(&mut self, mut buffer: Vec<u8>) {
        assert!(self.out > 0, "a buffer came back that the driver did not hand out");
        self.out -= 1;
        buffer.clear();
        if buffer.capacity() >= SEND_BUFFER_BYTES {
            self.free.push(buffer);
        }
    }

    /// True once after `take` refused and a buffer came back since.
    pub(crate) fn ready_again(&mut self) -> bool {
        let ready = self.refused && self.out < self.limit;
        self.refused &= !ready;
        ready
    }

    /// Gives the memory of free buffers back to the system.
    pub(crate) fn trim(&mut self) {
        #[cfg(target_os = "linux")]
        for buffer in &mut self.free {
            crate::sys::give_back(buffer.spare_capacity_mut());
        }
        #[cfg(not(target_os = "linux"))]
        self.free.clear();
    }
}

/// Without traffic for this long, memory is given back.
const QUIET: Duration = Duration::from_secs(2);

/// Messages received in such a time up to which it counts as quiet: keep-alives.
const QUIET_MESSAGES: u64 = 64;

/// Tells when memory that was used can be given back.
pub(crate) struct Quiet {
    used: bool,
    /// When the running period began, and how many messages had been received by then.
    period: Option<(Instant, u64)>,
}

impl Quiet {
    pub(crate) fn new() -> Quiet {
        Quiet { used: false, period: None }
    }

    /// Memory was used.
    pub(crate) fn touched(&mut self) {
        self.used = true;
    }

    /// When to ask `is_quiet`; never while there is nothing to give back.
    pub(crate) fn check_at(&mut self, now: Instant, received: u64) -> Option<Instant> {
        if !self.used {
            return None;
        }
        let (began, _) = *self.period.get_or_insert((now, received));
        Some(began + QUIET)
    }

    /// True once when a period with next to no traffic is over.
    pub(crate) fn is_quiet(&mut self, now: Instant, received: u64) -> bool {
        let Some((began, received_before)) = self.period else { return false };
        if now < began + QUIET {
            return false;
        }
        let quiet = received - received_before <= QUIET_MESSAGES;
        self.used &= !quiet;
        self.period = None;
        quiet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_back_after_two_quiet_seconds_and_not_under_traffic() {
        let mut quiet = Quiet::new();
        let t0 = Instant::now();
        assert_eq!(quiet.check_at(t0, 0), None);
        quiet.touched();
        let t1 = quiet.check_at(t0, 0).unwrap();
        assert!(!quiet.is_quiet(t0, 9));
        assert!(!quiet.is_quiet(t1, QUIET_MESSAGES + 1));
        let t2 = quiet.check_at(t1, 100).unwrap();
        assert!(quiet.is_quiet(t2, 100 + QUIET_MESSAGES));
        assert_eq!(quiet.check_at(t2, 200), None);
        assert!(!quiet.is_quiet(t2 + QUIET, 200));
    }

    #[test]
    fn one_buffer_past_the_limit_is_refused_until_one_comes_back() {
        let mut buffers = SendBuffers::new(2);
        let (a, _b) = (buffers.take().unwrap(), buffers.take().unwrap());
        assert!(!buffers.ready_again());
        assert!(buffers.take().is_none());
        assert!(!buffers.ready_again());
        buffers.give(a);
        assert!(buffers.ready_again());
        assert!(!buffers.ready_again());
        assert!(buffers.take().is_some());
    }

    #[test]
    fn a_trimmed_buffer_works_again() {
        let mut buffers = SendBuffers::new(1);
        let mut buffer = buffers.take().unwrap();
        buffer.resize(SEND_BUFFER_BYTES, 7);
        buffers.give(buffer);
        buffers.trim();
        let mut buffer = buffers.take().unwrap();
        assert!(buffer.is_empty() && buffer.capacity() >= SEND_BUFFER_BYTES);
        buffer.resize(SEND_BUFFER_BYTES, 9);
        assert!(buffer.iter().all(|&b| b == 9));
    }

    #[test]
    fn a_replaced_buffer_does_not_shrink_the_pool() {
        let mut buffers = SendBuffers::new(1);
        drop(buffers.take());
        buffers.give(Vec::new());
        assert!(buffers.take().unwrap().capacity() >= SEND_BUFFER_BYTES);
    }
}
