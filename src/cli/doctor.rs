//! `pangea doctor`: this machine, what it can do, and what a node makes of it.

use std::fmt::Write;

use pangea_probe::{CpuFeatures, DriverKind, Hardware, MemoryTier, Plan, Suite, Tried};
use serde_json::{Map, Value, json};

use super::Context;
use super::common::Machine;
use super::exit::{Failure, printable};
use crate::config::CoreSettings;
use crate::units;

const HELP: &str = concat!(
    "EXAMPLES:
  pangea doctor
  pangea doctor --driver mio --cores 2       what a node started with these would do
  pangea doctor --json

With --json the last line is {\"os\",\"arch\",\"version\",\"cpus_allowed\",\"cpu_quota\",\
\"memory_total_bytes\",\"memory_usable_bytes\",\"memlock_bytes\",\"cpu\",\"io_uring\",\"ebpf\",\
\"driver\",\"cores\",\"pinned_to\",\"spin_microseconds\",\"suite\",\"memory_tier\",\
\"memory_budget\",\"memory_budget_bytes\",\"why\",\"notes\"}.",
    crate::exit_codes!()
);

/// Show this machine, what it can do, and what a node would make of it
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    #[command(flatten)]
    cores: CoreSettings,
}

pub fn run(args: &Args, context: &mut Context) -> Result<u8, Failure> {
    let Machine { hardware, plan } = Machine::plan(&args.cores.over(&context.config.cores))?;
    let shown = printable(text(&hardware, &plan).trim_end());
    context.screen.result(&shown, &json_of(&hardware, &plan))?;
    Ok(0)
}

fn json_of(hardware: &Hardware, plan: &Plan) -> Value {
    let cpu: Map<String, Value> =
        features(&hardware.cpu).iter().map(|(name, has)| (name.to_string(), json!(has))).collect();
    let budget: Map<String, Value> =
        plan.memory.iter().map(|(part, bytes)| (part.to_string(), json!(bytes))).collect();
    json!({
        "os": hardware.os,
        "arch": hardware.arch,
        "version": env!("CARGO_PKG_VERSION"),
        "cpus_allowed": hardware.cpus_allowed,
        "cpu_quota": hardware.cgroup_cpu_quota,
        "memory_total_bytes": hardware.memory_total_bytes,
        "memory_usable_bytes": hardware.memory_usable_bytes,
        "memlock_bytes": memlock(hardware),
        "cpu": cpu,
        "io_uring": tried_json(&hardware.io_uring),
        "ebpf": tried_json(&hardware.ebpf),
        "driver": driver_name(plan.driver),
        "cores": plan.cores,
        "pinned_to": plan.pin,
        "spin_microseconds": plan.spin.as_micros() as u64,
        "suite": suite_name(plan.suite),
        "memory_tier": tier_name(plan.tier),
        "memory_budget": budget,
        "memory_budget_bytes": budget_bytes(plan),
        "why": plan.why,
        "notes": plan.notes,
    })
}

fn text(hardware: &Hardware, plan: &Plan) -> String {
    let has = |(name, has): &(&'static str, bool)| has.then_some(*name);
    let cpu: Vec<&str> = features(&hardware.cpu).iter().filter_map(has).collect();
    let quota = match hardware.cgroup_cpu_quota {
        Some(quota) => format!(", {quota:.1} CPUs' worth of time granted"),
        None => String::new(),
    };
    let memlock = memlock(hardware).map_or("no limit".into(), units::bytes);
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "{}", format!("{name:<26}{value}").trim_end());
    };
    line("pangea", env!("CARGO_PKG_VERSION").into());
    line("system", format!("{} on {}", hardware.os, hardware.arch));
    line("CPUs allowed", format!("{}{quota}", hardware.cpus_allowed.len()));
    line("instructions", if cpu.is_empty() { "none of use".into() } else { cpu.join(" ") });
    line("memory", units::bytes(hardware.memory_total_bytes));
    line("  usable", units::bytes(hardware.memory_usable_bytes));
    line("  lockable", memlock);
    line("io_uring", hardware.io_uring.to_string());
    line("eBPF", hardware.ebpf.to_string());
    line("\nA node here", String::new());
    line("driver", driver_name(plan.driver).into());
    line("cores", format!("{}{}", plan.cores, pinned(&plan.pin)));
    line("cipher of choice", suite_name(plan.suite).into());
    line("\nMemory at most", units::bytes(budget_bytes(plan)));
    for (part, bytes) in &plan.memory {
        line(&format!("  {part}"), units::bytes(*bytes));
    }
    let _ = writeln!(out, "\n{}", plan.why);
    for note in &plan.notes {
        let _ = writeln!(out, "note: {note}");
    }
    out
}

fn pinned(cpus: &[usize]) -> String {
    let cpus: Vec<String> = cpus.iter().map(ToString::to_string).collect();
    match cpus.len() {
        0 => ", not pinned".into(),
        1 => format!(", pinned to CPU {}", cpus.join(" ")),
        _ => format!(", pinned to CPUs {}", cpus.join(" ")),
    }
}

fn features(cpu: &CpuFeatures) -> [(&'static str, bool); 7] {
    let CpuFeatures { avx2, avx512, gfni, vaes, aes, neon, sha } = *cpu;
    [
        ("avx2", avx2),
        ("avx512", avx512),
        ("gfni", gfni),
        ("vaes", vaes),
        ("aes", aes),
        ("neon", neon),
        ("sha", sha),
    ]
}

/// `None` is no limit.
fn memlock(hardware: &Hardware) -> Option<u64> {
    Some(hardware.memlock_bytes).filter(|bytes| *bytes != u64::MAX)
}

fn budget_bytes(plan: &Plan) -> u64 {
    plan.memory.iter().map(|(_, bytes)| bytes).sum()
}

fn tried_json(tried: &Tried) -> Value {
    match tried {
        Tried::Works => json!({ "state": "works", "why": null }),
        Tried::Untried(why) => json!({ "state": "untried", "why": why }),
        Tried::Refused(why) => json!({ "state": "refused", "why": why }),
    }
}

fn driver_name(kind: DriverKind) -> &'static str {
    match kind {
        DriverKind::Uring => "uring",
        DriverKind::Mio => "mio",
    }
}

fn suite_name(suite: Suite) -> &'static str {
    match suite {
        Suite::XChaCha => "xchacha",
        Suite::Aes => "aes",
    }
}

fn tier_name(tier: MemoryTier) -> &'static str {
    match tier {
        MemoryTier::Small => "small",
        MemoryTier::Medium => "medium",
        MemoryTier::Large => "large",
    }
}
