//! The built program as a child process of the demo. Unlike the tests' own service it reports errors and does not
//! panic.

use std::time::Duration;

use super::DemoError;
use testbed::{Guardian, quoted};

const LOG: &str = "service.log";

/// The child process and its directory.
pub(super) struct DemoService {
    guardian: Guardian,
    command: String,
}

impl DemoService {
    /// `settings` are the whole environment of the child.
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

    /// An error if it has ended.
    pub(super) fn must_run(&self) -> Result<(), DemoError> {
        match self.guardian.exit_status()? {
            None => Ok(()),
            Some(status) => Err(self.failed("run", status)),
        }
    }

    /// Kills it while it works.
    pub(super) fn kill(&self) -> Result<(), DemoError> {
        self.guardian.signal("KILL")?;
        self.guardian.wait(Duration::from_secs(5))?;
        Ok(())
    }

    /// Stops it as a deployment does; an error unless it ends with 0.
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
