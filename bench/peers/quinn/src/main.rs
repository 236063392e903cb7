//! quinn on tokio.

use std::sync::Arc;

use quinn as q;

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

fn use_bbr(config: &mut q::TransportConfig) {
    config.congestion_controller_factory(Arc::new(q::congestion::BbrConfig::default()));
}
