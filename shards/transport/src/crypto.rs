use std::sync::{Arc, OnceLock};

use pangea_base::PeerId;
use quinn_proto::crypto;

/// Where a session puts the identity that it found while it checked the peer's proof, so that a
/// refusal can name it. Written at most once.
#[derive(Clone, Debug, Default)]
pub struct Found(Arc<OnceLock<PeerId>>);

impl Found {
    /// Notes who answered.
    pub fn set(&self, peer: PeerId) {
        // A second note would be the same peer: a session sees one certificate.
        let _ = self.0.set(peer);
    }

    /// Who answered, if that was seen.
    pub fn get(&self) -> Option<PeerId> {
        self.0.get().copied()
    }
}

/// What one dial needs.
pub struct Dial {
    /// Makes the session.
    pub config: Arc<dyn crypto::ClientConfig>,
    /// Filled by the session.
    pub found: Found,
}

/// Where sessions come from: [`crate::TlsCrypto`] in a node, a simulator's own in a simulation.
///
/// A session must refuse, during the handshake, a peer other than `expected`; it says so with TLS
/// alert 49 (access_denied) and 120 (no_application_protocol) for another protocol, so that both
/// sides can name what happened.
pub trait Crypto: Send {
    /// For all accepted connections.
    fn server(&self) -> Arc<dyn crypto::ServerConfig>;
    /// For one dialled connection.
    fn client(&self, expected: Option<PeerId>) -> Dial;
    /// Who the peer of an established session has proved to be.
    fn peer(&self, session: &dyn crypto::Session) -> Option<PeerId>;
}
