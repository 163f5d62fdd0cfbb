//! A record's timestamp in the columns `record_timestamp_ms` and `timestamp_type`.

use crate::model::record::{Timestamp, TimestampType};

/// The milliseconds; `None` if the record has no timestamp.
pub(super) fn to_millis(timestamp: Timestamp) -> Option<i64> {
    (timestamp.kind != TimestampType::None).then_some(timestamp.millis)
}

/// The name of the type; `None` if the record has no timestamp.
pub(super) fn to_text(kind: TimestampType) -> Option<&'static str> {
    match kind {
        TimestampType::None => None,
        TimestampType::CreateTime => Some("create_time"),
        TimestampType::LogAppendTime => Some("log_append_time"),
    }
}

/// The timestamp in the two columns.
pub(super) fn from_columns(millis: Option<i64>, kind: Option<&str>) -> Timestamp {
    let kind = match kind {
        Some("create_time") => TimestampType::CreateTime,
        Some("log_append_time") => TimestampType::LogAppendTime,
        _ => TimestampType::None,
    };
    Timestamp { millis: millis.unwrap_or(-1), kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_read_back_from_its_columns() {
        for kind in [TimestampType::CreateTime, TimestampType::LogAppendTime] {
            let timestamp = Timestamp { millis: 5, kind };
            assert_eq!(from_columns(to_millis(timestamp), to_text(kind)), timestamp);
        }
        let none = Timestamp { millis: -1, kind: TimestampType::None };
        assert_eq!((to_millis(none), to_text(none.kind)), (None, None));
        assert_eq!(from_columns(None, None), none);
    }
}
