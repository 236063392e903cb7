//! The other processes of the measurement: all nodes, or one put or get. Both are this program,
//! started by itself; they speak lines of JSON.

use std::fs::File;
use std::io::{BufRead, BufReader, Lines, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use pangea::client::{Client, ClientConfig, Flow, GetOptions, PutState, Sink, Source};
use pangea::config::{Compress, CoreSettings, CoresFor, DriverSetting, PutSettings, memory};
use pangea::node::{Accept, Adopt, ClockTrust, Node, NodeConfig};
use pangea_base::PeerAddr;
use pangea_probe::Tried;
use serde_json::{Value, json};

use super::CHILD;
use super::usage::{Usage, usage};
use crate::Options;

/// The process that holds all nodes, as the measurement sees it.
pub struct Nodes {
    child: Child,
    commands: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
    addresses: Vec<String>,
    /// Milliseconds from the start of each node until it served.
    pub ready_ms: Vec<f64>,
    /// The driver in use.
    pub driver: String,
}

impl Nodes {
    /// Starts so many nodes below `place`.
    pub fn start(place: &Path, count: usize, driver: &str, capacity: u64) -> Result<Nodes, String> {
        let (count, capacity) = (count.to_string(), capacity.to_string());
        let mut child = itself(&["nodes", super::path(place)?, &count, driver, &capacity])?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("the nodes' process: {e}"))?;
        let commands = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().ok_or("a process without output")?);
        let mut nodes = Nodes {
            child,
            commands,
            answers: answers.lines(),
            addresses: Vec::new(),
            ready_ms: Vec::new(),
            driver: String::new(),
        };
        nodes.hear()?;
        Ok(nodes)
    }

    /// Where they are, as `PEERID@IP:PORT`.
    pub fn addresses(&self) -> Vec<String> {
        self.addresses.clone()
    }

    /// What the process used so far.
    pub fn usage(&self) -> Result<Usage, String> {
        usage(&self.child.id().to_string())
    }

    /// Kills these nodes (by their ids) as a crash would.
    pub fn kill(&mut self, ids: &[String]) -> Result<(), String> {
        self.tell(&format!("kill {}", ids.join(" ")))
    }

    /// Starts again those that were killed.
    pub fn revive(&mut self) -> Result<(), String> {
        self.tell("revive")
    }

    /// Stops all of them in order.
    pub fn stop(mut self) -> Result<(), String> {
        drop(self.commands.take());
        let status = self.child.wait().map_err(|e| e.to_string())?;
        if status.success() { Ok(()) } else { Err(format!("the nodes' process: {status}")) }
    }

    fn tell(&mut self, command: &str) -> Result<(), String> {
        let commands = self.commands.as_mut().ok_or("the nodes are stopped")?;
        writeln!(commands, "{command}").map_err(|e| format!("the nodes' process: {e}"))?;
        self.hear()
    }

    /// The answer to everything: where the nodes are now.
    fn hear(&mut self) -> Result<(), String> {
        let line = self.answers.next().ok_or("the nodes' process ended")?;
        let line = line.map_err(|e| e.to_string())?;
        let answer: Value = serde_json::from_str(&line).map_err(|e| format!("{line}: {e}"))?;
        let list = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
        let addresses = list("addresses");
        self.addresses = addresses.iter().filter_map(Value::as_str).map(str::to_string).collect();
        self.ready_ms = list("ready_ms").iter().filter_map(Value::as_f64).collect();
        self.driver = answer["driver"].as_str().unwrap_or_default().to_string();
        Ok(())
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        // Without its input the process stops by itself; this is for when it hangs.
        drop(self.commands.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a put (of a file, to these addresses) or a get (into a file, of this link) in a process of
/// its own, and returns what it printed.
pub fn client(what: &[&str; 2], driver: &str, given: &[String]) -> Result<Value, String> {
    let mut command = itself(&["client", what[0], what[1], driver])?;
    let output = command.args(given).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|e| format!("the client's process: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match output.status.success() {
        true => serde_json::from_str(text.trim()).map_err(|e| format!("{text}: {e}")),
        false => Err(format!("the client's process: {}", output.status)),
    }
}

fn itself(args: &[&str]) -> Result<Command, String> {
    let program = std::env::current_exe().map_err(|e| format!("where this program is: {e}"))?;
    let mut command = Command::new(program);
    command.arg(CHILD).args(args);
    Ok(command)
}

/// What the started process does.
pub fn run(options: &Options) -> Result<(), String> {
    let words: Vec<&str> = options.rest.iter().map(String::as_str).collect();
    match &words[..] {
        ["nodes", place, count, driver, capacity] => {
            let number = |text: &str| text.parse::<u64>().map_err(|e| format!("{text}: {e}"));
            serve(Path::new(place), number(count)?, &settings(driver)?, number(capacity)?)
        }
        ["client", "put", file, driver, peers @ ..] => put(file, &settings(driver)?, peers),
        ["client", "get", file, driver, link] => get(file, &settings(driver)?, link),
        _ => Err("this is for e2e's own use".to_string()),
    }
}

fn settings(driver: &str) -> Result<CoreSettings, String> {
    let driver = match driver {
        "auto" => DriverSetting::Auto,
        "uring" => DriverSetting::Uring,
        "mio" => DriverSetting::Mio,
        other => return Err(format!("--driver: '{other}' is not auto, uring or mio")),
    };
    Ok(CoreSettings { driver: Some(driver), ..CoreSettings::default() })
}

fn plan(settings: &CoreSettings) -> Result<(pangea_probe::Hardware, pangea_probe::Plan), String> {
    let wishes = settings.wishes().map_err(|e| e.to_string())?;
    let hardware = pangea_probe::probe(match pangea_reactor::uring_available() {
        Ok(()) => Tried::Works,
        Err(why) => Tried::Refused(why),
    });
    let plan = pangea_probe::plan(&hardware, &wishes);
    Ok((hardware, plan))
}

/// The nodes, in the process that is theirs.
struct Serving {
    place: PathBuf,
    settings: CoreSettings,
    capacity: u64,
    seeds: Vec<[u8; 32]>,
    nodes: Vec<(PeerAddr, Option<Node>)>,
    ready_ms: Vec<f64>,
    driver: String,
}

fn serve(place: &Path, count: u64, settings: &CoreSettings, capacity: u64) -> Result<(), String> {
    let mut serving = Serving {
        place: place.to_path_buf(),
        settings: settings.clone(),
        capacity,
        // The same identities in every run: what is measured should not depend on them.
        seeds: (0..count).map(|i| *blake3::hash(&i.to_le_bytes()).as_bytes()).collect(),
        nodes: Vec::new(),
        ready_ms: Vec::new(),
        driver: String::new(),
    };
    for number in 0..serving.seeds.len() {
        let node = serving.start(number)?;
        serving.nodes.push(node);
    }
    serving.say();
    for line in std::io::stdin().lines() {
        let line = line.map_err(|e| e.to_string())?;
        let words: Vec<&str> = line.split_whitespace().collect();
        match &words[..] {
            ["kill", ids @ ..] => serving.kill(ids),
            ["revive"] => serving.revive()?,
            _ => return Err(format!("an unknown command: {line}")),
        }
        serving.say();
    }
    serving.nodes.into_iter().filter_map(|(_, node)| node).try_for_each(Node::stop)
}

impl Serving {
    fn start(&mut self, number: usize) -> Result<(PeerAddr, Option<Node>), String> {
        let failed = |e: &dyn std::fmt::Display| format!("node {number}: {e}");
        let data_dir = self.place.join(format!("node-{number:02}"));
        std::fs::create_dir_all(&data_dir).map_err(|e| failed(&e))?;
        let seed = pangea_base::Secret::new(self.seeds[number]);
        let begun = Instant::now();
        let (_, plan) = plan(&self.settings)?;
        let node = Node::start(NodeConfig {
            identity: pangea_base::Identity::from_seed(seed),
            data_dir,
            adopt: Adopt::Refuse,
            p2p_addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            cores: self.settings.options(CoresFor::DemoNode, &plan),
            capacity_bytes: self.capacity,
            accept: Accept::Any,
            clock: ClockTrust::Compared,
            peers: Vec::new(),
        })
        .map_err(|e| failed(&e))?;
        self.ready_ms.push(begun.elapsed().as_secs_f64() * 1e3);
        let ready = node.ready();
        self.driver = format!("{:?}", ready.driver).to_lowercase();
        Ok((PeerAddr { peer: ready.id, addr: ready.addr }, Some(node)))
    }

    fn kill(&mut self, ids: &[&str]) {
        for (addr, node) in &mut self.nodes {
            if ids.contains(&addr.peer.to_string().as_str()) {
                drop(node.take());
            }
        }
    }

    fn revive(&mut self) -> Result<(), String> {
        for number in 0..self.nodes.len() {
            if self.nodes[number].1.is_none() {
                self.nodes[number] = self.start(number)?;
            }
        }
        Ok(())
    }

    fn say(&self) {
        let alive = self.nodes.iter().filter(|(_, node)| node.is_some());
        let addresses: Vec<String> = alive.map(|(addr, _)| addr.to_string()).collect();
        let (ready_ms, driver) = (&self.ready_ms, &self.driver);
        println!("{}", json!({ "addresses": addresses, "ready_ms": ready_ms, "driver": driver }));
    }
}

fn start_client(settings: &CoreSettings) -> Result<Client, String> {
    let (hardware, plan) = plan(settings)?;
    Client::start(ClientConfig {
        identity: pangea::keyfile::anonymous().map_err(|e| e.to_string())?,
        cores: settings.options(CoresFor::Client, &plan),
        memory_bytes: memory::client_chunk_bytes(hardware.memory_usable_bytes),
    })
    .map_err(|e| e.to_string())
}

fn put(file: &str, settings: &CoreSettings, peers: &[&str]) -> Result<(), String> {
    let peers = peers.iter().map(|peer| peer.parse::<PeerAddr>());
    let peers = peers.collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
    let options = PutSettings::default().options(peers, Compress::Yes, None);
    let options = options.map_err(|e| e.to_string())?;
    let source = File::open(file).map_err(|e| format!("{file}: {e}"))?;
    let mut client = start_client(settings)?;
    let report = client.put(Source::File(source), &options, &mut |_| Flow::Continue);
    let report = report.map_err(|e| e.to_string())?;
    drop(client);
    let holders: Vec<String> = report.holders.iter().map(ToString::to_string).collect();
    print_used(json!({
        "seconds": report.elapsed.as_secs_f64(),
        "complete": report.state == PutState::Complete,
        "link": report.link.reveal().to_string(),
        "holders": holders,
    }))
}

fn get(file: &str, settings: &CoreSettings, link: &str) -> Result<(), String> {
    let link = link.parse::<pangea_wire::Link>().map_err(|e| e.to_string())?;
    let target = File::create_new(file).map_err(|e| format!("{file}: {e}"))?;
    let mut client = start_client(settings)?;
    let options = GetOptions::default();
    let report = client.get(&link, Sink::File(target), &options, &mut |_| Flow::Continue);
    let report = report.map_err(|e| e.to_string())?;
    drop(client);
    print_used(json!({ "seconds": report.elapsed.as_secs_f64(), "bytes": report.bytes }))
}

/// Prints the result with what this process used.
fn print_used(mut result: Value) -> Result<(), String> {
    let used = usage("self")?;
    result["cpu"] = used.cpu_seconds.into();
    result["peak_mib"] = used.peak_mib.into();
    println!("{result}");
    Ok(())
}
