//! The REST API: what comes in over HTTP, checked and handed on.
//!
//! [`routes`] are the paths; [`resources`] what is done to the configuration, which [`api::Api`] reads and writes;
//! [`access`] says who asks; [`events`] takes events. Any number of replicas serve at a time: all of them follow the
//! configuration's log, and write it one at a time (`hookstream_config::writer`).

pub mod access;
pub mod api;
mod bridges;
pub mod commands;
mod configuration;
mod console;
mod description;
mod docs;
pub mod events;
pub mod history;
mod matching;
pub mod metrics;
mod portal;
pub mod problem;
mod replays;
mod request;
pub mod resources;
mod routes;
pub mod server;
mod sync;
mod transfer;

pub use transfer::{FieldOutcome, GeneratedSecret, MAX_DOCUMENT_BYTES, Outcome, ResourceOutcome};

#[cfg(test)]
mod testing;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hookstream_config::{Base, ConfigWriter, os_random};
use hookstream_egress::Client;
use hookstream_history::{Backend, Retention};
use hookstream_log::admin::Admin;
use hookstream_log::appender::Appender;
use hookstream_log::backlog::Backlog;
use hookstream_log::fetch::Fetcher;
use hookstream_runtime::{Ctx, ServiceError};
use hookstream_settings::{ApiSettings, HistoryPlace, IssuerSettings, Settings, SignInSettings};
use hookstream_types::Secret;
use tokio::net::TcpListener;
use tracing::info;
use utoipa_axum::router::OpenApiRouter;

use crate::access::authenticate::{AdminToken, Authenticator};
use crate::access::jwks::{Fetch, Jwks};
use crate::access::jwt::Issuer;
use crate::access::limits::{Limits, Rate};
use crate::access::oauth::{self, Clock, Peer, Random, TokenEndpoint};
use crate::access::oidc::{Provider, ProviderSettings};
use crate::access::token::AccessTokens;
use crate::access::{Cursors, ForeignScope, Principal, Scope, ScopeMap};
use crate::api::{Api, Shared};
use crate::bridges::{Configured, Issuers, Sink};
use crate::console::{CALLBACK, Console, Links, SESSION_KEYS, Sessions};
use crate::events::{EventLimits, Events};
use crate::history::{Executions, HistoryTopics, Index, IndexSpec, Indexer};
use crate::metrics::ApiMetrics;
use crate::problem::{Kind, Problem};
use crate::replays::Replayer;
use crate::sync::{Caller, SyncMetrics, requests};

/// Purposes that keys are derived for.
const TOKEN_KEYS: &str = "hookstream access tokens";
const CURSOR_KEYS: &str = "hookstream cursors";
/// Clients whose request rates are remembered.
const RATES: usize = 10_000;

/// The API can't listen.
#[derive(Debug, thiserror::Error)]
#[error("could not listen on `{address}`; give another address as `api.listen` (HOOKSTREAM__API__LISTEN)")]
struct CouldNotListen {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

/// Runs the service until it is told to stop.
///
/// # Errors
/// What keeps it from going on.
pub async fn run(ctx: Ctx) -> Result<(), ServiceError> {
    run_with(ctx, Router::new()).await
}

/// Runs the service, with other routes beside its own.
///
/// # Errors
/// What keeps it from going on.
pub async fn run_with(ctx: Ctx, beside: Router) -> Result<(), ServiceError> {
    // Bound first: an address that can't be had is said at once.
    let address = ctx.settings.api.listen;
    let listener = TcpListener::bind(address).await.map_err(|source| CouldNotListen { address, source })?;
    let health = ctx.health.component("server");
    health.unready("starting");
    let Some(base) = Base::ready(&ctx).await? else { return Ok(()) };
    let writer = base.writer()?;
    let commands = commands::start(&ctx, &base, &writer)?;
    let metrics = history::HistoryMetrics::register(&ctx.registry)?;
    let indexer = Indexer::start(index_spec(&ctx.settings, &base)?, ctx.clock, &ctx.health, metrics)?;
    let metrics = Arc::new(ApiMetrics::register(&ctx.registry)?);
    metrics.touch();
    let replayer = Replayer::new(&base, writer.clone(), indexer.index(), ctx.clock)?;
    let replaying = tokio::spawn(replayer.run(commands.leads(), ctx.shutdown.clone()));
    let egress = Arc::new(Client::new(&ctx.settings.egress)?);
    let caller = Caller::new(
        &base,
        Arc::clone(&egress),
        ctx.clock,
        ctx.settings.sender.user_agent(),
        ctx.settings.api.replicas,
        SyncMetrics::register(&ctx.registry)?,
    )?;
    let caller = Arc::new(caller);
    let parts = Parts {
        writer,
        index: indexer.index(),
        metrics: Arc::clone(&metrics),
        egress,
        caller: Arc::clone(&caller),
    };
    let router = router(&ctx, &base, parts)?
        .merge(beside)
        .layer(middleware::from_fn_with_state(metrics, metrics::counted));
    let requests = requests::start(&ctx, &base, &caller)?;
    health.ready();
    info!(address = %listener.local_addr()?, "serving the API");
    let limits = server::Limits { grace: ctx.settings.shutdown.grace, ..server::Limits::default() };
    let serving = server::serve(listener, router, ctx.shutdown.clone(), limits);
    let (carried, asked, ()) =
        tokio::join!(commands.run(ctx.shutdown.cancelled()), requests.run(ctx.shutdown.cancelled()), serving);
    caller.finish().await;
    replaying.await?;
    indexer.stop().await;
    carried.and(asked)
}

fn index_spec(settings: &Settings, base: &Base) -> Result<IndexSpec, ServiceError> {
    /// What is in it is hookstream's to drop.
    const SCHEMA: &str = "hookstream_history";
    let backend = match settings.history.place().map_err(|problem| problem.to_string())? {
        HistoryPlace::Sqlite(path) => Backend::Sqlite { path },
        HistoryPlace::Postgres(url) => {
            Backend::Postgres { url: url.expose().to_owned(), schema: SCHEMA.to_owned() }
        }
    };
    let retention = Retention {
        age: Some(settings.history.retention),
        rows: Some(settings.history.max_attempts),
        bytes: None,
    };
    let topics = [&base.topics.attempts, &base.topics.audit, &base.topics.events];
    let [attempts, audit, events] = topics.map(Arc::clone);
    Ok(IndexSpec { backend, kafka: base.kafka.clone(), attempts, audit, events, retention })
}

/// What the routes work with.
struct Parts {
    writer: ConfigWriter,
    index: Index,
    metrics: Arc<ApiMetrics>,
    egress: Arc<Client>,
    caller: Arc<Caller>,
}

fn router(ctx: &Ctx, base: &Base, parts: Parts) -> Result<Router, ServiceError> {
    let Parts { writer, index, metrics, egress, caller } = parts;
    let settings = &ctx.settings;
    let Base { kafka, topics, keyring, follower, partitions } = base;
    let clock = ctx.clock;
    let now: Clock = Arc::new(move || hookstream_types::Now {
        mono: clock.mono(),
        wall: clock.wall(),
        broker: clock.wall(),
    });
    let random: Random = Arc::new(|bytes: &mut [u8]| os_random(bytes));
    let configured = Configured(Arc::clone(follower));
    let api_settings = &settings.api;
    let tokens =
        AccessTokens::new(keyring.derive(TOKEN_KEYS), api_settings.url.clone(), api_settings.token_lifetime)?;
    let scopes = scope_map(api_settings)?;
    let admin = api_settings.read_admin_token().map_err(|problem| problem.to_string())?;
    let outside = Arc::new(Issuers(Arc::clone(&egress)));
    let keys: Arc<dyn Fetch> = Arc::<Issuers>::clone(&outside);
    let issuers = api_settings.issuers.iter().map(|settings| issuer(settings, &keys)).collect();
    let authenticator = Arc::new(Authenticator {
        tokens: tokens.clone(),
        clients: Arc::new(configured.clone()),
        accounts: Arc::new(configured.clone()),
        issuers,
        scopes: scopes.clone(),
        admin: admin.as_ref().map(AdminToken::new).transpose()?,
        clock: Arc::clone(&now),
    });
    let sign_in = api_settings.sign_in.as_ref();
    let provider = sign_in.map(|sign_in| provider(sign_in, &api_settings.url, &authenticator, outside));
    let cursor_keys: Vec<Secret> = keyring.derive(CURSOR_KEYS).into_iter().map(|(_, key)| key).collect();
    let executions = Arc::new(Executions::new(
        index,
        Fetcher::new(kafka)?,
        HistoryTopics {
            attempts: Arc::clone(&topics.attempts),
            events: Arc::clone(&topics.events),
            rejected: Arc::clone(&topics.rejected),
            partitions: *partitions,
            admin: Arc::new(Admin::new(kafka)?),
            backlog: Backlog::new(
                kafka,
                &topics.group("sender"),
                Arc::clone(&topics.deliveries),
                *partitions,
            )?,
        },
        Cursors::new(&cursor_keys),
        Arc::new(configured.clone()),
        Arc::new(move || clock.wall()),
    ));
    let per_second = NonZeroU32::new(api_settings.requests_per_second).unwrap_or(NonZeroU32::MIN);
    let session_keys: Vec<Secret> = keyring.derive(SESSION_KEYS).into_iter().map(|(_, key)| key).collect();
    let sessions = Arc::new(Sessions::new(&session_keys));
    let api = Arc::new(Api {
        follower: Arc::clone(follower),
        writer,
        egress,
        authenticator,
        executions,
        cursors: Cursors::new(&cursor_keys),
        clock,
        user_agent: settings.sender.user_agent().to_owned(),
        origin: origin(&api_settings.url),
        overlap: api_settings.secret_overlap,
        links: Links(Arc::clone(&sessions)),
        rates: Limits::new(Rate::per(per_second, std::time::Duration::from_secs(1)), RATES),
        url: api_settings.url.trim_end_matches('/').to_owned(),
        metrics: Arc::clone(&metrics),
        caller,
    });
    let token_endpoint =
        Arc::new(TokenEndpoint::new(Arc::new(configured.clone()), tokens, scopes, Arc::clone(&now), random));
    let console = console::router(Arc::new(Console::new(
        Arc::clone(&api),
        Arc::clone(&token_endpoint),
        sessions,
        provider.transpose()?,
        &api_settings.url,
        &api_settings.portal_origins,
        ctx.shutdown.clone(),
    )));
    let sink = Sink {
        appender: Appender::start(kafka)?,
        topic: Arc::clone(&topics.events),
        partitions: *partitions,
    };
    let events = Events::new(sink, configured, Arc::new(move || clock.wall()), EventLimits::default());
    let events = Arc::new(events).router().layer(middleware::from_fn(event_client));

    let history = history::router(Arc::clone(&api.executions), Arc::clone(&api.authenticator));
    let with_token = routes::resources()
        .with_state(Shared(Arc::clone(&api)))
        .merge(history)
        .merge(events)
        .layer(middleware::from_fn_with_state(api, guarded));
    let (routes, description) = OpenApiRouter::with_openapi(description::common(&api_settings.url))
        .merge(with_token)
        .merge(oauth::router(token_endpoint))
        .split_for_parts();
    let page = docs::page(&description);
    let description = Arc::new(serde_json::to_value(&description)?);
    // These two are not in the description: they are it.
    Ok(routes
        .route("/api/v1/openapi.json", get(move || async move { Json((*description).clone()) }))
        .route("/api/v1/docs", get(move || async move { page }))
        .merge(console)
        .fallback(|| async {
            Problem::not_found("there is nothing at this path: `/api/v1/docs` lists what there is")
        })
        .method_not_allowed_fallback(|| async {
            Problem::new(Kind::MethodNotAllowed, "this path has other methods: `/api/v1/docs` lists them")
        })
        .layer(middleware::from_fn(peer)))
}

/// The host of a URL, which the settings have checked.
fn origin(url: &str) -> String {
    let host = url.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
    host.unwrap_or_else(|| "localhost".to_owned())
}

fn scope_map(settings: &ApiSettings) -> Result<ScopeMap, ServiceError> {
    let mut rules = Vec::new();
    for rule in &settings.scopes {
        let grants = rule.grants.iter().map(|grant| grant.parse()).collect::<Result<_, _>>()?;
        let (scope, access_type) = (rule.scope.clone(), rule.access_type.clone());
        rules.push(ForeignScope { scope, access_type, grants });
    }
    Ok(ScopeMap::new(rules))
}

fn issuer(settings: &IssuerSettings, keys: &Arc<dyn Fetch>) -> (Issuer, Jwks) {
    let IssuerSettings { issuer, audience, jwks_url, account_claim, access_type_claim, unbound } =
        settings.clone();
    let mut trusted = Issuer::new(issuer, audience, jwks_url.clone());
    if let Some(claim) = account_claim {
        trusted.account_claim = claim;
    }
    if let Some(claim) = access_type_claim {
        trusted.access_type_claim = claim;
    }
    trusted.unbound = unbound;
    (trusted, Jwks::new(jwks_url, Arc::clone(keys)))
}

/// With whom people sign in to the console.
fn provider(
    settings: &SignInSettings,
    url: &str,
    authenticator: &Authenticator,
    outside: Arc<Issuers>,
) -> Result<Provider, ServiceError> {
    let problem = |key: &str, message: String| {
        hookstream_settings::Problem::new(format!("api.sign_in.{key}"), message).to_string()
    };
    outside.0.check(&settings.token_url).map_err(|refusal| problem("token_url", refusal.to_string()))?;
    let configured = ProviderSettings {
        name: settings.name.clone(),
        authorization_url: settings.authorization_url.parse()?,
        token_url: settings.token_url.clone(),
        client_id: settings.client_id.clone(),
        client_secret: settings.read_client_secret().map_err(|problem| problem.to_string())?,
        scopes: settings.scopes.clone(),
        grants: settings.grants.iter().map(|grant| grant.parse::<Scope>()).collect::<Result<_, _>>()?,
        lifetime: settings.lifetime,
        redirect_uri: format!("{}{CALLBACK}", url.trim_end_matches('/')),
    };
    let provider = Provider::new(&settings.issuer, configured, authenticator, outside);
    provider.ok_or_else(|| problem("issuer", "is none of `api.issuers`".to_owned()).into())
}

/// Authenticates once, for all that follows; who can't be is turned away by the handler, if that asks.
async fn guarded(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let now = (api.authenticator.clock)();
    if let Ok(principal) = api.authenticator.authenticate(request.headers(), now.wall).await {
        if let Err(limited) = api.take(&principal.client) {
            return limited.into_response();
        }
        request.extensions_mut().insert(principal);
    }
    next.run(request).await
}

/// Lets in who may write events.
async fn event_client(mut request: Request, next: Next) -> Response {
    if let Some(principal) = request.extensions().get::<Principal>() {
        if let Err(denied) = principal.require(Scope::EventsWrite) {
            return denied.into_response();
        }
        let client =
            events::Client { id: Arc::from(principal.client.as_str()), account: principal.bound.account() };
        request.extensions_mut().insert(client);
    }
    next.run(request).await
}

/// Who is at the other end, for the token endpoint's count of failures.
async fn peer(mut request: Request, next: Next) -> Response {
    if let Some(ConnectInfo(address)) = request.extensions().get::<ConnectInfo<SocketAddr>>() {
        let address: IpAddr = address.ip();
        request.extensions_mut().insert(Peer(address));
    }
    next.run(request).await
}
