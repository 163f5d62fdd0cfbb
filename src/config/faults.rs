//! All faults in the settings, for the user who set them.

use std::fmt;

/// One setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFault {
    /// Its name in the environment.
    pub setting: &'static str,
    /// The given value. `None` if it may contain a secret.
    pub given: Option<String>,
    /// What is accepted instead.
    pub accepted: String,
}

/// All settings that cannot be used. As an error it is never empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigFaults(Vec<ConfigFault>);

impl ConfigFaults {
    /// A single fault.
    #[must_use]
    pub fn one(fault: ConfigFault) -> Self {
        Self(vec![fault])
    }

    /// The faults in the order in which the settings are documented.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigFault> {
        self.0.iter()
    }

    /// Adds a fault.
    pub(super) fn add(&mut self, fault: ConfigFault) {
        self.0.push(fault);
    }

    /// Adds all faults of another list.
    pub(super) fn append(&mut self, faults: Self) {
        self.0.extend(faults.0);
    }

    /// Adds a fault unless `parse` accepts the text. The error of `parse` contains the accepted values.
    pub(super) fn check<T>(
        &mut self,
        setting: &'static str,
        given: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        parse(given).map_err(|accepted| self.add(ConfigFault { setting, given: Some(given.to_owned()), accepted })).ok()
    }
}

impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration can't be used")?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.given {
            Some(given) => write!(f, "{}: given {given:?}, accepted: {}", self.setting, self.accepted),
            None => write!(f, "{}: given a value that is not shown, accepted: {}", self.setting, self.accepted),
        }
    }
}

impl std::error::Error for ConfigFaults {}
