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
    /// Kafka refuses to show the topic.
    Hidden(KafkaRefusal),
    /// Kafka shows the topic. This does not prove the permission to read it.
    Shown,
    /// Kafka permits this.
    Permitted(KafkaNeed),
    /// Kafka lists the operations of this user, and the one for this need is among them.
    Listed(KafkaNeed),
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
    /// What a broker has listed since the start of the process.
    once_listed: BTreeSet<KafkaNeed>,
}

#[derive(Debug)]
struct LastingRefusal {
    refusal: KafkaRefusal,
    since: Instant,
    /// When Kafka refused it last.
    repeated: Instant,
    /// How long Kafka did not answer since the start of the refusal.
    unanswered: Duration,
    /// Whether the reason is that Kafka does not show the topic.
    is_hidden: bool,
}

impl KafkaRefusals {
    /// Applies a fact.
    pub(crate) fn learned(&mut self, now: Instant, fact: KafkaFact) {
        match fact {
            KafkaFact::Permitted(need) => {
                self.lasting.remove(&need);
                self.once_permitted.insert(need);
            }
            KafkaFact::Listed(need) => {
                self.once_listed.insert(need);
                self.learned(now, KafkaFact::Permitted(need));
            }
            KafkaFact::NotListed(KafkaRefusal { need, .. }) if !self.once_listed.contains(&need) => self.shown(),
            KafkaFact::Shown => self.shown(),
            KafkaFact::Refused(refusal) | KafkaFact::NotListed(refusal) => self.refused(now, refusal, false),
            KafkaFact::Hidden(refusal) => self.refused(now, refusal, true),
        }
    }

    fn shown(&mut self) {
        self.lasting.retain(|_, lasting| !lasting.is_hidden);
    }

    fn refused(&mut self, now: Instant, refusal: KafkaRefusal, is_hidden: bool) {
        // If the topic does not exist, its permissions are unknown. If the user may not see the topic, it is unknown
        // whether the topic exists.
        match refusal.need {
            KafkaNeed::TopicExists => drop(self.lasting.remove(&KafkaNeed::ReadTopic)),
            KafkaNeed::ReadTopic => drop(self.lasting.remove(&KafkaNeed::TopicExists)),
            KafkaNeed::Connection | KafkaNeed::JoinGroup => {}
        }
        let before = self.lasting.get(&refusal.need);
        let (since, unanswered) = before.map_or((now, Duration::ZERO), |before| (before.since, before.unanswered));
        let need = refusal.need;
        self.lasting.insert(need, LastingRefusal { refusal, since, repeated: now, unanswered, is_hidden });
    }

    /// Kafka answered no question between these instants. A refusal in this time is an answer, too.
    pub(crate) fn unanswered(&mut self, from: Instant, now: Instant) {
        for lasting in self.lasting.values_mut() {
            lasting.unanswered += now.saturating_duration_since(lasting.repeated.max(from));
        }
    }

    /// Whether Kafka refuses this.
    pub(crate) fn contains(&self, need: KafkaNeed) -> bool {
        self.lasting.contains_key(&need)
    }

    /// What Kafka refuses.
    pub(crate) fn observed(&self, now: Instant) -> Vec<KafkaRefusal> {
        self.lasting_for(|lasting| now.saturating_duration_since(lasting.since)).collect()
    }

    /// The refusal that has lasted longest, if the process has never had all that it needs. A missing topic is no
    /// refusal: the process waits for it without a limit. The time without an answer of Kafka does not count.
    pub(crate) fn since_start(&self, now: Instant) -> Option<KafkaRefusal> {
        let answered =
            |lasting: &LastingRefusal| now.saturating_duration_since(lasting.since).saturating_sub(lasting.unanswered);
        let refusals = self.lasting_for(answered);
        let once = |need| self.once_permitted.contains(&need);
        // A broker that lists no operations does not prove that the topic may be read.
        let reads = once(KafkaNeed::ReadTopic) || !self.contains(KafkaNeed::ReadTopic);
        let has_worked = once(KafkaNeed::JoinGroup) && reads;
        let refusals = refusals.filter(|refusal| refusal.need != KafkaNeed::TopicExists);
        refusals.max_by_key(|refusal| refusal.lasts).filter(|_| !has_worked)
    }

    fn lasting_for(&self, time: impl Fn(&LastingRefusal) -> Duration) -> impl Iterator<Item = KafkaRefusal> {
        self.lasting.values().map(move |lasting| KafkaRefusal { lasts: time(lasting), ..lasting.refusal.clone() })
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
        assert_eq!(after(&[KafkaFact::Permitted(KafkaNeed::ReadTopic), not_listed()]).0, [], "only a record was read");
        assert_eq!(after(&[KafkaFact::Listed(KafkaNeed::ReadTopic), not_listed()]).0, [KafkaNeed::ReadTopic]);
        assert_eq!(after(&[KafkaFact::Refused(refusal(KafkaNeed::ReadTopic)), not_listed()]).0, [KafkaNeed::ReadTopic]);
    }

    #[test]
    fn a_broker_that_lists_no_operations_ends_the_refusal_to_show_the_topic() {
        use KafkaFact::{Hidden, NotListed, Refused, Shown};
        let refusal = || refusal(KafkaNeed::ReadTopic);
        assert_eq!(after(&[Hidden(refusal())]), (vec![KafkaNeed::ReadTopic], Some(1)));
        assert_eq!(after(&[Hidden(refusal()), Shown]).0, []);
        assert_eq!(after(&[Refused(refusal()), Hidden(refusal()), NotListed(refusal())]).0, []);
        let shown = [Hidden(refusal()), Refused(refusal()), Shown];
        assert_eq!(after(&shown), (vec![KafkaNeed::ReadTopic], Some(3)), "the fetch was refused");
    }

    #[test]
    fn the_text_says_what_is_refused_why_and_what_to_do() {
        let text = KafkaRefusal { lasts: Duration::from_secs(7), ..refusal(KafkaNeed::JoinGroup) }.to_string();
        assert_eq!(text, "Kafka refuses the consumer group for 7 s: denied; grant it");
    }

    #[test]
    fn the_time_without_an_answer_does_not_count_at_the_start() {
        let (mut refusals, start) = (KafkaRefusals::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let lasts = |refusals: &KafkaRefusals, now| {
            let all = refusals.observed(now).into_iter().map(|refusal| refusal.lasts.as_secs()).collect::<Vec<_>>();
            (all, refusals.since_start(now).map(|refusal| refusal.lasts.as_secs()))
        };
        refusals.learned(at(0), KafkaFact::Refused(refusal(KafkaNeed::JoinGroup)));
        refusals.unanswered(at(1), at(11));
        assert_eq!(lasts(&refusals, at(12)), (vec![12], Some(2)));
        refusals.learned(at(17), KafkaFact::Refused(refusal(KafkaNeed::JoinGroup)));
        refusals.unanswered(at(12), at(20));
        assert_eq!(lasts(&refusals, at(20)), (vec![20], Some(7)), "a repeated refusal is an answer");
    }
}
