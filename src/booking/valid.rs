//! The values of a booking, each checked when it is created.
//!
//! The bounds are the contract with the services that send bookings. The CHECKs of the table have the same bounds, so
//! the table accepts each value that exists here. Any values may be combined, so the fields of a booking are public.

use bytestring::ByteString;
use fenced_sink::Reason;
use rust_decimal::Decimal;

use super::created_at::CreatedAt;
use super::fault::ValueFault;

/// A booking that can become a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booking {
    /// The unique key, `data.id` of the message.
    pub booking_id: BookingId,
    /// The user who booked.
    pub user_id: UserId,
    /// The hotel that was booked.
    pub hotel_id: HotelId,
    /// The price.
    pub price: Price,
    /// The promotion code, if there was one. An empty code differs from no code.
    pub promo_code: Option<PromoCode>,
    /// The discount.
    pub discount_percent: DiscountPercent,
    /// When the booking was created.
    pub created_at: CreatedAt,
}

macro_rules! text {
    ($(#[$doc:meta])+ $name:ident, $check:path) => {
        $(#[$doc])+
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub struct $name(ByteString);

        impl $name {
            /// Accepts the text unchanged, or returns why it is not valid.
            ///
            /// # Errors
            /// The text is outside the bounds above, or has a NUL character.
            pub fn new(text: impl Into<ByteString>) -> Result<Self, ValueFault> {
                let text = text.into();
                check_nul(&text)?;
                Self::without_nul(text)
            }

            /// As [`Self::new`], for a text that is known to have no NUL character.
            pub(super) fn without_nul(text: ByteString) -> Result<Self, ValueFault> {
                $check(&text)?;
                Ok(Self(text))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    };
}

text!(
    /// 1 to 256 bytes that name a booking.
    BookingId,
    check_id
);
text!(
    /// 1 to 256 bytes that name a user.
    UserId,
    check_id
);
text!(
    /// 1 to 256 bytes that name a hotel.
    HotelId,
    check_id
);
text!(
    /// 0 to 256 bytes.
    PromoCode,
    check_text
);

fn check_id(text: &str) -> Result<(), ValueFault> {
    if text.is_empty() {
        return Err(ValueFault::invalid("must not be empty"));
    }
    check_text(text)
}

fn check_text(text: &str) -> Result<(), ValueFault> {
    if text.len() > 256 {
        return Err(ValueFault { reason: Reason::TooLong, detail: "at most 256 bytes" });
    }
    Ok(())
}

/// `PostgreSQL` cannot store this character.
pub(super) fn check_nul(text: &str) -> Result<(), ValueFault> {
    if text.contains('\0') {
        return Err(ValueFault { reason: Reason::NulCharacter, detail: "contains the character U+0000" });
    }
    Ok(())
}

/// An amount of money: not negative, at most 10 digits before and 2 after the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Price(Decimal);

impl Price {
    /// Takes the value of the amount: without trailing zeros, and with 0 for -0.
    ///
    /// # Errors
    /// The amount is outside the bounds above.
    pub fn new(amount: Decimal) -> Result<Self, ValueFault> {
        bounded(amount, 999_999_999_999, "at most 10 digits before the point").map(Self)
    }

    /// The amount, without trailing zeros.
    #[must_use]
    pub fn amount(self) -> Decimal {
        self.0
    }
}

/// 0 to 100, with at most 2 digits after the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DiscountPercent(Decimal);

impl DiscountPercent {
    /// Takes the value of the number: without trailing zeros, and with 0 for -0.
    ///
    /// # Errors
    /// The number is outside the bounds above.
    pub fn new(percent: Decimal) -> Result<Self, ValueFault> {
        bounded(percent, 10_000, "at most 100").map(Self)
    }

    /// The number, without trailing zeros.
    #[must_use]
    pub fn percent(self) -> Decimal {
        self.0
    }
}

/// The bounds that prices and percents share: 0 to `most` hundredths. Integers are compared, because a comparison of
/// decimals costs more.
fn bounded(number: Decimal, most: i128, too_much: &'static str) -> Result<Decimal, ValueFault> {
    let number = number.normalize();
    if number.is_sign_negative() {
        return Err(ValueFault::invalid("must not be negative"));
    }
    let hundredths = match number.scale() {
        0 => number.mantissa() * 100,
        1 => number.mantissa() * 10,
        2 => number.mantissa(),
        _ => return Err(ValueFault::invalid("at most 2 digits after the point")),
    };
    if hundredths > most { Err(ValueFault::invalid(too_much)) } else { Ok(number) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_price_has_ten_digits_before_and_two_after_the_point(units in any::<i64>(), scale in 0_u32..=18) {
            let amount = Decimal::new(units, scale);
            let fits = units >= 0 && amount.trunc_with_scale(2) == amount && amount.trunc() <= Decimal::from(9_999_999_999_u64);
            prop_assert_eq!(Price::new(amount).map(Price::amount).ok(), fits.then_some(amount));
        }
    }
}
