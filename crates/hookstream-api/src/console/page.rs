//! What all pages have in common, and the pages for what went wrong.

use std::borrow::Cow;

use askama::Template;
use axum::response::{Html, IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};

use super::assets;
use super::texts::{Lang, Texts};
use super::visitor::Visitor;
use crate::problem::Problem;

/// Where the console is.
pub(super) const CONSOLE: &str = "/console";
/// Where the part of it is that customers see, in the pages of those who have hookstream.
pub(super) const PORTAL: &str = "/portal";

/// The frame of a page.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) t: &'static Texts,
    pub(super) lang: Lang,
    pub(super) title: String,
    /// Who has signed in.
    pub(super) who: Option<String>,
    pub(super) nav: Vec<Nav>,
    /// What was done, to be said once.
    pub(super) done: Option<&'static str>,
    /// What went wrong with the whole of it.
    pub(super) problem: Option<String>,
    /// Its own address.
    pub(super) path: String,
    /// Where the pages are: those of the console, or of a portal.
    pub(super) base: &'static str,
}

/// A part of the console.
#[derive(Debug)]
pub(super) struct Nav {
    pub(super) path: &'static str,
    pub(super) label: &'static str,
    pub(super) is_here: bool,
}

impl Page {
    pub(super) fn without_visitor(lang: Lang, title: impl Fn(&Texts) -> &'static str) -> Self {
        let t = lang.texts();
        let title = title(t).to_owned();
        Self {
            t,
            lang,
            title,
            who: None,
            nav: Vec::new(),
            done: None,
            problem: None,
            path: String::new(),
            base: CONSOLE,
        }
    }

    pub(super) fn is_portal(&self) -> bool {
        self.base == PORTAL
    }

    /// The address of an asset.
    #[expect(clippy::unused_self, reason = "templates can call methods, and no functions of other modules")]
    pub(super) fn asset(&self, name: &str) -> String {
        assets::path(name)
    }
}

#[derive(Template)]
#[template(path = "problem.html")]
struct Trouble {
    page: Page,
    status: u16,
    detail: String,
}

/// A template as an answer.
pub(super) fn render(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => (status, Html(text)).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page can't be made");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "This page could not be made.")
        }
    }
}

/// A page that could not be shown, for somebody who has signed in.
pub(super) fn trouble(visitor: &Visitor, at: &'static str, problem: &Problem) -> Response {
    of_problem(visitor.page(at, problem.title.as_ref()), problem)
}

/// A page that could not be shown, to whomever.
pub(super) fn problem(lang: Lang, problem: &Problem) -> Response {
    let mut page = Page::without_visitor(lang, |_| "");
    page.title = problem.title.to_string();
    of_problem(page, problem)
}

fn of_problem(page: Page, problem: &Problem) -> Response {
    let detail = problem.detail.clone();
    render(status_of(problem), &Trouble { page, status: problem.status, detail })
}

pub(super) fn status_of(problem: &Problem) -> StatusCode {
    StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Nothing is there.
pub(super) async fn not_found(visitor: Visitor) -> Response {
    trouble(&visitor, "", &Problem::not_found(visitor.t().no_such_page))
}

/// JSON on lines of its own, otherwise as it is: neither a number nor the order of names is another than it was sent. What is
/// no JSON, or would become very long, stays as it is.
pub(super) fn pretty(text: &str) -> Cow<'_, str> {
    /// Deep nesting makes long lines of spaces.
    const MOST: usize = 1024 * 1024;
    // It also bounds the depth.
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(2 * text.len());
    let (mut depth, mut is_text, mut is_escaped) = (0_usize, false, false);
    let mut after_open = false;
    for c in text.chars() {
        if is_text {
            out.push(c);
            (is_text, is_escaped) = (is_escaped || c != '"', !is_escaped && c == '\\');
            continue;
        }
        if c.is_whitespace() {
            continue;
        }
        let closes = matches!(c, '}' | ']');
        depth -= usize::from(closes);
        if (closes && !after_open) || (after_open && !closes) {
            out.push('\n');
            out.extend(std::iter::repeat_n("  ", depth));
        }
        out.push(c);
        after_open = matches!(c, '{' | '[');
        depth += usize::from(after_open);
        match c {
            '"' => is_text = true,
            ':' => out.push(' '),
            ',' => {
                out.push('\n');
                out.extend(std::iter::repeat_n("  ", depth));
            }
            _ => {}
        }
        if out.len() > MOST + 2 * text.len() {
            return Cow::Borrowed(text);
        }
    }
    Cow::Owned(out)
}

/// A sentence.
pub(super) fn plain(status: StatusCode, text: &'static str) -> Response {
    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
    (status, [(CONTENT_TYPE, content_type)], text).into_response()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn json_is_shown_as_it_was_sent() {
        let sent =
            r#"{"b": 1.10,"a":[],"c":{ },"a":[1e2,{"x":"a\\\"}, {:"}],"n":123456789012345678901234567890}"#;
        let expected = "{\n  \"b\": 1.10,\n  \"a\": [],\n  \"c\": {},\n  \"a\": [\n    1e2,\n    {\n      \"x\": \"a\\\\\\\"}, {:\"\n    }\n  ],\n  \"n\": 123456789012345678901234567890\n}";
        assert_eq!(pretty(sent), expected);
        for text in ["", "no", "{\"a\":}", "[1,]", "\"a\" \"b\""] {
            assert_eq!(pretty(text), text);
        }
        let deep = format!("{}1{}", "[".repeat(120), ",1]".repeat(120));
        assert!(pretty(&deep).len() < 100_000);
        let long = format!("{}{}{}", "[".repeat(120), "1,".repeat(100_000) + "1", "]".repeat(120));
        assert_eq!(pretty(&long), long, "it would be very long");
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            any::<Option<bool>>().prop_map(|it| serde_json::json!(it)),
            any::<i64>().prop_map(|it| serde_json::json!(it)),
            any::<String>().prop_map(|it| serde_json::json!(it)),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(|it| serde_json::json!(it)),
                proptest::collection::btree_map(any::<String>(), inner, 0..5)
                    .prop_map(|it| serde_json::json!(it)),
            ]
        })
    }

    proptest! {
        /// As the library lays it out, which would read numbers and names.
        #[test]
        fn json_is_laid_out_as_usual(value in json()) {
            let text = value.to_string();
            prop_assert_eq!(pretty(&text), serde_json::to_string_pretty(&value).unwrap());
        }
    }
}
