//! What all pages have in common, and the pages for what went wrong.

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

/// A sentence.
pub(super) fn plain(status: StatusCode, text: &'static str) -> Response {
    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
    (status, [(CONTENT_TYPE, content_type)], text).into_response()
}
