//! The engine: the state machine of one core, and the client's machines that drive many of them.
//!
//! Sans-IO: datagrams, file completions, messages and time go in through [`Engine::handle`] and
//! [`Engine::turn`]; file operations, messages and datagrams come out of [`Engine::poll`] and
//! [`Engine::transmit`].

#![forbid(unsafe_code)]

mod accounts;
mod ask;
mod callers;
pub mod client;
mod clock;
mod content;
mod engine;
mod figures;
mod get_chunk;
mod grants;
mod holdings;
mod incoming;
mod ledger;
mod letting_go;
pub mod limits;
mod links;
pub mod message;
mod outgoing;
mod put_chunk;
mod request;
mod room;
mod serve;
mod shared;
mod traced;

pub use clock::{ClockHeard, ClockStatus, ClockTrust, Doubt, FoundWhen, Offset, STEADY, Standing};
pub use content::{ContentHash, ContentLeaves, LEAF_BYTES};
pub use engine::{Engine, EngineConfig, Input};
pub use figures::{EngineHeld, EngineStats};
pub use grants::Caller;
pub use ledger::{Accept, Ledger, LedgerAnswer, LedgerQuestion, OwnerAccount, Parting};
pub use shared::Output;
