//! A machine's disk: what its processes wrote down and find again after a crash.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::engine::{Instant, lock};
use crate::model::ids::{Attempt, Uid};
use crate::ports::executor::Finish;

/// What a branch was when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Lease {
    /// Nobody looked yet.
    #[default]
    Unknown,
    /// There was none.
    Absent,
    /// At this commit.
    At(u64),
}

impl Lease {
    /// What the server is to compare with.
    pub(crate) fn sha(self) -> Option<u64> {
        match self {
            Self::At(sha) => Some(sha),
            Self::Unknown | Self::Absent => None,
        }
    }
}

/// The journal of one task's runs on this machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Journal {
    /// The highest attempt that was begun here.
    pub(crate) attempt: Attempt,
    /// Turns that are done.
    pub(crate) turns: u64,
    /// Tokens that the task had spent in all when this machine last knew.
    pub(crate) tokens: i64,
    /// What the branch was when the run began, and when that was looked at.
    pub(crate) lease: Lease,
    pub(crate) began: Instant,
    /// Effects: begun, and done.
    pub(crate) effects: BTreeMap<&'static str, bool>,
    /// What the run came to.
    pub(crate) outcome: Option<Finish>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// The session of the last life.
    pub(crate) session: Option<String>,
    /// By task.
    pub(crate) journals: BTreeMap<Uid, Journal>,
    /// Whether the agent takes its node over from whoever has it.
    pub(crate) takes_over: bool,
    /// Whether nothing more can be written.
    pub(crate) full: bool,
}

/// The disk is full.
#[derive(Debug)]
pub(crate) struct Full;

/// A disk that processes share.
pub(crate) type SharedDisk = Arc<Mutex<Disk>>;

/// Writes into the journal of a task, durably.
pub(crate) fn write(
    disk: &SharedDisk,
    uid: &Uid,
    change: impl FnOnce(&mut Journal),
) -> Result<(), Full> {
    let mut disk = lock(disk);
    if disk.full {
        return Err(Full);
    }
    change(disk.journals.entry(uid.clone()).or_default());
    Ok(())
}

/// The journal of a task.
pub(crate) fn read(disk: &SharedDisk, uid: &Uid) -> Option<Journal> {
    lock(disk).journals.get(uid).cloned()
}
