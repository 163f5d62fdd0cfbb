//! The built program as a child process.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::ChildStderr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use std::{fs, thread};

use serde_json::Value;

use crate::http::{self, Answer};
use crate::log_line::LogLine;
use crate::wait::{PATIENCE, eventually};
use crate::{Guardian, quoted};

/// The environment variables of the child process. It has no others.
pub type Environment = BTreeMap<String, String>;

/// An environment of these variables.
pub fn environment(variables: &[(&str, &str)]) -> Environment {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A child process. It is killed when this value is dropped, or when the test binary ends in any way.
pub struct Service {
    guardian: Guardian,
    words: String,
    lines: Arc<Output>,
    pid: i32,
    /// The number of lines before the last start.
    lines_before: usize,
}

#[derive(Default)]
struct Output {
    all: Mutex<Vec<String>>,
    /// Nothing reads the pipe.
    stopped: Mutex<bool>,
    reads: Condvar,
    more: Condvar,
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
    /// Starts any command with its arguments, each a shell word.
    pub fn start(arguments: &str, environment: &Environment) -> Self {
        Self::start_in(&[], arguments, environment)
    }

    /// Starts a command in a directory that holds these files, by name and content.
    pub fn start_in(files: &[(&str, &str)], arguments: &str, environment: &Environment) -> Self {
        Self::start_program(&program(), files, arguments, environment)
    }

    /// Starts a command that may open this number of files, sockets included.
    pub fn start_with_files(limit: u32, arguments: &str, environment: &Environment) -> Self {
        Self::start_words(&format!("ulimit -n {limit};"), &program(), &[], arguments, environment)
    }

    /// Starts a command for which no signal has a default action, as for process 1 of a container.
    pub fn start_without_default_actions(arguments: &str, environment: &Environment) -> Self {
        Self::start_words("trap '' INT TERM;", &program(), &[], arguments, environment)
    }

    /// As [`Self::start_in`], with another build of the program.
    pub fn start_program(program: &str, files: &[(&str, &str)], arguments: &str, environment: &Environment) -> Self {
        Self::start_words("", program, files, arguments, environment)
    }

    /// `first`: shell words that run before the program.
    fn start_words(
        first: &str,
        program: &str,
        files: &[(&str, &str)],
        arguments: &str,
        environment: &Environment,
    ) -> Self {
        let guardian = Guardian::new("KILL", None).unwrap();
        for (name, content) in files {
            fs::write(guardian.directory().join(name), content).unwrap();
        }
        let variables: Vec<_> = environment.iter().map(|(name, value)| quoted(format!("{name}={value}"))).collect();
        let words = format!("{first} exec env -i {} {} {arguments}", variables.join(" "), quoted(program));
        let lines = Arc::new(Output::default());
        let (pipe, writer) = (guardian.take_errors().unwrap(), Arc::clone(&lines));
        thread::spawn(move || writer.read(pipe));
        let pid = guardian.start(&words).unwrap();
        Self { guardian, words, lines, pid, lines_before: 0 }
    }

    /// Runs a command to its end: its exit code, and the lines of its standard output and error.
    pub fn finish(arguments: &str, environment: &Environment) -> (i32, Vec<String>) {
        Self::start(arguments, environment).finished()
    }

    /// Waits for its end: its exit code, and the lines of its standard output and error.
    pub fn finished(self) -> (i32, Vec<String>) {
        self.finished_within(PATIENCE)
    }

    /// As [`Self::finished`], for a command that may take longer than [`PATIENCE`].
    pub fn finished_within(self, limit: Duration) -> (i32, Vec<String>) {
        let code = self.exit_within(limit);
        // The pipe closes with the guardian, and the thread that reads it then ends.
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
        self.lines_before = self.lines.all.lock().unwrap().len();
        self.pid = self.guardian.start(&self.words).unwrap();
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Stops it in order, as a deployment does; panics unless it ends with 0.
    pub fn stop(&self) {
        self.sigterm();
        assert_eq!(self.wait_exit(), 0, "{:#?}", self.last_lines());
    }

    /// Ends it as a crash does.
    pub fn kill9(&self) {
        self.signal("KILL");
        self.guardian.wait(Duration::from_secs(10)).unwrap();
    }

    /// Freezes it.
    pub fn sigstop(&self) {
        self.signal("STOP");
    }

    /// Continues it after [`Self::sigstop`].
    pub fn sigcont(&self) {
        self.signal("CONT");
    }

    /// As Ctrl-C on a terminal.
    pub fn sigint(&self) {
        self.signal("INT");
    }

    /// As a deployment asks it to stop.
    pub fn sigterm(&self) {
        self.signal("TERM");
    }

    fn signal(&self, name: &str) {
        assert!(self.guardian.signal(name).unwrap(), "it had ended: {:#?}", self.last_lines());
    }

    /// Waits for its end: the exit code, or 128 + N after signal N.
    pub fn wait_exit(&self) -> i32 {
        self.exit_within(PATIENCE)
    }

    fn exit_within(&self, limit: Duration) -> i32 {
        self.guardian.wait(limit).unwrap_or_else(|error| panic!("{error}: {:#?}", self.last_lines()))
    }

    /// False after it has ended.
    pub fn is_running(&self) -> bool {
        self.guardian.exit_status().unwrap().is_none()
    }

    /// Stops reading its standard output and error, so that the pipe fills up.
    pub fn stop_reading(&self) {
        *self.lines.stopped.lock().unwrap() = true;
    }

    /// Reads again after [`Self::stop_reading`].
    pub fn continue_reading(&self) {
        *self.lines.stopped.lock().unwrap() = false;
        self.lines.reads.notify_all();
    }

    /// All lines that it wrote, over all its starts.
    pub fn lines(&self) -> Vec<String> {
        self.lines.all.lock().unwrap().clone()
    }

    /// The events of this name since its last start.
    pub fn events(&self, name: &str) -> Vec<LogLine> {
        let lines = self.lines.all.lock().unwrap();
        let events = lines.iter().skip(self.lines_before).filter_map(|line| LogLine::parse(line));
        events.filter(|line| line.event == name).collect()
    }

    /// Waits until it has logged this event since its last start, and gives the first such line.
    pub fn wait_for_event(&self, name: &str) -> LogLine {
        self.wait_for_event_with(name, &[])
    }

    /// As [`Self::wait_for_event`], for an event that has these fields with these values.
    pub fn wait_for_event_with(&self, name: &str, fields: &[(&str, &str)]) -> LogLine {
        let wanted = |line: &LogLine| line.event == name && line.has(fields);
        self.wait_for_line(&format!("event {name} {fields:?}"), |line| LogLine::parse(line).filter(wanted))
    }

    /// Waits until it has started to read this number of partitions since its last start.
    pub async fn wait_until_started(&self, partitions: usize) {
        let started = |started: &usize| *started >= partitions;
        eventually(PATIENCE, started, async || self.events("partition_started").len()).await;
    }

    /// The reasons in `/readyz`.
    pub fn reasons(&self) -> Vec<String> {
        let body: Value = serde_json::from_str(&self.get("/readyz").body).unwrap();
        let reasons = body.get("reasons").and_then(Value::as_array).unwrap();
        reasons.iter().map(|reason| reason.as_str().unwrap().to_owned()).collect()
    }

    /// Waits until `/readyz` has a reason with all of these words.
    pub async fn wait_for_reason(&self, words: &[&str]) {
        let has = |reasons: &Vec<String>| reasons.iter().any(|reason| words.iter().all(|word| reason.contains(word)));
        eventually(PATIENCE, has, async || self.reasons()).await;
    }

    /// Waits for the line of the error that it ends with, and gives it; panics if it does not contain this text.
    pub fn wait_for_error(&self, text: &str) -> String {
        let error = self.wait_for_line("error", |line| line.starts_with("error: ").then(|| line.to_owned()));
        assert!(error.contains(text), "{text:?} is not in {error}");
        error
    }

    /// Where it answers HTTP: it has to run with the scene's `with_http`.
    pub fn http_address(&self) -> String {
        self.wait_for_event("http_listening").field("address").to_owned()
    }

    /// Sends a GET request, and waits for the answer.
    pub fn get(&self, path: &str) -> Answer {
        http::get(&self.http_address(), path)
    }

    /// Waits for a line since the last start of which `found` makes something.
    fn wait_for_line<T>(&self, what: &str, found: impl Fn(&str) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        let mut seen = self.lines_before;
        let mut lines = self.lines.all.lock().unwrap();
        loop {
            if let Some(value) = lines.iter().skip(seen).find_map(|line| found(line)) {
                return value;
            }
            seen = lines.len();
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {what} within {PATIENCE:?} among {:#?}", *lines);
            lines = self.lines.more.wait_timeout(lines, left).unwrap().0;
        }
    }

    fn last_lines(&self) -> Vec<String> {
        let lines = self.lines();
        lines.iter().skip(lines.len().saturating_sub(30)).cloned().collect()
    }
}

impl Output {
    fn read(&self, pipe: ChildStderr) {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            drop(self.reads.wait_while(self.stopped.lock().unwrap(), |stopped| *stopped).unwrap());
            self.all.lock().unwrap().push(line);
            self.more.notify_all();
        }
    }
}
