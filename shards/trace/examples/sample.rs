//! Writes a made trace in every format, for `tools/trace-readers`:
//! `cargo run -p pangea-trace --features trace --example sample -- DIRECTORY`.
//!
//! The trace: a node of two cores puts two chunks, of which one fails, to another one of two cores,
//! where a request goes on to the other core. The same every time.

#[cfg(feature = "trace")]
mod made {
    use std::time::{Duration, Instant};

    use pangea_base::{CoreId, PeerId};
    use pangea_trace::{
        Clock, ConnTrace, Event, EventData, EventLog, Label, LogConfig, NodeInfo, Outcome,
        Sampling, SpanKind, Trace, TraceContext, Tracer, flags, trace_event, words,
    };

    /// Who puts.
    pub const ALPHA: PeerId = PeerId([0xa1; 32]);
    /// Who holds.
    const BETA: PeerId = PeerId([0xb2; 32]);
    /// When both nodes began, nanoseconds since 1970.
    pub const STARTED: u64 = 1_800_000_000_000_000_000;

    /// A node of two cores and a control thread.
    struct Node {
        id: PeerId,
        name: &'static str,
        logs: Vec<EventLog>,
        tracers: Vec<Tracer>,
        anchor: Instant,
    }

    impl Node {
        fn new(id: PeerId, name: &'static str, anchor: Instant) -> Node {
            let log = |core| {
                EventLog::start(|| LogConfig {
                    node: id,
                    core: CoreId(core),
                    seed: [u64::from(id.0[0]), u64::from(core)],
                    anchor,
                    anchor_nanos: STARTED,
                    clock: Clock::Tick,
                    sampling: Sampling::ALL,
                    events: 1024,
                })
            };
            let logs: Vec<EventLog> = (0..3).map(log).collect();
            let tracers = logs.iter().filter_map(EventLog::tracer).collect();
            Node { id, name, logs, tracers, anchor }
        }

        /// A core's tracer, at so many microseconds.
        fn at(&self, core: usize, micros: u64) -> &Tracer {
            let tracer = &self.tracers[core];
            tracer.tick(self.anchor + Duration::from_micros(micros));
            tracer
        }

        fn trace(&self) -> Trace {
            let (node, name) = (self.id, self.name.to_owned());
            Trace::snapshot(NodeInfo { node, name, started: STARTED, cores: 2 }, &self.logs)
        }
    }

    /// The trace.
    pub fn sample() -> Trace {
        let anchor = Instant::now();
        let alpha = Node::new(ALPHA, "alpha", anchor);
        let beta = Node::new(BETA, "beta", anchor);
        let put = alpha.at(2, 10).begin_trace(SpanKind::Put, 1);
        let hops = [0, 1].map(|core| alpha.at(2, 11).depart(&put, CoreId(core)));
        connect(&alpha, &beta);
        // A core whose turn began before the message was sent: it arrives before it departs.
        let second = alpha.at(1, 9).arrive(&hops[1], CoreId(2));
        let first = alpha.at(0, 20).arrive(&hops[0], CoreId(2));
        let good = chunk(&alpha, &beta, 0, &first, 20);
        let bad = chunk(&alpha, &beta, 1, &second, 120);
        fail(&alpha, &bad);
        alpha.at(0, 400).end(&good, SpanKind::PutChunk, Outcome::Done, 131_072);
        let done = alpha.at(0, 401).depart(&good, CoreId(2));
        alpha.at(2, 410).arrive(&done, CoreId(0));
        command(&alpha, &put);
        alpha.at(2, 450).end(&put, SpanKind::Put, Outcome::Failed, 262_144);
        disconnect(&alpha, &beta);
        let mut trace = alpha.trace();
        let other = beta.trace();
        trace.nodes.extend(other.nodes);
        trace.events.extend(other.events.into_iter().map(|event| Event { node: 1, ..event }));
        trace.sort();
        trace
    }

    fn connect(alpha: &Node, beta: &Node) {
        let address = |node: u8| std::net::SocketAddr::from(([10, 0, 0, node], 4433));
        let none = &TraceContext::NONE;
        let init = Event::new(EventData::ConnInit { endpoint: address(2) });
        alpha.at(0, 5).log(init.with_peer(&BETA));
        beta.at(0, 6).log(Event::new(EventData::ConnInit { endpoint: address(1) }));
        trace_event!(beta.at(0, 8), none, &ALPHA, ConnEstablished { rtt: 350, conn: 7 });
        trace_event!(alpha.at(0, 8), none, &BETA, ConnEstablished { rtt: 320, conn: 0 });
    }

    /// A chunk with a shard of it, which the other node takes in; its span stays open.
    fn chunk(
        alpha: &Node,
        beta: &Node,
        core: usize,
        parent: &TraceContext,
        at: u64,
    ) -> TraceContext {
        let number = core as u64;
        let chunk = alpha.at(core, at).begin(parent, SpanKind::PutChunk, number);
        let tracer = alpha.at(core, at + 5);
        trace_event!(tracer, &chunk, SegmentSealed { chunk: number, plain: 65_536, done: 65_536 });
        for stripe in 0..3 {
            trace_event!(tracer, &chunk, StripeCoded { chunk: number, stripe, k: 2, m: 1 });
        }
        let shard = tracer.begin(&chunk, SpanKind::Shard, 0);
        let other = tracer.begin(&chunk, SpanKind::Shard, 1);
        let stream_id = number * 4;
        trace_event!(tracer, &shard, &BETA, StreamOpened { stream_id, conn: 0 });
        let train = ConnTrace::default().train(Some(BETA), 0, 14_000, Some(1400));
        alpha.at(core, at + 8).train_sent(&train, 14_000);
        serve(beta, &Label::new(&shard), core, at + 50);
        let tracer = alpha.at(core, at + 200);
        let data = EventData::StreamData { stream_id, offset: 0, length: 96, fin: 1, conn: 0 };
        tracer.log(Event::new(data).of(&shard).with_peer(&BETA));
        let receipt = EventData::ReceiptTaken { chunk: number, index: 0, bytes: 65_536 };
        tracer.log(Event::new(receipt).of(&shard).with_peer(&BETA));
        tracer.end(&shard, SpanKind::Shard, Outcome::Done, 65_536);
        alpha.at(core, at + 210).end(&other, SpanKind::Shard, Outcome::Done, 65_536);
        chunk
    }

    /// The holder's side: arrives on core 0, the file is on core 1. The second one never ends.
    fn serve(beta: &Node, label: &Label, which: usize, at: u64) {
        let from = std::net::SocketAddr::from(([10, 0, 0, 1], 4433));
        let (datagrams, packet_num) = (10, which as u64 * 10);
        let tracer = beta.at(0, at);
        let received =
            EventData::PacketReceived { size: 14_000, packet_num, datagrams, endpoint: from };
        tracer.log(Event::new(received));
        let serve = tracer.begin_named(label, SpanKind::Serve, which as u64);
        let hop = tracer.depart(&serve, CoreId(1));
        let tracer = beta.at(1, at + 4);
        let context = tracer.arrive(&hop, CoreId(0));
        let ask = tracer.begin(&context, SpanKind::Ask, 0);
        trace_event!(tracer, &ask, LedgerAnswered { answer: 0 });
        let tracer = beta.at(1, at + 60);
        let written = EventData::FileDone { operation: 2, bytes: 16_384, errno: 0, nanos: 48_000 };
        tracer.log(Event::new(written).of(&ask));
        let stored = EventData::ShardStored { chunk: which as u64, index: 0, bytes: 65_536 };
        tracer.log(Event::new(stored).of(&ask).with_peer(&ALPHA));
        tracer.end(&ask, SpanKind::Ask, Outcome::Done, 65_536);
        if which == 0 {
            beta.at(0, at + 80).end(&serve, SpanKind::Serve, Outcome::Done, 65_536);
        }
    }

    fn fail(alpha: &Node, chunk: &TraceContext) {
        let tracer = alpha.at(1, 340);
        let failed = EventData::HolderFailed { chunk: 1, index: 1, reason: words("nothing moved") };
        tracer.log(Event::new(failed).of(chunk).with_peer(&BETA).flagged(flags::ERROR));
        tracer.end(chunk, SpanKind::PutChunk, Outcome::Failed, 65_536);
    }

    fn command(alpha: &Node, put: &TraceContext) {
        let tracer = alpha.at(2, 420);
        let data = EventData::AppCommand { app_id: *b"DMAP", cmd: 1, data: [0xd5; 42] };
        tracer.log(Event::new(data).of(put).flagged(flags::BEGIN));
        tracer.log(Event::new(EventData::Custom { category: 9, code: 1, data: [0xc7; 44] }));
        alpha.at(2, 430).log(Event::new(data).of(put).flagged(flags::END));
    }

    fn disconnect(alpha: &Node, beta: &Node) {
        let none = &TraceContext::NONE;
        let tracer = alpha.at(0, 500);
        let train = ConnTrace::default().train(Some(BETA), 0, 1200, None);
        tracer.train_failed(&train, 1200, 11);
        let lost = EventData::PacketLost { packet_num: 0, count: 3, bytes: 4200, conn: 0 };
        tracer.log(Event::new(lost).with_peer(&BETA));
        let path = EventData::PathMetrics { rtt: 410, conn: 0, window: 65_536, sent: 40, lost: 3 };
        tracer.log(Event::new(path).with_peer(&BETA));
        trace_event!(tracer, none, &BETA, ConnClosed { conn: 0, reason: words("done") });
        trace_event!(beta.at(0, 510), none, &ALPHA, ConnClosed { conn: 7, reason: words("done") });
    }
}

#[cfg(feature = "trace")]
pub use made::{ALPHA, STARTED, sample};

/// Writes it.
#[cfg(feature = "trace")]
pub fn main() -> std::io::Result<()> {
    use pangea_trace::export::{Detail, Format, export};

    let usage = || std::io::Error::other("which directory is it to be written to?");
    let directory = std::env::args_os().nth(1).ok_or_else(usage)?;
    let directory = std::path::Path::new(&directory);
    std::fs::create_dir_all(directory)?;
    let trace = sample();
    for format in Format::ALL {
        let path = directory.join(format!("sample{}", format.extension()));
        let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
        export(format, &trace, &mut file, Detail::Redacted)?;
        std::io::Write::flush(&mut file)?;
        println!("{}", path.display());
    }
    Ok(())
}

/// Says why not.
#[cfg(not(feature = "trace"))]
pub fn main() {
    println!("this build does not record: --features trace");
}
