//! Trace files, and what a running node sends to whoever watches it: `format.md`, "Files".

use std::fmt;
use std::io::{self, Read, Write};

use pangea_base::PeerId;

use crate::context::TraceId;
use crate::event::{EVENT_BYTES, Event};
use crate::events::Kind;
use crate::reader;

/// How a header begins. As a time it would be in the year 2157.
const MAGIC: [u8; 8] = *b"PANGEATR";
/// The version that is written, and the only one that is read.
const VERSION: u16 = 1;
/// Bytes of a name.
const NAME_BYTES: usize = 64;
/// Nodes in one trace.
pub const NODES_MAX: usize = 1024;
/// Events in one trace that is held in memory: 1 GiB.
pub const EVENTS_MAX: usize = 8 << 20;

/// Whose events follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// Who.
    pub node: PeerId,
    /// What people call it, 64 bytes at most; longer ones are cut.
    pub name: String,
    /// When its recorders began, nanoseconds since 1970.
    pub started: u64,
    /// How many cores it has. A core of this number is its control thread.
    pub cores: u16,
}

/// Writes a header, and events behind it.
pub struct StreamWriter<W> {
    to: W,
}

impl<W: Write> StreamWriter<W> {
    /// Writes the header.
    pub fn new(mut to: W, info: &NodeInfo) -> io::Result<StreamWriter<W>> {
        to.write_all(&header(info))?;
        Ok(StreamWriter { to })
    }

    /// Writes events, and gives what is buffered to the system.
    pub fn events(&mut self, events: &[Event]) -> io::Result<()> {
        for event in events {
            self.to.write_all(&event.to_bytes())?;
        }
        self.to.flush()
    }
}

/// One record of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// The events that follow are this node's.
    Node(NodeInfo),
    /// One of its events.
    Event(Event),
}

/// Why a stream is not a trace.
#[derive(Debug)]
pub enum StreamInvalid {
    /// It cannot be read.
    Unreadable(io::Error),
    /// It does not begin as one.
    NotATrace,
    /// A later version of this program wrote it.
    Version(u16),
    /// More nodes than [`NODES_MAX`].
    TooManyNodes,
    /// More events than [`EVENTS_MAX`].
    TooManyEvents,
}

impl fmt::Display for StreamInvalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamInvalid::Unreadable(cause) => write!(f, "it cannot be read: {cause}"),
            StreamInvalid::NotATrace => f.write_str("it is not a trace file"),
            StreamInvalid::Version(version) => write!(
                f,
                "it has version {version} and this program knows {VERSION}: read it with the \
                 program that wrote it"
            ),
            StreamInvalid::TooManyNodes => write!(f, "it has more than {NODES_MAX} nodes"),
            StreamInvalid::TooManyEvents => {
                write!(f, "it has more than {EVENTS_MAX} events: choose fewer with the filters")
            }
        }
    }
}

impl std::error::Error for StreamInvalid {}

/// Reads records one by one.
pub struct StreamReader<R> {
    from: R,
    begun: bool,
    cut: bool,
}

impl<R: Read> StreamReader<R> {
    /// A reader of a stream that is to be read from its beginning.
    pub fn new(from: R) -> StreamReader<R> {
        StreamReader { from, begun: false, cut: false }
    }

    /// The next record; `None` at the end.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Item>, StreamInvalid> {
        let mut record = [0; EVENT_BYTES];
        let read = fill(&mut self.from, &mut record).map_err(StreamInvalid::Unreadable)?;
        if record.starts_with(&MAGIC) && read == EVENT_BYTES {
            self.begun = true;
            return parse_header(&record).map(|info| Some(Item::Node(info)));
        }
        if !self.begun {
            return Err(StreamInvalid::NotATrace);
        }
        if read < EVENT_BYTES {
            self.cut = read > 0;
            return Ok(None);
        }
        Ok(Some(Item::Event(Event::from_bytes(&record))))
    }

    /// Whether the last record was cut off: who wrote it was killed.
    pub fn was_cut(&self) -> bool {
        self.cut
    }
}

/// Several nodes' events, in memory. An event's `node` is the place in `nodes`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// The nodes.
    pub nodes: Vec<NodeInfo>,
    /// The events, in order after [`Trace::sort`].
    pub events: Vec<Event>,
    /// Whether some part was cut off in the middle of an event.
    pub cut: bool,
}

impl Trace {
    /// What the recorders of one node have now.
    pub fn snapshot(info: NodeInfo, logs: &[crate::EventLog]) -> Trace {
        let mut events: Vec<Event> = logs.iter().flat_map(crate::EventLog::snapshot).collect();
        reader::sort(&mut events);
        Trace { nodes: vec![info], events, cut: false }
    }

    /// Adds what a stream has of events that the filter lets through.
    pub fn read(&mut self, from: impl Read, filter: &Filter) -> Result<(), StreamInvalid> {
        let mut reader = StreamReader::new(from);
        let mut node = 0;
        while let Some(item) = reader.next()? {
            match item {
                Item::Node(info) => node = self.place(info)?,
                Item::Event(event) if filter.matches(&event) => {
                    if self.events.len() >= EVENTS_MAX {
                        return Err(StreamInvalid::TooManyEvents);
                    }
                    self.events.push(Event { node, ..event });
                }
                Item::Event(_) => {}
            }
        }
        self.cut |= reader.was_cut();
        Ok(())
    }

    /// Puts the events in order: by time, node, core and number. The same event twice (from two
    /// readings of one node) stays once.
    pub fn sort(&mut self) {
        reader::sort(&mut self.events);
        self.events.dedup();
    }

    /// Whose an event is.
    pub fn node(&self, event: &Event) -> Option<&NodeInfo> {
        self.nodes.get(usize::from(event.node))
    }

    fn place(&mut self, info: NodeInfo) -> Result<u16, StreamInvalid> {
        let place = match self.nodes.iter().position(|known| *known == info) {
            Some(place) => place,
            None if self.nodes.len() >= NODES_MAX => return Err(StreamInvalid::TooManyNodes),
            None => {
                self.nodes.push(info);
                self.nodes.len() - 1
            }
        };
        u16::try_from(place).map_err(|_| StreamInvalid::TooManyNodes)
    }
}

/// Which events are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Of this trace only.
    pub trace: Option<TraceId>,
    /// About this peer only.
    pub peer: Option<PeerId>,
    /// Of these kinds only; empty: all.
    pub kinds: Vec<Kind>,
    /// Not before, nanoseconds since 1970.
    pub since: u64,
    /// Not after.
    pub until: u64,
}

impl Filter {
    /// Everything.
    pub const ALL: Filter =
        Filter { trace: None, peer: None, kinds: Vec::new(), since: 0, until: u64::MAX };

    /// Whether an event is wanted.
    pub fn matches(&self, event: &Event) -> bool {
        self.trace.is_none_or(|trace| event.trace_id == trace)
            && self.peer.is_none_or(|peer| event.peer() == Some(peer))
            && (self.kinds.is_empty()
                || event.kind().is_some_and(|kind| self.kinds.contains(&kind)))
            && (self.since..=self.until).contains(&event.timestamp)
    }
}

fn header(info: &NodeInfo) -> [u8; EVENT_BYTES] {
    let mut header = [0; EVENT_BYTES];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        if let Some(place) = header.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        at += bytes.len();
    };
    put(&MAGIC);
    put(&VERSION.to_le_bytes());
    put(&info.cores.to_le_bytes());
    put(&[0; 4]);
    put(&info.started.to_le_bytes());
    put(&info.node.0);
    put(&crate::words::<NAME_BYTES>(&info.name));
    header
}

fn parse_header(header: &[u8; EVENT_BYTES]) -> Result<NodeInfo, StreamInvalid> {
    let version = u16::from_le_bytes(part(header, 8));
    if version != VERSION {
        return Err(StreamInvalid::Version(version));
    }
    let name: [u8; NAME_BYTES] = part(header, 56);
    let name = String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned();
    Ok(NodeInfo {
        cores: u16::from_le_bytes(part(header, 10)),
        started: u64::from_le_bytes(part(header, 16)),
        node: PeerId(part(header, 24)),
        name,
    })
}

fn part<const N: usize>(header: &[u8; EVENT_BYTES], at: usize) -> [u8; N] {
    header.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
}

/// Fills `buf` as far as the stream goes.
fn fill(from: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
