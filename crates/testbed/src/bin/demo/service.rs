//! The service in the demo: the built program as a child process, with only the given environment.

use std::time::Duration;

use super::DemoError;
use testbed::{Guardian, quoted};

const LOG: &str = "service.log";

/// The child and the directory it runs in.
pub(super) struct Service {
    guardian: Guardian,
    command: String,
}

impl Service {
    /// `settings` are the whole environment of the child process.
    pub(super) fn new(settings: &[(&str, &str)]) -> Result<Self, DemoError> {
        let program = testbed::service::program();
        let mut command = "exec env -i".to_owned();
        for (name, value) in settings {
            command.push(' ');
            command.push_str(&quoted(format!("{name}={value}")));
        }
        command.push(' ');
        command.push_str(&quoted(program));
        Ok(Self { guardian: Guardian::new("KILL", None)?, command })
    }

    pub(super) fn migrate(&self) -> Result<(), DemoError> {
        match self.guardian.run(&self.words("migrate up"))? {
            0 => Ok(()),
            status => Err(self.failed("migrate up", status)),
        }
    }

    pub(super) fn start(&self) -> Result<(), DemoError> {
        self.guardian.start(&self.words("run"))?;
        Ok(())
    }

    /// Fails if the service has ended.
    pub(super) fn must_run(&self) -> Result<(), DemoError> {
        match self.guardian.exit_status()? {
            None => Ok(()),
            Some(status) => Err(self.failed("run", status)),
        }
    }

    /// Kills the service, whatever it does.
    pub(super) fn kill(&self) -> Result<(), DemoError> {
        self.guardian.signal("KILL")?;
        self.guardian.wait(Duration::from_secs(5))?;
        Ok(())
    }

    /// Stops the service as a deployment does. Fails unless it ends with 0.
    pub(super) fn stop(&self) -> Result<(), DemoError> {
        self.guardian.signal("TERM")?;
        match self.guardian.wait(Duration::from_secs(15))? {
            0 => Ok(()),
            status => Err(self.failed("run", status)),
        }
    }

    pub(super) fn log(&self) -> String {
        self.guardian.tail(LOG)
    }

    fn words(&self, arguments: &str) -> String {
        format!("{} {arguments} >>{LOG} 2>&1", self.command)
    }

    fn failed(&self, command: &str, status: i32) -> DemoError {
        DemoError::Failed(format!("`{command}` ended with status {status}; its log ends with:\n{}", self.log()))
    }
}
