//! Registered API clients and their secrets.
//!
//! A secret is 32 random bytes, so nobody can guess it from its hash however fast the hash is: it is kept as one
//! HMAC-SHA256 under a random salt, and the slow hashes that passwords need would only cost time.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hookstream_types::{SecretString, UnixMillis};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq as _};

use super::Fill;
use super::principal::Bound;
use super::scope::{ScopeMap, Scopes};

/// What a client secret begins with, so that scanners of leaked secrets find it.
pub const SECRET_PREFIX: &str = "hsk_";
/// Valid secrets of a client: the old and the new one, while it rotates.
pub const MAX_SECRETS: usize = 2;
const SECRET_BYTES: usize = 32;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
/// The scheme in a hash's text, so that another can follow.
const SCHEME: &str = "hmac-sha256";

/// A secret as it is kept; its text is `hmac-sha256$<salt>$<hash>`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretHash {
    salt: [u8; SALT_BYTES],
    hash: [u8; HASH_BYTES],
}

/// A text that is no hash of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret's hash is `hmac-sha256$`, 16 bytes, `$`, 32 bytes, both base64url without padding")]
pub struct BadHash;

/// One of a client's secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientSecret {
    pub hash: SecretHash,
    /// From then on it is not valid; none: for as long as it stands here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixMillis>,
}

/// A registered client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRecord {
    pub id: String,
    /// Those beyond the first [`MAX_SECRETS`] that are valid are not looked at.
    pub secrets: Vec<ClientSecret>,
    /// Names, of ours or of the settings' [`ScopeMap`].
    pub scopes: Vec<String>,
    pub access_type: Option<String>,
    pub bound: Bound,
    pub enabled: bool,
}

/// Where registered clients are found.
pub trait Clients: Send + Sync {
    fn client(&self, id: &str) -> Option<ClientRecord>;
}

/// Makes a secret: what the client gets, once, and what is kept.
#[must_use]
pub fn new_secret(fill: Fill<'_>) -> (SecretString, SecretHash) {
    let mut bytes = [0; SECRET_BYTES];
    fill(&mut bytes);
    let secret = SecretString::new(format!("{SECRET_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)));
    let hash = SecretHash::new(&secret, fill);
    (secret, hash)
}

// === impl SecretHash ===

impl SecretHash {
    #[must_use]
    pub fn new(secret: &SecretString, fill: Fill<'_>) -> Self {
        let mut salt = [0; SALT_BYTES];
        fill(&mut salt);
        Self { salt, hash: keyed(&salt, secret) }
    }

    fn is_of(&self, secret: &SecretString) -> Choice {
        self.hash.ct_eq(&keyed(&self.salt, secret))
    }
}

fn keyed(salt: &[u8; SALT_BYTES], secret: &SecretString) -> [u8; HASH_BYTES] {
    let mut mac = Hmac::<Sha256>::new_from_slice(salt).expect("HMAC takes keys of any length");
    mac.update(secret.expose().as_bytes());
    mac.finalize().into_bytes().into()
}

impl fmt::Display for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}${}${}", URL_SAFE_NO_PAD.encode(self.salt), URL_SAFE_NO_PAD.encode(self.hash))
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

impl FromStr for SecretHash {
    type Err = BadHash;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        fn bytes<const N: usize>(text: &str) -> Result<[u8; N], BadHash> {
            URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(BadHash)
        }
        let mut parts = text.split('$');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(SCHEME), Some(salt), Some(hash), None) => {
                Ok(Self { salt: bytes(salt)?, hash: bytes(hash)? })
            }
            _ => Err(BadHash),
        }
    }
}

impl Serialize for SecretHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SecretHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

// === impl ClientRecord ===

impl ClientRecord {
    /// What all its scopes are worth.
    #[must_use]
    pub fn granted(&self, map: &ScopeMap) -> Scopes {
        let worth = |name: &String| map.grant(name, self.access_type.as_deref());
        self.scopes.iter().map(worth).fold(Scopes::NONE, Scopes::union)
    }
}

/// The client if `secret` is one of its valid ones and it is enabled.
///
/// The work is the same whether there is such a client or not, and whichever secret it is.
pub(super) fn verified(
    client: Option<ClientRecord>,
    secret: &SecretString,
    now: UnixMillis,
) -> Option<ClientRecord> {
    let valid = |secret: &&ClientSecret| secret.until.is_none_or(|until| now < until);
    let mut hashes =
        client.iter().flat_map(|client| &client.secrets).filter(valid).map(|secret| &secret.hash);
    let nobody = SecretHash { salt: [0; SALT_BYTES], hash: [0; HASH_BYTES] };
    let mut matches = Choice::from(0);
    for _ in 0..MAX_SECRETS {
        match hashes.next() {
            Some(hash) => matches |= hash.is_of(secret),
            // No secret is known whose hash is all zeros; even if one were, this does not count.
            None => matches |= nobody.is_of(secret) & Choice::from(0),
        }
    }
    drop(hashes);
    client.filter(|client| client.enabled && bool::from(matches))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::testing::filler;
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

    fn record(secrets: Vec<ClientSecret>) -> ClientRecord {
        ClientRecord {
            id: "agency".into(),
            secrets,
            scopes: vec!["webhooks:read".into()],
            access_type: None,
            bound: Bound::Account(hookstream_types::AccountUid(Uuid::from_u128(1))),
            enabled: true,
        }
    }

    fn secret(seed: u8, until: Option<UnixMillis>) -> (SecretString, ClientSecret) {
        let (text, hash) = new_secret(&mut filler(seed));
        (text, ClientSecret { hash, until })
    }

    #[test]
    fn secrets_are_random_and_found_by_scanners() {
        let (one, hash) = new_secret(&mut filler(1));
        let (two, _) = new_secret(&mut filler(2));
        assert!(one.expose().starts_with("hsk_"));
        assert_eq!(one.expose().len(), 4 + 43);
        assert_ne!(one.expose(), two.expose());
        // The same secret under another salt has another hash.
        assert_ne!(SecretHash::new(&one, &mut filler(9)), hash);
    }

    #[test]
    fn hashes_as_text() {
        let (text, hash) = new_secret(&mut filler(1));
        let kept = hash.to_string();
        assert_eq!(kept.parse(), Ok(hash.clone()));
        assert!(!kept.contains(&text.expose()[4..]));
        assert_eq!(serde_json::from_str::<SecretHash>(&serde_json::to_string(&hash).unwrap()).unwrap(), hash);
        assert_eq!(format!("{hash:?}"), "SecretHash(…)");
        for bad in ["", "hmac-sha256", "hmac-sha256$AA$AA", "sha256$$", &format!("{kept}$"), &kept[..70]] {
            assert_eq!(bad.parse::<SecretHash>(), Err(BadHash), "{bad}");
        }
    }

    #[test]
    fn two_secrets_while_one_rotates_out() {
        let (old_text, old) = secret(1, Some(NOW));
        let (new_text, new) = secret(2, None);
        let (third_text, third) = secret(3, None);
        let before = UnixMillis(NOW.0 - 1);
        let ok = |secrets: &[&ClientSecret], text: &SecretString, now| {
            let secrets = secrets.iter().map(|secret| (*secret).clone()).collect();
            verified(Some(record(secrets)), text, now).is_some()
        };
        assert!(ok(&[&old, &new], &old_text, before));
        assert!(ok(&[&old, &new], &new_text, before));
        assert!(!ok(&[&old, &new], &old_text, NOW), "rotated out");
        assert!(ok(&[&old, &new], &new_text, NOW));
        // What has run out takes no place.
        assert!(ok(&[&old, &new, &third], &third_text, NOW));
        assert!(!ok(&[&old, &new, &third], &third_text, before), "a third is not looked at");
        assert!(!ok(&[], &new_text, NOW));
    }

    #[test]
    fn nobody_is_let_in_who_is_not_a_client() {
        let (text, kept) = secret(1, None);
        assert!(verified(None, &text, NOW).is_none());
        let mut client = record(vec![kept]);
        assert!(verified(Some(client.clone()), &text, NOW).is_some());
        for wrong in ["", "hsk_", &text.expose()[..46], &format!("{}x", text.expose()), &text.expose()[4..]] {
            let wrong = SecretString::new(wrong.to_owned());
            assert!(verified(Some(client.clone()), &wrong, NOW).is_none());
        }
        client.enabled = false;
        assert!(verified(Some(client), &text, NOW).is_none());
    }
}
