//! The configuration: one struct, filled from flags, then the environment (`PANGEA_…`), then a
//! TOML file; what none of them says has a default. Also the table of limits that a person meets.
//!
//! The same fields are flags and keys of the file, so both have the same names, units and checks.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use pangea_base::{Code, PeerAddr, PeerId};
use pangea_probe::{DriverWish, Plan, SpinWish, Wishes};
use serde::{Deserialize, Deserializer, de};

use crate::client::PutOptions;
use crate::node::{Accept, CoreOptions, Pinning};
use crate::units::{Size, Span};

mod peer_name;

pub use peer_name::PeerName;

/// Limits that a person meets. Those of the rooms are in the rooms.
pub mod limits {
    use std::time::Duration;

    /// Cores of one node or client.
    pub const CORES_MAX: usize = pangea_probe::CORES_MAX;
    /// Peers named in all, on the command line and in the file.
    pub const PEERS_MAX: usize = 1024;
    /// The least that a node may offer.
    pub const CAPACITY_BYTES_MIN: u64 = 64 << 20;
    /// What a node offers when nobody says: at most this.
    pub const CAPACITY_BYTES_DEFAULT_MAX: u64 = 100 << 30;
    /// Disk space that the default capacity leaves to others.
    pub const FREE_BYTES_KEPT: u64 = 1 << 30;
    /// The shortest lease: shorter than this, a put could outlive it.
    pub const LEASE_MIN: Duration = Duration::from_secs(3600);
    /// The longest lease, five years.
    pub const LEASE_MAX: Duration = Duration::from_secs(1826 * 86_400);
    /// The lease when nobody says.
    pub const LEASE_DEFAULT: Duration = Duration::from_secs(30 * 86_400);
    /// A configuration file.
    pub const CONFIG_BYTES_MAX: u64 = 256 << 10;
    /// A link's text, with the spaces around it.
    pub const LINK_TEXT_BYTES_MAX: u64 = 8 << 10;
    /// A node's name for people.
    pub const ALIAS_BYTES_MAX: usize = 64;
    /// Nodes of a demo.
    pub const DEMO_NODES_MAX: usize = 64;
    /// zstd's levels, the negative ones being the fastest.
    pub const LEVEL_MIN: i8 = pangea_ces::Compression::LEVEL_MIN;
    /// See above.
    pub const LEVEL_MAX: i8 = pangea_ces::Compression::LEVEL_MAX;

    const _: () = assert!(LEASE_MIN.as_secs() < LEASE_DEFAULT.as_secs());
    const _: () = assert!(LEASE_DEFAULT.as_secs() < LEASE_MAX.as_secs());
    const _: () = assert!(CAPACITY_BYTES_MIN < CAPACITY_BYTES_DEFAULT_MAX);
}

/// The memory that a command line's own decisions take. A node's budget is made by
/// [`pangea_probe::plan`] from what the machine has; `pangea doctor` shows its table.
pub mod memory {
    /// Receive buffers of a demo's nodes, of which there are many in one process.
    pub const RECEIVE_BUFFERS_DEMO: u16 = 16;
    /// The most that a client keeps of chunks in flight.
    pub const CLIENT_CHUNK_BYTES_MAX: u64 = 96 << 20;
    /// The least: some chunks of the smallest tier, with room to work.
    pub const CLIENT_CHUNK_BYTES_MIN: u64 = 16 << 20;
    /// What a client may take in all, whatever the size of the object (a promise, measured).
    pub const CLIENT_BYTES_MAX: u64 = 200 << 20;

    const _: () = assert!(CLIENT_CHUNK_BYTES_MIN <= CLIENT_CHUNK_BYTES_MAX);
    // As much again is left for the driver, the connections and the program.
    const _: () = assert!(2 * CLIENT_CHUNK_BYTES_MAX <= CLIENT_BYTES_MAX);

    /// Bytes that a client's chunks in flight may take on a machine with `usable` bytes.
    pub fn client_chunk_bytes(usable: u64) -> u64 {
        (usable / 8).clamp(CLIENT_CHUNK_BYTES_MIN, CLIENT_CHUNK_BYTES_MAX)
    }
}

/// Why a configuration cannot be used. Each text names the key.
#[derive(Debug, thiserror::Error)]
pub enum ConfigInvalid {
    /// The file cannot be read.
    #[error("the configuration file '{}' cannot be read: {cause}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// The system's words.
        cause: io::Error,
    },
    /// The file is not what it should be; the text shows the line.
    #[error("the configuration file '{}' is wrong: {cause}", path.display())]
    Text {
        /// Which.
        path: PathBuf,
        /// Where and why.
        cause: String,
    },
    /// A value out of its range.
    #[error("{key}: {why}")]
    Value {
        /// The flag's and the file's name for it.
        key: &'static str,
        /// What is wrong, and the range.
        why: String,
    },
}

fn invalid(key: &'static str, why: impl Into<String>) -> ConfigInvalid {
    ConfigInvalid::Value { key, why: why.into() }
}

/// All that can be configured.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Known peers.
    #[serde(deserialize_with = "texts")]
    pub peers: Vec<PeerName>,
    /// Threads and driver.
    pub cores: CoreSettings,
    /// A node's own.
    pub node: NodeSettings,
    /// How objects are put.
    pub put: PutSettings,
}

impl Config {
    /// Reads the file; without one, all is left to flags and defaults.
    pub fn read(path: Option<&Path>) -> Result<Config, ConfigInvalid> {
        let Some(path) = path else { return Ok(Config::default()) };
        let text = read_text(path)
            .map_err(|cause| ConfigInvalid::Unreadable { path: path.to_path_buf(), cause })?;
        toml::from_str(&text).map_err(|cause| ConfigInvalid::Text {
            path: path.to_path_buf(),
            cause: cause.to_string().trim_end().to_string(),
        })
    }

    /// The peers named by flags, then those of the file, each once.
    pub fn peers_with(&self, flags: &[PeerName]) -> Result<Vec<PeerName>, ConfigInvalid> {
        let mut peers: Vec<PeerName> = Vec::new();
        for peer in flags.iter().chain(&self.peers) {
            if !peers.contains(peer) {
                peers.push(peer.clone());
            }
            if peers.len() > limits::PEERS_MAX {
                return Err(invalid("peer", format!("at most {} peers", limits::PEERS_MAX)));
            }
        }
        Ok(peers)
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    let file = std::fs::File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut text = String::new();
    let read = file.take(limits::CONFIG_BYTES_MAX + 1).read_to_string(&mut text)?;
    if read as u64 > limits::CONFIG_BYTES_MAX {
        return Err(io::Error::other("it is larger than 256 KiB"));
    }
    Ok(text)
}

/// Threads and driver, for nodes and clients alike.
#[derive(Debug, Default, Clone, clap::Args, Deserialize)]
#[command(next_help_heading = "Cores and driver")]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CoreSettings {
    /// Threads, each with an engine of its own [default: the CPUs this process may use]
    #[arg(long = "cores", value_name = "N", env = "PANGEA_CORES", hide_env_values = true)]
    pub count: Option<usize>,
    /// How the system is asked to move packets and files; auto tries io_uring first
    #[arg(long, value_enum, env = "PANGEA_DRIVER", hide_env_values = true)]
    pub driver: Option<DriverSetting>,
    /// How packets find their core: by the kernel, or through core 0
    #[arg(long, value_enum, env = "PANGEA_STEER", hide_env_values = true)]
    pub steer: Option<SteerSetting>,
    /// Look for work a moment before sleeping: quicker answers for more CPU. Only where a CPU is
    /// left for others
    #[arg(long, env = "PANGEA_SPIN", hide_env_values = true)]
    pub spin: bool,
    /// Congestion control
    #[arg(long, value_enum, env = "PANGEA_CONGESTION", hide_env_values = true)]
    pub congestion: Option<CongestionSetting>,
    /// Where the time of recorded events comes from: once a turn of the core's loop, or read for
    /// each event, which costs more [default: tick]
    #[cfg(feature = "trace")]
    #[arg(
        long,
        value_enum,
        env = "PANGEA_TRACE_CLOCK",
        help_heading = "Trace",
        hide_env_values = true
    )]
    pub trace_clock: Option<ClockSetting>,
    /// Whether requests carry the number of their trace to peers that want it too, and theirs are
    /// recorded. Beware: with "any" a peer can link all requests of one put or get, also over
    /// several connections, and sees which of its requests caused which of ours. Only for nodes
    /// that are all yours [default: off]
    #[cfg(feature = "trace")]
    #[arg(
        long,
        value_enum,
        env = "PANGEA_TRACE_CONTEXT",
        help_heading = "Trace",
        hide_env_values = true
    )]
    pub trace_context: Option<ContextSetting>,
    /// Record one put, get or request in N, and of the others only what fails [default: 1]
    #[cfg(feature = "trace-sample")]
    #[arg(
        long,
        value_name = "N",
        env = "PANGEA_TRACE_SAMPLE",
        help_heading = "Trace",
        hide_env_values = true
    )]
    pub trace_sample: Option<std::num::NonZeroU32>,
}

/// Who the threads work for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoresFor {
    /// A node: pinned where the plan says so.
    Node,
    /// A client: left to the scheduler.
    Client,
    /// One of many nodes in one process.
    DemoNode,
}

impl CoreSettings {
    /// These settings, and those of the file where these say nothing.
    pub fn over(&self, file: &CoreSettings) -> CoreSettings {
        CoreSettings {
            count: self.count.or(file.count),
            driver: self.driver.or(file.driver),
            steer: self.steer.or(file.steer),
            spin: self.spin || file.spin,
            congestion: self.congestion.or(file.congestion),
            #[cfg(feature = "trace")]
            trace_clock: self.trace_clock.or(file.trace_clock),
            #[cfg(feature = "trace")]
            trace_context: self.trace_context.or(file.trace_context),
            #[cfg(feature = "trace-sample")]
            trace_sample: self.trace_sample.or(file.trace_sample),
        }
    }

    /// How it records.
    #[cfg(feature = "trace")]
    fn trace(&self) -> crate::node::TraceOptions {
        crate::node::TraceOptions {
            clock: self.trace_clock.unwrap_or(ClockSetting::Tick).into(),
            context: self.trace_context.unwrap_or(ContextSetting::Off).into(),
            #[cfg(feature = "trace-sample")]
            sampling: self.trace_sample.map_or(pangea_trace::Sampling::ALL, |one_in| {
                pangea_trace::Sampling::one_in(one_in.get())
            }),
            #[cfg(not(feature = "trace-sample"))]
            sampling: pangea_trace::Sampling::ALL,
        }
    }

    /// What is asked of the plan.
    pub fn wishes(&self) -> Result<Wishes, ConfigInvalid> {
        if let Some(count) = self.count
            && !(1..=limits::CORES_MAX).contains(&count)
        {
            return Err(invalid("cores", format!("{count} is not in 1 to {}", limits::CORES_MAX)));
        }
        Ok(Wishes {
            cores: self.count,
            driver: match self.driver.unwrap_or(DriverSetting::Auto) {
                DriverSetting::Auto => DriverWish::Auto,
                DriverSetting::Uring => DriverWish::Uring,
                DriverSetting::Mio => DriverWish::Mio,
            },
            spin: if self.spin { SpinWish::WhenSpare } else { SpinWish::Never },
        })
    }

    /// What a node or client runs with, by these settings and the plan made of their wishes.
    pub fn options(&self, purpose: CoresFor, plan: &Plan) -> CoreOptions {
        // Who asks for fewer cores than there are CPUs shares the machine, maybe with more nodes:
        // all of them on the same CPUs would be the worst of both.
        let alone = self.count.is_none() || self.spin;
        let pinned = purpose == CoresFor::Node && alone && !plan.pin.is_empty();
        CoreOptions {
            cores: if purpose == CoresFor::DemoNode { 1 } else { plan.cores },
            pinning: if pinned { Pinning::Pinned(plan.pin.clone()) } else { Pinning::Free },
            driver: self.driver.unwrap_or(DriverSetting::Auto).into(),
            steer: self.steer.unwrap_or(SteerSetting::Kernel).into(),
            spin: if purpose == CoresFor::DemoNode { Duration::ZERO } else { plan.spin },
            receive_buffers: match purpose {
                CoresFor::DemoNode => memory::RECEIVE_BUFFERS_DEMO,
                CoresFor::Node | CoresFor::Client => plan.budget.receive_buffers,
            },
            mtu_max: None,
            congestion: self.congestion.unwrap_or(CongestionSetting::Cubic).into(),
            #[cfg(feature = "trace")]
            trace: self.trace(),
        }
    }
}

/// What only a node is told.
#[derive(Debug, Default, Clone, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct NodeSettings {
    /// Where the node keeps its key and its shards [default: pangea/node in your data directory]
    #[arg(long, value_name = "DIR", env = "PANGEA_DATA", hide_env_values = true)]
    pub data: Option<PathBuf>,
    /// UDP address to serve at; port 0 takes a free one [default: 0.0.0.0:9090, so that other
    /// machines reach it; 127.0.0.1:9090 serves this machine only]
    #[arg(long, value_name = "IP:PORT", env = "PANGEA_P2P_ADDR", hide_env_values = true)]
    #[serde(deserialize_with = "text")]
    pub p2p_addr: Option<std::net::SocketAddr>,
    /// Bytes kept for others, such as 50GiB [default: the free space less 1 GiB, at most 100 GiB]
    #[arg(long, value_name = "SIZE", env = "PANGEA_CAPACITY", hide_env_values = true)]
    #[serde(deserialize_with = "text")]
    pub capacity: Option<Size>,
    /// Who may store here: anybody (each at most a tenth), those named with --allow or --peer, or
    /// nobody (what is here is still served) [default: any]
    #[arg(long, value_enum, env = "PANGEA_ACCEPT", hide_env_values = true)]
    pub accept: Option<AcceptSetting>,
    /// A peer that may store here with --accept listed (`pangea id` shows yours); repeatable
    #[arg(
        long,
        value_name = "PEERID",
        env = "PANGEA_ALLOW",
        value_delimiter = ',',
        hide_env_values = true
    )]
    #[serde(deserialize_with = "texts")]
    pub allow: Vec<PeerId>,
    /// The node's name for people, shown by `pangea status`
    #[arg(short = 'n', long, value_name = "ALIAS", env = "PANGEA_ALIAS", hide_env_values = true)]
    pub alias: Option<String>,
}

impl NodeSettings {
    /// These settings, and those of the file where these say nothing.
    pub fn over(&self, file: &NodeSettings) -> NodeSettings {
        let allow = if self.allow.is_empty() { &file.allow } else { &self.allow };
        NodeSettings {
            data: self.data.clone().or_else(|| file.data.clone()),
            p2p_addr: self.p2p_addr.or(file.p2p_addr),
            capacity: self.capacity.or(file.capacity),
            accept: self.accept.or(file.accept),
            allow: allow.clone(),
            alias: self.alias.clone().or_else(|| file.alias.clone()),
        }
    }

    /// Refuses what no machine makes right.
    pub fn check(&self) -> Result<(), ConfigInvalid> {
        if let Some(Size(bytes)) = self.capacity
            && bytes < limits::CAPACITY_BYTES_MIN
        {
            let least = Size(limits::CAPACITY_BYTES_MIN);
            return Err(invalid("capacity", format!("{} is less than {least}", Size(bytes))));
        }
        if self.allow.len() > limits::PEERS_MAX {
            return Err(invalid("allow", format!("at most {} peers", limits::PEERS_MAX)));
        }
        let alias = self.alias.as_deref().unwrap_or_default();
        if alias.len() > limits::ALIAS_BYTES_MAX || alias.contains(char::is_control) {
            return Err(invalid("alias", "at most 64 bytes, without control characters"));
        }
        Ok(())
    }
}

/// The capacity of a node that was not told one: what is free and what it keeps already, less a
/// reserve. `None` if that is less than the least capacity.
pub fn default_capacity_bytes(free: u64, kept: u64) -> Option<u64> {
    let room = free.saturating_add(kept).saturating_sub(limits::FREE_BYTES_KEPT);
    let capacity = room.min(limits::CAPACITY_BYTES_DEFAULT_MAX);
    (capacity >= limits::CAPACITY_BYTES_MIN).then_some(capacity)
}

/// How objects are put.
#[derive(Debug, Default, Clone, clap::Args, Deserialize)]
#[command(next_help_heading = "Code, cipher, lease")]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PutSettings {
    /// Shards that bring the object back [default: 10, or fewer with fewer than 14 peers]
    #[arg(short, value_name = "K", env = "PANGEA_K", hide_env_values = true)]
    pub k: Option<u8>,
    /// Shards that may be lost [default: 4, or fewer with fewer than 14 peers]
    #[arg(short, value_name = "M", env = "PANGEA_M", hide_env_values = true)]
    pub m: Option<u8>,
    /// zstd level, -7 (fastest) to 9 [default: by bandwidth, size and what the CPU has to spare]
    #[arg(
        long,
        value_name = "LEVEL",
        env = "PANGEA_LEVEL",
        allow_negative_numbers = true,
        hide_env_values = true
    )]
    pub level: Option<i8>,
    /// Cipher; auto takes AES where the CPU is fast at it, XChaCha20 elsewhere
    #[arg(long, value_enum, env = "PANGEA_SUITE", hide_env_values = true)]
    pub suite: Option<SuiteSetting>,
    /// How long holders shall keep it, such as 30d [default: 30d]
    #[arg(long, value_name = "TIME", env = "PANGEA_LEASE", hide_env_values = true)]
    #[serde(deserialize_with = "text")]
    pub lease: Option<Span>,
    /// Hide the exact size: every shard is made up to a size class, at most 12 % longer
    #[arg(long)]
    pub pad: bool,
}

/// Whether content is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compress {
    /// As the level says, or the plan.
    Yes,
    /// Not at all (`--no-compress`).
    No,
}

impl PutSettings {
    /// These settings, and those of the file where these say nothing.
    pub fn over(&self, file: &PutSettings) -> PutSettings {
        PutSettings {
            k: self.k.or(file.k),
            m: self.m.or(file.m),
            level: self.level.or(file.level),
            suite: self.suite.or(file.suite),
            lease: self.lease.or(file.lease),
            pad: self.pad || file.pad,
        }
    }

    /// Checked, as the client wants them.
    pub fn options(
        &self,
        peers: Vec<PeerAddr>,
        compress: Compress,
        label: Option<String>,
    ) -> Result<PutOptions, ConfigInvalid> {
        Ok(PutOptions {
            peers,
            code: self.code()?,
            compression: self.compression(compress)?,
            padding: if self.pad {
                pangea_ces::Padding::SizeClass
            } else {
                pangea_ces::Padding::Off
            },
            suite: self.suite.unwrap_or(SuiteSetting::Auto).into(),
            lease: self.lease()?,
            label,
        })
    }

    fn code(&self) -> Result<Option<Code>, ConfigInvalid> {
        match (self.k, self.m) {
            (None, None) => Ok(None),
            (Some(k), Some(m)) => match Code::new(k, m) {
                Some(code) => Ok(Some(code)),
                None => Err(invalid("k and m", "k is at least 1, and k + m at most 255")),
            },
            (Some(_), None) => Err(invalid("m", "with k, say m too")),
            (None, Some(_)) => Err(invalid("k", "with m, say k too")),
        }
    }

    fn compression(
        &self,
        compress: Compress,
    ) -> Result<Option<pangea_ces::Compression>, ConfigInvalid> {
        let range = limits::LEVEL_MIN..=limits::LEVEL_MAX;
        match (compress, self.level) {
            (Compress::No, _) => Ok(Some(pangea_ces::Compression::Off)),
            (Compress::Yes, None) => Ok(None),
            (Compress::Yes, Some(level)) if range.contains(&level) => {
                Ok(Some(pangea_ces::Compression::Zstd(level)))
            }
            (Compress::Yes, Some(level)) => {
                let (least, most) = (limits::LEVEL_MIN, limits::LEVEL_MAX);
                Err(invalid("level", format!("{level} is not in {least} to {most}")))
            }
        }
    }

    fn lease(&self) -> Result<Duration, ConfigInvalid> {
        let lease = self.lease.map_or(limits::LEASE_DEFAULT, |span| span.0);
        if !(limits::LEASE_MIN..=limits::LEASE_MAX).contains(&lease) {
            let (least, most) = (Span(limits::LEASE_MIN), Span(limits::LEASE_MAX));
            let why = format!("{} is not between {least} and {most}", Span(lease));
            return Err(invalid("lease", why));
        }
        Ok(lease)
    }
}

macro_rules! setting {
    ($(#[$doc:meta])* $name:ident => $target:ty {
        $($(#[$variant_doc:meta])* $variant:ident => $value:expr,)*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
        #[serde(rename_all = "lowercase")]
        #[value(rename_all = "lower")]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl From<$name> for $target {
            fn from(setting: $name) -> $target {
                match setting { $($name::$variant => $value,)* }
            }
        }
    };
}

setting! {
    /// Which back end.
    DriverSetting => pangea_reactor::DriverChoice {
        /// io_uring if it works here, else mio
        Auto => pangea_reactor::DriverChoice::Auto,
        /// io_uring (Linux), or an error
        Uring => pangea_reactor::DriverChoice::Uring,
        /// epoll, kqueue or IOCP
        Mio => pangea_reactor::DriverChoice::Mio,
    }
}
setting! {
    /// How packets find their core.
    SteerSetting => pangea_reactor::Steer {
        /// One socket per core, the kernel chooses (Linux; elsewhere it becomes mesh)
        Kernel => pangea_reactor::Steer::Kernel,
        /// Core 0 receives and forwards
        Mesh => pangea_reactor::Steer::Mesh,
    }
}
setting! {
    /// Congestion control.
    CongestionSetting => pangea_transport::Congestion {
        /// Fair beside other traffic
        Cubic => pangea_transport::Congestion::Cubic,
        /// Faster on long paths that lose packets
        Bbr => pangea_transport::Congestion::Bbr,
    }
}
setting! {
    /// Who may store.
    AcceptSetting => Accept {
        /// Anybody, each at most a tenth of the capacity
        Any => Accept::Any,
        /// Those named with --allow or --peer
        Listed => Accept::Listed,
        /// Nobody; what is here is still served
        None => Accept::None,
    }
}
setting! {
    /// Which cipher.
    SuiteSetting => pangea_ces::SuiteChoice {
        /// By the CPU
        Auto => pangea_ces::SuiteChoice::Auto,
        /// XChaCha20-Poly1305
        Xchacha => pangea_ces::SuiteChoice::XChaCha,
        /// AES-256-GCM
        Aes => pangea_ces::SuiteChoice::Aes,
    }
}

#[cfg(feature = "trace")]
setting! {
    /// Where the time of events comes from.
    ClockSetting => pangea_trace::Clock {
        /// Of the core's turn
        Tick => pangea_trace::Clock::Tick,
        /// Read for every event
        Fine => pangea_trace::Clock::Fine,
    }
}
#[cfg(feature = "trace")]
setting! {
    /// Whether traces cross the wire.
    ContextSetting => bool {
        /// Nothing of a trace leaves the machine, and peers' are not asked for
        Off => false,
        /// To and from any peer that wants it too
        Any => true,
    }
}

/// A value that the file writes as text, read as the flag is.
fn text<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: std::fmt::Display>,
{
    let said = String::deserialize(deserializer)?;
    said.parse().map(Some).map_err(|cause| de::Error::custom(format!("{said:?}: {cause}")))
}

/// A list of such values.
fn texts<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: std::fmt::Display>,
{
    let said = Vec::<String>::deserialize(deserializer)?;
    let parse = |said: &String| said.parse().map_err(|cause| de::Error::custom(format!("{cause}")));
    said.iter().map(parse).collect()
}

#[cfg(test)]
mod tests;
