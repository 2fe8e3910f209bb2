//! `read_file`: a file with line numbers, piece by piece; of a directory the names.

use std::io::{BufRead as _, BufReader};
use std::path::Path;

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::place::Place;
use super::root::{PathFault, Root};
use super::{
    Tool, ToolFault, ToolOutput, ToolSpec, TreeChange, blocking, count_argument, text_argument,
};
use crate::limits::{READ_BYTES_MAX, READ_LINE_CHARS_MAX, READ_LINES_MAX, READ_SCAN_BYTES_MAX};
use crate::text::clip_chars;

/// Names of a directory that are shown.
const ENTRIES_MAX: usize = 500;
/// How much of the start of a file is looked at to tell text from other bytes.
const BINARY_PROBE_BYTES: usize = 8 * 1024;

/// Reads files of a tree.
#[derive(Debug)]
pub struct ReadFile {
    root: Root,
}

impl ReadFile {
    /// The tool for this tree.
    pub fn new(root: Root) -> Self {
        Self { root }
    }
}

#[async_trait]
impl Tool for ReadFile {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "read_file".into(),
            description: "Shows a text file of the workspace. Each line is preceded by its number and a tab, which are \
                          not part of the file. Long files are shown in pieces: go on with offset. \
                          For a directory it lists the names."
                .into(),
            parameters: json!({
                "type": "object",
                "properties": {
                    "path": {"type": "string", "minLength": 1, "description": "Path relative to the workspace root"},
                    "offset": {"type": "integer", "minimum": 1, "description": "First line to show, from 1"},
                    "limit": {"type": "integer", "minimum": 1, "description": "Number of lines to show"},
                },
                "required": ["path"],
            }),
        }
    }

    async fn call(
        &self,
        arguments: &Map<String, Value>,
        _cancel: &CancellationToken,
    ) -> Result<ToolOutput, ToolFault> {
        let path = text_argument(arguments, "path").unwrap_or_default().to_owned();
        let offset = count_argument(arguments, "offset").unwrap_or(1).max(1);
        let limit =
            count_argument(arguments, "limit").unwrap_or(READ_LINES_MAX).clamp(1, READ_LINES_MAX);
        let root = self.root.clone();
        let shown = blocking(move || show(&root, &path, offset, limit)).await?;
        Ok(match shown {
            Ok(text) => ToolOutput::ok(text, TreeChange::None),
            Err(fault) => ToolOutput::error(fault),
        })
    }
}

fn show(root: &Root, path: &str, offset: usize, limit: usize) -> Result<String, PathFault> {
    let place = root.place(Path::new(path), false).map_err(|fault| with_hint(root, path, fault))?;
    if place.is_directory() {
        return list(path, &place);
    }
    let file = place.open().map_err(|fault| with_hint(root, path, fault))?;
    let mut lines = Lines::new(BufReader::with_capacity(64 * 1024, file));
    let page = lines
        .page(offset, limit)
        .map_err(|e| PathFault::Io { given: path.to_owned(), why: e.to_string() })?;
    Ok(match page {
        Page::Binary => {
            format!("{path} is not a text file (it has zero bytes); it cannot be shown")
        }
        Page::Text(page) => page.describe(path, offset),
    })
}

fn list(path: &str, place: &Place) -> Result<String, PathFault> {
    let names = place.entries()?;
    let shown: Vec<&str> = names.iter().take(ENTRIES_MAX).map(String::as_str).collect();
    let more = names.len().saturating_sub(ENTRIES_MAX);
    let rest = if more > 0 { format!("\n[{more} more names]") } else { String::new() };
    Ok(format!("{path} is a directory with {} names:\n{}{rest}", names.len(), shown.join("\n")))
}

/// For a missing file: names in its directory that look like it.
fn with_hint(root: &Root, path: &str, fault: PathFault) -> PathFault {
    let PathFault::Missing { given, .. } = fault else {
        return fault;
    };
    let wanted = Path::new(path);
    let parent = wanted.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = wanted.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    let stem = name.split('.').next().unwrap_or(&name);
    let hint = match root.place(parent, false).and_then(|place| place.entries()) {
        Err(_) => format!("; {} is not there either", parent.display()),
        Ok(names) => {
            let alike = |entry: &&String| !stem.is_empty() && entry.to_lowercase().contains(stem);
            let mut shown: Vec<&str> =
                names.iter().filter(alike).take(10).map(String::as_str).collect();
            if shown.is_empty() {
                shown = names.iter().take(20).map(String::as_str).collect();
            }
            format!("; {} holds: {}", parent.display(), shown.join(", "))
        }
    };
    PathFault::Missing { given, hint }
}

enum Page {
    Binary,
    Text(TextPage),
}

#[derive(Default)]
struct TextPage {
    text: String,
    /// Lines shown.
    shown: usize,
    /// Lines seen in all.
    lines: usize,
    /// The scan stopped before the end of the file.
    unscanned: bool,
    crlf: bool,
    lossy: bool,
}

impl TextPage {
    fn describe(&self, path: &str, offset: usize) -> String {
        if self.lines == 0 {
            return format!("{path} is empty");
        }
        if self.shown == 0 {
            let least = if self.unscanned { "at least " } else { "" };
            return format!("{path} has {least}{} lines; there is no line {offset}", self.lines);
        }
        let last = offset + self.shown - 1;
        let of = if self.unscanned { "more than " } else { "" };
        let mut notes = String::new();
        if self.crlf {
            notes.push_str(", line ends CRLF");
        }
        if self.lossy {
            notes.push_str(", not UTF-8: some bytes are shown as \u{fffd}");
        }
        let mut out =
            format!("{path}: lines {offset}-{last} of {of}{}{notes}\n{}", self.lines, self.text);
        if last < self.lines {
            let line = format!("[more lines follow: go on with offset={}]\n", last + 1);
            out.push_str(&line);
        }
        out
    }
}

/// Reads lines without ever holding more than a piece of one.
struct Lines<R> {
    reader: BufReader<R>,
    scanned: u64,
}

impl<R: std::io::Read> Lines<R> {
    fn new(reader: BufReader<R>) -> Self {
        Self { reader, scanned: 0 }
    }

    fn page(&mut self, offset: usize, limit: usize) -> std::io::Result<Page> {
        let start = self.reader.fill_buf()?;
        if start.iter().take(BINARY_PROBE_BYTES).any(|byte| *byte == 0) {
            return Ok(Page::Binary);
        }
        let mut page = TextPage::default();
        while let Some((line, ended)) = self.line()? {
            page.lines += 1;
            let wanted =
                page.lines >= offset && page.shown < limit && page.text.len() < READ_BYTES_MAX;
            if wanted {
                let line = match line.strip_suffix(b"\r") {
                    Some(body) if ended => {
                        page.crlf = true;
                        body
                    }
                    _ => line.as_slice(),
                };
                let text = String::from_utf8_lossy(line);
                page.lossy |= matches!(text, std::borrow::Cow::Owned(_));
                let line =
                    format!("{:>6}\t{}\n", page.lines, clip_chars(&text, READ_LINE_CHARS_MAX));
                page.text.push_str(&line);
                page.shown += 1;
            }
            if self.scanned >= READ_SCAN_BYTES_MAX {
                page.unscanned = true;
                break;
            }
        }
        Ok(Page::Text(page))
    }

    /// The next line without its end (only its first bytes, if it is long), and whether it had an end.
    fn line(&mut self) -> std::io::Result<Option<(Vec<u8>, bool)>> {
        // Four bytes a character at most, and one more so that clipping is seen.
        let keep = READ_LINE_CHARS_MAX * 4 + 4;
        let mut line = Vec::new();
        let mut any = false;
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok(any.then_some((line, false)));
            }
            any = true;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let (body, used) = match end {
                Some(at) => (buffer.get(..at).unwrap_or(&[]), at + 1),
                None => (buffer, buffer.len()),
            };
            line.extend(body.iter().take(keep.saturating_sub(line.len())));
            self.reader.consume(used);
            self.scanned += used as u64;
            if end.is_some() || self.scanned >= READ_SCAN_BYTES_MAX {
                return Ok(Some((line, end.is_some())));
            }
        }
    }
}
