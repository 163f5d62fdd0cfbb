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
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let value = scale(whole, fraction, exponent)?;
    Ok(if negative && !value.is_zero() { -value } else { value })
}

/// An exponent that an `i64` cannot hold becomes the largest or the smallest one, which [`scale`] refuses.
fn parse_exponent(text: &str) -> i64 {
    text.parse().unwrap_or(if text.starts_with('-') { i64::MIN } else { i64::MAX })
}

/// The digits of `whole` and `fraction` as one integer, times ten to the power of `exponent` minus the length of `fraction`.
fn scale(whole: &str, fraction: &str, exponent: i64) -> Result<Decimal, ValueFault> {
    // `significant` is the integer from the first to the last digit that is not zero, `digits` is its length, and `zeros`
    // counts the zeros after it.
    let mut significant: i64 = 0;
    let mut zeros: u32 = 0;
    let mut digits: i64 = 0;
    for digit in whole.chars().chain(fraction.chars()).filter_map(|digit| digit.to_digit(10)) {
        if digit == 0 {
            zeros = zeros.saturating_add(1);
            continue;
        }
        let shift = if significant == 0 { 0 } else { i64::from(zeros) } + 1;
        digits = digits.saturating_add(shift);
        if digits > DIGITS {
            return Err(TOO_MANY_DIGITS);
        }
        significant = significant * ten_to(shift)? + i64::from(digit);
        zeros = 0;
    }
    if significant == 0 {
        return Ok(Decimal::ZERO);
    }
    let fraction_digits = i64::try_from(fraction.len()).map_err(|_| TOO_MANY_DIGITS)?;
    let power = exponent.saturating_sub(fraction_digits).saturating_add(i64::from(zeros));
    if power < -DIGITS || digits.saturating_add(power) > DIGITS {
        return Err(TOO_MANY_DIGITS);
    }
    if power >= 0 {
        return Ok(Decimal::from(significant * ten_to(power)?));
    }
    let scale = u32::try_from(-power).map_err(|_| TOO_MANY_DIGITS)?;
    Ok(Decimal::new(significant, scale))
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
