//! Who may begin a connection with us now.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::Limits;

/// Prefixes that are watched at once. Beyond it a newcomer from a new prefix must prove its
/// address.
const PREFIXES_MAX: usize = 4096;

/// The window in which attempts are counted.
const RATE_WINDOW: Duration = Duration::from_secs(1);

/// A /24 of IPv4 or a /48 of IPv6: what one customer of a network commonly holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Prefix {
    V4([u8; 3]),
    V6([u8; 6]),
}

impl Prefix {
    /// `None` is loopback: whoever is on this machine is not limited by the network's rules.
    pub(crate) fn of(addr: SocketAddr) -> Option<Prefix> {
        match addr.ip().to_canonical() {
            ip if ip.is_loopback() => None,
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                Some(Prefix::V4([a, b, c]))
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, ..] = ip.octets();
                Some(Prefix::V6([a, b, c, d, e, f]))
            }
        }
    }
}

struct Watched {
    connections: u32,
    window_start: Instant,
    attempts: u32,
}

/// What to do with a newcomer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Admit {
    /// Begin the handshake.
    Accept,
    /// Ask it to prove its address.
    Retry,
    /// Say that we take no more.
    Refuse,
    /// Say nothing: an answer would cost us more than the attempt cost its sender.
    Ignore,
}

/// Counts of accepted connections by state and origin.
#[derive(Default)]
pub(crate) struct Admission {
    incoming: u32,
    unvalidated: u32,
    prefixes: BTreeMap<Prefix, Watched>,
    pruned: Option<Instant>,
}

/// What an accepted connection counts as; given back when it changes or ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seat {
    prefix: Option<Prefix>,
    unvalidated: bool,
}

/// Whether a newcomer has proved its address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Address {
    Proved,
    Claimed,
}

impl Admission {
    /// Decides on an attempt from `remote` and counts it.
    pub(crate) fn judge(
        &mut self,
        now: Instant,
        limits: &Limits,
        connections: u32,
        remote: SocketAddr,
        address: Address,
    ) -> Admit {
        let proved = address == Address::Proved;
        let refusal = if proved { Admit::Refuse } else { Admit::Ignore };
        let prefix = Prefix::of(remote);
        let (known, held, rate) = match prefix {
            Some(prefix) => self.attempt(now, prefix),
            None => (true, 0, 0),
        };
        let hurried = !known || rate > limits.attempts_per_prefix_per_second;
        if held >= limits.incoming_per_prefix_max {
            return if proved || !hurried { Admit::Refuse } else { Admit::Ignore };
        }
        if connections >= limits.connections_max || self.incoming >= limits.incoming_max {
            return refusal;
        }
        if proved {
            return Admit::Accept;
        }
        if self.unvalidated >= limits.unvalidated_max {
            return Admit::Ignore;
        }
        if hurried || self.unvalidated >= limits.retry_above {
            return Admit::Retry;
        }
        Admit::Accept
    }

    /// Whether the prefix is watched, how many connections it holds, how often it tried lately.
    fn attempt(&mut self, now: Instant, prefix: Prefix) -> (bool, u32, u32) {
        if !self.prefixes.contains_key(&prefix) && self.prefixes.len() >= PREFIXES_MAX {
            self.prune(now);
            if self.prefixes.len() >= PREFIXES_MAX {
                return (false, 0, 0);
            }
        }
        let watched = self.prefixes.entry(prefix).or_insert(Watched {
            connections: 0,
            window_start: now,
            attempts: 0,
        });
        if now.saturating_duration_since(watched.window_start) >= RATE_WINDOW {
            watched.window_start = now;
            watched.attempts = 0;
        }
        watched.attempts = watched.attempts.saturating_add(1);
        (true, watched.connections, watched.attempts)
    }

    /// Forgets prefixes that hold nothing and were quiet. Once per window at most: a flood from
    /// made-up addresses must not make every newcomer cost a walk over the table.
    fn prune(&mut self, now: Instant) {
        let recent = |at: Instant| now.saturating_duration_since(at) < RATE_WINDOW;
        if self.pruned.is_some_and(recent) {
            return;
        }
        self.pruned = Some(now);
        self.prefixes.retain(|_, w| w.connections > 0 || recent(w.window_start));
    }

    /// Counts an accepted connection.
    pub(crate) fn sit(&mut self, remote: SocketAddr, address: Address) -> Seat {
        let unvalidated = address == Address::Claimed;
        self.incoming += 1;
        self.unvalidated += u32::from(unvalidated);
        let prefix = Prefix::of(remote).filter(|prefix| match self.prefixes.get_mut(prefix) {
            Some(watched) => {
                watched.connections += 1;
                true
            }
            None => false,
        });
        Seat { prefix, unvalidated }
    }

    /// The connection is established, so its address is proved.
    pub(crate) fn proved(&mut self, seat: &mut Seat) {
        if std::mem::take(&mut seat.unvalidated) {
            self.unvalidated -= 1;
        }
    }

    /// The connection has ended.
    pub(crate) fn leave(&mut self, mut seat: Seat) {
        self.proved(&mut seat);
        self.incoming -= 1;
        if let Some(watched) = seat.prefix.and_then(|prefix| self.prefixes.get_mut(&prefix)) {
            watched.connections -= 1;
        }
    }

    pub(crate) fn unvalidated(&self) -> u32 {
        self.unvalidated
    }

    pub(crate) fn incoming(&self) -> u32 {
        self.incoming
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        connections_max: 20,
        incoming_max: 10,
        unvalidated_max: 6,
        retry_above: 3,
        incoming_per_prefix_max: 4,
        attempts_per_prefix_per_second: 5,
        ..Limits::STANDARD
    };

    fn addr(a: u8, b: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, a, b], 9))
    }

    #[test]
    fn above_the_retry_mark_newcomers_prove_their_address_and_at_the_limit_they_are_ignored() {
        let now = Instant::now();
        let mut admission = Admission::default();
        for i in 0..3 {
            let verdict = admission.judge(now, &LIMITS, 0, addr(i, 1), Address::Claimed);
            assert_eq!(verdict, Admit::Accept);
            admission.sit(addr(i, 1), Address::Claimed);
        }
        let verdict = admission.judge(now, &LIMITS, 3, addr(9, 1), Address::Claimed);
        assert_eq!(verdict, Admit::Retry);
        let verdict = admission.judge(now, &LIMITS, 3, addr(9, 1), Address::Proved);
        assert_eq!(verdict, Admit::Accept);
        for i in 20..23 {
            admission.judge(now, &LIMITS, 3, addr(i, 1), Address::Claimed);
            admission.sit(addr(i, 1), Address::Claimed);
        }
        assert_eq!(admission.unvalidated(), 6);
        let verdict = admission.judge(now, &LIMITS, 6, addr(99, 1), Address::Claimed);
        assert_eq!(verdict, Admit::Ignore, "one past the limit");
    }

    #[test]
    fn one_prefix_holds_only_its_share_and_gets_it_back() {
        let now = Instant::now();
        let mut admission = Admission::default();
        let mut seats = Vec::new();
        for i in 0..4 {
            let verdict = admission.judge(now, &LIMITS, 0, addr(1, i), Address::Proved);
            assert_eq!(verdict, Admit::Accept);
            seats.push(admission.sit(addr(1, i), Address::Proved));
        }
        let verdict = admission.judge(now, &LIMITS, 4, addr(1, 9), Address::Proved);
        assert_eq!(verdict, Admit::Refuse, "one past the limit");
        let verdict = admission.judge(now, &LIMITS, 4, addr(2, 9), Address::Proved);
        assert_eq!(verdict, Admit::Accept, "another /24 is not touched");
        admission.leave(seats.pop().unwrap());
        let verdict = admission.judge(now, &LIMITS, 3, addr(1, 9), Address::Proved);
        assert_eq!(verdict, Admit::Accept);
    }

    #[test]
    fn a_hurried_prefix_must_prove_its_address_for_a_while() {
        let now = Instant::now();
        let mut admission = Admission::default();
        let mut last = Admit::Accept;
        for i in 0..6 {
            last = admission.judge(now, &LIMITS, 0, addr(1, i), Address::Claimed);
        }
        assert_eq!(last, Admit::Retry, "one past the limit");
        let later = now + RATE_WINDOW;
        let verdict = admission.judge(later, &LIMITS, 0, addr(1, 1), Address::Claimed);
        assert_eq!(verdict, Admit::Accept);
    }

    #[test]
    fn a_full_core_refuses_those_who_proved_their_address_and_ignores_the_rest() {
        let now = Instant::now();
        let mut admission = Admission::default();
        let verdict = admission.judge(now, &LIMITS, 20, addr(1, 1), Address::Proved);
        assert_eq!(verdict, Admit::Refuse);
        let verdict = admission.judge(now, &LIMITS, 20, addr(1, 1), Address::Claimed);
        assert_eq!(verdict, Admit::Ignore);
    }

    #[test]
    fn more_prefixes_than_can_be_watched_are_not_remembered_but_must_prove_themselves() {
        let now = Instant::now();
        let mut admission = Admission::default();
        let many = |i: usize| SocketAddr::from(([11, (i >> 8) as u8, i as u8, 1], 9));
        for i in 0..PREFIXES_MAX {
            admission.judge(now, &LIMITS, 0, many(i), Address::Claimed);
        }
        let verdict = admission.judge(now, &LIMITS, 0, many(PREFIXES_MAX), Address::Claimed);
        assert_eq!(verdict, Admit::Retry, "one past the limit");
        assert_eq!(admission.prefixes.len(), PREFIXES_MAX);
        let later = now + RATE_WINDOW;
        let verdict = admission.judge(later, &LIMITS, 0, many(PREFIXES_MAX), Address::Claimed);
        assert_eq!(verdict, Admit::Accept, "old ones were forgotten");
        assert_eq!(admission.prefixes.len(), 1);
    }

    #[test]
    fn loopback_is_not_limited_by_prefix_and_mapped_addresses_are_what_they_map() {
        assert_eq!(Prefix::of("127.0.0.1:1".parse().unwrap()), None);
        assert_eq!(Prefix::of("[::1]:1".parse().unwrap()), None);
        let mapped = Prefix::of("[::ffff:10.1.2.3]:1".parse().unwrap());
        assert_eq!(mapped, Some(Prefix::V4([10, 1, 2])));
        let six = Prefix::of("[2001:db8:1:2::3]:1".parse().unwrap());
        assert_eq!(six, Some(Prefix::V6([0x20, 1, 0xd, 0xb8, 0, 1])));
    }
}
