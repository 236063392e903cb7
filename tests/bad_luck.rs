//! Real nodes and real commands when things go wrong: peers that are down, lie, babble or stall,
//! kill -9 in the middle, full disks, quotas, Ctrl-C.
#![cfg(unix)]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use common::{
    Babbler, Network, Node, Ran, Running, SmallDisk, assert_nothing_left, assert_same,
    random_bytes, wait_until,
};
use pangea_base::{ReadKey, Secret};
use pangea_wire::{Link, LinkKey};
use rustix::process::Signal;

const PATIENCE: Duration = Duration::from_secs(30);

/// What is fed before and after something happens: the first part is more than the largest chunk
/// of a stream, so that shards of one are on their way when it is in.
const FIRST_PART: usize = 20 << 20;
const SECOND_PART: usize = 14 << 20;

/// A put from stdin that stands still in its middle until it is told to go on.
struct HalfPut {
    running: Running,
    go_on: mpsc::Sender<()>,
    content: Vec<u8>,
}

impl HalfPut {
    /// Puts at all nodes; returns when each of them has received something of it.
    fn begin(network: &Network, more: &[&str]) -> HalfPut {
        let content = random_bytes("half a put", FIRST_PART + SECOND_PART);
        let before: Vec<u64> = network.nodes.iter().map(Node::received_bytes).collect();
        let peers = network.peers();
        let mut arguments = vec!["put", "-"];
        arguments.extend(peers.iter().map(String::as_str));
        arguments.extend(more);
        let mut running = network.begin(&arguments, Stdio::piped());
        let mut stdin = running.process.take_stdin();
        let (go_on, told) = mpsc::channel();
        let fed = content.clone();
        std::thread::spawn(move || {
            // The command may be killed while we write.
            if stdin.write_all(&fed[..FIRST_PART]).is_ok() && told.recv().is_ok() {
                let _ = stdin.write_all(&fed[FIRST_PART..]);
            }
        });
        let taking = network.nodes.len().min(14);
        wait_until("holders receive shards of half a put", PATIENCE, || {
            let received = |(node, before): (&Node, &u64)| node.received_bytes() > before + 100_000;
            network.nodes.iter().zip(&before).filter(|pair| received(*pair)).count() >= taking
        });
        HalfPut { running, go_on, content }
    }

    fn go_on(&self) {
        self.go_on.send(()).expect("the feeder waits");
    }
}

#[track_caller]
fn assert_comes_back(network: &Network, link: &str, content: &[u8]) {
    let got = network.run(&["get", link, "-o", "-"]);
    assert_eq!(got.code, Some(0), "{}", got.stderr);
    assert!(got.stdout == content, "{} other bytes came back", got.stdout.len());
}

#[test]
fn peers_that_are_down_or_others_or_babble_or_stall_are_named_and_done_without() {
    let mut network = Network::new(6);
    let original = network.random_file("file", 3 << 20);
    let babbler = Babbler::start();
    let mut lost = network.nodes.pop().unwrap();
    lost.kill();
    let mut stalled = network.nodes.pop().unwrap();
    stalled.suspend();
    let stranger = network.nodes.pop().unwrap();
    // At the stranger's address there is the stranger and not the one who was named.
    let somebody_else = format!("{}@127.0.0.1:{}", lost.id, stranger.port());
    let garbage = format!("{}@{}", stranger.id, babbler.addr);
    let bad = [&somebody_else, &stalled.addr, &garbage];
    let flags: Vec<&str> = bad.iter().flat_map(|addr| ["--peer", addr]).collect();
    let put = network.put(&original, &flags);
    let result = put.ok();
    assert_eq!(result["holders"].as_array().unwrap().len(), 3, "{put}");
    for id in [&lost.id, &stalled.id, &stranger.id] {
        put.names(id);
    }
    assert!(babbler.heard() > 0, "the babbler was never asked");
    let link = put.link(0);

    // The same crowd at a get, and one that is down.
    let copy = network.path("copy");
    let mut arguments = vec!["get", &link, "-o", copy.to_str().unwrap()];
    arguments.extend(&flags);
    arguments.extend(["--peer", &lost.addr]);
    let get = network.run(&arguments);
    get.ok();
    assert_same(&original, &copy);

    // Nobody but them: an error that names each.
    let empty = network.path("empty");
    fs::create_dir(&empty).unwrap();
    let mut arguments = vec!["put", original.to_str().unwrap()];
    arguments.extend(&flags);
    let words = network.run(&arguments).refused(4);
    for id in [&lost.id, &stalled.id, &stranger.id] {
        assert!(words.contains(id.as_str()), "{id} is not named: {words}");
    }
}

#[test]
fn a_peer_that_is_down_is_named() {
    let mut network = Network::new(3);
    let original = network.random_file("file", 1 << 20);
    network.nodes[1].kill();
    let put = network.put(&original, &[]);
    assert_eq!(put.ok()["holders"].as_array().unwrap().len(), 2, "{put}");
    put.names(&network.nodes[1].id);
    let link = put.link(0);
    let copy = network.path("copy");
    network.get(&link, &copy).ok();
    assert_same(&original, &copy);
    // All of them.
    network.nodes.iter_mut().for_each(Node::kill);
    let words = network.put(&original, &[]).refused(4);
    for node in &network.nodes {
        assert!(words.contains(&node.id), "{words}");
    }
}

/// A put in which a spare stood in for `lost` is complete. If `lost` had stored a shard of an
/// earlier chunk by then, that one stays there and the put says that it is degraded.
#[track_caller]
fn link_of_replaced(ran: &Ran, lost: &Node) -> String {
    let result = ran.last().unwrap_or_else(|| panic!("no result: {ran}"));
    let holders = result["holders"].as_array().unwrap_or_else(|| panic!("no holders: {ran}"));
    match holders.iter().any(|holder| *holder == lost.id) {
        false => {
            assert_eq!(holders.len(), 14, "{ran}");
            assert_eq!(ran.ok()["state"], "complete", "{ran}");
            ran.link(0)
        }
        true => {
            assert_eq!(holders.len(), 15, "{ran}");
            assert_eq!(ran.ended(9)["state"], "degraded", "{ran}");
            ran.link(9)
        }
    }
}

#[test]
fn a_holder_killed_in_the_middle_of_a_put_is_replaced_by_a_spare() {
    let mut network = Network::new(15);
    let put = HalfPut::begin(&network, &[]);
    network.nodes[2].kill();
    put.go_on();
    let ran = put.running.end();
    network.remember(&ran);
    let link = link_of_replaced(&ran, &network.nodes[2]);
    ran.names(&network.nodes[2].id);
    assert_comes_back(&network, &link, &put.content);
    // It was one of the four that may go.
    for at in [0, 5, 14] {
        network.nodes[at].kill();
    }
    assert_comes_back(&network, &link, &put.content);
}

#[test]
fn a_holder_that_stalls_in_the_middle_of_a_put_is_replaced_by_a_spare() {
    let mut network = Network::new(15);
    let put = HalfPut::begin(&network, &[]);
    network.nodes[7].suspend();
    put.go_on();
    let ran = put.running.end();
    network.remember(&ran);
    let link = link_of_replaced(&ran, &network.nodes[7]);
    ran.names(&network.nodes[7].id);
    assert_comes_back(&network, &link, &put.content);
    network.nodes[7].resume();
    assert!(network.nodes[7].runs());
}

#[test]
fn without_a_spare_a_put_that_lost_a_holder_is_degraded_and_says_so() {
    let mut network = Network::new(14);
    let put = HalfPut::begin(&network, &[]);
    network.nodes[4].kill();
    put.go_on();
    let ran = put.running.end();
    network.remember(&ran);
    let result = ran.ended(9);
    assert_eq!(result["state"], "degraded", "{ran}");
    assert_eq!(result["survives_losses"], 3, "{ran}");
    ran.names(&network.nodes[4].id);
    assert_comes_back(&network, &ran.link(9), &put.content);
}

#[test]
fn three_holders_lost_in_the_middle_of_a_put_without_spares_fail_it_in_words() {
    let mut network = Network::new(14);
    let put = HalfPut::begin(&network, &[]);
    for at in [1, 6, 11] {
        network.nodes[at].kill();
    }
    put.go_on();
    let ran = put.running.end();
    let words = ran.refused(4);
    assert!(words.contains("11 of the 12 holders"), "{words}");
    for at in [1, 6, 11] {
        assert!(words.contains(&network.nodes[at].id), "{words}");
    }
}

#[test]
fn holders_that_stall_in_the_middle_of_a_get_are_done_without() {
    let mut network = Network::new(14);
    let original = network.random_file("file", 48 << 20);
    let link = network.put(&original, &[]).link(0);
    let mut command = network.command(&["get", &link, "-o", "-"]);
    let mut running = common::Process::spawn(
        command.stdout(Stdio::piped()).stderr(fs::File::create(network.path("err")).unwrap()),
    );
    let mut stdout = running.take_stdout();
    let mut content = vec![0; 1 << 20];
    stdout.read_exact(&mut content).unwrap();
    for at in [3, 4, 5, 6] {
        network.nodes[at].suspend();
    }
    // A reader of its own, for the wait has a deadline.
    let reader = std::thread::spawn(move || {
        stdout.read_to_end(&mut content).map(|_| content).expect("a pipe can be read")
    });
    wait_until("a get whose holders stall", Duration::from_secs(90), || running.ended().is_some());
    let words = fs::read_to_string(network.path("err")).unwrap();
    assert_eq!(running.ended().and_then(|status| status.code()), Some(0), "{words}");
    assert!(reader.join().unwrap() == fs::read(&original).unwrap(), "other bytes");
}

#[test]
fn an_origin_killed_in_the_middle_of_a_put_leaves_its_holders_healthy() {
    let mut network = Network::new(14);
    let mut put = HalfPut::begin(&network, &[]);
    put.running.process.kill();
    let original = network.random_file("file", 5 << 20);
    let ran = network.put(&original, &[]);
    assert_eq!(ran.ok()["state"], "complete", "{ran}");
    let copy = network.path("copy");
    network.get(&ran.link(0), &copy).ok();
    assert_same(&original, &copy);
    for node in &mut network.nodes {
        assert!(node.runs(), "{} is gone", node.name);
        node.status();
    }
    // And what they have is still theirs after a crash.
    for node in &mut network.nodes {
        node.kill();
        node.restart(1).unwrap_or_else(|why| panic!("{why}"));
    }
    fs::remove_file(&copy).unwrap();
    network.get(&ran.link(0), &copy).ok();
    assert_same(&original, &copy);
}

#[test]
fn holders_killed_at_any_moment_of_a_put_recover_and_keep_what_they_acknowledged() {
    let mut network = Network::new(15);
    let kept = network.random_file("kept", 2 << 20);
    let kept_link = network.put(&kept, &[]).link(0);
    for round in 0..3u64 {
        let original = network.random_file(&format!("file {round}"), 20 << 20);
        let peers = network.peers();
        let mut arguments = vec!["put", original.to_str().unwrap()];
        arguments.extend(peers.iter().map(String::as_str));
        let running = network.begin(&arguments, Stdio::null());
        std::thread::sleep(Duration::from_millis(40 + 70 * round));
        let at = 3 + round as usize;
        network.nodes[at].kill();
        let ran = running.end();
        network.remember(&ran);
        // Whenever it was, the spare stood in, but for a manifest that was just on its way.
        assert!(matches!(ran.code, Some(0 | 9)), "{ran}");
        let link = ran.link(ran.code.unwrap());
        network.nodes[at].restart(1).unwrap_or_else(|why| panic!("{why}"));
        for (link, original) in [(&link, &original), (&kept_link, &kept)] {
            let copy = network.path("copy");
            network.run(&["get", link, "-o", copy.to_str().unwrap(), "--force"]).ok();
            assert_same(original, &copy);
        }
        let stat = network.run(&["stat", &kept_link]);
        assert_eq!(stat.ok()["losses_left"], 4, "an acknowledged shard is gone: {stat}");
    }
}

#[test]
fn a_node_that_accepts_nobody_or_only_others_refuses_with_a_reason() {
    for arguments in [&["--accept", "none"][..], &["--accept", "listed"]] {
        let network = Network::with(1, arguments);
        let original = network.random_file("file", 1000);
        let words = network.put(&original, &[]).refused(4);
        assert!(words.contains("keeps nothing for you"), "{words}");
        assert!(words.contains(&network.nodes[0].id), "{words}");
    }
    let mut network = Network::new(0);
    let me = network.run(&["id"]).ok()["id"].as_str().unwrap().to_string();
    network.add(1, &["--accept", "listed", "--allow", &me]);
    let original = network.random_file("file", 1000);
    let link = network.put(&original, &[]).link(0);
    let words = network.put(&original, &["--anonymous"]).refused(4);
    assert!(words.contains("keeps nothing for you"), "{words}");
    // Reading is for whoever has the link.
    let copy = network.path("copy");
    network.run(&["get", &link, "-o", copy.to_str().unwrap(), "--anonymous"]).ok();
    assert_same(&original, &copy);
}

#[test]
fn who_would_take_more_than_a_tenth_is_refused_and_others_are_not() {
    let mut network = Network::with(1, &["--capacity", "64MiB"]);
    let small = network.random_file("small", 4 << 20);
    let large = network.random_file("large", 8 << 20);
    let words = network.put(&large, &[]).refused(4);
    assert!(words.contains("of your 6.4 MiB there"), "{words}");
    let link = network.put(&small, &[]).link(0);
    let words = network.put(&small, &[]).refused(4);
    assert!(words.contains("of your 6.4 MiB there"), "{words}");
    // A restart forgets nothing of the account.
    network.nodes[0].kill();
    network.nodes[0].restart(1).unwrap();
    let words = network.put(&small, &[]).refused(4);
    assert!(words.contains("of your 6.4 MiB there"), "{words}");
    network.put(&small, &["--anonymous"]).ok();
    let copy = network.path("copy");
    network.get(&link, &copy).ok();
    assert_same(&small, &copy);
}

#[test]
fn an_output_that_exists_is_kept_unless_it_is_forced() {
    let network = Network::new(1);
    let original = network.random_file("file", 100_000);
    let link = network.put(&original, &[]).link(0);
    let copy = network.path("copy");
    fs::write(&copy, "the old one").unwrap();
    let words = network.get(&link, &copy).refused(7);
    assert!(words.contains("exists"), "{words}");
    assert_eq!(fs::read(&copy).unwrap(), b"the old one");
    network.run(&["get", &link, "-o", copy.to_str().unwrap(), "--force"]).ok();
    assert_same(&original, &copy);
}

#[test]
fn a_full_disk_at_the_output_is_an_error_and_leaves_no_file() {
    let network = Network::new(3);
    let test = "a_full_disk_at_the_output_is_an_error_and_leaves_no_file";
    let Some(disk) = SmallDisk::mount(&network.path("disk"), "2m", test) else { return };
    let original = network.random_file("file", 6 << 20);
    let link = network.put(&original, &[]).link(0);
    let words = network.get(&link, &disk.0.join("copy")).refused(7);
    assert!(words.contains("space"), "{words}");
    assert_nothing_left(&disk.0);
}

#[test]
fn a_holder_whose_disk_is_full_refuses_and_keeps_what_it_has() {
    let mut network = Network::new(0);
    let test = "a_holder_whose_disk_is_full_refuses_and_keeps_what_it_has";
    let Some(_disk) = SmallDisk::mount(&network.path("n0"), "24m", test) else { return };
    // More than there is, and all of it for one user.
    let me = network.run(&["id"]).ok()["id"].as_str().unwrap().to_string();
    network.add(1, &["--capacity", "100MiB", "--accept", "listed", "--allow", &me]);
    let kept = network.random_file("kept", 2 << 20);
    let kept_link = network.put(&kept, &[]).link(0);
    let large = network.random_file("large", 60 << 20);
    let words = network.put(&large, &[]).refused(4);
    assert!(words.contains(&network.nodes[0].id), "{words}");
    eprintln!("a full disk: {words}");
    for _ in 0..2 {
        let copy = network.path("copy");
        network.run(&["get", &kept_link, "-o", copy.to_str().unwrap(), "--force"]).ok();
        assert_same(&kept, &copy);
        network.nodes[0].kill();
        network.nodes[0].restart(1).unwrap_or_else(|why| panic!("{why}"));
    }
}

#[test]
fn an_interrupted_put_ends_in_order_and_leaves_no_link() {
    let network = Network::new(3);
    let out = network.path("out");
    fs::create_dir(&out).unwrap();
    let link = out.join("the.link");
    let put = HalfPut::begin(&network, &["--link-out", link.to_str().unwrap()]);
    put.running.process.signal(Signal::INT);
    let words = put.running.end_within(PATIENCE).refused(130);
    assert!(words.contains("interrupted"), "{words}");
    assert_nothing_left(&out);
}

#[test]
fn an_interrupted_get_ends_in_order_and_leaves_no_file() {
    let mut network = Network::new(3);
    let original = network.random_file("file", 20 << 20);
    let link = network.put(&original, &[]).link(0);
    let out = network.path("out");
    fs::create_dir(&out).unwrap();
    // So that it cannot be done too soon.
    for at in [0, 1] {
        network.nodes[at].suspend();
    }
    let output = out.join("copy");
    let get = network.begin(&["get", &link, "-o", output.to_str().unwrap()], Stdio::null());
    wait_until("the get has begun", PATIENCE, || fs::read_dir(&out).unwrap().count() > 0);
    std::thread::sleep(Duration::from_millis(300));
    get.process.signal(Signal::INT);
    let words = get.end_within(PATIENCE).refused(130);
    assert!(words.contains("interrupted"), "{words}");
    assert_nothing_left(&out);
}

#[test]
fn a_get_killed_in_its_middle_leaves_nothing_under_the_final_name() {
    let network = Network::new(3);
    let original = network.random_file("file", 40 << 20);
    let link = network.put(&original, &[]).link(0);
    let output = network.path("copy");
    for millis in [20, 60, 120] {
        let mut get = network.begin(&["get", &link, "-o", output.to_str().unwrap()], Stdio::null());
        std::thread::sleep(Duration::from_millis(millis));
        get.process.kill();
        if output.exists() {
            // It was faster; then it is whole.
            assert_same(&original, &output);
            fs::remove_file(&output).unwrap();
        }
    }
    network.get(&link, &output).ok();
    assert_same(&original, &output);
}

#[test]
fn a_directory_in_use_and_a_port_in_use_are_refused_in_words() {
    let network = Network::new(1);
    let node = &network.nodes[0];
    let data = node.data.to_str().unwrap();
    let at = ["--p2p-addr", "127.0.0.1:0"];
    let words = network.run(&["node", "--data", data, at[0], at[1]]).refused(7);
    assert!(words.contains("in use"), "{words}");
    let taken = format!("127.0.0.1:{}", node.port());
    let words = network.run(&["node", "--data", "other", "--p2p-addr", &taken]).refused(8);
    assert!(words.contains("in use") && words.contains(&taken), "{words}");
    // The first one did not notice.
    let original = network.random_file("file", 1000);
    network.put(&original, &[]).ok();
}

#[test]
fn a_link_with_another_key_opens_nothing() {
    let network = Network::new(3);
    let original = network.random_file("file", 100_000);
    let whole: Link = network.put(&original, &[]).link(0).parse().unwrap();
    let out = network.path("out");
    fs::create_dir(&out).unwrap();
    let other = ReadKey(Secret::new([7; 32]));
    let link = Link::new(whole.manifest, LinkKey::Read(other), whole.hints().to_vec()).unwrap();
    let get = network.get(link.reveal().as_ref(), &out.join("copy"));
    assert!(matches!(get.code, Some(5 | 6)), "{get}");
    get.refused(get.code.unwrap());
    assert_nothing_left(&out);
    // Who may verify sees that it is there, and no byte of it.
    let link = whole.to_verify().reveal();
    assert_eq!(network.run(&["stat", link.as_ref()]).ok()["losses_left"], 1);
    let words = network.get(link.as_ref(), &out.join("copy")).refused(6);
    assert!(words.contains("verify"), "{words}");
    assert_nothing_left(&out);
}
