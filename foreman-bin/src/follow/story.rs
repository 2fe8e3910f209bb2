//! From objects as the store shows them to what happened. A pure state machine: it compares what it
//! sees with what it saw, so that a watch that tells everything again tells nothing twice.

use std::collections::{BTreeMap, BTreeSet};

use foreman_core::model::agentic_task::{AgenticTask, AttemptRecord};
use foreman_core::model::condition::find_condition;
use foreman_core::model::outcome::{Outcome, on_target};
use foreman_core::model::wellknown::LABEL_WORKLOAD;
use foreman_core::model::{Attempt, FleetNode, Key, Object, TaskPhase, Uid, Workload};
use foreman_runner::observe::RunEvent;

use super::fact::{Ended, Fact, PlannedStep, What};

/// What stands between two reasons of a placement.
const REASONS_SEPARATOR: &str = ", ";

/// What was told of a task.
#[derive(Debug, Clone, Default, PartialEq)]
struct Told {
    phase: Option<TaskPhase>,
    node: Option<String>,
    attempt: Attempt,
    waiting: Option<(String, String)>,
}

/// What was told so far.
#[derive(Debug, Default)]
pub struct Story {
    tasks: BTreeMap<Uid, Told>,
    planned: BTreeMap<Uid, Vec<PlannedStep>>,
    finished: BTreeMap<Uid, String>,
    /// Which workload a task belongs to and where it runs, for events that name only the task.
    places: BTreeMap<Key, (Option<String>, Option<String>)>,
    /// Tasks whose runs tell of themselves, because they are in this process.
    heard: BTreeSet<Key>,
    /// What nodes last said of their runs, by the key in text.
    moved: BTreeMap<String, (String, i64, i64)>,
}

impl Story {
    /// What is new in a workload.
    pub fn workload(&mut self, workload: &Object<Workload>) -> Vec<Fact> {
        let mut facts = Vec::new();
        let uid = workload.meta.uid.clone();
        let name = Some(workload.meta.name.as_str());
        let steps: Vec<PlannedStep> = workload
            .status
            .steps
            .iter()
            .filter_map(|step| {
                Some(PlannedStep { name: step.name.clone(), task: step.task.clone()? })
            })
            .collect();
        if !steps.is_empty() && self.planned.get(&uid) != Some(&steps) {
            self.planned.insert(uid.clone(), steps.clone());
            facts.push(Fact::of_workload(name, What::Planned { steps }));
        }
        if let Some(finished) = finished(workload)
            && self.finished.get(&uid) != Some(&finished.0)
        {
            self.finished.insert(uid, finished.0.clone());
            let (reason, message) = finished;
            facts.push(Fact::of_workload(name, What::Finished { reason, message }));
        }
        facts
    }

    /// What is new in a task.
    pub fn task(&mut self, task: &Object<AgenticTask>) -> Vec<Fact> {
        let status = &task.status;
        let workload = task.meta.labels.get(LABEL_WORKLOAD).cloned();
        let node = status.assigned_node.clone();
        self.places.insert(task.key(), (workload.clone(), node.clone()));
        let told = self.tasks.entry(task.meta.uid.clone()).or_default();
        let attempt = status.attempt.unwrap_or(0);
        let now = Told {
            phase: status.known_phase(),
            node: node.clone(),
            attempt,
            // A reason that was given before the spec was changed may hold no longer.
            waiting: status.waiting.as_ref().filter(|_| is_judged(task)).map(|waiting| {
                let reason = waiting.reason.as_ref().map(ToString::to_string).unwrap_or_default();
                (reason, waiting.message.clone().unwrap_or_default())
            }),
        };
        let before = std::mem::replace(told, now.clone());
        let fact = |what| Fact {
            workload: workload.clone(),
            task: Some(task.meta.name.clone()),
            attempt: Some(attempt).filter(|attempt| *attempt > 0),
            node: node.clone(),
            what,
        };
        changes(task, &before, &now).into_iter().map(fact).collect()
    }

    /// What is new in the runs of a node, as far as they are those of another process.
    pub fn node(&mut self, node: &Object<FleetNode>) -> Vec<Fact> {
        let mut facts = Vec::new();
        for run in &node.status.runs {
            let stage = run.stage.as_ref().map(ToString::to_string).unwrap_or_default();
            let now = (stage, run.turn.unwrap_or(0), run.tokens.unwrap_or(0));
            let place = self.places.iter().find(|(key, _)| key.to_string() == run.task);
            let Some((key, (workload, _))) = place else { continue };
            if self.heard.contains(key) || self.moved.get(&run.task) == Some(&now) {
                continue;
            }
            let (stage, turn, tokens) = now.clone();
            facts.push(Fact {
                workload: workload.clone(),
                task: Some(key.name.clone()),
                attempt: run.attempt,
                node: Some(node.meta.name.clone()),
                what: What::Moved { stage, turn, tokens },
            });
            self.moved.insert(run.task.clone(), now);
        }
        facts
    }

    /// An event of a run in this process.
    pub fn run(&mut self, task: &Key, attempt: Attempt, event: RunEvent) -> Fact {
        self.heard.insert(task.clone());
        let (workload, node) = self.places.get(task).cloned().unwrap_or_default();
        Fact {
            workload,
            task: Some(task.name.clone()),
            attempt: Some(attempt),
            node,
            what: What::Run(event),
        }
    }
}

/// Whether the status speaks of the spec as it is now.
fn is_judged(task: &Object<AgenticTask>) -> bool {
    task.status.observed_generation.is_none_or(|observed| observed == task.meta.generation)
}

/// How a workload ended: reason and words of its condition `Finished`.
pub fn finished(workload: &Object<Workload>) -> Option<(String, String)> {
    let condition = find_condition(&workload.status.conditions, "Finished")?;
    let holds = foreman_core::model::condition::is_true(&workload.status.conditions, "Finished");
    holds.then(|| (condition.reason.clone(), condition.message.clone()))
}

fn changes(task: &Object<AgenticTask>, before: &Told, now: &Told) -> Vec<What> {
    let status = &task.status;
    if before.phase.is_some_and(TaskPhase::is_terminal) {
        return Vec::new();
    }
    let mut changes = Vec::new();
    let in_flight = |told: &Told| told.phase.is_some_and(TaskPhase::is_in_flight);
    let new_claim = now.attempt > before.attempt;
    let placed = in_flight(now) && (!in_flight(before) || now.node != before.node);
    if placed {
        let condition = find_condition(&status.conditions, "Scheduled");
        let message = condition.map(|condition| condition.message.as_str()).unwrap_or_default();
        changes.push(What::Placed { why: reasons(message, now.node.as_deref()) });
    }
    match now.phase {
        Some(TaskPhase::Running | TaskPhase::Verifying) if new_claim => changes.push(What::Started),
        Some(TaskPhase::Pending) if in_flight(before) => changes.push(released(task)),
        Some(TaskPhase::Succeeded | TaskPhase::Failed) => changes.push(What::Ended(ended(task))),
        _ => {}
    }
    if let Some((reason, message)) = &now.waiting
        && now.waiting != before.waiting
    {
        changes.push(What::Waiting { reason: reason.clone(), message: message.clone() });
    }
    changes
}

/// The reasons of a placement, as the condition `Scheduled` lists them: it is where the control loops
/// of another process leave them. No reason has the separator in it; a test holds core to that.
fn reasons(message: &str, node: Option<&str>) -> Vec<String> {
    let prefix = format!("placed on {}: ", node.unwrap_or_default());
    let list = message.strip_prefix(&prefix).unwrap_or(message);
    list.split(REASONS_SEPARATOR).filter(|one| !one.is_empty()).map(ToOwned::to_owned).collect()
}

fn released(task: &Object<AgenticTask>) -> What {
    let last: Option<&AttemptRecord> = task.status.attempts.last();
    let ended = last.and_then(|attempt| attempt.ended.as_ref()).map(ToString::to_string);
    let condition = find_condition(&task.status.conditions, "Running");
    What::Released {
        ended: ended.unwrap_or_else(|| "Released".to_owned()),
        message: condition.map(|condition| condition.message.clone()).unwrap_or_default(),
        turn: task.status.checkpoint.as_ref().and_then(|checkpoint| checkpoint.turn),
    }
}

fn ended(task: &Object<AgenticTask>) -> Ended {
    let status = &task.status;
    let condition = find_condition(&status.conditions, "Finished");
    Ended {
        on_target: on_target(status),
        verdict: status.verdict.as_ref().map(ToString::to_string).unwrap_or_default(),
        outcome: Outcome::of(status),
        message: condition.map(|condition| condition.message.clone()).unwrap_or_default(),
        branch: status.branch.clone(),
        commit: status.commit_sha.clone(),
        usage: status.usage.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
#[path = "story_tests.rs"]
mod tests;
