//! Compares the tables with the log: reads again what was handled, and looks for each record in the tables.
//!
//! All that is compared with comes from one snapshot of the database, taken before the first record is read. So it is safe
//! beside a service that goes on working: what comes later is above the positions of the snapshot, and not in it. Nothing
//! is written, and no group is joined. Memory is bounded: some chunks of records, and one bit for each row.
//!
//! While it runs, the snapshot holds back the vacuum of the database.

mod ids;
mod judge;
mod tally;
mod plan;
mod compare;
mod topic;
mod extra;

use sqlx::Connection as _;
use std::collections::BTreeMap;

use crate::event::Event;
use crate::kafka::client::ConsumerError;
use crate::model::record::{Offset, Partition, Position, Step};
use crate::pipeline::options::Options;
use crate::postgres::ledger::{Ledger, snapshot};
use crate::postgres::session::{connect, within};
use crate::verify::compare::Comparer;
use crate::verify::extra::Pages;
use crate::verify::plan::{Plan, PlanInputs, ahead, plan};
use crate::verify::topic::{TopicFacts, VerifiedTopic};

/// What of the group's and topic's records is compared. What is `None` narrows nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Only this partition.
    pub partition: Option<Partition>,
    /// From this position on; without it, from where the totals are counted.
    pub from: Option<Position>,
    /// Up to this position; in any case not beyond the position that the ledger has.
    pub to: Option<Position>,
    /// From the first record of this time on, in milliseconds since 1970, by Kafka's index of timestamps. `from` wins.
    pub since: Option<i64>,
}

/// What kind of fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingKind {
    /// A record without a row, or without a dead letter, that should have one.
    Missing,
    /// A row that no record explains.
    Extra,
    /// A row or a dead letter with other content than the record that it was made of.
    Altered,
    /// Totals of the ledger that do not add up to the records.
    Total,
}

impl FindingKind {
    /// The word for it.
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

/// One place where the tables are not what the log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of fault it is.
    pub kind: FindingKind,
    /// Where the record stands; nobody knows it of a row that no record explains.
    pub partition: Option<Partition>,
    /// The record, if it is about one.
    pub offset: Option<Offset>,
    /// The event's key, if there is an event.
    pub key: Option<String>,
    /// What is wrong, without any of the record's content.
    pub detail: String,
}

/// What was not compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotCheckedPart {
    /// The records of these offsets.
    Records(Step),
    /// The totals of the partition.
    Totals,
    /// Whether there are rows that no record explains.
    Extra,
}

/// Something that nothing can be said about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotChecked {
    /// Of this partition.
    pub partition: Option<Partition>,
    /// What.
    pub what: NotCheckedPart,
    /// Why.
    pub why: String,
}

/// What a verification tells while it runs.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// A part begins: offsets to be read, or rows to be gone through, and about how many.
    Begins(&'static str, u64),
    /// So many of them are done.
    Done(u64),
    /// This was found.
    Found(&'a Finding),
}

/// The end of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Records that were read and compared.
    pub records: u64,
    /// How often [`Progress::Found`] was told.
    pub findings: u64,
    /// What the verification says nothing about.
    pub not_checked: Vec<NotChecked>,
}

/// Why nothing, or not all, could be compared.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Kafka's client can't be made.
    #[error(transparent)]
    Kafka(#[from] ConsumerError),
    /// The log is not there to be compared with, or does not fit the ledger.
    #[error("{0}")]
    Log(String),
    /// The log is damaged.
    #[error("{0}")]
    Corrupt(String),
    /// The database can't be used, or the snapshot is lost.
    #[error("the database can't be used: {0}")]
    Database(#[from] sqlx::Error),
}

/// Compares the tables with the log, and tells what it finds as it finds it.
///
/// # Errors
/// A server is of no use, or the log is not what the ledger is about. What was told before holds all the same.
pub async fn verify<E: Event>(
    options: &Options,
    scope: &Scope,
    tell: &mut (impl FnMut(Progress<'_>) + Send),
) -> Result<Report, VerifyError> {
    let limit = options.database_timeout;
    let ledger = Ledger::new(options.group_id.clone(), options.topic.clone(), String::new());
    let mut connection = connect(&options.database, limit).await?;
    within(limit, snapshot::let_it_last(&mut connection)).await?;
    let mut snapshot = within(limit, connection.begin_with(snapshot::BEGIN)).await?;
    let mut counted = within(limit, ledger.counted_rows(&mut snapshot)).await?;
    counted.retain(|partition, _| scope.partition.is_none_or(|one| one == *partition));
    if counted.is_empty() {
        return Err(VerifyError::Log(nothing_handled(options, scope)));
    }
    let gaps = within(limit, ledger.recorded_gaps(&mut snapshot)).await?;
    let neighbour = within(limit, ledger.other_writers(&mut snapshot)).await?;

    let topic = VerifiedTopic::new(options)?;
    let asked = topic.ask(scope.since).await?;
    asked.is_the_log_of(&counted)?;
    let TopicFacts { bounds, since, compacted, .. } = asked;
    let known = PlanInputs { ledger: &counted, gaps: &gaps, neighbour, bounds: &bounds, since, compacted };
    let Plan { ranges, totals, extra, not_checked } = plan(&known, scope).map_err(VerifyError::Log)?;

    let mut teller = ProgressReporter { tell, findings: 0 };
    let mut comparer = Comparer::new(&ledger, &counted, limit, extra);
    teller.begins("offsets", offsets(&ranges));
    let mut reading = topic.read::<E>(&ranges)?;
    while let Some((entries, passed)) = reading.next().await? {
        teller.found(comparer.compare(&mut snapshot, &entries).await?);
        teller.done(passed);
    }
    teller.found(comparer.totals(&totals));
    let records = comparer.records();
    if extra {
        if comparer.leaves_rows::<E>(&mut snapshot).await? {
            // Where a position was moved back, the rows of what lies ahead of it are there already.
            let ahead = ahead(&counted, &bounds);
            teller.begins("offsets", offsets(&ahead));
            let mut reading = topic.read::<E>(&ahead)?;
            while let Some((entries, passed)) = reading.next().await? {
                comparer.compare(&mut snapshot, &entries).await?;
                teller.done(passed);
            }
        }
        let explained = comparer.explained();
        teller.begins("rows", explained.len());
        let mut pages = Pages::<E>::new(limit);
        while let Some(findings) = pages.next(&mut snapshot, explained).await? {
            teller.found(findings);
            teller.done(pages.rows);
        }
    }
    within(limit, snapshot.rollback()).await?;
    Ok(Report { records, findings: teller.findings, not_checked })
}

fn offsets(ranges: &BTreeMap<Partition, Step>) -> u64 {
    ranges.values().map(|range| range.to().0.abs_diff(range.from().0)).sum()
}

fn nothing_handled(options: &Options, scope: &Scope) -> String {
    let partition = scope.partition.map(|partition| format!(" partition {partition} of")).unwrap_or_default();
    format!(
        "the database has no position in{partition} topic {} for group {}: there is nothing to verify; check group, \
         topic and database",
        options.topic, options.group_id
    )
}

/// Tells, and counts what was found.
struct ProgressReporter<'a, T> {
    tell: &'a mut T,
    findings: u64,
}

impl<T: FnMut(Progress<'_>)> ProgressReporter<'_, T> {
    fn begins(&mut self, what: &'static str, of: u64) {
        (self.tell)(Progress::Begins(what, of));
    }

    fn done(&mut self, so_many: u64) {
        (self.tell)(Progress::Done(so_many));
    }

    fn found(&mut self, findings: Vec<Finding>) {
        for finding in findings {
            self.findings += 1;
            (self.tell)(Progress::Found(&finding));
        }
    }
}
