//! What the system says of addresses to which nothing gets is told, and costs nobody else anything.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use pangea_base::Unreachable;
use pangea_reactor::{DriverChoice, DriverConfig, Park, Steer, Transmit, Unreached, bind};

use crate::support::{Node, config, on_both};

on_both!(
    a_closed_port_is_told,
    a_closed_port_is_told_whatever_the_families,
    an_address_of_a_family_that_the_socket_lacks_is_told,
    nothing_is_told_to_who_wants_to_hear_nothing,
    who_listens_is_never_said_to_refuse,
    a_storm_of_refusals_costs_others_no_datagram_and_breaks_no_socket,
    what_waits_for_one_who_only_sends_is_told_too,
);

const REFUSED: Unreachable = Unreachable::System(libc::ECONNREFUSED);

/// An address at which nothing listens: one that was just given back.
fn closed(ip: &str) -> SocketAddr {
    UdpSocket::bind((ip, 0)).unwrap().local_addr().unwrap()
}

fn is_told(node: &mut Node, to: SocketAddr, what: Unreachable) {
    node.unreachable.clear();
    node.send(to, b"anybody there?");
    node.until("the system's word", |node| !node.unreachable.is_empty());
    assert_eq!(node.unreachable, [(to, what)]);
}

fn a_closed_port_is_told(choice: DriverChoice) {
    let mut node = Node::new(choice);
    for _ in 0..3 {
        is_told(&mut node, closed("127.0.0.1"), REFUSED);
    }
    // And the socket is as good as before.
    let mut other = Node::new(choice);
    node.send(other.addr, b"hello");
    other.until("the datagram", |other| !other.datagrams.is_empty());
    other.send(node.addr, b"hello");
    node.until("the answer", |node| !node.datagrams.is_empty());
}

fn a_closed_port_is_told_whatever_the_families(choice: DriverChoice) {
    if UdpSocket::bind("[::1]:0").is_err() {
        eprintln!("SKIPPED: this system has no IPv6 loopback");
        return;
    }
    let mut dual = Node::at(choice, "[::]:0");
    is_told(&mut dual, closed("127.0.0.1"), REFUSED);
    is_told(&mut dual, closed("::1"), REFUSED);
    is_told(&mut Node::at(choice, "[::1]:0"), closed("::1"), REFUSED);
}

fn an_address_of_a_family_that_the_socket_lacks_is_told(choice: DriverChoice) {
    is_told(&mut Node::new(choice), "[2001:db8::1]:9".parse().unwrap(), Unreachable::NoFamily);
}

fn nothing_is_told_to_who_wants_to_hear_nothing(choice: DriverChoice) {
    let bound = bind("127.0.0.1:0".parse().unwrap(), 1, Steer::Kernel).unwrap();
    let config = DriverConfig { unreached: Unreached::Ignored, ..config(choice) };
    let mut node = Node::open(&config, bound.sockets.into_iter().next().unwrap());
    for _ in 0..10 {
        node.send(closed("127.0.0.1"), b"anybody there?");
    }
    node.idle(Duration::from_millis(50));
    assert_eq!(node.unreachable, []);
    let stats = node.driver.stats();
    assert_eq!((stats.sent, stats.send_errors, stats.receive_errors), (10, 0, 0));
}

/// What others refuse is in the way of what is sent in between, several times in a row.
fn who_listens_is_never_said_to_refuse(choice: DriverChoice) {
    let (mut node, mut other) = (Node::new(choice), Node::new(choice));
    let nobody: Vec<SocketAddr> = (0..6).map(|_| closed("127.0.0.1")).collect();
    for round in 1..=100 {
        for to in nobody[..3].iter().chain([&other.addr]).chain(&nobody[3..]) {
            let mut buffer = node.driver.buffer().expect("there are more slots than that");
            buffer.extend_from_slice(b"anybody there?");
            let (dst, train) = (*to, Default::default());
            let transmit = Transmit { dst, src_ip: None, ecn: None, segment: None, train };
            node.driver.send(transmit, buffer);
        }
        node.poll(None, Park::Never);
        node.idle(Duration::from_millis(1));
        other.until("the datagram of this round", |other| other.datagrams.len() >= round);
    }
    let wrong = node.unreachable.iter().find(|(to, _)| !nobody.contains(to));
    assert_eq!(wrong, None);
    assert!(nobody.iter().all(|to| node.unreachable.contains(&(*to, REFUSED))));
}

fn a_storm_of_refusals_costs_others_no_datagram_and_breaks_no_socket(choice: DriverChoice) {
    let (mut node, mut other) = (Node::new(choice), Node::new(choice));
    let nobody = closed("127.0.0.1");
    for number in 0..300u32 {
        node.send(nobody, b"anybody there?");
        node.send(other.addr, &number.to_le_bytes());
        other.idle(Duration::ZERO);
        other.poll(None, Park::Never);
    }
    other.until("every datagram", |other| other.datagrams.len() == 300);
    assert!(!node.unreachable.is_empty());
    assert!(node.unreachable.iter().all(|said| *said == (nobody, REFUSED)));
    let stats = node.driver.stats();
    assert_eq!((stats.sent, stats.send_errors), (600, 0));
}

/// With one socket for all cores the one that receives hears of it, or the one whose send fails.
fn what_waits_for_one_who_only_sends_is_told_too(choice: DriverChoice) {
    let bound = bind("127.0.0.1:0".parse().unwrap(), 2, Steer::Mesh).unwrap();
    let mut nodes: Vec<Node> =
        bound.sockets.into_iter().map(|socket| Node::open(&config(choice), socket)).collect();
    let nobody = closed("127.0.0.1");
    let give_up = std::time::Instant::now() + Duration::from_secs(20);
    while nodes.iter().all(|node| node.unreachable.is_empty()) {
        assert!(std::time::Instant::now() < give_up, "nobody was told");
        nodes[1].send(nobody, b"anybody there?");
        nodes.iter_mut().for_each(|node| node.idle(Duration::from_millis(5)));
    }
    let said: Vec<_> = nodes.iter().flat_map(|node| &node.unreachable).collect();
    assert!(said.iter().all(|said| **said == (nobody, REFUSED)), "{said:?}");
}
