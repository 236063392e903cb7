//! `pangea trace record`: a running node's events into a file.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pangea_trace::{Class, EventData, NodeInfo, StreamWriter};
use serde_json::json;

use super::filter::{ClassName, Filters, Wanted};
use super::live::{Ask, Heard, Live, record_only};
use super::out::OutFile;
use super::sources::Nodes;
use crate::cli::Context;
use crate::cli::exit::Failure;
use crate::cli::node::plural;
use crate::cli::screen::{Screen, seconds};
use crate::cli::stop::Stop;
use crate::client::Progress;
use crate::output::{Access, Replace};
use crate::units::{self, Span};

const HELP: &str = concat!(
    "EXAMPLES:
  pangea trace record --data n1 -o n1.trace                    until Ctrl-C
  pangea trace record --data n1 --data n2 -o both.trace --for 10s
  pangea trace record --data n1 -o n1.trace --for 0            what it keeps now, and no more
  pangea trace record --data n1 --only span,conn,store         changes what the node records

Begins with what the nodes keep (--new: with what comes). The file gets its name when it is whole;
only you can read it.
--only tells the nodes which classes to record from now on, for everybody and until they are told
otherwise; --only all is how they start. Without -o nothing else is done.
With --json the last line is {\"file\",\"events\",\"lost\",\"bytes\",\"seconds\"}.",
    crate::exit_codes!()
);

/// Copy the events of running nodes into a file
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    #[command(flatten)]
    nodes: Nodes,
    /// The file to write
    #[arg(short, long, value_name = "FILE", required_unless_present = "only")]
    output: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    /// Stop after so long [default: at Ctrl-C]
    #[arg(long = "for", value_name = "TIME")]
    span: Option<Span>,
    /// Leave out what was recorded before
    #[arg(long)]
    new: bool,
    /// First tell the nodes to record these classes only, such as span,conn; or all
    #[arg(long, value_name = "CLASS", value_delimiter = ',')]
    only: Vec<Only>,
    #[command(flatten)]
    filters: Filters,
}

/// A class, or all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Only(Vec<Class>);

impl std::str::FromStr for Only {
    type Err = String;

    fn from_str(text: &str) -> Result<Only, String> {
        if text.eq_ignore_ascii_case("all") {
            return Ok(Only(Class::ALL.to_vec()));
        }
        let named = text.parse::<ClassName>().map(|name| Only(vec![name.0]));
        named.map_err(|refused| format!("{refused}; or all"))
    }
}

/// How often the stop flag and the clock are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub fn run(args: &Args, context: &mut Context) -> Result<u8, Failure> {
    let stop = Stop::on_signals()?;
    let nodes = args.nodes.directories(context)?;
    let replace = if args.force { Replace::Yes } else { Replace::Never };
    let output = args.output.as_deref();
    let file = output.map(|path| OutFile::prepare(path, replace, Access::Private)).transpose()?;
    if !args.only.is_empty() {
        let classes: Vec<Class> = args.only.iter().flat_map(|only| only.0.clone()).collect();
        nodes.iter().try_for_each(|data| record_only(data, &classes))?;
        let names: Vec<&str> = classes.iter().map(|class| class.name()).collect();
        let whose = plural(nodes.len(), "node");
        let what = match Class::ALL.iter().all(|class| classes.contains(class)) {
            true => "everything".into(),
            false => names.join(", "),
        };
        context.screen.remark(&format!("{whose} told to record {what}"));
        if file.is_none() {
            context.screen.result("", &json!({ "recorded": names }))?;
        }
    }
    let Some(file) = file else { return Ok(0) };

    let started = Instant::now();
    let until = args.span.map(|span| started + span.0);
    let ask = match (until, args.new) {
        (Some(until), false) if until <= started => Ask::Kept,
        (_, false) => Ask::KeptAndComing,
        (_, true) => Ask::Coming,
    };
    let wanted = args.filters.wanted();
    let mut live = Live::watch(&nodes, ask, &wanted)?;
    let until = until.filter(|_| ask != Ask::Kept);
    let copy = Copier::new(BufWriter::new(file.file()), nodes.len(), ask);
    let copied = copy.run(&mut live, &wanted, &stop, until, &mut context.screen);
    let Totals { events, lost, bytes } = copied.map_err(|cause| file.failed(cause))?;
    context.screen.clear();
    let path = file.publish()?;
    let spent = started.elapsed();
    let gone = if lost > 0 { format!(", {lost} lost") } else { String::new() };
    context.screen.remark(&format!(
        "{events} events{gone}, {} in {}; see it with: pangea trace show {}",
        units::bytes(bytes),
        units::time(spent),
        path.display()
    ));
    let json = json!({
        "file": path.to_string_lossy(),
        "events": events,
        "lost": lost,
        "bytes": bytes,
        "seconds": seconds(spent),
    });
    context.screen.result("", &json)?;
    Ok(0)
}

/// What is copied, and where to.
struct Copier<W> {
    to: W,
    ask: Ask,
    nodes: Vec<Option<NodeInfo>>,
    // Whose header was the last in the file.
    last: Option<usize>,
    totals: Totals,
}

/// How much was copied.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    events: u64,
    lost: u64,
    bytes: u64,
}

impl<W: Write> Copier<W> {
    fn new(to: W, nodes: usize, ask: Ask) -> Copier<W> {
        Copier { to, ask, nodes: vec![None; nodes], last: None, totals: Totals::default() }
    }

    /// Copies until something ends it.
    fn run(
        mut self,
        live: &mut Live,
        wanted: &Wanted,
        stop: &Stop,
        until: Option<Instant>,
        screen: &mut Screen,
    ) -> io::Result<Totals> {
        let mut shown = Instant::now();
        loop {
            let now = Instant::now();
            if stop.asked() || until.is_some_and(|until| now >= until) {
                break;
            }
            match live.next(LOOK_EVERY) {
                Some((at, Heard::Node(info))) => {
                    if let Some(place) = self.nodes.get_mut(at) {
                        *place = Some(info);
                    }
                    // Also of a node of which no event follows.
                    self.begin(at)?;
                }
                Some((at, Heard::Event(event))) if wanted.matches(&event) => {
                    self.event(at, &event)?;
                }
                Some((_, Heard::Event(_))) => {}
                Some((at, Heard::Ended(why))) if self.ask != Ask::Kept || why.is_some() => {
                    let why = why.map_or(String::new(), |why| format!(": {why}"));
                    let name = self.nodes.get(at).and_then(Option::as_ref);
                    let name = name.map_or("?", |info| info.name.as_str());
                    screen.warn(&format!("the node '{name}' is gone{why}"));
                }
                Some((_, Heard::Ended(_))) => {}
                None if live.is_over() || wanted.is_over() => break,
                // If we are killed, the hidden file has what came so far.
                None => self.to.flush()?,
            }
            if now.duration_since(shown) > LOOK_EVERY {
                shown = now;
                let (stage, bytes_done) = ("recording; Ctrl-C ends it", self.totals.bytes);
                screen.progress(&Progress { stage, bytes_done, ..Progress::default() });
            }
        }
        self.to.flush()?;
        Ok(self.totals)
    }

    fn event(&mut self, at: usize, event: &pangea_trace::Event) -> io::Result<()> {
        if self.last != Some(at) {
            self.begin(at)?;
        }
        match event.data() {
            Some(EventData::Gap { lost }) => {
                self.totals.lost = self.totals.lost.saturating_add(lost)
            }
            _ => self.totals.events += 1,
        }
        self.write(&event.to_bytes())
    }

    /// The events that follow are of this node.
    fn begin(&mut self, at: usize) -> io::Result<()> {
        self.last = Some(at);
        let Some(info) = self.nodes.get(at).and_then(Option::as_ref) else { return Ok(()) };
        let mut header = Vec::new();
        StreamWriter::new(&mut header, info)?;
        self.write(&header)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.totals.bytes = self.totals.bytes.saturating_add(bytes.len() as u64);
        self.to.write_all(bytes)
    }
}
