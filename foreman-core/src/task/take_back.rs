//! What the operator writes when a claim is lost: first the strike, then the take-back.

use super::attempts::{self, Closed};
use super::budget;
use super::lifecycle::{Actor, IllegalMove, check};
use super::retry::Counted;
use super::writes::{bounded, no_longer_stuck};
use crate::model::agentic_task::{AgenticTask, AttemptEnd, TaskPhase, Usage};
use crate::model::condition::{ConditionStatus, is_true, set_condition};
use crate::model::object::Object;
use crate::model::time::WallTime;
use crate::model::wellknown::{ANNOTATION_CLAIM_EXPIRIES, ANNOTATION_STRUCK};
use crate::ports::store::{Change, Part};

/// Counts strikes.
pub(crate) fn strike(counted: &Counted) -> Change<AgenticTask> {
    let struck = format!("{}/{}", counted.struck.attempt, counted.struck.node);
    Change::of(Part::Meta).annotations([
        (ANNOTATION_CLAIM_EXPIRIES, Some(counted.strikes.to_string())),
        (ANNOTATION_STRUCK, Some(struck)),
    ])
}

/// Lets the next placement on the node that struck last be counted: what was counted before stays so.
pub(crate) fn rearm(task: &Object<AgenticTask>) -> Change<AgenticTask> {
    let attempt = task.status.attempt.unwrap_or(0);
    Change::of(Part::Meta).annotations([(ANNOTATION_STRUCK, Some(format!("{attempt}/")))])
}

/// How a claim or placement is taken back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TakeBack {
    /// How the claim ended; `None` = there was none, a placement was not claimed.
    pub(crate) ended: Option<AttemptEnd>,
    /// Why, for a person.
    pub(crate) message: String,
    /// The turn that the holder last showed, counted over all claims.
    pub(crate) turn: Option<i64>,
    /// What the task has spent, as far as known.
    pub(crate) usage: Option<Usage>,
}

/// The operator takes a task back to Pending; the attempt number stays, and a late result of the
/// holder is refused because the fence is cleared.
pub(crate) fn take_back(
    task: &Object<AgenticTask>,
    back: &TakeBack,
    now: WallTime,
) -> Result<Change<AgenticTask>, IllegalMove> {
    let (yes, no) = (ConditionStatus::True, ConditionStatus::False);
    let message = bounded(&back.message);
    let mut conditions = task.status.conditions.clone();
    match back.ended {
        Some(ended) => {
            set_condition(&mut conditions, "ClaimExpired", yes, "ClaimExpired", &message, now);
            if is_true(&conditions, "Running") {
                set_condition(&mut conditions, "Running", no, ended.as_str(), &message, now);
            }
        }
        None => {
            set_condition(&mut conditions, "Scheduled", no, "Unclaimed", &message, now);
        }
    }
    no_longer_stuck(&mut conditions, "TakenBack", now);
    let mut attempts = task.status.attempts.clone();
    if let Some(ended) = back.ended {
        attempts::close(&mut attempts, Closed { ended, at: now, turn: back.turn });
    }
    let unknown = back.usage.as_ref().and_then(|_| budget::unknown_usage(&task.status));
    if let Some(tokens) = unknown.and_then(|unknown| unknown.prompt_tokens) {
        attempts::estimate(&task.status, &mut attempts, tokens);
    }
    let mut change = Change::of(Part::Status)
        .set("phase", check(Actor::Operator, &task.status, TaskPhase::Pending)?)
        .set("conditions", conditions)
        .clear("assignedNode")
        .clear("session")
        .clear("claimedAt")
        .clear("startedAt")
        .clear("allowance");
    if attempts != task.status.attempts {
        change = change.set("attempts", attempts);
    }
    if let Some(usage) = &back.usage {
        change = change.set("usage", usage);
    }
    Ok(change)
}

/// Sets one condition of a task, and nothing else.
pub(crate) fn condition(
    task: &Object<AgenticTask>,
    kind: &str,
    status: ConditionStatus,
    reason: &str,
    message: &str,
    now: WallTime,
) -> Change<AgenticTask> {
    let mut conditions = task.status.conditions.clone();
    set_condition(&mut conditions, kind, status, reason, &bounded(message), now);
    Change::of(Part::Status).set("conditions", conditions)
}
