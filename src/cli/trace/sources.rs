//! Where events come from: running nodes, and files.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;

use pangea_trace::{StreamInvalid, Trace};

use super::filter::Wanted;
use super::live::{self, Ask};
use crate::cli::Context;
use crate::cli::data;
use crate::cli::exit::{Failure, Kind};
use crate::cli::screen::Screen;
use crate::cli::stop::Stop;
use crate::client::Progress;

/// Running nodes.
#[derive(clap::Args)]
pub struct Nodes {
    /// The data directory of a running node; repeatable [default: pangea/node in your data
    /// directory, or PANGEA_DATA]
    #[arg(long = "data", value_name = "DIR")]
    data: Vec<PathBuf>,
}

impl Nodes {
    /// Their directories; without one, where a node would be started.
    pub fn directories(&self, context: &Context) -> Result<Vec<PathBuf>, Failure> {
        if !self.data.is_empty() {
            return Ok(self.data.clone());
        }
        let said = std::env::var_os("PANGEA_DATA").map(PathBuf::from);
        Ok(vec![data::or_default(said.as_ref().or(context.config.node.data.as_ref()))?])
    }
}

/// Running nodes, files, or both.
#[derive(clap::Args)]
pub struct Sources {
    /// Recordings: files of --trace-out and of `pangea trace record`
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    nodes: Nodes,
}

/// Bytes between two looks at the stop flag, and two moves of the progress bar.
const LOOK_EVERY_BYTES: u64 = 1 << 20;
/// What is read faster than it can be watched shows no progress.
const QUIET_BYTES: u64 = 16 << 20;

impl Sources {
    /// Everything wanted from all of them, as one trace, in order.
    pub fn read(
        &self,
        wanted: &Wanted,
        context: &mut Context,
        stop: &Stop,
    ) -> Result<Trace, Failure> {
        let mut trace = Trace::default();
        let nodes = match self.nodes.data.is_empty() && !self.files.is_empty() {
            true => Vec::new(),
            false => self.nodes.directories(context)?,
        };
        let screen = &mut context.screen;
        for data in &nodes {
            let stream = live::open(data, Ask::Kept, wanted)?;
            let shown = format!("the node on '{}'", data.display());
            add(&mut trace, Watched::new(stream, None, screen, stop), wanted, &shown)?;
            if std::mem::take(&mut trace.cut) {
                screen.warn(&format!("{shown} ended in the middle of an event"));
            }
        }
        for path in &self.files {
            let shown = format!("'{}'", path.display());
            let failed =
                |cause: io::Error| Failure::file(format!("{shown} cannot be read: {cause}"));
            let file = File::open(path).map_err(failed)?;
            let length = file.metadata().map_err(failed)?.len();
            let file = Watched::new(BufReader::new(file), Some(length), screen, stop);
            add(&mut trace, file, wanted, &shown)?;
            if std::mem::take(&mut trace.cut) {
                screen.warn(&format!(
                    "{shown} is unfinished: it ends in the middle of an event, which is left out"
                ));
            }
        }
        screen.clear();
        trace.events.retain(|event| wanted.has_digits(event));
        trace.sort();
        Ok(trace)
    }
}

fn add(
    trace: &mut Trace,
    mut from: Watched<'_, impl Read>,
    wanted: &Wanted,
    shown: &str,
) -> Result<(), Failure> {
    trace.read(&mut from, &wanted.filter).map_err(|invalid| match invalid {
        StreamInvalid::Unreadable(_) if from.stop.asked() => {
            Failure::new(Kind::Interrupted, "interrupted")
        }
        invalid => Failure::file(format!("{shown}: {invalid}")),
    })
}

/// A source whose reading is seen, and can be stopped.
struct Watched<'a, R> {
    from: R,
    total: Option<u64>,
    read: u64,
    look_at: u64,
    screen: &'a mut Screen,
    stop: &'a Stop,
}

impl<'a, R> Watched<'a, R> {
    fn new(from: R, total: Option<u64>, screen: &'a mut Screen, stop: &'a Stop) -> Self {
        Watched { from, total, read: 0, look_at: LOOK_EVERY_BYTES, screen, stop }
    }
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(out)?;
        self.read = self.read.saturating_add(read as u64);
        if self.read >= self.look_at {
            self.look_at = self.read.saturating_add(LOOK_EVERY_BYTES);
            if self.stop.asked() {
                return Err(io::Error::other("interrupted"));
            }
            if self.total.is_none_or(|total| total > QUIET_BYTES) && self.read > QUIET_BYTES {
                self.screen.progress(&Progress {
                    stage: "reading events",
                    bytes_done: self.read,
                    bytes_total: self.total,
                    ..Progress::default()
                });
            }
        }
        Ok(read)
    }
}
