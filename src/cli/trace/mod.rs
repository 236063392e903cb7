//! `pangea trace`: what nodes and commands recorded, for people and programs. Only in builds with
//! the feature `trace`.

mod export;
mod filter;
mod follow;
mod live;
mod out;
mod record;
mod show;
mod sources;
mod text;

use clap::Subcommand;

use super::Context;
use super::exit::Failure;

pub use out::{Recording, TraceOut};

const HELP: &str = concat!(
    "EXAMPLES:
  pangea trace show --data n1                        what the node on n1 recorded last
  pangea trace follow --data n1 --data n2            the same, live
  pangea put film.mkv --trace-out put.trace …        a command's own recording
  pangea trace export put.trace --data n1 -o put.json
                                                     one picture of both: open it in
                                                     https://ui.perfetto.dev or chrome://tracing

A node keeps the last 65,536 events of each core; nothing is written to disk unless it is asked for.
What is shown tells who asked what of whom: mind whom you give it to.
Every kind of event is listed by: pangea trace show --kind help",
    crate::exit_codes!()
);

/// See what nodes and commands did: record, show, follow, export
#[derive(clap::Args)]
#[command(after_help = HELP, disable_help_subcommand = true)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Record(record::Args),
    Show(show::Args),
    Follow(follow::Args),
    Export(export::Args),
}

pub fn run(args: &Args, context: &mut Context) -> Result<u8, Failure> {
    match &args.verb {
        Verb::Record(args) => record::run(args, context),
        Verb::Show(args) => show::run(args, context),
        Verb::Follow(args) => follow::run(args, context),
        Verb::Export(args) => export::run(args, context),
    }
}
