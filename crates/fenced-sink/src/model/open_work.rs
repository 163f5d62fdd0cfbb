//! What waits for an operator in the tables of a group and topic. Pure.

use crate::model::halt::HaltReason;
use crate::model::record::{Partition, Position};

/// The dead letters and gaps that are not closed. Each is read alone: an error of the database hides only what was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenWork {
    /// The letters that are neither resolved nor discarded, by reason, or the error.
    pub letters: Result<Vec<OpenLetters>, String>,
    /// The newest gaps that are not acknowledged, the newest first, or the error.
    pub gaps: Result<Vec<OpenGap>, String>,
}

/// The open dead letters with one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenLetters {
    /// The text in `dead_letters.reason`.
    pub reason: String,
    /// The letters that a running instance tries again.
    pub waiting: u64,
    /// The letters that only an operator can close.
    pub parked: u64,
}

/// A gap that is not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenGap {
    /// `offset_gaps.id`.
    pub id: i64,
    /// The partition.
    pub partition: Partition,
    /// The first offset.
    pub from: Position,
    /// The first offset behind the gap.
    pub to: Position,
    /// Why it is a gap: a gap has the same texts as a halt.
    pub reason: HaltReason,
    /// Whether its partition is halted.
    pub halted: bool,
}
