//! The servers' databases.

use std::sync::OnceLock;

use crate::Postgres;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// The one that all tests share. Nobody stops it; what it holds need not outlive a crash.
pub fn postgres() -> &'static Postgres {
    static SHARED: OnceLock<Postgres> = OnceLock::new();
    SHARED.get_or_init(|| start(&[("fsync", "off"), ("max_connections", "300")]))
}

/// One of a test's own, to be crashed: what it said is committed is on the disk.
pub fn own_postgres() -> Postgres {
    start(&[("fsync", "on")])
}

/// An empty database of the shared server, by its URL.
pub async fn database() -> String {
    postgres().create_database(&super::unique("test")).await.unwrap()
}

/// A user who may do what the service does in a database and nothing else: its name, and the database's URL for it.
pub async fn plain_user(database: &str) -> (String, String) {
    let role = super::unique("user");
    let grant = format!(
        "create role \"{role}\" login password '{PASSWORD}'; \
         grant select on all tables in schema public to \"{role}\"; \
         grant insert, update on booking_history, consumer_offsets, dead_letters, offset_gaps to \"{role}\""
    );
    run(database, &grant).await;
    let place = database.split_once('@').unwrap().1;
    (role.clone(), format!("postgresql://{role}:{PASSWORD}@{place}"))
}

/// The password of a [`plain_user`], which nothing may ever show.
pub const PASSWORD: &str = "hunter2-is-secret";

/// Runs statements as an operator would, on a connection of their own.
pub async fn run(database: &str, statements: &str) {
    let mut operator = PgConnection::connect(database).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut operator).await.unwrap();
}

fn start(settings: &[(&str, &str)]) -> Postgres {
    Postgres::start_new(settings).unwrap_or_else(|error| panic!("{error}\nTo install what is missing: make test"))
}
