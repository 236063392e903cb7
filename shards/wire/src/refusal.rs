use std::fmt;

use serde::{Deserialize, Serialize};

use crate::AuthRefused;
use crate::units::{share_of, size, span};

/// Why a holder does not store something; the texts complete "the holder says: …" and tell a
/// person what can be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum StoreRefusal {
    /// It keeps nothing for others, or not for this peer.
    #[error("it keeps nothing for you; its operator can allow it: {ALLOW}")]
    NotAccepting,
    /// The peer, or its network, would have more than its share.
    #[error("{}", Quota { whose: *.whose, used: *.used, limit: *.limit, capacity: *.capacity })]
    OverQuota {
        /// Whose share.
        whose: Whose,
        /// Bytes of it that are taken: stored or reserved.
        used: u64,
        /// The share in bytes.
        limit: u64,
        /// Bytes that the node offers to all together.
        capacity: u64,
    },
    /// The grant or its proof.
    #[error("{0}")]
    BadGrant(AuthRefused),
    /// More than the grant allows.
    #[error(
        "the grant is for {} in all and this would be more; ask for a larger one",
        size(*.limit)
    )]
    OverGrant {
        /// What the grant allows.
        limit: u64,
    },
    /// The bytes that arrived do not have the hash that was announced.
    #[error("what arrived there is not what was announced; it was damaged on its way: try again")]
    RootMismatch,
    /// Longer than announced or allowed.
    #[error("it takes at most {} of this and got more", size(*.limit))]
    TooLong {
        /// Bytes allowed.
        limit: u64,
    },
    /// To be kept for longer than it keeps anything.
    #[error("it keeps nothing for longer than {}; ask for a shorter lease", span(*.limit))]
    LeaseTooLong {
        /// The longest, in seconds.
        limit: u64,
    },
    /// The request broke the protocol.
    #[error("the request is not one that can be; please report it, with both programs' versions")]
    BadRequest,
    /// No space.
    #[error(
        "all of its {} are taken; try elsewhere, or its operator can give more: \
         pangea node --capacity SIZE",
        size(*.capacity)
    )]
    Full {
        /// Bytes that the node offers to all together.
        capacity: u64,
    },
    /// Too much to do now.
    #[error("it is busy; try later or elsewhere")]
    Busy,
    /// It has other bytes of the same owner under that name.
    #[error("it holds other bytes of yours under that name; put the object anew")]
    AlreadyHeldDifferent,
    /// Nothing came for too long, or too slowly.
    #[error("the data came too slowly; try again, or over a faster path")]
    TooSlow,
    /// It is about to stop.
    #[error("it is shutting down; try later or elsewhere")]
    Stopping,
    /// Its disk failed, or another fault of its own.
    #[error("it failed with a fault of its own; try elsewhere")]
    Internal,
}

/// What an operator types for a peer that should have more. The peer's own program knows the name
/// that belongs there.
const ALLOW: &str = "pangea node --allow YOUR_ID";

/// Whose share is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Whose {
    /// The peer's own.
    Peer,
    /// That of the network that the peer calls from.
    Network,
}

/// "you have 200 MiB of your 1 GiB there, a tenth of 10 GiB; …"
struct Quota {
    whose: Whose,
    used: u64,
    limit: u64,
    capacity: u64,
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (who, whose) = match self.whose {
            Whose::Peer => ("you have", "your"),
            Whose::Network => ("your network has", "its"),
        };
        let (used, limit) = (size(self.used), size(self.limit));
        write!(f, "{who} {used} of {whose} {limit} there")?;
        if self.capacity > 0 {
            let share = share_of(self.limit, self.capacity);
            write!(f, ", {share} {}", size(self.capacity))?;
        }
        match self.whose {
            Whose::Peer => write!(f, "; its operator can give more: {ALLOW}"),
            Whose::Network => {
                write!(f, "; use another network, or its operator can give you more: {ALLOW}")
            }
        }
    }
}
