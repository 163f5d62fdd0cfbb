//! The service as a deployment has it: the built program, as a child.

use std::io::{BufRead as _, BufReader};
use std::process::ChildStderr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::{Guardian, quoted};

use crate::kafka::Kafka;
use crate::topic::Topic;
use crate::wait::PATIENCE;

/// A child that is killed when it is dropped, or when the test binary ends in any way.
pub struct Service {
    guardian: Guardian,
    words: String,
    lines: Arc<Lines>,
    pid: i32,
}

#[derive(Default)]
struct Lines {
    all: Mutex<Vec<String>>,
    more: Condvar,
}

/// The settings that nearly every test needs: its broker, topic, group and database, and no fixed port.
pub fn settings(kafka: &Kafka, topic: &Topic, group: &str, database: &str) -> Vec<(String, String)> {
    [
        ("KAFKA_BOOTSTRAP_SERVERS", kafka.address().as_str()),
        ("KAFKA_TOPIC", &topic.name),
        ("KAFKA_GROUP_ID", group),
        ("DATABASE_URL", database),
        ("HTTP_ADDR", ""),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

/// Makes the tables with `booking-history migrate up`.
pub fn migrated(database: &str) {
    let settings = [("DATABASE_URL".to_owned(), database.to_owned())];
    let (code, lines) = Service::finish("migrate up", &settings, PATIENCE);
    assert_eq!(code, 0, "{lines:#?}");
}

/// The program that cargo has built for the same profile: it stands beside the test's own directory.
pub fn program() -> String {
    let own = std::env::current_exe().unwrap();
    let beside = own.ancestors().skip(1).take(2).map(|directory| directory.join("booking-history"));
    let found = beside.into_iter().find(|path| path.is_file());
    let found = found.unwrap_or_else(|| panic!("no booking-history beside {}: cargo build", own.display()));
    found.to_str().unwrap().to_owned()
}

impl Service {
    /// `booking-history run`, which knows these settings and nothing else.
    pub fn run(settings: &[(String, String)]) -> Self {
        Self::command("run", settings)
    }

    /// Any command with its arguments, each a shell word.
    pub fn command(arguments: &str, settings: &[(String, String)]) -> Self {
        Self::with_files(&[], arguments, settings)
    }

    /// A command in a directory that holds these files, by name and content.
    pub fn with_files(files: &[(&str, &str)], arguments: &str, settings: &[(String, String)]) -> Self {
        Self::program(&program(), files, arguments, settings)
    }

    /// The same of another build.
    pub fn program(program: &str, files: &[(&str, &str)], arguments: &str, settings: &[(String, String)]) -> Self {
        let guardian = Guardian::new("KILL", None).unwrap();
        for (name, content) in files {
            fs::write(guardian.directory().join(name), content).unwrap();
        }
        let settings: Vec<_> = settings.iter().map(|(name, value)| quoted(format!("{name}={value}"))).collect();
        let words = format!("exec env -i {} {} {arguments}", settings.join(" "), quoted(program));
        let lines = Arc::new(Lines::default());
        let (pipe, theirs) = (guardian.take_errors().unwrap(), Arc::clone(&lines));
        thread::spawn(move || theirs.read(pipe));
        let pid = guardian.start(&words).unwrap();
        Self { guardian, words, lines, pid }
    }

    /// Runs a command to its end: its exit code, and the lines of its standard output and error.
    pub fn finish(arguments: &str, settings: &[(String, String)], limit: Duration) -> (i32, Vec<String>) {
        Self::command(arguments, settings).finished(limit)
    }

    /// Waits for its end: its exit code, and the lines of its standard output and error.
    pub fn finished(self, limit: Duration) -> (i32, Vec<String>) {
        let code = self.wait_exit(limit);
        // The pipe closes with the guardian, and all that was written is read by then.
        let lines = Arc::clone(&self.lines);
        drop(self);
        let started = Instant::now();
        while Arc::strong_count(&lines) > 1 && started.elapsed() < limit {
            thread::sleep(Duration::from_millis(5));
        }
        let lines = lines.all.lock().unwrap().clone();
        (code, lines)
    }

    /// Starts it again after its end.
    pub fn start_again(&mut self) {
        self.pid = self.guardian.start(&self.words).unwrap();
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// As a crash of the process.
    pub fn kill9(&self) {
        assert!(self.guardian.signal("KILL").unwrap(), "it had ended: {:#?}", self.last_lines());
        self.guardian.wait(Duration::from_secs(10)).unwrap();
    }

    /// Freezes it.
    pub fn sigstop(&self) {
        assert!(self.guardian.signal("STOP").unwrap(), "it had ended: {:#?}", self.last_lines());
    }

    /// Lets it go on.
    pub fn sigcont(&self) {
        assert!(self.guardian.signal("CONT").unwrap(), "it had ended: {:#?}", self.last_lines());
    }

    /// As Ctrl-C on a terminal.
    pub fn sigint(&self) {
        assert!(self.guardian.signal("INT").unwrap(), "it had ended: {:#?}", self.last_lines());
    }

    /// As a deployment stops it.
    pub fn sigterm(&self) {
        assert!(self.guardian.signal("TERM").unwrap(), "it had ended: {:#?}", self.last_lines());
    }

    /// Waits for its end: the exit code, or 128 + N after signal N.
    pub fn wait_exit(&self, limit: Duration) -> i32 {
        self.guardian.wait(limit).unwrap_or_else(|error| panic!("{error}: {:#?}", self.last_lines()))
    }

    /// False once it has ended.
    pub fn is_running(&self) -> bool {
        self.guardian.exit_status().unwrap().is_none()
    }

    /// All lines it wrote so far, over all its starts.
    pub fn lines(&self) -> Vec<String> {
        self.lines.all.lock().unwrap().clone()
    }

    /// Waits for a line, also among those written already, and gives it.
    pub fn wait_for_line(&self, wanted: impl Fn(&str) -> bool, limit: Duration) -> String {
        let end = Instant::now() + limit;
        let mut lines = self.lines.all.lock().unwrap();
        loop {
            if let Some(line) = lines.iter().find(|line| wanted(line)) {
                return line.clone();
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no such line within {limit:?} among {:#?}", *lines);
            lines = self.lines.more.wait_timeout(lines, left).unwrap().0;
        }
    }

    fn last_lines(&self) -> Vec<String> {
        let lines = self.lines();
        lines.iter().skip(lines.len().saturating_sub(30)).cloned().collect()
    }
}

impl Lines {
    fn read(&self, pipe: ChildStderr) {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            self.all.lock().unwrap().push(line);
            self.more.notify_all();
        }
    }
}
