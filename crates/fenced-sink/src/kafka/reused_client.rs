//! A client for many questions. It is replaced if its own state may be the reason that it receives no answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle, sleep};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaResult;

use crate::kafka::last_error::{Client, LastError};

/// The interval at which a thread checks whether the last question through a replaced client has ended.
const IN_USE: Duration = Duration::from_millis(50);

/// A client, created at the first question.
///
/// After a restore of the brokers, the metadata of a client can be newer than theirs, and then it refuses their answers
/// without an error. So the caller replaces a client that gave no answer.
///
/// The drop of a client blocks while a broker is frozen. So a separate thread drops it, and the next client is not
/// replaced before this thread has ended. There are never more than two clients and one such thread.
pub(super) struct ReusedClient {
    config: ClientConfig,
    clients: Mutex<Clients>,
}

#[derive(Default)]
struct Clients {
    current: Option<Arc<Client>>,
    dropping: Option<JoinHandle<()>>,
}

impl ReusedClient {
    pub(super) fn new(config: ClientConfig) -> Self {
        Self { config, clients: Mutex::default() }
    }

    /// The current client.
    pub(super) fn get(&self) -> KafkaResult<Arc<Client>> {
        let mut clients = self.lock();
        let client = match clients.current.take() {
            Some(client) => client,
            None => Arc::new(self.config.create_with_context(LastError::default())?),
        };
        Ok(Arc::clone(clients.current.insert(client)))
    }

    /// The next question uses a new client, unless the last replaced client still exists. Returns whether it uses a new
    /// client.
    pub(super) fn replace(&self) -> bool {
        let mut clients = self.lock();
        if clients.current.is_some() && clients.dropping.as_ref().is_none_or(JoinHandle::is_finished) {
            clients.dropping = clients.current.take().and_then(drop_in_thread);
        }
        clients.current.is_none()
    }

    /// As [`Self::replace`], if `wanted`. Returns whether the next question uses a new client.
    pub(super) fn replace_if(&self, wanted: bool) -> bool {
        if wanted { self.replace() } else { self.lock().current.is_none() }
    }

    fn lock(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ReusedClient {
    fn drop(&mut self) {
        let clients = self.clients.get_mut().unwrap_or_else(PoisonError::into_inner);
        // The thread is not joined: the program must be able to end while a broker is frozen.
        drop(clients.current.take().and_then(drop_in_thread));
    }
}

/// `None`: the system gives no thread, so the client was dropped here.
fn drop_in_thread(client: Arc<Client>) -> Option<JoinHandle<()>> {
    let wait_and_drop = move || {
        // Every question has a time limit, and the thread that asks it must not drop the client.
        while Arc::strong_count(&client) > 1 {
            sleep(IN_USE);
        }
        drop(client);
    };
    Builder::new().name("former client".to_owned()).spawn(wait_and_drop).ok()
}
