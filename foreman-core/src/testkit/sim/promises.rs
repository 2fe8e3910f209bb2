//! The promises of product.md, checked against what the store, the remote and the executors really
//! did. Cheap: each check looks at one change.

use std::sync::Arc;
use std::time::Duration;

use super::chance::Counts;
use super::engine::{Instant, nanos};
use super::net::{Actor, since};
use super::promises_claims as claims;
use super::promises_more as more;
use super::remote::{Commit, Push};
use super::truth::{Facts, Role};
use crate::model::agentic_task::TaskPhase;
use crate::model::ids::{Key, Uid};
use crate::model::outcome::on_target;
use crate::model::workload::WorkloadPhase;
use crate::model::{AgenticTask, FleetNode, Object, Workload};
use crate::timing::NODE_DEAD;
use crate::workload::children;

/// How long a lowered number of slots may still be unknown to somebody.
const SLOTS_KNOWN: Duration = Duration::from_mins(15);
/// How long after the read that a permit rests on its effect may leave: the answer's way, and a sleep
/// too short to be noticed.
const READ_TO_EFFECT: Duration = Duration::from_secs(8);
/// How long after a task's deletion an effect may still arrive: 10 s, and its way.
const EFFECT_AFTER_DELETE: Duration = Duration::from_secs(50);
/// Clocks run unlike each other by less than a thousandth.
pub(super) const RATE: f64 = 0.998;

/// A change of a task.
pub(super) struct TaskChange<'a> {
    pub(super) now: Instant,
    pub(super) actor: &'a Actor,
    pub(super) role: Role,
    pub(super) key: &'a Key,
    pub(super) before: Option<Arc<Object<AgenticTask>>>,
    pub(super) after: Option<Arc<Object<AgenticTask>>>,
}

pub(super) type Task = Object<AgenticTask>;

/// The store took a change of a task.
pub(super) fn task_changed(facts: &mut Facts, counts: &Counts, change: &TaskChange<'_>) {
    let TaskChange { now, key, before, after, .. } = change;
    let now = *now;
    match (before.as_deref(), after.as_deref()) {
        (Some(before), Some(after)) if before.meta.uid == after.meta.uid => {
            terminal_is_absorbing(facts, change, before, after);
            attempts(facts, counts, change, before, after);
            claims::lost(facts, change, before, after);
            holder(facts, change, before, after);
            phases(facts, counts, change, before, after);
            waiting(facts, change, before, after);
            claims::holds_nothing(facts, change, before, after);
            claims::counted_once(facts, change, before, after);
        }
        (Some(gone), _) => deleted(facts, change, gone),
        (None, _) => {}
    }
    if let Some(after) = after {
        let task = facts.tasks.entry(after.meta.uid.clone()).or_default();
        if before.is_none() {
            task.pending_since = Some(now);
            more::step_once(facts, counts, change, after);
        }
        facts.live_tasks.insert((*key).clone(), after.clone());
        more::budget(facts, change, after);
        if on_target(&after.status) {
            facts.on_target.insert((*key).clone());
        }
    } else {
        facts.live_tasks.remove(key);
    }
}

pub(super) fn phase(task: &Task) -> Option<TaskPhase> {
    task.status.known_phase()
}

fn terminal_is_absorbing(facts: &mut Facts, change: &TaskChange<'_>, before: &Task, after: &Task) {
    if !phase(before).is_some_and(TaskPhase::is_terminal) {
        return;
    }
    let (old, new) = (&before.status, &after.status);
    let same = old.phase == new.phase
        && old.verdict == new.verdict
        && old.outcome == new.outcome
        && old.attempt == new.attempt
        && old.finished_at == new.finished_at
        && new.session.is_none();
    if !same {
        let what = format!("task {} ended and was changed by {}", change.key, change.actor.name);
        facts.broken(3, change.now, what);
    }
}

fn attempts(
    facts: &mut Facts,
    counts: &Counts,
    change: &TaskChange<'_>,
    before: &Task,
    after: &Task,
) {
    let (now, key) = (change.now, change.key);
    let (old, new) = (before.status.attempt.unwrap_or(0), after.status.attempt.unwrap_or(0));
    if old == new {
        return;
    }
    let known = facts.tasks.entry(after.meta.uid.clone()).or_default();
    let highest = known.attempt;
    known.attempt = new.max(highest);
    if new <= old.max(highest) {
        facts.broken(1, now, format!("the attempt of task {key} went from {old} to {new}"));
    }
    let claims = phase(after) == Some(TaskPhase::Running);
    if change.role != Role::Agent || !claims {
        let by = &change.actor.name;
        facts.broken(1, now, format!("{by} raised the attempt of task {key} to {new} unclaimed"));
        return;
    }
    counts.add(if phase(before) == Some(TaskPhase::Running) { "adopted" } else { "claimed" });
    let process = facts.processes.get(&change.actor.process).cloned();
    let known = facts.tasks.entry(after.meta.uid.clone()).or_default();
    known.claimed_by = Some(change.actor.process);
    known.granted_at = now;
    known.grants.insert(new, change.actor.process);
    let Some(process) = process else { return };
    if after.status.session != process.session || before.status.assigned_node != process.node {
        let by = &change.actor.name;
        facts.broken(1, now, format!("{by} claimed task {key} that was not placed on it"));
    }
    let (was, is) = (before.status.claimed_at, after.status.claimed_at);
    if let (Some(was), Some(is)) = (was, is)
        && is.since(was) < Duration::from_secs(1)
    {
        facts.broken(1, now, format!("two claims of task {key} have one claimedAt"));
    }
}

/// What a holder writes is accepted from the holder only.
fn holder(facts: &mut Facts, change: &TaskChange<'_>, before: &Task, after: &Task) {
    let running = matches!(phase(before), Some(TaskPhase::Running | TaskPhase::Verifying));
    if change.role != Role::Agent || !running || before.status.attempt != after.status.attempt {
        return;
    }
    if before.status == after.status {
        return;
    }
    let Some(process) = facts.processes.get(&change.actor.process) else { return };
    let task = facts.tasks.get(&before.meta.uid);
    let holds = before.status.session == process.session
        && task.and_then(|task| task.claimed_by) == Some(change.actor.process);
    let hands_back = phase(after) == Some(TaskPhase::Pending)
        && before.status.session != process.session
        && before.status.assigned_node == process.node;
    if !holds && !hands_back {
        let what = format!(
            "{} wrote the end of task {} whose attempt {} it does not hold",
            change.actor.name,
            change.key,
            before.status.attempt.unwrap_or(0)
        );
        facts.broken(1, change.now, what);
        return;
    }
    let ends = phase(after).is_some_and(TaskPhase::is_terminal);
    let said = facts.ends.get(&(before.meta.uid.clone(), before.status.attempt.unwrap_or(0)));
    if let Some(said) = said.filter(|_| ends && holds) {
        let verdict = after.status.verdict.as_ref().is_some_and(|v| v.is(said.verdict));
        let outcome = after.status.outcome == Some(said.outcome.record());
        let good = phase(after) == Some(TaskPhase::Succeeded);
        if !verdict || !outcome || good != said.succeeded {
            let what = format!(
                "task {} came to {} {:?} and reads {:?} {:?}",
                change.key, said.verdict, said.outcome, after.status.verdict, after.status.outcome
            );
            facts.broken(11, change.now, what);
        }
    }
}

fn phases(
    facts: &mut Facts,
    counts: &Counts,
    change: &TaskChange<'_>,
    before: &Task,
    after: &Task,
) {
    use TaskPhase::{Failed, Pending, Running, Scheduled, Succeeded, Verifying};
    let (from, to) = (phase(before), phase(after));
    if from == to {
        return;
    }
    let (now, key) = (change.now, change.key);
    let legal = matches!(
        (change.role, from, to),
        (Role::Operator, None, Some(Pending | Scheduled | Succeeded | Failed))
            | (Role::Operator, Some(Pending), Some(Scheduled | Succeeded | Failed))
            | (Role::Operator, Some(Scheduled | Running | Verifying), Some(Pending | Failed))
            | (Role::Agent, Some(Scheduled), Some(Running | Pending))
            | (Role::Agent, Some(Running), Some(Pending | Succeeded | Failed))
            | (Role::User, _, _)
    );
    if !legal {
        let by = &change.actor.name;
        facts.broken(3, now, format!("{by} moved task {key} from {from:?} to {to:?}"));
    }
    match to {
        Some(Scheduled) => {
            counts.add("placed");
            let task = facts.tasks.entry(after.meta.uid.clone()).or_default();
            task.scheduled_at = now;
            dependencies(facts, change, after);
            capacity(facts, change, after);
            more::memory(facts, change, after);
            more::policy(facts, change, after);
            claims::pause_is_kept(facts, change, before);
        }
        Some(Running) => {
            dependencies(facts, change, after);
            more::policy(facts, change, after);
        }
        Some(Pending) if change.role == Role::Operator && from.is_some() => {
            counts.add("taken back");
            taken_back(facts, change, before);
        }
        Some(Pending) if change.role == Role::Agent => counts.add("given back"),
        Some(Succeeded) => counts.add("succeeded"),
        Some(Failed) => counts.add("failed"),
        Some(Pending | Verifying) | None => {}
    }
    let task = facts.tasks.entry(after.meta.uid.clone()).or_default();
    task.ended = to.is_some_and(TaskPhase::is_terminal);
    task.pending_since = (to == Some(Pending)).then_some(now);
    task.writes_while_waiting.clear();
}

/// No task starts before its dependencies ended on target.
fn dependencies(facts: &mut Facts, change: &TaskChange<'_>, task: &Task) {
    let early = task.spec.depends_on.iter().find(|name| {
        let key = Key { namespace: task.meta.namespace.clone(), name: (*name).clone() };
        !facts.on_target.contains(&key)
    });
    if let Some(early) = early {
        let what = format!("task {} was placed before {early} ended on target", change.key);
        facts.broken(4, change.now, what);
    }
}

/// No node is given more than it has, under one control loop.
fn capacity(facts: &mut Facts, change: &TaskChange<'_>, task: &Task) {
    if facts.late {
        return;
    }
    let Some(node) = task.status.assigned_node.as_deref() else { return };
    let in_flight = |other: &&Arc<Task>| {
        other.status.assigned_node.as_deref() == Some(node)
            && phase(other).is_some_and(TaskPhase::is_in_flight)
            && other.meta.uid != task.meta.uid
    };
    let here = facts.live_tasks.values().filter(in_flight).count() + 1;
    let slots = facts.nodes.get(node).map_or(1, super::truth::NodeFacts::most_slots);
    if here > slots {
        let what =
            format!("{node} was given {} as task number {here} with {slots} slots", change.key);
        facts.broken(7, change.now, what);
    }
    let Some(name) = task.spec.agent_ref.as_ref().and_then(|agent| agent.named()) else { return };
    let agent = Key { namespace: task.meta.namespace.clone(), name: name.to_owned() };
    let limit = facts.live_agents.get(&agent).and_then(|agent| agent.spec.max_concurrent_tasks);
    let Some(limit) =
        limit.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0)
    else {
        return;
    };
    let of_agent = |other: &&Arc<Task>| {
        other.spec.agent_ref == task.spec.agent_ref
            && other.meta.namespace == task.meta.namespace
            && phase(other).is_some_and(TaskPhase::is_in_flight)
            && other.meta.uid != task.meta.uid
    };
    let here = facts.live_tasks.values().filter(of_agent).count() + 1;
    if here > limit {
        let what = format!("{} is task number {here} of Agent {name} with {limit}", change.key);
        facts.broken(7, change.now, what);
    }
}

/// No node loses its claims before a full timeout of silence.
fn taken_back(facts: &mut Facts, change: &TaskChange<'_>, before: &Task) {
    let Some(name) = before.status.assigned_node.clone() else { return };
    let Some(node) = facts.live_nodes.get(&Key::cluster(name.as_str())) else { return };
    let session = before.status.session.as_deref();
    let other_session = session.is_some() && node.status.session.as_deref() != session;
    let listed =
        node.status.runs.iter().any(|run| run.uid.as_deref() == Some(before.meta.uid.as_str()));
    let last_beat = facts.nodes.get(&name).map_or(0, |node| node.last_beat);
    let silent = claims::seen_silent(facts, change, &name) >= NODE_DEAD.mul_f64(RATE);
    let known = facts.tasks.get(&before.meta.uid);
    let placed_at = known.map_or(0, |task| task.scheduled_at);
    let granted_at = known.map_or(0, |task| task.granted_at);
    let unclaimed = phase(before) == Some(TaskPhase::Scheduled)
        && since(change.now, placed_at) >= Duration::from_mins(1).mul_f64(RATE);
    let hanging = phase(before) == Some(TaskPhase::Running) && !listed && last_beat > granted_at;
    if silent && !unclaimed && !hanging && !other_session {
        more::one_at_a_time(facts, change, &name);
    }
    if !silent && !unclaimed && !hanging && !other_session {
        let what = format!(
            "task {} was taken from {name}, whose last heartbeat was {} s ago",
            change.key,
            since(change.now, last_beat).as_secs()
        );
        facts.broken(9, change.now, what);
    }
}

fn deleted(facts: &mut Facts, change: &TaskChange<'_>, gone: &Task) {
    if let Some(task) = facts.tasks.get_mut(&gone.meta.uid) {
        task.deleted_at = Some(change.now);
    }
    if let Some(owner) = gone.meta.owner_references.first() {
        facts.spent.insert(owner.uid.clone(), None);
    }
    let owner = gone.workload().map(|(key, _)| key);
    let orphan = owner.is_some_and(|key| {
        let workload = facts.live_workloads.get(&key).map(|workload| &**workload);
        children::stray(gone, workload).is_some()
            || workload.is_none_or(|workload| !gone.is_of(&workload.meta.uid))
    });
    if change.role != Role::User && !orphan {
        let what = format!("task {} was deleted by {}", change.key, change.actor.name);
        facts.broken(3, change.now, what);
    }
}

/// Every wait has a reason, and is not written to without need.
fn waiting(facts: &mut Facts, change: &TaskChange<'_>, before: &Task, after: &Task) {
    let (now, role) = (change.now, change.role);
    let pending = phase(after) == Some(TaskPhase::Pending);
    let explained = after.status.waiting.as_ref().is_some_and(|w| w.reason.is_some());
    if pending && !explained && role == Role::Operator && phase(before).is_none() {
        let what = format!("task {} was written Pending without a reason", change.key);
        facts.broken(6, now, what);
    }
    let task = facts.tasks.entry(after.meta.uid.clone()).or_default();
    let open = matches!(phase(after), None | Some(TaskPhase::Pending)) && !explained;
    task.unexplained_since = open.then_some(task.unexplained_since.unwrap_or(now));
    if role == Role::Operator && phase(before) == phase(after) && pending {
        task.writes_while_waiting.push(now);
        let minute = now.saturating_sub(nanos(Duration::from_mins(1)));
        task.writes_while_waiting.retain(|at| *at >= minute);
        if task.writes_while_waiting.len() > 30 {
            let what = format!("task {} waits and was written to 30 times in a minute", change.key);
            facts.broken(6, now, what);
        }
    }
}

/// The store took a change of a node.
pub(super) fn node_changed(
    facts: &mut Facts,
    now: Instant,
    actor: &Actor,
    key: &Key,
    before: Option<&Object<FleetNode>>,
    after: Option<Arc<Object<FleetNode>>>,
) {
    let Some(after) = after else {
        facts.live_nodes.remove(key);
        return;
    };
    let role = facts.processes.get(&actor.process).map(|process| process.role);
    let beat = before.and_then(|node| node.status.last_heartbeat_time);
    let node = facts.nodes.entry(key.name.clone()).or_default();
    let beats = role == Some(Role::Agent);
    if beats && after.status.last_heartbeat_time != beat {
        node.beat_before = std::mem::replace(&mut node.last_beat, now);
        if let Some(process) = facts.processes.get_mut(&actor.process) {
            process.last_beat = now;
        }
    }
    let slots = after.spec.slots.unwrap_or(1);
    if node.slots.last().is_none_or(|(_, last)| *last != slots) {
        node.slots.push((now, slots));
    }
    let horizon = now.saturating_sub(nanos(SLOTS_KNOWN));
    while node.slots.get(1).is_some_and(|(since, _)| *since < horizon) {
        node.slots.remove(0);
    }
    facts.live_nodes.insert(key.clone(), after);
}

/// The store took a change of a workload.
pub(super) fn workload_changed(
    facts: &mut Facts,
    now: Instant,
    role: Role,
    key: &Key,
    before: Option<&Object<Workload>>,
    after: Option<Arc<Object<Workload>>>,
) {
    let Some(after) = after else {
        facts.live_workloads.remove(key);
        if role != Role::User {
            facts.broken(3, now, format!("workload {key} was deleted by nobody's wish"));
        }
        return;
    };
    let phase = |workload: &Object<Workload>| {
        workload.status.phase.as_ref().and_then(crate::model::open::Open::known)
    };
    let was = before.and_then(phase);
    let is = phase(&after);
    if was.is_some_and(WorkloadPhase::is_terminal) && was != is {
        facts.broken(3, now, format!("workload {key} ended and became {is:?}"));
    }
    if let Some(is) = is.filter(|is| is.is_terminal() && was != Some(*is)) {
        more::completeness(facts, now, key, &after, is);
    }
    facts.live_workloads.insert(key.clone(), after);
}

/// A push was accepted. It may arrive after its claim was lost: it was on its way, and only the server
/// can refuse it then. It must have left under a claim that a read could still show, it must not come
/// after one of a later attempt, and it may replace the work of another task only if that was there
/// when the run began, and was deleted or is gone on with.
pub(super) fn pushed(facts: &mut Facts, now: Instant, push: &Push<'_>) {
    let Push { branch, before, commit, began, sent } = push;
    let attempt = commit.attempt;
    effect(facts, now, &commit.uid, "a push");
    let theirs = before.filter(|before| before.uid != commit.uid);
    let task = facts.tasks.entry(commit.uid.clone()).or_default();
    let again = task.pushes.iter().any(|other| *other >= attempt);
    task.pushes.push(attempt);
    task.pushed_at = now;
    let lost = task.lost.get(&attempt).copied();
    let never = attempt > task.attempt;
    if again {
        let what = format!("{branch}: attempt {attempt} pushed after a later one");
        facts.broken(2, now, what);
    }
    if let Some(lost) = lost.filter(|lost| since(*sent, *lost) > READ_TO_EFFECT) {
        let seconds = since(*sent, lost).as_secs();
        let what = format!("{branch}: attempt {attempt} pushed {seconds} s after its claim ended");
        facts.broken(1, now, what);
    }
    if never {
        facts.broken(1, now, format!("{branch}: attempt {attempt} pushed and was never granted"));
    }
    let may = |theirs: &&Commit| {
        let pushed_at = facts.tasks.get(&theirs.uid).map_or(0, |task| task.pushed_at);
        pushed_at <= *began && more::may_replace(facts, &theirs.uid, &commit.uid)
    };
    if theirs.is_some_and(|theirs| !may(&theirs)) {
        facts.broken(2, now, format!("{branch}: the work of another task was overwritten"));
    }
}

/// An effect of a task arrived at the world outside.
pub(super) fn effect(facts: &mut Facts, now: Instant, uid: &Uid, what: &str) {
    claims::in_the_window(facts, now, uid, what);
    let task = facts.tasks.entry(uid.clone()).or_default();
    let deleted = task.deleted_at;
    if deleted.is_some_and(|at| since(now, at) > EFFECT_AFTER_DELETE) {
        facts.broken(2, now, format!("{what} of task {uid} after the task was deleted"));
    }
}

#[cfg(test)]
#[path = "promises_tests.rs"]
mod tests;
