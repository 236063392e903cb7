use std::cmp::Ordering;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, Encoding, Specification};
use pangea_base::{Locator, ManifestId, PeerAddr, PeerId, ReadKey, Secret, VerifyKey};
use zeroize::{Zeroize, Zeroizing};

use crate::limits::{HINTS_MAX, LINK_TEXT_BYTES_MAX};
use crate::route::{for_others, is_dialable};

const PREFIX: &str = "pangea";
const VERSION: char = '1';
const CHECKSUM_CONTEXT: &str = "pangea 2026-11 v1 link checksum";
const CHECKSUM_BYTES: usize = 8;

/// A capability: who has its text can find an object, and read it (`pangea1r…`) or only verify
/// and repair it (`pangea1v…`).
///
/// The text is a secret: only [`Link::reveal`] gives it. `Debug` and `Display` show the id.
pub struct Link {
    /// The object.
    pub manifest: ManifestId,
    /// What it opens.
    pub key: LinkKey,
    hints: Vec<PeerAddr>,
}

/// What a link opens.
#[derive(Debug)]
pub enum LinkKey {
    /// Find, verify, repair, decrypt.
    Read(ReadKey),
    /// All but decrypt.
    Verify(VerifyKey),
}

/// Why a text is not a link. No variant holds any of the text: it may be most of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkInvalid {
    /// Something else altogether.
    #[error("this is not a link; a link begins with pangea1r or pangea1v")]
    NotALink,
    /// A link of another version of this program.
    #[error(
        "this link has version {0:?} and this program knows version 1; a newer one may be needed"
    )]
    OtherVersion(char),
    /// Neither read nor verify.
    #[error("the letter after pangea1 is neither r (read) nor v (verify); the link is damaged")]
    Kind,
    /// A character that no link has.
    #[error("character {0} of the link is not one that a link can have; copy the link again")]
    Character(usize),
    /// Cut off.
    #[error("the link is cut off; copy all of it")]
    Truncated,
    /// More than a link.
    #[error("the link is too long: something else was copied with it")]
    TooLong,
    /// The characters do not belong together.
    #[error("the link is damaged: its checksum is wrong; copy it again")]
    Checksum,
    /// The checksum is right and the content cannot be.
    #[error("the link names a holder's address that cannot be dialled")]
    Hint,
    /// More addresses than a link may have.
    #[error("a link has at most {HINTS_MAX} addresses")]
    TooManyHints,
}

impl Link {
    /// A link to `manifest`. Refuses more than [`HINTS_MAX`] hints and undialable ones; those that
    /// mean something on one link of one machine alone are left out.
    pub fn new(
        manifest: ManifestId,
        key: LinkKey,
        hints: Vec<PeerAddr>,
    ) -> Result<Link, LinkInvalid> {
        if hints.len() > HINTS_MAX {
            return Err(LinkInvalid::TooManyHints);
        }
        if !hints.iter().all(|hint| is_dialable(hint.addr)) {
            return Err(LinkInvalid::Hint);
        }
        Ok(Link { manifest, key, hints: hints.into_iter().filter_map(for_others).collect() })
    }

    /// Addresses of holders; where to ask first.
    pub fn hints(&self) -> &[PeerAddr] {
        &self.hints
    }

    /// V: made from R, or as given.
    pub fn verify_key(&self) -> VerifyKey {
        match &self.key {
            LinkKey::Read(key) => key.verify_key(),
            LinkKey::Verify(key) => VerifyKey(Secret::new(*key.0.expose())),
        }
    }

    /// R, if the link reads.
    pub fn read_key(&self) -> Option<&ReadKey> {
        match &self.key {
            LinkKey::Read(key) => Some(key),
            LinkKey::Verify(_) => None,
        }
    }

    /// Where the object is looked up.
    pub fn locator(&self) -> Locator {
        self.verify_key().locator()
    }

    /// The same link without the power to decrypt.
    pub fn to_verify(&self) -> Link {
        let key = LinkKey::Verify(self.verify_key());
        Link { manifest: self.manifest, key, hints: self.hints.clone() }
    }

    /// What may be shown and logged: the beginning of the manifest id. Gives nothing away.
    pub fn public_id(&self) -> String {
        let mut text = base32().encode(&self.manifest.0);
        text.truncate(12);
        text
    }

    /// The whole text, key included. For the user's eyes and files; never for a log or an error.
    pub fn reveal(&self) -> Zeroizing<String> {
        let (kind, secret) = match &self.key {
            LinkKey::Read(key) => ('r', &key.0),
            LinkKey::Verify(key) => ('v', &key.0),
        };
        let mut payload = Zeroizing::new(Vec::with_capacity(512));
        payload.extend_from_slice(&self.manifest.0);
        payload.extend_from_slice(secret.expose());
        payload.push(u8::try_from(self.hints.len()).expect("at most 8"));
        self.hints.iter().for_each(|hint| push_hint(&mut payload, hint));
        let sum = checksum(kind, &payload);
        payload.extend_from_slice(&sum);
        let mut body = base32().encode(&payload);
        let text = Zeroizing::new(format!("{PREFIX}{VERSION}{kind}{body}"));
        body.zeroize();
        text
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.key {
            LinkKey::Read(_) => "read",
            LinkKey::Verify(_) => "verify",
        };
        write!(f, "{kind} link {}", self.public_id())
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({self})")
    }
}

impl FromStr for Link {
    type Err = LinkInvalid;

    fn from_str(text: &str) -> Result<Link, LinkInvalid> {
        let text = text.trim_ascii();
        let rest = text.strip_prefix(PREFIX).ok_or(LinkInvalid::NotALink)?;
        let mut head = rest.chars();
        match head.next() {
            None => return Err(LinkInvalid::Truncated),
            Some(VERSION) => {}
            Some(other) => return Err(LinkInvalid::OtherVersion(other)),
        }
        let kind = match head.next() {
            None => return Err(LinkInvalid::Truncated),
            Some(kind @ ('r' | 'v')) => kind,
            Some(_) => return Err(LinkInvalid::Kind),
        };
        if text.len() > LINK_TEXT_BYTES_MAX {
            return Err(LinkInvalid::TooLong);
        }
        parse_payload(kind, &decode(head.as_str())?)
    }
}

/// The bytes of the text behind `pangea1r`, which is 8 characters.
fn decode(body: &str) -> Result<Zeroizing<Vec<u8>>, LinkInvalid> {
    use data_encoding::DecodeKind;
    match base32().decode(body.as_bytes()) {
        Ok(bytes) => Ok(Zeroizing::new(bytes)),
        Err(error) => Err(match error.kind {
            DecodeKind::Symbol => LinkInvalid::Character(error.position.saturating_add(9)),
            DecodeKind::Length | DecodeKind::Trailing | DecodeKind::Padding => misfit(body),
        }),
    }
}

/// What is wrong with a text whose last characters do not make whole bytes: cut off, too long, or
/// right in length and damaged.
fn misfit(body: &str) -> LinkInvalid {
    // Eight characters are five bytes. Fewer than eight are left out here, less than the
    // checksum, so that all that says how long the link should be is there.
    let whole = body.len().saturating_sub(body.len() % 8);
    let decoded = base32().decode(body.as_bytes().get(..whole).unwrap_or_default());
    let Ok(bytes) = decoded.map(Zeroizing::new) else { return LinkInvalid::Checksum };
    let announced = match payload_bytes(&bytes) {
        Ok(bytes) => base32().encode_len(bytes),
        Err(LinkInvalid::Truncated) => return LinkInvalid::Truncated,
        Err(_) => return LinkInvalid::Checksum,
    };
    match announced.cmp(&body.len()) {
        Ordering::Greater => LinkInvalid::Truncated,
        Ordering::Equal => LinkInvalid::Checksum,
        Ordering::Less => LinkInvalid::TooLong,
    }
}

/// How many bytes a link that begins so has in all.
fn payload_bytes(bytes: &[u8]) -> Result<usize, LinkInvalid> {
    let mut input = Input(bytes);
    input.array::<64>()?;
    let [count] = input.array()?;
    // The last hint may be cut inside the part that was left out: its family is enough.
    let mut total = 64usize + 1 + CHECKSUM_BYTES;
    for _ in 0..count {
        let bytes = match input.array()? {
            [4] => 4 + 2 + 32,
            [6] => 16 + 2 + 32,
            _ => return Err(LinkInvalid::Hint),
        };
        total = total.saturating_add(bytes).saturating_add(1);
        input.0 = input.0.get(bytes..).unwrap_or_default();
    }
    Ok(total)
}

fn parse_payload(kind: char, bytes: &[u8]) -> Result<Link, LinkInvalid> {
    let mut input = Input(bytes);
    let manifest = ManifestId(input.array()?);
    let key = Secret::new(input.array()?);
    let [count] = input.array()?;
    let mut hints = Vec::new();
    // A damaged count or family is told from a cut by the checksum of all that came.
    let damaged = |cause| if checked(kind, bytes) { cause } else { LinkInvalid::Checksum };
    if usize::from(count) > HINTS_MAX {
        return Err(damaged(LinkInvalid::TooManyHints));
    }
    for _ in 0..count {
        hints.push(hint(&mut input).map_err(|cause| match cause {
            LinkInvalid::Truncated => LinkInvalid::Truncated,
            other => damaged(other),
        })?);
    }
    input.array::<CHECKSUM_BYTES>()?;
    let link_bytes = bytes.len().saturating_sub(input.0.len());
    if !checked(kind, bytes.get(..link_bytes).unwrap_or_default()) {
        return Err(LinkInvalid::Checksum);
    }
    if !input.0.is_empty() {
        return Err(LinkInvalid::TooLong);
    }
    let key = match kind {
        'r' => LinkKey::Read(ReadKey(key)),
        _ => LinkKey::Verify(VerifyKey(key)),
    };
    Link::new(manifest, key, hints)
}

/// Whether the last 8 bytes are the checksum of those before.
fn checked(kind: char, bytes: &[u8]) -> bool {
    bytes
        .split_last_chunk::<CHECKSUM_BYTES>()
        .is_some_and(|(payload, sum)| checksum(kind, payload) == *sum)
}

/// Covers version and kind too: `r` and `v` differ in one bit.
fn checksum(kind: char, payload: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new_derive_key(CHECKSUM_CONTEXT);
    let mut head = [0; 4];
    hasher.update(kind.encode_utf8(&mut head).as_bytes());
    hasher.update(payload);
    let mut out = [0; CHECKSUM_BYTES];
    hasher.finalize_xof().fill(&mut out);
    out
}

fn push_hint(out: &mut Vec<u8>, hint: &PeerAddr) {
    match hint.addr.ip() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend_from_slice(&ip.octets());
        }
    }
    out.extend_from_slice(&hint.addr.port().to_le_bytes());
    out.extend_from_slice(&hint.peer.0);
}

fn hint(input: &mut Input<'_>) -> Result<PeerAddr, LinkInvalid> {
    let ip = match input.array()? {
        [4] => IpAddr::V4(Ipv4Addr::from(input.array::<4>()?)),
        [6] => IpAddr::V6(Ipv6Addr::from(input.array::<16>()?)),
        _ => return Err(LinkInvalid::Hint),
    };
    let port = u16::from_le_bytes(input.array()?);
    let peer = PeerId(input.array()?);
    Ok(PeerAddr { peer, addr: SocketAddr::new(ip, port) })
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], LinkInvalid> {
        let (array, rest) = self.0.split_first_chunk::<N>().ok_or(LinkInvalid::Truncated)?;
        self.0 = rest;
        Ok(*array)
    }
}

/// RFC 4648 base32 in lower case, without padding; unused bits must be 0.
fn base32() -> Encoding {
    let symbols = BASE32_NOPAD.specification().symbols.to_lowercase();
    Specification { symbols, ..Specification::new() }.encoding().expect("32 distinct symbols")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link with these hints and a right checksum, whatever the hints.
    fn text_of(count: u8, hints: &[u8]) -> String {
        let mut payload = vec![7; 64];
        payload.push(count);
        payload.extend_from_slice(hints);
        let sum = checksum('r', &payload);
        payload.extend_from_slice(&sum);
        format!("pangea1r{}", base32().encode(&payload))
    }

    #[test]
    fn a_link_that_its_maker_got_wrong_is_refused_for_what_it_is() {
        let hint =
            |family: u8, ip: &[u8], port: u8| [&[family][..], ip, &[port, 0], &[9; 32]].concat();
        let fine = hint(4, &[10, 0, 0, 1], 1);
        let error = |count, hints: &[u8]| text_of(count, hints).parse::<Link>().unwrap_err();
        assert_eq!(text_of(8, &fine.repeat(8)).parse::<Link>().unwrap().hints().len(), 8);
        assert_eq!(error(9, &fine.repeat(9)), LinkInvalid::TooManyHints);
        assert_eq!(error(255, &fine), LinkInvalid::TooManyHints);
        assert_eq!(error(1, &hint(5, &[10, 0, 0, 1], 1)), LinkInvalid::Hint);
        assert_eq!(error(1, &hint(4, &[10, 0, 0, 1], 0)), LinkInvalid::Hint);
        assert_eq!(error(1, &hint(4, &[224, 0, 0, 1], 1)), LinkInvalid::Hint);
        let mapped = [&[0; 10][..], &[255; 6]].concat();
        assert_eq!(error(1, &hint(6, &mapped, 1)), LinkInvalid::Hint);
        // Where the second hint should begin there is the checksum.
        assert_eq!(error(2, &fine), LinkInvalid::Hint);
        assert_eq!(error(0, &fine), LinkInvalid::Checksum);
    }
}
