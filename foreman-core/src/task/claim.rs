//! The fence: whether a claim still holds.

use crate::bugs::{self, Bug};
use crate::model::agentic_task::{AgenticTask, TaskPhase};
use crate::model::ids::Fence;
use crate::model::object::Object;

/// Why a claim no longer holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the claim is lost: {what} is {found} now, it was {held}")]
pub struct Lost {
    /// What differs.
    pub what: &'static str,
    /// What the holder knows.
    pub held: String,
    /// What the object shows.
    pub found: String,
}

/// Whether `fence` holds on `task`.
pub(crate) fn holds(task: &Object<AgenticTask>, fence: &Fence) -> Result<(), Lost> {
    let status = &task.status;
    let show = |value: Option<String>| value.unwrap_or_else(|| "absent".to_owned());
    let phase = status.known_phase();
    let in_flight = matches!(phase, Some(TaskPhase::Running | TaskPhase::Verifying));
    let checks: [(&'static str, bool, String, String); 7] = [
        ("uid", task.meta.uid == fence.uid, fence.uid.to_string(), task.meta.uid.to_string()),
        (
            "deletionTimestamp",
            task.meta.deletion_timestamp.is_none(),
            show(None),
            show(task.meta.deletion_timestamp.map(|time| time.to_string())),
        ),
        (
            "phase",
            in_flight || bugs::on(Bug::LateResultWins),
            TaskPhase::Running.to_string(),
            show(status.phase.as_ref().map(ToString::to_string)),
        ),
        (
            "assignedNode",
            status.assigned_node.as_deref() == Some(fence.node.as_str()),
            fence.node.to_string(),
            show(status.assigned_node.clone()),
        ),
        (
            "attempt",
            status.attempt == Some(fence.attempt),
            fence.attempt.to_string(),
            show(status.attempt.map(|attempt| attempt.to_string())),
        ),
        (
            "session",
            status.session.as_deref() == Some(fence.session.as_str()),
            fence.session.to_string(),
            show(status.session.clone()),
        ),
        (
            "claimedAt",
            status.claimed_at == Some(fence.claimed_at),
            fence.claimed_at.to_string(),
            show(status.claimed_at.map(|time| time.to_string())),
        ),
    ];
    match checks.into_iter().find(|(_, equal, _, _)| !equal) {
        Some((what, _, held, found)) => Err(Lost { what, held, found }),
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "claim_tests.rs"]
mod tests;
