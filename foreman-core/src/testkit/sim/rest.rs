//! Checks of the whole: nothing waits without a reason, and everything ends once faults have stopped.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::fleet::Fleet;
use super::net::since;
use super::scenario::NodePlan;
use super::truth::Facts;
use crate::model::ids::Key;
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
                !fits_somewhere(facts, plans, task) || waits_for_excused
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

/// Tasks that have not ended, and need not.
pub(super) fn left_open(fleet: &Fleet) -> u64 {
    fleet.net.truth.facts(|facts| {
        let open = facts.live_tasks.values().filter(|task| !task.status.has_ended());
        u64::try_from(open.count()).unwrap_or(u64::MAX)
    })
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
