//! A process that ends a server when this process ends, also when it is killed.
//!
//! The guardian is a small shell script (`guardian.sh`). It holds one end of a pipe and this process holds the other;
//! no other process has it. The kernel closes this process's end when the [`Guardian`] is dropped and when the process
//! exits or is killed. Then the guardian stops its server and removes the directory in which both worked. It has its
//! own process group, so that a Ctrl-C for this process does not reach the server first.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, iter, thread};

use crate::ServerError;

/// A user of this machine that runs a server, because some servers refuse to run as root.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    user: u32,
    group: u32,
}

impl Account {
    /// The first of `names` that exists, if this process runs as root. `None`: it does not run as root, so it needs no
    /// other user.
    ///
    /// # Errors
    /// This process runs as root, and none of the users exists.
    pub fn unless_root(names: &[&str]) -> Result<Option<Self>, ServerError> {
        let id = Command::new("id").arg("-u").output().map_err(|error| ServerError(format!("id -u: {error}")))?;
        if id.stdout.trim_ascii() != b"0" {
            return Ok(None);
        }
        let users = fs::read_to_string("/etc/passwd").map_err(|error| ServerError(format!("/etc/passwd: {error}")))?;
        let account = |name: &&str| {
            let mut fields =
                users.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.split(':').skip(1);
            Some(Self { user: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()? })
        };
        let found = names.iter().find_map(account);
        found.map(Some).ok_or_else(|| ServerError(format!("this server refuses root, and no user {names:?} exists")))
    }
}

/// Watches one server and the directory in which it works.
#[derive(Debug)]
pub struct Guardian {
    directory: PathBuf,
    pipes: Mutex<Pipes>,
}

#[derive(Debug)]
struct Pipes {
    process: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    errors: Option<ChildStderr>,
}

impl Guardian {
    /// Starts a guardian, as another user if given. `last_signal` ends the server when this process ends.
    ///
    /// # Errors
    /// There is no shell, or no directory for temporary files in which this user may write.
    pub fn new(last_signal: &str, account: Option<Account>) -> Result<Self, ServerError> {
        let mut command = Command::new("sh");
        command.args(["-c", include_str!("guardian.sh"), "guardian", last_signal]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        if let Some(Account { user, group }) = account {
            command.uid(user).gid(group).env("HOME", "/");
        }
        // The other user may have no access to the current directory.
        let mut process = command.current_dir("/").spawn().map_err(|error| ServerError(format!("sh: {error}")))?;
        let (Some(commands), Some(answers), errors) =
            (process.stdin.take(), process.stdout.take(), process.stderr.take())
        else {
            return Err(ServerError("sh: no pipes".to_owned()));
        };
        let mut pipes = Pipes { process, commands: Some(commands), answers: BufReader::new(answers), errors };
        let directory = match pipes.answer() {
            Ok(directory) => PathBuf::from(directory),
            Err(_) => return Err(ServerError(format!("no temporary directory: {}", pipes.read_errors()))),
        };
        Ok(Self { directory, pipes: Mutex::new(pipes) })
    }

    /// The server's directory, which is also its working directory. It is removed at the end.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The standard output and error of the commands, unless their words redirect them. Only the first call returns it.
    pub fn take_errors(&self) -> Option<ChildStderr> {
        self.pipes.lock().unwrap_or_else(PoisonError::into_inner).errors.take()
    }

    /// Runs a shell command to its end and returns its exit status.
    ///
    /// # Errors
    /// The guardian has ended.
    pub fn run(&self, words: &str) -> Result<i32, ServerError> {
        self.number("run", words)
    }

    /// Starts the server by shell words, which should begin with `exec`, and returns its process id.
    ///
    /// # Errors
    /// The guardian has ended.
    pub fn start(&self, words: &str) -> Result<i32, ServerError> {
        self.number("start", words)
    }

    /// Sends the server a signal, by its name without `SIG`. False: the server had ended.
    ///
    /// # Errors
    /// The guardian has ended.
    pub fn signal(&self, name: &str) -> Result<bool, ServerError> {
        Ok(self.number("signal", name)? == 0)
    }

    /// The server's exit status, 128 + N after signal N, or `None` while it runs.
    ///
    /// # Errors
    /// The guardian has ended.
    pub fn exit_status(&self) -> Result<Option<i32>, ServerError> {
        let answer = self.ask("poll")?;
        if answer == "running" { Ok(None) } else { number(&answer).map(Some) }
    }

    /// Waits for the server's end and returns its exit status.
    ///
    /// # Errors
    /// The server still runs after `limit`, or the guardian has ended.
    pub fn wait(&self, limit: Duration) -> Result<i32, ServerError> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.exit_status()? {
                return Ok(status);
            }
            if started.elapsed() > limit {
                return Err(ServerError(format!("still running after {limit:?}")));
            }
        }
    }

    /// Waits until the server answers.
    ///
    /// # Errors
    /// The server ended, or did not answer within `limit`. The error has the end of its `log`.
    pub fn wait_until(&self, answers: impl Fn() -> bool, limit: Duration, log: &str) -> Result<(), ServerError> {
        let started = Instant::now();
        loop {
            if answers() {
                return Ok(());
            }
            let why = match self.exit_status()? {
                Some(status) => format!("ended with status {status}"),
                None if started.elapsed() > limit => format!("does not answer after {limit:?}"),
                None => {
                    thread::sleep(Duration::from_millis(20));
                    continue;
                }
            };
            return Err(ServerError(format!("the server {why}; its log ends with:\n{}", self.tail(log))));
        }
    }

    /// The last lines of a file in the directory.
    #[must_use]
    pub fn tail(&self, file: &str) -> String {
        let text = fs::read(self.directory.join(file)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(20)).copied().collect::<Vec<_>>().join("\n")
    }

    fn number(&self, verb: &str, words: &str) -> Result<i32, ServerError> {
        number(&self.ask(&format!("{verb} {words}"))?)
    }

    fn ask(&self, line: &str) -> Result<String, ServerError> {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = pipes.command(line).and_then(|()| pipes.answer());
        answer.map_err(|error| ServerError(format!("the guardian of {} has ended: {error}", self.directory.display())))
    }
}

impl Drop for Guardian {
    /// Waits until the server has ended and the directory is removed.
    fn drop(&mut self) {
        let pipes = self.pipes.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(pipes.commands.take());
        drop(pipes.process.wait()); // this fails only if the process was waited for before
    }
}

impl Pipes {
    fn command(&mut self, line: &str) -> io::Result<()> {
        let Some(commands) = &mut self.commands else { return Err(io::ErrorKind::BrokenPipe.into()) };
        commands.write_all(format!("{line}\n").as_bytes())
    }

    fn answer(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    fn read_errors(&mut self) -> String {
        let mut text = String::new();
        if let Some(errors) = &mut self.errors {
            // After an error, the text that was read is enough.
            errors.read_to_string(&mut text).ok();
        }
        text
    }
}

fn number(answer: &str) -> Result<i32, ServerError> {
    answer.parse().map_err(|_| ServerError(format!("the guardian answered {answer:?}")))
}

/// One word for a shell, with any content.
#[must_use]
pub fn quoted(word: impl AsRef<Path>) -> String {
    format!("'{}'", word.as_ref().display().to_string().replace('\'', r"'\''"))
}

/// Free ports of 127.0.0.1, below the ports of outgoing connections. So a server that is stopped for a while finds its
/// port still free.
///
/// # Errors
/// There are no free ports.
/// There are none.
pub fn free_ports<const N: usize>() -> Result<[u16; N], ServerError> {
    let random = RandomState::new().build_hasher().finish();
    let start = u16::try_from(random % 12_000).unwrap_or_default();
    let mut ports = [0; N];
    // All ports are kept open until all are found.
    let mut held = Vec::new();
    let candidates = iter::successors(Some(start), |port| Some((port + 1) % 12_000)).take(12_000);
    for candidate in candidates.map(|offset| 20_000 + offset) {
        let Some(slot) = ports.get_mut(held.len()) else { break };
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, candidate)) {
            *slot = candidate;
            held.push(listener);
        }
    }
    if held.len() < N { Err(ServerError("no free port between 20000 and 32000".to_owned())) } else { Ok(ports) }
}
