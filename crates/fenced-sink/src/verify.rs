//! Compares the tables with the topic log: reads the handled records again, and looks up each of them in the tables.
//!
//! The tables are read in one snapshot, which is taken before the first record is read. A service may continue to work:
//! its later commits lie above the positions of the snapshot, and are not in the snapshot. A verification writes
//! nothing and joins no consumer group. Its memory is bounded: a few chunks of records, and one bit for each row.
//!
//! While the verification runs, vacuum can't remove row versions that the snapshot can see.

mod report;
mod error;
mod plan;
mod topic;
mod row_ids;
mod extra;
mod record_check;
mod tally;
mod compare;

use std::collections::BTreeMap;

pub use self::error::VerifyError;
pub use self::report::{Finding, FindingKind, NotChecked, NotCheckedPart, Progress, Report, Scope};
use crate::event::Event;
use crate::model::record::{Partition, Step, TopicId};
use crate::pipeline::options::Options;
use crate::postgres::ledger::{Ledger, snapshot};
use crate::postgres::session::Session;
use crate::verify::compare::Comparer;
use crate::verify::extra::RowPages;
use crate::verify::plan::{PlanInputs, ahead, plan};
use crate::verify::topic::{TopicFacts, VerifiedTopic};

/// Compares the tables with the topic log, and reports each finding at once.
///
/// # Errors
/// Kafka or the database can't be used, or the topic log does not belong to the positions in `consumer_offsets`. What was
/// reported before the error is valid.
pub async fn verify<E: Event>(
    options: &Options,
    scope: &Scope,
    report: &mut (impl FnMut(Progress<'_>) + Send),
) -> Result<Report, VerifyError> {
    let ledger = Ledger::new(options.group_id.clone(), options.topic.clone(), String::new());
    let mut session = Session::connect(&options.database, options.database_timeout).await?;
    session.run(snapshot::lift_idle_limits).await?;
    let mut snapshot = session.begin_with(snapshot::BEGIN).await?;
    let mut counted = snapshot.run(|connection| ledger.counted_rows(connection)).await?;
    counted.retain(|partition, _| scope.partition.is_none_or(|requested| requested == *partition));
    if counted.is_empty() {
        return Err(VerifyError::Log(nothing_to_verify(options, scope)));
    }
    let gaps = snapshot.run(|connection| ledger.recorded_gaps(connection)).await?;
    let other_writer = snapshot.run(|connection| ledger.other_writer(connection)).await?;

    let topic = VerifiedTopic::new(options)?;
    let facts = topic.facts(scope.since).await?;
    facts.check_topic_id(&counted)?;
    let TopicFacts { bounds, since, compacted, topic_id } = facts;
    let inputs = PlanInputs { ledger: &counted, gaps: &gaps, other_writer, bounds: &bounds, since, compacted };
    let mut plan = plan(&inputs, scope).map_err(VerifyError::Log)?;

    let mut reporter = ProgressReporter { report, findings: 0, topic: &topic, topic_id };
    let mut comparer = Comparer::new(&ledger, &counted, plan.extra);
    reporter.begins("offsets", offsets(&plan.ranges));
    let mut reader = topic.read::<E>(&plan.ranges)?;
    while let Some((entries, passed)) = reporter.read(reader.next().await).await? {
        reporter.found(comparer.compare(&mut snapshot, &entries).await?).await?;
        reporter.done(passed);
    }
    let totals = comparer.totals(&plan.totals);
    if compacted.is_some() {
        reporter.found(totals).await?;
    } else {
        for finding in &totals {
            plan.leave_out_total(finding);
        }
    }
    let records = comparer.records();
    if plan.extra {
        if comparer.has_unexplained_rows::<E>(&mut snapshot).await? {
            // After a position was moved back, the table has rows of records beyond it.
            let ahead = ahead(&counted, &bounds);
            reporter.begins("offsets", offsets(&ahead));
            let mut reader = topic.read::<E>(&ahead)?;
            while let Some((entries, passed)) = reporter.read(reader.next().await).await? {
                comparer.compare(&mut snapshot, &entries).await?;
                reporter.done(passed);
            }
        }
        let explained = comparer.explained();
        reporter.begins("rows", explained.len());
        let mut pages = RowPages::<E>::new();
        while let Some(findings) = pages.next(&mut snapshot, explained).await? {
            if compacted.is_none() && !findings.is_empty() {
                plan.leave_out_extra();
                break;
            }
            reporter.found(findings).await?;
            reporter.done(pages.rows);
        }
    }
    snapshot.rollback().await?;
    reporter.ended().await?;
    Ok(Report { records, findings: reporter.findings, not_checked: plan.not_checked })
}

fn offsets(ranges: &BTreeMap<Partition, Step>) -> u64 {
    ranges.values().map(|range| range.to().0.abs_diff(range.from().0)).sum()
}

fn nothing_to_verify(options: &Options, scope: &Scope) -> String {
    let partition = scope.partition.map(|partition| format!(" partition {partition} of")).unwrap_or_default();
    format!(
        "the database has no position in{partition} topic {} for group {}: there is nothing to verify; check group, \
         topic and database",
        options.topic, options.group_id
    )
}

/// Reports the progress, and counts the findings. It reports a finding only while the topic is the one that the
/// verification began with: the records of another topic prove nothing about the tables.
struct ProgressReporter<'a, R> {
    report: &'a mut R,
    findings: u64,
    topic: &'a VerifiedTopic,
    topic_id: Option<TopicId>,
}

impl<R: FnMut(Progress<'_>) + Send> ProgressReporter<'_, R> {
    /// Returns what was read. After an error it first checks whether the topic was replaced: that is the cause then.
    async fn read<T>(&self, read: Result<T, VerifyError>) -> Result<T, VerifyError> {
        if read.is_err() {
            self.ended().await?;
        }
        read
    }

    /// Fails if the topic was replaced while it was read. If Kafka does not answer, it counts as the same topic.
    async fn ended(&self) -> Result<(), VerifyError> {
        match self.topic.is_same(self.topic_id.as_ref()).await {
            Some(false) => Err(self.topic.replaced()),
            Some(true) | None => Ok(()),
        }
    }

    fn begins(&mut self, items: &'static str, number: u64) {
        (self.report)(Progress::Begins(items, number));
    }

    fn done(&mut self, number: u64) {
        (self.report)(Progress::Done(number));
    }

    async fn found(&mut self, findings: Vec<Finding>) -> Result<(), VerifyError> {
        if !findings.is_empty() {
            match self.topic.is_same(self.topic_id.as_ref()).await {
                Some(true) => {}
                Some(false) => return Err(self.topic.replaced()),
                None => return Err(self.topic.unavailable(&"no answer about the id of the topic")),
            }
        }
        for finding in findings {
            self.findings += 1;
            (self.report)(Progress::Found(&finding));
        }
        Ok(())
    }
}
