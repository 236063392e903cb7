//! What Linux tells in `/proc` and `/sys`: proc(5), sysfs, capabilities(7).
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::arithmetic_side_effects))]

use std::path::Path;

use crate::hardware::Tried;
use crate::text::{field, read};

/// The greatest CPU number that is believed; the kernel's own limit is 8192 CPUs.
const CPU_NUMBER_MAX: usize = 8191;

/// CPUs that the process may use and that are online.
pub(crate) fn cpus_allowed(root: &Path) -> Option<Vec<usize>> {
    let status = read(root, "/proc/self/status")?;
    let allowed = cpu_list(field(&status, "Cpus_allowed_list:")?)?;
    // The list of a process that nobody has confined names every CPU the machine could ever have,
    // on some hypervisors 128 where there are 4.
    let online = read(root, "/sys/devices/system/cpu/online").and_then(|text| cpu_list(&text));
    let usable: Vec<usize> = match online {
        Some(online) => allowed.into_iter().filter(|cpu| online.contains(cpu)).collect(),
        None => allowed,
    };
    (!usable.is_empty()).then_some(usable)
}

/// CPUs that the scheduler leaves alone; none if the system does not say.
pub(crate) fn cpus_isolated(root: &Path) -> Vec<usize> {
    read(root, "/sys/devices/system/cpu/isolated")
        .and_then(|text| cpu_list(&text))
        .unwrap_or_default()
}

/// `0-3,8,10-11`, ascending and without repetition; the empty text is the empty list.
fn cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<usize>().ok()?, last.trim().parse().ok()?);
        if first > last || last > CPU_NUMBER_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Some(cpus)
}

/// The machine's memory in bytes.
pub(crate) fn memory_total(root: &Path) -> Option<u64> {
    let meminfo = read(root, "/proc/meminfo")?;
    let kib = field(&meminfo, "MemTotal:")?.strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    kib.checked_mul(1024).filter(|&bytes| bytes > 0)
}

/// The soft limit on locked memory in bytes; `u64::MAX` for none.
pub(crate) fn memlock(root: &Path) -> Option<u64> {
    let limits = read(root, "/proc/self/limits")?;
    match field(&limits, "Max locked memory")?.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        bytes => bytes.parse().ok(),
    }
}

const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;

/// Whether this process could load a filter and attach it to an interface, as far as its
/// capabilities tell. Being root says nothing: in a container root has few of them.
pub(crate) fn ebpf(root: &Path) -> Tried {
    let refused = |why: &str| Tried::Refused(why.to_string());
    // The file is there exactly if the kernel was built with bpf(2).
    let Some(unprivileged) = read(root, "/proc/sys/kernel/unprivileged_bpf_disabled") else {
        return refused("this kernel does not have the bpf system call");
    };
    let effective = read(root, "/proc/self/status")
        .and_then(|status| u64::from_str_radix(field(&status, "CapEff:")?, 16).ok());
    let Some(effective) = effective else {
        return refused("/proc/self/status does not tell the process's capabilities");
    };
    let has = |capability: u32| effective & (1 << capability) != 0;
    if !has(CAP_BPF) && !has(CAP_SYS_ADMIN) {
        let rule = match unprivileged.trim() {
            "0" => "without it this kernel allows socket filters only",
            _ => "and this kernel allows nothing without it",
        };
        return Tried::Refused(format!("the process does not have the capability CAP_BPF, {rule}"));
    }
    if !has(CAP_NET_ADMIN) {
        return refused(
            "the process has CAP_BPF but not CAP_NET_ADMIN, so it cannot attach a filter",
        );
    }
    // In a user namespace of its own a process has every capability, and none that counts here.
    if let Some(map) = read(root, "/proc/self/uid_map")
        && map.split_whitespace().ne(["0", "0", "4294967295"])
    {
        return refused("the process's capabilities hold only inside its user namespace");
    }
    Tried::Untried(
        "the process has the capabilities; the kernel decides when a filter is loaded".to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_read_as_the_kernel_writes_them() {
        assert_eq!(cpu_list("0-3,8,10-11\n"), Some(vec![0, 1, 2, 3, 8, 10, 11]));
        assert_eq!(cpu_list("5\n"), Some(vec![5]));
        assert_eq!(cpu_list("\n"), Some(vec![]));
        assert_eq!(cpu_list("4,2-4"), Some(vec![2, 3, 4]));
        assert_eq!(cpu_list("0-8191").unwrap().len(), 8192);
    }

    #[test]
    fn a_list_that_is_none_is_not_believed() {
        for text in ["x", "3-1", "1-", "-1", "0-8192", "0-18446744073709551616", "1 2"] {
            assert_eq!(cpu_list(text), None, "{text}");
        }
    }
}
