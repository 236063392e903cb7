//! XChaCha20-Poly1305 over pages and the label.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use pangea_base::{ContentKey, Secret, VerifyKey};

use super::{Level, ManifestInvalid};
use crate::Label;
use crate::limits::LABEL_BYTES_MAX;

/// The version that is written.
pub(super) const VERSION: u8 = 2;
/// The version that is read too: its root does not say who the owner is.
pub(super) const VERSION_OLD: u8 = 1;
pub(super) const SALT_BYTES: usize = 16;
pub(super) const TAG_BYTES: usize = 16;
/// Length byte and text, padded so that the length of a name does not show; and the tag.
pub(super) const SEALED_LABEL_BYTES: usize = LABEL_BYTES_MAX + 1 + TAG_BYTES;

pub(super) type Salt = [u8; SALT_BYTES];

/// The key of all pages of one manifest, with the salt that keeps it apart from every other
/// manifest under the same key.
pub(super) struct PageSealer {
    key: Secret,
    place: Place,
}

/// What all pages of one manifest, and its label, are sealed with beside their key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Of the manifest; authenticated with every page, so that none passes for one of another.
    pub(super) version: u8,
    pub(super) salt: Salt,
}

impl PageSealer {
    pub(super) fn new(key: &VerifyKey, version: u8, salt: Salt) -> PageSealer {
        PageSealer { key: key.manifest_key(), place: Place { version, salt } }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn seal(&self, level: Level, number: u32, page: &mut Vec<u8>) {
        seal(&self.key, &self.place, level, number, page);
    }

    pub(super) fn open(
        &self,
        level: Level,
        number: u32,
        sealed: &[u8],
    ) -> Result<Vec<u8>, ManifestInvalid> {
        open(&self.key, &self.place, level, number, sealed).ok_or(ManifestInvalid::Key)
    }
}

impl std::fmt::Debug for PageSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PageSealer(..)")
    }
}

pub(super) fn seal_label(key: &ContentKey, place: &Place, label: &Label) -> Vec<u8> {
    let text = label.as_str().as_bytes();
    let mut page = vec![u8::try_from(text.len()).expect("a label has at most 255 bytes")];
    page.extend_from_slice(text);
    page.resize(LABEL_BYTES_MAX.saturating_add(1), 0);
    seal(&key.label_key(), place, Level::Label, 0, &mut page);
    page
}

pub(super) fn open_label(
    key: &ContentKey,
    place: &Place,
    sealed: &[u8],
) -> Result<Label, ManifestInvalid> {
    if sealed.len() != SEALED_LABEL_BYTES {
        return Err(ManifestInvalid::SealedLabel);
    }
    let page = open(&key.label_key(), place, Level::Label, 0, sealed)
        .ok_or(ManifestInvalid::SealedLabel)?;
    let (length, padded) = page.split_first().ok_or(ManifestInvalid::SealedLabel)?;
    let (text, padding) =
        padded.split_at_checked(usize::from(*length)).ok_or(ManifestInvalid::SealedLabel)?;
    if padding.iter().any(|byte| *byte != 0) {
        return Err(ManifestInvalid::SealedLabel);
    }
    Ok(Label::from_bytes(text)?)
}

fn seal(key: &Secret, place: &Place, level: Level, number: u32, page: &mut Vec<u8>) {
    cipher(key)
        .encrypt_in_place(&nonce(&place.salt, level, number), &[place.version], page)
        .expect("a page is far below the cipher's limit");
}

fn open(key: &Secret, place: &Place, level: Level, number: u32, sealed: &[u8]) -> Option<Vec<u8>> {
    let mut page = sealed.to_vec();
    let nonce = nonce(&place.salt, level, number);
    cipher(key).decrypt_in_place(&nonce, &[place.version], &mut page).ok()?;
    Some(page)
}

fn cipher(key: &Secret) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&Key::from(*key.expose()))
}

/// salt (16) | level (1) | 0 (3) | number (4, little-endian). A manifest draws a fresh salt, and
/// within it every page has a level and number of its own, so none repeats.
fn nonce(salt: &Salt, level: Level, number: u32) -> XNonce {
    let mut nonce = [0; 24];
    let number = number.to_le_bytes();
    let place = [level as u8, 0, 0, 0];
    let bytes = salt.iter().chain(&place).chain(&number);
    nonce.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    XNonce::from(nonce)
}

/// Seals any bytes as a label, for labels that [`seal_label`] cannot make.
#[cfg(test)]
pub(super) fn tests_seal(key: &Secret, place: &Place, page: &mut Vec<u8>) {
    seal(key, place, Level::Label, 0, page);
}
