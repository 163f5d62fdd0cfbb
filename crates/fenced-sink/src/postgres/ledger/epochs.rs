//! The column `leader_epochs`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::model::leader_epochs::LeaderEpochs;
use crate::model::record::{LeaderEpoch, Offset};

#[derive(Serialize, Deserialize)]
struct Column {
    last_offset: i64,
    first_offsets: BTreeMap<i32, i64>,
}

/// The text of the column.
pub(super) fn to_json(epochs: &LeaderEpochs) -> Option<String> {
    let first_offsets = epochs.starts().iter().map(|(epoch, first)| (epoch.0, first.0)).collect();
    serde_json::to_string(&Column { last_offset: epochs.last().0, first_offsets }).ok()
}

/// The epochs in the column. `None`: they are not the epochs of one log that was read up to `last`.
pub(super) fn from_json(text: &str, last: Offset) -> Option<LeaderEpochs> {
    let Column { last_offset, first_offsets } = serde_json::from_str(text).ok()?;
    let starts = first_offsets.into_iter().map(|(epoch, first)| (LeaderEpoch(epoch), Offset(first))).collect();
    LeaderEpochs::new(Offset(last_offset), starts).filter(|epochs| epochs.last() == last)
}
