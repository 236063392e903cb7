//! What this machine can do without QUIC: UDP in trains (GSO, GRO), TCP, TLS over TCP, and round trips
//! over UDP, sleeping and spinning. A limit's name goes before the test: `peer-limits udp bulk`.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use peer_harness::{
    CLIENT_CORE, Latency, MESSAGE_BYTES, Outcome, Record, Run, SOCKET_BYTES, Server, Test, on_core,
    request,
};

#[path = "../../shared/tls.rs"]
mod tls;

const CHUNK_BYTES: usize = 256 << 10;
/// What one send takes at most.
const TRAIN_BYTES: usize = 65_507;
/// The kernel's limit of datagrams in one train.
const TRAIN_DATAGRAMS: usize = 64;
/// A datagram of this length asks for the count.
const QUESTION_BYTES: usize = 1;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Limit {
    Udp,
    UdpSpinning,
    Tcp,
    Tls,
}

fn main() -> Outcome<()> {
    let run = Run::from_args(&["limit"])?;
    let limit = match run.said("limit") {
        Some("udp") => Limit::Udp,
        Some("udp-spin") => Limit::UdpSpinning,
        Some("tcp") => Limit::Tcp,
        Some("tls") => Limit::Tls,
        _ => {
            return Err(
                "usage: peer-limits bulk|rtt limit=udp|udp-spin|tcp|tls [KEY=VALUE]...".into()
            );
        }
    };
    if run.is_server {
        on_core(run.server_core);
        return match (limit, run.test) {
            (Limit::Udp, Test::Bulk) => udp_sink(),
            (Limit::Tcp, Test::Bulk) => tcp_sink(),
            (Limit::Tls, Test::Bulk) => tls_sink(),
            (Limit::Udp | Limit::UdpSpinning, Test::Rtt | Test::Datagram) => udp_echo(limit),
            (Limit::Tcp, Test::Rtt) => tcp_echo(),
            _ => Err("there is no such limit".into()),
        };
    }
    let mut server = Server::start(&run)?;
    on_core(CLIENT_CORE);
    match (limit, run.test) {
        (Limit::Udp, Test::Bulk) => udp_pump(&run, &mut server),
        (Limit::Tcp, Test::Bulk) => tcp_pump(&run, &mut server),
        (Limit::Tls, Test::Bulk) => tls_pump(&run, &mut server),
        (Limit::Tcp, Test::Rtt) => tcp_round_trips(&run, &mut server),
        _ => udp_round_trips(&run, &mut server, limit),
    }
}

fn socket() -> Outcome<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let options = socket2::SockRef::from(&socket);
    options.set_recv_buffer_size(SOCKET_BYTES)?;
    options.set_send_buffer_size(SOCKET_BYTES)?;
    Ok(socket)
}

fn set(socket: &UdpSocket, option: i32, value: i32) -> Outcome<()> {
    use std::os::fd::AsRawFd;
    let pointer = std::ptr::from_ref(&value).cast();
    // SAFETY: the pointer is to an int that outlives the call, and the length is an int's.
    let failed = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            option,
            pointer,
            size_of::<i32>() as u32,
        )
    };
    match failed {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().into()),
    }
}

/// Counts bytes; who sends a single one is told the count.
fn udp_sink() -> Outcome<()> {
    let socket = socket()?;
    set(&socket, libc::UDP_GRO, 1)?;
    peer_harness::serve(&socket.local_addr()?.to_string());
    let mut buffer = vec![0; 1 << 16];
    let mut bytes = 0_u64;
    loop {
        let (length, from) = socket.recv_from(&mut buffer)?;
        if length == QUESTION_BYTES {
            socket.send_to(&bytes.to_le_bytes(), from)?;
        } else {
            bytes += length as u64;
        }
    }
}

fn udp_pump(run: &Run, server: &mut Server) -> Outcome<()> {
    let socket = socket()?;
    socket.connect(&server.place)?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mtu = usize::from(run.mtu);
    let train = vec![7; (TRAIN_BYTES / mtu).clamp(1, TRAIN_DATAGRAMS) * mtu];
    set(&socket, libc::UDP_SEGMENT, i32::from(run.mtu))?;
    let before = udp_count(&socket)?;
    let record = Record::begin(server)?;
    let until = Instant::now() + run.seconds;
    while Instant::now() < until {
        match socket.send(&train) {
            Ok(_) => {}
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let bytes = udp_count(&socket)? - before;
    record.bulk(server, bytes)
}

fn udp_count(socket: &UdpSocket) -> Outcome<u64> {
    let mut answer = [0; 8];
    for _ in 0..50 {
        socket.send(&[0; QUESTION_BYTES])?;
        if let Ok(8) = socket.recv(&mut answer) {
            return Ok(u64::from_le_bytes(answer));
        }
    }
    Err("the server does not say its count".into())
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Outcome<(usize, SocketAddr)> {
    loop {
        match socket.recv_from(buffer) {
            Ok(received) => return Ok(received),
            Err(e) if e.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
            Err(e) => return Err(e.into()),
        }
    }
}

fn udp_echo(limit: Limit) -> Outcome<()> {
    let socket = socket()?;
    socket.set_nonblocking(limit == Limit::UdpSpinning)?;
    peer_harness::serve(&socket.local_addr()?.to_string());
    let mut buffer = [0; 2048];
    loop {
        let (length, from) = receive(&socket, &mut buffer)?;
        socket.send_to(&buffer[..length], from)?;
    }
}

fn udp_round_trips(run: &Run, server: &mut Server, limit: Limit) -> Outcome<()> {
    let socket = socket()?;
    socket.connect(&server.place)?;
    socket.set_nonblocking(limit == Limit::UdpSpinning)?;
    round_trips(run, server, |message, answer| {
        socket.send(message)?;
        receive(&socket, answer).map(drop)
    })
}

fn tcp_echo() -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    peer_harness::serve(&listener.local_addr()?.to_string());
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut message = [0; MESSAGE_BYTES];
    while stream.read_exact(&mut message).is_ok() {
        stream.write_all(&message)?;
    }
    wait_for_the_end()
}

fn tcp_round_trips(run: &Run, server: &mut Server) -> Outcome<()> {
    let mut stream = TcpStream::connect(&server.place)?;
    stream.set_nodelay(true)?;
    round_trips(run, server, |message, answer| {
        stream.write_all(message)?;
        Ok(stream.read_exact(answer)?)
    })
}

fn round_trips(
    run: &Run,
    server: &mut Server,
    mut once: impl FnMut(&[u8; MESSAGE_BYTES], &mut [u8; MESSAGE_BYTES]) -> Outcome<()>,
) -> Outcome<()> {
    let mut answer = [0; MESSAGE_BYTES];
    for number in 0..run.count / 20 {
        once(&request(number as u64), &mut answer)?;
    }
    let mut latency = Latency::default();
    let record = Record::begin(server)?;
    for number in 0..run.count {
        let message = request(number as u64);
        let began = Instant::now();
        once(&message, &mut answer)?;
        latency.add(began.elapsed());
        if answer != message {
            return Err("another message came back".into());
        }
    }
    record.operations(server, &latency)
}

fn tcp_sink() -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    peer_harness::serve(&listener.local_addr()?.to_string());
    let (mut stream, _) = listener.accept()?;
    count(&mut stream)?;
    wait_for_the_end()
}

/// Reads to the end, and says how much it was.
fn count(stream: &mut (impl Read + Write)) -> Outcome<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut bytes = 0_u64;
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            length => bytes += length as u64,
        }
    }
    stream.write_all(&bytes.to_le_bytes())?;
    Ok(stream.flush()?)
}

/// The process ends with its client's questions.
fn wait_for_the_end() -> Outcome<()> {
    loop {
        std::thread::park();
    }
}

fn tcp_pump(run: &Run, server: &mut Server) -> Outcome<()> {
    let mut stream = TcpStream::connect(&server.place)?;
    let chunk = vec![7; CHUNK_BYTES];
    let record = Record::begin(server)?;
    let until = Instant::now() + run.seconds;
    while Instant::now() < until {
        stream.write_all(&chunk)?;
    }
    stream.shutdown(Shutdown::Write)?;
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes)?;
    record.bulk(server, u64::from_le_bytes(bytes))
}

fn tls_sink() -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    peer_harness::serve(&listener.local_addr()?.to_string());
    let (mut stream, _) = listener.accept()?;
    let mut connection = rustls::ServerConnection::new(Arc::new(tls::server()?))?;
    connection.set_buffer_limit(Some(CHUNK_BYTES));
    count(&mut rustls::Stream::new(&mut connection, &mut stream))?;
    wait_for_the_end()
}

fn tls_pump(run: &Run, server: &mut Server) -> Outcome<()> {
    let mut stream = TcpStream::connect(&server.place)?;
    let config = Arc::new(tls::client()?);
    let mut connection = rustls::ClientConnection::new(config, "localhost".try_into()?)?;
    let mut tls = rustls::Stream::new(&mut connection, &mut stream);
    let chunk = vec![7; peer_harness::CHUNK_BYTES];
    // The handshake is not measured.
    tls.write_all(&chunk)?;
    let record = Record::begin(server)?;
    let until = Instant::now() + run.seconds;
    while Instant::now() < until {
        tls.write_all(&chunk)?;
    }
    tls.conn.send_close_notify();
    tls.flush()?;
    let mut bytes = [0; 8];
    tls.read_exact(&mut bytes)?;
    record.bulk(server, u64::from_le_bytes(bytes) - chunk.len() as u64)
}
