//! The time when a booking was created: RFC 3339 in the message, `timestamptz` in the table.

use chrono::{DateTime, Datelike as _, NaiveDate, SubsecRound as _, Utc};

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
        Ok(Self(instant.trunc_subsecs(6)))
    }

    /// Reads RFC 3339 with an offset. It is stricter than chrono, which also accepts a space instead of the `T`, and
    /// U+2212 instead of the minus sign.
    ///
    /// # Errors
    /// The text is not RFC 3339, or [`CreatedAt::new`] refuses the instant.
    pub fn from_rfc3339(text: &str) -> Result<Self, ValueFault> {
        if let Some(instant) = usual(text) {
            return Self::new(instant);
        }
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

/// Reads the usual form, as chrono does but faster: `2026-02-15T14:37:34`, up to nine digits after a point, and `Z` or
/// `+00:00`. `None` says that chrono must decide.
fn usual(text: &str) -> Option<DateTime<Utc>> {
    let (date_time, rest) = text.as_bytes().split_first_chunk()?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', min1, min2, b':', s1, s2] = *date_time else {
        return None;
    };
    let ([fraction @ .., b'Z'] | [fraction @ .., b'+', b'0', b'0', b':', b'0', b'0']) = rest else { return None };
    let nanos = match fraction {
        [] => 0,
        [b'.', digits @ ..] if (1..=9).contains(&digits.len()) => {
            number(digits)? * 10_u32.pow(9 - u32::try_from(digits.len()).ok()?)
        }
        _ => return None,
    };
    let year = i32::try_from(number(&[y1, y2, y3, y4])?).ok()?;
    let date = NaiveDate::from_ymd_opt(year, number(&[m1, m2])?, number(&[d1, d2])?)?;
    let time = date.and_hms_nano_opt(number(&[h1, h2])?, number(&[min1, min2])?, number(&[s1, s2])?, nanos)?;
    Some(time.and_utc())
}

/// At most nine digits.
fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;

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

    #[test]
    fn the_usual_form_is_read_as_chrono_reads_it() {
        const CASES: u32 = 5_000;
        let text = "[0-9]{4}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,10})?(Z|z|[+-]00:0[01])[Z ]?";
        let usual_text = "[0-9]{4}-0[1-9]-[12][0-9]T1[0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|\\+00:00)";
        let accepted = Cell::new(0_u32);
        let config = ProptestConfig { cases: CASES, ..ProptestConfig::with_source_file(file!()) };
        let result = TestRunner::new(config).run(&prop_oneof![text, usual_text], |text| {
            if let Some(instant) = usual(&text) {
                prop_assert_eq!(DateTime::parse_from_rfc3339(&text).map(|read| read.to_utc()), Ok(instant));
                accepted.set(accepted.get() + 1);
            }
            Ok(())
        });
        result.unwrap();
        assert!(accepted.get() > CASES / 3, "{accepted:?}");
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
