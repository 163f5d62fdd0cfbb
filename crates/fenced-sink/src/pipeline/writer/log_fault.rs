//! Records a log fault in the row of its partition (rule 3).

use std::sync::Arc;

use super::Writer;
use crate::event::Event;
use crate::model::operation::DbOperation;
use crate::model::topic_log::{GapPolicy, GapReason};
use crate::pipeline::failure::failure;
use crate::pipeline::reports::{LogFaultReport, WriterReport};

/// The operator need not choose a position.
const TOO_LARGE_HINT: &str = "a batch does not fit into receive.message.max.bytes: raise it in KAFKA_PROPERTIES, then run \
                              `offsets resume`; nothing is lost";

/// The result of recording a log fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recorded {
    /// The partition is halted, and the gap is recorded.
    Halted,
    /// The partition moved past the gap, and the gap is recorded.
    Skipped,
    /// The row had changed: nothing was written.
    Fenced,
}

impl<E: Event> Writer<E> {
    /// Halts the partition, or moves it past the gap if the policy permits it.
    pub(super) async fn record_log_fault(&mut self, fault: LogFaultReport) -> sqlx::Result<()> {
        let recorded = match self.try_to_record(&fault).await {
            Ok(recorded) => recorded,
            Err(error) => {
                let text = self.explained(&error).await;
                let failure = failure(DbOperation::RecordGap, &error, text);
                self.context.log_failure(&[(fault.partition, failure.clone())]);
                let report = WriterReport::LogFaultNotRecorded(fault.partition, fault.generation, failure);
                self.context.scheduler.answer(report);
                return Err(error);
            }
        };
        let halted = recorded == Recorded::Halted;
        let (reason, health) = (fault.gap.reason, &self.context.health);
        if halted {
            health.halted(fault.partition, fault.at, reason.into());
        }
        if recorded != Recorded::Fenced {
            health.gap(reason, fault.gap.offsets());
        }
        self.context.scheduler.answer(WriterReport::LogFaultRecorded(fault.partition, fault.generation, halted));

        let (topic, partition, position) = (self.context.ledger.topic(), fault.partition.0, fault.at.0);
        let (from, to, reason) = (fault.gap.from.0, fault.gap.to.0, reason.as_str());
        match recorded {
            Recorded::Halted => {
                let hint = match fault.gap.reason {
                    GapReason::BatchTooLarge => TOO_LARGE_HINT,
                    _ => "see offset_gaps; `offsets resume --help` explains how to continue",
                };
                tracing::error!(topic, partition, position, reason, from, to, hint, "partition_halted");
            }
            Recorded::Skipped => tracing::warn!(topic, partition, reason, from, to, "gap_skipped"),
            Recorded::Fenced => tracing::warn!(topic, partition, position, "commit_fenced"),
        }
        Ok(())
    }

    async fn try_to_record(&mut self, fault: &LogFaultReport) -> sqlx::Result<Recorded> {
        let context = Arc::clone(&self.context);
        let session = self.session()?;
        let LogFaultReport { partition, epoch, at, gap, .. } = *fault;
        let policy = if gap.reason == GapReason::RetentionGap { context.gaps } else { GapPolicy::Halt };
        let record = session.run(|c| context.ledger.record_log_fault(c, partition, epoch, at, &gap, policy));
        Ok(match (record.await?, policy) {
            (false, _) => Recorded::Fenced,
            (true, GapPolicy::Halt) => Recorded::Halted,
            (true, GapPolicy::Skip) => Recorded::Skipped,
        })
    }
}
