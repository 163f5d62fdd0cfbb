//! Records arrive, letters are changed and the service is killed in any order: in the end each record is in exactly one
//! place.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use tokio::task::LocalSet;

use super::HOTELS;
use testbed::scene::Scene;
use testbed::service::Service;
use testbed::topic::Outgoing;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::booking;

const PARTITIONS: i32 = 2;
const HOTELS_TO_COME: u64 = 4;

/// Gives the same numbers for the same seed on every machine.
struct Dice(u64);

impl Dice {
    /// Less than `sides`.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        let sides = u64::try_from(all.len()).unwrap();
        (sides > 0).then(|| all.get(usize::try_from(self.roll(sides)).unwrap()).unwrap())
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Good,
    NotJson,
    /// A CHECK refuses it.
    Refused,
    /// Its hotel may be inserted later.
    Orphan,
}

#[derive(Clone, Debug)]
struct Sent {
    place: (i32, i64),
    id: String,
    kind: Kind,
}

/// Where a record ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Row,
    RowOfALetter,
    Parked,
    Discarded,
}

struct Sequence {
    scene: Scene,
    service: Service,
    dice: Dice,
    sent: Vec<Sent>,
    /// The steps so far, for the report of a failure.
    done: Vec<String>,
}

impl Sequence {
    async fn begin(seed: u64) -> Self {
        let scene = Scene::new(PARTITIONS)
            .await
            .with("DEAD_LETTER_RETRY_INITIAL", "100ms")
            .with("DEAD_LETTER_RETRY_MAX", "200ms")
            .with("DEAD_LETTER_MAX_ATTEMPTS", "1000")
            .with("BREAKER_CONSECUTIVE", "0")
            // A restart after a kill does not wait long for the dead member.
            .with("KAFKA_PROPERTIES", "session.timeout.ms=2000,heartbeat.interval.ms=400");
        scene.execute(HOTELS).await;
        scene.execute("insert into hotels values ('hotel-1')").await;
        scene.execute("alter table booking_history add check (price <> 13)").await;
        let service = scene.start();
        Self { scene, service, dice: Dice(seed), sent: Vec::new(), done: Vec::new() }
    }

    async fn step(&mut self) {
        let done = match self.dice.roll(25) {
            0..=12 => self.arrive().await,
            13..=14 => {
                let hotel = self.dice.roll(HOTELS_TO_COME);
                self.heal(hotel).await;
                format!("healed {hotel}")
            }
            15..=17 => {
                self.scene.execute("select dead_letters_requeue(array(select id from dead_letters))").await;
                "requeued all".to_owned()
            }
            18..=20 => {
                let sql = "select outcome from dead_letters, dead_letters_correct(dead_letters.id, $3) as done
                           where partition = $1 and \"offset\" = $2";
                self.change_a_letter("corrected", sql).await
            }
            21..=22 => {
                let sql = "select outcome from dead_letters,
                                dead_letters_discard(array[dead_letters.id], 'of ' || octet_length($3)) as done
                           where partition = $1 and \"offset\" = $2";
                self.change_a_letter("discarded", sql).await
            }
            _ => {
                self.service.kill9();
                self.service.start_again();
                "killed".to_owned()
            }
        };
        self.done.push(done);
    }

    async fn arrive(&mut self) -> String {
        let mut records = Vec::new();
        for n in 0..=self.dice.roll(4) {
            let id = format!("{}-{n}", self.done.len());
            let (kind, value) = match self.dice.roll(4) {
                0 => (Kind::Good, booking(&id, "1")),
                1 => (Kind::NotJson, format!("poison {id}")),
                2 => (Kind::Refused, booking(&id, "13")),
                _ => (Kind::Orphan, booking(&id, "1").replace("hotel-1", &late_hotel(self.dice.roll(HOTELS_TO_COME)))),
            };
            let partition = i32::try_from(self.dice.roll(2)).unwrap() % PARTITIONS;
            records.push((id, kind, Outgoing::to(partition, value)));
        }
        let places = self.scene.send(records.iter().map(|(.., record)| record)).await;
        let sent = records.into_iter().zip(places).map(|((id, kind, _), place)| Sent { place, id, kind });
        let before = self.sent.len();
        self.sent.extend(sent);
        format!("arrived {:?}", self.sent.get(before..).unwrap())
    }

    async fn heal(&self, hotel: u64) {
        let insert = format!("insert into hotels values ('{}') on conflict do nothing", late_hotel(hotel));
        self.scene.execute(&insert).await;
    }

    /// Waits until a record that is not good is handled, and runs `sql` on its letter, if it has one.
    async fn change_a_letter(&mut self, what: &str, sql: &'static str) -> String {
        let bad: Vec<Sent> = self.sent.iter().filter(|sent| sent.kind != Kind::Good).cloned().collect();
        let Some(Sent { place: (partition, offset), id, .. }) = self.dice.one_of(&bad) else {
            return format!("{what} nothing");
        };
        let position = async || self.scene.audit().rows().await.get(partition).map(|row| row.next_offset);
        eventually(PATIENCE, |position| *position > Some(*offset), position).await;
        let outcome: Option<String> = sqlx::query_scalar(sql)
            .bind(partition)
            .bind(offset)
            .bind(booking(id, "1").into_bytes())
            .fetch_optional(&mut self.scene.connect().await)
            .await
            .unwrap();
        format!("{what} {id}: {outcome:?}")
    }

    /// Inserts all hotels, waits until no letter waits, and returns where each record is.
    async fn end(&self) -> Vec<End> {
        for hotel in 0..HOTELS_TO_COME {
            self.heal(hotel).await;
        }
        self.scene.wait_until_read().await;
        self.scene.wait_until_lines("select count(*)::text from dead_letters where status = 'waiting'", &["0"]).await;

        let mut rows: BTreeSet<String> = self.scene.booking_ids().await.into_iter().collect();
        let found: Vec<(i32, i64, String, i64)> = sqlx::query_as(
            "select partition, \"offset\", status, (select count(*) from dead_letter_attempts
                 where dead_letter_id = dead_letters.id and outcome in ('stored', 'duplicate')) from dead_letters",
        )
        .fetch_all(&mut self.scene.connect().await)
        .await
        .unwrap();
        let mut letters: BTreeMap<(i32, i64), (&str, i64)> = BTreeMap::new();
        for (partition, offset, status, stored) in &found {
            let one = letters.insert((*partition, *offset), (status, *stored));
            assert_eq!(one, None, "{partition}/{offset} has two letters");
        }

        let mut dead_lettered: BTreeMap<i32, i64> = BTreeMap::new();
        let mut ends = Vec::new();
        for sent in &self.sent {
            let letter = letters.remove(&sent.place);
            *dead_lettered.entry(sent.place.0).or_default() += i64::from(letter.is_some());
            ends.push(match (letter, rows.remove(&sent.id), sent.kind) {
                (None, true, Kind::Good | Kind::Orphan) => End::Row,
                (Some(("resolved", 1)), true, Kind::NotJson | Kind::Refused | Kind::Orphan) => End::RowOfALetter,
                (Some(("parked", 0)), false, Kind::NotJson | Kind::Refused) => End::Parked,
                (Some(("discarded", 0)), false, Kind::NotJson | Kind::Refused | Kind::Orphan) => End::Discarded,
                (letter, row, _) => {
                    panic!("{sent:?} is not in one place: letter {letter:?}, row {row}; {:#?}", self.done)
                }
            });
        }
        assert!(rows.is_empty() && letters.is_empty(), "no record explains rows {rows:?} and letters {letters:?}");
        for (partition, row) in self.scene.audit().rows().await {
            let records = self.sent.iter().filter(|sent| sent.place.0 == partition).count();
            let letters = dead_lettered.get(&partition).copied().unwrap_or_default();
            let totals = row.totals;
            assert_eq!(totals.sum(), i64::try_from(records).unwrap(), "records of partition {partition}");
            assert_eq!((totals.dead_lettered, totals.duplicates, totals.ignored), (letters, 0, 0), "{partition}");
        }
        ends
    }
}

fn late_hotel(number: u64) -> String {
    format!("late-hotel-{number}")
}

#[tokio::test]
async fn any_sequence_ends_with_every_record_in_exactly_one_place() {
    const SEEDS: [u64; 4] = [1, 2, 3, 4];
    let sequences = LocalSet::new();
    let running = SEEDS.map(|seed| {
        let sequence = async move {
            let mut sequence = Sequence::begin(seed).await;
            for _ in 0..25 {
                sequence.step().await;
            }
            (sequence.end().await, sequence.done)
        };
        (seed, sequences.spawn_local(sequence))
    });
    sequences.await;
    let mut ends = BTreeSet::new();
    let mut kills = 0;
    for (seed, running) in running {
        let (seen, done) = running.await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        ends.extend(seen);
        kills += done.iter().filter(|done| *done == "killed").count();
    }
    assert_eq!(ends.len(), 4, "the seeds have to lead to every end: {ends:?}");
    assert!(kills >= SEEDS.len(), "{kills} kills");
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a figure for the reader of the report")]
async fn a_batch_whose_records_are_all_refused_is_handled_to_its_end() {
    let scene = Scene::new(1).await.with("BREAKER_CONSECUTIVE", "0");
    scene.execute("alter table booking_history add check (price <> 13)").await;
    scene.send_values((0..1_000).map(|n| booking(&n.to_string(), "13"))).await;
    let started = Instant::now();
    let _service = scene.start();
    // Each record has a savepoint of its own.
    scene.audit().wait_until_read(5 * PATIENCE).await;
    let took = started.elapsed();
    let lines = scene.command("offsets list --output json");
    assert!(lines[0].contains(r#""lag":0"#), "{lines:#?}");
    let letters = "select concat_ws(' ', status, attempts, sqlstate, count(*)) from dead_letters
                   group by status, attempts, sqlstate";
    assert_eq!(scene.lines(letters).await, ["parked 1 23514 1000"]);
    assert_eq!(scene.lines("select booking_id from booking_history").await, [""; 0]);
    // Each batch is one transaction: its letters have neighbouring offsets, and the last one wrote the position.
    let torn = "select xmin::text from dead_letters
                group by xmin::text having max(\"offset\") - min(\"offset\") + 1 <> count(*)";
    assert_eq!(scene.lines(torn).await, [""; 0]);
    let batches = scene.lines("select count(distinct xmin::text)::text from dead_letters").await;
    let last = "select (l.xmin = c.xmin)::text from dead_letters l, consumer_offsets c where l.\"offset\" = 999";
    assert_eq!(scene.lines(last).await, ["true"]);
    eprintln!("1000 records that a CHECK refuses: {took:?} from the start of the process, batches: {batches:?}");
}
