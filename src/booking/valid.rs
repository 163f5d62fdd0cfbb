//! The values of a booking, each proven when it is made.
//!
//! The bounds are the contract with whoever sends bookings; the table's CHECKs repeat them, so a value that exists here
//! fits there. A booking may combine any values, hence its public fields.

use fenced_sink::Reason;
use rust_decimal::Decimal;

use super::created_at::CreatedAt;

/// A booking that can become a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booking {
    /// The unique key, `data.id` of the message.
    pub booking_id: BookingId,
    /// Who booked.
    pub user_id: UserId,
    /// What was booked.
    pub hotel_id: HotelId,
    /// What it cost.
    pub price: Price,
    /// The code that was given, if any; an empty one is not the same as none.
    pub promo_code: Option<PromoCode>,
    /// What was taken off.
    pub discount_percent: DiscountPercent,
    /// When it was booked.
    pub created_at: CreatedAt,
}

/// Why a value is not accepted, in words that contain nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct ValueFault {
    /// What kind of fault it is.
    pub reason: Reason,
    /// One sentence for a person.
    pub detail: &'static str,
}

impl ValueFault {
    pub(super) const fn invalid(detail: &'static str) -> Self {
        Self { reason: Reason::InvalidValue, detail }
    }
}

macro_rules! text {
    ($(#[$doc:meta])+ $name:ident, $check:path) => {
        $(#[$doc])+
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub struct $name(String);

        impl $name {
            /// Takes the text as it is, or says why it can't be one.
            ///
            /// # Errors
            /// Outside the bounds above, or a NUL character in it.
            pub fn new(text: impl Into<String>) -> Result<Self, ValueFault> {
                let text = text.into();
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
        return Err(ValueFault::invalid("an id is never empty"));
    }
    check_text(text)
}

fn check_text(text: &str) -> Result<(), ValueFault> {
    if text.len() > 256 {
        return Err(ValueFault { reason: Reason::TooLong, detail: "at most 256 bytes" });
    }
    check_nul(text)
}

/// Postgres can't hold this character in any text.
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
    /// Takes the amount by value: trailing zeros go, and -0 is 0.
    ///
    /// # Errors
    /// Outside the bounds above.
    pub fn new(amount: Decimal) -> Result<Self, ValueFault> {
        let amount = bounded(amount)?;
        if amount >= Decimal::from(10_000_000_000_u64) {
            return Err(ValueFault::invalid("at most 10 digits before the point"));
        }
        Ok(Self(amount))
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
    /// Takes the number by value: trailing zeros go, and -0 is 0.
    ///
    /// # Errors
    /// Outside the bounds above.
    pub fn new(percent: Decimal) -> Result<Self, ValueFault> {
        let percent = bounded(percent)?;
        if percent > Decimal::ONE_HUNDRED {
            return Err(ValueFault::invalid("at most 100"));
        }
        Ok(Self(percent))
    }

    /// The number, without trailing zeros.
    #[must_use]
    pub fn percent(self) -> Decimal {
        self.0
    }
}

/// What prices and percents have in common.
fn bounded(number: Decimal) -> Result<Decimal, ValueFault> {
    let number = number.normalize();
    if number.is_sign_negative() {
        return Err(ValueFault::invalid("never negative"));
    }
    if number.scale() > 2 {
        return Err(ValueFault::invalid("at most 2 digits after the point"));
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_price_has_two_digits_behind_the_point_and_ten_before(units in any::<i64>(), scale in 0_u32..=18) {
            let amount = Decimal::new(units, scale);
            let fits = units >= 0 && amount.trunc_with_scale(2) == amount && amount.trunc() <= Decimal::from(9_999_999_999_u64);
            prop_assert_eq!(Price::new(amount).map(Price::amount).ok(), fits.then_some(amount));
        }
    }
}
