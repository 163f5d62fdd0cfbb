//! What Kafka does with old records of the topic.

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::kafka::client::configuration;

/// How long the question may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Whether records may vanish from the middle of the log. `None`: nobody knows, or it is not for us to know.
pub(crate) async fn is_compacted(properties: &BTreeMap<String, String>, topic: &str) -> Option<bool> {
    let client: AdminClient<DefaultClientContext> = configuration(properties).create().ok()?;
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT));
    let answer = client.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await.ok()?;
    let of_topic: ConfigResource = answer.into_iter().next()?.ok()?;
    let policy = of_topic.get("cleanup.policy")?.value.clone()?;
    Some(policy.contains("compact"))
}
