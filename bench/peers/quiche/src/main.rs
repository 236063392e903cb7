//! quiche (BoringSSL). It does no I/O itself: around it is a loop of poll, receive and send, with
//! trains by quinn-udp, as quick as such a loop can simply be.

mod endpoint;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use endpoint::{Endpoint, LinkId};
use peer_harness::{
    CHUNK_BYTES, CLIENT_CORE, ECHO, FIRST_CONNECTIONS, Latency, MESSAGE_BYTES, Outcome, Record,
    Run, SETTLE, Server, Test, UPLOAD, on_core, request,
};

fn main() -> Outcome<()> {
    let run = Run::from_args(&[])?;
    if run.is_server {
        on_core(run.server_core);
        return serve(&run);
    }
    let mut server = Server::start(&run)?;
    on_core(CLIENT_CORE);
    let mut client =
        Client { to: server.place.parse()?, endpoint: Endpoint::client(&run)?, next_stream: 0 };
    match run.test {
        Test::Bulk => client.bulk(&run, &mut server),
        Test::Rtt | Test::Datagram | Test::Rate => client.round_trips(&run, &mut server),
        Test::Handshakes => client.handshakes(&run, &mut server),
        Test::Memory => client.memory(&run, &mut server),
    }
}

/// Counts uploads and sends requests and datagrams back.
fn serve(run: &Run) -> Outcome<()> {
    let mut endpoint = Endpoint::server(run)?;
    peer_harness::serve(&endpoint.local.to_string());
    let mut buffer = vec![0; CHUNK_BYTES];
    // Of streams that have not ended: how many bytes came, and those of a request.
    let mut open: HashMap<(LinkId, u64), (u64, Vec<u8>)> = HashMap::new();
    // Answers that the congestion window took only in part, and what is left of them.
    let mut cut: Vec<(LinkId, u64, Vec<u8>)> = Vec::new();
    loop {
        endpoint.turn()?;
        for (id, stream, rest) in std::mem::take(&mut cut) {
            let Some(connection) = endpoint.touch(id) else { continue };
            answer(connection, (id, stream), rest, &mut cut)?;
        }
        for id in endpoint.touched() {
            let Some(connection) = endpoint.connection(id) else { continue };
            while let Ok(length) = connection.dgram_recv(&mut buffer) {
                let _ = connection.dgram_send(&buffer[..length]);
            }
            while let Some(stream) = connection.stream_readable_next() {
                let (bytes, message) = open.entry((id, stream)).or_default();
                while let Ok((length, ended)) = connection.stream_recv(stream, &mut buffer) {
                    if *bytes == 0 && buffer[0] == ECHO || !message.is_empty() {
                        message.extend_from_slice(&buffer[..length]);
                    }
                    *bytes += length as u64;
                    if !ended {
                        continue;
                    }
                    let whole = match message.is_empty() {
                        true => bytes.to_le_bytes().to_vec(),
                        false => std::mem::take(message),
                    };
                    answer(connection, (id, stream), whole, &mut cut)?;
                    open.remove(&(id, stream));
                    break;
                }
            }
        }
    }
}

/// Sends what it can of an answer and keeps the rest.
fn answer(
    connection: &mut quiche::Connection,
    (id, stream): (LinkId, u64),
    mut rest: Vec<u8>,
    cut: &mut Vec<(LinkId, u64, Vec<u8>)>,
) -> Outcome<()> {
    let sent = match connection.stream_send(stream, &rest, true) {
        Err(quiche::Error::Done) => 0,
        sent => sent?,
    };
    if sent < rest.len() {
        rest.drain(..sent);
        cut.push((id, stream, rest));
    }
    Ok(())
}

struct Client {
    endpoint: Endpoint,
    to: SocketAddr,
    next_stream: u64,
}

impl Client {
    fn connect(&mut self) -> Outcome<LinkId> {
        let id = self.endpoint.connect(self.to)?;
        while !self.established(id)? {
            self.endpoint.turn()?;
        }
        Ok(id)
    }

    fn established(&mut self, id: LinkId) -> Outcome<bool> {
        Ok(self.endpoint.connection(id).ok_or("a connection was lost")?.is_established())
    }

    fn stream(&mut self) -> u64 {
        self.next_stream += 4;
        self.next_stream - 4
    }

    fn bulk(&mut self, run: &Run, server: &mut Server) -> Outcome<()> {
        let id = self.connect()?;
        self.upload(id, 1, Instant::now() + run.warm_up)?;
        let record = Record::begin(server)?;
        let bytes = self.upload(id, run.streams, Instant::now() + run.seconds)?;
        record.bulk(server, bytes)
    }

    /// Sends on so many new streams until then; what the server counted.
    fn upload(&mut self, id: LinkId, streams: usize, until: Instant) -> Outcome<u64> {
        let chunk = vec![UPLOAD; CHUNK_BYTES];
        let streams: Vec<u64> = (0..streams).map(|_| self.stream()).collect();
        let (mut unfinished, mut unanswered) = (streams.clone(), streams.len());
        let (mut sent, mut counted) = (0, 0);
        while unanswered > 0 {
            let ends = Instant::now() >= until;
            let connection = self.endpoint.touch(id).ok_or("the connection was lost")?;
            if ends {
                unfinished.retain(|stream| connection.stream_send(*stream, &[], true).is_err());
            } else {
                for stream in &streams {
                    while let Ok(length) = connection.stream_send(*stream, &chunk, false) {
                        sent += length as u64;
                        if length < chunk.len() {
                            break;
                        }
                    }
                }
            }
            while let Some(stream) = connection.stream_readable_next() {
                let mut count = [0; 8];
                while let Ok((length, ended)) = connection.stream_recv(stream, &mut count) {
                    if length == count.len() {
                        counted += u64::from_le_bytes(count);
                    }
                    if ended {
                        unanswered -= 1;
                        break;
                    }
                }
            }
            self.endpoint.turn()?;
        }
        match counted == sent {
            true => Ok(counted),
            false => Err("the server counted another number of bytes".into()),
        }
    }

    fn round_trips(&mut self, run: &Run, server: &mut Server) -> Outcome<()> {
        let id = self.connect()?;
        let inflight = if run.test == Test::Rate { run.inflight } else { 1 };
        let is_datagram = run.test == Test::Datagram;
        let warm_up = Instant::now() + run.warm_up;
        self.requests(id, inflight, u64::MAX, warm_up, is_datagram)?;
        let record = Record::begin(server)?;
        let latency = match run.test {
            Test::Rate => {
                let until = Instant::now() + run.seconds;
                self.requests(id, inflight, u64::MAX, until, is_datagram)?
            }
            _ => {
                let long = Instant::now() + Duration::from_secs(3600);
                self.requests(id, inflight, run.count as u64, long, is_datagram)?
            }
        };
        record.operations(server, &latency)
    }

    /// Keeps so many requests in flight until then, or until that many were made.
    fn requests(
        &mut self,
        id: LinkId,
        inflight: usize,
        count: u64,
        until: Instant,
        is_datagram: bool,
    ) -> Outcome<Latency> {
        let mut latency = Latency::default();
        let mut open: HashMap<u64, Open> = HashMap::new();
        let mut begun = 0;
        // A request that the congestion window took only so far, and how far.
        let mut cut: Option<(u64, [u8; MESSAGE_BYTES], usize)> = None;
        loop {
            let ends = Instant::now() >= until || begun == count;
            if ends && open.is_empty() {
                return Ok(latency);
            }
            if let Some((stream, message, sent)) = cut.take() {
                let more = self.send(id, stream, &message[sent..])?;
                cut = (sent + more < MESSAGE_BYTES).then_some((stream, message, sent + more));
            }
            while cut.is_none() && !ends && open.len() < inflight && begun < count {
                let message = request(begun);
                let began = Instant::now();
                let next = self.next_stream;
                let connection = self.endpoint.touch(id).ok_or("the connection was lost")?;
                if is_datagram {
                    connection.dgram_send(&message)?;
                } else if connection.peer_streams_left_bidi() == 0 {
                    break;
                } else {
                    let sent = self.send(id, next, &message)?;
                    cut = (sent < MESSAGE_BYTES).then_some((next, message, sent));
                    self.next_stream += 4;
                }
                open.insert(if is_datagram { 0 } else { next }, Open { message, got: 0, began });
                begun += 1;
            }
            self.endpoint.turn()?;
            self.answers(id, &mut open, &mut latency)?;
        }
    }

    /// Sends the rest of a request as far as it goes; how far.
    fn send(&mut self, id: LinkId, stream: u64, rest: &[u8]) -> Outcome<usize> {
        let connection = self.endpoint.touch(id).ok_or("the connection was lost")?;
        match connection.stream_send(stream, rest, true) {
            Err(quiche::Error::Done) => Ok(0),
            sent => Ok(sent?),
        }
    }

    fn answers(
        &mut self,
        id: LinkId,
        open: &mut HashMap<u64, Open>,
        latency: &mut Latency,
    ) -> Outcome<()> {
        let mut buffer = [0; 2048];
        let connection = self.endpoint.touch(id).ok_or("the connection was lost")?;
        while let Ok(length) = connection.dgram_recv(&mut buffer) {
            let Some(mut asked) = open.remove(&0) else { continue };
            asked.take(&buffer[..length])?;
            latency.add(asked.began.elapsed());
        }
        while let Some(stream) = connection.stream_readable_next() {
            while let Ok((length, ended)) = connection.stream_recv(stream, &mut buffer) {
                open.get_mut(&stream).ok_or("an answer to nothing")?.take(&buffer[..length])?;
                if ended {
                    let asked = open.remove(&stream).ok_or("an answer to nothing")?;
                    latency.add(asked.began.elapsed());
                    break;
                }
            }
        }
        Ok(())
    }

    fn handshakes(&mut self, run: &Run, server: &mut Server) -> Outcome<()> {
        self.connect_and_close(1, Instant::now() + Duration::from_millis(50))?;
        let record = Record::begin(server)?;
        let latency = self.connect_and_close(run.inflight, Instant::now() + run.seconds)?;
        record.operations(server, &latency)
    }

    fn connect_and_close(&mut self, at_once: usize, until: Instant) -> Outcome<Latency> {
        let mut latency = Latency::default();
        let mut begun: Vec<(LinkId, Instant)> = Vec::new();
        loop {
            while begun.len() < at_once && Instant::now() < until {
                let began = Instant::now();
                begun.push((self.endpoint.connect(self.to)?, began));
            }
            if begun.is_empty() {
                return Ok(latency);
            }
            self.endpoint.turn()?;
            for at in (0..begun.len()).rev() {
                let (id, began) = begun[at];
                if self.established(id)? {
                    latency.add(began.elapsed());
                    // The last of the handshake has to go out before the close.
                    self.endpoint.flush()?;
                    self.endpoint.touch(id).ok_or("a connection was lost")?.close(true, 0, b"")?;
                    begun.swap_remove(at);
                }
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
                self.endpoint.turn()?;
            }
            server.trim()?;
            *resident = server.usage()?.resident as f64;
        }
        record.memory(server, resident[1] - resident[0], run.connections)
    }
}

/// A request that is not answered yet.
struct Open {
    message: [u8; MESSAGE_BYTES],
    got: usize,
    began: Instant,
}

impl Open {
    fn take(&mut self, bytes: &[u8]) -> Outcome<()> {
        let expected = self.message.get(self.got..self.got + bytes.len());
        self.got += bytes.len();
        match expected == Some(bytes) {
            true => Ok(()),
            false => Err("another message came back".into()),
        }
    }
}
