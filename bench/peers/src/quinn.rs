//! quinn 0.11 on tokio, bulk over one connection on loopback, in two processes: this one is the
//! client on core 0 and starts itself again as the server on core 1. Each side is one
//! current-thread runtime. AES-128-GCM, X25519, 4 MiB of socket buffers, no resumption; quinn's own
//! defaults else.
//!
//! `peer-quinn bulk STREAMS SECONDS MTU` prints `GBPS CPU_SECONDS_PER_GIB`.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{CipherSuite, DigitallySignedStruct, NamedGroup, SignatureScheme};

type Outcome<T> = Result<T, Box<dyn Error>>;

const CLIENT_CORE: usize = 0;
const SERVER_CORE: usize = 1;
const CHUNK_BYTES: usize = 256 << 10;
const WARM_UP: Duration = Duration::from_millis(500);
const SOCKET_BYTES: usize = 4 << 20;

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["server", mtu] => on_core(SERVER_CORE, serve(mtu.parse()?)),
        ["bulk", streams, seconds, mtu] => {
            let seconds = Duration::from_secs_f64(seconds.parse()?);
            on_core(CLIENT_CORE, bulk(streams.parse()?, seconds, mtu.parse()?))
        }
        _ => Err("usage: peer-quinn bulk STREAMS SECONDS MTU".into()),
    }
}

fn on_core<T>(core: usize, work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    core_affinity::set_for_current(core_affinity::CoreId { id: core });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

async fn bulk(streams: usize, seconds: Duration, mtu: u16) -> Outcome<()> {
    let mut server = Server::start(mtu)?;
    let mut endpoint = quinn::Endpoint::new(
        quinn::EndpointConfig::default(),
        None,
        socket()?,
        Arc::new(quinn::TokioRuntime),
    )?;
    let crypto = QuicClientConfig::try_from(client_tls()?)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport(mtu));
    endpoint.set_default_client_config(config);
    let connection = endpoint.connect(server.address.parse()?, "localhost")?.await?;
    upload(connection.clone(), Instant::now() + WARM_UP).await?;

    let (wall, cpu) = (Instant::now(), cpu_seconds()? + server.cpu_seconds()?);
    let until = wall + seconds;
    let tasks: Vec<_> = (0..streams)
        .map(|_| {
            let connection = connection.clone();
            tokio::task::spawn_local(async move {
                upload(connection, until).await.map_err(|e| e.to_string())
            })
        })
        .collect();
    let mut bytes = 0;
    for task in tasks {
        bytes += task.await??;
    }
    let wall = wall.elapsed().as_secs_f64();
    let cpu = cpu_seconds()? + server.cpu_seconds()? - cpu;
    let bytes = bytes as f64;
    println!("{} {}", bytes * 8.0 / wall / 1e9, cpu / (bytes / (1u64 << 30) as f64));
    Ok(())
}

/// Sends until `until`; the server answers with the number of bytes that it got.
async fn upload(connection: quinn::Connection, until: Instant) -> Outcome<u64> {
    let (mut send, mut receive) = connection.open_bi().await?;
    let chunk = Bytes::from(vec![b'U'; CHUNK_BYTES]);
    let mut sent = 0_u64;
    while Instant::now() < until {
        send.write_chunk(chunk.clone()).await?;
        sent += CHUNK_BYTES as u64;
    }
    send.finish()?;
    let answer = receive.read_to_end(8).await?;
    if answer != sent.to_le_bytes() {
        return Err("the server counted another number of bytes".into());
    }
    Ok(sent)
}

async fn serve(mtu: u16) -> Outcome<()> {
    let crypto = QuicServerConfig::try_from(server_tls()?)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport(mtu));
    let endpoint = quinn::Endpoint::new(
        quinn::EndpointConfig::default(),
        Some(config),
        socket()?,
        Arc::new(quinn::TokioRuntime),
    )?;
    println!("{}", endpoint.local_addr()?);
    // Each line on stdin is a question for the processor time; the end of stdin is the end.
    std::thread::spawn(|| {
        for _ in std::io::stdin().lock().lines() {
            println!("{}", cpu_seconds().unwrap_or(0.0));
        }
        std::process::exit(0);
    });
    while let Some(incoming) = endpoint.accept().await {
        let connection = incoming.await?;
        tokio::task::spawn_local(async move {
            while let Ok((send, receive)) = connection.accept_bi().await {
                tokio::task::spawn_local(count(send, receive));
            }
        });
    }
    Ok(())
}

async fn count(mut send: quinn::SendStream, mut receive: quinn::RecvStream) -> Option<()> {
    let mut bytes = 0_u64;
    while let Some(chunk) = receive.read_chunk(usize::MAX, true).await.ok()? {
        bytes += chunk.bytes.len() as u64;
    }
    send.write_all(&bytes.to_le_bytes()).await.ok()?;
    send.finish().ok()
}

struct Server {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
    address: String,
}

impl Server {
    fn start(mtu: u16) -> Outcome<Server> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["server", &mtu.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut answers = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let mut address = String::new();
        answers.read_line(&mut address)?;
        Ok(Server { child, answers, address: address.trim().to_owned() })
    }

    fn cpu_seconds(&mut self) -> Outcome<f64> {
        writeln!(self.child.stdin.as_mut().ok_or("no stdin")?)?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim().parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Processor time of this process's first thread, where all its work is done.
fn cpu_seconds() -> Outcome<f64> {
    let text = std::fs::read_to_string("/proc/self/schedstat")?;
    let nanos: f64 = text.split_whitespace().next().ok_or("empty schedstat")?.parse()?;
    Ok(nanos / 1e9)
}

fn socket() -> Outcome<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let options = socket2::SockRef::from(&socket);
    options.set_recv_buffer_size(SOCKET_BYTES)?;
    options.set_send_buffer_size(SOCKET_BYTES)?;
    Ok(socket)
}

fn transport(mtu: u16) -> Arc<quinn::TransportConfig> {
    let mut discovery = quinn::MtuDiscoveryConfig::default();
    discovery.upper_bound(mtu);
    let mut config = quinn::TransportConfig::default();
    config.mtu_discovery_config(Some(discovery));
    Arc::new(config)
}

fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|s| s.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider.kx_groups.retain(|group| group.name() == NamedGroup::X25519);
    Arc::new(provider)
}

fn server_tls() -> Outcome<rustls::ServerConfig> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()])?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())?;
    config.alpn_protocols = vec![b"peers".to_vec()];
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client_tls() -> Outcome<rustls::ClientConfig> {
    let provider = provider();
    let mut config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"peers".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// Checks the handshake's signature and takes any certificate: this is a benchmark on loopback.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
