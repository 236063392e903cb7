//! Real nodes, each a process with its own directory and port: a file goes in and comes back,
//! whatever is lost.
//!
//! The full size of the promise, 1 GiB of random and 1 GiB of text at 14 nodes, on each driver:
//!
//! ```text
//! PANGEA_TEST_MIB=1024 PANGEA_TEST_DRIVER=uring cargo test --release --test network fourteen
//! PANGEA_TEST_MIB=1024 PANGEA_TEST_DRIVER=mio   cargo test --release --test network fourteen
//! ```
#![cfg(unix)]

mod common;

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{
    NOBODY, Network, Process, as_nobody, assert_nothing_left, assert_same, object_bytes,
    random_bytes, wait_until,
};

/// Puts `original` at 14 nodes, loses any four, then one more.
fn put_lose_four_get_lose_one_more(network: &mut Network, original: &Path, dying: [usize; 5]) {
    let put = network.put(original, &[]);
    let result = put.ok();
    assert_eq!(result["state"], "complete", "{put}");
    assert_eq!((&result["k"], &result["m"]), (&10.into(), &4.into()), "{put}");
    assert_eq!(result["survives_losses"], 4, "{put}");
    assert_eq!(result["holders"].as_array().unwrap().len(), 14, "{put}");
    let link = put.link(0);
    assert_eq!(network.run(&["stat", &link]).ok()["losses_left"], 4);

    let [first_four @ .., fifth] = dying;
    for at in first_four {
        network.nodes[at].kill();
    }
    let stat = network.run(&["stat", &link]);
    assert_eq!(stat.ok()["losses_left"], 0, "{stat}");
    let gone: Vec<_> = first_four.map(|at| network.nodes[at].id.clone()).into();
    for holder in stat.ok()["holders"].as_array().unwrap() {
        let peer = holder["peer"].as_str().unwrap().to_string();
        assert_eq!(gone.contains(&peer), !holder["trouble"].is_null(), "{holder}");
    }

    let copy = network.path("copy");
    let get = network.get(&link, &copy);
    let result = get.ok();
    assert_eq!(result["verified"], true, "{get}");
    assert_eq!(result["bad_holders"].as_array().unwrap().len(), 0, "{get}");
    assert_eq!(result["blake3"], common::hash_of(original), "{get}");
    assert_same(original, &copy);
    eprintln!("put {:?}, get without four {:?}", put.took, get.took);

    network.nodes[fifth].kill();
    let empty = network.path("empty");
    fs::create_dir_all(&empty).unwrap();
    let get = network.get(&link, &empty.join("copy"));
    let words = get.refused(5);
    assert!(words.contains("9 of the 10 shards needed"), "{words}");
    for at in dying {
        assert!(words.contains(&network.nodes[at].id), "who is missing is not named: {words}");
    }
    assert_nothing_left(&empty);
    let stat = network.run(&["stat", &link]);
    assert_eq!(stat.ended(5)["losses_left"], -1, "{stat}");
}

#[test]
fn any_four_of_fourteen_holders_may_die_and_a_random_file_comes_back() {
    let mut network = Network::new(14);
    let original = network.random_file("random", object_bytes());
    // The first ones are also those that the link names.
    put_lose_four_get_lose_one_more(&mut network, &original, [0, 1, 2, 3, 13]);
}

#[test]
fn any_four_of_fourteen_holders_may_die_and_a_text_comes_back() {
    let mut network = Network::new(14);
    let original = network.text_file("text", object_bytes());
    put_lose_four_get_lose_one_more(&mut network, &original, [13, 0, 6, 9, 3]);
}

/// The link names five of the fourteen. Without them it needs to be told of one other.
#[test]
fn a_link_whose_holders_are_all_gone_says_so_and_one_peer_is_enough() {
    let mut network = Network::new(14);
    let original = network.random_file("file", 2 << 20);
    let put = network.put(&original, &["-k", "5", "-m", "9"]);
    let link: pangea_wire::Link = put.link(0).parse().unwrap();
    let hints: Vec<String> = link.hints().iter().map(|hint| hint.peer.to_string()).collect();
    for node in &mut network.nodes {
        if hints.contains(&node.id) {
            node.kill();
        }
    }
    let out = network.path("out");
    fs::create_dir(&out).unwrap();
    let output = out.join("copy");
    let words = network.get(&put.link(0), &output).refused(5);
    assert!(hints.iter().all(|hint| words.contains(hint)), "{words}");
    assert_nothing_left(&out);
    let alive = network.nodes.iter().find(|node| !hints.contains(&node.id)).unwrap();
    let to = output.to_str().unwrap();
    network.run(&["get", &put.link(0), "-o", to, "--peer", &alive.addr]).ok();
    assert_same(&original, &output);
}

#[test]
fn one_node_stores_and_the_user_is_told_that_it_is_the_only_copy() {
    let network = Network::new(1);
    let original = network.random_file("file", 3 << 20);
    let put = network.put(&original, &[]);
    let result = put.ok();
    assert_eq!((&result["k"], &result["m"]), (&1.into(), &0.into()), "{put}");
    assert_eq!(result["survives_losses"], 0, "{put}");
    let words = put.stderr.to_lowercase();
    assert!(words.contains("warning") && words.contains("no loss"), "one copy, no warning: {put}");
    let copy = network.path("copy");
    network.get(&put.link(0), &copy).ok();
    assert_same(&original, &copy);
}

#[test]
fn two_nodes_survive_the_loss_of_one() {
    survives_one_loss(2);
}

#[test]
fn three_nodes_survive_the_loss_of_one() {
    survives_one_loss(3);
}

fn survives_one_loss(nodes: usize) {
    for dying in 0..nodes {
        let mut network = Network::new(nodes);
        let original = network.random_file("file", 3 << 20);
        let put = network.put(&original, &[]);
        assert!(put.ok()["survives_losses"].as_u64().unwrap() >= 1, "{put}");
        assert_eq!(put.ok()["state"], "complete", "{put}");
        network.nodes[dying].kill();
        let copy = network.path("copy");
        network.get(&put.link(0), &copy).ok();
        assert_same(&original, &copy);
    }
}

/// Each unit of the format, and one byte less and more.
fn sizes() -> Vec<usize> {
    let units = [64, 16 << 10, 128 << 10, 160 << 10, 1 << 20, 4 << 20];
    let around = units.iter().flat_map(|unit| [unit - 1, *unit, unit + 1]);
    [0, 1].into_iter().chain(around).collect()
}

#[test]
fn a_stream_of_any_length_goes_in_by_stdin_and_comes_out_by_stdout() {
    let network = Network::new(4);
    for bytes in sizes() {
        let content = random_bytes(&format!("stream {bytes}"), bytes);
        let source = network.path("source");
        fs::write(&source, &content).unwrap();
        // A pipe and not the file, whose length could be found out.
        let cat = Command::new("cat").arg(&source).stdout(Stdio::piped()).spawn();
        let mut cat = cat.expect("cat starts");
        let peers = network.peers();
        let mut arguments = vec!["put", "-"];
        arguments.extend(peers.iter().map(String::as_str));
        let put = network.begin(&arguments, cat.stdout.take().unwrap().into()).end();
        cat.wait().unwrap();
        network.remember(&put);
        assert_eq!(put.ok()["bytes"], bytes, "{put}");
        let got = network.run(&["get", &put.link(0), "-o", "-"]);
        assert_eq!(got.code, Some(0), "{bytes} bytes: {}", got.stderr);
        assert!(got.stdout == content, "{bytes} bytes came back as {} others", got.stdout.len());
    }
}

#[test]
fn a_file_of_any_length_comes_back_under_its_own_name() {
    let network = Network::new(3);
    for bytes in sizes() {
        let name = format!("file of {bytes}.bin");
        let original = network.random_file(&name, bytes as u64);
        let put = network.put(&original, &[]);
        assert_eq!(put.ok()["bytes"], bytes, "{put}");
        let kept = network.path("original");
        fs::rename(&original, &kept).unwrap();
        // By a file that holds the link, into the working directory, by the object's own name.
        fs::write(network.path("the.link"), put.link(0)).unwrap();
        network.run(&["get", "@the.link"]).ok();
        assert_same(&kept, &original);
        fs::remove_file(&original).unwrap();
    }
}

#[test]
fn all_holders_killed_at_once_and_started_again_have_lost_nothing() {
    let mut network = Network::new(14);
    let original = network.random_file("file", object_bytes() / 3);
    let text = network.text_file("text", object_bytes() / 3);
    let links = [&original, &text].map(|file| network.put(file, &[]).link(0));
    network.nodes.iter_mut().for_each(common::Node::kill);
    let addrs: Vec<String> = network.nodes.iter().map(|node| node.addr.clone()).collect();
    for node in &mut network.nodes {
        // At once, on the same port and directory.
        node.restart(1).unwrap_or_else(|why| panic!("{why}"));
    }
    let again: Vec<String> = network.nodes.iter().map(|node| node.addr.clone()).collect();
    assert_eq!(addrs, again, "the same identities at the same ports");
    for (link, original) in links.iter().zip([&original, &text]) {
        let stat = network.run(&["stat", link]);
        assert_eq!(stat.ok()["losses_left"], 4, "{stat}");
        let copy = network.path("copy");
        network.run(&["get", link, "-o", copy.to_str().unwrap(), "--force"]).ok();
        assert_same(original, &copy);
    }
}

#[test]
fn another_number_of_cores_keeps_all_data() {
    let mut network = Network::new(2);
    let mut objects = Vec::new();
    for cores in [1, 2, 1, 3, 2] {
        for node in &mut network.nodes {
            node.kill();
            node.restart(cores).unwrap_or_else(|why| panic!("{why}"));
        }
        let original = network.random_file(&format!("file {}", objects.len()), 5 << 20);
        objects.push((network.put(&original, &["-k", "2", "-m", "0"]).link(0), original));
        for (link, original) in &objects {
            let copy = network.path("copy");
            network.run(&["get", link, "-o", copy.to_str().unwrap(), "--force"]).ok();
            assert_same(original, &copy);
        }
    }
}

#[test]
fn an_idle_node_is_small_before_and_after_load() {
    const MIB_MAX: f64 = 64.0;
    let mut network = Network::new(1);
    // The first of a network has two cores; this one has one, as the promise is made for.
    network.add(1, &[]);
    let original = network.random_file("file", object_bytes());
    let fresh = network.nodes[1].resident_mib();
    let put = network.put(&original, &["-k", "1", "-m", "1"]);
    put.ok();
    for _ in 0..2 {
        let output = network.path("copy");
        network.run(&["get", &put.link(0), "-o", output.to_str().unwrap(), "--force"]).ok();
    }
    let loaded = network.nodes[1].resident_mib();
    // Memory is given back after two seconds with nothing to do.
    std::thread::sleep(Duration::from_secs(2));
    let before = network.nodes[1].cpu_ticks();
    std::thread::sleep(Duration::from_secs(3));
    let ticks = network.nodes[1].cpu_ticks() - before;
    let idle = network.nodes[1].resident_mib();
    let ready = network.nodes[1].start_to_ready;
    eprintln!(
        "a node of one core: ready after {ready:?}; {fresh:.1} MiB fresh, {loaded:.1} MiB after \
         {} MiB each way, {idle:.1} MiB when idle for 5 s, {ticks} ticks of CPU in the last 3",
        object_bytes() >> 20
    );
    assert!(fresh <= MIB_MAX, "{fresh} MiB");
    assert!(idle <= MIB_MAX, "{idle} MiB");
}

/// As root the node becomes nobody; without prlimit it keeps the limit that it has.
#[test]
fn an_unprivileged_user_with_little_locked_memory_runs_a_node() {
    use std::os::unix::fs::PermissionsExt;
    let network = Network::new(1);
    let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    open(network.home());
    // The build directory may be closed to nobody.
    let program = network.path("pangea");
    fs::copy(env!("CARGO_BIN_EXE_pangea"), &program).unwrap();
    open(&program);
    let home = network.path("nobody");
    fs::create_dir(&home).unwrap();
    let mut command = match Command::new("prlimit").arg("--version").output() {
        Ok(_) => {
            let mut command = Command::new("prlimit");
            command.arg("--memlock=8388608:8388608").arg(&program);
            command
        }
        Err(_) => {
            eprintln!("SKIPPED the 8 MiB of locked memory: there is no prlimit");
            Command::new(&program)
        }
    };
    if as_nobody(&mut command) {
        std::os::unix::fs::chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let log = network.path("nobody.log");
    let ready = network.path("nobody.out");
    command
        .args(["node", "--json", "-v", "--cores", "2", "--p2p-addr", "127.0.0.1:0"])
        .args(["--capacity", "10GiB", "--data", "data"])
        .current_dir(&home)
        .env_clear()
        .env("HOME", &home)
        .envs(std::env::var("PANGEA_TEST_DRIVER").map(|driver| ("PANGEA_DRIVER", driver)))
        .envs(std::env::var("PANGEA_TEST_STEER").map(|steer| ("PANGEA_STEER", steer)))
        .stdin(Stdio::null())
        .stdout(File::create(&ready).unwrap())
        .stderr(File::create(&log).unwrap());
    let mut process = Process::spawn(&mut command);
    wait_until("the ready line of nobody's node", Duration::from_secs(30), || {
        let words = || fs::read_to_string(&log).unwrap();
        assert!(process.ended().is_none(), "it ended: {}", words());
        fs::read_to_string(&ready).unwrap().ends_with('\n')
    });
    let line = fs::read_to_string(&ready).unwrap();
    let ready: serde_json::Value = serde_json::from_str(line.trim()).unwrap();
    eprintln!("nobody's node: {line}");
    if let Ok(driver) = std::env::var("PANGEA_TEST_DRIVER")
        && driver != "auto"
    {
        assert_eq!(ready["driver"], driver, "{line}");
    }
    let original = network.random_file("file", 8 << 20);
    let peer = ready["addr"].as_str().unwrap();
    let put = network.run(&["put", original.to_str().unwrap(), "--peer", peer]);
    let copy = network.path("copy");
    network.get(&put.link(0), &copy).ok();
    assert_same(&original, &copy);
}
