//! How an engine is made on this machine, for every verb that runs one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use foreman_core::control::CLAIM_DISK_GB_MIN;
use foreman_core::fleet::HEARTBEAT;
use foreman_probe::Discovery;
use foreman_runner::observe::RunObserver;
use foreman_runner::sandbox::Tier;

use super::Home;
use super::credential::{Credential, author};
use super::engine::EnginePlan;
use super::machine::Machine;
use super::models::{Models, found};
use crate::exit::{Exit, Failure};
use crate::settings::Settings;

/// One GiB in bytes.
const GIB: u64 = 1 << 30;

/// What must confine a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxNeed {
    /// This tier, or nothing runs.
    AtLeast(Tier),
    /// The best there is, up to this tier: for work that we wrote ourselves.
    UpTo(Tier),
}

/// How an engine is made.
pub struct Recipe {
    /// What was said.
    pub settings: Settings,
    /// Store, clock and directories.
    pub home: Home,
    /// Models for runs.
    pub models: Arc<Models>,
    /// Who git says we are.
    pub credential: Credential,
    /// What must confine a run.
    pub sandbox: SandboxNeed,
    /// How often the node beats.
    pub heartbeat: Duration,
}

/// What was found out before anything runs.
pub struct Ready {
    /// This machine.
    pub machine: Machine,
    /// What confines runs at least.
    pub required: Tier,
    /// The models there are.
    pub discovery: Arc<Discovery>,
}

impl Recipe {
    /// A recipe by the settings, with the models that can be found.
    ///
    /// # Errors
    /// The key file cannot be read; the store cannot be opened.
    pub fn new(settings: Settings, credential: Credential) -> Result<Self, Failure> {
        let models = Arc::new(Models::new(settings.discovery()?, None)?);
        let home = Home::open(&settings.paths)?;
        let sandbox = SandboxNeed::AtLeast(settings.node.sandbox);
        Ok(Self { settings, home, models, credential, sandbox, heartbeat: HEARTBEAT })
    }

    /// Examines this machine.
    ///
    /// # Errors
    /// The node has no valid name.
    pub async fn examine(&self) -> Result<Ready, Failure> {
        let machine = Machine::examine(&self.settings.node, &self.settings.paths);
        let (machine, discovery) = tokio::join!(machine, self.models.look());
        let machine = machine?;
        let required = match self.sandbox {
            SandboxNeed::AtLeast(tier) => tier,
            SandboxNeed::UpTo(tier) => tier.min(machine.sandbox.tier),
        };
        Ok(Ready { machine, required, discovery })
    }

    /// Examines this machine, which must be able to run a task now.
    ///
    /// # Errors
    /// The sandbox is too weak; there is no model; the disk is too full for a task to be taken.
    pub async fn require(&self) -> Result<Ready, Failure> {
        let data_dir = &self.home.paths.data_dir;
        // Where the system does not tell, the agent sees to it.
        if let Ok(about) = rustix::fs::statvfs(data_dir) {
            room(about.f_bavail.saturating_mul(about.f_frsize), data_dir)?;
        }
        let ready = self.examine().await?;
        ready.machine.require(ready.required)?;
        found(&ready.discovery)?;
        Ok(ready)
    }

    /// The plan of an engine.
    pub async fn plan(&self, ready: Ready, observer: Arc<dyn RunObserver>) -> EnginePlan {
        EnginePlan {
            home: self.home.clone(),
            machine: ready.machine,
            node: self.settings.node.clone(),
            sandbox_required: ready.required,
            models: self.models.clone(),
            credential: self.credential.clone(),
            author: author().await,
            hidden: self.hidden(),
            observer,
            heartbeat: self.heartbeat,
        }
    }

    fn hidden(&self) -> Vec<PathBuf> {
        let key = self.settings.model.key_file.clone();
        key.into_iter().chain([self.settings.paths.config_file.clone()]).collect()
    }
}

/// Refuses to begin where the agent would take no task: it would wait for room without an end.
fn room(free_bytes: u64, dir: &Path) -> Result<(), Failure> {
    if i64::try_from(free_bytes / GIB).unwrap_or(i64::MAX) >= i64::from(CLAIM_DISK_GB_MIN) {
        return Ok(());
    }
    let (free, dir) = (free_bytes >> 20, dir.display());
    let what = format!(
        "only {free} MiB are free at {dir}, and below {CLAIM_DISK_GB_MIN} GiB no task is taken"
    );
    Err(Failure::new(Exit::Infrastructure, what)
        .next("free some space, or choose a directory on another disk"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_begun_where_no_task_would_be_taken() {
        let dir = Path::new("/data");
        let limit = 2 * GIB;
        assert!(room(limit, dir).is_ok());
        assert!(room(u64::MAX, dir).is_ok());
        let failure = room(limit - 1, dir).expect_err("too little");
        assert_eq!(failure.exit(), Exit::Infrastructure);
        assert_eq!(
            failure.to_string(),
            "only 2047 MiB are free at /data, and below 2 GiB no task is taken"
        );
    }
}
