use std::net::Ipv4Addr;
use std::sync::Mutex;

use hookstream_types::{Mono, Secret, UnixMillis};
use serde_json::{Value, json};
use tower_service::Service as _;

use super::super::client::{ClientSecret, new_secret};
use super::super::compact::Compact;
use super::super::principal::Bound;
use super::super::testing::*;
use super::super::token::DEFAULT_LIFETIME;
use super::*;

const FORM: &str = "application/x-www-form-urlencoded";

struct Setup {
    endpoint: Arc<TokenEndpoint>,
    tokens: AccessTokens,
    /// Of the client `agency`.
    secret: SecretString,
}

fn now(secs: u64) -> Now {
    let wall = NOW + Duration::from_secs(secs);
    Now { mono: Mono(secs * 1_000_000), wall, broker: wall }
}

fn setup() -> Setup {
    let (secret, hash) = new_secret(&mut filler(1));
    let client = |id: &str, scopes: &[&str], access_type: Option<&str>| ClientRecord {
        id: id.into(),
        secrets: vec![ClientSecret { hash: hash.clone(), until: None }],
        scopes: scopes.iter().map(|name| (*name).to_owned()).collect(),
        access_type: access_type.map(str::to_owned),
        bound: Bound::Account(A),
        enabled: id != "disabled",
    };
    let clients = Registered(Mutex::new(vec![
        client("agency", &["webhooks:read", "webhooks:write", "renamed"], None),
        client("manager", &["api.profilesondemand.read"], Some("Agency Manager")),
        client("traveller", &["api.profilesondemand.read"], Some("Traveller")),
        client("operator", &["admin"], None),
        client("disabled", &["webhooks:read"], None),
        client("b2b:münchen +%", &["webhooks:read"], None),
    ]));
    let rules = json!([{"scope": "api.profilesondemand.read", "access_type": "Agency Manager",
                        "grants": ["webhooks:read", "webhooks:write"]}]);
    let scopes: ScopeMap = serde_json::from_value(rules).unwrap();
    let keys = [("k1".to_owned(), Secret::new(vec![1; 32]))];
    let tokens = AccessTokens::new(keys, AUDIENCE.into(), DEFAULT_LIFETIME).unwrap();
    let random: Random = Arc::new(|bytes| filler(3)(bytes));
    let clock: Clock = Arc::new(|| now(0));
    let endpoint = Arc::new(TokenEndpoint::new(Arc::new(clients), tokens.clone(), scopes, clock, random));
    Setup { endpoint, tokens, secret }
}

fn headers(authorization: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, FORM.parse().unwrap());
    if let Some(authorization) = authorization {
        headers.insert(AUTHORIZATION, authorization.parse().unwrap());
    }
    headers
}

fn basic_of(id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

impl Setup {
    fn basic(&self, id: &str) -> String {
        basic_of(id, self.secret.expose())
    }

    fn ask(&self, authorization: Option<&str>, body: &str) -> Result<Granted, OauthError> {
        self.endpoint.grant(&headers(authorization), body.as_bytes(), None, now(0))
    }

    /// What the client gets that asks for `scope`: the names, and the scopes in the token.
    fn scopes(&self, id: &str, scope: &str) -> Result<(String, String), OauthError> {
        let granted =
            self.ask(Some(&self.basic(id)), &format!("grant_type=client_credentials&scope={scope}"))?;
        let token = Compact::parse(granted.issued.token.expose()).unwrap();
        Ok((granted.scope, self.tokens.verify(&token, NOW).unwrap().scopes.to_string()))
    }
}

#[test]
fn both_ways_to_authenticate() {
    let setup = setup();
    let grant = "grant_type=client_credentials";
    let secret = setup.secret.expose();
    let good = [
        (Some(setup.basic("agency")), grant.to_owned()),
        (Some(setup.basic("agency").replacen("Basic", "bASIC", 1)), grant.to_owned()),
        (Some(setup.basic("agency")), format!("client_id=agency&{grant}")),
        (Some(setup.basic("agency")), format!("{grant}&client_secret=&resource=x")),
        (None, format!("{grant}&client_id=agency&client_secret={secret}")),
        // Both parts are encoded before they are joined: a colon in an id is none that separates.
        (Some(setup.basic("b2b%3Am%C3%BCnchen+%2B%25")), grant.to_owned()),
        (None, format!("{grant}&client_id=b2b:m%C3%BCnchen+%2B%25&client_secret={secret}")),
    ];
    for (authorization, body) in good {
        assert!(setup.ask(authorization.as_deref(), &body).is_ok(), "{body}");
    }
}

#[test]
fn refused() {
    use OauthError::{InvalidClient, UnsupportedGrantType};
    let setup = setup();
    let secret = setup.secret.expose();
    let grant = "grant_type=client_credentials";
    let basic = setup.basic("agency");
    let table: Vec<(Option<String>, String, OauthError)> = vec![
        (None, grant.into(), InvalidClient),
        (None, format!("{grant}&client_id=agency"), InvalidClient),
        (None, format!("{grant}&client_secret={secret}"), InvalidClient),
        (None, format!("{grant}&client_id=agency&client_secret={secret}x"), InvalidClient),
        (None, format!("{grant}&client_id=AGENCY&client_secret={secret}"), InvalidClient),
        (None, format!("{grant}&client_id=nobody&client_secret={secret}"), InvalidClient),
        (None, format!("{grant}&client_id=disabled&client_secret={secret}"), InvalidClient),
        (None, format!("{grant}&client_id={}&client_secret={secret}", "a".repeat(129)), InvalidClient),
        (Some(basic_of("agency", "wrong")), grant.into(), InvalidClient),
        (Some(basic_of("agency", "")), grant.into(), InvalidClient),
        (Some(basic_of("", secret)), grant.into(), InvalidClient),
        (Some(basic_of("agency%", secret)), grant.into(), InvalidClient),
        (Some(basic_of("agency%ff", secret)), grant.into(), InvalidClient),
        (Some("Basic".into()), grant.into(), InvalidClient),
        (Some("Basic !!!".into()), grant.into(), InvalidClient),
        (Some(format!("Basic {}", STANDARD.encode("agency"))), grant.into(), InvalidClient),
        (Some(format!("Bearer {secret}")), grant.into(), InvalidClient),
        (Some(basic.clone()), "grant_type=password&username=a&password=b".into(), UnsupportedGrantType),
        (Some(basic.clone()), "grant_type=CLIENT_CREDENTIALS".into(), UnsupportedGrantType),
    ];
    for (authorization, body, expected) in table {
        let error = setup.ask(authorization.as_deref(), &body).unwrap_err();
        assert_eq!(error, expected, "{authorization:?} {body}");
    }
    let invalid = [
        "".to_owned(),
        "grant_type=".into(),
        "grant_type".into(),
        format!("{grant}&{grant}"),
        format!("{grant}&scope=admin&scope=webhooks:read"),
        format!("{grant}&client_secret={secret}"),
        format!("{grant}&client_id=manager"),
        format!("{grant}&scope=%zz"),
        format!("{grant}&padding={}", "x".repeat(9000)),
        "{\"grant_type\":\"client_credentials\"}".into(),
    ];
    for body in invalid {
        let error = setup.ask(Some(&basic), &body).unwrap_err();
        assert!(matches!(error, OauthError::InvalidRequest(_)), "{body}: {error}");
    }
    let mut twice = headers(Some(&basic));
    twice.append(AUTHORIZATION, basic.parse().unwrap());
    let mut json = headers(Some(&basic));
    json.insert(CONTENT_TYPE, "application/json".parse().unwrap());
    let mut nothing = headers(Some(&basic));
    nothing.remove(CONTENT_TYPE);
    for headers in [twice, json, nothing] {
        let error = setup.endpoint.grant(&headers, grant.as_bytes(), None, now(0)).unwrap_err();
        assert!(matches!(error, OauthError::InvalidRequest(_)), "{error}");
    }
}

#[test]
fn scopes_are_a_part_of_what_the_client_has() {
    let setup = setup();
    let ok = |names: &str, worth: &str| Ok((names.to_owned(), worth.to_owned()));
    // A name that nobody gives a meaning to is not granted, and not said to be.
    assert_eq!(
        setup.scopes("agency", ""),
        ok("webhooks:read webhooks:write", "webhooks:read webhooks:write")
    );
    assert_eq!(setup.scopes("agency", "webhooks:write"), ok("webhooks:write", "webhooks:write"));
    assert_eq!(setup.scopes("agency", "webhooks:read+webhooks:read"), ok("webhooks:read", "webhooks:read"));
    let foreign = "api.profilesondemand.read";
    assert_eq!(setup.scopes("manager", foreign), ok(foreign, "webhooks:read webhooks:write"));
    assert_eq!(setup.scopes("manager", ""), ok(foreign, "webhooks:read webhooks:write"));
    assert_eq!(setup.scopes("manager", "webhooks:read"), ok("webhooks:read", "webhooks:read"));
    assert_eq!(setup.scopes("operator", "history:read"), ok("history:read", "history:read"));
    assert_eq!(setup.scopes("operator", ""), ok("admin", "admin"));
    let refused = [
        ("agency", "admin"),
        ("agency", "webhooks:read+admin"),
        ("agency", "renamed"),
        ("agency", "unknown"),
        ("agency", "+"),
        ("agency", "webhooks:read%09webhooks:write"),
        ("agency", foreign),
        ("manager", "history:read"),
        ("traveller", foreign),
        ("traveller", "webhooks:read"),
        ("traveller", ""),
    ];
    for (id, scope) in refused {
        assert_eq!(setup.scopes(id, scope), Err(OauthError::InvalidScope), "{id} {scope}");
    }
}

#[test]
fn failures_are_limited_per_client_and_peer() {
    let setup = setup();
    let peer = |last| Some(Peer(Ipv4Addr::new(192, 0, 2, last).into()));
    let ask = |id: &str, secret: &str, from, secs| {
        let headers = headers(Some(&basic_of(id, secret)));
        setup.endpoint.grant(&headers, b"grant_type=client_credentials", from, now(secs)).map(drop)
    };
    let right = setup.secret.expose();
    for _ in 0..10 {
        assert_eq!(ask("agency", "wrong", peer(1), 0), Err(OauthError::InvalidClient));
    }
    // Even the right secret is not tried now; and the answer says when to come back.
    let Err(OauthError::TooMany(limited)) = ask("agency", right, peer(1), 0) else { panic!("not limited") };
    assert_eq!(limited.seconds(), 6);
    assert_eq!(ask("agency", right, peer(1), 6), Ok(()));
    // Others are not locked out: neither the client elsewhere nor another client.
    assert_eq!(ask("agency", right, peer(2), 0), Ok(()));
    assert_eq!(ask("manager", right, peer(1), 0), Ok(()));
    // Successes don't count.
    for _ in 0..100 {
        assert_eq!(ask("agency", right, peer(3), 0), Ok(()));
    }
    // One who does not exist is limited alike, and so is not told from one who does.
    for _ in 0..10 {
        assert_eq!(ask("nobody", "wrong", peer(4), 0), Err(OauthError::InvalidClient));
    }
    assert!(matches!(ask("nobody", "wrong", peer(4), 0), Err(OauthError::TooMany(_))));
}

#[test]
fn a_network_of_ipv6_is_one_peer() {
    let peer = |text: &str| network(Peer(text.parse().unwrap()));
    assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:1"));
    assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
    assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
    assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
}

async fn over_http(setup: &Setup, method: &str, authorization: &str, body: String) -> (Response, Value) {
    let request = Request::builder()
        .method(method)
        .uri("/oauth/token")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded; charset=UTF-8")
        .header(AUTHORIZATION, authorization)
        .body(Body::from(body))
        .unwrap();
    let response = axum::Router::from(router(Arc::clone(&setup.endpoint))).call(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    (Response::from_parts(parts, Body::empty()), value)
}

#[tokio::test]
async fn answers_as_the_rfc_has_them() {
    let setup = setup();
    let grant = || "grant_type=client_credentials&scope=webhooks:read".to_owned();
    let (response, body) = over_http(&setup, "POST", &setup.basic("agency"), grant()).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
    assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(body["expires_in"], 3600);
    assert_eq!(body["scope"], "webhooks:read");
    let token = Compact::parse(body["access_token"].as_str().unwrap()).unwrap();
    assert_eq!(setup.tokens.verify(&token, UnixMillis(NOW.0)).unwrap().bound, Bound::Account(A));

    let (response, body) = over_http(&setup, "POST", &basic_of("agency", "wrong"), grant()).await;
    assert_eq!(response.status(), 401);
    assert!(response.headers()[WWW_AUTHENTICATE].to_str().unwrap().starts_with("Basic realm="));
    assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
    assert_eq!(body["error"], "invalid_client");

    let (response, body) = over_http(&setup, "POST", &setup.basic("agency"), "x".repeat(1 << 20)).await;
    assert_eq!((response.status().as_u16(), &body["error"]), (400, &json!("invalid_request")));
    let (response, _) = over_http(&setup, "GET", &setup.basic("agency"), grant()).await;
    assert_eq!(response.status(), 405);

    for _ in 0..9 {
        over_http(&setup, "POST", &basic_of("agency", "wrong"), grant()).await;
    }
    let (response, body) = over_http(&setup, "POST", &setup.basic("agency"), grant()).await;
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()[RETRY_AFTER], "6");
    assert_eq!(body["error"], "temporarily_unavailable");
}

#[test]
fn descriptions_have_the_characters_that_the_rfc_allows() {
    let setup = setup();
    let limited = Limited { retry_after: Duration::from_secs(6) };
    let malformed = setup.ask(Some(&setup.basic("agency")), "a=%").unwrap_err();
    let unmarked = setup.endpoint.grant(&HeaderMap::new(), b"", None, now(0)).unwrap_err();
    let errors = [
        OauthError::InvalidClient,
        OauthError::UnsupportedGrantType,
        OauthError::InvalidScope,
        OauthError::TooMany(limited),
        malformed,
        unmarked,
    ];
    for error in errors {
        let text = error.to_string();
        assert!(
            text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'),
            "{text}"
        );
    }
}
