//! Keeps the history of bookings from Kafka in `PostgreSQL`, exactly once.

pub mod engine;
pub mod booking;
