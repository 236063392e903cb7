//! The enemies: peers that follow a script. Each is an [`Actor`]: a holder that departs from
//! honesty in one way, or a caller that nobody asked to come.

mod body;
mod caller;
mod datagrams;
mod gang;
mod grants;
mod holder;
mod keep;
mod lies;
mod papers;
mod parcel;
mod probes;
mod putters;
mod slow;
mod squatter;
mod streams;
mod surveyor;
mod talk;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::time::Instant;

use pangea_base::{Entropy, Identity};

use crate::actor::Actor;
use body::{Body, Enemy, Habits};
use caller::{Caller, Plot};
use holder::{Holder, Vice};
use papers::Flaw;

/// What a client of honest nodes may suffer from an enemy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// What was stored with it is lost: it counts as one lost holder from the start.
    Shards,
    /// It takes part in no put to its end: it counts as a hurt holder during puts.
    Put,
    /// No object depends on it.
    Nothing,
}

macro_rules! scripts {
    ($($script:ident, $harm:ident, $meaning:literal;)*) => {
        /// What an enemy does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Script {
            $(#[doc = $meaning] $script,)*
        }

        impl Script {
            /// All of them.
            pub const ALL: &'static [Script] = &[$(Script::$script),*];

            /// Its name in reports.
            pub fn name(self) -> &'static str {
                match self {
                    $(Script::$script => stringify!($script),)*
                }
            }

            /// In one sentence, what it does.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Script::$script => $meaning,)*
                }
            }

            /// What may come of it.
            pub fn harm(self) -> Harm {
                match self {
                    $(Script::$script => Harm::$harm,)*
                }
            }
        }
    };
}

scripts! {
    Liar, Shards, "Stores, and gives back the right length with a wrong byte.";
    TableLiar, Shards, "Stores, and gives a table of group hashes that is wrong.";
    Truncator, Shards, "Stores, and stops in the middle of a shard as if that were its end.";
    Babbler, Shards, "Says more than its answer has room for.";
    Nonsense, Put, "Answers with bytes that mean nothing, or with the answer to another question.";
    Giant, Shards, "Claims lengths, lists and grants at and beyond every limit, and delivers none.";
    Refuser, Shards, "Refuses, with every reason there is, one after the other.";
    Resetter, Shards, "Gives streams up in the middle, or when all of it has come.";
    BriefGrants, Put, "Gives grants that end at once.";
    Dripper, Put, "Takes a put byte by byte out of the smallest window, and shows life.";
    DripFeeder, Shards, "Stores, and gives a shard back at a byte a second.";
    Staller, Put, "Takes a put's stream and neither reads nor answers.";
    Mute, Shards, "Stores, and never answers who wants it back.";
    Hoarder, Put, "Takes a put into the widest window, shows life, and reads nothing of it.";
    Foreigner, Put, "Speaks another application protocol.";
    Forgetful, Shards, "Signs receipts and keeps nothing.";
    Selective, Shards, "Tells what it holds, and gives nothing of it.";
    ReceiptForger, Put, "Gives receipts with a wrong signature.";
    ReceiptOfAnother, Put, "Gives receipts validly signed by another identity of its own.";
    ReceiptForOther, Put, "Gives receipts for another root, length, shard or lease.";
    GrantsForOthers, Put, "Gives grants made out to another origin or for another object.";
    ManifestForger, Shards, "Gives another page, or garbage, as the manifest.";
    PlacementForger, Shards, "Gives the right manifest and a placement that leads nowhere.";
    Squatter, Put, "Refuses whoever asks, and takes the names of his object elsewhere, as many peers.";
    StreamOpener, Nothing, "Opens all streams it may on many connections, and is silent.";
    SlowLoris, Nothing, "Sends half requests byte by byte, and shards at a trickle.";
    SlowTaker, Nothing, "Takes shards back at a trickle, out of the smallest window.";
    Replayer, Nothing, "Plays its datagrams, requests and proofs again, also elsewhere.";
    GrantForger, Nothing, "Spends grants that were altered, or signed by somebody else.";
    QuotaThief, Nothing, "Many identities ask for grants without end and use none.";
    OverPutter, Nothing, "Sends more than was granted or declared, or gives up at the worst moment.";
    BombMaker, Nothing, "Stores objects whose chunks are not what their manifest says.";
    Spoofer, Nothing, "Begins connections from addresses at which it is not.";
    Junk, Nothing, "Sends random and changed datagrams, and guessed resets.";
    Prober, Nothing, "Asks for what there is not and for what it has no key to, in any form.";
    Closer, Nothing, "Closes its connection at each moment of a put and a get.";
}

/// What a client may suffer from a script.
pub fn harm(script: Script) -> Harm {
    script.harm()
}

/// Whether every receipt that such a holder gives for a shard has a flaw: none may be taken.
pub fn forges_receipts(script: Script) -> bool {
    use Script::{ReceiptForOther, ReceiptForger, ReceiptOfAnother};
    matches!(script, ReceiptForger | ReceiptOfAnother | ReceiptForOther)
}

/// An enemy that follows `script`.
pub fn enemy(
    script: Script,
    identity: Identity,
    addr: SocketAddr,
    mut entropy: Entropy,
    now: Instant,
) -> Box<dyn Actor> {
    let seed = entropy.array();
    let make = Maker { identity, addr, entropy, now };
    match script {
        Script::Liar => make.holder(lies::Liar),
        Script::TableLiar => make.holder(lies::TableLiar),
        Script::Truncator => make.holder(lies::Truncator),
        Script::Babbler => make.holder(lies::Babbler),
        Script::Nonsense => make.holder(lies::Nonsense::default()),
        Script::Giant => make.holder(lies::Giant::default()),
        Script::Refuser => make.holder(lies::Refuser::default()),
        Script::Resetter => make.holder(lies::Resetter),
        Script::BriefGrants => make.holder(lies::BriefGrants),
        Script::Dripper => make.holder(slow::Dripper),
        Script::DripFeeder => make.holder(slow::DripFeeder),
        Script::Staller => make.holder(slow::Staller),
        Script::Mute => make.holder(slow::Mute),
        Script::Hoarder => make.holder(slow::Hoarder),
        Script::Foreigner => make.holder(slow::Foreigner),
        Script::Forgetful => make.holder(papers::Forgetful),
        Script::Selective => make.holder(papers::Selective),
        Script::ReceiptForger => make.holder(papers::BadReceipts::new(Flaw::Signature, seed)),
        Script::ReceiptOfAnother => make.holder(papers::BadReceipts::new(Flaw::Signer, seed)),
        Script::ReceiptForOther => make.holder(papers::BadReceipts::new(Flaw::Content, seed)),
        Script::GrantsForOthers => make.holder(papers::GrantsForOthers::default()),
        Script::ManifestForger => make.holder(papers::ManifestForger::default()),
        Script::PlacementForger => make.holder(papers::PlacementForger::default()),
        Script::StreamOpener => make.caller(streams::StreamOpener::HABITS, streams::StreamOpener),
        Script::SlowLoris => make.caller(Habits::HONEST, streams::SlowLoris),
        Script::SlowTaker => make.caller(streams::SlowTaker::HABITS, streams::SlowTaker),
        Script::Replayer => make.caller(Habits::HONEST, grants::Replayer::default()),
        Script::GrantForger => make.caller(Habits::HONEST, grants::GrantForger),
        Script::QuotaThief => {
            let Maker { identity, addr, entropy, now } = make;
            Box::new(gang::Gang::of_thieves(identity, addr, entropy, now))
        }
        Script::Squatter => {
            let Maker { identity, addr, entropy, now } = make;
            Box::new(gang::Gang::of_squatters(identity, addr, entropy, now))
        }
        Script::OverPutter => make.caller(Habits::HONEST, putters::OverPutter),
        Script::BombMaker => make.caller(Habits::HONEST, putters::BombMaker::default()),
        Script::Spoofer => make.caller(Habits::HONEST, datagrams::Spoofer),
        Script::Junk => make.caller(Habits::HONEST, datagrams::Junk::default()),
        Script::Prober => make.caller(Habits::HONEST, probes::Prober::default()),
        Script::Closer => make.caller(Habits::HONEST, probes::Closer),
    }
}

/// Nobody's enemy: an honest caller for nodes of many cores.
pub fn surveyor(
    identity: Identity,
    addr: SocketAddr,
    entropy: Entropy,
    now: Instant,
) -> Box<dyn Actor> {
    Maker { identity, addr, entropy, now }.caller(Habits::HONEST, surveyor::Surveyor)
}

/// What every enemy is made of.
struct Maker {
    identity: Identity,
    addr: SocketAddr,
    entropy: Entropy,
    now: Instant,
}

impl Maker {
    fn holder(self, vice: impl Vice + 'static) -> Box<dyn Actor> {
        let holder = Holder::new(vice);
        let body = Body::new(holder.habits(), self.identity, self.addr, self.entropy, self.now);
        Box::new(Enemy::holder(body, holder))
    }

    fn caller(self, habits: Habits, plot: impl Plot + 'static) -> Box<dyn Actor> {
        let now = self.now;
        let body = Body::new(habits, self.identity, self.addr, self.entropy, now);
        Box::new(Enemy::caller(body, Caller::new(plot, now)))
    }
}
