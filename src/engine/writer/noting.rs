//! A fault of the log on its way into the row (rule 3).

use std::sync::Arc;

use super::Writer;
use crate::engine::assignment::Noting;
use crate::engine::event::Event;
use crate::engine::gap::{GapPolicy, GapReason};
use crate::engine::ledger::within;

/// What became of a fault that was to be noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// The partition is halted, and the gap on record.
    Halted,
    /// The partition was moved past the gap, which is on record.
    Skipped,
    /// The row was no longer as it was: nothing was done.
    Fenced,
}

impl<E: Event> Writer<E> {
    /// Notes a fault of the log in the row: halts the partition, or moves it past (rule 3).
    pub(super) async fn note(&mut self, noting: Noting) -> sqlx::Result<()> {
        let noted = self.try_to_note(&noting).await;
        let halted = matches!(noted, Ok(Noted::Halted));
        let (reason, health) = (noting.gap.reason.as_str(), &self.shared.health);
        if halted {
            health.halted(noting.partition, noting.at, reason);
        }
        if let Ok(Noted::Halted | Noted::Skipped) = noted {
            health.gap(reason, noting.gap.offsets());
        }
        self.shared.assignment.noted(&noting, halted);
        self.lines().noted(&noting, noted?);
        Ok(())
    }

    async fn try_to_note(&mut self, noting: &Noting) -> sqlx::Result<Noted> {
        let shared = Arc::clone(&self.shared);
        let connection = self.connected().await?;
        let Noting { partition, epoch, at, gap, .. } = noting;
        let (noted, as_what) = if gap.reason == GapReason::RetentionGap && shared.gaps == GapPolicy::Skip {
            (within(shared.rules.limit, shared.ledger.skip(connection, *partition, *epoch, gap)).await?, Noted::Skipped)
        } else {
            let halt = shared.ledger.halt(connection, *partition, *epoch, *at, gap);
            (within(shared.rules.limit, halt).await?, Noted::Halted)
        };
        Ok(if noted { as_what } else { Noted::Fenced })
    }
}
