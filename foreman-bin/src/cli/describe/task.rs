//! The story of a task.

use foreman_core::model::agentic_task::AttemptRecord;
use foreman_core::model::shared::LocalObjectReference;
use foreman_core::model::wellknown::{
    ANNOTATION_CLAIM_EXPIRIES, ANNOTATION_RETRY_OF, LABEL_WORKLOAD,
};
use foreman_core::model::{AgenticTask, Object, WallTime};

use super::events::events;
use super::{Effects, Lines, budget, conditions};
use crate::cli::fleet::Fleet;
use crate::cli::words;
use crate::output;

pub(super) fn text(task: &Object<AgenticTask>, fleet: &Fleet, effects: &Effects) -> String {
    let (spec, status) = (&task.spec, &task.status);
    let mut lines = Lines::default();
    let namespace = task.meta.namespace.as_deref().unwrap_or_default();
    lines.add("Name", format!("{namespace}/{}", task.meta.name));
    let end =
        if task.status.has_ended() { format!(": {}", words::ended(task)) } else { String::new() };
    lines.add("Phase", format!("{}{end}", output::word(&words::phase(task))));
    lines.add_some("Message", task.status.has_ended().then(|| words::end_message(task)).flatten());
    let workload = task.meta.labels.get(LABEL_WORKLOAD);
    lines.add_some("Workload", workload.map(|name| words::clean(name)));
    let agent = spec.agent_ref.as_ref().and_then(LocalObjectReference::named).unwrap_or("none");
    lines.add(
        "Work",
        format!("{} by agent {}", words::clean(&spec.kind.to_string()), words::clean(agent)),
    );
    let prompt = spec.payload.prompt.as_deref().map(words::clean);
    lines.add_some("Prompt", prompt.map(|prompt| format!("{prompt:?}")));
    let repo = spec.payload.repo.as_deref().map(words::clean);
    let base = effects.base.as_deref().map(|base| format!("  base {}", short(base)));
    lines.add_some("Repo", repo.map(|repo| repo + &base.unwrap_or_default()));
    let again = task.meta.annotations.get(ANNOTATION_RETRY_OF);
    lines.add_some("Tries again", again.map(|name| words::clean(name)));
    let goes_on = spec.continues.as_ref().and_then(|continues| continues.task.as_deref());
    lines.add_some("Goes on with", goes_on.map(words::clean));
    lines.add_some("Depends on", (!spec.depends_on.is_empty()).then(|| spec.depends_on.join(", ")));
    if let Some(waiting) = &status.waiting {
        let reason = waiting.reason.as_ref().map(ToString::to_string).unwrap_or_default();
        let since = waiting.since.map(|at| format!(" since {}", output::age(at, fleet.now)));
        let message = words::clean(waiting.message.as_deref().unwrap_or_default());
        lines.add(
            "Waiting",
            format!("{}{}: {message}", words::clean(&reason), since.unwrap_or_default()),
        );
    }
    if let Some(run) = words::run_of(&fleet.nodes, task) {
        lines.add("Run", words::progress(run, fleet.now));
    }
    let attempts = status.attempts.iter().map(|attempt| attempt_line(attempt, fleet.now));
    lines.add_all("Attempts", attempts);
    lines.add_some("Strikes", strikes(task));
    lines.add_some("Spent", status.usage.as_ref().map(words::spent));
    let used = status.usage.as_ref().map_or(0, |usage| {
        usage.prompt_tokens.unwrap_or(0).saturating_add(usage.completion_tokens.unwrap_or(0))
    });
    lines.add_some("Budget", budget(spec.budget.as_ref(), used, status.allowance.unwrap_or(0)));
    let branch = status.branch.as_deref().map(words::clean);
    let commit = status.commit_sha.as_deref().map(|sha| format!(" at {}", short(sha)));
    lines.add_some("Branch", branch.map(|branch| branch + &commit.unwrap_or_default()));
    if let Some(checkpoint) = &status.checkpoint {
        let node = checkpoint.node.as_deref().unwrap_or("an unknown node");
        let turn = checkpoint.turn.map_or_else(String::new, |turn| format!(" after turn {turn}"));
        lines.add("Checkpoint", format!("{}{turn}", words::clean(node)));
    }
    let result = status.result.as_ref().and_then(|result| result.0.get("summary"));
    let summary = result.and_then(|summary| summary.as_str()).map(words::clean);
    lines.add_some("Summary", summary.map(|summary| format!("{summary:?}")));
    lines.add_some("Model", words::model(task));
    lines.add_all("Gate", words::gate(task));
    lines.add("Effects", effects.text());
    lines.add_all("Conditions", conditions(&status.conditions, fleet.now));
    lines.add_all("Events", events([task], fleet.now));
    lines.add("Next", next(task, fleet, effects));
    lines.render()
}

/// How often the machinery failed it; nothing while it held.
fn strikes(task: &Object<AgenticTask>) -> Option<String> {
    let counted = task.meta.annotations.get(ANNOTATION_CLAIM_EXPIRIES)?;
    let counted: u32 = counted.parse().ok().filter(|strikes| *strikes > 0)?;
    let most = task.spec.retry.as_ref().and_then(|retry| retry.max_attempts);
    Some(match most {
        Some(most) => format!("{counted} of {most}, after which it fails"),
        None => counted.to_string(),
    })
}

fn next(task: &Object<AgenticTask>, fleet: &Fleet, effects: &Effects) -> String {
    let name = &task.meta.name;
    let logs = fleet.command(&format!("logs task/{name}"));
    let cancel = fleet.command(&format!("cancel task/{name}"));
    if task.status.has_ended() {
        let (repo, branch) = (task.spec.payload.repo.as_deref(), task.status.branch.as_deref());
        let mut commands = vec![logs];
        commands.extend(words::diff(repo, effects.base.as_deref(), branch));
        if words::finished(task) != "Succeeded" {
            commands.push(fleet.command(&words::retry(task)));
        }
        return commands.join(" | ");
    }
    if task.status.assigned_node.is_some() {
        format!("{logs} -f | {cancel}")
    } else {
        format!("{} | {cancel}", fleet.command(&format!("explain task/{name}")))
    }
}

fn attempt_line(attempt: &AttemptRecord, now: WallTime) -> String {
    let number = attempt.attempt.map_or_else(|| "?".to_owned(), |number| number.to_string());
    let node = words::clean(attempt.node.as_deref().unwrap_or("an unknown node"));
    let end = match (&attempt.ended, attempt.started_at, attempt.ended_at) {
        (Some(ended), Some(from), Some(to)) => {
            format!("{} after {}", words::clean(&ended.to_string()), output::age(from, to))
        }
        (Some(ended), _, _) => words::clean(&ended.to_string()),
        (None, Some(from), _) => format!("running for {}", output::age(from, now)),
        (None, None, _) => "running".to_owned(),
    };
    format!("{number} on {node}: {end}")
}

/// The first characters of a hash, as git shows it.
pub(super) fn short(hash: &str) -> String {
    words::clean(hash).chars().take(7).collect()
}
