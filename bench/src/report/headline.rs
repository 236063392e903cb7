//! The figures at the top of the page: ours, and what each is to be seen beside.

use super::data::Data;
use crate::table::Stats;
use crate::{ces, e2e};

/// One figure.
pub struct Headline {
    pub what: String,
    pub figure: String,
    pub unit: &'static str,
    /// What stands beside it: the limit and the best of the others.
    pub beside: String,
    /// Which part of its limit it is, where more of it is better.
    pub share: Option<f64>,
}

/// Those whose rows were measured.
pub fn headlines(data: &Data<'_>) -> Vec<Headline> {
    let all = [
        bulk(data),
        trip(data),
        requests(data),
        cores(data),
        chunk(data, "encode"),
        chunk(data, "decode"),
        file(data, "Put", "put MB/s", "limit: copy + fsync"),
        file(data, "Get", "get MB/s", "limit: copy"),
        targets(data),
    ];
    all.into_iter().flatten().collect()
}

const OURS: &str = "pangea-uring";

fn short(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// The limit, then the best of the others, as far as they are there.
fn beside(limit: Option<(&str, f64)>, rival: Option<(&str, f64)>) -> String {
    let limit = limit.map(|(name, value)| format!("limit, {name}: {}", short(value)));
    let rival = rival.map(|(name, value)| format!("best other, {name}: {}", short(value)));
    limit.into_iter().chain(rival).collect::<Vec<_>>().join("\n")
}

fn bulk(data: &Data<'_>) -> Option<Headline> {
    let ours = data.peer(OURS, "bulk1", "gbps")?.median;
    let limit = data.peer("udp", "bulk1", "gbps").map(|stats| stats.median);
    Some(Headline {
        what: "One stream over loopback".to_owned(),
        figure: short(ours),
        unit: "Gbit/s",
        beside: beside(limit.map(|l| ("raw UDP", l)), data.best_rival("bulk1", "gbps", true)),
        share: limit.map(|limit| ours / limit),
    })
}

fn trip(data: &Data<'_>) -> Option<Headline> {
    let ours = data.peer("pangea-uring-spin", "rtt", "p50_us")?.median;
    let limit = data.peer("udp-spin", "rtt", "p50_us").map(|stats| ("raw UDP", stats.median));
    Some(Headline {
        what: "Round trip, spinning, p50".to_owned(),
        figure: short(ours),
        unit: "us",
        beside: beside(limit, data.best_rival("rtt", "p50_us", false)),
        share: None,
    })
}

fn requests(data: &Data<'_>) -> Option<Headline> {
    let ours = data.peer(OURS, "rate96", "per_s")?.median;
    let thousands = |(name, value): (&'static str, f64)| (name, value / 1e3);
    Some(Headline {
        what: "Requests, 96 in flight".to_owned(),
        figure: short(ours / 1e3),
        unit: "thousand/s",
        beside: beside(None, data.best_rival("rate96", "per_s", true).map(thousands)),
        share: None,
    })
}

fn cores(data: &Data<'_>) -> Option<Headline> {
    let one = data.peer(OURS, "one1", "gbps")?.median;
    let times = data.peer(OURS, "bulk1", "gbps")?.median / one;
    Some(Headline {
        what: "Two cores against one".to_owned(),
        figure: format!("\u{d7}{times:.2}"),
        unit: "",
        beside: "limit: \u{d7}2".to_owned(),
        share: Some(times / 2.0),
    })
}

/// What is in the middle of what is planned for, or next to it.
fn chunk(data: &Data<'_>, what: &str) -> Option<Headline> {
    let ours = data.line(ces::SIZES_TITLE, "chunk KiB", what);
    let limit = data.line(ces::SIZES_TITLE, "chunk KiB", "limit: memcpy");
    let nearest = |(kib, _): &(f64, Stats)| (kib - 16_384.0).abs();
    let (kib, ours) = *ours.iter().min_by(|a, b| nearest(a).total_cmp(&nearest(b)))?;
    let limit = limit.iter().find(|(size, _)| *size == kib)?.1.median;
    Some(Headline {
        what: format!("CES {what}, {} MiB, one core", kib / 1024.0),
        figure: short(ours.median),
        unit: "GB/s",
        beside: beside(Some(("memcpy", limit)), None),
        share: Some(ours.median / limit),
    })
}

fn file(data: &Data<'_>, what: &str, column: &str, limit: &str) -> Option<Headline> {
    let (mib, ours) = *data.line(e2e::sizes::TITLE, "file MiB", column).last()?;
    let beyond = data.line(e2e::sizes::TITLE, "file MiB", limit).last()?.1.median;
    let name = limit.trim_start_matches("limit: ");
    Some(Headline {
        what: format!("{what} of {mib} MiB, whole nodes"),
        figure: short(ours.median),
        unit: "MB/s",
        beside: beside(Some((name, beyond)), None),
        share: Some(ours.median / beyond),
    })
}

fn targets(data: &Data<'_>) -> Option<Headline> {
    let rows: Vec<_> = data.tables_of("Targets").flat_map(|table| table.rows()).collect();
    let met = rows.iter().filter(|row| row.last().is_some_and(|met| met == "yes")).count();
    (!rows.is_empty()).then(|| Headline {
        what: "Targets met".to_owned(),
        figure: format!("{met}/{}", rows.len()),
        unit: "",
        beside: "of those that could be compared".to_owned(),
        share: Some(met as f64 / rows.len() as f64),
    })
}
