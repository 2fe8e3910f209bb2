//! The one thread that writes. It takes whatever waits, up to a limit, into one transaction: one
//! fsync for all. Between transactions it looks for what other processes committed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, mpsc};

use foreman_core::ports::{Clock, StoreError};
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::changes::{self, Foreign};
use crate::failure::{Failure, Site};
use crate::hub::Hub;
use crate::limits::{FOREIGN_CHANGES_MAX, GROUP_CHANGES_MAX, PENDING_WRITES_MAX, Tuning};
use crate::rows::{self, Tx};
use crate::schema;

/// One change that waits for its transaction.
trait Job: Send {
    /// Makes the change and keeps the answer. An error breaks the whole transaction.
    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()>;
    /// Gives the answer, or what became of the transaction instead.
    fn settle(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Write<T, F> {
    work: Option<F>,
    answer: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
    /// Held until the answer is given: it bounds how many wait.
    _place: OwnedSemaphorePermit,
}

impl<T, F> Job for Write<T, F>
where
    T: Send,
    F: FnOnce(&mut Tx<'_>) -> Result<T, Failure> + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()> {
        let Some(work) = self.work.take() else {
            return Ok(());
        };
        match work(tx) {
            Ok(answer) => self.answer = Some(Ok(answer)),
            Err(Failure::Refused(error)) => self.answer = Some(Err(error)),
            Err(Failure::Broken(error)) => return Err(error),
        }
        Ok(())
    }

    fn settle(self: Box<Self>, committed: Result<(), StoreError>) {
        // An answer that follows from what others did in a transaction that failed is void too.
        let answer = match (committed, self.answer) {
            (Ok(()), Some(answer)) => answer,
            (Err(error), _) => Err(error),
            // `run` was not reached, which only a failed transaction explains.
            (Ok(()), None) => return,
        };
        // Nobody may wait for it any more; the change is made all the same.
        drop(self.reply.send(answer));
    }
}

enum Message {
    Write(Box<dyn Job>),
    /// Somebody began to watch.
    Wake,
}

/// Hands changes to the writing thread.
#[derive(Debug)]
pub(crate) struct Writer {
    messages: mpsc::Sender<Message>,
    places: Arc<Semaphore>,
    site: Site,
    counts: Arc<Counts>,
}

/// What the writer did so far.
#[derive(Debug, Default)]
struct Counts {
    transactions: AtomicU64,
    changes: AtomicU64,
}

/// What a store's writer did since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistics {
    /// Transactions that changed something: each is one fsync.
    pub transactions: u64,
    /// Changes of single objects in them.
    pub changes: u64,
}

impl Writer {
    /// The handle, and the loop that a thread must run.
    pub(crate) fn new(
        connection: Connection,
        clock: Arc<dyn Clock>,
        hub: Arc<Hub>,
        site: Site,
        tuning: Tuning,
    ) -> (Self, WriterLoop) {
        let (messages, inbox) = mpsc::channel();
        let places = Arc::new(Semaphore::new(PENDING_WRITES_MAX));
        let counts = Arc::new(Counts::default());
        let writer = Self { messages, places, site: site.clone(), counts: counts.clone() };
        let body = WriterLoop {
            inbox,
            connection,
            clock,
            hub,
            site,
            tuning,
            counts,
            seen: None,
            groups: 0,
        };
        (writer, body)
    }

    /// Makes a change and answers once it is on the disk.
    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, Failure> + Send + 'static,
    {
        let closed = |_| self.site.closed();
        let place = self.places.clone().acquire_owned().await.map_err(closed)?;
        let (reply, answer) = oneshot::channel();
        let write = Write { work: Some(work), answer: None, reply, _place: place };
        self.messages.send(Message::Write(Box::new(write))).map_err(|_| self.site.closed())?;
        answer.await.map_err(|_| self.site.unanswered())?
    }

    /// What was done so far.
    pub(crate) fn statistics(&self) -> Statistics {
        Statistics {
            transactions: self.counts.transactions.load(Ordering::Relaxed),
            changes: self.counts.changes.load(Ordering::Relaxed),
        }
    }

    /// Tells the thread that somebody watches, so that it looks at other processes' commits.
    pub(crate) fn wake(&self) {
        // A thread that has ended has closed the hub, which is what the watcher then sees.
        drop(self.messages.send(Message::Wake));
    }
}

/// The writing thread's state.
pub(crate) struct WriterLoop {
    inbox: Receiver<Message>,
    connection: Connection,
    clock: Arc<dyn Clock>,
    hub: Arc<Hub>,
    site: Site,
    tuning: Tuning,
    counts: Arc<Counts>,
    /// `PRAGMA data_version` when the hub was last told of other processes' commits.
    seen: Option<i64>,
    groups: u64,
}

impl Drop for WriterLoop {
    /// However the thread ends, no watcher is left to wait for what nobody will tell.
    fn drop(&mut self) {
        self.hub.close();
    }
}

/// The transactions between two looks at the old end of the log of changes.
const GROUPS_BETWEEN_TRIMS: u64 = 4;

impl WriterLoop {
    /// Runs until every handle is gone; then what still waits is written.
    pub(crate) fn run(mut self) {
        loop {
            let message = if self.hub.is_watched() {
                self.inbox.recv_timeout(self.tuning.poll)
            } else {
                self.inbox.recv().map_err(RecvTimeoutError::from)
            };
            match message {
                Ok(Message::Write(first)) => {
                    let group = self.gather(first);
                    self.commit(group);
                }
                Ok(Message::Wake) | Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    }

    fn gather(&self, first: Box<dyn Job>) -> Vec<Box<dyn Job>> {
        let mut group = vec![first];
        while group.len() < GROUP_CHANGES_MAX {
            match self.inbox.try_recv() {
                Ok(Message::Write(job)) => group.push(job),
                Ok(Message::Wake) => {}
                Err(_) => break,
            }
        }
        group
    }

    /// Does a group in one transaction, tells the watchers, then answers.
    fn commit(&mut self, mut group: Vec<Box<dyn Job>>) {
        let outcome = self.try_commit(&mut group);
        for job in group {
            job.settle(outcome.clone());
        }
    }

    fn try_commit(&mut self, group: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        self.groups += 1;
        let broken = |error: rusqlite::Error| self.site.nothing_done(&error);
        let transaction = self.begin()?;
        let version = schema::version(&transaction).map_err(broken)?;
        if version != schema::supported() {
            return Err(self.site.migrated(version));
        }
        // Others' changes come first in the log, as they do in the file.
        catch_up(&transaction, &self.hub).map_err(broken)?;
        let mut tx = Tx::new(&transaction, self.clock.wall());
        for job in group {
            // A change that panics must cost its group only, not the store.
            let ran = catch_unwind(AssertUnwindSafe(|| job.run(&mut tx)));
            ran.map_err(|_| self.site.panicked())?.map_err(broken)?;
        }
        if self.groups.is_multiple_of(GROUPS_BETWEEN_TRIMS) {
            tx.trim(self.tuning.changes_kept_rows).map_err(broken)?;
        }
        let done = tx.into_done();
        transaction.commit().map_err(|error| self.site.commit_failed(&error))?;
        if let Some(head) = done.last().map(|entry| entry.revision) {
            let changes = u64::try_from(done.len()).unwrap_or(u64::MAX);
            self.counts.transactions.fetch_add(1, Ordering::Relaxed);
            self.counts.changes.fetch_add(changes, Ordering::Relaxed);
            self.hub.append(done, head);
        }
        Ok(())
    }

    /// Takes the write lock. While another process holds it, watchers still hear of its commits.
    fn begin(&self) -> Result<Transaction<'_>, StoreError> {
        let tries = self.tuning.busy.as_millis() / self.tuning.poll.as_millis().max(1);
        let mut misses = 0;
        loop {
            let begun =
                Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate);
            match begun {
                Ok(transaction) => return Ok(transaction),
                Err(error)
                    if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                        && misses < tries =>
                {
                    misses += 1;
                    if let Err(error) = self.read_foreign() {
                        tracing::debug!(%error, "other processes' changes cannot be read");
                    }
                }
                Err(error) => return Err(self.site.nothing_done(&error)),
            }
        }
    }

    /// Looks whether another process committed, and tells the watchers.
    fn look(&mut self) {
        let version = self
            .connection
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)));
        let looked = match version {
            Ok(version) if self.seen == Some(version) => Ok(()),
            Ok(version) => self.read_foreign().inspect(|()| self.seen = Some(version)),
            Err(error) => Err(error),
        };
        if let Err(error) = looked {
            let error = self.site.nothing_done(&error);
            tracing::warn!(%error, "other processes' changes cannot be read, trying again");
        }
    }

    fn read_foreign(&self) -> rusqlite::Result<()> {
        let snapshot = self.connection.unchecked_transaction()?;
        catch_up(&snapshot, &self.hub)
    }
}

/// Tells the hub what was committed since it last heard. Call inside a transaction.
fn catch_up(connection: &Connection, hub: &Hub) -> rusqlite::Result<()> {
    let (from, to) = (hub.head(), rows::last_revision(connection)?);
    if to == from {
        return Ok(());
    }
    if !hub.is_watched() {
        hub.lose(to);
        return Ok(());
    }
    match changes::changes_since(connection, from, to, FOREIGN_CHANGES_MAX)? {
        Foreign::Changes(entries) => hub.append(entries, to),
        Foreign::Lost => hub.lose(to),
    }
    Ok(())
}
