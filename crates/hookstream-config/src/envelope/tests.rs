use hookstream_types::WebhookId;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn key(byte: u8) -> SecretString {
    SecretString::new(STANDARD.encode([byte; KEY_BYTES]))
}

fn ring(bytes: &[u8]) -> Keyring {
    let keys: Vec<_> = bytes.iter().map(|byte| key(*byte)).collect();
    Keyring::from_keys(&keys).unwrap()
}

fn account(n: u128) -> AccountUid {
    AccountUid(Uuid::from_u128(n))
}

fn webhook(n: u128) -> Key {
    Key::Webhook(WebhookId(Uuid::from_u128(n)))
}

/// Counts upwards: different each time and the same in each run.
fn counter() -> impl FnMut(&mut [u8]) {
    let mut next = 0u8;
    move |bytes: &mut [u8]| {
        for byte in bytes {
            *byte = next;
            next = next.wrapping_add(1);
        }
    }
}

#[test]
fn what_was_sealed_opens() {
    let mut fill = counter();
    let ring = ring(&[1]);
    let data_key = ring.data_key(account(1), &ring.new_data_key(account(1), &mut fill)).unwrap();
    let record = webhook(1);
    let place = Place { account: account(1), record: &record, field: "secret" };
    let sealed = data_key.seal(&place, b"hush", &mut fill);
    assert!(!sealed.ciphertext.windows(4).any(|bytes| bytes == b"hush"));
    assert_eq!(data_key.open(&place, &sealed).unwrap().expose(), b"hush");
    assert_ne!(data_key.seal(&place, b"hush", &mut fill), sealed, "each sealing has a nonce of its own");
}

/// The envelope is stored for years: this one must open for ever.
#[test]
fn golden_envelope() {
    let mut fill = counter();
    let ring = ring(&[1]);
    let wrapped = ring.new_data_key(account(1), &mut fill);
    assert_eq!(wrapped.key, "72cd6e84");
    let data_key = ring.data_key(account(1), &wrapped).unwrap();
    let record = webhook(1);
    let sealed =
        data_key.seal(&Place { account: account(1), record: &record, field: "secret" }, b"hush", &mut fill);
    assert_eq!(
        STANDARD.encode(&wrapped.ciphertext),
        "IGPy+dLEQ+ycKlRCq+dMhkhu51FdTZ2GvLuIZU3NQttWZFFduxh4KQkExYtT8zPw"
    );
    assert_eq!(STANDARD.encode(&sealed.ciphertext), "ZtOXzZolW0FpMV87YH0PHmjswpk=");
}

#[test]
fn a_value_opens_only_where_it_was_put() {
    let mut fill = counter();
    let ring = ring(&[1]);
    let wrapped = ring.new_data_key(account(1), &mut fill);
    let data_key = ring.data_key(account(1), &wrapped).unwrap();
    let (one, two) = (webhook(1), webhook(2));
    let sealed =
        data_key.seal(&Place { account: account(1), record: &one, field: "secret" }, b"hush", &mut fill);

    let open = |record, field| data_key.open(&Place { account: account(1), record, field }, &sealed);
    assert_eq!(open(&two, "secret").unwrap_err(), OpenError::Forged, "another webhook");
    assert_eq!(open(&one, "header/x").unwrap_err(), OpenError::Forged, "another field");
    assert_eq!(
        ring.data_key(account(2), &wrapped).unwrap_err(),
        OpenError::Forged,
        "another account's data key"
    );
    let other = ring.data_key(account(2), &ring.new_data_key(account(2), &mut fill)).unwrap();
    let place = Place { account: account(2), record: &one, field: "secret" };
    assert!(matches!(other.open(&place, &sealed), Err(OpenError::UnknownKey { .. })), "another account");
}

#[test]
fn damage_is_an_error() {
    let mut fill = counter();
    let ring = ring(&[1]);
    let data_key = ring.data_key(account(1), &ring.new_data_key(account(1), &mut fill)).unwrap();
    let record = webhook(1);
    let place = Place { account: account(1), record: &record, field: "secret" };
    let sealed = data_key.seal(&place, b"hush", &mut fill);
    let with = |change: &dyn Fn(&mut Sealed)| {
        let mut sealed = sealed.clone();
        change(&mut sealed);
        data_key.open(&place, &sealed).unwrap_err()
    };
    assert_eq!(with(&|s| s.ciphertext.truncate(15)), OpenError::Damaged);
    assert_eq!(with(&|s| s.ciphertext.truncate(16)), OpenError::Forged);
    assert_eq!(with(&|s| s.ciphertext.clear()), OpenError::Damaged);
    assert_eq!(with(&|s| s.nonce.truncate(23)), OpenError::Damaged);
    assert_eq!(with(&|s| s.nonce.push(0)), OpenError::Damaged);
    assert_eq!(with(&|s| s.nonce[0] ^= 1), OpenError::Forged);
    assert_eq!(with(&|s| s.key = "ffffffff".into()), OpenError::UnknownKey { key: "ffffffff".into() });
}

#[test]
fn rotation_keeps_what_was_sealed() {
    let mut fill = counter();
    let (old, both, new) = (ring(&[1]), ring(&[2, 1]), ring(&[2]));
    let wrapped = old.new_data_key(account(1), &mut fill);
    let record = webhook(1);
    let place = Place { account: account(1), record: &record, field: "secret" };
    let sealed = old.data_key(account(1), &wrapped).unwrap().seal(&place, b"hush", &mut fill);

    assert!(matches!(new.data_key(account(1), &wrapped), Err(OpenError::UnknownKey { .. })));
    let rewrapped = both.rewrap(account(1), &wrapped, &mut fill).unwrap().unwrap();
    assert_eq!(both.rewrap(account(1), &rewrapped, &mut fill).unwrap(), None);
    let data_key = new.data_key(account(1), &rewrapped).unwrap();
    assert_eq!(data_key.open(&place, &sealed).unwrap().expose(), b"hush");
}

/// What somebody with write access to the topic, a damaged disk or an old key may hand us (corpus `secret_at_rest`).
#[test]
fn bad_sealed_values() {
    let mut fill = counter();
    let ring = ring(&[1]);
    let wrapped = ring.new_data_key(account(1), &mut fill);
    let data_key = ring.data_key(account(1), &wrapped).unwrap();
    let record = webhook(1);
    let place = Place { account: account(1), record: &record, field: "secret" };
    let sealed = data_key.seal(&place, b"hush", &mut fill);
    let empty = Sealed { ciphertext: Vec::new(), ..sealed.clone() };
    let tag_only = Sealed { ciphertext: sealed.ciphertext[4..].to_vec(), ..sealed.clone() };
    let nothing = Sealed { nonce: Vec::new(), ciphertext: Vec::new(), ..sealed.clone() };
    let no_key = Sealed { key: String::new(), ..sealed.clone() };
    let other_nonce = Sealed { nonce: wrapped.nonce.clone(), ..sealed.clone() };
    let longer = Sealed { ciphertext: [&*sealed.ciphertext, b"x"].concat(), ..sealed.clone() };
    for (bad, error) in [
        (empty, OpenError::Damaged),
        (nothing, OpenError::Damaged),
        (tag_only, OpenError::Forged),
        (no_key, OpenError::UnknownKey { key: String::new() }),
        (other_nonce, OpenError::Forged),
        (longer, OpenError::Forged),
        // A data key where a secret should be.
        (wrapped.clone(), OpenError::UnknownKey { key: wrapped.key.clone() }),
        (Sealed { key: sealed.key.clone(), ..wrapped.clone() }, OpenError::Forged),
    ] {
        assert_eq!(data_key.open(&place, &bad).unwrap_err(), error, "{bad:?}");
    }
    // And a secret where a data key should be.
    let as_data_key = Sealed { key: wrapped.key.clone(), ..sealed };
    assert_eq!(ring.data_key(account(1), &as_data_key).unwrap_err(), OpenError::Forged);
    assert_eq!(
        ring.data_key(account(1), &Sealed { ciphertext: Vec::new(), ..wrapped }).unwrap_err(),
        OpenError::Damaged
    );
}

/// An older key opens as long as it is there, wherever it stands in the list.
#[test]
fn an_older_key_opens() {
    let mut fill = counter();
    let wrapped = ring(&[1]).new_data_key(account(1), &mut fill);
    for keys in [&[1u8] as &[u8], &[2, 1], &[1, 2], &[3, 2, 1], &[2, 1, 3]] {
        assert!(ring(keys).data_key(account(1), &wrapped).is_ok(), "{keys:?}");
    }
    assert_eq!(ring(&[3, 2, 1]).ids().count(), 3);
    assert_eq!(ring(&[3, 2, 1]).ids().next(), Some(ring(&[3]).newest()));
}

/// A row of one account under another's, with its data key or without (corpus `tenant_isolation-008`).
#[test]
fn a_row_of_another_account_does_not_open() {
    let mut fill = counter();
    let ring = ring(&[1]);
    let wrapped: Vec<_> = (1..=2).map(|n| ring.new_data_key(account(n), &mut fill)).collect();
    let open_key = |n: u128, wrapped: &Sealed| ring.data_key(account(n), wrapped);
    let (mine, theirs) = (open_key(1, &wrapped[0]).unwrap(), open_key(2, &wrapped[1]).unwrap());
    let record = webhook(1);
    let place = |n| Place { account: account(n), record: &record, field: "secret" };
    let pasted = theirs.seal(&place(2), b"hush", &mut fill);
    assert!(matches!(mine.open(&place(1), &pasted), Err(OpenError::UnknownKey { .. })));
    let relabelled = Sealed { key: mine.seal(&place(1), b"", &mut fill).key, ..pasted };
    assert_eq!(mine.open(&place(1), &relabelled).unwrap_err(), OpenError::Forged);
    assert_eq!(open_key(1, &wrapped[1]).unwrap_err(), OpenError::Forged);
}

#[test]
fn what_is_no_key() {
    let error = |text: &str| Keyring::from_key(&SecretString::new(text.into())).unwrap_err();
    assert_eq!(error("not base64!"), KeyError::NotBase64);
    assert_eq!(error("c2hvcnQ="), KeyError::WrongLength { found: 5 });
    assert_eq!(error(" \n"), KeyError::Missing);
    assert_eq!(Keyring::from_keys([]).unwrap_err(), KeyError::Missing);
    let with_newline = SecretString::new(format!("{}\n", key(1).expose()));
    assert_eq!(Keyring::from_key(&with_newline).unwrap().newest(), "72cd6e84", "files end with a newline");
}

#[test]
fn keys_are_not_printed() {
    assert_eq!(format!("{:?}", ring(&[1])), r#"["72cd6e84"]"#);
}

proptest! {
    #[test]
    fn garbage_never_panics(nonce in prop::collection::vec(any::<u8>(), 0..32), ciphertext in prop::collection::vec(any::<u8>(), 0..80)) {
        let ring = ring(&[1]);
        let sealed = Sealed { key: ring.newest().to_owned(), nonce, ciphertext };
        prop_assert!(ring.data_key(account(1), &sealed).is_err());
    }

    #[test]
    fn any_secret_comes_back(secret in prop::collection::vec(any::<u8>(), 0..200), field in ".{0,10}") {
        let mut fill = counter();
        let ring = ring(&[1]);
        let data_key = ring.data_key(account(1), &ring.new_data_key(account(1), &mut fill)).unwrap();
        let record = webhook(1);
        let place = Place { account: account(1), record: &record, field: &field };
        let sealed = data_key.seal(&place, &secret, &mut fill);
        let opened = data_key.open(&place, &sealed).unwrap();
        prop_assert_eq!(opened.expose(), secret.as_slice());
    }
}
