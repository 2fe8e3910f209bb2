//! Fix rounds: what reviewers rejected goes back to the coder, with what they found.

use std::fmt::Write as _;

use super::expand::{Cap, DesiredStep, Offers, PlanError, Role, Round, Strand};
use super::view::{StepFacts, WorkloadView, is_no_go, named};
use crate::model::agentic_task::{AgenticTaskPayload, BranchStrategy, TaskKind};
use crate::model::open::Open;
use crate::model::shared::LocalObjectReference;
use crate::timing::REVIEW_ITERATIONS_DEFAULT;

/// How many fix rounds a change gets. A pipeline gets them only where the spec asks for them: the
/// existing system gives it none, and an old manifest must go on to mean the same.
fn rounds_max(view: WorkloadView<'_>) -> i32 {
    let absent = if view.spec.pipeline.is_empty() { REVIEW_ITERATIONS_DEFAULT } else { 0 };
    view.spec.max_review_iterations.unwrap_or(absent)
}

/// Gives the steps of a pipeline their parts, if they are one change: one step that codes, at most
/// one that verifies it, and reviews of that. Every other pipeline is left alone.
pub(super) fn recognise(steps: &mut [DesiredStep]) {
    let roles: Option<Vec<Role>> = steps.iter().map(|step| role(&step.kind)).collect();
    let Some(roles) = roles else { return };
    let of = |wanted: Role| -> Vec<&DesiredStep> {
        let both = steps.iter().zip(&roles);
        both.filter(|(_, role)| **role == wanted).map(|(step, _)| step).collect()
    };
    let (coders, gates, reviews) = (of(Role::Coder), of(Role::Verify), of(Role::Review));
    let [coder] = coders.as_slice() else { return };
    let before_review = match gates.as_slice() {
        [] => coder,
        [gate] if gate.depends_on == [coder.name.clone()] => gate,
        _ => return,
    };
    let in_place = |review: &&DesiredStep| {
        review.depends_on.contains(&before_review.name)
            && review
                .depends_on
                .iter()
                .all(|name| *name == before_review.name || *name == coder.name)
    };
    if !coder.depends_on.is_empty() || reviews.is_empty() || !reviews.iter().all(in_place) {
        return;
    }
    let change = coder.payload.issue.map_or_else(|| coder.name.clone(), |it| format!("#{it}"));
    for (step, role) in steps.iter_mut().zip(roles) {
        step.strand = Some(Strand { change: change.clone(), round: Round::Base, role });
    }
}

fn role(kind: &Open<TaskKind>) -> Option<Role> {
    match kind.known()? {
        TaskKind::IssueFix | TaskKind::Freeform => Some(Role::Coder),
        TaskKind::Verify => Some(Role::Verify),
        TaskKind::Review => Some(Role::Review),
        TaskKind::Integrate | TaskKind::Reconcile => None,
    }
}

/// Adds the fix rounds that are due: round k when every review of the round before has ended and one
/// of them was a NO-GO.
pub(super) fn rounds(offers: &mut Offers<'_>) -> Result<(), PlanError> {
    let max = rounds_max(offers.view);
    let base: Vec<Strand> = offers
        .plan
        .steps
        .iter()
        .filter_map(|step| step.strand.clone())
        .filter(|strand| strand.round == Round::Base && strand.role == Role::Coder)
        .collect();
    for Strand { change, .. } in base {
        // A stronger coder goes on alone: no new round, but what was begun stays.
        let escalated = is_escalated(offers, &change);
        let mut last = None;
        for number in 1..=max {
            let before = if number == 1 { Round::Base } else { Round::Fix(number - 1) };
            let Some(set) = round(offers, &change, before, number) else { break };
            let begun = set.iter().any(|step| offers.facts.is_recorded(&step.name));
            if escalated && !begun {
                break;
            }
            if !offers.offer(set, Cap::Iteration)? {
                break;
            }
            last = Some(number);
        }
        offers.plan.iterations.extend(last.map(|number| (change, number)));
    }
    Ok(())
}

fn is_escalated(offers: &Offers<'_>, change: &str) -> bool {
    offers.plan.coder_escalations.iter().any(|(escalated, _)| escalated == change)
}

/// The steps of fix round `number`, if the round before it calls for one.
fn round(
    offers: &Offers<'_>,
    change: &str,
    before: Round,
    number: i32,
) -> Option<Vec<DesiredStep>> {
    let (view, facts) = (offers.view, offers.facts);
    let of_round = |round: Round| {
        offers.plan.steps.iter().filter(move |step| {
            step.strand.as_ref().is_some_and(|it| it.change == change && it.round == round)
        })
    };
    let reviews: Vec<&str> = of_round(before)
        .filter(|step| step.is_review_of(change, before))
        .map(|step| step.name.as_str())
        .collect();
    if !facts.rejected(reviews.iter().copied()) {
        return None;
    }
    let is_coder =
        |step: &&DesiredStep| step.strand.as_ref().is_some_and(|strand| strand.role == Role::Coder);
    let last_coder = of_round(before).find(is_coder)?;
    // Where the coder chose the branch itself, its record names it.
    let own = last_coder.payload.branch.clone().filter(|branch| !branch.is_empty());
    let noted = || facts.settled(&last_coder.name)?.notes.as_ref()?.branch.clone();
    let branch = own.or_else(noted)?;
    let name = |step: &str| format!("{step}-r{number}");
    let steps = of_round(Round::Base).map(|step| {
        let mut next = step.clone();
        next.name = name(&step.name);
        next.depends_on = step.depends_on.iter().map(|it| name(it)).collect();
        next.payload.branch = Some(branch.clone());
        if let Some(strand) = &mut next.strand {
            strand.round = Round::Fix(number);
            if strand.role == Role::Coder {
                let revision = named(view.spec.revision_coder_agent_ref.as_ref());
                next.agent_ref = revision.map_or(step.agent_ref.clone(), LocalObjectReference::to);
                next.payload = revised(&step.payload, &branch, told(facts, &reviews));
                next.continues = Some(last_coder.name.clone());
            }
        }
        next
    });
    Some(steps.collect())
}

/// The coder's work in a fix round: what it was asked first stands before what the reviewers found.
fn revised(first: &AgenticTaskPayload, branch: &str, prompt: String) -> AgenticTaskPayload {
    let asked = [&first.prompt_prefix, &first.prompt].into_iter().flatten();
    let asked: Vec<_> = asked.map(String::as_str).filter(|text| !text.trim().is_empty()).collect();
    AgenticTaskPayload {
        allow_overwrite: Some(true),
        branch: Some(branch.to_owned()),
        branch_strategy: Some(BranchStrategy::Rebase.into()),
        prompt: Some(prompt),
        prompt_prefix: (!asked.is_empty()).then(|| asked.join("\n\n")),
        revise_from_branch: Some(branch.to_owned()),
        ..first.clone()
    }
}

/// What the coder is told: each rejecting reviewer's summary and findings.
fn told(facts: &StepFacts<'_>, reviews: &[&str]) -> String {
    let mut text =
        "Reviewers read your change and did not approve it. Deal with each finding: fix it, \
        or say in the summary of your next submission why it is none. Then submit again."
            .to_owned();
    let rejecting = reviews.iter().filter_map(|name| facts.settled(name));
    for record in rejecting.filter(|record| is_no_go(record)) {
        let _infallible = write!(text, "\n\nFrom {}:", record.name);
        let notes = record.notes.clone().unwrap_or_default();
        if notes.summary.is_none() && notes.findings.is_empty() {
            text.push_str(
                "\nIt was rejected without a reason: read the change again as a reviewer would.",
            );
        }
        if let Some(summary) = notes.summary {
            let _infallible = write!(text, "\n{summary}");
        }
        for finding in notes.findings {
            let _infallible = write!(text, "\n- {finding}");
        }
    }
    text
}
