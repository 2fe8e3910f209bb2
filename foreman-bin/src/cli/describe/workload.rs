//! The story of a workload.

use foreman_core::model::condition::{find_condition, is_true};
use foreman_core::model::{AgenticTask, Key, Object, Workload};

use super::events::events;
use super::task::short;
use super::{Effects, Lines, budget, conditions};
use crate::cli::fleet::Fleet;
use crate::cli::words;
use crate::output;

/// The tasks of a workload that are there, in the order of its steps.
pub(super) fn tasks<'f>(
    workload: &'f Object<Workload>,
    fleet: &'f Fleet,
) -> impl Iterator<Item = &'f Object<AgenticTask>> {
    workload.status.steps.iter().filter_map(|step| {
        let name = step.task.clone()?;
        fleet.tasks.get(&Key { namespace: workload.meta.namespace.clone(), name })
    })
}

pub(super) fn text(workload: &Object<Workload>, fleet: &Fleet, effects: &Effects) -> String {
    let (spec, status) = (&workload.spec, &workload.status);
    let mut lines = Lines::default();
    let namespace = workload.meta.namespace.as_deref().unwrap_or_default();
    lines.add("Name", format!("{namespace}/{}", workload.meta.name));
    lines.add("Finished", finished(workload));
    lines.add("Intent", format!("{:?}", words::clean(&spec.intent)));
    let repo = repo(workload);
    let base = effects.base.as_deref().map(|base| format!("  base {}", short(base)));
    lines.add_some("Repo", repo.map(|repo| words::clean(repo) + &base.unwrap_or_default()));
    lines.add_all("Steps", status.steps.iter().map(|step| step_line(workload, step, fleet)));
    let told: Vec<_> = tasks(workload, fleet).collect();
    lines.add_some("Model", told.iter().find_map(|task| words::model(task)));
    let judged = told.iter().rev().find(|task| !words::gate(task).is_empty());
    lines.add_all("Gate", judged.into_iter().flat_map(|task| words::gate(task)));
    lines.add_some("Fix rounds", rounds(workload));
    let attempts = tasks(workload, fleet).filter_map(|task| {
        let attempts = task.status.attempt.filter(|attempts| *attempts > 1)?;
        Some(format!("{} took {attempts} attempts", task.meta.name))
    });
    let attempts: Vec<_> = attempts.collect();
    lines.add(
        "Attempts",
        if attempts.is_empty() { "no repeats".to_owned() } else { attempts.join(", ") },
    );
    let (mut used, mut reserved) = (0_i64, 0_i64);
    for task in tasks(workload, fleet) {
        if let Some(usage) = &task.status.usage {
            let sent = usage.prompt_tokens.unwrap_or(0);
            used = used.saturating_add(sent).saturating_add(usage.completion_tokens.unwrap_or(0));
        }
        if !task.status.has_ended() {
            reserved = reserved.saturating_add(task.status.allowance.unwrap_or(0));
        }
    }
    let plain = format!("{} tokens spent, no limit", words::tokens(used));
    lines.add("Budget", budget(spec.budget.as_ref(), used, reserved).unwrap_or(plain));
    lines.add("Effects", effects.text());
    let branches: Vec<_> =
        tasks(workload, fleet).filter_map(|task| task.status.branch.as_deref()).collect();
    lines.add_some("Branch", branches.last().map(|branch| words::clean(branch)));
    lines.add_all("Conditions", conditions(&status.conditions, fleet.now));
    lines.add_all("Events", events(tasks(workload, fleet), fleet.now));
    lines.add("Next", next(workload, fleet, effects, branches.last().copied()));
    lines.render()
}

/// How often a reviewer's findings went back to the coder; nothing where they never do.
fn rounds(workload: &Object<Workload>) -> Option<String> {
    let done = workload.status.review_iterations.unwrap_or(0);
    let spec = &workload.spec;
    // A batch gets one round where nothing is said, a pipeline none.
    let absent = i32::from(spec.pipeline.is_empty() && !spec.reviewer_agent_refs.is_empty());
    let most = spec.max_review_iterations.unwrap_or(absent);
    match (done, most) {
        (..=0, ..=0) => None,
        (..=0, most) => Some(format!("none so far, up to {most}")),
        (done, ..=0) => Some(done.to_string()),
        (done, most) => Some(format!("{done} of {most}")),
    }
}

/// The repository: of an issue batch, else of the first step.
fn repo(workload: &Object<Workload>) -> Option<&str> {
    let spec = &workload.spec;
    spec.repo.as_deref().or_else(|| spec.pipeline.first()?.payload.repo.as_deref())
}

/// The one answer: `Succeeded (verified)`, `no, 1 of 3 steps settled`.
fn finished(workload: &Object<Workload>) -> String {
    let status = &workload.status;
    if !is_true(&status.conditions, "Finished") {
        let settled = status.steps.iter().filter(|step| step.settled == Some(true)).count();
        let phase = status
            .phase
            .as_ref()
            .map_or_else(|| "New".to_owned(), |phase| words::clean(&phase.to_string()));
        return format!(
            "no; {}, {settled} of {} steps settled",
            output::word(&phase),
            status.steps.len()
        );
    }
    let reason =
        find_condition(&status.conditions, "Finished").map(|found| words::clean(&found.reason));
    let reason = reason.unwrap_or_default();
    let verified = match (reason.as_str(), is_true(&status.conditions, "Unverified")) {
        ("Succeeded", false) => " (verified)",
        ("Succeeded", true) => " (not verified)",
        _ => "",
    };
    format!("{}{verified}", output::word(&reason))
}

fn step_line(
    workload: &Object<Workload>,
    step: &foreman_core::model::workload::StepRecord,
    fleet: &Fleet,
) -> String {
    let name = words::clean(&step.name);
    let task = step.task.as_ref().and_then(|task| {
        let key = Key { namespace: workload.meta.namespace.clone(), name: task.clone() };
        fleet.tasks.get(&key)
    });
    let Some(task) = task else {
        let phase =
            step.phase.as_ref().map_or_else(|| "not made yet".to_owned(), ToString::to_string);
        return format!("{name}  {phase}");
    };
    let mut words_ = vec![name, output::word(&words::phase(task))];
    let later = words::superseded_by(step, &workload.status.steps);
    words_.extend(later.map(|later| format!("superseded by {}", words::clean(later))));
    words_.extend(words::node_of(task).map(|node| format!("on {node}")));
    if task.status.has_ended() {
        words_.push(words::ended(task));
        words_.extend(task.status.usage.as_ref().map(|usage| format!("({})", words::spent(usage))));
    } else if let Some(run) = words::run_of(&fleet.nodes, task) {
        words_.push(words::progress(run, fleet.now));
    } else {
        words_.extend(words::waiting(task));
    }
    words_.join("  ")
}

fn next(
    workload: &Object<Workload>,
    fleet: &Fleet,
    effects: &Effects,
    branch: Option<&str>,
) -> String {
    let name = &workload.meta.name;
    let mut commands = Vec::new();
    if is_true(&workload.status.conditions, "Finished") {
        commands.extend(words::diff(repo(workload), effects.base.as_deref(), branch));
        let last = tasks(workload, fleet).last();
        commands
            .extend(last.map(|task| fleet.command(&format!("describe task/{}", task.meta.name))));
        commands.push(fleet.command(&format!("logs workload/{name}")));
    } else {
        commands.push(fleet.command(&format!("explain workload/{name}")));
        let running =
            tasks(workload, fleet).find(|task| words::run_of(&fleet.nodes, task).is_some());
        commands
            .extend(running.map(|task| fleet.command(&format!("logs -f task/{}", task.meta.name))));
        commands.push(fleet.command(&format!("cancel workload/{name}")));
    }
    commands.join(" | ")
}
