//! The time when a booking was created: RFC 3339 in the message, `timestamptz` in the table.

use chrono::{DateTime, Datelike as _, Utc};

use super::fault::ValueFault;

/// An instant in the years 2000 to 2100 of UTC, in whole microseconds, as a `timestamptz` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CreatedAt(DateTime<Utc>);

impl CreatedAt {
    /// Truncates the instant to microseconds. `PostgreSQL` would truncate a binary value and round a text, so this is
    /// done here.
    ///
    /// # Errors
    /// The year is outside 2000 to 2100, or it is a leap second, which `PostgreSQL` would store as the next minute.
    pub fn new(instant: DateTime<Utc>) -> Result<Self, ValueFault> {
        if !(2000..=2100).contains(&instant.year()) {
            return Err(ValueFault::invalid("not within the years 2000 to 2100 of UTC"));
        }
        if instant.timestamp_subsec_nanos() >= 1_000_000_000 {
            return Err(ValueFault::invalid("a leap second"));
        }
        DateTime::from_timestamp_micros(instant.timestamp_micros()).map(Self).ok_or(ValueFault::invalid("not a time"))
    }

    /// Reads RFC 3339 with an offset. It is stricter than chrono, which also accepts a space instead of the `T`, and
    /// U+2212 instead of the minus sign.
    ///
    /// # Errors
    /// The text is not RFC 3339, or [`CreatedAt::new`] refuses the instant.
    pub fn from_rfc3339(text: &str) -> Result<Self, ValueFault> {
        let strict = text.is_ascii() && matches!(text.as_bytes().get(10), Some(b'T' | b't'));
        match DateTime::parse_from_rfc3339(text) {
            Ok(instant) if strict => Self::new(instant.to_utc()),
            _ => Err(ValueFault::invalid("not an RFC 3339 time with an offset")),
        }
    }

    /// The instant.
    #[must_use]
    pub fn instant(self) -> DateTime<Utc> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check_time(text: &str, expected: Option<&str>) {
        let read = CreatedAt::from_rfc3339(text);
        assert_eq!(read.ok().map(|time| time.instant().to_rfc3339()), expected.map(str::to_owned), "{text}");
    }

    #[test]
    fn a_time_is_rfc_3339_with_an_offset() {
        check_time("2026-02-15T14:37:34.859067+00:00", Some("2026-02-15T14:37:34.859067+00:00"));
        check_time("2026-02-15t14:37:34z", Some("2026-02-15T14:37:34+00:00"));
        check_time("2026-02-15T14:37:34-00:00", Some("2026-02-15T14:37:34+00:00"));
        check_time("2026-02-15T00:07:34+02:30", Some("2026-02-14T21:37:34+00:00"));
        check_time("2024-02-29T23:59:59-23:59", Some("2024-03-01T23:58:59+00:00"));
        for text in [
            "",
            "2026-02-15",
            "2026-02-15T14:37:34",
            "2026-02-15T14:37Z",
            "2026-02-15 14:37:34Z",
            "2026-02-15T14:37:34 Z",
            " 2026-02-15T14:37:34Z",
            "2026-02-15T14:37:34Z ",
            "2026-02-15T14:37:34.Z",
            "2026-02-15T14:37:34,5Z",
            "2026-02-15T14:37:34+0000",
            "2026-02-15T14:37:34+00",
            "2026-02-15T14:37:34+24:00",
            "2026-02-15T14:37:34+00:60",
            "2026-02-15T14:37:34\u{2212}00:00",
            "2026-02-15T14:37:34UTC",
            "2026-02-30T14:37:34Z",
            "2025-02-29T14:37:34Z",
            "2026-13-01T14:37:34Z",
            "2026-00-01T14:37:34Z",
            "2026-02-15T24:00:00Z",
            "2026-02-15T14:60:00Z",
            "+2026-02-15T14:37:34Z",
            "12026-02-15T14:37:34Z",
            "26-02-15T14:37:34Z",
            "２026-02-15T14:37:34Z",
            "1771166254",
        ] {
            check_time(text, None);
        }
    }

    #[test]
    fn a_leap_second_is_refused() {
        check_time("2016-12-31T23:59:59Z", Some("2016-12-31T23:59:59+00:00"));
        check_time("2016-12-31T23:59:60Z", None);
        check_time("2026-02-15T14:37:60.5Z", None);
    }

    #[test]
    fn the_year_counts_in_utc() {
        check_time("1999-12-31T23:59:59.999999Z", None);
        check_time("2000-01-01T00:00:00Z", Some("2000-01-01T00:00:00+00:00"));
        check_time("2000-01-01T00:00:00+00:01", None);
        check_time("1999-12-31T23:59:59-00:01", Some("2000-01-01T00:00:59+00:00"));
        check_time("2100-12-31T23:59:59.9999999Z", Some("2100-12-31T23:59:59.999999+00:00"));
        check_time("2101-01-01T00:00:00Z", None);
        check_time("2100-12-31T23:59:59-00:01", None);
        check_time("2101-01-01T00:00:00+00:01", Some("2100-12-31T23:59:00+00:00"));
    }

    #[test]
    fn a_fraction_of_a_microsecond_is_truncated_not_rounded() {
        check_time("2026-02-15T14:37:34.8590679Z", Some("2026-02-15T14:37:34.859067+00:00"));
        check_time("2026-02-15T14:37:34.9999999999999999Z", Some("2026-02-15T14:37:34.999999+00:00"));
        check_time("2026-02-15T14:37:34.0000009Z", Some("2026-02-15T14:37:34+00:00"));
    }

    proptest! {
        #[test]
        fn any_time_within_the_years_is_kept_to_the_microsecond(
            micros in 946_684_800_000_000_i64..4_133_980_800_000_000,
            below in 0_u32..1_000,
        ) {
            let instant = DateTime::from_timestamp_micros(micros).unwrap();
            let finer = instant + chrono::TimeDelta::nanoseconds(below.into());
            prop_assert_eq!(CreatedAt::new(finer).unwrap().instant(), instant);
            prop_assert_eq!(CreatedAt::from_rfc3339(&finer.to_rfc3339()).unwrap().instant(), instant);
        }
    }
}
