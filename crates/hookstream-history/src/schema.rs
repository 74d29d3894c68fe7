//! The tables, for both databases.
//!
//! `executions` is ordered by the key that lists are paged by. Each index begins with what its lists have in common,
//! goes on with that key, and ends with what else is asked for, so that rows that do not match are passed over without
//! being read. Most executions are delivered: the indexes of the others are partial, so that the few that failed are
//! not looked for among the many that did not. `attempts` needs no index beside its own order: each row names the
//! execution's row before. `events` are ordered and looked for alike; a text that is looked for has a number of its own, its
//! code, which several texts may share.

use crate::minutes;

/// Changes with the tables: an index of another version is built anew.
pub(crate) const VERSION: i64 = 3;

/// What the databases call differently.
pub(crate) struct Dialect {
    bytes: &'static str,
    table_end: &'static str,
}

pub(crate) const SQLITE: Dialect = Dialect { bytes: "BLOB", table_end: "WITHOUT ROWID" };
pub(crate) const POSTGRES: Dialect = Dialect { bytes: "BYTEA", table_end: "" };

/// Makes the tables.
pub(crate) fn create(dialect: &Dialect) -> Vec<String> {
    let Dialect { bytes, table_end } = dialect;
    const KEY: &str = "at, part, position, idx";
    const REST: &str = "outcome, status, failure, kind";
    let mut all = vec![
        format!("CREATE TABLE positions (feed TEXT NOT NULL, part INTEGER NOT NULL, next BIGINT NOT NULL, owner {bytes}, rows BIGINT NOT NULL, PRIMARY KEY (feed, part)) {table_end}"),
        format!("CREATE TABLE topics (feed TEXT NOT NULL PRIMARY KEY, id TEXT NOT NULL) {table_end}"),
        format!(
            "CREATE TABLE executions (at BIGINT NOT NULL, part INTEGER NOT NULL, position BIGINT NOT NULL, idx INTEGER NOT NULL, \
             delivery {bytes} NOT NULL, webhook {bytes} NOT NULL, account {bytes} NOT NULL, event {bytes} NOT NULL, event_type TEXT NOT NULL, kind BIGINT NOT NULL, \
             outcome SMALLINT NOT NULL, reason TEXT, due BIGINT, attempts BIGINT NOT NULL, status INTEGER, failure SMALLINT, revision BIGINT NOT NULL, \
             last_at BIGINT NOT NULL, last_position BIGINT NOT NULL, last_idx INTEGER NOT NULL, PRIMARY KEY ({KEY})) {table_end}"
        ),
        "CREATE UNIQUE INDEX executions_delivery ON executions (delivery)".to_owned(),
        format!("CREATE INDEX executions_event ON executions (event, {KEY})"),
        format!("CREATE INDEX executions_account ON executions (account, {KEY}, {REST})"),
        format!("CREATE INDEX executions_type ON executions (account, kind, {KEY}, outcome, status, failure)"),
        format!("CREATE INDEX executions_webhook ON executions (webhook, {KEY}, {REST})"),
        format!("CREATE INDEX undelivered ON executions (outcome, {KEY}, status, failure, kind) WHERE outcome <> 1"),
        format!("CREATE INDEX undelivered_account ON executions (account, outcome, {KEY}, status, failure, kind) WHERE outcome <> 1"),
        format!("CREATE INDEX undelivered_webhook ON executions (webhook, outcome, {KEY}, status, failure, kind) WHERE outcome <> 1"),
        format!(
            "CREATE TABLE attempts (part INTEGER NOT NULL, position BIGINT NOT NULL, idx INTEGER NOT NULL, at BIGINT NOT NULL, delivery {bytes} NOT NULL, \
             run BIGINT NOT NULL, n BIGINT NOT NULL, outcome SMALLINT NOT NULL, reason TEXT, due BIGINT, \
             number BIGINT, started_at BIGINT, status INTEGER, failure SMALLINT, total_us BIGINT, revision BIGINT, \
             previous_position BIGINT, previous_idx INTEGER, PRIMARY KEY (part, position, idx)) {table_end}"
        ),
        "CREATE TABLE audit (position BIGINT NOT NULL PRIMARY KEY, at BIGINT NOT NULL, account {bytes}, actor TEXT NOT NULL, kind TEXT NOT NULL, resource TEXT NOT NULL, action TEXT NOT NULL, record TEXT NOT NULL)".replace("{bytes}", bytes),
        "CREATE INDEX audit_account ON audit (account, position)".to_owned(),
        "CREATE INDEX audit_actor ON audit (actor, position)".to_owned(),
        "CREATE INDEX audit_resource ON audit (kind, resource, position)".to_owned(),
    ];
    all.extend([
        format!(
            "CREATE TABLE events (at BIGINT NOT NULL, part INTEGER NOT NULL, position BIGINT NOT NULL, idx INTEGER NOT NULL, \
             event {bytes} NOT NULL, account {bytes} NOT NULL, event_type TEXT NOT NULL, kind BIGINT NOT NULL, \
             source TEXT NOT NULL, id TEXT NOT NULL, id_code BIGINT NOT NULL, subject TEXT, subject_code BIGINT, PRIMARY KEY ({KEY})) {table_end}"
        ),
        "CREATE UNIQUE INDEX events_event ON events (event)".to_owned(),
        format!("CREATE INDEX events_account ON events (account, {KEY})"),
        format!("CREATE INDEX events_type ON events (account, kind, {KEY})"),
        format!("CREATE INDEX events_id ON events (id_code, {KEY})"),
        format!("CREATE INDEX events_subject ON events (account, subject_code, {KEY}) WHERE subject_code IS NOT NULL"),
    ]);
    all.extend([
        format!(
            "CREATE TABLE minutes (scope {bytes} NOT NULL, minute BIGINT NOT NULL, part INTEGER NOT NULL, {}, PRIMARY KEY (scope, minute, part)) {table_end}",
            minutes::definitions()
        ),
        "CREATE INDEX minutes_minute ON minutes (minute)".to_owned(),
    ]);
    all.push(format!("CREATE TABLE version (number BIGINT NOT NULL PRIMARY KEY) {table_end}"));
    all.push(format!("INSERT INTO version VALUES ({VERSION})"));
    all
}

pub(crate) const TABLES: &[&str] =
    &["positions", "topics", "executions", "attempts", "audit", "events", "minutes", "version"];
