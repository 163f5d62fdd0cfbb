//! For development only: what tests, benchmark and demo use. Private servers, the service as a child process, and an
//! audit of its tables. The deployed program contains nothing of it.
//!
//! A test begins with a [`scene::Scene`]: a topic, a consumer group and a database of its own, and the settings of the
//! service. A server belongs to one process and ends with it, also when the process is killed ([`guardian`]). A helper
//! that fails panics: the panic is the report.
//!
//! | module | holds |
//! |---|---|
//! | [`guardian`] | the process that ends a server after its owner |
//! | [`certificates`] | certificates for TLS |
//! | [`postgres_server`], [`pgbouncer`], [`postgres`], [`kafka`] | private servers, and those that all tests share |
//! | [`token_endpoint`] | an OAuth token endpoint |
//! | [`proxy`] | a slow, black-holed or broken link to a server |
//! | [`topic`], [`wire`], [`workload`] | topics, records of any bytes, and records with their expected outcomes |
//! | [`service`], [`log_line`], [`http`] | the program as a child process, its log and its HTTP answers |
//! | [`browser`] | a headless browser with the status page |
//! | [`audit`], [`scene`] | what the tables hold, and all of this in one value |
//! | [`prometheus`] | a private Prometheus |
//! | [`pages`] | the samples in the documentation |
//! | [`wait`] | conditions instead of sleeps |
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    missing_docs,
    reason = "a panic is the report of a test, and many names need no comment"
)]

pub mod guardian;
pub mod certificates;
pub mod postgres_server;
pub mod pgbouncer;
pub mod wait;
pub mod proxy;
pub mod kafka;
pub mod token_endpoint;
pub mod postgres;
pub mod wire;
pub mod topic;
pub mod http;
pub mod browser;
pub mod log_line;
pub mod service;
pub mod audit;
pub mod workload;
pub mod steady_flow;
pub mod scene;
pub mod prometheus;
pub mod pages;

use std::env;
use std::sync::atomic::{AtomicU32, Ordering};

pub use guardian::{Account, Guardian, free_ports, quoted};
pub use postgres_server::Postgres;

/// Why a private server cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ServerError(pub String);

/// A name for a topic, a group or a database that no other test and no other run uses.
pub fn unique(what: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// An environment variable that changes a whole run of the tests.
#[expect(clippy::disallowed_methods, reason = "a switch of the tests, not a setting of the program")]
pub(crate) fn switch(name: &str) -> Option<String> {
    env::var_os(name).map(|value| value.into_string().unwrap())
}
