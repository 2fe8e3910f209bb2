//! Runs one scenario from its beginning to the silence after it, and says what was seen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::engine::{Executor, Halt, Instant, nanos};
use super::fleet::Fleet;
use super::logs;
use super::rest;
use super::scenario::Scenario;
use super::story::Mark;
use super::trace::Trace;
use super::truth::Violation;

/// How often the checks that look at the whole are made.
const LOOK: Duration = Duration::from_secs(20);
/// How long everything may take to end once faults have stopped.
pub const END_BOUND: Duration = Duration::from_hours(6);
/// How long nothing may be written once everything has ended.
pub const REST: Duration = Duration::from_mins(20);

/// What a simulation came to.
#[derive(Debug, Clone)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The promises that were broken, the first first.
    pub violations: Vec<Violation>,
    /// Of everything that happened: equal for equal scenarios.
    pub hash: u64,
    /// What happened, if it was kept.
    pub trace: Vec<String>,
    /// What a picture shows of it, if the trace was kept.
    pub marks: Vec<Mark>,
    /// How often each fault and each decision was exercised.
    pub counts: BTreeMap<&'static str, u64>,
    /// How long it took in virtual time.
    pub simulated: Duration,
    /// Changes that the store took.
    pub writes: u64,
    /// Polls of tasks.
    pub polls: u64,
}

impl Report {
    /// Whether every promise was kept.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }
}

/// Runs a scenario; with `keep_trace` its trace is remembered.
#[must_use]
pub fn simulate(scenario: &Scenario, keep_trace: bool) -> Report {
    simulate_unless(scenario, keep_trace, &|| false)
}

/// Runs a scenario until `unwanted` says that nobody wants to know what it comes to: then the report
/// is of what was seen so far.
#[must_use]
pub fn simulate_unless(
    scenario: &Scenario,
    keep_trace: bool,
    unwanted: &dyn Fn() -> bool,
) -> Report {
    let lines = logs::Lines { all: keep_trace };
    let dispatch = tracing::Dispatch::new(lines);
    tracing::dispatcher::with_default(&dispatch, || {
        drop(logs::take());
        Simulation::new(scenario, keep_trace, unwanted).run()
    })
}

struct Simulation<'a> {
    scenario: &'a Scenario,
    trace: Arc<Trace>,
    fleet: Arc<Fleet>,
    executor: Executor<'a>,
}

impl<'a> Simulation<'a> {
    fn new(scenario: &'a Scenario, keep_trace: bool, unwanted: &'a dyn Fn() -> bool) -> Self {
        let trace = Arc::new(Trace::new(keep_trace));
        let fleet = Fleet::new(scenario, &trace);
        let executor = Executor::new(fleet.engine.clone(), unwanted);
        Self { scenario, trace, fleet, executor }
    }

    fn run(mut self) -> Report {
        self.fleet.make_agents(self.scenario);
        for operator in &self.fleet.operators {
            self.fleet.start_operator(operator);
        }
        for node in self.fleet.machines() {
            self.fleet.start_agent(&node);
        }
        self.fleet.schedule(self.scenario);
        let faults_stop = nanos(self.scenario.horizon);
        if self.until(faults_stop, |_| false) {
            self.fleet.heal();
            let bound = faults_stop.saturating_add(nanos(END_BOUND));
            let ended = self.until(bound, |simulation| rest::all_ended(&simulation.fleet));
            if ended {
                rest::must_have_ended(&self.fleet);
                self.be_at_rest();
            }
        }
        self.report()
    }

    /// Nothing is written any more.
    fn be_at_rest(&mut self) {
        // What was decided before the last end may still be on its way.
        let now = self.fleet.engine.now();
        if !self.until(now + nanos(Duration::from_mins(2)), |_| false) {
            return;
        }
        let before = rest::AtRest::now(&self.fleet);
        let now = self.fleet.engine.now();
        if self.until(now + nanos(REST), |_| false) {
            before.must_hold(&self.fleet);
        }
    }

    /// Goes on until then, or until `done`; false when a promise was broken.
    fn until(&mut self, until: Instant, done: impl Fn(&Self) -> bool) -> bool {
        while self.fleet.engine.now() < until {
            let step = self.fleet.engine.now().saturating_add(nanos(LOOK)).min(until);
            let halt = self.executor.run(step);
            let now = self.fleet.engine.now();
            let truth = &self.fleet.net.truth;
            match halt {
                Halt::Reached | Halt::Idle => {}
                Halt::Panicked { machine, message } => {
                    let name = self.fleet.engine.machine(machine, |state| state.name.clone());
                    truth.broken(0, now, format!("{name} panicked: {message}"));
                }
                Halt::Spinning { machine } => {
                    let name = self.fleet.engine.machine(machine, |state| state.name.clone());
                    truth.broken(0, now, format!("{name} goes round and round"));
                }
                Halt::Restless { machine } => {
                    let name = self.fleet.engine.machine(machine, |state| state.name.clone());
                    truth.broken(0, now, format!("it never comes to rest; last went {name}"));
                }
                Halt::Unwanted => return false,
            }
            for (error, line) in logs::take() {
                let fault = line.contains("nothing is written") || line.contains("was refused");
                if error && fault {
                    truth.broken(0, now, format!("logged:{line}"));
                }
                self.trace.event(now, "log", &[], || format!("log{line}"));
            }
            rest::look(&self.fleet);
            if self.fleet.net.truth.is_broken() {
                return false;
            }
            if done(self) {
                return true;
            }
        }
        true
    }

    fn report(mut self) -> Report {
        let truth = &self.fleet.net.truth;
        let violations = truth.violations();
        for violation in &violations {
            self.trace.event(self.fleet.engine.now(), "broken", &[], || violation.to_string());
        }
        self.executor.end();
        self.fleet.net.forget_all();
        Report {
            seed: self.scenario.seed,
            violations,
            hash: self.trace.hash(),
            trace: self.trace.lines(),
            marks: self.trace.marks(),
            counts: self.fleet.counts.all(),
            simulated: Duration::from_nanos(self.fleet.engine.now()),
            writes: self.fleet.net.store.revision(),
            polls: self.executor.polls,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_a_simulation() {
        let scenario = Scenario::draw(2);
        let simulation = Simulation::new(&scenario, false, &|| false);
        let left = Arc::downgrade(&simulation.fleet);
        assert!(simulation.run().is_clean());
        assert_eq!(left.strong_count(), 0);
    }
}
