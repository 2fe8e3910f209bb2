//! The table, and the page around it.

use std::time::Duration;

use super::machine;

/// One measurement.
pub(super) struct Row {
    pub(super) work: String,
    pub(super) measured: String,
    /// Against what it is held in the same run.
    pub(super) ratio: String,
    pub(super) target: &'static str,
}

impl Row {
    pub(super) fn new(
        work: impl Into<String>,
        measured: impl Into<String>,
        ratio: impl Into<String>,
        target: &'static str,
    ) -> Self {
        Self { work: work.into(), measured: measured.into(), ratio: ratio.into(), target }
    }
}

/// Things a second, for a table.
pub(super) fn rate(count: usize, took: Duration) -> String {
    format!("{:.0}/s", per_second(count, took))
}

pub(super) fn per_second(count: usize, took: Duration) -> f64 {
    let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    count / took.as_secs_f64().max(f64::EPSILON)
}

/// A duration with the unit that suits it.
pub(super) fn time(took: Duration) -> String {
    match took.as_micros() {
        0..1_000 => format!("{} µs", took.as_micros()),
        1_000..1_000_000 => format!("{:.1} ms", took.as_secs_f64() * 1_000.0),
        _ => format!("{:.2} s", took.as_secs_f64()),
    }
}

/// The median and the 99th percentile.
pub(super) fn percentiles(mut samples: Vec<Duration>) -> String {
    samples.sort_unstable();
    let at = |percent: usize| {
        let index = samples.len().saturating_sub(1) * percent / 100;
        samples.get(index).copied().unwrap_or_default()
    };
    format!("p50 {}, p99 {}", time(at(50)), time(at(99)))
}

/// The rows as a Markdown table, aligned so that it reads in a terminal too.
pub(super) fn table(rows: &[Row]) -> String {
    let head = ["Work", "Measured", "Against the same run", "Target"].map(str::to_owned);
    let mut lines = vec![head];
    lines.extend(rows.iter().map(|row| {
        [row.work.clone(), row.measured.clone(), row.ratio.clone(), row.target.to_owned()]
    }));
    let mut widths = [0_usize; 4];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let text = |line: &[String; 4]| {
        let cells: Vec<String> =
            line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("| {} |", cells.join(" | "))
    };
    let rule = format!("|{}|", widths.map(|width| "-".repeat(width + 2)).join("|"));
    let mut out: Vec<String> = lines.iter().map(text).collect();
    out.insert(1, rule);
    out.join("\n")
}

/// docs/benchmarks.md.
pub(super) fn page(core: &str, store: &str) -> String {
    format!(
        "# Benchmarks

Written by `cargo xtask bench`; do not edit. Absolute times drift between machines and with
what else runs there; the third column compares with something measured in the same run. The floor is
one `fdatasync` after another on a file beside the store.

```
{}
```

## The scheduler, the control loops and the simulator

Without a store: the loops run on one that tells them a world and holds none of it.
`cargo bench -p foreman-core --bench decide` compares the same workloads from run to run (criterion).

{core}

In the profile of the drain (1000 nodes, up to 100 000 tasks) a quarter of the time goes into looking at
every node for each task, a sixth into the score of the nodes that fit, and a fifth into comparing uids
and names in sorted maps: the price of the same order in every run. A pass of the loops looks at every
node and every claim. What the loops keep is whole objects, also of tasks that have ended.

## The embedded store (SQLite, WAL, `synchronous=FULL`)

{store}

A placement is a compare-and-swap patch of a task's status, as the scheduler makes it: phase, node,
allowance, `waiting` cleared. It counts when it is on the disk. \"Across processes\" is from the moment
the other process has its acknowledgement to the event here; its way back through a pipe is taken off
neither side.
",
        machine::summary()
    )
}
