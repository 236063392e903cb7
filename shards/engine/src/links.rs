//! Connections that this core dialled: one per holder, made on demand, kept while used.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use pangea_base::{PeerAddr, PeerId};
use pangea_transport::{ConnId, Transport};

use crate::limits::{DIAL_TIMEOUT, LINKS_MAX, REDIAL_AFTER};

/// How things stand with a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// Being dialled.
    Connecting,
    /// Streams can be opened.
    Up(ConnId),
    /// It failed; who wants it after [`REDIAL_AFTER`] has it dialled again.
    Down(String),
}

#[derive(Debug)]
struct Link {
    state: LinkState,
    addr: SocketAddr,
    conn: Option<ConnId>,
    give_up_at: Instant,
    // When it went down, if it did.
    down_at: Instant,
}

/// All outgoing connections of a core.
#[derive(Debug, Default)]
pub(crate) struct Links {
    links: BTreeMap<PeerId, Link>,
    by_conn: BTreeMap<ConnId, PeerId>,
}

impl Links {
    /// The state of the link to `to`, dialling it if it was never tried.
    pub(crate) fn want(
        &mut self,
        transport: &mut Transport,
        now: Instant,
        to: PeerAddr,
    ) -> LinkState {
        if let Some(link) = self.links.get(&to.peer) {
            let down = matches!(link.state, LinkState::Down(_));
            // Another address is another chance; the old one is left alone for a while.
            let waits = link.addr == to.addr && now < link.down_at + REDIAL_AFTER;
            if !down || waits {
                return link.state.clone();
            }
        }
        let (state, conn) = if self.by_conn.len() >= LINKS_MAX {
            (LinkState::Down(format!("more than {LINKS_MAX} peers are dialled already")), None)
        } else {
            match transport.connect(now, to) {
                Ok(conn) => (LinkState::Connecting, Some(conn)),
                Err(refused) => (LinkState::Down(refused.to_string()), None),
            }
        };
        if let Some(conn) = conn {
            self.by_conn.insert(conn, to.peer);
        }
        let link = Link {
            state: state.clone(),
            addr: to.addr,
            conn,
            give_up_at: now + DIAL_TIMEOUT,
            down_at: now,
        };
        self.links.insert(to.peer, link);
        state
    }

    /// The peer that was dialled as `conn`, if this core dialled it.
    pub(crate) fn peer(&self, conn: ConnId) -> Option<PeerId> {
        self.by_conn.get(&conn).copied()
    }

    pub(crate) fn connected(&mut self, conn: ConnId) -> Option<PeerId> {
        let peer = self.peer(conn)?;
        self.links.get_mut(&peer)?.state = LinkState::Up(conn);
        Some(peer)
    }

    /// A connection is gone, for this reason. Returns whose it was.
    pub(crate) fn closed(&mut self, now: Instant, conn: ConnId, why: String) -> Option<PeerId> {
        let peer = self.by_conn.remove(&conn)?;
        let link = self.links.get_mut(&peer)?;
        link.state = LinkState::Down(why);
        link.down_at = now;
        link.conn = None;
        Some(peer)
    }

    /// Links that were given up since the last call: nobody answered there.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<(PeerId, ConnId)> {
        let mut expired = Vec::new();
        for (&peer, link) in &mut self.links {
            if link.state == LinkState::Connecting && link.give_up_at <= now {
                let seconds = DIAL_TIMEOUT.as_secs();
                link.state = LinkState::Down(format!("it did not answer within {seconds} s"));
                link.down_at = now;
                if let Some(conn) = link.conn.take() {
                    self.by_conn.remove(&conn);
                    expired.push((peer, conn));
                }
            }
        }
        expired
    }

    pub(crate) fn state(&self, peer: PeerId) -> Option<LinkState> {
        self.links.get(&peer).map(|link| link.state.clone())
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let connecting = |link: &&Link| link.state == LinkState::Connecting;
        self.links.values().filter(connecting).map(|link| link.give_up_at).min()
    }

    /// Forgets a link that is down, so that the next `want` dials anew.
    pub(crate) fn forget_if_down(&mut self, peer: PeerId) {
        if self.links.get(&peer).is_some_and(|link| matches!(link.state, LinkState::Down(_))) {
            self.links.remove(&peer);
        }
    }
}
