//! Sessions with the keys and certificates that all peers are given, so that ciphers and signatures
//! cost the same everywhere.

use std::sync::Arc;

use pangea_base::PeerId;
use pangea_transport::{Crypto, Dial, Found};
use peer_harness::Outcome;
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::crypto::{ServerConfig, Session};

#[path = "../../peers/shared/tls.rs"]
mod tls;

pub struct BenchCrypto {
    client: Arc<QuicClientConfig>,
    server: Arc<QuicServerConfig>,
    everybody: PeerId,
}

impl BenchCrypto {
    /// Certificates name nobody, so every peer is `everybody`.
    pub fn new(everybody: PeerId) -> Outcome<BenchCrypto> {
        Ok(BenchCrypto {
            client: Arc::new(QuicClientConfig::try_from(tls::client()?)?),
            server: Arc::new(QuicServerConfig::try_from(tls::server()?)?),
            everybody,
        })
    }
}

impl Crypto for BenchCrypto {
    fn server(&self) -> Arc<dyn ServerConfig> {
        self.server.clone()
    }

    fn client(&self, _: Option<PeerId>) -> Dial {
        Dial { config: self.client.clone(), found: Found::default() }
    }

    fn peer(&self, _: &dyn Session) -> Option<PeerId> {
        Some(self.everybody)
    }
}
