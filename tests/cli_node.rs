//! One node as a process: it says where it serves, answers `status`, keeps its directory to itself,
//! stops in order, and starts again at once after kill -9.

#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

fn pangea(home: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pangea"));
    command
        .args(arguments)
        .current_dir(home.path())
        .env_clear()
        .env("HOME", home.path())
        .env("XDG_DATA_HOME", home.path().join("data"))
        .stdin(Stdio::null());
    command
}

fn run(home: &TempDir, arguments: &[&str]) -> Output {
    pangea(home, arguments).output().unwrap()
}

#[track_caller]
fn refused(output: &Output, code: i32, word: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains("error: ") && stderr.contains(word), "no '{word}' in: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

/// A node that runs; killed when dropped.
struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    ready: Value,
}

impl Running {
    /// Starts a node on `n1` with one core and waits until it serves.
    fn start(home: &TempDir, addr: &str) -> Running {
        let arguments = ["node", "--data", "n1", "--json", "--cores", "1", "--p2p-addr", addr];
        let mut command = pangea(home, &arguments);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
        Running { child, stdout, ready }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end: the exit code and the lines that were left.
    fn finish(&mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }

    fn port(&self) -> &str {
        self.ready["addr"].as_str().unwrap().rsplit_once(':').unwrap().1
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_node_says_where_it_serves_answers_and_stops_in_order() {
    let home = tempfile::tempdir().unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        let mut node = Running::start(&home, "127.0.0.1:0");
        let (ready, id) = (&node.ready, node.ready["id"].as_str().unwrap());
        assert_eq!(ready["event"], "ready");
        assert_eq!(ready["cores"], 1);
        assert!(["uring", "mio"].contains(&ready["driver"].as_str().unwrap()), "{ready}");
        assert!(ready["addr"].as_str().unwrap().starts_with(&format!("{id}@127.0.0.1:")));
        let shown = run(&home, &["id", "--data", "n1"]);
        assert_eq!(String::from_utf8_lossy(&shown.stdout).trim_end(), id);

        let status = run(&home, &["status", "--data", "n1", "--json"]);
        let status: Value = serde_json::from_slice(&status.stdout).unwrap();
        assert_eq!(status["id"], id);
        assert_eq!(status["addr"], ready["addr"]);
        assert_eq!(status["shards"], 0);
        assert!(status["capacity_bytes"].as_u64().unwrap() >= 64 << 20);
        assert_eq!(run(&home, &["status", "--data", "n1"]).status.code(), Some(0));

        refused(&run(&home, &["node", "--data", "n1"]), 7, "in use by another process");

        node.signal(signal);
        let (code, rest) = node.finish();
        assert_eq!(code, Some(0), "{rest}");
        let last: Value = serde_json::from_str(rest.lines().last().unwrap()).unwrap();
        assert_eq!(last["event"], "stopped");
        refused(&run(&home, &["status", "--data", "n1"]), 8, "no node is running");
        assert!(!home.path().join("n1/control.sock").exists());
    }
}

#[test]
fn a_killed_node_starts_again_at_once_on_its_port_and_is_the_same() {
    let home = tempfile::tempdir().unwrap();
    let mut node = Running::start(&home, "127.0.0.1:0");
    let (addr, port) = (node.ready["addr"].clone(), node.port().to_string());
    node.signal(Signal::KILL);
    node.finish();
    refused(&run(&home, &["status", "--data", "n1"]), 8, "no node is running");
    let node = Running::start(&home, &format!("127.0.0.1:{port}"));
    assert_eq!(node.ready["addr"], addr);
}

#[test]
fn a_port_in_use_is_exit_code_8() {
    let home = tempfile::tempdir().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap().to_string();
    refused(&run(&home, &["node", "--data", "n1", "--p2p-addr", &addr]), 8, &addr);
}

#[test]
fn only_its_owner_can_look_into_a_nodes_directory() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let _node = Running::start(&home, "127.0.0.1:0");
    let mode = |name: &str| {
        fs::symlink_metadata(home.path().join(name)).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode("n1"), 0o700);
    for name in ["n1/identity.key", "n1/control.sock", "n1/lock", "n1/version"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
}

#[test]
fn an_interrupted_put_from_a_stdin_that_never_ends_stops_in_order() {
    let home = tempfile::tempdir().unwrap();
    let node = Running::start(&home, "127.0.0.1:0");
    let addr = node.ready["addr"].as_str().unwrap();
    let put = ["put", "-", "--peer", addr, "--json", "--link-out", "out.link", "--cores", "1"];
    let mut command = pangea(&home, &put);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stdin: ChildStdin = child.stdin.take().unwrap();
    // The first line is progress: the put has begun, and signals are caught.
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert!(line.contains("progress"), "{line}");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    stdout.read_to_string(&mut line).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{line}");
    assert!(line.lines().last().unwrap().contains("\"interrupted\""), "{line}");
    drop(stdin);
    let left = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut left: Vec<_> = left.map(|name| name.into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["data", "n1"]);
}
