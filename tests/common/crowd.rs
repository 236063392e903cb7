//! Many who knock at a node's door and say nothing: with the node's own transport as a client.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use pangea_base::{CoreId, Entropy, Identity, PeerAddr, Secret, UnixTime};
use pangea_transport::{Config, Congestion, Event, Limits, TlsCrypto, Transport};

/// How long a crowd may take to get in.
const PATIENCE: Duration = Duration::from_secs(60);
/// Connections that are begun before the first of them are answered.
const AT_ONCE: usize = 64;

fn transport(seed: u8) -> Transport {
    let identity = Identity::from_seed(Secret::new([seed; 32]));
    let crypto = TlsCrypto::speaking(&identity, &[pangea_transport::ALPN]).expect("an identity");
    let config = Config {
        core: CoreId(0),
        cores: 1,
        mtu_max: 1452,
        mtu_loopback: None,
        gso_segments_max: 1,
        congestion: Congestion::Cubic,
        limits: Limits { connections_max: 4096, ..Limits::STANDARD },
        reset_key: [seed; 32],
        token_key: [seed; 32],
        time: UnixTime(1_800_000_000),
    };
    Transport::new(config, Box::new(crypto), Entropy::new([seed; 32]))
}

/// Real first packets of `count` connections, each from a port of its own, and nothing after them.
/// The sockets stay open, so that answers find somebody.
pub fn knock(to: PeerAddr, count: usize) -> Vec<UdpSocket> {
    let mut transport = transport(41);
    let mut packet = Vec::with_capacity(65_536);
    let mut sockets = Vec::new();
    for _ in 0..count {
        let now = Instant::now();
        transport.connect(now, to).expect("a connection can be begun");
        // Each socket has one connection's first packets, and perhaps one of another's.
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        packet.clear();
        while transport.transmit(now, &mut packet).is_some() {
            socket.send_to(&packet, to.addr).expect("loopback takes it");
            packet.clear();
        }
        sockets.push(socket);
    }
    sockets
}

/// Connections whose handshake is done, and that never open a stream.
pub struct Silent {
    transport: Transport,
    socket: UdpSocket,
    local: SocketAddr,
    pub up: usize,
    pub gone: usize,
}

impl Silent {
    /// Connects `count` times, or as often as the node lets it.
    pub fn connect(to: PeerAddr, count: usize) -> Silent {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_read_timeout(Some(Duration::from_millis(1))).expect("a time-out");
        let local = socket.local_addr().expect("an address");
        let mut silent = Silent { transport: transport(42), socket, local, up: 0, gone: 0 };
        let started = Instant::now();
        let mut begun = 0;
        while silent.up + silent.gone < count && started.elapsed() < PATIENCE {
            while begun < count && begun < silent.up + silent.gone + AT_ONCE {
                silent.transport.connect(Instant::now(), to).expect("a connection can be begun");
                begun += 1;
            }
            silent.turn();
        }
        silent
    }

    /// Answers what came, so that the connections live.
    pub fn turn(&mut self) {
        let mut packet = Vec::with_capacity(65_536);
        let now = Instant::now();
        self.transport.tick(now);
        while let Some(meta) = self.transport.transmit(now, &mut packet) {
            let _ = self.socket.send_to(&packet, meta.dst);
            packet.clear();
        }
        let mut buffer = vec![0; 65_536];
        while let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
            let (ip, data) = (Some(self.local.ip()), &buffer[..length]);
            self.transport.datagrams(Instant::now(), from, ip, None, length, data);
        }
        while let Some(event) = self.transport.poll() {
            match event {
                Event::Connected { .. } => self.up += 1,
                Event::Closed { .. } => self.gone += 1,
                _ => {}
            }
        }
    }
}
