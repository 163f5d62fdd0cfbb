//! A record's headers as JSON that Postgres accepts. Reading the JSON gives the same bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::model::record::Header;

/// An array of objects, in the order of the headers.
pub(super) fn to_json(headers: &[Header]) -> Value {
    headers.iter().map(header).collect()
}

/// The headers that [`to_json`] encoded. An element that an operator has changed to another form is left out.
pub(super) fn from_json(headers: &Value) -> Vec<Header> {
    let bytes = |object: &Value, text: &str, base64: &str| match (object.get(text), object.get(base64)) {
        (Some(Value::String(text)), _) => Some(Bytes::from(text.clone())),
        (_, Some(Value::String(coded))) => BASE64.decode(coded).ok().map(Bytes::from),
        _ => None,
    };
    let header = |object: &Value| {
        Some(Header { name: bytes(object, "name", "name_base64")?, value: bytes(object, "value", "base64") })
    };
    headers.as_array().into_iter().flatten().filter_map(header).collect()
}

/// Postgres refuses bytes that are not UTF-8, and the NUL character: such a name or value is encoded as base64.
fn header(header: &Header) -> Value {
    let mut object = match text(&header.name) {
        Some(name) => json!({ "name": name }),
        None => json!({ "name_base64": BASE64.encode(&header.name) }),
    };
    let (key, value) = match header.value.as_deref().map(|bytes| (bytes, text(bytes))) {
        None => ("value", Value::Null),
        Some((_, Some(text))) => ("value", text.into()),
        Some((bytes, None)) => ("base64", BASE64.encode(bytes).into()),
    };
    if let Value::Object(object) = &mut object {
        object.insert(key.to_owned(), value);
    }
    object
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &[u8], value: Option<&[u8]>, expected: &Value) {
        let headers = [Header { name: Bytes::copy_from_slice(name), value: value.map(Bytes::copy_from_slice) }];
        let json = to_json(&headers);
        assert_eq!(json, json!([expected]));
        assert_eq!(from_json(&json), headers, "and back");
    }

    #[test]
    fn a_header_of_any_bytes_becomes_json_that_postgres_accepts_and_is_read_back() {
        check(b"trace", Some(b"abc"), &json!({"name": "trace", "value": "abc"}));
        check(b"trace", Some(b""), &json!({"name": "trace", "value": ""}));
        check(b"trace", None, &json!({"name": "trace", "value": null}));
        check(b"raw", Some(&[0xff, 0x00]), &json!({"name": "raw", "base64": "/wA="}));
        check(b"nul", Some(b"a\0b"), &json!({"name": "nul", "base64": "YQBi"}));
        check(&[0xfe], Some(b"x"), &json!({"name_base64": "/g==", "value": "x"}));
        check(b"", Some("\u{10ffff}".as_bytes()), &json!({"name": "", "value": "\u{10ffff}"}));
    }
}
