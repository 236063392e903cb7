//! A report of rows that nobody measured: all of it is in it, and nothing else is needed to see it.

use serde_json::json;

use super::*;
use crate::table::{Table, stats};

#[test]
fn a_report_is_whole_and_well_formed() {
    let report = made_up();
    let files = report.files();
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    let plots = ["throughput.svg", "rtt.svg", "ces.svg", "files.svg", "scaling.svg"];
    assert_eq!(names, [&plots[..], &["report.html"]].concat());
    for (name, text) in &files {
        well_formed(name, text);
        alone(name, text);
        assert!(!text.contains("NaN") && !text.contains("inf\""), "{name}");
    }
    let page = &files[5].1;
    for wanted in [
        "peer-quinn &lt;does not build&gt;",
        "e2e failed: a disk &amp; its end",
        "quiche",
        "Targets met",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
    // Its headline, its plots and its table.
    assert!(page.matches("12.5").count() >= 3);
    assert_eq!(page.matches("<svg").count(), 7, "throughput and round trips have two panels here");
    assert_eq!(page.matches("<table>").count(), 5);
}

#[test]
fn a_report_without_any_rows_says_so() {
    let part = Part { outcome: Err("there is nothing".to_owned()), ..part("peers") };
    let report = Report { parts: vec![part], machine: machine::look(), warnings: Vec::new() };
    for (name, text) in report.files() {
        well_formed(&name, &text);
        assert_ne!(name == "report.html", !text.contains("Nothing of it was measured"), "{name}");
    }
    assert_eq!(report.outcome(), Err("failed: peers; the report says why".to_owned()));
}

#[test]
fn options_are_read_and_others_refused() {
    let parse = |rest: &[&str]| {
        let rest = rest.iter().map(|word| word.to_string()).collect();
        let output = Output::Aligned;
        let (seconds, repeats) = (1.0, 1);
        Wishes::parse(&Options {
            output,
            seconds,
            seconds_given: false,
            repeats,
            repeats_given: true,
            rest,
        })
    };
    let wishes = parse(&["--quick", "--out", "there", "--dir", "here"]).expect("all are known");
    assert!(wishes.quick && wishes.repeats == Some(1) && wishes.seconds.is_none());
    assert_eq!((wishes.out, wishes.dir), (PathBuf::from("there"), "here".to_owned()));
    for wrong in [&["--quick"][..], &["--out"], &["--out", "there", "--fast"]] {
        assert!(parse(wrong).is_err(), "{wrong:?}");
    }
}

fn part(name: &'static str) -> Part {
    let kept = Kept::default();
    Part { name, about: "What it is", outcome: Ok(()), kept, took: Duration::from_secs(61) }
}

fn made_up() -> Report {
    let output = Output::Kept(RefCell::default());
    let mut table = Table::new("bulk1: One stream", &["peer", "Gbit/s", "to best rival"]);
    let mut rows = Vec::new();
    for (at, peer) in ["pangea-uring", "quiche", "udp"].into_iter().enumerate() {
        let gbps = stats(&[12.5 + at as f64, 11.0, 20.0]);
        table.row(&[peer.to_owned(), gbps.to_string(), "-".to_owned()]);
        for test in ["bulk1", "bulk16", "one1"] {
            let (least, most) = (gbps.min, gbps.max);
            rows.push(json!({"peer": peer, "test": test, "gbps": gbps.median, "gbps_min": least,
                "gbps_max": most}));
        }
        for test in ["rtt", "dgram"] {
            let mut row = json!({ "peer": peer, "test": test });
            for (figure, value) in [("p50_us", 20.5), ("p99_us", 41.0), ("p999_us", 300.0)] {
                row[figure] = value.into();
                row[format!("{figure}_min")] = (value * 0.9).into();
                row[format!("{figure}_max")] = (value * 1.2).into();
            }
            rows.push(row);
        }
    }
    output.table_as(table, rows.iter().map(ToString::to_string).collect());
    let mut targets = Table::new("Targets (medians of this run)", &["target", "met"]);
    targets.row(&["bulk".to_owned(), "yes".to_owned()]);
    output.table(targets);
    output.remark("peers: quinn is left out: peer-quinn <does not build>");
    let peers = Part { kept: kept(output), ..part("peers") };
    let output = Output::Kept(RefCell::default());
    output.table(sized(
        crate::ces::SIZES_TITLE,
        &["chunk KiB", "encode", "decode", "decode, 4 lost", "limit: memcpy"],
        &["64", "16384"],
    ));
    let ces = Part { kept: kept(output), ..part("ces") };
    let output = Output::Kept(RefCell::default());
    output.table(sized(
        e2e::sizes::TITLE,
        &["file MiB", "put MB/s", "limit: copy + fsync", "get MB/s", "limit: copy"],
        &["1", "16", "256"],
    ));
    output.table(Table::new("a table <without> rows", &["what", "x\"y"]));
    let outcome = Err("a disk & its end".to_owned());
    let e2e = Part { kept: kept(output), outcome, ..part("e2e") };
    let warnings = vec!["made up".to_owned()];
    Report { parts: vec![peers, ces, e2e], machine: machine::look(), warnings }
}

fn sized(title: &str, columns: &[&str], sizes: &[&str]) -> Table {
    let mut table = Table::new(title, columns);
    for size in sizes {
        let cells = columns.iter().enumerate().map(|(at, _)| match at {
            0 => size.to_string(),
            _ => stats(&[at as f64, 1.5 * at as f64]).to_string(),
        });
        table.row(&cells.collect::<Vec<_>>());
    }
    table
}

fn kept(output: Output) -> Kept {
    match output {
        Output::Kept(kept) => kept.into_inner(),
        Output::Aligned | Output::Json => Kept::default(),
    }
}

/// Every element that begins ends, in order; attributes are in quotes, and no `&` stands alone.
fn well_formed(name: &str, text: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        check_text(name, &rest[..at]);
        let end = rest[at..].find('>').unwrap_or_else(|| panic!("{name}: a tag without end"));
        let tag = &rest[at + 1..at + end];
        rest = &rest[at + end + 1..];
        let element = tag.split([' ', '\n', '/']).find(|part| !part.is_empty()).unwrap_or_default();
        assert_eq!(tag.matches('"').count() % 2, 0, "{name}: <{tag}>");
        match tag {
            _ if tag.starts_with('!') => assert_eq!(tag, "!doctype html"),
            _ if tag.starts_with('/') => {
                assert_eq!(open.pop(), Some(element), "{name}: </{element}>")
            }
            _ if tag.ends_with('/') => {}
            _ => open.push(element),
        }
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{name}: {open:?} did not end");
}

fn check_text(name: &str, text: &str) {
    for (at, _) in text.match_indices('&') {
        let entity = text[at..].split(';').next().unwrap_or_default();
        let known = ["&amp", "&lt", "&gt", "&quot", "&#39"].contains(&entity);
        assert!(known, "{name}: '{entity}'");
    }
}

/// Nothing is fetched and nothing runs.
fn alone(name: &str, text: &str) {
    let own = text.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    for word in ["http://", "https://", "<script", "<link", "<img", "@import", "url(", "src="] {
        assert!(!own.contains(word), "{name}: {word}");
    }
}
