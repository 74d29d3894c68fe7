//! Opening an index, in either database.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use hookstream_types::{Chain, Offset, OwnerId, Partition};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{Any, AnyPool, AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, Transaction};
use url::Url;

use crate::error::HistoryError;
use crate::schema::{self, Dialect};
use crate::sql::{Columns, Sql};

/// Where an index is.
#[derive(Clone, Debug)]
pub enum Backend {
    /// A file of this process's own; its directory is there. A relative path counts from the working directory.
    Sqlite { path: PathBuf },
    /// A server that several replicas share. The schema is the index's own: what is in it is hookstream's to drop.
    Postgres { url: String, schema: String },
}

/// Which topic's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Feed {
    Attempts,
    Audit,
    Events,
}

impl Feed {
    pub const ALL: &[Self] = &[Self::Attempts, Self::Audit, Self::Events];

    /// As metrics name it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Audit => "audit",
            Self::Events => "events",
        }
    }
}

/// How far a partition is taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The offset that comes next.
    pub next: Offset,
    /// Whose decisions count there.
    pub owner: Option<OwnerId>,
    /// Rows of the partition.
    pub rows: u64,
}

/// How much a page may look at before it comes back short.
#[derive(Clone, Copy, Debug)]
pub struct ScanLimits {
    /// Entries of an index.
    pub entries: usize,
    pub time: Duration,
}

impl Default for ScanLimits {
    fn default() -> Self {
        // Entries: about 10 ms on a slow core. Time: what is under way when it ends is as long again.
        Self { entries: 60_000, time: Duration::from_millis(15) }
    }
}

/// An open index. Clones share it.
#[derive(Clone, Debug)]
pub struct History {
    pub(crate) kind: Kind,
    /// One connection where there can be one writer only.
    pub(crate) writer: AnyPool,
    pub(crate) readers: AnyPool,
    pub(crate) limits: ScanLimits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

/// Connections that pages are read by.
const READERS: u32 = 4;
/// Any number that nobody else locks.
const LOCK: i32 = 0x6873_6869;

/// A checkpoint waits for the disk: one for each 64 MB.
const SQLITE_SETUP: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 10000; \
     PRAGMA temp_store = MEMORY; PRAGMA wal_autocheckpoint = 16000";

impl History {
    /// Opens an index, and makes it if it is not there.
    ///
    /// A file that is broken or of another version is moved aside (`<file>.aside`) and built anew; a PostgreSQL schema of
    /// another version is dropped and made anew: the records are in Kafka.
    ///
    /// # Errors
    /// If the database can't be reached or written.
    pub async fn open(backend: &Backend) -> Result<Self, HistoryError> {
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(sqlx::any::install_default_drivers);
        match backend {
            Backend::Sqlite { path } => Self::open_file(path).await,
            Backend::Postgres { url, schema } => Self::open_server(url, schema).await,
        }
    }

    /// Bounds what a page looks at.
    #[must_use]
    pub fn with_limits(mut self, limits: ScanLimits) -> Self {
        self.limits = limits;
        self
    }

    async fn open_file(path: &Path) -> Result<Self, HistoryError> {
        // In a URL, a path that is relative would count from the root.
        let path = &std::path::absolute(path).map_err(|source| HistoryError::Open {
            at: format!("`{}`", path.display()),
            source: Box::new(source.into()),
        })?;
        match Self::try_file(path).await {
            Ok(Some(history)) => return Ok(history),
            Ok(None) => tracing::warn!(
                path = %path.display(),
                "the history index is of another version: it is moved aside and built anew"
            ),
            Err(HistoryError::Open { source, .. }) if is_broken(&source) => tracing::warn!(
                path = %path.display(),
                error = %Chain(&*source),
                "the history index is broken: it is moved aside and built anew"
            ),
            Err(error) => return Err(error),
        }
        move_aside(path).map_err(|source| HistoryError::MoveAside { path: path.to_owned(), source })?;
        Self::try_file(path).await?.ok_or_else(|| HistoryError::Open {
            at: format!("`{}`", path.display()),
            source: Box::new(sqlx::Error::Protocol("a new file has another version".to_owned())),
        })
    }

    /// None: the file is of another version.
    async fn try_file(path: &Path) -> Result<Option<Self>, HistoryError> {
        let failed =
            |source| HistoryError::Open { at: format!("`{}`", path.display()), source: Box::new(source) };
        let mut url = Url::parse("sqlite://").map_err(HistoryError::Url)?;
        url.set_path(&path.to_string_lossy());
        url.set_query(Some("mode=rwc"));
        // A writer's cache holds the parts of the random indexes that a busy hour touches.
        let writer =
            pool(&url, 1, format!("{SQLITE_SETUP}; PRAGMA cache_size = -262144")).await.map_err(failed)?;
        let tables = "SELECT count(*) FROM sqlite_master WHERE type = 'table'";
        let history = match prepare(&writer, Kind::Sqlite, tables).await.map_err(failed)? {
            true => {
                let setup = format!("{SQLITE_SETUP}; PRAGMA cache_size = -32768; PRAGMA query_only = 1");
                let readers = pool(&url, READERS, setup).await.map_err(failed)?;
                Some(Self { kind: Kind::Sqlite, writer, readers, limits: ScanLimits::default() })
            }
            false => {
                writer.close().await;
                None
            }
        };
        Ok(history)
    }

    async fn open_server(url: &str, schema: &str) -> Result<Self, HistoryError> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if schema.is_empty() || schema.len() > 63 || !schema.chars().all(legal) {
            return Err(HistoryError::SchemaName { name: schema.to_owned() });
        }
        let url = Url::parse(url).map_err(HistoryError::Url)?;
        let failed = |source| {
            let at = format!("`{}:{}`", url.host_str().unwrap_or_default(), url.port().unwrap_or(5432));
            HistoryError::Open { at, source: Box::new(source) }
        };
        let path = format!("SET search_path TO \"{schema}\"; SET jit = off");
        let writer = pool(&url, READERS, path.clone()).await.map_err(failed)?;
        let tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = current_schema()";
        let mut tx = writer.begin().await.map_err(failed)?;
        let lock = format!("SELECT pg_advisory_xact_lock({LOCK}, hashtext('{schema}'))");
        tx.execute(AssertSqlSafe(lock)).await.map_err(failed)?;
        let create = format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\"");
        tx.execute(AssertSqlSafe(create)).await.map_err(failed)?;
        if !prepare_in(&mut tx, Kind::Postgres, tables).await.map_err(failed)? {
            tracing::warn!(schema, "the history index is of another version: it is dropped and built anew");
            for table in schema::TABLES {
                let drop = format!("DROP TABLE IF EXISTS {table}");
                tx.execute(AssertSqlSafe(drop)).await.map_err(failed)?;
            }
            create_in(&mut tx, &schema::POSTGRES).await.map_err(failed)?;
        }
        tx.commit().await.map_err(failed)?;
        // Pages come in an index's order, and only so much of it is looked at: the planner does not know the latter,
        // and has nothing to choose.
        let readers = format!(
            "{path}; SET plan_cache_mode = force_custom_plan; SET enable_seqscan = off; SET enable_bitmapscan = off; \
             SET enable_hashjoin = off; SET enable_mergejoin = off; SET default_transaction_read_only = on"
        );
        let readers = pool(&url, READERS, readers).await.map_err(failed)?;
        Ok(Self { kind: Kind::Postgres, writer, readers, limits: ScanLimits::default() })
    }

    /// Ends all connections.
    pub async fn close(self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// How far each partition of a feed is taken in.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn positions(&self, feed: Feed) -> Result<BTreeMap<Partition, Position>, HistoryError> {
        let mut sql = Sql::new("SELECT part, next, owner, rows FROM positions WHERE next >= 0 AND feed = ");
        sql.bind(feed.label());
        let rows = sql
            .query(self.kind)
            .fetch_all(&self.readers)
            .await
            .map_err(HistoryError::sql("read positions"))?;
        let mut positions = BTreeMap::new();
        for row in &rows {
            let mut columns = Columns::of(row);
            let partition = Partition(columns.number("part")?);
            let position = Position {
                next: Offset(columns.int("next")?),
                owner: columns.maybe_uuid("owner")?.map(OwnerId),
                rows: columns.number("rows")?,
            };
            positions.insert(partition, position);
        }
        Ok(positions)
    }

    /// Says which topic a feed's records come from. If it is another than before, all that was taken in from that one is
    /// deleted, since its records are not there any more. Returns whether that was so.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn follow(&self, feed: Feed, topic_id: &str) -> Result<bool, HistoryError> {
        let failed = HistoryError::sql("change the topic");
        let mut tx = self.begin().await?;
        if self.kind == Kind::Postgres {
            let lock = "LOCK TABLE topics IN EXCLUSIVE MODE; LOCK TABLE positions IN EXCLUSIVE MODE";
            tx.execute(sqlx::raw_sql(lock)).await.map_err(&failed)?;
        }
        let mut sql = Sql::new("SELECT id FROM topics WHERE feed = ");
        sql.bind(feed.label());
        let known = sql.query(self.kind).fetch_optional(&mut *tx).await.map_err(&failed)?;
        let known = known.map(|row| Columns::of(&row).text("id")).transpose()?;
        let another = known.as_deref().is_some_and(|known| known != topic_id);
        if another {
            let tables: &[&'static str] = match feed {
                Feed::Attempts => &["DELETE FROM executions", "DELETE FROM attempts", "DELETE FROM minutes"],
                Feed::Audit => &["DELETE FROM audit"],
                Feed::Events => &["DELETE FROM events"],
            };
            for delete in tables {
                tx.execute(*delete).await.map_err(&failed)?;
            }
            let mut sql = Sql::new("DELETE FROM positions WHERE feed = ");
            sql.bind(feed.label());
            sql.query(self.kind).execute(&mut *tx).await.map_err(&failed)?;
        }
        let mut sql = Sql::new("INSERT INTO topics (feed, id) VALUES (");
        sql.bind(feed.label()).push(", ").bind(topic_id);
        sql.push(") ON CONFLICT (feed) DO UPDATE SET id = excluded.id");
        sql.query(self.kind).execute(&mut *tx).await.map_err(&failed)?;
        tx.commit().await.map_err(&failed)?;
        Ok(another)
    }

    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Any>, HistoryError> {
        let begun = match self.kind {
            // Taken at once: a reader that becomes a writer could be told to begin again.
            Kind::Sqlite => self.writer.begin_with("BEGIN IMMEDIATE").await,
            Kind::Postgres => self.writer.begin().await,
        };
        begun.map_err(HistoryError::sql("begin a transaction"))
    }
}

async fn pool(url: &Url, connections: u32, setup: String) -> Result<AnyPool, sqlx::Error> {
    let options = AnyConnectOptions::from_url(url)?.disable_statement_logging();
    // A pool tries again until its time is over, and does not say why.
    let mut probe = options.connect().await?;
    probe.execute(sqlx::raw_sql(AssertSqlSafe(setup.clone()))).await?;
    probe.close().await?;
    AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(10))
        .after_connect(move |connection, _| {
            let setup = setup.clone();
            Box::pin(async move {
                connection.execute(sqlx::raw_sql(AssertSqlSafe(setup))).await?;
                Ok(())
            })
        })
        .connect_with(options)
        .await
}

/// Makes the tables if there are none; false: they are of another version.
async fn prepare(pool: &AnyPool, kind: Kind, tables: &'static str) -> Result<bool, sqlx::Error> {
    let mut tx = pool.begin().await?;
    let good = prepare_in(&mut tx, kind, tables).await?;
    tx.commit().await?;
    Ok(good)
}

async fn prepare_in(
    tx: &mut Transaction<'static, Any>,
    kind: Kind,
    tables: &'static str,
) -> Result<bool, sqlx::Error> {
    let found: i64 = sqlx::query_scalar(tables).fetch_one(&mut **tx).await?;
    let dialect = match kind {
        Kind::Sqlite => &schema::SQLITE,
        Kind::Postgres => &schema::POSTGRES,
    };
    if found == 0 {
        create_in(tx, dialect).await?;
        return Ok(true);
    }
    if usize::try_from(found).ok() != Some(schema::TABLES.len()) {
        return Ok(false);
    }
    let version: Option<i64> =
        sqlx::query_scalar("SELECT number FROM version").fetch_optional(&mut **tx).await?;
    Ok(version == Some(schema::VERSION))
}

async fn create_in(tx: &mut Transaction<'static, Any>, dialect: &Dialect) -> Result<(), sqlx::Error> {
    for statement in schema::create(dialect) {
        tx.execute(AssertSqlSafe(statement)).await?;
    }
    Ok(())
}

/// Whether a file is no database, or a damaged one (`SQLITE_CORRUPT`, `SQLITE_NOTADB`, and no table of ours).
fn is_broken(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return false };
    error.code().is_some_and(|code| matches!(&*code, "1" | "11" | "26") || code == "267" || code == "779")
}

fn move_aside(path: &Path) -> std::io::Result<()> {
    let beside = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    std::fs::rename(path, beside(".aside"))?;
    for end in ["-wal", "-shm"] {
        match std::fs::remove_file(beside(end)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}
