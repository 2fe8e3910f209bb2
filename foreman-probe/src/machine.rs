//! The parts that make up a machine.

use std::path::PathBuf;
use std::sync::Arc;

use foreman_core::ports::CapabilityProbe;

use crate::accelerator::AcceleratorsProbe;
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

/// The parts of a machine.
pub struct MachineParts {
    /// For reports: every part by itself.
    parts: Vec<Arc<dyn Reported>>,
    /// For probing: the accelerators as one.
    probes: Vec<Arc<dyn CapabilityProbe>>,
    model_servers: Option<Arc<Keeping<ModelServersPart>>>,
}

impl MachineParts {
    /// The parts as probes for `CompositeProbe`. No two of them say something about one field, so
    /// their order does not matter.
    pub fn probes(&self) -> Vec<Arc<dyn CapabilityProbe>> {
        self.probes.clone()
    }

    /// How the last probe of each part went: what `foreman probe` and `doctor` print.
    pub fn reports(&self) -> Vec<PartReport> {
        self.parts.iter().map(|part| part.report()).collect()
    }

    /// The part that looks for model servers, with what its last look tried and chose.
    pub fn model_servers(&self) -> Option<&ModelServersPart> {
        self.model_servers.as_deref().map(Keeping::part)
    }

    fn add(&mut self, part: Arc<dyn Reported>) {
        self.probes.push(Arc::clone(&part) as Arc<dyn CapabilityProbe>);
        self.parts.push(part);
    }

    /// Adds makes of accelerators, most wanted first.
    fn add_accelerators(&mut self, makes: Vec<Arc<dyn Reported>>) {
        let probe = |make: &Arc<dyn Reported>| Arc::clone(make) as Arc<dyn CapabilityProbe>;
        let all = AcceleratorsProbe::new(makes.iter().map(probe).collect());
        self.probes.push(Arc::new(all));
        self.parts.extend(makes);
    }
}

/// The parts of the machine `sys`: which ones depends on its system. `data_dir` is where free
/// space is counted; without a `discoverer` no model server is asked.
///
/// On macOS the accelerator is `metal` unless a flag says otherwise; elsewhere it is absent until
/// a device is found, NVIDIA before AMD.
pub fn machine_parts(sys: &Sys, data_dir: PathBuf, discoverer: Option<Discoverer>) -> MachineParts {
    let mut machine = MachineParts { parts: Vec::new(), probes: Vec::new(), model_servers: None };
    match sys.os {
        Os::Darwin => {
            machine.add(keeping(TotalMemoryPart::new(sys.clone())));
            machine.add(keeping(AvailableMemoryPart::new(sys.clone())));
            machine.add_accelerators(vec![
                keeping(MetalDefaultPart),
                keeping(ApplePart::new(sys.clone())),
            ]);
        }
        Os::Linux | Os::Other(_) => {
            machine.add(keeping(MemoryPart::new(sys.clone())));
            machine.add_accelerators(vec![
                keeping(NvidiaPart::new(sys.clone())),
                keeping(AmdPart::new(sys.clone())),
            ]);
        }
    }
    machine.add(keeping(CpuPart::new(sys.clone())));
    machine.add(keeping(DiskPart::new(sys.clone(), data_dir)));
    if let Some(discoverer) = discoverer {
        let part = keeping(ModelServersPart::new(discoverer));
        machine.model_servers = Some(Arc::clone(&part));
        machine.add(part);
    }
    machine
}

fn keeping<P: Part>(part: P) -> Arc<Keeping<P>> {
    Arc::new(Keeping::new(part))
}
