//! Asks the leaders where leader epochs end in their logs (KIP-320, `OffsetForLeaderEpoch`).
//!
//! librdkafka has no function for this request. It sends the request itself when it learns the leader of a partition
//! that has a position with a leader epoch. It compares the end of the epoch with the position, and reports a lower end
//! as an error whose text has the end. So a new client takes a position that no log has.
//!
//! The text is that of the pinned version of librdkafka. `tests/it/topic_log/unclean.rs` fails if it changes.

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::Offset as KafkaOffset;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::kafka::ffi;
use crate::kafka::last_error::{Client, LastError};
use crate::model::leader_epochs::EpochEnd;
use crate::model::record::{LeaderEpoch, Partition, Position};

/// A position above the end of every log.
const ABOVE_ALL: i64 = 1 << 62;
/// A client that learns the leader before it has the position does not send the request. Then another client must send
/// it. If none of this number of clients has an answer in its error, the answer is [`EpochEnd::Unsupported`].
const CLIENTS: u32 = 3;
/// At most this many clients exist at once, those included that are being dropped.
const CLIENTS_AT_ONCE: usize = 8;

/// Asks about the epochs of one topic. Any thread may ask.
pub(super) struct EpochEnds {
    config: ClientConfig,
    topic: String,
    clients: Arc<ClientCount>,
}

/// The number of clients that exist.
#[derive(Default)]
struct ClientCount {
    count: Mutex<usize>,
    fewer: Condvar,
}

/// One of the clients that may exist.
struct ClientPermit(Arc<ClientCount>);

impl EpochEnds {
    pub(super) fn new(config: &ClientConfig, topic: &str) -> Self {
        let mut config = config.clone();
        // No messages: [`ffi::poll_error`] would print them.
        config.set_log_level(RDKafkaLogLevel::Emerg);
        Self { config, topic: topic.to_owned(), clients: Arc::default() }
    }

    /// The end of one leader epoch for each partition. A partition whose leader does not answer before `limit` has no
    /// entry. Blocks, until `limit` at most.
    pub(super) fn ask(
        &self,
        asked: &BTreeMap<Partition, LeaderEpoch>,
        limit: Duration,
    ) -> KafkaResult<BTreeMap<Partition, EpochEnd>> {
        let (until, mut ends) = (Instant::now() + limit, BTreeMap::new());
        for client in 1..=CLIENTS {
            let open: BTreeMap<_, _> = asked.iter().filter(|(partition, _)| !ends.contains_key(*partition)).collect();
            if open.is_empty() {
                break;
            }
            let Some(permit) = self.clients.permit(until) else { break };
            let answered = self.ask_through_client(permit, open, until, &mut |partition, end| {
                let end = end.or_else(|| (client == CLIENTS).then_some(EpochEnd::Unsupported));
                ends.extend(end.map(|end| (partition, end)));
            });
            if answered.is_err() && ends.is_empty() {
                answered?;
            }
        }
        Ok(ends)
    }

    /// Asks, and reports each answer as it arrives. An answer of `None`: the client did not ask.
    fn ask_through_client(
        &self,
        permit: ClientPermit,
        mut open: BTreeMap<&Partition, &LeaderEpoch>,
        until: Instant,
        answered: &mut impl FnMut(Partition, Option<EpochEnd>),
    ) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        for partition in open.keys() {
            list.add_partition_offset(&self.topic, partition.0, KafkaOffset::Offset(ABOVE_ALL))?;
        }
        ffi::set_leader_epochs(&list, open.values().map(|epoch| Some(**epoch)));
        let consumer: Client = self.config.create_with_context(LastError::default())?;
        consumer.assign(&list)?;
        while !open.is_empty() && Instant::now() < until {
            let wait = until.saturating_duration_since(Instant::now());
            let Some((partition, RDKafkaErrorCode::AutoOffsetReset, text)) = ffi::poll_error(&consumer, wait) else {
                continue;
            };
            if open.remove(&partition).is_some() {
                answered(partition, epoch_end(&text));
            }
        }
        // The drop of a client blocks while a broker is frozen. Without a thread, the client is dropped here.
        let drop_both = move || drop((consumer, permit));
        drop(thread::Builder::new().name("epoch client".to_owned()).spawn(drop_both));
        Ok(())
    }
}

impl ClientCount {
    /// Waits until another client may exist. `None`: not in time.
    fn permit(self: &Arc<Self>, until: Instant) -> Option<ClientPermit> {
        let wait = until.saturating_duration_since(Instant::now());
        let full = |count: &mut usize| *count >= CLIENTS_AT_ONCE;
        let (mut count, _) =
            self.fewer.wait_timeout_while(self.lock(), wait, full).unwrap_or_else(PoisonError::into_inner);
        if *count >= CLIENTS_AT_ONCE || Instant::now() >= until {
            return None;
        }
        *count = count.saturating_add(1);
        Some(ClientPermit(Arc::clone(self)))
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ClientPermit {
    fn drop(&mut self) {
        let mut count = self.0.lock();
        *count = count.saturating_sub(1);
        self.0.fewer.notify_one();
    }
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
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;
    use rdkafka::types::RDKafkaApiKey;

    const LIMIT: Duration = Duration::from_secs(10);

    /// A topic with one partition on each of two brokers, and the question for an epoch of each partition.
    fn two_leaders() -> (MockCluster<'static, DefaultProducerContext>, EpochEnds, BTreeMap<Partition, LeaderEpoch>) {
        let cluster = MockCluster::new(2).expect("a mock cluster");
        cluster.create_topic("topic", 2, 1).expect("a topic");
        for (partition, broker) in [(0, 1), (1, 2)] {
            cluster.partition_leader("topic", partition, Some(broker)).expect("a leader");
        }
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers()).set("group.id", "group");
        config.set("auto.offset.reset", "error");
        (cluster, EpochEnds::new(&config, "topic"), [0, 1].map(|one| (Partition(one), LeaderEpoch(0))).into())
    }

    #[test]
    fn a_broker_answers_or_is_known_to_give_no_answer() {
        let (cluster, epoch_ends, asked) = two_leaders();
        let answers = epoch_ends.ask(&asked, LIMIT).expect("a client");
        assert_eq!(answers.len(), 2);
        assert!(!answers.values().any(|end| *end == EpochEnd::Unsupported), "{answers:?}");
        cluster.apiversion(RDKafkaApiKey::OffsetForLeaderEpoch, None, None).expect("other versions");
        let unsupported = [0, 1].map(|one| (Partition(one), EpochEnd::Unsupported)).into();
        assert_eq!(epoch_ends.ask(&asked, LIMIT).expect("a client"), unsupported);
    }

    #[test]
    fn a_leader_that_does_not_answer_hides_no_other() {
        let (cluster, epoch_ends, asked) = two_leaders();
        cluster.broker_round_trip_time(2, Duration::from_mins(10)).expect("a slow broker");
        let answers = epoch_ends.ask(&asked, Duration::from_secs(3)).expect("a client");
        assert_eq!(answers.keys().collect::<Vec<_>>(), [&Partition(0)]);
    }

    #[test]
    fn the_number_of_clients_is_limited_and_none_is_created_after_the_limit() {
        let (clients, soon) = (Arc::new(ClientCount::default()), || Instant::now() + Duration::from_millis(10));
        let mut permits: Vec<_> = (0..CLIENTS_AT_ONCE).filter_map(|_| clients.permit(Instant::now() + LIMIT)).collect();
        assert_eq!(permits.len(), CLIENTS_AT_ONCE);
        assert!(clients.permit(soon()).is_none());
        permits.pop();
        assert!(clients.permit(Instant::now()).is_none());
        assert!(clients.permit(Instant::now() + LIMIT).is_some());
    }

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
