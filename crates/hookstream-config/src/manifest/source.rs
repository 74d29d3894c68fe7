//! Reading sources.

use hookstream_core::config::{DebeziumMapping, DeliveryMode, Format, Mapping, Pick};

use super::MAX_LIST;
use super::fields::Node;
use crate::change::SourceSpec;
use crate::checks;

pub(super) fn read(node: &Node<'_>) -> Option<SourceSpec> {
    node.only(&["name", "topics", "format", "strict", "delivery", "replyTopics"])?;
    let name = node.required("name").and_then(|node| node.text(checks::identifier));
    let topics = node.required("topics").and_then(|node| node.texts(1, MAX_LIST, checks::topic));
    let format = node.required("format").and_then(|node| read_format(&node));
    let strict = node.get("strict").map_or(Some(false), |node| node.boolean());
    let delivery = node.optional("delivery", super::resources::delivery);
    let replies = node.optional("replyTopics", |node| node.texts(0, MAX_LIST, checks::topic));
    let (delivery, reply_topics) = (delivery?.unwrap_or_default(), replies?.unwrap_or_default());
    let (name, topics, format, strict) = (name?, topics?, format?, strict?);
    match (delivery, reply_topics.is_empty()) {
        (DeliveryMode::Sync, true) => {
            node.problem("a sync source needs `replyTopics`: its records are answered there")
        }
        (DeliveryMode::Async, false) => node.problem("`replyTopics` is for a source with `delivery: sync`"),
        _ => Some(SourceSpec { name, topics, format, strict, delivery, reply_topics }),
    }
}

fn read_format(node: &Node<'_>) -> Option<Format> {
    let kind = if node.is_text() { node.clone() } else { node.required("type")? };
    let kind = kind.choice(&[("cloudevents", 0), ("json", 1), ("debezium", 2), ("auto", 3)])?;
    match kind {
        0 => {
            node.only_if_map(&["type", "account"])?;
            let account = node.optional("account", |node| node.text(checks::identifier))?;
            let account = account.unwrap_or_else(|| "account".to_owned());
            Some(Format::Cloudevents { account })
        }
        1 => {
            node.only_if_map(&["type", "mapping"])?;
            let mapping = node.required("mapping")?;
            mapping.only(&["id", "type", "time", "account", "subject", "data"])?;
            let event_type = mapping.required("type").and_then(|node| read_pick(&node));
            let data = mapping.get("data").map(|node| node.text(checks::pointer));
            let mapping = Mapping {
                id: optional_pick(&mapping, "id")?,
                event_type: event_type?,
                time: optional_pick(&mapping, "time")?,
                account: optional_pick(&mapping, "account")?,
                subject: optional_pick(&mapping, "subject")?,
                data: data.map_or(Some(None), |data| data.map(Some))?,
            };
            Some(Format::Json { mapping })
        }
        2 => {
            node.only_if_map(&["type", "mapping"])?;
            let Some(mapping) = node.get("mapping") else {
                return Some(Format::Debezium {
                    mapping: DebeziumMapping { entity: None, account: None, subject: None },
                });
            };
            mapping.only(&["entity", "account", "subject"])?;
            let entity = mapping.get("entity").map(|node| node.text(checks::identifier));
            let mapping = DebeziumMapping {
                entity: entity.map_or(Some(None), |entity| entity.map(Some))?,
                account: optional_pick(&mapping, "account")?,
                subject: optional_pick(&mapping, "subject")?,
            };
            Some(Format::Debezium { mapping })
        }
        _ => {
            node.only_if_map(&["type"])?;
            Some(Format::Auto)
        }
    }
}

/// The outer none: a problem was found.
fn optional_pick(node: &Node<'_>, field: &str) -> Option<Option<Pick>> {
    node.get(field).map_or(Some(None), |node| read_pick(&node).map(Some))
}

/// `/a/pointer`, `{pointer: /a}` or `{constant: text}`.
fn read_pick(node: &Node<'_>) -> Option<Pick> {
    if node.is_text() {
        return node.text(checks::pointer).map(Pick::Pointer);
    }
    node.only(&["pointer", "constant"])?;
    match (node.get("pointer"), node.get("constant")) {
        (Some(pointer), None) => pointer.text(checks::pointer).map(Pick::Pointer),
        (None, Some(constant)) => constant.text(checks::name).map(Pick::Constant),
        _ => node.problem("must be a JSON pointer such as `/order/id`, or `{constant: TEXT}`"),
    }
}
