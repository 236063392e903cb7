use std::net::{IpAddr, SocketAddr};

use pangea_base::{Locator, PeerAddr, UnixTime};
use serde::{Deserialize, Serialize};

use crate::codec::bounded;
use crate::limits::{GRANTS_MAX, PEERS_MAX};
use crate::{Grant, Message, StoreRefusal, Wrong};

/// Asked on `/pangea/route/1.0.0` (P10).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RouteRequest {
    /// Who could keep so many bytes, and will you?
    FindRoutes {
        /// Of which object.
        locator: Locator,
        /// Bytes wanted from each holder.
        bytes: u64,
        /// To be kept until then.
        lease: UnixTime,
    },
    /// Whoever asks gives back what is reserved for it under this locator.
    Release {
        /// Of which object.
        locator: Locator,
    },
}

impl Message for RouteRequest {
    const NAME: &'static str = "route request";
    const BYTES_MAX: usize = 128;

    fn check(&self) -> Result<(), Wrong> {
        Ok(())
    }
}

/// The answer to [`RouteRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteResponse {
    /// Peers that may keep shards, to be asked in turn.
    #[serde(deserialize_with = "bounded::<_, _, PEERS_MAX>")]
    pub peers: Vec<PeerAddr>,
    /// Reservations gathered for whoever asked.
    #[serde(deserialize_with = "bounded::<_, _, GRANTS_MAX>")]
    pub grants: Vec<Grant>,
    /// Why the answering node gives no grant of its own, if it gives none.
    pub refusal: Option<StoreRefusal>,
}

impl Message for RouteResponse {
    const NAME: &'static str = "route response";
    const BYTES_MAX: usize = 32 * 1024;

    fn check(&self) -> Result<(), Wrong> {
        at_most("peers", self.peers.len(), PEERS_MAX)?;
        at_most("grants", self.grants.len(), GRANTS_MAX)?;
        self.peers.iter().try_for_each(|peer| check_dialable(peer.addr))?;
        self.grants.iter().try_for_each(Grant::check)
    }
}

/// Asked on `/pangea/ping/1.0.0`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// To be returned.
    pub nonce: [u8; 16],
}

impl Message for Ping {
    const NAME: &'static str = "ping";
    const BYTES_MAX: usize = 16;

    fn check(&self) -> Result<(), Wrong> {
        Ok(())
    }
}

/// The answer to [`Ping`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// As asked.
    pub nonce: [u8; 16],
    /// Of the protocols: 1.
    pub version: u16,
    /// Bytes that the node offers in all.
    pub capacity_bytes: u64,
    /// Bytes of it in use.
    pub used_bytes: u64,
}

impl Message for Pong {
    const NAME: &'static str = "pong";
    const BYTES_MAX: usize = 48;

    fn check(&self) -> Result<(), Wrong> {
        Ok(())
    }
}

pub(crate) fn at_most(what: &'static str, count: usize, limit: usize) -> Result<(), Wrong> {
    if count <= limit { Ok(()) } else { Err(Wrong::TooMany { what, count, limit }) }
}

/// Whether a packet can be meant for this address: not port 0, nor an unspecified, multicast or
/// broadcast IP, an IPv4 one written as IPv6 included. Messages and links hold no others.
pub fn is_dialable(addr: SocketAddr) -> bool {
    let ip = addr.ip().to_canonical();
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    addr.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

fn check_dialable(addr: SocketAddr) -> Result<(), Wrong> {
    if is_dialable(addr) { Ok(()) } else { Err(Wrong::Undialable(addr)) }
}
