//! Which source a topic belongs to.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;

use crate::config::{DeliveryMode, Source};

/// From topics to sources: exact names first, then patterns.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    exact: BTreeMap<String, Arc<Source>>,
    patterns: Vec<(Regex, Arc<Source>)>,
    topics: Vec<String>,
}

/// Why a source does not get a topic that it names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicProblem {
    #[error(
        "the topic `{topic}` belongs to the sources `{first}` and `{second}`: `{first}` gets it; remove it from one of them"
    )]
    Shared { topic: String, first: String, second: String },
    #[error("the topic pattern `{pattern}` of the source `{name}` is not a regular expression: mend it")]
    Pattern { pattern: String, name: String },
    #[error(
        "the topic pattern `{pattern}` of the source `{name}` does not end in `$`: patterns are anchored at both ends"
    )]
    Unanchored { pattern: String, name: String },
}

impl Routes {
    /// The routes of all sources of events or of calls, and what is wrong with them. Sources are taken in the order of
    /// their names.
    #[must_use]
    pub fn build<'a>(
        sources: impl IntoIterator<Item = &'a Arc<Source>>,
        delivery: DeliveryMode,
    ) -> (Self, Vec<TopicProblem>) {
        let mut routes = Self::default();
        let mut problems = Vec::new();
        for source in sources.into_iter().filter(|source| source.delivery == delivery) {
            for topic in &source.topics {
                if topic.starts_with('^') {
                    if !topic.ends_with('$') {
                        problems.push(TopicProblem::Unanchored {
                            pattern: topic.clone(),
                            name: source.name.clone(),
                        });
                        continue;
                    }
                    match Regex::new(topic) {
                        Ok(regex) => routes.patterns.push((regex, Arc::clone(source))),
                        Err(_) => {
                            problems.push(TopicProblem::Pattern {
                                pattern: topic.clone(),
                                name: source.name.clone(),
                            });
                            continue;
                        }
                    }
                } else if let Some(first) = routes.exact.get(topic) {
                    let (first, second) = (first.name.clone(), source.name.clone());
                    problems.push(TopicProblem::Shared { topic: topic.clone(), first, second });
                    continue;
                } else {
                    routes.exact.insert(topic.clone(), Arc::clone(source));
                }
                routes.topics.push(topic.clone());
            }
        }
        routes.topics.sort();
        routes.topics.dedup();
        (routes, problems)
    }

    /// What to subscribe to: names and patterns.
    #[must_use]
    pub fn topics(&self) -> &[String] {
        &self.topics
    }

    /// Topics that are named and not described by a pattern, each with its source.
    pub fn named(&self) -> impl Iterator<Item = (&str, &Arc<Source>)> {
        self.exact.iter().map(|(topic, source)| (topic.as_str(), source))
    }

    /// The source that `topic` belongs to.
    #[must_use]
    pub fn source(&self, topic: &str) -> Option<&Arc<Source>> {
        let by_pattern =
            || self.patterns.iter().find(|(regex, _)| regex.is_match(topic)).map(|(_, source)| source);
        self.exact.get(topic).or_else(by_pattern)
    }

    /// A second source that would get `topic` if the first one did not.
    #[must_use]
    pub fn conflict(&self, topic: &str) -> Option<TopicProblem> {
        let first = self.source(topic)?;
        let by_pattern =
            self.patterns.iter().filter(|(regex, _)| regex.is_match(topic)).map(|(_, source)| source);
        let second = by_pattern.chain(self.exact.get(topic)).find(|other| other.name != first.name)?;
        let (first, second) = (first.name.clone(), second.name.clone());
        Some(TopicProblem::Shared { topic: topic.to_owned(), first, second })
    }
}

#[cfg(test)]
mod tests {
    use hookstream_types::UnixMillis;

    use super::*;
    use crate::config::Meta;

    fn source(name: &str, topics: &[&str]) -> Arc<Source> {
        Arc::new(Source {
            name: name.into(),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            meta: Meta {
                revision: 1,
                created_at: UnixMillis(0),
                updated_at: UnixMillis(0),
                actor: "test".into(),
                request: None,
            },
            ..Source::default()
        })
    }

    #[test]
    fn names_come_before_patterns() {
        let (routes, problems) = Routes::build(
            &[source("all", &["^orders\\..*$"]), source("eu", &["orders.eu"])],
            DeliveryMode::Async,
        );
        assert!(problems.is_empty());
        let name = |topic| routes.source(topic).map(|source| source.name.as_str());
        assert_eq!(name("orders.eu"), Some("eu"));
        assert_eq!(name("orders.us"), Some("all"));
        assert_eq!(name("my.orders.us"), None);
        assert_eq!(routes.topics(), ["^orders\\..*$", "orders.eu"]);
        assert!(routes.conflict("orders.eu").unwrap().to_string().contains("`eu` and `all`"));
        assert!(routes.conflict("orders.us").is_none());
    }

    #[test]
    fn problems_are_named() {
        let (routes, problems) = Routes::build(
            &[source("a", &["t", "^x"]), source("b", &["t", "^(x$", "u"])],
            DeliveryMode::Async,
        );
        let messages: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            messages,
            [
                "the topic pattern `^x` of the source `a` does not end in `$`: patterns are anchored at both ends",
                "the topic `t` belongs to the sources `a` and `b`: `a` gets it; remove it from one of them",
                "the topic pattern `^(x$` of the source `b` is not a regular expression: mend it",
            ]
        );
        assert_eq!(routes.topics(), ["t", "u"]);
    }
}
