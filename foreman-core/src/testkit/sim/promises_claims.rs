//! More of the promises: what is left of a claim that was given back, strikes and the pauses after
//! them, and the silence for which claims are taken back.

use std::time::Duration;

use super::SIM_EPOCH_SECONDS;
use super::engine::Instant;
use super::machine::MachineId;
use super::net::since;
use super::promises::{RATE, Task, TaskChange, phase};
use super::truth::{Facts, Role};
use crate::model::agentic_task::{TaskPhase, WaitingReason};
use crate::model::ids::{Fence, Uid};
use crate::model::time::WallTime;
use crate::model::wellknown::{ANNOTATION_CLAIM_EXPIRIES, ANNOTATION_STRUCK};
use crate::timing::{BACKOFF_MAX, BACKOFF_SECONDS_DEFAULT, PERMIT_CHECK, PERMIT_WINDOW};

/// How long a control loop takes to decide.
const AT_ONCE: Duration = Duration::from_millis(10);
/// The longest way of a request to the remote.
const TO_THE_REMOTE: Duration = Duration::from_secs(16);

/// What is given back or has ended names no holder.
pub(super) fn holds_nothing(
    facts: &mut Facts,
    change: &TaskChange<'_>,
    before: &Task,
    after: &Task,
) {
    let is = phase(after);
    if change.role == Role::User || is == phase(before) {
        return;
    }
    let (status, key) = (&after.status, change.key);
    let ended = is.is_some_and(TaskPhase::is_terminal);
    let claimed = status.session.is_some() || status.claimed_at.is_some();
    let placed = status.assigned_node.is_some() || status.started_at.is_some();
    let pending = is == Some(TaskPhase::Pending);
    if (pending && (claimed || placed)) || (ended && claimed) {
        let by = &change.actor.name;
        let what = format!("{by} made task {key} {is:?}, and it still names its holder");
        facts.broken(1, change.now, what);
    }
}

/// Notes when a claim is lost or ends.
pub(super) fn lost(facts: &mut Facts, change: &TaskChange<'_>, before: &Task, after: &Task) {
    let held = |task: &Task| {
        let running = matches!(phase(task), Some(TaskPhase::Running | TaskPhase::Verifying));
        running.then(|| (task.status.attempt, task.status.session.clone()))
    };
    let (was, is) = (held(before), held(after));
    if let Some((Some(attempt), _)) = &was
        && was != is
    {
        let task = facts.tasks.entry(before.meta.uid.clone()).or_default();
        task.lost.entry(*attempt).or_insert(change.now);
    }
}

fn strikes(task: &Task) -> i64 {
    let text = task.meta.annotations.get(ANNOTATION_CLAIM_EXPIRIES);
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// No claim is counted twice.
pub(super) fn counted_once(
    facts: &mut Facts,
    change: &TaskChange<'_>,
    before: &Task,
    after: &Task,
) {
    let mark = |task: &Task| task.meta.annotations.get(ANNOTATION_STRUCK).cloned();
    let (was, is) = (strikes(before), strikes(after));
    if change.role == Role::Operator && was != is && mark(before) == mark(after) {
        let mark = mark(after).unwrap_or_default();
        let what = format!("the strike {mark} of task {} was counted twice", change.key);
        facts.broken(3, change.now, what);
    }
}

/// The pause after strikes is kept. The control loops' wall clocks are right.
pub(super) fn pause_is_kept(facts: &mut Facts, change: &TaskChange<'_>, before: &Task) {
    let Ok(doublings) = u32::try_from(strikes(before) - 2) else { return };
    let asked = before.spec.retry.as_ref().and_then(|retry| retry.backoff_seconds);
    let seconds = u64::try_from(asked.unwrap_or(BACKOFF_SECONDS_DEFAULT)).unwrap_or(0);
    let pause = Duration::from_secs(seconds.saturating_mul(1 << doublings.min(20)));
    let pause = pause.min(BACKOFF_MAX);
    let ends = before.status.attempts.iter().filter_map(|attempt| attempt.ended_at);
    let Some(last) = ends.max() else { return };
    let seconds = i64::try_from(since(change.now, 0).as_secs()).unwrap_or(i64::MAX);
    // A look at the clock may have been a moment before or after.
    let now = WallTime::from_unix_seconds(SIM_EPOCH_SECONDS + seconds + 1);
    let waiting = before.status.waiting.as_ref();
    let told = waiting.filter(|w| w.reason.as_ref().is_some_and(|r| r.is(WaitingReason::Backoff)));
    let told = told.and_then(|waiting| waiting.since);
    let waited = told.map(|told| now.since(told)).unwrap_or_default().max(now.since(last));
    if waited < pause {
        let what = format!(
            "task {} was placed {} s after its last claim ended, its pause is {} s",
            change.key,
            waited.as_secs(),
            pause.as_secs()
        );
        facts.broken(3, change.now, what);
    }
}

/// Only what was granted runs.
pub(super) fn granted(facts: &mut Facts, now: Instant, process: u64, fence: &Fence) {
    let task = facts.tasks.get(&fence.uid);
    let by = task.and_then(|task| task.grants.get(&fence.attempt)).copied();
    if by != Some(process) {
        let Fence { uid, attempt, node, .. } = fence;
        let what =
            format!("{node} runs attempt {attempt} of task {uid}, which it was never granted");
        facts.broken(1, now, what);
    }
}

/// A run is given up only when its claim is lost.
pub(super) fn given_up(facts: &mut Facts, now: Instant, fence: &Fence) {
    let task = facts.live_tasks.values().find(|task| task.meta.uid == fence.uid);
    let holds = task.is_some_and(|task| crate::task::claim::holds(task, fence).is_ok());
    if holds {
        let Fence { uid, attempt, node, .. } = fence;
        let what = format!("{node} gave attempt {attempt} of task {uid} up, whose claim holds");
        facts.broken(3, now, what);
    }
}

/// How long a control loop has been able to see that a node is silent: since its last heartbeat and
/// its own start, and awake.
pub(super) fn seen_silent(facts: &Facts, change: &TaskChange<'_>, node: &str) -> Duration {
    let started = facts.processes.get(&change.actor.process).map_or(0, |it| it.started);
    // What came while the answer of the last look at the node, and the write after it, were under way
    // could not be known.
    let unknown = facts.way * 2 + AT_ONCE;
    let beat = facts.nodes.get(node).map_or(0, |node| {
        let too_late = since(change.now, node.last_beat) <= unknown;
        if too_late { node.beat_before } else { node.last_beat }
    });
    seen_since(facts, change.actor.machine, started.max(beat), change.now)
}

/// The time since then that a machine was awake.
pub(super) fn seen_since(
    facts: &Facts,
    machine: MachineId,
    then: Instant,
    now: Instant,
) -> Duration {
    let sleeps = facts.slept.get(&machine).into_iter().flatten();
    let asleep: Duration =
        sleeps.map(|(from, to)| since(to.unwrap_or(now).min(now), (*from).max(then))).sum();
    since(now, then).saturating_sub(asleep)
}

/// An effect was allowed by a heartbeat of its own process within the window.
pub(super) fn in_the_window(facts: &mut Facts, now: Instant, uid: &Uid, what: &str) {
    let holder = facts.tasks.get(uid).and_then(|task| task.claimed_by);
    let Some(holder) = holder.and_then(|process| facts.processes.get(&process)) else { return };
    let silent = since(now, holder.last_beat);
    let most = (PERMIT_WINDOW + PERMIT_CHECK).mul_f64(2.0 - RATE) + TO_THE_REMOTE;
    if silent > most {
        let node = holder.node.clone().unwrap_or_default();
        let seconds = silent.as_secs();
        let what = format!("{what} of task {uid}, {seconds} s after the last heartbeat of {node}");
        facts.broken(2, now, what);
    }
}
