//! Plans for machines that were made up.

use std::time::Duration;

use pangea_probe::*;
use proptest::prelude::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn machine(cpus: usize, memory: u64) -> Hardware {
    Hardware {
        os: "linux",
        arch: "x86_64",
        page_bytes: 4096,
        cpus_allowed: (0..cpus).collect(),
        cpus_isolated: Vec::new(),
        cgroup_cpu_quota: None,
        memory_total_bytes: memory,
        memory_usable_bytes: memory,
        memlock_bytes: 8 * MIB,
        cpu: CpuFeatures { aes: true, avx2: true, ..CpuFeatures::default() },
        io_uring: Tried::Works,
        ebpf: Tried::Refused("made up".to_string()),
        guesses: Vec::new(),
    }
}

const NO_WISHES: Wishes = Wishes { cores: None, driver: DriverWish::Auto, spin: SpinWish::Never };

fn total(plan: &Plan) -> u64 {
    plan.memory.iter().map(|(_, bytes)| bytes).sum()
}

#[test]
fn a_small_arm_board_uses_both_cores_and_half_its_memory_at_most() {
    let mut board = machine(2, GIB);
    board.arch = "aarch64";
    board.cpu = CpuFeatures { neon: true, ..CpuFeatures::default() };
    let plan = plan(&board, &NO_WISHES);
    assert_eq!((plan.cores, plan.driver, plan.tier), (2, DriverKind::Uring, MemoryTier::Small));
    assert_eq!(plan.suite, Suite::XChaCha);
    assert_eq!(plan.pin, [0, 1]);
    assert_eq!((plan.budget.receive_buffers, plan.budget.receive_buffers_max), (32, 64));
    assert!(total(&plan) <= 512 * MIB);
    assert_eq!(
        plan.why,
        "Runs 2 cores (2 CPUs allowed) on io_uring (it works here), planned for small memory \
         (1.0 GiB)."
    );
    assert!(plan.notes.is_empty());
}

#[test]
fn a_large_server_gets_everything_that_helps() {
    let mut server = machine(64, 256 * GIB);
    server.cpu = CpuFeatures { avx512: true, gfni: true, vaes: true, ..server.cpu };
    let plan = plan(&server, &NO_WISHES);
    assert_eq!((plan.cores, plan.tier, plan.suite), (64, MemoryTier::Large, Suite::Aes));
    assert_eq!((plan.budget.receive_buffers, plan.budget.receive_buffers_max), (128, 512));
    assert_eq!(plan.budget.stream_bytes, 64 * MIB);
    assert!(total(&plan) < 16 * GIB, "a node takes what it needs, not what there is");
}

#[test]
fn a_container_with_half_a_cpu_runs_one_core_that_is_not_pinned() {
    let mut container = machine(8, 16 * GIB);
    container.cgroup_cpu_quota = Some(0.5);
    container.memory_usable_bytes = 512 * MIB;
    container.io_uring = Tried::Refused("EPERM: a seccomp filter forbids it".to_string());
    let plan = plan(&container, &Wishes { spin: SpinWish::WhenSpare, ..NO_WISHES });
    assert_eq!((plan.cores, plan.driver, plan.tier), (1, DriverKind::Mio, MemoryTier::Small));
    assert_eq!(plan.pin, [] as [usize; 0], "every container would pin itself to the same CPU");
    assert_eq!(plan.spin, Duration::ZERO);
    assert_eq!(
        plan.why,
        "Runs 1 core (the control group grants the time of 0.50 CPUs) on mio (io_uring is not \
         available: EPERM: a seccomp filter forbids it), planned for small memory (512 MiB \
         usable of 16.0 GiB)."
    );
    assert!(plan.notes[0].contains("do not spin"), "{:?}", plan.notes);
    assert!(total(&plan) <= 256 * MIB);
}

#[test]
fn a_quota_is_rounded_up_and_never_adds_cpus() {
    let cores = |quota| {
        let mut container = machine(4, 4 * GIB);
        container.cgroup_cpu_quota = Some(quota);
        plan(&container, &NO_WISHES).cores
    };
    assert_eq!(cores(0.01), 1);
    assert_eq!(cores(1.0), 1);
    assert_eq!(cores(1.01), 2);
    assert_eq!(cores(4.0), 4);
    assert_eq!(cores(100.0), 4);
}

#[test]
fn one_cpu_is_one_core_that_never_spins() {
    let wishes = Wishes { spin: SpinWish::WhenSpare, ..NO_WISHES };
    let plan = plan(&machine(1, 2 * GIB), &wishes);
    assert_eq!((plan.cores, plan.spin), (1, Duration::ZERO));
    assert!(plan.why.starts_with("Runs 1 core (1 CPU allowed) on "), "{}", plan.why);
    assert!(plan.notes[0].contains("--cores"), "{:?}", plan.notes);
}

#[test]
fn spinning_needs_a_wish_and_a_cpu_to_spare_or_isolated_ones() {
    let wishes = Wishes { cores: Some(3), spin: SpinWish::WhenSpare, ..NO_WISHES };
    let mut four = machine(4, 8 * GIB);
    let spared = plan(&four, &wishes);
    assert_eq!((spared.spin, &spared.pin[..]), (SPIN, &[1, 2, 3][..]));
    assert_eq!(plan(&four, &Wishes { spin: SpinWish::Never, ..wishes }).spin, Duration::ZERO);
    let all = Wishes { cores: Some(4), ..wishes };
    assert_eq!(plan(&four, &all).spin, Duration::ZERO);
    four.cpus_isolated = vec![0, 1, 2, 3];
    assert_eq!(plan(&four, &all).spin, SPIN);
    four.cpus_isolated = vec![0, 2, 7];
    assert_eq!(plan(&four, &Wishes { cores: Some(2), ..wishes }).pin, [0, 2]);
}

#[test]
fn without_io_uring_it_is_mio_and_says_why() {
    let mut machine = machine(2, 8 * GIB);
    machine.io_uring = Tried::Refused("ENOSYS".to_string());
    let auto = plan(&machine, &NO_WISHES);
    assert_eq!(auto.driver, DriverKind::Mio);
    assert!(auto.why.contains("ENOSYS") && auto.notes.is_empty());
    let forced = plan(&machine, &Wishes { driver: DriverWish::Uring, ..NO_WISHES });
    assert_eq!(forced.driver, DriverKind::Mio);
    assert!(forced.notes[0].contains("asked for and is not available: ENOSYS"));
    machine.io_uring = Tried::Untried("nobody looked".to_string());
    assert_eq!(plan(&machine, &NO_WISHES).driver, DriverKind::Mio);
}

#[test]
fn mio_can_be_asked_for_where_io_uring_works() {
    let wishes = Wishes { driver: DriverWish::Mio, ..NO_WISHES };
    assert_eq!(plan(&machine(2, 8 * GIB), &wishes).driver, DriverKind::Mio);
    let wishes = Wishes { driver: DriverWish::Uring, ..NO_WISHES };
    assert_eq!(plan(&machine(2, 8 * GIB), &wishes).driver, DriverKind::Uring);
}

#[test]
fn the_tiers_change_at_three_and_a_half_and_at_fifteen_gib_of_usable_memory() {
    let tier = |usable| {
        let mut machine = machine(2, 256 * GIB);
        machine.memory_usable_bytes = usable;
        plan(&machine, &NO_WISHES).tier
    };
    assert_eq!(tier(7 * GIB / 2 - 1), MemoryTier::Small);
    assert_eq!(tier(7 * GIB / 2), MemoryTier::Medium);
    assert_eq!(tier(15 * GIB - 1), MemoryTier::Medium);
    assert_eq!(tier(15 * GIB), MemoryTier::Large);
    // What machines sold with 4 and 16 GB tell.
    assert_eq!(tier(3_900 * MIB), MemoryTier::Medium);
    assert_eq!(tier(15_900 * MIB), MemoryTier::Large);
}

#[test]
fn the_wide_cipher_is_chosen_only_for_wide_aes() {
    let mut machine = machine(2, 8 * GIB);
    assert_eq!(plan(&machine, &NO_WISHES).suite, Suite::XChaCha);
    machine.cpu.vaes = true;
    assert_eq!(plan(&machine, &NO_WISHES).suite, Suite::Aes);
}

#[test]
fn one_core_over_the_most_is_not_used() {
    let at = plan(&machine(CORES_MAX, 256 * GIB), &NO_WISHES);
    assert_eq!(at.cores, CORES_MAX);
    let over = plan(&machine(CORES_MAX + 1, 256 * GIB), &NO_WISHES);
    assert_eq!((over.cores, over.pin.len()), (CORES_MAX, CORES_MAX));
    assert!(over.why.contains("129 CPUs"), "{}", over.why);
    let wished = Wishes { cores: Some(CORES_MAX + 1), ..NO_WISHES };
    let wished = plan(&machine(256, 256 * GIB), &wished);
    assert_eq!(wished.cores, CORES_MAX);
    assert!(wished.notes[0].contains("129 cores were asked for"), "{:?}", wished.notes);
    let none = plan(&machine(4, 8 * GIB), &Wishes { cores: Some(0), ..NO_WISHES });
    assert_eq!(none.cores, 1);
}

#[test]
fn more_cores_than_cpus_may_be_asked_for_and_are_not_pinned() {
    let plan = plan(&machine(2, 8 * GIB), &Wishes { cores: Some(4), ..NO_WISHES });
    assert_eq!((plan.cores, plan.pin.len()), (4, 0));
    assert!(plan.notes[0].contains("share 2 CPUs"), "{:?}", plan.notes);
}

#[test]
fn many_cpus_with_little_memory_are_given_less_each_and_then_are_fewer() {
    let tight = plan(&machine(16, GIB), &NO_WISHES);
    let roomy = plan(&machine(16, 3 * GIB), &NO_WISHES);
    assert_eq!((tight.cores, roomy.cores), (16, 16));
    assert!(tight.budget.pages < roomy.budget.pages);
    assert!(tight.budget.receive_buffers_max < roomy.budget.receive_buffers_max);
    let fewer = plan(&machine(64, 256 * MIB), &NO_WISHES);
    assert!((2..64).contains(&fewer.cores), "{}", fewer.cores);
    assert!(fewer.why.contains("memory is enough for no more, of 64"), "{}", fewer.why);
}

#[test]
fn below_the_least_memory_the_plan_is_the_least_and_says_so() {
    let at = plan(&machine(1, MEMORY_USABLE_MIN), &NO_WISHES);
    assert!(at.notes.is_empty());
    assert!(total(&at) <= MEMORY_USABLE_MIN / 2);
    let under = plan(&machine(4, MEMORY_USABLE_MIN - 1), &NO_WISHES);
    assert_eq!(under.cores, 1);
    assert!(under.notes[0].contains("64 MiB"), "{:?}", under.notes);
    plan(&machine(1, 1), &NO_WISHES);
}

#[test]
fn a_guess_about_the_hardware_is_passed_on() {
    let mut machine = machine(1, GIB);
    machine.guesses.push("no /proc".to_string());
    assert_eq!(plan(&machine, &NO_WISHES).notes, ["no /proc"]);
}

proptest! {
    #[test]
    fn every_machine_has_a_plan_that_fits_it(
        cpus in 1usize..300,
        total_bytes in 0u64..(1 << 42),
        usable in 0u64..(1 << 42),
        quota in prop::option::of(prop_oneof![0.0f64..200.0, any::<f64>()]),
        wished in prop::option::of(any::<usize>()),
        spin in prop_oneof![Just(SpinWish::Never), Just(SpinWish::WhenSpare)],
    ) {
        let mut machine = machine(cpus, total_bytes);
        machine.memory_usable_bytes = usable.min(total_bytes);
        machine.cgroup_cpu_quota = quota;
        let wishes = Wishes { cores: wished, spin, ..NO_WISHES };
        let made = plan(&machine, &wishes);
        prop_assert!((1..=CORES_MAX).contains(&made.cores));
        prop_assert!(made.pin.is_empty() || made.pin.len() == made.cores);
        prop_assert!(made.pin.iter().all(|cpu| machine.cpus_allowed.contains(cpu)));
        prop_assert!(total(&made) <= made.memory_share_bytes);
        prop_assert!(made.memory_share_bytes <= machine.memory_usable_bytes.max(MEMORY_USABLE_MIN));
        prop_assert!(made.budget.receive_buffers_max.is_power_of_two());
        prop_assert!(made.budget.receive_buffers.is_power_of_two());
        prop_assert!(made.budget.receive_buffers <= made.budget.receive_buffers_max);
        prop_assert!(made.spin.is_zero() || quota.is_none());
        prop_assert_eq!(plan(&machine, &wishes), made);
    }
}
