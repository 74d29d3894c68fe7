//! The console in a real browser: the whole life of a webhook as each platform's people live it, and what all pages have in
//! common.

use hookstream_e2e::{
    ADMIN_TOKEN, Answer, Browser, CLOUDEVENTS, Caller, Message, Role, SOON, Service, Stack, wait_until,
};
use serde_json::{Value, json};

use crate::api::text;

/// An installation whose console is open.
struct Console {
    stack: Stack,
    _services: [Service; 4],
    admin: Caller,
    browser: Browser,
}

impl Console {
    fn open(name: &str) -> Self {
        let stack = Stack::new(name);
        let services = stack.start_all();
        let api = services.iter().find(|service| service.name.contains("api")).expect("the API");
        let admin = api.admin().with_default_account();
        let topic = stack.source_topic();
        let source = json!({ "name": "orders", "topics": [topic], "format": "cloudevents" });
        admin.post("/api/v1/sources", &source).expect(201);
        let browser = Browser::start(name);
        let console = Self { stack, admin, browser, _services: services };
        console.goto("/");
        console
    }

    fn goto(&self, path: &str) {
        self.browser.goto(&format!("http://{}{path}", self.admin.addr));
    }

    fn sign_in(&self, client: &str, secret: &str) {
        self.browser.fill("Client id", client);
        self.browser.fill("Client secret or token", secret);
        self.browser.click_text("Sign in");
        self.browser.wait_for_text("Sign out");
    }

    fn picture(&self, name: &str) {
        self.browser.screenshot(format!("{name}.png"));
    }

    /// What the browser has to complain of, but for answers that say that something is wrong with a form, and for what htmx
    /// says of requests that end with their page.
    #[track_caller]
    fn assert_quiet(&self) {
        let errors: Vec<String> = self
            .browser
            .console_errors()
            .into_iter()
            .filter(|error| !error.contains("the server responded with a status of 4"))
            .filter(|error| !error.contains("htmx:sendAbort") && !error.contains("htmx:afterRequest"))
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }

    /// Nothing on the page keeps anybody from using it.
    #[track_caller]
    fn assert_accessible(&self) {
        let found = self.browser.axe();
        let serious: Vec<_> =
            found.iter().filter(|found| matches!(found.impact.as_str(), "serious" | "critical")).collect();
        assert!(serious.is_empty(), "{}: {serious:#?}", self.browser.url());
    }
}

/// A: content of one's own, a template with placeholders, a secret in a header, the run history.
#[test]
fn the_travel_platform_lives() {
    let console = Console::open("console-a");
    let Console { browser, stack, admin, .. } = &console;
    let sample = json!({ "n": 7, "Booking": { "Id": "B-1" } });
    admin.post("/api/v1/event-types", &json!({ "name": "order.created", "sample": sample })).expect(201);
    browser.wait_for_text("Sign in");
    browser.fill("Client secret or token", "something that is wrong");
    browser.click_text("Sign in");
    browser.wait_for_text("the secret is wrong");
    console.sign_in("", ADMIN_TOKEN);
    browser.wait_for_text("There are no webhooks yet");
    console.picture("a-1-empty");

    // What is wrong stands at its field, and what was typed is still there.
    browser.click_text("+ Add webhook");
    browser.fill("Name (required)", "Bookings");
    browser.fill("URI (required)", "example.com/hooks");
    browser.click("input[type=checkbox][value='order.created']");
    browser.choose("Payload", "A template of your own");
    browser.fill("Template", r#"{"id":"[Booking.Idd]"}"#);
    browser.fill("Secret", "a secret of ours");
    browser.fill("Header with the secret itself", "x-secret");
    browser.click_text("Save");
    browser.wait_for_text("Some fields need another look");
    console.picture("a-2-errors");
    console.assert_accessible();
    assert_eq!(browser.value("URI (required)"), "example.com/hooks");
    assert_eq!(browser.value("Template"), r#"{"id":"[Booking.Idd]"}"#);

    // The preview says the same while one types, and then shows what becomes of the sample.
    browser.wait_for_text("leads nowhere");
    browser.fill("URI (required)", &stack.receiver.url("/a"));
    // Paths of the sample are proposed.
    browser.fill("Template", "[book");
    browser.click(".proposals button");
    assert_eq!(browser.value("Template"), "[Booking.Id]");
    browser.fill("Template", r#"{"eventType":"[EventType]","id":"[booking.id]"}"#);
    browser.wait_for_text(r#"{"eventType":"order.created","id":"B-1"}"#);
    console.picture("a-3-preview");
    browser.click("input[type=checkbox][value='standard']");
    browser.click_text("Save");
    browser.wait_for_text("Created.");
    browser.wait_for_text("nothing sent yet");
    console.picture("a-4-list");

    // An event is produced to Kafka, and its delivery appears while one looks.
    browser.click_text("Bookings");
    browser.wait_for_text("Nothing was sent yet");
    stack.receiver.forget();
    stack.produce("order.created", 0, 1);
    browser.find("#lines .delivered");
    browser.wait_until("the page is not told to be empty", || {
        browser.exec("return document.querySelector('.empty') === null", &json!([])) == json!(true)
    });
    let request = stack.receiver.seen(|seen| seen.last()[0].clone());
    assert_eq!(request.header("x-secret"), Some("a secret of ours"));
    let body: Value = serde_json::from_slice(&request.body).expect("JSON");
    assert_eq!(body["eventType"], "order.created");
    console.picture("a-5-history");
    browser.click("#lines a");
    browser.wait_for_text("Copy as curl");
    for shown in ["\"eventType\": \"order.created\"", "x-secret", "200"] {
        browser.wait_for_text(shown);
    }
    browser.absent("a secret of ours");
    let highlighted = "return CSS.highlights.get('key').size + CSS.highlights.get('string').size";
    assert!(browser.exec(highlighted, &json!([])).as_u64() > Some(3), "bodies are highlighted");
    console.picture("a-6-execution");
    console.assert_accessible();

    // Off, copied, gone.
    browser.click("main p a");
    browser.click_text("Unpublish");
    browser.wait_for_text("Unpublished: nothing is delivered any more.");
    browser.click_text("Duplicate");
    browser.wait_for_text("Duplicated as a draft.");
    assert_eq!(browser.value("Name (required)"), "Bookings (copy)");
    browser.click_text("Remove");
    browser.wait_for_text("Remove it for good?");
    browser.click("dialog[open] button.danger");
    browser.wait_for_text("Removed.");
    browser.wait_for_text("unpublished");
    browser.absent("(copy)");
    console.assert_quiet();
}

/// B: an agency's client sees its own webhooks; an endpoint must answer a ping before it is saved.
#[test]
fn the_profile_platform_lives() {
    let console = Console::open("console-b");
    let Console { browser, stack, admin, .. } = &console;
    for name in ["agency", "other"] {
        admin.post("/api/v1/accounts", &json!({ "name": name, "verification": "ping" })).expect(201);
    }
    let client = json!({ "name": "manager", "account": "agency", "scopes": ["webhooks:read", "webhooks:write", "history:read"] });
    let created = admin.post("/api/v1/clients", &client).expect(201).json();
    let elsewhere = json!({ "name": "of another", "account": "other", "state": "draft", "url": stack.receiver.url("/x"),
        "eventTypes": ["*"] });
    admin.post("/api/v1/webhooks", &elsewhere).expect(201);
    console.sign_in(&text(&created["id"]), &text(&created["clientSecret"]));
    browser.wait_for_text("There are no webhooks yet");
    browser.absent("of another");
    browser.absent("Sources");

    stack.receiver.on("/b", Answer::status(500));
    browser.click_text("+ Add webhook");
    browser.absent("Only events of this account");
    browser.fill("Name (required)", "Profiles");
    browser.fill("URI (required)", &stack.receiver.url("/b"));
    browser.fill("Other events and patterns", "TRAVELLER.UPDATE");
    browser.choose("Payload", "Profile notification");
    browser.click("input[type=checkbox][value='standard']");
    browser.fill("Header with the hex HMAC-SHA256 of the body", "x-signature");
    browser.fill("Secret", "S3cret!");
    browser.click_text("Save");
    browser.wait_for_text("answered the request with 500");
    console.picture("b-1-ping");
    stack.receiver.on("/b", Answer::status(200));
    browser.click_text("Save");
    browser.wait_for_text("Created.");
    browser.click_text("Profiles");
    let event = json!({ "type": "TRAVELLER.UPDATE", "account": "agency", "data": { "uuid": "25b46ba4-0e9e-4baa-83bd-ac21a50ef998",
        "company": { "uuid": "34f277f5-2618-4c9e-aa08-affa9f02dfaa" } } });
    stack.receiver.forget();
    admin.post("/api/v1/events", &event).expect(202);
    browser.find("#lines .delivered");
    let request = stack.receiver.seen(|seen| seen.last()[0].clone());
    assert_eq!(request.header("x-signature").map(str::len), Some(64));
    let body: Value = serde_json::from_slice(&request.body).expect("JSON");
    assert_eq!((&body["event"], &body["profileType"]), (&json!("UPDATE"), &json!("TRAVELLER")), "{body}");
    browser.click_text("Ping");
    browser.wait_for_text("The endpoint answered: 200");
    browser.click_text("Unpublish");
    browser.wait_for_text("Unpublished");
    browser.click_text("Remove");
    browser.click("dialog[open] button.danger");
    browser.wait_for_text("Removed.");
    // What is another's is not there.
    let others = admin.get("/api/v1/webhooks?q=another").expect(200).json();
    console.goto(&format!("/console/webhooks/{}", text(&others["results"][0]["id"])));
    browser.wait_for_text("there is no such thing, or it is not yours");
    console.assert_quiet();
}

/// C: an app with scopes has webhooks; a header of one's own; what a lost scope means is said.
#[test]
fn the_scheduling_platform_lives() {
    let console = Console::open("console-c");
    let Console { browser, stack, .. } = &console;
    console.sign_in("", ADMIN_TOKEN);
    for (kind, name, scopes) in
        [("Event types", "order.created", "Customers"), ("Event types", "shift.created", "Shift, Resources")]
    {
        browser.click_text(kind);
        browser.click_text("Add");
        browser.fill("Name (required)", name);
        browser.fill("Scopes", scopes);
        browser.click_text("Save");
        browser.wait_for_text("Created.");
    }
    browser.click_text("Apps");
    browser.click_text("Add");
    browser.fill("Name (required)", "Planner");
    browser.fill("Scopes", "Customers");
    browser.click_text("Save");
    browser.wait_for_text("Created.");

    browser.click_text("Webhooks");
    browser.click_text("+ Add webhook");
    browser.fill("Name (required)", "Planner's");
    browser.choose("App", "Planner");
    browser.fill("URI (required)", &stack.receiver.url("/c"));
    browser.click("input[type=checkbox][value='order.created']");
    browser.click("input[type=checkbox][value='shift.created']");
    browser.click_text("Add a header");
    browser.exec(
        "const [name, value] = arguments; const inputs = document.querySelectorAll('[data-rows] input');
         inputs[0].value = name; inputs[1].value = value;",
        &json!(["x-planner", "a value of ours"]),
    );
    browser.click_text("Save");
    browser.wait_for_text("needs the scope `Shift`, which the app lacks");
    console.picture("c-1-scopes");
    browser.click("input[type=checkbox][value='shift.created']");
    browser.click_text("Save");
    // No secret was typed: one was made, and is shown once.
    browser.wait_for_text("This is shown once");
    console.picture("c-2-secret");
    console.assert_accessible();
    browser.click_text("Go on to the list");
    browser.click_text("Planner's");
    stack.receiver.forget();
    stack.produce("order.created", 0, 1);
    browser.find("#lines .delivered");
    let request = stack.receiver.seen(|seen| seen.last()[0].clone());
    assert_eq!(request.header("x-planner"), Some("a value of ours"));

    browser.click_text("Apps");
    browser.click_text("Planner");
    browser.fill("Scopes", "Shift");
    browser.click_text("Save");
    browser.wait_for_text("Saved.");
    browser.click_text("Webhooks");
    browser.wait_for_text("scopes");
    browser.click_text("Planner's");
    browser.click_text("Remove");
    browser.click("dialog[open] button.danger");
    browser.wait_for_text("Removed.");
    console.assert_quiet();
}

/// D: an authorization that several use, XML with PUT, only errors are logged; in use it can't be removed.
#[test]
fn the_loyalty_platform_lives() {
    let console = Console::open("console-d");
    let Console { browser, stack, .. } = &console;
    console.sign_in("", ADMIN_TOKEN);
    browser.click_text("Authorizations");
    browser.wait_for_text("There is nothing here yet.");
    browser.click_text("Add");
    browser.fill("Name (required)", "CRM");
    browser.fill("Endpoint (required)", &stack.receiver.url("/"));
    browser.choose("Type", "basic");
    browser.fill("User name", "ann");
    browser.fill("Password", "a password of ours");
    console.picture("d-1-authorization");
    browser.click_text("Save");
    browser.wait_for_text("Created.");

    browser.click_text("Webhooks");
    browser.click_text("+ Add webhook");
    browser.fill("Name (required)", "Points");
    browser.fill("Description", "Points that were earned");
    browser.fill("URI (required)", &stack.receiver.url("/d"));
    browser.fill("Other events and patterns", "order.*");
    browser.choose("State", "draft");
    browser.choose("Method", "PUT");
    browser.fill("Content type", "application/xml");
    browser.choose("Payload", "A template of your own");
    browser.fill("Template", "<order n=\"[n]\"/>");
    browser.choose("Authorization", "CRM");
    browser.click_text("Log only errors");
    browser.fill("Secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    browser.click_text("Save");
    browser.wait_for_text("Created.");
    browser.wait_for_text("draft");
    browser.click_text("Points");
    browser.click_text("Publish");
    browser.wait_for_text("Published: events are delivered from now on.");

    stack.receiver.script("/d", [Answer::status(404).into()], Answer::status(200));
    stack.receiver.forget();
    stack.produce("order.created", 0, 1);
    browser.wait_for_text("404");
    let request = stack.receiver.seen(|seen| seen.last()[0].clone());
    assert_eq!(request.method, "PUT");
    assert_eq!(String::from_utf8_lossy(&request.body), "<order n=\"0\"/>");
    assert!(request.header("authorization").is_some_and(|value| value.starts_with("Basic ")));
    console.picture("d-2-failed");

    browser.click_text("Authorizations");
    browser.click_text("CRM");
    browser.click_text("Remove");
    browser.click("dialog[open] button.danger");
    browser.wait_for_text("is still used by");
    browser.click_text("Authorizations");
    browser.click_text("CRM");
    assert_eq!(browser.value("Password"), "", "a password is not shown again");
    browser.fill("Description", "ours");
    browser.click_text("Save");
    browser.wait_for_text("Saved.");

    browser.click_text("Webhooks");
    browser.choose("State", "published");
    browser.click_text("Filter");
    browser.click_text("Points");
    browser.click_text("Unpublish");
    browser.wait_for_text("Unpublished");
    browser.click_text("Duplicate");
    browser.wait_for_text("Duplicated as a draft.");
    browser.click_text("Save");
    browser.wait_for_text("Points (copy)");
    browser.click_text("Points");
    browser.click_text("Remove");
    browser.click("dialog[open] button.danger");
    browser.wait_for_text("Removed.");
    browser.wait_for_text("Points (copy)");
    console.assert_quiet();
}

/// E: a webhook is bound to a source and to an account, in Norwegian; found by its event.
#[test]
fn the_booking_platform_lives() {
    let console = Console::open("console-e");
    let Console { browser, stack, admin, .. } = &console;
    for name in ["hotel", "spa"] {
        admin.post("/api/v1/accounts", &json!({ "name": name, "verification": "none" })).expect(201);
    }
    admin.post("/api/v1/event-types", &json!({ "name": "booking.created" })).expect(201);
    console.sign_in("", ADMIN_TOKEN);
    browser.click_text("Norsk");
    browser.wait_for_text("Det finnes ingen webhooker ennå");
    browser.click_text("+ Legg til webhook");
    browser.fill("Navn (påkrevd)", "Analyse");
    browser.choose("Konto", "hotel");
    browser.choose("Kilde", "orders");
    browser.fill("URI (påkrevd)", &stack.receiver.url("/e"));
    browser.fill("Søk i hendelser", "book");
    browser.click("input[type=checkbox][value='booking.created']");
    browser.fill("Hemmelighet", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    browser.click_text("Lagre");
    browser.wait_for_text("Opprettet.");
    console.picture("e-1-norwegian");
    console.assert_accessible();
    browser.click_text("Analyse");
    stack.receiver.forget();
    // Another account's, and one of another source.
    let event = |account: &str, id: &str| json!({ "type": "booking.created", "id": id, "account": account, "subject": "room-7", "data": { "n": 1 } });
    admin.post("/api/v1/events", &event("spa", "b-1")).expect(202);
    admin.post("/api/v1/events", &event("hotel", "b-2")).expect(202);
    let own = json!({ "specversion": "1.0", "id": "b-3", "source": "/desk", "type": "booking.created", "account": "hotel",
        "data": { "n": 1 } });
    let own = Message { key: "room-7".to_owned(), value: own.to_string() };
    stack.kafka.produce(&stack.source_topic(), CLOUDEVENTS, &[own]);
    browser.find("#lines .delivered");
    assert_eq!(stack.receiver.seen(|seen| seen.distinct()), 1, "one of three is its own");

    browser.click_text("Hendelser");
    browser.fill("Id hos avsenderen", "b-2");
    browser.click_text("Søk");
    browser.wait_until("one is found", || {
        browser.exec("return document.querySelectorAll('tbody tr').length", &json!([])) == json!(1)
    });
    browser.click("tbody a");
    browser.wait_for_text("Ingen webhook har fått den.");
    browser.wait_for_text("room-7");
    browser.wait_for_text("it takes events of the source `orders`, and this one came through");
    console.picture("e-2-event");
    console.assert_accessible();

    browser.click_text("Webhooker");
    browser.click("a[href$='/edit']");
    browser.fill("Navn (påkrevd)", "Analyse 2");
    browser.click_text("Lagre");
    browser.wait_for_text("Lagret.");
    browser.click_text("Analyse 2");
    browser.click_text("Avpubliser");
    browser.wait_for_text("Avpublisert");
    browser.click_text("Fjern");
    browser.click("dialog[open] button.danger");
    browser.wait_for_text("Fjernet.");
    browser.click_text("Endringslogg");
    browser.wait_for_text("Analyse 2");
    console.picture("e-3-audit");
    console.assert_quiet();
}

/// Every page, as everybody may need it: with axe, dark and light, on a phone, and quickly there.
#[test]
fn every_page_is_for_everybody() {
    let console = Console::open("console-pages");
    let Console { browser, stack, admin, .. } = &console;
    console.assert_accessible();
    console.sign_in("", ADMIN_TOKEN);
    let webhook = json!({ "name": "a \"name\" <b>", "url": stack.receiver.url("/p"), "eventTypes": ["order.*", "a.b", "c.d", "e.f"],
        "headers": { "x-a": "1" } });
    let id = text(&admin.post("/api/v1/webhooks", &webhook).expect(201).json()["id"]);
    admin.post("/api/v1/event-types", &json!({ "name": "order.created", "sample": { "n": 1 } })).expect(201);
    stack.produce("order.created", 0, 3);
    let executions = || admin.get("/api/v1/executions").expect(200).json()["results"].clone();
    wait_until("all are delivered", SOON, || executions().as_array().is_some_and(|all| all.len() == 3));
    let events = || admin.get("/api/v1/events").expect(200).json()["results"].clone();
    wait_until("all are found", SOON, || events().as_array().is_some_and(|all| all.len() == 3));
    let (execution, event) = (text(&executions()[0]["deliveryId"]), text(&events()[0]["event"]));
    let mut paths: Vec<String> = ["authorizations", "event-types", "apps", "accounts", "sources", "clients"]
        .iter()
        .flat_map(|kind| [format!("/console/{kind}"), format!("/console/{kind}/new")])
        .collect();
    paths.extend(
        ["/console/webhooks", "/console/webhooks/new", "/console/events", "/console/audit"]
            .map(str::to_owned),
    );
    paths.push("/console/overview?span=6h".to_owned());
    paths.push(format!("/console/webhooks/{id}"));
    paths.push(format!("/console/webhooks/{id}/edit"));
    paths.push(format!("/console/executions/{execution}"));
    paths.push(format!("/console/events/{event}"));
    paths.push("/console/event-types/order.created/edit".to_owned());
    let again = json!({ "webhook": id, "events": { "from": "2020-01-01T00:00:00Z" }, "dryRun": true });
    let replay = text(&admin.post("/api/v1/replays", &again).expect(201).json()["id"]);
    paths.extend(["/console/dead-letters", "/console/replays", "/console/replays/new"].map(str::to_owned));
    paths.push(format!("/console/replays/{replay}"));
    paths.push("/console/no-such-page".to_owned());
    let mut slowest = (0.0, String::new());
    for path in &paths {
        for (width, is_dark) in [(1280, false), (360, true)] {
            browser.resize(width, 800);
            browser.set_dark(is_dark);
            console.goto(path);
            browser.wait_for_text("Sign out");
            console.assert_accessible();
            let wide = browser.exec("return document.documentElement.scrollWidth <= innerWidth", &json!([]));
            assert_eq!(wide, json!(true), "{path} is wider than {width} px");
            if width == 1280 {
                let times = browser.performance();
                assert!(times.transferred_bytes < 150_000, "{path}: {times:?}");
                if times.first_contentful_paint_ms > slowest.0 {
                    slowest = (times.first_contentful_paint_ms, format!("{path}: {times:?}"));
                }
            }
            let name = path.trim_start_matches("/console/").replace(['/', '?'], "-");
            let name = name.replace(&id, "ID").replace(&execution, "ID").replace(&event, "ID");
            let name = name.replace(&replay, "ID");
            console.picture(&format!("page-{name}-{width}"));
        }
    }
    println!("the slowest first paint: {slowest:?}");
    // What came through a source, and what did not.
    let broken = Message { key: "k".to_owned(), value: "{\"no\": event <b>".to_owned() };
    stack.kafka.produce(&stack.source_topic(), CLOUDEVENTS, &[broken]);
    let rejected = || admin.get("/api/v1/rejected?source=orders").expect(200).json()["results"][0].clone();
    wait_until("it is rejected", SOON, || rejected().is_object());
    console.goto("/console/sources/orders/edit");
    browser.wait_for_text("{\"no\": event <b>");
    browser.wait_for_text(&text(&rejected()["message"]));
    browser.wait_for_text("customer-0");
    console.assert_accessible();
    console.picture("page-source-tail");
    // What was delivered is counted, drawn, and there in numbers.
    console.goto("/console/overview");
    assert_eq!(browser.text(".tiles dd"), "3");
    browser.wait_until("nothing is under way", || {
        console.goto("/console/overview");
        browser.text("#in-flight") == "0"
    });
    browser.find(".chart canvas");
    browser.click("summary");
    browser.find("details[open] tbody tr");
    console.assert_quiet();
}

/// Dead letters are looked at and delivered again, one by one and all that there are; a replay is counted first.
#[test]
fn what_was_given_up_gets_another_chance() {
    let console = Console::open("console-replays");
    let Console { browser, stack, admin, .. } = &console;
    console.sign_in("", ADMIN_TOKEN);
    console.goto("/console/dead-letters");
    browser.wait_for_text("Nothing has been given up.");
    let webhook = json!({ "name": "shop", "url": stack.receiver.url("/shop"), "eventTypes": ["order.*"], "retry": ["0s"] });
    let id = text(&admin.post("/api/v1/webhooks", &webhook).expect(201).json()["id"]);
    stack.receiver.on("/shop", Answer::status(500));
    stack.produce("order.created", 0, 4);
    let dead = || admin.get("/api/v1/executions?outcome=dead").expect(200).json()["results"].clone();
    wait_until("all are given up", SOON, || dead().as_array().is_some_and(|all| all.len() == 4));
    stack.receiver.on("/shop", Answer::status(200));

    console.goto("/console/dead-letters?eventType=order.created");
    browser.wait_for_text("exhausted: 4");
    console.assert_accessible();
    console.picture("dead-letters");
    // Nothing is chosen.
    browser.click_text("Deliver the chosen ones again");
    browser.wait_for_text("choose some of them");
    assert_eq!(browser.value("Event type"), "order.created");
    browser.click("tbody tr:nth-child(1) input");
    browser.click("tbody tr:nth-child(2) input");
    browser.click_text("Deliver the chosen ones again");
    browser.wait_for_text("Single deliveries");
    // It goes on by itself.
    browser.wait_until("both are on their way", || browser.text("#sent") == "2");
    wait_until("two are left", SOON, || dead().as_array().is_some_and(|all| all.len() == 2));

    // All that there are, counted first.
    console.goto(&format!("/console/dead-letters?webhook={id}"));
    browser.click_text("Deliver all of these again…");
    browser.wait_for_text("Count first");
    console.assert_accessible();
    browser.click_text("Count first");
    browser.wait_for_text("only counted");
    browser
        .wait_until("two are counted", || browser.text("#selected") == "2" && browser.text("#sent") == "0");
    browser.click("#progress button.main");
    browser.wait_until("both are on their way", || browser.text("#sent") == "2");
    console.assert_accessible();
    console.picture("replay");
    wait_until("none is left", SOON, || dead() == json!([]));

    // One that has arrived, once more.
    let delivered = admin.get("/api/v1/executions?outcome=delivered").expect(200).json();
    let delivery = text(&delivered["results"][0]["deliveryId"]);
    console.goto(&format!("/console/executions/{delivery}"));
    browser.click_text("Deliver again");
    browser.wait_for_text("It is delivered again");
    wait_until("it has arrived again", SOON, || stack.receiver.seen(|seen| seen.of_id(&delivery)) == 3);

    // What is wrong is told, and what was chosen stays.
    console.goto(&format!("/console/replays/new?webhook={id}"));
    browser.click_text("Count first");
    browser.wait_for_text("must be a time");
    assert_eq!(browser.value("Webhook"), id);
    console.goto("/console/events?from=2020-01-01T00:00&to=2020-01-02T00:00");
    browser.wait_for_text("Nothing fits these filters");
    console.goto("/console/events?from=2020-01-01T00:00");
    browser.wait_for_text("order.created");
    console.goto("/console/replays");
    browser.wait_for_text("Dead letters");
    console.picture("replays");
    console.assert_quiet();
}

/// What people and endpoints say stays text, wherever it is shown.
#[test]
fn what_comes_from_outside_stays_text() {
    const HOSTILE: &[&str] = &[
        "<img src=x onerror=alert(1)>",
        "\"><svg onload=alert(1)>",
        "javascript:alert(1)",
        "</textarea><script>alert(1)</script>",
        "{{constructor.constructor('alert(1)')()}}",
        "=HYPERLINK(\"http://x\",\"y\")",
        "<iframe src=//evil>",
    ];
    let console = Console::open("console-hostile");
    let Console { browser, stack, admin, .. } = &console;
    console.sign_in("", ADMIN_TOKEN);
    for (n, hostile) in HOSTILE.iter().enumerate() {
        let path = format!("/h{n}");
        // Of control characters there is one more in the body.
        let answer = Answer::status(200).header("x-hostile", hostile).body(format!("{hostile} a\u{1b}[31m"));
        stack.receiver.on(&path, answer);
        let webhook = json!({ "name": format!("{n} {hostile}"), "description": hostile, "url": stack.receiver.url(&path),
            "eventTypes": [format!("hostile.n{n}")] });
        let id = text(&admin.post("/api/v1/webhooks", &webhook).expect(201).json()["id"]);
        let event =
            json!({ "type": format!("hostile.n{n}"), "subject": hostile, "data": { "said": hostile } });
        admin.post("/api/v1/events", &event).expect(202);
        let found = || {
            admin.get(&format!("/api/v1/executions?webhook={id}")).expect(200).json()["results"][0].clone()
        };
        wait_until("it is delivered", SOON, || found()["outcome"] == "delivered");
        let execution = found();
        let events = || admin.get(&format!("/api/v1/events/{}", text(&execution["event"])));
        wait_until("the event is found", SOON, || events().status == 200);
        let pages = [
            "/console/webhooks".to_owned(),
            format!("/console/webhooks/{id}"),
            format!("/console/webhooks/{id}/edit"),
            format!("/console/executions/{}", text(&execution["deliveryId"])),
            format!("/console/events/{}", text(&execution["event"])),
            format!(
                "/console/webhooks?{}",
                url::form_urlencoded::Serializer::new(String::new()).append_pair("q", hostile).finish()
            ),
        ];
        for page in &pages {
            console.goto(page);
            browser.wait_for_text("Sign out");
            let shown = "return document.documentElement.outerHTML.length > 0 && \
                (document.body.innerText + [...document.querySelectorAll('input, textarea')].map((it) => it.value).join(' ')).includes(arguments[0])";
            browser.wait_until(&format!("{page} shows {hostile}"), || {
                browser.exec(shown, &json!([hostile])) == json!(true)
            });
            let foreign = "return document.querySelectorAll('iframe, svg, img:not([src^=\"/console/\"]), script:not([src^=\"/console/\"]), a[href^=\"javascript\" i]').length";
            assert_eq!(browser.exec(foreign, &json!([])), json!(0), "{page}");
        }
    }
    console.goto("/console/audit");
    browser.wait_for_text(HOSTILE[0]);
    console.assert_quiet();
}

/// Requests that change something come from our own pages.
#[test]
fn nobody_elses_page_can_act() {
    let console = Console::open("console-foreign");
    let nobody = Caller { addr: console.admin.addr, token: None };
    let own = format!("http://{}", nobody.addr);
    let form = ("content-type", "application/x-www-form-urlencoded");
    let body = format!("client=&secret={ADMIN_TOKEN}&to=");
    let table: &[(&[(&str, &str)], u16)] = &[
        (&[("origin", &own)], 303),
        (&[("origin", &own), ("sec-fetch-site", "same-origin")], 303),
        (&[("origin", &own), ("sec-fetch-site", "cross-site")], 403),
        (&[("origin", &own), ("sec-fetch-site", "same-site")], 403),
        (&[("origin", "null")], 403),
        (&[("origin", "https://evil.example")], 403),
        (&[("origin", "http://127.0.0.1.evil.example")], 403),
        (&[], 403),
    ];
    for (headers, status) in table {
        let headers: Vec<(&str, &str)> = headers.iter().copied().chain([form]).collect();
        let reply = nobody.call("POST", "/console/sign-in", &headers, &body);
        assert_eq!(reply.status, *status, "{headers:?}: {reply:?}");
        assert!(!reply.headers.contains_key("access-control-allow-origin"), "{reply:?}");
    }
    let reply = nobody.call("POST", "/console/sign-in", &[form, ("origin", &own)], &body);
    let cookie = reply.headers["set-cookie"].clone();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
    let session = cookie.split(';').next().expect("a cookie").to_owned();
    // With a session, too.
    let stolen = [form, ("cookie", &*session), ("origin", "https://evil.example")];
    assert_eq!(nobody.call("POST", "/console/accounts", &stolen, "name=x").status, 403);
    let mine = [form, ("cookie", &*session), ("origin", &*own)];
    assert_eq!(nobody.call("POST", "/console/accounts", &mine, "name=x&verification=none").status, 303);
    // A cookie is no token, and what is read says so to nobody else's scripts.
    assert_eq!(nobody.call("GET", "/api/v1/webhooks", &[("cookie", &*session)], "").status, 401);
    let page = nobody.call(
        "GET",
        "/console/webhooks",
        &[("cookie", &*session), ("origin", "https://evil.example")],
        "",
    );
    assert_eq!(page.status, 200);
    assert!(!page.headers.contains_key("access-control-allow-origin"));
    assert!(page.headers["content-security-policy"].contains("frame-ancestors 'none'"));
    assert_eq!(page.headers["x-content-type-options"], "nosniff");
}

/// A customer's portal: the webhooks of one account, and nothing else.
#[test]
fn a_portal_is_of_one_account_and_of_nothing_else() {
    let console = Console::open("console-portal");
    let Console { browser, stack, admin, .. } = &console;
    for name in ["hotel", "spa"] {
        admin.post("/api/v1/accounts", &json!({ "name": name, "verification": "none" })).expect(201);
        let webhook = json!({ "name": format!("of the {name}"), "account": name, "url": stack.receiver.url("/x"),
            "eventTypes": ["a.b"] });
        admin.post("/api/v1/webhooks", &webhook).expect(201);
    }
    let shop = json!({ "name": "shop", "account": "hotel", "scopes": ["webhooks:read", "webhooks:write"] });
    let (shop, _) = admin.register(&shop);
    shop.post("/api/v1/portal-links", &json!({ "account": "spa" })).expect(404);
    shop.post("/api/v1/portal-links", &json!({ "app": "none" })).expect(404);
    shop.post("/api/v1/portal-links", &json!({ "lifetime": "25h" })).expect(400);
    admin.post("/api/v1/portal-links", &json!({})).expect(400);
    let link = shop.post("/api/v1/portal-links", &json!({ "lifetime": "10m" })).expect(201).json();
    let link = text(&link["url"]);
    let path =
        link.split_once("/portal/").map(|(_, rest)| format!("/portal/{rest}")).expect("a portal's link");
    console.goto("/portal/webhooks");
    browser.wait_for_text("This page is not open any more");
    console.goto(&path);
    browser.wait_for_text("of the hotel");
    browser.absent("of the spa");
    for absent in ["Event types", "Audit", "Sign out"] {
        browser.absent(absent);
    }
    console.picture("portal");
    console.assert_accessible();
    browser.click_text("+ Add webhook");
    browser.fill("Name (required)", "the customer's");
    browser.fill("URI (required)", &stack.receiver.url("/y"));
    browser.fill("Other events and patterns", "order.*");
    browser.click_text("Save");
    browser.wait_for_text("This is shown once");
    browser.click_text("Go on to the list");
    browser.click_text("the customer's");
    browser.wait_for_text("Nothing was sent yet");
    assert!(browser.url().contains("/portal/webhooks/"));
    // The session is the portal's alone.
    console.goto("/console/webhooks");
    browser.wait_for_text("Sign in");
    for path in ["/portal/events", "/portal/audit", "/portal/clients", "/portal/accounts/new"] {
        console.goto(path);
        browser.wait_for_text("there is no such page");
    }
    let others = admin.get("/api/v1/webhooks?q=spa").expect(200).json();
    console.goto(&format!("/portal/webhooks/{}", text(&others["results"][0]["id"])));
    browser.wait_for_text("there is no such thing, or it is not yours");
    let made = admin.get("/api/v1/webhooks?q=customer").expect(200).json();
    assert!(text(&made["results"][0]["actor"]).starts_with("portal:client:"), "{made}");
    // Who made the link is no more: so is the portal.
    let clients = admin.get("/api/v1/clients?q=shop").expect(200).json();
    admin.delete(&format!("/api/v1/clients/{}", text(&clients["results"][0]["id"]))).expect(204);
    console.goto("/portal/webhooks");
    browser.wait_for_text("This page is not open any more");
}

/// A portal stands in the pages of those whom the settings name, and in nobody else's.
#[test]
fn a_portal_is_framed_by_whom_the_settings_name() {
    let stack = Stack::new("console-framed");
    let mut api = stack.launch(Role::Api, &[("API__PORTAL_ORIGINS", "https://app.example")]);
    api.wait_ready();
    let admin = api.admin().with_default_account();
    let link = admin.post("/api/v1/portal-links", &json!({ "account": "default" })).expect(201).json();
    let link = text(&link["url"]);
    let path =
        link.split_once("/portal/").map(|(_, rest)| format!("/portal/{rest}")).expect("a portal's link");
    let nobody = Caller { addr: admin.addr, token: None };
    let opened = nobody.call("GET", &path, &[], "");
    assert_eq!((opened.status, opened.headers["location"].as_str()), (303, "/portal/webhooks"), "{opened:?}");
    let cookie = &opened.headers["set-cookie"];
    for part in ["__Secure-", "; Secure", "; HttpOnly", "; SameSite=None", "; Partitioned", "; Path=/portal"]
    {
        assert!(cookie.contains(part), "{cookie}");
    }
    let session = cookie.split(';').next().expect("a cookie");
    let page = nobody.call("GET", "/portal/webhooks", &[("cookie", session)], "");
    assert_eq!(page.status, 200, "{page:?}");
    assert!(
        page.headers["content-security-policy"].contains("frame-ancestors https://app.example"),
        "{page:?}"
    );
    assert!(!page.headers.contains_key("x-frame-options"));
    let console = nobody.call("GET", "/console/sign-in", &[], "");
    assert!(console.headers["content-security-policy"].contains("frame-ancestors 'none'"));
    assert_eq!(console.headers["x-frame-options"], "DENY");
    // A link is no session, and a session no link.
    let link = path.rsplit('/').next().expect("a link");
    let name = session.split('=').next().expect("a name");
    let wrong = nobody.call("GET", "/portal/webhooks", &[("cookie", &format!("{name}={link}"))], "");
    assert_eq!(wrong.status, 401);
    let session = session.split_once('=').expect("a value").1;
    assert_eq!(nobody.call("GET", &format!("/portal/open/{session}"), &[], "").status, 401);
    let elsewhere = format!("hookstream={session}");
    assert_eq!(nobody.call("GET", "/console/webhooks", &[("cookie", &elsewhere)], "").status, 303);
}
