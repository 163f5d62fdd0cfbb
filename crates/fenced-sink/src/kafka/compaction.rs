//! Whether Kafka compacts the topic.

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::kafka::client::configuration;

/// The limit for the question.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Whether Kafka can delete records from the middle of a partition log. `None`: Kafka did not answer, or does not
/// permit the question.
pub(crate) async fn is_compacted(properties: &BTreeMap<String, String>, topic: &str) -> Option<bool> {
    let client: AdminClient<DefaultClientContext> = configuration(properties).create().ok()?;
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT));
    let answer = client.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await.ok()?;
    let of_topic: ConfigResource = answer.into_iter().next()?.ok()?;
    let policy = of_topic.get("cleanup.policy")?.value.clone()?;
    Some(policy.contains("compact"))
}
