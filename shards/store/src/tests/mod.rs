//! Tests on the simulated disk. `rig` is the one place that touches the API.

mod corrupt;
mod crash;
mod disk;
mod faults;
mod model;
mod rig;
mod carry;
mod cuts;
mod expiry;
mod owners;
mod usual;
