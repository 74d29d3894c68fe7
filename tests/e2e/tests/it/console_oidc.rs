//! Signing in to the console with an account elsewhere, in a real browser.

use hookstream_e2e::{Browser, Caller, Provider, Role, SOON, Stack, provider, wait_until};
use serde_json::{Value, json};

use crate::api::text;

fn settings(provider: &Provider) -> Value {
    json!({ "api": {
        "issuers": [{ "issuer": provider.issuer(), "audience": "hookstream", "jwks_url": provider.url("/jwks"),
            "account_claim": "tenant", "unbound": true }],
        "sign_in": { "name": "Example", "issuer": provider.issuer(),
            // The user's browser goes there; it is another site than the console's.
            "authorization_url": format!("{}/authorize", provider.issuer()),
            "token_url": provider.url("/token"), "client_id": provider::CLIENT_ID,
            "client_secret": provider::CLIENT_SECRET, "grants": ["webhooks:read"] },
    } })
}

#[test]
fn people_sign_in_with_an_account_elsewhere() {
    let stack = Stack::new("console-oidc");
    let provider = Provider::start();
    let mut api = stack.launch_configured(Role::Api, &settings(&provider));
    api.wait_ready();
    let admin = api.admin();
    for name in ["agency", "other"] {
        admin.post("/api/v1/accounts", &json!({ "name": name, "verification": "none" })).expect(201);
        let webhook = json!({ "name": format!("of {name}"), "account": name, "state": "draft",
            "url": stack.receiver.url("/x"), "eventTypes": ["*"] });
        admin.post("/api/v1/webhooks", &webhook).expect(201);
    }
    let browser = Browser::start("console-oidc");
    let home = format!("http://{}", api.api());

    // Somebody of an account, with scopes in the token: they see its webhooks, and may change them.
    provider.user(json!({ "sub": "u-1", "name": "Ann Agent", "tenant": "agency",
        "scope": "openid webhooks:read webhooks:write" }));
    browser.goto(&format!("{home}/console/webhooks?q=of"));
    browser.wait_for_text("Sign in with Example");
    browser.screenshot("oidc-1-sign-in.png");
    assert_accessible(&browser);
    browser.click_text("Sign in with Example");
    browser.wait_for_text("of agency");
    assert_eq!(browser.url(), format!("{home}/console/webhooks?q=of"), "they are where they were going");
    browser.wait_for_text("Ann Agent");
    browser.absent("of other");
    browser.absent("Sources");
    browser.screenshot("oidc-2-signed-in.png");
    let others = admin.get("/api/v1/webhooks?q=other").expect(200).json();
    browser.goto(&format!("{home}/console/webhooks/{}", text(&others["results"][0]["id"])));
    browser.wait_for_text("there is no such thing, or it is not yours");

    // What they do is theirs in the audit.
    browser.goto(&format!("{home}/console/webhooks"));
    browser.click_text("of agency");
    browser.click_text("Duplicate");
    browser.wait_for_text("Duplicated as a draft.");
    let webhooks = admin.get("/api/v1/webhooks?q=copy").expect(200).json();
    assert_eq!(webhooks["results"].as_array().map(Vec::len), Some(1), "{webhooks}");
    let theirs = format!("\"issuer:{} u-1\"", provider.issuer());
    wait_until("the audit names them", SOON, || {
        admin.get("/api/v1/audit?resource=webhook").expect(200).body.contains(&theirs)
    });

    browser.click_text("Sign out");
    browser.wait_for_text("Sign in with Example");
    browser.goto(&format!("{home}/console/webhooks"));
    browser.absent("of agency");

    // Nobody's: what the token lacks, the settings give.
    provider.user(json!({ "sub": "u-2", "preferred_username": "bob" }));
    browser.click_text("Sign in with Example");
    browser.wait_for_text("of other");
    browser.wait_for_text("bob");
    browser.absent("+ Add webhook");
    browser.click_text("Sign out");

    // Those who are not signed in are told so, in their language.
    provider.refuse();
    browser.click_text("Sign in with Example");
    browser.wait_for_text("You were not signed in");
    browser.screenshot("oidc-3-refused.png");
    assert_accessible(&browser);
    provider.user(json!({ "sub": "u-3", "tenant": "nobody's" }));
    browser.click_text("Norsk");
    browser.click_text("Logg inn med Example");
    browser.wait_for_text("Be operatøren om tilgang");
    provider.user(json!({ "sub": "u-1", "tenant": "agency", "aud": "another" }));
    browser.click_text("Logg inn med Example");
    browser.wait_for_text("svarte ikke som den skal");
    browser.goto(&format!("{home}/console/sign-in/callback?code=code+0&state=of-another-browser"));
    browser.wait_for_text("Logg inn på nytt");
    browser.goto(&format!("{home}/console/webhooks"));
    browser.wait_for_text("Logg inn med Example");

    // Where forms may lead, and the rest of the policy, is as it is without.
    let errors = browser.console_errors();
    let errors: Vec<_> =
        errors.iter().filter(|error| !error.contains("responded with a status of")).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    assert!(provider.complaints().is_empty(), "{:?}", provider.complaints());
    let log = api.log();
    assert!(log.contains("somebody could not sign in with the provider"), "{log}");
    for secret in [provider::CLIENT_SECRET, "code_verifier", "code+0", "eyJ"] {
        assert!(!log.contains(secret), "the log has `{secret}`");
    }
}

/// The callback is for the browser that began.
#[test]
fn nobody_brings_back_what_another_began() {
    let stack = Stack::new("console-oidc-state");
    let provider = Provider::start();
    let mut api = stack.launch_configured(Role::Api, &settings(&provider));
    api.wait_ready();
    provider.user(json!({ "sub": "u-1", "scope": "webhooks:read" }));
    let nobody = Caller { addr: api.api(), token: None };
    let begin = || {
        let begun = nobody.get("/console/sign-in/oidc?to=https://evil.example/").expect(303);
        let cookie = begun.headers["set-cookie"].clone();
        assert!(cookie.contains("; HttpOnly; SameSite=Lax; Max-Age=600"), "{cookie}");
        let there = begun.headers["location"].replace(provider.issuer(), "");
        let at_provider = Caller { addr: provider.address(), token: None };
        let back = at_provider.get(&there).expect(302).headers["location"].clone();
        let back = back.split_once("/console").map(|(_, path)| format!("/console{path}"));
        (cookie.split(';').next().unwrap_or_default().to_owned(), back.expect("a way back"))
    };
    let (ann, bob) = (begin(), begin());
    let come = |cookie: &str, path: &str| nobody.call("GET", path, &[("cookie", cookie)], "");
    // Bob's browser is given Ann's way back, and a way back without having begun.
    drop(come(&bob.0, &ann.1).expect(400));
    drop(nobody.get(&ann.1).expect(400));
    let signed_in = come(&ann.0, &ann.1).expect(303);
    assert_eq!(signed_in.headers["location"], "/console/webhooks");
    // Even if a browser kept its cookie: the provider takes a code once.
    drop(come(&ann.0, &ann.1).expect(400));
    // Who has begun is not signed in.
    let as_session = bob.0.replace("hookstream-sign-in=", "hookstream=");
    let sent = come(&as_session, "/console/webhooks").expect(303);
    assert!(sent.headers["location"].starts_with("/console/sign-in?"), "{sent:?}");
    assert_eq!(provider.complaints(), ["an unknown code, or a used one"]);
}

#[track_caller]
fn assert_accessible(browser: &Browser) {
    let found = browser.axe();
    let serious: Vec<_> =
        found.iter().filter(|found| matches!(found.impact.as_str(), "serious" | "critical")).collect();
    assert!(serious.is_empty(), "{}: {serious:#?}", browser.url());
}
