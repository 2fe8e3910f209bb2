//! The line of tasks that wait to be placed, played through on the deciding functions: who stands in
//! it, what keeps others out of it, and where each would go.

use std::collections::BTreeMap;

use foreman_core::model::agentic_task::WaitingReason;
use foreman_core::model::outcome::on_target;
use foreman_core::model::shared::LocalObjectReference;
use foreman_core::model::{Agent, AgenticTask, Key, Object, TaskPhase};
use foreman_core::schedule::{Need, Placement, Scheduler, order};

use super::fleet::Fleet;
use super::words;

/// What the task needs of a node.
pub(super) fn need_of(task: &Object<AgenticTask>, fleet: &Fleet) -> Need {
    Need::of(task, agent_of(task, fleet).map(|agent| &agent.spec))
}

/// The Agent that a task names, if it is there.
pub(super) fn agent_of<'f>(
    task: &Object<AgenticTask>,
    fleet: &'f Fleet,
) -> Option<&'f Object<Agent>> {
    let name = task.spec.agent_ref.as_ref().and_then(LocalObjectReference::named)?;
    fleet.agents.get(&Key { namespace: task.meta.namespace.clone(), name: name.to_owned() })
}

/// Whether no node holds it and it has not ended.
pub(super) fn is_waiting(task: &Object<AgenticTask>) -> bool {
    matches!(task.status.known_phase(), None | Some(TaskPhase::Pending))
}

/// What keeps a task from being placed before any node is looked at: a word and the matter.
pub(super) fn obstacles(task: &Object<AgenticTask>, fleet: &Fleet) -> Vec<(&'static str, String)> {
    let mut found: Vec<_> = upstream(task, fleet).map(|text| ("waits for", text)).collect();
    let named = task.spec.agent_ref.as_ref().and_then(LocalObjectReference::named);
    let agent = agent_of(task, fleet);
    if let (Some(name), None) = (named, agent) {
        found.push(("agent", format!("agent/{name} is not there: apply it, or the task fails")));
    }
    if let Some(text) = agent.and_then(|agent| at_limit(agent, fleet)) {
        found.push(("agent", text));
    }
    if task.spec.suspend == Some(true) {
        let resume = fleet.command(&format!("resume task/{}", task.meta.name));
        found.push(("suspended", format!("to go on: {resume}")));
    }
    if task.spec.cancel == Some(true) {
        found.push(("cancel", "asked for; it ends as soon as the control loops run".to_owned()));
    }
    found.extend(held_back(task));
    found
}

/// The tasks before it that have not ended on target.
fn upstream(task: &Object<AgenticTask>, fleet: &Fleet) -> impl Iterator<Item = String> {
    task.spec.depends_on.iter().filter_map(|name| {
        let key = Key { namespace: task.meta.namespace.clone(), name: name.clone() };
        match fleet.tasks.get(&key) {
            None => Some(format!("task/{name}, which is not there")),
            Some(upstream) if on_target(&upstream.status) => None,
            Some(upstream) if words::is_ended(upstream) => {
                let phase = words::phase(upstream);
                Some(format!("task/{name}: ended {phase} ({})", words::ended(upstream)))
            }
            Some(upstream) => Some(format!("task/{name}: {}", words::phase(upstream))),
        }
    })
}

/// Whether the Agent takes no further task.
fn at_limit(agent: &Object<Agent>, fleet: &Fleet) -> Option<String> {
    let limit = usize::try_from(agent.spec.max_concurrent_tasks?).unwrap_or(0);
    let of_agent = |task: &&Object<AgenticTask>| {
        agent_of(task, fleet).is_some_and(|other| other.meta.uid == agent.meta.uid)
            && task.status.known_phase().is_some_and(TaskPhase::is_in_flight)
    };
    let running: Vec<_> =
        fleet.tasks.values().filter(of_agent).map(|task| task.meta.name.as_str()).collect();
    let name = &agent.meta.name;
    (running.len() >= limit).then(|| {
        format!("agent/{name} runs {} of {limit} tasks: {}", running.len(), running.join(", "))
    })
}

/// What the control loops said last, where it is about the task and not about nodes.
fn held_back(task: &Object<AgenticTask>) -> Option<(&'static str, String)> {
    let judged =
        task.status.observed_generation.is_none_or(|observed| observed == task.meta.generation);
    let waiting = task.status.waiting.as_ref().filter(|_| judged)?;
    let word = match waiting.reason.as_ref()?.known()? {
        WaitingReason::Backoff => "backoff",
        WaitingReason::BudgetExhausted => "budget",
        WaitingReason::AwaitingApproval => "approval",
        WaitingReason::PolicyForbids => "policy",
        // Those are seen afresh.
        WaitingReason::NoNodes
        | WaitingReason::NoMatchingNode
        | WaitingReason::NodesBusy
        | WaitingReason::NodesStale
        | WaitingReason::NodesRecovering
        | WaitingReason::Dependency
        | WaitingReason::DependencyMissing
        | WaitingReason::AgentMissing
        | WaitingReason::AgentAtLimit
        | WaitingReason::Suspended => return None,
    };
    Some((word, words::clean(waiting.message.as_deref().unwrap_or_default())))
}

/// The tasks that only wait for a node, in the order in which they are tried.
pub(super) fn in_line(fleet: &Fleet) -> Vec<&Object<AgenticTask>> {
    let mut line: Vec<_> = fleet
        .tasks
        .values()
        .filter(|task| is_waiting(task) && obstacles(task, fleet).is_empty())
        .collect();
    line.sort_by_key(|task| order::turn(task));
    line
}

/// `3rd in line of 5 (priority 0)`; a task that is not in line only has its priority.
pub(super) fn place_in_line(task: &Object<AgenticTask>, fleet: &Fleet) -> String {
    let line = in_line(fleet);
    let place = line.iter().position(|other| other.meta.uid == task.meta.uid);
    let priority = task.spec.priority.unwrap_or(0);
    match place {
        Some(place) => {
            format!("{} in line of {} (priority {priority})", ordinal(place + 1), line.len())
        }
        None => format!("priority {priority}"),
    }
}

/// Where everybody in line would go, one after the other, if placing began now. `need` says what a task
/// needs.
pub(super) fn play(
    fleet: &Fleet,
    need: impl Fn(&Object<AgenticTask>) -> Need,
) -> BTreeMap<Key, Placement> {
    let mut scheduler = Scheduler::new(fleet.snapshot());
    in_line(fleet)
        .into_iter()
        .map(|task| (task.key(), scheduler.place(task.key(), &need(task))))
        .collect()
}

pub(super) fn ordinal(number: usize) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}
