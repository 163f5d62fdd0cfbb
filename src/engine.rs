//! The guarantee, generic over one trait: it never names what it keeps.
//!
//! For one consumer group, topic and partition, let X be `next_offset` in `consumer_offsets`. At every instant, also
//! after a crash of anything, the tables hold the effects of exactly the records in `[counted_from, X)`, less the gaps
//! on record: each one is **stored**, a **duplicate**, **dead-lettered** or **ignored**, and counted as one of these.
//!
//! It holds because one transaction moves X to Y *and* writes everything that the records in `[X, Y)` cause, and because
//! it does so only if X is still X and the committer still owns the partition ([`ledger::Ledger::fence`]). Everything
//! else here may fail, be late or be wrong, and only costs time:
//!
//! 1. **Own.** The rebalance callback notes what Kafka gives and takes, and never touches the database.
//! 2. **Claim.** A writer raises the row's epoch: from here every older owner matches nothing.
//! 3. **Check.** Nothing is assumed of the log: which topic it is, whether it still has what comes next, whether the last
//!    record is still the same, whether it can be read. A difference halts the partition, and is on record. What was
//!    delivered is not trusted after an error that isn't known to be harmless: reading starts again.
//! 4. **Start.** The consumer thread assigns the partition with the row's position, never with Kafka's.
//! 5. **Batch.** What has arrived while the last transaction ran, contiguous, bounded in records and bytes.
//! 6. **Commit.** Fence, rows, dead letters, positions, COMMIT: one transaction for the batches of several partitions.
//! 7. **Recover.** Whatever happened, drop what was read and look at the row: it says where to go on, if at all.
//! 8. **Mirror.** Kafka is told, after the commit, for the tools that watch it. It is never asked.
//! 9. **Stop.** Reading ends, transactions in flight end, the group is left.
//!
//! The files stand in the order in which a record meets them.

pub mod record;
pub mod event;
pub mod partition;
pub mod batch;
pub mod gap;
pub(crate) mod source;
pub mod claim;
pub(crate) mod assignment;
pub(crate) mod log_watch;
pub(crate) mod writer;
pub(crate) mod transaction;
pub mod ledger;
pub mod dead_letter;
pub mod verdict;
pub mod backoff;
pub(crate) mod redrive;
pub mod mirror;
pub mod health;
pub mod metrics;
pub(crate) mod watchdog;
pub mod run;
pub mod until_end;
pub mod verify;
