//! The control loop of a put, a get or a stat: carries commands to the cores and their reports to
//! the machine, reads and writes streams, and shows the caller how far it is.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use pangea_base::file::FileId;
use pangea_base::{CoreId, Entropy, Page, PagePool, PeerId, UnixTime};
use pangea_ces::Compression;
use pangea_ces::plan::{CompressionChoice, Cpu, Situation};
use pangea_engine::client::{
    Get, GetError, GetOutcome, GetSpec, GetWants, Numbers, Put, PutError, PutOutcome, PutSource,
    PutSpec, PutWants, Stat, StatOutcome, Trouble,
};
use pangea_engine::message::Report;
use pangea_trace::{Outcome, SpanKind, TraceContext, Tracer, if_trace};
use pangea_wire::{Label, Link};

use super::{
    ChunkHealth, ClientConfig, Flow, GetFailed, GetOptions, GetReport, HolderHealth, Progress,
    PutFailed, PutOptions, PutReport, PutState, Sink, Source, StatReport,
};
use crate::node::cores::{Cores, CoresSpec, Heard};
use crate::node::{Parcel, StartFailed, wall};

/// How often the caller is shown the progress.
const SHOW_EVERY: Duration = Duration::from_millis(50);
/// 128 KiB plaintext pages of each core: read ahead, and output on its way.
const SEGMENT_PAGES: u32 = 96;

/// Why the cores did not get a user's file.
enum NotAdopted {
    /// It cannot be opened once for each.
    File(String),
    /// A core is gone.
    Cores(String),
}

/// A running client: cores of its own, closed when dropped.
pub struct Client {
    cores: Cores,
    identity: PeerId,
    numbers: Numbers,
    memory_bytes: u64,
    // Pages of a stream that is put; shared with no core until they are filled.
    stream_pages: PagePool,
}

impl Client {
    /// Starts the cores.
    pub fn start(config: ClientConfig) -> Result<Client, StartFailed> {
        let count = config.cores.cores.max(1) as u64;
        let spec = |bind: SocketAddr, config: ClientConfig| CoresSpec {
            identity: config.identity,
            bind,
            options: config.cores,
            data_dir: None,
            capacity_bytes: 0,
            accept: pangea_engine::Accept::Nobody,
            clock: pangea_engine::ClockTrust::Compared,
            adopt: pangea_store::Adopt::Refuse,
            unit_bytes: config.memory_bytes / count * 2,
            segment_pages: SEGMENT_PAGES,
        };
        let memory_bytes = config.memory_bytes;
        let identity = config.identity.peer();
        // One socket for both families where the system has IPv6.
        let dual = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let bind = match std::net::UdpSocket::bind(dual) {
            Ok(_) => dual,
            Err(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        };
        let cores = Cores::start(spec(bind, config))?;
        let stream_pages =
            u32::try_from(memory_bytes / (128 << 10)).unwrap_or(u32::MAX - 1).max(16);
        let stream_pages = PagePool::new(128 << 10, stream_pages);
        Ok(Client { cores, identity, numbers: Numbers::default(), memory_bytes, stream_pages })
    }

    /// Stores one object. `on` is called at least ten times a second.
    pub fn put(
        &mut self,
        source: Source,
        options: &PutOptions,
        on: &mut dyn FnMut(&Progress) -> Flow,
    ) -> Result<PutReport, PutFailed> {
        let started = Instant::now();
        // Every holder counts the lease from a moment after this one.
        let lease_until = wall().after(options.lease);
        let label = options.label.as_deref().map(Label::new).transpose();
        let label = label.map_err(|refused| PutFailed::Local(format!("the name: {refused}")))?;
        let (source, files, mut stream) = self.open_source(source)?;
        let total = match &source {
            PutSource::File(_, length) => Some(*length),
            PutSource::Stream => None,
        };
        let spec = PutSpec {
            peers: options.peers.clone(),
            code: options.code,
            situation: self.situation(options, total),
            owner: self.identity,
            lease_seconds: options.lease.as_secs(),
            label,
            source,
            cores: self.cores.count(),
        };
        let entropy = entropy().map_err(PutFailed::Local)?;
        let span = self.begin(SpanKind::Put);
        let numbers = std::mem::take(&mut self.numbers).within(span.context);
        let mut put = Put::new(started, spec, entropy, numbers);
        let result = self.run_put(&mut put, &mut stream, total, on);
        span.end(result.is_ok(), put.bytes_done);
        self.release(&files);
        let troubles = std::mem::take(&mut put.troubles);
        self.numbers = put.into_numbers();
        match result {
            Ok(outcome) => Ok(put_report(outcome, troubles, started.elapsed(), lease_until)),
            Err(None) => Err(PutFailed::Interrupted),
            Err(Some(error)) => Err(put_failed(error, troubles)),
        }
    }

    /// Fetches one object.
    pub fn get(
        &mut self,
        link: &Link,
        sink: Sink,
        options: &GetOptions,
        on: &mut dyn FnMut(&Progress) -> Flow,
    ) -> Result<GetReport, GetFailed> {
        let started = Instant::now();
        let (output, mut stream) = match sink {
            Sink::File(file) => {
                let files = self.adopt(&file).map_err(|failed| match failed {
                    NotAdopted::File(why) => GetFailed::Output(why),
                    NotAdopted::Cores(why) => GetFailed::Local(why),
                })?;
                (Some(files), None)
            }
            Sink::Stream(stream) => (None, Some(stream)),
        };
        let files = output.clone().unwrap_or_default();
        let spec = GetSpec {
            link,
            peers: options.peers.clone(),
            output,
            cores: self.cores.count(),
            memory_bytes: self.memory_bytes,
        };
        let span = self.begin(SpanKind::Get);
        let numbers = std::mem::take(&mut self.numbers).within(span.context);
        let mut get = match Get::new(spec, numbers) {
            Ok(get) => get,
            Err((error, numbers)) => {
                self.numbers = numbers;
                self.release(&files);
                return Err(get_failed(error, Vec::new()));
            }
        };
        let result = self.run_get(&mut get, &mut stream, on);
        span.end(result.is_ok(), result.as_ref().map_or(0, |got| got.bytes));
        self.release(&files);
        let troubles = std::mem::take(&mut get.troubles);
        let bad_holders = std::mem::take(&mut get.bad_holders);
        self.numbers = get.into_numbers();
        match result {
            Ok(GetOutcome { bytes, blake3, label, lease_until }) => {
                let label = label.map(|label| label.as_str().to_owned());
                let elapsed = started.elapsed();
                Ok(GetReport { bytes, blake3, elapsed, bad_holders, troubles, label, lease_until })
            }
            Err(Ended::Interrupted) => Err(GetFailed::Interrupted),
            Err(Ended::Output(why)) => Err(GetFailed::Output(why)),
            Err(Ended::Cores(why)) => Err(GetFailed::Local(why)),
            Err(Ended::Get(error)) => {
                let all = bad_holders.into_iter().chain(troubles).collect();
                Err(get_failed(error, all))
            }
        }
    }

    /// Asks every holder what it still has.
    pub fn stat(
        &mut self,
        link: &Link,
        options: &GetOptions,
        on: &mut dyn FnMut(&Progress) -> Flow,
    ) -> Result<StatReport, GetFailed> {
        let span = self.begin(SpanKind::Stat);
        let numbers = std::mem::take(&mut self.numbers).within(span.context);
        let mut stat = Stat::new(link, &options.peers, self.cores.count(), numbers);
        let result = loop {
            while let Some((core, command)) = stat.poll() {
                self.cores.command(core, command);
            }
            self.cores.ends.flush();
            if let Some(outcome) = stat.outcome() {
                let troubles = stat.troubles().to_vec();
                break outcome.map_err(|error| get_failed(error, troubles));
            }
            let progress = Progress { stage: "asking holders", ..Progress::default() };
            if on(&progress) == Flow::Stop {
                break Err(GetFailed::Interrupted);
            }
            match self.cores.hear(SHOW_EVERY) {
                Some(Heard::Report(report)) => stat.handle(report),
                _ if self.cores.stopped() => break Err(GetFailed::Local(self.why_stopped())),
                _ => {}
            }
        };
        span.end(result.is_ok(), 0);
        self.numbers = stat.into_numbers();
        result.map(stat_report)
    }

    /// Its recorders: one for each core, and the last for the thread that calls.
    #[cfg(feature = "trace")]
    pub fn trace_logs(&self) -> Vec<pangea_trace::EventLog> {
        self.cores.logs.clone()
    }

    /// A command begins, and with it a trace.
    fn begin(&self, what: SpanKind) -> CommandSpan {
        #[cfg(feature = "trace")]
        let tracer = self.cores.logs.last().and_then(pangea_trace::EventLog::tracer);
        #[cfg(feature = "trace")]
        let tracer = tracer.unwrap_or_else(Tracer::none);
        #[cfg(not(feature = "trace"))]
        let tracer = Tracer::none();
        if_trace! {
            tracer.tick(Instant::now());
        }
        let context = tracer.begin_trace(what, 0);
        CommandSpan { tracer, context, what }
    }

    fn run_put(
        &mut self,
        put: &mut Put,
        stream: &mut Option<Box<dyn Read + Send>>,
        total: Option<u64>,
        on: &mut dyn FnMut(&Progress) -> Flow,
    ) -> Result<PutOutcome, Option<PutError>> {
        let mut shown = Instant::now() - SHOW_EVERY;
        loop {
            while let Some(wants) = put.poll() {
                match wants {
                    PutWants::Command(core, command) => self.cores.command(core, command),
                    PutWants::Chunk(bytes) => {
                        self.cores.ends.flush();
                        match read_chunk(stream, bytes, &self.stream_pages, &mut self.cores, put) {
                            Ok(pages) => put.feed(pages),
                            Err(why) => put.source_failed(why),
                        }
                    }
                    PutWants::Done(done) => {
                        self.drain(put);
                        return (*done).map_err(Some);
                    }
                }
            }
            self.cores.ends.flush();
            if shown.elapsed() >= SHOW_EVERY {
                shown = Instant::now();
                let progress = Progress {
                    stage: put.stage(),
                    bytes_done: put.bytes_done,
                    bytes_total: total,
                    peers_up: put.peers_up(),
                    label: None,
                    troubles: put.troubles.clone(),
                };
                if on(&progress) == Flow::Stop {
                    put.cancel();
                    self.drain(put);
                    return Err(None);
                }
            }
            put.tick(Instant::now());
            match self.cores.hear(SHOW_EVERY) {
                Some(Heard::Report(report)) => put.handle(report),
                _ if self.cores.stopped() => {
                    return Err(Some(PutError::Local(self.why_stopped())));
                }
                _ => {}
            }
        }
    }

    /// Cancels on their way are carried out also when nobody listens any more.
    fn drain(&mut self, put: &mut Put) {
        while let Some(PutWants::Command(core, command)) = put.poll() {
            self.cores.command(core, command);
        }
        self.cores.ends.flush();
    }

    fn run_get(
        &mut self,
        get: &mut Get,
        stream: &mut Option<Box<dyn Write + Send>>,
        on: &mut dyn FnMut(&Progress) -> Flow,
    ) -> Result<GetOutcome, Ended> {
        let mut shown = Instant::now() - SHOW_EVERY;
        loop {
            while let Some(wants) = get.poll() {
                match wants {
                    GetWants::Command(core, command) => self.cores.command(core, command),
                    GetWants::Plain(page) => {
                        let stream = stream.as_mut().expect("pages come only for a stream");
                        if let Err(error) = stream.write_all(&page) {
                            get.cancel();
                            self.drain_get(get);
                            return Err(Ended::Output(error.to_string()));
                        }
                    }
                    GetWants::Done(done) => {
                        self.drain_get(get);
                        if let Some(stream) = stream {
                            stream.flush().map_err(|error| Ended::Output(error.to_string()))?;
                        }
                        return (*done).map_err(Ended::Get);
                    }
                }
            }
            self.cores.ends.flush();
            if shown.elapsed() >= SHOW_EVERY {
                shown = Instant::now();
                if on(&get_progress(get)) == Flow::Stop {
                    get.cancel();
                    self.drain_get(get);
                    return Err(Ended::Interrupted);
                }
            }
            match self.cores.hear(SHOW_EVERY) {
                Some(Heard::Report(report)) => get.handle(report),
                _ if self.cores.stopped() => return Err(Ended::Cores(self.why_stopped())),
                _ => {}
            }
        }
    }

    fn drain_get(&mut self, get: &mut Get) {
        while let Some(GetWants::Command(core, command)) = get.poll() {
            self.cores.command(core, command);
        }
        self.cores.ends.flush();
    }

    /// What the source is to the machine; its numbers on the cores, if it is a file.
    #[allow(clippy::type_complexity)]
    fn open_source(
        &mut self,
        source: Source,
    ) -> Result<(PutSource, Vec<FileId>, Option<Box<dyn Read + Send>>), PutFailed> {
        match source {
            Source::Stream(stream) => Ok((PutSource::Stream, Vec::new(), Some(stream))),
            Source::File(file) => {
                let meta = file.metadata().map_err(|e| PutFailed::Source(e.to_string()))?;
                let files = self.adopt(&file).map_err(|failed| match failed {
                    NotAdopted::File(why) => PutFailed::Source(why),
                    NotAdopted::Cores(why) => PutFailed::Local(why),
                })?;
                Ok((PutSource::File(files.clone(), meta.len()), files, None))
            }
        }
    }

    /// Gives every core a handle of the file.
    fn adopt(&mut self, file: &File) -> Result<Vec<FileId>, NotAdopted> {
        let count = self.cores.count();
        for core in 0..count {
            let cloned = file.try_clone();
            let handle = cloned.map_err(|error| NotAdopted::File(error.to_string()))?;
            self.cores.send(CoreId(core), Parcel::Adopt(handle));
        }
        self.cores.ends.flush();
        let mut files = vec![None; usize::from(count)];
        while files.iter().any(Option::is_none) {
            match self.cores.hear(SHOW_EVERY) {
                Some(Heard::Adopted(core, file)) => files[core.index()] = Some(file),
                Some(Heard::Report(_)) => {}
                None if self.cores.stopped() => {
                    return Err(NotAdopted::Cores(self.why_stopped()));
                }
                None => {}
            }
        }
        Ok(files.into_iter().flatten().collect())
    }

    fn release(&mut self, files: &[FileId]) {
        for (core, &file) in (0..).zip(files) {
            self.cores.send(CoreId(core), Parcel::Release(file));
        }
        self.cores.ends.flush();
    }

    fn situation(&self, options: &PutOptions, total: Option<u64>) -> Situation {
        let hardware = pangea_probe::probe(pangea_probe::Tried::Untried(String::new()));
        Situation {
            bandwidth: None,
            load_percent: 0,
            object_bytes: total,
            memory_usable_bytes: hardware.memory_usable_bytes,
            budget_bytes: self.memory_bytes,
            holders: 0,
            cpu: Cpu {
                cores: usize::from(self.cores.count()),
                wide_aes: hardware.cpu.vaes || hardware.cpu.aes,
            },
            code: options.code,
            suite: options.suite,
            compression: match options.compression {
                None => CompressionChoice::Auto,
                Some(Compression::Off) => CompressionChoice::Off,
                Some(Compression::Zstd(level)) => CompressionChoice::Level(level),
            },
            padding: options.padding,
            previous: None,
        }
    }

    fn why_stopped(&mut self) -> String {
        self.cores.join().err().unwrap_or_else(|| "a core stopped".to_owned())
    }
}

/// What a command of the client is to the recorder.
struct CommandSpan {
    tracer: Tracer,
    context: TraceContext,
    what: SpanKind,
}

impl CommandSpan {
    fn end(&self, is_ok: bool, bytes: u64) {
        let ended = if is_ok { Outcome::Done } else { Outcome::Failed };
        if_trace! {
            self.tracer.tick(Instant::now());
        }
        self.tracer.end(&self.context, self.what, ended, bytes);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // A client keeps nothing that would have to be flushed; its peers are told.
        let _ = self.cores.close();
    }
}

/// Why a get ended early.
enum Ended {
    Interrupted,
    Output(String),
    Cores(String),
    Get(GetError),
}

/// Reads the next chunk of a stream into pages; fewer bytes only at its end. While no page is
/// free it lets the cores go on until one is.
fn read_chunk(
    stream: &mut Option<Box<dyn Read + Send>>,
    bytes: u64,
    pool: &PagePool,
    cores: &mut Cores,
    put: &mut Put,
) -> Result<Vec<Page>, String> {
    let stream = stream.as_mut().expect("chunks are asked for only of a stream");
    let mut pages = Vec::new();
    let mut left = bytes;
    while left > 0 {
        let mut page = loop {
            match pool.take() {
                Ok(page) => break page,
                Err(_) if cores.stopped() => return Err("the cores stopped".to_owned()),
                Err(_) => {
                    if let Some(Heard::Report(report)) = cores.hear(Duration::from_millis(1)) {
                        hear_while_reading(put, report, cores);
                    }
                }
            }
        };
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(page.capacity());
        let got = read_full(stream, &mut page.whole_mut()[..want]).map_err(|e| e.to_string())?;
        page.set_len(got);
        left -= got as u64;
        let ended = got < want;
        if got > 0 {
            pages.push(page);
        }
        if ended {
            break;
        }
    }
    Ok(pages)
}

fn hear_while_reading(put: &mut Put, report: Report, cores: &mut Cores) {
    put.handle(report);
    while let Some((core, command)) = put.poll_command() {
        cores.command(core, command);
    }
    cores.ends.flush();
}

fn read_full(stream: &mut dyn Read, out: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < out.len() {
        match stream.read(&mut out[filled..]) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn entropy() -> Result<Entropy, String> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| format!("no randomness: {error}"))?;
    Ok(Entropy::new(seed))
}

fn get_progress(get: &Get) -> Progress {
    Progress {
        stage: get.stage(),
        bytes_done: get.bytes_done,
        bytes_total: get.bytes_total,
        peers_up: get.peers_known(),
        label: get.label().map(|label| label.map(|label| label.as_str().to_owned())),
        troubles: get.troubles.clone(),
    }
}

fn put_report(
    outcome: PutOutcome,
    troubles: Vec<Trouble>,
    elapsed: Duration,
    lease_until: UnixTime,
) -> PutReport {
    let PutOutcome { link, bytes, complete, code, holders, survives_losses, clocks } = outcome;
    let state = if complete { PutState::Complete } else { PutState::Degraded };
    PutReport {
        link,
        bytes,
        state,
        code,
        holders,
        survives_losses,
        elapsed,
        troubles,
        lease_until,
        clocks,
    }
}

fn put_failed(error: PutError, troubles: Vec<(PeerId, String)>) -> PutFailed {
    match error {
        PutError::NoPeers => PutFailed::NoPeers,
        PutError::TooFewHolders { found, needed } => {
            PutFailed::TooFewHolders { found, needed, troubles }
        }
        PutError::Chunk { chunk, found, needed } => {
            PutFailed::ChunkFailed { chunk, found, needed, troubles }
        }
        PutError::Source(why) => PutFailed::Source(why),
        PutError::Manifest { found, needed } => {
            PutFailed::TooFewHolders { found, needed, troubles }
        }
        PutError::Local(why) => PutFailed::Local(why),
    }
}

fn get_failed(error: GetError, troubles: Vec<(PeerId, String)>) -> GetFailed {
    match error {
        GetError::NoPeers => GetFailed::NoPeers,
        GetError::NotReadable => GetFailed::WrongKey(
            "it is a verify link: it finds and checks the object, and cannot decrypt it".to_owned(),
        ),
        GetError::NoManifest { asked } => GetFailed::NoManifest { asked, troubles },
        GetError::NoPlacement => GetFailed::NoPlacement { troubles },
        GetError::WrongKey(why) => GetFailed::WrongKey(why),
        GetError::TooFew { chunk, found, needed } => {
            GetFailed::TooFewShards { chunk, found, needed, troubles }
        }
        GetError::Output(why) => GetFailed::Output(why),
    }
}

fn stat_report(outcome: StatOutcome) -> StatReport {
    let chunk = |chunk: &pangea_engine::client::ChunkStat| ChunkHealth {
        chunk: chunk.chunk.0,
        code: chunk.code,
        shards: chunk.shards.iter().map(|(index, peer, there)| (index.0, *peer, *there)).collect(),
        losses_left: chunk.losses_left(),
        lease_left: chunk.lease_left,
    };
    let chunks: Vec<ChunkHealth> = outcome.chunks.iter().map(chunk).collect();
    let holder = |holder: pangea_engine::client::HolderStat| HolderHealth {
        peer: holder.peer,
        addr: holder.addr,
        promised: holder.promised,
        confirmed: holder.confirmed,
        trouble: holder.trouble,
        clock: holder.clock,
    };
    let left = outcome.chunks.iter().filter_map(|chunk| chunk.lease_left).min();
    StatReport {
        bytes: outcome.bytes,
        losses_left: chunks.iter().map(|chunk| chunk.losses_left).min().unwrap_or(0),
        lease_until: left.map(|seconds| wall().after(Duration::from_secs(seconds))),
        chunks,
        holders: outcome.holders.into_iter().map(holder).collect(),
    }
}
