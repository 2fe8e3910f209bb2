//! What people ask for, and what they do. They reach the store whatever the wires are like.

use std::sync::Arc;
use std::time::Duration;

use futures::future::FutureExt;
use serde::Serialize;

use super::chance::Chance;
use super::fleet::Fleet;
use super::net::Verb;
use super::scenario::{Act, AgentPlan, BatchPlan, Scenario, TaskPlan, Terms, Work};
use super::truth::Facts;
use crate::model::agent::{AgentRole, AgentSpec, Provider};
use crate::model::agentic_task::{RetrySpec, WaitingReason};
use crate::model::ids::Key;
use crate::model::shared::{Budget, LocalObjectReference, RequiredAccelerator, RequiredCapability};
use crate::model::wellknown::ANNOTATION_LOCAL_ONLY;
use crate::model::workload::PipelineStep;
use crate::model::{
    Agent, AgenticTask, AgenticTaskPayload, AgenticTaskSpec, FleetNode, Kind, NewObject, Object,
    Workload, WorkloadSpec,
};
use crate::ports::store::{Change, Expect, Part, Store};

const NAMESPACE: &str = "d";
/// More tokens than all tasks of a simulation spend.
const PLENTY: i64 = 1_000_000_000;

/// How often people look whether somebody waits for tokens, once faults have stopped, and how many times.
const RAISED_AGAIN: Duration = Duration::from_mins(5);
const RAISED_TIMES: u32 = 60;

fn raised(now: &Budget, more: i64) -> Budget {
    Budget { tokens: now.tokens.map(|tokens| tokens.saturating_add(more)), ..now.clone() }
}

fn payload() -> AgenticTaskPayload {
    AgenticTaskPayload { repo: Some("a/b".to_owned()), ..AgenticTaskPayload::default() }
}

fn step(plan: &TaskPlan) -> PipelineStep {
    PipelineStep {
        name: plan.name.clone(),
        kind: plan.kind.into(),
        agent_ref: LocalObjectReference::to(plan.agent.unwrap_or("coder")),
        payload: payload(),
        depends_on: plan.depends_on.clone(),
        timeout_seconds: plan.timeout_seconds,
        priority: plan.priority,
        gate_profile: None,
    }
}

fn task(plan: &TaskPlan) -> AgenticTaskSpec {
    let mut spec = AgenticTaskSpec::new(plan.kind, payload());
    spec.agent_ref = plan.agent.map(LocalObjectReference::to);
    spec.depends_on.clone_from(&plan.depends_on);
    spec.priority = plan.priority;
    spec.timeout_seconds = plan.timeout_seconds;
    spec.retry =
        plan.max_attempts.map(|max| RetrySpec { max_attempts: Some(max), backoff_seconds: None });
    spec.budget = plan.tokens.map(budget);
    spec.required_capability = plan.ram_gb.map(|ram_gb| RequiredCapability {
        min_ram_gb: Some(ram_gb),
        ..RequiredCapability::default()
    });
    spec
}

fn budget(tokens: i64) -> Budget {
    Budget { tokens: Some(tokens), ..Budget::default() }
}

/// A workload without its steps.
fn workload(terms: Terms) -> WorkloadSpec {
    WorkloadSpec {
        intent: "make it so".to_owned(),
        budget: terms.tokens.map(budget),
        max_review_iterations: terms.rounds,
        max_tasks: terms.tasks_max,
        allow_cloud_reviewers: terms.cloud_reviewers,
        ..WorkloadSpec::default()
    }
}

fn batch(plan: &BatchPlan) -> WorkloadSpec {
    let to = |names: &[&str]| names.iter().copied().map(LocalObjectReference::to).collect();
    WorkloadSpec {
        repo: payload().repo,
        issues: plan.issues.clone(),
        coder_agent_ref: Some(LocalObjectReference::to("coder")),
        verifier_agent_ref: plan.verifier.map(LocalObjectReference::to),
        reviewer_agent_refs: to(&plan.reviewers),
        escalation_coder_agent_ref: plan.stronger.map(LocalObjectReference::to),
        escalate_on_failure: plan.on_failure.then_some(true),
        escalation_reviewer_agent_refs: to(&plan.second_tier),
        revision_coder_agent_ref: plan.reviser.map(LocalObjectReference::to),
        ..workload(plan.terms)
    }
}

fn agent(plan: &AgentPlan) -> AgentSpec {
    let mut spec = AgentSpec::new(AgentRole::Coder, vec!["bash".to_owned()]);
    spec.max_concurrent_tasks = plan.max_concurrent;
    if plan.cloud {
        spec.provider = Some(Provider::CloudProxy.into());
    }
    spec.required_capability = Some(RequiredCapability {
        min_ram_gb: plan.min_ram_gb,
        accelerator: plan.cuda.then(|| RequiredAccelerator::Cuda.into()),
        ..RequiredCapability::default()
    });
    spec
}

impl Fleet {
    fn make<K: Kind>(self: &Arc<Self>, key: &Key, spec: K::Spec) {
        self.make_new(key, NewObject::<K>::new(key.clone(), spec));
    }

    fn make_new<K: Kind>(self: &Arc<Self>, key: &Key, new: NewObject<K>) {
        let about = || format!("{} {key}", K::NAMES.alias);
        // A name that is taken already is left: people see the error.
        drop(self.net.direct(&self.user, Verb::Create, about, |store| {
            Store::<K>::create(store, new).now_or_never().unwrap_or(Err(super::net::unavailable()))
        }));
    }

    fn set<K: Kind>(self: &Arc<Self>, key: &Key, field: &'static str, value: impl Serialize) {
        let change = Change::<K>::of(Part::Spec).set(field, value);
        let about = || format!("{} {key} {field}", K::NAMES.alias);
        drop(self.net.direct(&self.user, Verb::Patch, about, |store| {
            Store::<K>::patch(store, key, change, Expect::Any)
                .now_or_never()
                .unwrap_or(Err(super::net::unavailable()))
        }));
    }

    fn remove<K: Kind>(self: &Arc<Self>, key: &Key, uid: &crate::model::Uid) {
        let about = || format!("{} {key}", K::NAMES.alias);
        drop(self.net.direct(&self.user, Verb::Delete, about, |store| {
            Store::<K>::delete(store, key, uid, Expect::Any)
                .now_or_never()
                .unwrap_or(Err(super::net::unavailable()))
        }));
    }

    /// The roles are there from the start.
    pub(crate) fn make_agents(self: &Arc<Self>, scenario: &Scenario) {
        for plan in &scenario.agents {
            self.make::<Agent>(&Key::namespaced(NAMESPACE, plan.name), agent(plan));
        }
    }

    /// Somebody asks for work.
    pub(crate) fn submit(self: &Arc<Self>, work: &Work) {
        match work {
            Work::Task(plan) => {
                let key = Key::namespaced(NAMESPACE, plan.name.as_str());
                let mut new = NewObject::<AgenticTask>::new(key.clone(), task(plan));
                if plan.local_only {
                    new.annotations.insert(ANNOTATION_LOCAL_ONLY.to_owned(), "true".to_owned());
                }
                self.make_new(&key, new);
            }
            Work::Pipeline { name, steps, terms } => {
                let spec =
                    WorkloadSpec { pipeline: steps.iter().map(step).collect(), ..workload(*terms) };
                self.make::<Workload>(&Key::namespaced(NAMESPACE, name.as_str()), spec);
            }
            Work::Batch(plan) => {
                let key = Key::namespaced(NAMESPACE, plan.name.as_str());
                self.make::<Workload>(&key, batch(plan));
            }
        }
    }

    fn live_task(&self, which: u64) -> Option<(Key, crate::model::Uid)> {
        self.net.truth.facts(|facts| {
            let live = facts.live_tasks.iter().filter(|(_, task)| !task.status.has_ended());
            let live: Vec<_> =
                live.map(|(key, task)| (key.clone(), task.meta.uid.clone())).collect();
            Chance::new(which).pick(&live).cloned()
        })
    }

    fn live_workload(&self, which: u64) -> Option<(Key, crate::model::Uid)> {
        self.net.truth.facts(|facts| {
            let live = facts.live_workloads.iter();
            let live = live.filter(|(_, workload)| !workload.status.has_ended());
            let live: Vec<_> =
                live.map(|(key, workload)| (key.clone(), workload.meta.uid.clone())).collect();
            Chance::new(which).pick(&live).cloned()
        })
    }

    fn some_node(&self, which: u64) -> Option<Key> {
        self.net.truth.facts(|facts| {
            let all: Vec<_> = facts.live_nodes.keys().cloned().collect();
            Chance::new(which).pick(&all).cloned()
        })
    }

    /// Somebody does something.
    pub(crate) fn act(self: &Arc<Self>, act: Act) {
        let on_task = |which, change: &dyn Fn(&Key, &crate::model::Uid)| {
            if let Some((key, uid)) = self.live_task(which) {
                change(&key, &uid);
            }
        };
        let on_workload = |which, change: &dyn Fn(&Key, &crate::model::Uid)| {
            if let Some((key, uid)) = self.live_workload(which) {
                change(&key, &uid);
            }
        };
        let on_node = |which, change: &dyn Fn(&Key)| {
            if let Some(key) = self.some_node(which) {
                change(&key);
            }
        };
        self.counts.add("act of a person");
        match act {
            Act::SuspendTask(n) => {
                on_task(n, &|key, _| self.set::<AgenticTask>(key, "suspend", true));
            }
            Act::ResumeTask(n) => {
                on_task(n, &|key, _| self.set::<AgenticTask>(key, "suspend", false));
            }
            Act::CancelTask(n) => {
                on_task(n, &|key, _| self.set::<AgenticTask>(key, "cancel", true));
            }
            Act::DeleteTask(n) => on_task(n, &|key, uid| self.remove::<AgenticTask>(key, uid)),
            Act::Priority(n, priority) => {
                on_task(n, &|key, _| self.set::<AgenticTask>(key, "priority", priority));
            }
            Act::SuspendWorkload(n) => {
                on_workload(n, &|key, _| self.set::<Workload>(key, "suspend", true));
            }
            Act::ResumeWorkload(n) => {
                on_workload(n, &|key, _| self.set::<Workload>(key, "suspend", false));
            }
            Act::CancelWorkload(n) => {
                on_workload(n, &|key, _| self.set::<Workload>(key, "cancel", true));
            }
            Act::DeleteWorkload(n) => {
                on_workload(n, &|key, uid| self.remove::<Workload>(key, uid));
            }
            Act::Cordon(n) => on_node(n, &|key| self.set::<FleetNode>(key, "unschedulable", true)),
            Act::Uncordon(n) => {
                on_node(n, &|key| self.set::<FleetNode>(key, "unschedulable", false));
            }
            Act::Slots(n, slots) => on_node(n, &|key| self.set::<FleetNode>(key, "slots", slots)),
            Act::RaiseTask(n, more) => on_task(n, &|key, _| {
                let facts = |facts: &mut Facts| facts.live_tasks.get(key)?.spec.budget.clone();
                if let Some(now) = self.net.truth.facts(facts) {
                    self.set::<AgenticTask>(key, "budget", raised(&now, more));
                }
            }),
            Act::RaiseWorkload(n, more) => on_workload(n, &|key, _| {
                let facts = |facts: &mut Facts| facts.live_workloads.get(key)?.spec.budget.clone();
                if let Some(now) = self.net.truth.facts(facts) {
                    self.set::<Workload>(key, "budget", raised(&now, more));
                }
            }),
        }
    }

    /// Whoever waits for tokens gets plenty, now and whenever more are needed: what a dead holder had
    /// reserved is charged to the last.
    fn raise_all(self: &Arc<Self>, times: u32) {
        let (tasks, workloads) = self.net.truth.facts(|facts| {
            let spent = |task: &Object<AgenticTask>| {
                let waiting = task.status.waiting.as_ref().and_then(|it| it.reason.as_ref());
                waiting.is_some_and(|reason| reason.is(WaitingReason::BudgetExhausted))
            };
            let hungry: Vec<_> = facts.live_tasks.iter().filter(|(_, task)| spent(task)).collect();
            let owned =
                |key: &Object<Workload>| hungry.iter().any(|(_, task)| task.is_of(&key.meta.uid));
            let raised = |budget: &Option<Budget>| Some(raised(budget.as_ref()?, PLENTY));
            let tasks = hungry
                .iter()
                .filter_map(|(key, task)| Some(((*key).clone(), raised(&task.spec.budget)?)));
            let workloads = facts.live_workloads.iter().filter(|(_, it)| owned(it));
            let workloads =
                workloads.filter_map(|(key, it)| Some((key.clone(), raised(&it.spec.budget)?)));
            (tasks.collect::<Vec<_>>(), workloads.collect::<Vec<_>>())
        });
        for (key, budget) in workloads {
            self.set::<Workload>(&key, "budget", budget);
        }
        for (key, budget) in tasks {
            self.set::<AgenticTask>(&key, "budget", budget);
        }
        if let Some(times) = times.checked_sub(1) {
            let fleet = self.clone();
            self.engine.after(RAISED_AGAIN, move || fleet.raise_all(times));
        }
    }

    /// Nothing that a person did keeps work from going on.
    pub(crate) fn let_everything_go(self: &Arc<Self>) {
        self.raise_all(RAISED_TIMES);
        let (nodes, tasks, workloads) = self.net.truth.facts(|facts| {
            let nodes: Vec<_> = facts
                .live_nodes
                .iter()
                .map(|(key, node)| (key.clone(), node.spec.slots, node.spec.unschedulable))
                .collect();
            let tasks: Vec<_> = facts
                .live_tasks
                .iter()
                .filter(|(_, task)| task.spec.suspend == Some(true))
                .map(|(key, _)| key.clone())
                .collect();
            let workloads: Vec<_> = facts
                .live_workloads
                .iter()
                .filter(|(_, workload)| workload.spec.suspend == Some(true))
                .map(|(key, _)| key.clone())
                .collect();
            (nodes, tasks, workloads)
        });
        for key in workloads {
            self.set::<Workload>(&key, "suspend", false);
        }
        for key in tasks {
            self.set::<AgenticTask>(&key, "suspend", false);
        }
        for (key, slots, cordoned) in nodes {
            if slots == Some(0) {
                self.set::<FleetNode>(&key, "slots", 1);
            }
            if cordoned == Some(true) {
                self.set::<FleetNode>(&key, "unschedulable", false);
            }
        }
    }
}
