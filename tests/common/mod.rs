//! Real nodes and real commands for the whole-process tests: started with port 0 on 127.0.0.1 in
//! directories of their own, ended with kill -9 when dropped, and waited for with deadlines only.
//!
//! `PANGEA_TEST_DRIVER` (auto, uring, mio) and `PANGEA_TEST_STEER` (kernel, mesh) choose how nodes
//! and commands move packets; `PANGEA_TEST_MIB` the size of the larger objects.

// Each test binary uses a part of it.
#![allow(dead_code)]

mod files;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

#[allow(unused_imports)]
pub use files::{
    SmallDisk, assert_nothing_left, assert_same, copy_directory, files_below, hash_of, random_bytes,
};

/// How long a node may take until it is ready, and a process until it is gone.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long a command may take, beside what its bytes take.
const COMMAND_PATIENCE: Duration = Duration::from_secs(60);
/// The slowest that a command may move bytes, both cores being shared with everybody.
const SLOWEST_BYTES_PER_SECOND: u64 = 2 << 20;
/// How often a wait looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Nobody's user and group.
pub const NOBODY: u32 = 65_534;

/// The size of the larger objects.
pub fn object_bytes() -> u64 {
    match std::env::var("PANGEA_TEST_MIB") {
        Ok(said) => said.parse::<u64>().expect("PANGEA_TEST_MIB is a number") << 20,
        Err(_) => 24 << 20,
    }
}

/// Waits until `holds`; panics in words when it takes too long.
#[track_caller]
pub fn wait_until(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < patience, "waited {patience:?} in vain: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The program with nothing of this process's environment but the driver to use.
fn pangea(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(home).env_clear().env("HOME", home).stdin(Stdio::null());
    // A panic says where.
    command.env("RUST_BACKTRACE", "1");
    for (ours, theirs) in
        [("PANGEA_TEST_DRIVER", "PANGEA_DRIVER"), ("PANGEA_TEST_STEER", "PANGEA_STEER")]
    {
        if let Ok(said) = std::env::var(ours) {
            command.env(theirs, said);
        }
    }
    command
}

/// The program behind words that it is started through, such as those of `nsenter`.
fn dressed(dress: &[String], home: &Path) -> Command {
    let Some((first, more)) = dress.split_first() else { return pangea(&the_program(), home) };
    let mut command = pangea(Path::new(first), home);
    command.args(more).arg(the_program());
    command
}

fn the_program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_pangea"))
}

/// A child that does not outlive the test.
pub struct Process {
    child: Child,
    status: Option<ExitStatus>,
}

impl Process {
    pub fn spawn(command: &mut Command) -> Process {
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?} did not start: {e}"));
        Process { child, status: None }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn take_stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("stdin is a pipe")
    }

    pub fn take_stderr(&mut self) -> ChildStderr {
        self.child.stderr.take().expect("stderr is a pipe")
    }

    pub fn take_stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().expect("stdout is a pipe")
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap_or_else(|e| panic!("{signal:?} to {pid:?}: {e}"));
    }

    /// kill -9, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait().map(|status| self.status = Some(status));
    }

    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("a child can be waited for");
        }
        self.status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.status.is_none() {
            self.kill();
        }
    }
}

/// A node's process, and where it lives.
pub struct Node {
    pub name: String,
    pub data: PathBuf,
    /// PEERID@IP:PORT.
    pub addr: String,
    pub id: String,
    /// From the start of the process to its ready line.
    pub start_to_ready: Duration,
    home: PathBuf,
    arguments: Vec<String>,
    dress: Vec<String>,
    process: Option<Process>,
}

impl Node {
    /// A node that will live in `home`/`name`.
    fn new(home: &Path, name: &str, arguments: &[&str], dress: &[String]) -> Node {
        Node {
            name: name.to_string(),
            data: home.join(name),
            addr: String::new(),
            id: String::new(),
            start_to_ready: Duration::ZERO,
            home: home.to_path_buf(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            dress: dress.to_vec(),
            process: None,
        }
    }

    /// Starts it again at its old port. Err: it did not get ready; its code and its words.
    pub fn restart(&mut self, cores: usize) -> Result<(), String> {
        let (_, at) = self.addr.rsplit_once('@').expect("an address");
        let at = at.to_string();
        self.run(cores, &at)
    }

    /// Starts it again somewhere else.
    pub fn start_at(&mut self, cores: usize, at: &str) -> Result<(), String> {
        self.run(cores, at)
    }

    fn run(&mut self, cores: usize, at: &str) -> Result<(), String> {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let mut command = dressed(&self.dress, &self.home);
        command.args(["node", "--json", "-v", "--data"]).arg(&self.data);
        command.args(["--p2p-addr", at, "--cores", &cores.to_string()]).args(&self.arguments);
        let (process, ready, took) = start_node(command, &self.log_path())?;
        self.addr = ready["addr"].as_str().expect("ready says the address").to_string();
        self.id = ready["id"].as_str().expect("ready says who").to_string();
        self.start_to_ready = took;
        self.process = Some(process);
        Ok(())
    }

    pub fn log_path(&self) -> PathBuf {
        self.home.join(format!("{}.log", self.name))
    }

    pub fn port(&self) -> u16 {
        self.addr.rsplit(':').next().and_then(|port| port.parse().ok()).expect("an address")
    }

    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the node runs")
    }

    /// kill -9. A node that is gone already stays so.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    pub fn runs(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.ended().is_none())
    }

    pub fn suspend(&mut self) {
        self.process().signal(Signal::STOP);
    }

    pub fn resume(&mut self) {
        self.process().signal(Signal::CONT);
    }

    /// What it says of itself.
    pub fn status(&self) -> Value {
        let mut command = pangea(&the_program(), &self.home);
        command.args(["status", "--json", "--data"]).arg(&self.data);
        let output = command.output().expect("pangea status starts");
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(text.trim()).unwrap_or_else(|e| panic!("status: {e}: {text}"))
    }

    pub fn received_bytes(&self) -> u64 {
        self.status()["received_bytes"].as_u64().expect("a count")
    }

    /// CPU time that it has used, in the system's ticks (a hundredth of a second everywhere).
    pub fn cpu_ticks(&mut self) -> u64 {
        let path = format!("/proc/{}/stat", self.process().id());
        let text = fs::read_to_string(&path).expect("a node's /proc");
        // The name, in brackets, may have spaces.
        let (_, fields) = text.rsplit_once(')').expect("a name in brackets");
        let ticks =
            |at: usize| fields.split_whitespace().nth(at).and_then(|n| n.parse::<u64>().ok());
        ticks(11).zip(ticks(12)).map(|(user, system)| user + system).expect("two numbers")
    }

    pub fn resident_mib(&mut self) -> f64 {
        let path = format!("/proc/{}/status", self.process().id());
        let text = fs::read_to_string(&path).expect("a node's /proc");
        let line = text.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok());
        kib.expect("a number") / 1024.0
    }
}

/// Starts a node whose output is its log, and waits for its ready line.
fn start_node(mut command: Command, log: &Path) -> Result<(Process, Value, Duration), String> {
    let stderr = File::options().create(true).append(true).open(log).expect("a log");
    let from = stderr.metadata().expect("a log").len() as usize;
    let started = Instant::now();
    let mut process = Process::spawn(command.stdout(Stdio::piped()).stderr(stderr));
    let lines = lines_of(process.child.stdout.take().expect("piped"));
    let line = lines.recv_timeout(START_PATIENCE);
    let took = started.elapsed();
    let ready = line.ok().and_then(|line| serde_json::from_str::<Value>(&line).ok());
    match ready {
        Some(ready) if ready["event"] == "ready" => Ok((process, ready, took)),
        other => {
            let ended = (0..400).find_map(|_| {
                std::thread::sleep(LOOK_EVERY);
                process.ended()
            });
            let code = ended.and_then(|status| status.code());
            let words = fs::read(log).unwrap_or_default();
            let words = String::from_utf8_lossy(&words[from.min(words.len())..]).into_owned();
            Err(format!("not ready: code {code:?}, said {other:?}, log: {words}"))
        }
    }
}

/// Lines as they come; the reader goes on to the end so that the writer never blocks.
fn lines_of(source: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    lines
}

/// Some nodes, and a user with a home.
pub struct Network {
    dir: TempDir,
    pub nodes: Vec<Node>,
    /// What commands, and nodes that are added, are started through.
    pub dress: Vec<String>,
    /// Where nodes that are added live.
    pub ip: &'static str,
    // Text that must be in nobody's log: the keys of the links that were made.
    secrets: Mutex<Vec<String>>,
    logs: Mutex<Vec<PathBuf>>,
}

impl Network {
    pub fn new(count: usize) -> Network {
        Network::with(count, &[])
    }

    /// Nodes with these arguments too. Every seventh has two cores.
    pub fn with(count: usize, arguments: &[&str]) -> Network {
        let mut network = Network {
            dir: tempfile::Builder::new().prefix("pangea-test-").tempdir().expect("a directory"),
            nodes: Vec::new(),
            dress: Vec::new(),
            ip: "127.0.0.1",
            secrets: Mutex::default(),
            logs: Mutex::default(),
        };
        for at in 0..count {
            network.add(if at % 7 == 0 { 2 } else { 1 }, arguments);
        }
        network
    }

    /// One more node.
    pub fn add(&mut self, cores: usize, arguments: &[&str]) -> &mut Node {
        let added = self.try_add(cores, arguments);
        added.unwrap_or_else(|why| panic!("a node more: {why}"))
    }

    /// One more node. Err: it did not get ready; its code and its words.
    pub fn try_add(&mut self, cores: usize, arguments: &[&str]) -> Result<&mut Node, String> {
        let name = format!("n{}", self.nodes.len());
        // So that no disk is too small for the capacity that a node takes by default.
        let sized = arguments.contains(&"--capacity");
        let capacity: &[&str] = if sized { &[] } else { &["--capacity", "100GiB"] };
        let arguments = [arguments, capacity].concat();
        let mut node = Node::new(self.dir.path(), &name, &arguments, &self.dress);
        self.logs.lock().unwrap().push(node.log_path());
        node.run(cores, &format!("{}:0", self.ip))?;
        self.nodes.push(node);
        Ok(self.nodes.last_mut().expect("just added"))
    }

    pub fn home(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `--peer` for every node, in order.
    pub fn peers(&self) -> Vec<String> {
        self.nodes.iter().flat_map(|node| ["--peer".to_string(), node.addr.clone()]).collect()
    }

    /// A file of `bytes` random bytes (the same for the same name).
    pub fn random_file(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.path(name);
        files::write_file(&path, bytes, name, |block| block.to_vec());
        path
    }

    /// A file of `bytes` bytes of words.
    pub fn text_file(&self, name: &str, bytes: u64) -> PathBuf {
        const WORDS: [&str; 16] = [
            "holder",
            "of",
            "the",
            "shard",
            "that",
            "was",
            "lost",
            "and",
            "found",
            "again",
            "by",
            "its",
            "root",
            "in",
            "a",
            "network\n",
        ];
        let path = self.path(name);
        files::write_file(&path, bytes, name, |block| {
            let words = block.iter().map(|byte| WORDS[usize::from(byte % 16)]);
            words.collect::<Vec<_>>().join(" ").into_bytes()
        });
        path
    }

    /// A command, ready to be run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = dressed(&self.dress, self.dir.path());
        command.args(arguments);
        command
    }

    /// A command that is started through these words.
    pub fn command_through(&self, dress: &[&str], arguments: &[&str]) -> Command {
        let dress: Vec<String> = dress.iter().map(ToString::to_string).collect();
        let mut command = dressed(&dress, self.dir.path());
        command.args(arguments);
        command
    }

    /// Runs a command to its end; `--json` is added.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.begin(arguments, Stdio::null()).end()
    }

    /// Starts a command; `--json` is added. Its output goes to files.
    #[track_caller]
    pub fn begin(&self, arguments: &[&str], stdin: Stdio) -> Running {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let [stdout, stderr] = ["out", "err"].map(|what| self.path(&format!("c{number}.{what}")));
        let mut command = self.command(arguments);
        command.args(["--json", "-v"]).stdin(stdin);
        command.stdout(File::create(&stdout).expect("a file"));
        command.stderr(File::create(&stderr).expect("a file"));
        self.logs.lock().unwrap().push(stderr.clone());
        let started = Instant::now();
        let shown = arguments.iter().take(2).copied().collect::<Vec<_>>().join(" ");
        let process = Process::spawn(&mut command);
        Running { process, shown, started, stdout, stderr }
    }

    /// Puts a file at all nodes.
    #[track_caller]
    pub fn put(&self, file: &Path, more: &[&str]) -> Ran {
        let peers = self.peers();
        let mut arguments = vec!["put", file.to_str().expect("a name")];
        arguments.extend(peers.iter().map(String::as_str));
        arguments.extend(more);
        let ran = self.run(&arguments);
        self.remember(&ran);
        ran
    }

    /// Gets with nothing but the link.
    #[track_caller]
    pub fn get(&self, link: &str, output: &Path) -> Ran {
        self.run(&["get", link, "-o", output.to_str().expect("a name")])
    }

    /// The link of a put is in nobody's log: looked at when the network ends.
    pub fn remember(&self, ran: &Ran) {
        if let Some(link) = ran.last().and_then(|last| Some(last["link"].as_str()?.to_owned())) {
            self.secrets.lock().unwrap().push(link);
        }
    }

    fn check_logs(&self) {
        let secrets = self.secrets.lock().unwrap();
        for path in self.logs.lock().unwrap().iter() {
            let log = fs::read_to_string(path).unwrap_or_default().to_lowercase();
            for link in secrets.iter() {
                for part in secret_parts(link) {
                    assert!(!log.contains(&part), "{} has a link's key in it", path.display());
                }
            }
            assert!(!log.contains("panicked"), "{}: {log}", path.display());
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.nodes.iter_mut().for_each(Node::kill);
        if !std::thread::panicking() {
            self.check_logs();
        } else if std::env::var_os("PANGEA_TEST_KEEP").is_some() {
            self.dir.disable_cleanup(true);
            eprintln!("kept: {}", self.dir.path().display());
        }
    }
}

/// What of a link must be in no log: the text of its key and its end, and the key in hex.
fn secret_parts(text: &str) -> Vec<String> {
    let link: pangea_wire::Link = text.parse().expect("a put prints a link");
    let mut parts = vec![text[64..104].to_string(), text[text.len() - 24..].to_string()];
    if let Some(key) = link.read_key() {
        let hex: String = key.0.expose().iter().map(|byte| format!("{byte:02x}")).collect();
        parts.push(hex);
        // As Debug shows an array.
        parts.push(format!("{:?}", &key.0.expose()[..8]).trim_end_matches(']').to_string());
    }
    parts
}

/// A command under way.
pub struct Running {
    pub process: Process,
    shown: String,
    started: Instant,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    /// Waits for its end.
    #[track_caller]
    pub fn end(self) -> Ran {
        let patience = COMMAND_PATIENCE
            + Duration::from_secs(object_bytes().div_ceil(SLOWEST_BYTES_PER_SECOND));
        self.end_within(patience)
    }

    #[track_caller]
    pub fn end_within(mut self, patience: Duration) -> Ran {
        let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        while self.process.ended().is_none() {
            if self.started.elapsed() > patience {
                self.process.kill();
                let (out, err) = (read(&self.stdout), read(&self.stderr));
                panic!("'{}' runs for {patience:?} and more: {out}\n{err}", self.shown);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ran {
            shown: self.shown,
            code: self.process.ended().and_then(|status| status.code()),
            stdout: fs::read(&self.stdout).unwrap(),
            stderr: read(&self.stderr),
            took: self.started.elapsed(),
        }
    }
}

/// A command that ended.
#[derive(Debug, Clone)]
pub struct Ran {
    pub shown: String,
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub took: Duration,
}

impl Ran {
    /// The last line of stdout, which is the result.
    pub fn last(&self) -> Option<Value> {
        let text = String::from_utf8_lossy(&self.stdout);
        serde_json::from_str(text.lines().last()?).ok()
    }

    /// The result of a command that ended with this code.
    #[track_caller]
    pub fn ended(&self, code: i32) -> Value {
        assert_eq!(self.code, Some(code), "{self}");
        self.last().unwrap_or_else(|| panic!("no result: {self}"))
    }

    #[track_caller]
    pub fn ok(&self) -> Value {
        self.ended(0)
    }

    /// Asserts that the result tells of trouble with this peer.
    #[track_caller]
    pub fn names(&self, peer: &str) {
        let last = self.last().unwrap_or_else(|| panic!("no result: {self}"));
        let told = ["troubles", "bad_holders"]
            .iter()
            .filter_map(|list| last[list].as_array())
            .flatten()
            .any(|one| {
                one["peer"] == peer && one["why"].as_str().is_some_and(|why| !why.is_empty())
            });
        assert!(told, "{peer} is not named: {self}");
    }

    /// The link of a put that ended with this code.
    #[track_caller]
    pub fn link(&self, code: i32) -> String {
        self.ended(code)["link"].as_str().unwrap_or_else(|| panic!("no link: {self}")).to_string()
    }

    /// The error of a command that failed with this code, for a person to read.
    #[track_caller]
    pub fn refused(&self, code: i32) -> String {
        let result = self.ended(code);
        let message = result["error"]["message"].as_str();
        let message = message.unwrap_or_else(|| panic!("no error: {self}")).to_string();
        assert!(self.stderr.contains("error: "), "nothing for a person: {self}");
        assert!(!self.stderr.contains("panicked"), "{self}");
        message
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (shown, code, took) = (&self.shown, self.code, self.took);
        let stdout: String = String::from_utf8_lossy(&self.stdout).chars().take(2000).collect();
        write!(f, "'{shown}' ended with {code:?} after {took:?}\n{stdout}\n{}", self.stderr)
    }
}

/// Runs as nobody if we are root; false: we are nobody special already.
pub fn as_nobody(command: &mut Command) -> bool {
    let root = rustix::process::geteuid().is_root();
    if root {
        command.uid(NOBODY).gid(NOBODY);
    }
    root
}

/// A UDP socket that answers every datagram with rubbish, until it is dropped.
pub struct Babbler {
    pub addr: SocketAddr,
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    heard: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Babbler {
    pub fn start() -> Babbler {
        use std::sync::atomic::Ordering::Relaxed;
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let addr = socket.local_addr().unwrap();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let heard = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (stopped, hears) = (stop.clone(), heard.clone());
        std::thread::spawn(move || {
            let mut datagram = vec![0; 65_536];
            while !stopped.load(Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut datagram) else { continue };
                let number = hears.fetch_add(1, Relaxed);
                let rubbish = random_bytes(&format!("rubbish {number}"), 1200);
                let _ = socket.send_to(&rubbish, from);
                let _ = socket.send_to(&rubbish[..7], from);
                // Its own words, a few bits turned.
                let echo = &mut datagram[..length];
                for byte in echo.iter_mut().skip(number % 40).step_by(41) {
                    *byte ^= 0x55;
                }
                let _ = socket.send_to(echo, from);
            }
        });
        Babbler { addr, stop, heard }
    }

    pub fn heard(&self) -> usize {
        self.heard.load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl Drop for Babbler {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}
