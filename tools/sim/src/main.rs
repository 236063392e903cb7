//! A world in a box: whole nodes under simulated faults, crashes and enemies, from one seed.

#![forbid(unsafe_code)]

mod actor;
mod crash;
mod enemies;
mod kinds;
mod report;
mod run;
mod world;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Whole nodes in a simulated world: what a seed decides happens again whenever it is asked for.
///
/// Exit status 0 only if everything held.
#[derive(Parser)]
#[command(after_help = "Examples:
  pangea-sim run --seeds 150          150 worlds, each a quarter of an hour of simulated time
  pangea-sim run --seeds 20 --twice   each lived twice, and both must be the same to the last event
  pangea-sim replay 4711              one world, with its last events if it fails
  pangea-sim crash --images 10000     power cuts at every moment of a store's life
  pangea-sim soak --minutes 60        worlds from new seeds for so long")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lives so many worlds, on all cores.
    Run(report::RunOptions),
    /// Lives one world again and shows what happened.
    Replay(report::ReplayOptions),
    /// Cuts the power at every moment of a store's life, and recovers.
    Crash(crash::Options),
    /// Lives worlds for so many minutes.
    Soak(report::SoakOptions),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(options) => report::run(&options),
        Command::Replay(options) => report::replay(&options),
        Command::Crash(options) => crash::run(&options),
        Command::Soak(options) => report::soak(&options),
    }
}
