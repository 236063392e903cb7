//! What was acknowledged stays, with real processes: whatever the clocks show, from whichever
//! version a directory is, on however many cores, and however often a put was broken off before.
//!
//! Some need a C compiler or root; where that is missing they say "skipped: ..." and why.
#![cfg(target_os = "linux")]

mod common;
#[path = "common/hard.rs"]
mod hard;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{Network, Ran, assert_same, copy_directory, files_below, wait_until};
use hard::{Clock, skipped};
use rustix::process::Signal;

const DAY: i64 = 86_400;
/// Longer than a node waits between two looks at what is over (`EXPIRE_EVERY`).
const A_LOOK: Duration = Duration::from_secs(11);

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[track_caller]
fn assert_there(network: &Network, link: &str, original: &Path) -> Ran {
    let copy = network.path("copy");
    let peers = network.peers();
    let mut arguments = vec!["get", link, "-o", copy.to_str().unwrap(), "--force"];
    arguments.extend(peers.iter().map(String::as_str));
    let got = network.run(&arguments);
    got.ok();
    assert_same(original, &copy);
    got
}

#[test]
fn a_lease_is_a_length_whatever_the_clock_of_who_puts_shows() {
    let test = "a_lease_is_a_length_whatever_the_clock_of_who_puts_shows";
    let mut network = Network::new(2);
    let clock = match Clock::new(&network) {
        Ok(clock) => clock,
        Err(why) => return skipped(test, &why),
    };
    let original = network.random_file("file", 300_000);
    let mut stored = Vec::new();
    // 40 days behind, 1970, 2107.
    for seconds in [-40 * DAY, 60 - now() as i64, 81 * 365 * DAY] {
        clock.set(seconds);
        network.dress = clock.dress.clone();
        let put = network.put(&original, &["--lease", "30d"]);
        let told = put.ok();
        let clocks = told["clocks"].as_array().expect("clocks that differ are told");
        assert_eq!(clocks.len(), 2, "{put}");
        // The holders are ahead of who puts by as much as it is behind.
        let ahead = clocks[0]["seconds"].as_i64().unwrap();
        assert!((ahead + seconds).abs() < 60, "{ahead} s for {seconds} s: {put}");
        assert!(put.stderr.contains("its clock is"), "{put}");
        let got = assert_there(&network, &put.link(0), &original);
        assert!(got.last().unwrap()["lease_until"].as_u64().is_some(), "{got}");
        stored.push(put.link(0));
    }
    network.dress.clear();
    std::thread::sleep(A_LOOK);
    for link in &stored {
        assert_there(&network, link, &original);
        let stat = network.run(&["stat", link]);
        let told = stat.ok();
        assert_eq!(told["losses_left"], 1, "{stat}");
        // By the clock of whoever asks: 30 days from now.
        let left = told["lease_until"].as_u64().unwrap().abs_diff(now() + 30 * DAY as u64);
        assert!(left < 600, "{stat}");
    }
}

#[test]
fn a_node_whose_clock_made_a_step_lets_nothing_go() {
    let test = "a_node_whose_clock_made_a_step_lets_nothing_go";
    let mut network = Network::new(0);
    let clock = match Clock::new(&network) {
        Ok(clock) => clock,
        Err(why) => return skipped(test, &why),
    };
    network.dress = clock.dress.clone();
    network.add(2, &[]);
    network.dress.clear();
    let original = network.random_file("file", 300_000);
    let link = network.put(&original, &["--lease", "30d"]).link(0);
    let believed = |network: &Network| network.nodes[0].status()["clock"]["state"] == "believed";
    wait_until("its clock is believed", Duration::from_secs(20), || believed(&network));
    // While it runs, and across restarts; ahead and behind.
    for seconds in [3 * 365 * DAY, -3 * 365 * DAY] {
        clock.set(seconds);
        std::thread::sleep(A_LOOK);
        let status = network.nodes[0].status();
        assert_eq!(status["clock"]["state"], "doubted", "{status}");
        assert_there(&network, &link, &original);
        network.nodes[0].process().signal(Signal::TERM);
        wait_until("it stops", Duration::from_secs(20), || !network.nodes[0].runs());
        network.nodes[0].kill();
        network.nodes[0].restart(2).unwrap();
        std::thread::sleep(A_LOOK);
        assert_there(&network, &link, &original);
        let log = fs::read_to_string(network.nodes[0].log_path()).unwrap();
        assert!(log.contains("clock"), "the log says nothing of it: {log}");
    }
    network.nodes[0].kill();
    clock.set(0);
    network.nodes[0].restart(2).unwrap();
    wait_until("its clock is believed", Duration::from_secs(20), || believed(&network));
    assert_there(&network, &link, &original);
}

/// Lays a directory of the first version where a node of this network would have it.
fn old_directory(network: &Network, name: &str) -> PathBuf {
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/old").join(name);
    let data = network.path(name);
    copy_directory(&old, &data);
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    for file in files_below(&data) {
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    data
}

#[test]
fn a_directory_of_the_first_version_is_carried_over() {
    let mut network = Network::new(0);
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/old");
    for name in ["n0", "n1"] {
        // The nodes of this network count from 0, the old ones from 1.
        let from = if name == "n0" { "n1" } else { "n2" };
        let data = old_directory(&network, from);
        fs::rename(&data, network.path(&format!("was-{from}"))).unwrap();
        fs::rename(network.path(&format!("was-{from}")), network.path(name)).unwrap();
        network.add(3, &["--capacity", "64MiB"]);
    }
    for (link, content) in [("file.link", "file"), ("small.link", "small")] {
        let link = fs::read_to_string(old.join(link)).unwrap();
        assert_there(&network, link.trim(), &old.join(content));
    }
    // It takes new ones, survives kill -9, and is still what it was.
    let fresh = network.random_file("fresh", 200_000);
    let put = network.put(&fresh, &[]).link(0);
    for node in &mut network.nodes {
        node.kill();
        node.restart(2).unwrap();
    }
    assert_there(&network, &put, &fresh);
    for (link, content) in [("file.link", "file"), ("small.link", "small")] {
        let link = fs::read_to_string(old.join(link)).unwrap();
        assert_there(&network, link.trim(), &old.join(content));
    }
}

#[test]
fn a_node_of_many_cores_takes_what_it_is_given() {
    let mut network = Network::new(0);
    let original = network.random_file("file", 1 << 20);
    for cores in [17, 64, 128] {
        network.nodes.clear();
        network.add(cores, &["--capacity", "1GiB"]);
        let puts: Vec<String> = (0..3).map(|_| network.put(&original, &[]).link(0)).collect();
        // Fewer cores open what more of them have written.
        network.nodes[0].kill();
        network.nodes[0].restart(2).unwrap();
        puts.iter().for_each(|link| drop(assert_there(&network, link, &original)));
    }
}

#[test]
fn a_node_is_full_when_its_capacity_is_used_on_whichever_core_puts_arrive() {
    let mut network = Network::new(0);
    let me = network.run(&["id"]).ok()["id"].as_str().unwrap().to_owned();
    let original = network.random_file("file", 50 << 20);
    for cores in [1, 2, 5] {
        network.nodes.clear();
        let _ = fs::remove_dir_all(network.path("n0"));
        network.add(cores, &["--capacity", "64MiB", "--accept", "listed", "--allow", &me]);
        let put = network.put(&original, &["--no-compress"]);
        put.ok();
        let more = network.put(&original, &["--no-compress"]);
        let why = more.refused(4);
        assert!(why.contains("64 MiB"), "{more}");
    }
}

#[test]
fn a_put_that_is_broken_off_costs_its_origin_nothing() {
    let mut network = Network::new(0);
    // A share of 76.8 MiB: one such object fits it and two do not.
    network.add(2, &["--capacity", "768MiB"]);
    let original = network.random_file("file", 40 << 20);
    let peers = network.peers();
    for _ in 0..3 {
        let mut arguments = vec!["put", "-", "--no-compress"];
        arguments.extend(peers.iter().map(String::as_str));
        let before = network.nodes[0].received_bytes();
        let mut running = network.begin(&arguments, Stdio::piped());
        let mut stdin = running.process.take_stdin();
        if let Err(error) = stdin.write_all(&fs::read(&original).unwrap()) {
            panic!("{error}: {}", running.end());
        }
        wait_until("it is under way", Duration::from_secs(20), || {
            network.nodes[0].received_bytes() > before + (20 << 20)
        });
        running.process.signal(Signal::INT);
        assert_eq!(running.end().code, Some(130));
    }
    let put = network.put(&original, &["--no-compress"]);
    assert_there(&network, &put.link(0), &original);
}
