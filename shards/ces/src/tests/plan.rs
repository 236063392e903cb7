use super::*;
use crate::SuiteChoice;
use crate::plan::{
    CHUNK_STEP_BYTES, CLIENT_BUDGET_BYTES, CompressionChoice, Cpu, PARALLELISM_MAX, Plan,
    PlanRefused, SMALL_CHUNK_BYTES, Situation, plan,
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const GBIT: u64 = 125_000_000;

fn machine() -> Situation {
    Situation {
        bandwidth: Some(GBIT),
        load_percent: 10,
        object_bytes: Some(10 * GIB),
        memory_usable_bytes: 16 * GIB,
        budget_bytes: CLIENT_BUDGET_BYTES,
        holders: 14,
        cpu: Cpu { cores: 4, wide_aes: true },
        code: None,
        suite: SuiteChoice::Auto,
        compression: CompressionChoice::Auto,
        padding: Padding::Off,
        previous: None,
    }
}

fn made(situation: Situation) -> Plan {
    plan(&situation).unwrap_or_else(|refusal| panic!("{refusal}: {situation:?}"))
}

/// One core, a slow line, a busy machine, all the budget there can be: the chunk is the tier's.
fn at_the_cap(memory_usable_bytes: u64) -> Plan {
    made(Situation {
        bandwidth: Some(100_000),
        load_percent: 100,
        memory_usable_bytes,
        budget_bytes: 8 * GIB,
        ..machine()
    })
}

#[test]
fn memory_tiers_change_exactly_at_their_edges() {
    let tiers = [
        (15 * GIB, 100 * MIB, 131_072),
        (15 * GIB - 1, 10 * MIB, 131_072),
        (7 * GIB / 2, 10 * MIB, 131_072),
        (7 * GIB / 2 - 1, MIB, 65_536),
        (0, MIB, 65_536),
        (u64::MAX, 100 * MIB, 131_072),
    ];
    for (usable, chunk, segment) in tiers {
        let plan = at_the_cap(usable);
        assert_eq!((plan.chunk_bytes, plan.segment_bytes), (chunk, segment), "{usable} bytes");
    }
}

#[test]
fn a_16_gb_host_is_in_the_first_tier_and_a_4_gb_host_in_the_second() {
    // What such hosts have to use after firmware and kernel (PD-09, PD-10).
    assert_eq!(at_the_cap(15_600 * MIB).chunk_bytes, 100 * MIB);
    assert_eq!(at_the_cap(3_800 * MIB).chunk_bytes, 10 * MIB);
}

#[test]
fn a_fast_line_gets_small_chunks_and_two_per_core() {
    for (bandwidth, cores, budget) in [(GBIT, 2, 128), (GBIT, 4, 256), (10 * GBIT, 8, 256)] {
        let plan = made(Situation {
            bandwidth: Some(bandwidth),
            cpu: Cpu { cores, wide_aes: true },
            budget_bytes: budget * MIB,
            ..machine()
        });
        assert!((4 * MIB..=16 * MIB).contains(&plan.chunk_bytes), "{plan:?}");
        assert_eq!(plan.parallelism, 2 * cores, "{plan:?}");
    }
}

#[test]
fn a_slow_line_or_a_busy_machine_gets_large_chunks_one_or_two_at_once() {
    for (bandwidth, load_percent) in [(500_000, 0), (5_000_000, 90), (40_000_000, 95)] {
        let plan = made(Situation { bandwidth: Some(bandwidth), load_percent, ..machine() });
        assert!(plan.chunk_bytes >= 40 * MIB && plan.parallelism <= 2, "{plan:?}");
    }
}

#[test]
fn an_object_keeps_every_core_busy_when_the_line_is_fast() {
    for object in [3 * MIB, 8 * MIB, 20 * MIB, 100 * MIB] {
        let plan = made(Situation { object_bytes: Some(object), ..machine() });
        let chunks = object.div_ceil(plan.chunk_bytes);
        assert!(chunks >= 8.min(object / MIB) / 2 && chunks >= 2, "{object}: {plan:?}");
        assert!(plan.parallelism as u64 <= chunks);
    }
}

#[test]
fn chunks_are_whole_mebibytes_but_for_smaller_objects() {
    for object in [0, 1, 1000, SMALL_CHUNK_BYTES, SMALL_CHUNK_BYTES + 1, MIB - 1] {
        let plan = made(Situation { object_bytes: Some(object), ..machine() });
        assert_eq!(plan.chunk_bytes, object.max(1));
        assert_eq!(plan.parallelism, 1);
        let segment = if object <= SMALL_CHUNK_BYTES { 65_536 } else { 131_072 };
        assert_eq!(plan.segment_bytes, segment, "{object}");
    }
    for object in [MIB, MIB + 1, 7 * MIB + 5, 333 * MIB + 1] {
        let plan = made(Situation { object_bytes: Some(object), ..machine() });
        assert!(plan.chunk_bytes.is_multiple_of(CHUNK_STEP_BYTES), "{plan:?}");
    }
    assert!(made(Situation { object_bytes: None, ..machine() }).chunk_bytes.is_multiple_of(MIB));
}

/// Every made-up machine of a grid.
fn machines() -> impl Iterator<Item = Situation> {
    let memory = [GIB / 2, 4 * GIB, 64 * GIB];
    let budgets = [2 * MIB, 24 * MIB, 128 * MIB, 2 * GIB];
    let codes = [None, Code::new(1, 0), Code::new(4, 4), Code::new(1, 3)];
    let objects = [None, Some(0), Some(700_000), Some(5 * MIB), Some(64 * MIB), Some(20 * GIB)];
    let cores = [1, 2, 16, 128];
    memory.into_iter().flat_map(move |memory_usable_bytes| {
        budgets.into_iter().flat_map(move |budget_bytes| {
            codes.into_iter().flat_map(move |code| {
                objects.into_iter().flat_map(move |object_bytes| {
                    cores.into_iter().map(move |cores| Situation {
                        memory_usable_bytes,
                        budget_bytes,
                        code,
                        object_bytes,
                        cpu: Cpu { cores, wide_aes: false },
                        ..machine()
                    })
                })
            })
        })
    })
}

const BANDWIDTHS: [Option<u64>; 12] = [
    Some(0),
    Some(1000),
    Some(1_249_999),
    Some(1_250_000),
    Some(12_499_999),
    Some(12_500_000),
    Some(GBIT - 1),
    Some(GBIT),
    Some(10 * GBIT - 1),
    Some(10 * GBIT),
    Some(u64::MAX),
    None,
];
const LOADS: [u8; 8] = [0, 49, 50, 84, 85, 100, 101, 255];

#[test]
fn lower_bandwidth_or_higher_load_never_gives_smaller_chunks_nor_more_of_them() {
    let previous = [(None, 0), (Some(40_000_000), 60), (Some(u64::MAX), 0), (Some(0), 100)];
    for machine in machines() {
        for (bandwidth, load_percent) in previous {
            let before = plan(&Situation { bandwidth, load_percent, ..machine }).ok();
            let at = |bandwidth, load_percent| {
                plan(&Situation { bandwidth, load_percent, previous: before, ..machine })
            };
            for loads in LOADS.windows(2) {
                for bandwidth in BANDWIDTHS {
                    let (calm, busy) = (at(bandwidth, loads[0]), at(bandwidth, loads[1]));
                    assert_no_smaller(&calm, &busy, &machine);
                }
            }
            for bandwidths in BANDWIDTHS[..11].windows(2) {
                for load in LOADS {
                    let (slow, fast) = (at(bandwidths[0], load), at(bandwidths[1], load));
                    assert_no_smaller(&fast, &slow, &machine);
                }
            }
        }
    }
}

fn assert_no_smaller(
    fast: &Result<Plan, PlanRefused>,
    slow: &Result<Plan, PlanRefused>,
    machine: &Situation,
) {
    match (fast, slow) {
        (Ok(fast), Ok(slow)) => {
            assert!(slow.chunk_bytes >= fast.chunk_bytes, "{machine:?}\n{fast:?}\n{slow:?}");
            assert!(slow.parallelism <= fast.parallelism, "{machine:?}\n{fast:?}\n{slow:?}");
        }
        (fast, slow) => assert_eq!(fast, slow, "the budget decides, not the line"),
    }
}

#[test]
fn every_plan_fits_its_budget_and_can_be_encoded() {
    for machine in machines() {
        for bandwidth in BANDWIDTHS {
            for load_percent in LOADS {
                let situation = Situation { bandwidth, load_percent, ..machine };
                let plan = match plan(&situation) {
                    Ok(plan) => plan,
                    Err(PlanRefused::BudgetTooSmall { needed, budget }) => {
                        assert!(needed > budget && budget == machine.budget_bytes);
                        continue;
                    }
                    Err(refusal) => panic!("{refusal}"),
                };
                assert!(plan.held_bytes_max() <= machine.budget_bytes, "{plan:?}");
                let n_over_k = plan.chunk_bytes * plan.code.n() as u64 / plan.code.k() as u64;
                assert!(n_over_k * plan.parallelism as u64 <= machine.budget_bytes, "{plan:?}");
                assert!((1..=PARALLELISM_MAX).contains(&plan.parallelism));
                assert!((1..=100 * MIB).contains(&plan.chunk_bytes));
                Encoder::start(&mut Codec::new(), plan.chunk_plan(), CHUNK, &key(), SALT);
            }
        }
    }
}

#[test]
fn parallelism_stops_at_its_limit() {
    let cpu = Cpu { cores: 1000, wide_aes: true };
    let plan = made(Situation { cpu, budget_bytes: 64 * GIB, ..machine() });
    assert_eq!(plan.parallelism, PARALLELISM_MAX);
}

#[test]
fn a_plan_is_kept_until_the_measurement_has_clearly_left_its_band() {
    let at = |bandwidth, load_percent, previous| {
        made(Situation { bandwidth: Some(bandwidth), load_percent, previous, ..machine() })
    };
    let below = at(GBIT * 9 / 10, 10, None);
    let above = at(GBIT * 11 / 10, 10, None);
    assert_ne!(below.chunk_bytes, above.chunk_bytes);
    // Wobbling round the edge: whichever plan was there stays.
    for bandwidth in [GBIT * 9 / 10, GBIT, GBIT * 11 / 10] {
        assert_eq!(at(bandwidth, 10, Some(below)), below);
        assert_eq!(at(bandwidth, 10, Some(above)), above);
    }
    // Clearly beyond it: changed at once.
    assert_eq!(at(GBIT * 13 / 10, 10, Some(below)).bandwidth_band, above.bandwidth_band);
    assert_eq!(at(GBIT * 7 / 10, 10, Some(above)).bandwidth_band, below.bandwidth_band);

    let (calm, busy) = (at(GBIT, 40, None), at(GBIT, 60, None));
    assert_ne!(calm.load_band, busy.load_band);
    for load in [46, 50, 54] {
        assert_eq!(at(GBIT, load, Some(calm)), calm);
        assert_eq!(at(GBIT, load, Some(busy)), busy);
    }
    assert_eq!(at(GBIT, 56, Some(calm)).load_band, busy.load_band);
    assert_eq!(at(GBIT, 43, Some(busy)).load_band, calm.load_band);
}

#[test]
fn the_level_follows_line_and_load() {
    let level = |bandwidth, load_percent, cores| {
        let cpu = Cpu { cores, wide_aes: true };
        made(Situation { bandwidth: Some(bandwidth), load_percent, cpu, ..machine() }).compression
    };
    assert_eq!(level(GBIT / 2, 10, 4), Compression::Zstd(1));
    assert_eq!(level(10 * GBIT, 10, 2), Compression::Zstd(-5), "the line outruns the cores");
    assert_eq!(level(2 * GBIT, 90, 4), Compression::Zstd(-5), "so it does when they are busy");
    assert_eq!(level(GBIT / 100, 10, 4), Compression::Zstd(3), "spare cores and a slow line");
    assert_eq!(level(GBIT / 100, 90, 4), Compression::Zstd(1), "no spare cores");
    let choose = |compression| made(Situation { compression, ..machine() }).compression;
    assert_eq!(choose(CompressionChoice::Off), Compression::Off);
    assert_eq!(choose(CompressionChoice::Level(5)), Compression::Zstd(5));
    assert_eq!(choose(CompressionChoice::Level(0)), Compression::Zstd(1));
    assert_eq!(choose(CompressionChoice::Level(22)), Compression::Zstd(Compression::LEVEL_MAX));
    assert_eq!(choose(CompressionChoice::Level(-100)), Compression::Zstd(Compression::LEVEL_MIN));
}

#[test]
fn the_suite_follows_the_choice_and_then_the_cpu() {
    let suite = |suite, wide_aes| {
        made(Situation { suite, cpu: Cpu { cores: 2, wide_aes }, ..machine() }).suite
    };
    assert_eq!(suite(SuiteChoice::Auto, true), Suite::Aes256Gcm);
    assert_eq!(suite(SuiteChoice::Auto, false), Suite::XChaCha20Poly1305);
    assert_eq!(suite(SuiteChoice::XChaCha, true), Suite::XChaCha20Poly1305);
    assert_eq!(suite(SuiteChoice::Aes, false), Suite::Aes256Gcm);
}

#[test]
fn the_code_follows_the_holders_unless_the_user_says_otherwise() {
    let of = |holders, code| plan(&Situation { holders, code, ..machine() }).map(|plan| plan.code);
    assert_eq!(of(14, None), Ok(code(10, 4)));
    assert_eq!(of(5, None), Ok(code(3, 2)));
    assert_eq!(of(1, None), Ok(code(1, 0)));
    assert_eq!(of(0, None), Err(PlanRefused::NoHolders));
    assert_eq!(of(6, Some(code(4, 2))), Ok(code(4, 2)));
    let refused = Err(PlanRefused::TooFewHolders { shards: 6, holders: 5 });
    assert_eq!(of(5, Some(code(4, 2))), refused);
}
