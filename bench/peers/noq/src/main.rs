//! noq, a fork of quinn, on tokio.

use std::sync::Arc;

use noq as q;

#[path = "../../shared/quinn_like.rs"]
mod quinn_like;
#[path = "../../shared/tls.rs"]
mod tls;

fn main() -> peer_harness::Outcome<()> {
    quinn_like::run()
}

async fn next(receive: &mut q::RecvStream) -> Option<bytes::Bytes> {
    receive.read_chunk(usize::MAX).await.ok()?
}

fn use_bbr(config: &mut q::TransportConfig) {
    config.congestion_controller_factory(Arc::new(q::congestion::Bbr3Config::default()));
}
