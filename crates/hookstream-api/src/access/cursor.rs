//! Cursors of pages: where a list goes on, in a form that only we can make.
//!
//! A cursor belongs to one list of one account: anywhere else it is refused, as is one that was changed.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hookstream_types::{AccountUid, Secret};
use sha2::Sha256;

const TAG_BYTES: usize = 16;
/// The longest cursor that is looked at, as text.
pub const MAX_CURSOR_BYTES: usize = 1024;
/// Part of what is authenticated, so that the form can change.
const VERSION: &[u8] = b"hookstream-cursor-1";

/// A text that is no cursor of this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cursor is not one of this list: begin without one")]
pub struct BadCursor;

/// Makes and reads cursors: the first key makes, all read.
#[derive(Clone)]
pub struct Cursors {
    keys: Vec<Hmac<Sha256>>,
}

/// Whose list it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List<'a> {
    /// Which list, with what filters: `deliveries?webhook=…`.
    pub name: &'a str,
    /// None for the list over every account.
    pub account: Option<AccountUid>,
}

impl Cursors {
    /// # Panics
    /// If there is no key.
    #[must_use]
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a Secret>) -> Self {
        let hmac = |key: &Secret| Hmac::new_from_slice(key.expose()).expect("HMAC takes keys of any length");
        let keys: Vec<_> = keys.into_iter().map(hmac).collect();
        assert!(!keys.is_empty(), "cursors need a key");
        Self { keys }
    }

    #[must_use]
    pub fn make(&self, list: &List<'_>, position: &[u8]) -> String {
        let mut cursor = tag(&self.keys[0], list, position).finalize().into_bytes()[..TAG_BYTES].to_vec();
        cursor.extend_from_slice(position);
        URL_SAFE_NO_PAD.encode(cursor)
    }

    /// The position in a cursor.
    ///
    /// # Errors
    /// [`BadCursor`] if it was not made for this list by one of the keys.
    pub fn read(&self, list: &List<'_>, cursor: &str) -> Result<Vec<u8>, BadCursor> {
        if cursor.len() > MAX_CURSOR_BYTES {
            return Err(BadCursor);
        }
        let decoded = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| BadCursor)?;
        let (found, position) = decoded.split_at_checked(TAG_BYTES).ok_or(BadCursor)?;
        let made_by = |key| tag(key, list, position).verify_truncated_left(found).is_ok();
        if self.keys.iter().any(made_by) { Ok(position.to_vec()) } else { Err(BadCursor) }
    }
}

impl fmt::Debug for Cursors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cursors({} keys)", self.keys.len())
    }
}

/// Each part after its length, so that no two lists of parts give the same bytes.
fn tag(key: &Hmac<Sha256>, list: &List<'_>, position: &[u8]) -> Hmac<Sha256> {
    let mut mac = key.clone();
    let account = list.account.as_ref().map_or(&[][..], |account| account.0.as_bytes());
    for part in [VERSION, list.name.as_bytes(), account, position] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn cursors(keys: &[u8]) -> Cursors {
        let keys: Vec<Secret> = keys.iter().map(|byte| Secret::new(vec![*byte; 32])).collect();
        Cursors::new(&keys)
    }

    fn list(name: &str, account: u128) -> List<'_> {
        List { name, account: (account != 0).then_some(AccountUid(Uuid::from_u128(account))) }
    }

    #[test]
    fn a_cursor_is_of_one_list_of_one_account() {
        let cursors = cursors(&[1]);
        let cursor = cursors.make(&list("deliveries", 0xa), b"p3@17");
        assert_eq!(cursors.read(&list("deliveries", 0xa), &cursor).unwrap(), b"p3@17");
        for other in [list("deliveries", 0xb), list("deliveries", 0), list("events", 0xa), list("", 0xa)] {
            assert_eq!(cursors.read(&other, &cursor), Err(BadCursor), "{other:?}");
        }
        // A cursor over every account is not one of an account.
        let of_all = cursors.make(&list("deliveries", 0), b"p3@17");
        assert_eq!(cursors.read(&list("deliveries", 0xa), &of_all), Err(BadCursor));
    }

    #[test]
    fn keys_rotate() {
        let cursor = cursors(&[1]).make(&list("x", 1), b"");
        assert!(cursors(&[2, 1]).read(&list("x", 1), &cursor).is_ok());
        assert!(cursors(&[2]).read(&list("x", 1), &cursor).is_err());
    }

    proptest! {
        #[test]
        fn what_is_changed_is_refused(position in prop::collection::vec(any::<u8>(), 0..64), at in 0usize..80, bit in 0u8..8) {
            let cursors = cursors(&[1]);
            let cursor = cursors.make(&list("x", 1), &position);
            prop_assert_eq!(cursors.read(&list("x", 1), &cursor), Ok(position));
            let mut bytes = URL_SAFE_NO_PAD.decode(&cursor).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(cursors.read(&list("x", 1), &URL_SAFE_NO_PAD.encode(&bytes)), Err(BadCursor));
            bytes.truncate(at);
            prop_assert_eq!(cursors.read(&list("x", 1), &URL_SAFE_NO_PAD.encode(bytes)), Err(BadCursor));
        }

        #[test]
        fn any_text_is_read_without_panic(text in ".{0,200}") {
            prop_assert_eq!(cursors(&[1]).read(&list("x", 1), &text), Err(BadCursor));
        }
    }
}
