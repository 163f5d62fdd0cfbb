//! What the tests stand on, from the servers up to the audit.

pub mod wait;
pub mod kafka;
pub mod postgres;
pub mod wire;
pub mod topic;
pub mod service;
pub mod http;
pub mod audit;
pub mod workload;

use std::sync::atomic::{AtomicU32, Ordering};

/// A name that no other test has, nor another run of this one: for topics, groups and databases.
pub fn unique(what: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}
