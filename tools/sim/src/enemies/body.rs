//! What every enemy is made of: a QUIC endpoint of its own, entropy, a count of its deeds.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pangea_base::{CoreId, Entropy, Identity, Locator, PeerAddr, UnixTime};
use pangea_transport::testing::PlainCrypto;
use pangea_transport::{ALPN, ConnId, Event, KeepAlive, TransmitMeta, Transport};
use pangea_wire::{Link, Receipt};

use crate::actor::Actor;

/// Datagrams of an enemy's own making that wait to go out; further ones are dropped.
const RAW_MAX: usize = 256;

/// How an enemy is set up below its script.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    /// Which of how many enemies behind one address it is.
    pub seat: (u8, u8),
    /// The application protocol that it speaks.
    pub alpn: &'static [u8],
    /// Bytes that it lets others send ahead, where that is not what everybody does.
    pub window: Option<u32>,
    /// How often it shows that it lives, on every connection.
    pub keep_alive: Option<Duration>,
}

impl Habits {
    /// Those of an honest node.
    pub const HONEST: Habits = Habits { seat: (0, 1), alpn: ALPN, window: None, keep_alive: None };
}

/// A datagram that goes out as it is.
struct Raw {
    to: SocketAddr,
    seems_from: Option<SocketAddr>,
    data: Vec<u8>,
}

/// What conduct works with.
pub(super) struct Body {
    pub transport: Transport,
    pub identity: Identity,
    pub addr: SocketAddr,
    pub entropy: Entropy,
    pub now: Instant,
    pub wall: UnixTime,
    pub nodes: Vec<PeerAddr>,
    pub offers: Vec<Link>,
    pub receipts: Vec<Receipt>,
    habits: Habits,
    raw: VecDeque<Raw>,
    deeds: BTreeMap<&'static str, u64>,
}

impl Body {
    pub fn new(
        habits: Habits,
        identity: Identity,
        addr: SocketAddr,
        mut entropy: Entropy,
        now: Instant,
    ) -> Body {
        let (core, cores) = habits.seat;
        let mut config = pangea_transport::testing::config(core);
        (config.core, config.cores) = (CoreId(core), cores);
        if let Some(window) = habits.window {
            config.limits.receive_window_start = window;
            config.limits.receive_window_max = window;
            config.limits.stream_receive_window = window;
        }
        let crypto = PlainCrypto::speaking(identity.peer(), habits.alpn);
        Body {
            transport: Transport::new(config, Box::new(crypto), entropy.split()),
            identity,
            addr,
            entropy,
            now,
            wall: UnixTime(0),
            nodes: Vec::new(),
            offers: Vec::new(),
            receipts: Vec::new(),
            habits,
            raw: VecDeque::new(),
            deeds: BTreeMap::new(),
        }
    }

    /// One more of a deed.
    pub fn did(&mut self, deed: &'static str) {
        self.did_so_many(deed, 1);
    }

    pub fn did_so_many(&mut self, deed: &'static str, times: u64) {
        if times > 0 {
            *self.deeds.entry(deed).or_default() += times;
        }
    }

    /// A datagram of its own making, which may seem to come from elsewhere.
    pub fn send_raw(&mut self, to: SocketAddr, seems_from: Option<SocketAddr>, data: Vec<u8>) {
        if self.raw.len() < RAW_MAX && !data.is_empty() {
            self.raw.push_back(Raw { to, seems_from, data });
        }
    }

    /// So many bytes of entropy.
    pub fn noise(&mut self, length: usize) -> Bytes {
        let mut bytes = vec![0; length];
        self.entropy.fill(&mut bytes);
        Bytes::from(bytes)
    }

    /// An address at which nobody is.
    pub fn nowhere(&mut self) -> SocketAddr {
        let [a, b, c] = self.entropy.array::<3>();
        SocketAddr::from(([203, a, b, c], 4000 + u16::from(c)))
    }

    /// Keeps a connection from idling out, if that is its habit.
    fn show_life(&mut self, conn: ConnId) {
        if let Some(period) = self.habits.keep_alive {
            self.transport.keep_alive(self.now, conn, KeepAlive::Every(period));
        }
    }
}

/// What an enemy does with its body.
pub(super) trait Conduct {
    /// Something happened on one of its connections.
    fn event(&mut self, body: &mut Body, event: Event);

    /// Does what is due now.
    fn act(&mut self, body: &mut Body);

    /// When something is due next.
    fn deadline(&self) -> Option<Instant>;

    /// Somebody tells it of an object that was put.
    fn told_of(&mut self, _locator: Locator) {}

    /// A datagram as it came.
    fn heard(&mut self, _body: &mut Body, _remote: SocketAddr, _datagram: &[u8]) {}

    /// A train as it goes out.
    fn sent(&mut self, _body: &mut Body, _to: SocketAddr, _stride: usize, _train: &[u8]) {}
}

/// An enemy: a body and what it does with it.
pub(super) struct Enemy {
    pub body: Body,
    conduct: Box<dyn Conduct>,
    is_holder: bool,
}

impl Enemy {
    pub fn holder(body: Body, conduct: impl Conduct + 'static) -> Enemy {
        Enemy { body, conduct: Box::new(conduct), is_holder: true }
    }

    pub fn caller(body: Body, conduct: impl Conduct + 'static) -> Enemy {
        Enemy { body, conduct: Box::new(conduct), is_holder: false }
    }

    fn events(&mut self) {
        while let Some(event) = self.body.transport.poll() {
            if let Event::Connected { conn, .. } = event {
                self.body.show_life(conn);
            }
            self.conduct.event(&mut self.body, event);
        }
    }
}

impl Actor for Enemy {
    fn addr(&self) -> PeerAddr {
        PeerAddr { peer: self.body.identity.peer(), addr: self.body.addr }
    }

    fn is_holder(&self) -> bool {
        self.is_holder
    }

    fn meet(&mut self, nodes: &[PeerAddr]) {
        self.body.nodes = nodes.to_vec();
    }

    fn told_of(&mut self, locator: Locator) {
        self.conduct.told_of(locator);
    }

    fn datagrams(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        ecn: Option<u8>,
        stride: usize,
        data: &[u8],
    ) {
        self.body.now = now;
        for datagram in data.chunks(stride.max(1)) {
            self.conduct.heard(&mut self.body, remote, datagram);
        }
        self.body.transport.datagrams(now, remote, None, ecn, stride, data);
    }

    fn turn(&mut self, now: Instant, wall: UnixTime) -> bool {
        self.body.now = now;
        self.body.wall = wall;
        self.body.transport.tick(now);
        self.events();
        self.conduct.act(&mut self.body);
        self.events();
        false
    }

    fn transmit(
        &mut self,
        now: Instant,
        buffer: &mut Vec<u8>,
    ) -> Option<(TransmitMeta, Option<SocketAddr>)> {
        if let Some(Raw { to, seems_from, data }) = self.body.raw.pop_front() {
            buffer.clear();
            buffer.extend_from_slice(&data);
            let train = Default::default();
            let meta = TransmitMeta { dst: to, src_ip: None, ecn: None, segment: None, train };
            return Some((meta, seems_from));
        }
        let meta = self.body.transport.transmit(now, buffer)?;
        let stride = meta.segment.map_or(buffer.len(), usize::from);
        self.conduct.sent(&mut self.body, meta.dst, stride, buffer);
        Some((meta, None))
    }

    fn deadline(&self) -> Option<Instant> {
        [self.body.transport.deadline(), self.conduct.deadline()].into_iter().flatten().min()
    }

    fn deeds(&self) -> &BTreeMap<&'static str, u64> {
        &self.body.deeds
    }

    fn offers(&self) -> &[Link] {
        &self.body.offers
    }
}
