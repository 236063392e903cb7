//! Applications' own commands: what a protocol says of itself, once, and a guard around each of its
//! commands. How to use it: `guide.md`.
//!
//! What an application makes of a command may be a hash that names what a user asked for. It does
//! not get into the recorder, and from there into files that are passed around, unless whoever
//! registers the application says so: [`Redaction`].

use crate::Tracer;
use crate::context::{Outcome, TraceContext};

#[cfg(feature = "trace-app")]
use std::hash::{BuildHasher, Hasher, RandomState};
#[cfg(feature = "trace-app")]
use std::sync::OnceLock;

#[cfg(feature = "trace-app")]
use crate::{Class, Event, EventData, SpanKind, flags};

/// Bytes that an application may say about a command.
pub const APP_DATA_BYTES: usize = 42;

/// What an application says about a command.
pub type AppData = [u8; APP_DATA_BYTES];

/// An application protocol that wants its commands in the recorder.
///
/// ```
/// use pangea_trace::{AppData, AppProtocol, app_data};
///
/// struct DataMapApp;
///
/// impl AppProtocol for DataMapApp {
///     const APP_ID: [u8; 4] = *b"DMAP";
///
///     fn to_trace_data(&self, cmd: u16, payload: &[u8]) -> AppData {
///         match cmd {
///             // A hash of 32 bytes and a length of 4.
///             0x01 => app_data(payload, 36),
///             0x02 | 0x03 => app_data(payload, 32),
///             _ => app_data(payload, 0),
///         }
///     }
///
///     fn describe_command(cmd: u16) -> &'static str {
///         match cmd {
///             0x01 => "STORE_CHUNK",
///             0x02 => "GET_CHUNK",
///             0x03 => "DELETE_CHUNK",
///             _ => "UNKNOWN",
///         }
///     }
/// }
///
/// // A payload that is too short is filled up with zeros.
/// assert_eq!(DataMapApp.to_trace_data(0x02, b"short")[..6], *b"short\0");
/// assert_eq!(DataMapApp::describe_command(0x01), "STORE_CHUNK");
/// assert!(DataMapApp::should_trace(0x03));
/// ```
pub trait AppProtocol: Send + Sync {
    /// The name that its commands have in the recorder.
    const APP_ID: [u8; 4];

    /// What is worth knowing of a command. The payload is what a peer sent and may be anything, so
    /// this takes of it what is there: [`app_data`].
    fn to_trace_data(&self, cmd: u16, payload: &[u8]) -> AppData;

    /// A command's name.
    fn describe_command(cmd: u16) -> &'static str;

    /// Whether a command is recorded at all. What is not is not recorded when it fails either.
    fn should_trace(cmd: u16) -> bool {
        let _ = cmd;
        true
    }
}

/// An [`AppProtocol`] as an object, which a trait with constants cannot be. Every protocol is one.
pub trait DynApp: Send + Sync {
    /// [`AppProtocol::APP_ID`].
    fn app_id(&self) -> [u8; 4];
    /// [`AppProtocol::to_trace_data`].
    fn trace_data(&self, cmd: u16, payload: &[u8]) -> AppData;
    /// [`AppProtocol::describe_command`].
    fn describe(&self, cmd: u16) -> &'static str;
    /// [`AppProtocol::should_trace`].
    fn traces(&self, cmd: u16) -> bool;
}

impl<A: AppProtocol> DynApp for A {
    fn app_id(&self) -> [u8; 4] {
        A::APP_ID
    }

    fn trace_data(&self, cmd: u16, payload: &[u8]) -> AppData {
        self.to_trace_data(cmd, payload)
    }

    fn describe(&self, cmd: u16) -> &'static str {
        A::describe_command(cmd)
    }

    fn traces(&self, cmd: u16) -> bool {
        A::should_trace(cmd)
    }
}

/// The first bytes of a payload, at most so many, and zeros for what is not there.
///
/// ```
/// use pangea_trace::app_data;
/// assert_eq!(app_data(b"abc", 2)[..3], *b"ab\0");
/// assert_eq!(app_data(&[1; 100], 100), [1; 42]);
/// ```
pub fn app_data(payload: &[u8], bytes: usize) -> AppData {
    let mut data = [0; APP_DATA_BYTES];
    for (place, byte) in data.iter_mut().zip(payload.iter().take(bytes)) {
        *place = *byte;
    }
    data
}

/// What becomes of an application's bytes on their way into the recorder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redaction {
    /// Eight bytes of a hash under a key that this process drew and tells nobody; the rest is zero.
    /// Within a run equal data look equal; nobody can tell what they were, or find them in another
    /// run or at another node.
    Redacted,
    /// As they are. Whoever reads the trace sees what users asked for.
    Sensitive,
}

/// The applications of a program. Without the feature `trace-app` it keeps nothing and has no size.
#[derive(Default)]
pub struct AppRegistry {
    // As many as the program has protocols; each id once.
    #[cfg(feature = "trace-app")]
    apps: Vec<(Box<dyn DynApp>, Redaction)>,
}

impl AppRegistry {
    /// None.
    pub const fn new() -> AppRegistry {
        AppRegistry {
            #[cfg(feature = "trace-app")]
            apps: Vec::new(),
        }
    }
}

/// A command under way, from [`AppRegistry::start`] on. Dropped without [`Command::finish`], as by
/// a `?` on the way, it failed.
#[must_use = "the command ends when this is dropped"]
pub struct Command {
    context: TraceContext,
    #[cfg(feature = "trace-app")]
    open: Option<Open>,
}

#[cfg(feature = "trace-app")]
struct Open {
    tracer: Tracer,
    data: EventData,
}

impl Command {
    /// The trace that the command belongs to, for the work that it causes: its own, or its parent's
    /// if it is not recorded.
    #[inline(always)]
    pub fn context(&self) -> &TraceContext {
        &self.context
    }

    /// The command ended: `Outcome::Done`, `Outcome::Failed`, or a reference to its result.
    #[inline(always)]
    pub fn finish(self, outcome: impl Into<Outcome>) {
        let outcome = outcome.into();
        #[cfg(feature = "trace-app")]
        {
            let mut command = self;
            command.end(outcome);
        }
        #[cfg(not(feature = "trace-app"))]
        let _ = outcome;
    }
}

impl<T, E> From<&Result<T, E>> for Outcome {
    #[inline(always)]
    fn from(result: &Result<T, E>) -> Outcome {
        if result.is_ok() { Outcome::Done } else { Outcome::Failed }
    }
}

#[cfg(feature = "trace-app")]
impl AppRegistry {
    /// Adds an application whose data are redacted.
    pub fn register<A: AppProtocol + 'static>(&mut self, app: A) {
        self.register_as(app, Redaction::Redacted);
    }

    /// Adds an application, in place of one that has the same id.
    pub fn register_as<A: AppProtocol + 'static>(&mut self, app: A, redaction: Redaction) {
        self.apps.retain(|(known, _)| known.app_id() != A::APP_ID);
        self.apps.push((Box::new(app), redaction));
    }

    /// The application of an id.
    pub fn get(&self, app_id: [u8; 4]) -> Option<&dyn DynApp> {
        self.entry(app_id).map(|(app, _)| app)
    }

    /// A command's name, if its application is here.
    pub fn describe(&self, app_id: [u8; 4], cmd: u16) -> Option<&'static str> {
        self.get(app_id).map(|app| app.describe(cmd))
    }

    /// A command begins: within `parent` if that belongs to a trace, else as a trace of its own. One
    /// of an application that is not registered is recorded without its data.
    pub fn start(
        &self,
        tracer: &Tracer,
        app_id: [u8; 4],
        cmd: u16,
        payload: &[u8],
        parent: Option<&TraceContext>,
    ) -> Command {
        let parent = parent.copied().unwrap_or(TraceContext::NONE);
        let entry = self.entry(app_id);
        let chosen = entry.is_none_or(|(app, _)| app.traces(cmd));
        if !chosen || !tracer.wants(Class::App) {
            return Command { context: parent, open: None };
        }
        let data = match entry {
            Some((app, Redaction::Sensitive)) => app.trace_data(cmd, payload),
            Some((app, Redaction::Redacted)) => redacted(app_id, &app.trace_data(cmd, payload)),
            None => [0; APP_DATA_BYTES],
        };
        let data = EventData::AppCommand { app_id, cmd, data };
        let context = match parent.trace_id().is_none() {
            true => tracer.begin_trace(SpanKind::App, u64::from(cmd)),
            false => tracer.begin(&parent, SpanKind::App, u64::from(cmd)),
        };
        tracer.write(Event::new(data).of(&context).flagged(flags::BEGIN));
        Command { context, open: Some(Open { tracer: tracer.clone(), data }) }
    }

    fn entry(&self, app_id: [u8; 4]) -> Option<(&dyn DynApp, Redaction)> {
        let found = self.apps.iter().find(|(app, _)| app.app_id() == app_id)?;
        Some((found.0.as_ref(), found.1))
    }
}

#[cfg(feature = "trace-app")]
impl Command {
    fn end(&mut self, outcome: Outcome) {
        let Some(Open { tracer, data }) = self.open.take() else { return };
        let error = if outcome == Outcome::Failed { flags::ERROR } else { 0 };
        tracer.log(Event::new(data).of(&self.context).flagged(flags::END | error));
        tracer.end(&self.context, SpanKind::App, outcome, 0);
    }
}

#[cfg(feature = "trace-app")]
impl Drop for Command {
    fn drop(&mut self) {
        self.end(Outcome::Failed);
    }
}

/// Eight bytes that tell equal data from different ones and nothing else. The command is not in it,
/// so that what was stored can be seen to be fetched.
#[cfg(feature = "trace-app")]
fn redacted(app_id: [u8; 4], data: &AppData) -> AppData {
    // One key for all cores, or the same data would look different on each.
    static KEY: OnceLock<RandomState> = OnceLock::new();
    let mut hasher = KEY.get_or_init(RandomState::new).build_hasher();
    hasher.write(&app_id);
    hasher.write(data);
    app_data(&hasher.finish().to_le_bytes(), 8)
}

#[cfg(not(feature = "trace-app"))]
const _: () = assert!(size_of::<AppRegistry>() == 0);
#[cfg(not(feature = "trace"))]
const _: () = assert!(size_of::<Command>() == 0);

#[cfg(not(feature = "trace-app"))]
#[allow(clippy::unused_self)]
impl AppRegistry {
    /// Nothing is kept.
    #[inline(always)]
    pub fn register<A: AppProtocol + 'static>(&mut self, _: A) {}

    /// Nothing is kept.
    #[inline(always)]
    pub fn register_as<A: AppProtocol + 'static>(&mut self, _: A, _: Redaction) {}

    /// None.
    #[inline(always)]
    pub fn get(&self, _: [u8; 4]) -> Option<&dyn DynApp> {
        None
    }

    /// Nothing.
    #[inline(always)]
    pub fn describe(&self, _: [u8; 4], _: u16) -> Option<&'static str> {
        None
    }

    /// Nothing is recorded; the context is the parent's.
    #[inline(always)]
    pub fn start(
        &self,
        _: &Tracer,
        _: [u8; 4],
        _: u16,
        _: &[u8],
        parent: Option<&TraceContext>,
    ) -> Command {
        Command { context: parent.copied().unwrap_or(TraceContext::NONE) }
    }
}
