//! A Workload whose agents are played by what they write, on a store in memory.

use std::sync::{Arc, Mutex};

use foreman_core::control::Reconciler;
use foreman_core::model::condition::find_condition;
use foreman_core::model::{AgenticTask, Key, Object, Workload, WorkloadSpec};
use foreman_core::policy::Policy;
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Event, Expect, Recorder, Store};
use serde_json::{Value, json};

use crate::lab::{Lab, add_bare_workload};

#[derive(Default)]
pub(crate) struct Told(Mutex<Vec<Event>>);

impl Recorder for Told {
    fn record(&self, event: Event) {
        self.0.lock().expect("no panic").push(event);
    }
}

pub(crate) struct Play {
    pub(crate) lab: Lab,
    told: Arc<Told>,
    pub(crate) policy: Policy,
}

impl Play {
    /// A crew of local Agents and one in the cloud.
    pub(crate) async fn new() -> Self {
        let lab = Lab::new();
        for name in ["coder", "strong", "gate", "ann", "bob", "eve"] {
            lab.agent_with(name, |_| {}).await;
        }
        let cloud = serde_json::from_value(json!("cloud-proxy")).expect("a provider");
        lab.agent_with("far", |spec| spec.provider = Some(cloud)).await;
        Self { lab, told: Arc::default(), policy: Policy::default() }
    }

    pub(crate) async fn add(&self, spec: Value) {
        let spec: WorkloadSpec = serde_json::from_value(spec).expect("a spec");
        add_bare_workload(&self.lab, "w", spec).await;
        self.settle().await;
    }

    /// Runs the control loop until nothing is left to do, as a process that begins anew.
    pub(crate) async fn settle(&self) {
        let (stores, clock) = (self.lab.stores.clone(), self.lab.clock.clone());
        let loops = Reconciler::new(stores, clock, self.told.clone()).with_policy(self.policy);
        // Facts that do not hurry are gathered for a while: the next process writes them.
        for _ in 0..2 {
            loops.reconcile_once().await.expect("settled");
        }
        assert_eq!(loops.reconcile_once().await.expect("settled"), 0, "written again");
    }

    pub(crate) async fn ends(&self, task: &str, status: Value) {
        let status = status.as_object().expect("an object").clone();
        let mut change = Change::<AgenticTask>::of(Part::Status);
        for field in ["phase", "verdict", "failureReason", "outcome", "result", "branch"] {
            if let Some(value) = status.get(field) {
                change = change.set(field, value);
            }
        }
        let key = Key::namespaced("default", task);
        Store::patch(&*self.lab.store, &key, change, Expect::Any).await.expect(task);
        self.settle().await;
    }

    pub(crate) async fn said(&self, task: &str, verdict: &str, outcome: &str) {
        let result = json!({"summary": format!("{task} says {verdict}"),
            "extra": {"outcome": outcome}});
        self.ends(task, json!({"phase": "Succeeded", "verdict": verdict, "result": result})).await;
    }

    pub(crate) async fn names(&self) -> Vec<String> {
        self.lab.tasks().await.into_iter().map(|task| task.meta.name).collect()
    }

    pub(crate) async fn task(&self, name: &str) -> Value {
        self.lab.task_now(name).await.to_json()
    }

    pub(crate) async fn now(&self) -> Object<Workload> {
        self.lab.workload_now("w").await
    }

    pub(crate) async fn phase(&self) -> String {
        self.now().await.status.phase.map(|phase| phase.to_string()).unwrap_or_default()
    }

    /// `status/reason` of a condition.
    pub(crate) async fn condition(&self, kind: &str) -> String {
        let status = self.now().await.status;
        let found = find_condition(&status.conditions, kind);
        found.map_or_else(|| "-".to_owned(), |found| format!("{}/{}", found.status, found.reason))
    }

    pub(crate) async fn message(&self, kind: &str) -> String {
        let status = self.now().await.status;
        find_condition(&status.conditions, kind).map(|c| c.message.clone()).unwrap_or_default()
    }

    pub(crate) fn told(&self, reason: &str) -> usize {
        let told = self.told.0.lock().expect("no panic");
        told.iter().filter(|event| event.reason == reason).count()
    }
}

pub(crate) fn batch(issues: &[i32]) -> Value {
    json!({"intent": "make it so", "repo": "o/n", "issues": issues,
        "coderAgentRef": {"name": "coder"}, "verifierAgentRef": {"name": "gate"},
        "reviewerAgentRefs": [{"name": "ann"}, {"name": "bob"}]})
}

pub(crate) fn with(mut spec: Value, more: &Value) -> Value {
    for (name, value) in more.as_object().expect("an object") {
        spec[name.as_str()] = value.clone();
    }
    spec
}
