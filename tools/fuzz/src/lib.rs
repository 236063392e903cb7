//! What libFuzzer calls: a target by its name, held to what one input may cost.

#![forbid(unsafe_code)]

pub mod targets;

use std::sync::Once;
use std::time::Duration;

use peak_alloc::PeakAlloc;
use rustix::time::{ClockId, clock_gettime};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What an input may cost in time of the CPU, times what the checks of a fuzzing build cost.
const CPU_MAX: Duration = Duration::from_millis(50 * 4);

/// Runs a target on one input. Panics if it takes more memory or time than an input may.
pub fn run(name: &str, data: &[u8]) {
    let target = targets::TARGETS.iter().find(|target| target.name == name);
    let target = target.unwrap_or_else(|| panic!("there is no target '{name}'"));
    // What a target makes once is no input's doing.
    static WARM: Once = Once::new();
    WARM.call_once(|| (target.run)(&[]));
    let (first, bytes) = cost(target, data);
    assert!(bytes <= target.bytes_max, "{name} took {bytes} bytes for {} of input", data.len());
    // The machine may have been busy with others: only what is slow twice is slow.
    if first > CPU_MAX {
        let (second, _) = cost(target, data);
        assert!(second <= CPU_MAX, "{name} took {second:?} for {} bytes", data.len());
    }
}

fn cost(target: &targets::Target, data: &[u8]) -> (Duration, usize) {
    let held = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let begun = cpu_time();
    (target.run)(data);
    let time = cpu_time().saturating_sub(begun);
    (time, MEMORY.peak_usage().saturating_sub(held))
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanoseconds)
}
