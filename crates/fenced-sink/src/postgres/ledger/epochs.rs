//! The column `leader_epochs`.

use serde::Deserialize;
use std::collections::BTreeMap;

use crate::model::leader_epochs::{LeaderEpochs, Span};
use crate::model::record::{Digest, LeaderEpoch, Offset};

/// The first and the last record of each epoch.
type Records = BTreeMap<i32, (i64, i64)>;

#[derive(Deserialize)]
struct Column {
    records: Records,
    /// The digest of the last record, in hexadecimal digits. The statement that writes the column adds it, so that it is
    /// always that of the row.
    last_digest: String,
}

/// The records of each epoch, as the column has them.
pub(super) fn to_json(epochs: &LeaderEpochs) -> Option<String> {
    let records = epochs.spans().iter().map(|(epoch, span)| (epoch.0, (span.first.0, span.last.0)));
    serde_json::to_string(&records.collect::<Records>()).ok()
}

/// The epochs in the column. `None`: they are not the epochs of one log that was read up to this record. A program that
/// does not know the column can have moved the row, even to the same offset in another log.
pub(super) fn from_json(text: &str, last: Offset, digest: &Digest) -> Option<LeaderEpochs> {
    let Column { records, last_digest } = serde_json::from_str(text).ok()?;
    let span = |(epoch, (first, last))| (LeaderEpoch(epoch), Span { first: Offset(first), last: Offset(last) });
    let epochs = LeaderEpochs::new(records.into_iter().map(span).collect())?;
    // The Debug text of a digest is its hexadecimal digits.
    (epochs.last() == last && last_digest == format!("{digest:?}")).then_some(epochs)
}
