use std::sync::LazyLock;

use hmac::{Hmac, KeyInit as _, Mac as _};
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::Sha256;

use super::super::jwks::KeySet;
use super::super::testing::*;
use super::*;

static ED: LazyLock<Signer> = LazyLock::new(Signer::ed25519);
static P256: LazyLock<Signer> = LazyLock::new(Signer::p256);
static RSA: LazyLock<Signer> = LazyLock::new(Signer::rsa);

fn issuer() -> Issuer {
    Issuer::new(ISS.into(), AUDIENCE.into(), "https://issuer.example/jwks".into())
}

fn verify_with(issuer: &Issuer, token: &str) -> Result<Outside, Refused> {
    let set = json!({"keys": [ED.jwk("ed"), P256.jwk("p256"), RSA.jwk("rsa")]}).to_string();
    let keys = KeySet::parse(set.as_bytes()).unwrap();
    let token = Compact::parse(token)?;
    let key = token.kid.as_deref().and_then(|kid| keys.get(kid)).ok_or(Refused::UnknownKey)?;
    issuer.verify(&token, key, &ScopeMap::default(), NOW)
}

fn verify(token: &str) -> Result<Outside, Refused> {
    verify_with(&issuer(), token)
}

fn header(change: &Value) -> String {
    changed(json!({"alg": "EdDSA", "kid": "ed", "typ": "at+jwt"}), change)
}

fn with_header(change: Value) -> String {
    ED.token(&header(&change), &claims(&json!({})))
}

fn with_claims(change: Value) -> String {
    ED.token(&header(&json!({})), &claims(&change))
}

/// The token's first two parts with another signature.
fn resigned(token: &str, signature: &[u8]) -> String {
    let (signed, _) = token.rsplit_once('.').unwrap();
    format!("{signed}.{}", b64(signature))
}

fn hmac(key: &[u8], header: &str) -> String {
    let signed = format!("{}.{}", b64(header), b64(claims(&json!({}))));
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(signed.as_bytes());
    format!("{signed}.{}", b64(mac.finalize().into_bytes()))
}

#[test]
fn good_tokens() {
    for (signer, kid) in [(&*ED, "ed"), (&*P256, "p256"), (&*RSA, "rsa")] {
        let header = json!({"alg": signer.alg(), "kid": kid}).to_string();
        let outside = verify(&signer.token(&header, &claims(&json!({})))).unwrap();
        assert_eq!(outside.subject, "agency-7");
        assert_eq!(outside.account.as_deref(), Some("agency"));
        assert_eq!(outside.scopes, "webhooks:read".parse().unwrap());
    }
    let good = [
        with_header(json!({"typ": null})),
        with_header(json!({"typ": "JWT"})),
        with_header(json!({"typ": "application/AT+jwt"})),
        with_header(json!({"alg": "Ed25519"})),
        with_claims(json!({"aud": ["other-service", AUDIENCE]})),
        with_claims(json!({"iat": null})),
        with_claims(json!({"nbf": NOW_SECS})),
        // Within the leeway, and at its edges.
        with_claims(json!({"exp": NOW_SECS - 59})),
        with_claims(json!({"iat": NOW_SECS + 60, "nbf": NOW_SECS + 60})),
        with_claims(json!({"iat": NOW_SECS, "exp": NOW_SECS + 86_400})),
        // What is not looked at may be anything.
        with_claims(json!({"custom": {"deep": [1, 2.5, "x"]}})),
    ];
    for (n, token) in good.iter().enumerate() {
        assert!(verify(token).is_ok(), "{n}: {:?}", verify(token));
    }
}

#[test]
fn forged_headers_and_signatures() {
    let good = with_header(json!({}));
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let own_key = |key: &str, value: Value| with_header(json!({"kid": "stranger", key: value}));
    let stranger = Signer::ed25519();
    let claims = claims(&json!({}));
    let rsa_public = RSA.jwk("rsa");
    let n = rsa_public["n"].as_str().unwrap().as_bytes();
    let es256 = |signature: &[u8]| {
        resigned(&P256.token(&header(&json!({"alg": "ES256", "kid": "p256"})), &claims), signature)
    };
    let rs256 = RSA.token(&header(&json!({"alg": "RS256", "kid": "rsa"})), &claims);
    let table: Vec<(&str, String, Refused)> = vec![
        ("alg none", with_header(json!({"alg": "none"})), Refused::Algorithm),
        ("alg none, no signature", resigned(&with_header(json!({"alg": "none"})), b""), Refused::Algorithm),
        ("alg nOnE", resigned(&with_header(json!({"alg": "nOnE"})), b""), Refused::Algorithm),
        ("alg empty", with_header(json!({"alg": ""})), Refused::Algorithm),
        ("alg in another case", with_header(json!({"alg": "eddsa"})), Refused::Algorithm),
        ("alg missing", with_header(json!({"alg": null})), Refused::Header),
        ("alg a list", with_header(json!({"alg": ["EdDSA"]})), Refused::Header),
        ("empty signature", format!("{signed}."), Refused::Signature),
        ("empty RSA signature", resigned(&rs256, b""), Refused::Signature),
        ("RSA signature of zeros", resigned(&rs256, &[0; 256]), Refused::Signature),
        ("RSA signature of the length of another key", resigned(&rs256, &[1; 128]), Refused::Signature),
        ("psychic signature", es256(&[0; 64]), Refused::Signature),
        ("psychic signature in DER", es256(&[0x30, 6, 2, 1, 0, 2, 1, 0]), Refused::Signature),
        ("half a signature", es256(&[1; 32]), Refused::Signature),
        ("r and s of all ones", es256(&[0xff; 64]), Refused::Signature),
        ("Ed25519 signature of zeros", resigned(&good, &[0; 64]), Refused::Signature),
        (
            "HMAC with the public key",
            hmac(n, &header(&json!({"alg": "HS256", "kid": "rsa"}))),
            Refused::Algorithm,
        ),
        (
            "HMAC with the public key, called RS256",
            hmac(n, &header(&json!({"alg": "RS256", "kid": "rsa"}))),
            Refused::Signature,
        ),
        ("HMAC with an empty key", hmac(b"", &header(&json!({"alg": "HS256"}))), Refused::Algorithm),
        ("alg of another key", with_header(json!({"alg": "RS256"})), Refused::Algorithm),
        (
            "alg stronger than the key's",
            with_header(json!({"alg": "RS512", "kid": "rsa"})),
            Refused::Algorithm,
        ),
        ("PSS", with_header(json!({"alg": "PS256", "kid": "rsa"})), Refused::Algorithm),
        ("kid of another key", with_header(json!({"kid": "p256"})), Refused::Algorithm),
        ("kid unknown", with_header(json!({"kid": "unknown"})), Refused::UnknownKey),
        ("kid missing", with_header(json!({"kid": null})), Refused::UnknownKey),
        ("kid empty", with_header(json!({"kid": ""})), Refused::UnknownKey),
        ("kid a number", with_header(json!({"kid": 1})), Refused::Header),
        ("kid a path", with_header(json!({"kid": "../../dev/null"})), Refused::UnknownKey),
        ("kid SQL", with_header(json!({"kid": "x' UNION SELECT 'a"})), Refused::UnknownKey),
        ("signed by a stranger", stranger.token(&header(&json!({})), &claims), Refused::Signature),
        ("jku", own_key("jku", json!("https://attacker.example/jwks.json")), Refused::UnknownKey),
        ("x5u", own_key("x5u", json!("https://attacker.example/cert.pem")), Refused::UnknownKey),
        (
            "own jwk",
            stranger.token(&header(&json!({"jwk": stranger.jwk("ed")})), &claims),
            Refused::Signature,
        ),
        ("own certificate", stranger.token(&header(&json!({"x5c": ["MIIB"]})), &claims), Refused::Signature),
        ("crit b64", with_header(json!({"crit": ["b64"], "b64": false})), Refused::Critical),
        ("crit exp", with_header(json!({"crit": ["exp"]})), Refused::Critical),
        ("crit empty", with_header(json!({"crit": []})), Refused::Critical),
        ("alg twice", ED.token(r#"{"alg":"none","alg":"EdDSA","kid":"ed"}"#, &claims), Refused::Header),
        ("kid twice", ED.token(r#"{"alg":"EdDSA","kid":"x","kid":"ed"}"#, &claims), Refused::Header),
        ("typ of an ID token", with_header(json!({"typ": "id_token"})), Refused::Type),
        ("typ of a logout token", with_header(json!({"typ": "logout+jwt"})), Refused::Type),
        ("typ of a DPoP proof", with_header(json!({"typ": "dpop+jwt"})), Refused::Type),
        ("typ empty", with_header(json!({"typ": ""})), Refused::Type),
        ("typ a number", with_header(json!({"typ": 1})), Refused::Header),
        ("header no object", ED.token("[]", &claims), Refused::Header),
        ("header empty", ED.token("", &claims), Refused::Header),
        ("20,000 bytes", format!("{good}{}", "A".repeat(20_000)), Refused::TooLong),
        ("20,000 dots", ".".repeat(20_000), Refused::TooLong),
        ("8,000 dots", ".".repeat(8000), Refused::Malformed),
        ("no parts", "abc".into(), Refused::Malformed),
        ("empty", String::new(), Refused::Malformed),
        ("two parts", signed.into(), Refused::Malformed),
        ("five parts, as an encrypted one", format!("{good}.a.b"), Refused::Malformed),
        ("padding", format!("{good}=="), Refused::Malformed),
        ("a space", format!("{signed}. {signature}"), Refused::Malformed),
        ("a line break", format!("{good}\n"), Refused::Malformed),
        ("the other base64", format!("{signed}.++++"), Refused::Malformed),
        ("base64 with spare bits", format!("{signed}.AB"), Refused::Malformed),
        ("not ASCII", format!("{good}é"), Refused::Malformed),
    ];
    for (what, token, expected) in table {
        assert_eq!(verify(&token), Err(expected), "{what}");
    }
    // The same token, whole.
    assert!(verify(&good).is_ok());
}

#[test]
fn forged_claims() {
    let day = 86_400;
    let issuer_twice = claims(&json!({})).replacen('{', r#"{"iss":"https://attacker.example","#, 1);
    let table: Vec<(&str, Value, Refused)> = vec![
        ("no exp", json!({"exp": null}), Refused::Claim("exp")),
        ("exp a text", json!({"exp": "99999999999"}), Refused::Claim("exp")),
        ("exp a fraction", json!({"exp": 1_790_000_600.5}), Refused::Claim("exp")),
        ("exp a float", json!({"exp": 1_790_000_600.0}), Refused::Claim("exp")),
        ("exp absurd", json!({"exp": 1e308}), Refused::Claim("exp")),
        ("exp the largest", json!({"exp": i64::MAX}), Refused::Claim("exp")),
        ("exp larger than that", json!({"exp": u64::MAX}), Refused::Claim("exp")),
        ("exp negative", json!({"exp": -1}), Refused::Claim("exp")),
        ("exp true", json!({"exp": true}), Refused::Claim("exp")),
        ("exp a list", json!({"exp": [NOW_SECS + 600]}), Refused::Claim("exp")),
        ("exp zero", json!({"exp": 0}), Refused::Expired),
        ("exp in milliseconds", json!({"exp": (NOW_SECS + 600) * 1000}), Refused::Claim("exp")),
        ("expired", json!({"exp": NOW_SECS - 60}), Refused::Expired),
        ("valid for more than a day", json!({"iat": NOW_SECS, "exp": NOW_SECS + day + 1}), Refused::Lifetime),
        ("valid for a year", json!({"exp": NOW_SECS + 365 * day}), Refused::Lifetime),
        ("no iat, valid for long", json!({"iat": null, "exp": NOW_SECS + 2 * day}), Refused::Lifetime),
        ("iat long past", json!({"iat": 0}), Refused::Lifetime),
        ("issued in the future", json!({"iat": NOW_SECS + 600}), Refused::NotYet),
        ("iat a text", json!({"iat": NOW_SECS.to_string()}), Refused::Claim("iat")),
        ("iat a float", json!({"iat": 1.5}), Refused::Claim("iat")),
        ("iat the largest", json!({"iat": i64::MAX}), Refused::Claim("iat")),
        ("nbf a text", json!({"nbf": "99999999999"}), Refused::Claim("nbf")),
        ("nbf in the future", json!({"nbf": NOW_SECS + 61}), Refused::NotYet),
        ("nbf absurd", json!({"nbf": 1e308}), Refused::Claim("nbf")),
        ("nbf an object", json!({"nbf": {}}), Refused::Claim("nbf")),
        ("another audience", json!({"aud": "other-service"}), Refused::Audience),
        ("other audiences", json!({"aud": ["other-service", "third"]}), Refused::Audience),
        ("no audience", json!({"aud": null}), Refused::Claim("aud")),
        ("an empty audience", json!({"aud": ""}), Refused::Audience),
        ("an empty list of audiences", json!({"aud": []}), Refused::Audience),
        (
            "audience longer than ours",
            json!({"aud": format!("{AUDIENCE}.attacker.example")}),
            Refused::Audience,
        ),
        ("audience in another case", json!({"aud": AUDIENCE.to_uppercase()}), Refused::Audience),
        ("audiences of other types", json!({"aud": [AUDIENCE, 1]}), Refused::Claim("aud")),
        ("audience in a list in a list", json!({"aud": [[AUDIENCE]]}), Refused::Claim("aud")),
        ("audience an object", json!({"aud": {AUDIENCE: true}}), Refused::Claim("aud")),
        ("no issuer", json!({"iss": null}), Refused::Claim("iss")),
        (
            "issuer longer than ours",
            json!({"iss": "https://issuer.example.attacker.example"}),
            Refused::Issuer,
        ),
        ("issuer with a slash", json!({"iss": format!("{ISS}/")}), Refused::Issuer),
        ("issuer in another case", json!({"iss": "https://ISSUER.example"}), Refused::Issuer),
        ("issuer with a space", json!({"iss": format!(" {ISS}")}), Refused::Issuer),
        ("issuer a list", json!({"iss": [ISS]}), Refused::Claim("iss")),
        ("an ID token's nonce", json!({"nonce": "n"}), Refused::IdToken),
        ("an ID token's at_hash", json!({"at_hash": "h"}), Refused::IdToken),
        ("an ID token's c_hash", json!({"c_hash": ""}), Refused::IdToken),
        ("no subject", json!({"sub": null}), Refused::Claim("sub")),
        ("an empty subject", json!({"sub": ""}), Refused::Claim("sub")),
        ("subject a number", json!({"sub": 7}), Refused::Claim("sub")),
        ("no account", json!({"hookstream_account": null}), Refused::Account),
        ("an empty account", json!({"hookstream_account": ""}), Refused::Account),
        ("accounts", json!({"hookstream_account": ["agency", "other"]}), Refused::Claim("account")),
        ("scope a number", json!({"scope": 1}), Refused::Claim("scope")),
        ("scp of numbers", json!({"scp": [1]}), Refused::Claim("scp")),
        ("scp an object", json!({"scp": {}}), Refused::Claim("scp")),
        ("too many scopes", json!({"scope": "a ".repeat(257)}), Refused::Claim("scope")),
        ("access type a list", json!({"access_type": ["Agency Manager"]}), Refused::Claim("access type")),
    ];
    for (what, change, expected) in table {
        assert_eq!(verify(&with_claims(change)), Err(expected), "{what}");
    }
    assert_eq!(verify(&ED.token(&header(&json!({})), &issuer_twice)), Err(Refused::Claims), "iss twice");
    for bad in ["", "[]", "null", "{\"exp\":1", "\"{}\""] {
        assert_eq!(verify(&ED.token(&header(&json!({})), bad)), Err(Refused::Claims), "{bad}");
    }
    // JSON has no null among times: it is not the same as left out.
    let null = claims(&json!({"nbf": 0})).replace("\"nbf\":0", "\"nbf\":null");
    assert_eq!(verify(&ED.token(&header(&json!({})), &null)), Err(Refused::Claim("nbf")));
}

#[test]
fn scopes_are_mapped() {
    let scopes = |change: Value| verify(&with_claims(change)).unwrap().scopes.to_string();
    assert_eq!(scopes(json!({"scope": null})), "");
    assert_eq!(scopes(json!({"scope": "openid webhooks:write admin"})), "webhooks:write");
    assert_eq!(
        scopes(json!({"scope": null, "scp": ["history:read", "events:write"]})),
        "events:write history:read"
    );
    assert_eq!(scopes(json!({"scp": "history:read other"})), "webhooks:read history:read");
}

#[test]
fn what_an_issuer_is_configured_to() {
    let mut issuer = issuer();
    issuer.account_claim = "https://agencies.example/claims/agency".into();
    issuer.refused_claims = vec!["sid".into()];
    let token = with_claims(json!({"https://agencies.example/claims/agency": "seven"}));
    assert_eq!(verify_with(&issuer, &token).unwrap().account.as_deref(), Some("seven"));
    assert_eq!(verify_with(&issuer, &with_claims(json!({}))), Err(Refused::Account));
    assert_eq!(verify_with(&issuer, &with_claims(json!({"sid": 1}))), Err(Refused::IdToken));
    issuer.unbound = true;
    assert_eq!(verify_with(&issuer, &with_claims(json!({}))).unwrap().account, None);
}

proptest! {
    /// Of any text, and of any token with one byte changed, nothing is accepted and nothing panics.
    #[test]
    fn nothing_else_is_accepted(text in "[A-Za-z0-9_.{}\":-]{0,300}", at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        prop_assert!(verify(&text).is_err());
        let good = with_claims(json!({}));
        let mut bytes = good.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(changed) = String::from_utf8(bytes) && changed != good {
            prop_assert!(verify(&changed).is_err(), "{}", changed);
        }
    }

    #[test]
    fn headers_and_claims_of_any_form(header in "\\PC{0,60}", claims in "\\PC{0,60}") {
        prop_assert!(verify(&ED.token(&header, &claims)).is_err());
    }
}
