//! The threads that read, each with a connection of its own, so that no read blocks an async thread
//! or waits for the writer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use foreman_core::ports::StoreError;
use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

use crate::failure::Site;
use crate::limits::PENDING_READS_MAX;

type Read = Box<dyn FnOnce(&Connection) + Send>;

/// Hands reads to the reading threads. They end when it is closed.
pub(crate) struct Readers {
    reads: Mutex<Option<Sender<Read>>>,
    places: Arc<Semaphore>,
    site: Site,
}

impl std::fmt::Debug for Readers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readers").field("site", &self.site).finish_non_exhaustive()
    }
}

/// What the reading threads take from.
pub(crate) type Inbox = Arc<Mutex<Receiver<Read>>>;

impl Readers {
    /// The handle, and what each thread must be given.
    pub(crate) fn new(site: Site) -> (Arc<Self>, Inbox) {
        let (reads, inbox) = channel();
        let places = Arc::new(Semaphore::new(PENDING_READS_MAX));
        let readers = Self { reads: Mutex::new(Some(reads)), places, site };
        (Arc::new(readers), Arc::new(Mutex::new(inbox)))
    }

    /// Runs `work` in a transaction of a reading thread, so that all it reads is of one moment.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let place = self.places.clone().acquire_owned().await.map_err(|_| self.site.closed())?;
        let (reply, answer) = oneshot::channel();
        let read: Read = Box::new(move |connection| {
            // The place is taken until then, however many callers give up: it bounds how many wait.
            let _place = place;
            if reply.is_closed() {
                return;
            }
            let read = || connection.unchecked_transaction().and_then(|snapshot| work(&snapshot));
            // Nobody may wait for it any more.
            drop(reply.send(catch_unwind(AssertUnwindSafe(read))));
        });
        let sent = {
            let reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
            reads.as_ref().is_some_and(|reads| reads.send(read).is_ok())
        };
        if !sent {
            return Err(self.site.closed());
        }
        let result = answer.await.map_err(|_| self.site.closed())?;
        let result = result.map_err(|_| self.site.panicked())?;
        result.map_err(|error| self.site.nothing_done(&error))
    }

    /// How many more reads may wait.
    #[cfg(test)]
    pub(crate) fn free_places(&self) -> usize {
        self.places.available_permits()
    }

    /// Lets the threads end once they did what waits.
    pub(crate) fn close(&self) {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// What a reading thread does.
pub(crate) fn run(inbox: &Inbox, connection: &Connection) {
    loop {
        // The lock is held while waiting: the others wait for it instead of for a read.
        let read = inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match read {
            Ok(read) => read(connection),
            Err(_) => return,
        }
    }
}
