//! Intake: what stands between a task and its placement.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::bugs::{self, Bug};
use crate::model::agent::{Agent, ExecutionMode};
use crate::model::agentic_task::{AgenticTask, TaskKind, TaskPhase, WaitingReason};
use crate::model::ids::Key;
use crate::model::object::Object;
use crate::model::open::Open;
use crate::model::outcome::{
    Decision, FailureReason, Infrastructure, Outcome, OutcomeReason, Verdict, Verification,
    on_target,
};
use crate::model::shared::LocalObjectReference;
use crate::model::time::WallTime;
use crate::timing::{AGENT_MISSING_MAX, DEPENDENCY_MISSING_MAX};

use super::budget::{self, Ledger};
use super::retry::{self, Counted};
use super::writes::OperatorEnd;

/// What the rest of the world says about a task.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    /// All tasks.
    pub(crate) tasks: &'a BTreeMap<Key, Object<AgenticTask>>,
    /// All Agents.
    pub(crate) agents: &'a BTreeMap<Key, Object<Agent>>,
    /// Tasks and Agents that are there and cannot be read: not missing, but unknown.
    pub(crate) unreadable: [&'a BTreeSet<Key>; 2],
    /// Now, for records.
    pub(crate) now: WallTime,
    /// The budget that the task shares; absent when no Workload owns it.
    pub(crate) shared: Option<Shared<'a>>,
}

/// What a task's Workload leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shared<'a> {
    /// The Workload's name.
    pub(crate) workload: &'a str,
    /// What became of its budget; absent = it has none.
    pub(crate) ledger: Option<&'a Ledger>,
    /// What the task's last placement might bring it to, as far as known.
    pub(crate) tried: Option<i64>,
}

impl Shared<'_> {
    /// Whether a placement might bring the task further than the last one.
    fn is_more(self, task: &Object<AgenticTask>) -> bool {
        let share = self.ledger.and_then(|ledger| ledger.share_of(task));
        self.tried.is_none_or(|tried| budget::ceiling(task, share) > tried)
    }

    /// What the Workload says to a task that it leaves too little; absent when it is the task's own
    /// limit that stops it.
    fn too_little(self, task: &Object<AgenticTask>) -> Option<String> {
        let ledger = self.ledger?;
        let share = ledger.share_of(task)?;
        let own = budget::allowance(task, Some(i64::MAX));
        (own > Some(share)).then(|| ledger.too_little(self.workload))
    }
}

/// What is to be done with a task that no node holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// It ends here.
    End(OperatorEnd),
    /// It waits; `until` is when to look again although nothing changed.
    Wait { reason: WaitingReason, message: String, until: Option<Duration> },
    /// Claims of it were lost that nobody counted yet: that is written before anything else.
    Strike(Counted),
    /// It may be placed.
    Place,
}

/// The Agent that a task names.
pub(crate) fn agent_of<'a>(
    task: &Object<AgenticTask>,
    agents: &'a BTreeMap<Key, Object<Agent>>,
) -> Option<&'a Object<Agent>> {
    let name = task.spec.agent_ref.as_ref().and_then(LocalObjectReference::named)?;
    agents.get(&Key { namespace: task.meta.namespace.clone(), name: name.to_owned() })
}

/// What is to be done with a task that is new or Pending.
pub(crate) fn next(task: &Object<AgenticTask>, facts: Facts<'_>) -> Step {
    if task.spec.cancel == Some(true) {
        return Step::End(cancelled("cancelled before it ran"));
    }
    if let Some(counted) = retry::count_ended(task) {
        return Step::Strike(counted);
    }
    if let Some(end) = retry::used_up(task) {
        return Step::End(end);
    }
    if let Some(field) = unsupported(task, agent_of(task, facts.agents)) {
        return Step::End(not_supported(field));
    }
    if let Some(step) = dependencies(task, facts) {
        return step;
    }
    if let Some(step) = agent_missing(task, facts) {
        return step;
    }
    if task.spec.suspend == Some(true) {
        return wait(WaitingReason::Suspended, suspended(&task.meta.name));
    }
    if let Some(message) = budget_spent(task).or_else(|| budget_paused(task, facts.shared)) {
        return wait(WaitingReason::BudgetExhausted, message);
    }
    if let Some((left, message)) = retry::backoff(task, facts.now) {
        return Step::Wait { reason: WaitingReason::Backoff, message, until: Some(left) };
    }
    Step::Place
}

/// What a paused task says: whoever writes it, it is the same text.
pub(crate) fn suspended(name: &str) -> String {
    format!("suspended; to go on: foreman resume task/{name}")
}

fn wait(reason: WaitingReason, message: impl Into<String>) -> Step {
    Step::Wait { reason, message: message.into(), until: None }
}

/// The first thing that a task asks for and no runner can do yet.
fn unsupported(task: &Object<AgenticTask>, agent: Option<&Object<Agent>>) -> Option<&'static str> {
    match &task.spec.kind {
        Open::Known(TaskKind::Integrate | TaskKind::Reconcile) | Open::Other(_) => {
            return Some("spec.kind");
        }
        Open::Known(
            TaskKind::IssueFix | TaskKind::Verify | TaskKind::Review | TaskKind::Freeform,
        ) => {}
    }
    let agent = &agent?.spec;
    let job = agent.execution.as_ref().and_then(|execution| execution.mode.as_ref());
    if job.is_some_and(|mode| !mode.is(ExecutionMode::InProcess)) {
        return Some("Agent spec.execution.mode");
    }
    let mcp = agent.mcp.as_ref().is_some_and(|mcp| mcp.enabled == Some(true));
    if mcp && task.spec.mcp_enabled != Some(false) {
        return Some("Agent spec.mcp.enabled");
    }
    let vision = agent.vision.as_ref().is_some_and(|vision| vision.enabled == Some(true));
    vision.then_some("Agent spec.vision.enabled")
}

/// A task that ends Failed before a model decided anything and before any verification was due.
fn failed(infrastructure: Infrastructure, reason: &'static str, message: String) -> OperatorEnd {
    OperatorEnd::failed(Verification::NotApplicable, infrastructure, reason, message)
}

fn not_supported(field: &'static str) -> OperatorEnd {
    let message = format!("{field} asks for something that this version cannot do");
    let mut end = failed(Infrastructure::Error, "Unsupported", message);
    end.outcome.reason = Some(OutcomeReason::Unsupported);
    end
}

/// A task that a person ended.
pub(crate) fn cancelled(message: &str) -> OperatorEnd {
    let (unknown, cancelled) = (Verification::NotVerified, Infrastructure::Cancelled);
    let end = OperatorEnd::failed(unknown, cancelled, "UserRequest", message.to_owned());
    OperatorEnd { condition: "Cancelled", ..end }
}

fn upstream_failed(message: String) -> Step {
    Step::End(failed(Infrastructure::Ok, "UpstreamFailed", message))
}

/// What the tasks before this one say, or nothing when all ended on target.
fn dependencies(task: &Object<AgenticTask>, facts: Facts<'_>) -> Option<Step> {
    if task.spec.depends_on.is_empty() {
        return None;
    }
    if let Some(cycle) = cycle(task, facts.tasks) {
        return Some(upstream_failed(format!("dependency cycle: {}", cycle.join(" -> "))));
    }
    let (mut missing, mut waiting) = (Vec::new(), Vec::new());
    let mut skip = None;
    for name in &task.spec.depends_on {
        let key = sibling(task, name);
        let Some(upstream) = facts.tasks.get(&key) else {
            let [unreadable, _] = facts.unreadable;
            if unreadable.contains(&key) { &mut waiting } else { &mut missing }.push(name.as_str());
            continue;
        };
        let status = &upstream.status;
        let early = bugs::on(Bug::DependencyInFlight)
            && status.known_phase().is_some_and(TaskPhase::is_in_flight);
        if on_target(status) || early {
            continue;
        }
        if !status.has_ended() {
            waiting.push(name.as_str());
            continue;
        }
        let skipped = status.verdict.as_ref().is_some_and(|verdict| verdict.is(Verdict::Skipped));
        if skipped || Outcome::of(status).reason == Some(OutcomeReason::AlreadyResolved) {
            skip = Some(name);
            continue;
        }
        let verdict = status.verdict.as_ref().map_or("no verdict".to_owned(), ToString::to_string);
        return Some(upstream_failed(format!("{name} ended off target ({verdict})")));
    }
    if let Some(name) = skip {
        return Some(Step::End(skipped(name)));
    }
    if !missing.is_empty() {
        return Some(dependency_missing(task, &missing, facts.now));
    }
    let message = || format!("waits for {}", waiting.join(", "));
    (!waiting.is_empty()).then(|| wait(WaitingReason::Dependency, message()))
}

fn sibling(task: &Object<AgenticTask>, name: &str) -> Key {
    Key { namespace: task.meta.namespace.clone(), name: name.to_owned() }
}

fn skipped(name: &str) -> OperatorEnd {
    OperatorEnd {
        phase: TaskPhase::Succeeded,
        verdict: Verdict::Skipped,
        failure_reason: None,
        outcome: Outcome {
            decision: Decision::None,
            verification: Verification::NotApplicable,
            infrastructure: Infrastructure::Ok,
            reason: Some(OutcomeReason::AlreadyResolved),
        },
        condition: "Skipped",
        reason: "UpstreamAlreadyResolved",
        message: format!("{name} found nothing left to do"),
    }
}

fn dependency_missing(task: &Object<AgenticTask>, missing: &[&str], now: WallTime) -> Step {
    let waited = waited_for(task, WaitingReason::DependencyMissing, now);
    if waited >= DEPENDENCY_MISSING_MAX {
        return upstream_failed(format!("{} never appeared", missing.join(", ")));
    }
    Step::Wait {
        reason: WaitingReason::DependencyMissing,
        message: format!("there is no task {}", missing.join(", ")),
        until: Some(DEPENDENCY_MISSING_MAX.saturating_sub(waited)),
    }
}

/// How long the task has been waiting for that very reason.
pub(super) fn waited_for(
    task: &Object<AgenticTask>,
    reason: WaitingReason,
    now: WallTime,
) -> Duration {
    let waiting = task.status.waiting.as_ref();
    let same = waiting.filter(|w| w.reason.as_ref().is_some_and(|r| r.is(reason)));
    same.and_then(|waiting| waiting.since).map_or(Duration::ZERO, |since| now.since(since))
}

/// A cycle through this task, as the names along it. Tasks that have ended wait for nothing.
fn cycle(
    task: &Object<AgenticTask>,
    tasks: &BTreeMap<Key, Object<AgenticTask>>,
) -> Option<Vec<String>> {
    let start = task.meta.name.as_str();
    // Each name with the one that waits for it.
    let mut found: BTreeMap<&str, &str> = BTreeMap::new();
    let mut open = vec![(start, &task.spec.depends_on)];
    while let Some((waits, names)) = open.pop() {
        for name in names {
            if name == start {
                let above = std::iter::successors(Some(waits), |name| found.get(name).copied());
                let mut path: Vec<_> = above.map(ToOwned::to_owned).collect();
                path.reverse();
                path.push(start.to_owned());
                return Some(path);
            }
            if found.contains_key(name.as_str()) {
                continue;
            }
            found.insert(name, waits);
            let upstream = tasks.get(&sibling(task, name));
            let live = |task: &&Object<AgenticTask>| !task.status.has_ended();
            open.extend(upstream.filter(live).map(|task| (name.as_str(), &task.spec.depends_on)));
        }
    }
    None
}

fn agent_missing(task: &Object<AgenticTask>, facts: Facts<'_>) -> Option<Step> {
    let name = task.spec.agent_ref.as_ref().and_then(LocalObjectReference::named)?;
    if agent_of(task, facts.agents).is_some() {
        return None;
    }
    let [_, unreadable] = facts.unreadable;
    if unreadable.contains(&sibling(task, name)) {
        return Some(wait(WaitingReason::AgentMissing, format!("Agent {name} cannot be read")));
    }
    let waited = waited_for(task, WaitingReason::AgentMissing, facts.now);
    if waited < AGENT_MISSING_MAX {
        return Some(Step::Wait {
            reason: WaitingReason::AgentMissing,
            message: format!("there is no Agent {name}"),
            until: Some(AGENT_MISSING_MAX.saturating_sub(waited)),
        });
    }
    let message = format!("there is no Agent {name} in the task's namespace");
    let end = failed(Infrastructure::Error, "AgentNotFound", message);
    Some(Step::End(OperatorEnd { failure_reason: Some(FailureReason::AgentNotFound), ..end }))
}

/// The budget that is spent, in words; a paused task resumes when the number is raised.
fn budget_spent(task: &Object<AgenticTask>) -> Option<String> {
    let own = task.spec.budget.as_ref()?;
    let usage = task.status.usage.as_ref()?;
    let tokens = budget::known_tokens(&task.status);
    let limits = [
        ("tokens", own.tokens, tokens),
        ("turns", own.turns, usage.turns.unwrap_or(0)),
        ("wallSeconds", own.wall_seconds, usage.wall_seconds.unwrap_or(0)),
    ];
    limits.into_iter().find_map(|(name, limit, used)| {
        let limit = limit?;
        (used >= limit).then(|| {
            format!("{used} of {limit} {name} are spent: raise spec.budget.{name} to go on")
        })
    })
}

/// What the last holder said when it paused the run: the budget was not spent yet, but the next model
/// call might not have fitted. Only a new spec can change that, or more from its Workload; without
/// this the task would be placed and given back for ever.
fn budget_paused(task: &Object<AgenticTask>, shared: Option<Shared<'_>>) -> Option<String> {
    let waiting = task.status.waiting.as_ref()?;
    let says = waiting.reason.as_ref().is_some_and(|r| r.is(WaitingReason::BudgetExhausted));
    // The same reason stands there while others have all of the Workload's tokens reserved.
    let paused = says && budget::has_paused(task);
    let same_spec = task.status.observed_generation == Some(task.meta.generation);
    let no_more = !shared.is_some_and(|shared| shared.is_more(task));
    let too_little = || shared.and_then(|shared| shared.too_little(task));
    let said = || waiting.message.clone().unwrap_or_default();
    (paused && same_spec && no_more).then(|| too_little().unwrap_or_else(said))
}

/// How many tasks each Agent has in flight.
pub(crate) fn in_flight_by_agent<'a>(
    tasks: impl IntoIterator<Item = &'a Object<AgenticTask>>,
) -> BTreeMap<Key, usize> {
    let mut counts = BTreeMap::new();
    for task in tasks {
        let name = task.spec.agent_ref.as_ref().and_then(LocalObjectReference::named);
        let in_flight = task.status.known_phase().is_some_and(TaskPhase::is_in_flight);
        if let Some(name) = name.filter(|_| in_flight) {
            *counts.entry(sibling(task, name)).or_default() += 1;
        }
    }
    counts
}

/// Why an Agent that has `running` tasks in flight takes no further one; absent = it does.
pub(crate) fn agent_at_limit(agent: &Object<Agent>, running: usize) -> Option<String> {
    let limit = usize::try_from(agent.spec.max_concurrent_tasks?).unwrap_or(0);
    let name = &agent.meta.name;
    (running >= limit).then(|| format!("Agent {name} runs {running} of {limit} tasks"))
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;
