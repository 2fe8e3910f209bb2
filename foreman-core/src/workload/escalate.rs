//! Escalation: a stronger coder for what the first could not do, and further reviewers for what the
//! first ones rejected.

use super::batch;
use super::expand::{Cap, CoderFailure, DesiredStep, Offers, PlanError, Role, Round};
use super::view::named;
use crate::model::agentic_task::{AgenticTaskPayload, TaskKind, TaskPhase};
use crate::model::open::Open;
use crate::model::outcome::{Infrastructure, OutcomeReason, Verdict};
use crate::model::workload::StepRecord;

/// Why a coder's end calls for a stronger one; absent = it does not.
fn failure(record: &StepRecord, on_failure: bool) -> Option<CoderFailure> {
    let reason = record.reason.as_ref();
    let is = |wanted| reason.is_some_and(|reason| reason.is(wanted));
    if is(OutcomeReason::AlreadyResolved) || is(OutcomeReason::NeedsVerification) {
        return None;
    }
    let word = record.notes.as_ref().and_then(|notes| notes.outcome.as_deref()).unwrap_or("");
    // Our own agents say more in the outcome than in the old word.
    let decided = matches!(word, "MODEL-DECIDED" | "")
        && reason.is_none_or(|reason| reason.is(OutcomeReason::Declined));
    let verdict = record.verdict.as_ref().and_then(Open::known);
    let ended = record.phase.as_ref().is_some_and(|phase| phase.is(TaskPhase::Succeeded));
    let held = record.infrastructure.as_ref().is_none_or(|it| it.is(Infrastructure::Ok));
    if is(OutcomeReason::GateFailed) && word != "ENVTEST-GATE-FAILED" {
        return Some(CoderFailure::Capability);
    }
    if ended && verdict == Some(Verdict::NoGo) && decided {
        return Some(CoderFailure::Capability);
    }
    let stuck = is(OutcomeReason::StuckLoop) || word == "ERROR";
    let gave_up = ended && held && verdict == Some(Verdict::Incomplete) && decided;
    (on_failure && (stuck || gave_up)).then_some(CoderFailure::Other)
}

/// Adds a stronger coder's try at each issue whose first coder failed so: once an issue.
pub(super) fn coders(offers: &mut Offers<'_>) -> Result<(), PlanError> {
    let (view, facts) = (offers.view, offers.facts);
    let Some(coder) = named(view.spec.escalation_coder_agent_ref.as_ref()) else { return Ok(()) };
    if !view.spec.pipeline.is_empty() {
        return Ok(());
    }
    for issue in batch::issues(view) {
        let Some(record) = facts.settled(&format!("code-{issue}")) else { continue };
        let on_failure = view.spec.escalate_on_failure == Some(true);
        let Some(failure) = failure(record, on_failure) else { continue };
        let summary = record.notes.as_ref().and_then(|notes| notes.summary.as_deref());
        let hint = format!(
            "Another coder tried this before and did not succeed. What it said: {}",
            summary.unwrap_or("nothing")
        );
        let payload = AgenticTaskPayload {
            allow_overwrite: view.spec.allow_overwrite,
            prompt_prefix: Some(format!("{}\n\n{hint}", view.spec.intent)),
            ..batch::about(view, issue, Round::Escalated)
        };
        let set = batch::chain(view, issue, Round::Escalated, coder, payload);
        if offers.offer(set, Cap::CoderEscalation)? {
            offers.plan.coder_escalations.push((batch::change(issue), failure));
        }
    }
    Ok(())
}

/// Adds further reviewers of each issue whose reviews, of the round that counts, have all ended with
/// at least one NO-GO. They wait for nothing, open no pull request, and change no verdict.
pub(super) fn reviewers(offers: &mut Offers<'_>) -> Result<(), PlanError> {
    let (view, facts) = (offers.view, offers.facts);
    let wanted: Vec<_> = batch::reviewers(&view.spec.escalation_reviewer_agent_refs).collect();
    if wanted.is_empty() || !view.spec.pipeline.is_empty() {
        return Ok(());
    }
    if batch::reviewers(&view.spec.reviewer_agent_refs).next().is_none() {
        offers.plan.no_base_reviewers = true;
        return Ok(());
    }
    for issue in batch::issues(view) {
        let change = batch::change(issue);
        let strand = |step: &DesiredStep| step.strand.clone().filter(|it| it.change == change);
        let rounds = offers.plan.steps.iter().filter_map(strand).map(|strand| strand.round);
        let Some(round) = rounds.max() else { continue };
        let reviews: Vec<&str> = offers
            .plan
            .steps
            .iter()
            .filter(|step| step.is_review_of(&change, round))
            .map(|step| step.name.as_str())
            .collect();
        let name = |index: usize| format!("escalate-{issue}-{index}");
        let asked = wanted.iter().any(|(index, _)| facts.is_recorded(&name(*index)));
        // The stronger coder's reviews are the last word, but what was asked before goes on.
        let last = round == Round::Escalated;
        if !asked && (last || !facts.rejected(reviews.iter().copied())) {
            continue;
        }
        let set = wanted.iter().map(|(index, reviewer)| {
            let payload = batch::about(view, issue, round);
            let part = (issue, Round::SecondTier, Role::Review);
            batch::step(view, &name(*index), TaskKind::Review, reviewer, payload, part)
        });
        let set = set.collect();
        if offers.offer(set, Cap::Escalation)? {
            offers.plan.review_escalations.push(change);
        }
    }
    Ok(())
}
