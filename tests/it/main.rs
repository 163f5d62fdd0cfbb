//! Tests that need real servers: Apache Kafka and `PostgreSQL`, started once for all tests of this binary.
//!
//! Each test has its own topics, groups and databases, so all tests run at the same time. A test that stops, freezes or
//! kills a server starts one for itself.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "here a panic is the report, and only the other modules of this binary use the items"
)]

mod servers;
mod main_job;
mod faults;
mod takeover;
mod log;
mod letters;
mod environment;
mod startup;
mod group;
mod health;
mod metrics;
mod memory;
mod booking_table;
mod adoption;
mod redrive;
mod dead_letter_sql;
mod dead_letter_commands;
mod offsets;
mod replay;
mod verify;
mod docs;
