//! Creating and reading.

use super::Subject;
use super::support::{assert_invalid, created, patched, present, spec, task, task_in, workload};
use crate::model::agentic_task::AgenticTaskStatus;
use crate::model::{AgenticTask, FleetNode, FleetNodeSpec, Key, NewObject};
use crate::ports::{Expect, StoreError};

/// A created object is read back as the create showed it, with the books of an API server.
pub async fn what_is_created_is_read_back(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let mut new = task(subject, "a").label("team", "core");
    new.annotations.insert("example.com/Note".to_owned(), "any text: {}".to_owned());
    let made = created(&*tasks, new.clone()).await;
    assert_eq!(made.key(), new.key);
    assert_eq!(made.meta.labels, new.labels);
    assert_eq!(made.meta.annotations, new.annotations);
    assert_eq!(made.meta.generation, 1);
    assert_eq!(made.status, AgenticTaskStatus::default());
    assert_eq!(made.spec.payload.prompt, new.spec.payload.prompt);
    assert!(!made.uid().as_str().is_empty() && !made.revision().as_str().is_empty());
    assert!(made.meta.creation_timestamp.is_some());
    assert_eq!(present(&*tasks, &new.key).await, made);
}

/// Nothing there is an answer, not an error.
pub async fn an_absent_object_is_none(subject: &dyn Subject) {
    let stores = subject.stores();
    let key = Key::namespaced(subject.namespace(), "absent");
    assert_eq!(stores.tasks.get(&key).await, Ok(None));
    assert_eq!(stores.workloads.get(&key).await, Ok(None));
    assert_eq!(stores.nodes.get(&Key::cluster("absent")).await, Ok(None));
}

/// Create is the one write that must find nothing; it tells whose the name is and changes nothing.
pub async fn a_taken_name_is_refused_and_says_whose(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let first = created(&*tasks, task(subject, "a")).await;
    let mut again = task(subject, "a");
    again.spec.payload.prompt = Some("something else".to_owned());
    let refused = tasks.create(again).await;
    assert_eq!(refused, Err(StoreError::AlreadyExists { uid: Some(first.uid().clone()) }));
    assert_eq!(present(&*tasks, &first.key()).await, first);
}

/// The same name in another namespace or of another kind is another object.
pub async fn a_name_counts_within_kind_and_namespace(subject: &dyn Subject) {
    let stores = subject.stores();
    let here = created(&*stores.tasks, task(subject, "same")).await;
    let there = created(&*stores.tasks, task_in(subject.other_namespace(), "same")).await;
    let other = created(&*stores.workloads, workload(subject, "same")).await;
    assert_ne!(here.uid(), there.uid());
    assert_ne!(here.uid(), other.uid());
    patched(&*stores.tasks, &here.key(), spec().set("priority", 7)).await;
    assert_eq!(present(&*stores.tasks, &there.key()).await, there);
    assert_eq!(present(&*stores.workloads, &other.key()).await, other);
}

/// A new object of an old name is told from the old one by its uid.
pub async fn a_uid_is_never_used_again(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let made = created(&*tasks, task(subject, "a")).await;
        assert!(!seen.contains(made.uid()), "{} came twice", made.uid());
        tasks.delete(&made.key(), made.uid(), Expect::Any).await.expect("delete");
        seen.push(made.uid().clone());
    }
}

/// A namespaced object needs a namespace, a cluster-scoped one has none.
pub async fn scope_is_checked(subject: &dyn Subject) {
    let stores = subject.stores();
    let homeless: NewObject<AgenticTask> =
        NewObject { key: Key::cluster("a"), ..task(subject, "a") };
    assert_invalid(stores.tasks.create(homeless).await, "metadata.namespace");
    let spec = FleetNodeSpec { node_name: "a".to_owned(), ..FleetNodeSpec::default() };
    let housed: NewObject<FleetNode> =
        NewObject::new(Key::namespaced(subject.namespace(), "a"), spec);
    assert_invalid(stores.nodes.create(housed).await, "metadata.namespace");
}
