//! `pangea trace show`: events as lines.

use pangea_trace::Trace;
use serde_json::json;

use super::filter::Filters;
use super::sources::Sources;
use super::text::{Lines, unless_closed};
use crate::cli::Context;
use crate::cli::exit::Failure;
use crate::cli::stop::Stop;

const HELP: &str = concat!(
    "EXAMPLES:
  pangea trace show --data n1 --last 50
  pangea trace show put.trace --kind span            what a put did, in large
  pangea trace show put.trace --data n1 --data n2 --trace 1a2b3c4d
  pangea trace show --data n1 --since 10s --json

Each line: time of day (UTC), node, core (ctl is control), kind, what happened, the first digits of
the trace's number, the peer. A number after ~ is a name that the peer gave to its request.
With --json each event is {\"event\":\"recorded\",\"nanos\",\"node\",\"node_id\",\"core\",\
\"sequence\",\"kind\",\"class\",\"trace\",\"span\",\"peer\",\"flags\",\"fields\"}, core null being
control, and the last line is {\"events\",\"nodes\",\"traces\"}.",
    crate::exit_codes!()
);

/// Show events, oldest first
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    #[command(flatten)]
    sources: Sources,
    #[command(flatten)]
    filters: Filters,
    /// Only the last so many
    #[arg(long, value_name = "N")]
    last: Option<usize>,
}

pub fn run(args: &Args, context: &mut Context) -> Result<u8, Failure> {
    let stop = Stop::on_signals()?;
    let mut trace = args.sources.read(&args.filters.wanted(), context, &stop)?;
    if let Some(last) = args.last {
        trace.events.drain(..trace.events.len().saturating_sub(last));
    }
    let mut lines = Lines::new(context.format)?;
    let show = |lines: &mut Lines| {
        let events = trace.events.iter().take_while(|_| !stop.asked());
        for event in events {
            lines.event(trace.node(event), event)?;
        }
        lines.flush()
    };
    if let Err(cause) = show(&mut lines) {
        return unless_closed(&cause);
    }
    stop.check()?;
    if lines.count() == 0 {
        context.screen.remark("there are no such events");
    }
    let nodes: Vec<&str> = trace.nodes.iter().map(|info| info.name.as_str()).collect();
    let json = json!({ "events": lines.count(), "nodes": nodes, "traces": traces(&trace) });
    context.screen.result("", &json)?;
    Ok(0)
}

/// The numbers of the traces in it, each once.
fn traces(trace: &Trace) -> Vec<String> {
    let ids = trace.events.iter().map(|event| event.trace_id).filter(|id| !id.is_none());
    let ids: std::collections::BTreeSet<_> = ids.collect();
    ids.iter().map(ToString::to_string).collect()
}
