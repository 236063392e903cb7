use std::time::Duration;

pub use pangea_base::CORES_MAX;

use crate::budget::{self, Budget, MEMORY_USABLE_MIN};
use crate::hardware::{Hardware, Tried};
use crate::text::size;

/// From this much usable memory on, the plan is [`MemoryTier::Large`]: 15 GiB, so that a machine
/// sold with 16, which shows a little less, is one.
pub const MEMORY_LARGE_MIN: u64 = 15 << 30;

/// From this much usable memory on, the plan is [`MemoryTier::Medium`]: 3.5 GiB, as for 4.
pub const MEMORY_MEDIUM_MIN: u64 = 7 << 29;

/// How long a core that may spin looks for work before it sleeps.
pub const SPIN: Duration = Duration::from_micros(30);

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wishes {
    /// This many cores, instead of as many as the process may use.
    pub cores: Option<usize>,
    /// Which driver.
    pub driver: DriverWish,
    /// Whether cores may spin.
    pub spin: SpinWish,
}

/// Which driver the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverWish {
    /// io_uring where it works, else mio.
    Auto,
    /// io_uring.
    Uring,
    /// epoll, kqueue or IOCP through mio.
    Mio,
}

/// Whether the user lets cores spin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpinWish {
    /// Sleep at once when there is nothing to do.
    Never,
    /// Look for work for [`SPIN`] first, if that takes no CPU away from anyone.
    WhenSpare,
}

/// Which driver is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverKind {
    /// io_uring.
    Uring,
    /// epoll, kqueue or IOCP through mio.
    Mio,
}

/// How much memory there is to plan with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemoryTier {
    /// Under [`MEMORY_MEDIUM_MIN`]: 1 MiB chunks of 64 KiB segments.
    Small,
    /// From [`MEMORY_MEDIUM_MIN`]: 10 MiB chunks.
    Medium,
    /// From [`MEMORY_LARGE_MIN`]: 100 MiB chunks.
    Large,
}

impl MemoryTier {
    /// The tier of so much usable memory.
    pub const fn of(usable_bytes: u64) -> MemoryTier {
        match usable_bytes {
            MEMORY_LARGE_MIN.. => MemoryTier::Large,
            MEMORY_MEDIUM_MIN.. => MemoryTier::Medium,
            _ => MemoryTier::Small,
        }
    }
}

/// The cipher to encrypt with where the user leaves the choice; every node opens both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// XChaCha20-Poly1305.
    XChaCha,
    /// AES-256-GCM, three times as fast where the CPU does AES on wide vectors.
    Aes,
}

/// What the node does with the machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Threads with an engine, 1 to [`CORES_MAX`].
    pub cores: usize,
    /// The CPU of each core, or nothing if they are not pinned: under a quota, where others share
    /// the CPUs and all would pin themselves to the same ones, or with more cores than CPUs.
    pub pin: Vec<usize>,
    /// The driver of every core.
    pub driver: DriverKind,
    /// How long a core looks for work before it sleeps; zero is not at all.
    pub spin: Duration,
    /// By usable memory.
    pub tier: MemoryTier,
    /// The cipher of choice.
    pub suite: Suite,
    /// How many buffers of each kind.
    pub budget: Budget,
    /// The budget of the whole node, part by part, in bytes: what it uses at most, not what it
    /// takes at the start. The sum is at most `memory_share_bytes`.
    pub memory: Vec<(&'static str, u64)>,
    /// What was planned with: half of the usable memory.
    pub memory_share_bytes: u64,
    /// One sentence for a person: cores, driver and memory, each with its reason.
    pub why: String,
    /// Wishes that could not be granted and other surprises, one sentence each; mostly empty.
    pub notes: Vec<String>,
}

/// Decides what to do with `hardware`. Pure: equal arguments give equal plans.
pub fn plan(hardware: &Hardware, wishes: &Wishes) -> Plan {
    let mut notes = hardware.guesses.clone();
    let tier = MemoryTier::of(hardware.memory_usable_bytes);
    let memory_share_bytes = budget::share(hardware.memory_usable_bytes);
    if hardware.memory_usable_bytes < MEMORY_USABLE_MIN {
        notes.push(format!(
            "only {} of memory are usable, and the node needs {} when busy",
            size(hardware.memory_usable_bytes),
            size(MEMORY_USABLE_MIN)
        ));
    }
    let (asked, mut cores_why) = cores(hardware, wishes, &mut notes);
    let (cores, budget) = fit(asked, tier, memory_share_bytes);
    if cores < asked {
        cores_why = format!("memory is enough for no more, of {asked} that could run");
    }
    let pin = pin(hardware, cores);
    let spin = spin(hardware, wishes, cores, &pin, &mut notes);
    let (driver, driver_why) = driver(hardware, wishes, &mut notes);
    let memory = budget.table(cores);
    let total: u64 = memory.iter().map(|(_, bytes)| bytes).sum();
    assert!(total <= memory_share_bytes, "a budget fits what it was made for");
    Plan {
        cores,
        pin,
        driver,
        spin,
        tier,
        suite: if hardware.cpu.vaes { Suite::Aes } else { Suite::XChaCha },
        budget,
        memory,
        memory_share_bytes,
        why: why(hardware, cores, &cores_why, driver, &driver_why, tier),
        notes,
    }
}

/// How many cores to aim at, and why.
fn cores(hardware: &Hardware, wishes: &Wishes, notes: &mut Vec<String>) -> (usize, String) {
    let allowed = hardware.cpus_allowed.len().max(1);
    if let Some(wished) = wishes.cores {
        let granted = wished.clamp(1, CORES_MAX);
        if granted != wished {
            notes.push(format!(
                "{wished} cores were asked for, and a node has 1 to {CORES_MAX}: {granted} it is"
            ));
        }
        if granted > allowed {
            notes.push(format!(
                "{granted} cores share {}, which is good for tests and not for speed",
                plural(allowed, "CPU")
            ));
        }
        return (granted, "asked for".to_string());
    }
    // A part of a CPU is a core as well; the fraction is rounded up.
    let quota = hardware.cgroup_cpu_quota.map(|quota| (quota.ceil() as usize).max(1));
    match quota {
        Some(quota) if quota < allowed.min(CORES_MAX) => {
            let granted = hardware.cgroup_cpu_quota.unwrap_or_default();
            (quota, format!("the control group grants the time of {granted:.2} CPUs"))
        }
        _ if allowed > CORES_MAX => (CORES_MAX, format!("the most, of {allowed} CPUs allowed")),
        _ => (allowed, format!("{} allowed", plural(allowed, "CPU"))),
    }
}

/// The budget, with fewer cores if the memory has no room for all of them.
fn fit(asked: usize, tier: MemoryTier, share_bytes: u64) -> (usize, Budget) {
    (1..=asked)
        .rev()
        .find_map(|cores| Some((cores, budget::budget(cores, tier, share_bytes)?)))
        .expect("one core fits the least share, as budget.rs asserts")
}

fn pin(hardware: &Hardware, cores: usize) -> Vec<usize> {
    let allowed = &hardware.cpus_allowed;
    if hardware.cgroup_cpu_quota.is_some() || cores > allowed.len() {
        return Vec::new();
    }
    let isolated = |cpu: &&usize| hardware.cpus_isolated.contains(cpu);
    let own: Vec<usize> = allowed.iter().filter(isolated).copied().collect();
    if own.len() >= cores {
        return own.into_iter().take(cores).collect();
    }
    // The last ones: the first has the system's interrupts, and the control thread if it is left.
    allowed.iter().skip(allowed.len() - cores).copied().collect()
}

fn spin(
    hardware: &Hardware,
    wishes: &Wishes,
    cores: usize,
    pin: &[usize],
    notes: &mut Vec<String>,
) -> Duration {
    if wishes.spin == SpinWish::Never {
        return Duration::ZERO;
    }
    let isolated = !pin.is_empty() && pin.iter().all(|cpu| hardware.cpus_isolated.contains(cpu));
    let spare = cores < hardware.cpus_allowed.len() || isolated;
    if hardware.cgroup_cpu_quota.is_some() {
        notes.push("cores do not spin: it would use up the control group's CPU time".to_string());
        return Duration::ZERO;
    }
    if !spare {
        notes.push(
            "cores do not spin: no CPU would be left for anything else (use fewer with --cores)"
                .to_string(),
        );
        return Duration::ZERO;
    }
    SPIN
}

fn driver(hardware: &Hardware, wishes: &Wishes, notes: &mut Vec<String>) -> (DriverKind, String) {
    match (wishes.driver, &hardware.io_uring) {
        (DriverWish::Mio, _) => (DriverKind::Mio, "asked for".to_string()),
        (DriverWish::Uring, Tried::Works) => (DriverKind::Uring, "asked for".to_string()),
        (DriverWish::Auto, Tried::Works) => (DriverKind::Uring, "it works here".to_string()),
        (wish, Tried::Untried(why) | Tried::Refused(why)) => {
            if wish == DriverWish::Uring {
                notes.push(format!("io_uring was asked for and is not available: {why}"));
            }
            (DriverKind::Mio, format!("io_uring is not available: {why}"))
        }
    }
}

fn why(
    hardware: &Hardware,
    cores: usize,
    cores_why: &str,
    driver: DriverKind,
    driver_why: &str,
    tier: MemoryTier,
) -> String {
    let driver = match driver {
        DriverKind::Uring => "io_uring",
        DriverKind::Mio => "mio",
    };
    let tier = match tier {
        MemoryTier::Small => "small",
        MemoryTier::Medium => "medium",
        MemoryTier::Large => "large",
    };
    let (usable, total) = (hardware.memory_usable_bytes, hardware.memory_total_bytes);
    let memory = if usable < total {
        format!("{} usable of {}", size(usable), size(total))
    } else {
        size(total)
    };
    format!(
        "Runs {} ({cores_why}) on {driver} ({driver_why}), planned for {tier} memory ({memory}).",
        plural(cores, "core"),
    )
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
