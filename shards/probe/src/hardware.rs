use std::fmt;
use std::path::Path;

use crate::linux;

/// Assumed where the system does not say how much memory it has; small, so that a guess harms
/// nothing but speed.
pub const MEMORY_ASSUMED_BYTES: u64 = 1 << 30;

/// What this machine can do and how much of it this process may use.
#[derive(Debug, Clone, PartialEq)]
pub struct Hardware {
    /// `std::env::consts::OS`: "linux", "macos", "windows", …
    pub os: &'static str,
    /// `std::env::consts::ARCH`: "x86_64", "aarch64", …
    pub arch: &'static str,
    /// Bytes of the system's memory pages.
    pub page_bytes: u64,
    /// Numbers of the CPUs that this process may run on (affinity and cpuset) and that are online,
    /// ascending, at least one.
    pub cpus_allowed: Vec<usize>,
    /// Those of all CPUs that the scheduler leaves alone (`isolcpus`), ascending.
    pub cpus_isolated: Vec<usize>,
    /// CPUs' worth of time that the control groups grant, the least along the path: 0.5 is half a
    /// CPU. `None` is no quota.
    pub cgroup_cpu_quota: Option<f64>,
    /// Memory of the machine.
    pub memory_total_bytes: u64,
    /// Memory that this process may use: the least of the machine's and of every control group
    /// limit along the path.
    pub memory_usable_bytes: u64,
    /// How much the process may lock into memory (`ulimit -l`), for buffers registered with the
    /// kernel; `u64::MAX` is no limit.
    pub memlock_bytes: u64,
    /// Instructions that matter to erasure coding and ciphers.
    pub cpu: CpuFeatures,
    /// Whether io_uring works here, as the reactor found out.
    pub io_uring: Tried,
    /// Whether eBPF filters can be loaded and attached to a network interface.
    pub ebpf: Tried,
    /// What could not be read and what was assumed instead, one sentence each; mostly empty.
    pub guesses: Vec<String>,
}

/// The outcome of looking for a capability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tried {
    /// It was tried, and it works.
    Works,
    /// It should work for the reason given, and was not tried.
    Untried(String),
    /// It does not work, for the reason given.
    Refused(String),
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tried::Works => f.write_str("works"),
            Tried::Untried(why) => write!(f, "should work, not tried ({why})"),
            Tried::Refused(why) => write!(f, "not available ({why})"),
        }
    }
}

/// Instructions of the CPU that runs this, detected at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuFeatures {
    /// x86: 256-bit integer vectors.
    pub avx2: bool,
    /// x86: 512-bit vectors of bytes (AVX-512 F, BW and VL).
    pub avx512: bool,
    /// x86: multiplication in GF(2^8), which is what Reed-Solomon is made of.
    pub gfni: bool,
    /// x86: AES on 256 or 512 bits at once, with the carry-less multiplication of GCM.
    pub vaes: bool,
    /// AES one block at a time (x86 AES-NI, ARM crypto extensions).
    pub aes: bool,
    /// ARM: 128-bit vectors.
    pub neon: bool,
    /// SHA-256.
    pub sha: bool,
}

impl CpuFeatures {
    /// Asks the CPU.
    pub fn detect() -> CpuFeatures {
        #[cfg(target_arch = "x86_64")]
        return CpuFeatures {
            avx2: is_x86_feature_detected!("avx2"),
            avx512: is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl"),
            gfni: is_x86_feature_detected!("gfni"),
            vaes: is_x86_feature_detected!("vaes") && is_x86_feature_detected!("vpclmulqdq"),
            aes: is_x86_feature_detected!("aes"),
            neon: false,
            sha: is_x86_feature_detected!("sha"),
        };
        #[cfg(target_arch = "aarch64")]
        return CpuFeatures {
            neon: std::arch::is_aarch64_feature_detected!("neon"),
            aes: std::arch::is_aarch64_feature_detected!("aes"),
            sha: std::arch::is_aarch64_feature_detected!("sha2"),
            ..CpuFeatures::default()
        };
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        CpuFeatures::default()
    }
}

/// Looks at this machine. `io_uring` is what the reactor found when it tried.
pub fn probe(io_uring: Tried) -> Hardware {
    #[cfg(target_os = "linux")]
    return probe_at(Path::new("/"), io_uring);
    #[cfg(not(target_os = "linux"))]
    crate::elsewhere::probe(io_uring)
}

/// Looks at the Linux machine whose `/proc` and `/sys` lie below `root`; only the CPU's
/// instructions and the page size are always those of the machine that runs this.
pub fn probe_at(root: &Path, io_uring: Tried) -> Hardware {
    let mut guesses = Vec::new();
    let cpus_allowed = linux::cpus_allowed(root).unwrap_or_else(|| {
        guesses.push("/proc/self/status does not name the allowed CPUs: one is used".to_string());
        vec![0]
    });
    let memory_total_bytes = linux::memory_total(root).unwrap_or_else(|| {
        guesses.push("/proc/meminfo does not tell the memory: 1 GiB is assumed".to_string());
        MEMORY_ASSUMED_BYTES
    });
    let memlock_bytes = linux::memlock(root).unwrap_or_else(|| {
        guesses.push("/proc/self/limits does not tell the locked memory: none is assumed".into());
        0
    });
    let limits = crate::cgroup::limits(root);
    Hardware {
        os: std::env::consts::OS,
        arch: std::env::consts::ARCH,
        page_bytes: page_bytes(),
        cpus_allowed,
        cpus_isolated: linux::cpus_isolated(root),
        cgroup_cpu_quota: limits.cpu_quota,
        memory_total_bytes,
        memory_usable_bytes: limits.memory_bytes.unwrap_or(u64::MAX).min(memory_total_bytes),
        memlock_bytes,
        cpu: CpuFeatures::detect(),
        io_uring,
        ebpf: linux::ebpf(root),
        guesses,
    }
}

#[cfg(unix)]
pub(crate) fn page_bytes() -> u64 {
    rustix::param::page_size() as u64
}

#[cfg(not(unix))]
pub(crate) fn page_bytes() -> u64 {
    // Every Windows that Rust runs on; the allocation granularity differs, the page does not.
    4096
}
