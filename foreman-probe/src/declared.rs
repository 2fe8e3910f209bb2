//! What a person declares about a machine overrides what was probed.

use std::sync::Arc;

use async_trait::async_trait;
use foreman_core::fleet::{clamp_int32, ram};
use foreman_core::model::fleet_node::{Accelerator, Capability};
use foreman_core::model::open::Open;
use foreman_core::ports::{CapabilityProbe, ProbeError};

/// The flags about this machine. Absent = not given; the layer that reads flags turns the
/// existing system's "0 means not given" and "empty means not given" into absent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Declared {
    /// `--accelerator`, taken as it is written.
    pub accelerator: Option<String>,
    /// `--installed-models`: replaces the list of names (not what servers really serve).
    pub installed_models: Option<Vec<String>>,
    /// `--max-context-tokens`; clamped to int32.
    pub max_context_tokens: Option<i64>,
    /// `--tokens-per-second`; clamped to int32.
    pub tokens_per_second: Option<i64>,
    /// `--total-ram-gb`; clamped to int32. Replaces the total, and bounds what is available.
    pub total_ram_gb: Option<i64>,
    /// The namespaces this node takes tasks from.
    pub namespaces: Option<Vec<String>>,
}

impl Declared {
    /// `probed` with what is declared in its place. What was declared wins; available memory is
    /// never more than the total.
    #[must_use]
    pub fn apply(&self, mut probed: Capability) -> Capability {
        let flag = self.total_ram_gb.map(clamp_int32);
        let merged = ram(probed.total_ram_gb, probed.available_ram_gb, flag);
        (probed.total_ram_gb, probed.available_ram_gb) = merged;
        if let Some(accelerator) = &self.accelerator {
            probed.accelerator = Some(accelerator_named(accelerator));
        }
        if let Some(models) = &self.installed_models {
            probed.installed_models.clone_from(models);
        }
        if let Some(tokens) = self.max_context_tokens {
            probed.max_context_tokens = Some(clamp_int32(tokens));
        }
        if let Some(speed) = self.tokens_per_second {
            probed.tokens_per_second = Some(clamp_int32(speed));
        }
        if let Some(namespaces) = &self.namespaces {
            probed.namespaces.clone_from(namespaces);
        }
        probed
    }
}

fn accelerator_named(name: &str) -> Open<Accelerator> {
    match name {
        "metal" => Accelerator::Metal.into(),
        "cuda" => Accelerator::Cuda.into(),
        "vulkan" => Accelerator::Vulkan.into(),
        "none" => Accelerator::None.into(),
        other => Open::Other(other.to_owned()),
    }
}

/// A probe whose answers are overridden by flags.
pub struct DeclaredProbe {
    inner: Arc<dyn CapabilityProbe>,
    declared: Declared,
}

impl DeclaredProbe {
    /// `inner`, overridden by `declared`.
    pub fn new(inner: Arc<dyn CapabilityProbe>, declared: Declared) -> Self {
        Self { inner, declared }
    }
}

#[async_trait]
impl CapabilityProbe for DeclaredProbe {
    async fn probe(&self) -> Result<Capability, ProbeError> {
        Ok(self.declared.apply(self.inner.probe().await?))
    }
}
