//! Where peers are: holders that moved, names of hosts, addresses of one link, ports where nobody
//! listens; and what a node tells of itself. What needs two machines on a cable has them as network
//! namespaces, for which it takes root; it says so and is skipped elsewhere.
#![cfg(unix)]

mod common;
#[path = "common/hard.rs"]
mod hard;

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::time::Duration;

use common::{Network, Ran, assert_same};
use hard::{run_tool, skipped, tool};

/// Nobody waited for a time-out. A debug program on a busy machine takes its time.
const SOON: Duration = Duration::from_secs(4);

fn peer_at(network: &Network, node: usize, place: &str) -> String {
    format!("{}@{place}", network.nodes[node].id)
}

/// Gets with these peers named, and compares.
#[track_caller]
fn got_soon(network: &Network, link: &str, peers: &[String], original: &Path) -> Ran {
    let copy = network.path("copy");
    let mut arguments = vec!["get", link, "--force", "-o", copy.to_str().unwrap()];
    arguments.extend(peers.iter().flat_map(|peer| ["--peer", peer]));
    let get = network.run(&arguments);
    get.ok();
    assert_same(original, &copy);
    assert!(get.took < SOON, "{get}");
    get
}

#[test]
fn holders_that_moved_are_found_where_the_user_says() {
    let mut network = Network::new(3);
    let original = network.random_file("file", 500_000);
    let put = network.put(&original, &[]);
    put.ok();
    let link = put.link(0);
    for node in &mut network.nodes {
        node.kill();
        node.start_at(1, "127.0.0.1:0").unwrap();
    }
    let now: Vec<String> = network.nodes.iter().map(|node| node.addr.clone()).collect();
    got_soon(&network, &link, &now, &original);
    let peers = network.peers();
    let mut arguments = vec!["stat", &link];
    arguments.extend(peers.iter().map(String::as_str));
    let stat = network.run(&arguments);
    let left = stat.ok()["losses_left"].as_i64().unwrap();
    assert!(left >= 1 && stat.took < SOON, "{stat}");
    // One that is right beside one that is wrong is enough, in a put too.
    let mut both: Vec<&str> = vec!["put", original.to_str().unwrap()];
    let wrong: Vec<String> = (0..3).map(|node| peer_at(&network, node, "127.0.0.1:9")).collect();
    both.extend(wrong.iter().zip(&now).flat_map(|(old, new)| ["--peer", old, "--peer", new]));
    let put = network.run(&both);
    network.remember(&put);
    assert_eq!(put.ok()["state"], "complete", "{put}");
    assert!(put.took < SOON, "{put}");
    let link: pangea_wire::Link = put.link(0).parse().unwrap();
    assert!(link.hints().iter().all(|hint| now.contains(&hint.to_string())), "{:?}", link.hints());
    got_soon(&network, &put.link(0), &wrong, &original);
}

#[test]
fn a_port_where_nobody_listens_ends_everything_at_once_in_the_systems_words() {
    let mut network = Network::new(2);
    let original = network.random_file("file", 100_000);
    let put = network.put(&original, &[]);
    let link = put.link(0);
    network.nodes.iter_mut().for_each(|node| node.kill());
    let get = network.get(&link, &network.path("copy"));
    let stat = network.run(&["stat", &link]);
    let put = network.put(&original, &[]);
    for (ran, code) in [(get, 5), (stat, 5), (put, 4)] {
        let words = ran.refused(code);
        assert!(ran.took < SOON, "{ran}");
        if cfg!(target_os = "linux") {
            assert!(words.contains("nothing listens at 127.0.0.1:"), "{ran}");
        }
    }
}

#[test]
fn a_peer_may_be_named_by_its_hosts_name() {
    let network = Network::new(2);
    let original = network.random_file("file", 100_000);
    let named: Vec<String> = (0..2)
        .map(|node| peer_at(&network, node, &format!("localhost:{}", network.nodes[node].port())))
        .collect();
    let file = original.to_str().unwrap();
    let put = network.run(&["put", file, "--peer", &named[0], "--peer", &named[1]]);
    network.remember(&put);
    assert_eq!(put.ok()["state"], "complete", "{put}");
    assert!(put.took < SOON, "{put}");
    got_soon(&network, &put.link(0), &named, &original);

    // In a file and in the environment too. A name that nobody has is told, and does not matter.
    let nobody = peer_at(&network, 0, "nobody.invalid:9");
    let config = network.path("peers.toml");
    fs::write(&config, format!("peers = ['{}', '{nobody}']\n", named[0])).unwrap();
    let mut command = network.command(&["put", file, "--config", config.to_str().unwrap()]);
    let output = command.env("PANGEA_PEERS", &named[1]).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    assert!(words.contains("warning: the name 'nobody.invalid' was not found"), "{words}");
    assert!(words.contains("at 2 holders: complete"), "{words}");

    // Alone it does.
    let words = network.run(&["put", file, "--peer", &nobody]).refused(4);
    assert!(words.contains("the name 'nobody.invalid' was not found"), "{words}");
}

#[test]
fn an_ipv4_address_that_is_written_as_ipv6_is_ipv4() {
    let network = Network::new(1);
    let original = network.random_file("file", 100_000);
    let mapped = peer_at(&network, 0, &format!("[::ffff:127.0.0.1]:{}", network.nodes[0].port()));
    let put = network.run(&["put", original.to_str().unwrap(), "--peer", &mapped]);
    network.remember(&put);
    put.ok();
    let link: pangea_wire::Link = put.link(0).parse().unwrap();
    assert_eq!(link.hints()[0].to_string(), network.nodes[0].addr);
    got_soon(&network, &put.link(0), &[mapped], &original);
}

#[test]
fn one_of_several_addresses_that_answers_is_enough() {
    let network = Network::new(1);
    // Bound, and deaf: nothing is refused and nobody answers.
    let deaf: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let deaf = deaf.iter().map(|socket| socket.local_addr().unwrap().to_string());
    let mut peers: Vec<String> = deaf.map(|place| peer_at(&network, 0, &place)).collect();
    peers.push(network.nodes[0].addr.clone());
    let original = network.random_file("file", 100_000);
    let mut arguments = vec!["put", original.to_str().unwrap()];
    arguments.extend(peers.iter().flat_map(|peer| ["--peer", peer]));
    let put = network.run(&arguments);
    network.remember(&put);
    put.ok();
    assert!(put.took < SOON, "{put}");
    got_soon(&network, &put.link(0), &peers, &original);
}

/// Two machines on one cable and nothing else: 10.78.0.1 and .2, fd78::1 and ::2.
struct Cable {
    spaces: [String; 2],
}

impl Cable {
    fn up(name: &str) -> Result<Cable, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root can make network namespaces".to_owned());
        }
        tool("nsenter").ok_or("there is no nsenter")?;
        let spaces = ["a", "b"].map(|end| format!("pga{}{name}{end}", std::process::id()));
        let cable = Cable { spaces };
        let [a, b] = &cable.spaces;
        for space in [a, b] {
            run_tool(&["ip", "netns", "add", space])?;
        }
        let pair = ["type", "veth", "peer", "name", "e0", "netns", b];
        run_tool(&[&["ip", "link", "add", "e0", "netns", a][..], &pair].concat())?;
        for (space, number) in [(a, 1), (b, 2)] {
            let ip = |words: &[&str]| run_tool(&[&["ip", "-n", space.as_str()], words].concat());
            ip(&["addr", "add", &format!("10.78.0.{number}/24"), "dev", "e0"])?;
            ip(&["addr", "add", &format!("fd78::{number}/64"), "dev", "e0", "nodad"])?;
            ip(&["link", "set", "lo", "up"])?;
            ip(&["link", "set", "e0", "up"])?;
        }
        Ok(cable)
    }

    fn inside(&self, end: usize) -> Vec<String> {
        let nsenter = tool("nsenter").expect("it was there").to_string_lossy().into_owned();
        vec![nsenter, format!("--net=/run/netns/{}", self.spaces[end])]
    }

    /// The address of its link that an end has given itself, once it may be used.
    fn link_local(&self, end: usize) -> String {
        let words = ["ip", "-n", &self.spaces[end], "-6", "-o", "addr", "show", "dev", "e0"];
        for _ in 0..100 {
            let text = run_tool(&words).unwrap_or_default();
            let line = text.lines().find(|l| l.contains("fe80::") && !l.contains("tentative"));
            let ip = line.and_then(|line| line.split_whitespace().nth(3)?.split('/').next());
            if let Some(ip) = ip {
                return ip.to_owned();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the link has no address of its own after 5 s");
    }

    /// The number of an end's interface.
    fn index(&self, end: usize) -> String {
        let words = ["ip", "-n", &self.spaces[end], "-o", "link", "show", "dev", "e0"];
        let text = run_tool(&words).unwrap();
        text.split(':').next().unwrap().to_owned()
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for space in &self.spaces {
            let _ = run_tool(&["ip", "netns", "del", space]);
        }
    }
}

/// A node at one end of a cable; commands are run at the other.
fn across(cable: &Cable, at: &'static str) -> Network {
    let mut network = Network::new(0);
    network.dress = cable.inside(1);
    network.ip = at;
    network.add(1, &[]);
    network.dress = cable.inside(0);
    network
}

#[test]
fn without_a_way_out_a_node_tells_an_address_that_works() {
    let cable = match Cable::up("w") {
        Ok(cable) => cable,
        Err(why) => return skipped("without_a_way_out_a_node_tells_an_address_that_works", &why),
    };
    for (at, told) in [("0.0.0.0", "10.78.0.2:"), ("[::]", "[fd78::2]:")] {
        let network = across(&cable, at);
        let (_, place) = network.nodes[0].addr.split_once('@').unwrap();
        assert!(place.starts_with(told), "{at}: {place}");
        let original = network.random_file("file", 100_000);
        let put = network.put(&original, &[]);
        put.ok();
        got_soon(&network, &put.link(0), &[], &original);
    }
}

#[test]
fn an_address_of_one_link_works_with_its_interface_and_is_told_to_nobody() {
    let cable = match Cable::up("l") {
        Ok(cable) => cable,
        Err(why) => {
            let test = "an_address_of_one_link_works_with_its_interface_and_is_told_to_nobody";
            return skipped(test, &why);
        }
    };
    let ip = cable.link_local(1);
    let network = across(&cable, "[::]");
    let original = network.random_file("file", 100_000);
    for interface in [cable.index(0), "e0".to_owned()] {
        let place = format!("[{ip}%{interface}]:{}", network.nodes[0].port());
        let peer = peer_at(&network, 0, &place);
        let put = network.run(&["put", original.to_str().unwrap(), "--peer", &peer]);
        network.remember(&put);
        put.ok();
        let link: pangea_wire::Link = put.link(0).parse().unwrap();
        assert_eq!(link.hints(), [], "such a hint means nothing elsewhere");
        got_soon(&network, &put.link(0), std::slice::from_ref(&peer), &original);
        let stat = network.run(&["stat", &put.link(0), "--peer", &peer]);
        assert_eq!(stat.ok()["losses_left"], 0, "{stat}");
        // Known by another address too, that one is told.
        let global = peer_at(&network, 0, &format!("[fd78::2]:{}", network.nodes[0].port()));
        let file = original.to_str().unwrap();
        let put = network.run(&["put", file, "--peer", &peer, "--peer", &global]);
        network.remember(&put);
        put.ok();
        got_soon(&network, &put.link(0), &[], &original);
    }
    let peer = peer_at(&network, 0, &format!("[{ip}]:9"));
    let words = network.command(&["put", "file", "--peer", &peer]).output().unwrap();
    assert!(String::from_utf8_lossy(&words.stderr).contains("is on one link only"));
}

#[test]
fn no_route_and_a_host_that_is_down_end_a_dial_in_the_systems_words() {
    let cable = match Cable::up("d") {
        Ok(cable) => cable,
        Err(why) => {
            let test = "no_route_and_a_host_that_is_down_end_a_dial_in_the_systems_words";
            return skipped(test, &why);
        }
    };
    let network = across(&cable, "0.0.0.0");
    let file = network.random_file("file", 10_000);
    // The system asks three times, a second each, who has an address of its own network.
    let down = Duration::from_secs(5) + SOON;
    for (place, words, patience) in [
        ("203.0.113.1:9", "Network is unreachable", SOON),
        ("[2001:db8::7]:9", "Network is unreachable", SOON),
        ("10.78.0.2:9", "nothing listens at 10.78.0.2:9", SOON),
        ("[fd78::2]:9", "nothing listens at [fd78::2]:9", SOON),
        ("10.78.0.99:9", "No route to host", down),
        ("[fd78::99]:9", "No route to host", down),
    ] {
        let peer = peer_at(&network, 0, place);
        let put = network.run(&["put", file.to_str().unwrap(), "--peer", &peer]);
        let said = put.refused(4);
        assert!(said.contains(words) && put.took < patience, "{place}: {put}");
        // And beside it another one is found.
        let node = &network.nodes[0].addr;
        let put = network.run(&["put", file.to_str().unwrap(), "--peer", &peer, "--peer", node]);
        network.remember(&put);
        put.ok();
        assert!(put.took < SOON, "{place}: {put}");
    }
}
