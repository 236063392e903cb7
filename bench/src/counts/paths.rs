//! The hot paths, each prepared and then run as often as it takes to be steady. What is counted is in
//! functions of its own, `hot_…`, that are never inlined.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pangea_base::{
    ChunkNumber, Code, ContentKey, CoreId, Entropy, Identity, PagePool, PeerAddr, Secret, UnixTime,
};
use pangea_ces::{
    ChunkPlan, Codec, Compression, Encoder, End, Padding, SEGMENT_BYTES_MAX, Suite, UNIT_BYTES,
};
use pangea_mesh::{Ends, mesh};
use pangea_transport::{
    Config, Congestion, ConnId, Event, Limits, StreamId, TlsCrypto, TransmitMeta, Transport,
};

/// One path.
pub struct Path {
    pub name: &'static str,
    /// What the names of its functions contain.
    pub mark: &'static str,
    /// Runs it; how many operations were counted.
    pub run: fn() -> Result<u64, String>,
}

/// All of them.
pub const PATHS: &[Path] = &[
    Path { name: "send_packet", mark: "hot_send", run: || carry().map(|carried| carried.sent) },
    Path {
        name: "receive_packet",
        mark: "hot_receive",
        run: || carry().map(|carried| carried.received),
    },
    Path { name: "seal_segment", mark: "hot_seal", run: seal },
    Path { name: "append_shard", mark: "hot_append", run: crate::store::append },
    Path { name: "mesh_hop", mark: "hot_hop", run: hop },
    #[cfg(feature = "trace")]
    Path { name: "trace_event", mark: "hot_trace", run: crate::trace::events },
];

/// Bytes that are sent before and while packets are counted.
const WARM_UP_BYTES: u64 = 4 << 20;
const COUNTED_BYTES: u64 = 4 << 20;
const CHUNK_BYTES: usize = 64 << 10;
/// Of a path that is as quick as this machine.
const TURN: Duration = Duration::from_micros(100);
/// More turns than any of it takes.
const TURNS_MAX: usize = 100_000;

/// Packets of a bulk stream.
#[derive(Default)]
struct Carried {
    sent: u64,
    received: u64,
}

/// Sends a stream from one transport to another, packets as on Ethernet, in trains.
fn carry() -> Result<Carried, String> {
    let mut wire = Wire::new()?;
    let (conn, stream) = wire.connect()?;
    let chunk = Bytes::from(vec![7; CHUNK_BYTES]);
    let mut carried = Carried::default();
    let (mut rest, mut written) = (chunk.clone(), 0);
    while wire.read < WARM_UP_BYTES + COUNTED_BYTES {
        while written < WARM_UP_BYTES + COUNTED_BYTES {
            if rest.is_empty() {
                rest = chunk.clone();
            }
            let wrote = wire.ends[0].write(conn, stream, &mut rest).map_err(|e| e.to_string())?;
            written += wrote as u64;
            if wrote == 0 {
                break;
            }
        }
        wire.turn(Some(&mut carried))?;
    }
    Ok(carried)
}

/// Two transports and nothing between them.
struct Wire {
    ends: [Transport; 2],
    now: Instant,
    turns: usize,
    buffer: Vec<u8>,
    read: u64,
}

impl Wire {
    fn new() -> Result<Wire, String> {
        let end = |number: u8| {
            let crypto = TlsCrypto::new(&identity(number)).map_err(|e| e.to_string())?;
            let seed = Entropy::new([number; 32]);
            Ok::<Transport, String>(Transport::new(config(), Box::new(crypto), seed))
        };
        let ends = [end(0)?, end(1)?];
        let buffer = Vec::with_capacity(1 << 16);
        Ok(Wire { ends, now: Instant::now(), turns: 0, buffer, read: 0 })
    }

    fn connect(&mut self) -> Result<(ConnId, StreamId), String> {
        let to = PeerAddr { peer: identity(1).peer(), addr: address(1) };
        let conn = self.ends[0].connect(self.now, to).map_err(|e| e.to_string())?;
        loop {
            self.turn(None)?;
            if let Some(stream) = self.ends[0].open(conn) {
                return Ok((conn, stream));
            }
        }
    }

    /// Carries all that either end has to send. Without `carried` (the handshake, whose signatures
    /// cost now this and now that) nothing counts.
    fn turn(&mut self, mut carried: Option<&mut Carried>) -> Result<(), String> {
        self.turns += 1;
        if self.turns > TURNS_MAX {
            return Err("the stream does not end".to_owned());
        }
        self.now += TURN;
        for from in [0, 1] {
            self.ends[from].tick(self.now);
            while let Some(meta) = self.transmit(from, carried.is_some()) {
                let segment = meta.segment.map_or(self.buffer.len(), usize::from);
                let packets = self.buffer.len().div_ceil(segment) as u64;
                let (to, place) = (&mut self.ends[1 - from], address(from as u8));
                match carried.as_mut() {
                    Some(carried) => {
                        carried.sent += packets;
                        carried.received += packets;
                        hot_receive(to, self.now, place, (segment, &self.buffer));
                    }
                    None => to.datagrams(self.now, place, None, None, segment, &self.buffer),
                }
            }
            self.read += match carried.is_some() {
                true => hot_receive_events(&mut self.ends[1 - from])?,
                false => take_events(&mut self.ends[1 - from])?,
            };
        }
        Ok(())
    }

    fn transmit(&mut self, from: usize, counted: bool) -> Option<TransmitMeta> {
        match counted {
            true => hot_send(&mut self.ends[from], self.now, &mut self.buffer),
            false => self.ends[from].transmit(self.now, &mut self.buffer),
        }
    }
}

#[inline(never)]
fn hot_send(end: &mut Transport, now: Instant, buffer: &mut Vec<u8>) -> Option<TransmitMeta> {
    end.transmit(now, buffer)
}

#[inline(never)]
fn hot_receive(
    end: &mut Transport,
    now: Instant,
    from: SocketAddr,
    (stride, data): (usize, &[u8]),
) {
    end.datagrams(now, from, None, None, stride, data);
}

#[inline(never)]
fn hot_receive_events(end: &mut Transport) -> Result<u64, String> {
    take_events(end)
}

/// Takes all events and reads all that can be read; how many bytes.
fn take_events(end: &mut Transport) -> Result<u64, String> {
    let mut read = 0;
    while let Some(event) = end.poll() {
        match event {
            Event::Readable { conn, stream } => {
                end.read_into(conn, stream, usize::MAX, &mut |bytes| read += bytes.len() as u64)
                    .map_err(|e| e.to_string())?;
            }
            Event::Closed { reason, .. } => return Err(reason.to_string()),
            _ => {}
        }
    }
    Ok(read)
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

/// Seals segments that do not shrink, and makes their stripes.
fn seal() -> Result<u64, String> {
    const SEGMENTS: usize = 32;
    let plan = ChunkPlan {
        suite: Suite::Aes256Gcm,
        code: Code::new(10, 4).ok_or("10 + 4 is a code")?,
        segment_bytes: SEGMENT_BYTES_MAX,
        compression: Compression::Off,
        padding: Padding::Off,
    };
    let mut source = vec![0; SEGMENTS * SEGMENT_BYTES_MAX as usize];
    Entropy::new([7; 32]).fill(&mut source);
    let mut codec = Codec::new();
    let pool = PagePool::new(UNIT_BYTES, 14);
    let key = ContentKey(Secret::new([1; 32]));
    let mut encoder = Encoder::start(&mut codec, plan, ChunkNumber(0), &key, [3; 16]);
    let mut rest = &source[..];
    while !encoder.done() {
        let taken = hot_seal(&mut encoder, &mut codec, rest);
        rest = &rest[taken..];
        while let Some(units) = hot_seal_stripe(&mut encoder, &mut codec, &pool)? {
            codec.recycle(units);
        }
    }
    Ok(SEGMENTS as u64)
}

#[inline(never)]
fn hot_seal(encoder: &mut Encoder, codec: &mut Codec, plaintext: &[u8]) -> usize {
    encoder.feed(codec, plaintext, End::Last)
}

#[inline(never)]
fn hot_seal_stripe(
    encoder: &mut Encoder,
    codec: &mut Codec,
    pool: &PagePool,
) -> Result<Option<Vec<pangea_base::Page>>, String> {
    encoder.stripe(codec, pool).map_err(|_| "the pool holds a stripe".to_owned())
}

/// Values from one core to another, each announced by itself.
fn hop() -> Result<u64, String> {
    const HOPS: u64 = 100_000;
    let mut ends = mesh::<u64>(2, 64);
    let (mut to, mut from) = (ends.pop().ok_or("two ends")?, ends.pop().ok_or("two ends")?);
    for value in 0..HOPS {
        if hot_hop(&mut from, &mut to, value) != Some(value) {
            return Err("another value came".to_owned());
        }
    }
    Ok(HOPS)
}

#[inline(never)]
fn hot_hop(from: &mut Ends<u64>, to: &mut Ends<u64>, value: u64) -> Option<u64> {
    from.send(CoreId(1), value).ok()?;
    from.flush();
    let (_, value) = to.receive()?;
    Some(value)
}
