//! The parts of whole machines.

use std::path::PathBuf;

use foreman_core::fleet::CompositeProbe;
use foreman_core::model::fleet_node::{Accelerator, Capability, Cpu, Disk};
use foreman_core::ports::CapabilityProbe;
use foreman_probe::fake::FakeHardware;
use foreman_probe::sys::RawMemory;
use foreman_probe::{
    Discoverer, MachineParts, ModelServersPart, Os, PartState, Sys, machine_parts,
};

use crate::support::{Machine, Server, fixture, recorded};

/// What the core makes of all parts together.
async fn all(parts: &MachineParts) -> Capability {
    CompositeProbe::new(parts.probes()).probe().await.expect("never fails as a whole")
}

fn kinds(capability: &Capability) -> Vec<&str> {
    capability.accelerators.iter().filter_map(|device| device.kind.as_deref()).collect()
}

#[tokio::test]
async fn a_linux_machine_without_devices_has_no_accelerator_at_all() {
    let mut machine = Machine::new();
    machine.hardware = FakeHardware {
        memory: Some(RawMemory { total_bytes: 32 << 30, available_bytes: 20 << 30 }),
        cores: Some(8),
        disk_free_bytes: Some(100 << 30),
    };
    let parts = machine_parts(&machine.sys(Os::Linux), PathBuf::from("/data"), None);
    let found = all(&parts).await;
    let expected = Capability {
        total_ram_gb: Some(32),
        available_ram_gb: Some(20),
        cpu: Some(Cpu { cores: Some(8), arch: Some("amd64".into()), ..Cpu::default() }),
        disk: Some(Disk { free_gb: Some(100), ..Disk::default() }),
        ..Capability::default()
    };
    assert_eq!(found, expected);
    let reports: Vec<String> = parts.reports().iter().map(ToString::to_string).collect();
    let expected = [
        "memory: ok",
        "nvidia: none (nvidia-smi is not installed)",
        "amd: none (no card under /sys/class/drm is driven by amdgpu)",
        "cpu: ok",
        "disk: ok",
    ];
    assert_eq!(reports, expected);
    assert!(parts.model_servers().is_none());
}

#[tokio::test]
async fn nvidia_comes_before_amd_and_a_mac_is_metal() {
    let machine = Machine::new();
    machine.commands.answer("nvidia-smi", 0, &fixture("nvidia_two.csv"));
    machine.file("/sys/class/drm/card0/device/vendor", "0x1002");
    machine.file("/sys/class/drm/card0/device/mem_info_vram_total", "25753026560");
    let parts = machine_parts(&machine.sys(Os::Linux), PathBuf::from("/data"), None);
    let found = all(&parts).await;
    assert_eq!(found.accelerator, Some(Accelerator::Cuda.into()));
    assert_eq!(kinds(&found), ["cuda", "cuda", "vulkan"], "every device is listed");
    machine.commands.remove("nvidia-smi");
    let found = all(&parts).await;
    assert_eq!(found.accelerator, Some(Accelerator::Vulkan.into()));
    assert_eq!(kinds(&found), ["vulkan"], "what was taken out is gone");
    let parts = machine_parts(&machine.sys(Os::Darwin), PathBuf::from("/data"), None);
    let found = all(&parts).await;
    assert_eq!(found.accelerator, Some(Accelerator::Metal.into()), "system_profiler or not");
    assert_eq!(kinds(&found), <[&str; 0]>::default());
    machine.commands.answer("/usr/sbin/system_profiler", 0, &fixture("displays_m3.json"));
    assert_eq!(kinds(&all(&parts).await), ["metal"]);
}

#[tokio::test]
async fn model_servers_are_a_part_that_can_be_asked_what_it_chose() {
    let server = Server::start(&[recorded("/v1/models", "vllm_v1_models.json")]).await;
    let discoverer = Discoverer::new(server.local()).expect("a client");
    let sys = Machine::new().sys(Os::Linux);
    let parts = machine_parts(&sys, PathBuf::from("/data"), Some(discoverer));
    assert!(parts.model_servers().is_some_and(|part| part.last().is_none()));
    all(&parts).await;
    let last = parts.model_servers().and_then(ModelServersPart::last).expect("a look");
    assert!(last.chosen.is_ok(), "{last:?}");
}

#[tokio::test]
async fn this_very_machine_can_be_probed() {
    let parts = machine_parts(&Sys::this_machine(), std::env::temp_dir(), None);
    let found = all(&parts).await;
    for report in parts.reports() {
        println!("{report}");
        assert_ne!(report.state, PartState::NotAsked);
    }
    println!("{found:?}");
    assert!(found.total_ram_gb.is_some() && found.available_ram_gb <= found.total_ram_gb);
    assert!(found.cpu.is_some() && found.disk.is_some());
}
