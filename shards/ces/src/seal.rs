//! The keys of one chunk, and sealing and opening with them.

use aws_lc_rs::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use blake3::OutputReader;
use pangea_base::{ChunkNumber, ContentKey};

use crate::Suite;
use crate::format::{self, HEADER_BYTES, TAG_BYTES, WORD_BYTES};

/// The footer's number in the stream; segments are numbered from 0 and never reach it.
const FOOTER_NUMBER: u32 = u32::MAX;

/// A sealed message does not open: it was not sealed under this key, or not at this place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forged;

/// Which message of the stream it is: bound into nonce and AAD.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Message {
    /// A segment's number and word.
    Segment(u32, u32),
    /// The footer, with the number of segments.
    Footer(u32),
}

/// Everything that is derived from the chunk key.
pub(crate) struct ChunkKeys {
    key: LessSafeKey,
    /// Header and chunk number, then room for what differs from message to message.
    aad: [u8; HEADER_BYTES + 12],
    lengths: OutputReader,
    fill: OutputReader,
}

impl ChunkKeys {
    pub fn new(
        content: &ContentKey,
        chunk: ChunkNumber,
        suite: Suite,
        segment_log2: u8,
        salt: &[u8; 16],
    ) -> ChunkKeys {
        let secret = content.chunk_key(chunk.0, suite.id(), salt);
        let stream = |context| {
            let mut hasher = blake3::Hasher::new_derive_key(context);
            hasher.update(secret.expose());
            hasher.finalize_xof()
        };
        let mut aad = [0; HEADER_BYTES + 12];
        aad[..HEADER_BYTES].copy_from_slice(&format::header(suite, segment_log2, salt));
        aad[HEADER_BYTES..HEADER_BYTES + 4].copy_from_slice(&chunk.0.to_le_bytes());
        ChunkKeys {
            key: aead_key(suite, secret.expose()),
            aad,
            lengths: stream("pangea 2026-11 v1 ces lengths"),
            fill: stream("pangea 2026-11 v1 ces fill"),
        }
    }

    pub fn header(&self) -> &[u8] {
        &self.aad[..HEADER_BYTES]
    }

    /// The next segment's word, masked or unmasked: call once per segment, in order.
    pub fn mask_next_word(&mut self, word: u32) -> u32 {
        let mut mask = [0; WORD_BYTES];
        self.lengths.fill(&mut mask);
        word ^ u32::from_le_bytes(mask)
    }

    /// The next bytes of fill.
    pub fn fill(&mut self, out: &mut [u8]) {
        self.fill.fill(out);
    }

    fn nonce_and_aad(&self, message: Message) -> (Nonce, Aad<[u8; HEADER_BYTES + 12]>) {
        let (number, last, word) = match message {
            Message::Segment(number, word) => {
                assert!(number < FOOTER_NUMBER, "segments are fewer than 2^32 - 1");
                (number, 0, word)
            }
            Message::Footer(segments) => (FOOTER_NUMBER, 1, segments),
        };
        // The last 12 of the 24 bytes; the first 16 are zeros and went into HChaCha20.
        let mut nonce = [0; 12];
        nonce[7..11].copy_from_slice(&number.to_be_bytes());
        nonce[11] = last;
        let mut aad = self.aad;
        aad[HEADER_BYTES + 4..HEADER_BYTES + 8].copy_from_slice(&number.to_le_bytes());
        aad[HEADER_BYTES + 8..].copy_from_slice(&word.to_le_bytes());
        (Nonce::assume_unique_for_key(nonce), Aad::from(aad))
    }

    /// Seals `plaintext` into `out`, which is longer by the tag.
    pub fn seal(&self, message: Message, plaintext: &[u8], out: &mut [u8]) {
        let (nonce, aad) = self.nonce_and_aad(message);
        let (ciphertext, tag) = out.split_at_mut(plaintext.len());
        self.key
            .seal_out_of_place_scatter(nonce, aad, plaintext, ciphertext, &[], tag)
            .expect("a segment is far below the cipher's limit and its buffers fit");
    }

    /// Seals all of `buffer` but the room for the tag at its end, in place.
    pub fn seal_in_place(&self, message: Message, buffer: &mut [u8]) {
        let (nonce, aad) = self.nonce_and_aad(message);
        let (text, tag) = buffer.split_at_mut(buffer.len() - TAG_BYTES);
        let made = self
            .key
            .seal_in_place_separate_tag(nonce, aad, text)
            .expect("a segment is far below the cipher's limit");
        tag.copy_from_slice(made.as_ref());
    }

    /// Opens `sealed` (ciphertext and tag) into `out`, of the ciphertext's length. What was
    /// decrypted before the tag was found wrong is wiped.
    pub fn open(&self, message: Message, sealed: &[u8], out: &mut [u8]) -> Result<(), Forged> {
        let (nonce, aad) = self.nonce_and_aad(message);
        let (ciphertext, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(Forged)?;
        let opened = self.key.open_separate_gather(nonce, aad, ciphertext, tag, out);
        opened.map_err(|_| {
            out.fill(0);
            Forged
        })
    }

    /// Opens `sealed` (ciphertext and tag) where it lies; the plaintext is its beginning.
    pub fn open_in_place<'a>(
        &self,
        message: Message,
        sealed: &'a mut [u8],
    ) -> Result<&'a [u8], Forged> {
        let (nonce, aad) = self.nonce_and_aad(message);
        let opened = self.key.open_in_place(nonce, aad, sealed);
        opened.map(|plaintext| &*plaintext).map_err(|_| Forged)
    }
}

/// XChaCha20-Poly1305 is ChaCha20-Poly1305 under HChaCha20(key, first 16 bytes of the nonce), and
/// those are zeros here: one HChaCha20 serves the whole chunk, and the AEAD is the fast one of
/// aws-lc (facts/codecs.md section 3: 1.8 times the `chacha20poly1305` crate).
fn aead_key(suite: Suite, key: &[u8; 32]) -> LessSafeKey {
    let unbound = match suite {
        Suite::XChaCha20Poly1305 => {
            let subkey = chacha20::hchacha::<chacha20::R20>(&(*key).into(), &[0; 16].into());
            UnboundKey::new(&CHACHA20_POLY1305, &subkey)
        }
        Suite::Aes256Gcm => UnboundKey::new(&AES_256_GCM, key),
    };
    LessSafeKey::new(unbound.expect("both suites take keys of 32 bytes"))
}

#[cfg(test)]
mod tests {
    use chacha20poly1305::aead::{Aead, KeyInit, Payload};

    use super::*;
    use pangea_base::Secret;

    fn keys(suite: Suite, salt: [u8; 16]) -> (ContentKey, ChunkKeys) {
        let content = ContentKey(Secret::new([9; 32]));
        let keys = ChunkKeys::new(&content, ChunkNumber(5), suite, 17, &salt);
        (content, keys)
    }

    #[test]
    fn xchacha_gives_the_bytes_of_the_chacha20poly1305_crate() {
        let (content, keys) = keys(Suite::XChaCha20Poly1305, [3; 16]);
        let secret = content.chunk_key(5, 1, &[3; 16]);
        let oracle = chacha20poly1305::XChaCha20Poly1305::new(&(*secret.expose()).into());
        for (number, length) in [(0u32, 0usize), (1, 1), (7, 63), (8, 64), (70_000, 131_072)] {
            let plaintext: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
            let word = format::word(format::Stored::Raw, length);
            let mut aad = format::header(Suite::XChaCha20Poly1305, 17, &[3; 16]).to_vec();
            aad.extend(5u32.to_le_bytes());
            aad.extend(number.to_le_bytes());
            aad.extend(word.to_le_bytes());
            let mut nonce = [0; 24];
            nonce[19..23].copy_from_slice(&number.to_be_bytes());
            let payload = Payload { msg: &plaintext, aad: &aad };
            let expected = oracle.encrypt(&nonce.into(), payload).unwrap();
            let mut sealed = vec![0; length + TAG_BYTES];
            keys.seal(Message::Segment(number, word), &plaintext, &mut sealed);
            assert_eq!(sealed, expected, "{length} bytes");
            let mut in_place = plaintext.clone();
            in_place.extend([0; TAG_BYTES]);
            keys.seal_in_place(Message::Segment(number, word), &mut in_place);
            assert_eq!(in_place, expected);
        }
    }

    #[test]
    fn a_message_opens_only_at_its_own_place() {
        for suite in [Suite::XChaCha20Poly1305, Suite::Aes256Gcm] {
            let (_, keys_a) = keys(suite, [3; 16]);
            let (_, keys_b) = keys(suite, [4; 16]);
            let mut sealed = [0; 10 + TAG_BYTES];
            keys_a.seal(Message::Segment(1, 10), &[7; 10], &mut sealed);
            let mut out = [0; 10];
            assert_eq!(keys_a.open(Message::Segment(1, 10), &sealed, &mut out), Ok(()));
            assert_eq!(out, [7; 10]);
            for wrong in [Message::Segment(0, 10), Message::Segment(1, 11), Message::Footer(10)] {
                assert_eq!(keys_a.open(wrong, &sealed, &mut out), Err(Forged));
                assert_eq!(out, [0; 10], "what did not verify is wiped");
            }
            assert_eq!(keys_b.open(Message::Segment(1, 10), &sealed, &mut out), Err(Forged));
            assert_eq!(keys_a.open(Message::Segment(1, 10), &sealed[..15], &mut []), Err(Forged));
        }
    }
}
