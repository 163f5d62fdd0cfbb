//! What Kafka refuses: since when, why, and what to do. Pure: time is an argument.
//!
//! The end of the run and the reasons of readiness come from here. The invariant: a refusal lasts until an answer
//! of Kafka proves its end. librdkafka reports most refusals once, and then repeats its request without a report.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

/// What this process needs from Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KafkaNeed {
    /// A connection: TLS and authentication.
    Connection,
    /// The topic exists.
    TopicExists,
    /// The permission to see and to read the topic.
    ReadTopic,
    /// The permission to join the consumer group.
    JoinGroup,
}

/// What Kafka refuses, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaRefusal {
    /// What is refused.
    pub need: KafkaNeed,
    /// The error of Kafka or of its client.
    pub error: String,
    /// What to do.
    pub hint: String,
    /// How long Kafka has refused it.
    pub lasts: Duration,
}

/// What an answer of Kafka proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KafkaFact {
    /// Kafka refuses this.
    Refused(KafkaRefusal),
    /// Kafka permits this.
    Permitted(KafkaNeed),
    /// Kafka lists the operations of this user, and the one for this need is not among them. This proves a refusal only
    /// after a broker has listed the operation once: not every broker fills in the list.
    NotListed(KafkaRefusal),
}

/// Everything that Kafka refuses now.
#[derive(Debug, Default)]
pub(crate) struct KafkaRefusals {
    lasting: BTreeMap<KafkaNeed, LastingRefusal>,
    /// What Kafka has permitted since the start of the process.
    once_permitted: BTreeSet<KafkaNeed>,
}

#[derive(Debug)]
struct LastingRefusal {
    refusal: KafkaRefusal,
    since: Instant,
    /// When Kafka refused it last.
    repeated: Instant,
}

impl KafkaRefusals {
    /// Applies a fact.
    pub(crate) fn learned(&mut self, now: Instant, fact: KafkaFact) {
        match fact {
            KafkaFact::Permitted(need) => {
                self.lasting.remove(&need);
                self.once_permitted.insert(need);
            }
            KafkaFact::NotListed(refusal) if !self.once_permitted.contains(&refusal.need) => {}
            KafkaFact::Refused(refusal) | KafkaFact::NotListed(refusal) => {
                // If the topic does not exist, its permissions are unknown. If the user may not see the topic, it is unknown
                // whether the topic exists.
                match refusal.need {
                    KafkaNeed::TopicExists => drop(self.lasting.remove(&KafkaNeed::ReadTopic)),
                    KafkaNeed::ReadTopic => drop(self.lasting.remove(&KafkaNeed::TopicExists)),
                    KafkaNeed::Connection | KafkaNeed::JoinGroup => {}
                }
                let since = self.lasting.get(&refusal.need).map_or(now, |lasting| lasting.since);
                self.lasting.insert(refusal.need, LastingRefusal { refusal, since, repeated: now });
            }
        }
    }

    /// Whether Kafka refuses this.
    pub(crate) fn contains(&self, need: KafkaNeed) -> bool {
        self.lasting.contains_key(&need)
    }

    /// What Kafka refuses.
    pub(crate) fn observed(&self, now: Instant) -> Vec<KafkaRefusal> {
        self.lasting_until(|_| now).collect()
    }

    /// The refusal that has lasted longest, if the process has never had all that it needs. A missing topic is no
    /// refusal: the process waits for it without a limit.
    pub(crate) fn since_start(&self, now: Instant) -> Option<KafkaRefusal> {
        self.longest_since_start(self.lasting_until(|_| now))
    }

    /// The same, but only the time until Kafka refused it last counts: after that, Kafka may be unreachable.
    pub(crate) fn repeated_since_start(&self) -> Option<KafkaRefusal> {
        self.longest_since_start(self.lasting_until(|lasting| lasting.repeated))
    }

    fn lasting_until(&self, until: impl Fn(&LastingRefusal) -> Instant) -> impl Iterator<Item = KafkaRefusal> {
        self.lasting.values().map(move |lasting| KafkaRefusal {
            lasts: until(lasting).saturating_duration_since(lasting.since),
            ..lasting.refusal.clone()
        })
    }

    fn longest_since_start(&self, refusals: impl Iterator<Item = KafkaRefusal>) -> Option<KafkaRefusal> {
        let once = |need| self.once_permitted.contains(&need);
        // A broker that lists no operations does not prove that the topic may be read.
        let reads = once(KafkaNeed::ReadTopic) || !self.contains(KafkaNeed::ReadTopic);
        let has_worked = once(KafkaNeed::JoinGroup) && reads;
        let refusals = refusals.filter(|refusal| refusal.need != KafkaNeed::TopicExists);
        refusals.max_by_key(|refusal| refusal.lasts).filter(|_| !has_worked)
    }
}

impl fmt::Display for KafkaRefusal {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.need {
            KafkaNeed::Connection => "no connection to Kafka",
            KafkaNeed::TopicExists => "the topic does not exist",
            KafkaNeed::ReadTopic => "Kafka refuses the topic",
            KafkaNeed::JoinGroup => "Kafka refuses the consumer group",
        };
        write!(text, "{what} for {} s: {}; {}", self.lasts.as_secs(), self.error, self.hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(need: KafkaNeed) -> KafkaRefusal {
        KafkaRefusal { need, error: "denied".to_owned(), hint: "grant it".to_owned(), lasts: Duration::ZERO }
    }

    /// The needs that are refused after these facts, one in each second, and how long the oldest has lasted since the
    /// start, in seconds.
    fn after(facts: &[KafkaFact]) -> (Vec<KafkaNeed>, Option<u64>) {
        let (mut refusals, mut now) = (KafkaRefusals::default(), Instant::now());
        for fact in facts {
            refusals.learned(now, fact.clone());
            now += Duration::from_secs(1);
        }
        let needs = refusals.observed(now).into_iter().map(|refusal| refusal.need).collect();
        (needs, refusals.since_start(now).map(|refusal| refusal.lasts.as_secs()))
    }

    #[test]
    fn a_refusal_lasts_until_a_fact_about_the_same_need_ends_it() {
        use KafkaFact::{Permitted, Refused};
        use KafkaNeed::{Connection, JoinGroup, ReadTopic, TopicExists};
        let refused = |need| Refused(refusal(need));
        assert_eq!(after(&[]), (vec![], None));
        assert_eq!(
            after(&[refused(JoinGroup), Permitted(ReadTopic), Permitted(Connection)]),
            (vec![JoinGroup], Some(3))
        );
        assert_eq!(
            after(&[refused(Connection), refused(ReadTopic), Permitted(Connection)]),
            (vec![ReadTopic], Some(2))
        );
        assert_eq!(after(&[refused(Connection), Permitted(Connection), refused(Connection)]).1, Some(1));
        assert_eq!(
            after(&[refused(ReadTopic), refused(TopicExists)]),
            (vec![TopicExists], None),
            "the process waits for it"
        );
        assert_eq!(after(&[refused(TopicExists), refused(ReadTopic)]), (vec![ReadTopic], Some(1)));
        let worked = [Permitted(JoinGroup), Permitted(ReadTopic), refused(Connection)];
        assert_eq!(after(&worked), (vec![Connection], None), "it has worked before");
        assert_eq!(after(&[Permitted(JoinGroup), refused(Connection)]).1, None, "the broker may list no operations");
        assert_eq!(after(&[Permitted(JoinGroup), refused(ReadTopic)]).1, Some(1));
    }

    #[test]
    fn a_list_without_the_operation_proves_a_refusal_only_after_a_list_with_it() {
        let not_listed = || KafkaFact::NotListed(refusal(KafkaNeed::ReadTopic));
        assert_eq!(after(&[not_listed()]).0, []);
        assert_eq!(after(&[KafkaFact::Permitted(KafkaNeed::ReadTopic), not_listed()]).0, [KafkaNeed::ReadTopic]);
        assert_eq!(after(&[KafkaFact::Refused(refusal(KafkaNeed::ReadTopic)), not_listed()]).0, [KafkaNeed::ReadTopic]);
    }

    #[test]
    fn the_text_says_what_is_refused_why_and_what_to_do() {
        let text = KafkaRefusal { lasts: Duration::from_secs(7), ..refusal(KafkaNeed::JoinGroup) }.to_string();
        assert_eq!(text, "Kafka refuses the consumer group for 7 s: denied; grant it");
    }

    #[test]
    fn only_the_time_between_refusals_counts_while_kafka_may_be_unreachable() {
        let (mut refusals, start) = (KafkaRefusals::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for seconds in [0, 7] {
            refusals.learned(at(seconds), KafkaFact::Refused(refusal(KafkaNeed::Connection)));
        }
        let lasts = |refusal: Option<KafkaRefusal>| refusal.map(|refusal| refusal.lasts.as_secs());
        assert_eq!(lasts(refusals.since_start(at(60))), Some(60));
        assert_eq!(lasts(refusals.repeated_since_start()), Some(7));
    }
}
