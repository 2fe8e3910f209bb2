//! `ModelProfile`: what a model family needs to be told.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::meta::Extra;
use super::object::{Column, Kind, Names, Scope};
use super::shared::StuckLoopDetectionSpec;

/// The kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelProfile;

impl Kind for ModelProfile {
    type Spec = ModelProfileSpec;
    type Status = ModelProfileStatus;
    const NAMES: Names = Names {
        kind: "ModelProfile",
        plural: "modelprofiles",
        singular: "modelprofile",
        short: "mp",
        alias: "profile",
        scope: Scope::Cluster,
        columns: &[
            Column::always("Reads-Restricted", "boolean", ".spec.restrictReadsInForcingPhase"),
            Column::always("Age", "date", ".metadata.creationTimestamp"),
        ],
        selectable: &[],
    };
}

/// What a model family needs to be told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelProfileSpec {
    /// Whether reading tools are withheld once the run must come to an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restrict_reads_in_forcing_phase: Option<bool>,
    /// When a run counts as stuck; only where the Agent says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck_loop_detection: Option<StuckLoopDetectionSpec>,
    /// Text that follows the system prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_prompt_addendum: Option<String>,
}

/// What was observed of a profile.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelProfileStatus {
    /// Facts that tools wait for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The generation this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Fields this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}
