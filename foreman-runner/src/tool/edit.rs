//! `str_replace`: the way models change files.

use std::path::Path;

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::locate::{Found, NotFound, line_of, locate};
use super::root::{PathFault, Root};
use super::{
    Tool, ToolFault, ToolOutput, ToolSpec, TreeChange, blocking, count_argument, text_argument,
};
use crate::limits::{EDIT_FILE_BYTES_MAX, WRITE_BYTES_MAX};
use crate::text::clip_chars;

/// Line numbers that are listed when there are several matches.
const PLACES_SHOWN_MAX: usize = 20;
/// Lines of the changed file shown around the change.
const CONTEXT_LINES: usize = 2;
/// Lines of the changed place shown.
const SHOWN_LINES_MAX: usize = 30;

/// Replaces text in files of a tree.
#[derive(Debug)]
pub struct StrReplace {
    root: Root,
}

impl StrReplace {
    /// The tool for this tree.
    pub fn new(root: Root) -> Self {
        Self { root }
    }
}

#[async_trait]
impl Tool for StrReplace {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "str_replace".into(),
            description: "Replaces a piece of text in a file by another. old_string must stand in the file exactly once \
                          (or expected_replacements times), so give enough lines around the change; line numbers are \
                          not part of the file."
                .into(),
            parameters: json!({
                "type": "object",
                "properties": {
                    "path": {"type": "string", "minLength": 1, "description": "Path relative to the workspace root"},
                    "old_string": {"type": "string", "minLength": 1, "description": "Text to replace, exactly as in the file"},
                    "new_string": {"type": "string", "description": "Text to put there; empty deletes"},
                    "expected_replacements": {"type": "integer", "minimum": 1, "description": "How often old_string stands in the file (1 if absent)"},
                },
                "required": ["path", "old_string", "new_string"],
            }),
        }
    }

    async fn call(
        &self,
        arguments: &Map<String, Value>,
        _cancel: &CancellationToken,
    ) -> Result<ToolOutput, ToolFault> {
        let text = |name: &str| text_argument(arguments, name).unwrap_or_default().to_owned();
        let (path, old, new) = (text("path"), text("old_string"), text("new_string"));
        let expected = count_argument(arguments, "expected_replacements").unwrap_or(1);
        let root = self.root.clone();
        Ok(match blocking(move || replace(&root, &path, &old, &new, expected)).await? {
            Ok(text) => ToolOutput::ok(text, TreeChange::Edited),
            Err(why) => ToolOutput::error(why),
        })
    }
}

fn replace(
    root: &Root,
    path: &str,
    old: &str,
    new: &str,
    expected: usize,
) -> Result<String, String> {
    if old == new {
        return Err("old_string and new_string are the same: nothing was changed".to_owned());
    }
    let place = root.place(Path::new(path), false).map_err(|fault| missing(&fault, path))?;
    let bytes = place
        .read(EDIT_FILE_BYTES_MAX)
        .map_err(|fault| missing(&fault, path))?
        .ok_or_else(|| format!("{path} has more than {EDIT_FILE_BYTES_MAX} bytes; use bash with sed for a file of this size"))?;
    if bytes.contains(&0) {
        return Err(format!("{path} is not a text file (it has zero bytes); nothing was changed"));
    }
    let text = String::from_utf8(bytes).map_err(|_| {
        format!("{path} is not UTF-8; nothing was changed. Use bash for files of another encoding")
    })?;
    let found = locate(&text, old, new, expected)
        .map_err(|fault| describe_miss(path, &text, expected, fault))?;
    let changed = apply(&text, &found);
    if changed.len() as u64 > EDIT_FILE_BYTES_MAX + WRITE_BYTES_MAX as u64 {
        return Err(format!(
            "{path} would become {} bytes long; nothing was changed",
            changed.len()
        ));
    }
    place.write(changed.as_bytes()).map_err(|fault| fault.to_string())?;
    Ok(describe_change(path, &changed, &found))
}

fn apply(text: &str, found: &Found) -> String {
    let mut out = String::with_capacity(text.len() + found.new.len());
    let mut from = 0;
    for range in &found.at {
        out.push_str(text.get(from..range.start).unwrap_or(""));
        out.push_str(&found.new);
        from = range.end;
    }
    out.push_str(text.get(from..).unwrap_or(""));
    out
}

fn describe_change(path: &str, changed: &str, found: &Found) -> String {
    let first = line_of(changed, found.at.first().map_or(0, |range| range.start));
    let last = first + found.new.matches('\n').count();
    let times = match found.at.len() {
        1 => format!("replaced at line {first}"),
        n => format!("replaced {n} times, first at line {first}"),
    };
    let note = found.note.map(|note| format!(" ({note})")).unwrap_or_default();
    let skip = first.saturating_sub(1 + CONTEXT_LINES);
    let take = (last + CONTEXT_LINES - skip).min(SHOWN_LINES_MAX);
    let lines: Vec<String> = changed
        .lines()
        .enumerate()
        .skip(skip)
        .take(take)
        .map(|(at, line)| format!("{:>6}\t{}", at + 1, clip_chars(line, 300)))
        .collect();
    format!("{path}: {times}{note}. It now reads:\n{}", lines.join("\n"))
}

fn describe_miss(path: &str, text: &str, expected: usize, fault: NotFound) -> String {
    match fault {
        NotFound::Count { lines } => {
            let shown: Vec<String> =
                lines.iter().take(PLACES_SHOWN_MAX).map(usize::to_string).collect();
            format!(
                "old_string stands {} times in {path} (lines {}{}), expected {expected}; nothing was changed. \
                 Give more lines around the change, or set expected_replacements to {}",
                lines.len(),
                shown.join(", "),
                if lines.len() > PLACES_SHOWN_MAX { ", …" } else { "" },
                lines.len(),
            )
        }
        NotFound::Nowhere { nearest: Some(lines) } => format!(
            "old_string does not stand in {path}; nothing was changed. The nearest lines are (numbers are not part of the file):\n{lines}"
        ),
        NotFound::Nowhere { nearest: None } => format!(
            "old_string does not stand in {path}, nor anything like it; nothing was changed. The file has {} lines; look at it with read_file",
            text.lines().count()
        ),
    }
}

fn missing(fault: &PathFault, path: &str) -> String {
    if matches!(fault, PathFault::Missing { .. }) {
        format!("there is no file {path:?}; create it with write_file")
    } else {
        fault.to_string()
    }
}
