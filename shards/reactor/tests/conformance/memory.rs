//! Memory: taken when used, given back when idle.

#![cfg(target_os = "linux")]

use std::process::Command;
use std::time::Duration;

use pangea_reactor::{DriverChoice, DriverConfig, Steer, Transmit, bind};

use crate::support::{Node, config, on_both};

on_both!(an_idle_driver_is_small_and_small_again_after_load);

/// In a process of its own: the memory of other tests would be counted too.
fn an_idle_driver_is_small_and_small_again_after_load(choice: DriverChoice) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory::measured", "--ignored", "--nocapture"])
        .env("PANGEA_DRIVER", crate::support::name_of(choice))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let text = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    print!("{text}");
}

fn resident_kib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4
}

#[test]
#[ignore = "run by the two tests above, in a process of its own"]
fn measured() {
    let choice = crate::support::choice_of_child();
    let before = resident_kib();
    let bound = bind("127.0.0.1:0".parse().unwrap(), 1, Steer::Kernel).unwrap();
    let large = DriverConfig {
        receive_buffers: 128,
        receive_buffers_max: 512,
        send_slots: 64,
        ..config(choice)
    };
    let mut node = Node::open(&large, bound.sockets.into_iter().next().unwrap());
    node.idle(Duration::from_millis(10));
    let idle = resident_kib() - before;

    // Every buffer used to its end.
    let to = node.addr;
    let (segment, train) = (Some(1200), Default::default());
    let transmit = Transmit { dst: to, src_ip: None, ecn: None, segment, train };
    for _ in 0..40 {
        let buffers: Vec<Vec<u8>> = (0..20).map(|_| node.driver.buffer().unwrap()).collect();
        for mut buffer in buffers {
            buffer.resize(54 * 1200, 1);
            node.driver.send(transmit, buffer);
        }
        node.idle(Duration::from_millis(1));
        node.datagrams = Vec::new();
    }
    // What is still on its way, a batch per turn.
    node.idle(Duration::from_millis(100));
    node.datagrams = Vec::new();
    let loaded = resident_kib() - before;
    node.idle(Duration::from_millis(4500));
    let after = resident_kib().saturating_sub(before);
    println!("{choice:?}: idle {idle} KiB, loaded {loaded} KiB, after {after} KiB");
    assert!(idle < 2048, "an unused driver took {idle} KiB");
    assert!(loaded > idle + 1024, "the load used the buffers: {loaded} KiB");
    assert!(node.driver.stats().trims > 0);
    // What the test itself took, a train taken apart, may stay with the allocator.
    assert!(after < idle + 1024, "{after} KiB are still held, {loaded} under load");
    // And it works on.
    node.send(to, b"again");
    node.until("a datagram", |node| !node.datagrams.is_empty());
}
