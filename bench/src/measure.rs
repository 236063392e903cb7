//! How long something takes, and what rate that is.

use std::time::Instant;

use crate::table::{Stats, stats};

/// Seconds that one call of `work` takes, averaged over about `seconds`.
pub fn time(seconds: f64, mut work: impl FnMut()) -> f64 {
    work();
    let start = Instant::now();
    let mut calls = 0u32;
    loop {
        work();
        calls += 1;
        let spent = start.elapsed().as_secs_f64();
        if spent >= seconds {
            return spent / f64::from(calls);
        }
    }
}

/// Bytes per second, in 10^9.
pub fn rate(bytes: usize, seconds: &[f64]) -> Stats {
    stats(&seconds.iter().map(|s| bytes as f64 / s / 1e9).collect::<Vec<_>>())
}
