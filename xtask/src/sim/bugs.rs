//! Seeded bugs: safety rules broken one at a time, to see that the simulator's checks notice.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use foreman_core::testkit::sim::{Less, Report, Scenario, simulate, simulate_unless};
use foreman_core::testkit::{Bug, with_bug};

use super::{Args, less, lock, tell};
use crate::bench::system;
use crate::repo;

/// Where the table stands, relative to the repository.
const PAGE: &str = "docs/src/concepts/seeded-bugs.md";

/// A seed that noticed.
struct Found {
    seed: u64,
    /// How many seeds were tried, with this one.
    tried: u64,
    report: Report,
    took: Duration,
}

/// `--bug NAME` and `--bugs`.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let less = less(args)?;
    if let Some(name) = &args.seeded.bug {
        let bug = Bug::ALL.iter().find(|bug| bug.told().0 == name);
        let Some(bug) = bug else {
            let names: Vec<_> = Bug::ALL.iter().map(|bug| bug.told().0).collect();
            bail!("there is no bug {name}; there are {}", names.join(", "));
        };
        return one(args, &less, *bug);
    }
    all(args, &less)
}

fn broken(bug: Bug, seed: u64, less: &Less, trace: bool, unwanted: &dyn Fn() -> bool) -> Report {
    with_bug(Some(bug), || simulate_unless(&less.of(Scenario::draw(seed)), trace, unwanted))
}

fn one(args: &Args, less: &Less, bug: Bug) -> anyhow::Result<()> {
    let (name, what) = bug.told();
    repo::say(format_args!("{name}: {what}"));
    if let Some(seed) = args.seed {
        let report = broken(bug, seed, less, args.trace, &|| false);
        for line in &report.trace {
            repo::say(format_args!("{line}"));
        }
        tell(&report);
        return Ok(());
    }
    let Some(found) = search(args, less, bug) else {
        bail!("no seed from {} to {} noticed", args.start, last(args));
    };
    tell(&found.report);
    repo::say(format_args!("found by seed {} after {} seeds", found.seed, found.tried));
    Ok(())
}

fn last(args: &Args) -> u64 {
    args.start.saturating_add(args.seeds).saturating_sub(1)
}

/// The first seed that breaks a promise of the bug with it, and is clean without it.
fn search(args: &Args, less: &Less, bug: Bug) -> Option<Found> {
    let began = Instant::now();
    let next = AtomicU64::new(args.start);
    let best = AtomicU64::new(args.start.saturating_add(args.seeds));
    let found: Mutex<Option<Found>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..args.threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= best.load(Ordering::Relaxed) {
                        return;
                    }
                    // A lower seed has noticed meanwhile: this one is not the first.
                    let beaten = || seed > best.load(Ordering::Relaxed);
                    let report = broken(bug, seed, less, false, &beaten);
                    let first = report.violations.first().map(|violation| violation.promise);
                    let noticed = first.is_some_and(|promise| bug.breaks().contains(&promise));
                    if !noticed || !simulate(&less.of(Scenario::draw(seed)), false).is_clean() {
                        continue;
                    }
                    let mut found = lock(&found);
                    if seed < best.fetch_min(seed, Ordering::Relaxed) {
                        let tried = seed - args.start + 1;
                        *found = Some(Found { seed, tried, report, took: began.elapsed() });
                    }
                }
            });
        }
    });
    found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn all(args: &Args, less: &Less) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        let found = search(args, less, *bug);
        if found.is_none() {
            missed.push(bug.told().0);
        }
        let row = row(*bug, found.as_ref());
        repo::say(format_args!("{row}"));
        rows.push(row);
    }
    if args.seeded.write {
        write_page(args, &rows)?;
    }
    if missed.is_empty() {
        return Ok(());
    }
    bail!("not noticed within {} seeds: {}", args.seeds, missed.join(", "))
}

fn row(bug: Bug, found: Option<&Found>) -> String {
    let (name, what) = bug.told();
    let Some(found) = found else { return format!("| `{name}` | {what} | – | not noticed | |") };
    let violation = found.report.violations.first();
    let caught = violation.map_or_else(String::new, |it| {
        let kept = it.what.split('\n').next().unwrap_or_default();
        match it.promise {
            0 => format!("machinery: {kept}"),
            13 => format!("policy: {kept}"),
            promise => format!("{promise}: {kept}"),
        }
    });
    let caught: String = caught.replace('|', "/").chars().take(140).collect();
    let (tried, seconds) = (found.tried, found.took.as_secs_f64());
    format!("| `{name}` | {what} | {tried} | {caught} | {seconds:.1} |")
}

fn write_page(args: &Args, rows: &[String]) -> anyhow::Result<()> {
    let now = system::now().to_string();
    let date = now.split('T').next().unwrap_or_default();
    let (start, seeds) = (args.start, args.seeds);
    let mut text = format!(
        "# Seeded bugs\n\n\
         A checker that finds nothing proves nothing. So safety rules of the core can be broken on \
         purpose, one\nat a time, in a build with the feature `seeded-bugs` that nothing else turns \
         on. Each row is one rule, how\nmany seeds the simulator needed until a promise was seen \
         broken (the same seed is clean without the bug),\nthe promise with what was seen, and the \
         seconds it took.\n\n\
         Written on {date} by\n\n\
         ```sh\n\
         cargo run --release -p xtask --features seeded-bugs -- sim --bugs --write --start {start} \
         --seeds {seeds}\n\
         ```\n\n\
         | bug | what is broken | seeds | caught by promise | seconds |\n\
         |---|---|---:|---|---:|\n"
    );
    for row in rows {
        writeln!(text, "{row}")?;
    }
    text.push_str(
        "\nOne of them, with its trace: `… -- sim --bug NAME --seed SEED --trace`. The promises are \
         numbered as in\n[What Foreman promises](promises.md).\n",
    );
    let path = repo::root().join(PAGE);
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}
