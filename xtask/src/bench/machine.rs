//! What a figure was measured on.

use std::process::Command;

use super::system;

/// Machine, versions, profile and date, one a line.
pub(super) fn summary() -> String {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    [
        format!("date: {}", system::now()),
        format!("machine: {}, {} cores", cpu(), cores()),
        format!("kernel: {}", kernel()),
        format!(
            "foreman {}, {profile} build; SQLite {}; {}",
            env!("CARGO_PKG_VERSION"),
            foreman_sqlite::sqlite_version(),
            rustc()
        ),
    ]
    .join("\n")
}

fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_owned());
    model.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    match release.trim() {
        "" => std::env::consts::OS.to_owned(),
        release => format!("{} {release}", std::env::consts::OS),
    }
}

fn rustc() -> String {
    let output = Command::new("rustc").arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|_| "rustc of unknown version".to_owned())
}
