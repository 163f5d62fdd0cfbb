//! What a verification asks Kafka, and reads of it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use tokio::sync::mpsc;

use crate::event::Event;
use crate::kafka::client::check_client;
use crate::kafka::compaction::is_compacted;
use crate::kafka::replay;
use crate::kafka::replay::{ReplayError, ReplayMessage};
use crate::kafka::topic_log_client::TopicLogClient;
use crate::model::batch::Entry;
use crate::model::record::{Partition, Position, Step, TopicId};
use crate::model::topic_log::LogBounds;
use crate::pipeline::options::Options;
use crate::postgres::ledger::snapshot::CountedRow;
use crate::verify::VerifyError;

/// A topic, asked by clients that join no group.
pub(super) struct VerifiedTopic {
    properties: BTreeMap<String, String>,
    name: String,
    log: Arc<TopicLogClient>,
}

/// What Kafka says of the log.
pub(super) struct TopicFacts {
    pub(super) bounds: BTreeMap<Partition, LogBounds>,
    /// Where the records of the time asked for begin.
    pub(super) since: Option<BTreeMap<Partition, Position>>,
    /// Whether records may vanish from the middle. Who doesn't know is told that they don't.
    pub(super) compacted: bool,
    topic_id: Option<TopicId>,
}

impl VerifiedTopic {
    pub(super) fn new(options: &Options) -> Result<Self, VerifyError> {
        let mut properties = options.properties.clone();
        properties.insert("group.id".to_owned(), options.group_id.clone());
        check_client(&properties)?;
        let log = Arc::new(TopicLogClient::new(&properties, &options.topic));
        Ok(Self { properties, name: options.topic.clone(), log })
    }

    pub(super) async fn ask(&self, since: Option<i64>) -> Result<TopicFacts, VerifyError> {
        let log = Arc::clone(&self.log);
        let asked = tokio::task::spawn_blocking(move || {
            let bounds = log.bounds().map_err(|error| error.to_string())?;
            let since = since.map(|millis| log.at_timestamp(millis)).transpose().map_err(|error| error.to_string())?;
            Ok::<_, String>((bounds, since, log.topic_id()))
        });
        let asked = asked.await.map_err(|error| self.unanswered(&error))?;
        let (bounds, since, topic_id) = asked.map_err(|error| self.unanswered(&error))?;
        let compacted = is_compacted(&self.properties, &self.name).await.unwrap_or_default();
        Ok(TopicFacts { bounds, since, compacted, topic_id })
    }

    fn unanswered(&self, error: &impl Display) -> VerifyError {
        let servers = self.properties.get("bootstrap.servers").map_or("?", String::as_str);
        VerifyError::Log(format!(
            "can't ask Kafka at {servers} about {}: {error}; check that it runs and that KAFKA_BOOTSTRAP_SERVERS and \
             KAFKA_TOPIC name what is meant",
            self.name
        ))
    }

    /// Reads all that the log has of these ranges.
    pub(super) fn read<E: Event>(&self, ranges: &BTreeMap<Partition, Step>) -> Result<RangeReader<E>, VerifyError> {
        Ok(RangeReader(replay::start(&self.properties, Arc::clone(&self.log), &self.name, ranges)?))
    }
}

impl TopicFacts {
    /// Positions mean nothing in a log that they were not read from.
    pub(super) fn is_the_log_of(&self, counted: &BTreeMap<Partition, CountedRow>) -> Result<(), VerifyError> {
        let is_another =
            |row: &CountedRow| self.topic_id.is_some() && row.topic_id.is_some() && row.topic_id != self.topic_id;
        match counted.iter().find(|(_, row)| is_another(row)) {
            None => Ok(()),
            Some((partition, _)) => Err(VerifyError::Log(format!(
                "the topic was deleted and made again: the ledger's position of partition {partition} is one of the old log"
            ))),
        }
    }
}

/// Ranges on their way.
pub(super) struct RangeReader<E>(mpsc::Receiver<ReplayMessage<E>>);

impl<E> RangeReader<E> {
    /// Some records, and how many offsets of the ranges are passed. `None`: there are no more.
    pub(super) async fn next(&mut self) -> Result<Option<(Vec<Entry<E>>, u64)>, VerifyError> {
        match self.0.recv().await {
            Some(ReplayMessage::Chunk(entries, passed)) => Ok(Some((entries, passed))),
            Some(ReplayMessage::End) => Ok(None),
            Some(ReplayMessage::Failed(error)) => Err(error.into()),
            None => Err(VerifyError::Log("the thread that reads ended unasked".to_owned())),
        }
    }
}

impl From<ReplayError> for VerifyError {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Client(error) => Self::Kafka(error),
            ReplayError::Unavailable(why) => Self::Log(why),
            ReplayError::Corrupt(why) => Self::Corrupt(why),
        }
    }
}
