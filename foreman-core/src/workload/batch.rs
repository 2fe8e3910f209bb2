//! Issue batches: the steps for each issue.

use std::collections::BTreeSet;

use super::expand::{DesiredStep, PlanError, Role, Round, Strand};
use super::view::{WorkloadView, named};
use crate::model::agentic_task::{AgenticTaskPayload, TaskKind};
use crate::model::shared::LocalObjectReference;

/// The name of the change for an issue.
pub(super) fn change(issue: i32) -> String {
    format!("#{issue}")
}

/// The issues of a batch, each once.
pub(super) fn issues(view: WorkloadView<'_>) -> Vec<i32> {
    let mut seen = BTreeSet::new();
    view.spec.issues.iter().copied().filter(|issue| seen.insert(*issue)).collect()
}

/// The steps that a batch begins with.
pub(super) fn base(view: WorkloadView<'_>) -> Result<Vec<DesiredStep>, PlanError> {
    let spec = view.spec;
    let coder = named(spec.coder_agent_ref.as_ref()).filter(|_| !spec.issues.is_empty());
    let Some(coder) = coder else {
        return Err(match &spec.planner {
            Some(_) if spec.issues.is_empty() => PlanError::Unsupported { field: "spec.planner" },
            Some(_) | None => PlanError::NoPlannerOrPipeline,
        });
    };
    let mut steps = Vec::new();
    for issue in issues(view) {
        if issue < 1 {
            return Err(PlanError::NoSuchIssue { number: issue });
        }
        let payload = AgenticTaskPayload {
            allow_overwrite: spec.allow_overwrite,
            prompt_prefix: Some(spec.intent.clone()),
            ..about(view, issue, Round::Base)
        };
        steps.extend(chain(view, issue, Round::Base, coder, payload));
    }
    Ok(steps)
}

/// The branch of a try at an issue.
pub(super) fn branch(view: WorkloadView<'_>, issue: i32, round: Round) -> String {
    let suffix = match round {
        Round::Base | Round::Fix(_) | Round::SecondTier => "",
        Round::Escalated => "-esc",
    };
    format!("foreman/{}/issue-{issue}{suffix}", view.name)
}

/// What every step of a try at an issue is about.
pub(super) fn about(view: WorkloadView<'_>, issue: i32, round: Round) -> AgenticTaskPayload {
    AgenticTaskPayload {
        repo: view.spec.repo.clone(),
        issue: Some(issue),
        branch: Some(branch(view, issue, round)),
        ..AgenticTaskPayload::default()
    }
}

/// Code, verification and reviews of one try at an issue: the first, or the stronger coder's.
pub(super) fn chain(
    view: WorkloadView<'_>,
    issue: i32,
    round: Round,
    coder: &str,
    coding: AgenticTaskPayload,
) -> Vec<DesiredStep> {
    let spec = view.spec;
    let suffix = if round == Round::Escalated { "-esc" } else { "" };
    let code = format!("code-{issue}{suffix}");
    let verify = format!("verify-{issue}{suffix}");
    let mut steps =
        vec![step(view, &code, TaskKind::IssueFix, coder, coding, (issue, round, Role::Coder))];
    let mut last = code;
    if let Some(verifier) = named(spec.verifier_agent_ref.as_ref()) {
        let payload = about(view, issue, round);
        let part = (issue, round, Role::Verify);
        let mut step = step(view, &verify, TaskKind::Verify, verifier, payload, part);
        step.depends_on = vec![last];
        steps.push(step);
        last = verify;
    }
    for (index, reviewer) in reviewers(&spec.reviewer_agent_refs) {
        let payload = AgenticTaskPayload {
            open_pull_request: Some(spec.open_pull_request.unwrap_or(true)),
            ..about(view, issue, round)
        };
        let name = format!("review-{issue}{suffix}-{index}");
        let part = (issue, round, Role::Review);
        let mut step = step(view, &name, TaskKind::Review, reviewer, payload, part);
        step.depends_on = vec![last.clone()];
        steps.push(step);
    }
    steps
}

/// The reviewers that are named, each with its place in the list.
pub(super) fn reviewers(
    references: &[LocalObjectReference],
) -> impl Iterator<Item = (usize, &str)> {
    let numbered = references.iter().enumerate();
    numbered.filter_map(|(index, reference)| Some((index, reference.named()?)))
}

/// One step for an issue.
pub(super) fn step(
    view: WorkloadView<'_>,
    name: &str,
    kind: TaskKind,
    agent: &str,
    payload: AgenticTaskPayload,
    (issue, round, role): (i32, Round, Role),
) -> DesiredStep {
    let spec = view.spec;
    DesiredStep {
        name: name.to_owned(),
        kind: kind.into(),
        agent_ref: LocalObjectReference::to(agent),
        payload,
        depends_on: Vec::new(),
        timeout_seconds: None,
        priority: None,
        gate_profile: spec.gate_profile.clone(),
        mcp_enabled: spec.mcp_enabled,
        verdict_policy: spec.verdict_policy.clone(),
        continues: None,
        strand: Some(Strand { change: change(issue), round, role }),
    }
}
