//! Reviews in the cloud are left out where the cloud is forbidden. What waited for such a review
//! waits for what the review waited for.

use std::collections::BTreeMap;
use std::fmt;

use super::expand::{DesiredStep, PlanError};
use super::view::{StepFacts, WorkloadView, named};
use crate::model::agentic_task::TaskKind;
use crate::policy::admit::{Egress, Gate};

/// A review that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Suppressed {
    /// The step.
    pub(crate) step: String,
    /// Whose model is in the cloud.
    pub(crate) agent: String,
    /// Who forbids it.
    pub(crate) gate: Gate,
}

impl fmt::Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gate = match self.gate {
            Gate::Operator => "the operator allows no models in the cloud",
            Gate::Asker => "spec.allowCloudReviewers is false",
        };
        write!(f, "{} (Agent {}: {gate})", self.step, self.agent)
    }
}

/// Who forbids reviewers in the cloud, if anybody. Without such a gate nobody looks at Agents.
fn gate(view: WorkloadView<'_>) -> Option<Gate> {
    if !view.policy.allow_cloud {
        Some(Gate::Operator)
    } else if view.spec.allow_cloud_reviewers == Some(false) {
        Some(Gate::Asker)
    } else {
        None
    }
}

/// The steps without reviews that are forbidden, and those. Where work has begun, a review whose Agent
/// is away stays: its task is judged before it is placed, and what runs is not ended for it.
pub(super) fn filter(
    view: WorkloadView<'_>,
    facts: &StepFacts<'_>,
    steps: Vec<DesiredStep>,
) -> Result<(Vec<DesiredStep>, Vec<Suppressed>), PlanError> {
    let Some(gate) = gate(view) else { return Ok((steps, Vec::new())) };
    let mut suppressed = Vec::new();
    let mut before: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut kept = Vec::new();
    for step in steps {
        let agent = named(Some(&step.agent_ref)).filter(|_| step.kind.is(TaskKind::Review));
        let egress = agent.map(|agent| (agent, (view.egress_of)(agent)));
        match egress {
            Some((agent, None)) if !facts.have_begun() => {
                return Err(PlanError::ReviewerMissing {
                    step: step.name.clone(),
                    agent: agent.to_owned(),
                });
            }
            Some((agent, Some(Egress::Cloud))) => {
                let agent = agent.to_owned();
                suppressed.push(Suppressed { step: step.name.clone(), agent, gate });
                before.insert(step.name, step.depends_on);
            }
            Some((_, Some(Egress::Local) | None)) | None => kept.push(step),
        }
    }
    for step in &mut kept {
        step.depends_on = bridged(&step.depends_on, &before);
    }
    Ok((kept, suppressed))
}

/// The dependencies with each dropped one replaced by its own. The steps have no cycle.
fn bridged(names: &[String], dropped: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut bridged: Vec<String> = Vec::new();
    let mut open: Vec<&String> = names.iter().rev().collect();
    while let Some(name) = open.pop() {
        match dropped.get(name) {
            Some(before) => open.extend(before.iter().rev()),
            None if bridged.contains(name) => {}
            None => bridged.push(name.clone()),
        }
    }
    bridged
}
