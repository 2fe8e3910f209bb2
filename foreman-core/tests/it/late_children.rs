//! Tasks of a Workload that a store makes long after their creation was given up.

use foreman_core::model::{
    AgenticTask, Key, NewObject, Object, TaskKind, TaskPhase, Workload, WorkloadSpec,
};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Expect, Store};
use serde_json::json;

use crate::lab::{Lab, add_workload, freeform, step};

fn one_step() -> WorkloadSpec {
    WorkloadSpec {
        intent: "x".into(),
        pipeline: vec![step("code", TaskKind::IssueFix, &[])],
        ..WorkloadSpec::default()
    }
}

async fn reconcile(lab: &Lab) {
    lab.reconciler().reconcile_once().await.expect("settled");
    assert_eq!(lab.reconciler().reconcile_once().await.expect("settled"), 0, "at rest");
}

/// The creation of a child, done once more under that name.
async fn comes_late(lab: &Lab, child: &Object<AgenticTask>, name: &str) {
    let mut new =
        NewObject::<AgenticTask>::new(Key::namespaced("default", name), child.spec.clone());
    new.labels.clone_from(&child.meta.labels);
    new.owner_references.clone_from(&child.meta.owner_references);
    Store::create(&*lab.store, new).await.expect("created");
}

async fn names(lab: &Lab) -> Vec<String> {
    lab.tasks().await.into_iter().map(|task| task.meta.name).collect()
}

async fn delete_workload(lab: &Lab) {
    let workload = lab.workload_now("w").await;
    let store: &dyn Store<Workload> = &*lab.store;
    store.delete(&workload.key(), workload.uid(), Expect::Any).await.expect("deleted");
}

#[tokio::test]
async fn a_child_that_comes_after_the_deletion_of_its_workload_is_deleted() {
    for made_again in [false, true] {
        let lab = Lab::new();
        add_workload(&lab, "w", one_step()).await;
        reconcile(&lab).await;
        let child = lab.task_now("w-code").await;
        delete_workload(&lab).await;
        assert_eq!(names(&lab).await, [""; 0], "the deletion takes its tasks with it");
        comes_late(&lab, &child, "w-code").await;
        if made_again {
            add_workload(&lab, "w", one_step()).await;
        }
        reconcile(&lab).await;
        if made_again {
            let now = lab.workload_now("w").await;
            let steps = now.status.steps.first().expect("recorded").task.clone();
            assert_eq!(names(&lab).await, [steps.expect("named")], "only that of the new one");
        } else {
            assert_eq!(names(&lab).await, [""; 0]);
        }
    }
}

#[tokio::test]
async fn a_child_that_comes_after_another_name_was_chosen_is_deleted_and_the_other_goes_on() {
    let lab = Lab::new();
    lab.task("w-code", freeform(None)).await;
    add_workload(&lab, "w", one_step()).await;
    reconcile(&lab).await;
    let ours = names(&lab).await.into_iter().find(|name| name != "w-code").expect("made");
    lab.delete_task("w-code").await;
    comes_late(&lab, &lab.task_now(&ours).await, "w-code").await;
    reconcile(&lab).await;
    assert_eq!(names(&lab).await, [ours.as_str()]);
    let child = lab.task_now(&ours).await;
    assert_eq!((child.status.known_phase(), child.spec.cancel), (Some(TaskPhase::Pending), None));
}

#[tokio::test]
async fn a_child_that_comes_after_its_workload_gave_up_is_cancelled() {
    let lab = Lab::new();
    add_workload(&lab, "w", one_step()).await;
    reconcile(&lab).await;
    let child = lab.task_now("w-code").await;
    lab.delete_task("w-code").await;
    let gave_up = Change::<Workload>::of(Part::Status)
        .set("phase", "Failed")
        .set("steps", json!([{"name": "code", "task": "w-code"}]));
    let key = Key::namespaced("default", "w");
    Store::patch(&*lab.store, &key, gave_up, Expect::Any).await.expect("patched");
    reconcile(&lab).await;
    assert_eq!(names(&lab).await, [""; 0], "an ended Workload makes no tasks");
    comes_late(&lab, &child, "w-code").await;
    reconcile(&lab).await;
    let child = lab.task_now("w-code").await;
    assert_eq!(
        (child.status.known_phase(), child.spec.cancel),
        (Some(TaskPhase::Failed), Some(true))
    );
}
