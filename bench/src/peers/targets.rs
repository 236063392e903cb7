//! What we want to be, as ratios within one run, and what we are.

use super::subjects::WAN_MBIT;
use super::{Row, best_rival};
use crate::table::Table;

/// Ours in a test and a figure, divided by another's.
struct Target {
    what: &'static str,
    ours: &'static str,
    test: &'static str,
    figure: &'static str,
    against: Against,
    wanted: Wanted,
}

#[derive(Clone, Copy)]
enum Against {
    BestRival,
    Named(&'static str),
    /// Ours in another test.
    OursIn(&'static str),
    /// What the path carries.
    Path,
}

#[derive(Clone, Copy)]
enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

use Against::{BestRival, Named, OursIn, Path};
use Wanted::{AtLeast, AtMost};

const OURS: &str = "pangea-uring";
const SPINNING: &str = "pangea-uring-spin";

const TARGETS: [Target; 26] = [
    target("bulk, 1 stream", OURS, "bulk1", "gbps", BestRival, AtLeast(1.3)),
    target("bulk, 1 stream, CPU", OURS, "bulk1", "cpu", BestRival, AtMost(0.75)),
    target("bulk, 16 streams", OURS, "bulk16", "gbps", BestRival, AtLeast(1.3)),
    target("bulk, 16 streams, CPU", OURS, "bulk16", "cpu", BestRival, AtMost(0.75)),
    target("bulk, loopback's packets", OURS, "path1", "gbps", Named("tls"), AtLeast(0.6)),
    target("bulk, loopback's packets, 16", OURS, "path16", "gbps", Named("tls"), AtLeast(0.6)),
    target("round trip, spinning, p50", SPINNING, "rtt", "p50_us", BestRival, AtMost(0.5)),
    target("round trip, spinning, p99", SPINNING, "rtt", "p99_us", BestRival, AtMost(0.6)),
    target("datagram, spinning, p50", SPINNING, "dgram", "p50_us", BestRival, AtMost(0.5)),
    target("datagram, spinning, p99", SPINNING, "dgram", "p99_us", BestRival, AtMost(0.6)),
    target("round trip, sleeping, p50", OURS, "rtt", "p50_us", BestRival, AtMost(1.0)),
    target("requests, 32 in flight", OURS, "rate32", "per_s", BestRival, AtLeast(1.3)),
    target("requests, 96 in flight", OURS, "rate96", "per_s", BestRival, AtLeast(1.3)),
    target("handshakes, one at a time", OURS, "hs1", "per_s", BestRival, AtLeast(1.0)),
    target("handshakes, 8 at a time", OURS, "hs8", "per_s", BestRival, AtLeast(1.0)),
    target("two cores against one", OURS, "bulk1", "gbps", OursIn("one1"), AtLeast(1.8)),
    target("memory of a connection", OURS, "mem", "bytes_per_conn", Named("quinn"), AtMost(0.6)),
    target("10 ms, no loss", OURS, "wan-10-0", "mbps", Path, AtLeast(0.9)),
    target("50 ms, no loss", OURS, "wan-50-0", "mbps", Path, AtLeast(0.9)),
    target("100 ms, no loss", OURS, "wan-100-0", "mbps", Path, AtLeast(0.9)),
    target("10 ms, 0.1 % lost", OURS, "wan-10-0.1", "mbps", BestRival, AtLeast(1.0)),
    target("10 ms, 1 % lost", OURS, "wan-10-1", "mbps", BestRival, AtLeast(1.0)),
    target("50 ms, 0.1 % lost", OURS, "wan-50-0.1", "mbps", BestRival, AtLeast(1.0)),
    target("50 ms, 1 % lost", OURS, "wan-50-1", "mbps", BestRival, AtLeast(1.0)),
    target("100 ms, 0.1 % lost", OURS, "wan-100-0.1", "mbps", BestRival, AtLeast(1.0)),
    target("100 ms, 1 % lost", OURS, "wan-100-1", "mbps", BestRival, AtLeast(1.0)),
];

const fn target(
    what: &'static str,
    ours: &'static str,
    test: &'static str,
    figure: &'static str,
    against: Against,
    wanted: Wanted,
) -> Target {
    Target { what, ours, test, figure, against, wanted }
}

/// All targets for which both sides were measured, if there are any.
pub fn table(rows: &[Row]) -> Option<Table> {
    let columns = ["target", "ours", "against", "theirs", "ratio", "wanted", "met"];
    let mut table = Table::new("Targets (medians of this run)", &columns);
    for target in &TARGETS {
        let Some((ours, name, theirs)) = target.sides(rows) else { continue };
        let ratio = ours / theirs;
        let (wanted, met) = match target.wanted {
            AtLeast(wanted) => (format!(">= {wanted}"), ratio >= wanted),
            AtMost(wanted) => (format!("<= {wanted}"), ratio <= wanted),
        };
        table.row(&[
            target.what.to_owned(),
            format!("{ours:.2}"),
            name.to_owned(),
            format!("{theirs:.2}"),
            format!("{ratio:.2}"),
            wanted,
            if met { "yes" } else { "no" }.to_owned(),
        ]);
    }
    (!table.rows().is_empty()).then_some(table)
}

impl Target {
    /// Our figure, and whose it is compared with.
    fn sides<'a>(&self, rows: &'a [Row]) -> Option<(f64, &'a str, f64)> {
        let row = |name: &str, test: &str| {
            rows.iter().find(|row| row.test.name == test && row.subject.name == name)
        };
        let ours = row(self.ours, self.test)?;
        let median = |row| median(row, self.figure);
        let (name, theirs) = match self.against {
            Named(name) => (name, median(row(name, self.test)?)),
            OursIn(test) => (test, median(row(self.ours, test)?)),
            Path => ("the path", WAN_MBIT),
            BestRival => {
                let more_is_better = matches!(self.wanted, AtLeast(_));
                let best = best_rival(rows, self.test, self.figure, more_is_better)?;
                (best.subject.name, median(best))
            }
        };
        Some((median(ours), name, theirs))
    }
}

fn median(row: &Row, figure: &str) -> f64 {
    row.stats(figure).map_or(f64::NAN, |all| all.median)
}
