//! The scope of a verification, and its report.

use crate::model::record::{Offset, Partition, Position, Step};

/// Which records of the group and topic are compared. A field that is `None` does not narrow anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Only this partition.
    pub partition: Option<Partition>,
    /// From this position on. Without it: from the position at which the totals begin.
    pub from: Option<Position>,
    /// Up to this position, but never beyond the position in `consumer_offsets`.
    pub to: Option<Position>,
    /// From the first record of this time on, in milliseconds since 1970, by Kafka's index of timestamps. `from` wins.
    pub since: Option<i64>,
}

/// A kind of difference between the tables and the topic log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingKind {
    /// A record has neither the row nor the dead letter that it must have.
    Missing,
    /// A row that no record explains.
    Extra,
    /// A row or a dead letter has other content than its record.
    Altered,
    /// The totals in `consumer_offsets` do not match the records.
    Total,
}

impl FindingKind {
    /// Its name for people and tools.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Altered => "altered",
            Self::Total => "total",
        }
    }
}

/// One difference between the tables and the topic log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of difference it is.
    pub kind: FindingKind,
    /// The partition of the record; `None` for a row that no record explains.
    pub partition: Option<Partition>,
    /// The offset of the record, if the finding concerns one.
    pub offset: Option<Offset>,
    /// The key of the event, if the finding concerns one.
    pub key: Option<String>,
    /// What is wrong, without any content of the record.
    pub detail: String,
}

/// A part of the comparison that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotCheckedPart {
    /// The records of these offsets.
    Records(Step),
    /// The totals of the partition.
    Totals,
    /// The search for rows that no record explains.
    Extra,
}

/// A part that a verification could not check, or that was not in its scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotChecked {
    /// The partition; `None` if it concerns all of them.
    pub partition: Option<Partition>,
    /// The part that was left out.
    pub what: NotCheckedPart,
    /// The reason, in words.
    pub why: String,
}

/// What a verification reports while it runs.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// A part begins. It reads items of this name ("offsets" or "rows"), about this number of them.
    Begins(&'static str, u64),
    /// The number of items of this part that are done.
    Done(u64),
    /// A difference was found.
    Found(&'a Finding),
}

/// The result of a verification that ran to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The number of records that were read and compared.
    pub records: u64,
    /// The number of [`Progress::Found`].
    pub findings: u64,
    /// What was not checked.
    pub not_checked: Vec<NotChecked>,
}
