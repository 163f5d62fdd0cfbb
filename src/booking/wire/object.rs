//! The two objects of a message, split into fields without checking them: each known key is missing, present once or
//! duplicate. Unknown keys are skipped.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The value of one key in an object.
#[derive(Debug)]
pub(super) enum JsonField<T> {
    Missing,
    Once(T),
    Again,
}

impl<'de, T: Deserialize<'de>> JsonField<T> {
    fn fill<A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        *self = match self {
            Self::Missing => Self::Once(map.next_value()?),
            Self::Once(_) | Self::Again => {
                map.next_value::<IgnoredAny>()?;
                Self::Again
            }
        };
        Ok(())
    }
}

/// The outer object. `D` decides which part of `data` is read.
#[derive(Debug)]
pub(super) struct Envelope<'a, D> {
    pub(super) event_type: JsonField<&'a RawValue>,
    pub(super) data: JsonField<D>,
}

/// The value of `data`.
#[derive(Debug)]
pub(super) enum DataValue<'a> {
    Object(BookingFields<'a>),
    NotAnObject,
}

/// The fields of a booking. Their JSON is kept: a float would change the value of a number.
#[derive(Debug)]
pub(super) struct BookingFields<'a> {
    pub(super) id: JsonField<&'a RawValue>,
    pub(super) user_id: JsonField<&'a RawValue>,
    pub(super) hotel_id: JsonField<&'a RawValue>,
    pub(super) price: JsonField<&'a RawValue>,
    pub(super) promo_code: JsonField<Option<&'a RawValue>>,
    pub(super) discount_percent: JsonField<&'a RawValue>,
    pub(super) created_at: JsonField<&'a RawValue>,
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum EnvelopeKey {
    EventType,
    Data,
    #[serde(other)]
    Unknown,
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum DataKey {
    Id,
    UserId,
    HotelId,
    Price,
    PromoCode,
    DiscountPercent,
    CreatedAt,
    #[serde(other)]
    Unknown,
}

impl<'de, D: Deserialize<'de>> Deserialize<'de> for Envelope<'de, D> {
    fn deserialize<R: Deserializer<'de>>(deserializer: R) -> Result<Self, R::Error> {
        struct EnvelopeVisitor<D>(PhantomData<D>);

        impl<'de, D: Deserialize<'de>> Visitor<'de> for EnvelopeVisitor<D> {
            type Value = Envelope<'de, D>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut envelope = Envelope { event_type: JsonField::Missing, data: JsonField::Missing };
                while let Some(key) = map.next_key()? {
                    match key {
                        EnvelopeKey::EventType => envelope.event_type.fill(&mut map)?,
                        EnvelopeKey::Data => envelope.data.fill(&mut map)?,
                        EnvelopeKey::Unknown => skip(&mut map)?,
                    }
                }
                Ok(envelope)
            }
        }
        deserializer.deserialize_map(EnvelopeVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for DataValue<'de> {
    fn deserialize<R: Deserializer<'de>>(deserializer: R) -> Result<Self, R::Error> {
        deserializer.deserialize_any(DataVisitor)
    }
}

struct DataVisitor;

impl<'de> Visitor<'de> for DataVisitor {
    type Value = DataValue<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = BookingFields {
            id: JsonField::Missing,
            user_id: JsonField::Missing,
            hotel_id: JsonField::Missing,
            price: JsonField::Missing,
            promo_code: JsonField::Missing,
            discount_percent: JsonField::Missing,
            created_at: JsonField::Missing,
        };
        while let Some(key) = map.next_key()? {
            match key {
                DataKey::Id => fields.id.fill(&mut map)?,
                DataKey::UserId => fields.user_id.fill(&mut map)?,
                DataKey::HotelId => fields.hotel_id.fill(&mut map)?,
                DataKey::Price => fields.price.fill(&mut map)?,
                DataKey::PromoCode => fields.promo_code.fill(&mut map)?,
                DataKey::DiscountPercent => fields.discount_percent.fill(&mut map)?,
                DataKey::CreatedAt => fields.created_at.fill(&mut map)?,
                DataKey::Unknown => skip(&mut map)?,
            }
        }
        Ok(DataValue::Object(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(DataValue::NotAnObject)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(DataValue::NotAnObject)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(DataValue::NotAnObject)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(DataValue::NotAnObject)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(DataValue::NotAnObject)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(DataValue::NotAnObject)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(DataValue::NotAnObject)
    }
}

/// Without recursion. The value needs only to be JSON.
fn skip<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(|_| ())
}
