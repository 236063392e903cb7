//! Pangea: decentralised storage and transfer. A file goes in; it is compressed, encrypted and
//! erasure-coded; any k of n holders bring it back, verified to the byte.
//!
//! This crate is the node: the only place that knows threads, the operating system, configuration
//! and the engine together. [`Node`] serves, [`Client`] puts and gets.

#![forbid(unsafe_code)]

pub mod cli;
pub mod client;
pub mod config;
pub mod keyfile;
pub mod names;
pub mod node;
pub mod output;
mod private;
mod reach;
#[cfg(unix)]
mod socket;
#[cfg(feature = "trace")]
pub mod trace;
pub mod units;

pub use client::{Client, ClientConfig};
pub use node::{Node, NodeConfig};
