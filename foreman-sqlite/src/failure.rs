//! What SQLite's errors mean to a caller of the store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use foreman_core::ports::StoreError;
use rusqlite::ErrorCode;

use crate::schema;

/// How long a caller should leave a store alone whose write lock another process holds.
const BUSY_RETRY_AFTER: Duration = Duration::from_millis(500);

/// Why a change in a transaction was not made.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The store's answer to this change; the others in the transaction go on.
    Refused(StoreError),
    /// The file or the disk failed: the whole transaction is off.
    Broken(rusqlite::Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Broken(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

/// Words errors of one store file.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    path: Arc<Path>,
}

impl Site {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.into() }
    }

    /// An error after which nothing was written: of a read, or before the commit.
    pub(crate) fn nothing_done(&self, error: &rusqlite::Error) -> StoreError {
        StoreError::Unavailable {
            reason: self.describe(error),
            retry_after: matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
            )
            .then_some(BUSY_RETRY_AFTER),
        }
    }

    /// An error of the commit itself. When the disk failed, the commit record may have reached it.
    pub(crate) fn commit_failed(&self, error: &rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            Some(ErrorCode::SystemIoFailure) | None => {
                StoreError::Uncertain { reason: self.describe(error) }
            }
            Some(_) => self.nothing_done(error),
        }
    }

    /// Another program took the file to another version while we had it open. Writing on would
    /// leave out what the new version keeps.
    pub(crate) fn migrated(&self, version: i64) -> StoreError {
        let (path, ours) = (self.path.display(), schema::supported());
        StoreError::Unavailable {
            reason: format!(
                "the store {path} was taken to version {version} by another foreman, this one writes version {ours}: restart with the newer one"
            ),
            retry_after: None,
        }
    }

    /// The work in a thread of the store panicked; its transaction was rolled back.
    pub(crate) fn panicked(&self) -> StoreError {
        StoreError::Unavailable {
            reason: format!("work on the store {} panicked, nothing was done", self.path.display()),
            retry_after: None,
        }
    }

    /// The store was closed, or its thread ended, before the answer.
    pub(crate) fn closed(&self) -> StoreError {
        StoreError::Unavailable {
            reason: format!("the store {} is closed", self.path.display()),
            retry_after: None,
        }
    }

    /// The write was handed over and its thread ended without an answer.
    pub(crate) fn unanswered(&self) -> StoreError {
        StoreError::Uncertain {
            reason: format!("the store {} was closed during the write", self.path.display()),
        }
    }

    fn describe(&self, error: &rusqlite::Error) -> String {
        let path = self.path.display();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                format!("another process holds the write lock of {path} for too long")
            }
            Some(ErrorCode::DiskFull) => format!("no space left for {path}: free some and retry"),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => format!(
                "the store {path} is damaged ({error}): stop foreman and restore the file from a copy"
            ),
            Some(ErrorCode::ReadOnly) => {
                format!("{path} cannot be written ({error}): check its owner and mode")
            }
            _ => format!("{path}: {error}"),
        }
    }
}
