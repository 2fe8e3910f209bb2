//! Suspend and cancel of a workload, copied to its children.
//!
//! A child that its workload suspended carries a mark; only such a child is resumed with the
//! workload. What a person suspended by hand has no mark and stays as it is. The mark is written
//! before the suspend and removed after it, so that a crash between the two leaves no child suspended
//! that nobody resumes.

use crate::model::agentic_task::AgenticTask;
use crate::model::object::Object;
use crate::model::wellknown::ANNOTATION_SUSPENDED_BY;
use crate::model::workload::WorkloadSpec;
use crate::ports::store::{Change, Part};

/// The next change of a child, if one is due. `wanted` = its step is still in the workload.
pub(crate) fn next(
    workload: &str,
    spec: &WorkloadSpec,
    child: &Object<AgenticTask>,
    wanted: bool,
) -> Option<Change<AgenticTask>> {
    if child.status.has_ended() {
        return None;
    }
    let cancel = spec.cancel == Some(true) || !wanted;
    if cancel && child.spec.cancel != Some(true) {
        return Some(Change::of(Part::Spec).set("cancel", true));
    }
    let mark = |value: Option<String>| {
        Some(Change::of(Part::Meta).annotations([(ANNOTATION_SUSPENDED_BY, value)]))
    };
    let marked = child.meta.annotations.contains_key(ANNOTATION_SUSPENDED_BY);
    let suspended = child.spec.suspend == Some(true);
    match (spec.suspend == Some(true), suspended, marked) {
        (true, false, false) => mark(Some(workload.to_owned())),
        (true, false, true) => Some(Change::of(Part::Spec).set("suspend", true)),
        (false, true, true) => Some(Change::of(Part::Spec).set("suspend", false)),
        (false, false, true) => mark(None),
        (true, true, _) | (false, _, false) => None,
    }
}

#[cfg(test)]
#[path = "hold_tests.rs"]
mod tests;
