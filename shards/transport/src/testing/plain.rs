use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use pangea_base::{Hash, PeerId};
use quinn_proto::crypto::{
    ClientConfig, CryptoError, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey,
    ServerConfig, Session, UnsupportedVersion,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectError, ConnectionId, Side, TransportError, TransportErrorCode};

use crate::conn::{ALERT_ACCESS_DENIED, ALERT_NO_APPLICATION_PROTOCOL};
use crate::{ALPN, Crypto, Dial, Found};

const TAG_BYTES: usize = 16;
/// A packet with this in the place of its checksum is taken as it is: what a peer that has the keys
/// and keeps no rule could send.
pub const FORGED_TAG: [u8; TAG_BYTES] = *b"a peer forged it";

/// Sessions that hide nothing but are reproducible and cheap: packets carry a checksum instead of a
/// seal, and a peer's word is its proof. For simulation only.
#[derive(Clone)]
pub struct PlainCrypto {
    me: PeerId,
    alpn: Vec<u8>,
    witness: Option<Witness>,
}

impl PlainCrypto {
    /// Sessions that claim to be `me`.
    pub fn new(me: PeerId) -> PlainCrypto {
        PlainCrypto { me, alpn: ALPN.to_vec(), witness: None }
    }

    /// The same, and every packet number that is used under a key is told to `witness`.
    pub fn watched(me: PeerId, witness: Witness) -> PlainCrypto {
        PlainCrypto { witness: Some(witness), ..PlainCrypto::new(me) }
    }

    /// Speaks another application protocol.
    pub fn speaking(me: PeerId, alpn: &[u8]) -> PlainCrypto {
        PlainCrypto { alpn: alpn.to_vec(), ..PlainCrypto::new(me) }
    }
}

/// Remembers the packet numbers that were used under each key: none may be used twice, or two
/// packets would be sealed with one nonce.
#[derive(Clone, Default)]
pub struct Witness(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    // Numbers go up under a key, so the last one is enough.
    last: BTreeMap<u64, u64>,
    twice: Option<(u64, u64)>,
}

impl Witness {
    /// The first key and packet number that were used twice.
    pub fn twice(&self) -> Option<(u64, u64)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).twice
    }

    fn sees(&self, key: u64, packet: u64) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.last.insert(key, packet);
        if before.is_some_and(|before| before >= packet) {
            seen.twice.get_or_insert((key, packet));
        }
    }
}

impl Crypto for PlainCrypto {
    fn server(&self) -> Arc<dyn ServerConfig> {
        Arc::new(PlainServer(self.clone()))
    }

    fn client(&self, expected: Option<PeerId>) -> Dial {
        let found = Found::default();
        let config = PlainClient { crypto: self.clone(), expected, found: found.clone() };
        Dial { config: Arc::new(config), found }
    }

    fn peer(&self, session: &dyn Session) -> Option<PeerId> {
        session.peer_identity()?.downcast::<PeerId>().ok().map(|peer| *peer)
    }
}

struct PlainServer(PlainCrypto);

struct PlainClient {
    crypto: PlainCrypto,
    expected: Option<PeerId>,
    found: Found,
}

impl ServerConfig for PlainServer {
    fn initial_keys(&self, _: u32, dst_cid: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        Ok(keys(mix(INITIAL, dst_cid), Side::Server, None))
    }

    fn retry_tag(&self, _: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        retry_tag(orig_dst_cid, &[packet])
    }

    fn start_session(self: Arc<Self>, _: u32, params: &TransportParameters) -> Box<dyn Session> {
        Box::new(PlainSession::new(Side::Server, self.0.clone(), None, Found::default(), params))
    }
}

impl ClientConfig for PlainClient {
    fn start_session(
        self: Arc<Self>,
        _: u32,
        _: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let found = self.found.clone();
        let mut session =
            PlainSession::new(Side::Client, self.crypto.clone(), self.expected, found, params);
        let hello = session.hello();
        session.flights.push_back((hello, None));
        Ok(Box::new(session))
    }
}

const INITIAL: u64 = 0x9a9e_a000_0000_0001;
const HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const FINISHED: u8 = 3;

struct PlainSession {
    side: Side,
    crypto: PlainCrypto,
    expected: Option<PeerId>,
    found: Found,
    params: Vec<u8>,
    inbox: Vec<u8>,
    /// Bytes to write next, and whether keys of that generation follow them.
    flights: VecDeque<(Vec<u8>, Option<u64>)>,
    peer: Option<PeerId>,
    peer_params: Option<TransportParameters>,
    handshaking: bool,
    secret: u64,
    updates: u64,
}

impl PlainSession {
    fn new(
        side: Side,
        crypto: PlainCrypto,
        expected: Option<PeerId>,
        found: Found,
        params: &TransportParameters,
    ) -> PlainSession {
        let mut bytes = Vec::new();
        params.write(&mut bytes);
        PlainSession {
            side,
            crypto,
            expected,
            found,
            params: bytes,
            inbox: Vec::new(),
            flights: VecDeque::new(),
            peer: None,
            peer_params: None,
            handshaking: true,
            secret: 0,
            updates: 0,
        }
    }

    /// Identity, protocol and transport parameters.
    fn hello(&self) -> Vec<u8> {
        let alpn = &self.crypto.alpn;
        let body = [&self.crypto.me.0[..], &[alpn.len() as u8], alpn, &self.params].concat();
        message(HELLO, &body)
    }

    fn take_hello(&mut self, body: &[u8]) -> Result<(), TransportError> {
        let (peer, rest) = body.split_first_chunk::<32>().ok_or_else(broken)?;
        let (length, rest) = rest.split_first().ok_or_else(broken)?;
        let (alpn, params) = rest.split_at_checked(usize::from(*length)).ok_or_else(broken)?;
        if alpn != self.crypto.alpn {
            return Err(alert(ALERT_NO_APPLICATION_PROTOCOL, "another protocol"));
        }
        let peer = PeerId(*peer);
        self.found.set(peer);
        if self.expected.is_some_and(|expected| expected != peer) {
            return Err(alert(ALERT_ACCESS_DENIED, "another peer"));
        }
        self.peer = Some(peer);
        let mut params = params;
        self.peer_params = Some(TransportParameters::read(self.side, &mut params)?);
        Ok(())
    }

    fn take(&mut self, kind: u8, body: &[u8]) -> Result<(), TransportError> {
        match (self.side, kind) {
            (Side::Server, HELLO) => {
                self.take_hello(body)?;
                self.secret = mix(mix(7, body), &self.params);
                let secret = self.secret.to_le_bytes();
                self.flights.push_back((message(SERVER_HELLO, &secret), Some(1)));
                let hello = self.hello();
                self.flights.push_back((hello, Some(2)));
            }
            (Side::Server, FINISHED) => self.handshaking = false,
            (Side::Client, SERVER_HELLO) => {
                self.secret = u64::from_le_bytes(body.try_into().map_err(|_| broken())?);
                self.flights.push_back((Vec::new(), Some(1)));
            }
            (Side::Client, HELLO) => {
                self.take_hello(body)?;
                self.handshaking = false;
                self.flights.push_back((message(FINISHED, &[]), Some(2)));
            }
            _ => return Err(broken()),
        }
        Ok(())
    }
}

impl Session for PlainSession {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        // Known to everybody (RFC 9001 section 5.2), and the same again for a repeated Initial.
        keys(mix(INITIAL, dst_cid), side, None)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        None
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.peer.map(|peer| Box::new(peer) as Box<dyn Any>)
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        Some(false)
    }

    fn is_handshaking(&self) -> bool {
        self.handshaking
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.inbox.extend_from_slice(buf);
        while let Some((&[kind, low, high], rest)) = self.inbox.split_first_chunk::<3>() {
            let length = usize::from(u16::from_le_bytes([low, high]));
            let Some(body) = rest.get(..length).map(<[u8]>::to_vec) else { break };
            self.inbox.drain(..3 + length);
            self.take(kind, &body)?;
        }
        Ok(false)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        Ok(self.peer_params)
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let (bytes, generation) = self.flights.pop_front()?;
        buf.extend_from_slice(&bytes);
        let seed = mix(self.secret, &generation?.to_le_bytes());
        Some(keys(seed, self.side, self.crypto.witness.as_ref()))
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.updates += 1;
        let seed = mix(self.secret, &(1000 + self.updates).to_le_bytes());
        Some(keys(seed, self.side, self.crypto.witness.as_ref()).packet)
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        match payload.split_last_chunk::<TAG_BYTES>() {
            Some((token, tag)) => retry_tag(orig_dst_cid, &[header, token]) == *tag,
            None => false,
        }
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        let secret = self.secret.to_le_bytes();
        let mut block = Hash::of(&[&secret[..], label, &[0], context].concat());
        for part in output.chunks_mut(32) {
            part.copy_from_slice(&block.0[..part.len()]);
            block = Hash::of(&block.0);
        }
        Ok(())
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16).to_le_bytes();
    [&[kind], &length[..], body].concat()
}

fn alert(code: u8, reason: &str) -> TransportError {
    TransportError {
        code: TransportErrorCode::crypto(code),
        frame: None,
        reason: reason.to_owned(),
    }
}

fn broken() -> TransportError {
    alert(50, "the handshake cannot be read")
}

fn retry_tag(cid: &ConnectionId, parts: &[&[u8]]) -> [u8; 16] {
    let sum = mix(mix(11, cid), &parts.concat());
    let mut tag = [0; 16];
    tag[..8].copy_from_slice(&sum.to_le_bytes());
    tag
}

/// A quick checksum: not cryptographic, but it notices damage and other connections' packets.
fn mix(seed: u64, bytes: &[u8]) -> u64 {
    let mut sum = seed ^ 0x243f_6a88_85a3_08d3;
    let mut step = |word: u64| {
        sum = (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        sum ^= sum >> 29;
    };
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().for_each(|word| step(u64::from_le_bytes(*word)));
    rest.iter().for_each(|byte| step(u64::from(*byte) | 0x100));
    step(bytes.len() as u64);
    sum
}

fn keys(seed: u64, side: Side, witness: Option<&Witness>) -> Keys {
    let to_server = mix(seed, b"to server");
    let to_client = mix(seed, b"to client");
    let (local, remote) = match side {
        Side::Client => (to_server, to_client),
        Side::Server => (to_client, to_server),
    };
    Keys {
        header: KeyPair { local: Box::new(Bare), remote: Box::new(Bare) },
        packet: KeyPair {
            local: Box::new(Checksum { key: local, witness: witness.cloned() }),
            remote: Box::new(Checksum { key: remote, witness: None }),
        },
    }
}

/// Headers stay as they are.
struct Bare;

impl HeaderKey for Bare {
    fn decrypt(&self, _: usize, _: &mut [u8]) {}

    fn encrypt(&self, _: usize, _: &mut [u8]) {}

    fn sample_size(&self) -> usize {
        16
    }
}

struct Checksum {
    key: u64,
    witness: Option<Witness>,
}

impl Checksum {
    fn sum(&self, packet: u64, header: &[u8], payload: &[u8]) -> [u8; 8] {
        mix(mix(self.key ^ packet, header), payload).to_le_bytes()
    }
}

impl PacketKey for Checksum {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        if let Some(witness) = &self.witness {
            witness.sees(self.key, packet);
        }
        let (header, sealed) = buf.split_at_mut(header_len);
        let (payload, tag) = sealed.split_at_mut(sealed.len() - TAG_BYTES);
        tag.fill(0);
        tag[..8].copy_from_slice(&self.sum(packet, header, payload));
    }

    fn decrypt(
        &self,
        packet: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        let (plain, tag) = payload.split_last_chunk::<TAG_BYTES>().ok_or(CryptoError)?;
        if *tag != FORGED_TAG && tag[..8] != self.sum(packet, header, plain) {
            return Err(CryptoError);
        }
        payload.truncate(payload.len() - TAG_BYTES);
        Ok(())
    }

    fn tag_len(&self) -> usize {
        TAG_BYTES
    }

    fn confidentiality_limit(&self) -> u64 {
        u64::MAX
    }

    fn integrity_limit(&self) -> u64 {
        u64::MAX
    }
}
