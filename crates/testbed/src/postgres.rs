//! The database servers of tests.

use std::process::Command;
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
    grant_least_privileges(database, &role);
    run(database, &format!("alter role \"{role}\" password '{PASSWORD}'")).await;
    let place = database.split_once('@').unwrap().1;
    (role.clone(), format!("postgresql://{role}:{PASSWORD}@{place}"))
}

/// Runs `deploy/least-privilege.sql` as it stands, as an operator does. The script creates the role if it does not exist.
pub fn grant_least_privileges(database: &str, role: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/least-privilege.sql");
    let mut psql = Command::new("psql");
    let psql = psql.args(["--no-psqlrc", "--quiet", database, "--set", &format!("role={role}"), "--file", script]);
    let output = psql.output().unwrap_or_else(|error| panic!("psql: {error}\nTo install it: make test"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
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
