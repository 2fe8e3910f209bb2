//! The rows about the scheduler and the simulator.

use std::hint::black_box;
use std::process::Command;

use anyhow::{Context, ensure};
use foreman_core::schedule::scheduler::decide_with;
use foreman_core::testkit::load::{self, fleet, full_fleet, modest, pass, picky, row, turns, wait};

use super::figures::{Growth, timed};
use super::report::{Row, per_second};
use crate::repo;

/// Seeds of the row about the simulator.
const SEEDS: &str = "200";
/// Samples of a latency.
const SAMPLES: usize = 1_000;
/// Nodes where their number does not matter.
const NODES: usize = 1_000;

/// Everything, in the order of the table.
pub(super) fn measure() -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    one_decision(&mut rows)?;
    drains(&mut rows)?;
    one_ends(&mut rows)?;
    heartbeats(&mut rows)?;
    rows.push(simulation()?);
    Ok(rows)
}

/// Every node is full or does not match, so every one of them refuses.
fn one_decision(rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let mut growth = Growth::new("p99 ≤ 0.5 ms");
    for nodes in [10, 100, 1_000, 10_000] {
        let (fleet, need) = (full_fleet(nodes), picky());
        let (mut refusals, mut samples) = (Vec::with_capacity(nodes), Vec::new());
        for _ in 0..SAMPLES {
            refusals.clear();
            let decide = || decide_with(fleet.snapshot(), &need, |one| refusals.push(one));
            let (decision, took) = timed(decide);
            black_box(decision);
            samples.push(took);
        }
        ensure!(refusals.iter().all(|one| !one.is_empty()), "a node of a full fleet took a task");
        rows.push(growth.samples(format!("one decision, {nodes} nodes, all refusals"), samples));
    }
    Ok(())
}

fn drains(rows: &mut Vec<Row>) -> anyhow::Result<()> {
    for (slots, work) in [(None, "room for all"), (Some(1), "one slot each")] {
        let mut growth = Growth::new("≥ 50 000/s at 10 000");
        for tasks in [10_usize, 1_000, 10_000, 100_000] {
            let mut fleet = fleet(NODES, slots.unwrap_or(tasks.div_ceil(NODES) * 2));
            wait(&mut fleet, &turns(tasks), &modest());
            let (placed, took) = timed(|| load::drain(&mut fleet));
            ensure!(placed == tasks, "{placed} of {tasks} tasks were placed");
            let rate = per_second(tasks, took);
            let work = format!("{tasks} tasks wait, {NODES} nodes, {work}");
            rows.push(growth.row(work, format!("{rate:.0} placements/s"), rate));
        }
    }
    Ok(())
}

/// One run ends at a time while many wait: one node is tried, not the fleet.
fn one_ends(rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let mut growth = Growth::new("");
    for tasks in [1_000, 10_000, 100_000] {
        let mut fleet = fleet(NODES, 1);
        wait(&mut fleet, &turns(tasks + NODES), &modest());
        let running = pass(&mut fleet);
        let mut samples = Vec::new();
        for uid in running.iter().rev() {
            let (placed, took) = timed(|| {
                fleet.let_go(uid);
                pass(&mut fleet)
            });
            ensure!(placed.len() == 1, "{} tasks took the place of one", placed.len());
            samples.push(took);
        }
        let work = format!("one of {NODES} runs ends while {tasks} wait: its successor");
        rows.push(growth.samples(work, samples));
    }
    Ok(())
}

fn heartbeats(rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let mut growth = Growth::new("");
    for nodes in [10, 1_000, 10_000] {
        let mut fleet = fleet(nodes, 1);
        wait(&mut fleet, &turns(10_000 + nodes), &modest());
        pass(&mut fleet);
        let mut samples = Vec::new();
        for number in 0..SAMPLES {
            let same = row(number % nodes, 1);
            let (news, took) = timed(|| (fleet.node_changed(same), pass(&mut fleet)));
            ensure!(!news.0 && news.1.is_empty(), "the same row was news");
            samples.push(took);
        }
        let work = format!("a heartbeat that changes nothing, {nodes} nodes, 10 000 wait");
        rows.push(growth.samples(work, samples));
    }
    Ok(())
}

fn simulation() -> anyhow::Result<Row> {
    let this = std::env::current_exe().context("cannot tell which program this is")?;
    let mut command = Command::new(this);
    command.args(["sim", "--start", "1", "--seeds", SEEDS, "--threads", "1"]);
    let said = repo::output(&mut command)?;
    let rate = said.lines().rev().find_map(|line| line.split_once(" fleet-hours a minute"));
    let (before, _) = rate.with_context(|| format!("`cargo xtask sim` said no rate: {said}"))?;
    let rate = before.rsplit(' ').next().unwrap_or_default();
    let work = format!("simulated fleet-hours a minute, seeds 1 to {SEEDS}, one core");
    Ok(Row::new(work, rate, "", "≥ 1 000"))
}
