//! Tests on the simulated disk. `rig` is the one place that touches the API.

mod rig;
mod usual;
