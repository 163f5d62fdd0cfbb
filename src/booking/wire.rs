//! The JSON of a message: which fields exist, each once, and of which type.
//!
//! Nearly all messages have the usual form, which [`usual`] reads fast. Each other message is read by [`read_any`], which
//! accepts all JSON: `{"event_type":"BookingCreated","data":{…}}` is split into its fields in one pass. The values are
//! checked afterwards, and only if the type of the event is `BookingCreated`: the content of another event never matters.
//! `serde_json` skips ignored fields without recursion, so deep nesting cannot overflow the stack.

mod object;
pub(super) mod usual;

use std::borrow::Cow;

use bytestring::ByteString;
use fenced_sink::{Bytes, Parsed, Reason, Refusal};
use rust_decimal::Decimal;
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::created_at::CreatedAt;
use super::decimal;
use super::fault::ValueFault;
use super::valid::{self, Booking, BookingId, DiscountPercent, HotelId, Price, PromoCode, UserId};
use object::{BookingFields, DataValue, Envelope, JsonField};

const EVENT_TYPE: &str = "BookingCreated";

/// Reads a message. The texts of the booking share the memory of the message.
pub(super) fn read(bytes: &Bytes) -> Result<Parsed<Booking>, Refusal> {
    match usual::read(bytes) {
        Some(booking) => Ok(Parsed::Event(booking)),
        None => read_any(bytes),
    }
}

/// Reads a message with all that JSON permits.
pub(super) fn read_any(bytes: &Bytes) -> Result<Parsed<Booking>, Refusal> {
    if first_byte(bytes) != Some(b'{') {
        return Err(match serde_json::from_slice::<&RawValue>(bytes) {
            Ok(_) => Refusal { reason: Reason::NotAnObject, field: None, detail: "JSON, but not an object".to_owned() },
            Err(error) => not_json(&error),
        });
    }
    match serde_json::from_slice(bytes) {
        Ok(envelope) => parsed(bytes, envelope),
        Err(error) => read_unreadable(bytes, &error),
    }
}

/// Writes a message. [`read`] reads it back as the same booking.
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

/// The first byte after JSON's white space.
fn first_byte(bytes: &[u8]) -> Option<u8> {
    bytes.iter().copied().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
}

/// Reads bytes that the one pass could not read. They may be another event with data that this program cannot read. Or
/// `data` is a number that no float can hold, which is valid JSON.
fn read_unreadable(bytes: &[u8], error: &serde_json::Error) -> Result<Parsed<Booking>, Refusal> {
    let skipped: Envelope<'_, IgnoredAny> = serde_json::from_slice(bytes).map_err(|error| not_json(&error))?;
    if let Some(event_type) = other_type(skipped.event_type)? {
        return Ok(Parsed::Ignored { event_type });
    }
    required("data", skipped.data, |_| Ok(()))?;
    match serde_json::from_slice::<Envelope<'_, &RawValue>>(bytes) {
        Ok(Envelope { data: JsonField::Once(data), .. }) if !data.get().starts_with('{') => {
            Err(refusal("data", NOT_AN_OBJECT))
        }
        _ => Err(not_json(error)),
    }
}

fn parsed(
    message: &Bytes,
    Envelope { event_type, data }: Envelope<'_, DataValue<'_>>,
) -> Result<Parsed<Booking>, Refusal> {
    match other_type(event_type)? {
        Some(event_type) => Ok(Parsed::Ignored { event_type }),
        None => booking(message, data).map(Parsed::Event),
    }
}

/// The name of the event type, if it is not `BookingCreated`.
fn other_type(event_type: JsonField<&RawValue>) -> Result<Option<String>, Refusal> {
    let event_type = required("event_type", event_type, text)?;
    Ok((event_type != EVENT_TYPE).then(|| event_type.into_owned()))
}

fn booking(message: &Bytes, data: JsonField<DataValue<'_>>) -> Result<Booking, Refusal> {
    let fields = required("data", data, |data| match data {
        DataValue::Object(fields) => Ok(fields),
        DataValue::NotAnObject => Err(NOT_AN_OBJECT),
    })?;
    let BookingFields { id, user_id, hotel_id, price, promo_code, discount_percent, created_at } = fields;
    Ok(Booking {
        booking_id: required("data.id", id, |json| BookingId::new(shared(message, json)?))?,
        user_id: required("data.user_id", user_id, |json| UserId::new(shared(message, json)?))?,
        hotel_id: required("data.hotel_id", hotel_id, |json| HotelId::new(shared(message, json)?))?,
        price: required("data.price", price, |json| Price::new(decimal::parse(json)?))?,
        promo_code: optional("data.promo_code", promo_code, |json| PromoCode::new(shared(message, json)?))?,
        discount_percent: required("data.discount_percent", discount_percent, |json| {
            DiscountPercent::new(decimal::parse(json)?)
        })?,
        created_at: required("data.created_at", created_at, |json| {
            let text = text(json)?;
            valid::check_nul(&text)?;
            CreatedAt::from_rfc3339(&text)
        })?,
    })
}

fn required<T, V>(
    path: &'static str,
    field: JsonField<T>,
    value: impl FnOnce(T) -> Result<V, ValueFault>,
) -> Result<V, Refusal> {
    match field {
        JsonField::Once(found) => value(found).map_err(|fault| refusal(path, fault)),
        JsonField::Missing => Err(refusal(path, MISSING)),
        JsonField::Again => Err(refusal(path, AGAIN)),
    }
}

fn optional<T, V>(
    path: &'static str,
    field: JsonField<Option<T>>,
    value: impl FnOnce(T) -> Result<V, ValueFault>,
) -> Result<Option<V>, Refusal> {
    match field {
        JsonField::Missing => Ok(None),
        field => required(path, field, |found| found.map(value).transpose()),
    }
}

/// The text of JSON that must be a string.
fn text(json: &RawValue) -> Result<Cow<'_, str>, ValueFault> {
    let Some(quoted) = json.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Err(ValueFault { reason: Reason::WrongType, detail: "must be a string" });
    };
    // `serde_json` has checked the grammar. Without an escape, what is between the quotes is the text.
    if !quoted.contains('\\') {
        return Ok(Cow::Borrowed(quoted));
    }
    serde_json::from_str(json.get()).map(Cow::Owned).map_err(|_| NOT_TEXT)
}

/// The text shares the memory of the message, if it has no escape.
fn shared(message: &Bytes, json: &RawValue) -> Result<ByteString, ValueFault> {
    match text(json)? {
        Cow::Borrowed(text) => ByteString::try_from(message.slice_ref(text.as_bytes())).map_err(|_| NOT_TEXT),
        Cow::Owned(text) => Ok(text.into()),
    }
}

const MISSING: ValueFault = ValueFault { reason: Reason::MissingField, detail: "is missing" };
const AGAIN: ValueFault = ValueFault { reason: Reason::DuplicateField, detail: "is present more than once" };
const NOT_AN_OBJECT: ValueFault = ValueFault { reason: Reason::WrongType, detail: "must be an object" };
/// The only error in a string whose grammar is correct.
const NOT_TEXT: ValueFault = ValueFault { reason: Reason::NotJson, detail: "contains half of a surrogate pair" };

fn refusal(path: &'static str, fault: ValueFault) -> Refusal {
    Refusal { reason: fault.reason, field: Some(path), detail: fault.detail.to_owned() }
}

/// The text of a syntax error is fixed and has a position. The text of a data error could contain the data.
fn not_json(error: &serde_json::Error) -> Refusal {
    let detail = if error.is_data() { "not the JSON of a message".to_owned() } else { error.to_string() };
    Refusal { reason: Reason::NotJson, field: None, detail }
}
