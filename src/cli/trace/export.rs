//! `pangea trace export`: events in the formats of other programs.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::ValueEnum;
use pangea_trace::Trace;
use pangea_trace::export::{self, Detail};
use serde_json::json;

use super::filter::Filters;
use super::out::OutFile;
use super::sources::Sources;
use super::text::{stdout, unless_closed};
use crate::cli::Context;
use crate::cli::exit::{Failure, Kind};
use crate::cli::node::plural;
use crate::cli::stop::Stop;
use crate::client::Progress;
use crate::output::{Access, Replace};
use crate::units;

const HELP: &str = concat!(
    "EXAMPLES:
  pangea trace export put.trace --data n1 --data n2 -o put.json
                                                     then open it in https://ui.perfetto.dev
  pangea trace export n1.trace --format qlog -o n1.qlog
  pangea trace export n1.trace --format otlp | curl -H 'Content-Type: application/json' \
--data-binary @- http://localhost:4318/v1/traces
  pangea trace export n1.trace --format json | jq '.[].kind'

All that is named is merged into one trace. What tells of others (addresses, keys, what an
application recorded) is left out or shortened, so that the result can be shown around; --sensitive
leaves it in.
With --json and -o the last line is {\"file\",\"format\",\"events\",\"nodes\",\"bytes\"}.",
    crate::exit_codes!()
);

/// Write events in another program's format
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    #[command(flatten)]
    sources: Sources,
    /// For which program
    #[arg(long, value_enum, default_value_t = FormatSetting::Chrome)]
    format: FormatSetting,
    /// Where to write [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    /// Leave in what tells of others
    #[arg(long)]
    sensitive: bool,
    #[command(flatten)]
    filters: Filters,
}

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
enum FormatSetting {
    /// Chrome's trace events: Perfetto, chrome://tracing
    Chrome,
    /// An array with an object a line, with all that is known of each event
    Json,
    /// qlog: qvis. Connections, streams and datagrams; QUIC's own packets are not recorded
    Qlog,
    /// OpenTelemetry's traces as OTLP/JSON: pieces of work, and the events within them
    Otlp,
}

impl FormatSetting {
    fn name(self) -> &'static str {
        match self {
            FormatSetting::Chrome => "chrome",
            FormatSetting::Json => "json",
            FormatSetting::Qlog => "qlog",
            FormatSetting::Otlp => "otlp",
        }
    }
}

impl From<FormatSetting> for export::Format {
    fn from(setting: FormatSetting) -> export::Format {
        match setting {
            FormatSetting::Chrome => export::Format::Chrome,
            FormatSetting::Json => export::Format::Json,
            FormatSetting::Qlog => export::Format::Qlog,
            FormatSetting::Otlp => export::Format::Otlp,
        }
    }
}

pub fn run(args: &Args, context: &mut Context) -> Result<u8, Failure> {
    let replace = if args.force { Replace::Yes } else { Replace::Never };
    let output = args.output.as_deref();
    let file = output.map(|path| OutFile::prepare(path, replace, Access::Usual)).transpose()?;
    if file.is_none() {
        context.screen.leave_stdout();
    }
    let stop = Stop::on_signals()?;
    let trace = args.sources.read(&args.filters.wanted(), context, &stop)?;
    let screen = &mut context.screen;
    screen.progress(&Progress { stage: "writing", ..Progress::default() });
    let bytes = match &file {
        Some(file) => {
            write(args, &trace, file.file(), &stop)?.map_err(|cause| file.failed(cause))?
        }
        None => match write(args, &trace, stdout()?, &stop)? {
            Ok(bytes) => bytes,
            Err(cause) => return unless_closed(&cause),
        },
    };
    screen.clear();
    let path = file.map(OutFile::publish).transpose()?;
    let (events, nodes) = (trace.events.len(), trace.nodes.len());
    let place = path.as_ref().map_or(String::new(), |path| format!(" in {}", path.display()));
    let (size, nodes_said) = (units::bytes(bytes), plural(nodes, "node"));
    screen.remark(&format!("{events} events of {nodes_said}: {size}{place}"));
    if let Some(path) = path {
        let json = json!({
            "file": path.to_string_lossy(),
            "format": args.format.name(),
            "events": events,
            "nodes": nodes,
            "bytes": bytes,
        });
        screen.result("", &json)?;
    }
    Ok(0)
}

/// Writes it; gives how many bytes. Fails at once if the user asked to stop.
fn write(
    args: &Args,
    trace: &Trace,
    to: impl Write,
    stop: &Stop,
) -> Result<io::Result<u64>, Failure> {
    let detail = if args.sensitive { Detail::Sensitive } else { Detail::Redacted };
    let mut to = Counted { to: BufWriter::new(to), bytes: 0, stop };
    let written = export::export(args.format.into(), trace, &mut to, detail);
    let written = written.and_then(|()| to.flush()).map(|()| to.bytes);
    if written.is_err() && stop.asked() {
        return Err(Failure::new(Kind::Interrupted, "interrupted"));
    }
    Ok(written)
}

/// Counts bytes, and ends when the user asks to stop.
struct Counted<'a, W> {
    to: W,
    bytes: u64,
    stop: &'a Stop,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stop.asked() {
            return Err(io::Error::other("interrupted"));
        }
        let written = self.to.write(bytes)?;
        self.bytes = self.bytes.saturating_add(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
