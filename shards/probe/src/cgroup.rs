//! Limits of control groups, version 1 and 2: cgroups(7), the kernel's cgroup-v2.rst, proc(5) on
//! mountinfo. A limit anywhere between a group and the root holds for the group, so every directory
//! along the path is asked and the least answer counts.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::arithmetic_side_effects))]

use std::path::Path;

use crate::text::read;

/// Deeper groups than this are not looked at; systemd inside Kubernetes reaches about ten.
const DEPTH_MAX: usize = 64;

/// More mounts of control groups than this are not looked at; version 1 has about a dozen.
const MOUNTS_MAX: usize = 64;

/// What the control groups of this process allow; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Limits {
    pub(crate) cpu_quota: Option<f64>,
    pub(crate) memory_bytes: Option<u64>,
}

/// The least limits along the paths of the groups that this process is in.
pub(crate) fn limits(root: &Path) -> Limits {
    let groups = read(root, "/proc/self/cgroup").unwrap_or_default();
    let mountinfo = read(root, "/proc/self/mountinfo").unwrap_or_default();
    let mut found = Limits::default();
    for mount in mountinfo.lines().filter_map(mount).take(MOUNTS_MAX) {
        let Some(group) = groups.lines().find_map(|line| group_in(line, &mount)) else { continue };
        for directory in directories(&mount, group) {
            let file = |name: &str| read(root, &format!("{directory}/{name}"));
            found.take_in(&mount.version, file);
        }
    }
    found
}

impl Limits {
    fn take_in(&mut self, version: &Version, file: impl Fn(&str) -> Option<String>) {
        let (quota, memory) = match version {
            // Above `high` a group is slowed down until it has given memory back: as good as a
            // limit for someone who plans.
            Version::Two => (
                file("cpu.max").and_then(|text| quota_v2(&text)),
                least(
                    file("memory.max").and_then(|text| memory_limit(&text)),
                    file("memory.high").and_then(|text| memory_limit(&text)),
                    u64::min,
                ),
            ),
            Version::One => (
                quota_v1(file("cpu.cfs_quota_us"), file("cpu.cfs_period_us")),
                file("memory.limit_in_bytes").and_then(|text| memory_limit(&text)),
            ),
        };
        self.cpu_quota = least(self.cpu_quota, quota, f64::min);
        self.memory_bytes = least(self.memory_bytes, memory, u64::min);
    }
}

fn least<T>(a: Option<T>, b: Option<T>, min: fn(T, T) -> T) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(min(a, b)),
        (a, b) => a.or(b),
    }
}

/// `50000 100000` or `max 100000`: time in each period, both in microseconds.
fn quota_v2(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    quota_of(quota.parse().ok()?, period.parse().ok()?)
}

fn quota_v1(quota: Option<String>, period: Option<String>) -> Option<f64> {
    // -1 is no quota, and no u32.
    quota_of(quota?.trim().parse().ok()?, period?.trim().parse().ok()?)
}

fn quota_of(quota_us: u32, period_us: u32) -> Option<f64> {
    (quota_us > 0 && period_us > 0).then(|| f64::from(quota_us) / f64::from(period_us))
}

/// Bytes, or `max`. Version 1 writes "no limit" as a number that no machine has, which is
/// harmless: the machine's own memory is less. A limit of 0 belongs to a group in which nothing
/// runs, so it is not believed.
fn memory_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|&bytes| bytes > 0)
}

#[derive(Debug, Clone, PartialEq)]
enum Version {
    One,
    Two,
}

#[derive(Debug, Clone, PartialEq)]
struct Mount {
    version: Version,
    // The group that is seen at the mount point: "/" unless a container was given a part.
    group: String,
    point: String,
    // Version 1: the controllers that are mounted here, among other options.
    options: String,
}

/// One line of mountinfo, if it mounts control groups that can limit us:
/// `31 23 0:28 /group /mount/point rw,relatime shared:1 - cgroup2 source rw,options`.
fn mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let (group, point) = (unescape(before.next()?), unescape(before.next()?));
    let mut after = after.split(' ');
    let version = match after.next()? {
        "cgroup" => Version::One,
        "cgroup2" => Version::Two,
        _ => return None,
    };
    let options = after.nth(1)?.to_string();
    let limits_us = |option| matches!(option, "cpu" | "memory");
    (version == Version::Two || options.split(',').any(limits_us)).then_some(Mount {
        version,
        group,
        point,
        options,
    })
}

/// Blank, tab, line end and backslash are written as a backslash and three octal digits.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// The path of our group in the hierarchy of `mount`, from a line of `/proc/self/cgroup`:
/// `4:memory:/group` in version 1, `0::/group` in version 2.
fn group_in<'a>(line: &'a str, mount: &Mount) -> Option<&'a str> {
    let (_number, rest) = line.split_once(':')?;
    let (controllers, group) = rest.split_once(':')?;
    let matches = match mount.version {
        Version::Two => controllers.is_empty(),
        Version::One => controllers
            .split(',')
            .any(|c| !c.is_empty() && mount.options.split(',').any(|option| option == c)),
    };
    matches.then_some(group)
}

/// The directories from the mount point down to our group.
fn directories(mount: &Mount, group: &str) -> Vec<String> {
    // A container sees its own group as the mount point, under a name from outside; then the
    // mount point is as near as we get. So it is for a group outside our namespace (`/../x`).
    let below = match mount.group.trim_end_matches('/') {
        "" => group,
        top => match group.strip_prefix(top) {
            Some(below) if below.is_empty() || below.starts_with('/') => below,
            _ => "",
        },
    };
    let mut directory = mount.point.clone();
    let mut all = vec![directory.clone()];
    if below.split('/').any(|part| part == "..") {
        return all;
    }
    for part in below.split('/').filter(|part| !part.is_empty()).take(DEPTH_MAX) {
        directory.push('/');
        directory.push_str(part);
        all.push(directory.clone());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_time_over_period() {
        assert_eq!(quota_v2("50000 100000\n"), Some(0.5));
        assert_eq!(quota_v2("max 100000\n"), None);
        assert_eq!(quota_v2("0 0"), None);
        let quota = |quota: &str, period: &str| quota_v1(Some(quota.into()), Some(period.into()));
        assert_eq!(quota("250000\n", "100000\n"), Some(2.5));
        assert_eq!(quota("-1\n", "100000\n"), None);
        assert_eq!(quota_v1(Some("1000".into()), None), None);
    }

    #[test]
    fn a_mount_line_is_read_with_its_optional_fields() {
        let line = "31 23 0:28 /docker/a /sys/fs/c\\040group rw shared:9 master:1 - cgroup2 cg rw";
        let read = mount(line).unwrap();
        assert_eq!((read.group.as_str(), read.point.as_str()), ("/docker/a", "/sys/fs/c group"));
        assert_eq!(read.version, Version::Two);
        assert_eq!(mount("31 23 0:28 / /tmp rw - tmpfs tmpfs rw"), None);
        assert_eq!(mount("31 23 0:28 / /x rw - cgroup cgroup rw,freezer"), None);
        assert_eq!(mount("31 23"), None);
        assert_eq!(mount("- cgroup2"), None);
    }

    #[test]
    fn mounts_beyond_the_limit_are_not_looked_at() {
        let memory_at_mount = |last: usize| {
            let root = tempfile::tempdir().unwrap();
            let write = |path: &str, text: &str| {
                let path = root.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            };
            let line = |n| format!("31 22 0:28 / /cg{n} rw - cgroup2 cgroup2 rw\n");
            write("proc/self/mountinfo", &(1..=last).map(line).collect::<String>());
            write("proc/self/cgroup", "0::/\n");
            write(&format!("cg{last}/memory.max"), "4096\n");
            limits(root.path()).memory_bytes
        };
        assert_eq!(memory_at_mount(MOUNTS_MAX), Some(4096));
        assert_eq!(memory_at_mount(MOUNTS_MAX + 1), None);
    }

    #[test]
    fn groups_deeper_than_the_limit_are_not_looked_at() {
        let mount = mount("1 1 0:1 / /cg rw - cgroup2 cg rw").unwrap();
        let deep = "/g".repeat(DEPTH_MAX + 1);
        assert_eq!(directories(&mount, &deep).len(), DEPTH_MAX + 1);
        assert_eq!(directories(&mount, "/a/b"), ["/cg", "/cg/a", "/cg/a/b"]);
        assert_eq!(directories(&mount, "/../b"), ["/cg"]);
    }
}
