//! Which webhooks an event concerns: those of its account that take part, whose source is none or the event's,
//! and that have a pattern for its type.
//!
//! Patterns are an exact type, `prefix.*` (everything below the prefix, at any depth, but not the prefix itself)
//! or `*`. Building the index drops a webhook's patterns that another of its patterns covers; what is left never
//! overlaps, so an event finds a webhook at most once, without looking for duplicates.
//!
//! Content filters belong into [`Entry`]: they are asked after the source is.

use std::sync::Arc;

use hookstream_types::AccountUid;
use rustc_hash::FxHashMap;

use crate::config::{Webhook, WebhookState};
use crate::event::EventAttributes;

/// From an event's account and type to the webhooks with a pattern for it.
#[derive(Clone, Debug, Default)]
pub struct Index {
    accounts: FxHashMap<AccountUid, Buckets>,
}

#[derive(Clone, Debug, Default)]
struct Buckets {
    exact: FxHashMap<Box<str>, Vec<Entry>>,
    /// By the prefix without its `.*`.
    below: FxHashMap<Box<str>, Vec<Entry>>,
    all: Vec<Entry>,
}

/// A webhook in a bucket.
#[derive(Clone, Debug)]
struct Entry {
    webhook: Arc<Webhook>,
}

impl Entry {
    fn accepts(&self, event: &EventAttributes) -> bool {
        self.webhook.source.as_ref().is_none_or(|source| *source == event.source)
    }
}

/// A pattern for event types, taken apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pattern<'a> {
    All,
    Below(&'a str),
    Exact(&'a str),
}

impl<'a> Pattern<'a> {
    fn of(text: &'a str) -> Self {
        match text.strip_suffix('*') {
            Some("") => Self::All,
            Some(prefix) => prefix.strip_suffix('.').map_or(Self::Exact(text), Self::Below),
            None => Self::Exact(text),
        }
    }

    /// Whether all that `other` matches is matched by this.
    fn covers(self, other: Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (Self::Below(mine), Self::Below(theirs)) => mine == theirs || is_below(theirs, mine),
            (Self::Below(mine), Self::Exact(theirs)) => is_below(theirs, mine),
            (Self::Exact(mine), Self::Exact(theirs)) => mine == theirs,
            (Self::Below(_), Self::All) | (Self::Exact(_), Self::All | Self::Below(_)) => false,
        }
    }
}

/// Whether a webhook's pattern is for this event type.
#[must_use]
pub fn pattern_matches(pattern: &str, event_type: &str) -> bool {
    Pattern::of(pattern).covers(Pattern::Exact(event_type))
}

fn is_below(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'))
}

/// Whether a webhook in this state is matched (design §3).
#[must_use]
pub fn is_matched(state: WebhookState) -> bool {
    match state {
        WebhookState::Published | WebhookState::Paused => true,
        WebhookState::Draft | WebhookState::Unpublished | WebhookState::Disabled => false,
    }
}

impl Index {
    #[must_use]
    pub fn build<'a>(webhooks: impl IntoIterator<Item = &'a Arc<Webhook>>) -> Self {
        let mut index = Self::default();
        for webhook in webhooks {
            if is_matched(webhook.state) {
                index.insert(webhook);
            }
        }
        index.sort();
        index
    }

    fn insert(&mut self, webhook: &Arc<Webhook>) {
        let patterns: Vec<_> = webhook.event_types.iter().map(|text| Pattern::of(text)).collect();
        let buckets = self.accounts.entry(webhook.account).or_default();
        for (i, pattern) in patterns.iter().enumerate() {
            let covered = patterns.iter().enumerate().any(|(j, other)| {
                // Of two equal patterns the first stays.
                i != j && other.covers(*pattern) && (j < i || !pattern.covers(*other))
            });
            if covered {
                continue;
            }
            let bucket = match *pattern {
                Pattern::All => &mut buckets.all,
                Pattern::Below(prefix) => buckets.below.entry(prefix.into()).or_default(),
                Pattern::Exact(name) => buckets.exact.entry(name.into()).or_default(),
            };
            bucket.push(Entry { webhook: Arc::clone(webhook) });
        }
    }

    /// Puts each bucket into the order of ids, so that the same configuration always gives the same jobs in the
    /// same order.
    fn sort(&mut self) {
        for buckets in self.accounts.values_mut() {
            let keyed = buckets.exact.values_mut().chain(buckets.below.values_mut());
            for bucket in keyed.chain([&mut buckets.all]) {
                bucket.sort_unstable_by_key(|entry| entry.webhook.id);
            }
        }
    }

    /// Hands each webhook that `event` concerns to `sink`, once.
    pub fn matches<'a>(&'a self, event: &EventAttributes, mut sink: impl FnMut(&'a Arc<Webhook>)) {
        let Some(buckets) = self.accounts.get(&event.account) else { return };
        let mut visit = |bucket: Option<&'a Vec<Entry>>| {
            for entry in bucket.into_iter().flatten().filter(|entry| entry.accepts(event)) {
                sink(&entry.webhook);
            }
        };
        let name = event.event_type.as_str();
        visit(buckets.exact.get(name));
        if !buckets.below.is_empty() {
            for (dot, _) in name.match_indices('.').filter(|(dot, _)| dot + 1 < name.len()) {
                visit(buckets.below.get(&name[..dot]));
            }
        }
        visit(Some(&buckets.all));
    }
}

#[cfg(test)]
mod tests {
    use hookstream_types::{EventId, UnixMillis, WebhookId};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const ACME: AccountUid = AccountUid(Uuid::from_u128(1));

    fn webhook(id: u128, patterns: &[&str]) -> Webhook {
        Webhook {
            id: WebhookId(Uuid::from_u128(id)),
            account: ACME,
            name: format!("w{id}"),
            state: WebhookState::Published,
            event_types: patterns.iter().map(|text| (*text).to_owned()).collect(),
            url: "https://example.com/".into(),
            revision: 1,
            ..Webhook::default()
        }
    }

    fn event(event_type: &str) -> EventAttributes {
        EventAttributes {
            event: EventId(Uuid::nil()),
            account: ACME,
            source: "orders".into(),
            id: "1".into(),
            ce_source: "s".into(),
            event_type: event_type.into(),
            subject: None,
            time: "2026-01-01T00:00:00Z".into(),
            content_type: None,
            extensions: Vec::new(),
            produced_at: UnixMillis(0),
        }
    }

    fn matched(webhooks: Vec<Webhook>, event: &EventAttributes) -> Vec<u128> {
        let webhooks: Vec<_> = webhooks.into_iter().map(Arc::new).collect();
        let index = Index::build(&webhooks);
        let mut found = Vec::new();
        index.matches(event, |webhook| found.push(webhook.id.0.as_u128()));
        found.sort_unstable();
        found
    }

    #[track_caller]
    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        for name in yes {
            assert_eq!(matched(vec![webhook(1, &[pattern])], &event(name)), [1], "{pattern} {name}");
        }
        for name in no {
            assert!(matched(vec![webhook(1, &[pattern])], &event(name)).is_empty(), "{pattern} {name}");
        }
    }

    #[test]
    fn patterns() {
        check("order.paid", &["order.paid"], &["order.paid.x", "order", "Order.paid"]);
        check(
            "order.*",
            &["order.paid", "order.line.added"],
            &["order", "orders.paid", "order.", "my.order.paid"],
        );
        check("order.line.*", &["order.line.added"], &["order.paid", "order.line"]);
        check("*", &["order.paid", "x"], &[]);
        // Not a pattern, but an exact name.
        check("order*", &["order*"], &["order.paid", "orders"]);
    }

    #[test]
    fn states() {
        for (state, expected) in [
            (WebhookState::Published, true),
            (WebhookState::Paused, true),
            (WebhookState::Draft, false),
            (WebhookState::Unpublished, false),
            (WebhookState::Disabled, false),
        ] {
            let found = matched(vec![Webhook { state, ..webhook(1, &["*"]) }], &event("a"));
            assert_eq!(!found.is_empty(), expected, "{state:?}");
        }
    }

    #[test]
    fn source_and_account() {
        let of = |source: &str| Webhook { source: Some(source.into()), ..webhook(1, &["*"]) };
        assert_eq!(matched(vec![of("orders")], &event("a")), [1]);
        assert!(matched(vec![of("billing")], &event("a")).is_empty());
        let other = Webhook { account: AccountUid(Uuid::from_u128(2)), ..webhook(1, &["*"]) };
        assert!(matched(vec![other], &event("a")).is_empty());
    }

    #[test]
    fn several_patterns_are_one_match() {
        for patterns in [
            &["order.paid", "order.*", "*"] as &[&str],
            &["order.paid", "order.paid"],
            &["order.*", "order.*", "order.paid"],
            &["order.*", "order.line.*"],
        ] {
            let name = if patterns.contains(&"order.line.*") { "order.line.x" } else { "order.paid" };
            assert_eq!(
                matched(vec![webhook(1, patterns), webhook(2, &["z"])], &event(name)),
                [1],
                "{patterns:?}"
            );
        }
    }

    proptest! {
        /// The index finds what asking each pattern of each webhook finds.
        #[test]
        fn agrees_with_asking_everyone(
            lists in proptest::collection::vec(proptest::collection::vec("(a|b|a\\.b|a\\.b\\.c|b\\.a)(\\.\\*)?|\\*", 1..4), 1..6),
            name in "(a|b)(\\.(a|b|c)){0,3}\\.?",
        ) {
            let webhooks: Vec<_> = (1u128..)
                .zip(&lists)
                .map(|(id, list)| webhook(id, &list.iter().map(String::as_str).collect::<Vec<_>>()))
                .collect();
            let simple = |pattern: &str| match pattern.strip_suffix(".*") {
                Some(prefix) => name.len() > prefix.len() + 1 && name.starts_with(&format!("{prefix}.")),
                None => pattern == "*" || pattern == name,
            };
            let expected: Vec<_> = (1u128..)
                .zip(&lists)
                .filter(|(_, list)| list.iter().any(|pattern| simple(pattern)))
                .map(|(id, _)| id)
                .collect();
            prop_assert_eq!(matched(webhooks, &event(&name)), expected);
        }
    }
}
