//! Asks the leaders where leader epochs end in their logs (KIP-320, `OffsetForLeaderEpoch`).
//!
//! librdkafka has no function for this request. It sends the request itself when it learns the leader of a partition
//! that has a position with a leader epoch. It compares the end of the epoch with the position, and reports a lower end
//! as an error whose text has the end. So a new client takes a position that no log has.
//!
//! The text is that of the pinned version of librdkafka. `tests/it/topic_log/unclean.rs` fails if it changes.

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::Offset as KafkaOffset;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::kafka::ffi;
use crate::model::leader_epochs::EpochEnd;
use crate::model::record::{LeaderEpoch, Partition, Position};

/// A position above the end of every log.
const ABOVE_ALL: i64 = 1 << 62;
/// A client that learns the leader before it has the position does not send the request. Then another client must send
/// it. If none of this number of clients has an answer in its error, the broker does not support the request.
const CLIENTS: u32 = 3;

/// The end of one leader epoch for each partition. A partition whose leader does not answer before `limit` has no entry.
/// Blocks.
pub(crate) fn epoch_ends(
    config: &ClientConfig,
    topic: &str,
    asked: &BTreeMap<Partition, LeaderEpoch>,
    limit: Duration,
) -> KafkaResult<BTreeMap<Partition, EpochEnd>> {
    let (until, mut ends) = (Instant::now() + limit, BTreeMap::new());
    for client in 1..=CLIENTS {
        let mut open: BTreeMap<_, _> = asked.iter().filter(|(partition, _)| !ends.contains_key(*partition)).collect();
        if open.is_empty() {
            break;
        }
        let mut list = TopicPartitionList::new();
        for partition in open.keys() {
            list.add_partition_offset(topic, partition.0, KafkaOffset::Offset(ABOVE_ALL))?;
        }
        ffi::set_leader_epochs(&list, open.values().map(|epoch| Some(**epoch)));
        let consumer: BaseConsumer = config.create()?;
        consumer.assign(&list)?;
        while !open.is_empty() && Instant::now() < until {
            let wait = until.saturating_duration_since(Instant::now());
            let Some((partition, RDKafkaErrorCode::AutoOffsetReset, text)) = ffi::poll_error(&consumer, wait) else {
                continue;
            };
            if open.remove(&partition).is_some() {
                match epoch_end(&text) {
                    Some(end) => drop(ends.insert(partition, end)),
                    None if client == CLIENTS => drop(ends.insert(partition, EpochEnd::Unsupported)),
                    None => {}
                }
            }
        }
    }
    Ok(ends)
}

/// The answer in the text of the error. `None`: the client did not send the request.
fn epoch_end(text: &str) -> Option<EpochEnd> {
    let (_, answer) = text.split_once("broker end offset is ")?;
    let (end, answer) = answer.split_once(" (offset leader epoch ")?;
    let (epoch, _) = answer.split_once(')')?;
    let (end, epoch): (i64, i32) = (end.parse().ok()?, epoch.parse().ok()?);
    Some(if end < 0 || epoch < 0 { EpochEnd::TooNew } else { EpochEnd::At(LeaderEpoch(epoch), Position(end)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_the_error_has_the_end_of_the_epoch() {
        let check = |text, expected| assert_eq!(epoch_end(text), expected, "{text}");
        check(
            "Partition log truncation detected at offset 4611686018427387904 (leader epoch 3): broker end offset is 100 \
             (offset leader epoch 2). Reset to INVALID.: Local: Partition log truncation detected (broker 1)",
            Some(EpochEnd::At(LeaderEpoch(2), Position(100))),
        );
        check(
            "No epoch found less or equal to offset 9 (leader epoch 3): broker end offset is -1 (offset leader epoch -1). \
             Reset using configured policy.: Local: Partition log truncation detected (broker 1)",
            Some(EpochEnd::TooNew),
        );
        check("fetch failed due to requested offset not available on the broker: Broker: Offset out of range", None);
    }
}
