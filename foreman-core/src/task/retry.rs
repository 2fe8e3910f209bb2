//! Strikes: how often the claims of a task were lost, when it is tried again, and when no more.
//!
//! The operator alone counts. What is counted stands in two annotations that are written *before* the
//! claim is taken back: how many strikes there are, and the claim that the last one was for. So
//! whoever goes on after a crash between the two writes sees that the claim was counted already, and
//! no claim is counted twice. A placement that this mark already names (the task goes to the same node
//! again, and no claim was granted in between) is made only after the mark was taken off that node, so
//! that its loss counts too.

use std::time::Duration;

use super::intake::waited_for;
use super::writes::OperatorEnd;
use crate::bugs::{self, Bug};
use crate::model::NodeName;
use crate::model::agentic_task::{
    AgenticTask, AttemptEnd, AttemptRecord, TaskPhase, WaitingReason,
};
use crate::model::condition::find_condition;
use crate::model::ids::Attempt;
use crate::model::object::Object;
use crate::model::open::Open;
use crate::model::outcome::{FailureReason, Infrastructure, Outcome, Verification};
use crate::model::time::WallTime;
use crate::model::wellknown::{ANNOTATION_CLAIM_EXPIRIES, ANNOTATION_STRUCK};
use crate::timing::{BACKOFF_MAX, BACKOFF_SECONDS_DEFAULT, PROGRESS_TURNS, RETRY_ATTEMPTS_DEFAULT};

/// A claim, as a strike names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Struck {
    /// How many claims had been granted; 0 = none, a placement was lost.
    pub(crate) attempt: Attempt,
    /// The node that held it.
    pub(crate) node: String,
}

/// What is to be written of strikes that are new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counted {
    /// How many strikes there are now.
    pub(crate) strikes: i64,
    /// The last claim that they count.
    pub(crate) struck: Struck,
    /// The nodes that struck just now.
    pub(crate) nodes: Vec<String>,
}

/// How many strikes a task has.
pub(crate) fn strikes(task: &Object<AgenticTask>) -> i64 {
    let text = task.meta.annotations.get(ANNOTATION_CLAIM_EXPIRIES);
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(0).max(0)
}

/// The claim that the last strike was counted for. A number that no claim of the task had yet is
/// nothing that was counted: it would hide every strike to come.
pub(crate) fn struck(task: &Object<AgenticTask>) -> Option<Struck> {
    let text = task.meta.annotations.get(ANNOTATION_STRUCK)?;
    let (attempt, node) = text.split_once('/')?;
    let attempt: Attempt = attempt.parse().ok()?;
    let listed = task.status.attempts.iter().filter_map(|record| record.attempt);
    let granted = listed.chain(task.status.attempt).max().unwrap_or(0);
    (attempt <= granted).then(|| Struck { attempt, node: node.to_owned() })
}

/// Strikes at which a task ends.
pub(crate) fn limit(task: &Object<AgenticTask>) -> i64 {
    let asked = task.spec.retry.as_ref().and_then(|retry| retry.max_attempts);
    i64::from(asked.unwrap_or(RETRY_ATTEMPTS_DEFAULT).max(1))
}

/// The claim or placement that a task in flight has now.
pub(crate) fn present_claim(task: &Object<AgenticTask>) -> Option<Struck> {
    let node = task.status.assigned_node.clone()?;
    Some(Struck { attempt: task.status.attempt.unwrap_or(0), node })
}

/// Whether the present claim was counted already.
pub(crate) fn is_counted(task: &Object<AgenticTask>) -> bool {
    let struck = struck(task);
    struck.is_some() && struck == present_claim(task)
}

/// Whether a placement on that node would look like one that was counted already: nothing tells two
/// placements apart that lie between the same claims on the same node.
pub(crate) fn is_ambiguous(task: &Object<AgenticTask>, node: &NodeName) -> bool {
    let next = Struck { attempt: task.status.attempt.unwrap_or(0), node: node.to_string() };
    struck(task) == Some(next)
}

/// Whether such an end of a claim is a strike. A run that its next life took over was not handed over
/// in good order: then its record would have been closed before.
fn is_strike(ended: AttemptEnd) -> bool {
    match ended {
        AttemptEnd::HandedBack
        | AttemptEnd::NodeLost
        | AttemptEnd::SessionLost
        | AttemptEnd::Missing
        | AttemptEnd::Infrastructure
        | AttemptEnd::Adopted => true,
        AttemptEnd::Finished
        | AttemptEnd::Drained
        | AttemptEnd::Suspended
        | AttemptEnd::Refused
        | AttemptEnd::Cancelled
        | AttemptEnd::TimedOut
        | AttemptEnd::BudgetExhausted => false,
    }
}

/// The next value: a claim that got somewhere makes its strike the first again.
fn next_value(strikes: i64, turns: i64) -> i64 {
    if turns >= PROGRESS_TURNS { 1 } else { strikes.saturating_add(1) }
}

/// The strike for the present claim, which is lost. `turn` is the turn that its holder last showed.
pub(crate) fn count_present(task: &Object<AgenticTask>, turn: Option<i64>) -> Option<Counted> {
    let struck = present_claim(task)?;
    let reached = task.status.attempts.iter().filter_map(|attempt| attempt.turn).max();
    let turns = turn.unwrap_or(0).saturating_sub(reached.unwrap_or(0));
    let nodes = vec![struck.node.clone()];
    Some(Counted { strikes: next_value(strikes(task), turns), struck, nodes })
}

/// Strikes that `attempts[]` tells of and nobody counted yet; absent when there are none.
pub(crate) fn count_ended(task: &Object<AgenticTask>) -> Option<Counted> {
    let status = &task.status;
    let above = struck(task).map(|struck| struck.attempt);
    let in_flight = status.known_phase().is_some_and(TaskPhase::is_in_flight);
    let running = status.known_phase() != Some(TaskPhase::Scheduled);
    let live = status.attempt.filter(|_| in_flight && running);
    let mut counted: Option<Counted> = None;
    let mut reached = None;
    for record in &status.attempts {
        let before = reached;
        reached = reached.max(record.turn);
        let Some(attempt) = record.attempt else { continue };
        let forgets = bugs::on(Bug::StrikeCountedTwice) && strikes(task) < limit(task);
        let named = above.is_some_and(|above| attempt <= above) && !forgets;
        if named || !ended_as_strike(record, live) {
            continue;
        }
        // How far the first one listed came is known only if it is the first of all.
        let before = before.or((attempt == 1).then_some(0)).or(record.turn).unwrap_or(0);
        let turns = record.turn.unwrap_or(0).saturating_sub(before);
        let known = counted.as_ref().map_or_else(|| strikes(task), |counted| counted.strikes);
        let node = record.node.clone().unwrap_or_default();
        let mut nodes = counted.map_or_else(Vec::new, |counted| counted.nodes);
        nodes.push(node.clone());
        let struck = Struck { attempt, node };
        counted = Some(Counted { strikes: next_value(known, turns), struck, nodes });
    }
    counted
}

/// A record that nobody closed is a claim that got lost, unless it is the one that holds.
fn ended_as_strike(record: &AttemptRecord, live: Option<Attempt>) -> bool {
    match record.ended.as_ref() {
        Some(ended) => ended.known().is_some_and(is_strike),
        None => record.attempt != live,
    }
}

/// The end of a task that lost so many claims that it is not tried again. Its work is kept.
pub(crate) fn used_up(task: &Object<AgenticTask>) -> Option<OperatorEnd> {
    let (strikes, limit) = (strikes(task), limit(task));
    (strikes >= limit).then(|| end(task, strikes, limit, None))
}

/// The same for a task in flight: its run was taken over by a next life once too often. A claim that
/// was counted and yet is alive goes on.
pub(crate) fn used_up_in_flight(task: &Object<AgenticTask>) -> Option<OperatorEnd> {
    let now = task.status.attempt?;
    let struck = struck(task)?;
    let adopted = task.status.attempts.iter().any(|record| {
        record.attempt == Some(struck.attempt)
            && record.ended.as_ref().is_some_and(|ended| ended.is(AttemptEnd::Adopted))
    });
    if struck.attempt >= now || !adopted {
        return None;
    }
    used_up(task)
}

/// The end of a task whose present claim is lost and was the last one allowed.
pub(crate) fn end_with_loss(
    task: &Object<AgenticTask>,
    ended: AttemptEnd,
    why: &str,
) -> Option<OperatorEnd> {
    let (strikes, limit) = (strikes(task), limit(task));
    (strikes >= limit).then(|| end(task, strikes, limit, Some((ended, why))))
}

/// What the loss of a claim says of the infrastructure. A life of an agent that is over took its claims
/// with it like a machine; one that is alive and lost a run is at fault itself.
fn infrastructure_of(ended: AttemptEnd) -> Infrastructure {
    match ended {
        AttemptEnd::NodeLost | AttemptEnd::SessionLost | AttemptEnd::Adopted => {
            Infrastructure::NodeLost
        }
        AttemptEnd::HandedBack
        | AttemptEnd::Missing
        | AttemptEnd::Infrastructure
        | AttemptEnd::Finished
        | AttemptEnd::Drained
        | AttemptEnd::Suspended
        | AttemptEnd::Refused
        | AttemptEnd::Cancelled
        | AttemptEnd::TimedOut
        | AttemptEnd::BudgetExhausted => Infrastructure::Error,
    }
}

fn end(
    task: &Object<AgenticTask>,
    strikes: i64,
    limit: i64,
    loss: Option<(AttemptEnd, &str)>,
) -> OperatorEnd {
    let status = &task.status;
    let last = status.attempts.last();
    let ended = last.and_then(|record| record.ended.as_ref());
    let broke = loss.is_none() && ended.is_some_and(|end| end.is(AttemptEnd::Infrastructure));
    if broke {
        let said = find_condition(&status.conditions, "Running").map_or("", |c| c.message.as_str());
        let message = format!(
            "{strikes} of {limit} tries were ended by the infrastructure, the last: {said}"
        );
        let end = failed(Infrastructure::Error, "InfrastructureError", message);
        let outcome = status.outcome.as_ref().map_or(end.outcome, |_| Outcome::of(status));
        return OperatorEnd { outcome, ..end };
    }
    let node = last.and_then(|record| record.node.as_deref()).unwrap_or_default();
    let said = ended.map(|ended| format!("{ended} on node {node}"));
    let last = loss.map(|(_, why)| why.to_owned()).or(said);
    let last = last.map_or_else(String::new, |last| format!(", the last: {last}"));
    let message = format!("{strikes} of {limit} claims were lost{last}");
    let ended = loss.map(|(ended, _)| ended).or(ended.and_then(Open::known));
    let infrastructure = ended.map_or(Infrastructure::NodeLost, infrastructure_of);
    failed(infrastructure, "ClaimExpiryLimitReached", message)
}

fn failed(infrastructure: Infrastructure, reason: &'static str, message: String) -> OperatorEnd {
    let end = OperatorEnd::failed(Verification::NotVerified, infrastructure, reason, message);
    OperatorEnd { failure_reason: Some(FailureReason::InfrastructureError), ..end }
}

/// The pause before the next try: none after the first strike, then doubled each time.
pub(crate) fn pause(task: &Object<AgenticTask>) -> Duration {
    let Some(doublings) = strikes(task).checked_sub(2).filter(|n| *n >= 0) else {
        return Duration::ZERO;
    };
    let seconds = task.spec.retry.as_ref().and_then(|retry| retry.backoff_seconds);
    let seconds = u64::try_from(seconds.unwrap_or(BACKOFF_SECONDS_DEFAULT)).unwrap_or(0);
    let factor = 1_u64 << doublings.min(32);
    Duration::from_secs(seconds.saturating_mul(factor)).min(BACKOFF_MAX)
}

/// How much of the pause is left, with words for it; absent when the task may be tried now.
pub(crate) fn backoff(task: &Object<AgenticTask>, now: WallTime) -> Option<(Duration, String)> {
    if bugs::on(Bug::BackoffForgotten) {
        return None;
    }
    let pause = pause(task);
    let last = task.status.attempts.iter().filter_map(|attempt| attempt.ended_at).max()?;
    // A holder's clock may be ahead of ours: no more than the pause is waited in all.
    let waited = now.since(last).max(waited_for(task, WaitingReason::Backoff, now));
    let left = pause.saturating_sub(waited);
    let message = || {
        let (strikes, limit) = (strikes(task), limit(task));
        format!("{strikes} of {limit} strikes: {} s between two tries", pause.as_secs())
    };
    (!left.is_zero()).then(|| (left, message()))
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
