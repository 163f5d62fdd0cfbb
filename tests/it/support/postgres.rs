//! The servers' databases.

use std::sync::OnceLock;

use booking_history::servers::Postgres;

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

fn start(settings: &[(&str, &str)]) -> Postgres {
    Postgres::start_new(settings).unwrap_or_else(|error| panic!("{error}\nTo install what is missing: make test"))
}
