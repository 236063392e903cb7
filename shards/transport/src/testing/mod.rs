//! What a simulator and the tests need: sessions without cryptography, and two transports with a
//! network between them. Never part of a node.

mod pair;
mod plain;

use pangea_base::{CoreId, UnixTime};

pub use pair::{Network, Node, Pair, Which};
pub use plain::{FORGED_TAG, PlainCrypto, Witness};

use crate::{Config, Congestion, Limits};

/// A plain configuration: one of eight cores, Ethernet, CUBIC, the standard limits.
pub fn config(core: u8) -> Config {
    Config {
        core: CoreId(core),
        cores: 8,
        mtu_max: 1452,
        mtu_loopback: None,
        gso_segments_max: 64,
        congestion: Congestion::Cubic,
        limits: Limits::STANDARD,
        reset_key: [1; 32],
        token_key: [2; 32],
        time: UnixTime(1_800_000_000),
    }
}
