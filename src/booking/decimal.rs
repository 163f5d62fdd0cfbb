//! A JSON number as its exact value.
//!
//! The value never passes through a float. Time and memory are bounded by the length of the text: `1e999999999` is refused
//! without computing it.

use fenced_sink::Reason;
use rust_decimal::Decimal;
use serde_json::value::RawValue;

use super::fault::ValueFault;

/// The maximum number of digits before the point, and after it. No amount of money has more, and an `i64` can hold
/// them.
const DIGITS: i64 = 18;

const NOT_A_NUMBER: ValueFault = ValueFault { reason: Reason::WrongType, detail: "must be a number" };
const TOO_MANY_DIGITS: ValueFault = ValueFault::invalid("more digits than any amount has");

/// Reads a number by value: `-0` is 0, `9e1` is 90. The result has no trailing zeros after the point.
///
/// `serde_json` has checked the grammar of a [`RawValue`], so JSON that begins like a number is a number.
pub(super) fn parse(json: &RawValue) -> Result<Decimal, ValueFault> {
    let (negative, text) = json.get().strip_prefix('-').map_or((false, json.get()), |rest| (true, rest));
    if !text.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(NOT_A_NUMBER);
    }
    // The value is `significant` times ten to the power of `zeros` + `exponent` - `fraction_digits`. `significant` has up to
    // 18 digits, from the first one that is not zero. Only zeros may follow them.
    let (mut significant, mut digits, mut zeros, mut fraction_digits, mut exponent) =
        (0_i64, 0_i64, 0_i64, 0_i64, 0_i64);
    let mut is_fraction = false;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'.' => is_fraction = true,
            b'0'..=b'9' => {
                fraction_digits = fraction_digits.saturating_add(is_fraction.into());
                if digits < DIGITS {
                    significant = significant * 10 + i64::from(byte - b'0');
                    digits += i64::from(significant != 0);
                } else if byte == b'0' {
                    zeros = zeros.saturating_add(1);
                } else {
                    return Err(TOO_MANY_DIGITS);
                }
            }
            _ => {
                exponent = parse_exponent(text.get(index + 1..).unwrap_or_default());
                break;
            }
        }
    }
    if significant == 0 {
        return Ok(Decimal::ZERO);
    }
    while significant % 10 == 0 {
        (significant, digits, zeros) = (significant / 10, digits - 1, zeros.saturating_add(1));
    }
    let power = exponent.saturating_sub(fraction_digits).saturating_add(zeros);
    if power < -DIGITS || digits.saturating_add(power) > DIGITS {
        return Err(TOO_MANY_DIGITS);
    }
    let significant = if negative { -significant } else { significant };
    if power >= 0 {
        return Ok(Decimal::from(significant * ten_to(power)?));
    }
    let scale = u32::try_from(-power).map_err(|_| TOO_MANY_DIGITS)?;
    Ok(Decimal::new(significant, scale))
}

/// An exponent that an `i64` cannot hold becomes the largest or the smallest one, which [`parse`] refuses.
fn parse_exponent(text: &str) -> i64 {
    text.parse().unwrap_or(if text.starts_with('-') { i64::MIN } else { i64::MAX })
}

fn ten_to(power: i64) -> Result<i64, ValueFault> {
    u32::try_from(power).ok().and_then(|power| 10_i64.checked_pow(power)).ok_or(TOO_MANY_DIGITS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The value of a text that `serde_json` accepts.
    fn value(text: &str) -> Result<Decimal, ValueFault> {
        parse(serde_json::from_str(text).unwrap())
    }

    fn check(text: &str, expected: Result<&str, ValueFault>) {
        assert_eq!(value(text).map(|value| value.to_string()), expected.map(str::to_owned), "{text:.40}");
    }

    #[test]
    fn a_number_is_its_exact_value() {
        check("0", Ok("0"));
        check("-0", Ok("0"));
        check("-0.0e5", Ok("0"));
        check("0e999999999999999999999999", Ok("0"));
        check("90", Ok("90"));
        check("90.000", Ok("90"));
        check("9e1", Ok("90"));
        check("9E+1", Ok("90"));
        check("0.9e2", Ok("90"));
        check("9000e-2", Ok("90"));
        check("0.1", Ok("0.1"));
        check("-12.340", Ok("-12.34"));
        check("100200300.04", Ok("100200300.04"));
        check("0.000000000000000001", Ok("0.000000000000000001"));
        check("999999999999999999", Ok("999999999999999999"));
        check(&format!("1.{}", "0".repeat(100_000)), Ok("1"));
        check(&format!("0.{}1e100001", "0".repeat(100_000)), Ok("1"));
    }

    #[test]
    fn too_many_digits_are_refused_without_computing_them() {
        check("1e999999999", Err(TOO_MANY_DIGITS));
        check("1e-999999999", Err(TOO_MANY_DIGITS));
        check("1e99999999999999999999999999999", Err(TOO_MANY_DIGITS));
        check("1e-99999999999999999999999999999", Err(TOO_MANY_DIGITS));
        check("1000000000000000000", Err(TOO_MANY_DIGITS));
        check("0.0000000000000000001", Err(TOO_MANY_DIGITS));
        check(&"9".repeat(100_000), Err(TOO_MANY_DIGITS));
    }

    #[test]
    fn json_of_another_type_is_no_number() {
        for json in ["null", "true", "\"1\"", "[1]", r#"{"1":1}"#] {
            check(json, Err(NOT_A_NUMBER));
        }
    }

    /// The parser depends on this.
    #[test]
    fn serde_json_refuses_what_is_not_in_the_grammar() {
        for text in
            ["", "-", "+1", "01", "-01", ".5", "1.", "1.e2", "1e", "1e+", "1e1.5", "1e1e1", "0x1", "NaN", "1_0", "- 1"]
        {
            assert!(serde_json::from_str::<&RawValue>(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_notation_of_a_number_does_not_matter(
            hundredths in -999_999_999_999_i64..=999_999_999_999,
            shift in 0_usize..20,
            zeros in 0_usize..5,
        ) {
            let amount = Decimal::new(hundredths, 2);
            prop_assert_eq!(value(&amount.to_string()), Ok(amount));
            prop_assert_eq!(value(&format!("{amount}{}", "0".repeat(zeros))), Ok(amount));
            prop_assert_eq!(value(&format!("{hundredths}{}E-{}", "0".repeat(shift), shift + 2)), Ok(amount));
        }

        #[test]
        fn every_number_of_serde_json_has_a_value_or_too_many_digits(text in "-?[0-9.eE+-]{1,12}") {
            if let Ok(json) = serde_json::from_str::<&RawValue>(&text) {
                prop_assert_ne!(parse(json), Err(NOT_A_NUMBER));
            }
        }
    }
}
