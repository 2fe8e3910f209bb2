//! Makes a failing scenario smaller while the same promise stays broken.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use foreman_core::testkit::sim::{
    Less, MISHAP_CLASSES, RATE_CLASSES, Report, Scenario, Timed, simulate,
};

/// The smallest scenario of that seed that still breaks the promise, and what it does.
pub(crate) fn shrink(seed: u64, from: &Less) -> (Less, Report) {
    let run = |less: &Less| simulate(&less.of(Scenario::draw(seed)), false);
    let mut best = (from.clone(), run(from));
    let promise = best.1.violations.first().map(|violation| violation.promise);
    let mut attempt = |best: &mut (Less, Report), less: Less| {
        let report = run(&less);
        let fails = report.violations.first().map(|violation| violation.promise) == promise;
        if promise.is_some() && fails {
            *best = (less, report);
        }
    };
    for class in RATE_CLASSES.iter().chain(&MISHAP_CLASSES).chain(&["drift"]) {
        let mut less = best.0.clone();
        less.without.insert((*class).to_owned());
        attempt(&mut best, less);
    }
    let whole = Scenario::draw(seed);
    for operators in 1..whole.operators {
        let less = Less { operators: Some(operators), ..best.0.clone() };
        attempt(&mut best, less);
    }
    for nodes in 1..whole.nodes.len() {
        let less = Less { nodes: Some(nodes), ..best.0.clone() };
        attempt(&mut best, less);
    }
    fewer(&mut best, &whole.mishaps, |less| &mut less.only_mishaps, &mut attempt);
    fewer(&mut best, &whole.acts, |less| &mut less.only_acts, &mut attempt);
    fewer(&mut best, &whole.work, |less| &mut less.only_work, &mut attempt);
    let mut horizon = whole.horizon.as_secs();
    while horizon > 30 {
        horizon = horizon * 2 / 3;
        let less = Less { horizon: Some(horizon), ..best.0.clone() };
        attempt(&mut best, less);
    }
    best
}

/// Leaves out what can be left out: halves first, then one by one.
fn fewer<T>(
    best: &mut (Less, Report),
    all: &[Timed<T>],
    part: impl Fn(&mut Less) -> &mut Option<BTreeSet<usize>>,
    attempt: &mut impl FnMut(&mut (Less, Report), Less),
) {
    let mut size = all.len().max(1);
    while size > 0 {
        let mut less = best.0.clone();
        let kept: Vec<usize> = match part(&mut less) {
            Some(kept) => kept.iter().copied().collect(),
            None => all.iter().map(|timed| timed.number).collect(),
        };
        for out in kept.chunks(size) {
            let mut less = best.0.clone();
            let slot = part(&mut less);
            let now: BTreeSet<usize> = match slot {
                Some(now) => now.clone(),
                None => all.iter().map(|timed| timed.number).collect(),
            };
            *slot = Some(now.into_iter().filter(|number| !out.contains(number)).collect());
            attempt(best, less);
        }
        size /= 2;
    }
}

/// What is left out, as the command line says it.
pub(crate) fn flags(less: &Less) -> String {
    let mut text = String::new();
    let list = |numbers: &BTreeSet<usize>| {
        if numbers.is_empty() {
            return "none".to_owned();
        }
        numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    };
    if !less.without.is_empty() {
        let classes: Vec<_> = less.without.iter().cloned().collect();
        write!(text, " --without {}", classes.join(",")).unwrap_or_default();
    }
    for (flag, numbers) in
        [("work", &less.only_work), ("acts", &less.only_acts), ("mishaps", &less.only_mishaps)]
    {
        if let Some(numbers) = numbers {
            write!(text, " --{flag} {}", list(numbers)).unwrap_or_default();
        }
    }
    for (flag, number) in [
        ("nodes", less.nodes.map(|n| n as u64)),
        ("operators", less.operators.map(|n| n as u64)),
        ("horizon", less.horizon),
    ] {
        if let Some(number) = number {
            write!(text, " --{flag} {number}").unwrap_or_default();
        }
    }
    text
}
