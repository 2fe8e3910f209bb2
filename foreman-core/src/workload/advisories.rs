//! What the gate found and did not block goes to those who review the change: once, and only while
//! nobody works on the review.

use super::expand::{DesiredStep, Plan};
use super::view::StepFacts;
use crate::model::agentic_task::{AgenticTask, AgenticTaskPayload, TaskPhase};
use crate::model::object::Object;
use crate::model::shared::GateAdvisory;

/// The advisories that the coder of the same round left for a review.
pub(crate) fn left_for(
    step: &DesiredStep,
    plan: &Plan,
    facts: &StepFacts<'_>,
) -> Vec<GateAdvisory> {
    let notes = plan.coder_of(step).and_then(|coder| facts.settled(&coder.name)?.notes.as_ref());
    notes.map(|notes| notes.advisories.clone()).unwrap_or_default()
}

/// A review's payload with the advisories, if its task has none yet and is not placed.
pub(crate) fn due(
    child: &Object<AgenticTask>,
    advisories: Vec<GateAdvisory>,
) -> Option<AgenticTaskPayload> {
    let waiting = matches!(child.status.known_phase(), None | Some(TaskPhase::Pending));
    let payload = &child.spec.payload;
    let due = waiting && payload.gate_advisories.is_empty() && !advisories.is_empty();
    due.then(|| AgenticTaskPayload { gate_advisories: advisories, ..payload.clone() })
}
