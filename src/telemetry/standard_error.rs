//! Standard error. One thread writes it.
//!
//! The reader of standard error can stop reading. The pipe is then full, and a write blocks without a limit. So only one
//! thread writes, and no other thread waits for it while the service works. It writes the lines in their order, each with
//! one write. The bytes of the waiting lines are limited: a line that does not fit is dropped and counted.
//!
//! The crate `tracing-appender` has such a thread, too. But if the reader has stopped, its guard writes an error
//! to standard error, too, so the process would not end.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, Write},
    mem, panic,
    sync::{
        Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// The maximum number of bytes that wait. The thread can hold as many again while it writes them. The log lines of a
/// large batch fit.
const MAX_BYTES: usize = 8 << 20;
/// The memory that is kept for the next lines.
const KEPT_BYTES: usize = 64 << 10;

/// The end of the process gives up after a period in which nothing was written.
const FLUSH_PERIOD: Duration = Duration::from_secs(1);
/// The maximum number of periods: a slow reader needs time for all the lines that wait.
const FLUSH_PERIODS: u32 = 10;

/// The interval at which a full pipe that does not block is tried again.
const FULL_PIPE: Duration = Duration::from_millis(10);

static LINES: LineBuffer = LineBuffer::new(MAX_BYTES);

/// Writes the events of `tracing`. Each write is one line.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        add(line, Overflow::Drop);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a line of a command.
pub fn write_line(text: &str) {
    add(format!("{text}\n").as_bytes(), Overflow::Drop);
}

/// Writes the last line of the process, after all others, and waits for a limited time until it is written.
pub fn write_last_line(text: &str) {
    add(format!("{text}\n").as_bytes(), Overflow::Accept);
    flush();
}

/// Waits until all lines are written. Gives up after 1 second in which nothing was written, and after 10 seconds in all.
pub fn flush() {
    LINES.flush_while_read(FLUSH_PERIOD, FLUSH_PERIODS);
}

/// Waits until all lines are written, at most for `limit`.
pub(crate) fn flush_within(limit: Duration) {
    LINES.flush(limit);
}

/// The number of lines that were dropped since the process started.
pub(super) fn dropped() -> u64 {
    LINES.lock().dropped
}

/// Reports a panic as the last line. The hook of the standard library would wait for the reader of standard error.
pub fn report_panics() {
    panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let backtrace = Backtrace::capture();
        let backtrace = match backtrace.status() {
            BacktraceStatus::Captured => format!("\n{backtrace}"),
            _ => String::new(),
        };
        write_last_line(&format!("thread '{}' {panic}{backtrace}", thread.name().unwrap_or("unnamed")));
    }));
}

/// Starts the thread at the first line.
fn add(line: &[u8], overflow: Overflow) {
    static STARTED: OnceLock<bool> = OnceLock::new();
    let report = |lines| {
        let hint = "the reader of standard error did not read for a while; the work continued";
        tracing::warn!(lines, hint, "log_lines_dropped");
    };
    let start = || {
        let thread = thread::Builder::new().name("standard error".to_owned());
        thread.spawn(move || LINES.write_all_to(io::stderr(), report)).is_ok()
    };
    if *STARTED.get_or_init(start) {
        LINES.add(line, overflow);
    } else {
        // Without threads the process ends soon. If this write fails, the error cannot be reported.
        io::stderr().write_all(line).ok();
    }
}

/// What happens to a line that does not fit into the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overflow {
    Drop,
    Accept,
}

/// Lines that wait for the thread that writes them.
#[derive(Debug)]
struct LineBuffer {
    max_bytes: usize,
    lines: Mutex<Lines>,
    changed: Condvar,
    /// The number of writes that standard error accepted.
    writes: AtomicU64,
}

#[derive(Debug)]
struct Lines {
    waiting: Vec<u8>,
    /// Whether the thread is writing lines that it has taken.
    writing: bool,
    dropped: u64,
    /// The part of `dropped` that a log line has reported.
    reported: u64,
}

impl LineBuffer {
    const fn new(max_bytes: usize) -> Self {
        let lines = Lines { waiting: Vec::new(), writing: false, dropped: 0, reported: 0 };
        Self { max_bytes, lines: Mutex::new(lines), changed: Condvar::new(), writes: AtomicU64::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, line: &[u8], overflow: Overflow) {
        let mut lines = self.lock();
        let is_first = lines.waiting.is_empty();
        let fits = is_first || lines.waiting.len().saturating_add(line.len()) <= self.max_bytes;
        if !fits && overflow == Overflow::Drop {
            lines.dropped = lines.dropped.saturating_add(1);
            return;
        }
        lines.waiting.extend_from_slice(line);
        drop(lines);
        // If other lines wait, the thread takes this one with them.
        if is_first {
            self.changed.notify_all();
        }
    }

    /// False: lines still wait after the limit.
    fn flush(&self, limit: Duration) -> bool {
        let busy = |lines: &mut Lines| lines.writing || !lines.waiting.is_empty();
        let wait = self.changed.wait_timeout_while(self.lock(), limit, busy);
        !wait.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// As `flush`, for at most `periods`. Ends early after a period in which nothing was written.
    fn flush_while_read(&self, period: Duration, periods: u32) -> bool {
        for _ in 0..periods {
            let before = self.writes.load(Ordering::Relaxed);
            if self.flush(period) {
                return true;
            }
            if self.writes.load(Ordering::Relaxed) == before {
                return false;
            }
        }
        false
    }

    /// Writes all lines, and never returns. `report` logs the number of lines that were dropped. Its line comes after the
    /// lines that were accepted before.
    fn write_all_to(&self, mut output: impl Write, report: impl Fn(u64)) {
        let mut taken = Vec::new();
        loop {
            let dropped = self.take(&mut taken);
            if dropped > 0 {
                report(dropped);
            }
            for line in taken.split_inclusive(|&byte| byte == b'\n') {
                write_line_to(&mut output, line, &self.writes);
            }
        }
    }

    /// Waits for lines, and takes all of them. Returns the number of lines that were dropped after them.
    fn take(&self, taken: &mut Vec<u8>) -> u64 {
        taken.clear();
        taken.shrink_to(KEPT_BYTES);
        let mut lines = self.lock();
        lines.writing = false;
        self.changed.notify_all();
        let nothing = |lines: &mut Lines| lines.waiting.is_empty();
        let mut lines = self.changed.wait_while(lines, nothing).unwrap_or_else(PoisonError::into_inner);
        lines.writing = true;
        mem::swap(&mut lines.waiting, taken);
        let dropped = lines.dropped.saturating_sub(lines.reported);
        lines.reported = lines.dropped;
        dropped
    }
}

/// Writes all bytes of a line. A full pipe can be one that does not block: then this waits, as a blocking write does. If
/// standard error is closed, nothing can be reported. `writes` counts the writes that were accepted.
fn write_line_to(output: &mut impl Write, mut line: &[u8], writes: &AtomicU64) {
    while !line.is_empty() {
        match output.write(line) {
            Ok(0) => return,
            Ok(written) => {
                line = line.get(written..).unwrap_or_default();
                writes.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(FULL_PIPE),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const PATIENCE: Duration = Duration::from_mins(1);

    /// A pipe: each line waits until the test allows it.
    struct Pipe {
        allowed: Receiver<()>,
        written: Sender<String>,
    }

    impl Write for Pipe {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.allowed.recv().map_err(io::Error::other)?;
            self.written.send(String::from_utf8_lossy(line).into_owned()).map_err(io::Error::other)?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_dropped_while_nothing_is_read_and_then_reported_in_their_place() {
        static LINES: LineBuffer = LineBuffer::new(8);
        let ((allow, allowed), (written, read)) = (channel(), channel());
        thread::spawn(|| {
            let report = |lines: u64| LINES.add(format!("dropped {lines}\n").as_bytes(), Overflow::Drop);
            LINES.write_all_to(Pipe { allowed, written }, report);
        });
        let add = |line: &str| LINES.add(line.as_bytes(), Overflow::Drop);
        let next = || {
            allow.send(()).unwrap();
            read.recv_timeout(PATIENCE).unwrap()
        };
        assert!(LINES.flush(Duration::ZERO), "nothing waits");
        add("one\n");
        assert_eq!(next(), "one\n");
        assert!(LINES.flush(PATIENCE));

        add("1\n");
        // The thread has taken the first line and waits for the reader.
        while !LINES.lock().writing {
            thread::yield_now();
        }
        for line in ["2\n", "3\n", "4\n", "5\n", "6\n", "7\n"] {
            add(line);
        }
        LINES.add(b"last\n", Overflow::Accept);
        assert!(!LINES.flush(Duration::from_millis(1)), "the reader does not read");
        assert_eq!(LINES.lock().dropped, 2);
        assert_eq!([(); 7].map(|()| next()), ["1\n", "2\n", "3\n", "4\n", "5\n", "last\n", "dropped 2\n"]);
        assert!(LINES.flush(PATIENCE));
        add("8\n");
        assert_eq!(next(), "8\n", "they are reported once");
    }

    /// A pipe that does not block: every second write finds it full, and the others write three bytes.
    struct FullPipe {
        full: bool,
        written: Vec<u8>,
    }

    impl Write for FullPipe {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.full = !self.full;
            if self.full {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let taken: Vec<u8> = line.iter().take(3).copied().collect();
            self.written.extend_from_slice(&taken);
            Ok(taken.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_pipe_that_does_not_block_gets_each_byte_once() {
        let mut pipe = FullPipe { full: false, written: Vec::new() };
        let writes = AtomicU64::new(0);
        write_line_to(&mut pipe, b"a whole line\n", &writes);
        assert_eq!(pipe.written, b"a whole line\n");
        assert_eq!(writes.into_inner(), 5);
    }

    /// A pipe with a slow reader: it reads the number of lines that `0` gives, and then stops.
    struct SlowPipe(u32);

    impl Write for SlowPipe {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let Some(left) = self.0.checked_sub(1) else {
                loop {
                    thread::park();
                }
            };
            self.0 = left;
            thread::sleep(Duration::from_millis(50));
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_end_waits_for_a_slow_reader_and_not_for_one_that_stopped() {
        static LINES: LineBuffer = LineBuffer::new(MAX_BYTES);
        let period = Duration::from_millis(500);
        let add = |lines: usize| LINES.add("line\n".repeat(lines).as_bytes(), Overflow::Accept);
        add(30);
        thread::spawn(|| LINES.write_all_to(SlowPipe(40), |_| ()));
        assert!(!LINES.flush_while_read(period, 2), "the lines need three periods");
        assert!(LINES.flush_while_read(period, u32::MAX));
        add(11);
        assert!(!LINES.flush_while_read(period, u32::MAX), "the reader stopped before the last line");
    }
}
