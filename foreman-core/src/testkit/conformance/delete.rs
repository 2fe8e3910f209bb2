//! Deleting, and what goes along.

use super::Subject;
use super::support::{agent, created, meta, patched, present, status, task, workload};
use crate::model::agentic_task::AgenticTaskStatus;
use crate::model::meta::OwnerReference;
use crate::model::{AgenticTask, Uid};
use crate::ports::{Expect, StoreError};

/// After a delete there is nothing, and nothing to delete again.
pub async fn a_deleted_object_is_gone(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let made = created(&*tasks, task(subject, "a")).await;
    let other = created(&*tasks, task(subject, "b")).await;
    let (key, uid) = (made.key(), made.uid());
    assert_eq!(tasks.delete(&key, uid, Expect::Any).await, Ok(()));
    assert_eq!(tasks.get(&key).await, Ok(None));
    assert_eq!(tasks.delete(&key, uid, Expect::Any).await, Err(StoreError::NotFound));
    let late = tasks.patch(&key, status().set("attempt", 1), Expect::Any).await;
    assert_eq!(late, Err(StoreError::NotFound));
    assert_eq!(present(&*tasks, &other.key()).await, other);
}

/// A delete is for one object, not for whatever has its name by now.
pub async fn a_delete_needs_the_uid(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let made = created(&*tasks, task(subject, "a")).await;
    let wrong = Uid::new("00000000-0000-4000-8000-00000000dead");
    let refused = tasks.delete(&made.key(), &wrong, Expect::Any).await;
    assert_eq!(refused, Err(StoreError::Conflict));
    assert_eq!(present(&*tasks, &made.key()).await, made);
}

/// A delete under a compare-and-swap.
pub async fn a_delete_at_an_old_revision_is_a_conflict(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let made = created(&*tasks, task(subject, "a")).await;
    let now = patched(&*tasks, &made.key(), status().set("attempt", 1)).await;
    let old = Expect::At(made.revision().clone());
    let refused = tasks.delete(&made.key(), made.uid(), old).await;
    assert_eq!(refused, Err(StoreError::Conflict));
    assert_eq!(present(&*tasks, &made.key()).await, now);
    let current = Expect::At(now.revision().clone());
    assert_eq!(tasks.delete(&made.key(), made.uid(), current).await, Ok(()));
    assert_eq!(tasks.get(&made.key()).await, Ok(None));
}

/// Nothing of a deleted object is in its successor.
pub async fn a_new_object_of_an_old_name_starts_afresh(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let old = created(&*tasks, task(subject, "a").label("team", "core")).await;
    patched(&*tasks, &old.key(), status().set("phase", "Running").set("future", 1)).await;
    tasks.delete(&old.key(), old.uid(), Expect::Any).await.expect("delete");
    let new = created(&*tasks, task(subject, "a")).await;
    assert_ne!(new.uid(), old.uid());
    assert_ne!(new.revision(), old.revision());
    assert_eq!((new.meta.generation, new.meta.labels.len()), (1, 0));
    assert_eq!(new.status, AgenticTaskStatus::default());
    let late = tasks.delete(&old.key(), old.uid(), Expect::Any).await;
    assert_eq!(late, Err(StoreError::Conflict), "the old uid deletes the new object");
}

/// What an object owns goes with it, whatever its kind, down to the last level; the rest stays.
pub async fn a_deletion_takes_what_is_owned_over_levels_and_kinds(subject: &dyn Subject) {
    if !subject.cascades() {
        return;
    }
    let stores = subject.stores();
    let root = created(&*stores.workloads, workload(subject, "root")).await;
    let mut child = task(subject, "child");
    child.owner_references.push(root.as_owner());
    let child = created(&*stores.tasks, child).await;
    let mut grandchild = agent(subject, "grandchild");
    grandchild.owner_references.push(child.as_owner());
    let grandchild = created(&*stores.agents, grandchild).await;
    let mut last = task(subject, "last");
    last.owner_references.push(grandchild.as_owner());
    let last = created(&*stores.tasks, last).await;
    let other = created(&*stores.workloads, workload(subject, "other")).await;
    let mut stays = task(subject, "stays");
    stays.owner_references.push(other.as_owner());
    let stays = created(&*stores.tasks, stays).await;
    stores.workloads.delete(&root.key(), root.uid(), Expect::Any).await.expect("delete");
    assert_eq!(stores.workloads.get(&root.key()).await, Ok(None));
    assert_eq!(stores.tasks.get(&child.key()).await, Ok(None));
    assert_eq!(stores.agents.get(&grandchild.key()).await, Ok(None));
    assert_eq!(stores.tasks.get(&last.key()).await, Ok(None));
    assert_eq!(present(&*stores.tasks, &stays.key()).await, stays);
}

/// An owner of the same name and another uid is another owner; an owner that is set later counts.
pub async fn an_owner_is_known_by_its_uid(subject: &dyn Subject) {
    if !subject.cascades() {
        return;
    }
    let stores = subject.stores();
    let owner = created(&*stores.workloads, workload(subject, "w")).await;
    let namesake = OwnerReference { uid: Uid::new("another"), ..owner.as_owner() };
    let mut stays = task(subject, "stays");
    stays.owner_references.push(namesake.clone());
    let stays = created(&*stores.tasks, stays).await;
    let adopted = created(&*stores.tasks, task(subject, "adopted")).await;
    let change = meta().set("ownerReferences", [owner.as_owner()]);
    patched(&*stores.tasks, &adopted.key(), change).await;
    let mut left = task(subject, "left");
    left.owner_references.push(owner.as_owner());
    let left = created(&*stores.tasks, left).await;
    patched(&*stores.tasks, &left.key(), meta().set("ownerReferences", [namesake])).await;
    stores.workloads.delete(&owner.key(), owner.uid(), Expect::Any).await.expect("delete");
    assert_eq!(stores.tasks.get(&adopted.key()).await, Ok(None));
    assert_eq!(present(&*stores.tasks, &stays.key()).await, stays);
    assert_eq!(present(&*stores.tasks, &left.key()).await.uid(), left.uid());
}

/// Objects that own each other are deleted once each.
pub async fn owners_in_a_ring_end(subject: &dyn Subject) {
    if !subject.cascades() {
        return;
    }
    let tasks = subject.stores().tasks;
    let first = created(&*tasks, task(subject, "a")).await;
    let mut second = task(subject, "b");
    second.owner_references.push(first.as_owner());
    let second = created(&*tasks, second).await;
    let change = meta::<AgenticTask>().set("ownerReferences", [second.as_owner()]);
    patched(&*tasks, &first.key(), change).await;
    tasks.delete(&second.key(), second.uid(), Expect::Any).await.expect("delete");
    assert_eq!(tasks.get(&first.key()).await, Ok(None));
    assert_eq!(tasks.get(&second.key()).await, Ok(None));
}
