//! What worlds are able to bring about, each of which enough of them must have seen.

use pangea_trace::Kind;
use pangea_wire::{AuthRefused, FetchRefusal, GrantRefused, StoreRefusal, Whose};

use crate::enemies::Script;
use crate::world::fault_names;
use crate::world::log::refused;

/// All of it, by the names under which a report counts them.
pub struct Kinds {
    pub faults: Vec<&'static str>,
    pub events: Vec<&'static str>,
    pub enemies: Vec<&'static str>,
    pub refusals: Vec<String>,
}

/// Events that no world sees, and why.
const NO_EVENTS: [(Kind, &str); 5] = [
    (Kind::Gap, "made by a reader that comes too late; a world reads after every turn"),
    (Kind::PacketSent, "recorded by the loop around the driver, and a world has no driver"),
    (Kind::PacketSendFailed, "the same"),
    (Kind::FecRecovered, "for packet FEC, which is not there yet"),
    (Kind::AppCommand, "for applications"),
];

impl Kinds {
    /// Everything that is possible.
    pub fn all() -> Kinds {
        let is_possible = |kind: &&Kind| NO_EVENTS.iter().all(|(not, _)| not != *kind);
        Kinds {
            faults: fault_names(),
            events: Kind::ALL.iter().filter(is_possible).map(|kind| kind.name()).collect(),
            enemies: Script::ALL.iter().map(|script| script.name()).collect(),
            refusals: refusals(),
        }
    }
}

/// What nodes refuse. Not among it, because no world comes to it: `NotAccepting` (holders of a world
/// accept everybody), `Over` (grants last six hours, a world a quarter of one), `TooLong` and `BadRequest`
/// (what breaks the form ends its stream before), `TooSlow` and `Stopping` (the stream is given
/// up instead), and grants of another version, object or origin, which all read the same in an event.
fn refusals() -> Vec<String> {
    let store = [
        StoreRefusal::OverQuota { whose: Whose::Peer, used: 0, limit: 10, capacity: 100 },
        StoreRefusal::BadGrant(AuthRefused::Grant(GrantRefused::Holder)),
        StoreRefusal::BadGrant(AuthRefused::Grant(GrantRefused::Locator)),
        StoreRefusal::BadGrant(AuthRefused::Grant(GrantRefused::Signature)),
        StoreRefusal::BadGrant(AuthRefused::Proof),
        StoreRefusal::OverGrant { limit: 0 },
        StoreRefusal::RootMismatch,
        StoreRefusal::LeaseTooLong { limit: 0 },
        StoreRefusal::Full { capacity: 0 },
        StoreRefusal::Busy,
        StoreRefusal::AlreadyHeldDifferent,
        StoreRefusal::Internal,
    ];
    let fetch = [FetchRefusal::NotHeld, FetchRefusal::BeyondEnd, FetchRefusal::Damaged];
    let store = store.iter().map(|why| refused("request refused", why));
    store.chain(fetch.iter().map(|why| refused("request refused", why))).collect()
}
