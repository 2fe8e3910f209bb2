//! What a picture of a simulation shows: the few things that a person would tell of it, as data.

use std::time::Duration;

use super::engine::Instant;
use super::scenario::Mishap;
use crate::model::AgenticTask;
use crate::model::ids::{Attempt, Key, Uid};
use crate::model::object::Object;
use crate::task::retry;

/// Something that is told of a simulation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// When, in virtual time.
    pub at: Duration,
    /// What.
    pub what: Told,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// A process began: `agent/NODE` or `operator/N`.
    Up(String),
    /// A process is found ended, or ended itself.
    Down {
        /// Which.
        who: String,
        /// Since when it did nothing any more.
        since: Duration,
    },
    /// Something went wrong.
    Mishap(Mishap),
    /// Faults stop.
    FaultsStop,
    /// The store took a change of a task.
    Task(Standing),
    /// The remote took a push.
    Push {
        /// The task that it is for.
        uid: Uid,
        /// The claim under which it was made.
        attempt: Attempt,
    },
}

/// Where a task stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub task: String,
    /// Its uid.
    pub uid: Uid,
    /// Its phase in words; empty = new, or deleted.
    pub phase: String,
    /// The node that it is assigned to.
    pub node: Option<String>,
    /// How many claims it had.
    pub attempt: Attempt,
    /// How many strikes it has.
    pub strikes: i64,
    /// What the work came to.
    pub verdict: Option<String>,
    /// How its last claim ended.
    pub ended: Option<String>,
}

impl Standing {
    /// Of a task as it is now, or was when it was deleted.
    pub(super) fn of(key: &Key, task: &Object<AgenticTask>, gone: bool) -> Self {
        let status = &task.status;
        let last = status.attempts.last();
        let phase = status.phase.as_ref().filter(|_| !gone);
        Self {
            task: key.name.clone(),
            uid: task.meta.uid.clone(),
            phase: phase.map_or_else(String::new, ToString::to_string),
            node: status.assigned_node.clone().filter(|_| !gone),
            attempt: status.attempt.unwrap_or(0),
            strikes: retry::strikes(task),
            verdict: status.verdict.as_ref().map(ToString::to_string),
            ended: last.and_then(|last| last.ended.as_ref()).map(ToString::to_string),
        }
    }
}

/// Virtual time as a duration.
pub(super) const fn moment(now: Instant) -> Duration {
    Duration::from_nanos(now)
}
