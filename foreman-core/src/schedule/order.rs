//! Order: which waiting task is tried first.

use std::cmp::Reverse;

use crate::model::agentic_task::{AgenticTask, TaskKind};
use crate::model::ids::Key;
use crate::model::object::Object;
use crate::model::open::Open;
use crate::model::time::WallTime;

/// What a queue of tasks is sorted by, first first: priority, then finish-what-is-started (review,
/// verify, code, the rest), then age, then the key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    priority: Reverse<i32>,
    rank: u8,
    created: Option<WallTime>,
    key: Key,
}

impl Turn {
    /// The task.
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// The turn it would have with another priority.
    #[must_use]
    pub fn with_priority(self, priority: i32) -> Self {
        Self { priority: Reverse(priority), ..self }
    }
}

/// When it is the task's turn.
pub fn turn(task: &Object<AgenticTask>) -> Turn {
    Turn {
        priority: Reverse(task.spec.priority.unwrap_or(0)),
        rank: rank(&task.spec.kind),
        created: task.meta.creation_timestamp,
        key: task.key(),
    }
}

/// A kind's place in the order of finish-what-is-started; also the order of claims on a node.
pub fn rank(kind: &Open<TaskKind>) -> u8 {
    match kind {
        Open::Known(TaskKind::Review) => 0,
        Open::Known(TaskKind::Verify) => 1,
        Open::Known(TaskKind::IssueFix) => 2,
        Open::Known(TaskKind::Freeform | TaskKind::Integrate | TaskKind::Reconcile)
        | Open::Other(_) => 3,
    }
}
