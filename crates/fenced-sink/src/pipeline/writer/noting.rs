//! A fault of the log on its way into the row (rule 3).

use std::sync::Arc;

use crate::event::Event;
use crate::model::topic_log::{GapPolicy, GapReason};
use crate::pipeline::work::LogFaultReport;
use crate::pipeline::writer::Writer;
use crate::postgres::session::within;

/// What became of a fault that was to be noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogFaultOutcome {
    /// The partition is halted, and the gap on record.
    Halted,
    /// The partition was moved past the gap, which is on record.
    Skipped,
    /// The row was no longer as it was: nothing was done.
    Fenced,
}

impl<E: Event> Writer<E> {
    /// Notes a fault of the log in the row: halts the partition, or moves it past (rule 3).
    pub(super) async fn note(&mut self, noting: LogFaultReport) -> sqlx::Result<()> {
        let noted = self.try_to_note(&noting).await;
        let halted = matches!(noted, Ok(LogFaultOutcome::Halted));
        let (reason, health) = (noting.gap.reason, &self.shared.health);
        if halted {
            health.halted(noting.partition, noting.at, reason.into());
        }
        if let Ok(LogFaultOutcome::Halted | LogFaultOutcome::Skipped) = noted {
            health.gap(reason, noting.gap.offsets());
        }
        self.shared.assignment.noted(&noting, halted);
        self.lines().noted(&noting, noted?);
        Ok(())
    }

    async fn try_to_note(&mut self, noting: &LogFaultReport) -> sqlx::Result<LogFaultOutcome> {
        let shared = Arc::clone(&self.shared);
        let connection = self.connected().await?;
        let LogFaultReport { partition, epoch, at, gap, .. } = *noting;
        let policy = if gap.reason == GapReason::RetentionGap { shared.gaps } else { GapPolicy::Halt };
        let noted = shared.ledger.record_log_fault(connection, partition, epoch, at, &gap, policy);
        Ok(match (within(shared.rules.limit, noted).await?, policy) {
            (false, _) => LogFaultOutcome::Fenced,
            (true, GapPolicy::Halt) => LogFaultOutcome::Halted,
            (true, GapPolicy::Skip) => LogFaultOutcome::Skipped,
        })
    }
}
