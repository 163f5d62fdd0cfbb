//! The parts of `check` that ask Kafka: each broker, then the topic and the group.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use fenced_sink::admin::{
    BrokerProblem, ConnectionStep, ReadPermission, TopicLogClient, TopicLogError, TopicSettings, advertised_brokers,
    topic_settings,
};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::positions::TopicLogFacts;
use super::report::{CheckLine, CheckResult, complete, skipped};
use crate::config::{Settings, consumer_properties};

const DNS: &str = "kafka_dns";
const TCP: &str = "kafka_tcp";
const TLS: &str = "kafka_tls";
const LOGIN: &str = "kafka_login";
const ANSWER: &str = "kafka_answer";
const TOPIC: &str = "kafka_topic";
const TOPIC_PERMISSION: &str = "kafka_topic_permission";
const GROUP_PERMISSION: &str = "kafka_group_permission";
const RETENTION: &str = "kafka_retention";

const PARTS_OF_TOPIC: [&str; 4] = [TOPIC, TOPIC_PERMISSION, GROUP_PERMISSION, RETENTION];

/// The port of a broker whose address has none.
const PORT: u16 = 9092;

/// What the parts found.
pub(super) struct KafkaChecks {
    pub(super) lines: Vec<CheckLine>,
    /// The topic log, or the part because of which it can't be read.
    pub(super) topic_log: Result<TopicLogFacts, &'static str>,
}

/// Checks all parts. Each of them ends within the limit, or within the limit of the engine, which is 10 s.
pub(super) async fn check(settings: &Settings, limit: Duration) -> KafkaChecks {
    let connection = Arc::new(Connection::new(settings, limit));
    let servers: Vec<String> = settings.kafka_bootstrap_servers.split(',').map(without_protocol).collect();
    let found = check_brokers(&connection, servers.iter().cloned().map(|server| (server, Source::Setting))).await;
    let advertised: Option<Vec<String>> = found.iter().find_map(|broker| broker.advertised.clone());
    let answers = advertised.is_some();
    let advertised = advertised.unwrap_or_default();
    // All other requests go to the addresses that the brokers advertise.
    let mut is_usable = found.iter().any(|broker| broker.advertised.is_some() && advertised.contains(&broker.server));
    let mut lines = Vec::new();
    for broker in found {
        // Another one is enough, unless the cluster itself says that this one is needed.
        let is_needed = !answers || advertised.contains(&broker.server);
        lines.extend(broker.lines.into_iter().map(|line| if is_needed { line } else { as_warning(line) }));
    }
    let others = advertised.into_iter().filter(|address| !servers.contains(address));
    for broker in check_brokers(&connection, others.map(|address| (address, Source::Broker))).await {
        is_usable |= broker.advertised.is_some();
        lines.extend(broker.lines);
    }

    let mut of_topic = Vec::new();
    let topic_log = if is_usable {
        check_topic(settings, &connection.properties, &mut of_topic).await.ok_or(TOPIC)
    } else {
        let is_cause = |line: &&CheckLine| line.result == CheckResult::Failed;
        Err(lines.iter().rfind(is_cause).map_or(ANSWER, |line| line.part))
    };
    let cause = topic_log.as_ref().err().unwrap_or(&TOPIC);
    if !of_topic.iter().any(|line| line.part == GROUP_PERMISSION) {
        of_topic.push(skipped(GROUP_PERMISSION, &settings.kafka_group_id, cause));
    }
    complete(&mut of_topic, &PARTS_OF_TOPIC, &settings.kafka_topic, cause);
    lines.extend(of_topic);
    KafkaChecks { lines, topic_log }
}

/// How each broker is reached.
struct Connection {
    properties: BTreeMap<String, String>,
    topic: String,
    limit: Duration,
    /// The parts after TCP.
    parts: Vec<(ConnectionStep, &'static str)>,
    /// How the login is done: mechanism and user.
    login: String,
}

/// Where an address comes from.
#[derive(Clone, Copy)]
enum Source {
    /// `KAFKA_BOOTSTRAP_SERVERS`.
    Setting,
    /// A broker advertises it.
    Broker,
}

/// The result for one broker.
struct CheckedBroker {
    server: String,
    lines: Vec<CheckLine>,
    /// The addresses that it advertises for all brokers. `None`: it did not answer.
    advertised: Option<Vec<String>>,
}

async fn check_brokers(
    connection: &Arc<Connection>,
    servers: impl Iterator<Item = (String, Source)>,
) -> Vec<CheckedBroker> {
    let check = |(server, source)| {
        let connection = Arc::clone(connection);
        tokio::spawn(async move { connection.check(server, source).await })
    };
    let mut checked = Vec::new();
    for check in servers.map(check).collect::<Vec<_>>() {
        checked.extend(check.await);
    }
    checked
}

impl Connection {
    fn new(settings: &Settings, limit: Duration) -> Self {
        let properties: BTreeMap<String, String> = consumer_properties(settings).into_iter().collect();
        let property = |name: &str| properties.get(name).map_or("", String::as_str);
        let protocol = property("security.protocol").to_ascii_lowercase();
        let tls = protocol.ends_with("ssl").then_some((ConnectionStep::Tls, TLS));
        let login = protocol.starts_with("sasl").then_some((ConnectionStep::Login, LOGIN));
        let parts = [tls, login, Some((ConnectionStep::Answer, ANSWER))].into_iter().flatten().collect();
        let mechanism = ["sasl.mechanism", "sasl.mechanisms"].map(property).into_iter().find(|one| !one.is_empty());
        let user = Some(property("sasl.username")).filter(|user| !user.is_empty());
        let user = user.map(|user| format!(" as {user}")).unwrap_or_default();
        let login = format!("{}{user}", mechanism.unwrap_or("GSSAPI"));
        Self { topic: settings.kafka_topic.clone(), limit, parts, login, properties }
    }

    async fn check(self: Arc<Self>, server: String, source: Source) -> CheckedBroker {
        let mut lines = Vec::new();
        let mut advertised = None;
        if let Some(addresses) = self.resolve(&server, source, &mut lines).await
            && self.connect(&server, source, &addresses, &mut lines).await
        {
            let (connection, address) = (Arc::clone(&self), server.clone());
            let asked = spawn_blocking(move || advertised_brokers(&connection.properties, &connection.topic, &address));
            match asked.await {
                Ok(Ok(brokers)) => {
                    lines
                        .extend(self.parts.iter().map(|(step, part)| self.passed(*step, part, &server, brokers.len())));
                    advertised = Some(brokers);
                }
                Ok(Err(problem)) => lines.extend(self.stopped_at(&server, problem)),
                Err(error) => lines.push(CheckLine::failed(ANSWER, &server, error.to_string())),
            }
        }
        let parts: Vec<&str> = [DNS, TCP].into_iter().chain(self.parts.iter().map(|(_, part)| *part)).collect();
        let cause = lines.iter().find(|line| line.result == CheckResult::Failed).map_or(ANSWER, |line| line.part);
        complete(&mut lines, &parts, &server, cause);
        CheckedBroker { server, lines, advertised }
    }

    async fn resolve(&self, server: &str, source: Source, lines: &mut Vec<CheckLine>) -> Option<Vec<SocketAddr>> {
        let resolved = timeout(self.limit, lookup_host(with_port(server))).await.unwrap_or_else(|_| Err(timed_out()));
        let problem = match resolved.map(Iterator::collect::<Vec<_>>) {
            Ok(addresses) if !addresses.is_empty() => {
                let list = addresses.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(", ");
                lines.push(CheckLine::ok(DNS, server, format!("the address is {list}")));
                return Some(addresses);
            }
            Ok(_) => "the name has no address".to_owned(),
            Err(error) => error.to_string(),
        };
        lines.push(CheckLine::failed(DNS, server, problem).hint(match source {
            Source::Setting => "correct KAFKA_BOOTSTRAP_SERVERS, or the name service of this machine",
            Source::Broker => {
                "the broker advertises this name: correct advertised.listeners of the broker, or the name service of this \
                 machine"
            }
        }));
        None
    }

    /// Whether one of the addresses accepts a connection.
    async fn connect(
        &self,
        server: &str,
        source: Source,
        addresses: &[SocketAddr],
        lines: &mut Vec<CheckLine>,
    ) -> bool {
        match timeout(self.limit, TcpStream::connect(addresses)).await.unwrap_or_else(|_| Err(timed_out())) {
            Ok(stream) => {
                let address = stream.peer_addr().map(|address| format!(" to {address}")).unwrap_or_default();
                lines.push(CheckLine::ok(TCP, server, format!("connected{address}")));
                true
            }
            Err(error) => {
                lines.push(CheckLine::failed(TCP, server, error.to_string()).hint(match source {
                    Source::Setting => {
                        "check that the broker runs, that KAFKA_BOOTSTRAP_SERVERS has its port, and that no firewall is \
                         between"
                    }
                    Source::Broker => {
                        "the broker advertises this address: check that it runs, that no firewall blocks it, and \
                         advertised.listeners of the broker"
                    }
                }));
                false
            }
        }
    }

    fn passed(&self, step: ConnectionStep, part: &'static str, server: &str, brokers: usize) -> CheckLine {
        CheckLine::ok(
            part,
            server,
            match step {
                ConnectionStep::Tls => "the TLS handshake succeeded".to_owned(),
                ConnectionStep::Login => format!("logged in by {}", self.login),
                ConnectionStep::Answer => format!("answered; brokers in the cluster: {brokers}"),
            },
        )
    }

    /// The login follows the TLS handshake. The error of an answer does not say how far the connection came.
    fn stopped_at(&self, server: &str, BrokerProblem { step, error, hint }: BrokerProblem) -> Vec<CheckLine> {
        let step = if self.parts.iter().any(|(own, _)| *own == step) { step } else { ConnectionStep::Answer };
        let line = |(own, part): &(ConnectionStep, &'static str)| match (own, step) {
            (own, step) if *own == step => Some(CheckLine::failed(part, server, &error).hint(&hint)),
            (ConnectionStep::Tls, ConnectionStep::Login) => Some(self.passed(*own, part, server, 0)),
            (own, step) if *own < step => Some(CheckLine::not_visible(part, server, "the broker gave no answer")),
            _ => None,
        };
        self.parts.iter().filter_map(line).collect()
    }
}

async fn check_topic(
    settings: &Settings,
    properties: &BTreeMap<String, String>,
    lines: &mut Vec<CheckLine>,
) -> Option<TopicLogFacts> {
    let (topic, group) = (settings.kafka_topic.as_str(), settings.kafka_group_id.as_str());
    let client = Arc::new(TopicLogClient::new(properties, topic));
    let group_line = match ask(&client, TopicLogClient::group_permission).await {
        Ok(found) => permission(GROUP_PERMISSION, "group", group, found),
        Err(error) => failed(GROUP_PERMISSION, group, &error),
    };
    lines.push(group_line);
    let partitions = match ask(&client, TopicLogClient::partition_count).await {
        Ok(partitions) => partitions,
        Err(error) => {
            lines.push(failed(TOPIC, topic, &error));
            return None;
        }
    };
    lines.push(CheckLine::ok(TOPIC, topic, format!("exists; partitions: {partitions}")));
    lines.push(match ask(&client, TopicLogClient::topic_permission).await {
        Ok(found) => permission(TOPIC_PERMISSION, "topic", topic, found),
        Err(error) => failed(TOPIC_PERMISSION, topic, &error),
    });
    let found = topic_settings(properties, topic).await;
    lines.push(retention(topic, found.as_ref()));

    let old = found.and_then(|found| found.retention).and_then(|retention| {
        // A record that is older than 80 % of the retention.
        Utc::now().timestamp_millis().checked_sub(i64::try_from(retention.mul_f64(0.8).as_millis()).ok()?)
    });
    let facts = ask(&client, move |client| {
        let kept = old.map(|millis| client.at_timestamp(millis)).transpose()?;
        Ok(TopicLogFacts { topic_id: client.topic_id(), bounds: client.bounds()?, kept })
    });
    facts.await.inspect_err(|error| lines.push(failed(TOPIC, topic, error))).ok()
}

/// The client blocks its thread until Kafka answers, or until its time limit.
async fn ask<T: Send + 'static>(
    client: &Arc<TopicLogClient>,
    question: impl FnOnce(&TopicLogClient) -> Result<T, TopicLogError> + Send + 'static,
) -> Result<T, Problem> {
    let client = Arc::clone(client);
    match spawn_blocking(move || question(&client)).await {
        Ok(answer) => {
            answer.map_err(|error| Problem { error: error.error().to_owned(), hint: Some(error.hint().to_owned()) })
        }
        Err(error) => Err(Problem { error: error.to_string(), hint: None }),
    }
}

/// Why a question has no answer, and what to do.
struct Problem {
    error: String,
    hint: Option<String>,
}

fn failed(part: &'static str, target: &str, problem: &Problem) -> CheckLine {
    CheckLine { hint: problem.hint.clone(), ..CheckLine::failed(part, target, &problem.error) }
}

fn permission(part: &'static str, kind: &str, name: &str, found: ReadPermission) -> CheckLine {
    match found {
        ReadPermission::Listed => CheckLine::ok(part, name, "READ is permitted"),
        ReadPermission::NotListed => CheckLine::failed(part, name, "READ is not among the permitted operations")
            .hint(format!("grant READ on the {kind} {name} to the user of this service")),
        ReadPermission::NotVisible => CheckLine::not_visible(part, name, "the broker lists no permitted operations"),
    }
}

fn retention(topic: &str, found: Option<&TopicSettings>) -> CheckLine {
    let Some(found) = found else {
        return CheckLine::not_visible(RETENTION, topic, "Kafka does not show the settings of the topic")
            .hint("optional: grant DESCRIBE_CONFIGS on the topic");
    };
    let age = found.retention.map_or_else(
        || "no limit of the age".to_owned(),
        |retention| format!("retention {}", humantime::format_duration(retention)),
    );
    let size =
        found.retention_bytes.map(|bytes| format!(", at most {bytes} bytes in each partition")).unwrap_or_default();
    let text = format!("cleanup.policy={}; {age}{size}", found.cleanup_policy);
    if found.is_compacted() {
        CheckLine::failed(RETENTION, topic, text).hint(
            "Kafka deletes records of a compacted topic before they are read: set cleanup.policy=delete for the topic",
        )
    } else {
        CheckLine::ok(RETENTION, topic, text)
    }
}

fn as_warning(line: CheckLine) -> CheckLine {
    let result = if line.result == CheckResult::Failed { CheckResult::Warning } else { line.result };
    CheckLine { result, ..line }
}

fn without_protocol(server: &str) -> String {
    server.split_once("://").map_or(server, |(_, address)| address).to_owned()
}

fn with_port(server: &str) -> String {
    // The colons within brackets belong to an IPv6 address.
    let has_port = server.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    if has_port { server.to_owned() } else { format!("{server}:{PORT}") }
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}
