//! Ports and cores: steering, sharing, and giving a port up.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use pangea_base::PagePool;
use pangea_base::file::{FileOp, FileRequest};
use pangea_reactor::{DriverChoice, Steer, bind};

use crate::support::{Node, config, name, on_both, page_of};

on_both!(
    the_first_cid_byte_picks_the_core,
    a_shared_socket_receives_on_core_0_and_sends_on_all,
    a_port_is_free_as_soon_as_its_driver_is_gone,
    a_port_can_be_bound_at_once_after_kill,
    a_driver_can_be_dropped_with_everything_in_flight,
);

fn nodes(choice: DriverChoice, cores: usize, steer: Steer) -> (Vec<Node>, SocketAddr) {
    let bound = bind("127.0.0.1:0".parse().unwrap(), cores, steer).unwrap();
    if cfg!(target_os = "linux") {
        assert_eq!(bound.steer, steer, "Linux steers without any rights");
    }
    let local = bound.local;
    (bound.sockets.into_iter().map(|socket| Node::open(&config(choice), socket)).collect(), local)
}

fn short(core: u8) -> Vec<u8> {
    vec![0x40, core, 0, 0, 0, 0, 0, 0, 0, 0]
}

fn long(core: u8) -> Vec<u8> {
    vec![0xc0, 0, 0, 0, 1, 8, core, 0, 0, 0, 0, 0, 0, 0]
}

#[cfg(target_os = "linux")]
fn the_first_cid_byte_picks_the_core(choice: DriverChoice) {
    for cores in [2u8, 3] {
        let (mut nodes, local) = nodes(choice, usize::from(cores), Steer::Kernel);
        for core in 0..cores * 2 {
            // From ports of their own, as after a migration.
            for packet in [short(core), long(core)] {
                let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
                stranger.send_to(&packet, local).unwrap();
                let node = &mut nodes[usize::from(core % cores)];
                node.until("the packet", |node| !node.datagrams.is_empty());
                assert_eq!(node.datagrams.remove(0).data, packet);
            }
        }
        // Too short for a connection ID: core 0.
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        stranger.send_to(&[0x40], local).unwrap();
        nodes[0].until("the runt", |node| !node.datagrams.is_empty());
        for node in &mut nodes[1..] {
            node.idle(Duration::from_millis(5));
            assert!(node.datagrams.is_empty());
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn the_first_cid_byte_picks_the_core(choice: DriverChoice) {
    let bound = nodes(choice, 2, Steer::Kernel);
    assert_eq!(bound.0.len(), 2);
}

fn a_shared_socket_receives_on_core_0_and_sends_on_all(choice: DriverChoice) {
    let (mut nodes, local) = nodes(choice, 3, Steer::Mesh);
    let mut peer = Node::new(choice);
    for core in 0..3u8 {
        peer.send(local, &short(core));
    }
    nodes[0].until("all packets", |node| node.datagrams.len() == 3);
    let to = peer.addr;
    for (i, node) in nodes.iter_mut().enumerate() {
        node.send(to, &[i as u8]);
        peer.until("its packet", |peer| peer.datagrams.len() == i + 1);
        assert_eq!(peer.datagrams[i].remote, local);
    }
    for node in &mut nodes[1..] {
        node.idle(Duration::from_millis(5));
        assert!(node.datagrams.is_empty());
    }
}

fn a_port_is_free_as_soon_as_its_driver_is_gone(choice: DriverChoice) {
    let mut node = Node::new(choice);
    let addr = node.addr;
    for _ in 0..20 {
        node.send(addr, b"to myself");
        node.until("the datagram", |node| !node.datagrams.is_empty());
        drop(node);
        // Without SO_REUSEPORT and without a second try: nothing of the old one is left.
        drop(UdpSocket::bind(addr).expect("the port is free at once"));
        node = Node::at(choice, &addr.to_string());
    }
}

fn a_driver_can_be_dropped_with_everything_in_flight(choice: DriverChoice) {
    let dir = tempfile::tempdir().unwrap();
    let pool = PagePool::new(65536, 64);
    for round in 0..10 {
        let mut node = Node::in_dir(choice, dir.path());
        let file = crate::files::create(&mut node, "a/b");
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        for i in 0..64u64 {
            let page = page_of(&pool, i as u8, 65536);
            let op = FileOp::Write { file, offset: i * 65536, length: 65536 };
            node.driver.submit(FileRequest { token: i, op, page: Some(page) }).unwrap();
        }
        node.driver
            .submit(FileRequest {
                token: 99,
                op: FileOp::List { directory: name("a") },
                page: None,
            })
            .unwrap();
        for _ in 0..8 {
            let to = peer.local_addr().unwrap();
            peer.send_to(b"unread", node.addr).unwrap();
            if round % 2 == 0 {
                node.send(to, b"last words");
            } else {
                let mut buffer = node.driver.buffer().unwrap();
                buffer.extend_from_slice(b"last words");
                let to = pangea_reactor::Transmit {
                    dst: to,
                    src_ip: None,
                    ecn: None,
                    segment: None,
                    train: Default::default(),
                };
                node.driver.send(to, buffer);
            }
        }
        drop(node);
        assert_eq!(pool.available(), 64, "every page came home");
        let mut bytes = [0; 64];
        peer.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
        assert_eq!(peer.recv(&mut bytes).unwrap(), 10, "what was sent before leaves");
    }
}

/// The system may keep the socket of a killed process for a while; `bind` waits for it.
fn a_port_can_be_bound_at_once_after_kill(choice: DriverChoice) {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    for cores in [1, 2] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ports::held_until_killed", "--ignored", "--nocapture"])
            .env("PANGEA_DRIVER", crate::support::name_of(choice))
            .env("PANGEA_CORES", cores.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let held = lines.find_map(|line| {
            let line = line.unwrap();
            line.split_once("holding ").map(|(_, addr)| addr.parse::<SocketAddr>().unwrap())
        });
        let held = held.expect("the child says what it holds");
        child.kill().unwrap();
        let bound = bind(held, cores, Steer::Kernel);
        child.wait().unwrap();
        assert_eq!(bound.unwrap().local, held);
    }
}

#[test]
#[ignore = "run by the two tests above, to be killed"]
fn held_until_killed() {
    let cores = std::env::var("PANGEA_CORES").map_or(1, |cores| cores.parse().unwrap());
    let (mut nodes, local) = nodes(crate::support::choice_of_child(), cores, Steer::Kernel);
    for node in &mut nodes {
        node.idle(Duration::from_millis(5));
    }
    println!("holding {local}");
    nodes[0].idle(crate::support::PATIENCE);
}
