//! The settings of the topic that decide how long Kafka keeps a record.

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::kafka::client::{configuration, without_membership};

/// The limit for the question.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long Kafka keeps the records of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    /// `cleanup.policy`: `delete`, `compact` or both.
    pub cleanup_policy: String,
    /// `retention.ms`. `None`: no limit of the age.
    pub retention: Option<Duration>,
    /// `retention.bytes`, for each partition. `None`: no limit of the size.
    pub retention_bytes: Option<u64>,
}

impl TopicSettings {
    /// Whether Kafka can delete records from the middle of a partition log.
    #[must_use]
    pub fn is_compacted(&self) -> bool {
        self.cleanup_policy.contains("compact")
    }
}

/// Asks for the settings of a topic. `None`: Kafka did not answer, or does not permit the question.
pub async fn topic_settings(properties: &BTreeMap<String, String>, topic: &str) -> Option<TopicSettings> {
    let client: AdminClient<DefaultClientContext> = configuration(&without_membership(properties)).create().ok()?;
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT));
    let answer = client.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await.ok()?;
    let of_topic: ConfigResource = answer.into_iter().next()?.ok()?;
    let value = |name: &str| of_topic.get(name)?.value.clone();
    Some(TopicSettings {
        cleanup_policy: value("cleanup.policy")?,
        // -1 is no limit.
        retention: value("retention.ms").and_then(|text| text.parse().ok()).map(Duration::from_millis),
        retention_bytes: value("retention.bytes").and_then(|text| text.parse().ok()),
    })
}
