//! SQL that both databases take, and values of three kinds.

use std::borrow::Cow;
use std::fmt::Write as _;

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe, Row as _};
use uuid::Uuid;

use crate::db::Kind;
use crate::error::HistoryError;

/// A statement and its parameters. Text comes from this crate only; what comes from outside is a parameter.
#[derive(Debug, Default)]
pub(crate) struct Sql {
    text: String,
    values: Vec<Value>,
}

/// Stands for a parameter; in no text of ours.
const PARAMETER: char = '\u{1}';

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}
impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}
impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}
impl From<Option<&str>> for Value {
    fn from(value: Option<&str>) -> Self {
        Self::Text(value.map(str::to_owned))
    }
}
impl From<Uuid> for Value {
    fn from(value: Uuid) -> Self {
        Self::Bytes(Some(value.as_bytes().to_vec()))
    }
}
impl From<Option<Uuid>> for Value {
    fn from(value: Option<Uuid>) -> Self {
        Self::Bytes(value.map(|value| value.as_bytes().to_vec()))
    }
}

impl Sql {
    pub(crate) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), values: Vec::new() }
    }

    pub(crate) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    pub(crate) fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        self.text.push(PARAMETER);
        self
    }

    /// Many, with commas between.
    pub(crate) fn bind_all(&mut self, values: impl IntoIterator<Item = Value>) -> &mut Self {
        for (index, value) in values.into_iter().enumerate() {
            if index > 0 {
                self.push(", ");
            }
            self.bind(value);
        }
        self
    }

    /// PostgreSQL numbers its parameters; to SQLite a number is a name, and each is looked for among all of them.
    pub(crate) fn query(self, kind: Kind) -> Query<'static, Any, AnyArguments> {
        let mut text = String::with_capacity(self.text.len() + 4 * self.values.len());
        let mut number = 0;
        for c in self.text.chars() {
            match (c, kind) {
                (PARAMETER, Kind::Sqlite) => text.push('?'),
                (PARAMETER, Kind::Postgres) => {
                    number += 1;
                    write!(text, "${number}").expect("a String takes all");
                }
                (other, _) => text.push(other),
            }
        }
        let mut query = sqlx::query(AssertSqlSafe(text));
        for value in self.values {
            query = match value {
                Value::Int(value) => query.bind(value),
                Value::Text(value) => query.bind(value),
                Value::Bytes(value) => query.bind(value),
            };
        }
        query
    }
}

/// Characters of a text in an index: PostgreSQL takes 2,700 bytes.
const MAX_INDEXED: usize = 600;

/// A text as it can be kept and be found: PostgreSQL has no NUL, and nothing long in an index.
pub(crate) fn storable(text: &str) -> Cow<'_, str> {
    if !text.contains('\0') && text.len() <= MAX_INDEXED {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().take(MAX_INDEXED).map(|c| if c == '\0' { '\u{fffd}' } else { c }).collect())
}

/// Reads a row's columns, in their order.
pub(crate) struct Columns<'r> {
    row: &'r AnyRow,
    next: usize,
}

impl<'r> Columns<'r> {
    pub(crate) fn of(row: &'r AnyRow) -> Self {
        Self { row, next: 0 }
    }

    fn index(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }

    pub(crate) fn int(&mut self, column: &'static str) -> Result<i64, HistoryError> {
        self.maybe_int(column)?.ok_or(HistoryError::BadRow { column })
    }

    pub(crate) fn maybe_int(&mut self, column: &'static str) -> Result<Option<i64>, HistoryError> {
        let index = self.index();
        self.row.try_get(index).map_err(|_| HistoryError::BadRow { column })
    }

    /// A number that fits its type.
    pub(crate) fn number<T: TryFrom<i64>>(&mut self, column: &'static str) -> Result<T, HistoryError> {
        T::try_from(self.int(column)?).map_err(|_| HistoryError::BadRow { column })
    }

    pub(crate) fn maybe_number<T: TryFrom<i64>>(
        &mut self,
        column: &'static str,
    ) -> Result<Option<T>, HistoryError> {
        let number = self.maybe_int(column)?;
        number.map(T::try_from).transpose().map_err(|_| HistoryError::BadRow { column })
    }

    pub(crate) fn text(&mut self, column: &'static str) -> Result<String, HistoryError> {
        self.maybe_text(column)?.ok_or(HistoryError::BadRow { column })
    }

    pub(crate) fn maybe_text(&mut self, column: &'static str) -> Result<Option<String>, HistoryError> {
        let index = self.index();
        self.row.try_get(index).map_err(|_| HistoryError::BadRow { column })
    }

    pub(crate) fn uuid(&mut self, column: &'static str) -> Result<Uuid, HistoryError> {
        self.maybe_uuid(column)?.ok_or(HistoryError::BadRow { column })
    }

    pub(crate) fn maybe_uuid(&mut self, column: &'static str) -> Result<Option<Uuid>, HistoryError> {
        let index = self.index();
        let bytes: Option<Vec<u8>> = self.row.try_get(index).map_err(|_| HistoryError::BadRow { column })?;
        bytes.map(|bytes| Uuid::from_slice(&bytes)).transpose().map_err(|_| HistoryError::BadRow { column })
    }
}
