//! Real brokers: nodes of Apache Kafka, with settings that keep them small. The metadata of a cluster is in its controllers
//! (`KRaft`), or in `ZooKeeper`.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::time::Instant;
use std::{fs, process};

use crate::proxy::Proxy;
use crate::wait::PATIENCE;
use crate::{Guardian, certificates, free_ports, quoted};

mod secure;
mod zookeeper;

pub use secure::SecureListeners;
use zookeeper::ZooKeeper;

/// `TEST_KAFKA` names another version of the broker, such as `3.9.1` or `3.9.1-zookeeper`.
static VERSION: LazyLock<Option<String>> = LazyLock::new(|| crate::switch("TEST_KAFKA"));

/// Where `scripts/kafka.sh` puts the broker and its libraries.
static LIBRARIES: LazyLock<String> = LazyLock::new(|| {
    let version =
        VERSION.as_ref().map(|version| format!("-{}", version.trim_end_matches("-zookeeper"))).unwrap_or_default();
    format!("{}/../../.cache/kafka{version}", env!("CARGO_MANIFEST_DIR"))
});

/// Whether the brokers of the tests are older than Kafka 4.
pub fn is_before_4() -> bool {
    VERSION.as_ref().is_some_and(|version| version.starts_with("3."))
}

/// Whether the brokers of the tests support these properties: `group.protocol=consumer` needs Kafka 4.
pub fn supports(properties: &str) -> bool {
    !(is_before_4() && properties.contains("group.protocol=consumer"))
}

/// Whether the metadata is in `ZooKeeper`, which Kafka 4 does not support.
static IN_ZOOKEEPER: LazyLock<bool> =
    LazyLock::new(|| VERSION.as_ref().is_some_and(|version| version.ends_with("-zookeeper")));

/// Each differs from Kafka's default to make tests quick or the broker small.
const SETTINGS: &[(&str, &str)] = &[
    ("inter.broker.listener.name", "PLAINTEXT"),
    ("listener.security.protocol.map", "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT"),
    ("log.dirs", "data"),
    ("auto.create.topics.enable", "false"),
    ("offsets.topic.replication.factor", "1"),
    ("offsets.topic.num.partitions", "1"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("transaction.state.log.num.partitions", "1"),
    ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "1000"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
    // By default a new group waits 3 s for members.
    ("group.initial.rebalance.delay.ms", "0"),
    // Short sessions, so that a test can freeze a member for longer.
    ("group.min.session.timeout.ms", "1000"),
    ("group.consumer.min.session.timeout.ms", "1000"),
    ("group.consumer.session.timeout.ms", "6000"),
    ("group.consumer.min.heartbeat.interval.ms", "100"),
    ("group.consumer.heartbeat.interval.ms", "1000"),
    ("log.initial.task.delay.ms", "1000"),
    ("log.retention.check.interval.ms", "1000"),
    ("log.segment.delete.delay.ms", "100"),
    ("log.cleaner.backoff.ms", "500"),
    ("log.cleaner.dedupe.buffer.size", "8388608"),
    ("log.cleaner.threads", "1"),
    ("num.network.threads", "1"),
    ("num.io.threads", "2"),
    ("num.recovery.threads.per.data.dir", "1"),
    ("background.threads", "2"),
    // By default a start after a kill waits 15 s until the killed broker is no longer registered.
    ("broker.session.timeout.ms", "1500"),
    // By default it is 18 s, and a start after a kill waits for its end. On a machine under load a shorter one can end in use.
    ("zookeeper.session.timeout.ms", "6000"),
    ("broker.heartbeat.interval.ms", "300"),
];

/// The setting of a broker that has access rules.
fn authorizer() -> (&'static str, &'static str) {
    let class = if *IN_ZOOKEEPER {
        "kafka.security.authorizer.AclAuthorizer"
    } else {
        "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
    };
    ("authorizer.class.name", class)
}

/// The user of [`Kafka::start_guarded`] that has no permissions until a test grants them, and its password.
pub const USER: &str = "reader";
pub const USER_PASSWORD: &str = "password-of-the-reader";

/// The listeners of [`Kafka::start_guarded`] besides the first one, where everything is allowed.
#[derive(Clone, Debug)]
pub struct Listeners {
    /// SASL/PLAIN without TLS: [`USER`] needs [`Kafka::allow`].
    pub sasl: String,
    /// TLS: the certificate has the name `localhost`, and no address.
    pub tls: String,
    /// The file with the certificate of the CA.
    pub ca: String,
    /// Without TLS. The broker advertises the host `kafka.invalid`, which no name server knows.
    pub unresolvable: String,
}

/// Something for which a user has permissions.
#[derive(Clone, Copy, Debug)]
pub enum Resource<'a> {
    Topic(&'a str),
    Group(&'a str),
}

/// What a user may do with a resource.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    All,
    Read,
    Describe,
    DescribeConfigs,
}

/// A running broker. It ends when this value is dropped or this process ends.
pub struct Kafka {
    guardian: Guardian,
    port: u16,
    /// The port of the cluster's controller, or of `ZooKeeper`.
    controller: u16,
    /// The first broker of a cluster holds it, and it ends after this broker.
    zookeeper: Option<ZooKeeper>,
    /// Options of the JVM.
    heap: &'static str,
    pid: AtomicI32,
}

/// Where a node listens, and its part in the cluster.
struct Node<'a> {
    id: u32,
    port: u16,
    /// The port of the controller that it is; of a node that joins, the port of the cluster's controller.
    controller: u16,
    /// The controllers, if there are several.
    voters: Option<&'a str>,
    joins: bool,
    /// Its listeners besides the first one.
    listener: &'a str,
    /// The address of its first listener for clients, and the addresses of the other ones.
    advertised: &'a str,
}

impl Node<'_> {
    fn properties(&self) -> String {
        let Self { id, port, controller, voters, joins, listener, advertised } = self;
        let listeners = format!("PLAINTEXT://127.0.0.1:{port}{listener}");
        let advertised = format!("node.id={id}\nadvertised.listeners=PLAINTEXT://{advertised}\n");
        if *IN_ZOOKEEPER {
            return format!("{advertised}listeners={listeners}\nzookeeper.connect=127.0.0.1:{controller}\n");
        }
        let only = format!("1@127.0.0.1:{controller}");
        let voters = voters.unwrap_or(&only);
        let (roles, own) = if *joins {
            ("broker", String::new())
        } else {
            ("broker,controller", format!(",CONTROLLER://127.0.0.1:{controller}"))
        };
        format!(
            "{advertised}listeners={listeners}{own}\nprocess.roles={roles}\n\
             controller.listener.names=CONTROLLER\ncontroller.quorum.voters={voters}\n"
        )
    }
}

/// Creates the certificate of the TLS listener.
const CERTIFICATE: &str = "keytool -genkeypair -alias broker -keyalg EC -dname CN=localhost -ext san=dns:localhost \
    -validity 3650 -keystore keystore.p12 -storetype PKCS12 -storepass password >>log 2>&1 && \
    keytool -exportcert -rfc -alias broker -keystore keystore.p12 -storepass password >ca.pem 2>>log";

/// The heap of all processes but the broker of [`Kafka::start_with_large_heap`].
const SMALL_HEAP: &str = "-Xmx256m";

/// The heap that Kafka's own start script gives to a broker.
const LARGE_HEAP: &str = "-Xms1g -Xmx1g";

/// What an access rule does.
#[derive(Clone, Copy)]
enum Rule {
    Deny,
    Allow,
}

/// The broker that all tests share. No test stops it.
pub fn kafka() -> &'static Kafka {
    static SHARED: OnceLock<Kafka> = OnceLock::new();
    SHARED.get_or_init(Kafka::start_new)
}

impl Kafka {
    /// A broker for one test, which may stop, kill or freeze it.
    pub fn start_new() -> Self {
        Self::start_with(&[])
    }

    /// As [`Self::start_new`], with more settings.
    pub fn start_with(settings: &[(&str, &str)]) -> Self {
        let [port, controller] = free_ports().unwrap();
        Self::start_first(port, controller, ("", ""), settings)
    }

    /// As [`Self::start_new`], for a measurement. With the small heap, the JVM stops the broker for about 12 ms every
    /// 2 s, and all records wait.
    pub fn start_with_large_heap() -> Self {
        let [port, controller] = free_ports().unwrap();
        let kafka = Self { heap: LARGE_HEAP, ..Self::prepare_first(port, controller, ("", ""), &[]) };
        kafka.start();
        kafka
    }

    /// As [`Self::start_new`], with access rules. It allows everything without one.
    pub fn start_with_rules() -> Self {
        Self::start_with(&[authorizer(), ("allow.everyone.if.no.acl.found", "true")])
    }

    /// As [`Self::start_new`], with a second listener behind a proxy. The test's own clients use the first one, a
    /// client that begins at the address of the proxy uses only the second one.
    pub fn start_behind_proxy() -> (Self, Proxy) {
        let [port, controller, proxied] = free_ports().unwrap();
        let proxy = Proxy::start(proxied);
        let (listener, advertised) =
            (format!(",PROXIED://127.0.0.1:{proxied}"), format!(",PROXIED://{}", proxy.address()));
        (Self::start_first(port, controller, (&listener, &advertised), &[]), proxy)
    }

    /// A broker with more listeners: one that requires a user, one with TLS, and one that advertises a wrong host.
    pub fn start_guarded() -> (Self, Listeners) {
        let [port, controller, sasl, tls, unresolvable] = free_ports().unwrap();
        let listener =
            format!(",SASL://127.0.0.1:{sasl},TLS://127.0.0.1:{tls},UNRESOLVABLE://127.0.0.1:{unresolvable}");
        let advertised =
            format!(",SASL://127.0.0.1:{sasl},TLS://localhost:{tls},UNRESOLVABLE://kafka.invalid:{unresolvable}");
        let login = format!(
            "org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}=\"{USER_PASSWORD}\";"
        );
        let settings = [
            (
                "listener.security.protocol.map",
                "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL,UNRESOLVABLE:PLAINTEXT",
            ),
            ("sasl.enabled.mechanisms", "PLAIN"),
            // A wrong login is answered late: later than most questions wait. Before Kafka 4, this is also the time after
            // which the broker ends a connection without a login, and the service has a hint for up to 2 s.
            ("connection.failed.authentication.delay.ms", if is_before_4() { "1000" } else { "4000" }),
            ("listener.name.sasl.plain.sasl.jaas.config", login.as_str()),
            ("ssl.keystore.type", "PKCS12"),
            ("ssl.keystore.location", "keystore.p12"),
            ("ssl.keystore.password", "password"),
            authorizer(),
            ("super.users", "User:ANONYMOUS"),
        ];
        let kafka = Self::start_first(port, controller, (&listener, &advertised), &settings);
        let ca = kafka.guardian.directory().join("ca.pem").to_str().unwrap().to_owned();
        let [sasl, tls, unresolvable] =
            [format!("127.0.0.1:{sasl}"), format!("localhost:{tls}"), format!("127.0.0.1:{unresolvable}")];
        (kafka, Listeners { sasl, tls, ca, unresolvable })
    }

    /// Another broker of the cluster of this one, which is its controller and has to run. `node` is 2 or higher.
    #[must_use]
    pub fn join(&self, node: u32) -> Self {
        let [port] = free_ports().unwrap();
        self.join_as(node, port, &format!("127.0.0.1:{port}"))
    }

    /// As [`Self::join`]. All clients reach the node only through the proxy. The controller is not affected by it.
    #[must_use]
    pub fn join_behind_proxy(&self, node: u32) -> (Self, Proxy) {
        let [port] = free_ports().unwrap();
        let proxy = Proxy::start(port);
        (self.join_as(node, port, &proxy.address()), proxy)
    }

    /// A cluster of the nodes 1, 2 and 3, each a broker and a controller. The topics of Kafka itself have a replica on each
    /// node, and a new record is on at least two of them.
    pub fn start_cluster() -> [Self; 3] {
        const REPLICATED: &[(&str, &str)] = &[
            ("offsets.topic.replication.factor", "3"),
            ("transaction.state.log.replication.factor", "3"),
            ("transaction.state.log.min.isr", "2"),
            ("share.coordinator.state.topic.replication.factor", "3"),
            ("share.coordinator.state.topic.min.isr", "2"),
            ("default.replication.factor", "3"),
            ("min.insync.replicas", "2"),
        ];
        let [one, two, three, voter_one, voter_two, voter_three] = free_ports().unwrap();
        let voters = format!("1@127.0.0.1:{voter_one},2@127.0.0.1:{voter_two},3@127.0.0.1:{voter_three}");
        let nodes = [(1, one, voter_one), (2, two, voter_two), (3, three, voter_three)];
        let nodes = nodes.map(|(id, port, controller)| {
            // There is one ZooKeeper.
            let controller = if *IN_ZOOKEEPER { voter_one } else { controller };
            let advertised = format!("127.0.0.1:{port}");
            let node = Node {
                id,
                port,
                controller,
                voters: Some(&voters),
                joins: false,
                listener: "",
                advertised: &advertised,
            };
            let node = Self::prepare_node(&node, REPLICATED);
            // One node alone opens no port: it waits for the majority of the controllers.
            node.launch();
            node
        });
        for node in &nodes {
            node.wait_until_open();
        }
        nodes
    }

    fn join_as(&self, id: u32, port: u16, advertised: &str) -> Self {
        let controller = self.controller;
        let node = Node { id, port, controller, voters: None, joins: true, listener: "", advertised };
        let kafka = Self::prepare_node(&node, &[]);
        kafka.start();
        kafka
    }

    fn start_first(port: u16, controller: u16, listeners: (&str, &str), settings: &[(&str, &str)]) -> Self {
        let kafka = Self::prepare_first(port, controller, listeners, settings);
        kafka.start();
        kafka
    }

    fn prepare_first(
        port: u16,
        controller: u16,
        (listener, advertised): (&str, &str),
        settings: &[(&str, &str)],
    ) -> Self {
        let advertised = format!("127.0.0.1:{port}{advertised}");
        let node = Node { id: 1, port, controller, voters: None, joins: false, listener, advertised: &advertised };
        Self::prepare_node(&node, settings)
    }

    fn prepare_node(node: &Node<'_>, settings: &[(&str, &str)]) -> Self {
        let libraries = &*LIBRARIES;
        assert!(Path::new(libraries).is_dir(), "no Apache Kafka in {libraries}; to get it: make test");
        // It need not end in order, because its directory is removed.
        let guardian = Guardian::new("KILL", None).unwrap();
        let zookeeper = (*IN_ZOOKEEPER && node.id == 1).then(|| ZooKeeper::start(node.controller));
        let mut properties = node.properties();
        for (name, value) in SETTINGS.iter().chain(settings) {
            writeln!(properties, "{name}={value}").unwrap();
        }
        fs::write(guardian.directory().join("server.properties"), properties).unwrap();
        fs::create_dir(guardian.directory().join("tmp")).unwrap();
        let Node { port, controller, .. } = *node;
        let kafka = Self { guardian, port, controller, zookeeper, heap: SMALL_HEAP, pid: AtomicI32::new(0) };
        if settings.iter().any(|(name, _)| *name == "ssl.keystore.location") {
            kafka.files(CERTIFICATE);
        }
        if settings.iter().any(|(name, _)| name.ends_with(".ssl.keystore.location")) {
            certificates::create(&kafka.guardian).unwrap();
        }
        kafka.format(1);
        kafka
    }

    /// Replaces it by another cluster without topics, at the same address. It has to be stopped.
    pub fn replace(&self) {
        self.files_of_cluster("rm -rf data");
        self.format(2);
    }

    /// Gives it an empty disk, as a machine that replaces a lost one has. It has to be stopped. The nodes of the cluster that
    /// still run have the data.
    pub fn lose_data(&self) {
        self.files("rm -rf data");
        self.format(1);
    }

    fn format(&self, number: u32) {
        if *IN_ZOOKEEPER {
            return; // A broker formats its disk itself.
        }
        // Kafka accepts any 22 characters as the id of a cluster.
        let id = format!("{number}{:021}", process::id());
        let status =
            self.guardian.run(&java(&format!("kafka.tools.StorageTool format -t {id} -c server.properties"))).unwrap();
        assert_eq!(
            status,
            0,
            "kafka.tools.StorageTool failed (is Java 17 there? make test):\n{}",
            self.guardian.tail("log")
        );
    }

    /// Starts it again on the same port with the same data; returns when the port is open.
    pub fn start(&self) {
        self.launch();
        self.wait_until_open();
    }

    fn launch(&self) {
        let command = java_with(self.heap, "kafka.Kafka server.properties");
        self.pid.store(self.guardian.start(&command).unwrap(), Ordering::Relaxed);
    }

    fn wait_until_open(&self) {
        let open = || TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok();
        let began = Instant::now();
        while let Err(error) = self.guardian.wait_until(open, PATIENCE, "log") {
            // After a kill, a broker ends at its start until ZooKeeper has ended the session of the killed one.
            assert!(*IN_ZOOKEEPER && began.elapsed() < PATIENCE, "{error}");
            self.launch();
        }
    }

    /// Stops it in order.
    pub fn stop(&self) {
        self.end("TERM");
    }

    /// Stops it as a crash does.
    pub fn kill(&self) {
        self.end("KILL");
    }

    /// Lets clients do everything with a topic except read its settings. The broker needs [`Self::start_with_rules`].
    pub fn hide_settings(&self, topic: &str) {
        self.add_rule("ANONYMOUS", Resource::Topic(topic), Operation::All, Rule::Allow);
        self.add_rule("ANONYMOUS", Resource::Topic(topic), Operation::DescribeConfigs, Rule::Deny);
    }

    /// Permits this to [`USER`].
    pub fn allow(&self, resource: Resource<'_>, operation: Operation) {
        self.add_rule(USER, resource, operation, Rule::Allow);
    }

    /// Withdraws what [`Self::allow`] permitted.
    pub fn withdraw(&self, resource: Resource<'_>, operation: Operation) {
        const DELETE_ACLS: i16 = 31;
        let answer = self.change_rules(DELETE_ACLS, USER, resource, operation, Rule::Allow);
        // The code, no text, and one rule that matched.
        assert!(matches!(answer.as_slice(), [0, 0, 255, 255, 0, 0, 0, 1, ..]), "{answer:?}");
    }

    fn add_rule(&self, user: &str, resource: Resource<'_>, operation: Operation, rule: Rule) {
        const CREATE_ACLS: i16 = 30;
        let answer = self.change_rules(CREATE_ACLS, user, resource, operation, rule);
        assert!(matches!(answer.as_slice(), [0, 0, ..]), "{answer:?}");
    }

    /// Sends a request with one access rule: rdkafka has no function for it in Rust. Returns the answer from the code of
    /// its only result on. Version 1 of both requests, as the documentation of Kafka's protocol describes it.
    fn change_rules(
        &self,
        request: i16,
        user: &str,
        resource: Resource<'_>,
        operation: Operation,
        rule: Rule,
    ) -> Vec<u8> {
        let text = |text: &str| [&i16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat();
        let (kind, name) = match resource {
            Resource::Topic(name) => (2, name),
            Resource::Group(name) => (3, name),
        };
        let mut bytes = [request.to_be_bytes(), 1_i16.to_be_bytes()].concat();
        bytes.extend(1_i32.to_be_bytes());
        bytes.extend(text("test"));
        bytes.extend(1_i32.to_be_bytes());
        bytes.push(kind);
        bytes.extend(text(name));
        bytes.push(3); // by its whole name
        bytes.extend([text(&format!("User:{user}")), text("*")].concat());
        bytes.push(match operation {
            Operation::All => 2,
            Operation::Read => 3,
            Operation::Describe => 8,
            Operation::DescribeConfigs => 10,
        });
        bytes.push(match rule {
            Rule::Deny => 2,
            Rule::Allow => 3,
        });
        self.ask(&bytes).split_off(12) // correlation, throttle time, number of results
    }

    /// Sends a request that begins with its number, and returns the answer.
    fn ask(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let size = u32::try_from(request.len()).unwrap().to_be_bytes();
        stream.write_all(&[&size, request].concat()).unwrap();
        let mut size = [0; 4];
        stream.read_exact(&mut size).unwrap();
        let mut answer = vec![0; usize::try_from(u32::from_be_bytes(size)).unwrap()];
        stream.read_exact(&mut answer).unwrap();
        answer
    }

    /// Makes the preferred replica of each partition of its cluster the leader. Version 1 of the request.
    pub fn elect_preferred_leaders(&self) {
        // ElectLeaders, no client id, preferred, all partitions, a limit of 30 s.
        let request = [0, 43, 0, 1, 0, 0, 0, 1, 255, 255, 0, 255, 255, 255, 255, 0, 0, 117, 48];
        let answer = self.ask(&request);
        // Correlation, throttle time, no error.
        assert!(matches!(answer.as_slice(), [_, _, _, _, _, _, _, _, 0, 0, ..]), "{answer:?}");
    }

    /// Moves a partition of its cluster to these nodes, the preferred leader first. It returns before the data is moved.
    /// Version 0 of the request.
    pub fn reassign(&self, topic: &str, partition: i32, nodes: &[i32]) {
        // Version 0 has compact arrays and texts: their length plus one comes first. 0 is also the end of a structure.
        let compact = |length: usize| u8::try_from(length + 1).unwrap();
        let mut request = vec![0, 45, 0, 0, 0, 0, 0, 1, 255, 255, 0];
        request.extend(30_000_i32.to_be_bytes());
        request.extend([2, compact(topic.len())]);
        request.extend(topic.as_bytes());
        request.push(2);
        request.extend(partition.to_be_bytes());
        request.push(compact(nodes.len()));
        for node in nodes {
            request.extend(node.to_be_bytes());
        }
        request.extend([0, 0, 0]);
        let answer = self.ask(&request);
        // Correlation, end, throttle time, no error, no text; one topic with its name, one partition with no error.
        let (head, rest) = answer.split_at(4 + 1 + 4 + 3);
        let code = rest.get(1 + 1 + topic.len() + 1 + 4..).unwrap();
        assert!(head.ends_with(&[0, 0, 0]) && code.starts_with(&[0, 0]), "{answer:?}");
    }

    /// Changes the password of [`USER`], with a restart.
    pub fn change_password(&self, from: &str, to: &str) {
        self.stop();
        self.files(&format!("sed -i 's/{from}/{to}/' server.properties"));
        self.start();
    }

    /// Sets a quota of all consumers. Without bytes per second, removes it.
    pub fn limit_consumers(&self, bytes_per_second: Option<u32>) {
        let change = match bytes_per_second {
            Some(bytes) => format!("--add-config consumer_byte_rate={bytes}"),
            None => "--delete-config consumer_byte_rate".to_owned(),
        };
        let address = self.address();
        let command = format!(
            "kafka.admin.ConfigCommand --bootstrap-server {address} --alter {change} --entity-type clients --entity-default"
        );
        // A subshell: the guardian continues.
        self.files(&format!("({})", java(&command)));
    }

    /// Freezes it: connections stay open, and it does not answer.
    pub fn freeze(&self) {
        assert!(self.guardian.signal("STOP").unwrap());
    }

    /// Continues it after [`Self::freeze`].
    pub fn thaw(&self) {
        assert!(self.guardian.signal("CONT").unwrap());
    }

    /// Saves a copy of all its data. It has to be stopped.
    pub fn save(&self) {
        self.files_of_cluster("rm -rf saved && cp -r data saved");
    }

    /// Puts the saved copy back, as an operator restores a backup. It has to be stopped.
    pub fn restore(&self) {
        self.files_of_cluster("rm -rf data && cp -r saved data");
    }

    /// Runs the command where the data of the broker is, and where the data of `ZooKeeper` is.
    fn files_of_cluster(&self, command: &str) {
        self.files(command);
        if let Some(zookeeper) = &self.zookeeper {
            zookeeper.change_files(command);
        }
    }

    /// Changes one bit at the first place where `text` occurs in a partition. The broker has to be stopped.
    pub fn damage(&self, topic: &str, partition: i32, text: &str) {
        let path = self.guardian.directory().join(format!("data/{topic}-{partition}/{:020}.log", 0));
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
        *bytes.get_mut(at).unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
    }

    fn files(&self, command: &str) {
        assert_eq!(self.guardian.run(command).unwrap(), 0, "{command}");
    }

    /// For `bootstrap.servers`; the same after a restart.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The process id of the last start.
    pub fn pid(&self) -> i32 {
        self.pid.load(Ordering::Relaxed)
    }

    fn end(&self, signal: &str) {
        self.guardian.signal(signal).unwrap();
        self.guardian.wait(PATIENCE).unwrap();
    }
}

fn java(main: &str) -> String {
    java_with(SMALL_HEAP, main)
}

fn java_with(heap: &str, main: &str) -> String {
    format!(
        "exec java {heap} -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -Djava.io.tmpdir=tmp \
         -cp {} {main} >>log 2>&1",
        quoted(format!("{}/*", *LIBRARIES))
    )
}
