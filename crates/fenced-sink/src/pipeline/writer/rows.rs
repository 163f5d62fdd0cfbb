//! Claims a row, or reads rows, and reports their content.

use std::sync::Arc;

use super::Writer;
use crate::event::Event;
use crate::model::operation::DbOperation;
use crate::model::protocol::{Generation, RowEffect, RowReadToken};
use crate::model::record::Partition;
use crate::model::stored_row::StoredRow;
use crate::pipeline::failure::failure;
use crate::pipeline::reports::WriterReport;

impl<E: Event> Writer<E> {
    /// Claims a row (rule 2). Creates the rows of the topic first if it is missing.
    pub(super) async fn claim(&mut self, partition: Partition, generation: Generation) -> sqlx::Result<()> {
        match self.try_to_claim(partition, generation).await {
            Ok(row) => {
                self.context.health.claimed(partition, row.as_ref().map(|row| row.row));
                let effect = self.context.scheduler.answer(WriterReport::Claimed(partition, generation, row));
                self.log(partition, effect);
                Ok(())
            }
            Err(error) => {
                let text = self.explained(&error).await;
                let failure = failure(DbOperation::Claim, &error, text);
                self.context.log_failure(&[(partition, failure.clone())]);
                self.context.scheduler.answer(WriterReport::ClaimFailed(partition, generation, failure));
                Err(error)
            }
        }
    }

    /// Before each update it asks whether the claim is still needed: a late claim would fence the new owner.
    async fn try_to_claim(&mut self, partition: Partition, generation: Generation) -> sqlx::Result<Option<StoredRow>> {
        let context = Arc::clone(&self.context);
        let wanted = || context.scheduler.is_claiming(partition, generation);
        let session = self.session()?;
        if !wanted() {
            return Ok(None);
        }
        let row = session.run(|connection| context.ledger.claim(connection, partition)).await?;
        if row.is_some() {
            return Ok(row);
        }
        let Some(first) = self.first_positions().await? else { return Ok(None) };
        let session = self.session()?;
        session.run(|connection| context.ledger.create_rows(connection, &first)).await?;
        if !wanted() {
            return Ok(None);
        }
        session.run(|connection| context.ledger.claim(connection, partition)).await
    }

    /// Reads rows (rule 7). The protocol decides what follows.
    pub(super) async fn read_rows(&mut self, rows: Vec<(Partition, RowReadToken)>) -> sqlx::Result<()> {
        let context = Arc::clone(&self.context);
        let partitions: Vec<Partition> = rows.iter().map(|(partition, _)| *partition).collect();
        let session = self.session()?;
        let found = session.run(|connection| context.ledger.read_rows(connection, &partitions)).await;
        let mut found = match found {
            Ok(found) => found,
            Err(error) => {
                let text = self.explained(&error).await;
                self.rows_not_read(&rows, &error, &text);
                return Err(error);
            }
        };
        let without_id = found.iter().filter(|(_, row)| row.known.topic_id.is_none());
        let without_id: Vec<Partition> = without_id.map(|(partition, _)| *partition).collect();
        for (partition, token) in rows {
            let row = found.remove(&partition);
            let halt_reason = row.as_ref().and_then(|row| row.halt_reason.clone());
            context.health.seen(partition, row.as_ref().map(|row| row.row), halt_reason);
            let effect = context.scheduler.answer(WriterReport::RowRead(partition, token, row));
            self.log(partition, effect);
        }
        // A commit stores the topic id, too. But an idle partition commits nothing.
        let learnt = context.scheduler.topic_ids(&without_id);
        if !learnt.is_empty() {
            let session = self.session()?;
            session.run(|connection| context.ledger.store_topic_ids(connection, &learnt)).await?;
        }
        Ok(())
    }

    fn rows_not_read(&self, rows: &[(Partition, RowReadToken)], error: &sqlx::Error, text: &str) {
        let failure =
            |(partition, _): &(Partition, _)| (*partition, failure(DbOperation::ReadRow, error, text.to_owned()));
        let failures: Vec<_> = rows.iter().map(failure).collect();
        self.context.log_failure(&failures);
        for ((partition, token), (_, failure)) in rows.iter().zip(failures) {
            self.context.scheduler.answer(WriterReport::RowNotRead(*partition, *token, failure));
        }
    }

    fn log(&self, partition: Partition, effect: RowEffect) {
        let (topic, partition) = (self.context.ledger.topic(), partition.0);
        match effect {
            RowEffect::Unchanged => {}
            RowEffect::Start(position) => tracing::debug!(topic, partition, position = position.0, "partition_placed"),
            RowEffect::Fenced => tracing::warn!(topic, partition, "partition_taken_over"),
            RowEffect::Halted => {
                tracing::error!(topic, partition, hint = "see consumer_offsets.halt_reason", "partition_halted");
            }
            RowEffect::ClaimAgain => tracing::debug!(topic, partition, "partition_to_be_claimed"),
        }
    }
}
