//! No surroundings end a command or a node in silence: whatever is missing, closed, full or too
//! small, each does its work or ends with a code of the table and a sentence.
#![cfg(target_os = "linux")]

mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Network, Process, assert_same, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Codes of README.md's table, without the one that says that we were wrong.
const CODES: [i32; 9] = [0, 2, 3, 4, 5, 6, 7, 8, 9];
const PATIENCE: Duration = Duration::from_secs(30);
const OBJECT_BYTES: u64 = 300_000;

/// What has to come of a put, a get or a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Must {
    /// It does its work.
    Work,
    /// It ends with this code.
    End(i32),
    /// Either, with any code that is in the table.
    Any,
}

use Must::{Any, End, Work};

/// Where a program is started.
struct Surroundings {
    name: &'static str,
    /// What a shell does to get there; `"$@"` is the program.
    shell: String,
    put: Must,
    get: Must,
    node: Must,
}

fn at(name: &'static str, shell: impl Into<String>, must: [Must; 3]) -> Surroundings {
    let [put, get, node] = must;
    Surroundings { name, shell: shell.into(), put, get, node }
}

/// The surroundings, with a network outside of them that puts are stored at.
struct Trial<'a> {
    network: &'a Network,
    here: &'a Surroundings,
}

impl Trial<'_> {
    fn run(&self, arguments: &[&str]) -> Output {
        let dress = ["/bin/sh", "-c", &self.here.shell, "sh"];
        let mut command = self.network.command_through(&dress, arguments);
        command.env_remove("RUST_BACKTRACE").output().expect("a shell starts")
    }

    /// Whether something was done; asserts that it ended as it must.
    #[track_caller]
    fn check(&self, what: &str, must: Must, output: &Output) -> bool {
        let (out, err) = (&output.stdout, String::from_utf8_lossy(&output.stderr));
        let said = format!("{}: {what}: {}: {err}", self.here.name, output.status);
        let code = output.status.code().unwrap_or_else(|| panic!("killed: {said}"));
        assert!(CODES.contains(&code) && !err.contains("panicked"), "{said}");
        match must {
            Work => assert_eq!(code, 0, "{said}"),
            End(wanted) => assert_eq!(code, wanted, "{said}"),
            Any => {}
        }
        let heard = !self.here.shell.contains("2>") && !self.here.shell.contains("2<");
        let sentence = err.contains("error: ") || err.contains("memory");
        assert!(code == 0 || !heard || sentence, "no sentence: {said} {out:?}");
        code == 0
    }

    fn put_and_get(&self, original: &str, link: &str) {
        let peers = self.network.peers();
        let put = self.run(&["put", original, &peers[0], &peers[1], "--anonymous"]);
        if self.check("put", self.here.put, &put) && !self.here.shell.contains('|') {
            assert!(put.stdout.starts_with(b"pangea1"), "{}: the link is lost", self.here.name);
        }
        let copy = self.network.path("copy");
        let _ = fs::remove_file(&copy);
        let get = self.run(&["get", link, "-o", copy.to_str().unwrap()]);
        match self.check("get", self.here.get, &get) {
            true => assert_same(original.as_ref(), &copy),
            false => assert!(!copy.exists(), "{}: half a file", self.here.name),
        }
    }

    fn serve(&self, data: &str, original: &str) {
        let dress = ["/bin/sh", "-c", &self.here.shell, "sh"];
        let mut node = Serving::start(self.network, &dress, data, Stdio::piped());
        let said = node.collect();
        let Some(status) = node.ready() else {
            let ended = Output {
                status: node.process.ended().unwrap(),
                stdout: Vec::new(),
                stderr: said.lock().unwrap().clone(),
            };
            let served = self.check("node", self.here.node, &ended);
            assert!(!served, "{}: a node ended by itself with 0", self.here.name);
            return;
        };
        assert!(matches!(self.here.node, Work | Any), "{}: a node serves", self.here.name);
        let addr = status["addr"].as_str().unwrap();
        let put = self.network.run(&["put", original, "--peer", addr, "--anonymous"]);
        // The usual put is refused in words where the node has no room.
        match (put.code, self.here.node) {
            (Some(0), _) => {
                let copy = self.network.path("copy");
                let _ = fs::remove_file(&copy);
                self.network.get(&put.link(0), &copy).ok();
                assert_same(original.as_ref(), &copy);
            }
            (Some(4), Any) => drop(put.refused(4)),
            _ => panic!("{}: {put}", self.here.name),
        }
        if self.here.node == Work {
            wait_until("it says how it is", PATIENCE, || node.status().is_some());
        }
        let code = node.stop();
        let said = String::from_utf8_lossy(&said.lock().unwrap()).into_owned();
        assert_eq!(
            (code, said.contains("panicked")),
            (Some(0), false),
            "{}: {said}",
            self.here.name
        );
    }
}

/// A node that may have no stdout to be ready on, or no descriptor to be asked through.
struct Serving<'a> {
    network: &'a Network,
    data: String,
    process: Process,
}

impl Serving<'_> {
    fn start<'a>(
        network: &'a Network,
        dress: &[&str],
        data: &str,
        stderr: impl Into<Stdio>,
    ) -> Serving<'a> {
        let data = network.path(data).to_str().unwrap().to_owned();
        let arguments =
            ["node", "-vv", "--data", &data, "--p2p-addr", "127.0.0.1:0", "--capacity", "1GiB"];
        let mut command = network.command_through(dress, &arguments);
        command.args(["--cores", "1"]).env_remove("RUST_BACKTRACE");
        let stdout = File::create(format!("{data}.out")).unwrap();
        let process = Process::spawn(command.stdout(stdout).stderr(stderr));
        Serving { network, data, process }
    }

    /// What it says on stderr, as it comes.
    fn collect(&mut self) -> Arc<Mutex<Vec<u8>>> {
        let said = Arc::new(Mutex::new(Vec::new()));
        let (mut stderr, told) = (self.process.take_stderr(), said.clone());
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = stderr.read(&mut piece) {
                told.lock().unwrap().extend_from_slice(&piece[..read]);
            }
        });
        said
    }

    fn status(&self) -> Option<Value> {
        let arguments = ["status", "--json", "--data", &self.data];
        let output = self.network.command(&arguments).output().unwrap();
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    /// What it says on stdout where it serves.
    fn told(&self) -> Option<Value> {
        let said = fs::read_to_string(format!("{}.out", self.data)).unwrap();
        let (_, addr) = said.lines().next()?.split_once("ready: ")?;
        Some(json!({ "addr": addr }))
    }

    /// Where it serves; `None`: it ended.
    fn ready(&mut self) -> Option<Value> {
        let mut ready = None;
        wait_until("a node serves or ends", PATIENCE, || {
            ready = self.told().or_else(|| self.status());
            ready.is_some() || self.process.ended().is_some()
        });
        ready
    }

    fn stop(&mut self) -> Option<i32> {
        self.process.signal(Signal::TERM);
        wait_until("a node stops", PATIENCE, || self.process.ended().is_some());
        self.process.ended().unwrap().code()
    }
}

/// Tries a put, a get and a node in each of these surroundings.
fn try_all(all: &[Surroundings]) {
    let network = Network::new(1);
    let original = network.random_file("file", OBJECT_BYTES);
    let link = network.put(&original, &[]).link(0);
    let original = original.to_str().unwrap();
    for (number, here) in all.iter().enumerate() {
        let trial = Trial { network: &network, here };
        trial.put_and_get(original, &link);
        trial.serve(&format!("s{number}"), original);
    }
}

#[test]
fn with_few_descriptors_it_works_or_says_so() {
    let limited = |count: u32, must| {
        at("few descriptors", format!("ulimit -n {count}; exec \"$@\""), [must; 3])
    };
    let few = [8, 9, 10, 11, 12, 13, 14, 16].map(|count| limited(count, Any));
    try_all(&few);
    try_all(&[limited(32, Work), limited(64, Work)]);
}

#[test]
fn where_files_may_not_grow_it_is_a_full_disk() {
    let limited =
        |blocks: u32, must| at("small files", format!("ulimit -f {blocks}; exec \"$@\""), must);
    // Of 512 or 1024 bytes, as the shell likes.
    try_all(&[
        limited(0, [Any, End(7), End(7)]),
        limited(1, [Work, End(7), End(7)]),
        limited(25, [Work, End(7), Any]),
        limited(201, [Work, End(7), Any]),
        limited(2000, [Work, Work, Any]),
        limited(1 << 20, [Work, Work, Work]),
    ]);
}

#[test]
fn with_little_memory_it_works_or_says_so() {
    let limited = |kind: &str, mib: u32| {
        at("little memory", format!("ulimit -{kind} {}; exec \"$@\"", mib << 10), [Any; 3])
    };
    let space = [16, 24, 32, 48, 64, 96, 160, 300].map(|mib| limited("v", mib));
    let data = [4, 16, 64].map(|mib| limited("d", mib));
    try_all(&space);
    try_all(&data);
}

#[test]
fn streams_that_are_closed_full_or_gone_stop_nothing_but_a_result() {
    let to = |streams: &str, must| at("streams", format!("exec \"$@\" {streams}"), must);
    let lost = [End(7), Work, Work];
    try_all(&[
        to("<&-", [Work; 3]),
        to("2>&-", [Work; 3]),
        to("<&- 2>&-", [Work; 3]),
        to(">&-", lost),
        to("<&- >&- 2>&-", lost),
        to("2>/dev/full", [Work; 3]),
        to(">/dev/full", lost),
        to(">/dev/full 2>&1", lost),
        // Open, but not to be written.
        to("1</dev/null", lost),
        to("2</dev/null", [Work; 3]),
    ]);
}

#[test]
fn what_is_not_there_is_done_without() {
    try_all(&[
        at("an empty environment", "exec env -i \"$@\"", [Work; 3]),
        at("no home", "unset HOME; exec \"$@\"", [Work; 3]),
        at("a home that is nowhere", "HOME=/proc/no/such exec \"$@\"", [Work; 3]),
        at("no directory", "mkdir -p gone; cd gone; rmdir ../gone; exec \"$@\"", [Work; 3]),
        at("no TMPDIR", "TMPDIR=/no/such exec \"$@\"", [Work; 3]),
        at("an odd locale", "LC_ALL=xx_YY.KOI8 LANG= TERM=nonsense exec \"$@\"", [Work; 3]),
        at("empty variables", "PANGEA_PEERS= PANGEA_ACCEPT= PANGEA_LOG= exec \"$@\"", [Work; 3]),
    ]);
}

#[test]
fn without_proc_it_works_all_the_same() {
    let script = "exec unshare -m /bin/sh -c 'mount -t tmpfs none /proc && exec \"$@\"' sh \"$@\"";
    let may = std::process::Command::new("/bin/sh").args(["-c", script, "sh", "true"]).output();
    if !may.is_ok_and(|ended| ended.status.success()) {
        eprintln!("SKIPPED without_proc_it_works_all_the_same: nothing can be mounted here");
        return;
    }
    try_all(&[at("no /proc", script, [Work; 3])]);
}

#[test]
fn what_is_read_from_a_closed_stdin_is_an_error_and_not_empty() {
    let network = Network::new(1);
    let here = at("no stdin", "exec \"$@\" <&-", [End(7); 3]);
    let trial = Trial { network: &network, here: &here };
    let peers = network.peers();
    for arguments in [&["put", "-", &peers[0], &peers[1]][..], &["get", "-"], &["stat", "-"]] {
        trial.check("stdin", End(7), &trial.run(arguments));
    }
    assert_eq!(network.nodes[0].status()["shards"], 0);
}

#[test]
fn a_put_that_cannot_tell_its_link_stores_nothing_or_says_that_it_is_lost() {
    let network = Network::new(1);
    let original = network.random_file("file", 1000);
    let put = |to: Stdio| {
        let peers = network.peers();
        let arguments = ["put", original.to_str().unwrap(), &peers[0], &peers[1]];
        let output = network.command(&arguments).stdout(to).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, words) = put(File::options().write(true).open("/dev/full").unwrap().into());
    assert!(code == Some(7) && words.contains("its link is lost"), "{code:?} {words}");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let (code, words) = put(writer.into());
    assert!(code == Some(7) && words.contains("its link is lost"), "{code:?} {words}");
    let (code, words) = put(Stdio::null());
    assert_eq!(code, Some(0), "who says /dev/null means it: {words}");
}

#[test]
fn a_node_whose_log_nobody_reads_serves_counts_what_is_lost_and_tells_it_later() {
    let network = Network::new(0);
    let original = network.random_file("file", 3 << 20);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let dress = ["/usr/bin/env", "PANGEA_LOG=trace"];
    let mut node = Serving::start(&network, &dress, "node", writer);
    let status = node.ready().expect("it serves");
    let addr = status["addr"].as_str().unwrap();
    let put = || network.run(&["put", original.to_str().unwrap(), "--peer", addr, "--anonymous"]);
    let lost = || node.status().expect("it answers")["log_lines_lost"].as_u64().unwrap();
    wait_until("lines are lost", PATIENCE, || {
        let _ = put().ok();
        lost() > 0
    });
    // What the pipe and the queue held, then how much is missing.
    let mut said = String::new();
    wait_until("it tells how much was lost", PATIENCE, || {
        let mut piece = vec![0; 1 << 16];
        let read = reader.read(&mut piece).unwrap();
        said.push_str(&String::from_utf8_lossy(&piece[..read]));
        said.contains("could not be written and are lost")
    });
    // And nobody again: it stops all the same.
    let _ = put().ok();
    assert_eq!(node.stop(), Some(0));
    drop(reader);
}

#[test]
fn a_node_whose_log_is_closed_in_the_middle_or_full_serves_on() {
    let network = Network::new(0);
    let original = network.random_file("file", OBJECT_BYTES);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut gone = Serving::start(&network, &["/usr/bin/env"], "gone", writer);
    let mut full = Serving::start(&network, &["/usr/bin/env"], "full", full);
    reader.read_exact(&mut [0; 20]).unwrap();
    drop(reader);
    for node in [&mut gone, &mut full] {
        let status = node.ready().expect("it serves");
        let addr = status["addr"].as_str().unwrap();
        for _ in 0..2 {
            network.run(&["put", original.to_str().unwrap(), "--peer", addr, "--anonymous"]).ok();
        }
        assert!(node.status().unwrap()["log_lines_lost"].as_u64().unwrap() > 0);
        assert_eq!(node.stop(), Some(0));
    }
}

#[test]
fn a_store_without_its_key_is_not_given_another_unless_that_is_said() {
    let mut network = Network::new(1);
    let original = network.random_file("file", OBJECT_BYTES);
    network.put(&original, &[]).ok();
    let node = &mut network.nodes[0];
    node.kill();
    let key = node.data.join("identity.key");
    let bytes = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    let data = node.data.to_str().unwrap().to_owned();
    let arguments = ["node", "--data", &data, "--p2p-addr", "127.0.0.1:0"];
    let words = network.run(&arguments).refused(7);
    for word in ["identity.key is missing", "restore", "--new-identity"] {
        assert!(words.contains(word), "{words}");
    }
    assert!(!key.exists());
    // A key that is there is never replaced, and the copy that was kept is the node that was.
    let mut file = File::create(&key).unwrap();
    file.write_all(&bytes).unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let id = network.nodes[0].id.clone();
    network.nodes[0].restart(1).unwrap();
    assert_eq!(network.nodes[0].id, id);
}

#[test]
fn a_directory_that_others_may_write_and_links_in_it_are_refused_by_the_program() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let network = Network::new(0);
    let (data, victim) = (network.path("data"), network.path("victim"));
    fs::create_dir(&data).unwrap();
    fs::write(&victim, "years of work").unwrap();
    let arguments = ["node", "--data", data.to_str().unwrap(), "--p2p-addr", "127.0.0.1:0"];
    symlink(&victim, data.join("lock")).unwrap();
    let words = network.run(&arguments).refused(7);
    assert!(words.contains("symbolic link") && words.contains("lock"), "{words}");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "years of work");
    fs::remove_file(data.join("lock")).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o777)).unwrap();
    let words = network.run(&arguments).refused(7);
    assert!(words.contains("chmod go-w"), "{words}");
    assert_eq!(fs::read_dir(&data).unwrap().count(), 0);
}
