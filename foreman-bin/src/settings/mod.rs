//! What the flags, the environment and the config file say, as one value.
//!
//! A flag wins over its variable `FOREMAN_<FLAG>`, that over the config file, that over the default.
//! Where each value came from is kept, so that a person can be told.

mod file;
mod flags;
mod pick;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcetera::BaseStrategy as _;
use foreman_core::model::ids::check_label_name;
use foreman_core::policy::Policy;
use foreman_probe::{Declared, DiscoveryConfig};
use foreman_runner::sandbox::Tier;
use secrecy::SecretString;

use crate::exit::{Exit, Failure};
use crate::telemetry::LogFormat;

use pick::Picker;

pub use file::CONFIG_BYTES_MAX;
pub use flags::{GlobalFlags, ModelFlags, NodeFlags, SETTINGS, Setting};

/// The namespace when nobody names one.
pub const DEFAULT_NAMESPACE: &str = "default";
/// The store's file, in the data directory.
pub const STORE_FILE: &str = "foreman.db";
/// What is logged when nobody says otherwise.
const LOG_LEVEL: &str = "warn";
/// A larger key file is not read, in bytes.
const KEY_BYTES_MAX: u64 = 64 * 1024;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The flag.
    Flag,
    /// The environment variable.
    Environment,
    /// The config file.
    File,
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::File => "config file",
            Self::Default => "default",
        })
    }
}

/// The directories and files of Foreman on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The config file, whether it is there or not.
    pub config_file: PathBuf,
    /// Store, lock, journals and worktrees.
    pub data_dir: PathBuf,
    /// Journals and worktrees: the data directory unless somebody says otherwise.
    pub state_dir: PathBuf,
    /// Mirrors of repositories.
    pub cache_dir: PathBuf,
}

impl Paths {
    /// The store's file.
    pub fn store_file(&self) -> PathBuf {
        self.data_dir.join(STORE_FILE)
    }
}

/// What was said about the model server.
#[derive(Clone, Default)]
pub struct ModelSettings {
    /// The one server to ask, from `--model-url`.
    pub url: Option<String>,
    /// The model's name.
    pub name: Option<String>,
    /// Servers of the config file.
    pub config_urls: Vec<String>,
    /// Where the key is kept.
    pub key_file: Option<PathBuf>,
}

/// What was said about this machine as a node.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// The node's name; absent = from the host name.
    pub name: Option<String>,
    /// Runs at the same time.
    pub slots: Option<u16>,
    /// Its roles.
    pub roles: Vec<String>,
    /// What a run must be confined by at least.
    pub sandbox: Tier,
    /// Directories that a run may read besides the system's.
    pub sandbox_read: Vec<PathBuf>,
    /// How long a drain may take.
    pub drain_deadline: Duration,
    /// What this installation allows.
    pub policy: Policy,
    /// What overrides the probe.
    pub declared: Declared,
}

/// Everything that was said.
#[derive(Clone)]
pub struct Settings {
    /// Directories and files.
    pub paths: Paths,
    /// The namespace of the objects.
    pub namespace: String,
    /// Directives for the log.
    pub log_level: String,
    /// How the log looks.
    pub log_format: LogFormat,
    /// Never ask anything.
    pub no_input: bool,
    /// The model server.
    pub model: ModelSettings,
    /// This machine as a node.
    pub node: NodeSettings,
    /// Where the token for git is kept, unless `--token-file` names another file.
    pub token_file: Option<PathBuf>,
    /// The process' environment, as far as it is text. Never printed.
    pub environment: BTreeMap<String, String>,
    /// Where each setting came from, by flag.
    pub origins: BTreeMap<&'static str, Origin>,
}

/// URLs and the environment may hold passwords, so they are not shown.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("paths", &self.paths)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

/// The base directories of the user.
#[derive(Debug, Clone)]
pub struct BaseDirs {
    /// The home directory.
    pub home: PathBuf,
    /// `$XDG_CONFIG_HOME`.
    pub config: PathBuf,
    /// `$XDG_DATA_HOME`.
    pub data: PathBuf,
    /// `$XDG_CACHE_HOME`.
    pub cache: PathBuf,
}

impl BaseDirs {
    /// Those of this user: XDG on every system, macOS included.
    pub fn of_user() -> Result<Self, Failure> {
        let found = etcetera::base_strategy::Xdg::new().map_err(|error| {
            Failure::new(Exit::Error, "your home directory is not known")
                .next("set HOME")
                .because(error)
        })?;
        if !found.home_dir().is_absolute() {
            let home = found.home_dir().display();
            return Err(Failure::new(
                Exit::Error,
                format!("HOME is {home}, which is no full path"),
            )
            .next("set HOME to a path that begins with /"));
        }
        Ok(Self {
            home: found.home_dir().to_owned(),
            config: found.config_dir(),
            data: found.data_dir(),
            cache: found.cache_dir(),
        })
    }
}

impl Settings {
    /// Reads the environment and the config file of this process.
    pub fn load(
        global: &GlobalFlags,
        model: Option<&ModelFlags>,
        node: Option<&NodeFlags>,
    ) -> Result<Self, Failure> {
        let environment = text_of(std::env::vars_os())?;
        Self::resolve(global, model, node, environment, &BaseDirs::of_user()?)
    }

    /// As [`Settings::load`], with everything given.
    pub fn resolve(
        global: &GlobalFlags,
        model: Option<&ModelFlags>,
        node: Option<&NodeFlags>,
        environment: BTreeMap<String, String>,
        base: &BaseDirs,
    ) -> Result<Self, Failure> {
        let model = model.cloned().unwrap_or_default();
        let node = node.cloned().unwrap_or_default();
        let mut pick = Picker::new(&environment, &base.home);
        let named = pick.path("config", global.config.clone(), None)?;
        let config_file = named.clone().unwrap_or_else(|| base.config.join("foreman/config.toml"));
        let file = file::read(&config_file, named.is_some())?;
        let paths = pick.paths(config_file, global, &file, base)?;
        let node = pick.node(node, &file)?;
        let namespace = pick
            .one("namespace", global.namespace.clone(), file.namespace)?
            .unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        check_namespace(&namespace)?;
        let model_url = pick.one("model-url", model.model_url, None)?;
        let config_urls = file.model_url.map(file::OneOrMany::into_vec).unwrap_or_default();
        if model_url.is_none() && !config_urls.is_empty() {
            pick.origins.insert("model-url", Origin::File);
        }
        let model = ModelSettings {
            url: model_url,
            name: pick.one("model", model.model, file.model)?,
            config_urls,
            key_file: pick.path("model-key-file", model.model_key_file, file.model_key_file)?,
        };
        let log_level = pick.one("log-level", global.log_level.clone(), file.log_level.clone())?;
        let log_format = pick.one("log-format", global.log_format, file.log_format)?;
        let no_input =
            pick.switch("no-input", global.no_input.then_some(true), file.no_input, false)?;
        let token_file = pick.path("token-file", None, file.token_file)?;
        let origins = pick.origins;
        Ok(Self {
            paths,
            namespace,
            log_level: log_level.unwrap_or_else(|| LOG_LEVEL.to_owned()),
            log_format: log_format.unwrap_or_default(),
            no_input,
            model,
            node,
            token_file,
            environment,
            origins,
        })
    }

    /// A variable of the environment; an empty one counts as absent.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Where to look for model servers.
    ///
    /// # Errors
    /// The key file cannot be read.
    pub fn discovery(&self) -> Result<DiscoveryConfig, Failure> {
        // A value of FOREMAN_MODEL_URL is left to the probe, which then names that variable.
        let by_flag = self.origins.get("model-url") == Some(&Origin::Flag);
        Ok(DiscoveryConfig {
            model_url: self.model.url.clone().filter(|_| by_flag),
            model: self.model.name.clone(),
            config_urls: self.model.config_urls.clone(),
            key: self.model.key_file.as_deref().map(read_key).transpose()?,
            environment: self.environment.clone(),
            ..DiscoveryConfig::default()
        })
    }
}

/// The variables that are text. Others are not for us, unless they have one of our names: to work
/// with a default in place of what somebody said would be work in the wrong place.
fn text_of(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut text = BTreeMap::new();
    for (name, value) in variables {
        let Ok(name) = name.into_string() else { continue };
        match value.into_string() {
            Ok(value) => {
                text.insert(name, value);
            }
            Err(value) if name.starts_with("FOREMAN_") => {
                return Err(Failure::new(
                    Exit::Usage,
                    format!("{name} has a value that is not UTF-8: {}", value.to_string_lossy()),
                )
                .next(format!("unset {name}, or choose another value")));
            }
            Err(_) => {}
        }
    }
    Ok(text)
}

/// Checks a namespace that a person named.
pub fn check_namespace(namespace: &str) -> Result<(), Failure> {
    check_label_name(namespace).map_err(|error| {
        Failure::new(Exit::Usage, format!("namespace {namespace:?} is not valid")).because(error)
    })
}

fn read_key(path: &Path) -> Result<SecretString, Failure> {
    let failed =
        |what: &str| Failure::new(Exit::Usage, format!("the key file {} {what}", path.display()));
    let about = std::fs::metadata(path).map_err(|error| failed("cannot be read").because(error))?;
    if about.len() > KEY_BYTES_MAX {
        return Err(failed("is larger than 64 KiB: is it the right file?"));
    }
    let text =
        std::fs::read_to_string(path).map_err(|error| failed("cannot be read").because(error))?;
    match text.trim() {
        "" => Err(failed("is empty")),
        key if key.chars().any(char::is_control) => {
            Err(failed("has a line break or a control character in the key"))
        }
        key => Ok(SecretString::from(key.to_owned())),
    }
}

#[cfg(test)]
mod tests;
