//! Callers that are seen in single datagrams: sources that are not theirs, and junk.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use pangea_base::{PeerAddr, PeerId};
use pangea_transport::Transport;
use pangea_transport::testing::PlainCrypto;
use pangea_wire::{Ping, Protocol};

use super::body::Body;
use super::caller::{Move, Plot, Words};

/// Begins connections from addresses at which it is not.
pub(super) struct Spoofer;

/// Connections begun in a round.
const ATTEMPTS: usize = 4;
const QUIET: Duration = Duration::from_millis(250);

impl Plot for Spoofer {
    fn round(&mut self, number: u64, body: &mut Body, node: PeerAddr) -> Option<Vec<Move>> {
        for attempt in 0..ATTEMPTS {
            let initial = initial(body, node);
            let nodes = body.nodes.len() as u64;
            let third = body.nodes[body.entropy.below(nodes) as usize].addr;
            // One in four seems to come from somebody who is there and did not ask.
            let source = match attempt {
                0 if third != node.addr => third,
                _ => body.nowhere(),
            };
            for _ in 0..=number % 3 {
                body.did("spoofed datagrams sent");
                body.did_so_many("spoofed bytes sent", initial.len() as u64);
                body.send_raw(node.addr, Some(source), initial.clone());
            }
        }
        Some(vec![Move::Wait(QUIET)])
    }

    fn pause(&self) -> Duration {
        QUIET
    }
}

/// The first datagram of a connection.
fn initial(body: &mut Body, node: PeerAddr) -> Vec<u8> {
    let crypto = PlainCrypto::new(PeerId(body.entropy.array()));
    let mut config = pangea_transport::testing::config(0);
    config.cores = 1;
    let mut transport = Transport::new(config, Box::new(crypto), body.entropy.split());
    let mut datagram = Vec::new();
    if transport.connect(body.now, node).is_ok() {
        let _ = transport.transmit(body.now, &mut datagram);
    }
    datagram
}

/// Sends what means nothing, or meant something before it was changed.
#[derive(Default)]
pub(super) struct Junk {
    heard: VecDeque<(SocketAddr, Vec<u8>)>,
    sent: VecDeque<(SocketAddr, Vec<u8>)>,
}

const SAMPLES_MAX: usize = 64;
const JUNK_IN_A_ROUND: u64 = 16;

impl Junk {
    fn piece(&self, body: &mut Body, kind: u64) -> (&'static str, Vec<u8>) {
        let length = 1 + body.entropy.below(1400) as usize;
        match kind {
            0 => ("random datagrams sent", body.noise(length).to_vec()),
            1 => {
                let mut long = body.noise(length.max(64)).to_vec();
                long[0] |= 0xc0;
                long[1..5].copy_from_slice(&1u32.to_be_bytes());
                long[5] %= 21;
                ("random long headers sent", long)
            }
            2 => ("versions negotiated unasked", negotiation(body, self.sample(&self.sent))),
            3 => ("stateless resets guessed", reset(body, self.sample(&self.sent))),
            4 => ("received datagrams changed", changed(body, self.sample(&self.heard))),
            _ => ("own datagrams changed", changed(body, self.sample(&self.sent))),
        }
    }

    fn sample<'a>(&self, from: &'a VecDeque<(SocketAddr, Vec<u8>)>) -> &'a [u8] {
        from.back().map_or(&[], |(_, data)| data)
    }
}

/// Says that another version is wanted, on a connection of ours.
fn negotiation(body: &mut Body, sample: &[u8]) -> Vec<u8> {
    let [dcid, scid] = [sample.get(1..9).unwrap_or(&[7; 8]), &body.entropy.array::<8>()];
    let head = [&[0x80u8 | 0x40][..], &[0; 4], &[8], dcid, &[8], scid].concat();
    [&head[..], &2u32.to_be_bytes(), &0xdead_beef_u32.to_be_bytes()].concat()
}

/// Looks like the end of a connection, if one guesses sixteen bytes right.
fn reset(body: &mut Body, sample: &[u8]) -> Vec<u8> {
    let mut bytes = body.noise(43).to_vec();
    bytes[0] = 0x40 | bytes[0] & 0x3f;
    let id = sample.get(1..9).unwrap_or(&[3; 8]);
    bytes[1..9].copy_from_slice(id);
    bytes
}

fn changed(body: &mut Body, sample: &[u8]) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    if bytes.is_empty() {
        return body.noise(20).to_vec();
    }
    for _ in 0..1 + body.entropy.below(4) {
        let at = body.entropy.below(bytes.len() as u64) as usize;
        match body.entropy.below(4) {
            0 => bytes.truncate(at.max(1)),
            1 => bytes.extend_from_slice(&body.entropy.array::<9>()),
            _ => bytes[at] ^= 1 << body.entropy.below(8),
        }
    }
    bytes.truncate(1472);
    bytes
}

impl Plot for Junk {
    fn round(&mut self, number: u64, body: &mut Body, node: PeerAddr) -> Option<Vec<Move>> {
        for _ in 0..JUNK_IN_A_ROUND {
            let kind = body.entropy.below(6);
            let (deed, data) = self.piece(body, kind);
            let nodes = body.nodes.len() as u64;
            let seems_from = match body.entropy.below(4) {
                0 => Some(body.nodes[body.entropy.below(nodes) as usize].addr),
                1 => Some(body.nowhere()),
                _ => None,
            };
            body.did(deed);
            body.send_raw(node.addr, seems_from, data);
        }
        if !number.is_multiple_of(4) {
            return Some(vec![Move::Wait(QUIET)]);
        }
        // Something genuine, so that there is something to change.
        let ping = Move::say(|scene| {
            let nonce = scene.body.entropy.array();
            Words::request(Protocol::Ping, &Ping { nonce })
        });
        Some(vec![Move::Dial, ping, Move::Hear])
    }

    fn heard(&mut self, _: &mut Body, remote: SocketAddr, datagram: &[u8]) {
        self.heard.truncate(SAMPLES_MAX - 1);
        self.heard.push_front((remote, datagram.to_vec()));
    }

    fn sent(&mut self, _: &mut Body, to: SocketAddr, stride: usize, train: &[u8]) {
        self.sent.truncate(SAMPLES_MAX - 1);
        self.sent.push_front((to, train[..train.len().min(stride)].to_vec()));
    }
}
