//! quinn, and its forks that kept its interface. Who includes this has as `q` the crate that is
//! measured, the TLS set-up as `tls`, and what the forks do differently: `next` reads a stream,
//! `use_bbr` chooses BBR.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use peer_harness::client::{Peer, block_on, measure};
use peer_harness::{
    CHUNK_BYTES, CLIENT_CORE, MESSAGE_BYTES, Outcome, Run, SOCKET_BYTES, Server, Test, UPLOAD,
};
use q::crypto::rustls::{QuicClientConfig, QuicServerConfig};

use crate::{q, tls};

/// The whole program.
pub fn run() -> Outcome<()> {
    let run = Run::from_args(&[])?;
    if run.is_server {
        return block_on(run.server_core, serve(&run));
    }
    let mut server = Server::start(&run)?;
    block_on(CLIENT_CORE, async {
        let address = server.place.parse()?;
        measure(&run, &mut server, Client { endpoint: client(&run)?, address }).await
    })
}

fn client(run: &Run) -> Outcome<q::Endpoint> {
    let crypto = QuicClientConfig::try_from(tls::client()?)?;
    let mut config = q::ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport(run));
    // One of the forks does not need it.
    #[allow(unused_mut)]
    let mut endpoint = endpoint(None)?;
    endpoint.set_default_client_config(config);
    Ok(endpoint)
}

async fn serve(run: &Run) -> Outcome<()> {
    let crypto = QuicServerConfig::try_from(tls::server()?)?;
    let mut config = q::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport(run));
    let endpoint = endpoint(Some(config))?;
    peer_harness::serve(&endpoint.local_addr()?.to_string());
    let datagrams = run.test == Test::Datagram;
    while let Some(incoming) = endpoint.accept().await {
        tokio::task::spawn_local(async move {
            if let Ok(connection) = incoming.await {
                serve_connection(connection, datagrams).await;
            }
        });
    }
    Ok(())
}

fn endpoint(server: Option<q::ServerConfig>) -> Outcome<q::Endpoint> {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let options = socket2::SockRef::from(&socket);
    options.set_recv_buffer_size(SOCKET_BYTES)?;
    options.set_send_buffer_size(SOCKET_BYTES)?;
    let config = q::EndpointConfig::default();
    Ok(q::Endpoint::new(config, server, socket, Arc::new(q::TokioRuntime))?)
}

/// The peer's own defaults, with MTU discovery up to what all are given.
fn transport(run: &Run) -> Arc<q::TransportConfig> {
    let mut discovery = q::MtuDiscoveryConfig::default();
    discovery.upper_bound(run.mtu);
    let mut config = q::TransportConfig::default();
    config.mtu_discovery_config(Some(discovery));
    if run.bbr {
        crate::use_bbr(&mut config);
    }
    if run.test == Test::Memory {
        config.max_idle_timeout(None);
    }
    Arc::new(config)
}

async fn serve_connection(connection: q::Connection, datagrams: bool) {
    if datagrams {
        let connection = connection.clone();
        tokio::task::spawn_local(async move {
            while let Ok(datagram) = connection.read_datagram().await {
                if connection.send_datagram(datagram).is_err() {
                    break;
                }
            }
        });
    }
    while let Ok((send, receive)) = connection.accept_bi().await {
        tokio::task::spawn_local(serve_stream(send, receive));
    }
}

/// Counts an upload, or sends a request back.
async fn serve_stream(mut send: q::SendStream, mut receive: q::RecvStream) -> Option<()> {
    let first = crate::next(&mut receive).await?;
    if first[0] == UPLOAD {
        let mut bytes = first.len() as u64;
        while let Some(chunk) = crate::next(&mut receive).await {
            bytes += chunk.len() as u64;
        }
        send.write_all(&bytes.to_le_bytes()).await.ok()?;
    } else {
        let mut message = Vec::with_capacity(MESSAGE_BYTES);
        message.extend_from_slice(&first);
        while let Some(chunk) = crate::next(&mut receive).await {
            message.extend_from_slice(&chunk);
        }
        send.write_all(&message).await.ok()?;
    }
    send.finish().ok()
}

struct Client {
    endpoint: q::Endpoint,
    address: SocketAddr,
}

impl Peer for Client {
    type Connection = q::Connection;

    async fn connect(&self) -> Outcome<q::Connection> {
        Ok(self.endpoint.connect(self.address, "localhost")?.await?)
    }

    async fn upload(connection: &q::Connection, until: Instant) -> Outcome<u64> {
        let (mut send, mut receive) = connection.open_bi().await?;
        let chunk = Bytes::from(vec![UPLOAD; CHUNK_BYTES]);
        let mut sent = 0_u64;
        while Instant::now() < until {
            send.write_chunk(chunk.clone()).await?;
            sent += CHUNK_BYTES as u64;
        }
        send.finish()?;
        match receive.read_to_end(8).await? == sent.to_le_bytes() {
            true => Ok(sent),
            false => Err("the server counted another number of bytes".into()),
        }
    }

    async fn echo(connection: &q::Connection, message: &[u8; MESSAGE_BYTES]) -> Outcome<()> {
        let (mut send, mut receive) = connection.open_bi().await?;
        send.write_all(message).await?;
        send.finish()?;
        match receive.read_to_end(MESSAGE_BYTES).await? == message {
            true => Ok(()),
            false => Err("another message came back".into()),
        }
    }

    async fn datagram(connection: &q::Connection, message: &[u8; MESSAGE_BYTES]) -> Outcome<()> {
        connection.send_datagram(Bytes::copy_from_slice(message))?;
        match connection.read_datagram().await?[..] == message[..] {
            true => Ok(()),
            false => Err("another datagram came back".into()),
        }
    }

    fn close(connection: q::Connection) {
        connection.close(0_u32.into(), b"");
    }
}
