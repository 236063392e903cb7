//! Probing of `/proc` and `/sys` trees that were made up, and of the machine that runs this.

use std::fs;

use pangea_probe::*;
use tempfile::TempDir;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
const KIB_16_GIB: &str = "MemTotal:       16777216 kB\nMemFree: 1 kB\n";

struct Tree(TempDir);

impl Tree {
    fn empty() -> Tree {
        Tree(tempfile::tempdir().unwrap())
    }

    /// A machine with 4 CPUs, 16 GiB and no control groups, and an ordinary user.
    fn plain() -> Tree {
        Tree::empty()
            .with("proc/self/status", "Name:\tx\nCapEff:\t0000000000000000\nCpus_allowed:\tf\nCpus_allowed_list:\t0-3\n")
            .with("proc/self/limits", "Limit  Soft Limit  Hard Limit  Units\nMax locked memory         8388608              8388608              bytes     \n")
            .with("proc/self/uid_map", "         0          0 4294967295\n")
            .with("proc/meminfo", KIB_16_GIB)
            .with("proc/sys/kernel/unprivileged_bpf_disabled", "2\n")
            .with("sys/devices/system/cpu/online", "0-3\n")
            .with("sys/devices/system/cpu/isolated", "\n")
    }

    /// `plain` in a version 2 group /a/b/c.
    fn version_two() -> Tree {
        Tree::plain()
            .with("proc/self/cgroup", "0::/a/b/c\n")
            .with(
                "proc/self/mountinfo",
                "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n\
                 31 22 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n",
            )
            .with("sys/fs/cgroup/a/b/c/memory.max", "max\n")
            .with("sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n")
    }

    fn with(self, path: &str, text: &str) -> Tree {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn without(self, path: &str) -> Tree {
        fs::remove_file(self.0.path().join(path)).unwrap();
        self
    }

    fn probe(&self) -> Hardware {
        probe_at(self.0.path(), Tried::Works)
    }
}

#[test]
fn a_plain_machine_is_usable_as_a_whole() {
    let found = Tree::plain().probe();
    assert_eq!(found.cpus_allowed, [0, 1, 2, 3]);
    assert_eq!(found.cgroup_cpu_quota, None);
    assert_eq!((found.memory_total_bytes, found.memory_usable_bytes), (16 * GIB, 16 * GIB));
    assert_eq!(found.memlock_bytes, 8 * MIB);
    assert_eq!(found.io_uring, Tried::Works);
    assert!(found.guesses.is_empty() && found.cpus_isolated.is_empty());
}

#[test]
fn affinity_narrows_the_cpus_and_offline_ones_do_not_count() {
    let found = Tree::plain()
        .with("proc/self/status", "Cpus_allowed_list:\t1,3-127\n")
        .with("sys/devices/system/cpu/online", "0-4\n")
        .with("sys/devices/system/cpu/isolated", "3\n")
        .probe();
    assert_eq!(found.cpus_allowed, [1, 3, 4]);
    assert_eq!(found.cpus_isolated, [3]);
}

#[test]
fn limits_of_version_two_are_the_least_along_the_path() {
    let tree = Tree::version_two();
    let found = tree.probe();
    assert_eq!((found.memory_usable_bytes, found.cgroup_cpu_quota), (16 * GIB, None));

    let found = tree
        .with("sys/fs/cgroup/a/b/c/memory.max", "4294967296\n")
        .with("sys/fs/cgroup/a/b/memory.max", "2147483648\n")
        .with("sys/fs/cgroup/a/memory.max", "8589934592\n")
        .with("sys/fs/cgroup/a/b/c/cpu.max", "300000 100000\n")
        .with("sys/fs/cgroup/a/cpu.max", "150000 100000\n")
        // Beside the path, so none of ours.
        .with("sys/fs/cgroup/a/x/memory.max", "1048576\n")
        .probe();
    assert_eq!(found.memory_usable_bytes, 2 * GIB);
    assert_eq!(found.memory_total_bytes, 16 * GIB);
    assert_eq!(found.cgroup_cpu_quota, Some(1.5));
}

#[test]
fn the_mark_from_which_a_group_is_slowed_down_counts_as_a_limit() {
    let found = Tree::version_two()
        .with("sys/fs/cgroup/a/b/c/memory.max", "4294967296\n")
        .with("sys/fs/cgroup/a/b/c/memory.high", "3221225472\n")
        .probe();
    assert_eq!(found.memory_usable_bytes, 3 * GIB);
}

#[test]
fn a_limit_above_the_machine_s_memory_limits_nothing() {
    let found =
        Tree::version_two().with("sys/fs/cgroup/a/b/c/memory.max", "99999999999999\n").probe();
    assert_eq!(found.memory_usable_bytes, 16 * GIB);
}

#[test]
fn limits_of_version_one_are_read_for_each_controller_from_its_own_mount() {
    let found = Tree::plain()
        .with("proc/self/cgroup", "4:memory:/job\n2:cpu,cpuacct:/job/cpu\n1:freezer:/\n0::/\n")
        .with(
            "proc/self/mountinfo",
            "30 22 0:27 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n\
             31 30 0:28 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
             32 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             33 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        )
        .with("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
        .with("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "536870912\n")
        .with("sys/fs/cgroup/cpu,cpuacct/job/cpu/cpu.cfs_quota_us", "-1\n")
        .with("sys/fs/cgroup/cpu,cpuacct/job/cpu/cpu.cfs_period_us", "100000\n")
        .with("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "50000\n")
        .with("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n")
        .probe();
    assert_eq!(found.memory_usable_bytes, 512 * MIB);
    assert_eq!(found.cgroup_cpu_quota, Some(0.5));
}

#[test]
fn a_container_that_sees_its_own_group_as_the_root_finds_its_limit() {
    // Docker with version 1: named from outside, mounted from inside.
    let docker = Tree::plain()
        .with("proc/self/cgroup", "4:memory:/docker/4f2a\n")
        .with(
            "proc/self/mountinfo",
            "31 30 0:28 /docker/4f2a /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
        )
        .with("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n");
    assert_eq!(docker.probe().memory_usable_bytes, GIB);
    // A name that only begins alike is not below it.
    let other = docker.with("proc/self/cgroup", "4:memory:/docker/4f2abc/x\n");
    assert_eq!(other.probe().memory_usable_bytes, GIB);
    // A group outside our namespace.
    let outside = Tree::version_two()
        .with("proc/self/cgroup", "0::/../../other\n")
        .with("sys/fs/cgroup/memory.max", "1073741824\n");
    assert_eq!(outside.probe().memory_usable_bytes, GIB);
}

#[test]
fn nonsense_in_limit_files_is_no_limit() {
    for text in ["", "-1", "x", "0", "99999999999999999999999", "\0\u{fffd}"] {
        let found = Tree::version_two()
            .with("sys/fs/cgroup/a/b/c/memory.max", text)
            .with("sys/fs/cgroup/a/b/c/cpu.max", text)
            .probe();
        assert_eq!(found.memory_usable_bytes, 16 * GIB, "{text:?}");
        assert_eq!(found.cgroup_cpu_quota, None, "{text:?}");
    }
}

#[test]
fn an_unlimited_memlock_is_no_limit() {
    let line = "Max locked memory         unlimited            unlimited            bytes\n";
    assert_eq!(Tree::plain().with("proc/self/limits", line).probe().memlock_bytes, u64::MAX);
}

#[test]
fn what_cannot_be_read_is_guessed_and_named() {
    let found = Tree::empty().probe();
    assert_eq!(found.cpus_allowed, [0]);
    assert_eq!(found.memory_total_bytes, MEMORY_ASSUMED_BYTES);
    assert_eq!(found.memlock_bytes, 0);
    assert_eq!(found.guesses.len(), 3, "{:?}", found.guesses);
    let wishes = Wishes { cores: None, driver: DriverWish::Auto, spin: SpinWish::Never };
    assert_eq!(plan(&found, &wishes).cores, 1);
}

fn capabilities(hex: &str) -> Tree {
    Tree::plain().with("proc/self/status", &format!("CapEff:\t{hex}\nCpus_allowed_list:\t0\n"))
}

fn refusal(tree: &Tree) -> String {
    match tree.probe().ebpf {
        Tried::Refused(why) => why,
        other => panic!("it should be refused, and is {other:?}"),
    }
}

#[test]
fn ebpf_needs_capabilities_and_not_root() {
    const BPF: u64 = 1 << 39;
    const SYS_ADMIN: u64 = 1 << 21;
    const NET_ADMIN: u64 = 1 << 12;
    let with = |bits: u64| capabilities(&format!("{bits:016x}"));
    for bits in [BPF | NET_ADMIN, SYS_ADMIN | NET_ADMIN, u64::MAX] {
        assert!(matches!(with(bits).probe().ebpf, Tried::Untried(_)), "{bits:x}");
    }
    assert!(refusal(&with(BPF)).contains("CAP_NET_ADMIN"));
    assert!(refusal(&with(NET_ADMIN)).contains("allows nothing without it"));
    let open = with(0).with("proc/sys/kernel/unprivileged_bpf_disabled", "0\n");
    assert!(refusal(&open).contains("socket filters only"));
    assert!(refusal(&capabilities("zz")).contains("does not tell"));
}

#[test]
fn ebpf_is_refused_in_a_user_namespace_and_without_the_system_call() {
    let all = || capabilities("000001ffffffffff");
    let inside = all().with("proc/self/uid_map", "         0     100000      65536\n");
    assert!(refusal(&inside).contains("user namespace"));
    let old = all().without("proc/sys/kernel/unprivileged_bpf_disabled");
    assert!(refusal(&old).contains("does not have the bpf system call"));
}

#[test]
fn this_machine_can_be_probed_and_planned_for() {
    let found = probe(Tried::Refused("not asked".to_string()));
    assert_eq!(found.guesses, [] as [&str; 0]);
    assert!(found.page_bytes.is_power_of_two() && found.page_bytes >= 4096);
    assert!(found.memory_usable_bytes <= found.memory_total_bytes);
    let parallel = std::thread::available_parallelism().unwrap().get();
    let wishes = Wishes { cores: None, driver: DriverWish::Auto, spin: SpinWish::Never };
    let plan = plan(&found, &wishes);
    if found.cgroup_cpu_quota.is_none() {
        assert_eq!(plan.cores, parallel.min(CORES_MAX), "{found:?}");
    }
    assert_eq!(plan.driver, DriverKind::Mio);
}

#[test]
fn outcomes_read_as_a_person_says_them() {
    assert_eq!(Tried::Works.to_string(), "works");
    assert_eq!(Tried::Refused("EPERM".into()).to_string(), "not available (EPERM)");
    assert_eq!(Tried::Untried("caps".into()).to_string(), "should work, not tried (caps)");
}
