//! The usual message of a booking, read in one pass: texts without an escape, and numbers without a sign and an exponent.
//!
//! [`read`] accepts faster what [`read_any`](super::read_any) accepts, with the same result. It never refuses: `None` says
//! that `read_any` must decide. So each rule of JSON that is not needed here may be left out, but none may be broken.

use bytestring::ByteString;
use fenced_sink::Bytes;
use rust_decimal::Decimal;

use super::EVENT_TYPE;
use crate::booking::created_at::CreatedAt;
use crate::booking::valid::{Booking, BookingId, DiscountPercent, HotelId, Price, PromoCode, UserId};

/// The deepest nesting of an unknown value that is skipped here: the stack is limited.
const MAX_DEPTH: u8 = 8;

/// Reads a message of the usual form. The texts of the booking share the memory of the message.
pub(in crate::booking) fn read(message: &Bytes) -> Option<Booking> {
    // The UTF-8 of all texts is checked here, once.
    let message = ByteString::try_from(message.clone()).ok()?;
    let mut reader = Reader { message: &message, json: &message, at: 0 };
    let (mut event_type, mut data) = (None, None);
    reader.object(|reader, key| match key {
        Key::EventType => once(&mut event_type, reader.text().filter(|text| *text == EVENT_TYPE)),
        Key::Data => once(&mut data, reader.booking()),
        _ => reader.skip(MAX_DEPTH),
    })?;
    event_type?;
    if reader.next_token().is_none() { data } else { None }
}

/// Fills the place of a field. The value must be the first one.
fn once<T>(place: &mut Option<T>, value: Option<T>) -> Option<()> {
    if place.is_some() {
        return None;
    }
    *place = Some(value?);
    Some(())
}

#[derive(Clone, Copy)]
enum Key {
    EventType,
    Data,
    Id,
    UserId,
    HotelId,
    Price,
    PromoCode,
    DiscountPercent,
    CreatedAt,
    Unknown,
}

struct Reader<'a> {
    message: &'a ByteString,
    json: &'a str,
    /// The bytes before this place are read.
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads the object `data`.
    fn booking(&mut self) -> Option<Booking> {
        let (mut booking_id, mut user_id, mut hotel_id, mut price) = (None, None, None, None);
        let (mut promo_code, mut discount_percent, mut created_at) = (None, None, None);
        self.object(|reader, key| match key {
            Key::Id => once(&mut booking_id, BookingId::without_nul(reader.shared()?).ok()),
            Key::UserId => once(&mut user_id, UserId::without_nul(reader.shared()?).ok()),
            Key::HotelId => once(&mut hotel_id, HotelId::without_nul(reader.shared()?).ok()),
            Key::Price => once(&mut price, Price::new(reader.number()?).ok()),
            Key::PromoCode if reader.word("null") => once(&mut promo_code, Some(None)),
            Key::PromoCode => once(&mut promo_code, PromoCode::without_nul(reader.shared()?).ok().map(Some)),
            Key::DiscountPercent => once(&mut discount_percent, DiscountPercent::new(reader.number()?).ok()),
            Key::CreatedAt => once(&mut created_at, CreatedAt::from_rfc3339(reader.text()?).ok()),
            _ => reader.skip(MAX_DEPTH),
        })?;
        Some(Booking {
            booking_id: booking_id?,
            user_id: user_id?,
            hotel_id: hotel_id?,
            price: price?,
            promo_code: promo_code.flatten(),
            discount_percent: discount_percent?,
            created_at: created_at?,
        })
    }

    /// Reads an object. `field` reads the value of each key.
    fn object(&mut self, mut field: impl FnMut(&mut Self, Key) -> Option<()>) -> Option<()> {
        self.expect(b'{')?;
        self.items(b'}', |reader| {
            let key = reader.key()?;
            reader.expect(b':')?;
            field(reader, key)
        })
    }

    /// Reads none or more items with commas between them, and the token after them.
    fn items(&mut self, end: u8, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        if self.next_token()? == end {
            return self.expect(end);
        }
        loop {
            item(self)?;
            match self.next_token()? {
                b',' => self.at += 1,
                _ => return self.expect(end),
            }
        }
    }

    /// Reads a key. A known one is compared as a whole, which costs less than to look for its end.
    fn key(&mut self) -> Option<Key> {
        const KNOWN: [(&[u8], Key); 9] = [
            (br#""id""#, Key::Id),
            (br#""user_id""#, Key::UserId),
            (br#""hotel_id""#, Key::HotelId),
            (br#""price""#, Key::Price),
            (br#""promo_code""#, Key::PromoCode),
            (br#""discount_percent""#, Key::DiscountPercent),
            (br#""created_at""#, Key::CreatedAt),
            (br#""event_type""#, Key::EventType),
            (br#""data""#, Key::Data),
        ];
        self.next_token()?;
        let rest = self.rest()?;
        match KNOWN.iter().find(|(quoted, _)| rest.starts_with(quoted)) {
            Some((quoted, key)) => {
                self.at += quoted.len();
                Some(*key)
            }
            None => self.text().map(|_| Key::Unknown),
        }
    }

    /// Skips the value of an unknown key.
    fn skip(&mut self, depth: u8) -> Option<()> {
        match self.next_token()? {
            b'{' if depth > 0 => self.object(|reader, _| reader.skip(depth - 1)),
            b'[' if depth > 0 => {
                self.at += 1;
                self.items(b']', |reader| reader.skip(depth - 1))
            }
            b'"' => self.text().map(|_| ()),
            b'0'..=b'9' => self.number().map(|_| ()),
            _ => ["null", "true", "false"].into_iter().any(|word| self.word(word)).then_some(()),
        }
    }

    /// Reads a string without an escape and without the control characters that JSON forbids.
    fn text(&mut self) -> Option<&'a str> {
        self.expect(b'"')?;
        let start = self.at;
        let end = start + plain_bytes(self.rest()?);
        self.at = end + 1;
        if self.json.as_bytes().get(end) == Some(&b'"') { self.json.get(start..end) } else { None }
    }

    /// Reads a string that shares the memory of the message.
    fn shared(&mut self) -> Option<ByteString> {
        self.text().map(|text| self.message.slice_ref(text))
    }

    /// Reads a number whose digits fit into an `i64`.
    fn number(&mut self) -> Option<Decimal> {
        let zero_first = self.next_token()? == b'0';
        let (mut units, mut scale) = (0, 0);
        if self.digits(&mut units)? > 1 && zero_first {
            return None;
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            scale = self.digits(&mut units)?;
        }
        Decimal::try_new(units, scale).ok()
    }

    /// Appends one or more digits to `units`, and returns how many.
    fn digits(&mut self, units: &mut i64) -> Option<u32> {
        let mut count = 0;
        while let Some(digit @ b'0'..=b'9') = self.byte() {
            *units = units.checked_mul(10)?.checked_add((digit - b'0').into())?;
            self.at += 1;
            count += 1;
        }
        (count > 0).then_some(count)
    }

    /// Whether the value is this word. Only then it is read.
    fn word(&mut self, word: &str) -> bool {
        let found = self.next_token().is_some() && self.rest().is_some_and(|rest| rest.starts_with(word.as_bytes()));
        self.at += if found { word.len() } else { 0 };
        found
    }

    fn expect(&mut self, token: u8) -> Option<()> {
        if self.byte() != Some(token) && self.next_token() != Some(token) {
            return None;
        }
        self.at += 1;
        Some(())
    }

    /// Skips white space, and returns the first byte after it.
    fn next_token(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.byte() {
            self.at += 1;
        }
        self.byte()
    }

    fn byte(&self) -> Option<u8> {
        self.json.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> Option<&'a [u8]> {
        self.json.as_bytes().get(self.at..)
    }
}

/// The number of bytes before the first quote, backslash or control character.
fn plain_bytes(mut bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    let length = bytes.len();
    // Eight bytes at once. The subtraction sets the highest bit of a byte that is zero or less than 0x20. It borrows from the
    // bytes above, so only the lowest of these bits is exact.
    while let Some((word, rest)) = bytes.split_first_chunk() {
        let word = u64::from_le_bytes(*word);
        let (quote, backslash) = (word ^ (ONES * 0x22), word ^ (ONES * 0x5c));
        let below = quote.wrapping_sub(ONES) | backslash.wrapping_sub(ONES) | word.wrapping_sub(ONES * 0x20);
        let special = below & !word & (ONES << 7);
        if special != 0 {
            return length - bytes.len() + usize::try_from(special.trailing_zeros() / 8).unwrap_or_default();
        }
        bytes = rest;
    }
    length - bytes.len() + bytes.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20)).count()
}
