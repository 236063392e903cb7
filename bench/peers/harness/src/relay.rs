//! A path between client and server, in a process of its own: it delays, loses, and carries so much
//! and no more. `peer-x relay SERVER RTT_MS,LOSS_PERCENT,MBIT`.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::{Outcome, SOCKET_BYTES};

/// What a datagram costs on Ethernet beyond its own bytes: IPv4, UDP, and the frame.
const HEADER_BYTES: usize = 20 + 8 + 38;
/// What waits in front of the narrow link at most, beyond what is under way: so many milliseconds.
const QUEUE: Duration = Duration::from_millis(50);
/// How far a departure may be missed.
const TICK: Duration = Duration::from_micros(50);

/// What lies between the two.
#[derive(Clone, Copy, Debug)]
struct Path {
    /// There and back.
    rtt: Duration,
    /// Of a hundred datagrams, each way.
    loss: f64,
    /// Each way.
    mbit: f64,
}

impl Path {
    /// `RTT_MS,LOSS_PERCENT,MBIT`.
    fn parse(text: &str) -> Outcome<Path> {
        let numbers: Vec<f64> = text.split(',').map(str::parse).collect::<Result<_, _>>()?;
        let [rtt, loss, mbit] = numbers[..] else { return Err("a path is RTT,LOSS,MBIT".into()) };
        Ok(Path { rtt: Duration::try_from_secs_f64(rtt / 1e3)?, loss, mbit })
    }
}

/// Carries datagrams between whoever sends to it and the server, until its input ends.
pub fn relay(words: &[String]) -> Outcome<()> {
    let [server, path] = words else { return Err("relay SERVER RTT,LOSS,MBIT".into()) };
    let path = Path::parse(path)?;
    let (front, back) = (socket()?, socket()?);
    back.connect(server.parse::<SocketAddr>()?)?;
    println!("{}", front.local_addr()?);
    std::io::stdout().flush()?;
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let mut there = Way::new(path, 1);
    let mut again = Way::new(path, 2);
    let mut client = None;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let mut idle = true;
        while let Some((length, from)) = receive(&front, &mut buffer)? {
            client = Some(from);
            there.take(&buffer[..length]);
            idle = false;
        }
        while let Some((length, _)) = receive(&back, &mut buffer)? {
            again.take(&buffer[..length]);
            idle = false;
        }
        let now = Instant::now();
        while let Some(datagram) = there.due(now) {
            let _ = back.send(&datagram);
        }
        while let (Some(datagram), Some(client)) = (again.due(now), client) {
            let _ = front.send_to(&datagram, client);
        }
        if idle {
            std::thread::sleep(TICK);
        }
    }
}

fn socket() -> Outcome<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    let options = socket2::SockRef::from(&socket);
    options.set_recv_buffer_size(SOCKET_BYTES)?;
    options.set_send_buffer_size(SOCKET_BYTES)?;
    Ok(socket)
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Outcome<Option<(usize, SocketAddr)>> {
    match socket.recv_from(buffer) {
        Ok(received) => Ok(Some(received)),
        // The server is not there any more, or not yet: as on any network.
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused) => {
            Ok(None)
        }
        Err(e) => Err(e.into()),
    }
}

/// One direction.
struct Way {
    path: Path,
    random: u64,
    /// When the link has sent all that it has taken.
    free_at: Instant,
    under_way: VecDeque<(Instant, Vec<u8>)>,
}

impl Way {
    fn new(path: Path, seed: u64) -> Way {
        Way { path, random: seed, free_at: Instant::now(), under_way: VecDeque::new() }
    }

    fn take(&mut self, datagram: &[u8]) {
        let now = Instant::now();
        let begins = self.free_at.max(now);
        if begins - now > QUEUE || self.is_lost() {
            return;
        }
        let bits = (datagram.len() + HEADER_BYTES) as f64 * 8.0;
        self.free_at = begins + Duration::from_secs_f64(bits / (self.path.mbit * 1e6));
        self.under_way.push_back((self.free_at + self.path.rtt / 2, datagram.to_vec()));
    }

    fn due(&mut self, now: Instant) -> Option<Vec<u8>> {
        let (at, _) = self.under_way.front()?;
        if *at > now {
            return None;
        }
        self.under_way.pop_front().map(|(_, datagram)| datagram)
    }

    /// By a generator with a fixed seed (splitmix64), so that every peer loses alike.
    fn is_lost(&mut self) -> bool {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1u64 << 53) as f64 * 100.0 < self.path.loss
    }
}
