//! The flight recorder, with real processes: one put is one trace on the client and on every node,
//! whoever watches disturbs nobody, and nothing of a trace leaves a machine that was not told to.

#![cfg(feature = "trace")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use common::{Network, Process, Ran, assert_same, wait_until};
use rustix::process::Signal;
use serde_json::Value;

const CONTEXT: [&str; 2] = ["--trace-context", "any"];
const PATIENCE: Duration = Duration::from_secs(30);

/// `pangea trace …`, with `--data` for every node.
fn trace(network: &Network, verb: &str, more: &[&str]) -> Ran {
    let mut arguments = vec!["trace", verb];
    for node in &network.nodes {
        arguments.extend(["--data", text(&node.data)]);
    }
    arguments.extend(more);
    network.run(&arguments)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a name")
}

/// The events that `show --json` wrote.
fn events(ran: &Ran) -> Vec<Value> {
    ran.ok();
    let lines = String::from_utf8_lossy(&ran.stdout).into_owned();
    let all = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    all.filter(|line| line["event"] == "recorded").collect()
}

fn shown(network: &Network, arguments: &[&str]) -> Vec<Value> {
    events(&network.run(&[&["trace", "show"], arguments].concat()))
}

/// Distinct values of a key.
fn distinct(events: &[Value], key: &str) -> BTreeSet<String> {
    events.iter().filter_map(|event| event[key].as_str().map(str::to_owned)).collect()
}

/// The number of the trace that a command's own recording begins with.
fn trace_of(network: &Network, recording: &Path, what: &str) -> String {
    let spans = shown(network, &[text(recording), "--kind", "SpanBegin"]);
    let root = spans.iter().find(|span| span["fields"]["what"] == what).expect("a root span");
    root["trace"].as_str().expect("it has a trace").to_owned()
}

#[test]
fn a_put_is_one_trace_on_the_client_and_on_every_node() {
    let network = Network::with(4, &CONTEXT);
    let (file, copy) = (network.random_file("film", 3 << 20), network.path("copy"));
    let [put_trace, get_trace] = ["put.trace", "get.trace"].map(|name| network.path(name));
    let options = |to| [&CONTEXT[..], &["--trace-out", to]].concat();
    let put = network.put(&file, &options(text(&put_trace)));
    let link = put.link(0);
    let mut get = vec!["get", &link, "-o", text(&copy)];
    get.extend(options(text(&get_trace)));
    network.run(&get).ok();
    assert_same(&file, &copy);

    let id = trace_of(&network, &put_trace, "put");
    let all = events(&trace(&network, "show", &[text(&put_trace), "--trace", &id]));
    assert!(all.iter().all(|event| event["trace"] == id.as_str()));
    let nodes = distinct(&all, "node_id");
    assert_eq!(nodes.len(), 5, "the client and all four nodes: {nodes:?}");
    for node in &network.nodes {
        let own: Vec<&Value> = all.iter().filter(|event| event["node_id"] == *node.id).collect();
        let flagged = |event: &&Value| event["flags"].to_string().contains("remote");
        assert!(own.iter().all(flagged), "a name that came from a peer is marked");
        let stored = own.iter().any(|event| event["kind"] == "ShardStored");
        assert!(stored, "{} stored a shard of it", node.name);
    }
    // The first digits suffice, and another trace has none of it.
    let short = events(&trace(&network, "show", &[text(&put_trace), "--trace", &id[..8]]));
    assert_eq!(short.len(), all.len());
    let got = trace_of(&network, &get_trace, "get");
    assert_ne!(got, id);
    let of_get = events(&trace(&network, "show", &["--trace", &got]));
    assert!(distinct(&of_get, "node_id").len() >= 2, "k holders at least served it");

    filters_choose(&network, &put_trace);
    exports_parse(&network, &[&put_trace, &get_trace]);
    a_record_is_a_copy(&network);
}

fn filters_choose(network: &Network, recording: &Path) {
    let file = text(recording);
    let coded = shown(network, &[file, "--kind", "stripecoded"]);
    assert!(!coded.is_empty() && coded.iter().all(|event| event["kind"] == "StripeCoded"));
    let classes = shown(network, &[file, "--kind", "codec", "--kind", "conn"]);
    assert_eq!(distinct(&classes, "class"), ["codec", "conn"].map(str::to_owned).into());
    let peer = network.nodes[1].id.as_str();
    let about = shown(network, &[file, "--peer", peer]);
    assert!(!about.is_empty() && about.iter().all(|event| event["peer"] == peer));
    let all = shown(network, &[file]);
    let last = shown(network, &[file, "--last", "3"]);
    assert_eq!(last[..], all[all.len() - 3..]);
    assert!(shown(network, &[file, "--until", "1h"]).is_empty());
    assert_eq!(shown(network, &[file, "--since", "1h"]).len(), all.len());
    let times: Vec<u64> = all.iter().filter_map(|event| event["nanos"].as_u64()).collect();
    assert!(times.is_sorted() && times.len() == all.len());
    let middle = times[times.len() / 2];
    let since = format!("{}.{:09}", middle / 1_000_000_000, middle % 1_000_000_000);
    let later = shown(network, &[file, "--since", &since]);
    assert!(!later.is_empty() && later.len() < all.len());
    // For people.
    let output = network.command(&["trace", "show", file, "--kind", "span"]).output().unwrap();
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(lines.contains("put 0 begins") && lines.contains("(UTC)"), "{lines}");
}

fn exports_parse(network: &Network, recordings: &[&Path]) {
    let files: Vec<&str> = recordings.iter().map(|path| text(path)).collect();
    for format in ["chrome", "json", "qlog", "otlp"] {
        let to = network.path(&format!("all.{format}"));
        let more = [&files[..], &["--format", format, "-o", text(&to)]].concat();
        let result = trace(network, "export", &more).ok();
        assert_eq!(result["nodes"], 6, "{result}");
        assert_eq!(result["bytes"].as_u64(), std::fs::metadata(&to).ok().map(|file| file.len()));
        let written = std::fs::read_to_string(&to).expect("it was written");
        let values = parsed(&written);
        assert!(!values.is_empty(), "{format}");
        match format {
            "chrome" => flows_cross_processes(&values[0]),
            "otlp" => assert!(values[0]["resourceSpans"].is_array()),
            _ => {}
        }
    }
    // To stdout, with nothing else there.
    let output = network.command(&["trace", "export", files[0]]).output().unwrap();
    assert!(output.status.success());
    assert_eq!(parsed(&String::from_utf8_lossy(&output.stdout)).len(), 1);
    let taken = trace(network, "export", &[files[0], "-o", text(&network.path("all.json"))]);
    assert!(taken.refused(7).contains("--force"));
}

/// One JSON value, or several: one a line, each perhaps behind a record separator (qlog).
fn parsed(text: &str) -> Vec<Value> {
    if let Ok(value) = serde_json::from_str(text) {
        return vec![value];
    }
    let lines = text.lines().map(|line| line.trim_start_matches('\u{1e}'));
    let lines = lines.filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn flows_cross_processes(chrome: &Value) {
    let events = chrome["traceEvents"].as_array().or(chrome.as_array()).expect("trace events");
    let processes: BTreeSet<String> = events.iter().map(|event| event["pid"].to_string()).collect();
    assert!(processes.len() >= 5, "{processes:?}");
    let mut flows: BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> = BTreeMap::new();
    for event in events {
        let (id, pid) = (event["id"].to_string(), event["pid"].to_string());
        match event["ph"].as_str() {
            Some("s") => drop(flows.entry(id).or_default().0.insert(pid)),
            Some("f") => drop(flows.entry(id).or_default().1.insert(pid)),
            _ => {}
        }
    }
    let crossing = flows
        .values()
        .filter(|(from, to)| !from.is_empty() && to.iter().any(|pid| !from.contains(pid)));
    assert!(crossing.count() >= 4, "arrows from the client to all nodes");
}

fn a_record_is_a_copy(network: &Network) {
    let to = network.path("kept.trace");
    let result = trace(network, "record", &["-o", text(&to), "--for", "0"]).ok();
    let kept = shown(network, &[text(&to)]);
    assert!(!kept.is_empty());
    assert!(result["events"].as_u64().is_some_and(|events| events >= kept.len() as u64));
    assert_eq!(distinct(&kept, "node_id").len(), 4);
    let taken = trace(network, "record", &["-o", text(&to), "--for", "0"]);
    assert!(taken.refused(7).contains("--force"));
}

/// A command under way whose stdout is read.
struct Watching {
    process: Process,
    lines: BufReader<std::process::ChildStdout>,
}

impl Watching {
    fn start(network: &Network, arguments: &[&str]) -> Watching {
        let mut command = network.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Process::spawn(&mut command);
        let lines = BufReader::new(process.take_stdout());
        Watching { process, lines }
    }

    fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).expect("a pipe can be read");
        (read > 0).then(|| serde_json::from_str(&line).expect("JSON"))
    }

    /// Reads until an event of this kind comes.
    fn until(&mut self, kind: &str) -> Value {
        loop {
            let line = self.line().unwrap_or_else(|| panic!("it ended before a {kind}"));
            if line["kind"] == kind {
                return line;
            }
        }
    }

    fn end(mut self) -> (Option<i32>, Value) {
        self.process.signal(Signal::INT);
        let mut last = Value::Null;
        while let Some(line) = self.line() {
            last = line;
        }
        let mut code = None;
        wait_until("the command ends", PATIENCE, || {
            code = self.process.ended();
            code.is_some()
        });
        (code.and_then(|status| status.code()), last)
    }
}

/// A connection to a node's socket, and the request on it.
fn ask(data: &Path, request: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(data.join("trace.sock")).expect("the node listens");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.write_all(request);
    stream
}

fn answer(data: &Path, request: &[u8]) -> String {
    let mut answer = Vec::new();
    let _ = ask(data, request).read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

const KEPT: &[u8] = b"{\"command\":\"trace\"}\n";
const FOLLOW: &[u8] = b"{\"command\":\"trace\",\"follow\":true}\n";

#[test]
fn who_follows_sees_a_put_live_and_disturbs_nobody() {
    let network = Network::new(2);
    let data = network.nodes[0].data.clone();
    let node = text(&data).to_owned();
    let file = network.random_file("film", 1 << 20);
    let mut follower = Watching::start(&network, &["trace", "follow", "--data", &node, "--json"]);
    let mut killed = Watching::start(&network, &["trace", "follow", "--data", &node, "--json"]);
    let recorded = network.path("live.trace");
    let recorder = network.begin(
        &["trace", "record", "--data", &node, "-o", text(&recorded), "--new"],
        Stdio::null(),
    );
    // With these three, one of ours that never reads more than its first byte.
    for watching in [&mut follower, &mut killed] {
        assert_eq!(watching.line().expect("it begins")["event"], "node");
    }
    let unfinished = |bytes: u64| {
        std::fs::read_dir(network.home()).unwrap().flatten().any(|entry| {
            entry.file_name().to_string_lossy().contains("unfinished")
                && entry.metadata().is_ok_and(|file| file.len() >= bytes)
        })
    };
    wait_until("the recorder has begun", PATIENCE, || unfinished(128));
    let mut silent = ask(&data, FOLLOW);
    silent.read_exact(&mut [0]).expect("a header");
    assert!(answer(&data, KEPT).contains("\"busy\""));
    let ran = network.run(&["trace", "show", "--data", &node]);
    assert!(ran.refused(8).contains("others watch"), "{ran}");

    network.put(&file, &[]).link(0);
    follower.until("ConnEstablished");
    follower.until("ShardStored");
    killed.until("ConnEstablished");
    killed.process.kill();
    network.put(&file, &[]).link(0);
    follower.until("ShardStored");
    let (code, last) = follower.end();
    assert_eq!(code, Some(0));
    assert!(last["events"].as_u64().is_some_and(|events| events > 0), "{last}");
    wait_until("the recording has a put in it", PATIENCE, || unfinished(8192));
    assert!(!recorded.exists(), "it gets its name when it is whole");
    recorder.process.signal(Signal::INT);
    let result = recorder.end().ok();
    assert_eq!(result["lost"], 0, "{result}");
    let kinds = distinct(&shown(&network, &[text(&recorded)]), "kind");
    assert!(kinds.contains("ConnEstablished") && kinds.contains("ShardStored"), "{kinds:?}");
    drop(silent);
    wait_until("the places are given back", PATIENCE, || !answer(&data, KEPT).contains("\"busy\""));
    nonsense_is_refused(&data);
    classes_are_switched(&network, &node);
    network.put(&file, &[]).link(0);
}

fn nonsense_is_refused(data: &Path) {
    for request in [
        &b"hello\n"[..],
        b"{\"command\":\"dance\"}\n",
        b"{\"command\":\"record\",\"classes\":[\"everything\"]}\n",
        b"{\"command\":\"trace\",\"follow\":1}\n",
    ] {
        let said = answer(data, request);
        assert!(said.contains("\"usage\""), "{said}");
    }
    assert_eq!(answer(data, &[b'x'; 4096]), "");
    assert_eq!(answer(data, b"\xff\xff\n"), "");
}

fn classes_are_switched(network: &Network, node: &str) {
    let only = |classes: &str| network.run(&["trace", "record", "--data", node, "--only", classes]);
    assert_eq!(only("conn").ok()["recorded"], serde_json::json!(["conn"]));
    let before = shown(network, &["--data", node, "--kind", "packet"]).len();
    network.put(&network.random_file("other", 1 << 20), &[]).link(0);
    let after = shown(network, &["--data", node, "--kind", "packet"]).len();
    assert!(after <= before, "nothing of the class was recorded: {before} then {after}");
    only("all").ok();
    network.put(&network.random_file("third", 1 << 20), &[]).link(0);
    assert!(shown(network, &["--data", node, "--kind", "packet"]).len() > after);
    assert!(only("sparks").refused(2).contains("codec"));
}

#[test]
fn nothing_of_a_trace_crosses_unless_both_sides_are_told_to() {
    let mut network = Network::new(0);
    network.add(1, &CONTEXT);
    network.add(1, &[]);
    let file = network.random_file("film", 1 << 20);
    // The client is told to: only the node that is told to takes its trace over.
    let recording = network.path("any.trace");
    let told = [&CONTEXT[..], &["--trace-out", text(&recording)]].concat();
    network.put(&file, &told).link(0);
    let id = trace_of(&network, &recording, "put");
    let seen = |node: usize, id: &str| {
        shown(&network, &["--data", text(&network.nodes[node].data), "--trace", id]).len()
    };
    assert!(seen(0, &id) > 0);
    assert_eq!(seen(1, &id), 0);
    // The client is not told to: neither does.
    let recording = network.path("off.trace");
    let link = network.put(&file, &["--trace-out", text(&recording)]).link(0);
    let id = trace_of(&network, &recording, "put");
    assert_eq!((seen(0, &id), seen(1, &id)), (0, 0));
    let remote =
        |events: &[Value]| events.iter().any(|event| event["flags"].to_string().contains("remote"));
    let second = shown(&network, &["--data", text(&network.nodes[1].data)]);
    assert!(!second.is_empty() && !remote(&second));
    let copy = network.path("copy");
    network.get(&link, &copy).ok();
    assert_same(&file, &copy);
}

#[test]
fn what_is_no_trace_is_told_from_one_that_is_cut_off() {
    let network = Network::new(1);
    let file = network.random_file("film", 100_000);
    let recording = network.path("put.trace");
    network.put(&file, &["--trace-out", text(&recording)]).link(0);
    assert!(trace_of(&network, &recording, "put").len() == 32);

    let none = network.run(&["trace", "show", "--data", "nowhere"]);
    assert!(none.refused(8).contains("no node that records is running"), "{none}");
    let other = network.run(&["trace", "show", text(&file)]);
    assert!(other.refused(7).contains("not a trace file"), "{other}");
    let missing = network.run(&["trace", "export", "missing.trace"]);
    assert!(missing.code == Some(7) && missing.stderr.contains("missing.trace"), "{missing}");
    let unknown = network.run(&["trace", "show", "--kind", "sparks"]);
    assert!(unknown.refused(2).contains("StripeCoded"), "{unknown}");
    for wrong in [["--trace", "xyz"], ["--since", "yesterday"], ["--peer", "me"]] {
        assert_eq!(network.run(&[&["trace", "show"], &wrong[..]].concat()).code, Some(2));
    }

    let whole = std::fs::read(&recording).unwrap();
    let cut = network.path("cut.trace");
    std::fs::write(&cut, &whole[..whole.len() - 100]).unwrap();
    let ran = network.run(&["trace", "show", text(&cut)]);
    assert!(ran.stderr.contains("unfinished"), "{ran}");
    assert_eq!(events(&ran).len(), whole.len() / 128 - 2);

    // A put that fails leaves its recording too; and no film is taken for an old one.
    let nobody = format!("{}@127.0.0.1:9", network.nodes[0].id);
    let failed = network.path("failed.trace");
    let arguments = ["put", text(&file), "--peer", &nobody, "--trace-out", text(&failed)];
    assert_eq!(network.run(&arguments).code, Some(4));
    let spans = shown(&network, &[text(&failed), "--kind", "SpanEnd"]);
    assert!(spans.iter().any(|span| span["flags"].to_string().contains("error")), "{spans:?}");
    let film = network.put(&file, &["--trace-out", text(&file)]);
    assert!(film.refused(7).contains("no recording"), "{film}");
}

#[test]
fn a_demo_leaves_one_recording_of_everybody() {
    let network = Network::new(0);
    let (file, to) = (network.random_file("film", 1 << 20), network.path("demo.trace"));
    network
        .run(&["demo", text(&file), "--nodes", "3", "--kill", "1", "--trace-out", text(&to)])
        .ok();
    let all = network.run(&["trace", "show", text(&to)]);
    assert_eq!(
        all.ok()["nodes"],
        serde_json::json!(["node-01", "node-02", "node-03", "put", "get"]),
        "{}",
        all.ok()
    );
    let ends = shown(&network, &[text(&to), "--kind", "SpanEnd"]);
    let ended: BTreeSet<&str> =
        ends.iter().filter_map(|span| span["fields"]["what"].as_str()).collect();
    assert!(ended.contains("put") && ended.contains("get"), "{ended:?}");
}
