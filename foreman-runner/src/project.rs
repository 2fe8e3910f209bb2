//! What a repository says about itself: its rules for the work
//! (`AGENTS.md`), and its gate (`.foreman.toml`). Both are read from the base
//! commit, never from the tree: a model must not write the rules that it is
//! judged by.

use std::time::Duration;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::workspace::{Workspace, WorkspaceError};

/// The project file's name.
pub const PROJECT_FILE: &str = ".foreman.toml";
/// Files with instructions; the first that exists counts.
pub const INSTRUCTION_FILES: &[&str] = &["AGENTS.md", "CLAUDE.md"];
/// Instructions kept, in bytes; the rest is left out and that is said.
pub const INSTRUCTIONS_BYTES_MAX: usize = 32 << 10;
/// Size of a project file, in bytes.
const PROJECT_BYTES_MAX: usize = 64 << 10;
/// Size of an instruction file that is read at all, in bytes.
const INSTRUCTIONS_READ_BYTES_MAX: usize = 1 << 20;
/// Length of one command, in bytes.
const COMMAND_BYTES_MAX: usize = 4 << 10;
/// Commands of a gate.
const COMMANDS_MAX: usize = 32;
/// Longest time limit of a command.
const TIMEOUT_MAX: Duration = Duration::from_hours(24);

/// `.foreman.toml`. Unknown keys are errors: a misspelt `tset` must not turn a
/// gate off.
///
/// ```toml
/// [gate]
/// setup = "npm ci"            # with network, once per lockfile
/// format = "cargo fmt --check"
/// lint = "cargo clippy -- -D warnings"
/// build = "cargo build"
/// test = "cargo test"
/// commands = ["./scripts/check-docs"]   # run last, in this order
/// timeout_seconds = 900       # of each command
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectFile {
    /// The gate.
    #[serde(default)]
    pub gate: GateTable,
}

/// The table `[gate]`. Each command is a line for `sh -c`, run in the root of the
/// tree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateTable {
    /// Fetches what the other commands need; the only one with the network.
    pub setup: Option<String>,
    /// Checks the format.
    pub format: Option<String>,
    /// Checks the style.
    pub lint: Option<String>,
    /// Builds.
    pub build: Option<String>,
    /// Tests.
    pub test: Option<String>,
    /// Anything else, in order.
    #[serde(default)]
    pub commands: Vec<String>,
    /// The time limit of each command, in seconds; absent = 1800.
    pub timeout_seconds: Option<u64>,
}

/// A project file, or instructions, that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectError {
    /// It is no TOML of the known form.
    #[error("{PROJECT_FILE} of the base commit: {reason}")]
    Invalid {
        /// Where and what, in one line.
        reason: String,
    },
    /// It could not be read from the base commit.
    #[error("read the project's files")]
    Workspace(#[from] WorkspaceError),
}

impl ProjectFile {
    /// Reads and checks the text of a project file.
    ///
    /// # Errors
    /// `Invalid`, naming line and key.
    pub fn parse(text: &str) -> Result<Self, ProjectError> {
        let invalid = |reason| ProjectError::Invalid { reason };
        let file: Self = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(1, |before| before.matches('\n').count() + 1);
            invalid(format!("line {line}: {}", error.message().replace('\n', " ")))
        })?;
        let gate = &file.gate;
        let named = [
            ("setup", &gate.setup),
            ("format", &gate.format),
            ("lint", &gate.lint),
            ("build", &gate.build),
            ("test", &gate.test),
        ];
        let named = named.into_iter().filter_map(|(key, command)| Some((key, command.as_ref()?)));
        for (key, command) in named.chain(gate.commands.iter().map(|it| ("commands", it))) {
            if let Some(wrong) = wrong_command(command) {
                return Err(invalid(format!("gate.{key}: the command {wrong}")));
            }
        }
        if gate.commands.len() > COMMANDS_MAX {
            return Err(invalid(format!("gate.commands: more than {COMMANDS_MAX} commands")));
        }
        match gate.timeout_seconds {
            Some(seconds) if !(1..=TIMEOUT_MAX.as_secs()).contains(&seconds) => {
                let max = TIMEOUT_MAX.as_secs();
                Err(invalid(format!("gate.timeout_seconds: {seconds} is not in 1..={max}")))
            }
            _ => Ok(file),
        }
    }

    /// The project file of the base commit, if there is one.
    ///
    /// # Errors
    /// See [`ProjectError`].
    pub async fn of_base(
        workspace: &Workspace,
        cancel: &CancellationToken,
    ) -> Result<Option<Self>, ProjectError> {
        let Some(bytes) = workspace.base_file(PROJECT_FILE, PROJECT_BYTES_MAX, cancel).await?
        else {
            return Ok(None);
        };
        let text = String::from_utf8(bytes)
            .map_err(|error| ProjectError::Invalid { reason: error.to_string() })?;
        Self::parse(&text).map(Some)
    }
}

/// What is wrong with a command line, if something is.
pub(crate) fn wrong_command(command: &str) -> Option<&'static str> {
    match command {
        _ if command.trim().is_empty() => Some("is empty"),
        _ if command.contains('\0') => Some("has a NUL"),
        _ if command.len() > COMMAND_BYTES_MAX => Some("is longer than 4096 bytes"),
        _ => None,
    }
}

/// The repository's instructions for the work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instructions {
    /// The file they are from.
    pub file: &'static str,
    /// The commit they are from.
    pub commit: String,
    /// The text; untrusted like everything of the repository.
    pub text: String,
    /// Whether the end was left out.
    pub truncated: bool,
}

impl Instructions {
    /// The instructions of the base commit, if it has any.
    ///
    /// # Errors
    /// Those of reading it.
    pub async fn of_base(
        workspace: &Workspace,
        cancel: &CancellationToken,
    ) -> Result<Option<Self>, ProjectError> {
        for file in INSTRUCTION_FILES {
            let found = workspace.base_file(file, INSTRUCTIONS_READ_BYTES_MAX, cancel).await?;
            let Some(bytes) = found else { continue };
            let truncated = bytes.len() > INSTRUCTIONS_BYTES_MAX;
            let kept = bytes.get(..INSTRUCTIONS_BYTES_MAX).unwrap_or(&bytes);
            let text = String::from_utf8_lossy(kept).trim_end_matches('\u{fffd}').to_owned();
            if text.trim().is_empty() {
                continue;
            }
            return Ok(Some(Self { file, commit: workspace.base().to_owned(), text, truncated }));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::{GateTable, ProjectFile};

    #[test]
    fn every_key_is_read() {
        let text = "[gate]\nsetup = \"a\"\nformat = \"b\"\nlint = \"c\"\nbuild = \"d\"\ntest = \"e\"\n\
                    commands = [\"f\", \"g\"]\ntimeout_seconds = 86400\n";
        let some = |text: &str| Some(text.to_owned());
        let gate = GateTable {
            setup: some("a"),
            format: some("b"),
            lint: some("c"),
            build: some("d"),
            test: some("e"),
            commands: vec!["f".to_owned(), "g".to_owned()],
            timeout_seconds: Some(86_400),
        };
        assert_eq!(ProjectFile::parse(text).expect("valid"), ProjectFile { gate });
        assert_eq!(ProjectFile::parse("").expect("empty"), ProjectFile::default());
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text: &str| ProjectFile::parse(text).expect_err(text).to_string();
        let cases = [
            ("[gate]\ntset = \"x\"", "line 2: unknown field `tset`"),
            ("[gaet]\n", "unknown field `gaet`"),
            ("[gate]\n\ntest = 3", "line 3: invalid type"),
            ("[gate]\ntest = \" \"", "gate.test: the command is empty"),
            ("[gate]\ncommands = [\"a\", \"\"]", "gate.commands: the command is empty"),
            ("[gate]\ntimeout_seconds = 0", "gate.timeout_seconds: 0 is not in 1..=86400"),
            ("[gate]\ntimeout_seconds = 86401", "86401 is not in"),
            ("[gate]\ntimeout_seconds = -1", "invalid"),
            ("gate = [", "line 1"),
        ];
        for (text, expected) in cases {
            let message = error(text);
            assert!(message.contains(expected), "{text:?}: {message}");
            assert!(!message.contains('\n'), "{message:?}");
        }
    }
}
