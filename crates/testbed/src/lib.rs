//! What tests, benchmark and demo stand on: private servers, the service as a child process, and an audit of its tables.
//! Development only: nothing of it is in the program that is deployed.
//!
//! A server is started for one process and is gone with it, however that process ends ([`guardian`]). A helper that
//! fails panics: here a panic is the report.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    missing_docs,
    reason = "a panic is the report of a test, and many names say all"
)]

pub mod guardian;
pub mod postgres_server;
pub mod wait;
pub mod kafka;
pub mod postgres;
pub mod wire;
pub mod topic;
pub mod http;
pub mod log_line;
pub mod service;
pub mod audit;
pub mod workload;
pub mod scene;
pub mod pages;

use std::sync::atomic::{AtomicU32, Ordering};

pub use guardian::{Account, Guardian, free_ports, quoted};
pub use postgres_server::Postgres;

/// A private server that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ServerError(pub String);

/// A name that no other test has, nor another run of this one: for topics, groups and databases.
pub fn unique(what: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}
