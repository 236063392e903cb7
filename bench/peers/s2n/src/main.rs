//! s2n-quic on tokio, with its own TLS (s2n-tls).

use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use peer_harness::client::{Peer, block_on, measure};
use peer_harness::{
    ALPN, CHUNK_BYTES, CLIENT_CORE, MESSAGE_BYTES, Outcome, Run, SOCKET_BYTES, Server, Test, UPLOAD,
};
use s2n_quic::client::Connect;
use s2n_quic::connection::{Connection, Handle};
use s2n_quic::provider::congestion_controller::Bbr;
use s2n_quic::provider::datagram::default as datagram;
use s2n_quic::provider::{io, limits::Limits, tls};
use s2n_quic::stream::BidirectionalStream;

/// Datagrams that may wait, each way.
const DATAGRAMS: usize = 256;
/// IPv4 and UDP headers, which s2n counts as part of its MTU.
const HEADERS: u16 = 28;

fn main() -> Outcome<()> {
    let run = Run::from_args(&[])?;
    if run.is_server {
        return block_on(run.server_core, serve(&run));
    }
    let mut server = Server::start(&run)?;
    block_on(CLIENT_CORE, async {
        let (address, certificate) = server.place.split_once(' ').ok_or("no certificate")?;
        let client = Client {
            address: address.parse()?,
            endpoint: client(&run, &certificate.replace('|', "\n"))?,
        };
        measure(&run, &mut server, client).await
    })
}

fn client(run: &Run, certificate: &str) -> Outcome<s2n_quic::Client> {
    let tls = tls::default::Client::builder()
        .with_certificate(certificate)?
        .with_application_protocols([ALPN])?
        .build()?;
    let client =
        s2n_quic::Client::builder().with_tls(tls)?.with_io(io(run)?)?.with_limits(limits()?)?;
    Ok(match run.test {
        Test::Datagram => client.with_datagram(datagrams()?)?.start()?,
        _ if run.bbr => client.with_congestion_controller(Bbr::default())?.start()?,
        _ => client.start()?,
    })
}

async fn serve(run: &Run) -> Outcome<()> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()])?;
    let certificate = made.cert.pem();
    let tls = tls::default::Server::builder()
        .with_certificate(certificate.as_str(), made.signing_key.serialize_pem().as_str())?
        .with_application_protocols([ALPN])?
        .build()?;
    let server =
        s2n_quic::Server::builder().with_tls(tls)?.with_io(io(run)?)?.with_limits(limits()?)?;
    let mut server = match run.test {
        Test::Datagram => server.with_datagram(datagrams()?)?.start()?,
        _ if run.bbr => server.with_congestion_controller(Bbr::default())?.start()?,
        _ => server.start()?,
    };
    peer_harness::serve(&format!("{} {}", server.local_addr()?, certificate.replace('\n', "|")));
    let echoes = run.test == Test::Datagram;
    while let Some(connection) = server.accept().await {
        tokio::task::spawn_local(serve_connection(connection, echoes));
    }
    Ok(())
}

async fn serve_connection(mut connection: Connection, echoes: bool) {
    if echoes {
        let handle = connection.handle();
        tokio::task::spawn_local(async move {
            while let Ok(message) = receive(&handle).await {
                if send(&handle, message).is_err() {
                    break;
                }
            }
        });
    }
    while let Ok(Some(stream)) = connection.accept_bidirectional_stream().await {
        tokio::task::spawn_local(serve_stream(stream));
    }
}

/// Counts an upload, or sends a request back.
async fn serve_stream(mut stream: BidirectionalStream) -> Option<()> {
    let first = stream.receive().await.ok()??;
    if first[0] == UPLOAD {
        let mut bytes = first.len() as u64;
        while let Some(chunk) = stream.receive().await.ok()? {
            bytes += chunk.len() as u64;
        }
        stream.send(Bytes::copy_from_slice(&bytes.to_le_bytes())).await.ok()?;
    } else {
        let mut message = Vec::with_capacity(MESSAGE_BYTES);
        message.extend_from_slice(&first);
        while let Some(chunk) = stream.receive().await.ok()? {
            message.extend_from_slice(&chunk);
        }
        stream.send(Bytes::from(message)).await.ok()?;
    }
    stream.finish().ok()
}

fn io(run: &Run) -> Outcome<io::tokio::Provider> {
    let any: SocketAddr = "127.0.0.1:0".parse()?;
    let io = io::tokio::Builder::default()
        .with_receive_address(any)?
        .with_send_buffer_size(SOCKET_BYTES)?
        .with_recv_buffer_size(SOCKET_BYTES)?
        .with_max_mtu(run.mtu + HEADERS)?;
    Ok(io.build()?)
}

fn limits() -> Outcome<Limits> {
    let limits = Limits::new().with_max_idle_timeout(Duration::from_secs(120));
    limits.map_err(|refused| format!("limits: {refused}").into())
}

fn datagrams() -> Outcome<datagram::Endpoint> {
    let refused = "datagrams cannot be had";
    let builder =
        datagram::Endpoint::builder().with_send_capacity(DATAGRAMS).map_err(|_| refused)?;
    Ok(builder.with_recv_capacity(DATAGRAMS).map_err(|_| refused)?.build()?)
}

async fn receive(handle: &Handle) -> Outcome<Bytes> {
    let next = poll_fn(|context| {
        let polled =
            handle.datagram_mut(|all: &mut datagram::Receiver| all.poll_recv_datagram(context));
        match polled {
            Ok(Poll::Ready(received)) => Poll::Ready(received.map_err(|e| format!("{e:?}"))),
            Ok(Poll::Pending) => Poll::Pending,
            Err(failed) => Poll::Ready(Err(format!("{failed:?}"))),
        }
    });
    Ok(next.await?)
}

fn send(handle: &Handle, message: Bytes) -> Outcome<()> {
    match handle.datagram_mut(|all: &mut datagram::Sender| all.send_datagram(message)) {
        Ok(Ok(())) => Ok(()),
        failed => Err(format!("a datagram was not sent: {failed:?}").into()),
    }
}

struct Client {
    endpoint: s2n_quic::Client,
    address: SocketAddr,
}

impl Peer for Client {
    type Connection = Connection;

    async fn connect(&self) -> Outcome<Connection> {
        let to = Connect::new(self.address).with_server_name("localhost");
        Ok(self.endpoint.connect(to).await?)
    }

    async fn upload(connection: &Connection, until: Instant) -> Outcome<u64> {
        let mut stream = connection.handle().open_bidirectional_stream().await?;
        let chunk = Bytes::from(vec![UPLOAD; CHUNK_BYTES]);
        let mut sent = 0_u64;
        while Instant::now() < until {
            stream.send(chunk.clone()).await?;
            sent += CHUNK_BYTES as u64;
        }
        stream.finish()?;
        match stream.receive().await?.as_deref() == Some(&sent.to_le_bytes()) {
            true => Ok(sent),
            false => Err("the server counted another number of bytes".into()),
        }
    }

    async fn echo(connection: &Connection, message: &[u8; MESSAGE_BYTES]) -> Outcome<()> {
        let mut stream = connection.handle().open_bidirectional_stream().await?;
        stream.send(Bytes::copy_from_slice(message)).await?;
        stream.finish()?;
        let mut rest = &message[..];
        while let Some(chunk) = stream.receive().await? {
            rest = rest.strip_prefix(&chunk[..]).ok_or("another message came back")?;
        }
        match rest.is_empty() {
            true => Ok(()),
            false => Err("a part of the message came back".into()),
        }
    }

    async fn datagram(connection: &Connection, message: &[u8; MESSAGE_BYTES]) -> Outcome<()> {
        let handle = connection.handle();
        send(&handle, Bytes::copy_from_slice(message))?;
        match receive(&handle).await?[..] == message[..] {
            true => Ok(()),
            false => Err("another datagram came back".into()),
        }
    }

    fn close(connection: Connection) {
        connection.close(0_u32.into());
    }
}
