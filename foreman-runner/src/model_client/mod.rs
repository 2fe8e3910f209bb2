//! Talks to a model server in the OpenAI dialect of chat completions.
//!
//! [`ModelClient`] is the narrow port that the loop of turns uses; [`OpenAiClient`] is the adapter.
//! It is lenient in what it reads (servers differ) and bounded in everything: bytes, lines, time,
//! repetitions. It never runs a tool and knows nothing about journals.

mod assemble;
mod base_url;
mod error;
mod estimate;
mod exchange;
mod faults;
mod judge;
mod message;
mod openai;
mod pace;
mod render;
mod reply;
mod schema_mode;
mod sse;
mod text_calls;

#[cfg(test)]
mod malformed_tests;
#[cfg(test)]
mod scripted;
#[cfg(test)]
mod server_tests;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

pub use base_url::{BaseUrl, InvalidBaseUrl};
pub use error::ModelError;
pub use estimate::{estimate_messages, estimate_text};
pub use message::{Message, ToolCall};
pub use openai::{ModelInfo, OpenAiClient, OpenAiSettings, Timeouts};
pub use schema_mode::response_schema;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::tool::ToolSpec;

/// One model call. `messages` is the whole conversation; it only ever grows.
#[derive(Debug, Clone)]
pub struct ChatRequest<'a> {
    /// Name of the model as the server knows it.
    pub model: &'a str,
    /// The conversation so far, system message first.
    pub messages: &'a [Message],
    /// The tools the model may call.
    pub tools: &'a [ToolSpec],
    /// How calls are asked for.
    pub mode: CallMode,
    /// Sampling temperature; absent = the server's own.
    pub temperature: Option<f64>,
    /// Tokens the model may write in this answer.
    pub output_tokens_max: u32,
    /// Passed on verbatim as `chat_template_kwargs` unless empty.
    pub chat_template_kwargs: &'a Map<String, Value>,
}

/// How tool calls are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallMode {
    /// The `tools` parameter; calls given as text are understood too.
    #[default]
    Native,
    /// `response_format: json_schema` with one branch a tool: the server constrains the answer, which
    /// small local models need. Exactly one call an answer.
    Schema,
}

/// Why the model stopped writing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// It was done.
    Stop,
    /// It wants tools run.
    ToolCalls,
    /// The output limit cut it off.
    Length,
    /// A filter of the provider cut it off.
    ContentFilter,
    /// Anything else, as the server said it (cut to a few characters).
    Other(String),
}

impl FinishReason {
    /// Reads the word of a server.
    pub fn from_wire(word: &str) -> Self {
        match word {
            "stop" | "eos" | "end_turn" => Self::Stop,
            "tool_calls" | "function_call" | "tool_use" => Self::ToolCalls,
            "length" | "max_tokens" => Self::Length,
            "content_filter" => Self::ContentFilter,
            other => Self::Other(crate::text::clip(other, 40)),
        }
    }
}

/// Tokens of one call as the server counted them. Zero prompt tokens mean: it did not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CallUsage {
    /// Tokens of the prompt, cached ones included.
    pub prompt_tokens: u64,
    /// Of these, what the server did not have to compute again.
    pub cached_tokens: u64,
    /// Tokens the model wrote.
    pub completion_tokens: u64,
    /// True when the server said nothing and these numbers are our own estimate.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
}

/// Where the calls of a reply came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CallSource {
    /// There are none.
    #[default]
    None,
    /// The `tool_calls` of the protocol.
    Native,
    /// Found in the text of the answer.
    Text,
    /// The constrained JSON of [`CallMode::Schema`].
    Schema,
}

/// One whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatReply {
    /// What the model said, without its reasoning and without calls given as text.
    pub content: String,
    /// What it thought, where the server or the model set that apart. Never sent back.
    pub reasoning: String,
    /// What it wants run, in its order. Ids may be empty or doubled; arguments may be no JSON.
    pub tool_calls: Vec<ToolCall>,
    /// Where the calls came from.
    pub source: CallSource,
    /// Why it stopped.
    pub finish: FinishReason,
    /// Tokens.
    pub usage: CallUsage,
    /// Set when the answer was meant as a call and cannot be understood: says why, for the model.
    pub problem: Option<String>,
}

/// What is seen of an answer while it comes. For progress only: the reply is what counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// A piece of the answer.
    Content(String),
    /// A piece of the reasoning.
    Reasoning(String),
    /// A call has begun.
    Call {
        /// Name of the tool.
        name: String,
    },
    /// What came so far is void: the call is sent again after a pause.
    Again {
        /// Which repetition, from 1.
        retry: u32,
        /// How long until then.
        pause_ms: u64,
        /// What went wrong.
        why: String,
    },
}

/// A model that answers.
#[async_trait]
pub trait ModelClient: Send + Sync {
    /// One model call, repeated within bounds when the fault may pass. Cancelling ends it at once.
    async fn complete(
        &self,
        request: &ChatRequest<'_>,
        on_delta: &mut (dyn FnMut(Delta) + Send),
        cancel: &CancellationToken,
    ) -> Result<ChatReply, ModelError>;
}
