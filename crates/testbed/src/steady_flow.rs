//! A producer that sends bookings while a test stops and starts servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::topic::Topic;
use crate::workload::Workload;

/// Produces one booking after the other until it is stopped.
pub struct SteadyFlow {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Workload>,
}

impl SteadyFlow {
    /// Sends to these partitions in turn, about 100 records per second. The runtime of the test needs several threads if the
    /// test blocks.
    pub fn start(topic: Topic, partitions: i32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let producer = topic.producer(&[]);
            let (mut sent, mut deliveries) = (Workload::default(), Vec::new());
            let mut pace = tokio::time::interval(Duration::from_millis(10));
            while !until.load(Ordering::Relaxed) {
                pace.tick().await;
                let number = sent.records.len();
                sent.add_booking(&format!("flow-{number}"), i32::try_from(number).unwrap() % partitions);
                deliveries.push(producer.enqueue(sent.records.last().unwrap()).await);
            }
            for delivery in deliveries {
                delivery.await.unwrap().unwrap();
            }
            sent
        });
        Self { stop, task }
    }

    /// All that it has sent. Each record is on the brokers once.
    pub async fn stop(self) -> Workload {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}
