//! A real broker: Apache Kafka in `KRaft` mode, one node, with the smallest settings that work.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};
use std::{fs, process};

use crate::{Guardian, free_ports, quoted};

use crate::wait::PATIENCE;

/// Where `make kafka` puts the broker and its libraries.
const LIBRARIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.cache/kafka");

/// Each setting differs from Kafka's default, to make the broker fast or small. A comment gives the reason where it is
/// not obvious.
const SETTINGS: &[(&str, &str)] = &[
    ("process.roles", "broker,controller"),
    ("node.id", "1"),
    ("controller.listener.names", "CONTROLLER"),
    ("inter.broker.listener.name", "PLAINTEXT"),
    ("listener.security.protocol.map", "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT"),
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
    // Otherwise every new group waits 3 s for members.
    ("group.initial.rebalance.delay.ms", "0"),
    // So that a test can freeze a member past its session.
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
    // Otherwise a start after a kill waits 15 s for the session of the killed broker.
    ("broker.session.timeout.ms", "1500"),
    ("broker.heartbeat.interval.ms", "300"),
];

/// A broker. It is removed when this value is dropped, or however the test binary ends.
pub struct Kafka {
    guardian: Guardian,
    port: u16,
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
        assert!(Path::new(LIBRARIES).is_dir(), "no Apache Kafka in {LIBRARIES}; to get it: make test");
        // It needs no clean shutdown: its directory is removed with it.
        let guardian = Guardian::new("KILL", None).unwrap();
        let [port, controller] = free_ports().unwrap();
        let mut properties = format!(
            "controller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n"
        );
        for (name, value) in SETTINGS {
            writeln!(properties, "{name}={value}").unwrap();
        }
        fs::write(guardian.directory().join("server.properties"), properties).unwrap();
        fs::create_dir(guardian.directory().join("tmp")).unwrap();
        let kafka = Self { guardian, port, pid: AtomicI32::new(0) };
        kafka.format(1);
        kafka.start();
        kafka
    }

    /// Makes it another cluster, without any topic, at the same address. The broker must be stopped.
    pub fn replace(&self) {
        self.files("rm -rf data");
        self.format(2);
    }

    fn format(&self, number: u32) {
        // Any 22 characters are the id of a cluster.
        let id = format!("{number}{:021}", process::id());
        let status =
            self.guardian.run(&java(&format!("kafka.tools.StorageTool format -t {id} -c server.properties"))).unwrap();
        assert_eq!(
            status,
            0,
            "kafka.tools.StorageTool failed (Java 17 is needed; `make test` installs it):\n{}",
            self.guardian.tail("log")
        );
    }

    /// Starts it again on the same port with the same data; returns when the port is open.
    pub fn start(&self) {
        self.pid.store(self.guardian.start(&java("kafka.Kafka server.properties")).unwrap(), Ordering::Relaxed);
        let open = || TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok();
        self.guardian.wait_until(open, PATIENCE, "log").unwrap_or_else(|error| panic!("{error}"));
    }

    /// Stops it cleanly.
    pub fn stop(&self) {
        self.end("TERM");
    }

    /// Stops it as a crash would.
    pub fn kill(&self) {
        self.end("KILL");
    }

    /// Freezes it: connections stay open, and no request is answered.
    pub fn freeze(&self) {
        assert!(self.guardian.signal("STOP").unwrap());
    }

    /// Continues it after a freeze.
    pub fn thaw(&self) {
        assert!(self.guardian.signal("CONT").unwrap());
    }

    /// Keeps a copy of all its data. The broker must be stopped.
    pub fn save(&self) {
        self.files("rm -rf saved && cp -r data saved");
    }

    /// Restores the copy, as an operator does after a disaster. The broker must be stopped.
    pub fn restore(&self) {
        self.files("rm -rf data && cp -r saved data");
    }

    /// Changes one bit at the first occurrence of `text` in a partition. The broker must be stopped.
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

    /// For `bootstrap.servers`. It stays the same over restarts.
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
