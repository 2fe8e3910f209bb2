//! The records of a journal.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model_client::{CallUsage, FinishReason, Message};
use crate::tool::ToolSpec;

/// The version of the records; a reader refuses a higher one.
pub const JOURNAL_SCHEMA: u32 = 1;

/// One record: when it was written, and what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Milliseconds since 1970, by the wall clock. For people; no rule reads it.
    pub at: u64,
    /// What.
    #[serde(flatten)]
    pub entry: Entry,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Entry {
    /// The first record of a file.
    Header(Box<Header>),
    /// A message of system, user or model; stored once. Results are [`Entry::ToolResult`].
    Message {
        /// The message.
        message: Message,
        /// For a message of the model: what it cost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<CallUsage>,
        /// For a message of the model: why it stopped.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        finish: Option<FinishReason>,
        /// For a message of the model that was meant as a call: what was wrong with it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        problem: Option<String>,
    },
    /// A call begins now. Written before it runs.
    ToolStarted {
        /// Id of the call.
        call: String,
        /// The tool.
        name: String,
    },
    /// A call ended.
    ToolResult {
        /// Id of the call.
        call: String,
        /// The tool.
        name: String,
        /// The answer for the model.
        content: String,
        /// Whether it is an error.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        error: bool,
        /// Whether the call itself was wrong, so that nothing ran.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        malformed: bool,
    },
    /// An effect in the world outside begins now. Written and synced before it.
    EffectIntent {
        /// Which effect.
        key: String,
        /// What is needed to look it up at its target.
        #[serde(default)]
        detail: Value,
    },
    /// The effect was done, or found done.
    EffectDone {
        /// Which effect.
        key: String,
        /// What came of it.
        #[serde(default)]
        result: Value,
    },
    /// The tree was kept.
    Checkpoint(CheckpointMark),
    /// How the run ended. Kept until the terminal write succeeded.
    Outcome {
        /// In the words of whoever ends runs.
        outcome: Value,
    },
    /// A kind that this version does not know. Skipped.
    #[serde(other)]
    Unknown,
}

/// The first record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// [`JOURNAL_SCHEMA`] of the writer.
    pub schema: u32,
    /// The claim under which it was written.
    pub fence: JournalFence,
    /// What it continues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentRef>,
    /// The commit the work is based on.
    pub base_commit: String,
    /// The Agent's spec as it was at the start; a resumed run uses this one.
    pub agent: Value,
    /// The tools as the model was told them; a resumed run uses these.
    pub tools: Vec<ToolSpec>,
}

/// The fields of a fence, as plain data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalFence {
    /// Uid of the task.
    pub uid: String,
    /// Attempt, from 1.
    pub attempt: u32,
    /// Session of the agent.
    pub session: String,
    /// Name of the node.
    pub node: String,
    /// `status.claimedAt` as the store shows it.
    pub claimed_at: String,
}

/// Another journal that this one goes on with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    /// Uid of its task: the same one (a further attempt) or another (a task that continues it).
    pub uid: String,
    /// Its attempt.
    pub attempt: u32,
    /// How many bytes of it count. What is written there later is none of ours.
    pub bytes: u64,
}

/// Where the tree was kept after a turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointMark {
    /// The turn it was made after.
    pub turn: u32,
    /// The private ref it stands under.
    pub reference: String,
    /// The commit.
    pub commit: String,
}
