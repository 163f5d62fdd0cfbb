//! The name of this machine. It is stored for people only: no statement compares it.

use std::fs;

/// The host name, as Linux has it. Empty if it cannot be read.
pub(crate) fn host_name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}
