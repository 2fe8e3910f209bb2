//! The parts that make up a machine.

use std::path::PathBuf;
use std::sync::Arc;

use foreman_core::ports::CapabilityProbe;

use crate::accelerator::amd::AmdPart;
use crate::accelerator::apple::{ApplePart, MetalDefaultPart};
use crate::accelerator::nvidia::NvidiaPart;
use crate::host::cpu::CpuPart;
use crate::host::darwin::{AvailableMemoryPart, TotalMemoryPart};
use crate::host::disk::DiskPart;
use crate::host::memory::MemoryPart;
use crate::models::{Discoverer, ModelServersPart};
use crate::part::{Keeping, Part, PartReport, Reported};
use crate::sys::{Os, Sys};

/// The parts of a machine, in the order in which they are merged: the first that names an
/// accelerator decides (NVIDIA before AMD).
pub struct MachineParts {
    parts: Vec<Arc<dyn Reported>>,
    model_servers: Option<Arc<Keeping<ModelServersPart>>>,
}

impl MachineParts {
    /// The parts as probes, for `CompositeProbe`.
    pub fn probes(&self) -> Vec<Arc<dyn CapabilityProbe>> {
        let probe = |part: &Arc<dyn Reported>| Arc::clone(part) as Arc<dyn CapabilityProbe>;
        self.parts.iter().map(probe).collect()
    }

    /// How the last probe of each part went: what `foreman probe` and `doctor` print.
    pub fn reports(&self) -> Vec<PartReport> {
        self.parts.iter().map(|part| part.report()).collect()
    }

    /// The part that looks for model servers, with what its last look tried and chose.
    pub fn model_servers(&self) -> Option<&ModelServersPart> {
        self.model_servers.as_deref().map(Keeping::part)
    }
}

/// The parts of the machine `sys`: which ones depends on its system. `data_dir` is where free
/// space is counted; without a `discoverer` no model server is asked.
///
/// On macOS the accelerator is `metal` unless a flag says otherwise; elsewhere it is absent until
/// a device is found.
pub fn machine_parts(sys: &Sys, data_dir: PathBuf, discoverer: Option<Discoverer>) -> MachineParts {
    let mut parts: Vec<Arc<dyn Reported>> = Vec::new();
    match sys.os {
        Os::Darwin => {
            parts.push(keeping(TotalMemoryPart::new(sys.clone())));
            parts.push(keeping(AvailableMemoryPart::new(sys.clone())));
            parts.push(keeping(MetalDefaultPart));
            parts.push(keeping(ApplePart::new(sys.clone())));
        }
        Os::Linux | Os::Other(_) => {
            parts.push(keeping(MemoryPart::new(sys.clone())));
            parts.push(keeping(NvidiaPart::new(sys.clone())));
            parts.push(keeping(AmdPart::new(sys.clone())));
        }
    }
    parts.push(keeping(CpuPart::new(sys.clone())));
    parts.push(keeping(DiskPart::new(sys.clone(), data_dir)));
    let model_servers = discoverer.map(|discoverer| keeping(ModelServersPart::new(discoverer)));
    if let Some(part) = &model_servers {
        parts.push(Arc::clone(part) as Arc<dyn Reported>);
    }
    MachineParts {
        parts,
        model_servers,
    }
}

fn keeping<P: Part>(part: P) -> Arc<Keeping<P>> {
    Arc::new(Keeping::new(part))
}
