//! Children: the task objects of a workload's steps.

use std::collections::BTreeMap;

use super::expand::{DesiredStep, hash};
use crate::model::agentic_task::{AgenticTask, AgenticTaskSpec, Continues, TaskKind};
use crate::model::apiserver::check_label_value;
use crate::model::ids::{Key, OBJECT_NAME_BYTES_MAX, check_object_name};
use crate::model::object::{NewObject, Object};
use crate::model::wellknown::{
    ANNOTATION_LOCAL_ONLY, ANNOTATION_PUSH_TO, ANNOTATION_SUSPENDED_BY, LABEL_STEP, LABEL_WORKLOAD,
};
use crate::model::workload::{StepRecord, Workload};

/// Whether a task is the child of a workload that stands for a step: by owner uid and step label,
/// never by its name.
pub(crate) fn is_child(
    task: &Object<AgenticTask>,
    workload: &Object<Workload>,
    step: &str,
) -> bool {
    task.is_of(&workload.meta.uid)
        && task.meta.labels.get(LABEL_STEP).map(String::as_str) == Some(label(step).as_str())
}

/// The Workload that owns a task, if it is among these. One of the same name that was made later is
/// not its owner.
pub(crate) fn owner_among<'a>(
    task: &Object<AgenticTask>,
    workloads: &'a BTreeMap<Key, Object<Workload>>,
) -> Option<&'a Object<Workload>> {
    let (key, uid) = task.workload()?;
    workloads.get(&key).filter(|workload| workload.meta.uid == *uid)
}

/// What is wrong with a task that no step of a Workload needs. A store may do a creation long after it
/// was given up: when the Workload is gone, has ended, or has another task for the step by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stray {
    /// The Workload that it was made for is not there any more: its deletion came too early to take
    /// the task with it.
    OwnerGone,
    /// Another task stands for its step.
    Second,
    /// The Workload has ended, and the task is the one of a step that never was settled.
    OwnerEnded,
}

impl Stray {
    /// Why, for a person.
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::OwnerGone => "it was made for a Workload that is not there any more",
            Self::Second => "it was made late: another task stands for its step",
            Self::OwnerEnded => "it was made late: its Workload has ended",
        }
    }
}

/// Whether a task that has an owner is needed by nobody. `there` is the Workload at the owner's place.
///
/// A Workload without records was made by somebody else, and what is not recorded may be a later round
/// of theirs: only what its records contradict is a stray.
pub(crate) fn stray(task: &Object<AgenticTask>, there: Option<&Object<Workload>>) -> Option<Stray> {
    let (_, uid) = task.workload()?;
    if task.meta.owner_references.len() > 1 || task.status.has_ended() {
        return None;
    }
    let Some(workload) = there.filter(|workload| workload.meta.uid == *uid) else {
        return Some(Stray::OwnerGone);
    };
    if workload.meta.deletion_timestamp.is_some() {
        return None;
    }
    let step = task.meta.labels.get(LABEL_STEP)?;
    let mut records = workload.status.steps.iter().filter(|record| label(&record.name) == *step);
    let record = records.next()?;
    if record.task.as_ref() != Some(&task.meta.name) {
        return record.task.is_some().then_some(Stray::Second);
    }
    let unsettled = record.settled != Some(true);
    (workload.status.has_ended() && unsettled).then_some(Stray::OwnerEnded)
}

/// The task name of a step, chosen once: `<workload>-<step>` if that is a name and free or ours, else
/// with a hash of the workload's uid and the step.
pub(crate) fn choose_name(
    workload: &Object<Workload>,
    step: &str,
    is_free: impl FnOnce(&Key) -> bool,
) -> String {
    let plain = plain_name(workload, step);
    let key = Key { namespace: workload.meta.namespace.clone(), name: plain.clone() };
    let valid = check_object_name(&plain).is_ok();
    if valid && is_free(&key) { plain } else { hashed_name(workload, step) }
}

/// The task name of a step where nobody else has it.
pub(crate) fn plain_name(workload: &Object<Workload>, step: &str) -> String {
    let prefix = format!("{}-", workload.meta.name);
    if step.starts_with(&prefix) { step.to_owned() } else { prefix + step }
}

/// A step's task name that no other workload or step has.
pub(crate) fn hashed_name(workload: &Object<Workload>, step: &str) -> String {
    let hash = hash(&format!("{}/{step}", workload.meta.uid));
    let room = OBJECT_NAME_BYTES_MAX - hash.len() - 1;
    let head: String = format!("{}-{step}", workload.meta.name).chars().take(room).collect();
    format!("{}-{hash}", head.trim_end_matches(['-', '.']))
}

/// A text as a label value: as it is where that is allowed, else cut with a hash.
fn label(text: &str) -> String {
    if check_label_value(text).is_ok() {
        return text.to_owned();
    }
    let head: String = text.chars().filter(char::is_ascii_alphanumeric).take(50).collect();
    format!("{head}-{}", hash(text)).trim_start_matches('-').to_owned()
}

/// The task object of a step. Dependencies are named by the tasks that stand for the steps.
pub(crate) fn render(
    workload: &Object<Workload>,
    step: &DesiredStep,
    steps: &[StepRecord],
) -> Option<NewObject<AgenticTask>> {
    let record_of = |name: &str| steps.iter().find(|record| record.name == name);
    let task_of = |name: &str| record_of(name)?.task.clone();
    let depends_on =
        step.depends_on.iter().map(|name| task_of(name)).collect::<Option<Vec<_>>>()?;
    let suspended = workload.spec.suspend == Some(true);
    let spec = AgenticTaskSpec {
        kind: step.kind.clone(),
        agent_ref: Some(step.agent_ref.clone()),
        // The Workload's own budget is shared out by allowances.
        budget: None,
        cancel: workload.spec.cancel.filter(|cancel| *cancel),
        continues: step
            .continues
            .as_deref()
            .and_then(record_of)
            .map(|record| Continues { task: record.task.clone(), uid: record.uid.clone() }),
        depends_on,
        gate_profile: step.gate_profile.clone(),
        mcp_enabled: step.mcp_enabled,
        model_ref: None,
        payload: step.payload.clone(),
        priority: step.priority,
        required_capability: None,
        resume_wait_seconds: None,
        retry: None,
        suspend: suspended.then_some(true),
        timeout_seconds: step.timeout_seconds,
        verdict_policy: step.verdict_policy.clone(),
    };
    let key = Key { namespace: workload.meta.namespace.clone(), name: task_of(&step.name)? };
    let mut new = NewObject::new(key, spec)
        .label(LABEL_WORKLOAD, label(&workload.meta.name))
        .label(LABEL_STEP, label(&step.name));
    new.owner_references.push(workload.as_owner());
    if suspended {
        let by = ANNOTATION_SUSPENDED_BY.to_owned();
        new.annotations.insert(by, workload.meta.name.clone());
    }
    let reviewer = step.kind.is(TaskKind::Review);
    if reviewer && workload.spec.allow_cloud_reviewers == Some(false) {
        new.annotations.insert(ANNOTATION_LOCAL_ONLY.to_owned(), "true".to_owned());
    }
    if let Some(push_to) = workload.meta.annotations.get(ANNOTATION_PUSH_TO) {
        new.annotations.insert(ANNOTATION_PUSH_TO.to_owned(), push_to.clone());
    }
    Some(new)
}

#[cfg(test)]
#[path = "children_tests.rs"]
mod tests;
