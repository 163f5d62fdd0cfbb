//! The JSON of a message: which fields are there, once, and of which kind.
//!
//! `{"event_type":"BookingCreated","data":{…}}` is read in one pass that never fails for what a value means, only where
//! the bytes are no JSON. So whose event it is can be asked first, and what another team's event holds never matters.
//! `serde_json` skips ignored fields without recursion: no nesting, however deep, ends the process.

mod object;

use std::borrow::Cow;

use fenced_sink::{Parsed, Reason, Refusal};
use rust_decimal::Decimal;
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::created_at::CreatedAt;
use super::decimal;
use super::valid::{self, Booking, BookingId, DiscountPercent, HotelId, Price, PromoCode, UserId, ValueFault};
use object::{Data, Envelope, Fields, Slot};

const EVENT_TYPE: &str = "BookingCreated";

/// Reads a message whole.
pub(super) fn read(bytes: &[u8]) -> Result<Parsed<Booking>, Refusal> {
    if first_byte(bytes) != Some(b'{') {
        return Err(match serde_json::from_slice::<&RawValue>(bytes) {
            Ok(_) => Refusal { reason: Reason::NotAnObject, field: None, detail: "JSON, but no object".to_owned() },
            Err(error) => not_json(&error),
        });
    }
    match serde_json::from_slice::<Envelope<'_, Data<'_>>>(bytes) {
        Ok(Envelope { event_type, data }) => match other_type(event_type)? {
            Some(event_type) => Ok(Parsed::Ignored { event_type }),
            None => booking(data).map(Parsed::Event),
        },
        Err(error) => read_unreadable(bytes, &error),
    }
}

/// Writes the message that [`read`] reads back as the same booking.
pub(super) fn write(booking: &Booking) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Message<'a> {
        event_type: &'static str,
        data: MessageData<'a>,
    }
    #[derive(Serialize)]
    struct MessageData<'a> {
        id: &'a str,
        user_id: &'a str,
        hotel_id: &'a str,
        price: Box<RawValue>,
        promo_code: Option<&'a str>,
        discount_percent: Box<RawValue>,
        created_at: String,
    }
    let number = |decimal: Decimal| RawValue::from_string(decimal.to_string());
    serde_json::to_vec(&Message {
        event_type: EVENT_TYPE,
        data: MessageData {
            id: booking.booking_id.as_str(),
            user_id: booking.user_id.as_str(),
            hotel_id: booking.hotel_id.as_str(),
            price: number(booking.price.amount())?,
            promo_code: booking.promo_code.as_ref().map(PromoCode::as_str),
            discount_percent: number(booking.discount_percent.percent())?,
            created_at: booking.created_at.instant().to_rfc3339(),
        },
    })
}

/// The first byte behind JSON's white space.
fn first_byte(bytes: &[u8]) -> Option<u8> {
    bytes.iter().copied().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
}

/// What is left to say of bytes that could not be read in one pass: they may be another team's event with rubbish in
/// `data`, and `data` may be a number beyond any float, which is JSON all the same.
fn read_unreadable(bytes: &[u8], error: &serde_json::Error) -> Result<Parsed<Booking>, Refusal> {
    let skipped: Envelope<'_, IgnoredAny> = serde_json::from_slice(bytes).map_err(|error| not_json(&error))?;
    if let Some(event_type) = other_type(skipped.event_type)? {
        return Ok(Parsed::Ignored { event_type });
    }
    required("data", skipped.data, |_| Ok(()))?;
    match serde_json::from_slice::<Envelope<'_, &RawValue>>(bytes) {
        Ok(Envelope { data: Slot::Once(data), .. }) if !data.get().starts_with('{') => {
            Err(refusal("data", NOT_AN_OBJECT))
        }
        _ => Err(not_json(error)),
    }
}

/// The name of the type, if it isn't ours.
fn other_type(event_type: Slot<&RawValue>) -> Result<Option<String>, Refusal> {
    let event_type = required("event_type", event_type, string)?;
    Ok((event_type != EVENT_TYPE).then(|| event_type.into_owned()))
}

fn booking(data: Slot<Data<'_>>) -> Result<Booking, Refusal> {
    let fields = required("data", data, |data| match data {
        Data::Object(fields) => Ok(fields),
        Data::NotAnObject => Err(NOT_AN_OBJECT),
    })?;
    let Fields { id, user_id, hotel_id, price, promo_code, discount_percent, created_at } = fields;
    Ok(Booking {
        booking_id: required("data.id", id, |raw| BookingId::new(text(raw)?))?,
        user_id: required("data.user_id", user_id, |raw| UserId::new(text(raw)?))?,
        hotel_id: required("data.hotel_id", hotel_id, |raw| HotelId::new(text(raw)?))?,
        price: required("data.price", price, |raw| Price::new(number(raw)?))?,
        promo_code: optional("data.promo_code", promo_code, |raw| PromoCode::new(text(raw)?))?,
        discount_percent: required("data.discount_percent", discount_percent, |raw| {
            DiscountPercent::new(number(raw)?)
        })?,
        created_at: required("data.created_at", created_at, |raw| CreatedAt::from_rfc3339(&text(raw)?))?,
    })
}

fn required<T, V>(
    path: &'static str,
    slot: Slot<T>,
    value: impl FnOnce(T) -> Result<V, ValueFault>,
) -> Result<V, Refusal> {
    match slot {
        Slot::Once(found) => value(found).map_err(|fault| refusal(path, fault)),
        Slot::Missing => Err(refusal(path, MISSING)),
        Slot::Again => Err(refusal(path, AGAIN)),
    }
}

fn optional<'a, V>(
    path: &'static str,
    slot: Slot<&'a RawValue>,
    value: impl FnOnce(&'a RawValue) -> Result<V, ValueFault>,
) -> Result<Option<V>, Refusal> {
    match slot {
        Slot::Missing => Ok(None),
        Slot::Once(raw) if raw.get() == "null" => Ok(None),
        slot => required(path, slot, value).map(Some),
    }
}

/// A string that Postgres can hold.
fn text(raw: &RawValue) -> Result<Cow<'_, str>, ValueFault> {
    let text = string(raw)?;
    valid::check_nul(&text)?;
    Ok(text)
}

fn string(raw: &RawValue) -> Result<Cow<'_, str>, ValueFault> {
    let Some(quoted) = raw.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Err(ValueFault { reason: Reason::WrongType, detail: "must be a string" });
    };
    // Its grammar was checked: without an escape in it, it is its own text.
    if !quoted.contains('\\') {
        return Ok(Cow::Borrowed(quoted));
    }
    serde_json::from_str(raw.get()).map(Cow::Owned).map_err(|_| NOT_TEXT)
}

fn number(raw: &RawValue) -> Result<Decimal, ValueFault> {
    if !raw.get().starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return Err(ValueFault { reason: Reason::WrongType, detail: "must be a number" });
    }
    decimal::parse(raw.get())
}

const MISSING: ValueFault = ValueFault { reason: Reason::MissingField, detail: "must be there" };
const AGAIN: ValueFault = ValueFault { reason: Reason::DuplicateField, detail: "is there more than once" };
const NOT_AN_OBJECT: ValueFault = ValueFault { reason: Reason::WrongType, detail: "must be an object" };
/// All that can be wrong with a string after its grammar was checked.
const NOT_TEXT: ValueFault = ValueFault { reason: Reason::NotJson, detail: "contains half of a surrogate pair" };

fn refusal(path: &'static str, fault: ValueFault) -> Refusal {
    Refusal { reason: fault.reason, field: Some(path), detail: fault.detail.to_owned() }
}

/// The words of a syntax error are fixed and say where; those about data could quote it.
fn not_json(error: &serde_json::Error) -> Refusal {
    let detail = if error.is_data() { "not the JSON of a message".to_owned() } else { error.to_string() };
    Refusal { reason: Reason::NotJson, field: None, detail }
}
