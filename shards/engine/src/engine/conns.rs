//! What becomes of connections: those that came about, those that are silent, those that ended.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use pangea_base::{CoreId, PeerAddr, PeerId, Unreachable};
use pangea_transport::{ClosedReason, ConnId, KeepAlive};

use super::Engine;
use crate::ledger::Parting;
use crate::limits::UNREACHABLE_TOLD_PER_SECOND_MAX;
use crate::links::{Hearing, LinkState};
use crate::message::{Message, Report};
use crate::shared::Owner;

/// A third of the idle timeout, so that two pings may be lost.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

impl Engine {
    /// A connection that this core dialled came about.
    pub(super) fn dialled(&mut self, conn: ConnId) {
        self.conns.insert(conn);
        let shared = &mut self.shared;
        shared.transport.keep_alive(shared.now, conn, KeepAlive::Every(KEEP_ALIVE));
        let connected = shared.links.connected(&mut shared.transport, shared.now, conn);
        if let Some(peer) = connected {
            self.link_changed(peer);
        }
    }

    /// Pings the peers that we wait for and that are silent, so that they learn where we are now;
    /// and dials anew who does not know of the connection. Called once a second.
    pub(super) fn look_after_links(&mut self) {
        let shared = &mut self.shared;
        let ours = shared.owners.iter().filter(|(_, owner)| !matches!(owner, Owner::Served(_)));
        let conns: BTreeSet<ConnId> = ours.map(|((conn, _), _)| *conn).collect();
        for conn in conns {
            let shared = &mut self.shared;
            let Some(stats) = shared.transport.conn_stats(conn) else { continue };
            match shared.links.hear(conn, &stats) {
                Hearing::Spoke => {}
                Hearing::Silent => shared.transport.ping(shared.now, conn),
                Hearing::Never => self.begin_again(conn),
            }
        }
    }

    /// For us the handshake was over, but not for the peer: what we sent last in it was lost, and
    /// then our address changed. To the peer, which only knows the old one, there is no connection
    /// (RFC 9000, 9: no migration before the handshake is confirmed). Nothing that was asked on it
    /// has arrived; all of it is asked once more on another one.
    fn begin_again(&mut self, conn: ConnId) {
        let shared = &mut self.shared;
        let Some(peer) = shared.links.dial_anew(&mut shared.transport, shared.now, conn) else {
            return;
        };
        for owner in self.owners_of(conn) {
            match owner {
                Owner::Served(_) => {}
                Owner::Put(job, index) => {
                    if let Some(put) = self.puts.get_mut(&job) {
                        put.begin_again(&mut self.shared, index);
                    }
                }
                Owner::Get(job, at) => {
                    if let Some(get) = self.gets.get_mut(&job) {
                        get.begin_again(&mut self.shared, at);
                    }
                }
                Owner::Ask(id) => {
                    if let Some(ask) = self.asks.get_mut(&id) {
                        ask.begin_again();
                    }
                }
            }
        }
        self.link_changed(peer);
    }

    /// Whose streams a connection has; they are nobody's from now on.
    fn owners_of(&mut self, conn: ConnId) -> Vec<Owner> {
        let streams = self.shared.owners.iter().filter(|((at, _), _)| *at == conn);
        let owners = streams.map(|(_, &owner)| owner).collect();
        self.shared.owners.retain(|(at, _), _| *at != conn);
        owners
    }

    /// A connection is gone: all its streams are, and whoever waits for the peer hears of it.
    pub(super) fn conn_closed(&mut self, conn: ConnId, reason: &ClosedReason) {
        let why = reason.to_string();
        if self.conns.remove(&conn) {
            tracing::debug!(?conn, "a connection ended: {why}");
        }
        let (shared, told) = (&mut self.shared, why.clone());
        let peer = shared.links.closed(&mut shared.transport, shared.now, conn, told);
        for owner in self.owners_of(conn) {
            match owner {
                Owner::Served(id) => self.serve.lost(&mut self.shared, id),
                Owner::Put(job, index) => {
                    if let Some(put) = self.puts.get_mut(&job) {
                        put.stream_lost(&mut self.shared, index, &why);
                    }
                }
                Owner::Get(job, at) => {
                    if let Some(get) = self.gets.get_mut(&job) {
                        get.stream_lost(&mut self.shared, at, &why);
                    }
                }
                Owner::Ask(id) => {
                    if let Some(ask) = self.asks.get_mut(&id) {
                        ask.lost(&why);
                    }
                }
            }
        }
        let parting = match reason {
            ClosedReason::Peer { .. } => Parting::Closed,
            _ => Parting::Lost,
        };
        self.serve.connection_closed(&mut self.shared, conn, parting);
        if let Some(peer) = peer {
            self.link_changed(peer);
        }
    }

    pub(super) fn link_changed(&mut self, peer: PeerId) {
        for put in self.puts.values_mut() {
            put.link_changed(&mut self.shared, peer);
        }
        for get in self.gets.values_mut() {
            get.link_changed(&mut self.shared, peer);
        }
        for ask in self.asks.values_mut().filter(|ask| ask.peer() == peer) {
            ask.advance(&mut self.shared);
        }
        if !self.dials.contains(&peer) {
            return;
        }
        if let Some(report) = self.dial_ended(peer) {
            self.dials.retain(|&dialled| dialled != peer);
            self.shared.report(report);
        }
    }

    /// What control is told of a dial, once there is something to tell.
    fn dial_ended(&self, peer: PeerId) -> Option<Report> {
        let links = &self.shared.links;
        match links.state(peer)? {
            LinkState::Connecting => None,
            LinkState::Up(_) => Some(Report::Peer(peer, Ok(links.place(peer)?))),
            LinkState::Down(why) => Some(Report::Peer(peer, Err(why))),
        }
    }

    /// Control wants a peer, now.
    pub(super) fn dial(&mut self, to: PeerAddr) {
        let shared = &mut self.shared;
        shared.links.forget_failures(to.peer);
        shared.links.want(&mut shared.transport, shared.now, to);
        match self.dial_ended(to.peer) {
            None => self.dials.push(to.peer),
            Some(report) => self.shared.report(report),
        }
    }

    /// The system says that nothing gets to an address, to this core or, for it cannot tell who
    /// dialled, to another one.
    pub(super) fn unreachable(&mut self, addr: SocketAddr, what: Unreachable) {
        let shared = &mut self.shared;
        let down = shared.links.unreachable(&mut shared.transport, shared.now, addr, what);
        down.into_iter().for_each(|peer| self.link_changed(peer));
    }

    /// Passes on to the other cores what the system says, so often in a second and no oftener.
    pub(super) fn tell_unreachable(&mut self, addr: SocketAddr, what: Unreachable) {
        let shared = &mut self.shared;
        let (since, told) = &mut self.unreachable_told;
        if shared.now.saturating_duration_since(*since) >= Duration::from_secs(1) {
            (*since, *told) = (shared.now, 0);
        }
        if *told >= UNREACHABLE_TOLD_PER_SECOND_MAX {
            return;
        }
        *told += 1;
        let own = shared.core;
        for core in (0..shared.cores).map(CoreId).filter(|core| *core != own) {
            shared.send(core, Message::Unreachable(addr, what));
        }
    }
}
