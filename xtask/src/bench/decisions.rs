//! The rows about the scheduler and the simulator: each is measured by a process of its own.

use std::process::Command;

use anyhow::{Context, bail};

use super::report::Row;
use crate::repo;

/// Seeds of the row about the simulator.
const SEEDS: &str = "200";

/// Everything, in the order of the table.
pub(super) fn measure() -> anyhow::Result<Vec<Row>> {
    let said =
        output(cargo().args(["bench", "--quiet", "-p", "foreman-core", "--bench", "decide"]))?;
    let mut rows = rows(&said);
    if rows.is_empty() {
        bail!("the bench `decide` of foreman-core printed no row: {said}");
    }
    rows.push(simulation()?);
    Ok(rows)
}

fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(repo::root());
    cargo
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let done = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !done.status.success() {
        let why = String::from_utf8_lossy(&done.stderr);
        bail!("{command:?} failed ({}): {why}", done.status);
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Lines `what: figures`; each is held against the first of those that differ in numbers only.
fn rows(said: &str) -> Vec<Row> {
    let mut first: Vec<(String, f64)> = Vec::new();
    let lines = said.lines().filter_map(|line| line.rsplit_once(": "));
    lines
        .filter_map(|(work, measured)| {
            let figure = measured.split([' ', ',']).find_map(figure)?;
            let group: String = work.chars().filter(|letter| !letter.is_ascii_digit()).collect();
            let before = first.iter().find(|(known, _)| *known == group).map(|(_, figure)| *figure);
            let ratio = match before {
                Some(before) => format!("{:.2} × the first of its kind", figure / before),
                None => "1 ×".to_owned(),
            };
            if before.is_none() {
                first.push((group, figure));
            }
            Some(Row::new(work, measured, ratio, target(work)))
        })
        .collect()
}

fn target(work: &str) -> &'static str {
    if work.starts_with("one decision") {
        "p99 ≤ 0.5 ms"
    } else if work.contains("tasks wait, ") {
        "≥ 50 000/s"
    } else {
        ""
    }
}

/// A count, or a duration in seconds.
fn figure(word: &str) -> Option<f64> {
    let units = [("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("", 1.0)];
    units.into_iter().find_map(|(unit, worth)| {
        let number: f64 = word.strip_suffix(unit)?.parse().ok()?;
        Some(number * worth)
    })
}

fn simulation() -> anyhow::Result<Row> {
    let this = std::env::current_exe().context("cannot tell which program this is")?;
    let said = output(Command::new(this).args(["sim", "--start", "1", "--seeds", SEEDS]))?;
    let rate = said.lines().rev().find_map(|line| line.split_once(" fleet-hours a minute"));
    let (before, _) = rate.with_context(|| format!("`cargo xtask sim` said no rate: {said}"))?;
    let rate = before.rsplit(' ').next().unwrap_or_default();
    let work = format!("simulated fleet-hours a minute, seeds 1 to {SEEDS}, one core");
    Ok(Row::new(work, rate, "", "≥ 1 000"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_a_row_held_against_the_first_of_its_kind() {
        let rows = rows(
            "one decision, 10 nodes: p50 500ns, p99 1µs\none decision, 100 nodes: p50 2µs, p99 3µs\n\
             \n10 tasks wait, 1000 nodes, room: 51127 placements/s (195.592µs)\nnothing here",
        );
        let shown: Vec<_> = rows.iter().map(|row| (row.ratio.as_str(), row.target)).collect();
        assert_eq!(
            shown,
            [
                ("1 ×", "p99 ≤ 0.5 ms"),
                ("4.00 × the first of its kind", "p99 ≤ 0.5 ms"),
                ("1 ×", "≥ 50 000/s")
            ]
        );
    }
}
