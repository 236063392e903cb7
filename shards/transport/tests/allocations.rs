//! What a packet of a bulk stream takes from the allocator, once the stream has got going.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pangea_base::{CoreId, Entropy, Identity, PeerAddr, Secret, UnixTime};
use pangea_transport::{Config, Congestion, ConnId, Event, Limits, StreamId, TlsCrypto, Transport};

/// Counts what its thread asks for.
struct Counting;

thread_local! {
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more, and nobody looks at it.
    let _ = ASKED.try_with(|asked| asked.set(asked.get() + 1));
}

// SAFETY: everything is the system's allocator, and counting touches no memory of the heap.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: what the caller promises is passed on.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: what the caller promises is passed on.
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as promised by the caller; `place` came from the system's allocator.
        unsafe { System.dealloc(place, layout) }
    }

    // SAFETY: what the caller promises is passed on.
    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as promised by the caller; `place` came from the system's allocator.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const WARM_UP_BYTES: u64 = 16 << 20;
const COUNTED_BYTES: u64 = 16 << 20;
const TURN: Duration = Duration::from_micros(100);

/// Of both sides together. quinn-proto keeps what it sent in a tree, whose nodes come and go: its
/// own, once in so many packets. What we add takes nothing.
const PER_PACKET_MAX: f64 = 0.25;

#[test]
fn a_packet_of_a_bulk_stream_takes_next_to_nothing_from_the_allocator() {
    let mut wire = Wire::new();
    let (conn, stream) = wire.connect();
    let chunk = Bytes::from(vec![7; 64 << 10]);
    wire.carry(conn, stream, &chunk, WARM_UP_BYTES);
    let (packets, asked) = (wire.packets, ASKED.get());
    wire.carry(conn, stream, &chunk, WARM_UP_BYTES + COUNTED_BYTES);
    let packets = wire.packets - packets;
    assert!(packets > COUNTED_BYTES / 1500);
    let each = (ASKED.get() - asked) as f64 / packets as f64;
    println!("{each:.3} per packet, {packets} packets");
    assert!(each < PER_PACKET_MAX, "{each:.3} allocations per packet");
}

/// Two transports and nothing between them.
struct Wire {
    ends: [Transport; 2],
    now: Instant,
    buffer: Vec<u8>,
    rest: Bytes,
    read: u64,
    packets: u64,
}

impl Wire {
    fn new() -> Wire {
        let end = |number: u8| {
            let crypto = TlsCrypto::new(&identity(number)).unwrap();
            Transport::new(config(), Box::new(crypto), Entropy::new([number; 32]))
        };
        Wire {
            ends: [end(0), end(1)],
            now: Instant::now(),
            buffer: Vec::with_capacity(1 << 16),
            rest: Bytes::new(),
            read: 0,
            packets: 0,
        }
    }

    fn connect(&mut self) -> (ConnId, StreamId) {
        let to = PeerAddr { peer: identity(1).peer(), addr: address(1) };
        let conn = self.ends[0].connect(self.now, to).unwrap();
        for _ in 0..10_000 {
            self.turn();
            if let Some(stream) = self.ends[0].open(conn) {
                return (conn, stream);
            }
        }
        panic!("the two did not connect");
    }

    /// Sends until so much was read in all.
    fn carry(&mut self, conn: ConnId, stream: StreamId, chunk: &Bytes, until: u64) {
        while self.read < until {
            loop {
                if self.rest.is_empty() {
                    self.rest = chunk.clone();
                }
                if self.ends[0].write(conn, stream, &mut self.rest).unwrap() == 0 {
                    break;
                }
            }
            self.turn();
        }
    }

    fn turn(&mut self) {
        self.now += TURN;
        for from in [0, 1] {
            let [first, second] = &mut self.ends;
            let (here, there) = if from == 0 { (first, second) } else { (second, first) };
            here.tick(self.now);
            while let Some(meta) = here.transmit(self.now, &mut self.buffer) {
                let stride = meta.segment.map_or(self.buffer.len(), usize::from);
                self.packets += self.buffer.len().div_ceil(stride) as u64;
                there.datagrams(self.now, address(from), None, None, stride, &self.buffer);
            }
            while let Some(event) = there.poll() {
                if let Event::Readable { conn, stream } = event {
                    let read = &mut self.read;
                    let sink = &mut |bytes: Bytes| *read += bytes.len() as u64;
                    there.read_into(conn, stream, usize::MAX, sink).unwrap();
                }
            }
        }
    }
}

fn identity(number: u8) -> Identity {
    Identity::from_seed(Secret::new([number + 1; 32]))
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, number + 1)), 4433)
}

fn config() -> Config {
    Config {
        core: CoreId(0),
        cores: 1,
        mtu_max: 1452,
        mtu_loopback: None,
        gso_segments_max: 44,
        congestion: Congestion::Cubic,
        limits: Limits::STANDARD,
        reset_key: [1; 32],
        token_key: [2; 32],
        time: UnixTime(1_800_000_000),
    }
}
