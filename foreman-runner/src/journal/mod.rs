//! What a run has done so far, written so that it survives any crash of this machine's processes.
//!
//! A journal is a file of records (length, CRC32C, JSON) for one attempt of one task:
//! `<state>/journals/<uid>/<attempt>.journal`. A new attempt, or a task that continues another one,
//! gets a file of its own whose header names its parent and how much of it counts; the old file is
//! never touched again, so a process that still believes to hold the old claim disturbs nobody.
//!
//! Reading cuts at the first bad record. [`replay`] makes a conversation of whatever is there: every
//! call is answered exactly once, a call that was started and has no result is never run again.
//!
//! A journal holds no credential: known secret values are replaced before a record is written.

mod codec;
mod reap;
mod record;
mod replay;
mod store;
mod writer;

#[cfg(test)]
mod file_tests;
#[cfg(test)]
mod tests;

pub use codec::{Decoded, decode, encode};
pub use reap::Reaped;
pub use record::{CheckpointMark, Entry, Header, JOURNAL_SCHEMA, JournalFence, ParentRef, Record};
pub use replay::{
    EffectState, INTERRUPTED, NOT_RUN, PastTurn, Pending, Repaired, Replay, repair, replay,
};
pub use store::{JournalKey, JournalStore, JournalSummary, OpenedJournal};
pub use writer::{Journal, WallClock};

use std::path::PathBuf;

/// What can go wrong with a journal. Each of these ends a run as infrastructure: without its journal
/// a run has no right to go on.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The system refused.
    #[error("cannot {action} {path}: {why}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// The limit of one attempt is reached.
    #[error("the journal {path} is full: {bytes} bytes, at most {max} are allowed for one attempt", path = path.display())]
    Full {
        /// Which.
        path: PathBuf,
        /// How long it would be.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// One record is larger than any should be.
    #[error("a record of {bytes} bytes does not go into the journal {path}, at most {max} are allowed", path = path.display())]
    RecordTooLarge {
        /// Which journal.
        path: PathBuf,
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// It exists already: another process began this attempt.
    #[error("the journal {path} exists already; another process has begun this attempt", path = path.display())]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// It has no readable header.
    #[error("the journal {path} has no readable header; the run cannot be resumed from it", path = path.display())]
    NoHeader {
        /// Which.
        path: PathBuf,
    },
    /// A newer version wrote it.
    #[error("the journal {path} was written by a newer version (schema {found}, this one reads up to {known})", path = path.display())]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// What we read.
        known: u32,
    },
    /// A parent is missing, or the chain has no end.
    #[error("the journal {path} continues another one that is not usable: {why}", path = path.display())]
    Parent {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A uid or attempt that cannot be a file name.
    #[error("{given:?} is no task uid: 1 to 64 of the characters a-z, A-Z, 0-9 and '-' are needed")]
    BadKey {
        /// What was given.
        given: String,
    },
}
