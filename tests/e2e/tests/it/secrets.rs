//! Rule 7: a secret is in no topic in clear, no log, no metric, no answer of the API and no index, not even when an
//! endpoint echoes everything that it was given, in whatever encoding.

use std::cell::RefCell;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use hookstream_e2e::{
    Answer, Arrived, Behaviour, Caller, Canaries, Reply, Role, SOON, Service, Stack, Then, free_address,
    openapi, wait_until,
};
use serde_json::{Value, json};

/// What is kept of a response's body.
const KEPT_BYTES: usize = 16 * 1024;
const EVENTS: usize = 6;
const KINDS: [&str; 6] = ["whsec", "plain", "header", "basic", "bearer", "oauth2"];
/// What endpoints do with what they get.
const ENDPOINTS: [&str; 4] = ["echo", "fail", "cut", "garbage"];

/// Secrets that their encodings change, as far as they may hold such characters.
fn canaries() -> Canaries {
    let mut canaries = Canaries::default();
    for (name, secret) in [
        ("signing key", r#"cAn4ry+signing/key&of="32"bytes%"#),
        ("plain secret", r#"cAn4ry plain\secret/+&="x""#),
        ("own header", r#"cAn4ry-own/"header"+value&=%41"#),
        ("header value", r#"cAn4ry-header\value/+&="#),
        ("password", r#"cAn4ry:pass"word"/+&=%"#),
        ("bearer token", r#"cAn4ry-bearer.token/+&="x""#),
        ("oauth2 secret", r#"cAn4ry-oauth2/secret+&"x""#),
        ("granted token", r#"cAn4ry-granted.token/+&="x""#),
        ("admin token", r#"cAn4ry-admin/token+&"operators""#),
        ("master key", r#"cAn4ry+master/key&of="32"bytes.%"#),
    ] {
        canaries.add(name, secret);
    }
    for name in ["signing key", "master key"] {
        canaries.add(&format!("{name} in base64"), &STANDARD.encode(canaries.get(name)));
    }
    canaries
}

/// The operator, who keeps every answer.
struct Operator {
    caller: Caller,
    answers: RefCell<Vec<(String, String)>>,
}

impl Operator {
    fn new(caller: Caller) -> Self {
        Self { caller, answers: RefCell::default() }
    }

    fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let reply = self.caller.call(method, path, headers, body);
        self.keep(&format!("{method} {path}"), &reply);
        reply
    }

    fn keep(&self, what: &str, reply: &Reply) {
        self.answers.borrow_mut().push((what.to_owned(), format!("{:?}", reply.headers)));
        self.answers.borrow_mut().push((what.to_owned(), reply.body.clone()));
    }

    fn get(&self, path: &str) -> Reply {
        self.call("GET", path, &[], "")
    }

    fn post(&self, path: &str, body: &Value) -> Reply {
        self.call("POST", path, &[], &body.to_string())
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

fn percent(text: &str) -> String {
    let one = |byte: u8| {
        if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(one).collect()
}

/// With the escapes in lower case.
fn lower_percent(text: &str) -> String {
    let mut parts = percent(text).split('%').map(str::to_owned).collect::<Vec<_>>();
    parts.iter_mut().skip(1).for_each(|part| part[..2].make_ascii_lowercase());
    parts.join("%")
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}

/// What an endpoint has been given that is secret, and what it can make of that.
fn given(arrived: &Arrived) -> Vec<String> {
    let own = ["x-secret", "x-own", "x-auth", "authorization"];
    let mut given: Vec<String> = arrived
        .headers
        .iter()
        .filter(|(name, _)| own.contains(&&**name))
        .map(|(_, value)| value.clone())
        .collect();
    let decoded = given.iter().filter_map(|value| STANDARD.decode(value.strip_prefix("Basic ")?).ok());
    let decoded: Vec<String> = decoded.filter_map(|bytes| String::from_utf8(bytes).ok()).collect();
    let key = given.iter().filter_map(|value| STANDARD.decode(value.strip_prefix("whsec_")?).ok());
    let key: Vec<String> = key.filter_map(|bytes| String::from_utf8(bytes).ok()).collect();
    given.extend(decoded);
    given.extend(key);
    given
}

/// Everything, in every encoding, in headers and in the body.
fn echo(arrived: &Arrived, status: u16) -> Answer {
    let given = given(arrived);
    let dump = format!("{}\n{}", given.join("\n"), String::from_utf8_lossy(&arrived.body));
    let json = quoted(&dump);
    let body = [
        dump.clone(),
        json.clone(),
        json.replace('/', "\\/").replace('&', "\\u0026").replace('+', "\\u002B"),
        quoted(&json),
        percent(&dump),
        lower_percent(&dump),
        percent(&json),
        quoted(&percent(&dump)),
        STANDARD.encode(&dump),
        STANDARD.encode(format!(".{dump}")),
        STANDARD.encode(format!("..{dump}")),
        URL_SAFE.encode(&json),
        percent(&STANDARD.encode(&dump)),
        hex(&dump),
        hex(&dump).to_ascii_uppercase(),
    ];
    let body = body.join("\n");
    assert!(body.len() < KEPT_BYTES, "{} bytes: what is cut off is not looked at", body.len());
    let mut answer = Answer::status(status);
    for (n, value) in given.iter().enumerate() {
        let forms = [value.clone(), quoted(value), percent(value), STANDARD.encode(value), hex(value)];
        for (form, value) in forms.iter().enumerate() {
            answer = answer.header(&format!("x-echo-{n}-{form}"), value);
        }
        answer = answer.header(&hex(value), "a name").header(&format!("x-{}", hex(value)), "a name");
    }
    answer.body(body)
}

/// A body whose end, as far as it is kept, is a few bytes of a secret in some encoding.
fn cut(arrived: &Arrived, n: usize) -> Answer {
    let given = given(arrived);
    let value = given.get(n % given.len().max(1)).map_or("", String::as_str);
    // What stands before it is no secret, so it may stay.
    let prefixes = ["Basic ", "Bearer ", "Token ", "whsec_"];
    let secret = prefixes.iter().find_map(|prefix| value.strip_prefix(prefix)).unwrap_or(value).to_owned();
    let forms = [
        secret.clone(),
        percent(&secret),
        quoted(&secret)[1..].to_owned(),
        STANDARD.encode(&secret),
        hex(&secret),
    ];
    let form = &forms[n % forms.len()];
    let kept = 1 + (n * 3) % (form.len() - 1);
    Answer::status(200).body(format!("{}{form}{}", "~".repeat(KEPT_BYTES - kept), "~".repeat(1000)))
}

fn endpoints(stack: &Stack) {
    for kind in KINDS {
        let path = |endpoint: &str| format!("/in/{endpoint}/{kind}");
        stack.receiver.choose(&path("echo"), |arrived| echo(arrived, 200).into());
        stack.receiver.choose(&path("fail"), |arrived| echo(arrived, 500).into());
        let count = AtomicUsize::new(0);
        stack
            .receiver
            .choose(&path("cut"), move |arrived| cut(arrived, count.fetch_add(1, Ordering::Relaxed)).into());
        stack.receiver.choose(&path("garbage"), |arrived| {
            let bytes =
                format!("HTTP/1.1 200 {}\r\n{}\r\n\r\n", given(arrived).join(" "), given(arrived).join(" "));
            Behaviour::raw(bytes, Then::Close)
        });
    }
}

/// The account `acme` with everything that may be secret; returns its webhooks.
fn configure(operator: &Operator, stack: &Stack, canaries: &mut Canaries) -> Vec<String> {
    let account = json!({ "name": "acme", "verification": "none" });
    operator.post("/api/v1/accounts", &account).expect(201);
    let endpoint = stack.receiver.url("/in");
    let authorization = |name: &str, credentials: Value| {
        let mut document = json!({ "account": "acme", "name": name, "endpoint": endpoint });
        document
            .as_object_mut()
            .expect("it is one")
            .extend(credentials.as_object().cloned().unwrap_or_default());
        operator.post("/api/v1/authorizations", &document).expect(201);
    };
    authorization("header", json!({ "header": { "name": "X-Auth", "value": canaries.get("header value") } }));
    authorization("basic", json!({ "basic": { "user": "ann", "password": canaries.get("password") } }));
    authorization("bearer", json!({ "bearer": { "token": canaries.get("bearer token") } }));
    let grant =
        json!({ "access_token": canaries.get("granted token"), "token_type": "Bearer", "expires_in": 3600 });
    stack.receiver.on("/token", Answer::status(200).body(grant.to_string()));
    let oauth2 = json!({ "tokenUrl": stack.receiver.url("/token"), "clientId": "us",
        "clientSecret": canaries.get("oauth2 secret") });
    authorization("oauth2", json!({ "oauth2": oauth2 }));

    let whsec = format!("whsec_{}", canaries.get("signing key in base64"));
    let mut webhooks = Vec::new();
    for kind in KINDS {
        for endpoint in ENDPOINTS {
            let mut document = json!({
                "account": "acme", "name": format!("{kind} {endpoint}"), "eventTypes": ["*"],
                "url": stack.receiver.url(&format!("/in/{endpoint}/{kind}")), "retry": ["0s", "100ms"],
            });
            match kind {
                "whsec" => {
                    document["secret"] = json!(whsec);
                    document["secretHeader"] = json!("X-Secret");
                    document["headers"] = json!({ "X-Own": format!("Token {}", canaries.get("own header")) });
                }
                "plain" => {
                    document["secret"] = json!(canaries.get("plain secret"));
                    document["signature"] = json!({ "hmacSha256Hex": "X-Signature" });
                    document["secretHeader"] = json!("X-Secret");
                }
                _ => {
                    document["authorization"] = json!(kind);
                    document["secretHeader"] = json!("X-Secret");
                }
            }
            // What is made for it is in this answer, and never again.
            let made = operator.caller.post("/api/v1/webhooks", &document).expect(201).json();
            if let Some(generated) = made["generatedSecret"].as_str() {
                canaries.add(&format!("{kind} {endpoint}"), generated.trim_start_matches("whsec_"));
            } else {
                operator.get(&format!("/api/v1/webhooks/{}", text(&made["id"]))).expect(200);
            }
            webhooks.push(text(&made["id"]));
        }
    }
    let draft = json!({ "account": "acme", "name": "oauth2", "eventTypes": ["*"], "state": "draft",
        "url": stack.receiver.url("/in/oauth2"), "authorization": "oauth2", "secret": whsec });
    operator.post("/api/v1/webhooks", &draft).expect(201);
    let rotated = format!("/api/v1/webhooks/{}/rotate-secret", webhooks[0]);
    let rotated = operator.caller.post(&rotated, &json!({ "overlap": "1h" })).expect(200).json();
    canaries.add("rotated secret", text(&rotated["generatedSecret"]).trim_start_matches("whsec_"));
    let (client, secret) =
        operator.caller.register(&json!({ "name": "c", "account": "acme", "scopes": ["admin"] }));
    canaries.add("client secret", &secret);
    canaries.add("access token", &client.token.unwrap_or_default());
    webhooks
}

/// Requests with secrets in all the wrong places: what refuses them must not repeat them.
fn mistakes(operator: &Operator, canaries: &Canaries, webhook: &str) {
    let secret = canaries.get("plain secret");
    let rotate = format!("/api/v1/webhooks/{webhook}/rotate-secret");
    let one = format!("/api/v1/webhooks/{webhook}");
    let webhook = |field: &str, value: Value| {
        let mut document = json!({ "name": "x", "eventTypes": ["a"], "url": "https://a.example/" });
        document[field] = value;
        document
    };
    let authorization = |credentials: Value| {
        let mut document = json!({ "name": "x", "endpoint": "https://a.example" });
        document
            .as_object_mut()
            .expect("it is one")
            .extend(credentials.as_object().cloned().unwrap_or_default());
        document
    };
    let broken = [format!("{secret}\n"), format!("é{secret}"), format!("\u{0}{secret}")];
    let mut wrong = vec![
        ("/api/v1/webhooks", webhook("secret", json!({ "value": secret }))),
        ("/api/v1/webhooks", webhook("secret", json!([secret]))),
        ("/api/v1/webhooks", webhook("secret", json!(secret))),
        ("/api/v1/webhooks", webhook("secret", json!(format!("whsec_{secret}")))),
        ("/api/v1/webhooks", webhook("headers", json!([secret]))),
        ("/api/v1/webhooks", webhook("headers", json!({ "x-a": [secret] }))),
        ("/api/v1/webhooks", webhook("headers", json!({ "host": secret }))),
        ("/api/v1/authorizations", authorization(json!({ "bearer": secret }))),
        ("/api/v1/authorizations", authorization(json!({ "bearer": { "token": [secret] } }))),
        ("/api/v1/authorizations", authorization(json!({ "basic": { "user": "a:b", "password": secret } }))),
        ("/api/v1/authorizations", authorization(json!({ "header": { "name": "host", "value": secret } }))),
        ("/api/v1/apply", json!({ "webhooks": [{ "account": "acme", "name": "x", "secrets": [secret] }] })),
        (
            "/api/v1/apply",
            json!({ "webhooks": [{ "account": "acme", "name": "x", "secrets": secret, "headers": secret }] }),
        ),
        (&*rotate, json!({ "secret": [secret] })),
        (&*rotate, json!({ "secret": secret, "overlap": "x" })),
    ];
    for text in &broken {
        wrong.push(("/api/v1/webhooks", webhook("secret", json!(text))));
        wrong.push(("/api/v1/webhooks", webhook("headers", json!({ "x-a": text }))));
        wrong.push(("/api/v1/authorizations", authorization(json!({ "bearer": { "token": text } }))));
        wrong.push((
            "/api/v1/authorizations",
            authorization(json!({ "basic": { "user": "a", "password": text } })),
        ));
        wrong.push((&*rotate, json!({ "secret": text })));
    }
    for (path, body) in &wrong {
        let reply = operator.post(path, body);
        assert_eq!(reply.status, 400, "{path} {body}: {}", reply.body);
    }
    operator.call("PATCH", &one, &[], &json!({ "secret": [secret] }).to_string()).expect(400);
    for path in ["/api/v1/webhooks", "/api/v1/apply", "/api/v1/events"] {
        let cut = format!("{{\"secret\":{}", quoted(secret));
        let reply = operator.call("POST", path, &[], &cut);
        assert_eq!(reply.status, 400, "{path}: {}", reply.body);
    }
    let nobody = Caller { addr: operator.caller.addr, token: None };
    for scheme in ["Bearer", "Basic", "Token"] {
        let reply =
            nobody.call("GET", "/api/v1/webhooks", &[("authorization", &format!("{scheme} {secret}"))], "");
        operator.keep(scheme, &reply.expect(401));
    }
    let form = ("content-type", "application/x-www-form-urlencoded");
    let body = format!("grant_type=client_credentials&client_id=x&client_secret={}", percent(secret));
    operator.keep("/oauth/token", &nobody.call("POST", "/oauth/token", &[form], &body));
    let basic = format!("Basic {}", STANDARD.encode(format!("x:{secret}")));
    let reply = nobody.call(
        "POST",
        "/oauth/token",
        &[form, ("authorization", &basic)],
        "grant_type=client_credentials",
    );
    operator.keep("/oauth/token", &reply);
    // An endpoint that refuses its ping, and one that can't be asked at all.
    let nobody = free_address();
    for url in [format!("http://{nobody}/x"), format!("http://{nobody}")] {
        let mut document = webhook("headers", json!({ "x-own": canaries.get("own header") }));
        document["url"] = json!(url);
        operator.post("/api/v1/webhooks", &document).expect(422);
    }
}

/// Every `GET` that there is, of everything that there is.
fn look_at_everything(operator: &Operator) -> usize {
    let description = operator.get("/api/v1/openapi.json").expect(200).json();
    operator.get("/api/v1/docs").expect(200);
    let reads: Vec<_> =
        openapi::operations(&description).into_iter().filter(|op| op.method == "GET").collect();
    let mut ids = Vec::new();
    for read in reads.iter().filter(|read| !read.has_parameters()) {
        let mut query = if read.query.iter().any(|name| name == "q") { "q=" } else { "" }.to_owned();
        loop {
            let page = operator.get(&format!("{}?{query}", read.path)).expect(200).json();
            for item in page["results"].as_array().into_iter().flatten() {
                let names =
                    ["id", "uid", "uuid", "deliveryId", "name"].iter().filter_map(|name| item[name].as_str());
                ids.extend(names.filter(|name| !name.contains(' ')).map(str::to_owned));
            }
            let Some(next) = page["next"].as_str() else { break };
            query = format!("cursor={next}");
        }
    }
    ids.sort();
    ids.dedup();
    let mut shown = 0;
    for read in reads.iter().filter(|read| read.has_parameters()) {
        for (path, _) in read.paths(&ids) {
            shown += usize::from(operator.get(&path).status == 200);
        }
    }
    shown
}

fn files(dir: &Path, see: &mut dyn FnMut(&Path, Vec<u8>)) {
    for entry in std::fs::read_dir(dir).expect("the stack's directory") {
        let path = entry.expect("an entry of it").path();
        if path.is_dir() {
            files(&path, see);
        } else {
            let bytes = std::fs::read(&path).expect("a file of ours");
            see(&path, bytes);
        }
    }
}

/// Of every delivery: the endpoint, and what the API shows of it.
fn deliveries(operator: &Operator) -> Vec<Value> {
    let mut all = Vec::new();
    let mut query = String::new();
    loop {
        let page = operator.get(&format!("/api/v1/executions?limit=100{query}")).expect(200).json();
        all.extend(page["results"].as_array().cloned().unwrap_or_default());
        let Some(next) = page["next"].as_str() else { return all };
        query = format!("&cursor={next}");
    }
}

#[test]
fn are_nowhere_even_if_an_endpoint_echoes_them() {
    let mut canaries = canaries();
    let stack = Stack::new("secrets");
    let settings = [
        ("LOG__LEVEL", "debug"),
        ("SECRETS__KEY", canaries.get("master key in base64")),
        ("API__ADMIN_TOKEN", canaries.get("admin token")),
        ("API__REQUESTS_PER_SECOND", "100000"),
    ];
    let mut services = Role::ALL.map(|role| stack.launch(role, &settings));
    services.iter_mut().for_each(Service::wait_ready);
    let [.., api] = &services;
    let operator = Operator::new(
        Caller { addr: api.api(), token: None }
            .with_token(canaries.get("admin token"))
            .with_default_account(),
    );
    endpoints(&stack);
    let webhooks = configure(&operator, &stack, &mut canaries);
    mistakes(&operator, &canaries, &webhooks[0]);
    for webhook in &webhooks {
        for action in ["ping", "test"] {
            operator.post(&format!("/api/v1/webhooks/{webhook}/{action}"), &json!({})).expect(200);
        }
    }
    stack.receiver.forget();
    for n in 0..EVENTS {
        let event = json!({ "type": "order.created", "account": "acme", "data": { "n": n } });
        operator.post("/api/v1/events", &event).expect(202);
    }
    let expected = EVENTS * webhooks.len();
    wait_until("every delivery has ended", SOON, || {
        let ledger = stack.ledger();
        ledger.ended("delivered") + ledger.ended("dead") == expected
    });
    wait_until("the history shows it", SOON, || {
        let ended = deliveries(&operator);
        ended.iter().filter(|item| item["outcome"] != "waiting").count() == expected
    });
    let shown = look_at_everything(&operator);
    assert!(shown > expected, "{shown} things shown of {expected} deliveries and what made them");

    // Whoever looks for them does find them where they are: in what the endpoints got.
    let search = canaries.search();
    let arrived: Vec<Arrived> = stack.receiver.seen(|seen| seen.last().iter().cloned().collect());
    for name in [
        "plain secret",
        "own header",
        "header value",
        "password",
        "bearer token",
        "granted token",
        "rotated secret",
    ] {
        let sent = |request: &Arrived| {
            let echo = format!("{:?}", echo(request, 200).headers);
            search.find(echo.as_bytes()).iter().any(|found| found.starts_with(name))
        };
        assert!(arrived.iter().any(sent), "`{name}` was sent to nobody");
    }

    let mut masked = 0;
    for item in deliveries(&operator) {
        let detail =
            operator.get(&format!("/api/v1/executions/{}", text(&item["deliveryId"]))).expect(200).json();
        let attempts = detail["attemptLog"].as_array().cloned().unwrap_or_default();
        for attempt in attempts {
            assert_eq!(attempt["recorded"], "kept", "{attempt}");
            let (url, body) = (text(&attempt["request"]["url"]), &attempt["response"]["body"]["text"]);
            if url.contains("/cut/") {
                // What is left of a secret that was cut is too little to be worth anything.
                let body = text(body);
                let end = body.trim_start_matches('~');
                assert!(end == "***" || end.len() <= 3, "{end}");
            } else if !url.contains("/garbage/") {
                assert!(text(body).contains("***") && text(body).contains("order.created"), "{attempt}");
            }
            masked += 1;
        }
    }
    assert!(masked >= expected, "{masked} attempts were looked at");

    for topic in stack.kafka.topics(&stack.namespace) {
        for record in stack.kafka.read_uncommitted(&topic) {
            let place = format!("{topic}[{}]@{}", record.partition, record.offset);
            search.none_in(&place, record.key.as_deref().unwrap_or_default());
            search.none_in(&place, format!("{:?}", record.headers));
            search.none_in(&place, record.value.as_deref().unwrap_or_default());
        }
    }
    for (what, answer) in operator.answers.borrow().iter() {
        search.none_in(what, answer);
    }
    for service in &services {
        search.none_in(&format!("metrics of {}", service.name), service.metrics_text());
    }
    assert!(services.iter().any(|service| service.log().contains(" DEBUG ")), "the logs say little");
    // Logs, and the index of the history.
    let mut indexes = 0;
    files(stack.dir(), &mut |path, bytes| {
        indexes += usize::from(path.extension().is_some_and(|extension| extension == "db"));
        search.none_in(&path.display().to_string(), bytes);
    });
    assert_eq!(indexes, 1, "the index of the history");
}
