//! AMD devices, from the files of the `amdgpu` driver under `/sys/class/drm`.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;

use super::{AcceleratorKind, Device, device_name};
use crate::limits::{ACCELERATORS_MAX, SYSTEM_CALL_LIMIT};
use crate::part::{Answer, Part};
use crate::sys::{Aside, Sys};
use crate::wire;

/// The vendor number of AMD on the PCI bus.
const AMD_VENDOR: &str = "0x1002";

/// A device with less memory of its own than this does not make its node a `vulkan` node: it is
/// the picture output that nearly every processor has, and a model would run beside it on the
/// processor. It is still listed.
pub const AMD_MODEL_MEMORY_BYTES_MIN: u64 = 2 << 30;

/// The AMD devices of `sys`, in the order of their card numbers.
pub fn devices(sys: &Sys) -> Vec<Device> {
    let drm = Path::new("/sys/class/drm");
    let mut cards: Vec<(u32, String)> = Vec::new();
    for name in sys.names(drm) {
        // `card0-HDMI-A-1` is a connector of card 0, `renderD128` the same device again.
        if let Some(number) = name.strip_prefix("card").and_then(|rest| rest.parse().ok()) {
            cards.push((number, name));
        }
    }
    cards.sort();
    cards
        .into_iter()
        .filter_map(|(_, card)| device(sys, &drm.join(card).join("device")))
        .take(ACCELERATORS_MAX)
        .collect()
}

fn device(sys: &Sys, folder: &Path) -> Option<Device> {
    let text = |file: &str| sys.read_if_there(&folder.join(file));
    let number = |file: &str| text(file)?.parse::<u64>().ok();
    if text("vendor")?.to_ascii_lowercase() != AMD_VENDOR {
        return None;
    }
    // Without this file the device is not driven by amdgpu, and nothing can compute on it.
    let total = number("mem_info_vram_total")?;
    let used = number("mem_info_vram_used");
    let by_number = text("device").map_or_else(
        || "AMD device".to_owned(),
        |id| device_name(&format!("AMD device {id}"), "AMD device"),
    );
    Some(Device {
        kind: AcceleratorKind::Vulkan,
        name: device_name(&text("product_name").unwrap_or_default(), &by_number),
        memory_bytes: Some(total),
        free_memory_bytes: used.map(|used| total.saturating_sub(used)),
        driver: Some("amdgpu".to_owned()),
    })
}

/// The AMD devices of the machine.
pub struct AmdPart {
    sys: Sys,
    aside: Aside,
}

impl AmdPart {
    /// The devices of `sys`.
    pub fn new(sys: Sys) -> Self {
        Self { sys, aside: Aside::default() }
    }
}

#[async_trait]
impl Part for AmdPart {
    fn name(&self) -> &'static str {
        "amd"
    }

    fn limit(&self) -> Duration {
        SYSTEM_CALL_LIMIT
    }

    async fn ask(&self) -> Answer {
        let sys = self.sys.clone();
        match self.aside.run("amd", move || devices(&sys)).await {
            Ok(devices) if devices.is_empty() => {
                Answer::absent("no card under /sys/class/drm is driven by amdgpu")
            }
            Ok(devices) => {
                let mut capability = wire::accelerators(&devices);
                let large = |device: &Device| {
                    device.memory_bytes.is_some_and(|bytes| bytes >= AMD_MODEL_MEMORY_BYTES_MIN)
                };
                if devices.iter().any(large) {
                    return Answer::found(capability);
                }
                capability.accelerator = None;
                let note = "its memory is too small for a model, so the node is not vulkan";
                Answer::Found { capability: Box::new(capability), note: Some(note.to_owned()) }
            }
            Err(reason) => Answer::unknown(reason),
        }
    }
}
