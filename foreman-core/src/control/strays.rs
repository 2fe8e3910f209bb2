//! Tasks that no step of a Workload needs: a store may do a creation long after it was given up. They
//! are found by what stands in the store, so whoever leads then finds them.

use super::answer::{Answer, not_read};
use super::mirror::Reread;
use super::reconciler::{Reconciler, World};
use super::write::{Urgency, Write};
use crate::model::agentic_task::AgenticTask;
use crate::model::ids::Key;
use crate::model::object::{Kind, Object};
use crate::model::workload::Workload;
use crate::ports::recorder::{Event, EventKind};
use crate::ports::store::{Change, Expect, Part};
use crate::workload::children::{self, Stray};

/// The write that a task needs because its Workload is gone or has ended. One of an ended Workload is
/// cancelled and stays as a record, like every other task of a Workload that gave up. A second task of a
/// step is found where the Workload's records are gone through anyway.
pub(super) fn write_for(world: &World, task: &Object<AgenticTask>) -> Option<Write> {
    let (key, uid) = task.workload()?;
    let there = world.workloads.objects.get(&key);
    let goes_on = |owner: &Object<Workload>| owner.meta.uid == *uid && !owner.status.has_ended();
    if there.is_some_and(goes_on) || world.workloads.unreadable.contains(&key) {
        return None;
    }
    match children::stray(task, there)? {
        Stray::OwnerGone | Stray::Second => delete(task),
        Stray::OwnerEnded if task.spec.cancel == Some(true) => None,
        Stray::OwnerEnded => Some(Write::Task {
            key: task.key(),
            revision: task.revision().clone(),
            change: Change::of(Part::Spec).set("cancel", true),
            event: Some(said(task, Stray::OwnerEnded)),
            urgency: Urgency::Now,
        }),
    }
}

/// Deletes it, should a fresh read of its Workload agree.
pub(super) fn delete(task: &Object<AgenticTask>) -> Option<Write> {
    let (workload, _) = task.workload()?;
    Some(Write::DeleteStray { workload, task: Box::new(task.clone()) })
}

fn said(task: &Object<AgenticTask>, stray: Stray) -> Event {
    let done = match stray {
        Stray::OwnerGone | Stray::Second => "deleted",
        Stray::OwnerEnded => "cancelled",
    };
    Event {
        kind: AgenticTask::NAMES.kind,
        key: task.key(),
        severity: EventKind::Warning,
        reason: "StrayTask",
        message: format!("{done}: {}", stray.message()),
    }
}

impl Reconciler {
    /// Deletes a stray if a fresh read of its Workload still says that it is one: tasks and Workloads
    /// are watched apart, and a task is seen before the Workload that it belongs to.
    pub(super) async fn delete_stray(
        &self,
        workload: &Key,
        task: Box<Object<AgenticTask>>,
    ) -> Answer<AgenticTask> {
        let found = match self.stores.workloads.get(workload).await {
            Ok(found) => found,
            Err(error) => return not_read(workload, error),
        };
        let key = task.key();
        let stray = match children::stray(&task, found.as_ref()) {
            Some(stray @ (Stray::OwnerGone | Stray::Second)) => stray,
            // Looked at again soon: the watch of the Workloads is about to show the same.
            Some(Stray::OwnerEnded) | None => return Answer::Lost(Reread::There(task)),
        };
        let store = &*self.stores.tasks;
        let expect = Expect::At(task.revision().clone());
        match store.delete(&key, &task.meta.uid, expect).await {
            Ok(()) => {
                self.recorder.record(said(&task, stray));
                Answer::Lost(Reread::Absent)
            }
            Err(error) => self.answer(store, &key, Err(error)).await,
        }
    }
}

#[cfg(test)]
#[path = "strays_tests.rs"]
mod tests;
