//! Flow-control windows that start small and grow towards two to four times the bandwidth-delay
//! product, from a credit that all connections of a core share.

use std::time::{Duration, Instant};

/// The shortest time over which a rate is measured: below it the bursts of one wake decide.
const EPOCH_MIN: Duration = Duration::from_millis(1);

/// A grown window without traffic is given back after so long.
pub(crate) const WINDOW_IDLE: Duration = Duration::from_secs(5);

/// A window that was only for a start grows to so many times of it when it binds.
const FIRST_STEP: u64 = 16;

/// A core's credit for growing windows of one direction.
#[derive(Debug)]
pub(crate) struct Credit {
    left: u64,
    total: u64,
}

impl Credit {
    pub(crate) fn new(total: u64) -> Credit {
        Credit { left: total, total }
    }

    fn take(&mut self, wanted: u64) -> u64 {
        let taken = wanted.min(self.left);
        self.left -= taken;
        taken
    }

    fn give(&mut self, back: u64) {
        self.left += back;
        assert!(self.left <= self.total, "more credit was given back than was ever lent");
    }

    /// What connections hold now.
    pub(crate) fn lent(&self) -> u64 {
        self.total - self.left
    }
}

/// A connection's round-trip times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rtt {
    /// Smoothed.
    pub(crate) now: Duration,
    /// The least that was seen.
    pub(crate) least: Duration,
}

/// One connection's receive window.
///
/// What the peer was once allowed to send cannot be taken back: a window that shrinks owes the
/// difference, and the credit returns only as the application reads that debt off.
#[derive(Debug)]
pub(crate) struct ReceiveWindow {
    start: u64,
    grown: u64,
    debt: u64,
    epoch: Instant,
    read: u64,
}

impl ReceiveWindow {
    pub(crate) fn new(start: u64, now: Instant) -> ReceiveWindow {
        ReceiveWindow { start, grown: 0, debt: 0, epoch: now, read: 0 }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.start + self.grown
    }

    /// Notes what the application read.
    pub(crate) fn on_read(&mut self, bytes: u64, credit: &mut Credit) {
        self.read += bytes;
        if self.debt > 0 {
            let paid = self.debt.min(bytes);
            self.debt -= paid;
            credit.give(paid);
        }
    }

    /// The window to announce now, when it has changed.
    ///
    /// The product is taken with the *least* round-trip time: the present one includes what already
    /// waits in queues, and a window that follows it would grow the queue that it measures.
    pub(crate) fn turn(
        &mut self,
        now: Instant,
        rtt: Rtt,
        max: u64,
        credit: &mut Credit,
    ) -> Option<u64> {
        let elapsed = now.saturating_duration_since(self.epoch);
        if elapsed < rtt.now.max(EPOCH_MIN) || self.read == 0 {
            return None;
        }
        let wanted = per_rtt(self.read, elapsed, rtt.least);
        // Where the window may be what binds, nobody knows how much more there is: then in larger
        // steps, and the first from a window that was only for a start. On a path with loss it binds
        // long before it is read in one round trip: all that came waits for what is sent again.
        let wanted = match wanted >= self.bytes() / 3 {
            true if self.grown == 0 => wanted.saturating_mul(4).max(self.start * FIRST_STEP),
            true => wanted.saturating_mul(4),
            false => wanted.saturating_mul(2),
        };
        let wanted = wanted.min(max);
        self.epoch = now;
        self.read = 0;
        let more = wanted.checked_sub(self.bytes()).filter(|more| *more > 0)?;
        let taken = credit.take(more);
        self.grown += taken;
        (taken > 0).then(|| self.bytes())
    }

    /// When the window should be looked at although nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        (self.grown > 0).then(|| self.epoch + WINDOW_IDLE)
    }

    /// Shrinks a grown window that nobody used; returns the window to announce.
    pub(crate) fn idle(&mut self, now: Instant) -> Option<u64> {
        if self.deadline().is_none_or(|at| now < at) {
            return None;
        }
        if self.read > 0 {
            self.read = 0;
            self.epoch = now;
            return None;
        }
        self.debt += std::mem::take(&mut self.grown);
        Some(self.bytes())
    }

    /// The connection has ended: nothing more can arrive.
    pub(crate) fn close(&mut self, credit: &mut Credit) {
        credit.give(std::mem::take(&mut self.grown) + std::mem::take(&mut self.debt));
    }
}

/// One connection's send window: twice what congestion control lets fly.
#[derive(Debug)]
pub(crate) struct SendWindow {
    start: u64,
    grown: u64,
}

impl SendWindow {
    pub(crate) fn new(start: u64) -> SendWindow {
        SendWindow { start, grown: 0 }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.start + self.grown
    }

    /// The window to set now, when it has changed.
    pub(crate) fn turn(&mut self, flight: u64, max: u64, credit: &mut Credit) -> Option<u64> {
        let wanted = flight.saturating_mul(2).min(max);
        // In steps of a quarter, so that a window does not creep up packet by packet.
        if wanted < self.bytes() + self.bytes() / 4 {
            return None;
        }
        let taken = credit.take(wanted - self.bytes());
        self.grown += taken;
        (taken > 0).then(|| self.bytes())
    }

    /// Whether there is anything to give back.
    pub(crate) fn is_grown(&self) -> bool {
        self.grown > 0
    }

    /// Shrinks to the start; only when nothing is unacknowledged, so that nothing is owed.
    pub(crate) fn close(&mut self, credit: &mut Credit) {
        credit.give(std::mem::take(&mut self.grown));
    }
}

/// The bytes of one round trip, when `bytes` took `elapsed`.
fn per_rtt(bytes: u64, elapsed: Duration, rtt: Duration) -> u64 {
    let nanos = elapsed.as_nanos().max(1);
    let per_rtt = u128::from(bytes) * rtt.max(EPOCH_MIN).as_nanos() / nanos;
    u64::try_from(per_rtt).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIP: Duration = Duration::from_millis(50);
    const RTT: Rtt = Rtt { now: TRIP, least: TRIP };
    const MAX: u64 = 16 << 20;

    #[test]
    fn a_window_that_binds_grows_in_large_steps_until_the_credit_ends() {
        let mut now = Instant::now();
        let mut credit = Credit::new(1 << 20);
        let mut window = ReceiveWindow::new(64 << 10, now);
        let mut seen = vec![window.bytes()];
        for _ in 0..8 {
            now += TRIP;
            window.on_read(window.bytes(), &mut credit);
            if let Some(bytes) = window.turn(now, RTT, MAX, &mut credit) {
                seen.push(bytes);
            }
        }
        let kib: Vec<u64> = seen.iter().map(|bytes| bytes >> 10).collect();
        assert_eq!(kib, [64, 1024, 1088]);
        assert_eq!(credit.lent(), 1 << 20);
    }

    #[test]
    fn a_queue_on_the_way_does_not_grow_the_window_that_feeds_it() {
        let mut now = Instant::now();
        let mut credit = Credit::new(1 << 40);
        let mut window = ReceiveWindow::new(64 << 10, now);
        // 1 MiB per 50 ms, whatever the queue: the window ends at four times the product.
        for round in 1..50 {
            let queued = Rtt { now: TRIP * round, least: TRIP };
            now += TRIP * round;
            window.on_read(u64::from(round) << 20, &mut credit);
            window.turn(now, queued, MAX, &mut credit);
        }
        assert_eq!(window.bytes(), 4 << 20);
    }

    #[test]
    fn a_window_never_grows_past_its_maximum() {
        let mut now = Instant::now();
        let mut credit = Credit::new(1 << 40);
        let mut window = ReceiveWindow::new(64 << 10, now);
        for _ in 0..20 {
            now += TRIP;
            window.on_read(1 << 30, &mut credit);
            window.turn(now, RTT, MAX, &mut credit);
        }
        assert_eq!(window.bytes(), MAX);
    }

    #[test]
    fn an_idle_window_shrinks_but_its_credit_returns_only_as_the_debt_is_read_off() {
        let now = Instant::now();
        let mut credit = Credit::new(1 << 20);
        let mut window = ReceiveWindow::new(64 << 10, now);
        window.on_read(512 << 10, &mut credit);
        let grown = window.turn(now + TRIP, RTT, MAX, &mut credit).unwrap();
        let lent = credit.lent();
        assert_eq!(grown, (64 << 10) + lent);
        let later = now + TRIP + WINDOW_IDLE;
        assert_eq!(window.idle(later), Some(64 << 10));
        assert_eq!(credit.lent(), lent, "the peer may still send what it was allowed");
        window.on_read(1000, &mut credit);
        assert_eq!(credit.lent(), lent - 1000);
        window.close(&mut credit);
        assert_eq!(credit.lent(), 0);
    }

    #[test]
    fn the_send_window_follows_the_congestion_window_within_the_credit() {
        let mut credit = Credit::new(1 << 20);
        let mut window = SendWindow::new(128 << 10);
        assert_eq!(window.turn(12_000, MAX, &mut credit), None);
        assert_eq!(window.turn(256 << 10, MAX, &mut credit), Some(512 << 10));
        assert_eq!(window.turn(257 << 10, MAX, &mut credit), None, "not in small steps");
        assert_eq!(window.turn(1 << 30, MAX, &mut credit), Some((1 << 20) + (128 << 10)));
        window.close(&mut credit);
        assert_eq!((window.bytes(), credit.lent()), (128 << 10, 0));
    }
}
