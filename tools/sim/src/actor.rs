//! What stands on the network and is no node of ours: somebody who follows a script.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use pangea_base::{Locator, PeerAddr, UnixTime};
use pangea_transport::TransmitMeta;
use pangea_wire::Link;

/// A peer that is not an honest node. Sans-IO, as an engine is: the world hands it datagrams and
/// time, and takes its trains.
pub trait Actor {
    /// Who and where it claims to be. Never changes.
    fn addr(&self) -> PeerAddr;

    /// Other addresses at which it is reached, all at its one place.
    fn elsewhere(&self) -> &[SocketAddr] {
        &[]
    }

    /// Links to objects of its own that it would like others to get.
    #[cfg_attr(not(test), allow(dead_code))]
    fn offers(&self) -> &[Link] {
        &[]
    }

    /// Whether origins are told of it as of a holder (else it comes by itself).
    fn is_holder(&self) -> bool;

    /// The honest nodes, once, before anything else.
    fn meet(&mut self, nodes: &[PeerAddr]);

    /// Somebody tells it of an object that was put.
    fn told_of(&mut self, _locator: Locator) {}

    /// A received batch, as for an engine.
    fn datagrams(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        ecn: Option<u8>,
        stride: usize,
        data: &[u8],
    );

    /// Runs what is due; true: there is more to do at once.
    fn turn(&mut self, now: Instant, wall: UnixTime) -> bool;

    /// The next train, and from which address it is to seem to come (`None`: its own).
    fn transmit(
        &mut self,
        now: Instant,
        buffer: &mut Vec<u8>,
    ) -> Option<(TransmitMeta, Option<SocketAddr>)>;

    /// When to call [`Actor::turn`] if nothing else happens.
    fn deadline(&self) -> Option<Instant>;

    /// What it did so far, by name ("lied", "stream opened"): shown in the report, so that a script
    /// that never came to its deed is noticed.
    fn deeds(&self) -> &BTreeMap<&'static str, u64>;
}
