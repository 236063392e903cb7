//! Connections that this core dialled: one per peer, made on demand, kept while used. A peer is a key
//! with addresses, gathered from everybody who names some and tried in an order: one that led to the
//! peer before, the one that is asked for, those that the user and the link name, what holders say. The
//! first is dialled at once, each of the others a little later or as soon as one has failed, and the
//! first that comes through is the connection.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use pangea_base::{PeerAddr, PeerId, Unreachable, canonical};
use pangea_transport::{ConnId, ConnStats, Transport};

use crate::limits::{
    ADDRS_PER_PEER_MAX, DIAL_AGAIN_AFTER, DIAL_NEXT_AFTER, DIAL_TIMEOUT, DIALS_PER_PEER_MAX,
    HEARSAY_ADDRS_MAX, KNOWN_PEERS_MAX, LINKS_MAX, REDIAL_AFTER,
};
use crate::message::Word;

/// How things stand with a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// Being dialled.
    Connecting,
    /// Streams can be opened.
    Up(ConnId),
    /// It failed at every address; who wants it after [`REDIAL_AFTER`], or knows another address, has
    /// it dialled again.
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
    // In the order in which they are tried.
    places: Vec<Place>,
    // The attempts under way, and where; once one came through, that one.
    dials: Vec<(ConnId, SocketAddr)>,
    // When the next place is dialled beside those that have not answered.
    next_at: Instant,
    // Bytes that had come when that was last looked at, and how often in a row there were no more.
    heard: u64,
    silent: u32,
    // Since when a connection leads there, if one does.
    up_since: Instant,
}

/// Where a peer may be.
#[derive(Debug)]
struct Place {
    addr: SocketAddr,
    word: Word,
    led_there: bool,
    state: PlaceState,
}

#[derive(Debug)]
enum PlaceState {
    /// May be dialled.
    Fresh,
    /// Is being dialled, or is where the connection leads.
    Dialled { again_at: Option<Instant>, give_up_at: Instant },
    /// Led nowhere, and is left alone for a while.
    Failed { until: Instant, why: String },
}

/// All outgoing connections of a core.
#[derive(Debug, Default)]
pub(crate) struct Links {
    links: BTreeMap<PeerId, Link>,
    by_conn: BTreeMap<ConnId, PeerId>,
}

impl Links {
    /// Takes note of addresses, best first. They are dialled when somebody wants the peer; if it is
    /// being dialled, they have their turn.
    pub(crate) fn know(&mut self, now: Instant, addrs: &[PeerAddr], word: Word) {
        if word == Word::Given {
            for at in addrs {
                if let Some(link) = self.links.get_mut(&at.peer) {
                    link.places.iter_mut().for_each(|place| place.word = Word::Hearsay);
                }
            }
        }
        for at in addrs {
            if self.links.len() >= KNOWN_PEERS_MAX && !self.links.contains_key(&at.peer) {
                let idle = |(_, link): &(&PeerId, &Link)| matches!(link.state, LinkState::Down(_));
                let Some(idle) = self.links.iter().find(idle).map(|(peer, _)| *peer) else {
                    return;
                };
                self.links.remove(&idle);
            }
            self.link(now, at.peer).learn(canonical(at.addr), word);
        }
    }

    fn link(&mut self, now: Instant, peer: PeerId) -> &mut Link {
        self.links.entry(peer).or_insert_with(|| Link {
            state: LinkState::Down("it was not dialled yet".to_owned()),
            places: Vec::new(),
            dials: Vec::new(),
            next_at: now,
            heard: 0,
            silent: 0,
            up_since: now,
        })
    }

    /// The state of the link to a peer, which is dialled if it is down and has an address that was not
    /// tried of late: this one first, unless another led to the peer before.
    pub(crate) fn want(
        &mut self,
        transport: &mut Transport,
        now: Instant,
        to: PeerAddr,
    ) -> LinkState {
        let addr = canonical(to.addr);
        let link = self.link(now, to.peer);
        // As a rule it is known already, by a better word than this.
        link.learn(addr, Word::Hearsay);
        if matches!(link.state, LinkState::Down(_)) && link.freshen(now) {
            link.prefer(addr);
            link.state = LinkState::Connecting;
            self.dial_next(transport, now, to.peer);
        }
        self.link(now, to.peer).state.clone()
    }

    /// Dials a peer that is being looked for at its next address. If there is none, and no attempt is
    /// under way, it is down.
    fn dial_next(&mut self, transport: &mut Transport, now: Instant, peer: PeerId) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        while let Some(place) = link.places.iter_mut().find(|place| place.is_fresh()) {
            if link.dials.len() >= DIALS_PER_PEER_MAX {
                return;
            }
            match dial(&mut self.by_conn, transport, now, PeerAddr { peer, addr: place.addr }) {
                Ok(conn) => {
                    link.dials.push((conn, place.addr));
                    link.next_at = now + DIAL_NEXT_AFTER;
                    let again_at = Some(now + DIAL_AGAIN_AFTER);
                    place.state = PlaceState::Dialled { again_at, give_up_at: now + DIAL_TIMEOUT };
                    return;
                }
                Err(why) => place.fail(now, why),
            }
        }
        if link.dials.is_empty() {
            link.state = LinkState::Down(link.why_down());
        }
    }

    /// The peer that was dialled as `conn`, if this core dialled it.
    pub(crate) fn peer(&self, conn: ConnId) -> Option<PeerId> {
        self.by_conn.get(&conn).copied()
    }

    /// Where the connection to a peer leads, if it is up.
    pub(crate) fn place(&self, peer: PeerId) -> Option<SocketAddr> {
        let link = self.links.get(&peer)?;
        let LinkState::Up(up) = link.state else { return None };
        link.dials.iter().find(|(conn, _)| *conn == up).map(|(_, addr)| *addr)
    }

    /// An attempt came through; the others are given up. Where it led is tried first next time.
    pub(crate) fn connected(
        &mut self,
        transport: &mut Transport,
        now: Instant,
        conn: ConnId,
    ) -> Option<PeerId> {
        let peer = self.peer(conn)?;
        let link = self.links.get_mut(&peer)?;
        let &(_, addr) = link.dials.iter().find(|(dialled, _)| *dialled == conn)?;
        link.state = LinkState::Up(conn);
        link.up_since = now;
        for (other, _) in std::mem::replace(&mut link.dials, vec![(conn, addr)]) {
            if other != conn {
                self.by_conn.remove(&other);
                transport.close(now, other, 0, b"");
            }
        }
        for place in &mut link.places {
            place.led_there = place.addr == addr;
            if !matches!(place.state, PlaceState::Failed { .. }) {
                place.state = PlaceState::Fresh;
            }
        }
        Some(peer)
    }

    /// A connection is gone, for this reason. Returns whose it was, if nothing else leads there: an
    /// attempt that failed makes way for the next address.
    pub(crate) fn closed(
        &mut self,
        transport: &mut Transport,
        now: Instant,
        conn: ConnId,
        why: String,
    ) -> Option<PeerId> {
        let peer = self.by_conn.remove(&conn)?;
        let link = self.links.get_mut(&peer)?;
        let at = link.dials.iter().position(|(dialled, _)| *dialled == conn)?;
        let (_, addr) = link.dials.remove(at);
        if link.state == LinkState::Up(conn) {
            // A connection that held for a while says nothing against where it led: if it ended
            // because nobody used it, the next who wants the peer dials it at once.
            if link.up_since + REDIAL_AFTER > now {
                link.fail(now, addr, why.clone());
            }
            link.state = LinkState::Down(why);
            return Some(peer);
        }
        if link.dials.iter().any(|(_, other)| *other == addr) {
            return None;
        }
        link.fail(now, addr, why);
        self.dial_next(transport, now, peer);
        self.is_down(peer).then_some(peer)
    }

    /// The system says that nothing gets to an address. That may be a stranger's word: anybody on the
    /// Internet can write such a message (ICMP) in a router's name. So it ends only what has not heard
    /// a byte from there, attempts to connect, and makes way for the peer's other addresses; a
    /// connection that came about never ends by it. Returns the peers that are down with that.
    pub(crate) fn unreachable(
        &mut self,
        transport: &mut Transport,
        now: Instant,
        addr: SocketAddr,
        what: Unreachable,
    ) -> Vec<PeerId> {
        let addr = canonical(addr);
        let heard = |conn| transport.conn_stats(conn).is_some_and(|stats| stats.received.1 > 0);
        let deaf = |link: &Link| {
            let mut there = link.dials.iter().filter(|(_, at)| *at == addr).peekable();
            let any = there.peek().is_some();
            link.state == LinkState::Connecting && any && !there.any(|(conn, _)| heard(*conn))
        };
        let peers: Vec<PeerId> =
            self.links.iter().filter(|(_, link)| deaf(link)).map(|(peer, _)| *peer).collect();
        for &peer in &peers {
            self.give_up(transport, now, PeerAddr { peer, addr }, what.told(addr));
            self.dial_next(transport, now, peer);
        }
        peers.into_iter().filter(|peer| self.is_down(*peer)).collect()
    }

    /// Ends the attempts to reach a peer at one address.
    fn give_up(&mut self, transport: &mut Transport, now: Instant, at: PeerAddr, why: String) {
        let Some(link) = self.links.get_mut(&at.peer) else { return };
        for (conn, _) in link.dials.extract_if(.., |(_, addr)| *addr == at.addr) {
            self.by_conn.remove(&conn);
            transport.close(now, conn, 0, b"");
        }
        link.fail(now, at.addr, why);
    }

    /// Dials further addresses of who has not answered yet, dials once more where nobody answered, and
    /// gives up who never did. Returns the peers that are down with that.
    pub(crate) fn tick(&mut self, transport: &mut Transport, now: Instant) -> Vec<PeerId> {
        let due = |link: &Link| link.deadline().is_some_and(|at| at <= now);
        let peers: Vec<PeerId> =
            self.links.iter().filter(|(_, link)| due(link)).map(|(peer, _)| *peer).collect();
        for &peer in &peers {
            let over = self.links.get(&peer).map(|link| link.over(now)).unwrap_or_default();
            for addr in over {
                let seconds = DIAL_TIMEOUT.as_secs();
                let why = format!(
                    "no connection after {seconds} s: nobody answers at {addr}, or UDP is blocked"
                );
                self.give_up(transport, now, PeerAddr { peer, addr }, why);
            }
            self.dial_again(transport, now, peer);
            let next = |link: &Link| link.dials.is_empty() || link.next_at <= now;
            if self.links.get(&peer).is_some_and(next) {
                self.dial_next(transport, now, peer);
            }
        }
        peers.into_iter().filter(|peer| self.is_down(*peer)).collect()
    }

    /// A second attempt beside the first, at each address that has not answered.
    fn dial_again(&mut self, transport: &mut Transport, now: Instant, peer: PeerId) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        for place in &mut link.places {
            let PlaceState::Dialled { again_at, .. } = &mut place.state else { continue };
            if again_at.is_none_or(|at| at > now) {
                continue;
            }
            *again_at = None;
            if link.dials.len() >= DIALS_PER_PEER_MAX {
                continue;
            }
            // If it can't be dialled now, the first attempt still may come through.
            let to = PeerAddr { peer, addr: place.addr };
            if let Ok(conn) = dial(&mut self.by_conn, transport, now, to) {
                link.dials.push((conn, place.addr));
            }
        }
    }

    pub(crate) fn state(&self, peer: PeerId) -> Option<LinkState> {
        self.links.get(&peer).map(|link| link.state.clone())
    }

    fn is_down(&self, peer: PeerId) -> bool {
        self.links.get(&peer).is_some_and(|link| matches!(link.state, LinkState::Down(_)))
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
        let link = self.links.get_mut(&peer)?;
        let at = link.dials.iter().position(|(dialled, _)| *dialled == conn)?;
        let (_, addr) = link.dials.remove(at);
        (link.heard, link.silent) = (0, 0);
        link.state = LinkState::Down("it knows of no connection".to_owned());
        self.want(transport, now, PeerAddr { peer, addr });
        Some(peer)
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.links.values().filter_map(Link::deadline).min()
    }

    /// Somebody asks anew for a peer that is down: what failed of late is tried again at once.
    pub(crate) fn forget_failures(&mut self, peer: PeerId) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        if matches!(link.state, LinkState::Down(_)) {
            link.places.iter_mut().for_each(|place| place.state = PlaceState::Fresh);
        }
    }
}

fn dial(
    by_conn: &mut BTreeMap<ConnId, PeerId>,
    transport: &mut Transport,
    now: Instant,
    to: PeerAddr,
) -> Result<ConnId, String> {
    if by_conn.len() >= LINKS_MAX {
        return Err(format!("more than {LINKS_MAX} peers are dialled already"));
    }
    let conn = transport.connect(now, to).map_err(|refused| refused.to_string())?;
    by_conn.insert(conn, to.peer);
    Ok(conn)
}

impl Link {
    /// One more address, behind those of the same word. Nobody's word moves what the user or the link
    /// says; of what holders say the latest is kept.
    fn learn(&mut self, addr: SocketAddr, word: Word) {
        let mut place = Place { addr, word, led_there: false, state: PlaceState::Fresh };
        if let Some(at) = self.places.iter().position(|place| place.addr == addr) {
            if word >= self.places[at].word {
                return;
            }
            place = Place { word, ..self.places.remove(at) };
        }
        let hearsay = |place: &&Place| place.word == Word::Hearsay;
        let heard = self.places.iter().filter(hearsay).count();
        let is_full = self.places.len() >= ADDRS_PER_PEER_MAX;
        if is_full || (word == Word::Hearsay && heard >= HEARSAY_ADDRS_MAX) {
            let idle = |place: &Place| !matches!(place.state, PlaceState::Dialled { .. });
            let oldest = self.places.iter().position(|place| hearsay(&place) && idle(place));
            let Some(oldest) = oldest else { return };
            self.places.remove(oldest);
        }
        let behind = self.places.iter().rposition(|place| place.word <= word);
        self.places.insert(behind.map_or(0, |at| at + 1), place);
    }

    /// What failed long enough ago may be dialled again. True: there is something to dial.
    fn freshen(&mut self, now: Instant) -> bool {
        for place in &mut self.places {
            let over = match place.state {
                PlaceState::Failed { until, .. } => until <= now,
                // Left over from a connection that is gone.
                PlaceState::Dialled { .. } => true,
                PlaceState::Fresh => false,
            };
            if over {
                place.state = PlaceState::Fresh;
            }
        }
        self.places.iter().any(Place::is_fresh)
    }

    /// `addr` comes first, and before it what led to the peer.
    fn prefer(&mut self, addr: SocketAddr) {
        self.places.sort_by_key(|place| (!place.led_there, place.addr != addr));
    }

    fn fail(&mut self, now: Instant, addr: SocketAddr, why: String) {
        if let Some(place) = self.places.iter_mut().find(|place| place.addr == addr) {
            place.fail(now, why);
        }
    }

    /// Where nobody answered in time.
    fn over(&self, now: Instant) -> Vec<SocketAddr> {
        let over = |place: &&Place| matches!(place.state, PlaceState::Dialled { give_up_at, .. } if give_up_at <= now);
        self.places.iter().filter(over).map(|place| place.addr).collect()
    }

    /// When [`Links::tick`] has something to do for it.
    fn deadline(&self) -> Option<Instant> {
        if self.state != LinkState::Connecting {
            return None;
        }
        let next = |place: &Place| match place.state {
            PlaceState::Fresh if self.dials.len() < DIALS_PER_PEER_MAX => Some(self.next_at),
            PlaceState::Dialled { again_at, give_up_at } => {
                Some(again_at.map_or(give_up_at, |again| again.min(give_up_at)))
            }
            PlaceState::Fresh | PlaceState::Failed { .. } => None,
        };
        self.places.iter().filter_map(next).min()
    }

    /// What became of each address.
    fn why_down(&self) -> String {
        let failed = |place: &Place| match &place.state {
            PlaceState::Failed { why, .. } => Some((place.addr.to_string(), why.clone())),
            _ => None,
        };
        let failed: Vec<(String, String)> = self.places.iter().filter_map(failed).collect();
        let told = |(addr, why): (String, String)| match why.contains(&addr) {
            true => why,
            false => format!("{addr}: {why}"),
        };
        match failed.as_slice() {
            [(_, why)] => why.clone(),
            _ => failed.into_iter().map(told).collect::<Vec<_>>().join("; "),
        }
    }
}

impl Place {
    fn is_fresh(&self) -> bool {
        matches!(self.state, PlaceState::Fresh)
    }

    fn fail(&mut self, now: Instant, why: String) {
        self.state = PlaceState::Failed { until: now + REDIAL_AFTER, why };
    }
}
