//! No sandbox at all, for a user who asked for that by name.

use std::path::PathBuf;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::plan::SandboxSettings;
use super::process::ProcessSandbox;
use super::{CommandOutput, Sandbox, SandboxCommand, SandboxError, Tier};

/// Runs commands with the same environment and limits as a sandbox, and
/// confines nothing. Its tier says so.
#[derive(Debug)]
pub struct Unconfined {
    inner: ProcessSandbox,
}

impl Unconfined {
    /// Uses the folders of `settings`; a helper is not needed.
    ///
    /// # Errors
    /// `Io` when the folders cannot be made.
    pub fn new(mut settings: SandboxSettings) -> Result<Self, SandboxError> {
        settings.helper.get_or_insert_with(PathBuf::new);
        Ok(Self { inner: ProcessSandbox::new(settings, Tier::None)? })
    }
}

#[async_trait]
impl Sandbox for Unconfined {
    fn tier(&self) -> Tier {
        Tier::None
    }

    async fn run(
        &self,
        command: SandboxCommand,
        cancel: &CancellationToken,
    ) -> Result<CommandOutput, SandboxError> {
        let dir = self.inner.checked(&command)?;
        let (program, arguments) = command
            .argv
            .split_first()
            .ok_or(SandboxError::Invalid { reason: "the command is empty".to_owned() })?;
        let mut process = tokio::process::Command::new(program);
        process.args(arguments).current_dir(dir).process_group(0);
        process.env_clear().envs(self.inner.environment_of(&command));
        Box::pin(super::group::run(process, &command, cancel)).await
    }
}
