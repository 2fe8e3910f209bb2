//! Running a command where it can reach only what it was given.
//!
//! [`Sandbox`] is the port the tools and the gate are written against; how a
//! command is confined is the implementation's business. [`ProcessSandbox`] is
//! the one that ships: it starts the program's own helper (`<exe> __sandbox`),
//! which gives up its rights with safe calls only and then starts the command.
//!
//! What a confined command gets:
//!
//! * **Write:** the tree, a private home and temporary folder, one cache folder
//!   per repository. Never a git dir.
//! * **Read:** system folders, folders on `PATH`, the toolchains of the user's
//!   home less their credential files, and what the user named.
//! * **Network:** its own loopback, or none at all where the system gives no
//!   network namespace. A `setup` command gets the host's network.
//! * **Environment:** an allow-list ([`Layout`]), built from nothing.
//!
//! Layers on Linux, each tried and each reported: user, mount, pid, network
//! and ipc namespaces with a root that holds only what was granted; Landlock
//! over the same paths; no capabilities, no new privileges; a seccomp list of
//! refused calls. Where namespaces are refused, Landlock and seccomp remain and
//! sockets other than pairs are refused as a whole. The tier that holds is
//! measured ([`crate::sandbox_probe`]), never assumed.

mod environment;
mod group;
#[cfg(target_os = "linux")]
mod helper;
#[cfg(target_os = "linux")]
mod linux;
mod macos;
mod output;
mod plan;
mod policy;
mod process;
mod unconfined;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

pub use environment::Layout;
pub use macos::seatbelt_profile;
pub use plan::{SandboxSettings, readable_roots};
pub use process::{KILL_AFTER, ProcessSandbox};
pub use unconfined::Unconfined;

/// The first argument by which a program knows that it was started as the
/// sandbox's helper and must call [`helper_main`].
pub const HELPER_ARGUMENT: &str = "__sandbox";

/// The first argument of the helper's life that ties a trusted program to its parent.
const TIED: &str = "tied";

/// The words by which the helper starts `program` and lets it die with this process, to be put before
/// the program's arguments (Linux). The thread that starts it must outlive it: it is the thread that
/// the kernel watches.
pub(crate) fn tied_words(program: &Path) -> [OsString; 4] {
    let parent = std::process::id().to_string();
    [HELPER_ARGUMENT.into(), TIED.into(), parent.into(), program.into()]
}

/// The helper's whole life: confines itself as its parent asked, runs the
/// command, reports how that went. A program that wants the sandbox calls this
/// first thing in `main`, before it starts a thread, when its first argument is
/// [`HELPER_ARGUMENT`]; `arguments` are those after it.
#[cfg(target_os = "linux")]
pub fn helper_main(arguments: &[String]) -> std::process::ExitCode {
    linux::helper_main(arguments)
}

/// There is no helper on this system: Seatbelt needs none.
#[cfg(not(target_os = "linux"))]
pub fn helper_main(_arguments: &[String]) -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}

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
            _ => Err(UnknownTier { name: name.to_owned() }),
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
