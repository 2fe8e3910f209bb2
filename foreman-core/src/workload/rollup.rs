//! Roll-up: from what the steps came to, to what the workload came to.

use std::collections::BTreeSet;

use super::expand::{DesiredStep, Plan, Role};
use super::notes;
use crate::bugs::{self, Bug};
use crate::model::agentic_task::{AgenticTask, TaskPhase};
use crate::model::object::Object;
use crate::model::open::Open;
use crate::model::outcome::{Infrastructure, Outcome, OutcomeReason, Verdict, Verification};
use crate::model::workload::{StepRecord, StepSpent, WorkloadPhase};
use crate::task::budget;

/// The record of a step with what its task shows now folded in. `settled` stays once it is true,
/// and a settled record never changes again.
pub(crate) fn fold(record: &StepRecord, child: Option<&Object<AgenticTask>>) -> StepRecord {
    let Some(child) = child.filter(|_| record.settled != Some(true)) else {
        return record.clone();
    };
    let status = &child.status;
    let settled = status.has_ended();
    let outcome = settled.then(|| Outcome::of(status));
    StepRecord {
        name: record.name.clone(),
        task: record.task.clone(),
        uid: Some(child.meta.uid.to_string()),
        phase: status.phase.clone(),
        verdict: status.verdict.clone(),
        reason: outcome.and_then(|outcome| outcome.reason).map(Into::into),
        verification: outcome.map(|outcome| outcome.verification.into()),
        infrastructure: outcome.map(|outcome| outcome.infrastructure.into()),
        settled: settled.then_some(true),
        made_from: record.made_from.clone(),
        notes: if settled { notes::of(status) } else { None },
        spent: spent(record, child),
        spent_before: spent_before(record, child),
        extra: record.extra.clone(),
    }
}

/// What is known for good of what a step's task spent. While a run is under way its task says more, and
/// a record is not written for each turn.
fn spent(record: &StepRecord, child: &Object<AgenticTask>) -> Option<StepSpent> {
    let status = &child.status;
    let known = record.spent.clone().filter(|_| !is_another(record, child));
    let in_flight = status.known_phase().is_some_and(TaskPhase::is_in_flight);
    if in_flight && child.meta.deletion_timestamp.is_none() {
        return known;
    }
    let Some(usage) = &status.usage else { return known };
    let more_than_none = |number: i64| Some(number).filter(|number| *number > 0);
    let spent = StepSpent {
        tokens: more_than_none(budget::tokens(Some(usage))),
        turns: usage.turns.and_then(more_than_none),
        wall_seconds: usage.wall_seconds.and_then(more_than_none),
        extra: known.map(|spent| spent.extra).unwrap_or_default(),
    };
    Some(spent).filter(|spent| *spent != StepSpent::default())
}

/// Whether the task is another one than the record knows: the former is gone.
fn is_another(record: &StepRecord, child: &Object<AgenticTask>) -> bool {
    record.uid.as_deref().is_some_and(|uid| uid != child.meta.uid.as_str())
}

fn spent_before(record: &StepRecord, child: &Object<AgenticTask>) -> Option<StepSpent> {
    if !is_another(record, child) {
        return record.spent_before.clone();
    }
    let [tokens, turns, seconds] =
        budget::spent_by_record(record).map(|n| Some(n).filter(|n| *n > 0));
    let extra = record.spent_before.as_ref().map(|spent| spent.extra.clone()).unwrap_or_default();
    let spent = StepSpent { tokens, turns, wall_seconds: seconds, extra };
    Some(spent).filter(|spent| *spent != StepSpent::default())
}

/// What one settled step counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bucket {
    Succeeded,
    /// Counted nowhere: nothing was left to do.
    Resolved,
    /// Counted nowhere: the step before it found nothing left to do.
    Skipped,
    Incomplete,
    Failed,
    InFlight,
}

fn bucket(record: &StepRecord) -> Bucket {
    if record.settled != Some(true) {
        return Bucket::InFlight;
    }
    let verdict = record.verdict.as_ref().and_then(Open::known);
    let phase = record.phase.as_ref().and_then(Open::known);
    let resolved = record.reason.as_ref().is_some_and(|r| r.is(OutcomeReason::AlreadyResolved));
    match (phase, verdict) {
        (Some(TaskPhase::Succeeded), Some(Verdict::Go | Verdict::GatePass)) => Bucket::Succeeded,
        (Some(TaskPhase::Succeeded), Some(Verdict::Skipped)) => Bucket::Skipped,
        (Some(TaskPhase::Succeeded), _) if resolved => Bucket::Resolved,
        (Some(TaskPhase::Succeeded), _) => Bucket::Incomplete,
        _ => Bucket::Failed,
    }
}

/// What a workload's steps came to so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RollUp {
    pub(crate) phase: WorkloadPhase,
    pub(crate) succeeded: i32,
    pub(crate) failed: i32,
    pub(crate) incomplete: i32,
    /// The reason of `Completed`, once all steps are settled.
    pub(crate) completed: Option<(bool, &'static str)>,
    /// The reason of `Finished`, once all steps are settled.
    pub(crate) finished: Option<&'static str>,
    /// Steps whose work ended on target but was not verified.
    pub(crate) unverified: Vec<String>,
    /// Steps whose coder says that a person must verify.
    pub(crate) needs_verification: Vec<String>,
    /// Changes in which nothing was left to do: `#7`, or a step's name.
    pub(crate) resolved: Vec<String>,
}

impl RollUp {
    /// The counts in words.
    pub(crate) fn counts(&self) -> String {
        let Self { succeeded, failed, incomplete, .. } = self;
        format!("{succeeded} succeeded, {failed} failed, {incomplete} incomplete")
    }
}

/// Rolls the steps up. Terminal only when every step that should have run is settled, and every step
/// that was ever made. Steps that a later round stands for, and those that the spec no longer has,
/// count nowhere.
pub(crate) fn roll_up(records: &[StepRecord], plan: &Plan) -> RollUp {
    let hidden = plan.hidden();
    let wanted: BTreeSet<&str> = plan.steps.iter().map(|step| step.name.as_str()).collect();
    let steps: Vec<&StepRecord> = records
        .iter()
        .filter(|step| wanted.contains(step.name.as_str()) && !hidden.contains(step.name.as_str()))
        .collect();
    let count = |wanted: Bucket| {
        i32::try_from(steps.iter().filter(|step| bucket(step) == wanted).count())
            .unwrap_or(i32::MAX)
    };
    let (succeeded, failed, incomplete) =
        (count(Bucket::Succeeded), count(Bucket::Failed), count(Bucket::Incomplete));
    let settled = records.iter().filter(|step| bucket(step) != Bucket::InFlight);
    let settled: BTreeSet<&str> = settled.map(|step| step.name.as_str()).collect();
    let all_settled = records.iter().all(|step| bucket(step) != Bucket::InFlight)
        && wanted.iter().all(|name| settled.contains(name));
    let early = bugs::on(Bug::CompletesUnsettled)
        && !settled.is_empty()
        && settled.len() + 1 == wanted.len();
    let all_settled = all_settled || early;
    let completed = all_settled.then_some(match (failed, incomplete, succeeded) {
        (0, 0, 0) => (true, "AllAlreadyResolved"),
        (0, 0, _) => (true, "AllChildrenSucceeded"),
        (0, _, _) => (false, "ChildrenIncomplete"),
        _ => (false, "ChildrenFailed"),
    });
    let phase = match completed {
        Some((true, _)) => WorkloadPhase::Completed,
        Some((false, _)) => WorkloadPhase::Failed,
        // Not only once a task runs: the existing system counts one that waits as in flight, too. Why it
        // waits stands on the task.
        None if records.iter().any(|step| step.phase.is_some()) => WorkloadPhase::Dispatched,
        None => WorkloadPhase::Planned,
    };
    let needs = |step: &&&StepRecord| {
        bucket(step) == Bucket::Incomplete
            && step.reason.as_ref().is_some_and(|it| it.is(OutcomeReason::NeedsVerification))
    };
    RollUp {
        phase,
        succeeded,
        failed,
        incomplete,
        completed,
        finished: completed.map(|(good, _)| finished(&steps, good)),
        unverified: unverified(&steps, &plan.steps),
        needs_verification: steps.iter().filter(needs).map(|step| step.name.clone()).collect(),
        resolved: resolved(records, plan),
    }
}

/// The changes whose coder found nothing left to do, each once.
pub(crate) fn resolved(records: &[StepRecord], plan: &Plan) -> Vec<String> {
    let mut changes = Vec::new();
    for step in &plan.steps {
        let found = records
            .iter()
            .any(|record| record.name == step.name && bucket(record) == Bucket::Resolved);
        let change = match &step.strand {
            Some(strand) if strand.role == Role::Coder => strand.change.clone(),
            Some(_) => continue,
            None => {
                step.payload.issue.map_or_else(|| step.name.clone(), |issue| format!("#{issue}"))
            }
        };
        if found && !changes.contains(&change) {
            changes.push(change);
        }
    }
    changes
}

fn finished(steps: &[&StepRecord], good: bool) -> &'static str {
    let broken = |wanted: fn(Infrastructure) -> bool| {
        steps.iter().any(|step| {
            step.infrastructure
                .as_ref()
                .is_some_and(|i| wanted(i.known().unwrap_or(Infrastructure::Error)))
        })
    };
    if good {
        "Succeeded"
    } else if broken(|one| one == Infrastructure::Cancelled) {
        "Cancelled"
    } else if broken(|one| one != Infrastructure::Ok) {
        "Infrastructure"
    } else {
        "NotOnTarget"
    }
}

/// Work that ended on target without a gate that passed, unless a step that verifies it (one after
/// it) did pass. A word that this version does not know is no verification.
fn unverified(steps: &[&StepRecord], desired: &[DesiredStep]) -> Vec<String> {
    let covered = verified_by_later_steps(steps, desired);
    let passed = |step: &&&StepRecord| {
        step.verification.as_ref().is_some_and(|verification| {
            verification.is(Verification::Passed) || verification.is(Verification::NotApplicable)
        })
    };
    steps
        .iter()
        .filter(|step| bucket(step) == Bucket::Succeeded && !passed(step))
        .filter(|step| !covered.contains(step.name.as_str()))
        .map(|step| step.name.clone())
        .collect()
}

/// The steps before those whose gate passed.
fn verified_by_later_steps<'a>(
    steps: &[&StepRecord],
    desired: &'a [DesiredStep],
) -> BTreeSet<&'a str> {
    let gate_passed = |name: &str| {
        steps.iter().any(|step| {
            step.name == name
                && bucket(step) == Bucket::Succeeded
                && step.verdict.as_ref().is_some_and(|verdict| verdict.is(Verdict::GatePass))
                && step.verification.as_ref().is_some_and(|v| v.is(Verification::Passed))
        })
    };
    let gates = desired.iter().filter(|step| gate_passed(&step.name));
    let mut open: Vec<&str> =
        gates.flat_map(|step| step.depends_on.iter().map(String::as_str)).collect();
    let mut covered = BTreeSet::new();
    while let Some(name) = open.pop() {
        if covered.insert(name) {
            let before = desired.iter().filter(|step| step.name == name);
            open.extend(before.flat_map(|step| step.depends_on.iter().map(String::as_str)));
        }
    }
    covered
}

#[cfg(test)]
#[path = "rollup_tests.rs"]
mod tests;
