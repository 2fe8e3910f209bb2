//! Running a command where it can reach only what it was given.
//!
//! [`Sandbox`] is the port the tools and the gate are written against; how a
//! command is confined is the implementation's business.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

/// How much of a command's reach a sandbox takes away; each tier includes the
/// ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Nothing is confined.
    None,
    /// Files outside the tree cannot be written, secrets cannot be read.
    Files,
    /// As `Files`, and no network beyond the command's own loopback.
    Network,
    /// As `Network`, and no system call or signal that reaches other
    /// processes or the kernel's rarely used doors.
    Full,
}

impl Tier {
    /// The lower-case name: `none`, `files`, `network` or `full`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Files => "files",
            Self::Network => "network",
            Self::Full => "full",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A tier's name was none of the four.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown sandbox tier {name:?}: use none, files, network or full")]
pub struct UnknownTier {
    /// What was given.
    pub name: String,
}

impl FromStr for Tier {
    type Err = UnknownTier;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "none" => Ok(Self::None),
            "files" => Ok(Self::Files),
            "network" => Ok(Self::Network),
            "full" => Ok(Self::Full),
            _ => Err(UnknownTier {
                name: name.to_owned(),
            }),
        }
    }
}

/// One command to run in the sandbox.
#[derive(Debug, Clone)]
pub struct SandboxCommand {
    /// The program and its arguments; the program is looked up on the
    /// sandbox's `PATH` when it has no slash.
    pub argv: Vec<String>,
    /// The folder to start in; inside the tree.
    pub dir: PathBuf,
    /// After this time the command's whole process tree is stopped.
    pub timeout: Duration,
    /// How many bytes of output are kept, half from the head and half from
    /// the tail.
    pub output_bytes_max: usize,
    /// Whether the command may use the network; only for `setup`.
    pub network: bool,
    /// Variables added to the sandbox's own allow-list.
    pub env: BTreeMap<String, String>,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// It ran past [`SandboxCommand::timeout`] and was stopped.
    TimedOut,
    /// The caller's token was cancelled and it was stopped.
    Cancelled,
}

/// What a command that did run left behind.
#[derive(Debug, Clone)]
pub struct CommandOutput {
    /// How it ended.
    pub exit: Exit,
    /// Standard output and standard error as they were interleaved, as lossy
    /// UTF-8; past the limit its head and tail with a note between them.
    pub output: String,
    /// Whether output was left out.
    pub truncated: bool,
    /// From start to end.
    pub duration: Duration,
}

/// The command did not run, or not as confined as it had to be. Never the
/// command's own failure: that is an [`Exit`].
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// There is no sandbox here, or not one of the required tier.
    #[error("no sandbox: {reason}; {hint}")]
    Unavailable {
        /// Why.
        reason: String,
        /// What the user can do.
        hint: String,
    },
    /// The helper could not confine itself, so the command was not started.
    #[error("the sandbox could not be set up ({step}): {reason}; the command was not run")]
    Setup {
        /// The step that failed.
        step: String,
        /// The system's reason.
        reason: String,
    },
    /// The confined helper could not start the command.
    #[error("cannot start {program:?} in the sandbox: {source}")]
    Exec {
        /// The program.
        program: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The request itself is wrong.
    #[error("invalid sandbox command: {reason}")]
    Invalid {
        /// What is wrong with it.
        reason: String,
    },
    /// The system failed while the command was being run or read.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// Runs commands confined to one tree.
#[async_trait]
pub trait Sandbox: Send + Sync {
    /// What this sandbox holds, as measured by its self-test.
    fn tier(&self) -> Tier;

    /// Runs `command` to its end, or stops it at its time limit or when
    /// `cancel` fires. On return no process it started is left.
    async fn run(
        &self,
        command: SandboxCommand,
        cancel: &CancellationToken,
    ) -> Result<CommandOutput, SandboxError>;
}
