//! `grep`: ripgrep's own search over the tree, ignored files left out.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::sinks::Lossy;
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder};
use ignore::overrides::OverrideBuilder;
use ignore::{DirEntry, WalkBuilder};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::root::{Root, is_git};
use super::{
    Tool, ToolFault, ToolOutput, ToolSpec, TreeChange, blocking, count_argument, text_argument,
};
use crate::limits::{
    GREP_FILE_BYTES_MAX, GREP_LINE_CHARS_MAX, GREP_MATCHES_DEFAULT, GREP_MATCHES_MAX,
    GREP_SECONDS_MAX,
};
use crate::text::clip_chars;

/// Size of a compiled pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Searches files of a tree.
#[derive(Debug)]
pub struct Grep {
    root: Root,
}

impl Grep {
    /// The tool for this tree.
    pub fn new(root: Root) -> Self {
        Self { root }
    }
}

#[async_trait]
impl Tool for Grep {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "grep".into(),
            description: "Searches the files of the workspace for a regular expression (Rust syntax) and shows \
                          path:line:text. Files that git ignores, binary and very large files are left out."
                .into(),
            parameters: json!({
                "type": "object",
                "properties": {
                    "pattern": {"type": "string", "minLength": 1, "maxLength": 1000},
                    "path": {"type": "string", "description": "File or directory to search (the whole workspace if absent)"},
                    "glob": {"type": "string", "maxLength": 200, "description": "Only files that match, like *.rs"},
                    "literal": {"type": "boolean", "description": "Take the pattern as plain text"},
                    "ignore_case": {"type": "boolean"},
                    "max": {"type": "integer", "minimum": 1, "description": "Matches to show"},
                },
                "required": ["pattern"],
            }),
        }
    }

    async fn call(
        &self,
        arguments: &Map<String, Value>,
        cancel: &CancellationToken,
    ) -> Result<ToolOutput, ToolFault> {
        let flag = |name: &str| arguments.get(name).and_then(Value::as_bool).unwrap_or(false);
        let text = |name: &str| text_argument(arguments, name).unwrap_or_default().to_owned();
        let path = text("path");
        let query = Query {
            pattern: text("pattern"),
            path: if path.is_empty() { ".".to_owned() } else { path },
            glob: text_argument(arguments, "glob").map(str::to_owned),
            literal: flag("literal"),
            ignore_case: flag("ignore_case"),
            max: count_argument(arguments, "max")
                .unwrap_or(GREP_MATCHES_DEFAULT)
                .clamp(1, GREP_MATCHES_MAX),
        };
        let root = self.root.clone();
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        tokio::select! {
            biased;
            () = cancel.cancelled() => {
                // The search notices between two files and ends; nobody waits for it.
                stop.store(true, Ordering::Relaxed);
                Err(ToolFault::Cancelled)
            }
            found = blocking(move || search(&root, &query, &seen)) => Ok(match found? {
                Ok(text) => ToolOutput::ok(text, TreeChange::None),
                Err(why) => ToolOutput::error(why),
            }),
        }
    }
}

struct Query {
    pattern: String,
    path: String,
    glob: Option<String>,
    literal: bool,
    ignore_case: bool,
    max: usize,
}

#[derive(Default)]
struct Matches {
    text: String,
    count: usize,
    full: bool,
    skipped_large: usize,
    out_of_time: bool,
}

fn search(root: &Root, query: &Query, stop: &AtomicBool) -> Result<String, String> {
    let matcher = RegexMatcherBuilder::new()
        .case_insensitive(query.ignore_case)
        .fixed_strings(query.literal)
        .size_limit(PATTERN_BYTES_MAX)
        .build(&query.pattern)
        .map_err(|error| format!("the pattern is no regular expression: {error}. Escape special characters or set literal to true"))?;
    // Resolves links and refuses what is outside or git's own.
    let place = root.place(Path::new(&query.path), false).map_err(|fault| fault.to_string())?;
    if !place.exists() {
        return Err(format!("there is no {:?} in the workspace", query.path));
    }
    let start = root.path().join(&place.below);
    let mut walk = WalkBuilder::new(&start);
    walk.hidden(false)
        .parents(false)
        .require_git(false)
        .git_global(false)
        .git_exclude(false)
        .follow_links(false)
        .sort_by_file_path(Path::cmp)
        .filter_entry(|entry| !is_git(entry.file_name().as_encoded_bytes()));
    if let Some(glob) = &query.glob {
        let mut overrides = OverrideBuilder::new(root.path());
        let built = overrides.add(glob).and_then(|builder| builder.build());
        walk.overrides(built.map_err(|error| format!("the glob {glob:?} is not usable: {error}"))?);
    }
    let mut searcher = SearcherBuilder::new()
        .line_number(true)
        .binary_detection(BinaryDetection::quit(0))
        .heap_limit(usize::try_from(GREP_FILE_BYTES_MAX).ok())
        .build();
    let deadline = Instant::now() + Duration::from_secs(GREP_SECONDS_MAX);
    let mut found = Matches::default();
    for entry in walk.build().filter_map(Result::ok) {
        if stop.load(Ordering::Relaxed) || found.full {
            break;
        }
        if Instant::now() > deadline {
            found.out_of_time = true;
            break;
        }
        if entry.file_type().is_some_and(|kind| kind.is_file()) {
            search_file(root, &entry, &matcher, &mut searcher, query.max, &mut found);
        }
    }
    Ok(describe(query, &found))
}

fn search_file(
    root: &Root,
    entry: &DirEntry,
    matcher: &RegexMatcher,
    searcher: &mut Searcher,
    max: usize,
    found: &mut Matches,
) {
    let Ok(below) = entry.path().strip_prefix(root.path()).map(PathBuf::from) else {
        return;
    };
    if entry.metadata().is_ok_and(|meta| meta.len() > GREP_FILE_BYTES_MAX) {
        found.skipped_large += 1;
        return;
    }
    // Opened through the root, so that a link that took the file's place leads nowhere.
    let Ok(file) = root.place(&below, false).and_then(|place| place.open()) else {
        return;
    };
    let shown = below.display().to_string();
    let sink = Lossy(|line, text| {
        if found.count >= max {
            found.full = true;
            return Ok(false);
        }
        found.count += 1;
        let line = format!(
            "{shown}:{line}:{}\n",
            clip_chars(text.trim_end_matches(['\n', '\r']), GREP_LINE_CHARS_MAX)
        );
        found.text.push_str(&line);
        Ok(true)
    });
    if let Err(error) = searcher.search_reader(matcher, file, sink) {
        tracing::debug!(file = %below.display(), %error, "a file could not be searched");
    }
}

fn describe(query: &Query, matches: &Matches) -> String {
    let mut out = if matches.count == 0 {
        format!("no match for {:?} in {}\n", query.pattern, query.path)
    } else {
        matches.text.clone()
    };
    if matches.full {
        let line = format!(
            "[there are more matches; shown are the first {}. Narrow the search]\n",
            matches.count
        );
        out.push_str(&line);
    }
    if matches.out_of_time {
        let line = format!(
            "[stopped after {GREP_SECONDS_MAX} s; not everything was searched. Name a path]\n"
        );
        out.push_str(&line);
    }
    if matches.skipped_large > 0 {
        let line = format!(
            "[{} files above {GREP_FILE_BYTES_MAX} bytes were not searched]\n",
            matches.skipped_large
        );
        out.push_str(&line);
    }
    out
}
