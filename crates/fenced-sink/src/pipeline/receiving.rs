//! What the consumer receives of all partitions, and whether a partition that receives nothing has stalled. Pure.
//!
//! While many partitions are far behind, a response has room for a few of them, and the others wait for their turn. On
//! a slow connection one response takes long. A quota of Kafka delays responses. None of these is a stall.

use std::time::{Duration, Instant};

/// After a part of a large response has arrived, nothing counts as stalled for this time. It is longer than two
/// intervals of the statistics, which come every 5 s.
const RESPONSE_LASTS: Duration = Duration::from_secs(12);
/// A partition has stalled after this many times the longest wait for a turn. librdkafka serves the partitions in
/// turns, so all of them wait about equally long.
const TURNS: u32 = 3;
/// A shorter delay by a quota explains no wait.
const SHORT_DELAY: Duration = Duration::from_secs(1);
/// A quota explains a wait of this many of its delays: several responses may be delayed before a partition has its turn.
const DELAYS: u32 = 10;

/// What arrived last, and how long partitions wait for their turn.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Receiving {
    /// When a record or a position arrived, of any partition.
    arrived_at: Option<Instant>,
    /// When a part of a response arrived that is not complete.
    response_at: Option<Instant>,
    /// Until when Kafka throttles this client, and by how much it delays a response.
    throttled: Option<(Instant, Duration)>,
    /// The longest wait for a turn that ended, and when it ended.
    turn: Option<(Duration, Instant)>,
}

/// The meaning of a record that the log has and the consumer does not receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stall {
    /// Nothing yet.
    None,
    /// The fetch of this partition has stalled. Others receive records.
    Alone,
    /// The consumer receives nothing at all.
    Consumer,
}

impl Receiving {
    /// A record or a position arrived. `waited`: how long its partition had to wait, although the log had a record.
    pub(super) fn arrived(&mut self, now: Instant, waited: Option<Duration>) {
        self.arrived_at = Some(now);
        if let Some(waited) = waited
            && waited >= self.turn(now)
        {
            self.turn = Some((waited, now));
        }
    }

    /// A part of a response arrived.
    pub(super) fn response_arrives(&mut self, now: Instant) {
        self.response_at = Some(now);
    }

    /// Kafka throttles this client for this time. True: it did not throttle the client before.
    pub(super) fn throttled(&mut self, now: Instant, time: Duration) -> bool {
        if time < SHORT_DELAY {
            return false;
        }
        let begins = !self.is_throttled(now);
        // Until the next statistics, if Kafka throttles this client again.
        self.throttled = now.checked_add(time.max(RESPONSE_LASTS)).map(|until| (until, time));
        begins
    }

    /// Whether Kafka throttles this client.
    pub(super) fn is_throttled(&self, now: Instant) -> bool {
        self.throttled.is_some_and(|(until, _)| now < until)
    }

    /// Whether a partition that has waited for this time has stalled. A wait shorter than `idle_time` is no stall.
    pub(super) fn stall(&self, now: Instant, waited: Duration, idle_time: Duration) -> Stall {
        let within = |at: Option<Instant>, limit| at.is_some_and(|at| now.saturating_duration_since(at) < limit);
        let delay = self.throttled.filter(|_| self.is_throttled(now)).map_or(Duration::ZERO, |(_, delay)| delay);
        if waited < idle_time + delay.saturating_mul(DELAYS) || within(self.response_at, RESPONSE_LASTS) {
            return Stall::None;
        }
        if within(self.arrived_at, idle_time) {
            return if waited >= self.turn(now).saturating_mul(TURNS) { Stall::Alone } else { Stall::None };
        }
        Stall::Consumer
    }

    /// The longest wait for a turn. After several times its length without another wait as long, it no longer counts:
    /// the catch-up has ended.
    fn turn(&self, now: Instant) -> Duration {
        let lasting =
            self.turn.filter(|(waited, ended)| now.saturating_duration_since(*ended) <= *waited * (TURNS + 1));
        lasting.map_or(Duration::ZERO, |(waited, _)| waited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(20);

    /// A catch-up of many partitions from one broker, fetched as librdkafka does it: each fetch has room for some
    /// partitions, and the next one begins one partition later. Some partitions receive nothing. Returns the first
    /// partition that counts as stalled.
    fn catch_up(partitions: u64, room: u64, fetch: Duration, stalled: &[u64]) -> Option<(u64, Stall)> {
        let start = Instant::now();
        let (mut receiving, mut waits) = (Receiving::default(), Vec::new());
        waits.resize(usize::try_from(partitions).unwrap(), start);
        let mut now = start;
        for first in 0..partitions * 5 {
            now += fetch;
            // A fetch that takes longer than two statistics is seen while it arrives.
            if fetch > Duration::from_secs(10) {
                receiving.response_arrives(now);
            }
            let served = (first..).map(|number| number % partitions).filter(|number| !stalled.contains(number));
            for number in served.take(usize::try_from(room).unwrap()) {
                let since = waits.get_mut(usize::try_from(number).unwrap()).unwrap();
                receiving.arrived(now, Some(now.duration_since(*since)));
                *since = now;
            }
            for (number, since) in (0..).zip(&waits) {
                let stall = receiving.stall(now, now.duration_since(*since), IDLE);
                if stall != Stall::None {
                    return Some((number, stall));
                }
            }
        }
        None
    }

    #[test]
    fn a_catch_up_is_no_stall_however_slow_or_wide_it_is() {
        for partitions in [1, 2, 5, 16, 64, 150] {
            for room in [1, 2, 8] {
                for milliseconds in [100, 1_000, 4_000, 9_000, 60_000] {
                    let found = catch_up(partitions, room.min(partitions), Duration::from_millis(milliseconds), &[]);
                    assert_eq!(found, None, "{partitions} {room} {milliseconds}");
                }
            }
        }
    }

    #[test]
    fn a_partition_that_receives_nothing_is_found_although_others_wait_for_their_turn() {
        for (partitions, stalled) in [(2, vec![1]), (16, vec![3]), (64, vec![7, 8, 9, 40])] {
            let found = catch_up(partitions, 2, Duration::from_secs(2), &stalled);
            assert_eq!(found, Some((*stalled.first().unwrap(), Stall::Alone)), "{partitions}");
        }
    }

    #[test]
    fn the_consumer_stalls_if_nothing_arrives_and_nothing_explains_it() {
        let (start, mut receiving) = (Instant::now(), Receiving::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(receiving.stall(at(0), IDLE, IDLE), Stall::Consumer);
        assert_eq!(receiving.stall(at(0), IDLE / 2, IDLE), Stall::None);
        receiving.response_arrives(at(0));
        assert_eq!(receiving.stall(at(11), IDLE, IDLE), Stall::None, "a response arrives");
        assert_eq!(receiving.stall(at(12), IDLE, IDLE), Stall::Consumer);
        receiving.arrived(at(12), Some(Duration::from_secs(30)));
        assert_eq!(receiving.stall(at(31), IDLE, IDLE), Stall::None, "others waited as long");
        assert_eq!(receiving.stall(at(32), IDLE, IDLE), Stall::Consumer, "nothing arrived for the idle time");
        receiving.arrived(at(200), None);
        assert_eq!(receiving.stall(at(200), IDLE, IDLE), Stall::Alone, "the catch-up has ended");
        assert!(receiving.throttled(at(200), Duration::from_secs(25)));
        assert!(!receiving.throttled(at(205), Duration::from_secs(25)), "it is throttled already");
        assert_eq!(receiving.stall(at(229), IDLE, IDLE), Stall::None, "a quota delays the responses");
        assert_eq!(receiving.stall(at(230), IDLE, IDLE), Stall::Consumer);
    }

    #[test]
    fn a_quota_explains_only_waits_of_several_of_its_delays() {
        let (now, mut receiving) = (Instant::now(), Receiving::default());
        let stall = |receiving: &Receiving, seconds| receiving.stall(now, Duration::from_secs(seconds), IDLE);
        assert!(!receiving.throttled(now, Duration::from_millis(1)), "too short to matter");
        assert_eq!((receiving.is_throttled(now), stall(&receiving, 20)), (false, Stall::Consumer));
        assert!(receiving.throttled(now, Duration::from_secs(2)));
        assert_eq!((stall(&receiving, 39), stall(&receiving, 40)), (Stall::None, Stall::Consumer));
    }
}
