use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use super::*;
use crate::access::oauth;
use crate::events::Events;
use crate::testing::{Configured, Shared};
use crate::{history, routes};

/// A method and a path.
type Route = (String, String);

/// What the routers of the API describe, and what they have.
fn whole() -> (Value, BTreeSet<Route>) {
    let mut description = common("https://hooks.example/");
    let mut routes = BTreeSet::new();
    let mut take = |(router, described): (String, utoipa::openapi::OpenApi)| {
        description.merge(described);
        routes.extend(routes_of(&router));
    };
    take(parts(routes::resources()));
    take(parts(history::routes()));
    take(parts(Events::<Shared, Configured>::routes()));
    take(parts(oauth::routes()));
    (serde_json::to_value(description).unwrap(), routes)
}

fn parts<S: Clone + Send + Sync + 'static>(router: OpenApiRouter<S>) -> (String, utoipa::openapi::OpenApi) {
    let (router, description) = router.split_for_parts();
    (format!("{router:?}"), description)
}

/// The routes of a router, which says in no other way than for debugging what it has: `RouteId(3): "/a"`, and
/// `RouteId(3): MethodRouter(MethodRouter { get: BoxedHandler(..), head: None, …`.
fn routes_of(router: &str) -> BTreeSet<Route> {
    let pieces: Vec<_> = router.split("RouteId(").filter_map(|piece| piece.split_once("): ")).collect();
    let path_of = |id: &str| {
        let path = |(known, rest): &(&str, &str)| {
            let path = rest.strip_prefix('"')?.split('"').next()?;
            (*known == id).then(|| path.to_owned())
        };
        pieces.iter().find_map(path).expect("a route has a path")
    };
    let mut routes = BTreeSet::new();
    for (id, rest) in &pieces {
        let Some(methods) = rest.strip_prefix("MethodRouter(MethodRouter {") else { continue };
        for method in ["get", "put", "post", "delete", "patch", "head", "options", "trace", "connect"] {
            let (_, handler) = methods.split_once(&format!(" {method}: ")).expect("each method is named");
            if !handler.starts_with("None") {
                routes.insert((method.to_owned(), path_of(id)));
            }
        }
    }
    routes
}

/// Each operation: method, path, and what is said of it.
fn all(description: &Value) -> impl Iterator<Item = (&String, &String, &Value)> {
    let paths = description["paths"].as_object().unwrap().iter();
    paths.flat_map(|(path, item)| {
        item.as_object().unwrap().iter().map(move |(method, operation)| (method, path, operation))
    })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

#[test]
fn every_route_is_described_and_no_other() {
    let (description, routes) = whole();
    let described = all(&description).map(|(method, path, _)| (method.clone(), path.clone()));
    assert_eq!(routes, described.collect::<BTreeSet<_>>());
    assert!(routes.contains(&("post".to_owned(), "/oauth/token".to_owned())), "{routes:?}");
}

#[test]
fn every_reference_leads_somewhere() {
    fn visit(value: &Value, whole: &Value, seen: &mut usize) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    let pointer = reference.strip_prefix('#').expect("within the document");
                    assert!(whole.pointer(pointer).is_some(), "{reference}");
                    *seen += 1;
                }
                fields.values().for_each(|value| visit(value, whole, seen));
            }
            Value::Array(items) => items.iter().for_each(|item| visit(item, whole, seen)),
            _ => {}
        }
    }
    let (description, _) = whole();
    let mut seen = 0;
    visit(&description, &description, &mut seen);
    assert!(seen > 100, "{seen}");
}

#[test]
fn operations_say_what_clients_need() {
    let (description, _) = whole();
    let tags = description["tags"].as_array().unwrap().iter().map(|tag| text(&tag["name"]));
    let tags: BTreeSet<_> = tags.collect();
    let mut ids = BTreeSet::new();
    for (method, path, operation) in all(&description) {
        let id = text(&operation["operationId"]);
        assert!(ids.insert(id), "{id} is there twice");
        assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
        assert!(!text(&operation["summary"]).is_empty(), "{method} {path}");
        assert!(tags.contains(text(&operation["tags"][0])), "{method} {path}");
        let placeholders: BTreeSet<_> =
            path.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect();
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let named: BTreeSet<_> = parameters
            .filter(|parameter| parameter["in"] == "path")
            .map(|parameter| text(&parameter["name"]))
            .collect();
        assert_eq!(named, placeholders, "{method} {path}");
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| status.starts_with('2')), "{method} {path}");
        if path == oauth::PATH {
            assert_eq!(operation["security"], serde_json::json!([]), "who asks for a token has none");
            continue;
        }
        let scope = text(&operation["security"][0][OAUTH2][0]);
        assert!(scope.parse::<Scope>().is_ok(), "{scope}");
        for status in ["400", "401", "403", "429", "500", "503"] {
            assert!(responses.contains_key(status), "{status} of {method} {path}");
        }
    }
}

#[test]
fn problems_are_problems() {
    let (description, _) = whole();
    for (method, path, operation) in all(&description).filter(|(_, path, _)| *path != oauth::PATH) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            if status.starts_with('2') {
                continue;
            }
            let response = description.pointer(&text(&response["$ref"])[1..]).unwrap();
            let schema = &response["content"][MEDIA_TYPE]["schema"];
            assert_eq!(schema["$ref"], "#/components/schemas/Problem", "{status} of {method} {path}");
        }
    }
    for kind in Kind::ALL {
        let response = &description["components"]["responses"][component(kind.status())];
        assert!(text(&response["description"]).contains(kind.reference()), "{kind:?}");
    }
}

#[test]
fn patches_need_nothing_and_take_nothing_that_is_only_shown() {
    let (description, _) = whole();
    let schemas = &description["components"]["schemas"];
    let (whole, patch) = (&schemas["Webhook"], &schemas["WebhookPatch"]);
    assert_eq!(patch.get("required"), None);
    assert_eq!(patch["properties"]["url"], whole["properties"]["url"]);
    for only_shown in ["id", "revision", "createdAt", "generatedSecret", "missingScopes"] {
        assert!(whole["properties"].get(only_shown).is_some(), "{only_shown}");
        assert_eq!(patch["properties"].get(only_shown), None, "{only_shown}");
    }
    assert_eq!(schemas["ApiClientPatch"]["properties"].get("secret"), None);
}

/// All operations at a glance: what changes here changes clients.
#[test]
fn operations() {
    let (description, _) = whole();
    let mut out = String::new();
    for (method, path, operation) in all(&description) {
        let scope = operation["security"][0][OAUTH2][0].as_str().unwrap_or("-");
        let statuses: Vec<_> =
            operation["responses"].as_object().unwrap().keys().map(String::as_str).collect();
        let id = text(&operation["operationId"]);
        writeln!(out, "{:<6} {path}\n       {id}  {scope}  {}", method.to_uppercase(), statuses.join(" "))
            .unwrap();
    }
    insta::assert_snapshot!(out);
}

/// The page for people says of each operation what its responses are, those that it refers to as well.
#[test]
fn the_page_shows_what_is_referred_to() {
    let mut description = common("/");
    description.merge(parts(routes::resources()).1);
    let axum::response::Html(page) = crate::docs::page(&description);
    let (_, of_ping) = page.split_once("<code>/api/v1/webhooks/{id}/ping</code>").unwrap();
    let (of_ping, _) = of_ping.split_once("</details>").unwrap();
    for part in ["<td>200", "PingReport", "<td>404", "/problems/not-found", "#Problem", "webhooks:write"] {
        assert!(of_ping.contains(part), "{part} is not in {of_ping}");
    }
}
