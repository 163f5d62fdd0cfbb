//! The Docker Engine of this machine: the image of the service, and Compose projects that are removed at their end.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::LazyLock;

use serde_json::Value;
use testbed::unique;

/// Not the image that a developer uses.
pub const IMAGE: &str = "booking-history:test";

/// Runs `docker` and returns its standard output. Panics with its output if it fails.
pub fn docker(words: &[&str]) -> String {
    output(Command::new("docker").args(words))
}

/// Builds the image once for all tests.
pub fn build_image() {
    static BUILT: LazyLock<()> = LazyLock::new(|| {
        let directory = env!("CARGO_MANIFEST_DIR");
        docker(&["build", "--quiet", "--tag", IMAGE, "--file", &format!("{directory}/docker/Dockerfile"), directory]);
    });
    LazyLock::force(&BUILT);
}

/// What `docker inspect` says about a container or an image.
pub fn inspect(object: &str) -> Value {
    serde_json::from_str::<Value>(&docker(&["inspect", object])).unwrap()[0].take()
}

/// Services of some Compose files, with a name, a network and volumes of their own and without fixed ports.
#[derive(Debug)]
pub struct Project {
    name: String,
    files: Vec<String>,
    variables: Vec<(&'static str, &'static str)>,
    remover: Child,
    alive: Option<ChildStdin>,
}

impl Project {
    /// Nothing is started yet. The variables are those of the Compose files.
    pub fn new(what: &str, files: &[&str], variables: &[(&'static str, &'static str)]) -> Self {
        build_image();
        let name = unique(&format!("booking-history-test-{what}"));
        // It removes everything when the pipe closes: at the end of the test, also if this process is killed.
        let remove = r#"cat; docker compose --project-name "$0" down --volumes --remove-orphans --timeout 0"#;
        let mut remover = Command::new("sh")
            .args(["-c", remove, &name])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let alive = remover.stdin.take();
        let files = files.iter().map(|file| (*file).to_owned()).collect();
        let fixed = [("BOOKING_HISTORY_IMAGE", IMAGE), ("KAFKA_PORT", "0"), ("POSTGRES_PORT", "0")];
        Self { name, files, variables: fixed.into_iter().chain(variables.iter().copied()).collect(), remover, alive }
    }

    /// Runs `docker compose` and returns its standard output. Panics with its output if it fails.
    pub fn compose(&self, words: &[&str]) -> String {
        output(self.command().args(words))
    }

    /// Starts the services and waits until they are healthy, and until those that run once have succeeded.
    pub fn up(&self, words: &[&str]) {
        self.compose(
            &[&["up", "--no-build", "--detach", "--wait", "--wait-timeout", "600", "--quiet-pull"], words].concat(),
        );
    }

    /// The container ids of a service, also of containers that have ended.
    pub fn containers(&self, service: &str) -> Vec<String> {
        self.compose(&["ps", "--all", "--quiet", service]).lines().map(str::to_owned).collect()
    }

    /// The id of the only container of a service.
    pub fn container(&self, service: &str) -> String {
        let containers = self.containers(service);
        assert_eq!(containers.len(), 1, "{containers:?}");
        containers.concat()
    }

    /// The health of the only container of `booking-history`.
    pub fn health(&self) -> String {
        let state = inspect(&self.container("booking-history"))["State"].take();
        state["Health"]["Status"].as_str().unwrap().to_owned()
    }

    /// Sends a message with the tool of Kafka 4, also to an older broker.
    pub fn produce(&self, message: &str) {
        let network = format!("{}_booking-history", self.name);
        let tool = "/opt/kafka/bin/kafka-console-producer.sh --bootstrap-server kafka:19092 --topic booking-events";
        let send = format!("echo '{message}' | {tool}");
        docker(&["run", "--rm", "--network", &network, "apache/kafka:4.1.0", "sh", "-c", &send]);
    }

    /// The ids of the stored bookings, in order.
    pub fn bookings(&self) -> Vec<String> {
        let query = "select booking_id from booking_history order by booking_id";
        let psql = ["psql", "--username=postgres", "--dbname=booking_history", "--no-align", "--tuples-only"];
        let words = [&["exec", "-T", "postgres"], &psql[..], &["--command", query]].concat();
        self.compose(&words).lines().map(str::to_owned).collect()
    }

    fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.args(["compose", "--project-name", &self.name]);
        command.args(self.files.iter().flat_map(|file| ["--file", file]));
        command.current_dir(env!("CARGO_MANIFEST_DIR")).envs(self.variables.iter().copied());
        command
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = self.command().args(["logs", "--no-color", "--tail=40"]).output();
            eprintln!("{}", logs.map(|logs| String::from_utf8_lossy(&logs.stdout).into_owned()).unwrap_or_default());
        }
        drop(self.alive.take());
        drop(self.remover.wait());
    }
}

fn output(command: &mut Command) -> String {
    let output = match command.stdin(Stdio::null()).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => panic!("docker is not installed"),
        output => output.unwrap(),
    };
    let [text, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{command:?}: {}\n{text}{errors}", output.status);
    text
}
