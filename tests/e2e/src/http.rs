//! The operations port, asked as a probe or a scraper would.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);

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
