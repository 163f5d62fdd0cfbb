//! Keeps the history of bookings from Kafka in `PostgreSQL`, exactly once.

pub mod config;
pub mod engine;
pub mod booking;
pub mod telemetry;
pub mod commands;
pub mod servers;
