//! What a model can do: read, search, edit, run, look at its change, submit.
//!
//! A [`ToolBox`] holds the tools that an agent may use and answers every call, right or wrong, with
//! text for the model. Tools work in a tree through [`Root`], which no path leaves; they hold no
//! credential and do nothing that the world outside can see.

mod bash;
mod edit;
mod git_view;
mod grep;
mod locate;
mod nearest;
mod place;
mod read_file;
mod root;
mod schema;
mod submit;
mod write_file;

#[cfg(test)]
mod confinement_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

pub use bash::{Bash, BashSettings};
pub use edit::StrReplace;
pub use git_view::{GitDiff, GitStatus, TreeView};
pub use grep::Grep;
pub use read_file::ReadFile;
pub use root::{PathFault, Root};
pub use schema::check_arguments;
pub use submit::{
    Finding, SUBMIT_RESULT, Severity, Submission, SubmitRole, SubmittedVerdict, parse_submission,
    submit_spec,
};
pub use write_file::WriteFile;

use crate::limits::{TOOL_NAME_BYTES_MAX, TOOL_RESULT_BYTES_MAX};
use crate::model_client::ToolCall;
use crate::text::{clip, head_and_tail};

/// What a model is told about a tool; part of the journal's header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// Its name.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON schema of its arguments (an object).
    pub parameters: Value,
}

/// Whether a call may have changed the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum TreeChange {
    /// It did not.
    #[default]
    None,
    /// It may have: a command ran.
    Perhaps,
    /// It did.
    Edited,
}

/// The answer to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolOutput {
    /// Text for the model. For an error `{"error": …}`.
    pub content: String,
    /// Whether it is an error.
    pub is_error: bool,
    /// Whether the call itself was wrong (unknown tool, bad arguments), and nothing ran.
    pub is_malformed: bool,
    /// What happened to the tree.
    pub change: TreeChange,
}

impl ToolOutput {
    /// A result.
    pub fn ok(content: impl Into<String>, change: TreeChange) -> Self {
        Self { content: content.into(), is_error: false, is_malformed: false, change }
    }

    /// An error that the model can do something about.
    pub fn error(why: impl std::fmt::Display) -> Self {
        Self {
            content: error_text(why),
            is_error: true,
            is_malformed: false,
            change: TreeChange::None,
        }
    }

    /// A call that could not be run as it was written.
    pub fn malformed(why: impl std::fmt::Display) -> Self {
        Self { is_malformed: true, ..Self::error(why) }
    }
}

/// An error in the one form in which models get them.
pub fn error_text(why: impl std::fmt::Display) -> String {
    json!({ "error": why.to_string() }).to_string()
}

/// A call that gave no answer for a reason that the model can do nothing about.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ToolFault {
    /// The caller cancelled it; it may have done part of its work.
    #[error("the call was cancelled")]
    Cancelled,
    /// The sandbox cannot run commands.
    #[error("the sandbox cannot run commands: {why}")]
    Sandbox {
        /// What it said.
        why: String,
    },
}

/// One tool.
#[async_trait]
pub trait Tool: Send + Sync {
    /// What the model is told.
    fn spec(&self) -> ToolSpec;

    /// Runs it. `arguments` fit the schema of [`Tool::spec`].
    ///
    /// # Errors
    /// [`ToolFault`] for what is not the model's business; all else is a [`ToolOutput`].
    async fn call(
        &self,
        arguments: &Map<String, Value>,
        cancel: &CancellationToken,
    ) -> Result<ToolOutput, ToolFault>;
}

/// The tools of one run: a whitelist. `submit_result` is always part of it, but handled by the loop.
#[derive(Clone)]
pub struct ToolBox {
    tools: BTreeMap<String, Arc<dyn Tool>>,
    specs: Vec<ToolSpec>,
    role: SubmitRole,
}

impl std::fmt::Debug for ToolBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ToolBox").field("tools", &self.names()).finish_non_exhaustive()
    }
}

impl ToolBox {
    /// Selects from `available` what `allowed` names, in that order. Returns also the names that are
    /// not available here; the caller decides whether that matters.
    pub fn select(
        available: Vec<Arc<dyn Tool>>,
        allowed: &[String],
        role: SubmitRole,
    ) -> (Self, Vec<String>) {
        let available: BTreeMap<String, Arc<dyn Tool>> =
            available.into_iter().map(|tool| (tool.spec().name, tool)).collect();
        let mut this = Self { tools: BTreeMap::new(), specs: Vec::new(), role };
        let mut missing = Vec::new();
        for name in allowed {
            if name == SUBMIT_RESULT || this.tools.contains_key(name) {
                continue;
            }
            match available.get(name) {
                Some(tool) => {
                    this.specs.push(tool.spec());
                    this.tools.insert(name.clone(), Arc::clone(tool));
                }
                None => missing.push(name.clone()),
            }
        }
        this.specs.push(submit_spec(role));
        (this, missing)
    }

    /// What the model is told, `submit_result` last.
    pub fn specs(&self) -> &[ToolSpec] {
        &self.specs
    }

    /// Replaces what the model is told by a snapshot (that of a journal's header), so that a resumed
    /// conversation keeps its prefix byte for byte. Tools that the snapshot lacks are no longer offered.
    #[must_use]
    pub fn with_snapshot(mut self, specs: Vec<ToolSpec>) -> Self {
        self.tools.retain(|name, _| specs.iter().any(|spec| &spec.name == name));
        self.specs = specs;
        self
    }

    /// For whom `submit_result` is described.
    pub fn role(&self) -> SubmitRole {
        self.role
    }

    /// The names the model may call.
    pub fn names(&self) -> Vec<&str> {
        self.specs.iter().map(|spec| spec.name.as_str()).collect()
    }

    /// Checks a call: the arguments, or what the model is told about it.
    ///
    /// # Errors
    /// The text for the model.
    pub fn check(&self, call: &ToolCall, cut_off: bool) -> Result<Map<String, Value>, String> {
        let name = clip(&call.name, TOOL_NAME_BYTES_MAX);
        let Some(spec) = self.specs.iter().find(|spec| spec.name == call.name) else {
            return Err(format!(
                "there is no tool {name:?}; the tools are: {}",
                self.names().join(", ")
            ));
        };
        let mut arguments = call.parse_arguments().map_err(|why| {
            if cut_off {
                return format!(
                    "your answer was cut off at the output limit in the middle of this call, and nothing was run. \
                     Make the call smaller: write a long file in several pieces, or change it with str_replace ({why})"
                );
            }
            format!("{why}. Nothing was run. Call {name} again with one JSON object that fits this schema: {}", spec.parameters)
        })?;
        check_arguments(&spec.parameters, &mut arguments).map_err(|why| {
            format!("{why}. Nothing was run. The arguments of {name} are: {}", spec.parameters)
        })?;
        Ok(arguments)
    }

    /// Runs a checked call and bounds its result.
    ///
    /// # Errors
    /// [`ToolFault`] as the tool gives it.
    pub async fn call(
        &self,
        name: &str,
        arguments: &Map<String, Value>,
        cancel: &CancellationToken,
    ) -> Result<ToolOutput, ToolFault> {
        let Some(tool) = self.tools.get(name) else {
            return Ok(ToolOutput::malformed(format!(
                "the tool {name:?} is not available on this machine"
            )));
        };
        if cancel.is_cancelled() {
            return Err(ToolFault::Cancelled);
        }
        let mut output = tool.call(arguments, cancel).await?;
        output.content = head_and_tail(&output.content, TOOL_RESULT_BYTES_MAX);
        Ok(output)
    }
}

/// Runs blocking work of a tool beside the runtime's threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ToolFault> {
    // The only error is a panic of `work`, which is passed on to whoever runs the tool.
    tokio::task::spawn_blocking(work).await.map_err(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => ToolFault::Cancelled,
    })
}

fn text_argument<'a>(arguments: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    arguments.get(name).and_then(Value::as_str)
}

fn count_argument(arguments: &Map<String, Value>, name: &str) -> Option<usize> {
    arguments.get(name).and_then(Value::as_u64).map(|n| usize::try_from(n).unwrap_or(usize::MAX))
}
