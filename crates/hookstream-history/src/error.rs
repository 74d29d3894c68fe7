//! What can go wrong with an index.

use std::path::PathBuf;

/// Why the index can't be opened, fed or asked.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("can't open the history index at {at}")]
    Open {
        /// A path, or a URL without its password.
        at: String,
        #[source]
        source: Box<sqlx::Error>,
    },
    #[error("can't move the unusable history index `{}` aside: remove it", path.display())]
    MoveAside {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the PostgreSQL URL of the history index is none: expected `postgres://user@host:port/database`")]
    Url(#[source] url::ParseError),
    #[error("the schema name `{name}` is not 1 to 63 characters of `a-z`, `0-9` and `_`")]
    SchemaName { name: String },
    #[error("can't {action} in the history index")]
    Sql {
        action: &'static str,
        #[source]
        source: Box<sqlx::Error>,
    },
    #[error("a row of the history index has a bad `{column}`: delete the index, it is built again")]
    BadRow { column: &'static str },
    #[error("`{text}` is not a cursor: take it from the page before")]
    Cursor { text: String },
}

impl HistoryError {
    pub(crate) fn sql(action: &'static str) -> impl Fn(sqlx::Error) -> Self {
        move |source| Self::Sql { action, source: Box::new(source) }
    }
}
