//! Bulk over one QUIC connection on loopback: our transport on our driver, beside quinn on tokio
//! with the same cipher and the same datagram size, and beside the bare driver as the limit. The
//! client is pinned to core 0, the server to core 1.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pangea_base::{CoreId, Entropy, Identity, PeerAddr, Secret, UnixTime};
use pangea_reactor::{
    CoreSocket, Driver, DriverChoice, DriverConfig, Ecn, Event, Park, Steer, Transmit, bind,
};
use pangea_transport::{
    Config, Congestion, ConnId, KeepAlive, Limits, StreamId, TRAIN_BYTES_MAX, TlsCrypto,
    TransmitMeta, Transport,
};

use crate::Options;
use crate::table::{Table, stats};

const CLIENT_CORE: usize = 0;
const SERVER_CORE: usize = 1;

/// UDP payload on Ethernet as quinn discovers it, and of the loopback interface.
const MTU_ETHERNET: u16 = 1452;
const MTU_LOOPBACK: u16 = 65_507;

/// What a write is given at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// Slow start and MTU discovery are over by then.
const WARM_UP: Duration = Duration::from_millis(500);

/// How long a side that has nothing to do sleeps before it looks whether the run is over.
const LOOK_UP: Duration = Duration::from_millis(20);

#[derive(Clone, Copy)]
enum Case {
    Bare { segment: u16 },
    Ours { mtu: u16, streams: usize },
    Quinn { streams: usize },
}

struct Sample {
    gbps: f64,
    /// Both sides, seconds per GiB.
    cpu: f64,
}

/// Runs the table. Extra options: `--quinn PATH` (the binary of `bench/peers`), `--driver
/// auto|uring|mio`.
pub fn run(options: &Options) -> Result<(), String> {
    let (choice, quinn) = extra(&options.rest)?;
    let mut cases = vec![
        Case::Bare { segment: MTU_ETHERNET },
        Case::Ours { mtu: MTU_ETHERNET, streams: 1 },
        Case::Ours { mtu: MTU_ETHERNET, streams: 16 },
        Case::Ours { mtu: MTU_LOOPBACK, streams: 1 },
        Case::Ours { mtu: MTU_LOOPBACK, streams: 16 },
    ];
    match &quinn {
        Some(_) => cases.extend([Case::Quinn { streams: 1 }, Case::Quinn { streams: 16 }]),
        None => eprintln!(
            "quinn is left out: build it with 'cargo build --release --manifest-path \
             bench/peers/Cargo.toml', or name it with --quinn PATH"
        ),
    }
    let mut samples: Vec<Vec<Sample>> = cases.iter().map(|_| Vec::new()).collect();
    for _ in 0..options.repeats {
        for (case, samples) in cases.iter().zip(&mut samples) {
            samples.push(measure(*case, options.seconds, choice, quinn.as_deref())?);
        }
    }
    let columns = ["transport", "streams", "MTU", "Gbit/s", "CPU s/GiB"];
    let mut table = Table::new("Bulk over one connection, loopback, two cores", &columns);
    for (case, samples) in cases.iter().zip(&samples) {
        let gbps = stats(&samples.iter().map(|s| s.gbps).collect::<Vec<f64>>());
        let cpu = stats(&samples.iter().map(|s| s.cpu).collect::<Vec<f64>>());
        let (name, streams, mtu) = match *case {
            Case::Bare { segment } => ("bare UDP, GSO trains", 0, segment),
            Case::Ours { mtu, streams } => ("pangea", streams, mtu),
            Case::Quinn { streams } => ("quinn 0.11, tokio", streams, MTU_ETHERNET),
        };
        let cells = [name.to_owned(), streams.to_string(), mtu.to_string()];
        table.row(&[&cells[..], &[gbps.to_string(), cpu.to_string()]].concat());
    }
    table.print(options.json);
    Ok(())
}

fn extra(rest: &[String]) -> Result<(DriverChoice, Option<PathBuf>), String> {
    let built = Path::new("bench/peers/target/release/peer-quinn");
    let mut quinn = built.exists().then(|| built.to_owned());
    let mut choice = DriverChoice::Auto;
    let mut rest = rest.iter();
    while let Some(option) = rest.next() {
        let value = rest.next().ok_or_else(|| format!("{option} needs a value"))?;
        match (option.as_str(), value.as_str()) {
            ("--quinn", path) => quinn = Some(PathBuf::from(path)),
            ("--driver", "auto") => choice = DriverChoice::Auto,
            ("--driver", "uring") => choice = DriverChoice::Uring,
            ("--driver", "mio") => choice = DriverChoice::Mio,
            _ => return Err(format!("transport knows no {option} {value}")),
        }
    }
    Ok((choice, quinn))
}

fn measure(
    case: Case,
    seconds: f64,
    choice: DriverChoice,
    quinn: Option<&Path>,
) -> Result<Sample, String> {
    match case {
        Case::Bare { segment } => both(seconds, choice, move |side| side.bare(segment)),
        Case::Ours { mtu, streams } => {
            both(seconds, choice, move |side| side.transport(mtu, streams))
        }
        Case::Quinn { streams } => peer(quinn.ok_or("no quinn")?, streams, seconds),
    }
}

/// quinn in two processes of its own; it prints `GBPS CPU_SECONDS_PER_GIB`.
fn peer(binary: &Path, streams: usize, seconds: f64) -> Result<Sample, String> {
    let arguments =
        ["bulk".to_owned(), streams.to_string(), seconds.to_string(), MTU_ETHERNET.to_string()];
    let said = |e| format!("{} cannot be run: {e}", binary.display());
    let output = Command::new(binary).args(arguments).output().map_err(said)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    match numbers[..] {
        [gbps, cpu] => Ok(Sample { gbps, cpu }),
        _ => Err(format!("quinn failed: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// What the two threads and the one that measures share.
#[derive(Default)]
struct Shared {
    received: AtomicU64,
    stop: AtomicBool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Client,
    Server,
}

/// One end of a run: made and used on its own pinned thread.
struct Side {
    role: Role,
    driver: Driver,
    server: SocketAddr,
    shared: Arc<Shared>,
}

/// Runs `work` at both ends and measures what arrives in the middle of the run.
fn both(
    seconds: f64,
    choice: DriverChoice,
    work: impl Fn(Side) -> Result<(), String> + Copy + Send + 'static,
) -> Result<Sample, String> {
    let shared = Arc::new(Shared::default());
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let open = || {
        let bound = bind(any, 1, Steer::Kernel).map_err(|e| format!("no UDP socket: {e}"))?;
        let socket = bound.sockets.into_iter().next().ok_or("no UDP socket")?;
        Ok::<(CoreSocket, SocketAddr), String>((socket, bound.local))
    };
    let (server_socket, server) = open()?;
    let (client_socket, _) = open()?;
    let (tell, told) = std::sync::mpsc::channel();
    let start = |role, core, socket| {
        let (shared, tell) = (shared.clone(), tell.clone());
        std::thread::spawn(move || {
            core_affinity::set_for_current(core_affinity::CoreId { id: core });
            let _ = tell.send(std::fs::read_link("/proc/thread-self").ok());
            let driver = Driver::open(&driver_config(choice), socket).map_err(|e| e.to_string())?;
            work(Side { role, driver, server, shared })
        })
    };
    let threads = [
        start(Role::Server, SERVER_CORE, server_socket),
        start(Role::Client, CLIENT_CORE, client_socket),
    ];
    let threads_of: Vec<PathBuf> = told.iter().take(2).flatten().collect();
    std::thread::sleep(WARM_UP);
    let read = || (Instant::now(), shared.received.load(Ordering::Relaxed), cpu(&threads_of));
    let before = read();
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let after = read();
    shared.stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().map_err(|_| "a side panicked".to_owned())??;
    }
    let wall = (after.0 - before.0).as_secs_f64();
    let bytes = (after.1 - before.1) as f64;
    if bytes == 0.0 {
        return Err("nothing arrived".to_owned());
    }
    let gib = bytes / (1u64 << 30) as f64;
    Ok(Sample { gbps: bytes * 8.0 / wall / 1e9, cpu: (after.2 - before.2) / gib })
}

/// Seconds that the threads have spent on a processor; 0 where the system does not tell.
fn cpu(threads: &[PathBuf]) -> f64 {
    let nanos = |thread: &PathBuf| {
        let path = Path::new("/proc").join(thread).join("schedstat");
        let text = std::fs::read_to_string(path).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    };
    threads.iter().filter_map(nanos).sum::<f64>() / 1e9
}

fn driver_config(choice: DriverChoice) -> DriverConfig {
    DriverConfig {
        choice,
        receive_buffers: 128,
        receive_buffers_max: 512,
        send_slots: 64,
        spin: Duration::ZERO,
        data_dir: None,
    }
}

impl Side {
    fn stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// Trains of datagrams as fast as they go, counted where they arrive.
    fn bare(mut self, segment: u16) -> Result<(), String> {
        let train = TRAIN_BYTES_MAX / usize::from(segment) * usize::from(segment);
        while !self.stopped() {
            if self.role == Role::Client {
                while let Some(mut buffer) = self.driver.buffer() {
                    buffer.resize(train, 0);
                    let to = Transmit {
                        dst: self.server,
                        src_ip: None,
                        ecn: None,
                        segment: Some(segment),
                        train: Default::default(),
                    };
                    self.driver.send(to, buffer);
                }
            }
            let received = &self.shared.received;
            let deadline = Some(Instant::now() + LOOK_UP);
            self.driver
                .poll(deadline, Park::Block, &mut |event| {
                    if let Event::Datagrams { data, .. } = event {
                        received.fetch_add(data.len() as u64, Ordering::Relaxed);
                    }
                })
                .map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// One connection with `streams` streams that are always full.
    fn transport(mut self, mtu: u16, streams: usize) -> Result<(), String> {
        let identity = |seed| Identity::from_seed(Secret::new([seed; 32]));
        let (me, peer) = match self.role {
            Role::Client => (identity(1), identity(2).peer()),
            Role::Server => (identity(2), identity(1).peer()),
        };
        let crypto = TlsCrypto::new(&me).map_err(|e| e.to_string())?;
        let seed = Entropy::new([self.role as u8; 32]);
        let caps = self.driver.caps();
        let config = transport_config(mtu, caps.max_gso_segments.into());
        let mut transport = Transport::new(config, Box::new(crypto), seed);
        let mut bulk = Bulk::new(streams);
        if self.role == Role::Client {
            let to = PeerAddr { peer, addr: self.server };
            transport.connect(Instant::now(), to).map_err(|e| e.to_string())?;
        }
        while !self.stopped() {
            self.turn(&mut transport, &mut bulk)?;
        }
        Ok(())
    }

    /// One wake: take everything in, run what is due, send everything out.
    fn turn(&mut self, transport: &mut Transport, bulk: &mut Bulk) -> Result<(), String> {
        let look_up = Instant::now() + LOOK_UP;
        let deadline = transport.deadline().map_or(look_up, |at| at.min(look_up));
        let park = if transport.idle() || bulk.no_slot { Park::Block } else { Park::Never };
        let mut clock = None;
        self.driver
            .poll(Some(deadline), park, &mut |event| {
                if let Event::Datagrams { remote, local_ip, ecn, stride, data } = event {
                    let now = *clock.get_or_insert_with(Instant::now);
                    transport.datagrams(now, remote, local_ip, ecn.map(Ecn::bits), stride, data);
                }
            })
            .map_err(|e| e.to_string())?;
        let now = Instant::now();
        transport.tick(now);
        while let Some(event) = transport.poll() {
            bulk.react(transport, now, &event, &self.shared)?;
        }
        bulk.no_slot = false;
        loop {
            let Some(mut buffer) = self.driver.buffer() else {
                bulk.no_slot = true;
                return Ok(());
            };
            let Some(meta) = transport.transmit(now, &mut buffer) else {
                self.driver.recycle(buffer);
                return Ok(());
            };
            self.driver.send(to_driver(meta), buffer);
        }
    }
}

fn to_driver(meta: TransmitMeta) -> Transmit {
    Transmit {
        dst: meta.dst,
        src_ip: meta.src_ip.filter(IpAddr::is_ipv4),
        ecn: meta.ecn.and_then(Ecn::from_bits),
        segment: meta.segment,
        train: meta.train,
    }
}

fn transport_config(mtu_max: u16, gso_segments_max: usize) -> Config {
    Config {
        core: CoreId(0),
        cores: 1,
        mtu_max,
        mtu_loopback: None,
        gso_segments_max,
        congestion: Congestion::Cubic,
        limits: Limits::STANDARD,
        reset_key: [1; 32],
        token_key: [2; 32],
        time: UnixTime(1_800_000_000),
    }
}

/// The work of either end on its one connection.
struct Bulk {
    wanted: usize,
    source: Bytes,
    /// Streams of the client with what is left of the present chunk.
    open: Vec<(StreamId, Bytes)>,
    no_slot: bool,
}

impl Bulk {
    fn new(wanted: usize) -> Bulk {
        let source = Bytes::from(vec![b'U'; CHUNK_BYTES]);
        Bulk { wanted, source, open: Vec::new(), no_slot: false }
    }

    fn react(
        &mut self,
        transport: &mut Transport,
        now: Instant,
        event: &pangea_transport::Event,
        shared: &Shared,
    ) -> Result<(), String> {
        use pangea_transport::Event::*;
        match event {
            Connected { conn, side: pangea_transport::Side::Dialled, .. } => {
                transport.keep_alive(now, *conn, KeepAlive::Every(Duration::from_secs(10)));
                self.open_more(transport, *conn);
            }
            StreamsAvailable { conn } => self.open_more(transport, *conn),
            Writable { conn, stream } => {
                if let Some(open) = self.open.iter_mut().find(|(id, _)| id == stream) {
                    fill(transport, *conn, open, &self.source);
                }
            }
            Readable { conn, stream } => {
                let mut read = 0;
                let outcome =
                    transport.read_into(*conn, *stream, usize::MAX, &mut |b| read += b.len());
                outcome.map_err(|e| e.to_string())?;
                shared.received.fetch_add(read as u64, Ordering::Relaxed);
            }
            Closed { reason, .. } => return Err(reason.to_string()),
            _ => {}
        }
        Ok(())
    }

    fn open_more(&mut self, transport: &mut Transport, conn: ConnId) {
        while self.open.len() < self.wanted {
            let Some(stream) = transport.open(conn) else { return };
            let mut open = (stream, Bytes::new());
            fill(transport, conn, &mut open, &self.source);
            self.open.push(open);
        }
    }
}

/// Writes until the stream takes no more.
fn fill(transport: &mut Transport, conn: ConnId, open: &mut (StreamId, Bytes), source: &Bytes) {
    loop {
        if open.1.is_empty() {
            open.1 = source.clone();
        }
        if !transport.write(conn, open.0, &mut open.1).is_ok_and(|written| written > 0) {
            return;
        }
    }
}
