//! Finds a response of a broker that is not complete yet, by two successive statistics of librdkafka. Pure.
//!
//! librdkafka passes a response on when it is complete. On a slow connection, a response with many records takes up to
//! a minute, and until then the consumer receives nothing.

use std::collections::BTreeMap;
use std::time::Duration;

/// The last statistics.
#[derive(Debug, Default)]
pub(super) struct ResponseWatch {
    at: Duration,
    /// The number of complete responses by broker.
    complete: BTreeMap<String, u64>,
}

/// What the statistics have of one broker.
#[derive(Debug)]
pub(super) struct BrokerStatistics {
    pub(super) name: String,
    /// The number of complete responses.
    pub(super) complete: u64,
    /// The time since the last bytes. `None`: there is no connection.
    pub(super) idle: Option<Duration>,
}

impl ResponseWatch {
    /// New statistics, with the time of librdkafka's own clock. True: since the last ones, bytes arrived from a broker
    /// and completed no response.
    pub(super) fn response_arrives(&mut self, at: Duration, brokers: Vec<BrokerStatistics>) -> bool {
        let passed = at.saturating_sub(self.at);
        let arrives = |broker: &BrokerStatistics| {
            self.complete.get(&broker.name) == Some(&broker.complete) && broker.idle.is_some_and(|idle| idle < passed)
        };
        let any = brokers.iter().any(arrives);
        *self = Self { at, complete: brokers.into_iter().map(|broker| (broker.name, broker.complete)).collect() };
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_complete_no_response_are_a_part_of_one() {
        let (mut watch, mut seconds) = (ResponseWatch::default(), 0);
        let mut check = |complete, idle: Option<u64>, expected, why: &str| {
            seconds += 5;
            let idle = idle.map(Duration::from_secs);
            let brokers = vec![BrokerStatistics { name: "one".to_owned(), complete, idle }];
            assert_eq!(watch.response_arrives(Duration::from_secs(seconds), brokers), expected, "{why}");
        };
        check(7, Some(1), false, "nothing is known of the time before");
        check(7, Some(1), true, "bytes and no response");
        check(7, Some(6), false, "no bytes");
        check(7, None, false, "no connection");
        check(9, Some(1), false, "small responses, as of a consumer whose fetch stalls");
        check(9, Some(4), true, "again a part");
    }
}
