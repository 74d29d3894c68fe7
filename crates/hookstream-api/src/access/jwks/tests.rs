use serde_json::json;

use super::super::testing::*;
use super::*;

fn set(keys: &[Value]) -> Value {
    json!({ "keys": keys })
}

fn parse(keys: &[Value]) -> Result<KeySet, BadKeySet> {
    KeySet::parse(set(keys).to_string().as_bytes())
}

fn with(mut jwk: Value, name: &str, value: Value) -> Value {
    jwk[name] = value;
    jwk
}

fn after(duration: Duration) -> UnixMillis {
    NOW + duration
}

#[test]
fn keys_that_verify() {
    for signer in [Signer::ed25519(), Signer::p256(), Signer::rsa()] {
        let jwk = with(with(signer.jwk("k"), "alg", json!(signer.alg())), "key_ops", json!(["verify"]));
        let keys = parse(&[jwk]).unwrap();
        let key = keys.get("k").unwrap();
        assert!(key.is_for(signer.alg()));
        let signature = signer.sign(b"message");
        assert!(key.verifies(b"message", &signature));
        assert!(!key.verifies(b"messagf", &signature));
        for other in ["none", "HS256", "RS512", "ES384", "PS256", ""] {
            assert!(!key.is_for(other));
        }
    }
}

#[test]
fn keys_that_do_not() {
    let ed = Signer::ed25519().jwk("k");
    let p256 = Signer::p256().jwk("k");
    let rsa = Signer::rsa().jwk("k");
    let table: Vec<(&str, Value)> = vec![
        ("for encryption", with(ed.clone(), "use", json!("enc"))),
        ("for something else", with(ed.clone(), "use", json!(1))),
        ("signs only", with(ed.clone(), "key_ops", json!(["sign"]))),
        ("of no operations", with(ed.clone(), "key_ops", json!("verify"))),
        ("symmetric", json!({"kty": "oct", "kid": "k", "k": b64([1; 32])})),
        ("private", with(ed.clone(), "d", json!(b64([1; 32])))),
        ("without a kid", with(ed.clone(), "kid", Value::Null)),
        ("with a number as kid", with(ed.clone(), "kid", json!(7))),
        ("of another algorithm", with(ed.clone(), "alg", json!("RS256"))),
        ("of alg none", with(ed.clone(), "alg", json!("none"))),
        ("of a strange alg", with(ed.clone(), "alg", json!(["EdDSA"]))),
        ("X25519", with(ed.clone(), "crv", json!("X25519"))),
        ("Ed25519 as EC", with(ed.clone(), "kty", json!("EC"))),
        ("short Ed25519", with(ed.clone(), "x", json!(b64([1; 31])))),
        ("Ed25519 with padding", with(ed, "x", json!(format!("{}=", b64([1; 32]))))),
        ("P-384", with(p256.clone(), "crv", json!("P-384"))),
        ("P-256 without y", with(p256.clone(), "y", Value::Null)),
        ("long P-256", with(p256, "x", json!(b64([1; 33])))),
        ("RSA of 1024 bits", with(rsa.clone(), "n", json!(b64([0xff; 128])))),
        // 2048 bits only with its leading zeros.
        ("RSA of 2040 bits", with(rsa.clone(), "n", json!(b64([&[0; 1][..], &[0xff; 255]].concat())))),
        ("RSA of 16384 bits", with(rsa.clone(), "n", json!(b64([0xff; 2048])))),
        ("RSA with exponent 1", with(rsa.clone(), "e", json!(b64([1])))),
        ("RSA with an even exponent", with(rsa.clone(), "e", json!(b64([2])))),
        ("RSA with exponent 0", with(rsa.clone(), "e", json!(b64([0])))),
        ("RSA with a huge exponent", with(rsa, "e", json!(b64([1; 9])))),
        ("nothing", json!({})),
    ];
    for (what, jwk) in table {
        assert_eq!(parse(&[jwk]), Err(BadKeySet::NoKey), "{what}");
    }
    // A point that is not on the curve is found when it verifies.
    let off_curve = with(with(Signer::p256().jwk("k"), "x", json!(b64([1; 32]))), "y", json!(b64([1; 32])));
    assert!(!parse(&[off_curve]).unwrap().get("k").unwrap().verifies(b"", &[1; 64]));
}

#[test]
fn sets_as_a_whole() {
    let (one, two) = (Signer::ed25519().jwk("k"), Signer::p256().jwk("k"));
    assert_eq!(parse(&[one.clone(), two.clone()]), Err(BadKeySet::DuplicateKid));
    // One that is left out is no duplicate.
    assert!(parse(&[one.clone(), with(two, "use", json!("enc"))]).is_ok());
    assert_eq!(parse(&[]), Err(BadKeySet::NoKey));
    assert_eq!(parse(&[json!(1)]), Err(BadKeySet::NotJwks));
    let many: Vec<Value> = (0..65).map(|n| with(one.clone(), "kid", json!(n.to_string()))).collect();
    assert!(parse(&many[..64]).is_ok());
    assert_eq!(parse(&many), Err(BadKeySet::TooMany));
    let mut long = set(&[one]).to_string();
    long.push_str(&" ".repeat(MAX_JWKS_BYTES - long.len()));
    assert!(KeySet::parse(long.as_bytes()).is_ok());
    long.push(' ');
    assert_eq!(KeySet::parse(long.as_bytes()), Err(BadKeySet::TooLong));
    for bad in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#, "<html>"] {
        assert_eq!(KeySet::parse(bad.as_bytes()), Err(BadKeySet::NotJwks), "{bad}");
    }
}

fn jwks(fetch: &Arc<Scripted>) -> Jwks {
    Jwks::new("https://issuer.example/jwks".into(), Arc::clone(fetch) as Arc<dyn Fetch>)
}

/// Lets tasks that need no more than to be run come to an end.
async fn settle(done: impl Fn() -> bool) {
    while !done() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn ten_thousand_unknown_kids_are_one_fetch() {
    let fetch = Arc::new(Scripted::new([Ok(set(&[Signer::ed25519().jwk("a")]))]));
    let jwks = jwks(&fetch);
    jwks.prepare(NOW).await;
    assert_eq!(fetch.count(), 1);
    for n in 0..10_000 {
        assert_eq!(jwks.key(&format!("unknown-{n}"), NOW).await, Err(NoKey::Unknown));
    }
    assert_eq!(fetch.count(), 2);
    let almost = after(UNKNOWN_KID - Duration::from_millis(1));
    assert_eq!(jwks.key("unknown", almost).await, Err(NoKey::Unknown));
    assert_eq!(fetch.count(), 2);
    assert_eq!(jwks.key("unknown", after(UNKNOWN_KID)).await, Err(NoKey::Unknown));
    assert_eq!(fetch.count(), 3);
    assert!(jwks.key("a", after(UNKNOWN_KID)).await.is_ok());
}

#[tokio::test]
async fn who_comes_at_the_same_time_shares_a_fetch() {
    let (a, b) = (Signer::ed25519().jwk("a"), Signer::ed25519().jwk("b"));
    let fetch = Arc::new(Scripted::new([Ok(set(std::slice::from_ref(&a))), Ok(set(&[a, b]))]));
    let jwks = jwks(&fetch);
    jwks.prepare(NOW).await;
    // The issuer does not answer yet.
    let held = fetch.gate.forget_permits(usize::MAX);
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let jwks = jwks.clone();
            tokio::spawn(async move { jwks.key("b", NOW).await })
        })
        .collect();
    settle(|| fetch.count() == 2).await;
    // Who gives up does not end it for the others, not even who began it.
    waiting[0].abort();
    assert!(jwks.key("a", NOW).await.is_ok(), "a known key waits for nobody");
    fetch.gate.add_permits(held);
    for task in waiting.into_iter().skip(1) {
        assert!(task.await.unwrap().is_ok());
    }
    assert_eq!(fetch.count(), 2);
}

#[tokio::test]
async fn an_old_set_is_used_while_another_is_fetched() {
    let (a, b) = (Signer::ed25519().jwk("a"), Signer::ed25519().jwk("b"));
    let fetch = Arc::new(Scripted::new([Ok(set(&[a])), Ok(set(&[b]))]));
    let jwks = jwks(&fetch);
    jwks.prepare(NOW).await;
    let held = fetch.gate.forget_permits(usize::MAX);
    for _ in 0..10 {
        assert!(jwks.key("a", after(FRESH)).await.is_ok());
    }
    settle(|| fetch.count() == 2).await;
    fetch.gate.add_permits(held);
    settle(|| !jwks.0.state().under_way).await;
    assert!(jwks.key("b", after(FRESH)).await.is_ok());
    assert_eq!(fetch.count(), 2);
    // The key that the issuer withdrew is gone.
    assert_eq!(jwks.key("a", after(FRESH)).await, Err(NoKey::Unknown));
}

#[tokio::test]
async fn an_issuer_that_fails_keeps_its_keys_for_a_day() {
    let fetch = Arc::new(Scripted::new([Ok(set(&[Signer::ed25519().jwk("a")])), Ok(set(&[])), Err("503")]));
    let jwks = jwks(&fetch);
    jwks.prepare(NOW).await;
    let hour = Duration::from_secs(3600);
    for n in 1..24 {
        assert!(jwks.key("a", after(hour * n)).await.is_ok(), "{n}");
        settle(|| !jwks.0.state().under_way).await;
    }
    assert_eq!(fetch.count(), 24);
    assert_eq!(jwks.key("a", after(STALE)).await, Err(NoKey::Unavailable));
    // Nor is it asked again and again.
    for _ in 0..1000 {
        assert_eq!(jwks.key("a", after(STALE)).await, Err(NoKey::Unavailable));
    }
    assert_eq!(fetch.count(), 25);
}

#[tokio::test]
async fn an_issuer_that_failed_at_the_start_is_asked_again() {
    let fetch =
        Arc::new(Scripted::new([Err("refused"), Err("refused"), Ok(set(&[Signer::ed25519().jwk("a")]))]));
    let jwks = jwks(&fetch);
    jwks.prepare(NOW).await;
    assert_eq!(jwks.key("a", NOW).await, Err(NoKey::Unavailable));
    assert_eq!(fetch.count(), 1);
    assert_eq!(jwks.key("a", after(RETRY)).await, Err(NoKey::Unavailable));
    assert!(jwks.key("a", after(RETRY * 2)).await.is_ok());
    // A clock that was set back does not stop it.
    assert!(jwks.key("a", UnixMillis(0)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_hangs_is_given_up() {
    let fetch = Arc::new(Scripted::new([Ok(set(&[Signer::ed25519().jwk("a")]))]));
    fetch.gate.forget_permits(usize::MAX);
    let jwks = jwks(&fetch);
    assert_eq!(jwks.key("a", NOW).await, Err(NoKey::Unavailable));
    assert!(!jwks.0.state().under_way);
}
