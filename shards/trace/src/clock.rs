//! Time of events: nanoseconds since 1970, from a clock that never goes back.

use std::cell::Cell;
use std::time::Instant;

/// Where an event's time comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The time of the core's turn, as the driver gave it: no reading per event. Events of one turn
    /// are in the order of their numbers.
    Tick,
    /// The time stamp counter, read for every event (x86-64; elsewhere the monotonic clock).
    Fine,
}

/// One thread's clock, moved by [`Time::tick`].
pub(crate) struct Time {
    clock: Clock,
    anchor: Instant,
    anchor_nanos: u64,
    // The last tick, and the last time given.
    tick: Cell<u64>,
    last: Cell<u64>,
    counter: Counter,
}

impl Time {
    pub(crate) fn new(clock: Clock, anchor: Instant, anchor_nanos: u64) -> Time {
        let counter = Counter::new(clock);
        let (tick, last) = (Cell::new(anchor_nanos), Cell::new(anchor_nanos));
        Time { clock, anchor, anchor_nanos, tick, last, counter }
    }

    /// It is `now`.
    #[inline]
    pub(crate) fn tick(&self, now: Instant) {
        let since = now.saturating_duration_since(self.anchor);
        let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        self.tick.set(self.anchor_nanos.saturating_add(nanos).max(self.tick.get()));
        if self.clock == Clock::Fine {
            self.counter.tick(nanos);
        }
    }

    /// The time of an event.
    #[inline(always)]
    pub(crate) fn now(&self) -> u64 {
        match self.clock {
            Clock::Tick => self.tick.get(),
            Clock::Fine => {
                let now = self.last.get().max(self.tick.get() + self.counter.since_tick());
                self.last.set(now);
                now
            }
        }
    }

    pub(crate) fn is_fine(&self) -> bool {
        self.clock == Clock::Fine
    }
}

/// The time stamp counter between two ticks. Its rate is measured once and then against the ticks
/// themselves, over an ever longer time; it only interpolates, so that its error does not add up.
#[cfg(target_arch = "x86_64")]
struct Counter {
    base: Cell<u64>,
    // Nanoseconds per count, times 2^32.
    rate: Cell<u64>,
    first: Cell<Option<(u64, u64)>>,
}

/// The rate is taken from ticks that are so far apart at least.
#[cfg(target_arch = "x86_64")]
const RATE_OVER_NANOS: u64 = 50_000_000;

#[cfg(target_arch = "x86_64")]
impl Counter {
    fn new(clock: Clock) -> Counter {
        let rate = if clock == Clock::Fine { measured_rate() } else { 0 };
        Counter { base: Cell::new(counts()), rate: Cell::new(rate), first: Cell::new(None) }
    }

    fn tick(&self, nanos: u64) {
        let now = counts();
        self.base.set(now);
        let Some((first_counts, first_nanos)) = self.first.get() else {
            return self.first.set(Some((now, nanos)));
        };
        let (counted, passed) =
            (now.saturating_sub(first_counts), nanos.saturating_sub(first_nanos));
        if passed > RATE_OVER_NANOS && counted > 0 {
            let rate = (u128::from(passed) << 32) / u128::from(counted);
            self.rate.set(u64::try_from(rate).unwrap_or(self.rate.get()));
        }
    }

    #[inline(always)]
    fn since_tick(&self) -> u64 {
        let counted = counts().saturating_sub(self.base.get());
        ((u128::from(counted) * u128::from(self.rate.get())) >> 32) as u64
    }
}

#[cfg(target_arch = "x86_64")]
fn measured_rate() -> u64 {
    let (began, first) = (Instant::now(), counts());
    while began.elapsed().as_micros() < 1000 {
        std::hint::spin_loop();
    }
    let counted = u128::from(counts().saturating_sub(first)).max(1);
    u64::try_from((began.elapsed().as_nanos() << 32) / counted).unwrap_or(1 << 32)
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
#[inline(always)]
fn counts() -> u64 {
    // WHY: a reading of the system's clock costs twice as much (bench trace).
    // SAFETY: every x86-64 processor has the instruction and reading it has no other effect.
    // CHECKED: tests.rs, a_fine_clock_follows_the_ticks.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
struct Counter {
    base: Cell<Instant>,
}

#[cfg(not(target_arch = "x86_64"))]
impl Counter {
    fn new(_: Clock) -> Counter {
        Counter { base: Cell::new(Instant::now()) }
    }

    fn tick(&self, _: u64) {
        self.base.set(Instant::now());
    }

    fn since_tick(&self) -> u64 {
        u64::try_from(self.base.get().elapsed().as_nanos()).unwrap_or(0)
    }
}
