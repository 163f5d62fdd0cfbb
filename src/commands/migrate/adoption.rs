//! What `migrate up` checks and prints before and while it adopts the table of the Python service.

use std::time::{Duration, Instant};

use bytesize::ByteSize;
use fenced_sink::DatabaseServers;
use sqlx::PgConnection;

/// The interval of the progress lines.
pub(super) const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// A session of a service that was just stopped may exist this long.
pub(super) const SESSIONS_END: Duration = Duration::from_secs(5);
const SESSIONS_INTERVAL: Duration = Duration::from_millis(200);
/// The time limit of one query for the progress.
const LOOK: Duration = Duration::from_secs(1);

/// The table that is about to be adopted.
#[derive(Debug)]
pub(super) struct OldTable {
    /// The number of rows in the statistics of `PostgreSQL`. 0: the table is empty, or there are no statistics.
    rows: i64,
    /// Indexes included.
    bytes: i64,
    /// The columns that make a rewrite necessary.
    floats: Vec<String>,
}

impl OldTable {
    /// `None`: there is no table `booking_history`.
    pub(super) async fn read(connection: &mut PgConnection) -> sqlx::Result<Option<Self>> {
        // Without the partitions of the table, if it has any, its size would be 0.
        sqlx::query_as!(
            Self,
            r#"
            with parts as (
                select to_regclass('booking_history') as part
                union select relid from pg_partition_tree(to_regclass('booking_history'))
            )
            select
                (select sum(greatest(reltuples, 0)) from pg_class join parts on oid = part)::bigint as "rows!",
                (select sum(pg_total_relation_size(part)) from parts)::bigint as "bytes!",
                array(
                    select attname::text
                    from pg_attribute
                    where attrelid = to_regclass('booking_history')
                        and attname in ('discount_percent', 'price')
                        and format_type(atttypid, null) in ('double precision', 'real')
                    order by attnum
                ) as "floats!"
            where to_regclass('booking_history') is not null
            "#
        )
        .fetch_optional(connection)
        .await
    }

    /// What is about to happen, one line each.
    pub(super) fn announcement(&self) -> [String; 3] {
        let rows = if self.rows > 0 { format!("about {} rows, ", self.rows) } else { String::new() };
        let rewrite = match self.floats.as_slice() {
            [] => "no row is rewritten".to_owned(),
            floats => format!(
                "its rows are rewritten once, because floats become numeric ({}); this can take a minute for each GiB",
                floats.join(", ")
            ),
        };
        [
            format!("adopting the table booking_history of the Python service: {rows}{} with indexes", self.size()),
            rewrite,
            "missing indexes are built; nothing can read or write the table until the adoption is done".to_owned(),
        ]
    }

    fn size(&self) -> ByteSize {
        ByteSize(self.bytes.try_into().unwrap_or_default())
    }
}

/// The sessions that may belong to the Python service. That service sets no name for its sessions, and an idle session
/// shows no use of the table. So each session without a name counts, and each one that uses the table.
pub(super) async fn suspicious_sessions(connection: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    let began = Instant::now();
    loop {
        let found = sqlx::query_scalar!(
            r#"
            select concat('process ', pid, ' of user ', usename, ' from ' || host(client_addr)) as "session!"
            from pg_stat_activity
            where datname = current_database()
                and pid <> pg_backend_pid()
                and usename is not null
                and leader_pid is null
                and coalesce(backend_type, 'client backend') = 'client backend'
                and application_name <> current_setting('application_name')
                and (
                    application_name = ''
                    or query ilike '%booking_history%'
                    or exists (
                        select from pg_locks
                        where pg_locks.pid = pg_stat_activity.pid and relation = to_regclass('booking_history')
                    )
                )
            order by pid
            "#
        )
        .fetch_all(&mut *connection)
        .await?;
        if found.is_empty() || began.elapsed() >= SESSIONS_END {
            return Ok(found);
        }
        tokio::time::sleep(SESSIONS_INTERVAL).await;
    }
}

/// Observes a migration from another connection.
pub(super) struct ProgressWatch {
    connection: PgConnection,
    began: Instant,
    bytes_before: i64,
    table: ByteSize,
}

impl ProgressWatch {
    /// `None`: a second connection was not possible. The migration does not need it.
    pub(super) async fn start(servers: &DatabaseServers, table: &OldTable) -> Option<Self> {
        let connection = servers.connect(LOOK).await.ok()?;
        let mut watch = Self { connection, began: Instant::now(), bytes_before: 0, table: table.size() };
        watch.bytes_before = watch.database_bytes().await?;
        Some(watch)
    }

    /// `PostgreSQL` reports no progress of ALTER TABLE. But it writes a new copy of the rows to files, and other
    /// sessions see their size.
    pub(super) async fn line(&mut self) -> Option<String> {
        let grown = self.database_bytes().await?.saturating_sub(self.bytes_before);
        Some(format!(
            "working for {} s: the database has grown by {}, the table had {}",
            self.began.elapsed().as_secs(),
            ByteSize(grown.try_into().unwrap_or_default()),
            self.table
        ))
    }

    async fn database_bytes(&mut self) -> Option<i64> {
        let bytes = sqlx::query_scalar!(r#"select pg_database_size(current_database()) as "bytes!""#);
        tokio::time::timeout(LOOK, bytes.fetch_one(&mut self.connection)).await.ok()?.ok()
    }
}
