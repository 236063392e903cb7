//! Who takes how much of a node.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use pangea_base::{CoreId, PeerId, Prefix};
use pangea_engine::OwnerAccount;
use pangea_engine::message::{Command, Report};

use super::Node;
use super::cores::Heard;

/// How long the core that keeps the accounts may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The owners that take the most of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owners {
    /// Largest first.
    pub largest: Vec<Owner>,
    /// How many others there are.
    pub others: u64,
}

/// One owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Who.
    pub id: PeerId,
    /// The network that most of it came from, as `192.0.2.0/24`; `None`: this machine, or stored
    /// before that was written down.
    pub network: Option<String>,
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes being written, or allowed by grants that are open.
    pub reserved_bytes: u64,
    /// What it may have of both together.
    pub share_bytes: u64,
}

impl Node {
    /// Who takes how much of it; `None` if it is too busy to say.
    pub fn owners(&mut self) -> Option<Owners> {
        let cores = self.cores.as_mut()?;
        cores.command(CoreId(0), Command::Accounts);
        cores.ends.flush();
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match cores.hear(left) {
                Some(Heard::Report(Report::Accounts { owners, others })) => {
                    let largest = owners.into_iter().map(Owner::from).collect();
                    return Some(Owners { largest, others: others as u64 });
                }
                Some(Heard::Report(Report::StoreFailed(why))) => self.failed = Some(why),
                _ if left.is_zero() || cores.stopped() => return None,
                _ => {}
            }
        }
    }
}

impl From<OwnerAccount> for Owner {
    fn from(account: OwnerAccount) -> Owner {
        let OwnerAccount { owner, network, held, reserved, share } = account;
        Owner {
            id: owner,
            network: in_words(network),
            bytes: held,
            reserved_bytes: reserved,
            share_bytes: share,
        }
    }
}

fn in_words(network: Prefix) -> Option<String> {
    Some(match network.0? {
        [4, 0, 0, a, b, c] => format!("{}/24", Ipv4Addr::new(a, b, c, 0)),
        [a, b, c, d, e, f] => {
            let pair = |high, low| u16::from_be_bytes([high, low]);
            let first = Ipv6Addr::new(pair(a, b), pair(c, d), pair(e, f), 0, 0, 0, 0, 0);
            format!("{first}/48")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_shown_as_they_are_written() {
        let shown = |ip: &str| in_words(Prefix::of(ip.parse().unwrap()));
        assert_eq!(shown("192.0.2.77").unwrap(), "192.0.2.0/24");
        assert_eq!(shown("2001:db8:7:1::5").unwrap(), "2001:db8:7::/48");
        assert_eq!(shown("127.0.0.1"), None);
    }
}
