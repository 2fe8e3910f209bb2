//! This machine as a node: its name, what it can do, what confines its runs.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use foreman_core::fleet::{CompositeProbe, Identity, default_node_name};
use foreman_core::model::fleet_node::{Capability, SandboxCapability};
use foreman_core::model::meta::Extra;
use foreman_core::model::open::Open;
use foreman_core::model::{NodeName, WallTime};
use foreman_core::ports::{CapabilityProbe, ProbeError};
use foreman_probe::sys::go_arch;
use foreman_probe::{DeclaredProbe, DiscoveryConfig, Sys, machine_parts};
use foreman_runner::sandbox::Tier;
use foreman_runner::sandbox_probe::{self, SandboxReport};

use super::models::discoverer;
use crate::exit::{Exit, Failure};
use crate::settings::{NodeSettings, Paths};

/// What was found out about this machine before anything runs.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The node's name.
    pub name: NodeName,
    /// The program that confines commands: this one.
    pub helper: Option<PathBuf>,
    /// What the sandbox holds.
    pub sandbox: SandboxReport,
}

impl Machine {
    /// Names the node and tests the sandbox.
    ///
    /// # Errors
    /// The name that a person gave is none; the state directory cannot be made.
    pub async fn examine(settings: &NodeSettings, paths: &Paths) -> Result<Self, Failure> {
        let name = node_name(settings)?;
        std::fs::create_dir_all(&paths.state_dir).map_err(|error| {
            let dir = paths.state_dir.display();
            Failure::new(Exit::Error, format!("the directory {dir} cannot be made")).because(error)
        })?;
        let helper = std::env::current_exe().ok();
        let sandbox = sandbox_probe::probe(helper.clone(), &paths.state_dir).await;
        Ok(Self { name, helper, sandbox })
    }

    /// The sandbox's tier, or why it is not enough.
    ///
    /// # Errors
    /// It is below `required`.
    pub fn require(&self, required: Tier) -> Result<(), Failure> {
        if self.sandbox.tier >= required {
            return Ok(());
        }
        let why = self.sandbox.why_not_more.clone().unwrap_or_default();
        let tier = self.sandbox.tier.as_str();
        Err(Failure::new(
            Exit::Infrastructure,
            format!(
                "the sandbox of this machine holds {tier}, and {} is required",
                required.as_str()
            ),
        )
        .because(anyhow::anyhow!("{why}"))
        .next("foreman doctor")
        .next(format!("accept what it holds: --sandbox {tier}")))
    }

    /// What the node says of itself.
    pub(super) fn identity(&self, settings: &NodeSettings) -> Identity {
        let sys = Sys::this_machine();
        Identity {
            name: self.name.clone(),
            address: None,
            roles: settings.roles.clone(),
            slots: settings.slots.map(i32::from),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            os: sys.os.go_name().to_owned(),
            arch: go_arch(&sys.arch).to_owned(),
        }
    }

    /// What the node can do, asked anew at every beat.
    pub(super) fn probe(
        &self,
        settings: &NodeSettings,
        paths: &Paths,
        models: &DiscoveryConfig,
        now: WallTime,
    ) -> Result<Arc<dyn CapabilityProbe>, Failure> {
        let sys = Sys::this_machine();
        let machine = machine_parts(&sys, paths.data_dir.clone(), Some(discoverer(models)?));
        let mut parts = machine.probes();
        parts.push(Arc::new(SandboxPart { tier: self.sandbox.tier, checked_at: now }));
        let all = Arc::new(CompositeProbe::new(parts));
        Ok(Arc::new(DeclaredProbe::new(all, settings.declared.clone())))
    }
}

/// What the self-test of the sandbox came to; it does not change while the process lives.
struct SandboxPart {
    tier: Tier,
    checked_at: WallTime,
}

#[async_trait]
impl CapabilityProbe for SandboxPart {
    async fn probe(&self) -> Result<Capability, ProbeError> {
        let tier = serde_json::from_value(serde_json::Value::from(self.tier.as_str()));
        let tier: Option<Open<_>> = tier.ok();
        let checked_at = Some(self.checked_at);
        let sandbox = SandboxCapability { tier, checked_at, extra: Extra::new() };
        Ok(Capability { sandbox: Some(sandbox), ..Capability::default() })
    }
}

/// The node's name: the one that was given, else one made from the host name.
///
/// # Errors
/// The name that a person gave is none.
pub fn node_name(settings: &NodeSettings) -> Result<NodeName, Failure> {
    let given = settings.name.is_some();
    let name = settings.name.clone().unwrap_or_else(|| {
        default_node_name(&rustix::system::uname().nodename().to_string_lossy())
    });
    NodeName::parse(&name).map_err(|error| {
        let whose = if given { "--fleet-node-name" } else { "the host name" };
        Failure::new(Exit::Usage, format!("{whose} {name:?} is no node name")).because(error)
    })
}
