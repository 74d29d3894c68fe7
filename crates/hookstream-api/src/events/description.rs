//! Events as they come in, for the description of the API: what is read is decided by
//! [`hookstream_core::ingest::decode_http`].

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{OpenApi, ToSchema};

/// The handler's description: the handler itself is generic, which `routes!` does not take.
#[derive(OpenApi)]
#[openapi(paths(super::handle))]
pub(super) struct Described;

/// An event as plain JSON. Of a source with a mapping it is read as that says; else it has a `type`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct PlainEvent {
    /// What makes it the same event when it is sent again; none: one is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// Its event type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schema(example = "order.created")]
    event_type: Option<String>,
    /// When it happened (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    /// Whose it is, by name or uid; none: the token's, else `default`'s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// Without it the whole document is the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
    /// Data, where there is no `data`.
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// A CloudEvent in the JSON event format (CloudEvents 1.0).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct CloudEvent {
    #[schema(example = "1.0")]
    specversion: String,
    id: String,
    source: String,
    #[serde(rename = "type")]
    #[schema(example = "order.created")]
    event_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    datacontenttype: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dataschema: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
    /// Data that is no JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    /// Extension attributes: `account` says whose it is.
    #[serde(flatten)]
    extensions: Map<String, Value>,
}
