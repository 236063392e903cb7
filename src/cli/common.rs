//! What put, get and stat have in common: identity, peers, cores.

use std::path::PathBuf;

use pangea_base::{Identity, PeerAddr};
use pangea_probe::{Hardware, Plan, Tried};
use pangea_wire::Link;

use super::Context;
use super::exit::{Failure, Kind};
use super::screen::Screen;
use super::stop::Stop;
use crate::client::{Client, ClientConfig};
use crate::config::{Config, CoreSettings, CoresFor, PeerName, memory};
use crate::keyfile;
use crate::names::{self, Found};

/// Flags of every command that talks to nodes.
#[derive(clap::Args)]
pub struct ClientArgs {
    /// A node to talk to, PEERID@HOST:PORT (an address, or a name that the system looks up) or
    /// /ip4/IP/udp/PORT/quic-v1/p2p/PEERID; repeatable, also with several addresses of one node, and
    /// added to the peers of the configuration file. What is named here is tried first
    #[arg(
        long = "peer",
        value_name = "ADDR",
        env = "PANGEA_PEERS",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub peers: Vec<PeerName>,
    /// Use an identity made for this once, instead of your own
    #[arg(long)]
    pub anonymous: bool,
    #[command(flatten)]
    pub cores: CoreSettings,
    #[cfg(feature = "trace")]
    #[command(flatten)]
    pub trace: super::trace::TraceOut,
}

/// Whether there is anybody to ask beside the peers that are named.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// Nobody.
    None,
    /// Those of the link.
    InLink,
}

impl Others {
    /// Those of this link, if it has any.
    pub fn of(link: &Link) -> Others {
        if link.hints().is_empty() { Others::None } else { Others::InLink }
    }
}

impl ClientArgs {
    /// The client that these flags and the file describe, in whose name something is stored.
    pub fn start(&self, config: &Config) -> Result<Client, Failure> {
        if self.anonymous {
            return start_client(&self.cores.over(&config.cores), keyfile::anonymous()?);
        }
        let path = own_key_path()?;
        make_private_directory(&path)?;
        let (identity, _) = keyfile::load_or_make(&path)?;
        start_client(&self.cores.over(&config.cores), identity)
    }

    /// The peers that these flags and the file name, their names looked up. A name that is not found
    /// is a warning, unless there is nobody else to ask.
    pub fn look_up(
        &self,
        context: &mut Context,
        stop: &Stop,
        others: Others,
    ) -> Result<Vec<PeerAddr>, Failure> {
        let names = context.config.peers_with(&self.peers)?;
        let Found { peers, failed } = names::look_up(&names, &|| !stop.asked());
        stop.check()?;
        if peers.is_empty() && !failed.is_empty() && others == Others::None {
            return Err(Failure::new(Kind::TooFewHolders, failed.join("\n")));
        }
        failed.iter().for_each(|why| context.screen.warn(why));
        Ok(peers)
    }

    /// One that only reads, which anybody may who has the link: your key is used if it is there,
    /// and nothing is made for want of it.
    pub fn start_reader(&self, config: &Config, screen: &mut Screen) -> Result<Client, Failure> {
        let own = match own_key_path() {
            Ok(path) if !self.anonymous => keyfile::load(&path),
            _ => keyfile::anonymous(),
        };
        let identity = match own {
            Ok(identity) => identity,
            Err(refused) => {
                if !refused.is_absent() {
                    screen.warn(&format!("{refused} (an identity made for this once will do)"));
                }
                keyfile::anonymous()?
            }
        };
        start_client(&self.cores.over(&config.cores), identity)
    }
}

/// A client with these settings on this machine.
pub fn start_client(settings: &CoreSettings, identity: Identity) -> Result<Client, Failure> {
    let machine = Machine::plan(settings)?;
    let cores = settings.options(CoresFor::Client, &machine.plan);
    let memory_bytes = memory::client_chunk_bytes(machine.hardware.memory_usable_bytes);
    Ok(Client::start(ClientConfig { identity, cores, memory_bytes })?)
}

/// This machine, and what is made of it.
pub struct Machine {
    pub hardware: Hardware,
    pub plan: Plan,
}

impl Machine {
    /// Looks at the machine and plans with it.
    pub fn plan(settings: &CoreSettings) -> Result<Machine, Failure> {
        let wishes = settings.wishes()?;
        let hardware = pangea_probe::probe(match pangea_reactor::uring_available() {
            Ok(()) => Tried::Works,
            Err(why) => Tried::Refused(why),
        });
        let plan = pangea_probe::plan(&hardware, &wishes);
        Ok(Machine { hardware, plan })
    }
}

/// The command line's own key: `identity.key` in the user's data directory.
pub fn own_key_path() -> Result<PathBuf, Failure> {
    Ok(user_data_directory()?.join("identity.key"))
}

/// `$XDG_DATA_HOME/pangea`, or `~/.local/share/pangea`.
pub fn user_data_directory() -> Result<PathBuf, Failure> {
    let absolute = |name: &str| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    let base = absolute("XDG_DATA_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".local/share")))
        .or_else(|| absolute("LOCALAPPDATA"));
    base.map(|base| base.join("pangea")).ok_or_else(|| {
        Failure::new(
            Kind::Usage,
            "there is no place for your key: neither XDG_DATA_HOME nor HOME is set \
             (--anonymous needs none)",
        )
    })
}

/// Lets this process open as many files as the system lets it be let: a store of many extents keeps
/// each open.
pub fn raise_descriptors() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        // What it cannot have it does without.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// Makes the directory of a file, for its owner only, if it is not there.
pub fn make_private_directory(file: &std::path::Path) -> Result<(), Failure> {
    let Some(directory) = file.parent() else { return Ok(()) };
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(directory).map_err(|cause| {
        let shown = directory.display();
        Failure::file(format!("the directory '{shown}' cannot be made: {cause}"))
    })
}
