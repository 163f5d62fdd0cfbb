//! Questions about a topic and its partition logs: bounds, timestamps, topic id.
//!
//! A separate client asks them. It joins no group and commits nothing. After the start it never delays the consumer thread,
//! and the consumer thread never delays it.

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::metadata::{Metadata, MetadataBroker, MetadataPartition, MetadataTopic};
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionListElem};
use rdkafka::types::RDKafkaErrorCode;
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use crate::kafka::client::{configuration, partition_list, without_membership};
use crate::kafka::epoch_ends::EpochEnds;
use crate::kafka::error::{KafkaErrorKind, KafkaNames, code_kind, hint, warn};
use crate::kafka::ffi::{self, TopicDescription};
use crate::kafka::last_error::Client;
use crate::kafka::reused_client::ReusedClient;
use crate::model::kafka_refusal::{KafkaFact, KafkaNeed, KafkaRefusal};
use crate::model::leader_epochs::EpochEnd;
use crate::model::record::{LeaderEpoch, Partition, Position, TopicId};
use crate::model::topic_log::{CommittedOffset, LogBounds, PartitionExtent};

/// The default limit for one question.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The wait before a question is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// How long to wait for the next event that a client has queued.
const DRAIN: Duration = Duration::from_millis(10);

/// Kafka did not answer in time, or refused the question. `Display` says why, and what to do.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{error}; {hint}")]
pub struct TopicLogError {
    kind: KafkaErrorKind,
    error: String,
    hint: String,
}

impl TopicLogError {
    /// Why there is no answer.
    #[must_use]
    pub fn error(&self) -> &str {
        &self.error
    }

    /// What to do.
    #[must_use]
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

/// Whether Kafka permits this user to read, by the operations that it lists (KIP-430).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadPermission {
    /// READ is listed.
    Listed,
    /// Other operations are listed, and READ is not.
    NotListed,
    /// The broker lists no operations.
    NotVisible,
}

impl ReadPermission {
    fn of(lists_read: Option<bool>, lists_any: bool) -> Self {
        match lists_read {
            Some(true) => Self::Listed,
            Some(false) if lists_any => Self::NotListed,
            Some(false) | None => Self::NotVisible,
        }
    }
}

/// Asks the brokers about one topic. Every method blocks for a bounded time. Any thread may call it.
pub struct TopicLogClient {
    topic: String,
    names: KafkaNames,
    /// The limit for one question.
    timeout: Duration,
    epoch_ends: EpochEnds,
    client: ReusedClient,
    /// For this client the end of a partition log includes the records of open transactions.
    uncommitted: ReusedClient,
}

impl TopicLogClient {
    /// A client for `topic`. It connects at the first question.
    #[must_use]
    pub fn new(properties: &BTreeMap<String, String>, topic: &str) -> Self {
        let config = configuration(&without_membership(properties));
        let mut uncommitted = config.clone();
        uncommitted.set("isolation.level", "read_uncommitted");
        let epoch_ends = EpochEnds::new(&config, topic);
        let (client, uncommitted) = (ReusedClient::new(config), ReusedClient::new(uncommitted));
        let names = KafkaNames::new(properties, topic);
        Self { topic: topic.to_owned(), names, timeout: TIMEOUT, epoch_ends, client, uncommitted }
    }

    /// The same client with another limit for one question.
    pub(crate) fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The bounds of every partition, and the committed offset of the group. A question without an answer is an error:
    /// it never means that the group has no committed offset.
    ///
    /// An offset with the metadata `mirror` is this service's own mirror.
    pub(crate) fn extents(&self, mirror: &str) -> Result<Vec<PartitionExtent>, TopicLogError> {
        self.ask(&self.client, |client| self.extents_through(client, mirror))
    }

    fn extents_through(&self, client: &Client, mirror: &str) -> KafkaResult<Vec<PartitionExtent>> {
        let bounds = all(self.bounds_through(client, |_| true)?)?;
        let committed = client.committed_offsets(partition_list(&self.topic, bounds.keys().copied()), self.timeout)?;
        let metadata = ffi::metadata(&committed);
        let extent = |(element, metadata): (TopicPartitionListElem<'_>, Vec<u8>)| {
            element.error()?;
            let partition = Partition(element.partition());
            let committed = match element.offset() {
                KafkaOffset::Offset(_) if metadata == mirror.as_bytes() => Some(CommittedOffset::OurMirror),
                KafkaOffset::Offset(position) => Some(CommittedOffset::Foreign(Position(position))),
                _ => None,
            };
            Ok(bounds.get(&partition).map(|&LogBounds { start, end }| PartitionExtent {
                partition,
                start,
                end,
                committed,
            }))
        };
        committed.elements().into_iter().zip(metadata).filter_map(|pair| extent(pair).transpose()).collect()
    }

    /// Logs the error of a question, with its limit for lines about one kind of error.
    pub(crate) fn log_error(&self, TopicLogError { kind, error, .. }: &TopicLogError) {
        // The other kinds speak of records that are read.
        let is_known = matches!(kind, KafkaErrorKind::Refused(_) | KafkaErrorKind::TopicMissing);
        warn(&self.names, None, if is_known { *kind } else { KafkaErrorKind::Transient }, error);
    }

    /// The bounds of every partition log of the topic.
    ///
    /// # Errors
    /// Kafka did not answer in time, or refused the question.
    pub fn bounds(&self) -> Result<BTreeMap<Partition, LogBounds>, TopicLogError> {
        self.ask(&self.client, |client| all(self.bounds_through(client, |_| true)?))
    }

    /// The bounds of every partition log whose leader answered. A partition without an answer does not hide the others.
    pub(crate) fn known_bounds(&self) -> BTreeMap<Partition, LogBounds> {
        self.known_bounds_through(&self.client)
    }

    /// The end of every partition log whose leader answered: the position behind its last record, open transactions
    /// included.
    pub(crate) fn last_ends(&self) -> BTreeMap<Partition, Position> {
        let bounds = self.known_bounds_through(&self.uncommitted);
        bounds.into_iter().map(|(partition, bounds)| (partition, bounds.end)).collect()
    }

    fn known_bounds_through(&self, client: &ReusedClient) -> BTreeMap<Partition, LogBounds> {
        let has_leader = |partition: &MetadataPartition| partition.leader() >= 0;
        let (mut known, mut errors) = (BTreeMap::new(), Vec::new());
        match self.ask(client, |client| self.bounds_through(client, has_leader)) {
            Ok(answers) => {
                for (partition, answer) in answers {
                    match answer {
                        Ok(bounds) => drop(known.insert(partition, bounds)),
                        Err(error) => errors.push(error),
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "log_not_seen"),
        }
        if errors.iter().any(is_stale) {
            client.replace();
        }
        if let Some(error) = errors.first() {
            tracing::debug!(%error, partitions = errors.len(), "log_not_seen");
        }
        known
    }

    /// The end of one leader epoch for each partition, in the log of its leader. A partition whose leader does not answer
    /// has no entry.
    pub(crate) fn epoch_ends(
        &self,
        asked: &BTreeMap<Partition, LeaderEpoch>,
    ) -> Result<BTreeMap<Partition, EpochEnd>, TopicLogError> {
        self.epoch_ends.ask(asked, self.timeout).map_err(|error| self.explained(&error, None))
    }

    /// The id of the topic that has the name now. `None`: Kafka did not answer, or its topics have no ids.
    pub fn topic_id(&self) -> Option<TopicId> {
        self.describe(self.timeout).ok()?.id
    }

    /// The id of the topic, and what Kafka permits this user to do. `reconnect`: a new client asks, because an existing
    /// connection does not prove that Kafka accepts the password.
    pub(crate) fn check_access(&self, reconnect: bool) -> (Option<TopicId>, Vec<KafkaFact>) {
        let is_new = self.client.replace_if(reconnect);
        // A broker can answer a login late, above all a wrong one.
        let described = self.describe(if is_new { self.timeout.max(TIMEOUT) } else { self.timeout });
        if let Err(TopicLogError { kind, error, .. }) = &described
            && !matches!(kind, KafkaErrorKind::Unclassified | KafkaErrorKind::Fatal)
        {
            warn(&self.names, None, *kind, error);
        }
        let facts = facts(&described, is_new, &self.names);
        (described.ok().and_then(|description| description.id), facts)
    }

    /// Whether this user may read the topic.
    ///
    /// # Errors
    /// Kafka did not answer in time, does not show the topic, or has none with this name.
    pub fn topic_permission(&self) -> Result<ReadPermission, TopicLogError> {
        let description = self.describe(self.timeout)?;
        Ok(ReadPermission::of(description.lists_read, description.lists_any))
    }

    /// Whether this user may read the consumer group of the properties, which is the permission to join it.
    ///
    /// # Errors
    /// Kafka did not answer in time, or does not show the group.
    pub fn group_permission(&self) -> Result<ReadPermission, TopicLogError> {
        self.ask(&self.client, |client| match ffi::describe_group(client, &self.names.group, self.timeout) {
            Ok((lists_read, lists_any)) => Ok(ReadPermission::of(lists_read, lists_any)),
            // Kafka shows that there is no such group yet.
            Err(RDKafkaErrorCode::GroupIdNotFound) => Ok(ReadPermission::NotVisible),
            Err(code) => Err(KafkaError::Global(code)),
        })
    }

    fn describe(&self, limit: Duration) -> Result<TopicDescription, TopicLogError> {
        self.ask(&self.client, |client| {
            let metadata = self.metadata(client, limit)?;
            // The broker that answered, if its number is known; otherwise any broker.
            let broker = Some(metadata.orig_broker_id()).filter(|id| *id >= 0);
            let broker = broker.or_else(|| metadata.brokers().first().map(MetadataBroker::id));
            let describe = |broker| ffi::describe_topic(client, &self.topic, broker, limit);
            Ok(broker.and_then(describe).unwrap_or_default())
        })
    }

    /// The number of partitions of the topic.
    ///
    /// # Errors
    /// Kafka did not answer in time, does not show the topic, or has none with this name.
    pub fn partition_count(&self) -> Result<usize, TopicLogError> {
        self.ask(&self.client, |client| {
            let metadata = self.metadata(client, self.timeout)?;
            Ok(metadata.topics().iter().map(|topic| topic.partitions().len()).sum())
        })
    }

    fn metadata(&self, client: &Client, limit: Duration) -> KafkaResult<Metadata> {
        let metadata = client.fetch_metadata(Some(&self.topic), limit)?;
        match metadata.topics().iter().find_map(MetadataTopic::error) {
            Some(error) => Err(KafkaError::MetadataFetch(error.into())),
            None => Ok(metadata),
        }
    }

    /// For each partition the position of the first record with a timestamp of `millis` since 1970 or later, by Kafka's
    /// index of timestamps. Without such a record it is the end of the partition log.
    ///
    /// # Errors
    /// Kafka did not answer in time, or refused the question.
    pub fn at_timestamp(&self, millis: i64) -> Result<BTreeMap<Partition, Position>, TopicLogError> {
        self.ask(&self.client, |client| self.at_timestamp_through(client, millis))
    }

    fn at_timestamp_through(&self, client: &Client, millis: i64) -> KafkaResult<BTreeMap<Partition, Position>> {
        let bounds = all(self.bounds_through(client, |_| true)?)?;
        // The protocol gives negative numbers another meaning, and no record is older than 0.
        let millis = KafkaOffset::Offset(millis.max(0));
        let mut found = all(self.offsets(client, bounds.keys().copied(), millis, self.timeout)?)?;
        for (partition, bounds) in bounds {
            found.entry(partition).or_insert(bounds.end);
        }
        Ok(found)
    }

    /// Asks through the current client. Then replaces the client if its own state may be the reason that it received no
    /// answer. If client and broker know different leaders, asks again: one of them does not know a new leader yet.
    fn ask<T>(&self, client: &ReusedClient, question: impl Fn(&Client) -> KafkaResult<T>) -> Result<T, TopicLogError> {
        let until = Instant::now() + self.timeout;
        loop {
            let current = client.get().map_err(|error| self.explained(&error, None))?;
            let answer = question(&current);
            // Drain the queued events: librdkafka keeps them otherwise. They have the cause of a failed connection, which can
            // come shortly after the failure.
            while ffi::has_events(&current) || answer.is_err() && current.poll(DRAIN).is_some() {
                current.poll(Duration::ZERO);
            }
            let error = match answer {
                Ok(answer) => {
                    current.context().clear();
                    return Ok(answer);
                }
                Err(error) => error,
            };
            if is_stale(&error) {
                client.replace();
            }
            if !is_other_leader(&error) || Instant::now() >= until {
                return Err(self.explained(&error, current.context().get()));
            }
            thread::sleep(ASK_AGAIN);
        }
    }

    /// The error of a question, or the last error of the client if that one has the cause.
    fn explained(&self, error: &KafkaError, last: Option<(KafkaErrorKind, String)>) -> TopicLogError {
        let kind = error.rdkafka_error_code().map_or(KafkaErrorKind::Unclassified, code_kind);
        let is_vague = matches!(kind, KafkaErrorKind::Transient | KafkaErrorKind::AllBrokersDown);
        let (kind, error) = last.filter(|_| is_vague).unwrap_or_else(|| (kind, error.to_string()));
        TopicLogError { kind, hint: hint(kind, &error, &self.names), error }
    }

    fn bounds_through(
        &self,
        client: &Client,
        asked: fn(&MetadataPartition) -> bool,
    ) -> KafkaResult<Answers<LogBounds>> {
        let metadata = self.metadata(client, self.timeout)?;
        let mut leaders: BTreeMap<i32, Vec<Partition>> = BTreeMap::new();
        for one in metadata.topics().iter().flat_map(MetadataTopic::partitions).filter(|one| asked(one)) {
            leaders.entry(one.leader()).or_default().push(Partition(one.id()));
        }
        let ask = |partitions: &[Partition]| self.bounds_of_leader(client, partitions);
        let answers = thread::scope(|scope| {
            let start = |partitions| (partitions, thread::Builder::new().spawn_scoped(scope, move || ask(partitions)));
            let started: Vec<_> = leaders.values().map(Vec::as_slice).map(start).collect();
            let answers = started.into_iter().flat_map(|(partitions, thread)| {
                // Without a thread, this one asks.
                thread.ok().and_then(|thread| thread.join().ok()).unwrap_or_else(|| ask(partitions))
            });
            answers.collect()
        });
        Ok(answers)
    }

    /// The bounds of partitions that have one leader. Each leader is asked by itself: librdkafka returns no answer of a
    /// request if another leader does not answer in time.
    fn bounds_of_leader(&self, client: &Client, partitions: &[Partition]) -> Answers<LogBounds> {
        let starts = self.offsets_of_leader(client, partitions, KafkaOffset::Beginning);
        let answered: Vec<_> = starts.iter().filter(|(_, start)| start.is_ok()).map(|(one, _)| *one).collect();
        let mut ends = self.offsets_of_leader(client, &answered, KafkaOffset::End);
        let bounds = starts.into_iter().filter_map(|(partition, start)| {
            let bounds = match start {
                Ok(start) => ends.remove(&partition)?.map(|end| LogBounds { start, end }),
                Err(error) => Err(error),
            };
            Some((partition, bounds))
        });
        bounds.collect()
    }

    /// librdkafka returns no answer of a leader if the leader refuses one partition. Then each partition is asked by
    /// itself, in equal parts of the remaining time.
    fn offsets_of_leader(&self, client: &Client, partitions: &[Partition], of: KafkaOffset) -> Answers<Position> {
        let until = Instant::now() + self.timeout;
        if partitions.is_empty() {
            return Answers::new();
        }
        match self.offsets(client, partitions.iter().copied(), of, self.timeout) {
            Ok(answers) => answers,
            Err(error) if partitions.len() == 1 || is_no_answer(&error) => {
                partitions.iter().map(|partition| (*partition, Err(error.clone()))).collect()
            }
            Err(_) => {
                let mut answers = Answers::new();
                for (partition, left) in partitions.iter().zip((1..=partitions.len()).rev()) {
                    let limit =
                        until.saturating_duration_since(Instant::now()) / u32::try_from(left).unwrap_or(u32::MAX);
                    match self.offsets(client, [*partition], of, limit) {
                        Ok(answer) => answers.extend(answer),
                        Err(error) => drop(answers.insert(*partition, Err(error))),
                    }
                }
                answers
            }
        }
    }

    /// Sends one `ListOffsets` request to each leader, where -2 means the start, -1 the end, and any other number a
    /// timestamp. A partition without such an offset is left out.
    fn offsets(
        &self,
        client: &Client,
        partitions: impl IntoIterator<Item = Partition>,
        of: KafkaOffset,
        limit: Duration,
    ) -> KafkaResult<Answers<Position>> {
        let mut list = partition_list(&self.topic, partitions);
        list.set_all_offsets(of)?;
        let answer = client.offsets_for_times(list, limit)?;
        let position = |element: TopicPartitionListElem<'_>| match (element.error(), element.offset()) {
            (Err(error), _) => Some((Partition(element.partition()), Err(error))),
            (Ok(()), KafkaOffset::Offset(offset)) => Some((Partition(element.partition()), Ok(Position(offset)))),
            (Ok(()), _) => None,
        };
        Ok(answer.elements().into_iter().filter_map(position).collect())
    }
}

/// What an answer about the topic proves. `is_new`: the client connected for this question.
fn facts(described: &Result<TopicDescription, TopicLogError>, is_new: bool, names: &KafkaNames) -> Vec<KafkaFact> {
    let refused = |need, error: &str| KafkaRefusal {
        need,
        error: error.to_owned(),
        hint: hint(KafkaErrorKind::Refused(need), error, names),
        lasts: Duration::ZERO,
    };
    let connected = is_new.then_some(KafkaFact::Permitted(KafkaNeed::Connection));
    let of_topic = match described {
        Ok(TopicDescription { lists_read, .. }) => {
            let need = KafkaNeed::ReadTopic;
            let read = match lists_read {
                Some(true) => Some(KafkaFact::Listed(need)),
                Some(false) => Some(KafkaFact::NotListed(refused(need, "the user may not read it"))),
                None => Some(KafkaFact::Shown),
            };
            [Some(KafkaFact::Permitted(KafkaNeed::TopicExists)), read]
        }
        Err(TopicLogError { kind: KafkaErrorKind::TopicMissing, error, .. }) => {
            [Some(KafkaFact::Refused(refused(KafkaNeed::TopicExists, error))), None]
        }
        Err(TopicLogError { kind: KafkaErrorKind::Refused(KafkaNeed::Connection), error, .. }) => {
            return vec![KafkaFact::Refused(refused(KafkaNeed::Connection, error))];
        }
        Err(TopicLogError { kind: KafkaErrorKind::Refused(need @ KafkaNeed::ReadTopic), error, .. }) => {
            [Some(KafkaFact::Hidden(refused(*need, error))), None]
        }
        Err(TopicLogError { kind: KafkaErrorKind::Refused(need), error, .. }) => {
            [Some(KafkaFact::Refused(refused(*need, error))), None]
        }
        Err(_) => return Vec::new(),
    };
    connected.into_iter().chain(of_topic.into_iter().flatten()).collect()
}

/// The answer for each partition, or its error.
type Answers<T> = BTreeMap<Partition, KafkaResult<T>>;

/// The answers of all partitions, or the first error.
fn all<T>(answers: Answers<T>) -> KafkaResult<BTreeMap<Partition, T>> {
    answers.into_iter().map(|(partition, answer)| Ok((partition, answer?))).collect()
}

/// Whether no answer came in time.
fn is_no_answer(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::OperationTimedOut)
}

/// Whether client and broker know different leaders of a partition (KIP-320).
fn is_other_leader(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{FencedLeaderEpoch, NotLeaderForPartition, UnknownLeaderEpoch};
    matches!(error.rdkafka_error_code(), Some(FencedLeaderEpoch | NotLeaderForPartition | UnknownLeaderEpoch))
}

/// Whether old metadata of the client can be the reason. It is not the reason that Kafka has no such topic or does not
/// show it.
fn is_stale(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{InvalidTopic, TopicAuthorizationFailed, UnknownTopic, UnknownTopicOrPartition};
    let code = error.rdkafka_error_code();
    !matches!(code, Some(InvalidTopic | TopicAuthorizationFailed | UnknownTopic | UnknownTopicOrPartition))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_gave_no_answer_is_replaced_unless_the_topic_is_the_reason() {
        let check = |code, expected| assert_eq!(is_stale(&KafkaError::MetadataFetch(code)), expected, "{code:?}");
        check(RDKafkaErrorCode::OperationTimedOut, true);
        check(RDKafkaErrorCode::BrokerTransportFailure, true);
        check(RDKafkaErrorCode::UnknownLeaderEpoch, true);
        check(RDKafkaErrorCode::UnknownTopic, false);
        check(RDKafkaErrorCode::UnknownTopicOrPartition, false);
        check(RDKafkaErrorCode::TopicAuthorizationFailed, false);
    }

    #[test]
    fn a_question_is_asked_again_if_client_and_broker_know_different_leaders() {
        let check = |code, expected| assert_eq!(is_other_leader(&KafkaError::OffsetFetch(code)), expected, "{code:?}");
        check(RDKafkaErrorCode::UnknownLeaderEpoch, true);
        check(RDKafkaErrorCode::NotLeaderForPartition, true);
        check(RDKafkaErrorCode::OperationTimedOut, false);
        check(RDKafkaErrorCode::LeaderNotAvailable, false);
    }
}
