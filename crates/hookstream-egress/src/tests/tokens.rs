//! Access tokens: asked for once, used until they end, and found nowhere.

use std::sync::atomic::{AtomicU32, Ordering};

use hookstream_core::config::ClientCredentials;
use hookstream_types::SecretString;

use super::*;

struct World {
    receiver: Receiver,
    client: Client,
}

impl World {
    fn new() -> Self {
        let world = Self { receiver: Receiver::start(), client: client() };
        world.issue("expires_in", "3600");
        world
    }

    /// Tokens are numbered.
    fn issue(&self, field: &'static str, value: &'static str) {
        let count = AtomicU32::new(0);
        self.receiver.choose("/token", move |_| {
            let n = count.fetch_add(1, Ordering::Relaxed) + 1;
            let grant =
                format!(r#"{{"access_token":"token-number-{n}","token_type":"Bearer","{field}":{value}}}"#);
            Answer::status(200).body(grant).into()
        });
    }

    fn credentials(&self, secret: &str) -> Arc<ClientCredentials> {
        Arc::new(ClientCredentials {
            token_url: self.receiver.url("/token"),
            client_id: "a client".to_owned(),
            client_secret: SecretString::new(secret.to_owned()),
            scopes: vec!["hooks".to_owned(), "more".to_owned()],
        })
    }

    fn request(&self) -> Request {
        Request { token: Some(self.credentials("s3cret:%")), ..request(&self.receiver.url("/hook"), LONG) }
    }

    async fn status(&self, request: &Request) -> u16 {
        response(self.client.exchange(request).await).status
    }

    fn counts(&self) -> (u64, u64) {
        self.receiver.seen(|seen| (seen.of_path("/token"), seen.of_path("/hook")))
    }

    fn sent(&self) -> Vec<String> {
        self.receiver.seen(|seen| {
            let hooks = seen.last().iter().filter(|arrived| arrived.target == "/hook");
            hooks.map(|arrived| arrived.header("authorization").unwrap_or_default().to_owned()).collect()
        })
    }
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_sent() {
    let world = World::new();
    let both = world.request();
    tokio::join!(world.status(&both), world.status(&both));
    assert_eq!(world.status(&both).await, 200);
    assert_eq!(world.counts(), (1, 3));
    assert_eq!(world.sent(), ["Bearer token-number-1"; 3]);
    world.receiver.seen(|seen| {
        let asked = seen.last().iter().find(|arrived| arrived.target == "/token").unwrap();
        assert_eq!(asked.body, "grant_type=client_credentials&scope=hooks+more");
        // `a+client:s3cret%3A%25`
        assert_eq!(asked.header("authorization"), Some("Basic YStjbGllbnQ6czNjcmV0JTNBJTI1"));
    });
}

#[tokio::test]
async fn other_credentials_and_other_accounts_have_their_own() {
    let world = World::new();
    let own = world.request();
    let others = [
        Request { account: AccountUid(Uuid::from_u128(7)), ..own.clone() },
        Request { token: Some(world.credentials("another")), ..own.clone() },
    ];
    world.status(&own).await;
    for other in &others {
        world.status(other).await;
    }
    assert_eq!(world.counts(), (3, 3));
    assert_eq!(world.sent(), ["Bearer token-number-1", "Bearer token-number-2", "Bearer token-number-3"]);
}

#[tokio::test]
async fn a_token_that_is_refused_or_over_is_asked_for_anew() {
    let world = World::new();
    world.receiver.choose("/hook", |arrived| {
        let is_old = arrived.header("authorization") == Some("Bearer token-number-1");
        Answer::status(if is_old { 401 } else { 200 }).into()
    });
    let request = world.request();
    // It was new: whoever refuses it means it.
    assert_eq!(world.status(&request).await, 401);
    assert_eq!(world.counts(), (1, 1));
    assert_eq!(world.status(&request).await, 200);
    assert_eq!(world.counts(), (2, 3));
    assert_eq!(world.status(&request).await, 200);
    assert_eq!(world.counts(), (2, 4));

    let world = World::new();
    world.issue("expires_in", "0");
    let request = world.request();
    world.status(&request).await;
    world.status(&request).await;
    assert_eq!(world.counts(), (2, 2));
    // Nothing is said of its life, or not in a number.
    for (field, value) in [("more", "null"), ("expires_in", "\"3600\""), ("expires_in", "3599.5")] {
        let world = World::new();
        world.issue(field, value);
        let request = world.request();
        world.status(&request).await;
        world.status(&request).await;
        assert_eq!(world.counts(), (1, 2), "{field}: {value}");
    }
}

#[tokio::test]
async fn without_a_token_nothing_is_sent() {
    let world = World::new();
    let long = format!(r#"{{"access_token":"{}","token_type":"bearer"}}"#, "x".repeat(10_000));
    for (answer, why) in [
        (Answer::status(401).body("client s3cret:% is unknown"), "it answered 401"),
        (Answer::status(302).header("location", "/token2"), "it answered 302"),
        (Answer::status(200).body("<html>"), "no JSON"),
        (Answer::status(200).body(r#"{"access_token":"x","token_type":"mac"}"#), "another type"),
        (Answer::status(200).body(r#"{"access_token":"a b","token_type":"bearer"}"#), "can't be sent"),
        (
            Answer::status(200).body("{\"access_token\":\"a\\r\\nx: y\",\"token_type\":\"bearer\"}"),
            "can't be sent",
        ),
        (Answer::status(200).body(long), "can't be sent"),
        (Answer::status(200).endless_body(), "too long"),
    ] {
        world.receiver.on("/token", answer);
        let request = Request { account: AccountUid(Uuid::new_v4()), ..world.request() };
        let exchange = world.client.exchange(&request).await;
        assert_eq!(kind(&exchange), FailureKind::Token, "{why}: {exchange:?}");
        let message = exchange.result.unwrap_err().message;
        assert!(
            message.contains(why) && message.contains("127.0.0.1") && !message.contains("s3cret"),
            "{message}"
        );
    }
    world.receiver.on("/token", Behaviour::Hang);
    let request = Request { deadline: SHORT, account: AccountUid(Uuid::new_v4()), ..world.request() };
    assert_eq!(kind(&world.client.exchange(&request).await), FailureKind::Timeout);
    assert_eq!(world.counts().1, 0);

    // The way to a token is as guarded as any other.
    let strict =
        Client::with_roots(&Egress { allow_http: true, ..Egress::default() }, RootCertStore::empty())
            .unwrap();
    let request = Request { url: Arc::from("http://example.com/"), ..world.request() };
    assert_eq!(kind(&strict.exchange(&request).await), FailureKind::Forbidden);
}

#[tokio::test]
async fn an_echo_of_the_token_is_masked() {
    let world = World::new();
    world.receiver.choose("/hook", |arrived| {
        let token = arrived.header("authorization").unwrap().strip_prefix("Bearer ").unwrap().to_owned();
        let hex: String = token.bytes().map(|byte| format!("{byte:02x}")).collect();
        Answer::status(200).header("x-echo", &token).header(&token, "x").body(format!("{token} {hex}")).into()
    });
    let got = response(world.client.exchange(&world.request()).await);
    let shown = format!("{:?} {}", got.headers, String::from_utf8_lossy(&got.body));
    assert!(
        !shown.contains("token-number") && !shown.contains("746f6b656e") && shown.contains("***"),
        "{shown}"
    );
}
