//! fastnet, which is not QUIC: keys over TLS and TCP, then ChaCha20-Poly1305 over UDP, one datagram a
//! message. Only its round trip can be compared: on its unreliable channel, by its own interface.

use std::time::{Duration, Instant};

use fastnet::{SecureEvent, SecureSocket};
use peer_harness::client::block_on;
use peer_harness::{
    CLIENT_CORE, Latency, MESSAGE_BYTES, Outcome, Record, Run, Server, Test, request,
};

/// The channel that neither orders nor repeats.
const UNRELIABLE: u8 = 0;

fn main() -> Outcome<()> {
    let run = Run::from_args(&[])?;
    if run.test != Test::Datagram {
        return Err("fastnet has only dgram".into());
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    if run.is_server {
        return block_on(run.server_core, serve());
    }
    let mut server = Server::start(&run)?;
    block_on(CLIENT_CORE, round_trips(&run, &mut server))
}

async fn serve() -> Outcome<()> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()])?;
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let any = "127.0.0.1:0".parse()?;
    let chain = vec![made.cert.der().clone()];
    let mut socket = SecureSocket::bind_server(any, any, chain, key.into()).await?;
    let place = socket.local_tcp_addr()?.ok_or("no TCP socket")?;
    peer_harness::serve(&place.to_string());
    loop {
        for event in socket.poll().await? {
            if let SecureEvent::Data(peer, channel, message) = event {
                socket.send(peer, channel, message).await?;
            }
        }
    }
}

async fn round_trips(run: &Run, server: &mut Server) -> Outcome<()> {
    let mut socket = SecureSocket::connect(server.place.parse()?).await?;
    let connected = |event: SecureEvent| match event {
        SecureEvent::Connected(peer) => Some(peer),
        _ => None,
    };
    let peer = socket.poll().await?.into_iter().find_map(connected).unwrap_or(0);
    tokio::time::sleep(Duration::from_millis(50)).await;
    for number in 0..run.count / 20 {
        echo(&mut socket, peer, &request(number as u64)).await?;
    }
    let record = Record::begin(server)?;
    let mut latency = Latency::default();
    for number in 0..run.count {
        let began = Instant::now();
        echo(&mut socket, peer, &request(number as u64)).await?;
        latency.add(began.elapsed());
    }
    record.operations(server, &latency)
}

async fn echo(socket: &mut SecureSocket, peer: u16, message: &[u8; MESSAGE_BYTES]) -> Outcome<()> {
    socket.send_bytes(peer, UNRELIABLE, message).await?;
    loop {
        for event in socket.poll().await? {
            if let SecureEvent::Data(_, _, data) = event {
                return match data[..] == message[..] {
                    true => Ok(()),
                    false => Err("another message came back".into()),
                };
            }
        }
    }
}
