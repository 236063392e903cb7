//! Who is measured, and in what.

/// A measurement of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Test {
    /// Its name in tables and in `--tests`.
    pub name: &'static str,
    /// The words that ask a peer's program for it.
    pub words: &'static [&'static str],
    /// For people.
    pub title: &'static str,
    /// The figure that decides, and whether more of it is better.
    pub figure: &'static str,
    pub more_is_better: bool,
}

/// All tests, in the order of the tables.
pub const TESTS: [Test; 12] = [
    bulk("bulk1", &["bulk", "streams=1"], "One stream, packets as on Ethernet (1452 B)"),
    bulk("bulk16", &["bulk", "streams=16"], "16 streams, packets as on Ethernet (1452 B)"),
    bulk(
        "path1",
        &["bulk", "streams=1", "mtu=65507"],
        "One stream, packets as large as loopback has",
    ),
    bulk(
        "path16",
        &["bulk", "streams=16", "mtu=65507"],
        "16 streams, packets as large as loopback has",
    ),
    bulk(
        "one1",
        &["bulk", "streams=1", "server_core=0"],
        "One stream, 1452 B, both processes on one core",
    ),
    round_trip("rtt", &["rtt"], "200 B and 200 B back, each on a fresh stream"),
    round_trip("dgram", &["dgram"], "200 B and 200 B back, in one datagram each way"),
    rate("rate32", &["rate", "inflight=32"], "Requests of 200 B, 32 in flight"),
    rate("rate96", &["rate", "inflight=96"], "Requests of 200 B, 96 in flight"),
    rate("hs1", &["hs", "inflight=1"], "Full handshakes, one at a time"),
    rate("hs8", &["hs", "inflight=8"], "Full handshakes, 8 at a time"),
    Test {
        name: "mem",
        words: &["mem"],
        title: "Memory of the server for an idle connection, over 1,000",
        figure: "bytes_per_conn",
        more_is_better: false,
    },
];

/// What the path of the tests below carries.
pub const WAN_MBIT: f64 = 200.0;

/// Bulk over a path of 200 Mbit/s, all with BBR where they have it, once it has got going.
pub const WAN: [Test; 9] = [
    bulk("wan-10-0", &["bulk", "path=10,0,200", "bbr=1", "warmup=3"], "10 ms, no loss"),
    bulk("wan-10-0.1", &["bulk", "path=10,0.1,200", "bbr=1", "warmup=3"], "10 ms, 0.1 % lost"),
    bulk("wan-10-1", &["bulk", "path=10,1,200", "bbr=1", "warmup=3"], "10 ms, 1 % lost"),
    bulk("wan-50-0", &["bulk", "path=50,0,200", "bbr=1", "warmup=3"], "50 ms, no loss"),
    bulk("wan-50-0.1", &["bulk", "path=50,0.1,200", "bbr=1", "warmup=3"], "50 ms, 0.1 % lost"),
    bulk("wan-50-1", &["bulk", "path=50,1,200", "bbr=1", "warmup=3"], "50 ms, 1 % lost"),
    bulk("wan-100-0", &["bulk", "path=100,0,200", "bbr=1", "warmup=3"], "100 ms, no loss"),
    bulk("wan-100-0.1", &["bulk", "path=100,0.1,200", "bbr=1", "warmup=3"], "100 ms, 0.1 % lost"),
    bulk("wan-100-1", &["bulk", "path=100,1,200", "bbr=1", "warmup=3"], "100 ms, 1 % lost"),
];

const fn bulk(name: &'static str, words: &'static [&'static str], title: &'static str) -> Test {
    Test { name, words, title, figure: "gbps", more_is_better: true }
}

const fn round_trip(
    name: &'static str,
    words: &'static [&'static str],
    title: &'static str,
) -> Test {
    Test { name, words, title, figure: "p50_us", more_is_better: false }
}

const fn rate(name: &'static str, words: &'static [&'static str], title: &'static str) -> Test {
    Test { name, words, title, figure: "per_s", more_is_better: true }
}

/// A row of the tables.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    pub name: &'static str,
    /// Another's, that ours is compared with.
    pub is_rival: bool,
    /// A package of `bench/peers`; none: this program.
    pub package: Option<&'static str>,
    /// Words for its program, besides the test's.
    pub words: &'static [&'static str],
    /// The tests that it takes part in.
    pub tests: &'static [&'static str],
}

const ALL: &[&str] =
    &["bulk1", "bulk16", "one1", "rtt", "dgram", "rate32", "rate96", "hs1", "hs8", "mem"];
const OURS: &[&str] = &[
    "bulk1", "bulk16", "path1", "path16", "one1", "rtt", "dgram", "rate32", "rate96", "hs1", "hs8",
    "mem",
];
const TRIPS: &[&str] = &["rtt", "dgram"];

/// All rows.
pub const SUBJECTS: [Subject; 15] = [
    ours("pangea-uring", &["driver=uring"], OURS),
    ours("pangea-mio", &["driver=mio"], OURS),
    ours("pangea-uring-spin", &["driver=uring", "spin=1"], TRIPS),
    ours("pangea-mio-spin", &["driver=mio", "spin=1"], TRIPS),
    ours("pangea-shipped", &["tls=shipped"], OURS),
    rival("quinn", "peer-quinn", ALL),
    rival("s2n-quic", "peer-s2n", ALL),
    rival("quiche", "peer-quiche", ALL),
    rival("noq", "peer-noq", ALL),
    rival("ant-quic", "peer-ant", ALL),
    rival("fastnet", "peer-fastnet", &["dgram"]),
    limit("udp", &["limit=udp"], &["bulk1", "path1", "one1", "rtt", "dgram"]),
    limit("udp-spin", &["limit=udp-spin"], TRIPS),
    limit("tcp", &["limit=tcp"], &["bulk1", "path1", "one1", "rtt"]),
    limit("tls", &["limit=tls"], &["bulk1", "bulk16", "path1", "path16", "one1"]),
];

const fn ours(
    name: &'static str,
    words: &'static [&'static str],
    tests: &'static [&'static str],
) -> Subject {
    Subject { name, is_rival: false, package: None, words, tests }
}

const fn rival(
    name: &'static str,
    package: &'static str,
    tests: &'static [&'static str],
) -> Subject {
    Subject { name, is_rival: true, package: Some(package), words: &[], tests }
}

const fn limit(
    name: &'static str,
    words: &'static [&'static str],
    tests: &'static [&'static str],
) -> Subject {
    Subject { name, is_rival: false, package: Some("peer-limits"), words, tests }
}

impl Subject {
    /// Whether it has this test. All that carry one stream carry it over a longer path too, and
    /// there one of ours will do.
    pub fn takes(&self, test: &Test) -> bool {
        match WAN.iter().any(|wan| wan.name == test.name) {
            true => self.is_rival && self.tests.contains(&"bulk1") || self.name == "pangea-uring",
            false => self.tests.contains(&test.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_of_every_subject_exists_and_names_differ() {
        for subject in SUBJECTS {
            for name in subject.tests {
                assert!(TESTS.iter().any(|test| test.name == *name), "{}: {name}", subject.name);
            }
            assert_eq!(SUBJECTS.iter().filter(|other| other.name == subject.name).count(), 1);
        }
    }
}
