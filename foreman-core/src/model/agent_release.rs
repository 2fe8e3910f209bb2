//! `AgentRelease`: a version of the agent program to roll out.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::fleet_node::AgentKind;
use super::meta::Extra;
use super::object::{Column, Kind, Names, Scope};
use super::open::{Open, wire_enum};
use super::shared::LabelSelector;
use super::time::WallTime;

/// The kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentRelease;

impl Kind for AgentRelease {
    type Spec = AgentReleaseSpec;
    type Status = AgentReleaseStatus;
    const NAMES: Names = Names {
        kind: "AgentRelease",
        plural: "agentreleases",
        singular: "agentrelease",
        short: "agr",
        alias: "release",
        scope: Scope::Cluster,
        columns: &[
            Column::always("Phase", "string", ".status.phase"),
            Column::always("Version", "string", ".spec.version"),
            Column::always("Approved", "boolean", ".spec.approved"),
            Column::always("Updated", "integer", ".status.updatedNodes"),
            Column::always("Age", "date", ".metadata.creationTimestamp"),
        ],
        selectable: &[],
    };
}

wire_enum! {
    /// Operating system of an artifact.
    ArtifactOs { Darwin = "darwin", Linux = "linux" }
}

wire_enum! {
    /// Architecture of an artifact.
    ArtifactArch { Amd64 = "amd64", Arm64 = "arm64" }
}

/// A version to roll out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentReleaseSpec {
    /// Which program.
    pub agent_kind: Open<AgentKind>,
    /// Whether the roll-out may begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = false))]
    pub approved: Option<bool>,
    /// The files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<AgentReleaseArtifact>,
    /// Nodes at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("default" = 1))]
    pub concurrency: Option<i32>,
    /// When a node counts as healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_gate: Option<HealthGate>,
    /// Whether the roll-out stands still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = false))]
    pub paused: Option<bool>,
    /// Which nodes; absent = all of the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// The version.
    pub version: String,
}

/// One file of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentReleaseArtifact {
    /// Architecture.
    pub arch: Open<ArtifactArch>,
    /// Operating system.
    pub os: Open<ArtifactOs>,
    /// SHA-256, in hex.
    #[schemars(regex(pattern = r"^[0-9a-f]{64}$"))]
    pub sha256: String,
    /// Where it is.
    pub url: String,
}

/// When a node counts as healthy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthGate {
    /// How long it must have been healthy, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0), extend("default" = 60))]
    pub min_healthy_seconds: Option<i32>,
    /// How long the update may take, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("default" = 600))]
    pub timeout_seconds: Option<i32>,
}

wire_enum! {
    /// Where a roll-out stands.
    ReleasePhase {
        Pending = "Pending", AwaitingApproval = "AwaitingApproval", InProgress = "InProgress",
        Paused = "Paused", Succeeded = "Succeeded", Failed = "Failed",
    }
}

wire_enum! {
    /// Where one node of a roll-out stands.
    NodeUpdatePhase {
        Pending = "Pending", Updating = "Updating", Updated = "Updated", Failed = "Failed",
    }
}

wire_enum! {
    /// Why a node of a roll-out failed.
    NodeUpdateReason {
        NodeUpdateTimeout = "NodeUpdateTimeout", NoMatchingArtifact = "NoMatchingArtifact",
    }
}

/// What became of a roll-out so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentReleaseStatus {
    /// Facts that tools wait for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The version it brings nodes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_version: Option<String>,
    /// Nodes that update now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_flight_nodes: Vec<String>,
    /// Each node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_statuses: Vec<AgentReleaseNodeStatus>,
    /// The generation this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Open<ReleasePhase>>,
    /// Nodes that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_nodes: Option<i32>,
    /// Nodes that have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_nodes: Option<i32>,
    /// Fields this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// One node of a roll-out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentReleaseNodeStatus {
    /// When it was asked to update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispatched_at: Option<WallTime>,
    /// When its phase changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<WallTime>,
    /// Why, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The node.
    pub name: String,
    /// The version it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_version: Option<String>,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Open<NodeUpdatePhase>>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Open<NodeUpdateReason>>,
    /// Fields this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}
