//! Promises about what is shared: memory, tokens, the cloud, one leader, many silent nodes, and steps that
//! are made once.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::chance::Counts;
use super::engine::{Instant, nanos};
use super::net::Actor;
use super::promises::{RATE, Task, TaskChange, phase};
use super::truth::{Facts, Role};
use crate::model::agent::Provider;
use crate::model::agentic_task::{TaskKind, TaskPhase};
use crate::model::ids::{Key, Uid};
use crate::model::outcome::Verdict;
use crate::model::wellknown::{ANNOTATION_LOCAL_ONLY, LABEL_STEP};
use crate::model::workload::{StepRecord, WorkloadPhase};
use crate::model::{AgenticTask, Object, Workload};
use crate::task::budget;
use crate::timing::{SILENT_NODES_MANY, SLOW_TAKE_BACK};

/// The number under which it is told that work went to the cloud.
const POLICY: u8 = 13;

fn need_gb(facts: &Facts, task: &Task) -> i64 {
    let agent = match task.spec.agent_ref.as_ref().and_then(|agent| agent.named()) {
        Some(name) => {
            let key = Key { namespace: task.meta.namespace.clone(), name: name.to_owned() };
            facts.live_agents.get(&key).and_then(|agent| agent.spec.required_capability.as_ref())
        }
        None => task.spec.required_capability.as_ref(),
    };
    i64::from(agent.and_then(|need| need.min_ram_gb).unwrap_or(0))
}

/// The memory of all tasks on a node is no more than it has.
pub(super) fn memory(facts: &mut Facts, change: &TaskChange<'_>, task: &Task) {
    let Some(name) = task.status.assigned_node.as_deref().filter(|_| !facts.late) else { return };
    let node = facts.live_nodes.get(&Key::cluster(name));
    let has = node.and_then(|node| node.status.capacity.as_ref()?.ram_gb);
    let own = need_gb(facts, task);
    let (Some(has), true) = (has, own > 0) else { return };
    let there = facts.live_tasks.values().filter(|other| {
        other.status.assigned_node.as_deref() == Some(name)
            && phase(other).is_some_and(TaskPhase::is_in_flight)
            && other.meta.uid != task.meta.uid
    });
    let others: i64 = there.map(|other| need_gb(facts, other)).sum();
    if others + own > i64::from(has) {
        let what = format!(
            "{name} was given {} of {own} GiB beside {others} GiB, and has {has} GiB",
            change.key
        );
        facts.broken(7, change.now, what);
    }
}

fn owner(task: &Task) -> Option<&Uid> {
    task.meta.owner_references.first().map(|owner| &owner.uid)
}

fn workload<'a>(facts: &'a Facts, uid: &Uid) -> Option<&'a Arc<Object<Workload>>> {
    facts.live_workloads.values().find(|workload| workload.meta.uid == *uid)
}

fn limit(facts: &Facts, uid: &Uid) -> Option<i64> {
    workload(facts, uid)?.spec.budget.as_ref()?.tokens
}

/// What the tasks of a workload used and what is reserved for them is no more than its limit.
pub(super) fn budget(facts: &mut Facts, change: &TaskChange<'_>, task: &Task) {
    let Some(owner_uid) = owner(task).cloned().filter(|_| !facts.late) else { return };
    let Some(limit) = limit(facts, &owner_uid) else { return };
    let (mut used, mut reserved) = (0_i64, 0_i64);
    for task in facts.live_tasks.values().filter(|task| owner(task) == Some(&owner_uid)) {
        used += budget::tokens(task.status.usage.as_ref());
        if phase(task).is_some_and(TaskPhase::is_in_flight) {
            reserved += task.status.allowance.unwrap_or(0);
        }
    }
    if used + reserved > limit {
        let what = format!(
            "with task {}: {used} tokens used and {reserved} reserved of {limit} of its workload",
            change.key
        );
        facts.broken(7, change.now, what);
    }
}

/// A run spent tokens: all that was spent for its workload is within the limit.
pub(super) fn spent(facts: &mut Facts, now: Instant, task: &Task, more: i64) {
    let Some(owner) = owner(task).cloned() else { return };
    let limit = limit(facts, &owner);
    let Some(all) = facts.spent.entry(owner).or_insert(Some(0)) else { return };
    *all += more;
    let all = *all;
    if let Some(limit) = limit.filter(|limit| all > *limit) {
        let what = format!("task {} brought its workload to {all} of {limit} tokens", task.key());
        facts.broken(7, now, what);
    }
}

/// Nothing goes to a model in the cloud where that is forbidden.
pub(super) fn policy(facts: &mut Facts, change: &TaskChange<'_>, task: &Task) {
    if never_allowed(facts, task) {
        let name = task.spec.agent_ref.as_ref().and_then(|agent| agent.named());
        let name = name.unwrap_or_default();
        let what = format!("task {} went to Agent {name}, which is in the cloud", change.key);
        facts.broken(POLICY, change.now, what);
    }
}

fn is_cloud(facts: &Facts, agent: &Key) -> bool {
    let provider = facts.live_agents.get(agent).and_then(|agent| agent.spec.provider.as_ref());
    provider.is_some_and(|provider| !provider.is(Provider::Local))
}

/// Whether the task must wait for ever: its Agent is in the cloud, and it must not go there.
pub(super) fn never_allowed(facts: &Facts, task: &Task) -> bool {
    let name = task.spec.agent_ref.as_ref().and_then(|agent| agent.named());
    let forbidden = !facts.allow_cloud || task.meta.annotations.contains_key(ANNOTATION_LOCAL_ONLY);
    name.is_some_and(|name| {
        let key = Key { namespace: task.meta.namespace.clone(), name: name.to_owned() };
        forbidden && is_cloud(facts, &key)
    })
}

/// Only the holder of the lease writes. What was on its way when the lease was lost has arrived before
/// anybody else can take it.
pub(super) fn one_leader(facts: &mut Facts, now: Instant, actor: &Actor) {
    let other = facts.leader.is_some_and(|leader| leader != actor.process);
    if other && !facts.late {
        let what = format!("{} acts while another control loop holds the lease", actor.name);
        facts.broken(7, now, what);
    }
}

/// While many nodes are silent, one node's claims are taken back each 10 s. Four nodes that are silent
/// still, within less than that, were not: the fourth had to wait after the third.
pub(super) fn one_at_a_time(facts: &mut Facts, change: &TaskChange<'_>, node: &str) {
    let (now, process) = (change.now, change.actor.process);
    if facts.late {
        return;
    }
    // What is decided at once arrives within a read and a write of each other.
    let window = SLOW_TAKE_BACK.mul_f64(RATE).saturating_sub(facts.way * 3);
    let since = now.saturating_sub(nanos(window));
    let silent_still = |at: Instant, node: &str| {
        at > since && facts.nodes.get(node).is_none_or(|node| node.last_beat < at)
    };
    let mut slow = std::mem::take(&mut facts.slow);
    slow.retain(|(at, _, node)| silent_still(*at, node));
    slow.push((now, process, node.to_owned()));
    let by_this = slow.iter().filter(|(_, by, _)| *by == process);
    let nodes: BTreeSet<&str> = by_this.map(|(_, _, node)| node.as_str()).collect();
    if nodes.len() >= SILENT_NODES_MANY {
        let all: Vec<_> = nodes.into_iter().collect();
        let what = format!(
            "the claims of {} were taken back within {} s",
            all.join(", "),
            window.as_secs()
        );
        facts.broken(9, now, what);
        slow.clear();
    }
    facts.slow = slow;
}

/// A step has one task; another one only after that one vanished before it was settled.
pub(super) fn step_once(facts: &mut Facts, counts: &Counts, change: &TaskChange<'_>, task: &Task) {
    let step = task.meta.labels.get(LABEL_STEP).cloned();
    let (Some(owner), Some(step)) = (owner(task).cloned(), step) else { return };
    if task.spec.payload.revise_from_branch.is_some() {
        counts.add("fix round begun");
    } else if step.contains("-esc") {
        counts.add("task of an escalation made");
    }
    let before = facts.steps.entry((owner.clone(), step.clone())).or_default();
    let last = before.last().cloned();
    before.push(task.meta.uid.clone());
    let Some(last) = last.filter(|_| change.role == Role::Operator) else { return };
    if facts.live_tasks.values().any(|other| other.meta.uid == last) {
        let what = format!("step {step} was made a second time as {}", change.key);
        facts.broken(5, change.now, what);
    }
    let settled = workload(facts, &owner).is_some_and(|workload| {
        workload.status.steps.iter().any(|it| it.name == step && it.settled == Some(true))
    });
    if settled && !facts.late {
        let what = format!("step {step} was settled and made again as {}", change.key);
        facts.broken(3, change.now, what);
    }
}

/// A workload that ended: every step of it was settled by a task that ended, and no fix round that was
/// due is missing.
pub(super) fn completeness(
    facts: &mut Facts,
    now: Instant,
    key: &Key,
    after: &Object<Workload>,
    is: WorkloadPhase,
) {
    let records = &after.status.steps;
    if is == WorkloadPhase::Completed {
        for step in crate::workload::desired(&after.spec).unwrap_or_default() {
            let agent = step.agent_ref.named().unwrap_or_default().to_owned();
            let agent = Key { namespace: key.namespace.clone(), name: agent };
            let gate = !facts.allow_cloud || after.spec.allow_cloud_reviewers == Some(false);
            let dropped = step.kind.is(TaskKind::Review) && gate && is_cloud(facts, &agent);
            if !dropped && !records.iter().any(|record| record.name == step.name) {
                let what = format!("workload {key} completed without step {}", step.name);
                facts.broken(5, now, what);
            }
        }
    }
    // A workload that has no plan fails with none of its steps.
    let cancelled = after.spec.cancel == Some(true);
    if is == WorkloadPhase::Failed && (records.is_empty() || cancelled) {
        return;
    }
    for record in records {
        let uid = record.uid.clone().map(Uid::new);
        let ended = uid.and_then(|uid| facts.tasks.get(&uid)).is_some_and(|task| task.ended);
        if is == WorkloadPhase::Completed && (record.settled != Some(true) || !ended) {
            let what = format!("workload {key} completed, and step {} never ended", record.name);
            facts.broken(5, now, what);
        }
    }
    if let Some(issue) = round_missing(after, records) {
        let what = format!("workload {key} ended without the fix round of issue {issue}");
        facts.broken(5, now, what);
    }
}

/// An issue whose reviewers rejected the first try, and that has no fix round although one was due.
fn round_missing(after: &Object<Workload>, records: &[StepRecord]) -> Option<i32> {
    let spec = &after.spec;
    let due = spec.max_review_iterations.unwrap_or(1) > 0
        && spec.max_tasks.unwrap_or(0) == 0
        && spec.escalation_coder_agent_ref.is_none()
        && spec.pipeline.is_empty()
        && spec.cancel != Some(true);
    let issues = spec.issues.iter().copied().filter(|_| due);
    issues.into_iter().find(|issue| {
        let base = format!("review-{issue}-");
        let is_base = |record: &&StepRecord| {
            let index = record.name.strip_prefix(&base);
            index.is_some_and(|index| index.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let mut reviews = records.iter().filter(is_base).peekable();
        let no = |record: &StepRecord| {
            record.settled == Some(true)
                && record.phase.as_ref().is_some_and(|phase| phase.is(TaskPhase::Succeeded))
                && record.verdict.as_ref().is_some_and(|verdict| verdict.is(Verdict::NoGo))
        };
        let rejected = reviews.peek().is_some() && reviews.any(no);
        let round = format!("code-{issue}-r1");
        rejected && !records.iter().any(|record| record.name == round)
    })
}

/// Whether a push of a task may replace what another one pushed: it goes on with that one's work, or
/// that one was deleted.
pub(super) fn may_replace(facts: &Facts, before: &Uid, task: &Uid) -> bool {
    let deleted = facts.tasks.get(before).is_some_and(|task| task.deleted_at.is_some());
    let of = |uid: &Uid| facts.live_tasks.values().find(|task| task.meta.uid == *uid);
    let goes_on = of(task).is_some_and(|task: &Arc<Object<AgenticTask>>| {
        let revises = task.spec.payload.revise_from_branch.is_some();
        revises && of(before).is_some_and(|before| owner(before) == owner(task))
    });
    deleted || goes_on
}
