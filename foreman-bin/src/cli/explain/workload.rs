//! Why a workload is where it is: step by step.

use std::fmt::Write as _;

use foreman_core::control::desired;
use foreman_core::model::{AgenticTask, Key, Object, Workload};

use crate::cli::fleet::Fleet;
use crate::cli::words;
use crate::output;

/// The whole explanation.
pub(super) fn text(workload: &Object<Workload>, fleet: &Fleet) -> String {
    let status = &workload.status;
    let phase = status
        .phase
        .as_ref()
        .map_or_else(|| "New".to_owned(), |phase| words::clean(&phase.to_string()));
    let age = workload.meta.creation_timestamp.map(|at| output::age(at, fleet.now));
    let settled = status.steps.iter().filter(|step| step.settled == Some(true)).count();
    let mut text = format!(
        "{} {}: {settled} of {} steps settled.\n",
        output::word(&phase),
        age.unwrap_or_default(),
        status.steps.len()
    );
    for condition in &status.conditions {
        if condition.kind == "Finished" || !condition.message.is_empty() {
            let _infallible = writeln!(
                text,
                "  {}={} {}: {}",
                words::clean(&condition.kind),
                condition.status,
                words::clean(&condition.reason),
                words::clean(&condition.message)
            );
        }
    }
    if status.steps.is_empty() {
        text.push_str(&unplanned(workload, fleet));
        text.push_str(&fleet.nobody_works());
        return text;
    }
    let mut rows = Vec::new();
    for step in &status.steps {
        let task = step.task.as_ref().and_then(|name| {
            fleet.tasks.get(&Key { namespace: workload.meta.namespace.clone(), name: name.clone() })
        });
        let (state, why) = match task {
            Some(task) => (words::phase(task), why(task, fleet)),
            None if step.settled == Some(true) => (
                step.phase.as_ref().map_or_else(|| "ended".to_owned(), ToString::to_string),
                "its task is gone, its record counts".to_owned(),
            ),
            None => ("not made yet".to_owned(), String::new()),
        };
        let why = match words::superseded_by(step, &status.steps) {
            Some(later) => format!("superseded by {}; {why}", words::clean(later)),
            None => why,
        };
        rows.push([format!("  {}", words::clean(&step.name)), output::word(&state), why]);
    }
    text.push_str(&words::columns(&rows));
    let mut open = status.steps.iter().filter(|step| step.settled != Some(true));
    if let Some(task) = open.find_map(|step| step.task.as_ref()) {
        let _infallible = writeln!(
            text,
            "next: {}",
            fleet.command(&format!("explain task/{}", words::clean(task)))
        );
    }
    if !workload.status.has_ended() {
        text.push_str(&fleet.nobody_works());
    }
    text
}

/// What keeps a workload from having steps.
fn unplanned(workload: &Object<Workload>, fleet: &Fleet) -> String {
    match desired(&workload.spec) {
        Err(error) => format!("  no steps: {error}\n"),
        Ok(steps) if fleet.worker.is_some() => {
            format!("  {} steps will be made at once\n", steps.len())
        }
        Ok(steps) => {
            let count = steps.len();
            format!("  {count} steps will be made as soon as somebody works here\n")
        }
    }
}

fn why(task: &Object<AgenticTask>, fleet: &Fleet) -> String {
    if task.status.has_ended() {
        return words::ended(task);
    }
    if let Some(run) = words::run_of(&fleet.nodes, task) {
        let node = words::node_of(task).map(|node| format!("on {node}: ")).unwrap_or_default();
        return node + &words::progress(run, fleet.now);
    }
    match &task.status.waiting {
        Some(waiting) => {
            let reason = waiting.reason.as_ref().map(ToString::to_string).unwrap_or_default();
            format!(
                "{}: {}",
                words::clean(&reason),
                words::clean(waiting.message.as_deref().unwrap_or_default())
            )
        }
        None => words::node_of(task).map_or_else(String::new, |node| format!("on {node}")),
    }
}
