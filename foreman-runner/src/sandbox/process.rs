//! The agent's side of the sandbox: starts the helper, tells it the policy,
//! reads output and reports, stops it when it must.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::environment::{Toolchains, environment};
use super::plan::{ReadPlan, SandboxSettings, read_plan};
use super::{CommandOutput, Sandbox, SandboxCommand, SandboxError, Tier};

/// How long a command may take to end after it was asked to, before it is killed.
pub const KILL_AFTER: Duration = Duration::from_secs(5);

/// Confines each command in a process of its own.
#[derive(Debug)]
pub struct ProcessSandbox {
    pub(super) settings: SandboxSettings,
    pub(super) plan: ReadPlan,
    toolchains: Toolchains,
    tier: Tier,
    #[cfg(target_os = "linux")]
    namespaces: tokio::sync::OnceCell<super::policy::Namespaces>,
}

impl ProcessSandbox {
    /// A sandbox of the tier that [`crate::sandbox_probe::probe`] measured.
    ///
    /// # Errors
    /// `Unavailable` without a helper, `Io` when its folders cannot be made.
    pub fn new(mut settings: SandboxSettings, tier: Tier) -> Result<Self, SandboxError> {
        if cfg!(target_os = "linux") && settings.helper.is_none() {
            return Err(SandboxError::Unavailable {
                reason: "this program has no sandbox helper".to_owned(),
                hint: "call foreman_runner::sandbox::helper_main from main when the first \
                       argument is __sandbox, and name the program in SandboxSettings::helper"
                    .to_owned(),
            });
        }
        let layout = &mut settings.layout;
        let caches = ["cargo", "go", "go-build", "npm", "pip", "uv", "xdg"];
        let mut folders: Vec<PathBuf> = caches.iter().map(|name| layout.cache.join(name)).collect();
        folders.extend([layout.tree.clone(), layout.home(), layout.tmp(), layout.new_root()]);
        for folder in &folders {
            std::fs::create_dir_all(folder).map_err(|source| cannot("create", folder, source))?;
        }
        for folder in [&mut layout.tree, &mut layout.private, &mut layout.cache] {
            *folder = folder.canonicalize().map_err(|source| cannot("open", folder, source))?;
        }
        let variable = |name: &str| std::env::var(name).ok();
        let toolchains = Toolchains::from(&variable);
        let plan = read_plan(&settings, &toolchains, &variable("PATH").unwrap_or_default());
        Ok(Self {
            settings,
            plan,
            toolchains,
            tier,
            #[cfg(target_os = "linux")]
            namespaces: tokio::sync::OnceCell::new(),
        })
    }

    /// The folders that commands may write.
    pub(super) fn writable(&self) -> Vec<PathBuf> {
        let layout = &self.settings.layout;
        vec![layout.tree.clone(), layout.home(), layout.tmp(), layout.cache.clone()]
    }

    /// The folders that commands may read.
    pub(super) fn readable(&self, network: bool) -> Vec<PathBuf> {
        let resolver = self.plan.resolver.iter().filter(|_| network);
        self.plan.read.iter().chain(resolver).cloned().collect()
    }

    pub(super) fn environment_of(
        &self,
        command: &SandboxCommand,
    ) -> std::collections::BTreeMap<String, String> {
        let variable = |name: &str| std::env::var(name).ok();
        let layout = &self.settings.layout;
        let mut env = environment(layout, &self.toolchains, command.network, &variable);
        env.extend(command.env.clone());
        env
    }

    /// Refuses what cannot be run as asked; gives the real folder to start in.
    pub(super) fn checked(&self, command: &SandboxCommand) -> Result<PathBuf, SandboxError> {
        let invalid = |reason: String| SandboxError::Invalid { reason };
        if command.argv.first().is_none_or(String::is_empty) {
            return Err(invalid("the command is empty".to_owned()));
        }
        let holds_nul = |text: &String| text.contains('\0');
        if command.argv.iter().any(holds_nul)
            || command.env.iter().any(|(name, value)| {
                name.is_empty() || name.contains('=') || holds_nul(name) || holds_nul(value)
            })
        {
            return Err(invalid("an argument or variable holds a NUL or '='".to_owned()));
        }
        let dir = command
            .dir
            .canonicalize()
            .map_err(|error| invalid(format!("folder {}: {error}", command.dir.display())))?;
        if !dir.starts_with(&self.settings.layout.tree) || !dir.is_dir() {
            return Err(invalid(format!(
                "{} is not a folder inside the tree {}",
                command.dir.display(),
                self.settings.layout.tree.display()
            )));
        }
        Ok(dir)
    }
}

#[async_trait]
impl Sandbox for ProcessSandbox {
    fn tier(&self) -> Tier {
        self.tier
    }

    async fn run(
        &self,
        command: SandboxCommand,
        cancel: &CancellationToken,
    ) -> Result<CommandOutput, SandboxError> {
        let dir = self.checked(&command)?;
        Box::pin(self.run_confined(command, dir, cancel)).await
    }
}

pub(super) fn cannot(action: &str, path: &Path, source: io::Error) -> SandboxError {
    SandboxError::Io { action: format!("{action} {}", path.display()), source }
}

#[cfg(target_os = "linux")]
impl ProcessSandbox {
    async fn run_confined(
        &self,
        command: SandboxCommand,
        dir: PathBuf,
        cancel: &CancellationToken,
    ) -> Result<CommandOutput, SandboxError> {
        let helper = self.helper()?;
        let namespaces = self
            .namespaces
            .get_or_try_init(|| async {
                if !self.settings.namespaces {
                    let off = "switched off".to_owned();
                    return Ok(super::policy::Namespaces::Missing(off));
                }
                let policy = self.policy(&command, dir.clone(), super::policy::Namespaces::Use);
                super::helper::try_namespaces(helper, &policy).await
            })
            .await?;
        let policy = self.policy(&command, dir, namespaces.clone());
        super::helper::run(helper, &policy, &command, cancel).await
    }

    fn helper(&self) -> Result<&Path, SandboxError> {
        self.settings.helper.as_deref().ok_or_else(|| SandboxError::Unavailable {
            reason: "this program has no sandbox helper".to_owned(),
            hint: "name one in SandboxSettings::helper".to_owned(),
        })
    }

    fn policy(
        &self,
        command: &SandboxCommand,
        dir: PathBuf,
        namespaces: super::policy::Namespaces,
    ) -> super::policy::Policy {
        super::policy::Policy {
            argv: command.argv.clone(),
            dir,
            env: self.environment_of(command),
            write: self.writable(),
            read: self.readable(command.network),
            hide: self.plan.hide.clone(),
            protect: self.settings.protect.clone(),
            new_root: self.settings.layout.new_root(),
            tmp: self.settings.layout.tmp(),
            network: command.network,
            namespaces,
        }
    }
}

#[cfg(target_os = "macos")]
impl ProcessSandbox {
    async fn run_confined(
        &self,
        command: SandboxCommand,
        dir: PathBuf,
        cancel: &CancellationToken,
    ) -> Result<CommandOutput, SandboxError> {
        let (read, write) = (self.readable(command.network), self.writable());
        let profile = super::seatbelt_profile(&write, &read, &self.plan.hide, command.network);
        let mut child = tokio::process::Command::new("/usr/bin/sandbox-exec");
        child.arg("-p").arg(profile).arg("--").args(&command.argv).current_dir(dir);
        child.env_clear().envs(self.environment_of(&command)).process_group(0);
        super::group::run(child, &command, cancel).await
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
impl ProcessSandbox {
    async fn run_confined(
        &self,
        _command: SandboxCommand,
        _dir: PathBuf,
        _cancel: &CancellationToken,
    ) -> Result<CommandOutput, SandboxError> {
        Err(SandboxError::Unavailable {
            reason: "this system has no sandbox that Foreman knows".to_owned(),
            hint: "use Linux or macOS".to_owned(),
        })
    }
}
