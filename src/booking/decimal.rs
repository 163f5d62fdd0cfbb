//! The text of a JSON number as the exact value that it denotes.
//!
//! Never through a float, and in time and memory bounded by the text: `1e999999999` is refused by looking at it.

use rust_decimal::Decimal;

use super::valid::ValueFault;

/// Digits on either side of the point: more than any money has, and few enough for an `i64`.
const DIGITS: i64 = 18;

const NOT_A_NUMBER: ValueFault = ValueFault::invalid("not a JSON number");
const TOO_MANY_DIGITS: ValueFault = ValueFault::invalid("more digits than any amount has");

/// Reads the JSON grammar `-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?` and nothing else. `-0` is 0, `9e1` is 90;
/// the answer has no trailing zeros after the point.
pub(super) fn parse(text: &str) -> Result<Decimal, ValueFault> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
        None => (text, 0),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((_, "")) => return Err(NOT_A_NUMBER),
        Some(parts) => parts,
        None => (mantissa, ""),
    };
    let all_digits = whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    if !all_digits || whole.is_empty() || (whole.len() > 1 && whole.starts_with('0')) {
        return Err(NOT_A_NUMBER);
    }
    let value = scaled(whole, fraction, exponent)?;
    Ok(if negative && !value.is_zero() { -value } else { value })
}

/// Beyond what an `i64` holds it is that many digits too many, either way.
fn parse_exponent(text: &str) -> Result<i64, ValueFault> {
    let (sign, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (if text.starts_with('-') { -1 } else { 1 }, digits),
        None => (1, text),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NOT_A_NUMBER);
    }
    Ok(digits.parse().unwrap_or(i64::MAX / 4) * sign)
}

/// The digits of `whole` and `fraction` in a row, times ten to the power of `exponent` less the digits of `fraction`.
fn scaled(whole: &str, fraction: &str, exponent: i64) -> Result<Decimal, ValueFault> {
    // What counts is between the first and the last digit that is not zero; `power` is the place of the last one.
    let mut significant: i64 = 0;
    let mut zeros: u32 = 0;
    let mut digits: i64 = 0;
    for digit in whole.bytes().chain(fraction.bytes()).map(|byte| i64::from(byte - b'0')) {
        if digit == 0 {
            zeros = zeros.saturating_add(1);
            continue;
        }
        let shift = if significant == 0 { 0 } else { i64::from(zeros) } + 1;
        digits = digits.saturating_add(shift);
        if digits > DIGITS {
            return Err(TOO_MANY_DIGITS);
        }
        significant = significant * ten_to(shift)? + digit;
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

    fn check(text: &str, expected: Result<&str, ValueFault>) {
        assert_eq!(parse(text).map(|value| value.to_string()), expected.map(str::to_owned), "{text:.40}");
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
    fn too_many_digits_are_refused_by_looking() {
        check("1e999999999", Err(TOO_MANY_DIGITS));
        check("1e-999999999", Err(TOO_MANY_DIGITS));
        check("1e99999999999999999999999999999", Err(TOO_MANY_DIGITS));
        check("1e-99999999999999999999999999999", Err(TOO_MANY_DIGITS));
        check("1000000000000000000", Err(TOO_MANY_DIGITS));
        check("0.0000000000000000001", Err(TOO_MANY_DIGITS));
        check(&"9".repeat(100_000), Err(TOO_MANY_DIGITS));
    }

    #[test]
    fn nothing_but_the_grammar_is_a_number() {
        for text in
            ["", "-", "+1", "01", "-01", ".5", "1.", "1.e2", "1e", "1e+", "1e1.5", "1e1e1", "0x1", "NaN", "1_0", " 1"]
        {
            check(text, Err(NOT_A_NUMBER));
        }
    }

    proptest! {
        #[test]
        fn the_way_it_is_written_does_not_matter(
            hundredths in -999_999_999_999_i64..=999_999_999_999,
            shift in 0_usize..20,
            zeros in 0_usize..5,
        ) {
            let value = Decimal::new(hundredths, 2);
            prop_assert_eq!(parse(&value.to_string()), Ok(value));
            prop_assert_eq!(parse(&format!("{value}{}", "0".repeat(zeros))), Ok(value));
            prop_assert_eq!(parse(&format!("{hundredths}{}E-{}", "0".repeat(shift), shift + 2)), Ok(value));
        }

        #[test]
        fn it_takes_what_serde_json_takes(text in "-?[0-9.eE+-]{1,12}") {
            let number = text.starts_with(['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
                && serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            prop_assert_eq!(parse(&text) != Err(NOT_A_NUMBER), number);
        }
    }
}
