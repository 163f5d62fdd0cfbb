//! What a verification asks Kafka, and reads of it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::VerifyError;
use crate::engine::batch::Entry;
use crate::engine::event::Event;
use crate::engine::ledger::snapshot::Counted;
use crate::engine::record::{Partition, Position, Step, TopicId};
use crate::engine::run::Options;
use crate::engine::source::log::{Bounds, Log};
use crate::engine::source::policy::is_compacted;
use crate::engine::source::replay::{self, ReplayError, Said};

/// A topic, asked by clients that join no group.
pub(super) struct Topic {
    properties: BTreeMap<String, String>,
    name: String,
    log: Arc<Log>,
}

/// What Kafka says of the log.
pub(super) struct Asked {
    pub(super) bounds: BTreeMap<Partition, Bounds>,
    /// Where the records of the time asked for begin.
    pub(super) since: Option<BTreeMap<Partition, Position>>,
    /// Whether records may vanish from the middle. Who doesn't know is told that they don't.
    pub(super) compacted: bool,
    topic_id: Option<TopicId>,
}

impl Topic {
    pub(super) fn new(options: &Options) -> Result<Self, VerifyError> {
        let mut properties = options.properties.clone();
        properties.insert("group.id".to_owned(), options.group_id.clone());
        crate::engine::source::check(&properties)?;
        let log = Arc::new(Log::new(&properties, &options.topic));
        Ok(Self { properties, name: options.topic.clone(), log })
    }

    pub(super) async fn ask(&self, since: Option<i64>) -> Result<Asked, VerifyError> {
        let log = Arc::clone(&self.log);
        let asked = tokio::task::spawn_blocking(move || {
            let bounds = log.bounds().map_err(|error| error.to_string())?;
            let since = since.map(|millis| log.at_timestamp(millis)).transpose().map_err(|error| error.to_string())?;
            Ok::<_, String>((bounds, since, log.topic_id()))
        });
        let asked = asked.await.map_err(|error| self.unanswered(&error))?;
        let (bounds, since, topic_id) = asked.map_err(|error| self.unanswered(&error))?;
        let compacted = is_compacted(&self.properties, &self.name).await.unwrap_or_default();
        Ok(Asked { bounds, since, compacted, topic_id })
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
    pub(super) fn read<E: Event>(&self, ranges: &BTreeMap<Partition, Step>) -> Result<Reading<E>, VerifyError> {
        Ok(Reading(replay::start(&self.properties, Arc::clone(&self.log), &self.name, ranges)?))
    }
}

impl Asked {
    /// Positions mean nothing in a log that they were not read from.
    pub(super) fn is_the_log_of(&self, counted: &BTreeMap<Partition, Counted>) -> Result<(), VerifyError> {
        let is_another =
            |row: &Counted| self.topic_id.is_some() && row.topic_id.is_some() && row.topic_id != self.topic_id;
        match counted.iter().find(|(_, row)| is_another(row)) {
            None => Ok(()),
            Some((partition, _)) => Err(VerifyError::Log(format!(
                "the topic was deleted and made again: the ledger's position of partition {partition} is one of the old log"
            ))),
        }
    }
}

/// Ranges on their way.
pub(super) struct Reading<E>(mpsc::Receiver<Said<E>>);

impl<E> Reading<E> {
    /// Some records, and how many offsets of the ranges are passed. `None`: there are no more.
    pub(super) async fn next(&mut self) -> Result<Option<(Vec<Entry<E>>, u64)>, VerifyError> {
        match self.0.recv().await {
            Some(Said::Chunk(entries, passed)) => Ok(Some((entries, passed))),
            Some(Said::End) => Ok(None),
            Some(Said::Failed(error)) => Err(error.into()),
            None => Err(VerifyError::Log("the thread that reads ended unasked".to_owned())),
        }
    }
}

impl From<ReplayError> for VerifyError {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Source(error) => Self::Kafka(error),
            ReplayError::Unavailable(why) => Self::Log(why),
            ReplayError::Corrupt(why) => Self::Corrupt(why),
        }
    }
}
