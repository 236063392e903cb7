use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::{hkdf, hmac};
use pangea_base::{CoreId, Entropy, UnixTime};
use quinn_proto::congestion::{ControllerFactory, CubicConfig};
use quinn_proto::{
    ClientConfig, ConnectionId, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, NoneTokenLog,
    NoneTokenStore, ServerConfig, TimeSource, TransportConfig, ValidationTokenConfig, VarInt,
};

use crate::Crypto;
use crate::cid::CoreCids;
use crate::congestion::ModelFactory;

/// The application protocol of a pangea node (RFC 7301).
pub const ALPN: &[u8] = b"pangea/1";
/// The same with a trace context before each request: spoken only where both sides are configured
/// to and have tracing compiled in.
pub const ALPN_LABELLED: &[u8] = b"pangea/1+trace";

/// The most bytes of one send: the largest UDP payload over IPv4. quinn-proto does not look at it,
/// and the kernel refuses a longer GSO train whole.
pub const TRAIN_BYTES_MAX: usize = 65_507;

/// QUIC's smallest allowed maximum datagram (RFC 9000 section 14), where path MTU discovery begins.
pub(crate) const MTU_MIN: u16 = 1200;

/// Versions that we speak: QUIC version 1 (RFC 9000).
const VERSIONS: [u32; 1] = [1];

/// Path MTU discovery ends when the next step would be finer than this.
const MTU_STEP: u16 = 20;
/// The same towards this machine itself.
const MTU_STEP_LOOPBACK: u16 = 8192;

/// What is known of a path before it is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Path {
    /// To this machine.
    Loopback,
    /// Anywhere else.
    Network,
}

impl Path {
    pub(crate) fn to(remote: SocketAddr) -> Path {
        match remote.ip().to_canonical().is_loopback() {
            true => Path::Loopback,
            false => Path::Network,
        }
    }
}

/// How congestion is controlled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Congestion {
    /// RFC 9438; reproducible.
    Cubic,
    /// After BBR (`congestion.rs`): follows what the path delivers, not single losses; reproducible.
    Bbr,
}

/// Every limit of one core's transport, in one place. Sizes are bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Connections of this core, dialled and accepted together.
    pub connections_max: u32,
    /// Accepted connections among them, so that dialling stays possible under a flood.
    pub incoming_max: u32,
    /// Accepted connections whose address has not been validated yet.
    pub unvalidated_max: u32,
    /// Above so many of those every newcomer must first prove its address (Retry).
    pub retry_above: u32,
    /// Accepted connections per /24 (IPv4) or /48 (IPv6). Loopback is exempt.
    pub incoming_per_prefix_max: u32,
    /// Connection attempts per second and prefix without having to prove the address.
    pub attempts_per_prefix_per_second: u32,
    /// From the first packet to an established connection.
    pub handshake_timeout: Duration,
    /// Silence after which a connection is given up.
    pub idle_timeout: Duration,
    /// Streams that the peer may have open at first; doubles while the peer needs more.
    pub streams_start: u32,
    /// Streams that the peer may have open at most.
    pub streams_max: u32,
    /// Unread bytes of a whole connection at first; every connection has this much.
    pub receive_window_start: u32,
    /// Unread bytes of a whole connection at most.
    pub receive_window_max: u32,
    /// Unread bytes of one stream. quinn-proto fixes it for a connection's life, so it is set to
    /// what a fast long path needs, and the connection's window is what really binds.
    pub stream_receive_window: u32,
    /// Unacknowledged bytes of a connection at first.
    pub send_window_start: u32,
    /// Unacknowledged bytes of a connection at most.
    pub send_window_max: u32,
    /// What all connections of this core may add to their receive windows together.
    pub receive_credit: u64,
    /// What all connections of this core may add to their send windows together.
    pub send_credit: u64,
    /// Memory of received batches that unread data may pin; beyond it datagrams are copied apart.
    pub batch_bytes_max: usize,
    /// Messages of a connection that came and wait to be taken, and as many that wait to be sent:
    /// beyond it the oldest are dropped. 0: this side takes none and sends none.
    pub message_bytes: u32,
    /// Answers without a connection (Retry, refusal, version negotiation, stateless reset) that
    /// wait to be sent; further ones are dropped.
    pub responses_max: usize,
}

impl Limits {
    /// What a node uses unless it is configured otherwise.
    pub const STANDARD: Limits = Limits {
        connections_max: 2048,
        incoming_max: 1536,
        unvalidated_max: 1024,
        retry_above: 256,
        incoming_per_prefix_max: 128,
        attempts_per_prefix_per_second: 64,
        handshake_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(30),
        streams_start: 8,
        streams_max: 64,
        receive_window_start: 64 << 10,
        receive_window_max: 16 << 20,
        stream_receive_window: 8 << 20,
        send_window_start: 128 << 10,
        send_window_max: 16 << 20,
        receive_credit: 64 << 20,
        send_credit: 64 << 20,
        batch_bytes_max: 32 << 20,
        message_bytes: 0,
        responses_max: 64,
    };

    /// The most received bytes that peers can make this core keep: every connection's first window,
    /// its messages, the credit, and the batches that unread bytes pin.
    pub fn receive_bytes_max(&self) -> u64 {
        u64::from(self.connections_max)
            * (u64::from(self.receive_window_start) + u64::from(self.message_bytes))
            + self.receive_credit
            + self.batch_bytes_max as u64
    }
}

// Dialling must stay possible when every incoming place is taken, a validated newcomer must find a
// place when every unvalidated one is taken, and Retry must begin before refusal.
const _: () = assert!(Limits::STANDARD.incoming_max < Limits::STANDARD.connections_max);
const _: () = assert!(Limits::STANDARD.unvalidated_max < Limits::STANDARD.incoming_max);
const _: () = assert!(Limits::STANDARD.retry_above < Limits::STANDARD.unvalidated_max);
const _: () =
    assert!(Limits::STANDARD.stream_receive_window <= Limits::STANDARD.receive_window_max);

/// Everything that a transport is told once.
#[derive(Clone)]
pub struct Config {
    /// This core: the first byte of every connection id that it issues.
    pub core: CoreId,
    /// How many cores share the port.
    pub cores: u8,
    /// The largest UDP payload worth trying, from the interface (its MTU less 28 or 48). Discovery
    /// never goes beyond it or beyond [`TRAIN_BYTES_MAX`].
    pub mtu_max: u16,
    /// The same for peers on this very machine, whose path is known to carry it: then a few coarse
    /// steps find it. (Every byte of a probe's padding is a frame that the receiver has to parse,
    /// and a fine search up to 64 KiB costs both sides more than a small request.) `None`: no
    /// difference is made.
    pub mtu_loopback: Option<u16>,
    /// The most segments that the driver takes in one send (1 = no GSO).
    pub gso_segments_max: usize,
    /// Congestion control of all connections.
    pub congestion: Congestion,
    /// The limits.
    pub limits: Limits,
    /// Key of stateless resets, shared by all cores and kept over restarts.
    pub reset_key: [u8; 32],
    /// Key of Retry tokens, shared by all cores.
    pub token_key: [u8; 32],
    /// The wall clock when the transport is made; it moves on with the `now` of the calls.
    pub time: UnixTime,
}

/// The wall clock as quinn-proto wants it, moved on by the transport.
pub(crate) struct Wall(AtomicU64);

impl Wall {
    pub(crate) fn new(time: UnixTime) -> Wall {
        Wall(AtomicU64::new(time.0))
    }

    pub(crate) fn set(&self, time: UnixTime) {
        self.0.store(time.0, Ordering::Relaxed);
    }
}

impl TimeSource for Wall {
    fn now(&self) -> SystemTime {
        let seconds = Duration::from_secs(self.0.load(Ordering::Relaxed));
        UNIX_EPOCH.checked_add(seconds).unwrap_or(UNIX_EPOCH)
    }
}

impl Config {
    /// Upper end of path MTU discovery, and its finest step.
    pub(crate) fn mtu_bound(&self, path: Path) -> (u16, u16) {
        let most = u16::try_from(TRAIN_BYTES_MAX).unwrap_or(u16::MAX);
        match (path, self.mtu_loopback) {
            (Path::Loopback, Some(mtu)) => (mtu.clamp(MTU_MIN, most), MTU_STEP_LOOPBACK),
            _ => (self.mtu_max.clamp(MTU_MIN, most), MTU_STEP),
        }
    }

    pub(crate) fn endpoint(&self, entropy: &mut Entropy) -> EndpointConfig {
        let reset_key = hmac::Key::new(hmac::HMAC_SHA256, &self.reset_key);
        let mut config = EndpointConfig::new(Arc::new(reset_key));
        let core = self.core;
        let cid_seed = entropy.array::<32>();
        config
            .cid_generator(move || Box::new(CoreCids { core, entropy: Entropy::new(cid_seed) }))
            .max_udp_payload_size(TRAIN_BYTES_MAX as u16)
            .expect("65,507 is within what a UDP payload may be")
            .supported_versions(VERSIONS.to_vec())
            .grease_quic_bit(true)
            .min_reset_interval(Duration::from_millis(20))
            .rng_seed(Some(entropy.array()));
        config
    }

    pub(crate) fn server(
        &self,
        crypto: &dyn Crypto,
        transport: Arc<TransportConfig>,
        wall: Arc<Wall>,
    ) -> ServerConfig {
        let token_key = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&self.token_key);
        let mut validation = ValidationTokenConfig::default();
        validation.lifetime(Duration::ZERO).log(Arc::new(NoneTokenLog)).sent(0);
        let mut config = ServerConfig::new(crypto.server(), Arc::new(token_key));
        config
            .transport_config(transport)
            .validation_token_config(validation)
            .retry_token_lifetime(self.limits.handshake_timeout)
            .migration(true)
            .preferred_address_v4(None)
            .preferred_address_v6(None)
            // Every newcomer is decided at once, so hardly any buffer is ever needed.
            .max_incoming(64)
            .incoming_buffer_size(16 << 10)
            .incoming_buffer_size_total(1 << 20)
            .time_source(wall);
        config
    }

    pub(crate) fn client(
        crypto: Arc<dyn quinn_proto::crypto::ClientConfig>,
        transport: Arc<TransportConfig>,
        first_dcid: ConnectionId,
    ) -> ClientConfig {
        let mut config = ClientConfig::new(crypto);
        config
            .transport_config(transport)
            .token_store(Arc::new(NoneTokenStore))
            .initial_dst_cid_provider(Arc::new(move || first_dcid))
            .version(VERSIONS[0]);
        config
    }

    pub(crate) fn transport(&self, path: Path) -> TransportConfig {
        let limits = &self.limits;
        let (mtu_bound, mtu_step) = self.mtu_bound(path);
        let mut discovery = MtuDiscoveryConfig::default();
        discovery
            .interval(Duration::from_secs(600))
            .upper_bound(mtu_bound)
            .black_hole_cooldown(Duration::from_secs(60))
            .minimum_change(mtu_step);
        let idle = IdleTimeout::try_from(limits.idle_timeout)
            .expect("an idle timeout is far below 2^62 milliseconds");
        let messages = usize::try_from(limits.message_bytes).unwrap_or(usize::MAX);
        let mut config = TransportConfig::default();
        config
            .max_concurrent_bidi_streams(limits.streams_start.into())
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .max_idle_timeout(Some(idle))
            .stream_receive_window(limits.stream_receive_window.into())
            .receive_window(limits.receive_window_start.into())
            .send_window(limits.send_window_start.into())
            .send_fairness(true)
            .packet_threshold(3)
            .time_threshold(9.0 / 8.0)
            .initial_rtt(Duration::from_millis(333))
            .initial_mtu(MTU_MIN)
            .min_mtu(MTU_MIN)
            .mtu_discovery_config(Some(discovery))
            .pad_to_mtu(false)
            // One acknowledgement per received batch is what a wake of ours sends anyway.
            .ack_frequency_config(None)
            .persistent_congestion_threshold(3)
            // Per connection and at run time: `Transport::keep_alive`.
            .keep_alive_interval(None)
            .crypto_buffer_size(16 << 10)
            // The spin bit shows the round-trip time to anyone on the path.
            .allow_spin(false)
            .datagram_receive_buffer_size((messages > 0).then_some(messages))
            .datagram_send_buffer_size(messages)
            .congestion_controller_factory(self.controller())
            .enable_segmentation_offload(self.gso_segments_max > 1);
        config
    }

    fn controller(&self) -> Arc<dyn ControllerFactory + Send + Sync> {
        // RFC 9002 section 7.2: ten datagrams.
        let initial_window = 10 * u64::from(MTU_MIN);
        match self.congestion {
            Congestion::Cubic => {
                let mut cubic = CubicConfig::default();
                cubic.initial_window(initial_window);
                Arc::new(cubic)
            }
            Congestion::Bbr => Arc::new(ModelFactory { initial_window }),
        }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut cores = String::new();
        write!(cores, "core {} of {}", self.core.0, self.cores)?;
        f.debug_struct("Config")
            .field("core", &cores)
            .field("mtu_max", &self.mtu_max)
            .field("mtu_loopback", &self.mtu_loopback)
            .field("gso_segments_max", &self.gso_segments_max)
            .field("congestion", &self.congestion)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::config;

    #[test]
    fn no_setting_of_quinn_is_left_to_its_default() {
        // Every field by name: one that a later quinn-proto adds makes this fail until it is
        // chosen.
        let chosen = format!("{:?}", config(0).transport(Path::Network));
        let expected = "TransportConfig { max_concurrent_bidi_streams: 8, \
            max_concurrent_uni_streams: 0, max_idle_timeout: Some(30000), \
            stream_receive_window: 8388608, receive_window: 65536, send_window: 131072, \
            send_fairness: true, packet_threshold: 3, time_threshold: 1.125, \
            initial_rtt: 333ms, initial_mtu: 1200, min_mtu: 1200, \
            mtu_discovery_config: Some(MtuDiscoveryConfig { interval: 600s, upper_bound: 1452, \
            minimum_change: 20, black_hole_cooldown: 60s }), pad_to_mtu: false, \
            ack_frequency_config: None, persistent_congestion_threshold: 3, \
            keep_alive_interval: None, crypto_buffer_size: 16384, allow_spin: false, \
            datagram_receive_buffer_size: None, datagram_send_buffer_size: 0, \
            enable_segmentation_offload: true, .. }";
        assert_eq!(chosen, expected);
    }

    #[test]
    fn the_endpoint_and_server_settings_are_ours() {
        let config = config(3);
        let endpoint = config.endpoint(&mut Entropy::new([1; 32]));
        let text = format!("{endpoint:?}");
        assert!(text.contains("max_udp_payload_size: 65507"), "{text}");
        assert!(text.contains("supported_versions: [1]"), "{text}");
        assert!(text.contains("rng_seed: Some"), "{text}");
        let crypto = crate::testing::PlainCrypto::new(pangea_base::PeerId([1; 32]));
        let wall = Arc::new(Wall::new(UnixTime(5)));
        let server = config.server(&crypto, Arc::new(config.transport(Path::Network)), wall);
        let text = format!("{server:?}");
        for part in [
            "retry_token_lifetime: 10s",
            "lifetime: 0ns, sent: 0",
            "migration: true",
            "preferred_address_v4: None",
            "preferred_address_v6: None",
            "max_incoming: 64",
            "incoming_buffer_size: 16384",
            "incoming_buffer_size_total: 1048576",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn mtu_discovery_never_looks_beyond_one_send() {
        let bound = |mtu_max| Config { mtu_max, ..config(0) }.mtu_bound(Path::Network).0;
        assert_eq!(bound(65_535), 65_507);
        assert_eq!(bound(8_952), 8_952);
        assert_eq!(bound(0), 1200);
    }
}
