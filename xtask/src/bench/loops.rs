//! The rows about the control loops: the real ones, on a store that tells a world without holding it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};
use foreman_core::testkit::load::{FREE_GB, Size, World, full_fleet, picky};

use super::figures::{Growth, timed};
use super::report::Row;
use crate::repo;

/// Set in a process of its own: what it is to do.
pub(super) const PART: &str = "FOREMAN_BENCH_PART";
/// The large world of the targets.
const LARGE: Size = Size { nodes: 1_000, live: 10_000, ended: 100_000 };
/// Samples of a pass.
const SAMPLES: usize = 200;
/// Decisions that are counted: the difference of the two is free of start and end.
const DECISIONS: [usize; 2] = [100, 300];

/// Everything, in the order of the table.
pub(super) fn measure() -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    large(&mut rows)?;
    growth(&mut rows)?;
    rows.push(memory()?);
    instructions(&mut rows)?;
    Ok(rows)
}

fn large(rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let mut world = World::new(LARGE);
    let (writes, took) = timed(|| world.run());
    ensure!(writes == 0, "{writes} writes in a world where all is as it should be");
    let size = "1000 nodes, 10 000 live, 100 000 ended";
    rows.push(Growth::new("").duration(format!("first reading and first pass, {size}"), took));
    world.rest();
    let work = format!("a pass, one node's free memory changed, {size}");
    rows.push(Growth::new("").samples(work, passes(&mut world, LARGE.nodes)?));
    let mut samples = Vec::new();
    for number in 0..SAMPLES {
        world.run_ends(number);
        let (writes, took) = timed(|| world.run());
        ensure!(writes > 0, "nobody came in when run {number} ended");
        samples.push(took);
        world.rest();
        (0..LARGE.nodes).for_each(|node| world.beats(node, FREE_GB));
        world.rest();
    }
    let work = format!("one run ends: all that the loops do until they rest, {size}");
    rows.push(Growth::new("CPU a task ≤ 2 ms").samples(work, samples));
    Ok(())
}

/// Passes that have one changed node to look at, and nothing to write.
fn passes(world: &mut World, nodes: usize) -> anyhow::Result<Vec<std::time::Duration>> {
    let mut samples = Vec::new();
    for number in 0..SAMPLES {
        let free_gb = FREE_GB - 1 - i32::try_from(number / nodes % 2)?;
        world.beats(number % nodes, free_gb);
        let (writes, took) = timed(|| world.run());
        ensure!(writes == 0, "{writes} writes because a node has less memory free");
        samples.push(took);
    }
    Ok(samples)
}

fn growth(rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let mut by_nodes = Growth::new("");
    for nodes in [10, 100, 1_000, 10_000] {
        let mut world = World::new(Size { nodes, live: nodes * 2, ended: 0 });
        world.rest();
        let work = format!("a pass, one node changed, {nodes} nodes, as many wait");
        rows.push(by_nodes.samples(work, passes(&mut world, nodes)?));
    }
    let mut by_tasks = Growth::new("");
    for waiting in [10, 1_000, 10_000, 100_000] {
        let mut world = World::new(Size { nodes: 100, live: 100 + waiting, ended: 0 });
        world.rest();
        let work = format!("a pass, one node changed, 100 nodes, {waiting} wait");
        rows.push(by_tasks.samples(work, passes(&mut world, 100)?));
    }
    Ok(())
}

/// What a process of its own does.
pub(super) fn serve(part: &str) -> anyhow::Result<()> {
    let Some(count) = part.strip_prefix("decide ") else {
        let before = resident_kib()?;
        let mut world = World::new(LARGE);
        world.rest();
        repo::say(format_args!("{before} {}", resident_kib()?));
        return Ok(());
    };
    let (nodes, count) = count.split_once(' ').context("a part without a count")?;
    let (fleet, need) = (full_fleet(nodes.parse()?), picky());
    let count: usize = count.parse()?;
    let refused: u32 = (0..count).map(|_| fleet.decide(&need).counts().total()).sum();
    repo::say(format_args!("{refused}"));
    Ok(())
}

fn resident_kib() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let words = line.context("/proc/self/status names no VmRSS")?;
    words.split_whitespace().next().context("VmRSS is empty")?.parse().context("VmRSS is odd")
}

fn memory() -> anyhow::Result<Row> {
    let work = "resident memory of the loops, 1000 nodes, 10 000 live, 100 000 ended";
    if !Path::new("/proc/self/status").exists() {
        return Ok(Row::new(work, "not measured: no /proc", "", "≤ 64 MiB"));
    }
    let this = std::env::current_exe().context("cannot tell which program this is")?;
    let said = repo::output(Command::new(this).arg("bench").env(PART, "memory"))?;
    let (before, after) = said.trim().split_once(' ').context("no two figures of memory")?;
    let (before, after): (u64, u64) = (before.parse()?, after.parse()?);
    let grown = after.saturating_sub(before);
    let tasks = u64::try_from(LARGE.live + LARGE.ended)?;
    let measured = format!("{} MiB, {} of them the program", after / 1024, before / 1024);
    let each = format!(
        "{:.1} KiB a task",
        f64::from(u32::try_from(grown)?) / f64::from(u32::try_from(tasks)?)
    );
    Ok(Row::new(work, measured, each, "≤ 64 MiB"))
}

/// Instructions of the hot decision: they do not drift with what else runs on the machine.
fn instructions(rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let is_there = Command::new("valgrind").arg("--version").output().is_ok();
    let mut growth = Growth::new("");
    for nodes in [10, 100, 1_000, 10_000] {
        let work = format!("instructions of one decision, {nodes} nodes refuse");
        if !is_there {
            rows.push(Row::new(work, "not measured: no valgrind", "", ""));
            continue;
        }
        let [few, many] = DECISIONS;
        let more = instructions_of(nodes, many)?.saturating_sub(instructions_of(nodes, few)?);
        let each = more / u64::try_from(many - few)?;
        let figure = f64::from(u32::try_from(each)?);
        let per_node = figure / f64::from(u32::try_from(nodes)?);
        rows.push(growth.row(work, format!("{each} ({per_node:.0} a node)"), figure));
    }
    Ok(())
}

fn instructions_of(nodes: usize, decisions: usize) -> anyhow::Result<u64> {
    let this = std::env::current_exe().context("cannot tell which program this is")?;
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(this)
        .arg("bench")
        .env(PART, format!("decide {nodes} {decisions}"));
    let done = valgrind.output().context("cannot run valgrind")?;
    let said = String::from_utf8_lossy(&done.stderr);
    let Some(line) = said.lines().find(|line| line.contains("refs:")) else {
        bail!("valgrind counted no instructions: {said}");
    };
    let digits: String = line.rsplit(':').next().unwrap_or_default().replace(',', "");
    digits.trim().parse().with_context(|| format!("valgrind said {line}"))
}
