//! `Agent`: a reusable role: prompt, tools, model endpoint, required capability.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::meta::Extra;
use super::object::{Column, Kind, Names, Scope};
use super::open::{Open, wire_enum};
use super::shared::{
    FreeJson, LocalObjectReference, Quantity, RequiredCapability, SecretKeySelector,
    StuckLoopDetectionSpec,
};

/// The kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agent;

impl Kind for Agent {
    type Spec = AgentSpec;
    type Status = AgentStatus;
    const NAMES: Names = Names {
        kind: "Agent",
        plural: "agents",
        singular: "agent",
        short: "ag",
        alias: "agent",
        scope: Scope::Namespaced,
        columns: &[
            Column::always("Role", "string", ".spec.role"),
            Column::always("Model", "string", ".spec.model"),
            Column::always("InferenceService", "string", ".spec.inferenceServiceRef.name"),
            Column::always(
                "Validated",
                "string",
                ".status.conditions[?(@.type==\"Validated\")].status",
            ),
            Column::always("Age", "date", ".metadata.creationTimestamp"),
        ],
        selectable: &[],
    };
}

wire_enum! {
    /// What an Agent is for.
    AgentRole { Coder = "coder", Verifier = "verifier", Reviewer = "reviewer", Planner = "planner" }
}

wire_enum! {
    /// Where the model is.
    Provider { Local = "local", CloudProxy = "cloud-proxy" }
}

wire_enum! {
    /// Where a run executes.
    ExecutionMode { InProcess = "InProcess", Job = "Job" }
}

wire_enum! {
    /// How a long conversation is kept inside the context.
    ContextStrategy { Window = "window", Session = "session" }
}

wire_enum! {
    /// How an MCP server is spoken to.
    McpTransport { Http = "http" }
}

/// A reusable role.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentSpec {
    /// How long one shell command may take, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("default" = 30))]
    pub bash_timeout_seconds: Option<i32>,
    /// Arguments of the chat template, forwarded as they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub chat_template_kwargs: BTreeMap<String, FreeJson>,
    /// How a long conversation is kept inside the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "window"))]
    pub context_strategy: Option<Open<ContextStrategy>>,
    /// The model's context, in tokens; 0 or absent = 32768.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub context_window_tokens: Option<i32>,
    /// Where and how runs execute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<ExecutionSpec>,
    /// The model server; empty with a local provider = a deterministic agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inference_service_ref: Option<LocalObjectReference>,
    /// Tasks of this Agent at the same time; absent = unbounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_concurrent_tasks: Option<i32>,
    /// Rounds of the gate after the push.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_envtest_iterations: Option<i32>,
    /// Tokens of one answer; 0 or absent = 8192.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_output_tokens: Option<i32>,
    /// Tries of one model call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 20), extend("default" = 3))]
    pub max_retries: Option<i32>,
    /// Turns of a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 500), extend("default" = 50))]
    pub max_turns: Option<i32>,
    /// MCP servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp: Option<McpConfig>,
    /// The model's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// A `ModelProfile` that tunes the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_profile_ref: Option<String>,
    /// Turns whose tool results stay whole in the window; 0 or absent = 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 50))]
    pub observation_window_turns: Option<i32>,
    /// Where the model is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "local"))]
    pub provider: Option<Open<Provider>>,
    /// The endpoint of a cloud provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_config: Option<ProviderConfig>,
    /// How long all model calls of a run may take, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("default" = 3600))]
    pub request_timeout_seconds: Option<i32>,
    /// How long one model call may take to answer, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("default" = 120))]
    pub request_turn_timeout_seconds: Option<i32>,
    /// What a node must offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_capability: Option<RequiredCapability>,
    /// What the Agent is for.
    pub role: Open<AgentRole>,
    /// When a run counts as stuck.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck_loop_detection: Option<StuckLoopDetectionSpec>,
    /// The system prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    /// The sampling temperature, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-2](\.[0-9]+)?$"))]
    pub temperature: Option<String>,
    /// The tools it may use.
    #[schemars(length(min = 1))]
    pub tools: Vec<String>,
    /// Whether and how pictures are shown to the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vision: Option<VisionSpec>,
}

impl AgentSpec {
    /// A spec of this role with these tools, all else absent.
    pub fn new(role: AgentRole, tools: Vec<String>) -> Self {
        Self {
            bash_timeout_seconds: None,
            chat_template_kwargs: BTreeMap::new(),
            context_strategy: None,
            context_window_tokens: None,
            execution: None,
            inference_service_ref: None,
            max_concurrent_tasks: None,
            max_envtest_iterations: None,
            max_output_tokens: None,
            max_retries: None,
            max_turns: None,
            mcp: None,
            model: None,
            model_profile_ref: None,
            observation_window_turns: None,
            provider: None,
            provider_config: None,
            request_timeout_seconds: None,
            request_turn_timeout_seconds: None,
            required_capability: None,
            role: role.into(),
            stuck_loop_detection: None,
            system_prompt: None,
            temperature: None,
            tools,
            vision: None,
        }
    }

    /// What `requiresModelInstalled` looks for: the model, else the model server's name.
    pub fn model_identity(&self) -> Option<&str> {
        let model = self.model.as_deref().filter(|model| !model.is_empty());
        model.or_else(|| self.inference_service_ref.as_ref().and_then(LocalObjectReference::named))
    }
}

/// Where and how runs execute.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionSpec {
    /// How long a Job may run, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = 3600))]
    pub active_deadline_seconds: Option<i64>,
    /// The Job's image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// In the agent's process, or as a Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "InProcess"))]
    pub mode: Option<Open<ExecutionMode>>,
    /// The Job's resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// The Job's service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
}

/// Resources of a Job, in Kubernetes' form.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceRequirements {
    /// Claims of dynamic resources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub claims: Vec<ResourceClaim>,
    /// The most of each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Quantity>,
    /// The least of each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, Quantity>,
}

/// A claim of a dynamic resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceClaim {
    /// Its name.
    pub name: String,
    /// A part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// MCP servers whose tools an Agent may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct McpConfig {
    /// How long a call may take, e.g. `30s`; zero or absent = 30 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_timeout: Option<String>,
    /// Whether they are used at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The longest result, in bytes; zero or absent = 32768.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "plain_integer")]
    pub max_result_bytes: Option<i64>,
    /// The servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<McpServer>,
}

/// The existing schema gives this one integer no format.
fn plain_integer(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "integer" })
}

/// One MCP server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct McpServer {
    /// Tools that may be used; empty or `*` = all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_tools: Vec<String>,
    /// Headers to send.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<McpHeader>,
    /// Its name; tools are called `mcp__<server>__<tool>`.
    pub name: String,
    /// How it is spoken to.
    pub transport: Open<McpTransport>,
    /// Where it is.
    pub url: String,
}

/// A header for an MCP server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct McpHeader {
    /// The header's name.
    pub name: String,
    /// Where its value is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<SecretKeySelector>,
}

/// The endpoint of a cloud provider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderConfig {
    /// Where the key is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_secret_ref: Option<SecretKeySelector>,
    /// The OpenAI-compatible base URL.
    #[serde(default, rename = "baseURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub base_url: Option<String>,
    /// The model's name on the wire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub model: Option<String>,
}

/// Whether and how pictures are shown to the model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VisionSpec {
    /// Whether at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The largest picture, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_image_bytes: Option<i64>,
    /// The most pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_images: Option<i32>,
}

/// What was observed of an Agent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// Facts that tools wait for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The generation this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Fields this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}
