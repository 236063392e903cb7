//! `pangea stat`: where an object's shards are, which are gone, how many losses remain.

use std::fmt::Write;

use serde_json::{Value, json};

use super::Context;
use super::common::{ClientArgs, Others};
use super::exit::{Failure, Kind};
use super::link;
use super::put::survives;
use super::screen::clock_seconds;
use super::stop::Stop;
use crate::client::{ChunkHealth, GetOptions, HolderHealth, StatReport};
use crate::units;

const HELP: &str = concat!(
    "EXAMPLES:
  pangea stat @film.link
  pangea stat - --json < film.link

Asks every holder what it still has. Exit code 5 if some part of the object is lost.
With --json the last line is {\"bytes\",\"chunks\":[{\"chunk\",\"k\",\"m\",\"losses_left\",\
\"shards\":[{\"index\",\"holder\",\"held\"}]}],\"holders\":[{\"peer\",\"addr\",\"promised\",\
\"confirmed\",\"trouble\",\"clock_seconds\"}],\"losses_left\",\"lease_until\"}, lease_until in seconds
since 1970, clock_seconds by how much the holder's clock is ahead of this machine's.",
    crate::exit_codes!()
);

/// Show where an object's shards are, and how many losses it survives
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// The link, @FILE to read it from a file, or - for stdin
    #[arg(value_name = "LINK")]
    link: String,
    #[command(flatten)]
    client: ClientArgs,
}

pub fn run(args: &Args, context: &mut Context) -> Result<u8, Failure> {
    let link = link::read(&args.link)?;
    let stop = Stop::on_signals()?;
    let peers = args.client.look_up(context, &stop, Others::of(&link))?;
    #[cfg(feature = "trace")]
    let recording = args.client.trace.prepare()?;
    let mut client = args.client.start_reader(&context.config, &mut context.screen)?;
    let screen = &mut context.screen;
    let report = client.stat(&link, &GetOptions { peers }, &mut |progress| {
        screen.progress(progress);
        stop.flow()
    });
    #[cfg(feature = "trace")]
    recording.write_of(client, "stat", &mut context.screen);
    let report = report?;
    context.screen.result(text(&report).trim_end(), &json_of(&report))?;
    Ok(if report.losses_left < 0 { Kind::TooFewShards.code() } else { 0 })
}

fn json_of(report: &StatReport) -> Value {
    let chunks: Vec<Value> = report.chunks.iter().map(chunk_json).collect();
    let holders: Vec<Value> = report.holders.iter().map(holder_json).collect();
    json!({
        "bytes": report.bytes,
        "chunks": chunks,
        "holders": holders,
        "losses_left": report.losses_left,
        "lease_until": report.lease_until.map(|until| until.0),
    })
}

fn chunk_json(chunk: &ChunkHealth) -> Value {
    let shard = |(index, holder, held): &(u8, _, bool)| {
        let holder: &pangea_base::PeerId = holder;
        json!({ "index": index, "holder": holder.to_string(), "held": held })
    };
    json!({
        "chunk": chunk.chunk,
        "k": chunk.code.k(),
        "m": chunk.code.m(),
        "losses_left": chunk.losses_left,
        "shards": chunk.shards.iter().map(shard).collect::<Value>(),
    })
}

fn holder_json(holder: &HolderHealth) -> Value {
    json!({
        "peer": holder.peer.to_string(),
        "addr": holder.addr.map(|addr| addr.to_string()),
        "promised": holder.promised,
        "confirmed": holder.confirmed,
        "trouble": holder.trouble,
        "clock_seconds": holder.clock.map(clock_seconds),
    })
}

fn text(report: &StatReport) -> String {
    let mut out = String::new();
    let chunks = super::node::plural(report.chunks.len(), "chunk");
    let _ = writeln!(out, "{} in {chunks}", units::bytes(report.bytes));
    let _ = writeln!(out, "\n{:52}  {:>8}  {:>4}", "holder", "promised", "held");
    for holder in &report.holders {
        let peer = holder.peer.to_string();
        let mut remark = match (&holder.trouble, holder.promised.saturating_sub(holder.confirmed)) {
            (Some(trouble), _) => trouble.clone(),
            (None, 0) => String::new(),
            (None, gone) => format!("{gone} gone"),
        };
        if let Some(clock) = holder.clock {
            let comma = if remark.is_empty() { "" } else { ", " };
            let _ = write!(remark, "{comma}{clock}");
        }
        let (promised, held) = (holder.promised, holder.confirmed);
        let line = format!("{peer:52}  {promised:>8}  {held:>4}  {remark}");
        let _ = writeln!(out, "{}", super::exit::printable(line.trim_end()));
    }
    let lost: Vec<&ChunkHealth> = report.chunks.iter().filter(|c| c.losses_left < 0).collect();
    let _ = match usize::try_from(report.losses_left) {
        Ok(left) => {
            let until = report.lease_until.map_or(String::new(), |until| {
                format!(", and is kept until {}", units::date(until))
            });
            writeln!(out, "\nthe object is whole; it {}{until}", survives(left))
        }
        Err(_) => writeln!(out, "\nthe object is lost: {}", lost_text(&lost)),
    };
    out
}

fn lost_text(lost: &[&ChunkHealth]) -> String {
    let Some(worst) = lost.iter().min_by_key(|chunk| chunk.losses_left) else {
        return "too few shards are left".into();
    };
    let held = worst.shards.iter().filter(|(_, _, held)| *held).count();
    format!(
        "{} of the {} shards that chunk {} needs are left ({} such)",
        held,
        worst.code.k(),
        worst.chunk,
        super::node::plural(lost.len(), "chunk")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use pangea_base::{Code, PeerId};
    use pangea_wire::ClockDifference;

    fn report(held: usize) -> StatReport {
        let shards = (0..14u8).map(|i| (i, PeerId([i; 32]), usize::from(i) < held)).collect();
        let losses_left = held as i64 - 10;
        let holder = |i: u8| HolderHealth {
            peer: PeerId([i; 32]),
            addr: None,
            promised: 1,
            confirmed: usize::from(usize::from(i) < held),
            trouble: (i == 13).then(|| "did not \u{1b}[2Janswer".to_string()),
            clock: (i == 1).then_some(ClockDifference::Behind { seconds: 40 * 86_400 }),
        };
        StatReport {
            bytes: 1 << 30,
            chunks: vec![ChunkHealth {
                chunk: 0,
                code: Code::new(10, 4).unwrap(),
                shards,
                losses_left,
                lease_left: Some(60),
            }],
            holders: (0..14).map(holder).collect(),
            losses_left,
            lease_until: Some(pangea_base::UnixTime(1_800_000_000)),
        }
    }

    #[test]
    fn a_person_reads_how_many_losses_remain() {
        let whole = text(&report(13));
        assert!(whole.contains("1 GiB in 1 chunk\n"), "{whole}");
        assert!(whole.contains("it survives the loss of any 3 holders"), "{whole}");
        assert!(whole.contains("its clock is 40 days behind ours"), "{whole}");
        assert!(whole.contains("is kept until 2027-01-15 08:00 UTC"), "{whole}");
        assert!(!whole.contains('\u{1b}'), "{whole}");
        let lost = text(&report(9));
        assert!(lost.contains("9 of the 10 shards that chunk 0 needs are left"), "{lost}");
        assert!(lost.contains("1 gone"), "{lost}");
    }

    #[test]
    fn a_program_reads_the_same() {
        let json = json_of(&report(9));
        assert_eq!(json["losses_left"], -1);
        assert_eq!(json["chunks"][0]["shards"][9]["held"], false);
        assert_eq!(json["holders"].as_array().unwrap().len(), 14);
        assert_eq!(json["holders"][1]["clock_seconds"], -40 * 86_400);
        assert_eq!(json["lease_until"], 1_800_000_000);
    }
}
