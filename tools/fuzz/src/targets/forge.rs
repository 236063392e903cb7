//! What an origin that lies can make with its own keys: links, manifest pages and sealed chunks as
//! it likes, with every checksum and tag right. Written after the format documents and not with the
//! code that reads them, so that it is a second opinion.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use pangea_base::{ContentKey, Secret};

/// The text of a link: `kind`, and any payload with a right checksum (wire/format.md, "Link").
pub fn link(kind: char, payload: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("pangea 2026-11 v1 link checksum");
    hasher.update(kind.to_string().as_bytes());
    hasher.update(payload);
    let sum = *hasher.finalize().as_bytes();
    format!("pangea1{kind}{}", base32(&[payload, &sum[..8]].concat()))
}

/// RFC 4648 in lower case, without padding.
pub fn base32(bytes: &[u8]) -> String {
    let digits = b"abcdefghijklmnopqrstuvwxyz234567";
    let bits: Vec<u8> =
        bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let digit = |five: &[u8]| {
        let number = (0..5).fold(0, |sum, at| sum << 1 | five.get(at).copied().unwrap_or(0));
        char::from(digits[usize::from(number)])
    };
    bits.chunks(5).map(digit).collect()
}

/// Where a page of a manifest stands (wire/format.md, "Manifest").
#[derive(Debug, Clone, Copy)]
pub enum Level {
    Leaf = 0,
    Index = 1,
    Root = 2,
    Label = 3,
}

/// The version of manifests that is written.
pub const VERSION: u8 = 2;
/// The version that is still read.
pub const VERSION_OLD: u8 = 1;

/// Seals any bytes as a page of the manifest with this salt.
pub fn page(key: &Secret, salt: &[u8; 16], level: Level, number: u32, plain: &[u8]) -> Vec<u8> {
    page_of(VERSION, key, salt, level, number, plain)
}

fn page_of(
    version: u8,
    key: &Secret,
    salt: &[u8; 16],
    level: Level,
    number: u32,
    plain: &[u8],
) -> Vec<u8> {
    let mut nonce = [0; 24];
    nonce[..16].copy_from_slice(salt);
    nonce[16] = level as u8;
    nonce[20..].copy_from_slice(&number.to_le_bytes());
    let mut page = plain.to_vec();
    XChaCha20Poly1305::new(&Key::from(*key.expose()))
        .encrypt_in_place(&XNonce::from(nonce), &[version], &mut page)
        .expect("a page is short");
    page
}

/// Seals any bytes as a root page, and gives it as it is stored.
pub fn root_page(key: &Secret, salt: &[u8; 16], plain: &[u8]) -> Vec<u8> {
    root_page_of(VERSION, key, salt, plain)
}

/// The same of any version.
pub fn root_page_of(version: u8, key: &Secret, salt: &[u8; 16], plain: &[u8]) -> Vec<u8> {
    [&[version][..], salt, &page_of(version, key, salt, Level::Root, 0, plain)].concat()
}

/// A sealed chunk under construction (ces/format.md), with AES-256-GCM.
pub struct Chunk {
    key: LessSafeKey,
    number: u32,
    lengths: blake3::OutputReader,
    fill: blake3::OutputReader,
    words: Vec<u32>,
    /// The sealed string so far.
    pub string: Vec<u8>,
}

/// The log2 of the segment size that forged chunks have.
pub const SEGMENT_LOG2: u8 = 16;

impl Chunk {
    /// With its header.
    pub fn new(content: &ContentKey, number: u32, salt: [u8; 16]) -> Chunk {
        let mut header = vec![0; 16];
        header[..3].copy_from_slice(&[1, 2, SEGMENT_LOG2]);
        header.extend(salt);
        let secret = content.chunk_key(number, 2, &salt);
        let stream = |context| {
            let mut hasher = blake3::Hasher::new_derive_key(context);
            hasher.update(secret.expose());
            hasher.finalize_xof()
        };
        let key = UnboundKey::new(&AES_256_GCM, secret.expose()).expect("32 bytes");
        Chunk {
            key: LessSafeKey::new(key),
            number,
            lengths: stream("pangea 2026-11 v1 ces lengths"),
            fill: stream("pangea 2026-11 v1 ces fill"),
            words: Vec::new(),
            string: header,
        }
    }

    /// Adds a segment of any word and any stored bytes.
    pub fn segment(&mut self, word: u32, stored: &[u8]) {
        let mut mask = [0; 4];
        self.lengths.fill(&mut mask);
        self.string.extend((word ^ u32::from_le_bytes(mask)).to_le_bytes());
        let number = self.words.len() as u32;
        self.seal(number, 0, word, stored);
        self.words.push(word);
    }

    /// The table that the footer should hold.
    pub fn table(&self, plaintext_bytes: u64) -> Vec<u8> {
        let words = self.words.iter().flat_map(|word| word.to_le_bytes());
        plaintext_bytes.to_le_bytes().into_iter().chain(words).collect()
    }

    /// Adds a footer that holds `table`.
    pub fn footer(&mut self, table: &[u8]) {
        self.seal(u32::MAX, 1, self.words.len() as u32, table);
    }

    /// The next `count` bytes of fill.
    pub fn fill(&mut self, count: usize) {
        let at = self.string.len();
        self.string.resize(at + count, 0);
        self.fill.fill(&mut self.string[at..]);
    }

    fn seal(&mut self, number: u32, last: u8, word: u32, text: &[u8]) {
        let mut nonce = [0; 12];
        nonce[7..11].copy_from_slice(&number.to_be_bytes());
        nonce[11] = last;
        let header = &self.string[..32];
        let numbers = [self.number, number, word].map(u32::to_le_bytes).concat();
        let aad = Aad::from([header, &numbers].concat());
        let mut text = text.to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut text)
            .expect("a segment is short");
        self.string.extend(text);
    }
}
