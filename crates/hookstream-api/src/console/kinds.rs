//! The screens of all that is configured: a list, and a form. Each kind says what its fields are; the rest is the same.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::header::IF_MATCH;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Console;
use super::form::{self, Choice, Field, FieldView, Form, Input, Label, Of, Part};
use super::page::{self, Page};
use super::visitor::Visitor;
use crate::access::{Principal, Scope};
use crate::api::Api;
use crate::history::events::EventItem;
use crate::history::rejected::RejectedItem;
use crate::problem::{FieldError, Kind, Problem};
use crate::request::{ListParameters, Parameters, etag};
use crate::resources::kinds::{Accounts, Apps, Authorizations, Clients, EventTypes, Sources};
use crate::resources::{self, Kinds, Shown};

/// How a kind is shown.
pub(super) struct Screen {
    pub(super) title: Label,
    pub(super) fields: &'static [Field],
    columns: &'static [Column],
    /// The field that it is found by.
    id: &'static str,
}

struct Column {
    label: Label,
    at: &'static str,
}

impl Screen {
    /// A screen whose list is another's.
    pub(super) const fn of(title: Label, fields: &'static [Field]) -> Self {
        Self { title, fields, columns: &[], id: "id" }
    }
}

/// A kind with a screen.
pub(super) trait Screened: Kinds {
    const SCREEN: &'static Screen;
}

const fn field(at: &'static str, label: Label, input: Input) -> Field {
    Field { at, label, hint: None, input, part: Part::Main, is_required: false, when: None, is_fixed: false }
}

impl Field {
    pub(super) const fn hint(self, hint: Label) -> Self {
        Self { hint: Some(hint), ..self }
    }

    pub(super) const fn required(self) -> Self {
        Self { is_required: true, ..self }
    }

    pub(super) const fn fixed(self) -> Self {
        Self { is_fixed: true, ..self }
    }

    pub(super) const fn when(self, which: &'static str) -> Self {
        Self { when: Some(which), ..self }
    }

    pub(super) const fn part(self, part: Part) -> Self {
        Self { part, ..self }
    }
}

/// A field of the part that all see.
pub(super) const fn main(at: &'static str, label: Label, input: Input) -> Field {
    field(at, label, input)
}

const ACCOUNT: Field = field("account", |t| t.account, Input::Of(Of::Accounts)).fixed();
const NAME: Field = field("name", |t| t.name, Input::Line).required();
const DESCRIPTION: Field = field("description", |t| t.description, Input::Line);
const SCOPES: Field = field("scopes", |t| t.scopes, Input::Lines).hint(|t| t.scopes_hint);
const NAME_COLUMN: Column = Column { label: |t| t.name, at: "name" };
const ACCOUNT_COLUMN: Column = Column { label: |t| t.account, at: "account" };
const SCOPES_COLUMN: Column = Column { label: |t| t.scopes, at: "scopes" };

impl Screened for Authorizations {
    const SCREEN: &'static Screen = &Screen {
        title: |t| t.authorizations,
        id: "id",
        columns: &[NAME_COLUMN, Column { label: |t| t.endpoint, at: "endpoint" }, ACCOUNT_COLUMN],
        fields: &[
            ACCOUNT,
            NAME,
            DESCRIPTION,
            field("endpoint", |t| t.endpoint, Input::Line).hint(|t| t.endpoint_hint).required(),
            field("which", |t| t.kind, Input::Which(&["header", "basic", "bearer", "oauth2", "mtls"])),
            field("header.name", |t| t.header_name, Input::Line).when("header"),
            field("header.value", |t| t.header_value, Input::Secret).when("header"),
            field("header.visibility", |t| t.visibility, Input::Choice(&["SECRET", "PUBLIC"])).when("header"),
            field("basic.user", |t| t.user, Input::Line).when("basic"),
            field("basic.password", |t| t.password, Input::Secret).when("basic"),
            field("bearer.token", |t| t.token, Input::Secret).when("bearer"),
            field("oauth2.tokenUrl", |t| t.token_url, Input::Line).when("oauth2"),
            field("oauth2.clientId", |t| t.client_id, Input::Line).when("oauth2"),
            field("oauth2.clientSecret", |t| t.secret, Input::Secret).when("oauth2"),
            field("oauth2.scopes", |t| t.scopes, Input::Lines).when("oauth2"),
            field("mtls.certificate", |t| t.certificate, Input::Area).when("mtls"),
            field("mtls.key", |t| t.key, Input::Secret).when("mtls"),
        ],
    };
}

impl Screened for EventTypes {
    const SCREEN: &'static Screen = &Screen {
        title: |t| t.event_types,
        id: "name",
        columns: &[
            NAME_COLUMN,
            Column { label: |t| t.description, at: "description" },
            Column { label: |t| t.delivery_mode, at: "delivery" },
            SCOPES_COLUMN,
        ],
        fields: &[
            NAME.fixed(),
            DESCRIPTION,
            field("sample", |t| t.sample, Input::Json),
            field("schema", |t| t.schema, Input::Json),
            SCOPES,
            field("delivery", |t| t.delivery_mode, Input::Choice(&["async", "sync"])),
            field("ttl", |t| t.ttl, Input::Line).hint(|t| t.ttl_hint),
            field("deprecated", |t| t.deprecated, Input::Check),
        ],
    };
}

impl Screened for Apps {
    const SCREEN: &'static Screen = &Screen {
        title: |t| t.apps,
        id: "id",
        columns: &[NAME_COLUMN, SCOPES_COLUMN, ACCOUNT_COLUMN],
        fields: &[ACCOUNT, NAME, DESCRIPTION, SCOPES],
    };
}

impl Screened for Accounts {
    const SCREEN: &'static Screen = &Screen {
        title: |t| t.accounts,
        id: "uid",
        columns: &[NAME_COLUMN, Column { label: |t| t.verification, at: "verification" }],
        fields: &[
            NAME,
            field("verification", |t| t.verification, Input::Choice(&["none", "ping", "handshake"])),
        ],
    };
}

impl Screened for Sources {
    const SCREEN: &'static Screen = &Screen {
        title: |t| t.sources,
        id: "name",
        columns: &[
            NAME_COLUMN,
            Column { label: |t| t.topics, at: "topics" },
            Column { label: |t| t.format, at: "format" },
        ],
        fields: &[
            NAME.fixed(),
            field("topics", |t| t.topics, Input::Lines).hint(|t| t.topics_hint).required(),
            field("format", |t| t.format, Input::NameOrJson).hint(|t| t.format_hint).required(),
            field("strict", |t| t.strict, Input::Check),
            field("delivery", |t| t.delivery_mode, Input::Choice(&["async", "sync"])),
            field("replyTopics", |t| t.reply_topics, Input::Lines).hint(|t| t.reply_topics_hint),
        ],
    };
}

impl Screened for Clients {
    const SCREEN: &'static Screen = &Screen {
        title: |t| t.clients,
        id: "id",
        columns: &[NAME_COLUMN, SCOPES_COLUMN, ACCOUNT_COLUMN],
        fields: &[
            NAME,
            field("account", |t| t.account, Input::Of(Of::Accounts)).fixed(),
            field("app", |t| t.app, Input::Of(Of::Apps)).fixed(),
            SCOPES,
            field("accessType", |t| t.access_type, Input::Line),
            field("disabled", |t| t.disabled, Input::Check),
        ],
    };
}

pub(super) fn routes() -> Router<Arc<Console>> {
    Router::new()
        .merge(routes_of::<Authorizations>())
        .merge(routes_of::<EventTypes>())
        .merge(routes_of::<Apps>())
        .merge(routes_of::<Accounts>())
        .merge(routes_of::<Sources>())
        .merge(routes_of::<Clients>())
}

fn routes_of<K: Screened>() -> Router<Arc<Console>> {
    let path = |rest: &str| format!("/{}{rest}", K::PATH);
    Router::new().route(&path(""), get(list::<K>).post(create::<K>)).merge(form_routes::<K>()).route(
        &path("/{id}"),
        get(async |visitor: Visitor, Path(id): Path<String>| {
            visitor.to(&format!("{}/{}/edit", K::PATH, encoded(&id)))
        }),
    )
}

/// The form of a new one and of one that is there, and its removal.
pub(super) fn form_routes<K: Screened>() -> Router<Arc<Console>> {
    let path = |rest: &str| format!("/{}{rest}", K::PATH);
    Router::new()
        .route(&path("/new"), get(new::<K>))
        .route(&path("/{id}/edit"), get(edit::<K>).post(save::<K>))
        .route(&path("/{id}/delete"), post(delete::<K>))
}

/// As a part of a path.
pub(super) fn encoded(text: &str) -> String {
    askama::filters::urlencode_strict(text).map(|text| text.to_string()).unwrap_or_default()
}

#[derive(Template)]
#[template(path = "kinds.html")]
struct ListPage {
    page: Page,
    path: &'static str,
    heads: Vec<&'static str>,
    rows: Vec<ListRow>,
    q: String,
    next: Option<String>,
    may_add: bool,
}

struct ListRow {
    id: String,
    cells: Vec<String>,
    updated_at: String,
}

async fn list<K: Screened>(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    parameters: Result<Parameters<ListParameters>, Problem>,
) -> Response {
    let listed = async {
        // What a page adds to its own address is no filter.
        let Parameters(parameters) = parameters.unwrap_or_else(|_| Parameters(ListParameters::default()));
        let page = resources::list::<K>(&console.api, &visitor.principal, &parameters).await?;
        Ok::<_, Problem>((parameters, page))
    };
    let (parameters, found) = match listed.await {
        Ok(found) => found,
        Err(problem) => return page::trouble(&visitor, K::PATH, &problem),
    };
    let t = visitor.t();
    let Screen { title, columns, id, .. } = K::SCREEN;
    let is_shown = |column: &&Column| column.at != "account" || visitor.sees_all();
    let columns: Vec<&Column> = columns.iter().filter(is_shown).collect();
    let row = |document: &Value| ListRow {
        id: text(document.get(id)),
        cells: columns.iter().map(|column| text(document.get(column.at))).collect(),
        updated_at: text(document.get("updatedAt")),
    };
    let q = parameters.q.unwrap_or_default();
    let next = found.next.map(|cursor| query(&[("q", &q), ("cursor", &cursor)]));
    let template = ListPage {
        page: visitor.page(K::PATH, title(t)),
        path: K::PATH,
        heads: columns.iter().map(|column| (column.label)(t)).collect(),
        rows: found.results.iter().map(row).collect(),
        q,
        next,
        may_add: may_write::<K>(&visitor),
    };
    page::render(StatusCode::OK, &template)
}

/// Pairs that are not empty, as the query of an address.
pub(super) fn query(pairs: &[(&str, &str)]) -> String {
    let pairs = pairs.iter().filter(|(_, value)| !value.is_empty());
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// A value in a cell.
pub(super) fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => items.iter().map(|item| text(Some(item))).collect::<Vec<_>>().join(", "),
        Some(Value::Object(map)) if map.contains_key("type") => text(map.get("type")),
        Some(other) => other.to_string(),
    }
}

pub(super) fn may_write<K: Kinds>(visitor: &Visitor) -> bool {
    if K::OPERATORS { visitor.is_operator() } else { visitor.may(K::WRITE) }
}

#[derive(Template)]
#[template(path = "form.html")]
struct FormPage {
    page: Page,
    path: &'static str,
    /// None: a new one.
    id: Option<String>,
    revision: String,
    /// The same form, sent twice, makes one thing.
    once: String,
    main: Vec<FieldView>,
    content: Vec<FieldView>,
    trust: Vec<FieldView>,
    advanced: Vec<FieldView>,
    /// Something in the part that is folded away is at fault.
    is_open: bool,
    may_write: bool,
    has_preview: bool,
    /// Where those are listed who get events of this type.
    listeners: Option<String>,
    tail: Option<Tail>,
}

/// What comes through a source lately.
struct Tail {
    accepted: Vec<EventItem>,
    rejected: Vec<RejectedItem>,
    /// The query of the list of all events.
    more: String,
}

/// Events, and records that were rejected, of a source that are shown.
const TAIL: usize = 20;

async fn tail(console: &Console, visitor: &Visitor, source: &str) -> Option<Tail> {
    if !visitor.sees_all() || !sees_history(visitor) {
        return None;
    }
    let more = query(&[("source", source)]);
    let asked = format!("{more}&limit={TAIL}");
    let executions = &console.api.executions;
    // What can't be had now is left out: the source can be changed all the same.
    let accepted = executions.events(&visitor.principal, Some(&asked)).await.map(|page| page.results);
    let rejected = executions.rejected(&visitor.principal, Some(&asked)).await.map(|page| page.results);
    Some(Tail { accepted: accepted.unwrap_or_default(), rejected: rejected.unwrap_or_default(), more })
}

/// Where a form stands.
struct At<'a> {
    console: &'a Console,
    visitor: &'a Visitor,
    /// None: of a new one.
    shown: Option<&'a Shown>,
    tail: Option<Tail>,
}

impl At<'_> {
    /// The form, as it was sent or as the document is, with what is wrong with it.
    fn render<K: Screened>(self, form: Option<&Form>, problem: Option<&Problem>) -> Response {
        let Self { console, visitor, shown, tail } = self;
        let t = visitor.t();
        let empty = json!({});
        let document = shown.map_or(&empty, |shown| &shown.document);
        let errors: &[FieldError] = problem.map_or(&[], |problem| &problem.errors);
        let fields: Vec<Field> = K::SCREEN
            .fields
            .iter()
            .filter(|field| field.at != "account" || visitor.sees_all())
            .copied()
            .collect();
        let registered = match fields.iter().any(|field| field.input == Input::EventTypes) {
            true => registered(&console.api),
            false => Vec::new(),
        };
        let (views, left) = form::views(t, &fields, document, form, &registered, errors);
        let mut parts: [Vec<FieldView>; 4] = Default::default();
        for ((part, mut view), field) in views.into_iter().zip(&fields) {
            if let Input::Of(of) = field.input {
                options(&console.api, visitor, of, &mut view);
            }
            let part = match part {
                Part::Main => 0,
                Part::Content => 1,
                Part::Trust => 2,
                Part::Advanced => 3,
            };
            parts[part].push(view);
        }
        let [main, content, trust, advanced] = parts;
        let title = match shown {
            Some(shown) => text(shown.document.get("name")),
            None if K::PATH == "webhooks" => t.add_webhook.to_owned(),
            None => format!("{}: {}", t.add, (K::SCREEN.title)(t)),
        };
        let mut page = visitor.page(K::PATH, title);
        page.problem = problem.map(|problem| said(visitor, problem, &left));
        let once = form.map(|form| form.get("once").to_owned()).filter(|once| !once.is_empty());
        let template = FormPage {
            page,
            path: K::PATH,
            id: shown.map(|shown| shown.id.clone()),
            revision: match form {
                Some(form) => form.get("revision").to_owned(),
                None => shown.map(|shown| shown.meta.revision.to_string()).unwrap_or_default(),
            },
            once: once.unwrap_or_else(|| Uuid::new_v4().to_string()),
            is_open: advanced.iter().any(|view| view.error.is_some()),
            main,
            has_preview: content.iter().any(|view| view.widget == "payload"),
            content,
            trust,
            advanced,
            may_write: may_write::<K>(visitor),
            tail,
            listeners: shown
                .filter(|_| K::PATH == EventTypes::PATH)
                .map(|shown| query(&[("eventType", &shown.id)])),
        };
        page::render(problem.map_or(StatusCode::OK, page::status_of), &template)
    }
}

/// What is said above the form.
fn said(visitor: &Visitor, problem: &Problem, left: &[FieldError]) -> String {
    let t = visitor.t();
    if problem.reference == Kind::Changed.reference() {
        return t.changed_meanwhile.to_owned();
    }
    if problem.errors.is_empty() {
        return problem.detail.clone();
    }
    let mut text = t.fields_wrong.to_owned();
    for FieldError { field, detail } in left {
        text.push('\n');
        if !field.is_empty() {
            text.push_str(field);
            text.push_str(": ");
        }
        text.push_str(detail);
    }
    text
}

/// Registered event types that are proposed at most; others are typed.
const MAX_PROPOSED: usize = 500;
/// Things that one is chosen of; of more, one is typed.
const MAX_OPTIONS: usize = 200;

fn registered(api: &Api) -> Vec<String> {
    api.look(|state| state.event_types().map(|known| known.name.clone()).take(MAX_PROPOSED).collect())
}

fn options(api: &Api, visitor: &Visitor, of: Of, view: &mut FieldView) {
    let (all, empty) = match of {
        Of::Accounts => (all::<Accounts>(api, &visitor.principal, "name"), visitor.t().default_one),
        Of::Apps => (all::<Apps>(api, &visitor.principal, "id"), visitor.t().none),
        Of::Sources => (all::<Sources>(api, &visitor.principal, "name"), visitor.t().any),
        Of::Authorizations => (all::<Authorizations>(api, &visitor.principal, "id"), visitor.t().none),
    };
    let Some(all) = all else {
        view.widget = "line";
        return;
    };
    let chosen = view.value.clone();
    let none = Choice { value: String::new(), label: empty.to_owned(), is_chosen: chosen.is_empty() };
    view.options = vec![none];
    view.options.extend(all.into_iter().map(|(value, label)| {
        let is_chosen = value == chosen || label == chosen;
        Choice { value, label, is_chosen }
    }));
    if !chosen.is_empty() && !view.options.iter().any(|option| option.is_chosen) {
        view.options.push(Choice { value: chosen.clone(), label: chosen, is_chosen: true });
    }
}

/// What they are found by and their names, as far as the principal sees them; none: there are too many.
fn all<K: Kinds>(api: &Api, principal: &Principal, id: &str) -> Option<Vec<(String, String)>> {
    let account = principal.bound.account();
    api.look(|state| {
        let mut found = Vec::new();
        for record in K::each(state, account, "").take(MAX_OPTIONS + 1) {
            let resources::Facts { account, app, .. } = K::facts(record);
            if account.is_none_or(|account| principal.owns(account, app).is_ok()) {
                let document = K::show(state, record);
                found.push((text(document.get(id)), text(document.get("name"))));
            }
        }
        (found.len() <= MAX_OPTIONS).then_some(found)
    })
}

async fn new<K: Screened>(State(console): State<Arc<Console>>, visitor: Visitor) -> Response {
    At { console: &console, visitor: &visitor, shown: None, tail: None }.render::<K>(None, None)
}

async fn edit<K: Screened>(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Response {
    match shown::<K>(&console, &visitor, &id) {
        Ok(shown) => {
            let tail =
                if K::PATH == Sources::PATH { tail(&console, &visitor, &shown.id).await } else { None };
            let at = At { console: &console, visitor: &visitor, shown: Some(&shown), tail };
            at.render::<K>(None, None)
        }
        Err(problem) => page::trouble(&visitor, K::PATH, &problem),
    }
}

pub(super) fn shown<K: Kinds>(console: &Console, visitor: &Visitor, id: &str) -> Result<Shown, Problem> {
    visitor.principal.require(K::READ)?;
    resources::find::<K>(&console.api, &visitor.principal, id)
}

#[derive(Template)]
#[template(path = "secret.html")]
pub(super) struct SecretPage {
    pub(super) page: Page,
    pub(super) name: String,
    /// An id that goes with it.
    pub(super) id: Option<String>,
    pub(super) secret: String,
    pub(super) to: String,
}

/// Makes what a form asks for.
pub(super) async fn create<K: Screened>(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    request: Request,
) -> Response {
    let form = match Form::read(request.into_body()).await {
        Ok(form) => form,
        Err(problem) => return page::trouble(&visitor, K::PATH, &problem),
    };
    let made = async {
        let document = document::<K>(&form, &json!({}))?;
        let mut headers = HeaderMap::new();
        if let Ok(once) = HeaderValue::from_str(form.get("once"))
            && !once.is_empty()
        {
            headers.insert("idempotency-key", once);
        }
        resources::create_one::<K>(&console.api, &visitor.principal, &headers, document).await
    };
    match made.await {
        Ok(created) => match created.generated {
            None => visitor.to(&format!("{}?done=created", K::PATH)),
            Some((_, secret)) => {
                let name = text(created.shown.document.get("name"));
                let id = (K::PATH == "clients").then(|| created.shown.id.clone());
                let page = visitor.page(K::PATH, name.clone());
                page::render(
                    StatusCode::OK,
                    &SecretPage { page, name, id, secret, to: visitor.path(K::PATH) },
                )
            }
        },
        Err(problem) => {
            let at = At { console: &console, visitor: &visitor, shown: None, tail: None };
            at.render::<K>(Some(&form), Some(&problem))
        }
    }
}

fn document<K: Screened>(form: &Form, old: &Value) -> Result<Map<String, Value>, Problem> {
    form::document(K::SCREEN.fields, form, old).map_err(Problem::invalid)
}

/// A revision that was seen, as the header that asks for it.
pub(super) fn seen(form: &Form) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(revision) = form.get("revision").parse() {
        headers.insert(IF_MATCH, etag(revision));
    }
    headers
}

async fn save<K: Screened>(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let form = match Form::read(request.into_body()).await {
        Ok(form) => form,
        Err(problem) => return page::trouble(&visitor, K::PATH, &problem),
    };
    let shown = match shown::<K>(&console, &visitor, &id) {
        Ok(shown) => shown,
        Err(problem) => return page::trouble(&visitor, K::PATH, &problem),
    };
    let saved = async {
        document::<K>(&form, &shown.document)?;
        // What could be read once, is read of the next revision too.
        let merge = |old: &Value| document::<K>(&form, old).unwrap_or_default();
        resources::update::<K>(&console.api, &visitor.principal, &id, &seen(&form), merge).await
    };
    match saved.await {
        Ok(_) => visitor.to(&format!("{}?done=saved", K::PATH)),
        Err(problem) => {
            let at = At { console: &console, visitor: &visitor, shown: Some(&shown), tail: None };
            at.render::<K>(Some(&form), Some(&problem))
        }
    }
}

async fn delete<K: Screened>(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Response {
    match resources::delete::<K>(&console.api, &visitor.principal, &id, &HeaderMap::new()).await {
        Ok(_) => visitor.to(&format!("{}?done=deleted", K::PATH)),
        Err(problem) => page::trouble(&visitor, K::PATH, &problem),
    }
}

/// Whether somebody may look into the history.
pub(super) fn sees_history(visitor: &Visitor) -> bool {
    visitor.may(Scope::HistoryRead)
}
