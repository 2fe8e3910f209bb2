//! How long a task has been running, over all its claims.

use std::time::Duration;

use crate::model::agentic_task::AgenticTask;
use crate::model::object::Object;
use crate::model::time::WallTime;

use super::attempts;

/// How much of `timeoutSeconds` is left at `now`; absent = no limit.
pub(crate) fn left(task: &Object<AgenticTask>, now: WallTime) -> Option<Duration> {
    let seconds = task.spec.timeout_seconds.filter(|seconds| *seconds > 0)?;
    let limit = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let current = task.status.started_at.map_or(Duration::ZERO, |began| now.since(began));
    Some(limit.saturating_sub(attempts::ran_before(&task.status.attempts).saturating_add(current)))
}
