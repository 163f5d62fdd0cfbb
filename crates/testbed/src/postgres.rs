//! The database servers of tests.

use std::sync::OnceLock;

use crate::Postgres;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// The server that all tests share. No test stops it, so it need not survive a crash.
pub fn postgres() -> &'static Postgres {
    static SHARED: OnceLock<Postgres> = OnceLock::new();
    SHARED.get_or_init(|| start(&[("fsync", "off"), ("max_connections", "300")]))
}

/// A server for one test, which may crash it: what is committed is on the disk.
pub fn own_postgres() -> Postgres {
    start(&[("fsync", "on")])
}

/// Makes an empty database on the shared server, and returns its URL.
pub async fn database() -> String {
    postgres().create_database(&super::unique("test")).await.unwrap()
}

/// Makes a user with only the privileges that the service needs: its name, and the URL with which it connects.
pub async fn plain_user(database: &str) -> (String, String) {
    let role = super::unique("user");
    let grant = format!(
        "create role \"{role}\" login password '{PASSWORD}'; \
         grant select on all tables in schema public to \"{role}\"; \
         grant insert on booking_history, consumer_offsets, dead_letters, dead_letter_attempts, offset_gaps to \"{role}\"; \
         grant update on consumer_offsets, dead_letters, offset_gaps to \"{role}\""
    );
    run(database, &grant).await;
    let place = database.split_once('@').unwrap().1;
    (role.clone(), format!("postgresql://{role}:{PASSWORD}@{place}"))
}

/// The password of a [`plain_user`]. No output may show it.
pub const PASSWORD: &str = "hunter2-is-secret";

/// Runs statements as an operator does, on a connection of their own.
pub async fn run(database: &str, statements: &str) {
    let mut operator = PgConnection::connect(database).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut operator).await.unwrap();
}

fn start(settings: &[(&str, &str)]) -> Postgres {
    Postgres::start_new(settings).unwrap_or_else(|error| panic!("{error}\nTo install what is missing: make test"))
}
