//! Webhooks: what they may be, the ping that verifies their endpoint, and what can be done with one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hookstream_config::apply::new_secret;
use hookstream_config::change::WebhookSpec;
use hookstream_config::manifest::WebhookDocument;
use hookstream_config::manifest::render::{self, Form};
use hookstream_config::payload::{self, Rendered};
use hookstream_config::resolve::Names;
use hookstream_config::state::State;
use hookstream_config::{Change, Expected, OpenError, os_random};
use hookstream_core::config::{
    DEFAULT_ACCOUNT, DEFAULT_CONTENT_TYPE, Tls, Verification, Webhook, WebhookSecret, WebhookState,
};
use hookstream_core::exchange::Exchange;
use hookstream_core::redact::Redactor;
use hookstream_core::request::handshake::{self, Agreed, Declined};
use hookstream_core::request::{Prepared, Unsendable};
use hookstream_types::{AccountUid, Chain, SecretString, WebhookId};
use hookstream_wire::config::{Record, WebhookRecord};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::documents::{RenderedPayload, TemplateTrial};
use super::kinds::read;
use super::{
    Created, Facts, Id, Kinds, NewId, Planned, Shown, Tries, as_written, current, find, insert,
    with_generated,
};
use crate::access::{Denied, Principal, Scope};
use crate::api::{Api, document_problem, named_account, write_problem};
use crate::history::events::PastEvent;
use crate::problem::{FieldError, Kind, PingReport, Problem};
use crate::request::{ListParameters, Precondition, idempotency, if_match};

/// Webhooks.
#[derive(Debug)]
pub struct Webhooks;

impl Kinds for Webhooks {
    type Record = WebhookRecord;
    const PATH: &'static str = "webhooks";
    const IN_APPS: bool = true;

    fn each<'a>(
        state: &'a State,
        account: Option<AccountUid>,
        after: &'a str,
    ) -> Box<dyn Iterator<Item = &'a WebhookRecord> + 'a> {
        let after = Uuid::try_parse(after).unwrap_or_default();
        state.webhooks_after(account, WebhookId(after))
    }

    fn of(record: &Record) -> Option<&WebhookRecord> {
        if let Record::Webhook(record) = record { Some(record) } else { None }
    }

    fn get<'a>(state: &'a State, id: &str) -> Option<&'a WebhookRecord> {
        state.webhook(WebhookId(Uuid::try_parse(id).ok()?))
    }

    fn facts(webhook: &WebhookRecord) -> Facts<'_> {
        let WebhookRecord { id, account, app, meta, .. } = webhook;
        Facts { id: id.to_string(), account: Some(*account), app: *app, meta }
    }

    fn show(state: &State, webhook: &WebhookRecord) -> Value {
        render::webhook(state, webhook, Form::Api)
    }

    fn matches(webhook: &WebhookRecord, parameters: &ListParameters, words: &str) -> bool {
        let has = |text: &str| text.to_lowercase().contains(words);
        let state = match webhook.state {
            WebhookState::Draft => "draft",
            WebhookState::Published => "published",
            WebhookState::Unpublished => "unpublished",
            WebhookState::Paused => "paused",
            WebhookState::Disabled => "disabled",
        };
        let gets = |event_type: &String| {
            let mut patterns = webhook.event_types.iter();
            patterns.any(|pattern| hookstream_core::matching::pattern_matches(pattern, event_type))
        };
        let is_of = |app: &String| webhook.app.is_some_and(|own| own.to_string().eq_ignore_ascii_case(app));
        parameters.state.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(state))
            && parameters.app.as_ref().is_none_or(is_of)
            && parameters.event_type.as_ref().is_none_or(gets)
            && (words.is_empty()
                || has(&webhook.name)
                || has(&webhook.url)
                || webhook.description.as_deref().is_some_and(has)
                || webhook.event_types.iter().any(|pattern| has(pattern))
                || has(&webhook.id.to_string()))
    }

    fn plan(api: &Api, id: Id<'_>, document: &Value, expected: Expected) -> Result<Planned, Problem> {
        let document: WebhookDocument = read(document)?;
        let id = webhook_id(id)?;
        let spec = api.look(|state| Names::new(state).resolve_webhook(&document, state.webhook(id)));
        let mut webhook = Box::new(spec.map_err(document_problem)?);
        let old = api.look(|state| state.webhook(id).cloned());
        let errors = endpoint_errors(api, &webhook, old.as_ref());
        if !errors.is_empty() {
            return Err(Problem::invalid(errors));
        }
        let mut generated = None;
        if webhook.secrets.is_none() && expected == Expected::Absent {
            let secret = new_secret(&mut os_random);
            generated = Some(("generatedSecret", secret.text.expose().to_owned()));
            webhook.secrets = Some(vec![secret]);
        }
        Ok(Planned { change: Change::PutWebhook { id, webhook, expected }, generated })
    }

    fn delete(_: &State, id: &str, expected: Expected) -> Result<Change, Problem> {
        Ok(Change::DeleteWebhook { id: webhook_id(Id::Existing(id))?, expected })
    }

    async fn verify(api: &Api, planned: &mut Planned) -> Result<(), Problem> {
        let Change::PutWebhook { id, webhook, .. } = &mut planned.change else { return Ok(()) };
        if webhook.state != WebhookState::Published {
            return Ok(());
        }
        let preview = api.look(|state| preview(state, *id, webhook))?;
        webhook.agreed = verify(api, preview).await?.or(webhook.agreed);
        Ok(())
    }
}

/// What the way out would refuse. What was let in stays in, so that a webhook can be changed after an operator has become
/// stricter; it is refused when it is sent.
pub(crate) fn endpoint_errors(
    api: &Api,
    webhook: &WebhookSpec,
    old: Option<&WebhookRecord>,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if old.is_none_or(|old| old.url != webhook.url)
        && let Err(refusal) = api.egress.check(&webhook.url)
    {
        errors.push(FieldError::new("/url", refusal.to_string()));
    }
    if let Some(tls) = Tls::new(webhook.trust.as_deref(), None)
        && let Err(message) = api.egress.check_tls(&tls)
    {
        errors.push(FieldError::new("/tls", message));
    }
    errors
}

fn webhook_id(id: Id<'_>) -> Result<WebhookId, Problem> {
    match id {
        Id::New(id) => Ok(WebhookId(id)),
        Id::Existing(id) => Uuid::try_parse(id).map(WebhookId).map_err(|_| Denied::NotFound.into()),
    }
}

/// The webhook as it would be, and whether its account asks for a ping.
pub(crate) fn preview(
    state: &State,
    id: WebhookId,
    spec: &WebhookSpec,
) -> Result<(Webhook, Verification), Problem> {
    let webhook = state.preview(id, spec).map_err(|error| unopened(id, &error))?;
    Ok((webhook, verification(state, spec.account)))
}

fn verification(state: &State, account: AccountUid) -> Verification {
    state.account(account).map(|record| record.account.verification).unwrap_or_default()
}

/// Who is to be published must answer a ping or consent in a handshake, if its account asks for that.
pub(crate) async fn verify(
    api: &Api,
    (webhook, verification): (Webhook, Verification),
) -> Result<Option<Agreed>, Problem> {
    let prepared = prepare(api, webhook)?;
    let report = match verification {
        Verification::None => return Ok(None),
        Verification::Ping => ping(api, &prepared).await?,
        Verification::Handshake => match shake_hands(api, &prepared).await {
            Ok(agreed) => return Ok(Some(agreed)),
            Err(report) => report,
        },
    };
    if report.success {
        return Ok(None);
    }
    let reason = report.reason.clone().unwrap_or_default();
    let detail = format!(
        "{reason}; nothing was changed. A draft (`\"state\": \"draft\"`) is not verified until it is published"
    );
    let mut problem = Problem::new(Kind::NotVerified, detail);
    problem.ping = Some(Box::new(report));
    Err(problem)
}

fn prepare(api: &Api, webhook: Webhook) -> Result<Prepared, Problem> {
    Prepared::new(Arc::new(webhook), &api.user_agent).map_err(|error| unsendable(&error))
}

fn unsendable(error: &Unsendable) -> Problem {
    Problem::new(Kind::NotSendable, format!("{}; keep it a draft until then", Chain(error)))
}

async fn ping(api: &Api, prepared: &Prepared) -> Result<PingReport, Problem> {
    let request =
        prepared.ping(&Uuid::new_v4().to_string(), api.now()).map_err(|error| unsendable(&error))?;
    Ok(report(&api.egress.exchange(&request).await, &Redactor::new(prepared.webhook())))
}

async fn shake_hands(api: &Api, prepared: &Prepared) -> Result<Agreed, PingReport> {
    let exchange = api.egress.exchange(&prepared.handshake(&api.origin)).await;
    let told = report(&exchange, &Redactor::new(prepared.webhook()));
    let Ok(response) = &exchange.result else { return Err(told) };
    let declined = |reason: Declined| PingReport { success: false, reason: Some(reason.to_string()), ..told };
    handshake::agreed(response, &api.origin).map_err(declined)
}

/// What of an exchange is told: the endpoint's body is not (a URL that is tried must not become a window).
fn report(exchange: &Exchange, redactor: &Redactor) -> PingReport {
    let time_ms = u64::try_from(exchange.timings.total.as_millis()).unwrap_or(u64::MAX);
    match &exchange.result {
        Ok(response) if (200..300).contains(&response.status) => {
            PingReport { success: true, status: Some(response.status), time_ms, reason: None }
        }
        Ok(response) => {
            let status = response.status;
            let reason = format!("the endpoint answered the request with {status} instead of 2xx");
            PingReport { success: false, status: Some(status), time_ms, reason: Some(reason) }
        }
        Err(failure) => {
            let message = redactor.text(&failure.message).into_owned();
            PingReport { success: false, status: None, time_ms, reason: Some(message) }
        }
    }
}

/// What a state change is called in paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Publish,
    Unpublish,
    Pause,
    Resume,
}

/// Publishes, unpublishes, pauses or resumes. Asking again changes nothing.
///
/// Who is sent to from then on must answer a ping, as it is: what changes between the ping and the write is looked at
/// anew.
///
/// # Errors
/// Why it stays as it is.
pub async fn act(
    api: &Arc<Api>,
    principal: &Principal,
    id: &str,
    headers: &HeaderMap,
    action: Action,
) -> Result<Shown, Problem> {
    principal.require(Scope::WebhooksWrite)?;
    let precondition = if_match(headers)?;
    let (to, from): (_, &[WebhookState]) = {
        use WebhookState::{Disabled, Draft, Paused, Published, Unpublished};
        match action {
            Action::Publish => (Published, &[Draft, Unpublished, Disabled]),
            Action::Unpublish => (Unpublished, &[Published, Paused, Disabled]),
            Action::Pause => (Paused, &[Published]),
            Action::Resume => (Published, &[Paused]),
        }
    };
    let mut tries = Tries::of(precondition);
    loop {
        let current = current::<Webhooks>(api, principal, id, precondition).await?;
        let id = webhook_id(Id::Existing(&current.id))?;
        let found = api.look(|state| {
            let record = state.webhook(id)?;
            Some((record.state, state.open(record), verification(state, record.account)))
        });
        let (now, webhook, verification) = found.ok_or(Denied::NotFound)?;
        if now == to {
            return Ok(current);
        }
        if !from.contains(&now) {
            let way_out = if action == Action::Publish { "resume it" } else { "publish it first" };
            let now = current.document.get("state").and_then(Value::as_str).unwrap_or_default();
            return Err(Problem::conflict(format!("the webhook is {now}: {way_out}")));
        }
        let mut agreed = None;
        if to == WebhookState::Published {
            agreed = verify(api, (webhook.map_err(|error| unopened(id, &error))?, verification)).await?;
        }
        let expected = Expected::Revision(current.meta.revision);
        let change = Change::SetWebhookState { id, state: to, agreed, expected };
        match api.write(principal, None, vec![change]).await {
            Ok(applied) => return as_written::<Webhooks>(api, principal, &current.id, &applied),
            Err(error) => tries.again(error)?,
        }
    }
}

fn unopened(id: WebhookId, error: &OpenError) -> Problem {
    tracing::error!(%id, "a webhook's secrets can't be opened: {error}");
    Problem::internal()
}

/// Copies a webhook, secrets included, as a draft of another name.
///
/// # Errors
/// Why there is no copy.
pub async fn duplicate(
    api: &Arc<Api>,
    principal: &Principal,
    id: &str,
    headers: &HeaderMap,
    body: &Map<String, Value>,
) -> Result<Created, Problem> {
    principal.require(Scope::WebhooksWrite)?;
    let shown = find::<Webhooks>(api, principal, id)?;
    let key = idempotency(headers, principal, &format!("webhooks/{}/duplicate", shown.id), body)?;
    let copy = match NewId::of::<Webhooks>(api, principal, key.as_ref())? {
        NewId::Free(id) => WebhookId(id),
        NewId::Taken(created) => return Ok(created),
    };
    let old = webhook_id(Id::Existing(&shown.id))?;
    let opened = api.look(|state| state.webhook(old).map(|record| state.open(record)));
    let webhook = opened.ok_or(Denied::NotFound)?.map_err(|error| unopened(old, &error))?;
    let name = match body.get("name") {
        None => api.look(|state| free_name(state, webhook.account, &webhook.name)),
        Some(Value::String(name)) => name.clone(),
        Some(_) => return Err(Problem::invalid_field("/name", "must be text")),
    };
    let mut document = shown.document;
    document["name"] = json!(name);
    document["state"] = json!("draft");
    let read: WebhookDocument = read(&document)?;
    let spec = api.look(|state| Names::new(state).resolve_webhook(&read, None)).map_err(document_problem)?;
    let sent = webhook.headers.iter();
    let sent = sent.map(|(name, value)| (name.clone(), Some(SecretString::new(value.clone()))));
    let webhook = Box::new(WebhookSpec {
        headers: sent.collect(),
        secrets: Some(webhook.secrets.clone()),
        disabled_reason: None,
        ..spec
    });
    let change = Change::PutWebhook { id: copy, webhook, expected: Expected::Absent };
    insert::<Webhooks>(api, principal, key.as_ref(), Planned { change, generated: None }).await
}

fn free_name(state: &State, account: AccountUid, name: &str) -> String {
    let mut names =
        (1..).map(|n| if n == 1 { format!("{name} (copy)") } else { format!("{name} (copy {n})") });
    let is_free = |name: &String| state.webhook_by_name(account, name).is_none();
    names.find(is_free).unwrap_or_else(|| name.to_owned())
}

/// Pings the endpoint, whatever the webhook's state.
///
/// # Errors
/// If no request can be made.
pub async fn ping_now(api: &Api, principal: &Principal, id: &str) -> Result<PingReport, Problem> {
    principal.require(Scope::WebhooksWrite)?;
    let prepared = prepare(api, opened(api, principal, id)?)?;
    ping(api, &prepared).await
}

/// Sends a sample event, as a delivery would be, and tells what came of it.
///
/// # Errors
/// If no request can be made.
pub async fn test(
    api: &Api,
    principal: &Principal,
    id: &str,
    body: &Map<String, Value>,
) -> Result<PingReport, Problem> {
    principal.require(Scope::WebhooksWrite)?;
    let webhook = opened(api, principal, id)?;
    let named = match body.get("eventType") {
        None => webhook.event_types.iter().find(|pattern| !pattern.ends_with('*')).cloned(),
        Some(Value::String(name)) => Some(name.clone()),
        Some(_) => return Err(Problem::invalid_field("/eventType", "must be text")),
    };
    let event_type = named.unwrap_or_else(|| "hookstream.test".to_owned());
    let sample = || api.look(|state| state.event_type(&event_type).and_then(|known| known.sample.clone()));
    let data = body.get("data").cloned().or_else(sample).unwrap_or_else(|| json!({ "test": true }));
    let prepared = prepare(api, webhook)?;
    let job = test_job(api, prepared.webhook(), event_type, &data);
    let request = prepared.request(&job, api.now()).map_err(|error| unsendable(&error))?;
    Ok(report(&api.egress.exchange(&request).await, &Redactor::new(prepared.webhook())))
}

/// Shows what a template makes of an event, and what is wrong with it.
///
/// # Errors
/// If it makes nothing.
pub async fn render(
    api: &Api,
    principal: &Principal,
    trial: TemplateTrial,
) -> Result<RenderedPayload, Problem> {
    principal.require(Scope::WebhooksRead)?;
    let TemplateTrial { template, content_type, event_type, data, event, account } = trial;
    let content_type = content_type.unwrap_or_else(|| DEFAULT_CONTENT_TYPE.to_owned());
    hookstream_config::checks::content_type(&content_type)
        .map_err(|message| Problem::invalid_field("/contentType", message))?;
    let (account, attributes, data) = match (event, event_type) {
        (Some(_), Some(_)) => {
            return Err(Problem::invalid_field("/event", "name an event or an event type, not both"));
        }
        (None, None) => return Err(Problem::invalid_field("/eventType", "is missing, and `event` too")),
        (Some(_), None) if data.is_some() => {
            return Err(Problem::invalid_field("/data", "the event has its own: name its type instead"));
        }
        (Some(event), None) => {
            let PastEvent { attributes, data } = api.executions.past_event(principal, &event).await?;
            (Some(attributes.account), attributes, data)
        }
        (None, Some(event_type)) => {
            let account = named_account(api, principal, account.as_deref())?;
            let (attributes, data) = api.look(|state| payload::sample(state, &event_type, data.as_ref()));
            (account, attributes, data)
        }
    };
    let rendered = api.look(|state| {
        let account = account.and_then(|uid| state.account(uid));
        let account = account.map_or(DEFAULT_ACCOUNT, |record| &record.account.name);
        payload::render(state, &template, &content_type, account, &attributes, &data)
    });
    let Rendered { payload, problems } =
        rendered.map_err(|message| Problem::invalid_field("/template", message))?;
    Ok(RenderedPayload { content_type, payload, problems })
}

fn test_job(api: &Api, webhook: &Webhook, event_type: String, data: &Value) -> hookstream_core::job::Job {
    use hookstream_core::event::EventAttributes;
    use hookstream_core::job::{Job, JobState};
    use hookstream_types::{DeliveryId, EventId, Offset};
    let now = api.now();
    let event = EventAttributes {
        event: EventId(api.new_id()),
        account: webhook.account,
        source: "test".to_owned(),
        id: api.new_id().to_string(),
        ce_source: "hookstream".to_owned(),
        event_type,
        subject: None,
        time: render::time(now),
        content_type: Some("application/json".to_owned()),
        extensions: Vec::new(),
        produced_at: now,
    };
    let state = JobState::new(DeliveryId(Uuid::new_v4()), webhook.id, Offset(0));
    Job { state, event: Arc::new(event), data: Bytes::from(data.to_string()) }
}

fn opened(api: &Api, principal: &Principal, id: &str) -> Result<Webhook, Problem> {
    let shown = find::<Webhooks>(api, principal, id)?;
    let id = webhook_id(Id::Existing(&shown.id))?;
    let opened = api.look(|state| state.webhook(id).map(|record| state.open(record)));
    opened.ok_or(Denied::NotFound)?.map_err(|error| unopened(id, &error))
}

/// Gives a webhook a new secret. Without one in the body it is made here, and shown once.
///
/// # Errors
/// Why the secret stays.
pub async fn rotate_secret(
    api: &Arc<Api>,
    principal: &Principal,
    id: &str,
    headers: &HeaderMap,
    body: &Map<String, Value>,
) -> Result<Shown, Problem> {
    principal.require(Scope::WebhooksWrite)?;
    let webhook = opened(api, principal, id)?;
    let expected = match if_match(headers)? {
        Precondition::None => Expected::Present,
        Precondition::Revision(revision) => Expected::Revision(revision),
    };
    let overlap = match body.get("overlap") {
        None => api.overlap,
        Some(Value::String(text)) => hookstream_settings::parse_duration(text).map_err(|_| {
            Problem::invalid_field("/overlap", "must be a duration such as `0s`, `1h` or `24h`")
        })?,
        Some(_) => return Err(Problem::invalid_field("/overlap", "must be text such as `24h`")),
    };
    /// Longer than that, two secrets are no rotation.
    const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
    if overlap > LONGEST {
        return Err(Problem::invalid_field("/overlap", "must be at most 30 days"));
    }
    let free = webhook.signatures.take_any_secret();
    let (secret, generated) = match body.get("secret") {
        None => {
            let secret = new_secret(&mut os_random);
            let text = secret.text.expose().to_owned();
            (secret, Some(("generatedSecret", text)))
        }
        Some(Value::String(text)) => {
            hookstream_config::checks::secret(text, free)
                .map_err(|message| Problem::invalid_field("/secret", message))?;
            (WebhookSecret::new(SecretString::new(text.clone())), None)
        }
        Some(_) => return Err(Problem::invalid_field("/secret", "must be text")),
    };
    let until = hookstream_types::UnixMillis(
        api.now().0.saturating_add(i64::try_from(overlap.as_millis()).unwrap_or(i64::MAX)),
    );
    let change = Change::RotateSecret { id: webhook.id, secret: secret.text, until, expected };
    let applied = api.write(principal, None, vec![change]).await.map_err(write_problem)?;
    Ok(with_generated(as_written::<Webhooks>(api, principal, id, &applied)?, generated))
}

/// The usual status of what was done.
pub(crate) const DONE: StatusCode = StatusCode::OK;
