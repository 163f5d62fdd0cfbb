//! Keeps the history of bookings from Kafka in `PostgreSQL`, exactly once.
//!
//! The engine is the library [`fenced_sink`]: it holds the guarantee and never names a booking. This package is its
//! built-in use:
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | environment, `.env` and flags -> settings, or everything that is wrong with them |
//! | [`booking`] | the event: JSON -> a valid booking -> a row of `booking_history` |
//! | [`telemetry`] | log lines, `/livez`, `/readyz` and `/metrics` |
//! | [`commands`] | one file for each command |

pub mod config;
pub mod booking;
pub mod telemetry;
pub mod commands;
