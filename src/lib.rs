//! Keeps the history of bookings from Kafka in `PostgreSQL`, exactly once: rows, positions and dead letters are written
//! in one transaction, fenced. As a library it does the same for any [`engine::event::Event`].
//!
//! # The map
//! A record's way: Kafka -> `source` -> [`Record`](engine::record::Record) -> parsed by the
//! [`Event`](engine::event::Event) -> queue and [`Batch`](engine::batch::Batch) -> `writer` -> one `transaction` ->
//! committed -> [`mirror`](engine::mirror) -> Kafka. [`engine`] tells the guarantee and the rules; who may write a
//! partition, and from where, is decided by one pure state machine, [`engine::partition`].
//!
//! # The words
//! | word | meaning |
//! |---|---|
//! | record | what Kafka delivers: key, value, headers, timestamp, at an offset of a partition |
//! | event | what a record says, parsed and validated; here a booking |
//! | offset | names one record; a *position* is the offset to read next |
//! | step | the positions `from < to` that one transaction moves a partition by |
//! | batch | all records of a step |
//! | ledger | the table `consumer_offsets` |
//! | claim | raising the epoch in the ledger's row: taking it over |
//! | epoch | counts the claims; *generation* counts the starts of reading within the process |
//! | fence | the commit's condition that the row is still at `from` and under our epoch |
//! | dead letter | a record that can't become a row, kept whole |
//! | gap | offsets that were moved past without having been read |
//! | halt | a partition that is not read until an operator says so |
//! | mirror | the committed positions, told to Kafka afterwards |
//! | lag | how far the ledger is behind the end of the log |
//! | stall | records wait and nothing is committed, for too long |

pub mod config;
pub mod engine;
pub mod booking;
pub mod telemetry;
pub mod commands;
pub mod servers;

// So that the README's example compiles, and goes on to.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
