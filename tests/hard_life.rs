//! Real nodes and real commands under a hard life: kill -9 again and again, processes that stand
//! still, disks that fill and break, clocks that jump, descriptors that run out, crowds that say
//! nothing, a network that loses packets and is cut.
//!
//! `PANGEA_TEST_KILLS` says how often nodes and commands are killed (12). For a night:
//!
//! ```text
//! PANGEA_TEST_KILLS=5000 cargo test --test hard_life killed
//! ```
//!
//! Some need root, a C compiler, or something of the kernel; where it is missing they say
//! "skipped: ..." and why.
#![cfg(target_os = "linux")]

mod common;
#[path = "common/crowd.rs"]
mod crowd;
#[path = "common/hard.rs"]
mod hard;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Network, Node, Ran, Running, SmallDisk, assert_same, random_bytes, wait_until};
use hard::{Clock, LAB_IPS, Lab, LoopDisk, open_files, run_tool, skipped};
use pangea_base::PeerAddr;

const PATIENCE: Duration = Duration::from_secs(30);

/// An object that was acknowledged.
struct Kept {
    link: String,
    original: PathBuf,
}

/// Gets it, and compares every byte.
#[track_caller]
fn assert_kept(network: &Network, kept: &Kept) {
    let copy = network.path("copy");
    network.run(&["get", &kept.link, "-o", copy.to_str().unwrap(), "--force"]).ok();
    assert_same(&kept.original, &copy);
}

fn begin_put(network: &Network, original: &Path) -> Running {
    let peers = network.peers();
    let mut arguments = vec!["put", original.to_str().unwrap()];
    arguments.extend(peers.iter().map(String::as_str));
    network.begin(&arguments, Stdio::null())
}

/// The link of a put that came through, be it degraded.
#[track_caller]
fn acknowledged(network: &Network, ran: &Ran, original: &Path) -> Kept {
    network.remember(ran);
    assert!(matches!(ran.code, Some(0 | 9)), "{ran}");
    Kept { link: ran.link(ran.code.unwrap()), original: original.to_path_buf() }
}

/// A different moment for each round, over a bit more than what a put of this size takes.
fn moment(round: usize) -> Duration {
    Duration::from_millis(10 + (round as u64 * 7919) % 400)
}

#[test]
fn holders_and_origins_killed_again_and_again_keep_what_was_acknowledged() {
    let kills = match std::env::var("PANGEA_TEST_KILLS") {
        Ok(said) => said.parse().expect("PANGEA_TEST_KILLS is a number"),
        Err(_) => 12,
    };
    const HOLDERS: usize = 6;
    let mut network = Network::new(HOLDERS);
    let first = network.random_file("first", 6 << 20);
    let put = network.put(&first, &[]);
    let mut kept = vec![acknowledged(&network, &put, &first)];
    let mut cut_short = 0;
    for round in 0..kills {
        let at = (round * 5) % HOLDERS;
        let original = network.random_file(&format!("file {round}"), 6 << 20);
        match round % 4 {
            // A holder, while something is put.
            0 | 2 => {
                let putting = begin_put(&network, &original);
                std::thread::sleep(moment(round));
                network.nodes[at].kill();
                let ran = putting.end();
                kept.push(acknowledged(&network, &ran, &original));
            }
            // The origin.
            1 => {
                let mut putting = begin_put(&network, &original);
                std::thread::sleep(moment(round));
                putting.process.kill();
                let ran = putting.end();
                match ran.code {
                    // It was faster.
                    Some(0) => kept.push(acknowledged(&network, &ran, &original)),
                    _ => cut_short += 1,
                }
            }
            // A holder, while something is got.
            _ => {
                let copy = network.path("copy");
                let link = &kept[round % kept.len()].link;
                let arguments = ["get", link, "-o", copy.to_str().unwrap(), "--force"];
                let getting = network.begin(&arguments, Stdio::null());
                std::thread::sleep(moment(round) / 4);
                network.nodes[at].kill();
                getting.end().ok();
                assert_same(&kept[round % kept.len()].original, &copy);
            }
        }
        if !network.nodes[at].runs() {
            network.nodes[at].kill();
            network.nodes[at].restart(1 + round % 2).unwrap_or_else(|why| panic!("{why}"));
        }
        assert_kept(&network, kept.last().unwrap());
        forget_some(&mut kept);
    }
    eprintln!("{kills} kills, {cut_short} puts cut short, {} objects kept", kept.len());
    for one in &kept {
        assert_kept(&network, one);
    }
    let whole = network.run(&["stat", &kept[0].link]);
    assert_eq!(whole.ok()["losses_left"], 3, "an acknowledged shard is gone: {whole}");
}

/// So that a long run fills no disk of ours: the oldest is always kept.
fn forget_some(kept: &mut Vec<Kept>) {
    if kept.len() > 40 {
        let _ = fs::remove_file(kept.remove(1).original);
    }
}

#[test]
fn a_holder_that_stands_still_for_half_a_minute_in_a_put_recovers() {
    const STILL: Duration = Duration::from_secs(30);
    let mut network = Network::new(6);
    let content = random_bytes("stands still", 26 << 20);
    let original = network.path("original");
    fs::write(&original, &content).unwrap();
    let peers = network.peers();
    let mut arguments = vec!["put", "-"];
    arguments.extend(peers.iter().map(String::as_str));
    let mut putting = network.begin(&arguments, Stdio::piped());
    let mut stdin = putting.process.take_stdin();
    stdin.write_all(&content[..18 << 20]).unwrap();
    wait_until("the holder receives", PATIENCE, || network.nodes[2].received_bytes() > 100_000);
    let since = Instant::now();
    network.nodes[2].suspend();
    stdin.write_all(&content[18 << 20..]).unwrap();
    drop(stdin);
    let ran = putting.end_within(Duration::from_secs(150));
    let kept = acknowledged(&network, &ran, &original);
    ran.names(&network.nodes[2].id);
    eprintln!("a put with a holder that stands still: {:?} after {:?}", ran.code, ran.took);
    assert_kept(&network, &kept);
    std::thread::sleep(STILL.saturating_sub(since.elapsed()));
    network.nodes[2].resume();
    wait_until("it answers again", PATIENCE, || network.nodes[2].status()["id"].is_string());
    // It is a holder as any other: with any three more than it gone... it is one of the three left.
    let after = network.random_file("after", 3 << 20);
    let put = network.put(&after, &[]);
    assert_eq!(put.ok()["state"], "complete", "{put}");
    let after = acknowledged(&network, &put, &after);
    [0, 3, 5].into_iter().for_each(|at| network.nodes[at].kill());
    assert_kept(&network, &after);
}

#[test]
fn a_disk_that_fills_in_the_middle_is_an_honest_error_and_room_helps() {
    let test = "a_disk_that_fills_in_the_middle_is_an_honest_error_and_room_helps";
    let mut network = Network::new(0);
    let Some(disk) = SmallDisk::mount(&network.path("n0"), "80m", test) else {
        return skipped(test, "no file system can be mounted here");
    };
    let me = network.run(&["id"]).ok()["id"].as_str().unwrap().to_string();
    network.add(1, &["--capacity", "1GiB", "--accept", "listed", "--allow", &me]);
    let small = network.random_file("small", 2 << 20);
    let put = network.put(&small, &[]);
    let kept = acknowledged(&network, &put, &small);
    // Somebody else fills the disk while a put is under way. What that put leaves behind is kept
    // for a day, so there is room for it and more.
    let large = network.random_file("large", 24 << 20);
    let putting = begin_put(&network, &large);
    let hog = disk.0.join("hog");
    let _ = fs::write(&hog, vec![1; 78 << 20]);
    let ran = putting.end();
    match ran.code {
        Some(0) => assert_kept(&network, &acknowledged(&network, &ran, &large)),
        code => {
            let words = ran.refused(4);
            assert!(words.contains(&network.nodes[0].id), "{code:?} {words}");
        }
    }
    assert_kept(&network, &kept);
    fs::remove_file(&hog).unwrap();
    network.nodes[0].kill();
    network.nodes[0].restart(1).unwrap_or_else(|why| panic!("{why}"));
    assert_kept(&network, &kept);
    let again = network.random_file("again", 4 << 20);
    let put = network.put(&again, &[]);
    assert_kept(&network, &acknowledged(&network, &put, &again));
}

#[test]
fn a_disk_that_turns_read_only_is_an_honest_error_and_loses_nothing() {
    let test = "a_disk_that_turns_read_only_is_an_honest_error_and_loses_nothing";
    let mut network = Network::new(0);
    let disk = match LoopDisk::mount(&network.path("image"), &network.path("n0"), 200) {
        Ok(disk) => disk,
        Err(why) => return skipped(test, &why),
    };
    network.add(1, &["--capacity", "1GiB"]);
    let first = network.random_file("first", 5 << 20);
    let put = network.put(&first, &[]);
    let kept = acknowledged(&network, &put, &first);
    let large = network.random_file("large", 30 << 20);
    let before = network.nodes[0].received_bytes();
    let putting = begin_put(&network, &large);
    wait_until("it is under way", PATIENCE, || {
        network.nodes[0].received_bytes() > before + (1 << 20)
    });
    if let Err(why) = disk.break_down() {
        return skipped(test, &format!("the file system cannot be broken: {why}"));
    }
    let ran = putting.end();
    let also = match ran.code {
        Some(0) => Some(acknowledged(&network, &ran, &large)),
        _ => {
            let words = ran.refused(4);
            assert!(words.contains(&network.nodes[0].id), "{words}");
            eprintln!("a disk turned read-only: {words}");
            None
        }
    };
    // What is there can be read, or it is said that it cannot.
    let copy = network.path("copy");
    let got = network.run(&["get", &kept.link, "-o", copy.to_str().unwrap(), "--force"]);
    match got.code {
        Some(0) => assert_same(&kept.original, &copy),
        _ => drop(got.refused(5)),
    }
    // Nothing is promised any more.
    let third = network.random_file("third", 1 << 20);
    let words = network.put(&third, &[]).refused(4);
    assert!(words.contains(&network.nodes[0].id), "{words}");
    network.nodes[0].kill();
    disk.repair().unwrap_or_else(|why| panic!("{why}"));
    network.nodes[0].restart(1).unwrap_or_else(|why| panic!("{why}"));
    assert_kept(&network, &kept);
    also.iter().for_each(|one| assert_kept(&network, one));
    let put = network.put(&third, &[]);
    assert_kept(&network, &acknowledged(&network, &put, &third));
}

#[test]
fn clocks_that_jump_a_minute_either_way_lose_nothing() {
    let test = "clocks_that_jump_a_minute_either_way_lose_nothing";
    let mut network = Network::new(0);
    let clock = match Clock::new(&network) {
        Ok(clock) => clock,
        Err(why) => return skipped(test, &why),
    };
    let jump = |seconds| clock.set(seconds);
    // That it works at all is seen at a program of the system.
    let date: Vec<&str> = clock.dress.iter().map(String::as_str).chain(["date", "+%s"]).collect();
    let shown = || run_tool(&date).unwrap();
    let honest: i64 = shown().trim().parse().unwrap();
    jump(100_000);
    assert!(shown().trim().parse::<i64>().unwrap() > honest + 90_000, "the clock stands");
    jump(0);
    network.dress = clock.dress.clone();
    // Two nodes have the clock that jumps, one has the right one, and so have all commands.
    for _ in 0..2 {
        network.add(1, &[]);
    }
    network.dress.clear();
    network.add(1, &[]);
    let original = network.random_file("file", 3 << 20);
    let put = network.put(&original, &["--lease", "1h"]);
    let kept = acknowledged(&network, &put, &original);
    for seconds in [60, -60, 0] {
        jump(seconds);
        // Long enough for leases to be looked at.
        std::thread::sleep(Duration::from_secs(11));
        let stat = network.run(&["stat", &kept.link]);
        assert_eq!(stat.ok()["losses_left"], 1, "at {seconds} s: {stat}");
        assert_kept(&network, &kept);
        let more = network.random_file(&format!("more {seconds}"), 1 << 20);
        let put = network.put(&more, &["--lease", "1h"]);
        assert_eq!(put.ok()["state"], "complete", "at {seconds} s: {put}");
        assert_kept(&network, &acknowledged(&network, &put, &more));
    }
    // A jump beyond the lease does end it, on the two that jumped, so the clock is really theirs. What
    // is over is freed a day later, and no longer named until then.
    jump(2 * 3600);
    wait_until("leases end", PATIENCE, || network.run(&["stat", &kept.link]).code == Some(5));
    assert_ne!(network.nodes[0].status()["shards"], 0);
    assert!(network.nodes.iter_mut().all(Node::runs));
}

#[test]
fn a_node_without_descriptors_says_so_and_goes_on_when_they_are_back() {
    let test = "a_node_without_descriptors_says_so_and_goes_on_when_they_are_back";
    if let Err(why) = run_tool(&["prlimit", "--version"]) {
        return skipped(test, &why);
    }
    let mut network = Network::new(1);
    let first = network.random_file("first", 2 << 20);
    let put = network.put(&first, &[]);
    let mut kept = vec![acknowledged(&network, &put, &first)];
    let process = network.nodes[0].process().id();
    let limit = |files: usize| {
        run_tool(&["prlimit", "--pid", &process.to_string(), &format!("--nofile={files}:")])
            .unwrap_or_else(|why| panic!("{why}"));
    };
    // Not one more than it has.
    limit(open_files(process));
    for round in 0..3 {
        let more = network.random_file(&format!("more {round}"), 40 << 20);
        let ran = network.put(&more, &[]);
        match ran.code {
            Some(0 | 9) => kept.push(acknowledged(&network, &ran, &more)),
            _ => eprintln!("no descriptors: {}", ran.refused(4)),
        }
        let asked = network.run(&["status", "--data", network.nodes[0].data.to_str().unwrap()]);
        assert!(matches!(asked.code, Some(0 | 8)), "{asked}");
        let copy = network.path("copy");
        let got = network.run(&["get", &kept[0].link, "-o", copy.to_str().unwrap(), "--force"]);
        match got.code {
            Some(0) => assert_same(&kept[0].original, &copy),
            _ => eprintln!("no descriptors: {}", got.refused(5)),
        }
    }
    limit(4096);
    wait_until("it answers again", PATIENCE, || {
        let asked = network.run(&["status", "--data", network.nodes[0].data.to_str().unwrap()]);
        asked.code == Some(0)
    });
    let last = network.random_file("last", 40 << 20);
    let put = network.put(&last, &[]);
    kept.push(acknowledged(&network, &put, &last));
    kept.iter().for_each(|one| assert_kept(&network, one));
}

#[test]
fn a_node_started_with_too_few_descriptors_ends_in_words() {
    let test = "a_node_started_with_too_few_descriptors_ends_in_words";
    let Some(prlimit) = hard::tool("prlimit") else { return skipped(test, "there is no prlimit") };
    let mut network = Network::new(0);
    let mut started = 0;
    for files in [5, 7, 9, 11, 13, 16, 32] {
        let limit = format!("--nofile={files}:{files}");
        network.dress = vec![prlimit.to_string_lossy().into_owned(), limit];
        match network.try_add(1, &[]) {
            Ok(_) => started += 1,
            // A panic in its log is noticed when the network ends.
            Err(why) => {
                assert!(why.contains("code Some(7)") || why.contains("code Some(8)"), "{why}");
                // Its place is free for the next.
                let _ = fs::remove_dir_all(network.path(&format!("n{started}")));
            }
        }
    }
    assert!(started > 0, "32 descriptors are enough for an idle node");
}

#[test]
fn a_thousand_that_knock_and_say_nothing_keep_nobody_out() {
    let test = "a_thousand_that_knock_and_say_nothing_keep_nobody_out";
    const CROWD: usize = 1000;
    let mut limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limits.current = limits.maximum;
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limits);
    if limits.current.is_some_and(|files| files < CROWD as u64 + 200) {
        return skipped(test, "this process may not open a thousand sockets");
    }
    let mut network = Network::new(0);
    network.add(1, &[]);
    let to: PeerAddr = network.nodes[0].addr.parse().unwrap();
    let budget = network.run(&["doctor"]).ok()["memory_budget_bytes"].as_u64().unwrap();
    let fresh = network.nodes[0].resident_mib();
    let knocked = Instant::now();
    let sockets = crowd::knock(to, CROWD);
    // Rubbish in the shape of a first packet, too.
    for (number, socket) in sockets.iter().enumerate() {
        let mut first = random_bytes(&format!("first {number}"), 1200);
        first[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
        let _ = socket.send_to(&first, to.addr);
    }
    let original = network.random_file("file", 1 << 20);
    let put = network.put(&original, &[]);
    let kept = acknowledged(&network, &put, &original);
    assert_kept(&network, &kept);
    let crowded = network.nodes[0].resident_mib();
    eprintln!(
        "{CROWD} that knocked: put {:?}, all after {:?}; {fresh:.0} MiB fresh, {crowded:.0} MiB \
         then, {} MiB allowed; {}",
        put.took,
        knocked.elapsed(),
        budget >> 20,
        network.nodes[0].status()["connections"]
    );
    assert!(crowded < (budget >> 20) as f64, "{crowded} MiB");
}

#[test]
fn a_thousand_connections_that_never_ask_keep_nobody_out() {
    const CROWD: usize = 1000;
    let mut network = Network::new(0);
    network.add(1, &[]);
    let to: PeerAddr = network.nodes[0].addr.parse().unwrap();
    let budget = network.run(&["doctor"]).ok()["memory_budget_bytes"].as_u64().unwrap();
    let fresh = network.nodes[0].resident_mib();
    let mut silent = crowd::Silent::connect(to, CROWD);
    assert!(silent.up > CROWD * 9 / 10, "{} of {CROWD} are up", silent.up);
    let original = network.random_file("file", 1 << 20);
    let putting = begin_put(&network, &original);
    (0..20).for_each(|_| silent.turn());
    let put = putting.end();
    let kept = acknowledged(&network, &put, &original);
    assert_kept(&network, &kept);
    let crowded = network.nodes[0].resident_mib();
    eprintln!(
        "{} connections ({} gone): put {:?}; {fresh:.0} MiB fresh, {crowded:.0} MiB then, {} MiB \
         allowed",
        silent.up,
        silent.gone,
        put.took,
        budget >> 20
    );
    assert!(crowded < (budget >> 20) as f64, "{crowded} MiB");
    // They go without a word.
    drop(silent);
    wait_until("it forgets them", Duration::from_secs(90), || {
        network.nodes[0].status()["connections"].as_u64().is_some_and(|n| n < 20)
    });
}

#[test]
fn a_network_that_loses_packets_and_is_cut_and_healed_loses_no_object() {
    let test = "a_network_that_loses_packets_and_is_cut_and_healed_loses_no_object";
    // The nodes end before their hosts do.
    let home = tempfile::tempdir().unwrap();
    let lab = match Lab::up(home.path(), LAB_IPS.len()) {
        Ok(lab) => lab,
        Err(why) => return skipped(test, &why),
    };
    let mut network = Network::new(0);
    for (host, ip) in (1..).zip(LAB_IPS).take(5) {
        (network.dress, network.ip) = (lab.inside(host), ip);
        network.add(1, &[]);
    }
    // The client is in the sixth.
    network.dress = lab.inside(6);
    lab.lose(10);
    let original = network.random_file("file", 12 << 20);
    let putting = begin_put(&network, &original);
    wait_until("it is under way", PATIENCE, || network.nodes[1].received_bytes() > 200_000);
    lab.cut(2);
    std::thread::sleep(Duration::from_secs(2));
    lab.heal(2);
    let ran = putting.end_within(Duration::from_secs(150));
    eprintln!("a put through loss, a cut and a heal: {:?} after {:?}", ran.code, ran.took);
    let kept = acknowledged(&network, &ran, &original);

    let copy = network.path("copy");
    let arguments = ["get", &kept.link, "-o", copy.to_str().unwrap(), "--force"];
    // By all of them: how much of it one holder sends is the client's choice.
    let sent = || -> u64 {
        network.nodes.iter().map(|node| node.status()["sent_bytes"].as_u64().unwrap()).sum()
    };
    let before = sent();
    let getting = network.begin(&arguments, Stdio::null());
    wait_until("it is under way", PATIENCE, || sent() > before + 500_000);
    lab.cut(4);
    std::thread::sleep(Duration::from_secs(2));
    lab.heal(4);
    let got = getting.end_within(Duration::from_secs(150));
    eprintln!("a get through loss, a cut and a heal: {:?} after {:?}", got.code, got.took);
    got.ok();
    assert_same(&original, &copy);

    // The client itself is cut off, for longer than holders are given.
    let getting = network.begin(&arguments, Stdio::null());
    lab.cut(6);
    std::thread::sleep(Duration::from_secs(4));
    lab.heal(6);
    let got = getting.end_within(Duration::from_secs(150));
    if got.code != Some(0) {
        got.refused(5);
    }
    lab.lose(0);
    assert_kept(&network, &kept);
    assert!(network.nodes.iter_mut().all(Node::runs));
    drop(network);
}
