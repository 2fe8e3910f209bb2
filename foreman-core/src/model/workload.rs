//! `Workload`: what a person asks for; owns tasks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::agentic_task::{AgenticTaskPayload, TaskKind, TaskPhase};
use super::condition::Condition;
use super::meta::Extra;
use super::object::{Column, Kind, Names, Scope};
use super::open::{Open, wire_enum};
use super::outcome::{Infrastructure, OutcomeReason, Verdict, Verification};
use super::shared::{
    Budget, FreeJson, GateAdvisory, GateProfile, LocalObjectReference, ObjectReference,
    VerdictPolicy,
};

/// The kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload;

impl Kind for Workload {
    type Spec = WorkloadSpec;
    type Status = WorkloadStatus;
    const NAMES: Names = Names {
        kind: "Workload",
        plural: "workloads",
        singular: "workload",
        short: "wl",
        alias: "workload",
        scope: Scope::Namespaced,
        columns: &[
            Column::always("Phase", "string", ".status.phase"),
            Column::always("Repo", "string", ".spec.repo"),
            Column::always("Tasks", "integer", ".status.succeededTasks"),
            Column::always("Failed", "integer", ".status.failedTasks"),
            Column::always("Age", "date", ".metadata.creationTimestamp"),
            Column::wide("Desired", "integer", ".status.desiredTasks"),
            Column::wide("Reason", "string", ".status.conditions[?(@.type==\"Finished\")].reason"),
        ],
        selectable: &[".status.phase"],
    };
}

/// What a person asks for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSpec {
    /// Whether reviewers in the cloud may be used; absent = yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_cloud_reviewers: Option<bool>,
    /// Whether own branches that moved may be replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_overwrite: Option<bool>,
    /// What all tasks together may spend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// End the workload and keep the work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<bool>,
    /// Who fixes issues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coder_agent_ref: Option<LocalObjectReference>,
    /// Whether failures beyond the coder's capability escalate too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalate_on_failure: Option<bool>,
    /// A stronger coder for a second try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalation_coder_agent_ref: Option<LocalObjectReference>,
    /// A second tier of reviewers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub escalation_reviewer_agent_refs: Vec<LocalObjectReference>,
    /// How changes are judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate_profile: Option<GateProfile>,
    /// What is wanted, in a person's words.
    #[schemars(length(min = 1))]
    pub intent: String,
    /// Issues to fix, by number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub issues: Vec<i32>,
    /// Fix rounds after a reviewer's NO-GO; 0 = none, absent = 1, with a pipeline none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_review_iterations: Option<i32>,
    /// The most tasks; 0 or absent = no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_tasks: Option<i32>,
    /// Whether MCP tools may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp_enabled: Option<bool>,
    /// Whether reviews open pull requests; absent = yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_pull_request: Option<bool>,
    /// The steps, spelled out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pipeline: Vec<PipelineStep>,
    /// How a plan is made from the intent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planner: Option<PlannerSpec>,
    /// The planner's default model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planner_model: Option<String>,
    /// The repository of an issue batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
    /// Who reviews.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reviewer_agent_refs: Vec<LocalObjectReference>,
    /// Who works in fix rounds; absent = the coder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_coder_agent_ref: Option<LocalObjectReference>,
    /// Pause all tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// When it is deleted after its end, in seconds; absent = never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub ttl_seconds_after_finished: Option<i64>,
    /// Which changes the coder's own GO may stand for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict_policy: Option<VerdictPolicy>,
    /// Who verifies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verifier_agent_ref: Option<LocalObjectReference>,
}

/// How a plan is made from the intent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannerSpec {
    /// Who plans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_ref: Option<LocalObjectReference>,
    /// `none` runs the plan at once; absent = once it is approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<String>,
    /// The hash of the approved plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_plan: Option<String>,
}

/// One step of a pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PipelineStep {
    /// Its name, unique in the pipeline.
    #[schemars(length(min = 1), regex(pattern = r"^[a-z0-9][a-z0-9-]*$"))]
    pub name: String,
    /// The kind of work.
    pub kind: Open<TaskKind>,
    /// Who does it.
    pub agent_ref: LocalObjectReference,
    /// The work itself.
    pub payload: AgenticTaskPayload,
    /// Steps that must have ended on target before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
    /// How long it may run, in seconds; 0 or absent = no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub timeout_seconds: Option<i32>,
    /// Higher goes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// How the change is judged; absent = the workload's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate_profile: Option<GateProfile>,
}

wire_enum! {
    /// Where a workload stands.
    WorkloadPhase {
        Planning = "Planning", Planned = "Planned", Dispatched = "Dispatched",
        Completed = "Completed", Failed = "Failed",
    }
}

impl WorkloadPhase {
    /// Whether the workload has ended.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

/// What became of a workload so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadStatus {
    /// The namespace's Agents, as a hash, when the store refused a task; tried again when they differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agents_seen: Option<String>,
    /// Facts that tools wait for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// How many tasks there should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub desired_tasks: Option<i64>,
    /// Tasks that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_tasks: Option<i32>,
    /// Tasks that ended short of the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete_tasks: Option<i32>,
    /// The generation this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Open<WorkloadPhase>>,
    /// The proposed plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// The model that planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planner_model: Option<String>,
    /// Fix rounds so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review_iterations: Option<i32>,
    /// The record that expansion reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepRecord>,
    /// Tasks on target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded_tasks: Option<i32>,
    /// The tasks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<ObjectReference>,
    /// Fields this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

impl WorkloadStatus {
    /// Whether the workload has ended; a changed spec may open it again.
    pub fn has_ended(&self) -> bool {
        self.phase.as_ref().and_then(Open::known).is_some_and(WorkloadPhase::is_terminal)
    }
}

/// A proposed plan.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// What approval names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// The steps, in the form of `spec.pipeline`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<FreeJson>,
    /// Fields this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// What is known of one step, whatever became of its task object.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepRecord {
    /// The step.
    pub name: String,
    /// Its task's name, chosen once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Its task's uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Its task's phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Open<TaskPhase>>,
    /// Its task's verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Open<Verdict>>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Open<OutcomeReason>>,
    /// What the gate said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Open<Verification>>,
    /// Whether the machinery held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infrastructure: Option<Open<Infrastructure>>,
    /// Whether its task was seen ended: then nothing fires it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<bool>,
    /// What its task was made from, as a hash: a later change of the step is told by it.
    #[serde(default, rename = "madeFrom", skip_serializing_if = "Option::is_none")]
    pub made_from: Option<String>,
    /// What later steps need of what its task said, whatever becomes of the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<StepNotes>,
    /// What the task of that uid spent, as far as no run of it is under way: it counts when the task
    /// is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent: Option<StepSpent>,
    /// What tasks spent that stood for the step before that one.
    #[serde(default, rename = "spentBefore", skip_serializing_if = "Option::is_none")]
    pub spent_before: Option<StepSpent>,
    /// Fields this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// What a step's tasks spent of the Workload's budget.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepSpent {
    /// Tokens sent and received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<i64>,
    /// Turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns: Option<i64>,
    /// Seconds of running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_seconds: Option<i64>,
    /// Fields this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// What a step's task said, as far as later steps need it; bounded, and kept when the task is gone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepNotes {
    /// The machine's word of the old envelope (`result.extra.outcome`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// What it said in short, where it ended off target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// What a reviewer found, one a line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
    /// Findings of the gate that did not block.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advisories: Vec<GateAdvisory>,
    /// The branch that holds its work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Fields this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}
