//! The program on real servers: Apache Kafka and `PostgreSQL`, started once for all tests of this binary.
//!
//! Each test has topics, groups and databases of its own, so all tests run at the same time. A test that stops, freezes
//! or kills a server starts its own.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a panic is the report of a test, and these modules are private"
)]

mod servers;
mod main_job;
mod faults;
mod takeover;
mod topic_log;
mod broker_cluster;
mod letters;
mod environment;
mod partition_failures;
mod several_servers;
mod startup;
mod standard_error;
mod signals;
mod poolers;
mod connections;
mod id_columns;
mod group;
mod check;
mod health;
mod kafka_refusals;
mod metrics;
mod monitoring;
mod status_page;
mod memory;
mod booking_table;
mod partitioned;
mod copy;
mod adoption;
mod redrive;
mod dead_letter_sql;
mod dead_letter_commands;
mod offsets;
mod replay;
mod verify;
mod security;
mod generate;
mod docs;
