//! Memory of a Mac, from the text of `sysctl` and `vm_stat`.

use std::time::Duration;

use async_trait::async_trait;

use crate::command::CommandLine;
use crate::limits::{PART_GRACE, SYSCTL_LIMIT};
use crate::part::{Answer, Part};
use crate::sys::Sys;
use crate::text::{chain, first_line};
use crate::wire;

const MEMSIZE: CommandLine =
    CommandLine { programs: &["/usr/sbin/sysctl"], args: &["-n", "hw.memsize"] };
const VM_STAT: CommandLine = CommandLine { programs: &["/usr/bin/vm_stat"], args: &[] };

/// The page size assumed when the header of `vm_stat` names none, as the existing system does.
const DEFAULT_PAGE_BYTES: u64 = 16384;

/// What `vm_stat` counts as available: memory that is free, or given back without writing.
const AVAILABLE_LINES: [&str; 4] =
    ["Pages free", "Pages inactive", "Pages speculative", "Pages purgeable"];

/// Parses `sysctl -n hw.memsize`: one number of bytes.
pub fn parse_memsize(text: &str) -> Result<u64, String> {
    let bytes = text.trim().parse().ok().filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| {
        let line = first_line(text).unwrap_or_else(|| "nothing".to_owned());
        format!("sysctl printed {line:?} for hw.memsize, not a number of bytes")
    })
}

/// Parses `vm_stat`: (free + inactive + speculative + purgeable) × the page size of the header.
///
/// A text that lacks one of the four lines, or has one without a number, is refused: a sum of the
/// rest would look like a machine under pressure.
pub fn parse_vm_stat(text: &str) -> Result<u64, String> {
    let mut pages: u64 = 0;
    for name in AVAILABLE_LINES {
        let value = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
        let value = value.ok_or_else(|| format!("vm_stat printed no line {name:?}"))?;
        let number = value.trim().trim_end_matches('.').parse::<u64>();
        let number = number.map_err(|_| format!("vm_stat printed no number after {name:?}"))?;
        pages = pages.saturating_add(number);
    }
    Ok(pages.saturating_mul(page_bytes(text)))
}

fn page_bytes(text: &str) -> u64 {
    let size = text.split_once("(page size of ").and_then(|(_, rest)| rest.split_once(" bytes)"));
    let size = size.and_then(|(number, _)| number.trim().parse().ok());
    size.filter(|size| *size > 0).unwrap_or(DEFAULT_PAGE_BYTES)
}

async fn ask(sys: &Sys, line: &CommandLine) -> Result<String, String> {
    let output = sys.commands.run(line, SYSCTL_LIMIT).await.map_err(|error| chain(&error))?;
    if output.succeeded() {
        return Ok(output.stdout);
    }
    let said = first_line(&output.stderr).unwrap_or_else(|| "nothing".to_owned());
    Err(format!("{} failed and said {said:?}", line.name()))
}

/// The built-in memory of a Mac.
pub struct TotalMemoryPart {
    sys: Sys,
}

impl TotalMemoryPart {
    /// The memory of `sys`.
    pub fn new(sys: Sys) -> Self {
        Self { sys }
    }
}

#[async_trait]
impl Part for TotalMemoryPart {
    fn name(&self) -> &'static str {
        "memory-total"
    }

    fn limit(&self) -> Duration {
        SYSCTL_LIMIT + PART_GRACE
    }

    async fn ask(&self) -> Answer {
        match ask(&self.sys, &MEMSIZE).await.and_then(|text| parse_memsize(&text)) {
            Ok(bytes) => Answer::found(wire::total_memory(bytes)),
            Err(reason) => Answer::unknown(reason),
        }
    }
}

/// The memory of a Mac that a new process could get. A part of its own, so that a `vm_stat` that
/// hangs does not cost the total.
pub struct AvailableMemoryPart {
    sys: Sys,
}

impl AvailableMemoryPart {
    /// The memory of `sys`.
    pub fn new(sys: Sys) -> Self {
        Self { sys }
    }
}

#[async_trait]
impl Part for AvailableMemoryPart {
    fn name(&self) -> &'static str {
        "memory-available"
    }

    fn limit(&self) -> Duration {
        SYSCTL_LIMIT + PART_GRACE
    }

    async fn ask(&self) -> Answer {
        match ask(&self.sys, &VM_STAT).await.and_then(|text| parse_vm_stat(&text)) {
            Ok(bytes) => Answer::found(wire::available_memory(bytes)),
            Err(reason) => Answer::unknown(reason),
        }
    }
}
