//! Graphics processors, by what tells us about them.

pub mod amd;
pub mod apple;
pub mod nvidia;

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
    if name.is_empty() {
        otherwise.to_owned()
    } else {
        name
    }
}
