//! A node's clocks: they begin together with the world's, drift, and are set by people.

use std::time::{Duration, Instant};

use pangea_base::UnixTime;

/// When the world begins, on a wall clock.
pub const WALL: u64 = 1_800_000_000;

const MILLION: i128 = 1_000_000;

/// One machine's clocks.
#[derive(Clone, Debug)]
pub struct NodeClock {
    began: Instant,
    // Parts per million that it runs too fast.
    drift: i64,
    // Seconds that somebody set the wall clock ahead.
    ahead: i64,
    // Seconds that it is wrong by beside that: a flat battery, a year misread.
    wrong: i64,
}

impl NodeClock {
    /// Right since `began`, but for its drift in parts per million.
    pub fn new(began: Instant, drift: i64) -> NodeClock {
        NodeClock { began, drift, ahead: 0, wrong: 0 }
    }

    /// Somebody sets the wall clock ahead, or back.
    pub fn set_ahead(&mut self, seconds: i64) {
        self.ahead = seconds;
    }

    /// The wall clock is wrong by so many seconds from now on.
    pub fn set_wrong(&mut self, seconds: i64) {
        self.wrong = seconds;
    }

    /// By how much the wall clock is wrong, but for its drift.
    pub fn off(&self) -> i64 {
        self.ahead + self.wrong
    }

    /// What its monotonic clock shows at a moment of the world.
    pub fn instant(&self, now: Instant) -> Instant {
        self.began + scaled(now - self.began, MILLION + i128::from(self.drift), MILLION)
    }

    /// The moment of the world at which its monotonic clock shows `instant`, or just after it.
    pub fn moment(&self, instant: Instant) -> Instant {
        let since = instant.saturating_duration_since(self.began);
        let exact = scaled(since, MILLION, MILLION + i128::from(self.drift));
        self.began + exact + Duration::from_nanos(2)
    }

    /// What its wall clock shows.
    pub fn wall(&self, now: Instant) -> UnixTime {
        let since = (self.instant(now) - self.began).as_secs();
        UnixTime((WALL + since).saturating_add_signed(self.off()))
    }
}

fn scaled(time: Duration, by: i128, of: i128) -> Duration {
    let nanos = time.as_nanos() as i128 * by / of;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
