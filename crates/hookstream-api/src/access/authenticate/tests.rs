use std::sync::Mutex;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::routing::get;
use hookstream_types::{AppId, Mono, Now, Secret};
use http::header::RETRY_AFTER;
use serde_json::{Value, json};
use tower_service::Service as _;
use uuid::Uuid;

use super::super::client::ClientRecord;
use super::super::scope::Scope;
use super::super::testing::*;
use super::super::token::{DEFAULT_LIFETIME, Grant};
use super::*;

const ADMIN: &str = "an-admin-token-of-operators";

struct Named;

impl Accounts for Named {
    fn account(&self, name: &str) -> Option<AccountUid> {
        match name {
            "agency" => Some(A),
            "other" => Some(B),
            _ => None,
        }
    }
}

struct Setup {
    authenticator: Arc<Authenticator>,
    clients: Arc<Registered>,
    signer: Signer,
    fetch: Arc<Scripted>,
}

fn setup_with(answers: impl FnOnce(&Signer) -> Vec<Result<Value, &'static str>>) -> Setup {
    let signer = Signer::ed25519();
    let fetch = Arc::new(Scripted::new(answers(&signer)));
    let client = ClientRecord {
        id: "agency".into(),
        secrets: vec![],
        scopes: vec!["webhooks:read".into(), "webhooks:write".into()],
        access_type: None,
        bound: Bound::Account(A),
        enabled: true,
    };
    let clients = Arc::new(Registered(Mutex::new(vec![client])));
    let issuer = Issuer::new(ISS.into(), AUDIENCE.into(), "https://issuer.example/jwks".into());
    let jwks = Jwks::new(issuer.jwks_url.clone(), Arc::clone(&fetch) as Arc<_>);
    let keys = [("k1".to_owned(), Secret::new(vec![1; 32]))];
    let authenticator = Authenticator {
        tokens: AccessTokens::new(keys, AUDIENCE.into(), DEFAULT_LIFETIME).unwrap(),
        clients: Arc::clone(&clients) as Arc<_>,
        accounts: Arc::new(Named),
        issuers: vec![(issuer, jwks)],
        scopes: ScopeMap::default(),
        admin: Some(AdminToken::new(&SecretString::new(ADMIN.into())).unwrap()),
        clock: Arc::new(|| Now { mono: Mono(0), wall: NOW, broker: NOW }),
    };
    Setup { authenticator: Arc::new(authenticator), clients, signer, fetch }
}

fn setup() -> Setup {
    setup_with(|signer| vec![Ok(json!({"keys": [signer.jwk("ed")]}))])
}

fn grant(bound: Bound) -> Grant {
    let scopes = "webhooks:read events:write".parse().unwrap();
    Grant { client: "agency".into(), scopes, bound, access_type: None }
}

impl Setup {
    async fn with(&self, authorization: &str) -> Result<Principal, AuthError> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_bytes(authorization.as_bytes()).unwrap());
        self.authenticator.authenticate(&headers, NOW).await
    }

    async fn bearer(&self, token: &str) -> Result<Principal, AuthError> {
        self.with(&format!("Bearer {token}")).await
    }

    fn own(&self, bound: Bound) -> String {
        let issued = self.authenticator.tokens.issue(&grant(bound), NOW, &mut filler(1));
        issued.token.expose().to_owned()
    }

    fn outside(&self, header: Value, change: Value) -> String {
        let header = changed(json!({"alg": "EdDSA", "kid": "ed"}), &header);
        self.signer.token(&header, &claims(&change))
    }
}

#[tokio::test]
async fn three_ways_in() {
    let setup = setup();
    let own = setup.bearer(&setup.own(Bound::Account(A))).await.unwrap();
    // `events:write` is in the token, but the client has it no longer.
    let scopes = "webhooks:read".parse().unwrap();
    assert_eq!(own, Principal { client: "client:agency".into(), scopes, bound: Bound::Account(A) });

    let outside = setup.bearer(&setup.outside(json!({}), json!({}))).await.unwrap();
    let client = "issuer:https://issuer.example agency-7".to_owned();
    assert_eq!(outside, Principal { client, scopes, bound: Bound::Account(A) });

    let admin = setup.bearer(ADMIN).await.unwrap();
    assert_eq!(admin.bound, Bound::Everything);
    assert_eq!(admin.require(Scope::Admin), Ok(()));
}

#[tokio::test]
async fn what_is_no_bearer_token() {
    let setup = setup();
    let token = setup.own(Bound::Account(A));
    assert!(setup.with(&format!("bEARER   {token} ")).await.is_ok());
    for missing in
        ["", "Bearer", "Bearer ", "Basic YTpi", &token, &format!("Bearer\t{token}"), "Bearer \u{e9}"]
    {
        assert_eq!(setup.with(missing).await, Err(AuthError::Missing), "{missing}");
    }
    assert_eq!(setup.authenticator.authenticate(&HeaderMap::new(), NOW).await, Err(AuthError::Missing));
    let mut twice = HeaderMap::new();
    twice.append(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    twice.append(AUTHORIZATION, format!("Bearer {ADMIN}").parse().unwrap());
    assert_eq!(setup.authenticator.authenticate(&twice, NOW).await, Err(AuthError::Twice));
}

#[tokio::test]
async fn forged_tokens() {
    let setup = setup();
    let own = setup.own(Bound::Account(A));
    let (head, tail) = own.rsplit_once('.').unwrap();
    let unknown_account = setup.outside(json!({}), json!({"hookstream_account": "agenc"}));
    let table: Vec<(&str, String, Refused)> = vec![
        ("almost the admin token", ADMIN[..ADMIN.len() - 1].into(), Refused::Malformed),
        ("more than the admin token", format!("{ADMIN}x"), Refused::Malformed),
        ("ours, unsigned", format!("{head}."), Refused::Signature),
        ("ours, of half a signature", format!("{head}.{}", &tail[..20]), Refused::Signature),
        // Whatever a token of HS256 calls itself, no outside key is tried as a secret.
        ("HS256 under an outside kid", setup.outside(json!({"alg": "HS256"}), json!({})), Refused::Type),
        (
            "HS256 under an outside kid, as ours",
            setup.outside(json!({"alg": "HS256", "typ": "at+jwt"}), json!({})),
            Refused::UnknownKey,
        ),
        (
            "HS256 under our kid",
            setup.outside(json!({"alg": "HS256", "kid": "k1", "typ": "at+jwt"}), json!({})),
            Refused::Signature,
        ),
        ("none", setup.outside(json!({"alg": "none"}), json!({})), Refused::Algorithm),
        // The issuer's key can't make tokens of ours.
        ("our issuer, an outside key", setup.outside(json!({}), json!({"iss": AUDIENCE})), Refused::Issuer),
        ("an unknown issuer", setup.outside(json!({}), json!({"iss": "https://x.example"})), Refused::Issuer),
        ("no issuer", setup.outside(json!({}), json!({"iss": null})), Refused::Claim("iss")),
        ("no kid", setup.outside(json!({"kid": null}), json!({})), Refused::UnknownKey),
        ("an account that is not", unknown_account, Refused::Account),
    ];
    for (what, token, expected) in table {
        assert_eq!(setup.bearer(&token).await, Err(AuthError::Token(expected)), "{what}");
    }
}

#[tokio::test]
async fn ten_thousand_unknown_kids_are_one_fetch_more() {
    let setup = setup();
    let good = setup.outside(json!({}), json!({}));
    assert!(setup.bearer(&good).await.is_ok());
    let before = setup.fetch.count();
    for n in 0..10_000 {
        let token = setup.outside(json!({"kid": format!("unknown-{n}")}), json!({}));
        assert_eq!(setup.bearer(&token).await, Err(Refused::UnknownKey.into()));
    }
    assert_eq!(setup.fetch.count(), before + 1);
    assert!(setup.bearer(&good).await.is_ok());
}

#[tokio::test]
async fn an_issuer_without_keys_is_said_to_be_so() {
    let setup = setup_with(|_| vec![Err("refused")]);
    let token = setup.outside(json!({}), json!({}));
    assert_eq!(setup.bearer(&token).await, Err(AuthError::Unavailable));
    // Who needs no issuer is served.
    assert!(setup.bearer(&setup.own(Bound::Account(A))).await.is_ok());
    assert!(setup.bearer(ADMIN).await.is_ok());
}

#[tokio::test]
async fn what_a_client_loses_its_tokens_lose() {
    let setup = setup();
    let token = setup.own(Bound::Account(A));
    let change = |change: &dyn Fn(&mut ClientRecord)| change(&mut setup.clients.0.lock().unwrap()[0]);
    change(&|client| client.scopes = vec!["webhooks:write".into()]);
    assert!(setup.bearer(&token).await.unwrap().scopes.is_empty());
    let app = Bound::App { account: A, app: AppId(Uuid::from_u128(1)) };
    for bound in [Bound::Account(B), Bound::Everything, app] {
        change(&|client| client.bound = bound);
        assert_eq!(setup.bearer(&token).await, Err(Refused::Client.into()), "{bound:?}");
    }
    change(&|client| client.bound = Bound::Account(A));
    assert!(setup.bearer(&token).await.is_ok());
    change(&|client| client.enabled = false);
    assert_eq!(setup.bearer(&token).await, Err(Refused::Client.into()));
    setup.clients.0.lock().unwrap().clear();
    assert_eq!(setup.bearer(&token).await, Err(Refused::Client.into()));
}

#[test]
fn admin_tokens_are_long() {
    let new = |text: &str| AdminToken::new(&SecretString::new(text.to_owned()));
    assert!(new("").is_err());
    assert!(new(&"x".repeat(23)).is_err());
    let token = new(&"x".repeat(24)).unwrap();
    assert!(token.is(&"x".repeat(24)));
    assert!(!token.is(&"x".repeat(25)));
    assert_eq!(format!("{token:?}"), "AdminToken(…)");
}

#[derive(Clone)]
struct App(Arc<Authenticator>);

impl FromRef<App> for Arc<Authenticator> {
    fn from_ref(app: &App) -> Self {
        Arc::clone(&app.0)
    }
}

/// A list of an account's webhooks, as the API has them.
async fn webhooks(
    State(_): State<App>,
    principal: Principal,
    Path(account): Path<AccountUid>,
) -> Result<String, Denied> {
    principal.require(Scope::WebhooksRead)?;
    principal.account(Some(account)).map(|account| account.to_string())
}

async fn http(setup: &Setup, path: &str, token: Option<&str>) -> (Response, String) {
    let app = App(Arc::clone(&setup.authenticator));
    let mut router = Router::new().route("/accounts/{account}/webhooks", get(webhooks)).with_state(app);
    let mut request = Request::builder().uri(path);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let (parts, body) = router.call(request.body(Body::empty()).unwrap()).await.unwrap().into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    (Response::from_parts(parts, Body::empty()), String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn over_http() {
    let setup = setup();
    let (a, b) = (format!("/accounts/{A}/webhooks"), format!("/accounts/{B}/webhooks"));
    let token = setup.outside(json!({}), json!({}));
    let challenge = |response: &Response| response.headers()[WWW_AUTHENTICATE].to_str().unwrap().to_owned();

    let (response, body) = http(&setup, &a, Some(&token)).await;
    assert_eq!((response.status().as_u16(), body), (200, A.to_string()));
    // Another's is not found, as what does not exist.
    let (response, of_other) = http(&setup, &b, Some(&token)).await;
    assert_eq!(response.status(), 404);
    let nobody = AccountUid(Uuid::from_u128(99));
    let (response, of_nobody) = http(&setup, &format!("/accounts/{nobody}/webhooks"), Some(&token)).await;
    assert_eq!((response.status().as_u16(), of_nobody), (404, of_other));

    let (response, body) = http(&setup, &a, None).await;
    assert_eq!((response.status().as_u16(), &*challenge(&response)), (401, "Bearer realm=\"hookstream\""));
    assert!(body.contains("\"type\":\"/problems/unauthenticated\""));

    let expired = setup.outside(json!({}), json!({"exp": NOW_SECS - 61}));
    let (response, body) = http(&setup, &a, Some(&expired)).await;
    assert_eq!(response.status(), 401);
    assert!(challenge(&response).contains("error=\"invalid_token\""), "{}", challenge(&response));
    assert!(!body.contains(&expired[..20]));

    let writer = setup.outside(json!({}), json!({"scope": "events:write"}));
    let (response, _) = http(&setup, &a, Some(&writer)).await;
    assert_eq!(response.status(), 403);
    assert!(challenge(&response).ends_with("error=\"insufficient_scope\", error_description=\"this needs the scope `webhooks:read`: ask for a token that has it\", scope=\"webhooks:read\""), "{}", challenge(&response));
}

/// Every answer there is can be sent.
#[test]
fn challenges_are_headers() {
    use Refused::*;
    let refused = [
        TooLong,
        Malformed,
        Header,
        Critical,
        Type,
        Algorithm,
        UnknownKey,
        Signature,
        Claims,
        Claim("exp"),
        Issuer,
        Audience,
        Expired,
        NotYet,
        Lifetime,
        IdToken,
        Account,
        Client,
    ];
    let errors = refused.map(AuthError::Token).into_iter().chain([
        AuthError::Missing,
        AuthError::Twice,
        AuthError::Unavailable,
    ]);
    for error in errors {
        assert_eq!(error.into_response().status(), error.status(), "{error}");
    }
    for scope in Scope::ALL {
        assert_eq!(Denied::Scope(scope).into_response().status(), 403);
    }
    assert_eq!(Denied::AccountNeeded.into_response().status(), 400);
    let limited = Limited { retry_after: Duration::from_millis(1500) }.into_response();
    assert_eq!((limited.status().as_u16(), &limited.headers()[RETRY_AFTER]), (429, &HeaderValue::from(2)));
}
