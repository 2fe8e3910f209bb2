//! `write_file`: a whole file, new or instead of the old one.

use std::path::Path;

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::root::Root;
use super::{Tool, ToolFault, ToolOutput, ToolSpec, TreeChange, blocking, text_argument};
use crate::limits::WRITE_BYTES_MAX;

/// Writes files of a tree.
#[derive(Debug)]
pub struct WriteFile {
    root: Root,
}

impl WriteFile {
    /// The tool for this tree.
    pub fn new(root: Root) -> Self {
        Self { root }
    }
}

#[async_trait]
impl Tool for WriteFile {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "write_file".into(),
            description: "Writes a whole file; directories are made as needed, an existing file is replaced and keeps its \
                          mode. To change a part of a file use str_replace."
                .into(),
            parameters: json!({
                "type": "object",
                "properties": {
                    "path": {"type": "string", "minLength": 1, "description": "Path relative to the workspace root"},
                    "content": {"type": "string", "description": "The whole content of the file"},
                },
                "required": ["path", "content"],
            }),
        }
    }

    async fn call(
        &self,
        arguments: &Map<String, Value>,
        _cancel: &CancellationToken,
    ) -> Result<ToolOutput, ToolFault> {
        let path = text_argument(arguments, "path").unwrap_or_default().to_owned();
        let content = text_argument(arguments, "content").unwrap_or_default().to_owned();
        if content.len() > WRITE_BYTES_MAX {
            let size = content.len();
            return Ok(ToolOutput::error(format!(
                "the content has {size} bytes, at most {WRITE_BYTES_MAX} are allowed; nothing was written"
            )));
        }
        let root = self.root.clone();
        let written = blocking(move || {
            let place = root.place(Path::new(&path), true)?;
            let verb = if place.exists() { "replaced" } else { "created" };
            place.write(content.as_bytes())?;
            Ok::<String, super::PathFault>(format!(
                "{verb} {}: {} lines, {} bytes",
                place.below.display(),
                content.lines().count(),
                content.len()
            ))
        })
        .await?;
        Ok(match written {
            Ok(text) => ToolOutput::ok(text, TreeChange::Edited),
            Err(fault) => ToolOutput::error(fault),
        })
    }
}
