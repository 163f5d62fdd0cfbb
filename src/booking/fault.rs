//! Why a value of a booking is not accepted.

use fenced_sink::Reason;

/// Why a value is not accepted. The text never contains the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct ValueFault {
    /// The reason of the dead letter.
    pub reason: Reason,
    /// What is wrong, in words.
    pub detail: &'static str,
}

impl ValueFault {
    pub(super) const fn invalid(detail: &'static str) -> Self {
        Self { reason: Reason::InvalidValue, detail }
    }
}
