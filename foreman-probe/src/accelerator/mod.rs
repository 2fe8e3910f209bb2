//! Graphics processors, by what tells us about them.

pub mod amd;
pub mod apple;
pub mod nvidia;

use std::sync::Arc;

use async_trait::async_trait;
use foreman_core::ports::{CapabilityProbe, ProbeError};
use futures::future::join_all;

use crate::Capability;
use crate::limits::DEVICE_NAME_CHARS_MAX;
use crate::text::one_line;

/// What a device computes with, in the words that a task's requirement uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceleratorKind {
    /// NVIDIA.
    Cuda,
    /// Apple.
    Metal,
    /// AMD: llama.cpp's Vulkan backend runs on every one of them.
    Vulkan,
}

impl AcceleratorKind {
    /// The value of `status.capability.accelerator`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::Metal => "metal",
            Self::Vulkan => "vulkan",
        }
    }
}

/// One device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// What it computes with.
    pub kind: AcceleratorKind,
    /// Its name, made fit to show.
    pub name: String,
    /// Its own memory in bytes; absent when it shares the machine's, or does not say.
    pub memory_bytes: Option<u64>,
    /// What of it is free.
    pub free_memory_bytes: Option<u64>,
    /// The driver and its version.
    pub driver: Option<String>,
}

/// A name as it may be shown, or `otherwise` when there is none.
fn device_name(text: &str, otherwise: &str) -> String {
    let name = one_line(text, DEVICE_NAME_CHARS_MAX);
    if name.is_empty() { otherwise.to_owned() } else { name }
}

/// The accelerators of a machine that may have several makes at once (a graphics card beside the
/// processor's own): all devices are listed, and the first make that was found is what work may
/// ask for. A merge of whole capabilities would keep one make's list only.
pub struct AcceleratorsProbe {
    makes: Vec<Arc<dyn CapabilityProbe>>,
}

impl AcceleratorsProbe {
    /// The probes of the makes, most wanted first.
    pub fn new(makes: Vec<Arc<dyn CapabilityProbe>>) -> Self {
        Self { makes }
    }
}

#[async_trait]
impl CapabilityProbe for AcceleratorsProbe {
    /// Fails only when nothing was found and a make could not be asked.
    async fn probe(&self) -> Result<Capability, ProbeError> {
        let mut merged = Capability::default();
        let mut failed = None;
        for answer in join_all(self.makes.iter().map(|make| make.probe())).await {
            match answer {
                Ok(found) => {
                    merged.accelerator = merged.accelerator.or(found.accelerator);
                    merged.accelerators.extend(found.accelerators);
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(error) if merged == Capability::default() => Err(error),
            Some(_) | None => Ok(merged),
        }
    }
}
