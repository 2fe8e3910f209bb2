//! Whatever a store holds, the rules do not panic and the control loop comes to rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::Reconciler;
use crate::fleet::liveness::Seen;
use crate::memory::MemoryStore;
use crate::model::time::AwakeTime;
use crate::model::{Agent, AgenticTask, FleetNode, Key, Kind, Object, Outcome, WallTime, Workload};
use crate::policy::admit::{Egress, Policy};
use crate::ports::recorder::LogRecorder;
use crate::ports::store::{Query, Stores};
use crate::schedule::{NodeRow, explain, need_of};
use crate::task::intake::{self, Facts};
use crate::testkit::sim::SimClock;
use crate::workload::view::WorkloadView;
use crate::workload::{expand, rollup};

/// Passes of the control loop after which a store must be at rest, a minute apart.
const MINUTES: u64 = 4;

fn node() -> Value {
    json!({"apiVersion": "foreman.llmkube.dev/v1alpha1", "kind": "FleetNode",
    "metadata": {"name": "one", "uid": "n1", "labels": {"a": "b"}},
    "spec": {"nodeName": "one", "roles": ["gpu"], "slots": 2, "unschedulable": false},
    "status": {"phase": "Ready", "session": "s", "lastHeartbeatTime": "2026-11-24T10:00:00Z",
        "capacity": {"slots": 2, "ramGB": 64}, "runs": [{"task": "d/t", "uid": "t1"}],
        "capability": {"accelerator": "cuda", "availableRAMGB": 60, "totalRAMGB": 64,
            "installedModels": ["m"], "maxContextTokens": 1000, "tokensPerSecond": 9,
            "models": [{"name": "m", "contextTokens": 9, "loaded": true}]}}})
}

fn agent() -> Value {
    json!({"apiVersion": "foreman.llmkube.dev/v1alpha1", "kind": "Agent",
    "metadata": {"name": "coder", "namespace": "d", "uid": "a1"},
    "spec": {"role": "coder", "tools": ["bash"], "maxConcurrentTasks": 2,
        "requiredCapability": {"minRAMGB": 4, "accelerator": "any"},
        "execution": {"mode": "InProcess"}}})
}

fn task(name: &str, uid: &str, depends_on: &[&str]) -> Value {
    json!({"apiVersion": "foreman.llmkube.dev/v1alpha1", "kind": "AgenticTask",
    "metadata": {"name": name, "namespace": "d", "uid": uid, "generation": 1,
        "labels": {"foreman.llmkube.dev/step": "code"},
        "ownerReferences": [{"apiVersion": "v1", "kind": "Workload", "name": "w", "uid": "w1"}]},
    "spec": {"kind": "freeform", "payload": {"prompt": "x"}, "agentRef": {"name": "coder"},
        "dependsOn": depends_on, "priority": 1, "timeoutSeconds": 60,
        "retry": {"maxAttempts": 2}, "budget": {"tokens": 5},
        "requiredCapability": {"minRAMGB": 4}},
    "status": {"phase": "Pending", "attempt": 1, "observedGeneration": 1,
        "assignedNode": "one", "session": "s", "claimedAt": "2026-11-24T10:00:00Z",
        "verdict": "GO", "usage": {"promptTokens": 3}, "checkpoint": {"node": "one"},
        "waiting": {"reason": "NoNodes", "message": "m", "since": "2026-11-24T10:00:00Z"},
        "attempts": [{"attempt": 1, "startedAt": "2026-11-24T10:00:00Z", "ended": "Infrastructure"}],
        "outcome": {"decision": "Go", "infrastructure": "Ok"},
        "result": {"extra": {"outcome": "NO-CHANGES", "modelExtra": {"outcome": "x"}}},
        "conditions": [{"type": "Running", "status": "False", "reason": "Refused", "message": "m",
            "lastTransitionTime": "2026-11-24T10:00:00Z"}]}})
}

fn workload() -> Value {
    let step = |name: &str, after: &[&str]| {
        json!({"name": name, "kind": "freeform", "agentRef": {"name": "coder"}, "payload": {},
            "dependsOn": after})
    };
    json!({"apiVersion": "foreman.llmkube.dev/v1alpha1", "kind": "Workload",
    "metadata": {"name": "w", "namespace": "d", "uid": "w1"},
    "spec": {"intent": "x", "maxTasks": 3, "pipeline": [step("code", &[]), step("b", &["code"])],
        "suspend": false, "cancel": false},
    "status": {"phase": "Planning", "steps": [
        {"name": "code", "task": "w-code", "uid": "t2", "phase": "Pending", "settled": false}],
        "tasks": [{"name": "w-code"}], "succeededTasks": 0}})
}

/// Values that are likely to hurt.
fn hurtful() -> impl Strategy<Value = Value> {
    let texts = [
        "",
        "one",
        "t",
        "w",
        "w-code",
        "code",
        "b",
        "coder",
        "any",
        "cuda",
        "Pending",
        "Running",
        "Scheduled",
        "Succeeded",
        "Failed",
        "Skipped",
        "GO",
        "Planning",
        "Ready",
        "Infrastructure",
        "BudgetExhausted",
        "AgentMissing",
        "DependencyMissing",
        "9999-12-31T23:59:59Z",
        "-009999-01-02T01:59:59Z",
        "\u{1b}[31m\u{0}é",
        "A.B..c",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec![i64::MIN, i64::MAX, -1, 0, 1, i64::from(i32::MAX)])
            .prop_map(Value::from),
        prop::sample::select(texts.to_vec()).prop_map(Value::from),
        (1_usize..400).prop_map(|n| Value::from("x".repeat(n))),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,4}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Puts a value in a place of the object, which `at` finds: one index a level.
fn spoil(object: &mut Value, at: &[prop::sample::Index], value: Value) {
    let Some((first, rest)) = at.split_first() else {
        *object = value;
        return;
    };
    let child = match object {
        Value::Object(map) if !map.is_empty() => {
            let place = first.index(map.len());
            map.values_mut().nth(place)
        }
        Value::Array(list) if !list.is_empty() => {
            let place = first.index(list.len());
            list.get_mut(place)
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Object(_)
        | Value::Array(_) => None,
    };
    match child {
        Some(child) => spoil(child, rest, value),
        None => *object = value,
    }
}

fn spoilt(object: Value) -> impl Strategy<Value = Value> {
    let place = prop::collection::vec(any::<prop::sample::Index>(), 0..6);
    prop::collection::vec((place, hurtful()), 0..4).prop_map(move |faults| {
        let mut object = object.clone();
        for (place, value) in faults {
            spoil(&mut object, &place, value);
        }
        object
    })
}

#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) nodes: Vec<Value>,
    pub(super) agent: Value,
    pub(super) tasks: Vec<Value>,
    pub(super) workload: Value,
}

pub(super) fn held() -> impl Strategy<Value = Held> {
    let tasks = (spoilt(task("t", "t1", &["w-code"])), spoilt(task("w-code", "t2", &[])));
    let nodes = (spoilt(node()), spoilt(node()));
    (nodes, spoilt(agent()), tasks, spoilt(workload())).prop_map(
        |(nodes, agent, tasks, workload)| Held {
            nodes: vec![nodes.0, nodes.1],
            agent,
            tasks: vec![tasks.0, tasks.1],
            workload,
        },
    )
}

fn read<K: Kind>(object: &Value) -> Option<Object<K>> {
    let mut object = object.clone();
    crate::model::apiserver::set_revision(&mut object, &crate::model::Revision::new("1"));
    Object::from_json(&object).ok()
}

fn rules(held: &Held) {
    let (wall, awake) = (WallTime::from_unix_seconds(1_795_000_000), AwakeTime::default());
    let agents: BTreeMap<_, _> =
        read::<Agent>(&held.agent).into_iter().map(|agent| (agent.key(), agent)).collect();
    let tasks: BTreeMap<_, _> =
        held.tasks.iter().filter_map(read::<AgenticTask>).map(|task| (task.key(), task)).collect();
    let nodes: Vec<_> = held.nodes.iter().filter_map(read::<FleetNode>).collect();
    for node in &nodes {
        let seen = Seen::first(node.status.last_heartbeat_time, awake);
        if let Ok(row) = NodeRow::of(node, &seen, wall, awake) {
            assert!(!row.fresh || node.status.last_heartbeat_time.is_some());
        }
    }
    let snapshot = super::snapshot_of(&nodes, &tasks, &agents, &BTreeMap::new(), wall, awake);
    let none = BTreeSet::new();
    let unreadable = [&none, &none];
    let facts = Facts { tasks: &tasks, agents: &agents, unreadable, now: wall, shared: None };
    for task in tasks.values() {
        drop(intake::next(task, facts));
        drop(explain(&snapshot, &need_of(task, &tasks, &agents)));
        let _ = (Outcome::of(&task.status), crate::task::timeout::left(task, wall));
    }
    if let Some(workload) = read::<Workload>(&held.workload) {
        drop(expand::desired(&workload.spec));
        let steps = &workload.status.steps;
        let view = WorkloadView {
            name: &workload.meta.name,
            spec: &workload.spec,
            policy: Policy { allow_cloud: steps.is_empty() },
            egress_of: &|_| Some(Egress::Local),
        };
        let plan = expand::plan(view, steps).unwrap_or_default();
        let child = tasks.values().next();
        let steps: Vec<_> =
            workload.status.steps.iter().map(|step| rollup::fold(step, child)).collect();
        drop(rollup::roll_up(&steps, &plan));
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("the store in memory answers at once")
}

proptest! {
    #[test]
    fn no_object_makes_the_rules_panic_or_the_loop_run_for_ever(held in held()) {
        rules(&held);
        let clock = SimClock::new();
        let store = MemoryStore::new(clock.clone());
        let cluster = Key::cluster;
        let within = |name: &str| Key::namespaced("d", name);
        for (name, node) in ["one", "two"].into_iter().zip(held.nodes) {
            store.put_raw::<FleetNode>(cluster(name), node);
        }
        store.put_raw::<Agent>(within("coder"), held.agent);
        for (name, task) in ["t", "w-code"].into_iter().zip(held.tasks) {
            store.put_raw::<AgenticTask>(within(name), task);
        }
        store.put_raw::<Workload>(within("w"), held.workload);
        let ended = |store: &Arc<MemoryStore>| {
            let all = now(crate::ports::Store::<AgenticTask>::list(&**store, &Query::all()));
            let objects = all.expect("listed").objects.into_iter();
            let ended = objects.filter(|task| {
                task.status.has_ended()
            });
            ended.map(|task| (task.key(), task.status)).collect::<Vec<_>>()
        };
        for _ in 0..MINUTES {
            let before = ended(&store);
            let reconciler =
                Reconciler::new(Stores::of(&store), clock.clone(), Arc::new(LogRecorder));
            let first = now(reconciler.reconcile_once());
            prop_assert!(first.is_ok(), "{first:?}");
            // Counts in a message that moved meanwhile are written by the next.
            let second = now(reconciler.reconcile_once());
            prop_assert!(second.is_ok(), "{second:?}");
            let rest = store.revision();
            let third = now(reconciler.reconcile_once());
            prop_assert!(third.is_ok() && store.revision() == rest, "{third:?}");
            let after = ended(&store);
            for task in before {
                prop_assert!(after.contains(&task), "an ended task was written: {task:?}");
            }
            clock.advance(Duration::from_mins(1));
        }
    }
}
