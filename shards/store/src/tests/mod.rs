//! Tests on the simulated disk. `rig` is the one place that touches the API.

mod carry;
mod corrupt;
mod crash;
mod cuts;
mod disk;
mod expiry;
mod faults;
mod model;
mod owners;
mod rig;
mod usual;
