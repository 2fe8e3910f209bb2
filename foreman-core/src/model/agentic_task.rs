// tidy: one kind a file, and a task has the most fields of all kinds.
//! `AgenticTask`: one dispatchable unit of work.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::{Condition, find_condition};
use super::ids::{Key, Uid};
use super::meta::{Extra, OwnerReference};
use super::object::{Column, GROUP, Kind, Names, Object, Scope};
use super::open::{Open, wire_enum};
use super::outcome::{FailureReason, OutcomeRecord, Verdict};
use super::shared::{
    Budget, FreeObject, GateAdvisory, GateProfile, LocalObjectReference, RequiredCapability,
    SharedIdentifier, SliceRef, VerdictPolicy,
};
use super::time::WallTime;
use super::workload::Workload;

/// The kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgenticTask;

impl Kind for AgenticTask {
    type Spec = AgenticTaskSpec;
    type Status = AgenticTaskStatus;
    const NAMES: Names = Names {
        kind: "AgenticTask",
        plural: "agentictasks",
        singular: "agentictask",
        short: "at",
        alias: "task",
        scope: Scope::Namespaced,
        columns: &[
            Column::always("Phase", "string", ".status.phase"),
            Column::always("Kind", "string", ".spec.kind"),
            Column::always("Node", "string", ".status.assignedNode"),
            Column::always("Verdict", "string", ".status.verdict"),
            Column::always("Age", "date", ".metadata.creationTimestamp"),
            Column::wide("Reason", "string", ".status.waiting.reason"),
            Column::wide("Attempt", "integer", ".status.attempt"),
            Column::wide("Verified", "string", ".status.outcome.verification"),
            Column::wide(
                "Workload",
                "string",
                ".metadata.labels['foreman\\.llmkube\\.dev/workload']",
            ),
        ],
        selectable: &[".status.assignedNode", ".status.phase"],
    };
}

wire_enum! {
    /// What kind of work a task is.
    TaskKind {
        IssueFix = "issue-fix", Verify = "verify", Review = "review", Freeform = "freeform",
        Integrate = "integrate", Reconcile = "reconcile",
    }
}

wire_enum! {
    /// How a coder's branch begins.
    BranchStrategy { Reset = "reset", Rebase = "rebase" }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgenticTaskSpec {
    /// The kind of work.
    pub kind: Open<TaskKind>,
    /// Who does it; the Agent's required capability then replaces the task's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_ref: Option<LocalObjectReference>,
    /// What may be spent, resumes included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// End the task and keep the work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<bool>,
    /// The run whose conversation this one goes on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<Continues>,
    /// Tasks of the namespace that must have ended on target before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
    /// How the change is judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate_profile: Option<GateProfile>,
    /// Whether MCP tools may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp_enabled: Option<bool>,
    /// Kept for old manifests; nothing reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_ref: Option<String>,
    /// The work itself.
    pub payload: AgenticTaskPayload,
    /// Higher goes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// What a node must offer; used only without `agentRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_capability: Option<RequiredCapability>,
    /// How long a run waits for the machine that holds its journal, in seconds; absent = 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub resume_wait_seconds: Option<i64>,
    /// How often it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetrySpec>,
    /// Pause at the next turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// How long it may run, in seconds, summed over attempts; 0 or absent = no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub timeout_seconds: Option<i32>,
    /// Which changes the coder's own GO may stand for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict_policy: Option<VerdictPolicy>,
}

impl AgenticTaskSpec {
    /// A spec of this kind and payload, all else absent.
    pub fn new(kind: TaskKind, payload: AgenticTaskPayload) -> Self {
        Self {
            kind: kind.into(),
            agent_ref: None,
            budget: None,
            cancel: None,
            continues: None,
            depends_on: Vec::new(),
            gate_profile: None,
            mcp_enabled: None,
            model_ref: None,
            payload,
            priority: None,
            required_capability: None,
            resume_wait_seconds: None,
            retry: None,
            suspend: None,
            timeout_seconds: None,
            verdict_policy: None,
        }
    }
}

/// The run that another one continues.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Continues {
    /// The task's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The task's uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// How often a task is tried again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetrySpec {
    /// Strikes at which it ends; absent = 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_attempts: Option<i32>,
    /// The first pause, in seconds, doubled each time; absent = 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub backoff_seconds: Option<i64>,
}

/// The work of a task. Which fields count depends on the kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgenticTaskPayload {
    /// Kept for old manifests; nothing reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Whether an own branch that moved may be replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_overwrite: Option<bool>,
    /// The branch to start from; empty = the remote's HEAD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_branch: Option<String>,
    /// The branch to make, verify or review.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// What an own branch name begins with when `branch` is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch_prefix: Option<String>,
    /// Whether to start afresh or from an earlier attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "reset"))]
    pub branch_strategy: Option<Open<BranchStrategy>>,
    /// Prose that reconciled slices must fulfil.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<String>,
    /// Findings of the gate that did not block, for the reviewer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gate_advisories: Vec<GateAdvisory>,
    /// Pictures in the workspace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// The issue's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub issue: Option<i32>,
    /// Whether a review that ends GO opens the pull request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_pull_request: Option<bool>,
    /// What the agent is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// What stands before the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_prefix: Option<String>,
    /// The repository: a slug, a URL or, embedded, an absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
    /// A branch to go on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revise_from_branch: Option<String>,
    /// Identifiers that slices share.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared_identifiers: Vec<SharedIdentifier>,
    /// Disjoint parts of a change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<SliceRef>,
}

wire_enum! {
    /// Where a task stands. `Verifying` is read as in flight and never written.
    TaskPhase {
        Pending = "Pending", Scheduled = "Scheduled", Running = "Running", Verifying = "Verifying",
        Succeeded = "Succeeded", Failed = "Failed",
    }
}

impl TaskPhase {
    /// Whether the task has ended, for good.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }

    /// Whether a node holds the task.
    pub const fn is_in_flight(self) -> bool {
        matches!(self, Self::Scheduled | Self::Running | Self::Verifying)
    }
}

/// What became of a task so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgenticTaskStatus {
    /// Tokens reserved for this placement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub allowance: Option<i64>,
    /// The node it is placed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned_node: Option<String>,
    /// How many claims were granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub attempt: Option<i64>,
    /// The last ten claims.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptRecord>,
    /// The branch that holds the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Where the unfinished work lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
    /// When the holder claimed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed_at: Option<WallTime>,
    /// The commit that holds the result.
    #[serde(default, rename = "commitSHA", skip_serializing_if = "Option::is_none")]
    pub commit_sha: Option<String>,
    /// Facts that tools wait for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// What went wrong, in the old closed set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<Open<FailureReason>>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<WallTime>,
    /// The Job that ran it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_name: Option<String>,
    /// The generation this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is behind the verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<OutcomeRecord>,
    /// Where it stands; absent = not yet seen by the scheduler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Open<TaskPhase>>,
    /// The envelope `foreman.v1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<FreeObject>,
    /// The session that claimed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// When this claim began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<WallTime>,
    /// Where the transcript is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcript_ref: Option<String>,
    /// What was spent, over all attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What the work came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Open<Verdict>>,
    /// Why it is not running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// Fields this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

impl AgenticTaskStatus {
    /// The phase, as far as this version knows it. An unknown phase is folded into `Running`: it
    /// belongs to whoever wrote it, and nothing of ours may place or end such a task.
    pub fn known_phase(&self) -> Option<TaskPhase> {
        self.phase.as_ref().map(|phase| phase.known().unwrap_or(TaskPhase::Running))
    }

    /// Whether the task has ended, for good.
    pub fn has_ended(&self) -> bool {
        self.known_phase().is_some_and(TaskPhase::is_terminal)
    }

    /// Tokens of `usage` that are estimates for claims on that node: what they really spent stands in
    /// the journal there.
    pub fn estimated_on(&self, node: &str) -> i64 {
        let here = self.attempts.iter().filter(|record| record.node.as_deref() == Some(node));
        here.filter_map(|record| record.estimated_tokens).fold(0, i64::saturating_add)
    }
}

impl Object<AgenticTask> {
    /// The Workload that the task names as its owner: where it stands, and which one of that name. A
    /// kind of that name in another API group is somebody else's.
    pub fn workload(&self) -> Option<(Key, &Uid)> {
        let owner = self.meta.owner_references.iter().find(|owner| is_workload(owner))?;
        let key = Key { namespace: self.meta.namespace.clone(), name: owner.name.clone() };
        Some((key, &owner.uid))
    }

    /// Whether the Workload of that uid owns the task.
    pub fn is_of(&self, workload: &Uid) -> bool {
        let mut owners = self.meta.owner_references.iter().filter(|owner| is_workload(owner));
        owners.any(|owner| owner.uid == *workload)
    }

    /// What the condition `Finished` says; absent until the task has ended.
    pub fn finished_message(&self) -> Option<&str> {
        let finished = find_condition(&self.status.conditions, "Finished");
        finished.map(|condition| condition.message.as_str())
    }
}

/// Whether an owner is a Workload of this API, in whatever version of it.
fn is_workload(owner: &OwnerReference) -> bool {
    let group = owner.api_version.split_once('/').map(|(group, _)| group);
    owner.kind == Workload::NAMES.kind && group == Some(GROUP)
}

wire_enum! {
    /// Why a task is not running.
    WaitingReason {
        NoNodes = "NoNodes", NoMatchingNode = "NoMatchingNode", NodesBusy = "NodesBusy",
        NodesStale = "NodesStale", NodesRecovering = "NodesRecovering", Dependency = "Dependency",
        DependencyMissing = "DependencyMissing", AgentMissing = "AgentMissing",
        AgentAtLimit = "AgentAtLimit", BudgetExhausted = "BudgetExhausted", Backoff = "Backoff",
        Suspended = "Suspended", AwaitingApproval = "AwaitingApproval",
        PolicyForbids = "PolicyForbids",
    }
}

/// Why a task is not running. The message holds no ages, so that it stays while nothing changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Waiting {
    /// The reason, of a closed set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Open<WaitingReason>>,
    /// The reason in words, with counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Since when this reason holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<WallTime>,
    /// Fields this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// What was spent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Model calls with their tool calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns: Option<i64>,
    /// Tokens sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<i64>,
    /// Tokens sent that the server had in its cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<i64>,
    /// Tokens received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<i64>,
    /// Tool calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<i64>,
    /// Seconds of running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_seconds: Option<i64>,
    /// Whether a part of it is an estimate, because the holder died.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated: Option<bool>,
    /// Fields this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// Where unfinished work lies.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Checkpoint {
    /// The node that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The attempt that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i64>,
    /// The last finished turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<i64>,
    /// The tree's hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Whether an archive has it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived: Option<bool>,
    /// Fields this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

wire_enum! {
    /// How a claim ended.
    AttemptEnd {
        Finished = "Finished", Drained = "Drained", Suspended = "Suspended", Refused = "Refused",
        HandedBack = "HandedBack", NodeLost = "NodeLost", SessionLost = "SessionLost",
        Missing = "Missing", Infrastructure = "Infrastructure", Adopted = "Adopted",
        Cancelled = "Cancelled", TimedOut = "TimedOut", BudgetExhausted = "BudgetExhausted",
    }
}

/// One claim of a task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttemptRecord {
    /// Its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i64>,
    /// Who held it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// In which life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<WallTime>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<WallTime>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Open<AttemptEnd>>,
    /// The turn that the task had reached when it ended, counted over all claims, as far as known:
    /// how far this claim came is the difference to the claim before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub turn: Option<i64>,
    /// Tokens that the task was charged for this claim although nobody knows what it spent; absent once
    /// its journal told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub estimated_tokens: Option<i64>,
    /// Seconds that claims ran which are no longer listed; on the first record only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub earlier_seconds: Option<i64>,
    /// Fields this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}
