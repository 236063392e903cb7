//! Our transport on our driver, as two pinned processes that speak the words of `bench/peers`:
//! `pangea-bench peer TEST [KEY=VALUE]...`. Keys of its own:
//!
//! | key | values | |
//! |---|---|---|
//! | `driver` | `uring`, `mio` | what moves the packets |
//! | `tls` | `bench`, `shipped` | what all peers are given, or mutual TLS with libp2p certificates |
//! | `spin` | `0`, `1` | whether an idle side sleeps or looks again |

mod client;
mod crypto;
mod net;
mod server;

use std::time::Duration;

use pangea_reactor::DriverChoice;
use pangea_transport::Congestion;
use peer_harness::{CLIENT_CORE, Outcome, Run, Server, on_core};

/// The word that makes this program a peer.
pub const CHILD: &str = "peer";

const KEYS: [&str; 3] = ["driver", "tls", "spin"];

/// Which keys and certificates.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tls {
    Bench,
    Shipped,
}

/// What is ours to choose.
#[derive(Clone, Copy)]
struct Setup {
    driver: DriverChoice,
    tls: Tls,
    spin: Duration,
    congestion: Congestion,
    /// The most that path MTU discovery may find, bytes of UDP payload.
    mtu: u16,
}

/// Runs the client with a server of its own, or the server.
pub fn run(words: &[String]) -> Result<(), String> {
    measure(words).map_err(|failed| failed.to_string())
}

fn measure(words: &[String]) -> Outcome<()> {
    let run = Run::parse(&[CHILD], words.to_vec(), &KEYS)?;
    let setup = setup(&run)?;
    if run.is_server {
        on_core(run.server_core);
        return server::serve(&setup);
    }
    let mut server = Server::start(&run)?;
    on_core(CLIENT_CORE);
    client::measure(&run, &setup, &mut server)
}

fn setup(run: &Run) -> Outcome<Setup> {
    Ok(Setup {
        driver: match run.said("driver") {
            Some("uring") => DriverChoice::Uring,
            Some("mio") => DriverChoice::Mio,
            None => DriverChoice::Auto,
            Some(other) => return Err(format!("there is no driver {other}").into()),
        },
        tls: match run.said("tls") {
            Some("bench") | None => Tls::Bench,
            Some("shipped") => Tls::Shipped,
            Some(other) => return Err(format!("tls is bench or shipped, not {other}").into()),
        },
        spin: match run.said("spin") {
            Some("1") => Duration::from_secs(1),
            Some("0") | None => Duration::ZERO,
            Some(other) => return Err(format!("spin is 0 or 1, not {other}").into()),
        },
        congestion: if run.bbr { Congestion::Bbr } else { Congestion::Cubic },
        mtu: run.mtu,
    })
}
