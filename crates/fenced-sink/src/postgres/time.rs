//! A `timestamptz` that a command prints. chrono has no `infinity`, and its decoding panics on one.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgTypeInfo, PgValueRef};

use sqlx::{Decode, Postgres, Type};

/// Any value of a `timestamptz`. `Display` and `Serialize` write RFC 3339, in UTC, with microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// Microseconds since 2000, as `PostgreSQL` sends it.
    micros: i64,
}

/// Microseconds from 1970 to 2000.
const EPOCH: i64 = 946_684_800_000_000;

impl Time {
    /// RFC 3339 without the fraction of the second.
    #[must_use]
    pub fn in_seconds(self) -> String {
        self.format(SecondsFormat::Secs)
    }

    fn format(self, precision: SecondsFormat) -> String {
        let instant = self.micros.checked_add(EPOCH).and_then(DateTime::<Utc>::from_timestamp_micros);
        match (instant, self.micros) {
            (Some(instant), _) => instant.to_rfc3339_opts(precision, true),
            // PostgreSQL stores its two infinities as these numbers. An operator may have stored them.
            (None, i64::MAX) => "infinity".to_owned(),
            (None, i64::MIN) => "-infinity".to_owned(),
            (None, _) => "after the year 262142".to_owned(),
        }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format(SecondsFormat::Micros))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Type<Postgres> for Time {
    fn type_info() -> PgTypeInfo {
        <DateTime<Utc> as Type<Postgres>>::type_info()
    }
}

impl Decode<'_, Postgres> for Time {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        let bytes = value.as_bytes()?.try_into()?;
        Ok(Self { micros: i64::from_be_bytes(bytes) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(micros: i64, expected: &str) {
        assert_eq!(Time { micros }.to_string(), expected);
    }

    #[test]
    fn every_timestamptz_has_a_text() {
        check(0, "2000-01-01T00:00:00.000000Z");
        check(-EPOCH - 1, "1969-12-31T23:59:59.999999Z");
        check(i64::MAX, "infinity");
        check(i64::MIN, "-infinity");
        check(9_223_371_331_200_000_000 - 1, "after the year 262142");
        assert_eq!(Time { micros: 1_999_999 }.in_seconds(), "2000-01-01T00:00:01Z");
    }
}
