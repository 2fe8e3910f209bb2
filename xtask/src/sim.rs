//! `cargo xtask sim`: runs seeds of the simulator, replays one, shrinks one that fails.

#[cfg(feature = "seeded-bugs")]
mod bugs;
mod picture;
mod shrink;
mod story;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use foreman_core::testkit::sim::{Less, Report, Scenario, simulate};

use crate::repo;

/// What `cargo xtask sim` is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The first seed.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    start: u64,
    /// How many seeds.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    seeds: u64,
    /// How many threads run them.
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// Replay this one seed.
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// Print what happened, line by line.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Draw what happened into this SVG file.
    #[arg(long, requires = "seed", value_name = "FILE")]
    picture: Option<PathBuf>,
    /// Go on after a seed that fails, and list all of them.
    #[arg(long)]
    keep_going: bool,
    /// Leave a class of faults out, e.g. `crash` (several: separated by commas).
    #[arg(long, value_name = "CLASS", value_delimiter = ',')]
    without: Vec<String>,
    /// Only these pieces of the seed's work, by number.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    work: Option<Vec<String>>,
    /// Only these acts of people, by number; `none` for none.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    acts: Option<Vec<String>>,
    /// Only these mishaps, by number; `none` for none.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    mishaps: Option<Vec<String>>,
    /// Only so many of its nodes.
    #[arg(long, value_name = "N")]
    nodes: Option<usize>,
    /// Only so many of its control loops.
    #[arg(long, value_name = "N")]
    operators: Option<usize>,
    /// Faults stop after so many simulated seconds.
    #[arg(long, value_name = "SECONDS")]
    horizon: Option<u64>,
    #[command(flatten)]
    seeded: Seeded,
}

/// Safety rules that are broken on purpose.
#[derive(Debug, clap::Args)]
struct Seeded {
    /// Break one safety rule on purpose and look for the first seed that notices.
    ///
    /// Needs a build with the rules that can be broken: `cargo run --release -p xtask --features
    /// seeded-bugs -- sim --bug NAME`.
    #[arg(long, value_name = "NAME")]
    bug: Option<String>,
    /// Break every safety rule in turn, each until a seed notices; fail when one is not noticed.
    #[arg(long)]
    bugs: bool,
    /// With `--bugs`: write the table to docs/src/concepts/seeded-bugs.md.
    #[arg(long, requires = "bugs")]
    write: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.seeded.bugs || args.seeded.bug.is_some() {
        return seeded(args);
    }
    match args.seed {
        Some(seed) => replay(seed, &less(args)?, args.trace, args.picture.as_deref()),
        None => many(args),
    }
}

#[cfg(feature = "seeded-bugs")]
fn seeded(args: &Args) -> anyhow::Result<()> {
    bugs::run(args)
}

#[cfg(not(feature = "seeded-bugs"))]
fn seeded(args: &Args) -> anyhow::Result<()> {
    let what = match &args.seeded.bug {
        Some(name) => format!("--bug {name}"),
        None if args.seeded.write => "--bugs --write".to_owned(),
        None => "--bugs".to_owned(),
    };
    bail!(
        "this build has no rules that can be broken: \
         cargo run --release -p xtask --features seeded-bugs -- sim {what}"
    )
}

fn numbers(given: Option<&Vec<String>>) -> anyhow::Result<Option<BTreeSet<usize>>> {
    let Some(given) = given else { return Ok(None) };
    let given = given.iter().filter(|word| *word != "none");
    Ok(Some(given.map(|word| word.parse()).collect::<Result<_, _>>()?))
}

fn less(args: &Args) -> anyhow::Result<Less> {
    Ok(Less {
        without: args.without.iter().cloned().collect(),
        only_work: numbers(args.work.as_ref())?,
        only_acts: numbers(args.acts.as_ref())?,
        only_mishaps: numbers(args.mishaps.as_ref())?,
        nodes: args.nodes,
        operators: args.operators,
        horizon: args.horizon,
    })
}

fn replay(seed: u64, less: &Less, trace: bool, picture: Option<&Path>) -> anyhow::Result<()> {
    let scenario = less.of(Scenario::draw(seed));
    if trace {
        repo::say(format_args!("{scenario:#?}"));
    }
    let report = simulate(&scenario, trace || picture.is_some());
    for line in report.trace.iter().filter(|_| trace) {
        repo::say(format_args!("{line}"));
    }
    if let Some(file) = picture {
        std::fs::write(file, picture::draw(&scenario, &report.marks))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    tell(&report);
    if !report.is_clean() {
        bail!("seed {seed} breaks a promise");
    }
    Ok(())
}

fn tell(report: &Report) {
    for violation in &report.violations {
        repo::say(format_args!("{violation}"));
    }
    repo::say(format_args!(
        "seed {}: {:.1} simulated hours, {} writes, {} polls, trace hash {:016x}",
        report.seed,
        report.simulated.as_secs_f64() / 3600.0,
        report.writes,
        report.polls,
        report.hash
    ));
}

#[derive(Default)]
struct Sum {
    counts: BTreeMap<&'static str, u64>,
    simulated: Duration,
    writes: u64,
    failed: Vec<Report>,
}

impl Sum {
    fn add(&mut self, report: Report) {
        for (what, times) in &report.counts {
            *self.counts.entry(what).or_default() += times;
        }
        self.simulated += report.simulated;
        self.writes += report.writes;
        if !report.is_clean() {
            self.failed.push(report);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn many(args: &Args) -> anyhow::Result<()> {
    let less = less(args)?;
    let began = Instant::now();
    let next = AtomicU64::new(args.start);
    let end = args.start.saturating_add(args.seeds);
    let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let sum = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for _ in 0..args.threads.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let report = simulate(&less.of(Scenario::draw(seed)), false);
                    let clean = report.is_clean();
                    if let Some(violation) = report.violations.first() {
                        repo::complain(format_args!("seed {seed}: {violation}"));
                    }
                    lock(&sum).add(report);
                    done.fetch_add(1, Ordering::Relaxed);
                    if !clean && !args.keep_going {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
        let mut told = Instant::now();
        while done.load(Ordering::Relaxed) < args.seeds && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
            if told.elapsed() >= Duration::from_secs(1) {
                told = Instant::now();
                progress(&lock(&sum), done.load(Ordering::Relaxed), args.seeds, began.elapsed());
            }
        }
    });
    let mut sum = sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    sum.failed.sort_by_key(|report| report.seed);
    summary(&sum, done.load(Ordering::Relaxed), began.elapsed());
    finish(args, &less, &sum)
}

fn hours_per_minute(sum: &Sum, took: Duration) -> f64 {
    sum.simulated.as_secs_f64() / 3600.0 / (took.as_secs_f64() / 60.0).max(1e-9)
}

fn progress(sum: &Sum, done: u64, of: u64, took: Duration) {
    repo::complain(format_args!(
        "{done}/{of} seeds, {} failed, {:.0} fleet-hours a minute",
        sum.failed.len(),
        hours_per_minute(sum, took)
    ));
}

fn summary(sum: &Sum, done: u64, took: Duration) {
    repo::say(format_args!("what was tried:"));
    for (what, times) in &sum.counts {
        repo::say(format_args!("  {what:<34} {times:>10}"));
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let per_second = done as f64 / took.as_secs_f64().max(1e-9);
    repo::say(format_args!(
        "{done} seeds in {:.1} s: {per_second:.1} seeds/s, {:.0} fleet-hours a minute, {} writes, {} failed",
        took.as_secs_f64(),
        hours_per_minute(sum, took),
        sum.writes,
        sum.failed.len()
    ));
}

fn finish(args: &Args, less: &Less, sum: &Sum) -> anyhow::Result<()> {
    let Some(first) = sum.failed.first() else { return Ok(()) };
    for report in &sum.failed {
        let violation = report.violations.first().map(ToString::to_string);
        repo::say(format_args!("seed {}: {}", report.seed, violation.unwrap_or_default()));
    }
    if !args.keep_going {
        repo::say(format_args!("shrinking seed {} …", first.seed));
        let (smaller, report) = shrink::shrink(first.seed, less);
        tell(&report);
        repo::say(format_args!(
            "replay it: cargo xtask sim --seed {}{} --trace",
            first.seed,
            shrink::flags(&smaller)
        ));
    }
    bail!("{} of the seeds break a promise", sum.failed.len())
}
