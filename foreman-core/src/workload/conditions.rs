//! What a workload's status says of its plan and of what its steps came to.

use std::collections::BTreeSet;

use super::expand::{CoderFailure, DesiredStep, Plan};
use super::rollup::RollUp;
use super::view::StepFacts;
use crate::model::condition::{Condition, ConditionStatus, find_condition, set_condition};
use crate::model::time::WallTime;
use crate::model::workload::{StepRecord, WorkloadPhase};
use crate::task::writes::bounded;

const YES: ConditionStatus = ConditionStatus::True;
const NO: ConditionStatus = ConditionStatus::False;

/// Sets one condition; the message is cut where it is longer than a store takes.
pub(crate) fn set(
    list: &mut Vec<Condition>,
    kind: &str,
    status: ConditionStatus,
    reason: &str,
    message: &str,
    now: WallTime,
) {
    set_condition(list, kind, status, reason, &bounded(message), now);
}

/// What is to be said of the plan: what was left out, what was added, what is ignored.
pub(crate) fn of_plan(
    list: &mut Vec<Condition>,
    plan: &Plan,
    records: &[StepRecord],
    now: WallTime,
) {
    let mut say = |kind: &str, status, reason: &str, message: &str| {
        set(list, kind, status, reason, message, now);
    };
    if let Some((cap, _)) = plan.truncated.first() {
        let left_out: Vec<_> = plan.truncated.iter().map(|(_, what)| what.as_str()).collect();
        say("Truncated", YES, cap.reason(), &format!("spec.maxTasks: {}", left_out.join("; ")));
    }
    if !plan.suppressed.is_empty() {
        let dropped: Vec<_> = plan.suppressed.iter().map(ToString::to_string).collect();
        let message = format!("left out {}", dropped.join(", "));
        say("CloudReviewersSuppressed", YES, "SovereigntyGate", &message);
    }
    if let Some(worst) = plan.coder_escalations.iter().map(|(_, failure)| *failure).min() {
        let reason = match worst {
            CoderFailure::Capability => "BaseCoderCapabilityFailure",
            CoderFailure::Other => "BaseCoderFailureEscalation",
        };
        let changes = plan.coder_escalations.iter().map(|(change, _)| change.as_str());
        let message = format!("a stronger coder works on {}", joined(changes));
        say("CoderEscalationTriggered", YES, reason, &message);
    }
    if !plan.iterations.is_empty() {
        let rounds =
            plan.iterations.iter().map(|(change, round)| format!("{change} round {round}"));
        let message = format!("reviewers asked for changes: {}", joined(rounds));
        say("ReviewIterationTriggered", YES, "ReviewerNoGo", &message);
    }
    if plan.no_base_reviewers {
        let message = "spec.escalationReviewerAgentRefs wait for a NO-GO of reviewerAgentRefs, and there are none";
        say("EscalationTriggered", NO, "NoBaseReviewers", message);
    } else if !plan.review_escalations.is_empty() {
        let message =
            format!("further reviewers look at {}", joined(plan.review_escalations.iter()));
        say("EscalationTriggered", YES, "BaseReviewerNoGo", &message);
    }
    drift(list, &plan.steps, records, now);
}

/// A step that changed after its task was made: the task goes on as it was made.
fn drift(list: &mut Vec<Condition>, steps: &[DesiredStep], records: &[StepRecord], now: WallTime) {
    let facts = StepFacts::of(records);
    let changed = steps.iter().filter(|step| {
        let made_from = facts.record(&step.name).and_then(|record| record.made_from.as_deref());
        made_from.is_some_and(|made_from| made_from != step.fingerprint())
    });
    let changed: Vec<_> = changed.map(|step| step.name.as_str()).collect();
    if !changed.is_empty() {
        let message = format!(
            "changed after their tasks were made, which go on as they were: {}",
            changed.join(", ")
        );
        set(list, "SpecDrift", YES, "StepChanged", &message, now);
    } else if find_condition(list, "SpecDrift").is_some() {
        set(list, "SpecDrift", NO, "AsMade", "", now);
    }
}

fn joined<T: AsRef<str>>(words: impl IntoIterator<Item = T>) -> String {
    let mut text = String::new();
    for word in words {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(word.as_ref());
    }
    text
}

/// What is to be said of what the steps came to so far. `made` = every step has its task.
pub(crate) fn of_roll_up(list: &mut Vec<Condition>, roll_up: &RollUp, made: bool, now: WallTime) {
    let mut say = |kind: &str, status, reason: &str, message: &str| {
        set(list, kind, status, reason, message, now);
    };
    if made {
        say("Planned", YES, "PlannerSucceeded", "every step has its task");
    }
    if !matches!(roll_up.phase, WorkloadPhase::Planning | WorkloadPhase::Planned) {
        say("Dispatched", YES, "ChildrenInFlight", "tasks run or wait for their turn");
    }
    // False from the first roll-up on, as the existing system says it: whoever waits for it gets an
    // answer either way.
    if roll_up.resolved.is_empty() {
        say("CoderAlreadyResolved", NO, "NoAlreadyResolved", "");
    } else {
        let message = joined(roll_up.resolved.iter());
        say("CoderAlreadyResolved", YES, "AlreadyResolved", &message);
    }
    let (Some((good, reason)), Some(finished)) = (roll_up.completed, roll_up.finished) else {
        return;
    };
    let message = roll_up.counts();
    say("Completed", if good { YES } else { NO }, reason, &message);
    say("Finished", YES, finished, &message);
    if !roll_up.needs_verification.is_empty() {
        let names = joined(roll_up.needs_verification.iter());
        say("Unverified", YES, "NeedsVerification", &format!("a person must verify {names}"));
    } else if !roll_up.unverified.is_empty() {
        let names: BTreeSet<_> = roll_up.unverified.iter().map(String::as_str).collect();
        say("Unverified", YES, "NotVerified", &format!("no gate passed for {}", joined(names)));
    } else {
        say("Unverified", NO, "Verified", "nothing went unverified");
    }
}
