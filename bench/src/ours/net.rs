//! A driver and a transport, turned the way a core of a node turns them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use pangea_base::{CoreId, Entropy, Identity, PeerAddr, Secret, UnixTime};
use pangea_reactor::{Driver, DriverConfig, Ecn, Park, Steer, Transmit, bind};
use pangea_transport::{Config, ConnId, Crypto, Event, Limits, TlsCrypto, TransmitMeta, Transport};
use peer_harness::Outcome;

use super::crypto::BenchCrypto;
use super::{Setup, Tls};

/// A packet on Ethernet; a path with more is this machine itself.
const ETHERNET_BYTES: u16 = 1500;
/// What the most requests in flight need.
const STREAMS_MAX: u32 = 128;
const MESSAGE_BYTES_MAX: u32 = 256 << 10;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Client,
    Server,
}

pub struct Net {
    driver: Driver,
    pub transport: Transport,
    pub local: SocketAddr,
    /// The last sending ended because all send buffers were under way.
    starved: bool,
}

impl Net {
    pub fn open(setup: &Setup, role: Role) -> Outcome<Net> {
        let bound = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 1, Steer::Kernel)?;
        let socket = bound.sockets.into_iter().next().ok_or("no UDP socket")?;
        let config = DriverConfig {
            choice: setup.driver,
            receive_buffers: 128,
            receive_buffers_max: 512,
            send_slots: 64,
            spin: setup.spin,
            unreached: pangea_reactor::Unreached::Ignored,
            data_dir: None,
        };
        let driver = Driver::open(&config, socket)?;
        let crypto: Box<dyn Crypto> = match setup.tls {
            Tls::Bench => Box::new(BenchCrypto::new(identity(Role::Server).peer())?),
            Tls::Shipped => Box::new(TlsCrypto::new(&identity(role))?),
        };
        let segments = driver.caps().max_gso_segments.into();
        let transport = Transport::new(config_of(setup, segments), crypto, seed(role));
        Ok(Net { driver, transport, local: bound.local, starved: false })
    }

    /// Begins a connection to the server there.
    pub fn dial(&mut self, addr: SocketAddr) -> Outcome<ConnId> {
        let to = PeerAddr { peer: identity(Role::Server).peer(), addr };
        Ok(self.transport.connect(Instant::now(), to)?)
    }

    /// One wake: sends everything out, waits for something to happen, until then at most, takes
    /// everything in, runs what is due. What follows from it goes out with the next turn.
    pub fn turn(
        &mut self,
        until: Instant,
        work: &mut dyn FnMut(&mut Transport, Event) -> Outcome<()>,
    ) -> Outcome<()> {
        self.flush(Instant::now());
        let deadline = self.transport.deadline().map_or(until, |at| at.min(until));
        let park = if self.transport.idle() || self.starved { Park::Block } else { Park::Never };
        let transport = &mut self.transport;
        let mut clock = None;
        self.driver.poll(Some(deadline), park, &mut |event| {
            if let pangea_reactor::Event::Datagrams { remote, local_ip, ecn, stride, data } = event
            {
                let now = *clock.get_or_insert_with(Instant::now);
                transport.datagrams(now, remote, local_ip, ecn.map(Ecn::bits), stride, data);
            }
        })?;
        let now = clock.unwrap_or_else(Instant::now);
        self.transport.tick(now);
        while let Some(event) = self.transport.poll() {
            work(&mut self.transport, event)?;
            if self.transport.fills_a_packet() {
                self.send_now(now);
            }
        }
        Ok(())
    }

    /// Sends everything out while there is still other work to do.
    pub fn send_now(&mut self, now: Instant) {
        self.flush(now);
        self.driver.flush();
    }

    /// Sends everything out, with the wait that follows.
    pub fn flush(&mut self, now: Instant) {
        self.starved = false;
        loop {
            let Some(mut buffer) = self.driver.buffer() else {
                self.starved = true;
                return;
            };
            let Some(meta) = self.transport.transmit(now, &mut buffer) else {
                return self.driver.recycle(buffer);
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

fn identity(role: Role) -> Identity {
    Identity::from_seed(Secret::new([role as u8; 32]))
}

fn seed(role: Role) -> Entropy {
    Entropy::new([role as u8; 32])
}

/// A node's own settings, with room for what is measured.
fn config_of(setup: &Setup, gso_segments_max: usize) -> Config {
    Config {
        core: CoreId(0),
        cores: 1,
        mtu_max: setup.mtu,
        mtu_loopback: (setup.mtu > ETHERNET_BYTES).then_some(setup.mtu),
        gso_segments_max,
        congestion: setup.congestion,
        limits: Limits {
            streams_max: STREAMS_MAX,
            message_bytes: MESSAGE_BYTES_MAX,
            ..Limits::STANDARD
        },
        reset_key: [1; 32],
        token_key: [2; 32],
        time: UnixTime(1_800_000_000),
    }
}
