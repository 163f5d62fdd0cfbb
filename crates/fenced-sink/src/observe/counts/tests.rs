use super::*;

use crate::model::batch::{Arrival, BatchLimits, ClaimedBatch, Entry, Queue};
use crate::model::event::{Parsed, Reason, Refusal};
use crate::model::outcome::{BatchOutcome, DeadLetterCause, RecordOutcome, Totals};
use crate::model::protocol::Generation;
use crate::model::record::{Epoch, Offset, Partition, Position, Record, Timestamp, TimestampType};
use crate::observe::counts::Counts;

const NOW: i64 = 1_800_000_000_000;

fn batch(millis: &[i64]) -> ClaimedBatch<()> {
    let mut queue = Queue::new(Partition(0));
    for (millis, offset) in millis.iter().zip(0..) {
        let timestamp = Timestamp { millis: *millis, kind: TimestampType::CreateTime };
        let (partition, offset) = (Partition(0), Offset(offset));
        let record =
            Record { partition, offset, timestamp, key: None, value: None, headers: Vec::new(), leader_epoch: None };
        let entry = Entry { record, parsed: Ok(Parsed::Event(())) };
        queue.push(Generation::default(), Arrival::Record(entry));
    }
    queue.push(Generation::default(), Arrival::Reached(Position(1_000)));
    let limits = BatchLimits { records: 1_000, bytes: usize::MAX };
    let batch = queue.take(Position(0), limits).unwrap();
    ClaimedBatch { batch, epoch: Epoch(1), bulk_failure: None, bisect: false, known: None }
}

fn written(counts: &mut Counts, work: &[ClaimedBatch<()>], handled: &[BatchOutcome]) {
    let now = UNIX_EPOCH + Duration::from_millis(u64::try_from(NOW).unwrap());
    counts.written(work, handled, Duration::from_millis(3), now);
}

#[test]
fn a_committed_batch_is_counted_and_a_fenced_one_is_not() {
    let refusal = Refusal { reason: Reason::NotJson, field: None, detail: String::new() };
    let letter = || RecordOutcome::DeadLettered(DeadLetterCause::from(refusal.clone()));
    let work = [batch(&[NOW; 3]), batch(&[NOW; 2]), batch(&[NOW]), batch(&[])];
    let handled = [
        BatchOutcome::Committed(vec![RecordOutcome::Stored(None), RecordOutcome::Duplicate, letter()]),
        BatchOutcome::Halted(vec![RecordOutcome::Ignored, letter()]),
        BatchOutcome::Fenced,
        BatchOutcome::Committed(Vec::new()),
    ];
    let mut counts = Counts::default();
    written(&mut counts, &work, &handled);
    assert_eq!(counts.records, Totals { stored: 1, duplicates: 1, ignored: 1, dead_lettered: 2 });
    assert_eq!((counts.batch_records.count(), counts.batch_records.sum()), (2, 5.0));
    assert_eq!((counts.commit_seconds.count(), counts.commit_seconds.sum()), (1, 0.003));
    assert_eq!((counts.end_to_end_seconds.count(), counts.commits_fenced), (5, 1));
    written(&mut counts, &work[..1], &[BatchOutcome::Fenced]);
    assert_eq!((counts.commit_seconds.count(), counts.commits_fenced), (1, 2), "nothing was committed");
}

#[test]
fn only_a_plausible_age_is_counted() {
    use TimestampType::{CreateTime, LogAppendTime, None as NoTimestamp};
    let check = |millis, kind, expected: Option<u64>| {
        let found = age(Timestamp { millis, kind }, NOW).map(|age| age.as_millis());
        assert_eq!(found, expected.map(u128::from), "{millis} {kind:?}");
    };
    check(NOW - 250, CreateTime, Some(250));
    check(NOW - 250, LogAppendTime, Some(250));
    check(NOW - 250, NoTimestamp, None);
    check(NOW + 60_000, CreateTime, Some(0));
    check(NOW + 60_001, CreateTime, None);
    check(FIRST_MILLIS, CreateTime, Some((NOW - FIRST_MILLIS).unsigned_abs()));
    for millis in [FIRST_MILLIS - 1, 0, -1, i64::MIN, i64::MAX] {
        check(millis, CreateTime, None);
    }
}

#[test]
fn a_retry_is_counted_under_a_reason_that_started_at_0() {
    let mut counts = Counts::default();
    let mut check = |class: ErrorClass, expected: &str| {
        let before = counts.retries.clone();
        counts.retried(class);
        assert_eq!(counts.retries.len(), RETRIES.len(), "{class:?} is counted under an unknown reason");
        assert_eq!(counts.retries[expected], before[expected] + 1, "{class:?}");
    };
    check(ErrorClass::Retry(RetryCause::Connection), "connection");
    check(ErrorClass::TooSlow, "too_slow");
    check(ErrorClass::NewConnection, "new_connection");
    check(ErrorClass::Retry(RetryCause::Timeout), "timeout");
    check(ErrorClass::Operator, "refused");
    check(ErrorClass::Unknown, "unclassified");
}
