use serde_json::{Value, json};
use uuid::Uuid;

use super::super::testing::*;
use super::*;

const APP: AppId = AppId(Uuid::from_u128(7));

fn key(byte: u8) -> Secret {
    Secret::new(vec![byte; 32])
}

fn tokens(kids: &[(&str, u8)]) -> AccessTokens {
    let keys = kids.iter().map(|(kid, byte)| ((*kid).to_owned(), key(*byte)));
    AccessTokens::new(keys, AUDIENCE.into(), DEFAULT_LIFETIME).unwrap()
}

fn grant(bound: Bound) -> Grant {
    let scopes = "webhooks:read events:write".parse().unwrap();
    Grant { client: "agency".into(), scopes, bound, access_type: Some("Agency Manager".into()) }
}

fn verify(tokens: &AccessTokens, token: &str, now: UnixMillis) -> Result<Grant, Refused> {
    tokens.verify(&Compact::parse(token)?, now)
}

fn signed(byte: u8, header: &Value, claims: &str) -> String {
    let signed = format!("{}.{}", b64(header.to_string()), b64(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(key(byte).expose()).unwrap();
    mac.update(signed.as_bytes());
    format!("{signed}.{}", b64(mac.finalize().into_bytes()))
}

#[test]
fn what_is_issued_is_verified() {
    let tokens = tokens(&[("k1", 1)]);
    for bound in [Bound::Everything, Bound::Account(A), Bound::App { account: B, app: APP }] {
        let issued = tokens.issue(&grant(bound), NOW, &mut filler(1));
        assert_eq!(issued.expires_in, DEFAULT_LIFETIME);
        assert_eq!(verify(&tokens, issued.token.expose(), NOW), Ok(grant(bound)));
        let last = UnixMillis((NOW_SECS + 3600 + 59) * 1000);
        assert!(verify(&tokens, issued.token.expose(), last).is_ok());
        assert_eq!(
            verify(&tokens, issued.token.expose(), last + Duration::from_secs(1)),
            Err(Refused::Expired)
        );
    }
    let one = tokens.issue(&grant(Bound::Account(A)), NOW, &mut filler(1));
    let two = tokens.issue(&grant(Bound::Account(A)), NOW, &mut filler(2));
    assert_ne!(one.token.expose(), two.token.expose(), "each has its own jti");
}

#[test]
fn keys_rotate() {
    let old = tokens(&[("k1", 1)]).issue(&grant(Bound::Account(A)), NOW, &mut filler(1)).token;
    let both = tokens(&[("k2", 2), ("k1", 1)]);
    assert!(verify(&both, old.expose(), NOW).is_ok());
    let new = both.issue(&grant(Bound::Account(A)), NOW, &mut filler(1)).token;
    assert_eq!(verify(&tokens(&[("k1", 1)]), new.expose(), NOW), Err(Refused::UnknownKey), "the first signs");
    assert_eq!(verify(&tokens(&[("k2", 2)]), old.expose(), NOW), Err(Refused::UnknownKey), "rotated out");
    assert_eq!(verify(&tokens(&[("k1", 2)]), old.expose(), NOW), Err(Refused::Signature));
}

#[test]
fn forged() {
    let tokens = tokens(&[("k1", 1)]);
    let header = json!({"alg": "HS256", "kid": "k1", "typ": "at+jwt"});
    let good = json!({
        "iss": AUDIENCE, "aud": AUDIENCE, "sub": "agency", "iat": NOW_SECS, "exp": NOW_SECS + 600,
        "scope": "webhooks:read", "account": A,
    });
    let claims = |change: Value| signed(1, &header, &changed(good.clone(), &change));
    assert!(verify(&tokens, &claims(json!({})), NOW).is_ok());
    let headed = |change: Value| {
        let header: Value = serde_json::from_str(&changed(header.clone(), &change)).unwrap();
        signed(1, &header, &good.to_string())
    };
    let other_key = signed(2, &header, &good.to_string());
    let table = [
        ("alg none", headed(json!({"alg": "none"})), Refused::Algorithm),
        ("alg HS512", headed(json!({"alg": "HS512"})), Refused::Algorithm),
        ("kid rotated out", headed(json!({"kid": "rotated-out"})), Refused::UnknownKey),
        ("no kid", headed(json!({"kid": null})), Refused::UnknownKey),
        ("no typ", headed(json!({"typ": null})), Refused::Type),
        ("typ JWT", headed(json!({"typ": "JWT"})), Refused::Type),
        ("crit", headed(json!({"crit": ["exp"]})), Refused::Critical),
        ("another key", other_key, Refused::Signature),
        ("another issuer", claims(json!({"iss": ISS})), Refused::Issuer),
        ("another audience", claims(json!({"aud": ISS})), Refused::Audience),
        ("no exp", claims(json!({"exp": null})), Refused::Claim("exp")),
        ("exp a text", claims(json!({"exp": "99999999999"})), Refused::Claim("exp")),
        ("a week", claims(json!({"exp": NOW_SECS + 7 * 86_400})), Refused::Lifetime),
        ("no scope", claims(json!({"scope": null})), Refused::Claim("scope")),
        ("a strange scope", claims(json!({"scope": "root"})), Refused::Claim("scope")),
        ("bound to nothing", claims(json!({"account": null})), Refused::Account),
        ("bound twice", claims(json!({"everything": true})), Refused::Account),
        ("everything as text", claims(json!({"account": null, "everything": "true"})), Refused::Account),
        ("an app of no account", claims(json!({"account": null, "app": APP})), Refused::Account),
        ("a strange account", claims(json!({"account": "agency"})), Refused::Claim("account")),
        ("a strange app", claims(json!({"app": "x"})), Refused::Claim("app")),
    ];
    for (what, token, expected) in table {
        assert_eq!(verify(&tokens, &token, NOW), Err(expected), "{what}");
    }
}

#[test]
fn settings() {
    let new = |keys: Vec<(&str, Secret)>, lifetime| {
        let keys = keys.into_iter().map(|(kid, key)| (kid.to_owned(), key));
        AccessTokens::new(keys, AUDIENCE.into(), Duration::from_secs(lifetime)).map(drop)
    };
    assert_eq!(new(vec![("a", key(1))], 86_400), Ok(()));
    assert_eq!(new(vec![("a", key(1))], 86_401), Err(BadTokens::Lifetime(Duration::from_secs(86_401))));
    assert_eq!(new(vec![("a", key(1))], 0), Err(BadTokens::Lifetime(Duration::ZERO)));
    assert_eq!(new(vec![], 60), Err(BadTokens::NoKey));
    assert_eq!(new(vec![("a", Secret::new(vec![1; 16]))], 60), Err(BadTokens::KeyLength(16)));
    assert_eq!(new(vec![("a", key(1)), ("a", key(2))], 60), Err(BadTokens::DuplicateKid));
    assert_eq!(format!("{:?}", tokens(&[("a", 1)])), "[\"a\"]");
}
