//! The names of this machine and this process. They are stored for people only: no statement compares them.

use std::{fs, process};

/// The host name, as Linux has it. Empty if it cannot be read.
pub(crate) fn host_name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

/// The owner that a claimed row names: host and process.
#[must_use]
pub fn owner() -> String {
    format!("{}/{}", host_name(), process::id())
}
