//! `FleetNode`: one machine, or one agent process on it, that can run tasks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::meta::Extra;
use super::object::{Column, Kind, Names, Scope};
use super::open::{Open, wire_enum};
use super::time::WallTime;

/// The kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FleetNode;

impl Kind for FleetNode {
    type Spec = FleetNodeSpec;
    type Status = FleetNodeStatus;
    const NAMES: Names = Names {
        kind: "FleetNode",
        plural: "fleetnodes",
        singular: "fleetnode",
        short: "fn",
        alias: "node",
        scope: Scope::Cluster,
        columns: &[
            Column::always("Phase", "string", ".status.phase"),
            Column::always("Version", "string", ".status.agentVersion"),
            Column::always("Accelerator", "string", ".status.capability.accelerator"),
            Column::always("RAM", "integer", ".status.capability.availableRAMGB"),
            Column::always("Current Task", "string", ".status.currentTask"),
            Column::always("Heartbeat", "date", ".status.lastHeartbeatTime"),
            Column::always("Age", "date", ".metadata.creationTimestamp"),
            Column::wide("Slots", "integer", ".status.capacity.slots"),
            Column::wide("Model", "string", ".status.capability.models[0].name"),
        ],
        selectable: &[".status.phase"],
    };
}

/// What is declared of a node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FleetNodeSpec {
    /// The machine's name.
    pub node_name: String,
    /// What the node is for; free words, e.g. `coder`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// The node's address in a private network; advertised only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tailscale_addr: Option<String>,
    /// Runs at the same time; absent = 1, 0 = none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub slots: Option<i32>,
    /// Cordoned: nothing new is placed here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unschedulable: Option<bool>,
    /// Drain this node; implies `unschedulable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainSpec>,
}

/// How a node is drained.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrainSpec {
    /// How long runs may finish, in seconds; absent = 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub deadline_seconds: Option<i64>,
}

wire_enum! {
    /// What a node is up to.
    NodePhase { Ready = "Ready", Draining = "Draining", NotReady = "NotReady", Unknown = "Unknown" }
}

wire_enum! {
    /// An accelerator that a node offers.
    Accelerator { Metal = "metal", Cuda = "cuda", Vulkan = "vulkan", None = "none" }
}

wire_enum! {
    /// The program that speaks for the node.
    AgentKind { ForemanAgent = "foreman-agent", MetalAgent = "metal-agent" }
}

/// What was observed of a node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FleetNodeStatus {
    /// The program that speaks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_kind: Option<Open<AgentKind>>,
    /// That program's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    /// Processor architecture: `amd64`, `arm64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// What the node can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<Capability>,
    /// Numbers the scheduler accounts with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// Facts that tools wait for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// `namespace/name` of a task that runs here; no rule reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_task: Option<String>,
    /// When the agent first saw the drain that `spec.drain` asks for; its deadline counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_since: Option<WallTime>,
    /// When the agent last said it was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_heartbeat_time: Option<WallTime>,
    /// The generation this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Operating system: `linux`, `darwin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    /// What the node is up to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Open<NodePhase>>,
    /// What runs here now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<RunSummary>,
    /// This life of the agent process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// A version the agent is asked to install.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_request: Option<UpdateRequest>,
    /// Fields this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// What a node can do. Absent = unknown.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Capability {
    /// The accelerator that work may ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<Open<Accelerator>>,
    /// One entry a device.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accelerators: Vec<AcceleratorDevice>,
    /// Memory that is free for work now, in GiB, at most `totalRAMGB`.
    #[serde(default, rename = "availableRAMGB", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub available_ram_gb: Option<i32>,
    /// The processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// The disk that holds the state directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
    /// Names of models that are there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub installed_models: Vec<String>,
    /// The largest context that a model here offers, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_context_tokens: Option<i32>,
    /// Models that a server on the node really serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ServedModel>,
    /// Namespaces this node takes tasks from; empty = all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// What confines a run here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxCapability>,
    /// How fast the node's model is, in tokens a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub tokens_per_second: Option<i32>,
    /// Memory of the machine, in GiB.
    #[serde(default, rename = "totalRAMGB", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub total_ram_gb: Option<i32>,
    /// Fields this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// One accelerator device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcceleratorDevice {
    /// `metal`, `cuda`, `rocm`, `vulkan`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The device's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its memory, in GiB.
    #[serde(default, rename = "memoryGB", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub memory_gb: Option<i32>,
    /// Its free memory, in GiB.
    #[serde(default, rename = "freeMemoryGB", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub free_memory_gb: Option<i32>,
    /// The driver's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Fields this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

wire_enum! {
    /// How a fact about a node is known.
    Evidence { Declared = "declared", Probed = "probed", Measured = "measured" }
}

/// A model that a server on the node serves.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServedModel {
    /// The model's name on the wire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The kind of server: `ollama`, `llama.cpp`, `lm-studio`, `vllm`, `openai`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The server's base URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The context really served, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub context_tokens: Option<i32>,
    /// Measured speed, in tokens a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub tokens_per_second: Option<i32>,
    /// Whether it is in memory now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loaded: Option<bool>,
    /// How we know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Open<Evidence>>,
    /// Fields this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// The processor.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cpu {
    /// Cores that may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub cores: Option<i32>,
    /// Architecture: `amd64`, `arm64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// Fields this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// A disk.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Disk {
    /// Free space, in GiB.
    #[serde(default, rename = "freeGB", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub free_gb: Option<i32>,
    /// Fields this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

wire_enum! {
    /// How far a run is confined, from least to most that the machine can do.
    SandboxTier { None = "none", Files = "files", Network = "network", Full = "full" }
}

/// What confines a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxCapability {
    /// The tier that the self-test reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<Open<SandboxTier>>,
    /// When the self-test ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<WallTime>,
    /// Fields this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// Numbers the scheduler accounts with.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// Runs at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub slots: Option<i32>,
    /// Memory that runs may use, in GiB.
    #[serde(default, rename = "ramGB", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub ram_gb: Option<i32>,
    /// Fields this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

wire_enum! {
    /// What a run is doing.
    RunStage {
        Cloning = "Cloning", Model = "Model", Tool = "Tool", Gate = "Gate", Publishing = "Publishing",
    }
}

/// A run, as the node's heartbeat shows it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunSummary {
    /// `namespace/name` of the task.
    pub task: String,
    /// The task's uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Which claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub attempt: Option<i64>,
    /// What it is doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Open<RunStage>>,
    /// The turn it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub turn: Option<i64>,
    /// Tokens so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub tokens: Option<i64>,
    /// The last turn that is in the archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub archived_turn: Option<i64>,
    /// When it last moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_progress_time: Option<WallTime>,
    /// Fields this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// A version the agent is asked to install.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateRequest {
    /// The version.
    pub target_version: String,
    /// Where it is.
    pub url: String,
    /// Its SHA-256, in hex.
    #[schemars(regex(pattern = r"^[0-9a-f]{64}$"))]
    pub sha256: String,
    /// Fields this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}
