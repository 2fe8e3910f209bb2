//! How long a task has been running, over all its claims.

use std::time::Duration;

use crate::model::agentic_task::{AgenticTask, AgenticTaskStatus};
use crate::model::object::Object;
use crate::model::time::WallTime;

/// The running time of the claims that have ended. Time between claims (suspended, waiting) does
/// not count.
fn ended(status: &AgenticTaskStatus) -> Duration {
    let spans = status.attempts.iter().filter_map(|attempt| {
        let (began, ended) = (attempt.started_at?, attempt.ended_at?);
        Some(ended.since(began))
    });
    spans.sum()
}

/// How much of `timeoutSeconds` is left at `now`; absent = no limit.
pub(crate) fn left(task: &Object<AgenticTask>, now: WallTime) -> Option<Duration> {
    let seconds = task.spec.timeout_seconds.filter(|seconds| *seconds > 0)?;
    let limit = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let current = task.status.started_at.map_or(Duration::ZERO, |began| now.since(began));
    Some(limit.saturating_sub(ended(&task.status) + current))
}
