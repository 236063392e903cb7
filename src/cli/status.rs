//! `pangea status`: asks the node that runs on a data directory.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::exit::Failure;
use super::{Context, control, data};
use crate::units;

const HELP: &str = concat!(
    "EXAMPLES:
  pangea status --data /srv/pangea
  pangea status --data /srv/pangea --json

Asks through a socket in the data directory, which only the node's own user can open.
With --json the last line is {\"id\",\"alias\",\"addr\",\"driver\",\"cores\",\"uptime_seconds\",\
\"shards\",\"bytes\",\"capacity_bytes\",\"connections\",\"received_bytes\",\"sent_bytes\",\
\"requests\",\"refused\",\"log_lines_lost\",\"clock\",\"owners\":[{\"id\",\"network\",\"bytes\",\
\"reserved_bytes\",\"share_bytes\"}],\"other_owners\"}.
clock is {\"state\"}: starting, believed, or doubted with \"why\",\"ahead_seconds\",
\"doubted_seconds\",\"believed_in_seconds\". While it is doubted nothing is let go for its age; it
is believed again by itself, or at a start with --clock-is-right. The owners are those that take
the most, largest first; other_owners counts the rest.",
    crate::exit_codes!()
);

/// Ask a running node how it is
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// The node's data directory [default: pangea/node in your data directory]
    #[arg(long, value_name = "DIR", env = "PANGEA_DATA", hide_env_values = true)]
    data: Option<PathBuf>,
}

pub fn run(args: &Args, context: &mut Context) -> Result<u8, Failure> {
    let data = data::or_default(args.data.as_ref().or(context.config.node.data.as_ref()))?;
    let status = control::ask(&data)?;
    context.screen.result(&super::exit::printable(&text(&status)), &status)?;
    Ok(0)
}

fn text(status: &Value) -> String {
    let word = |key: &str| status[key].as_str().unwrap_or("?").to_string();
    let count = |key: &str| status[key].as_u64().unwrap_or(0);
    let bytes = |key: &str| units::bytes(count(key));
    let uptime = status["uptime_seconds"].as_f64().unwrap_or(0.0);
    let uptime = Duration::try_from_secs_f64(uptime).unwrap_or_default();
    let alias = match status["alias"].as_str() {
        Some(alias) => format!("{alias}: "),
        None => String::new(),
    };
    let lost = match count("log_lines_lost") {
        0 => String::new(),
        lost => format!("\nlog       {lost} lines lost: stderr could not be written"),
    };
    let lines = [
        format!("{alias}{}", word("addr")),
        format!("up        {}", units::time(uptime)),
        format!("runs on   {} ({})", word("driver"), cores(count("cores"))),
        format!(
            "holds     {} shards, {} of {}",
            count("shards"),
            bytes("bytes"),
            bytes("capacity_bytes")
        ),
        format!(
            "network   {} connections, {} received, {} sent",
            count("connections"),
            bytes("received_bytes"),
            bytes("sent_bytes")
        ),
        format!("requests  {} served, {} refused{lost}", count("requests"), count("refused")),
        format!("clock     {}", clock(&status["clock"])),
    ];
    lines.into_iter().chain(owners(status)).collect::<Vec<_>>().join("\n")
}

/// Who takes how much of it: a line each, largest first.
fn owners(status: &Value) -> Vec<String> {
    let owners = status["owners"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(first) = owners.first() else { return Vec::new() };
    let bytes = |owner: &Value, key: &str| units::bytes(owner[key].as_u64().unwrap_or(0));
    let others = status["other_owners"].as_u64().unwrap_or(0);
    let all = (owners.len() as u64).saturating_add(others);
    let share = bytes(first, "share_bytes");
    let mut lines = vec![format!("owners    {all}, each with a share of {share}")];
    lines.extend(owners.iter().map(|owner| {
        let id = owner["id"].as_str().unwrap_or("?");
        let from = match owner["network"].as_str() {
            Some(network) => format!(", from {network}"),
            None => String::new(),
        };
        let (held, reserved) = (bytes(owner, "bytes"), bytes(owner, "reserved_bytes"));
        format!("          {id}: {held} stored, {reserved} reserved{from}")
    }));
    if others > 0 {
        lines.push(format!("          and {others} who take less"));
    }
    lines
}

/// Whether the clock is believed, and what that means if it is not.
fn clock(clock: &Value) -> String {
    let time = |key: &str| {
        let span = Duration::try_from_secs_f64(clock[key].as_f64().unwrap_or(0.0));
        units::time(span.unwrap_or_default())
    };
    match clock["state"].as_str() {
        Some("doubted") => format!(
            "doubted for {}: {}; nothing is let go for its age; believed in {} if it makes no step",
            time("doubted_seconds"),
            clock["why"].as_str().unwrap_or("?"),
            time("believed_in_seconds")
        ),
        Some(state) => state.to_owned(),
        None => "?".to_owned(),
    }
}

fn cores(count: u64) -> String {
    super::node::plural(usize::try_from(count).unwrap_or(usize::MAX), "core")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_with_fields_missing_is_still_shown() {
        let shown = text(&serde_json::json!({ "addr": "somewhere", "cores": 1, "shards": 7 }));
        assert!(shown.starts_with("somewhere\n"), "{shown}");
        assert!(shown.contains("7 shards") && shown.contains("(1 core)"), "{shown}");
        assert!(!shown.contains("owners"), "{shown}");
    }

    #[test]
    fn owners_are_listed_with_what_they_take_and_may_take() {
        let owner = |id: &str, network: Value| {
            let (bytes, reserved) = (200 << 20, 3 << 20);
            serde_json::json!({
                "id": id, "network": network,
                "bytes": bytes, "reserved_bytes": reserved, "share_bytes": 1_u64 << 30,
            })
        };
        let list = [owner("12D3a", "192.0.2.0/24".into()), owner("12D3b", Value::Null)];
        let shown = text(&serde_json::json!({ "owners": list, "other_owners": 5 }));
        for line in [
            "owners    7, each with a share of 1 GiB",
            "12D3a: 200 MiB stored, 3 MiB reserved, from 192.0.2.0/24",
            "12D3b: 200 MiB stored, 3 MiB reserved",
            "and 5 who take less",
        ] {
            assert!(shown.contains(line), "{shown}");
        }
    }

    #[test]
    fn a_doubted_clock_is_shown_with_how_long_and_why_and_what_it_means() {
        let shown = |value: Value| text(&serde_json::json!({ "clock": value }));
        let doubted = shown(serde_json::json!({
            "state": "doubted",
            "why": "at the start it was 3 years ahead of the time that was believed last",
            "doubted_seconds": 10_800.0,
            "believed_in_seconds": 75_600.0,
        }));
        let line = doubted.lines().last().unwrap();
        assert_eq!(
            line,
            "clock     doubted for 3 h: at the start it was 3 years ahead of the time that was \
             believed last; nothing is let go for its age; believed in 21 h if it makes no step"
        );
        assert!(shown(serde_json::json!({ "state": "believed" })).ends_with("clock     believed"));
    }
}
