//! Appends to one journal. The file belongs to a thread of its own, so that neither a slow disk nor
//! a cancelled future can put two records in the wrong order.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use serde_json::Value;
use tokio::sync::oneshot;

use super::JournalError;
use super::codec::encode;
use super::record::{Entry, Record};
use crate::limits::{JOURNAL_BYTES_MAX, JOURNAL_RECORD_BYTES_MAX};
use crate::redact::Redactor;

/// Tells the wall clock in milliseconds since 1970.
pub type WallClock = Arc<dyn Fn() -> u64 + Send + Sync>;

enum Order {
    Write(Vec<u8>),
    Sync(oneshot::Sender<Result<(), JournalError>>),
}

/// An open journal. Dropping it ends its thread once everything handed over is written.
pub struct Journal {
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
    bytes: u64,
    bytes_max: u64,
    redactor: Redactor,
    wall: WallClock,
    failed: Option<JournalError>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal")
            .field("path", &self.path)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Journal {
    pub(super) fn start(
        file: File,
        path: PathBuf,
        bytes: u64,
        redactor: Redactor,
        wall: WallClock,
    ) -> Result<Self, JournalError> {
        let (orders, received) = mpsc::channel();
        let thread_path = path.clone();
        let thread = std::thread::Builder::new()
            .name("foreman-journal".into())
            .spawn(move || write_all(file, &thread_path, &received))
            .map_err(|error| JournalError::Io {
                action: "start the writer of",
                path: path.clone(),
                why: error.to_string(),
            })?;
        Ok(Self {
            orders: Some(orders),
            thread: Some(thread),
            path,
            bytes,
            bytes_max: JOURNAL_BYTES_MAX,
            redactor,
            wall,
            failed: None,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it hides.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// How long it is, in bytes, with everything that was handed over.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Hands over a record. It is written in order, and durable after the next [`Journal::sync`].
    /// Returns the entry as it was written, without secrets: what is kept in memory must be equal.
    ///
    /// # Errors
    /// [`JournalError::Full`] and [`JournalError::RecordTooLarge`]; what the disk refuses is told by
    /// [`Journal::sync`]. After an error every later call fails with the same one, but for the outcome
    /// of a run whose journal is full.
    pub fn append(&mut self, entry: Entry) -> Result<Entry, JournalError> {
        match &self.failed {
            // A full journal still takes the last word of its run.
            Some(JournalError::Full { .. }) if matches!(&entry, Entry::Outcome { .. }) => {
                self.failed = None;
                self.bytes_max = u64::MAX;
            }
            Some(error) => return Err(error.clone()),
            None => {}
        }
        let result = self.hand_over(entry);
        if let Err(error) = &result {
            self.failed = Some(error.clone());
        }
        result
    }

    fn hand_over(&mut self, entry: Entry) -> Result<Entry, JournalError> {
        let record = Record { at: (self.wall)(), entry };
        let coding = |error: serde_json::Error| JournalError::Io {
            action: "encode a record for",
            path: self.path.clone(),
            why: error.to_string(),
        };
        let mut value: Value = serde_json::to_value(&record).map_err(coding)?;
        let entry = if self.redactor.value(&mut value) {
            serde_json::from_value::<Record>(value.clone()).map_err(coding)?.entry
        } else {
            record.entry
        };
        let bytes = encode(&value).map_err(|bytes| JournalError::RecordTooLarge {
            path: self.path.clone(),
            bytes,
            max: JOURNAL_RECORD_BYTES_MAX,
        })?;
        let grown = self.bytes + bytes.len() as u64;
        if grown > self.bytes_max {
            return Err(JournalError::Full {
                path: self.path.clone(),
                bytes: grown,
                max: self.bytes_max,
            });
        }
        self.send(Order::Write(bytes))?;
        self.bytes = grown;
        Ok(entry)
    }

    /// Waits until everything handed over is on the disk.
    ///
    /// # Errors
    /// The first write that failed; the run must end then.
    pub async fn sync(&mut self) -> Result<(), JournalError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let (done, waiting) = oneshot::channel();
        let result = match self.send(Order::Sync(done)) {
            Ok(()) => waiting.await.unwrap_or_else(|_| Err(self.gone())),
            Err(error) => Err(error),
        };
        if let Err(error) = &result {
            self.failed = Some(error.clone());
        }
        result
    }

    /// As [`Journal::sync`], for callers on a blocking thread.
    pub(super) fn sync_blocking(&mut self) -> Result<(), JournalError> {
        let (done, waiting) = oneshot::channel();
        self.send(Order::Sync(done))?;
        let result = waiting.blocking_recv().unwrap_or_else(|_| Err(self.gone()));
        if let Err(error) = &result {
            self.failed = Some(error.clone());
        }
        result
    }

    fn send(&self, order: Order) -> Result<(), JournalError> {
        self.orders.as_ref().and_then(|orders| orders.send(order).ok()).ok_or_else(|| self.gone())
    }

    fn gone(&self) -> JournalError {
        JournalError::Io {
            action: "write",
            path: self.path.clone(),
            why: "its writer has ended".into(),
        }
    }

    #[cfg(test)]
    pub(super) fn limit(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(path = %self.path.display(), "the writer of a journal panicked");
        }
    }
}

fn write_all(mut file: File, path: &Path, orders: &mpsc::Receiver<Order>) {
    let mut failed: Option<JournalError> = None;
    let fault = |action: &'static str, error: &std::io::Error| JournalError::Io {
        action,
        path: path.to_owned(),
        why: error.to_string(),
    };
    while let Ok(order) = orders.recv() {
        match order {
            // After a failed write nothing more is written: a gap would look like the end of the file.
            Order::Write(bytes) if failed.is_none() => {
                failed = file.write_all(&bytes).err().map(|error| fault("write", &error));
            }
            Order::Write(_) => {}
            Order::Sync(done) => {
                if failed.is_none() {
                    failed = file.sync_data().err().map(|error| fault("sync", &error));
                }
                let result = failed.clone().map_or(Ok(()), Err);
                if done.send(result).is_err() {
                    tracing::debug!(path = %path.display(), "nobody waits for this sync any more");
                }
            }
        }
    }
}
