//! One node as a process: it says where it serves, answers `status`, keeps its directory to itself,
//! stops in order, and starts again at once after kill -9.

#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
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
        assert_eq!((&status["owners"], &status["other_owners"]), (&json!([]), &json!(0)));
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

/// Runs a command that must succeed; its last line as JSON.
#[track_caller]
fn done(home: &TempDir, arguments: &[&str]) -> Value {
    let output = run(home, &[arguments, &["--json"]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(stdout.lines().last().unwrap()).unwrap()
}

#[test]
fn a_file_comes_back_under_its_own_name_or_another_or_to_stdout() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name);
    let node = Running::start(&home, "127.0.0.1:0");
    let addr = node.ready["addr"].as_str().unwrap();
    let content: Vec<u8> = (0..300_000u32).flat_map(|i| i.wrapping_mul(i).to_le_bytes()).collect();
    fs::write(path("film.mkv"), &content).unwrap();

    let put = done(&home, &["put", "film.mkv", "--peer", addr]);
    assert_eq!(put["bytes"], content.len());
    assert_eq!((&put["k"], &put["m"]), (&1.into(), &0.into()));
    assert_eq!((&put["state"], &put["survives_losses"]), (&"complete".into(), &0.into()));
    assert_eq!(put["holders"], serde_json::json!([node.ready["id"]]));
    assert!(put["seconds"].as_f64().unwrap() > 0.0);
    let link = put["link"].as_str().unwrap();

    let taken = run(&home, &["get", link]);
    refused(&taken, 7, "'film.mkv' exists already");
    fs::remove_file(path("film.mkv")).unwrap();
    let get = done(&home, &["get", link]);
    assert_eq!(get["bytes"], content.len());
    assert_eq!(get["verified"], true);
    assert_eq!(get["blake3"], blake3::hash(&content).to_string());
    assert_eq!(get["bad_holders"], serde_json::json!([]));
    assert_eq!(fs::read(path("film.mkv")).unwrap(), content);

    fs::write(path("old"), b"the old one").unwrap();
    refused(&run(&home, &["get", link, "-o", "old"]), 7, "exists already");
    assert_eq!(fs::read(path("old")).unwrap(), b"the old one");
    done(&home, &["get", link, "-o", "old", "--force"]);
    assert_eq!(fs::read(path("old")).unwrap(), content);

    let streamed = run(&home, &["get", link, "-o", "-"]);
    assert_eq!(streamed.status.code(), Some(0));
    assert!(streamed.stdout == content, "stdout has the object and nothing else");

    let put = ["put", "film.mkv", "--peer", addr, "--anonymous", "--link-out", "film.link"];
    let put = done(&home, &put);
    assert_eq!((&put["link"], &put["link_file"]), (&Value::Null, &"film.link".into()));
    assert_eq!(fs::metadata(path("film.link")).unwrap().permissions().mode() & 0o777, 0o600);
    let stat = done(&home, &["stat", "@film.link"]);
    assert_eq!(stat["losses_left"], 0);
    assert_eq!(stat["bytes"], content.len());
    if cfg!(target_os = "linux") {
        refused(&run(&home, &["get", "@film.link", "-o", "/dev/full"]), 7, "output");
    }
    let hidden = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with('.');
    let left = fs::read_dir(home.path()).unwrap();
    assert!(left.map(|entry| entry.unwrap().file_name()).all(|name| !hidden(&name)));
}

#[test]
fn an_object_without_a_name_of_its_own_is_not_given_one() {
    let home = tempfile::tempdir().unwrap();
    let node = Running::start(&home, "127.0.0.1:0");
    let addr = node.ready["addr"].as_str().unwrap();
    // Stdin is /dev/null here: an object of 0 bytes.
    done(&home, &["put", "-", "--peer", addr, "--link-out", "out.link"]);
    refused(&run(&home, &["get", "@out.link"]), 7, "-o FILE");
    done(&home, &["get", "@out.link", "-o", "out"]);
    assert_eq!(fs::read(home.path().join("out")).unwrap(), b"");
}

#[test]
fn the_demo_brings_the_file_back_and_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let temporary = home.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    fs::write(home.path().join("file"), vec![7; 3_000_000]).unwrap();
    let mut command = pangea(&home, &["demo", "file", "--nodes", "5", "--json"]);
    let output = command.env("TMPDIR", &temporary).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let json: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stdout}");
    assert_eq!(json["ok"], true);
    assert_eq!((&json["nodes"], &json["killed"]), (&5.into(), &2.into()));
    assert_eq!(json["bytes"], 3_000_000);
    assert_eq!(json["blake3_in"], blake3::hash(&vec![7; 3_000_000]).to_string());
    assert_eq!(json["blake3_in"], json["blake3_out"]);
    for key in ["put_seconds", "get_seconds"] {
        assert!(json[key].as_f64().unwrap() > 0.0, "{key}");
    }
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
}

#[test]
fn a_demo_that_loses_one_node_too_many_says_so() {
    let home = tempfile::tempdir().unwrap();
    let temporary = home.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    fs::write(home.path().join("file"), b"content").unwrap();
    let mut command = pangea(&home, &["demo", "file", "--nodes", "5", "--kill", "3"]);
    let output = command.env("TMPDIR", &temporary).output().unwrap();
    refused(&output, 5, "2 of the 3 shards needed");
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
}
