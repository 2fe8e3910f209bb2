//! The gate: commands of the repository that must pass.
//!
//! It says *Failed* only when the repository's own checks judged the tree. What
//! kept them from judging (a missing program, no network, a sandbox that could
//! not be set up, a time limit) is an *Error*, and neither ever reads as passed.

mod detect;
mod profile;
mod run;

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::project::{GateTable, ProjectError, ProjectFile, wrong_command};
use crate::sandbox::{Exit, SandboxError};
use crate::workspace::{Workspace, WorkspaceError};

pub use detect::{Detected, detect};
pub use profile::ExplicitGate;
pub use run::{run_gate, run_setup};

/// The time limit of a command that names none.
pub const COMMAND_TIMEOUT: Duration = Duration::from_mins(30);
/// Output of a command that is kept, in bytes.
pub const OUTPUT_TAIL_BYTES_MAX: usize = 8 << 10;

/// What to run, and who said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatePlan {
    /// The commands, in order; none = there is no gate.
    pub steps: Vec<GateStep>,
    /// The command with network, before the first turn.
    pub setup: Option<Setup>,
    /// Where they come from.
    pub source: GateSource,
    /// The time limit of each.
    pub timeout: Duration,
}

/// One command of a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateStep {
    /// `format`, `lint`, `build`, `test`, `codegenCheck` or `command`.
    pub name: &'static str,
    /// The line for `sh -c`.
    pub command: String,
}

/// The command that fetches what the gate needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// The line for `sh -c`.
    pub command: String,
    /// Whether its failure is an error. A detected one may fail: what the machine
    /// has already may do.
    pub required: bool,
}

/// Where a gate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GateSource {
    /// The task's gate profile.
    Profile,
    /// `.foreman.toml` of the base commit.
    ProjectFile,
    /// This file of the base commit.
    Detected(&'static str),
    /// There is none.
    None,
}

impl std::fmt::Display for GateSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Profile => f.write_str("gate profile"),
            Self::ProjectFile => f.write_str(crate::project::PROJECT_FILE),
            Self::Detected(file) => write!(f, "detected: {file}"),
            Self::None => f.write_str("none found"),
        }
    }
}

/// What the gate came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateOutcome {
    /// Every command passed.
    Passed,
    /// A command judged the tree and found it wanting.
    Failed,
    /// A command could not judge.
    Error,
    /// There is no command.
    NotConfigured,
}

/// One command and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepReport {
    /// The command.
    pub step: GateStep,
    /// How it ended; none = the sandbox did not run it.
    pub exit: Option<Exit>,
    /// How long it took.
    pub duration: Duration,
    /// The end of its output.
    pub output: String,
    /// `Passed`, `Failed` or `Error`.
    pub outcome: GateOutcome,
    /// Why it is an error.
    pub reason: Option<String>,
}

/// What the gate found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateReport {
    /// The sum: one error is an error, else one failure is a failure.
    pub outcome: GateOutcome,
    /// Who said what to run.
    pub source: GateSource,
    /// The hash of the tree that was judged, untracked files included.
    pub tree: String,
    /// Every command.
    pub steps: Vec<StepReport>,
}

/// The gate could not even begin, or was stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// The caller stopped it.
    #[error("the gate was stopped")]
    Cancelled,
    /// A command of the task's gate profile cannot be run.
    #[error("gateProfile.commands.{name}: the command {reason}")]
    InvalidProfile {
        /// Which command.
        name: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The language of the gate profile is not one of the presets.
    #[error("gateProfile.language {language:?} is unknown: use go, python, rust, node or generic")]
    UnknownLanguage {
        /// What was given.
        language: String,
    },
    /// The project file is wrong.
    #[error("the project's gate cannot be read")]
    Project(#[from] ProjectError),
    /// The tree could not be read.
    #[error("the tree to judge cannot be read")]
    Workspace(#[from] WorkspaceError),
    /// The required setup failed.
    #[error("setup `{command}` failed: {reason}")]
    Setup {
        /// The command.
        command: String,
        /// How, with the end of its output.
        reason: String,
    },
    /// The sandbox could not run the required setup.
    #[error("setup `{command}` was not run")]
    Sandbox {
        /// The command.
        command: String,
        /// Why.
        source: SandboxError,
    },
    /// A record of a successful setup could not be read or written.
    #[error("cannot record the setup in {path}")]
    Record {
        /// Where.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
}

impl GatePlan {
    /// The plan for a workspace: the task's profile, else `.foreman.toml`, else
    /// what the base commit's files tell. All of it is settled before the first
    /// turn and cannot be changed by the tree.
    ///
    /// # Errors
    /// A profile or project file that is wrong. A gate that is misspelt must not
    /// fall back to a weaker one.
    pub async fn settle(
        explicit: Option<&ExplicitGate>,
        workspace: &Workspace,
        cancel: &CancellationToken,
    ) -> Result<Self, GateError> {
        let file = ProjectFile::of_base(workspace, cancel).await?.map(|file| file.gate);
        let detected = detect(workspace, cancel).await?;
        let own_setup = file.as_ref().and_then(|gate| gate.setup.clone());
        let own_setup = own_setup.map(|command| Setup { command, required: true });
        let detected_setup = detected
            .as_ref()
            .and_then(|it| it.setup)
            .map(|it| Setup { command: it.to_owned(), required: false });
        let setup = own_setup.or(detected_setup);
        let seconds = file.as_ref().and_then(|gate| gate.timeout_seconds);
        let timeout = seconds.map_or(COMMAND_TIMEOUT, Duration::from_secs);
        let plan =
            |steps: Vec<GateStep>, source| Self { steps, setup: setup.clone(), source, timeout };
        if let Some(explicit) = explicit {
            return Ok(plan(explicit.steps()?, GateSource::Profile));
        }
        let of_file = file.as_ref().map(steps_of_table).unwrap_or_default();
        if !of_file.is_empty() {
            return Ok(plan(of_file, GateSource::ProjectFile));
        }
        Ok(match detected {
            Some(found) => plan(found.steps(), GateSource::Detected(found.file)),
            None => plan(Vec::new(), GateSource::None),
        })
    }

    /// The gate on one line, for a person.
    pub fn summary(&self) -> String {
        let commands: Vec<&str> = self.steps.iter().map(|step| step.command.as_str()).collect();
        if commands.is_empty() {
            return format!("no gate ({})", self.source);
        }
        format!("{} ({})", commands.join(" && "), self.source)
    }
}

fn steps_of_table(gate: &GateTable) -> Vec<GateStep> {
    let named = [
        ("format", &gate.format),
        ("lint", &gate.lint),
        ("build", &gate.build),
        ("test", &gate.test),
    ];
    let named = named.into_iter().filter_map(|(name, command)| Some((name, command.clone()?)));
    let others = gate.commands.iter().map(|command| ("command", command.clone()));
    named.chain(others).map(|(name, command)| GateStep { name, command }).collect()
}

/// Steps from names and commands that are checked.
fn checked_steps(
    commands: impl IntoIterator<Item = (&'static str, String)>,
) -> Result<Vec<GateStep>, GateError> {
    let checked = commands.into_iter().map(|(name, command)| match wrong_command(&command) {
        None => Ok(GateStep { name, command }),
        Some(reason) => Err(GateError::InvalidProfile { name, reason }),
    });
    checked.collect()
}

#[cfg(test)]
mod tests;
