//! Secrets in the configuration: key-encryption key → the account's data key → each secret.
//!
//! - The *key-encryption key* (KEK, 32 bytes) comes from the operator and is never stored. A [`Keyring`] holds
//!   several while one is being rotated out: the newest seals, all of them open. Its id is the first 8 hex digits
//!   of its SHA-256.
//! - Each account has a random *data key*, which stands in the account's record sealed by a KEK. Rotating the KEK
//!   re-seals the data keys only; deleting the account's record destroys its secrets.
//! - Secrets are sealed with XChaCha20-Poly1305 (random 24-byte nonces need no counter) under the data key. The
//!   associated data are the account, the record, the field and the envelope's version, so that a sealed value
//!   opens only where it was put.
//!
//! Randomness is an argument ([`Fill`]), so that tests repeat; [`os_random`] is for all else.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac as _};
use hookstream_types::{AccountUid, Secret, SecretString};
use hookstream_wire::config::{Key, Sealed};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Fills a slice with random bytes.
pub type Fill<'a> = &'a mut dyn FnMut(&mut [u8]);

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
/// Version of the envelope, part of the associated data.
const VERSION: u8 = 1;

/// Randomness of the operating system.
pub fn os_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system gives random bytes once it has started");
}

/// 32 bytes that encrypt, and their id.
#[derive(Clone)]
struct SecretKey {
    id: String,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

/// The operator's key-encryption keys, the newest first.
#[derive(Clone)]
pub struct Keyring {
    keys: Vec<SecretKey>,
}

/// Why a text is no key-encryption key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("the key is not base64: make one with `openssl rand -base64 32`")]
    NotBase64,
    #[error("the key has {found} bytes instead of 32: make one with `openssl rand -base64 32`")]
    WrongLength { found: usize },
    #[error("no key is given: make one with `openssl rand -base64 32`")]
    Missing,
}

/// Why a sealed value can't be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error(
        "it is sealed by the key `{key}`, which is not among the configured keys: add it to `secrets.previous_keys`"
    )]
    UnknownKey { key: String },
    #[error("the sealed value is damaged: its nonce or length is wrong")]
    Damaged,
    #[error("the sealed value was changed, or belongs to another account, record or field")]
    Forged,
    #[error("the account's record, which holds the data key, is missing")]
    NoAccount,
    #[error("the authorization that it uses is missing")]
    NoAuthorization,
}

/// Where a sealed value stands.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub account: AccountUid,
    pub record: &'a Key,
    pub field: &'a str,
}

/// An account's data key, opened.
#[derive(Clone)]
pub struct DataKey {
    key: SecretKey,
    account: AccountUid,
}

// === impl SecretKey ===

impl SecretKey {
    fn new(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let digest = Sha256::digest(bytes.as_slice());
        let id = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        Self { id, bytes }
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.bytes).into())
    }

    fn seal(&self, aad: &[u8], plaintext: &[u8], fill: Fill<'_>) -> Sealed {
        let mut nonce = [0; NONCE_BYTES];
        fill(&mut nonce);
        let ciphertext = self
            .cipher()
            .encrypt(&XNonce::from(nonce), Payload { msg: plaintext, aad })
            .expect("a plaintext that fits into memory is below the cipher's limit of 256 GiB");
        Sealed { key: self.id.clone(), nonce: nonce.to_vec(), ciphertext }
    }

    fn open(&self, aad: &[u8], sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        const TAG_BYTES: usize = 16;
        if sealed.key != self.id {
            return Err(OpenError::UnknownKey { key: sealed.key.clone() });
        }
        let nonce = <[u8; NONCE_BYTES]>::try_from(sealed.nonce.as_slice()).map_err(|_| OpenError::Damaged)?;
        if sealed.ciphertext.len() < TAG_BYTES {
            return Err(OpenError::Damaged);
        }
        self.cipher()
            .decrypt(&XNonce::from(nonce), Payload { msg: &sealed.ciphertext, aad })
            .map(Zeroizing::new)
            .map_err(|_| OpenError::Forged)
    }
}

// === impl Keyring ===

impl Keyring {
    /// One key: 32 bytes as base64 text.
    ///
    /// # Errors
    /// [`KeyError`] if the text is not that.
    pub fn from_key(key: &SecretString) -> Result<Self, KeyError> {
        Self::from_keys([key])
    }

    /// Several keys, the newest first.
    ///
    /// # Errors
    /// [`KeyError`] if one of them is no key, or there is none.
    pub fn from_keys<'a>(keys: impl IntoIterator<Item = &'a SecretString>) -> Result<Self, KeyError> {
        let keys = keys.into_iter().map(parse_key).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(KeyError::Missing);
        }
        Ok(Self { keys })
    }

    /// For who neither reads nor writes secrets: it opens none that anybody else sealed.
    #[must_use]
    pub fn blind(fill: Fill<'_>) -> Self {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        fill(bytes.as_mut_slice());
        Self { keys: vec![SecretKey::new(bytes)] }
    }

    /// The ids of the keys, that of the one that seals first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.id.as_str())
    }

    /// The id of the key that seals.
    #[must_use]
    pub fn newest(&self) -> &str {
        &self.sealing().id
    }

    /// Makes a data key for an account that has none.
    #[must_use]
    pub fn new_data_key(&self, account: AccountUid, fill: Fill<'_>) -> Sealed {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        fill(bytes.as_mut_slice());
        self.sealing().seal(&data_key_aad(account), bytes.as_slice(), fill)
    }

    /// Opens an account's data key.
    ///
    /// # Errors
    /// [`OpenError`] if no key of the ring sealed it, or not for this account.
    pub fn data_key(&self, account: AccountUid, sealed: &Sealed) -> Result<DataKey, OpenError> {
        let kek = self.keys.iter().find(|kek| kek.id == sealed.key);
        let kek = kek.ok_or_else(|| OpenError::UnknownKey { key: sealed.key.clone() })?;
        let plaintext = kek.open(&data_key_aad(account), sealed)?;
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        if plaintext.len() != KEY_BYTES {
            return Err(OpenError::Damaged);
        }
        bytes.copy_from_slice(&plaintext);
        Ok(DataKey { key: SecretKey::new(bytes), account })
    }

    /// The same data key, sealed by the newest key; none if it is that already.
    ///
    /// # Errors
    /// [`OpenError`] if the data key can't be opened.
    pub fn rewrap(
        &self,
        account: AccountUid,
        sealed: &Sealed,
        fill: Fill<'_>,
    ) -> Result<Option<Sealed>, OpenError> {
        if sealed.key == self.newest() {
            return Ok(None);
        }
        let data_key = self.data_key(account, sealed)?;
        Ok(Some(self.sealing().seal(&data_key_aad(account), data_key.key.bytes.as_slice(), fill)))
    }

    /// Keys for another purpose, one of each key of the ring, with its id; the newest first.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Vec<(String, Secret)> {
        let derived = |key: &SecretKey| {
            let mut mac =
                Hmac::<Sha256>::new_from_slice(key.bytes.as_slice()).expect("HMAC takes keys of any length");
            mac.update(purpose.as_bytes());
            (key.id.clone(), Secret::new(mac.finalize().into_bytes().to_vec()))
        };
        self.keys.iter().map(derived).collect()
    }

    fn sealing(&self) -> &SecretKey {
        self.keys.first().expect("a keyring is made of one key or more")
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.id)).finish()
    }
}

// === impl DataKey ===

impl DataKey {
    /// Seals a secret for one place.
    ///
    /// # Panics
    /// If the place is in another account.
    #[must_use]
    pub fn seal(&self, place: &Place<'_>, secret: &[u8], fill: Fill<'_>) -> Sealed {
        assert_eq!(place.account, self.account, "a data key seals its own account's secrets");
        self.key.seal(&place.aad(), secret, fill)
    }

    #[must_use]
    pub fn account(&self) -> AccountUid {
        self.account
    }

    /// Opens a secret that was sealed for this place.
    ///
    /// # Errors
    /// [`OpenError`] if it was sealed by another key or for another place, or is damaged.
    pub fn open(&self, place: &Place<'_>, sealed: &Sealed) -> Result<Secret, OpenError> {
        let mut plaintext = self.key.open(&place.aad(), sealed)?;
        Ok(Secret::new(std::mem::take(&mut *plaintext)))
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKey({})", self.key.id)
    }
}

// === impl Place ===

impl Place<'_> {
    fn aad(&self) -> Vec<u8> {
        framed(&[
            b"secret",
            self.account.0.as_bytes(),
            self.record.to_string().as_bytes(),
            self.field.as_bytes(),
        ])
    }
}

fn data_key_aad(account: AccountUid) -> Vec<u8> {
    framed(&[b"data-key", account.0.as_bytes()])
}

/// The version, then each part after its length, so that no two lists of parts give the same bytes.
fn framed(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![VERSION];
    for part in parts {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

fn parse_key(text: &SecretString) -> Result<SecretKey, KeyError> {
    let text = text.expose().trim();
    if text.is_empty() {
        return Err(KeyError::Missing);
    }
    let decoded = Zeroizing::new(STANDARD.decode(text).map_err(|_| KeyError::NotBase64)?);
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    if decoded.len() != KEY_BYTES {
        return Err(KeyError::WrongLength { found: decoded.len() });
    }
    bytes.copy_from_slice(&decoded);
    Ok(SecretKey::new(bytes))
}

#[cfg(test)]
mod tests;
