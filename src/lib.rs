//! Stores bookings from Kafka in `PostgreSQL`, exactly once.
//!
//! The engine is the library [`fenced_sink`]. It implements the guarantee and does not use bookings. This package adds
//! the other parts of the program `booking-history`:
//!
//! | module | contains |
//! |---|---|
//! | [`config`] | environment, `.env` file and flags -> checked settings, or a list of all faults in them |
//! | [`booking`] | the event: JSON -> a valid [`booking::Booking`] -> a row of the table `booking_history` |
//! | [`telemetry`] | log lines, and `/livez`, `/readyz`, `/metrics` and the status page over HTTP |
//! | [`commands`] | one file for each command, and the exit codes |
//!
//! `booking` uses only the engine. `telemetry` uses `config`. `commands` uses all of them, and `main` only `commands` and
//! `telemetry::standard_error`.
//!
//! The words of the protocol (position, epoch, fence, gap, halt, dead letter) are explained in [`fenced_sink`], and in the
//! glossary of `docs/architecture.md`.

pub mod config;
pub mod booking;
pub mod telemetry;
pub mod commands;
