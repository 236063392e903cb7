use std::net::{IpAddr, SocketAddr};

use pangea_base::{Locator, PeerAddr, UnixTime, canonical, is_of_one_link};
use serde::{Deserialize, Serialize};

use crate::codec::bounded;
use crate::grant::{self, GRANT_VERSION};
use crate::limits::{GRANTS_MAX, PEERS_MAX};
use crate::receipt::check_lease;
use crate::{Grant, Message, Protocol, StoreRefusal, Wrong};

/// Asked on `/pangea/route/2.0.0` (P10).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RouteRequest {
    /// Who could keep so many bytes, and will you?
    FindRoutes {
        /// Of which object.
        locator: Locator,
        /// Bytes wanted from each holder.
        bytes: u64,
        /// To be kept for so many seconds; 1 to [`crate::limits::LEASE_SECONDS_MAX`].
        lease_seconds: u64,
        /// The asker's clock, to tell how far the two are apart. Nothing is counted from it.
        now: UnixTime,
    },
    /// Whoever asks gives back what is reserved for it under this locator.
    Release {
        /// Of which object.
        locator: Locator,
    },
}

impl Message for RouteRequest {
    const NAME: &'static str = "route request";
    const PROTOCOL: Protocol = Protocol::Route;
    const BYTES_MAX: usize = 128;

    fn check(&self) -> Result<(), Wrong> {
        match self {
            RouteRequest::FindRoutes { lease_seconds, .. } => check_lease(*lease_seconds),
            RouteRequest::Release { .. } => Ok(()),
        }
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
    /// The answering node's clock, to tell how far the two are apart.
    pub now: UnixTime,
}

impl Message for RouteResponse {
    const NAME: &'static str = "route response";
    const PROTOCOL: Protocol = Protocol::Route;
    const BYTES_MAX: usize = 32 * 1024;

    fn check(&self) -> Result<(), Wrong> {
        at_most("peers", self.peers.len(), PEERS_MAX)?;
        at_most("grants", self.grants.len(), GRANTS_MAX)?;
        self.peers.iter().try_for_each(|peer| check_dialable(peer.addr))?;
        self.grants.iter().try_for_each(Grant::check)
    }

    /// The version of the first grant, behind the peers.
    fn other_version(body: &[u8]) -> Option<Wrong> {
        #[derive(Deserialize)]
        struct Begins {
            #[serde(rename = "peers", deserialize_with = "bounded::<_, _, PEERS_MAX>")]
            _peers: Vec<PeerAddr>,
            grants: u64,
        }
        let (begins, rest) = postcard::take_from_bytes::<Begins>(body).ok()?;
        let version = *rest.first().filter(|_| begins.grants > 0)?;
        (version != GRANT_VERSION).then(|| grant::version_wrong(version))
    }
}

/// Asked on `/pangea/ping/2.0.0`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// To be returned.
    pub nonce: [u8; 16],
}

impl Message for Ping {
    const NAME: &'static str = "ping";
    const PROTOCOL: Protocol = Protocol::Ping;
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
    /// Of the protocols: [`crate::VERSION`].
    pub version: u16,
    /// Bytes that the node offers in all.
    pub capacity_bytes: u64,
    /// Bytes of it in use.
    pub used_bytes: u64,
    /// The answering node's clock, to tell how far the two are apart.
    pub now: UnixTime,
}

impl Message for Pong {
    const NAME: &'static str = "pong";
    const PROTOCOL: Protocol = Protocol::Ping;
    const BYTES_MAX: usize = 64;

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

/// An address as a hint for somebody else, in its one form; `None` if it means something on one link
/// of one machine alone. Whoever writes hints leaves those out, and whoever reads them too.
pub(crate) fn for_others(hint: PeerAddr) -> Option<PeerAddr> {
    (!is_of_one_link(hint.addr)).then(|| PeerAddr { addr: canonical(hint.addr), ..hint })
}

fn check_dialable(addr: SocketAddr) -> Result<(), Wrong> {
    if is_dialable(addr) { Ok(()) } else { Err(Wrong::Undialable(addr)) }
}
