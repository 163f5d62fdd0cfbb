//! The questions of a verification to Kafka, and the records that it reads.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use tokio::sync::mpsc;

use crate::event::Event;
use crate::kafka::client::check_client;
use crate::kafka::replay;
use crate::kafka::replay::ReplayMessage;
use crate::kafka::topic_log_client::TopicLogClient;
use crate::kafka::topic_settings::topic_settings;
use crate::model::batch::Entry;
use crate::model::record::{Partition, Position, Step, TopicId};
use crate::model::topic_log::LogBounds;
use crate::pipeline::options::Options;
use crate::postgres::ledger::snapshot::CountedRow;
use crate::verify::error::VerifyError;

/// The topic that is verified. Its clients join no group.
pub(super) struct VerifiedTopic {
    properties: BTreeMap<String, String>,
    name: String,
    topic_log: Arc<TopicLogClient>,
}

/// The answers of Kafka about the topic.
pub(super) struct TopicFacts {
    pub(super) bounds: BTreeMap<Partition, LogBounds>,
    /// The positions at which the records of the requested time begin.
    pub(super) since: Option<BTreeMap<Partition, Position>>,
    /// Whether compaction may remove records. `None`: Kafka did not answer, or does not permit the question.
    pub(super) compacted: Option<bool>,
    pub(super) topic_id: Option<TopicId>,
}

impl VerifiedTopic {
    pub(super) fn new(options: &Options) -> Result<Self, VerifyError> {
        let mut properties = options.properties.clone();
        properties.insert("group.id".to_owned(), options.group_id.clone());
        check_client(&properties)?;
        let topic_log = Arc::new(TopicLogClient::new(&properties, &options.topic));
        Ok(Self { properties, name: options.topic.clone(), topic_log })
    }

    pub(super) async fn facts(&self, since: Option<i64>) -> Result<TopicFacts, VerifyError> {
        let topic_log = Arc::clone(&self.topic_log);
        let answer = tokio::task::spawn_blocking(move || {
            let bounds = topic_log.bounds().map_err(|error| error.to_string())?;
            let since =
                since.map(|millis| topic_log.at_timestamp(millis)).transpose().map_err(|error| error.to_string())?;
            Ok::<_, String>((bounds, since, topic_log.topic_id()))
        });
        let answer = answer.await.map_err(|error| self.unavailable(&error))?;
        let (bounds, since, topic_id) = answer.map_err(|error| self.unavailable(&error))?;
        let settings = topic_settings(&self.properties, &self.name).await;
        let compacted = settings.map(|settings| settings.is_compacted());
        Ok(TopicFacts { bounds, since, compacted, topic_id })
    }

    /// Whether the topic has the same id as before the records were read. `None`: Kafka did not answer.
    ///
    /// A topic without a known id counts as the same: nothing shows a difference.
    pub(super) async fn is_same(&self, before: Option<&TopicId>) -> Option<bool> {
        let Some(before) = before else { return Some(true) };
        let topic_log = Arc::clone(&self.topic_log);
        let now = tokio::task::spawn_blocking(move || topic_log.topic_id()).await.ok()??;
        Some(now == *before)
    }

    /// The error of a topic that is no longer the same.
    pub(super) fn replaced(&self) -> VerifyError {
        VerifyError::Log(format!(
            "the topic {} was deleted and created again while it was read: its records are not those that were handled",
            self.name
        ))
    }

    /// The error if Kafka can't be asked.
    pub(super) fn unavailable(&self, error: &impl Display) -> VerifyError {
        let servers = self.properties.get("bootstrap.servers").map_or("?", String::as_str);
        VerifyError::Log(format!("can't ask Kafka at {servers} about {}: {error}", self.name))
    }

    /// Reads all records of these ranges.
    pub(super) fn read<E: Event>(&self, ranges: &BTreeMap<Partition, Step>) -> Result<RangeReader<E>, VerifyError> {
        Ok(RangeReader(replay::start(&self.properties, Arc::clone(&self.topic_log), &self.name, ranges)?))
    }
}

impl TopicFacts {
    /// Refuses a topic with another id: the positions belong to the deleted topic, and are not valid in this one.
    pub(super) fn check_topic_id(&self, counted: &BTreeMap<Partition, CountedRow>) -> Result<(), VerifyError> {
        let has_another_id =
            |row: &CountedRow| self.topic_id.is_some() && row.topic_id.is_some() && row.topic_id != self.topic_id;
        match counted.iter().find(|(_, row)| has_another_id(row)) {
            None => Ok(()),
            Some((partition, _)) => Err(VerifyError::Log(format!(
                "the topic was deleted and created again: the position of partition {partition} in consumer_offsets belongs to the \
                 deleted topic"
            ))),
        }
    }
}

/// The records of some ranges, while a thread reads them.
pub(super) struct RangeReader<E>(mpsc::Receiver<ReplayMessage<E>>);

impl<E> RangeReader<E> {
    /// The next records, and the number of offsets that are passed so far. `None`: the ranges are read.
    pub(super) async fn next(&mut self) -> Result<Option<(Vec<Entry<E>>, u64)>, VerifyError> {
        match self.0.recv().await {
            Some(ReplayMessage::Chunk(entries, passed)) => Ok(Some((entries, passed))),
            Some(ReplayMessage::End) => Ok(None),
            Some(ReplayMessage::Failed(error)) => Err(error.into()),
            None => Err(VerifyError::Log("the thread that reads the topic has stopped unexpectedly".to_owned())),
        }
    }
}
