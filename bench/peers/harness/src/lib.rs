//! What every peer's program shares: its command line, its two processes, its measurements, its
//! one line of JSON.
//!
//! `peer-x TEST [KEY=VALUE]...` is the client, pinned to core 0. It starts itself again as
//! `peer-x serve TEST [KEY=VALUE]...`, pinned to `server_core`, which says where it listens and from then on
//! answers questions for its processor time and memory. The client prints one object:
//!
//! | TEST | what happens | fields |
//! |---|---|---|
//! | `bulk` | `streams` uploads on one connection for `seconds` | `gbps` |
//! | `rtt` | 200 B and 200 B back, each on a fresh stream, one at a time | `per_s`, `p50_us`, `p99_us`, `p999_us` |
//! | `dgram` | the same in one datagram each way | the same |
//! | `rate` | `inflight` such requests at a time for `seconds` | the same |
//! | `hs` | full handshakes, `inflight` at a time, for `seconds` | the same |
//! | `mem` | `connections` more that idle, after 50 | `bytes_per_conn` |
//!
//! and `cpu`, what both sides together spent: seconds per GiB for `bulk`, microseconds per operation
//! (request, handshake, connection) for the others.
//!
//! With `path=RTT_MS,LOSS_PERCENT,MBIT` a third process lies between the two (`relay.rs`), started as
//! `peer-x relay`.

#[cfg(feature = "tokio")]
pub mod client;
mod measure;
mod process;
mod relay;

pub use measure::{Latency, Record};
pub use process::{Server, Usage, on_core, own_usage, serve};

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

/// Anything that went wrong; a benchmark ends with it.
pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// Where the client runs.
pub const CLIENT_CORE: usize = 0;
/// Bytes of a request, and of its answer.
pub const MESSAGE_BYTES: usize = 200;
/// What is given to a stream at a time in an upload.
pub const CHUNK_BYTES: usize = 64 << 10;
/// Socket buffers, where the peer lets them be set.
pub const SOCKET_BYTES: usize = 4 << 20;
/// Before a measurement, so that slow start and MTU discovery are over: on a short path.
const WARM_UP: Duration = Duration::from_millis(500);
/// After connections were made, until their handshakes' memory is given back.
pub const SETTLE: Duration = Duration::from_millis(1500);
/// Connections before the first look at the server's memory.
pub const FIRST_CONNECTIONS: usize = 50;
/// The first byte of a stream whose bytes are to be counted.
pub const UPLOAD: u8 = b'U';
/// The first byte of a request that is to be sent back.
pub const ECHO: u8 = b'E';
/// The application protocol.
pub const ALPN: &[u8] = b"peers";

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Test {
    Bulk,
    Rtt,
    Datagram,
    Rate,
    Handshakes,
    Memory,
}

/// The command line.
#[derive(Clone, Debug)]
pub struct Run {
    /// Whether this process is the server.
    pub is_server: bool,
    pub test: Test,
    pub streams: usize,
    pub inflight: usize,
    pub seconds: Duration,
    /// Before that, unmeasured.
    pub warm_up: Duration,
    /// Round trips.
    pub count: usize,
    pub connections: usize,
    /// Where the server runs.
    pub server_core: usize,
    /// UDP payload: the most that discovery may find, or what is fixed where there is none.
    pub mtu: u16,
    /// BBR in place of what the peer uses by itself, where it has it.
    pub bbr: bool,
    /// What lies between client and server, as `relay` takes it; none: loopback as it is.
    path: Option<String>,
    /// What only this program understands.
    pub more: BTreeMap<String, String>,
    /// The words that start this very program, before the test.
    program: Vec<String>,
    words: Vec<String>,
}

impl Run {
    /// Of this process, whose program has keys of its own besides those of all.
    pub fn from_args(keys: &[&str]) -> Outcome<Run> {
        Run::parse(&[], std::env::args().skip(1).collect(), keys)
    }

    /// Of a program that is started as `program` of this executable.
    pub fn parse(program: &[&str], mut words: Vec<String>, keys: &[&str]) -> Outcome<Run> {
        if words.first().is_some_and(|word| word == "relay") {
            relay::relay(&words[1..])?;
        }
        let is_server = words.first().is_some_and(|word| word == "serve");
        if is_server {
            words.remove(0);
        }
        let test = match words.first().map(String::as_str) {
            Some("bulk") => Test::Bulk,
            Some("rtt") => Test::Rtt,
            Some("dgram") => Test::Datagram,
            Some("rate") => Test::Rate,
            Some("hs") => Test::Handshakes,
            Some("mem") => Test::Memory,
            _ => return Err("usage: peer-x bulk|rtt|dgram|rate|hs|mem [KEY=VALUE]...".into()),
        };
        let mut run = Run {
            is_server,
            test,
            streams: 1,
            inflight: 32,
            seconds: Duration::from_secs(2),
            warm_up: WARM_UP,
            count: 20_000,
            connections: 1000,
            server_core: 1,
            mtu: 1452,
            bbr: false,
            path: None,
            more: BTreeMap::new(),
            program: program.iter().map(|word| word.to_string()).collect(),
            words: words.clone(),
        };
        for word in &words[1..] {
            let (key, value) = word.split_once('=').ok_or(format!("'{word}' is not KEY=VALUE"))?;
            match key {
                "streams" => run.streams = value.parse()?,
                "inflight" => run.inflight = value.parse()?,
                "seconds" => run.seconds = Duration::try_from_secs_f64(value.parse()?)?,
                "count" => run.count = value.parse()?,
                "connections" => run.connections = value.parse()?,
                "bbr" => run.bbr = value == "1",
                "warmup" => run.warm_up = Duration::try_from_secs_f64(value.parse()?)?,
                "path" => run.path = Some(value.to_owned()),
                "server_core" => run.server_core = value.parse()?,
                "mtu" => run.mtu = value.parse()?,
                _ if keys.contains(&key) => drop(run.more.insert(key.to_owned(), value.to_owned())),
                _ => return Err(format!("there is no {key}").into()),
            }
        }
        Ok(run)
    }

    /// What was said for a key that only this program understands.
    pub fn said(&self, key: &str) -> Option<&str> {
        self.more.get(key).map(String::as_str)
    }
}

/// A request that differs from all others.
pub fn request(number: u64) -> [u8; MESSAGE_BYTES] {
    let mut message = [0; MESSAGE_BYTES];
    message[0] = ECHO;
    message[1..9].copy_from_slice(&number.to_le_bytes());
    message
}
