use std::sync::Mutex;

use hookstream_types::{AccountUid, Mono, Now, Secret};
use serde_json::{Value, json};

use super::super::authenticate::Accounts;
use super::super::principal::Bound;
use super::super::scope::{ForeignScope, ScopeMap};
use super::super::testing::*;
use super::super::token::{AccessTokens, DEFAULT_LIFETIME};
use super::*;

const CLIENT: &str = "console";

/// Accounts that there are by now.
struct There(Mutex<Vec<&'static str>>);

impl Accounts for There {
    fn account(&self, name: &str) -> Option<AccountUid> {
        self.0.lock().unwrap().contains(&name).then_some(A)
    }
}

/// What the token endpoint answers.
type Answer = Result<(u16, Value), &'static str>;

/// A token endpoint: it knows one code, once, and what it was asked.
struct Endpoint {
    code: Mutex<Option<(&'static str, Answer)>>,
    asked: Mutex<Vec<(String, Option<String>, String)>>,
}

impl Ask for Endpoint {
    fn ask<'a>(&'a self, url: &'a str, authorization: Option<&'a str>, form: String) -> Asking<'a> {
        let form_of = |name: &str| {
            let mut pairs = form_urlencoded::parse(form.as_bytes());
            pairs.find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
        };
        let code = form_of("code").unwrap();
        self.asked.lock().unwrap().push((url.to_owned(), authorization.map(str::to_owned), form));
        let mut known = self.code.lock().unwrap();
        let answer = match known.take() {
            Some((known, answer)) if known == code => answer,
            _ => Ok((400, json!({"error": "invalid_grant", "error_description": "a stranger's words"}))),
        };
        let answer = answer.map(|(status, body)| (status, Bytes::from(body.to_string())));
        Box::pin(async move { answer.map_err(str::to_owned) })
    }
}

struct Setup {
    provider: Provider,
    authenticator: Authenticator,
    accounts: Arc<There>,
    endpoint: Arc<Endpoint>,
    signer: Signer,
    begun: Begun,
}

fn settings() -> ProviderSettings {
    ProviderSettings {
        name: "Example".into(),
        authorization_url: "https://id.example/authorize?tenant=a%20b".parse().unwrap(),
        token_url: "https://id.example/token".into(),
        client_id: CLIENT.into(),
        client_secret: Some(SecretString::new("s:cret".into())),
        scopes: "openid profile".into(),
        grants: Scopes::NONE,
        lifetime: Duration::from_secs(3600),
        redirect_uri: "https://hooks.example/console/sign-in/callback".into(),
    }
}

impl Setup {
    fn new() -> Self {
        Self::with(settings(), |_| ())
    }

    fn with(settings: ProviderSettings, change: impl FnOnce(&mut Issuer)) -> Self {
        let signer = Signer::ed25519();
        let keys = Arc::new(Scripted::new([Ok(json!({"keys": [signer.jwk("ed")]}))]));
        let mut issuer = Issuer::new(ISS.into(), AUDIENCE.into(), "https://issuer.example/jwks".into());
        change(&mut issuer);
        let jwks = Jwks::new(issuer.jwks_url.clone(), keys);
        let accounts = Arc::new(There(Mutex::new(vec!["agency"])));
        let key = [("k1".to_owned(), Secret::new(vec![1; 32]))];
        let operators = ForeignScope { scope: "ops".into(), access_type: None, grants: vec![Scope::Admin] };
        let authenticator = Authenticator {
            tokens: AccessTokens::new(key, AUDIENCE.into(), DEFAULT_LIFETIME).unwrap(),
            clients: Arc::new(Registered(Mutex::default())),
            accounts: Arc::clone(&accounts) as Arc<_>,
            issuers: vec![(issuer, jwks)],
            scopes: ScopeMap::new(vec![operators]),
            admin: None,
            clock: Arc::new(|| Now { mono: Mono(0), wall: NOW, broker: NOW }),
        };
        let endpoint = Arc::new(Endpoint { code: Mutex::default(), asked: Mutex::default() });
        let ask: Arc<dyn Ask> = Arc::<Endpoint>::clone(&endpoint);
        let provider = Provider::new(ISS, settings, &authenticator, ask).unwrap();
        Self { provider, authenticator, accounts, endpoint, signer, begun: Begun::new(&mut filler(7)) }
    }

    /// An ID token that is good, except for what is changed.
    fn token(&self, header: &Value, change: &Value) -> String {
        let header = changed(json!({"alg": "EdDSA", "kid": "ed", "typ": "JWT"}), header);
        let own = json!({"aud": CLIENT, "nonce": self.begun.nonce, "name": "Ann"});
        let claims: Value = serde_json::from_str(&claims(&own)).unwrap();
        self.signer.token(&header, &changed(claims, change))
    }

    async fn brings(&self, callback: &Callback) -> Result<Person, NotSignedIn> {
        self.provider.finish(&self.begun, callback, &self.authenticator, NOW).await
    }

    fn callback(&self) -> Callback {
        Callback { state: self.begun.state.clone(), code: Some("c0de".into()), error: None, iss: None }
    }

    async fn with_answer(&self, answer: Answer) -> Result<Person, NotSignedIn> {
        *self.endpoint.code.lock().unwrap() = Some(("c0de", answer));
        self.brings(&self.callback()).await
    }

    async fn with_token(&self, header: Value, change: Value) -> Result<Person, NotSignedIn> {
        let token = self.token(&header, &change);
        self.with_answer(Ok((200, json!({"id_token": token, "access_token": "x", "token_type": "Bearer"}))))
            .await
    }
}

/// Appendix B.
#[test]
fn the_challenge_of_rfc_7636() {
    let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned();
    let begun = Begun { state: String::new(), nonce: String::new(), verifier };
    assert_eq!(begun.challenge(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
}

#[test]
fn what_the_provider_is_asked_first() {
    let setup = Setup::new();
    let begun = &setup.begun;
    let secrets = [&begun.state, &begun.nonce, &begun.verifier];
    assert!(secrets.iter().all(|secret| secret.len() == 43), "RFC 7636 §4.1 asks for 43 characters or more");
    assert!(begun.state != begun.nonce && begun.nonce != begun.verifier);
    let url = Url::parse(&setup.provider.authorization_url(begun)).unwrap();
    assert!(url.as_str().starts_with("https://id.example/authorize?tenant=a%20b&"));
    assert!(!url.as_str().contains(&begun.verifier));
    let pairs: Vec<(String, String)> =
        url.query_pairs().skip(1).map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    let challenge = begun.challenge();
    let expected = [
        ("response_type", "code"),
        ("client_id", CLIENT),
        ("redirect_uri", "https://hooks.example/console/sign-in/callback"),
        ("scope", "openid profile"),
        ("state", &begun.state),
        ("nonce", &begun.nonce),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[tokio::test]
async fn somebody_signs_in() {
    let setup = Setup::new();
    let person = setup.with_token(json!({}), json!({})).await.unwrap();
    assert_eq!(person.name.as_deref(), Some("Ann"));
    let (url, authorization, form) = setup.endpoint.asked.lock().unwrap().pop().unwrap();
    assert_eq!(url, "https://id.example/token");
    // `console:s%3Acret`
    assert_eq!(authorization.as_deref(), Some("Basic Y29uc29sZTpzJTNBY3JldA=="));
    let redirect_uri = "https%3A%2F%2Fhooks.example%2Fconsole%2Fsign-in%2Fcallback";
    let verifier = &setup.begun.verifier;
    let expected = format!(
        "grant_type=authorization_code&code=c0de&redirect_uri={redirect_uri}&code_verifier={verifier}"
    );
    assert_eq!(form, expected);
    let principal = setup.provider.principal(&person, &setup.authenticator).unwrap();
    assert_eq!(principal.client, "issuer:https://issuer.example agency-7");
    assert_eq!(principal.scopes, "webhooks:read".parse().unwrap());
    assert_eq!(principal.bound, Bound::Account(A));

    // An account that is gone ends the session.
    setup.accounts.0.lock().unwrap().clear();
    assert_eq!(setup.provider.principal(&person, &setup.authenticator), None);
}

#[tokio::test]
async fn a_client_without_a_secret_names_itself() {
    let setup = Setup::with(ProviderSettings { client_secret: None, ..settings() }, |_| ());
    assert!(setup.with_token(json!({}), json!({})).await.is_ok());
    let (_, authorization, form) = setup.endpoint.asked.lock().unwrap().pop().unwrap();
    assert_eq!(authorization, None);
    assert!(form.ends_with("&client_id=console"), "{form}");
}

#[tokio::test]
async fn who_is_not_the_one_who_began() {
    let setup = Setup::new();
    let good = || setup.callback();
    let of_another = Begun::new(&mut filler(8)).state;
    let table: Vec<(&str, Callback, NotSignedIn)> = vec![
        ("another's state", Callback { state: of_another, ..good() }, NotSignedIn::NotBegun),
        ("no state", Callback { state: String::new(), ..good() }, NotSignedIn::NotBegun),
        ("part of it", Callback { state: good().state[..42].into(), ..good() }, NotSignedIn::NotBegun),
        (
            "an error for another's state",
            Callback { error: Some("access_denied".into()), ..Callback::default() },
            NotSignedIn::NotBegun,
        ),
        (
            "another issuer's answer",
            Callback { iss: Some("https://x.example".into()), ..good() },
            NotSignedIn::Token(Refused::Issuer.into()),
        ),
        (
            "who did not agree",
            Callback { error: Some("access_denied".into()), ..good() },
            NotSignedIn::Denied,
        ),
        (
            "an error",
            Callback { error: Some("server_error".into()), ..good() },
            NotSignedIn::Provider("server_error".into()),
        ),
        (
            "words of a stranger",
            Callback { error: Some("<script>".into()), ..good() },
            NotSignedIn::Provider("an error of no known name".into()),
        ),
        (
            "nothing",
            Callback { code: None, ..good() },
            NotSignedIn::Provider("neither a code nor an error".into()),
        ),
    ];
    for (what, callback, expected) in table {
        assert_eq!(setup.brings(&callback).await, Err(expected), "{what}");
    }
    assert!(setup.endpoint.asked.lock().unwrap().is_empty(), "none of them is worth a request");
    assert!(setup.with_token(json!({}), json!({})).await.is_ok());
    // The same once more.
    assert_eq!(setup.brings(&setup.callback()).await, Err(NotSignedIn::Code), "replayed");
}

#[tokio::test]
async fn tokens_that_are_refused() {
    let setup = Setup::new();
    let refused = |refused: Refused| NotSignedIn::Token(refused.into());
    let same = json!({});
    let none = json!({"alg": "none"});
    let table: Vec<(&str, Value, Value, NotSignedIn)> = vec![
        ("alg none", none.clone(), same.clone(), refused(Refused::Algorithm)),
        ("HS256", json!({"alg": "HS256"}), same.clone(), refused(Refused::Algorithm)),
        ("an unknown key", json!({"kid": "x"}), same.clone(), refused(Refused::UnknownKey)),
        ("an access token", json!({"typ": "at+jwt"}), same.clone(), refused(Refused::Type)),
        ("another nonce", same.clone(), json!({"nonce": "n"}), refused(Refused::Nonce)),
        ("no nonce", same.clone(), json!({"nonce": null}), refused(Refused::Claim("nonce"))),
        ("another issuer", same.clone(), json!({"iss": "https://x.example"}), refused(Refused::Issuer)),
        // What is for the API is not for the console's client.
        ("the API's audience", same.clone(), json!({"aud": AUDIENCE}), refused(Refused::Audience)),
        ("another audience", same.clone(), json!({"aud": "x"}), refused(Refused::Audience)),
        ("no audience", same.clone(), json!({"aud": null}), refused(Refused::Claim("aud"))),
        ("one of several", same.clone(), json!({"aud": [CLIENT, "x"]}), refused(Refused::Audience)),
        ("asked for by another", same.clone(), json!({"azp": "x"}), refused(Refused::Audience)),
        ("expired", same.clone(), json!({"exp": NOW_SECS - 60}), refused(Refused::Expired)),
        ("not yet", same.clone(), json!({"iat": NOW_SECS + 600}), refused(Refused::NotYet)),
        ("no subject", same.clone(), json!({"sub": null}), refused(Refused::Claim("sub"))),
        ("a long subject", same.clone(), json!({"sub": "s".repeat(256)}), refused(Refused::Claim("sub"))),
        ("no account", same.clone(), json!({"hookstream_account": null}), NotSignedIn::Account),
        ("an unknown account", same.clone(), json!({"hookstream_account": "x"}), NotSignedIn::Account),
        ("no scope", same.clone(), json!({"scope": null}), NotSignedIn::Nothing),
        ("an outside admin", same.clone(), json!({"scope": "openid admin"}), NotSignedIn::Nothing),
    ];
    for (what, header, change, expected) in table {
        assert_eq!(setup.with_token(header, change).await, Err(expected), "{what}");
    }
    let unsigned = setup.token(&none, &same);
    let unsigned = format!("{}.", unsigned.rsplit_once('.').unwrap().0);
    let forged = Setup { signer: Signer::ed25519(), ..Setup::new() }.token(&same, &same);
    for (what, token, expected) in [
        ("unsigned", unsigned.as_str(), Refused::Algorithm),
        ("signed by a stranger", &forged, Refused::Signature),
        ("none at all", "", Refused::Malformed),
    ] {
        let answer = Ok((200, json!({ "id_token": token })));
        assert_eq!(setup.with_answer(answer).await, Err(refused(expected)), "{what}");
    }
    for good in
        [json!({"aud": [CLIENT]}), json!({"aud": [CLIENT, "x"], "azp": CLIENT}), json!({"at_hash": "h"})]
    {
        assert!(setup.with_token(json!({}), good.clone()).await.is_ok(), "{good}");
    }
}

#[tokio::test]
async fn answers_that_are_none() {
    let setup = Setup::new();
    for (answer, expected) in [
        (Err("could not connect"), "could not connect"),
        (Ok((500, json!("oops"))), "status 500"),
        (Ok((401, json!({"error": "invalid_client"}))), "status 401, invalid_client"),
        (Ok((400, json!({"error": "s3cret"}))), "status 400, an error of no known name"),
        (Ok((302, json!({"id_token": "x"}))), "status 302"),
        (Ok((200, json!({"access_token": "x"}))), "no `id_token`"),
        (Ok((200, json!([]))), "no `id_token`"),
    ] {
        assert_eq!(setup.with_answer(answer).await, Err(NotSignedIn::Provider(expected.to_owned())));
    }
}

#[tokio::test]
async fn what_somebody_may_do() {
    let grants: Scopes = "webhooks:read history:read".parse().unwrap();
    let table: Vec<(bool, Value, &str, Bound)> = vec![
        (false, json!({"scope": "webhooks:write"}), "webhooks:write", Bound::Account(A)),
        (false, json!({"scope": "openid"}), "webhooks:read history:read", Bound::Account(A)),
        (true, json!({"scope": null}), "webhooks:read history:read", Bound::Account(A)),
        (true, json!({"hookstream_account": null, "scope": "ops"}), "admin", Bound::Everything),
    ];
    for (unbound, change, scopes, bound) in table {
        let settings = ProviderSettings { grants, ..settings() };
        let setup = Setup::with(settings, |issuer| issuer.unbound = unbound);
        let person = setup.with_token(json!({}), change.clone()).await.unwrap();
        let principal = setup.provider.principal(&person, &setup.authenticator).unwrap();
        assert_eq!((principal.scopes.to_string().as_str(), principal.bound), (scopes, bound), "{change}");
        // What settings mean is decided anew by whoever changes them.
        let stricter = Setup::new();
        assert_eq!(stricter.provider.principal(&person, &stricter.authenticator), None);
    }
}

#[tokio::test]
async fn what_people_are_called() {
    let setup = Setup::new();
    for (change, expected) in [
        (json!({"name": null}), None),
        (json!({"name": "", "preferred_username": "ann"}), Some("ann".to_owned())),
        (json!({"name": 7, "email": "ann@example.com"}), Some("ann@example.com".to_owned())),
        (json!({"name": "å".repeat(1000)}), Some("å".repeat(NAME_CHARS))),
    ] {
        assert_eq!(setup.with_token(json!({}), change).await.unwrap().name, expected);
    }
}

#[test]
fn secrets_are_not_printed() {
    let setup = Setup::new();
    let shown = format!("{:?} {:?}", setup.provider, setup.begun);
    assert!(!shown.contains("s:cret") && !shown.contains(&setup.begun.verifier), "{shown}");
}
