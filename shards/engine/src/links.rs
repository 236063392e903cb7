//! Connections that this core dialled: one per holder, made on demand, kept while used.

use std::collections::BTreeMap;
use std::time::Instant;

use pangea_base::{PeerAddr, PeerId};
use pangea_transport::{ConnId, ConnStats, Transport};

use crate::limits::{DIAL_AGAIN_AFTER, DIAL_TIMEOUT, LINKS_MAX, REDIAL_AFTER};

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

/// What came on a connection of late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hearing {
    /// Something.
    Spoke,
    /// Nothing.
    Silent,
    /// Nothing for a while, and it never said that the handshake is over for it too.
    Never,
}

/// So often in a row nothing came from who never confirmed the handshake: it knows of no connection.
const SILENT_MAX: u32 = 3;

#[derive(Debug)]
struct Link {
    state: LinkState,
    to: PeerAddr,
    // While it is being dialled, one connection for each attempt; then the one that is up.
    conns: Vec<ConnId>,
    again_at: Instant,
    give_up_at: Instant,
    // When it went down, if it did.
    down_at: Instant,
    // Bytes that had come when that was last looked at, and how often in a row there were no more.
    heard: u64,
    silent: u32,
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
            let waits = link.to == to && now < link.down_at + REDIAL_AFTER;
            if !down || waits {
                return link.state.clone();
            }
        }
        let (state, conns) = match self.dial(transport, now, to) {
            Ok(conn) => (LinkState::Connecting, vec![conn]),
            Err(why) => (LinkState::Down(why), Vec::new()),
        };
        let link = Link {
            state: state.clone(),
            to,
            conns,
            again_at: now + DIAL_AGAIN_AFTER,
            give_up_at: now + DIAL_TIMEOUT,
            down_at: now,
            heard: 0,
            silent: 0,
        };
        self.links.insert(to.peer, link);
        state
    }

    fn dial(
        &mut self,
        transport: &mut Transport,
        now: Instant,
        to: PeerAddr,
    ) -> Result<ConnId, String> {
        if self.by_conn.len() >= LINKS_MAX {
            return Err(format!("more than {LINKS_MAX} peers are dialled already"));
        }
        let conn = transport.connect(now, to).map_err(|refused| refused.to_string())?;
        self.by_conn.insert(conn, to.peer);
        Ok(conn)
    }

    /// The peer that was dialled as `conn`, if this core dialled it.
    pub(crate) fn peer(&self, conn: ConnId) -> Option<PeerId> {
        self.by_conn.get(&conn).copied()
    }

    /// An attempt came through; the others are given up.
    pub(crate) fn connected(
        &mut self,
        transport: &mut Transport,
        now: Instant,
        conn: ConnId,
    ) -> Option<PeerId> {
        let peer = self.peer(conn)?;
        let link = self.links.get_mut(&peer)?;
        link.state = LinkState::Up(conn);
        for other in std::mem::replace(&mut link.conns, vec![conn]) {
            if other != conn {
                self.by_conn.remove(&other);
                transport.close(now, other, 0, b"");
            }
        }
        Some(peer)
    }

    /// A connection is gone, for this reason. Returns whose it was, if that was the last attempt.
    pub(crate) fn closed(&mut self, now: Instant, conn: ConnId, why: String) -> Option<PeerId> {
        let peer = self.by_conn.remove(&conn)?;
        let link = self.links.get_mut(&peer)?;
        link.conns.retain(|other| *other != conn);
        if !link.conns.is_empty() {
            return None;
        }
        link.state = LinkState::Down(why);
        link.down_at = now;
        Some(peer)
    }

    /// Dials once more who did not answer yet, and gives up who never did. Returns the latter.
    pub(crate) fn tick(&mut self, transport: &mut Transport, now: Instant) -> Vec<PeerId> {
        let connecting = |link: &&Link| link.state == LinkState::Connecting;
        let due = |link: &&Link| link.again_at <= now || link.give_up_at <= now;
        let links = self.links.values().filter(connecting).filter(due);
        let links: Vec<(PeerAddr, Instant)> =
            links.map(|link| (link.to, link.give_up_at)).collect();
        let mut expired = Vec::new();
        for (to, give_up_at) in links {
            if give_up_at <= now {
                self.give_up(transport, now, to.peer);
                expired.push(to.peer);
                continue;
            }
            // If it can't be dialled now, the first attempt still may come through.
            let again = self.dial(transport, now, to).ok();
            let link = self.links.get_mut(&to.peer).expect("found above");
            link.conns.extend(again);
            link.again_at = give_up_at;
        }
        expired
    }

    fn give_up(&mut self, transport: &mut Transport, now: Instant, peer: PeerId) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        let seconds = DIAL_TIMEOUT.as_secs();
        link.state = LinkState::Down(format!(
            "no connection after {seconds} s: nobody answers at this address, or UDP is blocked"
        ));
        link.down_at = now;
        for conn in std::mem::take(&mut link.conns) {
            self.by_conn.remove(&conn);
            transport.close(now, conn, 0, b"");
        }
    }

    pub(crate) fn state(&self, peer: PeerId) -> Option<LinkState> {
        self.links.get(&peer).map(|link| link.state.clone())
    }

    /// Whether anything came on a connection since this was last asked.
    pub(crate) fn hear(&mut self, conn: ConnId, stats: &ConnStats) -> Hearing {
        let peer = self.by_conn.get(&conn);
        let Some(link) = peer.and_then(|peer| self.links.get_mut(peer)) else {
            return Hearing::Spoke;
        };
        let (_, heard) = stats.received;
        if link.heard != heard {
            (link.heard, link.silent) = (heard, 0);
            return Hearing::Spoke;
        }
        link.silent += 1;
        match !stats.confirmed && link.silent >= SILENT_MAX {
            true => Hearing::Never,
            false => Hearing::Silent,
        }
    }

    /// Gives a connection up that was up only for us, and dials the peer anew. Returns the peer.
    pub(crate) fn dial_anew(
        &mut self,
        transport: &mut Transport,
        now: Instant,
        conn: ConnId,
    ) -> Option<PeerId> {
        let peer = self.by_conn.remove(&conn)?;
        transport.close(now, conn, 0, b"");
        let to = self.links.remove(&peer)?.to;
        self.want(transport, now, to);
        Some(peer)
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let connecting = |link: &&Link| link.state == LinkState::Connecting;
        let links = self.links.values().filter(connecting);
        links.map(|link| link.again_at.min(link.give_up_at)).min()
    }

    /// Forgets a link that is down, so that the next `want` dials anew.
    pub(crate) fn forget_if_down(&mut self, peer: PeerId) {
        if self.links.get(&peer).is_some_and(|link| matches!(link.state, LinkState::Down(_))) {
            self.links.remove(&peer);
        }
    }
}
