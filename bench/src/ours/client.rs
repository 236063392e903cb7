//! The client's side of every test, in one thread with its transport.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pangea_transport::{ConnId, Event, StreamId, Transport};
use peer_harness::{
    CHUNK_BYTES, FIRST_CONNECTIONS, Latency, MESSAGE_BYTES, Outcome, Record, Run, SETTLE, Server,
    Test, UPLOAD, request,
};

use super::Setup;
use super::net::{Net, Role};

/// Handshakes that are not measured.
const FIRST_HANDSHAKES: Duration = Duration::from_millis(50);
/// No measurement takes so long.
const LONG: Duration = Duration::from_secs(600);

pub fn measure(run: &Run, setup: &Setup, server: &mut Server) -> Outcome<()> {
    let to = server.place.parse()?;
    let mut client = Client { net: Net::open(setup, Role::Client)?, to };
    match run.test {
        Test::Bulk => client.bulk(run, server),
        Test::Rtt | Test::Datagram => client.round_trips(run, server),
        Test::Rate => client.rate(run, server),
        Test::Handshakes => client.handshakes(run, server),
        Test::Memory => client.memory(run, server),
    }
}

struct Client {
    net: Net,
    to: SocketAddr,
}

impl Client {
    fn connect(&mut self) -> Outcome<ConnId> {
        let conn = self.net.dial(self.to)?;
        let mut connected = false;
        while !connected {
            self.net.turn(Instant::now() + LONG, &mut |_, event| match event {
                Event::Connected { conn: of, .. } if of == conn => {
                    connected = true;
                    Ok(())
                }
                other => uneventful(other),
            })?;
        }
        Ok(conn)
    }

    fn bulk(&mut self, run: &Run, server: &mut Server) -> Outcome<()> {
        let conn = self.connect()?;
        self.upload(conn, 1, Instant::now() + run.warm_up)?;
        let record = Record::begin(server)?;
        let bytes = self.upload(conn, run.streams, Instant::now() + run.seconds)?;
        record.bulk(server, bytes)
    }

    /// Keeps so many new streams full until then; how many bytes the server counted.
    fn upload(&mut self, conn: ConnId, streams: usize, until: Instant) -> Outcome<u64> {
        let mut uploads = Uploads::new(conn);
        loop {
            let now = Instant::now();
            if now >= until {
                uploads.end(&mut self.net.transport)?;
                if uploads.open.is_empty() {
                    return uploads.counted();
                }
            } else {
                uploads.begin(&mut self.net.transport, streams);
            }
            let wake = if now >= until { now + LONG } else { until };
            self.net.turn(wake, &mut |transport, event| uploads.react(transport, event))?;
        }
    }

    fn round_trips(&mut self, run: &Run, server: &mut Server) -> Outcome<()> {
        let conn = self.connect()?;
        let is_message = run.test == Test::Datagram;
        let end = Instant::now() + LONG;
        self.requests(Requests::new(conn, 1, run.count / 20, is_message), end)?;
        let record = Record::begin(server)?;
        let latency = self.requests(Requests::new(conn, 1, run.count, is_message), end)?;
        record.operations(server, &latency)
    }

    fn rate(&mut self, run: &Run, server: &mut Server) -> Outcome<()> {
        let conn = self.connect()?;
        let requests = || Requests::new(conn, run.inflight, usize::MAX, false);
        self.requests(requests(), Instant::now() + run.warm_up)?;
        let record = Record::begin(server)?;
        let latency = self.requests(requests(), Instant::now() + run.seconds)?;
        record.operations(server, &latency)
    }

    fn requests(&mut self, mut requests: Requests, until: Instant) -> Outcome<Latency> {
        requests.begin(&mut self.net.transport, until)?;
        while !requests.open.is_empty() {
            let wake = Instant::now() + LONG;
            self.net.turn(wake, &mut |transport, event| {
                requests.react(transport, event)?;
                requests.begin(transport, until)
            })?;
        }
        Ok(requests.latency)
    }

    fn handshakes(&mut self, run: &Run, server: &mut Server) -> Outcome<()> {
        self.connect_and_close(1, Instant::now() + FIRST_HANDSHAKES)?;
        let record = Record::begin(server)?;
        let latency = self.connect_and_close(run.inflight, Instant::now() + run.seconds)?;
        record.operations(server, &latency)
    }

    fn connect_and_close(&mut self, at_once: usize, until: Instant) -> Outcome<Latency> {
        let mut latency = Latency::default();
        let mut begun: HashMap<ConnId, Instant> = HashMap::new();
        let mut done = Vec::new();
        loop {
            while begun.len() < at_once && Instant::now() < until {
                let began = Instant::now();
                begun.insert(self.net.dial(self.to)?, began);
            }
            if begun.is_empty() {
                return Ok(latency);
            }
            self.net.turn(Instant::now() + LONG, &mut |_, event| match event {
                Event::Connected { conn, .. } => {
                    let began = begun.remove(&conn).ok_or("a connection that nobody asked for")?;
                    latency.add(began.elapsed());
                    done.push(conn);
                    Ok(())
                }
                Event::Closed { conn, .. } if !begun.contains_key(&conn) => Ok(()),
                other => uneventful(other),
            })?;
            if !done.is_empty() {
                // The last of the handshake goes out before the end.
                let now = Instant::now();
                match begun.is_empty() {
                    // And before the next one is made: the server waits for nothing else.
                    true => self.net.send_now(now),
                    false => self.net.flush(now),
                }
                done.drain(..).for_each(|conn| self.net.transport.close(now, conn, 0, b""));
            }
        }
    }

    fn memory(&mut self, run: &Run, server: &mut Server) -> Outcome<()> {
        let record = Record::begin(server)?;
        let mut resident = [0.0; 2];
        for (more, resident) in [FIRST_CONNECTIONS, run.connections].into_iter().zip(&mut resident)
        {
            for _ in 0..more {
                self.connect()?;
            }
            let until = Instant::now() + SETTLE;
            while Instant::now() < until {
                self.net.turn(until, &mut |_, event| uneventful(event))?;
            }
            server.trim()?;
            *resident = server.usage()?.resident as f64;
        }
        record.memory(server, resident[1] - resident[0], run.connections)
    }
}

/// A connection that ends on its own ends the measurement.
fn uneventful(event: Event) -> Outcome<()> {
    match event {
        Event::Closed { reason, .. } | Event::Rejected { reason, .. } => {
            Err(reason.to_string().into())
        }
        _ => Ok(()),
    }
}

/// Streams that are always full, and the count that the server sends back on each.
struct Uploads {
    conn: ConnId,
    chunk: Bytes,
    /// With what is left of the present chunk.
    open: HashMap<StreamId, Bytes>,
    /// Those that may take more.
    ready: VecDeque<StreamId>,
    ends: bool,
    sent: u64,
    counted: u64,
}

impl Uploads {
    fn new(conn: ConnId) -> Uploads {
        let chunk = Bytes::from(vec![UPLOAD; CHUNK_BYTES]);
        Uploads {
            conn,
            chunk,
            open: HashMap::new(),
            ready: VecDeque::new(),
            ends: false,
            sent: 0,
            counted: 0,
        }
    }

    /// Opens as many as are wanted, as far as the server allows so far.
    fn begin(&mut self, transport: &mut Transport, streams: usize) {
        while self.open.len() < streams {
            let Some(stream) = transport.open(self.conn) else { break };
            self.open.insert(stream, Bytes::new());
            self.ready.push_back(stream);
        }
        self.fill(transport);
    }

    fn end(&mut self, transport: &mut Transport) -> Outcome<()> {
        if !std::mem::replace(&mut self.ends, true) {
            for stream in self.open.keys() {
                transport.finish(self.conn, *stream)?;
            }
        }
        Ok(())
    }

    fn counted(&self) -> Outcome<u64> {
        match self.counted == self.sent {
            true => Ok(self.counted),
            false => Err("the server counted another number of bytes".into()),
        }
    }

    fn react(&mut self, transport: &mut Transport, event: Event) -> Outcome<()> {
        match event {
            Event::Writable { stream, .. } if !self.ends => self.ready.push_back(stream),
            Event::Readable { conn, stream } => {
                let mut count = Vec::new();
                transport
                    .read_into(conn, stream, usize::MAX, &mut |b| count.extend_from_slice(&b))?;
                if let Ok(count) = <[u8; 8]>::try_from(&count[..]) {
                    self.counted += u64::from_le_bytes(count);
                    self.open.remove(&stream);
                }
            }
            other => return uneventful(other),
        }
        Ok(())
    }

    /// Writes a chunk on each stream that takes one, in turn, until none does: what one writes counts
    /// against the window of all.
    fn fill(&mut self, transport: &mut Transport) {
        while let Some(stream) = self.ready.pop_front() {
            let Some(rest) = self.open.get_mut(&stream) else { continue };
            if rest.is_empty() {
                *rest = self.chunk.clone();
            }
            // One that takes no more says so itself when it does again.
            if let Ok(written) = transport.write(self.conn, stream, rest)
                && written > 0
            {
                self.sent += written as u64;
                self.ready.push_back(stream);
            }
        }
    }
}

/// Requests in flight on one connection, each on a stream or in a message of its own.
struct Requests {
    conn: ConnId,
    inflight: usize,
    left: usize,
    is_message: bool,
    number: u64,
    /// A message has no stream: then there is one at a time, under `None`.
    open: HashMap<Option<StreamId>, Open>,
    latency: Latency,
}

/// A request that is not answered yet.
struct Open {
    message: [u8; MESSAGE_BYTES],
    got: usize,
    began: Instant,
}

impl Requests {
    fn new(conn: ConnId, inflight: usize, count: usize, is_message: bool) -> Requests {
        Requests {
            conn,
            inflight,
            left: count,
            is_message,
            number: 0,
            open: HashMap::new(),
            latency: Latency::default(),
        }
    }

    /// Begins as many as may be in flight, until then.
    fn begin(&mut self, transport: &mut Transport, until: Instant) -> Outcome<()> {
        while self.open.len() < self.inflight && self.left > 0 {
            let began = Instant::now();
            if began >= until {
                self.left = 0;
                return Ok(());
            }
            let message = request(self.number);
            let mut bytes = Bytes::copy_from_slice(&message);
            let stream = if self.is_message {
                transport.send_message(self.conn, bytes)?;
                None
            } else {
                let Some(stream) = transport.open(self.conn) else { return Ok(()) };
                transport.write(self.conn, stream, &mut bytes)?;
                transport.finish(self.conn, stream)?;
                if !bytes.is_empty() {
                    return Err("a request found no room".into());
                }
                Some(stream)
            };
            self.open.insert(stream, Open { message, got: 0, began });
            self.number += 1;
            self.left -= 1;
        }
        Ok(())
    }

    fn react(&mut self, transport: &mut Transport, event: Event) -> Outcome<()> {
        match event {
            Event::Readable { conn, stream } => {
                let mut asked = self.open.get_mut(&Some(stream));
                let mut right = true;
                // The end of a stream may come after the answer, and then nobody asks any more.
                transport.read_into(conn, stream, usize::MAX, &mut |bytes| {
                    right &= asked.as_mut().is_some_and(|asked| asked.take(&bytes));
                })?;
                self.answered(Some(stream), right)
            }
            Event::Message { conn } => {
                let mut right = true;
                while let Some(bytes) = transport.message(conn) {
                    let asked = self.open.get_mut(&None).ok_or("an answer to nothing")?;
                    right &= asked.take(&bytes);
                }
                self.answered(None, right)
            }
            other => uneventful(other),
        }
    }

    fn answered(&mut self, stream: Option<StreamId>, right: bool) -> Outcome<()> {
        if !right {
            return Err("another message came back".into());
        }
        if self.open.get(&stream).is_some_and(|asked| asked.got == MESSAGE_BYTES)
            && let Some(asked) = self.open.remove(&stream)
        {
            self.latency.add(asked.began.elapsed());
        }
        Ok(())
    }
}

impl Open {
    /// Whether these are the next bytes of the answer.
    fn take(&mut self, bytes: &[u8]) -> bool {
        let expected = self.message.get(self.got..self.got + bytes.len());
        self.got += bytes.len();
        expected == Some(bytes)
    }
}
