//! Compares records with the tables, one chunk at a time: a statement finds the letters, others find the rows.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::Event;
use crate::model::batch::Entry;
use crate::model::event::{Lookup, Parsed};
use crate::model::record::{Offset, Partition, Position};
use crate::postgres::dead_letters::stored::{OffsetRange, StoredLetter, read_letters};
use crate::postgres::ledger::Ledger;
use crate::postgres::ledger::snapshot::CountedRow;
use crate::postgres::session::Transaction;
use crate::verify::extra::RowPages;
use crate::verify::record_check::{LetterLookup, RecordCheck, RecordLookup, RedrivenRow, check_record};
use crate::verify::report::{Finding, FindingKind};
use crate::verify::row_ids::RowIds;
use crate::verify::tally::Tally;

/// The number of events that one statement looks up.
const EVENTS_PER_STATEMENT: usize = 1024;

/// Compares one chunk after the other, and counts the compared records.
pub(super) struct Comparer<'a> {
    ledger: &'a Ledger,
    counted: &'a BTreeMap<Partition, CountedRow>,
    tallies: BTreeMap<Partition, Tally>,
    explained: RowIds,
    remembers_rows: bool,
    records: u64,
}

impl<'a> Comparer<'a> {
    /// `remembers_rows`: whether to store which rows the records explain.
    pub(super) fn new(ledger: &'a Ledger, counted: &'a BTreeMap<Partition, CountedRow>, remembers_rows: bool) -> Self {
        let (tallies, explained) = (BTreeMap::new(), RowIds::default());
        Self { ledger, counted, tallies, explained, remembers_rows, records: 0 }
    }

    /// Compares the records of a chunk.
    pub(super) async fn compare<E: Event>(
        &mut self,
        snapshot: &mut Transaction<'_>,
        entries: &[Entry<E>],
    ) -> sqlx::Result<Vec<Finding>> {
        let (ledger, ranges) = (self.ledger, ranges(entries));
        let letters = snapshot.run(|connection| read_letters(connection, ledger, &ranges)).await?;
        let letters = by_record(letters);
        let cases: Vec<RecordWithLetter<'_, E>> =
            entries.iter().map(|entry| RecordWithLetter::new(entry, &letters)).collect();
        let own: Vec<&E> = cases.iter().filter_map(|case| case.own).collect();
        let corrected: Vec<&E> = cases.iter().filter_map(|case| case.corrected.as_ref()).collect();
        let mut own = look_up(snapshot, &own).await?.into_iter();
        let mut corrected = look_up(snapshot, &corrected).await?.into_iter();
        let mut findings = Vec::new();
        for case in &cases {
            let own = case.own.and_then(|_| own.next());
            let corrected = case.corrected.as_ref().and_then(|_| corrected.next());
            let checked = check_record(case.record_lookup(own), case.letter_lookup(own, corrected));
            findings.extend(self.add(case, checked));
        }
        Ok(findings)
    }

    fn add<E: Event>(&mut self, case: &RecordWithLetter<'_, E>, checked: RecordCheck) -> Vec<Finding> {
        let (partition, offset) = (case.entry.record.partition, case.entry.record.offset);
        self.records += 1;
        let counted_from = self.counted.get(&partition).map_or(Position(0), |row| row.from);
        let is_counted = Position(offset.0) >= counted_from;
        if is_counted {
            self.tallies.entry(partition).or_default().count(checked.outcome);
        }
        if self.remembers_rows {
            checked.rows.into_iter().flatten().for_each(|row| self.explained.insert(row));
        }
        let finding = |(kind, mut detail): (FindingKind, String)| {
            if !is_counted {
                detail.push_str("; it is from before the totals began, and may never have been handled");
            }
            let key = case.corrected.as_ref().or(case.own).map(|event| event.key().to_owned());
            Finding { kind, partition: Some(partition), offset: Some(offset), key, detail }
        };
        checked.findings.into_iter().map(finding).collect()
    }

    /// Compares the totals of these partitions. All of their counted records must have been compared before.
    pub(super) fn totals(&self, partitions: &BTreeSet<Partition>) -> Vec<Finding> {
        let difference = |partition: &Partition| {
            let tally = self.tallies.get(partition).copied().unwrap_or_default();
            let detail = tally.difference(self.counted.get(partition)?.totals)?;
            Some(Finding { kind: FindingKind::Total, partition: Some(*partition), offset: None, key: None, detail })
        };
        partitions.iter().filter_map(difference).collect()
    }

    /// Whether the table has rows that no record explains so far.
    pub(super) async fn has_unexplained_rows<E: Event>(&self, snapshot: &mut Transaction<'_>) -> sqlx::Result<bool> {
        let mut pages = RowPages::<E>::new();
        while let Some(unexplained) = pages.next(snapshot, &self.explained).await? {
            if !unexplained.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The rows that records explain. Empty if they are not remembered.
    pub(super) fn explained(&self) -> &RowIds {
        &self.explained
    }

    /// The number of records that were compared.
    pub(super) fn records(&self) -> u64 {
        self.records
    }
}

/// Finds the events' rows. A statement looks up a limited number of events: each may have to be read from disk, and a
/// time-out would lose the snapshot.
async fn look_up<E: Event>(snapshot: &mut Transaction<'_>, events: &[&E]) -> sqlx::Result<Vec<Lookup>> {
    let mut all = Vec::with_capacity(events.len());
    for events in events.chunks(EVENTS_PER_STATEMENT) {
        let lookups = snapshot.run(|connection| E::find(connection, events)).await?;
        if lookups.len() != events.len() {
            let text = format!("Event::find returned {} answers for {} events", lookups.len(), events.len());
            return Err(sqlx::Error::Protocol(text));
        }
        all.extend(lookups);
    }
    Ok(all)
}

/// A record, its event and its dead letter.
struct RecordWithLetter<'a, E> {
    entry: &'a Entry<E>,
    /// The event in the record.
    own: Option<&'a E>,
    letter: Option<&'a StoredLetter>,
    /// The event that a person corrected the letter to. Only if the letter is resolved: then this event has a row.
    corrected: Option<E>,
}

impl<'a, E: Event> RecordWithLetter<'a, E> {
    fn new(entry: &'a Entry<E>, letters: &'a BTreeMap<(Partition, Offset), Vec<StoredLetter>>) -> Self {
        let own = if let Ok(Parsed::Event(event)) = &entry.parsed { Some(event) } else { None };
        let at_offset = letters.get(&(entry.record.partition, entry.record.offset));
        let letter = at_offset.and_then(|letters| letters.iter().find(|letter| letter.is_of(&entry.record)));
        let redriven = letter.filter(|letter| letter.is_resolved).and_then(StoredLetter::corrected);
        let corrected = redriven.and_then(|record| match E::parse(&record) {
            Ok(Parsed::Event(event)) => Some(event),
            Ok(Parsed::Ignored { .. }) | Err(_) => None,
        });
        Self { entry, own, letter, corrected }
    }

    fn record_lookup(&self, row: Option<Lookup>) -> RecordLookup {
        match (&self.entry.parsed, row) {
            (Err(refusal), _) => RecordLookup::Refused(refusal.reason),
            (Ok(Parsed::Ignored { .. }), _) => RecordLookup::Ignored,
            (Ok(Parsed::Event(_)), row) => RecordLookup::Event(row.unwrap_or(Lookup::Missing)),
        }
    }

    fn letter_lookup(&self, own: Option<Lookup>, corrected: Option<Lookup>) -> Option<LetterLookup> {
        let letter = self.letter?;
        let row = match (letter.is_resolved, letter.is_corrected) {
            (false, _) => RedrivenRow::NotRedriven,
            (true, true) => corrected.map_or(RedrivenRow::NoEvent, RedrivenRow::Redriven),
            (true, false) => own.map_or(RedrivenRow::NoEvent, RedrivenRow::Redriven),
        };
        Some(LetterLookup { altered_column: letter.altered_column(&self.entry.record), row })
    }
}

/// The first and last offset of each partition's records.
fn ranges<E>(entries: &[Entry<E>]) -> Vec<OffsetRange> {
    let mut ranges: BTreeMap<Partition, (Offset, Offset)> = BTreeMap::new();
    for Entry { record, .. } in entries {
        let (first, last) = ranges.entry(record.partition).or_insert((record.offset, record.offset));
        (*first, *last) = (record.offset.min(*first), record.offset.max(*last));
    }
    ranges.into_iter().map(|(partition, (first, last))| (partition, first, last)).collect()
}

fn by_record(letters: Vec<StoredLetter>) -> BTreeMap<(Partition, Offset), Vec<StoredLetter>> {
    let mut by_record: BTreeMap<(Partition, Offset), Vec<StoredLetter>> = BTreeMap::new();
    for letter in letters {
        by_record.entry((letter.partition, letter.offset)).or_default().push(letter);
    }
    by_record
}
