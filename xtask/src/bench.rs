//! `cargo xtask bench`: measures the scheduler, the control loops, the simulator and the embedded store,
//! and writes docs/benchmarks.md.
//!
//! Absolute times drift between machines, so each figure also stands as a ratio to something measured
//! in the same run: mostly to the floor, one `fdatasync` after another on the same disk.

mod decisions;
mod figures;
mod loops;
mod machine;
mod other_process;
mod report;
mod store;
pub(crate) mod system;

use std::process::Command;

use anyhow::{Context, bail};

use crate::repo;

/// When set, the bench runs in the profile it was built in instead of starting itself in release.
const STAY: &str = "FOREMAN_BENCH_STAY";

/// Measures and prints one table; with `write` it becomes docs/benchmarks.md too.
pub(crate) fn run(write: bool) -> anyhow::Result<()> {
    if let Some(file) = std::env::var_os(other_process::FILE) {
        return other_process::serve(file.as_ref());
    }
    if let Ok(part) = std::env::var(loops::PART) {
        return loops::serve(&part);
    }
    if cfg!(debug_assertions) && std::env::var_os(STAY).is_none() {
        return in_release(write);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let rows = runtime.block_on(store::measure())?;
    let store = report::table(&rows);
    let mut core = decisions::measure()?;
    core.extend(loops::measure()?);
    let core = report::table(&core);
    repo::say(format_args!("{}\n\n{core}\n\n{store}", machine::summary()));
    if write {
        let path = repo::root().join("docs/benchmarks.md");
        std::fs::write(&path, report::page(&core, &store))
            .with_context(|| format!("cannot write {}", path.display()))?;
        repo::say(format_args!("wrote {}", path.display()));
    }
    Ok(())
}

/// Builds and runs this very command in release: figures of a debug build would mislead.
fn in_release(write: bool) -> anyhow::Result<()> {
    repo::say(format_args!("building in release; {STAY}=1 measures the debug build instead"));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["run", "--release", "--quiet", "-p", "xtask", "--", "bench"])
        .args((!write).then_some("--print-only"))
        .current_dir(repo::root())
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("the bench in release failed ({status})");
    }
    Ok(())
}
