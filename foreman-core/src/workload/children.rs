//! Children: the task objects of a workload's steps.

use sha2::{Digest, Sha256};

use super::expand::DesiredStep;
use crate::model::agentic_task::{AgenticTask, AgenticTaskSpec};
use crate::model::apiserver::check_label_value;
use crate::model::ids::{Key, OBJECT_NAME_BYTES_MAX, check_object_name};
use crate::model::object::{NewObject, Object};
use crate::model::wellknown::{ANNOTATION_PUSH_TO, LABEL_STEP, LABEL_WORKLOAD};
use crate::model::workload::{StepRecord, Workload};
use crate::timing::WORKLOAD_HASH_CHARS;

/// Whether a task is the child of a workload that stands for a step: by owner uid and step label,
/// never by its name.
pub(crate) fn is_child(
    task: &Object<AgenticTask>,
    workload: &Object<Workload>,
    step: &str,
) -> bool {
    owned_by(task, workload)
        && task.meta.labels.get(LABEL_STEP).map(String::as_str) == Some(label(step).as_str())
}

/// Whether the workload owns the task.
pub(crate) fn owned_by(task: &Object<AgenticTask>, workload: &Object<Workload>) -> bool {
    task.meta.owner_references.iter().any(|owner| owner.uid == workload.meta.uid)
}

/// The task name of a step, chosen once: `<workload>-<step>` if that is a name and free or ours, else
/// with a hash of the workload's uid and the step.
pub(crate) fn choose_name(
    workload: &Object<Workload>,
    step: &str,
    is_free: impl FnOnce(&Key) -> bool,
) -> String {
    let plain = format!("{}-{step}", workload.meta.name);
    let key = Key { namespace: workload.meta.namespace.clone(), name: plain.clone() };
    let valid = check_object_name(&plain).is_ok();
    if valid && is_free(&key) { plain } else { hashed_name(workload, step) }
}

/// A step's task name that no other workload or step has.
pub(crate) fn hashed_name(workload: &Object<Workload>, step: &str) -> String {
    let hash = hash(&format!("{}/{step}", workload.meta.uid));
    let room = OBJECT_NAME_BYTES_MAX - hash.len() - 1;
    let head: String = format!("{}-{step}", workload.meta.name).chars().take(room).collect();
    format!("{}-{hash}", head.trim_end_matches(['-', '.']))
}

fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]);
    digits
        .take(WORKLOAD_HASH_CHARS)
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
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
    let task_of = |name: &str| steps.iter().find(|record| record.name == name)?.task.clone();
    let depends_on =
        step.depends_on.iter().map(|name| task_of(name)).collect::<Option<Vec<_>>>()?;
    let spec = AgenticTaskSpec {
        kind: step.kind.clone(),
        agent_ref: Some(step.agent_ref.clone()),
        budget: step.budget.clone(),
        cancel: workload.spec.cancel.filter(|cancel| *cancel),
        continues: None,
        depends_on,
        gate_profile: step.gate_profile.clone(),
        mcp_enabled: step.mcp_enabled,
        model_ref: None,
        payload: step.payload.clone(),
        priority: step.priority,
        required_capability: None,
        resume_wait_seconds: None,
        retry: None,
        suspend: workload.spec.suspend.filter(|suspend| *suspend),
        timeout_seconds: step.timeout_seconds,
        verdict_policy: step.verdict_policy.clone(),
    };
    let key = Key { namespace: workload.meta.namespace.clone(), name: task_of(&step.name)? };
    let mut new = NewObject::new(key, spec)
        .label(LABEL_WORKLOAD, label(&workload.meta.name))
        .label(LABEL_STEP, label(&step.name));
    new.owner_references.push(workload.as_owner());
    if let Some(push_to) = workload.meta.annotations.get(ANNOTATION_PUSH_TO) {
        new.annotations.insert(ANNOTATION_PUSH_TO.to_owned(), push_to.clone());
    }
    Some(new)
}

#[cfg(test)]
#[path = "children_tests.rs"]
mod tests;
