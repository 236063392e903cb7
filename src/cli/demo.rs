//! `pangea demo`: a whole network in one process. The same nodes and the same client as in real
//! life, each node with its own directory and port.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pangea_base::{Entropy, Hash, PeerAddr, PeerId};
use pangea_wire::Link;
use serde_json::json;
use tempfile::TempDir;

use super::Context;
use super::common::{Machine, start_client};
use super::data::free_bytes;
use super::exit::{Failure, Kind};
use super::node::{driver_name, plural};
use super::put::survives;
use super::screen::seconds;
use super::stop::Stop;
use crate::client::{Client, GetFailed, GetOptions, GetReport, PutReport, Sink, Source};
use crate::config::{Compress, CoreSettings, CoresFor, PutSettings, limits};
use crate::node::{Accept, Adopt, ClockTrust, Node, NodeConfig};
use crate::{keyfile, units};

const HELP: &str = concat!(
    "EXAMPLES:
  pangea demo                             14 nodes, 256 MiB of random bytes, 4 nodes lost
  pangea demo film.mkv --nodes 5 --kill 2
  pangea demo --kill 5                    one more than it survives: an error, and no file

Works in a temporary directory (TMPDIR) and removes it.
With --json the last line is {\"ok\",\"nodes\",\"killed\",\"bytes\",\"put_seconds\",\"get_seconds\",\
\"blake3_in\",\"blake3_out\"}.",
    crate::exit_codes!()
);

/// Run a network in this process: put, lose some nodes, get, compare
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// The file to store [default: 256 MiB of random bytes]
    file: Option<PathBuf>,
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 14)]
    nodes: usize,
    /// How many nodes are killed after the put [default: 4, or what fewer nodes survive]
    #[arg(long, value_name = "M")]
    kill: Option<usize>,
    #[command(flatten)]
    cores: CoreSettings,
    #[cfg(feature = "trace")]
    #[command(flatten)]
    trace: super::trace::TraceOut,
}

/// Bytes of the object when no file is named.
const GENERATED_BYTES: u64 = 256 << 20;
/// Steps in which files are made and hashed, between looks at the stop flag.
const STEP_BYTES: usize = 1 << 20;

pub fn run(args: &Args, context: &mut Context) -> Result<u8, Failure> {
    let kill = kill_count(args)?;
    let stop = Stop::on_signals()?;
    let directory = tempfile::Builder::new().prefix("pangea-demo-").tempdir().map_err(|cause| {
        Failure::file(format!("no temporary directory (set TMPDIR to choose another): {cause}"))
    })?;
    let (mut source, bytes) = open_source(args, &directory, &stop)?;
    check_space(&directory, args, bytes)?;
    let blake3_in = hash(&mut source, &stop)?;

    let mut network = Network::start(args, context, &directory, bytes, &stop)?;
    context.screen.human(&network.introduction(args, &directory));
    let copy = directory.path().join("copy");
    let played = network.play(args, context, source, kill, &copy, &stop);
    network.end(&played, context);
    let Played { put, killed, get } = played?;

    let mut copy = File::open(&copy).map_err(in_temporary)?;
    let blake3_out = hash(&mut copy, &stop)?;
    let ok = blake3_in == blake3_out && get.bytes == bytes;
    let verdict = if ok { "the same: every byte is back" } else { "NOT THE SAME" };
    context.screen.human(&format!(
        "  compare    BLAKE3 before  {blake3_in}\n             BLAKE3 after   {blake3_out}\n             \
         {verdict}"
    ));
    let json = json!({
        "ok": ok,
        "nodes": args.nodes,
        "killed": killed.len(),
        "bytes": bytes,
        "put_seconds": seconds(put.elapsed),
        "get_seconds": seconds(get.elapsed),
        "blake3_in": blake3_in.to_string(),
        "blake3_out": blake3_out.to_string(),
    });
    context.screen.result("", &json)?;
    Ok(if ok { 0 } else { Kind::WrongKey.code() })
}

fn kill_count(args: &Args) -> Result<usize, Failure> {
    let usage = |text: String| Failure::new(Kind::Usage, text);
    if !(1..=limits::DEMO_NODES_MAX).contains(&args.nodes) {
        return Err(usage(format!("--nodes: {} is not in 1 to 64", args.nodes)));
    }
    let survived = pangea_base::Code::for_holders(args.nodes).map_or(0, |code| code.m());
    let kill = args.kill.unwrap_or(survived);
    if kill > args.nodes {
        return Err(usage(format!("--kill: there are {} nodes, not {kill}", args.nodes)));
    }
    Ok(kill)
}

fn in_temporary(cause: io::Error) -> Failure {
    Failure::file(format!("in the temporary directory (TMPDIR chooses another): {cause}"))
}

fn open_source(args: &Args, directory: &TempDir, stop: &Stop) -> Result<(File, u64), Failure> {
    let Some(path) = &args.file else {
        return Ok((generate(&directory.path().join("original"), stop)?, GENERATED_BYTES));
    };
    let shown = path.display();
    let failed = |cause: io::Error| Failure::file(format!("'{shown}' cannot be read: {cause}"));
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    match metadata.is_file() {
        true => Ok((file, metadata.len())),
        false => Err(Failure::file(format!("'{shown}' is not a regular file"))),
    }
}

/// Random bytes: nothing is gained by compressing them, so the speeds are honest.
fn generate(path: &Path, stop: &Stop) -> Result<File, Failure> {
    let mut options = File::options();
    let opened = options.read(true).write(true).create_new(true).open(path);
    let mut file = opened.map_err(in_temporary)?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|e| Failure::new(Kind::Internal, format!("no random bytes: {e}")))?;
    let mut entropy = Entropy::new(seed);
    let mut step = vec![0; STEP_BYTES];
    for _ in 0..GENERATED_BYTES / STEP_BYTES as u64 {
        stop.check()?;
        entropy.fill(&mut step);
        file.write_all(&step).map_err(in_temporary)?;
    }
    Ok(file)
}

/// BLAKE3 of the whole file, read from its beginning; the file is left at its beginning.
fn hash(file: &mut File, stop: &Stop) -> Result<Hash, Failure> {
    let failed = |cause: io::Error| Failure::file(format!("the file cannot be read: {cause}"));
    let mut hasher = blake3::Hasher::new();
    let mut step = vec![0; STEP_BYTES];
    file.rewind().map_err(failed)?;
    loop {
        stop.check()?;
        let read = file.read(&mut step).map_err(failed)?;
        if read == 0 {
            break;
        }
        hasher.update(step.get(..read).unwrap_or_default());
    }
    file.rewind().map_err(failed)?;
    Ok(Hash(*hasher.finalize().as_bytes()))
}

/// The shards of all nodes, and the copy that comes back, must fit.
fn check_space(directory: &TempDir, args: &Args, bytes: u64) -> Result<(), Failure> {
    let Some(code) = pangea_base::Code::for_holders(args.nodes) else { return Ok(()) };
    let shards = u128::from(bytes) * code.n() as u128 / code.k() as u128;
    // A little for each node's journal.
    let needed = shards + u128::from(bytes) + ((args.nodes as u128) << 20);
    let free = free_bytes(directory.path()).map_err(in_temporary)?;
    if u128::from(free) < needed {
        let needed = units::bytes(u64::try_from(needed).unwrap_or(u64::MAX));
        return Err(Failure::file(format!(
            "the temporary directory has {} free, and this needs {needed}; set TMPDIR to a larger \
             disk, or name a smaller file",
            units::bytes(free)
        )));
    }
    Ok(())
}

/// The nodes of the demo.
struct Network {
    nodes: Vec<(PeerAddr, Option<Node>)>,
    started_in: Duration,
    driver: String,
    #[cfg(feature = "trace")]
    recording: super::trace::Recording,
}

/// What happened in it.
struct Played {
    put: PutReport,
    killed: Vec<PeerId>,
    get: GetReport,
}

impl Network {
    fn start(
        args: &Args,
        context: &Context,
        directory: &TempDir,
        bytes: u64,
        stop: &Stop,
    ) -> Result<Network, Failure> {
        let started = Instant::now();
        let settings = args.cores.over(&context.config.cores);
        // --cores is for the client: each node of a demo is one thread.
        let cores = settings.options(CoresFor::DemoNode, &Machine::plan(&settings)?.plan);
        let mut network = Network {
            nodes: Vec::new(),
            started_in: Duration::ZERO,
            driver: String::new(),
            #[cfg(feature = "trace")]
            recording: args.trace.prepare()?,
        };
        for number in 1..=args.nodes {
            stop.check()?;
            let data_dir = directory.path().join(format!("node-{number:02}"));
            std::fs::create_dir(&data_dir).map_err(in_temporary)?;
            let node = Node::start(NodeConfig {
                identity: keyfile::anonymous()?,
                data_dir,
                adopt: Adopt::Refuse,
                p2p_addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
                cores: cores.clone(),
                // One origin may take a tenth: enough for the whole object at each node.
                capacity_bytes: bytes.saturating_mul(12).saturating_add(1 << 30),
                accept: Accept::Any,
                clock: ClockTrust::Compared,
                peers: Vec::new(),
            })?;
            let ready = node.ready();
            network.driver = driver_name(ready.driver).into();
            #[cfg(feature = "trace")]
            network.recording.add_logs(&format!("node-{number:02}"), node.trace_logs());
            network.nodes.push((PeerAddr { peer: ready.id, addr: ready.addr }, Some(node)));
        }
        network.started_in = started.elapsed();
        Ok(network)
    }

    /// Puts, kills, gets.
    fn play(
        &mut self,
        args: &Args,
        context: &mut Context,
        source: File,
        kill: usize,
        copy: &Path,
        stop: &Stop,
    ) -> Result<Played, Failure> {
        let put = self.put(args, context, source, stop)?;
        context.screen.human(&put_line(args, &put));
        let killed = self.kill(&put, kill);
        context.screen.human(&kill_line(&killed, args.nodes));
        let get = self.get(args, context, &put.link, copy, stop)?;
        context.screen.human(&get_line(&get));
        Ok(Played { put, killed, get })
    }

    /// Somebody new each time: who gets the object is not who put it, and has only the link.
    fn client(args: &Args, context: &Context) -> Result<Client, Failure> {
        start_client(&args.cores.over(&context.config.cores), keyfile::anonymous()?)
    }

    fn put(
        &mut self,
        args: &Args,
        context: &mut Context,
        source: File,
        stop: &Stop,
    ) -> Result<PutReport, Failure> {
        let peers = self.nodes.iter().map(|(addr, _)| *addr).collect();
        let options = PutSettings::default().options(peers, Compress::Yes, None)?;
        let mut client = Network::client(args, context)?;
        #[cfg(feature = "trace")]
        self.recording.add_logs("put", client.trace_logs());
        let screen = &mut context.screen;
        let report = client.put(Source::File(source), &options, &mut |progress| {
            screen.progress(progress);
            stop.flow()
        })?;
        context.screen.clear();
        Ok(report)
    }

    /// Kills nodes that hold shards, without a word to anybody. They are spread over the network:
    /// some of those that the link names, and some of the others.
    fn kill(&mut self, put: &PutReport, count: usize) -> Vec<PeerId> {
        let holds = |addr: &PeerAddr| put.holders.contains(&addr.peer);
        let (mut spread, others): (Vec<_>, Vec<_>) =
            self.nodes.iter_mut().partition(|(addr, _)| holds(addr));
        // Nodes that got nothing only if no others are left to kill.
        let missing = count.saturating_sub(spread.len());
        spread.extend(others.into_iter().take(missing));
        let all = spread.len();
        let mut killed = Vec::new();
        for (place, (addr, node)) in spread.into_iter().enumerate() {
            // Of `all` places, exactly `count` pass: those where place * count / all steps up.
            let steps = |place: usize| place * count / all;
            if steps(place + 1) > steps(place)
                && let Some(node) = node.take()
            {
                // Dropped, not stopped: as a crash would end it.
                drop(node);
                killed.push(addr.peer);
            }
        }
        killed
    }

    fn get(
        &mut self,
        args: &Args,
        context: &mut Context,
        link: &Link,
        copy: &Path,
        stop: &Stop,
    ) -> Result<GetReport, Failure> {
        let file = File::create_new(copy).map_err(in_temporary)?;
        let mut client = Network::client(args, context)?;
        #[cfg(feature = "trace")]
        self.recording.add_logs("get", client.trace_logs());
        let screen = &mut context.screen;
        let got = client.get(link, Sink::File(file), &GetOptions::default(), &mut |progress| {
            screen.progress(progress);
            stop.flow()
        });
        context.screen.clear();
        if let Err(GetFailed::TooFewShards { .. } | GetFailed::NoManifest { .. }) = got {
            context.screen.human("  get        failed, and no file was written");
        }
        Ok(got?)
    }

    /// Stops the nodes: in order if all went well, else at once.
    #[cfg_attr(not(feature = "trace"), allow(unused_variables))]
    fn end(self, played: &Result<Played, Failure>, context: &mut Context) {
        for node in self.nodes.into_iter().filter_map(|(_, node)| node) {
            match played {
                // Its directory goes next: nothing depends on how it ends.
                Ok(_) => drop(node.stop()),
                Err(_) => drop(node),
            }
        }
        #[cfg(feature = "trace")]
        self.recording.write(&mut context.screen);
    }

    fn introduction(&self, args: &Args, directory: &TempDir) -> String {
        format!(
            "a network in this process: {} at 127.0.0.1, driver {}, up in {}\n  \
             (each with its own identity, port and directory below {})",
            plural(args.nodes, "node"),
            self.driver,
            units::time(self.started_in),
            directory.path().display()
        )
    }
}

fn put_line(args: &Args, put: &PutReport) -> String {
    let what = match &args.file {
        Some(path) => path.display().to_string(),
        None => "random bytes".into(),
    };
    let (k, n) = (put.code.k(), put.code.n());
    format!(
        "  put        {} ({what})  {}  {}\n             compressed, encrypted, cut into {n} shards \
         of which any {k} bring it back; it {}",
        units::bytes(put.bytes),
        units::time(put.elapsed),
        units::rate(put.bytes, put.elapsed),
        survives(put.survives_losses),
    )
}

fn kill_line(killed: &[PeerId], nodes: usize) -> String {
    let names: Vec<String> = killed.iter().map(|peer| peer.short()).collect();
    let left = nodes.saturating_sub(killed.len());
    let names = if names.is_empty() { String::new() } else { format!(" ({})", names.join(" ")) };
    format!("  kill       {}{names}, {left} left", plural(killed.len(), "node"))
}

fn get_line(get: &GetReport) -> String {
    format!(
        "  get        {} by somebody who has only the link  {}  {}\n             every byte verified \
         before it was written",
        units::bytes(get.bytes),
        units::time(get.elapsed),
        units::rate(get.bytes, get.elapsed),
    )
}
