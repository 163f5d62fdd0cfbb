//! Records that no client library can produce: the test writes Kafka's protocol itself, so it chooses every byte.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::wait::PATIENCE;

/// A record of any bytes. `None` is null.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawRecord {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// The names need not be UTF-8.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Any number. A client library takes 0 for "now" and refuses negative numbers.
    pub timestamp: i64,
}

/// Produces one record, and returns its offset when the broker has it.
pub fn produce(broker: &str, topic: &str, partition: i32, record: &RawRecord) -> i64 {
    const PRODUCE: i16 = 0;
    const VERSION: i16 = 3;
    let batch = batch(record);
    let mut request = Vec::new();
    for number in [PRODUCE, VERSION] {
        request.extend(number.to_be_bytes());
    }
    request.extend(7_i32.to_be_bytes()); // an id for the answer
    request.extend((-1_i16).to_be_bytes()); // no name of a client
    request.extend((-1_i16).to_be_bytes()); // no transaction
    request.extend((-1_i16).to_be_bytes()); // acks=all
    request.extend(30_000_i32.to_be_bytes());
    request.extend(1_i32.to_be_bytes());
    request.extend(i16::try_from(topic.len()).unwrap().to_be_bytes());
    request.extend(topic.as_bytes());
    request.extend(1_i32.to_be_bytes());
    request.extend(partition.to_be_bytes());
    request.extend(i32::try_from(batch.len()).unwrap().to_be_bytes());
    request.extend(batch);

    let mut stream = TcpStream::connect(broker).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&i32::try_from(request.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(&request).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut answer).unwrap();

    // The id of the answer, one topic, its name, one partition, its number; then the error and the offset.
    let (_, rest) = answer.split_at(4 + 4 + 2 + topic.len() + 4 + 4);
    let (error, rest) = rest.split_first_chunk().unwrap();
    assert_eq!(i16::from_be_bytes(*error), 0, "the broker refuses {record:?}");
    i64::from_be_bytes(*rest.first_chunk().unwrap())
}

/// A batch of one record, in the format that Kafka has had since 0.11.
fn batch(record: &RawRecord) -> Vec<u8> {
    let mut body = vec![0]; // attributes
    varint(&mut body, 0); // its timestamp less the batch's
    varint(&mut body, 0); // its offset less the batch's
    bytes(&mut body, record.key.as_deref());
    bytes(&mut body, record.value.as_deref());
    varint(&mut body, record.headers.len().try_into().unwrap());
    for (name, value) in &record.headers {
        bytes(&mut body, Some(name));
        bytes(&mut body, value.as_deref());
    }

    let mut checked = Vec::new();
    checked.extend(0_i16.to_be_bytes()); // not compressed
    checked.extend(0_i32.to_be_bytes()); // the last offset less the first
    checked.extend(record.timestamp.to_be_bytes());
    checked.extend(record.timestamp.to_be_bytes());
    checked.extend((-1_i64).to_be_bytes()); // no producer's id,
    checked.extend((-1_i16).to_be_bytes()); // epoch
    checked.extend((-1_i32).to_be_bytes()); // or sequence
    checked.extend(1_i32.to_be_bytes());
    varint(&mut checked, body.len().try_into().unwrap());
    checked.extend(body);

    let mut batch = Vec::new();
    batch.extend(0_i64.to_be_bytes()); // the broker puts the offset here
    batch.extend(i32::try_from(4 + 1 + 4 + checked.len()).unwrap().to_be_bytes());
    batch.extend((-1_i32).to_be_bytes());
    batch.push(2);
    batch.extend(crc32c(&checked).to_be_bytes());
    batch.extend(checked);
    batch
}

fn bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => varint(out, -1),
        Some(bytes) => {
            varint(out, bytes.len().try_into().unwrap());
            out.extend(bytes);
        }
    }
}

/// Zigzag encoding, then seven bits per byte.
fn varint(out: &mut Vec<u8>, number: i64) {
    let mut left = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while left > 0x7f {
        out.push(u8::try_from(left & 0x7f).unwrap() | 0x80);
        left >>= 7;
    }
    out.push(u8::try_from(left).unwrap());
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}
