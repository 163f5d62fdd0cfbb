//! Asks Kafka for the first positions of partitions without a row.

use std::sync::Arc;

use super::Writer;
use crate::event::Event;
use crate::model::record::Partition;
use crate::model::start::{FirstPositions, first_positions};
use crate::model::topic_log::{CommittedOffset, PartitionExtent};

impl<E: Event> Writer<E> {
    /// `None`: Kafka did not answer. The writer asks again later. A missing answer never means "no position".
    pub(super) async fn first_positions(&mut self) -> sqlx::Result<Option<FirstPositions>> {
        let context = Arc::clone(&self.context);
        // The id first: if the topic is replaced between the two questions, the log check finds the difference before
        // anything is read.
        let asked = tokio::task::spawn_blocking(move || {
            let topic_id = context.topic_log.topic_id();
            match context.topic_log.extents(&context.service) {
                Ok(extents) => Some((topic_id, extents)),
                Err(error) => {
                    context.topic_log.log_error(&error);
                    None
                }
            }
        });
        let Ok(Some((topic_id, extents))) = asked.await else { return Ok(None) };
        self.warn_of_lost_rows(&extents).await?;
        Ok(Some(first_positions(topic_id, &extents, self.context.start)))
    }

    /// A partition that has a mirror in Kafka had a row. A partition without a mirror and without a row is normal: it
    /// was added to the topic.
    async fn warn_of_lost_rows(&mut self, extents: &[PartitionExtent]) -> sqlx::Result<()> {
        let mirrored = extents.iter().filter(|extent| extent.committed == Some(CommittedOffset::OurMirror));
        let mut lost: Vec<Partition> = mirrored.map(|extent| extent.partition).collect();
        let context = Arc::clone(&self.context);
        let session = self.session()?;
        let rows = session.run(|connection| context.ledger.read_rows(connection, &lost)).await?;
        lost.retain(|partition| !rows.contains_key(partition));
        if !lost.is_empty() {
            let partitions = lost.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            tracing::warn!(
                topic = context.ledger.topic(),
                partitions,
                hint = "Kafka holds positions that this service committed, but consumer_offsets has no row: the database \
                        lost it. Such a partition is read from its beginning",
                "positions_missing"
            );
        }
        Ok(())
    }
}
