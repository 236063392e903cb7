//! What a driver promises, asked of both back ends.

mod datagrams;
mod files;
mod memory;
mod ports;
mod support;
#[cfg(target_os = "linux")]
mod unprivileged;
#[cfg(target_os = "linux")]
mod unreachable;
mod waiting;
