//! What each writer writes of a task: one struct a writer, rendered as one change.

use std::borrow::Cow;

use crate::bugs::{self, Bug};
use crate::model::agentic_task::{
    AgenticTask, AgenticTaskStatus, AttemptEnd, AttemptRecord, Checkpoint, TaskPhase, Usage,
    Waiting, WaitingReason,
};
use crate::model::condition::{Condition, ConditionStatus, is_true, set_condition};
use crate::model::ids::{Attempt, NodeName, Session};
use crate::model::meta::Extra;
use crate::model::object::Object;
use crate::model::outcome::{
    Decision, FailureReason, Infrastructure, Outcome, Verdict, Verification,
};
use crate::model::time::WallTime;
use crate::ports::executor::Finish;
use crate::ports::store::{Change, Part};
use crate::timing::{MESSAGE_CHARS_MAX, RESULT_BYTES_MAX};

use super::attempts::{self, Closed};
use super::budget;
use super::lifecycle::{Actor, IllegalMove, check, finished_reason};

type TaskChange = Result<Change<AgenticTask>, IllegalMove>;

fn status() -> Change<AgenticTask> {
    Change::of(Part::Status)
}

/// Sets one condition in a copy of the list.
fn with(
    mut conditions: Vec<Condition>,
    kind: &str,
    value: ConditionStatus,
    reason: &str,
    message: &str,
    now: WallTime,
) -> Vec<Condition> {
    set_condition(&mut conditions, kind, value, reason, &bounded(message), now);
    conditions
}

/// What does not run is not stuck.
pub(super) fn no_longer_stuck(conditions: &mut Vec<Condition>, why: &str, now: WallTime) {
    if is_true(conditions, "Stuck") {
        set_condition(conditions, "Stuck", ConditionStatus::False, why, "it does not run", now);
    }
}

/// A message that the schema takes, whatever its length was: one that it refuses would keep a task
/// from ending.
pub(crate) fn bounded(message: &str) -> Cow<'_, str> {
    if message.chars().nth(MESSAGE_CHARS_MAX).is_none() {
        return Cow::Borrowed(message);
    }
    let head = message.chars().take(MESSAGE_CHARS_MAX - 1);
    Cow::Owned(head.chain(std::iter::once('…')).collect())
}

/// The operator places a task on a node, with what it may spend there of its Workload's budget.
pub(crate) fn place(
    task: &Object<AgenticTask>,
    node: &NodeName,
    allowance: Option<i64>,
    message: &str,
    now: WallTime,
) -> TaskChange {
    let conditions = with(
        task.status.conditions.clone(),
        "Scheduled",
        ConditionStatus::True,
        "FleetNodeAssigned",
        message,
        now,
    );
    let change = status()
        .set("phase", check(Actor::Operator, &task.status, TaskPhase::Scheduled)?)
        .set("assignedNode", node.as_str())
        .set("observedGeneration", task.meta.generation)
        .set("conditions", conditions)
        .clear("waiting");
    let change = if bugs::on(Bug::PlacementRaisesAttempt) {
        change.set("attempt", task.status.attempt.unwrap_or(0).saturating_add(1))
    } else {
        change
    };
    Ok(match allowance {
        Some(allowance) => change.set("allowance", allowance),
        None => change.clear("allowance"),
    })
}

/// The operator says why a task waits. `since` moves only with the reason.
pub(crate) fn wait(
    task: &Object<AgenticTask>,
    reason: WaitingReason,
    message: &str,
    now: WallTime,
) -> TaskChange {
    if bugs::on(Bug::PendingUnexplained) && task.status.phase.is_none() {
        return Ok(status().set("phase", TaskPhase::Pending));
    }
    let before = task.status.waiting.as_ref();
    let same = before.filter(|w| w.reason.as_ref().is_some_and(|r| r.is(reason)));
    let waiting = Waiting {
        reason: Some(reason.into()),
        message: Some(bounded(message).into_owned()),
        since: Some(same.and_then(|waiting| waiting.since).unwrap_or(now)),
        extra: Extra::new(),
    };
    let change = status().set("waiting", waiting).set("observedGeneration", task.meta.generation);
    if task.status.phase.is_some() {
        return Ok(change);
    }
    Ok(change.set("phase", check(Actor::Operator, &task.status, TaskPhase::Pending)?))
}

/// How the operator ends a task.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OperatorEnd {
    pub(crate) phase: TaskPhase,
    pub(crate) verdict: Verdict,
    pub(crate) failure_reason: Option<FailureReason>,
    pub(crate) outcome: Outcome,
    /// The condition that says why, with status True.
    pub(crate) condition: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl OperatorEnd {
    /// The end of a task that failed before a model decided anything that is known.
    pub(crate) fn failed(
        verification: Verification,
        infrastructure: Infrastructure,
        reason: &'static str,
        message: String,
    ) -> Self {
        Self {
            phase: TaskPhase::Failed,
            verdict: Verdict::Incomplete,
            failure_reason: None,
            outcome: Outcome {
                decision: Decision::None,
                verification,
                infrastructure,
                reason: None,
            },
            condition: "Failed",
            reason,
            message,
        }
    }
}

/// What is known of a claim that was lost when its task ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LostClaim {
    pub(crate) ended: AttemptEnd,
    /// The turn that the holder last showed, counted over all claims.
    pub(crate) turn: Option<i64>,
}

/// The operator ends a task whose claim is lost: nobody knows what its holder has spent.
pub(crate) fn end_lost(
    task: &Object<AgenticTask>,
    end: &OperatorEnd,
    lost: LostClaim,
    now: WallTime,
) -> TaskChange {
    let usage = budget::charge_dead_holder(&task.status);
    let closed = Closed { ended: lost.ended, at: now, turn: lost.turn };
    let change = end_closing(task, end, closed, now)?;
    Ok(match usage {
        Some(usage) => change.set("usage", usage),
        None => change,
    })
}

/// The operator ends a task; a late result of a holder is refused because the fence is cleared.
pub(crate) fn end(task: &Object<AgenticTask>, end: &OperatorEnd, now: WallTime) -> TaskChange {
    let ended = match end.outcome.infrastructure {
        Infrastructure::TimedOut => AttemptEnd::TimedOut,
        Infrastructure::NodeLost => AttemptEnd::NodeLost,
        Infrastructure::Ok
        | Infrastructure::SandboxUnavailable
        | Infrastructure::ModelUnavailable
        | Infrastructure::ModelContextTruncated
        | Infrastructure::GitUnavailable
        | Infrastructure::PushRefused
        | Infrastructure::Cancelled
        | Infrastructure::Error => AttemptEnd::Cancelled,
    };
    end_closing(task, end, Closed { ended, at: now, turn: None }, now)
}

fn end_closing(
    task: &Object<AgenticTask>,
    end: &OperatorEnd,
    closed: Closed,
    now: WallTime,
) -> TaskChange {
    let mut next = task.status.clone();
    next.phase = Some(end.phase.into());
    next.verdict = Some(end.verdict.into());
    next.failure_reason = end.failure_reason.map(Into::into);
    next.outcome = Some(end.outcome.record());
    let conditions = &mut next.conditions;
    let yes = ConditionStatus::True;
    let message = bounded(&end.message);
    set_condition(conditions, end.condition, yes, end.reason, &message, now);
    finish_condition(&mut next, &message, now);
    attempts::close(&mut next.attempts, closed);
    let change = status()
        .set("phase", check(Actor::Operator, &task.status, end.phase)?)
        .set("verdict", end.verdict)
        .set("outcome", &next.outcome)
        .set("finishedAt", now)
        .set("observedGeneration", task.meta.generation)
        .set("conditions", &next.conditions)
        .clear("waiting")
        .clear("allowance");
    let change = if bugs::on(Bug::LateResultWins) {
        change
    } else {
        change.clear("session").clear("claimedAt")
    };
    let change = match end.failure_reason {
        Some(reason) => change.set("failureReason", reason),
        None => change,
    };
    // Nobody knows what the holder has spent.
    let change = match budget::charge_dead_holder(&task.status) {
        Some(usage) => change.set("usage", usage),
        None => change,
    };
    if next.attempts == task.status.attempts {
        return Ok(change);
    }
    Ok(change.set("attempts", &next.attempts))
}

fn finish_condition(next: &mut AgenticTaskStatus, message: &str, now: WallTime) {
    no_longer_stuck(&mut next.conditions, "Ended", now);
    let reason = finished_reason(next);
    set_condition(&mut next.conditions, "Finished", ConditionStatus::True, reason, message, now);
}

/// An agent claims a task. `before` is what it knows of the end of the claim that it takes over, when
/// it adopts a run.
pub(crate) fn claim(
    task: &Object<AgenticTask>,
    attempt: Attempt,
    session: &Session,
    node: &NodeName,
    before: Closed,
    (claimed_at, now): (WallTime, WallTime),
) -> TaskChange {
    let mut attempts = task.status.attempts.clone();
    attempts::close(&mut attempts, before);
    let record = AttemptRecord {
        attempt: Some(attempt),
        node: Some(node.to_string()),
        session: Some(session.to_string()),
        started_at: Some(now),
        ..AttemptRecord::default()
    };
    attempts::push(&mut attempts, record);
    let conditions = with(
        task.status.conditions.clone(),
        "Running",
        ConditionStatus::True,
        "Claimed",
        &format!("attempt {attempt} on {node}"),
        now,
    );
    // What an earlier try came to is no longer what this one does.
    let change = match task.status.outcome {
        Some(_) => status().clear("outcome"),
        None => status(),
    };
    Ok(change
        .set("phase", check(Actor::Agent, &task.status, TaskPhase::Running)?)
        .set("attempt", attempt)
        .set("session", session.as_str())
        .set("claimedAt", claimed_at)
        .set("startedAt", now)
        .set("attempts", attempts)
        .set("conditions", conditions)
        .clear("waiting"))
}

/// How a claim or placement is given back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Release {
    pub(crate) ended: AttemptEnd,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) waiting: Option<WaitingReason>,
    pub(crate) usage: Option<Usage>,
    pub(crate) checkpoint: Option<Checkpoint>,
    /// What is known of the claim's end, where somebody else than its holder gives it back.
    pub(crate) known: Option<Closed>,
}

/// The holder gives a task back to Pending; the attempt number stays.
pub(crate) fn release(task: &Object<AgenticTask>, release: &Release, now: WallTime) -> TaskChange {
    let mut conditions = with(
        task.status.conditions.clone(),
        "Running",
        ConditionStatus::False,
        release.reason,
        &release.message,
        now,
    );
    no_longer_stuck(&mut conditions, "GivenBack", now);
    let mut attempts = task.status.attempts.clone();
    let turn = attempts::turn_reached(&task.status, release.usage.as_ref());
    let closed = Closed { ended: release.ended, at: now, turn };
    attempts::close(&mut attempts, release.known.unwrap_or(closed));
    let mut change = status()
        .set("phase", check(Actor::Agent, &task.status, TaskPhase::Pending)?)
        .set("conditions", conditions)
        .clear("assignedNode")
        .clear("startedAt")
        .clear("allowance");
    if !bugs::on(Bug::ReleaseKeepsClaim) {
        change = change.clear("session").clear("claimedAt");
    }
    if let Some(usage) = &release.usage {
        change = change.set("usage", charge(&task.status, &mut attempts, usage));
    }
    if attempts != task.status.attempts {
        change = change.set("attempts", attempts);
    }
    if let Some(checkpoint) = &release.checkpoint {
        change = change.set("checkpoint", checkpoint);
    }
    if let Some(reason) = release.waiting {
        let waiting = Waiting {
            reason: Some(reason.into()),
            message: Some(bounded(&release.message).into_owned()),
            since: Some(now),
            extra: Extra::new(),
        };
        change = change.set("waiting", waiting);
    }
    Ok(change)
}

/// The holder gives a task back because of the machinery. What the try came to is written with it: should
/// it have been the last, whoever counts the tries ends the task with that.
pub(crate) fn release_broken(
    task: &Object<AgenticTask>,
    release: &Release,
    outcome: Outcome,
    now: WallTime,
) -> TaskChange {
    Ok(self::release(task, release, now)?.set("outcome", outcome.record()))
}

/// The holder ends a task. With `cut`, what a server may refuse as too large or invalid (the result
/// envelope, the checkpoint) is left out, so that the task still ends.
pub(crate) fn finish(
    task: &Object<AgenticTask>,
    finish: &Finish,
    cut: bool,
    now: WallTime,
) -> TaskChange {
    let phase = if finish.succeeded { TaskPhase::Succeeded } else { TaskPhase::Failed };
    let mut next = task.status.clone();
    next.phase = Some(phase.into());
    next.verdict = Some(finish.verdict.into());
    next.failure_reason = finish.failure_reason.map(Into::into);
    next.outcome = Some(finish.outcome.record());
    let (value, reason) = if finish.succeeded {
        (ConditionStatus::True, "ExecutorSucceeded")
    } else {
        (ConditionStatus::False, "ExecutorError")
    };
    let message = bounded(&finish.message);
    set_condition(&mut next.conditions, "Completed", value, reason, &message, now);
    if finish.outcome.infrastructure == Infrastructure::Cancelled {
        let yes = ConditionStatus::True;
        set_condition(&mut next.conditions, "Cancelled", yes, "UserRequest", &message, now);
    }
    finish_condition(&mut next, &message, now);
    let turn = attempts::turn_reached(&task.status, Some(&finish.usage));
    attempts::close(&mut next.attempts, Closed { ended: ended_as(finish), at: now, turn });
    let usage = charge(&task.status, &mut next.attempts, &finish.usage);
    let mut change = status()
        .set("phase", check(Actor::Agent, &task.status, phase)?)
        .set("verdict", finish.verdict)
        .set("outcome", &next.outcome)
        .set("finishedAt", now)
        .set("conditions", &next.conditions)
        .set("attempts", &next.attempts)
        .set("usage", usage)
        .clear("waiting")
        .clear("session")
        .clear("claimedAt")
        .clear("allowance");
    if let Some(reason) = finish.failure_reason {
        change = change.set("failureReason", reason);
    }
    if let Some(branch) = &finish.branch {
        change = change.set("branch", branch);
    }
    if let Some(commit) = &finish.commit_sha {
        change = change.set("commitSHA", commit);
    }
    if let Some(checkpoint) = finish.checkpoint.as_ref().filter(|_| !cut) {
        change = change.set("checkpoint", checkpoint);
    }
    let small =
        serde_json::to_string(&finish.result).is_ok_and(|json| json.len() <= RESULT_BYTES_MAX);
    Ok(if !cut && small { change.set("result", &finish.result) } else { change })
}

fn ended_as(finish: &Finish) -> AttemptEnd {
    use Infrastructure as I;
    match finish.outcome.infrastructure {
        I::Ok => AttemptEnd::Finished,
        I::Cancelled => AttemptEnd::Cancelled,
        I::TimedOut => AttemptEnd::TimedOut,
        I::NodeLost => AttemptEnd::NodeLost,
        I::SandboxUnavailable
        | I::ModelUnavailable
        | I::ModelContextTruncated
        | I::GitUnavailable
        | I::PushRefused
        | I::Error => AttemptEnd::Infrastructure,
    }
}

/// What the task has spent when its holder tells of its claim: what the holder's journal knows takes the
/// place of what was charged by estimate.
fn charge(status: &AgenticTaskStatus, attempts: &mut [AttemptRecord], now: &Usage) -> Usage {
    let mut before = status.usage.clone().unwrap_or_default();
    let node = status.assigned_node.as_deref().filter(|_| now.estimated == Some(false));
    if let Some(node) = node {
        let (estimated, more) = attempts::settle(attempts, node);
        if estimated > 0 {
            let known = before.prompt_tokens.unwrap_or(0).saturating_sub(estimated).max(0);
            before.prompt_tokens = Some(known);
            before.estimated = more.then_some(true);
        }
    }
    add_usage(Some(&before), now)
}

/// What was spent before and now.
pub(crate) fn add_usage(before: Option<&Usage>, now: &Usage) -> Usage {
    let zero = Usage::default();
    let before = before.unwrap_or(&zero);
    let sum = |a: Option<i64>, b: Option<i64>| match (a, b) {
        (None, None) => None,
        (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
    };
    Usage {
        turns: sum(before.turns, now.turns),
        prompt_tokens: sum(before.prompt_tokens, now.prompt_tokens),
        cached_tokens: sum(before.cached_tokens, now.cached_tokens),
        completion_tokens: sum(before.completion_tokens, now.completion_tokens),
        tool_calls: sum(before.tool_calls, now.tool_calls),
        wall_seconds: sum(before.wall_seconds, now.wall_seconds),
        estimated: before.estimated.or(now.estimated).filter(|estimated| *estimated),
        extra: before.extra.clone(),
    }
}

#[cfg(test)]
#[path = "writes_tests.rs"]
mod tests;
