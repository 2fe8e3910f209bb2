//! `bash`: a command in the sandbox, in the root of the tree.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::{Tool, ToolFault, ToolOutput, ToolSpec, TreeChange, text_argument};
use crate::limits::{
    BASH_COMMAND_BYTES_MAX, BASH_OUTPUT_BYTES_MAX, BASH_SECONDS_DEFAULT, BASH_SECONDS_MAX,
};
use crate::sandbox::{CommandOutput, Exit, Sandbox, SandboxCommand, SandboxError};

/// How commands are run.
#[derive(Debug, Clone)]
pub struct BashSettings {
    /// Program and first arguments; the command follows as the last one.
    pub shell: Vec<String>,
    /// The directory to run in: the root of the tree.
    pub dir: PathBuf,
    /// Running time unless the model asks for another (`bashTimeoutSeconds`).
    pub timeout: Duration,
    /// Running time at most, whatever the model asks.
    pub timeout_max: Duration,
    /// Variables on top of what the sandbox itself sets. Never a credential.
    pub env: BTreeMap<String, String>,
}

impl BashSettings {
    /// The defaults for a tree.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            shell: vec!["bash".into(), "-c".into()],
            dir,
            timeout: Duration::from_secs(BASH_SECONDS_DEFAULT),
            timeout_max: Duration::from_secs(BASH_SECONDS_MAX),
            env: BTreeMap::new(),
        }
    }
}

/// Runs commands.
pub struct Bash {
    sandbox: Arc<dyn Sandbox>,
    settings: BashSettings,
}

impl Bash {
    /// The tool for this sandbox.
    pub fn new(sandbox: Arc<dyn Sandbox>, settings: BashSettings) -> Self {
        Self { sandbox, settings }
    }
}

#[async_trait]
impl Tool for Bash {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "bash".into(),
            description: "Runs a shell command in the root of the workspace, without network and without git \
                          (use git_status and git_diff). Each call is a shell of its own; nothing keeps running after it. \
                          You see the end code and the output, of a long one head and tail."
                .into(),
            parameters: json!({
                "type": "object",
                "properties": {
                    "command": {"type": "string", "minLength": 1},
                    "timeout_seconds": {
                        "type": "integer",
                        "minimum": 1,
                        "description": format!(
                            "Running time, {} if absent, at most {}",
                            self.settings.timeout.as_secs(),
                            self.settings.timeout_max.as_secs()
                        ),
                    },
                },
                "required": ["command"],
            }),
        }
    }

    async fn call(
        &self,
        arguments: &Map<String, Value>,
        cancel: &CancellationToken,
    ) -> Result<ToolOutput, ToolFault> {
        let command = text_argument(arguments, "command").unwrap_or_default();
        if command.len() > BASH_COMMAND_BYTES_MAX || command.contains('\0') {
            return Ok(ToolOutput::error(format!(
                "a command has at most {BASH_COMMAND_BYTES_MAX} bytes and no zero byte; nothing was run"
            )));
        }
        let timeout = arguments
            .get("timeout_seconds")
            .and_then(Value::as_u64)
            .map_or(self.settings.timeout, Duration::from_secs)
            .min(self.settings.timeout_max);
        let mut argv = self.settings.shell.clone();
        argv.push(command.to_owned());
        let request = SandboxCommand {
            argv,
            dir: self.settings.dir.clone(),
            timeout,
            output_bytes_max: BASH_OUTPUT_BYTES_MAX,
            network: false,
            env: self.settings.env.clone(),
        };
        match self.sandbox.run(request, cancel).await {
            Ok(output) => describe(&output, timeout),
            Err(error) => Err(fault(&error)),
        }
    }
}

fn describe(output: &CommandOutput, timeout: Duration) -> Result<ToolOutput, ToolFault> {
    let seconds = output.duration.as_secs_f64();
    let first = match output.exit {
        Exit::Code(code) => format!("exit code {code} after {seconds:.1} s"),
        Exit::Signal(signal) => format!("ended by signal {signal} after {seconds:.1} s"),
        Exit::TimedOut => format!(
            "timed out: stopped with all its children after {} s; give timeout_seconds if it needs longer",
            timeout.as_secs()
        ),
        Exit::Cancelled => return Err(ToolFault::Cancelled),
    };
    let body = if output.output.trim().is_empty() { "[no output]" } else { output.output.as_str() };
    Ok(ToolOutput {
        content: format!("{first}\n{body}"),
        is_error: output.exit != Exit::Code(0),
        is_malformed: false,
        change: TreeChange::Perhaps,
    })
}

fn fault(error: &SandboxError) -> ToolFault {
    let cause =
        std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    let text = error.to_string();
    // Some of its messages name their cause, some leave it to the chain.
    let why = if cause.len() > 2 && !text.contains(cause.trim_start_matches(": ")) {
        format!("{text}{cause}")
    } else {
        text
    };
    ToolFault::Sandbox { why }
}
