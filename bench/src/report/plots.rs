//! The five plots.

use super::data::Data;
use super::svg::{Anchor, Axis, Panel, WIDTH, plain};
use crate::peers::Kind;
use crate::table::Stats;
use crate::{ces, e2e};

/// A file of its own, and a figure of the page.
pub struct Plot {
    /// Of the file, without its ending.
    pub name: &'static str,
    pub title: &'static str,
    /// How it is read.
    pub caption: &'static str,
    /// None: nothing of it was measured.
    pub panels: Vec<Panel>,
}

/// All plots of a run.
pub fn all(data: &Data<'_>) -> Vec<Plot> {
    vec![
        Plot {
            name: "throughput",
            title: "Throughput by peer",
            caption: "Blue is ours, grey the others; outlined and dashed is what this machine does \
                      without QUIC. Bars are medians, whiskers the least and the greatest.",
            panels: throughput(data),
        },
        Plot {
            name: "rtt",
            title: "Round trips",
            caption: "200 bytes and 200 bytes back; each dot is a percentile, on a logarithmic \
                      scale. Dashed: the median of raw UDP, sleeping and spinning. Figures at the \
                      right: p50, p99, p99.9.",
            panels: round_trips(data),
        },
        Plot {
            name: "ces",
            title: "Encoding and decoding by chunk size",
            caption: "Compress, seal, stripe, code and hash on one core, and back; dashed is a copy \
                      of as many bytes in memory. Both scales are logarithmic.",
            panels: chunks(data),
        },
        Plot {
            name: "files",
            title: "Put and get by file size",
            caption: "Through whole nodes on this machine. A put ends when all of it is durable at \
                      its holders, and its limit is a copy that is synced; a get ends when the file \
                      is written, and its limit is a plain copy. Both scales are logarithmic.",
            panels: files(data),
        },
        Plot {
            name: "scaling",
            title: "Scaling over cores",
            caption: "One stream between two processes: both on one core (pale), and each on a core \
                      of its own (full). At the right: how many times one core's rate.",
            panels: scaling(data),
        },
    ]
}

/// Where the names end, and where the figures at the right begin.
const LEFT: f64 = 132.0;
const RIGHT: f64 = WIDTH - 44.0;
const TOP: f64 = 44.0;
const ROW: f64 = 23.0;

fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Ours => "ours",
        Kind::Rival => "rival",
        Kind::Limit => "limit",
    }
}

fn label(name: &str, kind: Kind) -> String {
    if kind == Kind::Limit { format!("limit: {name}") } else { name.to_owned() }
}

/// As in the tables, without the ends.
fn median(stats: Stats) -> String {
    stats.to_string().split(' ').next().unwrap_or_default().to_owned()
}

/// Named values of an axis from left to right, below `bottom`.
fn scale(panel: &mut Panel, axis: &Axis, (left, right): (f64, f64), bottom: f64) {
    for tick in &axis.ticks {
        let x = left + axis.at(*tick) * (right - left);
        panel.line((x, TOP - 4.0), (x, bottom), "hair");
        panel.text((x, bottom + 15.0), Anchor::Middle, "small", &plain(*tick));
    }
}

fn whisker(panel: &mut Panel, (from, to): (f64, f64), y: f64) {
    if to - from > 0.5 {
        panel.line((from, y), (to, y), "whisker");
        for end in [from, to] {
            panel.line((end, y - 3.0), (end, y + 3.0), "whisker");
        }
    }
}

/// In words, for those who cannot see it.
fn told(rows: &[(&str, Kind, Stats)], unit: &str) -> String {
    let told = rows.iter().map(|(name, kind, stats)| format!("{} {stats}", label(name, *kind)));
    format!("{unit}, median and least to greatest: {}.", told.collect::<Vec<_>>().join("; "))
}

// --- bars ---------------------------------------------------------------------------------------

fn throughput(data: &Data<'_>) -> Vec<Panel> {
    let tests = [
        ("bulk1", "One stream"),
        ("bulk16", "16 streams"),
        ("path1", "One stream, large packets"),
        ("path16", "16 streams, large packets"),
    ];
    let panel = |(test, title): (&str, &str)| {
        let rows = data.peers(test, "gbps");
        let size = if test.starts_with("path") { "as large as loopback has" } else { "of 1452 B" };
        (!rows.is_empty()).then(|| bars(title, &format!("Gbit/s, packets {size}"), &rows))
    };
    tests.into_iter().filter_map(panel).collect()
}

fn bars(title: &str, unit: &str, rows: &[(&str, Kind, Stats)]) -> Panel {
    let bottom = TOP + ROW * rows.len() as f64;
    let mut panel = Panel::new(title, unit, &told(rows, unit), bottom + 22.0);
    let axis = Axis::linear(rows.iter().map(|(_, _, stats)| stats.max).fold(0.0, f64::max));
    scale(&mut panel, &axis, (LEFT, RIGHT), bottom);
    let x = |value: f64| LEFT + axis.at(value) * (RIGHT - LEFT);
    for (at, (name, kind, stats)) in rows.iter().enumerate() {
        let middle = TOP + ROW * (at as f64 + 0.5);
        panel.text((LEFT - 8.0, middle + 4.0), Anchor::End, class(*kind), &label(name, *kind));
        panel.rect((LEFT, middle - 6.5), (x(stats.median), middle + 6.5), class(*kind));
        if *kind == Kind::Limit {
            panel.line((x(stats.median), TOP - 4.0), (x(stats.median), middle - 6.5), "mark");
        }
        whisker(&mut panel, (x(stats.min), x(stats.max)), middle);
        panel.text((WIDTH, middle + 4.0), Anchor::End, class(*kind), &median(*stats));
    }
    panel.line((LEFT, TOP - 4.0), (LEFT, bottom), "base");
    panel
}

fn scaling(data: &Data<'_>) -> Vec<Panel> {
    let rows: Vec<(&str, Kind, Stats, Stats)> = data
        .peers("bulk1", "gbps")
        .into_iter()
        .filter_map(|(name, kind, two)| Some((name, kind, data.peer(name, "one1", "gbps")?, two)))
        .collect();
    if rows.is_empty() {
        return Vec::new();
    }
    let tall = 2.0 * ROW - 12.0;
    let bottom = TOP + tall * rows.len() as f64;
    let about: Vec<String> = rows
        .iter()
        .map(|(name, kind, one, two)| format!("{} {one}, then {two}", label(name, *kind)))
        .collect();
    let about = format!("Gbit/s on one core, then on two: {}.", about.join("; "));
    let unit = "Gbit/s, packets of 1452 B";
    let mut panel = Panel::new("One core, two cores", unit, &about, bottom + 22.0);
    let axis =
        Axis::linear(rows.iter().map(|(_, _, one, two)| one.max.max(two.max)).fold(0.0, f64::max));
    scale(&mut panel, &axis, (LEFT, RIGHT), bottom);
    let x = |value: f64| LEFT + axis.at(value) * (RIGHT - LEFT);
    for (at, (name, kind, one, two)) in rows.iter().enumerate() {
        let middle = TOP + tall * (at as f64 + 0.5);
        panel.text((LEFT - 8.0, middle + 4.0), Anchor::End, class(*kind), &label(name, *kind));
        let pale = format!("{}-soft", class(*kind));
        for (stats, y, class) in
            [(one, middle - 6.5, pale.as_str()), (two, middle + 6.5, class(*kind))]
        {
            panel.rect((LEFT, y - 5.5), (x(stats.median), y + 5.5), class);
            whisker(&mut panel, (x(stats.min), x(stats.max)), y);
        }
        let times = format!("\u{d7}{:.2}", two.median / one.median);
        panel.text((WIDTH, middle + 4.0), Anchor::End, class(*kind), &times);
    }
    panel.line((LEFT, TOP - 4.0), (LEFT, bottom), "base");
    vec![panel]
}

// --- dots ---------------------------------------------------------------------------------------

const PERCENTILES: [(&str, &str); 3] = [("p50_us", "p50"), ("p99_us", "p99"), ("p999_us", "p99.9")];

/// A peer's three percentiles.
type Trip<'a> = (&'a str, Kind, [Stats; 3]);

fn round_trips(data: &Data<'_>) -> Vec<Panel> {
    let panel = |(test, title): (&str, &str)| {
        let rows = data.peers(test, PERCENTILES[0].0).into_iter();
        let trips = rows.filter_map(|(name, kind, first)| {
            let [_, second, third] = PERCENTILES.map(|(figure, _)| data.peer(name, test, figure));
            Some((name, kind, [first, second?, third?]))
        });
        let trips: Vec<Trip<'_>> = trips.collect();
        (!trips.is_empty()).then(|| dots(title, &trips))
    };
    [("rtt", "Each on a fresh stream"), ("dgram", "In one datagram each way")]
        .into_iter()
        .filter_map(panel)
        .collect()
}

fn dots(title: &str, rows: &[Trip<'_>]) -> Panel {
    let right = WIDTH - 124.0;
    let top = TOP + 14.0;
    let bottom = top + ROW * rows.len() as f64;
    let about = rows.iter().map(|(name, kind, [p50, p99, p999])| {
        format!("{} {p50}, {p99}, {p999}", label(name, *kind))
    });
    let about = format!("p50, p99, p99.9 in us: {}.", about.collect::<Vec<_>>().join("; "));
    let mut panel = Panel::new(title, "us, p50 \u{2013} p99 \u{2013} p99.9", &about, bottom + 22.0);
    let all = || rows.iter().flat_map(|(_, _, trip)| trip.iter());
    let least = all().map(|stats| stats.min).fold(f64::INFINITY, f64::min);
    let axis = Axis::log(least, all().map(|stats| stats.max).fold(0.0, f64::max), 6);
    scale(&mut panel, &axis, (LEFT, right), bottom);
    let x = |value: f64| LEFT + axis.at(value) * (right - LEFT);
    for (_, _, [p50, ..]) in rows.iter().filter(|(name, ..)| name.starts_with("udp")) {
        panel.line((x(p50.median), top - 4.0), (x(p50.median), bottom), "mark");
    }
    let mut named = 0.0;
    for (at, (name, kind, trip)) in rows.iter().enumerate() {
        let (middle, class) = (top + ROW * (at as f64 + 0.5), class(*kind));
        panel.text((LEFT - 8.0, middle + 4.0), Anchor::End, class, &label(name, *kind));
        panel.line((x(trip[0].median), middle), (x(trip[2].median), middle), class);
        for (stats, (_, percentile)) in trip.iter().zip(PERCENTILES) {
            panel.line((x(stats.min), middle), (x(stats.max), middle), "whisker");
            match percentile {
                "p50" => panel.dot((x(stats.median), middle), 5.0, class),
                "p99" => panel.dot((x(stats.median), middle), 3.5, class),
                _ => panel.dot((x(stats.median), middle), 3.5, &format!("hollow {class}")),
            }
            if at == 0 && x(stats.median) > named {
                named = x(stats.median) + 34.0;
                panel.text((x(stats.median), top - 8.0), Anchor::Middle, "small", percentile);
            }
        }
        let figures = trip.map(|stats| format!("{:.0}", stats.median)).join(" / ");
        panel.text((WIDTH, middle + 4.0), Anchor::End, class, &figures);
    }
    panel
}

// --- lines --------------------------------------------------------------------------------------

/// A named line; its class is also that of its name.
type Line = (&'static str, &'static str, Vec<(f64, Stats)>);

fn chunks(data: &Data<'_>) -> Vec<Panel> {
    let line =
        |class, name, column| (class, name, data.line(ces::SIZES_TITLE, "chunk KiB", column));
    let series = [
        line("limit", "limit: memcpy", "limit: memcpy"),
        line("second", "decode", "decode"),
        line("third", "decode, 4 lost", "decode, 4 lost"),
        line("first", "encode", "encode"),
    ];
    let size = |kib: f64| match kib {
        kib if kib < 1024.0 => format!("{} KiB", plain(kib)),
        kib => format!("{} MiB", plain(kib / 1024.0)),
    };
    lines("CES on one core", "GB/s of plaintext", &series, &size)
}

fn files(data: &Data<'_>) -> Vec<Panel> {
    let line =
        |class, name, column| (class, name, data.line(e2e::sizes::TITLE, "file MiB", column));
    let series = [
        line("second", "get", "get MB/s"),
        line("limit", "limit: copy", "limit: copy"),
        line("first", "put", "put MB/s"),
        line("limit", "limit: copy + fsync", "limit: copy + fsync"),
    ];
    lines("Whole nodes, one machine", "MB/s", &series, &|mib| format!("{} MiB", plain(mib)))
}

fn lines(title: &str, unit: &str, series: &[Line], size: &dyn Fn(f64) -> String) -> Vec<Panel> {
    let all = || series.iter().flat_map(|(_, _, points)| points);
    let Some(largest) = all().map(|(x, _)| *x).max_by(f64::total_cmp) else { return Vec::new() };
    let smallest = all().map(|(x, _)| *x).fold(largest, f64::min);
    let (left, right, bottom) = (34.0, WIDTH - 148.0, TOP + 236.0);
    let about = series.iter().map(|(_, name, points)| {
        let points = points.iter().map(|(x, stats)| format!("{} {stats}", size(*x)));
        format!("{name}: {}", points.collect::<Vec<_>>().join(", "))
    });
    let about = format!("{unit} by size. {}.", about.collect::<Vec<_>>().join("; "));
    let mut panel = Panel::new(title, unit, &about, bottom + 22.0);
    let least = all().map(|(_, stats)| stats.min).fold(f64::INFINITY, f64::min);
    let rows = Axis::log(least, all().map(|(_, stats)| stats.max).fold(0.0, f64::max), 7);
    let columns = Axis::log(smallest, largest, 7);
    let x = |value: f64| left + columns.at(value) * (right - left);
    let y = |value: f64| bottom - rows.at(value) * (bottom - TOP);
    for tick in &rows.ticks {
        panel.line((left, y(*tick)), (right, y(*tick)), "hair");
        panel.text((left - 6.0, y(*tick) + 4.0), Anchor::End, "small", &plain(*tick));
    }
    panel.line((left, bottom), (right, bottom), "base");
    if let Some((_, _, points)) = series.iter().max_by_key(|(_, _, points)| points.len()) {
        for (value, _) in points {
            panel.text((x(*value), bottom + 15.0), Anchor::Middle, "small", &size(*value));
        }
    }
    for (class, _, points) in series {
        let places: Vec<(f64, f64)> = points.iter().map(|(v, s)| (x(*v), y(s.median))).collect();
        panel.path(&places, class);
        for ((_, stats), (x, middle)) in points.iter().zip(places) {
            if y(stats.min) - y(stats.max) > 1.0 {
                panel.line((x, y(stats.min)), (x, y(stats.max)), "whisker");
            }
            panel.dot((x, middle), if *class == "limit" { 2.5 } else { 3.5 }, class);
        }
    }
    names(&mut panel, series, right + 8.0, &y);
    vec![panel]
}

/// The lines' names at their ends, each far enough from the one above it.
fn names(panel: &mut Panel, series: &[Line], x: f64, y: &dyn Fn(f64) -> f64) {
    let ends = series.iter().filter_map(|(class, name, points)| {
        let (_, stats) = points.last()?;
        Some((y(stats.median), *class, format!("{name} {}", median(*stats))))
    });
    let mut ends: Vec<(f64, &str, String)> = ends.collect();
    ends.sort_by(|(a, ..), (b, ..)| a.total_cmp(b));
    let mut free = f64::NEG_INFINITY;
    for (end, class, name) in ends {
        let place = end.max(free);
        panel.text((x, place + 4.0), Anchor::Start, class, &name);
        free = place + 15.0;
    }
}
