//! Names of hosts, looked up: the only place that asks the system's resolver.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pangea_base::{PeerAddr, canonical};
use pangea_engine::limits::ADDRS_PER_PEER_MAX;
use pangea_wire::is_dialable;

use crate::config::PeerName;

/// How long all names of a command may take: a resolver that answers does so in less.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Names that are looked up at once. The system's resolver blocks, so each takes a thread.
const LOOKUPS_AT_ONCE: usize = 16;
/// How often whoever waits is asked whether he still does.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What came of it.
#[derive(Debug, Default)]
pub struct Found {
    /// All addresses, in the order of the names, and of each name in the resolver's.
    pub peers: Vec<PeerAddr>,
    /// For each name that was not found a sentence that says which, and why.
    pub failed: Vec<String>,
}

type Question = (usize, String, u16);

/// Finds the addresses of peers. Ends early, with what is there, when `goes_on` says no.
pub fn look_up(names: &[PeerName], goes_on: &dyn Fn() -> bool) -> Found {
    look_up_with(names, goes_on, LOOKUP_TIMEOUT, |host, port| {
        Ok((host, port).to_socket_addrs()?.collect())
    })
}

fn look_up_with(
    names: &[PeerName],
    goes_on: &dyn Fn() -> bool,
    at_most: Duration,
    resolve: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
) -> Found {
    let until = Instant::now() + at_most;
    let questions = names.iter().enumerate().filter_map(|(at, name)| match name {
        PeerName::At(_) => None,
        PeerName::Named { host, port, .. } => Some((at, host.clone(), *port)),
    });
    let mut answers: Vec<Option<io::Result<Vec<SocketAddr>>>> =
        names.iter().map(|_| None).collect();
    let waiting = ask(questions.collect(), resolve);
    while goes_on() {
        let left = until.saturating_duration_since(Instant::now());
        match waiting.recv_timeout(left.min(LOOK_EVERY)) {
            Ok((at, answer)) => {
                if let Some(place) = answers.get_mut(at) {
                    *place = Some(answer);
                }
            }
            // Whoever still asks may do so until the process ends: nobody can stop a resolver.
            Err(RecvTimeoutError::Timeout) if left.is_zero() => break,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let mut found = Found::default();
    for (name, answer) in names.iter().zip(answers) {
        found.take(name, answer, at_most);
    }
    found
}

/// Starts threads that look up one name after the other.
fn ask(
    questions: VecDeque<Question>,
    resolve: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
) -> mpsc::Receiver<(usize, io::Result<Vec<SocketAddr>>)> {
    let (answered, waiting) = mpsc::channel();
    let threads = questions.len().min(LOOKUPS_AT_ONCE);
    let work = Arc::new((Mutex::new(questions), resolve));
    for _ in 0..threads {
        let (work, answered) = (work.clone(), answered.clone());
        let look_up = move || {
            let (questions, resolve) = &*work;
            loop {
                let next = questions.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some((at, host, port)) = next else { return };
                if answered.send((at, resolve(&host, port))).is_err() {
                    return;
                }
            }
        };
        // Without a thread its names are late, and told to be.
        let _ = std::thread::Builder::new().name("names".to_owned()).spawn(look_up);
    }
    waiting
}

impl Found {
    fn take(
        &mut self,
        name: &PeerName,
        answer: Option<io::Result<Vec<SocketAddr>>>,
        at_most: Duration,
    ) {
        let (peer, host) = match name {
            PeerName::At(at) => return self.peers.push(*at),
            PeerName::Named { peer, host, .. } => (*peer, host),
        };
        let why = match answer {
            Some(Ok(addrs)) => {
                let dialable = addrs.into_iter().map(canonical).filter(|addr| is_dialable(*addr));
                let before = self.peers.len();
                let at = |addr| PeerAddr { peer, addr };
                self.peers.extend(dialable.take(ADDRS_PER_PEER_MAX).map(at));
                if self.peers.len() > before {
                    return;
                }
                "it has no address that can be dialled".to_owned()
            }
            Some(Err(cause)) => cause.to_string(),
            None => format!("no answer within {} s", at_most.as_secs()),
        };
        self.failed.push(format!("the name '{host}' was not found: {why}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pangea_base::PeerId;

    fn name(place: &str) -> PeerName {
        format!("{}@{place}", PeerId([3; 32])).parse().unwrap()
    }

    fn resolver(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let at = |ip: [u8; 4]| SocketAddr::from((ip, port));
        match host {
            "two.example" => Ok(vec!["[2001:db8::1]:9".parse().unwrap(), at([10, 0, 0, 1])]),
            "mapped.example" => Ok(vec!["[::ffff:10.0.0.2]:9".parse().unwrap()]),
            "many.example" => Ok((1..=50).map(|n| at([10, 0, 0, n])).collect()),
            "nowhere.example" => Ok(vec![at([0, 0, 0, 0])]),
            "slow.example" => {
                std::thread::sleep(Duration::from_secs(30));
                Ok(Vec::new())
            }
            _ => Err(io::Error::other("Name or service not known")),
        }
    }

    fn found(names: &[PeerName]) -> Found {
        look_up_with(names, &|| true, Duration::from_millis(300), resolver)
    }

    #[test]
    fn all_addresses_of_a_name_are_taken_in_the_order_of_the_names() {
        let names = ["10.9.9.9:9", "two.example:9", "10.9.9.8:9", "mapped.example:9"].map(name);
        let found = found(&names);
        let addrs: Vec<String> = found.peers.iter().map(|at| at.addr.to_string()).collect();
        let wanted = ["10.9.9.9:9", "[2001:db8::1]:9", "10.0.0.1:9", "10.9.9.8:9", "10.0.0.2:9"];
        assert_eq!(addrs, wanted);
        assert!(found.failed.is_empty());
        let many = super::tests::found(&[name("many.example:9")]);
        assert_eq!(many.peers.len(), ADDRS_PER_PEER_MAX);
    }

    #[test]
    fn a_name_that_is_not_found_is_named_and_the_others_are_there() {
        let found = found(&["gone.example:9", "10.0.0.1:9", "nowhere.example:9"].map(name));
        assert_eq!(found.peers.len(), 1);
        assert!(found.failed[0].contains("'gone.example' was not found: Name or service"));
        assert!(found.failed[1].contains("'nowhere.example'"));
    }

    #[test]
    fn a_resolver_that_does_not_answer_holds_nobody_up() {
        let begun = Instant::now();
        let mut names: Vec<PeerName> = (0..8).map(|_| name("slow.example:9")).collect();
        names.push(name("two.example:9"));
        let found = found(&names);
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!((found.peers.len(), found.failed.len()), (2, 8));
        assert!(found.failed[0].contains("'slow.example' was not found: no answer within"));
        let begun = Instant::now();
        look_up_with(&names, &|| false, Duration::from_secs(60), resolver);
        assert!(begun.elapsed() < Duration::from_secs(5), "whoever does not wait does not wait");
    }
}
