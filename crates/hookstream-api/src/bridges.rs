//! The configuration and Kafka, as the parts of the API want them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hookstream_config::Follower;
use hookstream_core::config::View;
use hookstream_core::event::Event;
use hookstream_core::exchange::{Method, Request};
use hookstream_egress::Client;
use hookstream_log::OutRecord;
use hookstream_log::appender::{Appender, NotAppended};
use hookstream_types::{AccountUid, AppId, ClientId, WebhookId, partition_for};
use hookstream_wire::event;
use uuid::Uuid;

use crate::access::Bound;
use crate::access::authenticate::Accounts;
use crate::access::client::{ClientRecord, ClientSecret, Clients};
use crate::access::jwks::{Fetch, Fetching};
use crate::access::oidc::{Ask, Asking};
use crate::events::{Catalogue, Declared, EventSink, SinkError};
use crate::history::Owner;

/// Deadline of a request to an issuer.
const FETCH_DEADLINE: Duration = Duration::from_secs(10);

/// Registered clients, accounts and event types, as this replica has read them.
#[derive(Clone, Debug)]
pub(crate) struct Configured(pub Arc<Follower>);

impl Clients for Configured {
    fn client(&self, id: &str) -> Option<ClientRecord> {
        let id = ClientId(Uuid::try_parse(id).ok()?);
        let record = self.0.look(|state| state.client(id).cloned())?;
        let bound = match (record.account, record.app) {
            (None, _) => Bound::Everything,
            (Some(account), None) => Bound::Account(account),
            (Some(account), Some(app)) => Bound::App { account, app },
        };
        let secret = |hashed: &hookstream_wire::config::HashedSecret| {
            Some(ClientSecret { hash: hashed.hash.parse().ok()?, until: hashed.until })
        };
        Some(ClientRecord {
            id: record.id.to_string(),
            secrets: record.secrets.iter().filter_map(secret).collect(),
            scopes: record.scopes,
            access_type: record.access_type,
            bound,
            enabled: !record.disabled,
        })
    }
}

impl Accounts for Configured {
    fn account(&self, name: &str) -> Option<AccountUid> {
        self.0.look(|state| state.account_by_name(name).map(|record| record.account.uid))
    }
}

impl Owner for Configured {
    fn app_of(&self, webhook: WebhookId) -> Option<(AccountUid, Option<AppId>)> {
        self.0.look(|state| state.webhook(webhook).map(|record| (record.account, record.app)))
    }
}

impl Catalogue for Configured {
    fn view(&self) -> Arc<View> {
        self.0.view()
    }

    fn schema(&self, view: &View, event_type: &str) -> Option<Declared> {
        let known = view.event_types.get(event_type)?;
        let schema = Arc::new(known.schema.clone()?);
        Some(Declared { revision: known.meta.revision, schema })
    }
}

/// `hookstream.events`.
#[derive(Debug)]
pub(crate) struct Sink {
    pub appender: Appender,
    pub topic: Arc<str>,
    pub partitions: i32,
}

impl EventSink for Sink {
    async fn append(&self, events: Vec<Event>) -> Result<(), SinkError> {
        struct Encoded {
            key: String,
            headers: Vec<(String, Vec<u8>)>,
        }
        let encoded: Vec<Encoded> = events
            .iter()
            .map(|event| Encoded {
                key: event.attributes.key(),
                headers: event::encode(&event.attributes, event.config, |headers| {
                    headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect()
                }),
            })
            .collect();
        let headers: Vec<Vec<(&str, &[u8])>> = encoded
            .iter()
            .map(|event| {
                event.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect()
            })
            .collect();
        let records: Vec<OutRecord<'_>> = events
            .iter()
            .zip(encoded.iter().zip(&headers))
            .map(|(event, (encoded, headers))| OutRecord {
                topic: &self.topic,
                partition: partition_for(encoded.key.as_bytes(), self.partitions),
                key: Some(encoded.key.as_bytes()),
                value: Some(&event.data),
                headers,
            })
            .collect();
        self.appender.append(&records).await.map_err(|error| match error {
            NotAppended::Refused { reason } => SinkError::NotWritten { reason },
            NotAppended::Unknown { reason } => SinkError::Unknown { reason },
        })
    }
}

/// Issuers, through the way out that all requests take.
#[derive(Debug)]
pub(crate) struct Issuers(pub Arc<Client>);

impl Issuers {
    async fn exchange(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<(u16, Bytes), String> {
        let headers = [("accept", "application/json")].iter().chain(headers);
        let request = Request {
            account: AccountUid(Uuid::nil()),
            method,
            url: Arc::from(url),
            headers: headers.map(|(name, value)| (Arc::from(*name), Arc::from(*value))).collect(),
            body,
            deadline: FETCH_DEADLINE,
            tls: None,
            token: None,
        };
        match self.0.exchange(&request).await.result {
            Ok(response) if response.truncated => Err("the answer is too long".to_owned()),
            Ok(response) => Ok((response.status, response.body)),
            Err(failure) => Err(failure.message),
        }
    }
}

impl Fetch for Issuers {
    fn fetch<'a>(&'a self, url: &'a str) -> Fetching<'a> {
        Box::pin(async move {
            match self.exchange(Method::Get, url, &[], Bytes::new()).await? {
                (200, body) => Ok(body),
                (status, _) => Err(format!("the issuer answered {status}")),
            }
        })
    }
}

impl Ask for Issuers {
    fn ask<'a>(&'a self, url: &'a str, authorization: Option<&'a str>, form: String) -> Asking<'a> {
        Box::pin(async move {
            let mut headers = vec![("content-type", "application/x-www-form-urlencoded")];
            headers.extend(authorization.map(|value| ("authorization", value)));
            self.exchange(Method::Post, url, &headers, Bytes::from(form)).await
        })
    }
}
