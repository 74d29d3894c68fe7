//! `history`: where the index of the history is, and how much it keeps.

use std::path::PathBuf;
use std::time::Duration;

use hookstream_types::SecretString;
use serde::{Deserialize, Serialize, Serializer};
use url::Url;

use crate::Problem;
use crate::values::{REDACTED, duration, format_duration};

/// `history`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// `sqlite:PATH`, or `postgres://…`; [`History::place`] reads it.
    #[serde(serialize_with = "without_password")]
    pub url: SecretString,
    #[serde(with = "duration")]
    pub retention: Duration,
    pub max_attempts: u64,
}

/// Where the index is.
#[derive(Clone, Debug)]
pub enum HistoryPlace {
    Sqlite(PathBuf),
    /// A URL, with its password.
    Postgres(SecretString),
}

const WAY_OUT: &str =
    "write `sqlite:PATH` for a file, or `postgres://USER:PASSWORD@HOST:PORT/DATABASE` for a server";
const MIN_RETENTION: Duration = Duration::from_secs(3600);
const MAX_RETENTION: Duration = Duration::from_secs(3650 * 24 * 3600);

impl History {
    /// Where the index is.
    ///
    /// # Errors
    /// A [`Problem`] if `url` is neither a file nor a server.
    pub fn place(&self) -> Result<HistoryPlace, Problem> {
        // Not shown: a password may be anywhere in what is no URL.
        let problem = |why: &str| Problem::new("history.url", format!("{why}: {WAY_OUT}"));
        let text = self.url.expose();
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path {
                "" => Err(problem("names no file")),
                ":memory:" => Err(problem("must be a file")),
                path => Ok(HistoryPlace::Sqlite(PathBuf::from(path))),
            };
        }
        let url = Url::parse(text).map_err(|_| problem("is no URL"))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(problem("is of no database that is known"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(problem("names no host"));
        }
        if matches!(url.path(), "" | "/") {
            return Err(problem("names no database"));
        }
        Ok(HistoryPlace::Postgres(self.url.clone()))
    }

    pub(crate) fn check(&self, problems: &mut Vec<Problem>) {
        problems.extend(self.place().err());
        if !(MIN_RETENTION..=MAX_RETENTION).contains(&self.retention) {
            let value = format_duration(self.retention);
            problems.push(Problem::new("history.retention", "must be 1h to 3650d").with_value(value));
        }
        if self.max_attempts < 1_000 {
            let message = "must be 1000 or more; set `history.retention` to keep attempts for less long";
            problems.push(Problem::new("history.max_attempts", message).with_value(self.max_attempts));
        }
    }
}

/// A file as it is written; a server without its password and its parameters, of which some are secrets.
fn without_password<S: Serializer>(url: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    let text = url.expose();
    if text.starts_with("sqlite:") {
        return serializer.serialize_str(text);
    }
    let Ok(mut url) = Url::parse(text) else { return serializer.serialize_str(REDACTED) };
    if url.password().is_some() && url.set_password(Some("secret")).is_err() {
        return serializer.serialize_str(REDACTED);
    }
    url.set_query(None);
    serializer.serialize_str(url.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(url: &str) -> History {
        History {
            url: SecretString::new(url.to_owned()),
            retention: Duration::from_secs(3600),
            max_attempts: 1_000,
        }
    }

    #[test]
    fn places() {
        let path = |url: &str| match history(url).place() {
            Ok(HistoryPlace::Sqlite(path)) => path.display().to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(path("sqlite:history.db"), "history.db");
        assert_eq!(path("sqlite:/var/lib/h.db"), "/var/lib/h.db");
        assert_eq!(path("sqlite:///var/lib/h.db"), "/var/lib/h.db");
        for url in ["postgres://ann:hunter2@db:5432/h", "postgresql://db/h?sslmode=require"] {
            let Ok(HistoryPlace::Postgres(found)) = history(url).place() else { panic!("{url}") };
            assert_eq!(found.expose(), url);
        }
        let bad = [
            "",
            "history.db",
            "sqlite:",
            "sqlite::memory:",
            "mysql://db/h",
            "postgres://db",
            "postgres:///h",
        ];
        for url in bad {
            let problem = history(url).place().unwrap_err();
            assert!(problem.to_string().contains("postgres://USER"), "{url}: {problem}");
        }
    }

    #[test]
    fn passwords_are_not_printed() {
        let urls = [
            "postgres://ann:hunter2@db:5432/h",
            "postgres://db/h?password=hunter2",
            "hunter2",
            "x://:hunter2",
        ];
        for url in urls {
            let history = history(url);
            let text = serde_norway::to_string(&history).unwrap();
            let problem = history.place().err().map(|problem| problem.to_string()).unwrap_or_default();
            assert!(
                !format!("{text} {history:?} {problem}").contains("hunter2"),
                "{text} {history:?} {problem}"
            );
        }
        let text = serde_norway::to_string(&history("postgres://ann:hunter2@db:5432/h")).unwrap();
        assert!(text.contains("url: postgres://ann:secret@db:5432/h"), "{text}");
    }
}
