//! Which webhooks an event concerns: those of its account that take part, whose source is none or the event's,
//! and that have a pattern for its type.
//!
//! Patterns are an exact type, `prefix.*` (everything below the prefix, at any depth, but not the prefix itself)
//! or `*`. Building the index drops a webhook's patterns that another of its patterns covers; what is left never
//! overlaps, so an event finds a webhook at most once, without looking for duplicates.
//!
//! What a webhook's [filter](crate::filter) says of an event is asked last. The event's data are read once for all of
//! them, and not at all where no filter is.

use std::cell::OnceCell;
use std::sync::Arc;

use hookstream_types::AccountUid;
use rustc_hash::FxHashMap;

use crate::config::{Webhook, WebhookState};
use crate::event::EventAttributes;
use crate::filter::{Facts, Filter};
use crate::shared_map::SharedMap;

/// From an event's account and type to the webhooks with a pattern for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Index {
    accounts: SharedMap<AccountUid, Arc<Buckets>>,
}

/// An account's. What did not change is shared with the index before.
#[derive(Clone, Debug, Default, PartialEq)]
struct Buckets {
    exact: FxHashMap<Arc<str>, Bucket>,
    /// By the prefix without its `.*`.
    below: FxHashMap<Arc<str>, Bucket>,
    all: Bucket,
}

/// In the order of ids, so that the same configuration always gives the same jobs in the same order.
type Bucket = Arc<Vec<Entry>>;

/// A webhook in a bucket.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    webhook: Arc<Webhook>,
}

impl Entry {
    fn accepts<'e>(&self, event: &EventAttributes, facts: impl FnOnce() -> &'e Facts<'e>) -> bool {
        let Webhook { source, filter, .. } = &*self.webhook;
        source.as_ref().is_none_or(|source| *source == event.source)
            && filter.as_ref().is_none_or(|filter| filter.matches(facts()))
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
            (Self::Below(mine), Self::Below(theirs)) => mine == theirs || after_dot(theirs, mine).is_some(),
            // The dot alone is nothing below.
            (Self::Below(mine), Self::Exact(theirs)) => {
                after_dot(theirs, mine).is_some_and(|rest| !rest.is_empty())
            }
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

/// What of `name` stands after `prefix` and a dot.
fn after_dot<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    name.strip_prefix(prefix)?.strip_prefix('.')
}

/// Whether a webhook in this state is matched (design §3).
#[must_use]
pub fn is_matched(state: WebhookState) -> bool {
    match state {
        WebhookState::Published | WebhookState::Paused => true,
        WebhookState::Draft | WebhookState::Unpublished | WebhookState::Disabled => false,
    }
}

/// What of a webhook decides which events concern it.
#[derive(Clone, Copy, Debug)]
pub struct Interest<'a> {
    pub account: AccountUid,
    pub state: WebhookState,
    pub source: Option<&'a str>,
    pub event_types: &'a [String],
    pub filter: Option<&'a Filter>,
}

impl<'a> From<&'a Webhook> for Interest<'a> {
    fn from(webhook: &'a Webhook) -> Self {
        let Webhook { account, state, source, event_types, filter, .. } = webhook;
        Self {
            account: *account,
            state: *state,
            source: source.as_deref(),
            event_types,
            filter: filter.as_deref(),
        }
    }
}

/// Why an event does not concern a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// The event is of another account.
    Account,
    /// The webhook takes no part now.
    State(WebhookState),
    /// The event came through another source.
    Source,
    /// None of the patterns is for the event's type.
    EventType,
    /// These fields of the filter are not satisfied, as JSON pointers; none: not by one element of an array.
    Filter(Vec<String>),
}

impl Interest<'_> {
    /// All that keeps an event from concerning the webhook; nothing: it does, and [`Index::matches`] finds it.
    #[must_use]
    pub fn mismatches(&self, event: &EventAttributes, data: &[u8]) -> Vec<Mismatch> {
        let mut all = Vec::new();
        if self.account != event.account {
            all.push(Mismatch::Account);
        }
        if !is_matched(self.state) {
            all.push(Mismatch::State(self.state));
        }
        if self.source.is_some_and(|source| source != event.source) {
            all.push(Mismatch::Source);
        }
        if !self.event_types.iter().any(|pattern| pattern_matches(pattern, &event.event_type)) {
            all.push(Mismatch::EventType);
        }
        if let Some(filter) = self.filter {
            let facts = Facts::of(event, data);
            if !filter.matches(&facts) {
                all.push(Mismatch::Filter(filter.mismatches(&facts)));
            }
        }
        all
    }
}

impl Buckets {
    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.below.is_empty() && self.all.is_empty()
    }

    /// Changes the buckets that a webhook belongs into; empty ones go away.
    fn change(&mut self, webhook: &Webhook, mut change: impl FnMut(&mut Vec<Entry>)) {
        for pattern in uncovered(&webhook.event_types) {
            let (map, name) = match pattern {
                Pattern::All => {
                    change(Arc::make_mut(&mut self.all));
                    continue;
                }
                Pattern::Below(prefix) => (&mut self.below, prefix),
                Pattern::Exact(name) => (&mut self.exact, name),
            };
            if let Some(bucket) = map.get_mut(name) {
                change(Arc::make_mut(bucket));
                if bucket.is_empty() {
                    map.remove(name);
                }
            } else {
                let mut bucket = Vec::new();
                change(&mut bucket);
                if !bucket.is_empty() {
                    map.insert(name.into(), Arc::new(bucket));
                }
            }
        }
    }
}

/// A webhook's patterns without those that another covers.
fn uncovered(event_types: &[String]) -> Vec<Pattern<'_>> {
    let patterns: Vec<_> = event_types.iter().map(|text| Pattern::of(text)).collect();
    let covered = |i: usize, pattern: Pattern<'_>| {
        patterns.iter().enumerate().any(|(j, other)| {
            // Of two equal patterns the first stays.
            i != j && other.covers(pattern) && (j < i || !pattern.covers(*other))
        })
    };
    let kept = patterns.iter().enumerate().filter(|(i, pattern)| !covered(*i, **pattern));
    kept.map(|(_, pattern)| *pattern).collect()
}

impl Index {
    /// Of many webhooks at once; those that take no part are left out.
    #[must_use]
    pub fn build<'a>(webhooks: impl IntoIterator<Item = &'a Arc<Webhook>>) -> Self {
        let mut webhooks: Vec<_> = webhooks.into_iter().filter(|webhook| is_matched(webhook.state)).collect();
        // So each bucket is in order, and nothing is inserted before its end.
        webhooks.sort_unstable_by_key(|webhook| webhook.id);
        let mut accounts: FxHashMap<AccountUid, Buckets> = FxHashMap::default();
        for webhook in webhooks {
            let buckets = accounts.entry(webhook.account).or_default();
            buckets.change(webhook, |bucket| bucket.push(Entry { webhook: Arc::clone(webhook) }));
        }
        let accounts = accounts.into_iter().map(|(uid, buckets)| (uid, Arc::new(buckets)));
        Self { accounts: accounts.filter(|(_, buckets)| !buckets.is_empty()).collect() }
    }

    /// Adds a webhook that is not there yet, if it takes part.
    pub fn insert(&mut self, webhook: &Arc<Webhook>) {
        self.change(webhook, |bucket| {
            let at = bucket.partition_point(|entry| entry.webhook.id < webhook.id);
            bucket.insert(at, Entry { webhook: Arc::clone(webhook) });
        });
    }

    /// Takes a webhook out that was put in as it is here.
    pub fn remove(&mut self, webhook: &Webhook) {
        self.change(webhook, |bucket| {
            if let Ok(at) = bucket.binary_search_by_key(&webhook.id, |entry| entry.webhook.id) {
                bucket.remove(at);
            }
        });
    }

    fn change(&mut self, webhook: &Webhook, change: impl FnMut(&mut Vec<Entry>)) {
        if !is_matched(webhook.state) {
            return;
        }
        let mut buckets = self.accounts.remove(&webhook.account).unwrap_or_default();
        Arc::make_mut(&mut buckets).change(webhook, change);
        if !buckets.is_empty() {
            self.accounts.insert(webhook.account, buckets);
        }
    }

    /// Hands each webhook that `event` with these data concerns to `sink`, once.
    pub fn matches<'a>(
        &'a self,
        event: &EventAttributes,
        data: &[u8],
        mut sink: impl FnMut(&'a Arc<Webhook>),
    ) {
        let Some(buckets) = self.accounts.get(&event.account) else { return };
        let facts = OnceCell::new();
        let facts = || facts.get_or_init(|| Facts::of(event, data));
        let mut visit = |bucket: Option<&'a Bucket>| {
            for entry in bucket
                .into_iter()
                .flat_map(|bucket| bucket.iter())
                .filter(|entry| entry.accepts(event, facts))
            {
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
    use serde_json::json;
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
        index.matches(event, b"", |webhook| found.push(webhook.id.0.as_u128()));
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
        // Odd, but not forbidden: empty parts.
        check("order.", &["order."], &["order", "order.paid"]);
        check("order..*", &["order..paid"], &["order.", "order..", "order.paid"]);
        // Not a pattern, but an exact name.
        check("order*", &["order*"], &["order.paid", "orders"]);
    }

    #[test]
    fn filters_are_asked_last_and_see_the_data() {
        let filtered = |id, pattern| Webhook {
            filter: Filter::compile(&Arc::new(pattern)).ok().map(Arc::new),
            ..webhook(id, &["*"])
        };
        let webhooks = [
            filtered(1, json!({ "data": { "country": ["NO"] } })),
            filtered(2, json!({ "data": { "country": [{ "anything-but": "NO" }] } })),
            filtered(3, json!({ "type": [{ "prefix": "order." }] })),
            webhook(4, &["*"]),
        ]
        .map(Arc::new);
        let index = Index::build(&webhooks);
        let found = |data: &[u8]| {
            let mut found = Vec::new();
            index.matches(&event("order.paid"), data, |webhook| found.push(webhook.id.0.as_u128()));
            for webhook in &webhooks {
                let mismatches = Interest::from(&**webhook).mismatches(&event("order.paid"), data);
                assert_eq!(mismatches.is_empty(), found.contains(&webhook.id.0.as_u128()));
            }
            found
        };
        assert_eq!(found(br#"{"country":"NO"}"#), [1, 3, 4]);
        assert_eq!(found(br#"{"country":"SE"}"#), [2, 3, 4]);
        assert_eq!(found(b"no json"), [3, 4]);
        let why = Interest::from(&*webhooks[0]).mismatches(&event("order.paid"), b"{}");
        assert_eq!(why, [Mismatch::Filter(vec!["/data/country".into()])]);
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
        /// What is said about a webhook and an event is what the index does.
        #[test]
        fn what_is_explained_is_what_is_matched(
            account in 1u128..3,
            state in 0usize..5,
            source in proptest::option::of("orders|billing"),
            patterns in proptest::collection::vec("(a|b|a\\.b)(\\.{1,2}\\*?)?|\\*|a\\*", 0..4),
            event_type in "(a|b)(\\.{1,2}(a|b)){0,2}\\.{0,2}",
        ) {
            use WebhookState::{Disabled, Draft, Paused, Published, Unpublished};
            let state = [Draft, Published, Unpublished, Paused, Disabled][state];
            let account = AccountUid(Uuid::from_u128(account));
            let webhook = Webhook { account, state, source, event_types: patterns, ..webhook(1, &[]) };
            let event = event(&event_type);
            let Webhook { source, event_types, .. } = &webhook;
            let interest = Interest { account, state, source: source.as_deref(), event_types, filter: None };
            let mismatches = interest.mismatches(&event, b"");
            prop_assert_eq!(mismatches.is_empty(), matched(vec![webhook], &event) == [1], "{:?}", mismatches);
        }

        /// Whatever is put in and taken out, one by one: the index is the one that is built at once.
        #[test]
        fn changed_is_as_built(
            steps in proptest::collection::vec(
                (0u128..12, 1u128..4, any::<bool>(), proptest::collection::vec("(a|b|a\\.b)(\\.\\*)?|\\*", 0..4), any::<bool>()),
                0..60,
            ),
        ) {
            let mut webhooks = std::collections::BTreeMap::new();
            let mut index = Index::default();
            for (id, account, is_there, patterns, takes_part) in steps {
                let state = if takes_part { WebhookState::Published } else { WebhookState::Draft };
                let patterns: Vec<_> = patterns.iter().map(String::as_str).collect();
                let account = AccountUid(Uuid::from_u128(account));
                let before = index.clone();
                let built_before = Index::build(webhooks.values());
                let new = is_there.then(|| Arc::new(Webhook { account, state, ..webhook(id, &patterns) }));
                let old = match &new {
                    Some(new) => webhooks.insert(id, Arc::clone(new)),
                    None => webhooks.remove(&id),
                };
                if let Some(old) = old {
                    index.remove(&old);
                }
                if let Some(new) = new {
                    index.insert(&new);
                }
                prop_assert_eq!(&index, &Index::build(webhooks.values()));
                prop_assert_eq!(before, built_before, "copies stay as they were");
            }
        }

        /// The index finds what asking each pattern of each webhook finds.
        #[test]
        fn agrees_with_asking_everyone(
            lists in proptest::collection::vec(proptest::collection::vec("(a|b|a\\.b|a\\.b\\.c|b\\.a)(\\.{1,2}\\*?)?|\\*", 1..4), 1..6),
            name in "(a|b)(\\.{1,2}(a|b|c)){0,3}\\.{0,2}",
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
