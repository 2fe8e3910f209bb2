//! Checks of the whole: nothing waits without a reason, and everything ends once faults have stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::fleet::Fleet;
use super::net::since;
use super::promises_more as more;
use super::scenario::NodePlan;
use super::truth::{Facts, Written};
use crate::model::ids::Key;
use crate::model::outcome::on_target;
use crate::model::shared::RequiredAccelerator;
use crate::model::{AgenticTask, Object, Workload};

/// How long a task may be without a word of why it waits, under faults.
const UNEXPLAINED_MAX: Duration = Duration::from_mins(45);

/// Whether some machine of the fleet could run the task.
fn fits_somewhere(facts: &Facts, plans: &[NodePlan], task: &Object<AgenticTask>) -> bool {
    let name = task.spec.agent_ref.as_ref().and_then(|agent| agent.named());
    let agent = name.and_then(|name| {
        let key = Key { namespace: task.meta.namespace.clone(), name: name.to_owned() };
        facts.live_agents.get(&key)
    });
    let need = agent.and_then(|agent| agent.spec.required_capability.as_ref());
    let Some(need) = need.or(task.spec.required_capability.as_ref()) else { return true };
    let cuda = need.accelerator.as_ref().is_some_and(|a| a.is(RequiredAccelerator::Cuda));
    plans.iter().any(|plan| need.min_ram_gb.unwrap_or(0) <= plan.ram_gb && (!cuda || plan.cuda))
}

/// Whether a dependency ends the task although it fits nowhere: one that is not there is waited for by
/// the clock only ([`DEPENDENCY_MISSING_MAX`]), one that ended off target not at all.
///
/// [`DEPENDENCY_MISSING_MAX`]: crate::timing::DEPENDENCY_MISSING_MAX
fn ends_by_dependency(facts: &Facts, task: &Object<AgenticTask>) -> bool {
    task.spec.depends_on.iter().any(|name| {
        let key = Key { namespace: task.meta.namespace.clone(), name: name.clone() };
        let upstream = facts.live_tasks.get(&key);
        upstream.is_none_or(|task| task.status.has_ended() && !on_target(&task.status))
    })
}

/// The tasks that are not over although nothing speaks against it.
fn unended(facts: &Facts, plans: &[NodePlan]) -> Vec<Key> {
    let mut excused: BTreeSet<Key> = BTreeSet::new();
    let ended = |task: &Object<AgenticTask>| task.status.has_ended();
    loop {
        let more: Vec<_> = facts
            .live_tasks
            .iter()
            .filter(|(key, task)| !ended(task) && !excused.contains(*key))
            .filter(|(_, task)| {
                let waits_for_excused = task.spec.depends_on.iter().any(|name| {
                    let key = Key { namespace: task.meta.namespace.clone(), name: name.clone() };
                    excused.contains(&key)
                });
                let nowhere = !fits_somewhere(facts, plans, task);
                let endless = nowhere || more::never_allowed(facts, task) || waits_for_excused;
                endless && !ends_by_dependency(facts, task)
            })
            .map(|(key, _)| key.clone())
            .collect();
        if more.is_empty() {
            break;
        }
        excused.extend(more);
    }
    let open =
        facts.live_tasks.iter().filter(|(key, task)| !ended(task) && !excused.contains(*key));
    let mut open: Vec<_> = open.map(|(key, _)| key.clone()).collect();
    let over = |workload: &Object<Workload>| workload.status.has_ended();
    let waits =
        |workload: &Arc<Object<Workload>>| {
            workload.status.steps.iter().filter_map(|step| step.task.clone()).any(|name| {
                excused.contains(&Key { namespace: workload.meta.namespace.clone(), name })
            })
        };
    let workloads = facts.live_workloads.iter();
    let workloads = workloads.filter(|(_, workload)| !over(workload) && !waits(workload));
    open.extend(workloads.map(|(key, _)| key.clone()));
    open
}

fn plans(fleet: &Fleet) -> Vec<NodePlan> {
    fleet.machines().iter().map(|node| node.plan.clone()).collect()
}

/// Whether everything that can end has ended.
pub(super) fn all_ended(fleet: &Fleet) -> bool {
    let plans = plans(fleet);
    fleet.net.truth.facts(|facts| unended(facts, &plans).is_empty())
}

/// How often what need not end may yet be written: it waits for something else, or ends.
const LEFT_OPEN_WRITES_MAX: u64 = 4;

/// What there is when everything has ended that can.
pub(super) struct AtRest {
    /// What has not ended, and need not.
    open: BTreeSet<Written>,
    writes: BTreeMap<Written, u64>,
}

impl AtRest {
    pub(super) fn now(fleet: &Fleet) -> Self {
        fleet.net.truth.facts(|facts| {
            let tasks = facts.live_tasks.iter().filter(|(_, task)| !task.status.has_ended());
            let tasks = tasks.map(|(key, _)| ("task", key.clone()));
            let workloads = facts.live_workloads.iter();
            let workloads = workloads.filter(|(_, workload)| !workload.status.has_ended());
            let workloads = workloads.map(|(key, _)| ("workload", key.clone()));
            Self { open: tasks.chain(workloads).collect(), writes: facts.operator_writes.clone() }
        })
    }

    /// Nothing that had ended was written since.
    pub(super) fn must_hold(&self, fleet: &Fleet) {
        let now = fleet.engine.now();
        fleet.net.truth.facts(|facts| {
            let written = facts.operator_writes.iter().find_map(|(what, writes)| {
                let new = writes - self.writes.get(what).copied().unwrap_or(0);
                let most = if self.open.contains(what) { LEFT_OPEN_WRITES_MAX } else { 0 };
                (new > most).then(|| (what.clone(), new))
            });
            if let Some(((kind, key), new)) = written {
                let what = format!("{new} writes of {kind} {key} by control loops at rest");
                facts.broken(6, now, what);
            }
        });
    }
}

/// Everything that can end must have.
pub(super) fn must_have_ended(fleet: &Fleet) {
    let now = fleet.engine.now();
    let plans = plans(fleet);
    fleet.net.truth.facts(|facts| {
        let open = unended(facts, &plans);
        if let Some(first) = open.first() {
            let state = facts.live_tasks.get(first).map(|task| {
                let status = &task.status;
                format!(
                    "{:?} on {:?}, waiting {:?}",
                    status.known_phase(),
                    status.assigned_node,
                    status.waiting.as_ref().map(|w| (&w.reason, &w.message))
                )
            });
            let what = format!("{first} never ended ({} in all): {state:?}", open.len());
            facts.broken(3, now, what);
        }
    });
}

/// The checks that are made every few seconds.
pub(super) fn look(fleet: &Fleet) {
    let now = fleet.engine.now();
    fleet.net.truth.facts(|facts| {
        let silent = facts.live_tasks.iter().find(|(_, task)| {
            let since_when = facts.tasks.get(&task.meta.uid).and_then(|t| t.unexplained_since);
            since_when.is_some_and(|then| since(now, then) > UNEXPLAINED_MAX)
        });
        let silent = silent.map(|(key, _)| key.clone());
        if let Some(key) = silent {
            let what = format!("task {key} waits and nothing says why");
            facts.broken(6, now, what);
        }
    });
}
