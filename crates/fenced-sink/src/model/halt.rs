//! Why a partition is halted: the words of `consumer_offsets.halt_reason`. Pure.
//!
//! The engine writes seven reasons. The row can hold another text, if an operator or a newer version wrote it. The engine
//! keeps that text and shows it.

use std::fmt;

use crate::model::topic_log::GapReason;

/// Why a partition is halted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HaltReason {
    /// The next records were deleted before they were read.
    RetentionGap,
    /// The partition log ends before the position.
    LogTruncated,
    /// The partition log is not the one that was read before.
    LogReplaced,
    /// The next records are damaged.
    LogCorrupt,
    /// The next batch does not fit into `receive.message.max.bytes`.
    BatchTooLarge,
    /// As many records in a row became dead letters as the limit allows.
    TooManyDeadLetters,
    /// The partition has no stored position, and [`StartPolicy::Fail`](crate::StartPolicy::Fail) forbids to choose one.
    NoStartPosition,
    /// A text that this version does not know.
    Other(String),
}

impl HaltReason {
    /// The reasons that the engine writes.
    pub const ALL: [Self; 7] = [
        Self::RetentionGap,
        Self::LogTruncated,
        Self::LogReplaced,
        Self::LogCorrupt,
        Self::BatchTooLarge,
        Self::TooManyDeadLetters,
        Self::NoStartPosition,
    ];

    /// The text in `consumer_offsets.halt_reason`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::RetentionGap => GapReason::RetentionGap.as_str(),
            Self::LogTruncated => GapReason::LogTruncated.as_str(),
            Self::LogReplaced => GapReason::LogReplaced.as_str(),
            Self::LogCorrupt => GapReason::LogCorrupt.as_str(),
            Self::BatchTooLarge => GapReason::BatchTooLarge.as_str(),
            Self::TooManyDeadLetters => "too_many_dead_letters",
            Self::NoStartPosition => "no_start_position",
            Self::Other(text) => text,
        }
    }

    /// The reason with this text.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let known = Self::ALL.into_iter().find(|reason| reason.as_str() == text);
        known.unwrap_or_else(|| Self::Other(text.to_owned()))
    }
}

impl From<GapReason> for HaltReason {
    fn from(reason: GapReason) -> Self {
        match reason {
            GapReason::RetentionGap => Self::RetentionGap,
            GapReason::LogTruncated => Self::LogTruncated,
            GapReason::LogReplaced => Self::LogReplaced,
            GapReason::LogCorrupt => Self::LogCorrupt,
            GapReason::BatchTooLarge => Self::BatchTooLarge,
        }
    }
}

impl fmt::Display for HaltReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_parsed_from_its_text_and_an_unknown_text_is_kept() {
        for reason in HaltReason::ALL {
            assert_eq!(HaltReason::parse(reason.as_str()), reason);
        }
        let unknown = HaltReason::parse("paused_by_an_operator");
        assert_eq!(
            (unknown.as_str(), unknown.clone()),
            ("paused_by_an_operator", HaltReason::Other(unknown.to_string()))
        );
    }

    #[test]
    fn each_gap_halts_its_partition_under_the_same_text() {
        for reason in GapReason::ALL {
            assert_eq!(HaltReason::from(reason).as_str(), reason.as_str());
        }
    }
}
