use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pangea_base::{Entropy, Hash, PeerAddr, PeerId};

use crate::testing::PlainCrypto;
use crate::{Config, ConnId, Crypto, Event, TRAIN_BYTES_MAX, Transport};

/// What the path between the two does to datagrams, the same in both directions. Shares are out of
/// a thousand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    /// One way.
    pub delay: Duration,
    /// Lost datagrams.
    pub loss: u64,
    /// Datagrams that arrive twice.
    pub duplicates: u64,
    /// Datagrams that arrive up to four delays late.
    pub reordered: u64,
    /// Longer datagrams vanish.
    pub mtu: usize,
}

impl Network {
    /// 5 ms each way, nothing lost, Ethernet.
    pub const GOOD: Network = Network {
        delay: Duration::from_millis(5),
        loss: 0,
        duplicates: 0,
        reordered: 0,
        mtu: 1472,
    };
}

/// One of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// Who dials in most tests.
    A,
    /// Who accepts.
    B,
}

/// One end.
pub struct Node {
    /// The machine.
    pub transport: Transport,
    /// Where it is; change it to move.
    pub addr: SocketAddr,
    /// Who it is.
    pub peer: PeerId,
    /// What it reported and the test has not taken.
    pub events: VecDeque<Event>,
}

struct Flying {
    from: SocketAddr,
    to: SocketAddr,
    ecn: Option<u8>,
    stride: usize,
    data: Vec<u8>,
}

/// Two transports, one clock, and a network between them that follows from a seed.
pub struct Pair {
    /// The dialling end.
    pub a: Node,
    /// The accepting end.
    pub b: Node,
    /// The time.
    pub now: Instant,
    /// The network; change it at will.
    pub network: Network,
    /// A hash over every datagram sent so far, with its time and addresses.
    pub trace: Hash,
    /// The longest send so far.
    pub longest_train: usize,
    /// Bytes sent by A and by B.
    pub sent: [u64; 2],
    began: Instant,
    flying: BTreeMap<(Instant, u64), Flying>,
    sequence: u64,
    chance: Entropy,
    buffer: Vec<u8>,
}

impl Pair {
    /// Two nodes with plain sessions.
    pub fn new(seed: u8, config: Config) -> Pair {
        let (a, b) = (PeerId([0xaa; 32]), PeerId([0xbb; 32]));
        let crypto = |peer| Box::new(PlainCrypto::new(peer)) as Box<dyn Crypto>;
        Pair::with(seed, (config.clone(), a, crypto(a)), (config, b, crypto(b)))
    }

    /// Two nodes of one's own making.
    pub fn with(
        seed: u8,
        a: (Config, PeerId, Box<dyn Crypto>),
        b: (Config, PeerId, Box<dyn Crypto>),
    ) -> Pair {
        let mut chance = Entropy::new([seed; 32]);
        let mut node = |(config, peer, crypto): (Config, PeerId, Box<dyn Crypto>), ip| Node {
            transport: Transport::new(config, crypto, chance.split()),
            addr: SocketAddr::from((ip, 9090)),
            peer,
            events: VecDeque::new(),
        };
        let a = node(a, [10, 0, 0, 1]);
        let b = node(b, [10, 0, 1, 1]);
        let now = Instant::now();
        Pair {
            a,
            b,
            now,
            network: Network::GOOD,
            trace: Hash([0; 32]),
            longest_train: 0,
            sent: [0; 2],
            began: now,
            flying: BTreeMap::new(),
            sequence: 0,
            chance,
            buffer: Vec::with_capacity(TRAIN_BYTES_MAX),
        }
    }

    /// One end.
    pub fn node(&mut self, which: Which) -> &mut Node {
        match which {
            Which::A => &mut self.a,
            Which::B => &mut self.b,
        }
    }

    /// Where and who B is.
    pub fn b_address(&self) -> PeerAddr {
        PeerAddr { peer: self.b.peer, addr: self.b.addr }
    }

    /// Time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.now - self.began
    }

    /// A dials B.
    pub fn dial(&mut self) -> ConnId {
        let to = self.b_address();
        self.a.transport.connect(self.now, to).expect("A may dial B")
    }

    /// Both ends take in, fire, report and send until nothing is left to do at this moment.
    pub fn settle(&mut self) {
        loop {
            self.deliver();
            let mut busy = false;
            for which in [Which::A, Which::B] {
                let now = self.now;
                let node = self.node(which);
                node.transport.tick(now);
                while let Some(event) = node.transport.poll() {
                    node.events.push_back(event);
                }
                busy |= self.send(which);
            }
            let due = self.flying.first_key_value().is_some_and(|((at, _), _)| *at <= self.now);
            if !busy && !due && self.a.transport.idle() && self.b.transport.idle() {
                return;
            }
        }
    }

    /// Moves the clock to what happens next and settles. False: nothing will ever happen.
    pub fn step(&mut self) -> bool {
        self.settle();
        let next = [
            self.flying.first_key_value().map(|((at, _), _)| *at),
            self.a.transport.deadline(),
            self.b.transport.deadline(),
        ];
        let Some(next) = next.into_iter().flatten().min() else { return false };
        self.now = self.now.max(next);
        self.settle();
        true
    }

    /// Lets time pass.
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            self.settle();
            let next = [
                self.flying.first_key_value().map(|((at, _), _)| *at),
                self.a.transport.deadline(),
                self.b.transport.deadline(),
            ];
            match next.into_iter().flatten().min() {
                Some(next) if next <= end => self.now = self.now.max(next),
                _ => break,
            }
        }
        self.now = end;
        self.settle();
    }

    /// Steps until `done`; fails the test after a simulated quarter of an hour.
    pub fn run_until(&mut self, what: &str, mut done: impl FnMut(&mut Pair) -> bool) {
        let end = self.now + Duration::from_secs(900);
        self.settle();
        while !done(self) {
            assert!(self.step(), "nothing will happen any more, waiting for: {what}");
            assert!(self.now < end, "waited in vain for: {what}");
        }
    }

    /// A datagram from anywhere, at once.
    pub fn inject(&mut self, from: SocketAddr, which: Which, data: &[u8]) {
        let now = self.now;
        let node = self.node(which);
        node.transport.datagrams(now, from, None, None, data.len(), data);
    }

    fn deliver(&mut self) {
        while let Some(entry) = self.flying.first_entry() {
            if entry.key().0 > self.now {
                return;
            }
            let packet = entry.remove();
            let now = self.now;
            let node = match packet.to {
                to if to == self.a.addr => &mut self.a,
                to if to == self.b.addr => &mut self.b,
                _ => continue,
            };
            let Flying { from, ecn, stride, data, .. } = packet;
            node.transport.datagrams(now, from, None, ecn, stride, &data);
        }
    }

    fn send(&mut self, which: Which) -> bool {
        let mut busy = false;
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            let now = self.now;
            let node = self.node(which);
            let from = node.addr;
            let Some(meta) = node.transport.transmit(now, &mut buffer) else { break };
            busy = true;
            self.longest_train = self.longest_train.max(buffer.len());
            self.sent[which as usize] += buffer.len() as u64;
            let at = (self.now - self.began).as_nanos().to_le_bytes();
            let header = format!("{from} {} {:?} {:?}", meta.dst, meta.ecn, meta.segment);
            let parts = [&self.trace.0[..], &at, header.as_bytes(), &buffer];
            self.trace = Hash::of(&parts.concat());
            let stride = meta.segment.map_or(buffer.len(), usize::from);
            self.fly(from, meta.dst, meta.ecn, stride, &buffer);
        }
        self.buffer = buffer;
        busy
    }

    /// Puts a train on the wire. What meets no accident stays together, as GRO would have it.
    fn fly(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        ecn: Option<u8>,
        stride: usize,
        train: &[u8],
    ) {
        let network = self.network;
        let mut together = Vec::new();
        for datagram in train.chunks(stride) {
            if datagram.len() > network.mtu || self.chance.below(1000) < network.loss {
                continue;
            }
            let alone = |pair: &mut Pair, late: Duration| {
                let at = pair.now + network.delay + late;
                let data = datagram.to_vec();
                pair.put(at, Flying { from, to, ecn, stride: data.len(), data });
            };
            if self.chance.below(1000) < network.duplicates {
                alone(self, Duration::ZERO);
            }
            if self.chance.below(1000) < network.reordered {
                let late = network.delay.as_nanos() as u64 * 4;
                let late = Duration::from_nanos(self.chance.below(late.max(1)));
                alone(self, late);
            } else {
                together.extend_from_slice(datagram);
            }
        }
        if !together.is_empty() {
            let at = self.now + network.delay;
            self.put(at, Flying { from, to, ecn, stride, data: together });
        }
    }

    fn put(&mut self, at: Instant, packet: Flying) {
        self.sequence += 1;
        self.flying.insert((at, self.sequence), packet);
    }
}
