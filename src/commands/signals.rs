//! SIGINT and SIGTERM.
//!
//! Process 1 of a container has no default action for a signal. So every command handles both signals. A separate thread
//! handles them, so that it can end the process while all other threads are blocked.

use std::{io, thread, time::Duration};

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::telemetry::standard_error;

/// How long the exit after a signal waits for a slow reader of the log.
const SIGNAL_FLUSH_LIMIT: Duration = Duration::from_millis(100);

/// Handles both signals from now on. If there is a `stop`, the first signal is sent to it. At every other signal the
/// process exits with 128 + the number of the signal.
pub(super) fn handle(stop: Option<oneshot::Sender<()>>) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let exit_at_signal = async move {
        if let Some(stop) = stop {
            let first = next(&mut interrupt, &mut terminate).await;
            // Outside of the macro, which does not evaluate its fields if debug lines are off.
            let sent = stop.send(()).is_ok();
            tracing::debug!(signal = first, sent, "signal_received");
        }
        let last = next(&mut interrupt, &mut terminate).await;
        standard_error::flush_within(SIGNAL_FLUSH_LIMIT);
        super::exit(128 + last)
    };
    thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(exit_at_signal))?;
    Ok(())
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) -> i32 {
    tokio::select! {
        _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
        _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
    }
}
