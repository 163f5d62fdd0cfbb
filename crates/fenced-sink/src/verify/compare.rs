//! A chunk of records beside the tables: a statement for the letters, one for the rows, and a judgement on each record.

use sqlx::PgConnection;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::event::Event;
use crate::model::batch::Entry;
use crate::model::event::{Lookup, Parsed};
use crate::model::record::{Offset, Partition, Position};
use crate::postgres::dead_letters::stored::{Range, StoredLetter, among};
use crate::postgres::ledger::Ledger;
use crate::postgres::ledger::snapshot::CountedRow;
use crate::postgres::session::within;
use crate::verify::extra::Pages;
use crate::verify::ids::Ids;
use crate::verify::judge::{LetterSide, RecordCheck, RecordSide, RedrivenRow, judge};
use crate::verify::tally::Tally;
use crate::verify::{Finding, FindingKind};

/// Events that are looked for by one statement.
const AT_ONCE: usize = 1024;

/// Compares chunk after chunk, and remembers what is told at the end.
pub(super) struct Comparer<'a> {
    ledger: &'a Ledger,
    counted: &'a BTreeMap<Partition, CountedRow>,
    limit: Duration,
    tallies: BTreeMap<Partition, Tally>,
    explained: Ids,
    extra: bool,
    records: u64,
}

impl<'a> Comparer<'a> {
    /// Nothing is compared yet. `extra`: whether to remember which rows are explained.
    pub(super) fn new(
        ledger: &'a Ledger,
        counted: &'a BTreeMap<Partition, CountedRow>,
        limit: Duration,
        extra: bool,
    ) -> Self {
        let (tallies, explained) = (BTreeMap::new(), Ids::default());
        Self { ledger, counted, limit, tallies, explained, extra, records: 0 }
    }

    /// Finds what is wrong with the records of a chunk.
    pub(super) async fn compare<E: Event>(
        &mut self,
        snapshot: &mut PgConnection,
        entries: &[Entry<E>],
    ) -> sqlx::Result<Vec<Finding>> {
        let letters = within(self.limit, among(snapshot, self.ledger, &ranges(entries))).await?;
        let letters = by_place(letters);
        let cases: Vec<Case<'_, E>> = entries.iter().map(|entry| Case::of(entry, &letters)).collect();
        let own: Vec<&E> = cases.iter().filter_map(|case| case.own).collect();
        let corrected: Vec<&E> = cases.iter().filter_map(|case| case.corrected.as_ref()).collect();
        let mut own = self.find(snapshot, &own).await?.into_iter();
        let mut corrected = self.find(snapshot, &corrected).await?.into_iter();
        let mut findings = Vec::new();
        for case in &cases {
            let own = case.own.and_then(|_| own.next());
            let corrected = case.corrected.as_ref().and_then(|_| corrected.next());
            let judged = judge(case.own(own), case.letter(own, corrected));
            findings.extend(self.take_note(case, judged));
        }
        Ok(findings)
    }

    /// Some at a time: a statement that takes too long would end the snapshot, and each may have to read a disk.
    async fn find<E: Event>(&self, snapshot: &mut PgConnection, events: &[&E]) -> sqlx::Result<Vec<Lookup>> {
        let mut all = Vec::with_capacity(events.len());
        for events in events.chunks(AT_ONCE) {
            let found = within(self.limit, E::find(snapshot, events)).await?;
            if found.len() != events.len() {
                let text = format!("find told {} rows of {} events", found.len(), events.len());
                return Err(sqlx::Error::Protocol(text));
            }
            all.extend(found);
        }
        Ok(all)
    }

    fn take_note<E: Event>(&mut self, case: &Case<'_, E>, judged: RecordCheck) -> Vec<Finding> {
        let (partition, offset) = (case.entry.record.partition, case.entry.record.offset);
        self.records += 1;
        let counted_from = self.counted.get(&partition).map_or(Position(0), |row| row.from);
        let is_counted = Position(offset.0) >= counted_from;
        if is_counted {
            self.tallies.entry(partition).or_default().count(judged.class);
        }
        if self.extra {
            judged.rows.into_iter().flatten().for_each(|row| self.explained.insert(row));
        }
        let finding = |(kind, mut detail): (FindingKind, String)| {
            if !is_counted {
                detail.push_str("; it is from before the totals began, and may never have been handled");
            }
            let key = case.corrected.as_ref().or(case.own).map(|event| event.key().to_owned());
            Finding { kind, partition: Some(partition), offset: Some(offset), key, detail }
        };
        judged.findings.into_iter().map(finding).collect()
    }

    /// What is wrong with the totals of these partitions, all of whose records were compared.
    pub(super) fn totals(&self, partitions: &BTreeSet<Partition>) -> Vec<Finding> {
        let differs = |partition: &Partition| {
            let tally = self.tallies.get(partition).copied().unwrap_or_default();
            let detail = tally.differs(self.counted.get(partition)?.totals)?;
            Some(Finding { kind: FindingKind::Total, partition: Some(*partition), offset: None, key: None, detail })
        };
        partitions.iter().filter_map(differs).collect()
    }

    /// Whether there are rows that no record so far explains.
    pub(super) async fn leaves_rows<E: Event>(&self, snapshot: &mut PgConnection) -> sqlx::Result<bool> {
        let mut pages = Pages::<E>::new(self.limit);
        while let Some(unexplained) = pages.next(snapshot, &self.explained).await? {
            if !unexplained.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The rows that a record explains, if they were to be remembered.
    pub(super) fn explained(&self) -> &Ids {
        &self.explained
    }

    /// Records compared so far.
    pub(super) fn records(&self) -> u64 {
        self.records
    }
}

/// A record, what it is, and its dead letter.
struct Case<'a, E> {
    entry: &'a Entry<E>,
    /// The event that it is.
    own: Option<&'a E>,
    letter: Option<&'a StoredLetter>,
    /// The event that its letter was corrected to, if that is to have become a row.
    corrected: Option<E>,
}

impl<'a, E: Event> Case<'a, E> {
    fn of(entry: &'a Entry<E>, letters: &'a BTreeMap<(Partition, Offset), Vec<StoredLetter>>) -> Self {
        let own = if let Ok(Parsed::Event(event)) = &entry.parsed { Some(event) } else { None };
        let there = letters.get(&(entry.record.partition, entry.record.offset));
        let letter = there.and_then(|letters| letters.iter().find(|letter| letter.is_of(&entry.record)));
        let redriven = letter.filter(|letter| letter.resolved).and_then(StoredLetter::corrected);
        let corrected = redriven.and_then(|record| match E::parse(&record) {
            Ok(Parsed::Event(event)) => Some(event),
            Ok(Parsed::Ignored { .. }) | Err(_) => None,
        });
        Self { entry, own, letter, corrected }
    }

    fn own(&self, found: Option<Lookup>) -> RecordSide {
        match (&self.entry.parsed, found) {
            (Err(refusal), _) => RecordSide::Refused(refusal.reason),
            (Ok(Parsed::Ignored { .. }), _) => RecordSide::Ignored,
            (Ok(Parsed::Event(_)), found) => RecordSide::Event(found.unwrap_or(Lookup::Missing)),
        }
    }

    fn letter(&self, own: Option<Lookup>, corrected: Option<Lookup>) -> Option<LetterSide> {
        let letter = self.letter?;
        let row = match (letter.resolved, letter.is_corrected) {
            (false, _) => RedrivenRow::Not,
            (true, true) => corrected.map_or(RedrivenRow::NoEvent, RedrivenRow::Found),
            (true, false) => own.map_or(RedrivenRow::NoEvent, RedrivenRow::Found),
        };
        Some(LetterSide { differs: letter.differs(&self.entry.record), row })
    }
}

/// The first and last offset of each partition's records.
fn ranges<E>(entries: &[Entry<E>]) -> Vec<Range> {
    let mut ranges: BTreeMap<Partition, (Offset, Offset)> = BTreeMap::new();
    for Entry { record, .. } in entries {
        let (first, last) = ranges.entry(record.partition).or_insert((record.offset, record.offset));
        (*first, *last) = (record.offset.min(*first), record.offset.max(*last));
    }
    ranges.into_iter().map(|(partition, (first, last))| (partition, first, last)).collect()
}

fn by_place(letters: Vec<StoredLetter>) -> BTreeMap<(Partition, Offset), Vec<StoredLetter>> {
    let mut by_place: BTreeMap<(Partition, Offset), Vec<StoredLetter>> = BTreeMap::new();
    for letter in letters {
        by_place.entry((letter.partition, letter.offset)).or_default().push(letter);
    }
    by_place
}
