//! Expansion: which steps a workload should have. A function of the spec alone, so that a lost
//! child re-fires nothing.

use std::collections::BTreeSet;

use crate::model::agentic_task::{AgenticTaskPayload, TaskKind};
use crate::model::open::Open;
use crate::model::shared::{Budget, GateProfile, LocalObjectReference, VerdictPolicy};
use crate::model::workload::WorkloadSpec;

/// One step that should exist.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredStep {
    /// Its name, unique in the workload.
    pub name: String,
    /// The kind of work.
    pub kind: Open<TaskKind>,
    /// Who does it.
    pub agent_ref: LocalObjectReference,
    /// The work itself.
    pub payload: AgenticTaskPayload,
    /// Steps before it.
    pub depends_on: Vec<String>,
    /// How long it may run, in seconds.
    pub timeout_seconds: Option<i32>,
    /// Higher goes first.
    pub priority: Option<i32>,
    /// How the change is judged.
    pub gate_profile: Option<GateProfile>,
    /// Whether MCP tools may be used.
    pub mcp_enabled: Option<bool>,
    /// Which changes the coder's own GO may stand for.
    pub verdict_policy: Option<VerdictPolicy>,
    /// What it may spend.
    pub budget: Option<Budget>,
}

/// Why a workload has no plan. Terminal: a person must change the workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Neither steps nor a way to make them.
    #[error("spec.pipeline is empty and there is no planner: say which steps to run")]
    NoPlannerOrPipeline,
    /// A way of planning that this version does not have.
    #[error("{field} is not supported by this version: spell the steps out in spec.pipeline")]
    Unsupported {
        /// The field.
        field: &'static str,
    },
    /// Two steps of one name.
    #[error("spec.pipeline has two steps named {name:?}")]
    DuplicateStep {
        /// The name.
        name: String,
    },
    /// A step waits for one that is not there.
    #[error("step {step:?} depends on {missing:?}, which is no step")]
    UnknownDependency {
        /// The step.
        step: String,
        /// What it names.
        missing: String,
    },
    /// `maxTasks` leaves out a step that another one waits for.
    #[error("step {step:?} depends on {missing:?}, which spec.maxTasks {max} cuts off")]
    DependencyCutOff {
        /// The step.
        step: String,
        /// What it names.
        missing: String,
        /// The limit.
        max: i32,
    },
    /// Steps wait for each other.
    #[error("these steps wait for each other: {}", steps.join(", "))]
    Cycle {
        /// The steps.
        steps: Vec<String>,
    },
}

impl PlanError {
    /// The reason of the condition `Planned=False`.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoPlannerOrPipeline => "NoPlannerOrPipeline",
            Self::Unsupported { .. } => "Unsupported",
            Self::DuplicateStep { .. }
            | Self::UnknownDependency { .. }
            | Self::DependencyCutOff { .. }
            | Self::Cycle { .. } => "InvalidPipeline",
        }
    }
}

/// The steps that a workload should have, in the order of the spec, at most `maxTasks`.
///
/// # Errors
/// Why there is no plan; a person must change the workload.
pub fn desired(spec: &WorkloadSpec) -> Result<Vec<DesiredStep>, PlanError> {
    if spec.pipeline.is_empty() {
        return Err(match (spec.issues.is_empty(), &spec.planner) {
            (false, _) => PlanError::Unsupported { field: "spec.issues" },
            (true, Some(_)) => PlanError::Unsupported { field: "spec.planner" },
            (true, None) => PlanError::NoPlannerOrPipeline,
        });
    }
    let steps: Vec<_> = spec
        .pipeline
        .iter()
        .map(|step| DesiredStep {
            name: step.name.clone(),
            kind: step.kind.clone(),
            agent_ref: step.agent_ref.clone(),
            payload: step.payload.clone(),
            depends_on: step.depends_on.clone(),
            timeout_seconds: step.timeout_seconds,
            priority: step.priority,
            gate_profile: step.gate_profile.clone().or_else(|| spec.gate_profile.clone()),
            mcp_enabled: spec.mcp_enabled,
            verdict_policy: spec.verdict_policy.clone(),
            budget: spec.budget.clone(),
        })
        .collect();
    check(&steps)?;
    cut(steps, spec.max_tasks.unwrap_or(0))
}

/// The first `max` steps; 0 = all. A step whose dependency was cut off could never start.
fn cut(mut steps: Vec<DesiredStep>, max: i32) -> Result<Vec<DesiredStep>, PlanError> {
    match usize::try_from(max) {
        Ok(max) if max > 0 => steps.truncate(max),
        Ok(_) | Err(_) => return Ok(steps),
    }
    let names: BTreeSet<_> = steps.iter().map(|step| step.name.as_str()).collect();
    for step in &steps {
        if let Some(missing) = step.depends_on.iter().find(|name| !names.contains(name.as_str())) {
            return Err(PlanError::DependencyCutOff {
                step: step.name.clone(),
                missing: missing.clone(),
                max,
            });
        }
    }
    Ok(steps)
}

fn check(steps: &[DesiredStep]) -> Result<(), PlanError> {
    let mut names = BTreeSet::new();
    for step in steps {
        if !names.insert(step.name.as_str()) {
            return Err(PlanError::DuplicateStep { name: step.name.clone() });
        }
    }
    for step in steps {
        if let Some(missing) = step.depends_on.iter().find(|name| !names.contains(name.as_str())) {
            return Err(PlanError::UnknownDependency {
                step: step.name.clone(),
                missing: missing.clone(),
            });
        }
    }
    let mut open: Vec<_> = steps.iter().collect();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    loop {
        let before = open.len();
        open.retain(|step| {
            let ready = step.depends_on.iter().all(|name| done.contains(name.as_str()));
            if ready {
                done.insert(step.name.as_str());
            }
            !ready
        });
        if open.is_empty() {
            return Ok(());
        }
        if open.len() == before {
            let steps = open.into_iter().map(|step| step.name.clone()).collect();
            return Err(PlanError::Cycle { steps });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::workload::PipelineStep;

    fn step(name: &str, depends_on: &[&str]) -> PipelineStep {
        PipelineStep {
            name: name.to_owned(),
            kind: TaskKind::Freeform.into(),
            agent_ref: LocalObjectReference::to("a"),
            payload: AgenticTaskPayload::default(),
            depends_on: depends_on.iter().map(|name| (*name).to_owned()).collect(),
            timeout_seconds: None,
            priority: None,
            gate_profile: None,
        }
    }

    fn spec(pipeline: Vec<PipelineStep>) -> WorkloadSpec {
        WorkloadSpec { intent: "x".into(), pipeline, ..WorkloadSpec::default() }
    }

    #[test]
    fn a_pipeline_is_taken_as_it_is_with_the_workloads_defaults() {
        let gate = GateProfile { image: Some("i".into()), ..GateProfile::default() };
        let mut spec = spec(vec![step("code", &[]), step("verify", &["code"])]);
        spec.gate_profile = Some(gate.clone());
        let steps = desired(&spec).expect("a plan");
        assert_eq!(steps.len(), 2);
        assert_eq!(steps[1].depends_on, ["code"]);
        assert_eq!(steps[0].gate_profile, Some(gate));
    }

    #[test]
    fn faults_of_a_pipeline_are_named() {
        let cases = [
            (spec(vec![]), "NoPlannerOrPipeline"),
            (spec(vec![step("a", &[]), step("a", &[])]), "InvalidPipeline"),
            (spec(vec![step("a", &["b"])]), "InvalidPipeline"),
            (spec(vec![step("a", &["b"]), step("b", &["a"]), step("c", &[])]), "InvalidPipeline"),
            (spec(vec![step("a", &["a"])]), "InvalidPipeline"),
        ];
        for (spec, reason) in cases {
            let error = desired(&spec).expect_err("no plan");
            assert_eq!(error.reason(), reason, "{error}");
        }
        let mut cut = spec(vec![step("b", &["a"]), step("a", &[]), step("c", &[])]);
        cut.max_tasks = Some(1);
        let error = desired(&cut).expect_err("b could never start");
        assert_eq!(
            error.to_string(),
            "step \"b\" depends on \"a\", which spec.maxTasks 1 cuts off"
        );
        cut.max_tasks = Some(2);
        assert_eq!(desired(&cut).expect("a plan").len(), 2);
        let error = desired(&spec(vec![step("a", &["b"]), step("b", &["a"]), step("c", &[])]));
        assert_eq!(error, Err(PlanError::Cycle { steps: vec!["a".into(), "b".into()] }));
    }
}
