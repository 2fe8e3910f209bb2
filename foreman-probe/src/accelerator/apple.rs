//! The graphics of a Mac, from `system_profiler SPDisplaysDataType -json`.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use super::{AcceleratorKind, Device, device_name};
use crate::command::CommandLine;
use crate::limits::{ACCELERATORS_MAX, PART_GRACE, SYSTEM_PROFILER_FRESH, SYSTEM_PROFILER_LIMIT};
use crate::part::{Answer, Part};
use crate::sys::Sys;
use crate::text::{chain, first_line};
use crate::wire;

const SYSTEM_PROFILER: CommandLine = CommandLine {
    programs: &["/usr/sbin/system_profiler"],
    args: &["SPDisplaysDataType", "-json"],
};

/// Parses the JSON of `system_profiler`. A device without Metal is left out; Apple's own chips
/// share the machine's memory and therefore have none of their own.
pub fn parse(text: &str) -> Result<Vec<Device>, String> {
    let json: Value = serde_json::from_str(text)
        .map_err(|error| format!("system_profiler printed no JSON: {error}"))?;
    let list = json.get("SPDisplaysDataType").and_then(Value::as_array);
    let list = list.ok_or("system_profiler printed no list SPDisplaysDataType")?;
    Ok(list.iter().filter_map(device).take(ACCELERATORS_MAX).collect())
}

fn device(entry: &Value) -> Option<Device> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
    let version = metal_version(entry)?;
    let name = if text("sppci_model").is_empty() { text("_name") } else { text("sppci_model") };
    let memory = ["spdisplays_vram", "_spdisplays_vram"].map(|key| parse_vram(text(key)));
    Some(Device {
        kind: AcceleratorKind::Metal,
        name: device_name(name, "Apple device"),
        memory_bytes: memory.into_iter().flatten().next(),
        free_memory_bytes: None,
        driver: Some(version),
    })
}

/// `metal 3` from either of the two keys that macOS has used; absent = no Metal.
fn metal_version(entry: &Value) -> Option<String> {
    let keys = ["spdisplays_mtlgpufamilysupport", "spdisplays_metal"];
    let value = keys.iter().find_map(|key| entry.get(key)?.as_str())?;
    if value.contains("notsupported") || !value.contains("metal") && !value.contains("supported") {
        return None;
    }
    let digits: String = value.chars().filter(char::is_ascii_digit).take(2).collect();
    Some(if digits.is_empty() { "metal".to_owned() } else { format!("metal {digits}") })
}

/// Parses `8 GB` or `1536 MB`; Apple counts in powers of two here.
pub fn parse_vram(text: &str) -> Option<u64> {
    let (number, unit) = text.trim().split_once(' ')?;
    let unit: u64 = match unit {
        "GB" => 1 << 30,
        "MB" => 1 << 20,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// The graphics of a Mac. Every Mac that runs this has Metal, so the accelerator is `metal` also
/// when `system_profiler` does not answer: only the list of devices is lost then.
pub struct ApplePart {
    sys: Sys,
}

impl ApplePart {
    /// The devices of `sys`.
    pub fn new(sys: Sys) -> Self {
        Self { sys }
    }
}

#[async_trait]
impl Part for ApplePart {
    fn name(&self) -> &'static str {
        "apple"
    }

    fn limit(&self) -> Duration {
        SYSTEM_PROFILER_LIMIT + PART_GRACE
    }

    fn fresh_for(&self) -> Duration {
        SYSTEM_PROFILER_FRESH
    }

    async fn ask(&self) -> Answer {
        let output = match self.sys.commands.run(&SYSTEM_PROFILER, SYSTEM_PROFILER_LIMIT).await {
            Ok(output) => output,
            Err(error) => return Answer::unknown(chain(&error)),
        };
        match parse(&output.stdout) {
            Ok(devices) if devices.is_empty() => {
                Answer::absent("system_profiler lists no device with Metal")
            }
            Ok(devices) => Answer::found(wire::accelerators(&devices)),
            Err(reason) => match first_line(&output.stderr) {
                Some(said) => Answer::unknown(format!("{reason}; it said: {said}")),
                None => Answer::unknown(reason),
            },
        }
    }
}

/// The accelerator of a Mac by default; a flag overrides it.
pub struct MetalDefaultPart;

#[async_trait]
impl Part for MetalDefaultPart {
    fn name(&self) -> &'static str {
        "metal"
    }

    fn limit(&self) -> Duration {
        PART_GRACE
    }

    async fn ask(&self) -> Answer {
        Answer::found(wire::accelerator(AcceleratorKind::Metal))
    }
}
