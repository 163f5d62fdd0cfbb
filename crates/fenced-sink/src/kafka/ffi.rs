//! Calls of librdkafka's C interface, where rust-rdkafka is not sufficient. The only file with unsafe code.
//!
//! - rust-rdkafka panics at a header name that is not UTF-8, and at such metadata of a committed offset. One record or
//!   one foreign commit would end the process at every start.
//! - It drops the partition of a consumer error, and the reason that librdkafka gives.
//! - It has no function for the id of a topic, nor for the membership of the client.
//! - It returns positions of assigned partitions only.
//! - It has no leader epochs.
//! - Its queue of a partition can't return an error with its reason, nor end a wait for other events.
//!
//! The invariant: every function copies what it returns. No pointer leaves this file.

#![expect(unsafe_code, reason = "the C interface of librdkafka; each block has the reason why it is sound")]

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::message::BorrowedMessage;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka_sys as sys;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_void};
use std::ptr::{self, NonNull};
use std::time::Duration;

use crate::kafka::record_memory::{PartitionMemory, RecordMemory};
use crate::model::record::{Header, LeaderEpoch, Offset, Partition, Record, Timestamp, TimestampType, TopicId};

/// A consumer and its queues. librdkafka puts the records and errors of a separated partition into the queue of this
/// partition, and everything else that it reports into the queue of the consumer.
pub(crate) struct PolledConsumer<C: ConsumerContext> {
    // Fields are dropped in their order: the queue of a partition has a pointer to the queue of the consumer.
    partitions: BTreeMap<Partition, PartitionQueue>,
    queue: Queue,
    consumer: BaseConsumer<C>,
    memory: RecordMemory,
}

/// A reference to a queue.
struct Queue(NonNull<sys::rd_kafka_queue_t>);

/// A reference to the queue of a partition, which ends a poll of the queue of the consumer when something arrives.
struct PartitionQueue(Queue);

// SAFETY: the functions of librdkafka lock a queue, so any thread may poll and destroy this reference to it.
unsafe impl Send for Queue {}

/// Everything that a poll can return.
pub(crate) enum PolledEvent {
    /// The next record of a partition that is read.
    Record(Record),
    /// An error.
    Error(PolledError),
    /// A change of the assignment.
    Rebalance {
        /// Kafka assigns the partitions. False: it revokes them.
        assigned: bool,
        /// The partitions.
        partitions: Vec<Partition>,
    },
    /// The statistics of the client, as JSON.
    Statistics(String),
    /// A message of librdkafka.
    Message(PolledMessage),
}

/// An error that librdkafka reports to the consumer.
pub(crate) struct PolledError {
    /// The partition that it concerns. `None`: librdkafka names none.
    pub(crate) partition: Option<Partition>,
    /// The code.
    pub(crate) code: RDKafkaErrorCode,
    /// The client can never work again.
    pub(crate) fatal: bool,
    /// The reason that librdkafka gives.
    pub(crate) reason: String,
}

/// A message of librdkafka.
pub(crate) struct PolledMessage {
    /// The severity, as syslog numbers it.
    pub(crate) level: i32,
    /// The subject, as one word.
    pub(crate) facility: String,
    pub(crate) text: String,
}

impl<C: ConsumerContext> PolledConsumer<C> {
    /// The consumer must be a member of a group: a client without a group has no such queue.
    pub(crate) fn new(consumer: BaseConsumer<C>) -> Option<Self> {
        // SAFETY: the consumer keeps the client alive. The caller owns the reference that the call returns, and `Drop`
        // of `Queue` gives it back, before the client ends: fields are dropped in their order.
        let queue = NonNull::new(unsafe { sys::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) })?;
        Some(Self { partitions: BTreeMap::new(), queue: Queue(queue), consumer, memory: RecordMemory::default() })
    }

    /// Separates a partition: from now on [`Self::poll_partition`] returns its records and errors. They end a wait of
    /// [`Self::poll`]. False: librdkafka refuses the name of the topic.
    pub(crate) fn separate(&mut self, topic: &str, partition: Partition) -> bool {
        let Ok(topic) = CString::new(topic) else { return false };
        // The new reference can be one to the same queue, so the former one must stop its wake-ups before.
        self.partitions.remove(&partition);
        let client = self.consumer.client().native_ptr();
        // SAFETY: the consumer keeps the client alive, and `topic` lives longer than the call that copies it. The caller
        // owns the reference that the call returns, which is null-checked, and `Drop` of `Queue` gives it back. The
        // pointer to the queue of the consumer is used until `Drop` of `PartitionQueue`, which is before that queue's
        // reference is given back: fields are dropped in their order.
        unsafe {
            let queue = sys::rd_kafka_queue_get_partition(client, topic.as_ptr(), partition.0);
            let Some(queue) = NonNull::new(queue).map(Queue) else { return false };
            sys::rd_kafka_queue_forward(queue.0.as_ptr(), ptr::null_mut());
            sys::rd_kafka_queue_cb_event_enable(queue.0.as_ptr(), Some(wake), self.queue.0.as_ptr().cast());
            self.partitions.insert(partition, PartitionQueue(queue));
        }
        true
    }

    /// The partitions that are separated.
    pub(crate) fn separated(&self) -> impl Iterator<Item = Partition> {
        self.partitions.keys().copied()
    }

    /// The next record or error of a separated partition, if it has arrived.
    pub(crate) fn poll_partition(&mut self, partition: Partition) -> Option<PolledEvent> {
        let PartitionQueue(queue) = self.partitions.get(&partition)?;
        queue.poll(Duration::ZERO, &mut self.memory)
    }

    pub(crate) fn consumer(&self) -> &BaseConsumer<C> {
        &self.consumer
    }

    /// Waits for the next event, `timeout` at most. `None`: none came, or one that [`PolledEvent`] does not have, such
    /// as the result of a commit to Kafka.
    pub(crate) fn poll(&mut self, timeout: Duration) -> Option<PolledEvent> {
        self.queue.poll(timeout, &mut self.memory)
    }
}

impl Queue {
    /// Waits for the next event, `timeout` at most.
    fn poll(&self, timeout: Duration, memory: &mut RecordMemory) -> Option<PolledEvent> {
        let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: `self` owns a reference to the queue. The event is null-checked. It is destroyed once, after `polled`
        // has copied what it reads of it.
        unsafe {
            let event = NonNull::new(sys::rd_kafka_queue_poll(self.0.as_ptr(), timeout))?.as_ptr();
            let copied = polled(event, memory);
            sys::rd_kafka_event_destroy(event);
            copied
        }
    }
}

/// Ends the current or the next poll of a queue. librdkafka calls it when something arrives in an empty queue of a
/// partition, with the lock of that queue.
unsafe extern "C" fn wake(_: *mut sys::rd_kafka_t, queue: *mut c_void) {
    // SAFETY: `separate` passes a pointer to a queue, which lives until `Drop` of `PartitionQueue`.
    unsafe { sys::rd_kafka_queue_yield(queue.cast()) }
}

impl Drop for PartitionQueue {
    fn drop(&mut self) {
        // SAFETY: `self` owns the reference. librdkafka calls `wake` with the lock of the queue that this call takes, so
        // `wake` is not called after it.
        unsafe { sys::rd_kafka_queue_cb_event_enable(self.0.0.as_ptr(), None, ptr::null_mut()) }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: `self` owns the reference, and nothing uses it after this call.
        unsafe { sys::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

/// Copies an event. `None`: [`PolledEvent`] does not have its kind.
///
/// # Safety
/// The event is valid until this function returns.
unsafe fn polled(event: *mut sys::rd_kafka_event_t, memory: &mut RecordMemory) -> Option<PolledEvent> {
    // SAFETY: the caller guarantees that the event is valid. It owns everything that is read here, except the partition
    // of an error, which `partition` destroys. Every pointer that can be null is checked before use.
    unsafe {
        match sys::rd_kafka_event_type(event) {
            sys::RD_KAFKA_EVENT_FETCH => {
                let message = sys::rd_kafka_event_message_next(event);
                (!message.is_null()).then(|| PolledEvent::Record(copied(message, memory)))
            }
            sys::RD_KAFKA_EVENT_ERROR => Some(PolledEvent::Error(PolledError {
                partition: partition(event),
                code: sys::rd_kafka_event_error(event).into(),
                fatal: sys::rd_kafka_event_error_is_fatal(event) != 0,
                reason: CStr::from_ptr(sys::rd_kafka_event_error_string(event)).to_string_lossy().trim().to_owned(),
            })),
            sys::RD_KAFKA_EVENT_REBALANCE => {
                let assign = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
                let list = sys::rd_kafka_event_topic_partition_list(event);
                let elements = list.as_ref().map_or(&[][..], |list| match usize::try_from(list.cnt) {
                    Ok(count) if !list.elems.is_null() => std::slice::from_raw_parts(list.elems, count),
                    _ => &[],
                });
                Some(PolledEvent::Rebalance {
                    assigned: sys::rd_kafka_event_error(event) == assign,
                    partitions: elements.iter().map(|element| Partition(element.partition)).collect(),
                })
            }
            sys::RD_KAFKA_EVENT_STATS => {
                let text = sys::rd_kafka_event_stats(event);
                (!text.is_null()).then(|| PolledEvent::Statistics(CStr::from_ptr(text).to_string_lossy().into_owned()))
            }
            sys::RD_KAFKA_EVENT_LOG => {
                let (mut facility, mut text, mut level) = (ptr::null(), ptr::null(), 0);
                let answer = sys::rd_kafka_event_log(event, &raw mut facility, &raw mut text, &raw mut level);
                (answer == 0 && !facility.is_null() && !text.is_null()).then(|| {
                    PolledEvent::Message(PolledMessage {
                        level,
                        facility: CStr::from_ptr(facility).to_string_lossy().into_owned(),
                        text: CStr::from_ptr(text).to_string_lossy().trim().to_owned(),
                    })
                })
            }
            _ => None,
        }
    }
}

/// The partition that an error event names.
///
/// # Safety
/// The event is valid until this function returns.
unsafe fn partition(event: *mut sys::rd_kafka_event_t) -> Option<Partition> {
    // SAFETY: the caller guarantees that the event is valid. The caller of the first function owns the result, which is
    // null-checked before use, and destroyed once, after the last use.
    unsafe {
        let named = sys::rd_kafka_event_topic_partition(event);
        let partition = named.as_ref().map(|named| Partition(named.partition));
        if !named.is_null() {
            sys::rd_kafka_topic_partition_destroy(named);
        }
        partition
    }
}

/// Copies a message with all its parts.
pub(crate) fn record(message: &BorrowedMessage<'_>, memory: &mut RecordMemory) -> Record {
    // SAFETY: the borrow keeps the message alive.
    unsafe { copied(message.ptr(), memory) }
}

/// Copies a message with all its parts.
///
/// # Safety
/// The message is valid until this function returns.
unsafe fn copied(message: *const sys::rd_kafka_message_t, memory: &mut RecordMemory) -> Record {
    // SAFETY: the caller guarantees that the message is valid, and the message owns everything that is copied here.
    unsafe {
        let partition = Partition((*message).partition);
        let memory = memory.of(partition);
        Record {
            partition,
            offset: Offset((*message).offset),
            timestamp: timestamp(message),
            key: bytes((*message).key, (*message).key_len).map(|bytes| memory.copy(bytes)),
            value: bytes((*message).payload, (*message).len).map(|bytes| memory.copy(bytes)),
            headers: headers(message, memory),
            leader_epoch: leader_epoch(message),
        }
    }
}

/// # Safety
/// The pointer is null, or `size` bytes are valid there as long as the result is used.
unsafe fn bytes<'a>(start: *const c_void, size: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller guarantees it.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast::<u8>(), size) })
}

/// # Safety
/// The message is valid until this function returns.
unsafe fn timestamp(message: *const sys::rd_kafka_message_t) -> Timestamp {
    let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
    // SAFETY: the caller guarantees that the message is valid. `kind` is a local variable that lives longer than the
    // call.
    let millis = unsafe { sys::rd_kafka_message_timestamp(message, &raw mut kind) };
    let kind = match kind {
        sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_CREATE_TIME => TimestampType::CreateTime,
        sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => TimestampType::LogAppendTime,
        sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => TimestampType::None,
    };
    Timestamp { millis, kind }
}

/// # Safety
/// The message is valid until this function returns.
unsafe fn headers(message: *const sys::rd_kafka_message_t, memory: &mut PartitionMemory) -> Vec<Header> {
    let mut list = ptr::null_mut();
    // SAFETY: the caller guarantees that the message is valid. The message owns the list that the call returns.
    let answer = unsafe { sys::rd_kafka_message_headers(message, &raw mut list) };
    if answer != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Vec::new();
    }
    // SAFETY: the call above succeeded, so `list` points to a list, which lives as long as the message.
    let count = unsafe { sys::rd_kafka_header_cnt(list) };
    (0..count).filter_map(|index| header(list, index, memory)).collect()
}

fn header(list: *const sys::rd_kafka_headers_t, index: usize, memory: &mut PartitionMemory) -> Option<Header> {
    let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
    // SAFETY: the caller borrows the message that owns the list. The call returns an error if the index is too large.
    // The three results are local variables that live longer than the call.
    let answer = unsafe { sys::rd_kafka_header_get_all(list, index, &raw mut name, &raw mut value, &raw mut size) };
    if answer != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
        return None;
    }
    // SAFETY: the name is not null, librdkafka ends it with NUL, and it lives as long as the message.
    let name = memory.copy(unsafe { CStr::from_ptr(name) }.to_bytes());
    // SAFETY: a value that is not null has `size` bytes, and they live as long as the message.
    let value = unsafe { bytes(value, size) }.map(|bytes| memory.copy(bytes));
    Some(Header { name, value })
}

/// Writes the position of each partition into the list: the one behind the last record, marker or aborted record that
/// was delivered since the partition was assigned. Without such a record the position is invalid.
pub(crate) fn positions<C: ConsumerContext>(consumer: &BaseConsumer<C>, list: &TopicPartitionList) {
    // SAFETY: the borrows keep client and list alive. The call reads only local state of the client. It marks an
    // unknown partition as invalid, so its result needs no check.
    unsafe {
        sys::rd_kafka_position(consumer.client().native_ptr(), list.ptr());
    }
}

/// Whether an event waits for a poll of the client.
pub(crate) fn has_events<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> bool {
    // SAFETY: the borrow keeps the client alive.
    unsafe { sys::rd_kafka_outq_len(consumer.client().native_ptr()) > 0 }
}

/// Whether the client is a member of its group as far as it knows. When its session ends, it clears its member id under
/// the classic group protocol, and its epoch under the newer one.
pub(crate) fn is_member<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> bool {
    // SAFETY: the borrow keeps the client alive. The caller of the first function owns the metadata: it is null-checked
    // before use, used only here, and destroyed once, after the last use. The metadata owns the member id, which ends
    // with NUL.
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

/// The metadata of each committed offset of a list, in the order of the list. It can be any bytes.
pub(crate) fn metadata(list: &TopicPartitionList) -> Vec<Vec<u8>> {
    let bytes = |index: usize| {
        // SAFETY: `index` is below the number of elements, and the borrow keeps the list alive. Metadata that is not
        // null has `metadata_size` bytes, and the list owns them.
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

/// The answer of a broker about a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TopicDescription {
    /// The id (KIP-516). `None`: the broker gives topics no ids.
    pub(crate) id: Option<TopicId>,
    /// Whether READ is among the operations that the broker lists for this user (KIP-430). `None`: it lists none.
    pub(crate) lists_read: Option<bool>,
    /// Whether the broker lists any operation. A user who sees the topic has at least one, so a broker with an empty list
    /// does not fill in the list.
    pub(crate) lists_any: bool,
}

/// Asks one broker about a topic, and waits up to `limit`. `None`: no answer, or no such topic.
pub(crate) fn describe_topic<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    broker: i32,
    limit: Duration,
) -> Option<TopicDescription> {
    let name = CString::new(topic).ok()?;
    // SAFETY: `name` lives longer than the call that copies it. This block creates the collection, and destroys it once,
    // after the last use. The request is of the kind that the options are for, and `described` copies what it returns.
    unsafe {
        let topics = sys::rd_kafka_TopicCollection_of_topic_names([name.as_ptr()].as_mut_ptr(), 1);
        let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let description = admin_request(
            consumer,
            kind,
            // By default librdkafka asks the controller. If no broker knows the controller, librdkafka waits without end.
            Some(broker),
            limit,
            |client, options, queue| sys::rd_kafka_DescribeTopics(client, topics, options, queue),
            described,
        );
        sys::rd_kafka_TopicCollection_destroy(topics);
        description
    }
}

/// Sends an admin request that also asks for the operations of this user, and waits up to `limit`. `copied` gets the answer,
/// or null. `broker` is the one to ask, instead of the one that librdkafka chooses.
///
/// # Safety
/// `send` sends a request of this kind to this queue. `copied` copies what it returns, and the event can be null.
unsafe fn admin_request<C: ConsumerContext, T>(
    consumer: &BaseConsumer<C>,
    kind: sys::rd_kafka_admin_op_t,
    broker: Option<i32>,
    limit: Duration,
    send: impl FnOnce(*mut sys::rd_kafka_t, *const sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
    copied: unsafe fn(*mut sys::rd_kafka_event_t) -> T,
) -> T {
    let limit = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    let client = consumer.client().native_ptr();
    // SAFETY: the borrow keeps the client alive. This block creates the queue, the options and the event, and destroys
    // each once, after the last use. The caller guarantees the rest. Only the event can be null (the kind is a known one),
    // and it is checked. librdkafka counts the references to the queue: an answer that arrives after the limit still has
    // its queue.
    unsafe {
        let queue = sys::rd_kafka_queue_new(client);
        let options = sys::rd_kafka_AdminOptions_new(client, kind);
        if let Some(broker) = broker {
            sys::rd_kafka_AdminOptions_set_broker(options, broker, ptr::null_mut(), 0);
        }
        let error = sys::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
        if !error.is_null() {
            sys::rd_kafka_error_destroy(error);
        }
        send(client, options, queue);
        let event = sys::rd_kafka_queue_poll(queue, limit);
        let answer = copied(event);
        if !event.is_null() {
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_queue_destroy(queue);
        answer
    }
}

/// The topic in the answer of a broker.
///
/// # Safety
/// The event is null, or it lives until this function returns.
unsafe fn described(event: *mut sys::rd_kafka_event_t) -> Option<TopicDescription> {
    // SAFETY: the caller guarantees that the event lives. The event owns everything that is read here, and every
    // pointer that can be null is checked before use.
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
        if error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        let mut count = 0;
        let operations = sys::rd_kafka_TopicDescription_authorized_operations(*topics, &raw mut count);
        let (lists_read, lists_any) = listed(operations, count);
        Some(TopicDescription { id: topic_id(sys::rd_kafka_TopicDescription_topic_id(*topics)), lists_read, lists_any })
    }
}

/// Whether READ is in a list of operations (`None`: there is no list), and whether the list has any operation.
///
/// # Safety
/// The pointer is null, or it points to `count` operations that live until this function returns.
unsafe fn listed(operations: *const sys::rd_kafka_AclOperation_t, count: usize) -> (Option<bool>, bool) {
    if operations.is_null() {
        return (None, false);
    }
    // SAFETY: the caller guarantees it.
    let operations = unsafe { std::slice::from_raw_parts(operations, count) };
    (Some(operations.contains(&sys::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_READ)), !operations.is_empty())
}

/// Asks Kafka about a consumer group, and waits up to `limit`. Returns what [`listed`] says about the operations that
/// Kafka lists for this user, or the code of the refusal.
pub(crate) fn describe_group<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    group: &str,
    limit: Duration,
) -> Result<(Option<bool>, bool), RDKafkaErrorCode> {
    let name = CString::new(group).map_err(|_| RDKafkaErrorCode::InvalidArgument)?;
    // SAFETY: `name` lives longer than the call that copies it. The request is of the kind that the options are for, and
    // `described_group` copies what it returns.
    unsafe {
        let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
        let send = |client, options, queue| {
            sys::rd_kafka_DescribeConsumerGroups(client, [name.as_ptr()].as_mut_ptr(), 1, options, queue);
        };
        admin_request(consumer, kind, None, limit, send, described_group)
    }
}

/// The operations in the answer about a group.
///
/// # Safety
/// The event is null, or it lives until this function returns.
unsafe fn described_group(event: *mut sys::rd_kafka_event_t) -> Result<(Option<bool>, bool), RDKafkaErrorCode> {
    let none = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
    // SAFETY: the caller guarantees that the event lives. The event owns everything that is read here, and every
    // pointer that can be null is checked before use. The code of an error that is null is "no error".
    unsafe {
        if event.is_null() {
            return Err(RDKafkaErrorCode::OperationTimedOut);
        }
        let error = sys::rd_kafka_event_error(event);
        if error != none {
            return Err(error.into());
        }
        let result = sys::rd_kafka_event_DescribeConsumerGroups_result(event);
        let mut count = 0;
        let groups = sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
        if groups.is_null() || count == 0 {
            return Ok((None, false));
        }
        let error = sys::rd_kafka_error_code(sys::rd_kafka_ConsumerGroupDescription_error(*groups));
        if error != none {
            return Err(error.into());
        }
        let mut count = 0;
        let operations = sys::rd_kafka_ConsumerGroupDescription_authorized_operations(*groups, &raw mut count);
        Ok(listed(operations, count))
    }
}

/// The text of a topic id. `None`: the id is zero, which means no id.
///
/// # Safety
/// The id is null, or it lives until this function returns.
unsafe fn topic_id(id: *const sys::rd_kafka_Uuid_t) -> Option<TopicId> {
    if id.is_null() {
        return None;
    }
    // SAFETY: the caller guarantees that the id lives. It owns its text, which is null or ends with NUL.
    unsafe {
        let is_zero =
            sys::rd_kafka_Uuid_most_significant_bits(id) == 0 && sys::rd_kafka_Uuid_least_significant_bits(id) == 0;
        let text = sys::rd_kafka_Uuid_base64str(id);
        (!is_zero && !text.is_null()).then(|| TopicId(CStr::from_ptr(text).to_string_lossy().into_owned()))
    }
}

/// The epoch of the leader that wrote a message.
///
/// # Safety
/// The message is valid until this function returns.
unsafe fn leader_epoch(message: *const sys::rd_kafka_message_t) -> Option<LeaderEpoch> {
    // SAFETY: the caller guarantees that the message is valid.
    let epoch = unsafe { sys::rd_kafka_message_leader_epoch(message) };
    (epoch >= 0).then_some(LeaderEpoch(epoch))
}

/// Sets the leader epochs of the positions in a list, in the order of the list.
pub(crate) fn set_leader_epochs(list: &TopicPartitionList, epochs: impl IntoIterator<Item = Option<LeaderEpoch>>) {
    for (index, epoch) in (0..list.count()).zip(epochs) {
        let epoch = epoch.map_or(-1, |epoch| epoch.0);
        // SAFETY: `index` is below the number of elements. The borrow keeps the list alive, and only this thread has it.
        unsafe {
            sys::rd_kafka_topic_partition_set_leader_epoch((*list.ptr()).elems.add(index), epoch);
        }
    }
}

/// Waits up to `limit` for the next record or error. Returns the partition, the code and the text of an error. `None`:
/// nothing came, or a record.
pub(crate) fn poll_error<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    limit: Duration,
) -> Option<(Partition, RDKafkaErrorCode, String)> {
    let limit = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the borrow keeps the client alive. The caller of the first function owns the message: it is null-checked
    // before use, and destroyed once, after the last use. The message owns its text, which is null or ends with NUL.
    unsafe {
        let message = sys::rd_kafka_consumer_poll(consumer.client().native_ptr(), limit);
        if message.is_null() {
            return None;
        }
        let (partition, code) = (Partition((*message).partition), (*message).err);
        let text = sys::rd_kafka_message_errstr(message);
        let text = if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() };
        sys::rd_kafka_message_destroy(message);
        (code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| (partition, code.into(), text))
    }
}
