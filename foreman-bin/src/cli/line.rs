//! The line of tasks that wait to be placed, as the deciding functions see it: who stands in it, what
//! keeps others out of it, and where each would go. Nothing is decided here.

use foreman_core::model::agentic_task::WaitingReason;
use foreman_core::model::{AgenticTask, Key, Object, TaskPhase};
use foreman_core::schedule::{
    Fate, Known, Need, Standing, Waiter, order, place_in_words, what_if, why_waiting,
};

use super::fleet::Fleet;
use super::words;

/// What the task needs of a node.
pub(super) fn need_of(task: &Object<AgenticTask>, fleet: &Fleet) -> Need {
    foreman_core::schedule::need_of(task, &fleet.tasks, &fleet.agents)
}

/// Whether no node holds it and it has not ended.
pub(super) fn is_waiting(task: &Object<AgenticTask>) -> bool {
    matches!(task.status.known_phase(), None | Some(TaskPhase::Pending))
}

/// What keeps a task from being placed before any node is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Obstacle {
    /// The word of the waiting reason, or `ends`.
    pub(super) word: String,
    /// The matter.
    pub(super) message: String,
}

/// Where the task stands before any node is looked at, by the function that decides it.
pub(super) fn obstacle(task: &Object<AgenticTask>, fleet: &Fleet) -> Option<Obstacle> {
    let known = Known {
        tasks: &fleet.tasks,
        agents: &fleet.agents,
        workloads: &fleet.workloads,
        policy: fleet.policy,
        now: fleet.now,
    };
    let (word, message) = match why_waiting(task, known) {
        Standing::NotWaiting => return None,
        Standing::Ends(message) => ("ends".to_owned(), message),
        Standing::Waits(reason, message) => (reason.to_string(), message),
        Standing::WantsNode => (WaitingReason::PolicyForbids.to_string(), forbidden(task)?),
    };
    Some(Obstacle { word, message: words::clean(&message) })
}

/// What the control loops said of a policy that they were started with and that is not known here.
fn forbidden(task: &Object<AgenticTask>) -> Option<String> {
    let judged =
        task.status.observed_generation.is_none_or(|observed| observed == task.meta.generation);
    let waiting = task.status.waiting.as_ref().filter(|_| judged)?;
    let reason = waiting.reason.as_ref()?;
    reason.is(WaitingReason::PolicyForbids).then(|| waiting.message.clone().unwrap_or_default())
}

/// The tasks that only wait for a node.
pub(super) fn in_line(fleet: &Fleet) -> Vec<Waiter> {
    let waits = |task: &&Object<AgenticTask>| is_waiting(task) && obstacle(task, fleet).is_none();
    let line = fleet.tasks.values().filter(waits);
    line.map(|task| Waiter { turn: order::turn(task), need: need_of(task, fleet) }).collect()
}

/// `3rd in line of 5 (priority 0)`; a task that is not in line only has its priority.
pub(super) fn place_in_line(line: &[Waiter], task: &Key, priority: i32) -> String {
    match foreman_core::schedule::place_in_line(line, task) {
        Some(place) => place_in_words(place, priority),
        None => format!("priority {priority}"),
    }
}

/// Where everybody in line would go, one after the other, if placing began now.
pub(super) fn play(fleet: &Fleet) -> Vec<Fate> {
    what_if(&fleet.snapshot(), &in_line(fleet), &[]).before
}
