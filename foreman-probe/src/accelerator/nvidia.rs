//! NVIDIA devices, from `nvidia-smi --query-gpu=… --format=csv`.

use std::time::Duration;

use async_trait::async_trait;

use super::{AcceleratorKind, Device, device_name};
use crate::command::{CommandError, CommandLine, Output};
use crate::limits::{ACCELERATORS_MAX, NVIDIA_SMI_LIMIT, PART_GRACE};
use crate::part::{Answer, Part};
use crate::sys::Sys;
use crate::text::{chain, first_line};
use crate::wire;

/// The second name is where Windows puts it inside a Linux subsystem.
const NVIDIA_SMI: CommandLine = CommandLine {
    programs: &["nvidia-smi", "/usr/lib/wsl/lib/nvidia-smi"],
    args: &["--query-gpu=index,name,memory.total,memory.free,driver_version", "--format=csv"],
};

/// What `nvidia-smi` printed, understood.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// The devices that can be used.
    pub devices: Vec<Device>,
    /// Lines that are neither header nor device, such as warnings: the first one.
    pub remark: Option<String>,
}

/// Parses the CSV with its header. Whatever stands in front of the header is a remark; columns
/// are found by name, so their order does not matter; a cell such as `[N/A]` or
/// `[Not Supported]` is absent (devices with unified memory have no memory of their own).
/// Absent when there is no header at all.
pub fn parse(text: &str) -> Option<Listing> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let mut listing = Listing::default();
    let columns = loop {
        let line = lines.next()?;
        match Columns::parse(line) {
            Some(columns) => break columns,
            None => listing.remark = listing.remark.or_else(|| first_line(line)),
        }
    };
    for line in lines {
        match columns.device(line) {
            Some(device) if listing.devices.len() < ACCELERATORS_MAX => {
                listing.devices.push(device);
            }
            Some(_) => {}
            None => listing.remark = listing.remark.or_else(|| first_line(line)),
        }
    }
    Some(listing)
}

/// Where each column stands. A header cell may carry a unit: `memory.total [MiB]`.
struct Columns {
    count: usize,
    index: usize,
    name: usize,
    total: Option<usize>,
    free: Option<usize>,
    driver: Option<usize>,
}

impl Columns {
    fn parse(line: &str) -> Option<Self> {
        let cells = cells(line);
        let at = |name: &str| cells.iter().position(|cell| cell.split(' ').next() == Some(name));
        Some(Self {
            count: cells.len(),
            index: at("index")?,
            name: at("name")?,
            total: at("memory.total"),
            free: at("memory.free"),
            driver: at("driver_version"),
        })
    }

    /// A row is a device when it has all its cells and a number: a truncated line or a message
    /// ("GPU is lost") is none.
    fn device(&self, line: &str) -> Option<Device> {
        let cells = cells(line);
        if cells.len() != self.count || cells.get(self.index)?.parse::<u32>().is_err() {
            return None;
        }
        let cell = |at: Option<usize>| at.and_then(|at| present(cells.get(at)?));
        Some(Device {
            kind: AcceleratorKind::Cuda,
            name: device_name(cell(Some(self.name)).unwrap_or_default(), "NVIDIA device"),
            memory_bytes: cell(self.total).and_then(parse_size),
            free_memory_bytes: cell(self.free).and_then(parse_size),
            driver: cell(self.driver).map(|version| device_name(&format!("nvidia {version}"), "")),
        })
    }
}

fn cells(line: &str) -> Vec<&str> {
    line.split(',').map(str::trim).collect()
}

/// `[N/A]`, `[Not Supported]`, `[Unknown Error]`, `N/A` and the like say that there is no value.
fn present<'a>(cell: &&'a str) -> Option<&'a str> {
    let none = cell.is_empty() || cell.starts_with('[') || cell.eq_ignore_ascii_case("n/a");
    (!none).then_some(*cell)
}

/// Parses `24576 MiB`. Without a unit it is MiB, which `--format=nounits` prints.
pub fn parse_size(cell: &str) -> Option<u64> {
    let mut words = cell.split_whitespace();
    let number: u64 = words.next()?.parse().ok()?;
    let unit = match words.next().unwrap_or("MiB") {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    match words.next() {
        None => number.checked_mul(unit),
        Some(_) => None,
    }
}

/// What the end of the command says: devices, certainly none, or nothing certain.
fn judge(output: &Output) -> Answer {
    let remark = first_line(&output.stderr).or_else(|| first_line(&output.stdout));
    let said = remark.unwrap_or_else(|| "nothing".to_owned());
    match parse(&output.stdout) {
        Some(listing) if !listing.devices.is_empty() => {
            let note = listing.remark.or_else(|| first_line(&output.stderr));
            let capability = Box::new(wire::accelerators(&listing.devices));
            let note = note.map(|note| format!("nvidia-smi also said: {note}"));
            Answer::Found { capability, note }
        }
        Some(Listing { remark: None, .. }) if output.succeeded() => {
            Answer::absent("nvidia-smi lists no device")
        }
        _ if means_none(&output.stdout) || means_none(&output.stderr) => {
            Answer::absent(format!("nvidia-smi said: {said}"))
        }
        _ => Answer::unknown(format!("nvidia-smi printed no device list; it said: {said}")),
    }
}

/// Sentences after which no program can use a device, whatever there was before.
fn means_none(text: &str) -> bool {
    const SENTENCES: [&str; 5] = [
        "No devices were found",
        "couldn't communicate with the NVIDIA driver",
        "Failed to initialize NVML",
        "GPU is lost",
        "couldn't find libnvidia-ml",
    ];
    SENTENCES.iter().any(|sentence| text.contains(sentence))
}

/// The NVIDIA devices of the machine.
pub struct NvidiaPart {
    sys: Sys,
}

impl NvidiaPart {
    /// The devices of `sys`.
    pub fn new(sys: Sys) -> Self {
        Self { sys }
    }
}

#[async_trait]
impl Part for NvidiaPart {
    fn name(&self) -> &'static str {
        "nvidia"
    }

    fn limit(&self) -> Duration {
        NVIDIA_SMI_LIMIT + PART_GRACE
    }

    async fn ask(&self) -> Answer {
        match self.sys.commands.run(&NVIDIA_SMI, NVIDIA_SMI_LIMIT).await {
            Ok(output) => judge(&output),
            Err(error @ CommandError::NotFound { .. }) => Answer::absent(error.to_string()),
            Err(error) => Answer::unknown(chain(&error)),
        }
    }
}
