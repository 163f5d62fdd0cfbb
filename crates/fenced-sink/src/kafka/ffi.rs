//! What rust-rdkafka does not pass on, read through its bindings. The one file with unsafe code: rust-rdkafka panics on
//! a header name that is not UTF-8, and a record that ends the process can't be kept; and it has no way to a topic's id, nor to
//! whether the client is a member of its group.

#![expect(unsafe_code, reason = "librdkafka's C interface; each block says why it holds")]

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka_sys as sys;
use std::ffi::{CStr, CString};
use std::ptr;
use std::time::Duration;

use crate::model::record::{Header, Offset, Partition, Record, Timestamp, TimestampType, TopicId};

/// Copies a message, whole.
pub(crate) fn record(message: &BorrowedMessage<'_>) -> Record {
    Record {
        partition: Partition(message.partition()),
        offset: Offset(message.offset()),
        timestamp: timestamp(message),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers(message),
    }
}

fn timestamp(message: &BorrowedMessage<'_>) -> Timestamp {
    let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
    // SAFETY: the message is alive while it is borrowed, and `kind` outlives the call.
    let millis = unsafe { sys::rd_kafka_message_timestamp(message.ptr(), &raw mut kind) };
    let kind = match kind {
        sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_CREATE_TIME => TimestampType::CreateTime,
        sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => TimestampType::LogAppendTime,
        sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => TimestampType::None,
    };
    Timestamp { millis, kind }
}

fn headers(message: &BorrowedMessage<'_>) -> Vec<Header> {
    let mut list = ptr::null_mut();
    // SAFETY: the message is alive while it is borrowed; the list belongs to it.
    let answer = unsafe { sys::rd_kafka_message_headers(message.ptr(), &raw mut list) };
    if answer != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Vec::new();
    }
    // SAFETY: the call above said that the list is there.
    let count = unsafe { sys::rd_kafka_header_cnt(list) };
    (0..count).filter_map(|index| header(list, index)).collect()
}

fn header(list: *const sys::rd_kafka_headers_t, index: usize) -> Option<Header> {
    let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
    // SAFETY: the list belongs to a message that is borrowed by our caller; an index past the end is answered by an
    // error.
    let answer = unsafe { sys::rd_kafka_header_get_all(list, index, &raw mut name, &raw mut value, &raw mut size) };
    if answer != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
        return None;
    }
    // SAFETY: librdkafka ends a name with NUL, and keeps it as long as the message.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes().to_vec();
    // SAFETY: a value that is not null has `size` bytes, which live as long as the message.
    let value = (!value.is_null()).then(|| unsafe { std::slice::from_raw_parts(value.cast::<u8>(), size) }.to_vec());
    Some(Header { name, value })
}

/// Fills in the position of each partition of a list: past the last record, marker or aborted record that was delivered
/// since it was assigned, else invalid. rust-rdkafka tells it of assigned partitions only.
pub(crate) fn positions<C: ConsumerContext>(consumer: &BaseConsumer<C>, list: &TopicPartitionList) {
    // SAFETY: client and list are alive while they are borrowed. The call reads local state, and marks a partition that
    // it doesn't know as invalid, so there is no error to report.
    unsafe {
        sys::rd_kafka_position(consumer.client().native_ptr(), list.ptr());
    }
}

/// Whether the client believes that it is a member of its group, with whatever partitions. When a session is over it
/// forgets its name under the classic protocol, its epoch under the newer one.
pub(crate) fn is_member<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> bool {
    // SAFETY: the client is alive while it is borrowed. What it hands out is ours, is looked at only if it is there, and is
    // destroyed here; the name belongs to it and ends with NUL.
    unsafe {
        let metadata = sys::rd_kafka_consumer_group_metadata(consumer.client().native_ptr());
        if metadata.is_null() {
            return false;
        }
        let name = sys::rd_kafka_consumer_group_metadata_member_id(metadata);
        let named = !name.is_null() && !CStr::from_ptr(name).is_empty();
        let joined = sys::rd_kafka_consumer_group_metadata_generation_id(metadata) > 0;
        sys::rd_kafka_consumer_group_metadata_destroy(metadata);
        named && joined
    }
}

/// The metadata that was committed beside each offset of a list, in its order: any bytes, which rust-rdkafka takes for
/// UTF-8 or panics.
pub(crate) fn metadata(list: &TopicPartitionList) -> Vec<Vec<u8>> {
    let bytes = |index: usize| {
        // SAFETY: the list owns `count` elements; metadata that is not null has the size beside it.
        unsafe {
            let element = &*(*list.ptr()).elems.add(index);
            if element.metadata.is_null() {
                return Vec::new();
            }
            std::slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size).to_vec()
        }
    };
    (0..list.count()).map(bytes).collect()
}

/// Asks a broker, by its number, for the id of a topic (the field of KIP-516 in its metadata), for as long as `limit`.
/// `None`: no answer, no such topic, or a broker that gives topics no ids.
pub(crate) fn topic_id<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    broker: i32,
    limit: Duration,
) -> Option<TopicId> {
    let name = CString::new(topic).ok()?;
    let limit = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    let client = consumer.client().native_ptr();
    // SAFETY: the client is alive while it is borrowed. The queue, the collection, the options and the event are made here and
    // destroyed here, and what is read of the event is copied before that; all pointers are null-checked where the
    // documentation allows null. An answer that comes too late goes into a queue that librdkafka keeps until then.
    unsafe {
        let queue = sys::rd_kafka_queue_new(client);
        let topics = sys::rd_kafka_TopicCollection_of_topic_names([name.as_ptr()].as_mut_ptr(), 1);
        // Left to itself it asks the controller, for which it would wait where nobody says who that is.
        let options =
            sys::rd_kafka_AdminOptions_new(client, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        sys::rd_kafka_AdminOptions_set_broker(options, broker, ptr::null_mut(), 0);
        sys::rd_kafka_DescribeTopics(client, topics, options, queue);
        let event = sys::rd_kafka_queue_poll(queue, limit);
        let id = described(event);
        if !event.is_null() {
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_TopicCollection_destroy(topics);
        sys::rd_kafka_queue_destroy(queue);
        id
    }
}

/// # Safety
/// The event is null, or alive.
unsafe fn described(event: *mut sys::rd_kafka_event_t) -> Option<TopicId> {
    // SAFETY: as the caller promises; all that is reached from the event lives as long as it does.
    unsafe {
        if event.is_null() || sys::rd_kafka_event_error(event) != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        let mut count = 0;
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if topics.is_null() || count == 0 {
            return None;
        }
        let error = sys::rd_kafka_error_code(sys::rd_kafka_TopicDescription_error(*topics));
        let id = sys::rd_kafka_TopicDescription_topic_id(*topics);
        if error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || id.is_null() {
            return None;
        }
        let is_zero =
            sys::rd_kafka_Uuid_most_significant_bits(id) == 0 && sys::rd_kafka_Uuid_least_significant_bits(id) == 0;
        let text = sys::rd_kafka_Uuid_base64str(id);
        (!is_zero && !text.is_null()).then(|| TopicId(CStr::from_ptr(text).to_string_lossy().into_owned()))
    }
}
