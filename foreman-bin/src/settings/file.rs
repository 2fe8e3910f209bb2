//! The config file.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::exit::{Exit, Failure};
use crate::telemetry::LogFormat;

/// A larger config file is not read, in bytes.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// One text or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub(super) fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }

    pub(super) fn joined(self) -> String {
        self.into_vec().join(",")
    }
}

/// What the file may say; its keys are the flags.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ConfigFile {
    pub(super) data_dir: Option<PathBuf>,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) cache_dir: Option<PathBuf>,
    pub(super) namespace: Option<String>,
    pub(super) log_level: Option<String>,
    pub(super) log_format: Option<LogFormat>,
    pub(super) no_input: Option<bool>,
    pub(super) model_url: Option<OneOrMany>,
    pub(super) model: Option<String>,
    pub(super) model_key_file: Option<PathBuf>,
    pub(super) fleet_node_name: Option<String>,
    pub(super) slots: Option<u16>,
    pub(super) roles: Option<OneOrMany>,
    pub(super) sandbox: Option<String>,
    pub(super) sandbox_read: Option<OneOrMany>,
    pub(super) drain_deadline: Option<u32>,
    pub(super) allow_cloud_providers: Option<bool>,
    pub(super) accelerator: Option<String>,
    pub(super) total_ram_gb: Option<i64>,
    pub(super) max_context_tokens: Option<i64>,
    pub(super) tokens_per_second: Option<i64>,
    pub(super) installed_models: Option<OneOrMany>,
    pub(super) token_file: Option<PathBuf>,
}

/// Reads the file. One that nobody named may be absent.
pub(super) fn read(path: &Path, named: bool) -> Result<ConfigFile, Failure> {
    let failed = |what: &str| {
        Failure::new(Exit::Usage, format!("the config file {} {what}", path.display()))
    };
    let text = match std::fs::metadata(path) {
        Err(error) if !named && error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(ConfigFile::default());
        }
        Err(error) => return Err(failed("cannot be read").because(error)),
        Ok(about) if about.len() > CONFIG_BYTES_MAX => {
            return Err(failed("is larger than 1 MiB"));
        }
        Ok(_) => std::fs::read_to_string(path)
            .map_err(|error| failed("cannot be read").because(error))?,
    };
    toml::from_str(&text).map_err(|error| {
        // Not the line itself: a token may have been written into the wrong file.
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count();
        let key = text.lines().nth(line).and_then(|line| line.split_once('='));
        let key = key.map(|(key, _)| format!(" ({})", key.trim())).unwrap_or_default();
        let message = error.message().trim_end();
        failed("is not valid").because(anyhow::anyhow!("line {}{key}: {message}", line + 1)).next(
            "the keys are the flags of foreman help environment, e.g. namespace = \"default\"",
        )
    })
}
