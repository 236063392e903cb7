//! What needs no threads: bytes, tables, streams, clocks. The recorder itself is tested with the
//! real atomics in `tests/`, because here it is built on shuttle's (see `sync.rs`).

use proptest::prelude::*;

use crate::*;

/// The numbers of trace files. A line may be added, and none may be changed.
const KINDS: [(u16, &str, Class); 32] = [
    (1, "Gap", Class::Recorder),
    (2, "SpanBegin", Class::Span),
    (3, "SpanEnd", Class::Span),
    (10, "ConnInit", Class::Conn),
    (11, "ConnEstablished", Class::Conn),
    (12, "ConnClosed", Class::Conn),
    (13, "PathMetrics", Class::Conn),
    (20, "StreamOpened", Class::Stream),
    (21, "StreamData", Class::Stream),
    (30, "PacketSent", Class::Packet),
    (31, "PacketReceived", Class::Packet),
    (32, "PacketLost", Class::Packet),
    (33, "PacketSendFailed", Class::Packet),
    (34, "FecRecovered", Class::Packet),
    (40, "MeshSent", Class::Mesh),
    (41, "MeshReceived", Class::Mesh),
    (50, "SegmentSealed", Class::Codec),
    (51, "StripeCoded", Class::Codec),
    (52, "StripeDecoded", Class::Codec),
    (53, "SegmentOpened", Class::Codec),
    (60, "ShardStored", Class::Store),
    (61, "ShardRefused", Class::Store),
    (62, "ReceiptTaken", Class::Store),
    (63, "HolderFailed", Class::Store),
    (64, "FileDone", Class::Store),
    (65, "LedgerAnswered", Class::Store),
    (66, "RequestRefused", Class::Store),
    (70, "AppCommand", Class::App),
    (71, "Custom", Class::App),
    (0, "", Class::App),
    (72, "", Class::App),
    (u16::MAX, "", Class::App),
];

#[test]
fn kinds_have_the_numbers_that_files_know_them_by() {
    let mut known = 0;
    for (number, name, class) in KINDS {
        let Some(kind) = Kind::from_number(number) else {
            assert_eq!(name, "", "{number} is a kind");
            continue;
        };
        assert_eq!((kind as u16, kind.name(), kind.class()), (number, name, class));
        known += 1;
    }
    assert_eq!(known, Kind::ALL.len(), "a kind is missing in this list");
    assert!(Kind::ALL.windows(2).all(|pair| (pair[0] as u16) < pair[1] as u16), "unique, in order");
}

#[test]
fn every_kind_fits_and_says_what_it_means() {
    for kind in Kind::ALL {
        let bytes: usize = kind.fields().iter().map(|(_, bytes)| bytes).sum();
        assert!(bytes <= PAYLOAD_BYTES, "{kind:?}");
        assert!(kind.meaning().len() > 10, "{kind:?}");
    }
}

#[test]
fn an_event_is_two_cache_lines() {
    assert_eq!(size_of::<Event>(), 128);
    assert_eq!(EVENT_BYTES, 128);
    assert_eq!(EVENT_WORDS * 8, EVENT_BYTES);
    assert_eq!(LABEL_BYTES, 25);
}

#[test]
fn classes_and_flags_have_bits_of_their_own() {
    let bits = Class::ALL.into_iter().fold(0, |bits, class| {
        assert_eq!(bits & class.bit(), 0, "{class:?}");
        bits | class.bit()
    });
    assert_eq!(bits.count_ones() as usize, Class::ALL.len());
    assert_eq!(flags::APP, 1 << (flags::NAMES.len() - 1));
}

#[test]
fn kinds_of_work_are_numbered_from_one_in_the_order_of_the_list() {
    for (number, kind) in (1..).zip(SpanKind::ALL) {
        assert_eq!(kind as u16, number);
        assert_eq!(SpanKind::from_number(number), Some(kind));
    }
    assert_eq!(SpanKind::from_number(0), None);
}

#[test]
fn a_trace_id_is_read_as_it_is_written_and_nothing_else_is_one() {
    let id = TraceId::new();
    assert_ne!(id, TraceId::new());
    assert_eq!(id.to_string().parse(), Ok(id));
    let (plus, letter) = ("+123456789abcdef0123456789abcdef", "g123456789abcdef0123456789abcdef");
    for wrong in ["", "0123", plus, letter] {
        assert_eq!(wrong.parse::<TraceId>(), Err(TraceIdInvalid), "{wrong}");
    }
}

#[test]
fn words_are_cut_between_characters() {
    assert_eq!(words::<4>("ab"), *b"ab\0\0");
    assert_eq!(words::<4>("abcdef"), *b"abcd");
    assert_eq!(words::<4>("abcü"), *b"abc\0");
}

fn events() -> impl Strategy<Value = Event> {
    any::<([u64; 8], [u64; 8])>().prop_map(|(first, second)| {
        let mut words = [0; EVENT_WORDS];
        words[..8].copy_from_slice(&first);
        words[8..].copy_from_slice(&second);
        Event::from_words(&words)
    })
}

fn payloads() -> impl Strategy<Value = Payload> {
    any::<[u64; 6]>().prop_map(|words| {
        let mut payload = [0; PAYLOAD_BYTES];
        for (place, word) in payload.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        payload
    })
}

proptest! {
    #[test]
    fn any_words_are_an_event_and_become_the_same_words(event in events()) {
        prop_assert_eq!(Event::from_words(&event.to_words()), event);
        prop_assert_eq!(Event::from_bytes(&event.to_bytes()), event);
        let bytes: Vec<u8> = event.to_words().iter().flat_map(|word| word.to_le_bytes()).collect();
        prop_assert_eq!(&event.to_bytes()[..], &bytes[..]);
        let _ = (event.data(), event.peer(), event.core());
    }

    #[test]
    fn the_fields_of_every_kind_become_bytes_and_the_same_fields(payload in payloads()) {
        for &kind in Kind::ALL {
            // Any bytes are fields, from the first reading on they are the same.
            let data = EventData::decode(kind, &payload);
            prop_assert_eq!(data.kind(), kind);
            let bytes = data.encode();
            prop_assert_eq!(EventData::decode(kind, &bytes), data);
            let used: usize = kind.fields().iter().map(|(_, bytes)| bytes).sum();
            prop_assert!(bytes[used..].iter().all(|byte| *byte == 0), "{:?}", kind);
            if kind.fields().iter().all(|(_, bytes)| *bytes != 27) {
                prop_assert_eq!(&bytes[..used], &payload[..used], "{:?}", kind);
            }
            let names: Vec<_> = data.values().into_iter().map(|(name, _)| name).collect();
            let fields: Vec<_> = kind.fields().iter().map(|(name, _)| *name).collect();
            prop_assert_eq!(names, fields);
        }
    }

    #[test]
    fn nothing_of_an_address_is_lost(address in any::<std::net::SocketAddr>()) {
        let data = EventData::ConnInit { endpoint: address };
        prop_assert_eq!(EventData::decode(Kind::ConnInit, &data.encode()), data);
    }

    #[test]
    fn an_application_takes_of_a_payload_what_is_there(
        payload in prop::collection::vec(any::<u8>(), 0..100),
        bytes in 0usize..60,
    ) {
        let taken = payload.len().min(bytes).min(APP_DATA_BYTES);
        let data = app_data(&payload, bytes);
        prop_assert_eq!(&data[..taken], &payload[..taken]);
        prop_assert!(data[taken..].iter().all(|byte| *byte == 0));
    }
}

#[cfg(feature = "trace")]
mod recording {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::clock::Time;
    use pangea_base::PeerId;

    fn golden_event() -> Event {
        let id = TraceId(std::array::from_fn(|at| 0xa0 + at as u8));
        let flags = TraceFlags::SAMPLED.and(TraceFlags::REMOTE);
        let context = TraceContext::new(id, 0x1122_3344_5566_7788, flags, 0);
        let peer = PeerId(std::array::from_fn(|at| at as u8));
        let data = EventData::StreamData {
            stream_id: 4,
            offset: 0x0001_0000,
            length: 1200,
            fin: 1,
            conn: 0x0a0b_0c0d,
        };
        let event = Event::new(data).of(&context).with_peer(&peer);
        Event { timestamp: 1_700_000_000_123_456_789, sequence: 258, core: 3, ..event }
    }

    fn golden_node() -> NodeInfo {
        NodeInfo {
            node: PeerId(std::array::from_fn(|at| 0xff - at as u8)),
            name: "höhle".to_string(),
            started: 1_700_000_000_000_000_000,
            cores: 4,
        }
    }

    /// The bytes in `format.md` under a name.
    fn vector(name: &str) -> Vec<u8> {
        let text = include_str!("../format.md");
        let block = text.split(&format!("```{name}\n")).nth(1).unwrap().split("```").next();
        let digits: String = block.unwrap().split_whitespace().collect();
        assert!(digits.is_ascii());
        (0..digits.len() / 2)
            .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
            .collect()
    }

    fn hex(bytes: &[u8]) -> String {
        let lines = bytes.chunks(32).map(|line| {
            let words =
                line.chunks(8).map(|word| word.iter().map(|b| format!("{b:02x}")).collect());
            words.collect::<Vec<String>>().join(" ")
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn an_event_has_the_bytes_that_the_format_says() {
        let event = golden_event();
        assert_eq!(hex(&event.to_bytes()), hex(&vector("event")));
        let bytes: [u8; EVENT_BYTES] = vector("event").try_into().unwrap();
        assert_eq!(Event::from_bytes(&bytes), event);
    }

    #[test]
    fn a_header_has_the_bytes_that_the_format_says() {
        let written = stream(&golden_node(), &[]);
        assert_eq!(hex(&written), hex(&vector("header")));
        let mut reader = StreamReader::new(&written[..]);
        assert_eq!(reader.next().unwrap(), Some(Item::Node(golden_node())));
        assert_eq!(reader.next().unwrap(), None);
        assert!(!reader.was_cut());
    }

    fn stream(info: &NodeInfo, events: &[Event]) -> Vec<u8> {
        let mut bytes = Vec::new();
        StreamWriter::new(&mut bytes, info).unwrap().events(events).unwrap();
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Trace, StreamInvalid> {
        let mut trace = Trace::default();
        trace.read(bytes, &Filter::ALL).map(|()| trace)
    }

    fn node(number: u8) -> NodeInfo {
        let (node, name) = (PeerId([number; 32]), format!("node {number}"));
        NodeInfo { node, name, started: u64::from(number), cores: 1 }
    }

    fn event(timestamp: u64, core: u16, sequence: u64) -> Event {
        Event { timestamp, core, sequence, ..Event::default() }
    }

    #[test]
    fn what_is_not_a_trace_is_refused() {
        let wrong: [&[u8]; 5] =
            [b"", b"PANGEA", &[0; 128], &[0x7f; 1000], &stream(&node(1), &[])[..127]];
        for bytes in wrong {
            assert!(matches!(read(bytes), Err(StreamInvalid::NotATrace)), "{}", bytes.len());
        }
    }

    #[test]
    fn another_version_is_refused_and_named() {
        for version in [0u16, 2, 0x0101, u16::MAX] {
            let mut bytes = stream(&node(1), &[event(1, 0, 0)]);
            bytes[8..10].copy_from_slice(&version.to_le_bytes());
            let error = read(&bytes).unwrap_err();
            assert!(matches!(error, StreamInvalid::Version(v) if v == version));
            assert!(error.to_string().contains(&format!("version {version}")));
        }
    }

    #[test]
    fn a_record_that_was_cut_off_is_dropped_and_told() {
        let events = [event(1, 0, 0), event(2, 0, 1)];
        let bytes = stream(&node(1), &events);
        assert!(!read(&bytes).unwrap().cut);
        for missing in 1..EVENT_BYTES {
            let trace = read(&bytes[..bytes.len() - missing]).unwrap();
            assert_eq!((trace.events, trace.cut), (vec![events[0]], true));
        }
    }

    #[test]
    fn files_may_be_put_one_behind_the_other() {
        let mut bytes = stream(&node(1), &[event(5, 0, 0), event(7, 0, 1)]);
        bytes.extend(stream(&node(2), &[event(6, 0, 0), event(8, 0, 1)]));
        bytes.extend(stream(&node(1), &[event(7, 0, 1), event(9, 0, 2)]));
        let mut trace = read(&bytes).unwrap();
        trace.sort();
        assert_eq!(trace.nodes, [node(1), node(2)]);
        let order: Vec<_> = trace.events.iter().map(|e| (e.timestamp, e.node)).collect();
        assert_eq!(order, [(5, 0), (6, 1), (7, 0), (8, 1), (9, 0)], "what came twice stays once");
        assert_eq!(trace.node(&trace.events[1]), Some(&node(2)));
    }

    #[test]
    fn a_gap_that_was_read_twice_stays_once_and_before_its_event() {
        let gap = |sequence| {
            let gap = Event::new(EventData::Gap { lost: 3 });
            Event { timestamp: 5, sequence, ..gap }
        };
        let event = event(5, 0, 3);
        let mut trace = Trace { events: vec![gap(3), event, gap(3), event], ..Trace::default() };
        trace.sort();
        assert_eq!(trace.events, [gap(3), event]);
    }

    #[test]
    fn events_are_in_order_by_time_core_and_number() {
        let ordered = [(1, 1, 9), (2, 0, 3), (2, 0, 4), (2, 1, 0), (3, 0, 0)];
        let ordered = ordered.map(|(time, core, number)| event(time, core, number));
        let mut trace = Trace { events: ordered.to_vec(), ..Trace::default() };
        trace.events.reverse();
        trace.sort();
        assert_eq!(trace.events, ordered);
    }

    #[test]
    fn more_nodes_than_the_limit_are_refused() {
        let many = |count: usize| -> Vec<u8> {
            let infos = (0..count).map(|at| NodeInfo { started: at as u64, ..node(1) });
            infos.flat_map(|info| stream(&info, &[])).collect()
        };
        assert_eq!(read(&many(NODES_MAX)).unwrap().nodes.len(), NODES_MAX);
        assert!(matches!(read(&many(NODES_MAX + 1)), Err(StreamInvalid::TooManyNodes)));
    }

    #[test]
    fn a_filter_lets_through_what_it_names() {
        let wanted = golden_event();
        let other = event(5, 0, 0);
        let pass = |filter: Filter| [wanted, other].map(|event| filter.matches(&event));
        assert_eq!(pass(Filter::ALL), [true, true]);
        assert_eq!(pass(Filter { trace: Some(wanted.trace_id), ..Filter::ALL }), [true, false]);
        assert_eq!(pass(Filter { peer: wanted.peer(), ..Filter::ALL }), [true, false]);
        assert_eq!(pass(Filter { kinds: vec![Kind::Custom], ..Filter::ALL }), [false, true]);
        assert_eq!(pass(Filter { since: 5, until: 5, ..Filter::ALL }), [false, true]);
        assert_eq!(pass(Filter { since: 6, ..Filter::ALL }), [true, false]);
    }

    proptest! {
        #[test]
        fn a_stream_of_anything_is_read_to_its_end_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..700),
            as_trace in any::<bool>(),
        ) {
            let mut stream = if as_trace { stream(&golden_node(), &[]) } else { Vec::new() };
            stream.extend(&bytes);
            if let Ok(trace) = read(&stream) {
                prop_assert_eq!(trace.events.len(), bytes.len() / EVENT_BYTES);
                prop_assert_eq!(trace.cut, bytes.len() % EVENT_BYTES != 0);
            }
        }
    }

    #[test]
    fn a_coarse_clock_shows_the_time_of_the_tick() {
        let anchor = Instant::now();
        let time = Time::new(Clock::Tick, anchor, 1000);
        assert_eq!(time.now(), 1000);
        time.tick(anchor + Duration::from_nanos(7));
        assert_eq!((time.now(), time.now()), (1007, 1007));
        let before = anchor.checked_sub(Duration::from_secs(1));
        time.tick(before.unwrap_or(anchor));
        assert_eq!(time.now(), 1007, "it does not go back");
    }

    #[test]
    fn a_fine_clock_follows_the_ticks() {
        let anchor = Instant::now();
        let time = Time::new(Clock::Fine, anchor, 1_000_000);
        let (mut last, mut late) = (0, Vec::new());
        for turn in 0..200u64 {
            time.tick(Instant::now());
            for event in 0..20u64 {
                let before = anchor.elapsed().as_nanos() as i64;
                let now = time.now();
                assert!(now >= last, "turn {turn}, event {event}: {now} is before {last}");
                last = now;
                late.push((now - 1_000_000) as i64 - before);
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        // The thread may lose the processor between the two readings, but hardly ever does.
        late.sort_unstable();
        let (low, high) = (late[late.len() / 20], late[late.len() * 19 / 20]);
        assert!(-20_000 < low && high < 20_000, "off by {low} to {high} ns");
    }

    #[test]
    fn a_label_says_what_a_context_is_and_is_not_believed() {
        let flags = TraceFlags::SAMPLED.and(TraceFlags::DEBUG).and(TraceFlags::APP);
        let context = TraceContext::new(TraceId([3; 16]), 77, flags, 5);
        let Label(bytes) = Label::new(&context);
        let received = Label(bytes).context();
        assert_eq!((received.trace_id(), received.span()), (TraceId([3; 16]), 77));
        assert_eq!(received.flags(), TraceFlags::REMOTE);
    }
}
