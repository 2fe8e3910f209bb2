//! What is right by the schema and will still not run: found before anything is applied.

use foreman_core::model::agent::{AgentSpec, ExecutionMode};
use foreman_core::model::agentic_task::{AgenticTaskSpec, TaskKind};
use foreman_core::model::manifest::{AnyKind, Manifest};
use foreman_core::model::open::Open;
use foreman_core::model::workload::WorkloadSpec;
use foreman_core::workload::{PlanError, desired};
use serde::de::DeserializeOwned;

/// A remark on a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remark {
    /// The field's path.
    pub(super) field: String,
    /// What about it.
    pub(super) text: String,
    /// Whether it can never run like this, whatever is installed.
    pub(super) fatal: bool,
}

impl Remark {
    fn unsupported(field: impl Into<String>, what: &str) -> Self {
        let text = format!("{what} is not supported yet: the task ends as Failed/Unsupported");
        Self { field: field.into(), text, fatal: false }
    }
}

/// What there is to say about a manifest that passed every rule of the schema.
pub(super) fn of(manifest: &Manifest) -> Vec<Remark> {
    match manifest.kind {
        AnyKind::AgenticTask => spec(manifest).map(|spec| task(&spec)).unwrap_or_default(),
        AnyKind::Workload => spec(manifest).map(|spec| workload(&spec)).unwrap_or_default(),
        AnyKind::Agent => spec(manifest).map(|spec| agent(&spec)).unwrap_or_default(),
        AnyKind::FleetNode | AnyKind::AgentRelease | AnyKind::ModelProfile => Vec::new(),
    }
}

fn spec<T: DeserializeOwned>(manifest: &Manifest) -> Option<T> {
    serde_json::from_value(manifest.object.get("spec")?.clone()).ok()
}

fn kind(field: String, kind: &Open<TaskKind>) -> Option<Remark> {
    match kind {
        Open::Known(
            TaskKind::IssueFix | TaskKind::Verify | TaskKind::Review | TaskKind::Freeform,
        ) => None,
        Open::Known(TaskKind::Integrate | TaskKind::Reconcile) | Open::Other(_) => {
            Some(Remark::unsupported(field, &format!("kind {kind}")))
        }
    }
}

fn task(spec: &AgenticTaskSpec) -> Vec<Remark> {
    kind("spec.kind".to_owned(), &spec.kind).into_iter().collect()
}

fn workload(spec: &WorkloadSpec) -> Vec<Remark> {
    let steps = spec.pipeline.iter().enumerate();
    let mut remarks: Vec<Remark> = steps
        .filter_map(|(index, step)| kind(format!("spec.pipeline[{index}].kind"), &step.kind))
        .collect();
    if let Err(error) = desired(spec) {
        let field =
            if let PlanError::Unsupported { field } = &error { *field } else { "spec.pipeline" };
        // A plan that contradicts itself can never run; the others may once more is built.
        let fatal = error.reason() == "InvalidPipeline";
        let text = format!("{error}: the workload ends as Failed/{}", error.reason());
        remarks.push(Remark { field: field.to_owned(), text, fatal });
    }
    remarks
}

fn agent(spec: &AgentSpec) -> Vec<Remark> {
    let mode = spec.execution.as_ref().and_then(|execution| execution.mode.as_ref());
    let job = mode.is_some_and(|mode| !mode.is(ExecutionMode::InProcess));
    let mcp = spec.mcp.as_ref().is_some_and(|mcp| mcp.enabled == Some(true));
    let vision = spec.vision.as_ref().is_some_and(|vision| vision.enabled == Some(true));
    [
        (job, "spec.execution.mode", "running as a Job"),
        (mcp, "spec.mcp.enabled", "MCP"),
        (vision, "spec.vision.enabled", "vision"),
    ]
    .into_iter()
    .filter(|(asked, _, _)| *asked)
    .map(|(_, field, what)| Remark::unsupported(field, what))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remarks(text: &str) -> Vec<(String, bool)> {
        let read =
            crate::manifest_file::read_bytes("t", text.as_bytes(), "default").expect("valid");
        let all = read.iter().flat_map(|one| of(&one.value));
        all.map(|remark| (remark.field, remark.fatal)).collect()
    }

    fn workload_of(pipeline: &str) -> String {
        format!(
            "apiVersion: foreman.llmkube.dev/v1alpha1\nkind: Workload\nmetadata: {{name: w}}\n\
             spec: {{intent: x, pipeline: [{pipeline}]}}"
        )
    }

    #[test]
    fn what_cannot_run_is_said_before() {
        let step = |name: &str, kind: &str, depends: &str| {
            format!(
                "{{name: {name}, kind: {kind}, agentRef: {{name: a}}, payload: {{}}, dependsOn: [{depends}]}}"
            )
        };
        let fine = workload_of(&step("code", "issue-fix", ""));
        assert_eq!(remarks(&fine), []);
        let late = workload_of(&step("code", "reconcile", ""));
        assert_eq!(remarks(&late), [("spec.pipeline[0].kind".to_owned(), false)]);
        let cycle = workload_of(&step("code", "issue-fix", "code"));
        assert_eq!(remarks(&cycle), [("spec.pipeline".to_owned(), true)]);
        assert_eq!(remarks(&workload_of("")), [("spec.pipeline".to_owned(), false)]);
        let agent = "apiVersion: foreman.llmkube.dev/v1alpha1\nkind: Agent\nmetadata: {name: a}\n\
            spec: {role: coder, tools: [bash], vision: {enabled: true}, execution: {mode: Job}}";
        assert_eq!(
            remarks(agent),
            [("spec.execution.mode".to_owned(), false), ("spec.vision.enabled".to_owned(), false)]
        );
    }
}
