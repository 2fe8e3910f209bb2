//! `git_status` and `git_diff`: what trusted git says about the tree. The model itself has no git.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::{Tool, ToolFault, ToolOutput, ToolSpec, TreeChange, text_argument};
use crate::limits::DIFF_BYTES_MAX;
use crate::text::head_and_tail;

/// The change of a run, as the workspace sees it.
#[async_trait]
pub trait TreeView: Send + Sync {
    /// The changed paths against the base, one a line; empty = nothing changed.
    ///
    /// # Errors
    /// Why it cannot be told, in words for the model.
    async fn status(&self) -> Result<String, String>;

    /// The change against the base as a unified diff, of one path or of all. The path is the model's:
    /// the implementation passes it on after `--` and as a literal, never as an option or a pattern.
    ///
    /// # Errors
    /// Why it cannot be told, in words for the model.
    async fn diff(&self, path: Option<&str>) -> Result<String, String>;
}

/// Shows the changed paths.
pub struct GitStatus {
    view: Arc<dyn TreeView>,
}

impl GitStatus {
    /// The tool for this workspace.
    pub fn new(view: Arc<dyn TreeView>) -> Self {
        Self { view }
    }
}

#[async_trait]
impl Tool for GitStatus {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "git_status".into(),
            description: "Shows which files differ from the commit you started from.".into(),
            parameters: json!({"type": "object", "properties": {}}),
        }
    }

    async fn call(
        &self,
        _: &Map<String, Value>,
        cancel: &CancellationToken,
    ) -> Result<ToolOutput, ToolFault> {
        let status = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(ToolFault::Cancelled),
            status = self.view.status() => status,
        };
        Ok(answer(status, "nothing is changed"))
    }
}

/// Shows the change.
pub struct GitDiff {
    view: Arc<dyn TreeView>,
}

impl GitDiff {
    /// The tool for this workspace.
    pub fn new(view: Arc<dyn TreeView>) -> Self {
        Self { view }
    }
}

#[async_trait]
impl Tool for GitDiff {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "git_diff".into(),
            description: "Shows the change against the commit you started from, as a unified diff."
                .into(),
            parameters: json!({
                "type": "object",
                "properties": {"path": {"type": "string", "description": "Only this file or directory"}},
            }),
        }
    }

    async fn call(
        &self,
        arguments: &Map<String, Value>,
        cancel: &CancellationToken,
    ) -> Result<ToolOutput, ToolFault> {
        let path = text_argument(arguments, "path").filter(|path| !path.is_empty() && *path != ".");
        if path.is_some_and(|path| path.contains('\0')) {
            return Ok(ToolOutput::error("a path has no zero byte"));
        }
        let diff = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(ToolFault::Cancelled),
            diff = self.view.diff(path) => diff,
        };
        Ok(answer(diff, "nothing is changed"))
    }
}

fn answer(text: Result<String, String>, empty: &str) -> ToolOutput {
    match text {
        Ok(text) if text.trim().is_empty() => ToolOutput::ok(empty, TreeChange::None),
        Ok(text) => ToolOutput::ok(head_and_tail(&text, DIFF_BYTES_MAX), TreeChange::None),
        Err(why) => ToolOutput::error(why),
    }
}
