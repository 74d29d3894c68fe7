//! The operations port, asked as a probe or a scraper would.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);
/// A write may wait for a broker.
const CALL_TIMEOUT: Duration = Duration::from_secs(40);

/// A GET over HTTP/1.0: status and body. None if nobody answers.
pub(crate) fn get(addr: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&addr, TIMEOUT).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: {addr}\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// An answer of the API.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    /// Names are lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Reply {
    /// # Panics
    /// If the body is no JSON.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// # Panics
    /// If the status is another.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }
}

/// Somebody who calls the API.
#[derive(Clone, Debug)]
pub struct Caller {
    pub addr: SocketAddr,
    /// None: nobody that is known.
    pub token: Option<String>,
}

impl Caller {
    /// One request on a connection of its own; none if nobody answers.
    #[must_use]
    pub fn try_call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Option<Reply> {
        let mut stream = TcpStream::connect_timeout(&self.addr, TIMEOUT).ok()?;
        stream.set_read_timeout(Some(CALL_TIMEOUT)).ok()?;
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.addr);
        if let Some(token) = &self.token {
            head.push_str(&format!("authorization: Bearer {token}\r\n"));
        }
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) && !body.is_empty() {
            head.push_str("content-type: application/json\r\n");
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || method != "GET" {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body.as_bytes()).ok()?;
        let mut answer = BufReader::new(stream);
        let mut line = || {
            let mut line = String::new();
            answer.read_line(&mut line).ok().map(|_| line.trim_end().to_owned())
        };
        let status = line()?.split(' ').nth(1)?.parse().ok()?;
        let mut headers = BTreeMap::new();
        while let Some((name, value)) = line()?.split_once(':') {
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        // Some say that they close the connection, and leave it open.
        let length = headers.get("content-length").and_then(|length| length.parse().ok());
        let mut body = Vec::new();
        answer.take(length.unwrap_or(u64::MAX)).read_to_end(&mut body).ok()?;
        let body = String::from_utf8_lossy(&body);
        let is_chunked = headers.get("transfer-encoding").is_some_and(|value| value == "chunked");
        let body = if is_chunked { dechunked(&body)? } else { body.into_owned() };
        Some(Reply { status, headers, body })
    }

    /// # Panics
    /// If nobody answers.
    #[track_caller]
    #[must_use]
    pub fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let reply = self.try_call(method, path, headers, body);
        reply.unwrap_or_else(|| panic!("no answer to {method} {path} from {}", self.addr))
    }

    #[track_caller]
    #[must_use]
    pub fn get(&self, path: &str) -> Reply {
        self.call("GET", path, &[], "")
    }

    #[track_caller]
    #[must_use]
    pub fn patch(&self, path: &str, body: &serde_json::Value) -> Reply {
        self.call("PATCH", path, &[], &body.to_string())
    }

    #[track_caller]
    #[must_use]
    pub fn delete(&self, path: &str) -> Reply {
        self.call("DELETE", path, &[], "")
    }

    /// With another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { addr: self.addr, token: Some(token.to_owned()) }
    }

    /// With an account for what names none.
    ///
    /// # Panics
    /// If this caller is no operator.
    #[must_use]
    #[track_caller]
    pub fn with_default_account(self) -> Self {
        drop(self.post("/api/v1/accounts", &serde_json::json!({ "name": "default" })).expect(201));
        self
    }

    /// The client that is registered with this document, with a token and what it was made of: its secret.
    ///
    /// # Panics
    /// If this caller may not register clients.
    #[must_use]
    #[track_caller]
    pub fn register(&self, document: &serde_json::Value) -> (Self, String) {
        let created = self.post("/api/v1/clients", document).expect(201).json();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let (id, secret) = (text(&created["id"]), text(&created["clientSecret"]));
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let body = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
        let nobody = Self { addr: self.addr, token: None };
        let granted = nobody.call("POST", "/oauth/token", &form, &body).expect(200).json();
        (self.with_token(&text(&granted["access_token"])), secret)
    }

    #[track_caller]
    #[must_use]
    pub fn post(&self, path: &str, body: &serde_json::Value) -> Reply {
        self.call("POST", path, &[], &body.to_string())
    }
}

fn dechunked(mut rest: &str) -> Option<String> {
    let mut out = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(out);
        }
        out.push_str(after.get(..size)?);
        rest = after.get(size + 2..)?;
    }
}

/// A scrape of `/metrics`: each series, as it is written, with its value.
#[derive(Clone, Debug, Default)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads Prometheus' text format.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let series = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        });
        Self(series.collect())
    }

    /// The sum over all series of a metric; none if there is no series.
    #[must_use]
    pub fn sum(&self, name: &str) -> Option<f64> {
        self.sum_with(name, "")
    }

    /// The sum over a metric's series that have `label`, such as `reason="exhausted"`.
    #[must_use]
    pub fn sum_with(&self, name: &str, label: &str) -> Option<f64> {
        let of_name = |series: &str| series.split('{').next() == Some(name) && series.contains(label);
        let values: Vec<f64> =
            self.0.iter().filter(|(series, _)| of_name(series)).map(|(_, value)| *value).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// The names, without labels.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().filter_map(|series| series.split('{').next())
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn sums() {
        let text = "# HELP a_total What.\n# TYPE a_total counter\na_total{x=\"1\",y=\"2\"} 3\na_total{x=\"2\"} 4\nb 0.5\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.sum("a_total"), Some(7.0));
        assert_eq!(metrics.sum_with("a_total", "x=\"2\""), Some(4.0));
        assert_eq!(metrics.sum("b"), Some(0.5));
        assert_eq!(metrics.sum("a"), None);
    }
}
