//! Real brokers: nodes of Apache Kafka in `KRaft` mode, with settings that keep them small.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};
use std::{fs, process};

use crate::proxy::Proxy;
use crate::wait::PATIENCE;
use crate::{Guardian, free_ports, quoted};

/// Where `make kafka` puts the broker and its libraries.
const LIBRARIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.cache/kafka");

/// Each differs from Kafka's default to make tests quick or the broker small.
const SETTINGS: &[(&str, &str)] = &[
    ("controller.listener.names", "CONTROLLER"),
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
    ("broker.heartbeat.interval.ms", "300"),
];

/// The settings of a broker that has access rules, and allows everything without one.
pub const AUTHORIZER: &[(&str, &str)] = &[
    ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
    ("allow.everyone.if.no.acl.found", "true"),
];

/// A running broker. It ends when this value is dropped or this process ends.
pub struct Kafka {
    guardian: Guardian,
    port: u16,
    controller: u16,
    pid: AtomicI32,
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

    /// As [`Self::start_new`], with a second listener behind a proxy. The test's own clients use the first one, a
    /// client that begins at the address of the proxy uses only the second one.
    pub fn start_behind_proxy() -> (Self, Proxy) {
        let [port, controller, proxied] = free_ports().unwrap();
        let proxy = Proxy::start(proxied);
        let (listener, advertised) =
            (format!(",PROXIED://127.0.0.1:{proxied}"), format!(",PROXIED://{}", proxy.address()));
        (Self::start_first(port, controller, (&listener, &advertised), &[]), proxy)
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

    fn join_as(&self, node: u32, port: u16, advertised: &str) -> Self {
        let own = format!(
            "process.roles=broker\nnode.id={node}\nlisteners=PLAINTEXT://127.0.0.1:{port}\n\
             advertised.listeners=PLAINTEXT://{advertised}\n"
        );
        Self::start_node(port, self.controller, &own, &[])
    }

    fn start_first(
        port: u16,
        controller: u16,
        (listener, advertised): (&str, &str),
        settings: &[(&str, &str)],
    ) -> Self {
        let own = format!(
            "process.roles=broker,controller\nnode.id=1\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{listener}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}{advertised}\n"
        );
        Self::start_node(port, controller, &own, settings)
    }

    fn start_node(port: u16, controller: u16, own: &str, settings: &[(&str, &str)]) -> Self {
        assert!(Path::new(LIBRARIES).is_dir(), "no Apache Kafka in {LIBRARIES}; to get it: make test");
        // It need not end in order, because its directory is removed.
        let guardian = Guardian::new("KILL", None).unwrap();
        let mut properties = format!("{own}controller.quorum.voters=1@127.0.0.1:{controller}\n");
        for (name, value) in SETTINGS.iter().chain(settings) {
            writeln!(properties, "{name}={value}").unwrap();
        }
        fs::write(guardian.directory().join("server.properties"), properties).unwrap();
        fs::create_dir(guardian.directory().join("tmp")).unwrap();
        let kafka = Self { guardian, port, controller, pid: AtomicI32::new(0) };
        kafka.format(1);
        kafka.start();
        kafka
    }

    /// Replaces it by another cluster without topics, at the same address. It has to be stopped.
    pub fn replace(&self) {
        self.files("rm -rf data");
        self.format(2);
    }

    fn format(&self, number: u32) {
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
        self.pid.store(self.guardian.start(&java("kafka.Kafka server.properties")).unwrap(), Ordering::Relaxed);
        let open = || TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok();
        self.guardian.wait_until(open, PATIENCE, "log").unwrap_or_else(|error| panic!("{error}"));
    }

    /// Stops it in order.
    pub fn stop(&self) {
        self.end("TERM");
    }

    /// Stops it as a crash does.
    pub fn kill(&self) {
        self.end("KILL");
    }

    /// Lets clients do everything with a topic except read its settings. The broker needs [`AUTHORIZER`].
    pub fn hide_settings(&self, topic: &str) {
        // CreateAcls, version 1, as the documentation of Kafka's protocol describes it: rdkafka has no function for it in Rust.
        let mut request = [30_i16.to_be_bytes(), 1_i16.to_be_bytes()].concat();
        request.extend(1_i32.to_be_bytes());
        let text = |text: &str| [&i16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat();
        request.extend(text("test"));
        request.extend(2_i32.to_be_bytes());
        let (all, describe_configs, deny, allow) = (2, 10, 2, 3);
        for (operation, permission) in [(all, allow), (describe_configs, deny)] {
            request.push(2); // a topic
            request.extend(text(topic));
            request.push(3); // by its whole name
            request.extend([text("User:ANONYMOUS"), text("*")].concat());
            request.extend([operation, permission]);
        }
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        let size = u32::try_from(request.len()).unwrap().to_be_bytes();
        stream.write_all(&[&size, request.as_slice()].concat()).unwrap();
        // Size, correlation, throttle time, number of results; then two results: the code 0 and no text.
        let mut answer = [0; 24];
        stream.read_exact(&mut answer).unwrap();
        assert!(matches!(answer, [.., 0, 0, _, _, 0, 0, _, _]), "{answer:?}");
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
        self.files("rm -rf saved && cp -r data saved");
    }

    /// Puts the saved copy back, as an operator restores a backup. It has to be stopped.
    pub fn restore(&self) {
        self.files("rm -rf data && cp -r saved data");
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
    format!(
        "exec java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -Djava.io.tmpdir=tmp \
         -cp {} {main} >>log 2>&1",
        quoted(format!("{LIBRARIES}/*"))
    )
}
