//! The resources of the configuration: one set of operations for all kinds of them.
//!
//! A resource is created from a document, shown as one, replaced by one (`PUT`) and merged with one (`PATCH`, RFC
//! 7396): what is merged is what is shown, read again. Whoever may not see a resource is told that there is none.

pub mod documents;
pub mod kinds;
pub mod webhooks;

use std::ops::ControlFlow;
use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use hookstream_config::state::State;
use hookstream_config::writer::{Applied, WriteError};
use hookstream_config::{Change, Expected, Refused};
use hookstream_core::config::Meta;
use hookstream_types::{AccountUid, AppId};
use hookstream_wire::config::Record;
use http::header::{ETAG, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::access::{Bound, Denied, List, Principal, Scope};
use crate::api::{Api, named_account, write_problem};
use crate::problem::{Kind, Problem};
use crate::request::{Idempotency, ListParameters, Page, Precondition, etag, idempotency, if_match};

/// How often a change without `If-Match` is made anew because somebody else was faster.
const RETRIES: usize = 20;

/// Resources that are looked at while the configuration is held: others wait for it.
const AT_A_TIME: usize = 200;

/// A resource as it is shown.
#[derive(Clone, Debug)]
pub struct Shown {
    /// What it is found by.
    pub id: String,
    pub document: Value,
    pub meta: Meta,
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
    type Record: 'static;
    /// In paths: `webhooks`.
    const PATH: &'static str;
    /// Who may look.
    const READ: Scope = Scope::WebhooksRead;
    /// Who may change.
    const WRITE: Scope = Scope::WebhooksWrite;
    /// Only operators, who see every account, may change it.
    const OPERATORS: bool = false;
    /// It is an app's, or may be.
    const IN_APPS: bool = false;

    /// An account's, or all, with greater ids than this, in the order of their ids.
    fn each<'a>(
        state: &'a State,
        account: Option<AccountUid>,
        after: &'a str,
    ) -> Box<dyn Iterator<Item = &'a Self::Record> + 'a>;

    /// One of this kind, if it is.
    fn of(record: &Record) -> Option<&Self::Record>;

    /// One, by what it is found by.
    fn get<'a>(state: &'a State, id: &str) -> Option<&'a Self::Record>;

    /// What all kinds have.
    fn facts(record: &Self::Record) -> Facts<'_>;

    /// Its document.
    fn show(state: &State, record: &Self::Record) -> Value;

    /// Whether it has what a list asks for: told without its document, which takes longer to make. Free text (in lower case)
    /// is looked for in the document, too.
    fn matches(_: &Self::Record, _: &ListParameters, _words: &str) -> bool {
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

    /// What must hold besides before a change is made, and what that adds to the change.
    fn verify(_: &Api, _: &mut Planned) -> impl Future<Output = Result<(), Problem>> + Send {
        async { Ok(()) }
    }
}

/// Which resource a document is for.
#[derive(Clone, Copy, Debug)]
pub enum Id<'a> {
    New(Uuid),
    Existing(&'a str),
}

/// What all resources have.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// What it is found by.
    pub id: String,
    pub account: Option<AccountUid>,
    pub app: Option<AppId>,
    pub meta: &'a Meta,
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

fn may_create<K: Kinds>(principal: &Principal) -> Result<(), Problem> {
    may_write::<K>(principal)?;
    if matches!(principal.bound, Bound::App { .. }) && !K::IN_APPS {
        let detail =
            format!("{} are their account's, and this client is an app's: use one of the account", K::PATH);
        return Err(Problem::new(Kind::Forbidden, detail));
    }
    Ok(())
}

/// `GET` of all.
///
/// # Errors
/// What is wrong with the request.
pub async fn list<K: Kinds>(
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
        None => String::new(),
        Some(cursor) => {
            let position = api.cursors.read(&of, cursor);
            let position = position.map_err(|error| Problem::invalid_field("cursor", error.to_string()))?;
            String::from_utf8(position).unwrap_or_default()
        }
    };
    let words = parameters.q.as_deref().unwrap_or_default().to_lowercase();
    let mut results = Vec::new();
    let mut last = String::new();
    let mut more = false;
    let take = |id: String, document: Value| {
        if !has_text(&document, &words) {
            return ControlFlow::Continue(());
        }
        if results.len() == limit {
            more = true;
            return ControlFlow::Break(());
        }
        results.push(document);
        last = id;
        ControlFlow::Continue(())
    };
    let matches = |record: &K::Record| K::matches(record, parameters, &words);
    scan::<K>(api, principal, account, after, matches, take).await;
    let next = more.then(|| api.cursors.make(&of, last.as_bytes()));
    Ok(Page { results, more_results: more, next })
}

/// Hands over what the principal may see, in the order of ids, until it is told to stop.
pub(crate) async fn scan<K: Kinds>(
    api: &Api,
    principal: &Principal,
    account: Option<AccountUid>,
    mut after: String,
    matches: impl Fn(&K::Record) -> bool,
    mut take: impl FnMut(String, Value) -> ControlFlow<()>,
) {
    loop {
        let looked = api.look(|state| {
            let mut last = None;
            for record in K::each(state, account, &after).take(AT_A_TIME) {
                let Facts { id, account, app, .. } = K::facts(record);
                if owns(principal, account, app).is_ok() && matches(record) {
                    take(id.clone(), K::show(state, record))?;
                }
                last = Some(id);
            }
            ControlFlow::Continue(last)
        });
        let ControlFlow::Continue(Some(last)) = looked else { return };
        after = last;
        tokio::task::yield_now().await;
    }
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
    api.look(|state| {
        let record = K::get(state, id).ok_or(Denied::NotFound)?;
        let Facts { id, account, app, meta } = K::facts(record);
        owns(principal, account, app)?;
        Ok(Shown { id, document: K::show(state, record), meta: meta.clone() })
    })
}

/// One as it was written: by now others may have changed it, which is not the answer to who wrote it.
pub(crate) fn as_written<K: Kinds>(
    api: &Api,
    principal: &Principal,
    id: &str,
    applied: &Applied,
) -> Result<Shown, Problem> {
    let Some(record) = applied.written.iter().find_map(|written| K::of(written.record.as_ref()?)) else {
        // There was nothing to do.
        return find::<K>(api, principal, id);
    };
    let Facts { id, meta, .. } = K::facts(record);
    let document = api.look(|state| K::show(state, record));
    Ok(Shown { id, document, meta: meta.clone() })
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
    Ok(create_one::<K>(api, principal, headers, body).await?.answer::<K>())
}

/// A secret that was made here, under its field's name.
pub(crate) type Generated = Option<(&'static str, String)>;

/// What a `POST` has made, or had made before.
#[derive(Debug)]
pub struct Created {
    pub shown: Shown,
    pub(crate) generated: Generated,
    /// It was made by the same request, sent earlier.
    replayed: bool,
}

impl Created {
    /// 201, and where it is.
    #[must_use]
    pub fn answer<K: Kinds>(self) -> Response {
        let location = format!("/api/v1/{}/{}", K::PATH, self.shown.id);
        let mut response = with_generated(self.shown, self.generated).answer(StatusCode::CREATED);
        if let Ok(location) = HeaderValue::from_str(&location) {
            response.headers_mut().insert(LOCATION, location);
        }
        if self.replayed {
            response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
        }
        response
    }
}

/// The id that a new resource is to have.
pub(crate) enum NewId {
    Free(Uuid),
    /// The same request, sent earlier, has made it.
    Taken(Created),
}

impl NewId {
    pub(crate) fn of<K: Kinds>(
        api: &Api,
        principal: &Principal,
        key: Option<&Idempotency>,
    ) -> Result<Self, Problem> {
        let Some(key) = key else { return Ok(Self::Free(api.new_id())) };
        let known = replay::<K>(api, principal, key, &key.id.to_string())?;
        Ok(known.map_or(Self::Free(key.id), Self::Taken))
    }
}

pub(crate) async fn create_one<K: Kinds>(
    api: &Arc<Api>,
    principal: &Principal,
    headers: &HeaderMap,
    mut body: Map<String, Value>,
) -> Result<Created, Problem> {
    may_create::<K>(principal)?;
    let key = idempotency(headers, principal, K::PATH, &body)?;
    bind(api, principal, &mut body)?;
    let id = match NewId::of::<K>(api, principal, key.as_ref())? {
        NewId::Free(id) => id,
        NewId::Taken(created) => return Ok(created),
    };
    let mut planned = K::plan(api, Id::New(id), &Value::Object(body), Expected::Absent)?;
    K::verify(api, &mut planned).await?;
    insert::<K>(api, principal, key.as_ref(), planned).await
}

/// Writes what is new.
pub(crate) async fn insert<K: Kinds>(
    api: &Api,
    principal: &Principal,
    key: Option<&Idempotency>,
    planned: Planned,
) -> Result<Created, Problem> {
    let Planned { change, generated } = planned;
    let request = key.map(|key| key.digest.clone());
    match api.write(principal, request, vec![change]).await {
        Ok(applied) => {
            let written = applied.written.first().map(|written| written.key.to_string()).unwrap_or_default();
            let shown = as_written::<K>(api, principal, id_of(&written), &applied)?;
            Ok(Created { shown, generated, replayed: false })
        }
        Err(WriteError::Refused { refused: Refused::Exists { key: there }, .. }) => {
            let there = there.to_string();
            if let Some(key) = key
                && let Some(known) = replay::<K>(api, principal, key, id_of(&there))?
            {
                return Ok(known);
            }
            Err(Problem::conflict(format!("`{}` exists already", id_of(&there))))
        }
        Err(error) => Err(write_problem(error)),
    }
}

/// The id in a record's key.
fn id_of(key: &str) -> &str {
    key.split_once('/').map_or("", |(_, id)| id)
}

/// What an earlier request with the same key has created.
fn replay<K: Kinds>(
    api: &Api,
    principal: &Principal,
    key: &Idempotency,
    id: &str,
) -> Result<Option<Created>, Problem> {
    let Ok(shown) = find::<K>(api, principal, id) else { return Ok(None) };
    match &shown.meta.request {
        Some(request) if *request == key.digest => {
            Ok(Some(Created { shown, generated: None, replayed: true }))
        }
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
    let mut tries = Tries::of(precondition);
    loop {
        let current = current::<K>(api, principal, id, precondition).await?;
        let mut body = merge(&current.document);
        bind(api, principal, &mut body)?;
        let expected = Expected::Revision(current.meta.revision);
        let mut planned = K::plan(api, Id::Existing(&current.id), &Value::Object(body), expected)?;
        K::verify(api, &mut planned).await?;
        match api.write(principal, None, vec![planned.change]).await {
            Ok(applied) => return as_written::<K>(api, principal, &current.id, &applied),
            Err(error) => tries.again(error)?,
        }
    }
}

/// A change of what is there is made anew if somebody else was faster, unless `If-Match` forbids it.
pub(crate) struct Tries(usize);

impl Tries {
    pub(crate) fn of(precondition: Precondition) -> Self {
        Self(if precondition == Precondition::None { RETRIES } else { 0 })
    }

    /// # Errors
    /// If that does not help, or it was tried often enough.
    pub(crate) fn again(&mut self, error: WriteError) -> Result<(), Problem> {
        let is_changed =
            matches!(error, WriteError::Refused { refused: Refused::RevisionMismatch { .. }, .. });
        if !is_changed || self.0 == 0 {
            return Err(write_problem(error));
        }
        self.0 -= 1;
        Ok(())
    }
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
