//! The recorders of this process, for others to see: the socket at which a running node gives its
//! events to whoever watches, and the file in which a command leaves its own.
//!
//! One line of JSON asks, [`SOCKET`] in the data directory answers:
//!
//! ```text
//! {"command":"trace","follow":true,"from":"oldest","classes":["span","conn"]}
//!     a trace stream (shards/trace/format.md, "Files"): with "follow" on and on until the watcher
//!     goes away, else what is kept and the end; "from" is "oldest" unless it is "newest", and all
//!     classes are shown unless some are named
//! {"command":"record","classes":["span","conn"]}
//!     records these classes from now on and no others; one line of JSON
//! ```
//!
//! What is not served is answered with `{"error":{"kind","message"}}`.

#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use pangea_base::PeerId;
use pangea_trace::{Class, EventLog, Item, NodeInfo, StreamReader, StreamWriter, Trace};

use crate::output::{Access, OutputFailed, OutputFile, Replace};

/// The socket's name in the data directory.
pub const SOCKET: &str = "trace.sock";

/// The recorders of one node or client, and what people call it.
#[derive(Debug, Clone)]
pub struct Recorders {
    /// Whose they are.
    pub info: NodeInfo,
    /// One for each core, and the last for control.
    pub logs: Vec<EventLog>,
}

impl Recorders {
    /// Those of a node or client, as `trace_logs` gives them.
    pub fn new(name: &str, logs: Vec<EventLog>) -> Recorders {
        let first = logs.first();
        let info = NodeInfo {
            node: first.map_or(PeerId([0; 32]), EventLog::node),
            name: name.to_owned(),
            started: first.map_or(0, EventLog::started),
            cores: u16::try_from(logs.len().saturating_sub(1)).unwrap_or(u16::MAX),
        };
        Recorders { info, logs }
    }

    /// Writes what they keep.
    pub fn write(&self, to: impl Write) -> io::Result<()> {
        let kept = Trace::snapshot(self.info.clone(), &self.logs);
        StreamWriter::new(to, &self.info)?.events(&kept.events)
    }
}

/// The class of a name, in whatever case.
pub fn class_named(name: &str) -> Option<Class> {
    Class::ALL.into_iter().find(|class| class.name().eq_ignore_ascii_case(name))
}

/// A file for a recording, tried before there is one. It appears whole or not at all, and only its
/// owner can read it: it tells who asked what of whom.
#[derive(Debug)]
pub struct RecordingFile {
    output: OutputFile,
    name: OsString,
    replace: Replace,
}

impl RecordingFile {
    /// A file of this name. One that is there already is replaced only if it is a recording too.
    pub fn prepare(path: &Path) -> Result<RecordingFile, OutputFailed> {
        let refused = |why: &str| OutputFailed::Io {
            path: path.to_path_buf(),
            cause: io::Error::other(why.to_owned()),
        };
        let name = path.file_name().ok_or_else(|| refused("it names no file"))?;
        let replace = match path.symlink_metadata() {
            Ok(_) if is_recording(path) => Replace::Yes,
            Ok(_) => return Err(refused("it exists already and is no recording")),
            Err(_) => Replace::Never,
        };
        let directory = path.parent().unwrap_or(Path::new("."));
        let output = OutputFile::create_in(directory, Access::Private)?;
        Ok(RecordingFile { output, name: name.to_owned(), replace })
    }

    /// Writes what all of them keep, one behind the other; gives where.
    pub fn write(self, all: &[Recorders]) -> Result<PathBuf, OutputFailed> {
        let write = || -> io::Result<()> {
            let mut to = BufWriter::new(self.output.file());
            all.iter().try_for_each(|one| one.write(&mut to))?;
            to.flush()
        };
        write().map_err(|cause| OutputFailed::of(self.name.as_ref(), cause))?;
        self.output.publish(&self.name, self.replace)
    }
}

fn is_recording(path: &Path) -> bool {
    let is_file = path.metadata().is_ok_and(|found| found.is_file());
    is_file
        && File::open(path)
            .is_ok_and(|file| matches!(StreamReader::new(file).next(), Ok(Some(Item::Node(_)))))
}

#[cfg(unix)]
pub use unix::Outlet;

#[cfg(unix)]
mod unix {
    use std::io::{self, Write};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use pangea_trace::{Class, EVENT_BYTES, Reader, StreamWriter};
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use serde::Deserialize;
    use serde_json::json;

    use super::{Recorders, SOCKET, class_named};
    use crate::socket;

    /// Watchers at once: each is a thread, and copies what is recorded.
    const WATCHERS_MAX: usize = 4;
    /// The longest request.
    const REQUEST_BYTES_MAX: u64 = 1024;
    /// How long one who has connected may take to say what they want: they keep others waiting.
    const REQUEST_PATIENCE: Duration = Duration::from_secs(2);
    /// How long a watcher may take nothing until its place is given to others.
    const WATCHER_PATIENCE: Duration = Duration::from_secs(30);
    /// How long a node that stops waits for its watchers to take the last events.
    const FAREWELL: Duration = Duration::from_millis(500);
    /// How often the recorders are looked at.
    const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    /// Events of each core that are copied in one go.
    const BATCH_EVENTS: usize = 2048;
    /// Nothing deep happens on a watcher's thread, and it has its buffers elsewhere.
    const STACK_BYTES: usize = 256 << 10;

    #[derive(Deserialize)]
    #[serde(tag = "command", rename_all = "lowercase", deny_unknown_fields)]
    enum Request {
        Trace {
            #[serde(default)]
            follow: bool,
            #[serde(default)]
            from: From,
            #[serde(default)]
            classes: Option<Vec<String>>,
        },
        Record {
            classes: Vec<String>,
        },
    }

    #[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
    #[serde(rename_all = "lowercase")]
    enum From {
        #[default]
        Oldest,
        Newest,
    }

    /// The node's end of the socket. Dropped, it lets watchers take the last events, and ends them.
    pub struct Outlet {
        path: PathBuf,
        state: Arc<State>,
    }

    #[derive(Default)]
    struct State {
        watchers: AtomicUsize,
        ending: AtomicBool,
    }

    impl Outlet {
        /// Listens in the data directory, which the caller has locked.
        pub fn listen(data: &Path, recorders: Recorders) -> io::Result<Outlet> {
            let listener = socket::listen(data, SOCKET)?;
            let outlet = Outlet { path: data.join(SOCKET), state: Arc::default() };
            let (state, recorders) = (outlet.state.clone(), Arc::new(recorders));
            std::thread::Builder::new()
                .name("trace".into())
                .stack_size(STACK_BYTES)
                .spawn(move || serve(&listener, &recorders, &state))?;
            Ok(outlet)
        }
    }

    impl Drop for Outlet {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.path);
            self.state.ending.store(true, Ordering::Relaxed);
            let started = Instant::now();
            while self.state.watchers.load(Ordering::Acquire) > 0 && started.elapsed() < FAREWELL {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// One request at a time, each with a deadline; ends with the process.
    fn serve(listener: &UnixListener, recorders: &Arc<Recorders>, state: &Arc<State>) {
        for stream in listener.incoming() {
            match stream {
                // A stranger's bad manners are the stranger's trouble.
                Ok(stream) => drop(answer(stream, recorders, state)),
                // Out of descriptors, say: not at once again.
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    fn answer(
        mut stream: UnixStream,
        recorders: &Arc<Recorders>,
        state: &Arc<State>,
    ) -> io::Result<()> {
        stream.set_write_timeout(Some(REQUEST_PATIENCE))?;
        let request = socket::read_line(&stream, REQUEST_BYTES_MAX, REQUEST_PATIENCE)?;
        let line = match serde_json::from_str(&request) {
            Ok(Request::Trace { follow, from, classes }) => {
                match classes.map_or(Ok(Class::ALL.to_vec()), |names| classes_named(&names)) {
                    Ok(classes) => {
                        return admit(stream, Wish { follow, from, classes }, recorders, state);
                    }
                    Err(refused) => refused,
                }
            }
            Ok(Request::Record { classes }) => match classes_named(&classes) {
                Ok(classes) => record_only(&classes, recorders),
                Err(refused) => refused,
            },
            Err(cause) => socket::refusal(
                "usage",
                &format!(
                    "the requests are {{\"command\":\"trace\"}} and {{\"command\":\"record\"}}: \
                     {cause}"
                ),
            ),
        };
        writeln!(stream, "{line}")
    }

    fn classes_named(names: &[String]) -> Result<Vec<Class>, String> {
        let named = |name: &String| {
            class_named(name).ok_or_else(|| {
                let all = Class::ALL.map(Class::name).join(", ");
                socket::refusal("usage", &format!("the classes are {all}"))
            })
        };
        names.iter().map(named).collect()
    }

    fn record_only(classes: &[Class], recorders: &Recorders) -> String {
        recorders.logs.iter().for_each(|log| log.record_only(classes));
        let names: Vec<&str> = classes.iter().map(|class| class.name()).collect();
        json!({ "recorded": names }).to_string()
    }

    /// What a watcher asked for.
    struct Wish {
        follow: bool,
        from: From,
        classes: Vec<Class>,
    }

    /// Gives the watcher a thread, if there is a place.
    fn admit(
        mut stream: UnixStream,
        wish: Wish,
        recorders: &Arc<Recorders>,
        state: &Arc<State>,
    ) -> io::Result<()> {
        // Only this thread adds to it.
        if state.watchers.load(Ordering::Acquire) >= WATCHERS_MAX {
            let why = format!("{WATCHERS_MAX} others watch this node already; try again later");
            return writeln!(stream, "{}", socket::refusal("busy", &why));
        }
        state.watchers.fetch_add(1, Ordering::AcqRel);
        let place = Place(state.clone());
        let recorders = recorders.clone();
        let watching = std::thread::Builder::new().name("watcher".into()).stack_size(STACK_BYTES);
        watching.spawn(move || {
            // Whatever ends it, the watcher is told by the end of the stream.
            let _ = watch(&stream, &wish, &recorders, &place.0.ending);
        })?;
        Ok(())
    }

    /// A watcher's place, given back when dropped.
    struct Place(Arc<State>);

    impl Drop for Place {
        fn drop(&mut self) {
            self.0.watchers.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Copies what is recorded to a watcher. If it is slow, only this thread waits for it: the cores
    /// write on, and the reader tells what was overwritten.
    fn watch(
        mut stream: &UnixStream,
        wish: &Wish,
        recorders: &Recorders,
        ending: &AtomicBool,
    ) -> io::Result<()> {
        stream.set_write_timeout(Some(WATCHER_PATIENCE))?;
        let mut reader = match wish.from {
            From::Oldest => Reader::oldest(&recorders.logs),
            From::Newest => Reader::newest(&recorders.logs),
        };
        let mut bytes = Vec::new();
        StreamWriter::new(&mut bytes, &recorders.info)?;
        // A snapshot of a busy node would else have no end.
        let kept = recorders.logs.iter().map(pangea_trace::EventLog::capacity).max().unwrap_or(0);
        let mut rounds = kept.div_ceil(BATCH_EVENTS as u64).saturating_add(1);
        loop {
            // Asked first: what was recorded before the end is seen after it.
            let last = ending.load(Ordering::Relaxed);
            let events = reader.poll(BATCH_EVENTS);
            let wanted = events.iter().filter(|event| {
                let class = event.kind().map_or(Class::App, |kind| kind.class());
                // What was lost may have been of any class.
                class == Class::Recorder || wish.classes.contains(&class)
            });
            bytes.reserve(events.len().saturating_mul(EVENT_BYTES));
            wanted.for_each(|event| bytes.extend_from_slice(&event.to_bytes()));
            stream.write_all(&bytes)?;
            bytes.clear();
            rounds = rounds.saturating_sub(1);
            if events.is_empty() && (last || !wish.follow) || !wish.follow && rounds == 0 {
                return Ok(());
            }
            if events.len() < BATCH_EVENTS && wish.follow && is_gone(stream)? {
                return Ok(());
            }
        }
    }

    /// Waits a moment, and tells whether the watcher went away in it.
    fn is_gone(stream: &UnixStream) -> io::Result<bool> {
        // Asked for nothing, the system still tells that the other end was closed.
        let mut waiting = [PollFd::new(stream, PollFlags::empty())];
        match poll(&mut waiting, Some(&LOOK_EVERY)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => Ok(false),
            Ok(_) => Ok(true),
            Err(cause) => Err(cause.into()),
        }
    }
}

/// Without Unix sockets nobody watches.
#[cfg(not(unix))]
pub struct Outlet;

#[cfg(not(unix))]
impl Outlet {
    /// Refuses.
    pub fn listen(_data: &Path, _recorders: Recorders) -> io::Result<Outlet> {
        Err(io::Error::other("this system has no Unix sockets"))
    }
}

#[cfg(all(test, unix))]
mod tests;
