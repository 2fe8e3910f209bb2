//! NVIDIA, AMD and Apple devices.

use foreman_core::model::fleet_node::{Accelerator, AcceleratorDevice, Capability};
use foreman_probe::accelerator::amd::AmdPart;
use foreman_probe::accelerator::apple::{self, ApplePart, MetalDefaultPart, parse_vram};
use foreman_probe::accelerator::nvidia::{self, NvidiaPart, parse_size};
use foreman_probe::{Os, PartState};

use crate::support::{Machine, fixture, once};

fn device(
    kind: &str,
    name: &str,
    memory: Option<i32>,
    free: Option<i32>,
    driver: Option<&str>,
) -> AcceleratorDevice {
    AcceleratorDevice {
        kind: Some(kind.to_owned()),
        name: Some(name.to_owned()),
        memory_gb: memory,
        free_memory_gb: free,
        driver: driver.map(str::to_owned),
        ..AcceleratorDevice::default()
    }
}

fn offers(kind: Accelerator, devices: Vec<AcceleratorDevice>) -> Capability {
    Capability { accelerator: Some(kind.into()), accelerators: devices, ..Capability::default() }
}

/// What the NVIDIA part makes of an end of `nvidia-smi`.
async fn nvidia_smi(code: i32, text: &str) -> (Capability, PartState) {
    let machine = Machine::new();
    machine.commands.answer("nvidia-smi", code, text);
    once(NvidiaPart::new(machine.sys(Os::Linux))).await
}

#[tokio::test]
async fn two_nvidia_devices() {
    let (capability, state) = nvidia_smi(0, &fixture("nvidia_two.csv")).await;
    let driver = Some("nvidia 550.54.14");
    let devices = vec![
        device("cuda", "NVIDIA GeForce RTX 4090", Some(23), Some(22), driver),
        device("cuda", "NVIDIA GeForce RTX 3090", Some(24), Some(1), driver),
    ];
    assert_eq!(capability, offers(Accelerator::Cuda, devices));
    assert_eq!(state, PartState::Fresh { note: None });
}

#[tokio::test]
async fn warnings_in_front_and_absent_cells() {
    let (capability, state) = nvidia_smi(0, &fixture("nvidia_warned.csv")).await;
    let devices = vec![
        device("cuda", "Tesla P40", Some(22), None, Some("nvidia 470.223.02")),
        device("cuda", "Quadro K600", None, None, None),
    ];
    assert_eq!(capability, offers(Accelerator::Cuda, devices));
    let note = "nvidia-smi also said: WARNING: infoROM is corrupted at gpu 0000:04:00.0";
    assert_eq!(state, PartState::Fresh { note: Some(note.to_owned()) });
}

#[tokio::test]
async fn a_device_with_unified_memory_is_a_device() {
    let (capability, _) = nvidia_smi(0, &fixture("nvidia_gb10.csv")).await;
    let devices = vec![device("cuda", "NVIDIA GB10", None, None, Some("nvidia 580.95.05"))];
    assert_eq!(capability, offers(Accelerator::Cuda, devices));
}

#[tokio::test]
async fn ends_that_mean_no_usable_device() {
    let header = "index, name, memory.total [MiB], memory.free [MiB], driver_version\n";
    let mismatch = "Failed to initialize NVML: Driver/library version mismatch\n";
    for (code, text) in [
        (9, fixture("nvidia_no_driver.txt").as_str()),
        (6, "No devices were found\n"),
        (18, mismatch),
        (0, header),
        (15, fixture("nvidia_lost.txt").as_str()),
    ] {
        let (capability, state) = nvidia_smi(code, text).await;
        assert_eq!(capability, Capability::default(), "{text}");
        assert!(matches!(state, PartState::Absent { .. }), "{text}: {state:?}");
    }
    let (capability, state) = once(NvidiaPart::new(Machine::new().sys(Os::Linux))).await;
    assert_eq!(capability, Capability::default());
    assert_eq!(state, PartState::Absent { reason: "nvidia-smi is not installed".to_owned() });
}

#[tokio::test]
async fn ends_that_mean_nothing_certain() {
    for (code, text) in [(1, ""), (255, "Insufficient Permissions"), (0, "index"), (0, "\u{1b}c")] {
        let (_, state) = nvidia_smi(code, text).await;
        let PartState::Missing { reason } = state else { panic!("{text:?}: {state:?}") };
        assert!(reason.starts_with("nvidia-smi printed no device list; it said: "), "{reason}");
        assert!(!reason.contains('\u{1b}'), "{reason:?}");
    }
}

#[test]
fn truncated_rows_and_shuffled_columns() {
    let text = "name, driver_version, index, memory.free [MiB], memory.total [MiB]\n\
                A, 1.0, 3, 1 MiB, 2 GiB\nB, 1.0, 4\n";
    let listing = nvidia::parse(text).expect("a header");
    assert_eq!(listing.devices.len(), 1);
    let device = &listing.devices[0];
    let sizes = (device.memory_bytes, device.free_memory_bytes);
    assert_eq!((device.name.as_str(), sizes), ("A", (Some(2 << 30), Some(1 << 20))));
    assert_eq!(listing.remark.as_deref(), Some("B, 1.0, 4"));
    assert_eq!(nvidia::parse("Fri Nov 20\n"), None);
    let sizes =
        ["512", "1 MiB", "2 GiB", "x MiB", "1 parsec", "1 MiB more", "99999999999999999 GiB"];
    let expected = [Some(512 << 20), Some(1 << 20), Some(2 << 30), None, None, None, None];
    assert_eq!(sizes.map(parse_size), expected);
}

/// Adds a graphics card to a machine.
fn card(machine: &Machine, number: u32, vendor: &str, files: &[(&str, &str)]) {
    let folder = format!("/sys/class/drm/card{number}/device");
    machine.file(&format!("{folder}/vendor"), &format!("{vendor}\n"));
    for (name, text) in files {
        machine.file(&format!("{folder}/{name}"), &format!("{text}\n"));
    }
}

#[tokio::test]
async fn amd_devices_by_card_number_without_connectors_and_others() {
    let machine = Machine::new();
    let large = [("mem_info_vram_total", "25753026560"), ("mem_info_vram_used", "1073741824")];
    card(&machine, 10, "0x1002", &[large[0], large[1], ("product_name", "Radeon RX 7900 XTX")]);
    card(&machine, 2, "0x1002", &[("mem_info_vram_total", "536870912"), ("device", "0x164e")]);
    card(&machine, 0, "0x10de", &large);
    card(&machine, 1, "0x1002", &[("device", "0x1111")]);
    machine.file("/sys/class/drm/card10-HDMI-A-1/device/vendor", "0x1002");
    machine.file("/sys/class/drm/renderD128/device/vendor", "0x1002");
    let (capability, state) = once(AmdPart::new(machine.sys(Os::Linux))).await;
    let driver = Some("amdgpu");
    let devices = vec![
        device("vulkan", "AMD device 0x164e", Some(0), None, driver),
        device("vulkan", "Radeon RX 7900 XTX", Some(23), Some(22), driver),
    ];
    assert_eq!(capability, offers(Accelerator::Vulkan, devices));
    assert_eq!(state, PartState::Fresh { note: None });
}

#[tokio::test]
async fn a_picture_output_alone_makes_no_vulkan_node() {
    let machine = Machine::new();
    card(&machine, 0, "0x1002", &[("mem_info_vram_total", "536870912")]);
    let (capability, state) = once(AmdPart::new(machine.sys(Os::Linux))).await;
    assert_eq!((capability.accelerator, capability.accelerators.len()), (None, 1));
    assert!(matches!(state, PartState::Fresh { note: Some(_) }), "{state:?}");
    let (capability, state) = once(AmdPart::new(Machine::new().sys(Os::Linux))).await;
    assert_eq!(capability, Capability::default());
    assert!(matches!(state, PartState::Absent { .. }), "{state:?}");
}

#[tokio::test]
async fn apple_silicon_shares_its_memory() {
    let machine = Machine::new();
    let text = fixture("displays_m3.json");
    machine.commands.answer("/usr/sbin/system_profiler SPDisplaysDataType -json", 0, &text);
    let (capability, _) = once(ApplePart::new(machine.sys(Os::Darwin))).await;
    let devices = vec![device("metal", "Apple M3 Max", None, None, Some("metal 3"))];
    assert_eq!(capability, offers(Accelerator::Metal, devices));
}

#[tokio::test]
async fn an_intel_mac_has_devices_with_memory_of_their_own() {
    let devices = apple::parse(&fixture("displays_intel.json")).expect("JSON");
    let seen: Vec<_> = devices
        .iter()
        .map(|device| (device.name.as_str(), device.memory_bytes, device.driver.as_deref()))
        .collect();
    let expected = [
        ("Intel UHD Graphics 630", Some(1536 << 20), Some("metal 12")),
        ("AMD Radeon Pro 5500M", Some(8 << 30), Some("metal 3")),
    ];
    assert_eq!(seen, expected, "a device without Metal is left out");
    assert_eq!(["8 GB", "8", "8 TB", "-1 GB"].map(parse_vram), [Some(8 << 30), None, None, None]);
}

#[tokio::test]
async fn a_mac_is_metal_also_when_system_profiler_says_nothing_useful() {
    for text in ["", "{\"SPDisplaysDataType\": 7}", "{\"SPDisplaysDataType\": [{\"_na"] {
        let machine = Machine::new();
        machine.commands.answer("/usr/sbin/system_profiler", 0, text);
        let (capability, state) = once(ApplePart::new(machine.sys(Os::Darwin))).await;
        assert_eq!(capability, Capability::default());
        assert!(matches!(state, PartState::Missing { .. }), "{state:?}");
    }
    let (capability, _) = once(MetalDefaultPart).await;
    assert_eq!(capability, offers(Accelerator::Metal, Vec::new()));
}
