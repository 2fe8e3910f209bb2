//! Where a task stands before any node is looked at: what `explain` says and the control loop does.

use std::collections::{BTreeMap, BTreeSet};

use super::budget;
use super::intake::{self, Facts, Shared, Step};
use crate::model::agent::Agent;
use crate::model::agentic_task::{AgenticTask, TaskPhase, WaitingReason};
use crate::model::ids::Key;
use crate::model::object::Object;
use crate::model::time::WallTime;
use crate::model::workload::Workload;
use crate::policy::admit::{Policy, admit};
use crate::schedule::need_of;
use crate::workload::children;

/// What is known beside the task.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// All tasks.
    pub tasks: &'a BTreeMap<Key, Object<AgenticTask>>,
    /// All Agents.
    pub agents: &'a BTreeMap<Key, Object<Agent>>,
    /// All Workloads.
    pub workloads: &'a BTreeMap<Key, Object<Workload>>,
    /// What this installation allows.
    pub policy: Policy,
    /// Now, for the ages of records.
    pub now: WallTime,
}

/// Where a task stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// A node holds it, or it has ended: nothing waits.
    NotWaiting,
    /// It ends as soon as the control loop looks at it, and why.
    Ends(String),
    /// It waits for something else than a node, and why.
    Waits(WaitingReason, String),
    /// Only a node is missing: ask [`explain`](crate::schedule::explain()).
    WantsNode,
}

/// Why a task waits, before any node is looked at.
pub fn why_waiting(task: &Object<AgenticTask>, known: Known<'_>) -> Standing {
    if !matches!(task.status.known_phase(), None | Some(TaskPhase::Pending)) {
        return Standing::NotWaiting;
    }
    let (ledger, workload) = owner(task, known)
        .map_or((None, None), |it| (budget::ledger(it, known.tasks, |_| None), Some(it)));
    let none = BTreeSet::new();
    let facts = Facts {
        tasks: known.tasks,
        agents: known.agents,
        unreadable: [&none, &none],
        now: known.now,
        // Only the control loop knows what was tried last: what the task says of that is true.
        shared: workload.map(|owner| Shared {
            workload: &owner.meta.name,
            ledger: ledger.as_ref(),
            tried: Some(i64::MAX),
        }),
    };
    match intake::next(task, facts) {
        Step::End(end) => return Standing::Ends(end.message),
        Step::Wait { reason, message, until: _ } => return Standing::Waits(reason, message),
        Step::Strike(_) => {
            let message = "a claim of it was lost, which is being counted".to_owned();
            return Standing::Waits(WaitingReason::Backoff, message);
        }
        Step::Place => {}
    }
    if let (Some((key, _)), None) = (task.workload(), workload) {
        // The control loop knows which: one that is gone takes the task with it, of one that cannot be
        // read nobody knows what is left of its budget.
        let message = format!("Workload {} is gone or cannot be read", key.name);
        return Standing::Waits(WaitingReason::Dependency, message);
    }
    let agent = intake::agent_of(task, known.agents);
    if let Err(forbidden) = admit(known.policy, task, agent) {
        return Standing::Waits(WaitingReason::PolicyForbids, forbidden.to_string());
    }
    if let Some(agent) = agent {
        let running = intake::in_flight_by_agent(known.tasks.values());
        let running = running.get(&agent.key()).copied().unwrap_or(0);
        if let Some(message) = intake::agent_at_limit(agent, running) {
            return Standing::Waits(WaitingReason::AgentAtLimit, message);
        }
    }
    let only = need_of(task, known.tasks, known.agents).only;
    let spent = ledger
        .zip(workload)
        .and_then(|(it, owner)| it.holds_up(task, only.as_ref(), &owner.meta.name));
    match spent {
        Some(message) => Standing::Waits(WaitingReason::BudgetExhausted, message),
        None => Standing::WantsNode,
    }
}

fn owner<'a>(task: &Object<AgenticTask>, known: Known<'a>) -> Option<&'a Object<Workload>> {
    children::owner_among(task, known.workloads)
}

#[cfg(test)]
#[path = "standing_tests.rs"]
mod tests;
