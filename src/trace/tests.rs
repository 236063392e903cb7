use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use pangea_base::{CoreId, PeerId};
use pangea_trace::{
    Clock, Event, EventData, Kind, LogConfig, Sampling, StreamReader, Tracer, flags, trace_event,
};

use super::*;

const EVENTS: usize = 64;

fn recorders(cores: u8) -> Recorders {
    let log = |core| {
        EventLog::start(|| LogConfig {
            node: PeerId([7; 32]),
            core: CoreId(core),
            seed: [1, u64::from(core)],
            anchor: Instant::now(),
            anchor_nanos: 1_000_000,
            clock: Clock::Tick,
            sampling: Sampling::ALL,
            events: EVENTS,
        })
    };
    Recorders::new("shelf", (0..=cores).map(log).collect())
}

fn tracer(recorders: &Recorders, core: usize) -> Tracer {
    recorders.logs.get(core).and_then(EventLog::tracer).unwrap()
}

fn code(tracer: &Tracer, stripe: u64) {
    trace_event!(tracer, Event::new(EventData::StripeCoded { chunk: 1, stripe, k: 3, m: 1 }));
}

fn ask(data: &Path, request: &str) -> UnixStream {
    let mut stream = UnixStream::connect(data.join(SOCKET)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let _ = stream.write_all(request.as_bytes());
    stream
}

fn say(data: &Path, request: &[u8]) -> String {
    let mut stream = ask(data, "");
    let _ = stream.write_all(request);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn kept(data: &Path, request: &str) -> Trace {
    let mut trace = Trace::default();
    trace.read(ask(data, request), &pangea_trace::Filter::ALL).unwrap();
    trace
}

/// The next event of a stream.
fn next(reader: &mut StreamReader<UnixStream>) -> Option<Event> {
    loop {
        match reader.next().unwrap()? {
            Item::Event(event) => return Some(event),
            Item::Node(info) => assert_eq!(info.name, "shelf"),
        }
    }
}

#[test]
fn who_asks_gets_what_is_kept_and_then_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let recorders = recorders(2);
    let (first, second) = (tracer(&recorders, 0), tracer(&recorders, 1));
    let outlet = Outlet::listen(dir.path(), recorders.clone()).unwrap();
    let mode = std::fs::metadata(dir.path().join(SOCKET)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for stripe in 0..5 {
        code(&first, stripe);
        code(&second, stripe);
    }
    let trace = kept(dir.path(), "{\"command\":\"trace\"}\n");
    assert_eq!(trace.nodes, std::slice::from_ref(&recorders.info));
    assert_eq!(trace.nodes.first().map(|info| info.cores), Some(2));
    assert_eq!(trace.events.len(), 10);
    let none = kept(dir.path(), "{\"command\":\"trace\",\"from\":\"newest\"}\n");
    assert!(none.events.is_empty());
    let spans = kept(dir.path(), "{\"command\":\"trace\",\"classes\":[\"span\"]}\n");
    assert!(spans.events.is_empty());
    drop(outlet);
    assert!(!dir.path().join(SOCKET).exists());
}

#[test]
fn who_follows_sees_what_comes_and_the_end_of_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let recorders = recorders(1);
    let tracer = tracer(&recorders, 0);
    let outlet = Outlet::listen(dir.path(), recorders).unwrap();
    code(&tracer, 0);
    let stream = ask(dir.path(), "{\"command\":\"trace\",\"follow\":true,\"from\":\"oldest\"}\n");
    let mut reader = StreamReader::new(stream);
    for stripe in 1..10 {
        let event = next(&mut reader).unwrap();
        assert_eq!(
            event.data(),
            Some(EventData::StripeCoded { chunk: 1, stripe: stripe - 1, k: 3, m: 1 })
        );
        code(&tracer, stripe);
    }
    code(&tracer, 100);
    drop(outlet);
    let rest: Vec<Event> = std::iter::from_fn(|| next(&mut reader)).collect();
    assert_eq!(rest.len(), 2, "the last events, and the end: {rest:?}");
}

#[test]
fn a_slow_watcher_is_told_what_it_missed() {
    let dir = tempfile::tempdir().unwrap();
    let recorders = recorders(1);
    let tracer = tracer(&recorders, 0);
    let _outlet = Outlet::listen(dir.path(), recorders).unwrap();
    let stream = ask(dir.path(), "{\"command\":\"trace\",\"follow\":true}\n");
    let mut reader = StreamReader::new(stream);
    assert!(matches!(reader.next(), Ok(Some(Item::Node(_)))));
    // Much more than fits into the ring and the socket, and faster than anybody looks.
    let written: u64 = 20_000;
    (0..written).for_each(|stripe| code(&tracer, stripe));
    let (mut seen, mut lost) = (0, 0);
    while seen + lost < written {
        match next(&mut reader).unwrap().data() {
            Some(EventData::Gap { lost: more }) => lost += more,
            Some(_) => seen += 1,
            None => panic!("an event of no kind"),
        }
    }
    assert_eq!(seen + lost, written);
    assert!(lost > 0);
}

#[test]
fn four_may_watch_and_a_place_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let recorders = recorders(1);
    let tracer = tracer(&recorders, 0);
    let _outlet = Outlet::listen(dir.path(), recorders).unwrap();
    let follow = "{\"command\":\"trace\",\"follow\":true}\n";
    let mut watchers: Vec<_> = (0..4).map(|_| StreamReader::new(ask(dir.path(), follow))).collect();
    for watcher in &mut watchers {
        assert!(matches!(watcher.next(), Ok(Some(Item::Node(_)))));
    }
    assert!(say(dir.path(), follow.as_bytes()).contains("\"busy\""));
    drop(watchers.pop());
    let started = Instant::now();
    while say(dir.path(), b"{\"command\":\"trace\"}\n").contains("\"busy\"") {
        assert!(started.elapsed() < Duration::from_secs(10), "the place was not given back");
        std::thread::sleep(Duration::from_millis(5));
    }
    // The others were not disturbed.
    code(&tracer, 1);
    for watcher in &mut watchers {
        assert_eq!(next(watcher).and_then(|event| event.kind()), Some(Kind::StripeCoded));
    }
}

#[test]
fn classes_are_turned_off_and_on_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let recorders = recorders(1);
    let tracer = tracer(&recorders, 0);
    let _outlet = Outlet::listen(dir.path(), recorders).unwrap();
    let answer = say(dir.path(), b"{\"command\":\"record\",\"classes\":[\"span\",\"Conn\"]}\n");
    assert_eq!(answer, "{\"recorded\":[\"span\",\"conn\"]}\n");
    code(&tracer, 0);
    assert!(kept(dir.path(), "{\"command\":\"trace\"}\n").events.is_empty());
    say(dir.path(), b"{\"command\":\"record\",\"classes\":[\"codec\"]}\n");
    code(&tracer, 1);
    assert_eq!(kept(dir.path(), "{\"command\":\"trace\"}\n").events.len(), 1);
}

#[test]
fn nonsense_is_refused_and_the_next_one_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let _outlet = Outlet::listen(dir.path(), recorders(1)).unwrap();
    for request in [
        &b"hello\n"[..],
        b"{\"command\":\"dance\"}\n",
        b"{\"command\":\"record\"}\n",
        b"{\"command\":\"record\",\"classes\":[\"everything\"]}\n",
        b"{\"command\":\"trace\",\"follow\":\"yes\"}\n",
        b"{\"command\":\"trace\",\"shell\":true}\n",
        b"[[[[[[[[\n",
    ] {
        let answer = say(dir.path(), request);
        let shown = String::from_utf8_lossy(request);
        assert!(answer.contains("\"usage\"") && answer.lines().count() == 1, "{shown}: {answer}");
    }
    assert_eq!(say(dir.path(), &[b'x'; 1025]), "");
    assert_eq!(say(dir.path(), b"\xff\xfe\n"), "");
    assert_eq!(kept(dir.path(), "{\"command\":\"trace\"}\n").nodes.len(), 1);
}

#[test]
fn a_recording_replaces_only_a_recording() {
    let dir = tempfile::tempdir().unwrap();
    let recorders = recorders(1);
    let tracer = tracer(&recorders, 0);
    code(&tracer, 1);
    tracer.log(Event::new(EventData::Gap { lost: 1 }).flagged(flags::ERROR));
    let path = dir.path().join("put.trace");
    for parts in [1, 2] {
        let file = RecordingFile::prepare(&path).unwrap();
        file.write(&vec![recorders.clone(); parts]).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let length = std::fs::metadata(&path).unwrap().len();
        assert_eq!(length, 3 * 128 * parts as u64);
        let mut trace = Trace::default();
        trace.read(File::open(&path).unwrap(), &pangea_trace::Filter::ALL).unwrap();
        trace.sort();
        assert_eq!((trace.nodes.len(), trace.events.len()), (1, 2), "the same twice stays once");
    }
    let film = dir.path().join("film.mkv");
    std::fs::write(&film, b"years of work").unwrap();
    assert!(RecordingFile::prepare(&film).unwrap_err().to_string().contains("no recording"));
    assert!(RecordingFile::prepare(dir.path()).is_err());
    assert_eq!(std::fs::read(&film).unwrap(), b"years of work");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing hidden is left");
}
