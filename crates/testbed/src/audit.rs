//! Checks exactly once in the tables: no record is missing, none is stored twice, and each is counted once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sqlx::{Connection as _, PgConnection};

use crate::topic::Topic;
use crate::wait::eventually;

/// The number of records with each outcome, as the tables count them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub stored: i64,
    pub duplicates: i64,
    pub ignored: i64,
    pub dead_lettered: i64,
}

impl Totals {
    pub fn sum(self) -> i64 {
        self.stored + self.duplicates + self.ignored + self.dead_lettered
    }
}

impl std::iter::Sum for Totals {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self {
            stored: a.stored + b.stored,
            duplicates: a.duplicates + b.duplicates,
            ignored: a.ignored + b.ignored,
            dead_lettered: a.dead_lettered + b.dead_lettered,
        })
    }
}

/// One row of `consumer_offsets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub next_offset: i64,
    pub counted_from: i64,
    pub epoch: i64,
    pub halt_reason: Option<String>,
    pub totals: Totals,
}

/// The topic, group and database that are checked.
pub struct Audit<'a> {
    pub topic: &'a Topic,
    pub group: &'a str,
    pub database: &'a str,
}

/// What the tables must contain at the end.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// By partition. The sum over all partitions follows from them.
    pub totals: BTreeMap<i32, Totals>,
    /// Each of these has exactly one row, and there are no other rows.
    pub booking_ids: BTreeSet<String>,
}

impl Expected {
    /// Adds the records of another value.
    pub fn extend(&mut self, more: Self) {
        self.booking_ids.extend(more.booking_ids);
        for (partition, totals) in more.totals {
            let known = self.totals.entry(partition).or_default();
            *known = [*known, totals].into_iter().sum();
        }
    }
}

impl Audit<'_> {
    /// Waits until the positions are at the ends of the log.
    pub async fn wait_until_read(&self, limit: Duration) {
        let ends = self.topic.ends();
        eventually(
            limit,
            |positions: &BTreeMap<i32, i64>| *positions == ends,
            async || self.rows().await.into_iter().map(|(partition, row)| (partition, row.next_offset)).collect(),
        )
        .await;
    }

    /// Fails unless the tables have exactly this content, after the topic log was read to its end.
    pub async fn assert_exact(&self, expected: &Expected) {
        let rows = self.rows().await;
        let positions: BTreeMap<_, _> = rows.iter().map(|(partition, row)| (*partition, row.next_offset)).collect();
        assert_eq!(positions, self.topic.ends(), "positions and the ends of the log");
        let totals: BTreeMap<_, _> = rows.iter().map(|(partition, row)| (*partition, row.totals)).collect();
        assert_eq!(totals, expected.totals, "outcomes of the records, by partition");

        let mut database = self.connect().await;
        let stored: Vec<(String,)> =
            sqlx::query_as("select booking_id from booking_history").fetch_all(&mut database).await.unwrap();
        let rows = stored.len();
        let stored: BTreeSet<_> = stored.into_iter().map(|(id,)| id).collect();
        assert_eq!(rows, stored.len(), "a booking is stored twice");
        let missing: Vec<_> = expected.booking_ids.difference(&stored).take(10).collect();
        let extra: Vec<_> = stored.difference(&expected.booking_ids).take(10).collect();
        assert!(missing.is_empty() && extra.is_empty(), "bookings missing: {missing:?}, not expected: {extra:?}");

        let (letters,): (i64,) = sqlx::query_as("select count(*) from dead_letters where group_id = $1 and topic = $2")
            .bind(self.group)
            .bind(&self.topic.name)
            .fetch_one(&mut database)
            .await
            .unwrap();
        let all: Totals = expected.totals.values().copied().sum();
        assert_eq!(letters, all.dead_lettered, "dead letters");
    }

    /// The rows of `consumer_offsets`, by partition.
    pub async fn rows(&self) -> BTreeMap<i32, Row> {
        type Columns = (i32, i64, i64, i64, Option<String>, i64, i64, i64, i64);
        let rows: Vec<Columns> = sqlx::query_as(
            "select partition, next_offset, counted_from, epoch, halt_reason, \
             stored, duplicates, ignored, dead_lettered \
             from consumer_offsets where group_id = $1 and topic = $2",
        )
        .bind(self.group)
        .bind(&self.topic.name)
        .fetch_all(&mut self.connect().await)
        .await
        .unwrap();
        let row = |columns: Columns| {
            let (partition, next_offset, counted_from, epoch, halt_reason, stored, duplicates, ignored, dead_lettered) =
                columns;
            let totals = Totals { stored, duplicates, ignored, dead_lettered };
            (partition, Row { next_offset, counted_from, epoch, halt_reason, totals })
        };
        rows.into_iter().map(row).collect()
    }

    /// The recorded gaps, in the order in which they were found: partition, from, to, reason, and whether an operator
    /// has acknowledged the gap.
    pub async fn gaps(&self) -> Vec<(i32, i64, i64, String, bool)> {
        sqlx::query_as(
            "select partition, from_offset, to_offset, reason, acknowledged_at is not null from offset_gaps
             where group_id = $1 and topic = $2 order by id",
        )
        .bind(self.group)
        .bind(&self.topic.name)
        .fetch_all(&mut self.connect().await)
        .await
        .unwrap()
    }

    /// The topic ids in the rows.
    pub async fn topic_ids(&self) -> Vec<Option<String>> {
        let ids: Vec<(Option<String>,)> =
            sqlx::query_as("select topic_id from consumer_offsets where group_id = $1 and topic = $2")
                .bind(self.group)
                .bind(&self.topic.name)
                .fetch_all(&mut self.connect().await)
                .await
                .unwrap();
        ids.into_iter().map(|(id,)| id).collect()
    }

    /// Waits until a partition is halted, and returns the reason.
    pub async fn wait_until_halted(&self, partition: i32, limit: Duration) -> String {
        let reason = async || self.rows().await.get(&partition).and_then(|row| row.halt_reason.clone());
        eventually(limit, Option::is_some, reason).await.unwrap()
    }

    /// The ids of all bookings, sorted. An id occurs once for each of its rows.
    pub async fn booking_ids(&self) -> Vec<String> {
        let rows: Vec<(String,)> = sqlx::query_as("select booking_id from booking_history")
            .fetch_all(&mut self.connect().await)
            .await
            .unwrap();
        let mut ids: Vec<String> = rows.into_iter().map(|(id,)| id).collect();
        ids.sort();
        ids
    }

    async fn connect(&self) -> PgConnection {
        PgConnection::connect(self.database).await.unwrap()
    }
}
