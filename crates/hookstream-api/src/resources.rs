//! The resources of the configuration: one set of operations for all kinds of them.
//!
//! A resource is created from a document, shown as one, replaced by one (`PUT`) and merged with one (`PATCH`, RFC
//! 7396): what is merged is what is shown, read again. Whoever may not see a resource is told that there is none.

pub mod documents;
pub mod kinds;
pub mod webhooks;

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use hookstream_config::state::State;
use hookstream_config::writer::WriteError;
use hookstream_config::{Change, Expected, Refused};
use hookstream_core::config::Meta;
use hookstream_types::{AccountUid, AppId};
use http::header::{ETAG, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Map, Value};

use crate::access::{Bound, Denied, List, Principal, Scope};
use crate::api::{Api, named_account, write_problem};
use crate::problem::{Kind, Problem};
use crate::request::{Idempotency, ListParameters, Page, Precondition, etag, idempotency, if_match};

/// How often a change without `If-Match` is made anew because somebody else was faster.
const RETRIES: usize = 20;

/// A resource as it is shown.
#[derive(Clone, Debug)]
pub struct Shown {
    /// What it is found by.
    pub id: String,
    pub document: Value,
    pub meta: Meta,
    pub account: Option<AccountUid>,
    pub app: Option<AppId>,
}

/// What a document asks for.
#[derive(Debug)]
pub struct Planned {
    pub change: Change,
    /// A signing key or a client's secret that was made here: shown once.
    pub generated: Option<(&'static str, String)>,
}

/// A kind of resource.
pub trait Kinds: Send + Sync + 'static {
    /// In paths: `webhooks`.
    const PATH: &'static str;
    /// Who may look.
    const READ: Scope = Scope::WebhooksRead;
    /// Who may change.
    const WRITE: Scope = Scope::WebhooksWrite;
    /// Only operators, who see every account, may change it.
    const OPERATORS: bool = false;

    /// All of them, in the order of their ids.
    fn each<'a>(
        state: &'a State,
        account: Option<AccountUid>,
    ) -> Box<dyn Iterator<Item = Candidate<'a>> + 'a>;

    /// One, by what it is found by.
    fn find(state: &State, id: &str) -> Option<Shown>;

    /// Whether it has what a list asks for, beyond free text.
    fn matches(_: &Value, _: &ListParameters) -> bool {
        true
    }

    /// What a document asks for; `id` none: a new one, with this id if it has one of its own.
    ///
    /// # Errors
    /// Every field that is at fault.
    fn plan(api: &Api, id: Id<'_>, document: &Value, expected: Expected) -> Result<Planned, Problem>;

    /// # Errors
    /// If the id is none.
    fn delete(state: &State, id: &str, expected: Expected) -> Result<Change, Problem>;

    /// What must hold besides before a change is made.
    fn verify(_: &Api, _: &Planned) -> impl Future<Output = Result<(), Problem>> + Send {
        async { Ok(()) }
    }
}

/// Which resource a document is for.
#[derive(Clone, Copy, Debug)]
pub enum Id<'a> {
    New(uuid::Uuid),
    Existing(&'a str),
}

/// One of a list.
pub struct Candidate<'a> {
    pub id: String,
    pub account: Option<AccountUid>,
    pub app: Option<AppId>,
    pub show: Box<dyn Fn() -> Value + 'a>,
}

impl std::fmt::Debug for Candidate<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Candidate").field("id", &self.id).finish_non_exhaustive()
    }
}

fn owns(principal: &Principal, account: Option<AccountUid>, app: Option<AppId>) -> Result<(), Denied> {
    match account {
        Some(account) => principal.owns(account, app),
        // What is no account's is shared: sources, event types.
        None => Ok(()),
    }
}

fn may_write<K: Kinds>(principal: &Principal) -> Result<(), Denied> {
    principal.require(K::WRITE)?;
    let is_operator = principal.bound == Bound::Everything && principal.scopes.allow(Scope::Admin);
    if K::OPERATORS && !is_operator { Err(Denied::Scope(Scope::Admin)) } else { Ok(()) }
}

/// `GET` of all.
///
/// # Errors
/// What is wrong with the request.
pub fn list<K: Kinds>(
    api: &Api,
    principal: &Principal,
    parameters: &ListParameters,
) -> Result<Page<Value>, Problem> {
    principal.require(K::READ)?;
    let limit = parameters.limit()?;
    let account = named_account(api, principal, parameters.account.as_deref())?;
    let path = K::PATH;
    let name = match principal.bound {
        Bound::App { app, .. } => format!("{path} of {app}?{}", parameters.filters()),
        Bound::Everything | Bound::Account(_) => format!("{path}?{}", parameters.filters()),
    };
    let of = List { name: &name, account };
    let after = match &parameters.cursor {
        None => None,
        Some(cursor) => {
            let position = api.cursors.read(&of, cursor);
            let position = position.map_err(|error| Problem::invalid_field("cursor", error.to_string()))?;
            Some(String::from_utf8(position).unwrap_or_default())
        }
    };
    let words = parameters.q.as_deref().unwrap_or_default().to_lowercase();
    let mut results = Vec::new();
    let mut last = None;
    let mut more = false;
    api.look(|state| {
        for candidate in K::each(state, account) {
            if after.as_ref().is_some_and(|after| candidate.id <= *after)
                || owns(principal, candidate.account, candidate.app).is_err()
            {
                continue;
            }
            let document = (candidate.show)();
            if !has_text(&document, &words) || !K::matches(&document, parameters) {
                continue;
            }
            if results.len() == limit {
                more = true;
                break;
            }
            last = Some(candidate.id);
            results.push(document);
        }
    });
    let next = last.filter(|_| more).map(|last| api.cursors.make(&of, last.as_bytes()));
    Ok(Page { results, more_results: more, next })
}

/// Whether the words stand in what people look for.
pub(crate) fn has_text(document: &Value, words: &str) -> bool {
    let is_in = |value: &Value| match value {
        Value::String(text) => text.to_lowercase().contains(words),
        Value::Array(items) => {
            items.iter().filter_map(Value::as_str).any(|text| text.to_lowercase().contains(words))
        }
        _ => false,
    };
    words.is_empty()
        || ["name", "description", "url", "eventTypes", "id", "topics", "scopes", "endpoint"]
            .iter()
            .any(|field| document.get(field).is_some_and(is_in))
}

/// One, if it is the principal's to see.
///
/// # Errors
/// Not found.
pub fn find<K: Kinds>(api: &Api, principal: &Principal, id: &str) -> Result<Shown, Problem> {
    let shown = api.look(|state| K::find(state, id)).ok_or(Denied::NotFound)?;
    owns(principal, shown.account, shown.app)?;
    Ok(shown)
}

/// `GET` of one.
///
/// # Errors
/// Not found.
pub fn get<K: Kinds>(api: &Api, principal: &Principal, id: &str) -> Result<Response, Problem> {
    principal.require(K::READ)?;
    Ok(find::<K>(api, principal, id)?.answer(StatusCode::OK))
}

/// `POST`.
///
/// # Errors
/// Why nothing is created.
pub async fn create<K: Kinds>(
    api: &Arc<Api>,
    principal: &Principal,
    headers: &HeaderMap,
    body: Map<String, Value>,
) -> Result<Response, Problem> {
    let (shown, generated, replayed) = create_shown::<K>(api, principal, headers, body).await?;
    let location = format!("/api/v1/{}/{}", K::PATH, shown.id);
    let mut response = with_generated(shown, generated).answer(StatusCode::CREATED);
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(LOCATION, location);
    }
    if replayed {
        response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
    }
    Ok(response)
}

type Generated = Option<(&'static str, String)>;

pub(crate) async fn create_shown<K: Kinds>(
    api: &Arc<Api>,
    principal: &Principal,
    headers: &HeaderMap,
    mut body: Map<String, Value>,
) -> Result<(Shown, Generated, bool), Problem> {
    may_write::<K>(principal)?;
    let key = idempotency(headers, principal, K::PATH, &body)?;
    bind(api, principal, &mut body)?;
    let id = key.as_ref().map_or_else(|| api.new_id(), |key| key.id);
    if let Some(key) = &key
        && let Some(known) = replay::<K>(api, principal, key, &id.to_string())?
    {
        return Ok((known, None, true));
    }
    let planned = K::plan(api, Id::New(id), &Value::Object(body), Expected::Absent)?;
    K::verify(api, &planned).await?;
    let Planned { change, generated } = planned;
    let request = key.as_ref().map(|key| key.digest.clone());
    match api.write(principal, request, vec![change]).await {
        Ok(applied) => {
            let written = applied.revisions.first().map(|(key, _)| key.to_string()).unwrap_or_default();
            let id = written.split_once('/').map(|(_, id)| id.to_owned()).unwrap_or_default();
            Ok((find::<K>(api, principal, &id)?, generated, false))
        }
        Err(WriteError::Refused(Refused::Exists { key: there })) => {
            api.refresh().await?;
            let there = there.to_string();
            let id = there.split_once('/').map_or("", |(_, id)| id);
            if let Some(key) = &key
                && let Some(known) = replay::<K>(api, principal, key, id)?
            {
                return Ok((known, None, true));
            }
            Err(Problem::conflict(format!("`{id}` exists already")))
        }
        Err(error) => Err(write_problem(error)),
    }
}

/// What an earlier request with the same key has created.
fn replay<K: Kinds>(
    api: &Api,
    principal: &Principal,
    key: &Idempotency,
    id: &str,
) -> Result<Option<Shown>, Problem> {
    let Ok(known) = find::<K>(api, principal, id) else { return Ok(None) };
    match &known.meta.request {
        Some(request) if *request == key.digest => Ok(Some(known)),
        Some(_) => {
            let detail = "this `Idempotency-Key` was used for another request: use a new key";
            Err(Problem::new(Kind::KeyReused, detail))
        }
        None => Ok(None),
    }
}

/// Puts the principal's own account and app into a document that names none; another's are not found.
fn bind(api: &Api, principal: &Principal, body: &mut Map<String, Value>) -> Result<(), Problem> {
    let Some(own) = principal.bound.account() else { return Ok(()) };
    if let Some(Value::String(named)) = body.get("account") {
        named_account(api, principal, Some(named))?;
    }
    body.insert("account".to_owned(), Value::String(own.to_string()));
    if let Bound::App { app, .. } = principal.bound {
        let app = app.to_string();
        match body.get("app") {
            Some(Value::String(named)) if *named != app => return Err(Denied::NotFound.into()),
            _ => body.insert("app".to_owned(), Value::String(app)),
        };
    }
    Ok(())
}

/// `PUT` and `PATCH`: `merge` makes the new document of the one that is there.
///
/// # Errors
/// Why nothing is changed.
pub async fn update<K: Kinds>(
    api: &Arc<Api>,
    principal: &Principal,
    id: &str,
    headers: &HeaderMap,
    merge: impl Fn(&Value) -> Map<String, Value>,
) -> Result<Shown, Problem> {
    may_write::<K>(principal)?;
    let precondition = if_match(headers)?;
    let mut last = None;
    for _ in 0..RETRIES {
        let current = current::<K>(api, principal, id, precondition).await?;
        let mut body = merge(&current.document);
        bind(api, principal, &mut body)?;
        let expected = Expected::Revision(current.meta.revision);
        let planned = K::plan(api, Id::Existing(&current.id), &Value::Object(body), expected)?;
        K::verify(api, &planned).await?;
        match api.write(principal, None, vec![planned.change]).await {
            Ok(_) => return find::<K>(api, principal, &current.id),
            Err(error @ WriteError::Refused(Refused::RevisionMismatch { .. }))
                if precondition == Precondition::None =>
            {
                last = Some(error);
                api.refresh().await?;
            }
            Err(error) => return Err(write_problem(error)),
        }
    }
    Err(last.map_or_else(Problem::internal, write_problem))
}

/// The resource, as new as the precondition asks for.
async fn current<K: Kinds>(
    api: &Api,
    principal: &Principal,
    id: &str,
    precondition: Precondition,
) -> Result<Shown, Problem> {
    let fits = |shown: &Shown| match precondition {
        Precondition::None => true,
        Precondition::Revision(revision) => shown.meta.revision == revision,
    };
    if let Ok(shown) = find::<K>(api, principal, id)
        && fits(&shown)
    {
        return Ok(shown);
    }
    // Another replica may have written what is not read here yet.
    api.refresh().await?;
    let shown = find::<K>(api, principal, id)?;
    if fits(&shown) {
        return Ok(shown);
    }
    let detail =
        format!("it has revision {} now: read it again, and make the change anew", shown.meta.revision);
    Err(Problem::new(Kind::Changed, detail).with_header(ETAG, etag(shown.meta.revision)))
}

/// `DELETE`.
///
/// # Errors
/// Why it is still there.
pub async fn delete<K: Kinds>(
    api: &Arc<Api>,
    principal: &Principal,
    id: &str,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    may_write::<K>(principal)?;
    let precondition = if_match(headers)?;
    let current = current::<K>(api, principal, id, precondition).await?;
    let expected = match precondition {
        Precondition::None => Expected::Present,
        Precondition::Revision(revision) => Expected::Revision(revision),
    };
    let change = api.look(|state| K::delete(state, &current.id, expected))?;
    api.write(principal, None, vec![change]).await.map_err(write_problem)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// RFC 7396.
#[must_use]
pub fn merged(document: &Value, patch: &Map<String, Value>) -> Map<String, Value> {
    let mut out = document.as_object().cloned().unwrap_or_default();
    for (name, value) in patch {
        match value {
            Value::Null => {
                out.remove(name);
            }
            Value::Object(inner) => {
                // What stands for a secret is a whole: a new one takes its place.
                let old = out.get(name).filter(|old| old.get("sensitiveValuePresent").is_none());
                let value = merged(old.unwrap_or(&Value::Null), inner);
                out.insert(name.clone(), Value::Object(value));
            }
            other => {
                out.insert(name.clone(), other.clone());
            }
        }
    }
    out
}

impl Shown {
    /// The document, with its revision as `ETag`.
    #[must_use]
    pub fn answer(self, status: StatusCode) -> Response {
        let tag = etag(self.meta.revision);
        (status, [(ETAG, tag)], axum::Json(self.document)).into_response()
    }
}

/// Adds a secret that is shown once.
#[must_use]
pub(crate) fn with_generated(mut shown: Shown, generated: Generated) -> Shown {
    if let (Some((name, secret)), Value::Object(fields)) = (generated, &mut shown.document) {
        fields.insert(name.to_owned(), Value::String(secret));
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The examples of RFC 7396, appendix A, that are about objects.
    #[test]
    fn patches_are_merged() {
        for (document, patch, expected) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            let patch = patch.as_object().unwrap();
            assert_eq!(Value::Object(merged(&document, patch)), expected, "{document} {patch:?}");
        }
    }
}
