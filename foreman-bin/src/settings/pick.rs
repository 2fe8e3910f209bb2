//! The choice between flag, variable and config file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use foreman_core::control::DRAIN_DEADLINE;
use foreman_core::policy::Policy;
use foreman_probe::Declared;
use foreman_runner::sandbox::Tier;

use super::file::{self, ConfigFile};
use super::flags::{self, GlobalFlags, NodeFlags};
use super::{BaseDirs, NodeSettings, Origin, Paths};
use crate::exit::{Exit, Failure};

/// Chooses between flag, environment and file, and keeps where a value came from.
pub(super) struct Picker<'a> {
    environment: &'a BTreeMap<String, String>,
    home: &'a Path,
    pub(super) origins: BTreeMap<&'static str, Origin>,
}

impl<'a> Picker<'a> {
    pub(super) fn new(environment: &'a BTreeMap<String, String>, home: &'a Path) -> Self {
        Self { environment, home, origins: BTreeMap::new() }
    }

    pub(super) fn paths(
        &mut self,
        config_file: PathBuf,
        global: &GlobalFlags,
        file: &ConfigFile,
        base: &BaseDirs,
    ) -> Result<Paths, Failure> {
        let data_dir = self
            .path("data-dir", global.data_dir.clone(), file.data_dir.clone())?
            .unwrap_or_else(|| base.data.join("foreman"));
        Ok(Paths {
            config_file,
            state_dir: self
                .path("state-dir", global.state_dir.clone(), file.state_dir.clone())?
                .unwrap_or_else(|| data_dir.clone()),
            cache_dir: self
                .path("cache-dir", global.cache_dir.clone(), file.cache_dir.clone())?
                .unwrap_or_else(|| base.cache.join("foreman")),
            data_dir,
        })
    }

    pub(super) fn node(
        &mut self,
        node: NodeFlags,
        file: &ConfigFile,
    ) -> Result<NodeSettings, Failure> {
        Ok(NodeSettings {
            name: self.one(
                "fleet-node-name",
                node.fleet_node_name,
                file.fleet_node_name.clone(),
            )?,
            slots: self.one("slots", node.slots, file.slots)?,
            roles: self.list("roles", node.roles, file.roles.clone())?.unwrap_or_default(),
            sandbox: self.tier(node.sandbox, file.sandbox.clone())?,
            sandbox_read: self
                .list("sandbox-read", node.sandbox_read, file.sandbox_read.clone())?
                .unwrap_or_default()
                .into_iter()
                .map(|path| self.expanded(PathBuf::from(path)))
                .collect(),
            drain_deadline: self
                .one("drain-deadline", node.drain_deadline, file.drain_deadline)?
                .map_or(DRAIN_DEADLINE, |seconds| Duration::from_secs(u64::from(seconds))),
            policy: Policy {
                allow_cloud: self.switch(
                    "allow-cloud-providers",
                    node.allow_cloud_providers,
                    file.allow_cloud_providers,
                    Policy::default().allow_cloud,
                )?,
            },
            declared: Declared {
                accelerator: self
                    .one("accelerator", node.accelerator, file.accelerator.clone())?
                    .filter(|text| !text.is_empty()),
                installed_models: self.list(
                    "installed-models",
                    node.installed_models,
                    file.installed_models.clone(),
                )?,
                // The existing system's 0 means "not given".
                max_context_tokens: self
                    .one("max-context-tokens", node.max_context_tokens, file.max_context_tokens)?
                    .filter(|tokens| *tokens != 0),
                tokens_per_second: self
                    .one("tokens-per-second", node.tokens_per_second, file.tokens_per_second)?
                    .filter(|speed| *speed != 0),
                total_ram_gb: self
                    .one("total-ram-gb", node.total_ram_gb, file.total_ram_gb)?
                    .filter(|ram| *ram != 0),
                namespaces: None,
            },
        })
    }

    pub(super) fn one<T: FromStr>(
        &mut self,
        flag: &'static str,
        given: Option<T>,
        file: Option<T>,
    ) -> Result<Option<T>, Failure>
    where
        T::Err: fmt::Display,
    {
        let variable = flags::variable_of(flag);
        let said = self.environment.get(variable).map(|value| value.trim());
        let (value, origin) = match (given, said.filter(|value| !value.is_empty()), file) {
            (Some(value), _, _) => (Some(value), Origin::Flag),
            (None, Some(text), _) => {
                let parsed = text.parse().map_err(|error: T::Err| {
                    Failure::new(Exit::Usage, format!("{variable} has no valid value: {error}"))
                        .next(format!(
                            "unset {variable}, or see --{flag} in foreman help environment"
                        ))
                })?;
                (Some(parsed), Origin::Environment)
            }
            (None, None, Some(value)) => (Some(value), Origin::File),
            (None, None, None) => (None, Origin::Default),
        };
        self.origins.insert(flag, origin);
        Ok(value)
    }

    pub(super) fn path(
        &mut self,
        flag: &'static str,
        given: Option<PathBuf>,
        file: Option<PathBuf>,
    ) -> Result<Option<PathBuf>, Failure> {
        Ok(self.one(flag, given, file)?.map(|path| self.expanded(path)))
    }

    /// The path with a leading `~/` replaced: no shell does it for a file or a variable.
    fn expanded(&self, path: PathBuf) -> PathBuf {
        match path.strip_prefix("~") {
            Ok(rest) => self.home.join(rest),
            Err(_) => path,
        }
    }

    fn list(
        &mut self,
        flag: &'static str,
        given: Option<String>,
        file: Option<file::OneOrMany>,
    ) -> Result<Option<Vec<String>>, Failure> {
        let text = self.one(flag, given, file.map(file::OneOrMany::joined))?;
        let list = text.map(|text| foreman_core::fleet::split_list(&text));
        Ok(list.filter(|list| !list.is_empty()))
    }

    fn tier(&mut self, given: Option<String>, file: Option<String>) -> Result<Tier, Failure> {
        let Some(text) = self.one("sandbox", given, file)? else {
            return Ok(Tier::Network);
        };
        text.parse().map_err(|error| {
            Failure::new(Exit::Usage, "the value of --sandbox is not valid")
                .because(anyhow::Error::new::<foreman_runner::sandbox::UnknownTier>(error))
        })
    }

    pub(super) fn switch(
        &mut self,
        flag: &'static str,
        given: Option<bool>,
        file: Option<bool>,
        default: bool,
    ) -> Result<bool, Failure> {
        let text = |on: bool| on.to_string();
        let said = self.one(flag, given.map(text), file.map(text))?;
        match said.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None => Ok(default),
            Some("0" | "false" | "no" | "off") => Ok(false),
            Some("1" | "true" | "yes" | "on") => Ok(true),
            Some(_) => {
                let variable = flags::variable_of(flag);
                Err(Failure::new(Exit::Usage, format!("{variable} is neither true nor false")))
            }
        }
    }
}
