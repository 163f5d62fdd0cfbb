//! `/metrics`: the counts and the state of a run, in the text format of Prometheus. The names are a stable interface.
//!
//! Each request gets a new text, written from a snapshot of numbers. There is no global registry, so a revoked
//! partition is missing in the next response, and two runs in one process share nothing. A request asks neither Kafka
//! nor the database.

use std::collections::BTreeMap;
use std::fmt;

use fenced_sink::{Counts, Health, HealthSnapshot, Histogram, PartitionStatus};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::readiness::readiness;
use super::standard_error;

/// The prefix of our names. A program that stores another event with the engine uses its own.
pub const PREFIX: &str = "booking_history";

/// The content type of the response.
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// All metrics of a run. Each name begins with `prefix` and `_`.
#[must_use]
pub fn text(prefix: &str, health: &Health) -> String {
    let mut registry = Registry::with_prefix(prefix);
    registry.register_collector(Box::new(Scrape { snapshot: health.snapshot(), counts: health.counts() }));
    let mut text = String::new();
    // Only writing can fail, and writing to a `String` does not.
    if let Err(error) = prometheus_text::encode(&mut text, &registry) {
        tracing::error!(%error, "metrics_failed");
    }
    text
}

/// A run at the moment of a request.
#[derive(Debug)]
struct Scrape {
    snapshot: Option<HealthSnapshot>,
    counts: Counts,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut families = Families(encoder);
        self.write_state(&mut families)?;
        self.write_counts(&mut families)
    }
}

impl Scrape {
    fn write_state(&self, families: &mut Families<'_>) -> fmt::Result {
        let version = [([("version", env!("CARGO_PKG_VERSION").to_owned())], 1)];
        families.gauge("build_info", "Always 1; the label is the version of the program", version)?;
        let ready = readiness(self.snapshot.clone()).ready;
        families.gauge("ready", "1 if /readyz answers 200, otherwise 0", [(NO_LABEL, u64::from(ready))])?;

        let snapshot = self.snapshot.as_ref();
        let partitions = snapshot.map(|snapshot| snapshot.partitions.as_slice()).unwrap_or_default();
        let mut states: BTreeMap<&str, u64> = PartitionStatus::ALL.map(|status| (status.as_str(), 0)).into();
        for health in partitions {
            let count = states.entry(health.status.as_str()).or_default();
            *count = count.saturating_add(1);
        }
        let states = states.into_iter().map(|(state, count)| ([("state", state.to_owned())], count));
        families.gauge("partitions", "Partitions of this instance, by state", states)?;
        let stalled = partitions.iter().map(|health| u64::from(health.stalled)).sum();
        let help =
            "Partitions of this instance whose records wait while nothing is committed, or that are not read yet";
        families.gauge("stalled", help, [(NO_LABEL, stalled)])?;
        let failing = partitions.iter().map(|health| u64::from(health.failure.is_some())).sum();
        let help = "Partitions of this instance whose last database operation failed";
        families.gauge("failing", help, [(NO_LABEL, failing)])?;
        let refusals = snapshot.map_or(0, |snapshot| u64::try_from(snapshot.kafka_refusals.len()).unwrap_or(u64::MAX));
        let help = "What Kafka refuses now: a connection, the topic, the group";
        families.gauge("kafka_refusals", help, [(NO_LABEL, refusals)])?;
        let topic = snapshot.map(|snapshot| snapshot.topic.as_str()).unwrap_or_default();
        let lags = partitions.iter().filter_map(|health| {
            let labels = [("topic", topic.to_owned()), ("partition", health.partition.to_string())];
            Some((labels, health.lag?))
        });
        let help = "Offsets from the position in the database to the last known end of the partition log";
        families.gauge("lag_records", help, lags)?;
        let bytes = snapshot.map_or(0, |snapshot| u64::try_from(snapshot.buffered_bytes).unwrap_or(u64::MAX));
        families.gauge(
            "buffered_bytes",
            "Bytes of the records that wait for the database or are being written",
            [(NO_LABEL, bytes)],
        )
    }

    fn write_counts(&self, families: &mut Families<'_>) -> fmt::Result {
        let Counts {
            records,
            batch_records,
            commit_seconds,
            end_to_end_seconds,
            commits_fenced,
            retries,
            redrive_failures,
            halts,
            gap_records,
            dead_letters,
        } = &self.counts;
        let outcomes = [
            ("stored", records.stored),
            ("duplicate", records.duplicates),
            ("ignored", records.ignored),
            ("dead_lettered", records.dead_lettered),
        ];
        families.counter("records", "Records committed, by outcome", labelled("outcome", outcomes))?;
        families.histogram("batch_records", "Records in a committed batch of one partition", batch_records)?;
        families.histogram("commit_seconds", "Duration of a committed transaction", commit_seconds)?;
        let help = "Time from the timestamp of a record to its commit";
        families.histogram("end_to_end_seconds", help, end_to_end_seconds)?;
        let help = "Batches not written, because another instance claimed the partition or an operator moved it";
        families.counter("commits_fenced", help, [(NO_LABEL, *commits_fenced)])?;
        let help = "Database operations that failed and are tried again, by reason";
        families.counter("retries", help, labelled("reason", retries.clone()))?;
        let help = "Redrives of dead letters that failed for a cause outside of the letter, by reason";
        families.counter("redrive_failures", help, labelled("reason", redrive_failures.clone()))?;
        let halts = labelled("reason", halts.iter().map(|(reason, count)| (reason.as_str(), *count)));
        families.counter("halts", "Partitions halted by this instance, by reason", halts)?;
        let gaps = labelled("reason", gap_records.iter().map(|(reason, count)| (reason.as_str(), *count)));
        families.counter("gap_records", "Offsets found to be missing or in doubt, by reason of the gap", gaps)?;
        let letters = dead_letters.iter().map(|(status, count)| (status.as_str(), *count));
        let help = "Dead letters of the group and topic in the database, by status, at the last count";
        families.gauge("dead_letters", help, labelled("status", letters))?;
        let help = "Log lines dropped, because nothing read standard error";
        families.counter("log_lines_dropped", help, [(NO_LABEL, standard_error::dropped())])
    }
}

/// Labels by name and value.
type Labels<const N: usize> = [(&'static str, String); N];

const NO_LABEL: Labels<0> = [];

fn labelled<'a>(name: &'static str, counts: impl IntoIterator<Item = (&'a str, u64)>) -> Vec<(Labels<1>, u64)> {
    counts.into_iter().map(|(value, count)| ([(name, value.to_owned())], count)).collect()
}

/// Writes the metric families, one after the other.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn gauge<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<N>, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        samples.into_iter().try_for_each(|(labels, value)| sample(&mut family, &labels, |it| it.encode_gauge(&value)))
    }

    /// The encoder appends `_total` to the name.
    fn counter<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<N>, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        samples.into_iter().try_for_each(|(labels, value)| {
            sample(&mut family, &labels, |it| it.encode_counter::<NoLabelSet, _, u64>(&value, None))
        })
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        family.encode_histogram::<NoLabelSet>(histogram.sum(), histogram.count(), &histogram.buckets(), None)
    }
}

fn sample<const N: usize>(
    family: &mut MetricEncoder<'_>,
    labels: &Labels<N>,
    write: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    if N == 0 { write(family) } else { write(&mut family.encode_family(labels)?) }
}

#[cfg(test)]
mod tests;
