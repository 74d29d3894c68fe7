//! A tenant sees its own and nothing else, on every route that the API says it has.
//!
//! Two accounts have one of everything. As a client of the one, every operation of the OpenAPI document is tried with
//! the other's ids: new routes are tried without anybody's thinking of it.

use hookstream_e2e::openapi::{self, Operation};
use hookstream_e2e::{Caller, Reply, Role, SOON, Service, Stack, wait_until};
use serde_json::{Value, json};

use crate::api::text;

/// All scopes: what is not theirs is not theirs whatever they may do.
const SCOPES: [&str; 5] = ["webhooks:read", "webhooks:write", "events:write", "history:read", "admin"];

/// Parameters that name nothing of anybody's.
const PLAIN: [&str; 10] =
    ["limit", "cursor", "page", "pageSize", "from", "to", "state", "outcome", "status", "failure"];

/// What there is of one tenant.
struct Tenant {
    name: &'static str,
    /// Bound to the account.
    client: Caller,
    /// Bound to the app.
    app_client: Caller,
    /// What is the account's and not its app's.
    account_ids: Vec<String>,
    /// What is the app's.
    app_ids: Vec<String>,
    app: String,
    authorization: String,
    webhook: String,
}

impl Tenant {
    /// One of everything, and deliveries of its webhooks.
    fn new(stack: &Stack, admin: &Caller, name: &'static str) -> Self {
        let id = |path: &str, document: Value| {
            let made = admin.post(&format!("/api/v1/{path}"), &document).expect(201).json();
            made.get("id").or_else(|| made.get("uid")).map(text).unwrap_or_else(|| panic!("no id: {made}"))
        };
        let called = |what: &str| format!("{name}s-{what}");
        let account = id("accounts", json!({ "name": called("account"), "verification": "none" }));
        let app = id("apps", json!({ "account": account, "name": called("app"), "scopes": [] }));
        let other_app = id("apps", json!({ "account": account, "name": called("other-app"), "scopes": [] }));
        let authorization = id(
            "authorizations",
            json!({ "account": account, "name": called("authorization"),
            "endpoint": stack.receiver.url(""), "bearer": { "token": called("token") } }),
        );
        let url = |what: &str| stack.receiver.url(&format!("/{name}s-{what}"));
        let webhook = |what: &str, app: Option<&String>| {
            let mut document = json!({ "account": account, "name": called(what), "eventTypes": ["*"], "url": url(what),
                "description": called("description") });
            if let Some(app) = app {
                document["app"] = json!(app);
            }
            id("webhooks", document)
        };
        let own = webhook("webhook", None);
        let (of_app, of_other) =
            (webhook("app-webhook", Some(&app)), webhook("other-apps-webhook", Some(&other_app)));
        let client = json!({ "name": called("client"), "account": account, "scopes": SCOPES });
        let app_client =
            json!({ "name": called("app-client"), "account": account, "app": app, "scopes": SCOPES });
        let (client, _) = admin.register(&client);
        let (app_client, _) = admin.register(&app_client);
        let clients = admin.get(&format!("/api/v1/clients?account={account}")).expect(200).json();
        let clients = clients["results"].as_array().cloned().unwrap_or_default();
        let (of_app_clients, own_clients): (Vec<_>, Vec<_>) =
            clients.iter().partition(|client| client["app"].is_string());
        let ids =
            |clients: Vec<&Value>| clients.into_iter().map(|client| text(&client["id"])).collect::<Vec<_>>();

        let sent = client
            .post("/api/v1/events", &json!({ "type": "a.b", "data": { "text": called("data") } }))
            .expect(202);
        let event = text(&sent.json()["events"][0]["id"]);
        let executions = || {
            let page = admin
                .get(&format!("/api/v1/executions?account={account}&outcome=delivered"))
                .expect(200)
                .json();
            page["results"].as_array().cloned().unwrap_or_default()
        };
        wait_until("the history shows the deliveries", SOON, || executions().len() == 3);
        let (of_app_deliveries, deliveries): (Vec<_>, Vec<_>) =
            executions().into_iter().partition(|one| one["webhook"] == json!(of_app));
        let delivery = |all: Vec<Value>| all.iter().map(|one| text(&one["deliveryId"])).collect::<Vec<_>>();

        let account_ids = [
            vec![account, called("account"), other_app, authorization.clone(), own.clone(), of_other, event],
            ids(own_clients),
            delivery(deliveries),
        ];
        let app_ids = [vec![app.clone(), of_app], ids(of_app_clients), delivery(of_app_deliveries)];
        Self {
            name,
            client,
            app_client,
            account_ids: account_ids.concat(),
            app_ids: app_ids.concat(),
            app,
            authorization,
            webhook: own,
        }
    }

    fn ids(&self) -> Vec<String> {
        [self.account_ids.clone(), self.app_ids.clone()].concat()
    }

    /// What of the tenant's stands in an answer, but for what the request itself has named.
    fn traces(&self, reply: &Reply, ids: &[String], named: &[&str]) -> Vec<String> {
        let shown = format!("{:?}\n{}", reply.headers, reply.body);
        let mark = format!("{}s-", self.name);
        let is_shown = |id: &&String| {
            shown.contains(id.as_str()) && !named.iter().any(|named| named.contains(id.as_str()))
        };
        let mut traces: Vec<String> = ids.iter().filter(is_shown).cloned().collect();
        let words = shown.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        let is_trace =
            |word: &&str| word.starts_with(&mark) && !named.iter().any(|named| named.contains(word));
        traces.extend(words.filter(is_trace).map(str::to_owned));
        traces
    }
}

/// Somebody who tries, and whose things.
struct Attempt<'a> {
    who: &'a str,
    caller: &'a Caller,
    victim: &'a Tenant,
    /// What of the victim's is not the caller's.
    ids: &'a [String],
}

impl Attempt<'_> {
    #[track_caller]
    fn nothing_shown(&self, what: &str, reply: &Reply, named: &[&str]) {
        let traces = self.victim.traces(reply, self.ids, named);
        assert!(traces.is_empty(), "{}: {what} shows {traces:?}: {} {}", self.who, reply.status, reply.body);
    }

    /// One operation on something that is another's, and on something that is nobody's: nobody can tell which is which.
    fn on_anothers(&self, operation: &Operation, body: &str) {
        const NOBODYS: &str = "0190a5d0-0000-7000-8000-000000000000";
        let call = |id: &str| self.caller.call(&operation.method, &operation.path_with(id), &[], body);
        let nothing = call(NOBODYS);
        for (path, id) in operation.paths(self.ids) {
            let what = format!("{} {path} {body}", operation.method);
            let reply = call(id);
            assert!(
                matches!(reply.status, 403 | 404),
                "{}: {what} is answered with {} {}",
                self.who,
                reply.status,
                reply.body
            );
            assert_eq!(
                (reply.status, reply.body.replace(id, "ID")),
                (nothing.status, nothing.body.replace(NOBODYS, "ID")),
                "{}: {what} can be told from what is not there",
                self.who
            );
            self.nothing_shown(&what, &reply, &[id]);
        }
    }

    /// A list, or something else that names nothing in its path.
    fn on_all(&self, operation: &Operation) {
        let mut queries = vec![String::new(), "q=".to_owned(), "limit=100".to_owned()];
        for name in operation.query.iter().filter(|name| !PLAIN.contains(&name.as_str())) {
            queries.extend(self.ids.iter().map(|id| format!("{name}={id}")));
        }
        if operation.query.iter().any(|name| name == "resource") {
            let of_kind =
                |kind: &'static str| self.ids.iter().map(move |id| format!("resource={kind}&id={id}"));
            queries.extend(
                ["webhook", "account", "app", "authorization", "client"].into_iter().flat_map(of_kind),
            );
        }
        queries.push(format!("q={}s-", self.victim.name));
        for query in &queries {
            let reply = self.caller.call(&operation.method, &format!("{}?{query}", operation.path), &[], "");
            // A number or a cursor that is none is a fault, whoever's id it is; so is a list that needs `q`.
            assert!(
                matches!(reply.status, 200 | 400 | 403 | 404),
                "{}: {} ?{query}: {}",
                self.who,
                operation.path,
                reply.body
            );
            self.nothing_shown(&format!("{} {}?{query}", operation.method, operation.path), &reply, &[query]);
        }
    }

    /// Making something of the other's, or with it.
    fn making(&self, operation: &Operation) {
        let Tenant { app, authorization, webhook, name, .. } = self.victim;
        let account = &self.victim.account_ids[0];
        let account_name = format!("{name}s-account");
        let bodies = [
            json!({ "account": account }),
            json!({ "account": account_name }),
            json!({ "app": app }),
            json!({ "app": format!("{name}s-app") }),
            json!({ "authorization": authorization }),
            json!({ "authorization": format!("{name}s-authorization") }),
            json!({ "webhook": webhook, "webhooks": [webhook] }),
        ];
        for more in bodies {
            let mut body = json!({ "name": "taken", "url": "https://a.example/", "eventTypes": ["a"], "state": "draft" });
            if operation.path.contains("/configuration/") {
                body = json!({ "name": "taken", "url": "https://a.example/", "profileTypes": ["P"], "eventTypes": ["A"],
                    "secret": "S3cret!", "state": "DRAFT" });
            } else if operation.path.ends_with("/authorizations") {
                body = json!({ "name": "taken", "endpoint": "https://a.example", "bearer": { "token": "t0ken" } });
            } else if operation.path.ends_with("/events") {
                body = json!({ "type": "a.b", "data": {} });
            }
            body.as_object_mut().expect("it is one").extend(more.as_object().cloned().unwrap_or_default());
            let body = body.to_string();
            let reply = self.caller.call(&operation.method, &operation.path, &[], &body);
            let what = format!("{} {} {body}", operation.method, operation.path);
            assert!(
                matches!(reply.status, 400 | 403 | 404),
                "{}: {what} is answered with {} {}",
                self.who,
                reply.status,
                reply.body
            );
            self.nothing_shown(&what, &reply, &[&body, account, &account_name, app, authorization, webhook]);
        }
    }

    /// The other's page can't be gone on with.
    fn cursors(&self, operation: &Operation, theirs: &Caller) {
        if !operation.query.iter().any(|name| name == "cursor") {
            return;
        }
        let page = theirs.get(&format!("{}?limit=1", operation.path));
        let Some(next) =
            (page.status == 200).then(|| page.json()["next"].as_str().map(str::to_owned)).flatten()
        else {
            return;
        };
        let reply = self.caller.get(&format!("{}?limit=1&cursor={next}", operation.path));
        assert!(
            matches!(reply.status, 400 | 403 | 404),
            "{}: {} takes another's cursor: {}",
            self.who,
            operation.path,
            reply.body
        );
    }

    fn every_operation(&self, operations: &[Operation], theirs: &Caller) {
        for operation in operations {
            match (operation.has_parameters(), operation.method.as_str()) {
                (true, "GET" | "DELETE") => self.on_anothers(operation, ""),
                (true, _) => self.on_anothers(operation, r#"{"name":"taken","description":"taken"}"#),
                (false, "GET") => {
                    self.on_all(operation);
                    self.cursors(operation, theirs);
                }
                (false, _) => self.making(operation),
            }
        }
    }
}

/// Everything that there is, as its operator sees it.
fn everything(admin: &Caller) -> (Value, String) {
    let webhooks = admin.get("/api/v1/webhooks?limit=100").expect(200);
    (admin.get("/api/v1/export").expect(200).json(), webhooks.body)
}

#[test]
fn see_their_own_and_nothing_else() {
    let stack = Stack::new("tenants");
    let settings = [("API__REQUESTS_PER_SECOND", "100000")];
    let mut services = [Role::Fanout, Role::Sender, Role::Api].map(|role| stack.launch(role, &settings));
    services.iter_mut().for_each(Service::wait_ready);
    let admin = services[2].admin();
    let (north, south) = (Tenant::new(&stack, &admin, "north"), Tenant::new(&stack, &admin, "south"));
    // Shared, so that it is nobody's.
    admin
        .post("/api/v1/sources", &json!({ "name": "shared", "topics": ["t"], "format": "cloudevents" }))
        .expect(201);
    admin.post("/api/v1/event-types", &json!({ "name": "a.shared" })).expect(201);

    let description = admin.get("/api/v1/openapi.json").expect(200).json();
    let operations = openapi::operations(&description);
    assert!(operations.len() > 50, "only {} operations", operations.len());
    // What is theirs is there: what follows does not fail for another reason.
    for tenant in [&north, &south] {
        let own = tenant.client.get(&format!("/api/v1/webhooks/{}", tenant.webhook));
        assert!(own.status == 200 && !tenant.traces(&own, &tenant.ids(), &[]).is_empty());
        assert_eq!(tenant.app_client.get(&format!("/api/v1/webhooks/{}", tenant.webhook)).status, 404);
        // An authorization is the account's, and an app may not give it one.
        let authorization =
            json!({ "name": "app's", "endpoint": "https://a.example/", "bearer": { "token": "t" } });
        let refused = tenant.app_client.post("/api/v1/authorizations", &authorization).expect(403).json();
        assert_eq!(refused["type"], "/problems/forbidden", "{refused}");
        let audit = tenant.client.get("/api/v1/audit").expect(200).json();
        assert!(audit["results"].as_array().is_some_and(|all| all.len() > 5), "{audit}");
    }

    let before = everything(&admin);
    let attempts = [
        Attempt {
            who: "a client of another account",
            caller: &north.client,
            victim: &south,
            ids: &south.ids(),
        },
        Attempt {
            who: "a client of an app of another account",
            caller: &north.app_client,
            victim: &south,
            ids: &south.app_ids,
        },
    ];
    for attempt in &attempts {
        attempt.every_operation(&operations, &south.client);
    }
    // Within an account, an app's client sees its app.
    let within = Attempt {
        who: "a client of an app",
        caller: &south.app_client,
        victim: &south,
        ids: &south.account_ids,
    };
    for operation in &operations {
        match (operation.has_parameters(), operation.method.as_str()) {
            (true, "GET" | "DELETE") => within_app(&within, operation, ""),
            (true, _) => within_app(&within, operation, r#"{"name":"taken"}"#),
            (false, "GET") => within.cursors(operation, &south.client),
            (false, _) => {}
        }
    }
    for path in ["webhooks", "executions", "apps", "authorizations", "accounts", "clients"] {
        let page = south.app_client.get(&format!("/api/v1/{path}"));
        let others: Vec<&String> =
            south.account_ids[2..].iter().filter(|id| page.body.contains(id.as_str())).collect();
        // Its executions name the event, which is as much its own.
        let others: Vec<_> =
            others.into_iter().filter(|id| !(path == "executions" && **id == south.account_ids[6])).collect();
        assert!(
            matches!(page.status, 200 | 403 | 404) && others.is_empty(),
            "{path} shows {others:?}: {}",
            page.body
        );
    }
    let own = south.app_client.get("/api/v1/webhooks").expect(200).json();
    assert_eq!(own["results"].as_array().map(Vec::len), Some(1), "{own}");

    assert!(everything(&admin) == before, "something was changed by somebody whose it is not");
    let arrived = stack.receiver.seen(|seen| seen.total());
    assert_eq!(arrived, 6, "somebody's endpoint was called by somebody else");
}

/// What of an account is not the app's is not there for its client.
fn within_app(attempt: &Attempt<'_>, operation: &Operation, body: &str) {
    for (path, _) in operation.paths(attempt.ids) {
        let reply = attempt.caller.call(&operation.method, &path, &[], body);
        let what = format!("{} {path}", operation.method);
        // The account itself may be looked at by those that belong to it.
        let is_account = operation.path.starts_with("/api/v1/accounts") && operation.method == "GET";
        assert!(
            matches!(reply.status, 403 | 404) || (is_account && reply.status == 200),
            "{}: {what} is answered with {} {}",
            attempt.who,
            reply.status,
            reply.body
        );
    }
}
