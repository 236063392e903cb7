//! Running nodes that are watched.

#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use pangea_trace::{Class, Event, Item, NodeInfo, StreamReader};
use serde_json::{Value, json};

use super::filter::Wanted;
use crate::cli::exit::{Failure, Kind};

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest line that is read.
const LINE_BYTES_MAX: u64 = 4096;
/// Records that wait to be taken, of all nodes: beyond it nodes are slowed down, which costs them
/// nothing.
const WAITING_MAX: usize = 8192;
/// Bytes taken from a socket at once.
const READ_BYTES: usize = 64 << 10;

/// What a node is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// What it keeps.
    Kept,
    /// What it keeps, and then what comes.
    KeptAndComing,
    /// What comes.
    Coming,
}

/// What came from a node.
pub enum Heard {
    /// The events that follow are this node's.
    Node(NodeInfo),
    /// An event.
    Event(Event),
    /// It ends: the node stopped, or why else.
    Ended(Option<String>),
}

/// Several nodes that are watched as one.
pub struct Live {
    heard: Receiver<(usize, Heard)>,
    running: usize,
}

impl Live {
    /// Watches the nodes on these directories; refuses if one of them does not answer.
    pub fn watch(nodes: &[PathBuf], ask: Ask, wanted: &Wanted) -> Result<Live, Failure> {
        let streams: Result<Vec<_>, _> = nodes.iter().map(|data| open(data, ask, wanted)).collect();
        let (sender, heard) = mpsc::sync_channel(WAITING_MAX);
        let streams = streams?;
        let running = streams.len();
        for (at, stream) in streams.into_iter().enumerate() {
            let sender = sender.clone();
            let run = move || {
                let mut reader = StreamReader::new(stream);
                loop {
                    let (heard, last) = match reader.next() {
                        Ok(Some(Item::Node(info))) => (Heard::Node(info), false),
                        Ok(Some(Item::Event(event))) => (Heard::Event(event), false),
                        Ok(None) => (Heard::Ended(None), true),
                        Err(cause) => (Heard::Ended(Some(cause.to_string())), true),
                    };
                    if sender.send((at, heard)).is_err() || last {
                        break;
                    }
                }
            };
            std::thread::Builder::new().name("watched".into()).spawn(run).map_err(|cause| {
                Failure::new(Kind::Internal, format!("no thread can be started: {cause}"))
            })?;
        }
        Ok(Live { heard, running })
    }

    /// What came next, and from which of the nodes; `None` if nothing does for so long.
    pub fn next(&mut self, patience: Duration) -> Option<(usize, Heard)> {
        let next = match self.heard.try_recv() {
            Ok(next) => next,
            Err(_) => match self.heard.recv_timeout(patience) {
                Ok(next) => next,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            },
        };
        if matches!(next.1, Heard::Ended(_)) {
            self.running = self.running.saturating_sub(1);
        }
        Some(next)
    }

    /// Whether anything can come any more.
    pub fn is_over(&self) -> bool {
        self.running == 0
    }
}

/// The stream of a node, from its header on.
pub fn open(data: &Path, ask: Ask, wanted: &Wanted) -> Result<impl Read + Send + use<>, Failure> {
    let mut request = json!({
        "command": "trace",
        "follow": ask != Ask::Kept,
        "from": if ask == Ask::Coming { "newest" } else { "oldest" },
    });
    let kinds = &wanted.filter.kinds;
    if let Some(request) = request.as_object_mut().filter(|_| !kinds.is_empty()) {
        let has = |class: &Class| kinds.iter().any(|kind| kind.class() == *class);
        let classes: Vec<&str> = Class::ALL.iter().filter(|c| has(c)).map(|c| c.name()).collect();
        request.insert("classes".into(), json!(classes));
    }
    let mut stream = asked(data, &request)?;
    // A header, or one line that says why not.
    let begun = stream.fill_buf().map_err(|cause| silent(data, &cause))?;
    match begun.first() {
        None => Err(silent(data, &io::ErrorKind::UnexpectedEof.into())),
        Some(b'{') => {
            let refused = line(&mut stream).map_err(|cause| silent(data, &cause))?;
            let why = refused.pointer("/error/message").and_then(Value::as_str);
            Err(refusal(data, why.unwrap_or("nothing that is understood")))
        }
        Some(_) => {
            let patience = if ask == Ask::Kept { Some(PATIENCE) } else { None };
            let waits = stream.get_ref().set_read_timeout(patience);
            waits.map_err(|cause| silent(data, &cause))?;
            Ok(stream)
        }
    }
}

/// Tells a node what to record from now on.
pub fn record_only(data: &Path, classes: &[Class]) -> Result<(), Failure> {
    let names: Vec<&str> = classes.iter().map(|class| class.name()).collect();
    let mut stream = asked(data, &json!({ "command": "record", "classes": names }))?;
    let answer = line(&mut stream).map_err(|cause| silent(data, &cause))?;
    match answer.pointer("/error/message").and_then(Value::as_str) {
        Some(why) => Err(refusal(data, why)),
        None => Ok(()),
    }
}

fn line(stream: &mut impl Read) -> io::Result<Value> {
    let mut line = String::new();
    BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut line)?;
    serde_json::from_str(&line).map_err(io::Error::other)
}

/// A connection on which this was asked.
fn asked(data: &Path, request: &Value) -> Result<Connection, Failure> {
    let stream = connect(data)?;
    let ask = || -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        writeln!(&stream, "{request}")
    };
    ask().map_err(|cause| silent(data, &cause))?;
    Ok(BufReader::with_capacity(READ_BYTES, stream))
}

fn silent(data: &Path, cause: &io::Error) -> Failure {
    let shown = data.display();
    Failure::new(Kind::Start, format!("the node on '{shown}' did not answer: {cause}"))
}

fn refusal(data: &Path, why: &str) -> Failure {
    Failure::new(Kind::Start, format!("the node on '{}' says: {why}", data.display()))
}

#[cfg(unix)]
type Connection = BufReader<std::os::unix::net::UnixStream>;

#[cfg(unix)]
fn connect(data: &Path) -> Result<std::os::unix::net::UnixStream, Failure> {
    let shown = data.display();
    crate::socket::connect(data, crate::trace::SOCKET).map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Failure::new(
            Kind::Start,
            format!(
                "no node that records is running on '{shown}'; build it with --features trace and \
                 start it with: pangea node --data …"
            ),
        ),
        io::ErrorKind::PermissionDenied => Failure::file(format!(
            "the node on '{shown}' belongs to another user: permission denied"
        )),
        _ => Failure::file(format!("the node on '{shown}' cannot be asked: {cause}")),
    })
}

// A stand-in without Unix sockets, of which none is ever made.
#[cfg(not(unix))]
type Connection = BufReader<std::net::TcpStream>;

#[cfg(not(unix))]
fn connect(_data: &Path) -> Result<std::net::TcpStream, Failure> {
    Err(Failure::new(Kind::Start, "running nodes cannot be watched on this system"))
}
