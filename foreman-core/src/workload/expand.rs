//! Expansion: which steps a workload should have. A function of the spec and of what is recorded of
//! its steps, so that a lost child re-fires nothing and a step once emitted stays.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::suppress::Suppressed;
use super::view::{StepFacts, WorkloadView};
use super::{batch, escalate, iterate, suppress};
use crate::model::agentic_task::{AgenticTaskPayload, TaskKind};
use crate::model::object::plain;
use crate::model::open::Open;
use crate::model::shared::{GateProfile, LocalObjectReference, VerdictPolicy};
use crate::model::workload::{StepRecord, WorkloadSpec};
use crate::policy::admit::{Egress, Policy};
use crate::timing::WORKLOAD_HASH_CHARS;

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
    /// The step whose conversation this one goes on with.
    pub continues: Option<String>,
    /// Its part in the work on one change, where that is known.
    pub strand: Option<Strand>,
}

impl DesiredStep {
    /// What its task is made from, as a hash. What the reconciler itself changes later (advisories)
    /// is not in it.
    pub(crate) fn fingerprint(&self) -> String {
        let mut payload = self.payload.clone();
        payload.gate_advisories = Vec::new();
        let made_from = serde_json::json!([
            self.kind.to_string(),
            plain(&self.agent_ref),
            plain(&payload),
            self.depends_on,
            self.timeout_seconds,
            self.priority,
            plain(&self.gate_profile),
            self.mcp_enabled,
            plain(&self.verdict_policy),
            // A budget of its own stood here; hashes that are written down stay as they are.
            serde_json::Value::Null,
        ]);
        hash(&made_from.to_string())
    }

    pub(crate) fn is_review_of(&self, change: &str, round: Round) -> bool {
        self.strand.as_ref().is_some_and(|strand| {
            strand.change == change && strand.round == round && strand.role == Role::Review
        })
    }
}

/// The first hex digits of a text's SHA-256.
pub(crate) fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]);
    digits
        .take(WORKLOAD_HASH_CHARS)
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// A step's part in the work on one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strand {
    /// The change: `#7` for issue 7, else the step that codes it.
    pub change: String,
    /// Which try.
    pub round: Round,
    /// What it does there.
    pub role: Role,
}

/// Which try at one change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Round {
    /// The first.
    Base,
    /// A fix round after reviewers rejected the one before, from 1.
    Fix(i32),
    /// Once more, by a stronger coder.
    Escalated,
    /// Further reviewers, who only advise.
    SecondTier,
}

/// What a step does for a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Makes it.
    Coder,
    /// Runs the gate.
    Verify,
    /// Judges it.
    Review,
}

/// Why a workload has no plan. Terminal: a person must change the workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Neither steps nor a way to make them.
    #[error(
        "spec.pipeline is empty and there is no planner: say which steps to run, or issues with a coderAgentRef"
    )]
    NoPlannerOrPipeline,
    /// A way of planning that this version does not have.
    #[error("{field} is not supported by this version: spell the steps out in spec.pipeline")]
    Unsupported {
        /// The field.
        field: &'static str,
    },
    /// No issue has such a number.
    #[error("spec.issues has {number}, which is no issue's number")]
    NoSuchIssue {
        /// The number.
        number: i32,
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
    /// `maxTasks` leaves no step that could start.
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
    /// The cloud is forbidden, and nobody can say where this reviewer's model is.
    #[error(
        "there is no Agent {agent} for step {step:?}, and models in the cloud are forbidden here"
    )]
    ReviewerMissing {
        /// The step.
        step: String,
        /// Its Agent.
        agent: String,
    },
    /// Every step was a review in the cloud, and the cloud is forbidden.
    #[error("no step is left: {}", steps.join(", "))]
    AllSuppressed {
        /// The steps with their Agents, and who forbids them.
        steps: Vec<String>,
    },
}

impl PlanError {
    /// The reason of the condition `Planned=False`.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoPlannerOrPipeline => "NoPlannerOrPipeline",
            Self::Unsupported { .. } => "Unsupported",
            Self::NoSuchIssue { .. }
            | Self::DuplicateStep { .. }
            | Self::UnknownDependency { .. }
            | Self::DependencyCutOff { .. }
            | Self::Cycle { .. } => "InvalidPipeline",
            Self::ReviewerMissing { .. } => "AgentResolveFailed",
            Self::AllSuppressed { .. } => "SovereigntyGate",
        }
    }
}

/// Why `maxTasks` left something out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cap {
    Base,
    CoderEscalation,
    Iteration,
    Escalation,
}

impl Cap {
    /// The reason of the condition `Truncated=True`.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Base => "MaxTasksCap",
            Self::CoderEscalation => "MaxTasksCoderEscalationCap",
            Self::Iteration => "MaxTasksIterationCap",
            Self::Escalation => "MaxTasksEscalationCap",
        }
    }
}

/// Why a stronger coder was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CoderFailure {
    /// The coder could not do it.
    Capability,
    /// It failed in a way that counts only with `escalateOnFailure`.
    Other,
}

/// What should be, and what is to be said of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Plan {
    /// The steps that should exist.
    pub(crate) steps: Vec<DesiredStep>,
    /// What `maxTasks` left out, and where.
    pub(crate) truncated: Vec<(Cap, String)>,
    /// Reviews that policy dropped.
    pub(crate) suppressed: Vec<Suppressed>,
    /// Changes that a stronger coder was asked to make, and why.
    pub(crate) coder_escalations: Vec<(String, CoderFailure)>,
    /// Changes that further reviewers were asked to judge.
    pub(crate) review_escalations: Vec<String>,
    /// Changes that are in a fix round, and in which.
    pub(crate) iterations: Vec<(String, i32)>,
    /// There are reviewers for escalation, but none whose NO-GO could trigger it.
    pub(crate) no_base_reviewers: bool,
}

impl Plan {
    /// The steps that a later round stands for: they count nowhere.
    pub(crate) fn hidden(&self) -> BTreeSet<&str> {
        let strands = self.steps.iter().filter_map(|step| step.strand.as_ref());
        let mut last: BTreeMap<&str, Round> = BTreeMap::new();
        for strand in strands.filter(|strand| strand.round != Round::SecondTier) {
            let round = last.entry(strand.change.as_str()).or_insert(strand.round);
            *round = strand.round.max(*round);
        }
        let hidden = self.steps.iter().filter(|step| {
            step.strand.as_ref().is_some_and(|strand| {
                let last = last.get(strand.change.as_str());
                last.is_some_and(|last| strand.round < *last)
            })
        });
        hidden.map(|step| step.name.as_str()).collect()
    }

    /// The step that codes the change which a review judges, in the same round.
    pub(crate) fn coder_of(&self, review: &DesiredStep) -> Option<&DesiredStep> {
        let strand = review.strand.as_ref().filter(|strand| strand.role == Role::Review)?;
        let hidden = self.hidden();
        self.steps.iter().find(|step| {
            step.strand.as_ref().is_some_and(|other| {
                other.role == Role::Coder
                    && other.change == strand.change
                    && match strand.round {
                        Round::SecondTier => !hidden.contains(step.name.as_str()),
                        round @ (Round::Base | Round::Fix(_) | Round::Escalated) => {
                            other.round == round
                        }
                    }
            })
        })
    }
}

/// Adds sets of steps to a plan: each whole or not at all, within `maxTasks`.
pub(super) struct Offers<'a> {
    pub(super) view: WorkloadView<'a>,
    pub(super) facts: &'a StepFacts<'a>,
    pub(super) plan: Plan,
    names: BTreeSet<String>,
}

impl Offers<'_> {
    /// Adds the set if there is room for all of it, or if it was added before: what is recorded was
    /// decided, and goes on. Says whether its steps are part of the plan.
    pub(super) fn offer(&mut self, set: Vec<DesiredStep>, cap: Cap) -> Result<bool, PlanError> {
        let (set, dropped) = suppress::filter(self.view, self.facts, set)?;
        let recorded = set.iter().any(|step| self.facts.is_recorded(&step.name));
        let planned = |name: &str| self.plan.steps.iter().any(|step| step.name == name);
        let ended = self.view.spec.cancel == Some(true) && !recorded;
        if set.is_empty() || ended || set.iter().any(|step| planned(&step.name)) {
            return Ok(false);
        }
        let new = set.iter().filter(|step| !self.names.contains(&step.name)).count();
        let full = self.view.tasks_max().is_some_and(|max| self.names.len() + new > max);
        if full && !recorded {
            let names: Vec<_> = set.iter().map(|step| step.name.as_str()).collect();
            self.plan.truncated.push((cap, format!("no room for {}", names.join(", "))));
            return Ok(false);
        }
        self.plan.suppressed.extend(dropped);
        self.names.extend(set.iter().map(|step| step.name.clone()));
        self.plan.steps.extend(set);
        Ok(true)
    }
}

/// The steps that a workload should have, in the order of the spec, then those that its steps' ends
/// called for.
///
/// # Errors
/// Why there is no plan; a person must change the workload.
pub(crate) fn plan(view: WorkloadView<'_>, records: &[StepRecord]) -> Result<Plan, PlanError> {
    let facts = StepFacts::of(records);
    let base = if view.spec.pipeline.is_empty() { batch::base(view)? } else { pipeline(view)? };
    let mut plan = Plan::default();
    let base = cut(view, base, &mut plan)?;
    let (base, dropped) = suppress::filter(view, &facts, base)?;
    if base.is_empty() {
        return Err(PlanError::AllSuppressed {
            steps: dropped.iter().map(ToString::to_string).collect(),
        });
    }
    plan.suppressed = dropped;
    let names = facts.names().chain(base.iter().map(|step| step.name.as_str()));
    let names = names.map(ToOwned::to_owned).collect();
    plan.steps = base;
    let mut offers = Offers { view, facts: &facts, plan, names };
    escalate::coders(&mut offers)?;
    iterate::rounds(&mut offers)?;
    escalate::reviewers(&mut offers)?;
    Ok(offers.plan)
}

/// The steps that a workload begins with, whatever is recorded of it and whatever is allowed.
///
/// # Errors
/// Why there is no plan; a person must change the workload.
pub fn desired(spec: &WorkloadSpec) -> Result<Vec<DesiredStep>, PlanError> {
    let local = |_: &str| Some(Egress::Local);
    let policy = Policy::default();
    let view = WorkloadView { name: "workload", spec, policy, egress_of: &local };
    plan(view, &[]).map(|plan| plan.steps)
}

/// The steps of a pipeline.
fn pipeline(view: WorkloadView<'_>) -> Result<Vec<DesiredStep>, PlanError> {
    let spec = view.spec;
    let mut steps: Vec<_> = spec
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
            continues: None,
            strand: None,
        })
        .collect();
    check(&steps)?;
    iterate::recognise(&mut steps);
    Ok(steps)
}

/// The first `maxTasks` steps, without those that depend on one that was cut: they could never start.
fn cut(
    view: WorkloadView<'_>,
    steps: Vec<DesiredStep>,
    plan: &mut Plan,
) -> Result<Vec<DesiredStep>, PlanError> {
    let Some(max) = view.tasks_max().filter(|max| *max < steps.len()) else { return Ok(steps) };
    let mut kept: Vec<_> = steps.iter().take(max).collect();
    let mut first_lost: Option<(String, String)> = None;
    loop {
        let names: BTreeSet<_> = kept.iter().map(|step| step.name.as_str()).collect();
        let lost = |step: &DesiredStep| {
            step.depends_on.iter().find(|name| !names.contains(name.as_str())).cloned()
        };
        let before = kept.len();
        let stay: Vec<_> = kept
            .iter()
            .copied()
            .filter(|step| {
                let missing = lost(step);
                if let (Some(missing), None) = (&missing, &first_lost) {
                    first_lost = Some((step.name.clone(), missing.clone()));
                }
                missing.is_none()
            })
            .collect();
        kept = stay;
        if kept.len() == before {
            break;
        }
    }
    if let (true, Some((step, missing))) = (kept.is_empty(), first_lost) {
        let max = i32::try_from(max).unwrap_or(i32::MAX);
        return Err(PlanError::DependencyCutOff { step, missing, max });
    }
    let out: Vec<_> =
        steps.iter().filter(|step| !kept.contains(step)).map(|step| step.name.as_str()).collect();
    plan.truncated.push((Cap::Base, format!("left out {}", out.join(", "))));
    Ok(kept.into_iter().cloned().collect())
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
#[path = "expand_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "expand_laws.rs"]
mod laws;
