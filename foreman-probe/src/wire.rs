//! What the parts found, in the words of the model: GiB, int32, names.

use foreman_core::fleet::{bytes_to_gib, clamp_int32};
use foreman_core::model::fleet_node::{
    Accelerator, AcceleratorDevice, Capability, Cpu, Disk, Evidence, ServedModel,
};
use foreman_core::model::open::Open;

use crate::accelerator::{AcceleratorKind, Device};
use crate::models::{FoundModel, ModelEvidence};
use crate::sys::RawMemory;

pub(crate) fn memory(memory: RawMemory) -> Capability {
    Capability {
        available_ram_gb: Some(bytes_to_gib(memory.available_bytes)),
        ..total_memory(memory.total_bytes)
    }
}

pub(crate) fn total_memory(bytes: u64) -> Capability {
    Capability { total_ram_gb: Some(bytes_to_gib(bytes)), ..Capability::default() }
}

pub(crate) fn available_memory(bytes: u64) -> Capability {
    Capability { available_ram_gb: Some(bytes_to_gib(bytes)), ..Capability::default() }
}

pub(crate) fn cpu(cores: Option<usize>, arch: &str) -> Capability {
    let cores = cores.map(|cores| clamp_int32(i64::try_from(cores).unwrap_or(i64::MAX)));
    let cpu = Cpu { cores, arch: Some(arch.to_owned()), ..Cpu::default() };
    Capability { cpu: Some(cpu), ..Capability::default() }
}

pub(crate) fn disk(free_bytes: u64) -> Capability {
    let disk = Disk { free_gb: Some(bytes_to_gib(free_bytes)), ..Disk::default() };
    Capability { disk: Some(disk), ..Capability::default() }
}

pub(crate) fn accelerator(kind: AcceleratorKind) -> Capability {
    let accelerator = match kind {
        AcceleratorKind::Cuda => Accelerator::Cuda,
        AcceleratorKind::Metal => Accelerator::Metal,
        AcceleratorKind::Vulkan => Accelerator::Vulkan,
    };
    Capability { accelerator: Some(accelerator.into()), ..Capability::default() }
}

/// The devices, and the first one's kind as what work may ask for; nothing for no device.
pub(crate) fn accelerators(devices: &[Device]) -> Capability {
    let Some(first) = devices.first() else {
        return Capability::default();
    };
    let device = |device: &Device| AcceleratorDevice {
        kind: Some(device.kind.as_str().to_owned()),
        name: Some(device.name.clone()),
        memory_gb: device.memory_bytes.map(bytes_to_gib),
        free_memory_gb: device.free_memory_bytes.map(bytes_to_gib),
        driver: device.driver.clone(),
        ..AcceleratorDevice::default()
    };
    let accelerators = devices.iter().map(device).collect();
    Capability { accelerators, ..accelerator(first.kind) }
}

/// The models that servers of this node serve. The node's context is the largest that a loaded
/// model has; without one, the largest that is known of any. A remote model is no capability of
/// this machine: work placed here for it would leave the house.
pub(crate) fn models(found: &[FoundModel]) -> Capability {
    let found: Vec<&FoundModel> = found.iter().filter(|model| !model.remote).collect();
    let served = |model: &&FoundModel| ServedModel {
        name: Some(model.name.clone()),
        server: Some(model.server.as_str().to_owned()),
        endpoint: Some(model.endpoint()),
        context_tokens: model.context_tokens.map(tokens),
        tokens_per_second: model.tokens_per_second,
        loaded: model.loaded,
        evidence: Some(evidence(model.evidence)),
        ..ServedModel::default()
    };
    let mut installed_models: Vec<String> = Vec::new();
    for model in &found {
        if !installed_models.contains(&model.name) {
            installed_models.push(model.name.clone());
        }
    }
    let contexts = |loaded_only: bool| {
        let counts =
            move |model: &&&FoundModel| model.chat && (!loaded_only || model.loaded == Some(true));
        found.iter().filter(counts).filter_map(|model| model.context_tokens).max()
    };
    Capability {
        installed_models,
        models: found.iter().map(served).collect(),
        max_context_tokens: contexts(true).or_else(|| contexts(false)).map(tokens),
        ..Capability::default()
    }
}

fn evidence(evidence: ModelEvidence) -> Open<Evidence> {
    match evidence {
        ModelEvidence::Declared => Evidence::Declared.into(),
        ModelEvidence::Probed => Evidence::Probed.into(),
        ModelEvidence::Measured => Evidence::Measured.into(),
    }
}

fn tokens(count: u64) -> i32 {
    clamp_int32(i64::try_from(count).unwrap_or(i64::MAX))
}
