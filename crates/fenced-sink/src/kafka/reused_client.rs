//! A client for many questions. It is replaced if its own state may be the reason that it receives no answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle, sleep};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, ConsumerContext, DefaultConsumerContext};
use rdkafka::error::KafkaResult;

/// The interval at which a thread checks whether the last question through a replaced client has ended.
const IN_USE: Duration = Duration::from_millis(50);

/// A client, created at the first question.
///
/// After a restore of the brokers, the metadata of a client can be newer than theirs, and then it refuses their answers
/// without an error. So the caller replaces a client that gave no answer.
///
/// The drop of a client blocks while a broker is frozen. So a separate thread drops it, and the next client is not
/// replaced before this thread has ended. There are never more than two clients and one such thread.
pub(super) struct ReusedClient<C: ConsumerContext + 'static = DefaultConsumerContext> {
    config: ClientConfig,
    clients: Mutex<Clients<C>>,
}

struct Clients<C: ConsumerContext + 'static> {
    current: Option<Arc<BaseConsumer<C>>>,
    dropping: Option<JoinHandle<()>>,
}

impl<C: ConsumerContext + Default> ReusedClient<C> {
    pub(super) fn new(config: ClientConfig) -> Self {
        Self { config, clients: Mutex::new(Clients { current: None, dropping: None }) }
    }

    /// The current client.
    pub(super) fn get(&self) -> KafkaResult<Arc<BaseConsumer<C>>> {
        let mut clients = self.lock();
        let client = match clients.current.take() {
            Some(client) => client,
            None => Arc::new(self.config.create_with_context(C::default())?),
        };
        Ok(Arc::clone(clients.current.insert(client)))
    }

    /// The next question uses a new client, unless the last replaced client still exists.
    pub(super) fn replace(&self) {
        let mut clients = self.lock();
        if clients.dropping.as_ref().is_none_or(JoinHandle::is_finished) {
            clients.dropping = clients.current.take().and_then(drop_in_thread);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Clients<C>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: ConsumerContext> Drop for ReusedClient<C> {
    fn drop(&mut self) {
        let clients = self.clients.get_mut().unwrap_or_else(PoisonError::into_inner);
        // The thread is not joined: the program must be able to end while a broker is frozen.
        drop(clients.current.take().and_then(drop_in_thread));
    }
}

/// `None`: the system gives no thread, so the client was dropped here.
fn drop_in_thread<C: ConsumerContext + 'static>(client: Arc<BaseConsumer<C>>) -> Option<JoinHandle<()>> {
    let wait_and_drop = move || {
        // Every question has a time limit, and the thread that asks it must not drop the client.
        while Arc::strong_count(&client) > 1 {
            sleep(IN_USE);
        }
        drop(client);
    };
    Builder::new().name("former client".to_owned()).spawn(wait_and_drop).ok()
}
