//! A UDP socket and the connections on it.

use std::collections::HashMap;
use std::io::IoSliceMut;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use peer_harness::{ALPN, Outcome, Run, SOCKET_BYTES, Test};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

const CID_BYTES: usize = 16;
/// What one send takes at most.
const TRAIN_BYTES: usize = 65_507;
/// Receive calls before what came is worked on.
const CALLS_PER_TURN: usize = 4;
/// With many connections their timers are looked at this often.
const TIMERS_EVERY: Duration = Duration::from_millis(5);
/// With so few, before every sleep.
const FEW: usize = 4;
const LONGEST_SLEEP: Duration = Duration::from_millis(50);

/// Which connection.
pub type LinkId = u64;
/// The first bytes of a connection ID.
type CidKey = u64;

struct Link {
    connection: quiche::Connection,
    cids: Vec<CidKey>,
    is_touched: bool,
}

pub struct Endpoint {
    pub local: SocketAddr,
    socket: UdpSocket,
    udp: UdpSocketState,
    config: quiche::Config,
    accepts: bool,
    links: HashMap<LinkId, Link>,
    by_cid: HashMap<CidKey, LinkId>,
    // What may have something to say, each once.
    touched: Vec<LinkId>,
    next_link: LinkId,
    received: Vec<Vec<u8>>,
    train: Vec<u8>,
    mtu: usize,
    timers_at: Instant,
}

impl Endpoint {
    pub fn client(run: &Run) -> Outcome<Endpoint> {
        Endpoint::new(run, config(run)?, false)
    }

    pub fn server(run: &Run) -> Outcome<Endpoint> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()])?;
        let mut config = config(run)?;
        // quiche takes certificates from files only.
        let place = tempfile::tempdir()?;
        let (chain, key) = (place.path().join("chain"), place.path().join("key"));
        std::fs::write(&chain, made.cert.pem())?;
        std::fs::write(&key, made.signing_key.serialize_pem())?;
        config.load_cert_chain_from_pem_file(chain.to_str().ok_or("an odd path")?)?;
        config.load_priv_key_from_pem_file(key.to_str().ok_or("an odd path")?)?;
        Endpoint::new(run, config, true)
    }

    fn new(run: &Run, config: quiche::Config, accepts: bool) -> Outcome<Endpoint> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let options = socket2::SockRef::from(&socket);
        options.set_recv_buffer_size(SOCKET_BYTES)?;
        options.set_send_buffer_size(SOCKET_BYTES)?;
        let udp = UdpSocketState::new((&socket).into())?;
        let mtu = usize::from(run.mtu);
        let segments = udp.max_gso_segments().min(TRAIN_BYTES / mtu).max(1);
        Ok(Endpoint {
            local: socket.local_addr()?,
            received: vec![vec![0; (udp.gro_segments() * 1500).max(1 << 16)]; BATCH_SIZE],
            train: vec![0; segments * mtu],
            socket,
            udp,
            config,
            accepts,
            links: HashMap::new(),
            by_cid: HashMap::new(),
            touched: Vec::new(),
            next_link: 0,
            mtu,
            timers_at: Instant::now(),
        })
    }

    pub fn connect(&mut self, to: SocketAddr) -> Outcome<LinkId> {
        let cid: [u8; CID_BYTES] = rand::random();
        let name = quiche::ConnectionId::from_ref(&cid);
        let connection =
            quiche::connect(Some("localhost"), &name, self.local, to, &mut self.config)?;
        Ok(self.insert(connection, vec![key(&cid)]))
    }

    pub fn connection(&mut self, id: LinkId) -> Option<&mut quiche::Connection> {
        Some(&mut self.links.get_mut(&id)?.connection)
    }

    /// A connection that will have something to say.
    pub fn touch(&mut self, id: LinkId) -> Option<&mut quiche::Connection> {
        let link = self.links.get_mut(&id)?;
        if !std::mem::replace(&mut link.is_touched, true) {
            self.touched.push(id);
        }
        Some(&mut link.connection)
    }

    /// Connections for which something came.
    pub fn touched(&self) -> Vec<LinkId> {
        self.touched.clone()
    }

    /// Sends what there is, waits for a datagram or a timer, and takes in what came.
    pub fn turn(&mut self) -> Outcome<()> {
        self.flush()?;
        if !self.receive()? {
            let sleep = match self.links.len() <= FEW {
                true => self.soonest_timer().min(LONGEST_SLEEP),
                false => TIMERS_EVERY,
            };
            wait(&self.socket, PollFlags::IN, sleep);
            self.receive()?;
        }
        if self.links.len() <= FEW || self.timers_at.elapsed() > TIMERS_EVERY {
            self.timers_at = Instant::now();
            self.fire();
        }
        Ok(())
    }

    /// Sends what the touched connections have to say, in trains of datagrams of one size.
    pub fn flush(&mut self) -> Outcome<()> {
        for id in std::mem::take(&mut self.touched) {
            let Some(link) = self.links.get_mut(&id) else { continue };
            link.is_touched = false;
            while let Some((length, segment, to)) = fill(link, &mut self.train, self.mtu) {
                let transmit = Transmit {
                    destination: to,
                    ecn: None,
                    contents: &self.train[..length],
                    segment_size: (length > segment).then_some(segment),
                    src_ip: None,
                };
                while let Err(failed) = self.udp.send((&self.socket).into(), &transmit) {
                    if failed.kind() != std::io::ErrorKind::WouldBlock {
                        return Err(failed.into());
                    }
                    wait(&self.socket, PollFlags::OUT, Duration::from_millis(10));
                }
            }
        }
        Ok(())
    }

    fn insert(&mut self, connection: quiche::Connection, cids: Vec<CidKey>) -> LinkId {
        let id = self.next_link;
        self.next_link += 1;
        self.by_cid.extend(cids.iter().map(|cid| (*cid, id)));
        self.links.insert(id, Link { connection, cids, is_touched: true });
        self.touched.push(id);
        id
    }

    /// Takes in what there is; whether there was anything.
    fn receive(&mut self) -> Outcome<bool> {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let mut buffers = std::mem::take(&mut self.received);
        let mut any = false;
        for _ in 0..CALLS_PER_TURN {
            let mut slices: Vec<IoSliceMut<'_>> =
                buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
            let Ok(count) = self.udp.recv((&self.socket).into(), &mut slices, &mut metas) else {
                break;
            };
            any |= count > 0;
            for (buffer, meta) in buffers.iter_mut().zip(&metas[..count]) {
                for datagram in buffer[..meta.len].chunks_mut(meta.stride) {
                    self.datagram(datagram, meta.addr)?;
                }
            }
            if count < BATCH_SIZE {
                break;
            }
        }
        self.received = buffers;
        Ok(any)
    }

    fn datagram(&mut self, datagram: &mut [u8], from: SocketAddr) -> Outcome<()> {
        let is_short = datagram.first().is_some_and(|first| first & 0x80 == 0);
        let cid = if is_short && datagram.len() > CID_BYTES {
            key(&datagram[1..])
        } else {
            let Ok(header) = quiche::Header::from_slice(datagram, CID_BYTES) else { return Ok(()) };
            let cid = key(&header.dcid);
            let is_new = self.accepts && header.ty == quiche::Type::Initial;
            if is_new && !self.by_cid.contains_key(&cid) {
                let own: [u8; CID_BYTES] = rand::random();
                let name = quiche::ConnectionId::from_ref(&own);
                let connection = quiche::accept(&name, None, self.local, from, &mut self.config)?;
                self.insert(connection, vec![cid, key(&own)]);
            }
            cid
        };
        let info = quiche::RecvInfo { from, to: self.local };
        if let Some(&id) = self.by_cid.get(&cid)
            && let Some(connection) = self.touch(id)
        {
            // Errors are of the connection, and show in its state.
            let _ = connection.recv(datagram, info);
        }
        Ok(())
    }

    fn soonest_timer(&self) -> Duration {
        let timers = self.links.values().filter_map(|link| link.connection.timeout());
        timers.min().unwrap_or(LONGEST_SLEEP)
    }

    fn fire(&mut self) {
        let due = |link: &Link| link.connection.timeout().is_some_and(|left| left.is_zero());
        let fired: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| due(link)).map(|(id, _)| *id).collect();
        for id in fired {
            if let Some(connection) = self.touch(id) {
                connection.on_timeout();
            }
        }
        let by_cid = &mut self.by_cid;
        self.links.retain(|_, link| {
            let ended = link.connection.is_closed();
            if ended {
                for cid in &link.cids {
                    by_cid.remove(cid);
                }
            }
            !ended
        });
    }
}

/// Fills a train: its length, that of its datagrams, and where it goes.
fn fill(link: &mut Link, train: &mut [u8], mtu: usize) -> Option<(usize, usize, SocketAddr)> {
    let (mut length, mut segment, mut to) = (0, 0, None);
    while length + mtu <= train.len() {
        let Ok((written, info)) = link.connection.send(&mut train[length..length + mtu]) else {
            break;
        };
        to = Some(info.to);
        length += written;
        if segment == 0 {
            segment = written;
        }
        // A shorter one ends a train; behind a short first one no longer one may follow.
        if written != segment || segment != mtu {
            break;
        }
    }
    Some((length, segment, to?))
}

fn key(cid: &[u8]) -> CidKey {
    let mut first = [0; 8];
    let length = cid.len().min(first.len());
    first[..length].copy_from_slice(&cid[..length]);
    u64::from_le_bytes(first)
}

fn config(run: &Run) -> Outcome<quiche::Config> {
    let mut config = quiche::Config::new(quiche::PROTOCOL_VERSION)?;
    config.set_application_protos(&[ALPN])?;
    config.set_curves_list("X25519")?;
    config.verify_peer(false);
    config.grease(false);
    config.enable_pacing(false);
    config.set_max_idle_timeout(120_000);
    config.set_max_recv_udp_payload_size(TRAIN_BYTES);
    config.set_max_send_udp_payload_size(run.mtu.into());
    // quinn's windows.
    config.set_initial_max_data(10 << 20);
    config.set_initial_max_stream_data_bidi_local(1_250_000);
    config.set_initial_max_stream_data_bidi_remote(1_250_000);
    config.set_initial_max_streams_bidi(100);
    config.set_disable_active_migration(true);
    if run.bbr {
        config.set_cc_algorithm(quiche::CongestionControlAlgorithm::Bbr2Gcongestion);
    }
    if run.test == Test::Datagram {
        config.enable_dgram(true, 256, 256);
    }
    Ok(config)
}

fn wait(socket: &UdpSocket, events: PollFlags, time: Duration) {
    // No wait is longer than a timespec can say, and being woken early does no harm.
    let time = Timespec::try_from(time).unwrap_or_default();
    let _ = poll(&mut [PollFd::new(socket, events)], Some(&time));
}
