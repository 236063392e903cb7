//! ant-quic, a fork of quinn that gets through NATs, on tokio: by the interface that it kept from
//! quinn, with an ordinary certificate instead of bare keys.

/// The part of ant-quic that has quinn's interface.
mod q {
    pub use ant_quic::high_level::*;
    pub use ant_quic::{
        ClientConfig, EndpointConfig, MtuDiscoveryConfig, ServerConfig, TransportConfig, crypto,
    };
}

#[path = "../../shared/quinn_like.rs"]
mod quinn_like;
#[path = "../../shared/tls.rs"]
mod tls;

fn main() -> peer_harness::Outcome<()> {
    quinn_like::run()
}

async fn next(receive: &mut q::RecvStream) -> Option<bytes::Bytes> {
    Some(receive.read_chunk(usize::MAX, true).await.ok()??.bytes)
}

/// It keeps its congestion control to itself.
fn use_bbr(_: &mut q::TransportConfig) {}
