//! What the schema cannot say: pure functions over the specs, one finding a fault. Errors are what
//! can never work; warnings are what this version does not do, or what is hardly meant.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::git_names::{check_branch, check_repo};
use super::validate_agent::agent;
use crate::model::agent::AgentSpec;
use crate::model::agent_release::AgentReleaseSpec;
use crate::model::agentic_task::{AgenticTaskPayload, AgenticTaskSpec, TaskKind};
use crate::model::fleet_node::FleetNodeSpec;
use crate::model::manifest::AnyKind;
use crate::model::model_profile::ModelProfileSpec;
use crate::model::open::Open;
use crate::model::shared::{Budget, LocalObjectReference, StuckLoopDetectionSpec};
use crate::model::workload::WorkloadSpec;
use crate::workload::expand::{self, PlanError};

/// A time limit below this, in seconds, is hardly meant.
const TIMEOUT_SECONDS_SANE: i32 = 10;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It works, but not as the manifest may suggest.
    Warning,
    /// It can never work.
    Error,
}

/// One thing that is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The field's path, e.g. `spec.payload.branch`.
    pub field: String,
    /// The rule, with what was found and what to do.
    pub rule: String,
    /// How bad it is.
    pub severity: Severity,
}

/// Collects findings.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn error(&mut self, field: impl Into<String>, rule: impl Into<String>) {
        self.push(field.into(), rule.into(), Severity::Error);
    }

    pub(super) fn warning(&mut self, field: impl Into<String>, rule: impl Into<String>) {
        self.push(field.into(), rule.into(), Severity::Warning);
    }

    pub(super) fn unsupported(&mut self, field: impl Into<String>) {
        self.warning(field, "is not supported by this version");
    }

    fn push(&mut self, field: String, rule: String, severity: Severity) {
        self.0.push(Finding { field, rule, severity });
    }
}

/// What is wrong with a manifest of that kind beyond its schema, in the order of the manifest. A
/// spec that does not fit its kind has no findings here: the schema names its faults.
pub fn validate(kind: AnyKind, manifest: &Value) -> Vec<Finding> {
    let mut out = Findings::default();
    let name = manifest.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    match kind {
        AnyKind::Workload => with(manifest, |spec| workload(&spec, &mut out)),
        AnyKind::AgenticTask => with(manifest, |spec| task(name, &spec, &mut out)),
        AnyKind::Agent => with(manifest, |spec: AgentSpec| agent(&spec, &mut out)),
        AnyKind::FleetNode => with(manifest, |spec| node(&spec, &mut out)),
        AnyKind::AgentRelease => with(manifest, |spec| release(&spec, &mut out)),
        AnyKind::ModelProfile => with(manifest, |spec: ModelProfileSpec| {
            stuck_loop(spec.stuck_loop_detection.as_ref(), &mut out);
        }),
    }
    out.0
}

fn with<S: DeserializeOwned>(manifest: &Value, check: impl FnOnce(S)) {
    let spec = manifest.get("spec").map(S::deserialize);
    if let Some(Ok(spec)) = spec {
        check(spec);
    }
}

fn workload(spec: &WorkloadSpec, out: &mut Findings) {
    for (index, step) in spec.pipeline.iter().enumerate() {
        let path = format!("spec.pipeline[{index}]");
        if step.agent_ref.named().is_none() {
            out.error(format!("{path}.agentRef.name"), "names no Agent: who does this step?");
        }
        work(&path, &step.kind, &step.payload, out);
        timeout(&path, step.timeout_seconds, spec.budget.as_ref(), out);
    }
    match expand::desired(spec) {
        Ok(_) => {}
        Err(PlanError::Unsupported { field }) => {
            out.warning(
                field,
                "is not supported by this version: spell the steps out in spec.pipeline",
            );
        }
        Err(error @ PlanError::DependencyCutOff { .. }) => {
            out.error("spec.maxTasks", error.to_string());
        }
        // A store accepts it, as the existing system does, and the workload then says why it failed.
        Err(error @ PlanError::NoPlannerOrPipeline) => {
            // With issues it is the coder that is missing, which is said below.
            if spec.issues.is_empty() {
                out.warning("spec.pipeline", error.to_string());
            }
        }
        Err(error @ PlanError::NoSuchIssue { .. }) => out.error("spec.issues", error.to_string()),
        Err(
            error @ (PlanError::ReviewerMissing { .. }
            | PlanError::AllSuppressed { .. }
            | PlanError::DuplicateStep { .. }
            | PlanError::UnknownDependency { .. }
            | PlanError::Cycle { .. }),
        ) => out.error("spec.pipeline", error.to_string()),
    }
    let coder = spec.coder_agent_ref.as_ref().and_then(LocalObjectReference::named);
    if spec.pipeline.is_empty() && !spec.issues.is_empty() && coder.is_none() {
        out.warning("spec.coderAgentRef", "is required with spec.issues: who fixes them?");
    }
    if !spec.pipeline.is_empty() && !spec.issues.is_empty() {
        out.warning("spec.issues", "does not count beside spec.pipeline");
    }
    if let Some(repo) = spec.repo.as_deref().filter(|repo| !repo.is_empty()) {
        check(out, "spec.repo", check_repo(repo));
    }
    budget("spec.budget", spec.budget.as_ref(), out);
}

fn task(name: &str, spec: &AgenticTaskSpec, out: &mut Findings) {
    work("spec", &spec.kind, &spec.payload, out);
    for (index, upstream) in spec.depends_on.iter().enumerate() {
        let field = || format!("spec.dependsOn[{index}]");
        if !name.is_empty() && upstream == name {
            out.error(field(), "names the task itself: it would wait for ever");
        } else if spec.depends_on.iter().take(index).any(|other| other == upstream) {
            out.warning(field(), format!("names {upstream:?} a second time"));
        }
    }
    timeout("spec", spec.timeout_seconds, spec.budget.as_ref(), out);
    budget("spec.budget", spec.budget.as_ref(), out);
    if spec.retry.as_ref().is_some_and(|retry| retry.backoff_seconds.is_some()) {
        out.unsupported("spec.retry.backoffSeconds");
    }
    if spec.resume_wait_seconds.is_some() {
        out.unsupported("spec.resumeWaitSeconds");
    }
}

/// The work of a task or of a step.
fn work(path: &str, kind: &Open<TaskKind>, payload: &AgenticTaskPayload, out: &mut Findings) {
    match kind {
        Open::Known(TaskKind::Integrate | TaskKind::Reconcile) | Open::Other(_) => {
            out.unsupported(format!("{path}.kind"));
        }
        Open::Known(TaskKind::IssueFix) => {
            let told = payload.issue.is_some()
                || [&payload.prompt, &payload.prompt_prefix]
                    .into_iter()
                    .flatten()
                    .any(|p| !p.trim().is_empty());
            if !told {
                out.warning(
                    format!("{path}.payload"),
                    "has neither issue nor prompt: the Agent is told nothing but the intent",
                );
            }
        }
        Open::Known(TaskKind::Verify | TaskKind::Review | TaskKind::Freeform) => {}
    }
    let branches = [
        ("branch", &payload.branch),
        ("baseBranch", &payload.base_branch),
        ("reviseFromBranch", &payload.revise_from_branch),
    ];
    for (field, branch) in branches {
        if let Some(branch) = branch.as_deref().filter(|branch| !branch.is_empty()) {
            check(out, &format!("{path}.payload.{field}"), check_branch(branch));
        }
    }
    if let Some(prefix) = payload.branch_prefix.as_deref().filter(|prefix| !prefix.is_empty()) {
        check(out, &format!("{path}.payload.branchPrefix"), check_branch(&format!("{prefix}x")));
    }
    if let Some(repo) = payload.repo.as_deref().filter(|repo| !repo.is_empty()) {
        check(out, &format!("{path}.payload.repo"), check_repo(repo));
    }
    if !payload.images.is_empty() {
        out.unsupported(format!("{path}.payload.images"));
    }
}

fn check(out: &mut Findings, field: &str, answer: Result<(), String>) {
    if let Err(rule) = answer {
        out.error(field, rule);
    }
}

fn timeout(path: &str, seconds: Option<i32>, budget: Option<&Budget>, out: &mut Findings) {
    let Some(seconds) = seconds.filter(|seconds| *seconds > 0) else { return };
    let field = format!("{path}.timeoutSeconds");
    if seconds < TIMEOUT_SECONDS_SANE {
        out.warning(&field, format!("{seconds} s is too short for a single model call"));
    }
    let budget = budget.and_then(|budget| budget.wall_seconds);
    if let Some(wall) = budget.filter(|wall| *wall > i64::from(seconds)) {
        out.warning(
            field,
            format!(
                "ends the task after {seconds} s, before budget.wallSeconds {wall} can pause it"
            ),
        );
    }
}

fn budget(path: &str, budget: Option<&Budget>, out: &mut Findings) {
    let Some(budget) = budget else { return };
    let limits =
        [("tokens", budget.tokens), ("turns", budget.turns), ("wallSeconds", budget.wall_seconds)];
    for (name, limit) in limits {
        if limit == Some(0) {
            out.warning(
                format!("{path}.{name}"),
                "0 pauses every task before it can do anything; leave it out for no limit",
            );
        }
    }
}

fn node(spec: &FleetNodeSpec, out: &mut Findings) {
    if spec.slots == Some(0) {
        out.warning(
            "spec.slots",
            "0 means that nothing ever runs there; spec.unschedulable cordons",
        );
    }
}

fn release(spec: &AgentReleaseSpec, out: &mut Findings) {
    out.warning("kind", "nothing acts on an AgentRelease in this version");
    for (index, artifact) in spec.artifacts.iter().enumerate() {
        let field = format!("spec.artifacts[{index}]");
        let before = spec.artifacts.iter().take(index);
        if before.into_iter().any(|one| one.os == artifact.os && one.arch == artifact.arch) {
            out.error(
                &field,
                format!("is a second artifact for {}/{}", artifact.os, artifact.arch),
            );
        }
        if !artifact.url.starts_with("https://") {
            out.warning(format!("{field}.url"), "is not https: only the checksum protects it");
        }
    }
}

pub(super) fn stuck_loop(spec: Option<&StuckLoopDetectionSpec>, out: &mut Findings) {
    let Some(spec) = spec else { return };
    let caps = (spec.context_soft_cap.unwrap_or(0), spec.context_hard_cap.unwrap_or(0));
    if let (soft, hard @ 1..) = caps
        && soft > hard
    {
        out.warning(
            "spec.stuckLoopDetection.contextSoftCap",
            format!("{soft} is above contextHardCap {hard}: the run ends before it is warned"),
        );
    }
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
