//! What a request asks for outside of its body.

use axum::http::request::Parts;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName};

use crate::problem::Problem;

/// Parameter names.
const SOURCE: &str = "source";
/// The headers that are hookstream's own.
const OWN_PREFIX: &str = "hookstream-";
const SOURCE_HEADER: HeaderName = HeaderName::from_static("hookstream-source");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const MAX_KEY_BYTES: usize = 1024;

/// What is asked for.
#[derive(Debug)]
pub struct Asked<'a> {
    pub source: Option<String>,
    pub key: Option<String>,
    pub content_type: Option<String>,
    /// The headers of CloudEvents in binary mode, sorted by name.
    pub headers: Vec<(&'a str, &'a [u8])>,
}

impl<'a> Asked<'a> {
    /// Reads the query and the headers. What is not known is refused, so that nobody believes to have chosen a topic.
    pub fn read(parts: &'a Parts) -> Result<Self, Problem> {
        let in_query = source_of_query(parts.uri.query().unwrap_or_default())?;
        let in_header = one(&parts.headers, &SOURCE_HEADER)?;
        if in_query.is_some() && in_header.is_some() && in_query != in_header {
            let detail = "names another source than the header `hookstream-source`: use one of them";
            return Err(Problem::invalid_field(SOURCE, detail));
        }
        let unknown = parts
            .headers
            .keys()
            .find(|name| name.as_str().starts_with(OWN_PREFIX) && **name != SOURCE_HEADER);
        if let Some(name) = unknown {
            return Err(Problem::invalid_field(
                name.as_str(),
                "there is no such header: only `hookstream-source`",
            ));
        }
        let key = one(&parts.headers, &IDEMPOTENCY_KEY)?.map(|key| idempotency_key(&key)).transpose()?;
        let mut headers: Vec<_> = parts
            .headers
            .iter()
            .filter(|(name, _)| name.as_str().starts_with("ce-"))
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        headers.sort_unstable();
        Ok(Self {
            source: in_query.or(in_header),
            key,
            content_type: one(&parts.headers, &CONTENT_TYPE)?,
            headers,
        })
    }
}

fn source_of_query(query: &str) -> Result<Option<String>, Problem> {
    let mut source = None;
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if name != SOURCE {
            let detail = match &*name {
                "topic" | "partition" => {
                    "Kafka topics and partitions can't be named: name a `source`, or nothing"
                }
                _ => "there is no such parameter: only `source`",
            };
            return Err(Problem::invalid_field(name, detail));
        }
        if source.replace(value.into_owned()).is_some() {
            return Err(Problem::invalid_field(SOURCE, "is given twice: give it once"));
        }
    }
    Ok(source)
}

/// A header that may be there once.
fn one(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::invalid_field(name.as_str(), "is given twice: give it once"));
    }
    match value.to_str() {
        Ok(value) => Ok(Some(value.trim().to_owned())),
        Err(_) => Err(Problem::invalid_field(name.as_str(), "has characters other than visible ASCII")),
    }
}

/// The key, without the quotes that the draft has around it.
fn idempotency_key(value: &str) -> Result<String, Problem> {
    let key = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    if (1..=MAX_KEY_BYTES).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(key.to_owned());
    }
    let detail = "must be 1 to 1024 visible ASCII characters without spaces, such as a UUID";
    Err(Problem::invalid_field(IDEMPOTENCY_KEY.as_str(), detail))
}
