//! UDP: what is sent arrives, with its marks.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use pangea_reactor::{
    DriverChoice, DriverConfig, Ecn, Park, SEND_BUFFER_BYTES, Steer, Transmit, bind,
};

use crate::support::{Node, config, on_both};

on_both!(
    a_datagram_arrives_with_its_sender,
    datagrams_arrive_over_ipv6,
    a_dual_stack_node_talks_to_both_families,
    an_ipv6_only_node_does_not_send_to_ipv4,
    a_train_arrives_whole_and_joined,
    the_largest_train_arrives,
    every_ecn_mark_survives_single_and_joined,
    the_local_address_is_told_and_can_be_chosen,
    a_datagram_over_the_mtu_is_dropped_and_the_driver_lives,
    what_cannot_be_sent_is_counted,
    an_empty_message_gives_its_buffer_back,
    full_slots_refuse_until_one_is_free,
    a_datagram_of_no_bytes_is_no_event,
    more_datagrams_than_buffers_all_arrive,
    grown_buffers_are_given_back_when_traffic_ends,
    a_spinning_driver_receives_too,
);

fn pair(choice: DriverChoice) -> (Node, Node) {
    (Node::new(choice), Node::new(choice))
}

fn plain(dst: SocketAddr) -> Transmit {
    Transmit { dst, src_ip: None, ecn: None, segment: None, train: Default::default() }
}

fn numbered(count: usize, bytes: usize) -> Vec<u8> {
    (0..count).flat_map(|i| vec![i as u8; bytes]).collect()
}

fn a_datagram_arrives_with_its_sender(choice: DriverChoice) {
    let (mut a, mut b) = pair(choice);
    a.send(b.addr, b"hello");
    b.until("the datagram", |b| !b.datagrams.is_empty());
    assert_eq!((b.datagrams[0].remote, &b.datagrams[0].data[..]), (a.addr, &b"hello"[..]));
    assert_eq!((a.driver.stats().sent, a.driver.stats().sent_bytes), (1, 5));
    assert_eq!((b.driver.stats().received, b.driver.stats().received_bytes), (1, 5));
}

/// Without IPv6 in the kernel there is nothing to ask; says so.
fn has_ipv6() -> bool {
    let has = UdpSocket::bind("[::1]:0").is_ok();
    if !has {
        eprintln!("SKIPPED: this system has no IPv6 loopback");
    }
    has
}

fn datagrams_arrive_over_ipv6(choice: DriverChoice) {
    if !has_ipv6() {
        return;
    }
    let (mut a, mut b) = (Node::at(choice, "[::1]:0"), Node::at(choice, "[::1]:0"));
    let transmit = Transmit { ecn: Some(Ecn::Ect1), segment: Some(100), ..plain(b.addr) };
    a.send_as(transmit, &numbered(5, 100));
    b.until("five datagrams", |b| b.datagrams.len() == 5);
    for datagram in &b.datagrams {
        assert_eq!((datagram.remote, datagram.ecn), (a.addr, Some(Ecn::Ect1)));
        assert_eq!(datagram.local_ip, Some(b.addr.ip()));
    }
}

fn a_dual_stack_node_talks_to_both_families(choice: DriverChoice) {
    if !has_ipv6() {
        return;
    }
    let mut dual = Node::at(choice, "[::]:0");
    let mut v4 = Node::new(choice);
    let mut v6 = Node::at(choice, "[::1]:0");
    let port = dual.addr.port();
    for (node, dst) in [
        (&mut v4, SocketAddr::new("127.0.0.1".parse().unwrap(), port)),
        (&mut v6, SocketAddr::new("::1".parse().unwrap(), port)),
    ] {
        node.send_as(Transmit { ecn: Some(Ecn::Ect0), ..plain(dst) }, b"in");
        let before = dual.datagrams.len();
        dual.until("a datagram", |dual| dual.datagrams.len() > before);
        let got = dual.datagrams[before].clone();
        assert_eq!((got.remote, got.ecn), (node.addr, Some(Ecn::Ect0)));
        assert_eq!(got.local_ip, Some(dst.ip()));
        // And back, from the address that was written to.
        let back = Transmit {
            src_ip: got.local_ip,
            ecn: Some(Ecn::Ce),
            segment: Some(3),
            ..plain(got.remote)
        };
        dual.send_as(back, b"outout");
        node.until("the answer", |node| node.datagrams.len() == 2);
        assert_eq!((node.datagrams[1].remote, node.datagrams[1].ecn), (dst, Some(Ecn::Ce)));
    }
}

fn an_ipv6_only_node_does_not_send_to_ipv4(choice: DriverChoice) {
    if !has_ipv6() {
        return;
    }
    let mut v4 = Node::new(choice);
    let mut v6 = Node::at(choice, "[::1]:0");
    v6.send(v4.addr, b"no way");
    v4.send(v6.addr, b"no way");
    let errors = |node: &Node| node.driver.stats().send_errors;
    v6.until("the refusal", |node| errors(node) == 1);
    v4.until("the refusal", |node| errors(node) == 1);
}

fn a_train_arrives_whole_and_joined(choice: DriverChoice) {
    let (mut a, mut b) = pair(choice);
    // Ten of 1200 bytes and a shorter one behind them.
    let mut train = numbered(10, 1200);
    train.extend_from_slice(&[99; 7]);
    a.send_as(Transmit { segment: Some(1200), ..plain(b.addr) }, &train);
    b.until("eleven datagrams", |b| b.datagrams.len() == 11);
    for (i, datagram) in b.datagrams[..10].iter().enumerate() {
        assert_eq!(datagram.data, vec![i as u8; 1200]);
    }
    assert_eq!(b.datagrams[10].data, vec![99; 7]);
    if b.driver.caps().gro && a.driver.caps().max_gso_segments > 1 {
        assert_eq!(b.batches, 1, "a train over loopback is not taken apart");
    }
}

fn the_largest_train_arrives(choice: DriverChoice) {
    let (mut a, mut b) = pair(choice);
    let caps = a.driver.caps();
    let segments = (caps.send_bytes_max / 1200).min(64);
    a.send_as(Transmit { segment: Some(1200), ..plain(b.addr) }, &numbered(segments, 1200));
    b.until("the train", |b| b.datagrams.len() == segments);
    // And the largest single datagram; one byte more is refused by the system.
    b.datagrams.clear();
    a.send(b.addr, &vec![7; caps.send_bytes_max]);
    b.until("the giant", |b| !b.datagrams.is_empty());
    assert_eq!(b.datagrams[0].data.len(), caps.send_bytes_max);
    a.send(b.addr, &vec![7; caps.send_bytes_max + 1]);
    a.until("the refusal", |a| a.driver.stats().send_too_long == 1);
}

fn every_ecn_mark_survives_single_and_joined(choice: DriverChoice) {
    let (mut a, mut b) = pair(choice);
    for ecn in [None, Some(Ecn::Ect0), Some(Ecn::Ect1), Some(Ecn::Ce)] {
        for (segment, count) in [(None, 1), (Some(100), 10)] {
            b.datagrams.clear();
            let transmit = Transmit { ecn, segment, ..plain(b.addr) };
            a.send_as(transmit, &numbered(count, 100));
            b.until("the datagrams", |b| b.datagrams.len() == count);
            assert!(b.datagrams.iter().all(|datagram| datagram.ecn == ecn), "{ecn:?} x{count}");
        }
    }
}

fn the_local_address_is_told_and_can_be_chosen(choice: DriverChoice) {
    let mut any = Node::at(choice, "0.0.0.0:0");
    let mut peer = Node::new(choice);
    let second: IpAddr = "127.0.0.2".parse().unwrap();
    peer.send(SocketAddr::new(second, any.addr.port()), b"to the second");
    any.until("the datagram", |any| !any.datagrams.is_empty());
    assert_eq!(any.datagrams[0].local_ip, Some(second));
    any.send_as(Transmit { src_ip: Some(second), ..plain(peer.addr) }, b"from the second");
    peer.until("the answer", |peer| !peer.datagrams.is_empty());
    assert_eq!(peer.datagrams[0].remote, SocketAddr::new(second, any.addr.port()));
}

fn a_datagram_over_the_mtu_is_dropped_and_the_driver_lives(choice: DriverChoice) {
    // Over loopback the limit is the IP packet: 65,507 bytes of payload.
    let (mut a, mut b) = pair(choice);
    a.send(b.addr, &[1; SEND_BUFFER_BYTES]);
    a.until("the refusal", |a| a.driver.stats().send_too_long == 1);
    assert_eq!(a.driver.stats().sent, 0);
    a.send(b.addr, b"after");
    b.until("the next one", |b| !b.datagrams.is_empty());
    assert_eq!(b.datagrams[0].data, b"after");
    assert!(a.driver.caps().max_gso_segments > 1 || !cfg!(target_os = "linux"));
}

fn what_cannot_be_sent_is_counted(choice: DriverChoice) {
    let (mut a, mut b) = pair(choice);
    for dst in ["127.0.0.1:0", "0.0.0.0:9"] {
        a.send(dst.parse().unwrap(), b"nowhere");
    }
    assert_eq!(a.driver.stats().send_errors, 2);
    a.send(b.addr, b"somewhere");
    b.until("the next one", |b| !b.datagrams.is_empty());
}

fn an_empty_message_gives_its_buffer_back(choice: DriverChoice) {
    let mut a = Node::new(choice);
    for _ in 0..100 {
        let to = plain(a.addr);
        a.send_as(to, b"");
        a.send_as(Transmit { segment: Some(0), ..to }, b"x");
    }
    assert_eq!(a.driver.stats().sent, 0);
}

fn full_slots_refuse_until_one_is_free(choice: DriverChoice) {
    let (mut a, mut b) = pair(choice);
    let slots = usize::from(config(choice).send_slots);
    let mut buffers: Vec<Vec<u8>> =
        (0..slots).map(|_| a.driver.buffer().expect("a slot")).collect();
    assert!(buffers.iter().all(|b| b.is_empty() && b.capacity() >= SEND_BUFFER_BYTES));
    assert!(a.driver.buffer().is_none(), "one past the limit");
    a.poll(None, Park::Never);
    assert_eq!(a.send_ready, 0);
    for buffer in &mut buffers {
        buffer.extend_from_slice(b"full");
    }
    let to = b.addr;
    buffers.into_iter().for_each(|buffer| a.driver.send(plain(to), buffer));
    a.until("a free slot", |a| a.send_ready == 1);
    b.until("all of them", |b| b.datagrams.len() == slots);
    a.poll(None, Park::Never);
    assert_eq!(a.send_ready, 1, "said once");
    let again: Vec<_> = (0..slots).map(|_| a.driver.buffer().expect("all are back")).collect();
    again.into_iter().for_each(|buffer| a.driver.recycle(buffer));
}

fn a_datagram_of_no_bytes_is_no_event(choice: DriverChoice) {
    let mut b = Node::new(choice);
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(b"", b.addr).unwrap();
    stranger.send_to(b"x", b.addr).unwrap();
    b.until("the other one", |b| !b.datagrams.is_empty());
    assert_eq!(b.datagrams.len(), 1);
}

fn more_datagrams_than_buffers_all_arrive(choice: DriverChoice) {
    let b = flooded(choice);
    if choice == DriverChoice::Uring {
        assert!(b.driver.stats().receive_starved > 0);
        assert_eq!(b.driver.stats().receive_buffers, 7, "it grew to its limit");
    }
}

fn grown_buffers_are_given_back_when_traffic_ends(choice: DriverChoice) {
    let mut b = flooded(choice);
    b.idle(std::time::Duration::from_millis(4500));
    assert!(b.driver.stats().trims > 0);
    b.datagrams.clear();
    let to = b.addr;
    for i in 0..20 {
        b.send(to, &[i]);
        b.until("a datagram", |b| b.datagrams.len() > usize::from(i));
    }
    assert_eq!(b.driver.stats().receive_buffers, 2, "as many as at the start");
}

/// A node with two buffers to begin with, and 200 datagrams waiting before its first poll: the
/// buffers run out at once.
fn flooded(choice: DriverChoice) -> Node {
    let bound = bind("127.0.0.1:0".parse().unwrap(), 1, Steer::Kernel).unwrap();
    let config = DriverConfig { receive_buffers: 2, receive_buffers_max: 7, ..config(choice) };
    let mut b = Node::open(&config, bound.sockets.into_iter().next().unwrap());
    // Each from a port of its own, so that they are not joined.
    let strangers: Vec<_> = (0..50).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    for round in 0..4u8 {
        for stranger in &strangers {
            stranger.send_to(&[round; 500], b.addr).unwrap();
        }
    }
    b.until("all of them", |b| b.datagrams.len() == 200);
    b
}

fn a_spinning_driver_receives_too(choice: DriverChoice) {
    let bound = bind("127.0.0.1:0".parse().unwrap(), 1, Steer::Kernel).unwrap();
    let spin = std::time::Duration::from_millis(2);
    let config = DriverConfig { spin, ..config(choice) };
    let mut b = Node::open(&config, bound.sockets.into_iter().next().unwrap());
    let mut a = Node::new(choice);
    for i in 0..20 {
        a.send(b.addr, &[i]);
        b.until("the datagram", |b| b.datagrams.len() == usize::from(i) + 1);
    }
}
