use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::memory::MemoryStore;
use crate::model::object::NewObject;
use crate::model::workload::WorkloadSpec;
use crate::ports::recorder::LogRecorder;
use crate::ports::store::Stores;
use crate::testkit::sim::SimClock;

/// A Workload `w` with the records of its steps, and what else its status says.
fn workload(uid: &str, status: &serde_json::Value) -> Object<Workload> {
    Object::from_json(&json!({
        "metadata": {"name": "w", "namespace": "d", "uid": uid, "resourceVersion": "1"},
        "spec": {"intent": "x"}, "status": status}))
    .expect("a workload")
}

fn task(name: &str, owners: &serde_json::Value, status: &serde_json::Value) -> Object<AgenticTask> {
    Object::from_json(&json!({
        "metadata": {"name": name, "namespace": "d", "uid": name, "resourceVersion": "1",
            "labels": {"foreman.llmkube.dev/step": "code"}, "ownerReferences": owners},
        "spec": {"kind": "freeform", "payload": {}}, "status": status}))
    .expect("a task")
}

fn owned_by(uid: &str) -> serde_json::Value {
    json!([{"apiVersion": "foreman.llmkube.dev/v1alpha1", "kind": "Workload", "name": "w", "uid": uid}])
}

#[test]
fn a_task_is_a_stray_only_if_its_workload_is_gone_has_ended_or_has_another_one_for_the_step() {
    let here =
        |name: &str| json!({"phase": "Dispatched", "steps": [{"name": "code", "task": name}]});
    let ended = json!({"phase": "Failed", "steps": [{"name": "code", "task": "w-code"}]});
    let settled =
        json!({"phase": "Failed", "steps": [{"name": "code", "task": "w-code", "settled": true}]});
    let child = task("w-code", &owned_by("u1"), &json!({}));
    let check =
        |child: &Object<AgenticTask>, there: Option<Object<Workload>>, is: Option<Stray>| {
            assert_eq!(children::stray(child, there.as_ref()), is, "{there:?}");
        };
    check(&child, Some(workload("u1", &here("w-code"))), None);
    check(&child, None, Some(Stray::OwnerGone));
    check(&child, Some(workload("u2", &here("w-code"))), Some(Stray::OwnerGone));
    check(&child, Some(workload("u1", &here("w-code-0123456789"))), Some(Stray::Second));
    check(&child, Some(workload("u1", &ended)), Some(Stray::OwnerEnded));
    check(&child, Some(workload("u1", &settled)), None);
    // Somebody else's operator keeps no records, or has none of this round.
    check(&child, Some(workload("u1", &json!({"phase": "Failed"}))), None);
    let other_step = json!({"steps": [{"name": "verify", "task": "w-verify"}]});
    check(&child, Some(workload("u1", &other_step)), None);
    let over = task("w-code", &owned_by("u1"), &json!({"phase": "Succeeded"}));
    check(&over, None, None);
    let other_group = json!([{"apiVersion": "v1", "kind": "Workload", "name": "w", "uid": "u1"}]);
    check(&task("w-code", &other_group, &json!({})), None, None);
    check(&task("w-code", &json!([]), &json!({})), None, None);
}

#[tokio::test]
async fn a_stray_is_deleted_only_after_a_fresh_look_at_its_workload() {
    let clock = SimClock::new();
    let stores = Stores::of(&MemoryStore::new(clock.clone()));
    let reconciler = Reconciler::new(stores.clone(), clock, Arc::new(LogRecorder));
    let key = Key::namespaced("default", "w");
    let spec = WorkloadSpec { intent: "x".into(), ..WorkloadSpec::default() };
    let owner = stores.workloads.create(NewObject::new(key.clone(), spec)).await.expect("created");
    let spec = task("t", &json!([]), &json!({})).spec;
    let mut new = NewObject::new(Key::namespaced("default", "w-code"), spec);
    new.owner_references.push(owner.as_owner());
    let child = stores.tasks.create(new.clone()).await.expect("created");

    let answer = reconciler.delete_stray(&key, Box::new(child.clone())).await;
    assert!(matches!(answer, Answer::Lost(Reread::There(_))), "its owner is there");
    assert!(stores.tasks.get(&child.key()).await.expect("read").is_some());

    stores.workloads.delete(&key, &owner.meta.uid, Expect::Any).await.expect("deleted");
    // What the cascade took is made once more, by a write that comes late.
    let late = stores.tasks.create(new).await.expect("created");
    let answer = reconciler.delete_stray(&key, Box::new(late.clone())).await;
    assert!(matches!(answer, Answer::Lost(Reread::Absent)));
    assert!(stores.tasks.get(&late.key()).await.expect("read").is_none());
}
