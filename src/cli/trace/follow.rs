//! `pangea trace follow`: events as they happen.

use std::io;
use std::time::Duration;

use pangea_trace::NodeInfo;
use serde_json::json;

use super::filter::{Filters, Wanted};
use super::live::{Ask, Heard, Live};
use super::sources::Nodes;
use super::text::{Lines, unless_closed};
use crate::cli::Context;
use crate::cli::exit::Failure;
use crate::cli::node::plural;
use crate::cli::screen::Screen;
use crate::cli::stop::Stop;

const HELP: &str = concat!(
    "EXAMPLES:
  pangea trace follow --data n1
  pangea trace follow --data n1 --data n2 --kind span --kind conn
  pangea trace follow --data n1 --json | jq .kind

Shows what happens from now on until Ctrl-C, or until the nodes stop; the lines are those of
`pangea trace show`. A node is never slowed down by who watches: what could not be shown in time is
told as a Gap. At most four watch a node at once.
With --json a node that is watched is {\"event\":\"node\",\"node\",\"node_id\",\"cores\"}, and the
last line is {\"events\"}.",
    crate::exit_codes!()
);

/// Show events of running nodes as they happen, until Ctrl-C
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    #[command(flatten)]
    nodes: Nodes,
    #[command(flatten)]
    filters: Filters,
}

/// How long nothing may come before what was written is shown, and the stop flag looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Lines that are written before they are shown, when events do not cease to come.
const FLUSH_EVERY: u32 = 512;

pub fn run(args: &Args, context: &mut Context) -> Result<u8, Failure> {
    let stop = Stop::on_signals()?;
    let nodes = args.nodes.directories(context)?;
    let wanted = args.filters.wanted();
    let mut live = Live::watch(&nodes, Ask::Coming, &wanted)?;
    let count = plural(nodes.len(), "node");
    context.screen.remark(&format!("following {count}; Ctrl-C ends it"));
    let mut lines = Lines::new(context.format)?;
    if let Err(cause) = follow(&mut live, &mut lines, &wanted, &stop, &mut context.screen) {
        return unless_closed(&cause);
    }
    context.screen.result("", &json!({ "events": lines.count() }))?;
    Ok(0)
}

fn follow(
    live: &mut Live,
    lines: &mut Lines,
    wanted: &Wanted,
    stop: &Stop,
    screen: &mut Screen,
) -> io::Result<()> {
    let mut nodes: Vec<Option<NodeInfo>> = Vec::new();
    let mut unseen = 0;
    while !stop.asked() && !wanted.is_over() {
        let next = live.next(if unseen == 0 { LOOK_EVERY } else { Duration::ZERO });
        let idle = next.is_none();
        match next {
            Some((at, Heard::Node(info))) => {
                lines.node(&info)?;
                nodes.resize(nodes.len().max(at + 1), None);
                if let Some(place) = nodes.get_mut(at) {
                    *place = Some(info);
                }
            }
            Some((at, Heard::Event(event))) if wanted.matches(&event) => {
                lines.event(nodes.get(at).and_then(Option::as_ref), &event)?;
                unseen += 1;
            }
            Some((_, Heard::Event(_))) => {}
            Some((at, Heard::Ended(why))) => {
                let name = nodes.get(at).and_then(Option::as_ref).map_or("?", |info| &info.name);
                let why = why.map_or(String::new(), |why| format!(": {why}"));
                screen.warn(&format!("the node '{name}' is gone{why}"));
            }
            None if live.is_over() => break,
            None => {}
        }
        if idle || unseen >= FLUSH_EVERY {
            lines.flush()?;
            unseen = 0;
        }
    }
    lines.flush()
}
