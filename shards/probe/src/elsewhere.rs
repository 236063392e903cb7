//! Systems that are not Linux: no control groups, no cpusets, no eBPF.

use crate::hardware::{CpuFeatures, Hardware, MEMORY_ASSUMED_BYTES, Tried, page_bytes};

pub(crate) fn probe(io_uring: Tried) -> Hardware {
    let mut guesses = Vec::new();
    let cpus = std::thread::available_parallelism().map_or_else(
        |_| {
            guesses.push("the system does not tell the number of CPUs: one is used".to_string());
            1
        },
        |count| count.get(),
    );
    let memory = match memory_total() {
        0 => {
            guesses.push("the system does not tell its memory: 1 GiB is assumed".to_string());
            MEMORY_ASSUMED_BYTES
        }
        bytes => bytes,
    };
    Hardware {
        os: std::env::consts::OS,
        arch: std::env::consts::ARCH,
        page_bytes: page_bytes(),
        cpus_allowed: (0..cpus).collect(),
        cpus_isolated: Vec::new(),
        cgroup_cpu_quota: None,
        memory_total_bytes: memory,
        memory_usable_bytes: memory,
        memlock_bytes: memlock_bytes(),
        cpu: CpuFeatures::detect(),
        io_uring,
        ebpf: Tried::Refused("network filters in eBPF exist on Linux only".to_string()),
        guesses,
    }
}

fn memory_total() -> u64 {
    use sysinfo::{MemoryRefreshKind, RefreshKind, System};
    let only = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    System::new_with_specifics(only).map_or(0, |system| system.total_memory())
}

#[cfg(unix)]
fn memlock_bytes() -> u64 {
    use rustix::process::{Resource, getrlimit};
    getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX)
}

#[cfg(not(unix))]
fn memlock_bytes() -> u64 {
    u64::MAX
}
