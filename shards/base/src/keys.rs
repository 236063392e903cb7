use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{Entropy, Locator};

/// 32 secret bytes: boxed, wiped when dropped, never shown, never compared with `==`.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Secret(Box<[u8; 32]>);

impl Secret {
    /// Takes the bytes over; the caller's copy is wiped.
    pub fn new(mut bytes: [u8; 32]) -> Secret {
        let secret = Secret(Box::new(bytes));
        bytes.zeroize();
        secret
    }

    /// The bytes themselves. Handle with care: never into a log, an error or Debug.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    fn derive(&self, context: &str) -> Secret {
        Secret::new(blake3::derive_key(context, self.expose()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// R: 32 random bytes made by the origin. Who has it can find, verify and decrypt the object.
#[derive(Debug)]
pub struct ReadKey(pub Secret);

/// V = derive_key("pangea verify", R): finds and verifies, decrypts nothing.
#[derive(Debug)]
pub struct VerifyKey(pub Secret);

/// derive_key("pangea content", R): what each chunk's key is derived from.
#[derive(Debug)]
pub struct ContentKey(pub Secret);

impl ReadKey {
    /// A fresh key from the origin's entropy.
    pub fn generate(entropy: &mut Entropy) -> ReadKey {
        ReadKey(Secret::new(entropy.array()))
    }

    /// V, the verify key.
    pub fn verify_key(&self) -> VerifyKey {
        VerifyKey(self.0.derive("pangea 2026-11 v1 verify"))
    }

    /// The content key.
    pub fn content_key(&self) -> ContentKey {
        ContentKey(self.0.derive("pangea 2026-11 v1 content"))
    }
}

impl VerifyKey {
    /// The object's public name. It gives away nothing of the object and nothing of the keys.
    pub fn locator(&self) -> Locator {
        Locator(*self.0.derive("pangea 2026-11 v1 locate").expose())
    }

    /// The key that seals the manifest's pages.
    pub fn manifest_key(&self) -> Secret {
        self.0.derive("pangea 2026-11 v1 manifest")
    }
}

impl ContentKey {
    /// The key of one chunk: bound to its number, its suite and the salt in its header, so no two
    /// encodes of a chunk share a key.
    pub fn chunk_key(&self, chunk: u32, suite: u8, salt: &[u8; 16]) -> Secret {
        let mut hasher = blake3::Hasher::new_derive_key("pangea 2026-11 v1 chunk");
        hasher.update(self.0.expose());
        hasher.update(&chunk.to_le_bytes());
        hasher.update(&[suite]);
        hasher.update(salt);
        Secret::new(*hasher.finalize().as_bytes())
    }

    /// The key that seals the object's name and other labels inside the manifest.
    pub fn label_key(&self) -> Secret {
        self.0.derive("pangea 2026-11 v1 label")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_shows_a_key() {
        let key = ReadKey(Secret::new([0xab; 32]));
        let shown = format!("{key:?} {:?} {:?}", key.verify_key(), key.content_key());
        assert!(!shown.contains("ab") && !shown.contains("171"), "{shown}");
    }

    #[test]
    fn every_purpose_has_a_key_of_its_own() {
        let read = ReadKey(Secret::new([1; 32]));
        let verify = read.verify_key();
        let content = read.content_key();
        let all = [
            *read.0.expose(),
            *verify.0.expose(),
            *content.0.expose(),
            verify.locator().0,
            *verify.manifest_key().expose(),
            *content.label_key().expose(),
            *content.chunk_key(0, 1, &[0; 16]).expose(),
            *content.chunk_key(1, 1, &[0; 16]).expose(),
            *content.chunk_key(0, 2, &[0; 16]).expose(),
            *content.chunk_key(0, 1, &[1; 16]).expose(),
        ];
        for (i, a) in all.iter().enumerate() {
            for b in &all[..i] {
                assert_ne!(a, b);
            }
        }
    }
}
