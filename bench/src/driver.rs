//! The driver's two back ends beside bare sendmsg and recvmmsg: a one-way pump of GSO trains, and
//! ping-pong. Over loopback, two threads on cores 0 and 1. Every sender writes its trains anew
//! each time, as a node does.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use pangea_reactor::{
    CoreSocket, Driver, DriverChoice, DriverConfig, Event, Park, Steer, Transmit, bind,
    uring_available,
};
use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};

use crate::Options;
use crate::table::{Table, stats};

/// One QUIC packet, and as many of them as fit one UDP message.
const SEGMENT: usize = 1200;
const TRAIN: usize = 54 * SEGMENT;
const PING: usize = 200;

/// Silence after which the receiver of a pump takes it for over.
const SILENCE: Duration = Duration::from_millis(30);

/// Longest wait for a datagram of the other side.
const PATIENCE: Duration = Duration::from_secs(1);

/// Receive buffers of the bare pump, in one recvmmsg.
const BARE_BATCH: usize = 32;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Contestant {
    Bare,
    Uring,
    Mio,
}

impl Contestant {
    fn name(self) -> &'static str {
        match self {
            Contestant::Bare => "bare sendmsg/recvmmsg (limit)",
            Contestant::Uring => "driver uring",
            Contestant::Mio => "driver mio",
        }
    }
}

/// Measures and prints.
pub fn run(options: &Options) -> Result<(), String> {
    let mut contestants = vec![Contestant::Bare];
    match uring_available() {
        Ok(()) => contestants.push(Contestant::Uring),
        Err(reason) => options.output.remark(&format!("driver uring is left out: {reason}")),
    }
    contestants.push(Contestant::Mio);
    let time = Duration::from_secs_f64(options.seconds);
    let in_words = |error: io::Error| format!("the benchmark's sockets failed: {error}");

    let mut pumps = vec![Vec::new(); contestants.len()];
    let mut pings = vec![Vec::new(); contestants.len()];
    for _ in 0..options.repeats {
        for (contestant, results) in contestants.iter().zip(&mut pumps) {
            results.push(pump(*contestant, time).map_err(in_words)?);
        }
        for (contestant, results) in contestants.iter().zip(&mut pings) {
            results.push(ping_pong(*contestant, time).map_err(in_words)?);
        }
    }
    options.output.table(pump_table(&contestants, &pumps));
    options.output.table(ping_table(&contestants, &pings));
    Ok(())
}

fn pump_table(contestants: &[Contestant], pumps: &[Vec<Pumped>]) -> Table {
    let mut table = Table::new(
        "GSO pump, 54 x 1200 B a message, loopback, median [min-max]",
        &["path", "Gbit/s", "of limit %", "receive ns/packet", "send ns/packet", "lost %"],
    );
    let column = |results: &[Pumped], value: fn(&Pumped) -> f64| {
        stats(&results.iter().map(value).collect::<Vec<_>>())
    };
    let limit = column(&pumps[0], |p| p.gbits).median;
    for (contestant, results) in contestants.iter().zip(pumps) {
        let gbits = column(results, |p| p.gbits);
        table.row(&[
            contestant.name().to_string(),
            gbits.to_string(),
            format!("{:.0}", 100.0 * gbits.median / limit),
            column(results, |p| p.receive_ns).to_string(),
            column(results, |p| p.send_ns).to_string(),
            column(results, |p| p.lost).to_string(),
        ]);
    }
    table
}

fn ping_table(contestants: &[Contestant], pings: &[Vec<Pinged>]) -> Table {
    let mut table = Table::new(
        "ping-pong, 200 B, blocking, loopback, median [min-max]",
        &["path", "RTT p50 us", "RTT p99 us", "CPU us per RTT and side"],
    );
    let column = |results: &[Pinged], value: fn(&Pinged) -> f64| {
        stats(&results.iter().map(value).collect::<Vec<_>>()).to_string()
    };
    for (contestant, results) in contestants.iter().zip(pings) {
        table.row(&[
            contestant.name().to_string(),
            column(results, |p| p.p50_us),
            column(results, |p| p.p99_us),
            column(results, |p| p.cpu_us),
        ]);
    }
    table
}

#[derive(Clone)]
struct Pumped {
    gbits: f64,
    receive_ns: f64,
    send_ns: f64,
    lost: f64,
}

/// What one side of a pump saw.
#[derive(Default)]
struct Side {
    bytes: u64,
    time: Duration,
    cpu: Duration,
}

fn pump(contestant: Contestant, time: Duration) -> io::Result<Pumped> {
    let over = AtomicBool::new(false);
    let (address, told) = mpsc::channel();
    let over = &over;
    let (received, sent) = std::thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            pin(1);
            match contestant {
                Contestant::Bare => bare_receive(address, over),
                Contestant::Uring => driver_receive(DriverChoice::Uring, address, over),
                Contestant::Mio => driver_receive(DriverChoice::Mio, address, over),
            }
        });
        let sender = scope.spawn(move || {
            pin(0);
            let to = told.recv().map_err(io::Error::other)?;
            match contestant {
                Contestant::Bare => bare_send(to, time),
                Contestant::Uring => driver_send(DriverChoice::Uring, to, time),
                Contestant::Mio => driver_send(DriverChoice::Mio, to, time),
            }
        });
        let sent = sender.join().expect("the sender does not panic");
        over.store(true, Ordering::Release);
        let received = receiver.join().expect("the receiver does not panic");
        received.and_then(|received| sent.map(|sent| (received, sent)))
    })?;
    let packets = |side: &Side| (side.bytes as f64 / SEGMENT as f64).max(1.0);
    Ok(Pumped {
        gbits: received.bytes as f64 * 8.0 / received.time.as_nanos().max(1) as f64,
        receive_ns: received.cpu.as_nanos() as f64 / packets(&received),
        send_ns: sent.cpu.as_nanos() as f64 / packets(&sent),
        lost: 100.0 * (1.0 - received.bytes as f64 / sent.bytes.max(1) as f64),
    })
}

/// Takes the time from the first datagram to the last.
#[derive(Default)]
struct Clock {
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Clock {
    fn tick(&mut self) {
        let now = Instant::now();
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    fn time(&self) -> Duration {
        match (self.first, self.last) {
            (Some(first), Some(last)) => last - first,
            _ => Duration::ZERO,
        }
    }
}

fn driver(choice: DriverChoice) -> io::Result<(Driver, SocketAddr)> {
    let bound = bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1, Steer::Kernel)?;
    let socket: Option<CoreSocket> = bound.sockets.into_iter().next();
    let config = DriverConfig {
        choice,
        receive_buffers: 128,
        receive_buffers_max: 1024,
        send_slots: 32,
        spin: Duration::ZERO,
        unreached: pangea_reactor::Unreached::Ignored,
        data_dir: None,
    };
    let socket = socket.ok_or_else(|| io::Error::other("no socket was bound"))?;
    let driver = Driver::open(&config, socket).map_err(io::Error::other)?;
    Ok((driver, bound.local))
}

fn driver_receive(
    choice: DriverChoice,
    address: mpsc::Sender<SocketAddr>,
    over: &AtomicBool,
) -> io::Result<Side> {
    let (mut driver, local) = driver(choice)?;
    let _ = address.send(local);
    let (mut bytes, mut clock, cpu) = (0, Clock::default(), cpu_time());
    loop {
        let before = bytes;
        let deadline = Instant::now() + SILENCE;
        driver.poll(Some(deadline), Park::Block, &mut |event| {
            if let Event::Datagrams { data, .. } = event {
                bytes += data.len() as u64;
            }
        })?;
        if bytes > before {
            clock.tick();
        } else if over.load(Ordering::Acquire) {
            return Ok(Side { bytes, time: clock.time(), cpu: cpu_time() - cpu });
        }
    }
}

fn driver_send(choice: DriverChoice, to: SocketAddr, time: Duration) -> io::Result<Side> {
    let (mut driver, _) = driver(choice)?;
    let (segment, train) = (Some(SEGMENT as u16), Default::default());
    let transmit = Transmit { dst: to, src_ip: None, ecn: None, segment, train };
    let (start, cpu) = (Instant::now(), cpu_time());
    while start.elapsed() < time {
        for _ in 0..8 {
            let Some(mut buffer) = driver.buffer() else { break };
            buffer.resize(TRAIN, 7);
            driver.send(transmit, buffer);
        }
        driver.poll(None, Park::Never, &mut |_| {})?;
    }
    let bytes = driver.stats().sent_bytes;
    Ok(Side { bytes, time: start.elapsed(), cpu: cpu_time() - cpu })
}

fn bare() -> io::Result<(UdpSocket, UdpSocketState)> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
    let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), 4 << 20);
    let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), 4 << 20);
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(SILENCE))?;
    Ok((socket, state))
}

fn bare_receive(address: mpsc::Sender<SocketAddr>, over: &AtomicBool) -> io::Result<Side> {
    let (socket, state) = bare()?;
    let _ = address.send(socket.local_addr()?);
    let mut memory = vec![0; BARE_BATCH * 65_536];
    let mut parts = memory.chunks_mut(65_536);
    let mut slices: [IoSliceMut<'_>; BARE_BATCH] =
        std::array::from_fn(|_| IoSliceMut::new(parts.next().unwrap_or_default()));
    let mut metas = [RecvMeta::default(); BARE_BATCH];
    let (mut bytes, mut clock, cpu) = (0, Clock::default(), cpu_time());
    loop {
        // One message at a time while blocking: recvmmsg would wait for all of them.
        match state.recv(UdpSockRef::from(&socket), &mut slices[..1], &mut metas) {
            Ok(messages) => {
                bytes += metas.iter().take(messages).map(|meta| meta.len as u64).sum::<u64>();
                clock.tick();
            }
            Err(error) if is_silence(&error) => {
                if over.load(Ordering::Acquire) {
                    return Ok(Side { bytes, time: clock.time(), cpu: cpu_time() - cpu });
                }
            }
            Err(error) => return Err(error),
        }
    }
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn bare_send(to: SocketAddr, time: Duration) -> io::Result<Side> {
    let (socket, state) = bare()?;
    let mut train = Vec::with_capacity(TRAIN);
    let (start, cpu, mut bytes) = (Instant::now(), cpu_time(), 0);
    while start.elapsed() < time {
        train.clear();
        train.resize(TRAIN, 7);
        let whole = state.max_gso_segments() > 1;
        let message = quinn_udp::Transmit {
            destination: to,
            ecn: None,
            contents: if whole { &train } else { &train[..SEGMENT] },
            segment_size: whole.then_some(SEGMENT),
            src_ip: None,
        };
        state.try_send(UdpSockRef::from(&socket), &message)?;
        bytes += message.contents.len() as u64;
    }
    Ok(Side { bytes, time: start.elapsed(), cpu: cpu_time() - cpu })
}

#[derive(Clone)]
struct Pinged {
    p50_us: f64,
    p99_us: f64,
    cpu_us: f64,
}

fn ping_pong(contestant: Contestant, time: Duration) -> io::Result<Pinged> {
    let over = AtomicBool::new(false);
    let (address, told) = mpsc::channel();
    let over = &over;
    std::thread::scope(|scope| {
        let echo = scope.spawn(move || {
            pin(1);
            let mut end = End::open(contestant)?;
            let _ = address.send(end.local()?);
            while !over.load(Ordering::Acquire) {
                if let Some(from) = end.receive(Instant::now() + SILENCE)? {
                    end.send(from)?;
                }
            }
            io::Result::Ok(())
        });
        let caller = scope.spawn(move || {
            pin(0);
            let to = told.recv().map_err(io::Error::other)?;
            pings(&mut End::open(contestant)?, to, time)
        });
        let result = caller.join().expect("the caller does not panic");
        over.store(true, Ordering::Release);
        echo.join().expect("the echo does not panic")?;
        result
    })
}

fn pings(end: &mut End, to: SocketAddr, time: Duration) -> io::Result<Pinged> {
    let (start, mut cpu) = (Instant::now(), cpu_time());
    let mut warm = 100;
    let mut times = Vec::new();
    while start.elapsed() < time || times.is_empty() {
        let sent = Instant::now();
        end.send(to)?;
        let back = end.receive(sent + PATIENCE)?;
        back.ok_or_else(|| io::Error::other("an echo did not come back"))?;
        if warm > 0 {
            warm -= 1;
            cpu = cpu_time();
        } else {
            times.push(sent.elapsed());
        }
    }
    let cpu = (cpu_time() - cpu).as_nanos() as f64 / 1e3 / times.len() as f64;
    times.sort_unstable();
    let at = |share: f64| {
        let index = (times.len() as f64 * share) as usize;
        times[index.min(times.len() - 1)].as_nanos() as f64 / 1e3
    };
    Ok(Pinged { p50_us: at(0.5), p99_us: at(0.99), cpu_us: cpu })
}

/// One side of ping-pong.
enum End {
    Bare(UdpSocket),
    Driver(Box<Driver>, SocketAddr),
}

impl End {
    fn open(contestant: Contestant) -> io::Result<End> {
        let choice = match contestant {
            Contestant::Bare => {
                let socket = UdpSocket::bind("127.0.0.1:0")?;
                socket.set_read_timeout(Some(SILENCE))?;
                return Ok(End::Bare(socket));
            }
            Contestant::Uring => DriverChoice::Uring,
            Contestant::Mio => DriverChoice::Mio,
        };
        let (driver, local) = driver(choice)?;
        Ok(End::Driver(Box::new(driver), local))
    }

    fn local(&self) -> io::Result<SocketAddr> {
        match self {
            End::Bare(socket) => socket.local_addr(),
            End::Driver(_, local) => Ok(*local),
        }
    }

    fn send(&mut self, to: SocketAddr) -> io::Result<()> {
        match self {
            End::Bare(socket) => socket.send_to(&[7; PING], to).map(|_| ()),
            End::Driver(driver, _) => {
                let buffer = driver.buffer();
                let mut buffer = buffer.ok_or_else(|| io::Error::other("no send buffer"))?;
                buffer.resize(PING, 7);
                let train = Default::default();
                let transmit = Transmit { dst: to, src_ip: None, ecn: None, segment: None, train };
                // It leaves with the poll of `receive`, in the same entry into the kernel.
                driver.send(transmit, buffer);
                Ok(())
            }
        }
    }

    fn receive(&mut self, deadline: Instant) -> io::Result<Option<SocketAddr>> {
        match self {
            End::Bare(socket) => loop {
                match socket.recv_from(&mut [0; 2048]) {
                    Ok((_, from)) => return Ok(Some(from)),
                    Err(error) if !is_silence(&error) => return Err(error),
                    Err(_) if Instant::now() >= deadline => return Ok(None),
                    Err(_) => {}
                }
            },
            End::Driver(driver, _) => {
                let mut from = None;
                while from.is_none() && Instant::now() < deadline {
                    driver.poll(Some(deadline), Park::Block, &mut |event| {
                        if let Event::Datagrams { remote, .. } = event {
                            from = Some(remote);
                        }
                    })?;
                }
                Ok(from)
            }
        }
    }
}

/// Where there is but one core, both threads share it.
fn pin(core: usize) {
    core_affinity::set_for_current(core_affinity::CoreId { id: core });
}

/// Processor time of this thread; 0 where the system does not say.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|field| field.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}
