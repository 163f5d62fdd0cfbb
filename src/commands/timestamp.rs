//! A time as an argument.

use chrono::{DateTime, Utc};

/// Reads RFC 3339 with an offset.
pub(super) fn timestamp(given: &str) -> Result<DateTime<Utc>, String> {
    let parsed = DateTime::parse_from_rfc3339(given);
    parsed.map(Into::into).map_err(|_| "it must be a time with an offset, such as 2026-02-15T14:00:00Z".to_owned())
}
