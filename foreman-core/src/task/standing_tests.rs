use serde_json::{Value, json};

use super::*;
use crate::testkit::sim::SIM_EPOCH_SECONDS;

fn now() -> WallTime {
    WallTime::from_unix_seconds(SIM_EPOCH_SECONDS)
}

fn owned_by(uid: &str) -> Value {
    json!([{"apiVersion": "foreman.llmkube.dev/v1alpha1", "kind": "Workload", "name": "w", "uid": uid}])
}

fn task(name: &str, owners: &Value, spec: &Value, status: &Value) -> Object<AgenticTask> {
    let mut spec = spec.clone();
    spec["kind"] = json!("freeform");
    spec["payload"] = json!({});
    Object::from_json(&json!({
        "metadata": {"name": name, "namespace": "d", "uid": name, "resourceVersion": "1",
            "generation": 1, "ownerReferences": owners},
        "spec": spec, "status": status}))
    .expect("a task")
}

fn agent(limit: i32, provider: &str) -> Object<Agent> {
    Object::from_json(&json!({
        "metadata": {"name": "coder", "namespace": "d", "uid": "coder", "resourceVersion": "1"},
        "spec": {"role": "coder", "tools": ["bash"], "maxConcurrentTasks": limit,
            "provider": provider}}))
    .expect("an agent")
}

fn workload(tokens: i64) -> Object<Workload> {
    let steps = json!([{"name": "a", "task": "a"}, {"name": "t", "task": "t"}]);
    Object::from_json(&json!({
        "metadata": {"name": "w", "namespace": "d", "uid": "w1", "resourceVersion": "1"},
        "spec": {"intent": "x", "budget": {"tokens": tokens}}, "status": {"steps": steps}}))
    .expect("a workload")
}

/// Where the first of these tasks stands.
fn stands(
    tasks: &[Object<AgenticTask>],
    agent: Option<Object<Agent>>,
    workload: Option<Object<Workload>>,
) -> Standing {
    fn by_key<K: crate::model::Kind>(
        objects: impl IntoIterator<Item = Object<K>>,
    ) -> BTreeMap<Key, Object<K>> {
        objects.into_iter().map(|object| (object.key(), object)).collect()
    }
    let all = by_key(tasks.iter().cloned());
    let (agents, workloads) = (by_key(agent), by_key(workload));
    let policy = Policy { allow_cloud: false };
    let known = Known { tasks: &all, agents: &agents, workloads: &workloads, policy, now: now() };
    why_waiting(tasks.first().expect("one"), known)
}

fn waits(reason: WaitingReason, message: &str) -> Standing {
    Standing::Waits(reason, message.to_owned())
}

#[test]
fn a_task_that_a_node_holds_or_that_ended_waits_for_nothing_and_one_without_troubles_for_a_node() {
    let none = json!({});
    for phase in ["Scheduled", "Running", "Succeeded", "Failed", "Unheard"] {
        let task = task("t", &json!([]), &none, &json!({"phase": phase, "assignedNode": "n"}));
        assert_eq!(stands(&[task], None, None), Standing::NotWaiting, "{phase}");
    }
    for status in [json!({}), json!({"phase": "Pending"})] {
        let task = task("t", &json!([]), &none, &status);
        assert_eq!(stands(&[task], None, None), Standing::WantsNode);
    }
}

#[test]
fn what_ends_a_task_and_what_counts_its_strikes_is_said_before_anything_else() {
    let cancelled = task("t", &json!([]), &json!({"cancel": true}), &json!({}));
    let ends = Standing::Ends("cancelled before it ran".to_owned());
    assert_eq!(stands(&[cancelled], None, None), ends);
    let lost = json!({"phase": "Pending", "attempt": 1,
        "attempts": [{"attempt": 1, "node": "n", "ended": "NodeLost", "endedAt": now()}]});
    let uncounted = task("t", &json!([]), &json!({}), &lost);
    let said = waits(WaitingReason::Backoff, "a claim of it was lost, which is being counted");
    assert_eq!(stands(&[uncounted], None, None), said);
    let after = task("t", &json!([]), &json!({"dependsOn": ["before"]}), &json!({}));
    let before = task("before", &json!([]), &json!({}), &json!({}));
    let said = waits(WaitingReason::Dependency, "waits for before");
    assert_eq!(stands(&[after, before], None, None), said);
}

#[test]
fn policy_goes_before_the_agents_limit_and_that_before_the_budget() {
    let spec = json!({"agentRef": {"name": "coder"}});
    let wanted = || task("t", &owned_by("w1"), &spec, &json!({}));
    let running = json!({"phase": "Running", "assignedNode": "n", "allowance": 30,
        "usage": {"promptTokens": 70}});
    let other = || task("a", &owned_by("w1"), &spec, &running);
    let both = || [wanted(), other()];
    let Standing::Waits(reason, message) =
        stands(&both(), Some(agent(1, "cloud-proxy")), Some(workload(100)))
    else {
        panic!("it waits");
    };
    assert_eq!(reason, WaitingReason::PolicyForbids, "{message}");
    assert_eq!(
        stands(&both(), Some(agent(1, "local")), Some(workload(100))),
        waits(WaitingReason::AgentAtLimit, "Agent coder runs 1 of 1 tasks")
    );
    assert_eq!(
        stands(&both(), Some(agent(2, "local")), Some(workload(100))),
        waits(
            WaitingReason::BudgetExhausted,
            "70 of 100 tokens of the Workload are spent and 30 reserved: raise \
             spec.budget.tokens of Workload w to go on"
        )
    );
    assert_eq!(stands(&both(), Some(agent(2, "local")), Some(workload(101))), Standing::WantsNode);
}

#[test]
fn a_task_of_a_workload_that_cannot_be_read_waits_and_one_of_a_namesake_spends_nothing_of_it() {
    let unread = waits(WaitingReason::Dependency, "Workload w is gone or cannot be read");
    let owned = |uid: &str| [task("t", &owned_by(uid), &json!({}), &json!({}))];
    assert_eq!(stands(&owned("w1"), None, None), unread);
    assert_eq!(stands(&owned("w0"), None, Some(workload(0))), unread);
    assert_eq!(stands(&owned("w1"), None, Some(workload(1))), Standing::WantsNode);
    // The order is the control loop's: a dependency is told first.
    let after = [
        task("t", &owned_by("w1"), &json!({"dependsOn": ["b"]}), &json!({})),
        task("b", &json!([]), &json!({}), &json!({})),
    ];
    assert_eq!(stands(&after, None, None), waits(WaitingReason::Dependency, "waits for b"));
    let of_others = json!([{"apiVersion": "v1", "kind": "Workload", "name": "w", "uid": "w1"}]);
    let foreign = [task("t", &of_others, &json!({}), &json!({}))];
    assert_eq!(stands(&foreign, None, None), Standing::WantsNode, "no Workload of ours");
}
