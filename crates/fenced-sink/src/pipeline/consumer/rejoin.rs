//! Replaces the consumer. Old metadata can prevent a client from receiving records, without an error. After a restore,
//! for example, the leader epochs of the brokers are lower than those that the client knows.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::ConsumerThread;
use crate::event::Event;
use crate::kafka::client::ConsumerError;
use crate::model::record::Partition;
use crate::model::standing::SchedulerView as _;
use crate::pipeline::reports::KafkaReport;

/// The maximum time that the former consumer may take to leave the group.
const LEAVING: Duration = Duration::from_secs(10);

impl<E: Event> ConsumerThread<E> {
    /// Leaves the group and joins it again with a new client.
    pub(super) fn rejoin(&mut self) -> Result<(), ConsumerError> {
        let scheduler = Arc::clone(&self.rebalancer.scheduler);
        let held: Vec<Partition> = scheduler.held().into_iter().map(|held| held.partition).collect();
        let former = std::mem::replace(self, Self::new(self.options.clone(), Arc::clone(&scheduler))?);
        former.rebalancer.supersede();
        scheduler.report(KafkaReport::Revoked(held));
        // It leaves first: Kafka permanently refuses a second member with the same `group.instance.id`. While a broker
        // is frozen, it cannot leave.
        let (tell, told) = mpsc::channel();
        let leaving = std::thread::Builder::new().name("former consumer".to_owned()).spawn(move || {
            former.leave();
            tell.send(())
        });
        if leaving.is_err() || told.recv_timeout(LEAVING).is_err() {
            tracing::warn!(hint = "the group notices after the session timeout", "former_consumer_not_left");
        }
        self.consumer.join()
    }
}
