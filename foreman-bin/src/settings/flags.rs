//! The flags that are settings too: each has an environment variable `FOREMAN_<FLAG>` and a key in
//! the config file of the flag's name.

#![expect(
    clippy::doc_markdown,
    reason = "the comments on flags are their help texts, where backticks would be shown"
)]

use std::path::PathBuf;

use clap::Args;

use crate::telemetry::LogFormat;

/// Flags of every verb.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalFlags {
    /// Config file [env: FOREMAN_CONFIG] [default: $XDG_CONFIG_HOME/foreman/config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the store, its lock, journals and worktrees are [env: FOREMAN_DATA_DIR] [default:
    /// $XDG_DATA_HOME/foreman]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where journals and worktrees are, if not in the data directory [env: FOREMAN_STATE_DIR]
    #[arg(long, global = true, value_name = "DIR", hide_short_help = true)]
    pub state_dir: Option<PathBuf>,
    /// Where mirrors of repositories are kept [env: FOREMAN_CACHE_DIR] [default:
    /// $XDG_CACHE_HOME/foreman]
    #[arg(long, global = true, value_name = "DIR", hide_short_help = true)]
    pub cache_dir: Option<PathBuf>,
    /// Namespace of the objects [env: FOREMAN_NAMESPACE] [default: default]
    #[arg(short, long, global = true, value_name = "NAME")]
    pub namespace: Option<String>,
    /// What is logged on stderr: error, warn, info, debug, trace, or directives such as
    /// foreman_core=debug; RUST_LOG wins [env: FOREMAN_LOG_LEVEL] [default: warn]
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// How the log looks [env: FOREMAN_LOG_FORMAT] [default: text]
    #[arg(long, global = true, value_name = "FORMAT", hide_short_help = true)]
    pub log_format: Option<LogFormat>,
    /// Never ask anything on the terminal, and read no keys [env: FOREMAN_NO_INPUT]
    #[arg(long, global = true, hide_short_help = true)]
    pub no_input: bool,
}

/// Flags of the verbs that talk to a model server.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Model options")]
pub struct ModelFlags {
    /// The model server's base URL; nothing else is asked then [env: FOREMAN_MODEL_URL]
    #[arg(long, value_name = "URL")]
    pub model_url: Option<String>,
    /// The model's name [env: FOREMAN_MODEL] [default: a loaded one]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// File with the model server's key [env: FOREMAN_MODEL_KEY_FILE]
    #[arg(long, value_name = "FILE")]
    pub model_key_file: Option<PathBuf>,
}

/// Flags of the verbs that run tasks on this machine, or say what it can do.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Node options")]
pub struct NodeFlags {
    /// This node's name [env: FOREMAN_FLEET_NODE_NAME] [default: from the host name]
    #[arg(long, value_name = "NAME")]
    pub fleet_node_name: Option<String>,
    /// Runs at the same time, when the node is made [env: FOREMAN_SLOTS] [default: 1]
    #[arg(long, value_name = "N")]
    pub slots: Option<u16>,
    /// Roles of this node, separated by commas [env: FOREMAN_ROLES]
    #[arg(long, value_name = "ROLES")]
    pub roles: Option<String>,
    /// What confines a run at least: none, files, network or full [env: FOREMAN_SANDBOX] [default:
    /// network]
    #[arg(long, value_name = "TIER")]
    pub sandbox: Option<String>,
    /// Directories a run may read besides the system's, separated by commas [env:
    /// FOREMAN_SANDBOX_READ]
    #[arg(long, value_name = "DIRS")]
    pub sandbox_read: Option<String>,
    /// How long a drain may take, in seconds [env: FOREMAN_DRAIN_DEADLINE] [default: 20]
    #[arg(long, value_name = "SECONDS")]
    pub drain_deadline: Option<u32>,
    /// Whether work may be sent to models in the cloud; false keeps it in the house, whatever Agents
    /// say [env: FOREMAN_ALLOW_CLOUD_PROVIDERS] [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub allow_cloud_providers: Option<bool>,
    /// The accelerator, in place of the probed one [env: FOREMAN_ACCELERATOR]
    #[arg(long, value_name = "KIND")]
    pub accelerator: Option<String>,
    /// The machine's memory in GiB, in place of the probed one [env: FOREMAN_TOTAL_RAM_GB]
    #[arg(long, value_name = "GIB")]
    pub total_ram_gb: Option<i64>,
    /// The largest context in tokens, in place of the probed one [env: FOREMAN_MAX_CONTEXT_TOKENS]
    #[arg(long, value_name = "TOKENS")]
    pub max_context_tokens: Option<i64>,
    /// The node's speed in tokens a second [env: FOREMAN_TOKENS_PER_SECOND]
    #[arg(long, value_name = "N")]
    pub tokens_per_second: Option<i64>,
    /// Models that are installed here, separated by commas [env: FOREMAN_INSTALLED_MODELS]
    #[arg(long, value_name = "MODELS")]
    pub installed_models: Option<String>,
}

/// One setting: its flag, which also names its environment variable and its key in the config file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The flag without its dashes; the key in the config file.
    pub flag: &'static str,
    /// The environment variable.
    pub variable: &'static str,
    /// What it says, in few words.
    pub meaning: &'static str,
}

macro_rules! settings {
    ($($flag:literal $variable:literal $meaning:literal;)*) => {
        /// Every setting, in the order of `foreman help environment`.
        pub const SETTINGS: &[Setting] =
            &[$(Setting { flag: $flag, variable: $variable, meaning: $meaning }),*];
    };
}
settings! {
    "config" "FOREMAN_CONFIG" "config file (not a key of itself)";
    "data-dir" "FOREMAN_DATA_DIR" "store, lock, journals and worktrees";
    "state-dir" "FOREMAN_STATE_DIR" "journals and worktrees, if elsewhere";
    "cache-dir" "FOREMAN_CACHE_DIR" "mirrors of repositories";
    "namespace" "FOREMAN_NAMESPACE" "namespace of the objects";
    "log-level" "FOREMAN_LOG_LEVEL" "what is logged on stderr";
    "log-format" "FOREMAN_LOG_FORMAT" "text or json";
    "no-input" "FOREMAN_NO_INPUT" "never ask anything on the terminal, and read no keys";
    "model-url" "FOREMAN_MODEL_URL" "model server; the file may list several";
    "model" "FOREMAN_MODEL" "the model's name";
    "model-key-file" "FOREMAN_MODEL_KEY_FILE" "file with the model server's key";
    "fleet-node-name" "FOREMAN_FLEET_NODE_NAME" "this node's name";
    "slots" "FOREMAN_SLOTS" "runs at the same time";
    "roles" "FOREMAN_ROLES" "roles of this node";
    "sandbox" "FOREMAN_SANDBOX" "none, files, network or full";
    "sandbox-read" "FOREMAN_SANDBOX_READ" "directories a run may read";
    "drain-deadline" "FOREMAN_DRAIN_DEADLINE" "seconds that a drain may take";
    "allow-cloud-providers" "FOREMAN_ALLOW_CLOUD_PROVIDERS" "false: no work goes to models in the cloud";
    "accelerator" "FOREMAN_ACCELERATOR" "in place of the probed one";
    "total-ram-gb" "FOREMAN_TOTAL_RAM_GB" "in place of the probed memory";
    "max-context-tokens" "FOREMAN_MAX_CONTEXT_TOKENS" "in place of the probed context";
    "tokens-per-second" "FOREMAN_TOKENS_PER_SECOND" "in place of the measured speed";
    "installed-models" "FOREMAN_INSTALLED_MODELS" "in place of the probed models";
    "token-file" "FOREMAN_TOKEN_FILE" "file with the token for git";
}

/// The environment variable of a setting.
pub(super) fn variable_of(flag: &str) -> &'static str {
    SETTINGS.iter().find(|setting| setting.flag == flag).map_or("", |setting| setting.variable)
}
