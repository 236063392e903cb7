//! `pangea node`: holds shards for others until it is stopped.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use pangea_base::{Identity, PeerId};
use pangea_engine::STEADY;
use pangea_reactor::DriverKind;
use serde_json::{Value, json};

use super::Context;
use super::common::{Machine, make_private_directory, raise_descriptors};
use super::control::Control;
use super::data::{self, DataDirectory};
use super::exit::{Failure, Kind};
use super::screen::seconds;
use super::stop::Stop;
use super::{panics, say};
use crate::config::{
    AcceptSetting, CoreSettings, CoresFor, NodeSettings, PeerName, default_capacity_bytes,
};
use crate::keyfile::{self, KeyFileRefused};
use crate::node::{Adopt, ClockStatus, ClockTrust, Node, NodeConfig, Owner, Owners, Ready, Status};
use crate::reach::reachable;
use crate::units;

const HELP: &str = concat!(
    "EXAMPLES:
  pangea node --data /srv/pangea
  pangea node --data n1 --p2p-addr 127.0.0.1:0 --capacity 10GiB -n shelf -v
  pangea node --data n1 --accept listed --allow 12D3KooW…
  pangea node --data n1 --new-identity

The first line says where the node serves; others name it by that: --peer PEERID@IP:PORT.
With --json it is {\"event\":\"ready\",\"id\",\"addr\",\"driver\",\"cores\"}.
A node serves at 0.0.0.0:9090 unless told otherwise, which is every address of the machine: a node
that nobody else can reach would hold nothing for anybody.
Ctrl-C or SIGTERM stops it in order, a second one at once; what it acknowledged is safe either way.",
    crate::exit_codes!()
);

/// Hold shards for others
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    #[command(flatten)]
    node: NodeSettings,
    /// A node to know; repeatable
    #[arg(
        long = "peer",
        value_name = "ADDR",
        env = "PANGEA_PEERS",
        value_delimiter = ',',
        hide_env_values = true
    )]
    peers: Vec<PeerName>,
    /// Believe the machine's clock at this start, although it differs by a day or more from what was
    /// written down; for when 'pangea status' says that it is doubted, and you know that it is right
    #[arg(long)]
    clock_is_right: bool,
    /// Become another node over the store that is in the directory: who keeps its key in
    /// identity.key from now on, or a new one if there is no key. Links and placements name the
    /// node that was
    #[arg(long)]
    new_identity: bool,
    #[command(flatten)]
    cores: CoreSettings,
}

/// Where a node serves unless told otherwise: every IPv4 address of the machine.
const DEFAULT_ADDR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9090);
/// How often the main thread looks for signals and failures.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub fn run(args: &Args, context: &mut Context) -> Result<u8, Failure> {
    let settings = args.node.over(&context.config.node);
    settings.check()?;
    let cores = args.cores.over(&context.config.cores);
    let machine = Machine::plan(&cores)?;
    machine.plan.notes.iter().for_each(|note| context.screen.remark(note));
    // A node is called and calls nobody: of these it needs the keys only.
    let named = context.config.peers_with(&args.peers)?;
    let mut peers: Vec<PeerId> = named.iter().map(PeerName::peer).collect();
    let accept = settings.accept.unwrap_or(AcceptSetting::Any);
    if accept == AcceptSetting::Listed && settings.allow.is_empty() && peers.is_empty() {
        context.screen.warn("nobody may store here: --accept listed without --allow or --peer");
    }
    let data = data::or_default(settings.data.as_ref())?;
    let stop = Stop::on_signals()?;

    raise_descriptors();
    let directory = DataDirectory::open(&data)?;
    panics::write_into(directory.path());
    let adopt = if args.new_identity { Adopt::TakeOver } else { Adopt::Refuse };
    let identity = identity(&directory, adopt, context)?;
    peers.extend(&settings.allow);
    let config = NodeConfig {
        identity,
        data_dir: directory.path().to_path_buf(),
        adopt,
        p2p_addr: settings.p2p_addr.unwrap_or(DEFAULT_ADDR),
        cores: cores.options(CoresFor::Node, &machine.plan),
        capacity_bytes: capacity_bytes(&settings, &directory)?,
        accept: accept.into(),
        clock: match args.clock_is_right {
            true => ClockTrust::Right,
            false => ClockTrust::Compared,
        },
        peers,
    };
    tracing::info!(data = %directory.path().display(), addr = %config.p2p_addr, "starting");
    tracing::info!("{}", machine.plan.why);
    let started = Instant::now();
    let mut node = Node::start(config)?;
    let control = listen(directory.path(), context);
    #[cfg(feature = "trace")]
    let outlet = watched(&node, directory.path(), settings.alias.as_deref(), context);
    say_ready(&node, context);

    let failed = serve(&mut node, &control, &stop, settings.alias.as_deref(), started);
    drop(control);
    context.screen.remark("stopping");
    let stopped = node.stop();
    // Only now: whoever watches sees the end.
    #[cfg(feature = "trace")]
    drop(outlet);
    if let Some(why) = failed {
        let written = panics::written();
        let place = written.map_or(String::new(), |path| format!(" (see '{}')", path.display()));
        let why = format!("the node stopped by itself: {why}{place}");
        return Err(Failure::new(Kind::Internal, why));
    }
    stopped.map_err(|why| {
        Failure::new(Kind::Internal, format!("the node did not stop in order: {why}"))
    })?;
    let uptime = started.elapsed();
    let json = json!({ "event": "stopped", "seconds": seconds(uptime) });
    // That it stopped in order is so whether or not it can be told.
    context.screen.event(&json);
    context.screen.human(&format!("stopped after {}", units::time(uptime)));
    Ok(0)
}

/// Who the node is. Over a store that is there, a new key is made only if that was said: the store
/// is another node's then.
fn identity(
    directory: &DataDirectory,
    adopt: Adopt,
    context: &mut Context,
) -> Result<Identity, Failure> {
    let key = data::key_path(directory.path());
    make_private_directory(&key)?;
    if directory.has_store() && adopt == Adopt::Refuse {
        return match keyfile::load(&key) {
            Err(KeyFileRefused::Missing(_)) => Err(Failure::file(format!(
                "this directory's identity.key is missing, and it holds the store of a node: \
                 restore '{}' from your copy, or say --new-identity to become another node over \
                 the same store",
                key.display()
            ))),
            other => Ok(other?),
        };
    }
    let (identity, origin) = keyfile::load_or_make(&key)?;
    if origin == keyfile::Origin::Made {
        context.screen.remark(&format!("made a new identity in {}", key.display()));
    }
    Ok(identity)
}

fn capacity_bytes(settings: &NodeSettings, directory: &DataDirectory) -> Result<u64, Failure> {
    if let Some(capacity) = settings.capacity {
        return Ok(capacity.0);
    }
    let data = directory.path();
    let free = data::free_bytes(data).map_err(|cause| {
        let shown = data.display();
        Failure::file(format!("the free space of '{shown}' is not known ({cause}); say --capacity"))
    })?;
    default_capacity_bytes(free, directory.kept_bytes()).ok_or_else(|| {
        Failure::file(format!(
            "the disk of '{}' is nearly full ({} free): a node leaves 1 GiB to others and wants 64 \
             MiB for itself; make room, or say --capacity",
            data.display(),
            units::bytes(free)
        ))
    })
}

/// The node serves without its control socket too, and says so.
fn listen(data: &Path, context: &mut Context) -> Option<Control> {
    match Control::listen(data) {
        Ok(control) => Some(control),
        Err(cause) => {
            let why = format!("'pangea status' cannot ask this node: {cause}");
            context.screen.warn(&why);
            None
        }
    }
}

/// Lets others see what the node records. It serves without that too, and says so.
#[cfg(feature = "trace")]
fn watched(
    node: &Node,
    data: &Path,
    alias: Option<&str>,
    context: &mut Context,
) -> Option<crate::trace::Outlet> {
    let recorders = crate::trace::Recorders::new(alias.unwrap_or("node"), node.trace_logs());
    match crate::trace::Outlet::listen(data, recorders) {
        Ok(outlet) => Some(outlet),
        Err(cause) => {
            context.screen.warn(&format!("'pangea trace' cannot watch this node: {cause}"));
            None
        }
    }
}

fn say_ready(node: &Node, context: &mut Context) {
    let ready = node.ready();
    let addr = format!("{}@{}", ready.id, reachable(ready.addr));
    context.screen.event(&json!({
        "event": "ready",
        "id": ready.id.to_string(),
        "addr": addr,
        "driver": driver_name(ready.driver),
        "cores": ready.cores,
    }));
    context.screen.human(&format!("ready: {addr}"));
    context.screen.remark(&format!(
        "{} on {} ({}); {} shards, {}",
        plural(ready.cores, "core"),
        driver_name(ready.driver),
        ready.driver_why,
        ready.shards,
        units::bytes(ready.bytes)
    ));
}

/// Answers questions until a signal comes or the node fails; gives the failure.
fn serve(
    node: &mut Node,
    control: &Option<Control>,
    stop: &Stop,
    alias: Option<&str>,
    started: Instant,
) -> Option<String> {
    loop {
        match control {
            Some(control) => {
                if let Some(question) = control.next(LOOK_EVERY) {
                    let uptime = started.elapsed();
                    let owners = node.owners();
                    let mut status = status_json(node.ready(), &node.status(), alias, uptime);
                    add_owners(&mut status, owners.as_ref());
                    question.answer(&status);
                }
            }
            None => std::thread::sleep(LOOK_EVERY),
        }
        if stop.asked() {
            return None;
        }
        if let Some(why) = node.failed(Duration::ZERO) {
            return Some(why);
        }
    }
}

fn status_json(ready: &Ready, status: &Status, alias: Option<&str>, uptime: Duration) -> Value {
    json!({
        "id": ready.id.to_string(),
        "alias": alias,
        "addr": format!("{}@{}", ready.id, reachable(ready.addr)),
        "driver": driver_name(ready.driver),
        "cores": ready.cores,
        "uptime_seconds": seconds(uptime),
        "shards": status.shards,
        "bytes": status.bytes,
        "capacity_bytes": status.capacity_bytes,
        "connections": status.connections,
        "received_bytes": status.received_bytes,
        "sent_bytes": status.sent_bytes,
        "requests": status.requests,
        "refused": status.refused,
        "clock": clock_json(&status.clock),
        "log_lines_lost": say::lines_lost(),
    })
}

/// Whether the clock is believed, and if not, since when, why, and for how long at least.
fn clock_json(clock: &ClockStatus) -> Value {
    match clock {
        ClockStatus::Starting => json!({ "state": "starting" }),
        ClockStatus::Believed => json!({ "state": "believed" }),
        ClockStatus::Doubted(doubt) => json!({
            "state": "doubted",
            "why": doubt.to_string(),
            "ahead_seconds": doubt.off.seconds_ahead(),
            "doubted_seconds": seconds(doubt.since.elapsed()),
            "believed_in_seconds": seconds(STEADY.saturating_sub(doubt.steady_since.elapsed())),
        }),
    }
}

/// Who takes how much of it. Left out if the node was too busy to say.
fn add_owners(status: &mut Value, owners: Option<&Owners>) {
    let Some(owners) = owners else { return };
    let line = |owner: &Owner| {
        json!({
            "id": owner.id.to_string(),
            "network": owner.network,
            "bytes": owner.bytes,
            "reserved_bytes": owner.reserved_bytes,
            "share_bytes": owner.share_bytes,
        })
    };
    status["owners"] = owners.largest.iter().map(line).collect();
    status["other_owners"] = owners.others.into();
}

/// The driver's name, as `--driver` has it.
pub fn driver_name(kind: DriverKind) -> &'static str {
    match kind {
        DriverKind::Uring => "uring",
        DriverKind::Mio => "mio",
    }
}

/// `1 core`, `2 cores`.
pub fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
