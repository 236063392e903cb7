//! Counts uploads, and sends requests and messages back.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pangea_transport::{ConnId, Event, ReadOutcome, StreamId, Transport};
use peer_harness::{MESSAGE_BYTES, Outcome, UPLOAD};

use super::Setup;
use super::net::{Net, Role};

/// There is nothing to look up but what the network brings.
const LONG: Duration = Duration::from_secs(10);

pub fn serve(setup: &Setup) -> Outcome<()> {
    let mut net = Net::open(setup, Role::Server)?;
    peer_harness::serve(&net.local.to_string());
    let mut desk = Desk::default();
    loop {
        net.turn(Instant::now() + LONG, &mut |transport, event| {
            desk.react(transport, &event);
            Ok(())
        })?;
    }
}

/// What came on a stream that has not ended.
#[derive(Default)]
struct Incoming {
    bytes: u64,
    is_upload: bool,
    request: Vec<u8>,
}

#[derive(Default)]
struct Desk {
    open: HashMap<(ConnId, StreamId), Incoming>,
}

impl Desk {
    /// What a client does wrong ends its stream or connection; the client notices.
    fn react(&mut self, transport: &mut Transport, event: &Event) {
        match *event {
            Event::Readable { conn, stream } => self.read(transport, conn, stream),
            Event::Message { conn } => {
                while let Some(message) = transport.message(conn) {
                    let _ = transport.send_message(conn, message);
                }
            }
            Event::Closed { conn, .. } => self.open.retain(|(of, _), _| *of != conn),
            _ => {}
        }
    }

    fn read(&mut self, transport: &mut Transport, conn: ConnId, stream: StreamId) {
        let mut incoming = self.open.remove(&(conn, stream)).unwrap_or_default();
        let ended = transport.read_into(conn, stream, usize::MAX, &mut |bytes| {
            incoming.is_upload |= incoming.bytes == 0 && bytes[0] == UPLOAD;
            if !incoming.is_upload && incoming.request.len() < MESSAGE_BYTES {
                incoming.request.extend_from_slice(&bytes);
            }
            incoming.bytes += bytes.len() as u64;
        });
        match ended {
            Ok(ReadOutcome::Finished) => {
                // An upload that never got its turn is one of no bytes.
                let mut answer = match incoming.is_upload || incoming.bytes == 0 {
                    true => Bytes::copy_from_slice(&incoming.bytes.to_le_bytes()),
                    false => Bytes::from(incoming.request),
                };
                let _ = transport.write(conn, stream, &mut answer);
                let _ = transport.finish(conn, stream);
            }
            Ok(_) => drop(self.open.insert((conn, stream), incoming)),
            Err(_) => {}
        }
    }
}
